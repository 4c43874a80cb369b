//! `borgios node …`: where one server stands in the tree, what its record says, and its receipt.

use std::path::PathBuf;
use std::time::Duration;

use borgios_types::UnixSeconds;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ask::patience;
use crate::context::Context;
use crate::desk::Desk;
use crate::durable;
use crate::failure::Failure;
use crate::printer::one_line;
use crate::servers::evicted;
use crate::span;

/// One server, looked for through the tree
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Where it stands, what it runs, what its record says
    Show(Show),
    /// Write the receipt of its hand-over into a file, for its owner
    Receipt(Receipt),
}

/// Where it stands, what it runs, what its record says
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Its name, its key, or the first 6 characters of its fingerprint
    #[arg(value_name = "NAME|KEY")]
    word: String,
    /// How long to look for it, at most 25s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = patience)]
    within: u64,
}

/// Write the receipt of its hand-over into a file, for its owner
#[derive(Debug, Args)]
pub(crate) struct Receipt {
    /// Its name, or the first 6 characters of its fingerprint
    #[arg(value_name = "NAME")]
    word: String,
    /// The file to write, which `borgios depart --receipt` reads
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Command {
    /// Does it.
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Show(show) => show.run(context),
            Self::Receipt(receipt) => receipt.run(context),
        }
    }
}

impl Show {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let Self { word, within } = self;
        let mut door = context.door()?;
        let within_ms = u64::try_from(Duration::from_secs(within).as_millis()).unwrap_or(u64::MAX);
        let answer = door.ask(&json!({"get": "node", "word": word, "within_ms": within_ms}))?;
        context.printer.answer(&answer, &describe(&answer, &door.name()))?;
        if answer["found"] == true {
            return Ok(());
        }
        let turnout = &answer["turnout"];
        let (answered, members) = (plain(&turnout["answered"]), plain(&turnout["members"]));
        let name = answer["name"].as_str().unwrap_or(&word);
        Err(Failure::new(format!("{name} was not found in the tree"))
            .because(format!("{answered} of {members} servers answered, and none of them is it"))
            .hint("it is off, cut off, or behind a server that did not answer; `borgios tree` shows the rest"))
    }
}

impl Receipt {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let mut desk = Desk::look(context)?;
        let servers = desk.servers()?;
        let server = servers.find(&self.word, context.now(), evicted(desk.archive().chain()))?;
        let (Some(envelope), Some(handover)) = (server.receipt(), server.handover()) else {
            let what = format!("no receipt of {} is known here", server.describe());
            return Err(Failure::new(what).hint(
                "it gives one when its root is handed over; `borgios sync --node HOST:PORT` fetches it",
            ));
        };
        durable::write_public(&self.out, envelope.to_json().as_bytes())?;
        let owner = handover.owner.map(|owner| owner.fingerprint());
        let answer = json!({
            "file": self.out, "id": envelope.id(), "name": handover.name, "node": handover.node,
            "owner": owner, "at": handover.at,
        });
        let text = format!(
            "{}: the receipt of {}, of {}\n  owner     {}",
            self.out.display(),
            server.describe(),
            handover.at,
            owner.unwrap_or_else(|| "none is named".to_owned())
        );
        context.printer.answer(&answer, &text)
    }
}

/// What is known of it. Its words are its own; the record is signed.
pub(crate) fn describe(answer: &Value, door: &str) -> String {
    let word = |pointer: &str| answer.pointer(pointer).filter(|value| !value.is_null()).map(plain);
    let or_unknown = |pointer: &str| word(pointer).unwrap_or_else(|| "?".to_owned());
    let date = |pointer: &str| {
        answer.pointer(pointer).and_then(Value::as_u64).map(|at| UnixSeconds(at).to_string())
    };
    let span = |pointer: &str| answer.pointer(pointer).and_then(Value::as_u64).map(span::words);
    let mut lines = vec![one_line(&format!(
        "{}  {}  {}",
        or_unknown("/name"),
        word("/address").unwrap_or_else(|| "cannot be dialled".to_owned()),
        or_unknown("/standing"),
    ))];
    let mut line = |name: &str, text: Option<String>| {
        lines.extend(text.map(|text| format!("  {name:<10} {}", one_line(&text))));
    };
    line("node", word("/node"));
    if answer["found"] == true {
        let depth = or_unknown("/place/depth");
        let parent = answer.pointer("/place/parent").filter(|parent| !parent.is_null());
        line("parent", Some(parent.map_or("none, it is the root".to_owned(), named)));
        let path = answer.pointer("/place/path").and_then(Value::as_array);
        let path = path.map(|path| path.iter().map(named).collect::<Vec<_>>().join(" > "));
        line("path", path.map(|path| format!("{path}, depth {depth}")));
        let took = plain(&answer["took_ms"]);
        let hops = or_unknown("/place/hops");
        let hops = if hops == "1" { "1 hop".to_owned() } else { format!("{hops} hops") };
        line("found", Some(format!("{hops} from {door}, in {took} ms")));
        line("attached", span("/place/attached_s").map(|span| format!("for {span}")));
        line("children", word("/place/children"));
        let release = match answer.pointer("/runs/release").and_then(Value::as_u64) {
            None => "its keeper does not answer".to_owned(),
            Some(0) => "no release".to_owned(),
            Some(seq) => format!("release/{seq}"),
        };
        let up = span("/runs/uptime_s").map(|span| format!(", up {span}")).unwrap_or_default();
        let version = word("/runs/version");
        line("runs", version.map(|version| format!("{release}, agent {version}{up}")));
        line("epoch", word("/runs/epoch"));
        if answer["claims"].as_u64() > Some(1) {
            let text = "two servers say that they are it; the nearer one is shown";
            line("doubtful", Some(text.to_owned()));
        }
    }
    let record = date("/record/issued").zip(date("/record/expires"));
    let record = record.map(|(issued, expires)| format!("signed {issued}, until {expires}"));
    line("record", record.or_else(|| Some("none here".to_owned())));
    line("invited by", word("/record/invitation"));
    line("keeper", word("/record/keeper"));
    line("owner", word("/record/owner"));
    lines.join("\n") + "\n"
}

/// A node by its name, or by its key where no record names it.
fn named(node: &Value) -> String {
    let name = node["name"].as_str().map(str::to_owned);
    name.unwrap_or_else(|| {
        let key = node["node"].as_str().and_then(|key| key.parse::<borgios_types::NodeId>().ok());
        key.map_or_else(|| "?".to_owned(), |key| key.short())
    })
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_described_with_what_is_known() {
        let key = borgios_types::SecretKey::from_seed([1; 32]).public();
        let found = json!({
            "node": key, "name": "web-3", "address": "10.0.0.3:7117", "standing": "member",
            "record": {"issued": 0, "expires": 86_400, "invitation": "sha256:00", "keeper": key},
            "found": true, "claims": 1, "took_ms": 12,
            "place": {
                "parent": {"node": key, "name": "web-1"}, "depth": 1, "hops": 3, "children": 0,
                "path": [{"node": key, "name": "web-1"}, {"node": key, "name": null}],
                "attached_s": 125,
            },
            "runs": {"version": "0.1.0", "release": 2, "epoch": null, "uptime_s": 3_700},
        });
        let text = describe(&found, "web-9:7117");
        let short = key.short();
        assert!(text.starts_with("web-3  10.0.0.3:7117  member\n"), "{text}");
        for line in [
            "  parent     web-1\n".to_owned(),
            format!("  path       web-1 > {short}, depth 1\n"),
            "  found      3 hops from web-9:7117, in 12 ms\n".to_owned(),
            "  attached   for 2 min 5 s\n".to_owned(),
            "  runs       release/2, agent 0.1.0, up 1 h 1 min\n".to_owned(),
            "  record     signed 1970-01-01T00:00:00Z, until 1970-01-02T00:00:00Z\n".to_owned(),
        ] {
            assert!(text.contains(&line), "{line:?} in {text}");
        }
        assert!(!text.contains("epoch"), "{text}");
        let gone = describe(&json!({"node": key, "found": false, "standing": "lapsed"}), "x");
        assert!(
            gone.starts_with("?  cannot be dialled  lapsed\n") && gone.contains("none here"),
            "{gone}"
        );
    }
}
