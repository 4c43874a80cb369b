//! `kill -9` and a full disk at every write, fsync, rename and unlink of `borgios vote`.
//!
//! strace injects the fault at the N-th call of one kind, for N = 1, 2, … until the program ends
//! unhurt. Each time the same vote is then typed again, without a fault, and must end with exactly
//! one ballot for the slot among all bytes that ever stood in the exchange folder. At some of the
//! points the governor changes their mind instead: that too must end with one ballot.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;

use crate::board::{BORGIOS, Board, stderr};
use crate::strike::{CALLS, Fault, interrupted};
use serde_json::Value;

/// No vote makes as many calls of one kind; the test ends by itself long before.
const CALLS_MAX: usize = 400;

/// A copy of the template in which one vote is interrupted.
struct Copy<'a> {
    folder: PathBuf,
    passphrase: &'a Path,
    lane: &'a str,
}

impl Copy<'_> {
    fn prepare(&self, command: &mut Command, vote: &[&str]) {
        command
            .args(vote)
            .arg("--home")
            .arg(self.folder.join("home-ann"))
            .arg("--exchange")
            .arg(self.folder.join("exchange"))
            .args(["--passphrase-fd", "0", "--json"])
            .stdin(Stdio::from(std::fs::File::open(self.passphrase).unwrap()));
    }

    /// Votes with a fault at the `n`-th `call`; whether it struck, and how the program ended.
    fn interrupted(&self, call: &str, fault: Fault, n: usize) -> (bool, Output) {
        let place = self.place();
        let vote = ["vote", &place, "approve"];
        let prepare = |command: &mut Command| self.prepare(command, &vote);
        interrupted(&self.folder.join("strace"), call, fault, n, prepare)
    }

    fn place(&self) -> String {
        format!("{}/1", self.lane)
    }

    fn plain(&self, vote: &[&str]) -> Output {
        let mut command = Command::new(BORGIOS);
        self.prepare(&mut command, vote);
        command.output().unwrap()
    }

    /// The text of every ballot of ann that stands in the exchange folder now, unfinished files
    /// included as far as they are whole.
    fn ballots(&self, seen: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(self.folder.join("exchange/objects")).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            let Ok(envelope) = serde_json::from_slice::<Value>(&bytes) else { continue };
            let payload = envelope["payload"].as_str().unwrap().to_owned();
            if envelope["type"] == "ballot" && payload.contains(r#""governor":"ann""#) {
                let ballot: Value = serde_json::from_str(&payload).unwrap();
                if ballot["lane"] == self.lane {
                    seen.insert(format!("{payload} {}", envelope["sigs"]));
                }
            }
        }
    }

    /// What must hold once a vote has ended well: ballot stored, seed gone, nothing unfinished.
    fn check_slot(&self, context: &str) {
        let slots = self.folder.join("home-ann/governor/slots");
        let slot = |what: &str| slots.join(format!("1-{}-1-0.{what}", self.lane));
        assert!(slot("ballot.json").exists(), "{context}");
        assert!(!slot("seed.age").exists(), "{context}");
        for entry in std::fs::read_dir(&slots).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.ends_with(".tmp"), "{context}: {name}");
        }
    }
}

/// A board of three where ann's approval is the last one needed, so that her vote also publishes
/// the statement and refills her pools: every write the command can make.
fn template() -> Board {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    board.propose("ben", "1.0");
    board.ok("ben", &["vote", "release/1", "approve"]);
    board.ok("ann", &["review", "release/1"]);
    board
}

/// The same board before ann's share brings a revealed password: the ballot holds something that
/// was sealed with fresh randomness, and must be the same bytes all the same.
fn reveal_template() -> Board {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    board.ok("ben", &["credential", "schedule", "--epochs", "3", "--every", "1h"]);
    board.ok("ben", &["vote", "credential/1", "approve"]);
    board.ok("cleo", &["vote", "credential/1", "approve"]);
    let ask = ["credential", "reveal", "--epoch", "1", "--for", "8h", "--reason", "x"];
    board.json("ben", &ask);
    board.ok("ben", &["vote", "access/1", "approve"]);
    board.ok("ann", &["review", "access/1"]);
    board
}

fn copy<'a>(board: &Board, lane: &'a str, passphrase: &'a Path, name: &str) -> Copy<'a> {
    let folder = board.path(name);
    std::fs::create_dir(&folder).unwrap();
    let copied = Command::new("cp")
        .arg("-a")
        .args([board.home("ann"), board.exchange()])
        .arg(&folder)
        .status()
        .unwrap();
    assert!(copied.success());
    Copy { folder, passphrase, lane }
}

/// Interrupts at every call of one kind, and returns how many there were.
fn interrupt_everywhere(board: &Board, lane: &str, call: &str, fault: Fault) -> usize {
    let passphrase = board.path("passphrase");
    for n in 1..CALLS_MAX {
        let context = format!("{call} number {n}, {fault:?}");
        let name = format!("{call}-{}-{n}", if fault == Fault::Kill { "kill" } else { "error" });
        let copy = copy(board, lane, &passphrase, &name);
        let place = copy.place();
        let mut seen = BTreeSet::new();
        let (struck, output) = copy.interrupted(call, fault, n);
        copy.ballots(&mut seen);
        if !struck {
            assert!(output.status.success(), "{context}: {}", stderr(&output));
            assert_eq!(seen.len(), 1, "{context}");
            return n - 1;
        }
        // Every third time ann rejects afterwards: done, or refused because the slot is used.
        let changed_mind = n % 3 == 0;
        if changed_mind {
            let output = copy.plain(&["vote", &place, "reject", "--reason", "second thoughts"]);
            let said = stderr(&output);
            let used = output.status.code() == Some(1) && said.contains("E_SLOT_USED");
            assert!(output.status.success() || used, "{context}: {said}");
            copy.ballots(&mut seen);
            assert!(seen.len() <= 1, "{context}, changed mind: {seen:#?}");
            if output.status.success() {
                copy.check_slot(&context);
                assert_eq!(seen.len(), 1, "{context}, changed mind");
                std::fs::remove_dir_all(&copy.folder).unwrap();
                continue;
            }
        }
        // The way on: the same words again.
        let output = copy.plain(&["vote", &place, "approve"]);
        assert!(output.status.success(), "{context}: {}", stderr(&output));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["signed"], true, "{context}");
        copy.ballots(&mut seen);
        assert_eq!(seen.len(), 1, "{context}: {seen:#?}");
        copy.check_slot(&context);
        std::fs::remove_dir_all(&copy.folder).unwrap();
    }
    panic!("more than {CALLS_MAX} calls of {call}");
}

#[allow(clippy::print_stdout, reason = "how many calls there were is what this test reports")]
fn interrupt(board: &Board, lane: &str, faults: &[(&str, Fault)]) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((call, fault)) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let count = interrupt_everywhere(board, lane, call, *fault);
                    println!("{lane}, {call}: {count} calls, {fault:?} at each of them");
                    assert!(count > 0, "{call} was never called");
                }
            });
        }
    });
}

/// T42: killed, or the disk full, at every write of a vote: the same shares afterwards, or none.
#[test]
fn t42_no_interruption_makes_two_ballots_or_blocks_the_way() {
    let faults = CALLS.into_iter().flat_map(|call| {
        let full = if call == "unlink" { Errno::IO } else { Errno::NOSPC };
        [(call, Fault::Kill), (call, Fault::Error(full))]
    });
    let faults: Vec<_> = faults.collect();
    interrupt(&template(), "release", &faults);
}

#[test]
fn no_interruption_gives_two_shares_for_a_reveal() {
    let faults = [("rename", Fault::Kill), ("fsync", Fault::Error(Errno::NOSPC))];
    interrupt(&reveal_template(), "access", &faults);
}
