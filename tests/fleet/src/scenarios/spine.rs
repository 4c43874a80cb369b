//! The whole thread: governors found, servers join, everyone hears a note, a release is voted at
//! different nodes and installed by all, and stock tools agree with every step.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use borgios_types::Envelope;
use serde_json::{Value, json};

use crate::ballot_box::Place;
use crate::command::{self, COMMAND_BOUND};
use crate::component::Service;
use crate::door::{Door, Follow};
use crate::lab::Lab;
use crate::network::{FANOUT, Network};
use crate::scenario::{Say, Scenario};
use crate::server::Server;
use crate::wait::{self, SOON};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "spine",
    about: "governors found, servers join, vote and install",
    alone: false,
    run,
};

const SERVERS: u8 = 5;

fn run(say: &Say) -> Result<()> {
    let lab = Lab::up(SERVERS)?;
    let network = Network::founded(&lab, "spine")?;
    say("ann, ben and cleo made a key that nobody holds, and signed release/1");
    network.join_all()?;
    network.wait_tree()?;
    tree(&lab)?;
    say("five servers joined with bootstrap.sh: one tree, no node with more than two children");
    status(&lab, 1)?;
    say("status, tree and nodes say the same on every server");
    broadcast(&network)?;
    say("a note that ann gave to one server was heard on all, and stock ssh followed it in");
    vote(&network)?;
    say("ben rejected at one node, ann and cleo approved at two others");
    network.wait_installed(2)?;
    installed(&lab)?;
    status(&lab, 2)?;
    say("release/2 runs everywhere, and every keeper's report says so");
    exported(&network)?;
    say("stock ssh-keygen takes the exported release/2, and not one changed byte");
    again(&network)?;
    say("a second join changes nothing and ends with code 10");
    lab.take_down()
}

/// The tree as one server tells it: everyone in it, in bounds, deeper than one level.
fn tree(lab: &Lab) -> Result<()> {
    wait::until("a tree of all servers, as each tells it", SOON, || {
        let mut told = BTreeSet::new();
        for server in lab.servers() {
            let tree = server.borgios("tree")?;
            let nodes = tree["nodes"].as_array().context("a tree without nodes")?;
            let mut parents: BTreeMap<&str, usize> = BTreeMap::new();
            for parent in nodes.iter().filter_map(|node| node["parent"].as_str()) {
                *parents.entry(parent).or_default() += 1;
            }
            let depth = nodes.iter().filter_map(|node| node["depth"].as_u64()).max();
            let edges: usize = parents.values().sum();
            let whole = nodes.len() == usize::from(SERVERS) && edges + 1 == nodes.len();
            ensure!(whole && tree["partial"] == false, "{} tells {tree}", server.host());
            ensure!(parents.values().all(|children| *children <= FANOUT), "{tree}");
            ensure!(depth >= Some(2), "five nodes at a fan-out of two in one level: {tree}");
            let mut names: Vec<String> =
                nodes.iter().map(|node| format!("{}<{}", node["node"], node["parent"])).collect();
            names.sort();
            told.insert(names);
        }
        ensure!(told.len() == 1, "servers tell {} different trees", told.len());
        Ok(Some(()))
    })
}

fn status(lab: &Lab, release: u64) -> Result<()> {
    let mut networks = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for server in lab.servers() {
        let status = server.wait_status("heads", SOON, |status| {
            status["heads"]["release"]["seq"] == release
                && status["keeper"]["heads"]["release"] == status["heads"]["release"]
        })?;
        ensure!(status["name"] == server.host().as_str(), "{status}");
        ensure!(status["address"] == server.agent().as_str(), "{status}");
        ensure!(status["keeper"]["heads"]["policy"]["seq"] == 1, "{status}");
        networks.insert(status["network"].to_string());
        ids.insert(status["node"].to_string());
        let what = format!("{}: every node's report of release/{release}", server.host());
        wait::until(&what, SOON, || {
            let nodes = server.borgios("nodes")?;
            let all = nodes["nodes"].as_array().context("no list")?;
            let told = |node: &&Value| {
                node["report"]["release"] == release && node["report"]["outcome"] == "committed"
            };
            let (told, lapsed) =
                (all.iter().filter(told).count(), all.iter().any(|node| node["lapsed"] != false));
            ensure!(told == usize::from(SERVERS) && !lapsed, "{nodes}");
            Ok(Some(()))
        })?;
    }
    ensure!(networks.len() == 1, "servers of several networks: {networks:?}");
    ensure!(ids.len() == usize::from(SERVERS), "servers share a key: {ids:?}");
    Ok(())
}

fn broadcast(network: &Network<'_>) -> Result<()> {
    let words = "the spine holds";
    let (first, last) = (network.lab().server(1), network.lab().server(SERVERS));
    let followed = follow(network, first)?;
    network.at("ann", Place::Node(last), &["broadcast", words])?;
    loop {
        let entry = followed.next()?;
        if entry["kind"] == "note" {
            let envelope: Envelope = serde_json::from_value(entry["envelope"].clone())?;
            ensure!(json!(envelope.id()) == entry["id"] && entry["by"] == "ann", "{entry}");
            ensure!(envelope.payload.contains(words), "{entry}");
            break;
        }
    }
    followed.end()?;
    for server in network.lab().servers() {
        wait::until_true(&format!("{} hears the note", server.host()), SOON, || {
            let ask = r#"curl -s --unix-socket /run/borgios/api.sock -d '{"get":"objects","kind":"note"}' http://agent/v1"#;
            Ok(server.sh(ask)?.matches(words).count() == 1)
        })?;
    }
    Ok(())
}

/// What enters at a server, as ben sees it with stock `ssh`.
fn follow(network: &Network<'_>, server: Server<'_>) -> Result<Follow> {
    Door::with(&network.governor("ben").key()?, &network.file("door"))?.follow(server)
}

fn vote(network: &Network<'_>) -> Result<()> {
    let lab = network.lab();
    let [two, three, four] = [2, 3, 4].map(|number| lab.server(number));
    let hello = network.service(&Service::new("hello", "2"))?;
    network.bring(two, &hello)?;
    network.propose(Place::Node(two), "2", &[hello])?;
    let rejected = network.vote("ben", Place::Node(three), "release/2", false)?;
    ensure!(rejected["signed"] == false, "{rejected}");
    let first = network.vote("ann", Place::Node(two), "release/2", true)?;
    ensure!(first["signed"] == false, "one approval signed it: {first}");
    ensure!(lab.server(1).installed()? == 1, "something was installed before it was signed");
    network.vote("cleo", Place::Node(four), "release/2", true)?;
    network.wait_signed("cleo", Place::Node(four), "release/2")?;
    let log = network.governor("cleo").json(&["log", "release"])?;
    let ballots = log[1]["ballots"].as_array().context("no ballots in the log")?;
    let said: BTreeSet<_> = ballots
        .iter()
        .map(|ballot| (ballot["governor"].to_string(), ballot["choice"].to_string()))
        .collect();
    ensure!(said.len() == 3, "the log shows {log}");
    // What was voted is voted: the same slot gives the same ballot or a refusal.
    let place = ["--node", &four.agent()];
    let turned = network.governor("cleo").try_borgios(&[
        "vote",
        "release/2",
        "reject",
        "--reason",
        "on second thought",
        place[0],
        place[1],
    ])?;
    ensure!(turned.code == 1, "cleo voted twice: {}", turned.all());
    Ok(())
}

fn installed(lab: &Lab) -> Result<()> {
    for server in lab.servers() {
        let version = server.sh("cat /opt/borgios/current/hello/files/version")?;
        ensure!(version == "2", "{} has hello {version}", server.host());
        let state = server.sh("systemctl is-active hello borgiosd borgios-keeper")?;
        ensure!(state == "active\nactive\nactive", "{}: {state}", server.host());
        let failed = server.sh("systemctl list-units --state=failed --no-legend 'b*' 'hello*'")?;
        ensure!(failed.is_empty(), "{}: {failed}", server.host());
    }
    Ok(())
}

fn exported(network: &Network<'_>) -> Result<()> {
    let out = network.file("export");
    let folder = crate::network::text(&out)?;
    let exported = network.governor("cleo").json(&["export", "release/2", "--out", &folder])?;
    let path = |key: &str| {
        exported[key].as_str().map(str::to_owned).with_context(|| format!("{exported}"))
    };
    let (payload, signature) = (path("payload")?, path("signature")?);
    let signers = path("allowed_signers")?;
    let verify = |text: &[u8]| {
        let mut keygen = std::process::Command::new("ssh-keygen");
        keygen.args(["-Y", "verify", "-f", &signers, "-I", "governors"]);
        keygen.args(["-n", "borgios-release@v1", "-s", &signature]);
        command::run(keygen, text, COMMAND_BOUND)
    };
    let mut text = std::fs::read(&payload)?;
    verify(&text)?.ok()?;
    text[20] ^= 1;
    let changed = verify(&text)?;
    ensure!(changed.code != 0, "ssh-keygen takes a changed payload: {}", changed.all());
    Ok(())
}

fn again(network: &Network<'_>) -> Result<()> {
    let two: Server<'_> = network.lab().server(2);
    let before = two.status()?["node"].clone();
    let invitation = network.invite(1)?;
    two.try_join_on_console(&network.bundle(), &invitation)?.expect_code(10)?;
    let after = two.status()?;
    ensure!(after["node"] == before, "the second join made another node");
    ensure!(after["keeper"]["installed"] == 2, "{after}");
    two.sh("rm -f /root/invite.json /root/bundle.tar").map(drop)
}
