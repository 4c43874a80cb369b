//! What is missing is fetched, from whoever said to have it, then from the others in turn.
//!
//! ```text
//!            want                Served n       n batches
//!   nothing ──────▶ wanted ─▶ fetch ─────▶ answer ──────▶ more wanted? fetch again
//!   missing           ▲         │ nothing, Gone, or too late
//!                     └─────────┘ the next neighbour
//!                     │ all of them twice
//!                     ▼
//!        begin behind the hole, if somebody has what follows it; else forget it
//! ```
//!
//! Whoever answers reads its log, so what it sends was verified by it.

use crate::arriving::Way;
use crate::bounds::{
    FETCH_RETRY, FETCH_TIMEOUT, FETCH_WINDOW, FETCHES_PER_LINK, SERVED_MAX, SERVING_PER_LINK,
    STREAM_PENDING_MAX,
};
use crate::core::Core;
use crate::frame::{Fetch, Frame, Gone, Served};
use crate::io::{LinkId, Output, Role};
use crate::log::{Found, LogError, LogJob, Reader};
use crate::position::{Origin, Position};
use crate::stream::{Fetching, Lack};

impl Core {
    /// Somebody has the stream up to `upto`.
    pub(crate) fn want(
        &mut self,
        origin: Origin,
        upto: Position,
        from: LinkId,
        out: &mut Vec<Output>,
    ) {
        let seen = self.seen(&origin);
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        if upto <= seen || stream.stopped {
            return;
        }
        if stream.lack.wanted.is_none_or(|(wanted, _)| wanted < upto) {
            stream.lack.wanted = Some((upto, from));
        }
        self.wants.insert(origin);
        self.fetch(origin, out);
    }

    /// Sends the next request for a stream, if something is missing and none is under way.
    pub(crate) fn fetch(&mut self, origin: Origin, out: &mut Vec<Output>) {
        self.forget_satisfied(origin);
        let Some(stream) = self.streams.get(&origin) else { return };
        let lack = &stream.lack;
        let busy = lack.fetch.is_some()
            || self.now.time < lack.retry_at
            || stream.pending_bytes > STREAM_PENDING_MAX / 2;
        let (Some((_, from)), false) = (lack.wanted, busy) else { return };
        let seen = stream.seen();
        let exhausted = lack.attempts >= self.attempts_max();
        let jump = lack.gone.filter(|(next, _)| exhausted && *next > seen);
        let (link, after) = match jump {
            Some((next, link)) => (self.is_askable(link).then_some(link), next.before()),
            None => (self.whom_to_ask(from, lack.attempts), seen),
        };
        let Some(link) = link else { return };
        let since = self.now.time;
        if let Some(neighbour) = self.links.get_mut(&link) {
            neighbour.fetching += 1;
            neighbour.fetches_left -= 1;
        }
        if let Some(stream) = self.streams.get_mut(&origin) {
            let jump = jump.is_some();
            stream.lack.fetch = Some(Fetching { link, seen, since, left: None, jump });
        }
        let window = FETCH_WINDOW as u32;
        self.send(link, Frame::Fetch(Fetch { origin, after, window }).encode(), out);
    }

    /// Nothing is missing any more.
    pub(crate) fn forget_satisfied(&mut self, origin: Origin) {
        let seen = self.seen(&origin);
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        let lack = &mut stream.lack;
        lack.wanted.take_if(|(wanted, _)| *wanted <= seen);
        if lack.wanted.is_none() {
            (lack.attempts, lack.gone) = (0, None);
        }
        if lack.wanted.is_none() && lack.grace.is_none() && lack.fetch.is_none() {
            self.wants.remove(&origin);
        }
    }

    /// Each neighbour is asked twice.
    fn attempts_max(&self) -> usize {
        2 * self.links.len().max(1)
    }

    fn is_askable(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|neighbour| {
            let idle = neighbour.fetching < FETCHES_PER_LINK && neighbour.fetches_left > 0;
            idle && !neighbour.full
        })
    }

    /// First whoever said to have it, then all in turn, tree links before cross links.
    fn whom_to_ask(&self, from: LinkId, attempts: usize) -> Option<LinkId> {
        if attempts == 0 && self.links.contains_key(&from) {
            return self.is_askable(from).then_some(from);
        }
        let of = |role: Role| {
            self.links.iter().filter(move |(_, known)| known.role == role).map(|(link, _)| *link)
        };
        let turn = attempts % self.links.len().max(1);
        let link = of(Role::Tree).chain(of(Role::Cross)).nth(turn)?;
        self.is_askable(link).then_some(link)
    }

    /// How a batch of this stream over this link comes.
    pub(crate) fn way_of(&self, origin: &Origin, link: LinkId) -> Way {
        let fetch = self.streams.get(origin).and_then(|stream| stream.lack.fetch);
        match fetch {
            Some(Fetching { link: asked, left: Some(1..), jump, .. }) if asked == link => {
                if jump {
                    Way::Jump
                } else {
                    Way::Answer
                }
            }
            _ => Way::Flood,
        }
    }

    /// One batch of an answer has come.
    pub(crate) fn count_answer(
        &mut self,
        origin: Origin,
        link: LinkId,
        way: Way,
        out: &mut Vec<Output>,
    ) {
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        // The batch itself may have ended the fetch.
        let Some(fetch) = stream.lack.fetch.as_mut().filter(|fetch| fetch.link == link) else {
            return;
        };
        let Some(left) = fetch.left.as_mut().filter(|_| way != Way::Flood) else { return };
        *left = left.saturating_sub(1);
        fetch.jump = false;
        if *left > 0 {
            return;
        }
        let before = fetch.seen;
        self.end_fetch(&origin);
        if self.seen(&origin) > before {
            if let Some(stream) = self.streams.get_mut(&origin) {
                (stream.lack.attempts, stream.lack.gone) = (0, None);
            }
            self.accept_kept(origin, out);
            self.fetch(origin, out);
        } else {
            self.on_nothing(origin);
        }
    }

    pub(crate) fn on_served(&mut self, link: LinkId, served: &Served, out: &mut Vec<Output>) {
        let origin = served.origin;
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        let fetch = stream.lack.fetch.as_mut().filter(|fetch| fetch.link == link);
        let Some(fetch) = fetch.filter(|fetch| fetch.left.is_none()) else { return };
        if served.count == 0 {
            self.end_fetch(&origin);
            return self.on_nothing(origin);
        }
        fetch.left = Some(served.count.min(SERVED_MAX));
        self.want(origin, served.head, link, out);
    }

    pub(crate) fn on_gone(&mut self, link: LinkId, gone: &Gone, out: &mut Vec<Output>) {
        let origin = gone.origin;
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        let seen = stream.seen();
        let lack = &mut stream.lack;
        if lack.fetch.is_none_or(|fetch| fetch.link != link) {
            return;
        }
        if gone.next > seen && lack.gone.is_none_or(|(next, _)| gone.next < next) {
            lack.gone = Some((gone.next, link));
        }
        self.end_fetch(&origin);
        self.on_nothing(origin);
        // Another one may have it; no need to wait.
        if let Some(stream) = self.streams.get_mut(&origin) {
            stream.lack.retry_at = self.now.time;
        }
        self.fetch(origin, out);
    }

    /// A request brought nothing.
    fn on_nothing(&mut self, origin: Origin) {
        let most = self.attempts_max();
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        let lack = &mut stream.lack;
        lack.attempts += 1;
        lack.retry_at = self.now.time + FETCH_RETRY;
        let hopeless = lack.attempts >= most && lack.gone.is_none();
        if hopeless || lack.attempts > most {
            *lack = Lack { retry_at: lack.retry_at, grace: lack.grace, ..Lack::default() };
            stream.clear_ahead();
            self.forget_satisfied(origin);
        }
    }

    /// The request under way, if any, is under way no more.
    pub(crate) fn end_fetch(&mut self, origin: &Origin) {
        let stream = self.streams.get_mut(origin);
        let Some(fetch) = stream.and_then(|stream| stream.lack.fetch.take()) else { return };
        if let Some(neighbour) = self.links.get_mut(&fetch.link) {
            neighbour.fetching -= 1;
        }
    }

    /// A link is gone: what it was asked for, another one is.
    pub(crate) fn abandon_fetches(&mut self, link: LinkId) {
        for origin in &self.wants {
            if let Some(stream) = self.streams.get_mut(origin) {
                let gone = stream.lack.fetch.take_if(|fetch| fetch.link == link).is_some();
                stream.lack.attempts += usize::from(gone);
                // What it said is gone may be with others; and it alone could serve what follows.
                stream.lack.gone.take_if(|(_, teller)| *teller == link);
            }
        }
    }

    pub(crate) fn time_out_fetches(&mut self, out: &mut Vec<Output>) {
        let now = self.now.time;
        let late = |origin: &&Origin| {
            let fetch = self.streams.get(origin).and_then(|stream| stream.lack.fetch);
            fetch.is_some_and(|fetch| now.since(fetch.since) >= FETCH_TIMEOUT)
        };
        for origin in self.wants.iter().filter(late).copied().collect::<Vec<_>>() {
            self.end_fetch(&origin);
            self.on_nothing(origin);
            self.fetch(origin, out);
        }
    }

    /// Sends requests for streams whose turn has come.
    pub(crate) fn fetch_more(&mut self, out: &mut Vec<Output>) {
        for origin in self.wants.iter().copied().collect::<Vec<_>>() {
            self.fetch(origin, out);
        }
    }

    /// A neighbour lacks something.
    pub(crate) fn on_fetch(&mut self, link: LinkId, fetch: &Fetch, out: &mut Vec<Output>) {
        let Some(neighbour) = self.links.get_mut(&link) else { return };
        if neighbour.full || neighbour.serving >= SERVING_PER_LINK {
            return;
        }
        let origin = fetch.origin;
        let stream = self.streams.get(&origin);
        let head = stream.map_or(Position::START, |stream| stream.head);
        if stream.is_some_and(|stream| stream.stopped)
            && let Some(evidence) = self.evidence.get(&origin)
        {
            self.send(link, Frame::Evidence(evidence.clone()).encode(), out);
        } else if fetch.after < head {
            neighbour.serving += 1;
            let max_bytes = (fetch.window as usize).min(FETCH_WINDOW);
            let (after, reader) = (fetch.after, Reader::Link(link));
            out.push(Output::Log(LogJob::Read { origin, after, max_bytes, reader }));
            return;
        }
        self.send(link, Frame::Served(Served { origin, head, count: 0 }).encode(), out);
    }

    pub(crate) fn on_read_for_link(
        &mut self,
        origin: Origin,
        link: LinkId,
        found: Result<Found, LogError>,
        out: &mut Vec<Output>,
    ) {
        if let Some(neighbour) = self.links.get_mut(&link) {
            neighbour.serving -= 1;
        }
        let head = self.streams.get(&origin).map_or(Position::START, |stream| stream.head);
        let batches = match found {
            Ok(Found::Batches(batches)) => batches,
            Ok(Found::Gone { next }) => {
                return self.send(link, Frame::Gone(Gone { origin, next }).encode(), out);
            }
            Err(_) => Vec::new(),
        };
        // What is appended and not synced yet is not told to anybody.
        let stored = batches.iter().take_while(|batch| batch.last() <= head);
        let count = stored.clone().take(SERVED_MAX as usize).count();
        let served = Served { origin, head, count: count as u32 };
        self.send(link, Frame::Served(served).encode(), out);
        for batch in stored.take(count) {
            self.send(link, batch.bytes().clone(), out);
        }
    }
}
