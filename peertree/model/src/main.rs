//! `borgios-model`: checks the tree's rules, and the real core, at small size.
//!
//! ```text
//! borgios-model rules BEGINNING NODES DEATHS BREAKS [MUTANT]     every state; whole | two | joining
//! borgios-model core BEGINNING NODES FAULTS DEPTH STATES         every order, breadth first; cold | whole | two
//! borgios-model core BEGINNING NODES FAULTS DEPTH STATES SEED    random orders
//! ```
//!
//! Prints how much was checked, and the story of whatever broke; the exit code is then 1.

use std::fmt::Debug;
use std::process::ExitCode;
use std::time::Instant;

use borgios_model::real::{self, Stories};
use borgios_model::rules::{self, Mutant, Rules, trap::Graph};
use stateright::{Checker, Model, Path, UniformChooser};

/// States of the abstract model that fit into some gigabytes.
const STATES_MAX: usize = 3_000_000;
/// Fan-out of every fleet checked here: the smallest that a policy may ask for.
const FANOUT: u8 = 2;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(what) => {
            say(&format!("borgios-model: {what}"));
            ExitCode::from(2)
        }
    }
}

#[allow(clippy::print_stdout, reason = "the program's output")]
fn say(line: &str) {
    println!("{line}");
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("'{word}' is no number that fits"))
}

/// Runs what the words ask for; whether all holds.
fn run(words: &[&str]) -> Result<bool, String> {
    match words {
        ["rules", beginning, nodes, deaths, breaks, mutant @ ..] => {
            let beginning = match *beginning {
                "whole" => rules::Beginning::Whole,
                "two" => rules::Beginning::Two,
                "joining" => rules::Beginning::Joining,
                other => return Err(format!("no beginning is called '{other}'")),
            };
            let mutant = match mutant {
                [] => Mutant::None,
                [name, ..] => Mutant::ALL
                    .into_iter()
                    .find(|mutant| format!("{mutant:?}") == **name)
                    .ok_or_else(|| format!("mutants: {:?}", Mutant::ALL))?,
            };
            let (deaths, breaks) = (number(deaths)?, number(breaks)?);
            let rules = Rules::new(beginning, number(nodes)?);
            Ok(check_rules(&Rules { deaths, breaks, mutant, fanout: FANOUT, ..rules }))
        }
        ["core", beginning, machines, faults, depth, states, seed @ ..] => {
            let beginning = match *beginning {
                "cold" => real::Beginning::Cold,
                "whole" => real::Beginning::Whole,
                "two" => real::Beginning::Two,
                other => return Err(format!("no beginning is called '{other}'")),
            };
            let (machines, faults) = (number(machines)?, number(faults)?);
            let stories = Stories { beginning, machines, fanout: FANOUT.into(), faults };
            let seed = seed.first().map(|seed| number(seed)).transpose()?;
            Ok(check_core(stories, number(depth)?, number(states)?, seed))
        }
        _ => Err("rules BEGINNING NODES DEATHS BREAKS [MUTANT] | core BEGINNING NODES FAULTS DEPTH STATES [SEED]".into()),
    }
}

fn check_rules(rules: &Rules) -> bool {
    let begun = Instant::now();
    let checker = rules.checker().target_state_count(STATES_MAX).spawn_bfs().join();
    say(&format!("{} states, {:?}", checker.unique_state_count(), begun.elapsed()));
    let mut holds = true;
    for (name, path) in checker.discoveries() {
        holds = false;
        tell(name, path);
    }
    let Some(graph) = Graph::explore(rules, STATES_MAX) else {
        say("too many states to look for traps");
        return false;
    };
    say(&format!("{} states searched for traps, {:?}", graph.len(), begun.elapsed()));
    let goals: [(&str, fn(&rules::state::Fleet) -> bool); 3] = [
        ("no cycle lasts", |fleet| fleet.cycle().is_none()),
        ("both ends agree", rules::state::Fleet::agrees),
        ("one whole tree", rules::state::Fleet::whole),
    ];
    for (name, goal) in goals {
        say(&format!("{name}: {} states", graph.reached(goal)));
        let Some(story) = graph.trap(goal) else { continue };
        holds = false;
        say(&format!("never again: {name}"));
        for (step, state) in story {
            say(&format!("  {step:?}\n    {state:?}"));
        }
    }
    holds
}

fn check_core(stories: Stories, depth: usize, states: usize, seed: Option<u64>) -> bool {
    let begun = Instant::now();
    let builder = stories.checker().target_max_depth(depth).target_state_count(states);
    let (count, reached, found) = match seed {
        None => {
            let checker = builder.spawn_bfs().join();
            (checker.unique_state_count(), checker.max_depth(), checker.discoveries())
        }
        Some(seed) => {
            let checker = builder.spawn_simulation(seed, UniformChooser).join();
            (checker.state_count(), checker.max_depth(), checker.discoveries())
        }
    };
    say(&format!("{count} states, {reached} steps deep, {:?}", begun.elapsed()));
    let holds = found.is_empty();
    for (name, path) in found {
        let end = path.last_state().clone();
        tell(name, path);
        if let Err(what) = end.clone().settle() {
            say(&format!("  in the end: {what}"));
        }
    }
    holds
}

fn tell<S: Debug, A: Debug>(name: &str, path: Path<S, A>) {
    say(&format!("broken: {name}"));
    for (state, step) in path.into_vec() {
        say(&format!("  {state:?}"));
        if let Some(step) = step {
            say(&format!("    {step:?}"));
        }
    }
}
