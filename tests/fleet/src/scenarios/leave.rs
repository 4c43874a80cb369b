//! Ways out: a server is reinstalled, evicted, or taken out by its owner; the fleet counts it out and
//! nobody cleans up.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use borgios_policy::{Departure, Object as _};
use borgios_types::{Envelope, SecretKey, UnixSeconds};
use serde_json::{Value, json};

use crate::ballot_box::Place;
use crate::command::{self, COMMAND_BOUND};
use crate::door::Door;
use crate::lab::Lab;
use crate::login::Key;
use crate::network::{Network, TREE_BOUND};
use crate::scenario::{Say, Scenario};
use crate::schedule;
use crate::server::Server;
use crate::wait::{self, SOON};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "leave",
    about: "reinstall, evict, depart: counted out, and no way back in",
    alone: false,
    run,
};

/// How long is watched that one who is out stays out: several attempts to dial.
const CALM: Duration = Duration::from_secs(4);
/// Longer than a join record holds.
const AFTER_THE_LAPSE: &str = "+8d";
/// What a node's identity and a keeper's are.
const SECRETS: [&str; 2] = ["/var/lib/borgios/node.key", "/var/lib/borgios-keeper/keeper.key"];

fn run(say: &Say) -> Result<()> {
    let lab = Lab::up(5)?;
    let network = Network::founded(&lab, "leave")?;
    let owner = Key::generate(&network.file("owner/id"))?;
    network.join_all_owned(Some(&owner.public_file()))?;
    network.wait_tree()?;
    let members: Vec<Server<'_>> = lab.servers().collect();
    let [one, two, evicted, again, departs] = members[..] else { anyhow::bail!("five servers") };
    counts(&members, 5)?;
    let old = reinstalled(&network, again)?;
    say("server 4 was reinstalled and joined again: another node, and nobody cleaned up");
    evict(&network, evicted, &[one, two, again, departs])?;
    say(
        "server 3 was evicted: cut off everywhere, refused also after restarts, told nothing, heard by none",
    );
    depart(&network, &owner, departs, &[one, two, again])?;
    say(
        "server 5's owner took it out: shredded, stopped, counted out at once; another key was refused",
    );
    lapses(&[one, two, again], &old)?;
    say("a week later the record of server 4's old node has lapsed: three are counted");
    lab.take_down()
}

/// The nodes that a server counts as the fleet, by key.
fn counted(server: Server<'_>) -> Result<Vec<String>> {
    let nodes = server.borgios("nodes")?;
    let all = nodes["nodes"].as_array().context("no list of nodes")?;
    let is = |node: &Value, flag: &str| node[flag] == true;
    let counted = all
        .iter()
        .filter(|node| !is(node, "lapsed") && !is(node, "evicted") && !is(node, "departed"));
    Ok(counted.filter_map(|node| node["node"].as_str().map(str::to_owned)).collect())
}

fn counts(servers: &[Server<'_>], wanted: usize) -> Result<()> {
    for server in servers {
        wait::until_true(&format!("{} counts {wanted} nodes", server.host()), SOON, || {
            let counted = counted(*server)?;
            ensure!(counted.len() == wanted, "it counts {counted:?}");
            Ok(true)
        })?;
    }
    Ok(())
}

/// One tree of these servers, each with a place in it.
fn one_tree(servers: &[Server<'_>]) -> Result<()> {
    let what = format!("one tree of {}", servers.len());
    wait::until(&what, TREE_BOUND, || {
        let mut roots = std::collections::BTreeSet::new();
        for server in servers {
            let tree = server.status()?["tree"].clone();
            let placed = tree["state"] == "attached" && tree["size"] == servers.len();
            ensure!(placed, "{}: {tree}", server.host());
            roots.insert(tree["root"].to_string());
        }
        Ok((roots.len() == 1).then_some(()))
    })
}

fn node(server: Server<'_>) -> Result<String> {
    let status = server.status()?;
    Ok(status["node"].as_str().context("no node key")?.to_owned())
}

/// The provider's reinstall, and the same host as a new node. Returns the old node's key.
fn reinstalled(network: &Network<'_>, server: Server<'_>) -> Result<String> {
    let old = node(server)?;
    server.reinstall()?;
    let gone = server.try_sh("test -e /opt/borgios || test -e /var/lib/borgios")?;
    ensure!(gone.code == 1, "something of ours survived the reinstall");
    let rest: Vec<Server<'_>> =
        network.lab().servers().filter(|other| other.number() != server.number()).collect();
    one_tree(&rest)?;
    let owner = network.file("owner/id.pub");
    server.join_owned(&network.bundle(), &network.invite(1)?, &owner)?;
    ensure!(node(server)? != old, "the reinstalled server is the same node");
    network.wait_tree()?;
    // The old record holds until it lapses: a server that is off for a weekend is no other.
    counts(&rest, 6)?;
    Ok(old)
}

fn evict(network: &Network<'_>, out: Server<'_>, rest: &[Server<'_>]) -> Result<()> {
    network.evict(Place::Node(rest[0]), out)?;
    one_tree(rest)?;
    counts(rest, rest.len() + 1)?;
    alone(out, rest).context("after the vote")?;
    out.sh("systemctl restart borgiosd")?;
    alone(out, rest).context("after its agent began anew")?;
    out.reboot()?;
    alone(out, rest).context("after its reboot")?;
    rest[0].sh("systemctl restart borgiosd")?;
    one_tree(rest)?;
    alone(out, rest).context("after a member began anew")?;
    // Neither hears of the other any more.
    let said = ["a note for members", "a note of one who is out"];
    network.at("ann", Place::Node(rest[0]), &["broadcast", said[0]])?;
    network.at("ben", Place::Node(out), &["broadcast", said[1]])?;
    for member in rest {
        wait::until_true(&format!("{} hears the note", member.host()), SOON, || {
            Ok(notes(*member)?.contains(said[0]))
        })?;
    }
    wait::holds("no word passes between them", CALM, || {
        let in_time = rest.iter().map(|member| notes(*member)).collect::<Result<Vec<_>>>()?;
        Ok(!notes(out)?.contains(said[0]) && !in_time.iter().any(|it| it.contains(said[1])))
    })
}

fn notes(server: Server<'_>) -> Result<String> {
    let ask = r#"curl -s --unix-socket /run/borgios/api.sock -d '{"get":"objects","kind":"note"}' http://agent/v1"#;
    server.sh(ask)
}

/// A server that nobody has in their tree, though it tries.
fn alone(out: Server<'_>, rest: &[Server<'_>]) -> Result<()> {
    let key = wait::until("its agent answers", SOON, || node(out).map(Some))?;
    wait::holds(&format!("{} stays out", out.host()), CALM, || {
        let tree = out.status()?["tree"].clone();
        ensure!(tree["size"].as_u64().unwrap_or_default() <= 1, "it is in a tree: {tree}");
        for member in rest {
            let tree = member.status()?["tree"].clone();
            ensure!(!tree.to_string().contains(&key), "{}: {tree}", member.host());
        }
        Ok(true)
    })
}

fn depart(network: &Network<'_>, owner: &Key, out: Server<'_>, rest: &[Server<'_>]) -> Result<()> {
    let before = counted(rest[0])?.len();
    let stranger = Key::generate(&network.file("owner/stranger"))?;
    let refused = network.depart(rest[0], out, stranger.file())?;
    ensure!(refused.code == 1, "another key: {}", refused.all());
    // The command line refuses by itself; so what it would not sign is brought by hand.
    let forged = forged_departure(out)?;
    let door = Door::with(&network.governor("ann").key()?, &network.file("door"))?;
    for member in [rest[0], out] {
        door.put(member, &forged)?;
    }
    let keeper = out.keeper(&json!({"verb": "depart", "departure": forged}))?;
    ensure!(keeper.code() != "ok", "the keeper took another key's word: {keeper:?}");
    wait::holds("another key changes nothing", CALM, || {
        let tree = out.status()?["tree"].clone();
        Ok(tree["state"] == "attached" && counted(rest[0])?.len() == before)
    })?;
    network.send_departure(rest[0], &network.sign_departure(out, owner.file())?)?;
    counts(rest, before - 1)?;
    one_tree(rest)?;
    wait::until_true("its units are stopped and its secrets are gone", SOON, || {
        let units = out.try_sh("systemctl is-active borgiosd borgios-keeper")?;
        ensure!(!units.stdout.lines().any(|line| line == "active"), "units are {}", units.stdout);
        for secret in SECRETS {
            ensure!(out.try_sh(&format!("test -e {secret}"))?.code == 1, "{secret} is there");
        }
        Ok(true)
    })?;
    // Root stays closed, and the agent does not come back by itself.
    out.reboot()?;
    let units = out.try_sh("systemctl is-active borgiosd borgios-keeper")?;
    ensure!(!units.stdout.lines().any(|line| line == "active"), "after a boot: {}", units.stdout);
    out.login(owner, None)?.must_not("the owner's key after the departure")?;
    out.login_with_password("original")?.must_not("the old password after the departure")
}

/// A departure of a server that is whole but for its signer, who is nobody.
fn forged_departure(out: Server<'_>) -> Result<Envelope> {
    let status = out.status()?;
    let read = |name: &str| status[name].clone();
    let departure = Departure {
        network: serde_json::from_value(read("network"))?,
        node: serde_json::from_value(read("node"))?,
        at: UnixSeconds(schedule::now() as u64),
    };
    Ok(departure.to_envelope().sign(&SecretKey::from_seed([9; 32])))
}

/// Every server's clock says that a week has passed: who was not there to renew is counted no more.
fn lapses(members: &[Server<'_>], old: &str) -> Result<()> {
    ensure!(counted(members[0])?.iter().any(|node| node == old), "it has lapsed already");
    std::thread::scope(|scope| -> Result<()> {
        let skews: Vec<_> =
            members.iter().map(|server| scope.spawn(|| skew(*server, AFTER_THE_LAPSE))).collect();
        skews.into_iter().try_for_each(|skew| {
            skew.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a clock panicked")))
        })
    })?;
    one_tree(members)?;
    counts(members, members.len())?;
    ensure!(!counted(members[0])?.iter().any(|node| node == old), "the old node is counted");
    Ok(())
}

/// Shifts the clock of a server's agent.
fn skew(server: Server<'_>, offset: &str) -> Result<()> {
    let number = server.number().to_string();
    let skew = server.lab().script(&["skew", &number, "borgiosd", offset]);
    command::run(skew, b"", COMMAND_BOUND)?.ok().map(drop)
}
