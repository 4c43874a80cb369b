//! A hand-over: the receipt for a server's root, signed by the keeper that took it.

use std::collections::BTreeMap;

use borgios_types::{Digest, Envelope, NodeId, PublicKey, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::object::{Object, ObjectError, for_network, signed_by};

/// Most host keys of a server.
pub const HOST_KEYS_MAX: usize = 8;
/// Most kinds of findings counted in a receipt.
pub const KINDS_MAX: usize = 64;

/// What was taken, from whom, and how the server is recognised from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// The fleet.
    pub network: Digest,
    /// The server's node key.
    pub node: NodeId,
    /// The key that signs this.
    pub keeper: PublicKey,
    /// The server's name, for people.
    pub name: Name,
    /// sshd's host keys from now on, `ssh-ed25519 AAAA…`.
    pub host_keys: Vec<PublicKey>,
    /// How many findings of each kind were acted on.
    pub taken: BTreeMap<Name, u64>,
    /// The owner's key, if one was given: it may take the server out with a `departure`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<PublicKey>,
    /// When.
    pub at: UnixSeconds,
}

impl Object for Handover {
    const KIND: &'static str = "handover";
    const FIELDS: &'static [&'static str] =
        &["network", "node", "keeper", "name", "host_keys", "taken", "owner", "at"];

    fn check(&self) -> Result<(), ObjectError> {
        let refused = |why: String| Err(ObjectError::Refused { kind: Self::KIND, why });
        if self.host_keys.len() > HOST_KEYS_MAX {
            return refused(format!("{} host keys, at most {HOST_KEYS_MAX}", self.host_keys.len()));
        }
        if self.taken.len() > KINDS_MAX {
            return refused(format!("{} kinds, at most {KINDS_MAX}", self.taken.len()));
        }
        Ok(())
    }
}

impl Handover {
    /// Reads a receipt and checks that the keeper it names signed it. That this keeper belongs to
    /// this node, the node's join record says.
    ///
    /// # Errors
    /// As [`Object::parse`], `wrong_network` and `bad_signature`.
    pub fn verify(network: Digest, envelope: &Envelope) -> Result<Self, ObjectError> {
        let handover = Self::parse(envelope)?;
        for_network(Self::KIND, handover.network, network)?;
        signed_by(&handover.keeper, Self::KIND, envelope)?;
        Ok(handover)
    }
}
