//! A report: what a keeper did with a release, signed with the keeper's key.

use std::collections::BTreeMap;

use borgios_types::{Digest, Envelope, NodeId, PublicKey, Seq, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::object::{Object, ObjectError, for_network, signed_by, text_fits};

/// How an install ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It runs and passed its health commands.
    Committed,
    /// It failed its probation; what ran before runs again.
    RolledBack,
    /// It was not begun: a check failed before anything changed.
    Refused,
}

/// What one keeper says about one release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The fleet.
    pub network: Digest,
    /// The server's node key.
    pub node: NodeId,
    /// The key that signs this.
    pub keeper: PublicKey,
    /// Number of the release.
    pub release: Seq,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it did not end well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What runs now, by component.
    pub running: BTreeMap<Name, Digest>,
    /// When.
    pub at: UnixSeconds,
}

impl Object for Report {
    const KIND: &'static str = "report";
    const FIELDS: &'static [&'static str] =
        &["network", "node", "keeper", "release", "outcome", "reason", "running", "at"];

    fn check(&self) -> Result<(), ObjectError> {
        text_fits(Self::KIND, "reason", self.reason.as_ref())
    }
}

impl Report {
    /// Reads a report and checks that the keeper it names signed it. That this keeper belongs to
    /// this node, the node's join record says.
    ///
    /// # Errors
    /// As [`Object::parse`], `wrong_network` and `bad_signature`.
    pub fn verify(network: Digest, envelope: &Envelope) -> Result<Self, ObjectError> {
        let report = Self::parse(envelope)?;
        for_network(Self::KIND, report.network, network)?;
        signed_by(&report.keeper, Self::KIND, envelope)?;
        Ok(report)
    }
}
