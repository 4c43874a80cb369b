//! Every seed, every kept input and some changes to each, in bounded work and always the same.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use borgios_fuzz::TARGETS;
use borgios_fuzz::course::{Plan, listen, run};
use borgios_fuzz::seeds;

fn plan(runs: u64) -> Plan {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    Plan { time: Duration::from_secs(600), runs, seed: 1, corpus, keep: false }
}

/// Targets of which one input takes tens of milliseconds.
const SLOW: [&str; 5] =
    ["agent-api", "ceremony-paper", "cli-locked", "session-paper", "ssh-request"];

/// Ends the agent that some targets ask, however a test ends.
struct Quiet;

impl Drop for Quiet {
    fn drop(&mut self) {
        borgios_fuzz::agents::end();
    }
}

/// One program after the other asks the agent: a test that ends it must not meet another.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn no_parser_breaks_on_the_corpus_or_near_it() {
    let (_alone, _quiet) = (ALONE.lock(), Quiet);
    listen(true);
    for target in TARGETS {
        let runs = if SLOW.contains(&target.name) { 40 } else { 400 };
        let outcome = run(target, &plan(runs));
        if let Some((input, why)) = &outcome.finding {
            panic!("{} {why}: {:?}", target.name, String::from_utf8_lossy(input));
        }
        assert!(outcome.outcomes > 1, "{}: every input had one outcome", target.name);
    }
}

#[test]
fn every_target_takes_an_honest_input() {
    let (_alone, _quiet) = (ALONE.lock(), Quiet);
    for target in TARGETS {
        let seeds = seeds::of(target.name);
        assert!(!seeds.is_empty(), "{} has no seed", target.name);
        let said: Vec<String> = seeds.iter().map(|seed| (target.run)(seed)).collect();
        assert!(said.iter().any(|word| word == "ok"), "{}: {said:?}", target.name);
    }
}

/// One target for many files: each of them has a seed of its own that its reader takes, and the readers
/// that a seed of theirs must reach do not say "ok" to nothing.
#[test]
fn every_file_of_the_keeper_has_an_honest_input() {
    let (_alone, _quiet) = (ALONE.lock(), Quiet);
    let target = TARGETS.iter().find(|target| target.name == "keeper-file").unwrap();
    let seeds = seeds::of(target.name);
    // A receipt is there twice: as it lies on the disk, and as what the keeper signs.
    for which in (0..16).chain([26]) {
        let of_it = seeds.iter().filter(|seed| seed[0] == which);
        let said: Vec<String> = of_it.map(|seed| (target.run)(seed)).collect();
        assert!(said.iter().any(|word| word == "ok"), "{which}: {said:?}");
    }
    for which in [10, 11, 26] {
        assert_ne!((target.run)(&[which, b'[']), "ok", "{which}");
    }
}

#[test]
fn every_target_stands_beside_its_parser_in_the_readme_and_no_other_does() {
    let text = include_str!("../README.md");
    let table = text.split("## Which parser, which target").nth(1).unwrap();
    let table = table.split("\nNo target of its own has").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    let last = rows.filter_map(|line| line.trim_end_matches(" |").rsplit(" | ").next());
    let named: BTreeSet<&str> = last.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let targets: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(named, targets);
}
