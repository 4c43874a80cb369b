//! One server of the simulation: the core, its timers, and a disk that survives `kill -9`.

use std::collections::{BTreeMap, BTreeSet};

use borgios_types::{Digest, NodeId, SecretKey, Time};

use crate::config::Config;
use crate::contact::{Address, Contact};
use crate::io::{Input, Timer, Verdict};
use crate::message::{Body, Head};
use crate::node::Node;
use crate::sim::across::Withhold;
use crate::sim::vice::{FORGED, Vice};

/// The one lane of the simulation.
pub const LANE: &str = "release";

/// One server.
pub struct Machine {
    /// Its key.
    pub id: NodeId,
    /// Where it listens.
    pub address: Address,
    /// Whether others can dial it.
    pub dialable: bool,
    /// The program, while it runs.
    pub node: Option<Node>,
    /// Counts starts: events of an earlier life find nobody.
    pub life: u64,
    /// The number of each running timer; a later one replaces it.
    pub timers: BTreeMap<Timer, u64>,
    /// Members its invitation names.
    pub seeds: Vec<Contact>,
    /// What survives `kill -9`.
    pub disk: Disk,
    /// Objects offered and not judged yet, in this life.
    pub judging: BTreeMap<Digest, Object>,
    /// When the last of them will be judged.
    pub judged_by: Time,
    /// Statements stored in earlier lives.
    pub inherited: BTreeSet<Digest>,
    /// What this machine keeps from whom, against the rules.
    pub withhold: Option<Withhold>,
    /// What it does instead of keeping to the rules.
    pub vice: Option<Vice>,
    /// What every message to it or from it takes longer, in milliseconds.
    pub slow_ms: u64,
}

/// What survives `kill -9`.
#[derive(Default)]
pub struct Disk {
    /// Every object stored.
    pub objects: BTreeMap<Digest, Object>,
    /// The lane's statements by number.
    pub lane: BTreeMap<u64, Digest>,
    /// What the core asked to remember.
    pub remembered: Vec<Contact>,
}

/// An object as the simulation stores it.
#[derive(Clone)]
pub struct Object {
    /// Its kind.
    pub kind: String,
    /// Its envelope.
    pub body: Body,
}

impl Machine {
    /// Machine number `index` of the run with this seed, not running yet.
    #[must_use]
    pub fn new(seed: u64, index: usize, dialable: bool) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&(index as u64).to_le_bytes());
        Self {
            id: SecretKey::from_seed(bytes).public(),
            address: format!("n{index}:7117").into(),
            dialable,
            node: None,
            life: 0,
            timers: BTreeMap::new(),
            seeds: Vec::new(),
            disk: Disk::default(),
            judging: BTreeMap::new(),
            judged_by: Time::default(),
            inherited: BTreeSet::new(),
            withhold: None,
            vice: None,
            slow_ms: 0,
        }
    }

    /// How others dial it.
    #[must_use]
    pub fn contact(&self) -> Contact {
        Contact::new(self.id, self.address.clone())
    }

    /// Starts the program with what the disk holds.
    pub fn boot(&mut self, fanout: u16, rng_seed: u64) -> Input {
        self.life += 1;
        self.timers.clear();
        self.judging.clear();
        self.inherited = self.disk.lane.values().copied().collect();
        let address = self.dialable.then(|| self.address.clone());
        let config = Config { fanout, address, ..Config::default() };
        self.node = Some(Node::new(self.id, config, rng_seed));
        let live = self.disk.objects.iter().filter(|(_, object)| object.kind != LANE);
        Input::Start {
            seeds: self.seeds.clone(),
            remembered: self.disk.remembered.clone(),
            live: live.map(|(id, _)| *id).collect(),
            heads: self.disk.head().map(|head| (LANE.to_owned(), head)).into_iter().collect(),
        }
    }

    /// Ends the program without a word.
    pub fn kill(&mut self) {
        self.life += 1;
        self.node = None;
    }
}

impl Disk {
    /// The lane's newest statement.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.lane.last_key_value().map(|(seq, id)| Head { seq: *seq, id: *id })
    }

    /// Verifies and stores an object as a shell would: statements only in order.
    pub fn admit(&mut self, id: Digest, object: &Object) -> Verdict {
        if self.objects.contains_key(&id) {
            return Verdict::Known;
        }
        if object.body.as_str() == FORGED {
            return Verdict::Refused;
        }
        if object.kind == LANE {
            let next = self.head().map_or(1, |head| head.seq + 1);
            match lane_number(&object.body) {
                Some(seq) if seq == next => self.lane.insert(seq, id),
                Some(seq) if seq > next => return Verdict::Deferred,
                Some(_) | None => return Verdict::Refused,
            };
        }
        self.objects.insert(id, object.clone());
        Verdict::Admitted
    }
}

/// A statement's number; its body is the number and nothing else.
fn lane_number(body: &Body) -> Option<u64> {
    body.as_str().parse().ok()
}
