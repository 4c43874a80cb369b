//! Whose the files are that decide who is root: root's own, or the next write undoes everything.
//!
//! Each becomes a new file with the same content: a program that holds the old one open for writing
//! goes on writing to what has no name any more.

use std::fs;

use super::catalogue::Kind;
use super::finding::Finding;
use super::machine::{Machine, MachineError, disk_error};
use super::meta::Meta;
use super::passwd::Lock;

const KIND: &str = "file-owner";
/// Every file of `/etc` that the take-over writes, and the widest mode it may have. All of them are
/// in the snapshot.
const FILES: [(&str, u32); 12] = [
    ("/etc/passwd", 0o644),
    ("/etc/passwd-", 0o644),
    ("/etc/shadow", 0o640),
    ("/etc/shadow-", 0o640),
    ("/etc/group", 0o644),
    ("/etc/group-", 0o644),
    ("/etc/gshadow", 0o640),
    ("/etc/gshadow-", 0o640),
    ("/etc/sudoers", 0o440),
    ("/etc/ssh/sshd_config", 0o644),
    ("/etc/default/ssh", 0o644),
    ("/etc/sysconfig/sshd", 0o644),
];
/// Folders in which those and ours lie. Whoever may write to one puts another file there.
const FOLDERS: [&str; 8] = [
    "/",
    "/etc",
    "/etc/ssh",
    "/etc/borgios",
    "/etc/default",
    "/etc/sysconfig",
    "/etc/systemd",
    "/etc/systemd/system",
];

/// Owners, modes and ACLs of files.
pub(super) struct FileOwner;

impl Kind for FileOwner {
    fn name(&self) -> &'static str {
        KIND
    }

    fn about(&self) -> &'static str {
        "whose the files are that decide who is root"
    }

    fn look(&self, machine: &Machine) -> Result<Vec<Finding>, MachineError> {
        let mut found = Vec::new();
        for (path, mode) in FILES {
            let Some(before) = machine.read(path)? else { continue };
            let beyond = if machine.is_link(path) {
                vec!["is a link".to_owned()]
            } else {
                let (now, roots) = machine.roots(path, mode)?;
                now.beyond(&roots)
            };
            if !beyond.is_empty() {
                let action = "a file of root's own with the same content";
                found.push(Finding::new(KIND, path, beyond.join(", "), &before, action));
            }
        }
        Ok(found)
    }

    fn apply(&self, machine: &Machine, _found: &[Finding]) -> Result<(), MachineError> {
        let _lock = Lock::take(machine)?;
        for (path, mode) in FILES {
            if let Some(bytes) = machine.read(path)? {
                machine.write(path, &bytes, mode)?;
            }
        }
        Ok(())
    }
}

/// Refuses folders that are not root's alone. They are not mended: who has had such a folder may
/// have anything in it, and a server on which others write to `/etc` is not one to take over.
pub(super) fn check_folders(machine: &Machine) -> Result<(), MachineError> {
    for folder in FOLDERS {
        let place = machine.at(folder);
        let odd = |why: String| Err(MachineError::Odd { path: folder.into(), why });
        match fs::symlink_metadata(&place) {
            Err(error) if super::machine::is_absent(&error) => continue,
            Err(source) => return Err(disk_error(folder.as_ref(), source)),
            Ok(meta) if !meta.is_dir() => {
                return odd("is no folder of its own; put a real one in its place".to_owned());
            }
            Ok(_) => {}
        }
        let meta = Meta::of(&place).map_err(|source| disk_error(folder.as_ref(), source))?;
        if meta.is_open() {
            let (uid, _) = meta.owner();
            return odd(format!(
                "others than root may write to it (owner {uid}, mode {:o}); \
                 `chown root {folder}` and `chmod go-w {folder}` first",
                meta.mode
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

    use super::*;
    use crate::disk;
    use crate::keeper::takeover::fake::server;

    fn mode(machine: &Machine, path: &str, mode: u32) {
        fs::set_permissions(machine.at(path), Permissions::from_mode(mode)).unwrap();
    }

    /// Owner and group, if the test is root and can give a file away.
    fn give(machine: &Machine, path: &str, uid: u32, gid: u32) {
        if disk::roots().0 == 0 {
            chown(machine.at(path), Some(uid), Some(gid)).unwrap();
        }
    }

    fn roots(machine: &Machine, path: &str, gid: u32, mode: u32) {
        let meta = fs::symlink_metadata(machine.at(path)).unwrap();
        assert!(meta.is_file(), "{path}");
        if disk::roots().0 == 0 {
            assert_eq!((meta.uid(), meta.gid()), (0, gid), "{path}");
        }
        assert_eq!(meta.mode() & 0o7777, mode, "{path}");
    }

    #[test]
    fn files_become_roots_and_only_the_group_shadow_keeps_its_own() {
        let (_folder, machine, _) = server();
        machine.write("/etc/group", b"root:x:0:\nshadow:x:42:\n", 0o644).unwrap();
        for (path, usual) in [("/etc/shadow", 0o640), ("/etc/gshadow", 0), ("/etc/sudoers", 0o440)]
        {
            mode(&machine, path, usual);
        }
        assert_eq!(FileOwner.look(&machine).unwrap(), []);
        give(&machine, "/etc/shadow", 1_000, 42);
        mode(&machine, "/etc/shadow", 0o666);
        give(&machine, "/etc/gshadow", 0, 1_000);
        mode(&machine, "/etc/gshadow", 0o640);
        give(&machine, "/etc/passwd", 1_000, 42);
        mode(&machine, "/etc/passwd", 0o6755);
        fs::rename(machine.at("/etc/sudoers"), machine.at("/etc/elsewhere")).unwrap();
        machine.link("/etc/sudoers", "elsewhere".as_ref()).unwrap();
        let open = fs::OpenOptions::new().append(true).open(machine.at("/etc/shadow")).unwrap();
        let before = machine.read("/etc/shadow").unwrap();
        let found = FileOwner.look(&machine).unwrap();
        assert!(found.len() >= 3, "{found:#?}");
        FileOwner.apply(&machine, &found).unwrap();
        assert_eq!(FileOwner.look(&machine).unwrap(), []);
        roots(&machine, "/etc/shadow", 42, 0o640);
        roots(&machine, "/etc/gshadow", 0, 0o640);
        roots(&machine, "/etc/passwd", 0, 0o644);
        roots(&machine, "/etc/sudoers", 0, 0o440);
        // Whoever had it open still writes, to nothing.
        std::io::Write::write_all(&mut &open, b"toor::0::::::\n").unwrap();
        assert_eq!(machine.read("/etc/shadow").unwrap(), before);
    }

    #[test]
    fn a_file_that_is_written_does_not_keep_its_owner_mode_and_acl() {
        let (_folder, machine, _) = server();
        give(&machine, "/etc/sudoers", 1_000, 1_000);
        mode(&machine, "/etc/sudoers", 0o666);
        // `user:1000:rw-`, as setfacl writes it.
        let acl: Vec<u8> = [2_u32.to_le_bytes().to_vec()]
            .into_iter()
            .chain(
                [(1_u16, 6_u16, u32::MAX), (2, 6, 1_000), (4, 4, u32::MAX), (16, 6, u32::MAX)]
                    .into_iter()
                    .chain([(32, 4, u32::MAX)])
                    .map(|(tag, may, id)| {
                        [&tag.to_le_bytes()[..], &may.to_le_bytes(), &id.to_le_bytes()].concat()
                    }),
            )
            .flatten()
            .collect();
        let place = machine.at("/etc/sudoers");
        let name = "system.posix_acl_access";
        let set = rustix::fs::lsetxattr(&place, name, &acl, rustix::fs::XattrFlags::empty());
        let has_acl = |place| rustix::fs::lgetxattr(place, name, &mut [0; 256][..]).is_ok();
        // A file system without ACLs has nothing to lose.
        assert_eq!(has_acl(&place), set.is_ok());
        machine.write("/etc/sudoers", b"# ours\n", 0o440).unwrap();
        roots(&machine, "/etc/sudoers", 0, 0o440);
        assert!(!has_acl(&place));
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let (_folder, machine, _) = server();
        machine.folder("/etc/borgios", 0o755).unwrap();
        check_folders(&machine).unwrap();
        for folder in ["/etc", "/etc/ssh", "/etc/borgios"] {
            for open in [0o775, 0o757] {
                mode(&machine, folder, open);
                let said = check_folders(&machine).unwrap_err().to_string();
                assert!(
                    said.starts_with(&format!("{folder}: ")) && said.contains("chmod"),
                    "{said}"
                );
                mode(&machine, folder, 0o755);
            }
            if disk::roots().0 == 0 {
                give(&machine, folder, 1_000, 0);
                assert!(check_folders(&machine).is_err(), "{folder}");
                give(&machine, folder, 0, 0);
            }
        }
        check_folders(&machine).unwrap();
        fs::rename(machine.at("/etc/ssh"), machine.at("/etc/elsewhere")).unwrap();
        machine.link("/etc/ssh", "elsewhere".as_ref()).unwrap();
        assert!(check_folders(&machine).unwrap_err().to_string().contains("no folder of its own"));
    }
}
