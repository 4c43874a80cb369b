//! In which order several statements for one place were applied, as far as the policies beside them tell.
//!
//! ```text
//! X stands ── policy/2 A: Y wins ──▶ Y stands ── policy/3, which unites A: X wins ──▶ X stands again
//!     X: First(3), Y: Winner(2)
//! ```
//!
//! A chain that is followed again in this order takes back and gives back what it did before, and judges what
//! stands in the end by the rules that were in force when it came. Of forged policies it may be misled; what
//! counts is verified all the same.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use borgios_types::{Digest, Seq};

use crate::lane::Lane;
use crate::policy::Policy;
use crate::rules::Ruling;
use crate::statement::Statement;

/// When a statement was applied among several for its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Turn {
    /// This policy unites one that gave the place to another, or closed it, and gives it back: so it was
    /// there before. What the last policy gave back comes first, for that one stands in the end.
    First(Reverse<(Seq, Digest)>),
    /// Nothing is said of it: if there is a winner, it lost its place to that.
    Before,
    /// This policy gave it the place of another.
    Winner(Seq, Digest),
}

/// What policies say of places, by their ids.
#[derive(Debug, Default)]
pub(crate) struct Rulings(BTreeMap<Digest, Said>);

#[derive(Debug)]
struct Said {
    seq: Seq,
    unites: BTreeSet<Digest>,
    winners: BTreeMap<(Lane, Seq), Option<Digest>>,
}

impl Rulings {
    /// Notes a policy, by its id, as far as its body can be read.
    pub(crate) fn note(&mut self, id: Digest, policy: &Statement) {
        let rulings = policy.body.get("rulings").cloned();
        let Some(Ok(rulings)) = rulings.map(serde_json::from_value::<Vec<Ruling>>) else { return };
        let winners = rulings.into_iter().map(|one| ((one.lane, one.seq), one.winner)).collect();
        let unites = Policy::united_by(&policy.body);
        self.0.insert(id, Said { seq: policy.seq, unites, winners });
    }

    /// The turns of all that were named as winners. What was given back once stays so: a later policy only
    /// says it again.
    pub(crate) fn turns(&self) -> BTreeMap<Digest, Turn> {
        let mut turns: BTreeMap<Digest, Turn> = BTreeMap::new();
        for (id, Said { seq, unites, winners }) in &self.0 {
            for (place, winner) in winners {
                let Some(winner) = winner else { continue };
                // Only what one of these said otherwise is void; else it is a ruling like any other.
                let otherwise = |united: &Digest| {
                    let there = self.0.get(united).and_then(|said| said.winners.get(place));
                    there.is_some_and(|there| *there != Some(*winner))
                };
                let turn = if unites.iter().any(otherwise) {
                    Turn::First(Reverse((*seq, *id)))
                } else {
                    Turn::Winner(*seq, *id)
                };
                turns.entry(*winner).and_modify(|noted| *noted = turn.min(*noted)).or_insert(turn);
            }
        }
        turns
    }
}
