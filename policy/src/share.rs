//! A governor's secret: the share of the group key, and the seeds that nonces are made of.

use core::fmt;

use borgios_types::Digest;
use frost_ed25519 as frost;
use rand::{CryptoRng, RngCore, SeedableRng as _};
use rand_chacha::ChaCha20Rng;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::board::{Board, identifier};
use crate::name::Name;
use crate::slot::{Slot, TooManySubsets};
use crate::wire::SecretBytes;

/// One governor's share of one board's group key. Zeroised on drop, never printed.
#[derive(Clone)]
pub struct KeyShare {
    name: Name,
    index: u16,
    package: frost::keys::KeyPackage,
}

/// Why bytes are not the share of that governor on that board.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyShareError {
    /// No such governor.
    #[error("{0} is not on the board")]
    NotOnBoard(Name),
    /// Not a FROST key package.
    #[error("not a key share, or a damaged one")]
    Malformed,
    /// The share of another governor, board or epoch.
    #[error("a key share that is not {name}'s of key epoch {epoch}")]
    Foreign {
        /// Whose it should be.
        name: Name,
        /// The board's key epoch.
        epoch: borgios_types::KeyEpoch,
    },
}

impl KeyShare {
    /// Takes a FROST key package, if it is that governor's of that board.
    ///
    /// # Errors
    /// `NotOnBoard` and `Foreign`.
    pub fn new(
        board: &Board,
        name: &Name,
        package: frost::keys::KeyPackage,
    ) -> Result<Self, KeyShareError> {
        let not_on_board = || KeyShareError::NotOnBoard(name.clone());
        let index = board.index(name).ok_or_else(not_on_board)?;
        let share = board.by_name(name).ok_or_else(not_on_board)?.share;
        let fits = *package.identifier() == identifier(index)
            && package.verifying_share().serialize().is_ok_and(|bytes| bytes == share.0)
            && package.verifying_key().serialize().is_ok_and(|b| b == board.group().to_bytes())
            && *package.min_signers() == board.threshold().0
            && frost::keys::VerifyingShare::from(*package.signing_share())
                == *package.verifying_share();
        if !fits {
            return Err(KeyShareError::Foreign { name: name.clone(), epoch: board.epoch() });
        }
        Ok(Self { name: name.clone(), index, package })
    }

    /// Reads what [`KeyShare::to_secret`] wrote.
    ///
    /// # Errors
    /// See [`KeyShareError`].
    pub fn from_secret(
        board: &Board,
        name: &Name,
        secret: &SecretBytes,
    ) -> Result<Self, KeyShareError> {
        let package = frost::keys::KeyPackage::deserialize(secret.expose());
        Self::new(board, name, package.map_err(|_| KeyShareError::Malformed)?)
    }

    /// For storage, encrypted to the governor.
    #[must_use]
    pub fn to_secret(&self) -> SecretBytes {
        SecretBytes::new(self.package.serialize().expect("a key package always serialises"))
    }

    /// The share alone, 32 bytes: all that cannot be had from the board. For a backup on paper.
    #[must_use]
    pub fn to_scalar(&self) -> SecretBytes {
        SecretBytes::new(self.package.signing_share().serialize())
    }

    /// Takes what [`KeyShare::to_scalar`] gave.
    ///
    /// # Errors
    /// See [`KeyShareError`].
    pub fn from_scalar(
        board: &Board,
        name: &Name,
        scalar: &SecretBytes,
    ) -> Result<Self, KeyShareError> {
        let not_on_board = || KeyShareError::NotOnBoard(name.clone());
        let index = board.index(name).ok_or_else(not_on_board)?;
        let share = frost::keys::SigningShare::deserialize(scalar.expose())
            .map_err(|_| KeyShareError::Malformed)?;
        let public = board.public_key_package();
        let package = frost::keys::KeyPackage::new(
            identifier(index),
            share,
            frost::keys::VerifyingShare::from(share),
            *public.verifying_key(),
            board.threshold().0,
        );
        Self::new(board, name, package)
    }

    /// Whose it is.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The governor's FROST index, from 1.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }

    pub(crate) fn package(&self) -> &frost::keys::KeyPackage {
        &self.package
    }

    /// The nonces of this governor for `slot`, one pair for each signing set that contains the
    /// governor, in order. The same seed gives the same nonces, but only in one slot of one
    /// group key: a seed that is used twice by mistake does not give the share away.
    pub(crate) fn nonces(
        &self,
        board: &Board,
        slot: Slot,
        seed: &Seed,
    ) -> Result<Vec<frost::round1::SigningNonces>, TooManySubsets> {
        let place = slot.to_string();
        let group = board.group().to_bytes();
        let mut derived =
            Digest::of_parts(&[b"borgios nonces v1", &seed.0, &group, place.as_bytes()]).0;
        let mut rng = ChaCha20Rng::from_seed(derived);
        derived.zeroize();
        let sets = board.subsets()?;
        let mine = sets.iter().filter(|set| set.contains(&self.index));
        Ok(mine.map(|_| frost::round1::commit(self.package.signing_share(), &mut rng).0).collect())
    }

    /// The nonces of this governor for one session of `slot`: `number` counts those it was in. As
    /// for [`KeyShare::nonces`], a seed that is used elsewhere by mistake gives nothing away.
    pub(crate) fn session_nonces(
        &self,
        board: &Board,
        slot: Slot,
        number: u32,
        seed: &Seed,
    ) -> frost::round1::SigningNonces {
        let place = format!("{slot} {number}");
        let group = board.group().to_bytes();
        let mut derived = Digest::of_parts(&[
            b"borgios session nonces v1",
            &seed.0,
            &group,
            self.name.as_str().as_bytes(),
            place.as_bytes(),
        ])
        .0;
        let mut rng = ChaCha20Rng::from_seed(derived);
        derived.zeroize();
        frost::round1::commit(self.package.signing_share(), &mut rng).0
    }
}

impl fmt::Debug for KeyShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyShare(of {})", self.name)
    }
}

/// What all nonces of one slot are made of: 32 random bytes. Zeroised on drop, never printed.
///
/// Whoever holds the seed of a slot and the ballot cast in it can compute the key share, so it
/// is erased as soon as the ballot is stored.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Seed([u8; 32]);

impl Seed {
    /// Draws a seed.
    pub fn random(rng: &mut (impl RngCore + CryptoRng)) -> Self {
        let mut seed = Self([0; 32]);
        rng.fill_bytes(&mut seed.0);
        seed
    }

    /// Takes 32 stored bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for storage, encrypted to the governor.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(…)")
    }
}

impl Serialize for Seed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        SecretBytes::new(self.0.to_vec()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = SecretBytes::deserialize(deserializer)?;
        let seed = bytes.expose().try_into();
        seed.map(Self).map_err(|_| serde::de::Error::custom("a seed is 32 bytes"))
    }
}
