//! What travels between two neighbours: frames of 4 bytes of type, 4 of length, and a body.
//!
//! A batch is its own frame: its magic is the type, its length the frame's. The pipe reads 8
//! bytes, asks [`frame_len`] how many there are in all, reads those and hands them to
//! [`Frame::parse`]; it never buffers more than [`FRAME_MAX`].

use bytes::Bytes;
use thiserror::Error;

use crate::batch::{self, Batch, BatchError};
use crate::bounds::{BATCH_MAX, CONTROL_MAX};
use crate::evidence::Evidence;
use crate::position::{BatchId, Head, Origin, Position};

/// Longest frame, in bytes.
pub const FRAME_MAX: usize = if BATCH_MAX > CONTROL_MAX { BATCH_MAX } else { CONTROL_MAX };

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// `BGS1`: a batch.
    Batch(Batch),
    /// `BGSd`: how many streams the sender holds, and the exclusive or of their heads' hashes.
    Digest(HeadsDigest),
    /// `BGSh`: heads, at most [`HEADS_PAGE_MAX`](crate::bounds::HEADS_PAGE_MAX).
    Heads(Vec<Head>),
    /// `BGSf`: send me what comes after this position, at most `window` bytes of it.
    Fetch(Fetch),
    /// `BGSs`: this is the end of an answer to a fetch; the sender's head is this.
    Served(Served),
    /// `BGSg`: what was asked for is gone; what is left begins after `after`.
    Gone(Gone),
    /// `BGSe`: an origin equivocated.
    Evidence(Evidence),
    /// `BGSx`: I forwarded this to you before I had verified it, and it is a forgery.
    Disown(Disown),
}

/// What two neighbours compare first: equal digests, equal logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadsDigest {
    /// Streams held.
    pub count: u32,
    /// Exclusive or over all streams of SHA-256(origin, epoch, last number, batch id).
    pub xor: [u8; 32],
}

/// A request for a part of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Whose stream.
    pub origin: Origin,
    /// The last message that the asker has.
    pub after: Position,
    /// Most bytes of the answer; one batch is sent in any case.
    pub window: u32,
}

/// The end of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Whose stream.
    pub origin: Origin,
    /// The last message that the answering node has stored.
    pub head: Position,
}

/// The answer to a request for what retention has removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Whose stream.
    pub origin: Origin,
    /// The first message still there.
    pub next: Position,
}

/// A forwarded forgery, told to those it was forwarded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disown {
    /// The origin that the forgery names.
    pub origin: Origin,
    /// Its first position.
    pub first: Position,
    /// Its name.
    pub id: BatchId,
}

/// Why bytes are no frame; the link they came over is cut.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A type that is not known.
    #[error("a frame of unknown type")]
    Type,
    /// Longer or shorter than its type allows.
    #[error("a frame of {0} bytes")]
    Length(usize),
    /// A body that is not laid out as its type asks.
    #[error("a malformed frame")]
    Malformed,
    /// A malformed batch.
    #[error("a malformed batch")]
    Batch(#[source] BatchError),
}

/// The length of the whole frame that its first 8 bytes announce.
///
/// # Errors
/// [`FrameError::Type`], [`FrameError::Length`], [`FrameError::Batch`].
pub fn frame_len(head: &[u8; 8]) -> Result<usize, FrameError> {
    if head[..4] == batch::MAGIC {
        return batch::announced_len(head).map_err(FrameError::Batch);
    }
    Err(FrameError::Type)
}

impl Frame {
    /// Reads one whole frame. A batch in it shares `bytes`.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn parse(bytes: Bytes) -> Result<Self, FrameError> {
        Batch::parse(bytes).map(Self::Batch).map_err(FrameError::Batch)
    }
}
