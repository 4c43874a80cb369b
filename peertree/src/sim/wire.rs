//! Links between machines: delays, order, half-open ends, partitions.

use std::collections::BTreeMap;

use borgios_types::Time;

/// A machine's number.
pub type Index = usize;
/// A link's number; never used twice, so late events of an old link find nothing.
pub type LinkId = u64;

/// One link as the network sees it; either end may be gone without the other knowing.
#[derive(Debug)]
pub struct Wire {
    /// The end that dialled and the one that was dialled.
    pub ends: [Index; 2],
    /// Whether each end still holds it open.
    pub open: [bool; 2],
    /// When the last message towards each end arrives: later ones must not overtake it.
    pub last: [Time; 2],
    /// Was cut by a partition: nothing passes any more, and nobody is told.
    pub cut: bool,
}

impl Wire {
    /// A link just dialled; the far end is up, the dialler hears of it a moment later.
    #[must_use]
    pub fn new(dialler: Index, dialled: Index) -> Self {
        Self {
            ends: [dialler, dialled],
            open: [false, true],
            last: [Time::default(); 2],
            cut: false,
        }
    }

    /// Which end `machine` is.
    #[must_use]
    pub fn end_of(&self, machine: Index) -> usize {
        usize::from(self.ends[1] == machine)
    }
}

/// All links, and which of them counts between each two machines.
#[derive(Debug, Default)]
pub struct Network {
    wires: BTreeMap<LinkId, Wire>,
    between: BTreeMap<(Index, Index), LinkId>,
    next: LinkId,
    /// The side each machine is on; machines on different sides do not hear each other.
    sides: Vec<u8>,
}

impl Network {
    /// The link that counts between two machines.
    #[must_use]
    pub fn between(&self, a: Index, b: Index) -> Option<LinkId> {
        self.between.get(&(a.min(b), a.max(b))).copied()
    }

    /// A link that is still there.
    pub fn wire(&mut self, link: LinkId) -> Option<&mut Wire> {
        self.wires.get_mut(&link)
    }

    /// Adds a link in place of any other between the two.
    pub fn add(&mut self, dialler: Index, dialled: Index) -> LinkId {
        self.next += 1;
        let pair = (dialler.min(dialled), dialler.max(dialled));
        if let Some(old) = self.between.insert(pair, self.next) {
            self.wires.remove(&old);
        }
        self.wires.insert(self.next, Wire::new(dialler, dialled));
        self.next
    }

    /// Removes a link for good.
    pub fn remove(&mut self, link: LinkId) {
        if let Some(wire) = self.wires.remove(&link) {
            let [a, b] = wire.ends;
            self.between.remove(&(a.min(b), a.max(b)));
        }
    }

    /// Links of one machine.
    #[must_use]
    pub fn of(&self, machine: Index) -> Vec<LinkId> {
        let ends = |wire: &Wire| wire.ends.contains(&machine);
        self.wires.iter().filter(|(_, wire)| ends(wire)).map(|(id, _)| *id).collect()
    }

    /// All links that both ends hold open.
    #[must_use]
    pub fn whole(&self) -> Vec<LinkId> {
        let open = |wire: &Wire| wire.open == [true, true] && !wire.cut;
        self.wires.iter().filter(|(_, wire)| open(wire)).map(|(id, _)| *id).collect()
    }

    /// Whether two machines can hear each other.
    #[must_use]
    pub fn reaches(&self, a: Index, b: Index) -> bool {
        let side = |machine: Index| self.sides.get(machine).copied().unwrap_or(0);
        side(a) == side(b)
    }

    /// Splits the network; links across are cut without a word to anyone. An empty list heals it.
    pub fn split(&mut self, sides: Vec<u8>) {
        self.sides = sides;
        let side = |machine: Index| self.sides.get(machine).copied().unwrap_or(0);
        for wire in self.wires.values_mut() {
            wire.cut |= side(wire.ends[0]) != side(wire.ends[1]);
        }
    }
}
