//! One signed statement that waits.

use std::sync::Arc;

use borgios_types::{Digest, Envelope, Seq, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::chain::Chain;
use crate::lane::Lane;
use crate::policy::Policy;
use crate::refusal::Refusal;
use crate::statement::Statement;
use crate::submission::Submission;

/// A statement that verified here, and since when it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Doc {
    pub(super) submission: Submission,
    pub(super) statement: Statement,
    /// The policy that it would make: reading one takes milliseconds, so it is done once.
    pub(super) policy: Option<Arc<Policy>>,
    pub(super) seen: UnixSeconds,
    /// See [`since`].
    pub(super) was: Option<UnixSeconds>,
    /// See [`dated_ahead`].
    pub(super) dated: Option<UnixSeconds>,
    pub(super) recovery: bool,
}

/// As it is stored: what it says is read from its envelope again.
#[derive(Serialize, Deserialize)]
struct Stored {
    submission: Submission,
    seen: UnixSeconds,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    was: Option<UnixSeconds>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dated: Option<UnixSeconds>,
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    recovery: bool,
}

impl TryFrom<Stored> for Doc {
    type Error = Refusal;

    fn try_from(stored: Stored) -> Result<Self, Refusal> {
        let Stored { submission, seen, was, dated, recovery } = stored;
        let statement = Statement::parse(&submission.statement)?;
        let mut doc = Self::new(submission, statement, seen, recovery);
        (doc.was, doc.dated) = (was, dated);
        Ok(doc)
    }
}

impl From<Doc> for Stored {
    fn from(doc: Doc) -> Self {
        let Doc { submission, seen, was, dated, recovery, .. } = doc;
        Self { submission, seen, was, dated, recovery }
    }
}

impl Doc {
    pub(super) fn new(
        submission: Submission,
        statement: Statement,
        seen: UnixSeconds,
        recovery: bool,
    ) -> Self {
        let made = statement.lane == Lane::Policy;
        let policy = made.then(|| Policy::parse(&statement.body).ok().map(Arc::new)).flatten();
        Self { submission, statement, policy, seen, was: None, dated: None, recovery }
    }

    /// Bytes that it takes in a file at most: each character of a payload may be escaped there.
    pub(super) fn bytes(&self) -> usize {
        let Submission { statement, ballots } = &self.submission;
        let of = |envelope: &Envelope| 2 * envelope.payload.len() + 256 * (1 + envelope.sigs.len());
        of(statement) + ballots.iter().map(of).sum::<usize>()
    }

    /// What it says.
    #[must_use]
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// With its ballots.
    #[must_use]
    pub fn submission(&self) -> &Submission {
        &self.submission
    }

    /// When this holder first saw it verified.
    #[must_use]
    pub fn seen(&self) -> UnixSeconds {
        self.seen
    }

    /// Whether a recovery key signed it in the place of the board.
    #[must_use]
    pub fn is_recovery(&self) -> bool {
        self.recovery
    }

    /// Sorts a policy before what was made under it, and each lane by its places.
    pub(super) fn order(&self, id: Digest) -> (Seq, Lane, Seq, Digest) {
        let Statement { lane, seq, policy, .. } = self.statement;
        let under = if lane == Lane::Policy { seq } else { policy.unwrap_or_default() };
        (under, lane, seq, id)
    }
}

/// Since when a lock or a pause runs. `seen` is what the clock said then, brought back to the clock
/// where that was found behind; `was` is the latest it had been. A clock that was behind only for a
/// while, as before its first synchronization, gives the earlier start no effect: it must not eat
/// the lock. Nor does a date that lies ahead of the clock, [`dated_ahead`], until that is past it.
pub(super) fn since(
    now: UnixSeconds,
    seen: UnixSeconds,
    was: Option<UnixSeconds>,
    dated: Option<UnixSeconds>,
) -> UnixSeconds {
    [was, dated].into_iter().flatten().filter(|later| *later <= now).fold(seen, UnixSeconds::max)
}

/// The date of the newest statement applied, where the clock is behind it. A lock or a pause that begins
/// by such a clock begins no earlier than that once the clock is right. It is a date that t shares wrote,
/// and kept apart from what the clock itself has said.
pub(super) fn dated_ahead(now: UnixSeconds, chain: &Chain) -> Option<UnixSeconds> {
    Some(chain.now_floor()).filter(|newest| *newest > now)
}

/// Brings what was seen in the future to now; returns whether it was.
pub(super) fn anchor(
    now: UnixSeconds,
    seen: &mut UnixSeconds,
    was: &mut Option<UnixSeconds>,
) -> bool {
    if *seen <= now {
        return false;
    }
    *was = (*was).max(Some(*seen));
    *seen = now;
    true
}
