//! Votes on a machine without a network: what a carrier brings there, and what goes back.

use std::process::{Command, Output, Stdio};

use crate::board::{Board, stderr};
use serde_json::Value;

/// Ann's machine: her folder, and no exchange.
fn apart(board: &Board, args: &[&str]) -> Output {
    Command::new(crate::board::BORGIOS)
        .args(args)
        .arg("--home")
        .arg(board.home("ann"))
        .args(["--passphrase-fd", "0", "--json", "--socket"])
        .arg(board.path("no.sock"))
        .env_remove("BORGIOS_HOME")
        .stdin(Stdio::from(std::fs::File::open(board.path("passphrase")).unwrap()))
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The ballots on what was vetoed come with those of its place, and alone they would sign it again.
#[test]
fn what_was_taken_back_stays_so_where_a_carrier_brings_it() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    let both = |place: &str| {
        assert_eq!(board.approve("ben", place)["signed"], false, "{place}");
        assert_eq!(board.approve("cleo", place)["signed"], true, "{place}");
        board.ok("ben", &["sync"]);
    };
    board.json("ben", &["propose", "policy", "--lock", "release=7d"]);
    both("policy/2");
    board.propose("ben", "1.0");
    both("release/1");
    for name in ["cleo", "ben"] {
        board.ok(name, &["veto", "release/1", "--reason", "it is not what we built"]);
    }
    board.ok("ben", &["sync"]);
    board.propose("ben", "1.1");
    let path = |name: &str| board.path(name).to_str().unwrap().to_owned();
    let there = path("there.json");
    board.json("ben", &["sync", "--out", &there]);
    let came =
        json(&apart(&board, &["sync", "--in", &there, "--air-gap", "--out", &path("pools.json")]));
    assert!(!came["signed"].to_string().contains("release"), "{came}");
    let kept = json(&apart(&board, &["inbox"]))["kept_back"].clone();
    assert_eq!((&kept[0]["place"], &kept[0]["standing"]), (&"release/1".into(), &"vetoed".into()));
    // What is voted on is the next round of the place.
    json(&apart(&board, &["review", "release/1"]));
}

#[test]
fn a_machine_without_a_network_votes_by_files_and_its_pools_say_so() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    board.propose("ben", "1.0");
    board.ok("ben", &["vote", "release/1", "approve"]);
    let path = |name: &str| board.path(name).to_str().unwrap().to_owned();
    let (there, back) = (path("there.json"), path("back.json"));
    let written = board.json("ben", &["sync", "--out", &there]);
    assert!(written["written_bytes"].as_u64().unwrap() > 0);

    // Without the carrier she knows of nothing; with it she reviews, votes, and gives the ballot along.
    assert_eq!(apart(&board, &["vote", "release/1", "approve"]).status.code(), Some(1));
    json(&apart(&board, &["sync", "--in", &there, "--air-gap", "--out", &path("pools.json")]));
    json(&apart(&board, &["review", "release/1"]));
    let voted = json(&apart(&board, &["vote", "release/1", "approve", "--out", &back]));
    assert_eq!(voted["signed"], true, "she holds ben's ballot too");
    let ballot = std::fs::metadata(&back).unwrap().len();
    assert!(ballot < 2_048, "{ballot} bytes for one ballot of a board of three");
    let again = json(&apart(&board, &["vote", "release/1", "approve", "--out", &back]));
    assert_eq!(again["again"], true);

    // What comes back is verified like anything else, and ends the vote.
    let forged = std::fs::read_to_string(&back).unwrap().replace("approve", "reject ");
    std::fs::write(board.path("forged.json"), forged).unwrap();
    let output = board.run("ben", &["sync", "--in", &path("forged.json"), "--json"]);
    assert_eq!(json(&output)["signed"], serde_json::json!([]));
    assert!(stderr(&output).contains("refused from"), "{}", stderr(&output));
    let sync = board.json("ben", &["sync", "--in", &back]);
    assert_eq!(sync["signed"], serde_json::json!(["release/1"]));
    // Her further pools are made there and say that nobody could be asked.
    json(&apart(&board, &["sync", "--in", &there, "--out", &path("pools.json")]));
    board.ok("ben", &["sync", "--in", &path("pools.json")]);
    let pools = board.published("pool");
    let offline = pools
        .iter()
        .filter(|(_, pool)| pool["payload"].as_str().unwrap().contains(r#""offline":true"#));
    assert!(offline.count() > 0, "pools for release/9 were made apart");
    std::fs::write(board.path("junk.json"), "{}").unwrap();
    assert_eq!(board.run("ben", &["sync", "--in", &path("junk.json")]).status.code(), Some(1));
}
