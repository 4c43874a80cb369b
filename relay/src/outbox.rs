//! What waits to be sent on one link: bounded, requests before batches.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::Notify;

/// Bytes above which a link counts as busy: while every link that a batch would go to is busy, no
/// more is taken in. A round trip's worth on a fast link, a few batches on any.
pub(crate) const BUSY: usize = 512 * 1024;
/// Bytes that may wait on one link. A neighbour that leaves more unread while others keep up gets
/// nothing until it has caught up, and then fetches. Batches are shared between links, so eight
/// stalled children cost little more than one.
pub(crate) const FULL: usize = 4 * 1024 * 1024;
/// Frames that may wait on one link, whatever their size: each costs some memory of its own.
pub(crate) const FRAMES_MAX: usize = 8 * 1024;
/// A link on which nothing was written for this long, though it is busy, is stuck: its neighbour does
/// not read. It holds up nobody any more. As long as the tree waits for one that does not read.
pub(crate) const STUCK: Duration = Duration::from_secs(10);
/// Bytes that are written at once: what one write call and one wake of the neighbour are worth.
const GROUP: usize = 256 * 1024;

/// The neighbour does not read what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("more than {FULL} bytes or {FRAMES_MAX} frames wait to be read")]
pub(crate) struct Full;

/// The queue of one link, for one reader.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    news: Notify,
    /// Bytes that wait or are being written.
    bytes: AtomicUsize,
    /// Groups written so far: what does not grow is stuck.
    groups: AtomicUsize,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Requests: they go before everything else, for the answer takes long enough.
    urgent: VecDeque<Bytes>,
    /// Batches, and what must not overtake them.
    ordered: VecDeque<Bytes>,
    closed: bool,
}

impl Outbox {
    /// Queues a frame; bytes that now wait.
    ///
    /// # Errors
    /// [`Full`]; the frame is dropped.
    pub(crate) fn push(&self, frame: Bytes) -> Result<usize, Full> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Ok(0);
        }
        let bytes = self.bytes.load(Ordering::Acquire) + frame.len();
        if bytes > FULL || waiting.urgent.len() + waiting.ordered.len() >= FRAMES_MAX {
            return Err(Full);
        }
        self.bytes.fetch_add(frame.len(), Ordering::AcqRel);
        if frame.starts_with(b"BGSf") {
            waiting.urgent.push_back(frame);
        } else {
            waiting.ordered.push_back(frame);
        }
        drop(waiting);
        self.news.notify_one();
        Ok(bytes)
    }

    /// Bytes that wait or are being written.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Groups written so far.
    pub(crate) fn groups(&self) -> usize {
        self.groups.load(Ordering::Acquire)
    }

    /// Waits for frames and moves them to `group`, at least one and about [`GROUP`] bytes; false
    /// once closed and empty.
    pub(crate) async fn take(&self, group: &mut Vec<Bytes>) -> bool {
        loop {
            {
                let mut waiting = self.lock();
                let mut bytes = 0;
                while bytes < GROUP {
                    let next = waiting.urgent.pop_front();
                    let Some(frame) = next.or_else(|| waiting.ordered.pop_front()) else { break };
                    bytes += frame.len();
                    group.push(frame);
                }
                if bytes > 0 {
                    return true;
                }
                if waiting.closed {
                    return false;
                }
            }
            // A `notify_one` between the look and the wait is kept as a permit.
            self.news.notified().await;
        }
    }

    /// A group has been written; whether the link was busy before and is not any more.
    pub(crate) fn written(&self, bytes: usize) -> bool {
        self.groups.fetch_add(1, Ordering::AcqRel);
        let before = self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        before > BUSY && before - bytes <= BUSY
    }

    /// Takes nothing more; what waits is still sent.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.news.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Queues of whole frames are whole whatever the thread that held them did.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_go_first_and_the_end_comes_last() {
        let outbox = Outbox::default();
        for frame in [&b"BGS1 one"[..], b"BGSf two", b"BGSs three"] {
            outbox.push(Bytes::from_static(frame)).unwrap();
        }
        outbox.close();
        assert_eq!(outbox.push(Bytes::from_static(b"BGS1 late")), Ok(0));
        let mut group = Vec::new();
        assert!(outbox.take(&mut group).await);
        assert_eq!(group, [&b"BGSf two"[..], b"BGS1 one", b"BGSs three"]);
        assert!(!outbox.take(&mut group).await);
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_relief_is_told_once() {
        let outbox = Outbox::default();
        let frame = Bytes::from(vec![0; 64 * 1024]);
        let fits = (0..1000).take_while(|_| outbox.push(frame.clone()).is_ok()).count();
        assert_eq!(fits, FULL / frame.len());
        let mut group = Vec::new();
        let mut crossed = 0;
        while outbox.bytes() > 0 {
            group.clear();
            assert!(outbox.take(&mut group).await);
            let bytes: usize = group.iter().map(Bytes::len).sum();
            assert!(bytes <= GROUP + frame.len());
            crossed += usize::from(outbox.written(bytes));
        }
        assert_eq!(crossed, 1);
        let small = Bytes::from_static(b"BGSd");
        let fits = (0..100_000).take_while(|_| outbox.push(small.clone()).is_ok()).count();
        assert_eq!(fits, FRAMES_MAX);
    }
}
