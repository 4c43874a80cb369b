//! The second touch of boards too large for one: this tool opens the sessions that have become
//! possible and answers those that wait for its governor, who decided with the ballot.
//!
//! ```text
//! nonce N, nonce N+1 (stored) ─▶ bound-N (stored) ─▶ share-N (stored, read back) ─▶ nonce N erased ─▶ sent
//! ```
//!
//! Killed at any point, the next run goes on from what is stored: see [`crate::slots`].

use borgios_policy::session::{Bound, Table};
use borgios_policy::{Ballot, Board, Choice, KeyShare, Lane, Object as _, Slot};
use borgios_types::{Digest, Envelope};

use crate::clones;
use crate::desk::{Document, OpenVote};
use crate::failure::{Failure, OrFail as _};
use crate::next_key;
use crate::session::Session as Work;
use crate::slots::SlotState;
use crate::succession::successor;

/// Most sessions opened or answered for one statement in one run: a tool opens one and answers two or
/// three; whoever floods it is not followed.
const STEPS_MAX: usize = 16;

/// One document that a board votes on: the one in force, or the one that the document makes.
struct Matter {
    board: Board,
    slot: Slot,
    text: String,
}

/// Whether another copy of this folder was looked for in this run, and whether this one is alone.
#[derive(Debug, Default)]
struct Alone(Option<bool>);

impl Alone {
    /// Asked before anything is made of nonces, or sent that was: two shares made of the same give the
    /// key share away.
    fn holds(&mut self, work: &mut Work<'_>) -> Result<bool, Failure> {
        if let Some(known) = self.0 {
            return Ok(known);
        }
        let alone = match clones::refuse(work) {
            Ok(()) => true,
            // What this folder must not answer stops nothing else that it has to do.
            Err(failure) if failure.is(Failure::CLONE) => {
                work.desk.context().printer.warn(&failure.summary());
                false
            }
            Err(failure) => return Err(failure),
        };
        self.0 = Some(alone);
        Ok(alone)
    }
}

/// Opens and answers what can be, and returns how many shares were given.
pub(crate) fn run(work: &mut Work<'_>) -> Result<usize, Failure> {
    let in_force = work.desk.archive().board()?.clone();
    let mut matters = Vec::new();
    for OpenVote { slot, recovery, documents, .. } in work.desk.votes()? {
        for Document { text, .. } in documents.into_values() {
            if slot.lane == Lane::Policy
                && let Some(board) = successor(&in_force, &text)
            {
                let slot = Slot { epoch: board.epoch(), ..slot };
                matters.push(Matter { board, slot, text: text.clone() });
            }
            // A recovery board votes in one touch, and the board in force not on what it proposed.
            if !recovery {
                matters.push(Matter { board: in_force.clone(), slot, text });
            }
        }
    }
    erase_settled(work)?;
    let name = work.identity().name().clone();
    let key = work.identity().ssh().public();
    let (mut given, mut alone) = (0, Alone::default());
    for matter in matters {
        let on = matter.board.by_name(&name).is_some_and(|me| me.key == key);
        if on && matter.board.one_touch().is_err() {
            given += follow(work, &matter, &mut alone)?;
        }
    }
    Ok(given)
}

/// Follows the sessions of one document as far as they go now.
fn follow(work: &mut Work<'_>, matter: &Matter, alone: &mut Alone) -> Result<usize, Failure> {
    let Matter { board, slot, text } = matter;
    let (slot, id, me) = (*slot, Digest::of(text.as_bytes()), work.identity().name().clone());
    let mine = approved(work, slot, board)?.is_some_and(|approved| approved == id);
    let mut given = 0;
    if mine {
        given += resume(work, matter, alone)?;
    }
    for _ in 0..STEPS_MAX {
        let archive = work.desk.archive();
        let (papers, ballots) =
            (archive.papers_for(board, slot), archive.ballots_at(slot.lane, slot.seq));
        let table = Table::of(board, slot, text, &ballots, &papers);
        if mine && let Some((session, _)) = table.due(&me) {
            let session = session.clone();
            if !alone.holds(work)? {
                break;
            }
            match answer(work, matter, &session) {
                Ok(()) => given += 1,
                // What this folder cannot answer stops nothing else that it has to do.
                Err(failure) if failure.is(Failure::CLONE) => {
                    work.desk.context().printer.warn(&failure.summary());
                    break;
                }
                Err(failure) => return Err(failure),
            }
        } else if mine && let Some(session) = table.next(&me) {
            let envelope = session.to_envelope().sign(work.identity().ssh());
            work.desk.publish(&envelope)?;
        } else {
            break;
        }
    }
    Ok(given)
}

/// What this governor's stored ballot approves in two touches.
fn approved(work: &Work<'_>, slot: Slot, board: &Board) -> Result<Option<Digest>, Failure> {
    let SlotState::Cast(stored) = work.slots().state_under(slot, board)? else { return Ok(None) };
    let ballot = Ballot::parse(&stored).or_fail(|| "a stored ballot is damaged")?;
    Ok(matches!(ballot.choice, Choice::Commit { .. }).then_some(ballot.statement))
}

/// Finishes a share that was cut off, and sends what was stored and not sent; how many were finished.
fn resume(work: &mut Work<'_>, matter: &Matter, alone: &mut Alone) -> Result<usize, Failure> {
    let (slot, mut finished) = (matter.slot, 0);
    for number in 0.. {
        if let Some(share) = work.slots().share(slot, number)? {
            work.slots().erase_nonce(slot, number)?;
            if work.desk.archive().find(&share.id()).is_none() {
                if !alone.holds(work)? {
                    break;
                }
                work.desk.publish(&share)?;
            }
        } else if let Some(bound) = work.slots().bound(slot, number)? {
            // Nonces that a burn destroyed are of no use any more.
            let nonces = work.slots().nonce(slot, number, work.identity())?;
            if nonces.is_none() || !alone.holds(work)? {
                break;
            }
            finish(work, matter, &bound)?;
            finished += 1;
        } else {
            break;
        }
    }
    Ok(finished)
}

/// How many shares of a slot are stored, which is the number of the nonces that wait.
fn waiting(work: &Work<'_>, slot: Slot) -> Result<u32, Failure> {
    let mut number = 0;
    while work.slots().share(slot, number)?.is_some() {
        number += 1;
    }
    Ok(number)
}

/// Answers one session with the nonces that wait.
fn answer(work: &mut Work<'_>, matter: &Matter, session: &Envelope) -> Result<(), Failure> {
    let Matter { board, slot, text } = matter;
    let (slot, me) = (*slot, work.identity().name().clone());
    let number = waiting(work, slot)?;
    let what = || format!("no share was given for {}/{}", slot.lane, slot.seq);
    let slots = work.slots();
    let Some(seed) = slots.nonce(slot, number, work.identity())? else {
        return Err(Failure::new(what())
            .code(Failure::CLONE)
            .because(format!("the nonces {number} of {slot} are not in this folder"))
            .hint(format!("the folder that cast the ballot of {me} answers")));
    };
    // What the next session needs is on the disk before it is promised.
    let next = slots.nonce_or_draw(slot, number + 1, work.identity())?;
    // Of the board that votes, which is not in force yet where the document makes it.
    let share = key_share(work, board)?;
    let bound = Bound::to(board, &share, session, text, number, &seed, &next).map_err(|error| {
        Failure::new(what())
            .code(Failure::CLONE)
            .cause(error)
            .hint(format!("another copy of this folder may have answered for {me}"))
    })?;
    slots.bind(&bound)?;
    finish(work, matter, &bound)
}

/// This governor's share of a board's key.
fn key_share(work: &Work<'_>, board: &Board) -> Result<KeyShare, Failure> {
    let (home, identity) = (&work.desk.context().home, work.identity());
    next_key::share(home, board, identity.name(), identity)
}

/// Makes the share of a binding that is on the disk, stores it, and sends it.
fn finish(work: &mut Work<'_>, matter: &Matter, bound: &Bound) -> Result<(), Failure> {
    let Bound { slot, number, .. } = *bound;
    let what = || format!("no share was given for {}/{}", slot.lane, slot.seq);
    let board = &matter.board;
    let seed = work.slots().nonce(slot, number, work.identity())?.ok_or_else(|| {
        Failure::new(what()).because(format!("the nonces {number} of {slot} are gone"))
    })?;
    let share = bound.share(board, &key_share(work, board)?, &seed).or_fail(what)?;
    drop(seed);
    let envelope = share.to_envelope().sign(work.identity().ssh());
    work.slots().keep_share(slot, number, &envelope)?;
    work.desk.publish(&envelope)
}

/// Erases the nonces of places that are decided.
fn erase_settled(work: &Work<'_>) -> Result<(), Failure> {
    for (slot, number) in work.slots().nonces()? {
        if slot.seq <= work.desk.archive().chain().head_seq(slot.lane) {
            work.slots().erase_nonce(slot, number)?;
        }
    }
    Ok(())
}
