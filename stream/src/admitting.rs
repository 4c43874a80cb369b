//! Which origins are followed: the shell knows the members, the core asks.

use borgios_types::Time;

use crate::arriving::Way;
use crate::batch::Batch;
use crate::bounds::{
    ADMIT_RETRY, ASKED_MAX, ASKED_TIMEOUT, HELD_MAX, NEWCOMER_REST, NEWCOMERS_MAX, REFUSED_MAX,
    STREAMS_MAX,
};
use crate::core::Core;
use crate::evidence::Evidence;
use crate::io::{Admission, LinkId, Output, Role};
use crate::lack::Lack;
use crate::log::LogJob;
use crate::position::{Origin, Position};
use crate::stream::Stage;

/// A question about an origin.
#[derive(Debug)]
pub(crate) struct Asked {
    since: Time,
    /// The batch that raised it.
    held: Option<(LinkId, Batch)>,
    /// What a neighbour has of it.
    wanted: Option<(Position, LinkId)>,
    /// The proof that it equivocated.
    evidence: Option<Evidence>,
}

impl Asked {
    fn bytes(&self) -> usize {
        let proof = self.evidence.as_ref().map_or(0, evidence_len);
        proof + self.held.as_ref().map_or(0, |(_, batch)| batch.len())
    }
}

/// An origin whose record may be on its way, and what a neighbour has of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Newcomer {
    upto: Position,
    link: LinkId,
    /// When it is asked about again; none once it was asked about for long enough.
    again: Option<Time>,
    /// Until when it is asked about, then until when it is left alone.
    until: Time,
}

impl Newcomer {
    /// When there is something to do for it.
    pub(crate) fn next(&self) -> Option<Time> {
        self.again
    }
}

fn evidence_len(evidence: &Evidence) -> usize {
    evidence.envelopes().iter().map(bytes::Bytes::len).sum()
}

impl Core {
    /// Asks whether an origin is a member, unless that was asked or answered lately.
    pub(crate) fn ask(
        &mut self,
        origin: Origin,
        held: Option<(LinkId, Batch)>,
        wanted: Option<(Position, LinkId)>,
        out: &mut Vec<Output>,
    ) {
        let now = self.now.time;
        let refused = self.refused.get(&origin).is_some_and(|until| now < *until);
        let full = self.asked.len() >= ASKED_MAX || self.streams.len() >= STREAMS_MAX;
        if refused || full || self.asked.contains_key(&origin) {
            return;
        }
        let room = HELD_MAX - self.held_bytes;
        let held = held.filter(|(_, batch)| batch.len() <= room);
        self.held_bytes += held.as_ref().map_or(0, |(_, batch)| batch.len());
        self.asked.insert(origin, Asked { since: now, held, wanted, evidence: None });
        out.push(Output::Admit(origin));
    }

    /// The same about an origin that is not followed and has equivocated.
    pub(crate) fn ask_about_forger(&mut self, evidence: &Evidence, out: &mut Vec<Output>) {
        let origin = evidence.origin();
        self.ask(origin, None, None, out);
        if self.held_bytes + evidence_len(evidence) <= HELD_MAX
            && let Some(asked) = self.asked.get_mut(&origin)
            && asked.evidence.is_none()
        {
            self.held_bytes += evidence_len(evidence);
            asked.evidence = Some(evidence.clone());
        }
    }

    pub(crate) fn on_admitted(
        &mut self,
        origin: Origin,
        admission: Admission,
        out: &mut Vec<Output>,
    ) {
        let asked = self.asked.remove(&origin);
        self.held_bytes -= asked.as_ref().map_or(0, Asked::bytes);
        match (admission, &asked) {
            (Admission::Later, Some(asked)) => self.wait_for_record(origin, asked),
            _ => {
                self.newcomers.remove(&origin);
            }
        }
        match admission {
            Admission::Yes => {
                self.refused.remove(&origin);
                if self.streams.len() < STREAMS_MAX || self.streams.contains_key(&origin) {
                    self.leave_digest(origin);
                    self.streams.entry(origin).or_default().suspended = false;
                    self.enter_digest(origin);
                    self.go_on(origin, asked, out);
                }
            }
            Admission::No => self.expel(origin, out),
            Admission::Later => self.suspend(origin, out),
        }
    }

    /// A record and the first words of its server take different ways: who is unknown now may be a member
    /// in a second, and what it said would else wait for the next comparison.
    fn wait_for_record(&mut self, origin: Origin, asked: &Asked) {
        let now = self.now.time;
        let flooded = asked.held.as_ref().map(|(link, batch)| (batch.last(), *link));
        let Some((upto, link)) = flooded.or(asked.wanted) else { return };
        let again = Some(now + ADMIT_RETRY);
        if let Some(known) = self.newcomers.get_mut(&origin) {
            if now >= known.until {
                // Too long for a record that is on its way.
                (known.again, known.until) = (None, now + NEWCOMER_REST);
            } else if known.again.is_some() {
                // Who brought it by the tree is asked for it: it withheld nothing.
                let by_tree = |link| self.links.get(link).is_some_and(|l| l.role == Role::Tree);
                let link = if by_tree(&known.link) && !by_tree(&link) { known.link } else { link };
                let upto = known.upto.max(upto);
                *known = Newcomer { upto, link, again, ..*known };
            }
            return;
        }
        if self.newcomers.len() >= NEWCOMERS_MAX {
            let given_up = self.newcomers.iter().find(|(_, known)| known.again.is_none());
            let Some(given_up) = given_up.map(|(origin, _)| *origin) else { return };
            self.newcomers.remove(&given_up);
        }
        let until = now + ASKED_TIMEOUT;
        self.newcomers.insert(origin, Newcomer { upto, link, again, until });
    }

    /// Asks again about those whose records may have come.
    pub(crate) fn ask_again(&mut self, out: &mut Vec<Output>) {
        let now = self.now.time;
        self.newcomers.retain(|_, known| known.again.is_some() || now < known.until);
        let due = |known: &Newcomer| known.again.is_some_and(|again| again <= now);
        let due = self.newcomers.iter().filter(|(_, known)| due(known));
        let due: Vec<(Origin, Newcomer)> = due.map(|(origin, known)| (*origin, *known)).collect();
        for (origin, Newcomer { upto, link, .. }) in due {
            if let Some(known) = self.newcomers.get_mut(&origin) {
                // Should no answer come, the question itself is forgotten after this time.
                known.again = Some(now + ASKED_TIMEOUT);
            }
            self.ask(origin, None, Some((upto, link)), out);
        }
    }

    /// Takes up what raised the question.
    fn go_on(&mut self, origin: Origin, asked: Option<Asked>, out: &mut Vec<Output>) {
        let Some(asked) = asked else { return };
        if let Some(evidence) = asked.evidence {
            return self.on_evidence(&evidence, out);
        }
        if let Some((link, batch)) = asked.held
            && self.links.contains_key(&link)
        {
            self.place(origin, link, batch, Way::Flood, out);
        }
        let Some((upto, link)) = asked.wanted else { return };
        match self.links.get(&link).map(|neighbour| neighbour.role) {
            Some(Role::Cross) => self.want_in_time(origin, upto, link),
            Some(Role::Tree) | None => self.want(origin, upto, link, out),
        }
    }

    /// An origin is no member just now: what is here stays, and nothing more is taken.
    fn suspend(&mut self, origin: Origin, out: &mut Vec<Output>) {
        if origin == self.me {
            return;
        }
        self.leave_digest(origin);
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        stream.suspended = true;
        stream.clear_ahead(&mut self.ahead);
        let storing = stream.pending.iter();
        let index = storing.take_while(|entry| matches!(entry.stage, Stage::Storing(..))).count();
        self.end_fetch(&origin);
        if let Some(stream) = self.streams.get_mut(&origin) {
            stream.lack = Lack::default();
        }
        self.wants.remove(&origin);
        self.drop_pending(origin, index, out);
    }

    /// An origin is no member: whatever is here of it goes.
    fn expel(&mut self, origin: Origin, out: &mut Vec<Output>) {
        if origin == self.me {
            // What this node does without its fleet is not the core's to decide.
            return;
        }
        while self.refused.len() >= REFUSED_MAX {
            self.refused.pop_first();
        }
        self.refused.insert(origin, self.now.time + ASKED_TIMEOUT);
        if !self.streams.contains_key(&origin) {
            return;
        }
        self.drop_pending(origin, 0, out);
        self.end_fetch(&origin);
        self.leave_digest(origin);
        self.late.remove(&origin);
        if let Some(mut stream) = self.streams.remove(&origin) {
            stream.clear_ahead(&mut self.ahead);
            self.given_bytes -= stream.delivery.given.iter().map(|(_, n)| n).sum::<usize>();
        }
        self.wants.remove(&origin);
        self.lagging.remove(&origin);
        out.push(Output::Log(LogJob::Forget { origin }));
    }

    /// Questions that nobody answered may be asked again.
    pub(crate) fn forget_questions(&mut self) {
        let now = self.now.time;
        let held = &mut self.held_bytes;
        self.asked.retain(|_, asked| {
            let keep = now.since(asked.since) < ASKED_TIMEOUT;
            if !keep {
                *held -= asked.bytes();
            }
            keep
        });
        self.refused.retain(|_, until| now < *until);
    }
}
