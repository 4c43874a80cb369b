//! `kill -9` and a full disk at every write, fsync, rename and unlink of `borgios governor change`,
//! and of the vote that brings the new key into force.
//!
//! One change, in which ann's program is interrupted at its first call, then at its second, and so
//! on until it ends unhurt, at every step and for every kind of fault. Each run must go on from
//! whatever the last one left. At no instant is ann without a share of the board in force.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod board;

use board::{Board, step};

#[test]
fn t48_a_change_survives_any_interruption_and_the_old_key_works_until_it_is_in_force() {
    let names = ["ann", "ben", "cleo"];
    let board = Board::founded(&names, 2);
    for name in names {
        board.hasten(name);
    }
    let (mut hits, _) = step(&board, "ann", &["governor", "refresh"]);
    let mut proposed = 0;
    for round in 0..8 {
        for name in ["ben", "cleo"] {
            board.json(name, &["governor", "change"]);
        }
        let (struck, answer) = step(&board, "ann", &["governor", "change"]);
        hits += struck;
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
    let (struck, answer) = step(&board, "ann", &["vote", "policy/2", "approve"]);
    hits += struck;
    assert_eq!(answer["signed"], true, "{answer}");
    println!("{hits} interruptions");
    assert!(hits > 150, "only {hits} interruptions; does strace work here?");
    for gone in ["next.age", "next.json", "change.age"] {
        assert!(!board.home("ann").join("governor").join(gone).exists(), "{gone}");
    }
    // Ann's share and seeds are those of the new key.
    board.propose("ben", "2.0");
    board.approve("ann", "release/2");
    assert_eq!(board.approve("cleo", "release/2")["signed"], true);
}
