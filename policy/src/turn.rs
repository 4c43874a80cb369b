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
//!
//! A policy that was vetoed late may have been applied here all the same, and is dead since: what came into a
//! place by such ones alone was not there before the others, and comes after them all.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use borgios_types::{Digest, Seq};

use crate::lane::Lane;
use crate::policy::Policy;
use crate::rules::{Ruling, rulings_max};
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

/// Anybody can send any number of policies, so that this takes no more memory than what it was read from.
#[derive(Debug)]
struct Said {
    seq: Seq,
    unites: BTreeSet<Digest>,
    /// Sorted, as the closed ones are.
    winners: Box<[((Lane, Seq), Digest)]>,
    closed: Box<[(Lane, Seq)]>,
}

impl Said {
    /// Whether it gives this place to another than `winner`, or closes it.
    fn says_otherwise(&self, place: (Lane, Seq), winner: Digest) -> bool {
        let given = self.winners.binary_search_by_key(&place, |(at, _)| *at).ok();
        let given = given.and_then(|at| self.winners.get(at));
        self.closed.binary_search(&place).is_ok() || given.is_some_and(|(_, one)| *one != winner)
    }
}

impl Rulings {
    /// Notes a policy, by its id, as far as its body can be read. One with more rulings than a policy may
    /// have is refused by everybody, and not noted.
    pub(crate) fn note(&mut self, id: Digest, policy: &Statement) {
        let rulings = policy.body.get("rulings").cloned();
        let Some(Ok(rulings)) = rulings.map(serde_json::from_value::<Vec<Ruling>>) else { return };
        let unites = Policy::united_by(&policy.body);
        if rulings.len() > rulings_max(unites.len()) {
            return;
        }
        let given = |one: &Ruling| one.winner.map(|winner| ((one.lane, one.seq), winner));
        let mut winners: Box<[_]> = rulings.iter().filter_map(given).collect();
        winners.sort_unstable();
        let closed = rulings.iter().filter(|one| one.winner.is_none());
        let mut closed: Box<[_]> = closed.map(|one| (one.lane, one.seq)).collect();
        closed.sort_unstable();
        self.0.insert(id, Said { seq: policy.seq, unites, winners, closed });
    }

    /// The turns of all that were named as winners, and before that whether only policies did which are
    /// among the `dead`. What was given back once stays so: a later policy only says it again.
    pub(crate) fn turns(&self, dead: &BTreeSet<Digest>) -> BTreeMap<Digest, (bool, Turn)> {
        let mut turns: BTreeMap<Digest, (bool, Turn)> = BTreeMap::new();
        for (id, Said { seq, unites, winners, .. }) in &self.0 {
            for (place, winner) in winners {
                // Only what one of these said otherwise is void; else it is a ruling like any other.
                let otherwise = |united: &Digest| {
                    self.0.get(united).is_some_and(|said| said.says_otherwise(*place, *winner))
                };
                let turn = if unites.iter().any(otherwise) {
                    Turn::First(Reverse((*seq, *id)))
                } else {
                    Turn::Winner(*seq, *id)
                };
                let turn = (dead.contains(id), turn);
                turns.entry(*winner).and_modify(|noted| *noted = turn.min(*noted)).or_insert(turn);
            }
        }
        turns
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

    use super::*;
    use crate::fixture::{Council, statement};
    use crate::rules::RULINGS_MAX;

    /// Whoever makes up policies fills no memory with them.
    #[test]
    fn what_has_more_rulings_than_a_policy_may_have_is_not_noted() {
        let council = Council::new(3, 2, 1, 1);
        let winner = Digest::of(b"a release");
        for (more, with, noted) in [(0, 0, 1), (1, 0, 0), (1, 1, 1)] {
            let count = u64::try_from(RULINGS_MAX).unwrap() + more;
            let mut rules = council.policy(2);
            rules.unites = (0..with).map(|at: u8| Digest::of(&[at])).collect();
            let all = 1..=count;
            rules.rulings =
                all.map(|seq| Ruling::new(Lane::Release, Seq(seq), Some(winner))).collect();
            let policy = statement(Lane::Policy, 2, None, None, Some(1), rules.to_body());
            let mut rulings = Rulings::default();
            rulings.note(Digest::of(b"a policy"), &policy);
            assert_eq!(rulings.turns(&BTreeSet::new()).len(), noted, "{more} more, with {with}");
        }
    }
}
