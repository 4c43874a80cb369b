//! The shared root credential through an exchange folder, with the real program: dealt, checked,
//! voted, advanced, revealed.

use std::collections::BTreeMap;
use std::process::Command;

use crate::board::{Board, stderr};
use crate::fleet::Server;
use borgios_credentials::{Password, Schedule, SealedShare, SecretShare};
use borgios_policy::{AccessOrder, Ballot, Bytes, Object as _, Proposal, Reveal, Statement};
use borgios_types::{Digest, Envelope, Epoch, Seq};
use serde_json::{Value, json};

fn three() -> Board {
    Board::founded(&["ann", "ben", "cleo"], 2)
}

/// Six epochs of an hour, dealt by ann, not voted on.
fn deal(board: &Board) -> Value {
    board.json("ann", &["credential", "schedule", "--epochs", "6", "--every", "1h"])
}

fn approve(board: &Board, names: &[&str], place: &str) -> Value {
    let mut last = Value::Null;
    for name in names {
        last = board.json(name, &["vote", place, "approve"]);
    }
    last
}

fn scheduled() -> Board {
    let board = three();
    deal(&board);
    assert_eq!(approve(&board, &["ann", "ben"], "credential/1")["signed"], true);
    board
}

/// The blob of the newest proposal's schedule.
fn blob(board: &Board, what: &Value) -> Vec<u8> {
    let digest = what["digest"].as_str().unwrap().trim_start_matches("sha256:");
    std::fs::read(board.exchange().join("blobs").join(digest)).unwrap()
}

#[test]
fn a_board_schedules_advances_and_schedules_again() {
    let board = three();
    let none = board.refused("ann", &["credential", "advance", "--reason", "x"]);
    assert!(none.contains("no schedule to advance in"), "{none}");
    let dealt = deal(&board);
    assert_eq!((&dealt["first"], &dealt["last"]), (&json!(1), &json!(6)));
    assert_eq!((&dealt["jitter_s"], &dealt["interval_s"]), (&json!(600), &json!(3600)));
    let review = board.ok("ben", &["review", "credential/1"]);
    for wanted in [
        "schedule  epochs 1 to 6, 20",
        "a new one every 1 h (the first)",
        "proposed by ann",
        "escrow    belongs to schedule and board; 2 governors bring a password back",
        "from      epoch 1 on",
        dealt["schedule"]["digest"].as_str().unwrap(),
    ] {
        assert!(review.contains(wanted), "{wanted}: {review}");
    }
    assert_eq!(approve(&board, &["ben", "cleo"], "credential/1")["signed"], true);
    let schedule = Schedule::parse(&blob(&board, &dealt["schedule"])).unwrap();
    assert_eq!((schedule.first(), schedule.last()), (Epoch(1), Epoch(6)));
    // No password anywhere: neither what was published nor any home holds more than hashes.
    let status = board.json("cleo", &["credential", "status"]);
    assert_eq!((&status["epoch"], &status["exhausted"]), (&json!(1), &json!(false)));
    assert_eq!(status["ends"], json!(schedule.ends()));

    let advance = board.json("ben", &["credential", "advance", "--reason", "leaked"]);
    assert_eq!((&advance["from"], &advance["to"]), (&json!(1), &json!(2)));
    let review = board.ok("ann", &["review", "credential/2"]);
    assert!(review.contains("same      schedule: epochs 1 to 6"), "{review}");
    assert!(review.contains("from      epoch 2 on, was 1"), "{review}");
    assert_eq!(approve(&board, &["ann", "cleo"], "credential/2")["signed"], true);
    let log = board.ok("ann", &["log", "credential"]);
    assert!(log.contains("no epoch below 2: leaked"), "{log}");

    // Who is late, by what the keepers say.
    for (number, name) in [(1, "web-1"), (2, "web-2"), (3, "web-3")] {
        let server = Server::join(&board, "ann", number, name);
        match number {
            1 => server.carries(&board, 2, None),
            2 => server.carries(&board, 1, Some("/etc is read-only")),
            _ => {}
        }
    }
    let status = board.json("ben", &["credential", "status"]);
    assert_eq!(status["epoch"], 2);
    let fleet = &status["fleet"];
    assert_eq!((&fleet["in_step"], &fleet["silent"]), (&json!(1), &json!(1)), "{fleet}");
    assert_eq!(fleet["late"][0]["name"], "web-2");
    assert_eq!(
        (&fleet["late"][0]["epoch"], fleet["late"].as_array().unwrap().len()),
        (&json!(1), 1)
    );
    let text = board.ok("ben", &["credential", "status"]);
    assert!(text.contains("1 in step, 1 late, 1 never said"), "{text}");

    // The next schedule begins after every epoch that may be current.
    let next = board.json(
        "cleo",
        &["credential", "schedule", "--days", "2", "--every", "12h", "--jitter", "0"],
    );
    assert_eq!((&next["first"], &next["last"]), (&json!(3), &json!(6)));
    let review = board.ok("ann", &["review", "credential/3"]);
    assert!(review.contains("was       epochs 1 to 6"), "{review}");
    assert_eq!(approve(&board, &["ann", "ben"], "credential/3")["signed"], true);
    assert_eq!(board.json("ben", &["credential", "status"])["epoch"], 3);
}

#[test]
fn nobody_approves_a_schedule_that_they_cannot_check() {
    let board = three();
    let dealt = deal(&board);
    let blobs = board.exchange().join("blobs");
    let hidden = board.path("hidden");
    std::fs::rename(&blobs, &hidden).unwrap();
    for missing in ["schedule", "escrow"] {
        let said = board.refused("ben", &["vote", "credential/1", "approve"]);
        assert!(said.contains(&format!("the {missing} of credential/1 is not at hand")), "{said}");
        let review = board.ok("ben", &["review", "credential/1"]);
        assert!(review.contains("is not at hand"), "{review}");
        // The right name and other bytes are no blob either.
        std::fs::create_dir_all(&blobs).unwrap();
        let digest = dealt[missing]["digest"].as_str().unwrap().trim_start_matches("sha256:");
        std::fs::write(blobs.join(digest), "forged").unwrap();
        let said = board.refused("ben", &["vote", "credential/1", "approve"]);
        assert!(said.contains(&format!("the {missing} of credential/1 is not at hand")), "{said}");
        std::fs::copy(hidden.join(digest), blobs.join(digest)).unwrap();
    }
    // Nothing was begun: the slot is free, and both are at hand now.
    board.ok("ben", &["vote", "credential/1", "approve"]);
    // Whoever dealt brings lost blobs back with a sync.
    std::fs::remove_dir_all(&blobs).unwrap();
    assert_eq!(board.json("ann", &["sync"])["blobs"], 2);
    assert_eq!(std::fs::read_dir(&blobs).unwrap().count(), 2);
    // A rejection needs no blob.
    std::fs::remove_dir_all(&blobs).unwrap();
    board.ok("cleo", &["vote", "credential/1", "reject", "--reason", "cannot check it"]);
    for bad in [
        &["credential", "schedule"][..],
        &["credential", "schedule", "--days", "1", "--epochs", "2"],
        &["credential", "schedule", "--epochs", "5000"],
        &["credential", "schedule", "--epochs", "2", "--every", "1"],
        &["credential", "schedule", "--epochs", "2", "--first-at", "soon"],
    ] {
        assert_eq!(board.run("ann", bad).status.code(), Some(2), "{bad:?}");
    }
    let jitter = ["credential", "schedule", "--epochs", "2", "--every", "20s", "--jitter", "20s"];
    let said = board.refused("ann", &jitter);
    assert!(said.contains("a jitter of 20 s, expected less than"), "{said}");
}

/// The governor who was cheated finds out before approving; the others cannot know.
#[test]
fn a_dealer_who_escrows_a_wrong_share_is_found_out() {
    let board = three();
    let dealt = deal(&board);
    let mut escrow: Value = serde_json::from_slice(&blob(&board, &dealt["escrow"])).unwrap();
    let (_, bens) = board.secrets("ben");
    let sealed: Bytes = serde_json::from_value(escrow["sealed"]["ben"].clone()).unwrap();
    let plain = age::decrypt(&bens, &sealed.0).unwrap();
    let mut shares: BTreeMap<String, Value> = serde_json::from_slice(&plain).unwrap();
    let first = shares["1"].clone();
    shares.insert("4".to_owned(), first);
    let plain = serde_json::to_vec(&shares).unwrap();
    let sealed = age::encrypt(&bens.to_public(), &plain).unwrap();
    escrow["sealed"]["ben"] = serde_json::to_value(Bytes(sealed)).unwrap();
    // In the one form that its digest is taken of: the fields in their order.
    let text = format!(
        "{{\"schedule\":{},\"group\":{},\"threshold\":{},\"commitments\":{},\"sealed\":{}}}",
        escrow["schedule"],
        escrow["group"],
        escrow["threshold"],
        by_number(&escrow["commitments"]),
        escrow["sealed"]
    );
    let digest = Digest::of(text.as_bytes());
    std::fs::write(board.exchange().join("blobs").join(digest.hex()), &text).unwrap();
    // Ann's own key signs the proposal that names it.
    let (path, envelope) = board.published("proposal").remove(0);
    std::fs::remove_file(path).unwrap();
    std::fs::remove_dir_all(board.home("ann").join("objects/proposal")).unwrap();
    let old = Proposal::parse(&envelope_of(&envelope)).unwrap();
    let mut statement: Statement = serde_json::from_str(&old.statement).unwrap();
    statement.body["escrow"] = json!({"digest": digest, "size": text.len()});
    let proposal = Proposal { statement: statement.to_payload(), ..old };
    board.publish(&proposal.to_envelope().sign(&board.secrets("ann").0));

    let said = board.refused("ben", &["vote", "credential/1", "approve"]);
    assert!(said.contains("the share of epoch 4 that was sealed to ben does not fit"), "{said}");
    assert!(said.contains("no ballot was made for credential/1"), "{said}");
    assert!(board.published("ballot").iter().all(|(_, b)| !b.to_string().contains("credential")));
    board.ok("cleo", &["vote", "credential/1", "approve"]);
    // And ben can still say no.
    board.ok("ben", &["vote", "credential/1", "reject", "--reason", "my share is wrong"]);
}

/// A map in the order of its numbers, as the program writes it.
fn by_number(map: &Value) -> String {
    let map: BTreeMap<u64, Value> = map
        .as_object()
        .unwrap()
        .iter()
        .map(|(epoch, points)| (epoch.parse().unwrap(), points.clone()))
        .collect();
    serde_json::to_string(&map).unwrap()
}

fn envelope_of(value: &Value) -> Envelope {
    Envelope::parse(value.to_string().as_bytes()).unwrap()
}

fn reveal(board: &Board, name: &str, more: &[&str]) -> Value {
    let mut args = vec!["credential", "reveal", "--epoch", "2"];
    args.extend(more);
    board.json(name, &args)
}

#[test]
fn a_reveal_gives_its_asker_the_password_once() {
    let board = scheduled();
    let nobody = board.refused("ann", &["credential", "reveal", "--epoch", "2", "--json"]);
    assert!(nobody.contains("no reveal of epoch 2 is under way"), "{nobody}");
    let piped = board.run("ann", &["credential", "reveal", "--epoch", "2", "--reason", "x"]);
    assert_eq!(piped.status.code(), Some(2), "a password goes to a terminal or to a program");
    for (epoch, wanted) in [("6", "is the last of its schedule"), ("7", "no schedule holds")] {
        let args = ["credential", "reveal", "--json", "--reason", "x", "--epoch", epoch];
        let said = board.refused("ann", &args);
        assert!(said.contains(wanted), "{said}");
    }
    assert!(!board.home("ann").join("governor/reveals").exists());

    let asked = reveal(&board, "ann", &["--reason", "sshd is broken", "--for", "1h"]);
    assert_eq!((&asked["status"], &asked["place"]), (&json!("proposed"), &json!("access/1")));
    let review = board.ok("ben", &["review", "access/1"]);
    for wanted in [
        "opens root of EVERY server in epoch 2",
        "until     20",
        "now       epoch 1",
        "servers skip 2 epochs at once, to 3",
        "sshd is broken",
        "Whoever asked and 1 other who approved can read the password as soon as the ballots",
        "vote an advance",
    ] {
        assert!(review.contains(wanted), "{wanted}: {review}");
    }
    // Whoever has not the escrow at hand gives nothing, and may vote later.
    let (blobs, hidden) = (board.exchange().join("blobs"), board.path("hidden"));
    std::fs::rename(&blobs, &hidden).unwrap();
    let said = board.refused("cleo", &["vote", "access/1", "approve"]);
    assert!(said.contains("of credential/1 is not at hand"), "{said}");
    std::fs::rename(&hidden, &blobs).unwrap();
    // One governor alone gets nothing, whatever she does.
    assert_eq!(reveal(&board, "ann", &[])["status"], "waiting");
    board.ok("ann", &["vote", "access/1", "approve"]);
    assert_eq!(reveal(&board, "ann", &[])["status"], "waiting");
    assert_eq!(board.json("ben", &["vote", "access/1", "approve"])["signed"], true);

    // Nobody but the asker: it is another question where others ask.
    let other = board.refused("ben", &["credential", "reveal", "--epoch", "2", "--json"]);
    assert!(other.contains("no reveal of epoch 2 is under way"), "{other}");
    let output = board.run("ann", &["credential", "reveal", "--epoch", "2", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["status"], "revealed");
    let text = answer["password"].as_str().unwrap();
    let password: Password = text.parse().unwrap();
    let bytes = std::fs::read_dir(board.exchange().join("blobs")).unwrap();
    let mut bytes = bytes.map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let schedule = bytes.find_map(|bytes| Schedule::parse(&bytes).ok()).unwrap();
    schedule.check(Epoch(2), &password).unwrap();
    assert!(schedule.check(Epoch(1), &password).is_err());
    // It is stored nowhere, and once printed nobody opens the shares again.
    let found = Command::new("grep").args(["-rlF", text]).arg(board.path("")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    assert_eq!(std::fs::read_dir(board.home("ann").join("governor/reveals")).unwrap().count(), 0);
    let again = board.refused("ann", &["credential", "reveal", "--epoch", "2", "--json"]);
    assert!(again.contains("no reveal of epoch 2 is under way"), "{again}");
    let list = board.ok("cleo", &["access", "list"]);
    assert!(list.contains("password of epoch 2") && list.contains("open"), "{list}");
    // The next schedule or advance begins behind what was revealed.
    let next = board.json("ben", &["credential", "schedule", "--epochs", "2", "--every", "1h"]);
    assert_eq!(next["first"], 4);
}

/// The newest reveal that was proposed, changed, as a proposal that `name` signed.
fn copied(board: &Board, name: &str, change: impl Fn(&mut Statement, &mut Reveal)) -> Proposal {
    let proposals = board.published("proposal");
    let mut reveals = proposals.iter().filter_map(|(_, envelope)| {
        let old = Proposal::parse(&envelope_of(envelope)).unwrap();
        let statement: Statement = serde_json::from_str(&old.statement).unwrap();
        let Ok(AccessOrder::Reveal(order)) = AccessOrder::of(&statement) else { return None };
        Some((old, statement, order))
    });
    let (old, mut statement, mut order) = reveals.next().unwrap();
    change(&mut statement, &mut order);
    statement.body = AccessOrder::Reveal(order).to_body();
    let governor = name.parse().unwrap();
    let proposal = Proposal { governor, statement: statement.to_payload(), ..old };
    board.publish(&proposal.to_envelope().sign(&board.secrets(name).0));
    proposal
}

/// No server could leave the last epoch, so the voter's own tool gives no share of it.
#[test]
fn nobody_gives_a_share_of_the_last_epoch() {
    let board = scheduled();
    reveal(&board, "ann", &["--reason", "console"]);
    let forged = copied(&board, "cleo", |_, order| order.epoch = Epoch(6)).statement_id().short();
    let review = board.ok("ben", &["review", &forged]);
    for wanted in ["now       epoch 1; the schedule ends", "WRONG     servers could not move on"] {
        assert!(review.contains(wanted), "{wanted}: {review}");
    }
    assert!(!review.contains("no server stays in epoch"), "{review}");
    let said = board.refused("ben", &["vote", &forged, "approve"]);
    assert!(said.contains("your share of epoch 6 cannot be given"), "{said}");
    assert!(said.contains("epoch 6 is the last of its schedule"), "{said}");
    let access = |envelope: &Value| envelope.to_string().contains(r#"\"lane\":\"access\""#);
    assert!(board.published("ballot").iter().all(|(_, ballot)| !access(ballot)));
    board.ok("ben", &["vote", &forged, "reject", "--reason", "the last one"]);
    assert!(board.published("ballot").iter().any(|(_, ballot)| access(ballot)));
}

/// Another governor's copy of the request, for the next place and longer, hides nothing.
#[test]
fn a_foreign_copy_of_a_request_does_not_hide_the_signed_one() {
    let board = scheduled();
    let asked = reveal(&board, "ann", &["--reason", "console", "--for", "1h"]);
    approve(&board, &["ann", "ben"], "access/1");
    let first: Digest = serde_json::from_value(asked["statement"].clone()).unwrap();
    copied(&board, "cleo", |statement, order| {
        (statement.seq, statement.prev) = (Seq(2), Some(first));
        order.until = order.until.plus(3_600);
    });
    assert!(board.ok("ben", &["inbox"]).contains("access/2"), "the copy is under way");
    let answer = reveal(&board, "ann", &["--wait"]);
    assert_eq!((&answer["status"], &answer["place"]), (&json!("revealed"), &json!("access/1")));
}

/// Nor does one stand for a request that this governor never made.
#[test]
fn a_request_counts_as_ones_own_only_if_one_made_it() {
    let board = scheduled();
    reveal(&board, "ann", &["--reason", "console", "--for", "1h"]);
    let (mine, _) = board
        .published("proposal")
        .into_iter()
        .find(|(_, envelope)| envelope.to_string().contains("reveal"))
        .unwrap();
    copied(&board, "cleo", |_, order| order.until = order.until.plus(60));
    std::fs::remove_file(mine).unwrap();
    std::fs::remove_dir_all(board.home("ann").join("objects/proposal")).unwrap();
    let none = board.refused("ann", &["credential", "reveal", "--epoch", "2", "--json"]);
    assert!(none.contains("no reveal of epoch 2 is under way"), "{none}");
}

/// Two schedules hold the epoch. Where the newer one cannot be read, the older one's share would be
/// of a password that opens nothing.
#[test]
fn a_schedule_that_cannot_be_read_is_not_passed_over_for_an_older_one() {
    let board = scheduled();
    let second = deal(&board);
    assert_eq!((&second["first"], &second["last"]), (&json!(2), &json!(7)));
    approve(&board, &["ann", "ben"], "credential/2");
    let third = deal(&board);
    approve(&board, &["ann", "ben"], "credential/3");
    assert!(third["first"].as_u64().unwrap() > 2, "{third}");
    reveal(&board, "ann", &["--reason", "console"]);
    let digest = second["schedule"]["digest"].as_str().unwrap().trim_start_matches("sha256:");
    std::fs::remove_file(board.exchange().join("blobs").join(digest)).unwrap();
    let said = board.refused("cleo", &["vote", "access/1", "approve"]);
    assert!(said.contains("the schedule of credential/2 is not at hand"), "{said}");
}

/// A share that is wrong names its governor and gives nobody a password.
#[test]
fn a_wrong_share_names_who_gave_it() {
    let board = scheduled();
    let asked = reveal(&board, "ann", &["--reason", "console"]);
    board.ok("ben", &["vote", "access/1", "approve"]);
    let mine =
        |envelope: &Value| envelope["payload"].as_str().unwrap().contains(r#""lane":"access""#);
    let ballots = board.published("ballot");
    let (path, envelope) = ballots.into_iter().find(|(_, envelope)| mine(envelope)).unwrap();
    let honest = Ballot::parse(&envelope_of(&envelope)).unwrap();
    assert!(honest.reveal.is_some());
    let to = asked["to"].as_str().unwrap().parse().unwrap();
    let junk = SealedShare::seal(&SecretShare::from_bytes([7; 32]), &to).unwrap();
    let forged = Ballot { reveal: Some(Bytes(junk.as_bytes().to_vec())), ..honest };
    std::fs::remove_file(path).unwrap();
    board.publish(&forged.to_envelope().sign(&board.secrets("ben").0));
    assert_eq!(board.json("ann", &["vote", "access/1", "approve"])["signed"], true);
    let said = board.refused("ann", &["credential", "reveal", "--epoch", "2", "--json"]);
    assert!(said.contains("the share of ben is wrong"), "{said}");
    assert!(!said.contains("the share of ann"), "{said}");
}

/// What was sealed before a vote was cut off is sent, not sealed anew; a rejection gives nothing.
#[test]
fn an_interrupted_vote_gives_the_same_share_or_none() {
    let board = scheduled();
    reveal(&board, "ann", &["--reason", "console"]);
    let copy = |name: &str| {
        let copied = Command::new("cp")
            .arg("-a")
            .args([board.home("ben"), board.home(name)])
            .status()
            .unwrap();
        assert!(copied.success());
    };
    copy("same");
    copy("other");
    let vote = board.json("ben", &["vote", "access/1", "approve"]);
    let slot = |home: &str, what: &str| {
        board.home(home).join(format!("governor/slots/1-access-1-0.{what}"))
    };
    // The intent is on the disk, nothing more; and what ben sent is not there yet.
    let ballots: Vec<_> = board.published("ballot");
    for (path, envelope) in &ballots {
        let payload = envelope["payload"].as_str().unwrap();
        if payload.contains(r#""lane":"access""#) {
            std::fs::remove_file(path).unwrap();
        }
    }
    for home in ["same", "other"] {
        std::fs::copy(slot("ben", "intent.json"), slot(home, "intent.json")).unwrap();
    }
    let again = board.json("same", &["vote", "access/1", "approve"]);
    assert_eq!((&again["ballot"], &again["again"]), (&vote["ballot"], &json!(false)));
    for (path, envelope) in board.published("ballot") {
        if envelope["payload"].as_str().unwrap().contains(r#""lane":"access""#) {
            std::fs::remove_file(path).unwrap();
        }
    }
    board.ok("other", &["vote", "access/1", "reject", "--reason", "second thoughts"]);
    let stored = std::fs::read(slot("other", "ballot.json")).unwrap();
    let ballot = Ballot::parse(&Envelope::parse(&stored).unwrap()).unwrap();
    assert!(!ballot.approves() && ballot.reveal.is_none());
}
