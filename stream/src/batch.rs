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

use borgios_types::{Digest, UnixSeconds};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::bounds::{BATCH_BODY_MAX, BATCH_MAX, BATCH_MESSAGES_MAX, KIND_MAX};
use crate::position::{BatchId, Position};
use crate::signature::BLOB_LEN;

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
        Digest(array_at(&self.bytes, at::NETWORK))
    }

    /// The 32 bytes of the key that should have signed it. They need not be a key.
    #[must_use]
    pub fn origin_bytes(&self) -> &[u8; 32] {
        self.bytes[at::ORIGIN..][..32].try_into().expect("32 bytes are 32 bytes")
    }

    /// The origin's log generation.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        u64_at(&self.bytes, at::EPOCH)
    }

    /// Position of the first message.
    #[must_use]
    pub fn first(&self) -> Position {
        Position::new(self.epoch(), u64_at(&self.bytes, at::FIRST))
    }

    /// Position of the last message.
    #[must_use]
    pub fn last(&self) -> Position {
        let first = self.first();
        Position::new(first.epoch, first.number + (self.count() as u64 - 1))
    }

    /// How many messages.
    #[must_use]
    pub fn count(&self) -> usize {
        count(&self.bytes)
    }

    /// When the origin says that it signed it.
    #[must_use]
    pub fn issued(&self) -> UnixSeconds {
        UnixSeconds(u64_at(&self.bytes, at::ISSUED))
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
        BatchId(array_at(&self.bytes, at::PREVIOUS))
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
    pub fn blob(&self) -> &[u8] {
        &self.bytes[signed_len(&self.bytes) + 2..][..BLOB_LEN]
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
    let body = check_envelope(bytes)?;
    let expected = signed_len(bytes) as u64 + 2 + BLOB_LEN as u64 + body;
    if expected != length as u64 {
        return Err(BatchError::Length {
            found: length,
            expected: usize::try_from(expected).unwrap_or(usize::MAX),
        });
    }
    Ok(())
}

/// Checks header, kind, manifest and the wording of the signature; returns the length of all
/// messages. `bytes` may end after the signature.
pub(crate) fn check_envelope(bytes: &[u8]) -> Result<u64, BatchError> {
    if bytes.len() < HEADER_LEN {
        return Err(BatchError::Length { found: bytes.len(), expected: HEADER_LEN });
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
    if blob_len != BLOB_LEN
        || !crate::signature::is_worded(&bytes[signed + 2..][..BLOB_LEN], origin)
    {
        return Err(BatchError::Signature);
    }
    Ok(body)
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
