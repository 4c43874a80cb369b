//! Where everything of the keeper lies; below `/` on a real server, below a folder in tests.

use std::path::{Path, PathBuf};

use borgios_policy::Name;
use borgios_types::Digest;

/// Where components find themselves at run time, as commands and units name it.
pub const CURRENT: &str = "/opt/borgios/current";

/// Every path the keeper uses.
#[derive(Clone, Debug)]
pub struct Paths {
    /// `/`.
    pub root: PathBuf,
    /// The keeper's own folder: key, pin, chain, journal. Root's, 0700.
    pub keeper: PathBuf,
    /// Unpacked components, each named by the digest of its blob.
    pub store: PathBuf,
    /// Links into the store: what runs.
    pub current: PathBuf,
    /// borgiosd's blobs. Never trusted.
    pub depot: PathBuf,
    /// Where systemd finds units.
    pub units: PathBuf,
    /// Where systemd finds what to make at boot.
    pub tmpfiles: PathBuf,
    /// The keeper's socket.
    pub socket: PathBuf,
}

impl Paths {
    /// The places of the design note, below `root`.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            keeper: root.join("var/lib/borgios-keeper"),
            store: root.join("opt/borgios/store"),
            current: root.join("opt/borgios/current"),
            depot: root.join("var/lib/borgios/blobs"),
            units: root.join("etc/systemd/system"),
            tmpfiles: root.join("etc/tmpfiles.d"),
            socket: root.join("run/borgios/keeper.sock"),
        }
    }

    /// The key that signs reports.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.keeper.join("keeper.key")
    }

    /// Where the install stands.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.keeper.join("journal.json")
    }

    /// The set that last ran with nothing under way, for when the journal is damaged.
    #[must_use]
    pub fn installed(&self) -> PathBuf {
        self.keeper.join("installed.json")
    }

    /// The keeper whose units systemd has read.
    #[must_use]
    pub fn loaded(&self) -> PathBuf {
        self.keeper.join("loaded")
    }

    /// Room for a verdict on a disk that is full.
    #[must_use]
    pub fn spare(&self) -> PathBuf {
        self.keeper.join("spare")
    }

    /// Where the change of root's credential stands.
    #[must_use]
    pub fn rotation(&self) -> PathBuf {
        self.keeper.join("rotation.json")
    }

    /// There while a grant is open, and from then, or from the end of a revealed password, until every
    /// login was ended.
    #[must_use]
    pub fn access_open(&self) -> PathBuf {
        self.keeper.join("access-open")
    }

    /// The schedule at work.
    #[must_use]
    pub fn credential(&self) -> PathBuf {
        self.keeper.join("credential")
    }

    /// Held by whoever moves the journal.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.keeper.join("lock")
    }

    /// Blobs on their way from the depot, while they are hashed.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.keeper.join("spool")
    }

    /// Releases that failed here, by id.
    #[must_use]
    pub fn attempted(&self) -> PathBuf {
        self.keeper.join("attempted")
    }

    /// A component in the store.
    #[must_use]
    pub fn stored(&self, digest: &Digest) -> PathBuf {
        self.store.join(digest.hex())
    }

    /// The link to what runs of a component.
    #[must_use]
    pub fn linked(&self, name: &Name) -> PathBuf {
        self.current.join(name.as_str())
    }

    /// An absolute path as a component writes it, below the root.
    #[must_use]
    pub fn inside(&self, absolute: &str) -> PathBuf {
        // Only what hangs below the links moves with the root; /bin/true stays /bin/true.
        if absolute.starts_with(CURRENT) {
            self.root.join(absolute.trim_start_matches('/'))
        } else {
            PathBuf::from(absolute)
        }
    }
}
