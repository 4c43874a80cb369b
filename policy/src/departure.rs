//! A departure: a server's owner takes it out of the network, with the key that the hand-over
//! names.

use borgios_types::{Digest, Envelope, NodeId, PublicKey, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::object::{Object, ObjectError, for_network, signed_by};

/// What the owner says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departure {
    /// The fleet.
    pub network: Digest,
    /// The node that goes. It never comes back: a reinstalled server is a new node.
    pub node: NodeId,
    /// When.
    pub at: UnixSeconds,
}

impl Object for Departure {
    const KIND: &'static str = "departure";
    const FIELDS: &'static [&'static str] = &["network", "node", "at"];
}

impl Departure {
    /// Reads a departure and checks that `owner` signed it.
    ///
    /// # Errors
    /// As [`Object::parse`], `wrong_network` and `bad_signature`.
    pub fn verify(
        network: Digest,
        owner: &PublicKey,
        envelope: &Envelope,
    ) -> Result<Self, ObjectError> {
        let departure = Self::parse(envelope)?;
        for_network(Self::KIND, departure.network, network)?;
        signed_by(owner, Self::KIND, envelope)?;
        Ok(departure)
    }
}
