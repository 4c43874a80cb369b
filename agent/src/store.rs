//! Every signed object this node holds, on disk and in memory.
//!
//! ```text
//! objects/<kind>/<id>.json     one envelope each
//! objects/aside/<kind>-<id>    what was found damaged at a start: kept, never used
//! ```
//!
//! An object is in the index only once its file, its name and its folder are synced: what this node
//! acknowledges or relays survives a power cut. What may enter is not decided here.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use borgios_peertree::Body;
use borgios_policy::spent::Casts;
use borgios_policy::{Ballot, Object as _};
use borgios_types::limits::ENVELOPE_MAX;
use borgios_types::{Digest, Envelope};
use tracing::warn;

use crate::disk;

/// One stored object.
#[derive(Debug)]
pub struct Stored {
    /// SHA-256 of the payload.
    pub id: Digest,
    /// The envelope.
    pub envelope: Envelope,
    /// The envelope's JSON, shared by all links it is sent on.
    pub body: Body,
    /// Whose quota it counts against: a governor's name, with `@` and the group key for what is said
    /// on one board; or a node's key.
    pub owner: String,
    /// Its date, 0 where its kind has none.
    pub date: u64,
}

impl Stored {
    /// The envelope's type.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.envelope.kind.as_str()
    }

    /// Who made it: a governor's name, or a node's key.
    #[must_use]
    pub fn by(&self) -> &str {
        self.owner.split_once('@').map_or(&self.owner, |(name, _)| name)
    }
}

/// The objects.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    objects: BTreeMap<Digest, Arc<Stored>>,
    /// Ids by kind.
    kinds: BTreeMap<String, BTreeSet<Digest>>,
    /// Dates and ids by kind and owner.
    owners: BTreeMap<(String, String), BTreeSet<(u64, Digest)>>,
    /// What the ballots among them say.
    casts: Casts,
}

impl Store {
    /// Opens the folder without indexing anything, and returns the envelopes found in it, undamaged
    /// but not verified; the caller judges them and hands them to [`Store::index`].
    ///
    /// Damaged files are set aside and do not keep the agent from starting.
    ///
    /// # Errors
    /// The folder itself cannot be made or listed.
    pub fn open(folder: &Path) -> io::Result<(Self, Vec<Envelope>)> {
        std::fs::create_dir_all(folder)?;
        let store = Self {
            folder: folder.to_owned(),
            objects: BTreeMap::new(),
            kinds: BTreeMap::new(),
            owners: BTreeMap::new(),
            casts: Casts::default(),
        };
        let mut found = Vec::new();
        for kind in std::fs::read_dir(folder)? {
            let kind = kind?;
            if kind.file_name() == "aside" || !kind.file_type()?.is_dir() {
                continue;
            }
            for file in std::fs::read_dir(kind.path())? {
                let path = file?.path();
                match read(&path) {
                    Ok(Some(envelope)) => found.push(envelope),
                    Ok(None) => {}
                    Err(why) => store.set_aside(&path, &why),
                }
            }
        }
        Ok((store, found))
    }

    /// Writes an object, durably, then indexes it.
    ///
    /// # Errors
    /// The disk, a full one included; then the object is not here.
    pub fn put(&mut self, envelope: Envelope, owner: String, date: u64) -> io::Result<Arc<Stored>> {
        let path = self.path(&envelope);
        let folder = self.folder.join(envelope.kind.as_str());
        if !folder.is_dir() {
            std::fs::create_dir_all(&folder)?;
            disk::sync_folder(&self.folder)?;
        }
        disk::write_durable(&path, envelope.to_json().as_bytes(), 0o600)?;
        Ok(self.index(envelope, owner, date))
    }

    /// Indexes an object whose file is there, or which another file holds.
    pub fn index(&mut self, envelope: Envelope, owner: String, date: u64) -> Arc<Stored> {
        let id = envelope.id();
        let body = Body::from_text(envelope.to_json()).expect("an envelope serialises to JSON");
        let stored = Arc::new(Stored { id, envelope, body, owner, date });
        self.objects.insert(id, stored.clone());
        self.kinds.entry(stored.kind().to_owned()).or_default().insert(id);
        self.owners.entry(owner_key(&stored)).or_default().insert((date, id));
        if let Some(ballot) = ballot(&stored) {
            self.casts.insert(id, &ballot);
        }
        stored
    }

    /// Removes objects that lapsed. A file that cannot be removed comes back at the next start and
    /// lapses again.
    pub fn remove(&mut self, ids: &[Digest]) {
        for id in ids {
            let Some(stored) = self.objects.remove(id) else { continue };
            if let Some(ids) = self.kinds.get_mut(stored.kind()) {
                ids.remove(id);
            }
            self.leave_owner(&stored);
            if let Some(ballot) = ballot(&stored) {
                self.casts.remove(*id, &ballot);
            }
            let _ = std::fs::remove_file(self.path(&stored.envelope));
        }
    }

    /// Gives objects of some kinds the owner that `whose` names, where it names one.
    pub fn reown(&mut self, kinds: &[&str], whose: impl Fn(&Stored) -> Option<String>) {
        let ids = kinds.iter().filter_map(|kind| self.kinds.get(*kind)).flatten();
        let moved = ids.filter_map(|id| {
            let stored = self.objects.get(id)?;
            let owner = whose(stored).filter(|owner| *owner != stored.owner)?;
            Some((stored.clone(), owner))
        });
        for (stored, owner) in moved.collect::<Vec<_>>() {
            let Stored { id, envelope, body, date, .. } = &*stored;
            let (id, date) = (*id, *date);
            self.leave_owner(&stored);
            let moved = Stored { id, envelope: envelope.clone(), body: body.clone(), owner, date };
            self.owners.entry(owner_key(&moved)).or_default().insert((date, id));
            self.objects.insert(id, Arc::new(moved));
        }
    }

    fn leave_owner(&mut self, stored: &Stored) {
        let key = owner_key(stored);
        if let Some(owned) = self.owners.get_mut(&key) {
            owned.remove(&(stored.date, stored.id));
            if owned.is_empty() {
                self.owners.remove(&key);
            }
        }
    }

    /// Removes the file of an object that is not, or not only, in the index; when this returns, it
    /// does not come back after a crash.
    ///
    /// # Errors
    /// Whatever the disk says; there was no such file is none.
    pub fn remove_file(&self, envelope: &Envelope) -> io::Result<()> {
        match std::fs::remove_file(self.path(envelope)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => disk::sync_folder(&self.folder.join(envelope.kind.as_str())),
        }
    }

    /// Moves a file out of the way: damaged, or no longer acceptable.
    pub fn set_aside(&self, path: &Path, why: &str) {
        let aside = self.folder.join("aside");
        let kind = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let to = aside.join(format!("{kind}-{name}"));
        let moved = std::fs::create_dir_all(&aside).and_then(|()| std::fs::rename(path, &to));
        warn!(
            BORGIOS_EVENT = "object_set_aside",
            path = %path.display(),
            moved = moved.is_ok(),
            "set aside a stored object: {why}"
        );
    }

    /// The object with this id.
    #[must_use]
    pub fn get(&self, id: &Digest) -> Option<&Arc<Stored>> {
        self.objects.get(id)
    }

    /// The objects of one kind after `after`, in the order of their ids.
    pub fn list(&self, kind: &str, after: Option<Digest>) -> impl Iterator<Item = &Arc<Stored>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.kinds
            .get(kind)
            .into_iter()
            .flat_map(move |ids| ids.range((from, Unbounded)))
            .filter_map(|id| self.objects.get(id))
    }

    /// The objects of one kind by one owner, oldest first.
    pub fn owned(&self, kind: &str, owner: &str) -> impl DoubleEndedIterator<Item = &Arc<Stored>> {
        self.owners
            .get(&(kind.to_owned(), owner.to_owned()))
            .into_iter()
            .flatten()
            .filter_map(|(_, id)| self.objects.get(id))
    }

    /// What the ballots here say.
    #[must_use]
    pub fn casts(&self) -> &Casts {
        &self.casts
    }

    /// Every object.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Stored>> {
        self.objects.values()
    }

    /// How many objects of each kind there are.
    pub fn counts(&self) -> impl Iterator<Item = (&str, usize)> {
        self.kinds.iter().map(|(kind, ids)| (kind.as_str(), ids.len()))
    }

    /// Where an object's file lies.
    #[must_use]
    pub fn path(&self, envelope: &Envelope) -> PathBuf {
        let name = format!("{}.json", envelope.id().hex());
        self.folder.join(envelope.kind.as_str()).join(name)
    }
}

fn ballot(stored: &Stored) -> Option<Ballot> {
    Ballot::parse(&stored.envelope).ok().filter(|_| stored.kind() == Ballot::KIND)
}

fn owner_key(stored: &Stored) -> (String, String) {
    (stored.kind().to_owned(), stored.owner.clone())
}

/// Reads one file: `None` for a left-over temporary one, an error text for a damaged one.
fn read(path: &Path) -> Result<Option<Envelope>, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if name.starts_with('.') {
        let _ = std::fs::remove_file(path);
        return Ok(None);
    }
    let bytes = disk::read_bounded(path, ENVELOPE_MAX).map_err(|error| error.to_string())?;
    let envelope = Envelope::parse(&bytes).map_err(|error| error.to_string())?;
    let kind = path.parent().and_then(Path::file_name).unwrap_or_default();
    if kind != envelope.kind.as_str() || name != format!("{}.json", envelope.id().hex()) {
        return Err(format!("it holds {} {}", envelope.kind, envelope.id()));
    }
    Ok(Some(envelope))
}

#[cfg(test)]
mod tests {
    use super::*;
    use borgios_types::{Kind, SecretKey};

    fn note(text: &str) -> Envelope {
        let kind = Kind::new("note").unwrap();
        Envelope::unsigned(kind, format!("{{\"text\":{text:?}}}"))
            .sign(&SecretKey::from_seed([1; 32]))
    }

    #[test]
    fn what_was_put_is_found_again_and_damage_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, found) = Store::open(folder.path()).unwrap();
        assert!(found.is_empty());
        let one = store.put(note("one"), "ann".into(), 1).unwrap();
        let two = store.put(note("two"), "ann".into(), 2).unwrap();
        let three = store.put(note("three"), "bob".into(), 3).unwrap();
        assert_eq!(store.owned("note", "ann").map(|o| o.id).collect::<Vec<_>>(), [one.id, two.id]);
        assert_eq!(store.list("note", None).count(), 3);
        store.remove(&[three.id]);
        assert_eq!(store.owned("note", "bob").count(), 0);

        let path = store.path(&one.envelope);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.iter().position(|b| *b == b'o').unwrap();
        bytes[at + 30] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        std::fs::write(folder.path().join("note/garbage"), b"\xff").unwrap();
        let (_, found) = Store::open(folder.path()).unwrap();
        assert_eq!(found, std::slice::from_ref(&two.envelope));
        assert_eq!(std::fs::read_dir(folder.path().join("aside")).unwrap().count(), 2);
    }

    #[test]
    fn nothing_is_indexed_that_could_not_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(folder.path()).unwrap();
        // A file where the kind's folder should be: stands in for any failing disk.
        std::fs::write(folder.path().join("note"), b"").unwrap();
        assert!(store.put(note("one"), "ann".into(), 1).is_err());
        assert_eq!(store.all().count(), 0);
    }
}
