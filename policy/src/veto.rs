//! A veto and a pause: what a governor may say against a statement that is signed.
//!
//! ```text
//! veto, pause  {says, network, group, governor, statement, lane, seq, reason, at}
//! ```
//!
//! `says` is the type once more: an object's id is that of its payload, and the two would be one where
//! a governor says both in one second with the same words.
//!
//! Enough vetoes kill a statement that is not applied yet; one pause holds it back for a while. What
//! they do, [`crate::gate`] says. Neither has effect on what a holder has applied.

use borgios_types::{Digest, Envelope, PublicKey, Seq, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::lane::Lane;
use crate::name::Name;
use crate::object::{Object, ObjectError, for_network, signed_by, text_fits};

/// What both say; [`Veto`] and [`Pause`] give it its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objection {
    /// The fleet.
    pub network: Digest,
    /// The group key of the board it is said on; it counts while that board is in force.
    pub group: PublicKey,
    /// Who objects.
    pub governor: Name,
    /// Id of the statement.
    pub statement: Digest,
    /// Its lane.
    pub lane: Lane,
    /// Its place.
    pub seq: Seq,
    /// Why.
    pub reason: String,
    /// When.
    pub at: UnixSeconds,
}

const FIELDS: &[&str] =
    &["says", "network", "group", "governor", "statement", "lane", "seq", "reason", "at"];

/// The payload of both.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Said {
    says: String,
    #[serde(flatten)]
    objection: Objection,
}

impl Said {
    fn new(kind: &'static str, objection: Objection) -> Self {
        Self { says: kind.to_owned(), objection }
    }

    fn of(self, kind: &'static str) -> Result<Objection, String> {
        if self.says == kind {
            return Ok(self.objection);
        }
        let says: String = self.says.chars().take(40).collect();
        Err(format!("it says {says:?}"))
    }
}

impl Objection {
    fn checked(&self, kind: &'static str) -> Result<(), ObjectError> {
        text_fits(kind, "reason", Some(&self.reason))
    }

    fn verified(
        &self,
        kind: &'static str,
        board: &Board,
        network: Digest,
        envelope: &Envelope,
    ) -> Result<(), ObjectError> {
        for_network(kind, self.network, network)?;
        if self.group != board.group() {
            let (found, expected) = (self.group, board.group());
            return Err(ObjectError::WrongGroup { kind, found, expected });
        }
        let governor = board.by_name(&self.governor).ok_or_else(|| ObjectError::Refused {
            kind,
            why: format!("{} is not on the board", self.governor),
        })?;
        signed_by(&governor.key, kind, envelope)
    }
}

/// One voice for killing a signed statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Said", into = "Said")]
pub struct Veto(pub Objection);

impl TryFrom<Said> for Veto {
    type Error = String;

    fn try_from(said: Said) -> Result<Self, String> {
        said.of(Self::KIND).map(Self)
    }
}

impl From<Veto> for Said {
    fn from(Veto(objection): Veto) -> Self {
        Self::new(Veto::KIND, objection)
    }
}

/// One governor's request to wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Said", into = "Said")]
pub struct Pause(pub Objection);

impl TryFrom<Said> for Pause {
    type Error = String;

    fn try_from(said: Said) -> Result<Self, String> {
        said.of(Self::KIND).map(Self)
    }
}

impl From<Pause> for Said {
    fn from(Pause(objection): Pause) -> Self {
        Self::new(Pause::KIND, objection)
    }
}

impl Object for Veto {
    const KIND: &'static str = "veto";
    const FIELDS: &'static [&'static str] = FIELDS;

    fn check(&self) -> Result<(), ObjectError> {
        self.0.checked(Self::KIND)
    }
}

impl Object for Pause {
    const KIND: &'static str = "pause";
    const FIELDS: &'static [&'static str] = FIELDS;

    fn check(&self) -> Result<(), ObjectError> {
        self.0.checked(Self::KIND)
    }
}

impl Veto {
    /// Reads a veto and checks network, board, governor and signature.
    ///
    /// # Errors
    /// As [`Object::parse`], `wrong_network`, `wrong_policy`, `bad_body`, `bad_signature`.
    pub fn verify(
        board: &Board,
        network: Digest,
        envelope: &Envelope,
    ) -> Result<Self, ObjectError> {
        let veto = Self::parse(envelope)?;
        veto.0.verified(Self::KIND, board, network, envelope)?;
        Ok(veto)
    }
}

impl Pause {
    /// Reads a pause and checks network, board, governor and signature.
    ///
    /// # Errors
    /// As [`Veto::verify`].
    pub fn verify(
        board: &Board,
        network: Digest,
        envelope: &Envelope,
    ) -> Result<Self, ObjectError> {
        let pause = Self::parse(envelope)?;
        pause.0.verified(Self::KIND, board, network, envelope)?;
        Ok(pause)
    }
}
