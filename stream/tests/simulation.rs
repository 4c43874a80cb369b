//! A whole fleet in memory: trees that change, links that break, crashes, hostile neighbours.
//!
//! Every failure prints its seed; `STREAM_SEED=N cargo test -p borgios-stream --test simulation`
//! runs that one alone.

#[path = "simulation/fleet.rs"]
mod fleet;
#[path = "simulation/hostile.rs"]
mod hostile;
#[path = "simulation/node.rs"]
mod node;

use borgios_stream::Relay;

use fleet::{Fleet, Plan};
use hostile::Vice;

/// The seeds to run: one by the environment, else so many.
fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("STREAM_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..count,
    }
}

fn run(seed: u64, plan: &Plan) -> Fleet {
    let mut fleet = Fleet::new(seed, plan);
    let problem = fleet.live().and_then(|()| fleet.heal());
    if let Err(problem) = problem {
        panic!("seed {seed}: {problem}");
    }
    fleet
}

fn relay_of(seed: u64) -> Relay {
    if seed.is_multiple_of(2) { Relay::Verified } else { Relay::Link }
}

/// Everyone gets every message once, in order, though the tree is built anew all the time.
#[test]
fn a_tree_that_changes_loses_nothing() {
    for seed in seeds(100) {
        let plan = Plan { nodes: 24, moves: 40, relay: relay_of(seed), ..Plan::default() };
        let fleet = run(seed, &plan);
        assert!(fleet.published() > 50, "seed {seed}: only {} published", fleet.published());
    }
}

/// The same, with nodes that lose power and come back with what their log had synced.
#[test]
fn crashes_lose_nothing_that_was_acknowledged() {
    for seed in seeds(100) {
        let (moves, crashes) = (10, 12);
        let plan = Plan { nodes: 16, moves, crashes, relay: relay_of(seed), ..Plan::default() };
        let fleet = run(seed, &plan);
        assert!(fleet.restarts > 5, "seed {seed}");
    }
}

/// Queues that run full drop frames; the comparison afterwards brings what was dropped.
#[test]
fn full_queues_lose_nothing() {
    let mut dropped = 0;
    for seed in seeds(50) {
        let plan = Plan { nodes: 16, jams: 30, relay: relay_of(seed), ..Plan::default() };
        dropped += run(seed, &plan).dropped_frames;
    }
    assert!(dropped > 0, "no frame was ever dropped");
}

/// Hostile members of every kind cost nobody a message, and are cut off where they can be told.
#[test]
fn hostile_members_cost_nobody_a_message() {
    let mut misdeeds = 0;
    for seed in seeds(100) {
        let vices = vec![Vice::ALL[seed as usize % Vice::ALL.len()]; 3];
        let plan = Plan { nodes: 20, moves: 10, vices, relay: relay_of(seed), ..Plan::default() };
        misdeeds += run(seed, &plan).misdeeds;
    }
    assert!(misdeeds > 0, "nobody did anything wrong");
}

/// Neighbours that forward nothing are got round over cross links within two comparisons, without
/// anything healing; and it is noted.
#[test]
fn what_a_neighbour_withholds_comes_over_cross_links() {
    let mut withheld = 0;
    for seed in seeds(400) {
        let vices = vec![Vice::Withhold; 2];
        let plan = Plan { nodes: 20, vices, relay: relay_of(seed), ..Plan::default() };
        let mut fleet = Fleet::new(seed, &plan);
        if let Err(problem) = fleet.live().and_then(|()| fleet.endure()) {
            panic!("seed {seed}: {problem}");
        }
        withheld += fleet.withheld;
    }
    assert!(withheld > 0, "nothing was ever withheld");
}

/// No honest node is cut off by an honest one, whatever forgers send through it.
#[test]
fn forgeries_do_not_part_honest_nodes() {
    let mut cuts = 0;
    for seed in seeds(60) {
        let vices = vec![Vice::Forge; 2];
        let relay = Relay::Link;
        let fleet = run(seed, &Plan { nodes: 20, vices, relay, ..Plan::default() });
        assert_eq!(fleet.honest_cuts, 0, "seed {seed}");
        cuts += fleet.cuts;
    }
    assert!(cuts > 0, "no forger was ever cut off");
}

/// An origin that signs two histories is stopped everywhere, and everyone holds the proof.
#[test]
fn equivocation_is_proved_to_everyone() {
    let mut proved = 0;
    for seed in seeds(60) {
        let vices = vec![Vice::Equivocate];
        let fleet = run(seed, &Plan { nodes: 16, vices, relay: relay_of(seed), ..Plan::default() });
        proved += fleet.proved();
    }
    assert!(proved > 20, "only {proved} origins were proved to equivocate");
}

/// A clock that was two days ahead costs what was said by it, and no more: that is refused once the clock
/// is right, never silently lost; and from a new log everyone hears the node again.
#[test]
fn a_clock_that_was_ahead_silences_nobody_for_good() {
    const SPEAKER: usize = 0;
    for seed in seeds(30) {
        let plan = Plan { nodes: 12, moves: 5, relay: relay_of(seed), ..Plan::default() };
        let mut fleet = Fleet::new(seed, &plan);
        let well = |ended: Result<(), String>| {
            ended.unwrap_or_else(|problem| panic!("seed {seed}: {problem}"));
        };
        fleet.set_ahead(SPEAKER, 2 * 86_400);
        fleet.publish(SPEAKER, 1);
        well(fleet.live());
        well(fleet.rest());
        assert!(fleet.published() > 50 && fleet.refused_ahead == 0, "seed {seed}");
        fleet.set_ahead(SPEAKER, 0);
        let published = fleet.published();
        fleet.publish(SPEAKER, 3);
        well(fleet.rest());
        assert_eq!((fleet.refused_ahead, fleet.published()), (3, published), "seed {seed}");
        fleet.move_log_away(SPEAKER);
        fleet.publish(SPEAKER, 5);
        // All that is acknowledged from here on is with everyone in the end.
        well(fleet.heal());
        assert_eq!(fleet.acknowledged(SPEAKER), 5, "seed {seed}");
    }
}

/// A seed replays: the same inputs in the same order.
#[test]
fn a_seed_replays() {
    let plan = Plan { nodes: 12, moves: 10, crashes: 4, ..Plan::default() };
    let [one, other] = [run(7, &plan), run(7, &plan)];
    assert_eq!((one.steps, one.published()), (other.steps, other.published()));
}
