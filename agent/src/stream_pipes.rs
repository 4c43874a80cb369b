//! The pipes that carry streams beside tree links: one for each neighbour, for as long as the tree
//! says that it is one.
//!
//! ```text
//!  tree link up ─▶ parent, child or cross link? ─▶ dialler connects again, subsystem `peertree-stream`
//!                        │ no longer                       │
//!                        ▼                                 ▼
//!                     pipe down ◀──────────── both sides: hub.link_up, role as the tree sees it
//! ```
//!
//! Whoever dialled the tree link dials the pipe. It is a connection of its own: russh reads no channel
//! of a connection while one of them is not read, and a hub that is behind stops reading its pipes; on
//! the tree link's connection that would hold up heartbeats.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use borgios_relay::pipe::{Pipe, PipeRead};
use borgios_relay::{HubHandle, SshPipe};
use borgios_stream::Role;
use borgios_types::NodeId;
use bytes::BytesMut;
use russh::keys::PrivateKey;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use crate::ssh_client;
use crate::streams::Streams;
use crate::tree_handle::{TreeHandle, View};

/// Longest wait of the dialled side until its own tree says that the dialler is a neighbour.
const PLACE_WAIT: Duration = Duration::from_secs(5);
/// First pause before a pipe that ended is made again; it doubles.
const AGAIN_MIN: Duration = Duration::from_millis(250);
/// Longest pause.
const AGAIN_MAX: Duration = Duration::from_secs(30);
/// A pipe that lived this long was a good one: the pause begins anew.
const GOOD: Duration = Duration::from_secs(60);

/// Makes pipes. Clones share everything.
#[derive(Clone)]
pub struct StreamPipes {
    key: Arc<PrivateKey>,
    streams: Streams,
    tree: TreeHandle,
    stop: CancellationToken,
    /// The pipe in use with each peer: what cuts it, under a number of its own.
    in_use: Arc<Mutex<BTreeMap<NodeId, (u64, CancellationToken)>>>,
}

impl StreamPipes {
    /// Pipes of this node.
    #[must_use]
    pub fn new(
        key: Arc<PrivateKey>,
        streams: Streams,
        tree: TreeHandle,
        stop: CancellationToken,
    ) -> Self {
        Self { key, streams, tree, stop, in_use: Arc::default() }
    }

    /// Keeps a pipe to a peer at `address` for as long as the tree link lives that `linked` ends with.
    pub async fn keep(self, peer: NodeId, address: String, linked: CancellationToken) {
        let keeping = async {
            let mut pause = AGAIN_MIN;
            let mut view = self.tree.view();
            loop {
                // No pipe for a link that only asks for a place.
                if view.wait_for(|view| role(view, &peer).is_some()).await.is_err() {
                    return;
                }
                let Some(hub) = self.streams.wait().await else { return };
                let begun = tokio::time::Instant::now();
                let cut = self.stop.child_token();
                let end = cut.clone().drop_guard();
                match ssh_client::dial_stream(&address, peer, self.key.clone(), cut.clone()).await {
                    Ok((pipe, session)) => {
                        self.carry(&hub, peer, pipe, cut).await;
                        drop(session);
                    }
                    Err(error) => debug!(peer = %peer.short(), "no stream pipe: {error}"),
                }
                drop(end);
                pause = if begun.elapsed() > GOOD { AGAIN_MIN } else { (pause * 2).min(AGAIN_MAX) };
                tokio::time::sleep(pause).await;
            }
        };
        tokio::select! {
            () = keeping => {}
            () = linked.cancelled() => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Carries streams over a pipe that the other side dialled, to its end.
    pub async fn accepted(&self, peer: NodeId, pipe: SshPipe, cut: CancellationToken) {
        let mut view = self.tree.view();
        let placed = view.wait_for(|view| role(view, &peer).is_some());
        let placed = tokio::time::timeout(PLACE_WAIT, placed).await.is_ok_and(|seen| seen.is_ok());
        match self.streams.hub() {
            Some(hub) if placed => self.carry(&hub, peer, pipe, cut.clone()).await,
            _ => debug!(peer = %peer.short(), "a stream pipe of who is no neighbour"),
        }
        cut.cancel();
    }

    /// Takes this pipe into use, and cuts the one there was.
    fn register(&self, peer: NodeId, cut: CancellationToken) -> Registered {
        let mut in_use = self.in_use();
        let old = in_use.remove(&peer);
        let number = old.as_ref().map_or(0, |(number, _)| number + 1);
        in_use.insert(peer, (number, cut));
        if let Some((_, old)) = old {
            old.cancel();
        }
        Registered { pipes: self.clone(), peer, number }
    }

    fn in_use(&self) -> MutexGuard<'_, BTreeMap<NodeId, (u64, CancellationToken)>> {
        // One insert or remove at a time leaves the map whole, whoever panicked.
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the pipe ends, is cut, or the peer is no neighbour any more.
    async fn carry(&self, hub: &HubHandle, peer: NodeId, pipe: SshPipe, cut: CancellationToken) {
        let mut view = self.tree.view();
        let Some(mut now) = role(&view.borrow_and_update(), &peer) else { return };
        // One for a peer: each has queues and shares of its own, and several would multiply them.
        let _registered = self.register(peer, cut.clone());
        let ended = CancellationToken::new();
        let pipe = Watched { inner: pipe, ended: ended.clone().drop_guard() };
        let link = hub.link_up(peer, now, pipe).await;
        debug!(peer = %peer.short(), ?now, "a stream pipe is up");
        loop {
            tokio::select! {
                () = ended.cancelled() => break,
                () = cut.cancelled() => break,
                changed = view.changed() => {
                    let next = changed.ok().and_then(|()| role(&view.borrow_and_update(), &peer));
                    let Some(next) = next else { break };
                    if next != now {
                        now = next;
                        hub.set_role(link, now).await;
                    }
                }
            }
        }
        hub.link_down(link).await;
    }
}

/// A pipe in use, until this is dropped.
struct Registered {
    pipes: StreamPipes,
    peer: NodeId,
    number: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut in_use = self.pipes.in_use();
        if in_use.get(&self.peer).is_some_and(|(number, _)| *number == self.number) {
            in_use.remove(&self.peer);
        }
    }
}

/// What a peer is to this node; `None` if it is no neighbour.
fn role(view: &View, peer: &NodeId) -> Option<Role> {
    if view.parent.as_ref() == Some(peer) || view.children.contains(peer) {
        return Some(Role::Tree);
    }
    view.cross.contains(peer).then_some(Role::Cross)
}

/// A pipe that tells when its reading half is done with.
struct Watched<P> {
    inner: P,
    ended: DropGuard,
}

impl<P: Pipe> Pipe for Watched<P> {
    type Read = WatchedRead<P::Read>;
    type Write = P::Write;

    fn split(self) -> (Self::Read, Self::Write) {
        let (read, write) = self.inner.split();
        (WatchedRead { inner: read, _ended: self.ended }, write)
    }
}

struct WatchedRead<R> {
    inner: R,
    _ended: DropGuard,
}

impl<R: PipeRead> PipeRead for WatchedRead<R> {
    async fn read(&mut self, into: &mut BytesMut) -> std::io::Result<usize> {
        self.inner.read(into).await
    }
}
