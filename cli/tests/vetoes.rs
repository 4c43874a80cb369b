//! Signed policies that governors take back while nodes hold them, with the real program.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod board;

use std::collections::BTreeMap;

use board::Board;
use borgios_policy::gate::Standing;
use borgios_policy::{Chain, Dated, Gate, Lane, Submission, Verdict};
use borgios_types::{Digest, Envelope, UnixSeconds};
use serde_json::Value;

/// A board whose policies wait seven days on the nodes, by its policy/2.
fn locked(names: &[&str]) -> Board {
    let board = Board::founded(names, 2);
    board.json(names[0], &["propose", "policy", "--lock", "policy=7d"]);
    signed_by(&board, &names[..2], "policy/2");
    board
}

/// Both approve what is at a place, and it is signed.
fn signed_by(board: &Board, names: &[&str], place: &str) {
    assert_eq!(board.approve(names[0], place)["signed"], false, "{place}");
    assert_eq!(board.approve(names[1], place)["signed"], true, "{place}");
    board.ok(names[0], &["sync"]);
}

/// The files of a governor's slots under the key of this epoch.
fn slots_of(board: &Board, name: &str, epoch: u32) -> usize {
    let slots = std::fs::read_dir(board.home(name).join("governor/slots")).unwrap();
    let names = slots.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // The ballots of a key that died stay on record under a name with a digest.
    let own = |name: &String| name.split('.').count() < 4;
    names.filter(|name| name.starts_with(&format!("{epoch}-"))).filter(own).count()
}

/// Cleo is voted off the board, and she and ann take that back while the nodes wait: the nodes hear
/// the board before the change, so this is the board that objects, and its shares are laid back.
#[test]
fn a_change_of_the_board_is_taken_back_by_the_board_before_it() {
    let board = locked(&["ann", "ben", "cleo"]);
    let old = board.json("ann", &["governor", "change"])["group"].clone();
    board.json("ann", &["governor", "change", "--remove", "cleo"]);
    board.change(&["ann", "ben"], None);
    signed_by(&board, &["ann", "ben"], "policy/3");
    // The laptops are past it; a vote has begun under the new key.
    board.propose("ann", "1.0");
    assert_eq!(board.approve("ann", "release/1")["signed"], false);
    let governor = |name: &str, file: &str| board.home(name).join("governor").join(file);
    for name in ["ann", "ben"] {
        assert!(governor(name, "past.age").exists() && slots_of(&board, name, 2) > 0, "{name}");
    }

    board.ok("cleo", &["sync"]);
    board.ok("cleo", &["pause", "policy/3", "--reason", "nobody asked me"]);
    board.ok("cleo", &["veto", "policy/3", "--reason", "nobody asked me"]);
    board.ok("ann", &["veto", "policy/3", "--reason", "she is right"]);
    let said = board.published("veto").into_iter().chain(board.published("pause"));
    let groups = said.map(|(_, envelope)| -> Value {
        let payload: Value = serde_json::from_str(envelope["payload"].as_str().unwrap()).unwrap();
        payload["group"].clone()
    });
    assert_eq!(groups.collect::<Vec<_>>(), [old.clone(), old.clone(), old.clone()]);

    // When the lock would be over, the old share is where it was and the dead key's slots are gone.
    for name in ["ann", "ben"] {
        if governor(name, "past.json").exists() {
            std::fs::write(governor(name, "past.json"), r#"{"until":1}"#).unwrap();
        }
        board.ok(name, &["sync"]);
        assert_eq!(slots_of(&board, name, 2), 0, "{name}");
        for gone in ["past.age", "past.json", "next.json"] {
            assert!(!governor(name, gone).exists(), "{name} {gone}");
        }
    }
    let over = board.refused("ann", &["governor", "change"]);
    assert!(over.contains("change-2.json is over") && over.contains("--anew"), "{over}");
    assert!(over.contains("policy/3, which it came to, was signed and then taken back"), "{over}");
    assert!(!over.contains("what this machine wrote"), "it misleads: {over}");
    board.propose("ann", "1.1");
    signed_by(&board, &["ann", "cleo"], "release/1");

    // Cleo lays nonces for the round that is open now.
    board.ok("cleo", &["sync"]);
    // Another attempt makes another key of the same epoch, and works.
    board.json("ann", &["governor", "change", "--anew", "--remove", "cleo"]);
    board.change(&["ann", "ben"], None);
    signed_by(&board, &["ann", "ben"], "policy/3");
    board.propose("ben", "2.0");
    signed_by(&board, &["ann", "ben"], "release/2");
}

/// A release signed under rules that are then taken back has no place, and stops nobody.
#[test]
fn what_was_signed_under_a_policy_that_died_stops_nobody() {
    let board = locked(&["ann", "ben"]);
    board.json("ann", &["propose", "policy", "--fanout", "4"]);
    signed_by(&board, &["ann", "ben"], "policy/3");
    board.propose("ann", "1.0");
    signed_by(&board, &["ann", "ben"], "release/1");
    board.ok("ben", &["veto", "policy/3", "--reason", "four is too few"]);
    for name in ["ann", "ben", "ann"] {
        board.ok(name, &["sync"]);
        let log = board.ok(name, &["log"]);
        assert!(log.contains("policy/2"), "{log}");
    }
    board.json("ben", &["propose", "policy", "--fanout", "6"]);
    signed_by(&board, &["ben", "ann"], "policy/3");
}

/// The group keys under which a governor's objections were published.
fn groups(board: &Board, kind: &str, by: &str) -> Vec<Value> {
    let said = board.published(kind).into_iter().map(|(_, envelope)| -> Value {
        serde_json::from_str(envelope["payload"].as_str().unwrap()).unwrap()
    });
    let mut groups: Vec<Value> =
        said.filter(|said| said["governor"] == by).map(|said| said["group"].clone()).collect();
    groups.sort_by_key(Value::to_string);
    groups
}

/// A node that holds everything in the exchange folder back as its gate says; policy/1 and policy/2 are
/// applied there.
fn node(board: &Board, now: UnixSeconds) -> (Chain, Gate) {
    let mut all: BTreeMap<&str, Vec<Envelope>> = BTreeMap::new();
    for kind in ["policy", "release", "ballot", "veto"] {
        let objects = board.published(kind).into_iter();
        let read = |(path, _)| Envelope::parse(&std::fs::read(path).unwrap()).unwrap();
        all.insert(kind, objects.map(read).collect());
    }
    let statements = all["policy"].iter().chain(&all["release"]).chain(&all["ballot"]).cloned();
    let submissions = Submission::sort(statements);
    let network: Digest = {
        let path = board.home("ann").join("governor/board.json");
        let membership: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        membership["network"].as_str().unwrap().parse().unwrap()
    };
    let (mut chain, mut gate) = (Chain::new(Some(network)), Gate::default());
    for one in &submissions {
        if let Ok(Verdict::New(verified)) = chain.verify_stored(&one.statement, &one.ballots)
            && verified.statement().lane == Lane::Policy
            && verified.statement().seq.0 <= 2
        {
            chain.apply(*verified);
        }
    }
    for one in &submissions {
        // What is applied already, it knows.
        let _ = gate.offer(now, &chain, one, Dated::Judged);
    }
    for veto in &all["veto"] {
        // What names a board that waits is judged by it.
        gate.object(now, &chain, veto).unwrap();
    }
    (chain, gate)
}

/// The board changes, in a lock; a release that the new board signs meanwhile is vetoed by who sits on both
/// boards and by who leaves. Nodes on either side of the change count what their board's rules ask for.
#[test]
fn an_objection_during_a_change_of_the_board_counts_on_both_sides_of_it() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    board.json("ann", &["propose", "policy", "--lock", "policy=7d", "--lock", "release=2d"]);
    signed_by(&board, &["ann", "ben"], "policy/2");
    let old = board.json("ann", &["governor", "change"])["group"].clone();
    board.json("ann", &["governor", "change", "--remove", "cleo"]);
    board.change(&["ann", "ben"], None);
    signed_by(&board, &["ann", "ben"], "policy/3");
    let new = board.json("ann", &["governor", "change"])["group"].clone();
    assert_ne!(old, new);
    board.propose("ann", "1.0");
    signed_by(&board, &["ann", "ben"], "release/1");
    board.ok("cleo", &["sync"]);

    let said = board.json("ann", &["veto", "release/1", "--reason", "built on a laptop"]);
    assert_eq!(
        (&said["both_boards"], said["ids"].as_array().map(Vec::len)),
        (&true.into(), Some(2))
    );
    let mut both = vec![old.clone(), new];
    both.sort_by_key(Value::to_string);
    assert_eq!(groups(&board, "veto", "ann"), both);
    let again = board.refused("ann", &["veto", "release/1", "--reason", "once more"]);
    assert!(again.contains("you have asked for a veto of release/1 before"), "{again}");
    // Who leaves is heard where the old board is in force, and nowhere else.
    let said = board.json("cleo", &["pause", "release/1", "--reason", "let me look"]);
    assert_eq!(said["both_boards"], false);
    let text = board.ok("cleo", &["veto", "release/1", "--reason", "me too"]);
    assert!(!text.contains("both boards"), "{text}");
    assert_eq!(groups(&board, "veto", "cleo"), std::slice::from_ref(&old));
    assert_eq!(groups(&board, "pause", "cleo"), [old]);

    // A node on which the change waits: two of three of the old board took it back.
    let now = UnixSeconds(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(),
    );
    let (mut chain, mut gate) = node(&board, now);
    let vetoed = |gate: &Gate, chain: &Chain, now| {
        let held = gate.report(now, chain);
        let release = held.into_iter().find(|held| held.lane == Lane::Release).unwrap();
        match release.standing {
            Standing::Vetoed { by, .. } => by.iter().map(ToString::to_string).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(vetoed(&gate, &chain, now), ["ann", "cleo"]);
    // The same node once the change is applied: one of the new board's two is enough, and it has it.
    let later = now.plus(7 * 86_400 + 1);
    for at in [now.plus(1), later] {
        while let Some(verified) = gate.tick(at, &chain).apply {
            chain.apply(*verified);
        }
    }
    let settled = later.plus(601);
    gate.tick(settled, &chain).apply.map(|verified| chain.apply(*verified)).unwrap();
    assert_eq!(chain.head_seq(Lane::Policy).0, 3);
    assert_eq!(vetoed(&gate, &chain, settled), ["ann"]);
    // And a laptop that is past the change takes it as dead: the next round of its place is open.
    let next = board.propose("ben", "2.0");
    assert_eq!((&next["place"], &next["round"]), (&"release/1".into(), &1.into()));
}
