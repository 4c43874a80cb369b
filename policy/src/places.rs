//! What stands at each place of each lane, and what a policy's rulings made of it.
//!
//! ```text
//!            apply                      a ruling for another winner, or for none
//!  (empty) ─────────▶ a statement ──────────────────────────────────────────────▶ overruled, with
//!     │                                                                           all that follows
//!     └── a ruling without a winner ──▶ closed: the lane goes on behind it, with the id of the
//!                                       ruling policy as `prev`
//! ```
//!
//! Invariants:
//!  1. within a lane the places count from 1 without holes; each is a statement or closed;
//!  2. the first ruling on a place stands, so what is settled stays settled, until a policy unites the
//!     one that settled it with its own predecessor: then that ruling is void, and the uniting policy
//!     says anew what becomes of the place;
//!  3. the same policies and statements make the same places, in whatever order they came.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use borgios_types::{Digest, Seq, UnixSeconds};

use crate::lane::Lane;
use crate::rules::{Ruling, SettledBy};
use crate::statement::VerifiedStatement;

/// The end of a lane: what the next statement must follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The last place that is decided.
    pub seq: Seq,
    /// What the next statement names as `prev`: the statement there, or the policy that closed it.
    pub id: Digest,
    /// The policy it was made under, or that closed it; the next one names none that is older.
    pub policy: Option<Seq>,
}

/// What a policy said of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The statement that alone counts there; none closes the place.
    pub winner: Option<Digest>,
    /// Number of the policy.
    pub policy: Seq,
    /// Id of the policy.
    pub by: Digest,
}

/// Every place of one network, as far as a holder has followed it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    lanes: BTreeMap<Lane, BTreeMap<Seq, Arc<VerifiedStatement>>>,
    ids: BTreeMap<Digest, (Lane, Seq)>,
    /// In the order of application, which is the order in which they verify again.
    order: Vec<(Lane, Seq)>,
    settled: BTreeMap<(Lane, Seq), Settled>,
    overruled: Vec<Arc<VerifiedStatement>>,
    /// Lanes of which any place was ever settled.
    ruled: BTreeSet<Lane>,
    /// How often a place was settled, or its ruling became void.
    rulings: usize,
    floor: UnixSeconds,
}

impl Places {
    /// Puts a statement at the end of its lane, and does what it rules on other places.
    pub(crate) fn put(&mut self, verified: VerifiedStatement) {
        let statement = verified.statement();
        let (lane, seq, id) = (statement.lane, statement.seq, verified.id());
        let policy = verified.policy();
        let rulings = policy.map(|policy| policy.rulings.clone()).unwrap_or_default();
        let unites = policy.map(|policy| policy.unites.clone()).unwrap_or_default();
        self.floor = self.floor.max(statement.issued);
        self.ids.insert(id, (lane, seq));
        self.order.push((lane, seq));
        self.lanes.entry(lane).or_default().insert(seq, Arc::new(verified));
        // What a ruling took back can be brought again once that ruling is void.
        self.overruled.retain(|other| other.id() != id);
        let overruled = if self.void(&unites) { 0 } else { self.overruled.len() };
        for Ruling { lane, seq: place, winner, by } in rulings {
            // The first ruling on a place stands.
            let Entry::Vacant(free) = self.settled.entry((lane, place)) else { continue };
            let by = by.unwrap_or(SettledBy { policy: seq, id });
            free.insert(Settled { winner, policy: by.policy, by: by.id });
            self.ruled.insert(lane);
            self.rulings += 1;
            if winner.is_none() || winner != self.get(lane, place).map(VerifiedStatement::id) {
                self.overrule(lane, place);
            }
        }
        self.put_back(overruled);
    }

    /// Makes what `policies` settled or repeated void; says whether there was anything.
    fn void(&mut self, policies: &BTreeSet<Digest>) -> bool {
        if policies.is_empty() {
            return false;
        }
        let united = self.after(Lane::Policy, Seq(0)).filter(|at| policies.contains(&at.id()));
        let rulings = united.filter_map(|at| at.policy()).flat_map(|policy| &policy.rulings);
        let repeated: BTreeSet<(Lane, Seq, Digest)> =
            rulings.filter_map(|one| Some((one.lane, one.seq, one.by?.id))).collect();
        let theirs = self.settled.iter().filter(|((lane, seq), settled)| {
            policies.contains(&settled.by) || repeated.contains(&(*lane, *seq, settled.by))
        });
        let theirs: Vec<_> = theirs.map(|(place, settled)| (*place, settled.winner)).collect();
        for ((lane, seq), winner) in &theirs {
            self.settled.remove(&(*lane, *seq));
            self.rulings += 1;
            // What stands behind a place that they closed builds upon them.
            if winner.is_none() {
                self.overrule(*lane, *seq);
            }
        }
        !theirs.is_empty()
    }

    /// What was overruled, from `first` on, has its place again where the lane leads to it after all: what
    /// stands behind a closed place builds upon the policy that closed it, and not upon what a later
    /// ruling takes out before that; and what a void ruling took out builds upon what stood there before
    /// it. Whoever heard of the rulings first has it there, too.
    fn put_back(&mut self, first: usize) {
        loop {
            let fits = |verified: &Arc<VerifiedStatement>| {
                let statement = verified.statement();
                let (lane, seq) = (statement.lane, statement.seq);
                let tip = self.tip(lane);
                let wins = |settled: &Settled| settled.winner == Some(verified.id());
                let next = tip.map_or(Seq(1), |tip| tip.seq.next());
                (seq, statement.prev) == (next, tip.map(|tip| tip.id))
                    && self.settled(lane, seq).is_none_or(wins)
            };
            let Some(at) = self.overruled[first..].iter().position(fits) else { return };
            let verified = self.overruled.remove(first + at);
            let statement = verified.statement();
            let (lane, seq) = (statement.lane, statement.seq);
            self.floor = self.floor.max(statement.issued);
            self.ids.insert(verified.id(), (lane, seq));
            self.order.push((lane, seq));
            self.lanes.entry(lane).or_default().insert(seq, verified);
        }
    }

    /// Takes everything from a place on out of its lane.
    fn overrule(&mut self, lane: Lane, from: Seq) {
        let Some(all) = self.lanes.get_mut(&lane) else { return };
        let gone = all.split_off(&from);
        if gone.is_empty() {
            return;
        }
        self.order.retain(|(other, seq)| *other != lane || *seq < from);
        for verified in gone.into_values() {
            self.ids.remove(&verified.id());
            self.overruled.push(verified);
        }
        let all = self.lanes.values().flat_map(BTreeMap::values);
        self.floor = all.map(|at| at.statement().issued).max().unwrap_or_default();
    }

    pub(crate) fn get(&self, lane: Lane, seq: Seq) -> Option<&VerifiedStatement> {
        self.lanes.get(&lane)?.get(&seq).map(Arc::as_ref)
    }

    pub(crate) fn last(&self, lane: Lane) -> Option<&VerifiedStatement> {
        self.lanes.get(&lane)?.last_key_value().map(|(_, at)| at.as_ref())
    }

    pub(crate) fn tip(&self, lane: Lane) -> Option<Tip> {
        let mut tip = self.last(lane).map(|last| {
            let statement = last.statement();
            Tip { seq: statement.seq, id: last.id(), policy: statement.policy }
        });
        loop {
            let next = tip.map_or(Seq(1), |tip| tip.seq.next());
            match self.settled.get(&(lane, next)) {
                Some(Settled { winner: None, policy, by }) => {
                    tip = Some(Tip { seq: next, id: *by, policy: Some(*policy) });
                }
                Some(Settled { winner: Some(_), .. }) | None => return tip,
            }
        }
    }

    pub(crate) fn after(&self, lane: Lane, seq: Seq) -> impl Iterator<Item = &VerifiedStatement> {
        let all = self.lanes.get(&lane).into_iter().flatten();
        all.filter(move |(at, _)| **at > seq).map(|(_, verified)| verified.as_ref())
    }

    pub(crate) fn known(&self, id: &Digest) -> Option<(Lane, Seq)> {
        self.ids.get(id).copied()
    }

    pub(crate) fn history(&self) -> impl Iterator<Item = &VerifiedStatement> {
        self.order.iter().filter_map(|(lane, seq)| self.get(*lane, *seq))
    }

    pub(crate) fn settled(&self, lane: Lane, seq: Seq) -> Option<&Settled> {
        self.settled.get(&(lane, seq))
    }

    pub(crate) fn all_settled(&self) -> impl Iterator<Item = (&(Lane, Seq), &Settled)> {
        self.settled.iter()
    }

    pub(crate) fn last_ruled(&self, lane: Lane) -> Option<Seq> {
        self.settled.keys().filter(|(other, _)| *other == lane).map(|(_, seq)| *seq).max()
    }

    pub(crate) fn ruled_in(&self, lane: Lane) -> bool {
        self.ruled.contains(&lane)
    }

    /// How often a place was settled or its ruling became void, which only grows.
    pub(crate) fn rulings_count(&self) -> usize {
        self.rulings
    }

    pub(crate) fn overruled(&self) -> impl Iterator<Item = &VerifiedStatement> {
        self.overruled.iter().map(Arc::as_ref)
    }

    pub(crate) fn floor(&self) -> UnixSeconds {
        self.floor
    }
}
