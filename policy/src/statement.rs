//! A statement: one decision of the board, at one place of one lane.
//!
//! ```text
//! payload  {network, lane, seq, round, prev, policy, issued, expires, critical, body}
//! id       SHA-256 of the payload's exact text
//! ```
//!
//! [`Statement::parse`] does steps 1 and 2 of the verification; only [`crate::Chain::verify`]
//! makes a [`VerifiedStatement`].

use borgios_types::{Digest, Envelope, Round, Seq, UnixSeconds, json};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::lane::Lane;
use crate::refusal::Refusal;

/// The fields of a statement, in the order they are written.
const FIELDS: [&str; 10] =
    ["network", "lane", "seq", "round", "prev", "policy", "issued", "expires", "critical", "body"];

/// What a statement says. Holding one proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The fleet: id of policy/1. Absent in policy/1 itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Digest>,
    /// Which series.
    pub lane: Lane,
    /// Its place in the lane; the first is 1.
    pub seq: Seq,
    /// Which attempt at this place was signed.
    pub round: Round,
    /// Id of the predecessor; absent where `seq` is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<Digest>,
    /// The policy in force when it was made; policy/p+1 names p, policy/1 names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Seq>,
    /// When it was written.
    pub issued: UnixSeconds,
    /// From when on it must not be applied any more.
    pub expires: UnixSeconds,
    /// Fields a reader must know to obey this statement at all.
    #[serde(default)]
    pub critical: Vec<String>,
    /// What is decided, by the lane's own rules.
    pub body: Value,
}

/// The one field that is read before the rest, so that a wrong lane is named as such.
#[derive(Deserialize)]
struct LaneField {
    lane: String,
}

impl Statement {
    /// Reads the statement in `envelope`: steps 1 and 2 of the verification. No signature is
    /// checked here.
    ///
    /// # Errors
    /// `too_large`, `malformed`, `wrong_kind` and `unknown_critical`.
    pub fn parse(envelope: &Envelope) -> Result<Self, Refusal> {
        let (kind, payload) = (&envelope.kind, envelope.payload.as_str());
        // 1. Bounds and strict JSON.
        json::check_strict(payload, kind.payload_max())?;
        // 2. Kind = lane, shape, critical fields known.
        let malformed = |error: serde_json::Error| Refusal::malformed(&error);
        let named: LaneField = serde_json::from_str(payload).map_err(malformed)?;
        if named.lane != kind.as_str() || kind.as_str().parse::<Lane>().is_err() {
            let lane = named.lane.chars().take(40).collect();
            return Err(Refusal::WrongKind { kind: kind.clone(), lane });
        }
        let statement: Self = serde_json::from_str(payload).map_err(malformed)?;
        statement.check_shape().map_err(Refusal::Malformed)?;
        let (lane, seq) = (statement.lane, statement.seq);
        match statement.critical.iter().find(|field| !knows(lane, field)) {
            Some(field) => {
                let field = field.chars().take(40).collect();
                Err(Refusal::UnknownCritical { lane, seq, field })
            }
            None => Ok(statement),
        }
    }

    /// The payload's text: compact, fields in the order of this struct.
    #[must_use]
    pub fn to_payload(&self) -> String {
        serde_json::to_string(self).expect("a statement has string keys only")
    }

    /// Wraps the payload, unsigned.
    #[must_use]
    pub fn to_envelope(&self) -> Envelope {
        Envelope::unsigned(self.lane.kind(), self.to_payload())
    }

    /// What must hold whatever the chain: which optional fields stand where, and in what order
    /// the dates are.
    fn check_shape(&self) -> Result<(), String> {
        let Self { lane, seq, .. } = self;
        let first_policy = *lane == Lane::Policy && seq.0 == 1;
        if seq.0 == 0 {
            return Err(format!("{lane}/0, the first is {lane}/1"));
        }
        if self.network.is_none() != first_policy || self.policy.is_none() != first_policy {
            return Err(format!("{lane}/{seq}: only policy/1 names no network and no policy"));
        }
        if self.prev.is_none() != (seq.0 == 1) {
            return Err(format!("{lane}/{seq}: exactly the first of a lane has no prev"));
        }
        if self.expires <= self.issued {
            let Self { issued, expires, .. } = self;
            return Err(format!("{lane}/{seq} expires at {expires}, issued at {issued}"));
        }
        if !self.body.is_object() {
            return Err(format!("{lane}/{seq} has a body that is no object"));
        }
        Ok(())
    }
}

/// Whether this version knows a field of a statement of `lane`, in its head or body.
fn knows(lane: Lane, field: &str) -> bool {
    FIELDS.contains(&field) || lane.body_fields().contains(&field)
}

/// A statement that passed every step of [`crate::Chain::verify`], and how it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedStatement {
    statement: Statement,
    envelope: Envelope,
    id: Digest,
    policy: Option<crate::policy::Policy>,
    recovered: bool,
}

impl VerifiedStatement {
    /// For [`crate::chain`] alone: everything about it was checked.
    pub(crate) fn new(
        statement: Statement,
        envelope: Envelope,
        policy: Option<crate::policy::Policy>,
        recovered: bool,
    ) -> Self {
        let id = envelope.id();
        Self { statement, envelope, id, policy, recovered }
    }

    /// What it says.
    #[must_use]
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The very envelope that was verified.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// SHA-256 of its payload.
    #[must_use]
    pub fn id(&self) -> Digest {
        self.id
    }

    /// Whether a recovery key signed it in the place of the board.
    #[must_use]
    pub fn is_recovered(&self) -> bool {
        self.recovered
    }

    /// The policy it makes, if it is of that lane.
    #[must_use]
    pub fn policy(&self) -> Option<&crate::policy::Policy> {
        self.policy.as_ref()
    }
}

/// One statement with the signatures of both envelopes, if they carry the same one: what a change
/// of board needs, where the old and the new group key sign in votes of their own.
#[must_use]
pub fn merge_signatures(one: &Envelope, other: &Envelope) -> Option<Envelope> {
    if one.kind != other.kind || one.payload != other.payload {
        return None;
    }
    let mut merged = one.clone();
    for sig in &other.sigs {
        if !merged.sigs.contains(sig) {
            merged.sigs.push(sig.clone());
        }
    }
    Some(merged)
}
