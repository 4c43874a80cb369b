//! What `/etc/shadow` holds in place of a password: its yescrypt hash.

use core::fmt;
use core::str::FromStr;

use rand::{CryptoRng, RngCore};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;
use yescrypt::{PasswordHasher as _, PasswordVerifier as _, Yescrypt};

use crate::password::Password;

/// Characters of a verifier: `$y$j9T$`, 16 bytes of salt, `$`, 32 bytes of hash.
pub const VERIFIER_CHARS: usize = PREFIX.len() + SALT_CHARS + 1 + HASH_CHARS;

/// yescrypt with the cost that Debian uses (N = 4096, r = 32: 16 MiB and some 50 ms). No other
/// cost is read: one that a schedule chose could fill a node's memory when root logs in.
const PREFIX: &str = "$y$j9T$";
const SALT_BYTES: usize = 16;
const SALT_CHARS: usize = 22;
const HASH_CHARS: usize = 43;

/// A yescrypt field of `/etc/shadow` in the one form that this fleet uses.
///
/// It holds `$`, `.`, `/`, letters and digits only, so it cannot end a line or a field. It is
/// public: 128 random bits stand behind it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Verifier(String);

/// Why a text is not a verifier. What was found is cut short: it may be someone's hash.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{length} characters that are no verifier: expected {PREFIX}, 22 of salt, $, 43 of hash")]
pub struct VerifierError {
    length: usize,
}

impl Verifier {
    /// Hashes a password with a salt drawn from `rng`.
    #[must_use]
    pub fn make(password: &Password, rng: &mut (impl RngCore + CryptoRng)) -> Self {
        let mut salt = [0; SALT_BYTES];
        rng.fill_bytes(&mut salt);
        let hash = Yescrypt::default()
            .hash_password_with_salt(password.expose().as_bytes(), &salt)
            .expect("the default cost and a salt of 16 bytes are within yescrypt's bounds");
        hash.as_str().parse().expect("the default cost makes the one form that is read")
    }

    /// Whether this is the hash of `password`. Takes some 50 ms.
    #[must_use]
    pub fn matches(&self, password: &Password) -> bool {
        Yescrypt::default().verify_password(password.expose().as_bytes(), self.0.as_str()).is_ok()
    }

    /// The field, as `/etc/shadow` and `chpasswd -e` take it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Verifier {
    type Err = VerifierError;

    fn from_str(text: &str) -> Result<Self, VerifierError> {
        let base64 =
            |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'/');
        let parts = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('$'));
        let fits = parts.is_some_and(|(salt, hash)| {
            (salt.len(), hash.len()) == (SALT_CHARS, HASH_CHARS) && base64(salt) && base64(hash)
        });
        if !fits {
            return Err(VerifierError { length: text.len() });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The salt is enough to tell two apart.
impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({}…)", &self.0[..PREFIX.len() + SALT_CHARS])
    }
}

impl<'de> Deserialize<'de> for Verifier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use borgios_types::{Digest, Epoch};
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha20Rng;

    use super::*;

    fn password(epoch: u64) -> Password {
        Password::derive(&Digest::of(b"network"), Epoch(epoch), &[7; 32])
    }

    #[test]
    fn a_verifier_knows_its_password_and_no_other() {
        let verifier = Verifier::make(&password(1), &mut ChaCha20Rng::seed_from_u64(1));
        assert_eq!(verifier.as_str().len(), VERIFIER_CHARS);
        assert!(verifier.matches(&password(1)));
        assert!(!verifier.matches(&password(2)));
        let other = Verifier::make(&password(1), &mut ChaCha20Rng::seed_from_u64(2));
        assert_ne!(verifier, other, "each has a salt of its own");
    }

    /// What login and su call is `crypt(3)`; perl, which every Debian has, calls it too.
    #[test]
    fn the_systems_own_crypt_makes_the_same_hash() {
        for seed in 0..8 {
            let verifier = Verifier::make(&password(seed), &mut ChaCha20Rng::seed_from_u64(seed));
            let crypt = std::process::Command::new("perl")
                .args(["-e", "print crypt($ARGV[0], $ARGV[1])"])
                .args([password(seed).expose(), verifier.as_str()])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&crypt.stdout), verifier.as_str(), "seed {seed}");
        }
    }

    #[test]
    fn nothing_else_becomes_a_field_of_shadow() {
        let good = format!("{PREFIX}{}${}", "a".repeat(SALT_CHARS), "b".repeat(HASH_CHARS));
        assert_eq!(good.parse::<Verifier>().unwrap().as_str(), good);
        for bad in [
            "",
            "*",
            "!",
            "x",
            "$y$",
            "$y$j9T$",
            &good[1..],
            &good.replace("j9T", "jFT"),
            &good.replace("$y$", "$6$"),
            &good.replace('b', ":"),
            &good.replace('a', "\n"),
            &good.replace('b', "$"),
            &format!("{good}:0"),
            &format!("{good}b"),
            &format!("!{good}"),
            &"ä".repeat(40),
        ] {
            assert!(bad.parse::<Verifier>().is_err(), "{bad:?}");
        }
    }
}
