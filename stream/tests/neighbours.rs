//! What one core does with honest, slow, full and hostile neighbours, step by step.

#![allow(clippy::unwrap_used, reason = "what a test makes itself is as it was made")]

mod desk;

use borgios_stream::bounds::{
    AHEAD_MAX, ASKED_MAX, BATCH_BODY_MAX, DELIVERY_WINDOW, HELD_MAX, LINK_AHEAD_MAX,
    NODE_AHEAD_MAX, PENDING_MAX, STREAM_PENDING_MAX, UNJUDGED_MAX,
};
use borgios_stream::frame::{Disown, Fetch, Gone, Served};
use borgios_stream::log::Recovered;
use borgios_stream::{
    Admission, Batch, BatchId, Config, Core, Durability, Frame, Input, Kind, LinkId, Misdeed, Now,
    Origin, Output, Position, Relay, Role, Ticket, jobs,
};
use borgios_types::{Time, UnixSeconds};
use bytes::Bytes;
use desk::{CHILD, CROSS, Desk, EPOCH, PARENT, batch, chain, forged, key, network};

#[test]
fn a_batch_goes_down_the_tree_and_to_the_application_once() {
    let mut desk = Desk::new(Relay::Verified);
    let batches = chain(1, 3, b"hello");
    for batch in batches.iter().chain(&batches) {
        desk.batch(PARENT, batch);
    }
    assert_eq!(desk.got.len(), 3);
    assert_eq!(desk.batches_sent_to(CHILD), 3);
    assert_eq!((desk.batches_sent_to(PARENT), desk.batches_sent_to(CROSS)), (0, 0));
}

#[test]
fn a_gap_is_fetched_and_what_came_early_is_not_sent_for_again() {
    let mut desk = Desk::new(Relay::Verified);
    let batches = chain(1, 5, b"hello");
    desk.batch(PARENT, &batches[0]);
    desk.batch(PARENT, &batches[3]);
    desk.batch(PARENT, &batches[4]);
    let origin = batches[0].origin();
    let after = Position::new(EPOCH, 1);
    let fetches = desk.fetches_to(PARENT);
    assert_eq!(fetches.iter().map(|f| (f.origin, f.after)).collect::<Vec<_>>(), [(origin, after)]);
    let head = Position::new(EPOCH, 3);
    desk.frame(PARENT, Frame::Served(Served { origin, head, count: 2 }));
    desk.batch(PARENT, &batches[1]);
    desk.batch(PARENT, &batches[2]);
    assert_eq!(desk.got.len(), 5);
    assert_eq!(desk.fetches_to(PARENT).len(), 1);
}

#[test]
fn a_forgery_goes_no_further_and_costs_its_bringer_the_link() {
    let mut desk = Desk::new(Relay::Verified);
    let batches = chain(1, 2, b"hello");
    desk.batch(CHILD, &batches[0]);
    desk.batch(PARENT, &forged(&batches[1]));
    assert!(desk.cuts.is_empty(), "it may have forwarded it before it verified it");
    desk.wait(1_250);
    assert!(matches!(desk.cuts[..], [(PARENT, Misdeed::Forgery(_))]), "{:?}", desk.cuts);
    assert_eq!(desk.batches_sent_to(CHILD), 0);
    desk.batch(CHILD, &batches[1]);
    assert_eq!(desk.got.len(), 2);
}

#[test]
fn a_relay_that_disowns_what_it_forwarded_keeps_its_link() {
    let mut desk = Desk::new(Relay::Link);
    let batches = chain(1, 2, b"hello");
    let bad = forged(&batches[1]);
    desk.batch(PARENT, &batches[0]);
    desk.batch(PARENT, &bad);
    let disown = Disown { origin: bad.origin(), first: bad.first(), id: bad.id() };
    // This node forwarded it too, and says so itself.
    assert!(desk.sent.contains(&(CHILD, Frame::Disown(disown))));
    desk.frame(PARENT, Frame::Disown(disown));
    desk.wait(2_000);
    assert_eq!(desk.cuts, []);
    // Over a cross link nothing is forwarded unverified.
    desk.batch(CROSS, &bad);
    assert!(matches!(desk.cuts[..], [(CROSS, Misdeed::Forgery(_))]), "{:?}", desk.cuts);
}

fn disown(bad: &Batch) -> Frame {
    Frame::Disown(Disown { origin: bad.origin(), first: bad.first(), id: bad.id() })
}

/// Whatever a forger sends through an honest node at a time: that is not taken for the forger.
#[test]
fn many_forgeries_at_once_cost_a_relay_that_disowns_them_nothing() {
    for late in [false, true] {
        let mut desk = Desk::new(Relay::Link);
        let chains: Vec<_> = (1..=60).map(|origin| chain(origin, 2, b"x")).collect();
        chains.iter().for_each(|chain| desk.batch(CHILD, &chain[0]));
        let bad: Vec<_> = chains.iter().map(|chain| forged(&chain[1])).collect();
        for bad in &bad {
            if !late {
                desk.frame(PARENT, disown(bad));
            }
            desk.batch(PARENT, bad);
        }
        if late {
            bad.iter().for_each(|bad| desk.frame(PARENT, disown(bad)));
        }
        desk.wait(2_000);
        assert_eq!(desk.cuts, [], "disowned late: {late}");
        chains.iter().for_each(|chain| desk.batch(CHILD, &chain[1]));
        assert_eq!(desk.got.len(), 120);
    }
}

#[test]
fn after_a_forgery_a_relay_verifies_first_for_a_while() {
    let mut desk = Desk::new(Relay::Link);
    let chains: Vec<_> = (1..=3).map(|origin| chain(origin, 2, b"x")).collect();
    chains.iter().for_each(|chain| desk.batch(PARENT, &chain[0]));
    let forge = |desk: &mut Desk, chain: &[Batch]| {
        let before = desk.batches_sent_to(CHILD);
        let bad = forged(&chain[1]);
        desk.batch(PARENT, &bad);
        desk.frame(PARENT, disown(&bad));
        desk.batches_sent_to(CHILD) - before
    };
    assert_eq!(forge(&mut desk, &chains[0]), 1);
    assert_eq!(forge(&mut desk, &chains[1]), 0);
    desk.wait(61_000);
    assert_eq!(forge(&mut desk, &chains[2]), 1);
    assert_eq!(desk.cuts, []);
    desk.batch(PARENT, &chains[2][1]);
    assert_eq!(desk.core.head(&chains[2][1].origin()), Some(chains[2][1].last()));
}

#[test]
fn what_is_forwarded_before_it_is_judged_is_bounded_and_leaves_no_gap() {
    let config = Config { network: network(), me: key(0).public(), relay: Relay::Link };
    let mut core = Core::new(config, Recovered::default());
    let now = Now { time: Time(1), unix: UnixSeconds(EPOCH) };
    let mut out = Vec::new();
    for (link, peer) in [(PARENT, key(101)), (CHILD, key(102))] {
        core.handle(now, Input::LinkUp { link, peer: peer.public(), role: Role::Tree }, &mut out);
    }
    let batches = chain(1, UNJUDGED_MAX as u64 + 20, b"x");
    let origin = batches[0].origin();
    core.handle(now, Input::Admitted { origin, admission: Admission::Yes }, &mut out);
    out.clear();
    for batch in &batches {
        core.handle(
            now,
            Input::Frame { link: PARENT, frame: Frame::Batch(batch.clone()) },
            &mut out,
        );
    }
    core.check().unwrap();
    let sent = |out: &[Output]| {
        out.iter().filter(|output| matches!(output, Output::Send { link: CHILD, .. })).count()
    };
    assert_eq!(sent(&out), UNJUDGED_MAX);
    // Once they are verified, the others follow, in order.
    let jobs = out.iter().filter_map(|output| match output {
        Output::Verify(job) => Some(Input::Verified { job: job.job, verdict: job.run() }),
        _ => None,
    });
    let verdicts: Vec<_> = jobs.collect();
    verdicts.into_iter().for_each(|verdict| core.handle(now, verdict, &mut out));
    core.check().unwrap();
    let frames = out.iter().filter_map(|output| match output {
        Output::Send { link: CHILD, frame } => Some(frame.clone()),
        _ => None,
    });
    let all: Vec<_> = batches.iter().map(|batch| batch.bytes().clone()).collect();
    assert_eq!(frames.collect::<Vec<_>>(), all);
}

/// A forgery may be the last that its queue had room for; untold, it would take this node for a forger.
#[test]
fn who_does_not_keep_up_is_told_of_a_forgery_all_the_same() {
    let config = Config { network: network(), me: key(0).public(), relay: Relay::Link };
    let mut core = Core::new(config, Recovered::default());
    let now = Now { time: Time(1), unix: UnixSeconds(EPOCH) };
    let mut out = Vec::new();
    for (link, peer) in [(PARENT, key(101)), (CHILD, key(102))] {
        core.handle(now, Input::LinkUp { link, peer: peer.public(), role: Role::Tree }, &mut out);
    }
    let bad = forged(&chain(1, 1, b"x")[0]);
    let origin = bad.origin();
    core.handle(now, Input::Admitted { origin, admission: Admission::Yes }, &mut out);
    out.clear();
    core.handle(now, Input::Frame { link: PARENT, frame: Frame::Batch(bad.clone()) }, &mut out);
    assert!(out.iter().any(|output| matches!(output, Output::Send { link: CHILD, .. })));
    let jobs = out.iter().filter_map(|output| match output {
        Output::Verify(job) => Some(Input::Verified { job: job.job, verdict: job.run() }),
        _ => None,
    });
    let verdicts: Vec<_> = jobs.collect();
    out.clear();
    core.handle(now, Input::LinkFull(CHILD), &mut out);
    verdicts.into_iter().for_each(|verdict| core.handle(now, verdict, &mut out));
    let told = disown(&bad).encode();
    let frames = out.iter().filter_map(|output| match output {
        Output::Send { link: CHILD, frame } => Some(frame.clone()),
        _ => None,
    });
    assert!(frames.collect::<Vec<_>>().contains(&told));
    core.check().unwrap();
}

/// What comes too early is never judged if its numbers never come: its bringer has a share, and it goes
/// with the link.
#[test]
fn what_came_too_early_is_bounded_for_a_link_and_goes_with_it() {
    let mut desk = Desk::new(Relay::Verified);
    let body = vec![0; 250_000];
    for origin in 1..=12 {
        let known = chain(origin, 1, b"x");
        desk.batch(PARENT, &known[0]);
        for number in 1_000..1_004 {
            desk.batch(CHILD, &batch(origin, number, BatchId([1; 32]), &body));
        }
    }
    let ahead = desk.core.load().ahead_bytes;
    assert!((LINK_AHEAD_MAX / 2..=LINK_AHEAD_MAX).contains(&ahead), "{ahead} bytes");
    // Others' share is untouched.
    desk.batch(PARENT, &batch(12, 3, BatchId([1; 32]), &body));
    let both = desk.core.load().ahead_bytes;
    assert!(both > ahead, "{both} bytes");
    desk.step(Input::LinkDown(CHILD));
    assert!(desk.core.load().ahead_bytes < 300_000, "{:?}", desk.core.load());
    desk.step(Input::LinkDown(PARENT));
    assert_eq!(desk.core.load().ahead_bytes, 0);
}

/// As many as can use up what the node has for all: what somebody else brings is kept all the same.
#[test]
fn neighbours_that_bring_much_too_early_keep_out_nothing_of_the_others() {
    let mut desk = Desk::new(Relay::Verified);
    let body = vec![0; 250_000];
    let known = |desk: &mut Desk, origin| {
        let first = chain(origin, 1, b"x").remove(0);
        desk.batch(PARENT, &first);
    };
    let greedy = [11, 12, 13, 14].map(LinkId);
    let mut origin = 0;
    for link in greedy {
        let peer = key(100 + link.0 as u16).public();
        desk.step(Input::LinkUp { link, peer, role: Role::Tree });
        for _ in 0..9 {
            origin += 1;
            known(&mut desk, origin);
            for number in 1_000..1_004 {
                desk.batch(link, &batch(origin, number, BatchId([1; 32]), &body));
            }
        }
    }
    let before = desk.core.load().ahead_bytes;
    assert!((NODE_AHEAD_MAX - AHEAD_MAX..=NODE_AHEAD_MAX).contains(&before), "{before} bytes");
    known(&mut desk, 100);
    for number in 3..7 {
        desk.batch(PARENT, &batch(100, number, BatchId([1; 32]), &body));
    }
    let after = desk.core.load().ahead_bytes;
    assert!(after <= NODE_AHEAD_MAX, "{after} bytes");
    greedy.into_iter().for_each(|link| desk.step(Input::LinkDown(link)));
    let kept = desk.core.load().ahead_bytes;
    assert!(kept > 4 * body.len(), "{kept} bytes of what the parent brought");
}

#[test]
fn ten_thousand_origins_cost_bounded_memory() {
    let config = Config { network: network(), me: key(0).public(), relay: Relay::Verified };
    let mut core = Core::new(config, Recovered::default());
    let now = Now { time: Time(1), unix: UnixSeconds(EPOCH) };
    let mut out = Vec::new();
    let peer = key(1).public();
    core.handle(now, Input::LinkUp { link: PARENT, peer, role: Role::Tree }, &mut out);
    // Nothing is answered: neither questions nor jobs. Signatures are not looked at before.
    let template = batch(1, 1, BatchId::NONE, &[0; 4_096]);
    let of = |n: u16| {
        let mut bytes = template.bytes().to_vec();
        let signed = template.signed_part().len();
        for at in [40, signed + 2 + 33] {
            bytes[at..at + 2].copy_from_slice(&n.to_be_bytes());
        }
        Batch::parse(bytes.into()).unwrap()
    };
    for n in 0..10_000 {
        core.handle(now, Input::Frame { link: PARENT, frame: Frame::Batch(of(n)) }, &mut out);
    }
    let load = core.load();
    assert!(load.held_bytes <= HELD_MAX && load.streams == 1, "{load:?}");
    let asked = out.iter().filter(|output| matches!(output, Output::Admit(_))).count();
    assert_eq!(asked, ASKED_MAX);
    // All of them members: what is pending has a bound too.
    for n in 0..10_000 {
        let origin = of(n).origin();
        core.handle(now, Input::Admitted { origin, admission: Admission::Yes }, &mut out);
        core.handle(now, Input::Frame { link: PARENT, frame: Frame::Batch(of(n)) }, &mut out);
    }
    let load = core.load();
    assert!(load.streams > 10_000 && load.pending_bytes <= PENDING_MAX, "{load:?}");
    core.check().unwrap();
}

#[test]
fn one_stream_cannot_use_up_the_memory_of_all() {
    let config = Config { network: network(), me: key(0).public(), relay: Relay::Link };
    let mut core = Core::new(config, Recovered::default());
    let now = Now { time: Time(1), unix: UnixSeconds(EPOCH) };
    let mut out = Vec::new();
    let peer = key(1).public();
    core.handle(now, Input::LinkUp { link: PARENT, peer, role: Role::Tree }, &mut out);
    let batches = chain(1, 40, &vec![0; BATCH_BODY_MAX]);
    let origin = batches[0].origin();
    core.handle(now, Input::Admitted { origin, admission: Admission::Yes }, &mut out);
    for batch in batches {
        core.handle(now, Input::Frame { link: PARENT, frame: Frame::Batch(batch) }, &mut out);
    }
    assert!(core.load().pending_bytes <= STREAM_PENDING_MAX, "{:?}", core.load());
}

#[test]
fn a_flood_of_requests_is_dropped_then_cut_off() {
    let mut desk = Desk::new(Relay::Verified);
    let origin = Origin([1; 32]);
    let fetch = Fetch { origin, after: Position::START, window: u32::MAX };
    for _ in 0..20_000 {
        desk.frame(CHILD, Frame::Fetch(fetch));
    }
    assert_eq!(desk.cuts, [(CHILD, Misdeed::Flood)]);
    assert!(desk.sent.len() < 2_000, "{} answers", desk.sent.len());
}

#[test]
fn own_messages_are_stored_before_they_are_sent_or_given_back() {
    let mut desk = Desk::new(Relay::Verified);
    let publish = |ticket| Input::Publish {
        ticket: Ticket(ticket),
        kind: Kind::new("chat").unwrap(),
        durability: Durability::Durable,
        body: Bytes::from_static(b"mine"),
    };
    desk.full = true;
    desk.step(publish(1));
    assert!(desk.said[0].contains("NotStored"), "{:?}", desk.said);
    assert_eq!(desk.batches_sent_to(CHILD), 0);
    desk.full = false;
    desk.step(publish(2));
    assert!(desk.said[1].contains("Published"), "{:?}", desk.said);
    assert_eq!((desk.batches_sent_to(CHILD), desk.batches_sent_to(PARENT)), (1, 1));
    assert_eq!(desk.got, [Position::new(EPOCH, 1)]);
}

#[test]
fn what_a_full_disk_could_not_take_is_fetched_again() {
    let mut desk = Desk::new(Relay::Verified);
    let batches = chain(1, 2, b"hello");
    let origin = batches[0].origin();
    desk.batch(PARENT, &batches[0]);
    desk.full = true;
    desk.batch(PARENT, &batches[1]);
    assert_eq!(desk.got.len(), 1);
    desk.full = false;
    desk.wait(2_500);
    assert_eq!(desk.fetches_to(PARENT).len(), 1);
    let head = Position::new(EPOCH, 2);
    desk.frame(PARENT, Frame::Served(Served { origin, head, count: 1 }));
    desk.batch(PARENT, &batches[1]);
    assert_eq!(desk.got.len(), 2);
}

#[test]
fn a_slow_application_is_served_from_the_log_and_misses_nothing() {
    let mut desk = Desk::new(Relay::Verified);
    desk.takes = false;
    let body = vec![0; BATCH_BODY_MAX];
    let batches = chain(1, 45, &body);
    let origin = batches[0].origin();
    for batch in &batches {
        desk.batch(PARENT, batch);
    }
    assert!(desk.core.load().given_bytes <= DELIVERY_WINDOW);
    let first = desk.got.len();
    assert!(first < 40, "{first} batches given");
    desk.takes = true;
    desk.step(Input::Taken { origin, upto: desk.got[first - 1] });
    desk.wait(500);
    let all: Vec<Position> = batches.iter().map(Batch::last).collect();
    assert_eq!(desk.got, all);
    assert_eq!(desk.missed, []);
}

#[test]
fn what_nobody_has_any_more_is_skipped_and_said() {
    let mut desk = Desk::new(Relay::Verified);
    let batches = chain(1, 9, b"hello");
    let origin = batches[0].origin();
    desk.batch(PARENT, &batches[0]);
    desk.batch(PARENT, &batches[7]);
    // Every neighbour is asked twice, and all say the same.
    for _ in 0..40 {
        for (link, frame) in std::mem::take(&mut desk.sent) {
            let Frame::Fetch(fetch) = frame else { continue };
            let next = Position::new(EPOCH, 7);
            if fetch.after < next.before() {
                desk.frame(link, Frame::Gone(Gone { origin, next }));
            } else {
                let head = Position::new(EPOCH, 8);
                desk.frame(link, Frame::Served(Served { origin, head, count: 2 }));
                desk.batch(link, &batches[6]);
                desk.batch(link, &batches[7]);
            }
        }
        desk.wait(250);
    }
    let got: Vec<u64> = desk.got.iter().map(|position| position.number).collect();
    assert_eq!(got, [1, 7, 8]);
    assert_eq!(desk.missed, [(Position::new(EPOCH, 1), Position::new(EPOCH, 7))]);
}

#[test]
fn what_a_cross_link_had_to_bring_is_noted() {
    let mut desk = Desk::new(Relay::Verified);
    let batches = chain(1, 2, b"hello");
    let origin = batches[0].origin();
    desk.batch(PARENT, &batches[0]);
    let head = borgios_stream::Head { origin, last: batches[1].last(), id: batches[1].id() };
    desk.frame(CROSS, Frame::Heads(vec![head]));
    assert!(desk.fetches_to(CROSS).is_empty(), "the tree has its turn first");
    desk.wait(1_500);
    assert_eq!(desk.fetches_to(CROSS).len(), 1);
    desk.frame(CROSS, Frame::Served(Served { origin, head: head.last, count: 1 }));
    desk.batch(CROSS, &batches[1]);
    assert_eq!(desk.got.len(), 2);
    assert!(desk.said.iter().any(|said| said.contains("Withheld")), "{:?}", desk.said);
    // And it goes on from here.
    assert_eq!(desk.batches_sent_to(CHILD), 2);
}

#[test]
fn an_expelled_origin_is_forgotten_and_an_epoch_of_tomorrow_is_not_followed() {
    let mut desk = Desk::new(Relay::Verified);
    let batches = chain(1, 2, b"hello");
    let origin = batches[0].origin();
    desk.batch(PARENT, &batches[0]);
    desk.step(Input::Admitted { origin, admission: Admission::No });
    desk.batch(PARENT, &batches[1]);
    assert_eq!((desk.core.head(&origin), desk.got.len()), (None, 1));
    desk.now.unix = UnixSeconds(EPOCH - 90_000);
    desk.batch(PARENT, &batch(2, 1, BatchId::NONE, b"from the day after tomorrow"));
    assert_eq!(desk.got.len(), 1);
    assert!(matches!(jobs::verify(&batches[0]), jobs::Verdict::Good(_)));
}
