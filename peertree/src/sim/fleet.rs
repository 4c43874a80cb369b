//! The fleet: events in the order of a virtual clock, and what a scenario can do to it.

use std::collections::BTreeMap;
use std::time::Duration;

use borgios_types::{Digest, NodeId, Time};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::contact::Contact;
use crate::io::{Input, Timer, Verdict};
use crate::message::{Body, Message};
use crate::sim::latency::Latency;
use crate::sim::machine::{LANE, Machine, Object};
use crate::sim::trace::{Sink, Trace};
use crate::sim::vice::FORGED;
use crate::sim::wire::{Index, LinkId, Network};

/// An invariant that did not hold: a bug, and the moment it showed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at_ms} ms: {what}")]
pub struct Violation {
    /// When.
    pub at_ms: u64,
    /// What was seen.
    pub what: String,
}

/// How fast the network is, in milliseconds.
pub const DELAY_MS: std::ops::RangeInclusive<u64> = 1..=80;
/// When a dial into nothing is given up by the shell.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// All nodes are checked this often; the touched one after every step.
const CHECK_ALL: Duration = Duration::from_secs(1);

/// What will happen.
#[derive(Debug)]
pub(crate) enum Event {
    Timer { at: Index, life: u64, timer: Timer, number: u64 },
    DialArrives { from: Index, life: u64, to: NodeId },
    DialFails { from: Index, life: u64, to: NodeId },
    Up { link: LinkId },
    Deliver { link: LinkId, to: Index, message: Message },
    Down { link: LinkId, to: Index },
    Judge { at: Index, life: u64, id: Digest, from: NodeId },
}

/// A fleet under a virtual clock.
pub struct Fleet {
    /// The clock.
    pub now: Time,
    /// The scenario's dice, and the network's.
    pub rng: ChaCha8Rng,
    /// Every machine, running or not.
    pub machines: Vec<Machine>,
    /// What happened.
    pub trace: Trace,
    /// The policy's fan-out.
    pub fanout: u16,
    /// How long a message takes, in milliseconds.
    pub delay_ms: std::ops::RangeInclusive<u64>,
    /// The share of objects that a full queue of some shell drops.
    pub object_loss: f64,
    /// How long messages take, where it is not [`Fleet::delay_ms`].
    pub latency: Option<Latency>,
    /// Bytes sent so far, if they are counted.
    pub bytes: Option<u64>,
    /// What honest machines published, and when.
    pub published_at: Vec<(Digest, Time)>,
    /// When each machine stored the last of these.
    pub arrivals: Vec<Time>,
    pub(crate) network: Network,
    /// Since when each machine that is in a cycle of parents has been in one.
    pub(crate) cycle_since: BTreeMap<Index, Time>,
    seed: u64,
    pub(crate) index: BTreeMap<NodeId, Index>,
    /// The contact told by each join record.
    joins: BTreeMap<Digest, Contact>,
    queue: BTreeMap<(Time, u64), Event>,
    pub(crate) next_number: u64,
    next_check: Time,
    published: u64,
    statements: u64,
    /// Messages delivered, by name.
    pub messages: BTreeMap<&'static str, u64>,
}

impl Fleet {
    /// An empty fleet; the seed decides everything that follows.
    #[must_use]
    pub fn new(seed: u64, fanout: u16, sink: Option<Sink>) -> Self {
        Self {
            now: Time::default(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            machines: Vec::new(),
            trace: Trace::new(sink),
            fanout,
            delay_ms: DELAY_MS,
            latency: None,
            bytes: None,
            published_at: Vec::new(),
            arrivals: Vec::new(),
            object_loss: 0.0,
            network: Network::default(),
            cycle_since: BTreeMap::new(),
            seed,
            index: BTreeMap::new(),
            joins: BTreeMap::new(),
            queue: BTreeMap::new(),
            next_number: 0,
            next_check: Time::default(),
            published: 0,
            statements: 0,
            messages: BTreeMap::new(),
        }
    }

    /// Adds a machine that is not running yet.
    pub fn add(&mut self, dialable: bool, seeds: &[Index]) -> Index {
        let at = self.machines.len();
        let mut machine = Machine::new(self.seed, at, dialable);
        machine.seeds = seeds.iter().map(|seed| self.machines[*seed].contact()).collect();
        self.index.insert(machine.id, at);
        self.machines.push(machine);
        at
    }

    /// Starts a machine's program; in its first life it publishes its join record.
    ///
    /// # Errors
    /// An invariant that broke.
    pub fn boot(&mut self, at: Index) -> Result<(), Violation> {
        let rng_seed = self.rng.r#gen();
        let first = self.machines[at].life == 0;
        let start = self.machines[at].boot(self.fanout, rng_seed);
        self.note("boot", at, &[], String::new);
        self.step(at, start)?;
        if first {
            let id = self.fresh_id();
            if self.machines[at].dialable {
                self.joins.insert(id, self.machines[at].contact());
            }
            self.publish_object(at, id, "join", "{}")?;
        }
        Ok(())
    }

    /// `kill -9`; a `silent` one takes the machine along, so that nobody hears a connection reset.
    pub fn kill(&mut self, at: Index, silent: bool) {
        self.note("kill", at, &[silent.into()], || format!("silent: {silent}"));
        self.machines[at].kill();
        for link in self.network.of(at) {
            let Some(wire) = self.network.wire(link) else { continue };
            let mine = wire.end_of(at);
            wire.open[mine] = false;
            let other = wire.ends[1 - mine];
            if silent || wire.cut {
                wire.cut = true;
            } else {
                self.after_delay(Event::Down { link, to: other });
            }
        }
    }

    /// Breaks a random link; both ends find out.
    pub fn break_link(&mut self) {
        let links = self.network.whole();
        if links.is_empty() {
            return;
        }
        let link = links[self.rng.gen_range(0..links.len())];
        let ends = self.network.wire(link).map_or([0, 0], |wire| {
            wire.cut = true;
            wire.ends
        });
        self.note("break", ends[0], &[ends[1] as u64], || format!("link to n{}", ends[1]));
        for to in ends {
            let event = Event::Down { link, to };
            self.after_delay(event);
        }
    }

    /// Splits the network into two sides; an empty list heals it.
    pub fn split(&mut self, sides: Vec<u8>) {
        self.note("split", 0, &[sides.len() as u64], || format!("sides {sides:?}"));
        self.network.split(sides);
    }

    /// Broadcasts a new object from a running machine.
    ///
    /// # Errors
    /// An invariant that broke.
    pub fn publish(&mut self, at: Index) -> Result<Digest, Violation> {
        let id = self.fresh_id();
        self.publish_object(at, id, "note", "{}")?;
        Ok(id)
    }

    /// Broadcasts the lane's next statement from a running machine that has all earlier ones.
    ///
    /// # Errors
    /// An invariant that broke.
    pub fn publish_statement(&mut self) -> Result<(), Violation> {
        let newest = self.statements;
        let up_to_date = |machine: &Machine| {
            machine.node.is_some() && machine.disk.head().map_or(0, |head| head.seq) == newest
        };
        let Some(at) = self.machines.iter().position(up_to_date) else { return Ok(()) };
        self.statements += 1;
        let id = self.fresh_id();
        self.publish_object(at, id, LANE, &self.statements.to_string())
    }

    fn fresh_id(&mut self) -> Digest {
        self.published += 1;
        Digest::of_parts(&[&self.seed.to_le_bytes(), &self.published.to_le_bytes()])
    }

    fn publish_object(
        &mut self,
        at: Index,
        id: Digest,
        kind: &str,
        text: &str,
    ) -> Result<(), Violation> {
        let body = Body::from_text(text).map_err(|error| self.violation(error.to_string()))?;
        let object = Object { kind: kind.to_owned(), body: body.clone() };
        let verdict = self.machines[at].disk.admit(id, &object);
        if verdict != Verdict::Admitted {
            return Err(self.violation(format!("n{at} cannot publish its own {kind}")));
        }
        if self.machines[at].vice.is_none() {
            self.published_at.push((id, self.now));
            self.arrivals.clear();
        }
        self.note("publish", at, &[short(&id)], || format!("{kind} {}", id.short()));
        self.step(at, Input::Publish { id, kind: kind.to_owned(), body })?;
        self.after_storing(at, id, &object)
    }

    /// What a shell tells its core after it stored something.
    fn after_storing(&mut self, at: Index, id: Digest, object: &Object) -> Result<(), Violation> {
        if self.published_at.last().is_some_and(|last| last.0 == id) {
            self.arrivals.push(self.now);
        }
        if object.kind == LANE
            && let Some(head) = self.machines[at].disk.head()
        {
            return self.step(at, Input::Head { lane: LANE.to_owned(), head });
        }
        match self.joins.get(&id).cloned() {
            Some(contact) => self.step(at, Input::Contacts(vec![contact])),
            None => Ok(()),
        }
    }

    /// Changes the policy's fan-out on every running machine.
    ///
    /// # Errors
    /// An invariant that broke.
    pub fn set_fanout(&mut self, fanout: u16) -> Result<(), Violation> {
        self.fanout = fanout;
        for at in self.running() {
            self.note("fanout", at, &[fanout.into()], || format!("{fanout}"));
            self.step(at, Input::SetFanout(fanout))?;
        }
        Ok(())
    }

    /// Machines whose program runs.
    #[must_use]
    pub fn running(&self) -> Vec<Index> {
        (0..self.machines.len()).filter(|at| self.machines[*at].node.is_some()).collect()
    }

    /// A random running machine.
    pub fn any_running(&mut self) -> Option<Index> {
        let running = self.running();
        (!running.is_empty()).then(|| running[self.rng.gen_range(0..running.len())])
    }

    /// A random running machine that can be dialled.
    pub fn any_dialable(&mut self) -> Option<Index> {
        let mut running = self.running();
        running.retain(|at| self.machines[*at].dialable);
        (!running.is_empty()).then(|| running[self.rng.gen_range(0..running.len())])
    }

    /// Lets virtual time pass.
    ///
    /// # Errors
    /// The first invariant that broke.
    pub fn run(&mut self, duration: Duration) -> Result<(), Violation> {
        let end = self.now + duration;
        loop {
            let due = self.queue.first_key_value().map(|((at, _), _)| *at);
            let next = due.unwrap_or(end).min(end);
            while self.next_check <= next {
                self.now = self.now.max(self.next_check);
                self.next_check = self.next_check + CHECK_ALL;
                self.check_all()?;
            }
            if due.is_none_or(|at| at > end) {
                self.now = end;
                return Ok(());
            }
            if let Some(((at, _), event)) = self.queue.pop_first() {
                self.now = at;
                self.happen(event)?;
            }
        }
    }

    /// Lets time pass until the fleet is one whole tree that has everything, at most `limit`.
    /// Returns how long it took.
    ///
    /// # Errors
    /// An invariant that broke, or what is still wrong after `limit`.
    pub fn settle(&mut self, limit: Duration) -> Result<Duration, Violation> {
        self.wait(limit, Self::whole)
    }

    /// Lets time pass until every running machine holds what any of them holds.
    ///
    /// # Errors
    /// An invariant that broke, or who still lacks what after `limit`.
    pub fn deliver(&mut self, limit: Duration) -> Result<Duration, Violation> {
        self.wait(limit, Self::same_stores)
    }

    /// Lets time pass until so large a share of the honest machines has a place and everything.
    ///
    /// # Errors
    /// An invariant that broke, or how many have after `limit`.
    pub fn honest(&mut self, share: f64, limit: Duration) -> Result<Duration, Violation> {
        self.wait(limit, |fleet| fleet.honest_fare_well(share))
    }

    fn wait(
        &mut self,
        limit: Duration,
        what: impl Fn(&Self) -> Result<(), String>,
    ) -> Result<Duration, Violation> {
        let begun = self.now;
        loop {
            let state = what(self);
            if state.is_ok() {
                return Ok(self.now.since(begun));
            }
            if self.now.since(begun) >= limit {
                let what = state.err().unwrap_or_default();
                return Err(self.violation(format!("not whole after {limit:?}: {what}")));
            }
            self.run(Duration::from_millis(200))?;
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Timer { at, life, timer, number } => {
                let machine = &mut self.machines[at];
                if machine.life != life || machine.timers.get(&timer) != Some(&number) {
                    return Ok(());
                }
                machine.timers.remove(&timer);
                self.note("timer", at, &[timer as u64], || format!("{timer:?}"));
                self.step(at, Input::TimerFired(timer))
            }
            Event::DialArrives { from, life, to } => self.on_dial(from, life, to),
            Event::DialFails { from, life, to } => {
                if self.machines[from].life != life {
                    return Ok(());
                }
                self.note("dial failed", from, &[self.index[&to] as u64], String::new);
                self.step(from, Input::DialFailed(to))
            }
            Event::Up { link } => {
                let Some(wire) = self.network.wire(link) else { return Ok(()) };
                if wire.cut || !wire.open[1] {
                    return Ok(());
                }
                wire.open[0] = true;
                let [from, to] = wire.ends;
                self.note("up", from, &[to as u64], || format!("dialled n{to}"));
                self.link_up(from, to, true)
            }
            Event::Deliver { link, to, message } => {
                let Some(wire) = self.network.wire(link) else { return Ok(()) };
                let mine = wire.end_of(to);
                if wire.cut || !wire.open[mine] {
                    return Ok(());
                }
                let from = wire.ends[1 - mine];
                *self.messages.entry(message.name()).or_default() += 1;
                self.note(message.name(), to, &[from as u64], || {
                    let mut text = format!("from n{from} {message:?}");
                    text.truncate(text.char_indices().nth(160).map_or(text.len(), |(at, _)| at));
                    text
                });
                let from = self.machines[from].id;
                self.step(to, Input::Received(from, message))
            }
            Event::Down { link, to } => {
                let Some(wire) = self.network.wire(link) else { return Ok(()) };
                let mine = wire.end_of(to);
                let was_open = std::mem::take(&mut wire.open[mine]);
                let other = wire.ends[1 - mine];
                if !wire.open[1 - mine] {
                    self.network.remove(link);
                }
                if !was_open {
                    return Ok(());
                }
                self.note("down", to, &[other as u64], || format!("link to n{other}"));
                let other = self.machines[other].id;
                self.step(to, Input::LinkDown(other))
            }
            Event::Judge { at, life, id, from } => {
                if self.machines[at].life != life {
                    return Ok(());
                }
                let Some(object) = self.machines[at].judging.remove(&id) else { return Ok(()) };
                let verdict = self.machines[at].disk.admit(id, &object);
                self.note("judged", at, &[short(&id), verdict as u64], || {
                    format!("{} {verdict:?}", id.short())
                });
                self.step(at, Input::Judged { id, from, verdict })?;
                match verdict {
                    Verdict::Admitted => self.after_storing(at, id, &object),
                    Verdict::Known | Verdict::Deferred | Verdict::Later => Ok(()),
                    Verdict::Refused if object.body.as_str() == FORGED => Ok(()),
                    Verdict::Refused => Err(self.violation(format!("n{at} refused {id}"))),
                }
            }
        }
    }

    /// A dial reaches its target, or does not.
    fn on_dial(&mut self, from: Index, life: u64, peer: NodeId) -> Result<(), Violation> {
        if self.machines[from].life != life {
            return Ok(());
        }
        let to = self.index[&peer];
        if !self.network.reaches(from, to) {
            let at = self.now + DIAL_TIMEOUT;
            self.schedule(at, Event::DialFails { from, life, to: peer });
            return Ok(());
        }
        let kept = self.network.between(from, to).is_some_and(|link| {
            // The rule for two links between two nodes, as `Input` states it for the shell.
            let Some(wire) = self.network.wire(link) else { return false };
            let mine_too = wire.ends[0] == from;
            let open = wire.open[wire.end_of(to)];
            open && !mine_too && self.machines[to].id < self.machines[from].id
        });
        let refused = !self.machines[to].dialable || self.machines[to].node.is_none() || kept;
        if refused {
            self.after_delay(Event::DialFails { from, life, to: peer });
            return Ok(());
        }
        let link = self.network.add(from, to);
        self.note("up", to, &[from as u64], || format!("dialled by n{from}"));
        self.after_delay(Event::Up { link });
        self.link_up(to, from, false)
    }

    fn link_up(&mut self, at: Index, other: Index, dialled: bool) -> Result<(), Violation> {
        let other = &self.machines[other];
        let address = other.dialable.then(|| other.address.clone());
        let input = Input::LinkUp { peer: other.id, dialled, address };
        self.step(at, input)
    }

    /// Gives a node one input and does what it asks for.
    pub(crate) fn step(&mut self, at: Index, input: Input) -> Result<(), Violation> {
        let now = self.now;
        let Some(node) = &mut self.machines[at].node else { return Ok(()) };
        let outputs = node.handle(now, input);
        self.check_touched(at)?;
        for output in outputs {
            self.perform(at, output)?;
        }
        Ok(())
    }

    pub(crate) fn after_delay(&mut self, event: Event) {
        let due = self.now + self.delay(None);
        self.schedule(due, event);
    }

    /// How long the next message takes.
    pub(crate) fn delay(&mut self, ends: Option<(Index, Index)>) -> Duration {
        let ms = match &self.latency {
            Some(latency) => latency.ms(&mut self.rng, ends),
            None => self.rng.gen_range(self.delay_ms.clone()),
        };
        let slow = |at: Index| self.machines[at].slow_ms;
        Duration::from_millis(ms + ends.map_or(0, |(one, two)| slow(one) + slow(two)))
    }

    /// What no message takes longer than, as a rule.
    pub(crate) fn longest_delay(&self) -> Duration {
        let most = self.latency.as_ref().map_or(*self.delay_ms.end(), Latency::most_ms);
        Duration::from_millis(most)
    }

    pub(crate) fn schedule(&mut self, due: Time, event: Event) {
        self.queue.insert((due, self.next_number), event);
        self.next_number += 1;
    }

    pub(crate) fn note(
        &mut self,
        name: &str,
        at: Index,
        numbers: &[u64],
        words: impl FnOnce() -> String,
    ) {
        let now = self.now;
        let mut all = vec![now.0, at as u64];
        all.extend(numbers);
        self.trace.add(name, &all, || format!("{:>8} n{at} {name} {}", now.0, words()));
    }

    pub(crate) fn violation(&self, what: impl Into<String>) -> Violation {
        Violation { at_ms: self.now.0, what: what.into() }
    }

    /// The machine with this key.
    #[must_use]
    pub fn position(&self, id: &NodeId) -> Option<Index> {
        self.index.get(id).copied()
    }
}

/// The first eight bytes of an id, for the trace.
fn short(id: &Digest) -> u64 {
    id.0[..8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}
