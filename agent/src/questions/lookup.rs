//! Where one node stands: looked for through the tree, and compared with what its record says.

use std::time::{Duration, Instant};

use borgios_peertree::question::{Findings, Place, Question};
use borgios_policy::Join;
use borgios_types::NodeId;
use serde_json::{Value, json};

use super::report::Turnout;
use crate::api::{Parts, error, ok};
use crate::clock::unix_now;
use crate::ledger::Ledger;
use crate::roll::{Out, Standing};

/// Fewest characters of a fingerprint that name a node.
const PRINT_MIN: usize = 6;
/// Nodes named where a word means several.
const SEVERAL_NAMED: usize = 8;

/// Who is meant by a word: a name, a key, or the first characters of its fingerprint.
fn find(ledger: &Ledger, word: &str) -> Result<NodeId, Value> {
    if let Ok(node) = word.parse::<NodeId>() {
        return Ok(node);
    }
    let print = word.strip_prefix("SHA256:").unwrap_or(word);
    let fits = |join: &Join| {
        let named = join.name == *word;
        let long = print.len() >= PRINT_MIN;
        named || long && join.node.fingerprint()["SHA256:".len()..].starts_with(print)
    };
    let known = ledger.newest_joins();
    let meant: Vec<&Join> = known.values().filter(|join| fits(join)).collect();
    // A reinstalled host is a new node of the same name: whoever is no member steps back.
    let now = unix_now();
    let members: Vec<&Join> = meant
        .iter()
        .filter(|join| ledger.standing(now, &join.node) == Standing::Member)
        .copied()
        .collect();
    let meant = if members.is_empty() { meant } else { members };
    match meant.as_slice() {
        [one] => Ok(one.node),
        [] => {
            let word: String = word.chars().take(80).collect();
            let why = format!("no join record here is of {word:?}; `borgios nodes` lists all");
            Err(error("not_found", &why))
        }
        several => {
            let prints = several.iter().take(SEVERAL_NAMED).map(|join| join.node.fingerprint());
            let prints = prints.collect::<Vec<_>>().join(", ");
            let count = several.len();
            let why = format!("{count} nodes are called so; name one by its fingerprint: {prints}");
            Err(error("ambiguous", &why))
        }
    }
}

/// Looks for a node and tells the tool.
pub async fn show(parts: &Parts, word: &str, within: Duration) -> Value {
    let text = word.to_owned();
    let node = match parts.ledger.run(move |ledger| find(ledger, &text)).await {
        Ok(node) => node,
        Err(refusal) => return refusal,
    };
    let begun = Instant::now();
    let Some(findings) = parts.questions.ask(Question::Find { node }, within).await else {
        return error("busy", "this node works on as many questions as it can; ask again");
    };
    let took = begun.elapsed();
    parts.ledger.run(move |ledger| ok(told(ledger, node, &findings, took))).await
}

fn told(ledger: &Ledger, node: NodeId, findings: &Findings, took: Duration) -> Value {
    let now = unix_now();
    let standing = match ledger.standing(now, &node) {
        Standing::Stranger => "stranger",
        Standing::Member => "member",
        Standing::Lapsed => "lapsed",
        Standing::Out(out) => Out::code(out),
    };
    let join = ledger.join_of(&node);
    let record = join.as_ref().map(|join| {
        json!({
            "issued": join.issued, "expires": join.expires, "invitation": join.invitation,
            "keeper": join.keeper, "owner": ledger.first_join(&node).and_then(|first| first.owner),
        })
    });
    // Its name and address are what its record says, not what anybody answers.
    let mut value = json!({
        "node": node,
        "name": join.as_ref().map(|join| join.name.to_string()),
        "address": join.as_ref().and_then(|join| join.address.clone()),
        "standing": standing,
        "record": record,
        "found": !findings.places.nodes.is_empty(),
        "claims": findings.places.nodes.len(),
        "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    });
    let named = |node: &NodeId| {
        let name = ledger.join_of(node).map(|join| join.name.to_string());
        json!({"node": node, "name": name})
    };
    match findings.places.nodes.first() {
        Some(Place { parent, depth, hops, detail, .. }) => {
            value["place"] = json!({
                "parent": parent.as_ref().map(named),
                "depth": depth,
                "hops": hops.unwrap_or(0),
            });
            if let Some(detail) = detail {
                value["place"]["path"] = detail.path.iter().map(named).collect();
                value["place"]["children"] = json!(detail.children);
                value["place"]["attached_s"] = json!(detail.attached_s);
                value["runs"] = json!({
                    "version": detail.version, "release": detail.release, "epoch": detail.epoch,
                    "uptime_s": detail.uptime_s,
                });
            }
        }
        None => {
            let turnout = Turnout::of(&findings.tally, &ledger.members(now));
            value["turnout"] = json!(turnout);
        }
    }
    value
}
