//! Catching up: neighbours compare what they have and fetch what is missing.
//!
//! ```text
//!  every COMPARE, parent ─▶ child, and along cross links     at attachment, both ways
//!     same (a digest)               where anything is new       summary
//!       │ equal: alive                                             │
//!       └ differs: summary ─▶ ◀─ summary ──────────────────────────┤
//!                                                                  ▼
//!                          lanes: follow from the own head      others: page ⇄ ids ─▶ want
//! ```
//!
//! Lanes are followed from the own head on, in order; everything else, and what waits in a lock, is
//! listed page by page, at the pace of whoever lacks it. What is fetched goes through the same door as a broadcast and is
//! relayed like one.

use std::time::Duration;

use borgios_types::{Digest, NodeId, Time};

use crate::bounds;
use crate::io::{Output, Timer};
use crate::link::{Followed, Paging, Walked};
use crate::message::{Head, Message, Summary};
use crate::node::Node;
use crate::sorted::SortedMap;

impl Node {
    pub(crate) fn send_summary(&mut self, to: NodeId) {
        if self.is_cross(&to) {
            self.send_cross(to);
        }
        self.out.push(Output::Send(to, Message::Summary(self.store.summary())));
    }

    /// Begins to compare with a peer.
    pub(crate) fn send_same(&mut self, to: NodeId) {
        let digest = self.digest(&to);
        if let Some(link) = self.links.get_mut(&to) {
            (link.comparing, link.due) = (true, false);
            (link.compared, link.alike) = (Some(digest), true);
            self.out.push(Output::Send(to, Message::Same(digest)));
        }
    }

    /// All this node has; towards a cross peer also whose tree it is in, so that two trees that hold
    /// the same find each other as well.
    pub(crate) fn digest(&self, towards: &NodeId) -> u64 {
        let store = self.store.digest();
        if !self.is_cross(towards) {
            return store;
        }
        let root = self.path().first().copied().unwrap_or(self.me);
        let both = Digest::of_parts(&[&store.to_le_bytes()[..], &root.to_bytes()[..]]);
        u64::from_le_bytes(both.0[..8].try_into().expect("a digest has 32 bytes"))
    }

    /// A peer's digest.
    pub(crate) fn on_same(&mut self, now: Time, from: NodeId, digest: u64) {
        if !self.is_neighbour(from) && !self.is_cross(&from) {
            return;
        }
        let own = self.digest(&from);
        if let Some(link) = self.links.get_mut(&from) {
            (link.compared, link.alike) = (Some(own), own == digest);
        }
        if own != digest {
            return self.send_summary(from);
        }
        let quiet =
            self.links.get(&from).is_some_and(|link| now.since(link.said) >= bounds::CROSS_ANSWER);
        if self.is_neighbour(from) || quiet {
            self.out.push(Output::Send(from, Message::Alive));
        }
    }

    /// Sets the timer for the next comparison.
    pub(crate) fn set_compare_timer(&mut self) {
        let (least, most) = (bounds::COMPARE_MIN, bounds::COMPARE);
        let after = most - self.jittered((most - least) * 2) / 2;
        self.out.push(Output::SetTimer(Timer::AntiEntropy, after));
    }

    /// Time to compare inventories, and now and then to forgive a little.
    pub(crate) fn on_anti_entropy_due(&mut self, now: Time) {
        self.set_compare_timer();
        for child in self.children() {
            // A digest goes in the place of a beat, unless the link is too busy for beats.
            let waits =
                self.links.get_mut(&child).map(|link| std::mem::replace(&mut link.due, true));
            if waits == Some(true) {
                self.send_same(child);
            }
        }
        self.renew_cross();
        self.remember();
        if now.since(self.forgiven) >= bounds::FORGIVE {
            self.forgiven = now;
            for link in self.links.values_mut() {
                link.penalty /= 2;
                (link.served, link.useless, link.chatter) = (0, 0, 0);
                link.echoed = None;
                link.rival_failed = link.rival_failed.saturating_sub(1);
            }
            self.climb(now);
        }
    }

    /// What a neighbour has, in short.
    pub(crate) fn on_summary(&mut self, now: Time, from: NodeId, summary: Summary) {
        if !self.is_neighbour(from) && !self.is_cross(&from) {
            return;
        }
        let asked = self.links.get_mut(&from).is_some_and(|link| {
            // Who holds the same sends none.
            link.alike = false;
            std::mem::take(&mut link.comparing)
        });
        if asked {
            self.send_summary(from);
        }
        if !self.store.same_objects(&summary) {
            self.begin_paging(now, from, digest_of(&summary));
        }
        let ahead: Vec<Digest> = summary
            .heads
            .iter()
            .filter(|(lane, head)| {
                self.config.lanes.contains(*lane) && head.seq > self.store.head(lane)
            })
            .map(|(_, head)| head.id)
            // Whoever tells of a head chooses its id, and what is here is missing nowhere.
            .filter(|id| !self.store.holds(id))
            .collect();
        let Some(link) = self.links.get_mut(&from) else { return };
        link.heads = SortedMap::new();
        for (lane, head) in summary.heads {
            link.heads.insert(lane, head);
        }
        let lanes: Vec<String> = link.heads.keys().cloned().collect();
        for lane in lanes {
            self.follow(now, from, &lane);
        }
        self.on_lacking_here(from, ahead);
    }

    /// What a cross peer has and this node lacks is a gap of the tree's.
    pub(crate) fn on_lacking_here(&mut self, from: NodeId, mut ids: Vec<Digest>) {
        ids.truncate(bounds::GAPS_OPEN_MAX);
        if self.is_cross(&from) && !ids.is_empty() {
            self.on_gap(from, &ids);
        }
    }

    fn begin_paging(&mut self, now: Time, from: NodeId, theirs: u64) {
        let of = (self.store.digest(), theirs);
        let Some(link) = self.links.get_mut(&from) else { return };
        let busy =
            link.paging.as_ref().is_some_and(|it| now.since(it.asked) < bounds::WANT_TIMEOUT);
        // Two honest stores can differ for long, in what one of them refused or forgot.
        let idle = link.walked.as_ref().is_some_and(|last| {
            let rest = Duration::from_secs((last.pages / bounds::PAGES_PER_SECOND) as u64);
            let in_vain = last.of == of && last.times >= bounds::WALKS_IN_VAIN;
            let rest = if in_vain { bounds::WALK_AGAIN.max(rest) } else { rest };
            now.since(last.at) < rest
        });
        if !busy && !idle {
            link.paging =
                Some(Box::new(Paging { asked: now, after: None, pages: 1, waits: false, of }));
            self.out.push(Output::Send(from, Message::Page { after: None }));
        }
    }

    /// A neighbour asks for a page of ids.
    pub(crate) fn on_page(&mut self, now: Time, from: NodeId, after: Option<Digest>) {
        if self.may_ask(now, from) {
            let (ids, last) = self.store.page(after);
            self.out.push(Output::Send(from, Message::Ids { ids, last }));
        }
    }

    /// A page of a neighbour's ids.
    pub(crate) fn on_ids(&mut self, now: Time, from: NodeId, ids: &[Digest], last: bool) {
        let Some(link) = self.links.get_mut(&from) else { return };
        if link.paging.as_ref().is_none_or(|paging| paging.waits) {
            return self.penalise(now, from, 1);
        }
        let Some(paging) = link.paging.take() else { return };
        let ordered = ids.is_sorted() && ids.first().is_none_or(|id| Some(*id) > paging.after);
        if !ordered {
            return self.penalise(now, from, 1);
        }
        let done = self.fetch(from, ids);
        if done < ids.len() {
            // The rest of this page, as soon as some of what was asked for is here.
            let after = if done > 0 { Some(ids[done - 1]) } else { paging.after };
            return self.keep_paging(from, Paging { asked: now, after, waits: true, ..*paging });
        }
        let after = ids.last().copied();
        if !last && after.is_some() && paging.pages < bounds::PAGES_MAX {
            let pages = paging.pages + 1;
            let waits = !self.has_room(&from);
            self.keep_paging(from, Paging { asked: now, after, pages, waits, ..*paging });
            if !waits {
                self.out.push(Output::Send(from, Message::Page { after }));
            }
            return;
        }
        let Some(link) = self.links.get_mut(&from) else { return };
        let same = link.walked.take().filter(|last| last.of == paging.of);
        let times = same.map_or(1, |last| last.times.saturating_add(1));
        let walked = Walked { at: now, pages: paging.pages, of: paging.of, times };
        link.walked = Some(Box::new(walked));
    }

    fn keep_paging(&mut self, from: NodeId, paging: Paging) {
        if let Some(link) = self.links.get_mut(&from) {
            link.paging = Some(Box::new(paging));
        }
    }

    /// Goes on with a walk that waited for room in the neighbour's share.
    pub(crate) fn resume_paging(&mut self, from: NodeId) {
        let (now, room) = (self.now, self.has_room(&from));
        let Some(link) = self.links.get_mut(&from) else { return };
        if let Some(paging) = link.paging.as_mut().filter(|paging| paging.waits && room) {
            (paging.waits, paging.asked) = (false, now);
            let after = paging.after;
            self.out.push(Output::Send(from, Message::Page { after }));
        }
    }

    /// A neighbour asks for objects.
    pub(crate) fn on_want(&mut self, now: Time, from: NodeId, mut ids: Vec<Digest>) {
        if self.may_ask(now, from) {
            ids.retain(|id| self.store.knows(id));
            if !ids.is_empty() {
                self.out.push(Output::Provide { to: from, ids });
            }
        }
    }

    /// A neighbour asks for the statements that follow its head.
    pub(crate) fn on_follow(&mut self, now: Time, from: NodeId, lane: String, after: u64) {
        if self.may_ask(now, from) && self.store.head(&lane) > after {
            let heads = self.links.get(&from).map(|link| &link.heads);
            let has = heads.into_iter().flat_map(SortedMap::iter);
            let has = has.map(|(lane, head)| (lane.clone(), *head)).collect();
            self.out.push(Output::ProvideLane { to: from, lane, after, has });
        }
    }

    /// Whether a request is to be answered: of a neighbour, and not one too many.
    pub(crate) fn may_ask(&mut self, now: Time, from: NodeId) -> bool {
        if !self.is_neighbour(from) && !self.is_cross(&from) {
            return false;
        }
        let most = bounds::SERVED_MAX.max(4 * self.store.pages());
        let Some(link) = self.links.get_mut(&from) else { return false };
        link.served += 1;
        if link.served > most {
            self.penalise(now, from, 1);
            return false;
        }
        true
    }

    /// Asks a neighbour for what follows this lane's head, if it is ahead, unless that is on its
    /// way already.
    pub(crate) fn follow(&mut self, now: Time, from: NodeId, lane: &str) {
        let linked = self.is_neighbour(from) || self.is_cross(&from);
        if !self.config.lanes.contains(lane) || !linked {
            return;
        }
        let after = self.store.head(lane);
        let Some(link) = self.links.get_mut(&from) else { return };
        let behind = link.heads.get(&lane.to_owned()).is_none_or(|head| head.seq > after);
        let coming = link.following.get(&lane.to_owned()).is_some_and(|asked| {
            after < asked.after.saturating_add(bounds::LANE_PAGE)
                && now.since(asked.at) < bounds::FETCH_MAX
        });
        if behind && !coming {
            let asked = Followed { after, at: now, useless: bounds::FOLLOW_BRINGS };
            link.following.insert(lane.to_owned(), asked);
            self.out.push(Output::Send(from, Message::Follow { lane: lane.to_owned(), after }));
        }
    }

    /// The shell's newest statement of a lane changed.
    pub(crate) fn on_head(&mut self, now: Time, lane: String, head: Head) {
        let back = head.seq < self.store.head(&lane);
        if !self.config.lanes.contains(&lane) || !self.store.set_head(lane.clone(), head) {
            return;
        }
        if back {
            // What is on its way follows what was taken out.
            for link in self.links.values_mut() {
                link.following.remove(&lane);
            }
        }
        // A neighbour that was many pages ahead has more.
        for peer in self.neighbours().into_iter().chain(self.cross()) {
            let ahead = self.links.get(&peer).and_then(|link| link.heads.get(&lane));
            if ahead.is_some_and(|ahead| ahead.seq > head.seq) {
                self.follow(now, peer, &lane);
            }
        }
    }
}

/// A store in short, in eight bytes.
pub(crate) fn digest_of(summary: &Summary) -> u64 {
    let heads = summary.heads.iter().flat_map(|(lane, head)| {
        [lane.as_bytes().to_vec(), head.seq.to_le_bytes().to_vec(), head.id.0.to_vec()]
    });
    let heads: Vec<Vec<u8>> = heads.collect();
    let mut parts: Vec<&[u8]> = heads.iter().map(Vec::as_slice).collect();
    let count = summary.count.to_le_bytes();
    parts.extend([&count[..], &summary.xor.0[..]]);
    let all = Digest::of_parts(&parts);
    u64::from_le_bytes(all.0[..8].try_into().expect("a digest has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::io::Input;
    use crate::stage::{Stage, key};

    fn id(n: u32) -> Digest {
        Digest::of(&n.to_le_bytes())
    }

    fn summary(count: u64, release: u64) -> Message {
        let head = Head { seq: release, id: id(0) };
        let heads = BTreeMap::from([("release".to_owned(), head)]);
        Message::Summary(Summary { heads, count, xor: id(1) })
    }

    #[test]
    fn equal_stores_exchange_nothing() {
        let mut stage = Stage::attached(4, &[1, 2]);
        let same = Message::Summary(stage.node.store.summary());
        assert_eq!(stage.says(2, same), []);
    }

    #[test]
    fn a_page_is_wanted_for_what_is_missing_and_the_next_one_asked_for() {
        let mut stage = Stage::attached(4, &[1, 2]);
        let out = stage.says(2, summary(9, 0));
        assert_eq!(out, [Output::Send(key(2), Message::Page { after: None })]);
        let mut ids = vec![id(1), id(2), id(3)];
        ids.sort();
        let out = stage.says(2, Message::Ids { ids: ids.clone(), last: false });
        let next = Message::Page { after: ids.last().copied() };
        let want = Message::Want { ids };
        assert_eq!(out, [Output::Send(key(2), want), Output::Send(key(2), next)]);
    }

    #[test]
    fn pages_that_go_backwards_end_the_walk() {
        let mut stage = Stage::attached(4, &[1, 2]);
        stage.says(2, summary(9, 0));
        let mut ids = vec![id(1), id(2)];
        ids.sort();
        stage.says(2, Message::Ids { ids: ids.clone(), last: false });
        assert_eq!(stage.says(2, Message::Ids { ids, last: false }), []);
    }

    #[test]
    fn a_lane_is_followed_page_by_page_until_the_neighbours_head() {
        let mut stage = Stage::attached(4, &[1, 2]);
        let follow =
            |after| Output::Send(key(2), Message::Follow { lane: "release".into(), after });
        assert!(stage.says(2, summary(0, 100)).contains(&follow(0)));
        let mut head =
            |seq| stage.step(Input::Head { lane: "release".into(), head: Head { seq, id: id(0) } });
        assert_eq!(head(bounds::LANE_PAGE - 1), []);
        assert_eq!(head(bounds::LANE_PAGE), [follow(bounds::LANE_PAGE)]);
        assert_eq!(head(100), []);
    }

    /// The shell's head went back, by a ruling: what it had no use for, and what it lost, is asked for again.
    #[test]
    fn a_lane_that_went_back_is_followed_anew_and_what_was_refused_is_taken() {
        let mut stage = Stage::attached(4, &[1, 2]);
        let head = |seq| Input::Head { lane: "release".into(), head: Head { seq, id: id(0) } };
        let follow =
            |after| Output::Send(key(2), Message::Follow { lane: "release".into(), after });
        let object = || {
            let body = crate::Body::from_text("1").unwrap();
            Message::Object { id: id(7), kind: "release".into(), body }
        };
        stage.step(head(1));
        assert!(stage.says(2, summary(0, 2)).contains(&follow(1)));
        let offered = stage.says(2, object());
        assert!(matches!(&offered[..], [Output::Offer { .. }]), "{offered:?}");
        stage.judged(2, id(7), crate::Verdict::Known);
        assert_eq!(stage.says(2, object()), [], "it is known");
        let before = stage.node.store.digest();

        stage.step(Input::Reopen([id(7)].into()));
        assert_eq!(stage.step(head(0)), [follow(0)]);
        let offered = stage.says(2, object());
        assert!(matches!(&offered[..], [Output::Offer { .. }]), "{offered:?}");
        // A lane without a statement is as one that never had any.
        assert_ne!(stage.node.store.digest(), before);
        assert_eq!(stage.node.store.digest(), Stage::attached(4, &[1, 2]).node.store.digest());
    }

    /// A newcomer below hears of a release that waits here, though no head of the lane leads to it, and
    /// a neighbour that lists one is asked for it.
    #[test]
    fn a_statement_that_waits_is_listed_and_fetched_as_no_head_leads_to_it() {
        let mut stage = Stage::attached(4, &[1, 2]);
        stage.joins(5, true);
        let waiting = id(1);
        let body = || crate::Body::from_text("1").unwrap();
        let object = || Message::Object { id: waiting, kind: "release".into(), body: body() };
        // It comes while nobody below is there to hear of it, is verified, and waits.
        stage.says(2, object());
        stage.judged(2, waiting, crate::Verdict::Admitted);
        stage.step(Input::Waiting([waiting].into()));
        assert_eq!(stage.node.store.head("release"), 0);
        let ids = Message::Ids { ids: vec![waiting], last: true };
        let out = stage.says(5, Message::Page { after: None });
        assert_eq!(out, [Output::Send(key(5), ids.clone())]);
        let out = stage.says(5, Message::Want { ids: vec![waiting] });
        assert_eq!(out, [Output::Provide { to: key(5), ids: vec![waiting] }]);
        // Applied: a follower of the lane gets it, and the list has it no more.
        let head = Head { seq: 1, id: waiting };
        stage.step(Input::Head { lane: "release".into(), head });
        stage.step(Input::Waiting(std::collections::BTreeSet::new()));
        let none = Message::Ids { ids: vec![], last: true };
        let out = stage.says(5, Message::Page { after: None });
        assert_eq!(out, [Output::Send(key(5), none)]);

        // The other side of it: what 2 lists, whatever kind it is, is asked for and relayed.
        let mut stage = Stage::attached(4, &[1, 2]);
        stage.joins(5, true);
        stage.says(2, summary(1, 0));
        let out = stage.says(2, ids);
        assert_eq!(out, [Output::Send(key(2), Message::Want { ids: vec![waiting] })]);
        stage.step(Input::Waiting([waiting].into()));
        let offer = stage.says(2, object());
        assert!(matches!(&offer[..], [Output::Offer { .. }]), "{offer:?}");
        let out = stage.judged(2, waiting, crate::Verdict::Admitted);
        assert_eq!(out, [Output::Send(key(5), object())]);
        assert!(stage.node.store.lists(&waiting));
    }

    #[test]
    fn only_neighbours_are_served() {
        let mut stage = Stage::attached(4, &[1, 2]);
        stage.link(9, false);
        assert_eq!(stage.says(9, Message::Page { after: None }), []);
        let out = stage.says(2, Message::Page { after: None });
        assert_eq!(out, [Output::Send(key(2), Message::Ids { ids: vec![], last: true })]);
    }
}
