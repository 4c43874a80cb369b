//! One governor's share of one epoch's secret.

use core::fmt;

use borgios_policy::SecretBytes;
use frost_ed25519 as frost;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The value of an epoch's polynomial at one governor's index: a scalar of 32 bytes.
///
/// Zeroised on drop, never printed. It serialises, because it is stored and sent: callers write
/// it only into files that are sealed to someone.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SecretShare([u8; 32]);

impl SecretShare {
    /// Takes 32 bytes, which need not be a scalar: that is asked where a share is checked.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, which the caller must not copy.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn of(share: &frost::keys::SecretShare) -> Self {
        let mut bytes = share.signing_share().serialize();
        let taken = Self(bytes.as_slice().try_into().expect("a scalar is 32 bytes"));
        bytes.zeroize();
        taken
    }

    /// The FROST library's own form, proved to lie on the committed polynomial (RFC 9591 C.2).
    pub(crate) fn verified(
        &self,
        index: u16,
        commitment: &frost::keys::VerifiableSecretSharingCommitment,
    ) -> Result<frost::keys::KeyPackage, frost::Error> {
        let identifier = frost::Identifier::try_from(index)?;
        let value = frost::keys::SigningShare::deserialize(&self.0)?;
        frost::keys::SecretShare::new(identifier, value, commitment.clone()).try_into()
    }
}

impl fmt::Debug for SecretShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretShare(…)")
    }
}

impl Serialize for SecretShare {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        SecretBytes::new(self.0.to_vec()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SecretShare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = SecretBytes::deserialize(deserializer)?;
        let share = bytes.expose().try_into().map(Self);
        share.map_err(|_| de::Error::custom("a share is 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_only_whole_and_is_never_printed() {
        let share = SecretShare::from_bytes([9; 32]);
        let text = serde_json::to_string(&share).unwrap();
        assert_eq!(serde_json::from_str::<SecretShare>(&text).unwrap(), share);
        assert_eq!(format!("{share:?}"), "SecretShare(…)");
        assert!(serde_json::from_str::<SecretShare>("\"AAAA\"").is_err());
    }
}
