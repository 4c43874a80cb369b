//! Lists that a node gives in pages: each answer has its own bounds, and this gives them one in all.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::api::Door;
use crate::failure::Failure;

/// Longest that all pages of one list are waited for, but for the answer that is on its way then: ten times
/// what the largest fleet takes on a slow line, where its servers have little to say.
const LISTING_MAX: Duration = Duration::from_secs(5 * 60);

/// Most that all pages of one list may take, in bytes of memory: the 20,000 servers that a laptop keeps, of
/// some 3 KiB each, and the two reasons of 4 KiB each that their keepers give where a release and a rotation
/// went bad, which is when people look.
const BYTES_MAX: usize = 256 * 1024 * 1024;

/// One list that is being read. A node that never stops listing is not followed for ever, and what it lists
/// does not fill the memory.
#[derive(Debug)]
pub(crate) struct Listing {
    until: Instant,
    left: usize,
}

impl Listing {
    /// Begins now.
    pub(crate) fn begun() -> Self {
        Self::within(LISTING_MAX, BYTES_MAX)
    }

    fn within(time: Duration, bytes: usize) -> Self {
        Self { until: Instant::now() + time, left: bytes }
    }

    /// Asks for one more page.
    ///
    /// # Errors
    /// As [`Door::ask`], and once the list is too long or takes too long.
    pub(crate) fn page(&mut self, door: &mut dyn Door, request: &Value) -> Result<Value, Failure> {
        if Instant::now() >= self.until {
            return Err(endless(&door.name(), "it took too long"));
        }
        let page = door.ask(request)?;
        let Some(left) = self.left.checked_sub(weight(&page)) else {
            return Err(endless(&door.name(), "it is longer than that of any fleet"));
        };
        self.left = left;
        Ok(page)
    }
}

/// What an answer takes in memory, in bytes, but for what maps and the allocator add: many short values take
/// far more than their text.
fn weight(value: &Value) -> usize {
    let inside = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(weight).sum(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| size_of::<String>() + name.len() + weight(value))
            .sum(),
    };
    size_of::<Value>() + inside
}

fn endless(from: &str, why: &str) -> Failure {
    Failure::new(format!("{from} never stops listing"))
        .because(why)
        .hint("name another node with `--node HOST:PORT`")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Has one more page each time, of so many bytes.
    struct Endless(usize, usize);

    impl Door for Endless {
        fn name(&self) -> String {
            "endless".into()
        }

        fn ask(&mut self, _: &Value) -> Result<Value, Failure> {
            self.1 += 1;
            Ok(json!({"nodes": ["x".repeat(self.0)], "next": self.1}))
        }
    }

    #[test]
    fn a_list_without_an_end_is_left() {
        let bytes = 32 * 1024 * 1024;
        let (mut door, mut listing) =
            (Endless(1024 * 1024, 0), Listing::within(LISTING_MAX, bytes));
        while listing.page(&mut door, &json!({})).is_ok() {}
        assert_eq!(door.1, 32);
        let (mut door, mut listing) =
            (Endless(1, 0), Listing::within(Duration::from_millis(50), BYTES_MAX));
        while listing.page(&mut door, &json!({})).is_ok() {}
        assert!(Instant::now() >= listing.until && listing.left > 0);
        let asked = door.1;
        assert!(listing.page(&mut door, &json!({})).is_err() && door.1 == asked, "it is not asked");
    }

    /// As a server is listed whose keeper says at length why its release and its rotation went bad.
    #[test]
    fn the_largest_fleet_has_room_when_all_of_it_went_bad() {
        let (key, long) = ("k".repeat(81), "x".repeat(4 * 1024));
        let row = json!({
            "node": key, "name": "web-1", "address": "10.0.0.1:7117", "keeper": key, "owner": key,
            "issued": 1, "expires": 2, "lapsed": false, "departed": false,
            "report": {
                "network": key, "node": key, "keeper": key, "release": 1, "outcome": "rolled_back",
                "reason": long, "running": [key, key], "at": 3,
            },
            "rotation": {
                "network": key, "node": key, "keeper": key, "epoch": 1, "outcome": "failed",
                "problem": long, "at": 3,
            },
            "handover": {"at": 1, "host_keys": [key, key], "owner": key},
        });
        assert!(20_000 * weight(&row) < BYTES_MAX, "{}", weight(&row));
        // Of what is short in text, most is what holds it.
        assert!(weight(&Value::from(vec![1; 1_000])) > 16_000);
    }
}
