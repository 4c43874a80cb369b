//! The keeper as a service: verbs in, statements kept, the newest release installed.
//!
//! ```text
//! connections ── answer() ──▶ ChainStore (one lock, short)      status, submit, sign-report
//!                    │
//!                    ├ a new statement wakes the rotation thread (root's credential)
//!                    └ install ─▶ Errands ─▶ installer thread ─▶ Installer (long)
//! gate thread: once a second applies what has its time
//! watchdog thread: takes the same locks, then tells systemd that this process is alive
//! ```
//!
//! Where the socket cannot be made, as on a full `/run`, all else goes on, and it is tried again.
//!
//! Only the installer thread changes the software, only the rotation thread root's credential. The
//! installer looks at the chain itself: `install` names a
//! number so that a stale call is refused, and carries no order.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, lchown};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use borgios_policy::{
    Handover, Lane, Object as _, Report, Submission, VerifiedStatement, WitnessProof,
};
use borgios_releases::Journal;
use borgios_types::{Digest, Envelope, NodeId, PublicKey, SecretKey, Seq, UnixSeconds};
use thiserror::Error;
use tracing::{info, warn};

use super::account;
use super::again;
use super::chain_store::{ChainStore, OpenError, pin_of};
use super::doorkeeper;
use super::due::is_due;
use super::errands::{self, Errands};
use super::grants::{self, Witnesses};
use super::handed_over::Receipt;
use super::host::Host;
use super::installer::{Installer, Seat};
use super::leaving;
use super::ledger::{self, Lock};
use super::notify::{self, Notifier};
use super::outside::{Outside, OutsideError};
use super::paths::Paths;
use super::protocol::{
    Activity, Answer, Head, Heard, LastInstall, ObjectsTaken, Request, RunRefused, RunTaken, Status,
};
use super::rotation::{self, Watch};
use super::{refused, socket};
use crate::clock::unix_now;
use crate::identity::{self, IdentityError};

/// Why the keeper cannot begin, or ended.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// Its own chain cannot be read.
    #[error(transparent)]
    Chain(#[from] OpenError),
    /// Its own key cannot be used.
    #[error(transparent)]
    Key(#[from] IdentityError),
    /// The socket, or a thread without which there is no keeper, failed.
    #[error("the socket {path} failed")]
    Socket {
        /// Where.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another keeper runs, or its lock cannot be had.
    #[error("another keeper runs here, or its lock cannot be had")]
    NotAlone(#[source] io::Error),
    /// A thread or folder of its own could not be made.
    #[error("the keeper cannot begin")]
    Begin(#[source] io::Error),
}

/// How often the gate looks at the clock.
const GATE_PACE: Duration = Duration::from_secs(1);

/// What all threads share.
pub(super) struct Shared {
    /// When this process began.
    started: UnixSeconds,
    pub(super) paths: Paths,
    key: SecretKey,
    store: Mutex<ChainStore>,
    pub(super) errands: Errands,
    pub(super) witnesses: Witnesses,
    pub(super) outside: Outside,
    pub(super) rotation: Watch,
    receipt: Receipt,
}

/// Runs the keeper until it must be replaced or one of its threads fails.
///
/// # Errors
/// See [`ServiceError`]. `Ok` means that a new keeper is installed and systemd shall start it.
pub fn run(paths: Paths, host: Box<dyn Host>) -> Result<(), ServiceError> {
    pin_of(&paths.keeper)?;
    // Whoever opens the store may move what is in it.
    let _daemon = Lock::of_the_daemon(&paths).map_err(ServiceError::NotAlone)?;
    let store = ChainStore::open(&paths.keeper)?;
    let (ended, end) = channel();
    let key = if leaving::path(&paths).exists() {
        info!(BORGIOS_EVENT = "departing", "this server is on its way out; going on with it");
        let outside = Outside::of(&paths);
        spawn("leaving", &ended, move || leave(&outside))?;
        let Some(key) = leaving::key(&paths)? else {
            // What is left needs no key, and one that were made anew would be another keeper's.
            spawn("watchdog", &ended, || show_life("leaving", || {}))?;
            return first_end(&end, &paths.socket);
        };
        key
    } else {
        identity::load_or_make(&paths.key())?
    };
    let account = account::lookup(&paths.root).ok();
    let installer = Installer::new(paths.clone(), host, Seat::Keeper);
    info!(
        BORGIOS_EVENT = "keeper_started",
        BORGIOS_NETWORK = %store.network(),
        BORGIOS_KEEPER = %key.public(),
        "the keeper of network {} begins",
        store.network()
    );
    let shared = Arc::new(Shared {
        started: unix_now(),
        paths: paths.clone(),
        key,
        store: Mutex::new(store),
        errands: Errands::default(),
        witnesses: Witnesses::at(&paths),
        outside: Outside::of(&paths),
        rotation: Watch::default(),
        receipt: Receipt::default(),
    });
    spawn("installer", &ended, {
        let shared = Arc::clone(&shared);
        move || {
            errands::run(&shared, &installer);
            Ok(())
        }
    })?;
    spawn("doors", &ended, {
        let shared = Arc::clone(&shared);
        move || doorkeeper::run(&shared)
    })?;
    spawn("rotation", &ended, {
        let shared = Arc::clone(&shared);
        move || rotation::run(&shared)
    })?;
    spawn("gate", &ended, {
        let shared = Arc::clone(&shared);
        move || loop {
            shared.tick();
            std::thread::sleep(GATE_PACE);
        }
    })?;
    // Tried once before READY, so that what starts after this unit finds the door. READY waits for
    // no more than that: systemd would end, again and again, a keeper that does all of the above.
    let (path, gid) = (paths.socket.clone(), account.map(|account| account.gid));
    let bind = move || prepare_folder(&path, gid).and_then(|()| socket::bind(&path, gid));
    let first = bind();
    spawn("door", &ended, {
        let shared = Arc::clone(&shared);
        move || {
            let listener = socket::bound_at_last(first, bind, std::thread::sleep);
            // Without the agent's account (before the first release, or in a test) only root and
            // this process's own user may talk.
            let mut uids = vec![0, rustix::process::geteuid().as_raw()];
            uids.extend(account.map(|account| account.uid));
            socket::serve(&listener, &uids, move |request| shared.answer(request))
        }
    })?;
    spawn("watchdog", &ended, move || {
        show_life("obeying signed statements", || {
            // Whoever holds one of these locks for good keeps this thread from saying the word.
            drop(shared.store());
            drop(shared.errands.seen());
        })
    })?;
    first_end(&end, &paths.socket)
}

fn spawn(
    name: &str,
    ended: &Sender<io::Result<()>>,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<(), ServiceError> {
    let ended = ended.clone();
    let thread = std::thread::Builder::new().name(name.to_owned());
    let name = name.to_owned();
    thread
        .spawn(move || {
            // A panic must end the process too, not leave it without one of its parts.
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            let panicked = |_| Err(io::Error::other(format!("the {name} thread panicked")));
            let _ = ended.send(done.unwrap_or_else(panicked));
        })
        .map(drop)
        .map_err(ServiceError::Begin)
}

/// The first thread that ends, ends the process; all that matters is on disk.
fn first_end(end: &Receiver<io::Result<()>>, socket: &Path) -> Result<(), ServiceError> {
    end.recv()
        .unwrap_or_else(|_| Err(io::Error::other("every thread ended")))
        .map_err(|source| ServiceError::Socket { path: socket.to_owned(), source })
}

/// Has systemd go on with this server's leaving, which stops this process when it is done.
fn leave(outside: &Outside) -> ! {
    again::until_done(
        || outside.begin_leaving(),
        |error: &OutsideError| {
            warn!(BORGIOS_EVENT = "departing", %error, "cannot go on with it now: {error}");
        },
        std::thread::sleep,
    );
    forever()
}

/// The socket's folder: writable by the agent, and sticky, so that it cannot replace the socket.
fn prepare_folder(socket: &Path, gid: Option<u32>) -> io::Result<()> {
    let folder = socket.parent().ok_or_else(|| io::Error::other("a socket without a folder"))?;
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    lchown(folder, None, gid)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o1775))
}

impl Shared {
    pub(super) fn store(&self) -> MutexGuard<'_, ChainStore> {
        // The store changes only after its files did: it is whole whatever a thread did.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Status => self.status(),
            Request::Submit(submission) => self.submit(&submission),
            Request::SubmitRun { submissions } => self.submit_run(&submissions),
            Request::Objects { objects } => self.objects(&objects),
            Request::Install { seq } => self.ask_for(seq),
            Request::SignReport { node } => self.report(node),
            Request::Witness { statement, witnesses } => self.witness(&statement, &witnesses),
            Request::SignRotation { node } => {
                self.rotation.report(self.store().network(), node, &self.key)
            }
            Request::Handover => match self.handed_over() {
                Some((_, envelope)) => Answer::ok(envelope),
                None => not_handed_over(),
            },
            Request::Depart { departure } => self.depart(&departure),
        }
    }

    fn submit(&self, submission: &Submission) -> Answer {
        let submitted = self.store().submit(unix_now(), submission);
        match submitted {
            Ok(submitted) => {
                self.rotation.wake();
                Answer::ok(submitted)
            }
            Err(error) => {
                let message = error.to_string();
                refused::statement(&submission.statement, error.code(), &message);
                Answer::error(error.code(), message)
            }
        }
    }

    fn submit_run(&self, run: &[Submission]) -> Answer {
        let (accepted, refused) = self.store().submit_run(unix_now(), run);
        if accepted > 0 {
            self.rotation.wake();
        }
        let refused = refused.map(|(at, error)| {
            let (code, message) = (error.code().to_owned(), error.to_string());
            refused::statement(&run[at].statement, &code, &message);
            RunRefused { at, code, message }
        });
        Answer::ok(RunTaken { accepted, refused })
    }

    fn objects(&self, objects: &[Envelope]) -> Answer {
        let mut taken = ObjectsTaken::default();
        for (at, envelope) in objects.iter().enumerate() {
            match self.store().object(unix_now(), envelope) {
                Ok(new) => taken.new += usize::from(new),
                Err(error) => {
                    let (code, message) = (error.code().to_owned(), error.to_string());
                    refused::line(error.code(), &message);
                    taken.refused.push(RunRefused { at, code, message });
                }
            }
        }
        if taken.new > 0 {
            self.tick();
        }
        Answer::ok(taken)
    }

    /// Applies what has its time now.
    fn tick(&self) {
        let ticked = self.store().tick(unix_now());
        match ticked {
            Ok(true) => self.rotation.wake(),
            Ok(false) => {}
            Err(error) => warn!(BORGIOS_EVENT = "gate_stuck", "cannot apply what waited: {error}"),
        }
    }

    /// The public half of the keeper's key.
    pub(super) fn public_key(&self) -> PublicKey {
        self.key.public()
    }

    /// The newest release, installed or not.
    pub(super) fn head(&self) -> Option<VerifiedStatement> {
        self.store().chain().head(Lane::Release).cloned()
    }

    fn ask_for(&self, seq: Seq) -> Answer {
        let refuse = |code: &str, message: String| {
            refused::release(seq.0, code, &message);
            Answer::error(code, message)
        };
        let Some(head) = self.head() else {
            return refuse("not_the_head", format!("release/{seq}: no release is known here"));
        };
        let newest = head.statement().seq;
        if seq != newest {
            let text = format!("release/{seq} is not the newest; that is release/{newest}");
            return refuse("not_the_head", text);
        }
        if ledger::is_marked(&self.paths, &head.id()) {
            let text = format!("release/{seq} failed here before and is not tried again");
            return refuse("attempted", text);
        }
        match ledger::read(&self.paths) {
            Err(error) => return Answer::error("disk", error),
            Ok(Journal::Idle { installed: Some(installed), .. }) if installed.id == head.id() => {
                return Answer::ok(Activity::Idle);
            }
            Ok(_) => {}
        }
        self.errands.ask(seq);
        Answer::ok(Activity::Installing { seq, step: "staging".to_owned() })
    }

    fn status(&self) -> Answer {
        let seen = || -> io::Result<Status> {
            let journal = ledger::read(&self.paths)?;
            let running = Installer::running(&self.paths)?;
            let (network, heads) = {
                let store = self.store();
                let heads = Lane::ALL.iter().filter_map(|lane| {
                    let tip = store.chain().tip(*lane)?;
                    Some((lane.as_str().to_owned(), Head { seq: tip.seq, id: tip.id }))
                });
                (store.network(), heads.collect::<BTreeMap<_, _>>())
            };
            let (held, heard, silence, newest, due) = {
                let (store, now) = (self.store(), unix_now());
                let heard = store.gate().freshness(now, store.chain());
                let heard = heard.map(|(fresh, needed)| Heard { fresh, needed });
                let silence = store.gate().silence(store.chain());
                let newest = store.chain().head(Lane::Release);
                let newest = newest.map(|at| Head { seq: at.statement().seq, id: at.id() });
                let due = newest
                    .as_ref()
                    .is_some_and(|head| is_due(&store, journal.installed(), head.seq, &head.id));
                (store.gate().report(now, store.chain()), heard, silence, newest, due)
            };
            let attempted = ledger::marked(&self.paths)?;
            let (under_way, problem) = self.errands.seen();
            let handover = self.handed_over();
            let access = handover.as_ref().map_or_else(Vec::new, |(handover, _)| {
                let store = self.store();
                let now = unix_now().max(store.chain().now_floor());
                grants::standing(store.chain(), &handover.node, &self.witnesses, now)
            });
            Ok(Status {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started: self.started,
                network,
                keeper: self.key.public(),
                installed: journal.installed().map_or(Seq(0), |installed| installed.seq),
                activity: activity(&journal, under_way, newest.filter(|_| due), &attempted),
                heads,
                running: running.into_iter().map(|(name, d)| (name.to_string(), d)).collect(),
                last: last(&journal),
                attempted,
                problem,
                handed_over: handover.is_some(),
                credential: self.rotation.status(),
                access,
                held,
                heard,
                silence,
            })
        };
        seen().map_or_else(|error| Answer::error("disk", error), Answer::ok)
    }

    /// The receipt for this server's root, once it was handed over.
    pub(super) fn handed_over(&self) -> Option<(Handover, Envelope)> {
        let network = self.store().network();
        self.receipt.read(&self.paths, network, &self.key.public())
    }

    fn witness(&self, statement: &Digest, offered: &[WitnessProof]) -> Answer {
        let Some((handover, _)) = self.handed_over() else { return not_handed_over() };
        let store = self.store();
        let taken = self.witnesses.take(store.chain(), &handover.node, statement, offered);
        if let Err(error) = taken {
            let message = error.to_string();
            refused::line(error.code(), &message);
            return Answer::error(error.code(), message);
        }
        let now = unix_now().max(store.chain().now_floor());
        let all = grants::standing(store.chain(), &handover.node, &self.witnesses, now);
        match all.into_iter().find(|status| status.id == *statement) {
            Some(status) => Answer::ok(status),
            None => Answer::error("unknown_grant", "this grant is long over"),
        }
    }

    fn depart(&self, departure: &Envelope) -> Answer {
        let Some((handover, _)) = self.handed_over() else { return not_handed_over() };
        if let Err(error) = leaving::accept(&self.paths, &handover, departure) {
            let message = error.to_string();
            refused::line(error.code(), &message);
            return Answer::error(error.code(), message);
        }
        match self.outside.begin_leaving() {
            Ok(()) => Answer::ok("leaving"),
            // It is on disk: the next start goes on with it.
            Err(error) => Answer::error("host", error),
        }
    }

    fn report(&self, node: NodeId) -> Answer {
        let seen = ledger::read(&self.paths)
            .and_then(|journal| Ok((journal, Installer::running(&self.paths)?)));
        let (journal, running) = match seen {
            Ok(seen) => seen,
            Err(error) => return Answer::error("disk", error),
        };
        let Journal::Idle { last: Some(last), .. } = journal else {
            return Answer::error("no_report", "no install has ended since the last one began");
        };
        let report = Report {
            network: self.store().network(),
            node,
            keeper: self.key.public(),
            release: last.seq,
            outcome: last.outcome,
            reason: last.reason,
            running,
            at: unix_now(),
        };
        Answer::ok(report.to_envelope().sign(&self.key))
    }
}

fn not_handed_over() -> Answer {
    Answer::error("not_handed_over", "root of this server was not handed over")
}

fn activity(
    journal: &Journal,
    staging: Option<Seq>,
    due: Option<Head>,
    attempted: &[Digest],
) -> Activity {
    if let Some(release) = journal.under_way() {
        return Activity::Installing { seq: release.seq, step: journal.name().to_owned() };
    }
    if let Some(seq) = staging {
        return Activity::Installing { seq, step: "staging".to_owned() };
    }
    match due {
        Some(head) if !attempted.contains(&head.id) => Activity::Waiting { seq: head.seq },
        Some(_) | None => Activity::Idle,
    }
}

fn last(journal: &Journal) -> Option<LastInstall> {
    let Journal::Idle { last: Some(last), .. } = journal else { return None };
    let (outcome, reason) = (last.outcome, last.reason.clone());
    Some(LastInstall { release: last.seq, outcome, reason, at: last.at })
}

/// Tells systemd that the keeper is ready and what it does, and from then on, each time `look`
/// comes back, that nothing in it is stuck.
fn show_life(status: &str, look: impl Fn()) -> io::Result<()> {
    let Some(notifier) = Notifier::from_environment()? else {
        forever();
    };
    notifier.say(&format!("READY=1\nSTATUS={status}"))?;
    let Some(pace) = notify::watchdog_pace() else { forever() };
    loop {
        look();
        if let Err(error) = notifier.say("WATCHDOG=1") {
            warn!(%error, "systemd did not take the sign of life");
        }
        std::thread::sleep(pace);
    }
}

/// Never returns; the thread that is asked for nothing more.
fn forever() -> ! {
    loop {
        std::thread::park();
    }
}
