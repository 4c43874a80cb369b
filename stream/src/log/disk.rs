//! The log on disk: one folder per stream, segments of whole batches, group sync.
//!
//! ```text
//! FOLDER/own               the last epoch in which this node may have sent what is not here
//! FOLDER/evidence-ORIGIN   two envelopes that contradict each other
//! FOLDER/ORIGIN/…          see segments.rs
//! ```
//!
//! What holds after a crash anywhere: whatever was answered with success and asked for a sync is
//! there; a torn record at the end of a stream is cut off at the next start. A write that fails is
//! undone. A *sync* that fails leaves nobody knowing what the disk holds: the log takes nothing more
//! until it is opened again ([`DiskLog::reopen`]), and looks then.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use borgios_types::UnixSeconds;
use bytes::Bytes;

use crate::batch::{Batch, Durability};
use crate::bounds::{BATCH_MAX, SEGMENT_BYTES, SYNC_FILES_MAX};
use crate::evidence::Evidence;
use crate::log::host::{Disk, RealDisk};
use crate::log::record::{self, Record};
use crate::log::segments::{Segment, Stored};
use crate::log::{Found, Limits, Log, LogError, Recovered, joins, opening};
use crate::position::{BatchId, Origin, Position};

/// Where the last own epoch is noted whose end may not be here.
pub(crate) const OWN: &str = "own";
/// Begins the name of a file with evidence.
pub(crate) const EVIDENCE: &str = "evidence-";
/// Ends the name of a file that is not finished.
pub(crate) const UNFINISHED: &str = ".new";

/// The log of a node, in a folder of its own.
#[derive(Debug)]
pub struct DiskLog<D: Disk = RealDisk> {
    pub(crate) disk: D,
    limits: Limits,
    /// Where a segment ends; smaller in tests.
    pub(crate) segment_bytes: u64,
    pub(crate) streams: BTreeMap<Origin, Stored>,
    /// Streams by size, so that the largest one gives way.
    sizes: BTreeSet<(u64, Origin)>,
    bytes: u64,
    /// Files and folders with bytes and names that were not synced.
    dirty_files: BTreeSet<String>,
    dirty_folders: BTreeSet<String>,
    /// What stands in [`OWN`].
    pub(crate) own_epoch_unsynced: Option<u64>,
    /// The last own epoch that no clean end makes certain again: its end was lost, or came from others.
    pub(crate) own_epoch_left: Option<u64>,
    me: Origin,
    broken: bool,
}

impl DiskLog<RealDisk> {
    /// Opens or makes the log in `folder`: cuts torn tails, rebuilds the index.
    ///
    /// `me` is this node, whose own stream must not number two messages alike; `now` begins its new
    /// epoch where one is needed. At most one program may have it open.
    ///
    /// # Errors
    /// The disk failed.
    pub fn open(
        folder: &Path,
        limits: Limits,
        me: Origin,
        now: UnixSeconds,
    ) -> Result<(Self, Recovered), LogError> {
        Self::open_on(RealDisk::new(folder).map_err(failed)?, limits, me, now)
    }
}

impl<D: Disk> DiskLog<D> {
    /// The same on any disk.
    ///
    /// # Errors
    /// The disk failed.
    pub fn open_on(
        disk: D,
        limits: Limits,
        me: Origin,
        now: UnixSeconds,
    ) -> Result<(Self, Recovered), LogError> {
        let mut log = Self {
            disk,
            limits,
            segment_bytes: SEGMENT_BYTES,
            streams: BTreeMap::new(),
            sizes: BTreeSet::new(),
            bytes: 0,
            dirty_files: BTreeSet::new(),
            dirty_folders: BTreeSet::new(),
            own_epoch_unsynced: None,
            own_epoch_left: None,
            me,
            broken: false,
        };
        let recovered = opening::recover(&mut log, me, now).map_err(failed)?;
        log.count();
        Ok((log, recovered))
    }

    /// Whether it takes nothing until it is opened again.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Opens it again on the same disk, whose lock is kept, as [`DiskLog::open`] does.
    ///
    /// # Errors
    /// The disk failed again: nothing is taken, and what can be read is read as before.
    pub fn reopen(&mut self, now: UnixSeconds) -> Result<Recovered, LogError> {
        let streams = std::mem::take(&mut self.streams);
        let (unsynced, left) = (self.own_epoch_unsynced.take(), self.own_epoch_left.take());
        match opening::recover(self, self.me, now) {
            Ok(recovered) => {
                self.dirty_files.clear();
                self.dirty_folders.clear();
                self.own_epoch_left = self.own_epoch_left.max(left);
                self.count();
                self.broken = false;
                Ok(recovered)
            }
            Err(error) => {
                self.broken = true;
                self.streams = streams;
                (self.own_epoch_unsynced, self.own_epoch_left) = (unsynced, left);
                Err(failed(error))
            }
        }
    }

    /// Counts what was found, and removes what is too much of it.
    fn count(&mut self) {
        self.sizes = self.streams.iter().map(|(origin, s)| (s.bytes, *origin)).collect();
        self.bytes = self.streams.values().map(|stream| stream.bytes).sum();
        self.retain();
    }

    /// Syncs everything and notes a clean end, so that the own stream's epoch goes on.
    ///
    /// # Errors
    /// The disk failed; the next start begins a new epoch if this node published volatile messages.
    pub fn close(mut self) -> Result<(), LogError> {
        self.sync()?;
        let own = self.streams.get(&self.me).map_or(0, |stream| stream.head.epoch);
        let certain = self.own_epoch_left.is_none_or(|left| own > left);
        if certain && self.own_epoch_unsynced.is_some() {
            self.disk.remove(OWN).and_then(|()| self.disk.sync_folder("")).map_err(failed)?;
        }
        Ok(())
    }

    /// The disk, for tests.
    pub fn into_disk(self) -> D {
        self.disk
    }

    /// In this epoch may be sent, or was, what is not synced here: the next start must know.
    pub(crate) fn note_own_epoch(&mut self, epoch: u64) -> io::Result<()> {
        // What others hand back may be of an earlier epoch than the last one.
        let epoch = self.own_epoch_unsynced.map_or(epoch, |noted| noted.max(epoch));
        if self.own_epoch_unsynced != Some(epoch) {
            let note = record::note(Position::new(epoch, 0), BatchId::NONE);
            self.put(OWN, &note)?;
            self.own_epoch_unsynced = Some(epoch);
        }
        Ok(())
    }

    /// Replaces a small file as a whole, synced.
    pub(crate) fn put(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let new = format!("{path}{UNFINISHED}");
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        // What a crash left of an earlier attempt may be longer.
        self.disk.remove(&new)?;
        self.disk.write(&new, 0, bytes)?;
        self.disk.sync(&new)?;
        self.disk.rename(&new, path)?;
        self.disk.sync_folder(folder)
    }

    /// The last segment of a stream, or a new one if it has no room for `length` more bytes.
    fn segment_for(&mut self, origin: &Origin, first: Position, length: u64) -> io::Result<()> {
        let known = self.streams.get(origin);
        if let Some(last) = known.and_then(|stream| stream.segments.back()) {
            if last.bytes + length <= self.segment_bytes {
                return Ok(());
            }
            // A start looks thoroughly at the last segment only.
            if self.dirty_files.contains(&last.path) {
                if let Err(error) = self.disk.sync(&last.path) {
                    self.broken = true;
                    return Err(error);
                }
                self.dirty_files.remove(&last.path);
            }
        }
        if known.is_none() {
            let stream = Stored::new(origin);
            self.disk.make_folder(&stream.folder)?;
            self.dirty_folders.insert(String::new());
            self.sizes.insert((0, *origin));
            self.streams.insert(*origin, stream);
        }
        let stream = self.streams.get_mut(origin).expect("it is known, or was put there above");
        self.dirty_folders.insert(stream.folder.clone());
        let path = stream.path_of(first);
        stream.segments.push_back(Segment::new(path));
        Ok(())
    }

    fn try_append(&mut self, origin: &Origin, batch: &Batch, id: BatchId) -> Result<(), LogError> {
        let length = (record::FRONT + batch.len()) as u64;
        self.segment_for(origin, batch.first(), length).map_err(failed)?;
        let stream = self.streams.get_mut(origin).expect("segment_for put it there");
        let segment = stream.segments.back().expect("segment_for put it there");
        let (path, at) = (segment.path.clone(), segment.bytes);
        let front = record::front(batch);
        let written = self.disk.write_both(&path, at, &front, batch.bytes());
        if let Err(error) = written {
            let undone = if at == 0 {
                stream.segments.pop_back();
                self.disk.remove(&path)
            } else {
                self.disk.cut(&path, at)
            };
            // What is half written could be taken for the beginning of what comes next.
            self.broken |= undone.is_err();
            return Err(failed(error));
        }
        self.dirty_files.insert(path);
        self.sizes.remove(&(stream.bytes, *origin));
        stream.note_append(batch, id, length);
        self.sizes.insert((stream.bytes, *origin));
        self.bytes += length;
        Ok(())
    }

    /// The oldest segments go until the bounds hold: of this stream, then of the largest.
    fn retain_stream(&mut self, origin: &Origin) {
        loop {
            let Some(stream) = self.streams.get(origin) else { return };
            let over = stream.bytes > self.limits.stream_bytes
                || stream.messages > self.limits.stream_messages;
            if !over || stream.segments.len() < 2 || !self.drop_oldest(*origin) {
                return;
            }
        }
    }

    fn retain(&mut self) {
        while self.bytes > self.limits.node_bytes {
            let Some((_, origin)) = self.sizes.last().copied() else { return };
            if !self.drop_oldest(origin) {
                return;
            }
        }
    }

    /// False where nothing could be removed: the next append tries again.
    fn drop_oldest(&mut self, origin: Origin) -> bool {
        let Some(stream) = self.streams.get(&origin) else { return false };
        let note = match (stream.segments.front(), stream.segments.get(1)) {
            // The stream's end must be known when its last segment is gone.
            (Some(_), None) => Some(("head", record::note(stream.head, stream.head_id))),
            // What begins a new epoch does not tell that there was an old one.
            (Some(oldest), Some(next)) if next.begins_epoch_after(oldest) => {
                Some(("floor", record::note(oldest.last, BatchId::NONE)))
            }
            _ => None,
        };
        if let Some((name, note)) = note {
            let path = format!("{}/{name}", stream.folder);
            match self.put(&path, &note) {
                Ok(()) => {}
                // What goes makes room; without this note a reader of the old epoch hears after the next
                // start that nothing of it is gone.
                Err(error) if name == "floor" && is_full(&error) => {
                    // Should it stay, the next start removes it.
                    let _ = self.disk.remove(&format!("{path}{UNFINISHED}"));
                }
                Err(_) => return false,
            }
        }
        let Some(stream) = self.streams.get_mut(&origin) else { return false };
        self.sizes.remove(&(stream.bytes, origin));
        let dropped = stream.drop_oldest();
        self.sizes.insert((stream.bytes, origin));
        let Some(dropped) = dropped else { return false };
        self.bytes -= dropped.bytes;
        self.dirty_files.remove(&dropped.path);
        // Should it stay, the next start counts it again.
        self.disk.remove(&dropped.path).is_ok()
    }

    /// Reads from one segment; false when the reader has enough or meets a hole.
    fn read_segment(
        &mut self,
        origin: &Origin,
        index: usize,
        max_bytes: usize,
        reading: &mut Reading,
    ) -> Result<bool, LogError> {
        let segment = &self.streams[origin].segments[index];
        let offset = segment.offset_after(reading.end);
        let rest = usize::try_from(segment.bytes - offset).unwrap_or(usize::MAX);
        let most = max_bytes.saturating_sub(reading.bytes) + 3 * BATCH_MAX;
        let path = segment.path.clone();
        let mut bytes = Bytes::from(self.disk.read(&path, offset, rest.min(most)).map_err(failed)?);
        loop {
            let length = match record::read(&bytes, true) {
                Record::Whole(batch, length) => {
                    if !reading.take(batch, max_bytes) {
                        return Ok(false);
                    }
                    length
                }
                Record::Damaged(length) => length,
                // Of this block: it was cut at some batch, if more was left than read.
                Record::End => return Ok(rest <= most),
            };
            bytes = bytes.slice(length..);
        }
    }
}

/// What a reader has got so far.
struct Reading {
    end: Position,
    bytes: usize,
    batches: Vec<Batch>,
    /// What comes behind a hole.
    gone: Option<Position>,
}

impl Reading {
    /// Takes the next batch of the log; false when that was enough.
    fn take(&mut self, batch: Batch, max_bytes: usize) -> bool {
        if batch.last() <= self.end {
            return true;
        }
        if !joins(self.end, batch.first()) {
            self.gone = Some(batch.first());
            return false;
        }
        if self.bytes > 0 && self.bytes + batch.len() > max_bytes {
            return false;
        }
        self.bytes += batch.len();
        self.end = batch.last();
        self.batches.push(batch);
        self.bytes < max_bytes
    }
}

impl<D: Disk> Log for DiskLog<D> {
    fn append(
        &mut self,
        origin: &Origin,
        batch: &Batch,
        id: BatchId,
        after: Position,
        own: bool,
    ) -> Result<(), LogError> {
        if self.broken {
            return Err(LogError::Broken);
        }
        let head = self.streams.get(origin).map_or(Position::START, |stream| stream.head);
        if after != head || batch.first() <= after {
            return Err(LogError::OutOfOrder);
        }
        if own && batch.durability() == Durability::Volatile {
            self.note_own_epoch(batch.epoch()).map_err(failed)?;
        }
        if !own && *origin == self.me {
            // Others give back what this log lost; how much more they have is not known.
            self.note_own_epoch(batch.epoch()).map_err(failed)?;
            self.own_epoch_left = self.own_epoch_left.max(Some(batch.epoch()));
        }
        self.try_append(origin, batch, id)?;
        self.retain_stream(origin);
        self.retain();
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogError> {
        if self.broken {
            return Err(LogError::Broken);
        }
        let (files, folders) = (&self.dirty_files, &self.dirty_folders);
        let disk = &mut self.disk;
        let synced = if files.len() + folders.len() > SYNC_FILES_MAX {
            disk.sync_all()
        } else {
            let mut files = files.iter();
            files
                .try_for_each(|path| disk.sync(path))
                .and_then(|()| folders.iter().try_for_each(|folder| disk.sync_folder(folder)))
        };
        if let Err(error) = synced {
            self.broken = true;
            return Err(failed(error));
        }
        self.dirty_files.clear();
        self.dirty_folders.clear();
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
        let (floor, head) = (stream.floor, stream.head);
        let start = stream.segments.partition_point(|segment| segment.last <= after);
        let count = stream.segments.len();
        let mut reading = Reading { end: after, bytes: 0, batches: Vec::new(), gone: None };
        if after < floor {
            // Read from what is left, to learn where it begins.
            reading.end = floor;
        }
        for index in start..count {
            if !self.read_segment(origin, index, max_bytes, &mut reading)? {
                break;
            }
        }
        let first = reading.batches.first().map(Batch::first);
        if after < floor || reading.batches.is_empty() {
            let behind = Position::new(head.epoch, head.number.saturating_add(1));
            return Ok(Found::Gone { next: first.or(reading.gone).unwrap_or(behind) });
        }
        Ok(Found::Batches(reading.batches))
    }

    fn taken(&mut self, origin: &Origin, upto: Position) -> Result<(), LogError> {
        let Some(stream) = self.streams.get_mut(origin) else { return Ok(()) };
        if upto <= stream.taken {
            return Ok(());
        }
        stream.taken = upto;
        let path = format!("{}/taken", stream.folder);
        // Not synced: after a loss of power the application gets some messages again.
        self.disk.write(&path, 0, &record::note(upto, BatchId::NONE)).map_err(failed)
    }

    fn keep(&mut self, evidence: &Evidence) -> Result<(), LogError> {
        let path = format!("{EVIDENCE}{}", evidence.origin());
        self.put(&path, &evidence.encode()).map_err(failed)
    }

    fn forget(&mut self, origin: &Origin) -> Result<(), LogError> {
        let Some(stream) = self.streams.remove(origin) else { return Ok(()) };
        self.sizes.remove(&(stream.bytes, *origin));
        self.bytes -= stream.bytes;
        self.dirty_folders.remove(&stream.folder);
        let mut names = self.disk.list(&stream.folder).map_err(failed)?;
        names.sort_unstable();
        for name in names {
            let path = format!("{}/{name}", stream.folder);
            self.dirty_files.remove(&path);
            self.disk.remove(&path).map_err(failed)?;
        }
        self.disk.remove_folder(&stream.folder).map_err(failed)
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// What the host said, in our words.
pub(crate) fn failed(error: io::Error) -> LogError {
    if is_full(&error) { LogError::Full } else { LogError::Disk(error.to_string()) }
}

/// Whether more room would have helped.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
