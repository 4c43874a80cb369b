//! One node's place in the tree, as a state machine without IO.

use borgios_types::{NodeId, Time};

use crate::config::Config;
use crate::io::{Input, Output};
use crate::state::State;

/// One node of the tree.
#[derive(Debug)]
pub struct Node {
    me: NodeId,
    config: Config,
}

impl Node {
    /// Makes a node that does nothing until [`Input::Start`]. `rng_seed` decides every jitter.
    #[must_use]
    pub fn new(me: NodeId, config: Config, rng_seed: u64) -> Self {
        let _ = rng_seed;
        Self { me, config }
    }

    /// Applies one input and returns what the shell must do next, in order.
    ///
    /// Never blocks and never fails: a message the present state has no use for is dropped.
    pub fn handle(&mut self, now: Time, input: Input) -> Vec<Output> {
        let _ = (now, input, &self.config);
        Vec::new()
    }

    /// Who this node is.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.me
    }
    /// The parent, if attached.
    #[must_use]
    pub fn parent(&self) -> Option<NodeId> {
        None
    }
    /// The children, in the order they came.
    #[must_use]
    pub fn children(&self) -> Vec<NodeId> {
        Vec::new()
    }
    /// From the root (first) to this node (last).
    #[must_use]
    pub fn path(&self) -> Vec<NodeId> {
        vec![self.me]
    }
    /// Steps from the root.
    #[must_use]
    pub fn depth(&self) -> usize {
        0
    }
    /// Nodes at and below this one, as the children last reported.
    #[must_use]
    pub fn subtree_size(&self) -> u32 {
        1
    }
    /// Nodes of the whole tree, as the root last reported.
    #[must_use]
    pub fn tree_size(&self) -> u32 {
        1
    }
    /// Parent and children.
    #[must_use]
    pub fn neighbours(&self) -> Vec<NodeId> {
        Vec::new()
    }
    /// This node's place in the tree.
    #[must_use]
    pub fn state(&self) -> State {
        State::Idle
    }
}
