//! The strict JSON rules every payload must obey before it is parsed into a type.
//!
//! Two readers that disagree about a document can be made to obey different ones, so what JSON
//! leaves open is closed here: no key twice in one object, integers only and none beyond 2^53,
//! at most 16 levels, nothing after the end (RFC 8259 §4, §6; RFC 7493 I-JSON).

use core::fmt;
use std::collections::BTreeSet;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use thiserror::Error;

use crate::limits::{JSON_DEPTH_MAX, JSON_INTEGER_MAX};

/// Why a text is not strict JSON.
#[derive(Debug, Error)]
pub enum JsonError {
    /// Longer than its kind may be; nothing of it was parsed.
    #[error("{length} bytes of JSON, at most {max} are read")]
    TooLarge {
        /// Length found, in bytes.
        length: usize,
        /// Length allowed, in bytes.
        max: usize,
    },
    /// Malformed, or against one of the strict rules.
    #[error("not strict JSON: {0}")]
    Malformed(serde_json::Error),
    /// Strict JSON, but not of the shape expected here.
    #[error("JSON of another shape: {0}")]
    Shape(serde_json::Error),
}

/// Parses `text` into `T` after checking its length and the strict rules.
///
/// # Errors
/// See [`JsonError`]; nothing is parsed before the length holds.
pub fn parse_strict<'a, T: serde::Deserialize<'a>>(
    text: &'a str,
    max: usize,
) -> Result<T, JsonError> {
    check_strict(text, max)?;
    serde_json::from_str(text).map_err(JsonError::Shape)
}

/// Checks length and strict rules without building anything.
///
/// # Errors
/// [`JsonError::TooLarge`] and [`JsonError::Malformed`].
pub fn check_strict(text: &str, max: usize) -> Result<(), JsonError> {
    if text.len() > max {
        return Err(JsonError::TooLarge { length: text.len(), max });
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Strict { depth: 0 }.deserialize(&mut deserializer).map_err(JsonError::Malformed)?;
    deserializer.end().map_err(JsonError::Malformed)
}

/// Walks a document and keeps nothing but the keys of the objects it is inside of.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn inner<E: de::Error>(self) -> Result<Self, E> {
        if self.depth == JSON_DEPTH_MAX {
            return Err(E::custom(format_args!("more than {JSON_DEPTH_MAX} levels deep")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("strict JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<(), E> {
        if number <= JSON_INTEGER_MAX { Ok(()) } else { Err(E::custom("an integer beyond 2^53")) }
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<(), E> {
        self.visit_u64(number.unsigned_abs())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        Err(E::custom("a number that is not an integer"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while seq.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        let mut keys = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if keys.contains(&key) {
                let key: String = key.chars().take(40).collect();
                return Err(de::Error::custom(format_args!("the key {key:?} twice")));
            }
            keys.insert(key);
            map.next_value_seed(inner)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        let deep = format!("{}{}", "[".repeat(17), "]".repeat(17));
        let very_deep = "[".repeat(60_000);
        for bad in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"b":2,"a":3}}"#,
            "9007199254740993",
            "-9007199254740993",
            "18446744073709551616",
            "1.0",
            "1e3",
            "{} {}",
            "{}\0",
            "[1,]",
            "NaN",
            "",
            &deep,
            &very_deep,
        ] {
            let shown: String = bad.chars().take(40).collect();
            assert!(matches!(check_strict(bad, 1 << 20), Err(JsonError::Malformed(_))), "{shown}");
        }
        check_strict(r#"{"a":[9007199254740992,-1,"x",null,true,{}],"b":{"a":1}}"#, 100).unwrap();
    }

    #[test]
    fn length_is_checked_before_anything_is_parsed() {
        let garbage = "[".repeat(1_000);
        assert!(matches!(check_strict(&garbage, 999), Err(JsonError::TooLarge { .. })));
    }
}
