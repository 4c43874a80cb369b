//! `borgios tree`: the tree of servers, drawn.

use std::collections::{BTreeMap, BTreeSet};

use borgios_types::NodeId;
use clap::Args;
use serde::Deserialize;
use serde_json::json;

use crate::context::Context;
use crate::failure::{Failure, OrFail as _};
use crate::printer::one_line;

/// Most levels drawn: a tree of a million servers has 20, a liar's as many as fit an answer.
const LEVELS_MAX: usize = 64;

/// What stands where the drawing ends.
const CUT_OFF: &str = "└── …";

/// The tree of servers
#[derive(Debug, Args)]
pub(crate) struct Tree {}

/// Where nodes stand, as they say themselves; nothing of it is proved.
#[derive(Debug, Deserialize)]
struct Places {
    #[serde(default)]
    nodes: Vec<Place>,
    #[serde(default)]
    silent: Vec<NodeId>,
    #[serde(default)]
    partial: bool,
}

/// Where one node stands.
#[derive(Debug, Deserialize)]
struct Place {
    node: NodeId,
    #[serde(default)]
    name: String,
    #[serde(default)]
    address: Option<String>,
    #[serde(default)]
    parent: Option<NodeId>,
}

impl Tree {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut door = context.door()?;
        let answer = door.ask(&json!({"get": "tree"}))?;
        let places: Places = serde_json::from_value(answer.clone())
            .or_fail(|| format!("{} sent no tree", door.name()))?;
        context.printer.answer(&answer, &draw(&places))
    }
}

/// An answer as it is shown, for the fuzzer.
#[cfg(feature = "fuzz")]
pub(crate) fn shown(answer: &serde_json::Value) -> Result<String, serde_json::Error> {
    serde_json::from_value(answer.clone()).map(|places| draw(&places))
}

/// The tree with box characters, and what is known to be missing from it.
fn draw(places: &Places) -> String {
    let known: BTreeMap<NodeId, &Place> =
        places.nodes.iter().map(|place| (place.node, place)).collect();
    let mut children: BTreeMap<NodeId, Vec<&Place>> = BTreeMap::new();
    let mut roots = Vec::new();
    for place in known.values() {
        match place.parent.filter(|parent| known.contains_key(parent)) {
            Some(parent) => children.entry(parent).or_default().push(place),
            None => roots.push(*place),
        }
    }
    for list in children.values_mut() {
        list.sort_by(|one, other| (&one.name, one.node).cmp(&(&other.name, other.node)));
    }
    let mut text = String::new();
    let mut drawn = BTreeSet::new();
    for root in roots {
        draw_below(root, 1, ["", ""], &children, &mut drawn, &mut text);
    }
    let silent = places.silent.len();
    if silent > 0 {
        let names: Vec<String> = places.silent.iter().map(NodeId::short).collect();
        text.push_str(&format!("no answer from {}\n", names.join(", ")));
    }
    // Nodes whose parents form a circle have no root; an honest tree has none of these.
    let lost = known.len() - drawn.len();
    if lost > 0 {
        let deep = if text.contains(CUT_OFF) { "deeper than is drawn, or " } else { "" };
        text.push_str(&format!("{lost} nodes stand {deep}below each other, they say\n"));
    }
    let partial = if places.partial { ", not all of them" } else { "" };
    let servers = if drawn.len() == 1 { "server" } else { "servers" };
    text.push_str(&format!("{} {servers}{partial}\n", drawn.len()));
    text
}

/// Draws one node with what is below it; `level` counts from 1, `stems` stand before its own line
/// and before those below.
fn draw_below(
    place: &Place,
    level: usize,
    [first, rest]: [&str; 2],
    children: &BTreeMap<NodeId, Vec<&Place>>,
    drawn: &mut BTreeSet<NodeId>,
    text: &mut String,
) {
    if !drawn.insert(place.node) {
        return;
    }
    let name = if place.name.is_empty() { "?" } else { &place.name };
    let address = place.address.as_deref().unwrap_or("cannot be dialled");
    let line = format!("{first}{name}  {address}  {}", place.node.short());
    text.push_str(&one_line(&line));
    text.push('\n');
    let below = children.get(&place.node).map_or(&[][..], Vec::as_slice);
    if level == LEVELS_MAX && !below.is_empty() {
        text.push_str(&format!("{rest}{CUT_OFF}\n"));
        return;
    }
    for (at, child) in below.iter().enumerate() {
        let last = at + 1 == below.len();
        let (branch, stem) = if last { ("└── ", "    ") } else { ("├── ", "│   ") };
        let (first, rest) = (format!("{rest}{branch}"), format!("{rest}{stem}"));
        draw_below(child, level + 1, [&first, &rest], children, drawn, text);
    }
}

#[cfg(test)]
mod tests {
    use borgios_types::SecretKey;

    use super::*;

    fn place(number: u8, parent: Option<u8>) -> Place {
        let id = |number| SecretKey::from_seed([number; 32]).public();
        Place {
            node: id(number),
            name: format!("web-{number}"),
            address: Some(format!("10.0.0.{number}:7117")),
            parent: parent.map(id),
        }
    }

    /// What is drawn, without the keys.
    fn drawn(places: &Places) -> String {
        let lines = draw(places);
        lines
            .lines()
            .map(|line| line.rsplit_once("  ").map_or(line, |(l, _)| l).to_owned() + "\n")
            .collect()
    }

    #[test]
    fn the_tree_is_drawn_from_its_root() {
        let nodes = vec![place(1, None), place(2, Some(1)), place(3, Some(1)), place(4, Some(2))];
        let places = Places { nodes, silent: vec![], partial: false };
        assert_eq!(
            drawn(&places),
            "web-1  10.0.0.1:7117\n├── web-2  10.0.0.2:7117\n│   └── web-4  10.0.0.4:7117\n\
             └── web-3  10.0.0.3:7117\n4 servers\n"
        );
    }

    #[test]
    fn a_chain_of_invented_nodes_is_cut_off() {
        let ids: Vec<NodeId> = (0..3_000_u32)
            .map(|number| {
                let mut seed = [0; 32];
                seed[..4].copy_from_slice(&number.to_be_bytes());
                SecretKey::from_seed(seed).public()
            })
            .collect();
        let parents = std::iter::once(None).chain(ids.iter().copied().map(Some));
        let nodes = ids.iter().zip(parents).map(|(node, parent)| Place {
            node: *node,
            name: "web".into(),
            address: None,
            parent,
        });
        let text = draw(&Places { nodes: nodes.collect(), silent: vec![], partial: false });
        assert!(text.len() < 100_000, "{} bytes", text.len());
        assert!(text.contains("2936 nodes stand deeper"), "{}", &text[text.len() - 200..]);
    }

    #[test]
    fn liars_do_not_hang_the_drawing() {
        let nodes = vec![place(1, None), place(2, Some(3)), place(3, Some(2))];
        let places = Places { nodes, silent: vec![], partial: true };
        assert_eq!(
            drawn(&places),
            "web-1  10.0.0.1:7117\n2 nodes stand below each other, they say\n\
             1 server, not all of them\n"
        );
    }
}
