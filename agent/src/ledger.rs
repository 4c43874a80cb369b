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
    Ballot, Chain, Invitation, Join, Lane, Object as _, Submission, Verdict, VerifiedStatement,
};
use borgios_types::{Digest, Envelope, Kind, NodeId, PublicKey, Seq, UnixSeconds};
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use crate::admission::{self, Denied, Passed};
use crate::clock::unix_now;
use crate::disk;
use crate::store::{Store, Stored};

/// Objects that wait for others: statements for their predecessors or ballots, join records for
/// their invitation, reports for their join record.
const PARKED_MAX: usize = 256;
/// Of these, those that are no statements. Nothing of them is verified yet, so anyone can bring as
/// many as they like: they must neither crowd out statements nor cost much to try again.
const PARKED_OTHERS_MAX: usize = 64;
/// Longest payload of such a one, in bytes: records have a few hundred. What is longer comes again.
const PARKED_OTHERS_BYTES: usize = 4 * 1024;
/// Seconds for which a node that no longer renews its record is remembered.
const LAPSED_KEPT: u64 = 7 * 24 * 3600;
/// Most statements of all lanes in one answer.
const FOLLOW_MAX: usize = 1_024;
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
    chain: Chain,
    store: Store,
    parked: BTreeMap<(Option<Lane>, Seq, Digest), Envelope>,
    heads: watch::Sender<Heads>,
    folder: PathBuf,
}

impl Ledger {
    /// Opens what `folder` holds and verifies all of it again. What no longer passes is set aside.
    ///
    /// # Errors
    /// The folder cannot be used at all.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let (store, found) = Store::open(&folder.join("objects"))?;
        let pin = match disk::read_bounded(&folder.join(PIN_FILE), 200) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).trim().parse().ok(),
            Err(_) => None,
        };
        let (heads, _) = watch::channel(Heads::new());
        let (chain, parked, folder) = (Chain::new(pin), BTreeMap::new(), folder.to_owned());
        let mut ledger = Self { chain, store, parked, heads, folder };
        ledger.restore(found);
        Ok(ledger)
    }

    fn restore(&mut self, found: Vec<Envelope>) {
        let (lanes, others): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|envelope| envelope.kind.as_str().parse::<Lane>().is_ok());
        let ballots = |e: &&Envelope| e.kind.as_str() == Ballot::KIND;
        let with_ballots = lanes.into_iter().chain(others.iter().filter(ballots).cloned());
        for Submission { statement, ballots } in Submission::sort(with_ballots.collect::<Vec<_>>())
        {
            match self.chain.verify_stored(&statement, &ballots) {
                Ok(Verdict::New(verified)) => {
                    let (owner, date) = board_and_date(&verified);
                    self.chain.apply(*verified);
                    self.store.index(statement, owner, date);
                }
                Ok(Verdict::AlreadyKnown(_)) => {}
                Err(refusal) => {
                    self.store.set_aside(&self.store.path(&statement), &refusal.to_string());
                }
            }
        }
        // Joins need their invitations, renewals their first records, reports their joins.
        let order = |e: &Envelope| match e.kind.as_str() {
            "invitation" => (0, 0),
            "join" => (1, Join::parse(e).map_or(0, |join| join.issued.0)),
            "report" => (3, 0),
            _ => (2, 0),
        };
        let mut others = others;
        others.sort_by_cached_key(order);
        for envelope in others {
            match admission::judge(&self.chain, &self.store, unix_now(), &envelope, false) {
                Ok(Passed::Object { owner, date, replaces }) => {
                    self.store.index(envelope, owner, date);
                    self.store.remove(&replaces);
                }
                Ok(Passed::Statement(_)) | Err(Denied::Known) => {}
                Err(Denied::Later { why, .. } | Denied::Wrong { why, .. }) => {
                    self.store.set_aside(&self.store.path(&envelope), &why);
                }
            }
        }
        self.tell_heads();
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
                Ok(())
            }
        }
    }

    /// Judges an envelope and, if it passes, stores it and everything that waited for it.
    pub fn admit(&mut self, envelope: Envelope, from: &str) -> Admission {
        let (kind, id) = (envelope.kind.clone(), envelope.id());
        let offered = envelope.clone();
        let admitted = match self.admit_one(envelope.clone()) {
            Ok(admitted) => admitted,
            Err(Stop::Denied(Denied::Known)) => return Admission::Known,
            Err(Stop::Denied(Denied::Later { code, why })) => {
                let in_lane = kind.as_str().parse::<Lane>().is_ok();
                self.park(envelope);
                // Only a statement can be what a run of statements lacked.
                let run = if in_lane { self.admit_run() } else { Vec::new() };
                return match run {
                    all if all.is_empty() => {
                        log_deferred(&kind, id, from, code, &why);
                        Admission::Deferred { code, why }
                    }
                    // What was offered may be anywhere among them; it goes first.
                    mut all => {
                        all.sort_by_key(|admitted| admitted.object.id != id);
                        if all[0].object.id == id {
                            Admission::Admitted(all)
                        } else {
                            Admission::Deferred { code, why }
                        }
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
        if all.iter().any(|admitted| admitted.head.is_some()) {
            self.tell_heads();
        }
        Admission::Admitted(all)
    }

    fn admit_one(&mut self, envelope: Envelope) -> Result<Admitted, Stop> {
        let passed = admission::judge(&self.chain, &self.store, unix_now(), &envelope, true)
            .map_err(Stop::Denied)?;
        match passed {
            Passed::Object { owner, date, replaces } => {
                let object = self.store.put(envelope, owner, date).map_err(Stop::Disk)?;
                self.store.remove(&replaces);
                let contact = Join::parse(&object.envelope)
                    .ok()
                    .and_then(|join| Some(Contact::new(join.node, join.address?)));
                Ok(Admitted { object, forgotten: replaces, head: None, contact, fanout: None })
            }
            Passed::Statement(verified) => self.store_statement(*verified).map_err(Stop::Disk),
        }
    }

    /// Stores a statement and only then obeys it.
    fn store_statement(&mut self, verified: VerifiedStatement) -> io::Result<Admitted> {
        let (owner, date) = board_and_date(&verified);
        let object = self.store.put(verified.envelope().clone(), owner, date)?;
        let (lane, seq) = (verified.statement().lane, verified.statement().seq);
        let fanout = verified.policy().map(|policy| policy.fanout);
        self.chain.apply(verified);
        info!(
            BORGIOS_EVENT = "statement_accepted",
            BORGIOS_LANE = lane.as_str(),
            BORGIOS_SEQ = seq.0,
            BORGIOS_OBJECT = %object.id,
            "accepted {lane}/{seq}"
        );
        let head = Some((lane, Head { seq: seq.0, id: object.id }));
        Ok(Admitted { object, forgotten: Vec::new(), head, contact: None, fanout })
    }

    fn park(&mut self, envelope: Envelope) {
        let place = match borgios_policy::Statement::parse(&envelope) {
            Ok(statement) => (Some(statement.lane), statement.seq, envelope.id()),
            Err(_) => {
                let others = self.parked.keys().filter(|(lane, ..)| lane.is_none()).count();
                if others >= PARKED_OTHERS_MAX || envelope.payload.len() > PARKED_OTHERS_BYTES {
                    return;
                }
                (None, Seq(0), envelope.id())
            }
        };
        self.parked.insert(place, envelope);
        if self.parked.len() > PARKED_MAX {
            // What lies furthest ahead is needed last. Whatever is dropped here comes again.
            self.parked.pop_last();
        }
    }

    /// Tries the waiting statements as one run: what expired counts if something in date builds
    /// upon it, so that a node that was away for long can follow.
    fn admit_run(&mut self) -> Vec<Admitted> {
        let waiting = self.parked.iter().filter(|((lane, ..), _)| lane.is_some());
        let ballots = self.store.list(Ballot::KIND, None).map(|stored| stored.envelope.clone());
        let offered: Vec<_> =
            waiting.map(|(_, envelope)| envelope.clone()).chain(ballots).collect();
        let run = self.chain.verify_run(unix_now(), &Submission::sort(offered));
        let mut all = Vec::new();
        for verified in run.accepted {
            if admission::body(&verified).is_err() {
                break;
            }
            let place = (Some(verified.statement().lane), verified.statement().seq, verified.id());
            match self.store_statement(verified) {
                Ok(admitted) => {
                    self.parked.remove(&place);
                    all.push(admitted);
                }
                Err(error) => {
                    error!(BORGIOS_EVENT = "disk_failed", "cannot store a statement: {error}");
                    break;
                }
            }
        }
        if !all.is_empty() {
            self.unpark(&mut all);
            self.tell_heads();
        }
        all
    }

    /// Keeps a statement that was signed for a number that is taken: the proof against whoever
    /// signed both.
    fn keep_evidence(&self, rival: &Envelope) {
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

    /// Tries what waits again until nothing more fits.
    fn unpark(&mut self, all: &mut Vec<Admitted>) {
        loop {
            let before = all.len();
            for (place, envelope) in std::mem::take(&mut self.parked) {
                match self.admit_one(envelope.clone()) {
                    Ok(admitted) => all.push(admitted),
                    Err(Stop::Denied(Denied::Later { .. }) | Stop::Disk(_)) => {
                        self.parked.insert(place, envelope);
                    }
                    Err(Stop::Denied(Denied::Known | Denied::Wrong { .. })) => {}
                }
            }
            if all.len() == before {
                return;
            }
        }
    }

    /// Removes records of nodes that have not renewed them for long; returns what was removed.
    pub fn forget_lapsed(&mut self, now: UnixSeconds) -> Vec<Digest> {
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for stored in self.store.list(Join::KIND, None) {
            let expires = Join::parse(&stored.envelope).map_or(0, |join| join.expires.0);
            let newest = last.entry(stored.owner.as_str()).or_default();
            *newest = expires.max(*newest);
        }
        let gone: BTreeSet<String> = last
            .into_iter()
            .filter(|(_, expires)| expires.saturating_add(LAPSED_KEPT) < now.0)
            .map(|(owner, _)| owner.to_owned())
            .collect();
        let ids: Vec<Digest> = ["join", "report"]
            .into_iter()
            .flat_map(|kind| self.store.list(kind, None))
            .filter(|stored| gone.contains(&stored.owner))
            .map(|stored| stored.id)
            .collect();
        self.store.remove(&ids);
        ids
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
        Lane::ALL
            .into_iter()
            .filter_map(|lane| {
                let head = self.chain.head(lane)?;
                Some((lane, Head { seq: head.statement().seq.0, id: head.id() }))
            })
            .collect()
    }

    /// The name of the governor of the board in force with this key.
    #[must_use]
    pub fn governor(&self, key: &PublicKey) -> Option<String> {
        Some(self.chain.policy()?.board.by_key(key)?.name.to_string())
    }

    /// A node's join record in date, the newest first, with all that proves it: its invitation and
    /// its first record.
    #[must_use]
    pub fn membership(&self, node: &NodeId) -> Vec<Envelope> {
        let owner = node.to_string();
        let records: Vec<_> = self.store.owned(Join::KIND, &owner).rev().collect();
        let invitations = records
            .iter()
            .filter_map(|stored| Join::parse(&stored.envelope).ok())
            .map(|join| join.invitation)
            .collect::<BTreeSet<_>>();
        let invitations = invitations.iter().filter_map(|id| self.store.get(id));
        invitations.chain(records.iter().copied().rev()).map(|s| s.envelope.clone()).collect()
    }

    /// A node's newest join record, whether or not it is in date.
    #[must_use]
    pub fn join_of(&self, node: &NodeId) -> Option<Join> {
        let owner = node.to_string();
        let newest = self.store.owned(Join::KIND, &owner).next_back()?;
        Join::parse(&newest.envelope).ok()
    }

    /// Statements to send to a neighbour whose head of `lane` is `after`: at most `most` of that
    /// lane, with what this node applied of the other lanes in between, in the order in which it
    /// was applied, so that each release comes before the policy that ended its time.
    #[must_use]
    pub fn follow(&self, lane: Lane, after: Seq, most: usize) -> Vec<Arc<Stored>> {
        if self.chain.head_seq(lane) <= after {
            return Vec::new();
        }
        let known = self.chain.history().position(|verified| {
            let statement = verified.statement();
            statement.lane == lane && statement.seq == after
        });
        let mut left = most;
        self.chain
            .history()
            .skip(known.map_or(0, |at| at + 1))
            .take(FOLLOW_MAX)
            .take_while(|verified| {
                let of_lane = verified.statement().lane == lane;
                let wanted = left > 0;
                left -= usize::from(of_lane && wanted);
                wanted
            })
            .filter_map(|verified| self.store.get(&verified.id()).cloned())
            .collect()
    }

    /// Whether the invitation with this id is here.
    #[must_use]
    pub fn invitation(&self, id: Digest) -> Option<Invitation> {
        admission::invitation(&self.store, id)
    }

    /// A notice of each change of the heads.
    #[must_use]
    pub fn watch_heads(&self) -> watch::Receiver<Heads> {
        self.heads.subscribe()
    }

    fn tell_heads(&self) {
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
enum Stop {
    Denied(Denied),
    Disk(io::Error),
}

fn board_and_date(verified: &VerifiedStatement) -> (String, u64) {
    ("board".to_owned(), verified.statement().issued.0)
}
