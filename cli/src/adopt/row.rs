//! What is told of one host in the end, for people and for programs.

use borgios_types::PublicKey;
use serde_json::{Value, json};

use super::reach::{Host, Planned};
use super::verdict::Outcome;
use crate::printer::{one_line, table};

/// What is known of one host.
pub(crate) struct Row {
    /// The host.
    pub(crate) host: Host,
    /// What the machine calls itself, if it was reached.
    pub(crate) name: Option<String>,
    /// The host keys by which ssh knew it.
    pub(crate) keys: Vec<String>,
    /// What its plan said, if one was made.
    pub(crate) plan: Option<String>,
    /// What became of it.
    pub(crate) outcome: Outcome,
    /// What it left here, and where that lies.
    pub(crate) kept: Vec<String>,
    /// What it should have left here if it is a member now, and did not, with the reason.
    pub(crate) lacks: Vec<String>,
}

/// A host of which only its node can tell.
pub(crate) struct ToAsk {
    /// What is known so far.
    pub(crate) row: Row,
    /// The name or address by which ssh dials it.
    pub(crate) hostname: String,
    /// The machine's name: as it said, or as whoever consented wrote it.
    pub(crate) name: Option<String>,
    /// The node's key, if the log named it.
    pub(crate) node: Option<PublicKey>,
}

impl Row {
    /// Of a host that was never reached.
    pub(crate) fn unreached(host: Host, outcome: Outcome) -> Self {
        let (keys, kept, lacks) = (Vec::new(), Vec::new(), Vec::new());
        Self { host, name: None, keys, plan: None, outcome, kept, lacks }
    }

    /// Of a host whose plan was made.
    pub(crate) fn of(planned: &Planned, outcome: Outcome) -> Self {
        let (host, name) = (planned.host.clone(), Some(planned.remote.name.clone()));
        let (keys, plan) = (planned.keys.clone(), Some(planned.plan.clone()));
        Self { host, name, keys, plan, outcome, kept: Vec::new(), lacks: Vec::new() }
    }

    /// What is not here of a host that became a member now, and that nobody can fetch from it any
    /// more.
    pub(crate) fn not_kept(&self) -> &[String] {
        match self.outcome {
            Outcome::Member { .. } => &self.lacks,
            Outcome::Already
            | Outcome::LeftOut
            | Outcome::Failed { .. }
            | Outcome::Unknown { .. } => &[],
        }
    }

    /// For programs.
    pub(crate) fn to_json(&self) -> Value {
        let mut value = json!({
            "host": self.host.target.to_string(),
            "name": self.name,
            "host_keys": self.keys,
            "plan": self.plan,
            "member": self.outcome.is_member(),
            "kept": self.kept,
            "not_kept": self.not_kept(),
        });
        if let (Some(all), Ok(Value::Object(more))) =
            (value.as_object_mut(), serde_json::to_value(&self.outcome))
        {
            all.extend(more);
        }
        value
    }
}

/// All of them, for people.
pub(crate) fn to_table<'a>(rows: impl IntoIterator<Item = &'a Row>) -> String {
    let cells = rows.into_iter().map(|row| {
        let name = row.name.clone().unwrap_or_else(|| "?".to_owned());
        let mut detail = row.outcome.detail();
        if !row.not_kept().is_empty() {
            detail = format!("{detail}; NOT KEPT: {}", row.not_kept().join("; "));
        }
        let detail = one_line(&detail);
        [row.host.target.to_string(), name, row.outcome.word().to_owned(), detail]
    });
    table(["host", "name", "outcome", ""], &cells.collect::<Vec<_>>())
}
