//! Lost laptops and lost shares, with the real program: backup and restore, words on paper, repair
//! by the others, and a new identity under the old share.

use std::fs::File;
use std::process::{Command, Stdio};

use crate::board::{BORGIOS, Board, copy, stderr, step};
use crate::strike::{Fault, interrupted};
use borgios_policy::{Ballot, Choice, Lane, Object as _};
use borgios_types::{Digest, Round, Seq};
use serde_json::Value;

const PASSPHRASE: &str = "correct horse battery staple\n";

fn answer(output: &std::process::Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn release(board: &Board, place: &str, version: &str, by: [&str; 2]) {
    board.propose(by[0], version);
    board.approve(by[0], place);
    assert_eq!(board.approve(by[1], place)["signed"], true, "{place} by {by:?}");
}

/// A file is opened anew for each passphrase, and both stand in it.
#[test]
fn a_backup_in_a_file_of_two_lines_is_locked_under_the_second() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    let backup = board.path("ann.backup");
    let third = |args: &[&str], lines: &str| {
        let path = board.path("lines");
        std::fs::write(&path, lines).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" 3<\"$LINES_FILE\"", "sh", BORGIOS]).args(args);
        command.args(["--passphrase-fd", "3", "--home"]).arg(board.home("ann"));
        command.arg("--exchange").arg(board.exchange()).arg("--socket").arg(board.path("no.sock"));
        command.env_remove("BORGIOS_HOME").env("LINES_FILE", path);
        command.stdin(Stdio::null()).output().unwrap()
    };
    let args = |what| ["governor", what, backup.to_str().unwrap(), "--json"];
    let own = format!("{PASSPHRASE}another one for the backup\n");
    answer(&third(&args("backup"), &own));
    std::fs::remove_dir_all(board.home("ann")).unwrap();
    let wrong = third(&args("restore"), &own);
    assert!(stderr(&wrong).contains("wrong passphrase"), "{}", stderr(&wrong));
    let lines = format!("another one for the backup\n{PASSPHRASE}");
    assert_eq!(answer(&third(&args("restore"), &lines))["usable"], true);
}

/// A laptop burns; its backup file brings the governor back, with new nonces, and nothing that was
/// open before is voted in twice.
#[test]
fn a_restored_laptop_votes_again_with_new_nonces() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    let file = board.path("ann.backup");
    let file = file.to_str().unwrap();
    let two = format!("{PASSPHRASE}another one for the backup\n");
    let kept = answer(&board.run_with("ann", &["governor", "backup", file, "--json"], &two));
    assert_eq!((&kept["governor"], &kept["epoch"]), (&"ann".into(), &1.into()));
    let again = board.run_with("ann", &["governor", "backup", file], &two);
    assert_eq!(again.status.code(), Some(1), "a backup is not overwritten");
    // A ballot is cast after the backup was made, then everything is lost.
    board.propose("ann", "1.0");
    board.approve("ann", "release/1");
    std::fs::remove_dir_all(board.home("ann")).unwrap();
    let wrong = board.run_with("ann", &["governor", "restore", file], &two);
    let said = stderr(&wrong);
    for part in ["wrong passphrase", "ann.backup", "the backup has a passphrase of its own"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let lines = format!("another one for the backup\n{PASSPHRASE}");
    let back = answer(&board.run_with("ann", &["governor", "restore", file, "--json"], &lines));
    assert_eq!((&back["governor"], &back["generation"]), (&"ann".into(), &1.into()));
    assert_eq!(back["usable"], true);
    assert!(back["slots"].as_u64().unwrap() > 30, "{back}");
    // In the slot of the lost ballot nothing else is cast.
    let said = board.refused("ann", &["vote", "release/1", "reject", "--reason", "no"]);
    assert!(said.contains("error: ") && said.contains("ballot"), "{said}");
    // Its nonces are void with all the others of that time: who votes now votes without ann there.
    let said = board.refused("ben", &["vote", "release/1", "approve"]);
    assert!(said.contains("was never shown here"), "{said}");
    board.ok("ben", &["review", "release/1"]);
    let said = board.refused("ben", &["vote", "release/1", "approve"]);
    assert!(said.contains("--without ann"), "{said}");
    board.ok("ben", &["vote", "release/1", "approve", "--without", "ann"]);
    let last = board.json("cleo", &["vote", "release/1", "approve", "--without", "ann"]);
    assert_eq!(last["signed"], true);
    board.ok("ann", &["sync"]);
    release(&board, "release/2", "2.0", ["cleo", "ann"]);
    let log = board.ok("ben", &["log"]);
    assert!(log.contains("release/2"), "{log}");
    // Before anything was decided the folder had all there was; by now servers may know more.
    assert_eq!(back["unheard"], false);
    std::fs::remove_dir_all(board.home("ann")).unwrap();
    let later = board.run_with("ann", &["governor", "restore", file], &lines);
    let said = stderr(&later);
    assert!(later.status.success() && said.contains("no server was asked"), "{said}");
}

/// Twenty-four words on paper hold the share; the identity is the governor's own.
#[test]
fn a_share_comes_back_from_words() {
    let board = Board::founded(&["ann", "ben"], 2);
    let kept = board.json("ann", &["governor", "backup", "--words"]);
    let words = kept["words"].as_str().unwrap();
    assert_eq!(words.split(' ').count(), 24);
    std::fs::remove_file(board.home("ann").join("governor/share.age")).unwrap();
    board.propose("ben", "1.0");
    board.ok("ann", &["review", "release/1"]);
    let said = board.refused("ann", &["vote", "release/1", "approve"]);
    assert!(said.contains("governor restore"), "{said}");
    let args = ["governor", "restore", "--words", "--json"];
    let slip = format!("{PASSPHRASE}{}\n", words.replacen(' ', " abandon ", 1));
    let slipped = board.run_with("ann", &args, &slip);
    assert_eq!(slipped.status.code(), Some(1));
    assert!(stderr(&slipped).contains("check the words"), "{}", stderr(&slipped));
    let back = board.run_with("ann", &args, &format!("{PASSPHRASE}{words}\n"));
    assert_eq!(answer(&back)["usable"], true);
}

/// Cut off once the share is laid, the folder still knows that its earlier nonces are not void yet.
#[test]
fn a_restore_from_words_that_was_cut_off_is_not_taken_for_done() {
    let board = Board::founded(&["ann", "ben"], 2);
    let kept = board.json("ann", &["governor", "backup", "--words"]);
    let lines = board.path("lines");
    std::fs::write(&lines, format!("{PASSPHRASE}{}\n", kept["words"].as_str().unwrap())).unwrap();
    let folder = board.home("ann").join("governor");
    let (share, mark) = (folder.join("share.age"), folder.join("restoring"));
    std::fs::remove_file(&share).unwrap();
    let args = ["governor", "restore", "--words", "--json"];
    for n in 1.. {
        let prepare = |command: &mut Command| {
            board.prepare(command, "ann", &args);
            command.stdin(Stdio::from(File::open(&lines).unwrap()));
        };
        let log = board.path("log");
        let (struck, output) = interrupted(&log, "rename", Fault::Kill, n, prepare);
        assert!(struck, "{n}: {}", stderr(&output));
        if share.exists() {
            break;
        }
    }
    assert!(mark.exists());
    let done = board.json("ann", &["governor", "repair"]);
    assert_eq!((&done["status"], &done["generation"]), (&"whole".into(), &1.into()), "{done}");
    assert!(!mark.exists());
    release(&board, "release/1", "1.0", ["ben", "ann"]);
}

/// The others bring a share back; each runs one command, twice.
#[test]
fn a_lost_share_is_repaired_by_the_others() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    let whole = board.json("ben", &["governor", "repair"]);
    assert_eq!(whole["status"], "whole");
    std::fs::remove_file(board.home("ben").join("governor/share.age")).unwrap();
    let asked = board.json("ben", &["governor", "repair"]);
    assert_eq!((&asked["status"], &asked["helpers"][1]), (&"asked".into(), &"cleo".into()));
    let help = ["governor", "repair", "--for", "ben"];
    assert_eq!(board.json("ann", &help)["status"], "waiting");
    assert_eq!(board.json("cleo", &help)["status"], "helped");
    assert_eq!(board.json("ben", &["governor", "repair"])["status"], "waiting");
    assert_eq!(board.json("ann", &help)["status"], "helped");
    let done = board.json("ben", &["governor", "repair"]);
    assert_eq!(done["status"], "repaired", "{done}");
    assert_eq!((&done["signed"], &done["shares"]), (&serde_json::json!([]), &0.into()), "{done}");
    assert!(done["slots"].as_u64() > Some(30) && done["recoveries"].is_array(), "{done}");
    release(&board, "release/1", "1.0", ["cleo", "ben"]);
}

/// A lost laptop: a new identity by a vote, then the share from the others.
#[test]
fn a_governor_with_a_lost_laptop_goes_on_under_a_new_identity() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    let network = board.json("ann", &["governor", "found"])["network"].clone();
    let file = board.path("ben.backup");
    let file = file.to_str().unwrap();
    let two = format!("{PASSPHRASE}another one for the backup\n");
    answer(&board.run_with("ben", &["governor", "backup", file, "--json"], &two));
    std::fs::remove_dir_all(board.home("ben")).unwrap();
    board.ok("ben", &["governor", "init", "--name", "ben"]);
    let card = board.home("ben").join("governor/card.json");
    let args = ["governor", "repair", "--network", network.as_str().unwrap()];
    let early = board.refused("ben", &args);
    assert!(early.contains("has another key for ben") && early.contains("--card"), "{early}");
    board.ok("ann", &["governor", "repair", "--card", card.to_str().unwrap()]);
    board.approve("ann", "policy/2");
    assert_eq!(board.approve("cleo", "policy/2")["signed"], true);
    assert_eq!(board.json("ben", &args)["status"], "asked");
    let help = ["governor", "repair", "--for", "ben"];
    for name in ["ann", "cleo", "ann"] {
        board.json(name, &help);
    }
    let done = board.json("ben", &["governor", "repair"]);
    assert_eq!((&done["status"], &done["generation"]), (&"repaired".into(), &1.into()));
    release(&board, "release/1", "1.0", ["ben", "ann"]);
    // The old identity is no way back any more, and nothing is laid for it.
    let lines = format!("another one for the backup\n{PASSPHRASE}");
    let old = board.run_with("old", &["governor", "restore", file], &lines);
    let said = stderr(&old);
    assert_eq!(old.status.code(), Some(1), "{said}");
    for part in ["ben.backup was replaced since", "--home DIR"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!board.home("old").join("governor/share.age").exists());
}

/// Killed between the share and the burn: the pools of the former key are nobody's, and new ones are made.
#[test]
fn a_repair_under_a_new_identity_survives_any_interruption() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    let network = board.json("ann", &["governor", "found"])["network"].clone();
    std::fs::remove_dir_all(board.home("ben")).unwrap();
    board.ok("ben", &["governor", "init", "--name", "ben"]);
    board.hasten("ben");
    let card = board.home("ben").join("governor/card.json");
    board.ok("ann", &["governor", "repair", "--card", card.to_str().unwrap()]);
    board.approve("ann", "policy/2");
    assert_eq!(board.approve("cleo", "policy/2")["signed"], true);
    let args = ["governor", "repair", "--network", network.as_str().unwrap()];
    assert_eq!(board.json("ben", &args)["status"], "asked");
    for name in ["ann", "cleo", "ann"] {
        board.json(name, &["governor", "repair", "--for", "ben"]);
    }
    let (hits, done) = step(&board, "ben", &["governor", "repair"], |_| ());
    assert!(hits > 20, "only {hits} interruptions");
    assert_eq!(done["status"], "whole", "{done}");
    assert!(!board.home("ben").join("governor/restoring").exists());
    release(&board, "release/1", "1.0", ["ben", "ann"]);
}

/// As a program that was killed in the gap left it before it marked the gap.
#[test]
fn pools_of_a_former_key_stand_in_for_none_of_the_new_one() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    let network = board.json("ann", &["governor", "found"])["network"].clone();
    std::fs::remove_dir_all(board.home("ben")).unwrap();
    board.ok("ben", &["governor", "init", "--name", "ben"]);
    let card = board.home("ben").join("governor/card.json");
    board.ok("ann", &["governor", "repair", "--card", card.to_str().unwrap()]);
    board.approve("ann", "policy/2");
    assert_eq!(board.approve("cleo", "policy/2")["signed"], true);
    board.json("ben", &["governor", "repair", "--network", network.as_str().unwrap()]);
    for name in ["ann", "cleo", "ann"] {
        board.json(name, &["governor", "repair", "--for", "ben"]);
    }
    let before = board.path("before");
    copy(&[board.exchange()], &before);
    board.json("ben", &["governor", "repair"]);
    // The share is laid, and nothing else was done.
    std::fs::remove_dir_all(board.exchange()).unwrap();
    std::fs::rename(before.join("exchange"), board.exchange()).unwrap();
    let home = board.home("ben");
    std::fs::remove_file(home.join("governor/generation-1")).unwrap();
    std::fs::remove_dir_all(home.join("governor/slots")).unwrap();
    std::fs::remove_dir_all(home.join("objects")).unwrap();
    let pools = board.published("pool").len();
    board.ok("ben", &["sync"]);
    assert!(board.published("pool").len() > pools, "the new key has none of its own");
}

/// Whoever has the old identity of a name that has a new one on a new board says nothing for it.
#[test]
fn a_ballot_by_who_had_the_name_before_is_none_of_the_new_ones() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    let (thief, _) = board.secrets("ben");
    let group = board.json("ann", &["governor", "found"])["group"].clone();
    std::fs::remove_dir_all(board.home("ben")).unwrap();
    board.ok("ben", &["governor", "init", "--name", "ben"]);
    let card = board.home("ben").join("governor/card.json");
    let plan = ["governor", "change", "--remove", "ben", "--add", card.to_str().unwrap()];
    let roster = board.json("ann", &plan)["roster"].clone();
    board.change(&["ann", "ben", "cleo"], roster.as_str());
    board.approve("ann", "policy/2");
    assert_eq!(board.approve("cleo", "policy/2")["signed"], true);
    let ballot = Ballot {
        group: serde_json::from_value(group).unwrap(),
        governor: "ben".parse().unwrap(),
        lane: Lane::Release,
        seq: Seq(999),
        round: Round(0),
        statement: Digest::of(b"any"),
        choice: Choice::Reject { reason: "x".to_owned() },
        comment: None,
        reveal: None,
        rebuild: None,
        // The largest that is allowed: no ballot can follow it.
        counter: 1 << 53,
    };
    board.publish(&ballot.to_envelope().sign(&thief));
    board.ok("ben", &["sync"]);
    let whole = board.json("ben", &["governor", "repair", "--anew"]);
    assert_eq!(whole["status"], "whole", "{whole}");
    board.propose("ann", "1.0");
    board.ok("ben", &["vote", "release/1", "reject", "--reason", "not yet"]);
    let cast = board.published("ballot").into_iter().filter_map(|(_, envelope)| {
        let read: Value = serde_json::from_str(envelope["payload"].as_str()?).unwrap();
        (read["governor"] == "ben" && read["lane"] == "release").then(|| read["counter"].as_u64())
    });
    let mut counters: Vec<Option<u64>> = cast.collect();
    counters.sort_unstable();
    assert_eq!(counters.len(), 2);
    assert!(counters[0] < Some(10), "{counters:?}");
}

/// A burn that was written down and cut off before it was said is said by the next command.
#[test]
fn a_burn_that_was_cut_off_is_finished_by_whatever_is_run_next() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    board.propose("ann", "1.0");
    std::fs::write(board.home("ben").join("governor/generation-1"), "1").unwrap();
    let synced = board.json("ben", &["sync"]);
    let burns = board.published("burn");
    assert_eq!(burns.len(), 1, "{synced}");
    assert!(burns[0].1["payload"].as_str().unwrap().contains(r#""governor":"ben","generation":1"#));
    // Nothing is burnt twice, and the new nonces are good.
    board.ok("ben", &["sync"]);
    assert_eq!(board.published("burn").len(), 1);
    board.approve("ann", "release/1");
    assert_eq!(board.approve("ben", "release/1")["signed"], true);
}

/// Nothing of a restore counts before its burn; without a place to learn the board from there is none.
#[test]
fn a_restore_that_nobody_would_hear_of_says_what_is_missing() {
    let board = Board::founded(&["ann", "ben"], 2);
    let file = board.path("ann.backup");
    let file = file.to_str().unwrap();
    let two = format!("{PASSPHRASE}another one for the backup\n");
    answer(&board.run_with("ann", &["governor", "backup", file, "--json"], &two));
    let lines = board.path("stdin");
    std::fs::write(&lines, format!("another one for the backup\n{PASSPHRASE}")).unwrap();
    let restore = |exchange: bool| {
        let mut command = std::process::Command::new(crate::board::BORGIOS);
        command.args(["governor", "restore", file, "--passphrase-fd", "0", "--home"]);
        command.arg(board.path("empty")).env_remove("BORGIOS_HOME");
        command.arg("--socket").arg(board.path("no.sock"));
        if exchange {
            command.arg("--exchange").arg(board.exchange());
        }
        command.stdin(std::fs::File::open(&lines).unwrap()).output().unwrap()
    };
    let said = stderr(&restore(false));
    assert!(said.contains("not void yet") && said.contains("--exchange DIR"), "{said}");
    assert!(board.published("burn").is_empty());
    // Whatever comes first makes no second nonces in the place of those that are not void.
    board.ok("ben", &["propose", "policy", "--witnesses", "1"]);
    let pools = board.published("pool").len();
    let with = |args: &[&str]| {
        std::fs::write(board.path("pass"), PASSPHRASE).unwrap();
        let mut command = std::process::Command::new(crate::board::BORGIOS);
        command.args(args).args(["--passphrase-fd", "0", "--home"]);
        command.arg(board.path("empty")).env_remove("BORGIOS_HOME");
        command.arg("--socket").arg(board.path("no.sock"));
        command.arg("--exchange").arg(board.exchange());
        command.stdin(std::fs::File::open(board.path("pass")).unwrap()).output().unwrap()
    };
    assert!(with(&["sync"]).status.success());
    assert_eq!(board.published("pool").len(), pools);
    assert!(with(&["review", "policy/2"]).status.success());
    let said = stderr(&with(&["vote", "policy/2", "approve"]));
    assert!(said.contains("E_CLONE") && said.contains("laid from a backup"), "{said}");
    let again = restore(true);
    assert!(again.status.success(), "{}", stderr(&again));
    assert_eq!(board.published("burn").len(), 1);
    assert!(board.published("pool").len() > pools, "new ones, of the next generation");
}

/// The board changes, and a governor's laptop dies after both of their ballots on it are out: they are known
/// again with the rest, and stop no further vote.
#[test]
fn a_laptop_restored_while_the_board_changes_votes_on() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    let file = board.path("ben.backup");
    let file = file.to_str().unwrap();
    let two = format!("{PASSPHRASE}another one for the backup\n");
    answer(&board.run_with("ben", &["governor", "backup", file, "--json"], &two));
    board.json("ann", &["governor", "refresh"]);
    board.change(&["ann", "ben", "cleo"], None);
    let before = board.published("ballot").len();
    assert_eq!(board.approve("ben", "policy/2")["signed"], false);
    assert_eq!(board.published("ballot").len(), before + 2, "one for each of both boards");
    std::fs::remove_dir_all(board.home("ben")).unwrap();
    let lines = format!("another one for the backup\n{PASSPHRASE}");
    answer(&board.run_with("ben", &["governor", "restore", file, "--json"], &lines));
    board.propose("ann", "1.0");
    assert_eq!(board.approve("ben", "release/1")["signed"], false);
    assert_eq!(board.approve("ann", "release/1")["signed"], true);
}
