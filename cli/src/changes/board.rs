//! A change of the board in words: who comes, who goes, how many sign together from then on.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::printer::one_line;

/// Name, key and share of each governor.
pub(crate) type Governors = BTreeMap<String, (String, String)>;

/// What one policy makes of the board of the one before it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shift {
    came: Vec<String>,
    left: Vec<String>,
    stay: Vec<String>,
    /// Those who stay, under another identity key.
    renamed: Vec<String>,
    /// Whether there is another group key.
    new_key: bool,
    /// t, n and key epoch before and after.
    before: (u64, usize),
    after: (u64, usize),
    epoch: u64,
}

/// The board's members by name; what others wrote is made one line.
pub(crate) fn governors(body: &Value) -> Governors {
    let list = body.pointer("/board/governors").and_then(Value::as_array);
    let text = |governor: &Value, field: &str| {
        one_line(governor.get(field).and_then(Value::as_str).unwrap_or_default())
    };
    let each = list.into_iter().flatten();
    each.map(|g| (text(g, "name"), (text(g, "key"), text(g, "share")))).collect()
}

/// What else belongs to each governor: the recipient of what is sealed to them, and former keys.
pub(crate) fn identities(body: &Value) -> BTreeMap<String, (String, Vec<String>)> {
    let list = body.pointer("/board/governors").and_then(Value::as_array);
    let text = |value: Option<&Value>| one_line(value.and_then(Value::as_str).unwrap_or_default());
    let each = list.into_iter().flatten().map(|governor| {
        let former = governor.get("former").and_then(Value::as_array);
        let former = former.into_iter().flatten().map(|key| text(Some(key))).collect();
        (text(governor.get("name")), (text(governor.get("recipient")), former))
    });
    each.collect()
}

/// The first board in words: `ann, ben and cleo govern; 2 of 3 sign together`.
pub(crate) fn first(body: &Value) -> String {
    let all: Vec<String> = governors(body).into_keys().collect();
    format!("{} govern; {} of {} sign together", and(&all), threshold(body), all.len())
}

fn threshold(body: &Value) -> u64 {
    body.pointer("/board/threshold").and_then(Value::as_u64).unwrap_or_default()
}

impl Shift {
    /// What changed, if anything of the board did.
    pub(crate) fn between(old: &Value, new: &Value) -> Option<Self> {
        let (was, is) = (governors(old), governors(new));
        let without = |one: &Governors, other: &Governors| -> Vec<String> {
            one.keys().filter(|name| !other.contains_key(*name)).cloned().collect()
        };
        let renamed =
            is.iter().filter(|(name, (key, _))| was.get(*name).is_some_and(|(old, _)| old != key));
        let shift = Self {
            came: without(&is, &was),
            left: without(&was, &is),
            stay: is.keys().filter(|name| was.contains_key(*name)).cloned().collect(),
            renamed: renamed.map(|(name, _)| name.clone()).collect(),
            new_key: old.pointer("/board/group") != new.pointer("/board/group"),
            before: (threshold(old), was.len()),
            after: (threshold(new), is.len()),
            epoch: new.pointer("/board/epoch").and_then(Value::as_u64).unwrap_or_default(),
        };
        let changes = shift.new_key
            || shift.before != shift.after
            || !(shift.came.is_empty() && shift.left.is_empty() && shift.renamed.is_empty());
        changes.then_some(shift)
    }

    /// `dan comes, cleo goes; ann and ben stay; 2 of 3 sign together, as before; a new key, of epoch 2`
    pub(crate) fn words(&self) -> String {
        let verb = |names: &[String], one: &str, many: &str| match names.len() {
            0 => None,
            1 => Some(format!("{} {one}", and(names))),
            _ => Some(format!("{} {many}", and(names))),
        };
        let moved = [verb(&self.came, "comes", "come"), verb(&self.left, "goes", "go")];
        let moved: Vec<String> = moved.into_iter().flatten().collect();
        let mut parts = vec![if moved.is_empty() {
            "nobody comes or goes".to_owned()
        } else {
            moved.join(", ")
        }];
        parts.extend(verb(&self.stay, "stays", "stay"));
        parts.extend(verb(&self.renamed, "has another identity key", "have other identity keys"));
        let ((was, of), (threshold, governors)) = (self.before, self.after);
        let before = if self.before == self.after {
            "as before".to_owned()
        } else {
            format!("{was} of {of} before")
        };
        parts.push(format!("{threshold} of {governors} sign together, {before}"));
        if self.new_key {
            parts.push(format!("a new key, of epoch {}", self.epoch));
        }
        parts.join("; ")
    }

    /// For `--json`.
    pub(crate) fn to_json(&self) -> Value {
        let ((was, _), (threshold, governors)) = (self.before, self.after);
        json!({
            "came": self.came, "left": self.left, "stay": self.stay,
            "new_identity": self.renamed, "new_key": self.new_key, "epoch": self.epoch,
            "threshold": threshold, "threshold_before": was, "governors": governors,
        })
    }
}

/// `the board changes: …`
impl core::fmt::Display for Shift {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "the board changes: {}", self.words())
    }
}

/// `ann, ben and cleo`.
pub(crate) fn and(names: &[String]) -> String {
    match names.split_last() {
        None => "nobody".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(threshold: u64, epoch: u64, group: &str, names: &[(&str, &str)]) -> Value {
        let each = names.iter().map(|(name, key)| json!({"name": name, "key": key, "share": key}));
        json!({"board": {
            "threshold": threshold, "epoch": epoch, "group": group,
            "governors": each.collect::<Vec<_>>(),
        }})
    }

    #[test]
    fn who_comes_who_goes_and_how_many_sign_is_said() {
        let old = board(2, 1, "k", &[("ann", "a"), ("ben", "b"), ("cleo", "c")]);
        assert_eq!(first(&old), "ann, ben and cleo govern; 2 of 3 sign together");
        assert_eq!(Shift::between(&old, &old), None);
        let new = board(2, 2, "l", &[("ann", "a"), ("ben", "b"), ("dan", "d")]);
        let said = Shift::between(&old, &new).unwrap();
        assert_eq!(
            said.to_string(),
            "the board changes: dan comes, cleo goes; ann and ben stay; 2 of 3 sign together, as \
             before; a new key, of epoch 2"
        );
        assert_eq!(said.to_json()["left"], json!(["cleo"]));
        let fresh = board(2, 2, "l", &[("ann", "a"), ("ben", "b"), ("cleo", "c")]);
        assert_eq!(
            Shift::between(&old, &fresh).unwrap().to_string(),
            "the board changes: nobody comes or goes; ann, ben and cleo stay; 2 of 3 sign \
             together, as before; a new key, of epoch 2"
        );
        let more = board(3, 2, "l", &[("ann", "A"), ("ben", "b"), ("dan", "d"), ("eve", "e")]);
        assert_eq!(
            Shift::between(&old, &more).unwrap().to_string(),
            "the board changes: dan and eve come, cleo goes; ann and ben stay; ann has another \
             identity key; 3 of 4 sign together, 2 of 3 before; a new key, of epoch 2"
        );
    }
}
