//! What a start makes of epochs: which one the own stream goes on in, and which of others are gone.

use std::io::ErrorKind;

use borgios_types::{SecretKey, UnixSeconds};

use super::fake::{FakeDisk, Fault};
use super::host::Disk as _;
use super::tests::{append, chain, open};
use super::*;
use crate::batch::Durability;
use crate::builder::Draft;
use crate::stage::{self, EPOCH};

/// The first batch of the epoch after that of [`chain`], of the same origin.
fn next_epoch(seed: u8, bytes: usize, durability: Durability) -> Batch {
    Draft {
        network: stage::network(),
        first: Position::new(EPOCH + 1, 1),
        previous: BatchId::NONE,
        kind: crate::Kind::new("log").unwrap(),
        durability,
        issued: UnixSeconds(EPOCH),
        messages: vec![vec![7; bytes].into()],
    }
    .sign(&SecretKey::from_seed([seed; 32]))
}

/// What others hand back of an epoch before the last one must not hide that the last one was left.
#[test]
fn an_earlier_epoch_handed_back_does_not_bring_a_later_one_back() {
    let disk = FakeDisk::new(1);
    let old = chain(1, 2, 10, Durability::Volatile);
    let new = next_epoch(1, 10, Durability::Volatile);
    let me = new.origin();
    // The clock stands still.
    let start =
        || DiskLog::open_on(disk.clone(), Limits::default(), me, UnixSeconds(EPOCH)).unwrap();
    let (mut log, _) = start();
    append(&mut log, &old[0], true).unwrap();
    log.sync().unwrap();
    drop(log);
    let path = disk.files().keys().find(|path| path.ends_with(".seg")).unwrap().clone();
    let whole = disk.files()[&path].len() as u64;
    let (mut log, recovered) = start();
    assert_eq!(recovered.own_epoch, Some(EPOCH + 1));
    log.append(&me, &new, new.id(), old[0].0.last(), true).unwrap();
    drop(log);
    // It was sent, and the disk lost it.
    disk.clone().cut(&path, whole).unwrap();
    let (mut log, recovered) = start();
    assert_eq!(recovered.own_epoch, Some(EPOCH + 2));
    append(&mut log, &old[1], false).unwrap();
    log.close().unwrap();
    let (_, recovered) = start();
    assert_eq!(recovered.own_epoch, Some(EPOCH + 2));
}

/// Whoever read an epoch whose segments are all gone by now is told so after a start too.
#[test]
fn a_start_knows_that_an_epoch_is_gone() {
    let limits = Limits { stream_bytes: 1_000_000, ..Limits::default() };
    let old = chain(1, 3, 250_000, Durability::Durable);
    let origin = old[0].0.origin();
    let (disk, me) = (FakeDisk::new(1), Origin([9; 32]));
    let (mut log, _) = DiskLog::open_on(disk.clone(), limits, me, UnixSeconds(EPOCH)).unwrap();
    // A segment each.
    log.segment_bytes = 1_000;
    old.iter().for_each(|batch| append(&mut log, batch, false).unwrap());
    let new = next_epoch(1, 250_000, Durability::Durable);
    log.append(&origin, &new, new.id(), old[2].0.last(), false).unwrap();
    let key = SecretKey::from_seed([1; 32]);
    let mut previous = new.id();
    for number in 2..=3 {
        let batch = Draft {
            network: stage::network(),
            first: Position::new(EPOCH + 1, number),
            previous,
            kind: crate::Kind::new("log").unwrap(),
            durability: Durability::Durable,
            issued: UnixSeconds(EPOCH),
            messages: vec![vec![7; 250_000].into()],
        }
        .sign(&key);
        previous = batch.id();
        log.append(&origin, &batch, previous, batch.first().before(), false).unwrap();
    }
    let gone = Found::Gone { next: new.first() };
    assert_eq!(log.read_after(&origin, old[0].0.last(), 1).unwrap(), gone);
    let read = Found::Batches(vec![new]);
    assert_eq!(log.read_after(&origin, old[2].0.last(), 1).unwrap(), read);
    log.close().unwrap();
    let (mut log, _) = DiskLog::open_on(disk, limits, me, UnixSeconds(EPOCH)).unwrap();
    assert_eq!(log.read_after(&origin, old[0].0.last(), 1).unwrap(), gone);
    assert_eq!(log.read_after(&origin, old[2].0.last(), 1).unwrap(), read);
}

/// A disk without room for a copy of the own last segment does not keep the others from being served.
#[test]
fn a_start_on_a_full_disk_opens_the_log() {
    let stream = chain(1, 2, 500, Durability::Durable);
    let me = stream[0].0.origin();
    let mut opened = 0;
    for call in 0..100 {
        let disk = FakeDisk::new(call as u64);
        let (mut log, _) = open(&disk, me).unwrap();
        stream.iter().for_each(|batch| append(&mut log, batch, true).unwrap());
        // What a sync that failed has marked as written is on the disk after the start all the same.
        disk.fail_at(0, Fault::Fails(ErrorKind::Other));
        assert!(log.sync().is_err());
        drop(log);
        disk.fail_at(call, Fault::Fails(ErrorKind::StorageFull));
        let Ok((log, recovered)) = open(&disk, me) else { continue };
        if !disk.has_failed() {
            break;
        }
        opened += 1;
        assert_eq!(recovered.own_epoch, Some(EPOCH), "fault at call {call}");
        assert!(disk.files().keys().all(|path| !path.ends_with(disk::UNFINISHED)));
        disk.fail_at(0, Fault::CutBefore);
        drop(log);
        assert!(disk.clone().sync_all().is_err(), "the power is off");
        disk.power_on();
        let (_, again) = open(&disk, me).unwrap();
        let head = recovered.streams.first().map(|known| known.head);
        assert_eq!(head.map(|head| head.last), Some(stream[1].0.last()));
        assert_eq!(again.streams.first().map(|known| known.head), head, "fault at call {call}");
    }
    assert!(opened > 0, "no start met a full disk and went on");
}

/// What is whole is opened however long the disk stays full. What is damaged is not cut before its epoch is
/// noted, which takes a little room: until then each start finds it so.
#[test]
fn a_disk_that_stays_full_opens_what_is_whole_and_keeps_what_shows_a_damage() {
    let stream = chain(1, 2, 500, Durability::Durable);
    let me = stream[0].0.origin();
    let disk = FakeDisk::new(1);
    let (mut log, _) = open(&disk, me).unwrap();
    stream.iter().for_each(|batch| append(&mut log, batch, true).unwrap());
    log.sync().unwrap();
    drop(log);
    disk.fill(true);
    let (log, recovered) = open(&disk, me).unwrap();
    assert_eq!(recovered.own_epoch, Some(EPOCH));
    drop(log);
    let path = disk.files().keys().find(|path| path.ends_with(".seg")).unwrap().clone();
    let torn = disk.files()[&path].len() as u64 - 1;
    disk.clone().cut(&path, torn).unwrap();
    for _ in 0..2 {
        assert!(matches!(open(&disk, me), Err(LogError::Full)));
        assert_eq!(disk.files()[&path].len() as u64, torn);
    }
    disk.fill(false);
    let (_, recovered) = open(&disk, me).unwrap();
    assert!(recovered.own_epoch > Some(EPOCH), "{:?}", recovered.own_epoch);
    assert_eq!(recovered.streams.first().map(|known| known.head.last), Some(stream[0].0.last()));
}

/// The note that an epoch is gone needs room, and what goes makes it.
#[test]
fn a_full_disk_does_not_keep_what_is_over_the_bound() {
    let limits = Limits { stream_bytes: 400_000, ..Limits::default() };
    let old = chain(1, 1, 250_000, Durability::Durable);
    let new = next_epoch(1, 250_000, Durability::Durable);
    let origin = new.origin();
    let mut taken = 0;
    for call in 0..100 {
        let (disk, me) = (FakeDisk::new(call as u64), Origin([9; 32]));
        let (mut log, _) = DiskLog::open_on(disk.clone(), limits, me, UnixSeconds(EPOCH)).unwrap();
        // A segment each.
        log.segment_bytes = 1_000;
        append(&mut log, &old[0], false).unwrap();
        disk.fail_at(call, Fault::Fails(ErrorKind::StorageFull));
        let appended = log.append(&origin, &new, new.id(), old[0].0.last(), false);
        if !disk.has_failed() {
            break;
        }
        if appended.is_ok() {
            taken += 1;
            assert!(log.bytes() <= limits.stream_bytes, "fault at call {call}");
            assert!(disk.files().keys().all(|path| !path.ends_with(disk::UNFINISHED)));
        }
    }
    assert!(taken > 3, "only {taken} faults after the message was in");
}
