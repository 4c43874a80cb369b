//! The papers of a key ceremony: what the governors lay into the exchange folder, and how each is
//! read back. Every one is an envelope signed by the governor whose name is in its file's name.

use std::collections::BTreeMap;

use borgios_types::{Digest, Envelope, PublicKey};
use serde::{Deserialize, Serialize};

use super::CeremonyError;
use super::roster::Roster;
use crate::card::Card;
use crate::name::Name;
use crate::object::{Object, ObjectError, signed_by};
use crate::wire::Bytes;

/// The files of the exchange folder, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// First round of the key generation: commitments to a secret polynomial.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Dkg1 {
    pub(crate) roster: Digest,
    pub(crate) governor: Name,
    pub(crate) package: Bytes,
}

/// Second round: one sealed value for each other governor, and the first round as it was seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Dkg2 {
    pub(crate) roster: Digest,
    pub(crate) governor: Name,
    pub(crate) round1: Digest,
    pub(crate) packages: BTreeMap<Name, Bytes>,
}

/// What came of it, signed by everyone: without all of these there is no key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) roster: Digest,
    pub(crate) governor: Name,
    pub(crate) transcript: Digest,
    pub(crate) group: PublicKey,
    /// Id of policy/1, at a founding: what follows a change is written when everyone is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<Digest>,
    pub(crate) pools: Vec<Digest>,
    /// At the founding of a board too large for pools: one nonce commitment for policy/1, as the
    /// FROST library serialises it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commitment: Option<Bytes>,
}

/// A paper by one governor of the plan.
pub(crate) trait Paper: Object {
    /// The roster digest and the author that the payload names.
    fn stands_for(&self) -> (Digest, &Name);
}

macro_rules! paper {
    ($type:ident, $kind:literal, $fields:expr) => {
        impl Object for $type {
            const KIND: &'static str = $kind;
            const FIELDS: &'static [&'static str] = &$fields;
        }

        impl Paper for $type {
            fn stands_for(&self) -> (Digest, &Name) {
                (self.roster, &self.governor)
            }
        }
    };
}

paper!(Dkg1, "dkg1", ["roster", "governor", "package"]);
paper!(Dkg2, "dkg2", ["roster", "governor", "round1", "packages"]);
paper!(
    Done,
    "done",
    ["roster", "governor", "transcript", "group", "policy", "pools", "commitment"]
);

/// The name of a governor's file of one kind.
#[must_use]
pub fn file_name(name: &Name, kind: &str) -> String {
    format!("{name}.{kind}.json")
}

/// Reads one envelope of the folder, if the file is there.
pub(crate) fn envelope(files: &Files, file: &str) -> Result<Option<Envelope>, CeremonyError> {
    let Some(bytes) = files.get(file) else { return Ok(None) };
    let trimmed = bytes.trim_ascii_end();
    Envelope::parse(trimmed).map(Some).map_err(|error| {
        let source: crate::Refusal = error.into();
        let source = ObjectError::Malformed { kind: "file", why: source.to_string() };
        CeremonyError::File { file: file.to_owned(), source }
    })
}

/// A round's papers with their envelopes, by governor.
pub(crate) type All<T> = BTreeMap<Name, (Envelope, T)>;

/// A whole round, or the names of those whose paper is not there yet.
pub(crate) type Round<T> = Result<All<T>, Vec<Name>>;

/// Reads one round's papers of all governors and checks each: signature, author, roster.
pub(crate) fn round<T: Paper>(files: &Files, roster: &Roster) -> Result<Round<T>, CeremonyError> {
    let mut all = BTreeMap::new();
    let mut missing = Vec::new();
    for Card { name, key, .. } in &roster.governors {
        let file = roster.file(name, T::KIND);
        let Some(envelope) = envelope(files, &file)? else {
            missing.push(name.clone());
            continue;
        };
        let refused = |source| CeremonyError::File { file: file.clone(), source };
        let paper = T::parse(&envelope).map_err(refused)?;
        signed_by(key, T::KIND, &envelope).map_err(refused)?;
        if paper.stands_for() != (roster.id, name) {
            let why =
                format!("it is {}'s for roster {}", paper.stands_for().1, paper.stands_for().0);
            return Err(refused(ObjectError::Refused { kind: T::KIND, why }));
        }
        all.insert(name.clone(), (envelope, paper));
    }
    Ok(if missing.is_empty() { Ok(all) } else { Err(missing) })
}

/// One digest over the papers of a round: each governor's name and the id of the paper.
pub(crate) fn digest<T>(round: &All<T>) -> Digest {
    let ids: Vec<Digest> = round.values().map(|(envelope, _)| envelope.id()).collect();
    let parts: Vec<&[u8]> = round
        .keys()
        .zip(&ids)
        .flat_map(|(name, id)| [name.as_str().as_bytes(), id.0.as_slice()])
        .collect();
    Digest::of_parts(&parts)
}
