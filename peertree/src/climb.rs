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
//!
//! Where there is room is hearsay, and costs nothing to claim. So a claim that led to no place is
//! not followed again for a while that doubles, and whoever fails at one claim after the other looks
//! less and less often, down to once in [`bounds::FORGIVE`].

use std::time::Duration;

use borgios_types::{NodeId, Time};
use rand::Rng as _;

use crate::bounds;
use crate::contact::Contact;
use crate::io::Output;
use crate::message::{Down, Join, Message};
use crate::node::{Node, Phase};
use crate::sorted::SortedMap;

/// An attempt to move up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Climb {
    /// Who is asked.
    pub(crate) asking: Option<NodeId>,
    /// Redirects followed so far.
    hops: u32,
    /// When the last attempt began.
    begun: Option<Time>,
    /// Who was said to have room, until that is found true.
    claim: Option<NodeId>,
    /// Claims that led to no place: until when they are not followed, and how often they did.
    refused: SortedMap<NodeId, (Time, u32)>,
    /// Attempts in a row that found no place.
    failures: u32,
}

impl Climb {
    /// A place was found just now: whether it is a good one shows later.
    pub(crate) fn rest(&mut self, now: Time) {
        *self = Self { begun: Some(now), ..Self::default() };
    }

    /// Least time between two attempts.
    fn pace(&self) -> Duration {
        let slower = 2_u32.saturating_pow((self.failures / bounds::CLIMB_FAILURES).min(16));
        (bounds::CLIMB_PACE * slower).min(bounds::FORGIVE)
    }

    /// The last attempt found no place, if there was one.
    fn settle(&mut self, now: Time) {
        let Some(claim) = self.claim.take() else { return };
        self.failures = self.failures.saturating_add(1);
        let times = self.refused.get(&claim).map_or(0, |(_, times)| *times);
        let pause = bounds::CLIMB_PACE * 2_u32.saturating_pow(times.min(16));
        let until = self.begun.unwrap_or(now) + pause.min(bounds::CLIMB_PAUSE_MAX);
        if self.refused.len() >= bounds::CLIMB_CLAIMS_MAX && !self.refused.contains_key(&claim) {
            // The one that is over soonest.
            let first = self.refused.iter().min_by_key(|(_, (until, _))| *until);
            if let Some(first) = first.map(|(id, _)| *id) {
                self.refused.remove(&first);
            }
        }
        self.refused.insert(claim, (until, times.saturating_add(1)));
    }
}

impl Node {
    /// The parent had news: perhaps a shallower place is free.
    pub(crate) fn climb_on_news(&mut self, now: Time) {
        let rested = self.climb.begun.is_none_or(|at| now.since(at) >= self.climb.pace());
        if rested && self.climb.asking.is_none() {
            self.climb(now);
        }
    }

    /// Looks whether a shallower place is free, and asks for it.
    pub(crate) fn climb(&mut self, now: Time) {
        self.stop_climbing();
        self.climb.settle(now);
        let Phase::Attached { down, .. } = &self.phase else { return };
        let Some(spot) = &down.free else { return };
        let depth = spot.depth as usize;
        let gain = self.depth().saturating_sub(depth + 1);
        let below = self.free().is_some_and(|mine| mine.at.id == spot.at.id);
        if gain < bounds::CLIMB_LEVELS || below || spot.at.id == self.me {
            return;
        }
        if self.climb.refused.get(&spot.at.id).is_some_and(|(until, _)| now < *until) {
            return;
        }
        let claim = spot.at.id;
        // Any of them leads to places as shallow as this one; the root alone would be a crowd's.
        let upper = down.path.len().min(depth / 2 + 1);
        let ancestor = down.path[..upper].get(self.rng.gen_range(0..upper)).cloned();
        (self.climb.begun, self.climb.hops, self.climb.claim) = (Some(now), 0, Some(claim));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contact::Spot;
    use crate::io::{Input, Timer};
    use crate::message::Down;
    use crate::stage::{Stage, contact, dialled, key};

    /// Six levels deep, two of them known to be dialled for a place.
    fn deep() -> Stage {
        Stage::attached(4, &[1, 2, 3, 4, 5, 6])
    }

    fn claims(stage: &Stage, who: u8, size: u32) -> Message {
        let down = stage.parent_down(&[1, 2, 3, 4, 5, 6], Vec::new(), Vec::new());
        let free = Some(Spot { depth: 1, at: contact(who) });
        Message::Heartbeat(Down { free, tree_size: size, ..down })
    }

    /// Hears for ten minutes, every second, of a place that `who` has, and finds none; returns how
    /// often it asked somebody.
    fn asked(stage: &mut Stage, who: &dyn Fn(u32) -> u8) -> usize {
        let mut asked = 0;
        for second in 0..600 {
            stage.now = stage.now + Duration::from_secs(1);
            let news = claims(stage, who(second), second);
            let mut out = stage.says(6, news);
            stage.step(Input::TimerFired(Timer::Heartbeat));
            while let Some(peer) = dialled(&out).first().copied() {
                asked += 1;
                out = stage.step(Input::DialFailed(peer));
            }
        }
        asked
    }

    #[test]
    fn a_place_that_nobody_finds_is_looked_for_less_and_less() {
        let asked = asked(&mut deep(), &|_| 90);
        assert!((5..=9).contains(&asked), "{asked} in ten minutes");
    }

    #[test]
    fn invented_names_do_not_keep_it_going() {
        let asked = asked(&mut deep(), &|second| 60 + (second % 100) as u8);
        assert!((10..=30).contains(&asked), "{asked} in ten minutes, for 600 claims");
    }

    #[test]
    fn a_place_that_was_found_ends_all_distrust() {
        let mut stage = deep();
        asked(&mut stage, &|_| 90);
        let down = stage.parent_down(&[1, 2], Vec::new(), Vec::new());
        stage.link(2, true);
        stage.node.climb.asking = Some(key(2));
        stage.says(2, Message::Accept(down));
        assert_eq!(stage.node.parent(), Some(key(2)));
        assert_eq!((stage.node.climb.failures, stage.node.climb.refused.len()), (0, 0));
    }
}
