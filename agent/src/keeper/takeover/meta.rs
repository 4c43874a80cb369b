//! What a file is beside its content: owner, mode, times, extended attributes.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::disk;

/// Most bytes of attribute names, and of one value: what Linux allows at all.
const ATTRIBUTE_MAX: usize = 64 * 1024;

/// Everything of a file that [`Meta::put`] can bring back. The time of its last change of state
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
        let meta = fs::symlink_metadata(path)?;
        Ok(Self {
            uid: meta.uid(),
            gid: meta.gid(),
            mode: meta.mode() & 0o7777,
            mtime_s: meta.mtime(),
            mtime_ns: meta.mtime_nsec(),
            attributes: attributes(path)?,
        })
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

    /// Gives it to what stands at `path`, following no link; what is equal is left alone, so that
    /// a user's own files can be put back by that user.
    pub(super) fn put(&self, path: &Path) -> io::Result<()> {
        let now = Self::of(path)?;
        if (now.uid, now.gid) != (self.uid, self.gid) {
            lchown(path, Some(self.uid), Some(self.gid))?;
        }
        for (name, value) in &self.attributes {
            if now.attributes.get(name) != Some(value) {
                let value = BASE64.decode(value).map_err(io::Error::other)?;
                rustix::fs::lsetxattr(path, name.as_str(), &value, XattrFlags::empty())?;
            }
        }
        for name in now.attributes.keys().filter(|name| !self.attributes.contains_key(*name)) {
            // A label that the system gives to every new file cannot be taken away.
            match rustix::fs::lremovexattr(path, name.as_str()) {
                Ok(()) | Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // After the owner: changing it clears set-uid.
        set_mode(path, self.mode)?;
        self.put_time(path)
    }

    /// Gives only the time, for folders, whose time changes with every file put into them.
    pub(super) fn put_time(&self, path: &Path) -> io::Result<()> {
        let meta = fs::symlink_metadata(path)?;
        if (meta.mtime(), meta.mtime_nsec()) == (self.mtime_s, self.mtime_ns) {
            return Ok(());
        }
        let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let time = Timespec { tv_sec: self.mtime_s, tv_nsec: self.mtime_ns };
        let times = Timestamps { last_access: omit, last_modification: time };
        Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

/// Sets the mode of what stands at `path`, unless that is a link, which has none. It is opened first: whoever
/// owns the folder could put a link in its place between a look and a change by name.
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let here = rustix::fs::open(path, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&here)?.st_mode) == FileType::Symlink {
        return Ok(());
    }
    // Nothing else changes the mode of what is opened so before Linux 6.6.
    let by_fd = format!("/proc/self/fd/{}", here.as_raw_fd());
    fs::set_permissions(by_fd, fs::Permissions::from_mode(mode))
}

fn attributes(path: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut list = vec![0; ATTRIBUTE_MAX];
    let length = match rustix::fs::llistxattr(path, list.as_mut_slice()) {
        Ok(length) => length,
        // A file system without them.
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = BTreeMap::new();
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = CString::new(name).map_err(io::Error::other)?;
        let mut value = vec![0; ATTRIBUTE_MAX];
        match rustix::fs::lgetxattr(path, &name, value.as_mut_slice()) {
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
        fs::set_permissions(&one, fs::Permissions::from_mode(0o4750)).unwrap();
        let mut meta = Meta::of(&one).unwrap();
        (meta.mtime_s, meta.mtime_ns) = (1_000_000_007, 123_456_789);
        fs::write(&two, "y").unwrap();
        meta.put(&two).unwrap();
        assert_eq!(Meta::of(&two).unwrap(), meta);
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
        meta.put(&link).unwrap();
        assert_eq!(Meta::of(&link).unwrap(), meta);
        assert_eq!(Meta::of(&file).unwrap(), before);
    }
}
