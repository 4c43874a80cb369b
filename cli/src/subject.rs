//! How a person names a proposal or statement: `release/2`, or the beginning of its id.

use core::fmt;
use core::str::FromStr;

use borgios_policy::Lane;
use borgios_types::{Digest, Seq};

/// Fewest hexadecimal digits of an id.
const DIGITS_MIN: usize = 6;

/// What was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A place of a lane.
    Place(Lane, Seq),
    /// A statement whose id begins with these hexadecimal digits.
    Id(String),
}

impl Subject {
    /// Whether a statement at this place with this id is meant.
    pub(crate) fn names(&self, lane: Lane, seq: Seq, id: &Digest) -> bool {
        match self {
            Self::Place(at, number) => (*at, *number) == (lane, seq),
            Self::Id(digits) => id.hex().starts_with(digits),
        }
    }
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((lane, seq)) = text.split_once('/') {
            let lane = lane.parse::<Lane>().map_err(|error| error.to_string())?;
            let seq = seq.parse::<u64>().ok().filter(|seq| *seq > 0);
            let seq = seq.ok_or_else(|| format!("{text:?}: the number after / counts from 1"))?;
            return Ok(Self::Place(lane, Seq(seq)));
        }
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let hex = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if hex && (DIGITS_MIN..=64).contains(&digits.len()) {
            return Ok(Self::Id(digits.to_owned()));
        }
        Err(format!("{text:?} names nothing: write release/2, or the first digits of an id"))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(lane, seq) => write!(f, "{lane}/{seq}"),
            Self::Id(digits) => f.write_str(digits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_ids_are_told_apart() {
        assert_eq!("release/2".parse(), Ok(Subject::Place(Lane::Release, Seq(2))));
        assert_eq!("sha256:abc123".parse(), Ok(Subject::Id("abc123".into())));
        for bad in ["", "release", "release/0", "release/x", "box/1", "abc", "ABCDEF"] {
            assert!(bad.parse::<Subject>().is_err(), "{bad:?}");
        }
    }
}
