//! What the keeper has done outside its own sandbox, by systemd, in units of their own.
//!
//! The daemon may not kill other programs or write outside a few folders. Ending logins and leaving
//! need both, so its own program is started again for that one task, with nothing but a verb: what
//! it then does follows from what it reads and verifies itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use borgios_releases::plan::KEEPER;
use thiserror::Error;

use super::command::{self, CommandError};
use super::paths::Paths;
use crate::disk;

/// Longest a task outside may take.
const TASK_MAX: Duration = Duration::from_secs(60);
/// Folders of links by which systemd starts units at boot.
const TARGETS: [&str; 3] =
    ["multi-user.target.wants", "sockets.target.wants", "timers.target.wants"];

/// Why a task outside was not done. All of them can be done again.
#[derive(Debug, Error)]
pub enum OutsideError {
    /// A program said no, or took too long.
    #[error("{what}: {source}")]
    Command {
        /// What was asked.
        what: &'static str,
        /// What came of it.
        source: CommandError,
    },
    /// The disk failed.
    #[error("the disk failed")]
    Disk(#[from] io::Error),
}

/// The host beyond the sandbox.
#[derive(Clone, Debug)]
pub struct Outside {
    root: PathBuf,
}

impl Outside {
    /// That of the server below `paths`.
    #[must_use]
    pub fn of(paths: &Paths) -> Self {
        Self { root: paths.root.clone() }
    }

    /// Ends every login on this server, and waits for that.
    ///
    /// # Errors
    /// See [`OutsideError`].
    pub fn end_logins(&self) -> Result<(), OutsideError> {
        self.task("end the logins", &["takeover", "end-sessions"], true)
    }

    /// Starts this server's leaving, which ends this very process.
    ///
    /// # Errors
    /// See [`OutsideError`].
    pub fn begin_leaving(&self) -> Result<(), OutsideError> {
        self.task("begin to leave", &["leave"], false)
    }

    fn task(&self, what: &'static str, verb: &[&str], wait: bool) -> Result<(), OutsideError> {
        let program = std::env::current_exe()?;
        let mut command = Command::new("systemd-run");
        command.args(["--no-ask-password", "--quiet", "--collect"]);
        if wait {
            command.arg("--service-type=oneshot");
        } else {
            // Nobody waits for it, so it tries again by itself.
            command.args([
                "--no-block",
                "--property=Restart=on-failure",
                "--property=RestartSec=2",
            ]);
        }
        command.arg("--property=TimeoutStartSec=45").arg("--").arg(program).args(verb);
        command.arg("--root").arg(&self.root);
        run(what, command)
    }

    /// Stops a unit. One that systemd does not know is stopped: it was unlinked before the power
    /// went.
    ///
    /// # Errors
    /// See [`OutsideError`].
    pub fn stop(&self, unit: &'static str) -> Result<(), OutsideError> {
        let Err(failed) = run("stop a unit", systemctl(&["stop", unit])) else { return Ok(()) };
        let show = systemctl(&["show", "--property=ActiveState", "--value", unit]);
        let state = command::run(show, TASK_MAX);
        let rests = state.is_ok_and(|state| matches!(state.trim(), "inactive" | "failed"));
        if rests { Ok(()) } else { Err(failed) }
    }

    /// Unlinks every unit of ours but the keeper's, which a boot needs to go on with a leaving.
    /// Fragments of tmpfiles.d stay as well: one makes the folder of the socket, and systemd starts
    /// no keeper where that is missing.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn forget_others(&self, paths: &Paths) -> io::Result<()> {
        let keeper = paths.current.join(KEEPER);
        let is_other =
            |target: &Path| target.starts_with(&paths.current) && !target.starts_with(&keeper);
        unlink(&paths.units, is_other)
    }

    /// Unlinks every unit of ours, so that nothing starts at the next boot. Fragments go last, for
    /// the reason why [`Outside::forget_others`] lets them be.
    ///
    /// # Errors
    /// See [`OutsideError`].
    pub fn forget_units(&self, paths: &Paths) -> Result<(), OutsideError> {
        for folder in [&paths.units, &paths.tmpfiles] {
            unlink(folder, |target| target.starts_with(&paths.current))?;
        }
        run("reload systemd", systemctl(&["daemon-reload"]))
    }
}

/// Removes the links in a folder of systemd's whose target is `gone`, and what starts them at boot.
fn unlink(folder: &Path, gone: impl Fn(&Path) -> bool) -> io::Result<()> {
    let starters = TARGETS.map(|by| folder.join(by));
    for name in links(folder, gone)? {
        for by in &starters {
            remove(&by.join(&name))?;
        }
        remove(&folder.join(&name))?;
    }
    for folder in starters.iter().map(PathBuf::as_path).chain([folder]) {
        if folder.is_dir() {
            disk::sync_folder(folder)?;
        }
    }
    Ok(())
}

/// Names in a folder that are links to such a target.
fn links(folder: &Path, is_such: impl Fn(&Path) -> bool) -> io::Result<Vec<std::ffi::OsString>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if fs::read_link(entry.path()).is_ok_and(|target| is_such(&target)) {
            names.push(entry.file_name());
        }
    }
    Ok(names)
}

fn systemctl(arguments: &[&str]) -> Command {
    let mut command = Command::new("systemctl");
    command.args(["--no-ask-password", "--quiet"]).args(arguments);
    command
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn run(what: &'static str, command: Command) -> Result<(), OutsideError> {
    command::run(command, TASK_MAX)
        .map(drop)
        .map_err(|source| OutsideError::Command { what, source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_the_others_are_forgotten_and_what_makes_the_keepers_folder_stays() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::below(folder.path());
        let wanted = paths.units.join(TARGETS[0]);
        for made in [&wanted, &paths.tmpfiles] {
            fs::create_dir_all(made).unwrap();
        }
        for (component, unit) in [("agent", "borgiosd"), (KEEPER, "keeper"), (KEEPER, "second")] {
            let target = paths.current.join(component).join("units").join(unit);
            symlink(target, paths.units.join(unit)).unwrap();
            symlink(Path::new("..").join(unit), wanted.join(unit)).unwrap();
        }
        fs::write(paths.units.join("theirs"), "").unwrap();
        symlink("/elsewhere", paths.units.join("theirs-too")).unwrap();
        let fragment = paths.current.join("agent/tmpfiles.d/borgios.conf");
        symlink(fragment, paths.tmpfiles.join("borgios.conf")).unwrap();
        let names = |folder: &Path| {
            let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
            names.sort();
            names
        };
        let outside = Outside::of(&paths);
        for _ in 0..2 {
            outside.forget_others(&paths).unwrap();
            let left = [TARGETS[0], "keeper", "second", "theirs", "theirs-too"];
            let mut left = left.map(str::to_owned);
            left.sort();
            assert_eq!(names(&paths.units), left);
            assert_eq!(names(&wanted), ["keeper", "second"]);
            assert_eq!(names(&paths.tmpfiles), ["borgios.conf"]);
        }
    }
}
