//! Runs a scenario of the simulated fleet: `borgios-sim SCENARIO [--seed N | --seeds N] [--nodes N]`.
//!
//! Exit code 0: every seed passed; 1: one failed (its replay command is printed); 2: wrong usage.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program prints")]

mod heap;
mod million;

use std::process::ExitCode;

use borgios_peertree::sim::trace::Sink;
use borgios_peertree::sim::{Outcome, Scenario};
use serde_json::json;

const USAGE: &str =
    "usage: borgios-sim SCENARIO [--seed N] [--seeds N] [--nodes N] [--json] [--trace]

  SCENARIO    spine, root-death, partition or churn
  --seed N    run this seed only
  --seeds N   run seeds 1 to N (default 50)
  --nodes N   machines, 5 to 5000 (default: the scenario's own)
  --json      one JSON object per seed, and a last one with the counts
  --trace     print every event (with --seed)";

/// What the command line asks for.
struct Asked {
    scenario: Scenario,
    seeds: std::ops::RangeInclusive<u64>,
    nodes: usize,
    json: bool,
    trace: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    if arguments.first().is_some_and(|first| first == "million") {
        return giant(&arguments[1..]);
    }
    match parse(&arguments) {
        Ok(asked) => run(&asked),
        Err(error) => {
            eprintln!("error: {error}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn giant(arguments: &[String]) -> ExitCode {
    let mut asked = million::Asked { nodes: 1_000_000, fanout: None, seed: 1, json: false };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut number = |least: u64, most: u64| {
            let number = words.next().and_then(|text| text.parse::<u64>().ok());
            number
                .filter(|n| (least..=most).contains(n))
                .ok_or_else(|| format!("{word}: expected a number from {least} to {most}"))
        };
        let taken = match word.as_str() {
            "--json" => {
                asked.json = true;
                Ok(())
            }
            "--nodes" => number(2, 4_000_000).map(|nodes| asked.nodes = nodes as u32),
            "--fanout" => number(2, 256).map(|fanout| asked.fanout = Some(fanout as u16)),
            "--seed" => number(0, u64::MAX).map(|seed| asked.seed = seed),
            other => Err(format!("million: unknown option {other}")),
        };
        if let Err(error) = taken {
            eprintln!("error: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    }
    match million::run(&asked) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Result<Asked, String> {
    let mut words = arguments.iter();
    let mut scenario: Option<Scenario> = None;
    let (mut seeds, mut nodes, mut json, mut trace) = (1..=50, None, false, false);
    while let Some(word) = words.next() {
        let mut number = |least: u64, most: u64| {
            let text = words.next().ok_or_else(|| format!("{word} needs a number"))?;
            let number = text.parse::<u64>().ok().filter(|n| (least..=most).contains(n));
            number.ok_or_else(|| format!("{word} {text}: expected a number from {least} to {most}"))
        };
        match word.as_str() {
            "--seed" => {
                let seed = number(0, u64::MAX)?;
                seeds = seed..=seed;
            }
            "--seeds" => seeds = 1..=number(1, 1_000_000)?,
            "--nodes" => nodes = usize::try_from(number(5, 5_000)?).ok(),
            "--json" => json = true,
            "--trace" => trace = true,
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            name if scenario.is_none() => {
                scenario = Some(name.parse().map_err(|error| format!("{error}"))?);
            }
            extra => return Err(format!("unexpected argument {extra}")),
        }
    }
    let scenario = scenario.ok_or("no scenario was named")?;
    let nodes = nodes.unwrap_or_else(|| scenario.default_nodes());
    if trace && seeds.start() != seeds.end() {
        return Err("--trace needs --seed".to_owned());
    }
    Ok(Asked { scenario, seeds, nodes, json, trace })
}

fn run(asked: &Asked) -> ExitCode {
    let (mut passed, mut failed) = (0_u64, Vec::new());
    for seed in asked.seeds.clone() {
        let sink = asked.trace.then(|| Box::new(|line: &str| println!("{line}")) as Sink);
        let outcome = asked.scenario.run(seed, asked.nodes, sink);
        if asked.json {
            println!("{}", json!(outcome));
        } else {
            println!("{}", line(&outcome));
        }
        if outcome.violation.is_none() {
            passed += 1;
        } else {
            if !asked.json {
                println!("replay: {}", replay(asked, seed));
            }
            failed.push(seed);
        }
    }
    if asked.json {
        let replays: Vec<String> = failed.iter().map(|seed| replay(asked, *seed)).collect();
        let counts = json!({
            "scenario": asked.scenario.to_string(), "nodes": asked.nodes,
            "passed": passed, "failed": failed.len(), "replay": replays,
        });
        println!("{counts}");
    } else {
        println!("{}: {passed} passed, {} failed", asked.scenario, failed.len());
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(asked: &Asked, seed: u64) -> String {
    let usual = asked.nodes == asked.scenario.default_nodes();
    let nodes = if usual { String::new() } else { format!(" --nodes {}", asked.nodes) };
    format!("borgios-sim {} --seed {seed}{nodes}", asked.scenario)
}

fn line(outcome: &Outcome) -> String {
    let Outcome { scenario, seed, nodes, trace, events, height, .. } = outcome;
    let verdict = match &outcome.violation {
        None => "ok".to_owned(),
        Some(violation) => format!("FAILED at {violation}"),
    };
    format!(
        "{scenario} seed {seed}: {nodes} nodes, {events} events, {} s virtual, slowest heal {:.1} s, \
         height {height}, trace {trace}: {verdict}",
        outcome.virtual_ms / 1_000,
        outcome.slowest_heal_ms as f64 / 1_000.0,
    )
}
