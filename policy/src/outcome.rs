//! Whether a slot can still come to an end: pass a document, or kill all and open the next round.
//!
//! Where t is no bare majority, or governors are gone, a place can split so that neither is possible:
//! too many approve a document for t to be bound otherwise, too few to sign it. In the lanes below the
//! policy a ruling settles that; the lane `policy` cannot rule on itself, so whoever votes there is told
//! before.

use std::collections::{BTreeMap, BTreeSet};

use borgios_types::{Digest, Envelope};

use crate::board::Board;
use crate::cast::Cast;
use crate::name::Name;
use crate::slot::Slot;

/// One further ballot that is thought of.
#[derive(Clone, Copy, Debug)]
pub struct Thought<'a> {
    /// Who would vote.
    pub governor: &'a Name,
    /// On which document.
    pub statement: Digest,
    /// Whether for it.
    pub approve: bool,
}

/// Whether no ballots that can still be cast would sign a document of `slot` or open its next round,
/// with those in `ballots` and the one thought of. Governors in `gone` are expected to vote no more.
#[must_use]
pub fn is_stuck(
    board: &Board,
    slot: Slot,
    ballots: &[Envelope],
    thought: Option<Thought<'_>>,
    gone: &BTreeSet<Name>,
) -> bool {
    let cast = Cast::collect(board, slot, ballots);
    // Who contradicted himself binds nobody and signs nothing.
    let mut spoken: BTreeSet<&Name> = cast.contradictions.keys().collect();
    let mut votes: Vec<(Digest, bool)> = Vec::new();
    for (name, (_, ballot)) in &cast.ballots {
        spoken.insert(name);
        votes.push((ballot.statement, ballot.approves()));
    }
    if let Some(Thought { governor, statement, approve }) = thought
        && spoken.insert(governor)
    {
        votes.push((statement, approve));
    }
    let t = usize::from(board.threshold().0);
    let waiting = board.governors().iter().map(|governor| &governor.name);
    let free = waiting.filter(|name| !spoken.contains(name) && !gone.contains(*name)).count();
    let mut approvals: BTreeMap<Digest, usize> = BTreeMap::new();
    for (statement, approve) in &votes {
        *approvals.entry(*statement).or_default() += usize::from(*approve);
    }
    // A document that nobody voted on yet would need those who are free alone.
    let passable = free >= t || approvals.values().any(|approve| approve + free >= t);
    let killable = votes.len() + free >= t
        && approvals.values().all(|approve| votes.len() - approve + free >= t);
    !passable && !killable
}

#[cfg(test)]
mod tests {
    use borgios_types::Round;

    use super::*;
    use crate::fixture::{Council, release_body, statement};
    use crate::lane::Lane;

    #[test]
    fn an_even_split_that_neither_side_can_end_is_seen_before_the_last_ballot() {
        let council = Council::new(4, 3, 1, 1);
        let network = Some(Digest::of(b"net"));
        let text = |version| {
            let body = release_body(version);
            statement(Lane::Release, 1, network, None, Some(1), body)
        };
        let (one, two) = (text("1"), text("2"));
        let slot = council.slot(&one);
        assert_eq!(slot.round, Round(0));
        let pools = council.pools(slot);
        let name = |at| council.name(at);
        let mut ballots = vec![
            council.approve(&name(0), &one, &pools),
            council.approve(&name(1), &one, &pools),
            council.approve(&name(2), &two, &pools),
        ];
        let none = BTreeSet::new();
        let statement = Digest::of(two.to_payload().as_bytes());
        let last = name(3);
        let thought = Thought { governor: &last, statement, approve: true };
        assert!(!is_stuck(&council.board, slot, &ballots, None, &none));
        assert!(is_stuck(&council.board, slot, &ballots, Some(thought), &none));
        let first = Digest::of(one.to_payload().as_bytes());
        let for_first = Thought { statement: first, ..thought };
        assert!(!is_stuck(&council.board, slot, &ballots, Some(for_first), &none));
        // The last one gone is as bad.
        assert!(is_stuck(&council.board, slot, &ballots, None, &BTreeSet::from([last.clone()])));
        ballots.pop();
        assert!(!is_stuck(&council.board, slot, &ballots, Some(thought), &none));
    }
}
