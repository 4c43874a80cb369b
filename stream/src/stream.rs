//! What a core knows of one origin's stream.
//!
//! ```text
//!  taken ≤ delivered ≤ head │ pending: Judging → Verified → Storing │ ahead: kept, not contiguous
//!          application  log │                                  seen │
//! ```
//!
//! `head` is stored. What follows it stands in `pending` in the order of numbers, without a gap, up
//! to `seen`; each is judged by a worker at its own time, but moves on in order.

use std::collections::{BTreeMap, VecDeque};

use crate::batch::Batch;
use crate::io::{LinkId, Ticket};
use crate::jobs::{Forgery, JobId};
use crate::lack::Lack;
use crate::position::{BatchId, Position};

/// One stream.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// The last message stored.
    pub(crate) head: Position,
    /// The batch that ends with it; none where nothing is stored.
    pub(crate) head_id: Option<BatchId>,
    /// Batches after the head, not yet stored.
    pub(crate) pending: VecDeque<Pending>,
    /// Bytes of them.
    pub(crate) pending_bytes: usize,
    /// Batches that came too early, by first position; the ones nearest to the head are kept.
    pub(crate) ahead: BTreeMap<Position, (LinkId, Batch)>,
    /// Bytes of them.
    pub(crate) ahead_bytes: usize,
    /// A batch that contradicts another, while one finds out which of them is a forgery.
    pub(crate) rival: Option<Rival>,
    /// What is missing, and how it is fetched.
    pub(crate) lack: Lack,
    /// What the application has.
    pub(crate) delivery: Delivery,
    /// The last message that went on to the tree links, verified; again only if it was not stored.
    pub(crate) sent: Position,
    /// The origin is no member just now: what is here stays, nothing more is taken.
    pub(crate) suspended: bool,
    /// The origin has equivocated.
    pub(crate) stopped: bool,
}

/// One batch between arrival and storage.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) batch: Batch,
    /// Who brought it; `None` for this node's own.
    pub(crate) from: Option<LinkId>,
    /// Whether it came as the answer to a fetch: out of a log, so verified by whoever sent it.
    pub(crate) answer: bool,
    /// Whether cross links are to hear of it at once: see [`Core::is_late`](crate::Core).
    pub(crate) late: bool,
    /// Whether it went on to the other tree links.
    pub(crate) forwarded: bool,
    pub(crate) stage: Stage,
    /// The messages in it that this node's application published.
    pub(crate) tickets: Vec<Ticket>,
}

/// How far a pending batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// A worker judges it.
    Judging(JobId),
    /// A forgery; handled when everything before it is verified.
    Forged(Forgery),
    /// Verified; what is before it is not.
    Verified(BatchId),
    /// With the log.
    Storing(BatchId, JobId),
}

/// A batch that cannot be in one history with another that is pending or stored.
#[derive(Debug)]
pub(crate) struct Rival {
    pub(crate) link: LinkId,
    pub(crate) batch: Batch,
    pub(crate) stage: RivalStage,
}

/// How far a rival is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RivalStage {
    /// The other one is not judged yet.
    Waiting,
    /// A worker judges it.
    Judging(JobId),
    /// It is genuine; the log looks for the other one.
    Reading,
}

/// How far the application is.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    /// The last message given to it.
    pub(crate) delivered: Position,
    /// Batches given and not taken yet: last position, bytes.
    pub(crate) given: VecDeque<(Position, usize)>,
    /// Whether it is served from the log, because the window was full.
    pub(crate) lagging: bool,
    /// Whether the log reads for it right now.
    pub(crate) reading: bool,
}

impl Stream {
    /// The last message that is stored or pending.
    pub(crate) fn seen(&self) -> Position {
        self.pending.back().map_or(self.head, |pending| pending.batch.last())
    }

    /// Whether nothing more of it is taken.
    pub(crate) fn is_deaf(&self) -> bool {
        self.stopped || self.suspended
    }

    /// Removes what is pending from `index` on, and returns it.
    pub(crate) fn drop_from(&mut self, index: usize) -> VecDeque<Pending> {
        let dropped = self.pending.split_off(index.min(self.pending.len()));
        self.pending_bytes -= dropped.iter().map(|pending| pending.batch.len()).sum::<usize>();
        dropped
    }
}
