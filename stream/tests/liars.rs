//! Neighbours that say what is not so, or nothing: catching up goes on, and nothing is passed over.

#![allow(clippy::unwrap_used, reason = "what a test makes itself is as it was made")]

mod desk;

use std::collections::BTreeMap;

use borgios_stream::bounds::{SERVING_BYTES_PER_LINK, WARNINGS_PER_TICK};
use borgios_stream::frame::{Gone, Served};
use borgios_stream::{Batch, BatchId, Frame, Head, LinkId, Origin, Position, Relay};
use desk::{CHILD, CROSS, Desk, EPOCH, PARENT, batch_of, chain};

/// What a neighbour says to a fetch.
enum Says<'a> {
    /// Nothing at all.
    Nothing,
    /// What it has behind the position, so many batches at a time.
    Has(&'a [Batch], usize),
    /// That it has no more.
    NoMore,
    /// That it begins there; and then serves what it has, or nothing.
    Gone(u64, Option<&'a [Batch]>),
}

fn head(batch: &Batch) -> Head {
    Head { origin: batch.origin(), last: batch.last(), id: batch.id() }
}

/// Answers every fetch that was sent as each neighbour does, and lets 250 ms pass.
fn round(desk: &mut Desk, origin: Origin, says: &BTreeMap<LinkId, Says<'_>>) {
    while !desk.sent.is_empty() {
        for (link, frame) in std::mem::take(&mut desk.sent) {
            let Frame::Fetch(fetch) = frame else { continue };
            let serve = |desk: &mut Desk, batches: &[Batch], most: usize| {
                let behind: Vec<_> =
                    batches.iter().filter(|batch| batch.last() > fetch.after).collect();
                let head = batches.last().unwrap().last();
                let count = behind.len().min(most);
                desk.frame(link, Frame::Served(Served { origin, head, count: count as u32 }));
                for batch in behind.into_iter().take(most) {
                    desk.batch(link, batch);
                }
            };
            match says.get(&link) {
                Some(Says::Has(batches, most)) => serve(desk, batches, *most),
                Some(Says::NoMore) => {
                    let head = Position::START;
                    desk.frame(link, Frame::Served(Served { origin, head, count: 0 }));
                }
                Some(Says::Gone(next, has)) if fetch.after.number + 1 < *next => {
                    let next = Position::new(EPOCH, *next);
                    desk.frame(link, Frame::Gone(Gone { origin, next }));
                    let _ = has;
                }
                Some(Says::Gone(_, Some(has))) => serve(desk, has, 64),
                Some(Says::Nothing | Says::Gone(..)) | None => {}
            }
        }
    }
    desk.wait(250);
}

fn numbers(desk: &Desk) -> Vec<u64> {
    desk.got.iter().map(|position| position.number).collect()
}

#[test]
fn a_neighbour_with_false_heads_delays_catching_up_once() {
    for far in [1_000, u64::MAX] {
        let mut desk = Desk::new(Relay::Verified);
        let batches = chain(1, 60, b"hello");
        let origin = batches[0].origin();
        desk.batch(PARENT, &batches[0]);
        let last = Position::new(EPOCH, far);
        let boast = Frame::Heads(vec![Head { origin, last, id: BatchId([1; 32]) }]);
        let says = BTreeMap::from([
            (CHILD, Says::Nothing),
            (PARENT, Says::Has(&batches, 2)),
            (CROSS, Says::NoMore),
        ]);
        desk.frame(CHILD, boast.clone());
        desk.frame(PARENT, Frame::Heads(vec![head(&batches[59])]));
        let mut rounds = 0;
        while desk.got.len() < 60 {
            desk.frame(CHILD, boast.clone());
            round(&mut desk, origin, &says);
            rounds += 1;
            assert!(rounds < 4 * 5, "{} of 60 after 5 s", desk.got.len());
        }
        assert_eq!(numbers(&desk), (1..=60).collect::<Vec<_>>());
    }
}

#[test]
fn a_boaster_that_answers_is_asked_last_too() {
    let mut desk = Desk::new(Relay::Verified);
    let batches = chain(1, 100, b"hello");
    let origin = batches[0].origin();
    desk.batch(PARENT, &batches[0]);
    let last = Position::new(EPOCH, 1_000);
    let boast = Frame::Heads(vec![Head { origin, last, id: BatchId([1; 32]) }]);
    let says = BTreeMap::from([
        (CHILD, Says::NoMore),
        (PARENT, Says::Has(&batches, 1)),
        (CROSS, Says::NoMore),
    ]);
    desk.frame(CHILD, boast.clone());
    desk.frame(PARENT, Frame::Heads(vec![head(&batches[99])]));
    for _ in 0..4 * 5 {
        desk.frame(CHILD, boast.clone());
        round(&mut desk, origin, &says);
    }
    assert_eq!(desk.got.len(), 100);
}

#[test]
fn a_false_gone_does_not_keep_a_node_from_passing_a_true_hole() {
    let mut desk = Desk::new(Relay::Verified);
    let batches = chain(1, 12, b"hello");
    let origin = batches[0].origin();
    desk.batch(PARENT, &batches[0]);
    let says = BTreeMap::from([
        (CHILD, Says::Gone(3, None)),
        (PARENT, Says::Gone(7, Some(&batches[6..]))),
        (CROSS, Says::Gone(7, Some(&batches[6..]))),
    ]);
    desk.batch(PARENT, &batches[11]);
    for _ in 0..4 * 8 {
        round(&mut desk, origin, &says);
    }
    assert_eq!(numbers(&desk), [1, 7, 8, 9, 10, 11, 12]);
    assert_eq!(desk.missed, [(Position::new(EPOCH, 1), Position::new(EPOCH, 7))]);
}

#[test]
fn one_alone_that_says_gone_makes_nobody_pass_over_what_comes() {
    let mut desk = Desk::new(Relay::Verified);
    let batches = chain(1, 9, b"hello");
    let origin = batches[0].origin();
    desk.batch(PARENT, &batches[0]);
    let says = BTreeMap::from([
        (CHILD, Says::Gone(8, Some(&batches[7..]))),
        (PARENT, Says::NoMore),
        (CROSS, Says::NoMore),
    ]);
    desk.batch(CHILD, &batches[7]);
    for _ in 0..4 * 2 {
        round(&mut desk, origin, &says);
    }
    for batch in &batches[1..] {
        desk.batch(PARENT, batch);
    }
    assert_eq!(numbers(&desk), (1..=9).collect::<Vec<_>>());
    assert_eq!(desk.missed, []);
}

#[test]
fn one_alone_is_believed_in_the_end() {
    let mut desk = Desk::new(Relay::Verified);
    let batches = chain(1, 9, b"hello");
    let origin = batches[0].origin();
    desk.batch(PARENT, &batches[0]);
    let says = BTreeMap::from([
        (CHILD, Says::NoMore),
        (PARENT, Says::Gone(8, Some(&batches[7..]))),
        (CROSS, Says::NoMore),
    ]);
    desk.batch(PARENT, &batches[8]);
    for _ in 0..4 * 6 {
        round(&mut desk, origin, &says);
    }
    assert_eq!(numbers(&desk), [1, 8, 9]);
}

/// An epoch of three messages, and the next one.
fn two_epochs() -> (Vec<Batch>, Batch) {
    let old = chain(1, 3, b"old");
    let new = batch_of(EPOCH + 60, 1, 1, BatchId::NONE, b"new");
    (old, new)
}

#[test]
fn the_end_of_an_old_epoch_is_not_passed_over_for_one_that_begins_the_new_one() {
    let (old, new) = two_epochs();
    let origin = new.origin();
    let mut desk = Desk::new(Relay::Verified);
    desk.batch(PARENT, &old[0]);
    let begins = [new.clone()];
    let whole = [old.clone(), vec![new.clone()]].concat();
    let says = BTreeMap::from([
        (CHILD, Says::Has(&begins, 64)),
        (PARENT, Says::NoMore),
        // Only a cross link has the end.
        (CROSS, Says::Has(&whole, 64)),
    ]);
    desk.batch(CHILD, &new);
    for _ in 0..8 {
        round(&mut desk, origin, &says);
    }
    let all: Vec<Position> = whole.iter().map(Batch::last).collect();
    assert_eq!(desk.got, all);
}

#[test]
fn a_new_epoch_begins_when_nobody_has_more_of_the_old_one() {
    let (old, new) = two_epochs();
    let origin = new.origin();
    let mut desk = Desk::new(Relay::Verified);
    desk.batch(PARENT, &old[0]);
    let begins = [new.clone()];
    let says = BTreeMap::from([
        (CHILD, Says::NoMore),
        (PARENT, Says::Has(&begins, 64)),
        (CROSS, Says::Nothing),
    ]);
    desk.batch(PARENT, &new);
    let mut rounds = 0;
    while desk.got.len() < 2 {
        round(&mut desk, origin, &says);
        rounds += 1;
        assert!(rounds < 4 * 4, "in vain");
    }
    assert_eq!(desk.got, [old[0].last(), new.last()]);
}

/// Whoever holds many keys does not make this node flood its neighbours with what they have done.
#[test]
fn evidence_against_many_is_sent_at_a_pace_that_neighbours_take() {
    let mut desk = Desk::new(Relay::Verified);
    let mut other = Desk::of(200, Relay::Verified);
    let many = 90;
    for origin in 1..=many {
        let [one, fork] = [b"for you", b"for her"].map(|body| chain(origin, 1, body).remove(0));
        other.batch(CHILD, &one);
        desk.batch(PARENT, &one);
        desk.batch(PARENT, &fork);
    }
    let origins: Vec<Origin> = (1..=many).map(|n| Origin::from(desk::key(n).public())).collect();
    assert!(origins.iter().all(|origin| desk.core.evidence(origin).is_some()));
    assert_eq!(desk.core.rests_until(), None);
    let mut told = 0;
    for _ in 0..60 {
        let now: Vec<_> = std::mem::take(&mut desk.sent)
            .into_iter()
            .filter(|(link, frame)| *link == CHILD && matches!(frame, Frame::Evidence(_)))
            .collect();
        assert!(now.len() <= WARNINGS_PER_TICK as usize, "{} at once", now.len());
        told += now.len();
        now.into_iter().for_each(|(_, frame)| other.frame(PARENT, frame));
        desk.wait(250);
        other.wait(250);
    }
    assert_eq!(told, origins.len());
    assert!(origins.iter().all(|origin| other.core.evidence(origin).is_some()));
    assert_eq!(other.cuts, []);
}

#[test]
fn what_is_asked_of_one_neighbour_fits_its_queue() {
    let mut desk = Desk::new(Relay::Verified);
    let streams: Vec<_> = (1..=20).map(|origin| chain(origin, 2, b"hello")).collect();
    for stream in &streams {
        desk.batch(PARENT, &stream[0]);
    }
    let heads = streams.iter().map(|stream| head(&stream[1])).collect();
    desk.frame(PARENT, Frame::Heads(heads));
    let windows: Vec<_> = desk.fetches_to(PARENT).iter().map(|fetch| fetch.window).collect();
    assert_eq!(windows.len(), 8);
    let bytes: u32 = windows.iter().sum();
    assert!((bytes as usize) < SERVING_BYTES_PER_LINK * 3 / 4, "{windows:?}");
    // And whoever asks for more of this node gets no more.
    let mut asked = 0;
    let origin = streams[0][0].origin();
    let mut out = Vec::new();
    for _ in 0..16 {
        let fetch =
            borgios_stream::frame::Fetch { origin, after: Position::START, window: u32::MAX };
        let input = borgios_stream::Input::Frame { link: CHILD, frame: Frame::Fetch(fetch) };
        desk.core.handle(desk.now, input, &mut out);
        asked += 1;
    }
    assert!(out.len() <= 4, "{} of {asked} fetches of a whole window are read at once", out.len());
}
