//! The invariants of the fleet.
//!
//! After every step, on the node touched: its own rules, and the fan-out. Every second, on all:
//! the same, and no cycle of parents that lasts. At quiescence: one root, everyone attached, both
//! ends of each link agree, paths are true, every store holds everything.
//!
//! That nothing is delivered twice is checked where it would happen, at each offer (`fleet.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use borgios_types::{Digest, NodeId};

use crate::node::Node;
use crate::sim::fleet::{Fleet, Violation};
use crate::sim::wire::Index;
use crate::state::State;

/// A cycle of parents must be gone by then: its news needs one trip round, its members a moment.
const CYCLE_MAX: Duration = Duration::from_secs(20);

impl Fleet {
    /// Checks one node.
    pub(crate) fn check_touched(&self, at: Index) -> Result<(), Violation> {
        let Some(node) = &self.machines[at].node else { return Ok(()) };
        node.check().map_err(|what| self.violation(format!("n{at}: {what}")))?;
        if node.children().len() > usize::from(self.fanout.max(node.fanout())) {
            return Err(self.violation(format!("n{at} has {} children", node.children().len())));
        }
        Ok(())
    }

    /// Checks all nodes, and that no cycle lasts.
    pub(crate) fn check_all(&mut self) -> Result<(), Violation> {
        for at in 0..self.machines.len() {
            self.check_touched(at)?;
        }
        let around = self.in_cycles();
        self.note_cycles(around)
    }

    /// Notes who is in a cycle now; refuses one that lasts.
    fn note_cycles(&mut self, around: BTreeSet<Index>) -> Result<(), Violation> {
        let now = self.now;
        self.cycle_since.retain(|at, _| around.contains(at));
        for at in around {
            let since = *self.cycle_since.entry(at).or_insert(now);
            if now.since(since) > CYCLE_MAX {
                return Err(self.violation(format!("n{at} has been in a cycle for {CYCLE_MAX:?}")));
            }
        }
        Ok(())
    }

    /// Every honest machine that is its own ancestor by honest ones alone: a hostile one in a cycle can
    /// hide it from those who are in it, by a false path or by silence; nobody outside can.
    fn in_cycles(&self) -> BTreeSet<Index> {
        let honest = |at: Index| self.machines[at].vice.is_none();
        let parents: BTreeMap<Index, Index> = self
            .nodes()
            .filter_map(|(at, node)| Some((at, self.position(&node.parent()?)?)))
            .filter(|(at, parent)| honest(*at) && honest(*parent))
            .collect();
        around(&parents)
    }

    /// Whether the fleet is one whole tree in which every store holds everything; what is wrong
    /// otherwise.
    pub(crate) fn whole(&self) -> Result<(), String> {
        let roots: Vec<Index> = self
            .nodes()
            .filter(|(_, node)| node.state() == State::Root)
            .map(|(at, _)| at)
            .collect();
        let [root] = roots[..] else { return Err(format!("roots: {roots:?}")) };
        for (at, node) in self.nodes() {
            if at != root && node.parent().is_none() {
                return Err(format!("n{at} is not attached: {:?}", node.state()));
            }
            self.agrees(at, node)?;
        }
        let count = self.running().len();
        let size = self.machines[root].node.as_ref().map_or(0, Node::subtree_size);
        if size as usize != count {
            return Err(format!("the root counts {size} of {count} nodes"));
        }
        self.same_stores()
    }

    /// Whether so large a share of the honest machines that run has a place and holds all that was
    /// published; how many have, and one that has not, otherwise.
    pub(crate) fn honest_fare_well(&self, share: f64) -> Result<(), String> {
        let honest: Vec<(Index, &Node)> =
            self.nodes().filter(|(at, _)| self.machines[*at].vice.is_none()).collect();
        let (mut well, mut worst) = (0, String::new());
        for (at, node) in &honest {
            let objects = &self.machines[*at].disk.objects;
            let lacks =
                self.published_at.iter().filter(|(id, _)| !objects.contains_key(id)).count();
            let placed = node.state() == State::Root || node.parent().is_some();
            if placed && lacks == 0 {
                well += 1;
            } else {
                worst = format!("n{at} lacks {lacks} objects, {:?}", node.state());
            }
        }
        let needed = (honest.len() as f64 * share).ceil() as usize;
        if well >= needed {
            return Ok(());
        }
        Err(format!(
            "{well} of {} honest nodes fare well, expected {needed}; {worst}",
            honest.len()
        ))
    }

    /// Parent and children know of each other, and the path is true.
    fn agrees(&self, at: Index, node: &Node) -> Result<(), String> {
        let me = node.id();
        if let Some(parent) = node.parent() {
            let Some(parent) = self.node(&parent) else {
                return Err(format!("n{at} has a dead parent"));
            };
            if !parent.children().contains(&me) {
                return Err(format!("n{at} is unknown to its parent"));
            }
            let mut path = parent.path();
            path.push(me);
            if path != node.path() {
                return Err(format!("n{at} has an old path"));
            }
        }
        for child in node.children() {
            if self.node(&child).and_then(Node::parent) != Some(me) {
                return Err(format!("n{at} has a child that is none"));
            }
        }
        Ok(())
    }

    /// Every running machine holds what any running machine holds.
    pub(crate) fn same_stores(&self) -> Result<(), String> {
        let running = self.running();
        let mut all: BTreeSet<&Digest> = BTreeSet::new();
        for at in &running {
            all.extend(self.machines[*at].disk.objects.keys());
        }
        for at in running {
            let has = self.machines[at].disk.objects.len();
            if has != all.len() {
                return Err(format!("n{at} holds {has} of {} objects", all.len()));
            }
        }
        Ok(())
    }

    /// Running nodes.
    pub fn nodes(&self) -> impl Iterator<Item = (Index, &Node)> {
        let nodes = self.machines.iter().enumerate();
        nodes.filter_map(|(at, machine)| Some((at, machine.node.as_ref()?)))
    }

    fn node(&self, id: &NodeId) -> Option<&Node> {
        self.machines[self.position(id)?].node.as_ref()
    }

    /// The root, if there is exactly one.
    #[must_use]
    pub fn root(&self) -> Option<Index> {
        let mut roots = self.nodes().filter(|(_, node)| node.state() == State::Root);
        let root = roots.next()?.0;
        roots.next().is_none().then_some(root)
    }

    /// The deepest node's depth.
    #[must_use]
    pub fn height(&self) -> usize {
        self.nodes().map(|(_, node)| node.depth()).max().unwrap_or(0)
    }
}

/// Everybody who is their own ancestor.
fn around(parents: &BTreeMap<Index, Index>) -> BTreeSet<Index> {
    let (mut seen, mut around) = (BTreeSet::new(), BTreeSet::new());
    for start in parents.keys() {
        let (mut at, mut trail) = (*start, Vec::new());
        while let Some(parent) = parents.get(&at).filter(|_| seen.insert(at)) {
            trail.push(at);
            at = *parent;
        }
        // It came back to itself, or to where another trail led.
        let back = trail.iter().position(|one| *one == at);
        around.extend(back.into_iter().flat_map(|back| trail.split_off(back)));
    }
    around
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_are_in_a_cycle_are_found_and_nobody_who_hangs_below_one() {
        let of = |pairs: &[(Index, Index)]| around(&pairs.iter().copied().collect());
        assert_eq!(of(&[(1, 0), (2, 1), (3, 1)]), BTreeSet::new());
        let two = [(1, 2), (2, 1), (3, 1), (4, 3), (5, 6), (6, 7), (7, 5), (8, 0)];
        assert_eq!(of(&two), BTreeSet::from([1, 2, 5, 6, 7]));
        assert_eq!(of(&[(0, 1), (1, 2), (2, 1), (4, 4)]), BTreeSet::from([1, 2, 4]));
    }

    /// Short ones that overlap are no long one.
    #[test]
    fn a_cycle_lasts_for_those_who_were_in_one_all_along() {
        let mut fleet = Fleet::new(1, 4, None);
        let second = |n: u64| borgios_types::Time(n * 1_000);
        let mut look = |n, around: &[Index]| {
            fleet.now = second(n);
            fleet.note_cycles(around.iter().copied().collect())
        };
        for n in 0..30 {
            let around = if n % 2 == 0 { [1, 2] } else { [3, 4] };
            assert!(look(n, &around).is_ok(), "at {n} s");
        }
        for n in 30..=50 {
            assert!(look(n, &[7, 8]).is_ok(), "at {n} s");
        }
        assert!(look(51, &[6, 7]).is_err());
    }
}
