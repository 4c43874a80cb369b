//! A recovery board, in words: who holds its key, and what becomes of what it votes on.

use borgios_policy::{Policy, Recovery, RecoveryBoard, State, Statement};
use borgios_types::Digest;

use crate::desk::{Desk, OpenVote};
use crate::failure::Failure;
use crate::span;

/// What a policy says of recovery beside its rules: who holds the key that it names, and whether the
/// recovery board votes on it.
pub(crate) fn words(desk: &Desk<'_>, vote: &OpenVote, statement: &Statement) -> Vec<String> {
    let mut lines = Vec::new();
    if vote.recovery {
        lines.push("recovery  the RECOVERY board votes on this, not the board in force".to_owned());
    }
    let rule = Policy::parse(&statement.body).ok().and_then(|policy| policy.recovery);
    lines.extend(rule.map(|rule| format!("recovery  {}", holders(desk, rule))));
    lines
}

fn holders(desk: &Desk<'_>, rule: Recovery) -> String {
    let key = rule.group.fingerprint();
    let papers = desk.archive().recoveries();
    match papers.papers().find(|paper| paper.board().group() == rule.group) {
        None => {
            format!("who holds the recovery key {key} is not known here: ask for its board's paper")
        }
        Some(paper) => {
            let board = paper.board();
            let member = |member: &borgios_policy::Governor| {
                format!("{} ({})", member.name, member.key.fingerprint())
            };
            let members: Vec<String> = board.governors().iter().map(member).collect();
            format!(
                "the recovery key {key} is held by {} of {}",
                board.threshold(),
                members.join(", ")
            )
        }
    }
}

/// What an approval by a member of the recovery board, or of the board that it makes, would do.
pub(crate) fn consequence(
    desk: &Desk<'_>,
    vote: &OpenVote,
    id: &Digest,
) -> Result<String, Failure> {
    let board = desk.archive().recovery_board().map(RecoveryBoard::board);
    let board = board.ok_or_else(|| Failure::new("the recovery board is not known here"))?;
    let standing = vote.tally.documents.get(id);
    if standing.is_some_and(|standing| standing.state == State::Dead) {
        return Ok("nothing: this document is dead".to_owned());
    }
    let approvals = standing.map_or(0, |standing| standing.approvals.len());
    Ok(format!(
        "{approvals} of {} of the recovery board approve so far; once they do, and the board that it \
         makes,\n  servers that have heard too little of the board in force for long enough hold it back \
         in public,\n  and then obey the new board. An approval cannot be taken back.",
        board.threshold()
    ))
}

/// Silence and lock, and what ends it.
pub(crate) fn terms(desk: &Desk<'_>, statement: &Statement) -> Vec<String> {
    let rule = desk.archive().chain().policy().and_then(|policy| policy.recovery);
    let Some(rule) = rule else { return Vec::new() };
    vec![
        format!(
            "A server takes it once the board has been silent there for {}, and holds it back for {}.",
            span::words(rule.silence_s),
            span::words(rule.lock_s)
        ),
        "One beacon or one veto by any governor of the board in force ends it there.".to_owned(),
        format!("Brought to a server later than {} it would be worthless.", statement.expires),
    ]
}
