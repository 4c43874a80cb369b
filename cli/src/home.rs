//! The governor's folder: where each file lies, and the lock that keeps two runs apart.
//!
//! ```text
//! governor/identity.age      name, SSH seed, age identity; encrypted under the passphrase
//! governor/card.json         the public card
//! governor/founding.age      the founding's state while it runs; encrypted to the governor
//! governor/founding-….age    that of an attempt in whose place another one was begun
//! governor/share.age         FROST key package; encrypted to the governor's own recipient
//! governor/board.json        board, network id
//! governor/change.age        the state of a change of the board while its key is made
//! governor/next.{age,json}   the key it made, until its policy is in force; see next_key.rs
//! governor/past.{age,json}   the old share, while nodes may still hold the change back
//! governor/dead-….age        shares of keys that were given up or taken out of use; they may come back
//! governor/slots/…           see slots.rs
//! governor/generation-E      of its pools under the key of epoch E; absent: the first
//! governor/air-gap           exists on a machine without a network
//! objects/<kind>/<hex>.json  every envelope seen and verified
//! governor/reveals/…         see asker.rs
//! blobs/<hex>                schedules and escrows by digest, see shelf.rs
//! reviewed.json              what this governor has looked at with `review`
//! access.json                which key file a certificate was asked for with
//! nodes.json                 nodes talked to before, with the keys they showed
//! lock                       held by every command that writes; says which
//! admit.lock                 held while what came is judged and stored, and while what lies here is read: by
//!                            those too that only look
//! nodes.lock                 held while a node is remembered
//! ```

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use borgios_types::{Digest, KeyEpoch, Kind};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::printer::one_line;

/// Most bytes of the lock that are read.
const HOLDER_MAX: u64 = 200;

/// The folder, which need not exist yet.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    root: PathBuf,
}

/// Held while this process may write; the system releases it at exit, even after `kill -9`.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Home {
    /// The folder given, or `$BORGIOS_HOME`, or `~/.config/borgios`.
    pub(crate) fn at(given: Option<PathBuf>) -> Result<Self, Failure> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let own = || set("BORGIOS_HOME").map(PathBuf::from);
        let usual = || set("HOME").map(|home| Path::new(&home).join(".config/borgios"));
        given.or_else(own).or_else(usual).map(|root| Self { root }).ok_or_else(|| {
            Failure::usage("no folder for BorgIOS: HOME is not set")
                .hint("name one with `--home DIR` or BORGIOS_HOME")
        })
    }

    /// Creates the folder if need be and waits for its lock.
    ///
    /// Waiting, not failing: a second `vote` then finds what the first one stored.
    pub(crate) fn lock(&self) -> Result<Lock, Failure> {
        durable::folder(&self.root)?;
        durable::folder(&self.governor(""))?;
        durable::folder(&self.slots())?;
        let lock = self.hold("lock")?;
        sign(&lock.file);
        durable::sweep_dead(&self.root)?;
        // What a command that only looks is noting there, under another lock, stays.
        durable::sweep_dead(&self.governor(""))?;
        durable::sweep(&self.slots())?;
        Ok(lock)
    }

    /// Held while what came is judged and stored. Commands that only look hold no [`Home::lock`], and those
    /// that do may take this one beside it: whoever has it waits for no other lock, no node and no person.
    pub(crate) fn admitting(&self) -> Result<Lock, Failure> {
        durable::folder(&self.root)?;
        self.hold("admit.lock")
    }

    /// Held while a node is remembered, in the same way.
    pub(crate) fn remembering(&self) -> Result<Lock, Failure> {
        durable::folder(&self.root)?;
        self.hold("nodes.lock")
    }

    /// Waits for the lock that a file of the folder stands for.
    fn hold(&self, name: &str) -> Result<Lock, Failure> {
        let path = self.root.join(name);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .or_fail(|| format!("could not open {}", path.display()))?;
        flock(&file, FlockOperation::LockExclusive)
            .or_fail(|| format!("could not lock {}", path.display()))?;
        Ok(Lock { file })
    }

    /// Who holds the folder's lock, in words, if another process does.
    pub(crate) fn busy(&self) -> Result<Option<String>, Failure> {
        let path = self.root.join("lock");
        let Ok(file) = File::open(&path) else { return Ok(None) };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            // It is given back at once, with the file.
            Ok(()) => Ok(None),
            Err(Errno::WOULDBLOCK) => {
                let mut words = String::new();
                // Its holder may not have written yet.
                let _ = file.take(HOLDER_MAX).read_to_string(&mut words);
                let words = one_line(words.trim());
                Ok(Some(if words.is_empty() { "a process".to_owned() } else { words }))
            }
            Err(error) => {
                Err(Failure::new(format!("could not look at {}", path.display())).cause(error))
            }
        }
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A file of the governor.
    pub(crate) fn governor(&self, name: &str) -> PathBuf {
        self.root.join("governor").join(name)
    }

    /// Which generation of this governor's pools counts under the key of an epoch.
    pub(crate) fn generation(&self, epoch: KeyEpoch) -> PathBuf {
        self.governor(&format!("generation-{epoch}"))
    }

    /// The folder of the vote slots.
    pub(crate) fn slots(&self) -> PathBuf {
        self.governor("slots")
    }

    /// The folder of all objects of one kind.
    pub(crate) fn kind(&self, kind: &Kind) -> PathBuf {
        self.root.join("objects").join(kind.as_str())
    }

    /// Where one object lies.
    pub(crate) fn object(&self, kind: &Kind, id: &Digest) -> PathBuf {
        self.kind(kind).join(format!("{}.json", id.hex()))
    }

    /// Where a blob lies.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.hex())
    }

    /// Exists from the moment a backup or a repaired share is laid until the nonces published before are
    /// void: what is made in between would be this governor's second.
    pub(crate) fn restoring(&self) -> PathBuf {
        self.governor("restoring")
    }

    /// Exists where the governor said that this machine has no network.
    pub(crate) fn air_gap(&self) -> PathBuf {
        self.governor("air-gap")
    }

    /// The folder of what opens reveals that this governor asked for.
    pub(crate) fn reveals(&self) -> PathBuf {
        self.governor("reveals")
    }

    /// Which key files certificates were asked for with.
    pub(crate) fn access(&self) -> PathBuf {
        self.root.join("access.json")
    }

    /// Nodes talked to before.
    pub(crate) fn nodes(&self) -> PathBuf {
        self.root.join("nodes.json")
    }

    /// What was reviewed.
    pub(crate) fn reviewed(&self) -> PathBuf {
        self.root.join("reviewed.json")
    }
}

/// Writes into the lock who holds it, for whoever looks; no more than a word to people.
fn sign(mut file: &File) {
    let command = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let words =
        format!("process {}, borgios {}\n", std::process::id(), command.unwrap_or_default());
    let _ = file.set_len(0).and_then(|()| file.write_all(words.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A command that only looks may be noting something beside the one that begins.
    #[test]
    fn what_a_running_command_is_writing_stays() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(Some(folder.path().to_owned())).unwrap();
        drop(home.lock().unwrap());
        // No process has number 0; process 1 always lives.
        let [gone, runs] =
            [0, 1].map(|process| home.governor(&format!("upheld.json.{process}.tmp")));
        for path in [&gone, &runs] {
            std::fs::write(path, b"half").unwrap();
        }
        drop(home.lock().unwrap());
        assert!(runs.exists() && !gone.exists());
    }
}
