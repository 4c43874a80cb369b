//! The tree's shell: one task that owns the core, feeds it what happened and does what it says.
//!
//! No decision about the tree is taken here. The shell's own rules are those of links: at most one
//! to a peer, one that does not read what it is sent is dropped, and none to a node that is out.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use borgios_peertree::{
    Contact, Evidence, Input, Message, Node, Output, State, Timer, Verdict, bounds,
};
use borgios_types::{NodeId, UnixSeconds};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::clock::{Clock, unix_now};
use crate::dials::Dials;
use crate::disk;
use crate::ledger::Admitted;
use crate::ledger_handle::LedgerHandle;
use crate::link::LinkHub;
use crate::offers::{Offer, Offers, judge_offers};
use crate::outbox::Outbox;
use crate::placeless::Reopened;
use crate::provide::{Request, provide_objects};
use crate::roll::Out;
use crate::store::Stored;
use crate::tree_handle::{Event, LinkId, NewLink, TreeHandle, View, Withheld};
use crate::wire::{Bye, Frame};

/// Events that may wait for the core; links wait when it is full, in the order in which they came,
/// and each has a share of its own: see `link`.
const INBOX: usize = 256;
/// Requests of one neighbour for stored objects that may wait; more are dropped, and asked again.
const PROVIDE_QUEUE: usize = 64;
/// Longest file of remembered contacts, in bytes.
pub const PEERS_MAX: usize = 1024 * 1024;

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
    offers: Offers,
    links: BTreeMap<NodeId, Link>,
    dials: Dials,
    timers: BTreeMap<Timer, Instant>,
    /// Nodes that are members no more.
    out: BTreeMap<NodeId, Out>,
    /// Nodes that broke the rules on another channel, and since when they are let in no more.
    shunned: BTreeMap<NodeId, Instant>,
    /// This node left the tree and does not come back.
    left: bool,
    /// The last pieces of evidence, with their dates.
    withheld: Arc<Vec<Withheld>>,
    /// What the shell itself found out while doing what the core said.
    found: VecDeque<Input>,
}

impl TreeShell {
    /// A shell around `node`. It does nothing before [`TreeShell::run`].
    #[must_use]
    pub fn new(node: Node, ledger: LedgerHandle, peers_file: PathBuf) -> (Self, TreeHandle) {
        let (sender, inbox) = mpsc::channel(INBOX);
        let (view, seen) = watch::channel(View::of(&node, 0, Arc::default()));
        let (offers, offered) = Offers::new();
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
            dials: Dials::default(),
            timers: BTreeMap::new(),
            out: BTreeMap::new(),
            shunned: BTreeMap::new(),
            left: false,
            withheld: Arc::default(),
            found: VecDeque::new(),
        };
        (shell, TreeHandle::new(sender, seen))
    }

    /// Runs until `stop`, then says goodbye to the neighbours. `out` are the nodes that are members
    /// no more; if this one is evicted itself, it never begins.
    pub async fn run(
        mut self,
        start: Input,
        out: BTreeMap<NodeId, Out>,
        hub: LinkHub,
        stop: CancellationToken,
    ) {
        self.left = out.get(&self.node.id()) == Some(&Out::Evicted);
        self.out = out;
        if !self.left {
            self.feed(start, &hub);
        }
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
                timer = wait => self.on_timer(timer, &hub),
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

    /// What arrived before a timer was due is heard first: a neighbour that spoke is not silent.
    fn on_timer(&mut self, timer: Timer, hub: &LinkHub) {
        for _ in 0..INBOX {
            let Ok(event) = self.inbox.try_recv() else { break };
            self.on_event(event, hub);
        }
        // It may have been stopped, or set again.
        if self.timers.get(&timer).is_some_and(|at| *at <= Instant::now()) {
            self.timers.remove(&timer);
            self.feed(Input::TimerFired(timer), hub);
        }
    }

    fn on_event(&mut self, event: Event, hub: &LinkHub) {
        match event {
            Event::Up(link) => self.on_up(link, hub),
            Event::Down(peer, id) => {
                if self.links.get(&peer).is_some_and(|link| link.id == id) {
                    self.links.remove(&peer);
                    self.feed(Input::LinkDown(peer), hub);
                }
            }
            Event::DialFailed(peer, dial) => {
                if self.dials.failed(&peer, dial) {
                    self.feed(Input::DialFailed(peer), hub);
                }
            }
            Event::Received(peer, id, message, _share) => {
                if self.links.get(&peer).is_some_and(|link| link.id == id) {
                    self.feed(Input::Received(peer, message), hub);
                }
            }
            Event::Heard(peer, id) => {
                if self.links.get(&peer).is_some_and(|link| link.id == id) {
                    self.feed(Input::Heard(peer), hub);
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
            Event::Waiting(ids) => self.feed(Input::Waiting(ids), hub),
            Event::Cross(candidates) => self.feed(Input::Cross(candidates), hub),
            Event::Choosers(choosers) => self.feed(Input::Choosers(choosers), hub),
            Event::Contacts(contacts) => self.feed(Input::Contacts(contacts), hub),
            Event::Lapsed(nodes) => {
                for node in nodes {
                    self.feed(Input::Expel(node), hub);
                }
            }
            Event::Leave => self.leave(hub),
            Event::Misbehaved(peer) => {
                self.shun(peer);
                self.cut(peer, hub);
            }
            Event::Stalled(peer) => {
                if self.node.children().contains(&peer) {
                    self.cut(peer, hub);
                }
            }
            Event::Line { peer, line, urgent } => {
                self.push(peer, line, urgent);
                self.settle(hub);
            }
        }
    }

    /// At most one link to a peer: of two dialled by different sides the one that the smaller id
    /// dialled stays, otherwise the newer one does.
    fn on_up(&mut self, new: NewLink, hub: &LinkHub) {
        let NewLink { peer, id, dialled, address, outbox, cut } = new;
        self.dials.linked(&peer);
        // It was let in a moment before this node heard that it is out.
        let out = self.out.get(&peer).copied();
        if self.left || out.is_some() || self.is_shunned(&peer) {
            if let Some(out) = out {
                // Whether it arrives is of no importance.
                let _ = outbox.push_object(last_word(out, None));
            }
            outbox.close();
            if dialled {
                self.feed(Input::DialFailed(peer), hub);
            }
            return;
        }
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
        self.feed(Input::LinkUp { peer, dialled, address: address.map(Into::into) }, hub);
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
        let Admitted { object, forgotten, head, contact, fanout, out, reopened } = admitted;
        if let Some(Reopened { ids, heads, back }) = reopened {
            // They find their way themselves, as any server does that was refused for a while.
            self.out.retain(|node, why| *why != Out::Evicted || !back.contains(node));
            self.feed(Input::Reopen(ids), hub);
            for (lane, head) in heads {
                self.feed(Input::Head { lane: lane.as_str().to_owned(), head }, hub);
            }
        }
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
        if let Some((nodes, why)) = out {
            for node in nodes {
                self.expel(node, why, &object, hub);
            }
        }
    }

    /// Cuts a node off that is a member no more, after it was told why.
    fn expel(&mut self, node: NodeId, why: Out, object: &Arc<Stored>, hub: &LinkHub) {
        self.out.insert(node, why);
        if node == self.node.id() {
            warn!(BORGIOS_EVENT = why.code(), "{}", why.message());
            // Who departs still has to tell the others: it leaves when that is done.
            return match why {
                Out::Evicted => self.leave(hub),
                Out::Departed => {}
            };
        }
        info!(BORGIOS_EVENT = why.code(), BORGIOS_PEER = %node, "{} is {}", node.short(), why.code());
        if let Some(link) = self.links.get(&node) {
            // A full outbox ends the link anyway.
            let _ = link.outbox.push_object(last_word(why, Some(object)));
        }
        self.feed(Input::Expel(node), hub);
    }

    fn is_shunned(&self, peer: &NodeId) -> bool {
        self.shunned.get(peer).is_some_and(|since| since.elapsed() < bounds::SHUN)
    }

    fn shun(&mut self, peer: NodeId) {
        self.shunned.retain(|_, since| since.elapsed() < bounds::SHUN);
        if self.shunned.len() >= bounds::SHUNNED_MAX {
            let oldest =
                self.shunned.iter().min_by_key(|(_, since)| **since).map(|(peer, _)| *peer);
            oldest.and_then(|oldest| self.shunned.remove(&oldest));
        }
        self.shunned.insert(peer, Instant::now());
    }

    /// Cuts a link at once.
    fn cut(&mut self, peer: NodeId, hub: &LinkHub) {
        if let Some(link) = self.links.remove(&peer) {
            link.outbox.close();
            link.cut.cancel();
            self.feed(Input::LinkDown(peer), hub);
        }
    }

    /// Leaves the tree for good.
    fn leave(&mut self, hub: &LinkHub) {
        self.left = true;
        self.feed(Input::Stop, hub);
        self.timers.clear();
    }

    /// Feeds the core and does what it says, and then what came of that.
    fn feed(&mut self, input: Input, hub: &LinkHub) {
        self.found.push_back(input);
        self.settle(hub);
    }

    /// Feeds the core what the shell found out, until nothing is left.
    fn settle(&mut self, hub: &LinkHub) {
        while let Some(input) = self.found.pop_front() {
            for output in self.node.handle(self.clock.now(), input) {
                self.execute(output, hub);
            }
        }
        let view = View::of(&self.node, self.links.len(), self.withheld.clone());
        self.view.send_if_modified(|seen| {
            let changed = *seen != view;
            *seen = view;
            changed
        });
    }

    fn execute(&mut self, output: Output, hub: &LinkHub) {
        match output {
            // A neighbour may still name it, and so may an old invitation.
            Output::Dial(contact)
                if self.left
                    || self.out.contains_key(&contact.id)
                    || self.is_shunned(&contact.id) =>
            {
                self.found.push_back(Input::DialFailed(contact.id));
            }
            Output::Dial(contact) => {
                let (dial, cut) = self.dials.begin(contact.id);
                let hub = hub.clone();
                tokio::spawn(async move { hub.dial(contact, dial, cut).await });
            }
            Output::Send(to, message) => self.send(to, message),
            Output::Close(peer) => {
                if let Some(link) = self.links.remove(&peer) {
                    link.outbox.close();
                } else {
                    self.dials.cancel(&peer);
                }
            }
            Output::SetTimer(timer, after) => {
                self.timers.insert(timer, Instant::now() + after);
            }
            Output::CancelTimer(timer) => {
                self.timers.remove(&timer);
            }
            Output::Offer { from, id, kind, body } => {
                if !self.offers.push(Offer { from, id, kind, body }) {
                    // Too much of this neighbour waits: it is not to blame, and the object comes
                    // again when the two compare what they hold.
                    let verdict = Verdict::Later;
                    self.found.push_back(Input::Judged { id, from, verdict });
                }
            }
            Output::Provide { to, ids } => self.provide(to, Request::Objects(ids)),
            Output::ProvideLane { to, lane, after, has } => {
                self.provide(to, Request::Lane { lane, after, has });
            }
            Output::Withheld(evidence) => self.on_withheld(evidence),
            Output::Changed(state) => log_change(&state),
            Output::Remember(contacts) => self.remember(&contacts),
        }
    }

    fn on_withheld(&mut self, evidence: Evidence) {
        let Evidence { object, kind, heard, from, neighbour, excused } = evidence;
        warn!(
            BORGIOS_EVENT = "withheld",
            BORGIOS_PEER = %neighbour,
            BORGIOS_OBJECT = %object,
            BORGIOS_KIND = kind,
            excused,
            "{} did not bring a {kind} that {} had",
            neighbour.short(),
            from.short()
        );
        let ago = self.clock.now().since(heard).as_secs();
        let at = UnixSeconds(unix_now().0.saturating_sub(ago));
        let all = Arc::make_mut(&mut self.withheld);
        if all.len() >= bounds::EVIDENCE_MAX {
            all.remove(0);
        }
        all.push(Withheld { at, object, kind, from, neighbour, excused });
    }

    fn send(&mut self, to: NodeId, message: Message) {
        let control = message.is_control();
        let line = Frame::Tree(message).to_line();
        self.push(to, line, control);
    }

    /// Queues a frame; a neighbour that does not read loses its link.
    fn push(&mut self, to: NodeId, line: String, urgent: bool) {
        let Some(link) = self.links.get(&to) else { return };
        let pushed =
            if urgent { link.outbox.push_control(line) } else { link.outbox.push_object(line) };
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

/// The last frame to a node that is out. It goes behind the objects, of which one may be the reason.
fn last_word(out: Out, object: Option<&Arc<Stored>>) -> String {
    let because = object.map(|object| object.envelope.clone()).into_iter().collect();
    let (code, message) = (out.code().to_owned(), out.message().to_owned());
    Frame::Bye(Bye { code, message, because }).to_line()
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
