//! What an application reads: every message of every origin after its cursor, in order, once.
//!
//! What is new comes from the hub; where the reader was slower than the news, or begins in the
//! past, it reads the log until it has caught up. What retention took before it was read is said.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use borgios_stream::log::Found;
use borgios_stream::proof::Proof;
use borgios_stream::{Batch, Kind, Message, Origin, Position};
use tokio::sync::mpsc;

use crate::hub::HubHandle;

/// Batches that wait for a reader before it has to read the log: at 64 KiB each, 2 MiB that other
/// queues hold too.
pub(crate) const LIVE_MAX: usize = 32;
/// Bytes of the log that are read at once.
const READ_MAX: usize = 1024 * 1024;

/// Messages of one batch: verified, stored, and new to this reader.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Who published them.
    pub origin: Origin,
    batch: Batch,
    after: Position,
}

impl Delivery {
    pub(crate) fn new(origin: Origin, batch: Batch, after: Position) -> Self {
        Self { origin, batch, after }
    }

    /// What the application calls them.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.batch.kind()
    }

    /// The messages in order. Their bytes are shared with the batch, not copied.
    pub fn messages(&self) -> impl Iterator<Item = Message> + '_ {
        self.batch.messages().filter(|message| message.position > self.after)
    }

    /// How many messages there are.
    #[must_use]
    pub fn count(&self) -> usize {
        let (first, last) = (self.batch.first(), self.batch.last());
        if self.after < first {
            return self.batch.count();
        }
        usize::try_from(last.number.saturating_sub(self.after.number)).unwrap_or(0)
    }

    /// The position of the last message: the reader's cursor once it has done with these.
    #[must_use]
    pub fn last(&self) -> Position {
        self.batch.last()
    }

    /// What proves the message at this position to anyone, without the others.
    #[must_use]
    pub fn proof(&self, at: Position) -> Option<Proof> {
        let first = self.batch.first();
        if at.epoch != first.epoch {
            return None;
        }
        Proof::of(&self.batch, usize::try_from(at.number.checked_sub(first.number)?).ok()?)
    }

    /// The whole batch.
    #[must_use]
    pub fn batch(&self) -> &Batch {
        &self.batch
    }
}

/// The next thing a reader hears.
#[derive(Clone, Debug)]
pub enum Item {
    /// Messages.
    Messages(Delivery),
    /// Retention removed messages before they were read.
    Missed {
        /// Whose.
        origin: Origin,
        /// The last one that was read.
        after: Position,
        /// The next one that will be.
        next: Position,
    },
}

/// A reader's place. It costs the hub a bounded queue; a reader that does not read costs no more.
#[derive(Debug)]
pub struct Subscription {
    hub: HubHandle,
    live: mpsc::Receiver<Delivery>,
    /// The hub could not queue something.
    skipped: Arc<AtomicBool>,
    /// The log is to be compared with the cursors before more is waited for.
    must_compare: bool,
    cursors: BTreeMap<Origin, Position>,
    /// How far an origin is known to be stored, where that is further than the cursor.
    behind: BTreeMap<Origin, Position>,
    ready: std::collections::VecDeque<Item>,
}

/// Whether a batch that begins with `first` goes on behind `after`, without a hole between.
fn joins(after: Position, first: Position) -> bool {
    if first.epoch == after.epoch {
        first.number <= after.number.saturating_add(1)
    } else {
        first.number == 1
    }
}

impl Subscription {
    pub(crate) fn new(
        hub: HubHandle,
        live: mpsc::Receiver<Delivery>,
        skipped: Arc<AtomicBool>,
        cursors: BTreeMap<Origin, Position>,
        heads: BTreeMap<Origin, Position>,
    ) -> Self {
        let ready = std::collections::VecDeque::new();
        let (must_compare, behind) = (false, BTreeMap::new());
        let mut new = Self { hub, live, skipped, must_compare, cursors, behind, ready };
        new.compare(heads);
        new
    }

    fn compare(&mut self, heads: BTreeMap<Origin, Position>) {
        for (origin, head) in heads {
            if head > self.cursor(&origin) {
                self.behind.insert(origin, head);
            }
        }
    }

    /// How far this reader has read.
    #[must_use]
    pub fn cursor(&self, origin: &Origin) -> Position {
        self.cursors.get(origin).copied().unwrap_or(Position::START)
    }

    /// All cursors, to be stored and given to [`HubHandle::subscribe`] the next time.
    #[must_use]
    pub fn cursors(&self) -> &BTreeMap<Origin, Position> {
        &self.cursors
    }

    /// Waits for the next item; `None` when the hub has ended. Safe to drop half-way.
    pub async fn next(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                match &item {
                    Item::Messages(new) => self.cursors.insert(new.origin, new.last()),
                    Item::Missed { origin, next, .. } => {
                        let before = Position::new(next.epoch, next.number.saturating_sub(1));
                        self.cursors.insert(*origin, before)
                    }
                };
                return Some(item);
            }
            if let Some((origin, head)) = self.behind.first_key_value() {
                let (origin, head) = (*origin, *head);
                self.catch_up(origin, head).await?;
                continue;
            }
            let new = match self.live.try_recv() {
                Ok(new) => new,
                Err(_) if self.skipped.swap(false, Ordering::AcqRel) || self.must_compare => {
                    // Stays so if this is dropped while it waits.
                    self.must_compare = true;
                    let heads = self.hub.stored().await?;
                    self.compare(heads);
                    self.must_compare = false;
                    continue;
                }
                Err(_) => self.live.recv().await?,
            };
            let cursor = self.cursor(&new.origin);
            if new.last() <= cursor {
                continue;
            }
            if new.after > cursor {
                // Something between was not queued; the log has it.
                self.behind.insert(new.origin, new.last());
                continue;
            }
            let (origin, next) = (new.origin, new.batch.first());
            if !joins(cursor, next) {
                // Nobody had what is between any more.
                self.ready.push_back(Item::Missed { origin, after: cursor, next });
            }
            self.ready.push_back(Item::Messages(Delivery { after: cursor, ..new }));
        }
    }

    async fn catch_up(&mut self, origin: Origin, head: Position) -> Option<()> {
        let cursor = self.cursor(&origin);
        if cursor >= head {
            self.behind.remove(&origin);
            return Some(());
        }
        match self.hub.read(origin, cursor, READ_MAX).await? {
            Ok(Found::Batches(batches)) if !batches.is_empty() => {
                let mut after = cursor;
                for batch in batches {
                    let last = batch.last();
                    let new = Delivery::new(origin, batch, after);
                    self.ready.push_back(Item::Messages(new));
                    after = last;
                }
            }
            Ok(Found::Gone { next }) => {
                self.ready.push_back(Item::Missed { origin, after: cursor, next });
            }
            Ok(Found::Batches(_)) => {
                self.behind.remove(&origin);
            }
            // Skipping would break the promise of order; the reader begins again at its cursor.
            Err(_) => return None,
        }
        Some(())
    }
}
