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

use std::collections::{BTreeMap, BTreeSet};

use borgios_types::{Digest, UnixSeconds};

use super::Gate;
use super::doc::{Doc, since};
use super::standing::Standing;
use crate::access::AccessOrder;
use crate::chain::Chain;
use crate::lane::Lane;
use crate::name::Name;
use crate::policy::Policy;
use crate::statement::Statement;

/// What builds upon each document, or upon what is applied.
type Upon<'a> = BTreeMap<Digest, Vec<(Digest, &'a Doc)>>;

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
        // Most are not, and need no look at the others.
        self.vetoed(chain, id, doc)?;
        let mut upon = Upon::new();
        for (id, doc) in &self.docs {
            if let Some(below) = self.below(chain, &doc.statement) {
                upon.entry(below).or_default().push((*id, doc));
            }
        }
        self.dead_below(now, chain, id, doc, &upon)
    }

    fn dead_below(
        &self,
        now: UnixSeconds,
        chain: &Chain,
        id: Digest,
        doc: &Doc,
        upon: &Upon<'_>,
    ) -> Option<Dead> {
        let by = self.vetoed(chain, id, doc)?;
        let nexts = upon.get(&id).into_iter().flatten();
        let back =
            nexts.filter_map(|(id, next)| self.brings_back(now, chain, *id, next, upon)).min();
        back.is_none_or(|back| now < back).then_some(Dead { by, back })
    }

    /// Who killed it, if enough of one board did: see [`Chain::veto_boards`].
    pub(super) fn vetoed(&self, chain: &Chain, id: Digest, doc: &Doc) -> Option<Vec<Name>> {
        // As on laptops: what has no lock by its nature is not taken back while it waits for its turn.
        if AccessOrder::shuts(&doc.statement) {
            return None;
        }
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
        upon: &Upon<'_>,
    ) -> Option<UnixSeconds> {
        let in_force = chain.policy()?;
        // Nothing is verified here, which would cost much in a long run of vetoed ones: each was when
        // it came in, and is once more before it is applied.
        let named = self.named(chain, doc)?;
        if doc.recovery || named.board.group() != in_force.board.group() {
            return None;
        }
        let place = |doc: &Doc| (doc.statement.lane, doc.statement.seq);
        let below = self.below(chain, &doc.statement)?;
        let mut beside =
            upon.get(&below).into_iter().flatten().filter(|(other, rival)| {
                *other != id && place(rival) == place(doc) && !rival.recovery
            });
        if beside.any(|(other, rival)| self.vetoed(chain, *other, rival).is_none()) {
            return None;
        }
        // The rules that it follows may be those of the dead one; they shorten no lock. Nor is what it brings
        // back locked for less than it was itself: something without a lock would give nobody time.
        let below = &self.docs.get(&below)?.statement;
        let locks = [named, in_force].into_iter().flat_map(|rules| {
            [rules.class_of(&doc.statement).lock(), rules.class_of(below).lock()]
        });
        let lock = locks.max().unwrap_or_default();
        let mut at = self.until(now, since(now, doc.seen, doc.was, doc.dated), lock);
        if let Some(Dead { back, .. }) = self.dead_below(now, chain, id, doc, upon) {
            at = at.max(back?);
        }
        if let Some(Standing::Paused { until, .. }) = self.paused(now, chain, id, doc) {
            at = at.max(until);
        }
        Some(at)
    }

    /// What a statement builds upon here: its predecessor, or, where that is not here, a policy that waits
    /// and is united with it.
    pub(super) fn below(&self, chain: &Chain, statement: &Statement) -> Option<Digest> {
        let prev = statement.prev?;
        if self.docs.contains_key(&prev) || chain.known(&prev).is_some() {
            return Some(prev);
        }
        let before = |id: &Digest| {
            self.docs.get(id).is_some_and(|doc| {
                doc.statement.lane == Lane::Policy
                    && Some(doc.statement.seq) == statement.policy
                    && !doc.recovery
            })
        };
        let united = match statement.lane {
            Lane::Policy => Policy::united_by(&statement.body),
            _ => BTreeSet::new(),
        };
        // One that nobody took back, if there is one.
        let here: Vec<Digest> = united.into_iter().filter(before).collect();
        let lives = |id: &&Digest| {
            self.docs.get(*id).is_some_and(|doc| self.vetoed(chain, **id, doc).is_none())
        };
        here.iter().find(lives).or(here.first()).copied().or(Some(prev))
    }

    /// The policy that a document names: one that is applied, or the one that waits. A policy stands
    /// upon its predecessor, whatever else was signed for that place.
    fn named<'a>(&'a self, chain: &'a Chain, doc: &Doc) -> Option<&'a Policy> {
        let Statement { lane, policy, .. } = &doc.statement;
        if let Some(applied) = chain.policy_at((*policy)?) {
            return Some(applied);
        }
        let id = match lane {
            Lane::Policy => self.below(chain, &doc.statement),
            _ => self.policies_at((*policy)?),
        };
        self.docs.get(&id?)?.policy.as_deref()
    }
}
