//! `borgios status`: how one node does; on a governor's laptop also which votes wait for their ballot.

use borgios_types::UnixSeconds;
use clap::Args;
use serde_json::{Value, json};

use crate::context::Context;
use crate::deadlines;
use crate::failure::Failure;
use crate::printer::one_line;
use crate::span;

/// Most late servers named; `--json` and `borgios credential status` have more.
const LATE_SHOWN: usize = 3;

/// How one node does
#[derive(Debug, Args)]
pub(crate) struct Status {}

impl Status {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let (now, reminders) = (context.now(), deadlines::at_hand(context));
        let lines: Vec<String> = reminders.iter().map(|one| one.line(now)).collect();
        let asked = context.door().and_then(|mut door| door.ask(&json!({"get": "status"})));
        let mut status = asked.inspect_err(|_| {
            // Whoever is reminded needs no server for it.
            lines.iter().for_each(|line| context.printer.say(line));
        })?;
        let mut text = describe(&status);
        lines.iter().for_each(|line| text.push_str(&format!("{line}\n")));
        if let Some(fields) = status.as_object_mut().filter(|_| !reminders.is_empty()) {
            let rows = reminders.iter().map(|one| one.to_json(now)).collect();
            fields.insert("reminders".to_owned(), Value::Array(rows));
        }
        context.printer.answer(&status, &text)
    }
}

/// The fields that people ask for first; `--json` has all of them. An agent of another version may
/// lack some, and then their lines are left out.
pub(crate) fn describe(status: &Value) -> String {
    let word = |pointer: &str| status.pointer(pointer).map(plain).filter(|text| text != "null");
    let or_unknown = |pointer: &str| word(pointer).unwrap_or_else(|| "?".to_owned());
    let mut lines = vec![format!(
        "{}  {}  borgiosd {}, up {}",
        or_unknown("/name"),
        word("/address").unwrap_or_else(|| "cannot be dialled".to_owned()),
        or_unknown("/version"),
        duration(status["uptime_s"].as_u64().unwrap_or_default())
    )];
    let mut line = |name: &str, text: Option<String>| {
        lines.extend(text.map(|text| format!("  {name:<10} {}", one_line(&text))));
    };
    line("network", word("/network"));
    line("node", word("/node"));
    line("tree", Some(tree(&status["tree"])));
    line("heads", Some(heads(&status["heads"])).filter(|heads| !heads.is_empty()));
    match &status["keeper"] {
        Value::Null => {
            line("keeper", Some("does not answer; see journalctl -u borgios-keeper".into()))
        }
        keeper => {
            root_lines(keeper, &mut line);
            keeper_lines(keeper, &mut line);
        }
    }
    line("fleet", fleet(&status["credential"]["fleet"]));
    lines[0] = one_line(&lines[0]);
    lines.join("\n") + "\n"
}

fn keeper_lines(keeper: &Value, line: &mut impl FnMut(&str, Option<String>)) {
    let verified = heads(&keeper["heads"]);
    line("verified", Some(verified).filter(|heads| !heads.is_empty()));
    let installed = match keeper["installed"].as_u64() {
        None | Some(0) => "no release yet".to_owned(),
        Some(seq) => format!("release/{seq}"),
    };
    line("installed", Some(installed));
    let last = &keeper["last"];
    if let Some(outcome) = last["outcome"].as_str() {
        let reason = last["reason"].as_str().map(|reason| format!(": {reason}"));
        let text =
            format!("release/{} {outcome}{}", plain(&last["release"]), reason.unwrap_or_default());
        line("last", Some(text));
    }
    let release = plain(&keeper["activity"]["seq"]);
    match keeper["activity"]["doing"].as_str() {
        Some("waiting") => line("doing", Some(format!("waits for the blobs of release/{release}"))),
        Some("installing") => {
            let step = plain(&keeper["activity"]["step"]);
            line("doing", Some(format!("installs release/{release}: {step}")));
        }
        _ => {}
    }
    for held in keeper["held"].as_array().into_iter().flatten() {
        line("held", Some(held_back(held)));
    }
    if let Some(needed) = keeper["heard"]["needed"].as_u64() {
        let fresh = keeper["heard"]["fresh"].as_u64().unwrap_or_default();
        let stale = if fresh < needed { ": stale, no release is installed" } else { "" };
        line("governors", Some(format!("{fresh} heard of lately, {needed} needed{stale}")));
    }
    line("recovery", silence(&keeper["silence"]));
    if let Some(problem) = keeper.get("problem").filter(|problem| !problem.is_null()) {
        let text = problem["message"].as_str().map_or_else(|| problem.to_string(), str::to_owned);
        line("problem", Some(text));
    }
}

/// Why a signed statement is not in force yet: `release/3 waits until …`.
pub(crate) fn held_back(held: &Value) -> String {
    let place = format!("{}/{}", plain(&held["lane"]), plain(&held["seq"]));
    let until = || held["until"].as_u64().map_or("?".to_owned(), |at| UnixSeconds(at).to_string());
    let names = || {
        let names = held["by"].as_array().into_iter().flatten().map(plain);
        names.collect::<Vec<_>>().join(", ")
    };
    let how = match held["state"].as_str().unwrap_or("?") {
        "waiting" => format!("is locked until {}", until()),
        "paused" => format!("is paused by {} until {}", names(), until()),
        "vetoed" => match held["back"].as_u64().map(UnixSeconds) {
            Some(at) => {
                format!(
                    "was vetoed by {}, and the board built upon it: comes back at {at}",
                    names()
                )
            }
            None => format!("was vetoed by {}: dead here", names()),
        },
        "frozen" => "is frozen: two are signed for its place; a policy must settle it".to_owned(),
        "stale" => "waits for signs of life of the board".to_owned(),
        "behind" => "waits for what comes before it".to_owned(),
        "expired" => "expired while it waited".to_owned(),
        "refused" => format!("does not hold under the rules in force: {}", plain(&held["why"])),
        other => format!("is {other}"),
    };
    if held["recovery"] == true {
        let since = held["seen"].as_u64().map_or("?".to_owned(), |at| UnixSeconds(at).to_string());
        return format!(
            "{place} {how}; the RECOVERY key signed it, and not the board. Here since {since}. Any sign \
             of life of a governor of the board in force ends it: `borgios beacon`, or `borgios veto \
             {place}`"
        );
    }
    format!("{place} {how}")
}

/// How long the board has been silent, where a recovery key may speak in its place.
fn silence(silence: &Value) -> Option<String> {
    let (silent, needed) = (silence["silent_s"].as_u64()?, silence["needed_s"].as_u64()?);
    let text = format!(
        "the board silent for {} of the {} after which its recovery key may speak",
        span::words(silent),
        span::words(needed)
    );
    Some(if silent == 0 { "a recovery key; the board is not silent".to_owned() } else { text })
}

/// What the keeper says of root: whose it is, which epoch it carries, who may enter.
fn root_lines(keeper: &Value, line: &mut impl FnMut(&str, Option<String>)) {
    match keeper["handed_over"].as_bool() {
        Some(true) => line("root", Some("handed over to the board".into())),
        Some(false) => line("root", Some("not handed over: its owner still holds it".into())),
        None => {}
    }
    let credential = &keeper["credential"];
    if let Some(epoch) = credential["epoch"].as_u64() {
        let date = |field: &str| credential[field].as_u64().map(UnixSeconds);
        let mut text = format!("epoch {epoch}");
        text.push_str(&match date("next") {
            Some(next) => format!(", next at {next}"),
            None => ", the last of its schedule".to_owned(),
        });
        let late = date("changed").zip(date("due")).map(|(at, due)| at.0.saturating_sub(due.0));
        if let Some(late) = late.filter(|late| *late > 0) {
            text.push_str(&format!(", changed {} after it was due", span::words(late)));
        }
        if credential["exhausted"] == true {
            text.push_str("; the schedule ends: deal the next one");
        }
        line("credential", Some(text));
        if let Some(problem) = credential["problem"].as_str() {
            line("problem", Some(format!("the credential: {problem}")));
        }
    }
    for grant in keeper["access"].as_array().into_iter().flatten() {
        let before = grant["before"].as_u64().map(|before| UnixSeconds(before).to_string());
        line(
            "access",
            Some(format!(
                "access/{} {}, {} of {} witnesses, until {}",
                plain(&grant["seq"]),
                grant["state"].as_str().unwrap_or("?"),
                plain(&grant["witnesses"]),
                plain(&grant["needed"]),
                before.unwrap_or_else(|| "?".to_owned())
            )),
        );
    }
}

/// How the fleet follows the schedule, as its keepers' reports say that this node has heard.
fn fleet(fleet: &Value) -> Option<String> {
    let current = fleet["current"].as_u64()?;
    let number = |field: &str| fleet[field].as_u64().unwrap_or_default();
    let mut text = format!("{current} in step");
    if let Some(epoch) = fleet["epoch"].as_u64() {
        text.push_str(&format!(" at epoch {epoch}"));
    }
    text.push_str(&format!(", {} late, {} never said", number("late_nodes"), number("silent")));
    let late = fleet["late"].as_array().into_iter().flatten();
    let names = late.take(LATE_SHOWN).map(|late| {
        let by = late["late_s"].as_u64().map(span::words).unwrap_or_else(|| "?".to_owned());
        format!("; {} at epoch {}, {by}", plain(&late["name"]), plain(&late["epoch"]))
    });
    text.extend(names);
    Some(text)
}

fn tree(tree: &Value) -> String {
    let mut text = tree["state"].as_str().unwrap_or("?").to_owned();
    if tree["is_root"] == true {
        text.push_str(" as the root");
    } else if let Some(depth) = tree["depth"].as_u64().filter(|depth| *depth > 0) {
        text.push_str(&format!(", {depth} below the root"));
    }
    let children = tree["children"].as_array().map_or(0, Vec::len);
    let size = tree["size"].as_u64().unwrap_or_default();
    text.push_str(&format!(", {children} children, {size} in the tree"));
    text
}

/// `policy/1, release/2`.
fn heads(heads: &Value) -> String {
    let lanes = heads.as_object().into_iter().flatten();
    let places = lanes.map(|(lane, head)| format!("{lane}/{}", plain(&head["seq"])));
    places.collect::<Vec<_>>().join(", ")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The largest unit that is not zero.
fn duration(seconds: u64) -> String {
    for (unit, length) in [("d", 86_400), ("h", 3_600), ("min", 60)] {
        if seconds >= length {
            return format!("{} {unit}", seconds / length);
        }
    }
    format!("{seconds} s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_its_keeper_says_so() {
        let status = json!({
            "name": "web-1", "address": "10.0.0.1:7117", "version": "0.1.0", "uptime_s": 7200,
            "heads": {"policy": {"seq": 1}, "release": {"seq": 2}}, "keeper": null,
            "tree": {"state": "attached", "depth": 1, "children": ["a"], "size": 3},
        });
        assert_eq!(
            describe(&status),
            "web-1  10.0.0.1:7117  borgiosd 0.1.0, up 2 h\n\
             \x20 tree       attached, 1 below the root, 1 children, 3 in the tree\n\
             \x20 heads      policy/1, release/2\n\
             \x20 keeper     does not answer; see journalctl -u borgios-keeper\n"
        );
    }

    #[test]
    fn a_failed_install_is_told() {
        let status = json!({"keeper": {
            "installed": 1, "heads": {"release": {"seq": 2}},
            "last": {"release": 2, "outcome": "rolled_back", "reason": "not well"},
        }});
        let text = describe(&status);
        assert!(text.contains("installed  release/1"), "{text}");
        assert!(text.contains("last       release/2 rolled_back: not well"), "{text}");
    }

    #[test]
    fn root_and_its_credential_are_told() {
        let keeper = json!({
            "handed_over": true,
            "credential": {"epoch": 7, "due": 100, "changed": 190, "next": 1_795_000_000,
                "problem": "/etc is read-only"},
            "access": [{"seq": 3, "state": "open", "witnesses": 2, "needed": 2,
                "before": 1_795_000_900}],
        });
        let text = describe(&json!({"keeper": keeper, "credential": {"fleet": {
            "epoch": 7, "current": 4, "late_nodes": 1, "silent": 0,
            "late": [{"name": "web-2", "epoch": 6, "late_s": 70}]}}}));
        for wanted in [
            "root       handed over",
            "credential epoch 7, next at 2026-11-18T11:06:40Z, changed 1 min 30 s after",
            "problem    the credential: /etc is read-only",
            "access     access/3 open, 2 of 2 witnesses",
            "fleet      4 in step at epoch 7, 1 late, 0 never said; web-2 at epoch 6, 1 min 10 s",
        ] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }

    #[test]
    fn a_policy_of_the_recovery_key_is_told_with_what_ends_it() {
        let held = json!({"lane": "policy", "seq": 3, "seen": 1_795_000_000, "recovery": true,
            "state": "waiting", "until": 1_796_000_000});
        let keeper =
            json!({"held": [held], "silence": {"silent_s": 86_400, "needed_s": 5_184_000}});
        let text = describe(&json!({"keeper": keeper}));
        for wanted in [
            "held       policy/3 is locked until 2026-11-30T00:53:20Z; the RECOVERY key signed it",
            "Here since 2026-11-18T11:06:40Z",
            "`borgios veto policy/3`",
            "recovery   the board silent for 1 d of the 60 d after which",
        ] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
        let quiet = json!({"keeper": {"silence": {"silent_s": 0, "needed_s": 5_184_000}}});
        assert!(describe(&quiet).contains("recovery   a recovery key; the board is not silent"));
    }

    #[test]
    fn a_name_forges_no_line() {
        let text = describe(&json!({"name": "web-1\n  verified   release/9"}));
        assert!(!text.contains("\n  verified"), "{text}");
    }

    #[test]
    fn any_answer_can_be_described() {
        for odd in [json!(null), json!([]), json!({"tree": 1, "keeper": [], "heads": "x"})] {
            assert!(describe(&odd).ends_with('\n'));
        }
    }
}
