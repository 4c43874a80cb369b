//! One node's place in the tree, as a state machine without IO.
//!
//! ```text
//!                     ┌── round failed: back-off ──┐
//!                     ▼                            │         nobody answered,
//!  Idle ── Start ─▶ Seeking ── Dial, Join ─────────┤         heir, or no seeds
//!                     ▲  ▲ │                       └───────────────┐
//!         parent lost,│  │ └─ Accept ─▶ Attached                   ▼
//!         loop found, │  │                 │                      Root
//!         shed        └──┼─────────────────┘                       │
//!                        └──── another tree's root comes first ────┘
//! ```
//!
//! What holds after every input ([`Node::check`] asserts it in tests and in the simulation):
//!  1. at most `fanout` children, each with a link;
//!  2. the parent has a link and is no child; no node is its own parent or child;
//!  3. no path held contains this node, and none is longer than [`bounds::PATH_MAX`];
//!  4. every list, set and queue keeps its bound;
//!  5. a node without an address has no children.

use std::collections::BTreeMap;
use std::time::Duration;

use borgios_types::{Digest, NodeId, Time};
use rand::Rng as _;

use crate::beat::Beat;
use crate::bounds;
use crate::climb::Climb;
use crate::config::Config;
use crate::contact::{Address, Contact};
use crate::cross::Cross;
use crate::dice::Dice;
use crate::evidence::Suspicions;
use crate::facts::{Family, Told};
use crate::io::{Input, Output, Timer};
use crate::link::{Child, Link};
use crate::memory::Memory;
use crate::merge::Rivals;
use crate::message::{Down, Head, Message};
use crate::seek::Seek;
use crate::sorted::SortedMap;
use crate::store::Store;

/// One node of the tree.
///
/// What nearly every input needs comes first and lies together, hence the layout of C: a simulated
/// million of nodes waits for memory more than for anything else.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Node {
    /// The time of the input being handled.
    pub(crate) now: Time,
    pub(crate) out: Vec<Output>,
    pub(crate) links: SortedMap<NodeId, Link>,
    pub(crate) children: SortedMap<NodeId, Child>,
    pub(crate) beat: Beat,
    pub(crate) me: NodeId,
    pub(crate) phase: Phase,
    pub(crate) config: Config,
    pub(crate) told: Told,
    /// The attempt to find a shallower place, while the parent still holds.
    pub(crate) climb: Climb,
    pub(crate) cross: Cross,
    pub(crate) suspicions: Suspicions,
    /// What the children were last told, shared by all of them.
    pub(crate) family: Option<Box<Family>>,
    pub(crate) store: Store,
    pub(crate) memory: Memory,
    /// Peers that misbehaved, and until when they are refused.
    pub(crate) shunned: SortedMap<NodeId, Time>,
    pub(crate) rivals: Rivals,
    pub(crate) seeds: Vec<Contact>,
    pub(crate) next_order: u64,
    /// When penalties were last halved.
    pub(crate) forgiven: Time,
    pub(crate) rng: Dice,
    /// Was ever in the tree, in this life or an earlier one: only then may it make itself a root.
    pub(crate) was_member: bool,
}

/// Where this node stands; carries what exists only there.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// Before `Start` and after `Stop`.
    Idle,
    /// Looking for a parent.
    Seeking(Box<Seek>),
    /// Has a parent, which last said this.
    Attached { parent: NodeId, down: Down },
    /// Topmost.
    Root,
}

impl Node {
    /// Makes a node that does nothing until [`Input::Start`]. `rng_seed` decides every jitter.
    #[must_use]
    pub fn new(me: NodeId, mut config: Config, rng_seed: u64) -> Self {
        config.fanout = config.fanout.clamp(bounds::FANOUT_MIN, bounds::FANOUT_MAX);
        Self {
            me,
            now: Time::default(),
            rng: Dice::new(rng_seed),
            phase: Phase::Idle,
            links: SortedMap::new(),
            children: SortedMap::new(),
            next_order: 0,
            seeds: Vec::new(),
            memory: Memory::new(config.remembered),
            was_member: false,
            shunned: SortedMap::new(),
            rivals: Rivals::default(),
            climb: Climb::default(),
            store: Store::default(),
            beat: Beat::default(),
            told: Told::default(),
            family: None,
            cross: Cross::default(),
            suspicions: Suspicions::default(),
            forgiven: Time::default(),
            out: Vec::new(),
            config,
        }
    }

    /// Begins its randomness anew. A checker that explores every order of events calls it after each
    /// input, so that states which differ in nothing else are one.
    pub fn reseed(&mut self, rng_seed: u64) {
        self.rng = Dice::new(rng_seed);
    }

    /// Applies one input and returns what the shell must do next, in order.
    ///
    /// Never blocks and never fails: a message the present state has no use for is dropped.
    pub fn handle(&mut self, now: Time, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.handle_into(now, input, &mut out);
        out
    }

    /// The same; what the shell must do is added to `out`, which is empty: a simulator of many nodes
    /// uses one list for all.
    pub(crate) fn handle_into(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        std::mem::swap(&mut self.out, out);
        self.now = now;
        match input {
            Input::Start { seeds, remembered, live, heads } => {
                self.on_start(seeds, &remembered, live, heads);
            }
            Input::LinkUp { peer, dialled: _, address } => self.on_link_up(now, peer, address),
            Input::LinkDown(peer) => self.on_link_down(peer),
            Input::DialFailed(peer) => self.on_dial_failed(peer),
            Input::Received(from, message) => self.on_received(now, from, message),
            Input::Heard(peer) => self.on_heard(now, peer),
            Input::TimerFired(Timer::Heartbeat) => self.on_heartbeat_due(now),
            Input::TimerFired(Timer::Attempt) => self.on_attempt_over(),
            Input::TimerFired(Timer::Retry) => self.on_retry(),
            Input::TimerFired(Timer::Probe) => self.on_probe_due(),
            Input::TimerFired(Timer::AntiEntropy) => self.on_anti_entropy_due(now),
            Input::Publish { id, kind, body } => self.on_publish(now, id, &kind, body),
            Input::Judged { id, from, verdict } => self.on_judged(now, id, from, verdict),
            Input::Head { lane, head } => self.on_head(now, lane, head),
            Input::Forget(ids) => self.store.forget(&ids),
            Input::Reopen(ids) => self.store.reopen(&ids),
            Input::Waiting(ids) => self.store.wait(ids),
            Input::Contacts(contacts) => self.learn(&contacts),
            Input::Cross(candidates) => self.on_cross_candidates(candidates),
            Input::Choosers(choosers) => self.on_choosers(choosers),
            Input::Expel(peer) => self.on_expelled(peer),
            Input::SetFanout(fanout) => self.on_fanout(fanout),
            Input::Stop => self.on_stop(),
        }
        self.end_of_input(now);
        std::mem::swap(&mut self.out, out);
    }

    fn on_received(&mut self, now: Time, from: NodeId, message: Message) {
        let Some(link) = self.links.get_mut(&from) else { return };
        link.heard = now;
        if !message.bounded() {
            return self.penalise(now, from, bounds::PENALTY_MAX);
        }
        if message.is_chatter() {
            link.chatter += 1;
            if link.chatter > bounds::CHATTER_MAX {
                return self.penalise(now, from, 1);
            }
        }
        match message {
            Message::Join(join) => self.on_join(from, &join),
            Message::Redirect { to } => self.on_redirect(now, from, to),
            Message::Accept(down) => self.on_accept(from, down),
            Message::Heartbeat(down) => {
                self.on_heartbeat(from, down);
                self.climb_on_news(now);
            }
            Message::Report(up) => self.on_report(from, up),
            Message::Alive => self.on_alive(from),
            Message::Leave => self.on_leave(from),
            Message::Compare { root, address, asks } => {
                self.on_compare(now, from, root, address, asks);
            }
            Message::Rival { root, via } => self.on_rival(now, from, root, via),
            Message::Cross { path } => self.on_cross(now, from, path),
            Message::Same(digest) => self.on_same(now, from, digest),
            Message::Missing { ids, path } => self.on_missing(now, from, ids, path),
            Message::Lacking { ids } => self.on_lacking(from, &ids),
            Message::Found { ids } => self.on_found(from, &ids),
            Message::Summary(summary) => self.on_summary(now, from, summary),
            Message::Page { after } => self.on_page(now, from, after),
            Message::Ids { ids, last } => self.on_ids(now, from, &ids, last),
            Message::Want { ids } => self.on_want(now, from, ids),
            Message::Follow { lane, after } => self.on_follow(now, from, lane, after),
            Message::Object { id, kind, body } => self.on_object(now, from, id, kind, body),
        }
    }

    fn on_start(
        &mut self,
        seeds: Vec<Contact>,
        remembered: &[Contact],
        live: Vec<Digest>,
        heads: BTreeMap<String, Head>,
    ) {
        if !matches!(self.phase, Phase::Idle) {
            return;
        }
        let me = self.me;
        self.seeds = seeds.into_iter().filter(|seed| seed.id != me && seed.plausible()).collect();
        self.seeds.truncate(bounds::SEEDS_MAX);
        self.seeds.shrink_to_fit();
        self.learn(remembered);
        self.was_member = !self.memory.is_empty();
        self.store.load(live, heads);
        self.set_compare_timer();
        self.seek(Seek::newcomer());
    }

    /// Says goodbye to everyone; a later `Start` begins again.
    fn on_stop(&mut self) {
        for peer in self.links.keys() {
            self.out.push(Output::Send(*peer, Message::Leave));
            self.out.push(Output::Close(*peer));
        }
        for timer in
            [Timer::Heartbeat, Timer::Attempt, Timer::Retry, Timer::Probe, Timer::AntiEntropy]
        {
            self.out.push(Output::CancelTimer(timer));
        }
        self.links.clear();
        self.store.wanted.clear();
        self.children.clear();
        self.cross.clear();
        (self.beat, self.told) = (Beat::default(), Told::default());
        self.enter(Phase::Idle);
    }

    fn on_link_up(&mut self, now: Time, peer: NodeId, address: Option<Address>) {
        if self.links.contains_key(&peer) {
            // The shell replaced the link: whatever the old one meant is over.
            self.on_link_down(peer);
        }
        self.shunned.retain(|_, until| *until > now);
        let asked = self.asks(&peer)
            || self.dials_cross(peer)
            || [self.rivals.probing, self.climb.asking].contains(&Some(peer));
        let loose = self.loose_links();
        let refused = peer == self.me
            || matches!(self.phase, Phase::Idle)
            || self.shunned.contains_key(&peer)
            || (loose >= bounds::LOOSE_LINKS_MAX && !asked);
        if refused {
            self.out.push(Output::Close(peer));
            self.on_dial_failed(peer);
            return;
        }
        let address = address.filter(|text| Contact::new(peer, text.clone()).plausible());
        if let Some(address) = &address {
            self.learn(&[Contact::new(peer, address.clone())]);
        }
        self.links.insert(peer, Link::new(now, address));
        self.note_due(&peer);
        if self.asks(&peer) {
            self.on_candidate_connected(peer);
        } else if self.dials_cross(peer) {
            self.open_cross(peer);
        } else if self.rivals.probing == Some(peer) {
            self.on_outsider_connected(peer);
        } else if self.climb.asking == Some(peer) {
            self.on_climb_connected(peer);
        }
    }

    pub(crate) fn on_link_down(&mut self, peer: NodeId) {
        if self.links.remove(&peer).is_none() {
            return;
        }
        self.fetch_without(peer);
        let child = self.children.remove(&peer).is_some();
        if child {
            self.on_children_changed();
            self.hint_of_another_tree();
        }
        if self.parent() == Some(peer) {
            self.on_parent_lost(None);
        } else if !child && self.asks(&peer) {
            self.on_candidate_failed(peer);
        }
        self.end_cross(peer);
    }

    fn on_dial_failed(&mut self, peer: NodeId) {
        if self.links.contains_key(&peer) {
            return;
        }
        if self.dials_cross(peer) {
            self.on_cross_failed();
        }
        if self.asks(&peer) {
            self.on_candidate_failed(peer);
        } else if self.rivals.probing == Some(peer) {
            self.rivals.probing = None;
            self.on_rival_silent(peer);
        } else if self.climb.asking == Some(peer) {
            self.climb.asking = None;
        }
    }

    /// A peer that is no member any more.
    fn on_expelled(&mut self, peer: NodeId) {
        // A seed stays one: a newcomer that has nobody else to ask must not found a tree of its own.
        self.memory.forget(&peer);
        let dialled = self.asks(&peer)
            || self.dials_cross(peer)
            || [self.rivals.probing, self.climb.asking].contains(&Some(peer));
        if self.links.contains_key(&peer) {
            self.out.push(Output::Close(peer));
            self.on_link_down(peer);
        } else if dialled {
            self.out.push(Output::Close(peer));
            self.on_dial_failed(peer);
        }
    }

    /// A child or a parent that says it is none any more.
    fn on_leave(&mut self, from: NodeId) {
        if self.parent() == Some(from) {
            self.close(from);
            self.on_parent_lost(Some(from));
        } else if self.children.remove(&from).is_some() {
            self.close(from);
            self.on_children_changed();
        } else if self.is_cross(&from) {
            self.close(from);
        }
    }

    /// Counts misbehaviour; too much of it ends the link and keeps the peer out for a while.
    pub(crate) fn penalise(&mut self, now: Time, peer: NodeId, points: u32) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        link.penalty = link.penalty.saturating_add(points);
        if link.penalty < bounds::PENALTY_MAX {
            return;
        }
        self.shun(now, peer);
        self.out.push(Output::Close(peer));
        self.on_link_down(peer);
    }

    /// Refuses a peer for a while.
    pub(crate) fn shun(&mut self, now: Time, peer: NodeId) {
        if self.shunned.len() >= bounds::SHUNNED_MAX {
            self.shunned.pop_first();
        }
        self.shunned.insert(peer, now + bounds::SHUN);
    }

    /// Closes a link that means nothing to this node any more; the caller has seen to its role in
    /// the tree.
    pub(crate) fn close(&mut self, peer: NodeId) {
        self.links.remove(&peer);
        self.fetch_without(peer);
        self.out.push(Output::Close(peer));
        self.end_cross(peer);
    }

    /// Closes a link, or gives up a dial, unless it means something else as well.
    pub(crate) fn release(&mut self, peer: NodeId) {
        let needed = self.is_neighbour(peer) || self.is_cross(&peer) || self.dials_cross(peer);
        if !needed {
            self.close(peer);
        }
    }

    /// Links that are neither parent, child nor cross link.
    fn loose_links(&self) -> usize {
        let tied = self.children.len() + self.cross().len() + usize::from(self.parent().is_some());
        self.links.len().saturating_sub(tied)
    }

    /// Parent and children: the links of the tree.
    pub(crate) fn is_neighbour(&self, peer: NodeId) -> bool {
        self.parent() == Some(peer) || self.children.contains_key(&peer)
    }

    pub(crate) fn learn(&mut self, contacts: &[Contact]) {
        let mut new = false;
        for contact in contacts.iter().filter(|contact| contact.id != self.me) {
            new |= self.memory.learn(&mut self.rng, contact);
        }
        if new {
            self.on_new_contact();
        }
    }

    /// Enters a phase and says so.
    pub(crate) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.out.push(Output::Changed(self.state()));
    }

    /// A time between half of `pace` and all of it: neighbours never fall into step.
    pub(crate) fn jittered(&mut self, pace: Duration) -> Duration {
        let ms = u64::try_from(pace.as_millis()).unwrap_or(u64::MAX).max(2);
        Duration::from_millis(self.rng.gen_range(ms / 2..=ms))
    }

    /// Sets `timer` to a jittered `pace`.
    pub(crate) fn set_timer(&mut self, timer: Timer, pace: Duration) {
        let after = self.jittered(pace);
        self.out.push(Output::SetTimer(timer, after));
    }

    /// This node as others may dial it.
    pub(crate) fn contact(&self) -> Option<Contact> {
        self.config.address.as_ref().map(|address| Contact::new(self.me, address.clone()))
    }

    /// Reads what nearly every input needs of the node itself. A simulator of many nodes calls this
    /// for several of them before it gives any its input, so that the memory of all comes at the same
    /// time; the sum means nothing. The fewer steps it takes, the more nodes a processor is ahead.
    pub(crate) fn warm(&self) -> u64 {
        let lengths = self.out.len() ^ self.links.len() ^ self.children.len();
        let flags = [
            self.beat.stale,
            matches!(self.phase, Phase::Root),
            self.told.waits(),
            self.climb.asking.is_some(),
        ];
        let flags = flags.into_iter().fold(0, |sum, flag| sum ^ u64::from(flag));
        self.now.0 ^ lengths as u64 ^ flags ^ u64::from(self.config.fanout)
    }

    /// The same for what its first links hold: where [`Node::warm`] ends.
    pub(crate) fn warm_links(&self) -> u64 {
        let links = self.links.iter().take(12);
        links.fold(0, |sum, (id, link)| {
            let key = u64::from(id.to_bytes()[0]);
            sum ^ key ^ link.heard.0 ^ link.said.0 ^ u64::from(link.chatter)
        })
    }

    /// Checks what always holds (see the top of this file).
    ///
    /// # Errors
    /// The first rule that is broken, in words; that is a bug of this crate, whatever was received.
    pub fn check(&self) -> Result<(), String> {
        let rule = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        rule(self.children.len() <= usize::from(self.config.fanout), "more children than fan-out")?;
        rule(self.children.keys().all(|id| self.links.contains_key(id)), "a child without a link")?;
        rule(!self.links.contains_key(&self.me), "a link to itself")?;
        rule(self.config.address.is_some() || self.children.is_empty(), "a leaf with children")?;
        if let Phase::Attached { parent, down } = &self.phase {
            rule(self.links.contains_key(parent), "a parent without a link")?;
            rule(!self.children.contains_key(parent), "the parent is a child")?;
            rule(down.path.iter().all(|contact| contact.id != self.me), "its own ancestor")?;
            rule(down.path.len() < bounds::PATH_MAX, "a path longer than its bound")?;
        }
        let asked = bounds::ASKING_MAX + bounds::CROSS_LINKS + 3;
        let loose = self.loose_links();
        rule(loose <= bounds::LOOSE_LINKS_MAX + asked, "more loose links than their bound")?;
        rule(self.shunned.len() <= bounds::SHUNNED_MAX, "more shunned peers than their bound")?;
        self.check_cross()?;
        self.check_evidence()?;
        self.check_fetch()?;
        self.store.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Stage, contact, dialled, key};

    #[test]
    fn who_is_expelled_is_no_neighbour_and_not_remembered() {
        for peer in [2, 5] {
            let mut stage = Stage::attached(4, &[1, 2]);
            stage.joins(5, true);
            stage.step(Input::Contacts(vec![contact(peer), contact(9)]));
            assert!(stage.node.is_neighbour(key(peer)));
            let out = stage.step(Input::Expel(key(peer)));
            assert!(out.contains(&Output::Close(key(peer))), "{out:?}");
            assert!(
                !stage.node.is_neighbour(key(peer)) && !stage.node.links.contains_key(&key(peer))
            );
            let known = stage.node.memory.take_changes().unwrap();
            assert!(known.contains(&contact(9)) && !known.contains(&contact(peer)));
        }
    }

    #[test]
    fn a_candidate_that_is_expelled_makes_room_for_the_next() {
        let mut stage = Stage::new(4, true);
        stage.start(vec![contact(1), contact(2)], Vec::new());
        let asked = dialled(&stage.step(Input::TimerFired(Timer::Retry)));
        let out = stage.step(Input::Expel(asked[0]));
        assert!(out.contains(&Output::Close(asked[0])));
        assert_eq!(dialled(&out).len(), 1);
        assert_ne!(dialled(&out), asked);
    }
}
