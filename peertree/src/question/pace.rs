//! A token bucket: how often one neighbour may ask for something.

use std::time::Duration;

use borgios_types::Time;

/// Allows `burst` in a row, and then one in every `pace`.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    burst: u32,
    pace: Duration,
    left: u32,
    /// Since when the next token grows.
    since: Time,
}

impl Pace {
    /// A full bucket.
    #[must_use]
    pub fn new(now: Time, burst: u32, pace: Duration) -> Self {
        Self { burst, pace, left: burst, since: now }
    }

    /// Takes a token; returns whether there was one.
    pub fn take(&mut self, now: Time) -> bool {
        let pace = u64::try_from(self.pace.as_millis()).unwrap_or(u64::MAX).max(1);
        let grown = now.0.saturating_sub(self.since.0) / pace;
        let left = u64::from(self.left).saturating_add(grown).min(u64::from(self.burst));
        self.left = u32::try_from(left).unwrap_or(self.burst);
        // A full bucket grows nothing that could be saved up.
        self.since = if self.left == self.burst { now } else { Time(self.since.0 + grown * pace) };
        let taken = self.left > 0;
        self.left = self.left.saturating_sub(1);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_pace() {
        let mut pace = Pace::new(Time(0), 3, Duration::from_millis(100));
        let taken = |pace: &mut Pace, now| (0..10).filter(|_| pace.take(Time(now))).count();
        assert_eq!(taken(&mut pace, 0), 3);
        assert_eq!(taken(&mut pace, 99), 0);
        assert_eq!(taken(&mut pace, 100), 1);
        assert_eq!(taken(&mut pace, 350), 2);
        assert_eq!(taken(&mut pace, 1_000_000), 3, "no more than a burst is saved up");
    }

    #[test]
    fn in_the_long_run_no_more_than_the_pace_whatever_the_rhythm() {
        for step in [1, 7, 99, 100, 101, 250] {
            let mut pace = Pace::new(Time(0), 4, Duration::from_millis(100));
            let taken = (0..100_000 / step).filter(|at| pace.take(Time(at * step))).count();
            assert!(taken as u64 <= 4 + 100_000 / 100, "step {step}: {taken}");
            let least = (100_000 / 100).min(100_000 / step) - 4;
            assert!(taken as u64 >= least, "step {step}: {taken}");
        }
    }
}
