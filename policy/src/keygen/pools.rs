//! The first pools of a new key: exactly those that everyone signed for.

use borgios_types::Envelope;

use super::papers::{self, All, Done};
use super::roster::Roster;
use super::{CeremonyError, Files, cheat};
use crate::board::Board;
use crate::name::Name;
use crate::object::Object as _;
use crate::pool::{Pool, slots_per_pool};
use crate::subgroup;

/// How many files a governor's first pools take; none on a board too large for one-touch votes.
pub(super) fn count(board: &Board, slots: usize) -> usize {
    if board.one_touch().is_err() { 0 } else { slots.div_ceil(slots_per_pool(board).max(1)) }
}

/// Whether the points of the pools are still to be asked: of a board of 13 they are a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Points {
    /// Nobody did here.
    Unasked,
    /// This ceremony did, and the `done` papers that name the pools have not changed since: the same
    /// id is the same text.
    Asked,
}

/// Everyone's first pools, or the names of those who did not lay all of theirs yet. The points are asked
/// once all pools are there, those of one governor together.
pub(super) fn first_pools(
    board: &Board,
    roster: &Roster,
    files: &Files,
    done: &All<Done>,
    points: Points,
) -> Result<Result<Vec<Envelope>, Vec<Name>>, CeremonyError> {
    let slots = roster.slots();
    let expected = count(board, slots.len());
    let (mut pools, mut missing) = (Vec::new(), Vec::new());
    let mut unasked: Vec<(&Name, Vec<Pool>)> = Vec::new();
    for (name, (_, paper)) in done {
        if paper.pools.len() != expected {
            let why = format!("{} pools, expected {expected}", paper.pools.len());
            return Err(cheat(name, Done::KIND, &why));
        }
        let mut theirs = Vec::new();
        for (number, id) in (1..).zip(&paper.pools) {
            let file = roster.pool_file(name, number);
            let Some(envelope) = papers::envelope(files, &file)? else {
                missing.push(name.clone());
                continue;
            };
            if envelope.id() != *id {
                let found = envelope.id();
                return Err(CeremonyError::Changed { file, answered: *id, found });
            }
            let pool = Pool::verify_stored(board, &envelope)
                .map_err(|source| CeremonyError::File { file: file.clone(), source })?;
            if pool.governor != *name {
                return Err(cheat(name, Pool::KIND, &format!("it is {}'s", pool.governor)));
            }
            theirs.push(pool);
            pools.push(envelope);
        }
        let covered = theirs.iter().flat_map(|pool| &pool.slots).map(|slot| slot.of(board));
        if expected > 0 && !missing.contains(name) && !covered.eq(slots.iter().copied()) {
            return Err(cheat(name, Pool::KIND, &"not the slots of this ceremony"));
        }
        unasked.push((name, theirs));
    }
    missing.dedup();
    if !missing.is_empty() {
        return Ok(Err(missing));
    }
    if points == Points::Unasked {
        for (name, theirs) in unasked {
            let parts: Vec<&[u8]> = theirs.iter().map(|pool| &pool.commitments.0[..]).collect();
            if let Some(at) = subgroup::first_refused(&parts) {
                let file = roster.pool_file(name, at + 1);
                return Err(CeremonyError::File { file, source: Pool::unsound() });
            }
        }
    }
    Ok(Ok(pools))
}
