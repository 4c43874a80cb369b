//! The fair end of every story: faults stop, messages arrive, timers fire when they are due; the tree must be whole.

use std::time::Duration;

use borgios_peertree::{Node, State};
use borgios_types::Time;

use crate::real::fleet::{Fleet, Step};
use crate::real::network::Index;

/// By then a fleet of a handful must be whole: all rounds of seeking with their pauses, then some probes for rivals, of
/// which the first may be ignored.
pub const SETTLE_MAX: Duration = Duration::from_secs(240);
/// For so long it must then stay whole: four silences that a neighbour is allowed.
const STAYS: Duration = Duration::from_secs(10);
/// Steps in which messages must come to rest before time may pass.
const BURST_MAX: usize = 5_000;

impl Fleet {
    /// Lets time pass without faults until the tree is whole and stays so.
    ///
    /// # Errors
    /// What is still wrong after [`SETTLE_MAX`], or that messages never came to rest.
    pub fn settle(&mut self) -> Result<(), String> {
        self.faults = 0;
        self.settling = true;
        self.machines.iter_mut().for_each(|machine| machine.isolated = false);
        let end = self.now + SETTLE_MAX;
        let mut whole_since: Option<Time> = None;
        loop {
            self.rest()?;
            match (self.whole(), whole_since) {
                (Ok(()), None) => whole_since = Some(self.now),
                (Ok(()), Some(since)) if self.now.since(since) >= STAYS => return Ok(()),
                (Ok(()), Some(_)) => {}
                (Err(what), Some(_)) if self.now > end => {
                    return Err(format!("does not stay whole: {what}"));
                }
                (Err(what), None) if self.now > end => return Err(what),
                (Err(_), _) => whole_since = None,
            }
            let Some((due, at, timer)) = self.next_timer() else {
                return Err("no timer runs".to_owned());
            };
            self.now = self.now.max(due);
            self.take(Step::Fire(at, timer));
        }
    }

    /// Delivers and dials until nothing is on its way.
    fn rest(&mut self) -> Result<(), String> {
        for _ in 0..BURST_MAX {
            let next = self.network.busy().next().map(|(from, to)| Step::Deliver(from, to, ""));
            let next = next.or(self.dials.first().map(|(from, to)| Step::Dial(*from, *to)));
            let Some(step) = next else { return Ok(()) };
            self.take(step);
        }
        Err("messages never come to rest".to_owned())
    }

    fn next_timer(&self) -> Option<(Time, Index, borgios_peertree::Timer)> {
        let machines = self.machines.iter().enumerate();
        machines
            .flat_map(|(at, machine)| {
                machine.timers.iter().map(move |(timer, due)| (*due, at, *timer))
            })
            .min()
    }

    /// Whether the running nodes are one tree whose two ends agree everywhere; what is wrong otherwise.
    ///
    /// Where nobody who runs was ever in the tree, nothing is asked for: a newcomer makes no tree of its own, or a
    /// founder's death on the first day would leave many.
    ///
    /// # Errors
    /// What is wrong.
    pub fn whole(&self) -> Result<(), String> {
        if self.running().all(|(at, _)| !self.machines[at].member && at != 0) {
            return Ok(());
        }
        let running: Vec<(Index, &Node)> = self.running().collect();
        let roots = running.iter().filter(|(_, node)| node.state() == State::Root).count();
        if roots != 1 && !running.is_empty() {
            return Err(format!("{roots} roots: {self:?}"));
        }
        for (at, node) in running {
            let Some(parent) = node.parent() else {
                if node.state() == State::Root {
                    continue;
                }
                return Err(format!("n{at} has no parent: {self:?}"));
            };
            let parent = self.position(parent).and_then(|at| self.machines[at].node.as_ref());
            let Some(parent) = parent else {
                return Err(format!("n{at} has a dead parent: {self:?}"));
            };
            if !parent.children().contains(&node.id()) {
                return Err(format!("n{at} is unknown to its parent: {self:?}"));
            }
            let mut path = parent.path();
            path.push(node.id());
            if path != node.path() {
                return Err(format!("n{at} has an old path: {self:?}"));
            }
        }
        for (at, node) in self.running() {
            for child in node.children() {
                let child = self.position(child).and_then(|at| self.machines[at].node.as_ref());
                if child.and_then(Node::parent) != Some(node.id()) {
                    return Err(format!("n{at} has a child that is none: {self:?}"));
                }
            }
        }
        Ok(())
    }

    /// Running nodes.
    pub fn running(&self) -> impl Iterator<Item = (Index, &Node)> {
        self.machines
            .iter()
            .enumerate()
            .filter_map(|(at, machine)| Some((at, machine.node.as_ref()?)))
    }
}
