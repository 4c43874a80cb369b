//! Looking for a parent: whom to ask, in which order, and when to give up.
//!
//! ```text
//!            ┌────────────── pause, doubles ◀───────────────┐
//!            ▼                                              │ all failed
//!  lost ─▶ round: queue ─▶ asked (`ask.rs`) ────────────────┤
//!            ▲               │ │        │                   │ and it is an heir, or tried long
//!            └── redirects ──┘ │        └─ silent: the next └───────────▶ root
//!                              ▼           one beside it
//!                           accepted ─▶ attached, the other links closed
//! ```
//!
//! Candidates are asked in order; one that is silent for a moment is not waited for alone. A round
//! asks the relatives of the lost parent (grandparent, uncles, further ancestors, the parent once
//! more), then remembered peers and seeds; a round in which nobody took the node is followed by a
//! pause that doubles. The root's children are special: they ask only the root and the siblings that
//! come before them in the succession, so that the first one alive, who has nobody to ask, is the
//! one that becomes root. An heir holds the others' questions until it knows its own place.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use borgios_types::{NodeId, Time};

use crate::bounds;
use crate::contact::Contact;
use crate::io::{Output, Timer};
use crate::message::{Down, Join, Message};
use crate::node::{Node, Phase};

/// One search for a parent.
#[derive(Clone, Debug)]
pub(crate) struct Seek {
    pub(crate) why: Why,
    pub(crate) round: u32,
    pub(crate) queue: VecDeque<Candidate>,
    pub(crate) asking: Vec<Attempt>,
    /// When the newest attempt began.
    pub(crate) begun: Time,
    /// How often each node was asked in this round.
    pub(crate) asked: BTreeMap<NodeId, u32>,
    pub(crate) asks: u32,
    /// Candidates of this round that could not be reached.
    pub(crate) unreachable: Vec<NodeId>,
    /// An heir that comes before this node is alive and still seeking itself.
    pub(crate) heir_seeks: bool,
    /// Nodes that asked this heir for a place before it had one itself.
    waiting: BTreeMap<NodeId, Join>,
}

/// What a search begins with.
#[derive(Clone, Debug)]
pub(crate) enum Why {
    /// Just started.
    Newcomer,
    /// Lost the parent, which last said `down`; `avoid` is a parent that sent this node away.
    Orphan { down: Down, avoid: Option<NodeId> },
    /// Left the parent, which lives and last said `down`: its other children may take this node.
    Fled { down: Down },
    /// Was in a loop, so whatever the parent said is worth nothing.
    Loop,
    /// A root that met another tree, whose root comes first.
    Merge,
}

#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) contact: Contact,
    pub(crate) hops: u32,
}

/// A candidate that was asked, or is being dialled.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) candidate: Candidate,
    pub(crate) since: Time,
    /// Its link is up: it lives.
    pub(crate) up: bool,
}

impl Seek {
    fn new(why: Why) -> Self {
        Self {
            why,
            round: 0,
            queue: VecDeque::new(),
            asking: Vec::new(),
            begun: Time::default(),
            asked: BTreeMap::new(),
            asks: 0,
            unreachable: Vec::new(),
            heir_seeks: false,
            waiting: BTreeMap::new(),
        }
    }

    pub(crate) fn newcomer() -> Self {
        Self::new(Why::Newcomer)
    }

    pub(crate) fn orphan(down: Down, avoid: Option<NodeId>) -> Self {
        Self::new(Why::Orphan { down, avoid })
    }

    pub(crate) fn out_of_loop() -> Self {
        Self::new(Why::Loop)
    }

    pub(crate) fn merge() -> Self {
        Self::new(Why::Merge)
    }

    /// Begins with these, before anyone else.
    pub(crate) fn first(mut self, contacts: impl IntoIterator<Item = Contact>) -> Self {
        self.queue.extend(contacts.into_iter().map(|contact| Candidate { contact, hops: 1 }));
        self
    }

    pub(crate) fn round(&self) -> u32 {
        self.round
    }

    /// Whether this is a sibling at the lost parent.
    pub(crate) fn is_sibling(&self, peer: &NodeId) -> bool {
        match &self.why {
            Why::Orphan { down, .. } => down.siblings.iter().any(|sibling| sibling.id == *peer),
            Why::Newcomer | Why::Fled { .. } | Why::Loop | Why::Merge => false,
        }
    }

    pub(crate) fn take(&mut self, peer: NodeId) -> Option<Attempt> {
        let at = self.asking.iter().position(|attempt| attempt.candidate.contact.id == peer)?;
        Some(self.asking.remove(at))
    }
}

impl Node {
    /// Leaves whatever phase this is and looks for a parent after a short pause.
    pub(crate) fn seek(&mut self, seek: Seek) {
        let pause = match seek.why {
            Why::Newcomer | Why::Orphan { .. } | Why::Fled { .. } | Why::Merge => {
                bounds::ORPHAN_JITTER
            }
            Why::Loop => bounds::LOOP_JITTER,
        };
        self.stop_climbing();
        self.enter(Phase::Seeking(Box::new(seek)));
        self.told.forget_parent();
        self.forgive_all();
        self.out.push(Output::CancelTimer(Timer::Probe));
        self.set_timer(Timer::Retry, pause);
    }

    /// Whether this node is a candidate being asked.
    pub(crate) fn asks(&self, peer: &NodeId) -> bool {
        match &self.phase {
            Phase::Seeking(seek) => {
                seek.asking.iter().any(|attempt| attempt.candidate.contact.id == *peer)
            }
            Phase::Idle | Phase::Attached { .. } | Phase::Root => false,
        }
    }

    /// The candidates being asked.
    pub(crate) fn asking(&self) -> Vec<NodeId> {
        match &self.phase {
            Phase::Seeking(seek) => {
                seek.asking.iter().map(|attempt| attempt.candidate.contact.id).collect()
            }
            Phase::Idle | Phase::Attached { .. } | Phase::Root => Vec::new(),
        }
    }

    /// The pause is over: a new round.
    pub(crate) fn on_retry(&mut self) {
        let Phase::Seeking(seek) = &self.phase else { return };
        if !seek.asking.is_empty() {
            return;
        }
        let strangers = self.memory.sample(&mut self.rng, bounds::STRANGERS_PER_ROUND, |_| true);
        let contacts = self.candidates(seek, strangers);
        let Phase::Seeking(seek) = &mut self.phase else { return };
        seek.queue.extend(contacts.into_iter().map(|contact| Candidate { contact, hops: 0 }));
        seek.asked.clear();
        seek.asks = 0;
        seek.unreachable.clear();
        seek.heir_seeks = false;
        self.ask_next();
    }

    /// Whom to ask in this round, in order.
    fn candidates(&self, seek: &Seek, strangers: Vec<Contact>) -> Vec<Contact> {
        let mut list = Vec::new();
        match &seek.why {
            Why::Merge => return list,
            Why::Orphan { down, avoid } => {
                let mut ancestors = down.path.iter().rev();
                let parent = ancestors.next().filter(|parent| Some(parent.id) != *avoid);
                if let Some(heirs) = self.heirs_before_me(down) {
                    list.extend(parent.cloned());
                    list.extend(heirs);
                    if self.config.address.is_some() && seek.round < bounds::ROUNDS_BEFORE_ROOT {
                        return list;
                    }
                } else {
                    let mut ancestors = ancestors.take(bounds::RELATIVES_PER_ROUND);
                    list.extend(ancestors.next().cloned());
                    list.extend(down.uncles.iter().take(bounds::RELATIVES_PER_ROUND).cloned());
                    list.extend(ancestors.cloned());
                    list.extend(parent.cloned());
                    if down.path.len() == 1 {
                        // Too far down the root's list of children to be an heir.
                        list.extend(down.siblings.iter().cloned());
                    }
                }
            }
            Why::Fled { down } => {
                let above = down.path.iter().rev().skip(1).take(bounds::RELATIVES_PER_ROUND);
                list.extend(above.cloned());
                list.extend(down.siblings.iter().chain(down.uncles.iter()).cloned());
            }
            Why::Newcomer | Why::Loop => {}
        }
        list.extend(strangers);
        let start = seek.round as usize % self.seeds.len().max(1);
        let seeds = self.seeds.iter().cycle().skip(start).take(self.seeds.len());
        list.extend(seeds.take(bounds::STRANGERS_PER_ROUND).cloned());
        if self.config.address.is_none() {
            // Nobody comes to it, and it never looks around as a root. These are from signed records: no
            // neighbour can crowd them out, as it can whom this node remembers.
            list.extend(self.cross.candidates.iter().cloned());
        }
        list
    }

    /// If the lost parent was the root and this node an heir: the heirs before it.
    pub(crate) fn heirs_before_me<'a>(
        &self,
        down: &'a Down,
    ) -> Option<impl Iterator<Item = Contact> + 'a> {
        let rank = down.siblings.iter().position(|sibling| sibling.id == self.me)?;
        (down.path.len() == 1).then(|| down.siblings.iter().take(rank).cloned())
    }

    /// Keeps a question for a place until this node has one itself. Only an heir does: it will know
    /// in a moment, and whoever asks has nobody better to ask.
    pub(crate) fn hold(&mut self, from: NodeId, join: &Join) -> bool {
        let Phase::Seeking(seek) = &self.phase else { return false };
        let before = match &seek.why {
            Why::Orphan { down, .. } => {
                self.heirs_before_me(down).is_none_or(|mut heirs| heirs.any(|heir| heir.id == from))
            }
            Why::Newcomer | Why::Fled { .. } | Why::Loop | Why::Merge => true,
        };
        if before || self.config.address.is_none() {
            return false;
        }
        if let Phase::Seeking(seek) = &mut self.phase
            && seek.waiting.len() < bounds::LOOSE_LINKS_MAX
        {
            seek.waiting.insert(from, join.clone());
            return true;
        }
        false
    }

    /// Enters a phase in which places can be given, and answers those who waited for one.
    fn place(&mut self, phase: Phase) {
        let waiting = match &mut self.phase {
            Phase::Seeking(seek) => std::mem::take(&mut seek.waiting),
            Phase::Idle | Phase::Attached { .. } | Phase::Root => BTreeMap::new(),
        };
        self.beat.stale = true;
        self.enter(phase);
        for (peer, join) in waiting {
            if self.links.contains_key(&peer) {
                self.on_join(peer, &join);
            }
        }
    }

    /// "Not here": from the candidate, or from a parent that has no room any more.
    pub(crate) fn on_redirect(&mut self, now: Time, from: NodeId, to: Vec<Contact>) {
        if self.parent() == Some(from) {
            self.close(from);
            self.learn(&to);
            return self.leave_for(Some(from), to);
        }
        if self.climb.asking == Some(from) {
            return self.on_climb_redirected(&to);
        }
        if !self.asks(&from) {
            return self.penalise(now, from, 1);
        }
        self.release(from);
        self.learn(&to);
        let Phase::Seeking(seek) = &mut self.phase else { return };
        let hops = seek.take(from).map_or(0, |attempt| attempt.candidate.hops) + 1;
        seek.heir_seeks |= to.is_empty() && seek.is_sibling(&from);
        if hops <= bounds::HOPS_MAX {
            for contact in to.into_iter().rev() {
                seek.queue.push_front(Candidate { contact, hops });
            }
        }
        self.ask_next();
    }

    /// A place in the tree.
    pub(crate) fn on_accept(&mut self, from: NodeId, down: Down) {
        if self.parent() == Some(from) {
            return self.on_heartbeat(from, down);
        }
        let climbed = self.climb.asking == Some(from) && self.on_climbed(from, &down);
        if !self.asks(&from) && !climbed {
            // It took too long to answer; it must not count this node as its child.
            self.out.push(Output::Send(from, Message::Leave));
            return;
        }
        if !self.usable(from, &down) {
            self.out.push(Output::Send(from, Message::Leave));
            self.close(from);
            if let Phase::Seeking(seek) = &mut self.phase {
                seek.take(from);
            }
            return self.ask_next();
        }
        self.was_member = true;
        self.rivals.calm(self.now);
        self.climb.rest(self.now);
        self.learn_relatives(&down);
        self.out.push(Output::CancelTimer(Timer::Attempt));
        self.out.push(Output::CancelTimer(Timer::Retry));
        for other in self.asking().into_iter().filter(|other| *other != from) {
            self.release(other);
        }
        self.end_cross(from);
        self.told.forget_parent();
        self.forgive_all();
        self.place(Phase::Attached { parent: from, down });
        self.report();
        self.send_summary(from);
        self.tell_children();
        self.remember();
    }

    /// Whether a parent's word can be followed: it ends in the parent, who is no child of this node,
    /// and does not lead through this node.
    pub(crate) fn usable(&self, parent: NodeId, down: &Down) -> bool {
        down.path.last().is_some_and(|last| last.id == parent)
            && down.path.len() < bounds::PATH_MAX
            && down.path.iter().all(|contact| contact.id != self.me)
            && !self.children.contains_key(&parent)
    }

    /// The parent is gone, or sent this node away (`avoid`).
    pub(crate) fn on_parent_lost(&mut self, avoid: Option<NodeId>) {
        self.leave_for(avoid, Vec::new());
    }

    /// Leaves a parent that lives, whose link is closed already.
    pub(crate) fn leave_living(&mut self) {
        let Phase::Attached { down, .. } = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return;
        };
        self.seek(Seek::new(Why::Fled { down }));
    }

    /// Leaves the parent, whose link is closed already, and asks `first` before anyone else.
    pub(crate) fn leave_for(&mut self, avoid: Option<NodeId>, first: Vec<Contact>) {
        let Phase::Attached { down, .. } = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return;
        };
        self.seek(Seek::orphan(down, avoid).first(first));
    }

    /// Everyone was asked in vain: become root if that is due, else pause and begin again.
    pub(crate) fn end_round(&mut self) {
        self.out.push(Output::CancelTimer(Timer::Attempt));
        let Phase::Seeking(seek) = &self.phase else { return };
        // Who founds the network has nobody to ask, even if someone dialled it a moment ago: should
        // it wait for those who wait for it, there would never be a root.
        let alone = self.seeds.is_empty() && (self.memory.is_empty() || !self.was_member);
        let heir = self.is_heir(seek) && !seek.heir_seeks;
        let merge = matches!(seek.why, Why::Merge);
        let given_up = self.was_member && seek.round + 1 >= bounds::ROUNDS_BEFORE_ROOT;
        // A root that nobody can dial helps nobody, unless there is nobody else.
        let dialable = self.config.address.is_some();
        if merge || alone || (dialable && (heir || given_up)) {
            if merge {
                self.rivals.failed(self.now);
            }
            return self.become_root();
        }
        let Phase::Seeking(seek) = &mut self.phase else { return };
        let doubled = bounds::BACKOFF_MIN * 2_u32.saturating_pow(seek.round.min(16));
        let pause: Duration = doubled.min(bounds::BACKOFF_MAX);
        seek.round = seek.round.saturating_add(1);
        self.set_timer(Timer::Retry, pause);
    }

    fn become_root(&mut self) {
        self.was_member = true;
        if let Phase::Seeking(seek) = &self.phase
            && let Why::Orphan { down, .. } = &seek.why
        {
            // The root may live after all, and another heir may think what this one does.
            if let Some(root) = down.path.first() {
                self.rivals.bury(root.id, self.now);
            }
            let family = down.path.last().into_iter().chain(down.siblings.iter());
            self.rivals.suspects = family.filter(|one| one.id != self.me).cloned().collect();
        }
        self.rivals.alone(self.now);
        self.place(Phase::Root);
        self.begin_probing();
        self.tell_children();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Input;
    use crate::stage::{Stage, contact, dialled, key};
    use crate::state::State;

    #[test]
    fn without_members_to_ask_a_newcomer_is_the_root() {
        let stage = Stage::root(4);
        assert_eq!(stage.node.state(), State::Root);
    }

    /// Found by the model: each waits for the other, and nobody for anybody else.
    #[test]
    fn a_founder_that_is_dialled_before_it_is_the_root_becomes_it_all_the_same() {
        let mut stage = Stage::new(4, true);
        stage.start(Vec::new(), Vec::new());
        stage.joins(5, true);
        let out = stage.step(Input::TimerFired(Timer::Retry));
        assert_eq!(dialled(&out), [], "linked already");
        stage.says(5, Message::Redirect { to: Vec::new() });
        assert_eq!(stage.node.state(), State::Root);
    }

    #[test]
    fn a_newcomer_whom_nobody_answers_never_makes_itself_a_root() {
        let mut stage = Stage::new(4, true);
        stage.start(vec![contact(1), contact(2)], Vec::new());
        for round in 0..20 {
            let out = stage.step(Input::TimerFired(Timer::Retry));
            assert!(!dialled(&out).is_empty(), "round {round}");
            stage.fail_all_dials(out);
            assert_eq!(stage.node.state(), State::Seeking { round: round + 1 });
        }
    }

    #[test]
    fn a_former_member_whom_nobody_answers_becomes_root_after_bounded_rounds() {
        let mut stage = Stage::new(4, true);
        stage.start(vec![contact(1)], vec![contact(2), contact(3)]);
        for _ in 0..bounds::ROUNDS_BEFORE_ROOT {
            assert!(matches!(stage.node.state(), State::Seeking { .. }));
            let out = stage.step(Input::TimerFired(Timer::Retry));
            stage.fail_all_dials(out);
        }
        assert_eq!(stage.node.state(), State::Root);
    }

    #[test]
    fn an_orphan_asks_grandparent_then_uncles_then_further_ancestors() {
        let mut stage = Stage::attached(4, &[1, 2, 3]);
        let uncles = vec![contact(21), contact(22)];
        stage.parent_says(&[1, 2, 3], Vec::new(), uncles);
        stage.step(Input::LinkDown(key(3)));
        let out = stage.step(Input::TimerFired(Timer::Retry));
        let order = stage.fail_all_dials(out);
        assert_eq!(order[..5], [2, 21, 22, 1, 3].map(key));
    }

    #[test]
    fn the_first_heir_asks_only_the_root_and_then_takes_its_place() {
        let mut stage = Stage::attached(4, &[1]);
        let me = stage.node.contact().unwrap();
        stage.parent_says(&[1], vec![me, contact(5)], Vec::new());
        stage.step(Input::LinkDown(key(1)));
        let out = stage.step(Input::TimerFired(Timer::Retry));
        assert_eq!(stage.fail_all_dials(out), [key(1)]);
        assert_eq!(stage.node.state(), State::Root);
    }

    #[test]
    fn the_second_heir_waits_for_a_first_one_that_lives() {
        let mut stage = Stage::attached(4, &[1]);
        let me = stage.node.contact().unwrap();
        stage.parent_says(&[1], vec![contact(5), me], Vec::new());
        stage.step(Input::LinkDown(key(1)));
        stage.step(Input::TimerFired(Timer::Retry));
        let out = stage.step(Input::DialFailed(key(1)));
        assert_eq!(dialled(&out), [key(5)]);
        stage.link(5, true);
        stage.says(5, Message::Redirect { to: Vec::new() });
        assert_eq!(stage.node.state(), State::Seeking { round: 1 });
    }

    #[test]
    fn a_redirect_to_itself_or_to_its_own_child_leads_nowhere_and_ends() {
        let mut stage = Stage::attached(4, &[1, 2]);
        stage.joins(7, true);
        stage.step(Input::LinkDown(key(2)));
        let out = stage.step(Input::TimerFired(Timer::Retry));
        assert_eq!(dialled(&out), [key(1)]);
        stage.link(1, true);
        let me = stage.node.contact().unwrap();
        let out = stage.says(1, Message::Redirect { to: vec![me, contact(7), contact(30)] });
        assert_eq!(dialled(&out), [key(30)]);
    }

    #[test]
    fn circles_of_redirects_end() {
        let mut stage = Stage::new(4, true);
        stage.start(vec![contact(1)], Vec::new());
        stage.step(Input::TimerFired(Timer::Retry));
        let mut asked = 0;
        while let Some(peer) = stage.node.asking().first().copied() {
            asked += 1;
            assert!(asked <= bounds::ASKS_PER_ROUND, "still asking");
            stage.step(Input::LinkUp { peer, dialled: true, address: None });
            let to = vec![contact(1), contact(2), contact(asked as u8 + 40)];
            stage.step(Input::Received(peer, Message::Redirect { to }));
        }
        assert_eq!(stage.node.state(), State::Seeking { round: 1 });
    }

    #[test]
    fn a_node_that_finds_itself_in_its_path_leaves_the_loop() {
        let mut stage = Stage::attached(4, &[1, 2]);
        let me = stage.node.contact().unwrap();
        let mut down = stage.parent_down(&[1, 2], Vec::new(), Vec::new());
        down.path = vec![down.path[0].clone(), me, down.path[1].clone()].into();
        let out = stage.says(2, Message::Heartbeat(down));
        assert!(out.contains(&Output::Send(key(2), Message::Leave)));
        assert!(out.contains(&Output::Close(key(2))));
        assert_eq!(stage.node.state(), State::Seeking { round: 0 });
    }

    #[test]
    fn nobody_becomes_parent_and_child_of_one_node() {
        let mut stage = Stage::attached(4, &[1, 2]);
        stage.joins(7, true);
        let down = stage.parent_down(&[1, 7], Vec::new(), Vec::new());
        assert!(!stage.node.usable(key(7), &down));
        // Asked for a place, it asks for one itself before it answers.
        stage.link(9, true);
        stage.node.climb.asking = Some(key(9));
        let out = stage.says(9, crate::stage::join(1));
        assert_eq!(crate::stage::redirected(&out), Some(Vec::new()));
    }

    #[test]
    fn an_answer_that_comes_too_late_is_undone() {
        let mut stage = Stage::attached(4, &[1, 2]);
        stage.link(9, true);
        let down = stage.parent_down(&[9], Vec::new(), Vec::new());
        let out = stage.says(9, Message::Accept(down));
        assert_eq!(out, [Output::Send(key(9), Message::Leave)]);
        assert_eq!(stage.node.parent(), Some(key(2)));
    }
}
