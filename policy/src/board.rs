//! The governors of one key epoch and their threshold key.
//!
//! Invariants of every [`Board`], checked when one is made or read:
//!  1. 2 ≤ n ≤ 21 governors in strict order of name, n/2 < t ≤ n;
//!  2. names, keys, former keys and recipients are unique;
//!  3. the verifying shares lie on one polynomial of degree t−1, no less, whose value at 0 is the
//!     group key: no fewer than t can sign, and a bad share is laid at the right door.

use std::collections::{BTreeMap, BTreeSet};

use borgios_types::limits::GOVERNORS_MAX;
use borgios_types::{KeyEpoch, PublicKey, Threshold};
use frost_ed25519 as frost;
use frost_ed25519::{Ed25519Group, Ed25519ScalarField, Field as _, Group as _};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::name::Name;
use crate::slot::{self, TooManySubsets};

/// The verifying share of one governor: 32 bytes, base64 in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(pub [u8; 32]);

/// One member of the board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Governor {
    /// Unique on the board.
    pub name: Name,
    /// Signs cards, proposals, pools, ballots, invitations and notes.
    pub key: PublicKey,
    /// `age1…`: what is sealed to this governor alone.
    pub recipient: String,
    /// The public side of the governor's share of the group key.
    pub share: Share,
    /// Earlier identity keys under the same share, oldest first. They count for ballots alone, so
    /// that who lost a laptop stays bound by what was cast from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<PublicKey>,
}

/// Most earlier identity keys of one governor under one group key: who loses more laptops in that
/// time gets a new key with everyone else.
pub const FORMER_MAX: usize = 8;

/// A board that keeps the invariants above.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Board {
    epoch: KeyEpoch,
    threshold: Threshold,
    group: PublicKey,
    governors: Vec<Governor>,
}

/// A board as it is read, before its rules are checked.
#[derive(Deserialize)]
struct Unchecked {
    epoch: KeyEpoch,
    threshold: Threshold,
    group: PublicKey,
    governors: Vec<Governor>,
}

/// Why a board is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BoardError {
    /// Too few or too many members.
    #[error("a board of {0} governors, expected 2 to {GOVERNORS_MAX}")]
    Size(usize),
    /// A threshold that is no majority, or cannot be met.
    #[error("a threshold of {threshold} of {governors}, expected more than half and at most all")]
    Threshold {
        /// The threshold asked for.
        threshold: u16,
        /// Members of the board.
        governors: usize,
    },
    /// Epochs count from 1.
    #[error("key epoch 0, the first is 1")]
    Epoch,
    /// Not in strict order of name, which a name given twice breaks too.
    #[error("governor {0} is out of order: names are sorted and unique")]
    Order(Name),
    /// Two governors with one key or recipient, or the group key as a governor's own.
    #[error("governor {name} has the {what} of another")]
    Shared {
        /// The later of the two.
        name: Name,
        /// Key or recipient.
        what: &'static str,
    },
    /// Not an age X25519 recipient.
    #[error("governor {0} has no age1… recipient")]
    Recipient(Name),
    /// Too many earlier identity keys.
    #[error("governor {name} has {found} former keys, at most {FORMER_MAX}")]
    Former {
        /// Who.
        name: Name,
        /// How many.
        found: usize,
    },
    /// A share that is no point of the curve, or does not belong to the group key.
    #[error("the verifying share of {0} does not belong to the group key")]
    Share(Name),
}

impl Board {
    /// Makes a board.
    ///
    /// # Errors
    /// The first of the invariants that does not hold.
    pub fn new(
        epoch: KeyEpoch,
        threshold: Threshold,
        group: PublicKey,
        governors: Vec<Governor>,
    ) -> Result<Self, BoardError> {
        let n = governors.len();
        if !(2..=GOVERNORS_MAX).contains(&n) {
            return Err(BoardError::Size(n));
        }
        let t = usize::from(threshold.0);
        if 2 * t <= n || t > n {
            return Err(BoardError::Threshold { threshold: threshold.0, governors: n });
        }
        if epoch.0 == 0 {
            return Err(BoardError::Epoch);
        }
        if let Some(pair) = governors.windows(2).find(|pair| pair[0].name >= pair[1].name) {
            return Err(BoardError::Order(pair[1].name.clone()));
        }
        check_members(&group, governors.iter().map(|g| (&g.name, &g.key, g.recipient.as_str())))?;
        check_former(&group, &governors)?;
        check_shares(t, &group, &governors)?;
        Ok(Self { epoch, threshold, group, governors })
    }

    /// Which generation of the group key this is.
    #[must_use]
    pub fn epoch(&self) -> KeyEpoch {
        self.epoch
    }

    /// The generation that a new key would have.
    #[must_use]
    pub fn next_epoch(&self) -> KeyEpoch {
        KeyEpoch(self.epoch.0.saturating_add(1))
    }

    /// Whether this board differs from `before` in nothing but identities that were replaced: the
    /// same key and shares, and whoever has a new identity key names the old one as former.
    #[must_use]
    pub fn keeps_shares_of(&self, before: &Self) -> bool {
        let same_key = (self.epoch, self.threshold, self.group)
            == (before.epoch, before.threshold, before.group);
        let mut pairs = self.governors.iter().zip(&before.governors);
        same_key
            && self.governors.len() == before.governors.len()
            && pairs.all(|(now, then)| now == then || now.replaces(then))
    }

    /// How many governors sign together.
    #[must_use]
    pub fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// The key whose signature makes a statement.
    #[must_use]
    pub fn group(&self) -> PublicKey {
        self.group
    }

    /// The members, in order of name.
    #[must_use]
    pub fn governors(&self) -> &[Governor] {
        &self.governors
    }

    /// Position of `name`, from 1: the governor's FROST identifier.
    #[must_use]
    pub fn index(&self, name: &Name) -> Option<u16> {
        let at = self.governors.binary_search_by(|g| g.name.cmp(name)).ok()?;
        u16::try_from(at + 1).ok()
    }

    /// The governor of that name.
    #[must_use]
    pub fn by_name(&self, name: &Name) -> Option<&Governor> {
        self.governors.iter().find(|g| g.name == *name)
    }

    /// The governor whose identity key this is.
    #[must_use]
    pub fn by_key(&self, key: &PublicKey) -> Option<&Governor> {
        self.governors.iter().find(|g| g.key == *key)
    }

    /// Every set of t governors, as indices from 1, in lexicographic order.
    ///
    /// # Errors
    /// A board too large for one-touch votes.
    pub fn subsets(&self) -> Result<Vec<Vec<u16>>, TooManySubsets> {
        slot::subsets(self.size(), self.threshold.0)
    }

    /// Whether one-touch votes are possible with this board.
    ///
    /// # Errors
    /// A board too large for them.
    pub fn one_touch(&self) -> Result<(), TooManySubsets> {
        slot::one_touch(self.size(), self.threshold.0)
    }

    /// n, the number of governors.
    #[must_use]
    pub fn size(&self) -> u16 {
        u16::try_from(self.governors.len()).expect("at most 21 governors")
    }

    /// The name at a FROST index, from 1.
    pub(crate) fn name_at(&self, index: u16) -> &Name {
        &self.governors[usize::from(index) - 1].name
    }

    /// The FROST library's own form of the public half.
    pub(crate) fn public_key_package(&self) -> frost::keys::PublicKeyPackage {
        let shares: BTreeMap<_, _> = (1..)
            .zip(&self.governors)
            .map(|(index, governor)| {
                let share = frost::keys::VerifyingShare::deserialize(&governor.share.0);
                (identifier(index), share.expect("Board::new read every share as a point"))
            })
            .collect();
        let group = frost::VerifyingKey::deserialize(&self.group.to_bytes());
        let group = group.expect("a public key is a point that is not of small order");
        frost::keys::PublicKeyPackage::new(shares, group, Some(self.threshold.0))
    }
}

impl Governor {
    /// Whether this is `before` with a new identity.
    fn replaces(&self, before: &Self) -> bool {
        let mut former = before.former.clone();
        former.push(before.key);
        (&self.name, self.share) == (&before.name, before.share) && self.former == former
    }

    /// The governor with a new identity; the present key becomes a former one.
    #[must_use]
    pub fn with_identity(&self, key: PublicKey, recipient: String) -> Self {
        let mut former = self.former.clone();
        former.push(self.key);
        Self { name: self.name.clone(), key, recipient, share: self.share, former }
    }

    /// Whether a ballot in `envelope` is signed by this governor, as who they are or were.
    #[must_use]
    pub fn signed_ballot(&self, envelope: &borgios_types::Envelope) -> bool {
        envelope.signed_by(&self.key) || self.former.iter().any(|key| envelope.signed_by(key))
    }
}

/// The FROST identifier of the governor at `index`, from 1.
pub(crate) fn identifier(index: u16) -> frost::Identifier {
    frost::Identifier::try_from(index).expect("an index from 1 is never the zero scalar")
}

/// Keys and recipients are unique and usable.
pub(crate) fn check_members<'a>(
    group: &PublicKey,
    members: impl Iterator<Item = (&'a Name, &'a PublicKey, &'a str)>,
) -> Result<(), BoardError> {
    let mut keys = BTreeSet::from([*group]);
    let mut recipients = BTreeSet::new();
    for (name, key, recipient) in members {
        if !keys.insert(*key) {
            return Err(BoardError::Shared { name: name.clone(), what: "key" });
        }
        if recipient.len() > 100 || recipient.parse::<age::x25519::Recipient>().is_err() {
            return Err(BoardError::Recipient(name.clone()));
        }
        if !recipients.insert(recipient) {
            return Err(BoardError::Shared { name: name.clone(), what: "recipient" });
        }
    }
    Ok(())
}

/// Former keys are nobody else's, and not too many.
fn check_former(group: &PublicKey, governors: &[Governor]) -> Result<(), BoardError> {
    let mut keys: BTreeSet<PublicKey> = governors.iter().map(|governor| governor.key).collect();
    keys.insert(*group);
    for Governor { name, former, .. } in governors {
        if former.len() > FORMER_MAX {
            return Err(BoardError::Former { name: name.clone(), found: former.len() });
        }
        if former.iter().any(|key| !keys.insert(*key)) {
            return Err(BoardError::Shared { name: name.clone(), what: "former key" });
        }
    }
    Ok(())
}

type Scalar = <Ed25519ScalarField as frost::Field>::Scalar;

/// Invariant 3: the first t shares fix the polynomial; its value at 0 is the group key and at
/// every further index that governor's share.
fn check_shares(t: usize, group: &PublicKey, governors: &[Governor]) -> Result<(), BoardError> {
    let bad = |index: usize| BoardError::Share(governors[index].name.clone());
    let mut points = Vec::with_capacity(governors.len());
    for (index, governor) in governors.iter().enumerate() {
        points.push(Ed25519Group::deserialize(&governor.share.0).map_err(|_| bad(index))?);
    }
    // The value at `x` of the polynomial through the first `count` shares.
    let at = |count: usize, x: u64| {
        let terms = (0..count).map(|j| points[j] * lagrange(j, count, x));
        terms.fold(Ed25519Group::identity(), |sum, term| sum + term)
    };
    let is_group = |point| {
        Ed25519Group::serialize(&point).is_ok_and(|bytes: [u8; 32]| bytes == group.to_bytes())
    };
    if !is_group(at(t, 0)) || is_group(at(t - 1, 0)) {
        return Err(bad(0));
    }
    for (index, point) in points.iter().enumerate().skip(t) {
        if at(t, index as u64 + 1) != *point {
            return Err(bad(index));
        }
    }
    Ok(())
}

/// The Lagrange coefficient of the j-th of the points 1..=t, for the value at `x`.
fn lagrange(j: usize, t: usize, x: u64) -> Scalar {
    let (own, x) = (Scalar::from(j as u64 + 1), Scalar::from(x));
    let (mut above, mut below) = (Ed25519ScalarField::one(), Ed25519ScalarField::one());
    for other in (0..t).filter(|other| *other != j) {
        let other = Scalar::from(other as u64 + 1);
        above *= x - other;
        below *= own - other;
    }
    let below = Ed25519ScalarField::invert(&below).expect("the points 1..=t are distinct");
    above * below
}

impl TryFrom<Unchecked> for Board {
    type Error = BoardError;

    fn try_from(read: Unchecked) -> Result<Self, BoardError> {
        Self::new(read.epoch, read.threshold, read.group, read.governors)
    }
}

impl Serialize for Share {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        crate::wire::Bytes(self.0.to_vec()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = crate::wire::Bytes::deserialize(deserializer)?.0;
        let share =
            bytes.try_into().map_err(|_| serde::de::Error::custom("a share is 32 bytes"))?;
        Ok(Self(share))
    }
}
