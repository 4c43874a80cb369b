//! Waiting until every server holds something, and telling how many do meanwhile.
//!
//! A receipt is a question to the fleet, asked again until it is answered by all: a broadcast costs
//! no acknowledgements when nobody asks. How many there should be is what the asked node's join
//! records say.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::commands::ask::{Turnout, describe, put};
use crate::failure::{Failure, OrFail as _};
use crate::printer::Printer;
use crate::transport::api::Door;

/// Longest wait for one round of answers: a silent server is told of soon, and asked again.
const ROUND: Duration = Duration::from_secs(2);
/// First pause between two rounds; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Longest pause: each round costs every server two messages.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How many hold it in the end.
#[derive(Debug)]
pub(crate) struct Receipts {
    /// Servers that hold it.
    pub(crate) have: u64,
    /// Servers that should.
    pub(crate) members: u64,
    /// All of them do.
    pub(crate) complete: bool,
    /// The last answer, with `have`, `complete` and `waited_ms`.
    pub(crate) value: Value,
    /// The same for people: the count, and who is without or silent.
    pub(crate) text: String,
    /// The command that asks again.
    again: String,
}

impl Receipts {
    /// A refusal unless all hold it: a command that waited in vain has not done what was asked.
    pub(crate) fn or_incomplete(&self) -> Result<(), Failure> {
        if self.complete {
            return Ok(());
        }
        let Self { have, members, .. } = self;
        Err(Failure::new(format!("{have} of {members} servers hold it")).hint(format!(
            "servers that were off fetch it by themselves when they are back; ask again with `{}`",
            self.again
        )))
    }
}

/// The command that asks who holds `item`: an object has an id, a message of a stream has none.
fn again(item: &Value) -> String {
    let word = |pointer: &str| {
        let value = item.pointer(pointer);
        value.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    let message = (word("/message/origin"), word("/message/epoch"), word("/message/number"));
    if let (Some(origin), Some(epoch), Some(number)) = message {
        return format!("borgios ask received '{origin}' --epoch {epoch} --number {number} --wait");
    }
    format!("borgios ask received {} --wait", word("/object").unwrap_or_else(|| "ID".to_owned()))
}

#[derive(Deserialize)]
struct Round {
    #[serde(default)]
    histogram: std::collections::BTreeMap<String, u64>,
    #[serde(default)]
    other: u64,
    #[serde(flatten)]
    turnout: Turnout,
}

/// Asks the fleet through `door` who holds `item`, again and again, until all do or `within` is
/// over. `item` is `{"object":"sha256:…"}` or `{"message":{"origin","epoch","number"}}`. The count
/// is shown as it climbs: on a terminal on one line, elsewhere a line for each change.
///
/// # Errors
/// The node does not answer. That some do not hold it is no error here; see
/// [`Receipts::or_incomplete`].
pub(crate) fn wait_for(
    door: &mut dyn Door,
    printer: &Printer,
    item: &Value,
    within: Duration,
) -> Result<Receipts, Failure> {
    let question = json!({"about": "received", "item": item});
    let begun = Instant::now();
    let (mut pause, mut shown) = (PAUSE_MIN, None);
    loop {
        let left = within.saturating_sub(begun.elapsed());
        let mut answer = put(door, &question, left.clamp(PAUSE_MIN, ROUND))?;
        let round: Round = serde_json::from_value(answer.clone())
            .or_fail(|| format!("{} sent no answer", door.name()))?;
        let Round { histogram, other, turnout } = round;
        let count = |label: &str| histogram.get(label).copied().unwrap_or(0);
        // More than answered is what liars count.
        let have = count("yes").min(turnout.answered);
        let complete = turnout.complete && count("no") == 0 && other == 0;
        let members = turnout.members;
        let over = complete || begun.elapsed() + pause >= within;
        if shown.replace((have, members)) != Some((have, members)) {
            printer.climbing(&format!("{have} of {members} servers have it"));
        }
        if over {
            printer.climbed();
            let waited = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            answer["have"] = have.into();
            answer["complete"] = complete.into();
            answer["waited_ms"] = waited.into();
            let told = describe(&answer).or_fail(|| format!("{} sent no answer", door.name()))?;
            let text = if complete {
                format!("{have} of {members} servers have it after {waited} ms\n")
            } else {
                told
            };
            let again = again(item);
            return Ok(Receipts { have, members, complete, value: answer, text, again });
        }
        std::thread::sleep(pause.min(within.saturating_sub(begun.elapsed())));
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node whose fleet hears of it, one more server with each question.
    struct Slow {
        members: u64,
        asked: u64,
        silent: bool,
    }

    impl Door for Slow {
        fn name(&self) -> String {
            "slow".to_owned()
        }

        fn ask(&mut self, request: &Value) -> Result<Value, Failure> {
            assert_eq!(request["question"]["item"], json!({"object": "x"}));
            self.asked += 1;
            let yes = self.asked.min(self.members);
            let missing = u64::from(self.silent);
            Ok(json!({
                "question": request["question"], "answered": self.members - missing,
                "members": self.members, "complete": !self.silent, "took_ms": 1,
                "unheard_nodes": missing,
                "histogram": {"yes": yes, "no": self.members - yes},
            }))
        }
    }

    impl Slow {
        fn wait(&mut self, within: Duration) -> Receipts {
            // Under --json nothing is shown meanwhile.
            wait_for(self, &Printer::new(true), &json!({"object": "x"}), within).unwrap()
        }
    }

    #[test]
    fn it_waits_until_all_have_it_and_no_longer() {
        let mut slow = Slow { members: 3, asked: 0, silent: false };
        // The stand-in says `no: 0` in the end, which is as good as no word of it.
        let receipts = slow.wait(Duration::from_secs(60));
        assert_eq!((receipts.have, receipts.members, slow.asked), (3, 3, 3));
        assert!(receipts.complete && receipts.or_incomplete().is_ok());
        assert_eq!(receipts.value["have"], 3);
    }

    #[test]
    fn at_the_deadline_it_is_said_who_is_missing() {
        let mut slow = Slow { members: 2, asked: 5, silent: true };
        let receipts = slow.wait(Duration::from_millis(1));
        assert_eq!((receipts.have, receipts.complete), (1, false));
        let failure = receipts.or_incomplete().unwrap_err();
        assert!(failure.summary().contains("1 of 2"), "{}", failure.summary());
        assert!(receipts.text.contains("nothing heard of 1 more"), "{}", receipts.text);
        assert!(failure.to_text().contains("`borgios ask received x --wait`"));
    }

    #[test]
    fn a_message_is_asked_for_again_by_what_names_it() {
        let item =
            json!({"message": {"origin": "ssh-ed25519 AAAA", "epoch": 1_700_000_000, "number": 7}});
        let wanted = "borgios ask received 'ssh-ed25519 AAAA' --epoch 1700000000 --number 7 --wait";
        assert_eq!(again(&item), wanted);
    }
}
