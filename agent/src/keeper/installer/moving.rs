//! From one set of components to another: links, accounts, folders, units.
//!
//! ```text
//! 1 link current/<name> → store/<hex>     4 daemon-reload
//! 2 make accounts and folders             5 the keeper first, if it changed
//! 3 link units; unlink what is gone       6 restart the units of what changed
//! ```
//!
//! A unit or fragment is linked, never copied, so that a link in `current/` moves all of a
//! component at once. `.service` files are wanted by multi-user.target unless a socket or timer of
//! the same name starts them; `.socket` by sockets.target, `.timer` by timers.target.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use borgios_policy::Name;
use borgios_releases::Move;
use borgios_releases::plan::KEEPER;
use tracing::{error, warn};

use super::{Installer, Seat};
use crate::keeper::host::HostError;
use crate::keeper::staging::{self, files};

/// How long the machine's own tools may fail before a release has failed with them.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two tries.
const AGAIN: Duration = Duration::from_secs(2);

/// How far a move came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// All of it.
    Done,
    /// Up to the keeper's own replacement, which must go on with it.
    ReplaceKeeper,
}

/// What to do about a unit that does not start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// Stop: the release has failed.
    Strict,
    /// As [`Mood::Strict`], but what was only too slow, as while a server starts, shows in how it fares.
    Lenient,
    /// Say so and go on: there is nothing better to go back to.
    Stoic,
}

impl Installer {
    /// Towards a new release.
    pub(super) fn switch(&self, to: &Move) -> Result<Moved, HostError> {
        self.go(to, Mood::Strict)
    }

    /// Back to the old one; only the disk can stop this, and then it is done again.
    pub(super) fn move_back(&self, to: &Move) -> io::Result<Moved> {
        self.go(to, Mood::Stoic).map_err(later)
    }

    fn go(&self, to: &Move, mood: Mood) -> Result<Moved, HostError> {
        // Looked up before this process changes it.
        self.started_with()?;
        fs::create_dir_all(&self.paths.current)?;
        fs::create_dir_all(&self.paths.units)?;
        fs::create_dir_all(&self.paths.tmpfiles)?;
        // 1. What runs.
        for (name, digest) in &to.link {
            let target = Path::new("../store").join(digest.hex());
            self.host.link(&self.paths.linked(name), &target)?;
        }
        // 2. Accounts and folders, before a unit needs them.
        for name in &to.changed {
            let component = self.paths.linked(name);
            for file in files(&component.join("sysusers.d"))? {
                let fragment = component.join("sysusers.d").join(file);
                self.ask_machine(mood, || self.host.sysusers(&fragment))?;
            }
            for file in files(&component.join("tmpfiles.d"))? {
                let fragment = component.join("tmpfiles.d").join(file);
                self.ask_machine(mood, || self.host.tmpfiles(&fragment))?;
            }
        }
        // 3. Units and fragments: first those that go, then those that come.
        let wanted = self.wanted(to)?;
        self.unlink_units(&wanted)?;
        for name in &to.drop {
            self.host.unlink(&self.paths.linked(name))?;
        }
        for (link, target) in &wanted.links {
            if is_foreign(link, &self.paths.current)? {
                let taken = HostError::Taken(link.display().to_string());
                bear(mood, Err(taken))?;
                continue;
            }
            if let Some(folder) = link.parent() {
                fs::create_dir_all(folder)?;
            }
            self.host.link(link, target)?;
        }
        // 4. systemd learns of it.
        self.ask_machine(Mood::Strict, || self.host.reload())?;
        self.note_loaded()?;
        // 5. The keeper goes on as its own successor.
        if self.seat == Seat::Keeper && !self.is_current()? {
            return Ok(Moved::ReplaceKeeper);
        }
        // 6. What changed, runs anew.
        self.restart_changed(&to.changed, mood)?;
        Ok(Moved::Done)
    }

    /// Restarts the units of what changed; the keeper first, since others talk to it.
    pub(super) fn restart_changed(
        &self,
        changed: &BTreeSet<Name>,
        mood: Mood,
    ) -> Result<(), HostError> {
        let (keeper, others): (Vec<_>, Vec<_>) = changed.iter().partition(|name| **name == KEEPER);
        for name in keeper.into_iter().chain(others) {
            if *name == KEEPER && self.seat == Seat::Keeper {
                continue;
            }
            for unit in staging::read_info(&self.paths.linked(name))?.restart {
                bear(mood, self.host.restart(&unit))?;
            }
        }
        self.started.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Asks for what the machine's own tools do. That they fail once says nothing about a release: another
    /// program holds the accounts, systemd starts anew, the disk is full. The last is waited for like any
    /// full disk; all else for a while, and only then it is held against whoever asked. On the way back
    /// what ran before had its accounts and folders, and must not wait for them.
    fn ask_machine(
        &self,
        mood: Mood,
        ask: impl Fn() -> Result<(), HostError>,
    ) -> Result<(), HostError> {
        if mood == Mood::Stoic {
            return bear(mood, ask());
        }
        let start = self.host.now();
        loop {
            let failed = match ask() {
                Err(failed @ HostError::Command { .. }) => failed,
                done => return done,
            };
            if self.host.is_full() {
                return Err(HostError::Disk(io::ErrorKind::StorageFull.into()));
            }
            if self.host.now().since(start) >= PATIENCE {
                return Err(failed);
            }
            warn!(BORGIOS_EVENT = "machine_busy", error = %failed, "asked again in a moment");
            self.host.pause(AGAIN);
        }
    }

    /// Every link that must be there for a set, outside `current/`.
    fn wanted(&self, to: &Move) -> Result<Wanted, HostError> {
        let mut wanted = Wanted::default();
        // The keeper stays whatever the set says, and so do its units.
        let keeper = KEEPER.parse().expect("a constant name");
        let names = to.link.keys().chain([&keeper]).collect::<BTreeSet<_>>();
        for name in names {
            let component = self.paths.linked(name);
            let units = files(&component.join("units"))?;
            for unit in &units {
                let target = component.join("units").join(unit);
                wanted.links.push((self.paths.units.join(unit), target));
                if let Some(by) = wanted_by(unit, &units) {
                    let link = self.paths.units.join(by).join(unit);
                    wanted.links.push((link, Path::new("..").join(unit)));
                }
                wanted.units.insert(unit.clone());
            }
            for file in files(&component.join("tmpfiles.d"))? {
                let target = component.join("tmpfiles.d").join(&file);
                wanted.links.push((self.paths.tmpfiles.join(&file), target));
                wanted.fragments.insert(file);
            }
        }
        Ok(wanted)
    }

    /// Stops and unlinks units of ours that the set does not want any more. Which are ours, the
    /// links themselves say, so a move that was cut off leaves nothing behind.
    fn unlink_units(&self, wanted: &Wanted) -> Result<(), HostError> {
        for unit in ours(&self.paths.units, &self.paths.current)? {
            if wanted.units.contains(&unit) {
                // What started it at boot may be another target now, or none.
                for by in TARGETS {
                    let link = self.paths.units.join(by).join(&unit);
                    let stale = !wanted.links.iter().any(|(wanted, _)| *wanted == link);
                    if stale && link.is_symlink() {
                        self.host.unlink(&link)?;
                    }
                }
                continue;
            }
            if let Err(error) = self.host.stop(&unit) {
                error!(BORGIOS_EVENT = "stop_failed", %error, "{unit} did not stop");
            }
            for by in TARGETS {
                self.host.unlink(&self.paths.units.join(by).join(&unit))?;
            }
            self.host.unlink(&self.paths.units.join(&unit))?;
        }
        for file in ours(&self.paths.tmpfiles, &self.paths.current)? {
            if !wanted.fragments.contains(&file) {
                self.host.unlink(&self.paths.tmpfiles.join(&file))?;
            }
        }
        Ok(())
    }
}

/// Links that must be there.
#[derive(Default)]
struct Wanted {
    links: Vec<(PathBuf, PathBuf)>,
    units: BTreeSet<String>,
    fragments: BTreeSet<String>,
}

const TARGETS: [&str; 3] =
    ["multi-user.target.wants", "sockets.target.wants", "timers.target.wants"];

/// What starts a unit at boot, if anything does.
fn wanted_by(unit: &str, all: &[String]) -> Option<&'static str> {
    let [services, sockets, timers] = TARGETS;
    if unit.ends_with(".socket") {
        return Some(sockets);
    }
    if unit.ends_with(".timer") {
        return Some(timers);
    }
    let stem = unit.strip_suffix(".service")?;
    let started = |end: &str| all.iter().any(|other| other.strip_suffix(end) == Some(stem));
    // A template is started by name only.
    (!stem.ends_with('@') && !started(".socket") && !started(".timer")).then_some(services)
}

/// Names in a folder of systemd's that are links below `current`.
fn ours(folder: &Path, current: &Path) -> io::Result<Vec<String>> {
    let names = files(folder)?.into_iter();
    let mine = |name: &String| {
        fs::read_link(folder.join(name)).is_ok_and(|target| target.starts_with(current))
    };
    Ok(names.filter(mine).collect())
}

/// Whether something that is not ours stands at `link`.
fn is_foreign(link: &Path, current: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(link) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
        Ok(meta) if !meta.is_symlink() => Ok(true),
        Ok(_) => {
            let target = fs::read_link(link)?;
            Ok(!target.starts_with(current) && !target.starts_with(".."))
        }
    }
}

/// What cannot be held against a release is waited for: systemd that does not answer, as a full disk.
pub(super) fn later(failed: HostError) -> io::Error {
    match failed {
        HostError::Disk(error) => error,
        error @ (HostError::Command { .. } | HostError::Taken(_)) => {
            io::Error::other(error.to_string())
        }
    }
}

/// In a stoic mood only the disk counts, in a lenient one also what a unit does, not how long it takes.
fn bear(mood: Mood, done: Result<(), HostError>) -> Result<(), HostError> {
    match (mood, done) {
        (Mood::Stoic, Err(error @ (HostError::Command { .. } | HostError::Taken(_)))) => {
            error!(BORGIOS_EVENT = "restore_incomplete", %error, "could not put all back");
            Ok(())
        }
        (Mood::Lenient, Err(HostError::Command { what, source })) if source.is_passing() => {
            warn!(BORGIOS_EVENT = "machine_busy", error = %source, "{what} took too long");
            Ok(())
        }
        (Mood::Strict | Mood::Lenient | Mood::Stoic, done) => done,
    }
}
