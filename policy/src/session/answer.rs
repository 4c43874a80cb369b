//! A member's side of a session: what a nonce is bound to, and the share that follows from it.
//!
//! ```text
//! due session ─▶ draw the next seed (store) ─▶ Bound (store, sync) ─▶ Bound::share(seed)
//!             ─▶ sign ─▶ store ─▶ erase the seed ─▶ send
//! ```
//!
//! Two shares made of one nonce give the key share away. So a nonce is bound to a session before
//! anything of it is computed, and never to another one, whatever others say afterwards; a share that
//! was cut off comes out as the same bytes.

use borgios_types::{Digest, Envelope, Kind};
use frost_ed25519 as frost;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Session, SessionShare, publish};
use crate::board::Board;
use crate::message;
use crate::name::Name;
use crate::object::ObjectError;
use crate::share::{KeyShare, Seed};
use crate::slot::Slot;
use crate::statement::Statement;
use crate::wire::Bytes;

/// What a nonce was bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The slot.
    pub slot: Slot,
    /// Whose nonce it is.
    pub governor: Name,
    /// Which of this governor's nonces in this slot, from 0.
    pub number: u32,
    /// The statement's exact text.
    pub statement: String,
    /// The session, exactly as it was published.
    pub session: Envelope,
    /// The commitment to this governor's next nonces, 64 bytes.
    pub next: Bytes,
}

/// Why no share was made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SessionError {
    /// Not a session of this board.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// It asks for something else than what this governor approved.
    #[error("the session is not for the statement that {0} approved in this slot")]
    OtherStatement(Name),
    /// It does not name this governor with this nonce.
    #[error("the session does not name {0} with the nonces that wait")]
    OtherNonces(Name),
    /// The binding was made for another governor or board.
    #[error("the binding is {found}'s for {slot}, not {expected}'s")]
    Foreign {
        /// Whose it is.
        found: Name,
        /// Whose key was given.
        expected: Name,
        /// Its slot.
        slot: Slot,
    },
    /// The library refused to sign.
    #[error("signing failed: {0}")]
    Frost(String),
}

impl Bound {
    /// Binds the governor's nonces `number`, which `seed` makes, to a session. `statement` is the text
    /// that the governor's own ballot in this slot approves; `next` is the seed of the nonces after
    /// these, stored already.
    ///
    /// # Errors
    /// See [`SessionError`]; nothing was computed yet.
    pub fn to(
        board: &Board,
        key: &KeyShare,
        session: &Envelope,
        statement: &str,
        number: u32,
        seed: &Seed,
        next: &Seed,
    ) -> Result<Self, SessionError> {
        let (read, _) = Session::verify(board, session)?;
        let slot = read.slot(board);
        let next = publish(&key.session_nonces(board, slot, number.saturating_add(1), next));
        let bound = Self {
            slot,
            governor: key.name().clone(),
            number,
            statement: statement.to_owned(),
            session: session.clone(),
            next,
        };
        bound.check(board, key, seed)?;
        Ok(bound)
    }

    /// The share: the same bytes whenever it is asked for.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn share(
        &self,
        board: &Board,
        key: &KeyShare,
        seed: &Seed,
    ) -> Result<SessionShare, SessionError> {
        let (session, nonces) = self.check(board, key, seed)?;
        let failed = |error: &dyn core::fmt::Display| SessionError::Frost(error.to_string());
        let message = message::signed_bytes(self.slot.lane, &self.statement, &board.group());
        let package = session.package(board, &message).map_err(|error| failed(&error))?;
        let share = frost::round2::sign(&package, &nonces, key.package());
        let share = share.map_err(|error| failed(&error))?;
        Ok(SessionShare {
            group: board.group(),
            governor: self.governor.clone(),
            lane: self.slot.lane,
            seq: self.slot.seq,
            round: self.slot.round,
            session: self.session.id(),
            share: Bytes(share.serialize()),
            next: self.next.clone(),
        })
    }

    /// That session, statement, key and nonces belong together; the session and the nonces.
    fn check(
        &self,
        board: &Board,
        key: &KeyShare,
        seed: &Seed,
    ) -> Result<(Session, frost::round1::SigningNonces), SessionError> {
        let me = &self.governor;
        if key.name() != me || self.slot.epoch != board.epoch() {
            let (found, expected) = (me.clone(), key.name().clone());
            return Err(SessionError::Foreign { found, expected, slot: self.slot });
        }
        let (session, _) = Session::verify(board, &self.session)?;
        // The text binds the slot and the session, never the other way round.
        let other = || SessionError::OtherStatement(me.clone());
        let kind: Kind = self.slot.lane.kind();
        let draft = Envelope::unsigned(kind, self.statement.clone());
        let Statement { lane, seq, round, .. } = Statement::parse(&draft).map_err(|_| other())?;
        let slot = Slot { epoch: board.epoch(), lane, seq, round };
        let id = Digest::of(self.statement.as_bytes());
        if slot != self.slot || session.slot(board) != slot || session.statement != id {
            return Err(other());
        }
        let nonces = key.session_nonces(board, slot, self.number, seed);
        let mine = session.members.get(me);
        if mine.is_none_or(|mine| mine.commitment != publish(&nonces)) {
            return Err(SessionError::OtherNonces(me.clone()));
        }
        Ok((session, nonces))
    }
}
