//! Repair: t helpers give a governor a lost share back, by files in a folder they share.
//!
//! ```text
//! repair.BEN.K.json ──▶ repair.BEN.K.HELPER.delta.json ──▶ repair.BEN.K.HELPER.sigma.json ──▶ share
//!  by BEN: helpers        a value sealed to each helper       their sum, sealed to BEN
//! ```
//!
//! The scheme is that of Laing and Stinson (<https://eprint.iacr.org/2017/1155>), as the FROST
//! library has it. The share comes out the same, so the group key, the board's verifying shares and
//! everybody else's share stay. No helper learns anything: each value is one part of a random sum, and
//! each seal says of what, so that nobody's part can be taken for another's.
//!
//! What is added up is taken only if it fits the governor's verifying share on the board. A helper
//! who lies is not named, since nothing in the scheme proves who it was; the repair is asked for
//! again, as a further attempt with other helpers. Helpers keep no state: their own paper lies in
//! the folder, and one that was lost and drawn anew only spoils that attempt.

mod papers;

use std::collections::BTreeMap;

use borgios_types::{Digest, Envelope};
use frost_ed25519 as frost;
use frost_ed25519::keys::repairable;
use rand::{CryptoRng, RngCore};
use thiserror::Error;

use crate::board::{Board, identifier};
use crate::keygen::{CeremonyError, Files, Me};
use crate::name::Name;
use crate::object::{Object as _, ObjectError};
use crate::share::KeyShare;
use crate::wire::{Bytes, SecretBytes};

pub use papers::{ATTEMPTS_MAX, Ask, Delta, Sigma};
use papers::{read, request_file};

/// How a repair stands.
#[derive(Debug)]
pub enum Status {
    /// This governor asked for nothing yet, or nobody asked this one.
    NotAsked,
    /// Nothing to do before these helpers have written theirs.
    Waiting {
        /// Which of their files.
        kind: &'static str,
        /// Whose.
        missing: Vec<Name>,
    },
    /// A helper is done.
    Helped(Name),
    /// The share is back.
    Repaired(Box<KeyShare>),
}

/// Why a repair cannot go on.
#[derive(Debug, Error)]
pub enum RepairError {
    /// A file that is forged, damaged, or of another repair.
    #[error(transparent)]
    File(#[from] CeremonyError),
    /// Too few helpers, strangers, or the same twice.
    #[error("{0}")]
    Helpers(String),
    /// A sealed value does not open, or is none.
    #[error("the {kind} of {name} is wrong: {why}")]
    Bad {
        /// Who.
        name: Name,
        /// Which paper.
        kind: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The helpers answered different papers.
    #[error("{0} answered other delta files than are in this folder; compare them")]
    Disagrees(Name),
    /// What came out is not the share on the board.
    #[error(
        "the sum is not {name}'s share: one of {} gave a wrong value, and nobody can tell who; \
         ask again with other helpers", list(.helpers)
    )]
    Wrong {
        /// Whose share.
        name: Name,
        /// Who helped.
        helpers: Vec<Name>,
    },
    /// The board has another recipient than this governor's own: whoever holds that one would get the share.
    #[error(
        "the board has the recipient {found} for {name}, whose own is {own}: what helpers seal would go to \
         whoever holds that one; somebody proposed this identity with another recipient than is on its card"
    )]
    Recipient {
        /// Whose share.
        name: Name,
        /// On the board.
        found: String,
        /// On the governor's own card.
        own: String,
    },
    /// An identity that cannot be used, or a failure of the library.
    #[error("{0}")]
    State(String),
}

/// Asks `helpers` for one's own share.
///
/// # Errors
/// [`RepairError::Helpers`] unless they are t other governors of the board, each once.
pub fn ask(
    board: &Board,
    me: &Me<'_>,
    attempt: u32,
    helpers: &[Name],
) -> Result<(String, Envelope), RepairError> {
    let mut helpers = helpers.to_vec();
    helpers.sort();
    let ask = Ask { group: board.group(), governor: me.card.name.clone(), attempt, helpers };
    ask.fits(board).map_err(RepairError::Helpers)?;
    check_recipient(board, me)?;
    Ok((request_file(&ask.governor, attempt), ask.to_envelope().sign(me.key)))
}

/// The newest request of a governor that verifies, with its id.
///
/// What does not verify asks for nothing: a request under an earlier key stays in a folder for ever,
/// and whoever shares the folder may lay anything there.
#[must_use]
pub fn newest(board: &Board, name: &Name, files: &Files) -> Option<(Ask, Digest)> {
    (0..=ATTEMPTS_MAX).rev().find_map(|attempt| {
        let file = request_file(name, attempt);
        papers::request(board, name, attempt, files, &file).ok().flatten()
    })
}

/// The number of the next attempt: above every request that verifies, and with no paper of another
/// repair in its way. `None` if there is none left in this folder.
#[must_use]
pub fn free(board: &Board, name: &Name, files: &Files) -> Option<u32> {
    let from = newest(board, name, files).map_or(0, |(ask, _)| ask.attempt + 1);
    (from..=ATTEMPTS_MAX).find(|attempt| {
        let papers = format!("repair.{name}.{attempt}.");
        !files.keys().any(|file| file.starts_with(&papers))
    })
}

/// Helps `name`, if it asked this governor: writes what can be written now.
///
/// # Errors
/// See [`RepairError`].
pub fn help(
    board: &Board,
    me: &Me<'_>,
    key: &KeyShare,
    name: &Name,
    files: &Files,
    rng: &mut (impl RngCore + CryptoRng),
) -> Result<(Files, Status), RepairError> {
    let mut write = Files::new();
    let Some((ask, request)) = newest(board, name, files) else {
        return Ok((write, Status::NotAsked));
    };
    if !ask.helpers.contains(&me.card.name) {
        return Ok((write, Status::NotAsked));
    }
    let mut seen = files.clone();
    let own = ask.file(&me.card.name, Delta::KIND);
    if !seen.contains_key(&own) {
        let delta = delta(board, me, key, &ask, request, rng)?;
        let text = delta.to_envelope().sign(me.key).to_json().into_bytes();
        seen.insert(own.clone(), text.clone());
        write.insert(own, text);
    }
    let deltas = match read::<Delta>(board, &ask, request, &seen)? {
        Ok(deltas) => deltas,
        Err(missing) => return Ok((write, Status::Waiting { kind: Delta::KIND, missing })),
    };
    let own = ask.file(&me.card.name, Sigma::KIND);
    if !seen.contains_key(&own) {
        let sigma = sigma(board, me, &ask, request, &deltas)?;
        write.insert(own, sigma.to_envelope().sign(me.key).to_json().into_bytes());
    }
    Ok((write, Status::Helped(name.clone())))
}

/// Takes one's own share, once all helpers have written their second paper.
///
/// # Errors
/// [`RepairError::Wrong`] if what comes out is not the share on the board, and the others.
pub fn finish(board: &Board, me: &Me<'_>, files: &Files) -> Result<Status, RepairError> {
    let name = &me.card.name;
    check_recipient(board, me)?;
    let Some((ask, request)) = newest(board, name, files) else { return Ok(Status::NotAsked) };
    let deltas = match read::<Delta>(board, &ask, request, files)? {
        Ok(deltas) => deltas,
        Err(missing) => return Ok(Status::Waiting { kind: Delta::KIND, missing }),
    };
    let sigmas = match read::<Sigma>(board, &ask, request, files)? {
        Ok(sigmas) => sigmas,
        Err(missing) => return Ok(Status::Waiting { kind: Sigma::KIND, missing }),
    };
    let expected = papers::digest(&deltas);
    let mut values = Vec::new();
    for (helper, (_, paper)) in &sigmas {
        if paper.seen != expected {
            return Err(RepairError::Disagrees(helper.clone()));
        }
        let bad = |why: String| bad(helper, Sigma::KIND, why);
        let way = Way { kind: Sigma::KIND, board, request, from: helper, to: name };
        let value = way.open(me, &paper.value).map_err(bad)?;
        let sigma: Result<repairable::Sigma, frost::Error> =
            repairable::Sigma::deserialize(value.expose());
        values.push(sigma.map_err(|error| bad(error.to_string()))?);
    }
    let index = board.index(name).ok_or_else(|| RepairError::State(format!("no {name}")))?;
    let public = board.public_key_package();
    let package = repairable::repair_share_part3(&values, identifier(index), &public)
        .map_err(|error| RepairError::State(error.to_string()))?;
    match KeyShare::new(board, name, package) {
        Ok(share) => Ok(Status::Repaired(Box::new(share))),
        Err(_) => Err(RepairError::Wrong { name: name.clone(), helpers: ask.helpers }),
    }
}

/// What helpers seal goes to the recipient that the board has for a governor: whoever proposed the
/// identity, with another recipient beside the right key, would get the share.
fn check_recipient(board: &Board, me: &Me<'_>) -> Result<(), RepairError> {
    let name = &me.card.name;
    let seat = board.by_name(name).ok_or_else(|| RepairError::State(format!("no {name}")))?;
    if seat.recipient == me.card.recipient {
        return Ok(());
    }
    Err(RepairError::Recipient {
        name: name.clone(),
        found: seat.recipient.clone(),
        own: me.card.recipient.clone(),
    })
}

/// First paper of a helper: a part of one random sum for each helper, oneself included.
fn delta(
    board: &Board,
    me: &Me<'_>,
    key: &KeyShare,
    ask: &Ask,
    request: Digest,
    rng: &mut (impl RngCore + CryptoRng),
) -> Result<Delta, RepairError> {
    let state = |why: String| RepairError::State(why);
    let index = |name: &Name| {
        board
            .index(name)
            .map(identifier)
            .ok_or_else(|| state(format!("{name} is not on the board")))
    };
    let helpers = ask.helpers.iter().map(index).collect::<Result<Vec<_>, _>>()?;
    let lost = index(&ask.governor)?;
    let parts = repairable::repair_share_part1::<frost::Ed25519Sha512, _>(
        &helpers,
        key.package(),
        rng,
        lost,
    )
    .map_err(|error| state(error.to_string()))?;
    let mut values = BTreeMap::new();
    for name in &ask.helpers {
        let part = parts.get(&index(name)?).ok_or_else(|| state(format!("no value for {name}")))?;
        let way = Way { kind: Delta::KIND, board, request, from: &me.card.name, to: name };
        values.insert(name.clone(), way.seal(&part.serialize())?);
    }
    Ok(Delta { group: board.group(), request, helper: me.card.name.clone(), values })
}

/// Second paper of a helper: the sum of what all helpers sealed to this one.
fn sigma(
    board: &Board,
    me: &Me<'_>,
    ask: &Ask,
    request: Digest,
    deltas: &papers::All<Delta>,
) -> Result<Sigma, RepairError> {
    let mut values: Vec<repairable::Delta> = Vec::new();
    for (helper, (_, paper)) in deltas {
        let bad = |why: String| bad(helper, Delta::KIND, why);
        let sealed = paper.values.get(&me.card.name);
        let sealed = sealed.ok_or_else(|| bad(format!("nothing for {}", me.card.name)))?;
        let way = Way { kind: Delta::KIND, board, request, from: helper, to: &me.card.name };
        let value = way.open(me, sealed).map_err(bad)?;
        let delta = repairable::Delta::deserialize(value.expose());
        values.push(delta.map_err(|error: frost::Error| bad(error.to_string()))?);
    }
    let sum = SecretBytes::new(repairable::repair_share_part2(&values).serialize());
    let way = Way { kind: Sigma::KIND, board, request, from: &me.card.name, to: &ask.governor };
    let value = way.seal(sum.expose())?;
    let (helper, seen) = (me.card.name.clone(), papers::digest(deltas));
    Ok(Sigma { group: board.group(), request, helper, seen, value })
}

fn bad(name: &Name, kind: &'static str, why: String) -> RepairError {
    RepairError::Bad { name: name.clone(), kind, why }
}

/// Which value goes from whom to whom.
///
/// It stands inside the seal, before the value. Otherwise a helper could lay what an honest one had
/// sealed to itself once more as its own paper: two honest helpers' sums would then hold one part twice
/// and another not at all, and whoever asked could solve them for an honest share.
struct Way<'a> {
    kind: &'static str,
    board: &'a Board,
    request: Digest,
    from: &'a Name,
    to: &'a Name,
}

impl Way<'_> {
    fn digest(&self) -> Digest {
        let Self { kind, board, request, from, to } = self;
        let (group, domain) = (board.group().to_bytes(), b"borgios repair v1");
        let names = [from.as_str().as_bytes(), to.as_str().as_bytes()];
        Digest::of_parts(&[domain, kind.as_bytes(), &group, &request.0, names[0], names[1]])
    }

    fn seal(&self, value: &[u8]) -> Result<Bytes, RepairError> {
        let state = |why: String| RepairError::State(why);
        let there = self.board.by_name(self.to);
        let governor = there.ok_or_else(|| state(format!("{} is not there", self.to)))?;
        let recipient: age::x25519::Recipient =
            governor.recipient.parse().map_err(|why: &str| state(why.to_owned()))?;
        let plain = SecretBytes::new([&self.digest().0, value].concat());
        age::encrypt(&recipient, plain.expose())
            .map(Bytes)
            .map_err(|error| state(error.to_string()))
    }

    fn open(&self, me: &Me<'_>, sealed: &Bytes) -> Result<SecretBytes, String> {
        let identity: age::x25519::Identity =
            me.identity.parse().map_err(|why: &str| why.to_owned())?;
        let plain = age::decrypt(&identity, &sealed.0).map(SecretBytes::new);
        let plain = plain.map_err(|error| error.to_string())?;
        let value = plain.expose().strip_prefix(&self.digest().0);
        let value = value.ok_or_else(|| {
            format!("it was sealed for something else than the {} of {}", self.kind, self.from)
        })?;
        Ok(SecretBytes::new(value.to_vec()))
    }
}

fn list(names: &[Name]) -> String {
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}

impl From<ObjectError> for RepairError {
    fn from(error: ObjectError) -> Self {
        Self::State(error.to_string())
    }
}
