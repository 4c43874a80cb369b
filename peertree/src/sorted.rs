//! A map for few entries: one sorted vector, which costs what it holds.
//!
//! A node has a handful of links and children, and a server may run next to a million simulated
//! ones. The first entry of a `BTreeMap` takes room for eleven; here it takes room for one. The
//! order is that of the keys, as in a `BTreeMap`, so replays do not change. Inserting moves what
//! comes after: right for hundreds of entries, wrong for many thousands.

use borgios_types::{Digest, NodeId};

/// A key whose first bytes nearly always decide.
pub(crate) trait Key: Ord {
    /// Its first eight bytes as a number: smaller numbers mean smaller keys, equal ones mean nothing.
    fn first(&self) -> u64;

    /// What `Ord` says, without a call to compare all bytes where the first ones differ: keys are
    /// compared more often than anything else is done.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        self.first().cmp(&other.first()).then_with(|| self.cmp(other))
    }
}

fn first(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    let count = bytes.len().min(8);
    first[..count].copy_from_slice(&bytes[..count]);
    u64::from_be_bytes(first)
}

impl Key for NodeId {
    fn first(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.to_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl Key for Digest {
    fn first(&self) -> u64 {
        first(&self.0)
    }
}

impl Key for String {
    fn first(&self) -> u64 {
        first(self.as_bytes())
    }
}

/// A map for few entries, in the order of their keys.
#[derive(Clone, Debug)]
pub(crate) struct SortedMap<K, V> {
    entries: Vec<(K, V)>,
    changes: u32,
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self { entries: Vec::new(), changes: 0 }
    }
}

impl<K: Key, V> SortedMap<K, V> {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// How often an entry came or went: equal counts mean equal keys.
    pub(crate) fn changes(&self) -> u32 {
        self.changes
    }

    fn find(&self, key: &K) -> Result<usize, usize> {
        self.entries.binary_search_by(|(known, _)| known.order(key))
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.find(key).ok().map(|at| &self.entries[at].1)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.find(key).ok().map(|at| &mut self.entries[at].1)
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.find(key).is_ok()
    }

    /// Adds an entry, or replaces its value; returns the value replaced.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.changes = self.changes.wrapping_add(1);
        match self.find(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.entries[at].1, value)),
            Err(at) => {
                if self.entries.len() == self.entries.capacity() {
                    // A quarter more, not twice as much: most maps stop growing after one or two.
                    self.entries.reserve_exact(1 + self.entries.len() / 4);
                }
                self.entries.insert(at, (key, value));
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.find(key).ok()?;
        let (_, value) = self.remove_at(at);
        Some(value)
    }

    /// The entry at this place of the order; must be less than [`SortedMap::len`].
    pub(crate) fn remove_at(&mut self, at: usize) -> (K, V) {
        self.changes = self.changes.wrapping_add(1);
        let entry = self.entries.remove(at);
        let len = self.entries.len();
        if self.entries.capacity() > len + 1 + len / 2 {
            self.entries.shrink_to(len);
        }
        entry
    }

    pub(crate) fn pop_first(&mut self) -> Option<(K, V)> {
        (!self.entries.is_empty()).then(|| self.remove_at(0))
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        let before = self.entries.len();
        self.entries.retain_mut(|(key, value)| keep(key, value));
        self.changes = self.changes.wrapping_add(u32::from(before != self.entries.len()));
    }

    pub(crate) fn clear(&mut self) {
        self.changes = self.changes.wrapping_add(1);
        self.entries = Vec::new();
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> + '_ {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    /// Every entry, with what `other` has for its key. One walk along both, where looking each key up
    /// would cost its logarithm and a miss of the cache for each step.
    pub(crate) fn beside<'a, W>(
        &'a self,
        other: &'a SortedMap<K, W>,
    ) -> impl Iterator<Item = (&'a K, &'a V, Option<&'a W>)> + 'a {
        let mut others = other.entries.iter().peekable();
        self.entries.iter().map(move |(key, value)| {
            while others.next_if(|(known, _)| known.order(key).is_lt()).is_some() {}
            let found = others.next_if(|(known, _)| known == key);
            (key, value, found.map(|(_, value)| value))
        })
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> + '_ {
        self.entries.iter().map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> + '_ {
        self.entries.iter().map(|(_, value)| value)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> + '_ {
        self.entries.iter_mut().map(|(key, value)| (&*key, value))
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> + '_ {
        self.entries.iter_mut().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    impl Key for u32 {
        fn first(&self) -> u64 {
            // As if there were few bytes to decide by.
            u64::from(*self / 16)
        }
    }

    #[test]
    fn keys_come_in_the_order_of_all_their_bytes() {
        let texts = ["", "a", "a\0", "abcdefgh", "abcdefghi", "abcdefgi", "b", "release"];
        let texts = texts.map(str::to_owned);
        let digests: Vec<Digest> = (0..99_u32).map(|n| Digest::of(&n.to_le_bytes())).collect();
        for (one, two) in texts.iter().flat_map(|one| texts.iter().map(move |two| (one, two))) {
            assert_eq!(one.order(two), one.cmp(two), "{one} {two}");
        }
        for pair in digests.windows(2) {
            assert_eq!(pair[0].order(&pair[1]), pair[0].cmp(&pair[1]));
            let keys = [0, 1].map(|at| borgios_types::SecretKey::from_seed(pair[at].0).public());
            assert_eq!(keys[0].order(&keys[1]), keys[0].cmp(&keys[1]));
        }
    }

    #[test]
    fn does_what_a_btree_map_does() {
        let (mut sorted, mut tree) = (SortedMap::new(), BTreeMap::new());
        // A walk through all residues: inserts, replaces and removes in a scattered order.
        for step in 0..2_000_u32 {
            let key = step.wrapping_mul(2_654_435_761) % 61;
            if step % 3 == 0 {
                assert_eq!(sorted.remove(&key), tree.remove(&key), "step {step}");
            } else {
                assert_eq!(sorted.insert(key, step), tree.insert(key, step), "step {step}");
            }
            assert_eq!(sorted.get(&key), tree.get(&key), "step {step}");
        }
        assert!(sorted.iter().eq(tree.iter()));
        sorted.retain(|key, _| key % 2 == 0);
        tree.retain(|key, _| key % 2 == 0);
        assert!(sorted.keys().eq(tree.keys()) && sorted.len() == tree.len());
        assert_eq!(sorted.pop_first(), tree.pop_first());
    }

    #[test]
    fn two_maps_are_walked_side_by_side() {
        let (mut one, mut two) = (SortedMap::new(), SortedMap::new());
        for key in 0..60_u32 {
            if key % 3 != 0 {
                one.insert(key, key);
            }
            if key % 2 == 0 {
                two.insert(key, key);
            }
        }
        let beside: Vec<_> = one.beside(&two).collect();
        let looked_up: Vec<_> = one.iter().map(|(key, value)| (key, value, two.get(key))).collect();
        assert_eq!(beside, looked_up);
    }

    #[test]
    fn a_change_of_keys_is_counted() {
        let mut sorted = SortedMap::new();
        let counts: Vec<u32> = [(1_u32, 1), (2, 2)]
            .map(|(key, value)| {
                sorted.insert(key, value);
                sorted.changes()
            })
            .into();
        sorted.remove(&1);
        assert!(counts[0] < counts[1] && counts[1] < sorted.changes());
    }
}
