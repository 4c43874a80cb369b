//! Leaving at the owner's word: what this server held as a member is shredded and its agent
//! stopped.
//!
//! ```text
//! verb depart ─▶ owner's signature holds ─▶ departure.json ─▶ `borgios-keeper leave`, a unit of its own
//!                                                               │ again at every start until done
//!   borgiosd stopped ─ doors shut ─ root's password `*` ─ node's secrets shredded
//!     ─ other units unlinked ─ keeper's key shredded ─ keeper's unit unlinked ─ keeper stopped
//! ```
//!
//! What starts the keeper at boot is unlinked after its key was shredded: whenever the power goes,
//! a boot goes on with this, or no secret is left. A key that is gone says that all before is done.
//!
//! Root stays shut: the way back to it is to reinstall. The one order that the keeper takes from
//! somebody else than the board, and it gives nobody anything: it only ends this membership. Whose
//! key may say so stands in the receipt of the hand-over.

use std::io;
use std::path::{Path, PathBuf};

use borgios_policy::{Departure, Handover, ObjectError};
use borgios_types::limits::ENVELOPE_MAX;
use borgios_types::{Digest, Envelope, NodeId, SecretKey};
use thiserror::Error;
use tracing::info;

use super::doors::{self, DoorsError, DoorsWanted};
use super::handed_over;
use super::outside::{Outside, OutsideError};
use super::paths::Paths;
use super::rotation::{self, Obstacle};
use crate::disk;
use crate::identity::{self, IdentityError};

/// Why this server does not leave.
#[derive(Debug, Error)]
pub enum LeaveError {
    /// Its root was never handed over.
    #[error("root of this server was not handed over; stop and remove the agent as root")]
    NotHandedOver,
    /// No owner was named.
    #[error("the hand-over of this server names no owner's key; reinstall it to leave")]
    NoOwner,
    /// Not the owner's word.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The owner's word about another node.
    #[error("the departure is another node's than this one")]
    OtherNode,
    /// Nobody said so.
    #[error("there is no departure here")]
    NoDeparture,
    /// The keeper's key.
    #[error(transparent)]
    Key(#[from] IdentityError),
    /// A door.
    #[error(transparent)]
    Doors(#[from] DoorsError),
    /// Root's password.
    #[error("root's password was not closed ({code}): {0}", code = .0.code())]
    Root(Obstacle),
    /// The host.
    #[error(transparent)]
    Outside(#[from] OutsideError),
    /// The disk.
    #[error("the disk failed")]
    Disk(#[from] io::Error),
}

impl LeaveError {
    /// The stable name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotHandedOver => "not_handed_over",
            Self::NoOwner => "no_owner",
            Self::Object(error) => error.code(),
            Self::OtherNode => "other_node",
            Self::NoDeparture => "no_departure",
            Self::Key(_) | Self::Disk(_) => "disk",
            Self::Doors(_) | Self::Root(_) | Self::Outside(_) => "host",
        }
    }
}

/// Where the owner's word lies once it was found to hold.
#[must_use]
pub fn path(paths: &Paths) -> PathBuf {
    paths.keeper.join("departure.json")
}

/// Checks the owner's word and keeps it, so that nothing ends this server's leaving any more.
///
/// # Errors
/// See [`LeaveError`]; nothing changed.
pub fn accept(paths: &Paths, handover: &Handover, departure: &Envelope) -> Result<(), LeaveError> {
    check(handover, departure)?;
    disk::write_durable(&path(paths), departure.to_json().as_bytes(), 0o600)?;
    info!(BORGIOS_EVENT = "departing", "the owner takes this server out of the network");
    Ok(())
}

fn check(handover: &Handover, departure: &Envelope) -> Result<(), LeaveError> {
    let owner = handover.owner.ok_or(LeaveError::NoOwner)?;
    let said = Departure::verify(handover.network, &owner, departure)?;
    if said.node == handover.node { Ok(()) } else { Err(LeaveError::OtherNode) }
}

/// `borgios-keeper leave`: does it, from outside the keeper's own sandbox. Again is fine.
///
/// # Errors
/// See [`LeaveError`]; run it again.
pub fn run(paths: &Paths, network: Digest) -> Result<(), LeaveError> {
    let outside = Outside::of(paths);
    let bytes = match disk::read_bounded(&path(paths), ENVELOPE_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(LeaveError::NoDeparture);
        }
        other => other?,
    };
    let departure = Envelope::parse(&bytes).map_err(io::Error::other)?;
    let Some(key) = key(paths)? else { return finish(paths, &outside) };
    let (handover, _) =
        handed_over::read(paths, network, &key.public()).ok_or(LeaveError::NotHandedOver)?;
    // 1. The owner's word, once more: this runs by itself, long after it was taken.
    check(&handover, &departure)?;
    // 2. No more network.
    outside.stop("borgiosd.service")?;
    // 3. No door, no password: this server's console is no part of the fleet any more.
    shut_doors(paths, &handover.node)?;
    let alone = rotation::alone(paths)?;
    // On the disk before the keys go: without them nobody would close it after a power cut.
    rotation::close(paths, &alone).map_err(LeaveError::Root)?;
    outside.end_logins()?;
    drop(alone);
    // 4. What this server could prove that it was a member with; the keeper's own key later, for
    //    until then all of this can be done again.
    let agent = paths.root.join("var/lib/borgios");
    for name in ["node.key", "invite.json"] {
        disk::shred(&agent.join(name))?;
    }
    shred_folder(&paths.keeper.join("credential"))?;
    // 5. Nothing of it starts again but the keeper, which goes on with this if the power goes.
    outside.forget_others(paths)?;
    finish(paths, &outside)
}

/// Shuts the doors for good. The board's key gives way to this node's own, whose secret half is shredded.
///
/// # Errors
/// See [`doors::write`].
pub(super) fn shut_doors(paths: &Paths, node: &NodeId) -> Result<(), DoorsError> {
    let shut = DoorsWanted { ca: *node, principals: Vec::new(), revoked_serials: Vec::new() };
    doors::write(paths, &shut).map(drop)
}

/// The keeper's key, as a leaving may find it: `None` once it was shredded, also if that was cut
/// off. Never made anew, for the receipt would be another keeper's.
///
/// # Errors
/// A key file that is neither a key nor shredded, or whatever the disk says.
pub(super) fn key(paths: &Paths) -> Result<Option<SecretKey>, IdentityError> {
    match identity::load(&paths.key()) {
        Err(IdentityError::NotAKey { .. }) if disk::is_shredded(&paths.key()) => Ok(None),
        found => found,
    }
}

/// The last steps, which need no key: where it is gone, the owner's word was checked before that.
fn finish(paths: &Paths, outside: &Outside) -> Result<(), LeaveError> {
    // 6. The keeper's key, while its unit would still start it.
    disk::shred(&paths.key())?;
    // 7. Nothing at all starts again.
    outside.forget_units(paths)?;
    info!(BORGIOS_EVENT = "departed", "this server has left; reinstall it to have root again");
    outside.stop("borgios-keeper.service")?;
    Ok(())
}

fn shred_folder(folder: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        disk::shred(&entry?.path())?;
    }
    Ok(())
}
