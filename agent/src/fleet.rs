//! What this node knows of the fleet: each server's record and what its keeper says, and how many
//! are late with the shared root credential.

use borgios_policy::{Handover, Join, Lane, Object, Report, RotationReport};
use borgios_types::{Digest, Epoch, NodeId, Seq, UnixSeconds};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::{PAGE_BYTES, ok};
use crate::clock::unix_now;
use crate::ledger::Ledger;
use crate::roll::{Out, Standing};

/// Late servers that are named; the number tells of the others.
const LATE_NAMED: usize = 64;

/// The servers by their newest join records, each with what its keeper said last.
pub fn nodes(ledger: &Ledger, after: Option<Digest>) -> Value {
    let now = unix_now();
    let mut nodes = Vec::new();
    let mut bytes = 0;
    let mut last = None;
    let mut more = false;
    for stored in ledger.store().list(Join::KIND, after) {
        let Ok(join) = Join::parse(&stored.envelope) else { continue };
        let newest = ledger.store().owned(Join::KIND, &stored.owner).next_back();
        if newest.is_some_and(|newest| newest.id != stored.id) {
            continue;
        }
        let standing = ledger.standing(now, &join.node);
        let handover = newest_of::<Handover>(ledger, &stored.owner);
        let node = json!({
            "node": join.node,
            "name": join.name,
            "address": join.address,
            "keeper": join.keeper,
            "owner": ledger.first_join(&join.node).and_then(|first| first.owner),
            "issued": join.issued,
            "expires": join.expires,
            "lapsed": standing != Standing::Member,
            "departed": standing == Standing::Out(Out::Departed),
            "report": newest_of::<Report>(ledger, &stored.owner),
            "rotation": newest_of::<RotationReport>(ledger, &stored.owner),
            "handover": handover.map(|receipt| json!({
                "at": receipt.at, "host_keys": receipt.host_keys, "owner": receipt.owner,
            })),
        });
        let length = node.to_string().len() + 1;
        if bytes + length > PAGE_BYTES && !nodes.is_empty() {
            more = true;
            break;
        }
        bytes += length;
        last = Some(stored.id);
        nodes.push(node);
    }
    let behind = ledger.chain().head_seq(Lane::Release);
    ok(json!({
        "nodes": nodes,
        "members": ledger.members(now).len(),
        "release": (behind > Seq(0)).then_some(behind),
        "next": if more { last } else { None },
    }))
}

/// How the fleet follows the shared root credential.
#[derive(Clone, Debug, Serialize)]
pub struct Lateness {
    /// The epoch the others are measured by: the highest that any member reported.
    pub epoch: Option<Epoch>,
    /// What it was taken from.
    pub by: &'static str,
    /// Members that reported it.
    pub current: usize,
    /// Members that reported an earlier one.
    pub late_nodes: usize,
    /// Members that reported none.
    pub silent: usize,
    /// The late ones, the latest first, as many as are named.
    pub late: Vec<Late>,
}

/// A member that is late.
#[derive(Clone, Debug, Serialize)]
pub struct Late {
    /// Who.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// What it reported.
    pub epoch: Epoch,
    /// Epochs it is behind.
    pub epochs_behind: u64,
    /// Seconds since the first other member was due for the epoch they are measured by.
    pub late_s: u64,
    /// What its keeper says stands in the way.
    pub problem: Option<String>,
}

/// How many members are late, and which.
pub fn lateness(ledger: &Ledger, now: UnixSeconds) -> Lateness {
    let members = ledger.members(now);
    let all = members.len();
    let reported: Vec<(Join, RotationReport)> = members
        .into_values()
        .filter_map(|join| {
            let report = newest_of::<RotationReport>(ledger, &join.node.to_string())?;
            Some((join, report))
        })
        .collect();
    let epoch = reported.iter().map(|(_, report)| report.epoch).max();
    let at_it = |report: &RotationReport| Some(report.epoch) == epoch;
    let due = reported.iter().filter(|(_, report)| at_it(report)).map(|(_, r)| r.due).min();
    let current = reported.iter().filter(|(_, report)| at_it(report)).count();
    let silent = all - reported.len();
    let mut late: Vec<Late> = reported
        .into_iter()
        .filter(|(_, report)| !at_it(report))
        .map(|(join, report)| Late {
            node: join.node,
            name: join.name.to_string(),
            epoch: report.epoch,
            epochs_behind: epoch.map_or(0, |epoch| epoch.0.saturating_sub(report.epoch.0)),
            late_s: due.map_or(0, |due| now.0.saturating_sub(due.0)),
            problem: report.problem.map(|problem| problem.chars().take(200).collect()),
        })
        .collect();
    late.sort_by_key(|late| late.epoch);
    let late_nodes = late.len();
    late.truncate(LATE_NAMED);
    Lateness { epoch, by: "reports", current, late_nodes, silent, late }
}

fn newest_of<T: Object>(ledger: &Ledger, owner: &str) -> Option<T> {
    let newest = ledger.store().owned(T::KIND, owner).next_back()?;
    T::parse(&newest.envelope).ok()
}
