//! What the agent calls and hears: the handle of a running hub, its settings, its events.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use borgios_stream::bounds::{BATCH_BODY_MAX, WAITING_MAX};
use borgios_stream::log::Found;
use borgios_stream::{
    Admission, Config, DiskLog, Durability, Evidence, Head, Kind, Limits, LinkId, LogError,
    MemoryLog, Origin, Position, Recovered, Relay, Role,
};
use borgios_types::{Digest, NodeId, SecretKey};
use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::log_worker::AnyLog;
use crate::pipe::Pipe;
use crate::shell::{self, Command, Publish, Shell};
use crate::subscription::{LIVE_MAX, Subscription};

pub use borgios_stream::io::{Misdeed, Refusal};

pub use crate::verifiers::Verifiers;

/// Messages that wait to be taken in; whoever publishes more waits.
pub(crate) const PUBLISH_QUEUE: usize = 1024;
/// Bytes of messages that are being published, half of what the core lets wait: whoever publishes
/// more waits here and is never refused for it.
const PUBLISH_BYTES: usize = WAITING_MAX / 2;
/// What a message costs at least of those bytes, for it costs memory beside its own.
const PUBLISH_LEAST: usize = 256;
/// Commands that wait for the hub.
const COMMAND_QUEUE: usize = 64;
/// Events that wait for the agent; more wait in the hub ([`crate::told`]).
const EVENT_QUEUE: usize = 256;

/// Told of every batch that came over a link and looked whole, before it is verified.
pub type ArrivalTap = Arc<dyn Fn(&borgios_stream::Batch) + Send + Sync>;

/// What a hub must know.
#[derive(Clone)]
pub struct HubConfig {
    /// The network.
    pub network: Digest,
    /// This node's key: it signs this node's own batches.
    pub key: SecretKey,
    /// When a batch is forwarded.
    pub relay: Relay,
    /// Who verifies: `None` is the hub itself, between two frames, which is fastest for a node that
    /// forwards what it has verified.
    pub verifiers: Option<Verifiers>,
    /// The log's folder; `None` keeps it in memory, for tests and the bench: two starts within one second
    /// would then number two messages alike.
    pub log: Option<PathBuf>,
    /// How much the log keeps.
    pub limits: Limits,
    /// For measurements.
    pub on_arrival: Option<ArrivalTap>,
}

/// Why a hub did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The log cannot be opened.
    #[error("cannot open the log of streams")]
    Log(#[source] LogError),
    /// A thread of this program has panicked while opening it.
    #[error("opening the log of streams has panicked")]
    Panicked,
}

/// A message is stored here, as its durability asks, and on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// This node.
    pub origin: Origin,
    /// Its log's generation.
    pub epoch: u64,
    /// The message's number.
    pub number: u64,
}

/// Why a message was not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PublishError {
    /// The core's reason.
    #[error("not published")]
    Refused(#[source] Refusal),
    /// The hub has ended. What it had stored was answered, but where its log has panicked: then it is not
    /// known.
    #[error("the hub has ended")]
    Ended,
}

/// What the agent hears.
#[derive(Clone, Debug)]
pub enum Event {
    /// May this origin speak? Answer with [`HubHandle::admit`]; until then its batches are dropped.
    Admit(Origin),
    /// A neighbour broke the protocol and was cut off; shun it.
    Misbehaved {
        /// Who.
        peer: NodeId,
        /// What it did.
        why: Misdeed,
    },
    /// A link's pipe has ended, whoever ended it.
    LinkEnded {
        /// The link.
        link: LinkId,
        /// Who was at the other end.
        peer: NodeId,
    },
    /// A neighbour reads more slowly than it is sent to, as happens while it catches up. It gets
    /// nothing more until it has read, and fetches what it missed.
    Stalled {
        /// The link.
        link: LinkId,
        /// Who.
        peer: NodeId,
    },
    /// A neighbour has read nothing for ten seconds while much waits for it. It holds up nobody, and
    /// gets nothing more until it reads; drop a child's tree link, and it heals elsewhere.
    Stuck {
        /// The link.
        link: LinkId,
        /// Who.
        peer: NodeId,
    },
    /// It reads again.
    Recovered {
        /// The link.
        link: LinkId,
        /// Who.
        peer: NodeId,
    },
    /// This node's own stream was begun by a clock that was over a day ahead of what it says now: no
    /// other node takes it, and what is to be published is refused.
    Ahead {
        /// The epoch in which it would go on.
        epoch: u64,
    },
    /// An origin signed two histories; its stream is stopped, the evidence kept and relayed.
    Equivocated(Evidence),
    /// A cross link knew of messages that no tree link brought in time.
    Withheld {
        /// Whose messages.
        origin: Origin,
        /// Up to here.
        upto: Position,
        /// Who knew.
        told_by: NodeId,
    },
    /// The log has failed: what comes now is not stored and not acknowledged.
    LogFailed(LogError),
    /// The log, which had failed, was opened again: what comes now is stored.
    LogReopened,
}

/// A running hub. Clones share it; it runs until [`HubHandle::stop`].
#[derive(Clone, Debug)]
pub struct HubHandle {
    me: Origin,
    commands: mpsc::Sender<Command>,
    publish: mpsc::Sender<Publish>,
    ids: Arc<std::sync::atomic::AtomicU64>,
    room: Arc<Semaphore>,
}

impl HubHandle {
    /// Opens the log and starts the hub in a task of its own.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: HubConfig) -> Result<(Self, mpsc::Receiver<Event>), StartError> {
        let me = Origin::from(config.key.public());
        let limits = config.limits;
        let folder = config.log.clone();
        let open = move || open_log(folder, limits, me);
        let opened = tokio::task::spawn_blocking(open).await;
        let (log, recovered) =
            opened.map_err(|_| StartError::Panicked)?.map_err(StartError::Log)?;
        let (commands, command_inbox) = mpsc::channel(COMMAND_QUEUE);
        let (publish, publish_inbox) = mpsc::channel(PUBLISH_QUEUE);
        let (events, event_inbox) = mpsc::channel(EVENT_QUEUE);
        let core = Config { network: config.network, me: config.key.public(), relay: config.relay };
        let shell = Shell::new(config, core, log, recovered, events);
        tokio::spawn(shell.run(command_inbox, publish_inbox));
        let ids = Arc::default();
        let room = Arc::new(Semaphore::new(PUBLISH_BYTES));
        Ok((Self { me, commands, publish, ids, room }, event_inbox))
    }

    /// This node, as the origin of what it publishes.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.me
    }

    /// Publishes a message; returns once it is stored here. Waits while the node's neighbours do not
    /// keep up.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(
        &self,
        kind: Kind,
        durability: Durability,
        body: Bytes,
    ) -> Result<Receipt, PublishError> {
        if body.len() > BATCH_BODY_MAX {
            return Err(PublishError::Refused(Refusal::TooLong));
        }
        let bytes = u32::try_from(body.len().max(PUBLISH_LEAST)).expect("at most 256 KiB");
        let _room = self.room.acquire_many(bytes).await.map_err(|_| PublishError::Ended)?;
        let (reply, answer) = oneshot::channel();
        let publish = Publish { kind, durability, body, reply };
        self.publish.send(publish).await.map_err(|_| PublishError::Ended)?;
        let position = answer.await.map_err(|_| PublishError::Ended)??;
        Ok(Receipt { origin: self.me, epoch: position.epoch, number: position.number })
    }

    /// Starts talking over a pipe to a neighbour that is authenticated and a member. A node may have
    /// several links to one peer for a while; the hub treats each alone.
    pub async fn link_up<P: Pipe>(&self, peer: NodeId, role: Role, pipe: P) -> LinkId {
        let link = LinkId(self.ids.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let wire = shell::wire(pipe);
        // A hub that has ended drops the pipe.
        let _ = self.commands.send(Command::LinkUp { link, peer, role, wire }).await;
        link
    }

    /// A tree link became a cross link, or the other way round.
    pub async fn set_role(&self, link: LinkId, role: Role) {
        let _ = self.commands.send(Command::SetRole { link, role }).await;
    }

    /// Ends a link: what waits is still sent. [`Event::LinkEnded`] follows.
    pub async fn link_down(&self, link: LinkId) {
        let _ = self.commands.send(Command::LinkDown(link)).await;
    }

    /// Whether an origin may speak: the answer to [`Event::Admit`], or news.
    pub async fn admit(&self, origin: Origin, admission: Admission) {
        let _ = self.commands.send(Command::Admit { origin, admission }).await;
    }

    /// Reads everything after these cursors: in order for each origin, each message once. An origin
    /// without a cursor is read from its oldest stored message.
    pub async fn subscribe(&self, cursors: BTreeMap<Origin, Position>) -> Option<Subscription> {
        let (live, inbox) = mpsc::channel(LIVE_MAX);
        let skipped = Arc::new(AtomicBool::new(false));
        let (reply, answer) = oneshot::channel();
        let subscribe = Command::Subscribe { live, skipped: skipped.clone(), reply };
        self.commands.send(subscribe).await.ok()?;
        let heads = answer.await.ok()?;
        Some(Subscription::new(self.clone(), inbox, skipped, cursors, heads))
    }

    /// How far each stream is stored and verified here; `None` when the hub has ended.
    pub async fn heads(&self) -> Option<Vec<Head>> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Heads(reply)).await.ok()?;
        answer.await.ok()
    }

    /// As [`HubHandle::heads`], without the names of batches.
    pub(crate) async fn stored(&self) -> Option<BTreeMap<Origin, Position>> {
        Some(self.heads().await?.into_iter().map(|head| (head.origin, head.last)).collect())
    }

    /// Reads whole batches of the log after a position, oldest first, at most `max_bytes` of them but
    /// one in any case; `None` when the hub has ended.
    pub async fn read(
        &self,
        origin: Origin,
        after: Position,
        max_bytes: usize,
    ) -> Option<Result<Found, LogError>> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Read { origin, after, max_bytes, reply }).await.ok()?;
        answer.await.ok()
    }

    /// Ends all links and closes the log; returns when that is done.
    pub async fn stop(&self) {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Stop(reply)).await;
        // The hub answers by ending.
        let _ = answer.await;
    }
}

type Opened = Result<(AnyLog, Recovered), LogError>;

fn open_log(folder: Option<PathBuf>, limits: Limits, me: Origin) -> Opened {
    match folder {
        None => Ok((AnyLog::Memory(MemoryLog::new(limits)), Recovered::default())),
        Some(folder) => {
            let (log, recovered) = DiskLog::open(&folder, limits, me, shell::unix_now())?;
            Ok((AnyLog::Disk(log), recovered))
        }
    }
}
