//! What this node knows of the fleet: each server's record and what its keeper says, and how many
//! are late with the shared root credential.

use std::cmp::Reverse;

use borgios_credentials::{Orders, Schedule};
use borgios_policy::{Chain, Credential, Handover, Join, Lane, Object, Report, RotationReport};
use borgios_types::{Digest, Epoch, NodeId, PublicKey, Seq, UnixSeconds};
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
    /// The epoch the fleet should be at, or is: the highest that any member should or did report.
    pub epoch: Option<Epoch>,
    /// What lateness is measured by: `schedule`, each member by its own moment of change; or, where
    /// the schedule is not here, `reports`, everyone by whoever reported the highest epoch.
    pub by: &'static str,
    /// Members that reported what they should carry.
    pub current: usize,
    /// Members that reported an earlier epoch.
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
    /// Seconds since it was due.
    pub late_s: u64,
    /// What its keeper says stands in the way.
    pub problem: Option<String>,
}

/// How many members are late, and which.
pub fn lateness(ledger: &Ledger, now: UnixSeconds, schedule: Option<&Schedule>) -> Lateness {
    let members = ledger.members(now);
    let all = members.len();
    let reported: Vec<(Join, RotationReport)> = members
        .into_values()
        .filter_map(|join| {
            let report = newest_of::<RotationReport>(ledger, &join.node.to_string())?;
            Some((join, report))
        })
        .collect();
    let highest = reported.iter().map(|(_, report)| (report.epoch, Reverse(report.due))).max();
    let (orders, now) = (orders(ledger.chain()), now.max(ledger.chain().now_floor()));
    // What this member should carry, and since when.
    let wanted = |report: &RotationReport| match schedule {
        Some(schedule) => {
            let current = schedule.current(now, &orders, &report.keeper);
            (current.epoch, current.due)
        }
        None => highest.map_or((report.epoch, report.due), |(epoch, due)| (epoch, due.0)),
    };
    let epoch = reported.iter().map(|(_, report)| wanted(report).0).max();
    let silent = all - reported.len();
    let mut late: Vec<Late> = reported
        .iter()
        .filter_map(|(join, report)| {
            let (epoch, due) = wanted(report);
            let epochs_behind = epoch.0.saturating_sub(report.epoch.0);
            (epochs_behind > 0).then(|| Late {
                node: join.node,
                name: join.name.to_string(),
                epoch: report.epoch,
                epochs_behind,
                late_s: now.0.saturating_sub(due.0),
                problem: report.problem.as_ref().map(|why| why.chars().take(200).collect()),
            })
        })
        .collect();
    late.sort_by_key(|late| Reverse((late.epochs_behind, late.late_s)));
    let late_nodes = late.len();
    late.truncate(LATE_NAMED);
    let by = if schedule.is_some() { "schedule" } else { "reports" };
    let current = reported.len() - late_nodes;
    Lateness { epoch, by, current, late_nodes, silent, late }
}

/// The epoch that the server of this keeper should carry, and since when.
#[must_use]
pub fn due(
    ledger: &Ledger,
    now: UnixSeconds,
    schedule: &Schedule,
    keeper: &PublicKey,
) -> (Epoch, UnixSeconds) {
    let now = now.max(ledger.chain().now_floor());
    let current = schedule.current(now, &orders(ledger.chain()), keeper);
    (current.epoch, current.due)
}

/// What the board ordered on top of the clock.
fn orders(chain: &Chain) -> Orders {
    let mut orders = Orders { revealed: chain.reveals(), ..Orders::default() };
    for verified in chain.after(Lane::Credential, Seq(0)) {
        let Ok(credential) = Credential::of(verified.statement()) else { continue };
        if credential.min_epoch > orders.min_epoch {
            orders.min_epoch = credential.min_epoch;
            orders.min_since = verified.statement().issued;
        }
    }
    orders
}

fn newest_of<T: Object>(ledger: &Ledger, owner: &str) -> Option<T> {
    let newest = ledger.store().owned(T::KIND, owner).next_back()?;
    T::parse(&newest.envelope).ok()
}
