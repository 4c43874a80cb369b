//! Questions to the whole fleet: everyone answers, whoever does not is named in time, each server is
//! found with the right number of hops, and a broadcast is receipted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::ballot_box::Place;
use crate::lab::Lab;
use crate::network::Network;
use crate::scenario::{Say, Scenario};
use crate::server::Server;
use crate::wait::{self, SOON};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "ask",
    about: "the fleet is asked, servers fall silent, nodes are found",
    alone: false,
    run,
};

const SERVERS: u8 = 5;
/// What the questions below allow, and what the shell around them may take: both with time enough for
/// a busy computer.
const WITHIN: u64 = 10;
const AROUND: Duration = Duration::from_secs(20);

fn run(say: &Say) -> Result<()> {
    let lab = Lab::up(SERVERS)?;
    let network = Network::founded(&lab, "ask")?;
    network.join_all()?;
    network.wait_tree()?;
    say("five servers stand in one tree");
    for server in lab.servers() {
        everyone(server)?;
    }
    say("each of them gets five of five answers on versions, epochs, load and disk");
    receipts(&network)?;
    say("a note was receipted by five of five; one that nobody sent by none, with code 1");
    lookups(&lab)?;
    say("each finds each with as many hops as lie between them");
    silent(&network)?;
    say("a frozen server is named within the deadline, and only it is missing");
    cut(&lab)?;
    say("a server without power is named by its record, and found again after it");
    lab.take_down()
}

fn missing(answer: &Value) -> BTreeSet<String> {
    let lists = [&answer["silent"], &answer["unheard"]];
    let named = lists.into_iter().filter_map(Value::as_array).flatten();
    named.filter_map(|one| one["name"].as_str().map(str::to_owned)).collect()
}

fn everyone(server: Server<'_>) -> Result<()> {
    for (about, label) in
        [("versions", "release/1, agent"), ("epochs", ""), ("load", ""), ("disk", "")]
    {
        let what = format!("{}: five answers on {about}", server.host());
        wait::until(&what, SOON, || {
            let answer = server.borgios(&format!("ask {about} --within {WITHIN}s"))?;
            let labels = answer["histogram"].as_object().context("no histogram")?;
            let counted: u64 = labels.values().filter_map(Value::as_u64).sum();
            let whole = answer["complete"] == true && answer["answered"] == SERVERS;
            ensure!(whole && counted == u64::from(SERVERS), "{answer}");
            ensure!(labels.keys().all(|known| known.starts_with(label)), "{answer}");
            ensure!(answer["surplus"] == 0 && answer["strangers"] == 0, "{answer}");
            Ok(Some(()))
        })?;
    }
    Ok(())
}

fn receipts(network: &Network<'_>) -> Result<()> {
    let last = network.lab().server(SERVERS);
    let sent = network.at("ann", Place::Node(last), &["broadcast", "who has heard this"])?;
    let id = sent["id"].as_str().context("a note without an id")?.to_owned();
    let ann = network.governor("ann");
    let receipt = ann.json(&["ask", "received", &id, "--wait", "--within", "30s"])?;
    ensure!(receipt["complete"] == true && receipt["have"] == SERVERS, "{receipt}");
    let never = format!("sha256:{}", "0".repeat(64));
    // On a busy machine a server may be looking for another parent just then.
    wait::until("all five say that they have not what nobody has", SOON, || {
        let none =
            ann.try_borgios(&["ask", "received", &never, "--wait", "--within", "1s", "--json"])?;
        ensure!(none.code == 1, "{}", none.all());
        let told = none.json()?;
        ensure!(told["have"] == 0, "{told}");
        ensure!(told["histogram"]["no"] == SERVERS, "{told}");
        let without = told["exceptions"].as_array().map(Vec::len);
        ensure!(without == Some(usize::from(SERVERS)), "{told}");
        Ok(Some(()))
    })
}

/// Each server's path to the root, by name, as the first one draws the tree.
fn paths(lab: &Lab) -> Result<BTreeMap<String, Vec<String>>> {
    let tree = lab.server(1).borgios("tree")?;
    let nodes = tree["nodes"].as_array().context("no nodes")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let names: BTreeMap<String, String> =
        nodes.iter().map(|node| (text(&node["node"]), text(&node["name"]))).collect();
    let above: BTreeMap<String, String> = nodes
        .iter()
        .filter_map(|node| {
            Some((text(&node["name"]), names.get(node["parent"].as_str()?)?.clone()))
        })
        .collect();
    let path = |name: &String| {
        let path = std::iter::successors(Some(name), |name| above.get(*name));
        path.take(names.len()).cloned().collect()
    };
    Ok(names.values().map(|name| (name.clone(), path(name))).collect())
}

fn lookups(lab: &Lab) -> Result<()> {
    wait::until("each server found by each", SOON, || {
        let paths = paths(lab)?;
        ensure!(paths.len() == usize::from(SERVERS), "{paths:?}");
        for server in lab.servers() {
            for (wanted, below) in &paths {
                let found = server.borgios(&format!("node show {wanted}"))?;
                let mine = &paths[&server.host()];
                let shared = mine.iter().filter(|name| below.contains(name)).count();
                let hops = mine.len() + below.len() - 2 * shared;
                let place = &found["place"];
                ensure!(place["hops"] == hops, "{} to {wanted}: {found}", server.host());
                ensure!(place["depth"] == below.len() - 1, "{found}");
                let told = place["path"].as_array().context("no path")?;
                let names = told.iter().rev().filter_map(|node| node["name"].as_str());
                ensure!(names.eq(below.iter().map(String::as_str)), "{found}");
                ensure!(found["runs"]["release"] == 1 && found["standing"] == "member", "{found}");
            }
        }
        Ok(Some(()))
    })
}

/// A server without children, so that nobody else is behind it; not the one that is asked.
fn leaf(lab: &Lab) -> Result<Server<'_>> {
    let paths = paths(lab)?;
    let inner = |host: &String| paths.values().any(|path| path.iter().skip(1).any(|up| up == host));
    let leaf = lab.servers().skip(1).find(|server| !inner(&server.host()));
    leaf.context("a tree without leaves")
}

fn silent(network: &Network<'_>) -> Result<()> {
    let lab = network.lab();
    let (one, frozen) = (lab.server(1), leaf(lab)?);
    frozen.freeze()?;
    let asked = Instant::now();
    let answer = one.borgios(&format!("ask load --within {WITHIN}s"))?;
    let took = asked.elapsed();
    ensure!(took < Duration::from_secs(WITHIN) + AROUND, "after {took:?}: {answer}");
    ensure!(answer["answered"] == SERVERS - 1 && answer["members"] == SERVERS, "{answer}");
    ensure!(missing(&answer) == BTreeSet::from([frozen.host()]), "{answer}");
    let none = one.try_sh(&format!(
        "/opt/borgios/current/agent/files/bin/borgios node show {} --within 2s",
        frozen.host()
    ))?;
    ensure!(none.code == 1 && none.all().contains("was not found in the tree"), "{}", none.all());
    frozen.thaw()?;
    everyone(one)
}

fn cut(lab: &Lab) -> Result<()> {
    let (one, off) = (lab.server(1), leaf(lab)?);
    off.kill()?;
    wait::until("four of five, and the fifth by name", SOON, || {
        let answer = one.borgios(&format!("ask disk --within {WITHIN}s"))?;
        ensure!(answer["answered"] == SERVERS - 1 && answer["complete"] == false, "{answer}");
        ensure!(missing(&answer) == BTreeSet::from([off.host()]), "{answer}");
        Ok(Some(()))
    })?;
    off.start()?;
    everyone(one)
}
