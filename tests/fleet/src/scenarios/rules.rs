//! Signed is not yet applied: a release that one governor pauses waits and then installs by itself,
//! and one that two of three take back in its lock is installed nowhere.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use borgios_types::Envelope;
use serde_json::{Value, json};

use crate::ballot_box::Place;
use crate::component::Service;
use crate::door::Door;
use crate::forgery::with_fields;
use crate::keeper::Answer;
use crate::lab::Lab;
use crate::network::Network;
use crate::scenario::{Say, Scenario};
use crate::server::Server;
use crate::wait::{self, SOON};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "rules",
    about: "locks, a pause and a veto hold releases back",
    alone: false,
    run,
};

/// How long releases are locked: long enough for two vetoes typed by people in a hurry.
const LOCK: &str = "30s";
/// How long a pause holds. Longer than the lock, or the release would stand as paused only for the
/// moment that passed between its signature and the pause.
const PAUSE: &str = "90s";
/// For how long it is looked whether a second pause moves the end of the first: a keeper hears of it
/// within a second.
const SECOND_PAUSE: Duration = Duration::from_secs(5);
/// Longer than the lock.
const BEYOND_THE_LOCK: Duration = Duration::from_secs(40);

fn run(say: &Say) -> Result<()> {
    let lab = Lab::up(2)?;
    let network = Network::founded(&lab, "rules")?;
    network.join_all()?;
    network.wait_tree()?;
    let (one, two) = (Place::Node(lab.server(1)), Place::Node(lab.server(2)));
    let lock = format!("release={LOCK}");
    network.at("ann", one, &["propose", "policy", "--lock", &lock, "--pause", PAUSE])?;
    network.approve("policy/2", ("ann", one), ("cleo", two))?;
    for server in lab.servers() {
        server.wait_status("policy/2 is in force", SOON, |status| {
            status["keeper"]["heads"]["policy"]["seq"] == 2
        })?;
    }
    say("policy/2 locks every release, and lets a pause hold three times as long");

    network.release(2, &Service::new("hello", "2"))?;
    network.at("ben", two, &["pause", "release/2", "--reason", "let me look first"])?;
    let again = in_other_words(&network)?;
    let door = Door::with(&network.governor("ben").key()?, &network.file("door"))?;
    let mut ends = Vec::new();
    for server in lab.servers() {
        wait_held(server, "release/2 is locked or paused", 2, &["waiting", "paused"])?;
        ends.push(pause_ends(server)?);
        ensure!(server.installed()? == 1, "{} did not wait", server.host());
    }
    // His own program refuses a second one; a node keeps it on record, and it moves nothing.
    let pause = ["pause", "release/2", "--reason", "once more"];
    network.try_at("ben", two, &pause)?.expect_code(1)?;
    for server in lab.servers() {
        let answer = door.put(server, &again)?;
        ensure!(matches!(answer, Answer::Ok(_)), "{}: {answer:?}", server.host());
    }
    for (server, end) in lab.servers().zip(&ends) {
        let what = format!("{}: the pause ends at {end}", server.host());
        wait::holds(&what, SECOND_PAUSE, || Ok(pause_ends(server)? == *end))?;
    }
    for server in lab.servers() {
        server.wait_installed(2)?;
    }
    say("release/2, paused by ben, installed by itself; a second pause of his moved no end");

    network.release(3, &Service::new("hello", "3"))?;
    network.at("ann", one, &["veto", "release/3", "--reason", "it was built on my laptop"])?;
    network.at("ben", two, &["veto", "release/3", "--reason", "as ann says"])?;
    for server in lab.servers() {
        wait_held(server, "release/3 is vetoed", 3, &["vetoed"])?;
    }
    wait::holds("release/2 runs on all", BEYOND_THE_LOCK, || {
        for server in lab.servers() {
            if server.installed()? != 2
                || server.status()?["keeper"]["heads"]["release"]["seq"] != 2
            {
                return Ok(false);
            }
        }
        Ok(true)
    })?;
    network.at("cleo", one, &["sync"])?;
    let log = network.governor("cleo").json(&["log"])?;
    let vetoes = log.as_array().into_iter().flatten().filter(|row| row["veto"] == "release/3");
    ensure!(vetoes.count() == 2, "cleo's log does not show both vetoes: {log}");
    say("release/3, approved and then vetoed by two of three, was installed nowhere");
    lab.take_down()
}

/// Ben's pause once more, in other words: his own program would not ask twice.
fn in_other_words(network: &Network<'_>) -> Result<Envelope> {
    let ben = network.governor("ben");
    let folder = ben.home().join("objects/pause");
    let first =
        std::fs::read_dir(&folder)?.next().context("ben's pause is not in his folder")??;
    let said = Envelope::parse(&std::fs::read(first.path())?)?;
    let again = with_fields(&said, &[("reason", json!("once more"))])?;
    Ok(Envelope { sigs: Vec::new(), ..again }.sign(&ben.key()?))
}

/// When the pause of release/2 ends on a server, in seconds since 1970.
fn pause_ends(server: Server<'_>) -> Result<u64> {
    let status = wait_held(server, "release/2 is paused", 2, &["paused"])?;
    let held = status["keeper"]["held"].as_array().into_iter().flatten();
    let ours = |held: &&Value| held["lane"] == "release" && held["seq"] == 2;
    let until = held.into_iter().find(ours).and_then(|held| held["until"].as_u64());
    until.with_context(|| format!("{}: no end of the pause in {status}", server.host()))
}

/// Waits until the keeper holds a release in one of these states.
fn wait_held(server: Server<'_>, what: &str, release: u64, states: &[&str]) -> Result<Value> {
    server.wait_status(what, SOON, |status| {
        let held = status["keeper"]["held"].as_array().into_iter().flatten();
        held.into_iter().any(|held| {
            held["lane"] == "release"
                && held["seq"] == release
                && held["state"].as_str().is_some_and(|state| states.contains(&state))
        })
    })
}
