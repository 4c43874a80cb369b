//! `borgios nodes`: the servers, one line each.

use std::collections::BTreeMap;

use borgios_types::{NodeId, Seq, UnixSeconds};
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::{Failure, OrFail as _};
use crate::printer::{one_line, table};
use crate::transport::api::Door;
use crate::transport::listing::Listing;

/// Most pages asked for; a node that never stops answering is not followed for ever.
const PAGES_MAX: usize = 1_000;

/// The servers
#[derive(Debug, Args)]
pub(crate) struct Nodes {}

/// One page of the members.
#[derive(Debug, Deserialize)]
struct Page {
    nodes: Vec<Value>,
    #[serde(default)]
    release: Option<Seq>,
    #[serde(default)]
    next: Option<Value>,
}

/// One member, by its newest join record and its keeper's last report.
#[derive(Debug, Deserialize)]
struct Member {
    node: NodeId,
    name: String,
    #[serde(default)]
    address: Option<String>,
    expires: UnixSeconds,
    #[serde(default)]
    lapsed: bool,
    #[serde(default)]
    report: Option<Reported>,
    /// As agents from issue 3 on say; absent where an older one is asked.
    #[serde(default)]
    handover: Option<Value>,
    #[serde(default)]
    rotation: Option<Value>,
    #[serde(default)]
    evicted: Option<Value>,
    #[serde(default)]
    departed: Option<Value>,
}

/// What a keeper said last.
#[derive(Debug, Deserialize)]
struct Reported {
    release: Seq,
    outcome: String,
    #[serde(default)]
    reason: Option<String>,
}

impl Nodes {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut door = context.door()?;
        let (nodes, release) = ask(door.as_mut())?;
        let mut rows = Vec::new();
        for node in &nodes {
            let member: Member = serde_json::from_value(node.clone())
                .or_fail(|| format!("{} sent a node that is none", door.name()))?;
            rows.push(row(&member));
        }
        rows.sort();
        let mut text = table(["server", "address", "member", "root", "release", "key"], &rows);
        let newest = release.map(|release| format!(", newest is release/{release}"));
        text.push_str(&format!("{} servers{}\n", rows.len(), newest.unwrap_or_default()));
        context.printer.answer(&json!({"nodes": nodes, "release": release}), &text)
    }
}

/// One node of an answer as it is shown, for the fuzzer.
#[cfg(feature = "fuzz")]
pub(crate) fn shown(node: &Value) -> Result<String, serde_json::Error> {
    serde_json::from_value(node.clone()).map(|member| row(&member).join(" "))
}

/// Every member, each once: the newest record, if pages overlap.
fn ask(door: &mut dyn Door) -> Result<(Vec<Value>, Option<Seq>), Failure> {
    let mut nodes: BTreeMap<String, Value> = BTreeMap::new();
    let mut release = None;
    let (mut request, mut listing) = (json!({"get": "nodes"}), Listing::begun());
    for _ in 0..PAGES_MAX {
        let page: Page = serde_json::from_value(listing.page(door, &request)?)
            .or_fail(|| format!("{} sent no list of nodes", door.name()))?;
        release = page.release.or(release);
        let empty = page.nodes.is_empty();
        for node in page.nodes {
            nodes.insert(node["node"].as_str().unwrap_or_default().to_owned(), node);
        }
        match page.next {
            Some(next) if !empty && !next.is_null() => {
                request = json!({"get": "nodes", "after": next});
            }
            _ => break,
        }
    }
    Ok((nodes.into_values().collect(), release))
}

/// Whether something is said and not denied: `true`, a date, an id.
fn is_so(value: Option<&Value>) -> bool {
    value.is_some_and(|value| !value.is_null() && *value != Value::Bool(false))
}

/// Whose root is, and which epoch it carries.
fn root(member: &Member) -> String {
    let epoch = member.rotation.as_ref().and_then(|report| report.get("epoch")?.as_u64());
    match epoch {
        Some(epoch) => format!("epoch {epoch}"),
        None if is_so(member.handover.as_ref()) => "handed over".to_owned(),
        None => "no receipt".to_owned(),
    }
}

fn row(member: &Member) -> [String; 6] {
    let until = if is_so(member.evicted.as_ref()) {
        "evicted".to_owned()
    } else if is_so(member.departed.as_ref()) {
        "departed".to_owned()
    } else if member.lapsed {
        format!("lapsed {}", member.expires)
    } else {
        format!("until {}", member.expires)
    };
    let release = match &member.report {
        None => "no report".to_owned(),
        Some(report) => {
            let reason = report.reason.as_deref().map(|reason| format!(": {reason}"));
            let reason: String = reason.unwrap_or_default().chars().take(60).collect();
            format!("{} {}{reason}", report.release, report.outcome)
        }
    };
    let address = member.address.as_deref().unwrap_or("cannot be dialled");
    [&member.name, address, &until, &root(member), &release, &member.node.short()].map(one_line)
}
