//! What keeps a governor's folder and the network's rules going: another passphrase, rules and software
//! with a new date, rules of admission that are lifted again.

use std::fs::File;
use std::process::{Command, Stdio};

use rustix::io::Errno;

use crate::board::{Board, copy, stderr};
use crate::strike::{Fault, interrupted};
use age::secrecy::SecretString;
use serde_json::Value;

const OLD: &str = "correct horse battery staple";
const NEW: &str = "another five words for it";

/// Whether the stored identity opens with it.
fn opens(board: &Board, name: &str, passphrase: &str) -> bool {
    let identity = age::scrypt::Identity::new(SecretString::from(passphrase));
    let cipher = std::fs::read(board.home(name).join("governor/identity.age")).unwrap();
    age::decrypt(&identity, &cipher).is_ok()
}

#[test]
fn a_passphrase_is_changed_and_the_old_one_opens_nothing() {
    let board = Board::of(&["ann"]);
    let change = |lines: &str| board.run_with("ann", &["governor", "passphrase", "--json"], lines);
    let said = |lines: &str| {
        let output = change(lines);
        assert!(!output.status.success(), "{lines}");
        stderr(&output)
    };
    assert!(said("wrong words\nof another one\n").contains("wrong passphrase"));
    assert!(said(&format!("{OLD}\n{OLD}\n")).contains("is the old one"));
    assert!(said(&format!("{OLD}\n\n")).contains("protects nothing"));
    assert!(opens(&board, "ann", OLD));
    // A restore that was cut off knows the identity by its file.
    let mark = board.home("ann").join("governor/restoring");
    std::fs::write(&mark, "").unwrap();
    let unfinished = said(&format!("{OLD}\n{NEW}\n"));
    for part in ["laid from a backup", "`borgios governor restore` or `repair` again"] {
        assert!(unfinished.contains(part), "{part}: {unfinished}");
    }
    std::fs::remove_file(mark).unwrap();
    let done = change(&format!("{OLD}\n{NEW}\n"));
    assert!(done.status.success(), "{}", stderr(&done));
    let done: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&done["governor"], &done["changed"]), (&"ann".into(), &true.into()));
    assert!(opens(&board, "ann", NEW) && !opens(&board, "ann", OLD));
    assert!(said(&format!("{OLD}\n{NEW}\n")).contains("wrong passphrase"));
}

/// A restore has nothing to burn there, so its mark is never taken away.
#[test]
fn who_has_no_seat_changes_the_passphrase_of_a_restored_folder() {
    let board = Board::of(&["ann", "ben", "cleo"]);
    board.found(&["ann", "ben"], 2);
    // Cleo's folder, as a restore lays it once she has left the board.
    let (ann, cleo) = (board.home("ann"), board.home("cleo"));
    std::fs::copy(ann.join("governor/board.json"), cleo.join("governor/board.json")).unwrap();
    let copied = Command::new("cp").arg("-r").arg(ann.join("objects")).arg(&cleo).status();
    assert!(copied.unwrap().success());
    let change = |name: &str| {
        let lines = format!("{OLD}\n{NEW}\n");
        board.run_with(name, &["governor", "passphrase", "--json"], &lines)
    };
    for home in [&ann, &cleo] {
        std::fs::write(home.join("governor/restoring"), "").unwrap();
    }
    let refused = change("ann");
    assert!(stderr(&refused).contains("laid from a backup"), "{}", stderr(&refused));
    let done = change("cleo");
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(opens(&board, "ann", OLD) && opens(&board, "cleo", NEW));
    // What she published before is no less known than it was.
    assert!(cleo.join("governor/restoring").exists());
}

/// Cut off or without room at any step, one of the two passphrases opens the identity.
#[test]
fn nothing_is_half_changed() {
    let board = Board::of(&["ann"]);
    let (home, kept) = (board.home("ann"), board.path("kept"));
    copy(std::slice::from_ref(&home), &kept);
    let lines = board.path("lines");
    std::fs::write(&lines, format!("{OLD}\n{NEW}\n")).unwrap();
    let args = ["governor", "passphrase", "--json"];
    let mut hits = 0;
    for fault in [Fault::Kill, Fault::Error(Errno::NOSPC)] {
        for call in ["write", "fsync", "rename"] {
            for n in 1.. {
                std::fs::remove_dir_all(&home).unwrap();
                copy(&[kept.join(home.file_name().unwrap())], home.parent().unwrap());
                let prepare = |command: &mut Command| {
                    board.prepare(command, "ann", &args);
                    command.stdin(Stdio::from(File::open(&lines).unwrap()));
                };
                let (struck, output) = interrupted(&board.path("log"), call, fault, n, prepare);
                let (old, new) = (opens(&board, "ann", OLD), opens(&board, "ann", NEW));
                assert_ne!(old, new, "{call} {n} {fault:?}: {}", stderr(&output));
                if !struck {
                    assert!(output.status.success() && new, "{call} {n}: {}", stderr(&output));
                    break;
                }
                hits += 1;
            }
        }
    }
    assert!(hits > 5, "{hits}");
}

#[test]
fn the_first_steps_name_the_next_one() {
    let board = Board::founded(&["ann", "ben"], 2);
    let made = board.run("zoe", &["governor", "init", "--name", "zoe"]);
    let said = stderr(&made);
    for next in ["governor found", "governor change", "governor card --json"] {
        assert!(said.contains(&format!("`borgios {next}")), "{next}: {said}");
    }
    let founded = stderr(&board.run("ann", &["governor", "found"]));
    let next = format!("`borgios propose release --exchange {}`", board.exchange().display());
    assert!(founded.contains(&next), "{founded}");
}

fn both_approve(board: &Board, place: &str) {
    board.ok("ann", &["vote", place, "approve"]);
    assert_eq!(board.json("ben", &["vote", place, "approve"])["signed"], true, "{place}");
    // What ben's ballot completed.
    board.ok("ann", &["sync"]);
}

/// The advice of the first finding of that text.
fn advice(board: &Board, what: &str) -> Option<String> {
    let output = board.run("ann", &["doctor", "--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = found["findings"].as_array().unwrap().clone();
    let found = found.into_iter().find(|one| one["what"].as_str().unwrap().contains(what))?;
    found["advice"].as_str().map(str::to_owned)
}

#[test]
fn what_ends_soon_is_told_and_can_be_renewed() {
    let board = Board::founded(&["ann", "ben"], 2);
    let nothing = board.run("ann", &["propose", "policy"]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(stderr(&nothing).contains("`--renew`"), "{}", stderr(&nothing));
    board.ok("ann", &["propose", "policy", "--renew", "--expires-days", "10"]);
    both_approve(&board, "policy/2");
    let told = advice(&board, "the policy in force ends at").unwrap();
    assert!(told.contains("borgios propose policy --renew"), "{told}");
    board.ok("ann", &["propose", "policy", "--renew"]);
    both_approve(&board, "policy/3");
    assert_eq!(advice(&board, "the policy in force ends at"), None);

    assert_eq!(advice(&board, "ends at"), None);
    let (component, installer) = (board.component("hello", "1.0"), board.path("keeper"));
    std::fs::write(&installer, "the keeper").unwrap();
    let (component, installer) = (component.to_str().unwrap(), installer.to_str().unwrap());
    let release = ["propose", "release", "--component", component, "--installer", installer];
    let terms = ["--version", "1.0", "--expires-days", "10"];
    board.ok("ann", &release.into_iter().chain(terms).collect::<Vec<_>>());
    both_approve(&board, "release/1");
    let told = advice(&board, "release/1 ends at").unwrap();
    assert!(told.contains("borgios propose release") && told.contains("--keep"), "{told}");
    board.ok("ann", &["propose", "release", "--version", "1.0", "--keep"]);
    both_approve(&board, "release/2");
    assert_eq!(advice(&board, "ends at"), None);
}

#[test]
fn rules_of_admission_are_lifted_again() {
    let board = Board::founded(&["ann", "ben"], 2);
    let rules = ["--inviter", "ann", "--invite-uses", "3", "--invite-lifetime", "7d"];
    let propose = |more: &[&str]| {
        let args: Vec<&str> = ["propose", "policy"].iter().chain(more).copied().collect();
        board.run("ann", &args)
    };
    assert!(propose(&rules).status.success());
    both_approve(&board, "policy/2");
    let kept = propose(&["--inviter", "all", "--inviter", "ben"]);
    assert_eq!(kept.status.code(), Some(2), "{}", stderr(&kept));
    let lifted = ["--inviter", "all", "--invite-uses", "none", "--invite-lifetime", "none"];
    assert!(propose(&lifted[..2]).status.success());
    let body = board.json("ben", &["review", "policy/3"])["body"].clone();
    assert_eq!(body["admission"], serde_json::json!({"uses_max": 3, "lifetime_s": 604_800}));
    both_approve(&board, "policy/3");
    assert!(propose(&lifted).status.success());
    let body = board.json("ben", &["review", "policy/4"])["body"].clone();
    assert!(body["admission"].is_null(), "{body}");
}
