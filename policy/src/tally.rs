//! The tally of one slot: what the ballots amount to, for anyone who holds them.
//!
//! A pure function of the *sets* of documents, pools and ballots: order, duplicates and forgeries
//! do not matter. The first signing set in order, whose members all approve the same document
//! with the same commitments and whose aggregate verifies, makes the signature; a bad share on
//! the way names its maker and strikes his sets, so the work is bounded by one attempt for each
//! set and at most n failures.

use std::collections::{BTreeMap, BTreeSet};

use borgios_types::{Digest, Envelope, Signature, SignedBy};
use frost_ed25519 as frost;
use frost_ed25519::round2::SignatureShare;

use crate::ballot::{Ballot, Choice, signing_sets};
use crate::board::{Board, identifier};
use crate::cast::Cast;
use crate::message;
use crate::name::Name;
use crate::pool::{self, Pool};
use crate::session::Table;
use crate::slot::Slot;
use crate::statement::Statement;
use crate::vote::signing_package;

/// How a slot stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The slot.
    pub slot: Slot,
    /// Every document that was given or voted on, by id.
    pub documents: BTreeMap<Digest, Standing>,
    /// Governors who provably broke the rules of this slot, in order of name.
    pub culprits: Vec<Culprit>,
}

/// How one document stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Who approves it.
    pub approvals: BTreeSet<Name>,
    /// Who rejects it, and why.
    pub rejections: BTreeMap<Name, String>,
    /// What that amounts to.
    pub state: State,
}

/// What the ballots on a document amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Not decided.
    Open {
        /// Further good approvals that are needed at least.
        missing: usize,
        /// Whether so many governors are still free to approve; if not, it cannot pass unless
        /// somebody breaks his word.
        passable: bool,
    },
    /// Ballots name it, but its text was not given; ask for the proposal.
    Unseen,
    /// Signed: the statement with the group key's signature.
    Signed(Box<Envelope>),
    /// t governors have bound themselves otherwise; a further round may leave it behind.
    Dead,
}

/// A governor who broke the rules, and how it can be proved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Culprit {
    /// Who.
    pub name: Name,
    /// The signed objects that prove it.
    pub proof: Proof,
}

/// What proves that a governor broke the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// An approving ballot with a signature share that does not verify.
    BadShare(Digest),
    /// Two ballots in one slot that contradict each other.
    TwoBallots(Digest, Digest),
    /// Two pools with different commitments for one slot.
    TwoPools(Digest, Digest),
    /// Two shares made with the same nonces, in different sessions.
    TwoShares(Digest, Digest),
}

/// Counts the ballots of `slot`. `documents` are the exact texts of what was proposed for it, `papers`
/// the pools and, of boards that vote in two touches, the sessions and shares.
#[must_use]
pub fn tally(
    board: &Board,
    slot: Slot,
    documents: &[String],
    papers: &[Envelope],
    ballots: &[Envelope],
) -> Tally {
    let cast = Cast::collect(board, slot, ballots);
    let pools = pool::for_slot(board, slot, papers);
    let mut culprits: BTreeSet<Culprit> = two_pools(board, slot, &pools);
    culprits.extend(cast.contradictions.iter().map(|(name, (one, other))| Culprit {
        name: name.clone(),
        proof: Proof::TwoBallots(*one, *other),
    }));
    let texts: BTreeMap<Digest, &str> = documents
        .iter()
        .filter(|text| is_for(board, slot, text))
        .map(|text| (Digest::of(text.as_bytes()), text.as_str()))
        .collect();
    let voted_on = cast.ballots.values().map(|(_, ballot)| ballot.statement);
    let all: BTreeSet<Digest> = texts.keys().copied().chain(voted_on).collect();
    let mut standings = BTreeMap::new();
    for id in all {
        let (mut approvals, mut rejections) = (BTreeSet::new(), BTreeMap::new());
        for (name, (_, ballot)) in &cast.ballots {
            match &ballot.choice {
                _ if ballot.statement != id => {}
                Choice::Approve { .. } | Choice::Commit { .. } => {
                    approvals.insert(name.clone());
                }
                Choice::Reject { reason } => {
                    rejections.insert(name.clone(), reason.clone());
                }
            }
        }
        let attempt = texts.get(&id).map(|text| {
            let count = Count { board, slot, text, cast: &cast, pools: &pools };
            let (signed, mut bad) = count.aggregate(&approvals);
            let table = Table::with(board, slot, text, &cast, papers, ballots);
            bad.extend(table.culprits().map(|Culprit { name, proof }| (name, proof)));
            (signed.or_else(|| table.signed().cloned()), bad)
        });
        let (signed, bad) = attempt.clone().unwrap_or_default();
        let good = approvals.iter().filter(|name| !bad.contains_key(*name)).count();
        culprits.extend(bad.into_iter().map(|(name, proof)| Culprit { name, proof }));
        let (n, t) = (usize::from(board.size()), usize::from(board.threshold().0));
        let bound = cast.bound_against(&id);
        let state = match signed {
            Some(envelope) => State::Signed(Box::new(envelope)),
            None if bound >= t => State::Dead,
            None if attempt.is_none() => State::Unseen,
            None => {
                State::Open { missing: t.saturating_sub(good).max(1), passable: bound <= n - t }
            }
        };
        standings.insert(id, Standing { approvals, rejections, state });
    }
    Tally { slot, documents: standings, culprits: culprits.into_iter().collect() }
}

impl Tally {
    /// The statement that was signed in this slot, if one was.
    #[must_use]
    pub fn signed(&self) -> Option<&Envelope> {
        self.documents.values().find_map(|standing| match &standing.state {
            State::Signed(envelope) => Some(envelope.as_ref()),
            State::Open { .. } | State::Unseen | State::Dead => None,
        })
    }
}

/// Whether a text is a statement for this slot.
fn is_for(board: &Board, slot: Slot, text: &str) -> bool {
    let draft = Envelope::unsigned(slot.lane.kind(), text.to_owned());
    Statement::parse(&draft).is_ok_and(|statement| {
        let Statement { lane, seq, round, .. } = statement;
        slot == Slot { epoch: board.epoch(), lane, seq, round }
    })
}

/// Governors with two different pools of one generation for the slot.
fn two_pools(board: &Board, slot: Slot, pools: &pool::ById) -> BTreeSet<Culprit> {
    let mut first: BTreeMap<(&Name, u64), (Digest, &Pool)> = BTreeMap::new();
    let mut culprits: BTreeMap<&Name, Proof> = BTreeMap::new();
    for (id, pool) in pools {
        let (one, before) = *first.entry((&pool.governor, pool.generation)).or_insert((*id, pool));
        if before.bytes(board, slot) != pool.bytes(board, slot) {
            culprits.entry(&pool.governor).or_insert(Proof::TwoPools(one, *id));
        }
    }
    culprits.into_iter().map(|(name, proof)| Culprit { name: name.clone(), proof }).collect()
}

/// What is needed to make a signature over one text.
struct Count<'a> {
    board: &'a Board,
    slot: Slot,
    text: &'a str,
    cast: &'a Cast,
    pools: &'a pool::ById,
}

/// An approving ballot, taken apart.
struct Approval<'a> {
    id: Digest,
    /// The pool named for each member, if it is at hand and is that member's.
    pools: BTreeMap<u16, (Digest, &'a Pool)>,
    /// The 32 bytes for each signing set.
    shares: BTreeMap<Vec<u16>, &'a [u8]>,
}

impl<'a> Count<'a> {
    /// Tries the signing sets of the approvers in order, and names who gave a bad share.
    fn aggregate(&self, approvals: &BTreeSet<Name>) -> (Option<Envelope>, BTreeMap<Name, Proof>) {
        let mut bad: BTreeMap<Name, Proof> = BTreeMap::new();
        let Ok(sets) = self.board.subsets() else { return (None, bad) };
        if approvals.len() < usize::from(self.board.threshold().0) {
            return (None, bad);
        }
        let opened: BTreeMap<u16, Approval<'_>> =
            approvals.iter().filter_map(|name| self.open(name)).collect();
        let public = self.board.public_key_package();
        let message = message::signed_bytes(self.slot.lane, self.text, &self.board.group());
        let mut place: BTreeMap<u16, usize> = BTreeMap::new();
        for set in &sets {
            let at: BTreeMap<u16, usize> = set
                .iter()
                .map(|member| {
                    let next = place.entry(*member).or_default();
                    *next += 1;
                    (*member, *next - 1)
                })
                .collect();
            let usable = |member: &u16| {
                opened.contains_key(member) && !bad.contains_key(self.board.name_at(*member))
            };
            if !set.iter().all(usable) {
                continue;
            }
            let Some(pools) = self.agreed(set, &opened) else { continue };
            let mut shares = BTreeMap::new();
            for member in set {
                let approval = &opened[member];
                let share = approval.shares.get(set).map(|b| SignatureShare::deserialize(b));
                match share {
                    Some(Ok(share)) => {
                        shares.insert(identifier(*member), share);
                    }
                    // A number that is no share at all.
                    Some(Err(_)) => {
                        let name = self.board.name_at(*member).clone();
                        bad.insert(name, Proof::BadShare(approval.id));
                    }
                    // This ballot left out a member of the set.
                    None => {}
                }
            }
            if shares.len() < set.len() {
                continue;
            }
            let commitments = pools.iter().map(|(member, (_, pool))| {
                Some((*member, pool.commitments_at(self.board, self.slot, at[member]).ok()?))
            });
            let Some(commitments) = commitments.collect() else { continue };
            let package = signing_package(&commitments, &message);
            let detection = frost::CheaterDetection::AllCheaters;
            match frost::aggregate_custom(&package, &shares, &public, detection) {
                Ok(signature) => {
                    if let Some(envelope) = self.envelope(&signature) {
                        return (Some(envelope), bad);
                    }
                }
                Err(error) => {
                    let culprits = error.culprits();
                    for member in set.iter().filter(|m| culprits.contains(&identifier(**m))) {
                        let name = self.board.name_at(*member).clone();
                        bad.insert(name, Proof::BadShare(opened[member].id));
                    }
                }
            }
        }
        (None, bad)
    }

    /// Takes the approving ballot of `name` apart.
    fn open(&self, name: &Name) -> Option<(u16, Approval<'a>)> {
        let (id, Ballot { choice: Choice::Approve { pools, shares }, .. }) =
            self.cast.ballots.get(name)?
        else {
            return None;
        };
        let sets = signing_sets(self.board, name, pools);
        let shares = sets.into_iter().zip(shares.0.chunks_exact(32)).collect();
        let pools = pools.iter().filter_map(|(name, id)| {
            let pool = self.pools.get(id).filter(|pool| pool.governor == *name)?;
            Some((self.board.index(name)?, (*id, pool)))
        });
        Some((self.board.index(name)?, Approval { id: *id, pools: pools.collect(), shares }))
    }

    /// The pool of each member of `set`, if all members' ballots took the same commitments.
    fn agreed(
        &self,
        set: &[u16],
        opened: &BTreeMap<u16, Approval<'a>>,
    ) -> Option<BTreeMap<u16, (Digest, &'a Pool)>> {
        let mut agreed: BTreeMap<u16, (Digest, &'a Pool)> = BTreeMap::new();
        for voter in set {
            for member in set {
                let (id, pool) = *opened.get(voter)?.pools.get(member)?;
                let (_, first) = *agreed.entry(*member).or_insert((id, pool));
                if first.bytes(self.board, self.slot) != pool.bytes(self.board, self.slot) {
                    return None;
                }
            }
        }
        Some(agreed)
    }

    /// The statement with its signature, if it passes the strict check every node makes.
    fn envelope(&self, signature: &frost::Signature) -> Option<Envelope> {
        let sig = Signature(signature.serialize().ok()?.try_into().ok()?);
        let by = self.board.group();
        let mut envelope = Envelope::unsigned(self.slot.lane.kind(), self.text.to_owned());
        envelope.sigs.push(SignedBy { by, sig });
        message::signed_by(&envelope, &by).then_some(envelope)
    }
}
