//! What enters the ledger, told to whoever listens; nobody who listens is ever waited for.
//!
//! ```text
//!  ledger ── enters ──▶ ring of KEPT entries ──▶ listener      reads on
//!                                           └──▶ slow listener: the oldest are gone, and it is told how many
//! ```
//!
//! Nothing is kept while nobody listens, and nothing of what everyone has read.

use std::sync::Arc;

use borgios_peertree::Body;
use borgios_policy::Lane;
use borgios_types::Digest;
use serde::Serialize;
use tokio::sync::broadcast;

use crate::clock::unix_ms;
use crate::store::Stored;

/// Entries that wait for the slowest listener: a vote in a fleet of a hundred brings some two hundred
/// at once. They share what the store holds; only what the store forgets meanwhile takes memory, at
/// most 64 KiB for each but a few pools.
pub const KEPT: usize = 256;

/// One object that entered.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The object.
    pub object: Arc<Stored>,
    /// Its lane and number, for a statement.
    pub place: Option<(Lane, u64)>,
    /// Who handed it over: a neighbour or a tool, in short; `None` for what had been waiting here.
    pub from: Option<String>,
    /// When it entered, in milliseconds since 1970, by this node's clock.
    pub at_ms: u64,
}

/// An entry as one line of JSON. The envelope stands in it byte for byte as it is relayed.
#[derive(Serialize)]
struct Line<'a> {
    kind: &'a str,
    id: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    lane: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    by: &'a str,
    from: Option<&'a str>,
    at_ms: u64,
    envelope: &'a Body,
}

impl Entry {
    /// One line, without its newline.
    #[must_use]
    pub fn to_line(&self) -> String {
        let line = Line {
            kind: self.object.kind(),
            id: self.object.id,
            lane: self.place.as_ref().map(|(lane, _)| lane.as_str()),
            seq: self.place.map(|(_, seq)| seq),
            by: self.object.by(),
            from: self.from.as_deref(),
            at_ms: self.at_ms,
            envelope: &self.object.body,
        };
        serde_json::to_string(&line).expect("an entry has string keys only")
    }
}

/// The ledger's end.
#[derive(Debug)]
pub struct Bus {
    entries: broadcast::Sender<Entry>,
    /// What is being judged, and who handed it over.
    offered: Option<(Digest, String)>,
}

impl Default for Bus {
    fn default() -> Self {
        Self { entries: broadcast::channel(KEPT).0, offered: None }
    }
}

impl Bus {
    /// Everything that enters from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Entry> {
        self.entries.subscribe()
    }

    /// What is judged next comes from `from`.
    pub fn offered(&mut self, id: Digest, from: &str) {
        self.offered = Some((id, from.to_owned()));
    }

    /// Tells of an object that is stored.
    pub fn tell(&self, object: &Arc<Stored>, place: Option<(Lane, u64)>) {
        let offered = self.offered.as_ref().filter(|(id, _)| *id == object.id);
        let from = offered.map(|(_, from)| from.clone());
        // Nobody may be listening, and that is fine.
        let _ = self.entries.send(Entry { object: object.clone(), place, from, at_ms: unix_ms() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use borgios_types::{Envelope, Kind, SecretKey};
    use tokio::sync::broadcast::error::TryRecvError;

    fn stored(text: &str) -> Arc<Stored> {
        let envelope =
            Envelope::unsigned(Kind::new("note").unwrap(), format!("{{\"t\":{text:?}}}"))
                .sign(&SecretKey::from_seed([1; 32]));
        let body = Body::from_text(envelope.to_json()).unwrap();
        Arc::new(Stored { id: envelope.id(), envelope, body, owner: "ann".into(), date: 7 })
    }

    #[test]
    fn an_entry_is_one_line_and_its_envelope_stands_there_byte_for_byte() {
        let mut bus = Bus::default();
        let mut listener = bus.listen();
        let (one, two) = (stored("one\nline"), stored("two"));
        bus.offered(one.id, "somebody");
        bus.tell(&one, None);
        bus.tell(&two, Some((Lane::Release, 4)));
        let line = listener.try_recv().unwrap().to_line();
        assert!(!line.contains('\n'));
        assert!(line.ends_with(&format!("\"envelope\":{}}}", one.envelope.to_json())), "{line}");
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&read["kind"], &read["by"]), (&"note".into(), &"ann".into()));
        assert_eq!((&read["from"], read.get("lane")), (&"somebody".into(), None));
        assert!(read["at_ms"].as_u64() > Some(1_600_000_000_000));
        let read: serde_json::Value =
            serde_json::from_str(&listener.try_recv().unwrap().to_line()).unwrap();
        assert_eq!((&read["lane"], &read["seq"]), (&"release".into(), &4.into()));
        assert!(read["from"].is_null(), "it was not what was offered");
    }

    #[test]
    fn a_slow_listener_is_told_what_it_missed_and_holds_nothing_up() {
        let bus = Bus::default();
        let object = stored("x");
        bus.tell(&object, None);
        assert_eq!(Arc::strong_count(&object), 1, "nobody listens, and it was kept");
        let mut slow = bus.listen();
        for _ in 0..KEPT + 10 {
            bus.tell(&object, None);
        }
        assert!(matches!(slow.try_recv(), Err(TryRecvError::Lagged(10))));
        assert_eq!(std::iter::from_fn(|| slow.try_recv().ok()).count(), KEPT);
        drop(slow);
        assert_eq!(Arc::strong_count(&object), 1, "everyone has read it, and it was kept");
    }
}
