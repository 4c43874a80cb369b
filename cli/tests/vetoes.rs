//! Signed policies that governors take back while nodes hold them, with the real program.

use std::collections::BTreeMap;

use crate::board::Board;
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

/// Nobody objects unseen: what is signed and held back is listed and reviewed like what is voted on, and
/// what vetoes took back stays in the story.
#[test]
fn what_is_held_back_can_be_looked_at_before_it_is_vetoed() {
    let board = locked(&["ann", "ben", "cleo"]);
    board.json("ann", &["propose", "policy", "--fanout", "7", "--note", "wider"]);
    let proposed = board.json("ann", &["inbox"]);
    assert_eq!(proposed["kept_back"], serde_json::json!([]), "nothing is signed yet");
    signed_by(&board, &["ann", "ben"], "policy/3");

    board.ok("cleo", &["sync"]);
    let kept = board.json("cleo", &["inbox"])["kept_back"][0].clone();
    assert_eq!((&kept["place"], &kept["standing"]), (&"policy/3".into(), &"locked".into()));
    let seen = board.json("cleo", &["review", "policy/3"]);
    assert_eq!((&seen["signed"], &seen["until"]), (&true.into(), &kept["until"]));
    let changes = seen["changes"].to_string();
    assert!(changes.contains("fanout") && changes.contains("→ 7"), "{changes}");
    assert!(!changes.contains("changed   classes"), "only against the one before: {changes}");
    let said = board.ok("cleo", &["review", "policy/3"]);
    for line in [
        "proposed by ann: wider",
        "approved by ben",
        "SIGNED, and servers",
        "borgios veto policy/3",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(said.contains("0 of 2 vetoes of the board of key epoch 1"), "{said}");
    // A statement whose class has no lock is reviewed as well.
    let first = board.json("cleo", &["review", "policy/1"]);
    assert_eq!(first["standing"], "in_force");

    board.ok("cleo", &["veto", "policy/3", "--reason", "too wide"]);
    let said = board.ok("ann", &["review", "policy/3"]);
    assert!(said.contains("1 of 2 vetoes") && said.contains("veto by cleo at"), "{said}");
    board.ok("ann", &["veto", "policy/3", "--reason", "she is right"]);
    let kept = board.json("ben", &["inbox"])["kept_back"].clone();
    assert_eq!(
        (&kept[0]["standing"], kept.as_array().unwrap().len()),
        (&"vetoed".into(), 1),
        "{kept}"
    );
    let id = kept[0]["statement"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let said = board.ok("ben", &["review", &id[..12]]);
    assert!(said.contains("2 of 2 vetoes") && said.contains("sync --uphold"), "{said}");
    let said = board.refused("ben", &["export", "--proof", &id[..12], "proof.json"]);
    assert!(said.contains("was taken back") && said.contains("vetoed it"), "{said}");
    let log = board.ok("ben", &["log", "policy"]);
    assert!(log.contains("taken back by the vetoes of ann, cleo"), "{log}");
    assert!(!log.contains("not signed"), "it was signed: {log}");
    // Once another one has its place, the story is the same.
    board.json("ben", &["propose", "policy", "--fanout", "5"]);
    for name in ["ann", "ben", "cleo"] {
        board.ok(name, &["sync"]);
    }
    signed_by(&board, &["ann", "ben"], "policy/3");
    let log = board.json("cleo", &["log", "policy"]);
    let rows = log.as_array().unwrap();
    let vetoed = rows.iter().find(|row| row["vetoed"] == "policy/3").unwrap();
    assert_eq!(vetoed["by"], serde_json::json!(["ann", "cleo"]));
    assert!(rows.iter().all(|row| row.get("not_signed").is_none()), "{log}");
    assert!(rows.iter().any(|row| row["place"] == "policy/3" && row["signed"] == true), "{log}");
}

/// What builds upon a vetoed release, and the next one for its place, are two slots: who approves in one
/// approves in the other no more, so that the board does not sign both.
#[test]
fn who_approves_what_builds_upon_a_vetoed_release_approves_no_other_for_its_place() {
    let names = ["ann", "ben", "cleo", "dan"];
    let board = Board::founded(&names, 3);
    let signed = |place: &str| {
        let votes: Vec<Value> = names[..3].iter().map(|name| board.approve(name, place)).collect();
        assert_eq!(votes[2]["signed"], true, "{place}");
    };
    board.json("ann", &["propose", "policy", "--lock", "release=7d"]);
    signed("policy/2");
    board.propose("ann", "1.0");
    signed("release/1");
    board.propose("ben", "2.0");
    board.approve("ann", "release/2");
    for name in ["ben", "cleo"] {
        board.ok(name, &["veto", "release/1", "--reason", "it deletes /etc"]);
    }
    assert_eq!(board.propose("cleo", "1.1")["place"], "release/1");
    let said = board.refused("ann", &["vote", "release/1", "approve"]);
    assert!(said.contains("[E_RIVAL]") && said.contains("builds upon what was vetoed"), "{said}");
    // Everybody lays nonces for the round that is open now.
    names.iter().for_each(|name| drop(board.ok(name, &["sync"])));
    for name in ["ben", "cleo"] {
        assert_eq!(board.approve(name, "release/1")["signed"], false, "{name}");
    }
    assert_eq!(board.approve("dan", "release/1")["signed"], true);
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

fn id(answer: &Value) -> String {
    answer["statement"].as_str().unwrap().to_owned()
}

fn codes(answer: &Value) -> Vec<String> {
    let rows = answer["notices"].as_array().unwrap().iter();
    rows.map(|row| row["code"].as_str().unwrap().to_owned()).collect()
}

/// Whether a governor's laptop has something at a place.
fn has(board: &Board, name: &str, place: &str) -> bool {
    let log = board.json(name, &["log"]);
    log.as_array().unwrap().iter().any(|row| row["place"] == place)
}

/// Some servers applied policy/3 before the vetoes on it came, others hold it dead. The board goes on from
/// it, and everybody ends with the same.
#[test]
fn the_board_goes_on_from_a_vetoed_policy_that_some_servers_have() {
    let board = locked(&["ann", "ben", "cleo"]);
    let vetoed = id(&board.json("ann", &["propose", "policy", "--fanout", "4"]));
    signed_by(&board, &["ann", "ben"], "policy/3");
    let now = UnixSeconds(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(),
    );
    let (_, held) = node(&board, now);
    assert_eq!(held.docs().count(), 1);
    for name in ["ben", "cleo"] {
        board.ok(name, &["sync"]);
        board.ok(name, &["veto", "policy/3", "--reason", "four is too few"]);
    }
    let (mut chain, mut gate) = node(&board, now);

    // The next round would be taken by no server that has it; whoever looks at it is told.
    let next = board.json("ann", &["propose", "policy", "--fanout", "5"]);
    assert_eq!((&next["place"], &next["round"]), (&"policy/3".into(), &1.into()));
    for name in ["ben", "cleo"] {
        board.ok(name, &["sync"]);
    }
    let review = board.json("ann", &["review", "policy/3"]);
    assert!(codes(&review).contains(&"VETOED".to_owned()), "{review}");
    let text = board.ok("ann", &["review", "policy/3"]);
    assert!(text.contains(&format!("`borgios sync --uphold {vetoed}`")), "{text}");
    // Who approves it goes no other way meanwhile.
    board.ok("ann", &["vote", "policy/3", "approve"]);
    let uphold = ["sync", "--uphold", &vetoed];
    let refused = board.refused("ann", &uphold);
    assert!(
        refused.contains("[E_RIVAL]") && refused.contains("in round 1 of policy/3"),
        "{refused}"
    );
    for name in ["ben", "cleo"] {
        board.ok(name, &["vote", "policy/3", "reject", "--reason", "servers have the other one"]);
    }
    let unknown = format!("sha256:{}", "1".repeat(64));
    let refused = board.refused("ann", &["sync", "--uphold", &unknown]);
    assert!(refused.contains("nothing that enough governors vetoed is here"), "{refused}");

    for name in ["ann", "ben"] {
        assert_eq!(board.json(name, &uphold)["upheld"], serde_json::json!([vetoed]));
        assert_eq!(
            board.json(name, &uphold)["upheld"],
            serde_json::json!([vetoed]),
            "twice is once"
        );
    }
    board.ok("ben", &["sync", "--let-fall", &vetoed]);
    assert!(board.refused("ben", &["sync", "--let-fall", &vetoed]).contains("is not upheld here"));
    board.ok("ben", &uphold);
    let upon = board.json("ann", &["propose", "policy", "--fanout", "6"]);
    assert_eq!((&upon["place"], &upon["round"]), (&"policy/4".into(), &0.into()));
    // Who did not go that way is told of it, and may still.
    let inbox = board.json("cleo", &["inbox"]);
    assert_eq!(codes(&inbox), ["UPON"], "{inbox}");
    assert_eq!(codes(&board.json("cleo", &["sync"])), ["UPON"]);

    assert_eq!(board.approve("ann", "policy/4")["signed"], false);
    let refused = board.refused("ann", &["sync", "--let-fall", &vetoed]);
    assert!(refused.contains("[E_RIVAL]") && refused.contains("builds upon it"), "{refused}");
    assert_eq!(board.approve("ben", "policy/4")["signed"], true);
    for name in ["ann", "cleo"] {
        board.ok(name, &["sync"]);
        assert!(has(&board, name, "policy/3") && has(&board, name, "policy/4"), "{name}");
    }

    // The server that holds it dead takes both, once the lock of what builds upon it is over.
    let signed = now.plus(3_600);
    for (path, _) in board.published("policy") {
        let envelope = Envelope::parse(&std::fs::read(path).unwrap()).unwrap();
        let submission = Submission { statement: envelope, ballots: Vec::new() };
        let _ = gate.offer(signed, &chain, &submission, Dated::Judged);
    }
    let lock = 7 * 86_400;
    for at in [signed.plus(lock - 1), signed.plus(lock), signed.plus(lock + 600)] {
        assert_eq!(chain.head_seq(Lane::Policy).0, 2, "{at}");
        while let Some(verified) = gate.tick(at, &chain).apply {
            chain.apply(*verified);
        }
    }
    assert_eq!(chain.head_seq(Lane::Policy).0, 4);
    assert_eq!(chain.policy().unwrap().fanout, 6);
}

/// One governor goes on from it, and the board decides otherwise.
#[test]
fn what_one_governor_upholds_falls_where_the_board_signs_another_one() {
    let board = locked(&["ann", "ben", "cleo"]);
    let vetoed = id(&board.json("ann", &["propose", "policy", "--fanout", "4"]));
    signed_by(&board, &["ann", "ben"], "policy/3");
    for name in ["ben", "cleo"] {
        board.ok(name, &["sync"]);
        board.ok(name, &["veto", "policy/3", "--reason", "four is too few"]);
    }
    // Everybody lays nonces for the round that is open now.
    for name in ["ann", "ben", "cleo"] {
        board.ok(name, &["sync"]);
    }
    let uphold = ["sync", "--uphold", &vetoed];
    assert_eq!(board.json("cleo", &uphold)["upheld"], serde_json::json!([vetoed]));
    let other = id(&board.json("ann", &["propose", "policy", "--fanout", "5"]));
    signed_by(&board, &["ann", "ben"], "policy/3");
    let synced = board.json("cleo", &["sync"]);
    assert_eq!(synced["upheld"], serde_json::json!([]), "{synced}");
    let log = board.ok("cleo", &["log"]);
    assert!(log.contains(&other.trim_start_matches("sha256:")[..12]), "{log}");
    let refused = board.refused("cleo", &uphold);
    assert!(refused.contains("[E_RIVAL]") && refused.contains("has signed"), "{refused}");
    // And she votes on what comes next as everybody does.
    board.json("cleo", &["propose", "policy", "--fanout", "6"]);
    signed_by(&board, &["cleo", "ben"], "policy/4");
}

/// Lets a server's locks run out.
fn wait(chain: &mut Chain, gate: &mut Gate, from: UnixSeconds) -> UnixSeconds {
    let over = from.plus(7 * 86_400 + 1);
    for at in [from, over, over.plus(600)] {
        while let Some(verified) = gate.tick(at, chain).apply {
            chain.apply(*verified);
        }
    }
    over.plus(600)
}

/// Brings a server every policy that was published.
fn bring(board: &Board, chain: &Chain, gate: &mut Gate, now: UnixSeconds) {
    for (path, _) in board.published("policy") {
        let statement = Envelope::parse(&std::fs::read(path).unwrap()).unwrap();
        let _ = gate.offer(now, chain, &Submission { statement, ballots: vec![] }, Dated::Judged);
    }
}

/// Some servers applied policy/3 before the vetoes on it came; the others have its next round. The next
/// policy that anybody proposes is in force at both.
#[test]
fn the_next_policy_unites_servers_that_have_two_for_one_place() {
    let board = locked(&["ann", "ben", "cleo"]);
    let vetoed = id(&board.json("ann", &["propose", "policy", "--fanout", "4"]));
    signed_by(&board, &["ann", "ben"], "policy/3");
    let now = UnixSeconds(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(),
    );
    let (mut late, mut of_late) = node(&board, now);
    for name in ["ben", "cleo"] {
        board.ok(name, &["sync"]);
        board.ok(name, &["veto", "policy/3", "--reason", "four is too few"]);
    }
    let (mut early, mut of_early) = node(&board, now);
    let nothing = |name: &str| {
        let said = board.run(name, &["propose", "policy"]);
        assert_eq!(said.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&said.stderr).contains("would change nothing"), "{said:?}");
    };
    nothing("ann");

    board.json("ann", &["propose", "policy", "--fanout", "5"]);
    ["ben", "cleo"].iter().for_each(|name| drop(board.ok(name, &["sync"])));
    let inbox = board.json("ann", &["inbox"]);
    assert!(!codes(&inbox).contains(&"APART".to_owned()), "nothing is signed yet: {inbox}");
    signed_by(&board, &["ann", "ben"], "policy/3");
    board.ok("cleo", &["sync"]);
    let then = wait(&mut late, &mut of_late, now);
    assert_eq!(wait(&mut early, &mut of_early, now), then);
    for (chain, gate) in [(&mut late, &mut of_late), (&mut early, &mut of_early)] {
        bring(&board, chain, gate, then);
        wait(chain, gate, then);
    }
    assert_eq!((late.policy().unwrap().fanout, early.policy().unwrap().fanout), (4, 5));

    // Everybody is told, until somebody proposes what helps: no rule has to change for that.
    for name in ["ann", "ben", "cleo"] {
        let inbox = board.json(name, &["inbox"]);
        assert_eq!(codes(&inbox), ["APART"], "{name} {inbox}");
        assert!(inbox["notices"][0]["message"].as_str().unwrap().contains(&vetoed), "{inbox}");
    }
    let refused = board.refused("cleo", &["sync", "--uphold", &vetoed]);
    assert!(refused.contains("`borgios propose policy`") && refused.contains("APART"), "{refused}");
    let next = board.json("cleo", &["propose", "policy"]);
    assert_eq!(next["place"], "policy/4");
    board.ok("ann", &["sync"]);
    assert_eq!(codes(&board.json("ann", &["inbox"])), Vec::<String>::new());
    let review = board.json("ann", &["review", "policy/4"]);
    let whom = format!("servers with {vetoed} in the place of the policy before");
    let changes: Vec<&str> =
        review["changes"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert!(changes.iter().any(|line| line.contains(&whom)), "{changes:?}");
    assert!(!changes.iter().any(|line| line.starts_with("changed")), "{changes:?}");
    signed_by(&board, &["ann", "cleo"], "policy/4");
    let log = board.ok("ann", &["log", "policy"]);
    assert!(log.contains(&whom), "{log}");

    let then = then.plus(8 * 86_400);
    for (chain, gate) in [(&mut late, &mut of_late), (&mut early, &mut of_early)] {
        bring(&board, chain, gate, then);
        wait(chain, gate, then);
        assert_eq!(chain.head_seq(Lane::Policy).0, 4);
        assert_eq!(chain.policy().unwrap().fanout, 5);
    }
    assert_eq!(late.tip(Lane::Policy), early.tip(Lane::Policy));
    // What it united stays with it.
    board.ok("ben", &["sync"]);
    nothing("ben");
    board.json("ben", &["propose", "policy", "--fanout", "6"]);
    let review = board.ok("ben", &["review", "policy/5"]);
    assert!(!review.contains("go on with this one too"), "{review}");
}

/// A policy that asks for more approvals than the one here is not promised what its servers would refuse.
#[test]
fn a_policy_that_asks_for_more_approvals_is_not_united() {
    let board = locked(&["ann", "ben", "cleo"]);
    let vetoed = id(&board.json("ann", &["propose", "policy", "--policy-approvals", "3"]));
    signed_by(&board, &["ann", "ben"], "policy/3");
    for name in ["ben", "cleo"] {
        board.ok(name, &["sync"]);
        board.ok(name, &["veto", "policy/3", "--reason", "two are enough"]);
    }
    board.json("ann", &["propose", "policy", "--fanout", "5"]);
    ["ben", "cleo"].iter().for_each(|name| drop(board.ok(name, &["sync"])));
    signed_by(&board, &["ann", "ben"], "policy/3");
    let inbox = board.json("ann", &["inbox"]);
    assert_eq!(codes(&inbox), ["APART"], "{inbox}");
    let next = inbox["notices"][0]["next"].as_str().unwrap();
    assert!(next.contains("no policy unites the two"), "{next}");
    assert_eq!(board.run("ann", &["propose", "policy"]).status.code(), Some(2));
    board.json("ann", &["propose", "policy", "--fanout", "6"]);
    let review = board.ok("ann", &["review", "policy/4"]);
    assert!(!review.contains(&vetoed), "{review}");
}
