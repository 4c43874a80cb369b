//! Two trees that find each other become one.
//!
//! A root dials a remembered node from time to time and both say which root they know. If these
//! differ, the one that comes later yields: it is told (through its tree, where it was not the one
//! that met) and joins the other tree as a child, subtree and all. Roots that can be dialled come
//! before those that cannot, then smaller ids before larger ones, so both sides judge alike.
//!
//! ```text
//!  root ── [`crate::probe`] ──▶ a suspect, a remembered node, a seed ─────┐
//!  anyone ── a cross peer of another tree ──────────────────────────────┤
//!                                                             compare ◀─▶ compare
//!                                 ours comes later: rival, up to the root
//!                                                       │ its own word? else it is asked first,
//!                                                       ▼ and whoever met it if it cannot be had
//!                                                     seeks there
//!              no answer, another answer, no place there: not believed for a while that doubles
//! ```
//!
//! Hearsay moves no root: while the rival is asked, the root stays what it is. One question is open
//! at a time, and a neighbour whose hearsay came to nothing is listened to less and less.

use std::time::Duration;

use borgios_types::{NodeId, Time};

use crate::bounds;
use crate::contact::{Address, Contact};
use crate::io::{Output, Timer};
use crate::message::Message;
use crate::node::{Node, Phase};
use crate::probe::Pace;
use crate::seek::Seek;
use crate::sorted::SortedMap;

/// What a node knows of its search for other trees.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rivals {
    /// The node being dialled, or asked, to compare roots.
    pub(crate) probing: Option<NodeId>,
    /// The hearsay for which it is, if it is for any.
    pub(crate) check: Option<Box<Check>>,
    /// How soon this node looks for other trees, while it is a root.
    pub(crate) pace: Pace,
    /// Who may be a root as well, from the time when this node became one.
    pub(crate) suspects: Vec<Contact>,
    /// The root whose death made this node one, and when.
    buried: Option<(NodeId, Time)>,
    /// The root that is being joined, or was, and who vouched for it.
    joining: Option<(NodeId, NodeId)>,
    /// Since when this node has had a place there.
    joined: Option<Time>,
    /// Rivals of whom nothing came, and who vouched for them: until when they are not believed, and
    /// how often that was.
    failed: SortedMap<NodeId, (Time, u32)>,
}

/// Hearsay of a rival that is being found out about.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    root: Contact,
    /// Who met it.
    via: Contact,
    /// The neighbour that told.
    told: NodeId,
}

impl Rivals {
    /// The merge failed: that rival is not believed for a while that doubles.
    pub(crate) fn failed(&mut self, now: Time) {
        if let Some((root, via)) = self.joining.take() {
            self.doubt(root, now);
            if via != root {
                self.doubt(via, now);
            }
        }
    }

    fn doubt(&mut self, root: NodeId, now: Time) {
        let times = self.failed.get(&root).map_or(0, |(_, times)| *times);
        if self.failed.len() >= bounds::RIVALS_MAX && !self.failed.contains_key(&root) {
            // The one that is over soonest.
            let first = self.failed.iter().min_by_key(|(_, (until, _))| *until);
            if let Some(first) = first.map(|(id, _)| *id) {
                self.failed.remove(&first);
            }
        }
        let until = now + pause(bounds::RIVAL_PAUSE_MIN, times);
        self.failed.insert(root, (until, times.saturating_add(1)));
    }

    /// This node took a dead root's place.
    pub(crate) fn bury(&mut self, root: NodeId, now: Time) {
        self.buried = Some((root, now));
    }

    /// Whether somebody else's word for this root is out of date: its subtrees still name it until
    /// they have found their places.
    fn is_dead(&self, root: &Contact, via: &Contact, now: Time) -> bool {
        let dead = |(id, at): (NodeId, Time)| id == root.id && now.since(at) < bounds::BURIED;
        root.id != via.id && self.buried.is_some_and(dead)
    }

    /// A place was found; in the tree that was to be joined, if one was.
    pub(crate) fn calm(&mut self, now: Time) {
        if self.joining.is_some() {
            self.joined.get_or_insert(now);
        }
    }

    /// This node is a root again: a tree that let it in and out again at once was none worth joining.
    pub(crate) fn alone(&mut self, now: Time) {
        self.check = None;
        let Some(since) = self.joined.take() else { return };
        if now.since(since) < bounds::RIVAL_STAY {
            self.failed(now);
        } else if let Some((root, via)) = self.joining.take() {
            self.failed.remove(&root);
            self.failed.remove(&via);
        }
    }

    fn ignored(&self, root: &NodeId, now: Time) -> bool {
        self.failed.get(root).is_some_and(|(until, _)| now < *until)
    }
}

/// A pause that doubles each time, up to [`bounds::RIVAL_PAUSE_MAX`].
fn pause(first: Duration, times: u32) -> Duration {
    (first * 2_u32.saturating_pow(times.min(16))).min(bounds::RIVAL_PAUSE_MAX)
}

impl Node {
    /// A cross peer stands in another tree, it seems.
    pub(crate) fn compare_roots(&mut self, peer: NodeId) {
        self.compare(peer, true);
    }

    pub(crate) fn compare(&mut self, peer: NodeId, asks: bool) {
        let (root, address) = self.root();
        self.out.push(Output::Send(peer, Message::Compare { root, address, asks }));
    }

    fn root(&self) -> (NodeId, Option<Address>) {
        match &self.phase {
            Phase::Attached { down, .. } if !down.path.is_empty() => {
                (down.path[0].id, Some(down.path[0].address.clone()))
            }
            Phase::Attached { .. } | Phase::Idle | Phase::Seeking(_) | Phase::Root => {
                (self.me, self.config.address.clone())
            }
        }
    }

    /// "This is the root of my tree."
    pub(crate) fn on_compare(
        &mut self,
        now: Time,
        from: NodeId,
        root: NodeId,
        address: Option<Address>,
        asks: bool,
    ) {
        let mut check = None;
        let answered = !asks && self.rivals.probing == Some(from);
        if asks {
            self.compare(from, false);
        } else if answered {
            (self.rivals.probing, check) = (None, self.rivals.check.take());
        } else if !self.is_cross(&from) {
            return self.penalise(now, from, 1);
        }
        let via = self.links.get(&from).and_then(|link| link.address.clone());
        let (mine, my_address) = self.root();
        let yields = (my_address.is_none(), mine) > (address.is_none(), root);
        let yields = yields && mine != root;
        if answered && check.is_none() {
            self.on_probe_answered(mine == root);
        }
        let confirmed = check.as_ref().is_some_and(|check| check.root.id == root);
        if let Some(check) = check.filter(|_| !confirmed || !yields) {
            self.refute(&check);
        }
        let heard = yields && (confirmed || self.may_name_rival(now, from));
        if let (true, Some(address), Some(via)) = (heard, address, via) {
            let root = Contact::new(root, address);
            let via = Contact::new(from, via);
            if confirmed || from == root.id {
                self.on_rival_itself(now, root, via);
            } else {
                self.on_rival_root(now, from, root, via);
            }
        }
        if !asks && !self.asks(&from) {
            self.release(from);
        }
    }

    /// A child met another tree.
    pub(crate) fn on_rival(&mut self, now: Time, from: NodeId, root: Contact, via: Contact) {
        if !self.children.contains_key(&from) {
            return self.penalise(now, from, 1);
        }
        let (mine, my_address) = self.root();
        let yields = mine != root.id && (my_address.is_none(), mine) > (false, root.id);
        if yields && self.may_name_rival(now, from) {
            self.on_rival_root(now, from, root, via);
        }
    }

    /// One neighbour makes the tree talk of rivals only so often.
    fn may_name_rival(&mut self, now: Time, from: NodeId) -> bool {
        let Some(link) = self.links.get_mut(&from) else { return false };
        let pace = pause(bounds::RIVAL_PACE, link.rival_failed);
        let rested = link.rival_at.is_none_or(|at| now.since(at) >= pace);
        if rested {
            link.rival_at = Some(now);
        }
        rested
    }

    /// Hearsay of a root that comes before ours: the root asks it, anyone else passes the news up.
    fn on_rival_root(&mut self, now: Time, told: NodeId, root: Contact, via: Contact) {
        match &self.phase {
            Phase::Attached { parent, .. } => {
                self.out.push(Output::Send(*parent, Message::Rival { root, via }));
            }
            Phase::Root if self.rivals.check.is_some() => {}
            Phase::Root if self.rivals.is_dead(&root, &via, now) => {}
            Phase::Root if !self.rivals.ignored(&root.id, now) => {
                let check = Check { root: root.clone(), via, told };
                if self.children.contains_key(&root.id) {
                    // It hangs below this node, and is no root.
                    return self.refute(&check);
                }
                self.rivals.check = Some(Box::new(check));
                self.probe(root);
            }
            Phase::Root | Phase::Seeking(_) | Phase::Idle => {}
        }
    }

    /// A root that comes before ours said so itself, or whoever met it did where it cannot be had.
    fn on_rival_itself(&mut self, now: Time, root: Contact, via: Contact) {
        self.learn(&[root.clone(), via.clone()]);
        match &self.phase {
            Phase::Attached { parent, .. } => {
                self.out.push(Output::Send(*parent, Message::Rival { root, via }));
            }
            Phase::Root if self.rivals.is_dead(&root, &via, now) => {}
            Phase::Root if !self.rivals.ignored(&root.id, now) => {
                (self.rivals.joining, self.rivals.joined) = (Some((root.id, via.id)), None);
                self.rivals.check = None;
                self.seek(Seek::merge().first([root, via]));
            }
            Phase::Root | Phase::Seeking(_) | Phase::Idle => {}
        }
    }

    /// Asks a node for its root, over the link there is or a new one.
    fn probe(&mut self, contact: Contact) {
        if let Some(peer) = self.rivals.probing.take() {
            self.release(peer);
        }
        self.rivals.probing = Some(contact.id);
        self.set_timer(Timer::Probe, bounds::ATTEMPT * 2);
        if self.links.contains_key(&contact.id) {
            self.compare(contact.id, true);
        } else {
            self.out.push(Output::Dial(contact));
        }
    }

    /// Whoever was asked about a rival cannot be had: whoever met it is asked, or nobody any more.
    pub(crate) fn on_rival_silent(&mut self, peer: NodeId) {
        let Some(check) = self.rivals.check.take() else { return self.hint_of_another_tree() };
        let met = check.via.id != check.root.id
            && check.via.id != self.me
            // What hangs below this node is in no other tree.
            && !self.children.contains_key(&check.via.id)
            && !self.rivals.ignored(&check.via.id, self.now);
        if peer == check.root.id && met && matches!(self.phase, Phase::Root) {
            let via = check.via.clone();
            self.rivals.check = Some(check);
            self.probe(via);
        } else {
            self.refute(&check);
        }
    }

    /// Hearsay came to nothing.
    fn refute(&mut self, check: &Check) {
        let now = self.now;
        self.rivals.doubt(check.root.id, now);
        if let Some(link) = self.links.get_mut(&check.told) {
            link.rival_failed = link.rival_failed.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Stage, contact, dialled, key, me};
    use crate::state::State;

    /// A key that comes before the stage's own, or after it.
    fn other(before: bool) -> u8 {
        (1..=40).find(|n| (key(*n) < me()) == before).unwrap()
    }

    fn compare(n: u8, dialable: bool) -> Message {
        let address = dialable.then(|| contact(n).address);
        Message::Compare { root: key(n), address, asks: true }
    }

    #[test]
    fn the_root_with_the_larger_id_joins_the_other_tree() {
        for before in [true, false] {
            let n = other(before);
            let mut root = Stage::root(4);
            root.link(n, true);
            root.says(n, compare(n, true));
            assert_eq!(matches!(root.node.state(), State::Seeking { .. }), before);
        }
    }

    /// A parent ends the link of whoever passes on what is no address.
    #[test]
    fn a_compare_with_an_address_that_is_none_is_passed_on_to_nobody() {
        for address in ["", "a b", "a\n"] {
            let n = other(true);
            let last = (1..=40).filter(|n| key(*n) > me()).max_by_key(|n| key(*n)).unwrap();
            for mut stage in [Stage::attached(4, &[last]), Stage::root(4)] {
                stage.link(77, true);
                let address = Some(address.into());
                let told = Message::Compare { root: key(n), address, asks: true };
                assert!(!told.bounded());
                for output in stage.says(77, told) {
                    match output {
                        Output::Send(_, message) => assert!(message.bounded(), "{message:?}"),
                        Output::Dial(contact) => assert!(contact.plausible(), "{contact:?}"),
                        _ => {}
                    }
                }
            }
        }
    }

    #[test]
    fn a_root_that_died_is_no_rival_until_it_says_so_itself() {
        let n = other(true);
        let mut stage = Stage::attached(4, &[n]);
        let me = stage.node.contact().unwrap();
        stage.parent_says(&[n], vec![me], Vec::new());
        stage.step(crate::Input::LinkDown(key(n)));
        let out = stage.step(crate::Input::TimerFired(Timer::Retry));
        stage.fail_all_dials(out);
        assert_eq!(stage.node.state(), State::Root);
        // An orphan elsewhere still names it.
        stage.link(77, true);
        stage.says(77, compare(n, true));
        assert_eq!(stage.node.state(), State::Root);
        stage.link(n, true);
        stage.says(n, compare(n, true));
        assert!(matches!(stage.node.state(), State::Seeking { .. }));
    }

    #[test]
    fn a_root_that_nobody_can_dial_yields() {
        let n = other(false);
        let mut root = Stage::undialable_root();
        root.link(n, true);
        root.says(n, compare(n, true));
        assert!(matches!(root.node.state(), State::Seeking { .. }));
        // And nobody yields to one.
        let mut root = Stage::root(4);
        let n = other(true);
        root.link(n, true);
        root.says(n, compare(n, false));
        assert_eq!(root.node.state(), State::Root);
    }

    #[test]
    fn news_of_a_rival_is_passed_up() {
        // The largest id as own root, so that any other comes before it.
        let last = (1..=40).max_by_key(|n| key(*n)).unwrap();
        let rival = if last == 1 { 2 } else { 1 };
        let mut node = Stage::attached(4, &[last]);
        node.link(rival, true);
        let out = node.says(rival, compare(rival, true));
        let news = Message::Rival { root: contact(rival), via: contact(rival) };
        assert!(out.contains(&Output::Send(key(last), news)), "{out:?}");
    }

    #[test]
    fn a_rival_that_cannot_be_reached_is_ignored_for_a_growing_while() {
        let n = other(true);
        let mut root = Stage::root(4);
        root.link(n, true);
        root.says(n, compare(n, true));
        root.step(crate::Input::LinkDown(key(n)));
        let out = root.step(crate::Input::TimerFired(Timer::Retry));
        assert_eq!(dialled(&out), [key(n)]);
        root.fail_all_dials(out);
        assert_eq!(root.node.state(), State::Root, "back to what it was");
        root.link(n, true);
        root.says(n, compare(n, true));
        assert_eq!(root.node.state(), State::Root);
    }

    /// A root with child 5.
    fn with_a_child() -> Stage {
        let mut root = Stage::root(4);
        root.joins(5, true);
        root
    }

    fn hearsay(root: u8, via: u8) -> Message {
        Message::Rival { root: contact(root), via: contact(via) }
    }

    fn all_before() -> Vec<u8> {
        (30..190).filter(|n| key(*n) < me()).collect()
    }

    #[test]
    fn hearsay_of_a_rival_moves_no_root_before_the_rival_itself_answered() {
        let rival = all_before()[0];
        let mut root = with_a_child();
        let out = root.says(5, hearsay(rival, 5));
        assert_eq!((dialled(&out), root.node.state()), (vec![key(rival)], State::Root));
        let out = root.link(rival, true);
        assert!(matches!(&out[..], [Output::Send(_, Message::Compare { asks: true, .. })]));
        assert_eq!(root.node.state(), State::Root);
        let answer = Message::Compare {
            root: key(rival),
            address: Some(contact(rival).address),
            asks: false,
        };
        root.says(rival, answer);
        assert!(matches!(root.node.state(), State::Seeking { .. }));
    }

    #[test]
    fn a_member_that_is_no_root_is_no_rival() {
        let mut root = with_a_child();
        let rival = all_before()[0];
        root.says(5, hearsay(rival, 5));
        root.link(rival, true);
        let (mine, address) = (me(), Some(contact(200).address));
        root.says(rival, Message::Compare { root: mine, address, asks: false });
        assert_eq!(root.node.state(), State::Root);
        // The same again is not even asked after.
        root.now = root.now + bounds::RIVAL_PACE * 2;
        assert_eq!(root.says(5, hearsay(rival, 5)), []);
    }

    #[test]
    fn invented_rivals_cost_fewer_and_fewer_dials_and_never_the_place() {
        let mut root = with_a_child();
        let mut dials = 0;
        for (turn, rival) in all_before().into_iter().cycle().take(300).enumerate() {
            root.now = root.now + bounds::RIVAL_PACE;
            let via = if turn % 2 == 0 { 5 } else { 33 };
            let mut out = root.says(5, hearsay(rival, via));
            while let Some(peer) = dialled(&out).first().copied() {
                dials += 1;
                out = root.step(crate::Input::DialFailed(peer));
            }
            assert_eq!(root.node.state(), State::Root, "turn {turn}");
        }
        assert!((2..30).contains(&dials), "{dials} dials for 300 rivals");
    }

    #[test]
    fn a_rival_that_cannot_be_dialled_is_vouched_for_by_whoever_met_it_but_not_twice_in_vain() {
        let rivals = all_before();
        let mut root = with_a_child();
        let via = 29;
        for (turn, rival) in rivals.iter().take(2).enumerate() {
            root.now = root.now + bounds::RIVAL_PACE * 2;
            root.says(5, hearsay(*rival, via));
            let out = root.step(crate::Input::DialFailed(key(*rival)));
            assert_eq!(dialled(&out).len(), 1 - turn, "whoever vouched in vain is not asked again");
            if turn > 0 {
                continue;
            }
            root.link(via, true);
            let address = Some(contact(*rival).address);
            root.says(via, Message::Compare { root: key(*rival), address, asks: false });
            assert!(matches!(root.node.state(), State::Seeking { .. }));
            let out = root.step(crate::Input::TimerFired(Timer::Retry));
            root.fail_all_dials(out);
            assert_eq!(root.node.state(), State::Root);
        }
    }
}
