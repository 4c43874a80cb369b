//! Moving up: a node that hangs much deeper than a place that stays free moves there, subtree and
//! all.
//!
//! ```text
//!  attached ── once a minute: a free place CLIMB_LEVELS shallower? ─▶ dial ─▶ join
//!     ▲                                                                │       │ accepted, and it is
//!     │                    redirected, silent, or deeper than said     │       │ shallower
//!     └────────────────────────────────────────────────────────────────┘       ▼
//!                                                        the old parent is left, not before
//! ```
//!
//! The new parent is asked while the old one still holds, so no broadcast is cut off; whatever goes
//! wrong, the node stays where it is. Each move makes the sum of all depths smaller, so moving ends.

use borgios_types::NodeId;

use crate::bounds;
use crate::io::Output;
use crate::message::{Down, Join, Message};
use crate::node::{Node, Phase};

impl Node {
    /// Looks whether a shallower place is free, and asks for it.
    pub(crate) fn climb(&mut self) {
        self.stop_climbing();
        let Phase::Attached { down, .. } = &self.phase else { return };
        let Some(spot) = down.free.clone() else { return };
        let gain = self.depth().saturating_sub(spot.depth as usize + 1);
        let below = self.free().is_some_and(|mine| mine.at.id == spot.at.id);
        let linked = self.links.contains_key(&spot.at.id) || spot.at.id == self.me;
        if gain < bounds::CLIMB_LEVELS || below || linked || self.distrusted(&spot.at.id) {
            return;
        }
        self.climbing = Some(spot.at.id);
        self.out.push(Output::Dial(spot.at));
    }

    /// The link to the node with the free place is up.
    pub(crate) fn on_climb_connected(&mut self, peer: NodeId) {
        let join = Join { hops: 1, size: self.subtree_size(), unreachable: Vec::new() };
        self.out.push(Output::Send(peer, Message::Join(join)));
    }

    /// The place is ours: leave the old parent for it. False if it is not to be used.
    pub(crate) fn on_climbed(&mut self, from: NodeId, new: &Down) -> bool {
        self.climbing = None;
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
        if let Some(peer) = self.climbing.take() {
            self.release(peer);
        }
    }
}
