//! One simulated node: a core, its log, its application, and what survives a loss of power.

use std::collections::BTreeMap;

use borgios_stream::log::{Recovered, RecoveredStream, serve};
use borgios_stream::{
    Batch, BatchId, Config, Core, Durability, Evidence, Head, Input, Limits, Log, LogAnswer,
    LogError, LogJob, MemoryLog, Now, Origin, Output, Position, Relay,
};
use borgios_types::{Digest, SecretKey};

/// What an application has got, and stored: it survives.
#[derive(Debug, Default)]
pub(crate) struct App {
    /// The end, and every message, of each origin.
    pub(crate) got: BTreeMap<Origin, (Position, Vec<Vec<u8>>)>,
}

impl App {
    /// Takes the messages of a batch after `after`; complains about a gap, a repetition, a jump.
    pub(crate) fn take(
        &mut self,
        origin: Origin,
        batch: &Batch,
        after: Position,
    ) -> Result<(), String> {
        let (end, messages) = self.got.entry(origin).or_default();
        if *end != after {
            return Err(format!("{origin:?}: delivery after {after}, the application is at {end}"));
        }
        for message in batch.messages().filter(|message| message.position > after) {
            let next = Position::new(end.epoch, end.number + 1);
            let fits = message.position == next
                || (message.position.epoch > end.epoch && message.position.number == 1);
            if !fits {
                return Err(format!("{origin:?}: {} after {end}", message.position));
            }
            *end = message.position;
            messages.push(message.body.to_vec());
        }
        Ok(())
    }
}

/// A log that loses what was not synced when the power goes.
#[derive(Debug)]
pub(crate) struct FragileLog {
    log: MemoryLog,
    /// Everything, for a log rebuilt after the loss.
    appended: Vec<(Origin, Batch, BatchId, Position, bool)>,
    synced: usize,
    evidence: BTreeMap<Origin, Evidence>,
}

impl FragileLog {
    pub(crate) fn new() -> Self {
        Self {
            log: MemoryLog::new(Limits::default()),
            appended: Vec::new(),
            synced: 0,
            evidence: BTreeMap::new(),
        }
    }

    /// The power goes and comes back.
    pub(crate) fn lose_power(&mut self) {
        self.appended.truncate(self.synced);
        self.log = MemoryLog::new(Limits::default());
        for (origin, batch, id, after, own) in &self.appended {
            self.log.append(origin, batch, *id, *after, *own).expect("it was appended before");
        }
    }

    pub(crate) fn recover(&self, me: Origin, app: &App) -> Recovered {
        let mut streams = BTreeMap::new();
        for (origin, batch, id, ..) in &self.appended {
            streams.insert(*origin, Head { origin: *origin, last: batch.last(), id: *id });
        }
        Recovered {
            own_epoch: streams.get(&me).map(|head| head.last.epoch),
            streams: streams
                .into_values()
                .map(|head| RecoveredStream {
                    head,
                    taken: app.got.get(&head.origin).map_or(Position::START, |(end, _)| *end),
                })
                .collect(),
            stopped: self.evidence.values().cloned().collect(),
        }
    }
}

impl Log for FragileLog {
    fn append(
        &mut self,
        origin: &Origin,
        batch: &Batch,
        id: BatchId,
        after: Position,
        own: bool,
    ) -> Result<(), LogError> {
        self.log.append(origin, batch, id, after, own)?;
        self.appended.push((*origin, batch.clone(), id, after, own));
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogError> {
        self.synced = self.appended.len();
        Ok(())
    }

    fn read_after(
        &mut self,
        origin: &Origin,
        after: Position,
        max_bytes: usize,
    ) -> Result<borgios_stream::log::Found, LogError> {
        self.log.read_after(origin, after, max_bytes)
    }

    fn taken(&mut self, _origin: &Origin, _upto: Position) -> Result<(), LogError> {
        Ok(())
    }

    fn keep(&mut self, evidence: &Evidence) -> Result<(), LogError> {
        self.evidence.insert(evidence.origin(), evidence.clone());
        Ok(())
    }

    fn forget(&mut self, origin: &Origin) -> Result<(), LogError> {
        self.log.forget(origin)
    }

    fn bytes(&self) -> u64 {
        self.log.bytes()
    }
}

/// A node.
pub(crate) struct Node {
    pub(crate) key: SecretKey,
    pub(crate) core: Core,
    pub(crate) log: FragileLog,
    pub(crate) app: App,
    /// Lives so far; what happens for an earlier life is dropped.
    pub(crate) life: u64,
    /// When it ticked last and ticks next, in milliseconds.
    pub(crate) ticked: u64,
    pub(crate) next_tick: u64,
    config: Config,
    jobs: Vec<LogJob>,
}

impl Node {
    pub(crate) fn new(key: SecretKey, network: Digest, relay: Relay) -> Self {
        let config = Config { network, me: key.public(), relay };
        let core = Core::new(config.clone(), Recovered::default());
        let (log, app, jobs) = (FragileLog::new(), App::default(), Vec::new());
        Self { key, core, log, app, life: 0, ticked: 0, next_tick: 0, config, jobs }
    }

    pub(crate) fn origin(&self) -> Origin {
        self.key.public().into()
    }

    /// Loses power and starts again.
    pub(crate) fn restart(&mut self) {
        self.life += 1;
        self.jobs.clear();
        self.log.lose_power();
        let recovered = self.log.recover(self.origin(), &self.app);
        self.core = Core::new(self.config.clone(), recovered);
    }

    /// Starts again with nothing in its log, and an application that knows of nothing in it.
    pub(crate) fn begin_anew(&mut self) {
        (self.log, self.app) = (FragileLog::new(), App::default());
        self.restart();
    }

    pub(crate) fn handle(&mut self, now: Now, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.core.handle(now, input, &mut out);
        out
    }

    /// Gives the log a job; true if it must be run later.
    pub(crate) fn queue(&mut self, job: LogJob) -> bool {
        self.jobs.push(job);
        self.jobs.len() == 1
    }

    /// Lets the log do all that waits.
    pub(crate) fn run_log(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        serve(&mut self.log, &mut self.jobs, &mut inputs);
        inputs
    }

    /// Whether the log says that it could not do something.
    pub(crate) fn failed(inputs: &[Input]) -> bool {
        inputs.iter().any(|input| matches!(input, Input::Log(LogAnswer::NotStored { .. })))
    }
}

/// A volatile batch of this life may be lost: the simulation publishes durably.
pub(crate) const DURABILITY: Durability = Durability::Durable;
