//! What is known of one link, whatever the peer is to this node.

use std::collections::{BTreeMap, BTreeSet};

use borgios_types::{Digest, Time};

use crate::contact::Spot;
use crate::message::Head;

/// What is known of one link, whatever the peer is to this node.
///
/// Whether the peer is parent, child or neither stands in one place only: the node's phase and its
/// list of children.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// Where the peer can be dialled, by its join record.
    pub(crate) address: Option<String>,
    /// When the link came up.
    pub(crate) since: Time,
    /// When the peer last said anything.
    pub(crate) heard: Time,
    /// Refused objects and senseless messages; halved now and then.
    pub(crate) penalty: u32,
    /// Objects of this link that were refused: it does not get a second try with them.
    pub(crate) refused: BTreeSet<Digest>,
    /// Requests answered since the last anti-entropy tick.
    pub(crate) served: u32,
    /// Pages of the peer's inventory still coming.
    pub(crate) paging: Option<Paging>,
    /// The peer's lane heads, by its last summary.
    pub(crate) heads: BTreeMap<String, Head>,
    /// Lanes asked for: after which number, and when.
    pub(crate) following: BTreeMap<String, (u64, Time)>,
    /// When the peer last named a rival root.
    pub(crate) rival_at: Option<Time>,
}

/// A walk through a neighbour's inventory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paging {
    /// When the last page was asked for.
    pub(crate) asked: Time,
    /// The last id seen.
    pub(crate) after: Option<Digest>,
    /// Pages asked for so far.
    pub(crate) pages: usize,
}

impl Link {
    pub(crate) fn new(now: Time, address: Option<String>) -> Self {
        Self {
            address,
            since: now,
            heard: now,
            penalty: 0,
            refused: BTreeSet::new(),
            served: 0,
            paging: None,
            heads: BTreeMap::new(),
            following: BTreeMap::new(),
            rival_at: None,
        }
    }
}

/// What a parent knows of a child.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    /// Children are numbered as they come; the lowest number is the first heir.
    pub(crate) order: u64,
    /// Where it can be dialled; `None` for one that must stay a leaf.
    pub(crate) address: Option<String>,
    /// Nodes at and below it.
    pub(crate) size: u32,
    /// The shallowest free place at or below it, which is at depth 0.
    pub(crate) free: Option<Spot>,
    /// Joiners sent there since its last report: spreads a crowd over the children.
    pub(crate) redirected: u32,
}
