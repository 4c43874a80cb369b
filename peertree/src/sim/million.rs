//! A million nodes: they join, churn, die, and one broadcast reaches them all.
//!
//! ```text
//! join ──▶ broadcast ──▶ churn ──▶ broadcast ──▶ 10 % die at once ──▶ healed ──▶ broadcast
//! ```
//!
//! The first hundred nodes join at the root, all others at members of the upper levels that their
//! invitations name, and follow redirects; the fleet grows by its own size every
//! second until [`Plan::joins_per_s`] is reached. Signatures are stubbed (a shell admits what it
//! is offered), nodes publish no join records (a million of them to a million nodes are no matter
//! of the tree), and remember [`REMEMBERED`] contacts. Global invariants are checked at intervals,
//! not after every step: each stage ends with a look at every node and both ends of every link.

use std::time::Duration;

use borgios_types::Time;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::config::Config;
use crate::node::Node;
use crate::sim::giant::{Giant, Seat};
use crate::state::State;

/// Contacts a node of this fleet remembers; 512 would be 24 KB.
pub const REMEMBERED: usize = 6;
/// A fleet that stands still this long without being whole is broken.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long churn lasts.
const CHURN: Duration = Duration::from_secs(5);
/// After churn, those who hang too deep look for a better place at their own pace.
const FLAT_MAX: Duration = Duration::from_secs(300);
/// Longest time a broadcast is waited for.
const BROADCAST_MAX: Duration = Duration::from_secs(1);
/// Longest wait for nobody to move any more before a broadcast is counted.
const CALM_MAX: Duration = Duration::from_secs(60);
/// Pace of looking whether the fleet is whole while it heals.
const LOOK: Duration = Duration::from_millis(100);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Machines.
    pub nodes: u32,
    /// Most children of a node.
    pub fanout: u16,
    /// Time a message takes from node to node.
    pub hop: Duration,
    /// Share of the machines that leave, and as many come, while it churns.
    pub churn: f64,
    /// Share of the machines that die at once.
    pub deaths: f64,
    /// Decides everything.
    pub seed: u64,
}

impl Plan {
    /// Members that invitations name: the upper levels, a hundred nodes at least. The root alone
    /// takes part in 128 conversations with strangers at a time, some thousand joins a second.
    #[must_use]
    pub fn named(&self) -> u32 {
        let (mut width, mut named) = (1_u32, 1_u32);
        while named < 100 && named < self.nodes / 10 {
            width *= u32::from(self.fanout);
            named += width;
        }
        named
    }

    /// Joins a second at most: the last doublings of the fleet take ten seconds.
    #[must_use]
    pub fn joins_per_s(&self) -> u32 {
        (self.nodes / 10).max(50)
    }
}

/// Bytes of live heap, now and at most so far; whoever runs this counts them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap {
    /// Now.
    pub live: u64,
    /// At most since the start.
    pub peak: u64,
}

/// What was seen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Most children of a node.
    pub fanout: u16,
    /// Machines, after the churn.
    pub nodes: u64,
    /// Steps from the root to the deepest node, after churn.
    pub depth: u32,
    /// The least that many nodes can have at this fan-out.
    pub minimum_depth: u32,
    /// The same before churn.
    pub depth_joined: u32,
    /// Messages that carried one broadcast, after churn.
    pub transmissions: u64,
    /// When the last node had it, in milliseconds.
    pub last_ms: u64,
    /// Time from the deaths until the survivors were one tree, in virtual seconds.
    pub heal_virtual_s: f64,
    /// Survivors of the deaths.
    pub survivors: u64,
    /// Steps from the root to the deepest survivor when they had healed.
    pub depth_healed: u32,
    /// Messages that carried one broadcast to the survivors.
    pub transmissions_healed: u64,
    /// Peak of the live heap without what the simulator keeps for itself (keys, addresses, ends of
    /// links, the queue's buckets; messages under way count), divided by the machines.
    pub bytes_per_node: u64,
    /// Peak of the live heap of the whole process, divided by the machines.
    pub process_bytes_per_node: u64,
    /// What one node's state alone holds at rest: the heap that goes when nodes go.
    pub state_bytes_per_node: u64,
    /// Virtual seconds after churn until the depth was the least or one more.
    pub flat_after_s: f64,
    /// Virtual time in all, in seconds.
    pub virtual_s: f64,
    /// Events in all.
    pub events: u64,
    /// Dials a joiner needed on average.
    pub dials_per_join: f64,
    /// Times that every node was checked.
    pub checks: u32,
}

/// Steps from the root to the deepest of `nodes` nodes in the flattest tree of this fan-out.
#[must_use]
pub fn minimum_depth(nodes: u64, fanout: u16) -> u32 {
    let (mut depth, mut width, mut room) = (0, 1_u64, 1_u64);
    while room < nodes {
        width *= u64::from(fanout);
        room += width;
        depth += 1;
    }
    depth
}

/// Runs it. `heap` says what is allocated, `say` gets a line whenever something is done.
///
/// # Errors
/// What went wrong, in words.
pub fn run(
    plan: Plan,
    heap: &dyn Fn() -> Heap,
    say: &mut dyn FnMut(String),
) -> Result<Figures, String> {
    let config = Config { fanout: plan.fanout, remembered: REMEMBERED, ..Config::default() };
    // The churn adds machines that were not there before.
    let room = plan.nodes as usize + (f64::from(plan.nodes) * plan.churn) as usize + 1;
    let mut story = Story {
        giant: Giant::new(room, plan.named(), plan.hop),
        rng: ChaCha8Rng::seed_from_u64(plan.seed),
        figures: Figures { fanout: plan.fanout, ..Figures::default() },
        published: 0,
        plan,
        config,
    };
    story.join(say)?;
    story.settle(PATIENCE)?;
    story.figures.depth_joined = story.depth();
    say(format!("joined: depth {}", story.figures.depth_joined));
    let (sent, ms) = story.broadcast()?;
    say(format!("broadcast: {sent} transmissions, {ms} ms"));
    story.churn(say)?;
    let (sent, ms) = story.broadcast()?;
    (story.figures.transmissions, story.figures.last_ms) = (sent, ms);
    say(format!("broadcast: {sent} transmissions, {ms} ms"));
    story.die(say)?;
    let (sent, ms) = story.broadcast()?;
    story.figures.transmissions_healed = sent;
    say(format!("broadcast: {sent} transmissions, {ms} ms"));
    let Story { mut giant, mut figures, .. } = story;
    figures.virtual_s = seconds(giant.now.since(Time::default()));
    figures.events = giant.counts.events;
    let peak = heap().peak;
    figures.process_bytes_per_node = peak / u64::from(plan.nodes);
    figures.bytes_per_node = peak.saturating_sub(giant.own_bytes()) / u64::from(plan.nodes);
    let before = heap().live;
    giant.nodes.iter_mut().for_each(|node| *node = None);
    // The places of the vector stay; each is as large as a node without what it points to.
    let held = before.saturating_sub(heap().live);
    figures.state_bytes_per_node =
        held / figures.survivors.max(1) + std::mem::size_of::<Option<Node>>() as u64;
    Ok(figures)
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000.0).round() / 1_000.0
}

struct Story {
    giant: Giant,
    rng: ChaCha8Rng,
    figures: Figures,
    published: u32,
    plan: Plan,
    config: Config,
}

impl Story {
    fn pass(&mut self, duration: Duration) {
        self.giant.run(self.giant.now + duration, &self.config, self.plan.seed);
    }

    /// All machines join, ever faster.
    fn join(&mut self, say: &mut dyn FnMut(String)) -> Result<(), String> {
        let step = Duration::from_millis(10);
        self.giant.add(self.plan.seed, Time(1));
        self.pass(Duration::from_secs(2));
        let (mut size, mut told) = (1_u32, 10_u32);
        let mut credit = 0.0;
        while size < self.plan.nodes {
            let rate = f64::from(size).clamp(10.0, f64::from(self.plan.joins_per_s()));
            credit += rate * step.as_secs_f64();
            while credit >= 1.0 && size < self.plan.nodes {
                let due = self.giant.now + Duration::from_millis(self.rng.gen_range(1..=10));
                self.giant.add(self.plan.seed, due);
                size += 1;
                credit -= 1.0;
            }
            self.pass(step);
            if size >= told.saturating_mul(10) {
                told = size;
                self.each_holds()?;
                say(format!("{size} started, {:.1} s virtual", self.giant.now.0 as f64 / 1e3));
            }
        }
        self.figures.dials_per_join =
            self.giant.counts.dials as f64 / f64::from(self.plan.nodes.max(2) - 1);
        Ok(())
    }

    /// Lets time pass until the fleet is one tree; returns how long it took.
    fn settle(&mut self, limit: Duration) -> Result<Duration, String> {
        let begun = self.giant.now;
        loop {
            let waits = self
                .giant
                .nodes
                .iter()
                .flatten()
                .any(|node| node.parent().is_none() && node.state() != State::Root);
            let state = if waits { Err("not all are attached".to_owned()) } else { self.whole() };
            match state {
                Ok(()) => return Ok(self.giant.now.since(begun)),
                Err(what) if self.giant.now.since(begun) >= limit => {
                    let waiting = self.giant.waiting();
                    return Err(format!(
                        "not whole after {limit:?}: {what} ({waiting} events wait)"
                    ));
                }
                Err(_) => self.pass(LOOK),
            }
        }
    }

    /// Some leave in good order while others come.
    fn churn(&mut self, say: &mut dyn FnMut(String)) -> Result<(), String> {
        let count = (f64::from(self.plan.nodes) * self.plan.churn) as u32;
        let steps = u32::try_from(CHURN.as_millis() / 10).unwrap_or(1);
        for step in 0..steps {
            let due = |step: u32| (u64::from(count) * u64::from(step) / u64::from(steps)) as u32;
            for _ in due(step)..due(step + 1) {
                let at = self.any(1);
                self.giant.stop(at);
                let due = self.giant.now + Duration::from_millis(self.rng.gen_range(1..=10));
                self.giant.add(self.plan.seed, due);
            }
            self.pass(Duration::from_millis(10));
        }
        self.settle(PATIENCE)?;
        let nodes = self.giant.nodes.iter().flatten().count() as u64;
        let minimum = minimum_depth(nodes, self.plan.fanout);
        let begun = self.giant.now;
        say(format!("churned: {nodes} nodes, depth {}", self.depth()));
        while self.depth() > minimum + 1 && self.giant.now.since(begun) < FLAT_MAX {
            self.pass(Duration::from_secs(1));
        }
        self.settle(PATIENCE)?;
        self.figures.flat_after_s = seconds(self.giant.now.since(begun));
        self.figures.nodes = nodes;
        self.figures.minimum_depth = minimum;
        self.figures.depth = self.depth();
        say(format!("depth {} after {} s", self.figures.depth, self.figures.flat_after_s));
        Ok(())
    }

    /// Many machines lose their power at once.
    fn die(&mut self, say: &mut dyn FnMut(String)) -> Result<(), String> {
        for _ in 0..(f64::from(self.plan.nodes) * self.plan.deaths) as u32 {
            let at = self.any(0);
            self.giant.kill(at);
        }
        let took = self.settle(PATIENCE)?;
        self.figures.heal_virtual_s = seconds(took);
        self.figures.survivors = self.giant.nodes.iter().flatten().count() as u64;
        self.figures.depth_healed = self.depth();
        say(format!("healed after {} s, depth {}", seconds(took), self.figures.depth_healed));
        Ok(())
    }

    /// One object from the root: how many messages carried it, and when the last node had it.
    fn broadcast(&mut self) -> Result<(u64, u64), String> {
        let root = self
            .giant
            .nodes
            .iter()
            .position(|node| node.as_ref().is_some_and(|node| node.state() == State::Root));
        let root = root.ok_or("no root")? as Seat;
        self.calm();
        let begun = self.giant.now;
        self.published += 1;
        let text = self.published.to_string();
        self.giant.publish(root, &text).map_err(|error| error.to_string())?;
        self.pass(BROADCAST_MAX);
        let others = self.giant.nodes.iter().flatten().count() as u64 - 1;
        let received = self.giant.counts.received;
        if received != others {
            return Err(format!("{received} of {others} nodes received the broadcast"));
        }
        let last = self.giant.counts.last.since(begun).as_millis() as u64;
        Ok((self.giant.counts.carried, last))
    }

    /// Waits until nobody looks for a better place: who moves hears a broadcast on both sides.
    fn calm(&mut self) {
        let asked = |giant: &Giant| giant.counts.sent.get("join").copied().unwrap_or(0);
        let begun = self.giant.now;
        while self.giant.now.since(begun) < CALM_MAX {
            let before = asked(&self.giant);
            self.pass(Duration::from_secs(1));
            if asked(&self.giant) == before {
                return;
            }
        }
    }

    /// A random running machine with a number of at least `least`.
    fn any(&mut self, least: usize) -> Seat {
        loop {
            let at = self.rng.gen_range(least..self.giant.nodes.len());
            if self.giant.nodes[at].is_some() {
                return at as Seat;
            }
        }
    }

    fn depth(&self) -> u32 {
        self.giant.nodes.iter().flatten().map(|node| node.depth() as u32).max().unwrap_or(0)
    }

    /// Every node keeps its own rules.
    fn each_holds(&mut self) -> Result<(), String> {
        self.figures.checks += 1;
        for (at, node) in self.giant.nodes.iter().enumerate() {
            if let Some(node) = node {
                node.check().map_err(|what| format!("n{at}: {what}"))?;
            }
        }
        Ok(())
    }

    /// One root; every other node is a child of its parent, under the path it believes; so there is
    /// no cycle.
    fn whole(&mut self) -> Result<(), String> {
        self.each_holds()?;
        let mut roots = 0;
        for (at, node) in self.giant.nodes.iter().enumerate() {
            let Some(node) = node else { continue };
            let Some(parent) = node.parent() else {
                roots += 1;
                continue;
            };
            let Some(parent) = self.giant.node(&parent) else {
                return Err(format!("n{at} has a dead parent"));
            };
            if !parent.has_child(&node.id()) {
                return Err(format!("n{at} is unknown to its parent"));
            }
            if !node.is_under(parent) {
                return Err(format!("n{at} has an old path"));
            }
        }
        if roots == 1 { Ok(()) } else { Err(format!("{roots} roots")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_depth_is_that_of_a_full_tree() {
        for (nodes, fanout, depth) in
            [(1, 3, 0), (4, 3, 1), (5, 3, 2), (1_000_000, 3, 13), (1_000_000, 10, 6)]
        {
            assert_eq!(minimum_depth(nodes, fanout), depth, "{nodes} nodes at {fanout}");
        }
        assert_eq!(minimum_depth(1_000_000, 25), 5);
        assert_eq!(minimum_depth(1_000_000, 100), 3);
    }

    #[test]
    fn a_small_fleet_lives_through_what_a_million_does() {
        for fanout in [3, 10] {
            let hop = Duration::from_millis(10);
            let plan = Plan { nodes: 1_500, fanout, hop, churn: 0.01, deaths: 0.1, seed: 1 };
            let figures = run(plan, &Heap::default, &mut |_| ()).unwrap();
            assert_eq!(figures.transmissions, figures.nodes - 1);
            assert_eq!(figures.transmissions_healed, figures.survivors - 1);
            assert_eq!(figures.last_ms, u64::from(figures.depth) * 10);
            assert!(figures.depth <= figures.minimum_depth + 1, "{figures:?}");
        }
    }
}
