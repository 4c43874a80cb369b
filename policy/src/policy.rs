//! The policy: the body of a statement of the lane `policy`.
//!
//! ```text
//! {board: {epoch, threshold, group, governors: [{name, key, recipient, share}]},
//!  fanout, classes: {policy: {approvals}, release: {approvals}}, carried: []}
//! ```

use std::collections::BTreeSet;

use borgios_types::{Digest, KeyEpoch};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::board::Board;
use crate::lane::Lane;

/// Most statements a policy may carry over from its predecessor.
pub const CARRIED_MAX: usize = 64;

/// The rules in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Who governs.
    pub board: Board,
    /// Most children of a node in the tree, 2 to 256.
    pub fanout: u16,
    /// What each lane's statements need.
    pub classes: Classes,
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
    #[error("{lane} statements ask for {approvals} approvals, expected {threshold} to {governors}")]
    Approvals {
        /// The lane.
        lane: Lane,
        /// Approvals asked for.
        approvals: u16,
        /// t.
        threshold: u16,
        /// n.
        governors: u16,
    },
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
        for lane in Lane::ALL {
            let approvals = self.class(lane).approvals;
            if !(threshold..=governors).contains(&approvals) {
                return Err(PolicyError::Approvals { lane, approvals, threshold, governors });
            }
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
        match lane {
            Lane::Policy => self.classes.policy,
            Lane::Release => self.classes.release,
        }
    }

    /// As the body of a statement.
    #[must_use]
    pub fn to_body(&self) -> Value {
        serde_json::to_value(self).expect("a policy has string keys only")
    }
}
