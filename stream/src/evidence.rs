//! Evidence of equivocation: two envelopes of one origin that no honest history holds both of.
//!
//! Either their numbers overlap in one epoch and they differ, or one directly follows the other and
//! does not name it as its predecessor.

use borgios_types::Digest;
use bytes::{BufMut as _, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::batch;
use crate::position::{BatchId, Origin, Position};

/// Two envelopes (header, kind, manifest, signature) that contradict each other, checked.
///
/// As bytes: each envelope behind its length (4 bytes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    network: Digest,
    origin: Origin,
    envelopes: [Bytes; 2],
}

/// Why two envelopes prove nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EvidenceError {
    /// Not two well-formed envelopes.
    #[error("not two envelopes")]
    Layout,
    /// Of two networks, two origins, or both in one honest history.
    #[error("the two do not contradict each other")]
    NoContradiction,
    /// One of them is not signed by the origin.
    #[error("one of the two is not signed by the origin")]
    Signature,
}

impl Evidence {
    /// Checks that `one` and `other`, envelopes, contradict each other: two verifications.
    ///
    /// # Errors
    /// See [`EvidenceError`].
    pub fn of(one: Bytes, other: Bytes) -> Result<Self, EvidenceError> {
        for envelope in [&one, &other] {
            let head = batch::check_envelope(envelope).map_err(|_| EvidenceError::Layout)?;
            if head.envelope_len != envelope.len() {
                return Err(EvidenceError::Layout);
            }
        }
        if !contradict(&one, &other) {
            return Err(EvidenceError::NoContradiction);
        }
        for envelope in [&one, &other] {
            batch::verify_envelope(envelope).ok_or(EvidenceError::Signature)?;
        }
        let (network, origin) = (batch::network_of(&one), batch::origin_of(&one));
        Ok(Self { network, origin, envelopes: [one, other] })
    }

    /// Reads what [`Evidence::encode`] wrote, and checks it.
    ///
    /// # Errors
    /// See [`EvidenceError`].
    pub fn decode(bytes: &Bytes) -> Result<Self, EvidenceError> {
        let (one, rest) = split(bytes).ok_or(EvidenceError::Layout)?;
        let (other, rest) = split(&rest).ok_or(EvidenceError::Layout)?;
        if !rest.is_empty() {
            return Err(EvidenceError::Layout);
        }
        Self::of(one, other)
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let length = self.envelopes.iter().map(|envelope| 4 + envelope.len()).sum();
        let mut bytes = BytesMut::with_capacity(length);
        for envelope in &self.envelopes {
            bytes.put_u32(u32::try_from(envelope.len()).expect("an envelope has some KiB"));
            bytes.put_slice(envelope);
        }
        bytes.freeze()
    }

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

    /// Where the two histories part: the smaller first position of the two.
    #[must_use]
    pub fn at(&self) -> Position {
        batch::first_of(&self.envelopes[0]).min(batch::first_of(&self.envelopes[1]))
    }

    /// The two envelopes.
    #[must_use]
    pub fn envelopes(&self) -> &[Bytes; 2] {
        &self.envelopes
    }
}

fn split(bytes: &Bytes) -> Option<(Bytes, Bytes)> {
    let length = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
    let end = length.checked_add(4).filter(|end| *end <= bytes.len())?;
    Some((bytes.slice(4..end), bytes.slice(end..)))
}

/// Whether no honest history of one origin holds both. Signatures are not looked at.
fn contradict(one: &[u8], other: &[u8]) -> bool {
    let same = batch::network_of(one) == batch::network_of(other)
        && batch::origin_of(one) == batch::origin_of(other);
    let ((one_first, one_last), (other_first, other_last)) =
        (batch::range_of(one), batch::range_of(other));
    if !same || one_first.epoch != other_first.epoch {
        return false;
    }
    let follows = |before: &[u8], last: Position, after: &[u8], first: Position| {
        last.is_followed_by(first) && batch::previous_of(after) != id(before)
    };
    let overlap = one_first <= other_last && other_first <= one_last;
    (overlap && id(one) != id(other))
        || follows(one, one_last, other, other_first)
        || follows(other, other_last, one, one_first)
}

fn id(envelope: &[u8]) -> BatchId {
    BatchId(Sha256::digest(batch::signed_and_blob(envelope).0).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::stage;

    fn of(one: &Batch, other: &Batch) -> Result<Evidence, EvidenceError> {
        Evidence::of(one.envelope(), other.envelope())
    }

    #[test]
    fn two_histories_are_evidence() {
        let [one, other] = stage::fork();
        let evidence = of(&one, &other).unwrap();
        assert_eq!(Evidence::decode(&evidence.encode()).unwrap(), evidence);
        assert_eq!(evidence.origin(), one.origin());
        // Numbers that overlap, cut into batches in two ways.
        let wide = stage::batch(2, &[b"b", b"c", b"d"]);
        assert!(of(&wide, &stage::batch(3, &[b"c"])).is_ok());
        // A successor that does not name its predecessor.
        let denies = stage::after(2, BatchId([9; 32]), &[b"b"]);
        assert!(of(&one, &denies).is_ok() && of(&denies, &one).is_ok());
    }

    #[test]
    fn an_honest_history_is_none() {
        let one = stage::batch(1, &[b"a", b"b"]);
        let two = stage::after(3, one.id(), &[b"c"]);
        let three = stage::after(4, two.id(), &[b"d"]);
        for (one, other) in [(&one, &two), (&two, &one), (&one, &three), (&one, &one)] {
            assert_eq!(of(one, other), Err(EvidenceError::NoContradiction));
        }
    }

    #[test]
    fn a_forged_contradiction_is_none() {
        let [one, other] = stage::fork();
        let mut forged = other.envelope().to_vec();
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(Evidence::of(one.envelope(), forged.into()), Err(EvidenceError::Signature));
        let mut random = stage::random(3);
        let good = of(&one, &other).unwrap();
        for round in 0..2_000 {
            let mut bytes = good.encode().to_vec();
            stage::mutate(&mut bytes, &mut random);
            let changed = bytes != good.encode();
            assert!(Evidence::decode(&bytes.into()).is_err() || !changed, "round {round}");
        }
    }
}
