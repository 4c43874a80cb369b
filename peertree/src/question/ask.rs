//! What two neighbours say about a question, as plain data.
//!
//! On the wire a line of JSON each: `{"ask":{"id":7,"nonce":9,"tree":"below",
//! "question":{"about":"load","above":1000},"within_ms":4450}}`, `{"answer":{"id":7,"tally":{…}}}`.
//! An ask without a question asks for the tree, as the first agents did.

use borgios_types::{Digest, NodeId};
use serde::{Deserialize, Serialize};

use super::bounds::{CLAIMS_MAX, PLACES_MAX};
use super::places::{Place, Places};
use super::roll::{Roll, Tag};
use super::tally::{Tally, is_label};

/// Which way a question goes on from the node that is asked; never back to the one that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// To its children.
    Below,
    /// To its children and its parent.
    Fleet,
}

/// What is asked. A node that does not know a question takes no part in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "snake_case")]
pub enum Question {
    /// Where nodes stand: [`Places`].
    #[default]
    Tree,
    /// What runs. Label: release and agent.
    Versions {
        /// The label that is no exception; without one nothing is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usual: Option<String>,
    },
    /// Which epoch root's credential is at. Exception: behind; weight: by how many epochs.
    Epochs,
    /// Load per core and used memory, in thousandths. Exception: load above.
    Load {
        /// In thousandths of a core.
        above: u64,
    },
    /// Free share of the disk with the agent's data, in thousandths. Exception: below.
    Disk {
        /// In thousandths.
        below: u64,
    },
    /// Who holds something. Labels: `yes`, `no`; exception: those without.
    Received {
        /// What.
        item: Item,
    },
    /// Where one node stands: [`Places`] of that one, and the question ends with it.
    Find {
        /// Which.
        node: NodeId,
    },
    /// A question of a later version.
    #[serde(other)]
    Unknown,
}

/// Something that nodes may hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// A signed object, by its id.
    Object(Digest),
    /// A message of a stream, with everything before it.
    Message {
        /// Whose stream.
        origin: NodeId,
        /// The stream's generation.
        epoch: u64,
        /// The message's number.
        number: u64,
    },
}

impl Question {
    /// Whether its texts keep their bounds.
    #[must_use]
    pub fn bounded(&self) -> bool {
        match self {
            Self::Versions { usual } => usual.as_deref().is_none_or(is_label),
            Self::Tree
            | Self::Epochs
            | Self::Load { .. }
            | Self::Disk { .. }
            | Self::Received { .. }
            | Self::Find { .. }
            | Self::Unknown => true,
        }
    }

    /// Whether its answer is where nodes stand.
    pub(crate) fn of_places(&self) -> bool {
        matches!(self, Self::Tree | Self::Find { .. })
    }
}

/// A question to a neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Chosen by the asker, unique on its link.
    pub id: u64,
    /// Chosen by whoever asked first: a node takes part once. 0 in questions of the first agents.
    #[serde(default)]
    pub nonce: u64,
    /// Which way it goes on.
    #[serde(rename = "tree")]
    pub scope: Scope,
    /// What is asked.
    #[serde(default)]
    pub question: Question,
    /// Milliseconds the asker waits.
    pub within_ms: u64,
}

/// What is known so far of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Who answered, and what they said in sum.
    pub tally: Tally,
    /// Where nodes stand, if that was asked.
    pub places: Places,
}

/// An answer to a neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Of the question.
    pub id: u64,
    /// Who answered. Agents of the first version send none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tally: Option<Tally>,
    /// Where nodes stand, if that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<Places>,
}

impl Answer {
    /// Whether every list keeps its bound.
    #[must_use]
    pub fn bounded(&self) -> bool {
        // Places beyond their bound are cut and said to be partial: first agents may send them.
        let places = self.tree.as_ref().is_none_or(|places| {
            places.nodes.len() <= 2 * PLACES_MAX && places.silent.len() <= 2 * PLACES_MAX
        });
        places && self.tally.as_ref().is_none_or(Tally::bounded)
    }

    pub(crate) fn of(id: u64, question: &Question, findings: Findings) -> Self {
        let Findings { tally, mut places } = findings;
        let tree = question.of_places().then(|| {
            places.silent = tally.silent.iter().copied().collect();
            places
        });
        Self { id, tally: Some(tally), tree }
    }

    /// What it says, as today's agents would have said it.
    pub(crate) fn findings(self, question: &Question) -> Findings {
        let mut places = self.tree.unwrap_or_default();
        if !matches!(question, Question::Find { .. }) {
            // Nobody asked for it, and one entry would take the room of thirty.
            places.nodes.iter_mut().for_each(|place| (place.hops, place.detail) = (None, None));
        }
        places.bound();
        let tally = self.tally.unwrap_or_else(|| first_agents(question, &places));
        if !question.of_places() {
            places = Places::default();
        }
        places.silent.clear();
        if let Question::Find { node } = question {
            places.nodes.retain(|place| place.node == *node);
            places.nodes.truncate(CLAIMS_MAX);
            for Place { hops, .. } in &mut places.nodes {
                *hops = Some(hops.unwrap_or(0).saturating_add(1));
            }
        }
        Findings { tally, places }
    }
}

/// An agent of the first version answers every question with the tree below it: those nodes are
/// there and cannot say what was asked.
fn first_agents(question: &Question, places: &Places) -> Tally {
    let mut tally = Tally::default();
    for node in places.nodes.iter().map(|place| place.node) {
        let looked_for = matches!(question, Question::Find { .. } | Question::Tree);
        tally.merge(if looked_for {
            Tally { answered: 1, roll: Roll::one(&node), ..Tally::default() }
        } else {
            Tally::of_silent(node)
        });
    }
    for node in &places.silent {
        tally.merge(Tally::of_silent(*node));
    }
    tally
}

impl Findings {
    /// Adds those of a neighbour.
    pub(crate) fn merge(&mut self, other: Self) {
        self.tally.merge(other.tally);
        self.places.merge(other.places);
    }

    /// Brings it down to what `most` nodes can have said; see [`Tally::trim`].
    pub(crate) fn trim(&mut self, most: u64) {
        self.tally.trim(most);
        self.places.nodes.truncate(usize::try_from(self.tally.answered).unwrap_or(usize::MAX));
    }

    /// Whether nothing is said: the neighbour takes no part.
    pub(crate) fn is_empty(&self) -> bool {
        self.tally.is_empty() && self.places.nodes.is_empty()
    }

    /// The members among `members` that answered; `None` where they were too many to list.
    #[must_use]
    pub fn heard<'a>(&self, members: impl Iterator<Item = &'a NodeId>) -> Option<u64> {
        let tags = self.tally.roll.tags()?;
        Some(members.filter(|member| tags.contains(&Tag::of(member))).count() as u64)
    }
}

#[cfg(test)]
mod tests {
    use borgios_types::SecretKey;

    use super::*;

    fn key(n: u8) -> NodeId {
        SecretKey::from_seed([n; 32]).public()
    }

    #[test]
    fn questions_read_back_and_later_ones_are_known_as_unknown() {
        let message = Item::Message { origin: key(1), epoch: 2, number: 3 };
        for question in [
            Question::Tree,
            Question::Versions { usual: Some("release/1".into()) },
            Question::Epochs,
            Question::Load { above: 900 },
            Question::Disk { below: 100 },
            Question::Received { item: Item::Object(Digest::of(b"x")) },
            Question::Received { item: message },
            Question::Find { node: key(1) },
        ] {
            let text = serde_json::to_string(&question).unwrap();
            assert_eq!(serde_json::from_str::<Question>(&text).unwrap(), question, "{text}");
        }
        let later = r#"{"about":"weather","where":{"city":[1]}}"#;
        assert_eq!(serde_json::from_str::<Question>(later).unwrap(), Question::Unknown);
    }

    #[test]
    fn what_is_asked_of_one_node_alone_takes_no_room_of_the_others() {
        let path = vec![key(1); 64];
        let detail = serde_json::json!({
            "path": path, "version": "1", "attached_s": 1, "children": 0, "uptime_s": 1,
        });
        let place = serde_json::json!({
            "node": key(1), "name": "web-1", "depth": 1, "hops": 3, "detail": detail,
        });
        let said = serde_json::json!({
            "id": 7, "tree": {"nodes": [place], "silent": [], "partial": false},
        });
        let answer: Answer = serde_json::from_value(said).unwrap();
        let tree = answer.clone().findings(&Question::Tree);
        assert!(tree.places.nodes.iter().all(|it| it.detail.is_none() && it.hops.is_none()));
        let found = answer.findings(&Question::Find { node: key(1) });
        assert!(found.places.nodes.iter().all(|it| it.detail.is_some() && it.hops == Some(4)));
        assert_eq!((tree.places.nodes.len(), found.places.nodes.len()), (1, 1));
    }

    #[test]
    fn the_first_agents_are_understood() {
        let ask: Ask = serde_json::from_str(r#"{"id":7,"tree":"fleet","within_ms":3}"#).unwrap();
        assert_eq!((ask.question, ask.nonce, ask.scope), (Question::Tree, 0, Scope::Fleet));
        let place = serde_json::json!({"node": key(1), "name": "web-1", "depth": 1});
        let said = serde_json::json!({
            "id": 7, "tree": {"nodes": [place], "silent": [key(2)], "partial": false},
        });
        let answer: Answer = serde_json::from_value(said).unwrap();
        let tree = answer.clone().findings(&Question::Tree);
        assert_eq!(
            (tree.tally.answered, tree.tally.silent_nodes, tree.places.nodes.len()),
            (1, 1, 1)
        );
        let load = answer.findings(&Question::Load { above: 1 });
        assert_eq!((load.tally.answered, load.tally.silent_nodes), (0, 2));
        assert!(load.places.nodes.is_empty());
    }
}
