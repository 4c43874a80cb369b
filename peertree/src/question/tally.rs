//! What many nodes answered, in the space that one answer may take.
//!
//! Merging two tallies is associative and commutative, so it does not matter who sat where in the
//! tree. Where a list is bounded, what is kept is decided by an order that counts do not change:
//! of labels the 32 that come first in the alphabet, of exceptions the 32 gravest, of the silent
//! the 32 with the smallest keys. A label that is cut off in a part has 32 before it there, so it
//! has them in the whole as well; hence whatever is kept in the end was counted in full.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use borgios_types::NodeId;
use serde::{Deserialize, Serialize};

use super::bounds::{
    EXCEPTIONS_MAX, LABEL_MAX, LABELS_MAX, MEASURE_MAX, MEASURES_MAX, NODES_MAX, ROLL_MAX,
    SILENT_MAX,
};
use super::roll::Roll;

/// A number that was read on several nodes; its unit is the question's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measure {
    /// Nodes that have it.
    pub count: u64,
    /// Smallest.
    pub min: u64,
    /// Largest.
    pub max: u64,
    /// Sum; it stops at the largest number there is.
    pub sum: u64,
}

impl Measure {
    /// As read on one node.
    #[must_use]
    pub fn one(value: u64) -> Self {
        Self { count: 1, min: value, max: value, sum: value }
    }

    /// The mean, rounded down.
    #[must_use]
    pub fn mean(&self) -> u64 {
        self.sum / self.count.max(1)
    }

    fn merge(&mut self, other: Self) {
        self.count = add(self.count, other.count);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// Of fewer nodes, with the same mean.
    fn trim(&mut self, most: u64) {
        if self.count > most {
            let mean = self.mean().max(self.min).min(self.max);
            (self.count, self.sum) = (most, mean.saturating_mul(most));
        }
    }

    fn plausible(&self, answered: u64) -> bool {
        let within = |bound: u64| u128::from(bound) * u128::from(self.count);
        let sum = u128::from(self.sum);
        self.count > 0
            && self.count <= answered
            && self.min <= self.max
            && (self.sum == u64::MAX || self.count == NODES_MAX || sum >= within(self.min))
            && sum <= within(self.max)
    }
}

/// A node that is worth a look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// Which.
    pub node: NodeId,
    /// How grave; the gravest are named.
    pub weight: u64,
    /// What is the matter, in a few words.
    pub what: String,
}

/// The gravest first.
impl Ord for Exception {
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .weight
            .cmp(&self.weight)
            .then_with(|| self.node.cmp(&other.node))
            .then_with(|| self.what.cmp(&other.what))
    }
}

impl PartialOrd for Exception {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What many nodes answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Answers.
    pub answered: u64,
    /// Numbers, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub measures: BTreeMap<String, Measure>,
    /// Answers by label.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, u64>,
    /// Answers with labels that had no room.
    #[serde(skip_serializing_if = "is_zero")]
    pub other: u64,
    /// The gravest exceptions.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub exceptions: BTreeSet<Exception>,
    /// How many exceptions there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub exceptional: u64,
    /// Nodes that were asked and did not answer in time; what is behind them is not known.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub silent: BTreeSet<NodeId>,
    /// How many of those there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub silent_nodes: u64,
    /// Who answered.
    pub roll: Roll,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde asks for it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Adds counts of nodes, up to the most that anybody may claim.
fn add(one: u64, other: u64) -> u64 {
    one.saturating_add(other).min(NODES_MAX)
}

/// Whether a text is fit for one cell of a table.
#[must_use]
pub fn is_label(text: &str) -> bool {
    !text.is_empty() && text.len() <= LABEL_MAX && !text.chars().any(char::is_control)
}

/// A text cut to what a label may be; control characters become question marks.
#[must_use]
pub fn label(text: &str) -> String {
    let mut label = String::new();
    for c in text.chars().map(|c| if c.is_control() { '?' } else { c }) {
        if label.len() + c.len_utf8() > LABEL_MAX {
            break;
        }
        label.push(c);
    }
    if label.is_empty() { "?".to_owned() } else { label }
}

impl Tally {
    /// The tally of a node that did not answer.
    #[must_use]
    pub fn of_silent(node: NodeId) -> Self {
        Self { silent: BTreeSet::from([node]), silent_nodes: 1, ..Self::default() }
    }

    /// Adds another one.
    pub fn merge(&mut self, other: Self) {
        self.answered = add(self.answered, other.answered);
        for (name, measure) in other.measures {
            self.measures.entry(name).and_modify(|mine| mine.merge(measure)).or_insert(measure);
        }
        while self.measures.len() > MEASURES_MAX {
            self.measures.pop_last();
        }
        self.other = add(self.other, other.other);
        for (label, count) in other.labels {
            let mine = self.labels.entry(label).or_default();
            *mine = add(*mine, count);
        }
        while self.labels.len() > LABELS_MAX {
            let cut = self.labels.pop_last().map_or(0, |(_, count)| count);
            self.other = add(self.other, cut);
        }
        self.exceptions.extend(other.exceptions);
        self.exceptional = add(self.exceptional, other.exceptional);
        while self.exceptions.len() > EXCEPTIONS_MAX {
            self.exceptions.pop_last();
        }
        self.silent.extend(other.silent);
        self.silent_nodes = add(self.silent_nodes, other.silent_nodes);
        while self.silent.len() > SILENT_MAX {
            self.silent.pop_last();
        }
        self.roll.merge(other.roll);
    }

    /// Brings one answer down to `most` answers, where it speaks of more: somebody in it counts what is not
    /// there. Nothing in it tells who, so the largest counts give way, and the roll evenly; which of several
    /// answers is brought down, [`super::share`] says.
    pub(crate) fn trim(&mut self, most: u64) {
        if self.answered <= most {
            return;
        }
        self.answered = most;
        self.roll.thin(most);
        self.measures.values_mut().for_each(|measure| measure.trim(most));
        self.exceptional = self.exceptional.min(most);
        while self.exceptions.len() as u64 > self.exceptional {
            self.exceptions.pop_last();
        }
        let labelled = self.labels.values().fold(self.other, |sum, one| sum.saturating_add(*one));
        let mut over = labelled.saturating_sub(most);
        let unnamed = over.min(self.other);
        self.other -= unnamed;
        over -= unnamed;
        while over > 0 {
            let largest = self.labels.iter().max_by_key(|(_, count)| **count);
            let Some((label, count)) = largest.map(|(label, count)| (label.clone(), *count)) else {
                break;
            };
            if over < count {
                self.labels.insert(label, count - over);
                break;
            }
            self.labels.remove(&label);
            over -= count;
        }
    }

    /// Whether every list keeps its bound: one that does not is not looked at.
    #[must_use]
    pub fn bounded(&self) -> bool {
        self.measures.len() <= MEASURES_MAX
            && self.measures.keys().all(|name| is_label(name) && name.len() <= MEASURE_MAX)
            && self.labels.len() <= LABELS_MAX
            && self.labels.keys().all(|label| is_label(label))
            && self.exceptions.len() <= EXCEPTIONS_MAX
            && self.exceptions.iter().all(|exception| is_label(&exception.what))
            && self.silent.len() <= SILENT_MAX
    }

    /// Whether its numbers can all be true at once. A node that says what cannot be counts as
    /// silent; one that lies within reason cannot be told from an honest one here.
    #[must_use]
    pub fn plausible(&self) -> bool {
        let answered = u128::from(self.answered);
        let labelled: u128 = self.labels.values().map(|count| u128::from(*count)).sum();
        let labelled = labelled + u128::from(self.other);
        let listed = |list: usize| list as u64;
        let on_roll = self.roll.tags().map_or(0, BTreeSet::len);
        self.answered <= NODES_MAX
            && (labelled <= answered || self.answered == NODES_MAX)
            && self.labels.values().all(|count| *count > 0)
            && (self.other == 0 || self.labels.len() == LABELS_MAX)
            && self.measures.values().all(|measure| measure.plausible(self.answered))
            && self.exceptional <= self.answered
            && listed(self.exceptions.len()) <= self.exceptional
            && self.silent_nodes <= NODES_MAX
            && listed(self.silent.len()) <= self.silent_nodes
            && listed(on_roll) <= self.answered
            // Too many to list are more than the list holds.
            && (self.roll.tags().is_some() || self.answered > listed(ROLL_MAX))
    }

    /// Whether it says nothing at all: what a node answers that takes no part.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.answered == 0 && self.silent_nodes == 0
    }
}

#[cfg(test)]
mod tests {
    use borgios_types::SecretKey;
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn node(rng: &mut ChaCha8Rng) -> NodeId {
        SecretKey::from_seed([rng.r#gen::<u8>(); 32]).public()
    }

    /// What one node says, from a small world so that things coincide, and now and then enormous.
    fn one(rng: &mut ChaCha8Rng) -> Tally {
        let me = node(rng);
        if rng.gen_bool(0.2) {
            return Tally::of_silent(me);
        }
        let value = if rng.gen_bool(0.05) { u64::MAX } else { rng.gen_range(0..1_000) };
        let exceptional = rng.gen_bool(0.5);
        let exception = Exception { node: me, weight: value / 100, what: "late".to_owned() };
        let name = format!("m{}", rng.gen_range(0..6));
        Tally {
            answered: 1,
            measures: BTreeMap::from([(name, Measure::one(value))]),
            labels: BTreeMap::from([(format!("v{:02}", rng.gen_range(0..50)), 1)]),
            exceptions: exceptional.then_some(exception).into_iter().collect(),
            exceptional: u64::from(exceptional),
            roll: Roll::one(&me),
            ..Tally::default()
        }
    }

    fn merged(parts: &[Tally]) -> Tally {
        let mut all = Tally::default();
        parts.iter().for_each(|part| all.merge(part.clone()));
        all
    }

    /// Merges in the order of a random tree.
    fn in_any_order(mut parts: Vec<Tally>, rng: &mut ChaCha8Rng) -> Tally {
        while parts.len() > 1 {
            let one = parts.swap_remove(rng.gen_range(0..parts.len()));
            let at = rng.gen_range(0..parts.len());
            if rng.gen_bool(0.5) {
                parts[at].merge(one);
            } else {
                let other = std::mem::replace(&mut parts[at], one);
                parts[at].merge(other);
            }
        }
        parts.pop().unwrap_or_default()
    }

    #[test]
    fn the_shape_of_the_tree_makes_no_difference() {
        for seed in 0..300 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let parts: Vec<_> = (0..rng.gen_range(0..200)).map(|_| one(&mut rng)).collect();
            let straight = merged(&parts);
            let other = in_any_order(parts.clone(), &mut rng);
            assert_eq!(straight, other, "seed {seed}");
            assert!(straight.bounded() && straight.plausible(), "seed {seed}: {straight:?}");
        }
    }

    #[test]
    fn what_is_kept_was_counted_in_full() {
        for seed in 0..100 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let parts: Vec<_> = (0..400).map(|_| one(&mut rng)).collect();
            let all = in_any_order(parts.clone(), &mut rng);
            for (label, count) in &all.labels {
                let real = parts.iter().filter(|part| part.labels.contains_key(label)).count();
                assert_eq!(*count, real as u64, "seed {seed}: {label}");
            }
            let labelled: u64 = all.labels.values().sum();
            assert_eq!(labelled + all.other, all.answered, "seed {seed}");
            let gravest = parts.iter().flat_map(|part| &part.exceptions).map(|e| e.weight).max();
            assert_eq!(all.exceptions.first().map(|e| e.weight), gravest, "seed {seed}");
        }
    }

    #[test]
    fn numbers_stop_where_they_would_overflow() {
        let huge = |weight| Tally {
            answered: NODES_MAX,
            measures: [("m".to_owned(), Measure { count: NODES_MAX, min: 0, max: 9, sum: 5 })]
                .into(),
            labels: [("a".to_owned(), NODES_MAX)].into(),
            exceptional: NODES_MAX,
            silent_nodes: NODES_MAX,
            roll: Roll::too_many(),
            other: weight,
            ..Tally::default()
        };
        let mut all = huge(0);
        all.merge(huge(0));
        all.merge(one(&mut ChaCha8Rng::seed_from_u64(1)));
        assert!(all.plausible() && all.answered == NODES_MAX, "{all:?}");
        let mut sum = Measure::one(u64::MAX);
        sum.merge(Measure::one(u64::MAX));
        assert_eq!((sum.count, sum.sum), (2, u64::MAX));
        assert!(sum.plausible(2));
    }

    #[test]
    fn what_was_brought_down_to_fewer_can_be_true() {
        for seed in 0..200 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let parts: Vec<_> = (0..rng.gen_range(1..200)).map(|_| one(&mut rng)).collect();
            let (whole, most) = (merged(&parts), rng.gen_range(1..250));
            let mut less = whole.clone();
            less.trim(most);
            assert!(less.bounded() && less.plausible(), "seed {seed}: {less:?}");
            assert_eq!(less.answered, whole.answered.min(most), "seed {seed}");
            assert!(whole.answered > most || less == whole, "seed {seed}");
            let listed = |tally: &Tally| tally.roll.tags().map(BTreeSet::len).unwrap() as u64;
            assert_eq!(listed(&less), listed(&whole).min(most), "seed {seed}");
        }
    }

    #[test]
    fn what_cannot_be_true_is_seen() {
        let me = SecretKey::from_seed([1; 32]).public();
        let good = Tally {
            answered: 1,
            measures: [("m".to_owned(), Measure::one(7))].into(),
            labels: [("v1".to_owned(), 1)].into(),
            roll: Roll::one(&me),
            ..Tally::default()
        };
        assert!(good.bounded() && good.plausible());
        let bent: [fn(&mut Tally); 9] = [
            |t| t.roll = Roll::too_many(),
            |t| t.answered = 0,
            |t| t.answered = u64::MAX,
            |t| t.labels.extend([("more".to_owned(), 5)]),
            |t| t.other = 1,
            |t| t.exceptional = 9,
            |t| t.measures.values_mut().for_each(|m| m.min = m.max + 1),
            |t| t.measures.values_mut().for_each(|m| m.sum = m.max * 2 + 1),
            |t| t.silent.extend([SecretKey::from_seed([9; 32]).public()]),
        ];
        for (at, bend) in bent.iter().enumerate() {
            let mut bad = good.clone();
            bend(&mut bad);
            assert!(!bad.plausible(), "{at}: {bad:?}");
        }
        let mut long = good.clone();
        long.labels = (0..33).map(|n| (n.to_string(), 1)).collect();
        assert!(!long.bounded());
        long.labels = [("x".repeat(65), 1)].into();
        assert!(!long.bounded());
    }

    #[test]
    fn any_text_becomes_a_label() {
        let bell = "x\u{7}".repeat(100);
        for text in ["", "0.1.0", "ü".repeat(60).as_str(), bell.as_str()] {
            assert!(is_label(&label(text)), "{text}");
        }
    }
}
