//! Bounded logs of batches, one per origin, and the jobs that the core gives them.

mod disk;
#[cfg(test)]
mod fake;
mod host;
mod memory;
mod opening;
mod record;
mod segments;
mod serving;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_starts;

use thiserror::Error;

use crate::batch::Batch;
use crate::bounds;
use crate::evidence::Evidence;
use crate::io::LinkId;
use crate::jobs::JobId;
use crate::position::{BatchId, Head, Origin, Position};

pub use disk::DiskLog;
pub use host::{Disk, RealDisk};
pub use memory::MemoryLog;
pub use serving::serve;

/// How much a log keeps: the oldest goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of one stream.
    pub stream_bytes: u64,
    /// Most messages of one stream.
    pub stream_messages: u64,
    /// Most bytes of all streams; the largest stream gives way first, so that no origin pushes out
    /// what others said.
    pub node_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            stream_bytes: bounds::STREAM_BYTES,
            stream_messages: bounds::STREAM_MESSAGES,
            node_bytes: bounds::NODE_BYTES,
        }
    }
}

/// What the core asks of the log. Jobs are done in order.
#[derive(Clone, Debug)]
pub enum LogJob {
    /// Append this verified batch, and answer when it is stored.
    Append {
        /// Named in the answer.
        job: JobId,
        /// Whose.
        origin: Origin,
        /// The batch.
        batch: Batch,
        /// Its name.
        id: BatchId,
        /// The last message of the batch before it here; a log that ends elsewhere refuses it.
        after: Position,
        /// Whether this node is the origin.
        own: bool,
    },
    /// Remove everything of an origin that is no member any more, except evidence.
    Forget {
        /// Whose.
        origin: Origin,
    },
    /// Read whole batches.
    Read {
        /// Whose.
        origin: Origin,
        /// The last message that is not wanted.
        after: Position,
        /// Most bytes; one batch is read in any case.
        max_bytes: usize,
        /// For whom.
        reader: Reader,
    },
    /// Keep this evidence.
    Keep(Evidence),
}

/// For whom the log is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A neighbour that asked.
    Link(LinkId),
    /// The application, which lags behind.
    Application,
    /// The core itself: it looks for the batch that contradicts another.
    Evidence,
}

/// The log's answer to a job.
#[derive(Clone, Debug)]
pub enum LogAnswer {
    /// This batch, and any before it, is stored as its durability asks.
    Stored {
        /// The append.
        job: JobId,
        /// Whose.
        origin: Origin,
    },
    /// This batch was not stored, nor will be any that follows it; the log is as it was.
    NotStored {
        /// The append.
        job: JobId,
        /// Whose.
        origin: Origin,
        /// Why.
        error: LogError,
    },
    /// Evidence could not be kept; the core asks again.
    NotKept {
        /// Against whom.
        origin: Origin,
        /// Why.
        error: LogError,
    },
    /// What was read.
    Read {
        /// Whose.
        origin: Origin,
        /// As asked.
        after: Position,
        /// For whom.
        reader: Reader,
        /// What was found.
        found: Result<Found, LogError>,
    },
}

/// What a reader finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Whole batches in order, none when there is nothing after the position.
    Batches(Vec<Batch>),
    /// What follows was removed by retention; the first message still there is this.
    Gone {
        /// The first message still there.
        next: Position,
    },
}

/// Why a log did not do what it was asked; it is as it was before.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LogError {
    /// No space, or a quota.
    #[error("the disk is full")]
    Full,
    /// The batch does not follow the last one.
    #[error("the batch does not follow the last one of the log")]
    OutOfOrder,
    /// The disk failed.
    #[error("the disk failed: {0}")]
    Disk(String),
    /// What was written before is not sure to be there: nothing is accepted until it is opened again.
    #[error("the log is broken until it is opened again")]
    Broken,
}

/// What a log held when it was opened.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Each stream.
    pub streams: Vec<RecoveredStream>,
    /// The epoch in which this node's own stream goes on: the last one where its end is certain, a
    /// new one where messages may have been sent that are not in the log any more.
    pub own_epoch: Option<u64>,
    /// Origins whose streams were stopped.
    pub stopped: Vec<Evidence>,
}

/// One stream that a log held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveredStream {
    /// How far it goes.
    pub head: Head,
    /// What the application had taken.
    pub taken: Position,
}

/// A log of all streams of one node. Called from one thread.
pub trait Log {
    /// Writes a batch after the last one of its origin, which must end at `after`; what is between
    /// the two is gone for good. It is sure to be there after [`Log::sync`] only.
    ///
    /// # Errors
    /// See [`LogError`]; the log is then as it was.
    fn append(
        &mut self,
        origin: &Origin,
        batch: &Batch,
        id: BatchId,
        after: Position,
        own: bool,
    ) -> Result<(), LogError>;

    /// Makes everything appended so far survive a loss of power.
    ///
    /// # Errors
    /// What was appended since the last sync is then gone from the log, or the log is
    /// [`LogError::Broken`].
    fn sync(&mut self) -> Result<(), LogError>;

    /// Reads whole batches after a position, oldest first, at most `max_bytes` of them but one in
    /// any case.
    ///
    /// # Errors
    /// The disk failed, or what it holds is no batch any more.
    fn read_after(
        &mut self,
        origin: &Origin,
        after: Position,
        max_bytes: usize,
    ) -> Result<Found, LogError>;

    /// The application has taken everything of this origin up to here.
    ///
    /// # Errors
    /// The disk failed.
    fn taken(&mut self, origin: &Origin, upto: Position) -> Result<(), LogError>;

    /// Keeps evidence; once for each origin.
    ///
    /// # Errors
    /// The disk failed.
    fn keep(&mut self, evidence: &Evidence) -> Result<(), LogError>;

    /// Removes everything of an origin that is no member any more, except evidence.
    ///
    /// # Errors
    /// The disk failed.
    fn forget(&mut self, origin: &Origin) -> Result<(), LogError>;

    /// Bytes held for readers.
    fn bytes(&self) -> u64;
}

/// Whether a message at `first` directly follows or overlaps a stream read up to `after`: no
/// message is known to be between them.
pub(crate) fn joins(after: Position, first: Position) -> bool {
    if first.epoch == after.epoch {
        first.number <= after.number.saturating_add(1)
    } else {
        first.epoch > after.epoch && first.number == 1
    }
}
