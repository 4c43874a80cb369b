//! What came too early: kept while what is missing before it is fetched, within three bounds.
//!
//! It was not judged and may never be, so each byte is charged to the link that brought it, and goes
//! with that link: who is gone cannot be blamed for it.

use std::collections::BTreeMap;

use crate::batch::Batch;
use crate::bounds::{AHEAD_MAX, LINK_AHEAD_MAX, NODE_AHEAD_MAX};
use crate::core::Core;
use crate::io::LinkId;
use crate::position::Origin;
use crate::stream::Stream;

/// Bytes kept of all streams, by the link that brought them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Shares {
    all: usize,
    /// Links that brought none have no entry.
    links: BTreeMap<LinkId, Share>,
}

/// What one link brought.
#[derive(Debug, Default, PartialEq, Eq)]
struct Share {
    bytes: usize,
    /// The same by stream; those of which it brought none have no entry.
    streams: BTreeMap<Origin, usize>,
}

impl Shares {
    /// Bytes of all links.
    pub(crate) fn all(&self) -> usize {
        self.all
    }

    /// Bytes that this link brought.
    pub(crate) fn of(&self, link: LinkId) -> usize {
        self.links.get(&link).map_or(0, |share| share.bytes)
    }

    /// A batch that this link brought is kept.
    pub(crate) fn take(&mut self, link: LinkId, batch: &Batch) {
        let bytes = batch.len();
        self.all += bytes;
        let share = self.links.entry(link).or_default();
        share.bytes += bytes;
        *share.streams.entry(batch.origin()).or_default() += bytes;
    }

    /// It is kept no more.
    fn give_back(&mut self, link: LinkId, batch: &Batch) {
        let (origin, bytes) = (batch.origin(), batch.len());
        self.all -= bytes;
        let Some(share) = self.links.get_mut(&link) else { return };
        share.bytes -= bytes;
        if let Some(of_stream) = share.streams.get_mut(&origin) {
            *of_stream -= bytes;
            if *of_stream == 0 {
                share.streams.remove(&origin);
            }
        }
        if share.bytes == 0 {
            self.links.remove(&link);
        }
    }

    /// Whether what this link brings now has to give way to what is kept: it has brought more than one
    /// may, or all together have, and nobody more than it.
    fn is_over(&self, link: LinkId) -> bool {
        let own = self.of(link);
        let most = || self.links.values().all(|share| share.bytes <= own);
        own > LINK_AHEAD_MAX || (self.all > NODE_AHEAD_MAX && most())
    }

    /// Where all together have brought more than may be kept: who brought most, and a stream of it.
    fn most(&self) -> Option<(LinkId, Origin)> {
        if self.all <= NODE_AHEAD_MAX {
            return None;
        }
        let (link, share) = self.links.iter().max_by_key(|(_, share)| share.bytes)?;
        let (origin, _) = share.streams.last_key_value()?;
        Some((*link, *origin))
    }
}

impl Core {
    /// Keeps a batch that came too early. Where the room of all is used up, who brought most gives way, a
    /// stream at a time, not who comes last: so nobody keeps out what others bring.
    pub(crate) fn keep_ahead(&mut self, link: LinkId, batch: Batch) {
        let Some(stream) = self.streams.get_mut(&batch.origin()) else { return };
        stream.keep_ahead(link, batch, &mut self.ahead);
        while let Some((most, origin)) = self.ahead.most() {
            let Some(stream) = self.streams.get_mut(&origin) else { return };
            stream.drop_ahead_of(most, &mut self.ahead);
        }
    }
}

impl Stream {
    /// Keeps a batch that came too early, if there is room or it is nearer than what takes it. Where
    /// its link has brought too much, only what that link has brought of this stream gives way.
    fn keep_ahead(&mut self, link: LinkId, batch: Batch, shares: &mut Shares) {
        let first = batch.first();
        if self.ahead.contains_key(&first) {
            return;
        }
        self.ahead_bytes += batch.len();
        shares.take(link, &batch);
        self.ahead.insert(first, (link, batch));
        while self.ahead_bytes > AHEAD_MAX {
            let Some((_, (from, farthest))) = self.ahead.pop_last() else { break };
            self.ahead_bytes -= farthest.len();
            shares.give_back(from, &farthest);
        }
        while shares.is_over(link) {
            let own = self.ahead.iter().rev().find(|(_, (from, _))| *from == link);
            let Some(farthest) = own.map(|(first, _)| *first) else { break };
            let Some((from, farthest)) = self.ahead.remove(&farthest) else { break };
            self.ahead_bytes -= farthest.len();
            shares.give_back(from, &farthest);
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
            shares.give_back(link, &batch);
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
                shares.give_back(link, batch);
            }
            *from != link
        });
    }

    /// Drops everything kept because it came too early.
    pub(crate) fn clear_ahead(&mut self, shares: &mut Shares) {
        for (link, batch) in std::mem::take(&mut self.ahead).into_values() {
            shares.give_back(link, &batch);
        }
        self.ahead_bytes = 0;
    }
}
