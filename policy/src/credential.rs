//! The lane `credential`: which schedule of the shared root credential is in force, and the lowest
//! epoch that may be current.
//!
//! ```text
//! {schedule: {digest, size}, escrow: {digest, size}, min_epoch, reason}
//! ```
//!
//! Each statement is complete: whoever holds the newest one needs no earlier one. An *advance* is
//! a statement with the same schedule and a higher `min_epoch`. What the blobs hold is not this
//! crate's to know.

use borgios_types::{Digest, Epoch};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::lane::Lane;
use crate::object::TEXT_MAX;
use crate::statement::Statement;

/// Largest schedule blob, in bytes.
pub const SCHEDULE_MAX: u64 = 1024 * 1024;
/// Largest escrow blob, in bytes: 4,096 epochs for 21 governors.
pub const ESCROW_MAX: u64 = 64 * 1024 * 1024;

/// A blob, by digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blob {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
}

/// The body of a statement of this lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// The schedule in force.
    pub schedule: Blob,
    /// The sealed shares of its passwords.
    pub escrow: Blob,
    /// The lowest epoch that may be current.
    pub min_epoch: Epoch,
    /// Why, for people.
    #[serde(default)]
    pub reason: String,
}

/// Why a body is none of this lane's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CredentialError {
    /// Of another lane.
    #[error("a statement of lane {0} schedules no credential")]
    Lane(Lane),
    /// Not of the shape.
    #[error("no credential of this version: {0}")]
    Shape(String),
    /// A blob that is empty or too large.
    #[error("a {what} of {size} bytes, expected 1 to {max}")]
    Size {
        /// Schedule or escrow.
        what: &'static str,
        /// Its size.
        size: u64,
        /// At most.
        max: u64,
    },
    /// Epochs count from 1.
    #[error("epoch 0, the first is 1")]
    Epoch,
    /// The ratchet would turn back.
    #[error("min_epoch {offered} is lower than {reached}, which is in force already")]
    Lower {
        /// The epoch offered.
        offered: Epoch,
        /// The epoch in force.
        reached: Epoch,
    },
    /// A very long reason.
    #[error("a reason of {0} bytes, at most {TEXT_MAX}")]
    Reason(usize),
}

impl Credential {
    /// Reads the body of a statement of this lane and checks what can be checked without its blobs.
    ///
    /// # Errors
    /// See [`CredentialError`].
    pub fn of(statement: &Statement) -> Result<Self, CredentialError> {
        if statement.lane != Lane::Credential {
            return Err(CredentialError::Lane(statement.lane));
        }
        let body = Self::deserialize(&statement.body).map_err(|error| {
            CredentialError::Shape(error.to_string().chars().take(160).collect())
        })?;
        let blobs =
            [("schedule", body.schedule, SCHEDULE_MAX), ("escrow", body.escrow, ESCROW_MAX)];
        for (what, Blob { size, .. }, max) in blobs {
            if !(1..=max).contains(&size) {
                return Err(CredentialError::Size { what, size, max });
            }
        }
        if body.min_epoch.0 == 0 {
            return Err(CredentialError::Epoch);
        }
        if body.reason.len() > TEXT_MAX {
            return Err(CredentialError::Reason(body.reason.len()));
        }
        Ok(body)
    }

    /// As the body of a statement.
    #[must_use]
    pub fn to_body(&self) -> Value {
        serde_json::to_value(self).expect("a credential has string keys only")
    }
}
