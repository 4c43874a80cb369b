//! The one wrapping of every signed object.
//!
//! ```text
//! {"type":"release","payload":"{\"network\":…}","sigs":[{"by":"ssh-ed25519 AAAA…","sig":"<base64>"}]}
//! ```
//!
//! The payload is the exact JSON text that was signed, carried as a JSON *string*: whatever
//! reformats the envelope on its way cannot change a signed byte, and `jq -rj .payload` gives
//! back the file that `ssh-keygen -Y verify -n borgios-<type>@v1` checks.

use core::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::digest::Digest;
use crate::json::{self, JsonError};
use crate::key::{PublicKey, SecretKey, Signature};
use crate::limits::{ENVELOPE_MAX, NAME_MAX, PAYLOAD_MAX, POOL_PAYLOAD_MAX, SIGNATURES_MAX};
use crate::sshsig::Namespace;

/// What an envelope holds: `policy`, `release`, `ballot`, …: lower-case letters, digits and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Kind(String);

impl Kind {
    /// Nonce pools, the one kind with a larger bound.
    pub const POOL: &'static str = "pool";

    /// Takes a kind's name.
    ///
    /// # Errors
    /// [`EnvelopeError::Kind`] for an empty or over-long name, or other characters.
    pub fn new(name: &str) -> Result<Self, EnvelopeError> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(fits) {
            return Err(EnvelopeError::Kind(name.chars().take(NAME_MAX).collect()));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The namespace its signatures are made for.
    #[must_use]
    pub fn namespace(&self) -> Namespace {
        Namespace::of_kind(&self.0)
    }

    /// The longest payload of this kind, in bytes.
    #[must_use]
    pub fn payload_max(&self) -> usize {
        if self.0 == Self::POOL { POOL_PAYLOAD_MAX } else { PAYLOAD_MAX }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// One signature of an envelope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedBy {
    /// The key that made it: a governor's, a node's, or the board's group key.
    pub by: PublicKey,
    /// Over the SSHSIG preimage of the payload in the kind's namespace.
    pub sig: Signature,
}

/// A signed object as it travels and is stored. Holding one proves nothing: see
/// [`Envelope::signed_by`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// What the payload is.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The exact JSON text that was signed.
    pub payload: String,
    /// At most [`SIGNATURES_MAX`] signatures.
    pub sigs: Vec<SignedBy>,
}

/// Why bytes are not an envelope, or an envelope is refused before its payload is looked at.
#[derive(Debug, Error)]
pub enum EnvelopeError {
    /// Longer than any envelope; nothing of it was parsed.
    #[error("an envelope of {0} bytes, at most {ENVELOPE_MAX} are read")]
    TooLarge(usize),
    /// Not UTF-8.
    #[error("an envelope that is not UTF-8")]
    Text(#[source] core::str::Utf8Error),
    /// Not strict JSON, or not of an envelope's shape.
    #[error("malformed envelope")]
    Json(#[source] JsonError),
    /// No usable type name.
    #[error("{0:?} is not a type name: expected lower-case letters, digits and -")]
    Kind(String),
    /// More signatures than anyone may make this node check.
    #[error("{0} signatures, at most {SIGNATURES_MAX} are checked")]
    Signatures(usize),
    /// The payload is not strict JSON, or too long for its kind.
    #[error("malformed {kind} payload")]
    Payload {
        /// The envelope's type.
        kind: Kind,
        /// What is wrong with it.
        #[source]
        source: JsonError,
    },
}

impl Envelope {
    /// Wraps `payload` without a signature.
    #[must_use]
    pub fn unsigned(kind: Kind, payload: String) -> Self {
        Self { kind, payload, sigs: Vec::new() }
    }

    /// Reads an envelope: bounds first, then strict JSON for it and for its payload.
    ///
    /// # Errors
    /// See [`EnvelopeError`]. No signature is checked here.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > ENVELOPE_MAX {
            return Err(EnvelopeError::TooLarge(bytes.len()));
        }
        let text = core::str::from_utf8(bytes).map_err(EnvelopeError::Text)?;
        let envelope: Self = json::parse_strict(text, ENVELOPE_MAX).map_err(EnvelopeError::Json)?;
        if envelope.sigs.len() > SIGNATURES_MAX {
            return Err(EnvelopeError::Signatures(envelope.sigs.len()));
        }
        json::check_strict(&envelope.payload, envelope.kind.payload_max())
            .map_err(|source| EnvelopeError::Payload { kind: envelope.kind.clone(), source })?;
        Ok(envelope)
    }

    /// One line of JSON, without a newline.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and byte arrays always serialise")
    }

    /// The payload's SHA-256, by which statements, ballots and proposals are named.
    ///
    /// Signatures are not part of it: different aggregators may make different valid signatures
    /// for one document.
    #[must_use]
    pub fn id(&self) -> Digest {
        Digest::of(self.payload.as_bytes())
    }

    /// Adds `key`'s signature.
    #[must_use]
    pub fn sign(mut self, key: &SecretKey) -> Self {
        let sig = key.sign(&self.kind.namespace(), self.payload.as_bytes());
        self.sigs.push(SignedBy { by: key.public(), sig });
        self
    }

    /// Whether one of the signatures is a valid one by `key`.
    #[must_use]
    pub fn signed_by(&self, key: &PublicKey) -> bool {
        let namespace = self.kind.namespace();
        self.sigs
            .iter()
            .take(SIGNATURES_MAX)
            .filter(|sig| sig.by == *key)
            .any(|sig| key.verifies(&namespace, self.payload.as_bytes(), &sig.sig))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (SecretKey, Envelope) {
        let key = SecretKey::from_seed([1; 32]);
        let kind = Kind::new("release").unwrap();
        let envelope = Envelope::unsigned(kind, r#"{"seq":1,"text":"ü\n"}"#.into()).sign(&key);
        (key, envelope)
    }

    #[test]
    fn reads_what_it_writes() {
        let (key, envelope) = sample();
        let again = Envelope::parse(envelope.to_json().as_bytes()).unwrap();
        assert_eq!(again, envelope);
        assert!(again.signed_by(&key.public()));
    }

    #[test]
    fn no_flipped_bit_is_read_and_verifies() {
        let (key, envelope) = sample();
        let good = envelope.to_json().into_bytes();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let passes = Envelope::parse(&bad).is_ok_and(|e| e.signed_by(&key.public()));
            assert!(!passes, "bit {bit}");
        }
    }

    #[test]
    fn hostile_envelopes_are_refused_by_name() {
        let (_, envelope) = sample();
        let many = Envelope { sigs: vec![envelope.sigs[0].clone(); 5], ..envelope.clone() };
        let twice = Envelope { payload: r#"{"a":1,"a":2}"#.into(), ..envelope.clone() };
        let big = Envelope { payload: format!("\"{}\"", "x".repeat(65 * 1024)), ..envelope };
        let parse = |e: &Envelope| Envelope::parse(e.to_json().as_bytes()).unwrap_err();
        assert!(matches!(parse(&many), EnvelopeError::Signatures(5)));
        assert!(matches!(parse(&twice), EnvelopeError::Payload { .. }));
        assert!(matches!(parse(&big), EnvelopeError::Payload { .. }));
        let huge = vec![b'['; ENVELOPE_MAX + 1];
        assert!(matches!(Envelope::parse(&huge), Err(EnvelopeError::TooLarge(_))));
        assert!(matches!(Envelope::parse(b"\xff"), Err(EnvelopeError::Text(_))));
    }
}
