//! Signed is not yet applied: a release that one governor pauses waits and then installs by itself,
//! and one that two of three take back in its lock is installed nowhere.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::ballot_box::Place;
use crate::component::Service;
use crate::lab::Lab;
use crate::network::Network;
use crate::scenario::{Say, Scenario};
use crate::server::Server;
use crate::wait::{self, SOON};

pub(super) const SCENARIO: Scenario =
    Scenario { name: "rules", about: "locks, a pause and a veto hold releases back", run };

/// How long releases are locked: long enough for two vetoes typed by people in a hurry.
const LOCK: &str = "30s";
/// How long a pause holds. Longer than the lock, or the release would stand as paused only for the
/// moment that passed between its signature and the pause.
const PAUSE: &str = "60s";
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
    say("policy/2 locks every release, and lets a pause hold twice as long");

    network.release(2, &Service::new("hello", "2"))?;
    network.at("ben", two, &["pause", "release/2", "--reason", "let me look first"])?;
    for server in lab.servers() {
        wait_held(server, "release/2 is locked or paused", 2, &["waiting", "paused"])?;
        wait_held(server, "release/2 is paused", 2, &["paused"])?;
        ensure!(server.installed()? == 1, "{} did not wait", server.host());
    }
    let again = network.try_at("ben", two, &["pause", "release/2", "--reason", "once more"])?;
    for server in lab.servers() {
        server.wait_installed(2)?;
    }
    say(&format!(
        "release/2, paused by ben, installed by itself; a second pause changed nothing (code {})",
        again.code
    ));

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
