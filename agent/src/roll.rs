//! The roll of the fleet: who is a member, who was one, who is out, and what is forgotten when.
//!
//! ```text
//!             record renewed               owner's departure          board's eviction
//!  stranger ──────▶ member ◀──▶ lapsed        departed ──┐               evicted
//!     ▲                            │ kept for a while    │                  for good
//!     └────────────────────────────┴─────────────────────┘
//! ```
//!
//! Only members count, are dialled for blobs and asked to witness. Links are refused to whoever is
//! out; what they said is forgotten at once (evicted) or once they lapsed for good (departed).

use std::collections::{BTreeMap, BTreeSet};

use borgios_policy::{
    Departure, Eviction, Handover, Invitation, Join, Lane, Object as _, Witness, WitnessProof,
};
use borgios_types::{Digest, Envelope, NodeId, PublicKey, Seq, UnixSeconds};

use crate::admission::AHEAD_MAX;
use crate::ledger::Ledger;
use crate::member_objects::{self, KINDS, departed, is_first};
use crate::store::Stored;

/// Envelopes that prove to a node that it is out, at most: a run of policies and evictions.
pub const PROOFS_MAX: usize = 64;
/// Bytes of them: with their escapes they fit a frame.
const PROOFS_BYTES: usize = crate::frame::FRAME_MAX / 4;

/// Why a node is no member any more, whatever its record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    /// The board put it out, for good.
    Evicted,
    /// Its owner took it out.
    Departed,
}

impl Out {
    /// The stable name, for logs and the last word on a link.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Evicted => "evicted",
            Self::Departed => "departed",
        }
    }

    /// The same for people.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::Evicted => "this node was evicted; reinstall it to join again",
            Self::Departed => "this node's owner took it out; reinstall it to join again",
        }
    }
}

/// What the roll says of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No join record of it is here.
    Stranger,
    /// A record in date.
    Member,
    /// It did not renew its record.
    Lapsed,
    /// It is out.
    Out(Out),
}

impl Ledger {
    /// Whether a node is out.
    #[must_use]
    pub fn out(&self, node: &NodeId) -> Option<Out> {
        if self.evicted().contains(node) {
            Some(Out::Evicted)
        } else {
            departed(self.store(), node).map(|_| Out::Departed)
        }
    }

    /// Every node that is known to be out.
    #[must_use]
    pub fn all_out(&self) -> BTreeMap<NodeId, Out> {
        let departures = self.store().list(Departure::KIND, None);
        let departed = departures.filter_map(|stored| Departure::parse(&stored.envelope).ok());
        let mut all: BTreeMap<_, _> = departed.map(|one| (one.node, Out::Departed)).collect();
        all.extend(self.evicted().iter().map(|node| (*node, Out::Evicted)));
        all
    }

    /// What the roll says of a node.
    #[must_use]
    pub fn standing(&self, now: UnixSeconds, node: &NodeId) -> Standing {
        match (self.out(node), self.join_of(node)) {
            (Some(out), _) => Standing::Out(out),
            (None, None) => Standing::Stranger,
            (None, Some(join)) if now < join.expires => Standing::Member,
            (None, Some(_)) => Standing::Lapsed,
        }
    }

    /// The members: the newest record of each node that neither lapsed nor is out.
    #[must_use]
    pub fn members(&self, now: UnixSeconds) -> BTreeMap<NodeId, Join> {
        let mut newest = self.newest_joins();
        newest.retain(|node, join| now < join.expires && self.out(node).is_none());
        newest
    }

    /// The newest record of each node, whether or not it is a member still.
    #[must_use]
    pub fn newest_joins(&self) -> BTreeMap<NodeId, Join> {
        let mut newest: BTreeMap<NodeId, Join> = BTreeMap::new();
        for stored in self.store().list(Join::KIND, None) {
            let Ok(join) = Join::parse(&stored.envelope) else { continue };
            if newest.get(&join.node).is_none_or(|known| known.issued < join.issued) {
                newest.insert(join.node, join);
            }
        }
        newest
    }

    /// A node's newest join record, whether or not it is in date.
    #[must_use]
    pub fn join_of(&self, node: &NodeId) -> Option<Join> {
        let owner = node.to_string();
        let newest = self.store().owned(Join::KIND, &owner).next_back()?;
        Join::parse(&newest.envelope).ok()
    }

    /// The newest of them that is not dated ahead of this clock, as one is that was made by a clock that was
    /// wrong; if all are, the newest.
    #[must_use]
    pub fn timely_join_of(&self, node: &NodeId, now: UnixSeconds) -> Option<Join> {
        let owner = node.to_string();
        let latest = now.plus(AHEAD_MAX).0;
        let timely = self.store().owned(Join::KIND, &owner).rfind(|one| one.date <= latest);
        timely.and_then(|stored| Join::parse(&stored.envelope).ok()).or_else(|| self.join_of(node))
    }

    /// A node's first join record.
    #[must_use]
    pub fn first_join(&self, node: &NodeId) -> Option<Join> {
        member_objects::first_join(self.store(), node)
    }

    /// A node's join records with all that proves them: its invitation and its first record.
    #[must_use]
    pub fn membership(&self, node: &NodeId) -> Vec<Envelope> {
        let owner = node.to_string();
        let records: Vec<_> = self.store().owned(Join::KIND, &owner).rev().collect();
        let invitations = records
            .iter()
            .filter_map(|stored| Join::parse(&stored.envelope).ok())
            .map(|join| join.invitation)
            .collect::<BTreeSet<_>>();
        let invitations = invitations.iter().filter_map(|id| self.store().get(id));
        invitations.chain(records.iter().copied().rev()).map(|s| s.envelope.clone()).collect()
    }

    /// The invitation with this id.
    #[must_use]
    pub fn invitation(&self, id: Digest) -> Option<Invitation> {
        member_objects::invitation(self.store(), id)
    }

    /// The name of the governor of the board in force with this key.
    #[must_use]
    pub fn governor(&self, key: &PublicKey) -> Option<String> {
        Some(self.chain().policy()?.board.by_key(key)?.name.to_string())
    }

    /// What a node that is out is told, so that it need not believe a mere word: the departure, or
    /// the newest policies and evictions up to the one that names it.
    #[must_use]
    pub fn proof_of_exit(&self, node: &NodeId, out: Out) -> Vec<Envelope> {
        let newest_first: Vec<&Envelope> = match out {
            Out::Departed => {
                let owner = node.to_string();
                self.store().owned(Departure::KIND, &owner).map(|one| &one.envelope).collect()
            }
            Out::Evicted => {
                let names_it = |lane: Lane, at: &borgios_policy::VerifiedStatement| {
                    lane == Lane::Member
                        && Eviction::of(at.statement()).is_ok_and(|body| body.evict.contains(node))
                };
                let lane_of = |at: &borgios_policy::VerifiedStatement| at.statement().lane;
                let history: Vec<_> = self
                    .chain()
                    .history()
                    .filter(|at| matches!(lane_of(at), Lane::Policy | Lane::Member))
                    .collect();
                let last = history.iter().position(|at| names_it(lane_of(at), at));
                let upto = last.map_or(0, |at| at + 1);
                history[..upto].iter().rev().map(|at| at.envelope()).collect()
            }
        };
        let mut left = PROOFS_BYTES;
        let mut proof: Vec<Envelope> = newest_first
            .into_iter()
            .take(PROOFS_MAX)
            .take_while(|envelope| {
                let length = envelope.to_json().len();
                let fits = length <= left;
                left = left.saturating_sub(length);
                fits
            })
            .cloned()
            .collect();
        proof.reverse();
        proof
    }

    /// The witnesses of a grant with what shows that they are members, at most `most` of those whose proof has
    /// at most `longest` bytes of JSON and that a keeper counts: no others take their room.
    #[must_use]
    pub fn witnesses(&self, grant: &Digest, most: usize, longest: usize) -> Vec<WitnessProof> {
        let witnesses = self.store().list(Witness::KIND, None);
        witnesses
            .filter(|stored| stored.envelope.payload.len() <= longest)
            .filter_map(|stored| Some((Witness::parse(&stored.envelope).ok()?, stored)))
            .filter(|(witness, _)| witness.statement == *grant)
            .filter_map(|(witness, stored)| self.proof_of_witness(&witness, stored, longest))
            .take(most)
            .collect()
    }

    /// How many such witnesses each of these grants has, up to `enough`. One look at all of them, however many
    /// grants there are; what is longer than `longest` bytes is not read.
    #[must_use]
    pub fn count_witnesses(
        &self,
        grants: &BTreeSet<Digest>,
        enough: usize,
        longest: usize,
    ) -> BTreeMap<Digest, usize> {
        let mut counts: BTreeMap<Digest, usize> = BTreeMap::new();
        for stored in self.store().list(Witness::KIND, None) {
            if stored.envelope.payload.len() > longest {
                continue;
            }
            let Ok(witness) = Witness::parse(&stored.envelope) else { continue };
            let id = witness.statement;
            // A fleet can have many times as many as are needed, and each costs some signatures.
            let is_full = counts.get(&id).copied().unwrap_or(0) >= enough;
            if grants.contains(&id)
                && !is_full
                && self.proof_of_witness(&witness, stored, longest).is_some()
            {
                *counts.entry(id).or_default() += 1;
            }
        }
        counts
    }

    /// What shows a keeper that a witness counts, if it does. A member chooses its own records, so lengths come
    /// before signatures: of whoever has one here that does not fit none is verified.
    fn proof_of_witness(
        &self,
        witness: &Witness,
        stored: &Stored,
        longest: usize,
    ) -> Option<WitnessProof> {
        if self.out(&witness.node).is_some() {
            return None;
        }
        let proof = |record: &Stored| {
            let left = longest.checked_sub(stored.envelope.payload.len())?;
            let left = left.checked_sub(record.envelope.payload.len())?;
            let join = Join::parse(&record.envelope).ok()?;
            let invitation = &self.store().get(&join.invitation)?.envelope;
            if invitation.payload.len() > left {
                return None;
            }
            let (witness, join) = (stored.envelope.clone(), record.envelope.clone());
            let proof = WitnessProof { witness, join, invitation: invitation.clone() };
            serde_json::to_string(&proof).is_ok_and(|text| text.len() <= longest).then_some(proof)
        };
        let records = self.store().owned(Join::KIND, &stored.owner);
        let proofs: Option<Vec<WitnessProof>> = records.map(|record| proof(record)).collect();
        let first = proofs?.into_iter().find(|proof| is_first(self.store(), &proof.join))?;
        // By the keeper's own rule: what it would not count must not pass for enough here.
        let chain = self.chain();
        let newest = chain.head_seq(Lane::Policy).0;
        let policies = (1..=newest).rev().filter_map(|seq| chain.policy_at(Seq(seq)));
        let boards = policies.map(|policy| &policy.board);
        first.verify(boards, chain.network()?, &witness.statement).ok()?;
        Some(first)
    }

    /// Ids of everything that nodes, their keepers and owners said.
    pub(crate) fn said_by(&self, nodes: &BTreeSet<NodeId>) -> Vec<Digest> {
        let owners = nodes.iter().map(ToString::to_string);
        owners
            .flat_map(|owner| {
                let ids = |kind: &&str| {
                    let owned = self.store().owned(kind, &owner);
                    owned.map(|stored| stored.id).collect::<Vec<_>>()
                };
                KINDS.iter().flat_map(ids).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Sets aside what this node and its keeper said when the clock here was ahead: nobody else takes it, and
    /// what is said in its place would pass for older. The first join record stays, which alone says who the
    /// node is, and so do a departure and a receipt, in whose place nothing else is said. Only of this node:
    /// others are judged as what they say comes in, and a clock that is behind for a while must not empty the
    /// roll. One behind the newest statement is known to be wrong, and says nothing of dates. Returns their ids.
    pub fn set_aside_ahead(&mut self, me: &NodeId, now: UnixSeconds) -> Vec<Digest> {
        if now < self.chain().now_floor() {
            return Vec::new();
        }
        let latest = now.plus(AHEAD_MAX).0;
        let (store, owner) = (self.store(), me.to_string());
        let said = KINDS.iter().filter(|kind| ![Departure::KIND, Handover::KIND].contains(*kind));
        let ahead = said
            .flat_map(|kind| store.owned(kind, &owner))
            .filter(|stored| stored.date > latest && !is_first(store, &stored.envelope));
        let mut ids = Vec::new();
        for stored in ahead {
            let why = format!("dated {}, it is {now}", UnixSeconds(stored.date));
            store.set_aside(&store.path(&stored.envelope), &why);
            ids.push(stored.id);
        }
        self.remove(&ids);
        ids
    }

    /// Forgets nodes that lapsed for good, and witnesses of grants that are over.
    pub fn forget_lapsed(&mut self, now: UnixSeconds) -> Forgotten {
        let mut last: BTreeMap<NodeId, UnixSeconds> = BTreeMap::new();
        for stored in self.store().list(Join::KIND, None) {
            let Ok(join) = Join::parse(&stored.envelope) else { continue };
            let newest = last.entry(join.node).or_default();
            *newest = join.expires.max(*newest);
        }
        let kept = self.lapsed_kept();
        let nodes: BTreeSet<NodeId> = last
            .into_iter()
            .filter(|(_, expires)| expires.plus(kept) < now)
            .map(|(node, _)| node)
            .collect();
        let mut ids = self.said_by(&nodes);
        let over = self.store().list(Witness::KIND, None).filter(|stored| {
            let witness = Witness::parse(&stored.envelope).ok();
            let grant = witness.and_then(|witness| self.chain().grant(&witness.statement));
            grant.is_none_or(|granted| granted.grant.before <= now)
        });
        ids.extend(over.map(|stored| stored.id));
        self.remove(&ids);
        Forgotten { ids, nodes }
    }
}

/// What was forgotten.
#[derive(Debug, Default)]
pub struct Forgotten {
    /// Objects.
    pub ids: Vec<Digest>,
    /// Nodes that lapsed for good.
    pub nodes: BTreeSet<NodeId>,
}
