//! A server's journal, as the entries it is made of.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::server::Server;
use crate::wait;

/// One entry: its fields by name. A field that stands there twice keeps its last value.
#[derive(Clone, Debug)]
pub struct Entry(BTreeMap<String, String>);

/// A place in a server's journal: the time of its newest entry, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Mark(u64);

impl Mark {
    /// The present moment: all servers of a lab share this computer's clock.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    /// Seconds from this moment until an entry was written.
    #[must_use]
    pub fn until(self, entry: &Entry) -> f64 {
        entry.at().saturating_sub(self.0) as f64 / 1e6
    }
}

impl Entry {
    fn at(&self) -> u64 {
        self.field("__REALTIME_TIMESTAMP").and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// A field's value.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The text for people.
    #[must_use]
    pub fn message(&self) -> &str {
        self.field("MESSAGE").unwrap_or_default()
    }
}

impl Server<'_> {
    /// The journal's entries that match, oldest first; `filter` is journalctl's, e.g.
    /// `-u borgiosd.service` or `BORGIOS_REFUSAL=replayed`.
    ///
    /// # Errors
    /// The server is off, or journalctl refuses the filter.
    pub fn journal(self, filter: &str) -> Result<Vec<Entry>> {
        let lines = self.sh(&format!("journalctl -o json --all --no-pager -q {filter}"))?;
        lines.lines().map(|line| entry(line).context("journalctl printed no JSON")).collect()
    }

    /// Where the journal ends now.
    ///
    /// # Errors
    /// The server is off.
    pub fn journal_end(self) -> Result<Mark> {
        let newest = self.sh("journalctl -o json --no-pager -q -n 1")?;
        Ok(Mark(entry(&newest).context("the journal is empty")?.at()))
    }

    /// As [`Server::journal`], only what came after `mark`.
    ///
    /// # Errors
    /// As [`Server::journal`].
    pub fn journal_after(self, mark: Mark, filter: &str) -> Result<Vec<Entry>> {
        // Not `--after-cursor`: with a filter it swallows the first entry that matches.
        let mut entries = self.journal(&format!("--since=@{} {filter}", mark.0 / 1_000_000))?;
        entries.retain(|entry| entry.at() > mark.0);
        Ok(entries)
    }

    /// Waits for an entry after `mark` that matches and returns the newest.
    ///
    /// # Errors
    /// None within `bound`.
    pub fn wait_journal_after(self, mark: Mark, filter: &str, bound: Duration) -> Result<Entry> {
        let what = format!("{}: a new journal entry with {filter}", self.host());
        wait::until(&what, bound, || Ok(self.journal_after(mark, filter)?.pop()))
    }

    /// Waits for an entry that matches and returns the newest.
    ///
    /// # Errors
    /// None within `bound`.
    pub fn wait_journal(self, filter: &str, bound: Duration) -> Result<Entry> {
        let what = format!("{}: a journal entry with {filter}", self.host());
        wait::until(&what, bound, || Ok(self.journal(filter)?.pop()))
    }
}

/// journald writes bytes that are not UTF-8 as arrays of numbers, repeated fields as arrays.
fn entry(line: &str) -> Result<Entry> {
    let fields: BTreeMap<String, Value> = serde_json::from_str(line)?;
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) if parts.iter().all(Value::is_u64) => {
            let byte = |part: &Value| part.as_u64().and_then(|n| u8::try_from(n).ok());
            String::from_utf8_lossy(&parts.iter().filter_map(byte).collect::<Vec<_>>()).into_owned()
        }
        Value::Array(parts) => parts.last().and_then(Value::as_str).unwrap_or_default().to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    };
    Ok(Entry(fields.iter().map(|(name, value)| (name.clone(), text(value))).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_field_becomes_text() {
        let line = r#"{"MESSAGE":[104,105,255],"A":"x","B":["1","2"],"C":null}"#;
        let entry = entry(line).unwrap();
        assert_eq!(entry.message(), "hi\u{fffd}");
        assert_eq!(entry.field("A"), Some("x"));
        assert_eq!(entry.field("B"), Some("2"));
        assert_eq!(entry.field("D"), None);
    }
}
