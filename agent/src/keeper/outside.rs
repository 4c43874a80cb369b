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

    /// Stops a unit.
    ///
    /// # Errors
    /// See [`OutsideError`].
    pub fn stop(&self, unit: &'static str) -> Result<(), OutsideError> {
        let mut command = Command::new("systemctl");
        command.args(["--no-ask-password", "--quiet", "stop", unit]);
        run("stop a unit", command)
    }

    /// Makes root's password field `*`: no password opens it, and sshd still takes certificates.
    ///
    /// # Errors
    /// See [`OutsideError`].
    pub fn close_root(&self) -> Result<(), OutsideError> {
        let mut command = Command::new("usermod");
        // No secret: it is the absence of one.
        if self.root != Path::new("/") {
            command.arg("--prefix").arg(&self.root);
        }
        command.args(["--password", "*", "root"]);
        run("close root's password", command)
    }

    /// Unlinks every unit of ours, so that nothing starts at the next boot.
    ///
    /// # Errors
    /// See [`OutsideError`].
    pub fn forget_units(&self, paths: &Paths) -> Result<(), OutsideError> {
        for folder in [&paths.units, &paths.tmpfiles] {
            for name in links_below(folder, &paths.current)? {
                for by in TARGETS {
                    remove(&folder.join(by).join(&name))?;
                }
                remove(&folder.join(&name))?;
            }
            if folder.is_dir() {
                disk::sync_folder(folder)?;
            }
        }
        let mut command = Command::new("systemctl");
        command.args(["--no-ask-password", "--quiet", "daemon-reload"]);
        run("reload systemd", command)
    }
}

/// Names in a folder that are links below `current`.
fn links_below(folder: &Path, current: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(current)) {
            names.push(entry.file_name());
        }
    }
    Ok(names)
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
