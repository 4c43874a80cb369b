//! What the compact network keeps for one machine: its ends of links, and its timers.

use borgios_types::NodeId;

use crate::sim::giant::Seat;

/// Kinds of timers.
const TIMERS: usize = 5;

/// One end of a link.
#[derive(Clone, Copy)]
pub(crate) struct End {
    /// Who is at the other end.
    pub(crate) id: NodeId,
    /// The same as a number.
    pub(crate) peer: Seat,
    /// Tells this link from earlier ones between the two.
    pub(crate) link: u32,
}

/// What the network keeps for one machine.
#[derive(Default)]
pub(crate) struct Desk {
    /// Links this machine holds open, in the order of the peers' ids: a node speaks to its children
    /// in that order, and they answer in it.
    pub(crate) ends: Vec<End>,
    /// Where the last end was found; the next one is often beside it.
    last: u32,
    /// When each running timer is due, in milliseconds; 0 for one that does not run.
    pub(crate) timers: [u32; TIMERS],
}

impl Desk {
    /// The end of the link for which this holds.
    fn find(&mut self, holds: impl Fn(&End) -> bool) -> Option<usize> {
        let count = self.ends.len();
        let start = (self.last as usize).min(count);
        let at = (start..count).chain(0..start).find(|at| holds(&self.ends[*at]))?;
        self.last = at as u32;
        Some(at)
    }

    /// The end of the link to this machine.
    pub(crate) fn end_at(&mut self, peer: Seat) -> Option<End> {
        self.find(|end| end.peer == peer).map(|at| self.ends[at])
    }

    /// The same, by its key.
    pub(crate) fn end_with(&mut self, id: &NodeId) -> Option<End> {
        self.find(|end| end.id == *id).map(|at| self.ends[at])
    }

    /// Opens a link, or replaces the one there is.
    pub(crate) fn open(&mut self, end: End) {
        if let Some(at) = self.find(|known| known.peer == end.peer) {
            self.ends[at] = end;
            return;
        }
        if self.ends.len() == self.ends.capacity() {
            self.ends.reserve_exact(1 + self.ends.len() / 4);
        }
        let at = self.ends.partition_point(|known| known.id < end.id);
        self.ends.insert(at, end);
    }
}

#[cfg(test)]
mod tests {
    use borgios_types::SecretKey;

    use super::*;

    fn end(n: u8, link: u32) -> End {
        End { id: SecretKey::from_seed([n; 32]).public(), peer: n.into(), link }
    }

    #[test]
    fn a_link_is_found_by_number_and_key_whatever_was_found_before() {
        let mut desk = Desk::default();
        (0..40).for_each(|n| desk.open(end(n * 3 % 40, u32::from(n))));
        assert!(desk.ends.is_sorted_by_key(|end| end.id));
        for n in (0..40).chain((0..40).rev()) {
            let link = desk.end_at(n.into()).map(|end| end.link);
            assert_eq!(link, desk.end_with(&end(n, 0).id).map(|end| end.link));
            assert_eq!(link.map(|link| link * 3 % 40), Some(u32::from(n)));
        }
        desk.open(end(5, 99));
        assert_eq!((desk.ends.len(), desk.end_at(5).map(|end| end.link)), (40, Some(99)));
        desk.ends.retain(|end| end.peer == 3);
        assert!(desk.end_at(3).is_some() && desk.end_at(4).is_none());
    }
}
