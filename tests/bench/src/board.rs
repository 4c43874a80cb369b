//! Who has received how much: the one thing all nodes of a run share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::machine::now_ns;

/// One counter and one time for each node; node 0 is the origin and is not counted.
#[derive(Debug)]
pub struct Board {
    nodes: Vec<Slot>,
}

/// On a cache line of its own, so that nodes do not disturb each other.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot {
    delivered: AtomicU64,
    last_ns: AtomicU64,
}

impl Board {
    /// For `nodes` nodes.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self { nodes: (0..nodes).map(|_| Slot::default()).collect() }
    }

    /// `node` has received `messages` more.
    pub fn delivered(&self, node: usize, messages: u64) {
        self.nodes[node].last_ns.store(now_ns(), Ordering::Relaxed);
        self.nodes[node].delivered.fetch_add(messages, Ordering::Release);
    }

    /// How many messages `node` has received.
    #[must_use]
    pub fn count(&self, node: usize) -> u64 {
        self.nodes[node].delivered.load(Ordering::Acquire)
    }

    /// Receivers on the board.
    #[must_use]
    pub fn receivers(&self) -> u64 {
        (self.nodes.len() - 1) as u64
    }

    /// Deliveries to all receivers.
    #[must_use]
    pub fn total(&self) -> u64 {
        (1..self.nodes.len()).map(|node| self.count(node)).sum()
    }

    /// The fewest that any receiver has.
    #[must_use]
    pub fn least(&self) -> u64 {
        (1..self.nodes.len()).map(|node| self.count(node)).min().unwrap_or(0)
    }

    /// The fewest that any of these receivers has.
    #[must_use]
    pub fn least_of(&self, nodes: &[usize]) -> u64 {
        nodes.iter().map(|node| self.count(*node)).min().unwrap_or(0)
    }

    /// Waits until every receiver has `target`; whether it came to that `within` the time.
    pub async fn reach(&self, target: u64, within: Duration) -> bool {
        let all: Vec<usize> = (1..self.nodes.len()).collect();
        self.reach_of(&all, target, within).await
    }

    /// The same of these receivers.
    pub async fn reach_of(&self, nodes: &[usize], target: u64, within: Duration) -> bool {
        let begun = tokio::time::Instant::now();
        while self.least_of(nodes) < target {
            if begun.elapsed() > within {
                return false;
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        true
    }

    /// When this receiver received its last message.
    #[must_use]
    pub fn last_of(&self, node: usize) -> u64 {
        self.nodes[node].last_ns.load(Ordering::Relaxed)
    }

    /// When the last receiver received its last message.
    #[must_use]
    pub fn last_ns(&self) -> u64 {
        self.nodes[1..].iter().map(|node| node.last_ns.load(Ordering::Relaxed)).max().unwrap_or(0)
    }
}
