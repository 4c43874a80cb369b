//! What a run of a million nodes is asked for, and what it says.

use std::time::Duration;

use serde::Serialize;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Machines.
    pub nodes: u32,
    /// Most children of a node.
    pub fanout: u16,
    /// Time a message takes from node to node.
    pub hop: Duration,
    /// Share of the machines that leave, and as many come, while it churns.
    pub churn: f64,
    /// Share of the machines that die at once.
    pub deaths: f64,
    /// Decides everything.
    pub seed: u64,
}

impl Plan {
    /// Members that invitations name: as many whole upper levels as have a thousand nodes at most, and a
    /// tenth of the machines. The root alone takes part in 128 conversations with strangers at a time, some
    /// thousand joins a second.
    #[must_use]
    pub fn named(&self) -> u32 {
        let most = (self.nodes / 10).min(1_000);
        let (mut width, mut named) = (1_u32, 1_u32);
        while named + width * u32::from(self.fanout) <= most {
            width *= u32::from(self.fanout);
            named += width;
        }
        named
    }

    /// Joins a second at most: the last doublings of the fleet take ten seconds.
    #[must_use]
    pub fn joins_per_s(&self) -> u32 {
        (self.nodes / 10).max(50)
    }
}

/// Bytes of live heap, now and at most so far; whoever runs this counts them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap {
    /// Now.
    pub live: u64,
    /// At most since the start.
    pub peak: u64,
}

/// What was seen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Most children of a node.
    pub fanout: u16,
    /// Machines, after the churn.
    pub nodes: u64,
    /// Steps from the root to the deepest node, after churn.
    pub depth: u32,
    /// The least that many nodes can have at this fan-out.
    pub minimum_depth: u32,
    /// The same before churn.
    pub depth_joined: u32,
    /// Messages that carried one broadcast, after churn.
    pub transmissions: u64,
    /// When the last node had it, in milliseconds.
    pub last_ms: u64,
    /// Time from the deaths until the survivors were one tree, in virtual seconds.
    pub heal_virtual_s: f64,
    /// Survivors of the deaths.
    pub survivors: u64,
    /// Steps from the root to the deepest survivor when they had healed.
    pub depth_healed: u32,
    /// Messages that carried one broadcast to the survivors.
    pub transmissions_healed: u64,
    /// Peak of the live heap without what the simulator keeps for itself (keys, addresses, ends of
    /// links, the queue's buckets; messages under way count), divided by the machines.
    pub bytes_per_node: u64,
    /// Peak of the live heap of the whole process, divided by the machines.
    pub process_bytes_per_node: u64,
    /// What one node's state alone holds at rest: the heap that goes when nodes go.
    pub state_bytes_per_node: u64,
    /// Virtual seconds after churn until the depth was the least or one more.
    pub flat_after_s: f64,
    /// Virtual time in all, in seconds.
    pub virtual_s: f64,
    /// Events in all.
    pub events: u64,
    /// Dials a joiner needed on average.
    pub dials_per_join: f64,
    /// Times that every node was checked.
    pub checks: u32,
}

/// Steps from the root to the deepest of `nodes` nodes in the flattest tree of this fan-out.
#[must_use]
pub fn minimum_depth(nodes: u64, fanout: u16) -> u32 {
    let (mut depth, mut width, mut room) = (0, 1_u64, 1_u64);
    while room < nodes {
        width *= u64::from(fanout);
        room += width;
        depth += 1;
    }
    depth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_depth_is_that_of_a_full_tree() {
        for (nodes, fanout, depth) in
            [(1, 3, 0), (4, 3, 1), (5, 3, 2), (1_000_000, 3, 13), (1_000_000, 10, 6)]
        {
            assert_eq!(minimum_depth(nodes, fanout), depth, "{nodes} nodes at {fanout}");
        }
        assert_eq!(minimum_depth(1_000_000, 25), 5);
        assert_eq!(minimum_depth(1_000_000, 100), 3);
    }
}
