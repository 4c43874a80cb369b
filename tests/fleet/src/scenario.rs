//! The list of scenarios, and how one runs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use anyhow::Result;

/// Where a scenario tells its milestones.
pub type Say = dyn Fn(&str);

/// One story of servers, told to its end; each brings its own lab up and takes it down.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows, in one line.
    pub about: &'static str,
    /// It measures times or processors: nothing runs beside it.
    pub alone: bool,
    /// The story; `say` takes its milestones.
    pub run: fn(say: &Say) -> Result<()>,
}

/// The error of a scenario that cannot be told on this computer, for the reason it holds.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Skipped(pub String);

/// How a scenario ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The scenario's name.
    pub name: &'static str,
    /// Why it failed, or nothing.
    pub failure: Option<String>,
    /// Why it was left out, or nothing.
    pub skipped: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// Finds a scenario by name.
#[must_use]
pub fn find(name: &str) -> Option<Scenario> {
    every().find(|scenario| scenario.name == name)
}

/// All scenarios, also those that run only when they are named.
pub fn every() -> impl Iterator<Item = Scenario> {
    crate::scenarios::ALL.iter().chain(crate::scenarios::LONG).copied()
}

/// Runs one scenario; a panic in it is a failure like any other.
pub fn run(scenario: Scenario, say: &Say) -> Outcome {
    let began = Instant::now();
    let (failure, skipped) = match catch_unwind(AssertUnwindSafe(|| (scenario.run)(say))) {
        Ok(Ok(())) => (None, None),
        Ok(Err(error)) => match error.downcast_ref::<Skipped>() {
            Some(Skipped(why)) => (None, Some(why.clone())),
            None => (Some(format!("{error:#}")), None),
        },
        Err(panic) => (Some(format!("panicked: {}", words(&*panic))), None),
    };
    Outcome { name: scenario.name, failure, skipped, took: began.elapsed() }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_stand_there_once() {
        for scenario in every() {
            let same = every().filter(|other| other.name == scenario.name);
            assert_eq!(same.count(), 1, "{}", scenario.name);
            assert!(find(scenario.name).is_some());
        }
        assert!(find("no such scenario").is_none());
    }

    #[test]
    fn errors_and_panics_are_failures() {
        let bad = Scenario {
            name: "bad",
            about: "fails",
            alone: false,
            run: |_| anyhow::bail!("broken"),
        };
        assert_eq!(run(bad, &|_| ()).failure.as_deref(), Some("broken"));
        let left_out = |_: &Say| -> Result<()> { Err(Skipped("no mirror".to_owned()).into()) };
        let out = run(
            Scenario { name: "out", about: "is left out", alone: false, run: left_out },
            &|_| (),
        );
        assert_eq!((out.failure, out.skipped.as_deref()), (None, Some("no mirror")));
        let worse =
            Scenario { name: "worse", about: "panics", alone: false, run: |_| panic!("boom") };
        assert_eq!(run(worse, &|_| ()).failure.as_deref(), Some("panicked: boom"));
    }
}
