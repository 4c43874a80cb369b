//! Changes of the board through an exchange folder, with the real program: who comes and goes, what
//! becomes of a vote that was under way, and what a stranger makes of the whole chain.

use crate::board::{Board, copy, files};
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
    assert_eq!(proposed["closes"], serde_json::json!(["release/2"]));
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
    assert!(gone.contains("policy/2 closed it") && gone.contains("for release/3"), "{gone}");
    assert_eq!(board.propose("ann", "2.1")["place"], "release/3");
    for (name, signed) in [("zoe", false), ("ben", false), ("ann", true)] {
        assert_eq!(board.approve(name, "release/3")["signed"], signed, "{name}");
    }

    // The log tells it all, who is new no less than who was there.
    for name in ["zoe", "ann"] {
        let log = board.ok(name, &["log"]);
        for said in [
            "\n  the first policy: ann, ben and cleo govern; 2 of 3 sign together\n",
            "\n  the board changes: zoe comes, cleo goes; ann and ben stay; 3 of 3 sign together, 2 of \
             3 before; a new key, of epoch 2\n",
            "\n  release/2 is closed: nothing signed or voted on for it counts\n",
            "\n  release/1 was signed before and still counts\n",
            "\n  approved by ben\n  approved by ann for the new board\n",
            "\n  approved by zoe for the new board\n",
            "  version 2.0  not signed: policy/2 closed its place while it was voted on\n  proposed by \
             ben: as agreed\n  approved by ann\n",
            "  version 2.1\n  proposed by ann: as agreed\n  approved by ann\n  approved by ben\n  \
             approved by zoe\n",
        ] {
            assert!(log.contains(said), "{name}: {said:?}: {log}");
        }
    }
    let rows = board.json("zoe", &["log", "policy"]);
    let said = &rows[1]["board"];
    assert_eq!((&said["came"][0], &said["left"][0]), (&"zoe".into(), &"cleo".into()), "{said}");
    assert_eq!((&said["threshold"], &said["threshold_before"]), (&3.into(), &2.into()), "{said}");
    // A stranger with the network's id follows it from the beginning …
    let network = network(&board, "zoe");
    let all = objects(&board);
    let chain = Chain::restore(Some(network), all.clone()).unwrap();
    assert_eq!((chain.head_seq(Lane::Policy), chain.head_seq(Lane::Release)), (Seq(2), Seq(3)));
    let now = chain.policy().unwrap();
    assert_eq!((now.board.epoch().0, now.board.threshold().0), (2, 3));
    assert!(now.board.by_name(&"cleo".parse().unwrap()).is_none());
    // … and one that heard of the change first still takes what the old board had signed.
    let mut late = Chain::new(Some(network));
    let submissions = Submission::sort(all);
    for (lane, seq) in
        [(Lane::Policy, 1), (Lane::Policy, 2), (Lane::Release, 1), (Lane::Release, 3)]
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

/// Cleo has heard of nothing when she completes the vote that she leaves behind: on her laptop it is
/// signed, until she hears of the change; and whoever hears of what she signed goes on.
#[test]
fn a_vote_that_who_leaves_completes_afterwards_settles_nothing() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    board.propose("ann", "1.0");
    board.approve("ann", "release/1");
    board.ok("cleo", &["sync"]);
    board.json("ann", &["governor", "change", "--remove", "cleo", "--note", "cleo moves on"]);
    let proposed = board.change(&["ann", "ben"], None);
    assert_eq!(proposed["closes"], serde_json::json!(["release/1"]));
    let review = board.ok("ben", &["review", "policy/2"]);
    assert!(review.contains("settled   release/1 is closed"), "{review}");
    let review = board.ok("ben", &["review", "release/1"]);
    assert!(
        review.contains("policy/2, which is voted on, changes the board and closes"),
        "{review}"
    );
    board.approve("ann", "policy/2");
    assert_eq!(board.approve("ben", "policy/2")["signed"], true);

    // Elsewhere, without a word of it.
    let (here, away) = (board.exchange(), board.path("away"));
    std::fs::rename(&here, &away).unwrap();
    std::fs::create_dir(&here).unwrap();
    assert_eq!(board.approve("cleo", "release/1")["signed"], true);
    let signed = board.published("release");
    assert_eq!(signed.len(), 1);
    let crossing = Envelope::parse(&std::fs::read(&signed[0].0).unwrap()).unwrap();
    std::fs::remove_dir_all(&here).unwrap();
    std::fs::rename(&away, &here).unwrap();

    // The board goes on behind it, though what she signed lies in the folder.
    board.publish(&crossing);
    board.propose("ben", "1.1");
    board.approve("ben", "release/2");
    assert_eq!(board.approve("ann", "release/2")["signed"], true);
    board.ok("cleo", &["sync"]);
    // Ben heard of the change first, ann of both at once, cleo of what she signed first.
    for (name, told) in [
        ("ben", "counts nowhere: enough approved it, but policy/2 closed its place"),
        ("ann", "signed, and taken back by policy/2: it counts nowhere"),
        ("cleo", "signed, and taken back by policy/2: it counts nowhere"),
    ] {
        let log = board.ok(name, &["log", "release"]);
        assert!(log.contains(told), "{name}: {log}");
        let rows = board.json(name, &["log", "release"]);
        let signed: Vec<_> =
            rows.as_array().unwrap().iter().filter(|r| r["signed"] == true).collect();
        assert_eq!(signed.len(), 1, "{name}: {rows}");
        assert_eq!(signed[0]["place"], "release/2", "{name}: {rows}");
        let inbox = board.json(name, &["inbox"]);
        assert_eq!(inbox["open"].as_array().map(Vec::len), Some(0), "{name}: {inbox}");
    }
    let said = board.refused("cleo", &["vote", "release/1", "approve"]);
    assert!(said.contains("release/1 is closed"), "{said}");

    // One file proves it across the change, and the place that was closed.
    let file = board.path("proof.json");
    let file = file.to_str().unwrap();
    board.ok("cleo", &["export", "--proof", "release/2", file]);
    let id = network(&board, "ann").to_string();
    let proven = board.json("stranger", &["verify", file, "--network", &id]);
    assert_eq!((&proven["place"], &proven["epoch"]), (&"release/2".into(), &2.into()), "{proven}");
    assert_eq!(proven["shares_make_signature"], true, "{proven}");
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
    // In Ben's newest folder, which is no copy of anything older, the share of yesterday alone.
    board.json("ben", &["drill"]);
    let today = board.home("ben");
    for name in ["next.age", "past.age"] {
        let other = today.join("governor").join(name);
        assert!(!other.exists() || std::fs::remove_file(&other).is_ok(), "{name}");
    }
    let old = board.path("kept/home-ben/governor/share.age");
    std::fs::copy(old, today.join("governor/share.age")).unwrap();
    board.run("ben", &["review", "release/1"]);
    let said = board.refused("ben", &["vote", "release/1", "approve"]);
    assert!(said.contains("no share of ben's for key epoch 2"), "{said}");
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
