//! `borgios-keeper rotate --once`: the first rotation, as a part of the take-over.
//!
//! It does not ask whether the server is handed over: the take-over calls it just before it is.
//! Once it ended well, root's field is the one wanted, or, where there is no schedule at hand yet,
//! one that no password opens.

use std::time::{Duration, Instant};

use borgios_credentials::Mark;
use borgios_types::Epoch;
use thiserror::Error;

use super::host::{Accounts as _, ShadowTools};
use super::inputs::Inputs;
use super::obstacle::Obstacle;
use super::rotator;
use super::schedules::Schedules;
use crate::clock::unix_now;
use crate::identity::{self, IdentityError};
use crate::keeper::chain_store::{ChainStore, OpenError};
use crate::keeper::paths::Paths;

/// How long it is tried: the longest that another account tool may hold the lock.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(100);
/// Attempts where waiting is not what helps.
const ATTEMPTS_MAX: usize = 3;

/// Why root's field is not what it should be.
#[derive(Debug, Error)]
pub enum OnceError {
    /// The server belongs to no network.
    #[error(transparent)]
    Chain(#[from] OpenError),
    /// The keeper's own key cannot be used.
    #[error(transparent)]
    Key(#[from] IdentityError),
    /// Something stands in the way.
    #[error("root's credential was not changed ({}): {obstacle}", obstacle.code())]
    Obstacle {
        /// What.
        obstacle: Obstacle,
    },
}

/// What root's field is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// The verifier of this epoch.
    Carries(Epoch),
    /// No schedule is at hand; no password opens root.
    Locked,
}

impl From<Obstacle> for OnceError {
    fn from(obstacle: Obstacle) -> Self {
        Self::Obstacle { obstacle }
    }
}

/// Rotates at once.
///
/// # Errors
/// See [`OnceError`]; called again, it goes on from where it was.
pub fn run(paths: &Paths) -> Result<Done, OnceError> {
    let chain = ChainStore::look(&paths.keeper)?;
    let key = identity::load_or_make(&paths.key())?.public();
    let inputs = Inputs::of(&chain);
    let (mut schedules, host) = (Schedules::new(paths), ShadowTools::new(paths));
    let began = Instant::now();
    let mut attempts = 1;
    loop {
        let alone = super::alone(paths).map_err(super::obstacle::at(&paths.keeper))?;
        let now = unix_now().max(inputs.newest);
        let tried = match schedules.at_work(&inputs) {
            // It may be at hand, and cannot be read or kept.
            (None, Some(obstacle @ Obstacle::Disk { .. })) => Err(obstacle),
            (None, _) => rotator::lock(&host).map(|()| Done::Locked),
            (Some((_, schedule)), _) => {
                let current = schedule.current(now, &inputs.orders, &key);
                let wanted = Mark { epoch: current.epoch, verifier: current.verifier };
                let rested = rotator::rotate(&host, now, &wanted);
                // Rest and not what is wanted cannot be; that it is asked costs one read.
                rested.and_then(|_| match host.root()?.verifier() {
                    Some(seen) if *seen == wanted.verifier => Ok(Done::Carries(wanted.epoch)),
                    _ => Err(Obstacle::NotTaken),
                })
            }
        };
        drop(alone);
        match tried {
            Ok(done) => return Ok(done),
            Err(Obstacle::Locked) if began.elapsed() < PATIENCE => {}
            Err(_) if attempts < ATTEMPTS_MAX => attempts += 1,
            Err(obstacle) => return Err(obstacle.into()),
        }
        std::thread::sleep(PAUSE);
    }
}
