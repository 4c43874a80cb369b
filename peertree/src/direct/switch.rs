//! One node's part in carrying directed messages; drawn in [`super`].

use std::collections::{BTreeMap, BTreeSet};

use borgios_types::{NodeId, Time};

use super::bounds::{
    BODY_MAX, DIRECT_BURST, DIRECT_PACE, HOPS_MAX, RECEIPT, RECEIPT_HOP, WAITING_MAX,
};
use super::message::{Direct, Returned, Undelivered};
use super::routes::Routes;
use crate::question::pace::Pace;

/// What can happen.
#[derive(Clone, Debug)]
pub enum Input {
    /// This node's place in the tree, at the start and whenever it changes.
    Place {
        /// The parent.
        up: Option<NodeId>,
        /// The children.
        down: Vec<NodeId>,
    },
    /// A node was found behind a child.
    Learned {
        /// Which node.
        node: NodeId,
        /// Behind which child.
        via: NodeId,
    },
    /// A service of this node sends a message; answered with [`Output::Done`].
    Send {
        /// Chosen by the shell, which knows the answer by it.
        key: u64,
        /// To whom.
        to: NodeId,
        /// What.
        body: String,
    },
    /// A message from a neighbour.
    Arrived(NodeId, Direct),
    /// What became of a message that this node passed on.
    Returned(NodeId, Returned),
    /// Whether a service of this node took what [`Output::Deliver`] brought.
    Taken {
        /// As in the output.
        ticket: u64,
        /// Nobody did: no service, or its queue is full.
        refused: Option<Undelivered>,
    },
    /// The time that [`Switch::due`] named has come.
    Tick,
}

/// What must be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a message on.
    Forward(NodeId, Direct),
    /// Tell a neighbour what became of its message.
    Return(NodeId, Returned),
    /// This node is meant: give it to the service, and come back with [`Input::Taken`].
    Deliver {
        /// Tells deliveries apart.
        ticket: u64,
        /// What.
        body: String,
    },
    /// What became of a message that a service of this node sent: the links it crossed, or why not.
    Done {
        /// As in [`Input::Send`].
        key: u64,
        /// The answer.
        result: Result<u8, Undelivered>,
    },
}

/// Who sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    Service { key: u64 },
    Neighbour { peer: NodeId, id: u64 },
}

/// A message that waits for its receipt.
#[derive(Debug)]
struct Waiting {
    sender: Sender,
    to: NodeId,
    /// Where it went; `None`: to a service of this node.
    via: Option<NodeId>,
    ends: Time,
}

/// One node's part in carrying messages.
#[derive(Debug)]
pub struct Switch {
    me: NodeId,
    up: Option<NodeId>,
    down: BTreeSet<NodeId>,
    routes: Routes,
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
    paces: BTreeMap<NodeId, Pace>,
    out: Vec<Output>,
}

impl Switch {
    /// A node without neighbours.
    #[must_use]
    pub fn new(me: NodeId) -> Self {
        Self {
            me,
            up: None,
            down: BTreeSet::new(),
            routes: Routes::default(),
            waiting: BTreeMap::new(),
            next: 1,
            paces: BTreeMap::new(),
            out: Vec::new(),
        }
    }

    /// Applies one input and returns what must be done, in order. Never fails.
    pub fn handle(&mut self, now: Time, input: Input) -> Vec<Output> {
        match input {
            Input::Place { up, down } => self.on_place(up, down),
            Input::Learned { node, via } => {
                if self.down.contains(&via) && node != self.me {
                    self.routes.learn(now, node, via);
                }
            }
            Input::Send { key, to, body } => {
                self.pass(now, Sender::Service { key }, to, HOPS_MAX, body);
            }
            Input::Arrived(from, direct) => self.on_arrived(now, from, direct),
            Input::Returned(from, returned) => self.on_returned(from, returned),
            Input::Taken { ticket, refused } => self.on_taken(ticket, refused),
            Input::Tick => {
                let over = self.waiting.iter().filter(|(_, waiting)| waiting.ends <= now);
                let over: Vec<u64> = over.map(|(number, _)| *number).collect();
                over.into_iter().for_each(|number| self.lost(number));
            }
        }
        std::mem::take(&mut self.out)
    }

    /// When [`Input::Tick`] is due, if anything waits.
    #[must_use]
    pub fn due(&self) -> Option<Time> {
        self.waiting.values().map(|waiting| waiting.ends).min()
    }

    fn is_neighbour(&self, peer: &NodeId) -> bool {
        self.up.as_ref() == Some(peer) || self.down.contains(peer)
    }

    fn on_place(&mut self, up: Option<NodeId>, down: Vec<NodeId>) {
        (self.up, self.down) = (up, down.into_iter().collect());
        self.routes.keep(&self.down);
        let gone: BTreeSet<NodeId> =
            self.paces.keys().filter(|peer| !self.is_neighbour(peer)).copied().collect();
        self.paces.retain(|peer, _| !gone.contains(peer));
        let cut: Vec<u64> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.via.is_some_and(|via| !self.is_neighbour(&via)))
            .map(|(number, _)| *number)
            .collect();
        cut.into_iter().for_each(|number| self.lost(number));
    }

    fn on_arrived(&mut self, now: Time, from: NodeId, direct: Direct) {
        if !self.is_neighbour(&from) {
            return;
        }
        let Direct { id, to, hops_left, body } = direct;
        let sender = Sender::Neighbour { peer: from, id };
        let pace =
            self.paces.entry(from).or_insert_with(|| Pace::new(now, DIRECT_BURST, DIRECT_PACE));
        if pace.take(now) {
            self.pass(now, sender, to, hops_left, body);
        } else {
            self.answer(sender, 0, Some(Undelivered::Busy));
        }
    }

    /// Delivers a message or passes it on to one neighbour, never back to the one it came from.
    fn pass(&mut self, now: Time, sender: Sender, to: NodeId, hops_left: u8, body: String) {
        let from = match sender {
            Sender::Service { .. } => None,
            Sender::Neighbour { peer, .. } => Some(peer),
        };
        let same = |waiting: &&Waiting| match (waiting.sender, from) {
            (Sender::Service { .. }, None) => true,
            (Sender::Neighbour { peer, .. }, Some(from)) => peer == from,
            _ => false,
        };
        if body.len() > BODY_MAX {
            return self.answer(sender, 0, Some(Undelivered::TooLarge));
        }
        if self.waiting.values().filter(same).count() >= WAITING_MAX {
            return self.answer(sender, 0, Some(Undelivered::Busy));
        }
        let hops_left = hops_left.min(HOPS_MAX);
        let number = self.next;
        let ends = now + RECEIPT + RECEIPT_HOP * u32::from(hops_left);
        if to == self.me {
            self.next += 1;
            self.waiting.insert(number, Waiting { sender, to, via: None, ends });
            return self.out.push(Output::Deliver { ticket: number, body });
        }
        let child = self.down.contains(&to).then_some(to);
        let below = child.or_else(|| self.routes.via(now, &to)).filter(|via| Some(*via) != from);
        // What comes from above belongs below: up again it would go in circles.
        let above = self.up.filter(|up| Some(*up) != from);
        let Some(via) = below.or(above) else {
            return self.answer(sender, 0, Some(Undelivered::Unknown));
        };
        if hops_left == 0 {
            return self.answer(sender, 0, Some(Undelivered::Unreachable));
        }
        self.next += 1;
        self.waiting.insert(number, Waiting { sender, to, via: Some(via), ends });
        let direct = Direct { id: number, to, hops_left: hops_left - 1, body };
        self.out.push(Output::Forward(via, direct));
    }

    fn on_returned(&mut self, from: NodeId, returned: Returned) {
        let Returned { id, hops, error } = returned;
        if self.waiting.get(&id).is_none_or(|waiting| waiting.via != Some(from)) {
            return;
        }
        let Some(waiting) = self.waiting.remove(&id) else { return };
        if matches!(error, Some(Undelivered::Unknown | Undelivered::Unreachable)) {
            self.forget(&waiting);
        }
        self.answer(waiting.sender, hops.saturating_add(1), error);
    }

    fn on_taken(&mut self, ticket: u64, refused: Option<Undelivered>) {
        if self.waiting.get(&ticket).is_none_or(|waiting| waiting.via.is_some()) {
            return;
        }
        if let Some(waiting) = self.waiting.remove(&ticket) {
            self.answer(waiting.sender, 0, refused);
        }
    }

    /// No receipt will come any more.
    fn lost(&mut self, number: u64) {
        let Some(waiting) = self.waiting.remove(&number) else { return };
        self.forget(&waiting);
        let hops = u8::from(waiting.via.is_some());
        self.answer(waiting.sender, hops, Some(Undelivered::Unreachable));
    }

    /// A way that led nowhere is not tried again.
    fn forget(&mut self, waiting: &Waiting) {
        if waiting.via.is_some() && waiting.via != self.up {
            self.routes.forget(&waiting.to);
        }
    }

    fn answer(&mut self, sender: Sender, hops: u8, error: Option<Undelivered>) {
        self.out.push(match sender {
            Sender::Service { key } => Output::Done { key, result: error.map_or(Ok(hops), Err) },
            Sender::Neighbour { peer, id } => Output::Return(peer, Returned { id, hops, error }),
        });
    }

    /// Checks what always holds (see [`super`]).
    ///
    /// # Errors
    /// The first rule that is broken; that is a bug of this crate, whatever was received.
    pub fn check(&self) -> Result<(), String> {
        let rule = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        let mut by_sender: BTreeMap<Option<NodeId>, usize> = BTreeMap::new();
        for waiting in self.waiting.values() {
            let from = match waiting.sender {
                Sender::Service { .. } => None,
                Sender::Neighbour { peer, .. } => Some(peer),
            };
            *by_sender.entry(from).or_default() += 1;
        }
        rule(by_sender.values().all(|count| *count <= WAITING_MAX), "too many wait")?;
        rule(self.routes.len() <= super::bounds::ROUTES_MAX, "more ways than their bound")?;
        rule(self.paces.len() <= self.down.len() + 1, "paces of strangers")
    }
}
