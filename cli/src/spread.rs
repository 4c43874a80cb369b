//! How far a message has spread: which servers say that they have stored it.
//!
//! It costs nothing unless somebody asks: the question goes down the tree and comes up as one number.
//! The number is what servers say of themselves.

use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::commands::broadcast::Receipt;
use crate::context::Context;
use crate::failure::{Failure, OrFail as _};
use crate::printer::one_line;
use crate::transport::api::Door;

/// Longest wait for one answer of the fleet.
const ANSWER: Duration = Duration::from_secs(4);
/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(250);

/// A server by name, `?` where its record is not known.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Named {
    name: Option<String>,
    node: borgios_types::NodeId,
}

/// What the fleet says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Spread {
    /// Servers that have it.
    #[serde(default)]
    stored: u64,
    /// Servers there are.
    members: u64,
    /// By their answer.
    #[serde(default, skip_serializing)]
    histogram: Histogram,
    /// Some that have it not.
    #[serde(default)]
    exceptions: Vec<Named>,
    /// Some that did not answer.
    #[serde(default)]
    silent: Vec<Named>,
    /// Some of whom nothing was heard.
    #[serde(default)]
    unheard: Vec<Named>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Histogram {
    #[serde(default)]
    yes: u64,
}

impl Spread {
    /// Asks until every server has stored it, or the time is over; says how the number climbs.
    pub(crate) fn wait(
        context: &Context,
        door: &mut dyn Door,
        receipt: Receipt,
        within: Duration,
    ) -> Result<Self, Failure> {
        let end = Instant::now() + within;
        let mut shown = None;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let spread = Self::ask(door, receipt, left.min(ANSWER))?;
            if shown != Some(spread.stored) {
                context.printer.say(&format!("{} of {}", spread.stored, spread.members));
                shown = Some(spread.stored);
            }
            if spread.everywhere() || Instant::now() + PAUSE >= end {
                return Ok(spread);
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn ask(door: &mut dyn Door, receipt: Receipt, within: Duration) -> Result<Self, Failure> {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX).max(1);
        let question = json!({"about": "received", "item": {"message": receipt}});
        let answer =
            door.ask(&json!({"get": "ask", "question": question, "within_ms": within_ms}))?;
        let mut spread: Self = serde_json::from_value(answer)
            .or_fail(|| format!("{} sent no answer to that", door.name()))?;
        // Whoever lies about numbers does not make it more than there are.
        spread.stored = spread.histogram.yes.min(spread.members);
        Ok(spread)
    }

    /// Whether every server has it.
    pub(crate) fn everywhere(&self) -> bool {
        self.stored >= self.members
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stored on {} of {} servers", self.stored, self.members)?;
        let missing = [&self.exceptions, &self.silent, &self.unheard];
        for (nodes, what) in missing.into_iter().zip(["not on", "no answer from", "nothing of"]) {
            if !nodes.is_empty() {
                let names: Vec<String> = nodes
                    .iter()
                    .map(|one| one.name.clone().unwrap_or_else(|| one.node.short()))
                    .collect();
                write!(f, "; {what} {}", one_line(&names.join(", ")))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use borgios_types::SecretKey;
    use serde_json::Value;

    struct Says(Vec<Value>);

    impl Door for Says {
        fn name(&self) -> String {
            "here".into()
        }

        fn ask(&mut self, request: &Value) -> Result<Value, Failure> {
            assert_eq!(request["question"]["item"]["message"]["number"], 7, "{request}");
            Ok(self.0.remove(0))
        }
    }

    #[test]
    fn who_has_it_is_counted_and_who_has_not_is_named() {
        let key = |n: u8| SecretKey::from_seed([n; 32]).public();
        let receipt = Receipt { origin: key(1), epoch: 5, number: 7 };
        let mut says = Says(vec![
            json!({
                "members": 4, "histogram": {"yes": 2, "no": 1},
                "exceptions": [{"node": key(2), "name": "web-2", "what": "is at 6"}],
                "silent": [{"node": key(3), "name": "web-3"}], "unheard": [],
            }),
            json!({"members": 4, "histogram": {"yes": 9}, "exceptions": []}),
        ]);
        let spread = Spread::ask(&mut says, receipt, ANSWER).unwrap();
        assert!(!spread.everywhere());
        let text = "stored on 2 of 4 servers; not on web-2; no answer from web-3";
        assert_eq!(spread.to_string(), text);
        let spread = Spread::ask(&mut says, receipt, ANSWER).unwrap();
        assert!(spread.everywhere());
        assert_eq!(spread.to_string(), "stored on 4 of 4 servers");
    }
}
