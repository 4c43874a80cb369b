//! Lists that a node gives in pages: each answer has its own bounds, and this gives them one in all.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::api::Door;
use crate::failure::Failure;

/// Longest that all pages of one list are waited for, but for the answer that is on its way then: ten times
/// what the largest fleet takes on a slow line.
const LISTING_MAX: Duration = Duration::from_secs(5 * 60);

/// Most that all pages of one list may have, in bytes of text: tens of thousands of servers.
const BYTES_MAX: usize = 32 * 1024 * 1024;

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
        Self::within(LISTING_MAX)
    }

    fn within(time: Duration) -> Self {
        Self { until: Instant::now() + time, left: BYTES_MAX }
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
        let Some(left) = self.left.checked_sub(page.to_string().len()) else {
            return Err(endless(&door.name(), &format!("it has over {BYTES_MAX} bytes")));
        };
        self.left = left;
        Ok(page)
    }
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
        let (mut door, mut listing) = (Endless(1024 * 1024, 0), Listing::begun());
        while listing.page(&mut door, &json!({})).is_ok() {}
        assert_eq!(door.1, 32);
        let (mut door, mut listing) = (Endless(1, 0), Listing::within(Duration::from_millis(50)));
        while listing.page(&mut door, &json!({})).is_ok() {}
        assert!(Instant::now() >= listing.until && listing.left > 0);
        let asked = door.1;
        assert!(listing.page(&mut door, &json!({})).is_err() && door.1 == asked, "it is not asked");
    }
}
