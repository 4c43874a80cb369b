//! The vetoes, or the pauses, that governors have open.
//!
//! A name is a governor only together with a board: a policy that waits, and never is applied, may
//! give any key the name of a governor in force. So one voice never takes the place of another
//! board's, and what boards say that never were in force is counted apart.

use std::collections::{BTreeMap, BTreeSet};

use borgios_types::limits::GOVERNORS_MAX;
use borgios_types::{Digest, Envelope, PublicKey, UnixSeconds};
use serde::{Deserialize, Serialize};

use super::doc;
use crate::name::Name;
use crate::object::ObjectError;
use crate::veto::Objection;

/// Most objections of one kind that one governor has open on one board, or under this name on all
/// boards together that never were in force. They are counted for each governor, so that nobody who
/// objects to everything crowds out another.
pub const OPEN_MAX: usize = 16;
/// Most objections of one kind on all boards together that never were in force.
const FOREIGN_MAX: usize = GOVERNORS_MAX * OPEN_MAX;

/// One objection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voice {
    /// What it says.
    pub objection: Objection,
    /// When this holder first had it.
    pub seen: UnixSeconds,
    /// The latest that was before the clock was found behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<UnixSeconds>,
    /// The proof.
    pub envelope: Envelope,
}

impl Voice {
    fn key(&self) -> Key {
        (self.objection.statement, self.objection.group)
    }
}

/// The statement it is against, and the group key of the board it is said on.
type Key = (Digest, PublicKey);

/// All of one kind: for each governor, by the statement they are against and their board.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Voices(BTreeMap<Name, BTreeMap<Key, Voice>>);

/// As they are stored: by the statement alone, and with the group key where that is not enough.
type Stored = BTreeMap<Name, BTreeMap<String, Voice>>;

impl From<Stored> for Voices {
    fn from(stored: Stored) -> Self {
        let keyed = |voices: BTreeMap<String, Voice>| {
            voices.into_values().map(|voice| (voice.key(), voice)).collect()
        };
        Self(stored.into_iter().map(|(name, voices)| (name, keyed(voices))).collect())
    }
}

impl From<Voices> for Stored {
    fn from(voices: Voices) -> Self {
        let named = |voices: BTreeMap<Key, Voice>| {
            let mut all = BTreeMap::new();
            for ((statement, group), voice) in voices {
                let plain = statement.to_string();
                let taken = all.contains_key(&plain);
                all.insert(if taken { format!("{plain} {group}") } else { plain }, voice);
            }
            all
        };
        voices.0.into_iter().map(|(name, voices)| (name, named(voices))).collect()
    }
}

impl Voices {
    /// Takes one; the first of a governor on a statement stands. `boards` are the group keys of
    /// those that are or were in force. `known` says of which statements the holder knows that they
    /// wait: others make room.
    pub(super) fn add(
        &mut self,
        voice: Voice,
        boards: &BTreeSet<PublicKey>,
        known: impl Fn(&Digest) -> bool,
    ) -> Result<bool, ObjectError> {
        let Objection { governor, lane, seq, group, .. } = voice.objection.clone();
        if let Some(before) = self.0.get(&governor).and_then(|open| open.get(&voice.key())) {
            if before.envelope.id() == voice.envelope.id() {
                return Ok(false);
            }
            let why = format!("{governor} has objected to {lane}/{seq} before; once is all");
            return Err(ObjectError::Refused { kind: "objection", why });
        }
        let foreign = !boards.contains(&group);
        let beside = |of: &PublicKey| {
            if foreign { !boards.contains(of) } else { *of == group }
        };
        let all = || self.0.values().flat_map(BTreeMap::keys);
        let crowded = foreign && all().filter(|(_, of)| beside(of)).count() >= FOREIGN_MAX;
        let open = self.0.entry(governor.clone()).or_default();
        let held = || open.iter().filter(|((_, of), _)| beside(of));
        if crowded || held().count() >= OPEN_MAX {
            let unknown = held().filter(|((id, _), _)| !known(id));
            let oldest = unknown.min_by_key(|(key, held)| (held.seen, **key)).map(|(key, _)| *key);
            match oldest {
                Some(oldest) => drop(open.remove(&oldest)),
                // It counts, and is brought again, once its board is in force.
                None if foreign => {
                    let expected = boards.first().copied().unwrap_or(group);
                    return Err(ObjectError::WrongGroup {
                        kind: "objection",
                        found: group,
                        expected,
                    });
                }
                None => {
                    let why =
                        format!("{governor} has {OPEN_MAX} objections open, no more are kept");
                    return Err(ObjectError::Refused { kind: "objection", why });
                }
            }
        }
        open.insert(voice.key(), voice);
        Ok(true)
    }

    /// What was said of a statement, by governors' names.
    pub(super) fn on<'a>(&'a self, id: &'a Digest) -> impl Iterator<Item = &'a Voice> {
        let of = move |open: &'a BTreeMap<Key, Voice>| {
            let all = open.iter().filter(move |((on, _), _)| on == id);
            all.map(|(_, voice)| voice)
        };
        self.0.values().flat_map(of)
    }

    /// The same by governors of one board, at the right place.
    pub(super) fn of_board<'a>(
        &'a self,
        id: &'a Digest,
        group: PublicKey,
        place: (crate::lane::Lane, borgios_types::Seq),
    ) -> impl Iterator<Item = &'a Voice> {
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
            changed |= doc::anchor(now, &mut voice.seen, &mut voice.was);
        }
        changed
    }
}
