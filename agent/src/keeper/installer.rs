//! The installer: does what the journal's state says, on this host.
//!
//! ```text
//! stage ─▶ [journal] ─▶ move links, restart units ─▶ [journal] ─▶ probe ─▶ [journal] ─▶ tidy
//!                                   │ failed                        │ failed
//!                                   └────────────▶ move back ◀──────┘
//! ```
//!
//! The states and what follows what stand in `borgios_releases::plan`; here each step is done in
//! such a way that doing it again after a crash changes nothing. Failures of the disk are no
//! verdict about a release: the state stays, and the step is done again later. What a failure on a full
//! disk says, `verdict` finds out.

mod moving;
mod probation;
mod successor;
mod tidying;
mod verdict;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use borgios_policy::Name;
use borgios_releases::plan::Ended;
use borgios_releases::{Event, Installed, Journal, Manifest, Step};
use borgios_types::{Digest, Seq, Time};
use thiserror::Error;
use tracing::{error, info};

use super::host::{Host, HostError};
use super::ledger::{self, Lock};
use super::paths::Paths;
use super::staging::{self, StageError};
use crate::clock::unix_now;

use probation::Unwell;
pub(super) use tidying::make_room;

/// Who moves the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// The keeper itself: it replaces itself by ending, and systemd starts its successor.
    Keeper,
    /// A person's command beside it: the keeper is a unit like any other.
    Beside,
}

/// How a run of the installer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Run {
    /// Nothing is under way any more.
    Done(Option<Ended>),
    /// The keeper's own program changed: this process must end now, and the next one goes on.
    ReplaceKeeper,
}

/// Why an install was not begun, or not gone on with for now.
#[derive(Debug, Error)]
pub enum InstallError {
    /// A component is missing or wrong. If the release itself is at fault, it was marked.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The disk; the same step is done again later.
    #[error("the disk failed, nothing is lost: {0}")]
    Disk(#[from] io::Error),
}

impl InstallError {
    /// The stable name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Stage(error) => error.code(),
            Self::Disk(_) => "disk",
        }
    }
}

/// Drives the journal of one host.
pub struct Installer {
    paths: Paths,
    host: Box<dyn Host>,
    seat: Seat,
    /// Whether this process has already counted itself among those that went on with an install:
    /// a step that a full disk held up is no second start.
    counted: AtomicBool,
    /// Whether this process started the units of what is under way and has not stopped them since.
    started: AtomicBool,
    /// Since when verdicts are put off for want of room.
    put_off: Mutex<Option<Time>>,
    /// The keeper whose units systemd had read when this process began, once that was looked up.
    started_with: OnceLock<Option<Digest>>,
}

impl std::fmt::Debug for Installer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Installer").field("seat", &self.seat).finish_non_exhaustive()
    }
}

impl Installer {
    /// An installer that has done nothing yet.
    #[must_use]
    pub fn new(paths: Paths, host: Box<dyn Host>, seat: Seat) -> Self {
        let (counted, started) = (AtomicBool::new(false), AtomicBool::new(false));
        let (put_off, started_with) = (Mutex::default(), OnceLock::new());
        Self { paths, host, seat, counted, started, put_off, started_with }
    }

    /// Goes on with what an earlier process left unfinished. Waits for whoever moves the journal.
    /// `newest` is asked as [`Installer::install`] asks it.
    ///
    /// # Errors
    /// [`InstallError::Disk`]; call it again.
    pub fn resume(&self, newest: &dyn Fn(&Digest) -> bool) -> Result<Run, InstallError> {
        let _lock = Lock::take(&self.paths)?;
        self.resume_locked(newest)
    }

    /// Installs the complete set that a verified release names, to the end.
    ///
    /// `newest` says whether a release is still the head of its lane. It is asked before anything is
    /// switched, of the very release that the journal holds: one that was staged before this one, and
    /// that the board has overtaken or overruled meanwhile, is never begun. A release that is
    /// installed already is left as it is.
    ///
    /// # Errors
    /// See [`InstallError`]; what runs is what ran before, or the journal says how to go on.
    pub fn install(
        &self,
        manifest: &Manifest,
        seq: Seq,
        id: Digest,
        newest: &dyn Fn(&Digest) -> bool,
    ) -> Result<Run, InstallError> {
        let _lock = Lock::take(&self.paths)?;
        if let Run::ReplaceKeeper = self.resume_locked(newest)? {
            return Ok(Run::ReplaceKeeper);
        }
        let journal = ledger::read(&self.paths)?;
        if let Journal::Idle { installed: Some(installed), last } = &journal
            && installed.id == id
        {
            return Ok(Run::Done(last.clone()));
        }
        // What was gone on with just now may have been this very release, and it has failed.
        if let Journal::Idle { last, .. } = &journal
            && ledger::is_marked(&self.paths, &id)
        {
            return Ok(Run::Done(last.clone()));
        }
        let release = Installed {
            seq,
            id,
            version: manifest.version.clone(),
            floor: manifest.floor,
            components: manifest.components.iter().map(|c| (c.name.clone(), c.digest)).collect(),
        };
        info!(
            BORGIOS_EVENT = "staging",
            BORGIOS_LANE = "release",
            BORGIOS_SEQ = seq.0,
            "staging release/{seq}, version {}",
            release.version
        );
        make_room(&self.paths, &journal, manifest);
        ledger::keep_spare(&self.paths)?;
        match staging::stage(&self.paths, &*self.host, manifest) {
            Ok(_) => self.advance(&mut journal.clone(), Event::Staged(release))?,
            Err(error) if error.is_final() => {
                let reason = error.to_string();
                ledger::mark(&self.paths, &id, &reason)?;
                let event = Event::Refused { release, reason, at: unix_now() };
                self.advance(&mut journal.clone(), event)?;
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        }
        self.drive(ledger::read(&self.paths)?, newest)
    }

    /// What runs, by the links.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn running(paths: &Paths) -> io::Result<BTreeMap<Name, Digest>> {
        let mut running = BTreeMap::new();
        for name in staging::files(&paths.current)? {
            let target = match fs::read_link(paths.current.join(&name)) {
                // Gone, or no link: nothing of ours.
                Err(error)
                    if [io::ErrorKind::NotFound, io::ErrorKind::InvalidInput]
                        .contains(&error.kind()) =>
                {
                    continue;
                }
                other => other?,
            };
            let digest = target.file_name().and_then(|hex| hex.to_str());
            let digest = digest.and_then(|hex| Digest::from_hex(hex).ok());
            if let (Ok(name), Some(digest)) = (name.parse(), digest) {
                running.insert(name, digest);
            }
        }
        Ok(running)
    }

    fn resume_locked(&self, newest: &dyn Fn(&Digest) -> bool) -> Result<Run, InstallError> {
        let mut journal = ledger::read(&self.paths)?;
        if !self.counted.swap(true, Ordering::Relaxed)
            && let Some(release) = journal.under_way()
        {
            info!(
                BORGIOS_EVENT = "resumed",
                BORGIOS_SEQ = release.seq.0,
                "going on with release/{} at {}",
                release.seq,
                journal.name()
            );
            if journal.clone().after(Event::Resumed) != journal {
                self.advance(&mut journal, Event::Resumed)?;
            }
        }
        self.drive(journal, newest)
    }

    /// Does step after step until nothing is under way.
    fn drive(
        &self,
        mut journal: Journal,
        newest: &dyn Fn(&Digest) -> bool,
    ) -> Result<Run, InstallError> {
        loop {
            let event = match journal.step() {
                Step::Nothing => {
                    let Journal::Idle { last, .. } = journal else {
                        unreachable!("only an idle journal has nothing to do")
                    };
                    return Ok(Run::Done(last));
                }
                Step::Begin if journal.under_way().is_some_and(|to| newest(&to.id)) => Event::Begun,
                Step::Begin => Event::Superseded,
                Step::Switch(to) => match self.switch(&to) {
                    Ok(moving::Moved::Done) => Event::Switched,
                    Ok(moving::Moved::ReplaceKeeper) => return Ok(Run::ReplaceKeeper),
                    Err(HostError::Disk(error)) => return Err(error.into()),
                    Err(taken @ HostError::Taken(_)) => Event::Failed(shorten(&taken.to_string())),
                    Err(failed) => self.verdict(&journal, &failed.to_string())?,
                },
                Step::Probe(components) => match self.probe(&journal.changed(), &components) {
                    Ok(()) => Event::Healthy,
                    Err(Unwell::Disk(error)) => return Err(error.into()),
                    Err(Unwell::Sick(reason)) => self.verdict(&journal, &reason)?,
                },
                Step::Tidy(keep) => {
                    // It stays although it is not well: what was stopped for want of room runs again.
                    if let Journal::Committed { unwell: Some(_), .. } = &journal {
                        self.wake_anyway(&journal);
                    }
                    tidying::tidy(&self.paths, &keep);
                    Event::Tidied(unix_now())
                }
                Step::Restore { mark, back } => {
                    let reason = match &journal {
                        Journal::RolledBack { reason, .. } => reason.as_str(),
                        _ => "",
                    };
                    let moved = ledger::mark(&self.paths, &mark, reason)
                        .and_then(|()| self.move_back(&back))
                        .inspect_err(|error| {
                            // What failed must not go on filling the disk that its way back needs.
                            if error.kind() == io::ErrorKind::StorageFull {
                                self.quiet(&journal);
                            }
                        })?;
                    match moved {
                        moving::Moved::Done => Event::Restored(unix_now()),
                        moving::Moved::ReplaceKeeper => return Ok(Run::ReplaceKeeper),
                    }
                }
            };
            if matches!(event, Event::Failed(_)) {
                self.pass(&mut journal, event)?;
            } else {
                self.advance(&mut journal, event)?;
            }
        }
    }

    /// Writes the next state, then says so.
    fn advance(&self, journal: &mut Journal, event: Event) -> Result<(), InstallError> {
        let next = journal.clone().after(event);
        ledger::write(&self.paths, &next)?;
        say(journal, &next);
        *journal = next;
        Ok(())
    }
}

/// One line of the system's journal for every state.
fn say(before: &Journal, after: &Journal) {
    let release = after.under_way().or_else(|| before.under_way());
    let seq = release.map_or(Seq(0), |release| release.seq);
    match after {
        Journal::Idle { last: Some(last), .. } => {
            let outcome = match last.outcome {
                borgios_releases::Outcome::Committed => "committed",
                borgios_releases::Outcome::RolledBack => "rolled_back",
                borgios_releases::Outcome::Refused => "refused",
            };
            let reason = last.reason.as_deref().unwrap_or("well");
            info!(
                BORGIOS_EVENT = "installed",
                BORGIOS_LANE = "release",
                BORGIOS_SEQ = last.seq.0,
                BORGIOS_OUTCOME = outcome,
                BORGIOS_MESSAGE = reason,
                "release/{} is done: {outcome}, {reason}",
                last.seq
            );
        }
        Journal::RolledBack { reason, .. } => error!(
            BORGIOS_EVENT = "install_step",
            BORGIOS_LANE = "release",
            BORGIOS_SEQ = seq.0,
            BORGIOS_STEP = after.name(),
            BORGIOS_MESSAGE = reason.as_str(),
            "release/{seq} failed: {reason}; going back"
        ),
        Journal::Idle { last: None, .. }
        | Journal::Staged { .. }
        | Journal::Switched { .. }
        | Journal::Probation { .. }
        | Journal::Committed { .. } => info!(
            BORGIOS_EVENT = "install_step",
            BORGIOS_LANE = "release",
            BORGIOS_SEQ = seq.0,
            BORGIOS_STEP = after.name(),
            "release/{seq}: {}",
            after.name()
        ),
    }
}

/// A reason that fits into a report.
fn shorten(text: &str) -> String {
    text.chars().take(500).collect()
}
