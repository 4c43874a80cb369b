//! The policy: the body of a statement of the lane `policy`.
//!
//! ```text
//! {board: {epoch, threshold, group, governors: [{name, key, recipient, share}]},
//!  fanout, classes: {policy: {approvals}, release: {approvals}, …}, witnesses, carried: []}
//! ```

use std::collections::BTreeSet;

use borgios_types::{Digest, KeyEpoch};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::access::{AccessClass, AccessOrder};
use crate::board::Board;
use crate::lane::Lane;
use crate::statement::Statement;

/// Most statements a policy may carry over from its predecessor.
pub const CARRIED_MAX: usize = 64;

/// Witnesses a grant needs where the policy says nothing: one alone could be in league with
/// whoever wants to act unseen.
pub const WITNESSES_DEFAULT: u16 = 2;

/// Most witnesses a policy may ask for: each is sent to the keeper with its proofs.
pub const WITNESSES_MAX: u16 = 16;

/// The rules in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Who governs.
    pub board: Board,
    /// Most children of a node in the tree, 2 to 256.
    pub fanout: u16,
    /// What each lane's statements need.
    pub classes: Classes,
    /// How many other members must have signed that they saw a grant before a node obeys it;
    /// absent means [`WITNESSES_DEFAULT`]. Grants of the class `offline` need none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witnesses: Option<u16>,
    /// Ids of statements that were signed under an earlier policy and still count.
    #[serde(default)]
    pub carried: BTreeSet<Digest>,
}

/// What the statements of each lane need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classes {
    /// Lane `policy`.
    pub policy: Class,
    /// Lane `release`.
    pub release: Class,
    /// Lane `credential`; absent means the threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Class>,
    /// Lane `member`; absent means the threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Class>,
    /// Lane `access`; absent means the threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Class>,
    /// Grants that a node obeys though no other member saw them; absent means all governors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline: Option<Class>,
}

impl Classes {
    /// The two that every policy names; the others as they are without a word.
    #[must_use]
    pub fn of(policy: Class, release: Class) -> Self {
        Self { policy, release, credential: None, member: None, access: None, offline: None }
    }
}

/// What one kind of statement needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// Distinct governors that must approve, at least the threshold.
    pub approvals: u16,
}

/// Why a policy is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// Not of a policy's shape, or its board breaks a rule.
    #[error("{0}")]
    Shape(String),
    /// A tree that cannot grow, or a node that must hold too many links.
    #[error("a fanout of {0}, expected 2 to 256")]
    Fanout(u16),
    /// Fewer approvals than signatures, or more than there are governors.
    #[error(
        "{class} statements ask for {approvals} approvals, expected {threshold} to {governors}"
    )]
    Approvals {
        /// The class: a lane's name, or `offline`.
        class: &'static str,
        /// Approvals asked for.
        approvals: u16,
        /// t.
        threshold: u16,
        /// n.
        governors: u16,
    },
    /// More witnesses than anyone would collect.
    #[error("a grant with {0} witnesses, at most {WITNESSES_MAX} can be asked for")]
    Witnesses(u16),
    /// Too many carried statements.
    #[error("{0} carried statements, at most {CARRIED_MAX}")]
    Carried(usize),
    /// The same group key with another board around it.
    #[error("the board changed without a new group key; removing or adding anyone needs one")]
    BoardWithoutKey,
    /// A new group key that does not open the next epoch.
    #[error("a new group key with key epoch {found}, expected {expected}")]
    Epoch {
        /// The epoch the policy names.
        found: KeyEpoch,
        /// The epoch that follows the board in force.
        expected: KeyEpoch,
    },
}

impl Policy {
    /// Reads and checks the body of a policy statement.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn parse(body: &Value) -> Result<Self, PolicyError> {
        let policy: Self =
            Self::deserialize(body).map_err(|error| PolicyError::Shape(error.to_string()))?;
        policy.validate()?;
        Ok(policy)
    }

    /// The rules a policy must keep by itself; the board keeps its own.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), PolicyError> {
        if !(2..=256).contains(&self.fanout) {
            return Err(PolicyError::Fanout(self.fanout));
        }
        let (threshold, governors) = (self.board.threshold().0, self.board.size());
        let lanes = Lane::ALL.into_iter().map(|lane| (lane.as_str(), self.class(lane)));
        for (class, Class { approvals }) in lanes.chain([("offline", self.offline())]) {
            if !(threshold..=governors).contains(&approvals) {
                return Err(PolicyError::Approvals { class, approvals, threshold, governors });
            }
        }
        if self.witnesses() > WITNESSES_MAX {
            return Err(PolicyError::Witnesses(self.witnesses()));
        }
        if self.carried.len() > CARRIED_MAX {
            return Err(PolicyError::Carried(self.carried.len()));
        }
        Ok(())
    }

    /// The rules a policy must keep towards the one it follows.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn follows(&self, before: &Self) -> Result<(), PolicyError> {
        if self.board.group() == before.board.group() {
            let same = self.board == before.board;
            return if same { Ok(()) } else { Err(PolicyError::BoardWithoutKey) };
        }
        let (found, expected) =
            (self.board.epoch(), KeyEpoch(before.board.epoch().0.saturating_add(1)));
        if found == expected { Ok(()) } else { Err(PolicyError::Epoch { found, expected }) }
    }

    /// What statements of `lane` need.
    #[must_use]
    pub fn class(&self, lane: Lane) -> Class {
        let threshold = Class { approvals: self.board.threshold().0 };
        match lane {
            Lane::Policy => self.classes.policy,
            Lane::Release => self.classes.release,
            Lane::Credential => self.classes.credential.unwrap_or(threshold),
            Lane::Member => self.classes.member.unwrap_or(threshold),
            Lane::Access => self.classes.access.unwrap_or(threshold),
        }
    }

    /// What a grant needs that a node obeys though no other member saw it.
    #[must_use]
    pub fn offline(&self) -> Class {
        self.classes.offline.unwrap_or(Class { approvals: self.board.size() })
    }

    /// How many other members must have seen a grant.
    #[must_use]
    pub fn witnesses(&self) -> u16 {
        self.witnesses.unwrap_or(WITNESSES_DEFAULT)
    }

    /// What `statement` needs: its lane's class, or one of its own.
    #[must_use]
    pub fn class_of(&self, statement: &Statement) -> Class {
        match AccessOrder::of(statement) {
            Ok(AccessOrder::Grant(grant)) if grant.class == AccessClass::Offline => {
                let lane = self.class(Lane::Access).approvals;
                Class { approvals: self.offline().approvals.max(lane) }
            }
            Ok(AccessOrder::Grant(_) | AccessOrder::Revoke(_) | AccessOrder::Reveal(_))
            | Err(_) => self.class(statement.lane),
        }
    }

    /// As the body of a statement.
    #[must_use]
    pub fn to_body(&self) -> Value {
        serde_json::to_value(self).expect("a policy has string keys only")
    }
}
