//! What the keeper can be asked, and what it answers: one JSON object per line, each way.
//!
//! ```text
//! {"verb":"status"}                                       what is installed, known, under way
//! {"verb":"submit","statement":{…},"ballots":[…]}         a statement to verify and keep
//! {"verb":"submit-run","submissions":[…]}                 the same for a run of them, oldest first
//! {"verb":"objects","objects":[{…}]}                     vetoes, pauses and beacons
//! {"verb":"install","seq":7}                              the blobs of release/7 lie in the depot
//! {"verb":"sign-report","node":"ssh-ed25519 …"}           the last outcome, signed by the keeper
//! {"verb":"witness","statement":"sha256:…","witnesses":[{"witness":{…},"join":{…},"invitation":{…}}]}
//!                                                         members that saw a grant for this node
//! {"verb":"sign-rotation","node":"ssh-ed25519 …"}         what /etc/shadow carries, signed
//! {"verb":"handover"}                                     the receipt for this server's root
//! {"verb":"depart","departure":{…}}                       the owner takes this server out
//! ```
//!
//! The verbs are fixed. None of them carries an order: what is installed follows from the
//! statements alone, and a caller can only bring them sooner or later.

use std::collections::BTreeMap;

use borgios_policy::gate::Silence;
use borgios_policy::policy::WITNESSES_MAX;
use borgios_policy::{Held, Outcome, Submission, WitnessProof};
use borgios_types::{Digest, Envelope, Epoch, NodeId, PublicKey, Seq, UnixSeconds};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
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
        /// Oldest first; at most [`RUN_MAX`].
        #[serde(deserialize_with = "few_submissions")]
        submissions: Vec<Submission>,
    },
    /// Vetoes, pauses and beacons; the answer is an [`ObjectsTaken`].
    Objects {
        /// At most [`OBJECTS_MAX`].
        #[serde(deserialize_with = "few_objects")]
        objects: Vec<Envelope>,
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
    /// Members that saw a grant for this node, each with its proofs; what does not verify counts
    /// for nothing. The answer is the grant's [`AccessStatus`].
    Witness {
        /// Id of the grant's statement.
        statement: Digest,
        /// At most [`WITNESSES_MAX`].
        #[serde(deserialize_with = "few_witnesses")]
        witnesses: Vec<WitnessProof>,
    },
    /// Which epoch `/etc/shadow` carries, as a signed `rotation`.
    SignRotation {
        /// Whose report it is.
        node: NodeId,
    },
    /// The signed `handover` of this server, or the error `not_handed_over`.
    Handover,
    /// The owner takes this server out. Answered once its secrets are shredded; the units are
    /// stopped after that.
    Depart {
        /// The owner's `departure`.
        departure: Envelope,
    },
}

/// Most statements of one run. Each is weighed against all that waits, and nobody else is answered meanwhile.
pub const RUN_MAX: usize = 256;
/// Most vetoes, pauses and beacons in one line.
pub const OBJECTS_MAX: usize = 64;

/// Refuses a longer run than is sent, before one of it is looked at.
fn few_submissions<'de, D: Deserializer<'de>>(reader: D) -> Result<Vec<Submission>, D::Error> {
    let run = Vec::deserialize(reader)?;
    if run.len() > RUN_MAX {
        return Err(D::Error::custom(format!("{} statements, at most {RUN_MAX}", run.len())));
    }
    Ok(run)
}

/// Refuses more objects than are sent, before one of them is looked at.
fn few_objects<'de, D: Deserializer<'de>>(reader: D) -> Result<Vec<Envelope>, D::Error> {
    let objects = Vec::deserialize(reader)?;
    if objects.len() > OBJECTS_MAX {
        let found = objects.len();
        return Err(D::Error::custom(format!("{found} objects, at most {OBJECTS_MAX}")));
    }
    Ok(objects)
}

/// Refuses more proofs than any policy asks for, before one of them is looked at.
fn few_witnesses<'de, D: Deserializer<'de>>(reader: D) -> Result<Vec<WitnessProof>, D::Error> {
    let witnesses = Vec::deserialize(reader)?;
    if witnesses.len() > usize::from(WITNESSES_MAX) {
        let found = witnesses.len();
        return Err(D::Error::custom(format!("{found} witnesses, at most {WITNESSES_MAX}")));
    }
    Ok(witnesses)
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
        /// `attempted`, `not_handed_over`, `bad_request`.
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
    /// Verified and stored; in force when its time has come.
    Waiting,
    /// It was here before.
    AlreadyKnown,
}

/// The answer to [`Request::SubmitRun`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunTaken {
    /// How many are here now that were not before, in force or waiting for their time.
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

/// The answer to [`Request::Objects`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectsTaken {
    /// How many are kept now that were not before.
    pub new: usize,
    /// Those that were not taken, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RunRefused>,
}

/// How many governors were heard of lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Distinct governors with a fresh beacon.
    pub fresh: usize,
    /// Governors the policy asks for; with fewer this server is *stale* and installs nothing new.
    pub needed: usize,
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
    /// When this process began: what another one was told it may not know.
    #[serde(default)]
    pub started: UnixSeconds,
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
    /// Whether root of this server belongs to the network.
    #[serde(default)]
    pub handed_over: bool,
    /// The shared root credential here; none before the first schedule is at work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialStatus>,
    /// Grants for this node that are not long over, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access: Vec<AccessStatus>,
    /// Statements that are signed and not in force yet, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<Held>,
    /// Governors heard of, where the policy asks for beacons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<Heard>,
    /// How long the board has been silent, where the policy names a recovery key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence: Option<Silence>,
}

/// The shared root credential on this server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialStatus {
    /// Whose verifier `/etc/shadow` carries.
    pub epoch: Epoch,
    /// When this epoch began for this server.
    pub due: UnixSeconds,
    /// When the next one begins for this server; none past the schedule's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<UnixSeconds>,
    /// When `/etc/shadow` was changed.
    pub changed: UnixSeconds,
    /// Whether the schedule has ended, or nearly.
    #[serde(default)]
    pub exhausted: bool,
    /// The schedule at work.
    pub schedule: Digest,
    /// What stands in the way, if something does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One grant for this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessStatus {
    /// Its number in the lane, which is the certificate's serial.
    pub seq: Seq,
    /// Id of its statement.
    pub id: Digest,
    /// First second after its validity.
    pub before: UnixSeconds,
    /// Whether its certificate opens the door.
    pub state: AccessState,
    /// Members whose witness verified here.
    pub witnesses: usize,
    /// How many it needs.
    pub needed: usize,
}

/// How far a grant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessState {
    /// It waits for witnesses, or for its time.
    Waiting,
    /// Its certificate is let in.
    Open,
    /// Ended early.
    Revoked,
    /// Its time is over.
    Over,
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
    use borgios_types::Kind;

    #[test]
    fn only_the_fixed_verbs_are_read() {
        let good = [
            r#"{"verb":"status"}"#,
            r#"{"verb":"install","seq":3}"#,
            r#"{"verb":"handover"}"#,
            r#"{"verb":"depart","departure":{"type":"departure","payload":"{}","sigs":[]}}"#,
        ];
        for good in good {
            serde_json::from_str::<Request>(good).unwrap();
        }
        for bad in ["{}", r#"{"verb":"run","command":"sh"}"#, r#"{"verb":"install"}"#, "[]"] {
            assert!(serde_json::from_str::<Request>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn more_witnesses_than_any_policy_asks_for_are_not_read() {
        let envelope = Envelope::unsigned(Kind::new("witness").unwrap(), "{}".to_owned());
        let proof = WitnessProof {
            witness: envelope.clone(),
            join: envelope.clone(),
            invitation: envelope,
        };
        let line = |count: u16| {
            let witnesses = vec![proof.clone(); count.into()];
            let request = Request::Witness { statement: Digest::of(b"grant"), witnesses };
            serde_json::to_string(&request).unwrap()
        };
        serde_json::from_str::<Request>(&line(WITNESSES_MAX)).unwrap();
        assert!(serde_json::from_str::<Request>(&line(WITNESSES_MAX + 1)).is_err());
    }

    #[test]
    fn what_an_older_keeper_says_is_still_a_status() {
        let key = borgios_types::SecretKey::from_seed([1; 32]).public();
        let old = serde_json::json!({
            "version": "0.2.0", "network": Digest::of(b"network"), "keeper": key, "heads": {},
            "installed": 0, "running": {}, "activity": {"doing": "idle"}, "attempted": [],
        });
        let status: Status = serde_json::from_value(old).unwrap();
        assert!(!status.handed_over && status.credential.is_none() && status.access.is_empty());
    }
}
