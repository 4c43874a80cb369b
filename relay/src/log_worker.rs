//! The log beside the hub: jobs gather while a group is being done, then all go with one sync.
//!
//! ```text
//!               only volatile appends, and the disk was quick ──▶ done by the hub itself
//!  a group ─────┤
//!               └ syncs, reads, or the disk was slow lately ────▶ done by a thread that may block
//! ```
//!
//! A volatile append is a write into the page cache: some microseconds, less than it costs to wake a
//! thread. Where the system makes even that wait, because too much is unwritten, the hub finds out
//! once and leaves the log to threads for a while.

use std::mem;
use std::time::{Duration, Instant};

use borgios_stream::log::{self, Found, Log, LogError, LogJob};
use borgios_stream::{DiskLog, Durability, Input, MemoryLog, Origin, Position};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

/// Time for a group above which the disk counts as slow.
const QUICK: Duration = Duration::from_millis(2);
/// How long a slow disk is left to threads.
const WARY: Duration = Duration::from_secs(10);
/// Most jobs that the hub does itself at once.
const INLINE_MAX: usize = 16;

/// The log, wherever it is kept.
pub(crate) enum AnyLog {
    /// On disk.
    Disk(DiskLog),
    /// In memory only.
    Memory(MemoryLog),
}

impl AnyLog {
    fn as_mut(&mut self) -> &mut dyn Log {
        match self {
            Self::Disk(log) => log,
            Self::Memory(log) => log,
        }
    }

    /// Notes a clean end.
    pub(crate) fn close(self) -> Result<(), LogError> {
        match self {
            Self::Disk(log) => log.close(),
            Self::Memory(_) => Ok(()),
        }
    }
}

/// Something to do with the log.
#[derive(Debug)]
pub(crate) enum Work {
    /// The core's.
    Job(LogJob),
    /// A subscription that lags behind.
    Read {
        origin: Origin,
        after: Position,
        max_bytes: usize,
        reply: oneshot::Sender<Result<Found, LogError>>,
    },
    /// Messages up to here are the subscriptions' own business.
    Taken(Origin, Position),
}

impl Work {
    /// Whether it neither syncs nor reads.
    fn is_quick(&self) -> bool {
        match self {
            Self::Job(LogJob::Append { batch, .. }) => batch.durability() == Durability::Volatile,
            Self::Taken(..) => true,
            Self::Job(_) | Self::Read { .. } => false,
        }
    }
}

/// The log, and what waits for it.
pub(crate) struct LogWorker {
    log: Option<AnyLog>,
    waiting: Vec<Work>,
    running: Option<JoinHandle<(AnyLog, Vec<Input>)>>,
    /// Until then, threads do all of it.
    wary_until: Option<Instant>,
}

impl LogWorker {
    pub(crate) fn new(log: AnyLog) -> Self {
        Self { log: Some(log), waiting: Vec::new(), running: None, wary_until: None }
    }

    /// Adds to the next group.
    pub(crate) fn push(&mut self, work: Work) {
        self.waiting.push(work);
    }

    /// Begins the next group, unless one is under way or nothing waits; what the core must hear where
    /// it was done at once.
    pub(crate) fn start(&mut self) -> Vec<Input> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let at_once = self.waiting.len() <= INLINE_MAX && self.waiting.iter().all(Work::is_quick);
        if at_once && self.wary_until.is_none_or(|until| until <= Instant::now()) {
            let Some(log) = &mut self.log else { return Vec::new() };
            let begun = Instant::now();
            let inputs = serve(log.as_mut(), mem::take(&mut self.waiting));
            self.wary_until = (begun.elapsed() > QUICK).then(|| Instant::now() + WARY);
            return inputs;
        }
        if let Some(mut log) = self.log.take() {
            let group = mem::take(&mut self.waiting);
            self.running = Some(tokio::task::spawn_blocking(move || {
                let inputs = serve(log.as_mut(), group);
                (log, inputs)
            }));
        }
        Vec::new()
    }

    /// Waits for the group under way, for ever if there is none; what the core must hear.
    ///
    /// # Errors
    /// The log has panicked: nothing is stored any more.
    pub(crate) async fn done(&mut self) -> Result<Vec<Input>, JoinError> {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let (log, inputs) = running.await?;
        self.running = None;
        self.log = Some(log);
        Ok(inputs)
    }

    /// Finishes what was begun and gives the log back.
    pub(crate) async fn finish(mut self) -> Option<AnyLog> {
        loop {
            self.start();
            if self.running.is_none() {
                return self.log;
            }
            self.done().await.ok()?;
        }
    }
}

fn serve(log: &mut dyn Log, group: Vec<Work>) -> Vec<Input> {
    let mut jobs = Vec::new();
    let mut others = Vec::new();
    for work in group {
        match work {
            Work::Job(job) => jobs.push(job),
            other => others.push(other),
        }
    }
    let mut inputs = Vec::with_capacity(jobs.len());
    log::serve(log, &mut jobs, &mut inputs);
    for work in others {
        match work {
            Work::Job(_) => {}
            Work::Read { origin, after, max_bytes, reply } => {
                // Whoever asked may have given up.
                let _ = reply.send(log.read_after(&origin, after, max_bytes));
            }
            // Lost, it costs a second look at what was delivered.
            Work::Taken(origin, upto) => drop(log.taken(&origin, upto)),
        }
    }
    inputs
}
