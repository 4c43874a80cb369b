//! Places that a policy settles: closed ones, winners, and that every holder of the same statements
//! ends in the same state, whatever it heard of first.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use std::collections::BTreeSet;

use borgios_policy::fixture::{Council, NOW, release_body, statement};
use borgios_policy::{Chain, Lane, Policy, Refusal, Ruling, Statement, Submission, Tip, Verdict};
use borgios_types::{Digest, Envelope, Round, Seq, UnixSeconds};
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha20Rng;

fn fleet() -> (Council, Chain) {
    let council = Council::new(3, 2, 1, 1);
    let first = council.sign(&council.first_policy(2));
    let mut chain = Chain::new(Some(first.id()));
    admit(&mut chain, &first).unwrap();
    (council, chain)
}

fn admit(chain: &mut Chain, envelope: &Envelope) -> Result<(), Refusal> {
    match chain.verify(NOW, envelope, &[])? {
        Verdict::New(verified) => chain.apply(*verified),
        Verdict::AlreadyKnown(_) => {}
    }
    Ok(())
}

fn next(chain: &Chain, lane: Lane, body: serde_json::Value) -> Statement {
    let prev = chain.tip(lane).map(|tip| tip.id);
    let policy = Some(chain.head_seq(Lane::Policy).0);
    statement(lane, chain.head_seq(lane).next().0, chain.network(), prev, policy, body)
}

fn ruling(chain: &Chain, rulings: &[(u64, Option<Digest>)]) -> Statement {
    let mut rules = chain.policy().unwrap().clone();
    rules.rulings = rulings
        .iter()
        .map(|(seq, winner)| Ruling::new(Lane::Release, Seq(*seq), *winner))
        .collect();
    next(chain, Lane::Policy, rules.to_body())
}

#[test]
fn a_closed_place_is_passed_over_and_the_lane_goes_on_with_the_policys_id() {
    let (council, mut chain) = fleet();
    let open = next(&chain, Lane::Release, release_body("1"));
    let closing = council.sign(&ruling(&chain, &[(1, None), (2, None)]));
    admit(&mut chain, &closing).unwrap();
    let tip = Tip { seq: Seq(2), id: closing.id(), policy: Some(Seq(2)) };
    assert_eq!(chain.tip(Lane::Release), Some(tip));
    assert_eq!((chain.head(Lane::Release), chain.head_seq(Lane::Release)), (None, Seq(2)));
    let refused = chain.verify(NOW, &council.sign(&open), &[]).unwrap_err();
    assert!(matches!(refused, Refusal::Closed { by: Seq(2), .. }), "{refused}");
    let late = Statement { round: Round(1), policy: Some(Seq(2)), ..open };
    assert_eq!(chain.verify(NOW, &council.sign(&late), &[]).unwrap_err().code(), "closed");
    let third = next(&chain, Lane::Release, release_body("3"));
    assert_eq!((third.seq, third.prev), (Seq(3), Some(closing.id())));
    let older = Statement { policy: Some(Seq(1)), ..third.clone() };
    assert_eq!(chain.verify(NOW, &council.sign(&older), &[]).unwrap_err().code(), "wrong_policy");
    admit(&mut chain, &council.sign(&third)).unwrap();
    assert_eq!(chain.history().count(), 3);
    // The place that was closed stays so, whatever a later policy says.
    let again = ruling(&chain, &[(1, Some(Digest::of(b"other")))]);
    assert_eq!(chain.review(NOW, &again.to_envelope()).unwrap_err().code(), "bad_body");
    admit(&mut chain, &council.sign(&again)).unwrap();
    assert_eq!(chain.head_seq(Lane::Release), Seq(3));
}

/// What follows a closed place builds upon the ruling, not upon what a later one closes before it.
#[test]
fn what_stands_behind_a_closed_place_stays_when_the_one_before_it_is_closed_too() {
    let (council, start) = fleet();
    let mut ahead = start.clone();
    let two = council.sign(&ruling(&ahead, &[(2, None)]));
    let first = council.sign(&next(&ahead, Lane::Release, release_body("1")));
    for envelope in [&first, &two] {
        admit(&mut ahead, envelope).unwrap();
    }
    let third = council.sign(&next(&ahead, Lane::Release, release_body("3")));
    let one = council.sign(&ruling(&ahead, &[(1, None)]));
    for order in [[&first, &two, &third, &one], [&first, &two, &one, &third]] {
        let mut chain = start.clone();
        order.into_iter().for_each(|envelope| admit(&mut chain, envelope).unwrap());
        assert_eq!(chain.head(Lane::Release).map(|head| head.id()), Some(third.id()));
        assert_eq!(chain.overruled().map(|gone| gone.id()).collect::<Vec<_>>(), [first.id()]);
        assert_eq!(chain.history().count(), 4);
    }
}

#[test]
fn a_ruling_for_another_winner_takes_back_what_was_applied_and_all_that_followed() {
    let (council, mut chain) = fleet();
    let rival = council.sign(&next(&chain, Lane::Release, release_body("b")));
    for version in ["1", "2", "3"] {
        let mut one = next(&chain, Lane::Release, release_body(version));
        one.issued = UnixSeconds(NOW.0 + one.seq.0);
        admit(&mut chain, &council.sign(&one)).unwrap();
    }
    assert_eq!(chain.verify(NOW, &rival, &[]).unwrap_err().code(), "rival");
    assert_eq!(chain.now_floor(), UnixSeconds(NOW.0 + 3));
    let signed = council.sign(&ruling(&chain, &[(1, Some(rival.id()))]));
    admit(&mut chain, &signed).unwrap();
    assert_eq!(chain.tip(Lane::Release), None);
    assert_eq!(chain.overruled().count(), 3);
    assert!(chain.now_floor() < NOW, "nor does its date hold the clock");
    admit(&mut chain, &rival).unwrap();
    assert_eq!(chain.head(Lane::Release).unwrap().id(), rival.id());
    // A ruling for what stands changes nothing.
    let id = chain.head(Lane::Release).unwrap().id();
    let settled = council.sign(&ruling(&chain, &[(1, Some(id)), (9, None)]));
    admit(&mut chain, &settled).unwrap();
    assert_eq!(chain.head_seq(Lane::Release), Seq(1));
}

/// Brings `order` again and again until nothing new is taken, as neighbours do.
fn settle(mut chain: Chain, order: &[Envelope]) -> Chain {
    loop {
        let before = chain.history().count() + chain.rulings_count();
        for envelope in order {
            let _ = admit(&mut chain, envelope);
        }
        if chain.history().count() + chain.rulings_count() == before {
            return chain;
        }
    }
}

/// What has effect.
fn state(chain: &Chain) -> String {
    let lanes = Lane::ALL.map(|lane| {
        let all = chain.after(lane, Seq(0)).map(|at| (at.statement().seq, at.id()));
        (chain.tip(lane), all.collect::<Vec<_>>())
    });
    format!("{lanes:?} {} {:?}", chain.now_floor(), chain.policy().map(Policy::to_body))
}

#[test]
fn every_holder_of_the_same_statements_ends_in_the_same_state_whatever_came_first() {
    let (council, start) = fleet();
    // Place 1 has two documents, each with a successor; place 3 is closed; the lane goes on.
    let mut all: Vec<Envelope> = Vec::new();
    let mut heads = Vec::new();
    for (at, version) in ["a", "b"].into_iter().enumerate() {
        let mut one = next(&start, Lane::Release, release_body(version));
        one.issued = UnixSeconds(one.issued.0 + at as u64);
        let signed = council.sign(&one);
        let two = Statement { seq: Seq(2), prev: Some(signed.id()), ..one };
        heads.push((signed.id(), council.sign(&two)));
        all.extend([signed, heads[at].1.clone()]);
    }
    let winner = heads[1].0;
    let settles = council.sign(&ruling(&start, &[(1, Some(winner)), (3, None)]));
    let mut ahead = start.clone();
    for envelope in [&settles, &all[2], &all[3]] {
        admit(&mut ahead, envelope).unwrap();
    }
    let on_the_closed = council.sign(&next(&ahead, Lane::Release, release_body("c")));
    let wider = {
        let mut rules = ahead.policy().unwrap().clone();
        (rules.fanout, rules.rulings) = (9, Vec::new());
        council.sign(&next(&ahead, Lane::Policy, rules.to_body()))
    };
    all.extend([settles, on_the_closed, wider]);
    let mut ends = BTreeSet::new();
    for seed in 0..200_u64 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut order = all.clone();
        order.shuffle(&mut rng);
        let chain = settle(start.clone(), &order);
        assert_eq!(chain.head_seq(Lane::Release), Seq(4), "seed {seed}");
        assert_eq!(chain.head_seq(Lane::Policy), Seq(3), "seed {seed}");
        ends.insert(state(&chain));
        // And so does whoever reads it from disk, or is sent all of it at once.
        let mut stored: Vec<Envelope> =
            chain.history().chain(chain.overruled()).map(|at| at.envelope().clone()).collect();
        stored.shuffle(&mut rng);
        ends.insert(state(&Chain::restore(chain.network(), stored).unwrap()));
        let mut fresh = Chain::new(chain.network());
        order.push(start.head(Lane::Policy).unwrap().envelope().clone());
        let run = fresh.verify_run(NOW, &Submission::sort(order));
        run.accepted.into_iter().for_each(|verified| fresh.apply(verified));
        ends.insert(state(&fresh));
        // In the order of its history a newcomer takes it without a second look.
        let mut newcomer = Chain::new(chain.network());
        for verified in chain.history() {
            admit(&mut newcomer, verified.envelope()).unwrap();
        }
        ends.insert(state(&newcomer));
    }
    assert_eq!(ends.len(), 1, "{ends:#?}");
}

#[test]
fn what_a_closed_place_makes_of_evictions_is_undone_too() {
    let (council, mut chain) = fleet();
    let node = council.keys[&council.name(0)].public();
    let body = serde_json::json!({"evict": [node], "reason": "a mistake"});
    let signed = council.sign(&next(&chain, Lane::Member, body));
    admit(&mut chain, &signed).unwrap();
    assert!(chain.evicted().contains(&node));
    let mut rules = chain.policy().unwrap().clone();
    rules.rulings = vec![Ruling::new(Lane::Member, Seq(1), None)];
    let draft = next(&chain, Lane::Policy, rules.to_body());
    chain.review(NOW, &draft.to_envelope()).unwrap();
    admit(&mut chain, &council.sign(&draft)).unwrap();
    assert!(chain.evicted().is_empty());
}

/// A ruling whose date is over does not go into a run, and so settles nothing for what does.
#[test]
fn a_run_whose_ruling_is_expired_takes_one_document_for_its_place_and_can_be_applied() {
    let (council, start) = fleet();
    let loser = council.sign(&next(&start, Lane::Release, release_body("a")));
    let winner = council.sign(&next(&start, Lane::Release, release_body("b")));
    let mut draft = ruling(&start, &[(1, Some(winner.id()))]);
    draft.expires = UnixSeconds(NOW.0 + 100);
    let ruling = council.sign(&draft);
    let offered = [&loser, &ruling, &winner]
        .map(|one| Submission { statement: one.clone(), ballots: Vec::new() });
    for (now, head, codes) in [
        (NOW, winner.id(), vec![]),
        (UnixSeconds(NOW.0 + 200), loser.id(), vec![(1, "expired"), (2, "rival")]),
    ] {
        let mut chain = start.clone();
        let run = chain.verify_run(now, &offered);
        let mut refused: Vec<(usize, &str)> =
            run.refused.iter().map(|(at, refusal)| (*at, refusal.code())).collect();
        refused.sort_unstable();
        assert_eq!(refused, codes);
        run.accepted.into_iter().for_each(|verified| chain.apply(verified));
        assert_eq!(chain.head(Lane::Release).unwrap().id(), head);
    }
}
