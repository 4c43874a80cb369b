//! `borgios stream tail`: messages of one server's stream or of all, each stream in order.
//!
//! A reader that stores the last `epoch` and `number` with what it did, and begins after them, is
//! given each message once, whatever fails in between.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use borgios_types::NodeId;
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::commands::stream_heads::{Stream, all_after};
use crate::context::Context;
use crate::ending;
use crate::failure::{Failure, OrFail as _};
use crate::printer::one_line;
use crate::transport::api::Door;

/// Most pages of one stream: a node keeps 65,536 messages of it, and a page holds one at least.
const PAGES_MAX: usize = 65_536;
/// Pause between news and the next question for them.
const GATHER: Duration = Duration::from_millis(50);

/// Messages of a stream, in order
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Of this server only: its name or key
    #[arg(long, value_name = "NODE")]
    origin: Option<String>,
    /// Begin with this number; EPOCH:N where the stream began anew
    #[arg(long, value_name = "N")]
    from: Option<String>,
    /// Go on with what comes, until SIGINT (ctrl-c), SIGTERM, or nobody reads any more
    #[arg(long)]
    follow: bool,
}

/// A place in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Position {
    epoch: u64,
    number: u64,
}

/// One message.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Message {
    origin: NodeId,
    epoch: u64,
    number: u64,
    kind: String,
    issued: u64,
    /// Base64.
    bytes: String,
}

#[derive(Deserialize)]
struct Page {
    messages: Vec<Message>,
    #[serde(default)]
    gone: Option<Position>,
    #[serde(default)]
    next: Option<Position>,
}

impl Tail {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let from = self.from.as_deref().map(position).transpose()?;
        if self.follow {
            ending::on_a_signal()?;
        }
        let mut door = context.door()?;
        let (mut streams, mut news) = all_after(door.as_mut(), None)?;
        self.choose(&mut streams);
        if let Some(wanted) = self.origin.as_ref().filter(|_| streams.is_empty() && !self.follow) {
            return Err(Failure::new(format!("no stream of {wanted} is here"))
                .hint("`borgios stream heads` lists them"));
        }
        // How far each was read.
        let mut cursors: BTreeMap<NodeId, Position> = BTreeMap::new();
        for stream in &streams {
            if let Some((epoch, number)) = from {
                let epoch = epoch.unwrap_or(stream.epoch);
                let number = number.saturating_sub(1);
                cursors.insert(stream.origin, Position { epoch, number });
            }
        }
        loop {
            for stream in &streams {
                let cursor = cursors.get(&stream.origin).copied();
                let end = Position { epoch: stream.epoch, number: stream.last };
                if cursor.is_some_and(|cursor| cursor >= end) {
                    continue;
                }
                let Some(read) = print(context, door.as_mut(), stream, cursor)? else {
                    // Nobody reads any more.
                    return Ok(());
                };
                cursors.extend(read.map(|read| (stream.origin, read)));
            }
            if !self.follow {
                return Ok(());
            }
            let Some(known) = news else {
                return Err(Failure::new(format!("{} cannot be followed", door.name()))
                    .because("its agent is older than this")
                    .hint("ask now and then without `--follow`"));
            };
            // A node where much is said is not asked for every single message.
            std::thread::sleep(GATHER);
            (streams, news) = all_after(door.as_mut(), Some(known))?;
            self.choose(&mut streams);
        }
    }

    fn choose(&self, streams: &mut Vec<Stream>) {
        if let Some(wanted) = &self.origin {
            streams.retain(|stream| names(stream, wanted));
        }
    }
}

/// Prints what comes after a place; how far that was, if anything came. `None` once nobody reads.
fn print(
    context: &Context,
    door: &mut dyn Door,
    stream: &Stream,
    mut after: Option<Position>,
) -> Result<Option<Option<Position>>, Failure> {
    for _ in 0..PAGES_MAX {
        let request = json!({"get": "messages", "origin": stream.origin, "position": after});
        let answer = door.ask(&request)?;
        let page: Page = serde_json::from_value(answer)
            .or_fail(|| format!("{} sent no messages", door.name()))?;
        if let Some(gone) = page.gone {
            context.printer.warn(&format!(
                "{}: what came before {}:{} is no longer kept",
                name(stream),
                gone.epoch,
                gone.number
            ));
        }
        for message in &page.messages {
            if !context.printer.deliver(&shown(message), &line(stream, message))? {
                return Ok(None);
            }
        }
        // A node that sends no messages and yet more to come is not followed.
        match page.next {
            Some(next) if after != Some(next) => after = Some(next),
            _ => return Ok(Some(after)),
        }
    }
    Err(Failure::new(format!("{} never stops sending messages", door.name())))
}

/// `17`, or `1700000000:17`.
pub(crate) fn position(text: &str) -> Result<(Option<u64>, u64), Failure> {
    let bad = || Failure::usage(format!("{text:?} is no place in a stream: write 17, or EPOCH:17"));
    let (epoch, number) = match text.split_once(':') {
        Some((epoch, number)) => (Some(epoch.parse().map_err(|_| bad())?), number),
        None => (None, text),
    };
    Ok((epoch, number.parse().map_err(|_| bad())?))
}

fn names(stream: &Stream, wanted: &str) -> bool {
    stream.name.as_deref() == Some(wanted)
        || wanted.parse::<NodeId>().is_ok_and(|key| key == stream.origin)
}

fn name(stream: &Stream) -> String {
    stream.name.clone().unwrap_or_else(|| stream.origin.short())
}

/// For machines: the bytes, and the text where they are one.
fn shown(message: &Message) -> Value {
    let mut value = json!(message);
    if let Some(text) = text(message) {
        value["text"] = text.into();
    }
    value
}

fn text(message: &Message) -> Option<String> {
    String::from_utf8(BASE64.decode(&message.bytes).ok()?).ok()
}

/// A page as it is shown, for the fuzzer.
#[cfg(feature = "fuzz")]
pub(crate) fn lines(page: &Value) -> Result<String, serde_json::Error> {
    let Page { messages, .. } = serde_json::from_value(page.clone())?;
    let lines = messages.iter().map(|message| {
        let (epoch, last) = (message.epoch, message.number);
        let stream = Stream { origin: message.origin, name: None, epoch, last, stopped: false };
        let _ = shown(message);
        line(&stream, message) + "\n"
    });
    Ok(lines.collect())
}

/// For people.
fn line(stream: &Stream, message: &Message) -> String {
    let said = text(message).map_or_else(
        || format!("({} bytes that are no text)", message.bytes.len() / 4 * 3),
        |text| one_line(&text),
    );
    format!("{} {} {}: {said}", one_line(&name(stream)), message.number, one_line(&message.kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_nonsense_is_named() {
        assert_eq!(position("17").unwrap(), (None, 17));
        assert_eq!(position("1700000000:17").unwrap(), (Some(1_700_000_000), 17));
        for bad in ["", ":", "x", "1:", ":1", "1:2:3", "-1"] {
            assert!(position(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn messages_of_any_bytes_become_one_line() {
        let origin = borgios_types::SecretKey::from_seed([1; 32]).public();
        let stream =
            Stream { origin, name: Some("web-1".into()), epoch: 1, last: 2, stopped: false };
        let message = |bytes: &[u8]| Message {
            origin,
            epoch: 1,
            number: 2,
            kind: "note".into(),
            issued: 3,
            bytes: BASE64.encode(bytes),
        };
        assert_eq!(line(&stream, &message(b"hello")), "web-1 2 note: hello");
        assert_eq!(line(&stream, &message(b"two\nlines")).lines().count(), 1);
        assert!(line(&stream, &message(&[0xff; 6])).contains("6 bytes"));
        assert_eq!(shown(&message(b"hello"))["text"], "hello");
        assert!(shown(&message(&[0xff]))["text"].is_null());
        assert!(names(&stream, "web-1") && names(&stream, &origin.to_string()));
        assert!(!names(&stream, "web-2"));
    }
}
