//! Disks that fail and are well again, members that lapse and come back, links on which nothing happens.

#![allow(clippy::unwrap_used, reason = "what a test makes itself is as it was made")]

mod desk;

use borgios_stream::frame::Served;
use borgios_stream::log::{Recovered, RecoveredStream};
use borgios_stream::{
    Admission, BatchId, Durability, Frame, Head, Input, Kind, Limits, Log as _, MemoryLog,
    Position, Relay, Ticket,
};
use bytes::Bytes;
use desk::{CHILD, Desk, EPOCH, PARENT, batch, chain, forged};

#[test]
fn a_full_disk_makes_no_storm() {
    let mut desk = Desk::new(Relay::Verified);
    let batches = chain(1, 4, b"hello");
    let origin = batches[0].origin();
    desk.batch(PARENT, &batches[0]);
    desk.full = true;
    desk.batch(PARENT, &batches[1]);
    assert_eq!(desk.batches_sent_to(CHILD), 2, "it goes on though it is not stored here");
    let mut asked = 0;
    for _ in 0..4 * 120 {
        desk.wait(250);
        for fetch in desk.fetches_to(PARENT).split_off(asked) {
            asked += 1;
            assert_eq!(fetch.after, batches[0].last());
            let head = batches[1].last();
            desk.frame(PARENT, Frame::Served(Served { origin, head, count: 1 }));
            desk.batch(PARENT, &batches[1]);
        }
    }
    // 2, 4, 8, 16, 32, 32 s: not once in 2 s.
    assert!((3..=8).contains(&asked), "asked {asked} times in two minutes");
    assert_eq!(desk.batches_sent_to(CHILD), 2, "sent again each time it was not stored");
    desk.full = false;
    for _ in 0..4 * 33 {
        desk.wait(250);
        if !desk.fetches_to(PARENT).split_off(asked).is_empty() {
            let head = batches[1].last();
            desk.frame(PARENT, Frame::Served(Served { origin, head, count: 1 }));
            desk.batch(PARENT, &batches[1]);
            break;
        }
    }
    desk.batch(PARENT, &batches[2]);
    assert_eq!((desk.got.len(), desk.batches_sent_to(CHILD)), (3, 3));
}

#[test]
fn what_was_forwarded_in_place_of_a_forgery_is_forwarded_too() {
    let mut desk = Desk::new(Relay::Link);
    let batches = chain(1, 2, b"hello");
    desk.batch(PARENT, &batches[0]);
    desk.batch(PARENT, &forged(&batches[1]));
    desk.batch(PARENT, &batches[1]);
    assert_eq!(desk.got.len(), 2);
    assert_eq!(desk.batches_sent_to(CHILD), 3, "the forgery, and what it forged");
}

#[test]
fn who_has_lapsed_is_not_heard_until_it_is_a_member_again() {
    let mut desk = Desk::new(Relay::Verified);
    let batches = chain(1, 3, b"hello");
    let origin = batches[0].origin();
    desk.batch(PARENT, &batches[0]);
    desk.step(Input::Admitted { origin, admission: Admission::Later });
    desk.batch(PARENT, &batches[1]);
    let head = Head { origin, last: batches[1].last(), id: batches[1].id() };
    desk.frame(PARENT, Frame::Heads(vec![head]));
    desk.wait(3_000);
    assert_eq!((desk.got.len(), desk.batches_sent_to(CHILD)), (1, 1));
    assert!(desk.fetches_to(PARENT).is_empty());
    assert_eq!(desk.core.head(&origin), Some(batches[0].last()), "what it said stays");
    desk.step(Input::Admitted { origin, admission: Admission::Yes });
    desk.batch(PARENT, &batches[1]);
    desk.batch(PARENT, &batches[2]);
    assert_eq!((desk.got.len(), desk.batches_sent_to(CHILD)), (3, 3));
}

/// Who came after a server had lapsed for good cannot have what that said: they hold the same all the same.
#[test]
fn what_the_lapsed_said_is_not_compared() {
    let (mut old, mut young) = (Desk::new(Relay::Verified), Desk::of(50, Relay::Verified));
    let (common, lapsed) = (&chain(1, 1, b"hello")[0], &chain(2, 1, b"bye")[0]);
    old.batch(PARENT, common);
    young.batch(PARENT, common);
    let told = |desk: &mut Desk| {
        desk.sent.clear();
        desk.wait(10_250);
        let digest = |(_, frame): &(_, Frame)| match frame {
            Frame::Digest(digest) => Some(*digest),
            _ => None,
        };
        desk.sent.iter().filter_map(digest).next_back().unwrap()
    };
    let alike = told(&mut young);
    assert_eq!(told(&mut old), alike);
    old.batch(PARENT, lapsed);
    assert_ne!(told(&mut old), alike);
    let admit = |desk: &mut Desk, admission| {
        desk.step(Input::Admitted { origin: lapsed.origin(), admission });
    };
    admit(&mut old, Admission::Later);
    assert_eq!(told(&mut old), alike);
    admit(&mut old, Admission::Yes);
    assert_ne!(told(&mut old), alike, "it counts again");
}

fn publish(desk: &mut Desk, ticket: u64) {
    desk.step(Input::Publish {
        ticket: Ticket(ticket),
        kind: Kind::new("chat").unwrap(),
        durability: Durability::Volatile,
        body: Bytes::from_static(b"mine"),
    });
}

/// What a log says that was opened again and holds `heads`.
fn recovered(heads: &[Head], own_epoch: Option<u64>) -> Recovered {
    let streams = heads.iter().map(|head| RecoveredStream { head: *head, taken: Position::START });
    Recovered { streams: streams.collect(), own_epoch, stopped: Vec::new() }
}

#[test]
fn a_log_that_lost_its_end_is_gone_on_from_and_nothing_is_numbered_twice() {
    let mut desk = Desk::new(Relay::Verified);
    let batches = chain(1, 3, b"hello");
    let origin = batches[0].origin();
    desk.batch(PARENT, &batches[0]);
    desk.batch(PARENT, &batches[1]);
    publish(&mut desk, 1);
    // The disk fails and comes back with the first batch of the other, and none of its own.
    desk.log = MemoryLog::new(Limits::default());
    desk.log.append(&origin, &batches[0], batches[0].id(), Position::START, false).unwrap();
    let first = Head { origin, last: batches[0].last(), id: batches[0].id() };
    desk.got.clear();
    desk.sent.clear();
    desk.step(Input::LogReopened(recovered(&[first], Some(EPOCH + 1))));
    assert_eq!(desk.core.head(&origin), Some(batches[0].last()));
    assert!(
        desk.sent.iter().any(|(link, frame)| *link == PARENT && matches!(frame, Frame::Digest(_)))
    );
    // What it lost is told by the neighbours.
    let head = Head { origin, last: batches[1].last(), id: batches[1].id() };
    desk.frame(PARENT, Frame::Heads(vec![head]));
    assert_eq!(desk.fetches_to(PARENT).last().unwrap().after, batches[0].last());
    desk.frame(PARENT, Frame::Served(Served { origin, head: head.last, count: 1 }));
    desk.batch(PARENT, &batches[1]);
    desk.batch(PARENT, &batches[2]);
    assert_eq!(desk.core.head(&origin), Some(batches[2].last()));
    // Own messages go on in a new epoch.
    publish(&mut desk, 2);
    let me = borgios_stream::Origin::from(desk::key(0).public());
    assert_eq!(desk.core.head(&me), Some(Position::new(EPOCH + 1, 1)));
}

#[test]
fn a_log_that_holds_more_than_was_said_is_gone_on_from() {
    let mut desk = Desk::new(Relay::Verified);
    let batches = chain(1, 2, b"hello");
    let origin = batches[0].origin();
    desk.batch(PARENT, &batches[0]);
    // It was not synced, so it counted as not stored; and it is there.
    desk.log.append(&origin, &batches[1], batches[1].id(), batches[0].last(), false).unwrap();
    let head = Head { origin, last: batches[1].last(), id: batches[1].id() };
    desk.step(Input::LogReopened(recovered(&[head], None)));
    desk.wait(500);
    assert_eq!(desk.core.head(&origin), Some(batches[1].last()));
    assert_eq!(desk.got.len(), 2, "the application gets it from the log");
}

#[test]
fn a_log_opened_again_forgets_who_was_put_out_meanwhile() {
    let mut desk = Desk::new(Relay::Verified);
    let batches = chain(1, 1, b"hello");
    let origin = batches[0].origin();
    desk.log.append(&origin, &batches[0], batches[0].id(), Position::START, false).unwrap();
    let head = Head { origin, last: batches[0].last(), id: batches[0].id() };
    desk.step(Input::LogReopened(recovered(&[head], None)));
    assert_eq!((desk.core.head(&origin), desk.log.bytes()), (None, 0));
}

#[test]
fn who_holds_the_same_says_so_rarely() {
    let mut desk = Desk::new(Relay::Verified);
    let batch = &chain(1, 1, b"hello")[0];
    desk.batch(PARENT, batch);
    desk.wait(10_000);
    let digests = |desk: &Desk| {
        let to = |(link, frame): &&(_, Frame)| *link == CHILD && matches!(frame, Frame::Digest(_));
        desk.sent.iter().filter(to).count()
    };
    let before = digests(&desk);
    assert!(before >= 1, "after a change it is told");
    let Some((_, told)) =
        desk.sent.iter().rev().find(|(_, frame)| matches!(frame, Frame::Digest(_))).cloned()
    else {
        panic!("nothing was told")
    };
    desk.frame(CHILD, told.clone());
    desk.wait(120_000);
    assert!(digests(&desk) - before <= 1, "{} digests in two minutes", digests(&desk) - before);
    // A neighbour that holds something else is told every ten seconds.
    let other = borgios_stream::frame::HeadsDigest { count: 7, xor: [1; 32] };
    let before = digests(&desk);
    desk.frame(CHILD, Frame::Digest(other));
    desk.wait(60_000);
    assert!(digests(&desk) - before >= 5, "{}", digests(&desk) - before);
    assert_ne!(BatchId::NONE, batch.id());
}

/// Ticks are left out only while none of them would do anything.
#[test]
fn what_rests_need_not_be_woken() {
    let mut desk = Desk::new(Relay::Verified);
    desk.wait(250);
    let until = desk.core.rests_until().unwrap();
    assert!(until > desk.now.time, "heads are compared then");
    let batches = chain(1, 3, b"hello");
    desk.batch(PARENT, &batches[0]);
    assert_eq!((desk.got.len(), desk.core.rests_until()), (1, Some(until)), "nothing is open");
    // Something is missing: until it is here, or its neighbour has been silent for too long, ticks count.
    desk.batch(PARENT, &batches[2]);
    assert_eq!(desk.core.rests_until(), None);
    desk.batch(PARENT, &batches[1]);
    assert_eq!(desk.got.len(), 3);
    desk.wait(2_500);
    assert!(desk.core.rests_until().is_some(), "whoever was asked had its time");
    // A disk that fails is tried again.
    desk.full = true;
    desk.batch(PARENT, &batch(1, 4, batches[2].id(), b"more"));
    assert_eq!(desk.core.rests_until(), None);
}
