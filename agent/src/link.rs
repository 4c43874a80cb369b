//! One tree link: hello both ways, membership, then frames until one side ends it.
//!
//! ```text
//! open channel ─▶ hello ⇄ hello ─▶ membership verified ─▶ LinkUp ─▶ frames ⇄ frames ─▶ LinkDown
//!                    │ wrong network, no join record, not this key's record, out, silence
//!                    └▶ bye with a code, closed
//! ```
//!
//! Before `LinkUp` nothing the peer says reaches the tree's core.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use borgios_peertree::{Contact, Message};
use borgios_policy::{Departure, Invitation, Join, Lane, Object as _};
use borgios_types::{Envelope, NodeId};
use russh::keys::PrivateKey;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::channel::{FrameReader, FrameWriter, Sign};
use crate::clock::unix_now;
use crate::frame::FrameError;
use crate::ledger::Admission;
use crate::ledger_handle::LedgerHandle;
use crate::outbox::Outbox;
use crate::questions::{QuestionHandle, Said};
use crate::roll::Out;
use crate::ssh_client;
use crate::tree_handle::{LinkId, NewLink, TreeHandle};
use crate::wire::{Bye, Frame, Hello, PROTOCOL, WireError};

/// Longest wait for the other side's hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Signs of life of one link are passed on this far apart: beats come every 1.5 s, and whoever
/// sends nothing but empty lines costs the tree's task no more than five events a second.
const SIGNS_PACE: Duration = Duration::from_millis(200);
/// Longest wait for the other side to close after this side did.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// Silence after which a link is given up whatever the core thinks; heartbeats come far faster.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// Why a link ended.
#[derive(Debug, Error)]
pub enum LinkEnd {
    /// The other side, or the network, closed it.
    #[error("closed by the other side")]
    Closed,
    /// This side closed it.
    #[error("closed by this side")]
    Ours,
    /// The other side said why.
    #[error("the other side ended it: {code}: {message}")]
    Bye {
        /// Its code.
        code: String,
        /// Its words.
        message: String,
    },
    /// Silence.
    #[error("nothing heard for too long")]
    Silent,
    /// A line that is none.
    #[error("{0}")]
    Line(#[from] FrameError),
    /// A line that is no frame.
    #[error("{0}")]
    Frame(#[from] WireError),
    /// A frame that has no place here.
    #[error("an unexpected {0} frame")]
    Unexpected(&'static str),
    /// Another version of the protocol.
    #[error("it speaks protocol {0}, this is protocol {PROTOCOL}")]
    Protocol(u32),
    /// Another fleet.
    #[error("it belongs to another network")]
    WrongNetwork,
    /// No membership that this node can verify.
    #[error("{code}: {why}")]
    NotAMember {
        /// The rule that failed.
        code: &'static str,
        /// The values.
        why: String,
    },
    /// The other side is a member no more.
    #[error("{}", out.message())]
    Out {
        /// Why.
        out: Out,
        /// What proves it.
        because: Vec<Envelope>,
    },
    /// This node has no join record yet, or no more.
    #[error("this node is no member now")]
    NotReady,
    /// A link to itself.
    #[error("this node dialled itself")]
    Myself,
}

impl LinkEnd {
    /// The stable name of the reason.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Ours => "ours",
            Self::Bye { .. } => "bye",
            Self::Silent => "silent",
            Self::Line(error) => error.code(),
            Self::Frame(_) => "malformed",
            Self::Unexpected(_) => "unexpected",
            Self::Protocol(_) => "protocol",
            Self::WrongNetwork => "wrong_network",
            Self::NotAMember { code, .. } => code,
            Self::Out { out, .. } => out.code(),
            Self::NotReady => "not_ready",
            Self::Myself => "myself",
        }
    }
}

/// Makes links. Clones share everything.
#[derive(Clone)]
pub struct LinkHub {
    me: NodeId,
    key: Arc<PrivateKey>,
    ledger: LedgerHandle,
    tree: TreeHandle,
    questions: QuestionHandle,
    stop: CancellationToken,
    ids: Arc<AtomicU64>,
    farewell: CancellationToken,
}

/// Both ends of an open channel.
struct Ends {
    reader: FrameReader,
    writer: FrameWriter,
    cut: CancellationToken,
}

impl LinkHub {
    /// A hub for this node.
    #[must_use]
    pub fn new(
        me: NodeId,
        key: Arc<PrivateKey>,
        ledger: LedgerHandle,
        tree: TreeHandle,
        questions: QuestionHandle,
        stop: CancellationToken,
    ) -> Self {
        let (ids, farewell) = (Arc::default(), CancellationToken::new());
        Self { me, key, ledger, tree, questions, stop, ids, farewell }
    }

    /// Cancelled once another node has said that this one departed.
    #[must_use]
    pub fn farewell(&self) -> CancellationToken {
        self.farewell.clone()
    }

    /// Runs a link that the other side dialled, to its end.
    pub async fn accepted(
        &self,
        peer: NodeId,
        from: SocketAddr,
        reader: FrameReader,
        writer: FrameWriter,
        cut: CancellationToken,
    ) {
        let end = self.run(peer, None, Ends { reader, writer, cut }).await;
        self.log(peer, &from.to_string(), &end);
    }

    /// Dials a contact and runs the link to its end. The tree hears `LinkUp` or `DialFailed`.
    pub async fn dial(&self, contact: Contact, cut: CancellationToken) {
        let Contact { id: peer, address } = contact;
        match ssh_client::dial(&address, peer, self.key.clone(), cut).await {
            Ok(dialled) => {
                let ssh_client::Dialled { reader, writer, cut, session } = dialled;
                let end = self.run(peer, Some(&address), Ends { reader, writer, cut }).await;
                drop(session);
                self.log(peer, &address, &end);
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                debug!(peer = %peer.short(), %address, ?cause, "cannot dial: {error}");
            }
        }
        // Counts only if no link came of it.
        self.tree.dial_failed(peer).await;
    }

    fn log(&self, peer: NodeId, at: &str, end: &LinkEnd) {
        match end {
            LinkEnd::Closed | LinkEnd::Ours | LinkEnd::Bye { .. } | LinkEnd::NotReady => {
                debug!(BORGIOS_EVENT = "link_down", BORGIOS_PEER = %peer, at, "link ended: {end}");
            }
            _ => warn!(
                BORGIOS_EVENT = "link_refused",
                BORGIOS_REFUSAL = end.code(),
                BORGIOS_PEER = %peer,
                at,
                "link ended: {end}"
            ),
        }
    }

    async fn run(&self, peer: NodeId, dialled: Option<&str>, mut ends: Ends) -> LinkEnd {
        let cut = ends.cut.clone();
        let end = tokio::select! {
            end = self.greet_and_talk(peer, dialled, &mut ends) => end,
            () = cut.cancelled() => LinkEnd::Ours,
            () = self.stop.cancelled() => LinkEnd::Ours,
        };
        if !matches!(end, LinkEnd::Closed | LinkEnd::Ours | LinkEnd::Bye { .. }) {
            let because =
                if let LinkEnd::Out { because, .. } = &end { because.as_slice() } else { &[] };
            let because = because.to_vec();
            let bye = Bye { code: end.code().to_owned(), message: end.to_string(), because };
            let farewell = async {
                // Whether it arrives is of no importance: it is for the other side's log.
                let _ = ends.writer.send(Frame::Bye(bye).to_line()).await;
                ends.writer.finish(1).await;
                // The other side closes once it has read the reason.
                ends.reader.drain().await;
            };
            let _ = tokio::time::timeout(CLOSE_GRACE, farewell).await;
        }
        cut.cancel();
        end
    }

    async fn greet_and_talk(
        &self,
        peer: NodeId,
        dialled: Option<&str>,
        ends: &mut Ends,
    ) -> LinkEnd {
        let address = match self.greet(peer, dialled, ends).await {
            Ok(address) => address,
            Err(end) => return end,
        };
        let id = LinkId(self.ids.fetch_add(1, Ordering::Relaxed));
        let outbox = Arc::new(Outbox::new());
        let link = NewLink {
            peer,
            id,
            dialled: dialled.is_some(),
            address,
            outbox: outbox.clone(),
            cut: ends.cut.clone(),
        };
        self.tree.up(link).await;
        info!(BORGIOS_EVENT = "link_up", BORGIOS_PEER = %peer, dialled = dialled.is_some(), "link up");
        // Whatever happens from here on, also a cut, the tree hears of the end.
        let _down = Down { tree: self.tree.clone(), peer, id, outbox: outbox.clone() };
        self.talk(peer, id, &outbox, ends).await
    }

    /// Exchanges hellos and verifies the peer's membership; returns where it can be dialled.
    async fn greet(
        &self,
        peer: NodeId,
        dialled: Option<&str>,
        ends: &mut Ends,
    ) -> Result<Option<String>, LinkEnd> {
        if peer == self.me {
            return Err(LinkEnd::Myself);
        }
        let me = self.me;
        self.not_out(peer).await?;
        let (network, membership) =
            self.ledger.run(move |l| (l.chain().network(), l.membership(&me))).await;
        let (Some(network), false) = (network, membership.is_empty()) else {
            return Err(LinkEnd::NotReady);
        };
        let hello = Hello { protocol: PROTOCOL, network, membership };
        ends.writer.send(Frame::Hello(hello).to_line()).await.map_err(|_| LinkEnd::Closed)?;
        let line = tokio::time::timeout(HELLO_TIMEOUT, ends.reader.next())
            .await
            .map_err(|_| LinkEnd::Silent)??
            .ok_or(LinkEnd::Closed)?;
        let hello = match Frame::parse(&line)? {
            Frame::Hello(hello) => hello,
            Frame::Bye(bye) => return Err(self.on_bye(peer, bye).await),
            Frame::Ask(_) => return Err(LinkEnd::Unexpected("ask")),
            Frame::Answer(_) => return Err(LinkEnd::Unexpected("answer")),
            Frame::Direct(_) => return Err(LinkEnd::Unexpected("direct")),
            Frame::Returned(_) => return Err(LinkEnd::Unexpected("returned")),
            Frame::Tree(message) => return Err(LinkEnd::Unexpected(message.name())),
        };
        if hello.protocol != PROTOCOL {
            return Err(LinkEnd::Protocol(hello.protocol));
        }
        if hello.network != network {
            return Err(LinkEnd::WrongNetwork);
        }
        let mut refused = None;
        for envelope in hello.membership {
            // A stranger brings what concerns itself, nothing else.
            if !matches!(envelope.kind.as_str(), Invitation::KIND | Join::KIND) {
                let why = format!("a {} proves no membership", envelope.kind);
                refused = Some(("wrong_kind", why));
                continue;
            }
            // What it shows is judged like anything else, and told to the fleet if it is news.
            match self.ledger.run(move |l| l.admit(envelope, &peer.short())).await {
                Admission::Admitted(all) => self.tree.publish(all).await,
                Admission::Known | Admission::Disk(_) => {}
                Admission::Deferred { code, why } => refused = Some((code, why)),
                Admission::Refused { code, why } => refused = Some((code, why)),
            }
        }
        self.not_out(peer).await?;
        let join = self.ledger.run(move |l| l.join_of(&peer)).await;
        match join {
            Some(join) if unix_now() < join.expires => Ok(join.address),
            // Whom this node dialled it knew before; a newer policy may be what it lacks to
            // verify the record, and only a link can bring it.
            _ if dialled.is_some() => Ok(dialled.map(str::to_owned)),
            Some(_) => {
                let why = "its join record has lapsed".to_owned();
                Err(LinkEnd::NotAMember { code: "expired", why })
            }
            None => {
                let (code, why) = refused.unwrap_or_else(|| {
                    ("unknown_member", "it showed no join record of its own key".to_owned())
                });
                Err(LinkEnd::NotAMember { code, why })
            }
        }
    }

    /// A node that is out is told so, and why, whatever it shows.
    async fn not_out(&self, peer: NodeId) -> Result<(), LinkEnd> {
        let out = self.ledger.run(move |ledger| {
            let out = ledger.out(&peer)?;
            Some((out, ledger.proof_of_exit(&peer, out)))
        });
        match out.await {
            Some((out, because)) => Err(LinkEnd::Out { out, because }),
            None => Ok(()),
        }
    }

    /// The other side's last word. That this node is out it does not believe, but what proves it
    /// is judged like anything else.
    async fn on_bye(&self, peer: NodeId, bye: Bye) -> LinkEnd {
        let Bye { code, message, because } = bye;
        if code == Out::Departed.code() {
            self.farewell.cancel();
        }
        if [Out::Evicted.code(), Out::Departed.code()].contains(&code.as_str()) {
            for envelope in because {
                let kind = envelope.kind.as_str();
                let of_lane = matches!(kind.parse(), Ok(Lane::Policy | Lane::Member));
                if !of_lane && kind != Departure::KIND {
                    continue;
                }
                let admission = self.ledger.run(move |ledger| {
                    let known = ledger.chain().known(&envelope.id()).is_some();
                    (!known).then(|| ledger.admit(envelope, &peer.short()))
                });
                if let Some(Admission::Admitted(all)) = admission.await {
                    self.tree.publish(all).await;
                }
            }
        }
        let short = |text: &str, max| text.chars().filter(|c| !c.is_control()).take(max).collect();
        LinkEnd::Bye { code: short(&code, 40), message: short(&message, 200) }
    }

    /// Moves frames until one side ends the link.
    async fn talk(
        &self,
        peer: NodeId,
        id: LinkId,
        outbox: &Arc<Outbox>,
        ends: &mut Ends,
    ) -> LinkEnd {
        let Ends { reader, writer, .. } = ends;
        let writing = async {
            while let Some(frame) = outbox.next().await {
                if writer.send(frame).await.is_err() {
                    return;
                }
            }
            writer.finish(0).await;
        };
        let reading = self.read(peer, id, reader);
        tokio::pin!(reading);
        tokio::select! {
            end = &mut reading => end,
            () = writing => {
                // This side is done; the other one may still be sending.
                let _ = tokio::time::timeout(CLOSE_GRACE, &mut reading).await;
                LinkEnd::Ours
            }
        }
    }

    async fn read(&self, peer: NodeId, id: LinkId, reader: &mut FrameReader) -> LinkEnd {
        // Many signs of one sort say no more than one; a beat must not be lost among the others.
        let (mut alive, mut moved) = (None, None);
        let lane = self.questions.lane(peer);
        loop {
            let line = match tokio::time::timeout(IDLE_MAX, reader.sign()).await {
                Err(_) => return LinkEnd::Silent,
                Ok(Err(error)) => return error.into(),
                Ok(Ok(None)) => return LinkEnd::Closed,
                Ok(Ok(Some(Sign::Line(line)))) => line,
                Ok(Ok(Some(Sign::Alive))) => {
                    if alive.is_none_or(|at: Instant| at.elapsed() >= SIGNS_PACE) {
                        alive = Some(Instant::now());
                        self.tree.received(peer, id, Message::Alive).await;
                    }
                    continue;
                }
                Ok(Ok(Some(Sign::Moved))) => {
                    if moved.is_none_or(|at: Instant| at.elapsed() >= SIGNS_PACE) {
                        moved = Some(Instant::now());
                        self.tree.heard(peer, id).await;
                    }
                    continue;
                }
            };
            match Frame::parse(&line) {
                Ok(Frame::Tree(message)) => self.tree.received(peer, id, message).await,
                Ok(Frame::Answer(answer)) => lane.say(Said::Answer(answer)),
                Ok(Frame::Ask(ask)) => lane.say(Said::Ask(ask)),
                Ok(Frame::Direct(direct)) => lane.say(Said::Direct(direct)),
                Ok(Frame::Returned(returned)) => lane.say(Said::Returned(returned)),
                Ok(Frame::Bye(bye)) => return self.on_bye(peer, bye).await,
                Ok(Frame::Hello(_)) => return LinkEnd::Unexpected("hello"),
                Err(error) => return error.into(),
            }
        }
    }
}

/// Tells the tree that a link ended, also when its future is dropped half-way.
struct Down {
    tree: TreeHandle,
    peer: NodeId,
    id: LinkId,
    outbox: Arc<Outbox>,
}

impl Drop for Down {
    fn drop(&mut self) {
        self.outbox.close();
        let (tree, peer, id) = (self.tree.clone(), self.peer, self.id);
        tokio::spawn(async move { tree.down(peer, id).await });
    }
}
