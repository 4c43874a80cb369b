//! Fetches of one neighbour that wait for their turn: answers never fill a queue.

use std::collections::VecDeque;

use borgios_stream::LogJob;

use crate::log_worker::{LogWorker, Work};
use crate::outbox::BUSY;

/// What one neighbour asked for; no more than the core lets it.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    waiting: VecDeque<LogJob>,
    /// The log reads for one of them.
    reading: bool,
}

impl Fetches {
    /// Adds one.
    pub(crate) fn push(&mut self, job: LogJob) {
        self.waiting.push_back(job);
    }

    /// What the log read has been queued.
    pub(crate) fn answered(&mut self) {
        self.reading = false;
    }

    /// Lets the log read for the next one, if the neighbour has read what it was sent but for `bytes`;
    /// whether it does.
    pub(crate) fn next(&mut self, bytes: usize, log: &mut LogWorker) -> bool {
        if !self.reading
            && bytes <= BUSY
            && let Some(job) = self.waiting.pop_front()
        {
            self.reading = true;
            log.push(Work::Job(job));
            return true;
        }
        false
    }
}
