//! The log on disk: one folder per stream, segments of whole batches, group sync.

use std::path::Path;

use borgios_types::UnixSeconds;

use crate::batch::Batch;
use crate::evidence::Evidence;
use crate::log::{Found, Limits, Log, LogError, MemoryLog, Recovered};
use crate::position::{BatchId, Origin, Position};

/// The log of a node, in a folder of its own.
#[derive(Debug)]
pub struct DiskLog {
    // The disk's own structure takes this place.
    streams: MemoryLog,
}

impl DiskLog {
    /// Opens or makes the log in `folder`: cuts torn tails, rebuilds the index.
    ///
    /// `me` is this node, whose own stream must not number two messages alike; `now` begins its new
    /// epoch where one is needed.
    ///
    /// # Errors
    /// The disk failed.
    pub fn open(
        folder: &Path,
        limits: Limits,
        me: Origin,
        now: UnixSeconds,
    ) -> Result<(Self, Recovered), LogError> {
        let _ = (folder, me, now);
        Ok((Self { streams: MemoryLog::new(limits) }, Recovered::default()))
    }

    /// Syncs everything and notes a clean end, so that the own stream's epoch goes on.
    ///
    /// # Errors
    /// The disk failed.
    pub fn close(mut self) -> Result<(), LogError> {
        self.streams.sync()
    }
}

impl Log for DiskLog {
    fn append(
        &mut self,
        origin: &Origin,
        batch: &Batch,
        id: BatchId,
        after: Position,
        own: bool,
    ) -> Result<(), LogError> {
        self.streams.append(origin, batch, id, after, own)
    }

    fn sync(&mut self) -> Result<(), LogError> {
        self.streams.sync()
    }

    fn read_after(
        &mut self,
        origin: &Origin,
        after: Position,
        max_bytes: usize,
    ) -> Result<Found, LogError> {
        self.streams.read_after(origin, after, max_bytes)
    }

    fn taken(&mut self, origin: &Origin, upto: Position) -> Result<(), LogError> {
        self.streams.taken(origin, upto)
    }

    fn keep(&mut self, evidence: &Evidence) -> Result<(), LogError> {
        self.streams.keep(evidence)
    }

    fn forget(&mut self, origin: &Origin) -> Result<(), LogError> {
        self.streams.forget(origin)
    }

    fn bytes(&self) -> u64 {
        self.streams.bytes()
    }
}
