//! What a log holds, whatever goes wrong at any call to its disk.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use borgios_types::{SecretKey, UnixSeconds};
use bytes::Bytes;
use rand::Rng as _;

use super::fake::{FakeDisk, Fault};
use super::host::Disk as _;
use super::*;
use crate::batch::Durability;
use crate::builder::Draft;
use crate::stage::{self, EPOCH};

const NOW: UnixSeconds = UnixSeconds(EPOCH + 100);

/// A chain of batches of one origin, of one message each.
pub(super) fn chain(
    seed: u8,
    count: u64,
    bytes: usize,
    durability: Durability,
) -> Vec<(Batch, BatchId)> {
    let key = SecretKey::from_seed([seed; 32]);
    let mut previous = BatchId::NONE;
    let batches = (1..=count).map(|number| {
        let batch = Draft {
            network: stage::network(),
            first: Position::new(EPOCH, number),
            previous,
            kind: crate::Kind::new("log").unwrap(),
            durability,
            issued: NOW,
            messages: vec![vec![number as u8; bytes].into()],
        }
        .sign(&key);
        previous = batch.id();
        (batch, previous)
    });
    batches.collect()
}

pub(super) fn open(
    disk: &FakeDisk,
    me: Origin,
) -> Result<(DiskLog<FakeDisk>, Recovered), LogError> {
    DiskLog::open_on(disk.clone(), Limits::default(), me, NOW)
}

pub(super) fn append(
    log: &mut impl Log,
    (batch, id): &(Batch, BatchId),
    own: bool,
) -> Result<(), LogError> {
    let number = batch.first().number;
    let after = if number == 1 { Position::START } else { batch.first().before() };
    log.append(&batch.origin(), batch, *id, after, own)
}

fn read_all(log: &mut impl Log, origin: &Origin) -> Vec<Batch> {
    let (mut after, mut all) = (Position::START, Vec::new());
    loop {
        match log.read_after(origin, after, 300_000).unwrap() {
            Found::Batches(batches) if batches.is_empty() => return all,
            Found::Batches(batches) => {
                after = batches.last().unwrap().last();
                all.extend(batches);
            }
            Found::Gone { next } => after = next.before(),
        }
    }
}

/// Appends three streams by turns, syncs after each turn; returns how many of each were
/// acknowledged. A call that failed is tried again once: the disk may have room by then.
fn live(log: &mut DiskLog<FakeDisk>, streams: &[Vec<(Batch, BatchId)>]) -> BTreeMap<Origin, usize> {
    // Four batches each, so that segments are begun and ended.
    log.segment_bytes = 4_000;
    let mut acknowledged = BTreeMap::new();
    let turns = streams[0].len();
    let mut done = vec![0; streams.len()];
    for _ in 0..turns + 1 {
        for (stream, done) in streams.iter().zip(&mut done) {
            if *done < turns && append(log, &stream[*done], false).is_ok() {
                *done += 1;
            }
        }
        if log.sync().is_ok() {
            for (stream, done) in streams.iter().zip(&done) {
                acknowledged.insert(stream[0].0.origin(), *done);
            }
        }
    }
    acknowledged
}

/// Whatever call fails or loses power: what was acknowledged is there, in order, and nothing else
/// than what was appended; and the log goes on from there.
#[test]
fn what_was_acknowledged_is_there_after_any_fault() {
    let streams: Vec<_> = (1..=3).map(|seed| chain(seed, 7, 500, Durability::Durable)).collect();
    let faults = [
        Fault::Fails(ErrorKind::StorageFull),
        Fault::Fails(ErrorKind::Other),
        Fault::CutBefore,
        Fault::CutAfter,
    ];
    let mut met = 0;
    for fault in faults {
        for call in 0.. {
            let disk = FakeDisk::new(call as u64);
            let me = Origin([9; 32]);
            disk.fail_at(call, fault);
            let acknowledged = match open(&disk, me) {
                Ok((mut log, _)) => live(&mut log, &streams),
                Err(_) => BTreeMap::new(),
            };
            if !disk.has_failed() {
                break;
            }
            met += 1;
            if disk.is_off() {
                disk.power_on();
            }
            let (mut log, recovered) = open(&disk, me).unwrap();
            for stream in &streams {
                let origin = stream[0].0.origin();
                let held = read_all(&mut log, &origin);
                let least = acknowledged.get(&origin).copied().unwrap_or(0);
                let told = format!("{fault:?} at call {call}: {} of {least}", held.len());
                assert!(held.len() >= least, "{told}");
                assert!(held.iter().zip(stream).all(|(held, (batch, _))| held == batch), "{told}");
                let head = recovered.streams.iter().find(|known| known.head.origin == origin);
                let last = head.map_or(Position::START, |known| known.head.last);
                assert_eq!(last, held.last().map_or(Position::START, Batch::last), "{told}");
                for next in &stream[held.len()..] {
                    append(&mut log, next, false).unwrap_or_else(|error| panic!("{told}: {error}"));
                }
                assert_eq!(read_all(&mut log, &origin).len(), stream.len(), "{told}");
            }
        }
    }
    assert!(met > 150, "only {met} faults were met");
}

#[test]
fn a_full_disk_leaves_the_log_as_it_was() {
    let disk = FakeDisk::new(1);
    let stream = chain(1, 3, 1_000, Durability::Durable);
    let (mut log, _) = open(&disk, Origin([9; 32])).unwrap();
    append(&mut log, &stream[0], false).unwrap();
    log.sync().unwrap();
    let before = disk.files();
    for call in 0..2 {
        disk.fail_at(call, Fault::Fails(ErrorKind::StorageFull));
        assert_eq!(append(&mut log, &stream[1], false), Err(LogError::Full));
        assert_eq!(disk.files(), before);
    }
    append(&mut log, &stream[1], false).unwrap();
    assert_eq!(read_all(&mut log, &stream[0].0.origin()).len(), 2);
}

#[test]
fn after_a_sync_that_failed_nothing_is_taken_until_the_log_is_opened_again() {
    let disk = FakeDisk::new(1);
    let stream = chain(1, 3, 1_000, Durability::Durable);
    let (mut log, _) = open(&disk, Origin([9; 32])).unwrap();
    append(&mut log, &stream[0], false).unwrap();
    disk.fail_at(0, Fault::Fails(ErrorKind::Other));
    assert!(matches!(log.sync(), Err(LogError::Disk(_))));
    assert_eq!(append(&mut log, &stream[1], false), Err(LogError::Broken));
    assert_eq!(log.sync(), Err(LogError::Broken));
    let (mut log, _) = open(&disk, Origin([9; 32])).unwrap();
    append(&mut log, &stream[1], false).unwrap();
}

/// Without a restart: whatever the fault, what was acknowledged is there and appending goes on.
#[test]
fn a_broken_log_is_opened_again_where_it_is() {
    let streams = [chain(1, 12, 600, Durability::Durable), chain(2, 12, 600, Durability::Durable)];
    let mut broken = 0;
    for call in 0..120 {
        let disk = FakeDisk::new(call as u64);
        let (mut log, _) = open(&disk, Origin([9; 32])).unwrap();
        log.segment_bytes = 4_000;
        disk.fail_at(call, Fault::Fails(ErrorKind::Other));
        let mut acknowledged = BTreeMap::new();
        let mut done = [0_usize; 2];
        while done.iter().any(|done| *done < 12) {
            for (stream, done) in streams.iter().zip(&mut done) {
                if *done < 12 && append(&mut log, &stream[*done], false).is_ok() {
                    *done += 1;
                }
            }
            if log.sync().is_ok() {
                for (stream, done) in streams.iter().zip(&done) {
                    acknowledged.insert(stream[0].0.origin(), *done);
                }
            }
            if log.is_broken() {
                broken += 1;
                assert_eq!(append(&mut log, &streams[0][11], false), Err(LogError::Broken));
                let recovered = log.reopen(NOW).unwrap();
                assert!(!log.is_broken());
                for (stream, done) in streams.iter().zip(&mut done) {
                    let origin = stream[0].0.origin();
                    let held = recovered.streams.iter().find(|held| held.head.origin == origin);
                    let count = held.map_or(0, |held| held.head.last.number as usize);
                    assert!(count >= acknowledged.get(&origin).copied().unwrap_or(0), "{call}");
                    *done = count;
                }
            }
        }
        if !disk.has_failed() {
            // There are no more calls than these.
            break;
        }
        for stream in &streams {
            let all: Vec<Batch> = stream.iter().map(|(batch, _)| batch.clone()).collect();
            assert_eq!(read_all(&mut log, &all[0].origin()), all, "fault at call {call}");
        }
    }
    assert!(broken > 0, "no sync ever failed");
}

#[test]
fn what_does_not_follow_is_refused() {
    let stream = chain(1, 3, 10, Durability::Durable);
    let disk = FakeDisk::new(1);
    let (mut log, _) = open(&disk, Origin([9; 32])).unwrap();
    let mut memory = MemoryLog::new(Limits::default());
    for log in [&mut log as &mut dyn Log, &mut memory] {
        let origin = stream[0].0.origin();
        let mut put = |index: usize, after: Position| {
            log.append(&origin, &stream[index].0, stream[index].1, after, false)
        };
        put(0, Position::START).unwrap();
        assert_eq!(put(0, Position::START), Err(LogError::OutOfOrder));
        assert_eq!(put(2, Position::new(EPOCH, 2)), Err(LogError::OutOfOrder));
        // What is between is gone for good: then a hole is what was asked for.
        put(2, Position::new(EPOCH, 1)).unwrap();
        let found = log.read_after(&origin, Position::new(EPOCH, 1), 1_000).unwrap();
        assert_eq!(found, Found::Gone { next: Position::new(EPOCH, 3) });
    }
}

#[test]
fn the_oldest_goes_and_readers_are_told() {
    let limits = Limits { stream_bytes: 2_500_000, ..Limits::default() };
    let stream = chain(1, 20, 250_000, Durability::Durable);
    let origin = stream[0].0.origin();
    let disk = FakeDisk::new(1);
    let me = Origin([9; 32]);
    let (mut log, _) = DiskLog::open_on(disk.clone(), limits, me, NOW).unwrap();
    stream.iter().for_each(|batch| append(&mut log, batch, false).unwrap());
    assert!(log.bytes() <= 2_500_000, "{}", log.bytes());
    let Found::Gone { next } = log.read_after(&origin, Position::START, 1).unwrap() else {
        panic!("the first message should be gone")
    };
    assert!(next.number > 10 && next.number < 20, "{next}");
    let kept = read_all(&mut log, &origin);
    assert_eq!(kept.first().unwrap().first(), next);
    log.close().unwrap();
    let (mut log, _) = DiskLog::open_on(disk, limits, me, NOW).unwrap();
    assert_eq!(log.read_after(&origin, Position::START, 1).unwrap(), Found::Gone { next });
    assert_eq!(read_all(&mut log, &origin), kept);
}

#[test]
fn the_largest_stream_gives_way_and_its_end_stays_known() {
    let limits = Limits { node_bytes: 600_000, ..Limits::default() };
    let (large, small) =
        (chain(1, 6, 250_000, Durability::Durable), chain(2, 3, 100, Durability::Durable));
    let (disk, me) = (FakeDisk::new(1), Origin([9; 32]));
    let (mut log, _) = DiskLog::open_on(disk.clone(), limits, me, NOW).unwrap();
    small.iter().for_each(|batch| append(&mut log, batch, false).unwrap());
    large.iter().for_each(|batch| append(&mut log, batch, false).unwrap());
    assert!(log.bytes() <= 600_000);
    assert_eq!(read_all(&mut log, &small[0].0.origin()).len(), 3);
    log.close().unwrap();
    let (log, recovered) = DiskLog::open_on(disk, limits, me, NOW).unwrap();
    let head = recovered.streams.iter().find(|known| known.head.origin == large[0].0.origin());
    let (last, id) = (Position::new(EPOCH, 6), large[5].1);
    assert_eq!(head.map(|known| (known.head.last, known.head.id)), Some((last, id)));
    drop(log);
}

#[test]
fn a_rotten_batch_is_never_handed_out() {
    let stream = chain(1, 3, 1_000, Durability::Durable);
    let origin = stream[0].0.origin();
    let length = record::FRONT + stream[0].0.len();
    for at in [record::FRONT + 3, length - 1, length - 1_050] {
        let disk = FakeDisk::new(1);
        let (mut log, _) = open(&disk, Origin([9; 32])).unwrap();
        stream.iter().for_each(|batch| append(&mut log, batch, false).unwrap());
        log.sync().unwrap();
        let path = disk.files().keys().find(|path| path.ends_with(".seg")).unwrap().clone();
        disk.rot(&path, length + at);
        let held = read_all(&mut log, &origin);
        assert_eq!(held, [stream[0].0.clone(), stream[2].0.clone()], "byte {at}");
    }
}

/// Volatile messages of this node may be sent before they are synced: where the end is uncertain, a
/// new epoch begins; after a clean end, or with durable messages alone, the old one goes on.
#[test]
fn no_number_is_used_twice() {
    for (durability, clean, same) in [
        (Durability::Volatile, false, false),
        (Durability::Volatile, true, true),
        (Durability::Durable, false, true),
    ] {
        let disk = FakeDisk::new(1);
        let stream = chain(1, 3, 10, durability);
        let me = stream[0].0.origin();
        let (mut log, recovered) = open(&disk, me).unwrap();
        assert_eq!(recovered.own_epoch, None);
        append(&mut log, &stream[0], true).unwrap();
        log.sync().unwrap();
        append(&mut log, &stream[1], true).unwrap();
        if clean {
            log.close().unwrap();
        } else if same {
            // Killed: the page cache still has everything.
            drop(log);
        } else {
            disk.fail_at(0, Fault::CutBefore);
            assert!(log.sync().is_err());
            disk.power_on();
        }
        let (_, recovered) = open(&disk, me).unwrap();
        let expected = if same { EPOCH } else { NOW.0 };
        assert_eq!(recovered.own_epoch, Some(expected), "{durability:?} {clean}");
    }
}

/// What this node can go on from after a start.
fn next_own(recovered: &Recovered, me: Origin) -> (Position, BatchId, Position) {
    let head = recovered.streams.iter().map(|known| known.head).find(|head| head.origin == me);
    let after = head.map_or(Position::START, |head| head.last);
    match head {
        Some(head) if recovered.own_epoch == Some(head.last.epoch) => {
            (Position::new(head.last.epoch, head.last.number + 1), head.id, after)
        }
        _ => {
            let epoch = NOW.0.max(after.epoch + 1).max(recovered.own_epoch.unwrap_or(0));
            (Position::new(epoch, 1), BatchId::NONE, after)
        }
    }
}

/// Lives of a node that end cleanly, by a kill, by a loss of power at any call, or by a failed one,
/// some of them before it has said anything, while the clock stands still: whatever left the node, be
/// it sent at once or fetched after a start, is the only batch with its number.
#[test]
fn no_number_leaves_twice_in_any_lives() {
    let key = SecretKey::from_seed([1; 32]);
    let me = Origin::from(key.public());
    for seed in 0..400 {
        let (disk, mut random) = (FakeDisk::new(seed), stage::random(seed));
        let mut left = BTreeMap::<Position, BatchId>::new();
        let mut said = 0_u64;
        for _ in 0..8 {
            if random.gen_bool(0.6) {
                let faults = [Fault::CutBefore, Fault::CutAfter, Fault::Fails(ErrorKind::Other)];
                disk.fail_at(random.gen_range(0..40), faults[random.gen_range(0..3)]);
            }
            if let Ok((mut log, recovered)) = open(&disk, me) {
                // Neighbours are told of it, and fetch it.
                for head in recovered.streams.iter().map(|known| known.head) {
                    let known = *left.entry(head.last).or_insert(head.id);
                    assert_eq!(known, head.id, "seed {seed}: {} served", head.last);
                }
                let (mut first, mut previous, mut after) = next_own(&recovered, me);
                for _ in 0..random.gen_range(0..4) {
                    said += 1;
                    let durable = random.r#gen();
                    let batch = Draft {
                        network: stage::network(),
                        first,
                        previous,
                        kind: crate::Kind::new("log").unwrap(),
                        durability: if durable {
                            Durability::Durable
                        } else {
                            Durability::Volatile
                        },
                        issued: NOW,
                        messages: vec![said.to_be_bytes().to_vec().into()],
                    }
                    .sign(&key);
                    let id = batch.id();
                    let stored = log.append(&me, &batch, id, after, true);
                    if stored.and_then(|()| if durable { log.sync() } else { Ok(()) }).is_err() {
                        break;
                    }
                    let known = *left.entry(first).or_insert(id);
                    assert_eq!(known, id, "seed {seed}: {first} sent");
                    (after, previous) = (first, id);
                    first = Position::new(first.epoch, first.number + 1);
                }
                if random.r#gen() {
                    let _ = log.close();
                }
            }
            if disk.is_off() || random.gen_bool(0.2) {
                disk.power_on();
            }
        }
    }
}

/// A start that finds the own end uncertain leaves its epoch for good, however often the node stops
/// cleanly before it speaks again.
#[test]
fn an_epoch_that_was_left_stays_left() {
    let stream = chain(1, 3, 10, Durability::Durable);
    let me = stream[0].0.origin();
    let spoil: [fn(&FakeDisk, &str); 3] = [
        // The last batch was synced and acknowledged, and has rotted.
        |disk, path| disk.rot(path, disk.files()[path].len() - 1),
        // All of it has: its name still says which epoch it was.
        |disk, path| disk.rot(path, 0),
        // The note about volatile messages has.
        |disk, _| disk.clone().write(disk::OWN, 0, b"rot").unwrap(),
    ];
    for (index, spoil) in spoil.into_iter().enumerate() {
        let disk = FakeDisk::new(1);
        let (mut log, _) = open(&disk, me).unwrap();
        stream.iter().for_each(|batch| append(&mut log, batch, true).unwrap());
        log.sync().unwrap();
        drop(log);
        let path = disk.files().keys().find(|path| path.ends_with(".seg")).unwrap().clone();
        spoil(&disk, &path);
        for start in 0..3 {
            let (log, recovered) = open(&disk, me).unwrap();
            assert_eq!(recovered.own_epoch, Some(NOW.0), "damage {index}, start {start}");
            log.close().unwrap();
        }
    }
}

/// A sync that failed may have marked as written what is not: what the next start finds and shows is
/// on the disk all the same.
#[test]
fn what_a_start_shows_outlives_the_power_even_after_a_failed_sync() {
    let stream = chain(1, 2, 500, Durability::Durable);
    let me = stream[0].0.origin();
    for seed in 0..50 {
        let disk = FakeDisk::new(seed);
        let (mut log, _) = open(&disk, me).unwrap();
        stream.iter().for_each(|batch| append(&mut log, batch, true).unwrap());
        disk.fail_at(0, Fault::Fails(ErrorKind::Other));
        assert!(log.sync().is_err());
        drop(log);
        let (log, shown) = open(&disk, me).unwrap();
        assert_eq!(shown.streams[0].head.last, Position::new(EPOCH, 2), "seed {seed}");
        disk.fail_at(0, Fault::CutBefore);
        drop(log);
        assert!(disk.clone().sync_all().is_err(), "the power is off");
        disk.power_on();
        let (_, again) = open(&disk, me).unwrap();
        let ends = again.streams.first().map(|known| known.head);
        assert_eq!(ends, Some(shown.streams[0].head), "seed {seed}");
    }
}

/// What others give back of the own stream may not be all that they have.
#[test]
fn what_others_give_back_is_not_gone_on_from() {
    let disk = FakeDisk::new(1);
    let stream = chain(1, 3, 10, Durability::Durable);
    let me = stream[0].0.origin();
    let (mut log, _) = open(&disk, me).unwrap();
    append(&mut log, &stream[0], false).unwrap();
    log.close().unwrap();
    let (_, recovered) = open(&disk, me).unwrap();
    assert_eq!(recovered.own_epoch, Some(NOW.0));
}

#[test]
fn evidence_and_what_was_taken_are_kept_and_the_expelled_are_forgotten() {
    let disk = FakeDisk::new(1);
    let me = Origin([9; 32]);
    let stream = chain(1, 3, 10, Durability::Durable);
    let origin = stream[0].0.origin();
    let [one, other] = stage::fork();
    let evidence = Evidence::of(one.envelope(), other.envelope()).unwrap();
    let (mut log, _) = open(&disk, me).unwrap();
    stream.iter().for_each(|batch| append(&mut log, batch, false).unwrap());
    log.taken(&origin, Position::new(EPOCH, 2)).unwrap();
    log.keep(&evidence).unwrap();
    log.close().unwrap();
    let (mut log, recovered) = open(&disk, me).unwrap();
    assert_eq!(recovered.stopped, [evidence]);
    assert_eq!(recovered.streams[0].taken, Position::new(EPOCH, 2));
    log.forget(&origin).unwrap();
    assert_eq!((log.bytes(), read_all(&mut log, &origin).len()), (0, 0));
    drop(log);
    assert!(open(&disk, me).unwrap().1.streams.is_empty());
}

/// Files of a hostile or broken disk never make a start panic.
#[test]
fn a_start_survives_any_file() {
    let stream = chain(1, 4, 500, Durability::Durable);
    for seed in 0..200 {
        let disk = FakeDisk::new(seed);
        let me = stream[0].0.origin();
        let (mut log, _) = open(&disk, me).unwrap();
        stream.iter().for_each(|batch| append(&mut log, batch, true).unwrap());
        log.taken(&me, Position::new(EPOCH, 2)).unwrap();
        log.sync().unwrap();
        let mut random = stage::random(seed);
        for (path, mut bytes) in disk.files() {
            stage::mutate(&mut bytes, &mut random);
            let mut again = disk.clone();
            again.cut(&path, 0).unwrap();
            again.write(&path, 0, &bytes).unwrap();
        }
        let (mut log, _) = open(&disk, me).unwrap();
        for held in read_all(&mut log, &me) {
            assert!(stream.iter().any(|(batch, _)| *batch == held), "seed {seed}");
        }
    }
}

#[test]
fn the_real_disk_does_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let stream = chain(1, 40, 100_000, Durability::Durable);
    let origin = stream[0].0.origin();
    let (mut log, _) = DiskLog::open(folder.path(), Limits::default(), origin, NOW).unwrap();
    for batch in &stream[..30] {
        append(&mut log, batch, true).unwrap();
        log.sync().unwrap();
    }
    let second = DiskLog::open(folder.path(), Limits::default(), origin, NOW);
    assert!(second.is_err(), "only one may have it open");
    log.close().unwrap();
    // A torn tail.
    let torn = folder.path().join(origin.to_string());
    let mut names: Vec<_> = std::fs::read_dir(&torn).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    let last = names.iter().rfind(|path| path.extension().is_some_and(|e| e == "seg")).unwrap();
    let mut bytes = std::fs::read(last).unwrap();
    bytes.extend_from_slice(&record::front(&stream[30].0));
    bytes.extend_from_slice(&stream[30].0.bytes()[..5_000]);
    std::fs::write(last, bytes).unwrap();
    let (mut log, recovered) =
        DiskLog::open(folder.path(), Limits::default(), origin, NOW).unwrap();
    assert_eq!(recovered.streams[0].head.last, Position::new(EPOCH, 30));
    // Torn, or sent and damaged since: nobody can tell.
    assert_eq!(recovered.own_epoch, Some(NOW.0));
    stream[30..].iter().for_each(|batch| append(&mut log, batch, false).unwrap());
    let all: Vec<Bytes> = read_all(&mut log, &origin).iter().map(|b| b.bytes().clone()).collect();
    assert!(all.iter().zip(&stream).all(|(held, (batch, _))| held == batch.bytes()));
    assert_eq!(all.len(), 40);
}
