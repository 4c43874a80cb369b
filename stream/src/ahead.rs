//! What came too early: kept while what is missing before it is fetched, within three bounds.
//!
//! It was not judged and may never be, so each byte is charged to the link that brought it, and goes
//! with that link: who is gone cannot be blamed for it.

use std::collections::BTreeMap;

use crate::batch::Batch;
use crate::bounds::{AHEAD_MAX, LINK_AHEAD_MAX, NODE_AHEAD_MAX};
use crate::io::LinkId;
use crate::stream::Stream;

/// Bytes kept of all streams, by the link that brought them.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    all: usize,
    /// Links that brought none have no entry.
    links: BTreeMap<LinkId, usize>,
}

impl Shares {
    /// Bytes of all links.
    pub(crate) fn all(&self) -> usize {
        self.all
    }

    /// Bytes that this link brought.
    pub(crate) fn of(&self, link: LinkId) -> usize {
        self.links.get(&link).copied().unwrap_or(0)
    }

    fn take(&mut self, link: LinkId, bytes: usize) {
        self.all += bytes;
        *self.links.entry(link).or_default() += bytes;
    }

    fn give_back(&mut self, link: LinkId, bytes: usize) {
        self.all -= bytes;
        if let Some(share) = self.links.get_mut(&link) {
            *share -= bytes;
            if *share == 0 {
                self.links.remove(&link);
            }
        }
    }

    /// Whether this link, or all together, have brought more than may be kept.
    fn is_over(&self, link: LinkId) -> bool {
        self.all > NODE_AHEAD_MAX || self.of(link) > LINK_AHEAD_MAX
    }
}

impl Stream {
    /// Keeps a batch that came too early, if there is room or it is nearer than what takes it. Where
    /// the room of its link is used up, only what that link has brought of this stream gives way.
    pub(crate) fn keep_ahead(&mut self, link: LinkId, batch: Batch, shares: &mut Shares) {
        let first = batch.first();
        if self.ahead.contains_key(&first) {
            return;
        }
        self.ahead_bytes += batch.len();
        shares.take(link, batch.len());
        self.ahead.insert(first, (link, batch));
        while self.ahead_bytes > AHEAD_MAX {
            let Some((_, (from, farthest))) = self.ahead.pop_last() else { break };
            self.ahead_bytes -= farthest.len();
            shares.give_back(from, farthest.len());
        }
        while shares.is_over(link) {
            let own = self.ahead.iter().rev().find(|(_, (from, _))| *from == link);
            let Some(farthest) = own.map(|(first, _)| *first) else { break };
            let Some((from, farthest)) = self.ahead.remove(&farthest) else { break };
            self.ahead_bytes -= farthest.len();
            shares.give_back(from, farthest.len());
        }
    }

    /// The kept batch that is next, if it has come; those that came twice are dropped.
    pub(crate) fn take_next_ahead(&mut self, shares: &mut Shares) -> Option<(LinkId, Batch)> {
        let seen = self.seen();
        while let Some((first, (_, batch))) = self.ahead.first_key_value() {
            let next = seen.is_followed_by(*first);
            if !next && batch.first() > seen {
                return None;
            }
            let (_, (link, batch)) = self.ahead.pop_first()?;
            self.ahead_bytes -= batch.len();
            shares.give_back(link, batch.len());
            if next {
                return Some((link, batch));
            }
        }
        None
    }

    /// Drops what this link brought too early.
    pub(crate) fn drop_ahead_of(&mut self, link: LinkId, shares: &mut Shares) {
        let bytes = &mut self.ahead_bytes;
        self.ahead.retain(|_, (from, batch)| {
            if *from == link {
                *bytes -= batch.len();
                shares.give_back(link, batch.len());
            }
            *from != link
        });
    }

    /// Drops everything kept because it came too early.
    pub(crate) fn clear_ahead(&mut self, shares: &mut Shares) {
        for (link, batch) in std::mem::take(&mut self.ahead).into_values() {
            shares.give_back(link, batch.len());
        }
        self.ahead_bytes = 0;
    }
}
