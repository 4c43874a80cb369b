//! What is known of one link, whatever the peer is to this node.

use std::collections::BTreeSet;

use borgios_types::{Digest, NodeId, Time};

use crate::contact::{Address, Spot};
use crate::fetch::Owes;
use crate::message::Head;
use crate::sorted::SortedMap;

/// What is known of one link, whatever the peer is to this node.
///
/// Whether the peer is parent, child or neither stands in one place only: the node's phase and its
/// list of children.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// Where the peer can be dialled, by its join record.
    pub(crate) address: Option<Address>,
    /// When the link came up.
    pub(crate) since: Time,
    /// When the peer last said anything.
    pub(crate) heard: Time,
    /// When anything was last said to the peer.
    pub(crate) said: Time,
    /// When the peer was last asked for a sign of life.
    pub(crate) asked: Time,
    /// Refused objects and senseless messages; halved now and then.
    pub(crate) penalty: u32,
    /// Objects of this link that were refused: it does not get a second try with them.
    pub(crate) refused: BTreeSet<Digest>,
    /// Requests answered since this was last forgiven.
    pub(crate) served: u32,
    /// Messages that were neither objects nor requests since this was last forgiven.
    pub(crate) chatter: u32,
    /// Objects that were no news since this was last forgiven.
    pub(crate) useless: u32,
    /// What it brought a copy of a moment after that had entered here, since this was last forgiven; at
    /// most [`FRESH_MAX`](crate::bounds::FRESH_MAX).
    pub(crate) echoed: Option<Box<Echoed>>,
    /// The next beat is a digest.
    pub(crate) due: bool,
    /// A digest was sent; the peer's summary, if it sends one, is answered with the own.
    pub(crate) comparing: bool,
    /// The own digest when the two ends last compared, whoever began.
    pub(crate) compared: Option<u64>,
    /// They were alike then, as far as this end heard.
    pub(crate) alike: bool,
    /// What it was asked for and has not brought.
    pub(crate) owes: Option<Box<Owes>>,
    /// How often in a row it brought nothing of what it was asked for.
    pub(crate) strikes: u32,
    /// Pages of the peer's inventory still coming.
    pub(crate) paging: Option<Box<Paging>>,
    /// The last walk through its inventory.
    pub(crate) walked: Option<Box<Walked>>,
    /// The peer's lane heads, by its last summary.
    pub(crate) heads: SortedMap<String, Head>,
    /// Lanes asked for.
    pub(crate) following: SortedMap<String, Followed>,
    /// When the peer last named a rival root.
    pub(crate) rival_at: Option<Time>,
    /// How often that came to nothing.
    pub(crate) rival_failed: u32,
}

/// Objects that a neighbour brought a copy of a moment after they had entered here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Echoed {
    pub(crate) ids: BTreeSet<Digest>,
    /// Copies until is looked again which of them are fresh no more, should there be no room.
    pub(crate) pause: usize,
}

/// A lane that a neighbour was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Followed {
    /// After which number.
    pub(crate) after: u64,
    /// When.
    pub(crate) at: Time,
    /// Statements of the answer that may still be of no use here.
    pub(crate) useless: u32,
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
    /// The next page is asked for when some of what was asked for is here.
    pub(crate) waits: bool,
    /// What was compared when it began: the own digest and the peer's.
    pub(crate) of: (u64, u64),
}

/// The end of a walk through a neighbour's inventory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walked {
    /// When.
    pub(crate) at: Time,
    /// How many pages it took.
    pub(crate) pages: usize,
    /// What was compared when it began: the own digest and the peer's.
    pub(crate) of: (u64, u64),
    /// How many there were in a row of the same.
    pub(crate) times: u32,
}

impl Link {
    pub(crate) fn new(now: Time, address: Option<Address>) -> Self {
        Self {
            address,
            since: now,
            heard: now,
            said: now,
            asked: now,
            penalty: 0,
            refused: BTreeSet::new(),
            served: 0,
            chatter: 0,
            useless: 0,
            echoed: None,
            due: false,
            comparing: false,
            compared: None,
            alike: false,
            owes: None,
            strikes: 0,
            paging: None,
            walked: None,
            heads: SortedMap::new(),
            following: SortedMap::new(),
            rival_at: None,
            rival_failed: 0,
        }
    }
}

/// What a parent knows of a child.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    /// Children are numbered as they come; the lowest number is the first heir.
    pub(crate) order: u64,
    /// Where it can be dialled; `None` for one that must stay a leaf.
    pub(crate) address: Option<Address>,
    /// Nodes at and below it.
    pub(crate) size: u32,
    /// The shallowest free place at or below it, which is at depth 0.
    pub(crate) free: Option<Spot>,
    /// Joiners sent there since its last report: spreads a crowd over the children.
    pub(crate) redirected: u32,
    /// Joiners that could not reach it, at most [`UNREACHABLE_CLAIMS`](crate::bounds::UNREACHABLE_CLAIMS).
    pub(crate) unreachable_by: Vec<NodeId>,
}
