//! Where a node can be reached, and where a free place in the tree is.

use borgios_types::NodeId;
use serde::{Deserialize, Serialize};

use crate::bounds::ADDRESS_MAX;

/// A node that can be dialled: who must answer, and where.
///
/// A node without an address has no contact: it dials out, stays a leaf, and is never named in a
/// redirect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Contact {
    /// The key that must answer there.
    pub id: NodeId,
    /// `host:port`.
    pub address: String,
}

impl Contact {
    /// Names a node and its address.
    #[must_use]
    pub fn new(id: NodeId, address: impl Into<String>) -> Self {
        Self { id, address: address.into() }
    }

    /// Whether the address has a length that can be one; the shell finds out the rest by dialling.
    #[must_use]
    pub fn plausible(&self) -> bool {
        !self.address.is_empty()
            && self.address.len() <= ADDRESS_MAX
            && !self.address.chars().any(|c| c.is_control() || c.is_whitespace())
    }
}

/// A node with room for one more child.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Spot {
    /// Steps from whoever reports it (going up), or from the root (going down).
    pub depth: u32,
    /// The node that has room.
    pub at: Contact,
}
