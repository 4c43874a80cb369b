//! This node's own stream: messages wait, a batch is signed, stored, and only then sent.
//!
//! ```text
//!  Publish ─▶ waiting ── up to 64 of a kind ──▶ Sign ─▶ pending: Storing ─▶ Stored ─▶ sent, Published
//!                 ▲                               │            │ not stored
//!                 └──── what it follows is gone ──┘            └─▶ Refused
//! ```
//!
//! The next batch is collected when the previous one was stored, or when it is full: a single message
//! waits for nothing, and under load each batch takes all that came meanwhile. What was sent was stored
//! before, and where the log is not sure of its end, a new epoch begins: so no number is ever signed
//! twice, whatever crashes.
//!
//! An epoch that was begun by a clock far ahead of all others is dropped by them until its date. Once
//! the clock is right nothing more is published in it: each message is refused, and told as such. What
//! was stored in it stays in the log, for nobody else has it.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::batch::{Durability, Kind};
use crate::bounds::{
    BATCH_BODY_MAX, BATCH_MESSAGES_MAX, EPOCH_AHEAD_MAX_S, OWN_PENDING_MAX, WAITING_MAX,
    WAITING_MESSAGES_MAX,
};
use crate::builder::Draft;
use crate::core::Core;
use crate::io::{Output, Refusal, Ticket};
use crate::jobs::{JobId, SignJob, Signed};
use crate::judging::id_of;
use crate::log::LogJob;
use crate::position::{BatchId, Position};
use crate::stream::{Pending, Stage, Stream};

/// What is under way of this node's own stream.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// The end of what this node itself has signed and can go on from; none begins a new epoch.
    last: Option<(Position, BatchId)>,
    /// The epoch to begin, at least.
    epoch: u64,
    waiting: VecDeque<Waiting>,
    pub(crate) waiting_bytes: usize,
    signing: Option<Signing>,
    /// More messages are about to come.
    more: bool,
    /// The epoch of which was said last that it lies too far ahead.
    told_ahead: Option<u64>,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    kind: Kind,
    durability: Durability,
    body: Bytes,
}

/// A batch that a worker signs.
#[derive(Debug)]
struct Signing {
    job: JobId,
    /// What it follows.
    after: Position,
    messages: Vec<Waiting>,
}

impl Own {
    /// Goes on in the epoch that the log names; in the stream's own only if its end is certain.
    pub(crate) fn recovered(epoch: Option<u64>, stream: Option<&Stream>) -> Self {
        let end = stream.and_then(|stream| Some((stream.head, stream.head_id?)));
        let last = end.filter(|(head, _)| Some(head.epoch) == epoch);
        Self { last, epoch: epoch.unwrap_or(0), ..Self::default() }
    }
}

impl Own {
    /// Goes on as after a start, with what waits.
    pub(crate) fn go_on(&mut self, epoch: Option<u64>, stream: Option<&Stream>) {
        let Self { last, epoch, .. } = Self::recovered(epoch, stream);
        (self.last, self.epoch) = (last, epoch);
    }
}

impl Core {
    pub(crate) fn on_publish(
        &mut self,
        ticket: Ticket,
        kind: Kind,
        durability: Durability,
        body: Bytes,
        out: &mut Vec<Output>,
    ) {
        let stopped = self.streams.get(&self.me).is_none_or(|stream| stream.stopped);
        let full = self.own.waiting_bytes + body.len() > WAITING_MAX
            || self.own.waiting.len() >= WAITING_MESSAGES_MAX;
        let why = match () {
            () if stopped => Refusal::Stopped,
            () if body.len() > BATCH_BODY_MAX => Refusal::TooLong,
            () if full => Refusal::Full,
            () => {
                self.own.waiting_bytes += body.len();
                self.own.waiting.push_back(Waiting { ticket, kind, durability, body });
                return self.sign_next(out);
            }
        };
        out.push(Output::Refused { ticket, why });
    }

    pub(crate) fn on_publish_more(&mut self, more: bool, out: &mut Vec<Output>) {
        self.own.more = more;
        self.sign_next(out);
    }

    /// Collects and signs the next batch, if one waits and the previous one is signed.
    pub(crate) fn sign_next(&mut self, out: &mut Vec<Output>) {
        if self.own.signing.is_some() || self.own.waiting.is_empty() {
            return;
        }
        let Some(stream) = self.streams.get(&self.me) else { return };
        // What others claim to be this node's is judged first: an unverified epoch must not move it.
        let claimed = stream.pending.iter().any(|p| !matches!(p.stage, Stage::Storing(..)));
        if stream.stopped || claimed || stream.pending.len() >= OWN_PENDING_MAX {
            return;
        }
        // A full batch goes at once; what would not fill one waits for what comes with it, and while
        // another is being stored.
        let fills = self.own.waiting.len() >= BATCH_MESSAGES_MAX
            || self.own.waiting_bytes >= BATCH_BODY_MAX;
        if !fills && (self.own.more || !stream.pending.is_empty()) {
            return;
        }
        let after = stream.seen();
        let (first, previous) = match self.own.last {
            Some((last, id)) if last == after => (Position::new(last.epoch, last.number + 1), id),
            // Nothing signed here yet, or others hold more of this stream than this node does.
            _ => {
                let epoch = self.now.unix.0.max(after.epoch + 1).max(self.own.epoch).max(1);
                (Position::new(epoch, 1), BatchId::NONE)
            }
        };
        if self.is_ahead(first.epoch) {
            return self.refuse_ahead(first.epoch, out);
        }
        self.own.told_ahead = None;
        let messages = self.own.collect();
        let Some(Waiting { kind, durability, .. }) = messages.first() else { return };
        let draft = Draft {
            network: self.config.network,
            first,
            previous,
            kind: kind.clone(),
            durability: *durability,
            issued: self.now.unix,
            messages: messages.iter().map(|waiting| waiting.body.clone()).collect(),
        };
        let job = self.next_job();
        self.own.signing = Some(Signing { job, after, messages });
        out.push(Output::Sign(SignJob { job, draft }));
    }

    pub(crate) fn on_signed(&mut self, signed: Signed, out: &mut Vec<Output>) {
        let Some(signing) = self.own.signing.take_if(|signing| signing.job == signed.job) else {
            return;
        };
        let (origin, job) = (self.me, self.next_job());
        let is_ahead = self.is_ahead(signed.batch.epoch());
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        if stream.stopped || is_ahead || stream.seen() != signing.after {
            // What it follows was not stored, or is not the end any more; or the clock was set back
            // meanwhile. Nobody has seen it.
            self.own.put_back(signing.messages);
            self.refuse_own_if_stopped(out);
            return self.sign_next(out);
        }
        let Signed { batch, id, .. } = signed;
        self.own.last = Some((batch.last(), id));
        self.pending_bytes += batch.len();
        stream.pending_bytes += batch.len();
        stream.pending.push_back(Pending {
            batch: batch.clone(),
            from: None,
            answer: false,
            late: false,
            forwarded: false,
            stage: Stage::Storing(id, job),
            tickets: signing.messages.iter().map(|waiting| waiting.ticket).collect(),
        });
        let (after, own) = (signing.after, true);
        out.push(Output::Log(LogJob::Append { job, origin, batch, id, after, own }));
        self.sign_next(out);
    }

    pub(crate) fn on_own_stored(&mut self, stored: &Pending, out: &mut Vec<Output>) {
        self.forward(stored.batch.bytes(), None, out);
        let first = stored.batch.first();
        for (index, ticket) in stored.tickets.iter().enumerate() {
            let position = Position::new(first.epoch, first.number + index as u64);
            out.push(Output::Published { ticket: *ticket, position });
        }
    }

    pub(crate) fn on_own_not_stored(&mut self, dropped: Pending, out: &mut Vec<Output>) {
        for ticket in dropped.tickets {
            out.push(Output::Refused { ticket, why: Refusal::NotStored });
        }
        let Some(stream) = self.streams.get(&self.me) else { return };
        let end = match stream.pending.back() {
            Some(pending) => id_of(pending).map(|id| (pending.batch.last(), id)),
            None => stream.head_id.map(|id| (stream.head, id)),
        };
        // Nobody has seen the batch, so its numbers are free; but only behind what this node signed.
        self.own.last = end.filter(|(last, _)| last.epoch == dropped.batch.epoch());
        self.own.epoch = dropped.batch.epoch();
    }

    /// Gives back what waits, once the own stream is stopped.
    pub(crate) fn refuse_own_if_stopped(&mut self, out: &mut Vec<Output>) {
        if self.streams.get(&self.me).is_some_and(|stream| stream.stopped) {
            self.refuse_waiting(Refusal::Stopped, out);
        }
    }

    /// Whether other nodes, whose clocks say what this one's does, drop an epoch.
    fn is_ahead(&self, epoch: u64) -> bool {
        epoch > self.now.unix.0.saturating_add(EPOCH_AHEAD_MAX_S)
    }

    /// Gives back what waits: an earlier epoch would not follow what the log holds, and to forget that
    /// would be to lose what was acknowledged.
    fn refuse_ahead(&mut self, epoch: u64, out: &mut Vec<Output>) {
        if self.own.told_ahead.replace(epoch) != Some(epoch) {
            out.push(Output::Ahead { epoch });
        }
        self.refuse_waiting(Refusal::Ahead, out);
    }

    fn refuse_waiting(&mut self, why: Refusal, out: &mut Vec<Output>) {
        self.own.waiting_bytes = 0;
        for waiting in self.own.waiting.drain(..) {
            out.push(Output::Refused { ticket: waiting.ticket, why });
        }
    }
}

impl Own {
    /// Takes what fits into one batch: same kind, same durability, in order.
    fn collect(&mut self) -> Vec<Waiting> {
        let (mut count, mut bytes) = (0, 0);
        for waiting in self.waiting.iter().take(BATCH_MESSAGES_MAX) {
            let first = &self.waiting[0];
            let alike = waiting.kind == first.kind && waiting.durability == first.durability;
            if !alike || bytes + waiting.body.len() > BATCH_BODY_MAX {
                break;
            }
            (count, bytes) = (count + 1, bytes + waiting.body.len());
        }
        self.waiting_bytes -= bytes;
        self.waiting.drain(..count).collect()
    }

    fn put_back(&mut self, messages: Vec<Waiting>) {
        for waiting in messages.into_iter().rev() {
            self.waiting_bytes += waiting.body.len();
            self.waiting.push_front(waiting);
        }
    }
}
