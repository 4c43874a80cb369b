//! The rotation thread: keeps root's field in `/etc/shadow` at the verifier of the current epoch.
//!
//! ```text
//! chain ─▶ Inputs ─┐                        ┌─ Accounts (host): chpasswd, fsync, shadow-
//! depot ─▶ Schedules ─▶ current() ─▶ wanted ┤
//! clock ───────────┘                        └─ journal: rotation.json
//!            woken by every new statement, and every second
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `inputs` | what the chain says: schedules, orders, the newest date |
//! | `schedules` | the schedule at work, taken from the depot |
//! | `rotator` | the steps of one change, as the core says them |
//! | `revealed` | a password that was revealed ends: logins are to be ended |
//! | `host` | everything that is done to the host, with a fake beside it (`fake`) |
//! | `account_lock` | the lock of all account tools, and what dead ones left |
//! | `journal` | where a change stands |
//! | `obstacle` | what can stand in the way |
//! | [`once`] | the first rotation, called by the take-over |
//!
//! It never sleeps longer than a second, so a clock that jumps is noticed, and so is whoever else
//! changes root's field: what is wanted is a verifier, not a number.

mod account_lock;
#[cfg(test)]
mod fake;
mod host;
mod inputs;
mod journal;
mod obstacle;
pub mod once;
mod revealed;
mod rotator;
mod schedules;

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use borgios_credentials::{Current, Mark, Orders, RootField};
use borgios_policy::{Object as _, RotationReport};
use borgios_types::{Digest, Epoch, NodeId, PublicKey, SecretKey, UnixSeconds};
use tracing::{info, warn};

use host::{Accounts, ShadowTools};
use inputs::Inputs;
pub use obstacle::Obstacle;
use rotator::Work;
use schedules::Schedules;

use super::leaving;
use super::ledger::Lock;
use super::paths::Paths;
use super::protocol::{Answer, CredentialStatus};
use super::service::Shared;
use crate::clock::unix_now;
use crate::disk::Stamp;

/// Longest sleep.
const TICK: Duration = Duration::from_secs(1);
/// Pause after an attempt that failed; one that only found a lock held is repeated every tick.
const RETRY: Duration = Duration::from_secs(5);
/// How often a lasting obstacle is said again.
const REMIND: Duration = Duration::from_secs(600);
/// The file whose lock the one who rotates holds.
const ALONE: &str = "rotation.lock";
/// Longest problem in an answer, in characters.
const PROBLEM_MAX: usize = 300;

/// What wakes the rotation thread, and how it fares.
#[derive(Debug, Default)]
pub(super) struct Watch {
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// A statement came.
    news: bool,
    status: Option<CredentialStatus>,
}

impl Watch {
    /// A statement was taken: look at the chain again.
    pub(super) fn wake(&self) {
        self.state().news = true;
        self.woken.notify_all();
    }

    /// The shared root credential here, as of the last look.
    pub(super) fn status(&self) -> Option<CredentialStatus> {
        self.state().status.clone()
    }

    /// The same, signed.
    pub(super) fn report(&self, network: Digest, node: NodeId, key: &SecretKey) -> Answer {
        let Some(status) = self.status().filter(|status| status.epoch != Epoch(0)) else {
            return Answer::error("no_rotation", "root carries no verifier of a schedule yet");
        };
        let report = RotationReport {
            network,
            node,
            keeper: key.public(),
            epoch: status.epoch,
            due: status.due,
            changed: status.changed,
            exhausted: status.exhausted,
            problem: status.problem,
            at: unix_now(),
        };
        Answer::ok(report.to_envelope().sign(key))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Two independent fields: they are whole whatever a thread did.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits a tick, or less if a statement comes; whether one did.
    fn wait(&self) -> bool {
        let state = self.state();
        let waited = self.woken.wait_timeout_while(state, TICK, |state| !state.news);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.news)
    }
}

/// Looks every second, and after every statement, until the process ends.
pub(super) fn run(shared: &Shared) -> ! {
    let host = Box::new(ShadowTools::new(&shared.paths));
    let mut keeper = Rotations::new(&shared.paths, host, shared.public_key());
    let mut inputs = Inputs::of(shared.store().chain());
    loop {
        let status = if is_ours(shared) { keeper.look(unix_now(), &inputs) } else { None };
        shared.rotation.state().status = status;
        if shared.rotation.wait() {
            inputs = Inputs::of(shared.store().chain());
        }
    }
}

/// Waits until nobody else changes root's credential; dropped, it lets others do it.
///
/// # Errors
/// Whatever the disk says.
pub fn alone(paths: &Paths) -> io::Result<Lock> {
    Lock::named(paths, ALONE)
}

/// Makes root's field one that no password opens, for good: synced, read back, and no copy of what it
/// was is left. Again is fine.
///
/// # Errors
/// What stands in the way; what other account tools left behind when they died does not.
pub(super) fn close(paths: &Paths, _alone: &Lock) -> Result<(), Obstacle> {
    rotator::lock(&ShadowTools::new(paths))
}

/// Whether root's credential is the network's business: from the hand-over until the owner takes
/// the server out, from when on nothing may set root's field but what shuts it.
fn is_ours(shared: &Shared) -> bool {
    shared.handed_over().is_some() && !leaving::path(&shared.paths).exists()
}

/// One server's rotations.
struct Rotations {
    paths: Paths,
    host: Box<dyn Accounts>,
    key: PublicKey,
    schedules: Schedules,
    /// What was wanted when all was last found right, and `/etc/shadow` then; no mark: that it is shut.
    rest: Option<(Option<Mark>, Stamp)>,
    changed: UnixSeconds,
    /// Not before then is a change tried again.
    pause: Option<Instant>,
    /// When logins were last to be ended, for a revealed password was to be another one.
    put_out: Option<Instant>,
    /// Why the newest schedule is not the one at work.
    behind: Trouble,
    /// Why root's field is not what is wanted.
    stuck: Trouble,
}

impl Rotations {
    fn new(paths: &Paths, host: Box<dyn Accounts>, key: PublicKey) -> Self {
        Self {
            paths: paths.clone(),
            host,
            key,
            schedules: Schedules::new(paths),
            rest: None,
            changed: UnixSeconds(0),
            pause: None,
            put_out: None,
            behind: Trouble::default(),
            stuck: Trouble::default(),
        }
    }

    /// Does what there is to do, and returns what is to be told of it.
    fn look(&mut self, clock: UnixSeconds, inputs: &Inputs) -> Option<CredentialStatus> {
        // It cannot be earlier than what was signed.
        let now = clock.max(inputs.newest);
        let (at_work, behind) = self.schedules.at_work(inputs);
        self.behind.is(behind.as_ref());
        let Some((digest, schedule)) = at_work else {
            // One that is signed and not at hand leaves what root carries.
            if inputs.schedules.is_empty() {
                self.keep_shut();
            }
            return None;
        };
        let current = schedule.current(now, &inputs.orders, &self.key);
        let wanted = Mark { epoch: current.epoch, verifier: current.verifier.clone() };
        if self.pause.is_none_or(|until| until <= Instant::now()) {
            let reached = self.reach(now, &inputs.orders, &current, &wanted);
            self.pause = match &reached {
                Ok(()) | Err(Obstacle::Locked) => None,
                Err(_) => Some(Instant::now() + RETRY),
            };
            self.stuck.is(reached.as_ref().err());
        }
        let epoch = if self.stuck.text().is_none() { wanted.epoch } else { self.carried() };
        let Current { due, next, exhausted, .. } = current;
        let problem = self.stuck.text().or(self.behind.text());
        let (schedule, changed) = (digest, self.changed);
        Some(CredentialStatus { epoch, due, next, changed, exhausted, schedule, problem })
    }

    /// As long as there is no schedule no password opens root; whoever was still logged in when root changed
    /// hands may have set one since.
    fn keep_shut(&mut self) {
        if self.pause.is_some_and(|until| Instant::now() < until) {
            return;
        }
        let shut = self.shut();
        self.pause = match &shut {
            Ok(()) | Err(Obstacle::Locked) => None,
            Err(_) => Some(Instant::now() + RETRY),
        };
        self.stuck.is(shut.as_ref().err());
    }

    fn shut(&mut self) -> Result<(), Obstacle> {
        let stamp = self.host.stamp()?;
        if self.rest.as_ref().is_some_and(|(mark, seen)| mark.is_none() && *seen == stamp) {
            return Ok(());
        }
        let _alone = alone(&self.paths).map_err(obstacle::at(&self.paths.keeper))?;
        if leaving::path(&self.paths).exists() {
            return Err(Obstacle::Leaving);
        }
        if self.host.root()? != RootField::Locked {
            rotator::lock(&*self.host)?;
            warn!(BORGIOS_EVENT = "root_shut", "root had got a password, and has none any more");
        }
        let stamp = self.host.stamp()?;
        let locked = self.host.root()? == RootField::Locked;
        self.rest = locked.then_some((None, stamp));
        Ok(())
    }

    /// Changes root's field if it is another, or looks closer if `/etc/shadow` was touched.
    fn reach(
        &mut self,
        now: UnixSeconds,
        orders: &Orders,
        current: &Current,
        wanted: &Mark,
    ) -> Result<(), Obstacle> {
        let stamp = self.host.stamp()?;
        let rests = |mark: &Option<Mark>| mark.as_ref() == Some(wanted);
        if self.rest.as_ref().is_some_and(|(mark, seen)| rests(mark) && *seen == stamp) {
            return Ok(());
        }
        let _alone = alone(&self.paths).map_err(obstacle::at(&self.paths.keeper))?;
        if leaving::path(&self.paths).exists() {
            return Err(Obstacle::Leaving);
        }
        let (paths, host, schedules) = (&self.paths, &*self.host, &self.schedules);
        let marked = revealed::mark_the_end(paths, host, schedules, orders, wanted)?;
        let rested = rotator::rotate(host, now, wanted);
        if marked && rested.is_err() && self.put_out.is_some_and(|at| at.elapsed() < REMIND) {
            revealed::take_back(paths, host, schedules, orders, wanted);
        } else if marked {
            self.put_out = Some(Instant::now());
        }
        let rested = rested?;
        self.changed = rested.changed;
        if rested.work != Work::None {
            // Nobody is late who was not a member yet, or was on time until someone interfered.
            let since = if rested.work == Work::Renewed { current.due } else { now };
            let late = now.0.saturating_sub(since.0);
            info!(
                BORGIOS_EVENT = "rotated",
                BORGIOS_EPOCH = wanted.epoch.0,
                BORGIOS_DUE = current.due.0,
                BORGIOS_LATE_S = late,
                "root carries epoch {}, due {}, {late} s late",
                wanted.epoch,
                current.due
            );
        }
        // The stamp comes before the last look, so that no write falls between the two unseen.
        let stamp = self.host.stamp()?;
        let carries = self.host.root()?.verifier() == Some(&wanted.verifier);
        self.rest = carries.then(|| (Some(wanted.clone()), stamp));
        Ok(())
    }

    /// Whose verifier `/etc/shadow` carries; 0 if none of this schedule.
    fn carried(&self) -> Epoch {
        let Ok(field) = self.host.root() else { return Epoch(0) };
        let found = field.verifier().and_then(|seen| self.schedules.epoch_of(seen));
        found.unwrap_or_default()
    }
}

/// One kind of obstacle: said when it comes, changes and goes, and now and then while it lasts.
#[derive(Debug, Default)]
struct Trouble {
    last: Option<(String, Instant)>,
}

impl Trouble {
    fn is(&mut self, obstacle: Option<&Obstacle>) {
        let Some(obstacle) = obstacle else {
            if let Some((text, _)) = self.last.take() {
                info!(BORGIOS_EVENT = "rotation_freed", "no longer in the way: {text}");
            }
            return;
        };
        let text: String = obstacle.to_string().chars().take(PROBLEM_MAX).collect();
        if self.last.as_ref().is_some_and(|(said, at)| *said == text && at.elapsed() < REMIND) {
            return;
        }
        warn!(
            BORGIOS_EVENT = "rotation_failed",
            BORGIOS_CODE = obstacle.code(),
            BORGIOS_MESSAGE = text,
            "root's credential cannot be changed ({}): {text}",
            obstacle.code()
        );
        self.last = Some((text, Instant::now()));
    }

    fn text(&self) -> Option<String> {
        self.last.as_ref().map(|(text, _)| text.clone())
    }
}

#[cfg(test)]
mod tests;
