//! A distributed key generation by files in a folder: the one way in which a group key is made, at
//! a founding and at every change of the board.
//!
//! ```text
//!            roster agreed        all dkg1         all dkg2              all done
//! (nothing) ───────────▶ Committed ──▶ Shared ──────────▶ Keyed ─────────────▶ Agreed
//!              writes NAME.dkg1     NAME.dkg2    NAME.done, NAME.pool1…
//! ```
//!
//! No dealer ever holds the key. The DKG alone accepts a sender who shows two receivers different
//! first-round papers, so every later paper signs what was seen of the earlier ones, and nothing
//! comes of it before all n governors signed the same transcript, group key and first pools.
//!
//! The caller must store the [`Ceremony`] (encrypted to the governor, synced) *before* it writes
//! the files that a step returned, and may step again at any time: what was written once is
//! written the same again.

mod error;
mod outside;
mod papers;
mod pools;
mod roster;
mod rounds;

use std::collections::BTreeMap;

use borgios_types::{Digest, Envelope, SecretKey};
use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::card::Card;
use crate::name::Name;
use crate::share::{KeyShare, Seed};
use crate::slot::Slot;
use crate::wire::SecretBytes;

pub use error::CeremonyError;
pub(crate) use outside::{Seen, seen};
pub(crate) use papers::{Done, Paper, digest, envelope};
pub use papers::{Files, file_name};
pub(crate) use roster::{Roster, check, warning};
pub(crate) use rounds::{Agreed, Reached};

/// Who takes part: the governor at this machine.
#[derive(Debug)]
pub struct Me<'a> {
    /// The card that the others know.
    pub card: &'a Card,
    /// The card's key.
    pub key: &'a SecretKey,
    /// The card's recipient's secret half, `AGE-SECRET-KEY-1…`.
    pub identity: &'a str,
}

/// One governor's secret state between two steps. Serialises for storage; never printed.
#[derive(Clone, Serialize, Deserialize)]
pub struct Ceremony {
    roster: Digest,
    pub(crate) phase: Phase,
    /// Every file this governor wrote: it is never made twice.
    pub(crate) wrote: BTreeMap<String, String>,
    /// Ids of the others' papers that were answered: they must not change any more.
    answered: BTreeMap<String, Digest>,
}

/// How far this governor is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// The first round's paper is written.
    Committed { secret: SecretBytes },
    /// The second round's paper is written.
    Shared { secret: SecretBytes },
    /// There is a key; pools and signature are written.
    Keyed { made: Made },
    /// At a founding: this governor's part of the signature of policy/1 is written, and the nonces
    /// it took are erased.
    Voted { made: Made },
}

/// What a key generation came to for one governor.
#[derive(Debug)]
pub struct Keyed {
    /// The board that the key makes.
    pub board: Board,
    /// The governor's share.
    pub key: KeyShare,
    /// The seeds of the governor's first pools.
    pub seeds: Vec<(Slot, Seed)>,
}

/// What came of the key generation.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) board: Board,
    pub(crate) transcript: Digest,
    pub(crate) key: SecretBytes,
    pub(crate) seeds: Vec<(Slot, Seed)>,
    /// On a board too large for pools, at its founding: the nonces for policy/1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nonces: Option<SecretBytes>,
}

impl Ceremony {
    /// The roster digest that was agreed on.
    #[must_use]
    pub fn roster(&self) -> Digest {
        self.roster
    }

    /// Whether there is a key: from here on others may count on this governor's share.
    #[must_use]
    pub fn is_keyed(&self) -> bool {
        match self.phase {
            Phase::Committed { .. } | Phase::Shared { .. } => false,
            Phase::Keyed { .. } | Phase::Voted { .. } => true,
        }
    }

    /// The board of the key in here, `name`'s share of it, and the seeds of the first pools; `None` before
    /// there is a key.
    #[must_use]
    pub fn made(&self, name: &Name) -> Option<Keyed> {
        let (Phase::Keyed { made } | Phase::Voted { made }) = &self.phase else { return None };
        let key = KeyShare::from_secret(&made.board, name, &made.key).ok()?;
        Some(Keyed { board: made.board.clone(), key, seeds: made.seeds.clone() })
    }

    /// Neither this governor's files nor the answered ones have changed.
    pub(crate) fn check_unchanged(&self, files: &Files) -> Result<(), CeremonyError> {
        for (file, text) in &self.wrote {
            if let Some(found) = envelope(files, file)? {
                let own = Envelope::parse(text.as_bytes())
                    .map_err(|error| CeremonyError::State(error.to_string()))?;
                if found.id() != own.id() {
                    return Err(CeremonyError::OwnFile(file.clone()));
                }
            }
        }
        for (file, answered) in &self.answered {
            if let Some(found) = envelope(files, file)?.map(|found| found.id())
                && found != *answered
            {
                let (file, answered) = (file.clone(), *answered);
                return Err(CeremonyError::Changed { file, answered, found });
            }
        }
        Ok(())
    }

    /// What this governor wrote and the folder lacks.
    pub(crate) fn unwritten(&self, files: &Files) -> Files {
        let lacking = self.wrote.iter().filter(|(file, _)| !files.contains_key(*file));
        lacking.map(|(file, text)| (file.clone(), text.clone().into_bytes())).collect()
    }

    /// What the folder holds, with what this governor wrote.
    pub(crate) fn seen(&self, files: &Files) -> Files {
        let mut seen = files.clone();
        let wrote = self.wrote.iter();
        seen.extend(wrote.map(|(file, text)| (file.clone(), text.clone().into_bytes())));
        seen
    }
}

impl core::fmt::Debug for Ceremony {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let phase = match &self.phase {
            Phase::Committed { .. } => "committed",
            Phase::Shared { .. } => "shared",
            Phase::Keyed { .. } => "keyed",
            Phase::Voted { .. } => "voted",
        };
        write!(f, "Ceremony({phase}, roster {})", self.roster.short())
    }
}

/// A governor's contribution that is provably wrong.
pub(crate) fn cheat(
    name: &Name,
    kind: &'static str,
    why: &dyn core::fmt::Display,
) -> CeremonyError {
    CeremonyError::Cheat { name: name.clone(), kind, why: why.to_string() }
}
