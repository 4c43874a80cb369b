//! Where nodes stand, as they say themselves; nothing of it is signed or proved.

use borgios_types::NodeId;
use borgios_types::limits::NAME_MAX;
use serde::{Deserialize, Serialize};

use super::bounds::{PLACES_BYTES, PLACES_MAX, VERSION_MAX};
use crate::bounds::{ADDRESS_MAX, PATH_MAX};

/// Where nodes stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// In no order; each names its parent.
    pub nodes: Vec<Place>,
    /// Nodes that did not answer in time.
    pub silent: Vec<NodeId>,
    /// Whether there were more nodes than one answer holds.
    pub partial: bool,
}

/// Where one node stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Where it can be dialled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its parent, if it is not a root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<NodeId>,
    /// Steps from the root.
    pub depth: u64,
    /// Links that this answer has crossed; only where one node was looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hops: Option<u64>,
    /// What else it says; only where one node was looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
}

/// What a node that was looked for says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// From the root (first) to the node (last), at most [`PATH_MAX`].
    pub path: Vec<NodeId>,
    /// Version of its agent.
    pub version: String,
    /// Release that it runs, 0 before the first; absent while its keeper does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<u64>,
    /// Epoch of the root credential that it carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Seconds since it has this parent, or is the root.
    pub attached_s: u64,
    /// Children.
    pub children: u64,
    /// Seconds since its agent began.
    pub uptime_s: u64,
}

impl Place {
    /// Whether its texts and lists have lengths that can be.
    #[must_use]
    pub fn bounded(&self) -> bool {
        let detail = self.detail.as_ref().is_none_or(|detail| {
            detail.path.len() <= PATH_MAX && detail.version.len() <= VERSION_MAX
        });
        let address = self.address.as_ref().map_or(0, String::len);
        self.name.len() <= NAME_MAX && address <= ADDRESS_MAX && detail
    }
}

impl Places {
    /// Adds others, as many as have room; see [`Places::bound`].
    pub fn merge(&mut self, other: Self) {
        self.nodes.extend(other.nodes);
        self.silent.extend(other.silent);
        self.partial |= other.partial;
        self.bound();
    }

    /// Cuts what does not fit one answer: a subtree with the longest names and addresses must not
    /// make a line that ends this node's own link.
    pub fn bound(&mut self) {
        self.nodes.retain(Place::bounded);
        self.partial |= self.nodes.len() > PLACES_MAX || self.silent.len() > PLACES_MAX;
        self.nodes.truncate(PLACES_MAX);
        self.silent.truncate(PLACES_MAX);
        let mut left = PLACES_BYTES;
        let nodes = fitting(&self.nodes, &mut left);
        let silent = fitting(&self.silent, &mut left);
        self.partial |= nodes < self.nodes.len() || silent < self.silent.len();
        self.nodes.truncate(nodes);
        self.silent.truncate(silent);
    }
}

/// How many of `all` fit into the `left` bytes of JSON, which are used up.
fn fitting<T: Serialize>(all: &[T], left: &mut usize) -> usize {
    let fits = |one: &&T| {
        let length = serde_json::to_string(one).map_or(usize::MAX, |text| text.len() + 1);
        let fits = length <= *left;
        *left = left.saturating_sub(length);
        fits
    };
    all.iter().take_while(fits).count()
}

#[cfg(test)]
mod tests {
    use borgios_types::SecretKey;

    use super::*;

    #[test]
    fn whatever_the_neighbours_say_it_keeps_its_bound() {
        let node = SecretKey::from_seed([1; 32]).public();
        // As long as they may be, and of characters that JSON writes as six.
        let place = Place {
            node,
            name: "\u{1}".repeat(NAME_MAX),
            address: Some("\u{1}".repeat(ADDRESS_MAX)),
            parent: Some(node),
            depth: u64::MAX,
            hops: None,
            detail: None,
        };
        let said =
            Places { nodes: vec![place.clone(); 3_000], silent: vec![node; 3_000], partial: false };
        let mut kept = Places::default();
        kept.merge(said);
        assert!(kept.partial && !kept.nodes.is_empty());
        let text = serde_json::to_string(&kept).unwrap();
        assert!(text.len() <= PLACES_BYTES + 100, "{}", text.len());
        let short = Place { name: "web-1".into(), address: Some("web-1:7117".into()), ..place };
        let said = Places { nodes: vec![short; PLACES_MAX], silent: Vec::new(), partial: false };
        let mut kept = said.clone();
        kept.bound();
        assert_eq!(kept, said, "an honest fleet's answer is whole");
    }
}
