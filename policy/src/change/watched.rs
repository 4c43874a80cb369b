//! A ceremony seen by who takes no part in it: what key it came to, from the papers alone.
//!
//! A recovery board plans the next board and proposes its policy, and need not sit on it. The
//! commitments of the first round fix the key and every share, and each member of the new board
//! signed for the transcript: whoever has the papers can work out the same board.

use borgios_types::{Digest, Envelope};

use super::{Change, Standing, newest};
use crate::board::Board;
use crate::keygen::{CeremonyError, Files, Seen, seen};
use crate::name::Name;

/// How a change stands for who only looks.
#[derive(Debug)]
pub enum Watched {
    /// Nobody wrote a plan.
    NoPlan,
    /// Nothing comes of it before these governors have written theirs.
    Waiting {
        /// The plan.
        plan: Box<Change>,
        /// Which of their files.
        kind: &'static str,
        /// Whose.
        missing: Vec<Name>,
    },
    /// There is a key, and everyone of the new board signed for it.
    Made {
        /// The plan.
        plan: Box<Change>,
        /// Its id.
        roster: Digest,
        /// The new board.
        board: Box<Board>,
        /// Everyone's first pools.
        pools: Vec<Envelope>,
    },
}

/// Looks at the newest attempt in the folder.
///
/// # Errors
/// See [`CeremonyError`].
pub fn watch(standing: Standing<'_>, files: &Files) -> Result<Watched, CeremonyError> {
    let Some((plan, _, roster)) = newest(standing, files)? else { return Ok(Watched::NoPlan) };
    let papers = plan.to_roster(roster, standing.recovery.is_some());
    let plan = Box::new(plan);
    Ok(match seen(&papers, files)? {
        Seen::Waiting { kind, missing } => Watched::Waiting { plan, kind, missing },
        Seen::Made { board, pools } => Watched::Made { plan, roster, board, pools },
    })
}
