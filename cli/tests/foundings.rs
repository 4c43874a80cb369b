//! Foundings that go wrong, with the real program: what they leave behind, and how another one begins.

use crate::board::Board;

/// One attempt is spoilt, and those who are left found a network in the same home folders.
#[test]
fn who_took_part_in_a_founding_that_came_to_nothing_founds_another() {
    let board = Board::of(&["ann", "ben", "cleo"]);
    for name in ["ben", "cleo"] {
        board.json(name, &["governor", "found"]);
    }
    let plan = ["governor", "found", "--threshold", "2", "--governors", "3"];
    let roster = board.json("ann", &plan)["roster"].clone();
    let accept = ["governor", "found", "--accept-roster", roster.as_str().unwrap()];
    for name in ["ann", "ben", "cleo"] {
        board.json(name, &accept);
    }
    // Cleo is gone. Another folder, another plan.
    std::fs::rename(board.exchange(), board.path("spoilt")).unwrap();
    std::fs::create_dir(board.exchange()).unwrap();
    assert_eq!(board.json("ben", &["governor", "found"])["status"], "no_plan");
    let plan = ["governor", "found", "--threshold", "2", "--governors", "2"];
    let said = board.refused("ann", &plan);
    assert!(said.contains("the roster agreed on is") && said.contains("--anew"), "{said}");
    let roster = board.json("ann", &["governor", "found", "--anew"])["roster"].clone();
    let accept = [
        "governor",
        "found",
        "--anew",
        "--name",
        "lab",
        "--accept-roster",
        roster.as_str().unwrap(),
    ];
    // Said again and again, it begins anew once.
    let mut founded = 0;
    for _ in 0..6 {
        let answers = ["ann", "ben"].map(|name| board.json(name, &accept));
        founded = answers.iter().filter(|answer| answer["status"] == "founded").count();
    }
    assert_eq!(founded, 2);
    let kept = std::fs::read_dir(board.home("ann").join("governor")).unwrap();
    let kept = kept.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(kept.filter(|name| name.starts_with("founding-")).count(), 1);
    board.propose("ann", "1.0");
    board.approve("ann", "release/1");
    assert_eq!(board.approve("ben", "release/1")["signed"], true);
}

/// Anyone who can write to the folder can lay another plan there.
#[test]
fn no_state_is_set_aside_for_a_plan_that_nobody_confirmed() {
    let board = Board::of(&["ann", "ben"]);
    board.json("ben", &["governor", "found"]);
    let plan = ["governor", "found", "--threshold", "2", "--governors", "2"];
    let roster = board.json("ann", &plan)["roster"].as_str().unwrap().to_owned();
    let accept =
        ["governor", "found", "--anew", "--name", "lab", "--accept-roster", roster.as_str()];
    for name in ["ann", "ben"] {
        board.json(name, &accept);
    }
    let folder = board.home("ann").join("governor");
    let kept = std::fs::read(folder.join("founding.age")).unwrap();
    let untouched = || {
        assert_eq!(std::fs::read(folder.join("founding.age")).unwrap(), kept);
        let names = std::fs::read_dir(&folder).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(names.filter(|name| name.starts_with("founding-")).count(), 0);
    };
    let shared = board.exchange().join("founding.json");
    let agreed = std::fs::read(&shared).unwrap();
    // A plan of the same governors, and something that is no plan at all.
    std::fs::remove_file(&shared).unwrap();
    let other = ["governor", "found", "--threshold", "2", "--governors", "2", "--fanout", "4"];
    board.refused("ann", &other);
    assert_ne!(std::fs::read(&shared).unwrap(), agreed);
    assert_eq!(board.json("ann", &["governor", "found", "--anew"])["status"], "confirm");
    untouched();
    let said = board.refused("ann", &accept);
    assert!(said.contains("is not the plan's"), "{said}");
    untouched();
    std::fs::copy(board.exchange().join("ben.card.json"), &shared).unwrap();
    board.refused("ann", &accept);
    untouched();
    // The attempt goes on once its plan is back.
    std::fs::write(&shared, agreed).unwrap();
    let mut founded = 0;
    for _ in 0..6 {
        let answers = ["ann", "ben"].map(|name| board.json(name, &accept));
        founded = answers.iter().filter(|answer| answer["status"] == "founded").count();
    }
    assert_eq!(founded, 2);
}

/// The last step of a founding was cut off: any command makes up for it, and none takes the only share.
#[test]
fn the_state_of_a_founding_goes_with_the_next_command_and_never_with_the_only_share() {
    let names = ["ann", "ben"];
    let board = Board::of(&names);
    board.json("ben", &["governor", "found"]);
    let plan = ["governor", "found", "--threshold", "2", "--governors", "2"];
    let roster = board.json("ann", &plan)["roster"].clone();
    let accept =
        ["governor", "found", "--name", "lab", "--accept-roster", roster.as_str().unwrap()];
    let state = board.home("ann").join("governor/founding.age");
    let mut kept = Vec::new();
    for _ in 0..6 {
        for name in names {
            board.json(name, &accept);
            kept = std::fs::read(&state).unwrap_or(kept);
        }
    }
    assert!(!kept.is_empty() && !state.exists());
    std::fs::write(&state, &kept).unwrap();
    board.ok("ann", &["sync"]);
    assert!(!state.exists(), "its seeds are used since");
    // A folder that was told which network it is of, and whose founding did not end here.
    std::fs::write(&state, &kept).unwrap();
    std::fs::remove_file(board.home("ann").join("governor/share.age")).unwrap();
    assert_eq!(board.json("ann", &accept)["status"], "founded");
    assert!(state.exists(), "it holds the only copy of the share");
}

/// Cut off between the identity and its card.
#[test]
fn an_identity_without_a_card_gets_its_own() {
    let board = Board::of(&["zoe"]);
    let path = board.home("zoe").join("governor/card.json");
    let card = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let said = board.refused("zoe", &["governor", "init", "--name", "mia"]);
    assert!(said.contains("it is zoe's"), "{said}");
    board.ok("zoe", &["governor", "init", "--name", "zoe"]);
    assert_eq!(std::fs::read(&path).unwrap(), card);
    board.ok("zoe", &["governor", "card"]);
    let said = board.refused("zoe", &["governor", "init", "--name", "zoe"]);
    assert!(said.contains("exists and is kept"), "{said}");
}
