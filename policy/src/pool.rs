//! A pool: nonce commitments that a governor publishes ahead of votes.
//!
//! ```text
//! {group, governor, slots: [{lane, seq, round}, …], commitments: "<base64>", generation, offline}
//! commitments = for each slot, for each signing set that contains the governor, in order:
//!               hiding (32 bytes) · binding (32 bytes)
//! ```
//!
//! A governor who lost the seeds publishes a [`burn::Burn`]: only pools of the generation it names are
//! taken for new votes then. What was cast with older ones stays cast.

use std::collections::BTreeMap;

use borgios_types::limits::POOL_PAYLOAD_MAX;
use borgios_types::{Digest, Envelope, PublicKey, Round, Seq};
use frost_ed25519::round1::{NonceCommitment, SigningCommitments, SigningNonces};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::board::Board;
use crate::burn;
use crate::lane::Lane;
use crate::name::Name;
use crate::object::{Object, ObjectError, signed_by};
use crate::share::{KeyShare, Seed};
use crate::slot::{Slot, TooManySubsets, binomial};
use crate::subgroup;
use crate::wire::Bytes;

/// Most slots of one pool: the first pools of all lanes, with room.
pub const SLOTS_MAX: usize = 64;

/// How far ahead of each lane's head every governor keeps pools.
pub const SLOTS_AHEAD: u64 = 8;

/// The commitments of one governor for several slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The group key they are for.
    pub group: PublicKey,
    /// Whose they are.
    pub governor: Name,
    /// The slots, in the order of their commitments.
    pub slots: Vec<PoolSlot>,
    /// 64 bytes for each slot and each signing set that contains the governor.
    pub commitments: Bytes,
    /// Counts how often this governor began anew after losing seeds.
    #[serde(default, skip_serializing_if = "is_first")]
    pub generation: u64,
    /// Made on a machine without a network, which cannot ask nodes whether a clone of it voted.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub offline: bool,
}

/// A slot of a pool; the group key stands in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PoolSlot {
    /// The lane.
    pub lane: Lane,
    /// Place in the lane.
    pub seq: Seq,
    /// Attempt at that place.
    pub round: Round,
}

/// Why no pool could be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PoolError {
    /// The board is too large for one-touch votes.
    #[error(transparent)]
    TooManySubsets(#[from] TooManySubsets),
    /// None, or more than fit one payload.
    #[error("a pool of {0} slots, expected 1 to {max}", max = .1)]
    Slots(usize, usize),
}

impl Object for Pool {
    const KIND: &'static str = "pool";
    const FIELDS: &'static [&'static str] =
        &["group", "governor", "slots", "commitments", "generation", "offline"];

    fn check(&self) -> Result<(), ObjectError> {
        let refused = |why: String| Err(ObjectError::Refused { kind: Self::KIND, why });
        if !(1..=SLOTS_MAX).contains(&self.slots.len()) {
            return refused(format!("{} slots, expected 1 to {SLOTS_MAX}", self.slots.len()));
        }
        let mut sorted = self.slots.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() != self.slots.len() {
            return refused("the same slot twice".to_owned());
        }
        Ok(())
    }
}

impl Pool {
    /// Makes the pool of these slots, of generation 0; the same seeds give the same pool.
    ///
    /// # Errors
    /// See [`PoolError`]. How many slots fit, [`slots_per_pool`] says.
    pub fn make(board: &Board, key: &KeyShare, seeds: &[(Slot, Seed)]) -> Result<Self, PoolError> {
        let max = slots_per_pool(board);
        if seeds.is_empty() || seeds.len() > max {
            return Err(PoolError::Slots(seeds.len(), max));
        }
        let mut commitments = Vec::with_capacity(seeds.len() * bytes_per_slot(board));
        for (slot, seed) in seeds {
            commitments.extend(commitments_of(&key.nonces(board, *slot, seed)?));
        }
        let slots = seeds.iter().map(|(slot, _)| PoolSlot::from(*slot)).collect();
        let governor = key.name().clone();
        let commitments = Bytes(commitments);
        let group = board.group();
        Ok(Self { group, governor, slots, commitments, generation: 0, offline: false })
    }

    /// Reads a pool and checks all of it: governor, group key, signature, number of commitments,
    /// and that each is a point of the curve.
    ///
    /// # Errors
    /// As [`Object::parse`], `wrong_policy`, `bad_signature`, and broken commitments.
    pub fn verify(board: &Board, envelope: &Envelope) -> Result<Self, ObjectError> {
        let pool = Self::verify_stored(board, envelope)?;
        if !subgroup::all_of_prime_order(&pool.commitments.0) {
            return Err(Self::unsound());
        }
        Ok(pool)
    }

    /// As [`Pool::verify`], for a pool that was verified before it was stored: the points, by far the
    /// most of the work, are left to who uses some of them. A vote asks of all those of its slot that
    /// it names, a tally of each that it adds up.
    ///
    /// # Errors
    /// As [`Pool::verify`], but for broken commitments.
    pub fn verify_stored(board: &Board, envelope: &Envelope) -> Result<Self, ObjectError> {
        let pool = Self::parse(envelope)?;
        pool.is_of(board, envelope)?;
        Ok(pool)
    }

    /// Whether a pool that was read from `envelope` is one of the board, and its governor's.
    fn is_of(&self, board: &Board, envelope: &Envelope) -> Result<(), ObjectError> {
        let (kind, expected) = (Self::KIND, board.group());
        if self.group != expected {
            return Err(ObjectError::WrongGroup { kind, found: self.group, expected });
        }
        let governor = board.by_name(&self.governor).ok_or_else(|| ObjectError::Refused {
            kind,
            why: format!("{} is not on the board", self.governor),
        })?;
        let (found, expected) =
            (self.commitments.0.len(), self.slots.len() * bytes_per_slot(board));
        if found != expected || board.one_touch().is_err() {
            let why = format!("{found} bytes of commitments, expected {expected}");
            return Err(ObjectError::Refused { kind, why });
        }
        signed_by(&governor.key, kind, envelope)
    }

    /// Why a pool is refused whose commitments are not all points of prime order.
    pub(crate) fn unsound() -> ObjectError {
        let why = "a commitment that is no point of prime order".to_owned();
        ObjectError::Refused { kind: Self::KIND, why }
    }

    /// Whether it covers `slot`.
    #[must_use]
    pub fn covers(&self, board: &Board, slot: Slot) -> bool {
        slot.epoch == board.epoch() && self.slots.contains(&PoolSlot::from(slot))
    }

    /// The raw commitments for `slot`, if it is covered.
    pub(crate) fn bytes(&self, board: &Board, slot: Slot) -> Option<&[u8]> {
        if slot.epoch != board.epoch() {
            return None;
        }
        let at = self.slots.iter().position(|covered| *covered == PoolSlot::from(slot))?;
        self.commitments.0.chunks_exact(bytes_per_slot(board)).nth(at)
    }

    /// The commitments for `slot` and one signing set: the one at `place` among those that contain the
    /// governor, in order.
    pub(crate) fn commitments_at(
        &self,
        board: &Board,
        slot: Slot,
        place: usize,
    ) -> Result<SigningCommitments, ObjectError> {
        let refused = |why: String| ObjectError::Refused { kind: Self::KIND, why };
        let bytes =
            self.bytes(board, slot).ok_or_else(|| refused(format!("it does not cover {slot}")))?;
        let pair = bytes.chunks_exact(64).nth(place);
        let pair = pair.ok_or_else(|| refused(format!("it has no commitments number {place}")))?;
        let point = |bytes: &[u8]| {
            NonceCommitment::deserialize(bytes)
                .map_err(|_| refused(format!("a commitment for {slot} that is no point")))
        };
        Ok(SigningCommitments::new(point(&pair[..32])?, point(&pair[32..])?))
    }
}

/// What is published of these nonces: 64 bytes for each pair.
pub(crate) fn commitments_of(nonces: &[SigningNonces]) -> Vec<u8> {
    let mut commitments = Vec::with_capacity(64 * nonces.len());
    for pair in nonces {
        let pair = SigningCommitments::from(pair);
        for half in [pair.hiding(), pair.binding()] {
            let bytes = half.serialize().expect("a nonce commitment is never the identity");
            commitments.extend(bytes);
        }
    }
    commitments
}

impl PoolSlot {
    /// The slot, under the board's group key.
    #[must_use]
    pub fn of(self, board: &Board) -> Slot {
        Slot { epoch: board.epoch(), lane: self.lane, seq: self.seq, round: self.round }
    }
}

impl From<Slot> for PoolSlot {
    fn from(slot: Slot) -> Self {
        Self { lane: slot.lane, seq: slot.seq, round: slot.round }
    }
}

/// Bytes of commitments that one governor publishes for one slot.
fn bytes_per_slot(board: &Board) -> usize {
    let sets = binomial(board.size() - 1, board.threshold().0 - 1);
    usize::try_from(sets).unwrap_or(usize::MAX).saturating_mul(64)
}

/// How many slots fit one pool of this board.
#[must_use]
pub fn slots_per_pool(board: &Board) -> usize {
    // The slots' own JSON and the names take less than 8 KiB; base64 makes 4 bytes of 3.
    let room = (POOL_PAYLOAD_MAX - 8 * 1024) / 4 * 3;
    (room / bytes_per_slot(board)).min(SLOTS_MAX)
}

/// Which slots lack a pool of `governor`: [`SLOTS_AHEAD`] places after the head of each lane, in
/// round 0, and every one of `further`, such as the next round of an undecided place. None on a
/// board that votes in two touches. `existing` are those that no [`burn::Burn`] made void.
#[must_use]
pub fn refill(
    board: &Board,
    governor: &Name,
    heads: &dyn Fn(Lane) -> Seq,
    further: &[Slot],
    existing: &[Pool],
) -> Vec<Slot> {
    if board.one_touch().is_err() {
        return Vec::new();
    }
    let round = Round(0);
    let ahead = Lane::ALL.into_iter().flat_map(|lane| {
        let after = (1..=SLOTS_AHEAD).map(move |step| Seq(heads(lane).0.saturating_add(step)));
        after.map(move |seq| Slot { epoch: board.epoch(), lane, seq, round })
    });
    let covered = |slot: &Slot| {
        existing.iter().any(|pool| {
            pool.group == board.group() && pool.governor == *governor && pool.covers(board, *slot)
        })
    };
    let mut wanted: Vec<Slot> = ahead.chain(further.iter().copied()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    wanted.retain(|slot| slot.epoch == board.epoch() && !covered(slot));
    wanted
}

/// The pools of `board` that cover `slot` and that no burn among `envelopes` made void: what a new
/// vote may name.
pub(crate) fn usable(board: &Board, slot: Slot, envelopes: &[Envelope]) -> ById {
    let generations = burn::generations(board, envelopes);
    let mut pools = for_slot(board, slot, envelopes);
    pools.retain(|_, pool| {
        pool.generation == generations.get(&pool.governor).copied().unwrap_or_default()
    });
    pools
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_first(generation: &u64) -> bool {
    *generation == 0
}

/// A pool that was read, by its id.
pub(crate) type ById = BTreeMap<Digest, Pool>;

/// The pools of `board` that cover `slot`, by id; whatever else is there is left out.
pub(crate) fn for_slot(board: &Board, slot: Slot, envelopes: &[Envelope]) -> ById {
    // Most pools at hand are of other slots: their signatures need not be checked.
    let read = |envelope: &Envelope| {
        let pool = Pool::parse(envelope).ok().filter(|pool| pool.covers(board, slot))?;
        pool.is_of(board, envelope).ok()?;
        Some((envelope.id(), pool))
    };
    envelopes.iter().filter_map(read).collect()
}
