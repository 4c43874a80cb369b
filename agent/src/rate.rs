//! How fast a source must give, judged from window to window: a bound on the whole alone would let who
//! trickles hold a large blob up for as long as an honest slow one needs for it.

use std::time::Duration;

use tokio::time::Instant;

/// What a source gave in the window that is open, and what it must give.
#[derive(Debug)]
pub(crate) struct Rate {
    /// Bytes a second below which it is left; 0 asks for nothing.
    least: u64,
    window: Duration,
    end: Instant,
    /// Bytes that came in this window.
    came: u64,
}

/// Too slow in one window: so many bytes a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Below(pub(crate) u64);

impl Rate {
    /// From now on at least `least` bytes a second in each `window`.
    pub(crate) fn new(least: u64, window: Duration) -> Self {
        Self { least, window, end: Instant::now() + window, came: 0 }
    }

    /// Counts bytes that came.
    pub(crate) fn came(&mut self, bytes: usize) {
        self.came = self.came.saturating_add(bytes as u64);
    }

    /// Waits for what comes next, but not beyond a window in which too little came.
    pub(crate) async fn next<T>(&mut self, coming: impl Future<Output = T>) -> Result<T, Below> {
        // What is always there at once ends windows too.
        if Instant::now() >= self.end {
            self.turn()?;
        }
        tokio::pin!(coming);
        loop {
            match tokio::time::timeout_at(self.end, &mut coming).await {
                Ok(came) => return Ok(came),
                Err(_) => self.turn()?,
            }
        }
    }

    /// Judges the window that ended and opens the next one.
    fn turn(&mut self) -> Result<(), Below> {
        let window_ms = u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = self.came.saturating_mul(1000) / window_ms;
        if rate < self.least {
            return Err(Below(rate));
        }
        (self.came, self.end) = (0, Instant::now() + self.window);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[tokio::test]
    async fn a_source_is_left_in_the_first_window_in_which_too_little_came() {
        let window = Duration::from_millis(500);
        let mut rate = Rate::new(1_000, window);
        rate.came(499);
        assert_eq!(rate.next(ready(7)).await, Ok(7), "the window is not over");
        assert_eq!(rate.next(pending::<()>()).await, Err(Below(998)));
        let mut rate = Rate::new(1_000, window);
        rate.came(500);
        assert_eq!(rate.next(pending::<()>()).await, Err(Below(0)), "the second one");
    }

    #[tokio::test]
    async fn who_is_the_last_is_waited_for_through_many_windows() {
        let window = Duration::from_millis(5);
        let mut rate = Rate::new(0, window);
        let late = tokio::time::sleep(4 * window);
        assert_eq!(rate.next(late).await, Ok(()));
    }
}
