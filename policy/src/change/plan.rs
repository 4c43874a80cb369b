//! The plan of a change, `change-E.json`: who is to govern from key epoch E on.
//!
//! Its id is the *roster digest*. It names the network, the key that is replaced and every card, so
//! that comparing it by voice leaves nothing to be swapped. It is bound to that key and not to the
//! policy in force: a change takes days, and new rules for the same board must not void it.

use std::collections::BTreeMap;

use borgios_types::{Digest, Envelope, KeyEpoch, PublicKey, Seq, Threshold};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Standing;
use crate::board::{Board, BoardError, Governor};
use crate::card::Card;
use crate::keygen::{self, Files, Roster, envelope};
use crate::lane::Lane;
use crate::name::Name;
use crate::object::{Object, ObjectError, for_network, signed_by};

/// Most attempts at one key epoch: who needs more has a quarrel and no accident.
pub const ATTEMPTS_MAX: u32 = 15;

/// What the new board agrees on before it makes a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Id of policy/1.
    pub network: Digest,
    /// The group key that is to be replaced.
    pub group: PublicKey,
    /// The epoch of the new key, one more than that of the old one.
    pub epoch: KeyEpoch,
    /// Counts the attempts at this epoch, from 0.
    pub attempt: u32,
    /// t of the new board.
    pub threshold: Threshold,
    /// The new board's cards, in order of name.
    pub governors: Vec<Card>,
    /// The heads of the lanes, which the new board's first pools follow.
    pub heads: BTreeMap<Lane, Seq>,
}

/// Why no plan can be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// No board can be made of it.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// Who is to go is not there.
    #[error("{0} is not on the board")]
    NotOnBoard(Name),
    /// Who is to come is there.
    #[error("{0} is on the board already; to replace a lost identity, remove and add the name")]
    OnBoard(Name),
    /// Nobody stays, who could propose the policy.
    #[error("nobody of the board in force stays; somebody must, to propose the policy")]
    NobodyStays,
    /// Too many attempts.
    #[error("attempt {0} at this key epoch, at most {ATTEMPTS_MAX} are possible")]
    Attempts(u32),
}

impl Change {
    /// Plans the board in force with these governors removed, then these added.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn new(
        standing: Standing<'_>,
        attempt: u32,
        (remove, add): (&[Name], &[Card]),
        threshold: Threshold,
        heads: BTreeMap<Lane, Seq>,
    ) -> Result<Self, ChangeError> {
        let board = standing.board;
        if let Some(stranger) = remove.iter().find(|name| board.by_name(name).is_none()) {
            return Err(ChangeError::NotOnBoard(stranger.clone()));
        }
        if attempt > ATTEMPTS_MAX {
            return Err(ChangeError::Attempts(attempt));
        }
        let stay = board.governors().iter().filter(|governor| !remove.contains(&governor.name));
        let mut governors: Vec<Card> = stay.map(card).collect();
        for card in add {
            if governors.iter().any(|there| there.name == card.name) {
                return Err(ChangeError::OnBoard(card.name.clone()));
            }
            governors.push(card.clone());
        }
        governors.sort_by(|one, other| one.name.cmp(&other.name));
        keygen::check(&governors, threshold)?;
        // A recovery board proposes by itself, and may have nobody left to keep.
        if standing.recovery.is_none() && !governors.iter().any(|planned| stays(board, planned)) {
            return Err(ChangeError::NobodyStays);
        }
        let (network, group, epoch) = (standing.network, board.group(), board.next_epoch());
        Ok(Self { network, group, epoch, attempt, threshold, governors, heads })
    }

    /// Reads the plan of one attempt, which a governor of the board in force signed, or of the recovery
    /// board where its plans are meant.
    ///
    /// # Errors
    /// As [`Object::parse`], `wrong_network`, `wrong_policy`, `bad_signature`, and another epoch or
    /// attempt than its file is named after.
    pub fn verify(
        standing: Standing<'_>,
        attempt: u32,
        envelope: &Envelope,
    ) -> Result<(Self, Name), ObjectError> {
        let (plan, kind, board) = (Self::parse(envelope)?, Self::KIND, standing.board);
        for_network(kind, plan.network, standing.network)?;
        if plan.group != board.group() {
            let (found, expected) = (plan.group, board.group());
            return Err(ObjectError::WrongGroup { kind, found, expected });
        }
        if (plan.epoch, plan.attempt) != (board.next_epoch(), attempt) {
            let why = format!("attempt {} at key epoch {}", plan.attempt, plan.epoch);
            return Err(ObjectError::Refused { kind, why });
        }
        let stays = |planned: &Card| stays(board, planned);
        if standing.recovery.is_none() && !plan.governors.iter().any(stays) {
            return Err(ObjectError::Refused { kind, why: ChangeError::NobodyStays.to_string() });
        }
        let planners = standing.recovery.unwrap_or(board);
        let author = planners.governors().iter().find(|g| envelope.signed_by(&g.key));
        let author = author.ok_or_else(|| {
            let which =
                if standing.recovery.is_some() { "recovery board" } else { "board in force" };
            let signer = format!("a governor of the {which}");
            ObjectError::BadSignature { kind, signer }
        })?;
        signed_by(&author.key, kind, envelope)?;
        Ok((plan, author.name.clone()))
    }

    /// What all compare before they take part.
    #[must_use]
    pub fn roster(&self) -> Digest {
        self.to_envelope().id()
    }

    /// The file it lies in.
    #[must_use]
    pub fn file(&self, recovery: bool) -> String {
        plan_file(self.epoch, self.attempt, recovery)
    }

    /// Whether `me` must compare the roster: where a card is not the board's, or `me` is new and
    /// has only this plan's word for the network.
    #[must_use]
    pub fn needs_confirmation(&self, me: &Card, board: &Board) -> bool {
        let known: Vec<Card> = board.governors().iter().map(card).collect();
        !known.contains(me) || self.governors.iter().any(|card| !known.contains(card))
    }

    /// What is risky about the new board, in words, if anything is.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        keygen::warning(self.governors.len(), self.threshold)
    }

    /// What the rounds need of it; `id` is that of the plan as it lies in the folder.
    pub(super) fn to_roster(&self, id: Digest, recovery: bool) -> Roster {
        let Self { epoch, attempt, threshold, .. } = *self;
        let begin = if recovery { RECOVERY } else { "" };
        let prefix = match attempt {
            0 => format!("{begin}{epoch}."),
            attempt => format!("{begin}{epoch}.{attempt}."),
        };
        let (governors, heads) = (self.governors.clone(), self.heads.clone());
        Roster { id, epoch, threshold, governors, prefix, heads }
    }
}

impl Object for Change {
    const KIND: &'static str = "change";
    const FIELDS: &'static [&'static str] =
        &["network", "group", "epoch", "attempt", "threshold", "governors", "heads"];

    fn check(&self) -> Result<(), ObjectError> {
        let refused = |why: String| ObjectError::Refused { kind: Self::KIND, why };
        if self.attempt > ATTEMPTS_MAX {
            return Err(refused(ChangeError::Attempts(self.attempt).to_string()));
        }
        self.governors.iter().try_for_each(Object::check)?;
        keygen::check(&self.governors, self.threshold).map_err(|error| refused(error.to_string()))
    }
}

/// A governor's card, as the board has it.
fn card(governor: &Governor) -> Card {
    let Governor { name, key, recipient, .. } = governor;
    Card { name: name.clone(), key: *key, recipient: recipient.clone() }
}

/// Whether a card is that of a governor of the board.
fn stays(board: &Board, planned: &Card) -> bool {
    board.by_name(&planned.name).is_some_and(|governor| card(governor) == *planned)
}

/// What the files of a recovery board's ceremony begin with.
const RECOVERY: &str = "recovery-";

/// `change-2.json`, and `change-2.1.json` for a further attempt; `recovery-change-2.json` for a plan of
/// the recovery board.
#[must_use]
pub fn plan_file(epoch: KeyEpoch, attempt: u32, recovery: bool) -> String {
    let begin = if recovery { RECOVERY } else { "" };
    if attempt == 0 {
        format!("{begin}change-{epoch}.json")
    } else {
        format!("{begin}change-{epoch}.{attempt}.json")
    }
}

/// Every plan in the folder, none of them verified: how a newcomer learns of which network to ask.
#[must_use]
pub fn plans(files: &Files, recovery: bool) -> Vec<Change> {
    let begin = if recovery { "recovery-change-" } else { "change-" };
    let named = files.keys().filter(|file| file.starts_with(begin));
    let read = named.filter_map(|file| Change::parse(&envelope(files, file).ok()??).ok());
    read.collect()
}
