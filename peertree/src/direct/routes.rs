//! Behind which child a node was found, for a while.

use std::collections::{BTreeMap, BTreeSet};

use borgios_types::{NodeId, Time};

use super::bounds::{ROUTE_LIFE, ROUTES_MAX};

/// The ways that are remembered; the oldest makes room.
#[derive(Debug, Default)]
pub struct Routes {
    by_node: BTreeMap<NodeId, (NodeId, Time)>,
    by_age: BTreeSet<(Time, NodeId)>,
}

impl Routes {
    /// Notes that `node` was found behind `via`.
    pub fn learn(&mut self, now: Time, node: NodeId, via: NodeId) {
        self.forget(&node);
        if self.by_node.len() >= ROUTES_MAX
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_node.remove(&oldest);
        }
        self.by_node.insert(node, (via, now));
        self.by_age.insert((now, node));
    }

    /// Behind which child a node was found lately.
    #[must_use]
    pub fn via(&self, now: Time, node: &NodeId) -> Option<NodeId> {
        let (via, since) = self.by_node.get(node)?;
        (now.since(*since) <= ROUTE_LIFE).then_some(*via)
    }

    /// Forgets the way to a node.
    pub fn forget(&mut self, node: &NodeId) {
        if let Some((_, since)) = self.by_node.remove(node) {
            self.by_age.remove(&(since, *node));
        }
    }

    /// Keeps the ways behind these children only.
    pub fn keep(&mut self, children: &BTreeSet<NodeId>) {
        self.by_node.retain(|_, (via, _)| children.contains(via));
        let by_node = &self.by_node;
        self.by_age.retain(|(_, node)| by_node.contains_key(node));
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        debug_assert_eq!(self.by_node.len(), self.by_age.len());
        self.by_node.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use borgios_types::SecretKey;

    use super::*;

    fn key(number: u64) -> NodeId {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        SecretKey::from_seed(seed).public()
    }

    #[test]
    fn the_oldest_way_makes_room_and_each_ends() {
        let mut routes = Routes::default();
        let keys: Vec<NodeId> = (0..=ROUTES_MAX as u64).map(key).collect();
        for (at, node) in keys.iter().enumerate() {
            routes.learn(Time(at as u64), *node, keys[0]);
        }
        assert_eq!(routes.len(), ROUTES_MAX);
        let now = Time(ROUTES_MAX as u64);
        assert_eq!(routes.via(now, &keys[0]), None);
        assert_eq!(routes.via(now, &keys[1]), Some(keys[0]));
        routes.learn(now, keys[1], keys[5]);
        assert_eq!((routes.len(), routes.via(now, &keys[1])), (ROUTES_MAX, Some(keys[5])));
        assert_eq!(
            routes.via(now + ROUTE_LIFE + std::time::Duration::from_millis(1), &keys[1]),
            None
        );
        routes.keep(&[keys[5]].into());
        assert_eq!(routes.len(), 1);
        routes.forget(&keys[1]);
        assert!(routes.is_empty());
    }
}
