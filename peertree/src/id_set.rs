//! A set of ids that is small while it holds few, and quick when it holds many.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

use borgios_types::Digest;

/// Ids held in a plain vector; beyond it a tree takes over, and stays.
const FEW: usize = 32;

/// A set of ids, in order.
#[derive(Clone, Debug)]
pub(crate) enum IdSet {
    /// At most [`FEW`], sorted.
    Few(Vec<Digest>),
    /// Any number.
    Many(BTreeSet<Digest>),
}

impl Default for IdSet {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl IdSet {
    pub(crate) fn contains(&self, id: &Digest) -> bool {
        match self {
            Self::Few(few) => few.binary_search(id).is_ok(),
            Self::Many(many) => many.contains(id),
        }
    }

    /// Adds an id; false if it was there.
    pub(crate) fn insert(&mut self, id: Digest) -> bool {
        match self {
            Self::Many(many) => many.insert(id),
            Self::Few(few) => {
                let Err(at) = few.binary_search(&id) else { return false };
                if few.len() == FEW {
                    let mut many: BTreeSet<Digest> = few.drain(..).collect();
                    many.insert(id);
                    *self = Self::Many(many);
                } else {
                    if few.len() == few.capacity() {
                        few.reserve_exact(1 + few.len() / 2);
                    }
                    few.insert(at, id);
                }
                true
            }
        }
    }

    /// Removes an id; false if it was not there.
    pub(crate) fn remove(&mut self, id: &Digest) -> bool {
        match self {
            Self::Many(many) => many.remove(id),
            Self::Few(few) => few.binary_search(id).map(|at| few.remove(at)).is_ok(),
        }
    }

    /// Removes the last one.
    pub(crate) fn pop_last(&mut self) -> Option<Digest> {
        match self {
            Self::Many(many) => many.pop_last(),
            Self::Few(few) => few.pop(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len(),
            Self::Many(many) => many.len(),
        }
    }

    /// At most `count` ids that follow `after`, in order.
    pub(crate) fn after(&self, after: Option<Digest>, count: usize) -> Vec<Digest> {
        match self {
            Self::Few(few) => {
                let start = after.map_or(0, |after| few.partition_point(|id| *id <= after));
                few[start..].iter().take(count).copied().collect()
            }
            Self::Many(many) => {
                let start = after.map_or(Unbounded, Excluded);
                many.range((start, Unbounded)).take(count).copied().collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_or_many_it_is_the_same_set() {
        let ids: Vec<Digest> = (0..3 * FEW as u32).map(|n| Digest::of(&n.to_le_bytes())).collect();
        let (mut set, mut model) = (IdSet::default(), BTreeSet::new());
        for (count, id) in ids.iter().enumerate() {
            assert!(!set.contains(id) && set.insert(*id) && !set.insert(*id));
            model.insert(*id);
            assert_eq!(set.len(), count + 1);
            let all: Vec<Digest> = model.iter().copied().collect();
            assert_eq!(set.after(None, usize::MAX), all);
            assert_eq!(
                set.after(Some(all[count / 2]), 5),
                all[count / 2 + 1..].iter().copied().take(5).collect::<Vec<_>>()
            );
            let mut shorter = set.clone();
            assert_eq!((shorter.pop_last(), shorter.len()), (model.last().copied(), count));
            assert!(count % 2 == 0 || (set.remove(&all[0]) && set.insert(all[0])));
        }
    }
}
