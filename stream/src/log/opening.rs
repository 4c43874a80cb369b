//! Opening a log: what a crash left is put in order, and what is there is counted.
//!
//! Order matters: all is read, then it is noted that the own epoch is left where its end is uncertain,
//! and only then is cut what shows that. What was found is synced before anyone hears of it: a process
//! that was killed leaves batches in the page cache that the next loss of power would take.
//!
//! A start on a full disk needs room for one thing: that note, of 56 bytes, where the own stream is damaged and
//! none stands yet. Without it nothing is opened, and what shows the damage stays for the next start.

use std::io;

use borgios_types::UnixSeconds;
use bytes::Bytes;

use crate::bounds::{BATCH_MAX, CONTROL_MAX, EVIDENCE_MAX, SEGMENT_BYTES, STREAMS_MAX};
use crate::evidence::Evidence;
use crate::log::disk::{DiskLog, EVIDENCE, OWN, UNFINISHED, is_full};
use crate::log::host::Disk;
use crate::log::record::{self, Record};
use crate::log::segments::{Segment, Stored};
use crate::log::{Recovered, RecoveredStream};
use crate::position::{Head, Origin, Position};

/// Longest segment that is read, in bytes.
const SEGMENT_MAX: usize = SEGMENT_BYTES as usize + record::FRONT + BATCH_MAX;

/// Reads the log's folder, and says what is in it.
pub(crate) fn recover<D: Disk>(
    log: &mut DiskLog<D>,
    me: Origin,
    now: UnixSeconds,
) -> io::Result<Recovered> {
    let mut recovered = Recovered::default();
    let mut names = log.disk.list("")?;
    names.sort_unstable();
    let (mut cuts, mut spoken, mut damaged) = (Vec::new(), 0, false);
    for name in names {
        if name.ends_with(UNFINISHED) {
            log.disk.remove(&name)?;
        } else if name == OWN {
            let bytes = log.disk.read(OWN, 0, 57)?;
            log.own_epoch_unsynced = record::read_note(&bytes).map(|(at, _)| at.epoch);
            damaged |= log.own_epoch_unsynced.is_none();
        } else if name.starts_with(EVIDENCE) {
            let bytes = Bytes::from(log.disk.read(&name, 0, CONTROL_MAX)?);
            let evidence = Evidence::decode(&bytes).ok();
            recovered.stopped.extend(evidence.filter(|_| recovered.stopped.len() < EVIDENCE_MAX));
        } else if let Some(origin) = origin_of(&name)
            && (log.streams.len() < STREAMS_MAX || origin == me)
        {
            let found = read_stream(&mut log.disk, &origin)?;
            if origin == me {
                spoken = found.epoch;
                damaged |= found.torn_head || !found.cuts.is_empty();
            }
            cuts.extend(found.cuts);
            log.streams.insert(origin, found.stream);
        }
    }
    for (origin, stream) in &log.streams {
        if stream.head > Position::START {
            let head = Head { origin: *origin, last: stream.head, id: stream.head_id };
            recovered.streams.push(RecoveredStream { head, taken: stream.taken });
        }
    }
    let own = log.streams.get(&me).map(|stream| stream.head.epoch).filter(|epoch| *epoch > 0);
    // What is damaged may have been sent whole.
    let unsure = log.own_epoch_unsynced.max(damaged.then_some(spoken));
    recovered.own_epoch = match (own, unsure) {
        // Messages of that epoch may have been sent and lost here.
        (own, Some(unsure)) if own.is_none_or(|epoch| epoch <= unsure) => {
            log.note_own_epoch(unsure)?;
            log.own_epoch_left = Some(unsure);
            Some(now.0.max(unsure.saturating_add(1)))
        }
        (own, _) => own,
    };
    for cut in cuts {
        cut.apply(&mut log.disk)?;
    }
    let last = log.streams.get(&me).and_then(|stream| stream.segments.back());
    if let Some(path) = last.map(|segment| segment.path.clone()) {
        // Anew, for a sync that failed once may have marked as written what is not (fsync(2)).
        let bytes = log.disk.read(&path, 0, SEGMENT_MAX)?;
        match log.put(&path, &bytes) {
            // No room for a second one: the same bytes over the old ones are written anew too.
            Err(error) if is_full(&error) => {
                log.disk.remove(&format!("{path}{UNFINISHED}"))?;
                log.disk.write(&path, 0, &bytes)?;
                log.disk.sync(&path)?;
            }
            written => written?,
        }
    }
    log.disk.sync_all()?;
    Ok(recovered)
}

/// The origin of a folder's name.
fn origin_of(name: &str) -> Option<Origin> {
    borgios_types::Digest::from_hex(name).ok().map(|digest| Origin(digest.0))
}

/// A stream, and what is not right about it.
struct FoundStream {
    stream: Stored,
    cuts: Vec<Cut>,
    /// The last epoch that anything in its folder speaks of.
    epoch: u64,
    /// The note about its end says nothing.
    torn_head: bool,
}

/// A segment that ends with what is no batch.
struct Cut {
    path: String,
    /// What is whole of it, in bytes.
    whole: u64,
}

impl Cut {
    fn apply(self, disk: &mut impl Disk) -> io::Result<()> {
        if self.whole == 0 {
            return disk.remove(&self.path);
        }
        disk.cut(&self.path, self.whole)?;
        disk.sync(&self.path)
    }
}

fn read_stream<D: Disk>(disk: &mut D, origin: &Origin) -> io::Result<FoundStream> {
    let mut stream = Stored::new(origin);
    let (mut cuts, mut torn_head) = (Vec::new(), false);
    let folder = stream.folder.clone();
    let mut names = disk.list(&folder)?;
    names.sort_unstable();
    let segments: Vec<String> =
        names.iter().filter(|name| name.ends_with(".seg")).cloned().collect();
    for name in &names {
        let path = format!("{folder}/{name}");
        match name.as_str() {
            "head" => match record::read_note(&disk.read(&path, 0, 57)?) {
                Some((head, id)) => {
                    (stream.head, stream.head_id) = (head, id);
                    stream.floor = stream.floor.max(head);
                }
                None => torn_head = true,
            },
            "floor" => {
                let note = record::read_note(&disk.read(&path, 0, 57)?);
                stream.floor = note.map_or(stream.floor, |(at, _)| stream.floor.max(at));
            }
            "taken" => {
                let note = record::read_note(&disk.read(&path, 0, 57)?);
                stream.taken = note.map_or(Position::START, |(at, _)| at);
            }
            _ if name.ends_with(UNFINISHED) => disk.remove(&path)?,
            _ => {}
        }
    }
    for (index, name) in segments.iter().enumerate() {
        let path = format!("{folder}/{name}");
        cuts.extend(read_segment(disk, &mut stream, path, index + 1 == segments.len())?);
    }
    let first = segments.first().and_then(|name| first_of(name));
    if let Some(first) = first.filter(|first| first.number > 1) {
        // What came before is gone. Of what came before a new epoch the notes tell.
        stream.floor = stream.floor.max(first.before());
    }
    stream.taken = stream.taken.min(stream.head);
    let named = segments.iter().filter_map(|name| first_of(name)).map(|first| first.epoch).max();
    let epoch = stream.head.epoch.max(named.unwrap_or(0));
    Ok(FoundStream { stream, cuts, epoch, torn_head })
}

/// The position in a segment's name.
fn first_of(name: &str) -> Option<Position> {
    let (epoch, number) = name.strip_suffix(".seg")?.split_once('-')?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    Some(Position::new(hex(epoch)?, hex(number)?))
}

/// Counts a segment's batches; what is behind the last whole one is to be cut off.
fn read_segment<D: Disk>(
    disk: &mut D,
    stream: &mut Stored,
    path: String,
    last: bool,
) -> io::Result<Option<Cut>> {
    let length = disk.len(&path)?;
    let mut bytes = Bytes::from(disk.read(&path, 0, SEGMENT_MAX)?);
    stream.segments.push_back(Segment::new(path.clone()));
    // Those before the last one were synced when the next one was begun.
    while let Record::Whole(batch, length) = record::read(&bytes, last) {
        if batch.first() <= stream.head || batch.origin().to_string() != stream.folder {
            break;
        }
        let id = batch.id();
        stream.note_append(&batch, id, length as u64);
        bytes = bytes.slice(length..);
    }
    let whole = stream.segments.back().map_or(0, |segment| segment.bytes);
    if whole == 0 {
        stream.segments.pop_back();
    }
    Ok((whole == 0 || whole < length).then_some(Cut { path, whole }))
}
