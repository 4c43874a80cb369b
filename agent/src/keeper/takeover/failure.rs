//! Why a verb of the take-over did not do its work, and the exit code that says so.

use thiserror::Error;

use super::machine::MachineError;
use crate::identity::IdentityError;
use crate::keeper::chain_store::OpenError;
use crate::keeper::doors::DoorsError;
use crate::keeper::rotation::once::OnceError;

/// Why.
#[derive(Debug, Error)]
pub(super) enum TakeoverError {
    /// There is nothing to do, or it may not be done now. Nothing changed.
    #[error("{0}")]
    Refused(String),
    /// It failed, and all is as it was before.
    #[error("the take-over failed and went back, root is the owner's as before: {0}")]
    RolledBack(String),
    /// It failed, and so did the way back, which is tried again.
    #[error("the way back failed, it is tried again each minute and at the next boot: {0}")]
    Stuck(String),
    /// The server did not do what was asked.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The doors could not be written.
    #[error(transparent)]
    Doors(#[from] DoorsError),
    /// The chain, which names the board's key.
    #[error(transparent)]
    Chain(#[from] OpenError),
    /// The keeper's key.
    #[error(transparent)]
    Key(#[from] IdentityError),
    /// The first rotation.
    #[error(transparent)]
    Rotation(#[from] OnceError),
    /// The owner's key or the sealed file.
    #[error("{0}")]
    Seal(String),
    /// The trial did not go as the final state must.
    #[error("the trial failed, nothing was changed: {0}")]
    Trial(String),
    /// A second look found something.
    #[error("root is not shut yet:\n  {}", .0.join("\n  "))]
    Left(Vec<String>),
}

impl TakeoverError {
    /// As bootstrap.sh knows them.
    #[must_use]
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 1,
            Self::RolledBack(_) => 6,
            Self::Stuck(_)
            | Self::Machine(_)
            | Self::Doors(_)
            | Self::Chain(_)
            | Self::Key(_)
            | Self::Rotation(_)
            | Self::Seal(_)
            | Self::Trial(_)
            | Self::Left(_) => 5,
        }
    }
}
