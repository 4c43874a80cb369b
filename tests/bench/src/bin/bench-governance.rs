//! `tests/run.sh bench governance`: what a board's key, nonces, votes and counting cost, beside FROST
//! driven plainly.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

use anyhow::{Context as _, Result};
use borgios_bench::{governance, machine};
use clap::Parser;

/// Measures boards of different sizes, one after the other, in one thread.
#[derive(Parser)]
struct Options {
    /// Boards, as T/N.
    #[arg(long, value_delimiter = ',', default_value = "2/3,3/5,5/9,7/13,11/21,15/21")]
    boards: Vec<String>,
    /// Rounds of everything but the key generation; medians are printed.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let before = machine::load();
    let mut rows = Vec::new();
    for board in &options.boards {
        let (t, n) = board.split_once('/').with_context(|| format!("{board:?}: write T/N"))?;
        let start = machine::cpu();
        rows.push(governance::measure(t.parse()?, n.parse()?, options.rounds)?);
        eprintln!("{board}: {:.1} s of CPU", (machine::cpu() - start).as_secs_f64());
    }
    if options.json {
        println!("{}", serde_json::json!({"rows": rows, "load_before": before}));
    } else {
        print!(
            "ours (left), frost-ed25519 plainly (right); milliseconds of CPU\n{}",
            governance::table(&rows)
        );
        println!("load before: {before:?}");
    }
    Ok(())
}
