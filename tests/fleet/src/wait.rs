//! Waiting for a condition with a bound: scenarios never sleep and hope.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Longest that anything may take which takes a moment on a computer that has nothing else to do.
/// A bound is no expectation: it is there so that a story ends, and whoever asserts how long
/// something takes measures it.
pub const SOON: Duration = Duration::from_secs(120);
/// Time between two looks at a condition.
const POLL: Duration = Duration::from_millis(100);

/// Waits until `probe` finds a value, and returns it.
///
/// `Ok(None)` and errors both mean "not yet": a server that boots refuses connections. The last
/// error stands in the message when the bound passes.
///
/// # Errors
/// `bound` passed first; the message names `what` was waited for.
pub fn until<T>(
    what: &str,
    bound: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + bound;
    loop {
        let seen = probe();
        if let Ok(Some(value)) = seen {
            return Ok(value);
        }
        if Instant::now() >= end {
            match seen {
                Err(error) => bail!("{what}: not within {} s; last: {error:#}", bound.as_secs()),
                Ok(_) => bail!("{what}: not within {} s", bound.as_secs()),
            }
        }
        std::thread::sleep(POLL);
    }
}

/// Waits until `probe` says yes.
///
/// # Errors
/// As [`until`].
pub fn until_true(
    what: &str,
    bound: Duration,
    mut probe: impl FnMut() -> Result<bool>,
) -> Result<()> {
    until(what, bound, || Ok(probe()?.then_some(())))
}

/// Watches that `probe` says yes all along `during`: for what must not happen.
///
/// # Errors
/// A look at which it said no, or could not look.
pub fn holds(what: &str, during: Duration, mut probe: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + during;
    while Instant::now() < end {
        if !probe()? {
            bail!("{what}: no longer true");
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_value_found_comes_back() {
        let mut looks = 0;
        let found = until("third look", Duration::from_secs(30), || {
            looks += 1;
            if looks < 2 { bail!("not there") } else { Ok((looks > 2).then_some(looks)) }
        });
        assert_eq!(found.unwrap(), 3);
    }

    #[test]
    fn a_bound_that_passes_names_what_was_missing() {
        let error = until_true("pigs fly", SHORT, || bail!("no wings")).unwrap_err().to_string();
        assert_eq!(error, "pigs fly: not within 0 s; last: no wings");
    }

    #[test]
    fn a_condition_that_breaks_is_noticed() {
        assert!(holds("peace", Duration::from_secs(30), || Ok(false)).is_err());
        assert!(holds("peace", SHORT, || Ok(true)).is_ok());
    }
}
