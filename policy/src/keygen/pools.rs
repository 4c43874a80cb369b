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

/// Everyone's first pools.
pub(crate) struct FirstPools {
    /// All of them.
    pub(crate) all: Vec<Envelope>,
    /// Of these each governor's number 1, which covers the first slot: at a founding that of policy/1.
    pub(crate) leading: Vec<Envelope>,
}

/// Everyone's first pools, or the names of those who did not lay all of theirs yet: a large board's are
/// tens of megabytes, so none is read before all are there.
pub(super) fn first_pools(
    board: &Board,
    roster: &Roster,
    files: &Files,
    done: &All<Done>,
    points: Points,
) -> Result<Result<FirstPools, Vec<Name>>, CeremonyError> {
    let slots = roster.slots();
    let expected = count(board, slots.len());
    let mut missing = Vec::new();
    for (name, (_, paper)) in done {
        if paper.pools.len() != expected {
            let why = format!("{} pools, expected {expected}", paper.pools.len());
            return Err(cheat(name, Done::KIND, &why));
        }
        let mut theirs = (1..=expected).map(|number| roster.pool_file(name, number));
        if theirs.any(|file| !files.contains_key(&file)) {
            missing.push(name.clone());
        }
    }
    if !missing.is_empty() {
        return Ok(Err(missing));
    }
    let (mut all, mut leading) = (Vec::new(), Vec::new());
    for (name, (_, paper)) in done {
        let mut theirs = Vec::new();
        for (number, id) in (1..).zip(&paper.pools) {
            let file = roster.pool_file(name, number);
            let envelope = papers::envelope(files, &file)?.expect("all pools are there");
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
            if number == 1 {
                leading.push(envelope.clone());
            }
            all.push(envelope);
        }
        let covered = theirs.iter().flat_map(|pool| &pool.slots).map(|slot| slot.of(board));
        if expected > 0 && !covered.eq(slots.iter().copied()) {
            return Err(cheat(name, Pool::KIND, &"not the slots of this ceremony"));
        }
        if points == Points::Unasked {
            let parts: Vec<&[u8]> = theirs.iter().map(|pool| &pool.commitments.0[..]).collect();
            if let Some(at) = subgroup::first_refused(&parts) {
                let file = roster.pool_file(name, at + 1);
                return Err(CeremonyError::File { file, source: Pool::unsound() });
            }
        }
    }
    Ok(Ok(FirstPools { all, leading }))
}
