//! On which boards an objection must be said so that every node counts it.
//!
//! ```text
//! laptops   policy/3 is signed, and so in force ─▶ its board is the board
//! nodes     policy/3 waits in its lock ──────────▶ the board before it is
//!           policy/3 is applied ─────────────────▶ its board is
//! ```
//!
//! A node counts an objection that names the group key of the board it has in force. While a change of
//! the board is locked it has the one before in force, and a statement that waits there may outlast the
//! change; so a governor of both boards says it on both, each by a signature of its own, and each board's
//! rules count it in their time. Where a laptop took two changes within one lock, it is said on all three. An objection on a board that is not in force yet, or no more, harms
//! nobody: nodes keep it for later, or let it go.

use borgios_policy::{Chain, Lane, Policy, Statement};
use borgios_types::Seq;

use crate::desk::Desk;
use crate::next_key;

/// Seconds beyond lock and pauses for which nodes are taken to hold a change back: one that was off when it
/// was signed began later.
const SLACK_S: u64 = 86_400;

/// Seconds for which nodes may hold back a change of the board that `before` makes wait, once it is signed:
/// its lock, a pause by each of its governors, and the slack. None where nothing is locked.
pub(crate) fn held_back_s(before: &Policy) -> u64 {
    let pauses = before.pause().saturating_mul(before.board.governors().len() as u64);
    match before.class(Lane::Policy).lock() {
        0 => 0,
        lock_s => lock_s.saturating_add(pauses).saturating_add(SLACK_S),
    }
}

/// The policies that a node may have in force while `statement` waits there, by those of their boards: the
/// one before the first locked change of the board at the head.
pub(crate) fn hearing<'a>(desk: &'a Desk<'_>, statement: &Statement) -> Vec<&'a Policy> {
    let chain = desk.archive().chain();
    // What a policy says of itself comes too late: the one before it is in force while it waits.
    let latest = match statement.lane {
        Lane::Policy => statement.policy.unwrap_or_default(),
        Lane::Release | Lane::Credential | Lane::Member | Lane::Access => {
            chain.head_seq(Lane::Policy)
        }
    };
    let Some(now) = chain.policy_at(latest) else { return Vec::new() };
    let mut all: Vec<&Policy> = changes_of_board(chain, latest, now)
        .into_iter()
        .filter(|(seq, before)| is_held_back(desk, *seq, before))
        .map(|(_, before)| before)
        .collect();
    all.reverse();
    all.push(now);
    all
}

/// The policies up to `latest` that made another board, each with the one before it, the newest first.
fn changes_of_board<'a>(chain: &'a Chain, latest: Seq, now: &'a Policy) -> Vec<(Seq, &'a Policy)> {
    let mut after = now;
    let mut all = Vec::new();
    for seq in (1..latest.0).rev().map(Seq) {
        let Some(before) = chain.policy_at(seq) else { continue };
        if before.board.group() != after.board.group() {
            all.push((seq.next(), before));
        }
        after = before;
    }
    all
}

/// Whether nodes may still hold that change back: who has a share of both boards noted it, and who has
/// not goes by when the policy came here.
fn is_held_back(desk: &Desk<'_>, change: Seq, before: &Policy) -> bool {
    let held_back_s = held_back_s(before);
    let context = desk.context();
    let policy = desk.archive().chain().get(Lane::Policy, change);
    let came = policy.and_then(|policy| desk.archive().stored_at(policy.envelope()));
    let newest = desk.archive().chain().head_seq(Lane::Policy) == change;
    held_back_s > 0
        && ((newest && next_key::is_held_back(&context.home))
            || came.is_some_and(|came| context.now() < came.plus(held_back_s)))
}

#[cfg(test)]
mod tests {
    use borgios_policy::fixture::{Council, NOW, statement as draft};
    use borgios_policy::{Verdict, merge_signatures};

    use super::*;

    #[test]
    fn a_change_may_be_held_back_for_its_lock_and_a_pause_by_each_governor() {
        let mut before = Council::new(3, 2, 1, 1).policy(2);
        assert_eq!(held_back_s(&before), 0, "nothing is locked");
        before.classes.policy.lock_s = Some(604_800);
        before.pause_s = Some(7_200);
        assert_eq!(held_back_s(&before), 604_800 + 3 * 7_200 + SLACK_S);
    }

    #[test]
    fn every_change_of_the_board_is_named_with_the_board_before_it() {
        let councils = [1, 2, 3].map(|epoch| Council::new(3, 2, epoch, u64::from(epoch)));
        let first = councils[0].sign(&councils[0].first_policy(2));
        let mut chain = Chain::new(Some(first.id()));
        let apply = |chain: &mut Chain, envelope| match chain.verify(NOW, &envelope, &[]) {
            Ok(Verdict::New(verified)) => chain.apply(*verified),
            other => panic!("{other:?}"),
        };
        apply(&mut chain, first.clone());
        // Rules between the two changes hide neither.
        for (seq, signs, of) in [(2, 0, 1), (3, 1, 1), (4, 1, 2)] {
            let prev = chain.tip(Lane::Policy).map(|tip| tip.id);
            let body = councils[of].policy(2).to_body();
            let statement = draft(Lane::Policy, seq, Some(first.id()), prev, Some(seq - 1), body);
            let signed = councils[signs].sign(&statement);
            let both = merge_signatures(&signed, &councils[of].sign(&statement));
            apply(&mut chain, both.unwrap_or(signed));
        }
        let now = chain.policy().unwrap();
        let named = changes_of_board(&chain, Seq(4), now).into_iter();
        let named: Vec<_> = named.map(|(seq, before)| (seq.0, before.board.epoch().0)).collect();
        assert_eq!(named, [(4, 2), (2, 1)]);
        let named = changes_of_board(&chain, Seq(3), chain.policy_at(Seq(3)).unwrap());
        assert_eq!(named.iter().map(|(seq, _)| seq.0).collect::<Vec<_>>(), [2]);
    }
}
