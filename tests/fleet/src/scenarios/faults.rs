//! A release under fire: processes killed, power cut, a reboot, a server cut off; and a release that
//! is sick. All of it ends in one tree with the signed release, and nobody helped.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::ballot_box::Place;
use crate::component::Service;
use crate::lab::Lab;
use crate::network::{Network, TREE_BOUND};
use crate::scenario::{Say, Scenario};
use crate::server::Server;
use crate::wait::{self, SOON};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "faults",
    about: "kill, cut and reboot in the middle of a release",
    alone: false,
    run,
};

/// How long is watched that a failed release is not tried again.
const CALM: Duration = Duration::from_secs(5);
/// Says on a server that its install is looked at.
const WATCHES: &str = "/run/install-is-watched";
/// What kills the keeper, wherever it is.
const KILL_KEEPER: &str = "kill -9 $(systemctl show -p MainPID --value borgios-keeper)";

fn run(say: &Say) -> Result<()> {
    let lab = Lab::up(5)?;
    let network = Network::founded(&lab, "faults")?;
    network.join_all()?;
    network.wait_tree()?;
    for server in [root(&lab)?, lab.server(4)] {
        kill_agent(server)?;
    }
    network.wait_tree()?;
    say("borgiosd killed at the root and below it: both came back, one tree");
    under_fire(&network, say)?;
    sick(&network)?;
    say("release/3 is sick: every server took it back, reported it and never tried it again");
    network.release(4, &Service::new("web", "4"))?;
    network.wait_installed(4)?;
    runs(&lab, "4")?;
    network.wait_tree()?;
    say("release/4 is well and installed everywhere: one tree of five");
    lab.take_down()
}

/// The server at the top of the tree.
fn root(lab: &Lab) -> Result<Server<'_>> {
    wait::until("a server says it is the root", SOON, || {
        for server in lab.servers() {
            if server.status()?["tree"]["is_root"] == true {
                return Ok(Some(server));
            }
        }
        Ok(None)
    })
}

fn kill_agent(server: Server<'_>) -> Result<()> {
    let pid = || server.sh("systemctl show -p MainPID --value borgiosd");
    let (before, node) = (pid()?, server.status()?["node"].clone());
    server.sh(&format!("kill -9 {before}"))?;
    server.wait_status("borgiosd is back and in the tree", TREE_BOUND, |status| {
        status["tree"]["state"] == "attached" && status["node"] == node
    })?;
    ensure!(pid()? != before, "{}: borgiosd was not killed", server.host());
    Ok(())
}

/// release/2, whose unit takes its time, so that both of these steps can be hit.
fn under_fire(network: &Network<'_>, say: &Say) -> Result<()> {
    let lab = network.lab();
    let top = root(lab)?;
    let rest: Vec<Server<'_>> =
        lab.servers().filter(|server| server.number() != top.number()).collect();
    let [switched, probation, rebooted, cut] = rest[..] else { anyhow::bail!("five servers") };
    lab.isolate(cut.number())?;
    let web = Service { starts_s: 4, stable_s: 10, ..Service::new("web", "2") };
    let component = network.service(&web)?;
    // Two servers hold the blob, so that it outlives the root.
    network.bring(top, &component)?;
    network.bring(switched, &component)?;
    let top_node = top.status()?["node"].clone();
    std::thread::scope(|scope| -> Result<()> {
        let faults = [
            scope.spawn(move || {
                at_state(switched, "switched", KILL_KEEPER)?;
                resumes(switched, 1)?;
                at_state(switched, "probation", KILL_KEEPER)?;
                resumes(switched, 2)
            }),
            scope.spawn(move || {
                at_state(probation, "probation", KILL_KEEPER)?;
                resumes(probation, 1)?;
                at_state(probation, "probation", KILL_KEEPER)?;
                resumes(probation, 2)
            }),
            scope.spawn(move || at_state(rebooted, "probation", "true").and(rebooted.reboot())),
            scope.spawn(move || at_state(top, "switched", "true").and(top.kill())),
        ];
        for server in [switched, probation, rebooted, top] {
            watches(server)?;
        }
        network.propose(Place::Node(switched), "2", &[component])?;
        network.approve(
            "release/2",
            ("ann", Place::Node(switched)),
            ("cleo", Place::Node(probation)),
        )?;
        for fault in faults {
            fault.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a fault panicked")))?;
        }
        Ok(())
    })?;
    for server in [switched, probation, rebooted] {
        server.wait_installed(2)?;
    }
    say(
        "the keeper was killed when switched and in probation, one server rebooted, the root lost its power: three have release/2",
    );
    let others = [switched, probation, rebooted];
    wait::until("the others find another root", TREE_BOUND, || {
        let mut roots = std::collections::BTreeSet::new();
        for server in others {
            let tree = server.status()?["tree"].clone();
            ensure!(tree["state"] == "attached", "{}: {tree}", server.host());
            ensure!(tree["root"] != top_node, "{}: {tree}", server.host());
            roots.insert(tree["root"].to_string());
        }
        Ok((roots.len() == 1).then_some(()))
    })?;
    say("without the old root the others made one tree");
    ensure!(cut.installed()? == 1, "the server that was cut off has heard of release/2");
    top.start()?;
    lab.heal()?;
    network.wait_tree()?;
    network.wait_installed(2)?;
    runs(lab, "2")?;
    say("the old root is on again, the cut is healed: one tree, release/2 on all five");
    Ok(())
}

/// Does something on a server as soon as its install stands at a state.
fn at_state(server: Server<'_>, state: &str, action: &str) -> Result<()> {
    let script = format!(
        "i=0; : >{WATCHES}; until grep -q '\"state\":\"{state}\"' /var/lib/borgios-keeper/journal.json; do \
         i=$((i + 1)); [ $i -lt 2400 ] || exit 9; sleep 0.05; done; {action}"
    );
    let what = format!("{}: the install at {state}", server.host());
    server.sh(&script).map(drop).context(what)
}

/// Waits until somebody looks at a server's install: only then may it begin.
fn watches(server: Server<'_>) -> Result<()> {
    wait::until_true(&format!("{} is watched", server.host()), SOON, || {
        Ok(server.try_sh(&format!("test -e {WATCHES}"))?.code == 0)
    })
}

/// Waits until a new keeper has gone on with what the old one left, so many times.
fn resumes(server: Server<'_>, times: usize) -> Result<()> {
    let what = format!("{}: a keeper goes on, {times} times", server.host());
    wait::until_true(&what, SOON, || {
        Ok(server.journal("-u borgios-keeper BORGIOS_EVENT=resumed BORGIOS_SEQ=2")?.len() >= times)
    })
}

/// release/3, whose health command fails.
fn sick(network: &Network<'_>) -> Result<()> {
    let lab = network.lab();
    network.release(3, &Service { well: false, ..Service::new("web", "3") })?;
    for server in lab.servers() {
        let status = server.wait_status("release/3 is taken back", TREE_BOUND, |status| {
            let last = &status["keeper"]["last"];
            last["release"] == 3 && last["outcome"] == "rolled_back"
        })?;
        let keeper = &status["keeper"];
        let reason = keeper["last"]["reason"].as_str().unwrap_or_default();
        ensure!(reason.starts_with("web is not well"), "{}: {keeper}", server.host());
        ensure!(keeper["installed"] == 2, "{}: {keeper}", server.host());
        let again = server.keeper(&json!({"verb": "install", "seq": 3}))?;
        ensure!(again.code() == "attempted", "{}: {again:?}", server.host());
    }
    runs(lab, "2")?;
    let five = |server: Server<'_>| -> Result<bool> {
        let nodes = server.borgios("nodes")?;
        let all = nodes["nodes"].as_array().context("no list of nodes")?;
        let told = all.iter().filter(|node| {
            node["report"]["release"] == 3 && node["report"]["outcome"] == "rolled_back"
        });
        Ok(told.count() == 5)
    };
    for server in lab.servers() {
        let what = format!("{} knows five reports of release/3", server.host());
        wait::until_true(&what, SOON, || five(server))?;
    }
    wait::holds("release/3 is tried once", CALM, || {
        for server in lab.servers() {
            let tried = server.journal("-u borgios-keeper BORGIOS_EVENT=staging BORGIOS_SEQ=3")?;
            if tried.len() != 1 || server.installed()? != 2 {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// What really runs on every server.
fn runs(lab: &Lab, version: &str) -> Result<()> {
    for server in lab.servers() {
        let found = server.sh("cat /opt/borgios/current/web/files/version")?;
        ensure!(found == version, "{} has web {found}, not {version}", server.host());
        let state = server.sh("systemctl is-active web borgiosd borgios-keeper")?;
        ensure!(state == "active\nactive\nactive", "{}: {state}", server.host());
    }
    Ok(())
}
