//! What waits to be sent on one tree link: small and urgent frames first, and not without bound.
//!
//! ```text
//!  control ──▶ ┐
//!  objects ──▶ ├─▶ one frame at a time ─▶ SSH channel (a small window: what is in it cannot be
//!  bulk ─────▶ ┘                          overtaken any more)
//! ```
//!
//! Pushing never waits, for the one who pushes is the task that owns the tree: a neighbour that
//! reads too slowly costs a bounded queue and then its link. It heals elsewhere.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::Notify;

/// Bytes that may wait on one link: eight of the longest frames, or a burst of thousands of records
/// on a line of a few Mbit/s.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes that may wait on all links together: a policy may ask for 256 children, and all of them may
/// stop reading at once.
const ALL_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Bytes that any one link may have waiting however full the others are.
const BYTES_FAIR: usize = 256 * 1024;
/// Bytes above which answers to a neighbour that catches up wait, so that catching up alone never
/// fills the outbox.
const BYTES_EASY: usize = 2 * 1024 * 1024;
/// Frames that may wait on one link, whatever their size.
const FRAMES_MAX: usize = 16 * 1024;
/// Bytes of bulk, pieces of blobs, that may wait: all that one neighbour may have asked for.
const BULK_MAX: usize = 1024 * 1024;
/// A link on which nothing moved for this long while something waited is given up, however little
/// that was: four times what the tree takes for a death.
const STALL: Duration = Duration::from_secs(10);

/// The neighbour does not read what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Full {
    /// Too much waits.
    #[error("more than {BYTES_MAX} bytes or {FRAMES_MAX} frames wait to be read")]
    Much,
    /// Too much waits on all links, and on this one more than its share.
    #[error("more than {ALL_BYTES_MAX} bytes wait on all links, on this one more than its share")]
    Crowded,
    /// It waits for too long.
    #[error("nothing of what waits was read for {} s", STALL.as_secs())]
    Stalled,
}

/// Bytes waiting on all links. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Total(Arc<AtomicUsize>);

/// The queue of one link.
#[derive(Debug)]
pub struct Outbox {
    waiting: Mutex<Waiting>,
    total: Total,
    /// Something to send, or the end.
    news: Notify,
    /// Room for more.
    room: Notify,
    /// The end, for whoever waits for nothing else.
    end: Notify,
}

#[derive(Debug)]
struct Waiting {
    control: VecDeque<String>,
    objects: VecDeque<String>,
    bulk: VecDeque<String>,
    /// Of all three.
    bytes: usize,
    bulk_bytes: usize,
    /// When a frame was last taken, or the first one came to an empty queue.
    moved: Instant,
    closed: bool,
}

impl Waiting {
    fn frames(&self) -> usize {
        self.control.len() + self.objects.len() + self.bulk.len()
    }
}

impl Outbox {
    /// An empty queue that counts alone.
    #[must_use]
    pub fn new() -> Self {
        Self::counted(Total::default())
    }

    /// An empty queue whose bytes count towards `total`.
    #[must_use]
    pub fn counted(total: Total) -> Self {
        let waiting = Mutex::new(Waiting {
            control: VecDeque::new(),
            objects: VecDeque::new(),
            bulk: VecDeque::new(),
            bytes: 0,
            bulk_bytes: 0,
            moved: Instant::now(),
            closed: false,
        });
        let (news, room, end) = (Notify::new(), Notify::new(), Notify::new());
        Self { waiting, total, news, room, end }
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

    /// Queues bulk behind everything else, once there is room for it. Returns when it is queued, or
    /// the outbox closed.
    pub async fn push_bulk(&self, frame: String) {
        loop {
            let freed = self.room.notified();
            tokio::pin!(freed);
            // Registered before the look, or what is freed in between would be missed.
            freed.as_mut().enable();
            {
                let mut waiting = self.lock();
                if waiting.closed {
                    return;
                }
                if waiting.bulk_bytes + frame.len() <= BULK_MAX && waiting.bytes <= BYTES_EASY {
                    waiting.bulk_bytes += frame.len();
                    self.add(&mut waiting, frame, |waiting| &mut waiting.bulk);
                    return;
                }
            }
            freed.await;
        }
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
        let bytes = waiting.bytes + frame.len();
        if bytes > BYTES_MAX || waiting.frames() >= FRAMES_MAX {
            return Err(Full::Much);
        }
        if bytes > BYTES_FAIR && self.total.0.load(Ordering::Relaxed) > ALL_BYTES_MAX {
            return Err(Full::Crowded);
        }
        if waiting.frames() > 0 && waiting.moved.elapsed() > STALL {
            return Err(Full::Stalled);
        }
        self.add(&mut waiting, frame, queue);
        Ok(())
    }

    fn add(
        &self,
        waiting: &mut Waiting,
        frame: String,
        queue: impl FnOnce(&mut Waiting) -> &mut VecDeque<String>,
    ) {
        if waiting.frames() == 0 {
            waiting.moved = Instant::now();
        }
        waiting.bytes += frame.len();
        self.total.0.fetch_add(frame.len(), Ordering::Relaxed);
        queue(waiting).push_back(frame);
        self.news.notify_one();
    }

    /// Waits until little enough is queued to add an answer that nobody is in a hurry for.
    pub async fn room(&self) {
        loop {
            let freed = self.room.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
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
                if let Some(frame) = self.take(&mut waiting) {
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

    fn take(&self, waiting: &mut Waiting) -> Option<String> {
        let mut bulk = false;
        let frame =
            waiting.control.pop_front().or_else(|| waiting.objects.pop_front()).or_else(|| {
                bulk = true;
                waiting.bulk.pop_front()
            })?;
        waiting.bytes -= frame.len();
        if bulk {
            waiting.bulk_bytes -= frame.len();
        }
        waiting.moved = Instant::now();
        self.total.0.fetch_sub(frame.len(), Ordering::Relaxed);
        if waiting.bytes <= BYTES_EASY {
            self.room.notify_waiters();
        }
        Some(frame)
    }

    /// Takes nothing more; what waits is still sent, but for bulk.
    pub fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        let dropped = std::mem::take(&mut waiting.bulk_bytes);
        waiting.bulk.clear();
        waiting.bytes -= dropped;
        self.total.0.fetch_sub(dropped, Ordering::Relaxed);
        drop(waiting);
        self.news.notify_one();
        self.room.notify_waiters();
        self.end.notify_waiters();
    }

    /// Waits until this side has closed it.
    pub async fn closed(&self) {
        let end = self.end.notified();
        tokio::pin!(end);
        // Registered before the look, or an end in between would be missed.
        end.as_mut().enable();
        if !self.lock().closed {
            end.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Queues of whole frames are whole whatever the thread that held them did.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let left = self.lock().bytes;
        self.total.0.fetch_sub(left, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn control_goes_first_then_objects_then_bulk_and_the_end_comes_last() {
        let outbox = Outbox::new();
        outbox.push_bulk("piece".into()).await;
        outbox.push_object("object".into()).unwrap();
        outbox.push_control("one".into()).unwrap();
        outbox.push_control("two".into()).unwrap();
        for expected in ["one", "two", "object", "piece"] {
            assert_eq!(outbox.next().await.as_deref(), Some(expected));
        }
        outbox.push_bulk("given up".into()).await;
        outbox.push_object("last".into()).unwrap();
        outbox.close();
        outbox.push_control("late".into()).unwrap();
        for expected in [Some("last"), None] {
            assert_eq!(outbox.next().await.as_deref(), expected);
        }
    }

    #[tokio::test]
    async fn a_neighbour_that_does_not_read_is_noticed_and_memory_stays_bounded() {
        let outbox = Outbox::new();
        let frame = "x".repeat(1024 * 1024);
        let fits = (0..100).take_while(|_| outbox.push_object(frame.clone()).is_ok()).count();
        assert_eq!(fits, BYTES_MAX / frame.len());
        assert_eq!(outbox.push_control("beat".into()), Ok(()).and(Err(Full::Much)));
        let waits = tokio::time::timeout(Duration::from_millis(10), outbox.room());
        assert!(waits.await.is_err());
        while outbox.lock().bytes > BYTES_EASY {
            outbox.next().await.unwrap();
        }
        outbox.room().await;
    }

    #[tokio::test]
    async fn the_end_is_told_to_whoever_waits_for_it_before_and_after() {
        let outbox = Arc::new(Outbox::new());
        let waiting = outbox.clone();
        let waiting = tokio::spawn(async move { waiting.closed().await });
        outbox.push_object("nobody reads it".into()).unwrap();
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        outbox.close();
        waiting.await.unwrap();
        outbox.closed().await;
    }

    /// As if `time` had passed.
    fn pass(outbox: &Outbox, time: Duration) {
        let mut waiting = outbox.lock();
        waiting.moved = waiting.moved.checked_sub(time).unwrap();
    }

    #[tokio::test]
    async fn a_link_that_moves_is_kept_and_one_that_stalls_is_not_however_little_waits() {
        let outbox = Outbox::new();
        for _ in 0..10 {
            outbox.push_control("beat".into()).unwrap();
            outbox.push_control("beat".into()).unwrap();
            pass(&outbox, STALL / 2);
            outbox.next().await.unwrap();
        }
        pass(&outbox, STALL + Duration::from_millis(1));
        assert_eq!(outbox.push_control("beat".into()), Err(Full::Stalled));
        while outbox.lock().frames() > 0 {
            outbox.next().await.unwrap();
        }
        pass(&outbox, 2 * STALL);
        assert_eq!(outbox.push_control("an empty queue never stalls".into()), Ok(()));
    }

    #[tokio::test]
    async fn bulk_waits_for_its_reader_and_holds_up_nothing_else() {
        let outbox = Arc::new(Outbox::new());
        let piece = "x".repeat(BULK_MAX / 4);
        for _ in 0..4 {
            outbox.push_bulk(piece.clone()).await;
        }
        let (pushing, more) = (outbox.clone(), piece.clone());
        let pushing = tokio::spawn(async move { pushing.push_bulk(more).await });
        tokio::task::yield_now().await;
        assert!(!pushing.is_finished());
        outbox.push_control("beat".into()).unwrap();
        assert_eq!(outbox.next().await.as_deref(), Some("beat"));
        assert_eq!(outbox.next().await.as_deref(), Some(piece.as_str()));
        pushing.await.unwrap();
        assert_eq!(outbox.lock().bulk_bytes, BULK_MAX);
    }

    #[test]
    fn many_slow_neighbours_share_one_bound_and_give_it_back() {
        let total = Total::default();
        let frame = "x".repeat(BYTES_FAIR - 1);
        let full: Vec<_> = (0..)
            .map(|_| {
                let outbox = Outbox::counted(total.clone());
                let fits = (0..100).find_map(|_| outbox.push_object(frame.clone()).err());
                (outbox, fits)
            })
            .take_while(|(_, ended)| *ended == Some(Full::Much))
            .collect();
        assert!(full.len() <= ALL_BYTES_MAX / (BYTES_MAX - BYTES_FAIR) + 1, "{}", full.len());
        let honest = Outbox::counted(total.clone());
        assert_eq!(honest.push_object(frame.clone()), Ok(()), "its share is free");
        assert_eq!(honest.push_object(frame.clone()), Err(Full::Crowded));
        drop((full, honest));
        assert_eq!(total.0.load(Ordering::Relaxed), 0);
    }
}
