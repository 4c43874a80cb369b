//! Founding: governors make a key together and sign policy/1, by files in a folder they share.
//!
//! ```text
//!            roster confirmed          agreed (crate::keygen)         t ballots
//! (nothing) ───────────────▶ … keygen … ──────────────▶ Voted ─────────────────▶ Founded
//!  NAME.card                                   NAME.ballot (large: NAME.part)     policy-1
//! ```
//!
//! [`step`] reads what is in the folder and goes as far as it can. The caller must store the
//! returned [`Ceremony`] (encrypted to the governor, synced) *before* it writes the returned
//! files, and may call again at any time: what was written once is written the same again.

mod first;
mod large;
mod plan;

use borgios_types::{Digest, Envelope};
use rand::{CryptoRng, RngCore};

use crate::board::Board;
use crate::card::Card;
use crate::keygen::{Reached, envelope};
use crate::name::Name;
use crate::object::{Object, ObjectError};
use crate::share::{KeyShare, Seed};
use crate::slot::Slot;

pub use crate::keygen::{Ceremony, CeremonyError, Files, Me, file_name};
pub use large::Part;
pub use plan::{Plan, PlanError};

/// `founding.json`.
pub const PLAN_FILE: &str = "founding.json";
/// `policy-1.json`.
pub const POLICY_FILE: &str = "policy-1.json";

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
    /// For a recovery board, the network it is for; what was founded is no network then, and
    /// `policy` the board's paper.
    pub recovers: Option<Digest>,
    /// policy/1, signed by the group key.
    pub policy: Envelope,
    /// The board.
    pub board: Board,
    /// This governor's share.
    pub key: KeyShare,
    /// The seeds of this governor's first pools, but that of policy/1, which is used up.
    pub seeds: Vec<(Slot, Seed)>,
    /// Everyone's first pools; this governor's alone where the others' last papers were not there at the end.
    pub pools: Vec<Envelope>,
    /// The ballots for policy/1 that are there, this governor's among them; none on a board too
    /// large for one-touch votes.
    pub ballots: Vec<Envelope>,
}

/// Goes as far as the folder allows.
///
/// `confirmed` is the roster digest that the governor compared with the others; it is asked for
/// once, before anything but the card is written. `rng` is drawn from for polynomial and seeds.
///
/// # Errors
/// See [`CeremonyError`]. An error changes nothing: once its cause is gone, step again with the
/// state stored last.
pub fn step(
    me: &Me<'_>,
    state: Option<Ceremony>,
    files: &Files,
    confirmed: Option<Digest>,
    rng: &mut (impl RngCore + CryptoRng),
) -> Result<Step, CeremonyError> {
    let card = me.card.to_envelope().sign(me.key).to_json();
    let own_card = file_name(&me.card.name, Card::KIND);
    let mut write = Files::new();
    if !files.contains_key(&own_card) {
        write.insert(own_card.clone(), card.clone().into_bytes());
    }
    let Some(envelope) = envelope(files, PLAN_FILE)? else {
        return Ok(Step { state, write, status: Status::NoPlan(cards(files)?) });
    };
    let refused = |source| CeremonyError::File { file: PLAN_FILE.to_owned(), source };
    let plan = Plan::verify(&envelope).map_err(refused)?;
    let found = envelope.id();
    let missing = check_cards(me, files, &plan)?;
    if !missing.is_empty() {
        let status = Status::Waiting { kind: Card::KIND, missing };
        return Ok(Step { state, write, status });
    }
    // What people compare is worked out from what the plan says, so it must say nothing else.
    if state.is_none() && plan.roster() != found {
        let why = "it holds more than a plan; write it again with this version".to_owned();
        return Err(refused(ObjectError::Refused { kind: Plan::KIND, why }));
    }
    let agreed = state.as_ref().map(Ceremony::roster).or(confirmed);
    match agreed {
        None => return Ok(Step { state, write, status: Status::Confirm(Box::new(plan)) }),
        Some(confirmed) if confirmed != found => {
            return Err(CeremonyError::Roster { confirmed, found });
        }
        Some(_) => {}
    }
    let roster = plan.to_roster(found);
    let mut ceremony = match state {
        Some(ceremony) => ceremony,
        None => Ceremony::begin(me, &roster, rng)?,
    };
    let outcome = |board: &Board| Some(first::network(&plan, board));
    let status = match ceremony.advance(me, &roster, files, &outcome, rng)? {
        // Who is kept from the last papers still sees what came of them.
        Reached::Waiting { kind, missing } => {
            match first::ended(&ceremony, me, &plan, &roster, &ceremony.seen(files))? {
                Some(status) => status,
                None => Status::Waiting { kind, missing },
            }
        }
        Reached::Agreed(agreed) => {
            first::sign(&mut ceremony, me, &plan, &roster, &agreed)?;
            let seen = ceremony.seen(files);
            match first::conclude(&ceremony, me, &plan, &roster, &seen, &agreed) {
                // What the others wait for is laid all the same; the next run says who disagrees.
                Err(CeremonyError::Disagrees { name, .. })
                    if !ceremony.unwritten(files).is_empty() =>
                {
                    Status::Waiting { kind: Part::KIND, missing: vec![name] }
                }
                concluded => concluded?,
            }
        }
    };
    write.extend(ceremony.unwritten(files));
    if let Status::Founded(founded) = &status
        && !files.contains_key(POLICY_FILE)
    {
        write.insert(POLICY_FILE.to_owned(), founded.policy.to_json().into_bytes());
    }
    Ok(Step { state: Some(ceremony), write, status })
}

/// The cards in the folder, each signed by its own key and named after its governor.
fn cards(files: &Files) -> Result<Vec<Card>, CeremonyError> {
    let suffix = format!(".{}.json", Card::KIND);
    let mut found = Vec::new();
    for file in files.keys() {
        let Some(name) = file.strip_suffix(&suffix) else { continue };
        let Some(envelope) = envelope(files, file)? else { continue };
        let refused = |source| CeremonyError::File { file: file.clone(), source };
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
fn check_cards(me: &Me<'_>, files: &Files, plan: &Plan) -> Result<Vec<Name>, CeremonyError> {
    if !plan.governors.contains(me.card) {
        return Err(CeremonyError::Card(me.card.name.clone()));
    }
    let found = cards(files)?;
    let mut missing = Vec::new();
    for planned in &plan.governors {
        match found.iter().find(|card| card.name == planned.name) {
            Some(card) if card == planned => {}
            Some(card) => return Err(CeremonyError::Card(card.name.clone())),
            None if planned == me.card => {}
            None => missing.push(planned.name.clone()),
        }
    }
    Ok(missing)
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
