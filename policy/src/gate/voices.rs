//! The vetoes, or the pauses, that governors have open.

use std::collections::BTreeMap;

use borgios_types::{Digest, Envelope, PublicKey, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::object::ObjectError;
use crate::veto::Objection;

/// Most objections of one kind that one governor has open. They are counted for each governor, so
/// that nobody who objects to everything crowds out another.
pub const OPEN_MAX: usize = 16;

/// One objection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voice {
    /// What it says.
    pub objection: Objection,
    /// When this holder first had it.
    pub seen: UnixSeconds,
    /// The proof.
    pub envelope: Envelope,
}

/// All of one kind: for each governor, by the statement they are against.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Voices(BTreeMap<Name, BTreeMap<Digest, Voice>>);

impl Voices {
    /// Takes one; the first of a governor on a statement stands. `known` says of which statements
    /// the holder knows that they wait: others make room.
    pub(super) fn add(
        &mut self,
        voice: Voice,
        known: impl Fn(&Digest) -> bool,
    ) -> Result<bool, ObjectError> {
        let Objection { statement, governor, lane, seq, .. } = voice.objection.clone();
        let open = self.0.entry(governor.clone()).or_default();
        if let Some(before) = open.get(&statement)
            && before.objection.group == voice.objection.group
        {
            if before.envelope.id() == voice.envelope.id() {
                return Ok(false);
            }
            let why = format!("{governor} has objected to {lane}/{seq} before; once is all");
            return Err(ObjectError::Refused { kind: "objection", why });
        }
        if open.len() >= OPEN_MAX {
            let unknown = open.iter().filter(|(id, _)| !known(id));
            let Some(oldest) = unknown.min_by_key(|(id, held)| (held.seen, **id)) else {
                let why = format!("{governor} has {OPEN_MAX} objections open, no more are kept");
                return Err(ObjectError::Refused { kind: "objection", why });
            };
            let oldest = *oldest.0;
            open.remove(&oldest);
        }
        open.insert(statement, voice);
        Ok(true)
    }

    /// What was said of a statement, by governors' names.
    pub(super) fn on(&self, id: &Digest) -> impl Iterator<Item = &Voice> {
        self.0.values().filter_map(move |open| open.get(id))
    }

    /// The same by governors of one board, at the right place.
    pub(super) fn of_board(
        &self,
        id: &Digest,
        group: PublicKey,
        place: (crate::lane::Lane, borgios_types::Seq),
    ) -> impl Iterator<Item = &Voice> {
        self.on(id).filter(move |voice| {
            let Objection { group: of, lane, seq, .. } = &voice.objection;
            *of == group && (*lane, *seq) == place
        })
    }

    /// Keeps what is open; returns whether anything went.
    pub(super) fn retain(&mut self, open: impl Fn(&Objection) -> bool) -> bool {
        let count = |all: &Self| all.0.values().map(BTreeMap::len).sum::<usize>();
        let before = count(self);
        for voices in self.0.values_mut() {
            voices.retain(|_, voice| open(&voice.objection));
        }
        self.0.retain(|_, voices| !voices.is_empty());
        count(self) != before
    }

    /// Brings what was seen in the future to now.
    pub(super) fn anchor(&mut self, now: UnixSeconds) -> bool {
        let mut changed = false;
        for voice in self.0.values_mut().flat_map(BTreeMap::values_mut) {
            changed |= voice.seen > now;
            voice.seen = voice.seen.min(now);
        }
        changed
    }
}
