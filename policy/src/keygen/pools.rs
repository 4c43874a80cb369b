//! The first pools of a new key: exactly those that everyone signed for.

use borgios_types::Envelope;

use super::papers::{self, All, Done};
use super::roster::Roster;
use super::{CeremonyError, Files, cheat};
use crate::board::Board;
use crate::name::Name;
use crate::object::Object as _;
use crate::pool::{Pool, slots_per_pool};

/// How many files a governor's first pools take; none on a board too large for one-touch votes.
pub(super) fn count(board: &Board, slots: usize) -> usize {
    if board.one_touch().is_err() { 0 } else { slots.div_ceil(slots_per_pool(board).max(1)) }
}

/// Everyone's first pools, or the names of those who did not lay all of theirs yet.
pub(super) fn first_pools(
    board: &Board,
    roster: &Roster,
    files: &Files,
    done: &All<Done>,
) -> Result<Result<Vec<Envelope>, Vec<Name>>, CeremonyError> {
    let slots = roster.slots();
    let expected = count(board, slots.len());
    let (mut pools, mut missing) = (Vec::new(), Vec::new());
    for (name, (_, paper)) in done {
        if paper.pools.len() != expected {
            let why = format!("{} pools, expected {expected}", paper.pools.len());
            return Err(cheat(name, Done::KIND, &why));
        }
        let mut covered = Vec::new();
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
            let pool = Pool::verify(board, &envelope)
                .map_err(|source| CeremonyError::File { file: file.clone(), source })?;
            if pool.governor != *name {
                return Err(cheat(name, Pool::KIND, &format!("it is {}'s", pool.governor)));
            }
            covered.extend(pool.slots.iter().map(|slot| slot.of(board)));
            pools.push(envelope);
        }
        if expected > 0 && !missing.contains(name) && covered != slots {
            return Err(cheat(name, Pool::KIND, &"not the slots of this ceremony"));
        }
    }
    missing.dedup();
    Ok(if missing.is_empty() { Ok(pools) } else { Err(missing) })
}
