//! The password of one epoch: what opens root, and therefore a secret.

use core::fmt;
use core::str::FromStr;

use borgios_types::{Digest, Epoch};
use thiserror::Error;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

/// Characters of a password: 128 bits in base32.
pub const PASSWORD_CHARS: usize = 26;

/// RFC 4648, lower case: a person can read it aloud and type it on any keyboard.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// 26 characters of lower-case base32. Zeroised on drop, never printed.
#[derive(Clone, PartialEq, Eq, zeroize::Zeroize, ZeroizeOnDrop)]
pub struct Password(String);

/// Why a text is not a password of a schedule. It does not repeat the text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("not a password of the fleet: expected {PASSWORD_CHARS} characters of a-z and 2-7")]
pub struct PasswordError;

impl Password {
    /// The password that follows from an epoch's secret scalar: the first 16 bytes of the
    /// SHA-256 of label, network, epoch (8 bytes, big endian) and secret, each preceded by its
    /// length. The label and the epoch keep one secret from ever meaning two passwords.
    #[must_use]
    pub(crate) fn derive(network: &Digest, epoch: Epoch, secret: &[u8]) -> Self {
        let epoch = epoch.0.to_be_bytes();
        let mut digest = Digest::of_parts(&[b"borgios password v1", &network.0, &epoch, secret]).0;
        let password = Self(base32(&digest[..16]));
        digest.zeroize();
        password
    }

    /// The text, which the caller must not copy.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Five bits a character, the last one filled up with zeros; no padding.
fn base32(bytes: &[u8]) -> String {
    // Never grown, so that no copy of a secret is left behind in memory.
    let mut text = String::with_capacity((bytes.len() * 8).div_ceil(5));
    let mut pending = Zeroizing::new(0_u32);
    let mut bits = 0;
    for byte in bytes {
        *pending = (*pending << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(BASE32[(*pending >> bits) as usize & 31]));
        }
        *pending &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(char::from(BASE32[(*pending << (5 - bits)) as usize & 31]));
    }
    text
}

impl FromStr for Password {
    type Err = PasswordError;

    fn from_str(text: &str) -> Result<Self, PasswordError> {
        if text.len() != PASSWORD_CHARS || !text.bytes().all(|byte| BASE32.contains(&byte)) {
            return Err(PasswordError);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "my"),
            ("fo", "mzxq"),
            ("foo", "mzxw6"),
            ("foob", "mzxw6yq"),
            ("fooba", "mzxw6ytb"),
            ("foobar", "mzxw6ytboi"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn each_part_of_the_derivation_changes_the_password() {
        let (network, secret) = (Digest::of(b"network"), [7; 32]);
        let password = Password::derive(&network, Epoch(3), &secret);
        assert_eq!(password.expose().parse::<Password>().unwrap(), password);
        assert_eq!(Password::derive(&network, Epoch(3), &secret), password);
        assert_ne!(Password::derive(&network, Epoch(4), &secret), password);
        assert_ne!(Password::derive(&Digest::of(b"other"), Epoch(3), &secret), password);
        assert_ne!(Password::derive(&network, Epoch(3), &[8; 32]), password);
        // Fixed for ever: `printf` of the parts through `sha256sum`, then `base32`.
        assert_eq!(password.expose(), "3g2nauxfj4iwi3s4ux3p7r4lbm");
    }

    #[test]
    fn only_the_exact_form_is_a_password_and_none_is_printed() {
        let good = "a".repeat(PASSWORD_CHARS);
        assert_eq!(format!("{:?}", good.parse::<Password>().unwrap()), "Password(…)");
        let (short, long) = (&good[1..], format!("{good}a"));
        for bad in ["", short, &long, &good.replace('a', "A"), &good.replace('a', "1"), "ä"] {
            assert_eq!(bad.parse::<Password>(), Err(PasswordError));
        }
    }
}
