//! Every scenario, in the order in which they run: what others stand on comes first.

use crate::scenario::Scenario;

mod access;
mod ask;
mod boards;
mod faults;
mod idle;
mod join;
mod keeper;
mod lab;
mod leave;
mod loot;
mod obstacles;
mod refusals;
mod rotation;
mod rules;
mod secrets;
mod spine;
mod streams;
mod systems;
mod tree;
mod trial;

/// All scenarios of the checks.
pub const ALL: &[Scenario] = &[
    lab::SCENARIO,
    spine::SCENARIO,
    ask::SCENARIO,
    join::SCENARIO,
    trial::SCENARIO,
    systems::SCENARIO,
    refusals::SCENARIO,
    keeper::SCENARIO,
    faults::SCENARIO,
    streams::SCENARIO,
    tree::SCENARIO,
    secrets::SCENARIO,
    rotation::SCENARIO,
    rules::SCENARIO,
    boards::SCENARIO,
    access::SCENARIO,
    leave::SCENARIO,
    loot::SCENARIO,
];

/// Scenarios that take too long for every run of the checks; they run when they are named.
pub const LONG: &[Scenario] = &[rotation::LONG, tree::LONG, idle::SCENARIO];
