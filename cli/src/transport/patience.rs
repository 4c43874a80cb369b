//! How long one run waits for one place.
//!
//! ```text
//! what it tells of its objects          10 min   ┐ of each place, 40 min in all, and never more than
//! what it is brought, and all blobs     30 min   ┘ one answer longer
//!   of these, one blob or one upload    1 min and its size at 32 KiB/s
//! ```
//!
//! Without an end a place that answers just in time each time would hold a governor's command, and with
//! it the folder's lock, for as long as it likes. What came before the end counts.

use std::time::{Duration, Instant};

/// Longest that one run waits for what one place tells of its objects. At [`RATE_MIN`] that is 19 MB,
/// far more than a sync brings after the first one; the next run goes on from there, since what came is
/// not sent again.
pub(super) const FETCHING_MAX: Duration = Duration::from_secs(10 * 60);

/// Longest that one run waits for all else at one place: as long as a node itself keeps up one connection
/// that asks for blobs, and more than the largest escrow takes at [`RATE_MIN`].
pub(super) const BRINGING_MAX: Duration = Duration::from_secs(30 * 60);

/// Slowest rate at which blobs are waited for, in bytes a second: a line of 256 kbit/s.
pub(super) const RATE_MIN: u64 = 32 * 1024;

/// What every blob may take besides: connecting, and a node that looks through its own copy first.
const BLOB_BASE: Duration = Duration::from_secs(60);

/// What is left of the time that one run has for one place. Only waiting for that place uses it up: not
/// other places, and not the person at the terminal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience(Duration);

impl Patience {
    /// So much.
    pub(super) fn of(left: Duration) -> Self {
        Self(left)
    }

    /// Whether none is left.
    pub(super) fn is_over(self) -> bool {
        self.0.is_zero()
    }

    /// Does what waits for the place, and tells it until when: `at_most` from now, or as much as is left.
    pub(super) fn during<T>(&mut self, at_most: Duration, work: impl FnOnce(Instant) -> T) -> T {
        let begun = Instant::now();
        let done = work(begun + self.0.min(at_most));
        self.0 = self.0.saturating_sub(begun.elapsed());
        done
    }
}

/// Longest that a blob of so many bytes is waited for, as they are on the line.
pub(super) fn of_blob(size: u64) -> Duration {
    BLOB_BASE + Duration::from_secs(size / RATE_MIN)
}

/// Whether it is too late.
pub(super) fn is_past(until: Instant) -> bool {
    Instant::now() >= until
}

#[cfg(test)]
mod tests {
    use borgios_credentials::escrow::ESCROW_MAX;

    use super::*;

    #[test]
    fn waiting_uses_it_up_and_nothing_else_does() {
        let mut patience = Patience::of(Duration::from_millis(30));
        let wait = |until: Instant| {
            std::thread::sleep(Duration::from_millis(20));
            until
        };
        let begun = Instant::now();
        let until = patience.during(Duration::from_secs(9), wait);
        assert!(until < begun + Duration::from_secs(9), "no longer than what is left");
        let left = patience.0;
        assert!(left <= Duration::from_millis(10), "{left:?}");
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(patience.0, left);
        patience.during(Duration::from_secs(9), wait);
        assert!(patience.is_over());
    }

    /// On the slowest line that is meant, a run brings what one governor may have it bring.
    #[test]
    fn the_largest_escrow_has_time_enough() {
        let largest = of_blob(ESCROW_MAX as u64);
        assert!(2 * largest < BRINGING_MAX, "{largest:?}");
        assert_eq!(of_blob(0), BLOB_BASE);
    }
}
