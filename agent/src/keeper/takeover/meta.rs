//! What a file is beside its content: owner, mode, times, extended attributes.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, fchown};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::inode::Inode;
use crate::disk;

/// Most bytes of attribute names, and of one value: what Linux allows at all.
const ATTRIBUTE_MAX: usize = 64 * 1024;
/// The attribute by which a program has a part of root's rights.
const CAPABILITY: &str = "security.capability";

/// Everything of a file that [`Meta::put_to`] can bring back. The time of its last change of state
/// (ctime) is the kernel's own and cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    uid: u32,
    gid: u32,
    /// The permission bits, with set-uid, set-gid and sticky.
    pub(super) mode: u32,
    mtime_s: i64,
    mtime_ns: i64,
    /// ACLs, capabilities and labels too; values in base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<String, String>,
}

impl Meta {
    /// Reads it, following no link.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let attributes = attributes(
            |names| rustix::fs::llistxattr(path, names),
            |name, value| rustix::fs::lgetxattr(path, name, value),
        )?;
        Ok(Self::with(&fs::symlink_metadata(path)?, attributes))
    }

    /// Reads it of an open file or folder.
    pub(super) fn of_file(file: &File) -> io::Result<Self> {
        let attributes = attributes(
            |names| rustix::fs::flistxattr(file, names),
            |name, value| rustix::fs::fgetxattr(file, name, value),
        )?;
        Ok(Self::with(&file.metadata()?, attributes))
    }

    /// Reads it of a link that is held.
    pub(super) fn of_link(link: &Inode) -> io::Result<Self> {
        // Nothing else names the attributes of what cannot be opened before Linux 6.13.
        let by_fd = link.by_fd();
        let attributes = attributes(
            |names| rustix::fs::listxattr(&by_fd, names),
            |name, value| rustix::fs::getxattr(&by_fd, name, value),
        )?;
        Ok(Self::with(&link.metadata()?, attributes))
    }

    fn with(meta: &Metadata, attributes: BTreeMap<String, String>) -> Self {
        Self {
            uid: meta.uid(),
            gid: meta.gid(),
            mode: meta.mode() & 0o7777,
            mtime_s: meta.mtime(),
            mtime_ns: meta.mtime_nsec(),
            attributes,
        }
    }

    /// The same without what gives rights to whoever starts it: set-uid, set-gid, capabilities.
    pub(super) fn powerless(&self) -> Self {
        let mut powerless = self.clone();
        powerless.mode &= 0o1777;
        powerless.attributes.remove(CAPABILITY);
        powerless
    }

    /// The same as root's own file: nobody else's by owner, mode or ACL, and no wider than `mode`.
    /// Its group is root's too, but for `group`. Labels stay.
    pub(super) fn as_roots(&self, mode: u32, group: Option<u32>) -> Self {
        let (uid, gid) = disk::roots();
        let mut roots = self.clone();
        roots.uid = uid;
        if Some(self.gid) != group {
            roots.gid = gid;
        }
        // Never what lets others write, nor set-uid and its like.
        roots.mode &= mode & 0o755;
        roots.attributes.retain(|name, _| name.starts_with("security."));
        roots
    }

    /// What of it makes a file somebody else's too, in words: how it differs from `roots`.
    pub(super) fn beyond(&self, roots: &Self) -> Vec<String> {
        let mut beyond = Vec::new();
        if (self.uid, self.gid) != (roots.uid, roots.gid) {
            beyond.push(format!("belongs to {}:{}", self.uid, self.gid));
        }
        if self.mode != roots.mode {
            beyond.push(format!("has mode {:o}", self.mode));
        }
        let attributes =
            self.attributes.keys().filter(|name| !roots.attributes.contains_key(*name));
        beyond.extend(attributes.map(|name| format!("has {name}")));
        beyond
    }

    /// Whether somebody besides root may write to it, be it by mode, ACL or as its owner.
    pub(super) fn is_open(&self) -> bool {
        // Where there is an ACL, the group's bits are the most that any of its entries gives.
        self.uid != disk::roots().0 || self.mode & 0o022 != 0
    }

    /// When the content last changed, for an archive.
    pub(super) fn mtime_s(&self) -> u64 {
        u64::try_from(self.mtime_s).unwrap_or(0)
    }

    /// Owner and group, for an archive.
    pub(super) fn owner(&self) -> (u32, u32) {
        (self.uid, self.gid)
    }

    /// Gives it to an open file or folder, whatever has its name by now: whoever owns the folder
    /// may change what stands at a name between any two calls. What is equal is left alone, so that
    /// a user's own files can be put back by that user.
    pub(super) fn put_to(&self, file: &File) -> io::Result<()> {
        if !self.has_owner_of(&file.metadata()?) {
            fchown(file, Some(self.uid), Some(self.gid))?;
        }
        // After the owner: changing it takes capabilities away.
        let now = Self::of_file(file)?;
        self.put_attributes(
            &now,
            |name, value| rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()),
            |name| rustix::fs::fremovexattr(file, name),
        )?;
        if (now.mtime_s, now.mtime_ns) != (self.mtime_s, self.mtime_ns) {
            rustix::fs::futimens(file, &self.times())?;
        }
        // Last: set-uid is nobody's before the file is its owner's, and changing that clears it.
        file.set_permissions(Permissions::from_mode(self.mode))
    }

    /// Gives it to a link that is held, but for the mode: a link has none.
    pub(super) fn put_to_link(&self, link: &Inode) -> io::Result<()> {
        let (now, by_fd) = (Self::of_link(link)?, link.by_fd());
        if !self.has_owner_of(&link.metadata()?) {
            chown(&by_fd, Some(self.uid), Some(self.gid))?;
        }
        self.put_attributes(
            &now,
            |name, value| rustix::fs::setxattr(&by_fd, name, value, XattrFlags::empty()),
            |name| rustix::fs::removexattr(&by_fd, name),
        )?;
        if (now.mtime_s, now.mtime_ns) != (self.mtime_s, self.mtime_ns) {
            rustix::fs::utimensat(CWD, &by_fd, &self.times(), AtFlags::empty())?;
        }
        Ok(())
    }

    fn has_owner_of(&self, meta: &Metadata) -> bool {
        (meta.uid(), meta.gid()) == (self.uid, self.gid)
    }

    /// Sets and removes attributes where they differ from those that are there `now`.
    fn put_attributes(
        &self,
        now: &Self,
        set: impl Fn(&str, &[u8]) -> rustix::io::Result<()>,
        remove: impl Fn(&str) -> rustix::io::Result<()>,
    ) -> io::Result<()> {
        for (name, value) in &self.attributes {
            if now.attributes.get(name) != Some(value) {
                let value = BASE64.decode(value).map_err(io::Error::other)?;
                set(name, &value)?;
            }
        }
        for name in now.attributes.keys().filter(|name| !self.attributes.contains_key(*name)) {
            // A label that the system gives to every new file cannot be taken away.
            match remove(name) {
                Ok(()) | Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Gives only the time, for folders, whose time changes with every file put into them.
    pub(super) fn put_time(&self, path: &Path) -> io::Result<()> {
        let meta = fs::symlink_metadata(path)?;
        if (meta.mtime(), meta.mtime_nsec()) == (self.mtime_s, self.mtime_ns) {
            return Ok(());
        }
        Ok(rustix::fs::utimensat(CWD, path, &self.times(), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn times(&self) -> Timestamps {
        let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let time = Timespec { tv_sec: self.mtime_s, tv_nsec: self.mtime_ns };
        Timestamps { last_access: omit, last_modification: time }
    }
}

/// Every attribute, by what lists their names and what reads the value of one.
fn attributes(
    list: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>,
    read: impl Fn(&CStr, &mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<BTreeMap<String, String>> {
    let mut names = vec![0_u8; ATTRIBUTE_MAX];
    let length = match list(names.as_mut_slice()) {
        Ok(length) => length,
        // A file system without them.
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = CString::new(name).map_err(io::Error::other)?;
        let mut value = vec![0_u8; ATTRIBUTE_MAX];
        match read(name.as_c_str(), value.as_mut_slice()) {
            Ok(length) => {
                let name = name.to_string_lossy().into_owned();
                found.insert(name, BASE64.encode(&value[..length]));
            }
            // Gone meanwhile, or hidden from us.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_and_times_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        fs::write(&one, "x").unwrap();
        fs::set_permissions(&one, Permissions::from_mode(0o4750)).unwrap();
        let mut meta = Meta::of(&one).unwrap();
        (meta.mtime_s, meta.mtime_ns) = (1_000_000_007, 123_456_789);
        fs::write(&two, "y").unwrap();
        // Another file has its name by the time.
        let file = File::open(&two).unwrap();
        let aside = folder.path().join("aside");
        fs::rename(&two, &aside).unwrap();
        fs::write(&two, "z").unwrap();
        let another = Meta::of(&two).unwrap();
        meta.put_to(&file).unwrap();
        assert_eq!(Meta::of(&aside).unwrap(), meta);
        assert_eq!(Meta::of_file(&file).unwrap(), meta);
        assert_eq!(Meta::of(&two).unwrap(), another);
        let powerless = meta.powerless();
        powerless.put_to(&file).unwrap();
        assert_eq!(Meta::of(&aside).unwrap(), powerless);
        assert_eq!(powerless.mode, 0o750);
    }

    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "x").unwrap();
        let before = Meta::of(&file).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        let mut meta = Meta::of(&link).unwrap();
        meta.mtime_s -= 1_000;
        if disk::roots().0 == 0 {
            (meta.uid, meta.gid) = (1_000, 1_001);
        }
        meta.put_to_link(&Inode::at(&link).unwrap()).unwrap();
        assert_eq!(Meta::of(&link).unwrap(), meta);
        assert_eq!(Meta::of(&file).unwrap(), before);
    }
}
