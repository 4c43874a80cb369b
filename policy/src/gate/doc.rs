//! One signed statement that waits.

use borgios_types::{Digest, Seq, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::lane::Lane;
use crate::refusal::Refusal;
use crate::statement::Statement;
use crate::submission::Submission;

/// A statement that verified here, and since when it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Doc {
    pub(super) submission: Submission,
    pub(super) statement: Statement,
    pub(super) seen: UnixSeconds,
    pub(super) recovery: bool,
}

/// As it is stored: the statement is read from its envelope again.
#[derive(Serialize, Deserialize)]
struct Stored {
    submission: Submission,
    seen: UnixSeconds,
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    recovery: bool,
}

impl TryFrom<Stored> for Doc {
    type Error = Refusal;

    fn try_from(stored: Stored) -> Result<Self, Refusal> {
        let Stored { submission, seen, recovery } = stored;
        let statement = Statement::parse(&submission.statement)?;
        Ok(Self { submission, statement, seen, recovery })
    }
}

impl From<Doc> for Stored {
    fn from(doc: Doc) -> Self {
        let Doc { submission, seen, recovery, .. } = doc;
        Self { submission, seen, recovery }
    }
}

impl Doc {
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

    /// Sorts a policy before what was made under it, and each lane by its places.
    pub(super) fn order(&self, id: Digest) -> (Seq, Lane, Seq, Digest) {
        let Statement { lane, seq, policy, .. } = self.statement;
        let under = if lane == Lane::Policy { seq } else { policy.unwrap_or_default() };
        (under, lane, seq, id)
    }
}
