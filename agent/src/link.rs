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
use borgios_types::{NodeId, PublicKey};
use russh::keys::PrivateKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::channel::{FrameReader, FrameWriter, Sign};
use crate::clock::unix_now;
use crate::depot::Depot;
use crate::dials::DialId;
use crate::entrance::Entrance;
use crate::frame::FRAME_MAX;
use crate::gate::Place;
use crate::ledger::{Admission, Ledger};
use crate::ledger_handle::LedgerHandle;
use crate::link_end::LinkEnd;
use crate::neighbours::Neighbours;
use crate::outbox::{Outbox, Total};
use crate::pieces;
use crate::questions::{QuestionHandle, Said};
use crate::roll::{Out, Standing};
use crate::ssh_client;
use crate::stream_pipes::StreamPipes;
use crate::tree_handle::{LinkId, NewLink, TreeHandle};
use crate::wire::{BlobAsk, Bye, Frame, Hello, PROTOCOL};

/// Longest wait for the other side's hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Signs of life of one link are passed on this far apart: beats come every 1.5 s, and whoever
/// sends nothing but empty lines costs the tree's task no more than five events a second.
const SIGNS_PACE: Duration = Duration::from_millis(200);
/// Longest wait for the other side to read the last of it and to close, after this side did.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// Silence after which a link is given up whatever the core thinks; heartbeats come far faster.
const IDLE_MAX: Duration = Duration::from_secs(120);
/// Longest first line of whoever dialled: four envelopes with room to spare, or a last word with
/// what proves it. Before it, nothing of a stranger is known to be worth a frame's memory.
const HELLO_MAX: usize = FRAME_MAX / 2;
/// Bytes of one link's messages that may wait for the tree's task; then the link is not read until
/// they are done. Whoever floods so delays itself, not the others.
const SHARE_BYTES: usize = FRAME_MAX + 64 * 1024;
/// What the smallest message counts: no link has more than 68 waiting.
const SHARE_LEAST: usize = 16 * 1024;

/// What links lead to.
pub struct LinkParts {
    /// This node.
    pub me: NodeId,
    /// Its key.
    pub key: Arc<PrivateKey>,
    /// Who is a member.
    pub ledger: LedgerHandle,
    /// The tree.
    pub tree: TreeHandle,
    /// Questions to the fleet.
    pub questions: QuestionHandle,
    /// Blobs that neighbours may ask for.
    pub depot: Depot,
    /// The links in use.
    pub neighbours: Neighbours,
    /// The pipes beside them.
    pub pipes: StreamPipes,
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
    depot: Depot,
    neighbours: Neighbours,
    unsent: Total,
    pipes: StreamPipes,
}

/// Which side made the connection.
#[derive(Clone, Copy)]
enum Side<'a> {
    /// This one, at this address.
    Dialled(&'a str),
    /// The other one; its place among this node's connections.
    Accepted(&'a Place),
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
    pub fn new(parts: LinkParts, stop: CancellationToken) -> Self {
        let LinkParts { me, key, ledger, tree, questions, depot, neighbours, pipes } = parts;
        let (ids, farewell) = (Arc::default(), CancellationToken::new());
        let unsent = Total::default();
        Self {
            me,
            key,
            ledger,
            tree,
            questions,
            stop,
            ids,
            farewell,
            depot,
            neighbours,
            unsent,
            pipes,
        }
    }

    /// Whether this key is a member's or a governor's of the board in force.
    pub async fn belongs(&self, key: PublicKey) -> bool {
        let belongs = move |ledger: &mut Ledger| {
            ledger.governor(&key).is_some() || ledger.standing(unix_now(), &key) == Standing::Member
        };
        self.ledger.run(belongs).await
    }

    /// The pipes beside links.
    #[must_use]
    pub fn pipes(&self) -> &StreamPipes {
        &self.pipes
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
        place: &Place,
        mut reader: FrameReader,
        writer: FrameWriter,
        cut: CancellationToken,
    ) {
        reader.limit(HELLO_MAX);
        let end = self.run(peer, Side::Accepted(place), Ends { reader, writer, cut }).await;
        self.log(peer, &from.to_string(), &end);
    }

    /// Dials a contact and runs the link to its end. The tree hears `LinkUp` or `DialFailed`.
    pub async fn dial(&self, contact: Contact, dial: DialId, cut: CancellationToken) {
        let Contact { id: peer, address } = contact;
        match ssh_client::dial(&address, peer, self.key.clone(), cut).await {
            Ok(dialled) => {
                let ssh_client::Dialled { reader, writer, cut, session } = dialled;
                let end =
                    self.run(peer, Side::Dialled(&address), Ends { reader, writer, cut }).await;
                drop(session);
                self.log(peer, &address, &end);
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                debug!(peer = %peer.short(), %address, ?cause, "cannot dial: {error}");
            }
        }
        // Counts only if no link came of it.
        self.tree.dial_failed(peer, dial).await;
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

    async fn run(&self, peer: NodeId, side: Side<'_>, mut ends: Ends) -> LinkEnd {
        let cut = ends.cut.clone();
        let end = tokio::select! {
            end = self.greet_and_talk(peer, side, &mut ends) => end,
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

    async fn greet_and_talk(&self, peer: NodeId, side: Side<'_>, ends: &mut Ends) -> LinkEnd {
        let dialled = match side {
            Side::Dialled(address) => Some(address),
            Side::Accepted(_) => None,
        };
        let address = match self.greet(peer, dialled, ends).await {
            Ok(address) => address,
            Err(end) => return end,
        };
        ends.reader.limit(FRAME_MAX);
        if let Side::Accepted(place) = side {
            place.is_member(peer);
        }
        let id = LinkId(self.ids.fetch_add(1, Ordering::Relaxed));
        let outbox = Arc::new(Outbox::counted(self.unsent.clone()));
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
        let _linked = self.neighbours.add(id, peer, outbox.clone());
        if let Some(address) = dialled {
            let (pipes, cut) = (self.pipes.clone(), ends.cut.clone());
            tokio::spawn(pipes.keep(peer, address.to_owned(), cut));
        }
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
        let hello = ends.writer.send(Frame::Hello(hello).to_line());
        let said = tokio::time::timeout(HELLO_TIMEOUT, hello).await.map_err(|_| LinkEnd::Silent)?;
        said.map_err(|_| LinkEnd::Closed)?;
        let line = tokio::time::timeout(HELLO_TIMEOUT, ends.reader.next())
            .await
            .map_err(|_| LinkEnd::Silent)??
            .ok_or(LinkEnd::Closed)?;
        let hello = match Frame::parse(&line)? {
            Frame::Hello(hello) => hello,
            Frame::Bye(bye) if dialled.is_some() => return Err(self.on_bye(peer, bye).await),
            // A stranger that dialled has nothing to tell this node.
            Frame::Bye(bye) => return Err(LinkEnd::of(&bye)),
            Frame::Ask(_) => return Err(LinkEnd::Unexpected("ask")),
            Frame::Answer(_) => return Err(LinkEnd::Unexpected("answer")),
            Frame::Blob(_) => return Err(LinkEnd::Unexpected("blob")),
            Frame::Piece(_) => return Err(LinkEnd::Unexpected("piece")),
            Frame::Have(_) => return Err(LinkEnd::Unexpected("have")),
            Frame::Direct(_) => return Err(LinkEnd::Unexpected("direct")),
            Frame::Returned(_) => return Err(LinkEnd::Unexpected("returned")),
            Frame::Tree(message) => return Err(LinkEnd::Unexpected(message.name())),
            Frame::Unknown => return Err(LinkEnd::Unexpected("unknown")),
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
            let judge = move |ledger: &mut Ledger| ledger.admit(envelope, &peer.short());
            match self.ledger.enter(&self.tree, judge).await {
                Entrance::New | Entrance::Known | Entrance::Disk(_) => {}
                Entrance::Deferred { code, why } | Entrance::Refused { code, why } => {
                    refused = Some((code, why));
                }
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
        let end = LinkEnd::of(&bye);
        let Bye { code, because, .. } = bye;
        let me = self.me;
        // The neighbours' word that they heard of it counts once there is something to hear of.
        if code == Out::Departed.code()
            && self.ledger.run(move |l| l.out(&me)).await == Some(Out::Departed)
        {
            self.farewell.cancel();
        }
        if [Out::Evicted.code(), Out::Departed.code()].contains(&code.as_str()) {
            for envelope in because {
                let kind = envelope.kind.as_str();
                let of_lane = matches!(kind.parse(), Ok(Lane::Policy | Lane::Member));
                if !of_lane && kind != Departure::KIND {
                    continue;
                }
                let judge = move |ledger: &mut Ledger| {
                    if ledger.chain().known(&envelope.id()).is_some() {
                        return Admission::Known;
                    }
                    ledger.admit(envelope, &peer.short())
                };
                // Whoever says goodbye is owed no answer.
                self.ledger.enter(&self.tree, judge).await;
            }
        }
        end
    }

    /// Moves frames until one side ends the link.
    async fn talk(
        &self,
        peer: NodeId,
        id: LinkId,
        outbox: &Arc<Outbox>,
        ends: &mut Ends,
    ) -> LinkEnd {
        let Ends { reader, writer, cut } = ends;
        let (blobs, asked) = mpsc::channel(pieces::QUEUE);
        tokio::spawn(pieces::give(asked, self.depot.clone(), outbox.clone(), cut.clone()));
        let writing = async {
            while let Some(frame) = outbox.next().await {
                if writer.send(frame).await.is_err() {
                    return;
                }
            }
            writer.finish(0).await;
        };
        // Whoever does not read what it was told last, or never lets it be written, is cut off.
        let closing = async {
            outbox.closed().await;
            tokio::time::sleep(CLOSE_GRACE).await;
        };
        let reading = self.read(peer, id, &blobs, reader);
        tokio::pin!(reading);
        tokio::select! {
            end = &mut reading => end,
            () = closing => LinkEnd::Ours,
            () = writing => {
                // This side is done; the other one may still be sending.
                let _ = tokio::time::timeout(CLOSE_GRACE, &mut reading).await;
                LinkEnd::Ours
            }
        }
    }

    async fn read(
        &self,
        peer: NodeId,
        id: LinkId,
        blobs: &mpsc::Sender<BlobAsk>,
        reader: &mut FrameReader,
    ) -> LinkEnd {
        let share = Arc::new(Semaphore::new(SHARE_BYTES));
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
                        let Some(held) = held(&share, 0).await else { return LinkEnd::Ours };
                        self.tree.received(peer, id, Message::Alive, held).await;
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
            if moved.is_none_or(|at: Instant| at.elapsed() >= SIGNS_PACE) {
                // Whatever it says, and to whomever here.
                moved = Some(Instant::now());
                self.tree.heard(peer, id).await;
            }
            match Frame::parse(&line) {
                Ok(Frame::Tree(message)) => {
                    let Some(held) = held(&share, line.len()).await else {
                        return LinkEnd::Ours;
                    };
                    self.tree.received(peer, id, message, held).await;
                }
                Ok(Frame::Piece(piece)) => self.neighbours.answered(id, piece),
                Ok(Frame::Have(have)) => self.neighbours.heard(have),
                // One too many is left unanswered.
                Ok(Frame::Blob(ask)) => drop(blobs.try_send(ask)),
                Ok(Frame::Answer(answer)) => lane.say(Said::Answer(answer)),
                Ok(Frame::Ask(ask)) => lane.say(Said::Ask(ask)),
                Ok(Frame::Direct(direct)) => lane.say(Said::Direct(direct)),
                Ok(Frame::Returned(returned)) => lane.say(Said::Returned(returned)),
                Ok(Frame::Bye(bye)) => return self.on_bye(peer, bye).await,
                Ok(Frame::Hello(_)) => return LinkEnd::Unexpected("hello"),
                Ok(Frame::Unknown) => {}
                Err(error) => return error.into(),
            }
        }
    }
}

/// Waits until so many bytes of a link's share of the inbox are free, and takes them; `None` never
/// happens, for a share is never closed.
async fn held(share: &Arc<Semaphore>, bytes: usize) -> Option<OwnedSemaphorePermit> {
    let bytes = bytes.clamp(SHARE_LEAST, SHARE_BYTES);
    let bytes = u32::try_from(bytes).expect("a frame is far below 4 GiB");
    share.clone().acquire_many_owned(bytes).await.ok()
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
