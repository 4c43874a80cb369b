//! One share on its way to whom the board reveals a password.

use age::x25519::{Identity, Recipient};
use borgios_policy::Bytes;
use serde::{Deserialize, Deserializer, Serialize, de};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::secret_share::SecretShare;

/// Longest sealed share, in bytes. An age file of 32 bytes to one recipient has about 250.
pub const SEALED_SHARE_MAX: usize = 512;

/// An age file with one [`SecretShare`], which only the asker opens.
///
/// It does not say of which epoch: the ballot that carries it does, and `Escrow::reconstruct`
/// checks what came out against that epoch's commitments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SealedShare(Bytes);

/// Why a share was not sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    /// The age library could not.
    #[error("could not seal a share: {0}")]
    Seal(String),
    /// Longer than any sealed share.
    #[error("a sealed share of {0} bytes, at most {SEALED_SHARE_MAX} are read")]
    TooLarge(usize),
    /// Sealed to someone else, or damaged.
    #[error("a sealed share that this identity does not open: {0}")]
    Open(String),
    /// Opened, but no share.
    #[error("{0} bytes were sealed as a share, expected 32")]
    Length(usize),
}

impl SealedShare {
    /// Seals `share` to the asker alone. The age library draws its own randomness.
    ///
    /// # Errors
    /// Only what the age library reports.
    pub fn seal(share: &SecretShare, to: &Recipient) -> Result<Self, SealError> {
        let sealed = age::encrypt(to, share.expose());
        Self::from_bytes(sealed.map_err(|error| SealError::Seal(error.to_string()))?)
    }

    /// Takes the bytes of an age file.
    ///
    /// # Errors
    /// Too many of them.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, SealError> {
        if bytes.len() > SEALED_SHARE_MAX {
            return Err(SealError::TooLarge(bytes.len()));
        }
        Ok(Self(Bytes(bytes)))
    }

    /// The age file.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.0
    }

    /// Opens it with the asker's identity.
    ///
    /// # Errors
    /// Sealed to someone else, damaged, or not a share.
    pub fn open(&self, identity: &Identity) -> Result<SecretShare, SealError> {
        let opened = age::decrypt(identity, self.as_bytes());
        let opened = opened.map_err(|error| SealError::Open(error.to_string()))?;
        let opened = Zeroizing::new(opened);
        let bytes = opened.as_slice().try_into().map_err(|_| SealError::Length(opened.len()))?;
        Ok(SecretShare::from_bytes(bytes))
    }
}

impl<'de> Deserialize<'de> for SealedShare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_bytes(Bytes::deserialize(deserializer)?.0).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_asker_opens_a_share() {
        let (asker, other) = (Identity::generate(), Identity::generate());
        let share = SecretShare::from_bytes([5; 32]);
        let sealed = SealedShare::seal(&share, &asker.to_public()).unwrap();
        let text = serde_json::to_string(&sealed).unwrap();
        let read: SealedShare = serde_json::from_str(&text).unwrap();
        assert_eq!(read.open(&asker).unwrap(), share);
        assert!(matches!(read.open(&other), Err(SealError::Open(_))));
        let mut damaged = sealed.as_bytes().to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(SealedShare::from_bytes(damaged).unwrap().open(&asker).is_err());
    }

    #[test]
    fn what_is_no_share_is_refused() {
        let asker = Identity::generate();
        let long = age::encrypt(&asker.to_public(), &[1; 33]).unwrap();
        let sealed = SealedShare::from_bytes(long).unwrap();
        assert_eq!(sealed.open(&asker), Err(SealError::Length(33)));
        let huge = Bytes(vec![0; SEALED_SHARE_MAX + 1]);
        assert!(
            serde_json::from_str::<SealedShare>(&serde_json::to_string(&huge).unwrap()).is_err()
        );
        assert!(SealedShare::from_bytes(Vec::new()).unwrap().open(&asker).is_err());
    }
}
