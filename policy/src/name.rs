//! A name that is safe in a file path, a log line and a command: of a governor, a network, a
//! node.

use core::fmt;
use core::str::FromStr;

use borgios_types::limits::NAME_MAX;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

/// Lower-case letters, digits and `-`, beginning with a letter or digit, at most [`NAME_MAX`]
/// bytes. It can therefore be a file name, and it sorts the same everywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Name(String);

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a name: expected 1 to {NAME_MAX} lower-case letters, digits and -")]
pub struct NameError(String);

impl Name {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.is_empty()
            || text.len() > NAME_MAX
            || text.starts_with('-')
            || !text.bytes().all(fits)
        {
            return Err(NameError(text.chars().take(NAME_MAX).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl core::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_safe_in_a_path_are_names() {
        for good in ["ann", "web-3", "7of9"] {
            assert_eq!(good.parse::<Name>().unwrap(), good);
        }
        let long = "a".repeat(NAME_MAX + 1);
        for bad in ["", "-ann", "Ann", "a/b", "..", "a.b", "a b", "ä", "a\0", &long] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }
}
