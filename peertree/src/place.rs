//! What a node says of its place in the tree: read by shells, simulators and tests, changed by
//! nothing here.

use borgios_types::NodeId;

use crate::contact::Contact;
use crate::node::{Node, Phase};
use crate::state::State;

impl Node {
    /// Who this node is.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.me
    }

    /// The parent, if attached.
    #[must_use]
    pub fn parent(&self) -> Option<NodeId> {
        match &self.phase {
            Phase::Attached { parent, .. } => Some(*parent),
            Phase::Idle | Phase::Seeking(_) | Phase::Root => None,
        }
    }

    /// The children, in the order they came.
    #[must_use]
    pub fn children(&self) -> Vec<NodeId> {
        let mut children: Vec<_> = self.children.iter().collect();
        children.sort_by_key(|(_, child)| child.order);
        children.into_iter().map(|(id, _)| *id).collect()
    }

    /// From the root (first) to this node (last); of a node without a parent, itself.
    #[must_use]
    pub fn path(&self) -> Vec<NodeId> {
        let mut path: Vec<NodeId> = match &self.phase {
            Phase::Attached { down, .. } => down.path.iter().map(|contact| contact.id).collect(),
            Phase::Idle | Phase::Seeking(_) | Phase::Root => Vec::new(),
        };
        path.push(self.me);
        path
    }

    /// Steps from the root.
    #[must_use]
    pub fn depth(&self) -> usize {
        match &self.phase {
            Phase::Attached { down, .. } => down.path.len(),
            Phase::Idle | Phase::Seeking(_) | Phase::Root => 0,
        }
    }

    /// Nodes at and below this one, as the children last reported.
    #[must_use]
    pub fn subtree_size(&self) -> u32 {
        self.children.values().fold(1, |sum: u32, child| sum.saturating_add(child.size))
    }

    /// Nodes of the whole tree, as the root last reported.
    #[must_use]
    pub fn tree_size(&self) -> u32 {
        match &self.phase {
            Phase::Attached { down, .. } => down.tree_size,
            Phase::Idle | Phase::Seeking(_) | Phase::Root => self.subtree_size(),
        }
    }

    /// Parent and children.
    #[must_use]
    pub fn neighbours(&self) -> Vec<NodeId> {
        self.parent().into_iter().chain(self.children()).collect()
    }

    /// Most children allowed now.
    #[must_use]
    pub fn fanout(&self) -> u16 {
        self.config.fanout
    }

    /// This node's place in the tree.
    #[must_use]
    pub fn state(&self) -> State {
        match &self.phase {
            Phase::Idle => State::Idle,
            Phase::Seeking(seek) => State::Seeking { round: seek.round() },
            Phase::Attached { parent, .. } => {
                State::Attached { parent: *parent, path: self.path() }
            }
            Phase::Root => State::Root,
        }
    }

    /// Whether this is a child.
    #[must_use]
    pub fn has_child(&self, id: &NodeId) -> bool {
        self.children.contains_key(id)
    }

    /// Whether this node's path is that of `parent`, and the step to it.
    #[must_use]
    pub fn is_under(&self, parent: &Self) -> bool {
        let Phase::Attached { parent: id, down } = &self.phase else { return false };
        let above: &[Contact] = match &parent.phase {
            Phase::Attached { down, .. } => &down.path,
            Phase::Idle | Phase::Seeking(_) | Phase::Root => &[],
        };
        *id == parent.me
            && down.path.split_last().is_some_and(|(last, path)| last.id == *id && path == above)
    }
}
