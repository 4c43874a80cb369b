//! Signed policies that governors take back while nodes hold them, with the real program.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod board;

use board::Board;
use serde_json::Value;

/// A board whose policies wait seven days on the nodes, by its policy/2.
fn locked(names: &[&str]) -> Board {
    let board = Board::founded(names, 2);
    board.json(names[0], &["propose", "policy", "--lock", "policy=7d"]);
    signed_by(&board, &names[..2], "policy/2");
    board
}

/// Both approve what is at a place, and it is signed.
fn signed_by(board: &Board, names: &[&str], place: &str) {
    assert_eq!(board.approve(names[0], place)["signed"], false, "{place}");
    assert_eq!(board.approve(names[1], place)["signed"], true, "{place}");
    board.ok(names[0], &["sync"]);
}

/// The files of a governor's slots under the key of this epoch.
fn slots_of(board: &Board, name: &str, epoch: u32) -> usize {
    let slots = std::fs::read_dir(board.home(name).join("governor/slots")).unwrap();
    let names = slots.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // The ballots of a key that died stay on record under a name with a digest.
    let own = |name: &String| name.split('.').count() < 4;
    names.filter(|name| name.starts_with(&format!("{epoch}-"))).filter(own).count()
}

/// Cleo is voted off the board, and she and ann take that back while the nodes wait: the nodes hear
/// the board before the change, so this is the board that objects, and its shares are laid back.
#[test]
fn a_change_of_the_board_is_taken_back_by_the_board_before_it() {
    let board = locked(&["ann", "ben", "cleo"]);
    let old = board.json("ann", &["governor", "change"])["group"].clone();
    board.json("ann", &["governor", "change", "--remove", "cleo"]);
    board.change(&["ann", "ben"], None);
    signed_by(&board, &["ann", "ben"], "policy/3");
    // The laptops are past it; a vote has begun under the new key.
    board.propose("ann", "1.0");
    assert_eq!(board.approve("ann", "release/1")["signed"], false);
    let governor = |name: &str, file: &str| board.home(name).join("governor").join(file);
    for name in ["ann", "ben"] {
        assert!(governor(name, "past.age").exists() && slots_of(&board, name, 2) > 0, "{name}");
    }

    board.ok("cleo", &["sync"]);
    board.ok("cleo", &["pause", "policy/3", "--reason", "nobody asked me"]);
    board.ok("cleo", &["veto", "policy/3", "--reason", "nobody asked me"]);
    board.ok("ann", &["veto", "policy/3", "--reason", "she is right"]);
    let said = board.published("veto").into_iter().chain(board.published("pause"));
    let groups = said.map(|(_, envelope)| -> Value {
        let payload: Value = serde_json::from_str(envelope["payload"].as_str().unwrap()).unwrap();
        payload["group"].clone()
    });
    assert_eq!(groups.collect::<Vec<_>>(), [old.clone(), old.clone(), old.clone()]);

    // When the lock would be over, the old share is where it was and the dead key's slots are gone.
    for name in ["ann", "ben"] {
        if governor(name, "past.json").exists() {
            std::fs::write(governor(name, "past.json"), r#"{"until":1}"#).unwrap();
        }
        board.ok(name, &["sync"]);
        assert_eq!(slots_of(&board, name, 2), 0, "{name}");
        for gone in ["past.age", "past.json", "next.json"] {
            assert!(!governor(name, gone).exists(), "{name} {gone}");
        }
    }
    let over = board.refused("ann", &["governor", "change"]);
    assert!(over.contains("change-2.json is over") && over.contains("--anew"), "{over}");
    assert!(over.contains("policy/3, which it came to, was signed and then taken back"), "{over}");
    assert!(!over.contains("what this machine wrote"), "it misleads: {over}");
    board.propose("ann", "1.1");
    signed_by(&board, &["ann", "cleo"], "release/1");

    // Cleo lays nonces for the round that is open now.
    board.ok("cleo", &["sync"]);
    // Another attempt makes another key of the same epoch, and works.
    board.json("ann", &["governor", "change", "--anew", "--remove", "cleo"]);
    board.change(&["ann", "ben"], None);
    signed_by(&board, &["ann", "ben"], "policy/3");
    board.propose("ben", "2.0");
    signed_by(&board, &["ann", "ben"], "release/2");
}

/// A release signed under rules that are then taken back has no place, and stops nobody.
#[test]
fn what_was_signed_under_a_policy_that_died_stops_nobody() {
    let board = locked(&["ann", "ben"]);
    board.json("ann", &["propose", "policy", "--fanout", "4"]);
    signed_by(&board, &["ann", "ben"], "policy/3");
    board.propose("ann", "1.0");
    signed_by(&board, &["ann", "ben"], "release/1");
    board.ok("ben", &["veto", "policy/3", "--reason", "four is too few"]);
    for name in ["ann", "ben", "ann"] {
        board.ok(name, &["sync"]);
        let log = board.ok(name, &["log"]);
        assert!(log.contains("policy/2"), "{log}");
    }
    board.json("ben", &["propose", "policy", "--fanout", "6"]);
    signed_by(&board, &["ben", "ann"], "policy/3");
}
