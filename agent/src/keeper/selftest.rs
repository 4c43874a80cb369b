//! `--selftest`: a new keeper shows that it runs on this server before anything depends on it.
//!
//! It was linked against libraries and compiled for a processor; whether those are here shows in
//! running it. It also does what it cannot do without: sign, verify, hash, unpack.

use borgios_types::{Envelope, Kind, SecretKey};
use thiserror::Error;

/// What does not work here.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SelftestError {
    /// Signatures.
    #[error("a signature made here does not verify here")]
    Signature,
    /// The parser.
    #[error("an envelope made here is not read here")]
    Envelope,
    /// The kernel gives no randomness.
    #[error("the kernel gives no randomness: {0}")]
    Randomness(String),
}

/// Tries what the keeper cannot do without.
///
/// # Errors
/// What does not work.
pub fn run() -> Result<(), SelftestError> {
    use rand::RngCore as _;
    let mut seed = [0; 32];
    rand::rngs::OsRng
        .try_fill_bytes(&mut seed)
        .map_err(|error| SelftestError::Randomness(error.to_string()))?;
    let key = SecretKey::from_seed(seed);
    let kind = Kind::new("report").map_err(|_| SelftestError::Envelope)?;
    let made = Envelope::unsigned(kind, r#"{"selftest":1}"#.to_owned()).sign(&key);
    let read = Envelope::parse(made.to_json().as_bytes()).map_err(|_| SelftestError::Envelope)?;
    let other = Envelope { payload: r#"{"selftest":2}"#.to_owned(), ..read.clone() };
    if read.signed_by(&key.public()) && !other.signed_by(&key.public()) {
        Ok(())
    } else {
        Err(SelftestError::Signature)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_passes_here() {
        assert_eq!(super::run(), Ok(()));
    }
}
