//! The way to the tree's shell: what can be told it, and what can be seen of this node's place.

use std::collections::BTreeSet;
use std::sync::Arc;

use borgios_peertree::{Contact, Message, Node, State, Verdict};
use borgios_types::{Digest, NodeId, UnixSeconds};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::dials::DialId;
use crate::ledger::Admitted;
use crate::outbox::Outbox;

/// Tells two links to the same peer apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkId(pub u64);

/// A link whose peer is an authenticated member.
pub struct NewLink {
    /// Who.
    pub peer: NodeId,
    /// Which link.
    pub id: LinkId,
    /// Whether this side dialled.
    pub dialled: bool,
    /// Where the peer can be dialled.
    pub address: Option<String>,
    /// What is to be sent.
    pub outbox: Arc<Outbox>,
    /// Cuts the connection.
    pub cut: CancellationToken,
}

/// What happens to the shell.
pub(crate) enum Event {
    Up(NewLink),
    Down(NodeId, LinkId),
    DialFailed(NodeId, DialId),
    /// The permit is the link's share of the inbox, given back when the message is done.
    Received(NodeId, LinkId, Message, OwnedSemaphorePermit),
    Heard(NodeId, LinkId),
    Judged {
        id: Digest,
        from: NodeId,
        verdict: Verdict,
        admitted: Vec<Admitted>,
    },
    Publish(Vec<Admitted>),
    Forget(Vec<Digest>),
    Waiting(BTreeSet<Digest>),
    Contacts(Vec<Contact>),
    Cross(Vec<Contact>),
    Choosers(Vec<NodeId>),
    Lapsed(BTreeSet<NodeId>),
    Leave,
    /// The peer broke the rules on another channel.
    Misbehaved(NodeId),
    /// The peer does not read what it is sent on another channel.
    Stalled(NodeId),
    Line {
        peer: NodeId,
        line: String,
        urgent: bool,
    },
}

/// This node's place, as the core sees it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The core's state.
    pub state: State,
    /// The parent.
    pub parent: Option<NodeId>,
    /// The children.
    pub children: Vec<NodeId>,
    /// From the root to this node.
    pub path: Vec<NodeId>,
    /// Nodes at and below this one.
    pub subtree_size: u32,
    /// Nodes of the whole tree.
    pub tree_size: u32,
    /// Links of any purpose.
    pub links: usize,
    /// The other ends of the cross links.
    pub cross: Vec<NodeId>,
    /// Objects that a neighbour should have brought and did not, so far.
    pub gaps: u64,
    /// Neighbours left for them.
    pub left: u64,
    /// The last of those objects, oldest first.
    pub evidence: Arc<Vec<Withheld>>,
}

/// An object that a neighbour should have brought and did not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Withheld {
    /// When this node heard of it.
    pub at: UnixSeconds,
    /// The object.
    pub object: Digest,
    /// Its kind.
    pub kind: String,
    /// Who had it: a cross peer, or a neighbour that asked for it.
    pub from: NodeId,
    /// Who should have brought it.
    pub neighbour: NodeId,
    /// That neighbour said that it lacked it as well.
    pub excused: bool,
}

impl View {
    pub(crate) fn of(node: &Node, links: usize, evidence: Arc<Vec<Withheld>>) -> Self {
        let (gaps, left) = node.gaps();
        Self {
            state: node.state(),
            parent: node.parent(),
            children: node.children(),
            path: node.path(),
            subtree_size: node.subtree_size(),
            tree_size: node.tree_size(),
            links,
            cross: node.cross(),
            gaps,
            left,
            evidence,
        }
    }

    /// Whether the node has a place: a parent, or the top.
    #[must_use]
    pub fn attached(&self) -> bool {
        matches!(self.state, State::Attached { .. } | State::Root)
    }
}

/// The way to the shell. Clones lead to the same one; after its end they lead nowhere.
#[derive(Clone)]
pub struct TreeHandle {
    inbox: mpsc::Sender<Event>,
    view: watch::Receiver<View>,
}

impl TreeHandle {
    pub(crate) fn new(inbox: mpsc::Sender<Event>, view: watch::Receiver<View>) -> Self {
        Self { inbox, view }
    }

    async fn tell(&self, event: Event) {
        // The shell ends only when the agent does, and then nothing matters to it any more.
        let _ = self.inbox.send(event).await;
    }

    /// A link is up.
    pub async fn up(&self, link: NewLink) {
        self.tell(Event::Up(link)).await;
    }

    /// A link ended.
    pub async fn down(&self, peer: NodeId, id: LinkId) {
        self.tell(Event::Down(peer, id)).await;
    }

    /// A dial came to its end; counts only if it is the one under way and no link came of it.
    pub async fn dial_failed(&self, peer: NodeId, dial: DialId) {
        self.tell(Event::DialFailed(peer, dial)).await;
    }

    /// A message from a link, with what it holds of the link's share of the inbox.
    pub async fn received(
        &self,
        peer: NodeId,
        id: LinkId,
        message: Message,
        share: OwnedSemaphorePermit,
    ) {
        self.tell(Event::Received(peer, id, message, share)).await;
    }

    /// A sign of life from a link that is no message.
    pub async fn heard(&self, peer: NodeId, id: LinkId) {
        self.tell(Event::Heard(peer, id)).await;
    }

    /// Objects that entered the ledger by another door than the tree.
    pub async fn publish(&self, admitted: Vec<Admitted>) {
        self.tell(Event::Publish(admitted)).await;
    }

    /// Objects that lapsed.
    pub async fn forget(&self, ids: Vec<Digest>) {
        if !ids.is_empty() {
            self.tell(Event::Forget(ids)).await;
        }
    }

    /// The statements that are signed and wait here, all of them.
    pub async fn waiting(&self, ids: BTreeSet<Digest>) {
        self.tell(Event::Waiting(ids)).await;
    }

    /// Nodes that lapsed for good.
    pub async fn lapsed(&self, nodes: BTreeSet<NodeId>) {
        if !nodes.is_empty() {
            self.tell(Event::Lapsed(nodes)).await;
        }
    }

    /// Leaves the tree for good.
    pub async fn leave(&self) {
        self.tell(Event::Leave).await;
    }

    /// A neighbour broke the rules on another channel: its link is cut, and it is let in no more for
    /// a while.
    pub async fn misbehaved(&self, peer: NodeId) {
        self.tell(Event::Misbehaved(peer)).await;
    }

    /// A neighbour does not read what it is sent on another channel: if it is a child, its link is
    /// cut, and it heals elsewhere.
    pub async fn stalled(&self, peer: NodeId) {
        self.tell(Event::Stalled(peer)).await;
    }

    /// Whom to keep cross links to, best first.
    pub async fn cross(&self, candidates: Vec<Contact>) {
        self.tell(Event::Cross(candidates)).await;
    }

    /// Who may have chosen this node for a cross link, the likeliest first.
    pub async fn choosers(&self, choosers: Vec<NodeId>) {
        self.tell(Event::Choosers(choosers)).await;
    }

    /// Nodes that can be dialled.
    pub async fn contacts(&self, contacts: Vec<Contact>) {
        if !contacts.is_empty() {
            self.tell(Event::Contacts(contacts)).await;
        }
    }

    /// Sends a frame to a peer, if there is a link to it: before the objects that wait, or behind.
    pub async fn line(&self, peer: NodeId, line: String, urgent: bool) {
        self.tell(Event::Line { peer, line, urgent }).await;
    }

    /// This node's place, and a notice when it changes.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<View> {
        self.view.clone()
    }
}
