//! Two neighbours compare what they hold: a digest first, pages of heads where it differs.
//!
//! Whoever gets a digest unlike its own answers with its heads; whoever gets heads fetches what it
//! lacks, and tells its own head where the other one lacks something.

use borgios_types::Time;
use sha2::{Digest as _, Sha256};

use crate::bounds::{
    COMPARE_IDLE_INTERVAL, CROSS_GRACE, EPOCH_AHEAD_MAX_S, HEADS_PAGE_MAX, REPLY_INTERVAL,
};
use crate::core::Core;
use crate::frame::{Fetch, Frame, HeadsDigest};
use crate::io::{LinkId, Output, Role};
use crate::position::{Head, Origin, Position};
use crate::stream::Stream;

impl Core {
    pub(crate) fn send_digest(&mut self, link: LinkId, out: &mut Vec<Output>) {
        let sent = (self.digest, self.now.time);
        if let Some(neighbour) = self.links.get_mut(&link).filter(|known| !known.full) {
            neighbour.compared = Some(sent);
            self.send(link, Frame::Digest(self.digest).encode(), out);
        }
    }

    /// The same, where there is something to compare: this node's heads are not those that the neighbour
    /// told last, or were not told to it; else now and then only, for what cannot happen.
    pub(crate) fn compare(&mut self, link: LinkId, out: &mut Vec<Output>) {
        let Some(neighbour) = self.links.get(&link) else { return };
        let alike = neighbour.compared.is_some_and(|(digest, at)| {
            let lately = self.now.time.since(at) < COMPARE_IDLE_INTERVAL;
            digest == self.digest && neighbour.theirs == Some(digest) && lately
        });
        if !alike {
            self.send_digest(link, out);
        }
    }

    pub(crate) fn on_digest(&mut self, link: LinkId, digest: &HeadsDigest, out: &mut Vec<Output>) {
        let Some(neighbour) = self.links.get_mut(&link) else { return };
        neighbour.theirs = Some(*digest);
        if *digest != self.digest && neighbour.page.is_none() {
            neighbour.page = Some(None);
            self.send_page(link, out);
        }
    }

    pub(crate) fn send_heads_from_start(&mut self, link: LinkId, out: &mut Vec<Output>) {
        if let Some(neighbour) = self.links.get_mut(&link) {
            neighbour.page = Some(None);
        }
        self.send_page(link, out);
    }

    /// Sends the next page of heads, if one is due.
    pub(crate) fn send_page(&mut self, link: LinkId, out: &mut Vec<Output>) {
        let Some(neighbour) = self.links.get_mut(&link) else { return };
        let (Some(after), false) = (neighbour.page, neighbour.full) else { return };
        let start = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let streams = self.streams.range((start, std::ops::Bound::Unbounded));
        let heads: Vec<Head> = streams
            .filter_map(|(origin, stream)| head_of(*origin, stream))
            .take(HEADS_PAGE_MAX)
            .collect();
        let more = heads.len() == HEADS_PAGE_MAX;
        neighbour.page = if more { heads.last().map(|head| Some(head.origin)) } else { None };
        if !heads.is_empty() {
            self.send(link, Frame::Heads(heads).encode(), out);
        }
    }

    pub(crate) fn on_heads(&mut self, link: LinkId, heads: &[Head], out: &mut Vec<Output>) {
        let Some(neighbour) = self.links.get(&link) else { return };
        let (role, now) = (neighbour.role, self.now.time);
        let may_reply = neighbour.replied.is_none_or(|at| now.since(at) >= REPLY_INTERVAL);
        let (mut behind, mut evidence) = (Vec::new(), None);
        for head in heads {
            let origin = head.origin;
            if head.last.epoch > self.now.unix.0.saturating_add(EPOCH_AHEAD_MAX_S) {
                continue;
            }
            let Some(stream) = self.streams.get_mut(&origin) else {
                self.ask(origin, None, Some((head.last, link)), out);
                continue;
            };
            if stream.stopped {
                evidence = evidence.or(Some(origin));
            } else if stream.suspended {
                continue;
            } else if head.last > stream.seen() {
                match role {
                    Role::Tree => self.want(origin, head.last, link, out),
                    Role::Cross => {
                        let grace = &mut stream.lack.grace;
                        grace.get_or_insert((head.last, link, now + CROSS_GRACE));
                        self.wants.insert(origin);
                    }
                }
            } else if head.last < stream.head {
                behind.extend(head_of(origin, stream));
            } else if head.last == stream.head && stream.head_id.is_some_and(|id| id != head.id) {
                self.ask_for_rival(link, head, out);
            }
        }
        if !may_reply || (behind.is_empty() && evidence.is_none()) {
            return;
        }
        if let Some(evidence) = evidence.and_then(|origin| self.evidence.get(&origin)) {
            self.send(link, Frame::Evidence(evidence.clone()).encode(), out);
        }
        if !behind.is_empty() {
            self.send(link, Frame::Heads(behind).encode(), out);
        }
        if let Some(neighbour) = self.links.get_mut(&link) {
            neighbour.replied = Some(now);
        }
    }

    /// A neighbour holds another batch under the same numbers: it is asked for it.
    fn ask_for_rival(&mut self, link: LinkId, head: &Head, out: &mut Vec<Output>) {
        let Some(neighbour) = self.links.get_mut(&link) else { return };
        if let Some(left) = neighbour.fetches_left.checked_sub(1) {
            neighbour.fetches_left = left;
            let (origin, after) = (head.origin, head.last.before());
            self.send(link, Frame::Fetch(Fetch { origin, after, window: 0 }).encode(), out);
        }
    }

    /// What a cross link told of, and the tree has not brought in its time, is fetched there.
    pub(crate) fn end_grace(&mut self, out: &mut Vec<Output>) {
        let now: Time = self.now.time;
        let mut over: Vec<(Origin, Position, LinkId)> = Vec::new();
        for origin in &self.wants {
            let Some(stream) = self.streams.get_mut(origin) else { continue };
            if let Some((upto, link, _)) = stream.lack.grace.take_if(|(_, _, end)| *end <= now) {
                over.push((*origin, upto, link));
            }
        }
        for (origin, upto, link) in over {
            if upto <= self.seen(&origin) {
                self.forget_satisfied(origin);
            } else {
                self.want(origin, upto, link, out);
            }
        }
    }

    /// The stream's head counts in the digest from now on.
    pub(crate) fn enter_digest(&mut self, origin: Origin) {
        if let Some(hash) = self.head_hash(origin) {
            self.digest.count += 1;
            self.digest.xor.iter_mut().zip(hash).for_each(|(byte, other)| *byte ^= other);
        }
    }

    /// It does not any more: it is about to change.
    pub(crate) fn leave_digest(&mut self, origin: Origin) {
        if let Some(hash) = self.head_hash(origin) {
            self.digest.count -= 1;
            self.digest.xor.iter_mut().zip(hash).for_each(|(byte, other)| *byte ^= other);
        }
    }

    fn head_hash(&self, origin: Origin) -> Option<[u8; 32]> {
        let head = head_of(origin, self.streams.get(&origin)?)?;
        let mut hash = Sha256::new();
        hash.update(head.origin.0);
        hash.update(head.last.epoch.to_be_bytes());
        hash.update(head.last.number.to_be_bytes());
        hash.update(head.id.0);
        Some(hash.finalize().into())
    }
}

/// The head of a stream that counts: something is stored, and it is not stopped.
fn head_of(origin: Origin, stream: &Stream) -> Option<Head> {
    let id = stream.head_id.filter(|_| !stream.stopped)?;
    Some(Head { origin, last: stream.head, id })
}
