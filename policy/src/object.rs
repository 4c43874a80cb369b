//! What all signed objects that are not statements have in common: how their payload is read,
//! and who may have signed it.

use borgios_types::{Digest, Envelope, Kind, PublicKey, UnixSeconds, json};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::board::{Board, Governor};

/// Longest free text of a note, reason or comment, in bytes.
pub const TEXT_MAX: usize = 4 * 1024;

/// Why an object is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ObjectError {
    /// Another type of envelope than asked for.
    #[error("an envelope of type {found}, expected {expected}")]
    WrongKind {
        /// The envelope's type.
        found: Kind,
        /// The type asked for.
        expected: &'static str,
    },
    /// Longer than its kind may be.
    #[error("too large: {0}")]
    TooLarge(String),
    /// Not strict JSON, or not of its kind's shape.
    #[error("malformed {kind}: {why}")]
    Malformed {
        /// The envelope's type.
        kind: &'static str,
        /// What is wrong.
        why: String,
    },
    /// It insists on a field that this version does not know.
    #[error("the {kind} insists on {field:?}, which this version does not know; update first")]
    UnknownCritical {
        /// The envelope's type.
        kind: &'static str,
        /// The field.
        field: String,
    },
    /// An object of another fleet.
    #[error("a {kind} for network {found}, this is {expected}")]
    WrongNetwork {
        /// The envelope's type.
        kind: &'static str,
        /// The network it names.
        found: Digest,
        /// This network.
        expected: Digest,
    },
    /// An object for another group key.
    #[error("a {kind} for the group key {}, the board has {}", found.short(), expected.short())]
    WrongGroup {
        /// The envelope's type.
        kind: &'static str,
        /// The key it names.
        found: PublicKey,
        /// The board's key.
        expected: PublicKey,
    },
    /// No valid signature by the one who had to sign.
    #[error("the {kind} carries no valid signature by {signer}")]
    BadSignature {
        /// The envelope's type.
        kind: &'static str,
        /// Who had to sign.
        signer: String,
    },
    /// Past its date.
    #[error("the {kind} expired at {expires}, it is {now}")]
    Expired {
        /// The envelope's type.
        kind: &'static str,
        /// When it expired.
        expires: UnixSeconds,
        /// The clock.
        now: UnixSeconds,
    },
    /// A rule of its kind is broken.
    #[error("the {kind} is refused: {why}")]
    Refused {
        /// The envelope's type.
        kind: &'static str,
        /// The rule and the value.
        why: String,
    },
}

impl ObjectError {
    /// The stable code, of the same family as [`crate::Refusal::code`].
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::WrongKind { .. } => "wrong_kind",
            Self::TooLarge(_) => "too_large",
            Self::Malformed { .. } => "malformed",
            Self::UnknownCritical { .. } => "unknown_critical",
            Self::WrongNetwork { .. } => "wrong_network",
            Self::WrongGroup { .. } => "wrong_policy",
            Self::BadSignature { .. } => "bad_signature",
            Self::Expired { .. } => "expired",
            Self::Refused { .. } => "bad_body",
        }
    }
}

/// A payload with its own envelope type.
pub trait Object: Serialize + DeserializeOwned {
    /// The envelope's type.
    const KIND: &'static str;
    /// The payload's fields that this version understands.
    const FIELDS: &'static [&'static str];

    /// Rules that hold whoever signed it.
    ///
    /// # Errors
    /// [`ObjectError::Refused`] with the rule.
    fn check(&self) -> Result<(), ObjectError> {
        Ok(())
    }

    /// Reads the payload: bounds, strict JSON, shape, rules. No signature is checked here.
    ///
    /// # Errors
    /// The first of these that fails.
    fn parse(envelope: &Envelope) -> Result<Self, ObjectError> {
        let kind = Self::KIND;
        if envelope.kind.as_str() != kind {
            return Err(ObjectError::WrongKind { found: envelope.kind.clone(), expected: kind });
        }
        let payload = envelope.payload.as_str();
        let malformed =
            |why: String| ObjectError::Malformed { kind, why: why.chars().take(200).collect() };
        json::check_strict(payload, envelope.kind.payload_max()).map_err(|error| match error {
            json::JsonError::TooLarge { .. } => ObjectError::TooLarge(error.to_string()),
            error => malformed(error.to_string()),
        })?;
        let Critical { critical } =
            serde_json::from_str(payload).map_err(|error| malformed(error.to_string()))?;
        if let Some(field) = critical.iter().find(|field| !Self::FIELDS.contains(&field.as_str())) {
            let field = field.chars().take(40).collect();
            return Err(ObjectError::UnknownCritical { kind, field });
        }
        let object: Self =
            serde_json::from_str(payload).map_err(|error| malformed(error.to_string()))?;
        object.check()?;
        Ok(object)
    }

    /// The payload's text: compact, fields in the order of the struct.
    fn to_payload(&self) -> String {
        serde_json::to_string(self).expect("an object has string keys only")
    }

    /// Wraps the payload, unsigned.
    fn to_envelope(&self) -> Envelope {
        let kind = Kind::new(Self::KIND).expect("kinds are lower-case words");
        Envelope::unsigned(kind, self.to_payload())
    }
}

/// Fields a reader must know, in any payload.
#[derive(serde::Deserialize)]
struct Critical {
    #[serde(default)]
    critical: Vec<String>,
}

/// The governor of `board` whose valid signature `envelope` carries.
///
/// # Errors
/// [`ObjectError::BadSignature`] if no governor signed it.
pub(crate) fn signed_by_a_governor<'a>(
    board: &'a Board,
    kind: &'static str,
    envelope: &Envelope,
) -> Result<&'a Governor, ObjectError> {
    let signers = envelope.sigs.iter().filter_map(|sig| board.by_key(&sig.by));
    signers
        .into_iter()
        .find(|governor| envelope.signed_by(&governor.key))
        .ok_or_else(|| ObjectError::BadSignature { kind, signer: "a governor".to_owned() })
}

/// Whether `envelope` carries a valid signature by `key`.
pub(crate) fn signed_by(
    key: &PublicKey,
    kind: &'static str,
    envelope: &Envelope,
) -> Result<(), ObjectError> {
    if envelope.signed_by(key) {
        return Ok(());
    }
    Err(ObjectError::BadSignature { kind, signer: key.short() })
}

/// Whether an object is for this network.
pub(crate) fn for_network(
    kind: &'static str,
    found: Digest,
    expected: Digest,
) -> Result<(), ObjectError> {
    if found == expected {
        return Ok(());
    }
    Err(ObjectError::WrongNetwork { kind, found, expected })
}

/// Whether an object is in date.
pub(crate) fn in_date(
    kind: &'static str,
    issued: UnixSeconds,
    expires: UnixSeconds,
    now: UnixSeconds,
) -> Result<(), ObjectError> {
    if expires <= issued {
        let why = format!("it expires at {expires}, issued at {issued}");
        return Err(ObjectError::Refused { kind, why });
    }
    if now < expires { Ok(()) } else { Err(ObjectError::Expired { kind, expires, now }) }
}

/// Whether a free text is within [`TEXT_MAX`].
pub(crate) fn text_fits(
    kind: &'static str,
    what: &str,
    text: Option<&String>,
) -> Result<(), ObjectError> {
    match text {
        Some(text) if text.len() > TEXT_MAX => {
            let why = format!("a {what} of {} bytes, at most {TEXT_MAX}", text.len());
            Err(ObjectError::Refused { kind, why })
        }
        _ => Ok(()),
    }
}
