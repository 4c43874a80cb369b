//! A proposal: a governor puts the exact text of a statement to the vote.

use borgios_types::{Digest, Envelope};
use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::lane::Lane;
use crate::name::Name;
use crate::object::{Object, ObjectError, text_fits};
use crate::refusal::Refusal;
use crate::statement::Statement;

/// The text to be signed, byte for byte, who proposes it, and a word about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Who proposes it: so nobody takes it over by a signature of their own, with its note and the place
    /// that proposers have on laptops.
    pub governor: Name,
    /// The statement's exact payload.
    pub statement: String,
    /// Its lane.
    pub lane: Lane,
    /// Why it is proposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Object for Proposal {
    const KIND: &'static str = "proposal";
    const FIELDS: &'static [&'static str] = &["governor", "statement", "lane", "note"];

    fn check(&self) -> Result<(), ObjectError> {
        text_fits(Self::KIND, "note", self.note.as_ref())
    }
}

impl Proposal {
    /// Id of the proposed statement: what ballots name.
    #[must_use]
    pub fn statement_id(&self) -> Digest {
        Digest::of(self.statement.as_bytes())
    }

    /// The statement as an envelope without signatures, as [`crate::Chain::review`] takes it.
    #[must_use]
    pub fn draft(&self) -> Envelope {
        Envelope::unsigned(self.lane.kind(), self.statement.clone())
    }

    /// Reads what is proposed.
    ///
    /// # Errors
    /// Steps 1 and 2 of the verification of statements.
    pub fn parse_statement(&self) -> Result<Statement, Refusal> {
        Statement::parse(&self.draft())
    }

    /// Reads a proposal and returns the governor who made it. The proposed text has a
    /// statement's shape; whether it fits the chain, [`crate::Chain::review`] says.
    ///
    /// # Errors
    /// As [`Object::parse`], `bad_signature`, and a text that is no statement.
    pub fn verify(board: &Board, envelope: &Envelope) -> Result<(Self, Name), ObjectError> {
        let proposal = Self::parse(envelope)?;
        let seat = board.by_name(&proposal.governor);
        let Some(governor) = seat.filter(|seat| envelope.signed_by(&seat.key)) else {
            let signer = proposal.governor.to_string();
            return Err(ObjectError::BadSignature { kind: Self::KIND, signer });
        };
        proposal.parse_statement().map_err(|refusal| {
            let why = format!("what it proposes: {refusal}");
            ObjectError::Refused { kind: Self::KIND, why }
        })?;
        Ok((proposal, governor.name.clone()))
    }
}
