//! Statements altered in every way that must be refused.
//!
//! A forgery begins with a statement that was really signed, so that it fails at the one rule that
//! it breaks and not at an earlier one.

use anyhow::{Context as _, Result};
use borgios_types::{Envelope, Kind, PublicKey, SecretKey, SignedBy};
use serde_json::Value;

/// One bit of the payload: the last bit of a digit of the version.
///
/// # Errors
/// A statement without `version`.
pub fn flip_payload(statement: &Envelope) -> Result<Envelope> {
    let mark = "\"version\":\"";
    let at = statement.payload.find(mark).context("a release without a version")? + mark.len();
    let mut payload = statement.payload.clone().into_bytes();
    payload[at] ^= 1;
    Ok(Envelope { payload: String::from_utf8(payload)?, ..statement.clone() })
}

/// One bit of the first signature.
#[must_use]
pub fn flip_signature(statement: &Envelope) -> Envelope {
    let mut forged = statement.clone();
    for signed in forged.sigs.iter_mut().take(1) {
        signed.sig.0[40] ^= 1;
    }
    forged
}

/// One bit of the first signer's key, such that it is a key still.
///
/// # Errors
/// A statement without signatures.
pub fn flip_key(statement: &Envelope) -> Result<Envelope> {
    let mut forged = statement.clone();
    let signed = forged.sigs.first_mut().context("a statement without signatures")?;
    let good = signed.by.to_bytes();
    let near = (0..256).find_map(|bit| {
        let mut bytes = good;
        bytes[bit / 8] ^= 1 << (bit % 8);
        PublicKey::from_bytes(bytes).ok()
    });
    signed.by = near.context("no key is one bit away")?;
    Ok(forged)
}

/// The payload's fields with one more of a name that is there already.
///
/// # Errors
/// A payload that does not begin as statements do.
pub fn duplicate_key(statement: &Envelope) -> Result<Envelope> {
    let rest = statement.payload.strip_prefix('{').context("a payload that is no object")?;
    Ok(Envelope { payload: format!("{{\"seq\":99,{rest}"), ..statement.clone() })
}

/// The payload with other fields set, and the signatures of the old one.
///
/// # Errors
/// A payload that is no JSON.
pub fn with_fields(statement: &Envelope, fields: &[(&str, Value)]) -> Result<Envelope> {
    let mut payload: Value = serde_json::from_str(&statement.payload)?;
    for (name, value) in fields {
        payload[*name] = value.clone();
    }
    Ok(Envelope { payload: payload.to_string(), ..statement.clone() })
}

/// The statement signed by `key`, which claims to be `claimed`.
#[must_use]
pub fn signed_as(statement: &Envelope, key: &SecretKey, claimed: PublicKey) -> Envelope {
    let sig = key.sign(&statement.kind.namespace(), statement.payload.as_bytes());
    Envelope { sigs: vec![SignedBy { by: claimed, sig }], ..statement.clone() }
}

/// A statement with a payload of `size` bytes, as text, for what is too long to be built.
///
/// # Errors
/// Never: `release` is a kind.
pub fn oversized(size: usize) -> Result<Envelope> {
    let payload = format!("{{\"lane\":\"release\",\"pad\":\"{}\"}}", "x".repeat(size));
    Ok(Envelope::unsigned(Kind::new("release")?, payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn signed() -> (SecretKey, Envelope) {
        let key = SecretKey::from_seed([3; 32]);
        let payload = r#"{"seq":2,"body":{"version":"2"}}"#.to_owned();
        (key.clone(), Envelope::unsigned(Kind::new("release").unwrap(), payload).sign(&key))
    }

    #[test]
    fn every_forgery_breaks_the_signature_and_is_otherwise_whole() {
        let (key, good) = signed();
        let other = SecretKey::from_seed([4; 32]);
        let forged = [
            flip_payload(&good).unwrap(),
            flip_signature(&good),
            flip_key(&good).unwrap(),
            with_fields(&good, &[("seq", json!(3))]).unwrap(),
            signed_as(&good, &other, key.public()),
        ];
        for envelope in forged {
            let read = Envelope::parse(envelope.to_json().as_bytes()).unwrap();
            assert!(!read.signed_by(&key.public()), "{read:?}");
        }
        assert!(good.signed_by(&key.public()));
        let twice = duplicate_key(&good).unwrap();
        assert!(Envelope::parse(twice.to_json().as_bytes()).is_err());
    }
}
