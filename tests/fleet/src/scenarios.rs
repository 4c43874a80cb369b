//! Every scenario, in the order in which they run: what others stand on comes first.

use crate::scenario::Scenario;

mod lab;
mod spine;

/// All scenarios.
pub const ALL: &[Scenario] = &[lab::SCENARIO, spine::SCENARIO];
