//! `tests/run.sh bench tree`: what a broadcast costs, ours beside limits and peers.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use borgios_bench::raw_tree::Load;
use borgios_bench::session::{self, Measured};
use borgios_bench::{print, rows};
use clap::Parser;

/// Measures broadcasts to a tree of nodes on this machine; without `--row`, all rows.
#[derive(Parser)]
struct Options {
    /// Measure one row in this process and print its JSON.
    #[arg(long)]
    row: Option<String>,
    /// Rows of the table, by name; all by default.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Rounds; medians are printed.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Where the programs of peers are, if they have been built.
    #[arg(long, default_value = "tests/bench/peers/target/release")]
    peers_dir: PathBuf,
    /// Nodes.
    #[arg(long, default_value_t = 64)]
    nodes: usize,
    /// Children of a node.
    #[arg(long, default_value_t = 8)]
    fanout: usize,
    /// Bytes of a message.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Single messages for the latency.
    #[arg(long, default_value_t = 200)]
    singles: usize,
    /// Milliseconds of saturation.
    #[arg(long, default_value_t = 2000)]
    saturated_ms: u64,
    /// Seconds of idling, in the row that measures it.
    #[arg(long, default_value_t = 20)]
    idle_s: u64,
    /// Where logs are made.
    #[arg(long, default_value = "target")]
    logs: PathBuf,
}

fn main() -> Result<()> {
    let options = Options::parse();
    match &options.row {
        Some(row) => one(row, &options),
        None => all(&options),
    }
}

fn one(row: &str, options: &Options) -> Result<()> {
    let load = Load {
        nodes: options.nodes,
        fanout: options.fanout,
        size: options.size,
        singles: options.singles,
        saturated: Duration::from_millis(options.saturated_ms),
    };
    // Two, whatever the machine has: figures of different machines are then of one kind.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .enable_all()
        .build()?;
    let idle = Duration::from_secs(options.idle_s);
    println!("{}", runtime.block_on(rows::measure(row, &load, &options.logs, idle))?);
    Ok(())
}

fn all(options: &Options) -> Result<()> {
    let program = std::env::current_exe().context("this program has no path")?;
    let names: Vec<String> = if options.rows.is_empty() {
        rows::ROWS.iter().map(|row| (*row).to_owned()).collect()
    } else {
        let of_peers = |row: &&String| rows::PEERS.contains(&row.as_str());
        options.rows.iter().filter(|row| !of_peers(row)).cloned().collect()
    };
    let mut measured = Vec::new();
    for name in names {
        let number = |flag: &str, value: u64| [format!("--{flag}"), value.to_string()];
        let mut arguments = vec!["--row".to_owned(), name.clone()];
        arguments.extend(number("nodes", options.nodes as u64));
        arguments.extend(number("fanout", options.fanout as u64));
        arguments.extend(number("size", options.size as u64));
        arguments.extend(number("singles", options.singles as u64));
        arguments.extend(number("saturated-ms", options.saturated_ms));
        // Idling takes long: once, in the row that stands for ours.
        let idle = if name == "ours-tls" { options.idle_s } else { 0 };
        arguments.extend(number("idle-s", idle));
        arguments.extend(["--logs".to_owned(), options.logs.display().to_string()]);
        measured.push(Measured { name, program: program.clone(), arguments });
    }
    measured.extend(peers(options));
    let report = session::rounds(&measured, options.rounds, |text| eprintln!("{text}"))?;
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", print::report(&report));
    }
    Ok(())
}

/// Peers whose programs are there.
fn peers(options: &Options) -> Vec<Measured> {
    let all = rows::PEERS.iter().map(|name| {
        let program = options.peers_dir.join(format!("peer-{name}"));
        let mut arguments = vec![options.nodes.to_string(), options.size.to_string()];
        arguments.extend(["--singles".to_owned(), options.singles.to_string()]);
        Measured { name: (*name).to_owned(), program, arguments }
    });
    let wanted = |name: &String| options.rows.is_empty() || options.rows.contains(name);
    all.filter(|peer| wanted(&peer.name) && Path::exists(&peer.program)).collect()
}
