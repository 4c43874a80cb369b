//! Reaching a file through folders that belong to others.
//!
//! A snapshot names files in homes, and whoever owns a home may have put a link in the place of a folder
//! since: root would then write wherever the link leads. So the way is gone folder by folder, each held
//! open, and a link counts only where nobody but root can have put it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, fstat, open, openat};
use rustix::io::Errno;

use super::machine::Machine;

/// How far the way to a file goes.
pub(super) enum Reach {
    /// To the folder that it lies in, or is to lie in.
    There(Held),
    /// A folder on it is not there.
    Missing,
    /// Somebody else than root put a link on it.
    Foreign,
}

/// A place in a folder that is held open.
pub(super) struct Held {
    _folder: File,
    place: PathBuf,
    is_roots: bool,
}

impl Held {
    /// The path by which the folder that is held is meant, whatever its names lead to by now.
    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    /// Whether nobody but root can put a name into any folder on the way; not where a link is on
    /// it, for what lies above the place to which that leads was not looked at.
    pub(super) fn is_roots(&self) -> bool {
        self.is_roots
    }
}

/// Goes the way to `path`.
pub(super) fn reach(machine: &Machine, path: &Path) -> io::Result<Reach> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Reach::Foreign);
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut held = File::from(open(machine.at("/"), flags, Mode::empty())?);
    let mut all_roots = is_roots(&held)?;
    for part in folder.components() {
        let part = match part {
            Component::Normal(part) => part,
            Component::RootDir | Component::CurDir => continue,
            Component::ParentDir | Component::Prefix(_) => return Ok(Reach::Foreign),
        };
        let next = match openat(&held, part, flags | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::LOOP | Errno::NOTDIR) if is_roots(&held)? => {
                all_roots = false;
                openat(&held, part, flags, Mode::empty())
            }
            next => next,
        };
        held = match next {
            Ok(next) => File::from(next),
            Err(Errno::NOENT) => return Ok(Reach::Missing),
            Err(Errno::LOOP | Errno::NOTDIR) => return Ok(Reach::Foreign),
            Err(error) => return Err(error.into()),
        };
        all_roots = all_roots && is_roots(&held)?;
    }
    let place = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd())).join(name);
    Ok(Reach::There(Held { _folder: held, place, is_roots: all_roots }))
}

/// Whether nobody but this process's user can put a name into a folder.
fn is_roots(folder: &File) -> io::Result<bool> {
    let meta = fstat(folder)?;
    Ok(meta.st_uid == rustix::process::geteuid().as_raw() && meta.st_mode & 0o022 == 0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::keeper::takeover::fake::server;

    #[test]
    fn a_link_counts_only_where_root_alone_can_have_put_it() {
        let (_folder, machine, _) = server();
        for folder in ["/srv/homes/ann/.ssh", "/etc/victim", "/open"] {
            machine.folder(folder, 0o755).unwrap();
        }
        symlink("srv/homes", machine.at("/homes")).unwrap();
        let there = |path: &str| reach(&machine, Path::new(path)).unwrap();
        let Reach::There(held) = there("/homes/ann/.ssh/keys") else { panic!("root's own link") };
        assert!(!held.is_roots());
        fs::write(held.place(), "keys").unwrap();
        assert!(machine.exists("/srv/homes/ann/.ssh/keys"));
        // The folder is another one by now: what is held is still the one that was reached.
        fs::rename(machine.at("/srv/homes/ann/.ssh"), machine.at("/srv/homes/ann/s")).unwrap();
        symlink("../../../etc/victim", machine.at("/srv/homes/ann/.ssh")).unwrap();
        fs::write(held.place(), "more").unwrap();
        assert!(!machine.exists("/etc/victim/keys"));
        // Others can write where this link stands.
        let ann = machine.at("/srv/homes/ann");
        fs::set_permissions(&ann, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(there("/homes/ann/.ssh/keys"), Reach::Foreign));
        for (path, is_roots) in [("/etc/victim/keys", true), ("/srv/homes/ann/s/keys", false)] {
            assert!(matches!(there(path), Reach::There(held) if held.is_roots() == is_roots));
        }
        assert!(matches!(there("/homes/ben/keys"), Reach::Missing));
        assert!(matches!(there("/homes/../etc/keys"), Reach::Foreign));
        fs::write(machine.at("/open/file"), "").unwrap();
        assert!(matches!(there("/open/file/keys"), Reach::Foreign));
    }
}
