//! The rules of a policy that are no class: freshness, pauses, admission, recovery, rulings.

use borgios_types::{Digest, PublicKey, Seq};
use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::invitation::USES_MAX;
use crate::lane::Lane;
use crate::name::Name;
use crate::policy::PolicyError;

/// A day, in seconds.
const DAY_S: u64 = 86_400;
/// Longest pause, in seconds, and how long one holds where the policy says nothing.
pub const PAUSE_MAX_S: u64 = DAY_S;
/// Age of a beacon that may count as fresh, in seconds: an hour, below which honest tools would be
/// too slow, to 90 days.
pub const AGE_S: core::ops::RangeInclusive<u64> = 3_600..=90 * DAY_S;
/// Silence after which a recovery key may speak, in seconds: 30 days to ten years.
pub const SILENCE_S: core::ops::RangeInclusive<u64> = 30 * DAY_S..=3_650 * DAY_S;
/// How long its policy is held back in public, in seconds: 14 days to a year.
pub const RECOVERY_LOCK_S: core::ops::RangeInclusive<u64> = 14 * DAY_S..=365 * DAY_S;
/// How long an invitation may be good for, in seconds: a minute to ten years.
pub const LIFETIME_S: core::ops::RangeInclusive<u64> = 60..=3_650 * DAY_S;
/// Most places one policy settles; one that unites others, as many more for each: [`rulings_max`].
pub const RULINGS_MAX: usize = 16;

/// How many governors a holder must have heard of lately before it installs anything new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freshness {
    /// Distinct governors, 1 to n.
    pub beacons: u16,
    /// Seconds a beacon counts.
    pub max_age_s: u64,
}

/// Who may invite servers, and how many for how long. What is absent is unbounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// The governors whose invitations count; absent means every governor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inviters: Option<Vec<Name>>,
    /// Most servers one invitation may admit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses_max: Option<u32>,
    /// Longest time from an invitation's date to its end, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_s: Option<u64>,
}

/// A second board's key, which may name the next policy once the first has long been silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// The key.
    pub group: PublicKey,
    /// Seconds without enough fresh beacons.
    pub silence_s: u64,
    /// Seconds for which its policy is then held back.
    pub lock_s: u64,
}

/// What a policy says of one place of another lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruling {
    /// The lane; never `policy`.
    pub lane: Lane,
    /// The place.
    pub seq: Seq,
    /// The statement that alone counts there; absent closes the place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub winner: Option<Digest>,
    /// In a policy that unites others with its predecessor, where that, or one before it, settled the
    /// place: whoever takes it in from another side then goes on there as the others do. Absent means
    /// this policy settles it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<SettledBy>,
}

/// The policy that settled a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledBy {
    /// Its number.
    pub policy: Seq,
    /// Its id.
    pub id: Digest,
}

impl Ruling {
    /// A ruling of the policy that says it.
    #[must_use]
    pub const fn new(lane: Lane, seq: Seq, winner: Option<Digest>) -> Self {
        Self { lane, seq, winner, by: None }
    }
}

fn within(
    rule: &str,
    found: u64,
    bounds: core::ops::RangeInclusive<u64>,
) -> Result<(), PolicyError> {
    if bounds.contains(&found) {
        return Ok(());
    }
    let (least, most) = bounds.into_inner();
    Err(PolicyError::OutOfBounds { rule: rule.to_owned(), found, least, most })
}

impl Freshness {
    pub(crate) fn check(&self, board: &Board) -> Result<(), PolicyError> {
        within("freshness.beacons", self.beacons.into(), 1..=board.size().into())?;
        within("freshness.max_age_s", self.max_age_s, AGE_S)
    }
}

impl Admission {
    pub(crate) fn check(&self, board: &Board) -> Result<(), PolicyError> {
        let inviters = self.inviters.as_deref().unwrap_or_default();
        if let Some(stranger) = inviters.iter().find(|name| board.by_name(name).is_none()) {
            return Err(PolicyError::Inviter(stranger.clone()));
        }
        if let Some(again) = (1..inviters.len()).find(|at| inviters[..*at].contains(&inviters[*at]))
        {
            return Err(PolicyError::Inviter(inviters[again].clone()));
        }
        if let Some(uses) = self.uses_max {
            within("admission.uses_max", uses.into(), 1..=USES_MAX.into())?;
        }
        self.lifetime_s.map_or(Ok(()), |life| within("admission.lifetime_s", life, LIFETIME_S))
    }
}

impl Recovery {
    /// `unheard_s`: the lock of a policy and the age up to which a beacon counts. While nodes hold a
    /// change of the board back, they do not hear who is new on it, and count no beacon of whoever
    /// left: that alone must not look like a board that is silent.
    pub(crate) fn check(&self, board: &Board, unheard_s: u64) -> Result<(), PolicyError> {
        if self.group == board.group() {
            return Err(PolicyError::RecoveryKey);
        }
        let least = (*SILENCE_S.start()).max(unheard_s.saturating_add(1));
        within("recovery.silence_s", self.silence_s, least..=*SILENCE_S.end())?;
        within("recovery.lock_s", self.lock_s, RECOVERY_LOCK_S)
    }
}

/// Most places that a policy settles which unites that many others with its predecessor: what each of
/// them may have said, and what it says itself.
#[must_use]
pub const fn rulings_max(unites: usize) -> usize {
    RULINGS_MAX * (1 + unites)
}

/// A policy rules on other lanes, on each place once, and repeats what another one settled only if it
/// `unites`.
pub(crate) fn check_rulings(rulings: &[Ruling], unites: usize) -> Result<(), PolicyError> {
    within("rulings", rulings.len() as u64, 0..=rulings_max(unites) as u64)?;
    for (at, Ruling { lane, seq, by, .. }) in rulings.iter().enumerate() {
        let twice = rulings[..at].iter().any(|other| (other.lane, other.seq) == (*lane, *seq));
        if *lane == Lane::Policy || seq.0 == 0 || twice {
            return Err(PolicyError::Ruling { lane: *lane, seq: *seq });
        }
        if by.is_some() && unites == 0 {
            return Err(PolicyError::Repeats { lane: *lane, seq: *seq });
        }
    }
    Ok(())
}
