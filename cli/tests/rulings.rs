//! Which places may be ruled on, with the real program: a ruling is for good, so none is proposed where
//! nothing is undecided.

use crate::board::Board;
use serde_json::Value;

/// Proposes a ruling, which is refused; what is said.
fn refused(board: &Board, ruling: &[&str]) -> String {
    let args: Vec<&str> = ["propose", "policy"].iter().chain(ruling).copied().collect();
    let said = board.refused("ann", &args);
    assert!(
        said.contains("[E_NOTHING_UNDECIDED]") && said.contains("hint: "),
        "{ruling:?}: {said}"
    );
    said
}

fn signed_by(board: &Board, names: [&str; 2], place: &str) {
    assert_eq!(board.approve(names[0], place)["signed"], false, "{place}");
    assert_eq!(board.approve(names[1], place)["signed"], true, "{place}");
    board.ok(names[0], &["sync"]);
}

fn statement(proposed: &Value) -> String {
    proposed["statement"].as_str().unwrap().to_owned()
}

#[test]
fn a_place_is_ruled_on_only_while_something_is_undecided_there() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    // Nobody proposed anything: closing it would burn it for nothing.
    let said = refused(&board, &["--close", "release/1"]);
    assert!(said.contains("nothing is proposed for release/1"), "{said}");
    let said = refused(&board, &["--close", "release/7"]);
    assert!(said.contains("the next one is release/1"), "{said}");
    // Beside other rules it is refused as well, and nothing is proposed.
    refused(&board, &["--fanout", "4", "--close", "access/1"]);
    assert!(board.published("proposal").is_empty());
    // Programs read the same.
    let args = ["propose", "policy", "--close", "release/1", "--json"];
    let answer: Value = serde_json::from_str(&board.refused("ann", &args)).unwrap();
    assert_eq!(answer["error"]["code"], "E_NOTHING_UNDECIDED", "{answer}");

    // One approves, one rejects, one is gone: undecided. A winner is what was proposed there.
    let one = statement(&board.propose("ann", "1.0"));
    board.approve("ann", "release/1");
    board.ok("ben", &["vote", "release/1", "reject", "--reason", "no"]);
    let other = format!("release/1=sha256:{}", "1".repeat(64));
    let said = refused(&board, &["--settle", &other]);
    assert!(said.contains("neither proposed nor signed for release/1"), "{said}");
    board.ok("ann", &["propose", "policy", "--settle", &format!("release/1={one}")]);
    let rejected = ["vote", "policy/2", "reject", "--reason", "close it instead"];
    for name in ["ann", "ben"] {
        board.ok(name, &rejected);
    }
    board.ok("ann", &["propose", "policy", "--close", "release/1"]);
    // Everybody lays nonces for the round that is open now.
    board.ok("cleo", &["sync"]);
    signed_by(&board, ["ann", "ben"], "policy/2");
    // What is settled stays so, whatever one insists on.
    for insist in [&["--close", "release/1"][..], &["--close", "release/1", "--even-if-decided"]] {
        let said = refused(&board, insist);
        assert!(said.contains("policy/2 settled release/1"), "{said}");
    }
    assert_eq!(board.propose("ann", "2.0")["place"], "release/2");
}

#[test]
fn what_is_signed_is_ruled_on_only_if_somebody_vetoed_it_or_a_server_shows_more() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    let one = statement(&board.propose("ann", "1.0"));
    signed_by(&board, ["ann", "ben"], "release/1");
    let said = refused(&board, &["--close", "release/1"]);
    assert!(said.contains("release/1 is decided") && said.contains("--even-if-decided"), "{said}");
    refused(&board, &["--settle", &format!("release/1={one}")]);
    // A server shows the place as frozen, which no laptop sees.
    let close = ["propose", "policy", "--close", "release/1"];
    let knowing: Vec<&str> = close.into_iter().chain(["--even-if-decided"]).collect();
    let output = board.run("ann", &knowing);
    assert!(output.status.success());
    assert!(crate::board::stderr(&output).contains("warning: release/1 is decided"));
    assert!(board.ok("ben", &["review", "policy/2"]).contains("TAKES     release/1"));
    for name in ["ann", "ben"] {
        board.ok(name, &["vote", "policy/2", "reject", "--reason", "not needed"]);
    }
    board.ok("cleo", &["veto", "release/1", "--reason", "it came too late for me"]);
    board.ok("ann", &close);
}

/// Who proposed it went round the tool, or knows more: whoever votes is told.
#[test]
fn a_review_says_what_a_ruling_would_burn() {
    let board = Board::founded(&["ann", "ben"], 2);
    let close = ["propose", "policy", "--close", "member/1", "--even-if-decided"];
    board.ok("ann", &close);
    let review = board.ok("ben", &["review", "policy/2"]);
    assert!(review.contains("BURNS     nothing is proposed for member/1"), "{review}");
}
