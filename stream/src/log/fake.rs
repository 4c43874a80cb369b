//! A disk in memory: it fails or loses power at any call.
//!
//! What survives a loss of power: bytes that were synced, under names whose folder was synced. Of
//! the rest, as on a real disk, some survives and some does not, by the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use crate::log::host::Disk;
use crate::stage;

/// What goes wrong at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails with this; a write has written half.
    Fails(io::ErrorKind),
    /// The power goes before it.
    CutBefore,
    /// The power goes after it.
    CutAfter,
}

/// The disk: what outlives the program.
#[derive(Debug)]
struct State {
    /// What programs see.
    live: BTreeMap<String, Vec<u8>>,
    /// The bytes of live files that were synced.
    synced: BTreeMap<String, Vec<u8>>,
    /// Bytes that a failed sync marked as written, as Linux does: the next one finds nothing to do.
    passed: BTreeMap<String, Vec<u8>>,
    /// What is there after a loss of power for sure.
    durable: BTreeMap<String, Vec<u8>>,
    folders: BTreeSet<String>,
    durable_folders: BTreeSet<String>,
    calls: usize,
    fault: Option<(usize, Fault)>,
    off: bool,
    /// No file gets longer.
    full: bool,
    random: ChaCha8Rng,
}

/// One program's view of it.
#[derive(Clone, Debug)]
pub(crate) struct FakeDisk(Arc<Mutex<State>>);

impl FakeDisk {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            live: BTreeMap::new(),
            synced: BTreeMap::new(),
            passed: BTreeMap::new(),
            durable: BTreeMap::new(),
            folders: BTreeSet::new(),
            durable_folders: BTreeSet::new(),
            calls: 0,
            fault: None,
            off: false,
            full: false,
            random: stage::random(seed),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the disk")
    }

    /// Goes wrong at the call of this number from now, from 0.
    pub(crate) fn fail_at(&self, call: usize, fault: Fault) {
        let mut state = self.state();
        state.fault = Some((state.calls + call, fault));
    }

    /// Whether the fault was met.
    pub(crate) fn has_failed(&self) -> bool {
        self.state().fault.is_none()
    }

    /// From now on, and until it is said again, there is no room for more bytes, or there is.
    pub(crate) fn fill(&self, full: bool) {
        self.state().full = full;
    }

    pub(crate) fn is_off(&self) -> bool {
        self.state().off
    }

    /// Every file and its bytes.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.state().live.clone()
    }

    /// Changes a byte behind everybody's back.
    pub(crate) fn rot(&self, path: &str, at: usize) {
        let mut state = self.state();
        state.live.get_mut(path).expect("the file is there")[at] ^= 0x10;
    }

    /// The power comes back.
    pub(crate) fn power_on(&self) {
        let state = &mut *self.state();
        (state.off, state.fault) = (false, None);
        let mut files = state.durable.clone();
        for (path, live) in &state.live {
            match files.get_mut(path) {
                Some(bytes) => *bytes = tear(bytes, live, &mut state.random),
                None if state.random.r#gen() => {
                    files.insert(path.clone(), tear(&[], live, &mut state.random));
                }
                None => {}
            }
        }
        for folder in state.folders.clone() {
            if !state.durable_folders.contains(&folder) && state.random.r#gen() {
                files.retain(|path, _| !path.starts_with(&format!("{folder}/")));
            }
        }
        state.live = files.clone();
        state.passed.clear();
        state.synced = files.clone();
        state.durable = files;
        state.durable_folders = state.folders.clone();
    }

    /// Counts a call and lets it go wrong.
    fn call<T>(
        &self,
        half: impl FnOnce(&mut State),
        act: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let state = &mut *self.state();
        let now = state.calls;
        state.calls += 1;
        let cut = || io::Error::other("the power is off");
        if state.off {
            return Err(cut());
        }
        match state.fault.take_if(|(call, _)| *call == now).map(|(_, fault)| fault) {
            None => act(state),
            Some(Fault::Fails(kind)) => {
                half(state);
                Err(kind.into())
            }
            Some(Fault::CutBefore) => {
                half(state);
                state.off = true;
                Err(cut())
            }
            Some(Fault::CutAfter) => {
                let _ = act(state);
                state.off = true;
                Err(cut())
            }
        }
    }
}

/// What a loss of power leaves of a file: the synced bytes, and some of those written since.
fn tear(synced: &[u8], live: &[u8], random: &mut ChaCha8Rng) -> Vec<u8> {
    if live.len() <= synced.len() {
        return synced.to_vec();
    }
    let end = random.gen_range(synced.len()..=live.len());
    let mut bytes = [synced, &live[synced.len()..end]].concat();
    if end > synced.len() && random.r#gen() {
        // A block that never reached the disk.
        let hole = random.gen_range(synced.len()..end);
        bytes[hole..end].fill(0);
    }
    bytes
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

impl State {
    fn sync_folder(&mut self, folder: &str) {
        self.durable.retain(|path, _| folder_of(path) != folder || self.live.contains_key(path));
        for path in self.live.keys().filter(|path| folder_of(path) == folder) {
            let synced = self.synced.get(path).cloned().unwrap_or_default();
            self.durable.insert(path.clone(), synced);
        }
        if folder.is_empty() {
            self.durable_folders = self.folders.clone();
        }
    }

    fn sync(&mut self, path: &str) -> io::Result<()> {
        let bytes = self.live.get(path).ok_or(io::ErrorKind::NotFound)?.clone();
        if self.passed.get(path) == Some(&bytes) {
            return Ok(());
        }
        if let Some(durable) = self.durable.get_mut(path) {
            durable.clone_from(&bytes);
        }
        self.synced.insert(path.to_owned(), bytes);
        Ok(())
    }

    fn write(&mut self, path: &str, at: u64, bytes: &[u8]) {
        let file = self.live.entry(path.to_owned()).or_default();
        if at == 0 && bytes.len() >= file.len() {
            // All of it is to be written again, whatever a failed sync had marked.
            self.passed.remove(path);
        }
        let (start, end) = (at as usize, at as usize + bytes.len());
        file.resize(file.len().max(end), 0);
        file[start..end].copy_from_slice(bytes);
    }
}

impl Disk for FakeDisk {
    fn list(&mut self, folder: &str) -> io::Result<Vec<String>> {
        self.call(
            |_| {},
            |state| {
                let files = state.live.keys().filter(|path| folder_of(path) == folder);
                let files = files.filter_map(|path| path.rsplit('/').next().map(str::to_owned));
                let folders = state.folders.iter().filter(|_| folder.is_empty()).cloned();
                Ok(files.chain(folders).collect())
            },
        )
    }

    fn make_folder(&mut self, folder: &str) -> io::Result<()> {
        self.call(
            |_| {},
            |state| {
                state.folders.insert(folder.to_owned());
                Ok(())
            },
        )
    }

    fn len(&mut self, path: &str) -> io::Result<u64> {
        self.call(
            |_| {},
            |state| Ok(state.live.get(path).ok_or(io::ErrorKind::NotFound)?.len() as u64),
        )
    }

    fn read(&mut self, path: &str, at: u64, length: usize) -> io::Result<Vec<u8>> {
        self.call(
            |_| {},
            |state| {
                let file = state.live.get(path).ok_or(io::ErrorKind::NotFound)?;
                let start = (at as usize).min(file.len());
                Ok(file[start..(start + length).min(file.len())].to_vec())
            },
        )
    }

    fn write(&mut self, path: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        let half = |state: &mut State| state.write(path, at, &bytes[..bytes.len() / 2]);
        self.call(half, |state| {
            let length = state.live.entry(path.to_owned()).or_default().len();
            if state.full && at as usize + bytes.len() > length {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.write(path, at, bytes);
            Ok(())
        })
    }

    fn cut(&mut self, path: &str, length: u64) -> io::Result<()> {
        self.call(
            |_| {},
            |state| {
                state.live.get_mut(path).ok_or(io::ErrorKind::NotFound)?.truncate(length as usize);
                Ok(())
            },
        )
    }

    fn sync(&mut self, path: &str) -> io::Result<()> {
        let half = |state: &mut State| {
            let bytes = state.live.get(path).cloned();
            state.passed.extend(bytes.map(|bytes| (path.to_owned(), bytes)));
        };
        self.call(half, |state| state.sync(path))
    }

    fn sync_folder(&mut self, folder: &str) -> io::Result<()> {
        self.call(
            |_| {},
            |state| {
                state.sync_folder(folder);
                Ok(())
            },
        )
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.call(
            |_| {},
            |state| {
                for path in state.live.keys().cloned().collect::<Vec<_>>() {
                    state.sync(&path)?;
                }
                for folder in state.folders.clone().iter().map(String::as_str).chain([""]) {
                    state.sync_folder(folder);
                }
                Ok(())
            },
        )
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.call(
            |_| {},
            |state| {
                let bytes = state.live.remove(from).ok_or(io::ErrorKind::NotFound)?;
                state.passed.remove(to);
                state.live.insert(to.to_owned(), bytes);
                let synced = state.synced.remove(from).unwrap_or_default();
                state.synced.insert(to.to_owned(), synced);
                Ok(())
            },
        )
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.call(
            |_| {},
            |state| {
                state.live.remove(path);
                state.synced.remove(path);
                state.passed.remove(path);
                Ok(())
            },
        )
    }

    fn remove_folder(&mut self, folder: &str) -> io::Result<()> {
        self.call(
            |_| {},
            |state| {
                state.folders.remove(folder);
                Ok(())
            },
        )
    }
}
