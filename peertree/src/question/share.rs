//! One answer's lists, put together from those of several neighbours: each gets its share of the room.
//!
//! ```text
//!  a: x y z …  ─┐                  everything fits: summed, as if one had merged it
//!  b: p q      ─┼─▶ all of them ─┤
//!  own: p      ─┘                  too much: in turns, one of a, one of b, one of own, …
//! ```
//!
//! Where all of them speak of more nodes than there can be, the answers that speak of most are brought down:
//! an honest one speaks of no more than there are, so a liar gives way before it.
//!
//! What [`Tally::merge`] keeps of two lists that are too long depends on names and weights alone, which
//! a liar chooses. Here a neighbour that names 32 things of its own leaves the others what they named, up
//! to an equal share of the list. Only where nothing had to be cut is each count whole.

use std::collections::{BTreeMap, BTreeSet};

use super::bounds::{EXCEPTIONS_MAX, LABELS_MAX, MEASURES_MAX, PLACES_MAX, ROLL_MAX};
use super::places::{Place, Places};
use super::roll::Roll;
use super::tally::Tally;

/// What the answers to one question speak of, one by one; of the silent nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shares {
    parts: Vec<Tally>,
    /// Those who answered were too many to list, for good; no part has a roll then.
    unlisted: bool,
}

/// The places that the answers to one question name, one answer's by one; at most [`PLACES_MAX`] in all.
#[derive(Clone, Debug, Default)]
pub(crate) struct PlaceShares {
    parts: Vec<Vec<Place>>,
    cut: bool,
}

impl PlaceShares {
    /// Takes the places out of one neighbour's answer, or this node's own. Whoever names most gives way.
    pub(crate) fn take(&mut self, places: &mut Places) {
        let nodes = std::mem::take(&mut places.nodes);
        if nodes.is_empty() {
            return;
        }
        self.parts.push(nodes);
        let all: usize = self.parts.iter().map(Vec::len).sum();
        for _ in PLACES_MAX..all {
            self.cut = true;
            if let Some(longest) = self.parts.iter_mut().max_by_key(|part| part.len()) {
                longest.pop();
            }
        }
    }

    /// Puts them together, one of each answer in turn, as far as they fit a line.
    pub(crate) fn put(self, places: &mut Places) {
        let Self { parts, cut } = self;
        let mut parts: Vec<_> = parts.into_iter().map(Vec::into_iter).collect();
        while !parts.is_empty() {
            parts.retain_mut(|part| {
                let next = part.next();
                let more = next.is_some();
                places.nodes.extend(next);
                more
            });
        }
        places.partial |= cut;
        places.bound();
    }
}

impl Shares {
    /// Takes all but the silent out of one neighbour's answer, or this node's own. Together they are kept to
    /// `most` answers.
    pub(crate) fn take(&mut self, tally: &mut Tally, most: u64) {
        let silent = Tally {
            silent: std::mem::take(&mut tally.silent),
            silent_nodes: std::mem::take(&mut tally.silent_nodes),
            ..Tally::default()
        };
        let mut part = std::mem::replace(tally, silent);
        if part == Tally::default() {
            return;
        }
        self.unlisted |= part.roll.tags().is_none();
        if self.unlisted {
            part.roll = Roll::default();
        }
        self.parts.push(part);
        let level = level(self.parts.iter().map(|part| part.answered).collect(), most);
        self.parts.iter_mut().for_each(|part| part.trim(level));
        self.bound_rolls(most);
    }

    /// No more tags in all than one roll lists. Where two list the same one, it stays with whoever speaks of
    /// fewer, who gives way last. Too many for a list they are only where there can be as many members, half
    /// of the `most` answers; else somebody invents tags, and whoever speaks of most is listed in part.
    fn bound_rolls(&mut self, most: u64) {
        let listed = |roll: &Roll| roll.tags().map_or(0, BTreeSet::len);
        if self.parts.iter().map(|part| listed(&part.roll)).sum::<usize>() <= ROLL_MAX {
            return;
        }
        let is_listable = most / 2 <= ROLL_MAX as u64;
        self.parts.sort_by_key(|part| part.answered);
        let mut all = Roll::default();
        for part in &mut self.parts {
            part.roll.remove(&all);
            if is_listable {
                part.roll.thin(ROLL_MAX.saturating_sub(listed(&all)) as u64);
            }
            all.merge(part.roll.clone());
        }
        if all.tags().is_none() {
            self.unlisted = true;
            self.parts.iter_mut().for_each(|part| part.roll = Roll::default());
        }
    }

    /// Puts them into the tally from which they were taken.
    pub(crate) fn put(self, tally: &mut Tally) {
        let parts = || self.parts.iter();
        let labels = chosen(parts().map(|part| part.labels.keys().collect()), LABELS_MAX);
        let exceptions = parts().map(|part| part.exceptions.iter().collect());
        let exceptions = chosen(exceptions, EXCEPTIONS_MAX);
        let measures = self.measures();
        for part in self.parts {
            // The lists are as long as may be, so nothing that is merged here cuts them.
            let mut other = part.other;
            let mut kept = BTreeMap::new();
            for (label, count) in part.labels {
                if labels.contains(&label) {
                    kept.insert(label, count);
                } else {
                    other = other.saturating_add(count);
                }
            }
            tally.merge(Tally {
                answered: part.answered,
                exceptional: part.exceptional,
                roll: part.roll,
                measures: part.measures.into_iter().filter(|it| measures.contains(&it.0)).collect(),
                labels: kept,
                other,
                exceptions: part
                    .exceptions
                    .into_iter()
                    .filter(|it| exceptions.contains(it))
                    .collect(),
                ..Tally::default()
            });
        }
        if self.unlisted && tally.answered > ROLL_MAX as u64 {
            tally.roll = Roll::too_many();
        }
    }

    /// The measures that most name: honest answers to one question name the same ones.
    fn measures(&self) -> BTreeSet<String> {
        let mut named: BTreeMap<&String, usize> = BTreeMap::new();
        for name in self.parts.iter().flat_map(|part| part.measures.keys()) {
            *named.entry(name).or_default() += 1;
        }
        let mut names: Vec<(&String, usize)> = named.into_iter().collect();
        names.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        names.into_iter().take(MEASURES_MAX).map(|(name, _)| name.clone()).collect()
    }
}

/// The most that one answer may speak of where all of them together may speak of `most`.
fn level(mut counts: Vec<u64>, most: u64) -> u64 {
    counts.sort_unstable();
    let (mut left, mut others) = (most, counts.len() as u64);
    for count in counts {
        let share = left / others.max(1);
        if count > share {
            return share.max(1);
        }
        (left, others) = (left - count, others - 1);
    }
    u64::MAX
}

/// Of lists of things the first ones of each, in turns, until there are `most` or no more.
fn chosen<'a, T: Clone + Ord + 'a>(
    lists: impl Iterator<Item = Vec<&'a T>>,
    most: usize,
) -> BTreeSet<T> {
    let mut lists: Vec<_> = lists.map(Vec::into_iter).collect();
    let mut all = BTreeSet::new();
    while !lists.is_empty() {
        lists.retain_mut(|list| {
            // What another one named already takes nobody's turn.
            let next = list.find(|item| !all.contains(*item)).filter(|_| all.len() < most);
            next.is_some_and(|item| all.insert(item.clone()))
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use borgios_types::SecretKey;

    use super::super::tally::{Exception, Measure};
    use super::*;

    fn exception(n: u8, weight: u64) -> Exception {
        Exception { node: SecretKey::from_seed([n; 32]).public(), weight, what: "late".into() }
    }

    fn said(labels: &[(&str, u64)]) -> Tally {
        let labels: BTreeMap<String, u64> =
            labels.iter().map(|(label, count)| ((*label).to_owned(), *count)).collect();
        Tally { answered: labels.values().sum(), labels, ..Tally::default() }
    }

    fn together(parts: impl IntoIterator<Item = Tally>) -> Tally {
        let (mut shares, mut all) = (Shares::default(), Tally::default());
        for mut part in parts {
            shares.take(&mut part, u64::MAX);
            all.merge(part);
        }
        shares.put(&mut all);
        assert!(all.bounded() && all.plausible(), "{all:?}");
        all
    }

    #[test]
    fn what_fits_is_what_merging_makes_of_it() {
        let parts = [said(&[("a", 3), ("b", 1)]), said(&[("b", 5)]), said(&[("c", 1)])];
        let mut merged = Tally::default();
        parts.iter().for_each(|part| merged.merge(part.clone()));
        assert_eq!(together(parts), merged);
    }

    /// 32 labels, 4 measures and 32 exceptions of one liar, each of which comes before all others.
    #[test]
    fn a_liar_gets_its_share_and_no_more() {
        let mut liar = said(&[]);
        liar.answered = 64;
        liar.labels = (0..LABELS_MAX).map(|n| (format!("!{n:02}"), 1)).collect();
        liar.exceptions = (0..EXCEPTIONS_MAX as u8).map(|n| exception(n, u64::MAX)).collect();
        liar.exceptional = liar.exceptions.len() as u64;
        liar.measures = (0..4).map(|n| (format!("!{n}"), Measure::one(n))).collect();
        let honest = |n: u8| {
            let mut tally = said(&[("1.0", 6), ("1.1", 2)]);
            tally.exceptions = [exception(100 + n, 7)].into();
            tally.exceptional = 1;
            tally.measures = [("load".to_owned(), Measure::one(5))].into();
            tally
        };
        let all = together([liar, honest(1), honest(2)]);
        assert_eq!((all.labels["1.0"], all.labels["1.1"]), (12, 4));
        assert_eq!(all.labels.len(), LABELS_MAX);
        assert_eq!(all.other, 2, "of the liar");
        for n in [1, 2] {
            assert!(all.exceptions.contains(&exception(100 + n, 7)));
        }
        assert_eq!(all.measures["load"].count, 2);
    }

    #[test]
    fn whoever_names_many_places_leaves_the_others_theirs() {
        let place = |n: u8, name: usize| Place {
            node: SecretKey::from_seed([n; 32]).public(),
            name: format!("n{name}"),
            address: None,
            parent: None,
            depth: 1,
            hops: None,
            detail: None,
        };
        let said = |n: u8, count: usize| {
            let nodes = vec![place(n, 0); count];
            Places { nodes, ..Places::default() }
        };
        for order in [[1, 2, 3], [2, 1, 3], [3, 2, 1]] {
            let (mut shares, mut all) = (PlaceShares::default(), Places::default());
            for n in order {
                // The first of them lies.
                shares.take(&mut said(n, if n == 1 { PLACES_MAX } else { 300 }));
            }
            shares.put(&mut all);
            assert!(all.nodes.len() <= PLACES_MAX && all.partial);
            for n in [2, 3] {
                let named = all.nodes.iter().filter(|one| **one == place(n, 0)).count();
                assert_eq!(named, 300, "{order:?}");
            }
        }
    }

    #[test]
    fn two_long_lists_share_the_room() {
        let long = |first: char| {
            let labels = (0..LABELS_MAX).map(|n| (format!("{first}{n:02}"), 1)).collect();
            Tally { answered: LABELS_MAX as u64, labels, ..Tally::default() }
        };
        let all = together([long('a'), long('b')]);
        let of_a = all.labels.keys().filter(|label| label.starts_with('a')).count();
        assert_eq!((of_a, all.labels.len(), all.other), (16, 32, 32));
    }

    #[test]
    fn whoever_speaks_of_most_gives_way_first() {
        assert_eq!(level(vec![3, 9, 2], 14), u64::MAX);
        assert_eq!(level(vec![3, 9, 2], 13), 8);
        assert_eq!(level(vec![9, 3, 9], 13), 5);
        assert_eq!(level(vec![1, 1, 1], 2), 1, "the whole is brought down in the end");
        assert_eq!(level(Vec::new(), 0), u64::MAX);
    }

    /// Many rolls that list the same nodes take no more room than one, and one too many is too many for all.
    #[test]
    fn rolls_that_repeat_each_other_take_the_room_of_one() {
        let listed = |tags: std::ops::Range<usize>| {
            let text: String = tags.clone().map(|tag| format!("{tag:016x}")).collect();
            let roll = serde_json::from_str(&format!("\"{text}\"")).unwrap();
            Tally { answered: tags.len() as u64, roll, ..Tally::default() }
        };
        let (mut shares, mut all) = (Shares::default(), Tally::default());
        for _ in 0..8 {
            shares.take(&mut listed(0..ROLL_MAX), u64::MAX);
            let kept = shares.parts.iter().filter_map(|part| part.roll.tags());
            assert_eq!(kept.map(BTreeSet::len).sum::<usize>(), ROLL_MAX);
        }
        shares.clone().put(&mut all);
        assert_eq!(all.roll.tags().map(BTreeSet::len), Some(ROLL_MAX));
        shares.take(&mut listed(ROLL_MAX..ROLL_MAX + 1), u64::MAX);
        shares.take(&mut listed(0..5), u64::MAX);
        shares.put(&mut all);
        assert_eq!(all.roll, Roll::too_many());
        assert!(all.plausible());
    }
}
