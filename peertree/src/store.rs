//! What a node knows of its shell's object store: ids only, never bodies it need not hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use borgios_types::{Digest, NodeId, Time};

use crate::bounds;
use crate::fetch::Wanted;
use crate::id_set::IdSet;
use crate::message::{Body, Head, Summary};
use crate::sorted::SortedMap;

/// What a node knows of its shell's object store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    /// Objects that are neither listed nor offered again, at most [`bounds::KNOWN_MAX`].
    known: IdSet,
    /// The same, oldest first.
    order: VecDeque<Digest>,
    /// A part of `known`: what the shell had when a neighbour's copy came, and has not published
    /// here. Its own word may still be on its way, for the two come by different paths.
    quiet: BTreeSet<Digest>,
    /// Objects listed for neighbours that catch up, without lanes; at most [`bounds::LIVE_MAX`], the
    /// smallest ids there are, so that two full stores list the same.
    live: IdSet,
    /// Exclusive or of `live`.
    xor: [u8; 32],
    heads: BTreeMap<String, Head>,
    /// Statements of lanes that wait at the shell: listed while they do; at most
    /// [`bounds::WAITING_MAX`].
    waiting: BTreeSet<Digest>,
    pending: SortedMap<Digest, Pending>,
    /// What was admitted or published last, oldest first, at most [`bounds::FRESH_MAX`].
    fresh: Option<Box<Fresh>>,
    /// Objects asked for and not here yet; see [`crate::fetch`].
    pub(crate) wanted: BTreeMap<Digest, Wanted>,
}

/// Objects that entered a moment ago.
#[derive(Clone, Debug, Default)]
struct Fresh {
    order: VecDeque<(Time, Digest)>,
    /// When each of them entered.
    since: BTreeMap<Digest, Time>,
}

/// An object that the shell is judging.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) from: NodeId,
    pub(crate) kind: String,
    pub(crate) body: Body,
    /// Links that sent it as well: asked again, should this copy be refused.
    pub(crate) others: BTreeSet<NodeId>,
    /// It was asked for: whatever is wrong with it, sending it was right.
    pub(crate) asked: bool,
}

impl Store {
    /// Takes over what the shell's store holds at the start.
    pub(crate) fn load(&mut self, live: Vec<Digest>, heads: BTreeMap<String, Head>) {
        *self = Self { waiting: std::mem::take(&mut self.waiting), ..Self::default() };
        for id in live {
            self.insert(id, true);
        }
        self.heads = heads.into_iter().take(bounds::LANES_MAX).collect();
    }

    pub(crate) fn knows(&self, id: &Digest) -> bool {
        self.live.contains(id) || self.known.contains(id)
    }

    /// Notes that the shell has this object; false if that was known. What waits is listed like a live
    /// one.
    pub(crate) fn insert(&mut self, id: Digest, live: bool) -> bool {
        self.wanted.remove(&id);
        if self.knows(&id) {
            return false;
        }
        if live || self.waiting.contains(&id) {
            self.list(id);
        } else {
            self.note(id);
        }
        true
    }

    /// Lists an object; where too many are listed the one with the largest id is so no longer.
    fn list(&mut self, id: Digest) {
        if self.live.insert(id) {
            self.toggle(&id);
        }
        if self.live.len() > bounds::LIVE_MAX
            && let Some(largest) = self.live.pop_last()
        {
            self.toggle(&largest);
            self.note(largest);
        }
    }

    /// Notes an object that is not listed, for as long as there is room.
    fn note(&mut self, id: Digest) {
        if self.known.insert(id) {
            self.order.push_back(id);
        }
        if self.known.len() > bounds::KNOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
            self.quiet.remove(&oldest);
        }
    }

    /// Notes that the shell had this object already when a copy came: nobody needs it offered, but
    /// nothing was relayed either.
    pub(crate) fn hold(&mut self, id: Digest) {
        if self.insert(id, false) {
            // What waits is listed; it is noted as well, for what is quiet must be.
            self.note(id);
            self.quiet.insert(id);
        }
    }

    /// Notes that the shell publishes this object; false if it was relayed before.
    pub(crate) fn publish(&mut self, id: Digest, live: bool) -> bool {
        if self.insert(id, live) {
            return true;
        }
        let held = self.quiet.remove(&id);
        if held && live {
            self.list(id);
        }
        held
    }

    /// Notes that this object entered just now, and forgets what did so too long ago.
    pub(crate) fn entered(&mut self, now: Time, id: Digest) {
        let Fresh { order, since } = &mut **self.fresh.get_or_insert_default();
        while let Some((at, oldest)) = order.front().copied()
            && (order.len() >= bounds::FRESH_MAX || now.since(at) >= bounds::WANT_TIMEOUT)
        {
            order.pop_front();
            // It may have been let go and have entered again since.
            if since.get(&oldest) == Some(&at) {
                since.remove(&oldest);
            }
        }
        order.push_back((now, id));
        since.insert(id, now);
    }

    /// Whether this object entered a moment ago: a copy of it may have been on its way.
    pub(crate) fn is_fresh(&self, now: Time, id: &Digest) -> bool {
        let since = self.fresh.as_ref().and_then(|fresh| fresh.since.get(id));
        since.is_some_and(|at| now.since(*at) < bounds::WANT_TIMEOUT)
    }

    /// Lists these no longer. They stay known, or a neighbour that still has them would bring them
    /// back.
    pub(crate) fn forget(&mut self, ids: &[Digest]) {
        for id in ids {
            if self.live.remove(id) {
                self.toggle(id);
                self.note(*id);
            }
        }
    }

    /// The shell may take these after all: they are no longer known, unless they are listed.
    pub(crate) fn reopen(&mut self, ids: &BTreeSet<Digest>) {
        let gone = |id: &Digest| ids.contains(id) && !self.live.contains(id);
        self.order.retain(|id| !gone(id));
        self.quiet.retain(|id| !gone(id));
        for id in ids {
            // Whether it is listed makes no difference to a second note of it.
            if !self.live.contains(id) {
                self.known.remove(id);
            }
        }
    }

    /// The shell says which statements wait there. One that this node has not heard of yet is listed when
    /// it comes: the shell's word and the object travel by different paths.
    pub(crate) fn wait(&mut self, mut ids: BTreeSet<Digest>) {
        while ids.len() > bounds::WAITING_MAX {
            ids.pop_last();
        }
        let before = std::mem::replace(&mut self.waiting, ids);
        let over: Vec<Digest> = before.difference(&self.waiting).copied().collect();
        self.forget(&over);
        let new: Vec<Digest> = self.waiting.difference(&before).copied().collect();
        for id in new {
            if self.known.contains(&id) {
                self.list(id);
            }
        }
    }

    fn toggle(&mut self, id: &Digest) {
        for (sum, byte) in self.xor.iter_mut().zip(id.0) {
            *sum ^= byte;
        }
    }

    pub(crate) fn summary(&self) -> Summary {
        let count = self.live.len() as u64;
        Summary { heads: self.heads.clone(), count, xor: Digest(self.xor) }
    }

    /// All of it in eight bytes.
    pub(crate) fn digest(&self) -> u64 {
        crate::catchup::digest_of(&self.summary())
    }

    /// Whether the shell has this object, as far as the core knows: a lane's head counts, too.
    pub(crate) fn holds(&self, id: &Digest) -> bool {
        self.knows(id) || self.heads.values().any(|head| head.id == *id)
    }

    /// Whether `other` lists the same live objects.
    pub(crate) fn same_objects(&self, other: &Summary) -> bool {
        (other.count, other.xor.0) == (self.live.len() as u64, self.xor)
    }

    /// The live ids after `after`, one page of them, and whether none follow.
    pub(crate) fn page(&self, after: Option<Digest>) -> (Vec<Digest>, bool) {
        let mut ids = self.live.after(after, bounds::PAGE_IDS_MAX + 1);
        let last = ids.len() <= bounds::PAGE_IDS_MAX;
        ids.truncate(bounds::PAGE_IDS_MAX);
        (ids, last)
    }

    /// How many pages there are.
    pub(crate) fn pages(&self) -> u32 {
        u32::try_from(self.live.len().div_ceil(bounds::PAGE_IDS_MAX)).unwrap_or(u32::MAX / 4)
    }

    pub(crate) fn head(&self, lane: &str) -> u64 {
        self.heads.get(lane).map_or(0, |head| head.seq)
    }

    /// Notes a lane's newest statement, with the number 0 that there is none; false if there is no room for
    /// another lane.
    pub(crate) fn set_head(&mut self, lane: String, head: Head) -> bool {
        if head.seq == 0 {
            // As if there never had been one: neighbours compare what is listed here.
            self.heads.remove(&lane);
            return true;
        }
        if self.heads.len() >= bounds::LANES_MAX && !self.heads.contains_key(&lane) {
            return false;
        }
        self.heads.insert(lane, head);
        true
    }

    /// Whether this is a live object that the shell has not let go, as far as the core knows.
    pub(crate) fn lists(&self, id: &Digest) -> bool {
        self.live.contains(id)
    }

    /// Whether the shell is judging this one.
    pub(crate) fn judges(&self, id: &Digest) -> bool {
        self.pending.contains_key(id)
    }

    /// Begins judging an object; false if it must not be offered now: it is known, being judged
    /// already, or too many are.
    pub(crate) fn begin(&mut self, id: Digest, pending: Pending) -> bool {
        if self.knows(&id) {
            return false;
        }
        if let Some(first) = self.pending.get_mut(&id) {
            if first.from != pending.from && first.others.len() < bounds::OTHERS_MAX {
                first.others.insert(pending.from);
            }
            return false;
        }
        if self.pending.len() >= bounds::PENDING_MAX {
            self.wanted.remove(&id);
            return false;
        }
        self.pending.insert(id, pending);
        true
    }

    /// Ends judging an object.
    pub(crate) fn end(&mut self, id: &Digest, from: NodeId) -> Option<Pending> {
        (self.pending.get(id)?.from == from).then(|| self.pending.remove(id))?
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let bounded = self.known.len() <= bounds::KNOWN_MAX
            && self.known.len() == self.order.len()
            && self.live.len() <= bounds::LIVE_MAX
            && self.quiet.len() <= self.known.len()
            && self.pending.len() <= bounds::PENDING_MAX
            && self.waiting.len() <= bounds::WAITING_MAX
            && self.fresh.as_ref().is_none_or(|fresh| {
                fresh.order.len() <= bounds::FRESH_MAX && fresh.since.len() <= fresh.order.len()
            })
            && self.heads.len() <= bounds::LANES_MAX;
        if bounded { Ok(()) } else { Err("a set of the store grew past its bound".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> Digest {
        Digest::of(&n.to_le_bytes())
    }

    #[test]
    fn pages_list_each_live_id_once_and_in_order() {
        let mut store = Store::default();
        for n in 0..1_300 {
            assert!(store.insert(id(n), n % 13 != 0));
            assert!(!store.insert(id(n), true));
        }
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let (ids, last) = store.page(after);
            assert!(ids.len() <= bounds::PAGE_IDS_MAX);
            after = ids.last().copied();
            all.extend(ids);
            if last {
                break;
            }
        }
        assert_eq!(all.len(), 1_200);
        assert!(all.is_sorted());
    }

    #[test]
    fn summaries_agree_whatever_the_order() {
        let (mut one, mut two) = (Store::default(), Store::default());
        (0..50).for_each(|n| assert!(one.insert(id(n), true)));
        (0..50).rev().for_each(|n| assert!(two.insert(id(n), true)));
        assert!(one.same_objects(&two.summary()));
        two.forget(&[id(7)]);
        assert!(!one.same_objects(&two.summary()));
        assert!(two.knows(&id(7)), "what lapsed must not be fetched again");
    }

    /// Whatever comes first, the shell's word or the object, what waits is listed until it does not.
    #[test]
    fn what_waits_is_listed_for_as_long_as_it_waits() {
        for word_first in [true, false] {
            let (mut store, nothing) = (Store::default(), Store::default().summary());
            let word = |store: &mut Store| store.wait([id(1), id(2)].into());
            if word_first {
                word(&mut store);
                assert!(store.same_objects(&nothing), "not before it is here");
            }
            assert!(store.insert(id(1), false));
            store.hold(id(2));
            if !word_first {
                assert!(store.same_objects(&nothing));
                word(&mut store);
            }
            assert_eq!(store.page(None).0.len(), 2);
            assert_eq!(store.check(), Ok(()));
            // The shell's own publication comes behind a neighbour's copy, and is relayed once.
            assert!(store.publish(id(2), false) && !store.publish(id(2), false));
            store.wait([id(2)].into());
            assert_eq!(store.page(None).0, [id(2)]);
            assert!(store.knows(&id(1)), "what was applied must not be fetched again");
            store.wait(BTreeSet::new());
            assert!(store.same_objects(&nothing));
            assert_eq!(store.check(), Ok(()));
        }
    }

    #[test]
    fn no_more_wait_than_so_many() {
        let mut store = Store::default();
        let all: BTreeSet<Digest> = (0..2 * bounds::WAITING_MAX as u32).map(id).collect();
        all.iter().for_each(|id| assert!(store.insert(*id, false)));
        store.wait(all.clone());
        assert_eq!(store.summary().count, bounds::WAITING_MAX as u64);
        assert!(all.iter().take(bounds::WAITING_MAX).all(|id| store.lists(id)));
        assert_eq!(store.check(), Ok(()));
    }

    #[test]
    fn the_oldest_id_makes_room() {
        let mut store = Store::default();
        for n in 0..=bounds::KNOWN_MAX as u32 {
            store.insert(id(n), false);
        }
        assert!(!store.knows(&id(0)) && store.knows(&id(1)));
        assert_eq!(store.check(), Ok(()));
    }

    /// More objects than can be listed, in another order at each of two nodes: neither asks the other
    /// for anything, ever.
    #[test]
    fn two_stores_that_are_too_full_still_agree() {
        let all = bounds::LIVE_MAX as u32 + 1_000;
        let id = |n: u32| {
            let mut bytes = [0; 32];
            // Scattered, and each once.
            bytes[..4].copy_from_slice(&n.wrapping_mul(2_654_435_761).to_be_bytes());
            Digest(bytes)
        };
        let (mut one, mut two) = (Store::default(), Store::default());
        (0..all).for_each(|n| assert!(one.insert(id(n), true)));
        (0..all).rev().for_each(|n| assert!(two.insert(id(n), true)));
        assert!(one.same_objects(&two.summary()));
        assert_eq!(one.summary().count, bounds::LIVE_MAX as u64);
        assert!((0..all).all(|n| one.knows(&id(n)) && two.knows(&id(n))));
        assert_eq!((one.check(), two.check()), (Ok(()), Ok(())));
    }
}
