//! The roster: who makes a key together, as far as the rounds need to know of a plan.

use std::collections::BTreeMap;

use borgios_types::limits::GOVERNORS_MAX;
use borgios_types::{Digest, KeyEpoch, PublicKey, Round, Seq, Threshold};
use frost_ed25519 as frost;

use super::{CeremonyError, file_name};
use crate::board::{Board, BoardError, Governor, Share, check_members, identifier};
use crate::card::Card;
use crate::lane::Lane;
use crate::name::Name;
use crate::pool::SLOTS_AHEAD;
use crate::slot::Slot;

/// Rounds of the policy that brings a changed board into office for which its first pools hold nonces.
const OFFICE_ROUNDS: u32 = 4;

/// What the rounds need of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Roster {
    /// The plan's id, which every paper names.
    pub(crate) id: Digest,
    /// Generation of the key that is made.
    pub(crate) epoch: KeyEpoch,
    /// t.
    pub(crate) threshold: Threshold,
    /// The governors' cards, in order of name.
    pub(crate) governors: Vec<Card>,
    /// What the names of the papers begin with, so that two ceremonies fit one folder.
    pub(crate) prefix: String,
    /// The heads that the first pools follow; a lane that is not named is empty.
    pub(crate) heads: BTreeMap<Lane, Seq>,
}

impl Roster {
    /// n.
    pub(crate) fn size(&self) -> u16 {
        u16::try_from(self.governors.len()).unwrap_or(u16::MAX)
    }

    /// A governor's place, from 1.
    pub(crate) fn index_of(&self, name: &Name) -> Result<u16, CeremonyError> {
        let at = self.governors.iter().position(|card| card.name == *name);
        let index = at.and_then(|at| u16::try_from(at + 1).ok());
        index.ok_or_else(|| CeremonyError::Card(name.clone()))
    }

    /// Where a governor's paper of one kind lies.
    pub(crate) fn file(&self, name: &Name, kind: &str) -> String {
        format!("{}{}", self.prefix, file_name(name, kind))
    }

    /// `ann.pool1.json`: a large board's first pools do not fit one file.
    pub(crate) fn pool_file(&self, name: &Name, number: usize) -> String {
        self.file(name, &format!("pool{number}"))
    }

    /// The slots of the first pools: the next 8 places of each lane, in round 0; and of the place
    /// whose statement brings a changed board into office the next rounds too, for until then its
    /// governors' tools lay no nonces of their own accord, and the first document may have died.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        let epoch = self.epoch;
        let next = |lane| self.heads.get(&lane).copied().unwrap_or_default().next();
        let places =
            |lane| (0..SLOTS_AHEAD).map(move |step| (lane, Seq(next(lane).0.saturating_add(step))));
        let rounds = |(lane, seq): (Lane, Seq)| {
            let office = lane == Lane::Policy && seq == next(lane) && seq > Seq(1);
            let rounds = if office { OFFICE_ROUNDS } else { 1 };
            (0..rounds).map(move |round| Slot { epoch, lane, seq, round: Round(round) })
        };
        Lane::ALL.into_iter().flat_map(places).flat_map(rounds).collect()
    }

    /// The board that follows from the key.
    pub(crate) fn board(
        &self,
        public: &frost::keys::PublicKeyPackage,
    ) -> Result<Board, CeremonyError> {
        let state = |error: &dyn core::fmt::Display| CeremonyError::State(error.to_string());
        let group = public.verifying_key().serialize().map_err(|error| state(&error))?;
        let group: [u8; 32] =
            group.try_into().map_err(|_| CeremonyError::State("no key".into()))?;
        let group = PublicKey::from_bytes(group).map_err(|error| state(&error))?;
        let mut governors = Vec::new();
        for (index, Card { name, key, recipient }) in (1..).zip(&self.governors) {
            let share = public.verifying_shares().get(&identifier(index));
            let share = share.and_then(|share| share.serialize().ok()?.try_into().ok());
            let none = || CeremonyError::State(format!("no share for {name}"));
            let share = Share(share.ok_or_else(none)?);
            let (name, recipient) = (name.clone(), recipient.clone());
            governors.push(Governor { name, key: *key, recipient, share, former: Vec::new() });
        }
        Board::new(self.epoch, self.threshold, group, governors).map_err(|error| state(&error))
    }
}

/// The rules of a board that can be checked before it has a key.
pub(crate) fn check(governors: &[Card], threshold: Threshold) -> Result<(), BoardError> {
    let (n, t) = (governors.len(), usize::from(threshold.0));
    if !(2..=GOVERNORS_MAX).contains(&n) {
        return Err(BoardError::Size(n));
    }
    if 2 * t <= n || t > n {
        return Err(BoardError::Threshold { threshold: threshold.0, governors: n });
    }
    if let Some(pair) = governors.windows(2).find(|pair| pair[0].name >= pair[1].name) {
        return Err(BoardError::Order(pair[1].name.clone()));
    }
    // There is no group key yet; the first governor's stands in and is skipped.
    let first = &governors[0];
    let rest = governors.iter().skip(1);
    check_members(&first.key, rest.map(|card| (&card.name, &card.key, card.recipient.as_str())))?;
    if governors.iter().skip(1).any(|card| card.recipient == first.recipient) {
        return Err(BoardError::Shared { name: first.name.clone(), what: "recipient" });
    }
    Ok(())
}

/// What is risky about a board, in words, if anything is.
pub(crate) fn warning(governors: usize, threshold: Threshold) -> Option<String> {
    (usize::from(threshold.0) == governors).then(|| {
        format!(
            "all {governors} governors must sign everything: one lost share ends the fleet's \
             governance for good"
        )
    })
}
