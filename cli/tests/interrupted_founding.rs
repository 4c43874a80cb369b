//! `kill -9` and a full disk at every write, fsync, rename and unlink of `borgios governor found`.
//!
//! One founding, in which ann's program is interrupted at its first call, then at its second, and
//! so on until it ends unhurt, at every step of the ceremony and for every kind of fault. Each run
//! must go on from whatever the last one left, and in the end all governors hold the same network
//! and can vote.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod board;

use std::path::{Path, PathBuf};
use std::process::Command;

use board::{Board, Fault, interrupted, stderr};
use serde_json::Value;

/// The calls and what happens to them.
const FAULTS: [(&str, Fault); 8] = [
    ("write", Fault::Kill),
    ("fsync", Fault::Kill),
    ("rename", Fault::Kill),
    ("unlink", Fault::Kill),
    ("write", Fault::Error("ENOSPC")),
    ("fsync", Fault::Error("ENOSPC")),
    ("rename", Fault::Error("ENOSPC")),
    ("unlink", Fault::Error("EIO")),
];

/// Runs one step of ann's, interrupted at its first call, then at its second, …, and at last
/// unhurt; for each kind of fault from the same start. How often it was interrupted, and what it
/// answered in the end.
fn step(board: &Board, args: &[&str]) -> (usize, Value) {
    let log = board.path("strace");
    let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
    let folders = [board.home("ann"), board.exchange()];
    let mut hits = 0;
    for (call, fault) in FAULTS {
        let kept = board.path("kept");
        copy(&folders, &kept);
        for n in 1.. {
            let prepare = |command: &mut Command| board.prepare(command, "ann", &args);
            let (struck, output) = interrupted(&log, call, fault, n, prepare);
            if !struck {
                assert!(output.status.success(), "{call} {n} {fault:?}: {}", stderr(&output));
                break;
            }
            hits += 1;
        }
        if (call, fault) != FAULTS[7] {
            // Back to the start. Nobody else has looked at the folder meanwhile.
            for folder in &folders {
                std::fs::remove_dir_all(folder).unwrap();
                copy(&[kept.join(folder.file_name().unwrap())], folder.parent().unwrap());
            }
        }
        std::fs::remove_dir_all(&kept).unwrap();
    }
    (hits, serde_json::from_str(&board.ok("ann", &args)).unwrap())
}

fn copy(from: &[PathBuf], to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    assert!(Command::new("cp").arg("-a").args(from).arg(to).status().unwrap().success());
}

#[test]
fn a_founding_survives_any_interruption() {
    let names = ["ann", "ben", "cleo"];
    let board = Board::of(&names);
    for name in names {
        board.hasten(name);
    }
    for name in ["ben", "cleo"] {
        board.ok(name, &["governor", "found"]);
    }
    let plan = ["governor", "found", "--threshold", "2", "--governors", "3", "--name", "lab"];
    let (mut hits, answer) = step(&board, &plan);
    let roster = answer["roster"].as_str().unwrap().to_owned();
    let accept = ["governor", "found", "--name", "lab", "--accept-roster", &roster];
    let mut founded = 0;
    for _ in 0..8 {
        let (struck, answer) = step(&board, &accept);
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
    assert!(hits > 100, "only {hits} interruptions; does strace work here?");

    let networks = names.map(|name| board.json(name, &accept)["network"].clone());
    assert!(networks.iter().all(|network| *network == networks[0]));
    assert!(!board.home("ann").join("governor/founding.age").exists());
    // Ann's seeds are those of the pools that everyone signed for.
    board.propose("ben", "1.0");
    board.ok("ann", &["vote", "release/1", "approve"]);
    let vote = board.json("cleo", &["vote", "release/1", "approve"]);
    assert_eq!(vote["signed"], true);
}
