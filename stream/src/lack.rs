//! What is missing of one stream: who says to have it, who was asked for it, what came of that.

use std::collections::{BTreeMap, BTreeSet};

use borgios_types::Time;

use crate::io::LinkId;
use crate::position::Position;

/// What is missing of a stream. Each list has at most one entry for a link.
#[derive(Debug, Default)]
pub(crate) struct Lack {
    /// How far neighbours say to have it, beyond what is here.
    pub(crate) claims: BTreeMap<LinkId, Position>,
    /// How often each was asked in vain since something last came.
    pub(crate) asked: BTreeMap<LinkId, u32>,
    /// The request under way.
    pub(crate) fetch: Option<Fetching>,
    /// No request before this time.
    pub(crate) retry_at: Time,
    /// What neighbours say is the first message that they still have.
    pub(crate) gone: BTreeMap<LinkId, Position>,
    /// Since when one says so.
    pub(crate) gone_since: Time,
    /// Neighbours whose next message begins another epoch.
    pub(crate) ends: BTreeSet<LinkId>,
    /// A cross link has messages up to here; the tree's turn ends at this time.
    pub(crate) grace: Option<(Position, LinkId, Time)>,
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetching {
    pub(crate) link: LinkId,
    /// `seen` at the time of the request.
    pub(crate) seen: Position,
    pub(crate) since: Time,
    /// Batches of the answer that have not come yet; `None` until it begins.
    pub(crate) left: Option<u32>,
    /// Whether the answer may begin behind a hole, because nobody has what is missing any more.
    pub(crate) jump: bool,
}

impl Lack {
    /// Something came: everybody is as good as before.
    pub(crate) fn progressed(&mut self) {
        self.asked.clear();
        self.gone.clear();
        self.ends.clear();
    }

    /// Nothing is missing any more, or nobody has it.
    pub(crate) fn forget(&mut self) {
        self.claims.clear();
        self.progressed();
    }

    /// A link is gone, with what its neighbour said.
    pub(crate) fn lose(&mut self, link: LinkId) {
        self.claims.remove(&link);
        self.asked.remove(&link);
        self.gone.remove(&link);
        self.ends.remove(&link);
        self.fetch.take_if(|fetch| fetch.link == link);
    }

    /// How often a link was asked in vain.
    pub(crate) fn times_asked(&self, link: LinkId) -> u32 {
        self.asked.get(&link).copied().unwrap_or(0)
    }

    /// The request to a link brought nothing.
    pub(crate) fn in_vain(&mut self, link: LinkId) {
        *self.asked.entry(link).or_default() += 1;
    }
}
