//! What whoever holds a key, or more than that, can do to a gate by saying much, and what stays open to
//! everybody else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

mod holder;

use borgios_policy::fixture::{Council, NOW, release_body};
use borgios_policy::gate::{DOCS_MAX, OPEN_MAX, Standing, Voice};
use borgios_policy::{Lane, Object as _, Objection, Pause, Statement, Veto};
use borgios_types::{Envelope, Seq};
use holder::{Holder, board, next, objection, release, veto};
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

/// As many releases as are kept, one upon the other.
fn flood(holder: &mut Holder, council: &Council) -> Vec<Envelope> {
    let base = next(&holder.chain, Lane::Release, release_body("1"));
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
