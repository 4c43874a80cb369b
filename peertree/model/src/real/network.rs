//! Links between the machines under check: two queues in order, and two ends that learn of its end each in their time.

use std::collections::{BTreeMap, VecDeque};

use borgios_peertree::Message;

/// A machine's number; smaller numbers have smaller keys.
pub type Index = usize;

/// What travels over a link.
#[derive(Clone, Debug)]
pub enum Packet {
    /// To the end that dialled: the link is up.
    Up,
    /// A message.
    Says(Message),
    /// The other end closed, or the connection broke.
    Down,
}

impl Packet {
    /// Its name, for traces.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Says(message) => message.name(),
            Self::Down => "down",
        }
    }
}

/// One link. Index 0 is the end of the machine with the smaller number.
#[derive(Clone, Debug)]
pub struct Wire {
    /// Who dialled.
    pub dialler: Index,
    /// Whether each end still holds it open.
    pub open: [bool; 2],
    /// What is on its way to each end.
    pub queue: [VecDeque<Packet>; 2],
}

/// All links, at most one between each two machines.
#[derive(Clone, Debug, Default)]
pub struct Network {
    wires: BTreeMap<(Index, Index), Wire>,
}

/// Which end of the link to `other` the machine `at` holds.
fn end(at: Index, other: Index) -> usize {
    usize::from(at > other)
}

impl Network {
    fn wire(&mut self, a: Index, b: Index) -> Option<&mut Wire> {
        self.wires.get_mut(&(a.min(b), a.max(b)))
    }

    /// The link between two machines.
    #[must_use]
    pub fn between(&self, a: Index, b: Index) -> Option<&Wire> {
        self.wires.get(&(a.min(b), a.max(b)))
    }

    /// Whether `at` holds its end of a link to `other` open.
    #[must_use]
    pub fn holds(&self, at: Index, other: Index) -> bool {
        self.between(at, other).is_some_and(|wire| wire.open[end(at, other)])
    }

    /// A link that `from` dialled, up at the end of `to`; it takes the place of any other.
    pub fn dial(&mut self, from: Index, to: Index) {
        let mut wire = Wire { dialler: from, open: [true; 2], queue: Default::default() };
        wire.open[end(from, to)] = false;
        wire.queue[end(from, to)].push_back(Packet::Up);
        self.wires.insert((from.min(to), from.max(to)), wire);
    }

    /// The end of `from` says something.
    pub fn send(&mut self, from: Index, to: Index, message: Message) {
        if self.holds(from, to)
            && let Some(wire) = self.wire(from, to)
        {
            wire.queue[end(to, from)].push_back(Packet::Says(message));
        }
    }

    /// The end of `from` closes: what it said before still arrives, then the other end hears of it.
    pub fn close(&mut self, from: Index, to: Index) {
        let Some(wire) = self.wire(from, to) else { return };
        let mine = end(from, to);
        let coming = wire.dialler == from && matches!(wire.queue[mine].front(), Some(Packet::Up));
        if !wire.open[mine] && !coming {
            return;
        }
        wire.open[mine] = false;
        wire.queue[mine].clear();
        if wire.open[1 - mine] {
            wire.queue[1 - mine].push_back(Packet::Down);
        } else {
            self.wires.remove(&(from.min(to), from.max(to)));
        }
    }

    /// The connection breaks: what is on its way is lost, and each end that holds it will hear of it.
    pub fn reset(&mut self, a: Index, b: Index) {
        let Some(wire) = self.wire(a, b) else { return };
        for mine in 0..2 {
            wire.queue[mine].clear();
            if wire.open[mine] || usize::from(wire.dialler == a.max(b)) == mine {
                // A dialler whose link never came up hears of a link that comes and goes.
                if !wire.open[mine] {
                    wire.queue[mine].push_back(Packet::Up);
                }
                wire.queue[mine].push_back(Packet::Down);
            }
        }
    }

    /// The next packet from `from` at the end of `to`, and whether that end still listens.
    pub fn take(&mut self, from: Index, to: Index) -> Option<Packet> {
        let wire = self.wire(from, to)?;
        let mine = end(to, from);
        let packet = wire.queue[mine].pop_front()?;
        match packet {
            Packet::Up => wire.open[mine] = true,
            Packet::Says(_) => {}
            Packet::Down => {
                wire.open[mine] = false;
                wire.queue[mine].clear();
                if !wire.open[1 - mine] {
                    self.wires.remove(&(from.min(to), from.max(to)));
                }
            }
        }
        Some(packet)
    }

    /// Directions in which something is on its way: from, to.
    pub fn busy(&self) -> impl Iterator<Item = (Index, Index)> + '_ {
        self.wires.iter().flat_map(|((low, high), wire)| {
            let up = (!wire.queue[1].is_empty()).then_some((*low, *high));
            let down = (!wire.queue[0].is_empty()).then_some((*high, *low));
            up.into_iter().chain(down)
        })
    }

    /// Packets on their way from one machine to another.
    #[must_use]
    pub fn waiting(&self, from: Index, to: Index) -> usize {
        self.between(from, to).map_or(0, |wire| wire.queue[end(to, from)].len())
    }

    /// Machines to which a link of `at` leads, whatever its state.
    #[must_use]
    pub fn of(&self, at: Index) -> Vec<Index> {
        self.wires
            .keys()
            .filter_map(|(a, b)| (*a == at).then_some(*b).or((*b == at).then_some(*a)))
            .collect()
    }

    /// The machine `at` is no more: its ends are gone, the others will hear of it.
    pub fn died(&mut self, at: Index) {
        for other in self.of(at) {
            let Some(wire) = self.wire(at, other) else { continue };
            let mine = end(at, other);
            wire.open[mine] = false;
            wire.queue[mine].clear();
            let theirs = &mut wire.queue[1 - mine];
            if wire.open[1 - mine] || !theirs.is_empty() {
                theirs.push_back(Packet::Down);
            } else {
                self.wires.remove(&(at.min(other), at.max(other)));
            }
        }
    }

    /// Pairs with a link.
    pub fn pairs(&self) -> impl Iterator<Item = (Index, Index)> + '_ {
        self.wires.keys().copied()
    }
}
