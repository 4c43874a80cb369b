//! `tests/run.sh fuzz`: every parser under fire for a while; a finding ends it and is kept.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{fs, io};

use borgios_fuzz::course::{Plan, listen, run};
use borgios_fuzz::mutate::dictionary;
use borgios_fuzz::{TARGETS, Target, agents, ceremony, papers, seeds};
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
    /// Print the names of the targets, and stop.
    #[arg(long)]
    list: bool,
    /// Lay the seeds of the targets into this folder, each with a dictionary, and stop: what the
    /// guided fuzzer starts from.
    #[arg(long, value_name = "DIR")]
    lay: Option<PathBuf>,
    /// Record the courses of papers anew, where their format has changed, and stop.
    #[arg(long)]
    record: bool,
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
    if options.list {
        targets.iter().for_each(|target| println!("{}", target.name));
        return ExitCode::SUCCESS;
    }
    if options.record {
        return told(record(Path::new("tests/fuzz/recorded")));
    }
    if let Some(folder) = &options.lay {
        return told(targets.iter().try_for_each(|target| lay(target, folder)));
    }
    if let Some(path) = &options.input {
        return one(&targets, path);
    }
    // The panics are findings; their backtraces would only hide the table.
    listen(false);
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
    agents::end();
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn told(done: io::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn record(folder: &Path) -> io::Result<()> {
    for (name, course) in [
        ("founding", ceremony::record()),
        ("repair", papers::record_repair()),
        ("change", papers::record_change()),
    ] {
        fs::write(folder.join(format!("{name}.json")), course.to_text())?;
    }
    Ok(())
}

/// `DIR/NAME/…` and `DIR/NAME.dict`.
fn lay(target: &Target, folder: &Path) -> io::Result<()> {
    let own = folder.join(target.name);
    fs::create_dir_all(&own)?;
    let seeds = seeds::of(target.name);
    for seed in &seeds {
        fs::write(own.join(&Digest::of(seed).hex()[..16]), seed)?;
    }
    fs::write(folder.join(format!("{}.dict", target.name)), dictionary(&seeds))
}

/// Tries one input, with whatever it panics with.
fn one(targets: &[&'static Target], path: &Path) -> ExitCode {
    let (Ok(input), [target]) = (std::fs::read(path), targets) else {
        eprintln!("name one --target, and an input that can be read");
        return ExitCode::from(2);
    };
    println!("{}", (target.run)(&input));
    agents::end();
    ExitCode::SUCCESS
}
