//! `borgios broadcast`: says something to every node. It decides nothing.
//!
//! Without `--kind` a governor says a text, under the governor's key. With it a server says a
//! message of that kind in its own stream, under its own key: that is asked on the server itself.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use borgios_policy::{Note, Object as _};
use borgios_types::NodeId;
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::context::Context;
use crate::failure::{Failure, OrFail as _};
use crate::receipts;
use crate::session::Session;
use crate::span;

/// Longest message, in bytes; what is larger travels as a blob and is named in one.
const MESSAGE_MAX: u64 = 256 * 1024;

/// Say something to every node
#[derive(Debug, Args)]
pub(crate) struct Broadcast {
    /// What to say
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    text: Option<String>,
    /// Say it in this server's stream, as a message of this kind, instead of as a governor's note
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Say what this file holds; - is standard input
    #[arg(long, value_name = "FILE", requires = "kind")]
    file: Option<PathBuf>,
    /// Wait until every server has stored it, and say how many have
    #[arg(long, requires = "kind")]
    wait: bool,
    /// Longest wait
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = span::seconds)]
    within: u64,
}

/// Where a published message stands in this server's stream.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// This server.
    pub(crate) origin: NodeId,
    /// When this history of its stream began.
    pub(crate) epoch: u64,
    /// The message's number in it.
    pub(crate) number: u64,
}

impl Broadcast {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        match &self.kind {
            Some(kind) => self.publish(context, kind),
            None => note(context, self.text.unwrap_or_default()),
        }
    }

    fn publish(&self, context: &Context, kind: &str) -> Result<(), Failure> {
        let bytes = match (&self.text, &self.file) {
            (Some(text), _) => text.as_bytes().to_vec(),
            (None, Some(file)) => read(file)?,
            (None, None) => return Err(Failure::usage("nothing to say: give a text or --file")),
        };
        if bytes.len() as u64 > MESSAGE_MAX {
            return Err(Failure::new(format!("a message has at most {MESSAGE_MAX} bytes"))
                .hint("give it to a node with `borgios blob put` and say its digest"));
        }
        let mut door = context.door()?;
        let request = json!({"put": "message", "kind": kind, "bytes": BASE64.encode(bytes)});
        let answer = door.ask(&request)?;
        let receipt: Receipt = serde_json::from_value(answer)
            .or_fail(|| format!("{} sent no receipt", door.name()))?;
        let said = receipt.to_string();
        if !self.wait {
            return context.printer.answer(&json!(receipt), &said);
        }
        context.printer.say(&said);
        let (item, within) = (json!({"message": receipt}), Duration::from_secs(self.within));
        let receipts = receipts::wait_for(door.as_mut(), &context.printer, &item, within)?;
        let answer = json!({"message": receipt, "receipts": receipts.value});
        context.printer.answer(&answer, &receipts.text)?;
        receipts.or_incomplete()
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, epoch, number } = self;
        write!(f, "message {number} of {origin} (since {epoch}) is stored and on its way")
    }
}

/// What a file holds, or standard input.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let what = || format!("could not read {}", path.display());
    // One more than is allowed is enough to see that it is too much.
    if path == Path::new("-") {
        std::io::stdin().take(MESSAGE_MAX + 1).read_to_end(&mut bytes).or_fail(what)?;
    } else {
        let file = std::fs::File::open(path).or_fail(what)?;
        file.take(MESSAGE_MAX + 1).read_to_end(&mut bytes).or_fail(what)?;
    }
    Ok(bytes)
}

/// A governor's note.
fn note(context: &Context, text: String) -> Result<(), Failure> {
    let mut session = Session::open(context)?;
    session.desk.need_a_place()?;
    let network = session.network();
    let note = Note { network, text, at: context.now() };
    let envelope = note.to_envelope().sign(session.identity().ssh());
    session.desk.publish(&envelope)?;
    let answer = json!({"id": envelope.id(), "sent_to": session.desk.places()});
    let text = format!("note {} sent to {}", envelope.id().short(), session.desk.places());
    context.printer.answer(&answer, &text)
}
