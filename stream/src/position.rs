//! Where in an origin's stream something is.

use core::fmt;

use borgios_types::PublicKey;

/// An origin, known by the 32 bytes of the Ed25519 key that signs its batches.
///
/// Bytes as they stand in a header: they need not be a usable key, for finding that out costs 10 us
/// and the answer is in every verdict. [`Origin::key`] makes a key of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(pub [u8; 32]);

impl Origin {
    /// The key, if it is a usable one.
    #[must_use]
    pub fn key(&self) -> Option<PublicKey> {
        PublicKey::from_bytes(self.0).ok()
    }
}

impl From<PublicKey> for Origin {
    fn from(key: PublicKey) -> Self {
        Self(key.to_bytes())
    }
}

/// 64 hexadecimal digits.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The first eight digits.
impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin(")?;
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, ")")
    }
}

/// The place of one message in its origin's stream: the log's generation, then the number.
///
/// Ordered as the stream is: all of an older epoch comes before all of a newer one. The position
/// before everything is [`Position::START`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The origin's log generation: unix seconds at which that log began.
    pub epoch: u64,
    /// Number of the message in this epoch, from 1.
    pub number: u64,
}

impl Position {
    /// Before the first message of the first epoch.
    pub const START: Self = Self { epoch: 0, number: 0 };

    /// The position just before this one; number 0 if it is the first of its epoch.
    #[must_use]
    pub fn before(self) -> Self {
        Self { epoch: self.epoch, number: self.number.saturating_sub(1) }
    }

    /// Whether a message at `first` directly follows one here, in the same epoch.
    #[must_use]
    pub fn is_followed_by(self, first: Self) -> bool {
        self.epoch == first.epoch && self.number.checked_add(1) == Some(first.number)
    }

    /// The position of message `number` of `epoch`.
    #[must_use]
    pub fn new(epoch: u64, number: u64) -> Self {
        Self { epoch, number }
    }
}

/// `epoch/number`, for people.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.number)
    }
}

/// SHA-256 of what a batch's signature covers: header, kind and manifest. Names the batch, and
/// with it the origin's history up to it, for each batch names its predecessor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub [u8; 32]);

impl BatchId {
    /// What the first batch of an epoch names as its predecessor.
    pub const NONE: Self = Self([0; 32]);
}

/// How far a node holds the stream of one origin: its last whole batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whose stream.
    pub origin: Origin,
    /// The last message held.
    pub last: Position,
    /// The batch that ends with it.
    pub id: BatchId,
}
