//! What `plan` and `status` print: for people, and as JSON in one line for bootstrap.sh.

use serde_json::{Value, json};

use super::apply::counts;
use super::catalogue::KINDS;
use super::failure::TakeoverError;
use super::finding::Finding;
use super::journal::Journal;
use super::machine::Machine;

/// Every finding, by kind.
pub(super) fn plan(found: &[Finding]) -> String {
    if found.is_empty() {
        return "nothing to take over".to_owned();
    }
    let mut text = String::new();
    for kind in KINDS {
        let own: Vec<_> = found.iter().filter(|one| one.kind == kind.name()).collect();
        if own.is_empty() {
            continue;
        }
        text.push_str(&format!("{:<16} {:>2}  {}\n", kind.name(), own.len(), kind.about()));
        for one in own {
            let forever = if one.reversible { "" } else { ", for good" };
            let pad = "";
            text.push_str(&format!("  {}\n    {}\n", one.path, one.what));
            text.push_str(&format!("{pad:4}-> {}{forever}\n", one.action));
        }
    }
    text.trim_end().to_owned()
}

/// The same for machines.
pub(super) fn plan_json(machine: &Machine, found: &[Finding]) -> String {
    let host = machine.text("/proc/sys/kernel/hostname").unwrap_or_default();
    json!({
        "host": super::finding::plain(host.trim()),
        "count": found.len(),
        "kinds": counts(found),
        "findings": found,
    })
    .to_string()
}

/// Where the take-over stands.
pub(super) fn status(machine: &Machine, as_json: bool) -> Result<String, TakeoverError> {
    let journal = Journal::read(machine)?;
    let state = journal.as_ref().map_or("none", Journal::name);
    let taking = journal.as_ref().map(Journal::taking);
    let (mut deadline, mut left, mut why, mut ended) = (None, None, None, None);
    let mut is_verified = false;
    match &journal {
        None | Some(Journal::Purging { .. }) => {}
        Some(Journal::Open { deadline: at, until_s, boot, .. }) => {
            deadline = Some(at.0);
            let is_now = *boot == machine.tools.boot();
            let uptime = machine.tools.uptime_s();
            left = Some(if is_now { until_s.saturating_sub(uptime) } else { 0 });
        }
        Some(Journal::Done { ended: at, verified, .. }) => {
            (ended, is_verified) = (Some(at.0), *verified);
        }
        Some(Journal::Aborting { why: reason, .. }) => why = Some(reason.clone()),
        Some(Journal::Aborted { why: reason, ended: at, .. }) => {
            (why, ended) = (Some(reason.clone()), Some(at.0));
        }
    }
    if as_json {
        let value: Value = json!({
            "state": state,
            "deadline": deadline,
            "remaining_s": left,
            "begun": taking.map(|taking| taking.begun.0),
            "ended": ended,
            "verified": is_verified,
            "sealed": taking.and_then(|taking| taking.sealed.clone()),
            "why": why.as_deref().map(super::finding::plain),
            "taken": counts(taking.map(|taking| taking.found.as_slice()).unwrap_or_default()),
        });
        return Ok(value.to_string());
    }
    let more = match (left, why, is_verified) {
        (Some(left), ..) => format!(", {left} s left"),
        (None, Some(why), _) => format!(": {why}"),
        (None, None, true) => ", verified".to_owned(),
        (None, None, false) => String::new(),
    };
    Ok(format!("{state}{more}"))
}
