//! One message that proves itself offline, without the rest of its batch.
//!
//! ```text
//! 4  magic "BGSp"
//! 4  length of the proof, bytes
//! 2  index of the message in the manifest, from 0
//! .. the batch's first bytes: header, kind, manifest, signature
//! .. the message
//! ```

use borgios_types::{Digest, PublicKey, UnixSeconds};
use bytes::{BufMut as _, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::batch::{self, Batch, BatchError, Kind};
use crate::bounds::BATCH_MAX;
use crate::position::Position;
use crate::signature;

/// First four bytes of a proof.
pub const MAGIC: [u8; 4] = *b"BGSp";
/// Bytes before the envelope.
const FRONT: usize = 10;

/// Header, kind, manifest and signature of a batch, and one of its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof(Bytes);

/// What a proof proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// The network the message was signed for; whoever asks compares it with their own.
    pub network: Digest,
    /// Who signed it.
    pub origin: PublicKey,
    /// Where it is in the origin's stream.
    pub position: Position,
    /// When the origin says that it signed it.
    pub issued: UnixSeconds,
    /// What the application calls it.
    pub kind: Kind,
    /// The message.
    pub message: Bytes,
}

/// Why a proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProofError {
    /// Too short, too long, or no proof at all.
    #[error("not a proof")]
    Layout,
    /// Header, manifest or signature are not laid out as such.
    #[error("the envelope is malformed")]
    Malformed(#[source] BatchError),
    /// The manifest has no such entry, or the message is another one.
    #[error("the manifest does not name this message")]
    NotListed,
    /// The origin is no usable key, or the signature is not its.
    #[error("the signature does not verify")]
    Signature,
}

impl Proof {
    /// The proof of message `index` (from 0) of `batch`, or none if it has fewer.
    #[must_use]
    pub fn of(batch: &Batch, index: usize) -> Option<Self> {
        let message = batch.messages().nth(index)?.body;
        let envelope = batch.envelope();
        let length = FRONT + envelope.len() + message.len();
        let mut bytes = BytesMut::with_capacity(length);
        bytes.put_slice(&MAGIC);
        bytes.put_u32(u32::try_from(length).ok()?);
        bytes.put_u16(u16::try_from(index).ok()?);
        bytes.put_slice(&envelope);
        bytes.put_slice(&message);
        Some(Self(bytes.freeze()))
    }

    /// Bytes that may be a proof.
    #[must_use]
    pub fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Its bytes, for a file.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Checks layout, signature and the message's digest, in this order.
    ///
    /// # Errors
    /// See [`ProofError`].
    pub fn check(&self) -> Result<Proved, ProofError> {
        let bytes = &self.0;
        let whole = bytes.len() > FRONT
            && bytes.len() <= FRONT + BATCH_MAX
            && bytes[..4] == MAGIC
            && batch::u32_at(bytes, 4) as usize == bytes.len();
        if !whole {
            return Err(ProofError::Layout);
        }
        let index = usize::from(batch::u16_at(bytes, 8));
        let head = batch::check_envelope(&bytes[FRONT..]).map_err(ProofError::Malformed)?;
        let envelope = &bytes[FRONT..FRONT + head.envelope_len];
        let message = bytes.slice(FRONT + head.envelope_len..);
        let (length, digest) = batch::entry_at(envelope, index).ok_or(ProofError::NotListed)?;
        let origin = batch::verify_envelope(envelope).ok_or(ProofError::Signature)?;
        if message.len() != length as usize || Sha256::digest(&message)[..] != digest[..] {
            return Err(ProofError::NotListed);
        }
        let first = batch::first_of(envelope);
        Ok(Proved {
            network: batch::network_of(envelope),
            origin,
            position: Position::new(first.epoch, first.number + index as u64),
            issued: batch::issued_of(envelope),
            kind: batch::kind_of(envelope),
            message,
        })
    }

    /// The armoured signature of the envelope and the bytes it covers, for
    /// `ssh-keygen -Y verify -n borgios-batch@v1`; none where it is malformed.
    #[must_use]
    pub fn armoured(&self) -> Option<(String, Bytes)> {
        let envelope = self.0.get(FRONT..)?;
        batch::check_envelope(envelope).ok()?;
        let (signed, blob) = batch::signed_and_blob(envelope);
        let key = PublicKey::from_bytes(batch::origin_of(envelope).0).ok()?;
        Some((signature::armour(&key, blob), Bytes::copy_from_slice(signed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage;

    #[test]
    fn one_message_proves_itself() {
        let batch = stage::batch(5, &[b"one", b"two", b"three"]);
        let proof = Proof::of(&batch, 1).unwrap();
        let proved = Proof::from_bytes(proof.bytes().clone()).check().unwrap();
        assert_eq!(proved.message, &b"two"[..]);
        assert_eq!(proved.position, Position::new(stage::EPOCH, 6));
        assert_eq!(proved.origin, stage::key().public());
        assert_eq!((proved.network, proved.kind.as_str()), (stage::network(), "chat"));
        assert!(Proof::of(&batch, 3).is_none());
    }

    #[test]
    fn no_flipped_bit_proves_anything() {
        let proof = Proof::of(&stage::batch(5, &[b"one", b"two"]), 1).unwrap();
        for bit in 0..proof.bytes().len() * 8 {
            let mut bad = proof.bytes().to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Proof::from_bytes(bad.into()).check().is_err(), "bit {bit}");
        }
    }

    #[test]
    fn mutated_proofs_never_panic() {
        let good = Proof::of(&stage::batch(5, &[b"one", b"two"]), 0).unwrap();
        let mut random = stage::random(2);
        for round in 0..5_000 {
            let mut bytes = good.bytes().to_vec();
            stage::mutate(&mut bytes, &mut random);
            let changed = bytes != *good.bytes();
            let proof = Proof::from_bytes(bytes.into());
            assert!(proof.check().is_err() || !changed, "round {round}");
        }
    }
}
