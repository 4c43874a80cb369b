//! Two trees that find each other become one.
//!
//! A root dials a remembered node from time to time and both say which root they know. If these
//! differ, the one that comes later yields: it is told (through its tree, where it was not the one
//! that met) and joins the other tree as a child, subtree and all. Roots that can be dialled come
//! before those that cannot, then smaller ids before larger ones, so both sides judge alike.
//!
//! ```text
//!  root ── FIRST_PROBE, PROBE ──▶ a suspect, a remembered node, a seed ──┐
//!  anyone ── a cross peer of another tree ──────────────────────────────┤
//!                                                             compare ◀─▶ compare
//!                                 ours comes later: rival, up to the root ──▶ seeks there
//!                                 it could not join: rivals ignored for a while that doubles
//! ```

use std::time::Duration;

use borgios_types::{NodeId, Time};

use crate::bounds;
use crate::contact::{Address, Contact};
use crate::io::{Output, Timer};
use crate::message::Message;
use crate::node::{Node, Phase};
use crate::seek::Seek;

/// What a node knows of its search for other trees.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rivals {
    /// The remembered node being dialled to compare roots.
    pub(crate) probing: Option<NodeId>,
    /// Who may be a root as well, from the time when this node became one.
    pub(crate) suspects: Vec<Contact>,
    /// The root whose death made this node one, and when.
    buried: Option<(NodeId, Time)>,
    /// Merges that failed in a row.
    failures: u32,
    /// When the last merge was begun.
    begun: Option<Time>,
}

impl Rivals {
    /// A merge failed: rivals are ignored for a while that doubles.
    pub(crate) fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// This node took a dead root's place.
    pub(crate) fn bury(&mut self, root: NodeId, now: Time) {
        self.buried = Some((root, now));
    }

    /// Whether somebody else's word for this root is out of date: its subtrees still name it until
    /// they have found their places.
    fn is_dead(&self, root: &Contact, via: &Contact, now: Time) -> bool {
        let dead = |(id, at): (NodeId, Time)| id == root.id && now.since(at) < bounds::BURIED;
        root.id != via.id && self.buried.is_some_and(dead)
    }

    /// A place was found.
    pub(crate) fn calm(&mut self) {
        self.failures = 0;
    }

    fn ignored(&self, now: Time) -> bool {
        let Some(begun) = self.begun.filter(|_| self.failures > 0) else { return false };
        let doubled = bounds::RIVAL_PAUSE_MIN * 2_u32.saturating_pow((self.failures - 1).min(16));
        let pause: Duration = doubled.min(bounds::RIVAL_PAUSE_MAX);
        now.since(begun) < pause
    }
}

impl Node {
    /// Time for a root to look for other trees.
    pub(crate) fn on_probe_due(&mut self) {
        if !matches!(self.phase, Phase::Root) {
            return;
        }
        let pace =
            if self.rivals.suspects.is_empty() { bounds::PROBE } else { bounds::FIRST_PROBE };
        self.set_timer(Timer::Probe, pace);
        if let Some(peer) = self.rivals.probing.take() {
            // The last one never answered.
            self.release(peer);
        }
        let links = &self.links;
        let suspects = std::mem::take(&mut self.rivals.suspects);
        let mut suspects = suspects.into_iter().filter(|one| !links.contains_key(&one.id));
        let suspect = suspects.next();
        self.rivals.suspects = suspects.collect();
        let outsiders = self.memory.sample(&mut self.rng, 1, |id| !links.contains_key(id));
        // Now and then a seed, even where the memory has been filled with others.
        let seed = self.seeds.first().filter(|seed| !self.links.contains_key(&seed.id)).cloned();
        if let Some(contact) = suspect.or(outsiders.into_iter().next()).or(seed) {
            self.rivals.probing = Some(contact.id);
            self.out.push(Output::Dial(contact));
        }
    }

    /// The remembered node answered the dial.
    pub(crate) fn on_outsider_connected(&mut self, peer: NodeId) {
        self.compare(peer, true);
    }

    /// A cross peer stands in another tree, it seems.
    pub(crate) fn compare_roots(&mut self, peer: NodeId) {
        self.compare(peer, true);
    }

    fn compare(&mut self, peer: NodeId, asks: bool) {
        let (root, address) = self.root();
        self.out.push(Output::Send(peer, Message::Compare { root, address, asks }));
    }

    fn root(&self) -> (NodeId, Option<Address>) {
        match &self.phase {
            Phase::Attached { down, .. } if !down.path.is_empty() => {
                (down.path[0].id, Some(down.path[0].address.clone()))
            }
            Phase::Attached { .. } | Phase::Idle | Phase::Seeking(_) | Phase::Root => {
                (self.me, self.config.address.clone())
            }
        }
    }

    /// "This is the root of my tree."
    pub(crate) fn on_compare(
        &mut self,
        now: Time,
        from: NodeId,
        root: NodeId,
        address: Option<Address>,
        asks: bool,
    ) {
        if asks {
            self.compare(from, false);
        } else if self.rivals.probing == Some(from) {
            self.rivals.probing = None;
        } else if !self.is_cross(&from) {
            return self.penalise(now, from, 1);
        }
        let via = self.links.get(&from).and_then(|link| link.address.clone());
        let (mine, my_address) = self.root();
        let yields = (my_address.is_none(), mine) > (address.is_none(), root);
        let yields = yields && mine != root && self.may_name_rival(now, from);
        if let (true, Some(address), Some(via)) = (yields, address, via) {
            let root = Contact::new(root, address);
            self.on_rival_root(now, root, Contact::new(from, via));
        }
        if !asks && !self.asks(&from) {
            self.release(from);
        }
    }

    /// A child met another tree.
    pub(crate) fn on_rival(&mut self, now: Time, from: NodeId, root: Contact, via: Contact) {
        if !self.children.contains_key(&from) {
            return self.penalise(now, from, 1);
        }
        let (mine, my_address) = self.root();
        let yields = mine != root.id && (my_address.is_none(), mine) > (false, root.id);
        if yields && self.may_name_rival(now, from) {
            self.on_rival_root(now, root, via);
        }
    }

    /// One neighbour makes the tree talk of rivals only so often.
    fn may_name_rival(&mut self, now: Time, from: NodeId) -> bool {
        let Some(link) = self.links.get_mut(&from) else { return false };
        let rested = link.rival_at.is_none_or(|at| now.since(at) >= bounds::RIVAL_PACE);
        if rested {
            link.rival_at = Some(now);
        }
        rested
    }

    /// A root that comes before ours: the root joins it, anyone else passes the news up.
    fn on_rival_root(&mut self, now: Time, root: Contact, via: Contact) {
        self.learn(&[root.clone(), via.clone()]);
        match &self.phase {
            Phase::Attached { parent, .. } => {
                self.out.push(Output::Send(*parent, Message::Rival { root, via }));
            }
            Phase::Root if self.rivals.is_dead(&root, &via, now) => {}
            Phase::Root if !self.rivals.ignored(now) => {
                self.rivals.begun = Some(now);
                self.seek(Seek::merge().first([root, via]));
            }
            Phase::Root | Phase::Seeking(_) | Phase::Idle => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Stage, contact, dialled, key, me};
    use crate::state::State;

    /// A key that comes before the stage's own, or after it.
    fn other(before: bool) -> u8 {
        (1..=40).find(|n| (key(*n) < me()) == before).unwrap()
    }

    fn compare(n: u8, dialable: bool) -> Message {
        let address = dialable.then(|| contact(n).address);
        Message::Compare { root: key(n), address, asks: true }
    }

    #[test]
    fn the_root_with_the_larger_id_joins_the_other_tree() {
        for before in [true, false] {
            let n = other(before);
            let mut root = Stage::root(4);
            root.link(n, true);
            root.says(n, compare(n, true));
            assert_eq!(matches!(root.node.state(), State::Seeking { .. }), before);
        }
    }

    #[test]
    fn a_root_that_died_is_no_rival_until_it_says_so_itself() {
        let n = other(true);
        let mut stage = Stage::attached(4, &[n]);
        let me = stage.node.contact().unwrap();
        stage.parent_says(&[n], vec![me], Vec::new());
        stage.step(crate::Input::LinkDown(key(n)));
        let out = stage.step(crate::Input::TimerFired(Timer::Retry));
        stage.fail_all_dials(out);
        assert_eq!(stage.node.state(), State::Root);
        // An orphan elsewhere still names it.
        stage.link(77, true);
        stage.says(77, compare(n, true));
        assert_eq!(stage.node.state(), State::Root);
        stage.link(n, true);
        stage.says(n, compare(n, true));
        assert!(matches!(stage.node.state(), State::Seeking { .. }));
    }

    #[test]
    fn a_root_that_nobody_can_dial_yields() {
        let n = other(false);
        let mut root = Stage::undialable_root();
        root.link(n, true);
        root.says(n, compare(n, true));
        assert!(matches!(root.node.state(), State::Seeking { .. }));
        // And nobody yields to one.
        let mut root = Stage::root(4);
        let n = other(true);
        root.link(n, true);
        root.says(n, compare(n, false));
        assert_eq!(root.node.state(), State::Root);
    }

    #[test]
    fn news_of_a_rival_is_passed_up() {
        // The largest id as own root, so that any other comes before it.
        let last = (1..=40).max_by_key(|n| key(*n)).unwrap();
        let rival = if last == 1 { 2 } else { 1 };
        let mut node = Stage::attached(4, &[last]);
        node.link(rival, true);
        let out = node.says(rival, compare(rival, true));
        let news = Message::Rival { root: contact(rival), via: contact(rival) };
        assert!(out.contains(&Output::Send(key(last), news)), "{out:?}");
    }

    #[test]
    fn a_rival_that_cannot_be_reached_is_ignored_for_a_growing_while() {
        let n = other(true);
        let mut root = Stage::root(4);
        root.link(n, true);
        root.says(n, compare(n, true));
        root.step(crate::Input::LinkDown(key(n)));
        let out = root.step(crate::Input::TimerFired(Timer::Retry));
        assert_eq!(dialled(&out), [key(n)]);
        root.fail_all_dials(out);
        assert_eq!(root.node.state(), State::Root, "back to what it was");
        root.link(n, true);
        root.says(n, compare(n, true));
        assert_eq!(root.node.state(), State::Root);
    }
}
