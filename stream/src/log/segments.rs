//! One stream on disk: its segments, oldest first, and where batches lie in them.
//!
//! ```text
//! ORIGIN/EPOCH-FIRST.seg   records, one after the other; hexadecimal, so that names sort
//! ORIGIN/head              where the stream ends, once retention has taken all of its segments
//! ORIGIN/floor             the last message of the last epoch that retention has taken all segments of
//! ORIGIN/taken             what the application has taken
//! ```

use std::collections::VecDeque;

use crate::batch::Batch;
use crate::bounds::INDEX_BYTES;
use crate::position::{BatchId, Origin, Position};

/// One stream.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) folder: String,
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
    /// The last message that retention removed.
    pub(crate) floor: Position,
    pub(crate) head: Position,
    pub(crate) head_id: BatchId,
    pub(crate) taken: Position,
}

/// One file of it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: String,
    pub(crate) last: Position,
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
    /// Some batches: first position and offset.
    index: Vec<(Position, u64)>,
}

impl Stored {
    pub(crate) fn new(origin: &Origin) -> Self {
        Self {
            folder: origin.to_string(),
            segments: VecDeque::new(),
            bytes: 0,
            messages: 0,
            floor: Position::START,
            head: Position::START,
            head_id: BatchId::NONE,
            taken: Position::START,
        }
    }

    /// The path of a segment that begins with this message.
    pub(crate) fn path_of(&self, first: Position) -> String {
        format!("{}/{:016x}-{:016x}.seg", self.folder, first.epoch, first.number)
    }

    /// A batch stands at the end of the last segment now.
    pub(crate) fn note_append(&mut self, batch: &Batch, id: BatchId, length: u64) {
        let segment = self.segments.back_mut().expect("a segment was opened for the batch");
        segment.note(batch, length);
        self.bytes += length;
        self.messages += batch.count() as u64;
        self.head = batch.last();
        self.head_id = id;
    }

    /// Takes the oldest segment out; the file is still there.
    pub(crate) fn drop_oldest(&mut self) -> Option<Segment> {
        let segment = self.segments.pop_front()?;
        self.bytes -= segment.bytes;
        self.messages -= segment.messages;
        self.floor = segment.last;
        Some(segment)
    }
}

impl Segment {
    pub(crate) fn new(path: String) -> Self {
        Self { path, last: Position::START, bytes: 0, messages: 0, index: Vec::new() }
    }

    pub(crate) fn note(&mut self, batch: &Batch, length: u64) {
        if self.index.last().is_none_or(|(_, offset)| self.bytes - offset >= INDEX_BYTES) {
            self.index.push((batch.first(), self.bytes));
        }
        self.bytes += length;
        self.messages += batch.count() as u64;
        self.last = batch.last();
    }

    /// Whether its first message is of a later epoch than the last one of the segment before it.
    pub(crate) fn begins_epoch_after(&self, before: &Self) -> bool {
        self.index.first().is_some_and(|(first, _)| first.epoch > before.last.epoch)
    }

    /// An offset at or before the first batch that ends after this position.
    pub(crate) fn offset_after(&self, after: Position) -> u64 {
        let next = self.index.partition_point(|(first, _)| *first <= after);
        next.checked_sub(1).map_or(0, |entry| self.index[entry].1)
    }
}
