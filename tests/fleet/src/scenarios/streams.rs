//! A server says hundreds of things while another is cut off and a third one's agent dies: all read
//! each of them once, in order.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::lab::Lab;
use crate::network::{Network, TREE_BOUND};
use crate::scenario::{Say, Scenario};
use crate::server::Server;
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "streams",
    about: "hundreds of messages through a cut and a kill",
    alone: false,
    run,
};

const SERVERS: u8 = 4;
/// Messages said.
const MESSAGES: u64 = 300;
/// Of these, before the trouble begins.
const BEFORE: u64 = 50;
const SOON: Duration = Duration::from_secs(60);

fn run(say: &Say) -> Result<()> {
    let lab = Lab::up(SERVERS)?;
    let network = Network::founded(&lab, "streams")?;
    network.join_all()?;
    network.wait_tree()?;
    let speaker = lab.server(2);
    let (killed, cut) = (lab.server(3), lab.server(4));
    let node = speaker.status()?["node"].as_str().context("a node has a key")?.to_owned();
    std::thread::scope(|scope| -> Result<()> {
        let speaking = scope.spawn(move || speaker.says(MESSAGES));
        wait::until_true("the first messages are heard", SOON, || {
            Ok(killed.tail(&node)?.len() as u64 >= BEFORE)
        })?;
        lab.isolate(cut.number())?;
        killed.sh("kill -9 $(systemctl show -p MainPID --value borgiosd)")?;
        speaking.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the speaker panicked")))
    })?;
    say("300 messages said; one server was cut off and one agent killed meanwhile");
    let heard = u64::try_from(cut.tail(&node)?.len())?;
    ensure!(heard < MESSAGES, "the server that is cut off has heard all {heard} messages");
    lab.heal()?;
    for server in lab.servers() {
        let what = format!("{} has heard everything", server.host());
        wait::until_true(&what, TREE_BOUND, || Ok(server.tail(&node)?.len() as u64 >= MESSAGES))?;
        in_order(server, &node)?;
    }
    say("every server has each message once, in order");
    // What is said goes on where it ended, also after the speaker itself died.
    speaker.sh("kill -9 $(systemctl show -p MainPID --value borgiosd)")?;
    network.wait_tree()?;
    let receipt = speaker.borgios("broadcast --kind test 'still here'")?;
    ensure!(receipt["origin"] == node.as_str(), "{receipt}");
    for server in lab.servers() {
        let what = format!("{} hears the speaker again", server.host());
        wait::until_true(&what, TREE_BOUND, || {
            let last = server.tail(&node)?.pop().context("nothing heard")?;
            Ok(last["text"] == "still here")
        })?;
        ensure!(server.tail(&node)?.len() as u64 == MESSAGES + 1, "{}", server.host());
    }
    say("the speaker's agent was killed: its stream goes on");
    lab.take_down()
}

impl Server<'_> {
    /// Says so many numbered messages, one after the other.
    fn says(self, messages: u64) -> Result<()> {
        let script = format!(
            "for n in $(seq 1 {messages}); do {} broadcast --kind test \"message $n\" >/dev/null \
             || exit 1; done",
            crate::member::CLI
        );
        self.feed(&script, b"", Duration::from_secs(180))?.ok().map(drop)
    }

    /// What it has heard of one server, in its order.
    fn tail(self, node: &str) -> Result<Vec<serde_json::Value>> {
        let script = format!("{} stream tail --origin '{node}' --json", crate::member::CLI);
        let output = self.try_sh(&script)?;
        // Nothing heard of it yet, or an agent that is just starting.
        let Ok(output) = output.ok() else { return Ok(Vec::new()) };
        output.text().lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

/// Each message once, in order.
fn in_order(server: Server<'_>, node: &str) -> Result<()> {
    let heard = server.tail(node)?;
    for (message, n) in heard.iter().zip(1..) {
        let expected = format!("message {n}");
        ensure!(
            message["number"] == n && message["text"] == expected.as_str(),
            "{}: expected {expected}, found {message}",
            server.host()
        );
    }
    ensure!(heard.len() as u64 == MESSAGES, "{} heard {} messages", server.host(), heard.len());
    Ok(())
}
