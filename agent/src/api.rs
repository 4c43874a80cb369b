//! What tools can ask: the same requests over the Unix socket and over SSH.
//!
//! A request is one JSON object with `get` or `put`; an answer is `{"ok":…}` or
//! `{"error":{"code","message"}}`. Reading needs a governor's key or the local socket; what is put
//! is verified like anything that comes over the tree, whoever brings it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use borgios_peertree::question::Question;
use borgios_policy::{Held, Name, Object as _, Report};
use borgios_types::{Digest, Envelope, NodeId, PublicKey};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::clock::unix_now;
use crate::credential_watch::ScheduleView;
use crate::entrance::Entrance;
use crate::fleet;
use crate::frame::FRAME_MAX;
use crate::handback::Handbacks;
use crate::keeper_watch::KeeperView;
use crate::ledger::Ledger;
use crate::ledger_handle::LedgerHandle;
use crate::object_api::{chosen, ids, page};
use crate::questions::report::WITHIN_DEFAULT;
use crate::questions::{Observer, QuestionHandle, lookup, report};
use crate::roll::Out;
use crate::stream_api::{self, Place};
use crate::streams::Streams;
use crate::tree_handle::{TreeHandle, View};
use crate::uploads::{Progress, Uploads};

/// Bytes of objects in one answer: a page and its largest object stay below a frame.
pub(crate) const PAGE_BYTES: usize = FRAME_MAX / 2 - 4096;
/// Longest wait for the whole tree's answer.
const TREE_TIMEOUT: Duration = Duration::from_secs(4);

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub enum Caller {
    /// Over the Unix socket; who may open it, its mode says.
    Local,
    /// Over SSH, with this key.
    Key(PublicKey),
}

/// As logs name it.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("a local tool"),
            Self::Key(key) => f.write_str(&key.short()),
        }
    }
}

/// The requests' way to everything. Clones share it.
#[derive(Clone)]
pub struct Api(Arc<Parts>);

/// What the requests are answered from.
pub struct Parts {
    /// This node.
    pub me: NodeId,
    /// Its name.
    pub name: Name,
    /// Where it can be dialled.
    pub address: Option<String>,
    /// Chain and store.
    pub ledger: LedgerHandle,
    /// The tree.
    pub tree: TreeHandle,
    /// Asks the fleet.
    pub questions: QuestionHandle,
    /// Looks at this node.
    pub observer: Observer,
    /// The keeper's last status.
    pub keeper: KeeperView,
    /// The schedule in force.
    pub schedule: ScheduleView,
    /// Tells governors what is known of their ballots.
    pub handbacks: Handbacks,
    /// Blobs that come in pieces.
    pub uploads: Uploads,
    /// What servers say to all.
    pub streams: Streams,
    /// When the agent began.
    pub started: Instant,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Get {
    Status,
    Tree,
    Nodes,
    Ids,
    Objects,
    Object,
    Heads,
    Reports,
    Ask,
    Node,
    Streams,
    Messages,
    Handback,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Put {
    Envelope,
    Blob,
    Message,
}

#[derive(Deserialize)]
struct Request {
    get: Option<Get>,
    put: Option<Put>,
    kind: Option<String>,
    after: Option<Digest>,
    id: Option<Digest>,
    ids: Option<Vec<Digest>>,
    envelope: Option<Box<RawValue>>,
    digest: Option<Digest>,
    size: Option<u64>,
    offset: Option<u64>,
    bytes: Option<String>,
    question: Option<Question>,
    within_ms: Option<u64>,
    word: Option<String>,
    origin: Option<NodeId>,
    position: Option<Place>,
    from: Option<NodeId>,
    news: Option<u64>,
    governor: Option<Name>,
    challenge: Option<Digest>,
    #[serde(default)]
    volatile: bool,
}

/// An answer that says why not.
#[must_use]
pub fn error(code: &str, message: &str) -> Value {
    json!({"error": {"code": code, "message": message}})
}

/// Whether a line, whose length has been bounded, is read as a request at all.
#[must_use]
pub fn is_request(line: &str) -> bool {
    serde_json::from_str::<Request>(line).is_ok()
}

pub(crate) fn ok(value: impl Into<Value>) -> Value {
    json!({"ok": value.into()})
}

impl Api {
    /// Answers from `parts`.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// What the answers come from.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.0
    }

    /// Whether this caller may ask at all.
    pub async fn may_ask(&self, caller: &Caller) -> bool {
        match *caller {
            Caller::Local => true,
            Caller::Key(key) => {
                self.0.ledger.run(move |ledger| ledger.governor(&key).is_some()).await
            }
        }
    }

    /// Answers one request, whose length has been bounded.
    pub async fn request(&self, caller: &Caller, line: &str) -> Value {
        // The board may have changed since the connection was opened.
        if !self.may_ask(caller).await {
            return error("not_a_governor", "this key is no governor's of the board in force");
        }
        let request: Request = match serde_json::from_str(line) {
            Ok(request) => request,
            Err(bad) => return error("bad_request", &format!("not a request: {bad}")),
        };
        match (&request.get, &request.put) {
            (Some(get), None) => self.get(caller, get, &request).await,
            (None, Some(Put::Envelope)) => self.put_envelope(caller, request.envelope).await,
            (None, Some(Put::Blob)) => self.put_blob(request).await,
            (None, Some(Put::Message)) => {
                let (kind, bytes) = (request.kind.as_deref(), request.bytes.as_deref());
                stream_api::publish(&self.0.streams, caller, kind, bytes, request.volatile).await
            }
            _ => error("bad_request", "a request has either `get` or `put`"),
        }
    }

    async fn get(&self, caller: &Caller, get: &Get, request: &Request) -> Value {
        let ledger = &self.0.ledger;
        match get {
            Get::Status => self.status().await,
            Get::Tree => self.tree().await,
            Get::Heads => ok(ledger.run(|ledger| heads(ledger)).await),
            Get::Nodes => {
                let after = request.after;
                ledger.run(move |ledger| fleet::nodes(ledger, after)).await
            }
            Get::Reports => {
                let after = request.after;
                ledger.run(move |ledger| page(ledger, Report::KIND, after)).await
            }
            Get::Ids => {
                let (Some(kind), after) = (request.kind.clone(), request.after) else {
                    return error("bad_request", "`ids` needs a `kind`");
                };
                ledger.run(move |ledger| ids(ledger, &kind, after)).await
            }
            Get::Objects => match (&request.kind, &request.ids) {
                (Some(kind), None) => {
                    let (kind, after) = (kind.clone(), request.after);
                    ledger.run(move |ledger| page(ledger, &kind, after)).await
                }
                (None, Some(ids)) => {
                    let ids = ids.clone();
                    ledger.run(move |ledger| chosen(ledger, &ids)).await
                }
                _ => error("bad_request", "`objects` needs either a `kind` or `ids`"),
            },
            Get::Ask => {
                let Some(question) = request.question.clone() else {
                    return error("bad_request", "`ask` needs a `question`");
                };
                report::ask(&self.0, question, within(request)).await
            }
            Get::Node => {
                let Some(word) = &request.word else {
                    return error("bad_request", "`node` needs a `word`: a name or a key");
                };
                lookup::show(&self.0, word, within(request)).await
            }
            Get::Streams => {
                if let Some(known) = request.news {
                    stream_api::await_news(&self.0.streams, known, within(request)).await;
                }
                stream_api::heads(&self.0.streams, ledger, request.from).await
            }
            Get::Messages => {
                stream_api::messages(&self.0.streams, request.origin, request.position).await
            }
            Get::Handback => {
                let (Some(governor), Some(challenge)) =
                    (request.governor.clone(), request.challenge)
                else {
                    return error("bad_request", "`handback` needs a `governor` and a `challenge`");
                };
                self.0.handbacks.answer(ledger, governor, challenge, caller).await
            }
            Get::Object => {
                let Some(id) = request.id else {
                    return error("bad_request", "`object` needs an `id`");
                };
                let found = ledger.run(move |ledger| ledger.store().get(&id).cloned()).await;
                match found {
                    Some(stored) => ok(json!(stored.envelope)),
                    None => error("not_found", &format!("no object {id} here")),
                }
            }
        }
    }

    async fn put_envelope(&self, caller: &Caller, raw: Option<Box<RawValue>>) -> Value {
        let Some(raw) = raw else {
            return error("bad_request", "`put envelope` needs an `envelope`");
        };
        let from = caller.to_string();
        let envelope = match Envelope::parse(raw.get().as_bytes()) {
            Ok(envelope) => envelope,
            Err(bad) => {
                let refusal = borgios_policy::Refusal::from(bad);
                tracing::warn!(
                    BORGIOS_EVENT = "refused",
                    BORGIOS_REFUSAL = refusal.code(),
                    BORGIOS_FROM = from,
                    "refused an object from {from}: {refusal}"
                );
                return error(refusal.code(), &refusal.to_string());
            }
        };
        self.take(envelope, from).await
    }

    /// Whether a policy of a recovery key may be brought here by whoever has it.
    pub async fn may_be_recovered(&self) -> bool {
        self.0.ledger.run(|ledger| ledger.recovery_key().is_some()).await
    }

    /// Takes the one thing that a key may bring that is no governor's: a policy that the recovery key
    /// signed. `None` where the line is anything else; it is not looked at further then.
    pub async fn recover(&self, caller: &Caller, line: &str) -> Option<Value> {
        let request: Request = serde_json::from_str(line).ok()?;
        let (None, Some(Put::Envelope), Some(raw)) = (&request.get, &request.put, request.envelope)
        else {
            return None;
        };
        let envelope = Envelope::parse(raw.get().as_bytes()).ok()?;
        let asked = envelope.clone();
        if !self.0.ledger.run(move |ledger| ledger.is_recovery(&asked)).await {
            return None;
        }
        Some(self.take(envelope, caller.to_string()).await)
    }

    async fn take(&self, envelope: Envelope, from: String) -> Value {
        let id = envelope.id();
        let Parts { ledger, tree, .. } = &*self.0;
        match ledger.enter(tree, move |ledger| ledger.admit(envelope, &from)).await {
            Entrance::New => ok(json!({"id": id, "new": true, "held": self.held(id).await})),
            Entrance::Known => ok(json!({"id": id, "new": false, "held": self.held(id).await})),
            Entrance::Deferred { code, why } | Entrance::Refused { code, why } => error(code, &why),
            Entrance::Disk(why) => error("disk", &format!("the node cannot store it: {why}")),
        }
    }

    /// How a statement stands that waits here.
    async fn held(&self, id: Digest) -> Option<Held> {
        let held = move |ledger: &mut Ledger| {
            ledger.gate().report(unix_now(), ledger.chain()).into_iter().find(|held| held.id == id)
        };
        self.0.ledger.run(held).await
    }

    async fn put_blob(&self, request: Request) -> Value {
        let Request { digest, size, offset, bytes, .. } = request;
        let (Some(digest), Some(size), Some(offset), Some(bytes)) = (digest, size, offset, bytes)
        else {
            return error("bad_request", "`put blob` needs `digest`, `size`, `offset` and `bytes`");
        };
        let uploads = self.0.uploads.clone();
        let put = move || uploads.put(digest, size, offset, &bytes);
        let put = tokio::task::spawn_blocking(put).await;
        self.0.uploads.watch();
        match put {
            Ok(Ok(Progress::Whole)) => ok(json!({"have": size, "whole": true})),
            Ok(Ok(Progress::At(have))) => ok(json!({"have": have, "whole": false})),
            Ok(Err(refused)) => error(refused.code(), &refused.to_string()),
            Err(_) => error("internal", "the upload was cut off"),
        }
    }

    async fn tree(&self) -> Value {
        let Some(found) = self.0.questions.ask(Question::Tree, TREE_TIMEOUT).await else {
            return error("busy", "this node works on as many questions as it can; ask again");
        };
        let mut places = found.places;
        places.silent = found.tally.silent.iter().copied().collect();
        // What is behind a silent one is missing too.
        places.partial |= found.tally.silent_nodes > 0;
        ok(json!(places))
    }

    async fn status(&self) -> Value {
        let Parts { me, name, address, ledger, tree, keeper, started, .. } = &*self.0;
        let view = tree.view().borrow().clone();
        let keeper = keeper.borrow().clone();
        let schedule = self.0.schedule.borrow().clone();
        let (me, says) = (*me, keeper.as_ref().and_then(|keeper| keeper.credential.clone()));
        let known = ledger
            .run(move |ledger| {
                let now = unix_now();
                let counts: serde_json::Map<String, Value> = ledger
                    .store()
                    .counts()
                    .map(|(kind, count)| (kind.to_owned(), count.into()))
                    .collect();
                json!({
                    "network": ledger.chain().network(),
                    "heads": heads(ledger),
                    "objects": counts,
                    "members": ledger.members(now).len(),
                    "evicted": ledger.evicted().contains(&me),
                    "departed": ledger.out(&me) == Some(Out::Departed),
                    "fleet": fleet::lateness(ledger, now, schedule.as_deref()),
                })
            })
            .await;
        let load = sysinfo::System::load_average().ok();
        ok(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "node": me,
            "name": name,
            "address": address,
            "network": known["network"],
            "heads": known["heads"],
            "objects": known["objects"],
            "tree": place(&view),
            "members": known["members"],
            "evicted": known["evicted"],
            "departed": known["departed"],
            "credential": says.map(|says| {
                let mut says = json!(says);
                says["fleet"] = known["fleet"].clone();
                says
            }),
            "access": keeper.as_ref().map(|keeper| &keeper.access),
            "handed_over": keeper.as_ref().map(|keeper| keeper.handed_over),
            "keeper": keeper,
            "installed": keeper.as_ref().map(|keeper| keeper.installed),
            "time": unix_now(),
            "uptime_s": started.elapsed().as_secs(),
            "machine": {
                "uptime_s": sysinfo::System::uptime().ok(),
                "load": load.map(|load| [load.one, load.five, load.fifteen]),
            },
        }))
    }

    /// Whether this node has a place in the tree.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.0.tree.view().borrow().attached()
    }

    /// Whether this program does its work: a member has a place in the tree; a server whose keeper
    /// does not run yet, as in its first minute, has nothing to show but that it answers.
    pub async fn well(&self) -> bool {
        let me = self.0.me;
        self.ready() || self.0.ledger.run(move |ledger| ledger.join_of(&me).is_none()).await
    }
}

fn within(request: &Request) -> Duration {
    request.within_ms.map_or(WITHIN_DEFAULT, Duration::from_millis)
}

fn place(view: &View) -> Value {
    let state = match view.state {
        borgios_peertree::State::Idle => "idle",
        borgios_peertree::State::Seeking { .. } => "seeking",
        // The root has a place like everyone else; `parent` tells it apart.
        borgios_peertree::State::Attached { .. } | borgios_peertree::State::Root => "attached",
    };
    json!({
        "state": state,
        "root": view.path.first(),
        "is_root": view.state == borgios_peertree::State::Root,
        "parent": view.parent,
        "children": view.children,
        "depth": view.path.len().saturating_sub(1),
        "subtree_size": view.subtree_size,
        "size": view.tree_size,
        "links": view.links,
        "cross": view.cross,
        "gaps": view.gaps,
        "neighbours_left": view.left,
        "evidence": *view.evidence,
    })
}

fn heads(ledger: &Ledger) -> Value {
    let heads = ledger.heads().into_iter().map(|(lane, head)| (lane.to_string(), json!(head)));
    Value::Object(heads.collect())
}
