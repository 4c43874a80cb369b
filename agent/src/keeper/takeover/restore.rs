//! Back to the snapshot, bit by bit: content, owner, mode, attributes, times, and what was not there.
//!
//! It can be cut off anywhere and done again: each path is looked at and brought back if it
//! differs. What is equal is not touched.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::machine::{Machine, MachineError, disk_error, is_absent, write_like};
use super::meta::Meta;
use super::passwd::Lock;
use super::reach::{Held, Reach, reach};
use super::snapshot::{Entry, Snapshot};

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
        machine.remove(path)?;
    }
    machine.tidy(path)?;
    match entry {
        Entry::Absent | Entry::Other => Ok(()),
        Entry::Folder { meta } => {
            machine.folder(path, 0o700)?;
            put(machine, path, place, meta)
        }
        Entry::Link { meta, target } => {
            machine.link(path, target)?;
            put(machine, path, place, meta)
        }
        Entry::File { meta, digest } => {
            let bytes = Snapshot::content(machine, digest)?;
            if same_type && machine.read(path)?.as_ref() == Some(&bytes) {
                return put(machine, path, place, meta);
            }
            machine.change("restore", path, || write_like(place, &bytes, 0o600, Some(meta)))
        }
    }
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

fn put(machine: &Machine, path: &Path, place: &Path, meta: &Meta) -> Result<(), MachineError> {
    if Meta::of(place).is_ok_and(|now| now == *meta) {
        return Ok(());
    }
    machine.change("put back", path, || meta.put(place))
}

fn put_time(machine: &Machine, path: &Path, meta: &Meta) -> Result<(), MachineError> {
    let place = machine.at(path);
    // A folder above that is gone, such as a home, is not ours to make.
    if !place.is_dir() {
        return Ok(());
    }
    machine.change("put the time back of", path, || meta.put_time(&place))
}
