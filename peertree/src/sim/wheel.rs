//! A calendar queue: one bucket of events for each millisecond to come.
//!
//! Adding and taking an event cost the same however many wait, which a sorted tree of millions of
//! events does not offer (R. Brown, "Calendar queues", CACM 31(10), 1988). Events of one
//! millisecond come out in the order in which they were added.

use std::collections::BTreeMap;

use borgios_types::Time;

/// Milliseconds with a bucket of their own; a power of two. Longer than every pace of the tree but
/// the longest back-off.
const SPAN: u64 = 1 << 17;

/// Events in the order of their time.
pub(crate) struct Wheel<E> {
    buckets: Vec<Vec<E>>,
    /// Events beyond the last bucket.
    later: BTreeMap<u64, Vec<E>>,
    /// Every event before this millisecond was taken.
    now: u64,
    waiting: usize,
}

impl<E> Wheel<E> {
    pub(crate) fn new() -> Self {
        let buckets = std::iter::repeat_with(Vec::new).take(SPAN as usize).collect();
        Self { buckets, later: BTreeMap::new(), now: 0, waiting: 0 }
    }

    /// Events that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Bytes of heap of the empty buckets.
    pub(crate) fn own_bytes(&self) -> usize {
        self.buckets.capacity() * std::mem::size_of::<Vec<E>>()
    }

    /// Adds an event; one that is due in the past happens now.
    pub(crate) fn add(&mut self, due: Time, event: E) {
        let due = due.0.max(self.now);
        self.waiting += 1;
        if due - self.now < SPAN {
            self.buckets[(due % SPAN) as usize].push(event);
        } else {
            self.later.entry(due).or_default().push(event);
        }
    }

    /// Takes all events of the next millisecond that has any, up to and with `end`. What is added
    /// for that very millisecond afterwards comes with the next call.
    pub(crate) fn next(&mut self, end: Time) -> Option<(Time, Vec<E>)> {
        while self.now <= end.0 {
            while let Some(entry) = self.later.first_entry() {
                let due = *entry.key();
                if due - self.now >= SPAN {
                    break;
                }
                let mut events = entry.remove();
                // They were added before whatever else is in the bucket.
                let bucket = &mut self.buckets[(due % SPAN) as usize];
                events.append(bucket);
                *bucket = events;
            }
            let bucket = &mut self.buckets[(self.now % SPAN) as usize];
            if !bucket.is_empty() {
                let events = std::mem::take(bucket);
                self.waiting -= events.len();
                return Some((Time(self.now), events));
            }
            if self.now == end.0 {
                return None;
            }
            self.now += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_the_order_of_time_and_of_adding() {
        let mut wheel = Wheel::new();
        let dues = [5, 3, 5, SPAN + 7, 3, 3 * SPAN, 0, SPAN + 7];
        for (number, due) in dues.iter().enumerate() {
            wheel.add(Time(*due), number);
        }
        assert_eq!(wheel.waiting(), dues.len());
        let mut seen = Vec::new();
        while let Some((at, events)) = wheel.next(Time(4 * SPAN)) {
            seen.extend(events.into_iter().map(|number| (at.0, number)));
        }
        let mut expected: Vec<(u64, usize)> =
            dues.iter().enumerate().map(|(number, due)| (*due, number)).collect();
        expected.sort_unstable();
        assert_eq!(seen, expected);
        assert_eq!(wheel.waiting(), 0);
    }

    #[test]
    fn what_is_added_for_this_very_moment_still_happens_in_it() {
        let mut wheel = Wheel::new();
        wheel.add(Time(4), 1);
        assert_eq!(wheel.next(Time(9)), Some((Time(4), vec![1])));
        wheel.add(Time(4), 2);
        wheel.add(Time(1), 3);
        assert_eq!(wheel.next(Time(9)), Some((Time(4), vec![2, 3])));
        assert_eq!(wheel.next(Time(9)), None);
    }
}
