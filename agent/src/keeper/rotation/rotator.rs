//! Brings root's field to what is wanted, step by step as `borgios_credentials::Rotation` says.

use borgios_credentials::{Mark, RootField, Rotation, Step};
use borgios_types::UnixSeconds;

use super::host::Accounts;
use super::journal::Record;
use super::obstacle::Obstacle;

/// More steps than any way to rest has, with one who interferes once.
const STEPS_MAX: usize = 12;

/// Root's field is what was wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rested {
    /// When it was last changed here.
    pub(super) changed: UnixSeconds,
    /// What had to be done for it.
    pub(super) work: Work,
}

/// How root's field came to be what was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// It was.
    None,
    /// It was something before this server ever rotated, or someone had changed it.
    PutRight,
    /// It was another epoch's.
    Renewed,
}

/// Goes on from wherever the journal and `/etc/shadow` stand.
///
/// # Errors
/// What stands in the way. Asked again, it goes on from there.
pub(super) fn rotate(
    host: &dyn Accounts,
    now: UnixSeconds,
    wanted: &Mark,
) -> Result<Rested, Obstacle> {
    let mut record = host.recall()?;
    let renewed = match &record.rotation {
        Rotation::Idle { current } => current.as_ref().is_some_and(|mark| mark != wanted),
        // Begun before a crash.
        Rotation::Prepared { .. } | Rotation::Applied { .. } | Rotation::Verified { .. } => true,
    };
    let mut work = Work::None;
    for _ in 0..STEPS_MAX {
        let seen = host.root()?;
        let step = record.rotation.next(wanted, seen.verifier());
        if step == Step::Rest {
            return Ok(Rested { changed: record.changed, work });
        }
        work = if renewed { Work::Renewed } else { Work::PutRight };
        match step {
            Step::Rest => {}
            Step::Journal(state) => {
                host.remember(&Record { rotation: state.clone(), ..record })?;
                record.rotation = state;
            }
            Step::Change(mark) => host.change(Some(&mark.verifier))?,
            Step::Settle(state) => {
                host.settle()?;
                let settled = Record { rotation: state, changed: now };
                host.remember(&settled)?;
                record = settled;
            }
            Step::Scrub(state) => {
                host.scrub(&RootField::Verifier(wanted.verifier.clone()))?;
                host.remember(&Record { rotation: state.clone(), ..record })?;
                record.rotation = state;
            }
        }
    }
    Err(Obstacle::NotTaken)
}

/// Makes root's field one that no password opens.
///
/// # Errors
/// As [`rotate`].
pub(super) fn lock(host: &dyn Accounts) -> Result<(), Obstacle> {
    if host.root()? != RootField::Locked {
        host.change(None)?;
    }
    host.settle()?;
    if host.root()? != RootField::Locked {
        return Err(Obstacle::NotTaken);
    }
    host.scrub(&RootField::Locked)
}
