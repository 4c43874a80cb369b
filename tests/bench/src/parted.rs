//! The tree in several processes, each in a network namespace of its own, joined by a bridge.
//!
//! ```text
//!  this process's network: br0 ─┬─ v0 ══ eth0 of part 0 (the origin)
//!                               ├─ v1 ══ eth0 of part 1
//!                               └─ …
//! ```
//!
//! Everything made here is in namespaces that end with their processes: nothing is left behind,
//! however this ends.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::machine::now_ns;
use crate::part::ip;
use crate::raw_tree::Load;
use crate::row::Row;
use crate::singles::{self, WARM_UP};

/// Longest wait for a part to end.
const PATIENCE: Duration = Duration::from_secs(5);
/// Processes.
pub const PARTS: usize = 8;

/// One process.
struct Talk {
    /// Killed when this ends.
    child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Talk {
    async fn start(number: usize, load: &Load, logs: &Path) -> Result<Self> {
        let program = std::env::current_exe().context("this program has no path")?;
        let mut command = Command::new("unshare");
        command.arg("-n").arg(program).args(["--part", &number.to_string()]);
        for (name, value) in [("nodes", load.nodes), ("fanout", load.fanout), ("size", load.size)] {
            command.args([format!("--{name}"), value.to_string()]);
        }
        command.arg("--logs").arg(logs);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("cannot run unshare")?;
        let commands = child.stdin.take().context("a pipe was asked for")?;
        let answers = BufReader::new(child.stdout.take().context("a pipe was asked for")?).lines();
        let pid = child.id().context("it runs")?.to_string();
        let mut talk = Self { child, commands, answers };
        ensure!(talk.hear().await? == "ready", "part {number} is not ready");
        let port = format!("v{number}");
        ip(&["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &pid]).await?;
        ip(&["link", "set", &port, "master", "br0", "up"]).await?;
        Ok(talk)
    }

    async fn say(&mut self, command: &str) -> Result<()> {
        Ok(self.commands.write_all(format!("{command}\n").as_bytes()).await?)
    }

    async fn hear(&mut self) -> Result<String> {
        self.answers.next_line().await?.context("a part has ended")
    }
}

/// Says the same to all and hears what all answer.
async fn all(parts: &mut [Talk], command: &str) -> Result<Vec<String>> {
    for part in parts.iter_mut() {
        part.say(command).await?;
    }
    let mut answers = Vec::new();
    for part in parts {
        answers.push(part.hear().await?);
    }
    Ok(answers)
}

/// What all parts have counted so far.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    least: u64,
    wire: u64,
    cpu_ns: u64,
    memory: u64,
}

async fn count(parts: &mut [Talk]) -> Result<Count> {
    let mut sum = Count { least: u64::MAX, ..Count::default() };
    for answer in all(parts, "count").await? {
        let words: Result<Vec<u64>, _> = answer.split(' ').map(str::parse).collect();
        let [least, wire, cpu_ns, memory] = words?[..] else { anyhow::bail!("no count: {answer}") };
        sum.least = sum.least.min(least);
        sum.wire += wire;
        sum.cpu_ns += cpu_ns;
        sum.memory += memory;
    }
    Ok(sum)
}

/// Measures the row.
///
/// # Errors
/// No network namespaces, or a tree that does not carry.
pub async fn measure(name: &str, load: &Load, logs: &Path) -> Result<Row> {
    ip(&["link", "add", "br0", "type", "bridge"]).await?;
    ip(&["link", "set", "br0", "up"]).await?;
    let mut parts = Vec::new();
    for number in 0..PARTS {
        parts.push(Talk::start(number, load, logs).await?);
    }
    let row = course(name, load, &mut parts).await;
    for part in parts {
        // Their input ends, so they do; who does not is killed.
        let Talk { mut child, commands, .. } = part;
        drop(commands);
        let _ = tokio::time::timeout(PATIENCE, child.wait()).await;
    }
    row
}

async fn course(name: &str, load: &Load, parts: &mut [Talk]) -> Result<Row> {
    all(parts, "listen").await?;
    all(parts, "link").await?;

    let mut late_ms = Vec::new();
    for number in 0..load.singles + WARM_UP {
        let reach = format!("reach {}", number + 1);
        for part in &mut parts[1..] {
            part.say(&reach).await?;
        }
        parts[0].say(&format!("publish {number}\n{reach}")).await?;
        let begun: u64 = parts[0].hear().await?.parse()?;
        let mut last_ns = 0_u64;
        for part in parts.iter_mut() {
            last_ns = last_ns.max(part.hear().await?.parse()?);
        }
        if number >= WARM_UP {
            late_ms.push(last_ns.saturating_sub(begun) as f64 / 1e6);
        }
        tokio::time::sleep(singles::REST).await;
    }
    late_ms.sort_by(f64::total_cmp);

    let (before, begun) = (count(parts).await?, now_ns());
    parts[0].say(&format!("saturate {}", load.saturated.as_millis())).await?;
    let sent: u64 = parts[0].hear().await?.parse()?;
    let mut last_ns = 0_u64;
    for answer in all(parts, &format!("reach {}", before.least + sent)).await? {
        last_ns = last_ns.max(answer.parse()?);
    }
    let after = count(parts).await?;
    let deliveries = (sent * (load.nodes as u64 - 1)) as f64;
    let seconds = last_ns.saturating_sub(begun) as f64 / 1e9;
    Ok(Row {
        name: name.to_owned(),
        class: "ours".to_owned(),
        nodes: load.nodes,
        fanout: Some(load.fanout),
        size: load.size,
        p50_ms: singles::percentile(&late_ms, 50),
        p99_ms: singles::percentile(&late_ms, 99),
        deliveries_per_s: Some(deliveries / seconds),
        bytes_vs_minimum: Some((after.wire - before.wire) as f64 / (deliveries * load.size as f64)),
        memory_mb: Some(after.memory as f64 / 1e6 / load.nodes as f64),
        cpu_us_per_delivery: Some((after.cpu_ns - before.cpu_ns) as f64 / 1e3 / deliveries),
        lost: Some(0),
        note: format!("{PARTS} processes, each in a network of its own, joined by a bridge"),
        ..Row::default()
    })
}
