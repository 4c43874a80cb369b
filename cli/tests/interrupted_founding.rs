//! `kill -9` and a full disk at every write, fsync, rename and unlink of `borgios governor found`.
//!
//! One founding, in which ann's program is interrupted at its first call, then at its second, and
//! so on until it ends unhurt, at every step of the ceremony and for every kind of fault. Each run
//! must go on from whatever the last one left, and in the end all governors hold the same network
//! and can vote.

use crate::board::{Board, step};

#[test]
fn a_founding_survives_any_interruption() {
    let names = ["ann", "ben", "cleo"];
    let board = Board::of(&names);
    for name in ["ben", "cleo"] {
        board.ok(name, &["governor", "found"]);
    }
    let plan = ["governor", "found", "--threshold", "2", "--governors", "3", "--name", "lab"];
    let (mut hits, answer) = step(&board, "ann", &plan, |_| ());
    let roster = answer["roster"].as_str().unwrap().to_owned();
    let accept = ["governor", "found", "--name", "lab", "--accept-roster", &roster];
    let mut founded = 0;
    for _ in 0..8 {
        let (struck, answer) = step(&board, "ann", &accept, |_| ());
        hits += struck;
        founded = usize::from(answer["status"] == "founded");
        for name in ["ben", "cleo"] {
            let answer = board.json(name, &accept);
            founded += usize::from(answer["status"] == "founded");
        }
        if founded == 3 {
            break;
        }
    }
    assert_eq!(founded, 3, "not founded after eight rounds");
    println!("{hits} interruptions");
    assert!(hits > 100, "only {hits} interruptions");

    let networks = names.map(|name| board.json(name, &accept)["network"].clone());
    assert!(networks.iter().all(|network| *network == networks[0]));
    assert!(!board.home("ann").join("governor/founding.age").exists());
    // Ann's seeds are those of the pools that everyone signed for.
    board.propose("ben", "1.0");
    board.ok("ann", &["vote", "release/1", "approve"]);
    let vote = board.json("cleo", &["vote", "release/1", "approve"]);
    assert_eq!(vote["signed"], true);
}
