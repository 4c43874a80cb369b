//! Links between simulated nodes: delays, full queues, places in the tree, crashes.

use std::collections::BTreeSet;

use borgios_stream::{Input, LinkId, Role};
use bytes::Bytes;
use rand::Rng as _;
use rand::seq::SliceRandom as _;

use super::{Event, Fleet, Wire};
use crate::hostile;

impl Fleet {
    pub(super) fn send(&mut self, at: usize, link: LinkId, frame: Bytes) {
        let Some(vice) = self.vices.get(&at).copied() else {
            return self.transmit(at, link, frame);
        };
        let own = frame.get(40..72) == Some(&self.nodes[at].origin().0[..]);
        let other = self.forks.get(&frame).filter(|_| own && link.0.is_multiple_of(2));
        if let Some(other) = other.cloned() {
            self.misdeeds += 1;
            self.forked.insert(at);
            return self.transmit(at, link, other);
        }
        let (frames, misdeeds) = hostile::twist(vice, frame, &mut self.sent, &mut self.random);
        self.misdeeds += misdeeds;
        for frame in frames {
            self.transmit(at, link, frame);
        }
    }

    pub(super) fn transmit(&mut self, at: usize, link: LinkId, bytes: Bytes) {
        let delay = self.random.gen_range(1..20);
        let Some(wire) = self.wires.get_mut(&link) else { return };
        let side = usize::from(wire.ends[1] == at);
        if wire.full[side] {
            self.dropped_frames += 1;
            return;
        }
        let to = wire.ends[1 - side];
        let when = (self.now + delay).max(wire.busy[side]);
        wire.busy[side] = when;
        self.at(when, Event::Arrive { to, link, bytes });
    }

    pub(super) fn open(&mut self, parent: usize, child: usize, role: Role) {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        let ends = [parent, child];
        self.wires.insert(link, Wire { ends, role, busy: [self.now; 2], full: [false; 2] });
        for (at, other) in [(parent, child), (child, parent)] {
            let peer = self.nodes[other].key.public();
            self.step(at, Input::LinkUp { link, peer, role });
        }
    }

    pub(super) fn close(&mut self, link: LinkId) {
        let Some(wire) = self.wires.remove(&link) else { return };
        for at in wire.ends {
            if self.alive[at] {
                self.step(at, Input::LinkDown(link));
            }
        }
    }

    /// A node cuts a link: whoever hangs below it looks for another place.
    pub(super) fn on_cut(&mut self, at: usize, link: LinkId) {
        let Some(wire) = self.wires.get(&link) else { return };
        let (ends, role) = (wire.ends, wire.role);
        self.cuts += 1;
        if !ends.iter().any(|end| self.vices.contains_key(end)) {
            self.honest_cuts += 1;
        }
        self.close(link);
        if role == Role::Tree
            && ends[1] == at
            && self.alive[at]
            && let Some(parent) = self.elsewhere(at)
        {
            self.open(parent, at, Role::Tree);
        }
    }

    /// An honest living node that is not below `at`.
    pub(super) fn elsewhere(&mut self, at: usize) -> Option<usize> {
        let mut below = BTreeSet::from([at]);
        loop {
            let more: Vec<usize> = self
                .wires
                .values()
                .filter(|wire| wire.role == Role::Tree && below.contains(&wire.ends[0]))
                .map(|wire| wire.ends[1])
                .filter(|child| !below.contains(child))
                .collect();
            if more.is_empty() {
                break;
            }
            below.extend(more);
        }
        let fit = |other: &usize| {
            self.alive[*other] && !below.contains(other) && !self.vices.contains_key(other)
        };
        let others: Vec<usize> = (0..self.nodes.len()).filter(fit).collect();
        others.choose(&mut self.random).copied()
    }

    pub(super) fn move_subtree(&mut self) {
        let at = self.random.gen_range(0..self.nodes.len());
        let up = self.wires.iter().find(|(_, w)| w.role == Role::Tree && w.ends[1] == at);
        let Some(link) = up.map(|(link, _)| *link) else { return };
        let Some(parent) = self.elsewhere(at) else { return };
        self.close(link);
        self.open(parent, at, Role::Tree);
    }

    pub(super) fn crash(&mut self) {
        let at = self.random.gen_range(0..self.nodes.len());
        if !self.alive[at] {
            return;
        }
        self.alive[at] = false;
        self.nodes[at].restart();
        let links: Vec<LinkId> = self
            .wires
            .iter()
            .filter(|(_, wire)| wire.ends.contains(&at))
            .map(|(link, _)| *link)
            .collect();
        let mut orphans = Vec::new();
        for link in links {
            if let Some(wire) = self.wires.get(&link)
                && wire.role == Role::Tree
                && wire.ends[0] == at
            {
                orphans.push(wire.ends[1]);
            }
            self.close(link);
        }
        for orphan in orphans {
            if let Some(parent) = self.elsewhere(orphan) {
                self.open(parent, orphan, Role::Tree);
            }
        }
        let pause = self.random.gen_range(10..2_000);
        self.at(self.now + pause, Event::Restart { at });
    }
}
