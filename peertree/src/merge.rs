//! Two trees that find each other become one.
//!
//! A root dials a remembered node from time to time and both say which root they know. If these
//! differ, the one that comes later yields: it is told (through its tree, where it was not the one
//! that met) and joins the other tree as a child, subtree and all. Roots that can be dialled come
//! before those that cannot, then smaller ids before larger ones, so both sides judge alike.

use std::time::Duration;

use borgios_types::{NodeId, Time};

use crate::bounds;
use crate::contact::Contact;
use crate::io::{Output, Timer};
use crate::message::Message;
use crate::node::{Node, Phase};
use crate::seek::Seek;

/// What a node knows of its search for other trees.
#[derive(Debug, Default)]
pub(crate) struct Rivals {
    /// The remembered node being dialled to compare roots.
    pub(crate) probing: Option<NodeId>,
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
        self.set_timer(Timer::Probe, bounds::PROBE);
        if let Some(peer) = self.rivals.probing.take() {
            // The last one never answered.
            if !self.is_neighbour(peer) {
                self.close(peer);
            }
        }
        let links = &self.links;
        let outsiders = self.memory.sample(&mut self.rng, 1, |id| !links.contains_key(id));
        // Now and then a seed, even where the memory has been filled with others.
        let seed = self.seeds.first().filter(|seed| !self.links.contains_key(&seed.id)).cloned();
        if let Some(contact) = outsiders.into_iter().next().or(seed) {
            self.rivals.probing = Some(contact.id);
            self.out.push(Output::Dial(contact));
        }
    }

    /// The remembered node answered the dial.
    pub(crate) fn on_outsider_connected(&mut self, peer: NodeId) {
        self.compare(peer, true);
    }

    fn compare(&mut self, peer: NodeId, asks: bool) {
        let (root, address) = self.root();
        self.out.push(Output::Send(peer, Message::Compare { root, address, asks }));
    }

    fn root(&self) -> (NodeId, Option<String>) {
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
        address: Option<String>,
        asks: bool,
    ) {
        if asks {
            self.compare(from, false);
        } else if self.rivals.probing == Some(from) {
            self.rivals.probing = None;
        } else {
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
        if !asks && !self.is_neighbour(from) && self.asking() != Some(from) {
            self.close(from);
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
            Phase::Root if !self.rivals.ignored(now) => {
                self.rivals.begun = Some(now);
                self.seek(Seek::merge().first([root, via]));
            }
            Phase::Root | Phase::Seeking(_) | Phase::Idle => {}
        }
    }
}
