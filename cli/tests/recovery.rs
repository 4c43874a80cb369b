//! A recovery board through exchange folders, with the real program: its key is made and named, its
//! members name the next board, and what laptops, logs and proofs make of it.

use std::path::PathBuf;

use crate::board::{Board, copy};
use serde_json::Value;

const OLD: [&str; 3] = ["ann", "ben", "cleo"];
const RESCUE: [&str; 3] = ["rita", "sam", "tom"];
const NEW: [&str; 3] = ["xia", "yan", "zoe"];

/// A network of the old board, and people of a recovery board with a folder of their own.
struct Town {
    board: Board,
    rescue: Board,
    network: String,
}

impl Town {
    fn new() -> Self {
        let (board, rescue) = (Board::of(&OLD), Board::of(&RESCUE));
        board.found(&OLD, 2);
        let text = std::fs::read(board.home("ann").join("governor/board.json")).unwrap();
        let membership: Value = serde_json::from_slice(&text).unwrap();
        let network = membership["network"].as_str().unwrap().to_owned();
        Self { board, rescue, network }
    }

    /// The recovery board's key ceremony; returns its paper.
    fn found_rescue(&self) -> PathBuf {
        let Self { rescue, network, .. } = self;
        for name in &RESCUE[1..] {
            rescue.json(name, &["governor", "found"]);
        }
        let plan = ["governor", "found", "--threshold", "2", "--governors", "3", "--recovers"];
        let plan: Vec<&str> = plan.into_iter().chain([network.as_str()]).collect();
        let asked = rescue.json("rita", &plan);
        assert_eq!(asked["status"], "confirm");
        let roster = asked["roster"].as_str().unwrap();
        let found = ["governor", "found", "--accept-roster", roster, "--name", "lab"];
        for _ in 0..6 {
            let answers = RESCUE.map(|name| rescue.json(name, &found));
            if answers.iter().all(|answer| answer["status"] == "founded") {
                assert_eq!(answers[0]["recovers"], **network);
                assert_eq!(answers[0]["group"], answers[2]["group"]);
                return rescue.exchange().join("policy-1.json");
            }
        }
        panic!("no recovery key after six rounds");
    }

    /// Names it in policy/2, and gives its members the network's folder.
    fn name_rescue(&self) {
        let paper = self.found_rescue();
        let Self { board, rescue, .. } = self;
        let rules = [
            "propose",
            "policy",
            "--freshness",
            "2/24h",
            "--recovery-silence",
            "60d",
            "--recovery-lock",
            "30d",
            "--recovery-board",
            paper.to_str().unwrap(),
        ];
        board.json("ann", &rules);
        let review = board.ok("ben", &["review", "policy/2"]);
        for said in [
            "added     recovery key ssh-ed25519",
            "silence before the recovery key counts 60 d",
            "public lock of the recovery key 30 d",
            "is held by 2 of rita (SHA256:",
        ] {
            assert!(review.contains(said), "{said}: {review}");
        }
        board.approve("ann", "policy/2");
        assert_eq!(board.approve("ben", "policy/2")["signed"], true);
        copy(&RESCUE.map(|name| rescue.home(name)), &board.path(""));
        for name in RESCUE {
            board.json(name, &["sync"]);
        }
    }

    /// The new board's key ceremony, planned by rita; returns what is said of the proposed policy.
    fn make_new(&self) -> Value {
        let board = &self.board;
        let mut plan = vec!["governor", "change", "--recovery", "--threshold", "2"];
        for name in NEW {
            board.ok(name, &["governor", "init", "--name", name]);
            board.hasten(name);
            let first = board.json(name, &["governor", "change", "--recovery"]);
            assert_eq!(first["status"], "no_plan");
        }
        let cards = NEW.map(|name| board.exchange().join(format!("{name}.card.json")));
        OLD.iter().for_each(|name| plan.extend(["--remove", name]));
        cards.iter().for_each(|card| plan.extend(["--add", card.to_str().unwrap()]));
        let planned = board.json("rita", &plan);
        assert_eq!(planned["status"], "waiting");
        let roster = planned["roster"].as_str().unwrap();
        let step = ["governor", "change", "--recovery", "--accept-roster", roster];
        for _ in 0..6 {
            NEW.iter().for_each(|name| drop(board.json(name, &step)));
            let answer = board.json("rita", &["governor", "change", "--recovery"]);
            if answer["status"] == "proposed" {
                for name in RESCUE {
                    board.json(name, &["sync"]);
                }
                return answer;
            }
        }
        panic!("no key after six rounds");
    }
}

#[test]
fn a_board_that_is_gone_is_followed_by_the_one_that_the_recovery_board_names() {
    let town = Town::new();
    town.name_rescue();
    let made = town.make_new();
    assert_eq!(made["closes"], serde_json::json!([]), "nothing is voted on");
    let (id, board) = (made["statement"].as_str().unwrap().to_owned(), &town.board);

    // What it is, is shown; and the board in force votes on something else.
    let review = board.ok("sam", &["review", "policy/3"]);
    for said in [
        "the RECOVERY board votes on this",
        "removed   governor ann",
        "added     governor zoe",
        "silent there for 60 d, and holds it back for 30 d",
        "One beacon or one veto",
    ] {
        assert!(review.contains(said), "{said}: {review}");
    }
    let inbox = board.json("ben", &["inbox"]);
    assert_eq!(inbox["open"][0]["recovery"], true, "{inbox}");
    let refused = board.refused("ben", &["vote", &id, "approve"]);
    assert!(refused.contains("the recovery board votes on"), "{refused}");
    assert!(refused.contains("borgios beacon"), "{refused}");

    // Two of the recovery board and two of the new one, each with one command.
    for name in ["rita", "yan", "sam"] {
        let voted = board.approve(name, "policy/3");
        assert_eq!((&voted["signed"], &voted["waits"]), (&false.into(), &false.into()), "{name}");
    }
    let last = board.approve("zoe", "policy/3");
    assert_eq!((&last["signed"], &last["waits"]), (&false.into(), &true.into()), "{last}");
    let again = board.json("rita", &["vote", "policy/3", "approve"]);
    assert_eq!(again["waits"], true);
    let changed = board.refused("rita", &["vote", "policy/3", "reject", "--reason", "no"]);
    assert!(changed.contains("E_SLOT_USED"), "{changed}");

    // No laptop takes it of itself; the board in force goes on, and could object.
    let sync = board.json("ben", &["sync"]);
    assert_eq!(sync["recoveries_waiting"][0]["statement"], *id, "{sync}");
    let log = board.ok("ben", &["log", "policy"]);
    assert!(log.contains("policy/3 waits") && log.contains("sign of life"), "{log}");
    assert!(log.contains("approved by rita for the recovery board"), "{log}");
    board.propose("ben", "1.0");
    board.approve("ben", "release/1");
    assert_eq!(board.approve("ann", "release/1")["signed"], true);
    assert_eq!(board.json("ben", &["veto", "policy/3", "--reason", "we live"])["statement"], *id);

    // The others know from their servers that it came into force.
    let wrong = format!("sha256:{}", "0".repeat(64));
    let refused = board.refused("zoe", &["sync", "--accept-recovery", &wrong]);
    assert!(refused.contains("no policy of a recovery key waits"), "{refused}");
    for name in ["xia", "yan", "zoe", "rita", "cleo"] {
        let taken = board.json(name, &["sync", "--accept-recovery", &id]);
        // Against a known veto, and that is said.
        let notice = &taken["notices"][0];
        let said = notice["message"].as_str().unwrap();
        assert!(notice["code"] == "VETOED" && said.contains("by ben at"), "{taken}");
    }
    for name in NEW {
        let answer = board.json(name, &["governor", "change"]);
        assert_eq!((&answer["status"], &answer["epoch"]), (&"in_force".into(), &2.into()));
        assert!(board.home(name).join("governor/share.age").exists(), "{name}");
    }
    board.propose("xia", "2.0");
    board.approve("xia", "release/2");
    assert_eq!(board.approve("zoe", "release/2")["signed"], true);
    // Whoever took it and governs no more votes on nothing.
    board.propose("yan", "3.0");
    let gone = board.refused("cleo", &["vote", "release/3", "reject", "--reason", "no"]);
    assert!(gone.contains("cleo is not on the board in force"), "{gone}");
    let log = board.ok("zoe", &["log"]);
    assert!(log.contains("signed by the RECOVERY key in the place of the board"), "{log}");

    // A proof goes through it for who knows that it came into force, and for nobody else.
    let proof = board.path("proof.json");
    let (file, network) = (proof.to_str().unwrap(), town.network.as_str());
    board.ok("zoe", &["export", "release/2", "--proof", file]);
    let refused = board.refused("nobody", &["verify", file, "--network", network]);
    assert!(refused.contains("E_PROOF") && refused.contains("--recovery sha256:"), "{refused}");
    let known = ["verify", file, "--network", network, "--recovery", &id];
    let said = board.ok("nobody", &known);
    assert!(said.contains("verified  release/2"), "{said}");
    assert!(said.contains("policy/3 was signed by the recovery key"), "{said}");
    let forged = std::fs::read_to_string(&proof).unwrap();
    let mut forged: Value = serde_json::from_str(&forged).unwrap();
    let envelopes = forged["envelopes"].as_array_mut().unwrap();
    let policies = envelopes.iter_mut().filter(|one| one["type"] == "policy");
    let third = policies.last().unwrap();
    let sig = third["sigs"][0]["sig"].as_str().unwrap().to_owned();
    let other = third["sigs"][1]["sig"].as_str().unwrap().to_owned();
    assert_ne!(sig, other);
    third["sigs"][0]["sig"] = other.into();
    std::fs::write(&proof, forged.to_string()).unwrap();
    assert!(board.refused("nobody", &known).contains("E_PROOF"));
}

/// Two of the board are gone, and the third still holds a share, and the ballot of one who is gone.
#[test]
fn a_vote_that_was_open_when_the_board_fell_silent_settles_nothing_under_the_next_one() {
    let town = Town::new();
    town.name_rescue();
    let board = &town.board;
    board.propose("ann", "1.0");
    board.approve("ann", "release/1");
    for name in RESCUE.into_iter().chain(["cleo"]) {
        board.json(name, &["sync"]);
    }
    let made = town.make_new();
    assert_eq!(made["closes"], serde_json::json!(["release/1"]));
    let id = made["statement"].as_str().unwrap();
    let review = board.ok("sam", &["review", "policy/3"]);
    assert!(review.contains("settled   release/1 is closed"), "{review}");
    ["rita", "sam", "xia", "yan"].iter().for_each(|name| drop(board.approve(name, "policy/3")));

    // Elsewhere, cleo ends the vote, without a word of what goes on.
    let (here, away) = (board.exchange(), board.path("away"));
    std::fs::rename(&here, &away).unwrap();
    std::fs::create_dir(&here).unwrap();
    assert_eq!(board.approve("cleo", "release/1")["signed"], true);
    let signed = board.published("release");
    let late = borgios_types::Envelope::parse(&std::fs::read(&signed[0].0).unwrap()).unwrap();
    std::fs::remove_dir_all(&here).unwrap();
    std::fs::rename(&away, &here).unwrap();
    board.publish(&late);

    // Xia hears of the recovery first, yan of both at once, cleo of what she signed first.
    board.json("xia", &["sync", "--accept-recovery", id]);
    board.publish(&late);
    for name in ["yan", "cleo"] {
        board.json(name, &["sync", "--accept-recovery", id]);
    }
    assert_eq!(board.propose("xia", "2.0")["place"], "release/2");
    board.approve("xia", "release/2");
    assert_eq!(board.approve("yan", "release/2")["signed"], true);
    board.json("cleo", &["sync"]);
    for (name, told) in [
        ("xia", "counts nowhere"),
        ("yan", "counts nowhere"),
        ("cleo", "signed, and taken back by policy/3: it counts nowhere"),
    ] {
        let log = board.ok(name, &["log", "release"]);
        assert!(log.contains(told), "{name}: {log}");
        let rows = board.json(name, &["log", "release"]);
        let signed: Vec<_> =
            rows.as_array().unwrap().iter().filter(|row| row["signed"] == true).collect();
        assert_eq!((signed.len(), &signed[0]["place"]), (1, &"release/2".into()), "{name}");
    }
}

/// What a recovery board's folder does not do, and what becomes of papers that nobody named.
#[test]
fn a_recovery_board_does_nothing_else_and_nothing_before_it_is_named() {
    let town = Town::new();
    let paper = town.found_rescue();
    let Town { board, rescue, .. } = &town;
    copy(&RESCUE.map(|name| rescue.home(name)), &board.path(""));
    // Nobody has named it.
    board.json("rita", &["sync"]);
    let refused = board.refused("rita", &["governor", "change", "--recovery", "--remove", "ann"]);
    assert!(refused.contains("names no recovery key"), "{refused}");
    // Its paper, laid where all objects lie, is kept by nobody.
    let envelope = borgios_types::Envelope::parse(&std::fs::read(&paper).unwrap()).unwrap();
    board.publish(&envelope);
    board.json("ann", &["sync"]);
    assert!(!board.home("ann").join("objects/recovery").exists());
    // Another network's is no paper for this one.
    let other = Board::founded(&["ann", "ben"], 2);
    let text = paper.to_str().unwrap();
    let rule = ["--freshness", "2/24h", "--recovery-silence", "60d", "--recovery-lock", "30d"];
    let name = ["propose", "policy", "--recovery-board", text];
    let args: Vec<&str> = name.into_iter().chain(rule).collect();
    let refused = other.refused("ann", &args);
    assert!(refused.contains("no paper of a recovery board"), "{refused}");
    // A network's own first policy is none either.
    let own = other.exchange().join("policy-1.json");
    let name = ["propose", "policy", "--recovery-board", own.to_str().unwrap()];
    let args: Vec<&str> = name.into_iter().chain(rule).collect();
    let refused = other.refused("ann", &args);
    assert!(refused.contains("founds a network of its own"), "{refused}");
    // Its folder proposes no rules and no software.
    let refused = board.refused("rita", &["propose", "policy", "--fanout", "9"]);
    assert!(refused.contains("nothing but the next board"), "{refused}");
    let refused = board.refused("rita", &["governor", "change", "--remove", "ann"]);
    assert!(refused.contains("add `--recovery`"), "{refused}");
    // And a governor of the board does not plan in its name.
    let refused = board.refused("ann", &["governor", "change", "--recovery", "--remove", "ben"]);
    assert!(refused.contains("names no recovery key"), "{refused}");
}

/// Who founds again with the same words hears that it is done; a folder of one network never says that it
/// founded another.
#[test]
fn a_folder_of_a_network_founds_nothing_else() {
    let town = Town::new();
    let (board, rescue, network) = (&town.board, &town.rescue, town.network.as_str());
    let plan = ["governor", "found", "--threshold", "2", "--governors", "3"];
    for again in [&plan[..2], &plan[..]] {
        let said = board.json("ann", again);
        assert_eq!((&said["status"], &said["network"]), (&"founded".into(), &network.into()));
    }
    for (otherwise, why) in [
        (["--threshold", "3", "--governors", "3"], "its plan is 2 of 3"),
        (["--threshold", "2", "--governors", "4"], "its plan is 2 of 3"),
        (["--threshold", "2", "--recovers", network], "of no recovery board"),
    ] {
        let said = board.refused("ann", &[&plan[..2], &otherwise[..]].concat());
        assert!(said.contains(why) && said.contains("--home DIR"), "{said}");
    }

    // The same of a recovery board.
    town.found_rescue();
    let again = [&plan[..], &["--recovers", network]].concat();
    assert_eq!(rescue.json("rita", &again)["recovers"], *network);
    let said = rescue.refused("rita", &plan);
    assert!(said.contains("the key of a recovery board of sha256:"), "{said}");

    // In the folder of another founding, with options or without.
    let there = board.exchange().join("founding.json");
    std::fs::copy(rescue.exchange().join("founding.json"), &there).unwrap();
    for other in [&plan[..2], &plan[..], &again[..]] {
        let said = board.refused("ann", other);
        assert!(said.contains("is not the plan that it came of"), "{said}");
    }
    // In one without a plan the network can be asked for, and nothing is planned.
    std::fs::remove_file(&there).unwrap();
    assert_eq!(board.json("ann", &plan[..2])["network"], *network);
    let said = board.refused("ann", &again);
    assert!(said.contains("founding.json is missing") && said.contains("--home DIR"), "{said}");
    assert!(!there.exists());
}
