//! The server as the take-over sees it: its files below a root folder, and the programs it runs.
//!
//! Every change goes through one of the few methods here, so that this page is all there is to
//! review, and so that a test can lose power, or have a full disk, before any one of them.
//! Paths are written as the server knows them (`/etc/passwd`) and lie below [`Machine::root`].

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use borgios_types::{Digest, UnixSeconds};
use rustix::fs::{Mode, OFlags};
use thiserror::Error;

use super::inode::Inode;
use super::meta::Meta;
use super::passwd;
use crate::disk;
use crate::keeper::command::CommandError;
use crate::keeper::paths::Paths;
use crate::keeper::rotation::once::OnceError;

/// Longest file that is read whole, in bytes: `/etc/passwd` of a large site, a KRL, a key file.
pub(super) const FILE_MAX: usize = 16 * 1024 * 1024;
/// What the group `shadow` may read, where there is one.
const SHADOWS: [&str; 4] = ["/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-"];
/// Longest any program may take: systemd restarting sshd on a slow disk.
pub(super) const CALL_MAX: Duration = Duration::from_secs(60);

/// Why the server did not do what was asked.
#[derive(Debug, Error)]
pub(super) enum MachineError {
    /// The disk.
    #[error("cannot read or write {path}: {source}")]
    Disk {
        /// Where, as the server knows it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program ended badly.
    #[error("{what}: {source}")]
    Command {
        /// What was asked.
        what: String,
        /// What came of it.
        source: CommandError,
    },
    /// Something is not as it must be.
    #[error("{path}: {why}")]
    Odd {
        /// Where.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
}

/// What is done outside of files: programs, signals, clocks.
pub(super) trait Tools: Send + Sync {
    /// Called before each change to the disk, with what is about to change; the seam at which
    /// tests cut the power or fill the disk.
    fn about_to(&self, what: &str) -> io::Result<()>;
    /// Runs a program to its end; its standard output.
    fn run(&self, words: &[&str], max: Duration) -> std::result::Result<String, CommandError>;
    /// The first rotation of root's credential; as good done twice.
    fn rotate(&self, paths: &Paths) -> std::result::Result<(), OnceError>;
    /// Ends a process; one that is gone already is fine.
    fn kill(&self, pid: u32, hard: bool);
    /// Wall clock, for people.
    fn unix(&self) -> UnixSeconds;
    /// Seconds since this boot, for deadlines: nobody can set it.
    fn uptime_s(&self) -> u64;
    /// This boot's id.
    fn boot(&self) -> String;
    /// Waits between two looks at something.
    fn pause(&self, time: Duration);
    /// This process and those that wait for it, which a take-over must not end.
    fn own_pid(&self) -> u32;
}

/// The server.
#[derive(Clone)]
pub(super) struct Machine {
    /// Where the agent's files lie.
    pub(super) paths: Paths,
    pub(super) tools: Arc<dyn Tools>,
    /// The digest of root's password field as the owner had it, once root was handed over: from
    /// then on the field is the rotation's, and only the owner's old one is a finding.
    pub(super) owners_root: Option<Digest>,
}

type Result<T> = std::result::Result<T, MachineError>;

impl Machine {
    pub(super) fn new(root: &Path, tools: Arc<dyn Tools>) -> Self {
        Self { paths: Paths::below(root), tools, owners_root: None }
    }

    /// The place of an absolute path below the root.
    pub(super) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.paths.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether something is there, a dangling link included.
    pub(super) fn exists(&self, path: impl AsRef<Path>) -> bool {
        fs::symlink_metadata(self.at(path)).is_ok()
    }

    /// Whether a link stands there.
    pub(super) fn is_link(&self, path: impl AsRef<Path>) -> bool {
        fs::symlink_metadata(self.at(path)).is_ok_and(|meta| meta.is_symlink())
    }

    /// A file's bytes; `None` if it is not there, or is no regular file.
    pub(super) fn read(&self, path: impl AsRef<Path>) -> Result<Option<Vec<u8>>> {
        let path = path.as_ref();
        let (place, at) = (self.at(path), |source| disk_error(path, source));
        // Held before it is looked at: a FIFO or device in a key file's place must not make us wait,
        // and its owner can put one there between any two looks.
        let inode = match Inode::behind(&place) {
            Ok(inode) => inode,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(source) => return Err(at(source)),
        };
        let Some(file) = inode.file().map_err(at)? else { return Ok(None) };
        disk::read_open(&file, &place, FILE_MAX).map(Some).map_err(at)
    }

    /// As [`Machine::read`], as text; an absent file is empty, what is no UTF-8 is replaced.
    pub(super) fn text(&self, path: impl AsRef<Path>) -> Result<String> {
        let bytes = self.read(path)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What a folder holds, sorted; nothing if it is not there.
    pub(super) fn names(&self, folder: impl AsRef<Path>) -> Result<Vec<OsString>> {
        let folder = folder.as_ref();
        let entries = match fs::read_dir(self.at(folder)) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(source) => return Err(disk_error(folder, source)),
        };
        let names = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
        let mut names = names.map_err(|source| disk_error(folder, source))?;
        names.sort();
        Ok(names)
    }

    /// Writes a file durably, whole or not at all, if it differs. It is root's afterwards, as
    /// [`Machine::roots`] has it; a new one has `mode`.
    pub(super) fn write(&self, path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<()> {
        let (path, place) = (path.as_ref(), self.at(path.as_ref()));
        let is_file = fs::symlink_metadata(&place).is_ok_and(|meta| meta.is_file());
        let like = if is_file {
            let (now, roots) = self.roots(path, mode)?;
            if now == roots && self.read(path)?.as_deref() == Some(bytes) {
                return Ok(());
            }
            Some(roots)
        } else {
            None
        };
        // Never in place: whoever has the old file open writes to what is no file's any more.
        self.change("write", path, || write_like(&place, bytes, mode, like.as_ref()))
    }

    /// What a file is beside its content, and what it would be as root's own: owned by root, no
    /// wider than `mode`, without an ACL. The group `shadow` keeps what is its own on Debian.
    pub(super) fn roots(&self, path: impl AsRef<Path>, mode: u32) -> Result<(Meta, Meta)> {
        let path = path.as_ref();
        let now = Meta::of(&self.at(path)).map_err(|source| disk_error(path, source))?;
        let is_shadows = SHADOWS.iter().any(|shadows| path == Path::new(shadows));
        let group = if is_shadows { passwd::gid_of_shadow(self)? } else { None };
        let roots = now.as_roots(mode, group);
        Ok((now, roots))
    }

    /// Removes a file, a link, or a folder with all that is in it; one that is absent is fine.
    pub(super) fn remove(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        self.remove_at(path, &self.at(path))
    }

    /// As [`Machine::remove`], where the folder is held and `place` means what is in it.
    pub(super) fn remove_at(&self, path: &Path, place: &Path) -> Result<()> {
        let meta = match fs::symlink_metadata(place) {
            Ok(meta) => meta,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(source) => return Err(disk_error(path, source)),
        };
        self.change("remove", path, || {
            // The standard library follows no link on the way down.
            if meta.is_dir() {
                fs::remove_dir_all(place)?
            } else {
                fs::remove_file(place)?
            }
            place.parent().map_or(Ok(()), disk::sync_folder)
        })
    }

    /// Makes `path` a link to `target`, in place of whatever file or link it was.
    pub(super) fn link(&self, path: impl AsRef<Path>, target: &Path) -> Result<()> {
        let path = path.as_ref();
        self.link_at(path, &self.at(path), target)
    }

    /// As [`Machine::link`], where the folder is held and `place` means what is in it.
    pub(super) fn link_at(&self, path: &Path, place: &Path, target: &Path) -> Result<()> {
        if fs::read_link(place).is_ok_and(|found| found == target) {
            return Ok(());
        }
        self.change("link", path, || {
            let (folder, temporary) = beside(place)?;
            match fs::remove_file(&temporary) {
                Err(error) if !is_absent(&error) => return Err(error),
                _ => symlink(target, &temporary)?,
            }
            fs::rename(&temporary, place)?;
            disk::sync_folder(&folder)
        })
    }

    /// Removes what a write or link that was cut off left beside a path, whose folder is held.
    pub(super) fn tidy_at(&self, path: &Path, place: &Path) -> Result<()> {
        let hidden = |path: &Path| beside(path).map(|(_, hidden)| hidden);
        let at = |source| disk_error(path, source);
        self.remove_at(&hidden(path).map_err(at)?, &hidden(place).map_err(at)?)
    }

    /// Makes a folder and those above it.
    pub(super) fn folder(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        let (path, place) = (path.as_ref(), self.at(path.as_ref()));
        if place.is_dir() {
            return Ok(());
        }
        self.change("make", path, || {
            DirBuilder::new().recursive(true).mode(mode).create(&place)?;
            place.parent().map_or(Ok(()), disk::sync_folder)
        })
    }

    /// One change to the disk that may fail, or be the moment at which a test cuts the power.
    pub(super) fn change<T>(
        &self,
        verb: &str,
        path: &Path,
        change: impl FnOnce() -> io::Result<T>,
    ) -> Result<T> {
        self.tools
            .about_to(&format!("{verb} {}", path.display()))
            .and_then(|()| change())
            .map_err(|source| disk_error(path, source))
    }

    /// Runs a program, quoted in the error if it fails.
    pub(super) fn run(&self, words: &[&str]) -> Result<String> {
        self.tools.run(words, CALL_MAX).map_err(|source| MachineError::Command {
            what: words.join(" ").chars().take(200).collect(),
            source,
        })
    }

    /// Asks systemd for something.
    pub(super) fn systemctl(&self, words: &[&str]) -> Result<String> {
        let mut all = vec!["systemctl", "--no-ask-password", "--no-pager", "--quiet"];
        all.extend(words);
        self.run(&all)
    }
}

/// Writes a file beside its place and moves it there. The folder may be somebody else's: what it
/// is beside its content is set on what was made here, whatever has the name by then.
pub(super) fn write_like(
    place: &Path,
    bytes: &[u8],
    mode: u32,
    like: Option<&Meta>,
) -> io::Result<()> {
    let (folder, temporary) = beside(place)?;
    let written = (|| {
        // What a cut left behind may be a link somebody put there: never written through.
        match fs::remove_file(&temporary) {
            Err(error) if !is_absent(&error) => return Err(error),
            _ => {}
        }
        let new = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let flags = new | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(like.map_or(mode, |_| 0o600));
        let mut file = File::from(rustix::fs::open(&temporary, flags, mode)?);
        file.write_all(bytes)?;
        if let Some(like) = like {
            like.put_to(&file)?;
        }
        file.sync_all()?;
        fs::rename(&temporary, place)
    })();
    if let Err(error) = written {
        // Best effort: the next attempt removes it too.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    disk::sync_folder(&folder)
}

fn beside(place: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let folder = place.parent().ok_or_else(|| io::Error::other("a path without a folder"))?;
    let name = place.file_name().ok_or_else(|| io::Error::other("a path without a name"))?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    // No program that reads `*.conf`, `*.service` or sudoers.d takes a name that ends so.
    hidden.push(".borgios~");
    Ok((folder.to_owned(), folder.join(hidden)))
}

pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

pub(super) fn disk_error(path: &Path, source: io::Error) -> MachineError {
    MachineError::Disk { path: path.to_owned(), source }
}
