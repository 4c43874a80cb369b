//! Going on from a vetoed statement, and giving that up: only as far as no ballot of this governor stands
//! against it.
//!
//! The next round of a vetoed place, and the place behind it, are two slots, so nothing but this keeps
//! one governor from approving in both. If fewer than 2t−n governors are dishonest, two groups of t have an
//! honest one in common: then the board signs one of the two at most.

use borgios_policy::{Ballot, Lane, Object as _, Policy, Slot};
use borgios_types::{Digest, Round, Seq};

use crate::archive::Held;
use crate::failure::{Failure, OrFail as _};
use crate::next_key;
use crate::session::Session;
use crate::slots::SlotState;

/// Goes on from the vetoed statement `id`.
///
/// # Errors
/// [`Failure::RIVAL`] where this governor approves a later round of its place that can still be signed;
/// else as [`crate::archive::Archive::uphold`].
pub(crate) fn uphold(session: &mut Session<'_>, id: Digest) -> Result<(), Failure> {
    if session.desk.archive().upheld().contains(&id) {
        return Ok(());
    }
    let statement = session.desk.archive().dead_statement(id)?;
    let (lane, seq) = (statement.lane, statement.seq);
    let later = |held: &Held<Ballot>| held.value.round > statement.round;
    if let Some((ballot, round)) = open_approval(session, lane, seq, later)? {
        return Err(Failure::new(format!("{lane}/{seq} {} was not upheld", id.short()))
            .code(Failure::RIVAL)
            .because(format!(
                "you approve {} in round {round} of {lane}/{seq}, which can still be signed",
                ballot.statement.short()
            ))
            .hint("the board goes one way or the other: agree on which before you go on"));
    }
    let made = Policy::parse(&statement.body).ok().filter(|_| lane == Lane::Policy);
    let (home, me) = (&session.desk.context().home, session.identity());
    let sits = made.is_some_and(|made| next_key::share(home, &made.board, me.name(), me).is_ok());
    session.desk.uphold(id, sits)
}

/// Refuses an approval in a later round of a place while this governor approves something that builds upon
/// what was vetoed there: the board could sign both.
///
/// # Errors
/// [`Failure::RIVAL`].
pub(crate) fn refuse_both(session: &Session<'_>, slot: Slot) -> Result<(), Failure> {
    let Slot { lane, seq, .. } = slot;
    let dead = session.desk.archive().dead_statements()?.into_iter();
    let dead: Vec<Digest> = dead
        .filter(|(one, _)| (one.lane, one.seq) == (lane, seq) && one.round < slot.round)
        .map(|(_, id)| id)
        .collect();
    if dead.is_empty() {
        return Ok(());
    }
    let upon = |held: &Held<Ballot>| builds_upon(session, held, &dead);
    let Some((ballot, _)) = open_approval(session, lane, seq.next(), upon)? else { return Ok(()) };
    Err(Failure::new(format!("no ballot was made for {slot}"))
        .code(Failure::RIVAL)
        .because(format!(
            "you approve {}, which builds upon what was vetoed at {lane}/{seq} and can still be signed",
            ballot.statement.short()
        ))
        .hint("the board goes one way or the other: `borgios sync --uphold ID` goes on from the vetoed one"))
}

/// Whether what a ballot approves builds upon one of these. What it approves may not have come here yet.
fn builds_upon(session: &Session<'_>, held: &Held<Ballot>, upon: &[Digest]) -> bool {
    let mut proposals = session.desk.archive().proposals().values();
    let proposed = proposals.find(|one| one.value.statement_id() == held.value.statement);
    let read = proposed.and_then(|one| one.value.parse_statement().ok());
    read.is_none_or(|one| one.prev.is_some_and(|prev| upon.contains(&prev)))
}

/// Holds `id` dead again.
///
/// # Errors
/// [`Failure::RIVAL`] where this governor approves something that builds upon it; else as
/// [`crate::archive::Archive::let_fall`].
pub(crate) fn let_fall(session: &mut Session<'_>, id: Digest) -> Result<(), Failure> {
    let archive = session.desk.archive();
    if let Some(held) = archive.chain().history().find(|one| one.id() == id)
        && archive.upheld().contains(&id)
    {
        let (lane, seq) = (held.statement().lane, held.statement().seq.next());
        let upon = |held: &Held<Ballot>| builds_upon(session, held, &[id]);
        if let Some((ballot, _)) = open_approval(session, lane, seq, upon)? {
            return Err(Failure::new(format!("{} did not fall", id.short()))
                .code(Failure::RIVAL)
                .because(format!(
                    "you approve {}, which builds upon it and can still be signed",
                    ballot.statement.short()
                ))
                .hint("the board goes one way or the other: agree on which before you go back"));
        }
    }
    session.desk.let_fall(id)
}

/// An approval of this governor's in a round of a place that is still open.
fn open_approval(
    session: &Session<'_>,
    lane: Lane,
    seq: Seq,
    counts: impl Fn(&Held<Ballot>) -> bool,
) -> Result<Option<(Ballot, Round)>, Failure> {
    let (archive, me) = (session.desk.archive(), session.identity().name());
    let open = session.desk.open_round(lane, seq)?;
    // What was begun, or is stored and was never sent, binds as well: a vote goes on with it.
    let board = archive.board()?;
    for round in open.0..=open.0 + 1 {
        let slot = Slot { epoch: board.epoch(), lane, seq, round: Round(round) };
        if let SlotState::Begun(intent) = session.slots().state(slot)? {
            let why = format!(
                "a vote on {} in {slot} was begun and cut off",
                Digest::of(intent.statement.as_bytes()).short()
            );
            return Err(Failure::new(why).hint("end it first: run the same `borgios vote` again"));
        }
    }
    let mut unsent = Vec::new();
    for envelope in session.slots().ballots()? {
        let value = Ballot::parse(&envelope).or_fail(|| "a stored ballot is damaged")?;
        unsent.push(Held { by: value.governor.clone(), value, envelope });
    }
    let mine = archive.ballots().values().chain(&unsent).find(|held| {
        let Ballot { lane: of, seq: at, round, .. } = held.value;
        let here = (of, at) == (lane, seq) && round >= open;
        let same = held.value.group == board.group();
        held.by == *me && here && same && held.value.approves() && counts(held)
    });
    Ok(mine.map(|held| (held.value.clone(), held.value.round)))
}
