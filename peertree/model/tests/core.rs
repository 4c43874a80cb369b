//! The real core, a few thousand orders of events deep: what always holds, and that it heals from every one of them.

use borgios_model::real::{Beginning, Stories};
use stateright::{Checker, Model, UniformChooser};

/// States judged per story; `borgios-model core` goes further.
const STATES: usize = 4_000;
/// Steps of one random story, at most.
const DEPTH: usize = 80;

/// Every order from the beginning on, breadth first.
fn every_order(stories: Stories) {
    let checker = stories.checker().target_state_count(STATES).spawn_bfs().join();
    assert!(checker.unique_state_count() >= 500, "{stories:?}");
    checker.assert_properties();
}

/// Random orders, which go deeper; the seed replays them (`borgios-model core … SEED`).
fn random_orders(stories: Stories, seed: u64) {
    let builder = stories.checker().target_state_count(STATES).target_max_depth(DEPTH);
    let checker = builder.spawn_simulation(seed, UniformChooser).join();
    assert!(checker.discoveries().is_empty(), "{stories:?} seed {seed}");
}

fn told(beginning: Beginning, machines: usize, faults: u8) {
    let stories = Stories { beginning, machines, fanout: 2, faults };
    every_order(stories);
    random_orders(stories, 1);
}

#[test]
fn newcomers_find_the_founder_in_every_order() {
    told(Beginning::Cold, 3, 0);
}

#[test]
fn a_tree_heals_after_any_fault_in_every_order() {
    told(Beginning::Whole, 3, 1);
    told(Beginning::Whole, 4, 2);
}

#[test]
fn two_trees_become_one_in_every_order() {
    told(Beginning::Two, 4, 0);
    told(Beginning::Two, 3, 1);
}
