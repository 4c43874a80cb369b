//! A batch comes over a link: the header decides what becomes of it, nothing else is looked at.
//!
//! 1. Another network's: the link is cut. An epoch too far ahead: dropped.
//! 2. An origin that is not followed: held while the shell is asked about it.
//! 3. Numbers that are here already: dropped, or a contradiction (`contesting.rs`).
//! 4. The next numbers: pending; a worker judges it.
//! 5. Later numbers: kept if there is room, and what is missing is fetched.

use crate::batch::Batch;
use crate::bounds::{
    DISOWN_INTERVAL, EPOCH_AHEAD_MAX_S, LINK_PENDING_MAX, PENDING_MAX, REPLY_INTERVAL,
    STREAM_PENDING_MAX, UNJUDGED_MAX,
};
use crate::core::{Core, Relay};
use crate::frame::Frame;
use crate::io::{LinkId, Misdeed, Output, Role};
use crate::jobs::VerifyJob;
use crate::log::joins;
use crate::position::{Origin, Position};
use crate::stream::{Pending, Stage};

/// How a batch came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Flooded, as it was published.
    Flood,
    /// Read from the neighbour's log, and what comes before it there is here.
    Answer,
    /// The same, where nobody has what comes before it.
    Jump,
}

impl Core {
    pub(crate) fn on_batch(&mut self, link: LinkId, batch: Batch, out: &mut Vec<Output>) {
        if batch.network() != self.config.network {
            return self.cut(link, Misdeed::Network, out);
        }
        if batch.epoch() > self.now.unix.0.saturating_add(EPOCH_AHEAD_MAX_S) {
            return;
        }
        let origin = batch.origin();
        match self.streams.get(&origin) {
            None => self.ask(origin, Some((link, batch)), None, out),
            Some(stream) if stream.stopped => self.answer_with_evidence(origin, link, out),
            Some(stream) if stream.suspended => {}
            Some(_) => {
                let way = self.way_of(&origin, link);
                self.place(origin, link, batch, way, out);
                self.count_answer(origin, link, way, out);
            }
        }
    }

    /// A neighbour does not know yet that this origin is stopped.
    fn answer_with_evidence(&mut self, origin: Origin, link: LinkId, out: &mut Vec<Output>) {
        let now = self.now.time;
        let Some(neighbour) = self.links.get_mut(&link) else { return };
        if neighbour.replied.is_none_or(|at| now.since(at) >= REPLY_INTERVAL)
            && let Some(evidence) = self.evidence.get(&origin)
        {
            neighbour.replied = Some(now);
            self.send(link, Frame::Evidence(evidence.clone()).encode(), out);
        }
    }

    /// Puts a batch of a followed stream where its numbers belong.
    pub(crate) fn place(
        &mut self,
        origin: Origin,
        link: LinkId,
        batch: Batch,
        way: Way,
        out: &mut Vec<Output>,
    ) {
        let (first, last, seen) = (batch.first(), batch.last(), self.seen(&origin));
        if last <= seen {
            self.on_twice(origin, link, batch, out);
        } else if first <= seen {
            self.contest(origin, link, batch, out);
        } else if fits(seen, first, way) {
            let new_epoch = way == Way::Answer && first.epoch > seen.epoch;
            if new_epoch && seen != Position::START && !self.ends_epoch(origin, link) {
                // It comes again, once nobody has more of the old one.
                return;
            }
            if self.accept(origin, link, batch, way, out) {
                self.accept_kept(origin, out);
            } else {
                self.want(origin, last, link, out);
            }
        } else {
            self.keep_ahead(link, batch);
            self.want(origin, last, link, out);
        }
    }

    /// Makes a batch pending; false where a quota is used up.
    fn accept(
        &mut self,
        origin: Origin,
        link: LinkId,
        batch: Batch,
        way: Way,
        out: &mut Vec<Output>,
    ) -> bool {
        let length = batch.len();
        let Some(neighbour) = self.links.get_mut(&link) else { return false };
        let Some(stream) = self.streams.get(&origin) else { return false };
        let full = stream.pending_bytes + length > STREAM_PENDING_MAX
            || neighbour.pending_bytes + length > LINK_PENDING_MAX
            || self.pending_bytes + length > PENDING_MAX;
        if full {
            return false;
        }
        neighbour.pending_bytes += length;
        let role = neighbour.role;
        let from_tree = role == Role::Tree && way == Way::Flood;
        // Not past one that waits for its verdict, or neighbours would take that for a gap.
        let behind = stream
            .pending
            .back()
            .is_none_or(|before| before.forwarded || before.batch.last() <= stream.sent);
        let forwarded =
            from_tree && behind && batch.last() > stream.sent && self.forwards_unjudged();
        if forwarded {
            self.unjudged += 1;
            self.forward(batch.bytes(), Some(link), out);
        }
        let late = self.is_late(role, way, batch.issued());
        let job = self.new_job(origin);
        out.push(Output::Verify(VerifyJob { job, batch: batch.clone() }));
        self.pending_bytes += length;
        if let Some(stream) = self.streams.get_mut(&origin) {
            stream.pending_bytes += length;
            stream.pending.push_back(Pending {
                batch,
                from: Some(link),
                answer: way != Way::Flood,
                late,
                forwarded,
                stage: Stage::Judging(job),
                tickets: Vec::new(),
            });
        }
        true
    }

    /// Whether a batch goes on before it is judged, on the link's authentication. Not while many such
    /// are open, nor for a while after a forgery: what forgers send through this node at a time is no
    /// more than its neighbours absolve it of (`neighbour.rs`), however many there are of them.
    fn forwards_unjudged(&self) -> bool {
        self.config.relay == Relay::Link
            && self.unjudged < UNJUDGED_MAX
            && self.forged_at.is_none_or(|at| self.now.time.since(at) > DISOWN_INTERVAL)
    }

    /// Takes over what came too early and is next now.
    pub(crate) fn accept_kept(&mut self, origin: Origin, out: &mut Vec<Output>) {
        while let Some((link, batch)) =
            self.streams.get_mut(&origin).and_then(|stream| stream.take_next_ahead(&mut self.ahead))
        {
            // Beyond a quota: it comes again by a fetch.
            if !self.accept(origin, link, batch, Way::Flood, out) {
                return;
            }
        }
    }

    /// These bytes are pending no more.
    pub(crate) fn release(&mut self, dropped: &Pending) {
        self.pending_bytes -= dropped.batch.len();
        if let Some(neighbour) = dropped.from.and_then(|link| self.links.get_mut(&link)) {
            neighbour.pending_bytes -= dropped.batch.len();
        }
    }
}

/// Whether a batch that begins with `first` is next after `seen`.
///
/// A new epoch is taken out of a neighbour's log only: flooded, it might overtake the end of the
/// old one. The very first batch of a stream is taken as it comes.
fn fits(seen: Position, first: Position, way: Way) -> bool {
    let begins = seen == Position::START && first.number == 1;
    seen.is_followed_by(first)
        || begins
        || match way {
            Way::Flood => false,
            Way::Answer => joins(seen, first),
            Way::Jump => true,
        }
}
