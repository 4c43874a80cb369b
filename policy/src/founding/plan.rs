//! The plan of a founding, `founding.json`: who, how many of them, and the first policy's rules.
//!
//! Its id is the *roster digest*. Every governor compares it with the others by voice before
//! taking part: whoever wrote the plan could have put a key of his own behind another's name.

use std::collections::BTreeMap;

use borgios_types::{Digest, Envelope, KeyEpoch, Threshold, UnixSeconds};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::board::BoardError;
use crate::card::Card;
use crate::keygen::{self, Roster};
use crate::object::{Object, ObjectError, in_date};
use crate::policy::PolicyError;
use crate::slot::{self, TooManySubsets};

/// What all governors agree on before they make a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// t.
    pub threshold: Threshold,
    /// Most children of a node in the tree.
    pub fanout: u16,
    /// The governors' cards, in order of name.
    pub governors: Vec<Card>,
    /// Date of policy/1.
    pub issued: UnixSeconds,
    /// From when on nobody may join on policy/1 alone.
    pub expires: UnixSeconds,
    /// For a recovery board, the network it is for: what is founded then is no network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovers: Option<Digest>,
}

/// Why a plan is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// No board can be made of it.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// No policy can be made of it.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A recovery board votes once in years, by files.
    #[error("a recovery board must be able to vote in one touch")]
    Large(#[from] TooManySubsets),
}

impl Plan {
    /// Makes a plan of the cards that were collected.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn new(
        mut governors: Vec<Card>,
        threshold: Threshold,
        fanout: u16,
        issued: UnixSeconds,
        expires: UnixSeconds,
    ) -> Result<Self, PlanError> {
        governors.sort_by(|one, other| one.name.cmp(&other.name));
        let plan = Self { threshold, fanout, governors, issued, expires, recovers: None };
        plan.check_rules()?;
        Ok(plan)
    }

    /// The same people as the recovery board of a network.
    ///
    /// # Errors
    /// A board that is too large to vote in one touch.
    pub fn recovering(mut self, network: Digest) -> Result<Self, PlanError> {
        self.recovers = Some(network);
        self.check_rules()?;
        Ok(self)
    }

    /// Reads a plan that one of its own governors signed.
    ///
    /// # Errors
    /// As [`Object::parse`], and `bad_signature`.
    pub fn verify(envelope: &Envelope) -> Result<Self, ObjectError> {
        let plan = Self::parse(envelope)?;
        if plan.governors.iter().any(|card| envelope.signed_by(&card.key)) {
            return Ok(plan);
        }
        let signer = "one of its governors".to_owned();
        Err(ObjectError::BadSignature { kind: Self::KIND, signer })
    }

    /// What all compare before they take part.
    #[must_use]
    pub fn roster(&self) -> Digest {
        self.to_envelope().id()
    }

    /// What is risky about this board, in words, if anything is.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        keygen::warning(self.governors.len(), self.threshold)
    }

    /// What the rounds need of it; `id` is that of the plan as it lies in the folder.
    pub(super) fn to_roster(&self, id: Digest) -> Roster {
        Roster {
            id,
            epoch: KeyEpoch(1),
            threshold: self.threshold,
            governors: self.governors.clone(),
            prefix: String::new(),
            heads: BTreeMap::new(),
        }
    }

    /// The rules of a board that can be checked before it has a key.
    fn check_rules(&self) -> Result<(), PlanError> {
        keygen::check(&self.governors, self.threshold)?;
        if !(2..=256).contains(&self.fanout) {
            return Err(PolicyError::Fanout(self.fanout).into());
        }
        if self.recovers.is_some() {
            let governors = u16::try_from(self.governors.len()).unwrap_or(u16::MAX);
            slot::one_touch(governors, self.threshold.0)?;
        }
        Ok(())
    }
}

impl Object for Plan {
    const KIND: &'static str = "founding";
    const FIELDS: &'static [&'static str] =
        &["threshold", "fanout", "governors", "issued", "expires", "recovers"];

    fn check(&self) -> Result<(), ObjectError> {
        in_date(Self::KIND, self.issued, self.expires, UnixSeconds(0))?;
        self.governors.iter().try_for_each(Object::check)?;
        self.check_rules()
            .map_err(|error| ObjectError::Refused { kind: Self::KIND, why: error.to_string() })
    }
}
