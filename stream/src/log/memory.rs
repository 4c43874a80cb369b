//! A log in memory: for nodes that keep nothing, for simulations and benchmarks.

use std::collections::{BTreeMap, VecDeque};

use crate::batch::Batch;
use crate::evidence::Evidence;
use crate::log::{Found, Limits, Log, LogError, joins};
use crate::position::{BatchId, Origin, Position};

/// A log whose bytes are gone with the program.
#[derive(Debug)]
pub struct MemoryLog {
    limits: Limits,
    streams: BTreeMap<Origin, Stream>,
    evidence: BTreeMap<Origin, Evidence>,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Stream {
    batches: VecDeque<Batch>,
    bytes: u64,
    messages: u64,
    /// The last message that retention removed.
    floor: Position,
    head: Position,
}

impl Stream {
    fn drop_oldest(&mut self) -> u64 {
        let Some(batch) = self.batches.pop_front() else { return 0 };
        let length = batch.len() as u64;
        self.bytes -= length;
        self.messages -= batch.count() as u64;
        self.floor = batch.last();
        length
    }
}

impl MemoryLog {
    /// An empty log.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, streams: BTreeMap::new(), evidence: BTreeMap::new(), bytes: 0 }
    }

    /// The largest stream gives way until the node's bound holds.
    fn retain(&mut self) {
        while self.bytes > self.limits.node_bytes {
            let largest = self.streams.values_mut().max_by_key(|stream| stream.bytes);
            let freed = largest.map_or(0, Stream::drop_oldest);
            if freed == 0 {
                return;
            }
            self.bytes -= freed;
        }
    }
}

impl Log for MemoryLog {
    fn append(
        &mut self,
        origin: &Origin,
        batch: &Batch,
        _id: BatchId,
        after: Position,
        _own: bool,
    ) -> Result<(), LogError> {
        let stream = self.streams.entry(*origin).or_default();
        if after != stream.head || batch.first() <= after {
            return Err(LogError::OutOfOrder);
        }
        stream.head = batch.last();
        stream.bytes += batch.len() as u64;
        stream.messages += batch.count() as u64;
        self.bytes += batch.len() as u64;
        stream.batches.push_back(batch.clone());
        while stream.batches.len() > 1
            && (stream.bytes > self.limits.stream_bytes
                || stream.messages > self.limits.stream_messages)
        {
            self.bytes -= stream.drop_oldest();
        }
        self.retain();
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogError> {
        Ok(())
    }

    fn read_after(
        &mut self,
        origin: &Origin,
        after: Position,
        max_bytes: usize,
    ) -> Result<Found, LogError> {
        let Some(stream) = self.streams.get(origin) else { return Ok(Found::Batches(Vec::new())) };
        if after >= stream.head {
            return Ok(Found::Batches(Vec::new()));
        }
        let start = stream.batches.partition_point(|batch| batch.last() <= after);
        let next = stream.batches.get(start).map_or(
            Position::new(stream.head.epoch, stream.head.number.saturating_add(1)),
            Batch::first,
        );
        if after < stream.floor || !joins(after, next) {
            return Ok(Found::Gone { next });
        }
        let (mut found, mut bytes, mut end) = (Vec::new(), 0, after);
        for batch in stream.batches.range(start..) {
            if !joins(end, batch.first()) || (bytes > 0 && bytes + batch.len() > max_bytes) {
                break;
            }
            bytes += batch.len();
            end = batch.last();
            found.push(batch.clone());
        }
        Ok(Found::Batches(found))
    }

    fn taken(&mut self, _origin: &Origin, _upto: Position) -> Result<(), LogError> {
        Ok(())
    }

    fn keep(&mut self, evidence: &Evidence) -> Result<(), LogError> {
        self.evidence.entry(evidence.origin()).or_insert_with(|| evidence.clone());
        Ok(())
    }

    fn forget(&mut self, origin: &Origin) -> Result<(), LogError> {
        if let Some(stream) = self.streams.remove(origin) {
            self.bytes -= stream.bytes;
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}
