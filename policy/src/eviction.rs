//! The lane `member`: nodes that are out for good.
//!
//! ```text
//! {evict: [node keys], reason}
//! ```
//!
//! The lane adds up: a node that one statement evicts is out, whatever follows.

use borgios_types::NodeId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::lane::Lane;
use crate::object::TEXT_MAX;
use crate::statement::Statement;

/// Most nodes one statement may evict.
pub const EVICTED_MAX: usize = 256;

/// The body of a statement of this lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eviction {
    /// Who is out.
    pub evict: Vec<NodeId>,
    /// Why, for people.
    pub reason: String,
}

/// Why a body is none of this lane's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EvictionError {
    /// Of another lane.
    #[error("a statement of lane {0} evicts nobody")]
    Lane(Lane),
    /// Not of the shape.
    #[error("no eviction of this version: {0}")]
    Shape(String),
    /// None, or very many.
    #[error("{0} nodes, expected 1 to {EVICTED_MAX}")]
    Nodes(usize),
    /// No reason, or a very long one.
    #[error("a reason of {0} bytes, expected 1 to {TEXT_MAX}")]
    Reason(usize),
}

impl Eviction {
    /// Reads the body of a statement of this lane.
    ///
    /// # Errors
    /// See [`EvictionError`].
    pub fn of(statement: &Statement) -> Result<Self, EvictionError> {
        if statement.lane != Lane::Member {
            return Err(EvictionError::Lane(statement.lane));
        }
        let body = Self::deserialize(&statement.body)
            .map_err(|error| EvictionError::Shape(error.to_string().chars().take(160).collect()))?;
        if !(1..=EVICTED_MAX).contains(&body.evict.len()) {
            return Err(EvictionError::Nodes(body.evict.len()));
        }
        if !(1..=TEXT_MAX).contains(&body.reason.len()) {
            return Err(EvictionError::Reason(body.reason.len()));
        }
        Ok(body)
    }

    /// As the body of a statement.
    #[must_use]
    pub fn to_body(&self) -> Value {
        serde_json::to_value(self).expect("an eviction has string keys only")
    }
}
