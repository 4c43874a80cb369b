//! The shared root credential after a change of the board, with the real program: what was dealt
//! among the board before is advanced by the board in force, and everybody is told whose it is.

use crate::board::{Board, stderr};
use borgios_policy::{Object as _, Proposal, Statement};
use borgios_types::Envelope;
use serde_json::{Value, json};

/// Six epochs of an hour, put to the vote.
fn deal(board: &Board, name: &str) -> Value {
    board.json(name, &["credential", "schedule", "--epochs", "6", "--every", "1h"])
}

fn approve(board: &Board, names: &[&str], place: &str) -> Value {
    let mut last = Value::Null;
    for name in names {
        last = board.json(name, &["vote", place, "approve"]);
    }
    last
}

/// A board of three with a schedule that it dealt and signed, and what the dealer's tool answered.
fn scheduled() -> (Board, Value) {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    let dealt = deal(&board, "ann");
    assert_eq!(approve(&board, &["ann", "ben"], "credential/1")["signed"], true);
    (board, dealt)
}

/// The names of the notices of an answer.
fn codes(answer: &Value) -> Vec<&str> {
    let rows = answer["notices"].as_array().unwrap();
    rows.iter().map(|row| row["code"].as_str().unwrap()).collect()
}

/// Proposes an advance, and returns what was said beside the answer.
fn advance(board: &Board, name: &str) -> String {
    let output = board.run(name, &["credential", "advance", "--reason", "leaked"]);
    assert!(output.status.success(), "{}", stderr(&output));
    stderr(&output)
}

/// Everybody governs under policy/2 and is told that the schedule is not their board's.
fn takes_office(board: &Board, names: &[&str]) {
    for name in names {
        let synced = board.json(name, &["sync"]);
        assert_eq!(codes(&synced), ["ESCROW"], "{name}: {synced}");
    }
}

#[test]
fn a_refreshed_board_advances_a_schedule_that_was_dealt_before() {
    let (board, _) = scheduled();
    for args in [&["credential", "status"][..], &["sync"], &["inbox"]] {
        assert!(codes(&board.json("ben", args)).is_empty(), "{args:?}");
    }
    board.json("ann", &["governor", "refresh"]);
    board.change(&["ann", "ben", "cleo"], None);
    board.approve("ann", "policy/2");
    assert_eq!(board.approve("ben", "policy/2")["signed"], true);
    takes_office(&board, &["ann", "ben", "cleo"]);
    let text = board.ok("ben", &["credential", "status"]);
    for wanted in [
        "ALARM     [ESCROW] the schedule in force is escrowed to the board before",
        "any 2 of its 3 governors can bring back its passwords, 3 of them are on the board in force",
        "deal a new one with `borgios credential schedule",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert!(board.ok("ben", &["inbox"]).contains("[ESCROW] the schedule in force"));

    // Twice: of both the shares are those of credential/1.
    for (place, epoch) in [("credential/2", 2), ("credential/3", 3)] {
        let said = advance(&board, "ann");
        assert!(said.contains("[ESCROW] the schedule in force is escrowed"), "{said}");
        let review = board.ok("cleo", &["review", place]);
        for wanted in [
            "same      schedule: epochs 1 to 6",
            "escrow    the escrow is the earlier board's; 3 of its 3 governors are on the board in \
             force",
            "any 2 of the 3 bring a password back, until a new schedule is dealt",
        ] {
            assert!(review.contains(wanted), "{wanted}: {review}");
        }
        for wrong in ["REFUSED", "WRONG", "UNKNOWN"] {
            assert!(!review.contains(wrong), "{review}");
        }
        assert_eq!(approve(&board, &["ben", "cleo"], place)["signed"], true, "{place}");
        let status = board.json("ann", &["credential", "status"]);
        assert_eq!((&status["epoch"], codes(&status)), (&json!(epoch), vec!["ESCROW"]));
    }

    // A new schedule is the new board's, and nobody is warned any more.
    deal(&board, "cleo");
    let review = board.ok("ann", &["review", "credential/4"]);
    assert!(review.contains("escrow    belongs to schedule and board; 2 governors"), "{review}");
    assert_eq!(approve(&board, &["ann", "cleo"], "credential/4")["signed"], true);
    for args in [&["credential", "status"][..], &["sync"], &["inbox"]] {
        assert!(codes(&board.json("ben", args)).is_empty(), "{args:?}");
    }
}

/// Cleo goes, zoe comes: she has no share of what was dealt before, and no server waits for her.
#[test]
fn who_is_new_votes_on_an_advance_and_gives_no_share_of_it() {
    let (board, dealt) = scheduled();
    board.ok("zoe", &["governor", "init", "--name", "zoe"]);
    board.hasten("zoe");
    assert_eq!(board.json("zoe", &["governor", "change"])["status"], "no_plan");
    let card = board.exchange().join("zoe.card.json");
    let plan = ["governor", "change", "--remove", "cleo", "--add", card.to_str().unwrap()];
    let asked = board.json("ann", &plan);
    assert_eq!(asked["status"], "confirm");
    board.change(&["ann", "ben", "zoe"], asked["roster"].as_str());
    board.approve("ann", "policy/2");
    assert_eq!(board.approve("ben", "policy/2")["signed"], true);
    takes_office(&board, &["ann", "ben", "zoe"]);

    let said = advance(&board, "zoe");
    assert!(said.contains("2 of them are on the board in force"), "{said}");
    let review = board.ok("zoe", &["review", "credential/2"]);
    let wanted =
        "the escrow is the earlier board's; 2 of its 3 governors are on the board in force";
    assert!(review.contains(wanted) && !review.contains("REFUSED"), "{review}");
    assert_eq!(approve(&board, &["zoe", "ann"], "credential/2")["signed"], true);
    assert_eq!(board.json("zoe", &["credential", "status"])["epoch"], 2);

    // Those who stay still bring a password back; zoe is told why she cannot.
    let reveal = ["credential", "reveal", "--epoch", "2"];
    let asked = board.json("ann", &[&reveal[..], &["--reason", "console"]].concat());
    assert_eq!(asked["place"], "access/1");
    board.ok("zoe", &["review", "access/1"]);
    let said = board.refused("zoe", &["vote", "access/1", "approve"]);
    for wanted in [
        "your share of epoch 2 cannot be given",
        "nothing in the escrow of credential/2 is sealed to you",
        "deal a new schedule: `borgios credential schedule",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    assert_eq!(approve(&board, &["ben", "ann"], "access/1")["signed"], true);
    assert_eq!(board.json("ann", &reveal)["status"], "revealed");

    let next = deal(&board, "zoe");
    assert_eq!(next["first"], 4);
    assert_eq!(approve(&board, &["zoe", "ben"], "credential/3")["signed"], true);
    assert!(codes(&board.json("zoe", &["credential", "status"])).is_empty());

    // An advance is of what is in force. Nobody brings the old schedule back in the shape of one.
    advance(&board, "ann");
    let forged = board.published("proposal").into_iter().find_map(|(_, envelope)| {
        let envelope = Envelope::parse(envelope.to_string().as_bytes()).unwrap();
        let old = Proposal::parse(&envelope).unwrap();
        let mut statement: Statement = serde_json::from_str(&old.statement).unwrap();
        if format!("{}/{}", statement.lane, statement.seq) != "credential/4" {
            return None;
        }
        statement.body["schedule"] = dealt["schedule"].clone();
        statement.body["escrow"] = dealt["escrow"].clone();
        Some(Proposal { statement: statement.to_payload(), ..old })
    });
    let forged = forged.unwrap();
    board.publish(&forged.to_envelope().sign(&board.secrets("ann").0));
    let id = forged.statement_id().short();
    let review = board.ok("ben", &["review", &id]);
    assert!(review.contains("WRONG     it brings an earlier schedule back"), "{review}");
    for name in ["ben", "zoe"] {
        let said = board.refused(name, &["vote", &id, "approve"]);
        assert!(said.contains("credential/4 brings an earlier schedule back"), "{name}: {said}");
    }
}
