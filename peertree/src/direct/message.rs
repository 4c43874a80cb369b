//! What two neighbours say about a directed message, as plain data.

use borgios_types::NodeId;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::bounds::BODY_MAX;

/// A message to one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Direct {
    /// Chosen by the sender of this hop, unique on its link.
    pub id: u64,
    /// Who is meant.
    pub to: NodeId,
    /// Links it may still cross.
    pub hops_left: u8,
    /// At most [`BODY_MAX`] bytes; it carries its own signature, or none.
    pub body: String,
}

impl Direct {
    /// Whether the body keeps its bound.
    #[must_use]
    pub fn bounded(&self) -> bool {
        self.body.len() <= BODY_MAX
    }
}

/// What became of a message, on its way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returned {
    /// Of the message, as the receiver of this knows it.
    pub id: u64,
    /// Links between this neighbour and where the message ended.
    pub hops: u8,
    /// Why it was not delivered; absent if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Undelivered>,
}

/// Why a message was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undelivered {
    /// Nobody on the way knows where the node is: look for it first.
    #[error("no way to the node is known")]
    Unknown,
    /// A way was known and ends before the node.
    #[error("the node cannot be reached now")]
    Unreachable,
    /// The body is longer than 64 KiB.
    #[error("the message is longer than {BODY_MAX} bytes")]
    TooLarge,
    /// A node on the way has as many messages as it takes.
    #[error("a node on the way is busy")]
    Busy,
    /// A reason of a later version.
    #[error("it was refused on the way")]
    #[serde(other)]
    Other,
}

impl Undelivered {
    /// The stable name of the reason.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Unreachable => "unreachable",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
            Self::Other => "other",
        }
    }
}
