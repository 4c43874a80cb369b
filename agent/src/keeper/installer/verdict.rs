//! What a failure says: that the release has failed, or only that a disk is full.
//!
//! A unit that does not start, or is not well in time, says nothing about its release while there is no
//! room to write in: the step is done again later. Yet what fills the disk may be the release, and then
//! it must be taken back. So its units are stopped: if there is room afterwards, they took it. Where there
//! is none, what they wrote may still be what fills it: after [`PUT_OFF_MAX`] the release has failed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use borgios_policy::Name;
use borgios_releases::plan::KEEPER;
use borgios_releases::{Event, Journal};
use borgios_types::Time;
use tracing::{error, warn};

use super::moving::Mood;
use super::{InstallError, Installer, shorten};
use crate::keeper::host::HostError;
use crate::keeper::staging;

/// How long verdicts are put off for want of room before one falls.
pub(super) const PUT_OFF_MAX: Duration = Duration::from_secs(3_600);

/// How units end that start a service of their name.
const TRIGGERS: [&str; 3] = [".timer", ".socket", ".path"];

impl Installer {
    /// Holds a failure against the release, or against the disk.
    ///
    /// # Errors
    /// `StorageFull` where a disk is full whether or not the release runs. Its units are stopped then;
    /// the step that is done again starts them.
    pub(super) fn verdict(&self, journal: &Journal, reason: &str) -> io::Result<Event> {
        if self.host.is_full() {
            warn!(BORGIOS_EVENT = "disk_full", "failed on a full disk: {reason}");
            self.quiet(journal);
            let (full, now) = (self.host.is_full(), self.host.now());
            let since = *self.put_off().get_or_insert(now);
            if full && now.since(since) < PUT_OFF_MAX {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        *self.put_off() = None;
        Ok(Event::Failed(shorten(reason)))
    }

    fn put_off(&self) -> MutexGuard<'_, Option<Time>> {
        self.put_off.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a verdict. Where there is no room for that, what was judged stops filling the disk first.
    ///
    /// # Errors
    /// [`InstallError::Disk`]; the state is the one before, and its step starts what was stopped.
    pub(super) fn pass(&self, journal: &mut Journal, failed: Event) -> Result<(), InstallError> {
        match self.advance(journal, failed.clone()) {
            Err(InstallError::Disk(error)) if error.kind() == io::ErrorKind::StorageFull => {
                self.quiet(journal);
                self.advance(journal, failed)
            }
            done => done,
        }
    }

    /// Starts what changed where this process does not know it to run: it was stopped for want of room,
    /// by this process or by one before it that ended in between.
    pub(super) fn wake(&self, changed: &BTreeSet<Name>, mood: Mood) -> Result<(), HostError> {
        if self.started.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.restart_changed(changed, mood)
    }

    /// As [`Installer::wake`], for a set that stays whatever comes of it.
    pub(super) fn wake_anyway(&self, journal: &Journal) {
        if let Err(error) = self.wake(&journal.changed(), Mood::Stoic) {
            error!(BORGIOS_EVENT = "restart_incomplete", %error, "could not start all again");
        }
    }

    /// Stops the units of what changed, but the keeper's: somebody must be left to go on. What the links
    /// do not name, or name no more on the way back, does not run or is not at fault. This never fails.
    pub(super) fn quiet(&self, journal: &Journal) {
        self.started.store(false, Ordering::Relaxed);
        let Some(release) = journal.under_way() else { return };
        let running = Self::running(&self.paths).unwrap_or_else(|error| {
            warn!(%error, "cannot read what runs");
            BTreeMap::new()
        });
        for name in journal.changed().iter().filter(|name| **name != KEEPER) {
            let Some(digest) = release.components.get(name.as_str()) else { continue };
            if running.get(name) != Some(digest) {
                continue;
            }
            let units = staging::read_info(&self.paths.stored(digest)).map(|info| info.restart);
            let units = units.unwrap_or_else(|error| {
                warn!(%error, "cannot read which units of {name} to stop");
                Vec::new()
            });
            // What fills the disk may be what a timer or a socket started, and starts again with it.
            let started = units.iter().filter_map(|unit| {
                let stem = TRIGGERS.iter().find_map(|ending| unit.strip_suffix(ending))?;
                Some(format!("{stem}.service"))
            });
            let started: Vec<String> = started.filter(|unit| !units.contains(unit)).collect();
            for unit in units.into_iter().chain(started) {
                if let Err(error) = self.host.stop(&unit) {
                    error!(BORGIOS_EVENT = "stop_failed", %error, "{unit} did not stop");
                }
            }
        }
    }
}
