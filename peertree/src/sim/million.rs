//! A million nodes: they join, churn, die, and one broadcast reaches them all.
//!
//! ```text
//! join ──▶ broadcast ──▶ churn ──▶ broadcast ──▶ 10 % die at once ──▶ healed ──▶ broadcast
//! ```
//!
//! The first nodes, some hundreds, join at the root, all others at members of the upper levels that their
//! invitations name, and follow redirects; the fleet grows by its own size every
//! second until [`Plan::joins_per_s`] is reached. Signatures are stubbed (a shell admits what it
//! is offered), nodes publish no join records (a million of them to a million nodes are no matter
//! of the tree), and remember [`REMEMBERED`] contacts. Global invariants are checked at intervals,
//! not after every step: each stage ends with a look at every node and both ends of every link.

use std::time::Duration;

use borgios_types::Time;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::config::Config;
use crate::node::{Node, Phase};
use crate::sim::giant::{Giant, Seat};
pub use crate::sim::plan::{Figures, Heap, Plan, minimum_depth};

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
/// Virtual time between two words about how far this is.
const PROGRESS: Duration = Duration::from_secs(5);
/// Pace of looking whether the fleet is whole while it heals.
const LOOK: Duration = Duration::from_millis(100);

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
        say,
        told: Time::default(),
        suspect: 0,
    };
    story.join()?;
    story.settle(PATIENCE)?;
    story.figures.depth_joined = story.depth();
    story.say(format_args!("joined"));
    story.broadcast()?;
    story.churn()?;
    let heard = story.broadcast()?;
    (story.figures.transmissions, story.figures.last_ms) = (heard.sent, heard.last_ms);
    story.figures.depth = heard.depth;
    story.die()?;
    story.figures.transmissions_healed = story.broadcast()?.sent;
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

/// What one broadcast was.
struct Heard {
    /// Messages that carried it.
    sent: u64,
    /// When the last node had it, in milliseconds after it was sent.
    last_ms: u64,
    /// Steps from the root to the deepest node at that time: nodes move up while a fleet settles.
    depth: u32,
}

struct Story<'a> {
    giant: Giant,
    rng: ChaCha8Rng,
    figures: Figures,
    published: u32,
    plan: Plan,
    config: Config,
    say: &'a mut dyn FnMut(String),
    /// When it was last said how far this is.
    told: Time,
    /// The machine at which the fleet was last found not to be whole: looked at first, since a fleet
    /// that heals is asked often.
    suspect: usize,
}

impl Story<'_> {
    fn pass(&mut self, duration: Duration) {
        self.giant.run(self.giant.now + duration, &self.config, self.plan.seed);
        if self.giant.now.since(self.told) >= PROGRESS {
            let (events, joins) = (self.giant.counts.events, self.giant.counts.joins);
            let events = events as f64 / 1e6;
            self.say(format_args!("{events:.1} million events, {joins} questions for a place"));
        }
    }

    /// One line: when in virtual time, and what.
    fn say(&mut self, what: std::fmt::Arguments<'_>) {
        self.told = self.giant.now;
        (self.say)(format!("{:.1} s virtual: {what}", self.giant.now.0 as f64 / 1e3));
    }

    /// All machines join, ever faster.
    fn join(&mut self) -> Result<(), String> {
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
                self.say(format_args!("{size} started"));
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
            match self.whole() {
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
    fn churn(&mut self) -> Result<(), String> {
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
        let depth = self.depth();
        self.say(format_args!("churned: {nodes} nodes, depth {depth}"));
        while self.depth() > minimum + 1 && self.giant.now.since(begun) < FLAT_MAX {
            self.pass(Duration::from_secs(1));
        }
        self.settle(PATIENCE)?;
        self.figures.flat_after_s = seconds(self.giant.now.since(begun));
        self.figures.nodes = nodes;
        self.figures.minimum_depth = minimum;
        let (depth, after) = (self.depth(), self.figures.flat_after_s);
        self.say(format_args!("depth {depth} after {after} s"));
        Ok(())
    }

    /// Many machines lose their power at once.
    fn die(&mut self) -> Result<(), String> {
        for _ in 0..(f64::from(self.plan.nodes) * self.plan.deaths) as u32 {
            let at = self.any(0);
            self.giant.kill(at);
        }
        let took = self.settle(PATIENCE)?;
        self.figures.heal_virtual_s = seconds(took);
        self.figures.survivors = self.giant.nodes.iter().flatten().count() as u64;
        self.figures.depth_healed = self.depth();
        let depth = self.figures.depth_healed;
        self.say(format_args!("healed after {} s, depth {depth}", seconds(took)));
        Ok(())
    }

    /// One object from the root, when nobody moves.
    fn broadcast(&mut self) -> Result<Heard, String> {
        let root =
            self.giant.nodes.iter().position(|node| {
                node.as_ref().is_some_and(|node| matches!(node.phase, Phase::Root))
            });
        let root = root.ok_or("no root")? as Seat;
        self.calm();
        let (begun, depth) = (self.giant.now, self.depth());
        self.published += 1;
        let text = self.published.to_string();
        self.giant.publish(root, &text).map_err(|error| error.to_string())?;
        self.pass(BROADCAST_MAX);
        let others = self.giant.nodes.iter().flatten().count() as u64 - 1;
        let received = self.giant.counts.received;
        if received != others {
            return Err(format!("{received} of {others} nodes received the broadcast"));
        }
        let last_ms = self.giant.counts.last.since(begun).as_millis() as u64;
        let sent = self.giant.counts.carried;
        self.say(format_args!("broadcast: depth {depth}, {sent} transmissions, {last_ms} ms"));
        Ok(Heard { sent, last_ms, depth })
    }

    /// Waits until nobody looks for a better place: who moves hears a broadcast on both sides.
    fn calm(&mut self) {
        let begun = self.giant.now;
        while self.giant.now.since(begun) < CALM_MAX {
            let before = self.giant.counts.joins;
            self.pass(Duration::from_secs(1));
            if self.giant.counts.joins == before {
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
        let count = self.giant.nodes.len();
        let mut roots = 0;
        for at in (self.suspect..count).chain(0..self.suspect) {
            let Some(node) = &self.giant.nodes[at] else { continue };
            match self.linked(node) {
                Ok(root) => roots += u32::from(root),
                Err(what) => {
                    self.suspect = at;
                    return Err(format!("n{at} {what}"));
                }
            }
        }
        if roots != 1 {
            return Err(format!("{roots} roots"));
        }
        self.each_holds()
    }

    /// Whether a node is a root, or a child of its parent.
    fn linked(&self, node: &Node) -> Result<bool, &'static str> {
        let Some(parent) = node.parent() else {
            let root = matches!(node.phase, Phase::Root);
            return if root { Ok(true) } else { Err("is not attached") };
        };
        let Some(parent) = self.giant.node(&parent) else { return Err("has a dead parent") };
        if !parent.has_child(&node.id()) {
            return Err("is unknown to its parent");
        }
        if node.is_under(parent) { Ok(false) } else { Err("has an old path") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_all() {
        let hop = Duration::from_millis(10);
        let play = |seed| {
            let plan = Plan { nodes: 300, fanout: 3, hop, churn: 0.01, deaths: 0.1, seed };
            let mut lines = Vec::new();
            let figures = run(plan, &Heap::default, &mut |line| lines.push(line)).unwrap();
            (serde_json::to_string(&figures).unwrap(), lines)
        };
        assert_eq!(play(7), play(7));
        assert_ne!(play(7).0, play(8).0);
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
