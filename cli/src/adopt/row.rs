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
        Self { host, name: None, keys: Vec::new(), plan: None, outcome }
    }

    /// Of a host whose plan was made.
    pub(crate) fn of(planned: &Planned, outcome: Outcome) -> Self {
        let (host, name) = (planned.host.clone(), Some(planned.remote.name.clone()));
        Self { host, name, keys: planned.keys.clone(), plan: Some(planned.plan.clone()), outcome }
    }

    /// For programs.
    pub(crate) fn to_json(&self) -> Value {
        let mut value = json!({
            "host": self.host.target.to_string(),
            "name": self.name,
            "host_keys": self.keys,
            "plan": self.plan,
            "member": self.outcome.is_member(),
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
pub(crate) fn to_table(rows: &[Row]) -> String {
    let cells = rows.iter().map(|row| {
        let name = row.name.clone().unwrap_or_else(|| "?".to_owned());
        let detail = one_line(&row.outcome.detail());
        [row.host.target.to_string(), name, row.outcome.word().to_owned(), detail]
    });
    table(["host", "name", "outcome", ""], &cells.collect::<Vec<_>>())
}
