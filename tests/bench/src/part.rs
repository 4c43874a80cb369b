//! One of several processes that share a tree: it holds every `parts`-th node, and does what it is told.
//!
//! ```text
//!  parted.rs ── one command a line ──▶ standard input        eth0 ── bridge ── eth0 of the others
//!            ◀── one answer a line ─── standard output
//! ```
//!
//! Node n lives in part n mod parts, so that nearly every link leaves its process and its network.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use borgios_relay::HubHandle;
use borgios_stream::{Durability, Relay, Role};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::board::Board;
use crate::carrier::{tls_child, tls_parent};
use crate::fleet::{self, Crew, PUBLISHERS, Pace, Setting, key, message};
use crate::machine::{self, now_ns};
use crate::raw_tree::Load;
use crate::rows;

/// Where a part listens for the children of its nodes.
const PORT: u16 = 20_000;

/// Which part this is.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Its number.
    pub number: usize,
    /// Of how many.
    pub parts: usize,
}

impl Part {
    fn address(number: usize) -> String {
        format!("10.99.0.{}", number + 1)
    }

    /// Its nodes.
    fn nodes(self, load: &Load) -> impl Iterator<Item = usize> {
        (self.number..load.nodes).step_by(self.parts)
    }
}

/// Does what standard input says until it ends.
///
/// # Errors
/// A node or a link that does not start, a command that is none.
pub async fn serve(part: Part, load: &Load, logs: &Path) -> Result<()> {
    let folder = tempfile::tempdir_in(logs)?;
    let setting = Setting {
        relay: Relay::Verified,
        logs: Some(folder.path().to_owned()),
        durability: Durability::Volatile,
    };
    let board = Arc::new(Board::new(load.nodes));
    let (heard, missed) = (Arc::new(Board::new(load.nodes)), Arc::new(AtomicU64::new(0)));
    let crew =
        Crew { setting: &setting, verifiers: None, board: &board, heard: &heard, missed: &missed };
    let mut hubs = Vec::new();
    for node in part.nodes(load) {
        hubs.push(crew.start(node).await?);
    }
    let hubs = Hubs { part, load, hubs };
    let receivers: Vec<usize> = part.nodes(load).filter(|node| *node > 0).collect();
    let last_ns = || receivers.iter().map(|node| board.last_of(*node)).max().unwrap_or(0);

    let mut lines = lines();
    let mut listener = None;
    say("ready")?;
    while let Some(line) = lines.recv().await {
        let (word, value) = line.split_once(' ').unwrap_or((line.as_str(), "0"));
        let value: u64 = value.parse()?;
        let answer = match word {
            "listen" => {
                let own = format!("{}/24", Part::address(part.number));
                ip(&["addr", "add", &own, "dev", "eth0"]).await?;
                ip(&["link", "set", "eth0", "up"]).await?;
                ip(&["link", "set", "lo", "up"]).await?;
                listener = Some(TcpListener::bind(("0.0.0.0", PORT)).await?);
                String::new()
            }
            "link" => {
                let listener = listener.as_ref().context("listen comes before link")?;
                tokio::try_join!(hubs.accept(listener), hubs.dial())?;
                String::new()
            }
            "publish" => {
                let (hub, begun) = (hubs.origin()?, now_ns());
                fleet::publish(hub, setting.durability, message(load.size, value)).await?;
                begun.to_string()
            }
            "saturate" => {
                let (hub, begun) = (hubs.origin()?, now_ns());
                let until = begun + value * 1_000_000;
                let durability = setting.durability;
                let pace = Pace::Saturated;
                let sent =
                    fleet::saturate(hub, durability, PUBLISHERS, pace, load.size, until).await?;
                sent.to_string()
            }
            "reach" => {
                let whole = board.reach_of(&receivers, value, Duration::from_secs(60)).await;
                ensure!(whole, "{} of {value} messages came", board.least_of(&receivers));
                last_ns().to_string()
            }
            "count" => {
                let wire = machine::received_bytes("lo") + machine::received_bytes("eth0");
                let cpu = machine::cpu().as_nanos();
                format!("{} {wire} {cpu} {}", board.least_of(&receivers), machine::memory())
            }
            other => bail!("there is no command {other}"),
        };
        say(&answer)?;
    }
    for hub in hubs.hubs {
        hub.stop().await;
    }
    Ok(())
}

/// Standard input, line by line, read by a thread.
fn lines() -> mpsc::Receiver<String> {
    let (tell, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { return };
            if tell.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Writes one line to standard output.
fn say(answer: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(format!("{answer}\n").as_bytes())?;
    Ok(output.flush()?)
}

/// The nodes of a part.
struct Hubs<'a> {
    part: Part,
    load: &'a Load,
    hubs: Vec<HubHandle>,
}

impl Hubs<'_> {
    fn origin(&self) -> Result<&HubHandle> {
        ensure!(self.part.number == 0, "the origin is in part 0");
        self.hubs.first().context("a part has nodes")
    }

    fn of(&self, node: usize) -> Result<&HubHandle> {
        ensure!(node % self.part.parts == self.part.number, "node {node} is elsewhere");
        self.hubs.get(node / self.part.parts).context("no such node")
    }

    /// Takes in all children of this part's nodes.
    async fn accept(&self, listener: &TcpListener) -> Result<()> {
        let parent = |child: usize| (child - 1) / self.load.fanout;
        let ours = |child: &usize| parent(*child) % self.part.parts == self.part.number;
        for _ in (1..self.load.nodes).filter(ours) {
            let (mut stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let child = usize::try_from(stream.read_u32().await?)?;
            ensure!((1..self.load.nodes).contains(&child), "there is no node {child}");
            let pipe = tls_parent(&rows::ring(), stream).await?;
            self.of(parent(child))?.link_up(key(child).public(), Role::Tree, pipe).await;
        }
        Ok(())
    }

    /// Links all of this part's nodes to their parents.
    async fn dial(&self) -> Result<()> {
        for child in self.part.nodes(self.load).filter(|node| *node > 0) {
            let parent = (child - 1) / self.load.fanout;
            let address = Part::address(parent % self.part.parts);
            let mut stream = TcpStream::connect((address.as_str(), PORT)).await?;
            stream.set_nodelay(true)?;
            stream.write_u32(u32::try_from(child)?).await?;
            let pipe = tls_child(&rows::ring(), stream).await?;
            self.of(child)?.link_up(key(parent).public(), Role::Tree, pipe).await;
        }
        Ok(())
    }
}

/// Runs `ip` in this network.
pub(crate) async fn ip(arguments: &[&str]) -> Result<()> {
    let status = Command::new("ip").args(arguments).status().await.context("cannot run ip")?;
    ensure!(status.success(), "ip {} failed", arguments.join(" "));
    Ok(())
}
