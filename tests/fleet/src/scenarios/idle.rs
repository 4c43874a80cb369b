//! What a fleet costs that has nothing to say: heartbeats, comparisons, keepalives, and all below them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::lab::Lab;
use crate::network::Network;
use crate::scenario::{Say, Scenario};
use crate::server::Server;
use crate::wait;

pub(super) const SCENARIO: Scenario =
    Scenario { name: "idle", about: "bytes a second of servers that have nothing to say", run };

const SERVERS: u8 = 8;
/// Until joins, reports and cross links have settled.
const SETTLE: Duration = Duration::from_secs(60);
/// How long is measured: several of the slowest things that servers do in seconds.
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
    // Only time passes: whoever asks meanwhile is measured too.
    wait::holds("time passes", SETTLE, || Ok(true))?;
    let before: Vec<u64> = lab.servers().map(Server::sent).collect::<Result<_>>()?;
    wait::holds("time passes", MEASURE, || Ok(true))?;
    let after: Vec<u64> = lab.servers().map(Server::sent).collect::<Result<_>>()?;
    network.wait_tree()?;
    let rates = before.iter().zip(&after).map(|(before, after)| (after - before) as f64);
    let rates: Vec<f64> = rates.map(|bytes| bytes / MEASURE.as_secs_f64()).collect();
    let mean = rates.iter().sum::<f64>() / rates.len() as f64;
    let most = rates.iter().copied().fold(0.0, f64::max);
    say(&format!(
        "{SERVERS} idle servers sent {mean:.0} bytes a second each, the busiest {most:.0}, \
         over {} s",
        MEASURE.as_secs()
    ));
    ensure!(mean <= SENT_MAX, "more than {SENT_MAX:.0}: {rates:.0?}");
    lab.take_down()
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
