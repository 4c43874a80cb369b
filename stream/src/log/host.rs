//! What a log does to the host, in one reviewable place.
//!
//! [`Disk`] is what it may ask for; [`RealDisk`] does it; the fake of the tests does it in memory
//! and can fail or lose power at any call. Paths are relative to the log's folder.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::bounds::OPEN_FILES_MAX;

/// What a log may do to its disk.
pub trait Disk: core::fmt::Debug + Send {
    /// Names in a folder; none where there is no such folder.
    ///
    /// # Errors
    /// The host's.
    fn list(&mut self, folder: &str) -> io::Result<Vec<String>>;
    /// Makes a folder, if it is not there.
    ///
    /// # Errors
    /// The host's.
    fn make_folder(&mut self, folder: &str) -> io::Result<()>;
    /// Length of a file, in bytes.
    ///
    /// # Errors
    /// The host's.
    fn len(&mut self, path: &str) -> io::Result<u64>;
    /// Reads up to `length` bytes, fewer at the end of the file.
    ///
    /// # Errors
    /// The host's.
    fn read(&mut self, path: &str, at: u64, length: usize) -> io::Result<Vec<u8>>;
    /// Writes at an offset; makes the file if it is not there.
    ///
    /// # Errors
    /// The host's; some of the bytes may be written.
    fn write(&mut self, path: &str, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Writes two pieces, one after the other, as [`Disk::write`] does.
    ///
    /// # Errors
    /// The host's; some of the bytes may be written.
    fn write_both(&mut self, path: &str, at: u64, one: &[u8], other: &[u8]) -> io::Result<()> {
        self.write(path, at, one)?;
        self.write(path, at + one.len() as u64, other)
    }
    /// Cuts a file to a length.
    ///
    /// # Errors
    /// The host's.
    fn cut(&mut self, path: &str, length: u64) -> io::Result<()>;
    /// Makes the bytes of a file survive a loss of power.
    ///
    /// # Errors
    /// The host's; then nobody knows which bytes do.
    fn sync(&mut self, path: &str) -> io::Result<()>;
    /// Makes the names in a folder survive a loss of power.
    ///
    /// # Errors
    /// The host's.
    fn sync_folder(&mut self, folder: &str) -> io::Result<()>;
    /// Makes everything on this file system survive a loss of power.
    ///
    /// # Errors
    /// The host's.
    fn sync_all(&mut self) -> io::Result<()>;
    /// Renames a file over another.
    ///
    /// # Errors
    /// The host's.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; it need not be there.
    ///
    /// # Errors
    /// The host's.
    fn remove(&mut self, path: &str) -> io::Result<()>;
    /// Removes an empty folder; it need not be there.
    ///
    /// # Errors
    /// The host's.
    fn remove_folder(&mut self, folder: &str) -> io::Result<()>;
}

/// A folder of a real file system.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    /// Locked for as long as it is open: two logs in one folder would number two messages alike.
    _lock: File,
    /// Open files, and when each was used last.
    open: BTreeMap<String, (File, u64)>,
    uses: u64,
}

impl RealDisk {
    /// The folder `root`, which is made if it is not there.
    ///
    /// # Errors
    /// The host's; `WouldBlock` while another log has the folder open.
    pub fn new(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let lock = File::open(root)?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { _lock: lock, root: root.to_owned(), open: BTreeMap::new(), uses: 0 })
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn file(&mut self, path: &str, create: bool) -> io::Result<&File> {
        self.uses += 1;
        if !self.open.contains_key(path) {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(create).truncate(false).mode(0o600);
            let file = options.open(self.at(path))?;
            if self.open.len() >= OPEN_FILES_MAX {
                let oldest = self.open.iter().min_by_key(|(_, (_, used))| *used);
                if let Some(oldest) = oldest.map(|(path, _)| path.clone()) {
                    self.open.remove(&oldest);
                }
            }
            self.open.insert(path.to_owned(), (file, 0));
        }
        let (file, used) = self.open.get_mut(path).expect("it was put there above");
        *used = self.uses;
        Ok(file)
    }
}

impl Disk for RealDisk {
    fn list(&mut self, folder: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.at(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        // A name that is no text is none of ours.
        let name =
            |entry: io::Result<fs::DirEntry>| entry.map(|e| e.file_name().into_string().ok());
        entries.filter_map(|entry| name(entry).transpose()).collect()
    }

    fn make_folder(&mut self, folder: &str) -> io::Result<()> {
        match fs::create_dir(self.at(folder)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    fn len(&mut self, path: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.at(path))?.len())
    }

    fn read(&mut self, path: &str, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = self.file(path, false)?;
        let mut bytes = vec![0; length];
        let mut end = 0;
        while end < length {
            match file.read_at(&mut bytes[end..], at + end as u64) {
                Ok(0) => break,
                Ok(count) => end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(end);
        Ok(bytes)
    }

    fn write(&mut self, path: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(path, true)?.write_all_at(bytes, at)
    }

    fn write_both(&mut self, path: &str, at: u64, one: &[u8], other: &[u8]) -> io::Result<()> {
        let file = self.file(path, true)?;
        let pieces = [IoSlice::new(one), IoSlice::new(other)];
        // Mostly one call of the kernel; what it leaves is written in the ordinary way.
        let written = match rustix::io::pwritev(file, &pieces, at) {
            Ok(written) => written,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let ones = written.min(one.len());
        file.write_all_at(&one[ones..], at + ones as u64)?;
        let others = written - ones;
        file.write_all_at(&other[others..], at + (one.len() + others) as u64)
    }

    fn cut(&mut self, path: &str, length: u64) -> io::Result<()> {
        self.file(path, false)?.set_len(length)
    }

    fn sync(&mut self, path: &str) -> io::Result<()> {
        self.file(path, false)?.sync_data()
    }

    fn sync_folder(&mut self, folder: &str) -> io::Result<()> {
        File::open(self.at(folder))?.sync_all()
    }

    fn sync_all(&mut self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(&self.root)?)?)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.open.remove(from);
        self.open.remove(to);
        fs::rename(self.at(from), self.at(to))
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.open.remove(path);
        match fs::remove_file(self.at(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn remove_folder(&mut self, folder: &str) -> io::Result<()> {
        match fs::remove_dir(self.at(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}
