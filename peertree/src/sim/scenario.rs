//! The stories a fleet is put through.

use core::fmt;
use core::str::FromStr;
use std::time::Duration;

use rand::Rng as _;
use serde::Serialize;

use crate::bounds;
use crate::sim::fleet::{Fleet, Violation};
use crate::sim::machine::Disk;
use crate::sim::trace::Sink;
use crate::sim::wire::Index;

/// A story a fleet is put through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// A fleet grows while servers die (the root too), come back, and links break; then it rests.
    Spine,
    /// The root dies, time and again, alone or with its heirs.
    RootDeath,
    /// The network splits in two, both halves go on, and it heals.
    Partition,
    /// Minutes of random deaths, restarts, reinstallations, broken links and fan-out changes.
    Churn,
}

/// Every scenario.
pub const ALL: [Scenario; 4] =
    [Scenario::Spine, Scenario::RootDeath, Scenario::Partition, Scenario::Churn];

/// A whole fleet must be one tree again within this time after the last disturbance: a partition
/// that lasted may need its nodes' longest back-off and a few probes.
const SETTLE_MAX: Duration = Duration::from_secs(600);
/// Objects dropped while a fleet is disturbed: enough that every run loses some.
const OBJECT_LOSS: f64 = 0.01;
/// A tree at rest has moved up whoever hung too deep after this time.
const QUIET: Duration = Duration::from_secs(600);
/// Fleets up to this size must have grown flat by then.
const FLAT_NODES_MAX: usize = 200;
/// After the death of a root that its children see, they must agree within this time.
const ROOT_HEAL_MAX: Duration = Duration::from_secs(60);
/// A broadcast in a tree at rest arrives everywhere within this time.
const BROADCAST_MAX: Duration = Duration::from_secs(10);

/// What a run showed.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// The run's seed.
    pub seed: u64,
    /// Machines.
    pub nodes: usize,
    /// What broke, if anything did.
    pub violation: Option<String>,
    /// Digest of all events: equal for equal runs.
    pub trace: String,
    /// Events that happened.
    pub events: u64,
    /// Virtual time that passed, in milliseconds.
    pub virtual_ms: u64,
    /// The longest time the fleet took to be whole again after a disturbance, in milliseconds.
    pub slowest_heal_ms: u64,
    /// Depth of the deepest node at the end.
    pub height: usize,
}

impl Scenario {
    /// How many machines it takes where nobody says otherwise.
    #[must_use]
    pub fn default_nodes(self) -> usize {
        match self {
            Self::Spine => 100,
            Self::RootDeath => 50,
            Self::Partition | Self::Churn => 60,
        }
    }

    /// Runs it. `sink` gets the trace, line by line.
    #[must_use]
    pub fn run(self, seed: u64, nodes: usize, sink: Option<Sink>) -> Outcome {
        let mut story = Story { fleet: Fleet::new(seed, 4, sink), slowest: Duration::ZERO };
        let result = match self {
            Self::Spine => story.spine(nodes),
            Self::RootDeath => story.root_death(nodes),
            Self::Partition => story.partition(nodes),
            Self::Churn => story.churn(nodes),
        };
        Outcome {
            scenario: self.to_string(),
            seed,
            nodes,
            violation: result.err().map(|violation| violation.to_string()),
            trace: format!("{:016x}", story.fleet.trace.digest()),
            events: story.fleet.trace.events(),
            virtual_ms: story.fleet.now.0,
            slowest_heal_ms: u64::try_from(story.slowest.as_millis()).unwrap_or(u64::MAX),
            height: story.fleet.height(),
        }
    }
}

struct Story {
    fleet: Fleet,
    slowest: Duration,
}

type Told = Result<(), Violation>;

impl Story {
    fn spine(&mut self, nodes: usize) -> Told {
        self.found(nodes)?;
        self.fleet.object_loss = OBJECT_LOSS;
        // Two in three machines join a fleet at peace, the others one that is dying.
        let peaceful = nodes * 2 / 3;
        for at in 1..peaceful {
            self.pass(0..300)?;
            self.fleet.boot(at)?;
        }
        self.talk(3)?;
        let mut dead: Vec<Index> = Vec::new();
        for at in peaceful..nodes {
            self.fleet.boot(at)?;
            self.pass(0..4_000)?;
            self.disturb(&mut dead)?;
            if at % 3 == 0 {
                self.kill_root(at % 2 == 0, &mut dead);
            }
            self.talk(1)?;
        }
        // A third of the dead never comes back.
        dead.truncate(dead.len() * 2 / 3);
        for at in dead {
            self.pass(0..2_000)?;
            self.fleet.boot(at)?;
        }
        self.rest()
    }

    fn root_death(&mut self, nodes: usize) -> Told {
        self.build(nodes)?;
        for round in 0..6 {
            let Some(root) = self.fleet.root() else {
                return Err(self.fleet.violation("no single root to kill"));
            };
            let heirs = self.children_of(root);
            let silent = round % 2 == 1;
            let with_heirs = if round >= 4 { 1 } else { 0 };
            self.fleet.kill(root, silent);
            for heir in heirs.iter().take(with_heirs) {
                self.fleet.kill(*heir, silent);
            }
            self.fleet.publish_anywhere()?;
            let took = self.fleet.settle(ROOT_HEAL_MAX)?;
            self.slowest = self.slowest.max(took);
            let expected = heirs.get(with_heirs).copied();
            let became = self.fleet.root();
            if let (false, Some(heir), Some(became)) = (silent, expected, became)
                && heir != became
            {
                return Err(self.fleet.violation(format!("n{became} became root, not n{heir}")));
            }
            self.fleet.run(bounds::HEARTBEAT * 3)?;
            if round % 2 == 0 {
                self.fleet.boot(root)?;
                self.settle()?;
            }
        }
        self.rest()
    }

    fn partition(&mut self, nodes: usize) -> Told {
        self.build(nodes)?;
        for minutes in [1, 6] {
            let share = self.fleet.rng.gen_range(0.1..0.6);
            let sides = (0..nodes).map(|_| u8::from(self.fleet.rng.gen_bool(share))).collect();
            self.fleet.split(sides);
            for _ in 0..minutes * 6 {
                self.pass(8_000..12_000)?;
                self.fleet.publish_anywhere()?;
                self.fleet.publish_statement()?;
            }
            self.fleet.split(Vec::new());
            self.settle()?;
        }
        self.rest()
    }

    fn churn(&mut self, nodes: usize) -> Told {
        self.build(nodes)?;
        self.fleet.object_loss = OBJECT_LOSS;
        let mut dead: Vec<Index> = Vec::new();
        for turn in 0..120 {
            self.pass(0..3_000)?;
            self.disturb(&mut dead)?;
            if dead.len() > nodes / 3 || (!dead.is_empty() && self.fleet.rng.gen_bool(0.4)) {
                let at = dead.swap_remove(self.fleet.rng.gen_range(0..dead.len()));
                if self.fleet.rng.gen_bool(0.2) {
                    self.reinstall(at);
                }
                self.fleet.boot(at)?;
            }
            if turn % 40 == 20 {
                let fanout = self.fleet.rng.gen_range(2..=6);
                self.fleet.set_fanout(fanout)?;
            }
            self.talk(1)?;
        }
        self.rest()
    }

    /// Machines, some of which nobody can dial; the first one is the first member of the network.
    fn found(&mut self, nodes: usize) -> Told {
        for at in 0..nodes {
            let dialable = at < 3 || self.fleet.rng.gen_bool(0.9);
            let seeds: Vec<Index> = (0..at.min(3)).collect();
            self.fleet.add(dialable, &seeds);
        }
        self.fleet.boot(0)?;
        self.pass(500..1_500)
    }

    /// A whole tree of all machines.
    fn build(&mut self, nodes: usize) -> Told {
        self.found(nodes)?;
        for at in 1..nodes {
            self.pass(0..400)?;
            self.fleet.boot(at)?;
        }
        self.settle()
    }

    /// One random mishap.
    fn disturb(&mut self, dead: &mut Vec<Index>) -> Told {
        match self.fleet.rng.gen_range(0..10) {
            0..=2 => self.fleet.break_link(),
            3..=5 => {
                let silent = self.fleet.rng.gen_bool(0.5);
                if let Some(at) = self.fleet.any_running() {
                    self.kill(at, silent, dead);
                }
            }
            6 => {
                // Restarted by systemd within a moment.
                if let Some(at) = self.fleet.any_running() {
                    self.fleet.kill(at, false);
                    self.pass(0..500)?;
                    self.fleet.boot(at)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A fresh disk and a fresh invitation, which names members that run.
    fn reinstall(&mut self, at: Index) {
        let named: Vec<Index> = (0..3).filter_map(|_| self.fleet.any_dialable()).collect();
        let seeds = named.iter().map(|seed| self.fleet.machines[*seed].contact()).collect();
        let machine = &mut self.fleet.machines[at];
        machine.disk = Disk::default();
        machine.seeds = seeds;
    }

    fn kill_root(&mut self, silent: bool, dead: &mut Vec<Index>) {
        if let Some(root) = self.fleet.root() {
            self.kill(root, silent, dead);
        }
    }

    fn kill(&mut self, at: Index, silent: bool, dead: &mut Vec<Index>) {
        // A fleet whose first members all died at once has lost its seeds, which no tree heals.
        if self.fleet.running().len() > 3 {
            self.fleet.kill(at, silent);
            dead.push(at);
        }
    }

    /// Broadcasts from anywhere, and now and then a statement.
    fn talk(&mut self, count: usize) -> Told {
        for _ in 0..count {
            self.fleet.publish_anywhere()?;
            if self.fleet.rng.gen_bool(0.3) {
                self.fleet.publish_statement()?;
            }
        }
        Ok(())
    }

    /// Nothing disturbs any more: one tree, everything everywhere, and a broadcast arrives fast.
    fn rest(&mut self) -> Told {
        self.fleet.object_loss = 0.0;
        self.settle()?;
        for _ in 0..3 {
            self.fleet.publish_anywhere()?;
            self.fleet.publish_statement()?;
            self.fleet.deliver(BROADCAST_MAX)?;
        }
        // Left alone, the tree stays whole and grows flat.
        self.fleet.run(QUIET)?;
        self.settle()?;
        let (height, most) = (self.fleet.height(), self.height_max());
        // In larger fleets the few free places that are known at a time take longer to be taken.
        if height > most && self.fleet.machines.len() <= FLAT_NODES_MAX {
            return Err(self.fleet.violation(format!("height {height}, expected {most} at most")));
        }
        Ok(())
    }

    /// The height of a tree without gaps in which every second place is taken by a node that must
    /// stay a leaf, and what nodes may hang too deep before they move.
    fn height_max(&self) -> usize {
        let places = self.fleet.running().len();
        let half = usize::from(self.fleet.fanout).div_ceil(2).max(2);
        let (mut height, mut width, mut room) = (0, 1, 1);
        while room < places {
            (height, width) = (height + 1, width * half);
            room += width;
        }
        height + bounds::CLIMB_LEVELS + 1
    }

    fn settle(&mut self) -> Told {
        let took = self.fleet.settle(SETTLE_MAX)?;
        self.slowest = self.slowest.max(took);
        Ok(())
    }

    fn pass(&mut self, ms: core::ops::Range<u64>) -> Told {
        let ms = self.fleet.rng.gen_range(ms);
        self.fleet.run(Duration::from_millis(ms))
    }

    fn children_of(&self, at: Index) -> Vec<Index> {
        let children = self.fleet.machines[at].node.as_ref().map(crate::Node::children);
        let dialable = |at: &Index| self.fleet.machines[*at].dialable;
        let known = children.unwrap_or_default().into_iter();
        known.filter_map(|id| self.fleet.position(&id)).filter(dialable).collect()
    }
}

impl Fleet {
    fn publish_anywhere(&mut self) -> Told {
        match self.any_running() {
            Some(at) => self.publish(at).map(|_| ()),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spine => "spine",
            Self::RootDeath => "root-death",
            Self::Partition => "partition",
            Self::Churn => "churn",
        })
    }
}

/// A name that is no scenario's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no scenario: choose spine, root-death, partition or churn")]
pub struct UnknownScenario(String);

impl FromStr for Scenario {
    type Err = UnknownScenario;

    fn from_str(text: &str) -> Result<Self, UnknownScenario> {
        let known = ALL.into_iter().find(|scenario| scenario.to_string() == text);
        known.ok_or_else(|| UnknownScenario(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(scenario: Scenario, seeds: std::ops::Range<u64>, nodes: usize) {
        for seed in seeds {
            let outcome = scenario.run(seed, nodes, None);
            assert_eq!(outcome.violation, None, "replay: borgios-sim {scenario} --seed {seed}");
        }
    }

    #[test]
    fn a_fleet_grows_while_servers_die() {
        passes(Scenario::Spine, 1..4, 60);
    }

    #[test]
    fn the_heir_becomes_root_and_the_others_join_it() {
        passes(Scenario::RootDeath, 1..4, 30);
    }

    #[test]
    fn two_halves_become_one_tree_again() {
        passes(Scenario::Partition, 1..4, 30);
    }

    #[test]
    fn churn_ends_in_one_tree() {
        passes(Scenario::Churn, 1..4, 30);
    }

    #[test]
    fn the_same_seed_is_the_same_run() {
        let run = |seed| Scenario::Spine.run(seed, 40, None);
        let (one, two, other) = (run(7), run(7), run(8));
        assert_eq!((one.trace.clone(), one.events), (two.trace, two.events));
        assert_ne!(one.trace, other.trace);
    }
}
