//! `tests/run.sh bench tree`: what a broadcast costs, ours beside limits and peers.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use borgios_bench::raw_tree::Load;
use borgios_bench::rows;
use clap::Parser;

/// Measures broadcasts to a tree of nodes on this machine.
#[derive(Parser)]
struct Options {
    /// Measure one row in this process and print its JSON.
    #[arg(long)]
    row: String,
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
    /// Seconds of idling.
    #[arg(long, default_value_t = 0)]
    idle_s: u64,
    /// Where logs are made.
    #[arg(long, default_value = "target")]
    logs: PathBuf,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let load = Load {
        nodes: options.nodes,
        fanout: options.fanout,
        size: options.size,
        singles: options.singles,
        saturated: Duration::from_millis(options.saturated_ms),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .enable_all()
        .build()?;
    let idle = Duration::from_secs(options.idle_s);
    let row = runtime.block_on(rows::measure(&options.row, &load, &options.logs, idle))?;
    println!("{row}");
    Ok(())
}
