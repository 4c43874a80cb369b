//! One answer's lists, put together from those of several neighbours: each gets its share of the room.
//!
//! ```text
//!  a: x y z …  ─┐                  everything fits: summed, as if one had merged it
//!  b: p q      ─┼─▶ all of them ─┤
//!  own: p      ─┘                  too much: in turns, one of a, one of b, one of own, …
//! ```
//!
//! What [`Tally::merge`] keeps of two lists that are too long depends on names and weights alone, which
//! a liar chooses. Here a neighbour that names 32 things of its own leaves the others what they named, up
//! to an equal share of the list. Only where nothing had to be cut is each count whole.

use std::collections::{BTreeMap, BTreeSet};

use super::bounds::{EXCEPTIONS_MAX, LABELS_MAX, MEASURES_MAX, PLACES_MAX};
use super::places::{Place, Places};
use super::tally::{Exception, Measure, Tally};

/// The lists of the answers to one question, one by one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shares {
    parts: Vec<Lists>,
}

/// The lists of one answer.
#[derive(Clone, Debug)]
struct Lists {
    measures: BTreeMap<String, Measure>,
    labels: BTreeMap<String, u64>,
    other: u64,
    exceptions: BTreeSet<Exception>,
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
    /// Takes the lists out of one neighbour's answer, or this node's own.
    pub(crate) fn take(&mut self, tally: &mut Tally) {
        let Tally { measures, labels, other, exceptions, .. } = tally;
        let lists = Lists {
            measures: std::mem::take(measures),
            labels: std::mem::take(labels),
            other: std::mem::take(other),
            exceptions: std::mem::take(exceptions),
        };
        let empty =
            lists.measures.is_empty() && lists.labels.is_empty() && lists.exceptions.is_empty();
        if !empty || lists.other > 0 {
            self.parts.push(lists);
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
            shares.take(&mut part);
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
}
