//! Two neighbours compare what they hold: a digest first, pages of heads where it differs.
//!
//! Whoever gets a digest unlike its own answers with its heads; whoever gets heads fetches what it
//! lacks, and tells its own head where the other one lacks something.

use borgios_types::{Time, UnixSeconds};
use sha2::{Digest as _, Sha256};

use crate::arriving::Way;
use crate::bounds::{
    COMPARE_IDLE_INTERVAL, CROSS_GRACE, EPOCH_AHEAD_MAX_S, HEADS_PAGE_MAX, LATE_AFTER_S,
    REPLY_INTERVAL, TELL_INTERVAL, TELL_MAX,
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
        let due = |last: Option<Time>| last.is_none_or(|at| now.since(at) >= REPLY_INTERVAL);
        let (may_reply, may_warn) = (due(neighbour.replied), due(neighbour.warned));
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
                    Role::Cross => self.want_in_time(origin, head.last, link),
                }
            } else if head.last < stream.head {
                behind.extend(head_of(origin, stream));
            } else if head.last == stream.head && stream.head_id.is_some_and(|id| id != head.id) {
                self.ask_for_rival(link, head, out);
            }
        }
        if may_warn && let Some(evidence) = evidence.and_then(|origin| self.evidence.get(&origin)) {
            self.send(link, Frame::Evidence(evidence.clone()).encode(), out);
            if let Some(neighbour) = self.links.get_mut(&link) {
                neighbour.warned = Some(now);
            }
        }
        if may_reply && !behind.is_empty() {
            self.send(link, Frame::Heads(behind).encode(), out);
            if let Some(neighbour) = self.links.get_mut(&link) {
                neighbour.replied = Some(now);
            }
        }
    }

    /// Whether a batch that comes in now comes late: not by the tree's flood, or long after it was issued.
    /// What a tree neighbour brings as an answer is a catch-up, of which the others hear by comparison.
    pub(crate) fn is_late(&self, role: Role, way: Way, issued: UnixSeconds) -> bool {
        let overdue = self.now.unix > issued.plus(LATE_AFTER_S);
        role == Role::Cross || (way == Way::Flood && overdue)
    }

    /// Something of this stream was stored. If it came late, cross links are told before the next
    /// comparison: behind several neighbours that withhold, each segment of the tree hears of it from
    /// the one before, and would wait an interval for each.
    pub(crate) fn note_late(&mut self, origin: Origin, late: bool) {
        if late && self.links.values().any(|known| known.role == Role::Cross) {
            self.late.insert(origin);
        }
    }

    pub(crate) fn tell_late(&mut self, out: &mut Vec<Output>) {
        if self.late.is_empty() || self.now.time < self.tell_at {
            return;
        }
        self.tell_at = self.now.time + TELL_INTERVAL;
        // Whose turn was last time comes last, so that none waits for ever.
        let behind = self.late.split_off(&self.told_upto);
        let page: Vec<Origin> = behind.iter().chain(&self.late).take(TELL_MAX).copied().collect();
        self.late.extend(behind);
        for origin in &page {
            self.late.remove(origin);
        }
        // None comes between this one and the last of the page but those that were told.
        self.told_upto = page.last().copied().unwrap_or(self.told_upto);
        let streams =
            page.into_iter().filter_map(|origin| Some((origin, self.streams.get(&origin)?)));
        let heads: Vec<Head> =
            streams.filter_map(|(origin, stream)| head_of(origin, stream)).collect();
        if heads.is_empty() {
            return;
        }
        let frame = Frame::Heads(heads).encode();
        for (link, _) in self.links.iter().filter(|(_, known)| known.role == Role::Cross) {
            self.send(*link, frame.clone(), out);
        }
    }

    /// A cross link has the stream up to `upto`: the tree has its time to bring it.
    pub(crate) fn want_in_time(&mut self, origin: Origin, upto: Position, link: LinkId) {
        let end = self.now.time + CROSS_GRACE;
        if let Some(stream) = self.streams.get_mut(&origin).filter(|it| upto > it.seen()) {
            stream.lack.grace.get_or_insert((upto, link, end));
            self.wants.insert(origin);
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

/// The head of a stream that counts: something is stored, and more of it would be taken. A neighbour
/// that came after its origin lapsed cannot have it, and would be told in every comparison.
fn head_of(origin: Origin, stream: &Stream) -> Option<Head> {
    let id = stream.head_id.filter(|_| !stream.is_deaf())?;
    Some(Head { origin, last: stream.head, id })
}
