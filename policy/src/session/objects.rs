//! The two objects of a session: who signs together, and what each of them gives.

use std::collections::BTreeMap;

use borgios_types::{Digest, Envelope, PublicKey, Round, Seq};
use frost_ed25519 as frost;
use serde::{Deserialize, Serialize};

use super::commitment;
use crate::board::{Board, identifier};
use crate::lane::Lane;
use crate::name::Name;
use crate::object::{Object, ObjectError, signed_by};
use crate::slot::Slot;
use crate::wire::Bytes;

/// t members who shall sign one statement together, one of whom opens it. Two tools that see the same
/// objects write the same payload, whoever of its members signs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The group key that signs.
    pub group: PublicKey,
    /// The slot's lane.
    pub lane: Lane,
    /// The slot's place.
    pub seq: Seq,
    /// The slot's round.
    pub round: Round,
    /// Id of the statement.
    pub statement: Digest,
    /// How many sessions of this statement its maker knew of.
    pub number: u32,
    /// Exactly t of them.
    pub members: BTreeMap<Name, Member>,
}

/// The nonces that a member uses in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The member's ballot or share that published them.
    pub from: Digest,
    /// Hiding (32 bytes) · binding (32 bytes).
    pub commitment: Bytes,
}

/// One member's part of a session, and the nonces for the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionShare {
    /// The group key that signs.
    pub group: PublicKey,
    /// Who signs.
    pub governor: Name,
    /// The slot's lane.
    pub lane: Lane,
    /// The slot's place.
    pub seq: Seq,
    /// The slot's round.
    pub round: Round,
    /// Id of the session.
    pub session: Digest,
    /// The signature share, 32 bytes.
    pub share: Bytes,
    /// Commitment to the nonces of the next session, 64 bytes.
    pub next: Bytes,
}

impl Object for Session {
    const KIND: &'static str = "session";
    const FIELDS: &'static [&'static str] =
        &["group", "lane", "seq", "round", "statement", "number", "members"];
}

impl Object for SessionShare {
    const KIND: &'static str = "share";
    const FIELDS: &'static [&'static str] =
        &["group", "governor", "lane", "seq", "round", "session", "share", "next"];
}

impl Session {
    /// Reads a session: group key, a member's signature, t members of the board, each with nonces.
    /// Whether those are the members' nonces, only [`super::Table`] can say. Returns the
    /// governor whose tool opened it.
    ///
    /// # Errors
    /// As [`Object::parse`], `wrong_policy`, `bad_signature`, and members that cannot sign together.
    pub fn verify(board: &Board, envelope: &Envelope) -> Result<(Self, Name), ObjectError> {
        let session = Self::parse(envelope)?;
        let (kind, expected) = (Self::KIND, board.group());
        if session.group != expected {
            return Err(ObjectError::WrongGroup { kind, found: session.group, expected });
        }
        // Sessions are counted against those who open them, and the id of one does not hang on the
        // signature: a liar who is not in it cannot put a name of his own to it.
        let mut members = session.members.keys().filter_map(|name| board.by_name(name));
        let by = members
            .find(|member| envelope.signed_by(&member.key))
            .map(|member| member.name.clone())
            .ok_or_else(|| ObjectError::BadSignature { kind, signer: "a member".to_owned() })?;
        let refused = |why: String| ObjectError::Refused { kind, why };
        if board.one_touch().is_ok() {
            return Err(refused("this board votes in one touch".to_owned()));
        }
        let (found, needed) = (session.members.len(), usize::from(board.threshold().0));
        if found != needed {
            return Err(refused(format!("{found} members, expected {needed}")));
        }
        // Two members may name the same nonces: who copied them cannot use them, and refusing such a
        // session would let a liar keep an honest member out of all.
        for (name, member) in &session.members {
            if board.index(name).is_none() {
                return Err(refused(format!("{name} is not on the board")));
            }
            commitment(&member.commitment).map_err(refused)?;
        }
        Ok((session, by))
    }

    /// The slot it is for.
    #[must_use]
    pub fn slot(&self, board: &Board) -> Slot {
        Slot { epoch: board.epoch(), lane: self.lane, seq: self.seq, round: self.round }
    }

    /// What its members sign.
    pub(super) fn package(
        &self,
        board: &Board,
        message: &[u8],
    ) -> Result<frost::SigningPackage, String> {
        let mut commitments = BTreeMap::new();
        for (name, member) in &self.members {
            let index = board.index(name).ok_or_else(|| format!("{name} is not on the board"))?;
            commitments.insert(identifier(index), commitment(&member.commitment)?);
        }
        Ok(frost::SigningPackage::new(commitments, message))
    }
}

impl SessionShare {
    /// Reads a share: group key, governor, signature, and that both parts are what they should be.
    /// Whether the share is good, only [`super::Table`] can say.
    ///
    /// # Errors
    /// As [`Object::parse`], `wrong_policy`, `bad_signature`, and bytes of another shape.
    pub fn verify(board: &Board, envelope: &Envelope) -> Result<Self, ObjectError> {
        let share = Self::parse(envelope)?;
        let (kind, expected) = (Self::KIND, board.group());
        if share.group != expected {
            return Err(ObjectError::WrongGroup { kind, found: share.group, expected });
        }
        let refused = |why: String| ObjectError::Refused { kind, why };
        let governor = board
            .by_name(&share.governor)
            .ok_or_else(|| refused(format!("{} is not on the board", share.governor)))?;
        signed_by(&governor.key, kind, envelope)?;
        share.scalar().map_err(refused)?;
        commitment(&share.next).map_err(refused)?;
        Ok(share)
    }

    /// The slot it is for.
    #[must_use]
    pub fn slot(&self, board: &Board) -> Slot {
        Slot { epoch: board.epoch(), lane: self.lane, seq: self.seq, round: self.round }
    }

    /// The share as a number.
    pub(super) fn scalar(&self) -> Result<frost::round2::SignatureShare, String> {
        frost::round2::SignatureShare::deserialize(&self.share.0)
            .map_err(|_| format!("{} bytes that are no share", self.share.0.len()))
    }
}
