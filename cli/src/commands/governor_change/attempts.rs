//! Several attempts at one change of the board: which one this machine goes on with.
//!
//! Any governor may plan a further attempt, and the newest plan counts for whoever has no key yet. A key
//! that is there is another matter: others may have it too, and propose its board whenever they like. Who
//! gave theirs up because of a plan that somebody laid would be missing on that board. So it is given up
//! only once its policy is dead, or when its governor says so.

use borgios_policy::change::plans;
use borgios_policy::keygen::{Ceremony, Files};
use borgios_policy::{Board, Change, Object as _, State, Statement};
use borgios_types::Digest;

use crate::failure::Failure;
use crate::next_key::NextKey;
use crate::session::Session;
use crate::succession::successor;

/// What lies here of an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held<'a> {
    /// A key that all signed for.
    pub(super) next: Option<&'a NextKey>,
    /// A ceremony that is under way.
    pub(super) state: Option<&'a Ceremony>,
}

impl Held<'_> {
    /// The plan of the attempt of which this machine holds a key that is not given up.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub(super) fn keeps(self, session: &Session<'_>) -> Result<Option<Digest>, Failure> {
        let made = || {
            let state = self.state?;
            let made = state.made(session.identity().name())?;
            Some((made.board, state.roster()))
        };
        let next = self.next.map(|next| (next.board.clone(), next.roster));
        let Some((board, roster)) = next.or_else(made) else { return Ok(None) };
        // A key of an earlier epoch is nobody's hope.
        let follows = board.epoch() == session.desk.archive().board()?.next_epoch();
        Ok((follows && !is_dead(session, &board)?).then_some(roster))
    }
}

/// Takes the plans of all other attempts at the same key out of what was read; what to say of a newer one.
pub(super) fn keep_only(files: &mut Files, roster: Digest, recovery: bool) -> Option<String> {
    let id = |plan: &Change| plan.to_envelope().id();
    let all = plans(files, recovery);
    let own = all.iter().find(|plan| id(plan) == roster)?;
    let others = all.iter().filter(|plan| plan.epoch == own.epoch && id(plan) != roster);
    let mut newest = own.attempt;
    for plan in others {
        files.remove(&plan.file(recovery));
        newest = newest.max(plan.attempt);
    }
    (newest > own.attempt).then(|| {
        format!(
            "attempt {newest} at this change is planned, and this machine goes on with the key of attempt \
             {}: others may count on it. If all agreed by voice to give that key up, run this with \
             `--give-up`",
            own.attempt
        )
    })
}

/// A key of this attempt lies here, and its plan is not in the folder.
pub(super) fn without_plan(plan: &str) -> Failure {
    Failure::new(format!("{plan} is of another attempt than the key that lies here")).hint(
        "use the exchange folder in which that attempt was planned; if all agreed by voice to give its key \
         up, run this with `--give-up`",
    )
}

/// Whether the policy that makes this board was put to the vote and can no more be signed, or was taken back.
fn is_dead(session: &Session<'_>, board: &Board) -> Result<bool, Failure> {
    let archive = session.desk.archive();
    let in_force = archive.board()?;
    let makes =
        |text: &str| successor(in_force, text).is_some_and(|made| made.group() == board.group());
    let taken_back = archive
        .proposals()
        .values()
        .any(|held| archive.is_dead(&held.value.statement_id()) && makes(&held.value.statement));
    let (mut open, mut dead) = (false, taken_back);
    for vote in session.desk.votes()? {
        for id in vote.documents.iter().filter(|(_, one)| makes(&one.text)).map(|(id, _)| id) {
            let standing = vote.tally.documents.get(id);
            let is_dead = standing.is_some_and(|standing| standing.state == State::Dead);
            match is_dead || archive.is_dead(id) {
                true => dead = true,
                false => open = true,
            }
        }
    }
    Ok(dead && !open)
}

/// This machine took part in an attempt to its end and keeps nothing of it: going on would mean to write
/// other papers in the place of its own.
pub(super) fn over(session: &Session<'_>, plan: &str, file: &str) -> Failure {
    let archive = session.desk.archive();
    let board = archive.board().ok();
    let taken_back = archive.proposals().values().find(|held| {
        archive.is_dead(&held.value.statement_id())
            && board.is_some_and(|board| successor(board, &held.value.statement).is_some())
    });
    let died = taken_back.and_then(|held| held.value.parse_statement().ok());
    let why = match died {
        Some(Statement { lane, seq, .. }) => {
            format!("{lane}/{seq}, which it came to, was signed and then taken back by vetoes")
        }
        None => format!(
            "{file} is of an earlier run here, and what belongs to it is gone: its policy was \
             rejected, or this folder was restored from a backup"
        ),
    };
    Failure::new(format!("{plan} is over: it cannot be gone on with")).because(why).hint(
        "the old key stands. `borgios governor change --anew`, with what is to change, plans another \
         attempt",
    )
}
