//! Evidence of equivocation: two envelopes of one origin that no honest history contains both of.
//!
//! Either their numbers overlap in one epoch and they differ, or one follows the other directly
//! and does not name it as its predecessor.

use borgios_types::Digest;
use bytes::Bytes;

use crate::position::Origin;

/// Two verified envelopes (header, kind, manifest, signature) that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    network: Digest,
    origin: Origin,
    envelopes: [Bytes; 2],
}

impl Evidence {
    /// Who equivocated.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The network it was signed for.
    #[must_use]
    pub fn network(&self) -> Digest {
        self.network
    }

    /// The two envelopes.
    #[must_use]
    pub fn envelopes(&self) -> &[Bytes; 2] {
        &self.envelopes
    }
}
