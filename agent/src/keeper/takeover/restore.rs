//! Back to the snapshot, bit by bit: content, owner, mode, attributes, times, and what was not there.
//!
//! It can be cut off anywhere and done again: each path is looked at and brought back if it
//! differs. What is equal is not touched. Folders may belong to others, who change what stands at a
//! name whenever they like: owner, mode and attributes are given to what was looked at or made here.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::inode::Inode;
use super::machine::{FILE_MAX, Machine, MachineError, disk_error, is_absent, write_like};
use super::meta::Meta;
use super::passwd::Lock;
use super::reach::{Held, Reach, reach};
use super::snapshot::{Entry, Snapshot};
use crate::disk;

/// Brings everything back but `keep`, which is left as it is whether or not it was there.
pub(super) fn restore(
    machine: &Machine,
    snapshot: &Snapshot,
    keep: &BTreeSet<PathBuf>,
) -> Result<(), MachineError> {
    let _lock = Lock::take(machine)?;
    // What lay below /run is gone since the boot.
    let is_now = |path: &Path| !path.starts_with("/run") || snapshot.boot == machine.tools.boot();
    // 1. What was there, folders before what is in them; what was not, goes.
    for (path, entry) in &snapshot.entries {
        if is_now(path) && !keep.contains(path) {
            bring_back(machine, path, entry)?;
        }
    }
    // 2. What came since.
    for tree in &snapshot.trees {
        remove_new(machine, snapshot, keep, tree)?;
    }
    // 3. Times of folders, which all of the above changed; the innermost first.
    for (path, entry) in snapshot.entries.iter().rev() {
        if let Entry::Folder { meta } = entry {
            put_time(machine, path, meta)?;
        }
    }
    for (path, meta) in snapshot.above.iter().rev() {
        put_time(machine, path, meta)?;
    }
    Ok(())
}

/// The place of a path, its folder made where it is not there; none where somebody else than root has put
/// a link on the way: what lies behind that is not what was taken.
fn hold(machine: &Machine, path: &Path, entry: &Entry) -> Result<Option<Held>, MachineError> {
    let reached = || reach(machine, path).map_err(|source| disk_error(path, source));
    let mut way = reached()?;
    if let (Reach::Missing, Some(folder)) = (&way, path.parent())
        && !matches!(entry, Entry::Absent | Entry::Other)
    {
        machine.folder(folder, 0o755)?;
        way = reached()?;
    }
    match way {
        Reach::There(held) => Ok(Some(held)),
        Reach::Missing => Ok(None),
        Reach::Foreign => {
            warn!(
                BORGIOS_EVENT = "not_brought_back",
                "{} is not brought back: somebody has put a link on the way to it",
                path.display()
            );
            Ok(None)
        }
    }
}

fn bring_back(machine: &Machine, path: &Path, entry: &Entry) -> Result<(), MachineError> {
    let Some(held) = hold(machine, path, entry)? else { return Ok(()) };
    let place = held.place();
    let found = match fs::symlink_metadata(place) {
        Ok(meta) => Some(meta.file_type()),
        Err(error) if is_absent(&error) => None,
        Err(source) => return Err(disk_error(path, source)),
    };
    let same_type = found.is_some_and(|found| match entry {
        Entry::Absent => false,
        Entry::File { .. } => found.is_file(),
        Entry::Folder { .. } => found.is_dir(),
        Entry::Link { .. } => found.is_symlink(),
        Entry::Other => true,
    });
    // A file or link in a file's place is replaced in one step; nothing else can be.
    let replaceable = !matches!(entry, Entry::Absent | Entry::Folder { .. })
        && found.is_some_and(|found| !found.is_dir());
    if found.is_some() && !same_type && !replaceable && *entry != Entry::Other {
        machine.remove_at(path, place)?;
    }
    machine.tidy_at(path, place)?;
    match entry {
        Entry::Absent | Entry::Other => Ok(()),
        Entry::Folder { meta } => {
            machine.folder(path, 0o700)?;
            put_to_folder(machine, path, place, meta)
        }
        Entry::Link { meta, target } => {
            machine.link_at(path, place, target)?;
            put_to_link(machine, path, place, meta)
        }
        Entry::File { meta, digest } => {
            let bytes = Snapshot::content(machine, digest)?;
            let meta = deserved(path, &held, meta);
            if same_type && put_to_file(machine, path, place, &bytes, &meta)? {
                return Ok(());
            }
            machine.change("restore", path, || write_like(place, &bytes, 0o600, Some(&meta)))
        }
    }
}

/// What a file may come back with.
fn deserved(path: &Path, held: &Held, meta: &Meta) -> Meta {
    // Set-uid, set-gid and capabilities make a program act for root. They come back only if root
    // owns the file and nobody else may write to it, or has a hand in any folder above it. Anywhere
    // else the content may be of somebody's making, and root's word would be lent to it: there they
    // are dropped, for a file of keys or settings needs none. (Folders keep their set-gid bit: it
    // only says whose group a new file gets.)
    if held.is_roots() && !meta.is_open() {
        return meta.clone();
    }
    let powerless = meta.powerless();
    if powerless != *meta {
        warn!("{} comes back without set-uid, set-gid and capabilities", path.display());
    }
    powerless
}

fn remove_new(
    machine: &Machine,
    snapshot: &Snapshot,
    keep: &BTreeSet<PathBuf>,
    folder: &Path,
) -> Result<(), MachineError> {
    if !machine.at(folder).is_dir() || machine.is_link(folder) {
        return Ok(());
    }
    for name in machine.names(folder)? {
        let path = folder.join(name);
        match snapshot.entries.get(&path) {
            Some(Entry::Folder { .. }) => remove_new(machine, snapshot, keep, &path)?,
            Some(_) => {}
            None if keep.iter().any(|kept| kept.starts_with(&path)) => {}
            None => machine.remove(path)?,
        }
    }
    Ok(())
}

/// Gives a file its owner, mode, attributes and times, if it is still the one that was there; if
/// not, it is to be written anew.
fn put_to_file(
    machine: &Machine,
    path: &Path,
    place: &Path,
    bytes: &[u8],
    meta: &Meta,
) -> Result<bool, MachineError> {
    let at = |source| disk_error(path, source);
    // One that cannot be opened, or that was made too long, is not.
    let Ok(Some(file)) = Inode::at(place).and_then(|inode| inode.file()) else { return Ok(false) };
    if !disk::read_open(&file, place, FILE_MAX).is_ok_and(|found| found == bytes) {
        return Ok(false);
    }
    let now = Meta::of_file(&file).map_err(at)?;
    if now == *meta {
        return Ok(true);
    }
    // Others may have it open and write to it still; or it only says the same, has another name,
    // and is not theirs: it may not become so by this one.
    if now.is_open() || file.metadata().map_err(at)?.nlink() != 1 {
        return Ok(false);
    }
    machine.change("put back", path, || meta.put_to(&file))?;
    Ok(true)
}

fn put_to_folder(
    machine: &Machine,
    path: &Path,
    place: &Path,
    meta: &Meta,
) -> Result<(), MachineError> {
    let at = |source| disk_error(path, source);
    let Some(folder) = Inode::at(place).and_then(|inode| inode.folder()).map_err(at)? else {
        let why = "is no folder any more; somebody else changes it".to_owned();
        return Err(MachineError::Odd { path: path.to_owned(), why });
    };
    if Meta::of_file(&folder).is_ok_and(|now| now == *meta) {
        return Ok(());
    }
    machine.change("put back", path, || meta.put_to(&folder))
}

fn put_to_link(
    machine: &Machine,
    path: &Path,
    place: &Path,
    meta: &Meta,
) -> Result<(), MachineError> {
    let at = |source| disk_error(path, source);
    let link = Inode::at(place).map_err(at)?;
    // What somebody has put in its place since is not given to anybody.
    let is_link = link.kind().map_err(at)?.is_symlink();
    if !is_link || Meta::of_link(&link).is_ok_and(|now| now == *meta) {
        return Ok(());
    }
    machine.change("put back", path, || meta.put_to_link(&link))
}

fn put_time(machine: &Machine, path: &Path, meta: &Meta) -> Result<(), MachineError> {
    let place = machine.at(path);
    // A folder above that is gone, such as a home, is not ours to make.
    if !place.is_dir() {
        return Ok(());
    }
    machine.change("put the time back of", path, || meta.put_time(&place))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use super::*;
    use crate::keeper::takeover::fake::{Fake, server};

    const KEYS: &str = "/home/ann/.ssh/authorized_keys";
    const ASIDE: &str = "/home/ann/.ssh/aside";

    /// A server with a file of ann's keys, of mode 0644.
    fn with_keys() -> (TempDir, Machine, Fake) {
        let (folder, machine, fake) = server();
        machine.folder("/home/ann/.ssh", 0o755).unwrap();
        machine.write(KEYS, b"keys", 0o644).unwrap();
        (folder, machine, fake)
    }

    fn set_mode(machine: &Machine, path: &str, mode: u32) {
        fs::set_permissions(machine.at(path), Permissions::from_mode(mode)).unwrap();
    }

    fn mode(machine: &Machine, path: &str) -> u32 {
        fs::symlink_metadata(machine.at(path)).unwrap().mode() & 0o7777
    }

    fn go_back(machine: &Machine, snapshot: &Snapshot) {
        restore(machine, snapshot, &BTreeSet::new()).unwrap();
    }

    #[test]
    fn set_id_bits_come_back_only_where_nobody_but_root_can_write() {
        let (_folder, machine, fake) = with_keys();
        let tool = "/etc/cloud/tool";
        machine.folder("/etc/cloud", 0o755).unwrap();
        machine.write(tool, b"tool", 0o755).unwrap();
        set_mode(&machine, "/home/ann/.ssh", 0o757);
        for path in [KEYS, tool] {
            set_mode(&machine, path, 0o6755);
        }
        let snapshot = Snapshot::make(&machine).unwrap();
        for is_written in [true, false] {
            for path in [KEYS, tool] {
                if is_written {
                    fs::write(machine.at(path), "another").unwrap();
                }
                set_mode(&machine, path, 0o600);
            }
            go_back(&machine, &snapshot);
            assert_eq!((mode(&machine, KEYS), mode(&machine, tool)), (0o755, 0o6755));
            assert_eq!(machine.text(KEYS).unwrap() + &machine.text(tool).unwrap(), "keystool");
        }
        // What was kept is dropped too, and then there is nothing left to do.
        set_mode(&machine, KEYS, 0o6755);
        go_back(&machine, &snapshot);
        assert_eq!(mode(&machine, KEYS), 0o755);
        let said = fake.calls().len();
        go_back(&machine, &snapshot);
        let is_change = |call: &String| ["put back", "restore"].iter().any(|w| call.starts_with(w));
        assert!(!fake.calls()[said..].iter().any(is_change));
    }

    /// Whoever owns the folder can put another file at a name between any two looks.
    #[test]
    fn a_file_that_is_put_at_a_name_meanwhile_is_not_changed() {
        let (_folder, machine, fake) = with_keys();
        let snapshot = Snapshot::make(&machine).unwrap();
        set_mode(&machine, KEYS, 0o600);
        let (keys, aside) = (machine.at(KEYS), machine.at(ASIDE));
        fake.race(&format!("put back {KEYS}"), move || {
            fs::rename(&keys, &aside).unwrap();
            fs::write(&keys, "another").unwrap();
            fs::set_permissions(&keys, Permissions::from_mode(0o640)).unwrap();
        });
        go_back(&machine, &snapshot);
        assert_eq!((mode(&machine, KEYS), mode(&machine, ASIDE)), (0o640, 0o644));
    }

    #[test]
    fn a_file_that_has_another_name_too_is_not_changed_by_this_one() {
        let (_folder, machine, _) = with_keys();
        let snapshot = Snapshot::make(&machine).unwrap();
        set_mode(&machine, KEYS, 0o600);
        fs::hard_link(machine.at(KEYS), machine.at(ASIDE)).unwrap();
        go_back(&machine, &snapshot);
        assert_eq!((mode(&machine, KEYS), mode(&machine, ASIDE)), (0o644, 0o600));
        assert_eq!(machine.text(KEYS).unwrap(), "keys");
    }
}
