//! What comes late is told over cross links at once; what a newcomer says waits for its record.

#![allow(clippy::unwrap_used, reason = "what a test makes itself is as it was made")]

mod desk;

use borgios_stream::bounds::{LATE_AFTER_S, NEWCOMERS_MAX};
use borgios_stream::frame::Served;
use borgios_stream::{Admission, BatchId, Frame, Head, Input, Relay};
use borgios_types::UnixSeconds;
use desk::{CHILD, CROSS, Desk, EPOCH, PARENT, batch, chain};

fn desk() -> Desk {
    let mut desk = Desk::new(Relay::Verified);
    // The first comparison is behind us.
    desk.wait(250);
    desk.sent.clear();
    desk
}

#[test]
fn what_is_in_time_is_told_nobody_and_what_is_late_cross_links_alone() {
    let mut desk = desk();
    let batches = chain(1, 3, b"hello");
    desk.batch(PARENT, &batches[0]);
    desk.wait(1_000);
    assert!(desk.heads_to(CROSS).is_empty(), "it came in time");
    desk.now.unix = UnixSeconds(EPOCH + LATE_AFTER_S + 1);
    desk.batch(PARENT, &batches[1]);
    desk.wait(250);
    let head = Head { origin: batches[1].origin(), last: batches[1].last(), id: batches[1].id() };
    assert_eq!(desk.heads_to(CROSS), [head]);
    assert!(desk.heads_to(PARENT).is_empty() && desk.heads_to(CHILD).is_empty());
    // Once a second at most, the newest alone, and not again.
    desk.sent.clear();
    desk.batch(PARENT, &batches[2]);
    desk.wait(500);
    assert!(desk.heads_to(CROSS).is_empty(), "told less than a second ago");
    desk.wait(2_000);
    assert_eq!(desk.heads_to(CROSS).len(), 1);
    assert!(desk.core.rests_until().is_some(), "nothing is left to do");
}

#[test]
fn a_node_without_cross_links_rests_whatever_comes_late() {
    let mut desk = desk();
    desk.step(Input::LinkDown(CROSS));
    desk.now.unix = UnixSeconds(EPOCH + LATE_AFTER_S + 1);
    desk.batch(PARENT, &chain(1, 1, b"hello")[0]);
    desk.wait(250);
    assert!(desk.core.rests_until().is_some());
}

#[test]
fn what_a_newcomer_said_is_fetched_once_its_record_is_here() {
    let mut desk = desk();
    let batches = chain(1, 2, b"hello");
    let origin = batches[0].origin();
    desk.admission = Admission::Later;
    desk.batch(PARENT, &batches[0]);
    desk.batch(PARENT, &batches[1]);
    assert!(desk.got.is_empty() && desk.fetches_to(PARENT).is_empty());
    desk.wait(2_000);
    assert!((3..=4).contains(&desk.asked), "asked {} times", desk.asked);
    desk.admission = Admission::Yes;
    desk.wait(1_250);
    let fetches = desk.fetches_to(PARENT);
    assert_eq!(fetches.len(), 1, "it is a member now");
    let served = Served { origin, head: batches[1].last(), count: 2 };
    desk.frame(PARENT, Frame::Served(served));
    batches.iter().for_each(|batch| desk.batch(PARENT, batch));
    assert_eq!(desk.got.len(), 2);
}

#[test]
fn strangers_are_asked_about_for_a_while_and_no_more_than_a_few_of_them() {
    let mut desk = desk();
    desk.admission = Admission::Later;
    let strangers = NEWCOMERS_MAX + 20;
    for n in 0..strangers {
        desk.batch(PARENT, &batch(1_000 + n as u16, 1, BatchId::NONE, b"let me in"));
    }
    assert_eq!(desk.asked, strangers);
    desk.wait(1_000);
    assert_eq!(desk.asked, strangers + NEWCOMERS_MAX);
    desk.wait(10_000);
    let asked = desk.asked;
    desk.wait(5_000);
    assert_eq!(desk.asked, asked, "nobody is asked about for ever");
    assert!(desk.core.rests_until().is_some());
    assert_eq!(desk.core.load().held_bytes, 0);
}
