//! What waits to be sent on one tree link: small and urgent frames first, and not without bound.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use tokio::sync::Notify;

/// Bytes that may wait on one link. A neighbour that leaves more unread is too slow for the tree:
/// its link is dropped, it heals elsewhere and fetches what it missed.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes above which answers to a neighbour that catches up wait, so that catching up alone never
/// fills the outbox.
const BYTES_EASY: usize = 2 * 1024 * 1024;
/// Frames that may wait on one link, whatever their size.
const FRAMES_MAX: usize = 16 * 1024;

/// The neighbour does not read what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("more than {BYTES_MAX} bytes or {FRAMES_MAX} frames wait to be read")]
pub struct Full;

/// The queue of one link.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Mutex<Waiting>,
    /// Something to send, or the end.
    news: Notify,
    /// Room for more.
    room: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    control: VecDeque<String>,
    objects: VecDeque<String>,
    bytes: usize,
    closed: bool,
}

impl Outbox {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Queues a small frame before every object.
    ///
    /// # Errors
    /// [`Full`]: drop the link.
    pub fn push_control(&self, frame: String) -> Result<(), Full> {
        self.push(frame, |waiting| &mut waiting.control)
    }

    /// Queues an object.
    ///
    /// # Errors
    /// [`Full`]: drop the link.
    pub fn push_object(&self, frame: String) -> Result<(), Full> {
        self.push(frame, |waiting| &mut waiting.objects)
    }

    fn push(
        &self,
        frame: String,
        queue: impl FnOnce(&mut Waiting) -> &mut VecDeque<String>,
    ) -> Result<(), Full> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Ok(());
        }
        let frames = waiting.control.len() + waiting.objects.len();
        if waiting.bytes + frame.len() > BYTES_MAX || frames >= FRAMES_MAX {
            return Err(Full);
        }
        waiting.bytes += frame.len();
        queue(&mut waiting).push_back(frame);
        drop(waiting);
        self.news.notify_one();
        Ok(())
    }

    /// Waits until little enough is queued to add an answer that nobody is in a hurry for.
    pub async fn room(&self) {
        loop {
            let freed = self.room.notified();
            {
                let waiting = self.lock();
                if waiting.closed || waiting.bytes <= BYTES_EASY {
                    return;
                }
            }
            freed.await;
        }
    }

    /// Takes the next frame to send; `None` once closed and empty. For one reader.
    pub async fn next(&self) -> Option<String> {
        loop {
            {
                let mut waiting = self.lock();
                let next = waiting.control.pop_front().or_else(|| waiting.objects.pop_front());
                if let Some(frame) = next {
                    waiting.bytes -= frame.len();
                    let easy = waiting.bytes <= BYTES_EASY;
                    drop(waiting);
                    if easy {
                        self.room.notify_waiters();
                    }
                    return Some(frame);
                }
                if waiting.closed {
                    return None;
                }
            }
            // A `notify_one` between the look and the wait is kept as a permit.
            self.news.notified().await;
        }
    }

    /// Takes nothing more; what waits is still sent.
    pub fn close(&self) {
        self.lock().closed = true;
        self.news.notify_one();
        self.room.notify_waiters();
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
    async fn control_goes_first_and_the_end_comes_last() {
        let outbox = Outbox::new();
        outbox.push_object("object".into()).unwrap();
        outbox.push_control("one".into()).unwrap();
        outbox.push_control("two".into()).unwrap();
        outbox.close();
        outbox.push_control("late".into()).unwrap();
        for expected in [Some("one"), Some("two"), Some("object"), None] {
            assert_eq!(outbox.next().await.as_deref(), expected);
        }
    }

    #[tokio::test]
    async fn a_neighbour_that_does_not_read_is_noticed_and_memory_stays_bounded() {
        let outbox = Outbox::new();
        let frame = "x".repeat(1024 * 1024);
        let fits = (0..100).take_while(|_| outbox.push_object(frame.clone()).is_ok()).count();
        assert_eq!(fits, 16);
        assert_eq!(outbox.push_control("beat".into()), Ok(()).and(Err(Full)));
        let waits = tokio::time::timeout(std::time::Duration::from_millis(10), outbox.room());
        assert!(waits.await.is_err());
        for _ in 0..14 {
            outbox.next().await.unwrap();
        }
        outbox.room().await;
    }
}
