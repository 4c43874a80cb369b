//! What relays can do with what governors signed: two histories, one told to each half of a fleet.

#![allow(clippy::unwrap_used, reason = "tests")]

use borgios_policy::fixture::{Council, NOW, release_body, statement};
use borgios_policy::{Chain, Lane, Refusal, Verdict};
use borgios_types::{Envelope, Round};

fn apply(chain: &mut Chain, envelope: &Envelope) {
    match chain.verify(NOW, envelope, &[]).unwrap() {
        Verdict::New(verified) => chain.apply(*verified),
        Verdict::AlreadyKnown(_) => panic!("known"),
    }
}

/// A board whose members broke their word signed two documents for one place, and relays showed
/// one to each half. Whoever of the one half compares heads with whoever of the other finds it, in
/// both directions, at the head and long after; and nobody's history changes.
#[test]
fn t39_two_halves_with_different_signed_heads_find_it_whenever_two_compare() {
    let council = Council::new(3, 2, 1, 39);
    let first = council.sign(&council.first_policy(2));
    let network = first.id();
    let one = statement(Lane::Release, 1, Some(network), None, Some(1), release_body("1.0"));
    let mut other = statement(Lane::Release, 1, Some(network), None, Some(1), release_body("6.6"));
    // The same place in another round is a rival just as well.
    for round in [Round(0), Round(1)] {
        other.round = round;
        let (one, other) = (council.sign(&one), council.sign(&other));
        let mut halves = [Chain::new(Some(network)), Chain::new(Some(network))];
        for (half, release) in halves.iter_mut().zip([&one, &other]) {
            apply(half, &first);
            apply(half, release);
        }
        for (half, foreign) in halves.iter().zip([&other, &one]) {
            let refusal = half.verify(NOW, foreign, &[]).unwrap_err();
            assert!(matches!(refusal, Refusal::Rival { .. }), "{refusal}");
            assert!(refusal.is_evidence());
        }
        // Both go on; the successor of one is a rival to the other by its `prev`.
        let mut heads = Vec::new();
        for (half, version) in halves.iter_mut().zip(["2.0", "7.0"]) {
            let prev = half.head(Lane::Release).map(|head| head.id());
            let next =
                statement(Lane::Release, 2, Some(network), prev, Some(1), release_body(version));
            let next = council.sign(&next);
            apply(half, &next);
            heads.push(next);
        }
        let ids: Vec<_> =
            halves.iter().map(|half| half.head(Lane::Release).unwrap().id()).collect();
        for (half, foreign) in halves.iter().zip(heads.iter().rev()) {
            assert!(half.verify(NOW, foreign, &[]).unwrap_err().is_evidence());
        }
        let after: Vec<_> =
            halves.iter().map(|half| half.head(Lane::Release).unwrap().id()).collect();
        assert_eq!(ids, after);
    }
}

/// What a relay withholds cannot make the rest mean something else: without one statement on the
/// way the next is a gap, never accepted in its place.
#[test]
fn t35_a_statement_held_back_leaves_a_gap_and_nothing_else() {
    let council = Council::new(3, 2, 1, 35);
    let first = council.sign(&council.first_policy(2));
    let network = first.id();
    let mut whole = Chain::new(Some(network));
    apply(&mut whole, &first);
    let mut releases = Vec::new();
    for seq in 1..=4 {
        let prev = whole.head(Lane::Release).map(|head| head.id());
        let body = release_body(&format!("{seq}.0"));
        let next = council.sign(&statement(Lane::Release, seq, Some(network), prev, Some(1), body));
        apply(&mut whole, &next);
        releases.push(next);
    }
    for held in 0..releases.len() {
        let mut chain = Chain::new(Some(network));
        apply(&mut chain, &first);
        for (at, release) in releases.iter().enumerate().filter(|(at, _)| *at != held) {
            if at < held {
                apply(&mut chain, release);
            } else {
                let refusal = chain.verify(NOW, release, &[]).unwrap_err();
                assert!(matches!(refusal, Refusal::Gap { .. }), "{refusal}");
            }
        }
        // It comes another way, and all is as if nothing had been held back.
        for release in &releases[held..] {
            apply(&mut chain, release);
        }
        let head = |chain: &Chain| chain.head(Lane::Release).map(|head| head.id());
        assert_eq!(head(&chain), head(&whole));
    }
}
