//! SSH signatures: the bytes they cover and their armoured file form.
//!
//! Source: OpenSSH `PROTOCOL.sshsig`. Every signature in BorgIOS covers the preimage made here,
//! with SHA-512, so that stock `ssh-keygen -Y verify` can check each one.

use core::fmt;

use serde::{Deserialize, Serialize};
use ssh_key::public::{Ed25519PublicKey, KeyData};
use ssh_key::{Algorithm, HashAlg, LineEnding, SshSig};
use thiserror::Error;

use crate::key::{PublicKey, Signature};

/// What a signature is for, such as `borgios-release@v1`; a signature made for one purpose never
/// verifies for another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Namespace(String);

impl Namespace {
    /// The namespace of envelopes of type `kind`: `borgios-<kind>@v1`.
    #[must_use]
    pub fn of_kind(kind: &str) -> Self {
        Self(format!("borgios-{kind}@v1"))
    }

    /// The text, as `ssh-keygen -n` takes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The bytes an SSH signature over `message` covers: `SSHSIG`, namespace, hash name, SHA-512.
#[must_use]
pub fn preimage(namespace: &Namespace, message: &[u8]) -> Vec<u8> {
    SshSig::signed_data(namespace.as_str(), HashAlg::Sha512, message)
        .expect("a namespace is never empty, the only thing signed_data refuses")
}

/// The armoured `.sig` file (`-----BEGIN SSH SIGNATURE-----`) that `ssh-keygen -Y verify` reads.
#[must_use]
pub fn armour(key: &PublicKey, namespace: &Namespace, signature: &Signature) -> String {
    let key = KeyData::Ed25519(Ed25519PublicKey(key.to_bytes()));
    let signature = ssh_key::Signature::new(Algorithm::Ed25519, signature.0.to_vec())
        .expect("64 bytes are an Ed25519 signature");
    SshSig::new(key, namespace.as_str(), HashAlg::Sha512, signature)
        .and_then(|sig| sig.to_pem(LineEnding::LF))
        .expect("a well-formed SSHSIG always encodes")
}

/// Why an armoured signature was refused.
#[derive(Debug, Error)]
pub enum ArmourError {
    /// Not an armoured SSH signature.
    #[error("not an SSH signature file")]
    Malformed(#[source] ssh_key::Error),
    /// Another key type or hash than BorgIOS uses.
    #[error("an SSH signature by {0}, expected ssh-ed25519 with SHA-512")]
    Unsupported(String),
    /// Made for another purpose.
    #[error("a signature for {found:?}, expected {expected}")]
    WrongNamespace {
        /// The namespace the file names.
        found: String,
        /// The namespace asked for.
        expected: Namespace,
    },
}

/// Reads an armoured signature made for `namespace`; the signature itself is not checked here.
///
/// # Errors
/// See [`ArmourError`].
pub fn read_armour(
    text: &str,
    namespace: &Namespace,
) -> Result<(PublicKey, Signature), ArmourError> {
    let sig = SshSig::from_pem(text).map_err(ArmourError::Malformed)?;
    let unsupported = || ArmourError::Unsupported(sig.algorithm().to_string());
    if sig.hash_alg() != HashAlg::Sha512 {
        return Err(unsupported());
    }
    if sig.namespace() != namespace.as_str() {
        return Err(ArmourError::WrongNamespace {
            found: sig.namespace().chars().take(80).collect(),
            expected: namespace.clone(),
        });
    }
    let KeyData::Ed25519(key) = sig.public_key() else { return Err(unsupported()) };
    let key = PublicKey::from_bytes(key.0).map_err(|_| unsupported())?;
    let bytes = sig.signature_bytes().try_into().map_err(|_| unsupported())?;
    Ok((key, Signature(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    #[test]
    fn armour_reads_back_for_its_own_namespace_only() {
        let key = SecretKey::from_seed([7; 32]);
        let release = Namespace::of_kind("release");
        let signature = key.sign(&release, b"{}");
        let text = armour(&key.public(), &release, &signature);
        assert_eq!(read_armour(&text, &release).unwrap(), (key.public(), signature));
        assert!(matches!(
            read_armour(&text, &Namespace::of_kind("policy")),
            Err(ArmourError::WrongNamespace { .. })
        ));
    }
}
