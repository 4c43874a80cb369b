//! What is held against one neighbour in one kind of objects, and when it is enough.
//!
//! ```text
//!  gaps without an excuse, in different intervals:  2, of which this node saw one itself, or two told it
//!                                                   3, all of them one neighbour's hearsay
//!  gaps with one:                                   5, told by two that have nothing to do with each other
//! ```
//!
//! An excuse may be a lie, and so may what is told. Each gap has a teller (a neighbour, or the cross peer
//! itself) and an end: the cross peer that had the object. A member that hands objects over cross links
//! into several subtrees, before anybody else has them, makes honest nodes there tell of gaps for which
//! nobody is to blame; it is the end of all of them, and counts once.

use std::collections::BTreeSet;

use borgios_types::{NodeId, Time};

use crate::bounds;

/// What is held against a neighbour in one kind of objects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blame {
    last: Option<Time>,
    /// Intervals with a gap, less what was brought since.
    gaps: u32,
    /// Those without an excuse.
    unexcused: u32,
    /// One of them was seen over a cross link of this node's own.
    firsthand: bool,
    /// Who told, and which cross peer had the object; at most [`bounds::OTHERS_MAX`].
    sources: BTreeSet<(NodeId, NodeId)>,
}

impl Blame {
    /// Counts a gap that `teller` told of, and that the cross peer `end` had.
    pub(crate) fn count(
        &mut self,
        now: Time,
        teller: NodeId,
        end: NodeId,
        firsthand: bool,
        excused: bool,
    ) {
        let same_interval = self.last.is_some_and(|last| now.since(last) < bounds::COMPARE_MIN / 2);
        self.firsthand |= firsthand;
        if self.sources.len() < bounds::OTHERS_MAX {
            self.sources.insert((teller, end));
        }
        if !same_interval {
            self.last = Some(now);
            self.gaps += 1;
            self.unexcused += u32::from(!excused);
        }
    }

    /// What the neighbour brings on its own pays for a gap; whether nothing is left.
    pub(crate) fn pay(&mut self) -> bool {
        self.gaps = self.gaps.saturating_sub(1);
        self.unexcused = self.unexcused.min(self.gaps);
        self.gaps == 0
    }

    /// Whether it is enough to leave the neighbour.
    pub(crate) fn caught(&self) -> bool {
        let several = self.several();
        (self.unexcused >= bounds::GAPS_MAX && (self.firsthand || several))
            || self.unexcused >= bounds::GAPS_HEARSAY_MAX
            || (self.gaps >= bounds::GAPS_EXCUSED_MAX && several)
    }

    /// Whether two told that have nothing to do with each other.
    fn several(&self) -> bool {
        self.sources.iter().any(|(teller, end)| {
            let apart = |one: &NodeId| one != teller && one != end;
            self.sources.iter().any(|(other, its)| apart(other) && apart(its))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::key;

    /// Whether so many gaps, an interval apart, by these tellers and ends in turn, are enough.
    fn caught(gaps: usize, sources: &[(u8, u8)], firsthand: bool, excused: bool) -> bool {
        let mut blame = Blame::default();
        let mut now = Time::default();
        for (teller, end) in sources.iter().cycle().take(gaps) {
            now = now + bounds::COMPARE;
            blame.count(now, key(*teller), key(*end), firsthand, excused);
        }
        blame.caught()
    }

    #[test]
    fn excused_gaps_count_if_two_independent_ones_told() {
        let enough = bounds::GAPS_EXCUSED_MAX as usize;
        assert!(caught(enough, &[(1, 1), (2, 2)], true, true), "two cross peers");
        assert!(caught(enough, &[(1, 8), (2, 9)], false, true), "two children, two ends");
        assert!(!caught(enough - 1, &[(1, 8), (2, 9)], false, true));
        assert!(!caught(99, &[(1, 9), (2, 9)], false, true), "one end heard of twice");
        assert!(!caught(99, &[(1, 8), (1, 9)], false, true), "one child that names two");
        assert!(
            !caught(99, &[(1, 8), (2, 1)], false, true),
            "a liar that is child here, end there"
        );
    }

    #[test]
    fn gaps_without_an_excuse_need_less() {
        assert!(caught(2, &[(1, 1)], true, false));
        assert!(!caught(2, &[(1, 9)], false, false));
        assert!(caught(3, &[(1, 9)], false, false));
        assert!(!caught(2, &[(1, 9), (2, 9)], false, false));
    }

    #[test]
    fn what_is_brought_pays() {
        let mut blame = Blame::default();
        for turn in 1..50_u64 {
            blame.count(Time(turn * 10_000), key(1), key(1), true, false);
            assert!(!blame.caught(), "turn {turn}");
            assert!(blame.pay());
        }
    }
}
