//! Changes of the board through an exchange folder, with the real program: who comes and goes, what
//! becomes of a vote that was under way, and what a stranger makes of the whole chain.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod board;

use board::{Board, copy, files};
use borgios_policy::{Chain, Lane, Submission, Verdict};
use borgios_types::{Digest, Envelope, Seq, UnixSeconds};
use serde_json::Value;

/// Every statement and ballot in the exchange folder.
fn objects(board: &Board) -> Vec<Envelope> {
    let all = files(&board.exchange().join("objects"));
    all.iter().map(|path| Envelope::parse(&std::fs::read(path).unwrap()).unwrap()).collect()
}

fn network(board: &Board, name: &str) -> Digest {
    let path = board.home(name).join("governor/board.json");
    let membership: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    membership["network"].as_str().unwrap().parse().unwrap()
}

/// Whether a governor's folder holds a file of the slots whose name begins so.
fn has_slot(board: &Board, name: &str, begins: &str) -> bool {
    let slots = std::fs::read_dir(board.home(name).join("governor/slots")).unwrap();
    let names = slots.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(begins)).count() > 0
}

/// Found 2 of 3, release; then cleo goes, zoe comes, three must sign, while a release is voted on.
#[test]
fn one_goes_and_one_comes_while_a_release_is_voted_on() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    board.propose("ann", "1.0");
    board.approve("ann", "release/1");
    assert_eq!(board.approve("ben", "release/1")["signed"], true);
    board.propose("ben", "2.0");
    board.approve("ann", "release/2");

    // The change: zoe's card, ann's plan, and everyone's `governor change` until it says proposed.
    board.ok("zoe", &["governor", "init", "--name", "zoe"]);
    assert_eq!(board.json("zoe", &["governor", "change"])["status"], "no_plan");
    let card = board.exchange().join("zoe.card.json");
    let plan = ["governor", "change", "--remove", "cleo", "--threshold", "3", "--add"];
    let plan: Vec<&str> = plan.into_iter().chain([card.to_str().unwrap()]).collect();
    let asked = board.json("ann", &plan);
    assert_eq!(asked["status"], "confirm");
    let roster = asked["roster"].as_str().unwrap();
    assert_eq!(board.json("zoe", &["governor", "change"])["roster"], roster);
    assert!(!board.home("zoe").join("governor/board.json").exists(), "not before it is confirmed");
    let proposed = board.change(&["ann", "ben", "zoe"], Some(roster));
    assert_eq!(proposed["place"], "policy/2");
    assert_eq!(board.json("cleo", &["governor", "change"])["status"], "not_included");
    let again = board.refused("ben", &["governor", "change", "--threshold", "2"]);
    assert!(again.contains("plans another change"), "{again}");

    // Until it is in force, the old key signs; here cleo could still end the vote with ann.
    assert!(board.home("ann").join("governor/next.age").exists());
    // One vote each: two ballots of who sits on both boards, one of who is new.
    let first = board.approve("ann", "policy/2");
    assert_eq!(first["signed"], false);
    assert_eq!(board.approve("zoe", "policy/2")["signed"], false);
    let last = board.approve("ben", "policy/2");
    assert_eq!(last["signed"], true, "{last}");
    for name in ["ann", "zoe"] {
        board.ok(name, &["sync"]);
    }
    for name in ["ann", "ben", "zoe"] {
        let answer = board.json(name, &["governor", "change"]);
        assert_eq!((&answer["status"], &answer["epoch"]), (&"in_force".into(), &2.into()));
        assert!(board.home(name).join("governor/share.age").exists(), "{name}");
        for gone in ["next.age", "next.json", "change.age", "past.age"] {
            assert!(!board.home(name).join("governor").join(gone).exists(), "{name} {gone}");
        }
    }
    assert!(!has_slot(&board, "ann", "1-release-3-0.seed"), "seeds of the old key are gone");

    // What was under way is voted on again; the old ballots are no use to anybody.
    let inbox = board.json("ann", &["inbox"]);
    assert_eq!(inbox["open"].as_array().map(Vec::len), Some(0), "{inbox}");
    let gone = board.refused("cleo", &["vote", "release/2", "reject", "--reason", "no"]);
    assert!(gone.contains("no open proposal"), "{gone}");
    board.propose("ann", "2.1");
    for (name, signed) in [("zoe", false), ("ben", false), ("ann", true)] {
        assert_eq!(board.approve(name, "release/2")["signed"], signed, "{name}");
    }

    // The log tells it all.
    let log = board.ok("zoe", &["log"]);
    for said in ["policy/1", "release/1", "policy/2", "release/2", "approved by zoe"] {
        assert!(log.contains(said), "{said}: {log}");
    }
    // A stranger with the network's id follows it from the beginning …
    let network = network(&board, "zoe");
    let all = objects(&board);
    let chain = Chain::restore(Some(network), all.clone()).unwrap();
    assert_eq!((chain.head_seq(Lane::Policy), chain.head_seq(Lane::Release)), (Seq(2), Seq(2)));
    let now = chain.policy().unwrap();
    assert_eq!((now.board.epoch().0, now.board.threshold().0), (2, 3));
    assert!(now.board.by_name(&"cleo".parse().unwrap()).is_none());
    // … and one that heard of the change first still takes what the old board had signed.
    let mut late = Chain::new(Some(network));
    let submissions = Submission::sort(all);
    for (lane, seq) in
        [(Lane::Policy, 1), (Lane::Policy, 2), (Lane::Release, 1), (Lane::Release, 2)]
    {
        let verified = chain.get(lane, Seq(seq)).unwrap();
        let submission = submissions.iter().find(|s| s.statement.id() == verified.id()).unwrap();
        let now = UnixSeconds(verified.statement().issued.0 + 1);
        match late.verify(now, &submission.statement, &submission.ballots) {
            Ok(Verdict::New(verified)) => late.apply(*verified),
            other => panic!("{lane}/{seq}: {other:?}"),
        }
    }
}

/// A new key for the same people, by one who asks and others who follow, without a word by voice;
/// old copies of their folders are worth nothing afterwards.
#[test]
fn t49_shares_of_an_old_epoch_sign_nothing_after_a_refresh() {
    let board = Board::founded(&["ann", "ben"], 2);
    for name in ["ann", "ben"] {
        copy(&[board.home(name)], &board.path("kept"));
    }
    let first = board.json("ann", &["governor", "refresh"]);
    assert_eq!(first["status"], "waiting");
    board.change(&["ann", "ben"], None);
    board.approve("ben", "policy/2");
    assert_eq!(board.approve("ann", "policy/2")["signed"], true);
    board.propose("ann", "1.0");
    // Ben's folder of yesterday.
    std::fs::remove_dir_all(board.home("ben")).unwrap();
    copy(&[board.path("kept/home-ben")], board.home("ben").parent().unwrap());
    board.run("ben", &["review", "release/1"]);
    let said = board.refused("ben", &["vote", "release/1", "approve"]);
    assert!(said.contains("key epoch 2") || said.contains("not the newest copy"), "{said}");
}

/// A change that is given up, and another attempt that is taken: the old key signs all the while.
#[test]
fn a_change_that_is_given_up_leaves_the_old_key_at_work() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    board.json("ann", &["governor", "change", "--threshold", "3"]);
    for name in ["ben", "ann"] {
        board.json(name, &["governor", "change"]);
    }
    // Cleo never comes. The board goes on …
    board.propose("ann", "1.0");
    board.approve("ann", "release/1");
    assert_eq!(board.approve("ben", "release/1")["signed"], true);
    // … and plans without her.
    board.json("ann", &["governor", "change", "--anew", "--remove", "cleo"]);
    assert!(board.exchange().join("change-2.1.json").exists());
    let proposed = board.change(&["ann", "ben"], None);
    assert_eq!(proposed["place"], "policy/2");
    board.approve("ann", "policy/2");
    assert_eq!(board.approve("ben", "policy/2")["signed"], true);
    let answer = board.json("cleo", &["governor", "change"]);
    assert_eq!(answer["governors"], serde_json::json!(["ann", "ben"]));
}

/// What does not make a board is refused before anyone begins.
#[test]
fn plans_that_cannot_work_are_refused() {
    let board = Board::founded(&["ann", "ben"], 2);
    for (args, says) in [
        (&["--remove", "zoe", "--threshold", "2", "--remove", "ben"][..], "not on the board"),
        (&["--remove", "ben"], "a board of 1"),
        (&["--threshold", "1"], "a threshold of 1 of 2"),
        (&["--add", "/nowhere/zoe.card.json"], "there is no such file"),
    ] {
        let args: Vec<&str> = ["governor", "change"].iter().chain(args).copied().collect();
        let said = board.refused("ann", &args);
        assert!(said.contains(says) && said.starts_with("error: "), "{args:?}: {said}");
    }
    let none = board.json("ann", &["governor", "change"]);
    assert_eq!((&none["status"], &none["epoch"]), (&"in_force".into(), &1.into()));
    assert!(
        files(&board.exchange())
            .iter()
            .all(|path| { !path.file_name().unwrap().to_string_lossy().starts_with("change-") })
    );
}
