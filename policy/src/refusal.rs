//! Why a statement was refused: the numbered steps of [`crate::chain`] as errors.
//!
//! The codes are stable: they stand in logs as `BORGIOS_REFUSAL=` and in answers.

use borgios_types::json::JsonError;
use borgios_types::{Digest, EnvelopeError, Kind, PublicKey, Seq, UnixSeconds};
use thiserror::Error;

use crate::lane::Lane;

/// The first step of a statement's verification that failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Longer than anything that is parsed.
    #[error("too large: {0}")]
    TooLarge(String),
    /// Not strict JSON, or not of a statement's shape.
    #[error("malformed statement: {0}")]
    Malformed(String),
    /// The envelope's type is no lane, or another one than the payload's.
    #[error("an envelope of type {kind} cannot carry a statement of lane {lane:?}")]
    WrongKind {
        /// The envelope's type.
        kind: Kind,
        /// The lane the payload names.
        lane: String,
    },
    /// The statement insists on a field that this version does not know.
    #[error("{lane}/{seq} insists on {field:?}, which this version does not know; update first")]
    UnknownCritical {
        /// The statement's lane.
        lane: Lane,
        /// The statement's number.
        seq: Seq,
        /// The field.
        field: String,
    },
    /// A statement of another fleet.
    #[error("{lane}/{seq} is for network {found}, this is {expected}")]
    WrongNetwork {
        /// The statement's lane.
        lane: Lane,
        /// The statement's number.
        seq: Seq,
        /// The network it names, or is the first policy of; `none` if it names none.
        found: String,
        /// The network of this chain, `none` if it has none yet.
        expected: String,
    },
    /// A statement made under a policy that is no longer in force.
    #[error("{lane}/{seq} was made under policy/{named}, in force is policy/{in_force}")]
    WrongPolicy {
        /// The statement's lane.
        lane: Lane,
        /// The statement's number.
        seq: Seq,
        /// The policy it names; 0 if it names none.
        named: Seq,
        /// The policy in force; 0 if there is none yet.
        in_force: Seq,
    },
    /// No valid signature by a key that had to sign.
    #[error("{lane}/{seq} carries no valid signature by the group key {}", key.short())]
    BadSignature {
        /// The statement's lane.
        lane: Lane,
        /// The statement's number.
        seq: Seq,
        /// The key that did not sign.
        key: PublicKey,
    },
    /// A statement that was applied and has been succeeded.
    #[error("{lane}/{seq} is a replay: the head is {lane}/{head}")]
    Replayed {
        /// The statement's lane.
        lane: Lane,
        /// The statement's number.
        seq: Seq,
        /// The lane's head.
        head: Seq,
    },
    /// Validly signed, but its number is taken, or it does not follow the head. Keep it as
    /// evidence and raise an alarm: the board signed two documents for one place.
    #[error("{lane}/{seq} ({offered}) rivals {known}, which stands; the rival changes nothing")]
    Rival {
        /// The statement's lane.
        lane: Lane,
        /// The statement's number.
        seq: Seq,
        /// The id of what stands in its place, or of the head it should have named as `prev`.
        known: Digest,
        /// The id of the statement offered.
        offered: Digest,
    },
    /// Statements before this one are missing; fetch them. For a policy that is not known yet the
    /// signature could not be checked, so this is a hint and no proof that they exist.
    #[error("{lane}/{seq} came before its predecessors: the head is {lane}/{head}")]
    Gap {
        /// The lane in which statements are missing.
        lane: Lane,
        /// The number known to be needed.
        seq: Seq,
        /// The lane's head, 0 if it is empty.
        head: Seq,
    },
    /// A policy closed its place: nothing signed for it counts.
    #[error("{lane}/{seq} was closed by policy/{by}; nothing that is signed for it counts")]
    Closed {
        /// The statement's lane.
        lane: Lane,
        /// The statement's number.
        seq: Seq,
        /// The policy that closed the place.
        by: Seq,
    },
    /// Too old to be applied now.
    #[error("{lane}/{seq} expired at {expires}, it is {now}")]
    Expired {
        /// The statement's lane.
        lane: Lane,
        /// The statement's number.
        seq: Seq,
        /// When it expired.
        expires: UnixSeconds,
        /// The clock, never earlier than the newest statement applied.
        now: UnixSeconds,
    },
    /// The body breaks a rule of its lane.
    #[error("the body of {lane}/{seq} is refused: {why}")]
    BadBody {
        /// The statement's lane.
        lane: Lane,
        /// The statement's number.
        seq: Seq,
        /// The rule and the value.
        why: String,
    },
    /// The class asks for more approvals than the threshold, and they did not travel with it.
    #[error("{lane}/{seq} came with {counted} approving ballots, its class needs {needed}")]
    TooFewApprovals {
        /// The statement's lane.
        lane: Lane,
        /// The statement's number.
        seq: Seq,
        /// Distinct governors whose valid approvals came with it.
        counted: usize,
        /// Approvals its class asks for.
        needed: usize,
    },
    /// The class asks for matching rebuilds, and they did not travel with it.
    #[error("{lane}/{seq} came with {counted} matching rebuilds, its class needs {needed}")]
    TooFewRebuilds {
        /// The statement's lane.
        lane: Lane,
        /// The statement's number.
        seq: Seq,
        /// Distinct governors whose approving ballots name its components' digest.
        counted: usize,
        /// Rebuilds its class asks for.
        needed: usize,
    },
    /// Too many statements wait here for their time.
    #[error("{lane}/{seq} cannot be kept: {waiting} statements wait here; bring it again later")]
    HeldBack {
        /// The statement's lane.
        lane: Lane,
        /// The statement's number.
        seq: Seq,
        /// How many wait.
        waiting: usize,
    },
    /// The recovery key signed it and not the board: it counts after a long silence of the board
    /// and a long lock, which each holder keeps by itself.
    #[error("policy/{seq} is signed by the recovery key and not by the board: {}", silence(*still_s))]
    Recovery {
        /// The policy's number.
        seq: Seq,
        /// Seconds of silence that this holder still misses; absent where it counts none.
        still_s: Option<u64>,
    },
}

impl Refusal {
    /// Every code, in the order of the steps.
    pub const CODES: [&'static str; 17] = [
        "too_large",
        "malformed",
        "wrong_kind",
        "unknown_critical",
        "wrong_network",
        "wrong_policy",
        "bad_signature",
        "replayed",
        "rival",
        "closed",
        "gap",
        "expired",
        "bad_body",
        "too_few_approvals",
        "too_few_rebuilds",
        "recovery",
        "held_back",
    ];

    /// The stable code of this refusal.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "too_large",
            Self::Malformed(_) => "malformed",
            Self::WrongKind { .. } => "wrong_kind",
            Self::UnknownCritical { .. } => "unknown_critical",
            Self::WrongNetwork { .. } => "wrong_network",
            Self::WrongPolicy { .. } => "wrong_policy",
            Self::BadSignature { .. } => "bad_signature",
            Self::Replayed { .. } => "replayed",
            Self::Rival { .. } => "rival",
            Self::Closed { .. } => "closed",
            Self::Gap { .. } => "gap",
            Self::Expired { .. } => "expired",
            Self::BadBody { .. } => "bad_body",
            Self::TooFewApprovals { .. } => "too_few_approvals",
            Self::TooFewRebuilds { .. } => "too_few_rebuilds",
            Self::Recovery { .. } => "recovery",
            Self::HeldBack { .. } => "held_back",
        }
    }

    /// What a parser says, cut to a length that a journal can bear: it may quote the sender.
    pub(crate) fn malformed(error: &dyn core::fmt::Display) -> Self {
        Self::Malformed(error.to_string().chars().take(200).collect())
    }

    /// Whether the statement proves misbehaviour of the board itself and should be kept.
    #[must_use]
    pub fn is_evidence(&self) -> bool {
        matches!(self, Self::Rival { .. })
    }
}

/// How long the board must still be silent, in words.
fn silence(still_s: Option<u64>) -> String {
    match still_s {
        None => {
            "it counts only after long silence of the board and a long lock, which each server \
                 keeps by itself"
                .to_owned()
        }
        Some(still_s) => {
            let hours = still_s.div_ceil(3_600);
            format!(
                "here the board must still be silent for {} d {} h before its lock even begins",
                hours / 24,
                hours % 24
            )
        }
    }
}

/// Step 1 for callers that still hold bytes: what [`borgios_types::Envelope::parse`] refused.
impl From<EnvelopeError> for Refusal {
    fn from(error: EnvelopeError) -> Self {
        match error {
            EnvelopeError::TooLarge(_) => Self::TooLarge(error.to_string()),
            EnvelopeError::Json(source) | EnvelopeError::Payload { source, .. } => source.into(),
            EnvelopeError::Text(_) | EnvelopeError::Kind(_) | EnvelopeError::Signatures(_) => {
                Self::Malformed(error.to_string())
            }
        }
    }
}

impl From<JsonError> for Refusal {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::TooLarge { .. } => Self::TooLarge(error.to_string()),
            JsonError::Malformed(_) | JsonError::Shape(_) => Self::malformed(&error),
        }
    }
}
