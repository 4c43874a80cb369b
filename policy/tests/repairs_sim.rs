//! Repairs over folders that are copied to each other late, partly and in any order, with liars among the
//! helpers and garbage in the folder: a share that comes back is the one that was lost, it does come back
//! where enough others are honest, and no honest governor is named for what a liar did.
//!
//! `BORGIOS_SIM_SEEDS=1000` runs a thousand boards, `BORGIOS_SIM_SEED=N` one alone. A failure names its seed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use std::collections::{BTreeMap, BTreeSet};

use borgios_policy::fixture::Council;
use borgios_policy::keygen::{Files, Me};
use borgios_policy::repair::{Delta, RepairError, Sigma, Status, ask, finish, free, help};
use borgios_policy::{Bytes, Card, Name, Object as _};
use borgios_types::{Digest, Envelope};
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;
use serde_json::{Map, Value};

const SEEDS: u64 = 60;
/// (n, t); of 2 of 2 and 3 of 3 nobody can be repaired.
const BOARDS: [(u16, u16); 5] = [(3, 2), (4, 3), (5, 3), (6, 4), (7, 4)];
/// Steps that the asker waits for helpers before it asks others.
const PATIENCE: usize = 150;
/// Folders that a board uses up at most.
const FOLDERS: usize = 4;

/// How a liar helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lie {
    /// Not at all.
    Silence,
    /// Sealed values that are numbers, and wrong.
    Numbers,
    /// Sealed values that are no numbers.
    Garbage,
    /// Another helper's sealed values as their own.
    Copy,
    /// Values that nobody can open.
    Unsealed,
    /// A first paper drawn anew once the others answered it.
    Again,
    /// What an honest helper does.
    None,
}

const LIES: [Lie; 7] =
    [Lie::Silence, Lie::Numbers, Lie::Garbage, Lie::Copy, Lie::Unsealed, Lie::Again, Lie::None];

struct World {
    council: Council,
    cards: BTreeMap<Name, Card>,
    names: Vec<Name>,
    lost: Name,
    liars: BTreeMap<Name, Lie>,
    /// What each one has of the folder.
    views: BTreeMap<Name, Files>,
    /// Sets of helpers that were not tried yet.
    sets: Vec<Vec<Name>>,
    asked_at: Option<usize>,
    step: usize,
    rng: ChaCha20Rng,
    context: String,
}

/// What came of all boards.
#[derive(Debug, Default)]
struct Sum {
    repaired: usize,
    hopeless: usize,
    attempts: usize,
    spoilt: usize,
    blamed: usize,
    lies: BTreeSet<Lie>,
}

/// All sets of `count` of `names`.
fn sets(names: &[Name], count: usize) -> Vec<Vec<Name>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let with_first = |at: usize| {
        let rest = sets(&names[at + 1..], count - 1);
        rest.into_iter().map(move |set| [vec![names[at].clone()], set].concat())
    };
    (0..names.len()).flat_map(with_first).collect()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let (n, t) = *BOARDS.choose(&mut rng).unwrap();
        let council = Council::new(n, t, 1, seed);
        let mut names: Vec<Name> = council.keys.keys().cloned().collect();
        names.shuffle(&mut rng);
        let (lost, others) = names.split_first().unwrap();
        let count = rng.gen_range(0..=usize::from(2 * t - n));
        let liars =
            others[..count].iter().map(|name| (name.clone(), *LIES.choose(&mut rng).unwrap()));
        let liars: BTreeMap<_, _> = liars.collect();
        let cards = names.iter().map(|name| (name.clone(), council.card(name))).collect();
        let views = names.iter().map(|name| (name.clone(), Files::new())).collect();
        let context = format!("BORGIOS_SIM_SEED={seed}: {t} of {n}, {lost} asks, {liars:?}");
        let lost = lost.clone();
        Self {
            council,
            cards,
            lost,
            liars,
            views,
            sets: Vec::new(),
            asked_at: None,
            step: 0,
            rng,
            context,
            names,
        }
    }

    fn me(&self, who: &Name) -> Me<'_> {
        let (card, key) = (&self.cards[who], &self.council.keys[who]);
        Me { card, key, identity: &self.council.identities[who] }
    }

    /// Whether t others help as they should.
    fn has_hope(&self) -> bool {
        let honest = |name: &&Name| {
            **name != self.lost && matches!(self.liars.get(*name), None | Some(Lie::None))
        };
        self.names.iter().filter(honest).count() >= usize::from(self.council.board.threshold().0)
    }

    /// Copies some files of one view over those of another, as a tool that keeps folders alike would: what
    /// is there already is replaced.
    fn copy(&mut self) {
        let from = self.names.choose(&mut self.rng).unwrap().clone();
        let to = self.names.choose(&mut self.rng).unwrap().clone();
        let files = self.views[&from].clone();
        for (file, bytes) in files {
            if self.rng.gen_bool(0.7) {
                self.views.get_mut(&to).unwrap().insert(file, bytes);
            }
        }
    }

    /// Somebody lays garbage, or one paper under another's name, into a folder.
    fn litter(&mut self) {
        let who = self.names.choose(&mut self.rng).unwrap().clone();
        let view = self.views.get_mut(&who).unwrap();
        let files: Vec<String> = view.keys().cloned().collect();
        let Some(file) = files.choose(&mut self.rng) else { return };
        let bytes = match self.rng.gen_range(0..3) {
            0 => b"{".to_vec(),
            1 => view[files.choose(&mut self.rng).unwrap()].clone(),
            _ => {
                let mut bytes = view[file].clone();
                let at = self.rng.gen_range(0..bytes.len());
                bytes[at] ^= 1 << self.rng.gen_range(0..8);
                bytes
            }
        };
        view.insert(file.clone(), bytes);
    }

    /// The governor without a share: takes it, waits, or asks others.
    fn ask(&mut self, sum: &mut Sum) -> Option<Vec<u8>> {
        let result = finish(&self.council.board, &self.me(&self.lost), &self.views[&self.lost]);
        let given_up = self.asked_at.is_none_or(|at| self.step > at + PATIENCE);
        match result {
            Ok(Status::Repaired(share)) => return Some(share.to_secret().expose().to_vec()),
            Ok(Status::NotAsked | Status::Waiting { .. }) if !given_up => return None,
            Ok(Status::NotAsked | Status::Waiting { .. }) => {}
            Ok(Status::Helped(name)) => panic!("{}: {name} was helped", self.context),
            Err(error) => {
                sum.spoilt += 1;
                self.blames(&error, sum);
            }
        }
        let helpers = self.sets.pop()?;
        let board = &self.council.board;
        let attempt = free(board, &self.lost, &self.views[&self.lost])?;
        let (file, paper) = ask(board, &self.me(&self.lost), attempt, &helpers).unwrap();
        let view = self.views.get_mut(&self.lost).unwrap();
        view.insert(file, paper.to_json().into_bytes());
        self.asked_at = Some(self.step);
        sum.attempts += 1;
        None
    }

    /// Who is named for a value that is wrong made it wrong.
    fn blames(&self, error: &RepairError, sum: &mut Sum) {
        match error {
            RepairError::Bad { name, .. } => {
                sum.blamed += 1;
                let lie = self.liars.get(name);
                let guilty = matches!(lie, Some(Lie::Garbage | Lie::Copy | Lie::Unsealed));
                assert!(guilty, "{}: {name} is named: {error}", self.context);
            }
            // All helpers are named together, so that others are asked.
            RepairError::Wrong { helpers, .. } => {
                let lied = helpers.iter().any(|name| self.liars.contains_key(name));
                assert!(lied, "{}: a wrong sum of honest helpers", self.context);
            }
            RepairError::Disagrees(_) | RepairError::File(_) => {}
            RepairError::Helpers(_) | RepairError::State(_) | RepairError::Recipient { .. } => {
                panic!("{}: {error}", self.context)
            }
        }
    }

    fn help(&mut self, who: &Name, sum: &mut Sum) {
        let lie = self.liars.get(who).copied().unwrap_or(Lie::None);
        if lie == Lie::Silence {
            return;
        }
        let mut rng = ChaCha20Rng::from_rng(&mut self.rng).unwrap();
        let mut view = self.views[who].clone();
        if lie == Lie::Again && self.rng.gen_bool(0.2) {
            let own = format!(".{who}.delta.json");
            view.retain(|file, _| !file.ends_with(&own));
        }
        let board = &self.council.board;
        let key = &self.council.shares[who];
        match help(board, &self.me(who), key, &self.lost, &view, &mut rng) {
            Ok((written, _)) => {
                for (file, bytes) in written {
                    let bytes = self.lied(who, lie, bytes);
                    self.views.get_mut(who).unwrap().insert(file, bytes);
                }
            }
            Err(error) => self.blames(&error, sum),
        }
    }

    /// A helper's paper as a liar would write it, signed.
    fn lied(&mut self, who: &Name, lie: Lie, bytes: Vec<u8>) -> Vec<u8> {
        if matches!(lie, Lie::Silence | Lie::Again | Lie::None) {
            return bytes;
        }
        let envelope = Envelope::parse(&bytes).unwrap();
        let mut payload: Value = serde_json::from_str(&envelope.payload).unwrap();
        let request: Digest = payload["request"].as_str().unwrap().parse().unwrap();
        let lost = self.lost.clone();
        let copied = if lie == Lie::Copy { self.others_values(who) } else { None };
        match payload.get_mut("values").and_then(Value::as_object_mut) {
            Some(values) if lie == Lie::Copy => values.extend(copied.unwrap_or_default()),
            Some(values) => {
                for (to, sealed) in values {
                    let to = to.parse().unwrap();
                    *sealed = self.wrong(lie, Delta::KIND, request, who, &to);
                }
            }
            // It has nobody's sum to copy but its own.
            None if lie == Lie::Copy => {}
            None => payload["value"] = self.wrong(lie, Sigma::KIND, request, who, &lost),
        }
        let changed = Envelope::unsigned(envelope.kind, payload.to_string());
        changed.sign(&self.council.keys[who]).to_json().into_bytes()
    }

    /// What another helper sealed to each, as far as this one has it.
    fn others_values(&self, who: &Name) -> Option<Map<String, Value>> {
        let mut files = self.views[who].iter();
        let (_, bytes) = files.rfind(|(file, _)| {
            file.ends_with(".delta.json") && !file.ends_with(&format!(".{who}.delta.json"))
        })?;
        let payload = Envelope::parse(bytes).ok()?.payload;
        serde_json::from_str::<Value>(&payload).ok()?["values"].as_object().cloned()
    }

    /// A wrong value from one to another.
    fn wrong(&mut self, lie: Lie, kind: &str, request: Digest, from: &Name, to: &Name) -> Value {
        let group = self.council.board.group().to_bytes();
        let names = [from, to].map(|name| name.as_str().as_bytes());
        let way = [b"borgios repair v1", kind.as_bytes(), &group, &request.0, names[0], names[1]];
        let mut plain = [Digest::of_parts(&way).0, [0xff; 32]].concat();
        if lie == Lie::Numbers {
            plain[32..63].fill_with(|| self.rng.r#gen());
            plain[63] = 0;
        }
        let recipient: age::x25519::Recipient = self.cards[to].recipient.parse().unwrap();
        let sealed = match lie {
            Lie::Unsealed => plain,
            _ => age::encrypt(&recipient, &plain).unwrap(),
        };
        serde_json::to_value(Bytes(sealed)).unwrap()
    }

    /// Until the share is back, or until every set of helpers was tried in every folder.
    fn run(&mut self, sum: &mut Sum) -> bool {
        let others: Vec<Name> =
            self.names.iter().filter(|name| **name != self.lost).cloned().collect();
        for folder in 0..FOLDERS {
            self.sets = sets(&others, usize::from(self.council.board.threshold().0));
            self.sets.shuffle(&mut self.rng);
            self.asked_at = None;
            self.views.values_mut().for_each(Files::clear);
            for _ in 0..self.sets.len() * 2 * PATIENCE {
                self.step += 1;
                for _ in 0..3 {
                    self.copy();
                }
                // The last folder is one that nobody else writes into.
                if folder + 1 < FOLDERS && self.rng.gen_ratio(1, 40) {
                    self.litter();
                }
                let who = self.names.choose(&mut self.rng).unwrap().clone();
                if who != self.lost {
                    self.help(&who, sum);
                } else if let Some(share) = self.ask(sum) {
                    let before = self.council.shares[&self.lost].to_secret();
                    assert_eq!(share, before.expose(), "{}: another share", self.context);
                    return true;
                }
            }
        }
        false
    }
}

#[test]
#[allow(clippy::print_stdout, reason = "what was simulated is what this test reports")]
fn a_share_comes_back_over_any_folder_or_not_at_all_and_no_honest_helper_is_named() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let one = number("BORGIOS_SIM_SEED");
    let range = one.map_or(0..number("BORGIOS_SIM_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    let mut sum = Sum::default();
    for seed in range {
        let mut world = World::new(seed);
        let back = world.run(&mut sum);
        // With a liar among all sets of helpers it may come back all the same: a liar may help.
        assert!(back || !world.has_hope(), "{}: never repaired", world.context);
        *if back { &mut sum.repaired } else { &mut sum.hopeless } += 1;
        sum.lies.extend(world.liars.values());
    }
    println!("{sum:?}");
    if one.is_none() {
        assert!(sum.repaired > sum.hopeless && sum.spoilt > 0 && sum.blamed > 0, "{sum:?}");
        assert_eq!(sum.lies.len(), LIES.len(), "{sum:?}");
    }
}
