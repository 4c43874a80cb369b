//! A policy in words: what each rule says, and which rules a new one changes.
//!
//! It works on the body's own fields, so that a rule of a later version is shown by its name and
//! value, not hidden.

use std::collections::{BTreeMap, BTreeSet};

use borgios_policy::{Chain, Lane, Policy};
use borgios_types::Seq;
use serde_json::Value;

use crate::changes::board::{self, Shift, governors};
use crate::printer::one_line;
use crate::span;

/// What a rule is called in the body, and in words. `{}` is the lane or class.
const RULES: [(&str, &str); 21] = [
    ("fanout", "fanout"),
    ("witnesses", "witnesses of a grant"),
    ("classes.offline.approvals", "approvals of a grant that nobody else saw"),
    ("classes.emergency.approvals", "approvals of an emergency release"),
    ("classes.*.approvals", "approvals of a {}"),
    ("classes.*.lock_s", "lock before a {} is applied"),
    ("classes.*.veto", "vetoes that kill a {}"),
    ("classes.*.rebuilds", "matching rebuilds of a {}"),
    ("classes.*.deadline_s", "reminder of a vote on a {} after"),
    ("freshness.beacons", "governors who must have been heard of"),
    ("freshness.max_age_s", "heard of within"),
    ("pause_s", "longest pause by one governor"),
    ("admission.inviters", "who may invite servers"),
    ("admission.uses_max", "most uses of an invitation"),
    ("admission.lifetime_s", "longest life of an invitation"),
    ("recovery.group", "recovery key"),
    ("recovery.silence_s", "silence before the recovery key counts"),
    ("recovery.lock_s", "public lock of the recovery key"),
    ("board.threshold", "threshold"),
    ("board.group", "group key"),
    ("board.epoch", "key epoch"),
];

/// Most statements that still count which are named in the log: more than that nobody reads.
const PLACES_TOLD: usize = 8;

/// Rule by rule: what changed first, then what stays.
pub(crate) fn changes(old: Option<&Value>, new: &Value) -> Vec<String> {
    let Some(old) = old else {
        return std::iter::once("the first policy".to_owned()).chain(rules(new)).collect();
    };
    let (was, is) = (flat(old), flat(new));
    let keys: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let (mut changed, mut same) = (Vec::new(), Vec::new());
    for key in keys {
        let name = named(key);
        match (was.get(key), is.get(key)) {
            (Some(was), Some(is)) if was == is => same.push(format!("same      {name} {is}")),
            (Some(was), Some(is)) => changed.push(format!("changed   {name} {was} → {is}")),
            (None, Some(is)) => changed.push(format!("added     {name} {is}")),
            (Some(was), None) => changed.push(format!("removed   {name}, was {was}")),
            (None, None) => {}
        }
    }
    let shift = Shift::between(old, new);
    let mut lines: Vec<String> = shift.iter().map(|s| format!("board     {}", s.words())).collect();
    lines.extend(members(old, new));
    lines.extend(changed);
    lines.extend(rulings(old, new).into_iter().map(|ruling| format!("settled   {ruling}")));
    lines.extend(united(old, new).into_iter().map(|id| format!("united    {}", words_of(&id))));
    lines.extend(carried(old, new).into_iter().map(|id| format!("carried   {id} still counts")));
    lines.extend(same);
    lines
}

/// What was signed since a policy was proposed that its rulings take back here, one line each: who
/// wrote them did not know of it.
pub(crate) fn taken_back(chain: &Chain, policy: &Policy) -> Vec<String> {
    let there = policy.rulings.iter().filter_map(|ruling| {
        let verified = chain.get(ruling.lane, ruling.seq)?;
        (ruling.winner != Some(verified.id())).then(|| {
            let (lane, seq, id) = (ruling.lane, ruling.seq, verified.id());
            format!("TAKES     {lane}/{seq} {} back, which is signed and in force", id.short())
        })
    });
    there.collect()
}

/// What a policy changed, line by line for the log: the board, then what is settled, the rules and
/// what still counts.
pub(crate) fn summary(chain: &Chain, old: Option<&Value>, new: &Value) -> Vec<String> {
    let Some(old) = old else { return vec![format!("the first policy: {}", board::first(new))] };
    let mut told: Vec<String> = Shift::between(old, new).iter().map(Shift::to_string).collect();
    told.extend(rulings(old, new));
    told.extend(united(old, new).iter().map(|id| words_of(id)));
    let (was, is) = (flat(old), flat(new));
    let keys: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    for key in keys.into_iter().filter(|key| !key.starts_with("board.")) {
        let name = named(key);
        match (was.get(key), is.get(key)) {
            (Some(was), Some(is)) if was != is => told.push(format!("changed {name} {was} → {is}")),
            (None, Some(is)) => told.push(format!("added {name} {is}")),
            (Some(was), None) => told.push(format!("removed {name}, was {was}")),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
    told.extend(still_counts(chain, &carried(old, new)));
    if told.is_empty() {
        told.push("nothing changes".to_owned());
    }
    told
}

/// What was signed before and still counts: by its places, where they are few and known.
fn still_counts(chain: &Chain, carried: &[String]) -> Option<String> {
    let place = |id: &String| chain.known(&id.parse().ok()?);
    let known: Option<BTreeSet<(Lane, Seq)>> = carried.iter().map(place).collect();
    let known = known.filter(|known| known.len() <= PLACES_TOLD);
    let who = known.map(|known| {
        let places: Vec<String> = known.iter().map(|(lane, seq)| format!("{lane}/{seq}")).collect();
        board::and(&places)
    });
    match (carried.len(), who) {
        (0, _) => None,
        (1, Some(place)) => Some(format!("{place} was signed before and still counts")),
        (_, Some(places)) => Some(format!("{places} were signed before and still count")),
        (1, None) => Some("one statement that was signed before still counts".to_owned()),
        (count, None) => Some(format!("{count} statements that were signed before still count")),
    }
}

/// Every rule of one policy.
fn rules(body: &Value) -> Vec<String> {
    flat(body).iter().map(|(key, value)| format!("rule      {} {value}", named(key))).collect()
}

/// The board's members, in words.
fn members(old: &Value, new: &Value) -> Vec<String> {
    let (was, is) = (governors(old), governors(new));
    let mut lines = Vec::new();
    for (name, (key, share)) in &is {
        match was.get(name) {
            None => lines.push(format!("added     governor {name}, with the key {key}")),
            Some((before, _)) if before != key => {
                lines.push(format!("changed   governor {name} has another identity key: {key}"));
            }
            Some((_, before)) if before != share => {
                lines.push(format!("changed   governor {name} gets a share of the new group key"));
            }
            Some(_) => {}
        }
    }
    let (had, has) = (board::identities(old), board::identities(new));
    for (name, (recipient, former)) in &has {
        let before = had.get(name);
        if before.is_some_and(|(before, _)| before != recipient) {
            lines.push(format!("changed   what is sealed to governor {name} goes to {recipient}"));
        }
        let new_ones = former.iter().filter(|key| before.is_none_or(|(_, was)| !was.contains(key)));
        lines.extend(new_ones.map(|key| {
            format!("changed   ballots that {key} signed count as those of governor {name}")
        }));
    }
    for name in was.keys().filter(|name| !is.contains_key(*name)) {
        lines.push(format!("removed   governor {name}: ballots cast afterwards count no more"));
    }
    lines
}

/// The ids that a policy carries and the one before it did not.
fn carried(old: &Value, new: &Value) -> Vec<String> {
    ids("carried", old, new)
}

/// The ids of policies that this one unites with the one before it.
fn united(old: &Value, new: &Value) -> Vec<String> {
    ids("unites", old, new)
}

fn words_of(united: &str) -> String {
    format!("servers with {united} in the place of the policy before go on with this one too")
}

/// The ids in the list `field` that the policy before does not name there.
fn ids(field: &str, old: &Value, new: &Value) -> Vec<String> {
    let list = |body: &Value| -> BTreeSet<String> {
        let ids = body.get(field).and_then(Value::as_array);
        ids.into_iter().flatten().filter_map(Value::as_str).map(one_line).collect()
    };
    let (was, is) = (list(old), list(new));
    is.difference(&was).cloned().collect()
}

/// What a policy says of single places, in words. A ruling is an act and no rule: what the policy
/// before said is done.
fn rulings(old: &Value, new: &Value) -> Vec<String> {
    let list = |body: &Value| body.get("rulings").and_then(Value::as_array).cloned();
    let was = list(old).unwrap_or_default();
    let new_ones = list(new).unwrap_or_default().into_iter().filter(|one| !was.contains(one));
    new_ones.map(|one| ruling(&one)).collect()
}

fn ruling(ruling: &Value) -> String {
    let part = |field: &str| plain(ruling.get(field).unwrap_or(&Value::Null));
    let mut place = format!("{}/{}", part("lane"), part("seq"));
    if let Some(by) = ruling.get("by") {
        let seq = by.get("policy").map_or_else(|| "?".to_owned(), plain);
        place = format!("as policy/{seq} said, {place}");
    }
    match ruling.get("winner").and_then(Value::as_str) {
        Some(winner) => format!("{place} is {}, and nothing else", one_line(winner)),
        None => format!("{place} is closed: nothing signed or voted on for it counts"),
    }
}

/// Every rule but the members, rulings, and what is united and carried, by its path.
fn flat(body: &Value) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    // What a policy without the field says.
    if let Ok(policy) = Policy::parse(body) {
        all.insert("witnesses".to_owned(), policy.witnesses().to_string());
        for lane in Lane::ALL {
            let key = format!("classes.{lane}.approvals");
            all.insert(key, policy.class(lane).approvals.to_string());
        }
        let offline = policy.offline().approvals;
        all.insert("classes.offline.approvals".to_owned(), offline.to_string());
    }
    if let Value::Object(fields) = body {
        for (key, value) in fields
            .iter()
            .filter(|(key, _)| !["carried", "rulings", "unites"].contains(&key.as_str()))
        {
            walk(key, value, &mut all);
        }
    }
    all
}

fn walk(path: &str, value: &Value, all: &mut BTreeMap<String, String>) {
    match value {
        _ if path == "board.governors" => {}
        Value::Object(fields) => {
            for (key, value) in fields {
                walk(&format!("{path}.{key}"), value, all);
            }
        }
        Value::Array(list) => {
            let words: Vec<String> = list.iter().map(plain).collect();
            all.insert(path.to_owned(), words.join(", "));
        }
        Value::Number(number) if path.ends_with("_s") => {
            let words = number.as_u64().map_or_else(|| number.to_string(), length);
            all.insert(path.to_owned(), words);
        }
        other => {
            all.insert(path.to_owned(), plain(other));
        }
    }
}

fn length(seconds: u64) -> String {
    if seconds == 0 { "none".to_owned() } else { span::words(seconds) }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => one_line(text),
        other => one_line(&other.to_string()),
    }
}

/// The words for a rule; a rule this version has none for keeps its name.
fn named(path: &str) -> String {
    for (rule, words) in RULES {
        if rule == path {
            return words.replace("{}", "statement");
        }
        let Some((before, after)) = rule.split_once('*') else { continue };
        let middle = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        if let Some(class) = middle.filter(|class| !class.contains('.')) {
            return words.replace("{}", class);
        }
    }
    one_line(path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_are_told_in_words_and_unknown_ones_by_name() {
        let old = json!({"fanout": 8, "classes": {"release": {"approvals": 2}}, "carried": []});
        let new = json!({
            "fanout": 4,
            "classes": {"release": {"approvals": 2, "lock_s": 172_800, "veto": 2}},
            "carried": ["sha256:ab"], "later": {"rule": true},
            "rulings": [{"lane": "release", "seq": 4}],
        });
        let lines = changes(Some(&old), &new);
        for line in [
            "changed   fanout 8 → 4",
            "added     lock before a release is applied 2 d",
            "added     vetoes that kill a release 2",
            "added     later.rule true",
            "settled   release/4 is closed: nothing signed or voted on for it counts",
            "carried   sha256:ab still counts",
            "same      approvals of a release 2",
        ] {
            assert!(lines.iter().any(|told| told == line), "{line}: {lines:#?}");
        }
    }

    #[test]
    fn a_ruling_is_told_once() {
        let old = json!({"fanout": 8, "rulings": [{"lane": "release", "seq": 4}]});
        let new = json!({"fanout": 9});
        assert_eq!(summary(&Chain::default(), Some(&old), &new), ["changed fanout 8 → 9"]);
        assert!(changes(Some(&old), &new).iter().all(|line| !line.contains("release/4")));
        let said = summary(&Chain::default(), Some(&new), &old);
        assert!(said.iter().any(|line| line.starts_with("release/4 is closed")), "{said:?}");
    }

    #[test]
    fn a_change_of_board_is_told_by_name() {
        let governor = |name: &str, key: &str| json!({"name": name, "key": key, "share": key});
        let board = |list: Vec<Value>| json!({"board": {"threshold": 2, "governors": list}});
        let old = board(vec![governor("ann", "a"), governor("ben", "b"), governor("cleo", "c")]);
        let new = board(vec![governor("ann", "a"), governor("ben", "B"), governor("dan", "d")]);
        let said = changes(Some(&old), &new);
        for part in ["governor dan", "governor cleo", "ben has another identity key"] {
            assert!(said.iter().any(|line| line.contains(part)), "{part}: {said:?}");
        }
        // Nothing happens to ann: she is named among those who stay, and has no line of her own.
        let mut lines = said.iter().filter(|line| !line.starts_with("board "));
        assert!(lines.all(|line| !line.contains("ann")), "{said:?}");
        let told = summary(&Chain::default(), Some(&old), &new);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("dan comes, cleo goes"), "{told:?}");
        let first = "the first policy: ann, ben and cleo govern; 2 of 3 sign together";
        assert_eq!(summary(&Chain::default(), None, &old), [first]);
    }
}
