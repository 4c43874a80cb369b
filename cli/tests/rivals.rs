//! What a governor is told before a vote of what else is there: rivals, locks, two signatures for one
//! place, and another terminal; with the real program.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use crate::board::{Board, next_second};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

/// The first digits of what was proposed.
fn short(proposed: &Value) -> String {
    proposed["statement"].as_str().unwrap().trim_start_matches("sha256:")[..12].to_owned()
}

fn codes(answer: &Value) -> Vec<&str> {
    let rows = answer["notices"].as_array().unwrap();
    rows.iter().map(|row| row["code"].as_str().unwrap()).collect()
}

fn signed_by(board: &Board, names: [&str; 2], place: &str) {
    assert_eq!(board.approve(names[0], place)["signed"], false, "{place}");
    assert_eq!(board.approve(names[1], place)["signed"], true, "{place}");
}

#[test]
fn a_rival_is_named_with_which_was_here_first_and_one_that_came_since_refuses_the_approval() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    let one = short(&board.propose("ann", "1.0"));
    let alone = board.json("cleo", &["review", &one]);
    assert_eq!(codes(&alone), Vec::<&str>::new());
    next_second();
    let two = short(&board.propose("ben", "2.0"));
    board.ok("ben", &["vote", &two, "approve"]);

    // Cleo looked at the first before there was a second one.
    let vote = ["vote", one.as_str(), "approve"];
    let refused = board.run("cleo", &vote);
    let said = crate::board::stderr(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("[E_RIVAL]") && said.contains(&two), "{said}");
    assert!(said.contains(&format!("`borgios review {one}` shows both")), "{said}");

    let review = board.json("cleo", &["review", &one]);
    assert_eq!(codes(&review), ["RIVAL"]);
    let text = board.ok("cleo", &["review", &one]);
    let line = text.lines().find(|line| line.contains("[RIVAL]")).unwrap();
    for part in [
        &format!("release/1 has another proposal, {two} by ben: here later than this one, since 2"),
        "approved by ben. Each governor can approve one of them",
        &format!("`borgios review {two}` shows it"),
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    // Seen from the other one it is the first.
    let text = board.ok("cleo", &["review", &two]);
    assert!(text.contains(&format!("{one} by ann: here FIRST, since 2")), "{text}");
    assert!(text.contains("nobody approves it yet"), "{text}");
    // Who looked at both may vote, and is told once more.
    let voted = board.run("cleo", &vote);
    assert!(voted.status.success(), "{}", crate::board::stderr(&voted));
    assert!(
        crate::board::stderr(&voted)
            .contains(&format!("warning: release/1 has another proposal, {two}"))
    );
}

/// What is signed may still be taken back while servers hold it, and so may what builds upon it.
#[test]
fn a_lock_that_runs_below_a_proposal_is_named() {
    let board = Board::founded(&["ann", "ben"], 2);
    board.json("ann", &["propose", "policy", "--lock", "release=48h"]);
    signed_by(&board, ["ann", "ben"], "policy/2");
    board.propose("ann", "1.0");
    signed_by(&board, ["ann", "ben"], "release/1");
    board.propose("ann", "2.0");
    let review = board.json("ben", &["review", "release/2"]);
    assert_eq!(codes(&review), ["LOCKED"]);
    let message = review["notices"][0]["message"].as_str().unwrap();
    assert!(message.contains("release/1 is signed") && message.contains("hold it back until 2"));
    assert!(review["notices"][0]["next"].as_str().unwrap().contains("`borgios veto release/1"));
    let signed = board.json("ben", &["review", "release/1"]);
    assert_eq!((&signed["signed"], &signed["standing"]), (&true.into(), &"locked".into()));
    // Another lane without a lock of its own has none.
    board.json("ann", &["propose", "policy", "--fanout", "4"]);
    assert_eq!(codes(&board.json("ben", &["review", "policy/3"])), Vec::<&str>::new());
}

/// A release is vetoed and the next round of its place is signed; whoever did not hear of the vetoes meets
/// two signed documents.
#[test]
fn two_signed_documents_for_one_place_are_named_and_can_be_ruled_on() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    board.json("ann", &["propose", "policy", "--lock", "release=48h"]);
    signed_by(&board, ["ann", "ben"], "policy/2");
    let one = board.propose("ann", "1.0");
    signed_by(&board, ["ann", "ben"], "release/1");
    board.ok("cleo", &["sync"]);
    for name in ["ann", "ben"] {
        board.ok(name, &["veto", "release/1", "--reason", "it deletes /etc"]);
    }
    let two = board.propose("ann", "1.1");
    assert_eq!(two["round"], 1);
    // Cleo lays no nonces for a round that she does not know of.
    let vote = ["vote", "release/1", "approve", "--without", "cleo"];
    board.ok("ben", &["sync"]);
    assert_eq!(board.json("ann", &vote)["signed"], false);
    assert_eq!(board.json("ben", &vote)["signed"], true);
    for (path, _) in board.published("veto") {
        std::fs::remove_file(path).unwrap();
    }

    for _ in 0..2 {
        let synced = board.json("cleo", &["sync"]);
        assert_eq!(codes(&synced), ["FROZEN"], "{synced}");
        let message = synced["notices"][0]["message"].as_str().unwrap();
        for id in [&one, &two] {
            assert!(message.contains(id["statement"].as_str().unwrap()), "{message}");
        }
    }
    for (id, standing) in [("release/1", "locked"), (two["statement"].as_str().unwrap(), "rival")] {
        let seen = board.json("cleo", &["review", id]);
        assert_eq!((&seen["standing"], codes(&seen)), (&standing.into(), vec!["FROZEN"]), "{seen}");
        assert!(seen["changes"].to_string().contains("version"), "{seen}");
    }
    let decided = board.refused("cleo", &["vote", "release/1", "approve"]);
    assert!(decided.contains("[FROZEN]") && decided.contains("--settle release/1=ID"), "{decided}");
    // Something is undecided there, so that a ruling needs no more words; and then it is no more.
    let winner = format!("release/1={}", two["statement"].as_str().unwrap());
    board.ok("cleo", &["propose", "policy", "--settle", &winner]);
    board.ok("cleo", &["vote", "policy/3", "approve"]);
    board.ok("ann", &["vote", "policy/3", "approve"]);
    let synced = board.json("cleo", &["sync"]);
    assert_eq!(codes(&synced), Vec::<&str>::new(), "{synced}");
}

#[test]
fn another_terminal_at_work_is_named_and_waited_for() {
    let board = Board::founded(&["ann", "ben"], 2);
    board.propose("ann", "1.0");
    let mut lock =
        std::fs::File::options().write(true).open(board.home("ben").join("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    lock.set_len(0).unwrap();
    lock.write_all(b"process 7, borgios vote\n").unwrap();
    let mut review = board.command("ben", &["review", "release/1"]);
    let mut running = review.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut stderr = BufReader::new(running.stderr.take().unwrap());
    while !said.contains("(process 7, borgios vote): waiting") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "it did not wait: {said}");
    }
    // What passes through its memory leaves it in no core file.
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    drop(lock);
    let output = running.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("[BUSY] another command works"), "{text}");
    // Whoever is done leaves nothing that looks like work.
    assert_eq!(codes(&board.json("ben", &["review", "release/1"])), Vec::<&str>::new());
}
