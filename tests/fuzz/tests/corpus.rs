//! Every seed, every kept input and some changes to each, in bounded work and always the same.

use std::path::Path;
use std::time::Duration;

use borgios_fuzz::TARGETS;
use borgios_fuzz::course::{Plan, run};
use borgios_fuzz::seeds;

fn plan(runs: u64) -> Plan {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    Plan { time: Duration::from_secs(600), runs, seed: 1, corpus, keep: false }
}

#[test]
fn no_parser_breaks_on_the_corpus_or_near_it() {
    for target in TARGETS {
        let outcome = run(target, &plan(400));
        if let Some((input, why)) = &outcome.finding {
            panic!("{} {why}: {:?}", target.name, String::from_utf8_lossy(input));
        }
        assert!(outcome.outcomes > 1, "{}: every input had one outcome", target.name);
    }
}

#[test]
fn every_target_takes_an_honest_input() {
    for target in TARGETS {
        let seeds = seeds::of(target.name);
        assert!(!seeds.is_empty(), "{} has no seed", target.name);
        let said: Vec<String> = seeds.iter().map(|seed| (target.run)(seed)).collect();
        assert!(said.iter().any(|word| word == "ok"), "{}: {said:?}", target.name);
    }
}
