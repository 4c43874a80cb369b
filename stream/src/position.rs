//! Where in an origin's stream something is.

use core::fmt;

use borgios_types::PublicKey;

/// An origin is known by the key that signs its batches.
pub type Origin = PublicKey;

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
