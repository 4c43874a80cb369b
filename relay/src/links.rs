//! The links of a hub: what is heard on them, what waits on them, and the pace that follows from it.
//!
//! A link whose queue is full gets nothing until it has drained. While every link that a batch would
//! go to is busy, no more of it is taken in, so a node that cannot keep up slows those before it, and
//! one slow child among fast ones slows nobody.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::task::{Context, Poll};

use borgios_stream::{LinkId, LogJob, Role};
use borgios_types::NodeId;
use bytes::Bytes;
use tokio::time::Instant;

use crate::log_worker::{LogWorker, Work};
use crate::outbox::{BUSY, Full, GROUP, Outbox, STUCK};
use crate::reader::{Heard, Reading};

/// Frames of all links that are heard before they are dealt with.
pub(crate) const HEARD_MAX: usize = 64;
/// Bytes of them, but for one frame.
const HEARD_BYTES: usize = 256 * 1024;
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

/// All links.
#[derive(Default)]
pub(crate) struct Links {
    all: BTreeMap<LinkId, Link>,
    /// Whose turn was last.
    last: Option<LinkId>,
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
    /// Whether the log has got something to read.
    pub(crate) asked: bool,
}

impl Links {
    pub(crate) fn insert(
        &mut self,
        link: LinkId,
        peer: NodeId,
        role: Role,
        reader: Box<dyn Reading>,
        outbox: Arc<Outbox>,
    ) {
        let new = Link {
            peer,
            role,
            outbox,
            reader,
            open: true,
            queued: false,
            full: false,
            progress: (0, Instant::now()),
            stuck: false,
            fetches: VecDeque::new(),
            reading: false,
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
        let last = self.last;
        let mut bytes = 0;
        let later = last.map_or(Bound::Unbounded, Bound::Excluded);
        for (id, link) in self.all.range_mut((later, Bound::Unbounded)) {
            if !hear(*id, link, context, heard, &mut bytes) {
                self.last = Some(*id);
                return Poll::Ready(());
            }
        }
        if let Some(last) = last {
            for (id, link) in self.all.range_mut(..=last) {
                if !hear(*id, link, context, heard, &mut bytes) {
                    self.last = Some(*id);
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

    /// Opens and shuts gates by what waits, and lets the `log` read for fetches; `behind` is whether so
    /// much waits to be verified and stored that nothing more is to be taken in.
    pub(crate) fn pace(&mut self, behind: bool, log: &mut LogWorker) -> Pace {
        let mut pace = Pace::default();
        // The two shortest queues of links that get the flood.
        let (mut shortest, mut second) = ((usize::MAX, None), usize::MAX);
        for (id, link) in &mut self.all {
            if link.outbox.has_failed() {
                pace.failed.push(*id);
                continue;
            }
            pace.asked |= link.next_fetch(log);
            let bytes = link.outbox.bytes();
            if bytes > BUSY || link.stuck {
                let (groups, now) = (link.outbox.groups(), Instant::now());
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
            link.open = !busy(others) && !behind;
        }
        pace.open = !busy(shortest.0);
        pace
    }
}

/// Hears what has come on one link; false when that is enough for now.
fn hear(
    id: LinkId,
    link: &mut Link,
    context: &mut Context<'_>,
    heard: &mut Vec<HeardOn>,
    bytes: &mut usize,
) -> bool {
    for _ in 0..TURN {
        if heard.len() >= HEARD_MAX || *bytes >= HEARD_BYTES {
            return false;
        }
        match link.reader.poll_heard(context, link.open) {
            Poll::Ready(new) => {
                *bytes += new.bytes();
                heard.push((id, new));
            }
            Poll::Pending => return true,
        }
    }
    true
}
