//! t shares of one epoch bring its password back.

use std::collections::{BTreeMap, BTreeSet};

use borgios_policy::Name;
use borgios_types::{Epoch, Threshold};
use frost_ed25519 as frost;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::escrow::Escrow;
use crate::password::Password;
use crate::secret_share::SecretShare;

/// Why a secret does not come back.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReconstructError {
    /// Not an epoch of this escrow.
    #[error("epoch {0} is not in this escrow")]
    NoEpoch(Epoch),
    /// Not enough shares that fit.
    #[error("{good} good shares of epoch {epoch}, {needed} are needed{}", refused(wrong))]
    TooFew {
        /// Which epoch.
        epoch: Epoch,
        /// Shares that fit the commitments.
        good: usize,
        /// t.
        needed: Threshold,
        /// Whose shares do not fit, or who is not on the board.
        wrong: Vec<Name>,
    },
}

fn refused(wrong: &[Name]) -> String {
    if wrong.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = wrong.iter().map(Name::as_str).collect();
    format!("; refused as wrong: {}", names.join(", "))
}

/// A secret that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconstructed {
    /// The epoch's password; [`crate::Schedule::check`] it before it is shown.
    pub password: Password,
    /// Whose shares were refused on the way.
    pub wrong: Vec<Name>,
}

impl Escrow {
    /// Brings the password of an epoch back from at least t shares. Wrong ones are left out and
    /// named; they do not keep the good ones from it.
    ///
    /// # Errors
    /// Fewer than t good shares.
    pub fn reconstruct(
        &self,
        epoch: Epoch,
        shares: &[(Name, SecretShare)],
    ) -> Result<Reconstructed, ReconstructError> {
        let commitment = self.commitments.get(&epoch).ok_or(ReconstructError::NoEpoch(epoch))?;
        let (mut good, mut wrong) = (BTreeMap::new(), BTreeSet::new());
        for (name, share) in shares {
            match self.package(epoch, name, share) {
                Some(package) => drop(good.insert(name.clone(), package)),
                None => drop(wrong.insert(name.clone())),
            }
        }
        let (needed, wrong) = (self.threshold(), Vec::from_iter(wrong));
        let good: Vec<frost::keys::KeyPackage> =
            good.into_values().take(usize::from(needed.0)).collect();
        if good.len() < usize::from(needed.0) {
            return Err(ReconstructError::TooFew { epoch, good: good.len(), needed, wrong });
        }
        let secret =
            frost::keys::reconstruct(&good).expect("t verified shares of distinct indices");
        // The shares were proved; this proves the sum.
        let public = frost::VerifyingKey::from(&secret).serialize();
        let committed = commitment.serialize();
        assert!(
            matches!((&public, &committed), (Ok(public), Ok(points)) if *public == points[0]),
            "t shares that fit the commitments make the committed secret"
        );
        let secret = Zeroizing::new(secret.serialize());
        Ok(Reconstructed { password: Password::derive(&self.network, epoch, &secret), wrong })
    }
}
