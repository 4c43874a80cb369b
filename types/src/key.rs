//! Ed25519 identities as SSH keys.
//!
//! A node, a governor and the board itself (its group key) are each one Ed25519 key, written as
//! OpenSSH writes it: `ssh-ed25519 AAAA…`. What a key signs is always an SSHSIG preimage.

use core::fmt;
use core::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey, Verifier as _, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use thiserror::Error;

use crate::sshsig::{self, Namespace};

/// An Ed25519 public key: a valid point of the curve, not of small order.
///
/// Its text form, in JSON too, is `ssh-ed25519 AAAA…` without a comment. `Debug` is the first
/// part of its fingerprint; [`PublicKey::fingerprint`] is what `ssh-keygen -l` prints.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

/// A server of the tree is known by the public key of its agent.
pub type NodeId = PublicKey;

/// Why bytes or a text are not a usable public key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Not a point of the curve, or one that would let anyone sign.
    #[error("32 bytes that are not a usable Ed25519 public key")]
    Point,
    /// Not an OpenSSH Ed25519 public key.
    #[error("{0:?} is not a key: expected `ssh-ed25519 AAAA…`")]
    Text(String),
    /// Not an unencrypted OpenSSH Ed25519 private key file.
    #[error("not an unencrypted OpenSSH Ed25519 private key")]
    Private,
}

impl PublicKey {
    /// Takes the 32 bytes of RFC 8032.
    ///
    /// # Errors
    /// [`KeyError::Point`] for what is no point of the curve, or one of small order.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::Point)?;
        if key.is_weak() { Err(KeyError::Point) } else { Ok(Self(bytes)) }
    }

    /// The 32 bytes of RFC 8032.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// Whether `signature` over `message` for `namespace` was made by this key.
    ///
    /// Strict verification: no malleable signature passes (`verify_strict`).
    #[must_use]
    pub fn verifies(&self, namespace: &Namespace, message: &[u8], signature: &Signature) -> bool {
        let Ok(key) = VerifyingKey::from_bytes(&self.0) else { return false };
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(&sshsig::preimage(namespace, message), &signature).is_ok()
    }

    /// Whether `signature` covers exactly `bytes`, without a preimage around them: for OpenSSH
    /// certificates, whose to-be-signed bytes are laid out by OpenSSH itself. Strict, as
    /// [`PublicKey::verifies`] is.
    #[must_use]
    pub fn verifies_bytes(&self, bytes: &[u8], signature: &Signature) -> bool {
        let Ok(key) = VerifyingKey::from_bytes(&self.0) else { return false };
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(bytes, &signature).is_ok()
    }

    /// The key made ready to verify many signatures.
    #[must_use]
    pub fn ready(&self) -> ReadyKey {
        ReadyKey(VerifyingKey::from_bytes(&self.0).expect("checked when the key was made"))
    }

    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let key = ssh_key::PublicKey::from(ssh_key::public::Ed25519PublicKey(self.0));
        key.fingerprint(ssh_key::HashAlg::Sha256).to_string()
    }

    /// The first eight characters of the fingerprint, for people: enough to tell servers apart
    /// on a screen, not to prove anything.
    #[must_use]
    pub fn short(&self) -> String {
        self.fingerprint()["SHA256:".len()..].chars().take(8).collect()
    }

    /// The line of an `allowed_signers` file that lets `ssh-keygen -Y verify` check `namespaces`.
    #[must_use]
    pub fn allowed_signer(&self, principal: &str, namespaces: &[&str]) -> String {
        format!("{principal} namespaces=\"{}\" {self}\n", namespaces.join(","))
    }
}

/// A public key whose point is decompressed: for whoever verifies many signatures of one key.
///
/// Accepts exactly what [`PublicKey::verifies`] accepts, in three quarters of the time.
#[derive(Clone, Debug)]
pub struct ReadyKey(VerifyingKey);

/// The encodings of the eight points of small order. RFC 8032 §5.1.4; Chalkias et al., "Taming the
/// many EdDSAs" (2020), table 6a, where the canonical ones are these.
const SMALL_ORDER: [[u8; 32]; 8] = {
    const Y: [u8; 32] = [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ];
    const MINUS_Y: [u8; 32] = [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ];
    const fn with(mut bytes: [u8; 32], first: u8, last: u8) -> [u8; 32] {
        bytes[0] ^= first;
        bytes[31] ^= last;
        bytes
    }
    let minus_one = with(with([0xff; 32], 0x13, 0), 0, 0x80);
    [
        with([0; 32], 1, 0),
        minus_one,
        [0; 32],
        with([0; 32], 0, 0x80),
        Y,
        with(Y, 0, 0x80),
        MINUS_Y,
        with(MINUS_Y, 0, 0x80),
    ]
};

impl ReadyKey {
    /// As [`PublicKey::verifies`].
    ///
    /// Strict verification is the ordinary one and two refusals more: of a key of small order, which
    /// is no [`PublicKey`], and of an `R` of small order. The ordinary one compares `R` with a
    /// canonical encoding byte by byte, so that only the eight canonical ones need be refused here,
    /// and `R` need not be decompressed.
    #[must_use]
    pub fn verifies(&self, namespace: &Namespace, message: &[u8], signature: &Signature) -> bool {
        let (r, _) = signature.0.split_first_chunk::<32>().expect("64 bytes hold 32");
        let given = ed25519_dalek::Signature::from_bytes(&signature.0);
        !SMALL_ORDER.contains(r)
            && self.0.verify(&sshsig::preimage(namespace, message), &given).is_ok()
    }
}

/// `ssh-ed25519 AAAA…`, as in an `authorized_keys` file, without a comment.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut blob = Vec::with_capacity(51);
        blob.extend_from_slice(&11_u32.to_be_bytes());
        blob.extend_from_slice(b"ssh-ed25519");
        blob.extend_from_slice(&32_u32.to_be_bytes());
        blob.extend_from_slice(&self.0);
        write!(f, "ssh-ed25519 {}", BASE64.encode(blob))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.short())
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// Reads `ssh-ed25519 AAAA…`; a comment after it is allowed and dropped.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bad = || KeyError::Text(text.chars().take(100).collect());
        if text.len() > 1_000 {
            return Err(bad());
        }
        let mut words = text.split_ascii_whitespace();
        let (Some("ssh-ed25519"), Some(blob)) = (words.next(), words.next()) else {
            return Err(bad());
        };
        let blob = BASE64.decode(blob).map_err(|_| bad())?;
        let prefix = b"\0\0\0\x0bssh-ed25519\0\0\0\x20";
        let key = blob.strip_prefix(prefix).ok_or_else(bad)?;
        Self::from_bytes(key.try_into().map_err(|_| bad())?)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A 64-byte Ed25519 signature over an SSHSIG preimage; base64 in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({}…)", &BASE64.encode(self.0)[..8])
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // 64 bytes are 88 characters; the length is checked before anything is decoded.
        let bytes = if text.len() == 88 { BASE64.decode(&text).ok() } else { None };
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("a signature is 64 bytes in base64"))
    }
}

/// An Ed25519 private key. Zeroised on drop; never printed.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// Makes the key of a 32-byte seed from a good source of randomness.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// The seed this key was made of; whoever holds it holds the key.
    #[must_use]
    pub fn seed(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `message` for `namespace` as an SSH signature.
    #[must_use]
    pub fn sign(&self, namespace: &Namespace, message: &[u8]) -> Signature {
        Signature(self.0.sign(&sshsig::preimage(namespace, message)).to_bytes())
    }

    /// Signs exactly `bytes`, without a preimage around them: for OpenSSH certificates alone. What
    /// is signed so must never be chosen by anyone else.
    #[must_use]
    pub fn sign_bytes(&self, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(bytes).to_bytes())
    }

    /// The unencrypted OpenSSH private key file, which `ssh -i` reads.
    #[must_use]
    pub fn to_openssh(&self, comment: &str) -> zeroize::Zeroizing<String> {
        let pair = Ed25519Keypair::from_seed(&self.seed());
        ssh_key::PrivateKey::new(KeypairData::Ed25519(pair), comment)
            .and_then(|key| key.to_openssh(ssh_key::LineEnding::LF))
            .expect("an Ed25519 key always encodes")
    }

    /// Reads an unencrypted OpenSSH private key file.
    ///
    /// # Errors
    /// [`KeyError::Private`] for anything else, an encrypted key included.
    pub fn from_openssh(text: &str) -> Result<Self, KeyError> {
        let key = ssh_key::PrivateKey::from_openssh(text).map_err(|_| KeyError::Private)?;
        let pair = key.key_data().ed25519().ok_or(KeyError::Private)?;
        Ok(Self::from_seed(pair.private.to_bytes()))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public().short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_read_back() {
        let secret = SecretKey::from_seed([3; 32]);
        let public = secret.public();
        assert_eq!(public.to_string().parse::<PublicKey>().unwrap(), public);
        assert_eq!(format!("{public} ann@laptop").parse::<PublicKey>().unwrap(), public);
        let again = SecretKey::from_openssh(&secret.to_openssh("node")).unwrap();
        assert_eq!(again.public(), public);
    }

    #[test]
    fn no_flipped_bit_passes() {
        let secret = SecretKey::from_seed([3; 32]);
        let namespace = Namespace::of_kind("release");
        let good = secret.sign(&namespace, b"payload");
        assert!(secret.public().verifies(&namespace, b"payload", &good));
        for bit in 0..512 {
            let mut bad = good;
            bad.0[bit / 8] ^= 1 << (bit % 8);
            assert!(!secret.public().verifies(&namespace, b"payload", &bad), "bit {bit}");
        }
        assert!(!secret.public().verifies(&namespace, b"payloae", &good));
        assert!(!secret.public().verifies(&Namespace::of_kind("policy"), b"payload", &good));
    }

    #[test]
    fn a_ready_key_accepts_what_the_strict_one_does() {
        let secret = SecretKey::from_seed([3; 32]);
        let (public, ready) = (secret.public(), secret.public().ready());
        let namespace = Namespace::of_kind("batch");
        let good = secret.sign(&namespace, b"payload");
        let preimage = sshsig::preimage(&namespace, b"payload");
        assert!(ready.verifies(&namespace, b"payload", &good));
        for bit in 0..512 {
            let mut bad = good;
            bad.0[bit / 8] ^= 1 << (bit % 8);
            assert!(!ready.verifies(&namespace, b"payload", &bad), "bit {bit}");
        }
        // R is the neutral element and s = k * a: the ordinary verification accepts it.
        let hex = "0100000000000000000000000000000000000000000000000000000000000000f9542062466fa2473165418dfdd6326ee987e69f67e44e498d55d7be27b1660e";
        let mut neutral = Signature([0; 64]);
        for (index, byte) in neutral.0.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).unwrap();
        }
        let key = VerifyingKey::from_bytes(&public.to_bytes()).unwrap();
        let theirs = ed25519_dalek::Signature::from_bytes(&neutral.0);
        assert!(key.verify(&preimage, &theirs).is_ok());
        assert!(!public.verifies(&namespace, b"payload", &neutral));
        assert!(!ready.verifies(&namespace, b"payload", &neutral));
        // Nor does what covers bytes without a preimage, as a certificate's signature does.
        assert!(public.verifies_bytes(&preimage, &good));
        assert!(!public.verifies_bytes(&preimage, &neutral));
        // The table holds the eight points of small order, each once.
        let distinct: std::collections::BTreeSet<_> = SMALL_ORDER.iter().collect();
        assert_eq!(distinct.len(), 8);
        for bytes in &SMALL_ORDER {
            assert!(VerifyingKey::from_bytes(bytes).unwrap().is_weak(), "{bytes:02x?}");
        }
    }

    #[test]
    fn keys_that_let_anyone_sign_are_refused() {
        // The neutral element has small order.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert_eq!(PublicKey::from_bytes(neutral), Err(KeyError::Point));
        assert!("ssh-rsa AAAA".parse::<PublicKey>().is_err());
        assert!("ssh-ed25519 AAAA".parse::<PublicKey>().is_err());
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret = SecretKey::from_seed([9; 32]);
        assert!(!format!("{secret:?}").contains("09"));
    }
}
