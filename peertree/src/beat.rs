//! Signs of life: who is told "alive" and when, who is dead, and what a busy machine must not
//! conclude.
//!
//! ```text
//!  parent                                    child
//!    │ nothing said to it, or heard of it,     │
//!    │ for `heartbeat`                         │
//!    ├──────────────── alive ─────────────────▶│
//!    │◀─────────────── alive ──────────────────┤ at once
//!    │                                         │
//!    └─ nothing heard for `silence`: dead      └─ nothing heard for `silence`: dead, seek
//! ```
//!
//! Anything that is said is a sign of life, so a busy link carries no beats. One timer serves all
//! links: it is set to the first moment at which anything is due. A timer that fires late shows that
//! this machine was busy and its neighbours' words may still wait in its queues: every link is then
//! given as much time again as was slept through, and a machine that is too busy for heartbeats
//! declares nobody dead by mistake.

use std::time::Duration;

use borgios_types::{NodeId, Time};

use crate::bounds;
use crate::io::{Output, Timer};
use crate::link::{Child, Link};
use crate::message::{Down, Message};
use crate::node::{Node, Phase};
use crate::seek::Seek;

/// When this node has to do something on its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beat {
    /// When [`Timer::Heartbeat`] will fire.
    armed: Option<Time>,
    /// Something may be due sooner than that.
    pub(crate) stale: bool,
}

impl Node {
    /// "Alive." A child answers its parent at once.
    pub(crate) fn on_alive(&mut self, from: NodeId) {
        if self.parent() == Some(from) {
            self.out.push(Output::Send(from, Message::Alive));
        }
    }

    /// The shell saw a sign of life that is no message.
    pub(crate) fn on_heard(&mut self, now: Time, from: NodeId) {
        if let Some(link) = self.links.get_mut(&from) {
            link.heard = now;
        }
    }

    /// Time to speak, or to look for silent links.
    pub(crate) fn on_heartbeat_due(&mut self, now: Time) {
        let late = self.beat.armed.take().map_or(Duration::ZERO, |armed| now.since(armed));
        self.beat.stale = true;
        if late > bounds::STALL {
            for link in self.links.values_mut() {
                link.heard = now.min(link.heard + late * 2);
            }
        }
        let over = |(id, link, child): &(&NodeId, &Link, Option<&Child>)| {
            self.end_due(id, link, child.is_some()).is_some_and(|due| due <= now)
        };
        let over: Vec<NodeId> =
            self.links.beside(&self.children).filter(over).map(|(id, ..)| *id).collect();
        for peer in over {
            self.out.push(Output::Close(peer));
            self.on_link_down(peer);
        }
        // Beats that are due soon go along, so that one wake-up serves all children.
        let soon = now + self.config.heartbeat / 8;
        let quiet = |(id, link, child): (&NodeId, &Link, Option<&Child>)| {
            (child.is_some() && self.beat_due(link) <= soon).then_some((*id, link.due))
        };
        let quiet: Vec<(NodeId, bool)> =
            self.links.beside(&self.children).filter_map(quiet).collect();
        for (child, due) in quiet {
            if due {
                self.send_same(child);
            } else {
                self.out.push(Output::Send(child, Message::Alive));
            }
        }
        self.tell_facts();
        self.fetch_late();
        self.decide_gaps();
    }

    /// When a child is to be told that this node lives.
    fn beat_due(&self, link: &Link) -> Time {
        link.said.min(link.heard).max(link.asked) + self.config.heartbeat
    }

    /// When a link is to be closed unless something happens.
    fn end_due(&self, peer: &NodeId, link: &Link, child: bool) -> Option<Time> {
        if child || self.parent() == Some(*peer) {
            Some(link.heard + self.config.silence)
        } else if self.is_cross(peer) {
            Some(link.heard + bounds::CROSS_SILENCE)
        } else if self.asks(peer) {
            None
        } else {
            Some(link.since + bounds::LOOSE_TIMEOUT)
        }
    }

    /// This link is new, or means something new: its own time may come before all others'. That can
    /// be seen without a walk along all links, of which a crowd of joiners would cause two each.
    pub(crate) fn note_due(&mut self, peer: &NodeId) {
        let due = self.links.get(peer).and_then(|link| {
            let child = self.children.contains_key(peer);
            let beat = child.then(|| self.beat_due(link));
            beat.into_iter().chain(self.end_due(peer, link, child)).min()
        });
        self.beat.stale |= self.beat.armed.is_none_or(|armed| due.is_some_and(|due| due < armed));
    }

    /// Ends one input: notes what was said, and sets the timer to the first thing that is due.
    pub(crate) fn end_of_input(&mut self, now: Time) {
        for output in &self.out {
            if let Output::Send(to, message) = output
                && let Some(link) = self.links.get_mut(to)
            {
                link.said = now;
                if matches!(message, Message::Alive | Message::Same(_)) {
                    link.asked = now;
                }
            }
        }
        if !std::mem::take(&mut self.beat.stale) || matches!(self.phase, Phase::Idle) {
            return;
        }
        // Each parent does this once a beat, and for each joiner: one walk along all links.
        let links = self.links.beside(&self.children).flat_map(|(peer, link, child)| {
            let beat = child.map(|_| self.beat_due(link));
            beat.into_iter().chain(self.end_due(peer, link, child.is_some()))
        });
        let others = [self.facts_due(), self.gaps_due(), self.fetch_due()].into_iter().flatten();
        let Some(due) = links.chain(others).min() else { return };
        if self.beat.armed.is_none_or(|armed| due < armed) {
            let after = due.since(now).max(Duration::from_millis(1));
            self.beat.armed = Some(now + after);
            self.out.push(Output::SetTimer(Timer::Heartbeat, after));
        }
    }

    /// What a parent says of the tree. One whose path leads through this node tells of a loop: this
    /// node leaves it, and so does every other that sees itself.
    pub(crate) fn on_heartbeat(&mut self, from: NodeId, down: Down) {
        if self.parent() != Some(from) {
            // It believes to be the parent and is none.
            self.out.push(Output::Send(from, Message::Leave));
            return;
        }
        if !self.usable(from, &down) {
            self.out.push(Output::Send(from, Message::Leave));
            self.close(from);
            return self.seek(Seek::out_of_loop());
        }
        let Phase::Attached { down: known, .. } = &mut self.phase else { return };
        let moved = known.path != down.path;
        *known = down;
        if moved {
            let Phase::Attached { down, .. } = &self.phase else { return };
            let down = down.clone();
            self.learn_relatives(&down);
            self.out.push(Output::Changed(self.state()));
        }
        self.tell_children();
    }

    /// Relatives are worth remembering, and so are places with room.
    pub(crate) fn learn_relatives(&mut self, down: &Down) {
        self.learn(&down.path);
        self.learn(&down.siblings);
        self.learn(&down.uncles);
    }

    /// Hands changed contacts to the shell to be stored.
    pub(crate) fn remember(&mut self) {
        if let Some(contacts) = self.memory.take_changes() {
            self.out.push(Output::Remember(contacts));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Input;
    use crate::stage::{Stage, key};
    use crate::state::State;

    fn alive(out: &[Output]) -> Vec<NodeId> {
        out.iter()
            .filter_map(|output| match output {
                Output::Send(to, Message::Alive) => Some(*to),
                _ => None,
            })
            .collect()
    }

    /// Lets the timer fire when it asked to; returns what came of it.
    fn beat(stage: &mut Stage) -> Vec<Output> {
        stage.now = stage.node.beat.armed.unwrap();
        stage.step(Input::TimerFired(Timer::Heartbeat))
    }

    #[test]
    fn a_parent_that_says_nothing_says_alive_and_a_child_answers_at_once() {
        let mut root = Stage::root(4);
        let begun = root.now;
        root.joins(1, true);
        assert_eq!(alive(&beat(&mut root)), [key(1)]);
        assert_eq!(root.now.since(begun), bounds::HEARTBEAT);
        root.says(1, Message::Alive);
        let mut child = Stage::attached(4, &[1, 2]);
        assert_eq!(alive(&child.says(2, Message::Alive)), [key(2)]);
        child.joins(5, true);
        assert_eq!(child.says(5, Message::Alive), [], "a child's answer is not answered");
    }

    #[test]
    fn a_busy_link_carries_no_beats_but_a_child_that_says_nothing_is_asked() {
        let mut root = Stage::root(4);
        root.joins(1, true);
        root.now = root.now + bounds::HEARTBEAT / 2;
        root.says(1, Message::Alive);
        let note = |n: u8| Input::Publish {
            id: borgios_types::Digest::of(&[n]),
            kind: "note".into(),
            body: crate::Body::from_text("{}").unwrap(),
        };
        root.step(note(1));
        assert_eq!(alive(&beat(&mut root)), [], "both ends spoke");
        // From here on only this end speaks.
        let last = root.now;
        let mut asked = 0;
        while root.node.children() == [key(1)] {
            root.step(note(root.now.0 as u8));
            asked += alive(&beat(&mut root)).len();
            assert!(root.now.since(last) <= bounds::SILENCE, "still a child");
        }
        assert_eq!(asked, 1);
    }

    #[test]
    fn a_silent_neighbour_is_dead_after_its_silence_and_no_sooner() {
        let mut child = Stage::attached(4, &[1, 2]);
        let heard = child.now;
        while child.node.parent() == Some(key(2)) {
            beat(&mut child);
        }
        assert_eq!(child.now.since(heard), bounds::SILENCE);
        assert!(matches!(child.node.state(), State::Seeking { .. }));
        let mut root = Stage::root(4);
        root.joins(1, true);
        let heard = root.now;
        while !root.node.children().is_empty() {
            beat(&mut root);
        }
        assert_eq!(root.now.since(heard), bounds::SILENCE);
    }

    #[test]
    fn what_the_shell_heard_counts_as_a_sign_of_life() {
        let mut child = Stage::attached(4, &[1, 2]);
        for _ in 0..10 {
            child.now = child.now + bounds::SILENCE / 2;
            child.step(Input::Heard(key(2)));
            child.step(Input::TimerFired(Timer::Heartbeat));
            assert_eq!(child.node.parent(), Some(key(2)));
        }
    }

    #[test]
    fn the_own_stall_is_not_the_neighbours_silence() {
        let mut child = Stage::attached(4, &[1, 2]);
        let late = Duration::from_secs(20);
        child.now = child.node.beat.armed.unwrap() + late;
        child.step(Input::TimerFired(Timer::Heartbeat));
        assert_eq!(child.node.parent(), Some(key(2)), "its words may wait in a queue");
        // Awake, and still nothing heard.
        while child.node.parent() == Some(key(2)) {
            beat(&mut child);
        }
    }
}
