//! Looking for a parent: whom to ask, in which order, and when to give up.
//!
//! One candidate is asked at a time. A round asks the relatives of the lost parent (grandparent,
//! uncles, further ancestors, the parent once more), then remembered peers and seeds; a round in
//! which nobody took the node is followed by a pause that doubles. The root's children are special:
//! they ask only the siblings that come before them in the succession, so that the first one alive,
//! who has nobody to ask, is the one that becomes root.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use borgios_types::{NodeId, Time};

use crate::bounds;
use crate::contact::Contact;
use crate::io::{Output, Timer};
use crate::message::{Down, Join, Message};
use crate::node::{Node, Phase};

/// One search for a parent.
#[derive(Debug)]
pub(crate) struct Seek {
    why: Why,
    round: u32,
    queue: VecDeque<Candidate>,
    asking: Option<Candidate>,
    /// How often each node was asked in this round.
    asked: BTreeMap<NodeId, u32>,
    asks: u32,
    /// Candidates of this round that could not be reached.
    unreachable: Vec<NodeId>,
    /// An heir that comes before this node is alive and still seeking itself.
    heir_seeks: bool,
}

/// What a search begins with.
#[derive(Debug)]
enum Why {
    /// Just started.
    Newcomer,
    /// Lost the parent, which last said `down`; `avoid` is a parent that sent this node away.
    Orphan { down: Down, avoid: Option<NodeId> },
    /// Was in a loop, so whatever the parent said is worth nothing.
    Loop,
    /// A root that met another tree, whose root comes first.
    Merge,
}

#[derive(Clone, Debug)]
struct Candidate {
    contact: Contact,
    hops: u32,
}

impl Seek {
    fn new(why: Why) -> Self {
        Self {
            why,
            round: 0,
            queue: VecDeque::new(),
            asking: None,
            asked: BTreeMap::new(),
            asks: 0,
            unreachable: Vec::new(),
            heir_seeks: false,
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
}

impl Node {
    /// Leaves whatever phase this is and looks for a parent after a short pause.
    pub(crate) fn seek(&mut self, seek: Seek) {
        let pause = match seek.why {
            Why::Newcomer | Why::Orphan { .. } | Why::Merge => bounds::ORPHAN_JITTER,
            Why::Loop => bounds::LOOP_JITTER,
        };
        self.stop_climbing();
        self.enter(Phase::Seeking(Box::new(seek)));
        self.reported = None;
        self.out.push(Output::CancelTimer(Timer::Probe));
        self.set_timer(Timer::Retry, pause);
        self.tell_children();
    }

    /// The candidate being asked, if any.
    pub(crate) fn asking(&self) -> Option<NodeId> {
        match &self.phase {
            Phase::Seeking(seek) => seek.asking.as_ref().map(|candidate| candidate.contact.id),
            Phase::Idle | Phase::Attached { .. } | Phase::Root => None,
        }
    }

    /// The pause is over: a new round.
    pub(crate) fn on_retry(&mut self) {
        let Phase::Seeking(seek) = &self.phase else { return };
        if seek.asking.is_some() {
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
            Why::Newcomer | Why::Loop => {}
        }
        list.extend(strangers);
        let start = seek.round as usize % self.seeds.len().max(1);
        let seeds = self.seeds.iter().cycle().skip(start).take(self.seeds.len());
        list.extend(seeds.take(bounds::STRANGERS_PER_ROUND).cloned());
        list
    }

    /// If the lost parent was the root and this node an heir: the heirs before it.
    fn heirs_before_me<'a>(&self, down: &'a Down) -> Option<impl Iterator<Item = Contact> + 'a> {
        let rank = down.siblings.iter().position(|sibling| sibling.id == self.me)?;
        (down.path.len() == 1).then(|| down.siblings.iter().take(rank).cloned())
    }

    /// Asks the next candidate that is worth asking, or ends the round.
    fn ask_next(&mut self) {
        loop {
            let Phase::Seeking(seek) = &mut self.phase else { return };
            seek.asking = None;
            let next =
                if seek.asks < bounds::ASKS_PER_ROUND { seek.queue.pop_front() } else { None };
            let Some(candidate) = next else {
                seek.queue.clear();
                return self.end_round();
            };
            let peer = candidate.contact.id;
            let asked = seek.asked.entry(peer).or_insert(0);
            let useless = peer == self.me
                || self.children.contains_key(&peer)
                || self.shunned.contains_key(&peer)
                || seek.unreachable.contains(&peer)
                || *asked >= bounds::ASKS_PER_NODE
                || (candidate.hops == 0 && *asked > 0);
            if useless {
                continue;
            }
            *asked += 1;
            seek.asks += 1;
            let contact = candidate.contact.clone();
            seek.asking = Some(candidate);
            self.out.push(Output::SetTimer(Timer::Attempt, bounds::ATTEMPT));
            if self.links.contains_key(&peer) {
                self.on_candidate_connected(peer);
            } else {
                self.out.push(Output::Dial(contact));
            }
            return;
        }
    }

    /// The link to the candidate is up: ask.
    pub(crate) fn on_candidate_connected(&mut self, peer: NodeId) {
        let size = self.subtree_size();
        let Phase::Seeking(seek) = &self.phase else { return };
        let Seek { asking: Some(candidate), unreachable, .. } = &**seek else { return };
        let join = Join { hops: candidate.hops, size, unreachable: unreachable.clone() };
        self.out.push(Output::Send(peer, Message::Join(join)));
    }

    /// The candidate did not answer in time.
    pub(crate) fn on_attempt_over(&mut self) {
        if let Some(peer) = self.asking() {
            self.close(peer);
            self.on_candidate_failed();
        }
    }

    /// The candidate cannot be reached.
    pub(crate) fn on_candidate_failed(&mut self) {
        let Phase::Seeking(seek) = &mut self.phase else { return };
        if let Some(candidate) = seek.asking.take()
            && seek.unreachable.len() < bounds::UNREACHABLE_MAX
        {
            seek.unreachable.push(candidate.contact.id);
        }
        self.ask_next();
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
        if self.asking() != Some(from) {
            return self.penalise(now, from, 1);
        }
        self.close(from);
        self.learn(&to);
        let Phase::Seeking(seek) = &mut self.phase else { return };
        let hops = seek.asking.take().map_or(0, |candidate| candidate.hops) + 1;
        if let Why::Orphan { down, .. } = &seek.why
            && to.is_empty()
            && down.siblings.iter().any(|sibling| sibling.id == from)
        {
            seek.heir_seeks = true;
        }
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
        if self.asking() != Some(from) && !climbed {
            // It took too long to answer; it must not count this node as its child.
            self.out.push(Output::Send(from, Message::Leave));
            return;
        }
        if !self.usable(from, &down) {
            self.out.push(Output::Send(from, Message::Leave));
            self.close(from);
            return self.ask_next();
        }
        self.was_member = true;
        self.rivals.calm();
        self.learn_relatives(&down);
        self.out.push(Output::CancelTimer(Timer::Attempt));
        self.out.push(Output::CancelTimer(Timer::Retry));
        self.enter(Phase::Attached { parent: from, down });
        self.report();
        self.send_summary(from);
        self.tell_children();
        self.remember();
    }

    /// Whether a parent's word can be followed: it ends in the parent and does not lead through
    /// this node.
    pub(crate) fn usable(&self, parent: NodeId, down: &Down) -> bool {
        down.path.last().is_some_and(|last| last.id == parent)
            && down.path.len() < bounds::PATH_MAX
            && down.path.iter().all(|contact| contact.id != self.me)
    }

    /// The parent is gone, or sent this node away (`avoid`).
    pub(crate) fn on_parent_lost(&mut self, avoid: Option<NodeId>) {
        self.leave_for(avoid, Vec::new());
    }

    /// Leaves the parent, whose link is closed already, and asks `first` before anyone else.
    pub(crate) fn leave_for(&mut self, avoid: Option<NodeId>, first: Vec<Contact>) {
        let Phase::Attached { down, .. } = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return;
        };
        self.seek(Seek::orphan(down, avoid).first(first));
    }

    /// Everyone was asked in vain: become root if that is due, else pause and begin again.
    fn end_round(&mut self) {
        self.out.push(Output::CancelTimer(Timer::Attempt));
        let Phase::Seeking(seek) = &self.phase else { return };
        let alone = self.memory.is_empty() && self.seeds.is_empty();
        let heir = match &seek.why {
            Why::Orphan { down, .. } => self.heirs_before_me(down).is_some() && !seek.heir_seeks,
            Why::Newcomer | Why::Loop | Why::Merge => false,
        };
        let merge = matches!(seek.why, Why::Merge);
        let given_up = self.was_member && seek.round + 1 >= bounds::ROUNDS_BEFORE_ROOT;
        // A root that nobody can dial helps nobody, unless there is nobody else.
        let dialable = self.config.address.is_some();
        if merge || alone || (dialable && (heir || given_up)) {
            if merge {
                self.rivals.failed();
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
        self.enter(Phase::Root);
        self.set_timer(Timer::Probe, bounds::FIRST_PROBE);
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
        while let Some(peer) = stage.node.asking() {
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
    fn an_answer_that_comes_too_late_is_undone() {
        let mut stage = Stage::attached(4, &[1, 2]);
        stage.link(9, true);
        let down = stage.parent_down(&[9], Vec::new(), Vec::new());
        let out = stage.says(9, Message::Accept(down));
        assert_eq!(out, [Output::Send(key(9), Message::Leave)]);
        assert_eq!(stage.node.parent(), Some(key(2)));
    }
}
