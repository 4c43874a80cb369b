//! `tests/run.sh bench tree`: what a broadcast costs, ours beside limits and peers.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use borgios_bench::part::{self, Part};
use borgios_bench::raw_tree::Load;
use borgios_bench::session::{self, Measured};
use borgios_bench::{parted, print, rows};
use clap::Parser;
use rustix::process::Resource;
use tokio::runtime::Runtime;

/// Measures broadcasts to a tree of nodes on this machine; without `--row`, all rows.
#[derive(Parser)]
struct Options {
    /// Measure one row in this process and print its JSON.
    #[arg(long)]
    row: Option<String>,
    /// Be one of the processes of row `ours-tls-parted`.
    #[arg(long, hide = true)]
    part: Option<usize>,
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
    /// Where logs are made. In memory by default: 64 nodes that share one disk measure that disk.
    #[arg(long, default_value = "/dev/shm")]
    logs: PathBuf,
}

fn main() -> Result<()> {
    let options = Options::parse();
    match (&options.row, options.part) {
        (Some(row), _) => one(row, &options),
        (None, Some(number)) => {
            let part = Part { number, parts: parted::PARTS };
            runtime()?.block_on(part::serve(part, &load(&options), &options.logs))
        }
        (None, None) => all(&options),
    }
}

fn load(options: &Options) -> Load {
    Load {
        nodes: options.nodes,
        fanout: options.fanout,
        size: options.size,
        singles: options.singles,
        saturated: Duration::from_millis(options.saturated_ms),
    }
}

/// Two threads, whatever the machine has: figures of different machines are then of one kind.
fn runtime() -> Result<Runtime> {
    // A thousand nodes have some thousand files and sockets; where they may not, that row says so.
    let mut files = rustix::process::getrlimit(Resource::Nofile);
    files.current = files.maximum;
    let _ = rustix::process::setrlimit(Resource::Nofile, files);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(2).max_blocking_threads(8).enable_all().build()?)
}

fn one(row: &str, options: &Options) -> Result<()> {
    let idle = Duration::from_secs(options.idle_s);
    let load = load(options);
    let measuring = rows::measure(row, &load, &options.logs, idle);
    println!("{}", runtime()?.block_on(measuring)?);
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
        arguments.extend(["--logs".to_owned(), options.logs.display().to_string()]);
        // Idling takes long: once, in the row that stands for ours.
        let idle = if name == "ours-tls" { options.idle_s } else { 0 };
        let first = number("idle-s", idle).to_vec();
        let once = rows::ONCE.contains(&name.as_str());
        let later = (!once).then(|| number("idle-s", 0).to_vec());
        measured.push(Measured { name, program: program.clone(), arguments, first, later });
    }
    let (peers, absent) = peers(options);
    measured.extend(peers);
    let tell = |text: &str| eprintln!("{text}");
    let report = session::rounds(&measured, options.rounds, absent, tell)?;
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", print::report(&report));
    }
    Ok(())
}

/// Peers whose programs are there, and why others are not.
fn peers(options: &Options) -> (Vec<Measured>, BTreeMap<String, String>) {
    let (mut there, mut absent) = (Vec::new(), BTreeMap::new());
    for peer in rows::PEERS {
        let name = (*peer).to_owned();
        let program = options.peers_dir.join(peer);
        let why = if !options.rows.is_empty() && !options.rows.contains(&name) {
            "not asked for".to_owned()
        } else if !program.exists() {
            format!("not built: `tests/run.sh bench tree --peers` makes {}", program.display())
        } else if let Some(needed) = rows::needs(peer).filter(|needed| !is_installed(needed)) {
            format!("{needed} is not installed")
        } else {
            let mut arguments = vec![options.nodes.to_string(), options.size.to_string()];
            arguments.extend(["--singles".to_owned(), options.singles.to_string()]);
            there.push(Measured { name, program, arguments, first: Vec::new(), later: None });
            continue;
        };
        absent.insert(name, why);
    }
    (there, absent)
}

/// Whether a program is on the path.
fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}
