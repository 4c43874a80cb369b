//! One message that proves itself offline, without the rest of its batch.

use borgios_types::{Digest, PublicKey};
use bytes::Bytes;
use thiserror::Error;

use crate::batch::{Batch, BatchError};
use crate::position::Position;

/// Header, kind, manifest and signature of a batch, and one of its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    envelope: Bytes,
    index: usize,
    message: Bytes,
}

/// What a proof proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// The network the message was signed for.
    pub network: Digest,
    /// Who signed it.
    pub origin: PublicKey,
    /// Where it is in the origin's stream.
    pub position: Position,
    /// The message.
    pub message: Bytes,
}

/// Why a proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProofError {
    /// Header, manifest or signature are not laid out as such.
    #[error("the envelope is malformed")]
    Malformed(#[source] BatchError),
    /// The manifest has no such entry, or the message is another one.
    #[error("the manifest does not name this message")]
    NotListed,
    /// The signature does not verify.
    #[error("the signature does not verify")]
    Signature,
}

impl Proof {
    /// The proof of message `index` (from 0) of `batch`, or none if it has fewer.
    #[must_use]
    pub fn of(batch: &Batch, index: usize) -> Option<Self> {
        let message = batch.messages().nth(index)?.body;
        Some(Self { envelope: batch.envelope(), index, message })
    }
}
