//! What enough governors took back comes back once the board signs the next one upon it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

mod holder;

use borgios_policy::fixture::{Council, NOW, release_body, statement};
use borgios_policy::gate::Standing;
use borgios_policy::{Lane, Policy, Statement};
use borgios_types::{Envelope, Round, UnixSeconds};
use holder::{Holder, LOCK_S, board, next, pause, release, run, veto};

/// A board with a lock on policies too, a holder that has policy/2 as vetoed, and policy/2, which
/// `change` makes of the rules in force.
fn vetoed(change: impl FnOnce(&mut Policy)) -> (Council, Holder, Envelope) {
    let (council, first) = board(|policy| policy.classes.policy.lock_s = Some(LOCK_S));
    let mut holder = Holder::new(&first);
    let mut rules = holder.chain.policy().unwrap().clone();
    rules.fanout = 9;
    change(&mut rules);
    let bad = council.sign(&next(&holder.chain, Lane::Policy, rules.to_body()));
    holder.offer(NOW, &bad).unwrap();
    for at in [0, 1] {
        let no = veto(&holder, &council, at, &bad);
        assert!(holder.gate.object(NOW, &holder.chain, &no).unwrap());
    }
    (council, holder, bad)
}

/// The next policy upon `below`, which is policy/`seq − 1`, with a fan-out of its own.
fn upon(holder: &Holder, below: &Envelope, seq: u64, fanout: u16) -> Statement {
    let mut rules = Policy::parse(&Statement::parse(below).unwrap().body).unwrap();
    rules.fanout = fanout;
    let network = holder.chain.network();
    statement(Lane::Policy, seq, network, Some(below.id()), Some(seq - 1), rules.to_body())
}

#[test]
fn a_policy_signed_upon_a_vetoed_one_ends_the_split_of_late_vetoes() {
    let (council, mut early, bad) = vetoed(|_| ());
    // Another holder applied it before the vetoes came.
    let first = early.chain.get(Lane::Policy, borgios_types::Seq(1)).unwrap().envelope().clone();
    let mut late = Holder::new(&first);
    late.offer(NOW, &bad).unwrap();
    run(&mut late, NOW, NOW.plus(LOCK_S));
    run(&mut early, NOW, NOW.plus(LOCK_S));
    assert_eq!((late.head(Lane::Policy), early.head(Lane::Policy)), (2, 1));

    let signed = NOW.plus(2 * LOCK_S);
    let good = council.sign(&upon(&early, &bad, 3, 7));
    for holder in [&mut early, &mut late] {
        run(holder, NOW.plus(LOCK_S), signed);
        holder.offer(signed, &good).unwrap();
        holder.restart();
    }
    let over = signed.plus(LOCK_S);
    let by = vec![council.name(0), council.name(1)];
    assert_eq!(early.standing(signed, &bad), Some(Standing::Vetoed { by, back: Some(over) }));
    assert_eq!(early.standing(signed, &good), Some(Standing::Behind));
    run(&mut early, signed, UnixSeconds(over.0 - 1));
    assert_eq!(early.head(Lane::Policy), 1);
    run(&mut early, over, over);
    run(&mut late, signed, over);
    for holder in [&early, &late] {
        assert_eq!(holder.chain.head(Lane::Policy).unwrap().id(), good.id());
        assert_eq!(holder.chain.policy().unwrap().fanout, 7);
        assert_eq!(holder.gate.report(over, &holder.chain), vec![]);
    }
}

#[test]
fn a_release_comes_back_in_the_same_way() {
    let (council, first) = board(|_| ());
    let mut holder = Holder::new(&first);
    let bad = release(&holder, &council, "1");
    holder.offer(NOW, &bad).unwrap();
    for at in [0, 1] {
        holder.gate.object(NOW, &holder.chain, &veto(&holder, &council, at, &bad)).unwrap();
    }
    let network = holder.chain.network();
    let body = release_body("2");
    let good = statement(Lane::Release, 2, network, Some(bad.id()), Some(1), body);
    holder.offer(NOW, &council.sign(&good)).unwrap();
    run(&mut holder, NOW, UnixSeconds(NOW.0 + LOCK_S - 1));
    assert_eq!(holder.head(Lane::Release), 0);
    holder.tick(NOW.plus(LOCK_S));
    assert_eq!(holder.head(Lane::Release), 2);
}

#[test]
fn what_builds_upon_it_can_be_paused_and_vetoed_in_its_turn() {
    let (council, mut holder, bad) = vetoed(|_| ());
    let good = council.sign(&upon(&holder, &bad, 3, 7));
    holder.offer(NOW, &good).unwrap();
    let wait = pause(&holder, &council, 2, &good);
    holder.gate.object(NOW, &holder.chain, &wait).unwrap();
    let pause_s = holder.chain.policy().unwrap().pause();
    let paused = NOW.plus(pause_s);
    assert!(pause_s > LOCK_S);
    run(&mut holder, NOW, UnixSeconds(paused.0 - 1));
    assert_eq!(holder.head(Lane::Policy), 1);
    for at in [0, 1] {
        let no = veto(&holder, &council, at, &good);
        assert!(holder.gate.object(UnixSeconds(paused.0 - 1), &holder.chain, &no).unwrap());
    }
    run(&mut holder, paused, paused.plus(3 * LOCK_S));
    assert_eq!(holder.head(Lane::Policy), 1);
    let standing = holder.standing(paused.plus(3 * LOCK_S), &bad);
    assert!(matches!(standing, Some(Standing::Vetoed { back: None, .. })), "{standing:?}");

    // The next round of the place behind it does what the first one did not.
    let now = paused.plus(3 * LOCK_S);
    let again = Statement { round: Round(1), ..upon(&holder, &bad, 3, 8) };
    holder.offer(now, &council.sign(&again)).unwrap();
    run(&mut holder, now, now.plus(LOCK_S));
    assert_eq!(holder.head(Lane::Policy), 3);
    assert_eq!(holder.chain.policy().unwrap().fanout, 8);
}

/// Whoever builds upon a vetoed document that builds upon a vetoed one brings back both.
#[test]
fn a_run_of_vetoed_ones_comes_back_together() {
    let (council, mut holder, bad) = vetoed(|_| ());
    let worse = council.sign(&upon(&holder, &bad, 3, 7));
    holder.offer(NOW, &worse).unwrap();
    for at in [1, 2] {
        holder.gate.object(NOW, &holder.chain, &veto(&holder, &council, at, &worse)).unwrap();
    }
    let good = council.sign(&upon(&holder, &worse, 4, 8));
    holder.offer(NOW.plus(60), &good).unwrap();
    run(&mut holder, NOW, NOW.plus(LOCK_S + 59));
    assert_eq!(holder.head(Lane::Policy), 1);
    run(&mut holder, NOW.plus(LOCK_S + 60), NOW.plus(LOCK_S + 60));
    assert_eq!(holder.head(Lane::Policy), 4);
}

#[test]
fn two_words_of_the_board_for_one_place_bring_nothing_back() {
    let (council, mut holder, bad) = vetoed(|_| ());
    for fanout in [7, 8] {
        holder.offer(NOW, &council.sign(&upon(&holder, &bad, 3, fanout))).unwrap();
    }
    run(&mut holder, NOW, NOW.plus(3 * LOCK_S));
    assert_eq!(holder.head(Lane::Policy), 1);
}

/// Who holds t shares could otherwise write a policy without locks, and go on upon it at once.
#[test]
fn the_rules_of_what_is_dead_shorten_no_lock() {
    let (council, mut holder, bad) = vetoed(|rules| rules.classes.policy.lock_s = None);
    holder.offer(NOW, &council.sign(&upon(&holder, &bad, 3, 7))).unwrap();
    run(&mut holder, NOW, UnixSeconds(NOW.0 + LOCK_S - 1));
    assert_eq!(holder.head(Lane::Policy), 1);
    holder.tick(NOW.plus(LOCK_S));
    assert_eq!(holder.head(Lane::Policy), 3);
}

/// A board that the vetoes kept out says nothing about them.
#[test]
fn another_board_brings_nothing_back() {
    let new = Council::new(3, 2, 2, 9);
    let (council, first) = board(|policy| policy.classes.policy.lock_s = Some(LOCK_S));
    let mut holder = Holder::new(&first);
    let mut rules = holder.chain.policy().unwrap().clone();
    rules.board = new.board.clone();
    let draft = next(&holder.chain, Lane::Policy, rules.to_body());
    let mut change = council.sign(&draft);
    change.sigs.extend(new.sign(&draft).sigs);
    holder.offer(NOW, &change).unwrap();
    for at in [0, 1] {
        holder.gate.object(NOW, &holder.chain, &veto(&holder, &council, at, &change)).unwrap();
    }
    let theirs = new.sign(&upon(&holder, &change, 3, 7));
    holder.offer(NOW, &theirs).unwrap();
    run(&mut holder, NOW, NOW.plus(5 * LOCK_S));
    assert_eq!(holder.head(Lane::Policy), 1);
    assert_eq!(holder.standing(NOW.plus(5 * LOCK_S), &theirs), Some(Standing::Behind));
}
