//! Which epoch is current on one node, as a function of time, orders and the node's key.
//!
//! ```text
//! by clock     = first + clamp((now − t0) / interval, 0, n − 1), each change up to jitter_s later
//! current(now) = clamp(max(by clock, min_epoch, reveals that ended + 1), first, first + n − 1)
//! ```
//! What always holds:
//!  1. no state: a clock that was wrong and healed leaves nothing behind, and only orders ratchet;
//!  2. the epoch lies within the schedule: before `t0` it is the first, after the end the last;
//!  3. a node waits after every boundary less than an interval, always the same time.

use borgios_types::{Digest, Epoch, PublicKey, UnixSeconds};

use crate::schedule::Schedule;
use crate::verifier::Verifier;

/// What the board ordered on top of the clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// The lowest epoch that may be current.
    pub min_epoch: Epoch,
    /// Since when: `issued` of the statement that set it. It only dates [`Current::due`].
    pub min_since: UnixSeconds,
    /// Epochs that were revealed, each with the second from which on it may no longer be current.
    pub revealed: Vec<(Epoch, UnixSeconds)>,
}

/// The epoch of one node at one second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// Which epoch.
    pub epoch: Epoch,
    /// What root's field must be.
    pub verifier: Verifier,
    /// Since when, for this node, by clock or order, whichever was first; `t0` for an epoch that
    /// is current from the start.
    pub due: UnixSeconds,
    /// When it changes next, by clock or by a reveal that ends; never, after the last epoch.
    pub next: Option<UnixSeconds>,
    /// Less than a tenth of the schedule is left, by time or in epochs: deal the next one. A
    /// schedule of one epoch is exhausted from its first second.
    pub exhausted: bool,
}

impl Schedule {
    /// The epoch by clock alone and without jitter: where a fleet that obeys no orders is going.
    #[must_use]
    pub fn by_clock(&self, now: UnixSeconds) -> Epoch {
        Epoch(self.first().0 + self.boundaries(now))
    }

    /// When the last epoch's own interval is over.
    #[must_use]
    pub fn ends(&self) -> UnixSeconds {
        self.boundary(self.count())
    }

    /// A tenth of the schedule before its end.
    #[must_use]
    pub fn warns_from(&self) -> UnixSeconds {
        let length = self.count() * self.interval_s();
        UnixSeconds(self.t0().0 + length - length.div_ceil(10))
    }

    /// The epoch of the node whose keeper has this key.
    ///
    /// `now` must not be earlier than the newest statement that the node applied.
    #[must_use]
    pub fn current(&self, now: UnixSeconds, orders: &Orders, keeper: &PublicKey) -> Current {
        let (first, last) = (self.first().0, self.last().0);
        let ended = |&&(_, until): &&(Epoch, UnixSeconds)| until <= now;
        let after = |epoch: Epoch| epoch.0.saturating_add(1);

        let by_clock = first + self.changes(now, keeper);
        let by_reveal = orders.revealed.iter().filter(ended).map(|(epoch, _)| after(*epoch));
        let by_orders = by_reveal.fold(orders.min_epoch.0, u64::max);
        let epoch = by_clock.max(by_orders).clamp(first, last);

        // Whatever reached this epoch first made it current.
        let clock = (by_clock == epoch).then(|| self.change(epoch - first, keeper));
        let minimum = (orders.min_epoch.0 >= epoch && epoch > first).then_some(orders.min_since);
        let reveals = orders.revealed.iter().filter(ended).filter(|(e, _)| after(*e) >= epoch);
        let reveals = reveals.map(|(_, until)| *until).filter(|_| epoch > first);
        let due = clock.into_iter().chain(minimum).chain(reveals).min().unwrap_or(self.t0());

        let more = epoch < last;
        let by_clock = more.then(|| self.change(epoch - first + 1, keeper));
        let to_come = orders.revealed.iter().filter(|(e, until)| *until > now && after(*e) > epoch);
        let to_come = to_come.map(|(_, until)| *until).filter(|_| more);
        let next = by_clock.into_iter().chain(to_come).min();

        let left = last - epoch;
        let exhausted = now >= self.warns_from() || left < self.count().div_ceil(10);
        let epoch = Epoch(epoch);
        let verifier = self.verifier(epoch).expect("clamped into the schedule").clone();
        Current { epoch, verifier, due, next, exhausted }
    }

    /// When the interval of the epoch at `index` begins.
    fn boundary(&self, index: u64) -> UnixSeconds {
        UnixSeconds(self.t0().0 + index * self.interval_s())
    }

    /// How many boundaries lie behind `now`.
    fn boundaries(&self, now: UnixSeconds) -> u64 {
        (now.0.saturating_sub(self.t0().0) / self.interval_s()).min(self.count() - 1)
    }

    /// When this node changes to the epoch at `index`. Nobody waits for the first one.
    fn change(&self, index: u64, keeper: &PublicKey) -> UnixSeconds {
        let wait = if index == 0 { 0 } else { self.jitter(Epoch(self.first().0 + index), keeper) };
        self.boundary(index).plus(wait)
    }

    /// How many of its own moments of change lie behind `now`. The jitter is less than an
    /// interval, so a node is never more than one behind the boundaries.
    fn changes(&self, now: UnixSeconds, keeper: &PublicKey) -> u64 {
        let passed = self.boundaries(now);
        if passed > 0 && now < self.change(passed, keeper) { passed - 1 } else { passed }
    }

    /// Seconds that this node waits after the boundary: spread over the fleet, the same each time
    /// it is asked.
    fn jitter(&self, epoch: Epoch, keeper: &PublicKey) -> u64 {
        let parts: [&[u8]; 3] = [b"borgios jitter v1", &keeper.to_bytes(), &epoch.0.to_be_bytes()];
        let bytes = Digest::of_parts(&parts).0;
        let (head, _) = bytes.split_first_chunk().expect("a digest has 32 bytes");
        u64::from_be_bytes(*head) % (self.jitter_s() + 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use borgios_types::SecretKey;

    use super::*;
    use crate::schedule::{EPOCHS_MAX, INTERVAL_S_MAX};

    fn far((first, t0): (u64, u64), (interval_s, jitter_s): (u64, u64), count: usize) -> Schedule {
        let verifiers = (0..count).map(|i| format!("$y$j9T${i:022}${i:043}").parse().unwrap());
        let (begins, waits) = ((Epoch(first), UnixSeconds(t0)), (interval_s, jitter_s));
        Schedule::new(Digest::of(b"network"), begins, waits, verifiers.collect()).unwrap()
    }

    fn schedule(count: usize, interval_s: u64, jitter_s: u64) -> Schedule {
        far((10, 1_000), (interval_s, jitter_s), count)
    }

    fn keeper(seed: u8) -> PublicKey {
        SecretKey::from_seed([seed; 32]).public()
    }

    fn at(schedule: &Schedule, now: u64, orders: &Orders) -> Current {
        schedule.current(UnixSeconds(now), orders, &keeper(1))
    }

    fn minimum(epoch: u64) -> Orders {
        Orders { min_epoch: Epoch(epoch), min_since: UnixSeconds(1_020), ..Orders::default() }
    }

    #[test]
    fn the_clock_alone_goes_from_first_to_last_and_stays() {
        let s = schedule(10, 100, 0);
        for (now, epoch, due, next) in [
            (0, 10, 1_000, Some(1_100)),
            (1_000, 10, 1_000, Some(1_100)),
            (1_099, 10, 1_000, Some(1_100)),
            (1_100, 11, 1_100, Some(1_200)),
            (1_899, 18, 1_800, Some(1_900)),
            (1_900, 19, 1_900, None),
            (u64::MAX, 19, 1_900, None),
        ] {
            let current = at(&s, now, &Orders::default());
            assert_eq!((current.epoch.0, current.due.0), (epoch, due), "at {now}");
            assert_eq!(current.next.map(|next| next.0), next, "at {now}");
            assert_eq!(current.exhausted, now >= 1_900, "at {now}");
            assert_eq!(current.verifier, *s.verifier(current.epoch).unwrap());
            assert_eq!(s.by_clock(UnixSeconds(now)), current.epoch);
        }
        assert_eq!((s.ends().0, s.warns_from().0, s.last().0), (2_000, 1_900, 19));
    }

    #[test]
    fn jitter_spreads_a_fleet_within_its_window_and_is_the_same_each_time() {
        let s = schedule(4, 100, 99);
        let mut moments = BTreeSet::new();
        for seed in 0..50 {
            for index in 1..4 {
                let boundary = 1_000 + index * 100;
                let epoch = |now| s.current(UnixSeconds(now), &Orders::default(), &keeper(seed));
                let change = (boundary..boundary + 100)
                    .find(|now| epoch(*now).epoch.0 == 10 + index)
                    .expect("changes within the window");
                assert_eq!(epoch(change).due.0, change);
                assert_eq!(epoch(change - 1).next.unwrap().0, change);
                assert_eq!(epoch(change - 1).epoch.0, 10 + index - 1);
                moments.insert((index, change));
            }
        }
        assert!(moments.len() > 80, "{} of 150 moments differ", moments.len());
    }

    #[test]
    fn only_orders_lift_a_node_above_the_clock() {
        let s = schedule(10, 100, 0);
        let revealed = |epoch, until| Orders {
            revealed: vec![(Epoch(epoch), UnixSeconds(until))],
            ..Orders::default()
        };
        // An advance holds at once, until the clock overtakes it.
        let current = at(&s, 1_050, &minimum(12));
        assert_eq!((current.epoch.0, current.due.0, current.next.unwrap().0), (12, 1_020, 1_300));
        assert_eq!(at(&s, 1_300, &minimum(12)).epoch.0, 13);
        assert_eq!(at(&s, 1_050, &minimum(3)).epoch.0, 10);
        // A reveal lets its epoch end, not before its time, and may end it early.
        let current = at(&s, 1_050, &revealed(10, 1_060));
        assert_eq!((current.epoch.0, current.next.unwrap().0), (10, 1_060));
        let current = at(&s, 1_060, &revealed(10, 1_060));
        assert_eq!((current.epoch.0, current.due.0, current.next.unwrap().0), (11, 1_060, 1_200));
        // An old epoch's reveal changes nothing.
        assert_eq!(at(&s, 1_550, &revealed(10, 1_500)), at(&s, 1_550, &Orders::default()));
        // Beyond the schedule, both stop at its last epoch.
        for orders in [minimum(u64::MAX), revealed(u64::MAX, 0), revealed(19, 1)] {
            let current = at(&s, 1_050, &orders);
            assert_eq!((current.epoch.0, current.next, current.exhausted), (19, None, true));
        }
    }

    #[test]
    fn the_alarm_comes_with_the_last_tenth_of_time_or_epochs() {
        let s = schedule(90, 100, 0);
        assert!(!at(&s, s.warns_from().0 - 1, &Orders::default()).exhausted);
        assert!(at(&s, s.warns_from().0, &Orders::default()).exhausted);
        assert!(!at(&s, 1_000, &minimum(10 + 80)).exhausted);
        assert!(at(&s, 1_000, &minimum(10 + 81)).exhausted);
        let one = schedule(1, 100, 0);
        let current = at(&one, 0, &Orders::default());
        assert_eq!((current.epoch.0, current.next, current.exhausted), (10, None, true));
    }

    #[test]
    fn nothing_overflows() {
        let edge = [0, 1, 999, 1_000, 1_001, 1 << 52, u64::MAX - 1, u64::MAX];
        let edge_of_json = (1 << 52) - 1;
        let waits = (INTERVAL_S_MAX, INTERVAL_S_MAX - 1);
        let far = far((edge_of_json, edge_of_json), waits, EPOCHS_MAX);
        for s in [far, schedule(1, 1, 0), schedule(3, 100, 99)] {
            for (at, min) in edge.iter().flat_map(|at| edge.iter().map(move |min| (*at, *min))) {
                for edge in edge {
                    let revealed = vec![(Epoch(edge), UnixSeconds(edge))];
                    let orders = Orders { revealed, ..minimum(min) };
                    let current = s.current(UnixSeconds(at), &orders, &keeper(1));
                    assert!((s.first()..=s.last()).contains(&current.epoch));
                    assert!(current.next.is_none_or(|next| next.0 > at), "{at} {orders:?}");
                }
            }
            assert!(s.warns_from() <= s.ends());
        }
    }
}
