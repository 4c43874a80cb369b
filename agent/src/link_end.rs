//! Why a link ended: for the log, and for the last word to the other side.

use borgios_types::Envelope;
use thiserror::Error;

use crate::frame::FrameError;
use crate::roll::Out;
use crate::wire::{Bye, PROTOCOL, WireError};

/// Why a link ended.
#[derive(Debug, Error)]
pub enum LinkEnd {
    /// The other side, or the network, closed it.
    #[error("closed by the other side")]
    Closed,
    /// This side closed it.
    #[error("closed by this side")]
    Ours,
    /// The other side said why.
    #[error("the other side ended it: {code}: {message}")]
    Bye {
        /// Its code.
        code: String,
        /// Its words.
        message: String,
    },
    /// Silence.
    #[error("nothing heard for too long")]
    Silent,
    /// A line that is none.
    #[error("{0}")]
    Line(#[from] FrameError),
    /// A line that is no frame.
    #[error("{0}")]
    Frame(#[from] WireError),
    /// A frame that has no place here.
    #[error("an unexpected {0} frame")]
    Unexpected(&'static str),
    /// Another version of the protocol.
    #[error("it speaks protocol {0}, this is protocol {PROTOCOL}")]
    Protocol(u32),
    /// Another fleet.
    #[error("it belongs to another network")]
    WrongNetwork,
    /// No membership that this node can verify.
    #[error("{code}: {why}")]
    NotAMember {
        /// The rule that failed.
        code: &'static str,
        /// The values.
        why: String,
    },
    /// The other side is a member no more.
    #[error("{}", out.message())]
    Out {
        /// Why.
        out: Out,
        /// What proves it.
        because: Vec<Envelope>,
    },
    /// This node has no join record yet, or no more.
    #[error("this node is no member now")]
    NotReady,
    /// A link to itself.
    #[error("this node dialled itself")]
    Myself,
}

impl LinkEnd {
    /// How a link ended by the other side's word.
    pub(crate) fn of(bye: &Bye) -> Self {
        let short = |text: &str, max| text.chars().filter(|c| !c.is_control()).take(max).collect();
        Self::Bye { code: short(&bye.code, 40), message: short(&bye.message, 200) }
    }

    /// The stable name of the reason.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Ours => "ours",
            Self::Bye { .. } => "bye",
            Self::Silent => "silent",
            Self::Line(error) => error.code(),
            Self::Frame(_) => "malformed",
            Self::Unexpected(_) => "unexpected",
            Self::Protocol(_) => "protocol",
            Self::WrongNetwork => "wrong_network",
            Self::NotAMember { code, .. } => code,
            Self::Out { out, .. } => out.code(),
            Self::NotReady => "not_ready",
            Self::Myself => "myself",
        }
    }
}
