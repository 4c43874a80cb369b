//! `kill -9` and a full disk at every write, fsync, rename and unlink of `borgios governor change`,
//! and of the vote that brings the new key into force.
//!
//! One change, in which ann's program is interrupted at its first call, then at its second, and so
//! on until it ends unhurt, at every step and for every kind of fault. Each run must go on from
//! whatever the last one left. At no instant is ann without a share of the board in force: after each
//! kill, with the step begun anew for each, she proves in a drill that hers opens and signs.

use crate::board::{Board, stderr, step};
use serde_json::Value;

/// What ann would need for a vote is at hand: the share that the board in force knows her by, and a
/// seed of a pool that she published.
fn can_vote(board: &Board, context: &str) {
    let output = board.run("ann", &["drill", "--new", "--json"]);
    assert!(output.status.success(), "{context}: {}", stderr(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let ann = &told["governors"][0];
    let (name, able) = (&ann["governor"], &ann["can_vote"]);
    assert!(*name == "ann" && *able == true, "{context}: {told}");
    assert!(ann["pools"]["release"].as_u64() > Some(0), "{context}: {told}");
}

#[test]
fn t48_a_change_survives_any_interruption_and_the_old_key_works_until_it_is_in_force() {
    let names = ["ann", "ben", "cleo"];
    let board = Board::founded(&names, 2);
    let struck = |context: &str| can_vote(&board, context);
    let (mut hits, _) = step(&board, "ann", &["governor", "refresh"], struck);
    let mut proposed = 0;
    for round in 0..8 {
        for name in ["ben", "cleo"] {
            board.json(name, &["governor", "change"]);
        }
        let (count, answer) = step(&board, "ann", &["governor", "change"], struck);
        hits += count;
        if round == 1 {
            // Half made, and nobody has lost anything.
            board.propose("cleo", "1.0");
            board.approve("ann", "release/1");
            assert_eq!(board.approve("ben", "release/1")["signed"], true);
        }
        proposed = usize::from(answer["status"] == "proposed");
        if proposed == 1 {
            break;
        }
    }
    assert_eq!(proposed, 1, "no key after eight rounds");
    for name in ["ben", "cleo"] {
        assert_eq!(board.json(name, &["governor", "change"])["status"], "proposed", "{name}");
    }
    board.approve("ben", "policy/2");
    board.ok("ann", &["review", "policy/2"]);
    let (count, answer) = step(&board, "ann", &["vote", "policy/2", "approve"], struck);
    hits += count;
    assert_eq!(answer["signed"], true, "{answer}");
    println!("{hits} interruptions");
    assert!(hits > 150, "only {hits} interruptions");
    for gone in ["next.age", "next.json", "change.age"] {
        assert!(!board.home("ann").join("governor").join(gone).exists(), "{gone}");
    }
    // Ann's share and seeds are those of the new key.
    board.propose("ben", "2.0");
    board.approve("ann", "release/2");
    assert_eq!(board.approve("cleo", "release/2")["signed"], true);
}
