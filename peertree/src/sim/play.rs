//! Plays a scenario on a fleet: act by act, with its assertions.

use std::collections::BTreeMap;
use std::time::Duration;

use borgios_types::{Digest, Time};
use rand::Rng as _;
use serde::Serialize;

use crate::io::Input;
use crate::sim::fleet::{Fleet, Violation};
use crate::sim::machine::Disk;
use crate::sim::million::minimum_depth;
use crate::sim::script::{Act, Count, Line, Script, Span, Who};
use crate::sim::trace::Sink;
use crate::sim::vice::Vice;
use crate::sim::wire::Index;

/// Pace of looking whether anything is withheld.
const LOOK: Duration = Duration::from_secs(1);
/// Machines that are left running, whatever a scenario says: a fleet whose first members all died
/// has lost its seeds, which no tree heals.
const FEWEST: usize = 4;

/// What a run showed.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// The run's seed.
    pub seed: u64,
    /// Machines.
    pub nodes: usize,
    /// Those of them that are hostile.
    pub hostile: usize,
    /// What broke, if anything did.
    pub violation: Option<String>,
    /// The line of the scenario at which it broke.
    pub line: Option<usize>,
    /// Digest of all events: equal for equal runs.
    pub trace: String,
    /// Events that happened.
    pub events: u64,
    /// Virtual time that passed, in milliseconds.
    pub virtual_ms: u64,
    /// The longest time the fleet took to be whole again after a disturbance, in milliseconds.
    pub slowest_heal_ms: u64,
    /// The longest time an honest node lacked what an honest neighbour had, in milliseconds.
    pub longest_lack_ms: u64,
    /// Depth of the deepest node at the end.
    pub height: usize,
    /// When each machine had the last broadcast, in milliseconds after it was published.
    #[serde(skip)]
    pub coverage: Vec<u64>,
}

/// Told the number and the words of each line before it happens.
pub type Announce<'a> = &'a mut dyn FnMut(usize, &str);

impl Script {
    /// Plays it; `nodes` replaces the scenario's own number. Returns the fleet as it is at the end.
    #[must_use]
    pub fn play(
        &self,
        name: &str,
        seed: u64,
        nodes: Option<usize>,
        sink: Option<Sink>,
        announce: Announce<'_>,
    ) -> (Outcome, Fleet) {
        let mut fleet = Fleet::new(seed, self.fanout, sink);
        fleet.latency = Some(self.latency.clone());
        fleet.bytes = self.counts_bytes.then_some(0);
        let mut player = Player {
            fleet,
            nodes: nodes.unwrap_or(self.nodes),
            started: 0,
            dead: Vec::new(),
            slowest: Duration::ZERO,
            watch: None,
            lacking: BTreeMap::new(),
            longest_lack: Duration::ZERO,
            counted: (Time::default(), 0),
            line: 0,
            announce,
        };
        player.found(self);
        let result = player.all(&self.acts);
        let Player { fleet, slowest, longest_lack, line, nodes, .. } = player;
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let published = fleet.published_at.last().map_or(Time::default(), |last| last.1);
        let outcome = Outcome {
            scenario: name.to_owned(),
            seed,
            nodes,
            hostile: fleet.machines.iter().filter(|machine| machine.vice.is_some()).count(),
            line: result.is_err().then_some(line),
            violation: result.err().map(|violation| violation.to_string()),
            trace: format!("{:016x}", fleet.trace.digest()),
            events: fleet.trace.events(),
            virtual_ms: fleet.now.0,
            slowest_heal_ms: ms(slowest),
            longest_lack_ms: ms(longest_lack),
            height: fleet.height(),
            coverage: fleet.arrivals.iter().map(|at| ms(at.since(published))).collect(),
        };
        (outcome, fleet)
    }
}

struct Player<'a> {
    fleet: Fleet,
    nodes: usize,
    /// Machines that were started at least once: the first ones.
    started: usize,
    dead: Vec<Index>,
    slowest: Duration,
    /// Longest time for which an honest node may lack what an honest neighbour has.
    watch: Option<Duration>,
    lacking: BTreeMap<(Index, Digest), Time>,
    longest_lack: Duration,
    /// When the last `wait` began, and the bytes sent by then.
    counted: (Time, u64),
    line: usize,
    announce: Announce<'a>,
}

type Told = Result<(), Violation>;

impl Player<'_> {
    /// Makes the machines; none runs yet. The first three can be dialled, are honest and fast.
    fn found(&mut self, script: &Script) {
        for at in 0..self.nodes {
            let dialable = at < 3 || !self.fleet.rng.gen_bool(script.undialable);
            let seeds: Vec<Index> = (0..at.min(3)).collect();
            self.fleet.add(dialable, &seeds);
            if at >= 3 && self.fleet.rng.gen_bool(script.slow.0) {
                self.fleet.machines[at].slow_ms = script.slow.1;
            }
        }
        for (vice, share) in &script.hostile {
            let mut honest: Vec<Index> =
                (3..self.nodes).filter(|at| self.fleet.machines[*at].vice.is_none()).collect();
            for _ in 0..((self.nodes as f64 * share).ceil() as usize).min(honest.len()) {
                let at = honest.swap_remove(self.fleet.rng.gen_range(0..honest.len()));
                let victim = self.fleet.machines[1].contact();
                let machine = &mut self.fleet.machines[at];
                machine.vice = Some(*vice);
                if *vice == Vice::Sybil {
                    machine.dialable = false;
                    machine.seeds = vec![victim];
                }
            }
        }
    }

    fn all(&mut self, lines: &[Line]) -> Told {
        lines.iter().try_for_each(|line| self.one(line))
    }

    fn one(&mut self, line: &Line) -> Told {
        self.line = line.number;
        if !matches!(line.act, Act::Repeat(..) | Act::Chance(..)) {
            (self.announce)(line.number, &line.text);
        }
        match &line.act {
            Act::Join(count, every) => self.join(*count, *every),
            Act::Wait(span) => {
                self.counted = (self.fleet.now, self.fleet.bytes.unwrap_or(0));
                self.pass(*span)
            }
            Act::Broadcast(count) => (0..*count).try_for_each(|_| match self.any_honest() {
                Some(at) => self.fleet.publish(at).map(|_| ()),
                None => Ok(()),
            }),
            Act::Statement => self.fleet.publish_statement(),
            Act::Loss(share) => {
                self.fleet.object_loss = *share;
                Ok(())
            }
            Act::Kill(who, silent) => {
                for at in self.whom(*who) {
                    self.kill(at, *silent);
                }
                Ok(())
            }
            Act::Return(count) => {
                for _ in 0..self.number(*count).min(self.dead.len()) {
                    let at = self.any_dead();
                    self.fleet.boot(at)?;
                    self.wait(Duration::from_millis(500))?;
                }
                Ok(())
            }
            Act::Restart => {
                let Some(at) = self.fleet.any_running() else { return Ok(()) };
                self.fleet.kill(at, false);
                self.pass((Duration::ZERO, Duration::from_millis(500)))?;
                self.fleet.boot(at)
            }
            Act::Reinstall => self.reinstall(),
            Act::Leave(count) => {
                for at in self.whom(Who::Any(*count)) {
                    if self.fleet.running().len() >= FEWEST {
                        self.fleet.step(at, Input::Stop)?;
                        self.kill(at, false);
                    }
                }
                Ok(())
            }
            Act::Break => {
                self.fleet.break_link();
                Ok(())
            }
            Act::Split(least, most) => {
                let share = self.fleet.rng.gen_range(*least..=*most);
                let sides = (0..self.nodes).map(|_| u8::from(self.fleet.rng.gen_bool(share)));
                let sides = sides.collect();
                self.fleet.split(sides);
                Ok(())
            }
            Act::Heal => {
                self.fleet.split(Vec::new());
                Ok(())
            }
            Act::Fanout(least, most) => {
                let fanout = self.fleet.rng.gen_range(*least..=*most);
                self.fleet.set_fanout(fanout)
            }
            Act::Cross => self.fleet.choose_cross(),
            Act::Repeat(times, lines) => (0..*times).try_for_each(|_| self.all(lines)),
            Act::Chance(share, line) => {
                if self.fleet.rng.gen_bool(*share) {
                    self.one(line)
                } else {
                    Ok(())
                }
            }
            Act::ExpectTree(limit) => {
                let took = self.fleet.settle(*limit)?;
                self.slowest = self.slowest.max(took);
                Ok(())
            }
            Act::ExpectEverything(limit) => self.fleet.deliver(*limit).map(|_| ()),
            Act::ExpectHonest(share, limit) => self.fleet.honest(*share, *limit).map(|_| ()),
            Act::ExpectDepth(steps, above) => {
                let nodes = self.fleet.running().len() as u64;
                let least = minimum_depth(nodes, self.fleet.fanout) as usize;
                let most = if *above { least + steps } else { *steps };
                let depth = self.fleet.height();
                self.must(depth <= most, || format!("depth {depth}, expected {most} at most"))
            }
            Act::ExpectBytes(most) => {
                let (begun, before) = self.counted;
                let ms = self.fleet.now.since(begun).as_millis().max(1) as u64;
                let nodes = self.fleet.running().len().max(1) as u64;
                let rate = (self.fleet.bytes.unwrap_or(0) - before) * 1_000 / ms / nodes;
                self.must(rate <= *most, || {
                    format!("{rate} bytes a second and node, expected {most} at most")
                })
            }
            Act::Watch(limit) => {
                self.watch = Some(*limit);
                Ok(())
            }
        }
    }

    fn must(&self, holds: bool, words: impl FnOnce() -> String) -> Told {
        if holds { Ok(()) } else { Err(self.fleet.violation(words())) }
    }

    /// Lets time pass, looking now and then whether anything is withheld.
    fn wait(&mut self, duration: Duration) -> Told {
        let end = self.fleet.now + duration;
        while self.fleet.now < end {
            let step = end.since(self.fleet.now).min(LOOK);
            self.fleet.run(step)?;
            if let Some(limit) = self.watch {
                self.look(limit)?;
            }
        }
        Ok(())
    }

    fn look(&mut self, limit: Duration) -> Told {
        let now = self.fleet.now;
        let mut still = BTreeMap::new();
        for (id, _) in &self.fleet.published_at {
            for (at, friend) in self.fleet.withheld(id) {
                let since = self.lacking.get(&(at, *id)).copied().unwrap_or(now);
                self.longest_lack = self.longest_lack.max(now.since(since));
                if now.since(since) > limit {
                    let words = format!(
                        "n{at} has lacked {} for {limit:?}, which its honest neighbour n{friend} has",
                        id.short()
                    );
                    return Err(self.fleet.violation(words));
                }
                still.insert((at, *id), since);
            }
        }
        self.lacking = still;
        Ok(())
    }

    fn pass(&mut self, (least, most): Span) -> Told {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let ms = self.fleet.rng.gen_range(ms(least)..=ms(most));
        self.wait(Duration::from_millis(ms))
    }

    fn number(&self, count: Count) -> usize {
        match count {
            Count::Some(number) => number,
            Count::Share(share) => (self.nodes as f64 * share).round() as usize,
            Count::All => usize::MAX,
        }
    }

    /// Machines join for the first time; the very first one has a moment to found the network.
    fn join(&mut self, count: Count, every: Span) -> Told {
        let most = self.number(count).min(self.nodes - self.started);
        for _ in 0..most {
            self.fleet.boot(self.started)?;
            self.started += 1;
            if self.started == 1 {
                self.wait(Duration::from_secs(1))?;
            }
            self.pass(every)?;
        }
        Ok(())
    }

    fn whom(&mut self, who: Who) -> Vec<Index> {
        let root = self.fleet.root();
        match who {
            Who::Root => root.into_iter().collect(),
            Who::RootAndHeir => {
                let node = root.and_then(|root| self.fleet.machines[root].node.as_ref());
                let heirs = node.map(crate::Node::children).unwrap_or_default();
                let heir = heirs
                    .iter()
                    .filter_map(|id| self.fleet.position(id))
                    .find(|at| self.fleet.machines[*at].dialable);
                root.into_iter().chain(heir).collect()
            }
            Who::Any(count) => {
                let mut running = self.fleet.running();
                let mut chosen = Vec::new();
                for _ in 0..self.number(count).min(running.len()) {
                    chosen.push(running.swap_remove(self.fleet.rng.gen_range(0..running.len())));
                }
                chosen
            }
        }
    }

    fn kill(&mut self, at: Index, silent: bool) {
        if self.fleet.running().len() >= FEWEST {
            self.fleet.kill(at, silent);
            self.dead.push(at);
        }
    }

    /// A random dead machine, which counts as dead no longer; there must be one.
    fn any_dead(&mut self) -> Index {
        let at = self.fleet.rng.gen_range(0..self.dead.len());
        self.dead.swap_remove(at)
    }

    fn any_honest(&mut self) -> Option<Index> {
        let mut running = self.fleet.running();
        running.retain(|at| self.fleet.machines[*at].vice.is_none());
        (!running.is_empty()).then(|| running[self.fleet.rng.gen_range(0..running.len())])
    }

    /// A fresh disk and a fresh invitation, which names members that run.
    fn reinstall(&mut self) -> Told {
        if self.dead.is_empty() {
            return Ok(());
        }
        let at = self.any_dead();
        let named: Vec<Index> = (0..3).filter_map(|_| self.fleet.any_dialable()).collect();
        let seeds = named.iter().map(|seed| self.fleet.machines[*seed].contact()).collect();
        let machine = &mut self.fleet.machines[at];
        machine.disk = Disk::default();
        machine.seeds = seeds;
        self.fleet.boot(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(name: &str, text: &str, nodes: usize, seeds: std::ops::Range<u64>) {
        let script = Script::parse(text).unwrap();
        for seed in seeds {
            let (outcome, _) = script.play(name, seed, Some(nodes), None, &mut |_, _| ());
            let line = outcome.line;
            assert_eq!(outcome.violation, None, "line {line:?}; borgios-sim {name} --seed {seed}");
        }
    }

    #[test]
    fn a_fleet_grows_while_servers_die() {
        passes("spine", include_str!("../../scenarios/spine.sim"), 60, 1..3);
    }

    #[test]
    fn the_root_dies_and_the_others_are_one_tree_again() {
        passes("root-death", include_str!("../../scenarios/root-death.sim"), 30, 1..4);
    }

    #[test]
    fn two_halves_become_one_tree_again() {
        passes("partition", include_str!("../../scenarios/partition.sim"), 30, 1..3);
    }

    #[test]
    fn churn_ends_in_one_tree() {
        passes("churn", include_str!("../../scenarios/churn.sim"), 30, 1..3);
    }

    #[test]
    fn the_same_seed_is_the_same_run() {
        let script = Script::parse(include_str!("../../scenarios/hostile.sim")).unwrap();
        let run = |seed| script.play("hostile", seed, Some(30), None, &mut |_, _| ()).0;
        let (one, two, other) = (run(7), run(7), run(8));
        assert_eq!((one.trace.clone(), one.events), (two.trace, two.events));
        assert_ne!(one.trace, other.trace);
    }

    #[test]
    fn what_is_not_as_expected_is_told_with_its_line() {
        let script =
            Script::parse("nodes 9\njoin all every 100ms\nwait 5s\nexpect depth 0\n").unwrap();
        let (outcome, _) = script.play("flat", 1, None, None, &mut |_, _| ());
        assert_eq!(outcome.line, Some(4));
        assert!(outcome.violation.unwrap().contains("expected 0 at most"));
    }

    #[test]
    fn honest_machines_that_lack_what_was_published_are_told() {
        let text = "nodes 9\njoin all every 100ms\nwait 5s\nbroadcast 1\n";
        let now = Script::parse(&format!("{text}expect honest 100% within 0ms\n")).unwrap();
        let (outcome, _) = now.play("honest", 1, None, None, &mut |_, _| ());
        assert_eq!(outcome.line, Some(5));
        assert!(outcome.violation.unwrap().contains("of 9 honest nodes fare well, expected 9"));
        passes("honest", &format!("{text}expect honest 100% within 10s\n"), 9, 1..3);
    }
}
