//! What the keeper can be asked, and what it answers: one JSON object per line, each way.
//!
//! ```text
//! {"verb":"status"}                                       what is installed, known, under way
//! {"verb":"submit","statement":{…},"ballots":[…]}         a statement to verify and keep
//! {"verb":"submit-run","submissions":[…]}                 the same for a run of them, oldest first
//! {"verb":"install","seq":7}                              the blobs of release/7 lie in the depot
//! {"verb":"sign-report","node":"ssh-ed25519 …"}           the last outcome, signed by the keeper
//! ```
//!
//! The verbs are fixed. None of them carries an order: what is installed follows from the
//! statements alone, and a caller can only bring them sooner or later.

use std::collections::BTreeMap;

use borgios_policy::{Outcome, Submission};
use borgios_types::{Digest, NodeId, PublicKey, Seq, UnixSeconds};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One line to the keeper.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Request {
    /// What is installed, known and under way: a [`Status`].
    Status,
    /// A statement with its ballots, to be verified and kept: a [`Submitted`].
    Submit(Submission),
    /// Statements in a row, judged together: what a later one in date builds upon may have expired
    /// meanwhile, so a server that was away for a year can follow. The answer is a [`RunTaken`].
    SubmitRun {
        /// Oldest first.
        submissions: Vec<Submission>,
    },
    /// The blobs of this release lie in the depot; it must be the newest one the keeper verified.
    Install {
        /// The release.
        seq: Seq,
    },
    /// The outcome of the last install as a signed `report`.
    SignReport {
        /// Whose report it is; the node's join record in turn names the keeper.
        node: NodeId,
    },
}

/// One line from the keeper.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done; what was asked for.
    Ok(Value),
    /// Not done, and nothing changed.
    Error {
        /// Stable name: a refusal's code, or `disk`, `no_report`, `not_the_head`,
        /// `attempted`, `bad_request`.
        code: String,
        /// For people.
        message: String,
    },
}

impl Answer {
    /// What was asked for.
    #[must_use]
    pub fn ok(value: impl Serialize) -> Self {
        Self::Ok(serde_json::to_value(value).expect("answers have string keys only"))
    }

    /// Why nothing was done.
    #[must_use]
    pub fn error(code: &str, message: impl ToString) -> Self {
        Self::Error { code: code.to_owned(), message: message.to_string() }
    }
}

/// The answer to [`Request::Submit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Submitted {
    /// Verified, stored and in force from now on.
    Accepted,
    /// It was here before.
    AlreadyKnown,
}

/// The answer to [`Request::SubmitRun`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunTaken {
    /// How many are in force now that were not before.
    pub accepted: usize,
    /// The first that was not taken, and why; those after it were not taken either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RunRefused>,
}

/// A statement of a run that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRefused {
    /// Its place in the run, from 0.
    pub at: usize,
    /// Stable name of the reason.
    pub code: String,
    /// The reason, for people.
    pub message: String,
}

/// The newest statement of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its number.
    pub seq: Seq,
    /// Its id.
    pub id: Digest,
}

/// What the keeper is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "doing", rename_all = "snake_case")]
pub enum Activity {
    /// What runs is the newest release, or the newest one was given up.
    Idle,
    /// A newer release is known and waits for its blobs.
    Waiting {
        /// The release.
        seq: Seq,
    },
    /// A release is being installed.
    Installing {
        /// The release.
        seq: Seq,
        /// The step of its journal.
        step: String,
    },
}

/// How the last install ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastInstall {
    /// The release.
    pub release: Seq,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it did not end well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When.
    pub at: UnixSeconds,
}

/// The answer to [`Request::Status`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the keeper's program.
    pub version: String,
    /// The fleet it is pinned to.
    pub network: Digest,
    /// The key it signs reports with.
    pub keeper: PublicKey,
    /// The newest statement it verified, by lane.
    pub heads: BTreeMap<String, Head>,
    /// Number of the release that runs, 0 before the first.
    pub installed: Seq,
    /// What runs, by component.
    pub running: BTreeMap<String, Digest>,
    /// What it is doing.
    pub activity: Activity,
    /// How the last install ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastInstall>,
    /// Releases that failed here and are never tried again, by id.
    pub attempted: Vec<Digest>,
    /// What stood in the way at the last attempt; it is tried again when its blobs are brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// What stands in the way of an install.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The release.
    pub release: Seq,
    /// Stable name: `no_blob`, `bad_digest`, `bad_component`, `disk`.
    pub code: String,
    /// For people.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_fixed_verbs_are_read() {
        for good in [r#"{"verb":"status"}"#, r#"{"verb":"install","seq":3}"#] {
            serde_json::from_str::<Request>(good).unwrap();
        }
        for bad in ["{}", r#"{"verb":"run","command":"sh"}"#, r#"{"verb":"install"}"#, "[]"] {
            assert!(serde_json::from_str::<Request>(bad).is_err(), "{bad}");
        }
    }
}
