//! A note: a text that a governor sends to every node with `borgios broadcast`.

use borgios_types::{Digest, Envelope, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::name::Name;
use crate::object::{Object, ObjectError, for_network, signed_by_a_governor, text_fits};

/// A governor's word to the fleet. It decides nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The fleet.
    pub network: Digest,
    /// What is said.
    pub text: String,
    /// When.
    pub at: UnixSeconds,
}

impl Object for Note {
    const KIND: &'static str = "note";
    const FIELDS: &'static [&'static str] = &["network", "text", "at"];

    fn check(&self) -> Result<(), ObjectError> {
        text_fits(Self::KIND, "text", Some(&self.text))
    }
}

impl Note {
    /// Reads a note and returns the governor who sent it.
    ///
    /// # Errors
    /// As [`Object::parse`], `wrong_network` and `bad_signature`.
    pub fn verify(
        board: &Board,
        network: Digest,
        envelope: &Envelope,
    ) -> Result<(Self, Name), ObjectError> {
        let note = Self::parse(envelope)?;
        for_network(Self::KIND, note.network, network)?;
        let governor = signed_by_a_governor(board, Self::KIND, envelope)?;
        Ok((note, governor.name.clone()))
    }
}
