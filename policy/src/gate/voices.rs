//! The vetoes, or the pauses, that governors have open.
//!
//! A name is a governor only together with a board: a policy that waits, and never is applied, may
//! give any key the name of a governor in force. So one voice never takes the place of another
//! board's, and what boards say that never were in force is counted apart.
//!
//! An objection names the place of its statement, and counts only if that is the right one. Whoever has
//! not seen the statement cannot tell, so one at another place is another objection: it must not keep the
//! right one out at those who heard it first.

use std::collections::{BTreeMap, BTreeSet};

use borgios_types::limits::GOVERNORS_MAX;
use borgios_types::{Digest, Envelope, PublicKey, Seq, UnixSeconds};
use serde::{Deserialize, Serialize};

use super::doc;
use crate::lane::Lane;
use crate::name::Name;
use crate::object::ObjectError;
use crate::veto::Objection;

/// Most objections of one kind that one governor has open on one board to statements that the holder
/// does not know, or under this name on all boards together that never were in force. They are counted
/// for each governor, so that nobody who objects to everything crowds out another. To what waits here
/// each governor has one for each statement, of which there are few.
pub const OPEN_MAX: usize = 16;
/// Most bytes of objections of one kind by one governor to what waits: 256 of them with two thousand bytes
/// each.
const SAID_MAX: usize = 512 * 1024;
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
    /// A date ahead of the clock that what was applied then had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dated: Option<UnixSeconds>,
    /// The proof.
    pub envelope: Envelope,
}

impl Voice {
    fn key(&self) -> Key {
        let Objection { statement, group, lane, seq, .. } = &self.objection;
        (*statement, *group, *lane, *seq)
    }
}

/// The statement it is against, the group key of the board it is said on, and the place it names.
type Key = (Digest, PublicKey, Lane, Seq);

/// All of one kind: for each governor, by what tells them apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Voices(BTreeMap<Name, BTreeMap<Key, Voice>>);

/// As they are stored: by the statement alone, and with the group key and the place where that is not
/// enough. What is read goes by what each says itself.
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
            for ((statement, group, lane, seq), voice) in voices {
                let plain = statement.to_string();
                let taken = all.contains_key(&plain);
                let full = || format!("{plain} {group} {lane}/{seq}");
                all.insert(if taken { full() } else { plain }, voice);
            }
            all
        };
        voices.0.into_iter().map(|(name, voices)| (name, named(voices))).collect()
    }
}

impl Voices {
    /// Takes one; the first of a governor on a statement and place stands. `boards` are the group keys
    /// of those that are or were in force. `known` says which statements wait here, and at which place:
    /// what is said of others makes room.
    pub(super) fn add(
        &mut self,
        voice: Voice,
        boards: &BTreeSet<PublicKey>,
        known: impl Fn(&Digest, Lane, Seq) -> bool,
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
        let crowded = foreign && all().filter(|(_, of, ..)| beside(of)).count() >= FOREIGN_MAX;
        let open = self.0.entry(governor).or_default();
        let here = |(id, _, lane, seq): &Key| known(id, *lane, *seq);
        let held = open.iter().filter(|((_, of, ..), _)| beside(of));
        let count = held.clone().count();
        let unknown = held.filter(|(key, _)| !here(key));
        let mut unknown: Vec<_> = unknown.map(|(key, held)| (held.seen, *key)).collect();
        unknown.sort_unstable();
        let room = if foreign {
            usize::from(crowded || count >= OPEN_MAX)
        } else {
            (unknown.len() + usize::from(!here(&voice.key()))).saturating_sub(OPEN_MAX)
        };
        if room > unknown.len() {
            // It counts, and is brought again, once its board is in force.
            let expected = boards.first().copied().unwrap_or(group);
            return Err(ObjectError::WrongGroup { kind: "objection", found: group, expected });
        }
        // What waits is bounded; how long one speaks of each of it is bounded here, or the gate's file
        // would be too long to be stored.
        if !foreign && here(&voice.key()) {
            let said = open.iter().filter(|(key, _)| key.1 == group && here(key));
            let bytes: usize = said.map(|(_, held)| held.envelope.payload.len()).sum();
            if bytes + voice.envelope.payload.len() > SAID_MAX {
                let governor = &voice.objection.governor;
                let why = format!(
                    "what {governor} objects to takes {bytes} bytes, at most {SAID_MAX}: give a shorter reason"
                );
                return Err(ObjectError::Refused { kind: "objection", why });
            }
        }
        for (_, oldest) in unknown.into_iter().take(room) {
            open.remove(&oldest);
        }
        open.insert(voice.key(), voice);
        Ok(true)
    }

    /// What was said of a statement, by governors' names, at whatever place.
    pub(super) fn on<'a>(&'a self, id: &'a Digest) -> impl Iterator<Item = &'a Voice> {
        let of = move |open: &'a BTreeMap<Key, Voice>| {
            let all = open.iter().filter(move |((on, ..), _)| on == id);
            all.map(|(_, voice)| voice)
        };
        self.0.values().flat_map(of)
    }

    /// The same by governors of one board, at the right place.
    pub(super) fn of_board<'a>(
        &'a self,
        id: &Digest,
        group: PublicKey,
        (lane, seq): (Lane, Seq),
    ) -> impl Iterator<Item = &'a Voice> {
        let key = (*id, group, lane, seq);
        self.0.values().filter_map(move |open| open.get(&key))
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
