//! Putting files into a folder that another user owns.
//!
//! Root writes here what borgiosd shall find, and borgiosd may be, or may once have been, in other
//! hands: any name in its folder can be a link to a file of the system. So nothing is done by path
//! below that folder: each step goes by descriptor, follows no link and makes each file anew.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::account::Account;

/// A folder of another user's, held open.
#[derive(Debug)]
pub struct Folder {
    file: File,
    owner: Option<Account>,
}

impl Folder {
    /// Makes and opens the folder `path`, whose parent is root's own, and gives it to `owner`.
    ///
    /// # Errors
    /// Whatever the disk says; `ENOTDIR` or `ELOOP` if a link stands there.
    pub fn make(path: &Path, owner: Option<Account>) -> io::Result<Self> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::other("a folder without a parent"));
        };
        std::fs::create_dir_all(parent)?;
        Self::below(&File::open(parent)?, name, owner)
    }

    /// Makes and opens a folder in this one.
    ///
    /// # Errors
    /// As [`Folder::make`].
    pub fn folder(&self, name: &str) -> io::Result<Self> {
        Self::below(&self.file, OsStr::new(name), self.owner)
    }

    fn below(parent: &File, name: &OsStr, owner: Option<Account>) -> io::Result<Self> {
        match mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => parent.sync_all()?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(parent, name, flags, Mode::empty())?);
        give(&file, owner)?;
        Ok(Self { file, owner })
    }

    /// Writes a file, mode 0600, whatever stood at its name before; when this returns, it survives
    /// a power cut.
    ///
    /// # Errors
    /// Whatever the disk says; what had the name before has it still.
    pub fn put(&self, name: &str, data: &mut dyn Read) -> io::Result<()> {
        let temporary = format!(".{name}.new");
        match unlinkat(&self.file, &temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(&self.file, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(made);
        io::copy(data, &mut file)?;
        give(&file, self.owner)?;
        file.sync_all()?;
        renameat(&self.file, &temporary, &self.file, name)?;
        self.file.sync_all()
    }
}

fn give(file: &File, owner: Option<Account>) -> io::Result<()> {
    let Some(Account { uid, gid }) = owner else { return Ok(()) };
    std::os::unix::fs::fchown(file, Some(uid), Some(gid))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_link_is_followed_wherever_it_stands() {
        let root = tempfile::tempdir().unwrap();
        let victim = root.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        let path = root.path().join("var/lib/borgios");
        let folder = Folder::make(&path, None).unwrap();
        for name in ["invite.json", ".invite.json.new"] {
            symlink(&victim, path.join(name)).unwrap();
        }
        for text in ["one", "two"] {
            folder.put("invite.json", &mut text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(path.join("invite.json")).unwrap(), text);
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        let elsewhere = root.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, path.join("blobs")).unwrap();
        assert!(folder.folder("blobs").is_err());
        fs::remove_file(path.join("blobs")).unwrap();
        folder.folder("blobs").unwrap().put("a", &mut b"a".as_slice()).unwrap();
        folder.folder("blobs").unwrap().put("a", &mut b"b".as_slice()).unwrap();
        assert_eq!(fs::read(path.join("blobs/a")).unwrap(), b"b");
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    }
}
