//! Signed statements that have no place here: remembered, for a ruling may give them one, or a policy carry
//! them. The tree's core holds them to be known, and would take no further copy.
//!
//! ```text
//! rival, closed, of a former board ─▶ set apart ── a ruling, or the next policy ──▶ reopened ─▶ asked for again
//! ```

use std::collections::BTreeSet;

use borgios_peertree::Head;
use borgios_policy::{Lane, Statement, VerifiedStatement, message};
use borgios_types::{Digest, Envelope, NodeId};

use crate::ledger::{Heads, Ledger};

/// Refusals of a statement that the board signed and that has no place here.
const PLACELESS: [&str; 2] = ["rival", "closed"];
/// Most of those that are remembered.
const PLACELESS_MAX: usize = 4_096;

/// What follows from a ruling besides the policy itself.
#[derive(Clone, Debug)]
pub struct Reopened {
    /// Statements that had no place here and may have one now.
    pub ids: BTreeSet<Digest>,
    /// Where each lane ends now: one of them may have gone back.
    pub heads: Heads,
    /// Nodes that may be members again, for their eviction lost its place.
    pub back: BTreeSet<NodeId>,
}

impl Ledger {
    /// Notes a statement that was refused, if it is one that the board signed and that only lacks a place.
    pub(crate) fn refused_at_its_place(&mut self, envelope: &Envelope, code: &str) {
        let former = code == "wrong_policy" && self.is_of_a_former_board(envelope);
        if former || PLACELESS.contains(&code) {
            self.set_apart(envelope.id());
        }
    }

    /// Remembers that a signed statement had no place here. Each takes a signature of the board; beyond
    /// the bound a restart asks for them again.
    pub(crate) fn set_apart(&mut self, id: Digest) {
        if self.placeless.len() < PLACELESS_MAX {
            self.placeless.insert(id);
        }
    }

    /// Whether it is a statement that the board of the policy it names signed. Whoever hands on one of a
    /// former board applied it before the change of the board, and is not to blame.
    #[must_use]
    pub fn is_of_a_former_board(&self, envelope: &Envelope) -> bool {
        let named = Statement::parse(envelope).ok().and_then(|statement| statement.policy);
        let policy = named.and_then(|seq| self.chain.policy_at(seq));
        policy.is_some_and(|policy| message::signed_by(envelope, &policy.board.group()))
    }

    /// After a ruling: what had no place, and what lost it, may have one now. `evicted` were the nodes
    /// that were evicted before it.
    pub(crate) fn reopened(&mut self, evicted: &BTreeSet<NodeId>) -> Reopened {
        let mut ids = std::mem::take(&mut self.placeless);
        ids.extend(self.chain.overruled().map(VerifiedStatement::id));
        // A lane whose first statement was overruled begins anew.
        let none = Head { seq: 0, id: Digest([0; 32]) };
        let heads = Lane::ALL.into_iter().map(|lane| (lane, self.head_of(lane).unwrap_or(none)));
        let back = evicted.iter().filter(|node| self.out(node).is_none()).copied().collect();
        Reopened { ids, heads: heads.collect(), back }
    }
}
