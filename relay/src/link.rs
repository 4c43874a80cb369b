//! What the hub knows of one link: its queue, its gate, its tasks, and how far it is with each.

use std::collections::VecDeque;
use std::sync::Arc;

use borgios_stream::{LogJob, Role};
use borgios_types::NodeId;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::gate::Gate;
use crate::log_worker::{LogWorker, Work};
use crate::outbox::{BUSY, Outbox};

/// One link.
pub(crate) struct Link {
    pub(crate) peer: NodeId,
    pub(crate) role: Role,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) tasks: [AbortHandle; 2],
    /// The core was told that the queue is full.
    pub(crate) full: bool,
    /// Groups written, and since when it is so many while the link is busy.
    pub(crate) progress: (usize, Instant),
    /// It was said that nothing is written here any more.
    pub(crate) stuck: bool,
    /// Fetches of the neighbour that wait until it has read what it was sent.
    pub(crate) fetches: VecDeque<LogJob>,
    /// The log reads for one of them: one at a time, so that answers never fill the queue.
    pub(crate) reading: bool,
}

impl Link {
    /// Lets the log read for the next fetch, if the neighbour has read what it was sent; whether it does.
    pub(crate) fn next_fetch(&mut self, log: &mut LogWorker) -> bool {
        if !self.reading
            && self.outbox.bytes() <= BUSY
            && let Some(job) = self.fetches.pop_front()
        {
            self.reading = true;
            log.push(Work::Job(job));
            return true;
        }
        false
    }
}
