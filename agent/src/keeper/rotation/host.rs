//! What a rotation does to the host, in one reviewable place.
//!
//! [`Accounts`] is what it may ask for; [`ShadowTools`] does it on a real server with the system's
//! own account tools; the fake in `fake.rs` does it in memory and can fail or lose power at any call.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use borgios_credentials::shadow::SHADOW_MAX;
use borgios_credentials::{RootField, Shadow, Verifier};

use super::account_lock::AccountLock;
use super::journal::{self, Record};
use super::obstacle::{Obstacle, at};
use crate::disk::{self, Stamp};
use crate::keeper::command;
use crate::keeper::paths::Paths;

/// Longest that chpasswd may take; it waits up to 15 s for a lock itself.
const CHPASSWD_MAX: Duration = Duration::from_secs(30);
/// Longest `/etc/passwd` that is read, in bytes.
const PASSWD_MAX: usize = SHADOW_MAX;
/// A field that no password opens.
const LOCKED: &str = "*";

/// What a rotation may do to the host. Each call, done twice, is as good as done once.
pub(super) trait Accounts: Send {
    /// Reads the journal.
    fn recall(&self) -> Result<Record, Obstacle>;
    /// Writes and syncs the journal.
    fn remember(&self, record: &Record) -> Result<(), Obstacle>;
    /// Changes with every change of `/etc/shadow`.
    fn stamp(&self) -> Result<Stamp, Obstacle>;
    /// Reads root's field.
    fn root(&self) -> Result<RootField, Obstacle>;
    /// Sets root's field; `None` locks it.
    fn change(&self, to: Option<&Verifier>) -> Result<(), Obstacle>;
    /// Syncs `/etc/shadow` and its folder.
    fn settle(&self) -> Result<(), Obstacle>;
    /// Makes `/etc/shadow-` a copy of `/etc/shadow`, in which root's field must be `expected`.
    fn scrub(&self, expected: &RootField) -> Result<(), Obstacle>;
}

/// A server with shadow-utils.
#[derive(Debug)]
pub(super) struct ShadowTools {
    paths: Paths,
    etc: PathBuf,
}

impl ShadowTools {
    pub(super) fn new(paths: &Paths) -> Self {
        Self { paths: paths.clone(), etc: paths.root.join("etc") }
    }

    fn shadow(&self) -> PathBuf {
        self.etc.join("shadow")
    }

    /// The bytes of `/etc/shadow` and what they say.
    fn read(&self) -> Result<(Vec<u8>, RootField), Obstacle> {
        // One byte more than may be read, so that the core says what is wrong with it.
        let bytes = disk::read_bounded(&self.shadow(), SHADOW_MAX).map_err(at(&self.shadow()))?;
        let shadow = Shadow::parse(&bytes).map_err(Obstacle::Shadow)?;
        let root = shadow.root().clone();
        Ok((bytes, root))
    }

    /// Root's line in `/etc/passwd` must send every program on to `/etc/shadow`.
    fn check_passwd(&self) -> Result<(), Obstacle> {
        let path = self.etc.join("passwd");
        let bytes = disk::read_bounded(&path, PASSWD_MAX).map_err(at(&path))?;
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.lines().filter(|line| line.starts_with("root:"));
        let shadowed = lines.next().is_some_and(|line| line.split(':').nth(1) == Some("x"));
        if shadowed && lines.next().is_none() { Ok(()) } else { Err(Obstacle::Passwd) }
    }
}

impl Accounts for ShadowTools {
    fn recall(&self) -> Result<Record, Obstacle> {
        journal::read(&self.paths).map_err(at(&self.paths.rotation()))
    }

    fn remember(&self, record: &Record) -> Result<(), Obstacle> {
        journal::write(&self.paths, record).map_err(at(&self.paths.rotation()))
    }

    fn stamp(&self) -> Result<Stamp, Obstacle> {
        let meta = fs::metadata(self.shadow()).map_err(at(&self.shadow()))?;
        Ok(Stamp::of(&meta))
    }

    fn root(&self) -> Result<RootField, Obstacle> {
        Ok(self.read()?.1)
    }

    fn change(&self, to: Option<&Verifier>) -> Result<(), Obstacle> {
        self.check_passwd()?;
        // Fails sooner than chpasswd would, and in words, clears what a dead program left, and is given
        // back because chpasswd takes it itself.
        drop(AccountLock::take(&self.etc)?);
        let mut chpasswd = Command::new("chpasswd");
        chpasswd.arg("-e").env("LC_ALL", "C");
        if self.paths.root != Path::new("/") {
            chpasswd.arg("--root").arg(&self.paths.root);
        }
        // By standard input: an argument could be read by every user.
        let line = format!("root:{}\n", to.map_or(LOCKED, Verifier::as_str));
        let said = command::run_with_input(chpasswd, line.as_bytes(), CHPASSWD_MAX);
        said.map(drop).map_err(Obstacle::Tool)
    }

    fn settle(&self) -> Result<(), Obstacle> {
        let synced = File::open(self.shadow()).and_then(|file| file.sync_all());
        synced.map_err(at(&self.shadow()))?;
        disk::sync_folder(&self.etc).map_err(at(&self.etc))
    }

    fn scrub(&self, expected: &RootField) -> Result<(), Obstacle> {
        let _lock = AccountLock::take(&self.etc)?;
        let (bytes, root) = self.read()?;
        if root != *expected {
            return Err(Obstacle::NotTaken);
        }
        let (copy, temporary) = (self.etc.join("shadow-"), self.etc.join(".shadow-.borgios-new"));
        let meta = fs::metadata(self.shadow()).map_err(at(&self.shadow()))?;
        let written = write_as(&temporary, &bytes, &meta)
            .and_then(|()| fs::rename(&temporary, &copy))
            .and_then(|()| disk::sync_folder(&self.etc));
        if let Err(error) = written {
            // Best effort; the next attempt begins by removing it.
            let _ = fs::remove_file(&temporary);
            return Err(at(&copy)(error));
        }
        Ok(())
    }
}

/// A new file with the owner and mode of another.
fn write_as(path: &Path, bytes: &[u8], like: &fs::Metadata) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    fchown(&file, Some(like.uid()), Some(like.gid()))?;
    file.set_permissions(fs::Permissions::from_mode(like.mode() & 0o7777))?;
    file.sync_all()
}
