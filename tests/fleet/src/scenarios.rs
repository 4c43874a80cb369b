//! Every scenario, in the order in which they run: what others stand on comes first.

use crate::scenario::Scenario;

mod faults;
mod join;
mod keeper;
mod lab;
mod refusals;
mod secrets;
mod spine;
mod trial;

/// All scenarios.
pub const ALL: &[Scenario] = &[
    lab::SCENARIO,
    spine::SCENARIO,
    join::SCENARIO,
    trial::SCENARIO,
    refusals::SCENARIO,
    keeper::SCENARIO,
    faults::SCENARIO,
    secrets::SCENARIO,
];
