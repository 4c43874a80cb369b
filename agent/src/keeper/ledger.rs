//! What the installer must not forget: its journal, and the releases that failed here.
//!
//! ```text
//! journal.json            the state of releases::plan, whole or the one before
//! installed.json          the set that ran when nothing was under way, should the journal be damaged
//! attempted/<hex>         one file per release that failed, with the reason in it
//! loaded                  the keeper whose units systemd has read, by its component's digest
//! spare                   room for a state or a mark on a disk that is full
//! lock                    held by the one process that moves the journal
//! daemon                  held by the daemon
//! ```

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use borgios_releases::plan::KEEPER;
use borgios_releases::{Installed, Journal};
use borgios_types::Digest;
use rustix::fs::FlockOperation;
use tracing::error;

use super::installer::Installer;
use super::paths::Paths;
use crate::disk;

/// Longest journal, in bytes: two sets of 256 components are about 80 KiB.
const JOURNAL_MAX: usize = 1024 * 1024;

/// Longest `loaded`, in bytes: a digest, and something more to notice damage by.
const LOADED_MAX: usize = 128;
/// Length of the spare file: a journal of two long sets, several marks, and what a disk takes for itself.
const SPARE: usize = 1024 * 1024;

/// A file that one process holds; given back on drop, and by the kernel after a crash.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits until nobody else moves the journal.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn take(paths: &Paths) -> io::Result<Self> {
        Self::on(&paths.lock(), FlockOperation::LockExclusive)
    }

    /// For the daemon, of which there is one at a time.
    ///
    /// # Errors
    /// `WouldBlock` while another one runs, or whatever the disk says.
    pub fn of_the_daemon(paths: &Paths) -> io::Result<Self> {
        Self::on(&paths.keeper.join("daemon"), FlockOperation::NonBlockingLockExclusive)
    }

    /// Waits for a lock of another name in the keeper's folder.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub(super) fn named(paths: &Paths, name: &str) -> io::Result<Self> {
        Self::on(&paths.keeper.join(name), FlockOperation::LockExclusive)
    }

    fn on(path: &Path, how: FlockOperation) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
        rustix::fs::flock(&file, how)?;
        Ok(Self { _file: file })
    }
}

/// Reads the journal; none is the idle one.
///
/// A damaged one is set aside. What ran before is known all the same if nothing was under way: then the
/// next release that fails is taken back to it. Otherwise the next release puts all in order, with
/// nothing to go back to.
///
/// # Errors
/// Whatever the disk says.
pub fn read(paths: &Paths) -> io::Result<Journal> {
    let path = paths.journal();
    let bytes = match disk::read_bounded(&path, JOURNAL_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Journal::default()),
        // Longer than any that was written here.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Vec::new(),
        other => other?,
    };
    match serde_json::from_slice(&bytes) {
        Ok(journal) => Ok(journal),
        Err(damage) => {
            error!(
                BORGIOS_EVENT = "journal_damaged",
                "{} is damaged ({damage}) and is set aside",
                path.display()
            );
            fs::rename(&path, path.with_extension("damaged"))?;
            disk::sync_folder(&paths.keeper)?;
            let journal = Journal::Idle { installed: remembered(paths), last: None };
            if journal.installed().is_some() {
                write(paths, &journal)?;
            }
            Ok(journal)
        }
    }
}

/// The set that last ran with nothing under way, if the links are still those of it.
fn remembered(paths: &Paths) -> Option<Installed> {
    let bytes = disk::read_bounded(&paths.installed(), JOURNAL_MAX).ok()?;
    let installed: Installed = serde_json::from_slice(&bytes).ok()?;
    let mut running = Installer::running(paths).ok()?;
    // The keeper is linked whether or not a set names it.
    running.retain(|name, _| *name != KEEPER || installed.components.contains_key(name));
    (running == installed.components).then_some(installed)
}

/// Writes the journal; when this returns, the state survives a crash.
///
/// # Errors
/// Whatever the disk says; the state before is there then.
pub fn write(paths: &Paths, journal: &Journal) -> io::Result<()> {
    let text = serde_json::to_vec(journal).expect("a journal has string keys only");
    with_spare(paths, || disk::write_durable(&paths.journal(), &text, 0o600))?;
    // After the journal, which alone is asked while it is whole.
    if let Journal::Idle { installed: Some(installed), .. } = journal {
        let text = serde_json::to_vec(installed).expect("a set has string keys only");
        with_spare(paths, || disk::write_durable(&paths.installed(), &text, 0o600))?;
    }
    Ok(())
}

/// Marks a release as never to be tried again.
///
/// # Errors
/// Whatever the disk says.
pub fn mark(paths: &Paths, release: &Digest, reason: &str) -> io::Result<()> {
    let folder = paths.attempted();
    with_spare(paths, || {
        fs::create_dir_all(&folder)?;
        disk::sync_folder(&paths.keeper)?;
        disk::write_durable(&folder.join(release.hex()), reason.as_bytes(), 0o600)
    })
}

/// Keeps room for what must be written when a release has filled the disk: that it failed.
///
/// Call it before a release is staged. On a disk that compresses, the file keeps less than its length.
///
/// # Errors
/// Whatever the disk says.
pub fn keep_spare(paths: &Paths) -> io::Result<()> {
    let path = paths.spare();
    if fs::metadata(&path).is_ok_and(|meta| meta.len() == SPARE as u64) {
        return Ok(());
    }
    disk::write_durable(&path, &vec![0; SPARE], 0o600)
}

/// Writes; on a full disk once more, in the place of the spare file.
fn with_spare(paths: &Paths, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
    match write() {
        Err(full) if full.kind() == io::ErrorKind::StorageFull => {
            // Where there is none, the disk stays as full as it was.
            fs::remove_file(paths.spare()).map_err(|_| full)?;
            write()
        }
        done => done,
    }
}

/// The keeper whose units systemd has read; none where nobody wrote that down.
///
/// # Errors
/// Whatever the disk says.
pub(super) fn loaded(paths: &Paths) -> io::Result<Option<Digest>> {
    match disk::read_bounded(&paths.loaded(), LOADED_MAX) {
        Ok(bytes) => {
            Ok(std::str::from_utf8(&bytes).ok().and_then(|hex| Digest::from_hex(hex).ok()))
        }
        // Damaged counts as none: then the keeper is started once more than it need be.
        Err(error)
            if [io::ErrorKind::NotFound, io::ErrorKind::InvalidData].contains(&error.kind()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Writes down whose units systemd has read; nothing if that is what is written there.
///
/// # Errors
/// Whatever the disk says.
pub(super) fn note_loaded(paths: &Paths, keeper: &Digest) -> io::Result<()> {
    if loaded(paths)? == Some(*keeper) {
        return Ok(());
    }
    with_spare(paths, || disk::write_durable(&paths.loaded(), keeper.hex().as_bytes(), 0o600))
}

/// Takes a mark back: a person at this server asks for the release again.
///
/// # Errors
/// Whatever the disk says.
pub fn forgive(paths: &Paths, release: &Digest) -> io::Result<()> {
    match fs::remove_file(paths.attempted().join(release.hex())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => disk::sync_folder(&paths.attempted()),
    }
}

/// Whether a release failed here before.
#[must_use]
pub fn is_marked(paths: &Paths, release: &Digest) -> bool {
    paths.attempted().join(release.hex()).exists()
}

/// Every release that failed here.
///
/// # Errors
/// Whatever the disk says.
pub fn marked(paths: &Paths) -> io::Result<Vec<Digest>> {
    let entries = match fs::read_dir(paths.attempted()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut marked = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        marked.extend(name.to_str().and_then(|hex| Digest::from_hex(hex).ok()));
    }
    marked.sort_unstable();
    Ok(marked)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn locks_marks_and_the_journal_hold() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::below(folder.path());
        fs::create_dir_all(&paths.keeper).unwrap();
        let daemon = Lock::of_the_daemon(&paths).unwrap();
        assert!(Lock::of_the_daemon(&paths).is_err());
        drop(daemon);
        drop(Lock::of_the_daemon(&paths).unwrap());

        let release = Digest::of(b"release");
        assert!(marked(&paths).unwrap().is_empty());
        mark(&paths, &release, "sick").unwrap();
        assert!(is_marked(&paths, &release));
        assert_eq!(marked(&paths).unwrap(), [release]);
        forgive(&paths, &release).unwrap();
        forgive(&paths, &release).unwrap();
        assert!(!is_marked(&paths, &release));

        let journal = Journal::Idle { installed: None, last: None };
        write(&paths, &journal).unwrap();
        assert_eq!(read(&paths).unwrap(), journal);
        for damaged in ["{".to_owned(), " ".repeat(JOURNAL_MAX + 1)] {
            fs::write(paths.journal(), damaged).unwrap();
            assert_eq!(read(&paths).unwrap(), Journal::default());
            assert!(!paths.journal().exists());
        }
    }

    #[test]
    fn a_full_disk_takes_one_more_state_in_the_place_of_the_spare() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::below(folder.path());
        fs::create_dir_all(&paths.keeper).unwrap();
        let before = Journal::default();
        write(&paths, &before).unwrap();
        keep_spare(&paths).unwrap();
        keep_spare(&paths).unwrap();
        assert_eq!(fs::metadata(paths.spare()).unwrap().len(), SPARE as u64);
        let last = Some(borgios_releases::Ended {
            seq: borgios_types::Seq(1),
            id: Digest::of(b"release"),
            outcome: borgios_releases::Outcome::RolledBack,
            reason: None,
            at: borgios_types::UnixSeconds(1),
        });
        let after = Journal::Idle { installed: None, last };
        let full = || symlink("/dev/full", paths.keeper.join(".journal.json.tmp")).unwrap();
        full();
        write(&paths, &after).unwrap();
        assert_eq!(read(&paths).unwrap(), after);
        assert!(!paths.spare().exists());
        full();
        assert_eq!(write(&paths, &before).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(read(&paths).unwrap(), after);
    }

    #[test]
    fn what_systemd_has_read_is_known_or_not_and_never_a_guess() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::below(folder.path());
        fs::create_dir_all(&paths.keeper).unwrap();
        assert_eq!(loaded(&paths).unwrap(), None);
        let keeper = Digest::of(b"keeper");
        note_loaded(&paths, &keeper).unwrap();
        assert_eq!(loaded(&paths).unwrap(), Some(keeper));
        for damaged in ["", "loaded", &"0".repeat(LOADED_MAX + 1)] {
            fs::write(paths.loaded(), damaged).unwrap();
            assert_eq!(loaded(&paths).unwrap(), None);
        }
    }
}
