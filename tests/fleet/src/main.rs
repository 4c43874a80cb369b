//! borgios-fleet: names and runs the fleet's scenarios; `tests/run.sh fleet` is its usual door.
//!
//! One line per scenario on standard output, `PASS name (12.3 s)`, `FAIL name: why` or `SKIP name: why`, or with
//! `--json` one object per scenario; milestones and reasons go to standard error. Exit code 0: all
//! passed, 1: some failed, 2: usage.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use borgios_fleet::lane::{self, LANES_MAX};
use borgios_fleet::scenario::{self, Outcome, Scenario};
use borgios_fleet::scenarios::ALL;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Fleet tests on real servers in the lab", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Name every scenario
    List,
    /// Run scenarios; when none is named, all but the long ones
    Run {
        /// Which, by name
        names: Vec<String>,
        /// Print one JSON object per scenario
        #[arg(long)]
        json: bool,
        /// How many at once, each in a lab of its own; those that measure run alone
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=LANES_MAX as i64))]
        lanes: u8,
    },
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().verb {
        Verb::List => {
            for scenario in scenario::every() {
                print(&format!("{:12} {}", scenario.name, scenario.about))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Verb::Run { names, json, lanes } => match choose(&names) {
            Ok(scenarios) => run(&scenarios, json, usize::from(lanes)),
            Err(unknown) => {
                let known: Vec<_> = scenario::every().map(|scenario| scenario.name).collect();
                note(&format!("no scenario '{unknown}'; there are: {}", known.join(", ")));
                Ok(ExitCode::from(2))
            }
        },
    }
}

/// The scenarios named, or all; the error is the first name nobody has.
fn choose(names: &[String]) -> Result<Vec<Scenario>, String> {
    if names.is_empty() {
        return Ok(ALL.to_vec());
    }
    names.iter().map(|name| scenario::find(name).ok_or_else(|| name.clone())).collect()
}

fn run(scenarios: &[Scenario], json: bool, lanes: usize) -> Result<ExitCode> {
    let ended = |outcome: &Outcome| {
        if let Some(why) = &outcome.failure {
            why.lines().for_each(|line| say(outcome.name, line));
        }
        // Whoever does not read what is printed still gets the exit code.
        drop(print(&if json { as_json(outcome) } else { as_line(outcome) }));
    };
    let outcomes = lane::run(scenarios, lanes, say, &ended);
    let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    let skipped = outcomes.iter().filter(|outcome| outcome.skipped.is_some()).count();
    let passed = scenarios.len() - failed - skipped;
    note(&format!("{passed} of {} scenarios passed, {skipped} skipped", scenarios.len()));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn as_line(outcome: &Outcome) -> String {
    let seconds = outcome.took.as_secs_f64();
    if let Some(why) = &outcome.skipped {
        return format!("SKIP {}: {}", outcome.name, why.lines().next().unwrap_or_default());
    }
    match &outcome.failure {
        None => format!("PASS {} ({seconds:.1} s)", outcome.name),
        Some(why) => {
            let first = why.lines().next().unwrap_or_default();
            format!("FAIL {}: {first} ({seconds:.1} s)", outcome.name)
        }
    }
}

fn as_json(outcome: &Outcome) -> String {
    serde_json::json!({
        "name": outcome.name,
        "passed": outcome.failure.is_none() && outcome.skipped.is_none(),
        "skipped": outcome.skipped,
        "failure": outcome.failure,
        "seconds": outcome.took.as_secs_f64(),
    })
    .to_string()
}

fn print(line: &str) -> std::io::Result<()> {
    // In one piece: another lane's line may be on its way to the same pipe.
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes())
}

/// Scenarios run side by side: each line says whose it is.
fn say(name: &str, milestone: &str) {
    note(&format!("  {name}: {milestone}"));
}

fn note(line: &str) {
    // A reader of the milestones who has gone away is no reason to stop.
    drop(std::io::stderr().lock().write_all(format!("{line}\n").as_bytes()));
}
