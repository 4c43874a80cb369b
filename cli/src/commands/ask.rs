//! `borgios ask`: a question to every server, answered in sum.

use std::collections::BTreeMap;
use std::time::Duration;

use borgios_types::{Digest, NodeId};
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::{Failure, OrFail as _};
use crate::printer::{one_line, table};
use crate::receipts;
use crate::span;
use crate::transport::api::Door;

/// Longest wait for one answer, in seconds: what an agent grants.
const WITHIN_MAX: u64 = 25;

/// Ask every server, and see the answers in sum
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Which release and agent they run
    Versions(Plain),
    /// Which epoch of the root credential they carry, and who is late
    Epochs(Plain),
    /// How busy they are, per core, and how full their memory is
    Load(Load),
    /// How much of the disk with the agent's data is free
    Disk(Disk),
    /// Which of them hold an object or a message
    Received(Received),
}

#[derive(Debug, Args)]
pub(crate) struct Plain {
    #[command(flatten)]
    within: Within,
}

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Name servers with more than this load per core
    #[arg(long, value_name = "LOAD", default_value = "1.0", value_parser = thousandths)]
    above: u64,
    #[command(flatten)]
    within: Within,
}

#[derive(Debug, Args)]
pub(crate) struct Disk {
    /// Name servers with less than this share free
    #[arg(long, value_name = "PERCENT", default_value = "10", value_parser = percent)]
    below: u64,
    #[command(flatten)]
    within: Within,
}

#[derive(Debug, Args)]
pub(crate) struct Received {
    /// An object's id, `sha256:…`; or, with `--number`, the key of a stream's origin
    id: String,
    /// The number of a message in the stream
    #[arg(long, requires = "epoch")]
    number: Option<u64>,
    /// The stream's generation
    #[arg(long, requires = "number")]
    epoch: Option<u64>,
    /// Ask again until all have it, and show the count
    #[arg(long)]
    wait: bool,
    /// How long to wait [default: 5s, with --wait 30s]
    #[arg(long, value_name = "TIME", value_parser = span::seconds)]
    within: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Within {
    /// How long to wait for the answers, at most 25s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = patience)]
    within: u64,
}

/// What an agent answers.
#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    measures: BTreeMap<String, Measure>,
    #[serde(default)]
    histogram: BTreeMap<String, u64>,
    #[serde(default)]
    other: u64,
    #[serde(default)]
    exceptions: Vec<Exception>,
    #[serde(default)]
    exceptional_nodes: u64,
    #[serde(default)]
    took_ms: u64,
    #[serde(flatten)]
    turnout: Turnout,
}

/// Who answered, and who is missing.
#[derive(Debug, Deserialize)]
pub(crate) struct Turnout {
    pub(crate) answered: u64,
    pub(crate) members: u64,
    #[serde(default)]
    pub(crate) complete: bool,
    #[serde(default)]
    strangers: Option<u64>,
    #[serde(default)]
    surplus: u64,
    #[serde(default)]
    silent: Vec<Named>,
    #[serde(default)]
    silent_nodes: u64,
    #[serde(default)]
    unheard: Vec<Named>,
    #[serde(default)]
    unheard_nodes: u64,
}

#[derive(Debug, Deserialize)]
struct Measure {
    min: u64,
    max: u64,
    mean: u64,
}

#[derive(Debug, Deserialize)]
struct Named {
    #[serde(default)]
    name: Option<String>,
    node: NodeId,
}

#[derive(Debug, Deserialize)]
struct Exception {
    #[serde(flatten)]
    who: Named,
    what: String,
}

impl Command {
    /// Does it.
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Versions(plain) => {
                ask(context, &json!({"about": "versions"}), plain.within.within)
            }
            Self::Epochs(plain) => ask(context, &json!({"about": "epochs"}), plain.within.within),
            Self::Load(Load { above, within }) => {
                ask(context, &json!({"about": "load", "above": above}), within.within)
            }
            Self::Disk(Disk { below, within }) => {
                ask(context, &json!({"about": "disk", "below": below}), within.within)
            }
            Self::Received(received) => received.run(context),
        }
    }
}

fn ask(context: &Context, question: &Value, within_s: u64) -> Result<(), Failure> {
    let mut door = context.door()?;
    let within = Duration::from_secs(within_s);
    let answer = put(door.as_mut(), question, within)?;
    let text = describe(&answer).or_fail(|| format!("{} sent no answer", door.name()))?;
    context.printer.answer(&answer, &text)
}

/// Asks one question through a node.
pub(crate) fn put(
    door: &mut dyn Door,
    question: &Value,
    within: Duration,
) -> Result<Value, Failure> {
    let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    door.ask(&json!({"get": "ask", "question": question, "within_ms": within_ms}))
}

impl Received {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let item = self.item()?;
        let mut door = context.door()?;
        if self.wait {
            let within = Duration::from_secs(self.within.unwrap_or(30));
            let receipts = receipts::wait_for(door.as_mut(), &context.printer, &item, within)?;
            context.printer.answer(&receipts.value, &receipts.text)?;
            return receipts.or_incomplete();
        }
        let within = Duration::from_secs(self.within.unwrap_or(5).min(WITHIN_MAX));
        let question = json!({"about": "received", "item": item});
        let answer = put(door.as_mut(), &question, within)?;
        let text = describe(&answer).or_fail(|| format!("{} sent no answer", door.name()))?;
        context.printer.answer(&answer, &text)
    }

    fn item(&self) -> Result<Value, Failure> {
        let Self { id, number, epoch, .. } = self;
        if let (Some(number), Some(epoch)) = (number, epoch) {
            let origin = id.parse::<NodeId>().map_err(|error| {
                Failure::usage(format!("{id:?} is no origin of a stream"))
                    .cause(error)
                    .hint("give its key, `ssh-ed25519 AAAA…`, as `borgios nodes --json` shows it")
            })?;
            return Ok(json!({"message": {"origin": origin, "epoch": epoch, "number": number}}));
        }
        let hex = id.strip_prefix("sha256:").unwrap_or(id);
        match Digest::from_hex(hex) {
            Ok(digest) => Ok(json!({"object": digest})),
            Err(error) => Err(Failure::usage(format!("{id:?} is no object's id"))
                .cause(error)
                .hint("`borgios broadcast --json` prints one; it is `sha256:` and 64 digits")),
        }
    }
}

/// An answer for people.
pub(crate) fn describe(answer: &Value) -> Result<String, serde_json::Error> {
    let Answer { measures, histogram, other, exceptions, exceptional_nodes, took_ms, turnout } =
        serde_json::from_value(answer.clone())?;
    let mut text = format!("{} in {took_ms} ms\n", turnout.heading());
    text.push_str(&turnout.missing());
    let mut counts: Vec<(String, u64)> = histogram.into_iter().collect();
    // Labels with numbers stand in their order, which is the alphabet's.
    if !counts.iter().all(|(label, _)| label.starts_with(|c: char| c.is_ascii_digit())) {
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    }
    if other > 0 {
        counts.push(("other".to_owned(), other));
    }
    let rows: Vec<[String; 2]> =
        counts.iter().map(|(label, count)| [one_line(label), count.to_string()]).collect();
    if !rows.is_empty() {
        let about = answer["question"]["about"].as_str().unwrap_or_default();
        text.push_str(&format!("\n{}", table([heading(about), "servers"], &rows)));
    }
    let rows: Vec<[String; 4]> = measures
        .iter()
        .map(|(name, measure)| {
            let number = |value| unit(name, value);
            [one_line(name), number(measure.min), number(measure.mean), number(measure.max)]
        })
        .collect();
    if !rows.is_empty() {
        text.push_str(&format!("\n{}", table(["", "least", "mean", "most"], &rows)));
    }
    if exceptional_nodes > 0 {
        let rows: Vec<[String; 3]> = exceptions
            .iter()
            .map(|one| {
                let name = one.who.name.as_deref().unwrap_or("?");
                [one_line(name), one_line(&one.what), one.who.node.short()]
            })
            .collect();
        let named = rows.len() as u64;
        let more = exceptional_nodes.saturating_sub(named);
        text.push_str(&format!("\n{}", table(["look at", "why", "key"], &rows)));
        if more > 0 {
            text.push_str(&format!("and {more} more\n"));
        }
    }
    Ok(text)
}

/// What the labels of a question are.
fn heading(about: &str) -> &'static str {
    match about {
        "versions" => "runs",
        "epochs" => "carries",
        "load" => "load per core",
        "disk" => "share free",
        "received" => "has it",
        _ => "answer",
    }
}

/// A number of an answer with its unit: most are thousandths.
fn unit(name: &str, value: u64) -> String {
    match name {
        "load" => format!("{}.{:02}", value / 1_000, value % 1_000 / 10),
        "memory" | "free" => format!("{}.{} %", value / 10, value % 10),
        _ => value.to_string(),
    }
}

impl Turnout {
    /// `5 of 6 servers answered`.
    pub(crate) fn heading(&self) -> String {
        let Self { answered, members, .. } = self;
        format!("{answered} of {members} servers answered")
    }

    /// Who is missing, and what does not fit the records, a line each.
    pub(crate) fn missing(&self) -> String {
        let names = |nodes: &[Named], count: u64| {
            let mut names: Vec<String> = nodes
                .iter()
                .map(|one| {
                    let name = one.name.as_deref().unwrap_or("?");
                    format!("{} ({})", one_line(name), one.node.short())
                })
                .collect();
            let more = count.saturating_sub(names.len() as u64);
            if more > 0 {
                names.push(format!("{more} more"));
            }
            names.join(", ")
        };
        let mut text = String::new();
        if self.silent_nodes > 0 {
            let who = names(&self.silent, self.silent_nodes);
            text.push_str(&format!("no answer in time from {who}\n"));
        }
        if self.unheard_nodes > 0 {
            let who = names(&self.unheard, self.unheard_nodes);
            text.push_str(&format!("nothing heard of {who}\n"));
        }
        if self.surplus > 0 {
            let text_of =
                "answers more than servers that gave one: somebody was counted twice, or lies";
            text.push_str(&format!("{} {text_of}\n", self.surplus));
        }
        if let Some(strangers) = self.strangers.filter(|strangers| *strangers > 0) {
            let text_of = "answered without a join record here; it may be on its way";
            text.push_str(&format!("{strangers} {text_of}\n"));
        }
        text
    }
}

/// `0.8` as thousandths.
pub(crate) fn thousandths(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is no load: write a number such as 0.8");
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 3 || whole.len() > 6 {
        return Err(bad());
    }
    let part = format!("{part:0<3}");
    let number = |text: &str| text.parse::<u64>().map_err(|_| bad());
    Ok(number(whole)? * 1_000 + number(&part)?)
}

/// `10` or `10%` as thousandths.
fn percent(text: &str) -> Result<u64, String> {
    let number = text.trim_end_matches('%').trim();
    thousandths(number)
        .ok()
        .map(|thousandths| thousandths / 100)
        .filter(|share| *share <= 1_000)
        .ok_or_else(|| format!("{text:?} is no share: write a number of percent such as 10"))
}

/// A wait that an agent grants.
pub(crate) fn patience(text: &str) -> Result<u64, String> {
    let seconds = span::seconds(text)?;
    if seconds > WITHIN_MAX {
        return Err(format!("{text:?} is longer than an agent waits: at most {WITHIN_MAX}s"));
    }
    Ok(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_loads_are_read_as_people_write_them() {
        assert_eq!(
            (thousandths("0.8"), thousandths("12"), thousandths("1.25")),
            (Ok(800), Ok(12_000), Ok(1_250))
        );
        assert_eq!(
            (percent("10"), percent("12.5%"), percent("100 %")),
            (Ok(100), Ok(125), Ok(1_000))
        );
        for bad in ["", ".", "1.", "-1", "1.2345", "a", "99999999"] {
            assert!(thousandths(bad).is_err(), "{bad:?}");
        }
        assert!(percent("101").is_err() && patience("26s").is_err() && patience("25s") == Ok(25));
    }

    #[test]
    fn an_answer_says_who_is_missing_before_it_says_anything_else() {
        let key = borgios_types::SecretKey::from_seed([1; 32]).public();
        let answer = json!({
            "question": {"about": "load", "above": 1000},
            "answered": 3, "members": 5, "complete": false, "strangers": 0, "surplus": 2,
            "silent": [{"name": "web-4\n1 of 1", "node": key}], "silent_nodes": 1,
            "unheard": [{"name": "web-5", "node": key}], "unheard_nodes": 1,
            "measures": {"load": {"count": 3, "min": 10, "max": 1230, "sum": 1500, "mean": 500},
                         "memory": {"count": 3, "min": 101, "max": 900, "sum": 1500, "mean": 500}},
            "histogram": {"0.00 to 0.25": 2, "1.00 to 1.50": 1}, "other": 0,
            "exceptions": [{"node": key, "name": "web-3", "what": "load 1.23 per core"}],
            "exceptional_nodes": 3, "took_ms": 41,
        });
        let text = describe(&answer).unwrap();
        let short = key.short();
        assert_eq!(
            text,
            format!(
                "3 of 5 servers answered in 41 ms\n\
             no answer in time from web-4\\n1 of 1 ({short})\n\
             nothing heard of web-5 ({short})\n\
             2 answers more than servers that gave one: somebody was counted twice, or lies\n\n\
             load per core  servers\n0.00 to 0.25   2\n1.00 to 1.50   1\n\n        \
             least   mean    most\nload    0.01    0.50    1.23\nmemory  10.1 %  50.0 %  90.0 %\n\n\
             look at  why                 key\nweb-3    load 1.23 per core  {short}\nand 2 more\n"
            )
        );
    }
}
