//! A change of the board: a new key for new members, another threshold, or just a fresh key.
//!
//! ```text
//!                       agreed (crate::keygen)           proposed, voted on by both boards
//! (nothing) ──▶ … keygen … ─────────────▶ Made ────────────────────────────────────▶ in force
//!  change-E.json            E.NAME.done            policy/p+1, two signatures
//! ```
//!
//! FROST's own refresh keeps the group key: who kept an old share could still sign. So every change
//! makes a new key, in the rounds of a founding, and policy/p+1 hands over to it. Until that policy
//! is applied the old key stands untouched, however far the change is: it may be given up at any
//! time, or begun again as a further *attempt*, whose files have names of their own.
//!
//! [`step`] reads what is in the folder and goes as far as it can; the rules for storing and
//! repeating are those of [`crate::founding::step`].

mod plan;
mod rules;
mod watched;

use borgios_types::{Digest, Envelope};
use rand::{CryptoRng, RngCore};

use crate::board::Board;
use crate::keygen::{Ceremony, CeremonyError, Files, Me, Phase, Reached, envelope};
use crate::name::Name;
use crate::object::{Object, ObjectError};
use crate::share::{KeyShare, Seed};
use crate::slot::Slot;

pub use plan::{ATTEMPTS_MAX, Change, ChangeError, plan_file, plans};
pub use rules::{carried, closed, next_policy};
pub use watched::{Watched, watch};

/// What one step comes to.
#[derive(Debug)]
pub struct Step {
    /// To be stored before any of the files is written; absent before the governor takes part.
    pub state: Option<Ceremony>,
    /// To be written into the folder.
    pub write: Files,
    /// How it stands.
    pub status: Status,
}

/// How a change stands for one governor.
#[derive(Debug)]
pub enum Status {
    /// Nobody wrote a plan.
    NoPlan,
    /// The plan goes on without this governor.
    NotIncluded(Box<Change>),
    /// A card is new: compare the roster digest with the others by voice, then confirm it.
    Confirm(Box<Change>),
    /// Nothing to do before these governors have written theirs.
    Waiting {
        /// Which of their files.
        kind: &'static str,
        /// Whose.
        missing: Vec<Name>,
    },
    /// There is a key, and everyone signed for it.
    Made(Box<Changed>),
}

/// What a change leaves each member of the new board with.
#[derive(Debug)]
pub struct Changed {
    /// The plan.
    pub plan: Change,
    /// Who wrote it, and is to propose the policy.
    pub author: Name,
    /// The new board.
    pub board: Board,
    /// This governor's share of the new key.
    pub key: KeyShare,
    /// The seeds of this governor's first pools.
    pub seeds: Vec<(Slot, Seed)>,
    /// Everyone's first pools.
    pub pools: Vec<Envelope>,
}

/// What a change is made from: the network and the board in force.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// Id of policy/1.
    pub network: Digest,
    /// The board that is to be replaced.
    pub board: &'a Board,
    /// The recovery board, if it is its plans that are meant: they lie in files of their own, so that
    /// neither board stands in the other's way.
    pub recovery: Option<&'a Board>,
}

/// The newest attempt whose plan a governor of the board signed, or of the recovery board if its plans
/// are meant, with its author and id.
///
/// # Errors
/// Why none of the plans counts, if there are any.
pub fn newest(
    standing: Standing<'_>,
    files: &Files,
) -> Result<Option<(Change, Name, Digest)>, CeremonyError> {
    let epoch = standing.board.next_epoch();
    let mut refused = None;
    for attempt in (0..=ATTEMPTS_MAX).rev() {
        let file = plan_file(epoch, attempt, standing.recovery.is_some());
        // What anybody can lay there stops nobody: an earlier plan may still be good.
        let read = envelope(files, &file).and_then(|found| match found {
            None => Ok(None),
            Some(found) => match Change::verify(standing, attempt, &found) {
                Ok((plan, author)) => Ok(Some((plan, author, found.id()))),
                Err(source) => Err(CeremonyError::File { file, source }),
            },
        });
        match read {
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) => {}
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    refused.map_or(Ok(None), Err)
}

/// Goes as far as the folder allows.
///
/// `confirmed` is the roster digest that the governor compared with the others; it is asked for
/// where the plan holds a card that is not the board's. A state of an earlier attempt gives way to
/// a newer one, unless there is a key in it already and `may_drop` does not allow that.
///
/// # Errors
/// See [`CeremonyError`]. An error changes nothing.
pub fn step(
    me: &Me<'_>,
    standing: Standing<'_>,
    state: Option<Ceremony>,
    files: &Files,
    (confirmed, may_drop): (Option<Digest>, bool),
    rng: &mut (impl RngCore + CryptoRng),
) -> Result<Step, CeremonyError> {
    let Some((plan, author, found)) = newest(standing, files)? else {
        return Ok(Step { state, write: Files::new(), status: Status::NoPlan });
    };
    if !plan.governors.contains(me.card) {
        if let Some(other) = plan.governors.iter().find(|card| card.name == me.card.name) {
            return Err(CeremonyError::Card(other.name.clone()));
        }
        let status = Status::NotIncluded(Box::new(plan));
        return Ok(Step { state: None, write: Files::new(), status });
    }
    let state = match state {
        Some(state) if state.roster() != found && (may_drop || !state.is_keyed()) => None,
        state => state,
    };
    match state.as_ref().map(Ceremony::roster).or(confirmed) {
        Some(confirmed) if confirmed != found => {
            return Err(CeremonyError::Roster { confirmed, found });
        }
        None if plan.needs_confirmation(me.card, standing.board) => {
            let status = Status::Confirm(Box::new(plan));
            return Ok(Step { state, write: Files::new(), status });
        }
        _ => {}
    }
    // What people compare is worked out from what the plan says, so it must say nothing else.
    if state.is_none() && plan.to_envelope().id() != found {
        let why = "it holds more than a plan; write it again with this version".to_owned();
        let file = plan.file(standing.recovery.is_some());
        let source = ObjectError::Refused { kind: Change::KIND, why };
        return Err(CeremonyError::File { file, source });
    }
    let roster = plan.to_roster(found, standing.recovery.is_some());
    let mut ceremony = match state {
        Some(ceremony) => ceremony,
        None => Ceremony::begin(me, &roster, rng)?,
    };
    let status = match ceremony.advance(me, &roster, files, &|_| None, rng)? {
        Reached::Waiting { kind, missing } => Status::Waiting { kind, missing },
        Reached::Agreed(agreed) => {
            let Phase::Keyed { made } = &ceremony.phase else {
                return Err(CeremonyError::State("the change went beyond its key".to_owned()));
            };
            let made = made.clone();
            // From here on nobody may change what was signed for.
            ceremony.answer(me, &roster, &agreed.done);
            let key = KeyShare::from_secret(&made.board, &me.card.name, &made.key)
                .map_err(|error| CeremonyError::State(error.to_string()))?;
            let (board, seeds, pools) = (made.board, made.seeds, agreed.pools.all);
            Status::Made(Box::new(Changed { plan, author, board, key, seeds, pools }))
        }
    };
    let write = ceremony.unwritten(files);
    Ok(Step { state: Some(ceremony), write, status })
}

/// `waiting for ben, cleo: dkg1`.
impl core::fmt::Display for Status {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoPlan => write!(f, "nobody planned a change"),
            Self::NotIncluded(plan) => {
                write!(f, "the change to key epoch {} goes on without you", plan.epoch)
            }
            Self::Confirm(plan) => write!(f, "compare the roster {} by voice", plan.roster()),
            Self::Waiting { kind, missing } => {
                let names: Vec<&str> = missing.iter().map(Name::as_str).collect();
                write!(f, "waiting for {}: {kind}", names.join(", "))
            }
            Self::Made(changed) => {
                write!(f, "there is a key of epoch {}", changed.board.epoch())
            }
        }
    }
}
