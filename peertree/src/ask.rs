//! Asking candidates for a place: several at a time where the first is slow, and none for ever.
//!
//! ```text
//!  queue ─▶ dialled ── up ─▶ asked ──▶ accepted, redirected (`seek.rs`)
//!    ▲         │              │
//!    │         └─ silent for STAGGER: the next one beside it, at most ASKING_MAX
//!    └── failed, or silent for its patience: the next one in its place
//! ```
//!
//! The heirs of a root have little patience with whoever is not linked, for each of them knows its
//! turn; everybody else waits [`bounds::ATTEMPT`].

use std::time::Duration;

use borgios_types::NodeId;

use crate::bounds;
use crate::io::{Output, Timer};
use crate::message::{Join, Message};
use crate::node::{Node, Phase};
use crate::seek::{Attempt, Seek, Why};

impl Node {
    /// Asks the next candidate that is worth asking; ends the round if there is none and nobody is
    /// being asked.
    pub(crate) fn ask_next(&mut self) {
        let now = self.now;
        while let Phase::Seeking(seek) = &mut self.phase {
            if seek.asking.len() >= bounds::ASKING_MAX {
                break;
            }
            let next =
                if seek.asks < bounds::ASKS_PER_ROUND { seek.queue.pop_front() } else { None };
            let Some(candidate) = next else {
                seek.queue.clear();
                if seek.asking.is_empty() {
                    return self.end_round();
                }
                break;
            };
            let peer = candidate.contact.id;
            let asked = seek.asked.entry(peer).or_insert(0);
            let useless = peer == self.me
                || self.children.contains_key(&peer)
                || self.shunned.contains_key(&peer)
                || self.suspicions.distrusts(&peer, now)
                || seek.unreachable.contains(&peer)
                || seek.asking.iter().any(|attempt| attempt.candidate.contact.id == peer)
                || *asked >= bounds::ASKS_PER_NODE
                || (candidate.hops == 0 && *asked > 0);
            if useless {
                continue;
            }
            *asked += 1;
            seek.asks += 1;
            seek.begun = now;
            let contact = candidate.contact.clone();
            let up = self.links.contains_key(&peer);
            seek.asking.push(Attempt { candidate, since: now, up });
            if up {
                self.on_candidate_connected(peer);
            } else {
                self.out.push(Output::Dial(contact));
            }
            break;
        }
        self.await_answers();
    }

    /// Sets the timer to the moment at which somebody has been waited for too long, or long enough
    /// to ask another one beside it.
    fn await_answers(&mut self) {
        let Phase::Seeking(seek) = &self.phase else { return };
        let ends = seek.asking.iter().map(|attempt| attempt.since + self.patience(seek, attempt));
        let room = !seek.queue.is_empty() && seek.asking.len() < bounds::ASKING_MAX;
        let next = room.then(|| seek.begun + self.stagger(seek));
        let Some(due) = ends.chain(next).min() else { return };
        let after = due.since(self.now).max(Duration::from_millis(1));
        self.out.push(Output::SetTimer(Timer::Attempt, after));
    }

    pub(crate) fn is_heir(&self, seek: &Seek) -> bool {
        match &seek.why {
            Why::Orphan { down, .. } => self.heirs_before_me(down).is_some(),
            Why::Newcomer | Why::Fled { .. } | Why::Loop | Why::Merge => false,
        }
    }

    fn stagger(&self, seek: &Seek) -> Duration {
        if self.is_heir(seek) { bounds::HEIR_STAGGER } else { bounds::STAGGER }
    }

    /// How long this candidate is waited for.
    fn patience(&self, seek: &Seek, attempt: &Attempt) -> Duration {
        let Why::Orphan { down, .. } = &seek.why else { return bounds::ATTEMPT };
        let peer = attempt.candidate.contact.id;
        if attempt.up || attempt.candidate.hops > 0 || !self.is_heir(seek) {
            bounds::ATTEMPT
        } else if down.path.last().is_some_and(|root| root.id == peer) {
            bounds::ROOT_PATIENCE
        } else if down.siblings.iter().any(|sibling| sibling.id == peer) {
            bounds::HEIR_PATIENCE
        } else {
            bounds::ATTEMPT
        }
    }

    /// The link to the candidate is up: ask.
    pub(crate) fn on_candidate_connected(&mut self, peer: NodeId) {
        let size = self.subtree_size();
        let Phase::Seeking(seek) = &mut self.phase else { return };
        let unreachable = seek.unreachable.clone();
        let asking = seek.asking.iter_mut();
        let Some(attempt) = asking.into_iter().find(|it| it.candidate.contact.id == peer) else {
            return;
        };
        attempt.up = true;
        let join = Join { hops: attempt.candidate.hops, size, unreachable };
        self.out.push(Output::Send(peer, Message::Join(join)));
        self.await_answers();
    }

    /// Somebody did not answer in time, or another one is to be asked beside those who have not.
    pub(crate) fn on_attempt_over(&mut self) {
        let Phase::Seeking(seek) = &self.phase else { return };
        let over = |attempt: &&Attempt| attempt.since + self.patience(seek, attempt) <= self.now;
        let over: Vec<(NodeId, bool)> = seek
            .asking
            .iter()
            .filter(over)
            .map(|attempt| (attempt.candidate.contact.id, attempt.up))
            .collect();
        let next = seek.begun + self.stagger(seek) <= self.now;
        for (peer, up) in &over {
            let Phase::Seeking(seek) = &mut self.phase else { return };
            seek.take(*peer);
            // One that is linked and says nothing lives.
            seek.heir_seeks |= *up && seek.is_sibling(peer);
            if !up && seek.unreachable.len() < bounds::UNREACHABLE_MAX {
                seek.unreachable.push(*peer);
            }
            self.close(*peer);
        }
        if next || !over.is_empty() {
            self.ask_next();
        } else {
            self.await_answers();
        }
    }

    /// The candidate cannot be reached.
    pub(crate) fn on_candidate_failed(&mut self, peer: NodeId) {
        let Phase::Seeking(seek) = &mut self.phase else { return };
        if seek.take(peer).is_some() && seek.unreachable.len() < bounds::UNREACHABLE_MAX {
            seek.unreachable.push(peer);
        }
        self.ask_next();
    }
}
