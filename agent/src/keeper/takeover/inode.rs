//! What stands at a name, held: who owns the folder may put something else there at any moment.
//!
//! It is held by a descriptor that opens nothing (`O_PATH`), and opened by that only once its kind
//! is known: no link is followed, no FIFO waited for, no device woken. `O_NONBLOCK` alone would
//! still wake a device, and fail on a file that its owner holds a lease on.

use std::ffi::OsString;
use std::fs::{File, FileType, Metadata};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// A file, folder, link or anything else, whatever has its name by now.
pub(super) struct Inode(File);

impl Inode {
    /// What stands at `place`, following no link.
    pub(super) fn at(place: &Path) -> io::Result<Self> {
        Self::held(place, OFlags::NOFOLLOW)
    }

    /// What stands at `place`, or where a link there leads.
    pub(super) fn behind(place: &Path) -> io::Result<Self> {
        Self::held(place, OFlags::empty())
    }

    fn held(place: &Path, more: OFlags) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::CLOEXEC | more;
        Ok(Self(File::from(rustix::fs::open(place, flags, Mode::empty())?)))
    }

    /// Whether it is a file, a folder, a link: that never changes.
    pub(super) fn kind(&self) -> io::Result<FileType> {
        Ok(self.metadata()?.file_type())
    }

    /// Owner, mode, times.
    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.0.metadata()
    }

    /// The file, opened to be read; `None` if it is no plain file.
    pub(super) fn file(&self) -> io::Result<Option<File>> {
        self.open_if(self.kind()?.is_file())
    }

    /// The folder, opened to be read; `None` if it is none.
    pub(super) fn folder(&self) -> io::Result<Option<File>> {
        self.open_if(self.kind()?.is_dir())
    }

    fn open_if(&self, is_wanted: bool) -> io::Result<Option<File>> {
        is_wanted.then(|| File::open(self.by_fd())).transpose()
    }

    /// Where a link leads.
    pub(super) fn target(&self) -> io::Result<PathBuf> {
        let target = rustix::fs::readlinkat(&self.0, "", Vec::<u8>::new())?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }

    /// A path that means it and nothing else, a link itself included, as long as it is held.
    pub(super) fn by_fd(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType as Kind};

    use super::*;

    #[test]
    fn what_is_held_is_read_whatever_has_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let (file, secret) = (folder.path().join("file"), folder.path().join("secret"));
        fs::write(&file, "own").unwrap();
        fs::write(&secret, "secret").unwrap();
        let held = Inode::at(&file).unwrap();
        fs::rename(&file, folder.path().join("aside")).unwrap();
        symlink(&secret, &file).unwrap();
        let mut text = String::new();
        held.file().unwrap().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "own");
        let link = Inode::at(&file).unwrap();
        assert!(link.kind().unwrap().is_symlink() && link.file().unwrap().is_none());
        assert_eq!(link.target().unwrap(), secret);
        let behind = Inode::behind(&file).unwrap();
        text.clear();
        behind.file().unwrap().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "secret");
    }

    #[test]
    fn a_fifo_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(CWD, &fifo, Kind::Fifo, Mode::RWXU, 0).unwrap();
        let link = folder.path().join("link");
        symlink(&fifo, &link).unwrap();
        for held in [Inode::at(&fifo).unwrap(), Inode::behind(&link).unwrap()] {
            assert!(held.file().unwrap().is_none() && held.folder().unwrap().is_none());
        }
    }
}
