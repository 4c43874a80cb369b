//! The links of a hub: what is heard on them, what waits on them, and the pace that follows from it.
//!
//! A link whose queue is full gets nothing until it has drained. While a link that a batch would go to
//! is busy, no more of it is taken in, so a node that cannot keep up slows those before it, and none of
//! its children falls behind by more than logs keep. But one that took less than 256 KiB within
//! [`PATIENCE`] is too slow to be waited for, unless all are: it costs its siblings that once.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use borgios_stream::{LinkId, Role};
use borgios_types::NodeId;
use bytes::Bytes;
use tokio::time::Instant;

use crate::bell::{Bell, Listener};
use crate::fetches::Fetches;
use crate::log_worker::LogWorker;
use crate::outbox::{BUSY, Full, GROUP, Outbox, STUCK};
use crate::reader::{Heard, Reading};

/// Frames of all links that are heard before they are dealt with.
pub(crate) const HEARD_MAX: usize = 64;
/// Bytes of them, but for one frame.
const HEARD_BYTES: usize = 256 * 1024;
/// How long a busy link that takes nothing is waited for while others are not busy: a neighbour behind a
/// line of 10 Mbit/s takes a group in this time. So no neighbour slows the others below that.
const PATIENCE: Duration = Duration::from_millis(200);
/// Time between two looks at who is waited for.
const LOOK: Duration = Duration::from_millis(20);
/// Frames of one link before the next one's turn.
const TURN: usize = 16;

/// What was heard, and on which link.
pub(crate) type HeardOn = (LinkId, Heard);

/// One link.
pub(crate) struct Link {
    pub(crate) peer: NodeId,
    pub(crate) role: Role,
    pub(crate) outbox: Arc<Outbox>,
    reader: Box<dyn Reading>,
    /// Rung when there is something to read.
    bell: Arc<Bell>,
    /// Whether a batch may be taken in.
    open: bool,
    /// Something was queued since the last flush.
    queued: bool,
    /// The core was told that the queue is full.
    pub(crate) full: bool,
    /// Groups written, and since when it is so many while the link is busy.
    progress: (usize, Instant),
    /// It was said that nothing is written here any more.
    stuck: bool,
    /// How long it has been waited for since it took something.
    awaited: Duration,
    /// What the neighbour asked for.
    pub(crate) fetches: Fetches,
}

/// All links.
#[derive(Default)]
pub(crate) struct Links {
    all: BTreeMap<LinkId, Link>,
    /// Woken by all bells.
    listener: Arc<Listener>,
    /// Whose turn was last.
    last: Option<LinkId>,
    /// When the queues were looked at.
    looked: Option<Instant>,
}

/// What a look at the queues found.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Whether own messages are taken in.
    pub(crate) open: bool,
    /// Links that were full and have drained.
    pub(crate) drained: Vec<(LinkId, NodeId)>,
    /// Links that are stuck since now.
    pub(crate) stuck: Vec<(LinkId, NodeId)>,
    /// Links that cannot be written any more.
    pub(crate) failed: Vec<LinkId>,
    /// The log was given something to read.
    pub(crate) asked: bool,
    /// When to look again, if nothing happens until then.
    pub(crate) look_again: Option<Instant>,
}

impl Links {
    /// Whether nothing waits for a neighbour that may be found to read nothing.
    pub(crate) fn are_read(&self) -> bool {
        self.all.values().all(|link| link.stuck || link.full || link.outbox.bytes() <= BUSY)
    }

    pub(crate) fn insert(
        &mut self,
        link: LinkId,
        peer: NodeId,
        role: Role,
        reader: Box<dyn Reading>,
        outbox: Arc<Outbox>,
    ) {
        let progress = (0, Instant::now());
        let (open, queued, full, stuck) = (true, false, false, false);
        let (awaited, fetches) = (Duration::ZERO, Fetches::default());
        let bell = Bell::new(self.listener.clone());
        let new = Link {
            peer,
            role,
            outbox,
            reader,
            bell,
            open,
            queued,
            full,
            progress,
            stuck,
            awaited,
            fetches,
        };
        self.all.insert(link, new);
    }

    pub(crate) fn remove(&mut self, link: LinkId) -> Option<Link> {
        self.all.remove(&link)
    }

    pub(crate) fn get(&self, link: LinkId) -> Option<&Link> {
        self.all.get(&link)
    }

    pub(crate) fn get_mut(&mut self, link: LinkId) -> Option<&mut Link> {
        self.all.get_mut(&link)
    }

    /// All of them, to be ended.
    pub(crate) fn take(&mut self) -> Vec<Link> {
        std::mem::take(&mut self.all).into_values().collect()
    }

    /// Hears what has come, from one link after the other; pending if nothing has.
    pub(crate) fn poll_heard(
        &mut self,
        context: &mut Context<'_>,
        heard: &mut Vec<HeardOn>,
    ) -> Poll<()> {
        self.listener.listen(context.waker());
        let last = self.last;
        let mut bytes = 0;
        let later = last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut turn = |id: LinkId, link: &mut Link| {
            let before = heard.len();
            let more = hear(id, link, heard, &mut bytes);
            // Whoever came to nothing, for there was no room left, is the next one.
            if heard.len() > before {
                self.last = Some(id);
            }
            more
        };
        for (id, link) in self.all.range_mut((later, Bound::Unbounded)) {
            if !turn(*id, link) {
                return Poll::Ready(());
            }
        }
        if let Some(last) = last {
            for (id, link) in self.all.range_mut(..=last) {
                if !turn(*id, link) {
                    return Poll::Ready(());
                }
            }
        }
        if heard.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Queues a frame for a link.
    ///
    /// # Errors
    /// [`Full`]; the frame is dropped.
    pub(crate) fn send(&mut self, link: LinkId, frame: Bytes) -> Result<(), Full> {
        let Some(link) = self.all.get_mut(&link) else { return Ok(()) };
        link.queued = true;
        // What the core says at once may be more than may wait.
        if link.outbox.push(frame)? > GROUP {
            link.outbox.flush();
        }
        Ok(())
    }

    /// Writes what was queued.
    pub(crate) fn flush(&mut self) {
        for link in self.all.values_mut() {
            if std::mem::take(&mut link.queued) {
                link.outbox.flush();
            }
        }
    }

    /// Opens and shuts gates by what waits; `behind` is whether so much waits to be verified and
    /// stored that nothing more is to be taken in.
    pub(crate) fn pace(&mut self, now: Instant, behind: bool, log: &mut LogWorker) -> Pace {
        let mut pace = Pace::default();
        // Time in which this machine did something else shows nothing of the neighbours.
        let passed = self.looked.map_or(Duration::ZERO, |at| now.duration_since(at).min(2 * LOOK));
        self.looked = Some(now);
        // The two shortest queues of links that get the flood.
        let (mut shortest, mut second) = ((usize::MAX, None), usize::MAX);
        // Who is waited for, and how many there are.
        let (mut awaited, mut count) = (None, 0);
        for (id, link) in &mut self.all {
            if link.outbox.has_failed() {
                pace.failed.push(*id);
                continue;
            }
            let (bytes, groups_before) = (link.outbox.bytes(), link.progress.0);
            pace.asked |= link.fetches.next(bytes, log);
            if bytes > BUSY || link.stuck {
                let groups = link.outbox.groups();
                if bytes <= BUSY || groups != link.progress.0 {
                    link.progress = (groups, now);
                    link.stuck = false;
                } else if !link.stuck && now.duration_since(link.progress.1) >= STUCK {
                    // Without this, one that never reads would keep its neighbour from taking in.
                    link.stuck = true;
                    pace.stuck.push((*id, link.peer));
                    continue;
                }
            } else {
                // Busy only from the next time on, and then with as many groups or more.
                link.progress.0 = usize::MAX;
            }
            if link.full {
                if bytes <= BUSY / 2 {
                    link.full = false;
                    pace.drained.push((*id, link.peer));
                }
                continue;
            }
            if link.role == Role::Tree {
                // Who reads is waited for; who reads nothing holds up nobody for long.
                if bytes <= BUSY || link.progress.0 != groups_before {
                    link.awaited = Duration::ZERO;
                } else {
                    link.awaited += passed;
                }
                if bytes > BUSY && link.awaited < PATIENCE {
                    (awaited, count) = (Some(*id), count + 1);
                    pace.look_again = Some(now + LOOK);
                }
                if bytes < shortest.0 {
                    second = shortest.0;
                    shortest = (bytes, Some(*id));
                } else {
                    second = second.min(bytes);
                }
            }
        }
        let busy = |bytes: usize| bytes != usize::MAX && bytes > BUSY;
        for (id, link) in &mut self.all {
            let others = if shortest.1 == Some(*id) { second } else { shortest.0 };
            let waits = count > usize::from(awaited == Some(*id));
            link.open = !busy(others) && !waits && !behind;
        }
        pace.open = !busy(shortest.0) && count == 0;
        pace
    }
}

/// Hears what has come on one link; false when that is enough for now.
///
/// A link whose bell was not rung is not looked at, unless its next batch waits for the gate.
fn hear(id: LinkId, link: &mut Link, heard: &mut Vec<HeardOn>, bytes: &mut usize) -> bool {
    // Before it is read, so that what comes meanwhile rings again.
    if !link.bell.take() && !link.reader.is_held() {
        return true;
    }
    let waker = Waker::from(link.bell.clone());
    let mut context = Context::from_waker(&waker);
    for _ in 0..TURN {
        if heard.len() >= HEARD_MAX || *bytes >= HEARD_BYTES {
            link.bell.ring_again();
            return false;
        }
        match link.reader.poll_heard(&mut context, link.open) {
            Poll::Ready(new) => {
                *bytes += new.bytes();
                heard.push((id, new));
            }
            Poll::Pending => return true,
        }
    }
    link.bell.ring_again();
    true
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use borgios_stream::{Limits, MemoryLog};
    use borgios_types::SecretKey;
    use tokio::sync::Notify;

    use super::*;
    use crate::log_worker::AnyLog;
    use crate::outbox::PenOf;
    use crate::pipe::{Pipe as _, StreamPipe};
    use crate::reader::Reader;

    /// Two links of the tree; the neighbour on the second reads nothing.
    fn one_reads_one_does_not() -> (Links, [tokio::io::DuplexStream; 2]) {
        let mut links = Links::default();
        let ends = [1, 2].map(|number: u8| {
            let (ours, theirs) = tokio::io::duplex(1024);
            let (read, write) = StreamPipe(ours).split();
            let outbox = Outbox::new(Box::new(PenOf(write)), Arc::new(Notify::new()));
            let peer = NodeId::from(SecretKey::from_seed([number; 32]).public());
            let reader = Box::new(Reader::new(read));
            links.insert(LinkId(number.into()), peer, Role::Tree, reader, outbox);
            theirs
        });
        while links.all[&LinkId(2)].outbox.bytes() <= BUSY {
            links.send(LinkId(2), Bytes::from(vec![0; 64 * 1024])).unwrap();
        }
        (links, ends)
    }

    #[tokio::test]
    async fn who_reads_nothing_is_waited_for_once_and_not_long() {
        let (mut links, _ends) = one_reads_one_does_not();
        let mut log = LogWorker::new(AnyLog::Memory(MemoryLog::new(Limits::default())));
        let begun = Instant::now();
        let mut now = begun;
        loop {
            let pace = links.pace(now, false, &mut log);
            if pace.open {
                break;
            }
            let next = pace.look_again.expect("somebody is waited for");
            assert!(next > now && now < begun + PATIENCE + LOOK, "{:?}", now - begun);
            now = next;
        }
        assert!(now >= begun + PATIENCE, "{:?}", now - begun);
        // Not again, however long it goes on, and then it is said once that it is stuck.
        let mut stuck = 0;
        while now < begun + 2 * STUCK {
            now += LOOK;
            let pace = links.pace(now, false, &mut log);
            assert!(pace.open && pace.look_again.is_none(), "{:?}", now - begun);
            stuck += pace.stuck.len();
        }
        assert_eq!(stuck, 1);
    }

    /// Counts how often it is looked at, and rings as a pipe does.
    struct Counted {
        looks: Arc<AtomicUsize>,
        waker: Arc<Mutex<Option<Waker>>>,
    }

    impl Reading for Counted {
        fn poll_heard(&mut self, context: &mut Context<'_>, _: bool) -> Poll<Heard> {
            self.looks.fetch_add(1, Ordering::Relaxed);
            *self.waker.lock().unwrap() = Some(context.waker().clone());
            Poll::Pending
        }

        fn is_held(&self) -> bool {
            false
        }
    }

    /// Always has a frame.
    struct Busy;

    impl Reading for Busy {
        fn poll_heard(&mut self, _: &mut Context<'_>, _: bool) -> Poll<Heard> {
            let digest = borgios_stream::frame::HeadsDigest { count: 0, xor: [0; 32] };
            Poll::Ready(Heard::Frame(borgios_stream::frame::Frame::Digest(digest)))
        }

        fn is_held(&self) -> bool {
            false
        }
    }

    /// As many links as have a turn at once, and one more.
    #[tokio::test]
    async fn every_busy_link_has_its_turn() {
        let mut links = Links::default();
        let count = u64::try_from(HEARD_MAX / TURN + 1).unwrap();
        for number in 1..=count {
            let (_, write) = StreamPipe(tokio::io::duplex(8).0).split();
            let outbox = Outbox::new(Box::new(PenOf(write)), Arc::new(Notify::new()));
            let peer = NodeId::from(SecretKey::from_seed([1; 32]).public());
            links.insert(LinkId(number), peer, Role::Tree, Box::new(Busy), outbox);
        }
        let mut turns = BTreeMap::new();
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..count {
            let mut heard = Vec::new();
            assert!(links.poll_heard(&mut context, &mut heard).is_ready());
            assert_eq!(heard.len(), HEARD_MAX);
            for (link, _) in heard {
                *turns.entry(link).or_insert(0) += 1;
            }
        }
        let fair = HEARD_MAX;
        assert!(turns.values().all(|heard| *heard == fair), "{turns:?}");
        assert_eq!(turns.len() as u64, count);
    }

    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn only_links_that_rang_are_looked_at() {
        let mut links = Links::default();
        let counted = [1, 2].map(|number: u8| {
            let (looks, waker) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None)));
            let reader = Box::new(Counted { looks: looks.clone(), waker: waker.clone() });
            let (_, write) = StreamPipe(tokio::io::duplex(8).0).split();
            let outbox = Outbox::new(Box::new(PenOf(write)), Arc::new(Notify::new()));
            let peer = NodeId::from(SecretKey::from_seed([number; 32]).public());
            links.insert(LinkId(number.into()), peer, Role::Tree, reader, outbox);
            (looks, waker)
        });
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let waker = Waker::from(woken.clone());
        let mut context = Context::from_waker(&waker);
        let looks = || counted.each_ref().map(|(looks, _)| looks.load(Ordering::Relaxed));
        let mut heard = Vec::new();
        for _ in 0..3 {
            assert!(links.poll_heard(&mut context, &mut heard).is_pending());
            assert_eq!(looks(), [1, 1]);
        }
        counted[1].1.lock().unwrap().clone().unwrap().wake();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(links.poll_heard(&mut context, &mut heard).is_pending());
        assert_eq!(looks(), [1, 2]);
    }

    #[tokio::test]
    async fn time_in_which_the_machine_did_something_else_is_no_waiting() {
        let (mut links, _ends) = one_reads_one_does_not();
        let mut log = LogWorker::new(AnyLog::Memory(MemoryLog::new(Limits::default())));
        let begun = Instant::now();
        assert!(!links.pace(begun, false, &mut log).open);
        assert!(!links.pace(begun + 5 * PATIENCE, false, &mut log).open);
    }
}
