//! The three files through which the board's certificates open this server, and nothing else does.
//!
//! ```text
//! /etc/borgios/ssh/board.pub         TrustedUserCAKeys          the board's group key
//! /etc/borgios/ssh/principals/root   AuthorizedPrincipalsFile   one line for each open grant
//! /etc/borgios/ssh/revoked           RevokedKeys                a KRL of serials that ended early
//! ```
//!
//! They are written before sshd's configuration names them: it refuses every key while the file of
//! `RevokedKeys` cannot be read (measured). Each is replaced whole, and only if it differs.
//!
//! The KRL's bytes are laid out here (OpenSSH's PROTOCOL.krl) rather than by `ssh-keygen -k`, which
//! puts the time into each, so that no two are alike and nobody could tell whether one is due.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, MetadataExt as _, PermissionsExt as _, lchown,
};
use std::path::{Path, PathBuf};

use borgios_types::PublicKey;
use thiserror::Error;
use tracing::error;

use super::paths::Paths;
use crate::disk;

/// Where they lie, as sshd's configuration names it.
pub const FOLDER: &str = "/etc/borgios/ssh";
/// The board's key in [`FOLDER`].
pub const BOARD: &str = "board.pub";
/// The folder of principals in [`FOLDER`], one file for each account.
pub const PRINCIPALS: &str = "principals";
/// The KRL in [`FOLDER`].
pub const REVOKED: &str = "revoked";
/// Longest of these files that is read back, in bytes.
const FILE_MAX: usize = 16 * 1024 * 1024;

/// What the chain says about this server's doors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorsWanted {
    /// The board's group key.
    pub ca: PublicKey,
    /// Principals of grants that are open here and now.
    pub principals: Vec<String>,
    /// Serials that are open no longer.
    pub revoked_serials: Vec<u64>,
}

/// Why a door could not be written; the others may have been.
#[derive(Debug, Error)]
#[error("cannot write {path}: {source}")]
pub struct DoorsError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// Writes what differs; the names of the files that did.
///
/// Revocations are written before grants: at no moment is something open that should be shut. Where one of
/// the two cannot be replaced, as on a full disk, what must not be open any more is struck out of the list
/// of principals in its place, which takes no room.
///
/// # Errors
/// The first file that cannot be written. Run it again.
pub fn write(paths: &Paths, wanted: &DoorsWanted) -> Result<Vec<&'static str>, DoorsError> {
    let folder = folder(paths);
    make(&folder.join(PRINCIPALS))?;
    let mut principals = wanted.principals.clone();
    principals.sort();
    principals.dedup();
    let lines: String = principals.iter().map(|line| format!("{line}\n")).collect();
    let root = format!("{PRINCIPALS}/root");
    let files: [(&'static str, PathBuf, Vec<u8>); 3] = [
        (REVOKED, folder.join(REVOKED), revocation_list(&wanted.ca, &wanted.revoked_serials)),
        (PRINCIPALS, folder.join(&root), lines.into_bytes()),
        (BOARD, folder.join(BOARD), format!("{}\n", wanted.ca).into_bytes()),
    ];
    let mut changed = Vec::new();
    for (name, path, bytes) in files {
        let failed = |source| DoorsError { path: path.clone(), source };
        if disk::read_bounded(&path, FILE_MAX).is_ok_and(|found| found == bytes) {
            continue;
        }
        // Whatever mask the process runs under: sshd reads them as nobody in particular.
        let written = disk::write_durable(&path, &bytes, 0o644)
            .and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(0o644)));
        if let Err(source) = written {
            strike_out(&folder.join(&root), &principals);
            return Err(failed(source));
        }
        changed.push(name);
    }
    Ok(changed)
}

/// Leaves of the list of principals only what is wanted. One write of the same length: no new block is
/// needed, and no reader sees half of it. sshd passes over empty lines.
fn strike_out(root: &Path, wanted: &[String]) {
    let Ok(listed) = disk::read_bounded(root, FILE_MAX) else { return };
    let is_wanted = |line: &&[u8]| wanted.iter().any(|wanted| wanted.as_bytes() == *line);
    let lines = listed.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    if lines.clone().all(|line| is_wanted(&line)) {
        return;
    }
    let mut kept: Vec<u8> =
        lines.filter(is_wanted).flat_map(|line| [line, b"\n"].concat()).collect();
    kept.resize(listed.len(), b'\n');
    let struck = std::fs::OpenOptions::new().write(true).open(root).and_then(|file| {
        file.write_all_at(&kept, 0)?;
        file.sync_all()
    });
    if let Err(error) = struck.or_else(|_| std::fs::remove_file(root)) {
        error!(BORGIOS_EVENT = "doors_open", %error, "{} keeps what it lists", root.display());
    }
}

/// Whether all three are there; sshd refuses everybody while one of them is not.
#[must_use]
pub fn are_there(paths: &Paths) -> bool {
    let folder = folder(paths);
    let root = folder.join(PRINCIPALS).join("root");
    [folder.join(BOARD), root, folder.join(REVOKED)].iter().all(|path| path.is_file())
}

/// Where they lie below the root.
#[must_use]
pub fn folder(paths: &Paths) -> PathBuf {
    paths.root.join(FOLDER.trim_start_matches('/'))
}

/// sshd wants every folder above to be root's, and writable by root alone.
fn make(principals: &Path) -> Result<(), DoorsError> {
    let failed = |source| DoorsError { path: principals.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o755).create(principals).map_err(failed)?;
    let (uid, gid) = disk::roots();
    for folder in principals.ancestors().take(3) {
        let failed = |source| DoorsError { path: folder.to_owned(), source };
        let meta = std::fs::symlink_metadata(folder).map_err(failed)?;
        if !meta.is_dir() {
            return Err(failed(io::Error::other("is no folder; remove what is there")));
        }
        if (meta.uid(), meta.gid()) != (uid, gid) {
            lchown(folder, Some(uid), Some(gid)).map_err(failed)?;
        }
        // Setting what is set already would dirty the inode, and wake the disk, with every look.
        if meta.mode() & 0o7777 != 0o755 {
            std::fs::set_permissions(folder, Permissions::from_mode(0o755)).map_err(failed)?;
        }
    }
    Ok(())
}

/// A key revocation list that names serials of certificates by `ca`.
fn revocation_list(ca: &PublicKey, serials: &[u64]) -> Vec<u8> {
    /// "SSHKRL\n\0", then version 1 of the format.
    const HEAD: [u8; 12] = *b"SSHKRL\n\0\0\0\0\x01";
    const SECTION_CERTIFICATES: u8 = 1;
    const SECTION_SERIAL_LIST: u8 = 0x20;
    let mut list = HEAD.to_vec();
    // The list's number, the time it was made, flags: sshd reads none of them.
    list.extend_from_slice(&[0; 24]);
    put(&mut list, b"");
    put(&mut list, b"");
    // No certificate has the serial 0, and sshd refuses a list that names it (measured): whatever was
    // signed, that must never come to every key being refused.
    let mut serials: Vec<u64> = serials.iter().copied().filter(|serial| *serial != 0).collect();
    if serials.is_empty() {
        return list;
    }
    serials.sort_unstable();
    serials.dedup();
    let mut blob = Vec::new();
    put(&mut blob, b"ssh-ed25519");
    put(&mut blob, &ca.to_bytes());
    let mut section = Vec::new();
    put(&mut section, &blob);
    put(&mut section, b"");
    section.push(SECTION_SERIAL_LIST);
    put(&mut section, &serials.iter().flat_map(|serial| serial.to_be_bytes()).collect::<Vec<_>>());
    list.push(SECTION_CERTIFICATES);
    put(&mut list, &section);
    list
}

/// A string as SSH writes it: its length, then its bytes.
fn put(to: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("at most 16 MiB are ever listed");
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use borgios_types::SecretKey;
    use std::process::Command;

    fn wanted(revoked: &[u64]) -> DoorsWanted {
        DoorsWanted {
            ca: SecretKey::from_seed([1; 32]).public(),
            principals: vec!["b".into(), "a".into(), "b".into()],
            revoked_serials: revoked.to_vec(),
        }
    }

    #[test]
    fn only_what_differs_is_written() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        assert_eq!(write(&paths, &wanted(&[])).unwrap(), [REVOKED, PRINCIPALS, BOARD]);
        assert!(write(&paths, &wanted(&[])).unwrap().is_empty());
        assert_eq!(write(&paths, &wanted(&[7])).unwrap(), [REVOKED]);
        let principals = folder(&paths).join("principals/root");
        assert_eq!(std::fs::read_to_string(principals).unwrap(), "a\nb\n");
    }

    /// A folder in the place of each temporary file stands for a disk without room.
    #[test]
    fn what_must_be_shut_is_shut_on_a_full_disk_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        write(&paths, &wanted(&[])).unwrap();
        let folder = folder(&paths);
        let principals = folder.join("principals/root");
        let full = [folder.join(".revoked.tmp"), folder.join("principals/.root.tmp")];
        let lines = || {
            let text = std::fs::read_to_string(&principals).unwrap();
            text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        full.iter().for_each(|path| std::fs::create_dir(path).unwrap());
        // Another grant cannot be opened, and those that are open stay.
        let more =
            DoorsWanted { principals: ["a", "b", "c"].map(str::to_owned).into(), ..wanted(&[]) };
        write(&paths, &more).unwrap_err();
        assert_eq!(lines(), ["a", "b"]);
        // One is revoked.
        let fewer = DoorsWanted { principals: vec!["b".to_owned()], ..wanted(&[7]) };
        write(&paths, &fewer).unwrap_err();
        assert_eq!(lines(), ["b"]);
        full.iter().for_each(|path| std::fs::remove_dir(path).unwrap());
        assert_eq!(write(&paths, &fewer).unwrap(), [REVOKED, PRINCIPALS]);
        assert_eq!(std::fs::read_to_string(&principals).unwrap(), "b\n");
    }

    #[test]
    fn the_folders_become_roots_and_a_link_in_the_place_of_one_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        let folder = folder(&paths);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
        if disk::roots().0 == 0 {
            lchown(&folder, Some(1_000), Some(1_000)).unwrap();
            lchown(folder.parent().unwrap(), Some(1_000), Some(0)).unwrap();
        }
        write(&paths, &wanted(&[])).unwrap();
        for folder in folder.join(PRINCIPALS).ancestors().take(3) {
            let meta = std::fs::metadata(folder).unwrap();
            assert_eq!((meta.uid(), meta.gid()), disk::roots(), "{folder:?}");
            assert_eq!(meta.mode() & 0o7777, 0o755, "{folder:?}");
        }
        let elsewhere = root.path().join("elsewhere");
        std::fs::rename(&folder, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &folder).unwrap();
        assert!(write(&paths, &wanted(&[7])).unwrap_err().to_string().contains("is no folder"));
    }

    #[test]
    fn ssh_keygen_finds_the_revoked_serials_and_no_others() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        let at = |name: &str| root.path().join(name);
        let run = |words: &[&str]| {
            let ran = Command::new("ssh-keygen").args(words).current_dir(root.path()).output();
            ran.unwrap().status.success()
        };
        let ca = SecretKey::from_seed([1; 32]);
        disk::write_durable(&at("ca"), ca.to_openssh("").as_bytes(), 0o600).unwrap();
        let user = SecretKey::from_seed([2; 32]).public();
        for serial in ["7", "8", "99"] {
            std::fs::write(at("user.pub"), format!("{user}\n")).unwrap();
            assert!(run(&["-q", "-s", "ca", "-I", "x", "-n", "x", "-z", serial, "user.pub"]));
            std::fs::rename(at("user-cert.pub"), at(&format!("{serial}-cert.pub"))).unwrap();
        }
        for (revoked, bad) in
            [(&[][..], &[][..]), (&[99, 7, 7], &["7", "99"]), (&[0, 7], &["7"]), (&[0], &[])]
        {
            write(&paths, &wanted(revoked)).unwrap();
            let list = folder(&paths).join(REVOKED);
            for serial in ["7", "8", "99"] {
                // -Q ends with 1 if the certificate is revoked, and also if the list is no list.
                let good =
                    run(&["-Q", "-f", list.to_str().unwrap(), &format!("{serial}-cert.pub")]);
                assert_eq!(good, !bad.contains(&serial), "{serial} of {revoked:?}");
            }
        }
    }
}
