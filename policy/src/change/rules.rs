//! The policy that a change of the board proposes: the rules in force, fitted to the new board.

use std::collections::BTreeSet;

use borgios_types::{Digest, Seq};

use crate::board::Board;
use crate::chain::Chain;
use crate::class::{Class, veto_least};
use crate::lane::Lane;
use crate::policy::{CARRIED_MAX, Policy};
use crate::rules::Ruling;

/// How many of the newest statements of each lane are carried over: a server that hears of the new
/// board first can still take them.
const CARRIED_EACH: usize = 8;

/// The rules of `before` for `board`.
///
/// A class that asked for the threshold asks for the new one, one that asked for all governors for
/// all of them, any other for as many as before, as far as that is possible. Who is gone invites
/// nobody. Rulings, and what it united, stay with the policy that made them.
#[must_use]
pub fn next_policy(before: &Policy, board: Board, carried: BTreeSet<Digest>) -> Policy {
    let mut next = before.clone();
    let (old, n) = (&before.board, board.size());
    let fit = |class: &mut Class| fit(class, old, &board);
    fit(&mut next.classes.policy);
    fit(&mut next.classes.release);
    let classes = &mut next.classes;
    for class in [
        &mut classes.credential,
        &mut classes.member,
        &mut classes.access,
        &mut classes.offline,
        &mut classes.emergency,
    ] {
        class.iter_mut().for_each(&fit);
    }
    if let Some(freshness) = &mut next.freshness {
        freshness.beacons = freshness.beacons.min(n);
    }
    if let Some(admission) = &mut next.admission {
        // An empty list would shut the door for everyone but by mistake: then every governor may.
        let stay = admission.inviters.take().map(|inviters| {
            inviters.into_iter().filter(|name| board.by_name(name).is_some()).collect::<Vec<_>>()
        });
        admission.inviters = stay.filter(|inviters| !inviters.is_empty());
    }
    next.rulings.clear();
    next.unites.clear();
    next.carried = carried;
    next.board = board;
    next
}

fn fit(class: &mut Class, old: &Board, board: &Board) {
    let (t, n) = (board.threshold().0, board.size());
    class.approvals = match class.approvals {
        approvals if approvals == old.threshold().0 => t,
        approvals if approvals == old.size() => n,
        approvals => approvals.clamp(t, n),
    };
    class.veto = class.veto.map(|veto| veto.clamp(veto_least(t, n), n));
    class.rebuilds = class.rebuilds.map(|rebuilds| rebuilds.min(class.approvals));
}

/// What the next board carries over: the newest statements of each lane that the board in force
/// signed, so that it does not matter in which order a server hears of them and of the change.
///
/// What is *not* signed yet is never carried of itself: its vote could be completed at any time,
/// beside another vote of the new board for the same place. It is voted on again: see [`closed`].
#[must_use]
pub fn carried(chain: &Chain) -> BTreeSet<Digest> {
    let Some(group) = chain.policy().map(|policy| policy.board.group()) else {
        return BTreeSet::new();
    };
    let mut carried = BTreeSet::new();
    for lane in Lane::ALL.into_iter().filter(|lane| *lane != Lane::Policy) {
        let all: Vec<_> = chain.after(lane, Seq(0)).collect();
        for verified in all.iter().rev().take(CARRIED_EACH) {
            let named = verified.statement().policy.and_then(|seq| chain.policy_at(seq));
            if named.is_some_and(|policy| policy.board.group() == group) {
                carried.insert(verified.id());
            }
        }
    }
    debug_assert!(carried.len() <= CARRIED_MAX);
    carried
}

/// The places that a change of the board closes: those of other lanes than `policy` at which the
/// board in force is voting, `open`, as far as they are the next ones of their lanes.
///
/// Ballots for them are out already, and whoever leaves the board keeps their share. So they could
/// still complete a signature, and a holder that hears of it before the change would apply it where
/// the others apply what the new board signs. Closed, the place is nobody's, whatever comes first,
/// and what was voted on there is voted on again behind it.
#[must_use]
pub fn closed(chain: &Chain, open: impl IntoIterator<Item = (Lane, Seq)>) -> Vec<Ruling> {
    let open: BTreeSet<(Lane, Seq)> = open.into_iter().collect();
    let next = |(lane, seq): &(Lane, Seq)| {
        *lane != Lane::Policy
            && *seq == chain.head_seq(*lane).next()
            && chain.settled(*lane, *seq).is_none()
    };
    let open = open.into_iter().filter(next);
    open.map(|(lane, seq)| Ruling::new(lane, seq, None)).collect()
}
