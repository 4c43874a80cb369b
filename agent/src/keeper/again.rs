//! Doing something again until it succeeds: where nobody else would do it again, and a process
//! without it is worth more than none.

use std::fmt::Display;
use std::time::Duration;

/// The first pause; it doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Attempts it until it succeeds; only the end of the process ends it sooner. `say` hears of a
/// failure that is another one than the last, `pause` waits.
pub(super) fn until_done<T, E: Display>(
    mut attempt: impl FnMut() -> Result<T, E>,
    mut say: impl FnMut(&E),
    mut pause: impl FnMut(Duration),
) -> T {
    let mut wait = PAUSE;
    let mut said: Option<String> = None;
    loop {
        let error = match attempt() {
            Ok(done) => return done,
            Err(error) => error,
        };
        let text = error.to_string();
        if said.as_ref() != Some(&text) {
            say(&error);
            said = Some(text);
        }
        pause(wait);
        wait = PAUSE_MAX.min(wait * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_pauses_longer_each_time_and_says_what_is_new() {
        let mut answers = ["full", "full", "full", "gone", "gone", "full", "full"].into_iter();
        let (mut said, mut pauses) = (Vec::new(), Vec::new());
        let attempt = || answers.next().map_or(Ok("done"), Err::<&str, &str>);
        let say = |error: &&str| said.push(error.to_string());
        let done = until_done(attempt, say, |time| pauses.push(time.as_millis()));
        assert_eq!(done, "done");
        assert_eq!(said, ["full", "gone", "full"]);
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000]);
    }
}
