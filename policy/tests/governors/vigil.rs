//! A node's own account of the board in force, beside that of its gate: how long it has been silent, and
//! since when a policy of the recovery key is held back.
//!
//! It goes by the rules' words and not by the gate's code, but for one thing: a gate counts silence by
//! the hour, so it may begin up to an hour before the last beacon ceased to count, and loses what was left
//! of an hour where it is cut off.

use std::collections::BTreeMap;

use borgios_policy::{Beacon, Name, Objection, Policy};
use borgios_types::{Digest, PublicKey, UnixSeconds};

use super::world::HOUR_S;

/// How far ahead a date may be.
const AHEAD_S: u64 = 600;

#[derive(Default)]
pub(crate) struct Vigil {
    /// Date and counter of the newest beacon of each governor.
    newest: BTreeMap<(PublicKey, Name), (UnixSeconds, u64)>,
    /// Whose silence it is.
    of: Option<PublicKey>,
    silent_s: u64,
    looked: UnixSeconds,
    /// How often the node was off, or began anew, in that silence.
    breaks: u64,
    /// Since when each policy of the recovery key is held back, no sign of life since.
    locks: BTreeMap<Digest, UnixSeconds>,
    /// How often a sign of life ended a lock.
    pub(crate) ended: usize,
    /// How often such a policy came before the silence was long enough.
    pub(crate) early: usize,
    /// When one was applied.
    pub(crate) recovered: Option<UnixSeconds>,
}

impl Vigil {
    /// Looks at the clock.
    pub(crate) fn look(&mut self, now: UnixSeconds, policy: Option<&Policy>) {
        let of = policy.map(|policy| policy.board.group());
        if self.of != of {
            (self.of, self.silent_s, self.breaks) = (of, 0, 0);
        } else if policy.is_some_and(|policy| self.is_heard(now, policy)) {
            (self.silent_s, self.breaks) = (0, 0);
        } else {
            let passed = now.0.saturating_sub(self.looked.0);
            // Who is off hears nobody, and learns nothing by that.
            let is_off = passed > HOUR_S;
            self.silent_s += if is_off { 0 } else { passed };
            self.breaks += u64::from(is_off);
        }
        self.looked = now;
    }

    /// It began anew: what was left of the last hour is not counted.
    pub(crate) fn restart(&mut self) {
        self.breaks += 1;
    }

    fn is_heard(&self, now: UnixSeconds, policy: &Policy) -> bool {
        let Some(rule) = policy.freshness else { return true };
        let (group, board) = (policy.board.group(), &policy.board);
        let counts = |name: &Name| {
            let newest = self.newest.get(&(group, name.clone()));
            newest.is_some_and(|(time, _)| is_fresh(*time, now, rule.max_age_s))
        };
        let heard = board.governors().iter().filter(|governor| counts(&governor.name)).count();
        heard >= usize::from(rule.beacons)
    }

    /// A beacon that the gate took.
    pub(crate) fn beacon(&mut self, now: UnixSeconds, policy: Option<&Policy>, beacon: &Beacon) {
        let key = (beacon.group, beacon.governor.clone());
        let (date, before) = ((beacon.time, beacon.counter), self.newest.get(&key));
        if before.is_some_and(|before| *before >= date) {
            return;
        }
        self.newest.insert(key, date);
        let Some(policy) = policy.filter(|policy| policy.board.group() == beacon.group) else {
            return;
        };
        if policy.freshness.is_some_and(|rule| is_fresh(beacon.time, now, rule.max_age_s)) {
            self.end();
        }
        if self.is_heard(now, policy) {
            (self.silent_s, self.breaks) = (0, 0);
        }
    }

    /// A veto that the gate took.
    pub(crate) fn veto(&mut self, now: UnixSeconds, policy: Option<&Policy>, veto: &Objection) {
        let Some(policy) = policy.filter(|policy| policy.board.group() == veto.group) else {
            return;
        };
        let fresh = policy.freshness.is_some_and(|rule| is_fresh(veto.at, now, rule.max_age_s));
        if fresh || self.locks.contains_key(&veto.statement) {
            self.end();
        }
    }

    fn end(&mut self) {
        self.ended += usize::from(!self.locks.is_empty());
        self.locks.clear();
    }

    /// The gate holds a policy of the recovery key back from now on.
    pub(crate) fn hold(&mut self, now: UnixSeconds, policy: &Policy, id: Digest, context: &str) {
        let needed = policy.recovery.expect("a policy that names a recovery key").silence_s;
        let silent = self.silent_s + HOUR_S;
        assert!(silent >= needed, "{context}: held back after {silent} s of silence");
        self.locks.insert(id, now);
    }

    /// The gate refused one, for the board must be silent for longer.
    pub(crate) fn refuse(&mut self, policy: &Policy, context: &str) {
        let needed = policy.recovery.expect("a policy that names a recovery key").silence_s;
        // A gate counts whole hours, and of a break not what was left of the hour before it, nor what had
        // passed since it last looked, which here is up to an hour more.
        let most = needed + 2 * HOUR_S + self.breaks * 2 * HOUR_S;
        assert!(self.silent_s < most, "{context}: refused after {} s of silence", self.silent_s);
        self.early += 1;
    }

    /// The gate lets one count.
    pub(crate) fn apply(&mut self, now: UnixSeconds, policy: &Policy, id: Digest, context: &str) {
        let lock = policy.recovery.expect("a policy that names a recovery key").lock_s;
        let since = self.locks.get(&id);
        let since = since.unwrap_or_else(|| panic!("{context}: a sign of life had ended it"));
        assert!(now >= since.plus(lock), "{context}: applied within its lock");
        self.recovered = Some(now);
        self.locks.clear();
    }
}

fn is_fresh(time: UnixSeconds, now: UnixSeconds, max_age_s: u64) -> bool {
    time <= now.plus(AHEAD_S) && now <= time.plus(max_age_s)
}
