//! What a tool is told about a question: who answered, of how many, and who is missing.
//!
//! How many there should be comes from the join records of this node, never from the tree: a
//! subtree that nobody hears of is missing all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use borgios_peertree::question::tally::label;
use borgios_peertree::question::{Findings, Question, Tag, Tally};
use borgios_policy::Join;
use borgios_types::NodeId;
use serde::Serialize;
use serde_json::{Value, json};

use super::shell::QuestionHandle;
use crate::api::{Parts, error, ok};
use crate::clock::unix_now;

/// Longest wait where the tool names none.
pub const WITHIN_DEFAULT: Duration = Duration::from_secs(5);
/// Missing members that are named; the number tells of the others.
const MISSING_NAMED: usize = 32;

/// A node as people call it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Named {
    /// Its name, by its join record here.
    pub name: String,
    /// Its key.
    pub node: NodeId,
}

/// Who answered, of how many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Turnout {
    /// Members that answered.
    pub answered: u64,
    /// Members by their join records here.
    pub members: u64,
    /// Whether every member answered.
    pub complete: bool,
    /// Nodes that answered and have no join record here; absent where they were too many to list.
    pub strangers: Option<u64>,
    /// Answers beyond one for each node on the roll: somebody was counted twice, or lied.
    pub surplus: u64,
    /// Members that were asked and did not answer in time, at most 32.
    pub silent: Vec<Named>,
    /// How many of those there are.
    pub silent_nodes: u64,
    /// Members that neither answered nor were named silent, at most 32: behind a silent one, cut
    /// off, or not in the tree.
    pub unheard: Vec<Named>,
    /// How many of those there are.
    pub unheard_nodes: u64,
}

impl Turnout {
    /// Compares what came with who should be there.
    #[must_use]
    pub fn of(tally: &Tally, members: &BTreeMap<NodeId, Join>) -> Self {
        let count = members.len() as u64;
        let named = |node: &NodeId| {
            let name =
                members.get(node).map_or_else(|| "?".to_owned(), |join| join.name.to_string());
            Named { name, node: *node }
        };
        let Some(tags) = tally.roll.tags() else {
            // Too many to list: only the number is known, and only what the records allow.
            let answered = tally.answered.min(count);
            return Self {
                answered,
                members: count,
                complete: answered == count && tally.silent_nodes == 0,
                strangers: None,
                surplus: tally.answered.saturating_sub(count),
                silent: sorted(tally.silent.iter().map(named).collect()),
                silent_nodes: tally.silent_nodes,
                unheard: Vec::new(),
                unheard_nodes: (count - answered).saturating_sub(tally.silent_nodes),
            };
        };
        let heard = |node: &&NodeId| tags.contains(&Tag::of(node));
        let answered = members.keys().filter(heard).count() as u64;
        // Asked twice, over an old place and a new one, a node may be on both lists.
        let silent: BTreeSet<&NodeId> = tally.silent.iter().filter(|node| !heard(node)).collect();
        let both = (tally.silent.len() - silent.len()) as u64;
        let unheard = members.keys().filter(|node| !heard(node) && !silent.contains(node));
        let unheard: Vec<Named> = unheard.map(named).collect();
        let unheard_nodes = unheard.len() as u64;
        let mut unheard = sorted(unheard);
        unheard.truncate(MISSING_NAMED);
        Self {
            answered,
            members: count,
            complete: answered == count,
            strangers: Some((tags.len() as u64).saturating_sub(answered)),
            surplus: tally.answered.saturating_sub(tags.len() as u64),
            silent: sorted(silent.into_iter().map(named).collect()),
            silent_nodes: tally.silent_nodes.saturating_sub(both),
            unheard,
            unheard_nodes,
        }
    }
}

fn sorted(mut nodes: Vec<Named>) -> Vec<Named> {
    nodes.sort();
    nodes
}

/// Asks the fleet and tells the tool.
pub async fn ask(parts: &Parts, question: Question, within: Duration) -> Value {
    let begun = Instant::now();
    let questions = &parts.questions;
    let (question, findings) = match question {
        Question::Tree | Question::Find { .. } | Question::Unknown => {
            let known = "versions, epochs, load, disk or received";
            return error("bad_request", &format!("no such question; ask about {known}"));
        }
        Question::Versions { usual: None } => versions(questions, parts, within).await,
        other => (other.clone(), questions.ask(other, within).await),
    };
    let Some(Findings { tally, .. }) = findings else {
        return error("busy", "this node works on as many questions as it can; ask again");
    };
    let members = parts.ledger.run(|ledger| ledger.members(unix_now())).await;
    let turnout = Turnout::of(&tally, &members);
    let took = begun.elapsed();
    ok(told(&question, &tally, &turnout, &members, took))
}

/// What runs where: an exception is what differs from what most nodes run. Who that is, the first
/// answer shows; it is asked once more if it is not what runs here.
async fn versions(
    questions: &QuestionHandle,
    parts: &Parts,
    within: Duration,
) -> (Question, Option<Findings>) {
    let begun = Instant::now();
    let mine = label(&parts.observer.version());
    let question = Question::Versions { usual: Some(mine.clone()) };
    let first = questions.ask(question.clone(), within).await;
    let most = first.as_ref().and_then(|findings| {
        let labels = &findings.tally.labels;
        labels.iter().max_by_key(|(_, count)| **count).map(|(label, _)| label.clone())
    });
    match most {
        Some(most) if most != mine => {
            let question = Question::Versions { usual: Some(most) };
            let left = within.saturating_sub(begun.elapsed());
            // With little time left the first answer is worth more than a second one in pieces.
            if left < within / 2 {
                return (Question::Versions { usual: Some(mine) }, first);
            }
            let second = questions.ask(question.clone(), left).await;
            (question, second.or(first))
        }
        _ => (question, first),
    }
}

fn told(
    question: &Question,
    tally: &Tally,
    turnout: &Turnout,
    members: &BTreeMap<NodeId, Join>,
    took: Duration,
) -> Value {
    let name = |node: &NodeId| members.get(node).map(|join| join.name.to_string());
    let exceptions: Vec<Value> = tally
        .exceptions
        .iter()
        .map(|one| json!({"node": one.node, "name": name(&one.node), "what": one.what}))
        .collect();
    let measures: BTreeMap<&String, Value> = tally
        .measures
        .iter()
        .map(|(name, of)| {
            let sum = json!({
                "count": of.count, "min": of.min, "max": of.max, "sum": of.sum, "mean": of.mean(),
            });
            (name, sum)
        })
        .collect();
    let mut value = json!({
        "question": question,
        "measures": measures,
        "histogram": tally.labels,
        "other": tally.other,
        "exceptions": exceptions,
        "exceptional_nodes": tally.exceptional,
        "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    });
    let turnout = json!(turnout);
    if let (Some(value), Some(turnout)) = (value.as_object_mut(), turnout.as_object()) {
        value.extend(turnout.clone());
    }
    value
}

#[cfg(test)]
mod tests {
    use borgios_peertree::question::Roll;
    use borgios_types::{Digest, SecretKey, UnixSeconds};

    use super::*;

    fn key(n: u8) -> NodeId {
        SecretKey::from_seed([n; 32]).public()
    }

    fn members(all: std::ops::Range<u8>) -> BTreeMap<NodeId, Join> {
        let join = |n| Join {
            network: Digest::of(b"network"),
            node: key(n),
            keeper: key(100),
            name: format!("web-{n:02}").parse().unwrap(),
            address: None,
            owner: None,
            invitation: Digest::of(b"invitation"),
            issued: UnixSeconds(1),
            expires: UnixSeconds(2),
        };
        all.map(|n| (key(n), join(n))).collect()
    }

    fn tally(heard: impl IntoIterator<Item = u8>, silent: &[u8]) -> Tally {
        let mut tally = Tally::default();
        for n in heard {
            tally.merge(Tally { answered: 1, roll: Roll::one(&key(n)), ..Tally::default() });
        }
        silent.iter().for_each(|n| tally.merge(Tally::of_silent(key(*n))));
        tally
    }

    #[test]
    fn who_is_missing_follows_from_the_records() {
        let turnout = Turnout::of(&tally(0..5, &[5]), &members(0..8));
        assert_eq!((turnout.answered, turnout.members, turnout.complete), (5, 8, false));
        assert_eq!(turnout.silent, [Named { name: "web-05".into(), node: key(5) }]);
        let unheard: Vec<_> = turnout.unheard.iter().map(|one| one.name.as_str()).collect();
        assert_eq!((unheard, turnout.unheard_nodes), (vec!["web-06", "web-07"], 2));
    }

    #[test]
    fn who_lies_about_numbers_is_seen() {
        // Two strangers and a node that two subtrees claim.
        let turnout = Turnout::of(&tally([0, 1, 1, 50, 51], &[]), &members(0..2));
        assert_eq!((turnout.answered, turnout.complete), (2, true));
        assert_eq!((turnout.strangers, turnout.surplus), (Some(2), 1));
        let many = Tally { answered: 9_999, roll: Roll::too_many(), ..Tally::default() };
        let turnout = Turnout::of(&many, &members(0..10));
        assert_eq!((turnout.answered, turnout.surplus, turnout.strangers), (10, 9_989, None));
    }

    #[test]
    fn who_answered_over_another_way_is_not_silent() {
        let turnout = Turnout::of(&tally(0..3, &[2, 4]), &members(0..5));
        assert_eq!((turnout.silent.len(), turnout.silent_nodes), (1, 1));
        assert_eq!((turnout.unheard_nodes, turnout.answered), (1, 3));
    }

    #[test]
    fn at_most_so_many_are_named() {
        let turnout = Turnout::of(&tally(0..1, &[]), &members(0..100));
        assert_eq!((turnout.unheard.len(), turnout.unheard_nodes), (32, 99));
    }
}
