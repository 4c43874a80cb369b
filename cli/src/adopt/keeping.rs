//! Where receipts and sealed backups stay on this laptop, and what of one host did.
//!
//! Most of it cannot be fetched twice: nobody is let in after the take-over. So the folder is tried
//! before any host is dialled, nothing in it is ever replaced by other bytes, and what was not kept
//! is told with the host's outcome. Every fresh image calls itself alike: the second machine of a
//! name has its files under `NAME-2`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::durable;
use crate::failure::{Failure, OrFail as _};

/// The copy of what was taken, sealed to the owner's key.
pub(crate) const OWNER_BACKUP: &str = "owner-backup.age";
/// The receipt as it was printed.
pub(crate) const RECEIPT: &str = "receipt.txt";
/// The object in it that its keeper signed.
pub(crate) const HANDOVER: &str = "handover.json";

/// All that is kept of one host.
const FILES: [&str; 3] = [OWNER_BACKUP, RECEIPT, HANDOVER];

/// Machines of one name whose files one folder holds.
const SAME_NAME_MAX: u32 = 10_000;

/// What is written to see whether the folder takes a backup, in bytes: about what one has.
const TRIAL: usize = 64 * 1024;

/// The folder, for all hosts of one run.
#[derive(Debug)]
pub(crate) struct Keeping {
    folder: PathBuf,
    /// The names under which hosts of this run keep theirs.
    taken: Mutex<BTreeSet<String>>,
}

impl Keeping {
    /// Makes the folder, and tries whether it takes a file.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn open(folder: PathBuf) -> Result<Self, Failure> {
        let trial = folder.join(format!(".trial.{}", std::process::id()));
        let tried = durable::folder(&folder)
            .and_then(|()| durable::write(&trial, &vec![0; TRIAL]))
            .and_then(|()| {
                fs::remove_file(&trial).or_fail(|| format!("could not remove {}", trial.display()))
            });
        tried.map_err(|failure| {
            failure
                .within("receipts and sealed backups could not be kept; nothing was changed")
                .hint("`--keep DIR` names a folder with room; nobody can fetch them afterwards")
        })?;
        Ok(Self { folder, taken: Mutex::default() })
    }

    /// Sets aside the name under which what one machine leaves is kept: the machine's own, or with a
    /// number where there are files of that name already.
    pub(crate) fn name_for(&self, machine: &str) -> String {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = |name: &String| {
            let lies = |file: &&str| self.folder.join(format!("{name}.{file}")).exists();
            !taken.contains(name) && !FILES.iter().any(lies)
        };
        let free = numbered(machine).find(is_free).unwrap_or_else(|| machine.to_owned());
        taken.insert(free.clone());
        free
    }

    /// Keeps one file of a host under the first of its names where no other one lies, or under a further
    /// name, which no other host of this run gets then; where it lies.
    ///
    /// # Errors
    /// It could not be written.
    fn keep(&self, names: &mut Names, file: &str, bytes: &[u8]) -> Result<PathBuf, Failure> {
        durable::folder(&self.folder)?;
        let path = |name: &str| self.folder.join(format!("{name}.{file}"));
        for name in names.all() {
            if lay(&path(name), bytes)? {
                return Ok(path(name));
            }
        }
        for _ in 0..SAME_NAME_MAX {
            let name = self.name_for(&names.first);
            if name == names.first {
                // No other one is free.
                break;
            }
            let laid = lay(&path(&name), bytes)?;
            let kept = path(&name);
            names.further.push(name);
            if laid {
                return Ok(kept);
            }
        }
        let (folder, name) = (self.folder.display(), &names.first);
        Err(Failure::new(format!("{folder} has too many files {name}")))
    }
}

/// `web-1`, `web-1-2`, `web-1-3` and so on.
fn numbered(name: &str) -> impl Iterator<Item = String> + '_ {
    let more = (2..=SAME_NAME_MAX).map(move |number| format!("{name}-{number}"));
    std::iter::once(name.to_owned()).chain(more)
}

/// Writes a file unless another one is there; whether it lies there now.
fn lay(path: &Path, bytes: &[u8]) -> Result<bool, Failure> {
    // Taken first, so that no other run writes to it: an empty file can be lost, a backup cannot.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            // One that is too long to be read is another one.
            let there = durable::read(path, bytes.len()).ok().flatten();
            return Ok(there.is_some_and(|there| there == bytes));
        }
        Err(error) => return Err(error).or_fail(|| format!("could not write {}", path.display())),
    }
    durable::write(path, bytes).map(|()| true).inspect_err(|_| {
        // Best effort; an empty file that stays is in nobody's way.
        let _ = fs::remove_file(path);
    })
}

/// The names under which the files of one host lie: one, and a further one for each file that came as another
/// one in a later attempt.
#[derive(Debug)]
struct Names {
    first: String,
    further: Vec<String>,
}

impl Names {
    fn all(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.first).chain(&self.further)
    }
}

/// What one host left on this laptop.
#[derive(Debug)]
pub(crate) struct Kept {
    names: Names,
    lies: BTreeMap<&'static str, BTreeSet<PathBuf>>,
    lost: BTreeMap<&'static str, String>,
}

impl Kept {
    /// Nothing yet, under a name from [`Keeping::name_for`].
    pub(crate) fn new(name: String) -> Self {
        let names = Names { first: name, further: Vec::new() };
        Self { names, lies: BTreeMap::new(), lost: BTreeMap::new() }
    }

    /// Keeps a file of this host; what is fetched again in a later attempt counts as well.
    ///
    /// # Errors
    /// It could not be got or written, and is lost unless it comes again.
    pub(crate) fn keep(
        &mut self,
        keeping: &Keeping,
        file: &'static str,
        bytes: Result<Vec<u8>, Failure>,
    ) -> Result<PathBuf, Failure> {
        let kept = bytes.and_then(|bytes| keeping.keep(&mut self.names, file, &bytes));
        match &kept {
            Ok(path) => {
                self.lost.remove(file);
                self.lies.entry(file).or_default().insert(path.clone());
            }
            Err(failure) if !self.lies.contains_key(file) => {
                self.lost.insert(file, failure.summary());
            }
            Err(_) => {}
        }
        kept
    }

    /// Where its files lie.
    pub(crate) fn lies(&self) -> Vec<String> {
        self.lies.values().flatten().map(|path| path.display().to_string()).collect()
    }

    /// What a member should have left here and did not: its receipt, and its backup where one was
    /// `sealed` for the owner. Of the object in the receipt every governor has another copy.
    pub(crate) fn lacks(&self, sealed: bool) -> Vec<String> {
        let ordered = FILES.into_iter().filter(|file| match *file {
            OWNER_BACKUP => sealed,
            file => file == RECEIPT,
        });
        let lost = ordered.filter(|file| !self.lies.contains_key(file));
        lost.map(|file| match self.lost.get(file) {
            Some(why) => format!("{file}: {why}"),
            None => format!("{file}: the line was cut before it came"),
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_machines_of_one_name_keep_both_of_theirs() {
        let folder = tempfile::tempdir().unwrap();
        for run in 0..2_u8 {
            let keeping = Keeping::open(folder.path().to_owned()).unwrap();
            let names = [keeping.name_for("debian"), keeping.name_for("debian")];
            assert_ne!(names[0], names[1]);
            for (at, name) in (0..2_u8).zip(names) {
                let mut kept = Kept::new(name);
                let sealed = vec![run, at];
                kept.keep(&keeping, OWNER_BACKUP, Ok(sealed.clone())).unwrap();
                // The same once more is the same file, and others are put beside it.
                kept.keep(&keeping, OWNER_BACKUP, Ok(sealed)).unwrap();
                kept.keep(&keeping, OWNER_BACKUP, Ok(vec![9, run, at])).unwrap();
            }
        }
        let lie = durable::list(folder.path()).unwrap();
        let mut all: Vec<Vec<u8>> =
            lie.iter().map(|path| durable::read(path, 100).unwrap().unwrap()).collect();
        all.sort();
        let short: Vec<_> = all.iter().filter(|bytes| bytes.len() == 2).cloned().collect();
        assert_eq!(short, [[0, 0], [0, 1], [1, 0], [1, 1]].map(Vec::from));
        assert_eq!(all.len(), 8, "{lie:?}");
    }

    /// A new attempt of a host makes another backup, for which no other host's name is taken.
    #[test]
    fn files_of_one_name_are_of_one_host() {
        let folder = tempfile::tempdir().unwrap();
        let keeping = Keeping::open(folder.path().to_owned()).unwrap();
        let [mut one, mut other] = [0, 1].map(|_| Kept::new(keeping.name_for("debian")));
        for bytes in [b"first", b"later", b"later"] {
            one.keep(&keeping, OWNER_BACKUP, Ok(bytes.to_vec())).unwrap();
        }
        other.keep(&keeping, OWNER_BACKUP, Ok(b"other".to_vec())).unwrap();
        for (kept, receipt) in [(&mut one, b"one"), (&mut other, b"two")] {
            kept.keep(&keeping, RECEIPT, Ok(receipt.to_vec())).unwrap();
        }
        let read = |name: &str| durable::read(&folder.path().join(name), 100).unwrap().unwrap();
        assert_eq!(read("debian-2.owner-backup.age"), b"other");
        assert_eq!(read("debian-2.receipt.txt"), b"two");
        assert_eq!(read("debian.receipt.txt"), b"one");
        assert_eq!(read("debian-3.owner-backup.age"), b"later");
        assert_eq!((one.lies().len(), other.lies().len()), (3, 2));
    }

    #[test]
    fn what_was_not_kept_is_lacking() {
        let folder = tempfile::tempdir().unwrap();
        let keeping = Keeping::open(folder.path().to_owned()).unwrap();
        let mut kept = Kept::new(keeping.name_for("web-1"));
        assert_eq!((kept.lacks(false).len(), kept.lacks(true).len()), (1, 2));
        kept.keep(&keeping, RECEIPT, Ok(b"receipt".to_vec())).unwrap();
        assert!(kept.keep(&keeping, OWNER_BACKUP, Err(Failure::new("gone"))).is_err());
        assert_eq!(kept.lacks(true), ["owner-backup.age: gone"]);
        // In a later attempt it came after all.
        kept.keep(&keeping, OWNER_BACKUP, Ok(b"sealed".to_vec())).unwrap();
        assert!(kept.lacks(true).is_empty() && kept.lies().len() == 2);

        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(Keeping::open(file.join("below")).is_err());
    }
}
