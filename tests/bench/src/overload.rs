//! Ten times more than the tree can carry, and one child that does not read.

use std::time::Duration;

use anyhow::{Context as _, Result};
use borgios_relay::pipe::Pipe as _;
use borgios_stream::Role;
use borgios_types::SecretKey;
use serde::{Deserialize, Serialize};

use crate::carrier::Carrier;
use crate::fleet::{Fleet, Setting};
use crate::machine::now_ns;
use crate::raw_tree::Load;

/// What came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Overload {
    /// Deliveries a second to everyone else without the stalled child.
    pub before_per_s: f64,
    /// The same with it.
    pub stalled_per_s: f64,
    /// Deliveries that never came, of the others.
    pub lost: u64,
}

/// Publishers at once: ten times what fills the origin's batches.
const PUBLISHERS: usize = 2560;
/// Longest wait for what was published to arrive.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures it over one carrier.
///
/// # Errors
/// The tree does not start.
pub async fn measure<C: Carrier>(carrier: C, load: &Load, setting: &Setting) -> Result<Overload> {
    let fleet = Fleet::start(&carrier, load, setting).await?;
    let mut result = Overload::default();
    // Warm up, so that the first half has no advantage and no handicap.
    run(&fleet, load, Duration::from_millis(500)).await?;
    result.before_per_s = run(&fleet, load, load.saturated).await?.0;
    // A member that shakes hands and then never reads, below an inner node and below the root.
    let mut stalled = Vec::new();
    for parent in [0, 1] {
        let (upper, lower) = carrier.pair().await?;
        let peer = SecretKey::from_seed([0xee - parent as u8; 32]).public();
        fleet.hubs[parent].link_up(peer, Role::Tree, upper).await;
        stalled.push(lower.split());
    }
    let (rate, lost) = run(&fleet, load, load.saturated).await?;
    (result.stalled_per_s, result.lost) = (rate, lost);
    drop(stalled);
    fleet.stop().await;
    Ok(result)
}

async fn run(fleet: &Fleet, load: &Load, time: Duration) -> Result<(f64, u64)> {
    let before = fleet.board.total();
    let begun = now_ns();
    let until = begun + u64::try_from(time.as_nanos()).context("a short time")?;
    let messages = fleet.saturate(PUBLISHERS, load.size, until).await?;
    let least = before / fleet.board.receivers() + messages;
    let whole = fleet.board.reach(least, PATIENCE).await;
    let seconds = fleet.board.last_ns().saturating_sub(begun) as f64 / 1e9;
    let deliveries = messages * fleet.board.receivers();
    let arrived = fleet.board.total() - before;
    let lost = if whole { 0 } else { deliveries.saturating_sub(arrived) };
    Ok((arrived as f64 / seconds, lost))
}
