//! The tree's shell: one task that owns the core, feeds it what happened and does what it says.
//!
//! No decision about the tree is taken here. The shell's own rules are those of links: at most one
//! to a peer, and one that does not read what it is sent is dropped.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use borgios_peertree::{Contact, Input, Message, Node, Output, State, Timer, Verdict};
use borgios_types::{Digest, NodeId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::clock::Clock;
use crate::disk;
use crate::ledger::Admitted;
use crate::ledger_handle::LedgerHandle;
use crate::link::LinkHub;
use crate::offers::{Offer, judge_offers};
use crate::outbox::Outbox;
use crate::provide::{Request, provide_objects};
use crate::wire::{Answer, Ask, Frame, Places, Scope};

/// Events that may wait for the core; links wait when it is full.
const INBOX: usize = 256;
/// Requests of one neighbour for stored objects that may wait; more are dropped, and asked again.
const PROVIDE_QUEUE: usize = 64;
/// Questions to neighbours that are open at a time.
const ASKS_MAX: usize = 256;
/// Longest file of remembered contacts, in bytes.
pub const PEERS_MAX: usize = 1024 * 1024;

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
enum Event {
    Up(NewLink),
    Down(NodeId, LinkId),
    DialFailed(NodeId),
    Received(NodeId, LinkId, Message),
    Judged { id: Digest, from: NodeId, verdict: Verdict, admitted: Vec<Admitted> },
    Publish(Vec<Admitted>),
    Forget(Vec<Digest>),
    Contacts(Vec<Contact>),
    Ask { peer: NodeId, scope: Scope, within: Duration, reply: oneshot::Sender<Places> },
    Answered(NodeId, Answer),
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
}

impl View {
    fn of(node: &Node, links: usize) -> Self {
        Self {
            state: node.state(),
            parent: node.parent(),
            children: node.children(),
            path: node.path(),
            subtree_size: node.subtree_size(),
            tree_size: node.tree_size(),
            links,
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

    /// A dial came to its end; counts only if no link came of it.
    pub async fn dial_failed(&self, peer: NodeId) {
        self.tell(Event::DialFailed(peer)).await;
    }

    /// A message from a link.
    pub async fn received(&self, peer: NodeId, id: LinkId, message: Message) {
        self.tell(Event::Received(peer, id, message)).await;
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

    /// Nodes that can be dialled.
    pub async fn contacts(&self, contacts: Vec<Contact>) {
        if !contacts.is_empty() {
            self.tell(Event::Contacts(contacts)).await;
        }
    }

    /// An answer from a link.
    pub async fn answered(&self, peer: NodeId, answer: Answer) {
        self.tell(Event::Answered(peer, answer)).await;
    }

    /// Asks a neighbour; `None` if it does not answer in time.
    pub async fn ask(&self, peer: NodeId, scope: Scope, within: Duration) -> Option<Places> {
        let (reply, answer) = oneshot::channel();
        self.tell(Event::Ask { peer, scope, within, reply }).await;
        tokio::time::timeout(within, answer).await.ok()?.ok()
    }

    /// This node's place, and a notice when it changes.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<View> {
        self.view.clone()
    }
}

/// A link in use.
struct Link {
    id: LinkId,
    dialled: bool,
    outbox: Arc<Outbox>,
    cut: CancellationToken,
    provide: mpsc::Sender<Request>,
}

/// The task.
pub struct TreeShell {
    node: Node,
    clock: Clock,
    ledger: LedgerHandle,
    peers_file: PathBuf,
    inbox: mpsc::Receiver<Event>,
    view: watch::Sender<View>,
    offers: mpsc::UnboundedSender<Offer>,
    links: BTreeMap<NodeId, Link>,
    dials: BTreeMap<NodeId, CancellationToken>,
    timers: BTreeMap<Timer, Instant>,
    asks: BTreeMap<u64, (NodeId, oneshot::Sender<Places>)>,
    next_ask: u64,
    /// What the shell itself found out while doing what the core said.
    found: VecDeque<Input>,
}

impl TreeShell {
    /// A shell around `node`. It does nothing before [`TreeShell::run`].
    #[must_use]
    pub fn new(node: Node, ledger: LedgerHandle, peers_file: PathBuf) -> (Self, TreeHandle) {
        let (sender, inbox) = mpsc::channel(INBOX);
        let (view, seen) = watch::channel(View::of(&node, 0));
        let (offers, offered) = mpsc::unbounded_channel();
        let judged = sender.clone();
        tokio::spawn(judge_offers(
            offered,
            ledger.clone(),
            async move |id, from, verdict, admitted| {
                // The shell ends only with the agent, and then no verdict matters any more.
                let _ = judged.send(Event::Judged { id, from, verdict, admitted }).await;
            },
        ));
        let shell = Self {
            node,
            clock: Clock::start(),
            ledger,
            peers_file,
            inbox,
            view,
            offers,
            links: BTreeMap::new(),
            dials: BTreeMap::new(),
            timers: BTreeMap::new(),
            asks: BTreeMap::new(),
            next_ask: 0,
            found: VecDeque::new(),
        };
        (shell, TreeHandle { inbox: sender, view: seen })
    }

    /// Runs until `stop`, then says goodbye to the neighbours.
    pub async fn run(mut self, start: Input, hub: LinkHub, stop: CancellationToken) {
        self.feed(start, &hub);
        loop {
            let due = self.timers.iter().map(|(timer, at)| (*at, *timer)).min();
            let wait = async {
                match due {
                    Some((at, timer)) => {
                        tokio::time::sleep_until(at).await;
                        timer
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                timer = wait => {
                    self.timers.remove(&timer);
                    self.feed(Input::TimerFired(timer), &hub);
                }
                event = self.inbox.recv() => match event {
                    Some(event) => self.on_event(event, &hub),
                    None => break,
                },
            }
        }
        self.feed(Input::Stop, &hub);
        for link in self.links.values() {
            link.outbox.close();
        }
    }

    fn on_event(&mut self, event: Event, hub: &LinkHub) {
        match event {
            Event::Up(link) => self.on_up(link, hub),
            Event::Down(peer, id) => {
                if self.links.get(&peer).is_some_and(|link| link.id == id) {
                    self.links.remove(&peer);
                    self.asks.retain(|_, (asked, _)| *asked != peer);
                    self.feed(Input::LinkDown(peer), hub);
                }
            }
            Event::DialFailed(peer) => {
                if self.dials.remove(&peer).is_some() {
                    self.feed(Input::DialFailed(peer), hub);
                }
            }
            Event::Received(peer, id, message) => {
                if self.links.get(&peer).is_some_and(|link| link.id == id) {
                    self.feed(Input::Received(peer, message), hub);
                }
            }
            Event::Judged { id, from, verdict, admitted } => {
                self.feed(Input::Judged { id, from, verdict }, hub);
                let mut admitted = admitted.into_iter();
                if verdict == Verdict::Admitted
                    && let Some(first) = admitted.next()
                {
                    self.consequences(first, hub);
                }
                for more in admitted {
                    self.publish(more, hub);
                }
            }
            Event::Publish(all) => {
                for admitted in all {
                    self.publish(admitted, hub);
                }
            }
            Event::Forget(ids) => self.feed(Input::Forget(ids), hub),
            Event::Contacts(contacts) => self.feed(Input::Contacts(contacts), hub),
            Event::Ask { peer, scope, within, reply } => self.on_ask(peer, scope, within, reply),
            Event::Answered(peer, answer) => {
                if self.asks.get(&answer.id).is_some_and(|(asked, _)| *asked == peer)
                    && let Some((_, reply)) = self.asks.remove(&answer.id)
                {
                    // Whoever asked may have given up.
                    let _ = reply.send(answer.tree);
                }
            }
        }
    }

    /// At most one link to a peer: of two dialled by different sides the one that the smaller id
    /// dialled stays, otherwise the newer one does.
    fn on_up(&mut self, new: NewLink, hub: &LinkHub) {
        let NewLink { peer, id, dialled, address, outbox, cut } = new;
        self.dials.remove(&peer);
        if let Some(old) = self.links.get(&peer) {
            let me_first = self.node.id() < peer;
            if old.dialled != dialled && old.dialled == me_first {
                outbox.close();
                return;
            }
            old.outbox.close();
            self.links.remove(&peer);
            self.feed(Input::LinkDown(peer), hub);
        }
        let (provide, wanted) = mpsc::channel(PROVIDE_QUEUE);
        tokio::spawn(provide_objects(wanted, self.ledger.clone(), outbox.clone(), cut.clone()));
        self.links.insert(peer, Link { id, dialled, outbox, cut, provide });
        self.feed(Input::LinkUp { peer, dialled, address }, hub);
    }

    fn on_ask(
        &mut self,
        peer: NodeId,
        scope: Scope,
        within: Duration,
        reply: oneshot::Sender<Places>,
    ) {
        self.asks.retain(|_, (_, reply)| !reply.is_closed());
        let Some(link) = self.links.get(&peer) else { return };
        if self.asks.len() >= ASKS_MAX {
            return;
        }
        let id = self.next_ask;
        self.next_ask += 1;
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let ask = Frame::Ask(Ask { id, tree: scope, within_ms }).to_line();
        if link.outbox.push_control(ask).is_ok() {
            self.asks.insert(id, (peer, reply));
        }
    }

    /// Broadcasts an object that entered by another door.
    fn publish(&mut self, admitted: Admitted, hub: &LinkHub) {
        let object = &admitted.object;
        let publish = Input::Publish {
            id: object.id,
            kind: object.kind().to_owned(),
            body: object.body.clone(),
        };
        self.feed(publish, hub);
        self.consequences(admitted, hub);
    }

    /// What the core must know after an object entered.
    fn consequences(&mut self, admitted: Admitted, hub: &LinkHub) {
        let Admitted { object: _, forgotten, head, contact, fanout } = admitted;
        if let Some((lane, head)) = head {
            self.feed(Input::Head { lane: lane.as_str().to_owned(), head }, hub);
        }
        if !forgotten.is_empty() {
            self.feed(Input::Forget(forgotten), hub);
        }
        if let Some(contact) = contact.filter(|contact| contact.id != self.node.id()) {
            self.feed(Input::Contacts(vec![contact]), hub);
        }
        if let Some(fanout) = fanout {
            self.feed(Input::SetFanout(fanout), hub);
        }
    }

    /// Feeds the core and does what it says, and then what came of that.
    fn feed(&mut self, input: Input, hub: &LinkHub) {
        self.found.push_back(input);
        while let Some(input) = self.found.pop_front() {
            for output in self.node.handle(self.clock.now(), input) {
                self.execute(output, hub);
            }
        }
        let view = View::of(&self.node, self.links.len());
        self.view.send_if_modified(|seen| {
            let changed = *seen != view;
            *seen = view;
            changed
        });
    }

    fn execute(&mut self, output: Output, hub: &LinkHub) {
        match output {
            Output::Dial(contact) => {
                let cut = CancellationToken::new();
                if let Some(old) = self.dials.insert(contact.id, cut.clone()) {
                    old.cancel();
                }
                let hub = hub.clone();
                tokio::spawn(async move { hub.dial(contact, cut).await });
            }
            Output::Send(to, message) => self.send(to, message),
            Output::Close(peer) => {
                if let Some(link) = self.links.remove(&peer) {
                    link.outbox.close();
                } else if let Some(dial) = self.dials.remove(&peer) {
                    dial.cancel();
                }
            }
            Output::SetTimer(timer, after) => {
                self.timers.insert(timer, Instant::now() + after);
            }
            Output::CancelTimer(timer) => {
                self.timers.remove(&timer);
            }
            Output::Offer { from, id, kind, body } => {
                // The judge ends only with the agent.
                let _ = self.offers.send(Offer { from, id, kind, body });
            }
            Output::Provide { to, ids } => self.provide(to, Request::Objects(ids)),
            Output::ProvideLane { to, lane, after } => self.provide(to, Request::Lane(lane, after)),
            Output::Changed(state) => log_change(&state),
            Output::Remember(contacts) => self.remember(&contacts),
        }
    }

    fn send(&mut self, to: NodeId, message: Message) {
        let Some(link) = self.links.get(&to) else { return };
        let control = message.is_control();
        let line = Frame::Tree(message).to_line();
        let pushed =
            if control { link.outbox.push_control(line) } else { link.outbox.push_object(line) };
        if let Err(full) = pushed {
            warn!(BORGIOS_EVENT = "link_slow", BORGIOS_PEER = %to, "dropped a link: {full}");
            link.outbox.close();
            link.cut.cancel();
            self.links.remove(&to);
            self.found.push_back(Input::LinkDown(to));
        }
    }

    fn provide(&mut self, to: NodeId, request: Request) {
        let Some(link) = self.links.get(&to) else { return };
        if link.provide.try_send(request).is_err() {
            debug!(peer = %to.short(), "too many requests of one neighbour wait, dropped one");
        }
    }

    fn remember(&self, contacts: &[Contact]) {
        let bytes = serde_json::to_vec(contacts).expect("contacts have string keys only");
        let (ledger, file) = (self.ledger.clone(), self.peers_file.clone());
        tokio::spawn(async move {
            let written = ledger.run(move |_| disk::write_durable(&file, &bytes, 0o600)).await;
            if let Err(error) = written {
                warn!(BORGIOS_EVENT = "disk_failed", "cannot store the known peers: {error}");
            }
        });
    }
}

fn log_change(state: &State) {
    match state {
        State::Idle => info!(BORGIOS_EVENT = "tree_idle", "left the tree"),
        State::Seeking { round } => {
            info!(BORGIOS_EVENT = "tree_seeking", round, "looking for a place in the tree");
        }
        State::Attached { parent, path } => info!(
            BORGIOS_EVENT = "tree_attached",
            BORGIOS_PARENT = %parent,
            depth = path.len().saturating_sub(1),
            "attached below {}",
            parent.short()
        ),
        State::Root => info!(BORGIOS_EVENT = "tree_root", "this node is the root"),
    }
}
