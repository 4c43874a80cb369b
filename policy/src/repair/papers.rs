//! The papers of a repair: envelopes, each signed by the governor whose name its file bears.

use std::collections::BTreeMap;

use borgios_types::{Digest, Envelope, PublicKey};
use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::keygen::{CeremonyError, Files, envelope};
use crate::name::Name;
use crate::object::{Object, ObjectError, signed_by};
use crate::wire::Bytes;

/// Most attempts at one governor's repair under one key.
pub const ATTEMPTS_MAX: u32 = 15;

/// A request: the governor names who shall help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The group key.
    pub group: PublicKey,
    /// Whose share is lost.
    pub governor: Name,
    /// Counts the attempts, from 0.
    pub attempt: u32,
    /// t other governors, in order of name.
    pub helpers: Vec<Name>,
}

/// First paper of a helper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The group key.
    pub group: PublicKey,
    /// Id of the request.
    pub request: Digest,
    /// Who helps.
    pub helper: Name,
    /// A value for each helper, sealed to each.
    pub values: BTreeMap<Name, Bytes>,
}

/// Second paper of a helper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sigma {
    /// The group key.
    pub group: PublicKey,
    /// Id of the request.
    pub request: Digest,
    /// Who helps.
    pub helper: Name,
    /// The first papers as they were seen.
    pub seen: Digest,
    /// A value sealed to the governor.
    pub value: Bytes,
}

impl Object for Ask {
    const KIND: &'static str = "repair";
    const FIELDS: &'static [&'static str] = &["group", "governor", "attempt", "helpers"];
}

impl Object for Delta {
    const KIND: &'static str = "delta";
    const FIELDS: &'static [&'static str] = &["group", "request", "helper", "values"];
}

impl Object for Sigma {
    const KIND: &'static str = "sigma";
    const FIELDS: &'static [&'static str] = &["group", "request", "helper", "seen", "value"];
}

/// A helper's paper.
pub(super) trait Paper: Object {
    /// The group key, request and author that the payload names.
    fn stands_for(&self) -> (PublicKey, Digest, &Name);
}

impl Paper for Delta {
    fn stands_for(&self) -> (PublicKey, Digest, &Name) {
        (self.group, self.request, &self.helper)
    }
}

impl Paper for Sigma {
    fn stands_for(&self) -> (PublicKey, Digest, &Name) {
        (self.group, self.request, &self.helper)
    }
}

impl Ask {
    /// Whether these helpers can help on this board; in words, if not.
    pub(super) fn fits(&self, board: &Board) -> Result<(), String> {
        let (t, found) = (usize::from(board.threshold().0), self.helpers.len());
        if found != t {
            return Err(format!("{found} helpers, a repair needs exactly {t}"));
        }
        if let Some(pair) = self.helpers.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(format!("{} is named twice or out of order", pair[1]));
        }
        match self
            .helpers
            .iter()
            .find(|name| **name == self.governor || board.index(name).is_none())
        {
            Some(name) => Err(format!("{name} cannot help: not another governor of the board")),
            None => Ok(()),
        }
    }

    /// Where a helper's paper lies.
    pub(super) fn file(&self, helper: &Name, kind: &str) -> String {
        format!("repair.{}.{}.{helper}.{kind}.json", self.governor, self.attempt)
    }
}

/// `repair.ben.0.json`.
pub(super) fn request_file(name: &Name, attempt: u32) -> String {
    format!("repair.{name}.{attempt}.json")
}

/// Reads a request: signed by the key that the board has for the governor.
pub(super) fn request(
    board: &Board,
    name: &Name,
    attempt: u32,
    files: &Files,
    file: &str,
) -> Result<Option<(Ask, Digest)>, CeremonyError> {
    let Some(envelope) = envelope(files, file)? else { return Ok(None) };
    let refused = |source| CeremonyError::File { file: file.to_owned(), source };
    let ask = Ask::parse(&envelope).map_err(refused)?;
    let (kind, governor) = (Ask::KIND, board.by_name(name));
    let stranger = || ObjectError::Refused { kind, why: format!("{name} is not on the board") };
    let governor = governor.ok_or_else(stranger).map_err(refused)?;
    signed_by(&governor.key, kind, &envelope).map_err(refused)?;
    if (ask.group, &ask.governor, ask.attempt) != (board.group(), name, attempt) {
        let why = format!("attempt {} of {} under {}", ask.attempt, ask.governor, ask.group);
        return Err(refused(ObjectError::Refused { kind, why }));
    }
    ask.fits(board).map_err(|why| refused(ObjectError::Refused { kind, why }))?;
    Ok(Some((ask, envelope.id())))
}

/// All helpers' papers of one kind, by helper.
pub(super) type All<T> = BTreeMap<Name, (Envelope, T)>;

/// Reads them, or says whose are missing.
pub(super) fn read<T: Paper>(
    board: &Board,
    ask: &Ask,
    request: Digest,
    files: &Files,
) -> Result<Result<All<T>, Vec<Name>>, CeremonyError> {
    let (mut all, mut missing) = (BTreeMap::new(), Vec::new());
    for name in &ask.helpers {
        let file = ask.file(name, T::KIND);
        let (Some(envelope), Some(governor)) = (envelope(files, &file)?, board.by_name(name))
        else {
            missing.push(name.clone());
            continue;
        };
        let refused = |source| CeremonyError::File { file: file.clone(), source };
        let paper = T::parse(&envelope).map_err(refused)?;
        signed_by(&governor.key, T::KIND, &envelope).map_err(refused)?;
        if paper.stands_for() != (board.group(), request, name) {
            let why = "it is of another repair".to_owned();
            return Err(refused(ObjectError::Refused { kind: T::KIND, why }));
        }
        all.insert(name.clone(), (envelope, paper));
    }
    Ok(if missing.is_empty() { Ok(all) } else { Err(missing) })
}

/// One digest over the papers of a kind.
pub(super) fn digest<T>(all: &All<T>) -> Digest {
    let ids: Vec<Digest> = all.values().map(|(envelope, _)| envelope.id()).collect();
    let parts: Vec<&[u8]> = ids.iter().map(|id| id.0.as_slice()).collect();
    Digest::of_parts(&parts)
}
