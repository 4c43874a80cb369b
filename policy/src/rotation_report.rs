//! A rotation report: which epoch's verifier root's account carries on one server, as its keeper
//! says.

use borgios_types::{Digest, Envelope, Epoch, NodeId, PublicKey, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::object::{Object, ObjectError, for_network, signed_by, text_fits};

/// What one keeper says about the shared root credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationReport {
    /// The fleet.
    pub network: Digest,
    /// The server's node key.
    pub node: NodeId,
    /// The key that signs this.
    pub keeper: PublicKey,
    /// Whose verifier `/etc/shadow` carries.
    pub epoch: Epoch,
    /// When this epoch began for this server.
    pub due: UnixSeconds,
    /// When `/etc/shadow` was changed.
    pub changed: UnixSeconds,
    /// Whether the schedule has ended, or nearly.
    #[serde(default)]
    pub exhausted: bool,
    /// What stands in the way, if something does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// When this was said.
    pub at: UnixSeconds,
}

impl Object for RotationReport {
    const KIND: &'static str = "rotation";
    const FIELDS: &'static [&'static str] =
        &["network", "node", "keeper", "epoch", "due", "changed", "exhausted", "problem", "at"];

    fn check(&self) -> Result<(), ObjectError> {
        text_fits(Self::KIND, "problem", self.problem.as_ref())
    }
}

impl RotationReport {
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
