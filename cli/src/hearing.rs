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
//! rules count it in their time. An objection on a board that is not in force yet, or no more, harms
//! nobody: nodes keep it for later, or let it go.

use borgios_policy::{Chain, Lane, Policy, Statement};
use borgios_types::Seq;

use crate::desk::Desk;
use crate::next_key;

/// Seconds beyond the lock for which nodes are taken to hold a change back: one that was off when it was
/// signed began later.
const SLACK_S: u64 = 86_400;

/// The policies that a node may have in force while `statement` waits there, by those of their boards: the
/// one before a locked change of the board first.
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
    let change = change_of_board(chain, latest, now);
    let before = change.filter(|(seq, before)| is_held_back(desk, *seq, before));
    before.map(|(_, before)| before).into_iter().chain([now]).collect()
}

/// The newest policy up to `latest` that made another board, and the one before it.
fn change_of_board<'a>(chain: &'a Chain, latest: Seq, now: &Policy) -> Option<(Seq, &'a Policy)> {
    let earlier = (1..latest.0).rev().map(Seq);
    let mut all = earlier.filter_map(|seq| Some((seq.next(), chain.policy_at(seq)?)));
    all.find(|(_, before)| before.board.group() != now.board.group())
}

/// Whether nodes may still hold that change back: who has a share of both boards noted it, and who has
/// not goes by when the policy came here.
fn is_held_back(desk: &Desk<'_>, change: Seq, before: &Policy) -> bool {
    let lock_s = before.class(Lane::Policy).lock();
    let context = desk.context();
    let policy = desk.archive().chain().get(Lane::Policy, change);
    let came = policy.and_then(|policy| desk.archive().stored_at(policy.envelope()));
    let newest = desk.archive().chain().head_seq(Lane::Policy) == change;
    lock_s > 0
        && ((newest && next_key::is_held_back(&context.home))
            || came.is_some_and(|came| context.now() < came.plus(lock_s + SLACK_S)))
}
