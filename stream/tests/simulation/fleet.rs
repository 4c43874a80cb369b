//! The fleet under a virtual clock: what happens when, and to whom.

#[path = "outcome.rs"]
mod outcome;
#[path = "wires.rs"]
mod wires;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use borgios_stream::bounds::TICK;
use borgios_stream::frame::Frame;
use borgios_stream::io::Refusal;
use borgios_stream::{
    Admission, Input, Kind, LinkId, Now, Output, Relay, Role, Ticket, Verdict, jobs,
};
use borgios_types::{Digest, SecretKey, Time, UnixSeconds};
use bytes::Bytes;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::hostile::Vice;
use crate::node::{DURABILITY, Node};

const START: u64 = 1_790_000_000;
/// How many nodes publish.
const PUBLISHERS: usize = 5;
/// How long the fleet lives before it heals, in milliseconds.
const LIFE_MS: u64 = 8_000;
/// How long it may take to heal: two intervals of comparison and some fetches.
const HEAL_MS: u64 = 40_000;

fn in_ms(pause: Duration) -> u64 {
    u64::try_from(pause.as_millis()).expect("ticks are short")
}

/// What a run is made of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    /// Messages published, some at a time.
    pub(crate) messages: usize,
    /// Subtrees that move elsewhere.
    pub(crate) moves: usize,
    pub(crate) crashes: usize,
    /// Queues that run full.
    pub(crate) jams: usize,
    pub(crate) vices: Vec<Vice>,
    pub(crate) relay: Relay,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            nodes: 16,
            messages: 120,
            moves: 0,
            crashes: 0,
            jams: 0,
            vices: Vec::new(),
            relay: Relay::Verified,
        }
    }
}

enum Event {
    /// A frame reaches a node.
    Arrive {
        to: usize,
        link: LinkId,
        bytes: Bytes,
    },
    /// A worker or the log has an answer.
    Answer {
        to: usize,
        life: u64,
        input: Box<Input>,
    },
    RunLog {
        at: usize,
        life: u64,
    },
    Tick {
        at: usize,
    },
    Publish {
        at: usize,
        count: usize,
    },
    Move,
    Crash,
    Restart {
        at: usize,
    },
    Jam,
    Drain {
        at: usize,
        link: LinkId,
    },
}

struct Wire {
    ends: [usize; 2],
    role: Role,
    /// When the last frame towards each end arrives: they do not overtake each other.
    busy: [u64; 2],
    full: [bool; 2],
}

pub(crate) struct Fleet {
    random: ChaCha8Rng,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, usize)>>,
    /// Events by number; taken when they happen.
    store: BTreeMap<usize, Event>,
    nodes: Vec<Node>,
    alive: Vec<bool>,
    vices: BTreeMap<usize, Vice>,
    wires: BTreeMap<LinkId, Wire>,
    next_link: u64,
    verdicts: BTreeMap<Bytes, Verdict>,
    /// What each node's application was told to be published.
    acknowledged: BTreeMap<usize, Vec<Vec<u8>>>,
    tickets: BTreeMap<u64, (usize, Vec<u8>)>,
    sent: Vec<Bytes>,
    /// What an origin that equivocates sends to some instead of a batch.
    forks: BTreeMap<Bytes, Bytes>,
    forked: BTreeSet<usize>,
    problem: Option<String>,
    pub(crate) steps: u64,
    pub(crate) restarts: usize,
    pub(crate) dropped_frames: usize,
    pub(crate) misdeeds: usize,
    pub(crate) cuts: usize,
    pub(crate) honest_cuts: usize,
    /// Batches that only a cross link brought.
    pub(crate) withheld: usize,
    /// By how much wall clocks are ahead.
    ahead_s: BTreeMap<usize, u64>,
    /// Messages refused because their stream was begun by such a clock.
    pub(crate) refused_ahead: usize,
}

impl Fleet {
    pub(crate) fn new(seed: u64, plan: &Plan) -> Self {
        let network = Digest::of(b"simulation");
        let key = |n: usize| SecretKey::from_seed([n as u8 + 1; 32]);
        let nodes: Vec<Node> =
            (0..plan.nodes).map(|n| Node::new(key(n), network, plan.relay)).collect();
        let mut fleet = Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            now: 0,
            events: BinaryHeap::new(),
            store: BTreeMap::new(),
            alive: vec![true; nodes.len()],
            nodes,
            vices: BTreeMap::new(),
            wires: BTreeMap::new(),
            next_link: 0,
            verdicts: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            tickets: BTreeMap::new(),
            sent: Vec::new(),
            forks: BTreeMap::new(),
            forked: BTreeSet::new(),
            problem: None,
            steps: 0,
            restarts: 0,
            dropped_frames: 0,
            misdeeds: 0,
            cuts: 0,
            honest_cuts: 0,
            withheld: 0,
            ahead_s: BTreeMap::new(),
            refused_ahead: 0,
        };
        for vice in &plan.vices {
            // Who equivocates must publish; the others must have somebody's batches to forward.
            let most = if *vice == Vice::Equivocate { PUBLISHERS } else { plan.nodes / 2 };
            let at = fleet.random.gen_range(0..most);
            fleet.vices.insert(at, *vice);
        }
        fleet.plan(plan);
        fleet
    }

    /// Builds the first tree and lays down what will happen.
    fn plan(&mut self, plan: &Plan) {
        for n in 1..plan.nodes {
            let parent = self.random.gen_range(n.saturating_sub(6)..n);
            self.open(parent, n, Role::Tree);
        }
        for n in 0..plan.nodes {
            for _ in 0..2 {
                let other = self.random.gen_range(0..plan.nodes);
                if other != n {
                    self.open(n, other, Role::Cross);
                }
            }
            let offset = self.random.gen_range(0..250);
            self.nodes[n].ticked = offset;
            self.pace_ticks(n);
        }
        let mut left = plan.messages;
        while left > 0 {
            let count = self.random.gen_range(1..=6).min(left);
            let at = self.random.gen_range(0..plan.nodes.min(PUBLISHERS));
            let when = self.random.gen_range(0..LIFE_MS);
            self.at(when, Event::Publish { at, count });
            left -= count;
        }
        for _ in 0..plan.moves {
            let when = self.random.gen_range(0..LIFE_MS);
            self.at(when, Event::Move);
        }
        for _ in 0..plan.crashes {
            let when = self.random.gen_range(0..LIFE_MS);
            self.at(when, Event::Crash);
        }
        for _ in 0..plan.jams {
            let when = self.random.gen_range(0..LIFE_MS);
            self.at(when, Event::Jam);
        }
    }

    fn at(&mut self, when: u64, event: Event) {
        self.steps += 1;
        let number = self.steps as usize;
        self.store.insert(number, event);
        self.events.push(Reverse((when, self.steps, number)));
    }

    fn clock(&self, at: usize) -> Now {
        let ahead = self.ahead_s.get(&at).copied().unwrap_or(0);
        Now { time: Time(self.now), unix: UnixSeconds(START + ahead + self.now / 1_000) }
    }

    /// A node's wall clock is ahead of the others' by so much from now on.
    pub(crate) fn set_ahead(&mut self, at: usize, seconds: u64) {
        self.ahead_s.insert(at, seconds);
    }

    /// A node's log is moved away while it is stopped: what it held is heard by nobody.
    pub(crate) fn move_log_away(&mut self, at: usize) {
        self.nodes[at].begin_anew();
        self.acknowledged.remove(&at);
    }

    /// Runs until the fleet's life is over.
    pub(crate) fn live(&mut self) -> Result<(), String> {
        self.run_until(LIFE_MS)
    }

    /// Lets what is under way at a node come to its end.
    pub(crate) fn rest(&mut self) -> Result<(), String> {
        self.run_until(self.now + 1_000)
    }

    fn run_until(&mut self, end: u64) -> Result<(), String> {
        while let Some(Reverse((when, _, number))) = self.events.peek().copied() {
            if when > end {
                break;
            }
            self.events.pop();
            self.now = self.now.max(when);
            let event = self.store.remove(&number).expect("each event happens once");
            self.happen(event);
            if let Some(problem) = self.problem.take() {
                return Err(format!("at {} ms: {problem}", self.now));
            }
        }
        self.now = end;
        Ok(())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { to, link, bytes } => {
                if self.wires.contains_key(&link) && self.alive[to] {
                    let input = match Frame::parse(bytes) {
                        Ok(frame) => Input::Frame { link, frame },
                        Err(error) => Input::Garbage { link, error },
                    };
                    self.step(to, input);
                }
            }
            Event::Answer { to, life, input } => {
                if self.nodes[to].life == life && self.alive[to] {
                    self.step(to, *input);
                }
            }
            Event::RunLog { at, life } => {
                if self.nodes[at].life == life && self.alive[at] {
                    let inputs = self.nodes[at].run_log();
                    assert!(!Node::failed(&inputs), "a log in memory takes everything");
                    inputs.into_iter().for_each(|input| self.step(at, input));
                }
            }
            // One that was set earlier, for another time.
            Event::Tick { at } if self.nodes[at].next_tick != self.now => {}
            Event::Tick { at } => {
                self.nodes[at].ticked = self.now;
                if self.alive[at] {
                    self.step(at, Input::Tick);
                }
                self.pace_ticks(at);
            }
            Event::Publish { at, count } => self.publish(at, count),
            Event::Move => self.move_subtree(),
            Event::Crash => self.crash(),
            Event::Restart { at } => {
                self.alive[at] = true;
                self.restarts += 1;
                let parent = self.elsewhere(at);
                if let Some(parent) = parent {
                    self.open(parent, at, Role::Tree);
                }
            }
            Event::Jam => {
                let links: Vec<LinkId> = self.wires.keys().copied().collect();
                let Some(link) = links.choose(&mut self.random).copied() else { return };
                let side = self.random.gen_range(0..2);
                let Some(wire) = self.wires.get_mut(&link) else { return };
                wire.full[side] = true;
                let at = wire.ends[side];
                let pause = self.random.gen_range(10..1_000);
                self.at(self.now + pause, Event::Drain { at, link });
                // Some frames are dropped before the core hears of it.
                self.at(
                    self.now + 5,
                    Event::Answer {
                        to: at,
                        life: self.nodes[at].life,
                        input: Box::new(Input::LinkFull(link)),
                    },
                );
            }
            Event::Drain { at, link } => {
                if let Some(wire) = self.wires.get_mut(&link) {
                    wire.full = [false; 2];
                    if self.alive[at] {
                        self.step(at, Input::LinkDrained(link));
                    }
                }
            }
        }
    }

    pub(crate) fn publish(&mut self, at: usize, count: usize) {
        if !self.alive[at] {
            return;
        }
        for _ in 0..count {
            let ticket = self.tickets.len() as u64;
            let body = format!("{at}: message {ticket}").into_bytes();
            self.tickets.insert(ticket, (at, body.clone()));
            self.step(
                at,
                Input::Publish {
                    ticket: Ticket(ticket),
                    kind: Kind::new(if ticket.is_multiple_of(3) { "chat" } else { "log" })
                        .expect("both are kinds"),
                    durability: DURABILITY,
                    body: body.into(),
                },
            );
        }
    }

    /// As the shell does: soon, or once the core's rest is over.
    fn pace_ticks(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let soon = self.now.max(node.ticked + in_ms(TICK));
        let next = node.core.rests_until().map_or(soon, |rest| soon.max(rest.0));
        if std::mem::replace(&mut node.next_tick, next) != next {
            self.at(next, Event::Tick { at });
        }
    }

    /// Lets a node handle an input and does what it says.
    fn step(&mut self, at: usize, input: Input) {
        let clock = self.clock(at);
        for output in self.nodes[at].handle(clock, input) {
            self.apply(at, output);
        }
        self.pace_ticks(at);
        if self.steps.is_multiple_of(64)
            && let Err(broken) = self.nodes[at].core.check()
        {
            self.problem = Some(broken);
        }
    }

    fn apply(&mut self, at: usize, output: Output) {
        let life = self.nodes[at].life;
        let hostile = self.vices.contains_key(&at);
        match output {
            Output::Send { link, frame } => self.send(at, link, frame),
            Output::Cut { link, .. } => self.on_cut(at, link),
            Output::Admit(origin) => {
                let member = self.nodes.iter().any(|node| node.origin() == origin);
                let admission = match self.random.gen_range(0..10) {
                    0 => Admission::Later,
                    _ if member => Admission::Yes,
                    _ => Admission::No,
                };
                self.answer(at, life, 5, Input::Admitted { origin, admission });
            }
            Output::Verify(job) => {
                let known = self.verdicts.get(job.batch.bytes()).copied();
                let verdict = known.unwrap_or_else(|| jobs::verify(&job.batch));
                self.verdicts.insert(job.batch.bytes().clone(), verdict);
                self.answer(at, life, 3, Input::Verified { job: job.job, verdict });
            }
            Output::Sign(job) => {
                let signed = job.run(&self.nodes[at].key);
                if self.vices.get(&at) == Some(&Vice::Equivocate) && self.random.gen_bool(0.3) {
                    let mut draft = job.draft.clone();
                    draft.messages[0] = Bytes::from_static(b"for you alone");
                    let other = draft.sign(&self.nodes[at].key);
                    self.forks.insert(signed.batch.bytes().clone(), other.bytes().clone());
                }
                self.answer(at, life, 2, Input::Signed(signed));
            }
            Output::Log(job) => {
                if self.nodes[at].queue(job) {
                    let when = self.now + self.random.gen_range(0..10);
                    self.at(when, Event::RunLog { at, life });
                }
            }
            Output::Deliver { origin, batch, after, .. } => {
                let taken = self.nodes[at].app.take(origin, &batch, after);
                let forked =
                    self.forked.iter().any(|forger| self.nodes[*forger].origin() == origin);
                if let Err(problem) = taken
                    && !hostile
                    && !forked
                {
                    self.problem = Some(format!("node {at}: {problem}"));
                }
                let upto = batch.last();
                self.answer(at, life, 20, Input::Taken { origin, upto });
            }
            Output::Missed { origin, after, next } => {
                if !hostile {
                    self.problem = Some(format!("node {at} missed {origin:?} {after} to {next}"));
                }
            }
            Output::Published { ticket, .. } => {
                let (_, body) = self.tickets[&ticket.0].clone();
                self.acknowledged.entry(at).or_default().push(body);
            }
            Output::Ahead { .. } => {}
            Output::Refused { why: Refusal::Ahead, .. } => self.refused_ahead += 1,
            Output::Refused { ticket, why } => {
                if !hostile {
                    self.problem = Some(format!("node {at}: {ticket:?} refused: {why}"));
                }
            }
            Output::Equivocated(evidence) => {
                let guilty =
                    self.forked.iter().any(|f| self.nodes[*f].origin() == evidence.origin());
                if !guilty {
                    self.problem = Some(format!("node {at} found an honest origin guilty"));
                }
            }
            Output::Withheld { .. } => self.withheld += 1,
        }
    }

    fn answer(&mut self, to: usize, life: u64, most_ms: u64, input: Input) {
        let when = self.now + self.random.gen_range(0..most_ms);
        self.at(when, Event::Answer { to, life, input: Box::new(input) });
    }
}
