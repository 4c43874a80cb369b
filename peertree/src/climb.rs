//! Moving up: a node that hangs much deeper than a place that stays free moves there, subtree and
//! all.
//!
//! ```text
//!  attached ── a free place CLIMB_LEVELS shallower? ─▶ dial an ancestor ─▶ join ─▶ accepted
//!     ▲  in every CLIMB_PACE                            ▲                  │           │ and it is
//!     │                                                 └─── redirected ───┤           ▼ shallower
//!     └──────────── silent, or too many redirects ◀────────────────────────┘  the old parent is left
//! ```
//!
//! It asks an ancestor from the upper half of the way and follows redirects down, as a joiner does:
//! the one free place that heartbeats name would be asked by everyone at once. The new parent is
//! asked while the old one still holds, so no broadcast is cut off; whatever goes wrong, the node
//! stays where it is. Each move makes the sum of all depths smaller, so moving ends.

use borgios_types::{NodeId, Time};
use rand::Rng as _;

use crate::bounds;
use crate::contact::Contact;
use crate::io::Output;
use crate::message::{Down, Join, Message};
use crate::node::{Node, Phase};

/// An attempt to move up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Climb {
    /// Who is asked.
    pub(crate) asking: Option<NodeId>,
    /// Redirects followed so far.
    hops: u32,
    /// When the last attempt began.
    begun: Option<Time>,
}

impl Climb {
    /// A place was found just now: whether it is a good one shows later.
    pub(crate) fn rest(&mut self, now: Time) {
        self.begun = Some(now);
    }
}

impl Node {
    /// The parent had news: perhaps a shallower place is free.
    pub(crate) fn climb_on_news(&mut self, now: Time) {
        let rested = self.climb.begun.is_none_or(|at| now.since(at) >= bounds::CLIMB_PACE);
        if rested && self.climb.asking.is_none() {
            self.climb(now);
        }
    }

    /// Looks whether a shallower place is free, and asks for it.
    pub(crate) fn climb(&mut self, now: Time) {
        self.stop_climbing();
        let Phase::Attached { down, .. } = &self.phase else { return };
        let Some(spot) = &down.free else { return };
        let depth = spot.depth as usize;
        let gain = self.depth().saturating_sub(depth + 1);
        let below = self.free().is_some_and(|mine| mine.at.id == spot.at.id);
        if gain < bounds::CLIMB_LEVELS || below || spot.at.id == self.me {
            return;
        }
        // Any of them leads to places as shallow as this one; the root alone would be a crowd's.
        let upper = down.path.len().min(depth / 2 + 1);
        let ancestor = down.path[..upper].get(self.rng.gen_range(0..upper)).cloned();
        (self.climb.begun, self.climb.hops) = (Some(now), 0);
        self.climb_to(ancestor);
    }

    /// Asks the next one, if it can be asked.
    fn climb_to(&mut self, contact: Option<Contact>) {
        let Some(contact) = contact.filter(|one| one.id != self.me) else { return };
        if self.links.contains_key(&contact.id)
            || self.shunned.contains_key(&contact.id)
            || self.distrusted(&contact.id)
        {
            return;
        }
        self.climb.asking = Some(contact.id);
        self.out.push(Output::Dial(contact));
    }

    /// "Not here": one of those named is asked next.
    pub(crate) fn on_climb_redirected(&mut self, to: &[Contact]) {
        self.stop_climbing();
        self.climb.hops += 1;
        if self.climb.hops <= bounds::HOPS_MAX {
            self.climb_to(to.first().cloned());
        }
    }

    /// The link to the node with the free place is up.
    pub(crate) fn on_climb_connected(&mut self, peer: NodeId) {
        let join = Join { hops: 1, size: self.subtree_size(), unreachable: Vec::new() };
        self.out.push(Output::Send(peer, Message::Join(join)));
    }

    /// The place is ours: leave the old parent for it. False if it is not to be used.
    pub(crate) fn on_climbed(&mut self, from: NodeId, new: &Down) -> bool {
        self.climb.asking = None;
        let Phase::Attached { parent, .. } = self.phase else { return false };
        if !self.usable(from, new) || new.path.len() >= self.depth() {
            return false;
        }
        self.out.push(Output::Send(parent, Message::Leave));
        self.close(parent);
        true
    }

    /// Gives up the attempt, if one is under way.
    pub(crate) fn stop_climbing(&mut self) {
        if let Some(peer) = self.climb.asking.take() {
            self.release(peer);
        }
    }
}
