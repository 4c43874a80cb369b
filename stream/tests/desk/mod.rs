//! One core with a parent, a child and a cross link, and what is needed to speak to it.

#![allow(dead_code, reason = "each test uses some of it")]

use borgios_stream::builder::Draft;
use borgios_stream::frame::Fetch;
use borgios_stream::log::{LogAnswer, LogError, LogJob, Recovered, serve};
use borgios_stream::{
    Admission, Batch, BatchId, Config, Core, Durability, Frame, Head, Input, Kind, Limits, LinkId,
    MemoryLog, Misdeed, Now, Output, Position, Relay, Role,
};
use borgios_types::{Digest, SecretKey, Time, UnixSeconds};
use bytes::Bytes;

pub(crate) const EPOCH: u64 = 1_790_000_000;
pub(crate) const PARENT: LinkId = LinkId(1);
pub(crate) const CHILD: LinkId = LinkId(2);
pub(crate) const CROSS: LinkId = LinkId(3);

pub(crate) fn network() -> Digest {
    Digest::of(b"neighbours")
}

pub(crate) fn key(n: u16) -> SecretKey {
    let mut seed = [7; 32];
    seed[..2].copy_from_slice(&n.to_be_bytes());
    SecretKey::from_seed(seed)
}

pub(crate) fn batch(origin: u16, first: u64, previous: BatchId, body: &[u8]) -> Batch {
    batch_of(EPOCH, origin, first, previous, body)
}

/// The same of any epoch.
pub(crate) fn batch_of(
    epoch: u64,
    origin: u16,
    first: u64,
    previous: BatchId,
    body: &[u8],
) -> Batch {
    Draft {
        network: network(),
        first: Position::new(epoch, first),
        previous,
        kind: Kind::new("chat").unwrap(),
        durability: Durability::Durable,
        issued: UnixSeconds(EPOCH),
        messages: vec![Bytes::copy_from_slice(body)],
    }
    .sign(&key(origin))
}

/// Batches of one message each, the first of number 1.
pub(crate) fn chain(origin: u16, count: u64, body: &[u8]) -> Vec<Batch> {
    let mut previous = BatchId::NONE;
    let make = |number| {
        let batch = batch(origin, number, previous, body);
        previous = batch.id();
        batch
    };
    (1..=count).map(make).collect()
}

pub(crate) fn forged(batch: &Batch) -> Batch {
    let mut bytes = batch.bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    Batch::parse(bytes.into()).unwrap()
}

/// A core with a parent, a child and a cross link, and a shell that does at once what it says.
pub(crate) struct Desk {
    /// Whose key it signs with.
    me: u16,
    pub(crate) core: Core,
    pub(crate) log: MemoryLog,
    pub(crate) now: Now,
    /// The log takes nothing while its disk is full.
    pub(crate) full: bool,
    /// What the shell answers when it is asked about an origin, and how often it was.
    pub(crate) admission: Admission,
    pub(crate) asked: usize,
    /// The application says at once that it has taken what it got.
    pub(crate) takes: bool,
    pub(crate) sent: Vec<(LinkId, Frame)>,
    pub(crate) cuts: Vec<(LinkId, Misdeed)>,
    pub(crate) got: Vec<Position>,
    pub(crate) missed: Vec<(Position, Position)>,
    pub(crate) said: Vec<String>,
}

impl Desk {
    pub(crate) fn new(relay: Relay) -> Self {
        Self::of(0, relay)
    }

    /// The same of another node.
    pub(crate) fn of(me: u16, relay: Relay) -> Self {
        let config = Config { network: network(), me: key(me).public(), relay };
        let mut desk = Self {
            me,
            core: Core::new(config, Recovered::default()),
            log: MemoryLog::new(Limits::default()),
            now: Now { time: Time(1_000), unix: UnixSeconds(EPOCH) },
            full: false,
            admission: Admission::Yes,
            asked: 0,
            takes: true,
            sent: Vec::new(),
            cuts: Vec::new(),
            got: Vec::new(),
            missed: Vec::new(),
            said: Vec::new(),
        };
        for (link, role) in [(PARENT, Role::Tree), (CHILD, Role::Tree), (CROSS, Role::Cross)] {
            let peer = key(100 + link.0 as u16).public();
            desk.step(Input::LinkUp { link, peer, role });
        }
        desk.sent.clear();
        desk
    }

    pub(crate) fn step(&mut self, input: Input) {
        let mut inputs = vec![input];
        while !inputs.is_empty() {
            let mut out = Vec::new();
            for input in inputs.drain(..) {
                self.core.handle(self.now, input, &mut out);
            }
            for output in out {
                self.apply(output, &mut inputs);
            }
        }
        self.core.check().unwrap();
    }

    pub(crate) fn apply(&mut self, output: Output, inputs: &mut Vec<Input>) {
        match output {
            Output::Send { link, frame } => self.sent.push((link, Frame::parse(frame).unwrap())),
            Output::Cut { link, why } => self.cuts.push((link, why)),
            Output::Admit(origin) => {
                self.asked += 1;
                inputs.push(Input::Admitted { origin, admission: self.admission });
            }
            Output::Verify(job) => {
                inputs.push(Input::Verified { job: job.job, verdict: job.run() });
            }
            Output::Sign(job) => inputs.push(Input::Signed(job.run(&key(self.me)))),
            Output::Log(LogJob::Append { job, origin, .. }) if self.full => {
                let error = LogError::Full;
                inputs.push(Input::Log(LogAnswer::NotStored { job, origin, error }));
            }
            Output::Log(job) => serve(&mut self.log, &mut vec![job], inputs),
            Output::Deliver { origin, batch, .. } => {
                self.got.push(batch.last());
                if self.takes {
                    inputs.push(Input::Taken { origin, upto: batch.last() });
                }
            }
            Output::Missed { after, next, .. } => self.missed.push((after, next)),
            other => self.said.push(format!("{other:?}")),
        }
    }

    pub(crate) fn batch(&mut self, link: LinkId, batch: &Batch) {
        self.step(Input::Frame { link, frame: Frame::Batch(batch.clone()) });
    }

    pub(crate) fn frame(&mut self, link: LinkId, frame: Frame) {
        self.step(Input::Frame { link, frame });
    }

    /// Time passes, tick by tick.
    pub(crate) fn wait(&mut self, ms: u64) {
        for _ in 0..ms / 250 {
            self.now.time = Time(self.now.time.0 + 250);
            self.step(Input::Tick);
        }
    }

    pub(crate) fn batches_sent_to(&self, to: LinkId) -> usize {
        self.sent.iter().filter(|(link, f)| *link == to && matches!(f, Frame::Batch(_))).count()
    }

    /// The heads that were sent over a link.
    pub(crate) fn heads_to(&self, to: LinkId) -> Vec<Head> {
        let heads = |(link, frame): &(LinkId, Frame)| match frame {
            Frame::Heads(heads) if *link == to => Some(heads.clone()),
            _ => None,
        };
        self.sent.iter().filter_map(heads).flatten().collect()
    }

    pub(crate) fn fetches_to(&self, to: LinkId) -> Vec<Fetch> {
        let fetch = |(link, frame): &(LinkId, Frame)| match frame {
            Frame::Fetch(fetch) if *link == to => Some(*fetch),
            _ => None,
        };
        self.sent.iter().filter_map(fetch).collect()
    }
}
