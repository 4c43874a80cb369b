//! When a further round of a place may be voted on.
//!
//! Round r opens only when every document of every earlier round is *dead*: t governors have
//! bound themselves otherwise there, by rejecting it or approving another. Completing a dead
//! document late would need 2t−n of them to break their word. Time opens nothing: a late ballot
//! could still complete the old round. A document that was signed and then *vetoed* is dead too:
//! wherever it arrives, so do the vetoes.

use std::collections::BTreeSet;

use borgios_types::{Digest, Envelope, Round};
use thiserror::Error;

use crate::board::Board;
use crate::cast::Cast;
use crate::slot::Slot;

/// Most rounds of one place; a place that stays undecided is closed by a policy statement.
pub const ROUNDS_MAX: u32 = 16;

/// Proof that a slot may be voted in: only [`OpenRound::check`] makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenRound(Slot);

/// Why a round is not open.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RoundError {
    /// Nobody, or too few, voted in an earlier round.
    #[error(
        "round {round} is undecided: {voted} governors voted, a further round needs {needed}; \
         time opens no round"
    )]
    Undecided {
        /// The earlier round.
        round: Round,
        /// Governors who cast one ballot there that does not contradict another of theirs.
        voted: usize,
        /// t.
        needed: usize,
    },
    /// A document of an earlier round could still be completed.
    #[error(
        "{document} of round {round} could still pass: {bound} governors are bound otherwise, \
         a further round needs {needed}; time opens no round"
    )]
    Alive {
        /// The earlier round.
        round: Round,
        /// Id of the document.
        document: Digest,
        /// Governors bound otherwise.
        bound: usize,
        /// t.
        needed: usize,
    },
    /// Beyond [`ROUNDS_MAX`].
    #[error("round {0}, at most {ROUNDS_MAX} are voted on; a policy statement closes the place")]
    TooMany(Round),
}

impl OpenRound {
    /// Checks whether `slot` may be voted in, given every ballot seen for its place. The first
    /// round is always open.
    ///
    /// Documents that nobody voted on need no thought: where t governors voted, they are all
    /// bound against a document that has no ballot.
    ///
    /// # Errors
    /// See [`RoundError`].
    pub fn check(board: &Board, slot: Slot, ballots: &[Envelope]) -> Result<Self, RoundError> {
        Self::check_vetoed(board, slot, ballots, &BTreeSet::new())
    }

    /// The same where some documents of the place were killed by vetoes: `vetoed` are the ids of
    /// those against which enough were found valid.
    ///
    /// # Errors
    /// See [`RoundError`].
    pub fn check_vetoed(
        board: &Board,
        slot: Slot,
        ballots: &[Envelope],
        vetoed: &BTreeSet<Digest>,
    ) -> Result<Self, RoundError> {
        if slot.round.0 >= ROUNDS_MAX {
            return Err(RoundError::TooMany(slot.round));
        }
        let needed = usize::from(board.threshold().0);
        for round in (0..slot.round.0).map(Round) {
            let cast = Cast::collect(board, Slot { round, ..slot }, ballots);
            let voted = cast.ballots.len();
            if voted < needed {
                return Err(RoundError::Undecided { round, voted, needed });
            }
            let documents: BTreeSet<Digest> =
                cast.ballots.values().map(|(_, ballot)| ballot.statement).collect();
            for document in documents {
                let bound = cast.bound_against(&document);
                if bound < needed && !vetoed.contains(&document) {
                    return Err(RoundError::Alive { round, document, bound, needed });
                }
            }
        }
        Ok(Self(slot))
    }

    /// The slot in which the board that a policy makes votes on it: as open as that of the board
    /// in force. A change of the board needs both signatures, so it is enough that one board keeps
    /// rival documents apart; and who is new may have seen nothing of the earlier rounds.
    #[must_use]
    pub fn for_successor(self, successor: &Board) -> Self {
        Self(Slot { epoch: successor.epoch(), ..self.0 })
    }

    /// The slot that is open.
    #[must_use]
    pub fn slot(&self) -> Slot {
        self.0
    }
}
