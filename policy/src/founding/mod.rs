//! Founding: governors make a key together and sign policy/1, by files in a folder they share.
//!
//! ```text
//!            roster confirmed       all dkg1         all dkg2            all done         t ballots
//! (nothing) ───────────────▶ Committed ──▶ Shared ──────────▶ Keyed ──────────────▶ Voted ─────▶ Founded
//!  NAME.card    writes NAME.dkg1     NAME.dkg2    NAME.done, NAME.pool1…   NAME.ballot   policy-1
//! ```
//!
//! [`step`] reads what is in the folder and goes as far as it can. The caller must store the
//! returned [`Ceremony`] (encrypted to the governor, synced) *before* it writes the returned
//! files, and may call again at any time: what was written once is written the same again.
//!
//! No dealer ever holds the key. The DKG alone accepts a sender who shows two receivers different
//! first-round papers, so every later paper signs what was seen of the earlier ones, and there is
//! no board before all n governors signed the same transcript, group key and first pools.

mod first;
mod papers;
mod plan;
mod rounds;

use std::collections::BTreeMap;

use borgios_types::{Digest, Envelope, SecretKey};
use rand::{CryptoRng, RngCore};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::board::Board;
use crate::card::Card;
use crate::name::Name;
use crate::object::{Object, ObjectError};
use crate::policy::Policy;
use crate::share::{KeyShare, Seed};
use crate::slot::Slot;
use crate::wire::SecretBytes;

pub use papers::{Files, PLAN_FILE, POLICY_FILE, file_name};
pub use plan::{Plan, PlanError};

/// Who takes part: the governor at this machine.
#[derive(Debug)]
pub struct Me<'a> {
    /// The card that the others know.
    pub card: &'a Card,
    /// The card's key.
    pub key: &'a SecretKey,
    /// The card's recipient's secret half, `AGE-SECRET-KEY-1…`.
    pub identity: &'a str,
}

/// One governor's secret state between two steps. Serialises for storage; never printed.
#[derive(Clone, Serialize, Deserialize)]
pub struct Ceremony {
    roster: Digest,
    phase: Phase,
    /// Every file this governor wrote: it is never made twice.
    wrote: BTreeMap<String, String>,
    /// Ids of the others' papers that were answered: they must not change any more.
    answered: BTreeMap<String, Digest>,
}

/// How far this governor is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Phase {
    /// The first round's paper is written.
    Committed { secret: SecretBytes },
    /// The second round's paper is written.
    Shared { secret: SecretBytes },
    /// There is a key; pools and signature are written.
    Keyed { made: Made },
    /// The ballot for policy/1 is written, its seed erased.
    Voted { made: Made },
}

/// What came of the key generation.
#[derive(Clone, Serialize, Deserialize)]
struct Made {
    policy: Policy,
    /// The exact text of policy/1.
    payload: String,
    transcript: Digest,
    key: SecretBytes,
    seeds: Vec<(Slot, Seed)>,
}

/// What one step comes to.
#[derive(Debug)]
pub struct Step {
    /// To be stored before any of the files is written; absent before the roster is confirmed.
    pub state: Option<Ceremony>,
    /// To be written into the folder.
    pub write: Files,
    /// How it stands.
    pub status: Status,
}

/// How a founding stands.
#[derive(Debug)]
pub enum Status {
    /// There is no `founding.json` yet; these cards are there.
    NoPlan(Vec<Card>),
    /// Compare the roster digest with every other governor by voice, then confirm it.
    Confirm(Box<Plan>),
    /// Nothing to do before these governors have written theirs.
    Waiting {
        /// Which of their files.
        kind: &'static str,
        /// Whose.
        missing: Vec<Name>,
    },
    /// There is a board, a key and a policy.
    Founded(Box<Founded>),
}

/// What a founding leaves each governor with: once it is stored, the [`Ceremony`] is to be erased.
#[derive(Debug)]
pub struct Founded {
    /// Id of policy/1.
    pub network: Digest,
    /// policy/1, signed by the group key.
    pub policy: Envelope,
    /// The board.
    pub board: Board,
    /// This governor's share.
    pub key: KeyShare,
    /// The seeds of this governor's first pools, but that of policy/1, which is used up.
    pub seeds: Vec<(Slot, Seed)>,
    /// Everyone's first pools.
    pub pools: Vec<Envelope>,
    /// The ballots for policy/1 that are there, this governor's among them.
    pub ballots: Vec<Envelope>,
}

/// Why a founding cannot go on.
#[derive(Debug, Error)]
pub enum FoundingError {
    /// A file that is forged, damaged or of another ceremony.
    #[error("{file} is refused")]
    File {
        /// Which.
        file: String,
        /// Why.
        #[source]
        source: ObjectError,
    },
    /// The plan has no such governor, or another card under that name.
    #[error("founding.json does not hold the card of {0} that is in this folder")]
    Card(Name),
    /// Another roster was confirmed than the folder's, or the plan changed afterwards.
    #[error("the confirmed roster is {confirmed}, founding.json has {found}")]
    Roster {
        /// What the governor confirmed, or answered.
        confirmed: Digest,
        /// The folder's.
        found: Digest,
    },
    /// A file changed after it was answered; whoever signed both versions cheats.
    #[error("{file} changed after it was answered: it was {answered}, now it is {found}")]
    Changed {
        /// Which.
        file: String,
        /// The id answered.
        answered: Digest,
        /// The id found.
        found: Digest,
    },
    /// This governor's own file is not the one that was written.
    #[error("{0} is not what this machine wrote; restore it, or find who changed it")]
    OwnFile(String),
    /// A governor answered other papers than those in this folder: somebody showed two versions.
    #[error("{name} answered other {what} files than are in this folder; compare them")]
    Disagrees {
        /// Who.
        name: Name,
        /// Which files.
        what: &'static str,
    },
    /// A governor's contribution is provably wrong.
    #[error("the {kind} of {name} is wrong: {why}")]
    Cheat {
        /// Who.
        name: Name,
        /// Which paper.
        kind: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The stored state, or an identity, is not this governor's.
    #[error("{0}")]
    State(String),
}

/// Goes as far as the folder allows.
///
/// `confirmed` is the roster digest that the governor compared with the others; it is asked for
/// once, before anything but the card is written. `rng` is drawn from for polynomial and seeds.
///
/// # Errors
/// See [`FoundingError`]. An error changes nothing: once its cause is gone, step again with the
/// state stored last.
pub fn step(
    me: &Me<'_>,
    state: Option<Ceremony>,
    files: &Files,
    confirmed: Option<Digest>,
    rng: &mut (impl RngCore + CryptoRng),
) -> Result<Step, FoundingError> {
    let card = me.card.to_envelope().sign(me.key).to_json();
    let own_card = file_name(&me.card.name, Card::KIND);
    let mut write = Files::new();
    if !files.contains_key(&own_card) {
        write.insert(own_card.clone(), card.clone().into_bytes());
    }
    let Some(envelope) = papers::envelope(files, PLAN_FILE)? else {
        return Ok(Step { state, write, status: Status::NoPlan(cards(files)?) });
    };
    let refused = |source| FoundingError::File { file: PLAN_FILE.to_owned(), source };
    let plan = Plan::verify(&envelope).map_err(refused)?;
    let roster = envelope.id();
    let missing = check_cards(me, files, &plan)?;
    if !missing.is_empty() {
        let status = Status::Waiting { kind: Card::KIND, missing };
        return Ok(Step { state, write, status });
    }
    // What people compare is worked out from what the plan says, so it must say nothing else.
    if state.is_none() && plan.roster() != roster {
        let why = "it holds more than a plan; write it again with this version".to_owned();
        return Err(refused(ObjectError::Refused { kind: Plan::KIND, why }));
    }
    let agreed = state.as_ref().map(|state| state.roster).or(confirmed);
    match agreed {
        None => return Ok(Step { state, write, status: Status::Confirm(Box::new(plan)) }),
        Some(confirmed) if confirmed != roster => {
            return Err(FoundingError::Roster { confirmed, found: roster });
        }
        Some(_) => {}
    }
    let mut ceremony = match state {
        Some(ceremony) => ceremony,
        None => Ceremony::begin(me, &plan, roster, rng)?,
    };
    ceremony.check_unchanged(files)?;
    let status = loop {
        // What this very call wrote counts as being in the folder.
        let mut seen = files.clone();
        for (file, text) in &ceremony.wrote {
            seen.insert(file.clone(), text.clone().into_bytes());
        }
        match ceremony.advance(me, &plan, &seen, rng)? {
            rounds::Advance::Further(next) => ceremony = *next,
            rounds::Advance::Stays(status) => break status,
        }
    };
    let unwritten = ceremony.wrote.iter().filter(|(file, _)| !files.contains_key(*file));
    write.extend(unwritten.map(|(file, text)| (file.clone(), text.clone().into_bytes())));
    if let Status::Founded(founded) = &status
        && !files.contains_key(POLICY_FILE)
    {
        write.insert(POLICY_FILE.to_owned(), founded.policy.to_json().into_bytes());
    }
    Ok(Step { state: Some(ceremony), write, status })
}

/// A governor's contribution that is provably wrong.
fn cheat(name: &Name, kind: &'static str, why: &dyn core::fmt::Display) -> FoundingError {
    FoundingError::Cheat { name: name.clone(), kind, why: why.to_string() }
}

/// The cards in the folder, each signed by its own key and named after its governor.
fn cards(files: &Files) -> Result<Vec<Card>, FoundingError> {
    let suffix = format!(".{}.json", Card::KIND);
    let mut found = Vec::new();
    for file in files.keys() {
        let Some(name) = file.strip_suffix(&suffix) else { continue };
        let Some(envelope) = papers::envelope(files, file)? else { continue };
        let refused = |source| FoundingError::File { file: file.clone(), source };
        let card = Card::verify(&envelope).map_err(refused)?;
        if card.name != name {
            let why = format!("it is the card of {}", card.name);
            return Err(refused(ObjectError::Refused { kind: Card::KIND, why }));
        }
        found.push(card);
    }
    Ok(found)
}

/// Every governor of the plan has the card that lies in the folder; returns whose is missing.
fn check_cards(me: &Me<'_>, files: &Files, plan: &Plan) -> Result<Vec<Name>, FoundingError> {
    if !plan.governors.contains(me.card) {
        return Err(FoundingError::Card(me.card.name.clone()));
    }
    let found = cards(files)?;
    let mut missing = Vec::new();
    for planned in &plan.governors {
        match found.iter().find(|card| card.name == planned.name) {
            Some(card) if card == planned => {}
            Some(card) => return Err(FoundingError::Card(card.name.clone())),
            None if planned == me.card => {}
            None => missing.push(planned.name.clone()),
        }
    }
    Ok(missing)
}

impl Ceremony {
    /// The roster digest that was confirmed.
    #[must_use]
    pub fn roster(&self) -> Digest {
        self.roster
    }

    /// Neither this governor's files nor the answered ones have changed.
    fn check_unchanged(&self, files: &Files) -> Result<(), FoundingError> {
        for (file, text) in &self.wrote {
            if let Some(found) = papers::envelope(files, file)? {
                let own = Envelope::parse(text.as_bytes())
                    .map_err(|error| FoundingError::State(error.to_string()))?;
                if found.id() != own.id() {
                    return Err(FoundingError::OwnFile(file.clone()));
                }
            }
        }
        for (file, answered) in &self.answered {
            if let Some(found) = papers::envelope(files, file)?.map(|found| found.id())
                && found != *answered
            {
                let (file, answered) = (file.clone(), *answered);
                return Err(FoundingError::Changed { file, answered, found });
            }
        }
        Ok(())
    }
}

impl core::fmt::Debug for Ceremony {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let phase = match &self.phase {
            Phase::Committed { .. } => "committed",
            Phase::Shared { .. } => "shared",
            Phase::Keyed { .. } => "keyed",
            Phase::Voted { .. } => "voted",
        };
        write!(f, "Ceremony({phase}, roster {})", self.roster.short())
    }
}

/// `waiting for ben, cleo: dkg1`.
impl core::fmt::Display for Status {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoPlan(cards) => {
                write!(f, "no founding.json yet; {} cards are there", cards.len())
            }
            Self::Confirm(plan) => write!(f, "compare the roster {} by voice", plan.roster()),
            Self::Waiting { kind, missing } => {
                let names: Vec<&str> = missing.iter().map(Name::as_str).collect();
                write!(f, "waiting for {}: {kind}", names.join(", "))
            }
            Self::Founded(founded) => write!(f, "founded: network {}", founded.network),
        }
    }
}
