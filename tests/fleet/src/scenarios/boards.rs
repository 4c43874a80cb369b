//! The board changes while a release is half voted on: one governor's laptop comes back from a backup,
//! another governor is replaced, and a server that was cut off hears the old board for the last time.
//!
//! ```text
//! servers 1–3  release/2: ann ── policy/2: dan for cleo, closes release/2 ── release/3: ben, dan ──┐
//! server 4     release/2: ann ── cut off ── cleo: release/2 is signed, installed ── healed ────────┴─ one state
//! ```

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use borgios_policy::{Handback, Name};
use borgios_types::{Digest, Envelope, NodeId};
use serde_json::{Value, json};

use crate::ballot_box::{Place, VOTE_BOUND, object};
use crate::command::{self, COMMAND_BOUND, Output};
use crate::component::{self, Service};
use crate::door::Door;
use crate::governor::{Governor, PASSPHRASE};
use crate::keeper::Answer;
use crate::lab::Lab;
use crate::member::INSTALL_BOUND;
use crate::network::{Network, text};
use crate::scenario::{Say, Scenario};
use crate::server::Server;
use crate::wait::{self, SOON};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "boards",
    about: "the board changes mid-way through a vote; one laptop is restored, another replaced",
    alone: false,
    run,
};

/// Servers; the last one is cut off for a while.
const SERVERS: u8 = 4;
/// Looks at the folder after which a change of the board must have come to its proposal.
const TURNS: usize = 8;
/// How long is watched that nothing comes of what the old board says.
const CALM: Duration = Duration::from_secs(5);
/// What ann says to the change.
const NOTE: &str = "cleo moves on, dan takes her place";

fn run(say: &Say) -> Result<()> {
    let lab = Lab::up(SERVERS)?;
    let mut network = Network::founded(&lab, "boards")?;
    network.join_all()?;
    network.wait_tree()?;
    let backup = back_up(&network)?;
    let (hello, ballot) = half_voted(&network)?;
    say("release/2 is proposed; ann's approval lies on all four servers, and no other");
    stale_copy(&network, ballot)?;
    say("a copy of ann's folder from before her vote does not vote: a server has seen her ballot");
    lab.isolate(SERVERS)?;
    restore(&mut network, &backup)?;
    say("ben goes on from his backup; when the old laptop turns up, its nonces are void");
    change(&mut network)?;
    say("dan came and cleo went: both keys signed policy/2, and three servers have it");
    let crossing = crossing(&network)?;
    say(
        "cleo, who heard of nothing, completed release/2 at the server that was cut off: it runs there",
    );
    again(&network, hello)?;
    say(
        "ben and dan voted on it again, behind the place that policy/2 closed: release/3 runs on three",
    );
    worthless(&network, &crossing)?;
    lab.heal()?;
    one_state(&network)?;
    say("healed: four servers, the same heads in every lane, release/3, nothing kept back");
    gone(&network)?;
    say("cleo is let in nowhere, and what she says is counted nowhere");
    told(&network)?;
    say("the logs of ann, dan and cleo say who came, who went, and what became of release/2");
    proved(&network)?;
    say("policy/2 and release/3 are proved by one file each, here and with stock ssh-keygen");
    lab.take_down()
}

/// Ben's backup, as he should have one.
fn back_up(network: &Network<'_>) -> Result<String> {
    let file = text(&network.file("ben.backup"))?;
    let ben = network.governor("ben");
    ben.try_borgios_with(&["governor", "backup", &file], &PASSPHRASE.repeat(2))?.ok()?;
    Ok(file)
}

/// release/2 with one approval, heard of everywhere. The component, and the ballot's id.
fn half_voted(network: &Network<'_>) -> Result<(PathBuf, Digest)> {
    let lab = network.lab();
    let one = lab.server(1);
    let hello = network.service(&Service::new("hello", "2"))?;
    // A server that is cut off later cannot fetch it from the others.
    for server in [one, lab.server(SERVERS)] {
        network.bring(server, &hello)?;
    }
    network.propose(Place::Node(one), "2", std::slice::from_ref(&hello))?;
    component::copy(network.governor("ann").home(), &network.file("stale/ann"))?;
    let cast = network.vote("ann", Place::Node(one), "release/2", true)?;
    ensure!(cast["signed"] == false, "one approval signed it: {cast}");
    for server in lab.servers() {
        let what = format!("ann's ballot on {}", server.host());
        wait::until_true(&what, VOTE_BOUND, || {
            let inbox = network.at("cleo", Place::Node(server), &["inbox"])?;
            let open = inbox["open"].as_array().context("no list")?;
            Ok(open
                .iter()
                .any(|row| row["place"] == "release/2" && row["approvals"] == json!(["ann"])))
        })?;
    }
    Ok((hello, serde_json::from_value(cast["ballot"].clone())?))
}

/// A copy of a folder that is not the newest one: what a node signs says so, and the tool heeds it.
fn stale_copy(network: &Network<'_>, ballot: Digest) -> Result<()> {
    let two = network.lab().server(2);
    // What the tool asks, with stock `ssh`: signed by the node, for this very question.
    let door = Door::with(&network.governor("ann").key()?, &network.file("door"))?;
    let (ann, challenge): (Name, _) = ("ann".parse()?, Digest::of(b"drawn for this story"));
    let asked = json!({"get": "handback", "governor": ann, "challenge": challenge});
    let answer = match door.ask(two, &asked)? {
        Answer::Ok(answer) => answer,
        Answer::Refused(code) => bail!("{} hands nothing back: {code}", two.host()),
    };
    let status = two.status()?;
    let id: Digest = serde_json::from_value(status["network"].clone())?;
    let node: NodeId = serde_json::from_value(status["node"].clone())?;
    let envelope: Envelope = serde_json::from_value(answer)?;
    let handback = Handback::verify(id, &node, &ann, challenge, &envelope)?;
    ensure!(handback.ballots.contains(&ballot), "{handback:?} lacks {ballot}");
    // Who made that ballot is no clone, and the node's answer is one that the tool takes.
    let again = network.try_at("ann", Place::Node(two), &["vote", "release/2", "approve"])?.ok()?;
    ensure!(!again.stderr.contains("handback"), "{}", again.stderr);
    let stale = Governor::new(network.lab(), &network.file("stale"), "ann")?;
    let agent = two.agent();
    let vote = ["vote", "release/2", "reject", "--reason", "another thought", "--node", &agent];
    is_clone(&stale.try_borgios(&vote)?, "was not made here")
}

/// A vote that was refused because another copy of the folder voted.
fn is_clone(output: &Output, why: &str) -> Result<()> {
    let said = output.all();
    ensure!(output.code == 1, "a copy of the folder voted: {said}");
    ensure!(said.contains("[E_CLONE]") && said.contains(why), "{said}");
    Ok(())
}

/// Ben's laptop burns; from the backup he goes on with another one, which makes new nonces.
fn restore(network: &mut Network<'_>, backup: &str) -> Result<()> {
    let lab = network.lab();
    let agent = lab.server(2).agent();
    let ben = Governor::new(lab, &network.file("other-laptop"), "ben")?;
    let lay = ["governor", "restore", backup, "--node", &agent, "--json"];
    let back = ben.try_borgios_with(&lay, &PASSPHRASE.repeat(2))?.ok()?.json()?;
    ensure!(back["usable"] == true && back["generation"] == 1, "{back}");
    ensure!(back["slots"].as_u64() > Some(30), "no new nonces: {back}");
    // The old one turns up after all.
    let vote = ["vote", "release/2", "reject", "--reason", "not yet", "--node", &agent];
    is_clone(&network.governor("ben").try_borgios(&vote)?, "its nonces are void")?;
    network.seat(ben);
    Ok(())
}

/// Dan for cleo: the ceremony in the shared folder, and a vote of both boards.
fn change(network: &mut Network<'_>) -> Result<()> {
    let lab = network.lab();
    let dan = Governor::new(lab, &network.file(""), "dan")?;
    dan.borgios(&["governor", "init", "--name", "dan"])?;
    network.seat(dan);
    let folder = Place::Exchange;
    for name in ["ben", "ann"] {
        network.at(name, folder, &["sync"])?;
    }
    let laid = network.at("dan", folder, &["governor", "change"])?;
    ensure!(laid["status"] == "no_plan", "{laid}");
    let card = text(&network.file("exchange/dan.card.json"))?;
    let plan = ["governor", "change", "--add", &card, "--remove", "cleo"];
    let asked = network.at("ann", folder, &plan)?;
    let roster = asked["roster"].as_str().with_context(|| format!("no roster: {asked}"))?;
    let go_on = ["governor", "change", "--accept-roster", roster, "--note", NOTE];
    let mut proposed = Value::Null;
    for _ in 0..TURNS {
        let all = ["ann", "ben", "dan"].map(|name| network.at(name, folder, &go_on));
        let all = all.into_iter().collect::<Result<Vec<Value>>>()?;
        if all.iter().all(|answer| answer["status"] == "proposed") {
            proposed = all[0].clone();
            break;
        }
    }
    ensure!(proposed["place"] == "policy/2", "the ceremony did not end: {proposed}");
    ensure!(proposed["closes"] == json!(["release/2"]), "{proposed}");
    for (name, signed) in [("ann", false), ("dan", false), ("ben", true)] {
        let cast = network.vote(name, folder, "policy/2", true)?;
        ensure!(cast["signed"] == signed, "{name}: {cast}");
    }
    // The folder is the governors' own: one of them brings it to the servers.
    network.at("ann", folder, &["sync"])?;
    network.at("ann", Place::Node(lab.server(1)), &["sync"])?;
    for server in connected(lab) {
        server.wait_status("policy/2 is in force", SOON, |status| {
            status["keeper"]["heads"]["policy"]["seq"] == 2
        })?;
    }
    // Who is new is let in from now on.
    for (name, number) in [("ben", 2), ("dan", 3)] {
        network.at(name, Place::Node(lab.server(number)), &["sync"])?;
    }
    Ok(())
}

/// The servers that are not cut off.
fn connected(lab: &Lab) -> impl Iterator<Item = Server<'_>> {
    lab.servers().filter(|server| server.number() != SERVERS)
}

/// Cleo votes where nobody has heard of the change: with ann's ballot hers makes a signature.
fn crossing(network: &Network<'_>) -> Result<Envelope> {
    let four = network.lab().server(SERVERS);
    let last = network.vote("cleo", Place::Node(four), "release/2", true)?;
    ensure!(last["signed"] == true, "{last}");
    let status = four.wait_installed(2)?;
    ensure!(status["heads"]["policy"]["seq"] == 1, "it heard of the change: {status}");
    network.statement("cleo", "release/2")
}

/// The new board votes on the same thing again.
fn again(network: &Network<'_>, hello: PathBuf) -> Result<()> {
    let [one, two, three] = [1, 2, 3].map(|number| network.lab().server(number));
    network.propose(Place::Node(one), "2", &[hello])?;
    network.approve("release/3", ("ben", Place::Node(two)), ("dan", Place::Node(three)))?;
    connected(network.lab()).try_for_each(|server| server.wait_installed(3).map(drop))
}

/// A whole threshold of the old board's shares signs nothing any more.
fn worthless(network: &Network<'_>, crossing: &Envelope) -> Result<()> {
    let door = Door::with(&network.governor("ann").key()?, &network.file("door"))?;
    for server in connected(network.lab()) {
        let (agent, keeper) =
            (door.put(server, crossing)?, server.keeper_submit(&json!(crossing))?);
        ensure!((agent.code(), keeper.code()) == ("closed", "closed"), "{agent:?} {keeper:?}");
    }
    Ok(())
}

/// Every server has the same heads, by its agent and by its keeper, and runs the same.
fn one_state(network: &Network<'_>) -> Result<()> {
    network.wait_tree()?;
    let mut states = BTreeSet::new();
    for server in network.lab().servers() {
        let what = "release/3 under policy/2, and nothing kept back";
        let status = server.wait_status(what, INSTALL_BOUND, |status| {
            let (agent, keeper) = (&status["heads"], &status["keeper"]);
            agent["policy"]["seq"] == 2
                && agent["release"]["seq"] == 3
                && *agent == keeper["heads"]
                && keeper["installed"] == 3
                && keeper["activity"]["doing"] == "idle"
                && keeper["held"].as_array().is_none_or(Vec::is_empty)
        })?;
        ensure!(status["keeper"]["problem"].is_null(), "{status}");
        states.insert(status["heads"].to_string());
        let version = server.sh("cat /opt/borgios/current/hello/files/version")?;
        ensure!(version == "2", "{} has hello {version}", server.host());
    }
    // A policy's id is that of the board in it.
    ensure!(states.len() == 1, "servers in different states: {states:?}");
    Ok(())
}

/// Cleo's key opens no door, and her ballot, which others hand on, is counted nowhere.
fn gone(network: &Network<'_>) -> Result<()> {
    let lab = network.lab();
    for server in lab.servers() {
        let said = network.try_at("cleo", Place::Node(server), &["sync"])?;
        ensure!(said.code == 1, "{} lets cleo in: {}", server.host(), said.all());
        ensure!(said.all().contains("board in force"), "{}", said.all());
    }
    let cleo = network.governor("cleo");
    let rows = cleo.json(&["log", "release"])?;
    let id = rows[1]["id"].as_str().context("no release/2 in cleo's log")?.to_owned();
    let ballots = std::fs::read_dir(cleo.home().join("objects/ballot"))?;
    let mut hers = None;
    for entry in ballots {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(hex) = name.strip_suffix(".json") else { continue };
        let ballot = object(cleo, "ballot", &format!("sha256:{hex}"))?;
        if ballot.payload.contains(r#""governor":"cleo""#) && ballot.payload.contains(&id) {
            hers = Some(ballot);
        }
    }
    let hers = hers.context("no ballot of cleo's on release/2")?;
    let door = Door::with(&network.governor("ann").key()?, &network.file("door"))?;
    let before = lab.server(1).status()?["heads"].clone();
    for server in lab.servers() {
        // Whether it is kept on record makes no difference.
        door.put(server, &hers)?;
    }
    wait::holds("cleo's ballot changes nothing", CALM, || {
        for server in lab.servers() {
            if server.status()?["heads"] != before {
                return Ok(false);
            }
        }
        let inbox = network.at("dan", Place::Node(lab.server(2)), &["inbox"])?;
        Ok(inbox["open"].as_array().is_some_and(Vec::is_empty) && inbox["signed"] == json!([]))
    })?;
    // She hears of it in the folder that she shared with the others.
    network.at("cleo", Place::Exchange, &["sync"])?;
    let said = network.try_at("cleo", Place::Exchange, &["vote", "release/2", "approve"])?;
    ensure!(said.code == 1 && said.all().contains("release/2 is closed"), "{}", said.all());
    Ok(())
}

/// What the log says to people, from top to bottom.
const TOLD: [&str; 6] = [
    "\n  the first policy: ann, ben and cleo govern; 2 of 3 sign together\n",
    "  version 2  counts nowhere: enough approved it, but policy/2 closed its place\n  proposed by \
     ann\n  approved by ann\n  approved by cleo\n",
    "  ben goes on from a backup or another copy of the folder: nonces published before are void, \
     ballots cast before stand\n",
    CHANGED,
    "\n  approved by ann\n  approved by ben\n  approved by ann for the new board\n  approved by ben \
     for the new board\n  approved by dan for the new board\n",
    "  version 2\n  proposed by ann\n  approved by ben\n  approved by dan\n",
];
const CHANGED: &str = "\n  proposed by ann: cleo moves on, dan takes her place\n  the board changes: dan \
     comes, cleo goes; ann and ben stay; 2 of 3 sign together, as before; a new key, of epoch 2\n  \
     release/2 is closed: nothing signed or voted on for it counts\n  release/1 was signed before and \
     still counts\n";

fn told(network: &Network<'_>) -> Result<()> {
    let lab = network.lab();
    let dan = network.governor("dan");
    network.at("ann", Place::Node(lab.server(1)), &["sync"])?;
    network.at("dan", Place::Node(lab.server(3)), &["sync"])?;
    for name in ["ann", "dan"] {
        reads_well(name, &network.governor(name).borgios(&["log"])?.stdout)?;
    }
    // Who comes later has what the servers kept.
    std::fs::rename(dan.home().join("objects"), network.file("dan-objects"))?;
    network.at("dan", Place::Node(lab.server(2)), &["sync"])?;
    reads_well("dan, from a server alone", &dan.borgios(&["log"])?.stdout)?;
    let rows = dan.json(&["log"])?;
    let rows = rows.as_array().context("the log is no list")?;
    let of = |field: &str, what: &str| rows.iter().find(|row| row[field] == what);
    let changed = of("place", "policy/2").context("no policy/2")?;
    let board = &changed["board"];
    ensure!((&board["came"], &board["left"]) == (&json!(["dan"]), &json!(["cleo"])), "{board}");
    ensure!((&board["threshold"], &board["epoch"]) == (&json!(2), &json!(2)), "{board}");
    let epochs: Vec<&Value> =
        changed["ballots"].as_array().into_iter().flatten().map(|one| &one["epoch"]).collect();
    ensure!(epochs == [1, 1, 2, 2, 2], "{changed}");
    let left = of("not_signed", "release/2").context("no word of release/2")?;
    ensure!(left["summary"].as_str().is_some_and(|why| why.contains("policy/2")), "{left}");
    ensure!(of("place", "release/2").is_none() && of("place", "release/3").is_some(), "{rows:?}");
    let cleos = network.governor("cleo").borgios(&["log"])?.stdout;
    let taken =
        "version 2  signed, and taken back by policy/2: it counts nowhere\n  proposed by ann\n";
    ensure!(cleos.contains(taken) && cleos.contains(CHANGED), "{cleos}");
    Ok(())
}

fn reads_well(whose: &str, log: &str) -> Result<()> {
    let mut rest = log;
    for line in TOLD {
        let at = rest.find(line);
        let at = at.with_context(|| format!("the log of {whose} lacks {line:?}, here:\n{log}"))?;
        rest = &rest[at..];
    }
    Ok(())
}

/// One file proves what was decided on both sides of the change, to whoever knows the network's id.
fn proved(network: &Network<'_>) -> Result<()> {
    let dan = network.governor("dan");
    let stranger = Governor::new(network.lab(), &network.file(""), "stranger")?;
    let id = network.lab().server(1).status()?["network"].as_str().context("no id")?.to_owned();
    for (place, epoch, policies) in [("policy/2", 1, 2), ("release/3", 2, 2)] {
        let name = place.replace('/', "-");
        let file = text(&network.file(&format!("{name}.proof")))?;
        let out = network.file(&format!("{name}-steps"));
        dan.borgios(&["export", "--proof", place, &file])?;
        let verify = ["verify", &file, "--network", &id, "--out", &text(&out)?];
        let proven = stranger.json(&verify)?;
        ensure!(proven["place"] == place && proven["epoch"] == epoch, "{proven}");
        ensure!(proven["policies"].as_array().map(Vec::len) == Some(policies), "{proven}");
        ensure!(proven["shares_make_signature"] == true, "{place}: {proven}");
        let mut check = std::process::Command::new("sh");
        check.arg(out.join("check.sh"));
        let said = command::run(check, b"", COMMAND_BOUND)?.ok()?.stdout;
        ensure!(said.contains("every step holds"), "{said}");
    }
    Ok(())
}
