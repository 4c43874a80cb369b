//! What enough governors took back, and what the board builds upon all the same.
//!
//! ```text
//! n/5 ── enough vetoes ──▶ dead ── n/6, signed upon it by the same board, is through its own lock ──▶ as before
//! ```
//!
//! Vetoes that come to some holders within a lock and to others after it leave them with different
//! states. Nobody can take back what was applied, so what ends the split is the board's later word:
//! who vetoes needs one who approved, so t governors who go on from there have a voice more than
//! those who took it back. Until that word is through a lock of its own it can be vetoed as well.

use borgios_types::{Digest, UnixSeconds};

use super::Gate;
use super::doc::{Doc, since};
use super::standing::Standing;
use crate::chain::Chain;
use crate::name::Name;

/// What is dead.
pub(super) struct Dead {
    /// Who took it back.
    pub(super) by: Vec<Name>,
    /// When it comes back, if nobody objects to what builds upon it.
    pub(super) back: Option<UnixSeconds>,
}

impl Gate {
    /// Who killed it, unless something brought it back since.
    pub(super) fn dead(
        &self,
        now: UnixSeconds,
        chain: &Chain,
        id: Digest,
        doc: &Doc,
    ) -> Option<Dead> {
        let by = self.vetoed(chain, id, doc)?;
        let upon = self.docs.iter().filter(|(_, next)| next.statement.prev == Some(id));
        let back = upon.filter_map(|(upon, next)| self.brings_back(now, chain, *upon, next)).min();
        back.is_none_or(|back| now < back).then_some(Dead { by, back })
    }

    /// Who killed it, if enough of one board did: see [`Chain::veto_boards`].
    pub(super) fn vetoed(&self, chain: &Chain, id: Digest, doc: &Doc) -> Option<Vec<Name>> {
        let place = (doc.statement.lane, doc.statement.seq);
        chain.veto_boards(&doc.statement, id).into_iter().find_map(|(board, needed)| {
            let voices = self.vetoes.of_board(&id, board.group(), place);
            let by: Vec<Name> = voices.map(|voice| voice.objection.governor.clone()).collect();
            (by.len() >= usize::from(needed)).then_some(by)
        })
    }

    /// From when on a document that builds upon a dead one brings that back.
    ///
    /// Only a word of the board in force does: under another group key nobody who took it back would
    /// have a voice against it. And not one of two that the board said for one place.
    fn brings_back(
        &self,
        now: UnixSeconds,
        chain: &Chain,
        id: Digest,
        doc: &Doc,
    ) -> Option<UnixSeconds> {
        let in_force = chain.policy()?;
        let ahead = self.ancestry(chain, &doc.statement);
        let named = ahead.policy_at(doc.statement.policy?)?;
        if doc.recovery || named.board.group() != in_force.board.group() {
            return None;
        }
        let place = |doc: &Doc| (doc.statement.lane, doc.statement.seq, doc.statement.prev);
        let beside = self.docs.iter().filter(|(other, rival)| {
            **other != id && place(rival) == place(doc) && !rival.recovery
        });
        if beside.into_iter().any(|(other, rival)| self.vetoed(chain, *other, rival).is_none()) {
            return None;
        }
        // The rules that it follows may be those of the dead one; they shorten no lock.
        let class = ahead.class_for(&doc.statement, id)?;
        let lock = class.lock().max(in_force.class_of(&doc.statement).lock());
        let mut at = self.until(now, since(now, doc.seen, doc.was), lock);
        match self.dead(now, chain, id, doc) {
            Some(Dead { back, .. }) => at = at.max(back?),
            None => {}
        }
        if let Some(Standing::Paused { until, .. }) = self.paused(now, chain, id, doc) {
            at = at.max(until);
        }
        Some(at)
    }
}
