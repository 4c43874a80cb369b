//! The policy that a change of the board proposes: the rules in force fitted to the new board, and the
//! places that it closes, whoever speaks for the board that goes.

use borgios_policy::change::{carried, closed, next_policy};
use borgios_policy::{Board, Lane, Policy, Ruling, Statement};
use borgios_types::Digest;

use crate::changes::board::and;
use crate::failure::{Failure, OrFail as _};
use crate::session::Session;
use crate::unity;

/// The policy that puts `board` in the place of the board in force. `carry` are statements under the old
/// key that somebody wants to count all the same.
///
/// # Errors
/// No policy is known here, or the rules in force do not fit the board.
pub(super) fn policy_of(
    session: &Session<'_>,
    board: Board,
    carry: &[Digest],
) -> Result<Policy, Failure> {
    let chain = session.desk.archive().chain();
    let before = chain.policy().ok_or_else(|| Failure::new("no policy is known here"))?;
    let mut counts = carried(chain);
    counts.extend(carry);
    // Somebody wants it to end under the old key after all.
    let kept = |ids: &[Digest]| ids.iter().any(|id| counts.contains(id));
    let open = session.desk.under_way()?.into_iter().filter(|(.., ids)| !kept(ids));
    let rulings = closed(chain, open.map(|(lane, seq, _)| (lane, seq)));
    let mut policy = Policy { rulings, ..next_policy(before, board, counts) };
    unity::unite(&session.desk, &mut policy)?;
    policy.validate().or_fail(|| "the policy of the new board cannot be proposed")?;
    Ok(policy)
}

/// The places that a policy closes.
pub(super) fn closes(statement: &Statement) -> Vec<String> {
    let rulings = Policy::parse(&statement.body).map(|policy| policy.rulings).unwrap_or_default();
    let closed = rulings.into_iter().filter(|one| one.winner.is_none() && one.by.is_none());
    closed.map(|Ruling { lane, seq, .. }| format!("{lane}/{seq}")).collect()
}

/// What that means, for people: a line of its own, or nothing.
pub(super) fn words(closes: &[String]) -> String {
    if closes.is_empty() {
        return String::new();
    }
    let shuts = closes.iter().any(|place| {
        [Lane::Access, Lane::Credential].iter().any(|lane| place.starts_with(lane.as_str()))
    });
    let mut text = format!(
        "\nIt closes {}, which the board votes on now: once it is in force, propose that again",
        and(closes)
    );
    if shuts {
        text.push_str(
            "\nWhere a revocation, a reveal or an advance of the password is among them and was signed after \
             all, its effect ends there: vote an advance, and revoke again, once this is in force",
        );
    }
    text
}
