//! A password that the board revealed ends here: whoever came in with it is put out.
//!
//! ```text
//!  root carries epoch 17, revealed ─▶ mark `access-open` ─▶ change to epoch 18 ─▶ doorkeeper ends logins
//! ```
//!
//! The mark is on the disk before the change, and both happen while nobody else may rotate or end logins:
//! whatever is cut off, a login with the revealed password is ended after it opens nothing any more.

use borgios_credentials::{Mark, Orders, Rotation};
use borgios_types::Epoch;

use super::host::Accounts;
use super::obstacle::{Obstacle, at};
use super::schedules::Schedules;
use crate::disk;
use crate::keeper::paths::Paths;

/// Sets the mark if root's password was revealed and is to be another epoch's now; returns whether it set
/// it. The caller is [`super::alone`].
///
/// # Errors
/// What stands in the way: root's field must not change then.
pub(super) fn mark_the_end(
    paths: &Paths,
    host: &dyn Accounts,
    schedules: &Schedules,
    orders: &Orders,
    wanted: &Mark,
) -> Result<bool, Obstacle> {
    let marker = paths.access_open();
    if marker.exists() || !is_ending(host, schedules, orders, wanted)? {
        return Ok(false);
    }
    disk::write_durable(&marker, b"", 0o600).map_err(at(&marker))?;
    Ok(true)
}

/// Takes back a mark that was just set, if the change failed and the next try sets it again: where nothing
/// can be changed for long, logins are ended now and then and not at each try. The caller is
/// [`super::alone`], as whoever ends logins.
pub(super) fn take_back(
    paths: &Paths,
    host: &dyn Accounts,
    schedules: &Schedules,
    orders: &Orders,
    wanted: &Mark,
) {
    if is_ending(host, schedules, orders, wanted).unwrap_or(false) {
        // One that stays ends logins once more.
        let _ = std::fs::remove_file(paths.access_open());
    }
}

/// Whether root carries a revealed password that is to be another one now, or may still.
fn is_ending(
    host: &dyn Accounts,
    schedules: &Schedules,
    orders: &Orders,
    wanted: &Mark,
) -> Result<bool, Obstacle> {
    let ends = |epoch: Option<Epoch>| {
        let other = epoch.filter(|epoch| *epoch != wanted.epoch);
        orders.revealed.iter().any(|(revealed, _)| other == Some(*revealed))
    };
    if orders.revealed.is_empty() {
        return Ok(false);
    }
    // What the journal left, also where somebody who came in has changed the field since; and what the
    // field is, also where a change was cut off before it.
    Ok(ends(left(&host.recall()?.rotation))
        || ends(host.root()?.verifier().and_then(|seen| schedules.epoch_of(seen))))
}

/// The epoch that root was left at, or is on its way to.
fn left(rotation: &Rotation) -> Option<Epoch> {
    match rotation {
        Rotation::Idle { current } => current.as_ref().map(|mark| mark.epoch),
        Rotation::Prepared { next } | Rotation::Applied { next } | Rotation::Verified { next } => {
            Some(next.epoch)
        }
    }
}
