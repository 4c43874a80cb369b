//! Which document goes where too many wait.
//!
//! Whoever holds t shares can sign any number of documents. That must not keep out what the board says
//! against it, in the lane `policy` above all, nor what a recovery key signs. So the lane of which most
//! wait gives up its last: what comes at an earlier place of it, and in every other lane, comes in.

use std::collections::{BTreeMap, BTreeSet};

use borgios_types::{Digest, UnixSeconds};

use super::doc::Doc;
use super::{DOCS_BYTES, DOCS_MAX, Gate};
use crate::chain::Chain;

impl Gate {
    /// Lets go of one document where too many wait, or too long ones: the last by its place of the lane
    /// that has most, in number or in bytes, but before that what is dead and nothing builds upon. It
    /// can be brought again. What the recovery key signed is counted as a lane of its own. Returns
    /// whether one went.
    ///
    /// Which ones stay follows from all that was brought, and not from the order in which it came, but
    /// where they differ much in length.
    pub(super) fn make_room(&mut self, now: UnixSeconds, chain: &Chain) -> bool {
        let many = self.docs.len() > DOCS_MAX;
        if !many && self.docs.values().map(Doc::bytes).sum::<usize>() <= DOCS_BYTES {
            return false;
        }
        let mut counts = BTreeMap::new();
        for doc in self.docs.values() {
            let count = counts.entry((doc.statement.lane, doc.recovery)).or_insert(0_usize);
            *count += if many { 1 } else { doc.bytes() };
        }
        let full = counts.into_iter().max_by_key(|(group, count)| (*count, *group));
        let Some((full, _)) = full else { return false };
        let built: BTreeSet<Digest> =
            self.docs.values().filter_map(|doc| self.below(chain, &doc.statement)).collect();
        let last = self
            .docs
            .iter()
            .filter(|(_, doc)| (doc.statement.lane, doc.recovery) == full)
            .max_by_key(|(id, doc)| {
                let idle = !built.contains(*id) && self.dead(now, chain, **id, doc).is_some();
                (idle, doc.statement.seq, **id)
            });
        let last = last.map(|(id, _)| *id);
        last.is_some_and(|last| self.docs.remove(&last).is_some())
    }
}
