//! The depot: blobs on disk, each named by its own SHA-256.
//!
//! ```text
//! receive(digest, size) ──▶ Receiving ── write … ──▶ finish ──▶ blobs/<hex>
//!                              │ cut off                │ another digest
//!                              ▼                        ▼
//!             blobs/<hex>.part, <hex>.brought          removed
//! ```
//!
//! One writer at a time has a part. What is fetched, because something signed names it, and what somebody
//! brings unasked lie in parts of their own: neither can hold up or spoil the other, and what is whole
//! first stays.
//!
//! A name without `.part` or `.brought` was hashed, synced and renamed by this process. The keeper trusts none of
//! it: it hashes again while it copies.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use borgios_types::Digest;
use borgios_types::limits::COMPONENT_MAX;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio::sync::broadcast;

use crate::disk;

/// What a blob's name ends with until it is whole.
const PART: &str = ".part";
/// The same of what is brought unasked.
const BROUGHT: &str = ".brought";

/// News of blobs that may wait to be heard; who misses one finds the blob later.
const NEWS: usize = 64;

/// Bytes of the disk, or a tenth of it if that is less, that stay free of blobs that nothing signed asks
/// for: statements, vetoes and the keeper's journal are written there.
const RESERVE: u64 = 2 * 1024 * 1024 * 1024;

/// Why a blob was not taken.
#[derive(Debug, Error)]
pub enum DepotError {
    /// Larger than anything the fleet installs.
    #[error("a blob of {0} bytes, at most {COMPONENT_MAX} are taken")]
    TooLarge(u64),
    /// No room for it that this server can spare.
    #[error(
        "no room for a blob of {0} bytes that nothing signed asks for yet; free some of this server's disk, or bring it to another one"
    )]
    Full(u64),
    /// Somebody else is writing this blob now.
    #[error("{0} is being received already; ask again later")]
    Busy(Digest),
    /// More bytes than were announced.
    #[error("more than the announced {0} bytes")]
    TooLong(u64),
    /// Fewer bytes than were announced.
    #[error("{have} of {size} bytes")]
    Incomplete {
        /// Bytes that came.
        have: u64,
        /// Bytes announced.
        size: u64,
    },
    /// Other bytes than their name says.
    #[error("expected {expected}, found {found}")]
    BadDigest {
        /// The name asked for.
        expected: Digest,
        /// What the bytes are.
        found: Digest,
    },
    /// The disk.
    #[error("cannot write to the depot")]
    Disk(#[from] io::Error),
}

impl DepotError {
    /// The stable name of the refusal, for logs and answers.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge(_) | Self::TooLong(_) => "too_large",
            Self::Full(_) => "full",
            Self::Busy(_) => "busy",
            Self::Incomplete { .. } => "incomplete",
            Self::BadDigest { .. } => "bad_digest",
            Self::Disk(_) => "disk",
        }
    }
}

/// A folder of blobs. Clones share it.
#[derive(Clone, Debug)]
pub struct Depot {
    folder: PathBuf,
    /// Parts being written: one writer each.
    busy: Arc<Mutex<BTreeSet<(Digest, By)>>>,
    /// Tells of each blob that became whole.
    news: broadcast::Sender<Digest>,
}

impl Depot {
    /// Opens the folder, which it makes if there is none.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn open(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (news, _) = broadcast::channel(NEWS);
        Ok(Self { folder: folder.to_owned(), busy: Arc::default(), news })
    }

    /// A notice of each blob that becomes whole from now on.
    #[must_use]
    pub fn news(&self) -> broadcast::Receiver<Digest> {
        self.news.subscribe()
    }

    /// Where a whole blob lies.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    /// The size of a blob that is here whole.
    #[must_use]
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        let meta = std::fs::metadata(self.path(digest)).ok()?;
        meta.is_file().then_some(meta.len())
    }

    /// Whether a blob that nothing signed asks for may be taken in: whoever brings such blobs must not
    /// be able to fill the disk on which statements, vetoes and the keeper's journal are written.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn has_room(&self, size: u64) -> io::Result<bool> {
        let disk = rustix::fs::statvfs(&self.folder)?;
        let (free, all) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
        Ok(free.saturating_sub(size) >= (all / 10).min(RESERVE))
    }

    /// Begins to receive a blob, or goes on where an earlier attempt was cut off. Reads what is
    /// there: call it where blocking is allowed.
    ///
    /// # Errors
    /// See [`DepotError`].
    pub fn receive(&self, digest: Digest, size: u64) -> Result<Receiving, DepotError> {
        self.open_part(digest, size, By::Asked)
    }

    /// The same for what nothing signed names yet, in a part of its own.
    ///
    /// # Errors
    /// See [`DepotError`].
    pub fn receive_unasked(&self, digest: Digest, size: u64) -> Result<Receiving, DepotError> {
        self.open_part(digest, size, By::Unasked)
    }

    fn open_part(&self, digest: Digest, size: u64, by: By) -> Result<Receiving, DepotError> {
        if size > COMPONENT_MAX {
            return Err(DepotError::TooLarge(size));
        }
        let claim = Claim::new(self, digest, by)?;
        let part = self.folder.join(format!("{}{}", digest.hex(), by.ending()));
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&part)?;
        let mut hash = Sha256::new();
        let mut have = 0;
        if file.metadata()?.len() > size {
            file.set_len(0)?;
        }
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let read = file.read(&mut chunk)?;
            if read == 0 {
                break;
            }
            hash.update(&chunk[..read]);
            have += read as u64;
        }
        Ok(Receiving { depot: self.clone(), _claim: claim, part, file, hash, have, size, digest })
    }

    /// Hashes a blob that is here whole again, and removes it if the disk has changed it. Blocks.
    ///
    /// # Errors
    /// [`DepotError::BadDigest`] if it was removed, or the disk.
    pub fn check(&self, digest: &Digest) -> Result<(), DepotError> {
        let path = self.path(digest);
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let mut hash = Sha256::new();
        let mut chunk = vec![0; 64 * 1024];
        loop {
            match file.read(&mut chunk)? {
                0 => break,
                read => hash.update(&chunk[..read]),
            }
        }
        let found = Digest(hash.finalize().into());
        if found == *digest {
            return Ok(());
        }
        std::fs::remove_file(path)?;
        Err(DepotError::BadDigest { expected: *digest, found })
    }

    /// Removes every blob and every part that `keep` does not name, nobody is receiving and that
    /// has not changed for `age`: what governors bring comes before the proposal that names it.
    ///
    /// # Errors
    /// The folder cannot be listed; a file that cannot be removed is left for the next time.
    pub fn sweep(&self, keep: &BTreeSet<Digest>, age: Duration) -> io::Result<usize> {
        let busy: BTreeSet<Digest> = self.busy().iter().map(|(digest, _)| *digest).collect();
        let mut removed = 0;
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let endings = [By::Asked, By::Unasked].map(By::ending);
            let is_part = endings.iter().any(|ending| name.ends_with(*ending));
            let stem =
                endings.iter().find_map(|ending| name.strip_suffix(*ending)).unwrap_or(&name);
            let Ok(digest) = Digest::from_hex(stem) else { continue };
            // A date that lies ahead is none; then the file counts as old.
            let changed = entry.metadata().and_then(|meta| meta.modified());
            let old =
                changed.map_or(Duration::MAX, |at| at.elapsed().unwrap_or(Duration::MAX)) >= age;
            // What came another way needs its part no more.
            let named = keep.contains(&digest) && !(is_part && self.size(&digest).is_some());
            if old && !named && !busy.contains(&digest) {
                removed += usize::from(std::fs::remove_file(entry.path()).is_ok());
            }
        }
        Ok(removed)
    }

    /// Whether anybody is writing this blob.
    #[cfg(test)]
    pub(crate) fn is_receiving(&self, digest: &Digest) -> bool {
        self.busy().iter().any(|(busy, _)| busy == digest)
    }

    fn busy(&self) -> MutexGuard<'_, BTreeSet<(Digest, By)>> {
        // A list of names is whole whatever the thread that held it did.
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why somebody writes a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    /// Something signed names the blob, or it comes over this server's own socket.
    Asked,
    /// Somebody brings it before anything names it.
    Unasked,
}

impl By {
    /// What a part's name ends with.
    fn ending(self) -> &'static str {
        match self {
            Self::Asked => PART,
            Self::Unasked => BROUGHT,
        }
    }
}

/// The right to write one part; given back on drop.
#[derive(Debug)]
struct Claim {
    depot: Depot,
    part: (Digest, By),
}

impl Claim {
    fn new(depot: &Depot, digest: Digest, by: By) -> Result<Self, DepotError> {
        let part = (digest, by);
        if depot.busy().insert(part) {
            Ok(Self { depot: depot.clone(), part })
        } else {
            Err(DepotError::Busy(digest))
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.depot.busy().remove(&self.part);
    }
}

/// A blob on its way into the depot. Dropped half-way, it can be gone on with later.
#[derive(Debug)]
pub struct Receiving {
    depot: Depot,
    _claim: Claim,
    part: PathBuf,
    file: File,
    hash: Sha256,
    have: u64,
    size: u64,
    digest: Digest,
}

impl Receiving {
    /// Bytes that are here: the offset to go on from.
    #[must_use]
    pub fn have(&self) -> u64 {
        self.have
    }

    /// Whether every byte is here.
    #[must_use]
    pub fn whole(&self) -> bool {
        self.have == self.size
    }

    /// Forgets what is here, for a source that cannot go on in the middle.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn restart(&mut self) -> Result<(), DepotError> {
        self.file.set_len(0)?;
        self.hash = Sha256::new();
        self.have = 0;
        Ok(())
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// [`DepotError::TooLong`], after which what came is forgotten, or the disk.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), DepotError> {
        if self.have + bytes.len() as u64 > self.size {
            self.restart()?;
            return Err(DepotError::TooLong(self.size));
        }
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.have += bytes.len() as u64;
        Ok(())
    }

    /// Checks the digest, syncs, and gives the blob its name. Blocks on the disk.
    ///
    /// # Errors
    /// [`DepotError::Incomplete`] leaves the part for later; [`DepotError::BadDigest`] removes it.
    pub fn finish(self) -> Result<PathBuf, DepotError> {
        if !self.whole() {
            return Err(DepotError::Incomplete { have: self.have, size: self.size });
        }
        let found = Digest(self.hash.clone().finalize().into());
        if found != self.digest {
            std::fs::remove_file(&self.part)?;
            return Err(DepotError::BadDigest { expected: self.digest, found });
        }
        self.file.sync_all()?;
        let path = self.depot.path(&self.digest);
        std::fs::rename(&self.part, &path)?;
        disk::sync_folder(&self.depot.folder)?;
        // Nobody may be listening.
        let _ = self.depot.news.send(self.digest);
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depot() -> (tempfile::TempDir, Depot) {
        let folder = tempfile::tempdir().unwrap();
        let depot = Depot::open(&folder.path().join("blobs")).unwrap();
        (folder, depot)
    }

    #[test]
    fn a_blob_that_was_cut_off_goes_on() {
        let (_folder, depot) = depot();
        let digest = Digest::of(b"hello world");
        let mut receiving = depot.receive(digest, 11).unwrap();
        receiving.write(b"hello ").unwrap();
        assert!(matches!(depot.receive(digest, 11), Err(DepotError::Busy(_))));
        assert!(matches!(receiving.finish(), Err(DepotError::Incomplete { have: 6, size: 11 })));
        let mut receiving = depot.receive(digest, 11).unwrap();
        assert_eq!(receiving.have(), 6);
        receiving.write(b"world").unwrap();
        let path = receiving.finish().unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"hello world");
        assert_eq!(depot.size(&digest), Some(11));
    }

    #[test]
    fn t30_tampered_and_over_long_blobs_are_refused_and_leave_nothing() {
        let (_folder, depot) = depot();
        let digest = Digest::of(b"hello world");
        let mut receiving = depot.receive(digest, 11).unwrap();
        receiving.write(b"hello worle").unwrap();
        let error = receiving.finish().unwrap_err();
        assert_eq!(error.code(), "bad_digest");
        assert_eq!(depot.receive(digest, 11).unwrap().have(), 0);
        let mut receiving = depot.receive(digest, 11).unwrap();
        assert!(matches!(receiving.write(&[0; 12]), Err(DepotError::TooLong(11))));
        assert_eq!(receiving.have(), 0);
        assert_eq!(depot.size(&digest), None);
        let huge = COMPONENT_MAX + 1;
        assert!(matches!(depot.receive(digest, huge), Err(DepotError::TooLarge(_))));
    }

    #[test]
    fn a_blob_that_rotted_is_found_and_removed() {
        let (_folder, depot) = depot();
        let digest = Digest::of(b"a");
        let mut receiving = depot.receive(digest, 1).unwrap();
        receiving.write(b"a").unwrap();
        let path = receiving.finish().unwrap();
        depot.check(&digest).unwrap();
        std::fs::write(path, b"b").unwrap();
        assert_eq!(depot.check(&digest).unwrap_err().code(), "bad_digest");
        assert_eq!(depot.size(&digest), None);
        depot.check(&digest).unwrap();
    }

    #[test]
    fn what_is_brought_and_what_is_fetched_do_not_touch_each_other() {
        let (_folder, depot) = depot();
        let digest = Digest::of(b"hello world");
        let mut brought = depot.receive_unasked(digest, 11).unwrap();
        brought.write(b"HELLO ").unwrap();
        assert!(matches!(depot.receive_unasked(digest, 11), Err(DepotError::Busy(_))));
        let mut fetched = depot.receive(digest, 11).unwrap();
        assert_eq!(fetched.have(), 0, "nothing of what is brought");
        fetched.write(b"hello ").unwrap();
        fetched.restart().unwrap();
        brought.write(b"WORLD").unwrap();
        assert_eq!(brought.finish().unwrap_err().code(), "bad_digest");
        assert_eq!(depot.receive_unasked(digest, 11).unwrap().have(), 0);
        fetched.write(b"hello world").unwrap();
        assert_eq!(std::fs::read(fetched.finish().unwrap()).unwrap(), b"hello world");
        drop(depot.receive_unasked(digest, 11).unwrap());
        let keep = BTreeSet::from([digest]);
        assert_eq!(depot.sweep(&keep, Duration::ZERO).unwrap(), 1, "a part that lost the race");
        assert_eq!(depot.size(&digest), Some(11));
        drop(depot.receive_unasked(digest, 11).unwrap());
        assert_eq!(depot.sweep(&BTreeSet::new(), Duration::ZERO).unwrap(), 2, "a part, the blob");
    }

    #[test]
    fn a_sweep_keeps_what_is_named_or_on_its_way() {
        let (_folder, depot) = depot();
        for text in ["a", "b"] {
            let mut receiving = depot.receive(Digest::of(text.as_bytes()), 1).unwrap();
            receiving.write(text.as_bytes()).unwrap();
            receiving.finish().unwrap();
        }
        let _on_its_way = depot.receive(Digest::of(b"c"), 1).unwrap();
        let keep = BTreeSet::from([Digest::of(b"a")]);
        assert_eq!(depot.sweep(&keep, Duration::from_secs(3600)).unwrap(), 0);
        assert_eq!(depot.sweep(&keep, Duration::ZERO).unwrap(), 1);
        assert_eq!(depot.size(&Digest::of(b"a")), Some(1));
        assert_eq!(depot.size(&Digest::of(b"b")), None);
    }
}
