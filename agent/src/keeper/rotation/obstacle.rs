//! What can stand in the way of a rotation: said, kept for `status`, and tried again.

use std::io;
use std::path::{Path, PathBuf};

use borgios_credentials::ShadowError;
use borgios_types::Digest;
use thiserror::Error;

use crate::keeper::command::CommandError;

/// What stands in the way. All of it can pass without anyone touching the keeper.
#[derive(Debug, Error)]
pub enum Obstacle {
    /// Another program is changing accounts.
    #[error("another program holds /etc/.pwd.lock; it is tried again")]
    Locked,
    /// The disk: full, read-only, failing.
    #[error("{path}: {source}")]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The account tools failed.
    #[error("chpasswd: {0}")]
    Tool(CommandError),
    /// `/etc/shadow` does not say what root's field is.
    #[error("{0}; repair it with vipw -s")]
    Shadow(ShadowError),
    /// `/etc/passwd` sends programs elsewhere than to `/etc/shadow`.
    #[error("root's line in /etc/passwd does not point to /etc/shadow; repair it with pwconv")]
    Passwd,
    /// Root's field is another than the one that was just written.
    #[error("chpasswd was done and root's field is another; who else writes /etc/shadow?")]
    NotTaken,
    /// Root's field stays shut from now on.
    #[error("the owner takes this server out of the network")]
    Leaving,
    /// borgiosd has not brought it yet.
    #[error("the schedule {0} is not in the depot yet")]
    NoSchedule(Digest),
    /// Something else lies under its name.
    #[error("the depot's blob under the name of the schedule {0} is another")]
    NotTheSchedule(Digest),
    /// Signed, and of no use.
    #[error("the schedule {digest} cannot be used: {why}")]
    BadSchedule {
        /// Which.
        digest: Digest,
        /// What is wrong with it.
        why: String,
    },
}

impl Obstacle {
    /// The stable name, as in the system's journal.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::Disk { source, .. } => match source.kind() {
                io::ErrorKind::ReadOnlyFilesystem => "read_only",
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "disk_full",
                _ => "disk",
            },
            Self::Tool(_) => "chpasswd",
            Self::Shadow(_) => "shadow",
            Self::Passwd => "passwd",
            Self::NotTaken => "not_taken",
            Self::Leaving => "leaving",
            Self::NoSchedule(_) => "no_schedule",
            Self::NotTheSchedule(_) => "bad_digest",
            Self::BadSchedule { .. } => "bad_schedule",
        }
    }
}

/// For `map_err`: the disk failed at `path`.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Obstacle {
    let path = path.to_owned();
    move |source| Obstacle::Disk { path, source }
}
