//! `borgios log`: who decided what, when, with what comments.

use borgios_policy::{Choice, Lane, VerifiedStatement};
use clap::Args;
use serde_json::{Value, json};

use crate::archive::Archive;
use crate::context::Context;
use crate::desk::Desk;
use crate::failure::Failure;
use crate::printer::one_line;
use crate::servers::Servers;
use crate::wording;

/// Who decided what, when, with what comments
#[derive(Debug, Args)]
pub(crate) struct Log {
    /// Only this lane: policy, release, credential, member or access
    lane: Option<Lane>,
}

impl Log {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        // The log is there offline; it is brought up to date only where that was asked for.
        let asked = context.exchange.is_some() || !context.nodes.is_empty();
        let archive =
            if asked { Desk::look(context)?.into_archive() } else { context.archive()? };
        let network = context.membership()?.network;
        let servers = Servers::load(&context.home, &archive, network)?;
        let mut answer: Vec<Value> = Vec::new();
        let mut text = String::new();
        for verified in archive.chain().history() {
            if self.lane.is_some_and(|lane| lane != verified.statement().lane) {
                continue;
            }
            answer.push(row(&archive, &servers, verified));
            text.push_str(&describe(&archive, &servers, verified));
        }
        if self.lane.is_none() {
            for held in archive.notes().values() {
                let (by, note) = (&held.by, &held.value);
                answer.push(json!({"note": note.text, "by": by, "at": note.at}));
                text.push_str(&format!("note  {}  {by}: {}\n", note.at, one_line(&note.text)));
            }
        }
        context.printer.answer(&answer, &text)
    }
}

/// A ballot on a statement, for one line of the log.
struct Voice {
    name: String,
    approves: bool,
    words: Vec<String>,
}

fn voices(archive: &Archive, verified: &VerifiedStatement) -> Vec<Voice> {
    let on_it = archive.ballots().values().filter(|held| held.value.statement == verified.id());
    let mut voices: Vec<Voice> = on_it
        .map(|held| {
            let reason = match &held.value.choice {
                Choice::Reject { reason } => Some(reason.clone()),
                Choice::Approve { .. } | Choice::Commit { .. } => None,
            };
            Voice {
                name: held.by.to_string(),
                approves: held.value.approves(),
                words: reason.into_iter().chain(held.value.comment.clone()).collect(),
            }
        })
        .collect();
    voices.sort_by(|one, other| one.name.cmp(&other.name));
    voices
}

fn row(archive: &Archive, servers: &Servers, verified: &VerifiedStatement) -> Value {
    let statement = verified.statement();
    let ballots: Vec<Value> = voices(archive, verified)
        .into_iter()
        .map(|voice| {
            let choice = if voice.approves { "approve" } else { "reject" };
            json!({"governor": voice.name, "choice": choice, "words": voice.words})
        })
        .collect();
    json!({
        "place": format!("{}/{}", statement.lane, statement.seq), "round": statement.round,
        "id": verified.id(), "issued": statement.issued, "expires": statement.expires,
        "policy": statement.policy, "body": statement.body, "ballots": ballots,
        "summary": wording::summary(servers, statement),
    })
}

fn describe(archive: &Archive, servers: &Servers, verified: &VerifiedStatement) -> String {
    let statement = verified.statement();
    let version = statement.body.get("version").and_then(Value::as_str);
    let version = version.map(|version| format!("  version {}", one_line(version)));
    let mut text = format!(
        "{}/{}  {}  {}{}\n",
        statement.lane,
        statement.seq,
        statement.issued,
        verified.id().short(),
        version.unwrap_or_default()
    );
    if let Some(words) = wording::summary(servers, statement) {
        text.push_str(&format!("  {words}\n"));
    }
    for voice in voices(archive, verified) {
        let verb = if voice.approves { "approved" } else { "rejected" };
        let words = voice.words.iter().map(|words| format!(": {}", one_line(words)));
        text.push_str(&format!("  {verb} by {}{}\n", voice.name, words.collect::<String>()));
    }
    text
}
