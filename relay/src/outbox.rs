//! What waits to be sent on one link: bounded, requests and disowns before batches; and who writes it.
//!
//! ```text
//!  hub: push ─▶ waiting ── flush ──▶ the hub writes, while the pipe takes it at once
//!                            └─────▶ a task goes on, once it does not; it ends when nothing waits
//! ```
//!
//! A link whose neighbour reads costs no task and no wake: the hub itself hands the bytes to the
//! kernel, or to the SSH connection.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use borgios_stream::bounds::UNJUDGED_MAX;
use borgios_stream::frame::DISOWN_LEN;
use bytes::Bytes;
use thiserror::Error;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::pipe::PipeWrite;

/// Bytes above which a link counts as busy: while every link that a batch would go to is busy, no
/// more is taken in. A round trip's worth on a fast link, a few batches on any.
pub(crate) const BUSY: usize = 512 * 1024;
/// Bytes that may wait on one link. A neighbour that leaves more unread while others keep up gets
/// nothing until it has caught up, and then fetches. Batches are shared between links, so eight
/// stalled children cost little more than one.
pub(crate) const FULL: usize = 4 * 1024 * 1024;
/// Frames that may wait on one link, whatever their size: each costs some memory of its own.
pub(crate) const FRAMES_MAX: usize = 8 * 1024;
/// Disowns that may wait beyond both: without them the neighbour cuts this node off for what others forged.
/// The core has no more than `UNJUDGED_MAX` forwarded unjudged at a time; these are twice as many, 44 KiB.
const DISOWNS_BEYOND: usize = 2 * UNJUDGED_MAX;
/// A link on which nothing was written for this long, though it is busy, is stuck: its neighbour does
/// not read. It holds up nobody any more. As long as the tree waits for one that does not read.
pub(crate) const STUCK: Duration = Duration::from_secs(10);
/// Bytes that are written at once: what one write call and one wake of the neighbour are worth.
pub(crate) const GROUP: usize = 256 * 1024;

/// The neighbour does not read what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("more than {FULL} bytes or {FRAMES_MAX} frames wait to be read")]
pub(crate) struct Full;

/// A write that may be under way: the pen, what was to be written, and how it went.
type Write = Pin<Box<dyn Future<Output = (Box<dyn Pen>, Vec<Bytes>, io::Result<()>)> + Send>>;

/// The writing half of a pipe, whatever carries it.
pub(crate) trait Pen: Send {
    /// Writes a group of frames.
    fn write(self: Box<Self>, group: Vec<Bytes>) -> Write;
    /// Ends this direction.
    fn close(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The pen of one kind of pipe.
pub(crate) struct PenOf<W>(pub(crate) W);

impl<W: PipeWrite> Pen for PenOf<W> {
    fn write(mut self: Box<Self>, group: Vec<Bytes>) -> Write {
        Box::pin(async move {
            let written = self.0.write(&group).await;
            (self as Box<dyn Pen>, group, written)
        })
    }

    fn close(mut self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move { self.0.close().await })
    }
}

/// The queue of one link.
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    /// Told when a busy link is not busy any more, when it has drained, and when it has failed.
    eased: Arc<Notify>,
    /// Bytes that wait or are being written.
    bytes: AtomicUsize,
    /// Groups written so far: what does not grow is stuck.
    groups: AtomicUsize,
    /// The pipe takes nothing any more.
    failed: AtomicBool,
}

struct Waiting {
    /// Requests: they go before everything else, for the answer takes long enough. And disowns: the
    /// neighbour waits for them no longer than a moment, and may have them before the batch.
    urgent: VecDeque<Bytes>,
    /// Batches, and what must not overtake them.
    ordered: VecDeque<Bytes>,
    closed: bool,
    writer: Writer,
}

/// Who writes.
enum Writer {
    /// Nobody: whoever has something to write takes the pen.
    Nobody(Box<dyn Pen>),
    /// The hub, right now.
    Hub,
    /// A task, until nothing waits.
    Task(AbortHandle),
    /// Nobody any more: the pipe is closed, has failed, or was given up.
    Ended,
}

/// What to do next.
enum Next {
    Write(Box<dyn Pen>, Vec<Bytes>),
    Close(Box<dyn Pen>),
    Nothing,
}

impl Waiting {
    /// Moves frames to `group`, about [`GROUP`] bytes.
    fn take(&mut self, group: &mut Vec<Bytes>) {
        let mut bytes = 0;
        while bytes < GROUP {
            let next = self.urgent.pop_front();
            let Some(frame) = next.or_else(|| self.ordered.pop_front()) else { return };
            bytes += frame.len();
            group.push(frame);
        }
    }

    /// What a writer with this pen does next; with nothing to do it lays the pen down.
    fn next(&mut self, pen: Box<dyn Pen>, mut group: Vec<Bytes>) -> Next {
        group.clear();
        self.take(&mut group);
        if !group.is_empty() {
            return Next::Write(pen, group);
        }
        if self.closed {
            return Next::Close(pen);
        }
        self.writer = Writer::Nobody(pen);
        Next::Nothing
    }
}

impl Outbox {
    pub(crate) fn new(pen: Box<dyn Pen>, eased: Arc<Notify>) -> Arc<Self> {
        let waiting = Waiting {
            urgent: VecDeque::new(),
            ordered: VecDeque::new(),
            closed: false,
            writer: Writer::Nobody(pen),
        };
        Arc::new(Self {
            waiting: Mutex::new(waiting),
            eased,
            bytes: AtomicUsize::new(0),
            groups: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
        })
    }

    /// Queues a frame, for the next [`Outbox::flush`]; bytes that now wait.
    ///
    /// # Errors
    /// [`Full`]; the frame is dropped.
    pub(crate) fn push(&self, frame: Bytes) -> Result<usize, Full> {
        let mut waiting = self.lock();
        if waiting.closed || matches!(waiting.writer, Writer::Ended) {
            return Ok(0);
        }
        let bytes = self.bytes() + frame.len();
        let disown = frame.starts_with(b"BGSx");
        let beyond = if disown { DISOWNS_BEYOND } else { 0 };
        let frames = waiting.urgent.len() + waiting.ordered.len();
        if bytes > FULL + beyond * DISOWN_LEN || frames >= FRAMES_MAX + beyond {
            return Err(Full);
        }
        self.bytes.fetch_add(frame.len(), Ordering::AcqRel);
        if disown || frame.starts_with(b"BGSf") {
            waiting.urgent.push_back(frame);
        } else {
            waiting.ordered.push_back(frame);
        }
        Ok(bytes)
    }

    /// Writes what waits, as far as the pipe takes it at once; a task writes the rest.
    pub(crate) fn flush(self: &Arc<Self>) {
        let mut next = {
            let mut waiting = self.lock();
            match mem::replace(&mut waiting.writer, Writer::Hub) {
                Writer::Nobody(pen) => waiting.next(pen, Vec::new()),
                other => {
                    waiting.writer = other;
                    return;
                }
            }
        };
        loop {
            let mut write = match next {
                Next::Write(pen, group) => pen.write(group),
                Next::Close(pen) => return self.hand_over(|outbox| outbox.end(pen)),
                Next::Nothing => return,
            };
            // Nobody is woken by this look: if it is not enough, the task looks again.
            match write.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(written) => next = self.written(written),
                Poll::Pending => return self.hand_over(|outbox| outbox.go_on(write)),
            }
        }
    }

    /// Starts the task that writes from now on.
    fn hand_over<F>(self: &Arc<Self>, work: impl FnOnce(Arc<Self>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut waiting = self.lock();
        // Held while the task begins, so that it cannot be done before this is noted.
        waiting.writer = Writer::Task(tokio::spawn(work(self.clone())).abort_handle());
    }

    async fn go_on(self: Arc<Self>, mut write: Write) {
        loop {
            let written = write.await;
            write = match self.written(written) {
                Next::Write(pen, group) => pen.write(group),
                Next::Close(pen) => return self.end(pen).await,
                Next::Nothing => return,
            };
        }
    }

    /// A group has been written, or could not be.
    fn written(&self, written: (Box<dyn Pen>, Vec<Bytes>, io::Result<()>)) -> Next {
        let (pen, group, result) = written;
        if result.is_err() {
            self.failed.store(true, Ordering::Release);
            self.abandon();
            self.eased.notify_one();
            return Next::Nothing;
        }
        self.groups.fetch_add(1, Ordering::AcqRel);
        let bytes = group.iter().map(Bytes::len).sum();
        let before = self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        let mut waiting = self.lock();
        let passes = |mark: usize| before > mark && before - bytes <= mark;
        if (passes(BUSY) || passes(BUSY / 2)) && matches!(waiting.writer, Writer::Task(_)) {
            self.eased.notify_one();
        }
        waiting.next(pen, group)
    }

    async fn end(self: Arc<Self>, pen: Box<dyn Pen>) {
        pen.close().await;
        self.abandon();
    }

    /// Bytes that wait or are being written.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Groups written so far.
    pub(crate) fn groups(&self) -> usize {
        self.groups.load(Ordering::Acquire)
    }

    /// Whether the pipe has refused to take more.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Whether nothing will be written any more.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.lock().writer, Writer::Ended)
    }

    /// Takes nothing more; what waits is still sent, then the pipe is closed.
    pub(crate) fn close(self: &Arc<Self>) {
        self.lock().closed = true;
        self.flush();
    }

    /// Sends nothing more, not even what is half written.
    pub(crate) fn abandon(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.urgent.clear();
        waiting.ordered.clear();
        if let Writer::Task(task) = mem::replace(&mut waiting.writer, Writer::Ended) {
            task.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Queues of whole frames are whole whatever the thread that held them did.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::pipe::{Pipe as _, StreamPipe};

    /// An outbox, and the other end of its pipe, which holds `room` bytes.
    fn outbox(room: usize) -> (Arc<Outbox>, tokio::io::DuplexStream, Arc<Notify>) {
        let (ours, theirs) = tokio::io::duplex(room);
        let eased = Arc::new(Notify::new());
        let (_, pen) = StreamPipe(ours).split();
        (Outbox::new(Box::new(PenOf(pen)), eased.clone()), theirs, eased)
    }

    #[tokio::test]
    async fn requests_go_first_and_the_end_comes_last() {
        let (outbox, mut theirs, _) = outbox(1024);
        for frame in [&b"BGS1 one"[..], b"BGSf two", b"BGSs three"] {
            outbox.push(Bytes::from_static(frame)).unwrap();
        }
        outbox.close();
        assert_eq!(outbox.push(Bytes::from_static(b"BGS1 late")), Ok(0));
        let mut heard = Vec::new();
        // The half that reads is gone already; this ends when the other is closed.
        theirs.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"BGSf twoBGS1 oneBGSs three");
    }

    /// However much waits: who is not told in time takes this node for a forger.
    #[tokio::test]
    async fn a_disown_goes_first_and_finds_room_in_a_full_queue() {
        let (outbox, mut theirs, _) = outbox(1024);
        let frame = Bytes::from(vec![0; 64 * 1024]);
        while outbox.push(frame.clone()).is_ok() {}
        let disown = Bytes::from([&b"BGSx"[..], &[0_u8; DISOWN_LEN - 4][..]].concat());
        let fits = (0..100_000).take_while(|_| outbox.push(disown.clone()).is_ok()).count();
        assert_eq!(fits, DISOWNS_BEYOND, "bounded as well");
        assert_eq!(outbox.push(Bytes::from_static(b"BGSf")), Err(Full));
        outbox.flush();
        let mut heard = vec![0; fits * DISOWN_LEN];
        theirs.read_exact(&mut heard).await.unwrap();
        assert!(heard.chunks(DISOWN_LEN).all(|frame| frame == disown));
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_relief_is_told() {
        let (outbox, mut theirs, eased) = outbox(1024);
        let frame = Bytes::from(vec![0; 64 * 1024]);
        let fits = (0..1000).take_while(|_| outbox.push(frame.clone()).is_ok()).count();
        assert_eq!(fits, FULL / frame.len());
        outbox.flush();
        assert_eq!(outbox.bytes(), FULL);
        let mut left = FULL;
        let mut piece = vec![0; 64 * 1024];
        while left > 0 {
            left -= theirs.read(&mut piece).await.unwrap();
        }
        eased.notified().await;
        while outbox.bytes() > 0 {
            tokio::task::yield_now().await;
        }
        let small = Bytes::from_static(b"BGSd");
        let fits = (0..100_000).take_while(|_| outbox.push(small.clone()).is_ok()).count();
        assert_eq!(fits, FRAMES_MAX);
    }

    #[tokio::test]
    async fn what_the_pipe_takes_needs_no_task() {
        let (outbox, mut theirs, _) = outbox(1024);
        for _ in 0..3 {
            outbox.push(Bytes::from_static(b"BGS1 one")).unwrap();
            outbox.flush();
            assert_eq!(outbox.bytes(), 0);
            assert!(matches!(outbox.lock().writer, Writer::Nobody(_)));
        }
        let mut heard = [0; 24];
        theirs.read_exact(&mut heard).await.unwrap();
    }

    #[tokio::test]
    async fn a_pipe_that_breaks_is_told_and_takes_nothing_more() {
        let (outbox, theirs, eased) = outbox(8);
        outbox.push(Bytes::from_static(b"BGS1 more than the pipe holds")).unwrap();
        outbox.flush();
        assert!(!outbox.has_failed());
        drop(theirs);
        eased.notified().await;
        assert!(outbox.has_failed() && outbox.has_ended());
        assert_eq!(outbox.push(Bytes::from_static(b"BGS1")), Ok(0));
    }
}
