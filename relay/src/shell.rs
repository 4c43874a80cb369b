//! The task that owns the core: feeds it what happened and does what it says, in order.
//!
//! It reads and writes the links itself (`links.rs`), so that a batch passes a node within one turn
//! of one task: heard, verified, handed on, stored, delivered.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use borgios_stream::bounds::{BATCH_MESSAGES_MAX, STREAM_PENDING_MAX, TICK};
use borgios_stream::jobs::JobId;
use borgios_stream::log::{self, Found, LogAnswer, LogJob};
use borgios_stream::{
    Admission, Batch, BatchId, Config, Core, Durability, Frame, Head, Input, Kind, LinkId,
    LogError, Misdeed, Now, Origin, Output, Position, Recovered, Role, Ticket,
};
use borgios_types::{NodeId, Time, UnixSeconds};
use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::hub::{Event, HubConfig, PUBLISH_QUEUE, PublishError};
use crate::links::{HEARD_MAX, HeardOn, Links};
use crate::log_worker::{AnyLog, LogWorker, Work};
use crate::outbox::{Outbox, Pen, PenOf};
use crate::pipe::Pipe;
use crate::reader::{Heard, Reader, Reading};
use crate::ready_keys::ReadyKeys;
use crate::subscription::Delivery;
use crate::told::Told;

/// Bytes that wait for verifiers and the log, above which no more is taken in: a quarter of what the
/// core holds of one stream.
const BEHIND: usize = STREAM_PENDING_MAX / 4;
/// Time between two looks at what waits to be published: a message after a pause waits for nothing,
/// and however many publishers send however little, an origin signs a thousand unfilled batches a
/// second, which costs each node of the fleet 3 % of a processor to verify.
const PACE: Duration = Duration::from_millis(1);
/// Longest wait for a link to take what was queued before it was ended.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// A message to be published.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) kind: Kind,
    pub(crate) durability: Durability,
    pub(crate) body: Bytes,
    pub(crate) reply: oneshot::Sender<Result<Position, PublishError>>,
}

/// Both halves of a pipe, whatever kind it is.
pub(crate) struct Wire {
    reader: Box<dyn Reading>,
    pen: Box<dyn Pen>,
}

/// A question to the hub, or something that happened.
pub(crate) enum Command {
    LinkUp {
        link: LinkId,
        peer: NodeId,
        role: Role,
        wire: Wire,
    },
    SetRole {
        link: LinkId,
        role: Role,
    },
    LinkDown(LinkId),
    Admit {
        origin: Origin,
        admission: Admission,
    },
    Subscribe {
        live: mpsc::Sender<Delivery>,
        skipped: Arc<AtomicBool>,
        reply: oneshot::Sender<BTreeMap<Origin, Position>>,
    },
    Heads(oneshot::Sender<Vec<Head>>),
    Read {
        origin: Origin,
        after: Position,
        max_bytes: usize,
        reply: oneshot::Sender<Result<Found, LogError>>,
    },
    Stop(oneshot::Sender<()>),
}

/// Takes a pipe apart.
pub(crate) fn wire<P: Pipe>(pipe: P) -> Wire {
    let (read, write) = pipe.split();
    Wire { reader: Box::new(Reader::new(read)), pen: Box::new(PenOf(write)) }
}

/// Takes messages that wait to be published, not before `next_look`. Safe to drop half-way.
///
/// All of them; but while an origin is `loaded`, which is when the last look filled a batch, what
/// would not fill another stays for the next look: half-filled batches cost as much to verify as full
/// ones.
async fn paced(
    next_look: Instant,
    loaded: bool,
    publish: &mut mpsc::Receiver<Publish>,
    new: &mut Vec<Publish>,
) -> usize {
    let few = loaded && publish.len() < BATCH_MESSAGES_MAX;
    let look = if few { next_look + PACE } else { next_look };
    if Instant::now() < look {
        tokio::time::sleep_until(look).await;
    }
    let most = match publish.len() {
        waiting if loaded && waiting > BATCH_MESSAGES_MAX => waiting - waiting % BATCH_MESSAGES_MAX,
        _ => PUBLISH_QUEUE,
    };
    publish.recv_many(new, most).await
}

/// Waits until then; for ever without a time.
async fn wait_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The wall clock.
pub(crate) fn unix_now() -> UnixSeconds {
    // A clock before 1970 is as good as none.
    UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

struct Subscriber {
    live: mpsc::Sender<Delivery>,
    skipped: Arc<AtomicBool>,
}

/// See the module.
pub(crate) struct Shell {
    config: HubConfig,
    core: Core,
    log: LogWorker,
    begun: Instant,
    links: Links,
    subscribers: Vec<Subscriber>,
    published: BTreeMap<Ticket, oneshot::Sender<Result<Position, PublishError>>>,
    next_ticket: u64,
    heads: BTreeMap<Origin, Head>,
    keys: ReadyKeys,
    /// Batches that verifiers have, and their bytes.
    judging: BTreeMap<JobId, usize>,
    judging_bytes: usize,
    /// What subscriptions were given since the last tick; the log is told once a tick.
    taken: BTreeMap<Origin, Position>,
    told: Told,
    inputs: VecDeque<Input>,
    outputs: Vec<Output>,
    verified: (mpsc::UnboundedSender<Input>, mpsc::UnboundedReceiver<Input>),
    /// A busy link is not busy any more.
    eased: Arc<Notify>,
    /// Whether own messages are taken in.
    open: bool,
    /// When a link that is waited for may have been waited for long enough.
    look_again: Option<Instant>,
    /// When the core ticked last, and when it is to tick next.
    ticked: Instant,
    next_tick: Instant,
}

impl Shell {
    pub(crate) fn new(
        config: HubConfig,
        core: Config,
        log: AnyLog,
        recovered: Recovered,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let heads = recovered.streams.iter().map(|stream| (stream.head.origin, stream.head));
        Self {
            heads: heads.collect(),
            core: Core::new(core, recovered),
            config,
            keys: ReadyKeys::default(),
            judging: BTreeMap::new(),
            judging_bytes: 0,
            taken: BTreeMap::new(),
            log: LogWorker::new(log),
            begun: Instant::now(),
            links: Links::default(),
            subscribers: Vec::new(),
            published: BTreeMap::new(),
            next_ticket: 0,
            told: Told::new(events),
            inputs: VecDeque::new(),
            outputs: Vec::new(),
            verified: mpsc::unbounded_channel(),
            eased: Arc::new(Notify::new()),
            open: true,
            look_again: None,
            ticked: Instant::now(),
            next_tick: Instant::now(),
        }
    }

    /// Runs until told to stop, or until nobody can tell it anything.
    pub(crate) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut publish: mpsc::Receiver<Publish>,
    ) {
        let mut heard: Vec<HeardOn> = Vec::with_capacity(HEARD_MAX);
        let mut new = Vec::new();
        let (mut next_look, mut loaded) = (Instant::now(), false);
        let eased = self.eased.clone();
        let stopped = loop {
            tokio::select! {
                command = commands.recv() => match command {
                    None => break None,
                    Some(Command::Stop(reply)) => break Some(reply),
                    Some(command) => self.on_command(command),
                },
                () = poll_fn(|context| self.links.poll_heard(context, &mut heard)) => {
                    for (link, heard) in heard.drain(..) {
                        self.on_heard(link, heard);
                    }
                }
                taken = paced(next_look, loaded, &mut publish, &mut new),
                    if self.open && !publish.is_closed() =>
                {
                    next_look = Instant::now() + PACE;
                    loaded = taken >= BATCH_MESSAGES_MAX;
                    self.inputs.push_back(Input::PublishMore(true));
                    new.drain(..).for_each(|publish| self.on_publish(publish));
                    self.inputs.push_back(Input::PublishMore(false));
                }
                Some(verified) = self.verified.1.recv() => self.on_verified(verified),
                done = self.log.done() => match done {
                    Ok(inputs) => self.on_log(inputs),
                    Err(error) => {
                        warn!(BORGIOS_EVENT = "log_panicked", "the log of streams: {error}");
                        break None;
                    }
                },
                () = eased.notified() => {}
                () = self.told.pass_on(), if self.told.is_waiting() => {}
                () = wait_until(self.look_again), if self.look_again.is_some() => {}
                () = tokio::time::sleep_until(self.next_tick) => self.on_tick(),
            }
            self.work();
            self.pace_ticks();
        };
        self.end().await;
        drop(stopped);
    }

    /// Ends links, then the log.
    async fn end(mut self) {
        self.on_tick();
        let links = self.links.take();
        for link in &links {
            link.outbox.close();
        }
        let deadline = Instant::now() + CLOSE_GRACE;
        for link in links {
            while !link.outbox.has_ended() && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            link.outbox.abandon();
        }
        if let Some((log, answers)) = self.log.finish().await {
            self.answer_last(answers);
            let closed = tokio::task::spawn_blocking(move || log.close()).await;
            if !matches!(closed, Ok(Ok(()))) {
                warn!(BORGIOS_EVENT = "disk_failed", "the log of streams did not close cleanly");
            }
        }
    }

    /// Tells who waits for it what became of the last messages: what is stored is sent by the next start,
    /// and must not be said again.
    fn answer_last(&mut self, answers: Vec<Input>) {
        let (now, mut outputs) = (self.now(), Vec::new());
        for input in answers {
            self.core.handle(now, input, &mut outputs);
        }
        for output in outputs {
            match output {
                Output::Published { ticket, position } => self.answer(ticket, Ok(position)),
                Output::Refused { ticket, why } => {
                    self.answer(ticket, Err(PublishError::Refused(why)));
                }
                // The links are closed, and the log takes nothing more.
                _ => {}
            }
        }
    }

    fn now(&self) -> Now {
        let time = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { time: Time(time), unix: unix_now() }
    }

    /// When to tick next: soon, or once the core's rest is over, if nothing here goes by ticks either.
    fn pace_ticks(&mut self) {
        let soon = self.ticked + TICK;
        let rests = self.taken.is_empty() && self.log.is_sound() && self.links.are_read();
        let rest = self.core.rests_until().filter(|_| rests);
        self.next_tick =
            rest.map_or(soon, |Time(ms)| soon.max(self.begun + Duration::from_millis(ms)));
    }

    fn on_tick(&mut self) {
        self.ticked = Instant::now();
        self.inputs.push_back(Input::Tick);
        self.log.look_after();
        for (origin, upto) in std::mem::take(&mut self.taken) {
            self.log.push(Work::Taken(origin, upto));
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::LinkUp { link, peer, role, wire } => {
                let outbox = Outbox::new(wire.pen, self.eased.clone());
                self.links.insert(link, peer, role, wire.reader, outbox);
                self.inputs.push_back(Input::LinkUp { link, peer, role });
            }
            Command::SetRole { link, role } => {
                if let Some(known) = self.links.get_mut(link) {
                    known.role = role;
                    self.inputs.push_back(Input::RoleChanged { link, role });
                }
            }
            Command::LinkDown(link) => {
                if self.close(link) {
                    self.inputs.push_back(Input::LinkDown(link));
                }
            }
            Command::Admit { origin, admission } => {
                self.inputs.push_back(Input::Admitted { origin, admission });
            }
            Command::Subscribe { live, skipped, reply } => {
                let heads = self.heads.values().map(|head| (head.origin, head.last)).collect();
                if reply.send(heads).is_ok() {
                    self.subscribers.push(Subscriber { live, skipped });
                }
            }
            Command::Heads(reply) => {
                // Whoever asked may have given up.
                let _ = reply.send(self.heads.values().copied().collect());
            }
            Command::Read { origin, after, max_bytes, reply } => {
                self.log.push(Work::Read { origin, after, max_bytes, reply });
            }
            // Ends the loop that calls this.
            Command::Stop(_) => {}
        }
    }

    fn on_heard(&mut self, link: LinkId, heard: Heard) {
        if self.links.get(link).is_none() {
            return;
        }
        match heard {
            Heard::Frame(frame) => {
                if let (Frame::Batch(batch), Some(tap)) = (&frame, &self.config.on_arrival) {
                    tap(batch);
                }
                self.inputs.push_back(Input::Frame { link, frame });
            }
            Heard::Garbage(error) => self.inputs.push_back(Input::Garbage { link, error }),
            Heard::End => {
                self.close(link);
                self.inputs.push_back(Input::LinkDown(link));
            }
        }
    }

    fn on_publish(&mut self, publish: Publish) {
        let Publish { kind, durability, body, reply } = publish;
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.published.insert(ticket, reply);
        self.inputs.push_back(Input::Publish { ticket, kind, durability, body });
    }

    fn on_verified(&mut self, verified: Input) {
        if let Input::Verified { job, .. } = &verified {
            self.judging_bytes -= self.judging.remove(job).unwrap_or(0);
        }
        self.inputs.push_back(verified);
    }

    fn on_log(&mut self, inputs: Vec<Input>) {
        for input in inputs {
            match &input {
                Input::Log(LogAnswer::NotStored { error, .. }) => {
                    self.told.tell(Event::LogFailed(error.clone()));
                }
                Input::Log(LogAnswer::Read { reader: log::Reader::Link(link), .. }) => {
                    if let Some(link) = self.links.get_mut(*link) {
                        link.fetches.answered();
                    }
                }
                Input::LogReopened(recovered) => {
                    let heads = recovered.streams.iter().map(|stream| stream.head);
                    self.heads = heads.map(|head| (head.origin, head)).collect();
                    self.told.tell(Event::LogReopened);
                }
                _ => {}
            }
            self.inputs.push_back(input);
        }
    }

    /// Feeds the core and does what it says, and then what came of that.
    fn work(&mut self) {
        loop {
            let Some(input) = self.inputs.pop_front() else {
                // Before the log: what is verified need not wait for this node's disk.
                self.links.flush();
                let answers = self.log.start();
                if answers.is_empty() {
                    break;
                }
                self.on_log(answers);
                continue;
            };
            let now = self.now();
            let mut outputs = std::mem::take(&mut self.outputs);
            self.core.handle(now, input, &mut outputs);
            for output in outputs.drain(..) {
                self.execute(output);
            }
            self.outputs = outputs;
        }
        self.pace();
    }

    fn execute(&mut self, output: Output) {
        match output {
            Output::Send { link, frame } => self.send(link, frame),
            Output::Cut { link, why } => self.cut(link, why),
            Output::Admit(origin) => self.told.tell(Event::Admit(origin)),
            Output::Verify(job) => match &self.config.verifiers {
                Some(verifiers) => {
                    self.judging_bytes += job.batch.len();
                    self.judging.insert(job.job, job.batch.len());
                    verifiers.run(job, self.verified.0.clone());
                }
                None => self.inputs.push_back(self.keys.judge(&job)),
            },
            Output::Sign(job) => {
                self.inputs.push_back(Input::Signed(job.run(&self.config.key)));
            }
            Output::Log(job) => self.on_job(job),
            Output::Deliver { origin, batch, id, after } => {
                self.deliver(origin, batch, id, after);
            }
            // Subscriptions read the log and find out for themselves.
            Output::Missed { .. } => {}
            Output::Published { ticket, position } => self.answer(ticket, Ok(position)),
            Output::Refused { ticket, why } => {
                self.answer(ticket, Err(PublishError::Refused(why)));
            }
            Output::Ahead { epoch } => self.told.tell(Event::Ahead { epoch }),
            Output::Equivocated(evidence) => self.told.tell(Event::Equivocated(evidence)),
            Output::Withheld { origin, upto, told_by } => {
                if let Some(link) = self.links.get(told_by) {
                    let told_by = link.peer;
                    self.told.tell(Event::Withheld { origin, upto, told_by });
                }
            }
        }
    }

    /// A job for the log; a fetch has to wait for its turn.
    fn on_job(&mut self, job: LogJob) {
        if let LogJob::Read { reader: log::Reader::Link(link), .. } = job
            && let Some(link) = self.links.get_mut(link)
        {
            link.fetches.push(job);
            link.fetches.next(link.outbox.bytes(), &mut self.log);
            return;
        }
        if let LogJob::Forget { origin } = &job {
            // The core has expelled it already: nothing of it is delivered after this.
            self.heads.remove(origin);
            self.taken.remove(origin);
        }
        self.log.push(Work::Job(job));
    }

    fn answer(&mut self, ticket: Ticket, answer: Result<Position, PublishError>) {
        if let Some(reply) = self.published.remove(&ticket) {
            // Whoever published may have given up.
            let _ = reply.send(answer);
        }
    }

    fn send(&mut self, id: LinkId, frame: Bytes) {
        if self.links.send(id, frame).is_err() {
            self.hold(id);
        }
    }

    /// Sends nothing more there until what waits has been read.
    fn hold(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(id) else { return };
        if link.full {
            return;
        }
        link.full = true;
        let peer = link.peer;
        debug!(peer = %peer.short(), "a neighbour does not keep up");
        self.inputs.push_back(Input::LinkFull(id));
        self.told.tell(Event::Stalled { link: id, peer });
    }

    fn cut(&mut self, link: LinkId, why: Misdeed) {
        let Some(known) = self.links.remove(link) else { return };
        let peer = known.peer;
        warn!(BORGIOS_EVENT = "stream_cut", BORGIOS_PEER = %peer, "cut a neighbour off: {why}");
        known.outbox.abandon();
        self.told.tell(Event::Misbehaved { peer, why });
        self.told.tell(Event::LinkEnded { link, peer });
    }

    /// Ends a link after what waits was sent; whether there was one.
    fn close(&mut self, link: LinkId) -> bool {
        let Some(known) = self.links.remove(link) else { return false };
        known.outbox.close();
        let outbox = known.outbox;
        tokio::spawn(async move {
            // A neighbour that does not read must not keep the queue alive.
            tokio::time::sleep(CLOSE_GRACE).await;
            outbox.abandon();
        });
        self.told.tell(Event::LinkEnded { link, peer: known.peer });
        true
    }

    fn deliver(&mut self, origin: Origin, batch: Batch, id: BatchId, after: Position) {
        let last = batch.last();
        self.heads.insert(origin, Head { origin, last, id });
        self.subscribers.retain(|subscriber| {
            let new = Delivery::new(origin, batch.clone(), after);
            match subscriber.live.try_send(new) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    subscriber.skipped.store(true, Ordering::Release);
                    true
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            }
        });
        self.inputs.push_back(Input::Taken { origin, upto: last });
        self.taken.insert(origin, last);
    }

    /// Opens and shuts gates by what waits on the links, and tells the core who has drained.
    fn pace(&mut self) {
        // What is not verified and stored yet has a bound in the core, beyond which it is dropped and
        // fetched again: better not taken in.
        let behind =
            self.judging_bytes + self.log.waiting_bytes() > BEHIND || self.told.is_behind();
        let pace = self.links.pace(Instant::now(), behind, &mut self.log);
        self.open = pace.open && !self.told.is_behind();
        self.look_again = pace.look_again;
        for link in pace.failed {
            self.close(link);
            self.inputs.push_back(Input::LinkDown(link));
        }
        for (link, peer) in pace.stuck {
            self.hold(link);
            self.told.tell(Event::Stuck { link, peer });
        }
        for (link, peer) in pace.drained {
            self.inputs.push_back(Input::LinkDrained(link));
            self.told.tell(Event::Recovered { link, peer });
        }
        if pace.asked || !self.inputs.is_empty() {
            self.work();
        }
    }
}
