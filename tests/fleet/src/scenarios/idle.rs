//! What a fleet costs that has nothing to say: heartbeats, comparisons, keepalives, and all below them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::journal::Mark;
use crate::lab::Lab;
use crate::network::Network;
use crate::scenario::{Say, Scenario};
use crate::server::Server;
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "idle",
    about: "bytes a second of servers that have nothing to say",
    alone: true,
    run,
};

const SERVERS: u8 = 8;
/// A fleet has settled once no link has come up for so long: joins and cross links are done, and the
/// root, who looks for other trees every 20 s for some minutes after anything that hints at one, finds
/// none. Such a dial costs as much as a server may send in 50 s.
const QUIET: Duration = Duration::from_secs(60);
/// Longest until then.
const SETTLED_BOUND: Duration = Duration::from_secs(600);
/// How long is measured: several of the slowest things that servers do in seconds, and as a rule one
/// dial of the root.
const MEASURE: Duration = Duration::from_secs(120);
/// Bytes that a server may send a second, on the average, with Ethernet, IP and TCP.
const SENT_MAX: f64 = 200.0;

fn run(say: &Say) -> Result<()> {
    let lab = Lab::up(SERVERS)?;
    let network = Network::founded(&lab, "idle")?;
    network.join_all()?;
    network.wait_tree()?;
    let receipt = lab.server(2).borgios("broadcast --kind test 'something to compare'")?;
    ensure!(receipt["number"].is_u64(), "{receipt}");
    settled(&lab)?;
    let since = Mark::now();
    let before: Vec<u64> = lab.servers().map(Server::sent).collect::<Result<_>>()?;
    wait::holds("time passes", MEASURE, || Ok(true))?;
    let after: Vec<u64> = lab.servers().map(Server::sent).collect::<Result<_>>()?;
    let links = links_up(&lab, since)?;
    network.wait_tree()?;
    let rates = before.iter().zip(&after).map(|(before, after)| (after - before) as f64);
    let rates: Vec<f64> = rates.map(|bytes| bytes / MEASURE.as_secs_f64()).collect();
    let mean = rates.iter().sum::<f64>() / rates.len() as f64;
    let most = rates.iter().copied().fold(0.0, f64::max);
    say(&format!(
        "{SERVERS} idle servers sent {mean:.0} bytes a second each, the busiest {most:.0}, \
         over {} s; {links} ends of links came up meanwhile",
        MEASURE.as_secs()
    ));
    ensure!(mean <= SENT_MAX, "more than {SENT_MAX:.0}: {rates:.0?}");
    lab.take_down()
}

/// Waits until the fleet has settled. Only time passes: whoever asks meanwhile is in the way.
fn settled(lab: &Lab) -> Result<()> {
    wait::until("nobody dials anybody", SETTLED_BOUND, || {
        let since = Mark::now();
        wait::holds("time passes", QUIET, || Ok(true))?;
        let links = links_up(lab, since)?;
        ensure!(links == 0, "{links} ends of links came up within {} s", QUIET.as_secs());
        Ok(Some(()))
    })
}

/// How many links came up since then, each counted at both of its ends.
fn links_up(lab: &Lab, since: Mark) -> Result<usize> {
    lab.servers().try_fold(0, |sum, server| {
        Ok(sum + server.journal_after(since, "-u borgiosd BORGIOS_EVENT=link_up")?.len())
    })
}

impl Server<'_> {
    /// Bytes that it has sent over all its interfaces but the loopback.
    fn sent(self) -> Result<u64> {
        let script = "awk -F'[: ]+' '/:/ && !/ lo:/ { sub(/^[^:]*:/, \"\"); split($0, f, \" \"); \
                      n += f[9] } END { print n }' /proc/net/dev";
        let text = self.try_sh(script)?.ok()?.text().trim().to_owned();
        text.parse().with_context(|| format!("{}: no number of bytes: {text}", self.host()))
    }
}
