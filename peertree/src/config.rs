//! What a node is told about itself when it is made.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::bounds;
use crate::contact::Address;

/// The lanes there are, so that simulations and fuzzing run what an agent runs.
const LANES: [&str; 5] = ["policy", "release", "credential", "member", "access"];

/// What a node is told about itself when it is made.
#[derive(Clone, Debug)]
pub struct Config {
    /// Most children; from the policy, and changed by [`Input::SetFanout`](crate::Input::SetFanout).
    /// Values outside 2..=256 are brought inside.
    pub fanout: u16,
    /// Where others can dial this node; `None` keeps it a leaf.
    pub address: Option<Address>,
    /// Kinds that are lanes: caught up in order, by their heads, never by id. The shell counts the same
    /// ones: what it lists at the start, and whose heads it tells. A kind that only one of the two calls
    /// a lane reaches nobody who was away, and two digests of it never agree.
    pub lanes: Arc<BTreeSet<String>>,
    /// Silence after which a parent says "alive".
    pub heartbeat: Duration,
    /// Silence after which a neighbour is dead; longer than `heartbeat`, and the same everywhere.
    pub silence: Duration,
    /// Most contacts kept for the day when every relative is dead.
    pub remembered: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            fanout: bounds::FANOUT_DEFAULT,
            address: None,
            lanes: Arc::new(LANES.map(str::to_owned).into()),
            heartbeat: bounds::HEARTBEAT,
            silence: bounds::SILENCE,
            remembered: bounds::REMEMBERED_MAX,
        }
    }
}
