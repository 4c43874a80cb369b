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
//! and leaves the log to threads for a while. A group now and then that takes long says nothing of the
//! disk: another program had the processor.

use std::mem;
use std::time::{Duration, Instant};

use borgios_stream::log::{self, Found, Log, LogAnswer, LogError, LogJob};
use borgios_stream::{DiskLog, Durability, Input, MemoryLog, Origin, Position, Recovered};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

use crate::shell::unix_now;

/// Time that a group takes at most where nothing waits.
const QUICK: Duration = Duration::from_millis(2);
/// Groups of the last eight that took longer, at which the disk counts as slow.
const SLOW_GROUPS: u32 = 3;
/// Time for one group at which it does at once: no program keeps the processor this long.
const SLOW: Duration = Duration::from_millis(50);
/// How long a slow disk is left to threads.
const WARY: Duration = Duration::from_secs(10);
/// Pause before a log whose disk failed is opened again; it doubles.
const REOPEN_MIN: Duration = Duration::from_secs(1);
/// Longest such pause: opening reads all of it.
const REOPEN_MAX: Duration = Duration::from_secs(60);
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

    /// Whether it takes nothing until it is opened again.
    fn is_broken(&self) -> bool {
        match self {
            Self::Disk(log) => log.is_broken(),
            Self::Memory(_) => false,
        }
    }

    /// Opens it again where it is.
    fn reopen(&mut self) -> Result<Option<Recovered>, LogError> {
        match self {
            Self::Disk(log) => log.reopen(unix_now()).map(Some),
            Self::Memory(_) => Ok(None),
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
    /// The log is broken: open it again.
    Reopen,
}

impl Work {
    /// Bytes that it holds.
    fn bytes(&self) -> usize {
        match self {
            Self::Job(LogJob::Append { batch, .. }) => batch.len(),
            Self::Job(_) | Self::Read { .. } | Self::Taken(..) | Self::Reopen => 0,
        }
    }

    /// Whether it neither syncs nor reads.
    fn is_quick(&self) -> bool {
        match self {
            Self::Job(LogJob::Append { batch, .. }) => batch.durability() == Durability::Volatile,
            Self::Taken(..) => true,
            Self::Job(_) | Self::Read { .. } | Self::Reopen => false,
        }
    }
}

/// How long the last groups took that the hub did itself.
#[derive(Debug, Default)]
struct DiskPace {
    /// One bit for each of the last eight: whether it took longer than [`QUICK`].
    long: u8,
    /// Until then, threads do all of it.
    wary_until: Option<Instant>,
}

impl DiskPace {
    fn is_slow(&self, now: Instant) -> bool {
        self.wary_until.is_some_and(|until| now < until)
    }

    /// A group that was begun `at` took so long.
    fn note(&mut self, at: Instant, took: Duration) {
        self.long = self.long << 1 | u8::from(took > QUICK);
        if took >= SLOW || self.long.count_ones() >= SLOW_GROUPS {
            *self = Self { long: 0, wary_until: Some(at + took + WARY) };
        }
    }
}

/// The log, and what waits for it.
pub(crate) struct LogWorker {
    log: Option<AnyLog>,
    waiting: Vec<Work>,
    running: Option<JoinHandle<(AnyLog, Vec<Input>)>>,
    waiting_bytes: usize,
    running_bytes: usize,
    pace: DiskPace,
    /// When a broken log is opened again, and the pause before that.
    reopen: Option<(Instant, Duration)>,
}

impl LogWorker {
    pub(crate) fn new(log: AnyLog) -> Self {
        Self {
            log: Some(log),
            waiting: Vec::new(),
            running: None,
            waiting_bytes: 0,
            running_bytes: 0,
            pace: DiskPace::default(),
            reopen: None,
        }
    }

    /// Looks after a log that takes nothing any more: it is opened again, after a pause that doubles.
    /// Call it now and then.
    pub(crate) fn look_after(&mut self) {
        // While a thread has it, the next call looks.
        let Some(log) = &self.log else { return };
        let now = Instant::now();
        match self.reopen {
            _ if !log.is_broken() => self.reopen = None,
            None => self.reopen = Some((now + REOPEN_MIN, REOPEN_MIN)),
            Some((at, pause)) if at <= now => {
                let pause = (pause * 2).min(REOPEN_MAX);
                self.reopen = Some((now + pause, pause));
                self.push(Work::Reopen);
            }
            Some(_) => {}
        }
    }

    /// Whether it is here and works: there is nothing to [look after](Self::look_after).
    pub(crate) fn is_sound(&self) -> bool {
        self.reopen.is_none() && self.log.as_ref().is_some_and(|log| !log.is_broken())
    }

    /// Bytes of appends that are not done yet.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes + self.running_bytes
    }

    /// Adds to the next group.
    pub(crate) fn push(&mut self, work: Work) {
        self.waiting_bytes += work.bytes();
        self.waiting.push(work);
    }

    /// Begins the next group, unless one is under way or nothing waits; what the core must hear where
    /// it was done at once.
    pub(crate) fn start(&mut self) -> Vec<Input> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let at_once = self.waiting.len() <= INLINE_MAX && self.waiting.iter().all(Work::is_quick);
        let begun = Instant::now();
        if at_once && !self.pace.is_slow(begun) {
            let Some(log) = &mut self.log else { return Vec::new() };
            self.waiting_bytes = 0;
            let inputs = serve(log, mem::take(&mut self.waiting));
            self.pace.note(begun, begun.elapsed());
            return inputs;
        }
        if let Some(mut log) = self.log.take() {
            let group = mem::take(&mut self.waiting);
            self.running_bytes = mem::take(&mut self.waiting_bytes);
            self.running = Some(tokio::task::spawn_blocking(move || {
                let inputs = serve(&mut log, group);
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
        self.running_bytes = 0;
        self.log = Some(log);
        if inputs.iter().any(|input| matches!(input, Input::LogReopened(_))) {
            let mut refused = Vec::new();
            refuse_appends(&mut self.waiting, &mut refused);
            self.waiting_bytes = 0;
            refused.extend(inputs);
            return Ok(refused);
        }
        Ok(inputs)
    }

    /// Finishes what was begun and gives the log away, and what the core must hear.
    pub(crate) async fn finish(&mut self) -> Option<(AnyLog, Vec<Input>)> {
        let mut inputs = Vec::new();
        loop {
            inputs.extend(self.start());
            if self.running.is_none() {
                return self.log.take().map(|log| (log, inputs));
            }
            inputs.extend(self.done().await.ok()?);
        }
    }
}

/// Appends that the core asked for before it heard that the log was opened again: what they follow may
/// not be what is there.
fn refuse_appends(group: &mut Vec<Work>, inputs: &mut Vec<Input>) {
    group.retain(|work| match work {
        Work::Job(LogJob::Append { job, origin, .. }) => {
            let (job, origin, error) = (*job, *origin, LogError::Broken);
            inputs.push(Input::Log(LogAnswer::NotStored { job, origin, error }));
            false
        }
        _ => true,
    });
}

fn serve(any: &mut AnyLog, mut group: Vec<Work>) -> Vec<Input> {
    let mut inputs = Vec::new();
    if group.iter().any(|work| matches!(work, Work::Reopen)) {
        group.retain(|work| !matches!(work, Work::Reopen));
        refuse_appends(&mut group, &mut inputs);
        // Where it failed again, the next append is told.
        inputs.extend(any.reopen().ok().flatten().map(Input::LogReopened));
    }
    let log = any.as_mut();
    let mut jobs = Vec::new();
    let mut others = Vec::new();
    for work in group {
        match work {
            Work::Job(job) => jobs.push(job),
            other => others.push(other),
        }
    }
    inputs.reserve(jobs.len());
    log::serve(log, &mut jobs, &mut inputs);
    for work in others {
        match work {
            Work::Job(_) | Work::Reopen => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_millis(3);
    const SHORT: Duration = Duration::from_micros(20);

    #[test]
    fn a_long_group_now_and_then_is_not_the_disk() {
        let now = Instant::now();
        let mut pace = DiskPace::default();
        for group in 0..100 {
            pace.note(now, if group % 4 == 0 { LONG } else { SHORT });
            assert!(!pace.is_slow(now), "group {group}");
        }
    }

    #[test]
    fn three_long_groups_of_eight_or_one_very_long_are_left_to_threads_for_a_while() {
        let now = Instant::now();
        let mut pace = DiskPace::default();
        for took in [LONG, SHORT, LONG, SHORT, SHORT, SHORT, SHORT] {
            pace.note(now, took);
            assert!(!pace.is_slow(now));
        }
        pace.note(now, LONG);
        assert!(pace.is_slow(now) && pace.is_slow(now + WARY));
        let later = now + LONG + WARY;
        assert!(!pace.is_slow(later));
        // And then it takes as much again.
        pace.note(later, LONG);
        assert!(!pace.is_slow(later));
        pace.note(later, SLOW);
        assert!(pace.is_slow(later));
    }
}
