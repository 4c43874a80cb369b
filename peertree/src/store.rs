//! What a node knows of its shell's object store: ids only, never bodies it need not hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use borgios_types::{Digest, NodeId, Time};

use crate::bounds;
use crate::id_set::IdSet;
use crate::message::{Body, Head, Summary};
use crate::sorted::SortedMap;

/// What a node knows of its shell's object store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    /// Objects that are not offered again, at most [`bounds::KNOWN_MAX`].
    known: IdSet,
    /// The same, oldest first.
    order: VecDeque<Digest>,
    /// A part of `known`: what the shell had when a neighbour's copy came, and has not published
    /// here. Its own word may still be on its way, for the two come by different paths.
    quiet: BTreeSet<Digest>,
    /// Objects listed for neighbours that catch up; a part of `known`, without lanes.
    live: IdSet,
    /// Exclusive or of `live`.
    xor: [u8; 32],
    heads: BTreeMap<String, Head>,
    pending: SortedMap<Digest, Pending>,
    /// Objects asked for and not yet received: of whom, and when.
    wanted: BTreeMap<Digest, (NodeId, Time)>,
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
        *self = Self::default();
        for id in live {
            self.insert(id, true);
        }
        self.heads = heads.into_iter().take(bounds::LANES_MAX).collect();
    }

    pub(crate) fn knows(&self, id: &Digest) -> bool {
        self.known.contains(id)
    }

    /// Notes that the shell has this object; false if that was known.
    pub(crate) fn insert(&mut self, id: Digest, live: bool) -> bool {
        self.wanted.remove(&id);
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if live && self.live.insert(id) {
            self.toggle(&id);
        }
        if self.known.len() > bounds::KNOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
            self.quiet.remove(&oldest);
            self.forget(&[oldest]);
        }
        true
    }

    /// Notes that the shell had this object already when a copy came: nobody needs it offered, but
    /// nothing was relayed either.
    pub(crate) fn hold(&mut self, id: Digest) {
        if self.insert(id, false) {
            self.quiet.insert(id);
        }
    }

    /// Notes that the shell publishes this object; false if it was relayed before.
    pub(crate) fn publish(&mut self, id: Digest, live: bool) -> bool {
        if self.insert(id, live) {
            return true;
        }
        let held = self.quiet.remove(&id);
        if held && live && self.live.insert(id) {
            self.toggle(&id);
        }
        held
    }

    /// Lists these no longer. They stay known, or a neighbour that still has them would bring them
    /// back.
    pub(crate) fn forget(&mut self, ids: &[Digest]) {
        for id in ids {
            if self.live.remove(id) {
                self.toggle(id);
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

    pub(crate) fn head(&self, lane: &str) -> u64 {
        self.heads.get(lane).map_or(0, |head| head.seq)
    }

    /// Notes a lane's newest statement; false if there is no room for another lane.
    pub(crate) fn set_head(&mut self, lane: String, head: Head) -> bool {
        if self.heads.len() >= bounds::LANES_MAX && !self.heads.contains_key(&lane) {
            return false;
        }
        self.heads.insert(lane, head);
        true
    }

    /// Of `ids`, those that are lacking and not on their way; they are from now on.
    pub(crate) fn want(&mut self, now: Time, of: NodeId, ids: &[Digest]) -> Vec<Digest> {
        let mut lacking = Vec::new();
        for id in ids {
            let asked =
                self.wanted.get(id).is_some_and(|(_, at)| now.since(*at) < bounds::WANT_TIMEOUT);
            let full = self.wanted.len() >= bounds::WANTED_MAX && !self.wanted.contains_key(id);
            if !asked && !full && !self.knows(id) && !self.pending.contains_key(id) {
                self.wanted.insert(*id, (of, now));
                lacking.push(*id);
            }
        }
        lacking
    }

    /// Drops what was asked for and never came.
    pub(crate) fn sweep(&mut self, now: Time) {
        self.wanted.retain(|_, (_, at)| now.since(*at) < bounds::WANT_TIMEOUT);
    }

    /// What this neighbour was asked for will not come from it.
    pub(crate) fn abandon(&mut self, peer: NodeId) {
        self.wanted.retain(|_, (of, _)| *of != peer);
    }

    /// Begins judging an object; false if it must not be offered now: it is known, being judged
    /// already, or too many are.
    pub(crate) fn begin(&mut self, id: Digest, mut pending: Pending) -> bool {
        if self.knows(&id) {
            return false;
        }
        if let Some(first) = self.pending.get_mut(&id) {
            if first.from != pending.from && first.others.len() < bounds::OTHERS_MAX {
                first.others.insert(pending.from);
            }
            return false;
        }
        pending.asked = self.wanted.remove(&id).is_some();
        if self.pending.len() >= bounds::PENDING_MAX {
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
            && self.live.len() <= self.known.len()
            && self.quiet.len() <= self.known.len()
            && self.pending.len() <= bounds::PENDING_MAX
            && self.wanted.len() <= bounds::WANTED_MAX
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

    #[test]
    fn the_oldest_id_makes_room() {
        let mut store = Store::default();
        for n in 0..=bounds::KNOWN_MAX as u32 {
            store.insert(id(n), true);
        }
        assert!(!store.knows(&id(0)) && store.knows(&id(1)));
        assert_eq!(store.check(), Ok(()));
    }
}
