//! A board too large for one-touch votes, with the real program: founding, the two touches, governors who
//! are silent, `kill -9` and a full disk at every write of the second touch, and a cloned folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::Errno;

use crate::board::{BORGIOS, Board, stderr};
use crate::strike::{Fault, interrupted};
use serde_json::Value;

/// The smallest board with more than 1,000 signing sets for each: 8 of 14.
const NAMES: [&str; 14] = [
    "ann", "ben", "cleo", "dan", "eve", "fay", "gus", "hal", "ida", "jon", "kim", "lea", "max",
    "ned",
];
const THRESHOLD: usize = 8;

/// No share makes as many calls of one kind.
const CALLS_MAX: usize = 400;

/// A founded board whose passphrases are quick to open.
fn large() -> Board {
    let board = Board::of(&NAMES);
    board.found(&NAMES, THRESHOLD);
    board
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

/// The payloads of all shares of one governor in an exchange folder, by session.
fn shares(exchange: &Path, governor: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in crate::board::files(&exchange.join("objects")) {
        let Ok(envelope) = serde_json::from_slice::<Value>(&std::fs::read(&path).unwrap()) else {
            continue;
        };
        let payload: Value = serde_json::from_str(envelope["payload"].as_str().unwrap()).unwrap();
        if envelope["type"] == "share" && payload["governor"] == governor {
            let session = payload["session"].as_str().unwrap().to_owned();
            found.entry(session).or_default().push(payload.to_string());
        }
    }
    found
}

/// One story, since a board of fourteen is not founded twice: who approves decides once, the second
/// touch needs no decision, six who never come stop nothing.
#[test]
fn a_large_board_votes_in_two_touches_and_no_interruption_uses_a_nonce_twice() {
    let board = large();
    board.propose("ned", "1.0");
    // Touch one: eight of fourteen, the others are silent for ever. One of them has second thoughts.
    board.ok("max", &["vote", "release/1", "reject", "--reason", "not today"]);
    let used = board.refused("max", &["vote", "release/1", "approve"]);
    assert!(used.contains("E_SLOT_USED"), "{used}");
    for name in &NAMES[..THRESHOLD - 1] {
        let vote = board.json(name, &["vote", "release/1", "approve"]);
        assert_eq!((&vote["signed"], &vote["shares"]), (&false.into(), &0.into()), "{name}");
    }
    // The last one needed opens the session and is the first to answer it.
    let last = board.json(NAMES[THRESHOLD - 1], &["vote", "release/1", "approve"]);
    assert_eq!((&last["signed"], &last["shares"]), (&false.into(), &1.into()));
    assert_eq!(board.published("session").len(), 1);
    // Again is no second share.
    let again = board.json(NAMES[THRESHOLD - 1], &["vote", "release/1", "approve"]);
    assert_eq!((&again["again"], &again["shares"]), (&true.into(), &0.into()));

    // Ann's second touch, interrupted everywhere.
    for (call, fault) in [
        ("fsync", Fault::Kill),
        ("rename", Fault::Kill),
        ("unlink", Fault::Kill),
        ("fsync", Fault::Error(Errno::NOSPC)),
        ("write", Fault::Error(Errno::NOSPC)),
    ] {
        let count = interrupt_everywhere(&board, call, fault);
        assert!(count > 0, "{call} was never called");
    }

    // A copy of her folder from before is found out once she has answered.
    copy(&board.home("ann"), &board.home("copy"));
    let sync = board.json("ann", &["sync"]);
    assert_eq!(sync["shares"], 1);
    let output = board.run("copy", &["sync"]);
    assert!(shares(&board.exchange(), "ann").values().all(|of| of.len() == 1));
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));

    // Touch two by the others, in their own time; the last one completes it.
    let mut signed = 0;
    for name in &NAMES[1..THRESHOLD - 1] {
        let sync = board.json(name, &["sync"]);
        assert_eq!(sync["shares"], 1, "{name}");
        signed += sync["signed"].as_array().unwrap().len();
    }
    assert_eq!(signed, 1);
    let log = board.ok("ned", &["log", "release"]);
    assert!(log.contains("approved by ann") && log.contains("rejected by max"), "{log}");
    // The nonces that were drawn ahead are gone.
    board.ok("ann", &["sync"]);
    let slots = std::fs::read_dir(board.home("ann").join("governor/slots")).unwrap();
    let names = slots.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.contains(".nonce-")).count(), 0);

    a_new_key_comes_into_force(&board);
}

/// The board that a policy makes votes in two touches as well, with shares that are not in force yet.
fn a_new_key_comes_into_force(board: &Board) {
    board.json("ann", &["governor", "refresh"]);
    board.change(&NAMES, None);
    let mut signed = false;
    for name in &NAMES[..THRESHOLD] {
        board.approve(name, "policy/2");
    }
    // Each gives one share under the old key and one under the new one.
    for _ in 0..2 {
        for name in &NAMES[..THRESHOLD] {
            let sync = board.json(name, &["sync"]);
            signed |= sync["signed"].as_array().unwrap().iter().any(|place| place == "policy/2");
        }
    }
    assert!(signed, "policy/2 never had both signatures");
    board.ok("ann", &["sync"]);
    let answer = board.json("ann", &["governor", "change"]);
    assert_eq!((&answer["status"], &answer["epoch"]), (&"in_force".into(), &2.into()));
}

/// Ann's `sync` with a fault at each call of one kind, in a fresh copy each time; then without one. There
/// is one share for the session among all bytes that stood in the exchange at any time.
fn interrupt_everywhere(board: &Board, call: &str, fault: Fault) -> usize {
    let passphrase = board.path("passphrase");
    for n in 1..CALLS_MAX {
        let context = format!("{call} number {n}, {fault:?}");
        let folder = board.path("copy-of-all");
        std::fs::create_dir(&folder).unwrap();
        copy(&board.home("ann"), &folder.join("home"));
        copy(&board.exchange(), &folder.join("exchange"));
        let prepare = |command: &mut Command| sync(command, &folder, &passphrase);
        let (struck, output) = interrupted(&folder.join("strace"), call, fault, n, prepare);
        let mut seen = shares(&folder.join("exchange"), "ann");
        let mut plain = Command::new(BORGIOS);
        sync(&mut plain, &folder, &passphrase);
        let after = plain.output().unwrap();
        assert!(after.status.success(), "{context}: {}", stderr(&after));
        for (session, of) in shares(&folder.join("exchange"), "ann") {
            seen.entry(session).or_default().extend(of);
        }
        for of in seen.values_mut() {
            of.sort();
            of.dedup();
        }
        assert_eq!(seen.len(), 1, "{context}: {seen:#?}");
        assert!(seen.values().all(|of| of.len() == 1), "{context}: {seen:#?}");
        let slots = folder.join("home/governor/slots");
        assert!(slots.join("1-release-1-0.share-0.json").exists(), "{context}");
        assert!(!slots.join("1-release-1-0.nonce-0.age").exists(), "{context}");
        std::fs::remove_dir_all(&folder).unwrap();
        if !struck {
            assert!(output.status.success(), "{context}: {}", stderr(&output));
            return n - 1;
        }
    }
    panic!("more than {CALLS_MAX} calls of {call}");
}

fn sync(command: &mut Command, folder: &Path, passphrase: &PathBuf) {
    command
        .args(["sync", "--json", "--passphrase-fd", "0", "--home"])
        .arg(folder.join("home"))
        .arg("--exchange")
        .arg(folder.join("exchange"))
        .env_remove("BORGIOS_HOME")
        .stdin(Stdio::from(std::fs::File::open(passphrase).unwrap()));
}
