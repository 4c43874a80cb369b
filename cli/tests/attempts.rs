//! A change of the board that does not go straight: somebody is away at its end, somebody plans another
//! attempt over a key that is there; with the real program.

use crate::board::{Board, files, stderr};

/// Whether one of the papers of the key generation lies in the folder.
fn has_paper(board: &Board, part: &str) -> bool {
    files(&board.exchange()).iter().any(|path| path.to_string_lossy().contains(part))
}

/// Refreshes the key with all three, until all have signed for it. Ben, who comes second and so is the first
/// to sign, does nothing after that; the others take their shares.
fn refreshed_without_ben(board: &Board, author: &str, epoch: u32) {
    board.json(author, &["governor", "refresh"]);
    for _ in 0..8 {
        let mut made = 0;
        for name in ["ann", "ben", "cleo"] {
            if name == "ben" && has_paper(board, &format!("{epoch}.ben.done")) {
                continue;
            }
            let answer = board.json(name, &["governor", "change"]);
            made += usize::from(answer["status"] == "made" || answer["status"] == "proposed");
        }
        if made == 2 {
            return;
        }
    }
    panic!("no key after eight rounds");
}

/// Who did nothing after the last paper of the key generation has a share of what is in force all the same.
#[test]
fn who_was_away_when_the_new_key_came_into_force_takes_office_later() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    refreshed_without_ben(&board, "ann", 2);
    let governor = |file: &str| board.home("ben").join("governor").join(file);
    assert!(governor("change.age").exists() && !governor("next.age").exists());
    assert_eq!(board.approve("ann", "policy/2")["signed"], false);
    assert_eq!(board.approve("cleo", "policy/2")["signed"], true);
    board.ok("ben", &["sync"]);
    for gone in ["change.age", "next.age", "next.json"] {
        assert!(!governor(gone).exists(), "{gone}");
    }
    // His share and his first nonces are those that the others count on.
    board.propose("ann", "1.0");
    board.approve("ben", "release/1");
    assert_eq!(board.approve("cleo", "release/1")["signed"], true);
}

/// A plan that somebody lays later takes no key away that others may count on.
#[test]
fn a_newer_attempt_is_followed_only_by_who_says_so() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    // Ben wrote the plan and would propose; he has not heard that all have signed.
    refreshed_without_ben(&board, "ben", 2);
    board.json("cleo", &["governor", "refresh", "--anew"]);
    assert!(board.exchange().join("change-2.1.json").exists());
    let kept = board.run("ann", &["governor", "change"]);
    let said = stderr(&kept);
    assert!(
        kept.status.success() && said.contains("attempt 1 at this change is planned"),
        "{said}"
    );
    assert!(said.contains("--give-up") && board.home("ann").join("governor/next.age").exists());
    // Ben goes on with the key as well, and it comes into force with him and ann.
    let proposed = board.json("ben", &["governor", "change"]);
    assert_eq!(proposed["place"], "policy/2", "{proposed}");
    board.approve("ann", "policy/2");
    assert_eq!(board.approve("ben", "policy/2")["signed"], true);

    // Cleo, who gave hers up, finds it again; her first nonces are void. The next time all agree to it.
    for name in ["cleo", "ann"] {
        board.ok(name, &["sync"]);
    }
    assert_eq!(board.json("cleo", &["governor", "repair"])["status"], "whole");
    assert_eq!(board.published("burn").len(), 1);
    refreshed_without_ben(&board, "ben", 3);
    board.json("cleo", &["governor", "refresh", "--anew"]);
    for name in ["ann", "ben"] {
        board.json(name, &["governor", "change", "--give-up"]);
        assert!(!board.home(name).join("governor/next.age").exists(), "{name}");
    }
    assert_eq!(board.change(&["ann", "ben", "cleo"], None)["place"], "policy/3");
}

/// What was asked for is what is planned, or it is said; and a card that the board has already is no new one.
#[test]
fn a_plan_that_is_not_what_was_asked_for_is_refused() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    let card = |name: &str| board.exchange().join(format!("{name}.card.json"));
    let (old, new) = (card("ben"), card("zoe"));
    let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
    let said = board.refused("ann", &["governor", "change", "--remove", "ben", "--add", old]);
    assert!(said.contains("this is the card that ben has now"), "{said}");
    board.json("ann", &["governor", "refresh"]);
    board.ok("zoe", &["governor", "init", "--name", "zoe"]);
    assert_eq!(board.json("zoe", &["governor", "change"])["status"], "no_plan");
    let said = board.refused("ann", &["governor", "change", "--add", new, "--remove", "cleo"]);
    assert!(said.contains("plans another change"), "{said}");
    // Ben's laptop is in wrong hands, and his new one lays another card in the place of the old one.
    std::fs::remove_dir_all(board.home("ben")).unwrap();
    board.ok("ben", &["governor", "init", "--name", "ben"]);
    let before = std::fs::read(old).unwrap();
    assert_eq!(board.json("ben", &["governor", "change"])["status"], "no_plan");
    assert_ne!(std::fs::read(old).unwrap(), before);
    let change = ["governor", "change", "--anew", "--remove", "ben", "--add", old];
    assert_eq!(board.json("ann", &change)["status"], "confirm");
}

/// A change that vetoes took back keeps nobody out who is to come with the next one.
#[test]
fn who_is_new_finds_the_plan_that_follows_a_vetoed_change() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    board.json("ann", &["propose", "policy", "--lock", "policy=7d"]);
    board.approve("ann", "policy/2");
    assert_eq!(board.approve("ben", "policy/2")["signed"], true);
    board.ok("ann", &["sync"]);
    board.ok("cleo", &["sync"]);
    board.json("ann", &["governor", "refresh"]);
    board.change(&["ann", "ben", "cleo"], None);
    board.approve("ann", "policy/3");
    assert_eq!(board.approve("ben", "policy/3")["signed"], true);
    for name in ["ben", "cleo"] {
        board.ok(name, &["veto", "policy/3", "--reason", "too soon"]);
    }
    board.ok("ann", &["sync"]);
    board.ok("zoe", &["governor", "init", "--name", "zoe"]);
    assert_eq!(board.json("zoe", &["governor", "change"])["status"], "no_plan");
    let card = board.exchange().join("zoe.card.json");
    let plan = ["governor", "change", "--anew", "--remove", "cleo", "--add"];
    let plan: Vec<&str> = plan.into_iter().chain([card.to_str().unwrap()]).collect();
    let asked = board.json("ann", &plan);
    let roster = asked["roster"].as_str().unwrap();
    assert_eq!(board.json("zoe", &["governor", "change"])["roster"], roster);
    let proposed = board.change(&["ann", "ben", "zoe"], Some(roster));
    assert_eq!(proposed["place"], "policy/3");
}
