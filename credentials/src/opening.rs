//! A governor opens what a dealer sealed to it, and checks every share before it approves.

use std::collections::BTreeMap;

use age::x25519::Identity;
use borgios_policy::Name;
use borgios_types::{Epoch, json};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::escrow::{ESCROW_MAX, Escrow};
use crate::secret_share::SecretShare;

/// One governor's shares of every epoch, each proved to fit its commitments.
#[derive(Clone, Debug)]
pub struct OpenedShares {
    name: Name,
    shares: BTreeMap<Epoch, SecretShare>,
}

impl OpenedShares {
    /// Whose they are.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The share of one epoch.
    #[must_use]
    pub fn share(&self, epoch: Epoch) -> Option<&SecretShare> {
        self.shares.get(&epoch)
    }
}

/// Why a governor cannot take what a dealer sealed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// No such governor.
    #[error("nothing is sealed to {0}, who is not on the board")]
    NotOnBoard(Name),
    /// Sealed to someone else, or damaged.
    #[error("the file sealed to {name} does not open with this identity: {why}")]
    Sealed {
        /// To whom.
        name: Name,
        /// What the age library said.
        why: String,
    },
    /// Opened, but no shares.
    #[error("what was sealed to {name} is not its shares: {why}")]
    Shape {
        /// To whom.
        name: Name,
        /// What is wrong with it.
        why: String,
    },
    /// A share that would be worth nothing in a reveal.
    #[error(
        "the share of epoch {epoch} that was sealed to {name} does not fit its commitments: do not approve this schedule"
    )]
    Share {
        /// To whom.
        name: Name,
        /// Of which epoch.
        epoch: Epoch,
    },
}

impl Escrow {
    /// Opens what was sealed to `name` and checks every share of every epoch.
    ///
    /// # Errors
    /// Nothing for that name, another's identity, or a dealer who cheated: the first share that
    /// does not fit is named, and the schedule must not be approved.
    pub fn open(&self, name: &Name, identity: &Identity) -> Result<OpenedShares, OpenError> {
        let not_on_board = || OpenError::NotOnBoard(name.clone());
        let index = self.index(name).ok_or_else(not_on_board)?;
        let file = self.sealed_to(name).ok_or_else(not_on_board)?;
        let plain = age::decrypt(identity, &file.0)
            .map_err(|error| OpenError::Sealed { name: name.clone(), why: error.to_string() })?;
        let plain = Zeroizing::new(plain);
        let shape = |why: String| OpenError::Shape { name: name.clone(), why };
        let text = core::str::from_utf8(&plain).map_err(|error| shape(error.to_string()))?;
        // The library's words could repeat a piece of the secret.
        let shares: BTreeMap<Epoch, SecretShare> = json::parse_strict(text, ESCROW_MAX)
            .map_err(|_| shape("not strict JSON of epochs and 32 bytes each".to_owned()))?;
        if !shares.keys().eq(self.commitments.keys()) {
            return Err(shape("not the epochs of the schedule".to_owned()));
        }
        for ((epoch, share), commitment) in shares.iter().zip(self.commitments.values()) {
            let bad = |_| OpenError::Share { name: name.clone(), epoch: *epoch };
            share.verified(index, commitment).map_err(bad)?;
        }
        Ok(OpenedShares { name: name.clone(), shares })
    }
}
