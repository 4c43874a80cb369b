//! What may enter the store, and so the fleet: each object is verified by the rules of its kind.
//!
//! | kind | must be signed by | at most kept |
//! |---|---|---|
//! | statements | the board, by the gate: see [`crate::gating`] | the chain, and what waits |
//! | `proposal`, `pool`, `burn`, `ballot`, `session`, `share` | a governor | a number for each governor |
//! | `drill`, `drill-answer` | a governor, the answer by its share too | the same |
//! | `veto`, `pause`, `beacon` | a governor | the same for each board; of beacons the newest |
//! | `invitation`, `note` | a governor of the board at its date | the same |
//! | what nodes, keepers and owners sign | see [`crate::member_objects`] | a number for each node |
//!
//! An object that once was right stays right: what a former board's governors signed in their time
//! still counts when a newcomer catches up, as a statement of that time does.
//!
//! Nothing is changed here; [`crate::ledger`] stores what passes.

use std::collections::BTreeSet;

use borgios_policy::{
    Ballot, Beacon, Board, Burn, Chain, Departure, Drill, DrillAnswer, Gate, Handover, Invitation,
    Join, Lane, Name, Note, Object, ObjectError, Pause, Policy, Pool, Proposal, Refusal, Report,
    RotationReport, Session, SessionShare, Statement, Veto, Witness,
};
use borgios_types::{Digest, Envelope, NodeId, PublicKey, Seq, UnixSeconds};

use crate::member_objects::first_join;
use crate::speakers::speaker;
use crate::store::Store;

/// Seconds a date may lie ahead of this node's clock: clocks of honest servers differ by less.
pub(crate) const AHEAD_MAX: u64 = 600;
/// Objects kept of one governor, by kind: far beyond what voting needs, and it bounds the disk.
/// Of beacons only the newest says anything.
/// Vetoes, pauses and beacons count by board and governor; what was said with a key that another one has
/// replaced under its name counts apart.
const QUOTAS: [(&str, usize); 13] = [
    ("proposal", 256),
    ("pool", 256),
    ("burn", 64),
    ("ballot", 2_048),
    ("session", 1_024),
    ("share", 1_024),
    ("invitation", 256),
    ("note", 512),
    ("drill", 64),
    ("drill-answer", 256),
    ("veto", 256),
    ("pause", 256),
    ("beacon", 1),
];
/// Refusals for which no neighbour is to blame: it may not have heard yet what makes the object
/// worthless, its clock may be a little behind, or the board signed two statements for one number and
/// it heard of the other one first.
pub const BLAMELESS: [&str; 6] =
    ["replayed", "evicted", "departed", "owner_changed", "rival", "closed"];
/// Refusals that hang on this node's clock, or on what it happens to hold: two honest nodes can
/// differ in them, and tomorrow the object may be right here too. Nobody is to blame, and nothing is
/// noted as known.
pub const UNDECIDED: [&str; 6] = ["over", "lapsed", "used_up", "too_many", "bad_date", "expired"];

/// What a node judges by: what it holds, and when.
#[derive(Clone, Copy)]
pub struct Judge<'a> {
    /// The statements.
    pub chain: &'a Chain,
    /// Everything else.
    pub store: &'a Store,
    /// What waits: governors of a board that is to come are heard about it.
    pub gate: &'a Gate,
    /// Whose node this is, once that is known.
    pub me: Option<NodeId>,
    /// Nodes that are out for good, by the chain.
    pub evicted: &'a BTreeSet<NodeId>,
    /// This node's clock.
    pub now: UnixSeconds,
    /// Seconds for which a lapsed record is kept.
    pub lapsed_kept: u64,
    /// False for what this node's own disk holds: it is not asked to be in date, nor are the points of
    /// pools asked again.
    pub fresh: bool,
}

/// An object that may enter and is no statement.
pub struct Passed {
    /// A governor's name, or a node's key.
    pub owner: String,
    /// Its date, 0 where its kind has none.
    pub date: u64,
    /// What it makes worthless.
    pub replaces: Vec<Digest>,
}

/// Why an object does not enter.
#[derive(Debug)]
pub enum Denied {
    /// It, or something newer of its kind, is here already; nobody is to blame.
    Known,
    /// It may be right, once something else is here.
    Later {
        /// The stable name of what is missing.
        code: &'static str,
        /// What is missing.
        why: String,
    },
    /// It is wrong.
    Wrong {
        /// The stable name of the rule it broke.
        code: &'static str,
        /// The rule and the values.
        why: String,
    },
}

impl Denied {
    /// It breaks a rule.
    pub(crate) fn wrong(code: &'static str, why: impl Into<String>) -> Self {
        Self::Wrong { code, why: why.into() }
    }

    /// Something is missing.
    pub(crate) fn later(code: &'static str, why: impl Into<String>) -> Self {
        Self::Later { code, why: why.into() }
    }
}

impl From<ObjectError> for Denied {
    fn from(error: ObjectError) -> Self {
        match error {
            // A board that this node may not have heard of yet.
            ObjectError::WrongGroup { .. } => Self::later(error.code(), error.to_string()),
            _ => Self::wrong(error.code(), error.to_string()),
        }
    }
}

impl Judge<'_> {
    /// Judges one envelope that is no statement; those go through the gate: see [`crate::gating`].
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn judge(&self, envelope: &Envelope) -> Result<Passed, Denied> {
        let Self { chain, store, .. } = *self;
        let kind = envelope.kind.as_str();
        if kind.parse::<Lane>().is_ok() {
            return Err(Denied::wrong("wrong_kind", "a statement is judged by the gate"));
        }
        if store.get(&envelope.id()).is_some() {
            return Err(Denied::Known);
        }
        let Some(network) = chain.network().filter(|_| chain.policy().is_some()) else {
            return Err(Denied::later("no_policy", "this node has no policy yet"));
        };
        let floor = chain.now_floor();
        // By a clock that is known to be behind nothing is known to be ahead, not even of this node's own.
        let me = self.me.filter(|_| self.now >= floor);
        let judge = Self { now: self.now.max(floor), me, ..*self };
        match kind {
            Proposal::KIND => {
                let ((_, by), board) = any_board(chain, |board| Proposal::verify(board, envelope))?;
                governors(chain, store, kind, &speaker(chain, board, &by), 0)
            }
            Pool::KIND => {
                let verify = |board: &Board| match self.fresh {
                    true => Pool::verify(board, envelope),
                    // Those of a board of 13 have a million points, which held when they came.
                    false => Pool::verify_stored(board, envelope),
                };
                let (pool, board) = any_board(chain, verify)?;
                governors(chain, store, kind, &speaker(chain, board, &pool.governor), 0)
            }
            Ballot::KIND => {
                let (ballot, board) = any_board(chain, |board| Ballot::verify(board, envelope))?;
                judge.ballot(envelope.id(), &ballot, &speaker(chain, board, &ballot.governor))
            }
            Burn::KIND => {
                let (burn, board) = any_board(chain, |board| Burn::verify(board, envelope))?;
                governors(chain, store, kind, &speaker(chain, board, &burn.governor), 0)
            }
            Session::KIND => {
                let ((_, by), board) = any_board(chain, |board| Session::verify(board, envelope))?;
                governors(chain, store, kind, &speaker(chain, board, &by), 0)
            }
            SessionShare::KIND => {
                let (share, board) =
                    any_board(chain, |board| SessionShare::verify(board, envelope))?;
                governors(chain, store, kind, &speaker(chain, board, &share.governor), 0)
            }
            Note::KIND => {
                let date = Note::parse(envelope)?.at;
                judge.not_ahead(kind, date)?;
                let by = board_at(chain, date, |board| Note::verify(board, network, envelope))?.1;
                governors(chain, store, kind, by.as_str(), date.0)
            }
            Invitation::KIND => {
                let date = Invitation::parse(envelope)?.issued;
                judge.not_ahead(kind, date)?;
                let verify = |policy: &Policy| Invitation::verify_under(policy, network, envelope);
                let by = policy_at(chain, date, verify)?.1;
                governors(chain, store, kind, by.as_str(), date.0)
            }
            Veto::KIND => {
                let verify = |board: &Board| Veto::verify(board, network, envelope);
                let veto = self.board_to_come(verify)?.0;
                judge.not_ahead(kind, veto.at)?;
                governors(chain, store, kind, &on_board(&veto.governor, veto.group), veto.at.0)
            }
            Pause::KIND => {
                let verify = |board: &Board| Pause::verify(board, network, envelope);
                let pause = self.board_to_come(verify)?.0;
                judge.not_ahead(kind, pause.at)?;
                governors(chain, store, kind, &on_board(&pause.governor, pause.group), pause.at.0)
            }
            Beacon::KIND => {
                let (beacon, _) =
                    any_board(chain, |board| Beacon::verify(board, network, envelope))?;
                judge.not_ahead(kind, beacon.time)?;
                governors(
                    chain,
                    store,
                    kind,
                    &on_board(&beacon.governor, beacon.group),
                    beacon.time.0,
                )
            }
            Drill::KIND => {
                let date = Drill::parse(envelope)?.at;
                judge.not_ahead(kind, date)?;
                let verify = |board: &Board| Drill::verify(board, network, envelope);
                let (drill, board) = any_board(chain, verify)?;
                governors(chain, store, kind, &speaker(chain, board, &drill.governor), date.0)
            }
            DrillAnswer::KIND => {
                let date = DrillAnswer::parse(envelope)?.at;
                judge.not_ahead(kind, date)?;
                let verify = |board: &Board| DrillAnswer::verify(board, network, envelope);
                let (answer, board) = any_board(chain, verify)?;
                governors(chain, store, kind, &speaker(chain, board, &answer.governor), date.0)
            }
            Join::KIND => judge.join(network, envelope),
            Report::KIND => judge.report(network, envelope),
            RotationReport::KIND => judge.rotation(network, envelope),
            Handover::KIND => judge.handover(network, envelope),
            Witness::KIND => judge.witness(network, envelope),
            Departure::KIND => judge.departure(network, envelope),
            _ => {
                Err(Denied::wrong("wrong_kind", format!("objects of kind {kind} are not relayed")))
            }
        }
    }

    /// Verifies an objection under any board so far, or that of a policy that waits: whoever may sign what
    /// builds upon a change of the board may object to it while the change is locked.
    fn board_to_come<T>(
        &self,
        verify: impl Fn(&Board) -> Result<T, ObjectError>,
    ) -> Result<T, Denied> {
        let by_chain = any_board(self.chain, &verify).map(|(found, _)| found);
        if matches!(by_chain, Err(Denied::Later { .. }))
            && let Some(policy) = self.chain.policy()
            && let Err(ObjectError::WrongGroup { found, .. }) = verify(&policy.board)
            && let Some(board) = self.gate.board_to_come(&found)
        {
            return Ok(verify(&board)?);
        }
        by_chain
    }

    /// A date that lies ahead would make whatever comes after it worthless.
    pub(crate) fn not_ahead(&self, kind: &str, date: UnixSeconds) -> Result<(), Denied> {
        if date <= self.now.plus(AHEAD_MAX) {
            return Ok(());
        }
        Err(Denied::wrong("bad_date", format!("a {kind} of {date}, it is {}", self.now)))
    }
}

/// Whether a signature that does not hold here may hold at an honest neighbour: of an object that a
/// governor or an owner signs, nobody signed it whom this node knows as one. A newer board may have
/// a governor more, and a node with two first records two owners. Whoever claims to be one of those
/// whom this node knows, and is not, forged it.
#[must_use]
pub fn may_hold_elsewhere(chain: &Chain, store: &Store, envelope: &Envelope) -> bool {
    let governor =
        |by: &PublicKey| policies(chain).any(|(_, policy)| policy.board.by_key(by).is_some());
    let owner = |by: &PublicKey| {
        let departure = Departure::parse(envelope).ok();
        let join = departure.and_then(|departure| first_join(store, &departure.node));
        join.is_some_and(|join| join.owner == Some(*by))
    };
    let signed_by =
        |known: &dyn Fn(&PublicKey) -> bool| envelope.sigs.iter().any(|sig| known(&sig.by));
    match envelope.kind.as_str() {
        Note::KIND
        | Invitation::KIND
        | Proposal::KIND
        | Pool::KIND
        | Burn::KIND
        | Ballot::KIND
        | Session::KIND
        | SessionShare::KIND
        | Drill::KIND
        | DrillAnswer::KIND
        | Veto::KIND
        | Pause::KIND
        | Beacon::KIND => !signed_by(&governor),
        Departure::KIND => !signed_by(&owner),
        _ => false,
    }
}

/// The ballots in the store that vote on the statement in an envelope; none if there is none in it.
pub fn ballots_on(store: &Store, envelope: &Envelope) -> Vec<Envelope> {
    let Ok(Statement { lane, seq, .. }) = Statement::parse(envelope) else { return Vec::new() };
    let ids = store.casts().on(lane, seq, envelope.id());
    ids.filter_map(|id| Some(store.get(&id)?.envelope.clone())).collect()
}

/// What is missing is waited for; anything else is wrong.
impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            // An expired one still counts if a later one in date builds upon it.
            Refusal::Gap { .. }
            | Refusal::TooFewApprovals { .. }
            | Refusal::TooFewRebuilds { .. }
            | Refusal::Recovery { .. }
            | Refusal::HeldBack { .. }
            | Refusal::Expired { .. } => Self::later(refusal.code(), refusal.to_string()),
            _ => Self::wrong(refusal.code(), refusal.to_string()),
        }
    }
}

/// A governor as a member of one board. A former board's key, which may be stolen by now, must not
/// take the place of what the same name says on the board in force.
fn on_board(name: &Name, group: PublicKey) -> String {
    format!("{name}@{}", group.fingerprint())
}

pub(crate) fn quota(kind: &str) -> usize {
    QUOTAS.iter().find(|(known, _)| *known == kind).map_or(0, |(_, quota)| *quota)
}

pub(crate) fn governors(
    chain: &Chain,
    store: &Store,
    kind: &str,
    name: &str,
    date: u64,
) -> Result<Passed, Denied> {
    let quota = quota(kind);
    let held = store.owned(kind, name).count();
    let mut replaces = Vec::new();
    if held >= quota {
        let settled = || store.owned(kind, name).find(|held| is_settled(chain, &held.envelope));
        match store.owned(kind, name).next() {
            // Dated objects make room for newer ones; the same set is kept wherever all arrived.
            Some(oldest) if date > 0 && oldest.date < date => replaces.push(oldest.id),
            _ if date > 0 => return Err(Denied::Known),
            // What was published for places that are decided makes room, or every board would come
            // to an end of its decisions.
            _ if settled().is_some() => replaces.extend(settled().map(|held| held.id)),
            _ => {
                let why = format!("{name} has {held} objects of kind {kind} here, at most {quota}");
                return Err(Denied::wrong("too_many", why));
            }
        }
    }
    Ok(Passed { owner: name.to_owned(), date, replaces })
}

/// Whether every place that a pool, a proposal or a part of a session is for has its statement.
fn is_settled(chain: &Chain, envelope: &Envelope) -> bool {
    let decided = |lane: Lane, seq: Seq| seq <= chain.head_seq(lane);
    match envelope.kind.as_str() {
        Pool::KIND => Pool::parse(envelope)
            .is_ok_and(|pool| pool.slots.iter().all(|slot| decided(slot.lane, slot.seq))),
        Proposal::KIND => Proposal::parse(envelope)
            .ok()
            .and_then(|proposal| proposal.parse_statement().ok())
            .is_some_and(|statement| decided(statement.lane, statement.seq)),
        Session::KIND => {
            Session::parse(envelope).is_ok_and(|session| decided(session.lane, session.seq))
        }
        SessionShare::KIND => {
            SessionShare::parse(envelope).is_ok_and(|share| decided(share.lane, share.seq))
        }
        _ => false,
    }
}

/// Every policy so far, newest first.
fn policies(chain: &Chain) -> impl Iterator<Item = (Seq, &Policy)> {
    let newest = chain.head_seq(Lane::Policy).0;
    (1..=newest).rev().filter_map(|seq| Some((Seq(seq), chain.policy_at(Seq(seq))?)))
}

/// Verifies under the newest board under which it holds; the newest board's error if none.
fn any_board<T>(
    chain: &Chain,
    verify: impl Fn(&Board) -> Result<T, ObjectError>,
) -> Result<(T, &Board), Denied> {
    let mut first_error = None;
    let mut tried = BTreeSet::new();
    for (_, policy) in policies(chain).filter(|(_, policy)| tried.insert(policy.board.group())) {
        match verify(&policy.board) {
            Ok(found) => return Ok((found, &policy.board)),
            Err(error) => first_error.get_or_insert(error),
        };
    }
    Err(first_error.map_or_else(|| Denied::wrong("wrong_policy", "no policy yet"), Into::into))
}

/// Verifies under the board in force, or a former one that was in force at `date`.
fn board_at<T>(
    chain: &Chain,
    date: UnixSeconds,
    verify: impl Fn(&Board) -> Result<T, ObjectError>,
) -> Result<T, Denied> {
    policy_at(chain, date, |policy| verify(&policy.board))
}

/// Verifies under the policy in force, or a former one that was in force at `date`.
fn policy_at<T>(
    chain: &Chain,
    date: UnixSeconds,
    verify: impl Fn(&Policy) -> Result<T, ObjectError>,
) -> Result<T, Denied> {
    let succeeded_before = |seq: Seq| {
        chain.get(Lane::Policy, seq.next()).is_some_and(|next| next.statement().issued.0 < date.0)
    };
    let mut first_error = None;
    for (_, policy) in policies(chain).filter(|(seq, _)| !succeeded_before(*seq)) {
        match verify(policy) {
            Ok(found) => return Ok(found),
            Err(error) => first_error.get_or_insert(error),
        };
    }
    Err(first_error.map_or_else(|| Denied::wrong("wrong_policy", "no policy yet"), Into::into))
}

#[cfg(test)]
mod tests;
