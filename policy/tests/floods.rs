//! What whoever holds a key, or more than that, can do to a gate by saying much, and what stays open to
//! everybody else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]
#![allow(clippy::disallowed_methods, reason = "one test measures what a look costs")]

mod holder;

use std::time::{Duration, Instant};

use borgios_policy::fixture::{Council, NOW, release_body, statement};
use borgios_policy::gate::{DOCS_BYTES, DOCS_MAX, OPEN_MAX, RIVALS_MAX, Standing, Voice};
use borgios_policy::{
    Gate, Lane, Object as _, Objection, Pause, Policy, Statement, Submission, Veto,
};
use borgios_types::{Envelope, Round, Seq};
use holder::{Holder, LOCK_S, board, next, objection, release, veto};
use serde_json::{Map, Value, json};

/// Who names a wrong place first must not be refused the right one at those who heard that, or one
/// governor splits the fleet.
#[test]
fn an_objection_at_the_wrong_place_keeps_no_right_one_out_in_any_order() {
    let (council, first) = board(|_| ());
    let mut ends = Vec::new();
    for wrong_first in [true, false] {
        let mut holder = Holder::new(&first);
        let bad = release(&holder, &council, "bad");
        holder.offer(NOW, &bad).unwrap();
        let right = objection(&holder, &council, 0, &bad);
        let wrong_seq = Objection { seq: Seq(7), ..right.clone() };
        let wrong_lane = Objection { lane: Lane::Access, ..right.clone() };
        let mut said = vec![wrong_seq, wrong_lane, right];
        if !wrong_first {
            said.reverse();
        }
        let key = &council.keys[&council.name(0)];
        for objection in said {
            let veto = Veto(objection.clone()).to_envelope().sign(key);
            assert!(holder.gate.object(NOW, &holder.chain, &veto).unwrap());
            let pause = Pause(objection).to_envelope().sign(key);
            assert!(holder.gate.object(NOW, &holder.chain, &pause).unwrap());
        }
        holder.gate.object(NOW, &holder.chain, &veto(&holder, &council, 1, &bad)).unwrap();
        holder.restart();
        let by = vec![council.name(0), council.name(1)];
        assert_eq!(holder.standing(NOW, &bad), Some(Standing::Vetoed { by, back: None }));
        ends.push(serde_json::to_string(&holder.gate).unwrap());
    }
    assert_eq!(ends[0], ends[1]);
}

/// As gates wrote them before a place was part of what tells objections apart.
#[test]
fn objections_that_were_stored_by_statement_and_board_alone_are_read() {
    let (council, first) = board(|_| ());
    let mut holder = Holder::new(&first);
    let bad = release(&holder, &council, "bad");
    holder.offer(NOW, &bad).unwrap();
    let voice = |at: usize| Voice {
        objection: objection(&holder, &council, at, &bad),
        seen: NOW,
        was: None,
        dated: None,
        envelope: veto(&holder, &council, at, &bad),
    };
    let mut stored = serde_json::to_value(&holder.gate).unwrap();
    let (id, group) = (bad.id(), council.board.group());
    stored["vetoes"] = json!({
        council.name(0).as_str(): { id.to_string(): voice(0) },
        council.name(1).as_str(): { format!("{id} {group}"): voice(1) },
    });
    holder.gate = serde_json::from_value(stored).unwrap();
    assert_eq!(holder.standing(NOW, &bad).unwrap().as_str(), "vetoed");
    holder.restart();
    let again = veto(&holder, &council, 0, &bad);
    assert!(!holder.gate.object(NOW, &holder.chain, &again).unwrap(), "it is the same one");
}

#[test]
fn vetoed_rounds_leave_a_place_open_for_the_next_one() {
    let (council, first) = board(|policy| policy.classes.policy.lock_s = Some(LOCK_S));
    let mut holder = Holder::new(&first);
    let mut rules = holder.chain.policy().unwrap().clone();
    let mut sign = |holder: &Holder, round: u32| {
        rules.fanout = 5 + u16::try_from(round).unwrap();
        let draft = next(&holder.chain, Lane::Policy, rules.to_body());
        council.sign(&Statement { round: Round(round), ..draft })
    };
    let last = 2 * u32::try_from(RIVALS_MAX).unwrap();
    for round in 0..last {
        let bad = sign(&holder, round);
        holder.offer(NOW, &bad).unwrap();
        for at in [0, 1] {
            holder.gate.object(NOW, &holder.chain, &veto(&holder, &council, at, &bad)).unwrap();
        }
        assert_eq!(holder.standing(NOW, &bad).unwrap().as_str(), "vetoed");
    }
    let good = sign(&holder, last);
    holder.offer(NOW, &good).unwrap();
    holder.tick(NOW);
    holder.tick(NOW.plus(LOCK_S / 2));
    holder.tick(NOW.plus(LOCK_S));
    assert_eq!(holder.chain.head(Lane::Policy).unwrap().id(), good.id());
    assert_eq!(holder.gate.docs().count(), 0);
}

/// As many releases as are kept, one upon the other.
fn flood(holder: &mut Holder, council: &Council) -> Vec<Envelope> {
    flood_with(holder, council, release_body("1"))
}

fn flood_with(holder: &mut Holder, council: &Council, body: Value) -> Vec<Envelope> {
    let base = next(&holder.chain, Lane::Release, body);
    let mut all: Vec<Envelope> = Vec::new();
    for seq in 1..=DOCS_MAX as u64 {
        let prev = all.last().map(Envelope::id);
        all.push(council.sign(&Statement { seq: Seq(seq), prev, ..base.clone() }));
    }
    let docs: Map<String, Value> = all.iter().map(|one| (one.id().to_string(), doc(one))).collect();
    holder.gate = serde_json::from_value(json!({ "docs": docs })).unwrap();
    holder.tick(NOW);
    all
}

/// A statement as it lies in a gate's file.
fn doc(envelope: &Envelope) -> Value {
    json!({ "submission": { "statement": envelope, "ballots": [] }, "seen": NOW })
}

#[test]
fn a_lane_that_is_full_leaves_room_for_every_other_one() {
    let (council, first) = board(|policy| {
        policy.classes.policy.lock_s = Some(LOCK_S);
        policy.classes.access = Some(policy.classes.release);
    });
    let mut holder = Holder::new(&first);
    let all = flood(&mut holder, &council);
    assert_eq!(holder.gate.docs().count(), DOCS_MAX);
    let mut rules = holder.chain.policy().unwrap().clone();
    rules.fanout = 9;
    let policy = council.sign(&next(&holder.chain, Lane::Policy, rules.to_body()));
    holder.offer(NOW, &policy).unwrap();
    // The last of the lane made room, and does not come back in the place of anything.
    assert_eq!(holder.gate.docs().count(), DOCS_MAX);
    let last = all.last().unwrap();
    assert!(holder.gate.waiting(&last.id()).is_none());
    assert!(holder.gate.waiting(&all[DOCS_MAX - 2].id()).is_some());
    assert_eq!(holder.offer(NOW, last).unwrap_err().code(), "held_back");
    assert!(holder.gate.waiting(&policy.id()).is_some());
    // What comes at an earlier place of it comes in: a rival of the first is an alarm.
    let rival = release(&holder, &council, "2");
    holder.offer(NOW, &rival).unwrap();
    assert_eq!(holder.standing(NOW, &rival).unwrap().as_str(), "frozen");
    assert_eq!(holder.gate.docs().count(), DOCS_MAX);
}

/// The longest documents that the board can sign leave room in the gate's file for what is said against
/// them, or a lock would end with nobody heard.
#[test]
fn the_longest_documents_leave_room_for_every_veto() {
    let (council, first) = board(|policy| policy.classes.policy.lock_s = Some(LOCK_S));
    let mut holder = Holder::new(&first);
    let mut body = release_body("1");
    body["notes"] = "x".repeat(60_000).into();
    let all = flood_with(&mut holder, &council, body);
    let length = |holder: &Holder| serde_json::to_vec(&holder.gate).unwrap().len();
    assert!(2 * length(&holder) > DOCS_BYTES, "this floods nothing");
    let mut rules = holder.chain.policy().unwrap().clone();
    rules.fanout = 9;
    let policy = council.sign(&next(&holder.chain, Lane::Policy, rules.to_body()));
    holder.offer(NOW, &policy).unwrap();
    assert!(holder.gate.waiting(&policy.id()).is_some(), "a lane that is full shuts another");
    let kept = holder.gate.docs().count();
    assert!((100..DOCS_MAX).contains(&kept) && length(&holder) <= DOCS_BYTES, "{kept} wait");
    let last = &all[kept - 2];
    assert!(holder.gate.waiting(&last.id()).is_some(), "the first places stay");
    for at in 0..3 {
        holder.gate.object(NOW, &holder.chain, &veto(&holder, &council, at, last)).unwrap();
    }
    assert_eq!(holder.standing(NOW, last).unwrap().as_str(), "vetoed");
    // The next one of the lane has no room, and one ballot more for what waits neither.
    assert_eq!(holder.offer(NOW, &all[kept - 1]).unwrap_err().code(), "held_back");
}

/// Whoever has a governor's key and vetoes all that waits takes no voice from its owner; and what is said
/// of statements that nobody knows stays few.
#[test]
fn a_governor_has_a_voice_on_each_statement_that_waits() {
    let (council, first) = board(|_| ());
    let mut holder = Holder::new(&first);
    let all = flood(&mut holder, &council);
    for one in &all[..3 * OPEN_MAX] {
        holder.gate.object(NOW, &holder.chain, &veto(&holder, &council, 0, one)).unwrap();
    }
    let base = objection(&holder, &council, 0, &all[0]);
    for n in 0..2 * OPEN_MAX as u64 {
        let odd = Objection { seq: Seq(1_000 + n), ..base.clone() };
        let odd = Veto(odd).to_envelope().sign(&council.keys[&council.name(0)]);
        holder.gate.object(NOW, &holder.chain, &odd).unwrap();
    }
    let last = &all[DOCS_MAX - 1];
    for at in [0, 1] {
        holder.gate.object(NOW, &holder.chain, &veto(&holder, &council, at, last)).unwrap();
    }
    assert_eq!(holder.standing(NOW, last).unwrap().as_str(), "vetoed");
    let text = serde_json::to_value(&holder.gate).unwrap();
    let open = text["vetoes"]["ann"].as_object().unwrap().len();
    assert_eq!(open, 3 * OPEN_MAX + OPEN_MAX + 1);
}

/// What was signed under earlier rules goes by its place as everything does.
#[test]
fn an_earlier_place_comes_in_whatever_policy_it_names() {
    let (council, first) = board(|_| ());
    let mut holder = Holder::new(&first);
    flood(&mut holder, &council);
    let mut rules = holder.chain.policy().unwrap().clone();
    rules.fanout = 9;
    let policy = council.sign(&next(&holder.chain, Lane::Policy, rules.to_body()));
    holder.offer(NOW, &policy).unwrap();
    assert_eq!((holder.head(Lane::Policy), holder.gate.docs().count()), (2, DOCS_MAX));
    let first = release(&holder, &council, "2");
    holder.offer(NOW, &first).unwrap();
    assert!(holder.gate.waiting(&first.id()).is_some());
    assert_eq!(holder.gate.docs().count(), DOCS_MAX);
}

/// Reasons of the greatest length against all that waits: they fill no gate, and nobody else's room.
#[test]
fn reasons_without_end_are_refused_before_the_gates_file_is_too_long() {
    let (council, first) = board(|_| ());
    let mut holder = Holder::new(&first);
    let all = flood(&mut holder, &council);
    let mut taken = 0;
    for one in &all {
        let said =
            Objection { reason: "\u{1}".repeat(4_000), ..objection(&holder, &council, 0, one) };
        let said = Veto(said).to_envelope().sign(&council.keys[&council.name(0)]);
        match holder.gate.object(NOW, &holder.chain, &said) {
            Ok(_) => taken += 1,
            Err(error) => {
                assert!(error.to_string().contains("give a shorter reason"), "{error}");
                break;
            }
        }
    }
    assert!((OPEN_MAX..DOCS_MAX / 4).contains(&taken), "{taken}");
    let text = serde_json::to_value(&holder.gate).unwrap()["vetoes"].to_string();
    assert!(text.len() < 2 * 1_024 * 1_024, "{}", text.len());
    let last = &all[DOCS_MAX - 1];
    assert!(holder.gate.object(NOW, &holder.chain, &veto(&holder, &council, 1, last)).unwrap());
}

/// Policies one upon the other that were all vetoed: what a look at them costs, and what it costs to take
/// the next one in, which verifies them once.
fn vetoed_in_a_row(count: u64) -> (Duration, Duration) {
    let (council, first) = board(|policy| policy.classes.policy.lock_s = Some(LOCK_S));
    let mut holder = Holder::new(&first);
    let network = holder.chain.network();
    let mut rules: Policy = holder.chain.policy().unwrap().clone();
    let (mut prev, mut docs, mut signed) = (first.id(), Map::new(), Vec::new());
    let mut vetoes: Vec<Map<String, Value>> = vec![Map::new(), Map::new()];
    for seq in 2..count + 3 {
        rules.fanout = 5 + u16::try_from(seq % 4).unwrap();
        let body = rules.to_body();
        let one = statement(Lane::Policy, seq, network, Some(prev), Some(seq - 1), body);
        let one = council.sign(&one);
        prev = one.id();
        if seq < count + 2 {
            docs.insert(one.id().to_string(), doc(&one));
            for (at, of) in vetoes.iter_mut().enumerate() {
                let objection = objection(&holder, &council, at, &one);
                let envelope = veto(&holder, &council, at, &one);
                let voice = Voice { objection, seen: NOW, was: None, dated: None, envelope };
                of.insert(one.id().to_string(), serde_json::to_value(voice).unwrap());
            }
        }
        signed.push(one);
    }
    let voices: Map<String, Value> = vetoes
        .into_iter()
        .enumerate()
        .map(|(at, of)| (council.name(at).as_str().to_owned(), of.into()))
        .collect();
    holder.gate =
        serde_json::from_value::<Gate>(json!({ "docs": docs, "vetoes": voices })).unwrap();
    let begun = Instant::now();
    let submission = Submission { statement: signed.pop().unwrap(), ballots: Vec::new() };
    let dated = borgios_policy::Dated::Asked;
    holder.gate.offer(NOW, &holder.chain, &submission, dated).unwrap();
    let taken = begun.elapsed();
    let begun = Instant::now();
    let report = holder.gate.report(NOW, &holder.chain);
    let looked = begun.elapsed();
    let by = vec![council.name(0), council.name(1)];
    let back = Some(NOW.plus(LOCK_S));
    assert!(
        report[..report.len() - 1]
            .iter()
            .all(|held| held.standing == Standing::Vetoed { by: by.clone(), back }),
        "all of them hang on the last one"
    );
    (taken, looked)
}

#[test]
#[allow(clippy::print_stdout, reason = "what was measured is what this test reports")]
fn a_look_at_many_vetoed_policies_costs_less_than_to_take_one_more_in() {
    for count in [8, 16, 64, 200] {
        let (taken, looked) = vetoed_in_a_row(count);
        println!("{count} vetoed in a row: {taken:?} to take one more in, {looked:?} for a look");
        assert!(count < 64 || looked < taken, "a look takes {looked:?}, one more {taken:?}");
    }
}

/// A statement that was carried over a change of the board keeps the rules it was signed under, and a
/// board that has fewer governors than the vetoes they ask for would have no word left.
#[test]
fn a_smaller_board_can_veto_what_was_carried_over_to_it() {
    let large = Council::new(5, 3, 1, 1);
    let mut rules = large.policy(3);
    rules.classes.release.lock_s = Some(LOCK_S);
    rules.classes.release.veto = Some(5);
    let first = large.sign(&statement(Lane::Policy, 1, None, None, None, rules.to_body()));
    let mut holder = Holder::new(&first);
    let bad = release(&holder, &large, "bad");
    holder.offer(NOW, &bad).unwrap();
    let small = Council::new(3, 2, 2, 9);
    let mut rules = small.policy(2);
    rules.classes.release.lock_s = Some(LOCK_S);
    rules.carried = [bad.id()].into();
    let draft = next(&holder.chain, Lane::Policy, rules.to_body());
    let mut change = large.sign(&draft);
    change.sigs.extend(small.sign(&draft).sigs);
    holder.offer(NOW, &change).unwrap();
    assert_eq!((holder.head(Lane::Policy), holder.head(Lane::Release)), (2, 0));
    for at in 0..3 {
        assert_eq!(holder.standing(NOW, &bad).unwrap().as_str(), "waiting");
        holder.gate.object(NOW, &holder.chain, &veto(&holder, &small, at, &bad)).unwrap();
    }
    assert_eq!(holder.standing(NOW, &bad).unwrap().as_str(), "vetoed");
}
