//! Probation: a new set stays if every component shows in time that it is well.
//!
//! A component with a health command is well when the command ends with 0, first within
//! `deadline_s` and from then on for `stable_s`. One without is well when none of its units has
//! failed, or is still coming and going, for a few seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use borgios_policy::Name;
use borgios_releases::Health;
use borgios_types::{Digest, Time};

use super::Installer;
use super::moving::{Mood, later};
use crate::keeper::host::{Activity, HostError};
use crate::keeper::staging;

/// Pause between two rounds of health commands.
const ROUND: Duration = Duration::from_millis(500);
/// In what time a component without a health command must have settled.
const SETTLE: Duration = Duration::from_secs(30);
/// How long it must then stay so.
const SETTLED: Duration = Duration::from_secs(3);

/// One component on probation.
struct Candidate {
    name: Name,
    test: Test,
    deadline: Duration,
    stable: Duration,
    /// Since when it has been well without a break.
    well: Option<Time>,
}

enum Test {
    Command(Vec<String>),
    Units(Vec<String>),
}

/// Why a set has not passed.
pub(super) enum Unwell {
    /// The disk; another look is worth it.
    Disk(io::Error),
    /// A component: which, and what it said last.
    Sick(String),
}

impl Installer {
    /// Watches every component until all have passed, or one has not. `changed` are those whose units
    /// were restarted; what was stopped of them since is started first.
    ///
    /// # Errors
    /// See [`Unwell`].
    pub(super) fn probe(
        &self,
        changed: &BTreeSet<Name>,
        components: &BTreeMap<Name, Digest>,
    ) -> Result<(), Unwell> {
        let mut candidates = Vec::new();
        for name in components.keys() {
            candidates.push(self.candidate(name)?);
        }
        self.wake_in_time(changed, &candidates)?;
        let start = self.host.now();
        loop {
            let mut passed = true;
            for candidate in &mut candidates {
                passed &= self.look(candidate, start).map_err(Unwell::Sick)?;
            }
            if passed {
                return Ok(());
            }
            self.host.pause(ROUND);
        }
    }

    /// Starts what changed, and again while that fails: after a boot, what it needs may come up later. For
    /// that it has as long as to become well.
    fn wake_in_time(
        &self,
        changed: &BTreeSet<Name>,
        candidates: &[Candidate],
    ) -> Result<(), Unwell> {
        let deadlines = candidates.iter().filter(|one| changed.contains(&one.name));
        let deadline = deadlines.map(|one| one.deadline).max().unwrap_or_default();
        let start = self.host.now();
        loop {
            match self.wake(changed, Mood::Lenient) {
                Ok(()) => return Ok(()),
                Err(failed @ HostError::Disk(_)) => return Err(Unwell::Disk(later(failed))),
                // On a full disk there is nothing to wait for; what that says is another question.
                Err(failed) if self.host.is_full() || self.host.now().since(start) >= deadline => {
                    return Err(Unwell::Sick(failed.to_string()));
                }
                Err(_) => self.host.pause(ROUND),
            }
        }
    }

    fn candidate(&self, name: &Name) -> Result<Candidate, Unwell> {
        let info =
            staging::read_info(&self.paths.linked(name)).map_err(|error| match error.kind() {
                // It was whole when it was staged, and no disk mends that by itself.
                io::ErrorKind::NotFound | io::ErrorKind::InvalidData => {
                    Unwell::Sick(format!("component {name} cannot be read: {error}"))
                }
                _ => Unwell::Disk(error),
            })?;
        let name = name.clone();
        Ok(match info.health {
            Some(health) => {
                let (deadline, stable) = (health.deadline(), health.stable());
                let test = Test::Command(self.inside(health));
                Candidate { name, test, deadline, stable, well: None }
            }
            None => {
                // A set without units to watch is well at once.
                let stable = if info.restart.is_empty() { Duration::ZERO } else { SETTLED };
                let test = Test::Units(info.restart);
                Candidate { name, test, deadline: SETTLE, stable, well: None }
            }
        })
    }

    /// The command as it is found on this host.
    fn inside(&self, mut health: Health) -> Vec<String> {
        if let Some(program) = health.command.first_mut() {
            *program = self.paths.inside(program).to_string_lossy().into_owned();
        }
        health.command
    }

    /// Looks once; true when it has been well for long enough.
    fn look(&self, candidate: &mut Candidate, start: Time) -> Result<bool, String> {
        let Candidate { name, test, deadline, stable, well } = candidate;
        if well.is_some_and(|since| self.host.now().since(since) >= *stable) {
            return Ok(true);
        }
        let found = match test {
            Test::Command(command) => self.host.health(command).map_err(|error| error.to_string()),
            Test::Units(units) => units.iter().try_for_each(|unit| self.settled(unit)),
        };
        let now = self.host.now();
        match found {
            Ok(()) => {
                let since = *well.get_or_insert(now);
                Ok(now.since(since) >= *stable)
            }
            Err(said) if now.since(start) >= *deadline => {
                Err(format!("{name} is not well after {} s: {said}", deadline.as_secs()))
            }
            Err(_) => {
                *well = None;
                Ok(false)
            }
        }
    }

    fn settled(&self, unit: &str) -> Result<(), String> {
        match self.host.activity(unit) {
            Ok(Activity::Well) => Ok(()),
            Ok(Activity::Failed) => Err(format!("{unit} has failed")),
            Ok(Activity::Unsettled) => Err(format!("{unit} does not settle")),
            Err(error) => Err(error.to_string()),
        }
    }
}
