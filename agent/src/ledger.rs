//! The ledger: the chain and the store together, owned by one thread.
//!
//! Everything that changes what this node holds goes through [`Ledger::admit`], one envelope after
//! the other: verify, write and sync, apply, and only then tell anybody. Disk writes block, so the
//! ledger has a thread of its own: see [`crate::ledger_handle`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use borgios_peertree::{Contact, Head};
use borgios_policy::{
    Ballot, Chain, Dated, Departure, Eviction, Join, Lane, Object as _, Refusal, Statement,
    Submission, VerifiedStatement, Witness,
};
use borgios_types::{Digest, Envelope, Kind, NodeId};
use tokio::sync::{broadcast, watch};
use tracing::{debug, error, info, warn};

use crate::admission::{Denied, Judge, Passed};
use crate::bus::{Bus, Entry};
use crate::clock::unix_now;
use crate::disk;
use crate::gate_store::GateStore;
use crate::gating::SIGNS;
use crate::parking::{Lacks, Parking};
use crate::placeless::Reopened;
use crate::roll::Out;
use crate::store::{Store, Stored};

mod following;

/// Rivals kept: each needs a group signature, so even two are an alarm.
const EVIDENCE_MAX: usize = 64;
/// File that names the network, so that a damaged store cannot be taken over by another one.
const PIN_FILE: &str = "network";

/// One object that entered, and what follows from it.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The object.
    pub object: Arc<Stored>,
    /// Objects it made worthless.
    pub forgotten: Vec<Digest>,
    /// The lane's new head, for a statement.
    pub head: Option<(Lane, Head)>,
    /// Where the node of a join record can be dialled.
    pub contact: Option<Contact>,
    /// The fan-out of a new policy.
    pub fanout: Option<u16>,
    /// Nodes that are members no more because of it, and why.
    pub out: Option<(BTreeSet<NodeId>, Out)>,
    /// What a ruling lets in again.
    pub reopened: Option<Reopened>,
}

/// What became of an envelope.
#[derive(Debug)]
pub enum Admission {
    /// It entered; others that waited for it may have entered behind it.
    Admitted(Vec<Admitted>),
    /// Nothing new.
    Known,
    /// It waits for what it needs.
    Deferred {
        /// The stable name of what is missing.
        code: &'static str,
        /// What is missing.
        why: String,
    },
    /// It was refused.
    Refused {
        /// The stable name of the rule.
        code: &'static str,
        /// The rule and the values.
        why: String,
    },
    /// The disk did not take it; it is to be offered again.
    Disk(String),
}

/// Newest statements of each lane; what the rest of the agent watches.
pub type Heads = BTreeMap<Lane, Head>;

/// Chain and store.
#[derive(Debug)]
pub struct Ledger {
    pub(crate) chain: Chain,
    pub(crate) store: Store,
    pub(crate) gate: GateStore,
    /// Statements that the invitation of this very server brings.
    pub(crate) vouched: BTreeSet<Digest>,
    /// Statements that wait for ballots the store was found not to have.
    pub(crate) searched: BTreeSet<Digest>,
    /// Nodes that are out for good, by the chain.
    evicted: BTreeSet<NodeId>,
    /// Whose node this is, once that was said.
    me: Option<NodeId>,
    lapsed_kept: u64,
    pub(crate) parked: Parking,
    /// See [`Ledger::step`].
    pub(crate) steps: u64,
    /// Signed statements that had no place beside others: a ruling may give them one.
    pub(crate) placeless: BTreeSet<Digest>,
    /// What entered beside an object that did not: the tree is told of it with the next look at the clock.
    pub(crate) untold: Vec<Admitted>,
    heads: watch::Sender<Heads>,
    pub(crate) news: watch::Sender<u64>,
    pub(crate) bus: Bus,
    folder: PathBuf,
}

impl Ledger {
    /// Opens what `folder` holds and verifies all of it again. What no longer passes is set aside.
    /// A node that lapsed is remembered for `lapsed_kept` seconds.
    ///
    /// # Errors
    /// The folder cannot be used at all.
    pub fn open(folder: &Path, lapsed_kept: u64) -> io::Result<Self> {
        let (store, found) = Store::open(&folder.join("objects"))?;
        let pin = match disk::read_bounded(&folder.join(PIN_FILE), 200) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).trim().parse().ok(),
            Err(_) => None,
        };
        let gate = GateStore::open(folder)?;
        let mut chain = Chain::new(pin);
        gate.gate().ripe().for_each(|id| chain.ripen(id));
        let mut ledger = Self {
            chain,
            store,
            gate,
            vouched: BTreeSet::new(),
            searched: BTreeSet::new(),
            evicted: BTreeSet::new(),
            me: None,
            lapsed_kept,
            parked: Parking::default(),
            steps: 0,
            placeless: BTreeSet::new(),
            untold: Vec::new(),
            heads: watch::channel(Heads::new()).0,
            news: watch::channel(0).0,
            bus: Bus::default(),
            folder: folder.to_owned(),
        };
        ledger.restore(found)?;
        // The power may have gone, or the disk failed, between an objection's file and the gate's.
        for sign in ledger.signs() {
            ledger.hear(&sign)?;
        }
        Ok(ledger)
    }

    /// The ledger of this node: what it said itself by a clock that was ahead gives way to what it says now.
    #[must_use]
    pub fn of(self, me: NodeId) -> Self {
        Self { me: Some(me), ..self }
    }

    fn restore(&mut self, found: Vec<Envelope>) -> io::Result<()> {
        let (lanes, others): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|envelope| envelope.kind.as_str().parse::<Lane>().is_ok());
        let ballots = |e: &&Envelope| e.kind.as_str() == Ballot::KIND;
        let with_ballots = lanes.into_iter().chain(others.iter().filter(ballots).cloned());
        // What waits is in the gate. A file of it, of an older build or of an application that was
        // cut off, would be an applied statement once the gate forgets it.
        let (waiting, with_ballots): (Vec<_>, Vec<_>) =
            with_ballots.partition(|envelope| self.gate().waiting(&envelope.id()).is_some());
        for envelope in waiting {
            self.store.remove_file(&envelope)?;
        }
        // It is relayed as before.
        let docs = self.gate.gate().docs().map(|(_, doc)| doc.submission().statement.clone());
        for envelope in docs.collect::<Vec<_>>() {
            let date = Statement::parse(&envelope).map_or(0, |read| read.issued.0);
            self.store.index(envelope, "board".to_owned(), date);
        }
        let stored = Submission::sort(with_ballots);
        let refused: BTreeMap<usize, Refusal> = self.chain.follow(&stored).into_iter().collect();
        for (at, Submission { statement, .. }) in stored.into_iter().enumerate() {
            match (refused.get(&at), Statement::parse(&statement)) {
                (None, Ok(read)) => {
                    self.store.index(statement, "board".to_owned(), read.issued.0);
                }
                (Some(refusal), _) => {
                    self.store.set_aside(&self.store.path(&statement), &refusal.to_string());
                }
                (None, Err(_)) => {}
            }
        }
        self.evicted = self.chain.evicted();
        // Joins need their invitations, renewals their first records, all else their joins; and a
        // departure would keep out what was said before it.
        let order = |e: &Envelope| match e.kind.as_str() {
            "invitation" => (0, 0),
            "join" => (1, Join::parse(e).map_or(0, |join| join.issued.0)),
            "departure" => (3, 0),
            _ => (2, 0),
        };
        let mut others = others;
        others.sort_by_cached_key(order);
        for envelope in others {
            match self.judge(&envelope, false) {
                // The power went before the eviction had done its work.
                Err(Denied::Wrong { code: "evicted", .. }) => {
                    let _ = std::fs::remove_file(self.store.path(&envelope));
                }
                Ok(Passed { owner, date, replaces }) => {
                    self.store.index(envelope, owner, date);
                    self.store.remove(&replaces);
                }
                Err(Denied::Known) => {}
                Err(Denied::Later { why, .. } | Denied::Wrong { why, .. }) => {
                    self.store.set_aside(&self.store.path(&envelope), &why);
                }
            }
        }
        // What was spent when the power went, or before there was an end to keeping it.
        while !self.free_spent().is_empty() {}
        self.tell_heads();
        Ok(())
    }

    /// Says which network this node belongs to; only an empty ledger can be told.
    ///
    /// # Errors
    /// The disk, or another network than the one it belongs to.
    pub fn pin(&mut self, network: Digest) -> io::Result<()> {
        match self.chain.network() {
            Some(known) if known == network => Ok(()),
            Some(known) => Err(io::Error::other(format!(
                "this server belongs to network {known}, not {network}; reinstall it to move it"
            ))),
            None => {
                disk::write_durable(
                    &self.folder.join(PIN_FILE),
                    format!("{network}\n").as_bytes(),
                    0o600,
                )?;
                self.chain = Chain::new(Some(network));
                self.steps += 1;
                Ok(())
            }
        }
    }

    /// Judges an envelope and, if it passes, stores it and everything that waited for it.
    pub fn admit(&mut self, envelope: Envelope, from: &str) -> Admission {
        let (kind, id) = (envelope.kind.clone(), envelope.id());
        // What came inside a greeting, a last word or an invitation was bounded with that as a whole.
        // What others, and the next start, would refuse to read is not taken in.
        if let Err(bad) = Envelope::parse(envelope.to_json().as_bytes()) {
            let refusal = Refusal::from(bad);
            return Admission::Refused { code: refusal.code(), why: refusal.to_string() };
        }
        self.bus.offered(id, from);
        let (offered, step) = (envelope.clone(), self.step());
        let admitted = match self.admit_one(envelope.clone()) {
            Ok(admitted) => admitted,
            Err(Stop::Denied(Denied::Known)) => return Admission::Known,
            Err(Stop::Denied(Denied::Later { code, why })) => {
                let in_lane = kind.as_str().parse::<Lane>().is_ok();
                self.parked.park(envelope, Lacks::of(code, step), unix_now());
                // Only a statement can be what a run of statements lacked.
                let run = if in_lane { self.admit_run() } else { Vec::new() };
                return match run {
                    all if all.is_empty() => {
                        log_deferred(&kind, id, from, code, &why);
                        Admission::Deferred { code, why }
                    }
                    // What was offered may be anywhere among them; it goes first.
                    mut all if all.iter().any(|admitted| admitted.object.id == id) => {
                        all.sort_by_key(|admitted| admitted.object.id != id);
                        Admission::Admitted(all)
                    }
                    // The others entered all the same, and the tree is told of them.
                    all => {
                        self.untold.extend(all);
                        Admission::Deferred { code, why }
                    }
                };
            }
            Err(Stop::Denied(Denied::Wrong { code, why })) => {
                warn!(
                    BORGIOS_EVENT = "refused",
                    BORGIOS_REFUSAL = code,
                    BORGIOS_KIND = kind.as_str(),
                    BORGIOS_OBJECT = %id,
                    BORGIOS_FROM = from,
                    "refused a {kind} from {from}: {why}"
                );
                if code == "rival" {
                    self.keep_evidence(&offered);
                }
                self.refused_at_its_place(&offered, code);
                return Admission::Refused { code, why };
            }
            Err(Stop::Disk(error)) => {
                error!(
                    BORGIOS_EVENT = "disk_failed",
                    BORGIOS_OBJECT = %id,
                    "cannot store a {kind}, it will be asked for again: {error}"
                );
                return Admission::Disk(error.to_string());
            }
        };
        let mut all = vec![admitted];
        self.unpark(&mut all);
        // It may be what others that are verified waited for.
        if let Err(error) = self.apply_due(&mut all) {
            error!(BORGIOS_EVENT = "disk_failed", "cannot apply what waited: {error}");
        }
        if all.iter().any(|admitted| admitted.head.is_some()) {
            self.tell_heads();
        }
        Admission::Admitted(all)
    }

    fn judge(&self, envelope: &Envelope, fresh: bool) -> Result<Passed, Denied> {
        let Self { chain, store, evicted, me, lapsed_kept, .. } = self;
        let (me, now, lapsed_kept, gate) = (*me, unix_now(), *lapsed_kept, self.gate.gate());
        Judge { chain, store, gate, me, evicted, now, lapsed_kept, fresh }.judge(envelope)
    }

    pub(crate) fn admit_one(&mut self, envelope: Envelope) -> Result<Admitted, Stop> {
        if envelope.kind.as_str().parse::<Lane>().is_ok() {
            return self.admit_statement(envelope, Dated::Asked);
        }
        let Passed { owner, date, replaces } = self.judge(&envelope, true).map_err(Stop::Denied)?;
        let object = self.store.put(envelope, owner, date).map_err(Stop::Disk)?;
        let sign = SIGNS.contains(&object.kind());
        if sign && let Err(error) = self.hear(&object.envelope) {
            // Whole or not at all: it is to be offered again.
            self.store.remove(&[object.id]);
            return Err(Stop::Disk(error));
        }
        self.store.remove(&replaces);
        if let Ok(ballot) = Ballot::parse(&object.envelope) {
            self.searched.remove(&ballot.statement);
            self.steps += 1;
        }
        self.bus.tell(&object, None);
        let contact = Join::parse(&object.envelope)
            .ok()
            .filter(|join| self.out(&join.node).is_none())
            .and_then(|join| Some(Contact::new(join.node, join.address?)));
        let out = Departure::parse(&object.envelope)
            .ok()
            .map(|departure| (BTreeSet::from([departure.node]), Out::Departed));
        if sign || [Witness::KIND, Departure::KIND].contains(&object.kind()) {
            self.news.send_modify(|count| *count += 1);
        }
        let (forgotten, head, fanout, reopened) = (replaces, None, None, None);
        Ok(Admitted { object, forgotten, head, contact, fanout, out, reopened })
    }

    /// Stores a statement and only then obeys it.
    pub(crate) fn store_statement(&mut self, verified: VerifiedStatement) -> io::Result<Admitted> {
        let (owner, date) = board_and_date(&verified);
        let object = self.store.put(verified.envelope().clone(), owner, date)?;
        let (lane, seq) = (verified.statement().lane, verified.statement().seq);
        let fanout = verified.policy().map(|policy| policy.fanout);
        let evicted = Eviction::of(verified.statement()).ok().map(|eviction| eviction.evict);
        let settled = self.chain.rulings_count();
        self.chain.apply(verified);
        self.steps += 1;
        let ruled = self.chain.rulings_count() > settled;
        let mut before = BTreeSet::new();
        if ruled {
            // An eviction may have lost its place.
            before = std::mem::replace(&mut self.evicted, self.chain.evicted());
        }
        if lane == Lane::Policy {
            self.look_at_speakers();
        }
        let mut gone: BTreeSet<NodeId> = evicted.into_iter().flatten().collect();
        if ruled {
            // Or has its place again, where a ruling that took it became void.
            gone.extend(self.evicted.difference(&before).copied());
        }
        let out = (!gone.is_empty()).then_some((gone, Out::Evicted));
        let forgotten = match &out {
            Some((nodes, _)) => {
                self.evicted.extend(nodes);
                self.said_by(nodes)
            }
            None => Vec::new(),
        };
        // Where this is cut off, the next start ends it.
        self.store.remove(&forgotten);
        let forgotten = [forgotten, self.free_spent()].concat();
        info!(
            BORGIOS_EVENT = "statement_accepted",
            BORGIOS_LANE = lane.as_str(),
            BORGIOS_SEQ = seq.0,
            BORGIOS_OBJECT = %object.id,
            "accepted {lane}/{seq}"
        );
        self.bus.tell(&object, Some((lane, seq.0)));
        let head = self.head_of(lane).map(|head| (lane, head));
        // A policy may also carry what an earlier board signed.
        let carries = lane == Lane::Policy && !self.placeless.is_empty();
        let reopened = (ruled || carries).then(|| self.reopened(&before));
        Ok(Admitted { object, forgotten, head, contact: None, fanout, out, reopened })
    }

    /// Keeps a statement that was signed for a number that is taken: the proof against whoever
    /// signed both.
    pub(crate) fn keep_evidence(&self, rival: &Envelope) {
        let folder = self.folder.join("evidence");
        let kept = std::fs::create_dir_all(&folder).and_then(|()| {
            if std::fs::read_dir(&folder)?.count() >= EVIDENCE_MAX {
                return Ok(());
            }
            let path = folder.join(format!("{}.json", rival.id().hex()));
            disk::write_durable(&path, rival.to_json().as_bytes(), 0o600)
        });
        if let Err(error) = kept {
            error!(BORGIOS_EVENT = "disk_failed", "cannot keep the evidence: {error}");
        }
    }

    /// Removes objects that lapsed.
    pub(crate) fn remove(&mut self, ids: &[Digest]) {
        self.store.remove(ids);
    }

    /// The chain.
    #[must_use]
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The objects.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The newest statement of each lane.
    #[must_use]
    pub fn heads(&self) -> Heads {
        Lane::ALL.into_iter().filter_map(|lane| Some((lane, self.head_of(lane)?))).collect()
    }

    /// Nodes that are out for good.
    #[must_use]
    pub fn evicted(&self) -> &BTreeSet<NodeId> {
        &self.evicted
    }

    /// Seconds for which a node that lapsed is remembered.
    #[must_use]
    pub fn lapsed_kept(&self) -> u64 {
        self.lapsed_kept
    }

    /// A notice of each change of the heads.
    #[must_use]
    pub fn watch_heads(&self) -> watch::Receiver<Heads> {
        self.heads.subscribe()
    }

    /// A notice of each witness and departure that enters: how many so far.
    #[must_use]
    pub fn watch_news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Everything that enters from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Entry> {
        self.bus.listen()
    }

    pub(crate) fn tell_heads(&self) {
        self.heads.send_replace(self.heads());
    }
}

/// A hole is filled in a moment and worth no line; what lacks a date or votes is refused as it is,
/// even if something that comes later may still carry it in.
fn log_deferred(kind: &Kind, id: Digest, from: &str, code: &str, why: &str) {
    if matches!(code, "expired" | "too_few_approvals") {
        warn!(
            BORGIOS_EVENT = "refused",
            BORGIOS_REFUSAL = code,
            BORGIOS_KIND = kind.as_str(),
            BORGIOS_OBJECT = %id,
            BORGIOS_FROM = from,
            "refused a {kind} from {from}: {why}"
        );
    } else {
        debug!(BORGIOS_EVENT = "deferred", code, from, "a {kind} waits: {why}");
    }
}

/// Why one envelope did not enter.
pub(crate) enum Stop {
    Denied(Denied),
    Disk(io::Error),
}

fn board_and_date(verified: &VerifiedStatement) -> (String, u64) {
    ("board".to_owned(), verified.statement().issued.0)
}

#[cfg(test)]
mod tests;
