//! The gate on disk: what waits, since when, and what was said against it, in one file.
//!
//! ```text
//! gate.json      the whole of it, or the whole of it before: written, synced, renamed
//! gate.damaged   what the disk gave back changed; the locks begin anew then, which is the safe side
//! ```
//!
//! A server of before this file has none, and nothing waits there.

use std::io;
use std::path::{Path, PathBuf};

use borgios_policy::Gate;
use tracing::error;

use crate::disk;

/// Longest file, in bytes: as many statements as the gate keeps, each with its ballots.
const FILE_MAX: usize = 64 * 1024 * 1024;

/// A gate and its file.
#[derive(Debug)]
pub struct GateStore {
    path: PathBuf,
    gate: Gate,
    saves: u64,
}

impl GateStore {
    /// Reads the gate of a folder; an empty one if there is none.
    ///
    /// # Errors
    /// Whatever the disk says. A damaged file is set aside.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join("gate.json");
        let bytes = match disk::read_bounded(&path, FILE_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { path, gate: Gate::default(), saves: 0 });
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Vec::new(),
            other => other?,
        };
        match serde_json::from_slice(&bytes) {
            Ok(gate) => Ok(Self { path, gate, saves: 0 }),
            Err(damage) => {
                error!(
                    BORGIOS_EVENT = "gate_damaged",
                    "{} is damaged ({damage}) and is set aside; locks begin anew",
                    path.display()
                );
                std::fs::rename(&path, path.with_extension("damaged"))?;
                disk::sync_folder(folder)?;
                Ok(Self { path, gate: Gate::default(), saves: 0 })
            }
        }
    }

    /// The same for a program beside the one that keeps it: nothing is moved.
    ///
    /// # Errors
    /// Whatever the disk says. A damaged file is an empty gate.
    pub fn look(folder: &Path) -> io::Result<Self> {
        let path = folder.join("gate.json");
        let gate = match disk::read_bounded(&path, FILE_MAX) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) =>
            {
                Gate::default()
            }
            other => serde_json::from_slice(&other?).unwrap_or_default(),
        };
        Ok(Self { path, gate, saves: 0 })
    }

    /// The gate as it is stored.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// How often it was stored since it was read: what waits in it changed each time.
    #[must_use]
    pub fn saves(&self) -> u64 {
        self.saves
    }

    /// Puts `gate` in the place of the one before; when this returns, it survives a crash.
    ///
    /// # Errors
    /// Whatever the disk says, and `StorageFull` above what [`GateStore::open`] reads; the gate before
    /// stays, here and there.
    pub fn save(&mut self, gate: Gate) -> io::Result<()> {
        self.save_within(gate, FILE_MAX)
    }

    fn save_within(&mut self, gate: Gate, most: usize) -> io::Result<()> {
        let text = serde_json::to_vec(&gate).expect("a gate has string keys only");
        if text.len() > most {
            let why = format!("what waits comes to {} bytes, at most {most} are kept", text.len());
            return Err(io::Error::new(io::ErrorKind::StorageFull, why));
        }
        disk::write_durable(&self.path, &text, 0o600)?;
        self.gate = gate;
        self.saves += 1;
        Ok(())
    }

    /// Puts a gate in the place of one that is the same but for when it last saw the clock.
    pub fn looked(&mut self, gate: Gate) {
        self.gate = gate;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_empty_what_was_saved_is_there_and_damage_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = GateStore::open(folder.path()).unwrap();
        assert_eq!(store.gate(), &Gate::default());
        store.save(Gate::default()).unwrap();
        GateStore::open(folder.path()).unwrap();
        // What could not be read again is not written.
        let before = std::fs::read(folder.path().join("gate.json")).unwrap();
        let full = store.save_within(Gate::default(), before.len() - 1).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert_eq!(std::fs::read(folder.path().join("gate.json")).unwrap(), before);
        store.save_within(Gate::default(), before.len()).unwrap();
        std::fs::write(folder.path().join("gate.json"), "{\"docs\":7}").unwrap();
        GateStore::open(folder.path()).unwrap();
        assert!(folder.path().join("gate.damaged").exists());
        assert!(!folder.path().join("gate.json").exists());
        // A disk that fails: a folder has the name.
        std::fs::create_dir(folder.path().join("gate.json")).unwrap();
        assert!(store.save(Gate::default()).is_err());
    }
}
