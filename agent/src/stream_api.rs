//! What tools can say and read of streams.
//!
//! Saying is for the server itself: over the Unix socket, whose mode says who may. A message goes out
//! under the *node's* key, and who says something under it speaks for the machine; a governor has a
//! key of their own to speak with, and asks over SSH to read only.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use borgios_relay::PublishError;
use borgios_relay::hub::Refusal;
use borgios_stream::log::Found;
use borgios_stream::{Batch, Durability, Head, Kind, Origin, Position};
use borgios_types::NodeId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::{Caller, PAGE_BYTES, error, ok};
use crate::ledger_handle::LedgerHandle;
use crate::streams::Streams;

/// Streams in one answer.
const HEADS_PAGE: usize = 1_024;
/// Bytes of the log that one answer reads: with base64 and the fields around each message, one page.
const READ_MAX: usize = 256 * 1024;

/// Longest wait for news: below what tools wait for an answer.
const NEWS_WAIT: Duration = Duration::from_secs(20);
/// Longest wait until a message is stored: it waits while this node's neighbours do not keep up.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(20);

/// A place in a stream, as tools write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    epoch: u64,
    number: u64,
}

impl From<Place> for Position {
    fn from(place: Place) -> Self {
        Self::new(place.epoch, place.number)
    }
}

impl From<Position> for Place {
    fn from(position: Position) -> Self {
        Self { epoch: position.epoch, number: position.number }
    }
}

fn not_ready() -> Value {
    error("not_ready", "this node's streams are not open yet; ask again later")
}

/// Of a message that was taken: whoever says it again at once may say it twice.
fn not_known() -> Value {
    let why = "it is not stored yet, and may still be: read the stream before you say it again";
    error("slow", why)
}

/// Says a message in this node's stream; answers once it is stored.
pub(crate) async fn publish(
    streams: &Streams,
    caller: &Caller,
    kind: Option<&str>,
    bytes: Option<&str>,
    volatile: bool,
) -> Value {
    match caller {
        Caller::Local => {}
        Caller::Key(_) => {
            let why = "a server speaks in its own stream; ask for it on the server itself";
            return error("local_only", why);
        }
    }
    let (Some(kind), Some(bytes)) = (kind, bytes) else {
        return error("bad_request", "`put message` needs `kind` and `bytes`");
    };
    let Ok(kind) = Kind::new(kind) else {
        return error("bad_kind", "a kind is up to 32 letters, digits and marks");
    };
    let Ok(body) = BASE64.decode(bytes) else {
        return error("bad_request", "`bytes` is not base64");
    };
    let Some(hub) = streams.hub() else { return not_ready() };
    let durability = if volatile { Durability::Volatile } else { Durability::Durable };
    let publishing = hub.publish(kind, durability, Bytes::from(body));
    let Ok(published) = tokio::time::timeout(PUBLISH_TIMEOUT, publishing).await else {
        return not_known();
    };
    match published {
        Ok(receipt) => {
            let origin = receipt.origin.key();
            ok(json!({"origin": origin, "epoch": receipt.epoch, "number": receipt.number}))
        }
        Err(PublishError::Ended) => not_known(),
        Err(PublishError::Refused(why)) => {
            let code = match why {
                Refusal::TooLong => "too_large",
                Refusal::Full => "busy",
                Refusal::NotStored => "disk",
                Refusal::Stopped => "stopped",
                Refusal::Ahead => "clock",
            };
            error(code, &why.to_string())
        }
    }
}

/// Waits until something else is stored here than what a reader knows of, at most `within`.
pub(crate) async fn await_news(streams: &Streams, known: u64, within: Duration) {
    // Not in time: the reader is told so by the same number, and asks again.
    let _ = tokio::time::timeout(within.min(NEWS_WAIT), streams.news_after(known)).await;
}

/// One page of the streams that are stored here, by key.
pub(crate) async fn heads(streams: &Streams, ledger: &LedgerHandle, from: Option<NodeId>) -> Value {
    let Some(hub) = streams.hub() else { return not_ready() };
    // Before the heads are read: what comes meanwhile is news.
    let news = streams.news();
    let Some(mut heads) = hub.heads().await else { return not_ready() };
    heads.sort_by_key(|head| head.origin);
    if let Some(from) = from.map(Origin::from) {
        heads.retain(|head| head.origin > from);
    }
    let more = heads.len() > HEADS_PAGE;
    heads.truncate(HEADS_PAGE);
    let next = heads.last().filter(|_| more).and_then(|head| head.origin.key());
    let shown = ledger.run(move |ledger| {
        let show = |head: &Head| {
            let node = head.origin.key()?;
            let name = ledger.join_of(&node).map(|join| join.name);
            Some(json!({
                "origin": node, "name": name, "epoch": head.last.epoch, "last": head.last.number,
            }))
        };
        heads.iter().filter_map(show).collect::<Vec<_>>()
    });
    ok(json!({"streams": shown.await, "next": next, "news": news}))
}

/// One page of a stream's messages after a position; the oldest kept ones without it.
pub(crate) async fn messages(
    streams: &Streams,
    origin: Option<NodeId>,
    after: Option<Place>,
) -> Value {
    let Some(origin) = origin else {
        return error("bad_request", "`messages` needs an `origin`");
    };
    let Some(hub) = streams.hub() else { return not_ready() };
    let mut after = after.map_or(Position::START, Position::from);
    // Who begins at the beginning asks for what there is, and has missed nothing.
    let told = after == Position::START;
    let mut gone = None;
    loop {
        match hub.read(Origin::from(origin), after, READ_MAX).await {
            None => return not_ready(),
            Some(Err(why)) => return error("disk", &why.to_string()),
            Some(Ok(Found::Gone { next })) if gone.is_none() => {
                gone = Some(next);
                after = next.before();
            }
            // Retention went on meanwhile.
            Some(Ok(Found::Gone { .. })) => return error("busy", "the log moves on; ask again"),
            Some(Ok(Found::Batches(batches))) => {
                let gone = gone.filter(|_| !told).map(Place::from);
                let (messages, next) = page(origin, &batches, after);
                return ok(json!({"messages": messages, "gone": gone, "next": next}));
            }
        }
    }
}

/// As many messages as fit one answer, and where the next page begins.
fn page(origin: NodeId, batches: &[Batch], after: Position) -> (Vec<Value>, Option<Place>) {
    let (mut shown, mut bytes, mut last) = (Vec::new(), 0, None);
    for batch in batches {
        for message in batch.messages().filter(|message| message.position > after) {
            let value = json!({
                "origin": origin,
                "epoch": message.position.epoch,
                "number": message.position.number,
                "kind": batch.kind().as_str(),
                "issued": batch.issued(),
                "bytes": BASE64.encode(&message.body),
            });
            bytes += value.to_string().len() + 1;
            if bytes > PAGE_BYTES && last.is_some() {
                return (shown, last.map(Place::from));
            }
            last = Some(message.position);
            shown.push(value);
        }
    }
    (shown, last.map(Place::from))
}
