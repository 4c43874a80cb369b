//! The lanes: the numbered, hash-chained series of statements.

use core::fmt;
use core::str::FromStr;

use borgios_types::{Kind, Namespace};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One series of statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// The board, its threshold and the rules.
    Policy,
    /// The complete set of software.
    Release,
    /// The schedule of the fleet's shared root credential, and orders to move on in it.
    Credential,
    /// Who is out for good.
    Member,
    /// Root access to one node for a while, its revocation, and reveals.
    Access,
}

/// A text that names no lane.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a lane: expected policy, release, credential, member or access")]
pub struct LaneError(String);

impl Lane {
    /// Every lane, in order.
    pub const ALL: [Self; 5] =
        [Self::Policy, Self::Release, Self::Credential, Self::Member, Self::Access];

    /// The name, which is also the envelope's type.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Release => "release",
            Self::Credential => "credential",
            Self::Member => "member",
            Self::Access => "access",
        }
    }

    /// The type of the envelopes that carry this lane's statements.
    #[must_use]
    pub fn kind(self) -> Kind {
        Kind::new(self.as_str()).expect("a lane's name is lower-case letters")
    }

    /// What the group key's signatures over this lane's statements are made for.
    #[must_use]
    pub fn namespace(self) -> Namespace {
        Namespace::of_kind(self.as_str())
    }

    /// Whether a statement of this lane must be in date when it is applied.
    ///
    /// What an order of the other lanes does in time, its body says (a grant's `before`, a reveal's
    /// `until`, a schedule's own dates), and what an eviction does has no end: a server that comes
    /// a year later must follow it too, though nothing newer was signed in that lane.
    #[must_use]
    pub fn expires(self) -> bool {
        match self {
            Self::Policy | Self::Release => true,
            Self::Credential | Self::Member | Self::Access => false,
        }
    }

    /// The fields of a statement's body that this version understands.
    pub(crate) fn body_fields(self) -> &'static [&'static str] {
        match self {
            Self::Policy => &[
                "board",
                "fanout",
                "classes",
                "witnesses",
                "carried",
                "freshness",
                "pause_s",
                "admission",
                "recovery",
                "rulings",
                "unites",
                "recovers",
            ],
            Self::Release => &[
                "version",
                "components",
                "installer",
                "urls",
                "floor",
                "notes",
                "class",
                "downgrade",
            ],
            Self::Credential => &["schedule", "escrow", "min_epoch", "reason"],
            Self::Member => &["evict", "reason"],
            Self::Access => &[
                "order", "node", "serial", "key", "after", "before", "class", "sources", "serials",
                "epoch", "to", "until", "reason",
            ],
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Lane {
    type Err = LaneError;

    fn from_str(text: &str) -> Result<Self, LaneError> {
        Self::ALL
            .into_iter()
            .find(|lane| lane.as_str() == text)
            .ok_or_else(|| LaneError(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_json_agree() {
        for lane in Lane::ALL {
            assert_eq!(lane.as_str().parse::<Lane>().unwrap(), lane);
            assert_eq!(serde_json::to_value(lane).unwrap(), lane.as_str());
            assert_eq!(lane.kind().namespace(), lane.namespace());
        }
        assert!("Policy".parse::<Lane>().is_err());
    }
}
