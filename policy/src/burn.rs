//! A burn: a governor's word that everything of an earlier copy of the folder is void.

use borgios_types::{Envelope, PublicKey, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::name::Name;
use crate::object::{Object, ObjectError, signed_by};

/// All pools of `governor` with a lower generation are void.
///
/// Made when a folder was restored from a backup: the seeds of its open slots are gone, or still
/// lie on the machine it was copied from. It takes nothing back: ballots that were cast count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Burn {
    /// The group key whose pools are meant.
    pub group: PublicKey,
    /// Whose pools.
    pub governor: Name,
    /// The lowest generation that counts from now on, at least 1.
    pub generation: u64,
    /// When.
    pub at: UnixSeconds,
}

impl Object for Burn {
    const KIND: &'static str = "burn";
    const FIELDS: &'static [&'static str] = &["group", "governor", "generation", "at"];

    fn check(&self) -> Result<(), ObjectError> {
        if self.generation > 0 {
            return Ok(());
        }
        let why = "generation 0 burns nothing; the first is 1".to_owned();
        Err(ObjectError::Refused { kind: Self::KIND, why })
    }
}

impl Burn {
    /// Reads a burn and checks group key, governor and signature.
    ///
    /// # Errors
    /// As [`Object::parse`], `wrong_policy`, `bad_signature`, and a stranger's.
    pub fn verify(board: &Board, envelope: &Envelope) -> Result<Self, ObjectError> {
        let (burn, kind, expected) = (Self::parse(envelope)?, Self::KIND, board.group());
        if burn.group != expected {
            return Err(ObjectError::WrongGroup { kind, found: burn.group, expected });
        }
        let governor = board.by_name(&burn.governor).ok_or_else(|| {
            let why = format!("{} is not on the board", burn.governor);
            ObjectError::Refused { kind, why }
        })?;
        signed_by(&governor.key, kind, envelope)?;
        Ok(burn)
    }
}

/// The lowest generation of each governor's pools that counts, by the burns at hand; governors
/// without a burn are left out, theirs count from 0.
#[must_use]
pub fn generations(board: &Board, burns: &[Envelope]) -> std::collections::BTreeMap<Name, u64> {
    let mut lowest = std::collections::BTreeMap::new();
    for burn in burns.iter().filter_map(|burn| Burn::verify(board, burn).ok()) {
        let counts: &mut u64 = lowest.entry(burn.governor).or_default();
        *counts = (*counts).max(burn.generation);
    }
    lowest
}
