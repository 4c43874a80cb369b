//! Why a key ceremony cannot go on.

use borgios_types::Digest;
use thiserror::Error;

use crate::name::Name;
use crate::object::ObjectError;

/// Why a founding or a change cannot go on.
#[derive(Debug, Error)]
pub enum CeremonyError {
    /// A file that is forged, damaged or of another ceremony.
    #[error("{file} is refused")]
    File {
        /// Which.
        file: String,
        /// Why.
        #[source]
        source: ObjectError,
    },
    /// The plan has no such governor, or another card under that name.
    #[error("the plan does not hold the true card of {0}")]
    Card(Name),
    /// Another roster was agreed on than the folder's, or the plan changed afterwards.
    #[error("the roster agreed on is {confirmed}, the plan in the folder has {found}")]
    Roster {
        /// What the governor confirmed, or answered.
        confirmed: Digest,
        /// The folder's.
        found: Digest,
    },
    /// A file changed after it was answered; whoever signed both versions cheats.
    #[error("{file} changed after it was answered: it was {answered}, now it is {found}")]
    Changed {
        /// Which.
        file: String,
        /// The id answered.
        answered: Digest,
        /// The id found.
        found: Digest,
    },
    /// This governor's own file is not the one that was written.
    #[error("{0} is not what this machine wrote; restore it, or find who changed it")]
    OwnFile(String),
    /// A governor answered other papers than those in this folder: somebody showed two versions.
    #[error("{name} answered other {what} files than are in this folder; compare them")]
    Disagrees {
        /// Who.
        name: Name,
        /// Which files.
        what: &'static str,
    },
    /// A governor's contribution is provably wrong.
    #[error("the {kind} of {name} is wrong: {why}")]
    Cheat {
        /// Who.
        name: Name,
        /// Which paper.
        kind: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The stored state, or an identity, is not this governor's.
    #[error("{0}")]
    State(String),
}
