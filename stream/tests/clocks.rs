//! A clock that is days ahead when a stream begins: others take nothing of it, and once the clock is right
//! nobody is told that a message was published which none of them will hear.

#![allow(clippy::unwrap_used, reason = "what a test makes itself is as it was made")]

mod desk;

use borgios_stream::bounds::EPOCH_AHEAD_MAX_S;
use borgios_stream::{Durability, Input, Kind, Position, Relay, Ticket};
use borgios_types::UnixSeconds;
use bytes::Bytes;
use desk::{CHILD, Desk, EPOCH, PARENT};

/// How far a clock is ahead that is wrong.
const AHEAD_S: u64 = 2 * EPOCH_AHEAD_MAX_S;

fn publish(desk: &mut Desk, ticket: u64, durability: Durability) {
    let (kind, body) = (Kind::new("chat").unwrap(), Bytes::from_static(b"mine"));
    desk.step(Input::Publish { ticket: Ticket(ticket), kind, durability, body });
}

/// What one node has sent to its child comes to the other.
fn carry(from: &mut Desk, to: &mut Desk) {
    for (link, frame) in std::mem::take(&mut from.sent) {
        if link == CHILD {
            to.frame(PARENT, frame);
        }
    }
}

/// How often a node said something that begins so.
fn said(desk: &Desk, beginning: &str) -> usize {
    desk.said.iter().filter(|said| said.starts_with(beginning)).count()
}

/// A node that published one message while its clock was ahead; then the clock is set right.
fn begun_ahead() -> Desk {
    let mut desk = Desk::of(1, Relay::Verified);
    desk.now.unix = UnixSeconds(EPOCH + AHEAD_S);
    publish(&mut desk, 1, Durability::Durable);
    assert_eq!((said(&desk, "Published"), desk.got.len()), (1, 1));
    desk.now.unix = UnixSeconds(EPOCH);
    desk
}

#[test]
fn a_stream_of_the_future_is_refused_by_name_and_one_begun_anew_reaches_the_others() {
    let (mut speaker, mut other) = (begun_ahead(), Desk::new(Relay::Verified));
    carry(&mut speaker, &mut other);
    assert!(other.got.is_empty(), "others take nothing of the kind");
    for (ticket, durability) in [(2, Durability::Durable), (3, Durability::Volatile)] {
        publish(&mut speaker, ticket, durability);
    }
    assert_eq!(said(&speaker, "Published"), 1, "{:?}", speaker.said);
    assert_eq!(said(&speaker, "Refused"), 2, "{:?}", speaker.said);
    assert!(speaker.said.iter().any(|said| said.contains("Ticket(3), why: Ahead")));
    assert_eq!(said(&speaker, "Ahead"), 1, "it is said once");
    assert_eq!((speaker.batches_sent_to(CHILD), speaker.got.len()), (0, 1));
    assert_eq!(speaker.core.load().waiting_bytes, 0);
    // What it says to do: the log is moved away.
    let mut anew = Desk::of(1, Relay::Verified);
    publish(&mut anew, 1, Durability::Durable);
    carry(&mut anew, &mut other);
    assert_eq!(other.got, [Position::new(EPOCH, 1)]);
}

#[test]
fn what_waits_while_the_clock_is_set_back_is_refused_too() {
    let mut desk = begun_ahead();
    desk.now.unix = UnixSeconds(EPOCH + AHEAD_S);
    desk.step(Input::PublishMore(true));
    publish(&mut desk, 2, Durability::Durable);
    assert_eq!(said(&desk, "Refused"), 0);
    desk.now.unix = UnixSeconds(EPOCH);
    desk.step(Input::PublishMore(false));
    assert_eq!((said(&desk, "Published"), said(&desk, "Refused")), (1, 1), "{:?}", desk.said);
}

#[test]
fn where_it_was_the_clock_that_was_set_wrong_the_stream_goes_on() {
    let mut desk = begun_ahead();
    publish(&mut desk, 2, Durability::Durable);
    // A day ahead is what others take, and not a second more.
    for (back, number) in [(EPOCH_AHEAD_MAX_S + 1, 1), (EPOCH_AHEAD_MAX_S, 2), (0, 3)] {
        desk.now.unix = UnixSeconds(EPOCH + AHEAD_S - back);
        publish(&mut desk, number + 10, Durability::Durable);
        let me = borgios_stream::Origin::from(desk::key(1).public());
        let head = desk.core.head(&me).unwrap();
        assert_eq!(head, Position::new(EPOCH + AHEAD_S, number), "{back} s");
    }
    // Said again if it is so again.
    desk.now.unix = UnixSeconds(EPOCH);
    publish(&mut desk, 20, Durability::Durable);
    assert_eq!(said(&desk, "Ahead"), 2, "{:?}", desk.said);
}
