//! A few machines that run the real core, and every step that can happen to them next.
//!
//! The clock stands still while orders are explored: a timer that is set may fire at any moment, before or after any
//! message. Time passes only where it is said: in [`Step::Pause`], and in `settle`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash, Hasher};

use borgios_peertree::{Config, Contact, Input, Message, Node, Output, State, Timer};
use borgios_types::{NodeId, SecretKey, Time};

use crate::real::network::{Index, Network, Packet};

/// A link that carries this many packets one way takes no more heartbeats: bounds what is explored.
const QUEUE_MAX: usize = 3;
/// How far a pause moves the clock: past every silence that the core allows a neighbour.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(30);

/// One machine.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// The program, while it runs.
    pub node: Option<Node>,
    /// Running timers, and when each is due.
    pub timers: BTreeMap<Timer, Time>,
    /// What the core asked to remember; survives its death.
    pub remembered: Vec<Contact>,
    /// Was in the tree, in this life or an earlier one.
    pub member: bool,
    /// Cut off from all others.
    pub isolated: bool,
}

/// The machines, their network, and how much may still go wrong.
#[derive(Clone)]
pub struct Fleet {
    /// The machines, by number.
    pub machines: Vec<Machine>,
    /// Their links.
    pub network: Network,
    /// Dials under way: from, to.
    pub dials: BTreeSet<(Index, Index)>,
    /// The one clock.
    pub now: Time,
    /// Faults that may still happen.
    pub faults: u8,
    /// What the randomness of the next input begins with: the same while orders are explored, so that states meet
    /// again; another each time while the fleet settles, or a node would dial the same dead peer for ever.
    pub(crate) dice: u64,
    /// Whether the fleet settles.
    pub(crate) settling: bool,
    keys: std::sync::Arc<Vec<NodeId>>,
    fanout: u16,
}

/// What can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next packet of a link arrives.
    Deliver(Index, Index, &'static str),
    /// A dial reaches its target, or finds that nobody is there.
    Dial(Index, Index),
    /// A timer fires.
    Fire(Index, Timer),
    /// Fault: a program ends without a word.
    Kill(Index),
    /// Fault: it starts again with what it remembered.
    Restart(Index),
    /// Fault: a connection breaks.
    Reset(Index, Index),
    /// Fault: a machine is cut off from all others.
    Isolate(Index),
    /// It can be reached again.
    Rejoin(Index),
    /// Fault: nothing happens anywhere for so long that every neighbour seems silent.
    Pause,
}

impl Fleet {
    /// `count` machines, not started.
    #[must_use]
    pub fn new(count: usize, fanout: u16, faults: u8) -> Self {
        let mut keys: Vec<NodeId> =
            (1..=count).map(|n| SecretKey::from_seed([n as u8; 32]).public()).collect();
        keys.sort();
        Self {
            machines: vec![Machine::default(); count],
            network: Network::default(),
            dials: BTreeSet::new(),
            now: Time(1_000_000),
            faults,
            dice: 1,
            settling: false,
            keys: keys.into(),
            fanout,
        }
    }

    /// How `at` is dialled.
    #[must_use]
    pub fn contact(&self, at: Index) -> Contact {
        Contact::new(self.keys[at], format!("n{at}:1"))
    }

    /// The machine with this key.
    #[must_use]
    pub fn position(&self, id: NodeId) -> Option<Index> {
        self.keys.iter().position(|key| *key == id)
    }

    /// Starts the program of `at`.
    pub fn start(&mut self, at: Index, seeds: &[Index]) {
        let config = Config {
            fanout: self.fanout,
            address: Some(format!("n{at}:1").into()),
            ..Config::default()
        };
        self.machines[at].node = Some(Node::new(self.keys[at], config, 1));
        let seeds = seeds.iter().map(|seed| self.contact(*seed)).collect();
        let remembered = self.machines[at].remembered.clone();
        let (live, heads) = (Vec::new(), BTreeMap::new());
        self.input(at, Input::Start { seeds, remembered, live, heads });
    }

    /// Gives a node one input and does what it asks for. Objects are left out: nothing is offered or compared.
    pub fn input(&mut self, at: Index, input: Input) {
        let now = self.now;
        let Some(node) = &mut self.machines[at].node else { return };
        let outputs = node.handle(now, input);
        self.dice += u64::from(self.settling);
        node.reseed(self.dice);
        self.machines[at].member |= matches!(node.state(), State::Attached { .. } | State::Root);
        for output in outputs {
            self.perform(at, output);
        }
    }

    fn perform(&mut self, at: Index, output: Output) {
        match output {
            Output::Dial(contact) => {
                if let Some(to) = self.position(contact.id) {
                    self.dials.insert((at, to));
                }
            }
            Output::Send(_, Message::Summary(_)) => {}
            Output::Send(peer, message) => {
                if let Some(to) = self.position(peer) {
                    self.network.send(at, to, message);
                }
            }
            Output::Close(peer) => {
                if let Some(to) = self.position(peer) {
                    self.dials.remove(&(at, to));
                    self.network.close(at, to);
                }
            }
            Output::SetTimer(timer, after) => {
                self.machines[at].timers.insert(timer, self.now + after);
            }
            Output::CancelTimer(timer) => {
                self.machines[at].timers.remove(&timer);
            }
            Output::Remember(contacts) => self.machines[at].remembered = contacts,
            _ => {}
        }
    }

    fn runs(&self, at: Index) -> bool {
        self.machines[at].node.is_some()
    }

    fn apart(&self, a: Index, b: Index) -> bool {
        self.machines[a].isolated || self.machines[b].isolated
    }

    /// Everything that can happen next.
    pub fn steps(&self, steps: &mut Vec<Step>) {
        for (from, to) in self.network.busy() {
            let wire = self.network.between(from, to);
            let packet = wire.and_then(|wire| wire.queue[usize::from(to > from)].front());
            if let Some(packet) = packet {
                steps.push(Step::Deliver(from, to, packet.name()));
            }
        }
        steps.extend(self.dials.iter().map(|(from, to)| Step::Dial(*from, *to)));
        for (at, machine) in self.machines.iter().enumerate().filter(|(at, _)| self.runs(*at)) {
            let full =
                self.network.of(at).iter().any(|to| self.network.waiting(at, *to) >= QUEUE_MAX);
            steps.extend(
                machine.timers.keys().filter(|_| !full).map(|timer| Step::Fire(at, *timer)),
            );
            if machine.isolated {
                steps.push(Step::Rejoin(at));
            }
        }
        if self.faults > 0 {
            for at in 0..self.machines.len() {
                steps.push(if self.runs(at) { Step::Kill(at) } else { Step::Restart(at) });
                if !self.machines[at].isolated {
                    steps.push(Step::Isolate(at));
                }
            }
            steps.extend(self.network.pairs().map(|(a, b)| Step::Reset(a, b)));
            steps.push(Step::Pause);
        }
    }

    /// Does one step.
    pub fn take(&mut self, step: Step) {
        match step {
            Step::Deliver(from, to, _) => self.deliver(from, to),
            Step::Dial(from, to) => self.dial(from, to),
            Step::Fire(at, timer) => {
                self.machines[at].timers.remove(&timer);
                self.input(at, Input::TimerFired(timer));
            }
            Step::Kill(at) => {
                self.faults -= 1;
                let Machine { remembered, member, .. } = std::mem::take(&mut self.machines[at]);
                self.machines[at] = Machine { remembered, member, ..Machine::default() };
                self.dials.retain(|(from, _)| *from != at);
                self.network.died(at);
            }
            Step::Restart(at) => {
                self.faults -= 1;
                self.start(at, &[]);
            }
            Step::Reset(a, b) => {
                self.faults -= 1;
                self.network.reset(a, b);
            }
            Step::Isolate(at) => {
                self.faults -= 1;
                self.machines[at].isolated = true;
                for other in self.network.of(at) {
                    self.network.reset(at, other);
                }
            }
            Step::Rejoin(at) => self.machines[at].isolated = false,
            Step::Pause => {
                self.faults -= 1;
                self.now = self.now + PAUSE;
            }
        }
    }

    fn deliver(&mut self, from: Index, to: Index) {
        let Some(packet) = self.network.take(from, to) else { return };
        let peer = self.keys[from];
        match packet {
            Packet::Up => {
                let address = Some(format!("n{from}:1").into());
                self.input(to, Input::LinkUp { peer, dialled: true, address });
            }
            Packet::Says(message) => self.input(to, Input::Received(peer, message)),
            Packet::Down => self.input(to, Input::LinkDown(peer)),
        }
    }

    /// A dial arrives. The rule for two links between two nodes is the one that `Input` states for the shell.
    fn dial(&mut self, from: Index, to: Index) {
        self.dials.remove(&(from, to));
        let kept = self.network.holds(to, from)
            && to < from
            && self.network.between(from, to).is_some_and(|wire| wire.dialler == to);
        if !self.runs(to) || self.apart(from, to) || kept {
            return self.input(from, Input::DialFailed(self.keys[to]));
        }
        self.network.dial(from, to);
        let address = Some(format!("n{from}:1").into());
        self.input(to, Input::LinkUp { peer: self.keys[from], dialled: false, address });
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, machine) in self.machines.iter().enumerate() {
            match &machine.node {
                None => write!(f, "n{at} down; ")?,
                Some(node) => {
                    let name = |id: &NodeId| self.position(*id).unwrap_or(usize::MAX);
                    let children: Vec<Index> = node.children().iter().map(name).collect();
                    let path: Vec<Index> = node.path().iter().map(name).collect();
                    let word = match node.state() {
                        State::Idle => "idle".to_owned(),
                        State::Seeking { round } => format!("seeking({round})"),
                        State::Attached { .. } => "attached".to_owned(),
                        State::Root => "root".to_owned(),
                    };
                    write!(f, "n{at} {word} path {path:?} children {children:?}; ")?;
                }
            }
        }
        Ok(())
    }
}

impl Fleet {
    /// All that decides what can happen from here on.
    fn everything(&self) -> String {
        format!(
            "{:?} {:?} {:?} {:?} {}",
            self.machines, self.network, self.dials, self.now, self.faults
        )
    }
}

impl Hash for Fleet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.everything().hash(state);
    }
}

impl PartialEq for Fleet {
    fn eq(&self, other: &Self) -> bool {
        self.everything() == other.everything()
    }
}
