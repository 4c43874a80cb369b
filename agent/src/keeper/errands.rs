//! The installer thread and what it is asked for.
//!
//! ```text
//!          ask(seq)                    newest verified release
//! socket ───────────▶ wanted ─▶ run ───────────────────────────▶ Installer
//!                       ▲         │ disk full: again after a pause
//!                       └─────────┘
//! ```
//!
//! Asking twice, or for what was overtaken meanwhile, costs nothing: what is installed is always
//! the head of the keeper's own chain at the moment it begins.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use borgios_policy::{Refusal, VerifiedStatement};
use borgios_releases::Manifest;
use borgios_types::{Digest, Seq};
use tracing::{debug, error};

use super::due::is_due;
use super::installer::{InstallError, Installer, Run};
use super::protocol::Problem;
use super::service::Shared;
use super::staging::StageError;
use super::{ledger, refused};

/// Pause before a step that the disk refused is done again; it doubles while the disk goes on refusing,
/// for each attempt writes whole components anew, up to [`DISK_PAUSE_MAX`].
const DISK_PAUSE: Duration = Duration::from_secs(5);
const DISK_PAUSE_MAX: Duration = Duration::from_secs(60);

/// What the installer thread is asked for, and how it fares.
#[derive(Debug, Default)]
pub(super) struct Errands {
    state: Mutex<State>,
    asked: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// A release whose blobs should be there.
    wanted: Option<Seq>,
    /// The release that is being looked at.
    under_way: Option<Seq>,
    /// What stood in the way at the last attempt.
    problem: Option<Problem>,
}

impl Errands {
    /// Asks for a release.
    pub(super) fn ask(&self, seq: Seq) {
        self.state().wanted = Some(seq);
        self.asked.notify_all();
    }

    /// What is asked for or under way, and what stood in the way.
    pub(super) fn seen(&self) -> (Option<Seq>, Option<Problem>) {
        let state = self.state();
        (state.under_way.or(state.wanted), state.problem.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Three independent fields: they are whole whatever a thread did.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is asked for.
    fn next(&self) -> Seq {
        let mut state = self.state();
        loop {
            if let Some(seq) = state.wanted.take() {
                state.under_way = Some(seq);
                return seq;
            }
            state = self.asked.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, problem: Option<Problem>) {
        let mut state = self.state();
        state.under_way = None;
        state.problem = problem;
    }
}

/// First what an earlier process left unfinished, then whatever is asked for, until the keeper
/// itself must be replaced.
pub(super) fn run(shared: &Shared, installer: &Installer) {
    let newest = |release: &Digest| shared.head().is_some_and(|head| head.id() == *release);
    loop {
        match installer.resume(&newest) {
            Ok(Run::ReplaceKeeper) => return,
            Ok(Run::Done(_)) => break,
            Err(failure) => {
                error!(BORGIOS_EVENT = "install_stuck", %failure, "cannot go on: {failure}");
                std::thread::sleep(DISK_PAUSE);
            }
        }
    }
    // Its blobs may lie there already; staging finds out.
    if let Some(head) = pending(shared) {
        shared.errands.ask(head.statement().seq);
    }
    let mut pause = DISK_PAUSE;
    loop {
        let seq = shared.errands.next();
        // What was begun comes to its end whatever is newest by now: a release that failed is marked, and
        // its way back may have met a full disk.
        let tried = match pending(shared) {
            Some(head) => Some(install(installer, &head, &newest)),
            None => is_under_way(shared).then(|| installer.resume(&newest)),
        };
        match tried {
            Some(Ok(Run::ReplaceKeeper)) => return,
            Some(Ok(Run::Done(_))) | None => {
                pause = DISK_PAUSE;
                shared.errands.done(None);
            }
            Some(Err(failure)) => {
                say(seq, &failure);
                let (code, message) = (failure.code().to_owned(), failure.to_string());
                shared.errands.done(Some(Problem { release: seq, code, message }));
                if failure.code() == "disk" {
                    std::thread::sleep(pause);
                    pause = DISK_PAUSE_MAX.min(pause * 2);
                    shared.errands.ask(seq);
                }
            }
        }
    }
}

fn install(
    installer: &Installer,
    head: &VerifiedStatement,
    newest: &dyn Fn(&Digest) -> bool,
) -> Result<Run, InstallError> {
    let manifest = Manifest::of(head).map_err(|refusal: Refusal| {
        // Never stored by this version; an older one may have known other rules.
        StageError::Set(refusal.to_string())
    })?;
    installer.install(&manifest, head.statement().seq, head.id(), newest)
}

/// The newest release, if it neither runs nor failed here.
fn pending(shared: &Shared) -> Option<VerifiedStatement> {
    let head = shared.head()?;
    let journal = ledger::read(&shared.paths).ok()?;
    let (seq, id) = (head.statement().seq, head.id());
    let due = is_due(&shared.store(), journal.installed(), seq, &id);
    let open = due && !ledger::is_marked(&shared.paths, &id);
    open.then_some(head)
}

/// Whether the journal says that something was begun and is not done.
fn is_under_way(shared: &Shared) -> bool {
    ledger::read(&shared.paths).is_ok_and(|journal| journal.under_way().is_some())
}

fn say(seq: Seq, failure: &InstallError) {
    match failure {
        // borgiosd was too early, or this is the look at the depot at the start.
        InstallError::Stage(StageError::Missing(_)) => debug!("release/{seq}: {failure}"),
        InstallError::Stage(_) | InstallError::Disk(_) => {
            refused::release(seq.0, failure.code(), &failure.to_string());
        }
    }
}
