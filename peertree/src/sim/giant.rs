//! A fleet of a million: the same core as everywhere, in a network with nothing to spare.
//!
//! What [`Fleet`](crate::sim::Fleet) has and this has not: disks, judging time, varied delays, a
//! digest of the trace, and checks after every step. What both share: the core, dials that may
//! fail, links that close, machines that die without a word. Every message takes one hop's time,
//! so those of one link arrive in the order they were sent.

use std::time::Duration;

use borgios_types::{Digest, NodeId, Time};

use crate::config::Config;
use crate::contact::{Address, Contact};
use crate::io::{Input, Output, Timer, Verdict};
use crate::message::{Body, Message};
use crate::node::Node;
use crate::sim::desk::{Desk, End};
use crate::sim::wheel::Wheel;

/// A machine's number.
pub(crate) type Seat = u32;

/// When a dial into nothing is given up by the shell, as in [`crate::sim::fleet`].
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Events whose memory is fetched together: as many as a processor waits for at a time, and few
/// enough for its first cache.
const TOGETHER: usize = 16;

/// What will happen. Millions of them wait, nearly all of them timers and signs of life: these
/// take 16 bytes, and every other message is behind a pointer.
enum Event {
    Boot { at: Seat },
    Timer { at: Seat, timer: Timer },
    Dial { from: Seat, to: Seat },
    DialFails { from: Seat, to: Seat },
    Up { from: Seat, to: Seat, link: u32 },
    Alive { from: Seat, to: Seat, link: u32 },
    Deliver(Box<Letter>),
    Down { to: Seat, from: Seat, link: u32 },
}

/// A message on its way.
struct Letter {
    from: Seat,
    to: Seat,
    link: u32,
    message: Message,
}

/// What happened so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) events: u64,
    pub(crate) dials: u64,
    /// Questions for a place.
    pub(crate) joins: u64,
    /// Messages that carried the object published last.
    pub(crate) carried: u64,
    /// Shells that were offered it.
    pub(crate) received: u64,
    /// When the last of them was.
    pub(crate) last: Time,
}

/// A fleet of a million.
pub(crate) struct Giant {
    pub(crate) now: Time,
    pub(crate) nodes: Vec<Option<Node>>,
    pub(crate) counts: Counts,
    desks: Vec<Desk>,
    ids: Vec<NodeId>,
    addresses: Vec<Address>,
    /// Open addressing by the first bytes of an id, which are as good as random.
    table: Vec<Seat>,
    wheel: Wheel<Event>,
    next_link: u32,
    /// The first machines, whom invitations name.
    first: Seat,
    hop: Duration,
    /// The objects published so far, for whoever catches up.
    objects: Vec<(Digest, String, Body)>,
    work: Vec<(Seat, Input)>,
    /// What a node asks for; kept so that it is not allocated for each input.
    outputs: Vec<Output>,
}

impl Giant {
    /// A fleet without machines; every message takes `hop`. Invitations name the `first` machines.
    pub(crate) fn new(most: usize, first: Seat, hop: Duration) -> Self {
        Self {
            now: Time::default(),
            nodes: Vec::with_capacity(most),
            counts: Counts::default(),
            desks: Vec::with_capacity(most),
            ids: Vec::with_capacity(most),
            addresses: Vec::with_capacity(most),
            table: vec![Seat::MAX; (most * 2).next_power_of_two()],
            wheel: Wheel::new(),
            next_link: 0,
            first,
            hop,
            objects: Vec::new(),
            work: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// Adds a machine that will start at `due`.
    pub(crate) fn add(&mut self, seed: u64, due: Time) -> Seat {
        let at = self.ids.len() as Seat;
        // Nobody signs here: any point of the curve is a name, and half of all texts are one.
        let mut ids = (0_u32..).map(|attempt| {
            let parts = [&seed.to_le_bytes()[..], &at.to_le_bytes(), &attempt.to_le_bytes()];
            NodeId::from_bytes(Digest::of_parts(&parts).0)
        });
        let id = ids.find_map(Result::ok).expect("one attempt in two gives a key");
        self.ids.push(id);
        self.addresses.push(format!("n{at}:7117").into());
        self.nodes.push(None);
        self.desks.push(Desk::default());
        let mut slot = self.slot(&id);
        while self.table[slot] != Seat::MAX {
            slot = (slot + 1) & (self.table.len() - 1);
        }
        self.table[slot] = at;
        self.wheel.add(due, Event::Boot { at });
        at
    }

    fn slot(&self, id: &NodeId) -> usize {
        let bytes = id.to_bytes();
        let first = bytes[..8].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        first as usize & (self.table.len() - 1)
    }

    fn seat(&self, id: &NodeId) -> Option<Seat> {
        let mut slot = self.slot(id);
        loop {
            let at = self.table[slot];
            if at == Seat::MAX {
                return None;
            }
            if self.ids[at as usize] == *id {
                return Some(at);
            }
            slot = (slot + 1) & (self.table.len() - 1);
        }
    }

    /// The node with this key, if it runs.
    pub(crate) fn node(&self, id: &NodeId) -> Option<&Node> {
        self.nodes[self.seat(id)? as usize].as_ref()
    }

    fn contact(&self, at: Seat) -> Contact {
        Contact::new(self.ids[at as usize], self.addresses[at as usize].clone())
    }

    /// Events that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.wheel.waiting()
    }

    /// Bytes of heap that the simulator keeps for itself, without messages under way.
    pub(crate) fn own_bytes(&self) -> u64 {
        use std::mem::size_of;
        let ends: usize = self.desks.iter().map(|desk| desk.ends.capacity()).sum();
        // An address is shared text behind two counters.
        let texts: usize = self.addresses.iter().map(|address| address.len() + 16).sum();
        let bytes = self.desks.capacity() * size_of::<Desk>()
            + ends * size_of::<End>()
            + self.ids.capacity() * size_of::<NodeId>()
            + self.addresses.capacity() * size_of::<Address>()
            + texts
            + self.table.capacity() * size_of::<Seat>()
            + self.wheel.own_bytes();
        bytes as u64
    }

    /// Lets time pass until `end`.
    pub(crate) fn run(&mut self, end: Time, config: &Config, seed: u64) {
        while let Some((at, events)) = self.wheel.next(end) {
            self.now = at;
            let mut events = events.into_iter();
            while !events.as_slice().is_empty() {
                let count = events.len().min(TOGETHER);
                self.warm(&events.as_slice()[..count]);
                for event in events.by_ref().take(count) {
                    self.counts.events += 1;
                    match event {
                        Event::Boot { at } => self.boot(at, config, seed),
                        event => self.happen(event),
                    }
                }
            }
        }
        self.now = end;
    }

    /// Reads what these events will need, changing nothing. An event is far shorter than the dozen
    /// misses of the cache it begins with: a million nodes are met in no order. Met one by one these
    /// misses were most of a run; side by side they cost little more than one.
    fn warm(&self, events: &[Event]) {
        let mut seats = [0; TOGETHER];
        for (seat, event) in seats.iter_mut().zip(events) {
            *seat = match event {
                Event::Boot { at } | Event::Timer { at, .. } => *at,
                Event::Dial { to, .. } | Event::Alive { to, .. } | Event::Down { to, .. } => *to,
                Event::Up { from, .. } | Event::DialFails { from, .. } => *from,
                Event::Deliver(letter) => letter.to,
            };
        }
        let (mut sum, seats) = (0, &seats[..events.len()]);
        for seat in seats {
            let desk = &self.desks[*seat as usize];
            sum ^=
                desk.timers.iter().fold(desk.ends.len() as u64, |sum, due| sum ^ u64::from(*due));
            sum ^= self.nodes[*seat as usize].as_ref().map_or(0, Node::warm);
        }
        for seat in seats {
            let desk = &self.desks[*seat as usize];
            sum ^= desk.ends.iter().take(4).fold(0, |sum, end| sum ^ u64::from(end.link));
            sum ^= self.nodes[*seat as usize].as_ref().map_or(0, Node::warm_links);
        }
        std::hint::black_box(sum);
    }

    fn boot(&mut self, at: Seat, config: &Config, seed: u64) {
        let address = Some(self.addresses[at as usize].clone());
        let config = Config { address, ..config.clone() };
        let rng_seed = seed ^ (u64::from(at) << 20);
        self.nodes[at as usize] = Some(Node::new(self.ids[at as usize], config, rng_seed));
        let seeds = self.seeds(at).into_iter().map(|seed| self.contact(seed)).collect();
        let start =
            Input::Start { seeds, remembered: Vec::new(), live: Vec::new(), heads: [].into() };
        self.step(at, start);
    }

    /// The members that an invitation names: the root to the first ones, some of these to all others.
    fn seeds(&self, at: Seat) -> Vec<Seat> {
        match at {
            0 => Vec::new(),
            _ if at < self.first => vec![0],
            _ => (0..3)
                // A multiplicative hash (Knuth's constant) spreads the joiners evenly.
                .map(|turn| (at + turn).wrapping_mul(2_654_435_761) % self.first)
                .collect(),
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Boot { .. } => {}
            Event::Timer { at, timer } => {
                let due = &mut self.desks[at as usize].timers[timer as usize];
                if u64::from(*due) == self.now.0 {
                    *due = 0;
                    self.step(at, Input::TimerFired(timer));
                }
            }
            Event::Dial { from, to } => self.on_dial(from, to),
            Event::DialFails { from, to } => {
                self.step(from, Input::DialFailed(self.ids[to as usize]));
            }
            Event::Up { from, to, link } => {
                let open = self.end(to, from).is_some_and(|end| end.link == link);
                if open && self.nodes[from as usize].is_some() {
                    self.open(from, to, link);
                    self.link_up(from, to, true);
                }
            }
            Event::Alive { from, to, link } => self.deliver(from, to, link, Message::Alive),
            Event::Deliver(letter) => {
                let Letter { from, to, link, message } = *letter;
                self.deliver(from, to, link, message);
            }
            Event::Down { to, from, link } => {
                if self.end(to, from).is_some_and(|end| end.link == link) {
                    self.desks[to as usize].ends.retain(|end| end.peer != from);
                    self.step(to, Input::LinkDown(self.ids[from as usize]));
                }
            }
        }
    }

    fn deliver(&mut self, from: Seat, to: Seat, link: u32, message: Message) {
        if let Some(end) = self.end(to, from).filter(|end| end.link == link) {
            self.step(to, Input::Received(end.id, message));
        }
    }

    fn on_dial(&mut self, from: Seat, to: Seat) {
        if self.nodes[to as usize].is_none() {
            // The machine is off: nothing refuses the dial.
            return self.wheel.add(self.now + DIAL_TIMEOUT, Event::DialFails { from, to });
        }
        // The rule for two links between two nodes, as `Input` states it for the shell.
        let kept = self.end(to, from).is_some() && self.ids[to as usize] < self.ids[from as usize];
        if kept {
            return self.wheel.add(self.now + self.hop, Event::DialFails { from, to });
        }
        self.next_link += 1;
        let link = self.next_link;
        self.open(to, from, link);
        self.wheel.add(self.now + self.hop, Event::Up { from, to, link });
        self.link_up(to, from, false);
    }

    fn end(&mut self, at: Seat, peer: Seat) -> Option<End> {
        self.desks[at as usize].end_at(peer)
    }

    fn open(&mut self, at: Seat, peer: Seat, link: u32) {
        let id = self.ids[peer as usize];
        self.desks[at as usize].open(End { id, peer, link });
    }

    fn link_up(&mut self, at: Seat, other: Seat, dialled: bool) {
        let address = Some(self.addresses[other as usize].clone());
        let peer = self.ids[other as usize];
        self.step(at, Input::LinkUp { peer, dialled, address });
    }

    /// Gives a node one input, and what its shell answers at once; does what it asks for.
    fn step(&mut self, at: Seat, input: Input) {
        let mut outputs = std::mem::take(&mut self.outputs);
        let mut next = Some((at, input));
        while let Some((at, input)) = next {
            if let Some(node) = &mut self.nodes[at as usize] {
                node.handle_into(self.now, input, &mut outputs);
            }
            for output in outputs.drain(..) {
                self.perform(at, output);
            }
            next = self.work.pop();
        }
        self.outputs = outputs;
    }

    fn perform(&mut self, at: Seat, output: Output) {
        match output {
            Output::Dial(contact) => {
                if let Some(to) = self.seat(&contact.id) {
                    self.counts.dials += 1;
                    self.wheel.add(self.now + self.hop, Event::Dial { from: at, to });
                }
            }
            Output::Send(peer, message) => self.send(at, &peer, message),
            Output::Close(peer) => {
                let desk = &mut self.desks[at as usize];
                if let Some(End { peer: to, link, .. }) = desk.end_with(&peer) {
                    desk.ends.retain(|end| end.peer != to);
                    self.wheel.add(self.now + self.hop, Event::Down { to, from: at, link });
                }
            }
            Output::SetTimer(timer, after) => {
                let due = self.now + after.max(Duration::from_millis(1));
                self.desks[at as usize].timers[timer as usize] = due.0 as u32;
                self.wheel.add(due, Event::Timer { at, timer });
            }
            Output::CancelTimer(timer) => self.desks[at as usize].timers[timer as usize] = 0,
            Output::Offer { from, id, .. } => {
                // Signatures are stubbed: a shell admits what it is offered, and at once.
                if self.objects.last().is_some_and(|object| object.0 == id) {
                    self.counts.received += 1;
                    self.counts.last = self.now;
                }
                self.work.push((at, Input::Judged { id, from, verdict: Verdict::Admitted }));
            }
            Output::Provide { to, ids } => {
                for id in ids {
                    let object = self.objects.iter().find(|object| object.0 == id).cloned();
                    if let Some((id, kind, body)) = object {
                        self.send(at, &to, Message::Object { id, kind, body });
                    }
                }
            }
            Output::ProvideLane { .. }
            | Output::Changed(_)
            | Output::Remember(_)
            | Output::Withheld(_) => {}
        }
    }

    fn send(&mut self, at: Seat, peer: &NodeId, message: Message) {
        if let Message::Object { id, .. } = &message {
            let last = self.objects.last().is_some_and(|object| object.0 == *id);
            self.counts.carried += u64::from(last);
        } else if let Message::Join(_) = &message {
            self.counts.joins += 1;
        }
        let Some(End { peer: to, link, .. }) = self.desks[at as usize].end_with(peer) else {
            return;
        };
        let event = match message {
            Message::Alive => Event::Alive { from: at, to, link },
            message => Event::Deliver(Box::new(Letter { from: at, to, link, message })),
        };
        self.wheel.add(self.now + self.hop, event);
    }

    /// Broadcasts a new object from this machine.
    ///
    /// # Errors
    /// A text that is no JSON.
    pub(crate) fn publish(&mut self, at: Seat, text: &str) -> Result<(), serde_json::Error> {
        let (id, kind, body) =
            (Digest::of(text.as_bytes()), "note".to_owned(), Body::from_text(text)?);
        (self.counts.carried, self.counts.received) = (0, 0);
        self.objects.push((id, kind.clone(), body.clone()));
        self.step(at, Input::Publish { id, kind, body });
        Ok(())
    }

    /// Ends a program in good order.
    pub(crate) fn stop(&mut self, at: Seat) {
        self.step(at, Input::Stop);
        self.kill(at);
    }

    /// The power of a machine fails: nobody is told.
    pub(crate) fn kill(&mut self, at: Seat) {
        self.nodes[at as usize] = None;
        self.desks[at as usize] = Desk::default();
    }
}
