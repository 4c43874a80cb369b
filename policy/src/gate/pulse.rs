//! Which governors a holder has heard of lately, and how long the board has been silent.

use std::collections::BTreeMap;

use borgios_types::{PublicKey, Seq, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::beacon::{AHEAD_MAX_S, Beacon};
use crate::chain::Chain;
use crate::lane::Lane;
use crate::name::Name;
use crate::object::{Object as _, ObjectError};
use crate::policy::Policy;

/// Silence is counted in steps of so many seconds, each stored.
const STEP_S: u64 = 3_600;
/// The most one step counts. While a holder is off, or its clock is set forward by more than an hour, it
/// hears nobody and learns nothing: that time is no silence of the board, and is not counted at all.
const STEP_MAX_S: u64 = 2 * STEP_S;
/// Most beacons kept: a board, and the one that follows it.
const BEACONS_MAX: usize = 2 * borgios_types::limits::GOVERNORS_MAX;

/// The newest beacon of each governor, and the silence so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulse {
    #[serde(default)]
    beacons: BTreeMap<Name, Beacon>,
    /// Seconds without enough fresh beacons, as far as this holder was there to hear them.
    #[serde(default)]
    silent_s: u64,
    /// Up to when the silence is counted.
    #[serde(default)]
    counted: UnixSeconds,
    /// Whose silence it is: that of one board is not the next one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<PublicKey>,
}

impl Pulse {
    pub(super) fn hear(
        &mut self,
        now: UnixSeconds,
        beacon: Beacon,
        policy: Option<&Policy>,
    ) -> Result<bool, ObjectError> {
        if beacon.time > now.plus(AHEAD_MAX_S) {
            let why = format!("a beacon of {}, it is {now}", beacon.time);
            return Err(ObjectError::Refused { kind: Beacon::KIND, why });
        }
        match self.beacons.get(&beacon.governor) {
            // One of another board says nothing of this one, and of the same the later counts.
            Some(held) if held.group == beacon.group && !beacon.is_after(held) => return Ok(false),
            Some(held) if held.group != beacon.group && !in_force(&beacon, policy) => {
                return Ok(false);
            }
            Some(_) | None => {}
        }
        if self.beacons.len() >= BEACONS_MAX {
            self.beacons.retain(|_, held| in_force(held, policy));
        }
        self.beacons.insert(beacon.governor.clone(), beacon);
        if self.is_heard(now, policy) {
            self.silent_s = 0;
        }
        Ok(true)
    }

    /// Counts the silence; returns whether it must be stored. `awake` is since when this process has
    /// looked at the clock without a break.
    pub(super) fn tick(
        &mut self,
        now: UnixSeconds,
        awake: UnixSeconds,
        policy: Option<&Policy>,
    ) -> bool {
        let of = policy.filter(|policy| policy.recovery.is_some());
        let of = of.map(|policy| policy.board.group());
        if self.of != of {
            (self.of, self.silent_s, self.counted) = (of, 0, now);
            return true;
        }
        if of.is_none() {
            return false;
        }
        let passed = now.0.saturating_sub(self.counted.0);
        let back = self.counted > now;
        if self.is_heard(now, policy) {
            let stale = self.silent_s > 0 || passed >= STEP_S || back;
            if stale {
                (self.silent_s, self.counted) = (0, now);
            }
            return stale;
        }
        if passed < STEP_S && !back {
            return false;
        }
        let there = passed.min(now.0.saturating_sub(awake.0)).min(STEP_MAX_S);
        self.silent_s = self.silent_s.saturating_add(there);
        self.counted = now;
        true
    }

    /// Seconds for which the board with this group key has been silent here.
    pub(super) fn silent(&self, group: PublicKey) -> u64 {
        if self.of == Some(group) { self.silent_s } else { 0 }
    }

    fn is_heard(&self, now: UnixSeconds, policy: Option<&Policy>) -> bool {
        let fresh = policy.and_then(|policy| self.fresh(now, policy));
        fresh.is_none_or(|(fresh, needed)| fresh >= needed)
    }

    /// Governors of the board in force with a fresh beacon, and how many are asked for.
    pub(super) fn fresh(&self, now: UnixSeconds, policy: &Policy) -> Option<(usize, usize)> {
        let rule = policy.freshness?;
        let fresh = self.beacons.values().filter(|beacon| {
            in_force(beacon, Some(policy))
                && policy.board.by_name(&beacon.governor).is_some()
                && beacon.is_fresh(now, rule.max_age_s)
        });
        Some((fresh.count(), rule.beacons.into()))
    }

    pub(super) fn behind(&self, chain: &Chain) -> BTreeMap<Lane, Seq> {
        let mut behind = BTreeMap::new();
        for beacon in self.beacons.values().filter(|beacon| in_force(beacon, chain.policy())) {
            for (lane, head) in &beacon.heads {
                if head.seq > chain.head_seq(*lane) {
                    let most: &mut Seq = behind.entry(*lane).or_default();
                    *most = head.seq.max(*most);
                }
            }
        }
        behind
    }
}

fn in_force(beacon: &Beacon, policy: Option<&Policy>) -> bool {
    policy.is_some_and(|policy| policy.board.group() == beacon.group)
}
