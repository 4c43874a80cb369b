//! What two neighbours say to each other, as plain data.
//!
//! On the wire each message is one line of JSON, `{"join":{…}}`; the shell bounds the line before
//! it parses it, and [`Message::bounded`] bounds the lists before the core looks at them.

use std::collections::BTreeMap;
use std::sync::Arc;

use borgios_types::{Digest, NodeId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::bounds;
use crate::contact::{Address, Contact, Contacts, Spot};

/// What two neighbours say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// "Take me as your child." First message of whoever seeks a place.
    Join(Join),
    /// "Not here: try these." An empty list means "not now". From a parent: "leave me, try these."
    Redirect {
        /// At most [`bounds::REDIRECT_MAX`], best first.
        to: Vec<Contact>,
    },
    /// "You are my child now."
    Accept(Down),
    /// News from the parent: what changed.
    Heartbeat(Down),
    /// News from a child: what changed.
    Report(Up),
    /// "I live." From a parent that said nothing for a while, and a child's answer. On the wire an
    /// empty line.
    Alive,
    /// "I am no longer your neighbour."
    Leave,
    /// "This is the root of my tree." Asked by a root that looks for other trees, and answered.
    Compare {
        /// The root the sender knows of.
        root: NodeId,
        /// Where that root can be dialled, if it can.
        address: Option<Address>,
        /// Whether the sender wants the other's answer.
        asks: bool,
    },
    /// Passed up to the root: another tree was met, and its root comes before ours.
    Rival {
        /// The other tree's root.
        root: Contact,
        /// The node of that tree that was met.
        via: Contact,
    },
    /// "Compare with me now and then; I stand at the end of this path." Opens a cross link, and goes
    /// before each summary on it.
    Cross {
        /// From the root (first) to the sender (last).
        path: Vec<NodeId>,
    },
    /// "A digest of all I have." Whoever has the same is alive and says so; anyone else answers with
    /// a summary, which is answered with one.
    Same(u64),
    /// "This is all I have, in short." Sent both ways at attachment and when digests differ.
    Summary(Summary),
    /// "Others have these, I have not; they stand at the end of this path, so you should have brought
    /// them." Along the path of the tree.
    Missing {
        /// At most [`bounds::GAPS_OPEN_MAX`].
        ids: Vec<Digest>,
        /// Where somebody is who has them.
        path: Vec<NodeId>,
    },
    /// "I lack these as well", the answer to that.
    Lacking {
        /// At most [`bounds::GAPS_OPEN_MAX`].
        ids: Vec<Digest>,
    },
    /// "They came from where they should have": what was lacking is no gap any more.
    Found {
        /// At most [`bounds::GAPS_OPEN_MAX`].
        ids: Vec<Digest>,
    },
    /// "Send me your ids after this one."
    Page {
        /// `None` starts from the beginning.
        after: Option<Digest>,
    },
    /// One page of live ids, in order.
    Ids {
        /// At most [`bounds::PAGE_IDS_MAX`].
        ids: Vec<Digest>,
        /// No id follows these.
        last: bool,
    },
    /// "Send me these objects."
    Want {
        /// At most [`bounds::WANT_IDS_MAX`].
        ids: Vec<Digest>,
    },
    /// "Send me the statements of this lane that follow number `after`, in order."
    Follow {
        /// The lane's name.
        lane: String,
        /// The asker's head; 0 for none.
        after: u64,
    },
    /// A signed object, byte for byte.
    Object {
        /// The SHA-256 of its payload; the receiver's shell recomputes it.
        id: Digest,
        /// Its kind, such as `release`.
        kind: String,
        /// The envelope.
        body: Body,
    },
}

/// What a joiner says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Redirects followed so far; 0 comes straight from a list of seeds.
    pub hops: u32,
    /// Nodes that come along, itself included.
    pub size: u32,
    /// Nodes it was redirected to and could not reach, at most [`bounds::UNREACHABLE_MAX`].
    pub unreachable: Vec<NodeId>,
}

/// What a parent tells a child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Down {
    /// From the root (first) to the sender (last).
    pub path: Contacts,
    /// The sender's oldest children in the order they came: the succession, if the sender is root.
    pub siblings: Contacts,
    /// The sender's own siblings.
    pub uncles: Contacts,
    /// The shallowest free place of the whole tree, as the root last knew it.
    pub free: Option<Spot>,
    /// Nodes of the whole tree, as the root last knew it.
    pub tree_size: u32,
}

/// What a child tells its parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Up {
    /// Nodes at and below the sender.
    pub size: u32,
    /// The shallowest free place at or below the sender, which is at depth 0.
    pub free: Option<Spot>,
}

/// A store in short: equal summaries mean equal stores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Newest statement of each lane.
    pub heads: BTreeMap<String, Head>,
    /// Number of live objects outside the lanes.
    pub count: u64,
    /// Exclusive or of their ids.
    pub xor: Digest,
}

/// The newest statement of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its number, from 1.
    pub seq: u64,
    /// Its id.
    pub id: Digest,
}

/// An object as it was received: JSON text, shared and never re-serialised.
#[derive(Clone, Debug)]
pub struct Body(Arc<RawValue>);

impl Body {
    /// Takes the JSON text of an envelope.
    ///
    /// # Errors
    /// Text that is not one JSON value.
    pub fn from_text(text: impl Into<String>) -> Result<Self, serde_json::Error> {
        Ok(Self(RawValue::from_string(text.into())?.into()))
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Body {}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (*self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| Self(raw.into()))
    }
}

impl Message {
    /// Whether every list and text in it keeps its bound; one that does not is never handled.
    #[must_use]
    pub fn bounded(&self) -> bool {
        let contacts =
            |list: &[Contact], max| list.len() <= max && list.iter().all(Contact::plausible);
        let spot = |spot: &Option<Spot>| spot.as_ref().is_none_or(|spot| spot.at.plausible());
        match self {
            Self::Join(join) => join.unreachable.len() <= bounds::UNREACHABLE_MAX,
            Self::Redirect { to } => contacts(to, bounds::REDIRECT_MAX),
            Self::Accept(down) | Self::Heartbeat(down) => {
                contacts(&down.path, bounds::PATH_MAX)
                    && contacts(&down.siblings, bounds::SIBLINGS_MAX)
                    && contacts(&down.uncles, bounds::SIBLINGS_MAX)
                    && spot(&down.free)
            }
            Self::Report(up) => spot(&up.free),
            Self::Leave | Self::Alive | Self::Same(_) | Self::Page { .. } => true,
            Self::Cross { path } => path.len() <= bounds::PATH_MAX,
            Self::Missing { ids, path } => {
                ids.len() <= bounds::GAPS_OPEN_MAX && path.len() <= bounds::PATH_MAX
            }
            Self::Lacking { ids } | Self::Found { ids } => ids.len() <= bounds::GAPS_OPEN_MAX,
            // It is passed on as a contact.
            Self::Compare { root, address, .. } => address
                .as_ref()
                .is_none_or(|address| Contact::new(*root, address.clone()).plausible()),
            Self::Rival { root, via } => root.plausible() && via.plausible(),
            Self::Summary(summary) => {
                summary.heads.len() <= bounds::LANES_MAX
                    && summary.heads.keys().all(|lane| lane.len() <= bounds::KIND_MAX)
            }
            Self::Ids { ids, .. } => ids.len() <= bounds::PAGE_IDS_MAX,
            Self::Want { ids } => ids.len() <= bounds::WANT_IDS_MAX,
            Self::Follow { lane, .. } => lane.len() <= bounds::KIND_MAX,
            Self::Object { kind, .. } => kind.len() <= bounds::KIND_MAX,
        }
    }

    /// The names of all messages, as [`Message::name`] says them.
    pub const NAMES: [&'static str; 20] = [
        "join",
        "redirect",
        "accept",
        "heartbeat",
        "report",
        "alive",
        "leave",
        "compare",
        "rival",
        "cross",
        "same",
        "summary",
        "missing",
        "lacking",
        "found",
        "page",
        "ids",
        "want",
        "follow",
        "object",
    ];

    /// The message's name, for logs and traces.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Join(_) => "join",
            Self::Redirect { .. } => "redirect",
            Self::Accept(_) => "accept",
            Self::Heartbeat(_) => "heartbeat",
            Self::Report(_) => "report",
            Self::Alive => "alive",
            Self::Leave => "leave",
            Self::Compare { .. } => "compare",
            Self::Rival { .. } => "rival",
            Self::Cross { .. } => "cross",
            Self::Same(_) => "same",
            Self::Summary(_) => "summary",
            Self::Missing { .. } => "missing",
            Self::Lacking { .. } => "lacking",
            Self::Found { .. } => "found",
            Self::Page { .. } => "page",
            Self::Ids { .. } => "ids",
            Self::Want { .. } => "want",
            Self::Follow { .. } => "follow",
            Self::Object { .. } => "object",
        }
    }

    /// Whether it is counted as such: objects, requests for them and their answers have counts of
    /// their own.
    pub(crate) fn is_chatter(&self) -> bool {
        let counted = matches!(
            self,
            Self::Object { .. }
                | Self::Page { .. }
                | Self::Ids { .. }
                | Self::Want { .. }
                | Self::Follow { .. }
                | Self::Missing { .. }
        );
        !counted
    }

    /// Whether it is small and urgent: such messages go before objects on a busy link.
    #[must_use]
    pub fn is_control(&self) -> bool {
        !matches!(self, Self::Object { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_travels_byte_for_byte() {
        let line = r#"{"object":{"id":"sha256:0000000000000000000000000000000000000000000000000000000000000000","kind":"note","body":{"type":"note",  "payload":"{\"a\":1}","sigs":[]}}}"#;
        let message: Message = serde_json::from_str(line).unwrap();
        let Message::Object { body, .. } = &message else { panic!("{message:?}") };
        assert_eq!(body.as_str(), r#"{"type":"note",  "payload":"{\"a\":1}","sigs":[]}"#);
        assert_eq!(serde_json::to_string(&message).unwrap(), line);
    }

    #[test]
    fn lists_past_their_bound_are_seen() {
        let id = Digest::of(b"x");
        let ids = |count| Message::Ids { ids: vec![id; count], last: true };
        assert!(ids(bounds::PAGE_IDS_MAX).bounded() && !ids(bounds::PAGE_IDS_MAX + 1).bounded());
        let kind = "k".repeat(bounds::KIND_MAX + 1);
        assert!(!Message::Follow { lane: kind, after: 0 }.bounded());
        let me = borgios_types::SecretKey::from_seed([1; 32]).public();
        let to = |count| Message::Redirect { to: vec![Contact::new(me, "a:1"); count] };
        assert!(to(bounds::REDIRECT_MAX).bounded() && !to(bounds::REDIRECT_MAX + 1).bounded());
        let missing = |count, depth| {
            Message::Missing { ids: vec![id; count], path: vec![me; depth] }.bounded()
        };
        assert!(missing(bounds::GAPS_OPEN_MAX, bounds::PATH_MAX));
        assert!(!missing(bounds::GAPS_OPEN_MAX + 1, 1) && !missing(1, bounds::PATH_MAX + 1));
        assert!(!Message::Redirect { to: vec![Contact::new(me, "a:1\n")] }.bounded());
    }

    #[test]
    fn messages_read_back_from_json() {
        for message in
            [Message::Leave, Message::Alive, Message::Same(7), Message::Page { after: None }]
        {
            let text = serde_json::to_string(&message).unwrap();
            assert_eq!(serde_json::from_str::<Message>(&text).unwrap(), message);
        }
        assert!(serde_json::from_str::<Message>(r#"{"sing":{}}"#).is_err());
    }
}
