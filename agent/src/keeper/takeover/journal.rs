//! Where the take-over stands, on disk before the step it announces.
//!
//! ```text
//!        begin          apply              apply             verify
//! none ────────▶ open ────────▶ purging ───────────▶ done ──────────▶ done, verified
//!                 │                 │ an error
//!                 │ abort, boot,    ▼
//!                 └────────────▶ aborting ─────────▶ aborted ────────▶ open again, by begin
//!                   deadline
//! ```
//!
//! What was cut off in `purging` goes on, in `aborting` too; in `open` it goes back.

use std::path::Path;

use borgios_types::{Digest, UnixSeconds};
use serde::{Deserialize, Serialize};

use super::finding::Finding;
use super::machine::{Machine, MachineError};

/// The take-over's folder. Root's, 0700.
pub(super) const FOLDER: &str = "/var/lib/borgios-bootstrap/takeover";
/// The journal itself.
pub(super) const FILE: &str = "/var/lib/borgios-bootstrap/takeover/journal.json";

/// What stays the same from `begin` on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Taking {
    /// When it began.
    pub(super) begun: UnixSeconds,
    /// The file that is sealed to the owner.
    pub(super) sealed: Option<String>,
    /// What was found: at `begin`, and from `purging` on just before that.
    pub(super) found: Vec<Finding>,
}

/// Where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub(super) enum Journal {
    /// The snapshot is on disk, and nothing of root's has changed.
    Open {
        /// What began.
        taking: Taking,
        /// Until when, for people.
        deadline: UnixSeconds,
        /// Until when, in seconds since the boot.
        until_s: u64,
        /// Which boot.
        boot: String,
    },
    /// The point of no return: it goes on whatever happens, unless something fails with an error.
    Purging {
        /// What began.
        taking: Taking,
        /// root's password field as the owner had it.
        owners_root: Option<Digest>,
    },
    /// Root belongs to the network.
    Done {
        /// What began.
        taking: Taking,
        /// root's password field as the owner had it.
        owners_root: Option<Digest>,
        /// When.
        ended: UnixSeconds,
        /// Whether a second look held, and the snapshot is gone.
        verified: bool,
    },
    /// On the way back.
    Aborting {
        /// What began.
        taking: Taking,
        /// Why it goes back.
        why: String,
        /// Whether something of root's had changed.
        purged: bool,
    },
    /// All is as it was.
    Aborted {
        /// What began.
        taking: Taking,
        /// Why it went back.
        why: String,
        /// When.
        ended: UnixSeconds,
    },
}

impl Journal {
    /// What it says; `None` before the first `begin`. A journal that cannot be read is an error:
    /// nobody may guess whose root it is.
    pub(super) fn read(machine: &Machine) -> Result<Option<Self>, MachineError> {
        let Some(bytes) = machine.read(FILE)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| MachineError::Odd {
            path: FILE.into(),
            why: format!("is not a journal of this version: {error}"),
        })
    }

    /// Writes it; when this returns, it survives a power cut.
    pub(super) fn write(&self, machine: &Machine) -> Result<(), MachineError> {
        machine.folder(FOLDER, 0o700)?;
        let bytes = serde_json::to_vec(self).expect("a journal has string keys only");
        machine.write(Path::new(FILE), &bytes, 0o600)
    }

    /// The word for people and for bootstrap.sh.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open",
            Self::Purging { .. } => "purging",
            Self::Done { .. } => "done",
            Self::Aborting { .. } => "aborting",
            Self::Aborted { .. } => "aborted",
        }
    }

    /// What began.
    pub(super) fn taking(&self) -> &Taking {
        match self {
            Self::Open { taking, .. }
            | Self::Purging { taking, .. }
            | Self::Done { taking, .. }
            | Self::Aborting { taking, .. }
            | Self::Aborted { taking, .. } => taking,
        }
    }
}
