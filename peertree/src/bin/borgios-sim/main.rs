//! Runs a scenario of the simulated fleet: `borgios-sim FILE [--seed N | --seeds N] [--svg DIR]`.
//!
//! Exit code 0: every seed passed; 1: one failed (its replay command is printed); 2: wrong usage.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program prints")]

mod built_in;
mod heap;
mod million;

use std::io::{BufRead as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use borgios_peertree::sim::script::SCRIPT_MAX;
use borgios_peertree::sim::trace::Sink;
use borgios_peertree::sim::{Outcome, Script, draw};
use serde_json::json;

const USAGE: &str = "usage: borgios-sim SCENARIO [--seed N] [--seeds N] [--nodes N] [--json] [--svg DIR] [--trace] [--step]
       borgios-sim million [--nodes N] [--fanout K] [--seed N] [--json]
       borgios-sim list

  SCENARIO    a scenario file, or the name of one that `list` prints
  --seed N    run this seed only
  --seeds N   run seeds 1 to N (default 50)
  --nodes N   machines, 5 to 5000 (default: the scenario's own)
  --json      one JSON object per seed, and a last one with the counts
  --svg DIR   draw the tree and the coverage of the last broadcast of each seed
  --trace     print every event and every line of the scenario (with --seed)
  --step      the same, and wait for Enter before every line
  million     a million nodes at fan-outs 3, 10, 25 and 100, or at one of them; use a release build";

/// What the command line asks for.
struct Asked {
    scenario: String,
    seeds: std::ops::RangeInclusive<u64>,
    nodes: Option<usize>,
    json: bool,
    svg: Option<PathBuf>,
    trace: bool,
    step: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let done = match arguments.first().map(String::as_str) {
        Some("list") => {
            built_in::ALL.iter().for_each(|(name, text)| println!("{name:<20} {}", about(text)));
            Ok(true)
        }
        Some("million") => match million::parse(&arguments[1..]) {
            Ok(asked) => million::run(&asked),
            Err(error) => return wrong(&error),
        },
        _ => match parse(&arguments).and_then(|asked| Ok((read(&asked.scenario)?, asked))) {
            Ok((script, asked)) => run(&script, &asked),
            Err(error) => return wrong(&error),
        },
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn wrong(error: &str) -> ExitCode {
    eprintln!(
        "error: {error}\n\nhint: `borgios-sim --help` explains the command line, peertree/README.md the language"
    );
    ExitCode::from(2)
}

/// The first comment of a scenario.
fn about(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_start_matches('#').trim()
}

fn parse(arguments: &[String]) -> Result<Asked, String> {
    let mut asked = Asked {
        scenario: String::new(),
        seeds: 1..=50,
        nodes: None,
        json: false,
        svg: None,
        trace: false,
        step: false,
    };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut next = || words.next().ok_or_else(|| format!("{word} needs a word after it"));
        match word.as_str() {
            "--seed" => {
                let seed = number(word, next()?, 0, u64::MAX)?;
                asked.seeds = seed..=seed;
            }
            "--seeds" => asked.seeds = 1..=number(word, next()?, 1, 1_000_000)?,
            "--nodes" => asked.nodes = usize::try_from(number(word, next()?, 5, 5_000)?).ok(),
            "--svg" => asked.svg = Some(next()?.into()),
            "--json" => asked.json = true,
            "--trace" => asked.trace = true,
            "--step" => (asked.trace, asked.step) = (true, true),
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            name if asked.scenario.is_empty() => name.clone_into(&mut asked.scenario),
            extra => return Err(format!("unexpected argument {extra}")),
        }
    }
    if asked.scenario.is_empty() {
        return Err("no scenario was named".to_owned());
    }
    if asked.trace && asked.seeds.start() != asked.seeds.end() {
        return Err("--trace needs --seed".to_owned());
    }
    Ok(asked)
}

/// A number of the command line, between these.
pub(crate) fn number(option: &str, text: &str, least: u64, most: u64) -> Result<u64, String> {
    let number = text.parse::<u64>().ok().filter(|n| (least..=most).contains(n));
    number.ok_or_else(|| format!("{option} {text}: expected a number from {least} to {most}"))
}

fn read(name: &str) -> Result<Script, String> {
    let text = match built_in::ALL.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => (*text).to_owned(),
        None => {
            let file = std::fs::File::open(name).map_err(|error| {
                format!(
                    "{name}: {error}; it is no file, and `borgios-sim list` names no such scenario"
                )
            })?;
            let mut text = String::new();
            let most = SCRIPT_MAX as u64 + 1;
            file.take(most)
                .read_to_string(&mut text)
                .map_err(|error| format!("{name}: {error}"))?;
            if text.len() > SCRIPT_MAX {
                return Err(format!("{name}: longer than {SCRIPT_MAX} bytes"));
            }
            text
        }
    };
    Script::parse(&text).map_err(|error| format!("{name}: {error}"))
}

fn run(script: &Script, asked: &Asked) -> Result<bool, String> {
    let (mut passed, mut failed) = (0_u64, Vec::new());
    let name = Path::new(&asked.scenario).file_stem().and_then(|stem| stem.to_str());
    let name = name.unwrap_or(&asked.scenario);
    for seed in asked.seeds.clone() {
        let sink = asked.trace.then(|| Box::new(|line: &str| println!("{line}")) as Sink);
        let mut announce = |line: usize, text: &str| {
            if asked.trace {
                println!("─── line {line}: {text}");
            }
            if asked.step {
                // At the end of the input it runs on.
                let _ = std::io::stdin().lock().read_line(&mut String::new());
            }
        };
        let (outcome, fleet) = script.play(name, seed, asked.nodes, sink, &mut announce);
        if let Some(folder) = &asked.svg {
            let title = format!("{name}, seed {seed}");
            let running = fleet.running().len();
            write(folder, &format!("{name}-{seed}-tree.svg"), &draw::tree(&fleet, &title))?;
            let curve = draw::coverage(&outcome, running);
            write(folder, &format!("{name}-{seed}-coverage.svg"), &curve)?;
        }
        if asked.json {
            println!("{}", json!(outcome));
        } else {
            if passed == 0 && failed.is_empty() {
                println!("{HEADER}");
            }
            println!("{}", row(&outcome));
        }
        if outcome.violation.is_none() {
            passed += 1;
        } else {
            eprintln!("replay: {}", replay(asked, seed));
            failed.push(seed);
        }
    }
    if asked.json {
        let replays: Vec<String> = failed.iter().map(|seed| replay(asked, *seed)).collect();
        let counts = json!({
            "scenario": name, "nodes": asked.nodes.unwrap_or(script.nodes),
            "passed": passed, "failed": failed.len(), "replay": replays,
        });
        println!("{counts}");
    } else {
        println!("{name}: {passed} passed, {} failed", failed.len());
    }
    Ok(failed.is_empty())
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), String> {
    let path = folder.join(name);
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, text));
    written.map_err(|error| format!("{}: {error}", path.display()))
}

fn replay(asked: &Asked, seed: u64) -> String {
    let nodes = asked.nodes.map(|nodes| format!(" --nodes {nodes}")).unwrap_or_default();
    format!("borgios-sim {} --seed {seed}{nodes} --trace", asked.scenario)
}

const HEADER: &str = "    seed  nodes  hostile   events  virtual  slowest heal  longest lack  height  trace             verdict";

fn row(outcome: &Outcome) -> String {
    let verdict = match (&outcome.violation, outcome.line) {
        (Some(violation), Some(line)) => format!("FAILED in line {line} at {violation}"),
        (Some(violation), None) => format!("FAILED at {violation}"),
        (None, _) => "ok".to_owned(),
    };
    format!(
        "{:>8}  {:>5}  {:>7}  {:>7}  {:>5} s  {:>10.1} s  {:>10.1} s  {:>6}  {}  {verdict}",
        outcome.seed,
        outcome.nodes,
        outcome.hostile,
        outcome.events,
        outcome.virtual_ms / 1_000,
        outcome.slowest_heal_ms as f64 / 1_000.0,
        outcome.longest_lack_ms as f64 / 1_000.0,
        outcome.height,
        outcome.trace,
    )
}
