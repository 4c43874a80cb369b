//! How a ballot is made: first the intent, which is stored, then the ballot, which follows from
//! intent and seed alone.
//!
//! ```text
//! OpenRound ─▶ Intent (store, sync) ─▶ Intent::ballot(seed) ─▶ sign ─▶ store ─▶ erase seed ─▶ send
//! ```
//!
//! Two different ballots from one seed give the key share away, so nothing that goes into the
//! shares is chosen after the intent is stored: it holds the exact text and the pools' ids. A
//! vote that was cut off makes the same bytes again.

use std::collections::{BTreeMap, BTreeSet};

use borgios_types::{Digest, Envelope};
use frost_ed25519 as frost;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ballot::{Ballot, Choice, Rebuild, signing_sets};
use crate::board::{Board, identifier};
use crate::message;
use crate::name::Name;
use crate::object::ObjectError;
use crate::pool::{self, Pool};
use crate::refusal::Refusal;
use crate::round::OpenRound;
use crate::session;
use crate::share::{KeyShare, Seed};
use crate::slot::{Slot, TooManySubsets};
use crate::statement::Statement;
use crate::subgroup;
use crate::wire::Bytes;

/// What a slot was begun for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The slot, which is that of the statement.
    pub slot: Slot,
    /// Who votes.
    pub governor: Name,
    /// The statement's exact text.
    pub statement: String,
    /// What the ballot will say.
    #[serde(flatten)]
    pub vote: Vote,
    /// A word to the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// For a reveal: the voter's share, sealed to the asker. Sealing draws randomness, so it is
    /// done before the intent is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reveal: Option<Bytes>,
    /// For a release: what the voter's own build came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<Rebuild>,
    /// This governor's count of ballots.
    pub counter: u64,
}

/// What a ballot will say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "choice", rename_all = "lowercase")]
pub enum Vote {
    /// For it, with these pools.
    Approve {
        /// The pool taken for each governor taken into account, the voter included.
        pools: BTreeMap<Name, Digest>,
    },
    /// For it, in two touches.
    Commit {
        /// The commitment to the nonces of the first session.
        nonces: Bytes,
    },
    /// Against it.
    Reject {
        /// Why.
        reason: String,
    },
}

/// Why no ballot was made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VoteError {
    /// The text is no statement.
    #[error("the text to vote on is refused: {0}")]
    Statement(#[from] Refusal),
    /// The text is for another slot than the one that was found open.
    #[error("the statement is for slot {statement}, the round checked is {open}")]
    OtherSlot {
        /// The statement's.
        statement: Slot,
        /// The round's.
        open: Slot,
    },
    /// The voter's name is not on the board.
    #[error("{0} is not on the board")]
    NotOnBoard(Name),
    /// Signing sets with these governors would be impossible for good.
    #[error("no pool for {slot} by {}; wait for it, or leave them out by name", list(.names))]
    MissingPools {
        /// The slot.
        slot: Slot,
        /// Whose pools are missing.
        names: Vec<Name>,
    },
    /// A governor published two different pools for one slot.
    #[error("{name} published two different pools for {slot}; leave {name} out by name")]
    TwoPools {
        /// The slot.
        slot: Slot,
        /// Who.
        name: Name,
    },
    /// The voter's own pool for this slot is missing.
    #[error("no pool of your own for {0}; make and publish one first")]
    NoOwnPool(Slot),
    /// The voter's pool was made from another seed: the seed is that of another slot, an older
    /// backup, or another machine.
    #[error("the seed of {0} does not make the pool that was published for it")]
    OwnPool(Slot),
    /// Approving needs the slot's seed.
    #[error("the seed of {0} is gone: this slot was voted in or burnt")]
    NoSeed(Slot),
    /// A pool that the intent names is not among those given, or is no good.
    #[error("the pool {id} of {name} that the intent names is missing or unusable")]
    PoolGone {
        /// Whose.
        name: Name,
        /// Its id.
        id: Digest,
    },
    /// Who remains cannot sign together.
    #[error("{named} governors remain, {needed} must sign together")]
    TooFew {
        /// Governors taken into account.
        named: usize,
        /// t.
        needed: usize,
    },
    /// The board is too large for one-touch votes.
    #[error(transparent)]
    TooManySubsets(#[from] TooManySubsets),
    /// A commitment that is not that of the voter's own nonces.
    #[error("the nonces of {0} do not make the commitment that the intent names")]
    OwnNonces(Slot),
    /// Nonces where shares are due.
    #[error("a vote of this board is one touch")]
    OneTouch,
    /// The intent was made for another governor or board.
    #[error("the intent is {found}'s for {slot}, not {expected}'s")]
    Foreign {
        /// Whose intent it is.
        found: Name,
        /// Whose key was given.
        expected: Name,
        /// The intent's slot.
        slot: Slot,
    },
    /// A text is too long.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The library refused to sign.
    #[error("signing failed: {0}")]
    Frost(String),
}

impl Intent {
    /// Begins an approval. `pools` are all pools and burns at hand, in any order; one pool is taken
    /// for each governor but those in `without`.
    ///
    /// # Errors
    /// See [`VoteError`]; nothing was decided yet, so the same slot can be begun again.
    #[expect(clippy::too_many_arguments, reason = "each is a fact the ballot is bound to")]
    pub fn approve(
        board: &Board,
        me: &Name,
        open: &OpenRound,
        statement: &str,
        pools: &[Envelope],
        without: &BTreeSet<Name>,
        comment: Option<String>,
        counter: u64,
    ) -> Result<Self, VoteError> {
        let slot = begin(board, me, open, statement)?;
        board.one_touch()?;
        let vote = Vote::Approve { pools: choose_pools(board, me, slot, pools, without)? };
        let (governor, statement) = (me.clone(), statement.to_owned());
        let (reveal, rebuild) = (None, None);
        Ok(Self { slot, governor, statement, vote, comment, reveal, rebuild, counter })
    }

    /// Begins an approval on a board that votes in two touches: `seed` makes the nonces of the
    /// first session, and was stored before.
    ///
    /// # Errors
    /// See [`VoteError`].
    pub fn commit(
        board: &Board,
        key: &KeyShare,
        open: &OpenRound,
        statement: &str,
        seed: &Seed,
        comment: Option<String>,
        counter: u64,
    ) -> Result<Self, VoteError> {
        let slot = begin(board, key.name(), open, statement)?;
        if board.one_touch().is_ok() {
            return Err(VoteError::OneTouch);
        }
        let vote =
            Vote::Commit { nonces: session::publish(&key.session_nonces(board, slot, 0, seed)) };
        let (governor, statement) = (key.name().clone(), statement.to_owned());
        let (reveal, rebuild) = (None, None);
        Ok(Self { slot, governor, statement, vote, comment, reveal, rebuild, counter })
    }

    /// Begins a rejection. It uses the slot up as an approval does.
    ///
    /// # Errors
    /// See [`VoteError`].
    pub fn reject(
        board: &Board,
        me: &Name,
        open: &OpenRound,
        statement: &str,
        reason: String,
        comment: Option<String>,
        counter: u64,
    ) -> Result<Self, VoteError> {
        let slot = begin(board, me, open, statement)?;
        let (governor, statement) = (me.clone(), statement.to_owned());
        let vote = Vote::Reject { reason };
        let (reveal, rebuild) = (None, None);
        Ok(Self { slot, governor, statement, vote, comment, reveal, rebuild, counter })
    }

    /// The same approval with the voter's sealed share, as a reveal needs it.
    #[must_use]
    pub fn with_reveal(self, sealed: Bytes) -> Self {
        Self { reveal: Some(sealed), ..self }
    }

    /// The same approval with what the voter's own build came to.
    #[must_use]
    pub fn with_rebuild(self, rebuild: Rebuild) -> Self {
        Self { rebuild: Some(rebuild), ..self }
    }

    /// The ballot of a stored intent: the same bytes whenever it is asked for. `seed` is the
    /// slot's, in two touches that of its first nonces; a rejection needs none. `pools` must hold
    /// those the intent names.
    ///
    /// # Errors
    /// See [`VoteError`].
    pub fn ballot(
        &self,
        board: &Board,
        key: &KeyShare,
        seed: Option<&Seed>,
        pools: &[Envelope],
    ) -> Result<Ballot, VoteError> {
        if *key.name() != self.governor || self.slot.epoch != board.epoch() {
            return Err(VoteError::Foreign {
                found: self.governor.clone(),
                expected: key.name().clone(),
                slot: self.slot,
            });
        }
        // The text binds the slot, never the other way round.
        let statement = slot_of(board, self.slot, &self.statement)?;
        if statement != self.slot {
            return Err(VoteError::OtherSlot { statement, open: self.slot });
        }
        let choice = match &self.vote {
            Vote::Reject { reason } => Choice::Reject { reason: reason.clone() },
            Vote::Approve { pools: named } => {
                let seed = seed.ok_or(VoteError::NoSeed(self.slot))?;
                let shares = self.shares(board, key, seed, named, pools)?;
                Choice::Approve { pools: named.clone(), shares: Bytes(shares) }
            }
            Vote::Commit { nonces } => {
                // Without the seed this voter could never answer a session.
                let seed = seed.ok_or(VoteError::NoSeed(self.slot))?;
                if session::publish(&key.session_nonces(board, self.slot, 0, seed)) != *nonces {
                    return Err(VoteError::OwnNonces(self.slot));
                }
                Choice::Commit { nonces: nonces.clone() }
            }
        };
        let ballot = Ballot {
            group: board.group(),
            governor: self.governor.clone(),
            lane: self.slot.lane,
            seq: self.slot.seq,
            round: self.slot.round,
            statement: Digest::of(self.statement.as_bytes()),
            choice,
            comment: self.comment.clone(),
            reveal: self.reveal.clone(),
            rebuild: self.rebuild.clone(),
            counter: self.counter,
        };
        crate::object::Object::check(&ballot)?;
        Ok(ballot)
    }

    /// One signature share for each signing set of the named governors that contains the voter.
    fn shares(
        &self,
        board: &Board,
        key: &KeyShare,
        seed: &Seed,
        named: &BTreeMap<Name, Digest>,
        envelopes: &[Envelope],
    ) -> Result<Vec<u8>, VoteError> {
        let (slot, me) = (self.slot, key.index());
        let found = pool::for_slot(board, slot, envelopes);
        let mut pools = BTreeMap::new();
        for (name, id) in named {
            let gone = || VoteError::PoolGone { name: name.clone(), id: *id };
            let pool = found.get(id).filter(|pool| pool.governor == *name).ok_or_else(gone)?;
            pools.insert(board.index(name).ok_or_else(gone)?, (name, id, pool));
        }
        // The nonces must be those that were published, or the shares would be worthless; and a
        // seed of another slot must not sign here.
        let nonces = key.nonces(board, slot, seed)?;
        let (_, _, own) = pools.get(&me).ok_or(VoteError::NoOwnPool(slot))?;
        if own.bytes(board, slot) != Some(&pool::commitments_of(&nonces)[..]) {
            return Err(VoteError::OwnPool(slot));
        }
        let message = message::signed_bytes(slot.lane, &self.statement, &board.group());
        let sets = board.subsets()?;
        let allowed: BTreeSet<Vec<u16>> =
            signing_sets(board, key.name(), named).into_iter().collect();
        // Each governor's place in the order of the sets that contain that governor.
        let mut place: BTreeMap<u16, usize> = BTreeMap::new();
        let mut shares = Vec::with_capacity(32 * allowed.len());
        for set in &sets {
            let at: BTreeMap<u16, usize> = set
                .iter()
                .map(|member| {
                    let next = place.entry(*member).or_default();
                    *next += 1;
                    (*member, *next - 1)
                })
                .collect();
            if !allowed.contains(set) {
                continue;
            }
            let mut commitments = BTreeMap::new();
            for member in set {
                let (name, id, pool) = pools[member];
                let chosen = pool.commitments_at(board, slot, at[member]);
                let gone = |_| VoteError::PoolGone { name: name.clone(), id: *id };
                commitments.insert(*member, chosen.map_err(gone)?);
            }
            let package = signing_package(&commitments, &message);
            let share = frost::round2::sign(&package, &nonces[at[&me]], key.package())
                .map_err(|error| VoteError::Frost(error.to_string()))?;
            shares.extend(share.serialize());
        }
        Ok(shares)
    }
}

/// What the members of one signing set sign, with these commitments of theirs.
pub(crate) fn signing_package(
    commitments: &BTreeMap<u16, frost::round1::SigningCommitments>,
    message: &[u8],
) -> frost::SigningPackage {
    let of = |(member, chosen): (&u16, &_)| (identifier(*member), *chosen);
    frost::SigningPackage::new(commitments.iter().map(of).collect(), message)
}

/// What an intent of either kind needs: a voter on the board, and a text for the open slot.
fn begin(board: &Board, me: &Name, open: &OpenRound, statement: &str) -> Result<Slot, VoteError> {
    if board.index(me).is_none() {
        return Err(VoteError::NotOnBoard(me.clone()));
    }
    let (open, statement) = (open.slot(), slot_of(board, open.slot(), statement)?);
    if statement != open {
        return Err(VoteError::OtherSlot { statement, open });
    }
    Ok(open)
}

/// The slot of a text of the lane of `like`.
fn slot_of(board: &Board, like: Slot, text: &str) -> Result<Slot, VoteError> {
    let draft = Envelope::unsigned(like.lane.kind(), text.to_owned());
    let Statement { lane, seq, round, .. } = Statement::parse(&draft)?;
    Ok(Slot { epoch: board.epoch(), lane, seq, round })
}

/// One pool for each governor but those in `without`.
fn choose_pools(
    board: &Board,
    me: &Name,
    slot: Slot,
    envelopes: &[Envelope],
    without: &BTreeSet<Name>,
) -> Result<BTreeMap<Name, Digest>, VoteError> {
    let found = pool::usable(board, slot, envelopes);
    let mut chosen: Vec<(&Name, Digest, &[u8])> = Vec::new();
    let mut missing = Vec::new();
    for governor in board.governors() {
        let name = &governor.name;
        if without.contains(name) && name != me {
            continue;
        }
        let mut theirs = found.iter().filter(|(_, pool)| pool.governor == *name);
        let Some((id, first)) = theirs.next() else {
            if name == me {
                return Err(VoteError::NoOwnPool(slot));
            }
            missing.push(name.clone());
            continue;
        };
        let bytes = |pool: &Pool| pool.bytes(board, slot).map(<[u8]>::to_vec);
        if theirs.any(|(_, other)| bytes(other) != bytes(first)) {
            return Err(VoteError::TwoPools { slot, name: name.clone() });
        }
        // Every pool found covers the slot.
        chosen.push((name, *id, first.bytes(board, slot).unwrap_or_default()));
    }
    let points: Vec<&[u8]> = chosen.iter().map(|(_, _, bytes)| *bytes).collect();
    if let Some((name, id, _)) = subgroup::first_refused(&points).map(|at| chosen[at]) {
        return Err(VoteError::PoolGone { name: name.clone(), id });
    }
    if !missing.is_empty() {
        return Err(VoteError::MissingPools { slot, names: missing });
    }
    let (named, needed) = (chosen.len(), usize::from(board.threshold().0));
    if named < needed {
        return Err(VoteError::TooFew { named, needed });
    }
    Ok(chosen.into_iter().map(|(name, id, _)| (name.clone(), id)).collect())
}

/// `ann, ben`.
fn list(names: &[Name]) -> String {
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}
