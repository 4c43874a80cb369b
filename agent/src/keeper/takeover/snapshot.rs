//! Everything that may change, as it was: copied and synced before anything does.
//!
//! ```text
//! before/index.json      what stood at each path, or that nothing did
//! before/files/<hex>     contents, by digest
//! ```
//!
//! A tree is kept whole: what is not in it afterwards was not there before, and goes. During the
//! minutes of a take-over the server's accounts, units and SSH settings are nobody else's to change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use borgios_types::Digest;
use serde::{Deserialize, Serialize};

use super::catalogue;
use super::console::DEBUG_SHELL;
use super::guest_agent::AGENTS;
use super::inode::Inode;
use super::machine::{FILE_MAX, Machine, MachineError, disk_error, is_absent};
use super::meta::Meta;
use super::sshd_unit::property;
use crate::disk;

/// The snapshot's folder.
pub(super) const BEFORE: &str = "/var/lib/borgios-bootstrap/takeover/before";
/// What makes it one.
pub(super) const INDEX: &str = "/var/lib/borgios-bootstrap/takeover/before/index.json";
/// Most paths in a snapshot: a hundred times what a server has.
const ENTRIES_MAX: usize = 50_000;
/// Deepest folder, so that none is endless.
const DEPTH_MAX: usize = 16;

/// Files that the take-over, the install or the account tools change.
const FILES: [&str; 18] = [
    "/etc/passwd",
    "/etc/passwd-",
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/group",
    "/etc/group-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/subuid",
    "/etc/subuid-",
    "/etc/subgid",
    "/etc/subgid-",
    "/etc/.pwd.lock",
    "/etc/sudoers",
    "/etc/doas.conf",
    "/usr/local/etc/doas.conf",
    "/etc/default/ssh",
    "/etc/sysconfig/sshd",
];
/// Folders that they change, kept whole.
const TREES: [&str; 7] = [
    "/etc/ssh",
    "/etc/sudoers.d",
    "/etc/doas.d",
    "/etc/borgios",
    "/etc/systemd/system",
    "/etc/tmpfiles.d",
    "/etc/cloud",
];

/// What stood at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub(super) enum Entry {
    /// Nothing.
    Absent,
    /// A file.
    File {
        /// Owner, mode, times.
        meta: Meta,
        /// Of its content.
        digest: Digest,
    },
    /// A folder.
    Folder {
        /// Owner, mode, times.
        meta: Meta,
    },
    /// A link.
    Link {
        /// Owner and times.
        meta: Meta,
        /// Where it leads.
        target: PathBuf,
    },
    /// A socket or device; nobody touches it.
    Other,
}

/// Everything, by its path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Snapshot {
    /// What stood where.
    pub(super) entries: BTreeMap<PathBuf, Entry>,
    /// Folders that are kept whole.
    pub(super) trees: Vec<PathBuf>,
    /// Folders above entries: only their times are put back.
    pub(super) above: BTreeMap<PathBuf, Meta>,
    /// Units that ran and that the take-over stops.
    pub(super) running: Vec<String>,
    /// In which boot it was made: what lies below `/run` is worth nothing in another.
    pub(super) boot: String,
}

impl Snapshot {
    /// Copies everything; when this returns, all of it survives a power cut.
    pub(super) fn make(machine: &Machine) -> Result<Self, MachineError> {
        machine.remove(BEFORE)?;
        machine.folder(Path::new(BEFORE).join("files"), 0o700)?;
        let mut snapshot = Self {
            entries: BTreeMap::new(),
            trees: TREES.map(PathBuf::from).to_vec(),
            above: BTreeMap::new(),
            running: Vec::new(),
            boot: machine.tools.boot(),
        };
        for path in TREES {
            snapshot.add(machine, Path::new(path), 0)?;
        }
        let mut files: Vec<_> = FILES.map(PathBuf::from).to_vec();
        files.extend(catalogue::touched(machine)?);
        for path in files {
            // Below a tree it is there already, unless the tree is a link or holds one.
            if !snapshot.entries.contains_key(&path) {
                snapshot.add(machine, &path, 0)?;
            }
        }
        for path in snapshot.entries.keys().cloned().collect::<Vec<_>>() {
            snapshot.add_above(machine, &path)?;
        }
        // The agent's own folders go; what they lay in stays.
        for path in ["/opt/borgios", "/var/lib/borgios"] {
            snapshot.add_above(machine, Path::new(path))?;
        }
        for unit in AGENTS.into_iter().chain([DEBUG_SHELL]) {
            if property(machine, unit, "ActiveState")? == "active" {
                snapshot.running.push(unit.to_owned());
            }
        }
        let index = serde_json::to_vec(&snapshot).map_err(|error| MachineError::Odd {
            path: INDEX.into(),
            why: format!("a name on this server is no UTF-8; rename it ({error})"),
        })?;
        machine.write(INDEX, &index, 0o600)?;
        Ok(snapshot)
    }

    /// Reads it back.
    pub(super) fn read(machine: &Machine) -> Result<Self, MachineError> {
        let odd = |why: String| MachineError::Odd { path: INDEX.into(), why };
        let bytes = machine.read(INDEX)?.ok_or_else(|| odd("is not there".to_owned()))?;
        serde_json::from_slice(&bytes).map_err(|error| odd(error.to_string()))
    }

    /// The content of a file as it was.
    pub(super) fn content(machine: &Machine, digest: &Digest) -> Result<Vec<u8>, MachineError> {
        let path = stored(digest);
        let odd = |why: &str| MachineError::Odd { path: path.clone(), why: why.to_owned() };
        let bytes = machine.read(&path)?.ok_or_else(|| odd("is not there"))?;
        if Digest::of(&bytes) == *digest { Ok(bytes) } else { Err(odd("was changed")) }
    }

    /// Adds what stands at a path, and below it.
    fn add(&mut self, machine: &Machine, path: &Path, depth: usize) -> Result<(), MachineError> {
        let odd = |why: &str| MachineError::Odd { path: path.to_owned(), why: why.to_owned() };
        if self.entries.len() >= ENTRIES_MAX || depth > DEPTH_MAX {
            return Err(odd("holds too much to copy; move away what is not needed there"));
        }
        let entry = look(machine, path)?;
        let is_folder = matches!(entry, Entry::Folder { .. });
        self.entries.insert(path.to_owned(), entry);
        if is_folder {
            for name in machine.names(path)? {
                self.add(machine, &path.join(name), depth + 1)?;
            }
        }
        Ok(())
    }

    fn add_above(&mut self, machine: &Machine, path: &Path) -> Result<(), MachineError> {
        let Some(above) = path.parent() else { return Ok(()) };
        if matches!(self.entries.get(above), Some(Entry::Folder { .. }))
            || !machine.at(above).is_dir()
        {
            return Ok(());
        }
        // Behind a link it is that folder whose time changes, and not the link's.
        let above = &real(machine, above);
        if !self.entries.contains_key(above) && !self.above.contains_key(above) {
            let meta = Meta::of(&machine.at(above)).map_err(|source| disk_error(above, source))?;
            self.above.insert(above.clone(), meta);
        }
        Ok(())
    }
}

/// The path of a folder without a link on it; the one that is given, where that is none of this
/// server's.
fn real(machine: &Machine, folder: &Path) -> PathBuf {
    let all = machine.at("/").canonicalize().ok().zip(machine.at(folder).canonicalize().ok());
    let below = all.and_then(|(root, found)| Some(found.strip_prefix(root).ok()?.to_owned()));
    below.map_or_else(|| folder.to_owned(), |below| Path::new("/").join(below))
}

/// What stands at a path; of a file the content is kept. Everything is of one inode, which is held:
/// else its owner could put a link at the name between two looks, and have what that leads to.
fn look(machine: &Machine, path: &Path) -> Result<Entry, MachineError> {
    let (place, at) = (machine.at(path), |source| disk_error(path, source));
    let inode = match Inode::at(&place) {
        Ok(inode) => inode,
        Err(error) if is_absent(&error) => return Ok(Entry::Absent),
        Err(source) => return Err(at(source)),
    };
    if let Some(file) = inode.file().map_err(at)? {
        let bytes = disk::read_open(&file, &place, FILE_MAX).map_err(at)?;
        let digest = Digest::of(&bytes);
        let copy = stored(&digest);
        if !machine.exists(&copy) {
            machine.write(&copy, &bytes, 0o600)?;
        }
        // After the content: what is written meanwhile takes set-uid away.
        return Ok(Entry::File { meta: Meta::of_file(&file).map_err(at)?, digest });
    }
    if let Some(folder) = inode.folder().map_err(at)? {
        return Ok(Entry::Folder { meta: Meta::of_file(&folder).map_err(at)? });
    }
    if inode.kind().map_err(at)?.is_symlink() {
        let target = inode.target().map_err(at)?;
        return Ok(Entry::Link { meta: Meta::of_link(&inode).map_err(at)?, target });
    }
    Ok(Entry::Other)
}

fn stored(digest: &Digest) -> PathBuf {
    Path::new(BEFORE).join("files").join(digest.hex())
}

/// Removes the snapshot, with the old passwords and keys in it: overwritten once and removed.
///
/// On SSDs and copy-on-write file systems the old blocks may live on for a while; by then no door
/// opens to what they hold.
pub(super) fn shred(machine: &Machine) -> Result<(), MachineError> {
    // The index first: without it nobody takes a half of the copies for a whole.
    let files = Path::new(BEFORE).join("files");
    let copies = machine.names(&files)?.into_iter().map(|name| files.join(name));
    for path in [PathBuf::from(INDEX)].into_iter().chain(copies) {
        let place = machine.at(&path);
        machine.change("shred", &path, || disk::shred(&place))?;
    }
    machine.remove(BEFORE)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::keeper::takeover::fake::server;

    /// Whoever owns the folder can do so between any two looks: here it happens all the time.
    #[test]
    fn a_link_that_is_put_at_a_name_meanwhile_is_not_read_through() {
        let (_folder, machine, _) = server();
        machine.folder(Path::new(BEFORE).join("files"), 0o700).unwrap();
        machine.folder("/home/ann", 0o755).unwrap();
        let name = Path::new("/home/ann/keys");
        let (keys, secret) = (machine.at(name), machine.at("/etc/shadow"));
        let (own, aside) = (machine.at("/home/ann/own"), machine.at("/home/ann/aside"));
        fs::write(&own, "mine").unwrap();
        fs::hard_link(&own, &keys).unwrap();
        let mine = Digest::of(b"mine");
        let mut snapshot = Snapshot {
            entries: BTreeMap::new(),
            trees: Vec::new(),
            above: BTreeMap::new(),
            running: Vec::new(),
            boot: String::new(),
        };
        std::thread::scope(|scope| {
            let swapping = scope.spawn(|| {
                for _ in 0..2_000 {
                    symlink(&secret, &aside).unwrap();
                    fs::rename(&aside, &keys).unwrap();
                    fs::hard_link(&own, &aside).unwrap();
                    fs::rename(&aside, &keys).unwrap();
                }
            });
            while !swapping.is_finished() {
                snapshot.add(&machine, name, 0).unwrap();
                let entry = &snapshot.entries[name];
                let is_one_of_both = match entry {
                    Entry::File { digest, .. } => *digest == mine,
                    Entry::Link { target, .. } => *target == secret,
                    _ => false,
                };
                assert!(is_one_of_both, "{entry:?}");
            }
        });
    }
}
