//! A batch: a list of messages under one signature, as bytes that are never copied.
//!
//! ```text
//! offset  bytes  field
//! 0       4      magic "BGS1"
//! 4       4      length of the whole batch, bytes; big endian as everything here
//! 8       32     network id
//! 40      32     origin: Ed25519 public key
//! 72      8      epoch: the origin's log generation
//! 80      8      first: number of the first message, from 1
//! 88      2      count: messages, 1..=64
//! 90      1      kind length k, 0..=32
//! 91      1      flags: bit 0 is "durable", the others are zero
//! 92      8      issued, unix seconds
//! 100     32     previous: id of the origin's previous batch of this epoch, zero for the first
//! 132     k      kind: printable ASCII without space
//! 132+k   36*n   manifest entries: length u32, SHA-256 of the message
//! ..      2+186  length of the SSHSIG blob and the blob, over everything before this length
//! ..             the messages, one after the other
//! ```
//!
//! A [`Batch`] is *well-formed*: every length in it was checked against every other, so that no
//! access fails later. It is not *verified*: see [`VerifyJob`](crate::VerifyJob).

use borgios_types::{Digest, PublicKey, UnixSeconds};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::bounds::{BATCH_BODY_MAX, BATCH_MAX, BATCH_MESSAGES_MAX, KIND_MAX};
use crate::position::{BatchId, Origin, Position};
use crate::signature::{self, BLOB_LEN};

/// First four bytes of a batch; the digit is the version of the format.
pub const MAGIC: [u8; 4] = *b"BGS1";
/// Length of the fixed header, in bytes.
pub const HEADER_LEN: usize = 132;
/// Length of one manifest entry, in bytes.
pub const ENTRY_LEN: usize = 36;

pub(crate) mod at {
    //! Offsets of the header's fields.
    pub(crate) const LENGTH: usize = 4;
    pub(crate) const NETWORK: usize = 8;
    pub(crate) const ORIGIN: usize = 40;
    pub(crate) const EPOCH: usize = 72;
    pub(crate) const FIRST: usize = 80;
    pub(crate) const COUNT: usize = 88;
    pub(crate) const KIND_LEN: usize = 90;
    pub(crate) const FLAGS: usize = 91;
    pub(crate) const ISSUED: usize = 92;
    pub(crate) const PREVIOUS: usize = 100;
}

/// The flag that asks for a sync before anyone is told that the batch is stored.
pub(crate) const FLAG_DURABLE: u8 = 1;

/// What a batch's messages are to the application, such as `chat`: at most [`KIND_MAX`] printable
/// ASCII bytes without space; may be empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(Bytes);

/// A text that is no [`Kind`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a kind is at most {KIND_MAX} printable ASCII characters without space")]
pub struct KindError;

impl Kind {
    /// Checks a text.
    ///
    /// # Errors
    /// [`KindError`] where it is too long or holds anything but `!` to `~`.
    pub fn new(text: &str) -> Result<Self, KindError> {
        if is_kind(text.as_bytes()) {
            Ok(Self(Bytes::copy_from_slice(text.as_bytes())))
        } else {
            Err(KindError)
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        ::core::str::from_utf8(&self.0).expect("a kind is ASCII, checked when it was made")
    }
}

fn is_kind(bytes: &[u8]) -> bool {
    bytes.len() <= KIND_MAX && bytes.iter().all(u8::is_ascii_graphic)
}

/// Whether a batch must be synced to disk before anyone is told that it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Survives the loss of power once it is stored.
    Durable,
    /// Written, synced at leisure: survives the program's death, not always the machine's.
    Volatile,
}

/// Why bytes are no well-formed batch.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    /// Does not begin with [`MAGIC`].
    #[error("not a batch of format 1")]
    Magic,
    /// Shorter than it says, or longer.
    #[error("a batch of {found} bytes that should have {expected}")]
    Length {
        /// Bytes at hand.
        found: usize,
        /// Bytes that header and manifest announce.
        expected: usize,
    },
    /// Longer than [`BATCH_MAX`].
    #[error("a batch of {0} bytes, at most {BATCH_MAX} are allowed")]
    TooLong(usize),
    /// No message, or more than [`BATCH_MESSAGES_MAX`].
    #[error("a batch of {0} messages, expected 1 to {BATCH_MESSAGES_MAX}")]
    Count(usize),
    /// The messages are longer than [`BATCH_BODY_MAX`] together.
    #[error("messages of {0} bytes, at most {BATCH_BODY_MAX} are allowed")]
    Body(u64),
    /// The kind is too long or no printable ASCII.
    #[error("the kind is no kind")]
    Kind,
    /// A flag that this version does not know.
    #[error("flags {0:#04x}, expected 0 or 1")]
    Flags(u8),
    /// Numbers begin at 1 and must not overflow; the epoch is not zero.
    #[error("epoch or number out of range")]
    Number,
    /// The predecessor is named where there is none, or is not where there is one.
    #[error("previous does not fit the number")]
    Previous,
    /// The signature is no SSH signature of the origin's for this purpose.
    #[error("the signature blob is not the origin's")]
    Signature,
}

/// A well-formed batch: the bytes as they were signed, sent and stored. Cloning shares them.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    bytes: Bytes,
}

impl ::core::fmt::Debug for Batch {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        write!(
            f,
            "Batch({:02x}{:02x}… {}+{})",
            self.bytes[at::ORIGIN],
            self.bytes[at::ORIGIN + 1],
            self.first(),
            self.count()
        )
    }
}

/// One message of a batch: a slice of the batch's bytes, shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it is in its origin's stream.
    pub position: Position,
    /// The bytes as the application published them.
    pub body: Bytes,
}

/// The length of the whole batch that its first 8 bytes announce.
///
/// # Errors
/// [`BatchError::Magic`], [`BatchError::TooLong`], [`BatchError::Length`] where it is too short.
pub fn announced_len(head: &[u8; 8]) -> Result<usize, BatchError> {
    if head[..4] != MAGIC {
        return Err(BatchError::Magic);
    }
    let length = u32_at(head, at::LENGTH) as usize;
    if length > BATCH_MAX {
        return Err(BatchError::TooLong(length));
    }
    if length < HEADER_LEN + ENTRY_LEN + 2 + BLOB_LEN {
        return Err(BatchError::Length {
            found: length,
            expected: HEADER_LEN + ENTRY_LEN + 2 + BLOB_LEN,
        });
    }
    Ok(length)
}

impl Batch {
    /// Checks that `bytes` are one well-formed batch: all lengths, counts and the place and wording
    /// of the signature, in time that grows with the number of messages, not with their length.
    ///
    /// # Errors
    /// See [`BatchError`].
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        check(&bytes)?;
        Ok(Self { bytes })
    }

    /// All of it, as it goes over a link and into a log.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Length of the whole batch, in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The network it is for.
    #[must_use]
    pub fn network(&self) -> Digest {
        network_of(&self.bytes)
    }

    /// Who should have signed it.
    #[must_use]
    pub fn origin(&self) -> Origin {
        origin_of(&self.bytes)
    }

    /// The origin's log generation.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        u64_at(&self.bytes, at::EPOCH)
    }

    /// Position of the first message.
    #[must_use]
    pub fn first(&self) -> Position {
        first_of(&self.bytes)
    }

    /// Position of the last message.
    #[must_use]
    pub fn last(&self) -> Position {
        range_of(&self.bytes).1
    }

    /// How many messages.
    #[must_use]
    pub fn count(&self) -> usize {
        count(&self.bytes)
    }

    /// When the origin says that it signed it.
    #[must_use]
    pub fn issued(&self) -> UnixSeconds {
        issued_of(&self.bytes)
    }

    /// Whether it is stored synced.
    #[must_use]
    pub fn durability(&self) -> Durability {
        if self.bytes[at::FLAGS] & FLAG_DURABLE == 0 {
            Durability::Volatile
        } else {
            Durability::Durable
        }
    }

    /// What the application calls its messages.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind(self.bytes.slice(HEADER_LEN..HEADER_LEN + kind_len(&self.bytes)))
    }

    /// The id of the batch before it in its epoch; [`BatchId::NONE`] for the first.
    #[must_use]
    pub fn previous(&self) -> BatchId {
        previous_of(&self.bytes)
    }

    /// What the signature covers: header, kind and manifest.
    #[must_use]
    pub fn signed_part(&self) -> &[u8] {
        &self.bytes[..signed_len(&self.bytes)]
    }

    /// Everything but the messages: header, kind, manifest and signature.
    #[must_use]
    pub fn envelope(&self) -> Bytes {
        self.bytes.slice(..signed_len(&self.bytes) + 2 + BLOB_LEN)
    }

    /// The raw SSHSIG blob.
    #[must_use]
    pub fn blob(&self) -> &[u8; BLOB_LEN] {
        signed_and_blob(&self.bytes).1
    }

    /// The batch's name: SHA-256 of [`Batch::signed_part`]. Computed at each call.
    #[must_use]
    pub fn id(&self) -> BatchId {
        BatchId(Sha256::digest(self.signed_part()).into())
    }

    /// The messages in order, each with the SHA-256 that the manifest gives it.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&[u8], &[u8; 32])> {
        entries(&self.bytes)
    }

    /// The messages in order; their bytes are shared, not copied.
    pub fn messages(&self) -> impl Iterator<Item = Message> + '_ {
        let first = self.first();
        let mut at = signed_len(&self.bytes) + 2 + BLOB_LEN;
        let manifest = HEADER_LEN + kind_len(&self.bytes);
        (0..self.count()).map(move |index| {
            let length = u32_at(&self.bytes, manifest + index * ENTRY_LEN) as usize;
            let body = self.bytes.slice(at..at + length);
            at += length;
            Message { position: Position::new(first.epoch, first.number + index as u64), body }
        })
    }
}

/// Every check of [`Batch::parse`].
fn check(bytes: &[u8]) -> Result<(), BatchError> {
    let head = bytes
        .first_chunk::<8>()
        .ok_or(BatchError::Length { found: bytes.len(), expected: HEADER_LEN })?;
    let length = announced_len(head)?;
    if length != bytes.len() {
        return Err(BatchError::Length { found: bytes.len(), expected: length });
    }
    let head = check_envelope(bytes)?;
    let expected = head.envelope_len as u64 + head.body_len;
    if expected != length as u64 {
        return Err(BatchError::Length {
            found: length,
            expected: usize::try_from(expected).unwrap_or(usize::MAX),
        });
    }
    Ok(())
}

/// What a well-formed envelope says about lengths, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lengths {
    /// Header, kind, manifest and signature.
    pub(crate) envelope_len: usize,
    /// All messages.
    pub(crate) body_len: u64,
}

/// Checks header, kind, manifest and the wording of the signature, but not the announced length.
/// `bytes` may end after the signature, or go on.
pub(crate) fn check_envelope(bytes: &[u8]) -> Result<Lengths, BatchError> {
    if bytes.len() < HEADER_LEN {
        return Err(BatchError::Length { found: bytes.len(), expected: HEADER_LEN });
    }
    if bytes[..4] != MAGIC {
        return Err(BatchError::Magic);
    }
    let count = count(bytes);
    if !(1..=BATCH_MESSAGES_MAX).contains(&count) {
        return Err(BatchError::Count(count));
    }
    if bytes[at::FLAGS] & !FLAG_DURABLE != 0 {
        return Err(BatchError::Flags(bytes[at::FLAGS]));
    }
    if kind_len(bytes) > KIND_MAX {
        return Err(BatchError::Kind);
    }
    let signed = signed_len(bytes);
    if bytes.len() < signed + 2 + BLOB_LEN {
        return Err(BatchError::Length { found: bytes.len(), expected: signed + 2 + BLOB_LEN });
    }
    if !is_kind(&bytes[HEADER_LEN..HEADER_LEN + kind_len(bytes)]) {
        return Err(BatchError::Kind);
    }
    let first = u64_at(bytes, at::FIRST);
    if first == 0 || first.checked_add(count as u64).is_none() || u64_at(bytes, at::EPOCH) == 0 {
        return Err(BatchError::Number);
    }
    if (first == 1) != (bytes[at::PREVIOUS..][..32] == BatchId::NONE.0) {
        return Err(BatchError::Previous);
    }
    let manifest = &bytes[HEADER_LEN + kind_len(bytes)..signed];
    let body: u64 = manifest.chunks_exact(ENTRY_LEN).map(|entry| u64::from(u32_at(entry, 0))).sum();
    if body > BATCH_BODY_MAX as u64 {
        return Err(BatchError::Body(body));
    }
    let blob_len = usize::from(u16_at(bytes, signed));
    let origin = &bytes[at::ORIGIN..][..32];
    if blob_len != BLOB_LEN || !signature::is_worded(&bytes[signed + 2..][..BLOB_LEN], origin) {
        return Err(BatchError::Signature);
    }
    let envelope_len = signed + 2 + BLOB_LEN;
    if u64::from(u32_at(bytes, at::LENGTH)) != envelope_len as u64 + body {
        let expected = envelope_len + usize::try_from(body).unwrap_or(usize::MAX);
        return Err(BatchError::Length { found: u32_at(bytes, at::LENGTH) as usize, expected });
    }
    Ok(Lengths { envelope_len, body_len: body })
}

// Fields of a checked envelope.

pub(crate) fn network_of(envelope: &[u8]) -> Digest {
    Digest(array_at(envelope, at::NETWORK))
}

pub(crate) fn origin_of(envelope: &[u8]) -> Origin {
    Origin(array_at(envelope, at::ORIGIN))
}

pub(crate) fn first_of(envelope: &[u8]) -> Position {
    Position::new(u64_at(envelope, at::EPOCH), u64_at(envelope, at::FIRST))
}

/// First and last position.
pub(crate) fn range_of(envelope: &[u8]) -> (Position, Position) {
    let first = first_of(envelope);
    (first, Position::new(first.epoch, first.number + (count(envelope) as u64 - 1)))
}

pub(crate) fn issued_of(envelope: &[u8]) -> UnixSeconds {
    UnixSeconds(u64_at(envelope, at::ISSUED))
}

pub(crate) fn previous_of(envelope: &[u8]) -> BatchId {
    BatchId(array_at(envelope, at::PREVIOUS))
}

pub(crate) fn kind_of(envelope: &[u8]) -> Kind {
    Kind(Bytes::copy_from_slice(&envelope[HEADER_LEN..HEADER_LEN + kind_len(envelope)]))
}

/// Length and digest of one message, by the manifest.
pub(crate) fn entry_at(envelope: &[u8], index: usize) -> Option<(u32, [u8; 32])> {
    let entry =
        (index < count(envelope)).then(|| HEADER_LEN + kind_len(envelope) + index * ENTRY_LEN)?;
    Some((u32_at(envelope, entry), array_at(envelope, entry + 4)))
}

/// What is signed, and the signature's blob.
pub(crate) fn signed_and_blob(envelope: &[u8]) -> (&[u8], &[u8; BLOB_LEN]) {
    let signed = signed_len(envelope);
    let blob = envelope[signed + 2..].first_chunk().expect("an envelope holds its signature");
    (&envelope[..signed], blob)
}

/// The origin's key, if it is one and the signature is its; messages are not looked at.
pub(crate) fn verify_envelope(envelope: &[u8]) -> Option<PublicKey> {
    let key = origin_of(envelope).key()?;
    let (signed, blob) = signed_and_blob(envelope);
    key.verifies(signature::namespace(), signed, &signature::signature_of(blob)).then_some(key)
}

fn entries(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8; 32])> {
    let signed = signed_len(bytes);
    let manifest = &bytes[HEADER_LEN + kind_len(bytes)..signed];
    let mut rest = &bytes[signed + 2 + BLOB_LEN..];
    manifest.chunks_exact(ENTRY_LEN).map(move |entry| {
        let (message, after) = rest.split_at(u32_at(entry, 0) as usize);
        rest = after;
        (message, entry[4..].first_chunk().expect("an entry has 36 bytes"))
    })
}

fn count(bytes: &[u8]) -> usize {
    usize::from(u16_at(bytes, at::COUNT))
}

fn kind_len(bytes: &[u8]) -> usize {
    usize::from(bytes[at::KIND_LEN])
}

pub(crate) fn signed_len(bytes: &[u8]) -> usize {
    HEADER_LEN + kind_len(bytes) + count(bytes) * ENTRY_LEN
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..][..N].try_into().expect("N bytes are N bytes")
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array_at(bytes, at))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array_at(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(array_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::{Verdict, verify};
    use crate::stage;

    #[test]
    fn says_what_was_put_in() {
        let batch = stage::batch(41, &[b"one", b"", b"three"]);
        assert_eq!(verify(&batch), Verdict::Good(batch.id()));
        assert_eq!(batch.network(), stage::network());
        assert_eq!(batch.origin(), stage::key().public().into());
        assert_eq!((batch.first().number, batch.last().number, batch.count()), (41, 43, 3));
        assert_eq!((batch.kind().as_str(), batch.durability()), ("chat", Durability::Durable));
        assert_eq!(batch.previous(), BatchId([1; 32]));
        let bodies: Vec<Bytes> = batch.messages().map(|message| message.body).collect();
        assert_eq!(bodies, [&b"one"[..], b"", b"three"]);
        // Shared, not copied.
        let inside = batch.bytes().as_ptr_range();
        assert!(inside.contains(&bodies[0].as_ptr()));
    }

    #[test]
    fn no_flipped_bit_passes() {
        let good = stage::batch(1, &[b"some", b"messages"]);
        for bit in 0..good.len() * 8 {
            let mut bad = good.bytes().to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            let passes = Batch::parse(bad.into())
                .is_ok_and(|batch| matches!(verify(&batch), Verdict::Good(_)));
            assert!(!passes, "bit {bit}");
        }
    }

    #[test]
    fn mutated_batches_never_panic_and_never_pass() {
        let good = stage::batch(7, &[b"some", b"messages", &[0; 300]]);
        let mut random = stage::random(1);
        let mut parsed = 0;
        for round in 0..20_000 {
            let mut bytes = good.bytes().to_vec();
            stage::mutate(&mut bytes, &mut random);
            if bytes == *good.bytes() {
                continue;
            }
            let Ok(batch) = Batch::parse(bytes.into()) else { continue };
            parsed += 1;
            assert_eq!(batch.messages().count(), batch.count(), "round {round}");
            // 48 us each: a sample of those that reach the signature is enough.
            if parsed % 16 == 0 {
                assert!(matches!(verify(&batch), Verdict::Bad(_)), "round {round}");
            }
        }
        assert!(parsed > 100, "only {parsed} mutants were well-formed");
    }

    #[test]
    fn the_bounds_hold() {
        let most = vec![&b"x"[..]; BATCH_MESSAGES_MAX];
        assert_eq!(stage::batch(1, &most).count(), BATCH_MESSAGES_MAX);
        let mut many = stage::batch(1, &most).bytes().to_vec();
        many[at::COUNT + 1] = 65;
        assert_eq!(Batch::parse(many.into()), Err(BatchError::Count(65)));
        let large = vec![0; BATCH_BODY_MAX];
        let largest = stage::batch(1, &[&large]);
        assert!(largest.len() <= BATCH_MAX);
        assert!(matches!(verify(&largest), Verdict::Good(_)));
        assert!(Kind::new("a b").is_err() && Kind::new(&"k".repeat(33)).is_err());
    }

    #[test]
    fn numbers_do_not_overflow() {
        let mut bytes = stage::batch(2, &[b"a", b"b"]).bytes().to_vec();
        bytes[at::FIRST..][..8].copy_from_slice(&(u64::MAX - 1).to_be_bytes());
        assert_eq!(Batch::parse(bytes.clone().into()), Err(BatchError::Number));
        bytes[at::FIRST..][..8].fill(0);
        assert_eq!(Batch::parse(bytes.into()), Err(BatchError::Number));
    }

    #[test]
    fn only_the_first_batch_of_an_epoch_has_no_predecessor() {
        let mut bytes = stage::batch(2, &[b"a"]).bytes().to_vec();
        bytes[at::PREVIOUS..][..32].fill(0);
        assert_eq!(Batch::parse(bytes.into()), Err(BatchError::Previous));
    }
}
