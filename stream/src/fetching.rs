//! What is missing is fetched: from who says to have it first, then from all the others.
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
//! Nobody is believed alone. Who does not keep its word is asked last for a while that doubles
//! (`neighbour.rs`); a hole is passed over when two say the same, or one says so long enough; a new
//! epoch is begun when no neighbour has more of the old one.

use crate::arriving::Way;
use crate::bounds::{
    EPOCH_WITNESSES, FETCH_RETRY, FETCH_TIMEOUT, GONE_ALONE, SERVED_MAX, STREAM_PENDING_MAX,
};
use crate::core::Core;
use crate::frame::{Fetch, Frame, Gone, Served};
use crate::io::{LinkId, Output, Role};
use crate::lack::{Fetching, Lack};
use crate::neighbour::Neighbour;
use crate::position::{Origin, Position};

/// How often each neighbour is asked before what is missing is given up.
const ASKED_EACH: u32 = 2;

/// What comes next for a stream of which something is missing.
enum Next {
    /// This neighbour is asked.
    Ask(LinkId),
    /// This one is asked for what follows the hole.
    Jump(LinkId, Position),
    /// Somebody will be asked, but not now.
    Wait,
    /// All again: one alone says that it is gone.
    Again,
    /// Nobody has it.
    Hopeless,
}

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
        if upto <= seen || stream.is_deaf() || !self.links.contains_key(&from) {
            return;
        }
        let claim = stream.lack.claims.entry(from).or_insert(upto);
        *claim = upto.max(*claim);
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
        if lack.claims.is_empty() || busy {
            return;
        }
        let seen = stream.seen();
        match self.next_to_ask(lack, seen, origin) {
            Next::Ask(link) => self.send_fetch(origin, link, seen, false, out),
            Next::Jump(link, next) => self.send_fetch(origin, link, next.before(), true, out),
            Next::Wait => {}
            Next::Again => {
                let now = self.now.time;
                if let Some(stream) = self.streams.get_mut(&origin) {
                    stream.lack.asked.clear();
                    stream.lack.retry_at = now + FETCH_RETRY;
                }
            }
            Next::Hopeless => {
                if let Some(stream) = self.streams.get_mut(&origin) {
                    stream.lack.forget();
                    stream.clear_ahead(&mut self.ahead);
                }
                self.forget_satisfied(origin);
            }
        }
    }

    fn send_fetch(
        &mut self,
        origin: Origin,
        link: LinkId,
        after: Position,
        jump: bool,
        out: &mut Vec<Output>,
    ) {
        let since = self.now.time;
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        let Some(neighbour) = self.links.get_mut(&link) else { return };
        // While it is found out whether an epoch is over, one batch is enough of an answer.
        let finding_out = !stream.lack.ends.is_empty() && !stream.lack.ends.contains(&link);
        let window = neighbour.begin_fetch(finding_out);
        let seen = stream.seen();
        stream.lack.fetch = Some(Fetching { link, seen, since, left: None, jump });
        let window = u32::try_from(window).unwrap_or(u32::MAX);
        self.send(link, Frame::Fetch(Fetch { origin, after, window }).encode(), out);
    }

    /// Who is asked next: who was asked least; of them who says to have it, then tree links.
    fn next_to_ask(&self, lack: &Lack, seen: Position, origin: Origin) -> Next {
        let now = self.now.time;
        let liar = |known: &Neighbour| known.is_distrusted(now);
        let over = self.is_epoch_over(lack, origin);
        // While it is found out whether an epoch is over, each of the others is asked once.
        let finding_out = !lack.ends.is_empty() && !over;
        let candidates = self.links.iter().filter(|(link, known)| {
            let most = if finding_out || liar(known) { 1 } else { ASKED_EACH };
            // Who does not read what it is sent reads no requests.
            !known.full
                && lack.times_asked(**link) < most
                && (lack.ends.is_empty() || lack.ends.contains(link) == over)
        });
        let mut candidates: Vec<_> = candidates
            .map(|(link, known)| {
                let silent = lack.claims.get(link).is_none_or(|claim| *claim <= seen);
                let cross = known.role == Role::Cross;
                let rank = (liar(known), lack.times_asked(*link), silent, cross, *link);
                (rank, *link, known.is_askable())
            })
            .collect();
        candidates.sort_unstable();
        if let Some((_, link, _)) = candidates.iter().find(|(_, _, askable)| *askable) {
            return Next::Ask(*link);
        }
        if !candidates.is_empty() {
            return Next::Wait;
        }
        let told = lack.gone.iter().filter(|(_, next)| **next > seen);
        let told = told.filter_map(|(link, next)| {
            let known = self.links.get(link)?;
            Some((liar(known), *next, *link, known.is_askable()))
        });
        let told: Vec<_> = told.collect();
        let Some((_, next, link, askable)) = told.iter().min().copied() else {
            return Next::Hopeless;
        };
        let alone = told.len() < 2 && self.links.len() > 1;
        if alone && now.since(lack.gone_since) < GONE_ALONE {
            return Next::Again;
        }
        if askable { Next::Jump(link, next) } else { Next::Wait }
    }

    /// Whether a new epoch may be begun: everybody else has no more of the old one either, or enough
    /// say so, or the origin itself does.
    fn is_epoch_over(&self, lack: &Lack, origin: Origin) -> bool {
        let said = |link: &LinkId| lack.ends.contains(link);
        let itself =
            |(link, known): (&LinkId, &Neighbour)| said(link) && Origin::from(known.peer) == origin;
        let silent = |(link, known): (&LinkId, &Neighbour)| {
            said(link) || known.full || lack.times_asked(*link) > 0
        };
        !lack.ends.is_empty()
            && (lack.ends.len() >= EPOCH_WITNESSES
                || self.links.iter().any(itself)
                || self.links.iter().all(silent))
    }

    /// A neighbour's log goes on with a new epoch; whether that may be begun here.
    pub(crate) fn ends_epoch(&mut self, origin: Origin, link: LinkId) -> bool {
        if let Some(stream) = self.streams.get_mut(&origin) {
            stream.lack.ends.insert(link);
        }
        self.streams.get(&origin).is_some_and(|stream| self.is_epoch_over(&stream.lack, origin))
    }

    /// Nothing is missing any more.
    pub(crate) fn forget_satisfied(&mut self, origin: Origin) {
        let seen = self.seen(&origin);
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        let lack = &mut stream.lack;
        lack.claims.retain(|_, claim| *claim > seen);
        if lack.claims.is_empty() {
            lack.forget();
            if lack.grace.is_none() && lack.fetch.is_none() {
                self.wants.remove(&origin);
            }
        }
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
        let (before, since) = (fetch.seen, fetch.since);
        self.end_fetch(&origin);
        if self.seen(&origin) > before {
            let quick = self.now.time.since(since) < FETCH_TIMEOUT / 4;
            if let Some(neighbour) = self.links.get_mut(&link) {
                neighbour.kept_its_word(quick);
            }
            if let Some(stream) = self.streams.get_mut(&origin) {
                stream.lack.progressed();
            }
            self.accept_kept(origin, out);
        } else {
            self.on_nothing(origin, link);
        }
        self.fetch(origin, out);
    }

    pub(crate) fn on_served(&mut self, link: LinkId, served: &Served, out: &mut Vec<Output>) {
        let origin = served.origin;
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        let lack = &mut stream.lack;
        let fetch = lack.fetch.as_mut().filter(|fetch| fetch.link == link);
        let Some(fetch) = fetch.filter(|fetch| fetch.left.is_none()) else { return };
        if served.count > 0 {
            fetch.left = Some(served.count.min(SERVED_MAX));
            return self.want(origin, served.head, link, out);
        }
        let jumped = fetch.jump;
        let boasted = lack.claims.get(&link).is_some_and(|claim| *claim > served.head);
        if (boasted || jumped)
            && let Some(neighbour) = self.links.get_mut(&link)
        {
            neighbour.boasted(self.now.time);
        }
        self.end_fetch(&origin);
        self.on_nothing(origin, link);
        self.fetch(origin, out);
    }

    pub(crate) fn on_gone(&mut self, link: LinkId, gone: &Gone, out: &mut Vec<Output>) {
        let (origin, now) = (gone.origin, self.now.time);
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        let seen = stream.seen();
        let lack = &mut stream.lack;
        if lack.fetch.is_none_or(|fetch| fetch.link != link) {
            return;
        }
        let first = lack.gone.is_empty();
        self.end_fetch(&origin);
        self.on_nothing(origin, link);
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        let lack = &mut stream.lack;
        if gone.next > seen {
            if first {
                lack.gone_since = now;
            }
            lack.gone.insert(link, gone.next);
        }
        // Another one may have it; no need to wait.
        lack.retry_at = now;
        self.fetch(origin, out);
    }

    /// The request to this link brought nothing.
    fn on_nothing(&mut self, origin: Origin, link: LinkId) {
        let now = self.now.time;
        let Some(stream) = self.streams.get_mut(&origin) else { return };
        let lack = &mut stream.lack;
        lack.in_vain(link);
        // Of who is asked for what follows a hole, and has it not, nothing is believed about it.
        lack.gone.remove(&link);
        // While it is found out whether an epoch is over, each is asked once: no need to wait.
        lack.retry_at = if lack.ends.is_empty() { now + FETCH_RETRY } else { now };
    }

    /// The request under way, if any, is under way no more.
    pub(crate) fn end_fetch(&mut self, origin: &Origin) {
        let stream = self.streams.get_mut(origin);
        let Some(fetch) = stream.and_then(|stream| stream.lack.fetch.take()) else { return };
        if let Some(neighbour) = self.links.get_mut(&fetch.link) {
            neighbour.end_fetch();
        }
    }

    /// A link is gone: what it was asked for, another one is.
    pub(crate) fn abandon_fetches(&mut self, link: LinkId) {
        for origin in &self.wants {
            if let Some(stream) = self.streams.get_mut(origin) {
                // What it said is gone may be with others; and it alone could serve what follows.
                stream.lack.lose(link);
            }
        }
    }

    pub(crate) fn time_out_fetches(&mut self, out: &mut Vec<Output>) {
        let now = self.now.time;
        let late = |origin: &Origin| {
            let stream = self.streams.get(origin)?;
            let fetch = stream.lack.fetch?;
            let late = now.since(fetch.since) >= FETCH_TIMEOUT;
            late.then_some((*origin, fetch.link, stream.seen() > fetch.seen))
        };
        for (origin, link, some) in self.wants.iter().filter_map(late).collect::<Vec<_>>() {
            self.end_fetch(&origin);
            if let Some(neighbour) = self.links.get_mut(&link) {
                neighbour.was_late(now, some);
            }
            self.on_nothing(origin, link);
            if some && let Some(stream) = self.streams.get_mut(&origin) {
                stream.lack.progressed();
            }
            self.fetch(origin, out);
        }
    }

    /// Sends requests for streams whose turn has come.
    pub(crate) fn fetch_more(&mut self, out: &mut Vec<Output>) {
        for origin in self.wants.iter().copied().collect::<Vec<_>>() {
            self.fetch(origin, out);
        }
    }
}
