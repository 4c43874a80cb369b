//! `borgios stream heads`: how far each server's stream goes on the node that is asked.

use borgios_types::NodeId;
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::{Failure, OrFail as _};
use crate::printer::table;
use crate::transport::api::Door;
use crate::transport::listing::Listing;

/// Most pages asked for; a node that never stops answering is not followed for ever.
const PAGES_MAX: usize = 1_000;
/// Longest wait for news, in milliseconds: well below the time that an answer may take.
const WAIT_MS: u64 = 15_000;

/// How far each server's stream goes
#[derive(Debug, Args)]
pub(crate) struct Heads {}

/// One stream, as a node holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stream {
    /// Whose.
    pub(crate) origin: NodeId,
    /// Its name, while it is a member.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// When this history of it began.
    pub(crate) epoch: u64,
    /// The last message that is stored.
    pub(crate) last: u64,
    /// Two histories of it were found, and it was stopped.
    #[serde(default)]
    pub(crate) stopped: bool,
}

#[derive(Deserialize)]
struct Page {
    streams: Vec<Stream>,
    #[serde(default)]
    next: Option<Value>,
    #[serde(default)]
    news: Option<u64>,
}

impl Heads {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut door = context.door()?;
        let streams = all(door.as_mut())?;
        let rows: Vec<_> = streams
            .iter()
            .map(|stream| {
                [
                    stream.name.clone().unwrap_or_else(|| "?".to_owned()),
                    stream.epoch.to_string(),
                    stream.last.to_string(),
                    if stream.stopped { "stopped: two histories" } else { "" }.to_owned(),
                    stream.origin.to_string(),
                ]
            })
            .collect();
        let mut text = table(["server", "since", "messages", "", "key"], &rows);
        text.push_str(&format!("{} streams\n", rows.len()));
        context.printer.answer(&json!({"streams": streams}), &text)
    }
}

/// Every stream that the node holds.
pub(crate) fn all(door: &mut dyn Door) -> Result<Vec<Stream>, Failure> {
    Ok(all_after(door, None)?.0)
}

/// The same once there is something else than the `news` that were known, or in [`WAIT_MS`]; and how to
/// name what is known now, where the node says that.
pub(crate) fn all_after(
    door: &mut dyn Door,
    news: Option<u64>,
) -> Result<(Vec<Stream>, Option<u64>), Failure> {
    let (mut streams, mut after) = (Vec::new(), None::<Value>);
    let (mut known, mut listing) = (None, Listing::begun());
    for page in 0..PAGES_MAX {
        let mut request = json!({"get": "streams", "from": after});
        if let Some(news) = news.filter(|_| page == 0) {
            request["news"] = news.into();
            request["within_ms"] = WAIT_MS.into();
        }
        let answer = listing.page(door, &request)?;
        let page: Page = serde_json::from_value(answer)
            .or_fail(|| format!("{} sent no list of streams", door.name()))?;
        let is_empty = page.streams.is_empty();
        streams.extend(page.streams);
        // What comes while the pages are read is news.
        known = known.or(page.news);
        after = page.next;
        if after.is_none() || is_empty {
            return Ok((streams, known));
        }
    }
    Err(Failure::new(format!("{} never stops listing streams", door.name())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has no stream, and always one more page.
    struct Nothing(usize);

    impl Door for Nothing {
        fn name(&self) -> String {
            "nothing".into()
        }

        fn ask(&mut self, _: &Value) -> Result<Value, Failure> {
            self.0 += 1;
            Ok(json!({"streams": [], "next": 1}))
        }
    }

    #[test]
    fn an_empty_page_is_the_last_one() {
        let mut door = Nothing(0);
        assert!(all(&mut door).unwrap().is_empty());
        assert_eq!(door.0, 1);
    }
}
