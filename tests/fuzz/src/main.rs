//! `tests/run.sh fuzz`: every parser under fire for a while; a finding ends it and is kept.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use borgios_fuzz::course::{Plan, run};
use borgios_fuzz::{TARGETS, Target};
use borgios_types::Digest;
use clap::Parser;
use rand::Rng as _;

/// Hostile bytes against every parser that sees the network or a file.
#[derive(Parser)]
struct Options {
    /// Seconds for all targets together.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Only these targets; again for each.
    #[arg(long = "target", value_name = "NAME")]
    targets: Vec<String>,
    /// Begins the random numbers [default: drawn, and printed].
    #[arg(long)]
    seed: Option<u64>,
    /// Keep inputs with a new outcome in the corpus.
    #[arg(long)]
    keep: bool,
    /// Try this one input of the one target named, as a finding is replayed.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// The kept inputs, a folder for each target.
    #[arg(long, default_value = "tests/fuzz/corpus")]
    corpus: PathBuf,
    /// Where findings are written.
    #[arg(long, default_value = "target/fuzz")]
    findings: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let wanted = |target: &&Target| {
        options.targets.is_empty() || options.targets.iter().any(|name| name == target.name)
    };
    let targets: Vec<&'static Target> = TARGETS.iter().filter(wanted).collect();
    if targets.is_empty() {
        eprintln!("there is no such target; there are:");
        TARGETS.iter().for_each(|target| eprintln!("  {}", target.name));
        return ExitCode::from(2);
    }
    if let Some(path) = &options.input {
        return one(&targets, path);
    }
    // The panics are findings; their backtraces would only hide the table.
    std::panic::set_hook(Box::new(|_| {}));
    let seed = options.seed.unwrap_or_else(|| rand::thread_rng().r#gen());
    let time = Duration::from_secs(options.seconds) / u32::try_from(targets.len()).unwrap_or(1);
    let plan =
        Plan { time, runs: u64::MAX, seed, corpus: options.corpus.clone(), keep: options.keep };
    if !options.json {
        println!("seed {seed}, {} ms for each of {} targets", time.as_millis(), targets.len());
        println!(
            "{:<18} {:>9} {:>8} {:>9} {:>10}",
            "", "inputs", "taken", "outcomes", "slowest ms"
        );
    }
    let mut failed = false;
    for target in targets {
        let outcome = run(target, &plan);
        let found = outcome.finding.as_ref().map(|(input, why)| {
            let path = options.findings.join(format!(
                "{}-{}",
                target.name,
                &Digest::of(input).hex()[..16]
            ));
            let written = std::fs::create_dir_all(&options.findings)
                .and_then(|()| std::fs::write(&path, input));
            let path =
                written.map_or_else(|error| error.to_string(), |()| path.display().to_string());
            (path, why.clone())
        });
        failed |= found.is_some();
        if options.json {
            println!(
                "{}",
                serde_json::json!({
                    "target": target.name, "seed": seed, "inputs": outcome.runs,
                    "taken": outcome.taken, "outcomes": outcome.outcomes,
                    "slowest_ms": outcome.slowest.as_secs_f64() * 1000.0,
                    "finding": found.as_ref().map(|(path, why)| format!("{path}: {why}")),
                })
            );
        } else {
            println!(
                "{:<18} {:>9} {:>8} {:>9} {:>10.1}",
                target.name,
                outcome.runs,
                outcome.taken,
                outcome.outcomes,
                outcome.slowest.as_secs_f64() * 1000.0
            );
            if let Some((path, why)) = &found {
                println!(
                    "  FINDING {why}\n  replay: borgios-fuzz --target {} --input {path}",
                    target.name
                );
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Tries one input, with whatever it panics with.
fn one(targets: &[&'static Target], path: &std::path::Path) -> ExitCode {
    let (Ok(input), [target]) = (std::fs::read(path), targets) else {
        eprintln!("name one --target, and an input that can be read");
        return ExitCode::from(2);
    };
    println!("{}", (target.run)(&input));
    ExitCode::SUCCESS
}
