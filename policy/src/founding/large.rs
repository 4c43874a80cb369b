//! policy/1 of a board that is too large for one-touch votes: two rounds inside the ceremony.
//!
//! ```text
//! NAME.done  with one nonce commitment  ─▶  NAME.part  with a signature share, by the first t
//! ```
//!
//! The signing set is fixed, the first t governors by name, and the commitments are those that the
//! `done` papers hold, which all governors signed and nobody may change once they are answered. So
//! a nonce can sign one message in one set only. No fallback is needed: a founding is nothing
//! before all n took part, and a bad share names its maker, with whom nobody founds anything.

use std::collections::BTreeMap;

use borgios_types::{Digest, Envelope, Signature, SignedBy};
use frost_ed25519 as frost;
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::{CeremonyError, Files, Me, first};
use crate::board::{Board, identifier};
use crate::keygen::{Agreed, Ceremony, Done, Made, Paper, Roster, cheat, digest, envelope};
use crate::lane::Lane;
use crate::message;
use crate::name::Name;
use crate::object::{Object, ObjectError, signed_by};
use crate::share::KeyShare;
use crate::wire::Bytes;

/// A signature share for policy/1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Id of the plan.
    pub roster: Digest,
    /// Whose it is.
    pub governor: Name,
    /// Id of policy/1.
    pub statement: Digest,
    /// 32 bytes.
    pub share: Bytes,
    /// One digest over the `done` papers whose commitments it was made with: whoever shows two versions
    /// must not make two others look like cheats. Who leaves it out is judged by the papers at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Digest>,
}

impl Object for Part {
    const KIND: &'static str = "part";
    const FIELDS: &'static [&'static str] = &["roster", "governor", "statement", "share", "done"];
}

impl Paper for Part {
    fn stands_for(&self) -> (Digest, &Name) {
        (self.roster, &self.governor)
    }
}

/// Writes this governor's part, if the governor is one of the first t.
pub(super) fn sign(
    ceremony: &mut Ceremony,
    me: &Me<'_>,
    plan: &Plan,
    roster: &Roster,
    made: &Made,
    agreed: &Agreed,
) -> Result<(), CeremonyError> {
    let index = roster.index_of(&me.card.name)?;
    let Some(nonces) = made.nonces.as_ref().filter(|_| index <= roster.threshold.0) else {
        return Ok(());
    };
    let failed = |error: &dyn core::fmt::Display| {
        CeremonyError::State(format!("signing policy/1 failed: {error}"))
    };
    let board = &made.board;
    let key = KeyShare::from_secret(board, &me.card.name, &made.key).map_err(|e| failed(&e))?;
    let nonces = frost::round1::SigningNonces::deserialize(nonces.expose())
        .map_err(|error| failed(&error))?;
    let package = package(plan, roster, board, agreed)?;
    let share =
        frost::round2::sign(&package, &nonces, key.package()).map_err(|error| failed(&error))?;
    let part = Part {
        roster: roster.id,
        governor: me.card.name.clone(),
        statement: first::network(plan, board),
        share: Bytes(share.serialize()),
        done: Some(digest(&agreed.done)),
    };
    ceremony.write_paper(me, roster, &part);
    Ok(())
}

/// policy/1 with its signature, or the names of those of the first t whose part is not there.
pub(super) fn signed(
    plan: &Plan,
    roster: &Roster,
    board: &Board,
    files: &Files,
    agreed: &Agreed,
) -> Result<Result<Envelope, Vec<Name>>, CeremonyError> {
    let (mut shares, mut missing, mut disagrees) = (BTreeMap::new(), Vec::new(), None);
    let seen = digest(&agreed.done);
    for (index, card) in (1..=roster.threshold.0).zip(&roster.governors) {
        let file = roster.file(&card.name, Part::KIND);
        let Some(envelope) = envelope(files, &file)? else {
            missing.push(card.name.clone());
            continue;
        };
        let refused = |source: ObjectError| CeremonyError::File { file: file.clone(), source };
        let part = Part::parse(&envelope).map_err(refused)?;
        signed_by(&card.key, Part::KIND, &envelope).map_err(refused)?;
        if part.stands_for() != (roster.id, &card.name)
            || part.statement != first::network(plan, board)
        {
            return Err(cheat(&card.name, Part::KIND, &"it is for another ceremony"));
        }
        if part.done.is_some_and(|done| done != seen) {
            disagrees.get_or_insert(&card.name);
            continue;
        }
        let share = frost::round2::SignatureShare::deserialize(&part.share.0)
            .map_err(|error| cheat(&card.name, Part::KIND, &error))?;
        shares.insert(identifier(index), share);
    }
    // Only then: one part with an invented digest must keep nobody else from laying theirs.
    if !missing.is_empty() {
        return Ok(Err(missing));
    }
    if let Some(name) = disagrees {
        return Err(CeremonyError::Disagrees { name: name.clone(), what: Done::KIND });
    }
    let package = package(plan, roster, board, agreed)?;
    let signature = frost::aggregate(&package, &shares, &board.public_key_package())
        .map_err(|error| blame(roster, &error))?;
    let bytes = signature.serialize().ok().and_then(|bytes| bytes.try_into().ok());
    let sig = bytes.map(Signature).ok_or_else(|| CeremonyError::State("no signature".into()))?;
    let mut envelope = Envelope::unsigned(Lane::Policy.kind(), first::payload(plan, board));
    envelope.sigs.push(SignedBy { by: board.group(), sig });
    Ok(Ok(envelope))
}

/// What the first t sign.
fn package(
    plan: &Plan,
    roster: &Roster,
    board: &Board,
    agreed: &Agreed,
) -> Result<frost::SigningPackage, CeremonyError> {
    let mut commitments = BTreeMap::new();
    for (index, card) in (1..=roster.threshold.0).zip(&roster.governors) {
        let wrong = |why: &dyn core::fmt::Display| cheat(&card.name, Done::KIND, why);
        let done = agreed.done.get(&card.name).map(|(_, done)| done);
        let bytes = done.and_then(|done| done.commitment.as_ref());
        let bytes = bytes.ok_or_else(|| wrong(&"no nonce commitment"))?;
        let commitment = frost::round1::SigningCommitments::deserialize(&bytes.0)
            .map_err(|error| wrong(&error))?;
        commitments.insert(identifier(index), commitment);
    }
    let text = first::payload(plan, board);
    let message = message::signed_bytes(Lane::Policy, &text, &board.group());
    Ok(frost::SigningPackage::new(commitments, &message))
}

/// The library's error, laid at the door of whom it names.
fn blame(roster: &Roster, error: &frost::Error) -> CeremonyError {
    let culprits = error.culprits();
    let mut cards = (1..).zip(&roster.governors);
    match cards.find(|(index, _)| culprits.contains(&identifier(*index))) {
        Some((_, card)) => cheat(&card.name, Part::KIND, error),
        None => CeremonyError::State(format!("the parts do not fit together: {error}")),
    }
}
