//! A node's place in the tree, as others may see it.

use borgios_types::NodeId;
use serde::{Deserialize, Serialize};

/// A node's place in the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// Not started, or stopped.
    Idle,
    /// Looking for a parent, its children still with it.
    Seeking {
        /// Rounds without success so far.
        round: u32,
    },
    /// Has a parent.
    Attached {
        /// The parent.
        parent: NodeId,
        /// From the root (first) to this node (last).
        path: Vec<NodeId>,
    },
    /// The topmost node, which has no authority.
    Root,
}
