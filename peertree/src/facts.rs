//! What the two ends of a tree link tell each other about the tree, and how soon.
//!
//! | what | changes | told |
//! |---|---|---|
//! | path, and the root's children in their order (the succession) | where healing begins | at once, then every [`bounds::URGENT`] |
//! | whether and how deep below there is room | where joiners are sent | the same |
//! | sizes, the name of the free place, relatives of relatives | with every join | every [`bounds::FACTS`] at most |
//!
//! Nothing is repeated: a link that has nothing new to tell carries beats only. While a node looks
//! for a parent its children keep their old path: until it finds one, that names the ancestors worth
//! asking, should this node die as well.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use borgios_types::Time;

use crate::bounds;
use crate::contact::{Contact, Contacts, Spot};
use crate::io::Output;
use crate::message::{Down, Message, Up};
use crate::node::{Node, Phase};

/// What was told last, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// What the parent knows of this node; `None` before the first report.
    up: Option<Up>,
    up_at: Time,
    /// What the children know that cannot wait, and all they know.
    down: (u64, u64),
    down_at: Time,
    /// How long after the last one the next report, or news for the children, may go out.
    up_waits: Option<Duration>,
    down_waits: Option<Duration>,
}

/// A node's relatives as its children know them, and what that was made of.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    /// The parent's path and children, when this was made.
    pub(crate) from: (Contacts, Contacts),
    /// The state of the list of children, when this was made.
    pub(crate) children: u32,
    pub(crate) path: Contacts,
    pub(crate) siblings: Contacts,
    pub(crate) uncles: Contacts,
    /// Tells two of these apart: what cannot wait, and all.
    pub(crate) key: (u64, u64),
}

impl Family {
    /// Whether it was made of this.
    fn is_of(&self, from: &(Contacts, Contacts), children: u32) -> bool {
        self.children == children && self.from.0 == from.0 && self.from.1 == from.1
    }
}

impl Told {
    /// A new child was told everything; the only one leaves nobody to be told.
    pub(crate) fn accepted(&mut self, key: (u64, u64), children: usize, now: Time) {
        if children == 1 {
            (self.down, self.down_at) = (key, now);
        }
    }

    /// Whether something is to be told later.
    pub(crate) fn waits(&self) -> bool {
        self.up_waits.is_some() | self.down_waits.is_some()
    }

    /// A new parent knows nothing yet.
    pub(crate) fn forget_parent(&mut self) {
        (self.up, self.up_waits) = (None, None);
    }
}

impl Node {
    /// What this node tells its children.
    pub(crate) fn down(&mut self) -> Down {
        let (from, free) = match &self.phase {
            Phase::Attached { down, .. } => {
                ((down.path.clone(), down.siblings.clone()), down.free.clone())
            }
            Phase::Idle | Phase::Seeking(_) | Phase::Root => (Default::default(), self.free()),
        };
        let tree_size = self.tree_size();
        let children = self.children.changes();
        let family = match self.family.take() {
            Some(it) if it.is_of(&from, children) => it,
            known => Box::new(self.new_family(from, known)),
        };
        let Family { path, siblings, uncles, .. } = &*family;
        let (path, siblings, uncles) = (path.clone(), siblings.clone(), uncles.clone());
        self.family = Some(family);
        Down { path, siblings, uncles, free, tree_size }
    }

    /// The relatives of this node's children; `from` is what the parent said of its own path and
    /// children. What is as it was before stays the same list, so that all can see so at once.
    fn new_family(&self, from: (Contacts, Contacts), known: Option<Box<Family>>) -> Family {
        let children = self.children.changes();
        let known = known.as_deref();
        let path = known.filter(|it| it.from.0 == from.0).map(|it| it.path.clone());
        let path: Contacts =
            path.unwrap_or_else(|| from.0.iter().cloned().chain(self.contact()).collect());
        let uncles = known.filter(|it| it.from.1 == from.1).map(|it| it.uncles.clone());
        let uncles: Contacts = uncles.unwrap_or_else(|| {
            from.1.iter().filter(|sibling| sibling.id != self.me).cloned().collect()
        });
        let siblings = known.filter(|it| it.children == children).map(|it| it.siblings.clone());
        let siblings: Contacts = siblings.unwrap_or_else(|| {
            let heirs = self.children().into_iter().filter_map(|id| self.child_contact(id));
            heirs.take(bounds::SIBLINGS_MAX).collect()
        });
        let key = family_key(&path, &siblings, &uncles);
        Family { from, children, path, siblings, uncles, key }
    }

    /// What cannot wait of what [`Node::down`] just returned, and all of it; equal keys mean equal
    /// news.
    pub(crate) fn key(&self, down: &Down) -> (u64, u64) {
        let (urgent, family) = self.family.as_ref().map_or((0, 0), |family| family.key);
        let mut hasher = DefaultHasher::new();
        (family, &down.free, down.tree_size).hash(&mut hasher);
        (urgent, hasher.finish())
    }

    /// What this node tells its parent.
    fn up(&self) -> Up {
        Up { size: self.subtree_size(), free: self.free() }
    }

    /// Tells the parent everything.
    pub(crate) fn report(&mut self) {
        let Some(parent) = self.parent() else { return };
        let up = self.up();
        (self.told.up, self.told.up_at, self.told.up_waits) = (Some(up.clone()), self.now, None);
        self.out.push(Output::Send(parent, Message::Report(up)));
    }

    /// Tells the parent what changed below, as soon as that may be.
    pub(crate) fn report_if_changed(&mut self) {
        if self.parent().is_none() {
            return;
        }
        let up = self.up();
        let depth = |up: &Up| up.free.as_ref().map(|spot| spot.depth);
        let (changed, urgent) = match &self.told.up {
            None => (true, true),
            Some(told) => (*told != up, depth(told) != depth(&up)),
        };
        self.told.up_waits = None;
        let pace = if urgent { bounds::URGENT } else { bounds::FACTS };
        if self.told.up.is_none() || (changed && self.now.since(self.told.up_at) >= pace) {
            self.report();
        } else if changed {
            (self.told.up_waits, self.beat.stale) = (Some(pace), true);
        }
    }

    /// Tells the children what changed above and beside them, as soon as that may be.
    pub(crate) fn tell_children(&mut self) {
        self.told.down_waits = None;
        if self.children.is_empty() || matches!(self.phase, Phase::Seeking(_) | Phase::Idle) {
            return;
        }
        let down = self.down();
        let (urgent, all) = self.key(&down);
        let told = self.told.down;
        if all == told.1 {
            return;
        }
        let pace = if urgent != told.0 { bounds::URGENT } else { bounds::FACTS };
        if self.now.since(self.told.down_at) < pace {
            (self.told.down_waits, self.beat.stale) = (Some(pace), true);
            return;
        }
        (self.told.down, self.told.down_at) = ((urgent, all), self.now);
        for child in self.children.keys() {
            self.out.push(Output::Send(*child, Message::Heartbeat(down.clone())));
        }
    }

    /// What waited may be due now.
    pub(crate) fn tell_facts(&mut self) {
        if self.told.up_waits.is_some() {
            self.report_if_changed();
        }
        if self.told.down_waits.is_some() {
            self.tell_children();
        }
    }

    /// When something that waits may be told.
    pub(crate) fn facts_due(&self) -> Option<Time> {
        let up = self.told.up_waits.map(|pace| self.told.up_at + pace);
        let down = self.told.down_waits.map(|pace| self.told.down_at + pace);
        up.into_iter().chain(down).min()
    }

    /// The shallowest free place at or below this node, which is at depth 0.
    pub(crate) fn free(&self) -> Option<Spot> {
        if self.children.len() < usize::from(self.config.fanout) {
            return self.contact().map(|at| Spot { depth: 0, at });
        }
        let below = self.children.values().filter_map(|child| child.free.as_ref());
        let best = below.min_by_key(|spot| spot.depth)?;
        Some(Spot { depth: best.depth.saturating_add(1), at: best.at.clone() })
    }

    pub(crate) fn child_contact(&self, id: borgios_types::NodeId) -> Option<Contact> {
        let address = self.children.get(&id)?.address.clone()?;
        Some(Contact::new(id, address))
    }
}

/// Tells what cannot wait from what can; equal keys mean equal relatives. Only this process compares
/// them, so their values may differ between versions.
fn family_key(path: &[Contact], siblings: &[Contact], uncles: &[Contact]) -> (u64, u64) {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    // Below the root they are the heirs.
    if path.len() == 1 {
        siblings.hash(&mut hasher);
    }
    let urgent = hasher.finish();
    (siblings, uncles).hash(&mut hasher);
    (urgent, hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Input, Timer};
    use crate::stage::{Stage, contact, key};

    fn reports(out: &[Output]) -> usize {
        let is = |output: &&Output| matches!(output, Output::Send(_, Message::Report(_)));
        out.iter().filter(is).count()
    }

    fn news(out: &[Output]) -> usize {
        let is = |output: &&Output| matches!(output, Output::Send(_, Message::Heartbeat(_)));
        out.iter().filter(is).count()
    }

    fn up(size: u32, depth: u32) -> Message {
        Message::Report(Up { size, free: Some(Spot { depth, at: contact(40) }) })
    }

    #[test]
    fn a_crowd_below_costs_one_report_in_a_while() {
        let mut node = Stage::attached(2, &[1, 2]);
        node.joins(5, true);
        node.joins(6, true);
        node.now = node.now + bounds::FACTS;
        let mut sent = 0;
        for size in 2..50 {
            node.now.0 += 10;
            sent += reports(&node.says(5, up(size, 0)));
        }
        assert_eq!(sent, 1);
        node.now = node.now + bounds::FACTS;
        for n in [2, 5, 6] {
            node.step(Input::Heard(key(n)));
        }
        assert_eq!(reports(&node.step(Input::TimerFired(Timer::Heartbeat))), 1);
        assert_eq!(node.node.subtree_size(), 51);
    }

    #[test]
    fn where_there_is_room_is_told_at_once() {
        let mut node = Stage::attached(2, &[1, 2]);
        assert_eq!(reports(&node.joins(5, true)), 0, "still room here, and one more node can wait");
        node.now = node.now + bounds::URGENT;
        assert_eq!(reports(&node.joins(6, true)), 1, "no room here");
        node.now = node.now + bounds::URGENT;
        assert_eq!(reports(&node.says(5, up(1, 1))), 0, "room below the other child");
        assert_eq!(reports(&node.says(6, up(1, 1))), 1);
    }

    #[test]
    fn a_new_path_and_a_new_heir_are_told_at_once_a_count_later() {
        let mut node = Stage::attached(4, &[1, 2]);
        node.joins(5, true);
        node.joins(6, true);
        node.parent_says(&[1, 2], Vec::new(), Vec::new());
        let mut down = node.parent_down(&[1, 2], Vec::new(), Vec::new());
        node.now = node.now + bounds::URGENT;
        down.tree_size = 77;
        assert_eq!(news(&node.says(2, Message::Heartbeat(down.clone()))), 0);
        down.path = [1, 30, 2].map(contact).into_iter().collect();
        assert_eq!(news(&node.says(2, Message::Heartbeat(down))), 2);
        let mut root = Stage::root(4);
        root.joins(5, true);
        root.now = root.now + bounds::URGENT;
        assert_eq!(news(&root.joins(6, true)), 2, "the second heir");
    }

    #[test]
    fn a_tree_at_rest_tells_nothing() {
        let mut node = Stage::attached(4, &[1, 2]);
        node.joins(5, true);
        for beat in 0..20 {
            node.now = node.now + bounds::HEARTBEAT;
            for n in [2, 5] {
                node.step(Input::Heard(key(n)));
            }
            let out = node.step(Input::TimerFired(Timer::Heartbeat));
            let all = reports(&out) + news(&out);
            assert!(all == 0 || beat < 5, "beat {beat}: {out:?}");
        }
    }
}
