//! Everything the keeper does to the host, in one reviewable place.
//!
//! [`Host`] is what the installer may ask for; [`Systemd`] does it on a real server; the fake in
//! `installer/fake.rs` does it in memory and can lose power at any of these calls.
//!
//! Nothing here runs a shell, and nothing of a component is ever run as root but the keeper's own
//! program: health commands run as the agent's user, in a transient unit of systemd.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use borgios_types::Time;
use thiserror::Error;

use super::account;
use super::command::{self, CommandError};
use super::paths::Paths;
use super::room::Room;
use crate::disk;

/// Longest a unit may take to stop and start again.
const UNIT_MAX: Duration = Duration::from_secs(120);
/// Longest any other call of systemd's may take.
const CALL_MAX: Duration = Duration::from_secs(60);
/// Longest a health command may take; systemd ends it first.
const HEALTH_MAX: Duration = Duration::from_secs(15);
/// What systemd grants a health command, in seconds.
const HEALTH_S: u32 = 10;
/// Longest a program may take to test itself.
const SELFTEST_MAX: Duration = Duration::from_secs(10);

/// Why the host did not do what was asked.
#[derive(Debug, Error)]
pub enum HostError {
    /// The disk: full, perhaps. The same call can succeed later.
    #[error("the disk failed")]
    Disk(#[from] io::Error),
    /// systemd said no, or took too long.
    #[error("{what}: {source}")]
    Command {
        /// What was asked.
        what: String,
        /// What came of it.
        source: CommandError,
    },
    /// A file of somebody else stands where a component wants to be.
    #[error("{0} belongs to somebody else; move it away or rename the component's file")]
    Taken(String),
}

/// What a unit is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Running, or done and well.
    Well,
    /// On its way up or down, which a unit that keeps crashing is as well.
    Unsettled,
    /// Failed.
    Failed,
}

/// What the installer may do to the host. Each call, done twice, is as good as done once.
pub trait Host: Send {
    /// Monotonic time, for deadlines.
    fn now(&self) -> Time;
    /// Waits a little between two looks at something.
    fn pause(&self, time: Duration);
    /// Makes `link` point to `target`, whatever it pointed to before; at no moment is it absent.
    ///
    /// # Errors
    /// [`HostError::Disk`].
    fn link(&self, link: &Path, target: &Path) -> Result<(), HostError>;
    /// Removes a link; one that is not there is fine.
    ///
    /// # Errors
    /// [`HostError::Disk`].
    fn unlink(&self, link: &Path) -> Result<(), HostError>;
    /// The program that this very process runs, by its true path.
    ///
    /// # Errors
    /// Whatever the kernel says.
    fn program(&self) -> io::Result<PathBuf>;
    /// What is left, without root's reserve, on the disk that `folder` lies on.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn room(&self, folder: &Path) -> io::Result<Room>;
    /// Whether a disk that systemd's tools, units and health commands write to has no room left.
    fn is_full(&self) -> bool;
    /// Makes systemd read its units again.
    ///
    /// # Errors
    /// [`HostError::Command`].
    fn reload(&self) -> Result<(), HostError>;
    /// Makes the accounts a sysusers.d fragment names.
    ///
    /// # Errors
    /// [`HostError::Command`].
    fn sysusers(&self, fragment: &Path) -> Result<(), HostError>;
    /// Makes the folders a tmpfiles.d fragment names.
    ///
    /// # Errors
    /// [`HostError::Command`].
    fn tmpfiles(&self, fragment: &Path) -> Result<(), HostError>;
    /// Starts a unit, or stops it and starts it again.
    ///
    /// # Errors
    /// [`HostError::Command`].
    fn restart(&self, unit: &str) -> Result<(), HostError>;
    /// Stops a unit.
    ///
    /// # Errors
    /// [`HostError::Command`].
    fn stop(&self, unit: &str) -> Result<(), HostError>;
    /// What a unit is doing.
    ///
    /// # Errors
    /// [`HostError::Command`].
    fn activity(&self, unit: &str) -> Result<Activity, HostError>;
    /// Runs a health command once, as the agent's user.
    ///
    /// # Errors
    /// [`HostError::Command`] if it does not end well in time.
    fn health(&self, command: &[String]) -> Result<(), HostError>;
    /// Runs the keeper's new program with `--selftest`, before anything depends on it.
    ///
    /// # Errors
    /// [`HostError::Command`] if it does not end well in time.
    fn selftest(&self, program: &Path) -> Result<(), HostError>;
}

/// A server with systemd.
#[derive(Debug)]
pub struct Systemd {
    started: Instant,
    /// Where components lie.
    store: PathBuf,
    /// Whether the agent's user exists; on a test's root folder it need not.
    demote: bool,
}

impl Systemd {
    /// The host itself; `root` is `/` but in tests.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        let store = Paths::below(root).store;
        Self { started: Instant::now(), store, demote: root == Path::new("/") }
    }

    fn systemctl(arguments: &[&str], max: Duration) -> Result<String, HostError> {
        let mut command = Command::new("systemctl");
        command.args(["--no-ask-password", "--no-pager", "--quiet"]).args(arguments);
        let what = || format!("systemctl {}", arguments.join(" "));
        command::run(command, max).map_err(|source| HostError::Command { what: what(), source })
    }

    /// Runs a program in a transient unit: outside the keeper's own sandbox, watched by systemd.
    /// `--service-type=oneshot` makes the call wait for its end, and needs no message bus.
    fn transient(
        properties: &[String],
        program: &[String],
        max: Duration,
    ) -> Result<(), HostError> {
        let mut command = Command::new("systemd-run");
        command.args(["--no-ask-password", "--quiet", "--collect", "--service-type=oneshot"]);
        command.args(properties.iter().map(|property| format!("--property={property}")));
        command.arg("--").args(program);
        command::run(command, max).map(drop).map_err(|source| HostError::Command {
            what: program.join(" ").chars().take(200).collect(),
            source,
        })
    }

    fn as_root(program: &[&str]) -> Result<(), HostError> {
        let program: Vec<String> = program.iter().map(|&word| word.to_owned()).collect();
        let timeout = format!("TimeoutStartSec={}", CALL_MAX.as_secs() / 2);
        Self::transient(&[timeout], &program, CALL_MAX)
    }
}

impl Host for Systemd {
    fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn link(&self, link: &Path, target: &Path) -> Result<(), HostError> {
        if std::fs::read_link(link).is_ok_and(|found| found == target) {
            return Ok(());
        }
        let folder = link.parent().ok_or_else(|| io::Error::other("a link without a folder"))?;
        let name = link.file_name().unwrap_or_default().to_string_lossy();
        let temporary = folder.join(format!(".{name}.borgios-new"));
        remove(&temporary)?;
        symlink(target, &temporary)?;
        std::fs::rename(&temporary, link)?;
        Ok(disk::sync_folder(folder)?)
    }

    fn unlink(&self, link: &Path) -> Result<(), HostError> {
        remove(link)?;
        match link.parent().map_or(Ok(()), disk::sync_folder) {
            // A folder that was never made held no link.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => Ok(synced?),
        }
    }

    fn program(&self) -> io::Result<PathBuf> {
        std::env::current_exe()
    }

    fn room(&self, folder: &Path) -> io::Result<Room> {
        Room::on(folder)
    }

    fn is_full(&self) -> bool {
        // Accounts are written anew beside the old file. systemd-run keeps its units in /run, which
        // borgiosd's account can fill. Root alone writes there, with its reserve. What units keep lies in
        // /var.
        let root = ["/etc", "/run"].map(|folder| Room::of_root_on(Path::new(folder)));
        let users = [Path::new("/var"), self.store.as_path()].map(|folder| self.room(folder));
        root.into_iter().chain(users).any(|room| room.is_ok_and(Room::is_short))
    }

    fn reload(&self) -> Result<(), HostError> {
        Self::systemctl(&["daemon-reload"], CALL_MAX).map(drop)
    }

    fn sysusers(&self, fragment: &Path) -> Result<(), HostError> {
        Self::as_root(&["systemd-sysusers", &fragment.to_string_lossy()])
    }

    fn tmpfiles(&self, fragment: &Path) -> Result<(), HostError> {
        Self::as_root(&["systemd-tmpfiles", "--create", &fragment.to_string_lossy()])
    }

    fn restart(&self, unit: &str) -> Result<(), HostError> {
        Self::systemctl(&["restart", unit], UNIT_MAX).map(drop)
    }

    fn stop(&self, unit: &str) -> Result<(), HostError> {
        Self::systemctl(&["stop", unit], UNIT_MAX).map(drop)
    }

    fn activity(&self, unit: &str) -> Result<Activity, HostError> {
        let shown =
            Self::systemctl(&["show", "--property=ActiveState", "--value", unit], CALL_MAX)?;
        Ok(match shown.trim() {
            "active" | "inactive" | "reloading" => Activity::Well,
            "failed" => Activity::Failed,
            _ => Activity::Unsettled,
        })
    }

    fn health(&self, command: &[String]) -> Result<(), HostError> {
        let mut properties = vec![
            format!("TimeoutStartSec={HEALTH_S}"),
            "NoNewPrivileges=yes".to_owned(),
            "ProtectSystem=strict".to_owned(),
        ];
        if self.demote {
            properties.push(format!("User={}", account::USER));
        }
        Self::transient(&properties, command, HEALTH_MAX)
    }

    fn selftest(&self, program: &Path) -> Result<(), HostError> {
        let mut command = Command::new(program);
        command.arg("--selftest");
        command::run(command, SELFTEST_MAX).map(drop).map_err(|source| HostError::Command {
            what: format!("{} --selftest", program.display()),
            source,
        })
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_moved_and_removed_and_never_a_folder_followed() {
        let folder = tempfile::tempdir().unwrap();
        let host = Systemd::new(folder.path());
        let link = folder.path().join("link");
        for target in ["one", "two", "two"] {
            std::fs::create_dir_all(folder.path().join(target)).unwrap();
            host.link(&link, Path::new(target)).unwrap();
            assert_eq!(std::fs::read_link(&link).unwrap(), Path::new(target));
        }
        assert_eq!(std::fs::read_dir(folder.path().join("one")).unwrap().count(), 0);
        host.unlink(&link).unwrap();
        host.unlink(&link).unwrap();
        assert!(!link.exists());
        assert!(folder.path().join("two").exists());
    }
}
