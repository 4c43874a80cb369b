//! Opening a log: what a crash left is put in order, and what is there is counted.

use std::io;

use borgios_types::UnixSeconds;
use bytes::Bytes;

use crate::bounds::{BATCH_MAX, CONTROL_MAX, EVIDENCE_MAX, SEGMENT_BYTES, STREAMS_MAX};
use crate::evidence::Evidence;
use crate::log::disk::{DiskLog, EVIDENCE, OWN, UNFINISHED};
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
    for name in names {
        if name.ends_with(UNFINISHED) {
            log.disk.remove(&name)?;
        } else if name == OWN {
            let bytes = log.disk.read(OWN, 0, 57)?;
            log.own_epoch_unsynced = record::read_note(&bytes).map(|(at, _)| at.epoch);
        } else if name.starts_with(EVIDENCE) {
            let bytes = Bytes::from(log.disk.read(&name, 0, CONTROL_MAX)?);
            let evidence = Evidence::decode(&bytes).ok();
            recovered.stopped.extend(evidence.filter(|_| recovered.stopped.len() < EVIDENCE_MAX));
        } else if let Some(origin) = origin_of(&name)
            && log.streams.len() < STREAMS_MAX
        {
            let stream = read_stream(&mut log.disk, &origin)?;
            log.streams.insert(origin, stream);
        }
    }
    for (origin, stream) in &log.streams {
        if stream.head > Position::START {
            let head = Head { origin: *origin, last: stream.head, id: stream.head_id };
            recovered.streams.push(RecoveredStream { head, taken: stream.taken });
        }
    }
    let own = log.streams.get(&me).map(|stream| stream.head.epoch).filter(|epoch| *epoch > 0);
    recovered.own_epoch = match (own, log.own_epoch_unsynced) {
        // Volatile messages of that epoch may have been sent and lost here.
        (own, Some(unsure)) if own.is_none_or(|epoch| epoch <= unsure) => {
            Some(now.0.max(unsure + 1))
        }
        (own, _) => own,
    };
    Ok(recovered)
}

/// The origin of a folder's name.
fn origin_of(name: &str) -> Option<Origin> {
    borgios_types::Digest::from_hex(name).ok().map(|digest| Origin(digest.0))
}

fn read_stream<D: Disk>(disk: &mut D, origin: &Origin) -> io::Result<Stored> {
    let mut stream = Stored::new(origin);
    let folder = stream.folder.clone();
    let mut names = disk.list(&folder)?;
    names.sort_unstable();
    let segments: Vec<String> =
        names.iter().filter(|name| name.ends_with(".seg")).cloned().collect();
    for name in &names {
        let path = format!("{folder}/{name}");
        match name.as_str() {
            "head" => {
                if let Some((head, id)) = record::read_note(&disk.read(&path, 0, 57)?) {
                    (stream.head, stream.head_id, stream.floor) = (head, id, head);
                }
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
        read_segment(disk, &mut stream, path, index + 1 == segments.len())?;
    }
    if let Some(first) = segments.first().and_then(|name| first_of(name)) {
        // What came before, if anything did, is gone.
        let begins = stream.floor == Position::START && first.number == 1;
        stream.floor = if begins { Position::START } else { stream.floor.max(first.before()) };
    }
    stream.taken = stream.taken.min(stream.head);
    Ok(stream)
}

/// The position in a segment's name.
fn first_of(name: &str) -> Option<Position> {
    let (epoch, number) = name.strip_suffix(".seg")?.split_once('-')?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    Some(Position::new(hex(epoch)?, hex(number)?))
}

/// Counts a segment's batches; what is behind the last whole one is cut off.
fn read_segment<D: Disk>(
    disk: &mut D,
    stream: &mut Stored,
    path: String,
    last: bool,
) -> io::Result<()> {
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
        disk.remove(&path)?;
    } else if whole < length {
        disk.cut(&path, whole)?;
        disk.sync(&path)?;
    }
    Ok(())
}
