//! Cross links: a second way to hear what the tree brings, along which no parent can stand.
//!
//! ```text
//!  candidates (from the shell, best first)
//!      │ not a neighbour, not tried in this interval
//!      ▼
//!   dialled ── link up ──▶ ours: `cross` said, compared every COMPARE ──┐
//!      │                     │ the other end has enough: `leave`        │ link down, or it became
//!      ▼                     ▼                                          ▼ parent or child
//!    failed ─────────────▶ the next candidate ◀─────────────────────────┘
//!
//!   `cross` from another ── room, or it comes before one that is here ──▶ theirs (that one: `leave`)
//!      └── no room ──▶ `leave`
//! ```
//!
//! The shell hands over members in the order of a hash over the join records, which no neighbour can
//! steer; this file keeps links to the first two that can be had, and takes a few from others who
//! chose this node. Anybody can say so; the same hash tells the shell whom it sends here, and these come
//! before all others, or sixteen liars that came first would take every place of the fleet.
//!
//! Both ends compare and fetch like tree neighbours ([`crate::catchup`]); what came
//! this way and should have come through the tree is a gap ([`crate::evidence`]). Nothing floods over
//! a cross link, and it gives nobody a place in the tree. Two that know different roots have found
//! two trees: they tell, and the trees merge ([`crate::merge`]).

use std::collections::{BTreeMap, BTreeSet};

use borgios_types::{NodeId, Time};

use crate::bounds;
use crate::contact::Contact;
use crate::io::Output;
use crate::message::Message;
use crate::node::{Node, Phase};

/// A node's cross links.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cross {
    /// Whom to choose, best first.
    pub(crate) candidates: Vec<Contact>,
    /// Whom the hash sends here, the likeliest first.
    choosers: Box<[NodeId]>,
    /// Those that failed or were taken in this interval.
    tried: BTreeSet<NodeId>,
    dialling: Option<NodeId>,
    /// Links this node chose, with the peer's path as it last said it.
    ours: BTreeMap<NodeId, Vec<NodeId>>,
    /// Links that chose this node.
    theirs: BTreeMap<NodeId, Vec<NodeId>>,
}

impl Cross {
    pub(crate) fn clear(&mut self) {
        let candidates = std::mem::take(&mut self.candidates);
        let choosers = std::mem::take(&mut self.choosers);
        *self = Self { candidates, choosers, ..Self::default() };
    }
}

impl Node {
    /// The shell computed the candidates anew.
    pub(crate) fn on_cross_candidates(&mut self, candidates: Vec<Contact>) {
        let me = self.me;
        let mut all: Vec<Contact> =
            candidates.into_iter().filter(|one| one.id != me && one.plausible()).collect();
        all.truncate(bounds::CROSS_CANDIDATES_MAX);
        let chosen = |id: &NodeId| all.iter().any(|one| one.id == *id);
        let gone: Vec<NodeId> = self.cross.ours.keys().copied().filter(|id| !chosen(id)).collect();
        self.cross.candidates = all;
        self.cross.tried.clear();
        for peer in gone {
            self.cross.ours.remove(&peer);
            if !self.is_cross(&peer) {
                self.out.push(Output::Send(peer, Message::Leave));
                self.release(peer);
            }
        }
        self.seek_cross();
    }

    /// The shell computed anew whom the hash sends here. Whoever is let in already stays until its place
    /// is needed.
    pub(crate) fn on_choosers(&mut self, mut choosers: Vec<NodeId>) {
        choosers.truncate(bounds::CROSS_CHOOSERS_MAX);
        self.cross.choosers = choosers.into_boxed_slice();
    }

    /// A new interval: whoever failed in the last one may be tried again.
    pub(crate) fn renew_cross(&mut self) {
        self.cross.tried.clear();
        if let Some(peer) = self.cross.dialling.take() {
            // It never answered.
            self.release(peer);
        }
        self.seek_cross();
        for peer in self.cross() {
            if self.comparison_due(&peer) {
                self.send_same(peer);
            }
        }
    }

    /// Whether there is anything to compare along a cross link. Whoever has what it did not have at
    /// the last comparison says so; where the two differed then, whoever chose the link does, until
    /// they are alike. Of two that hold the same the same one shows now and then that it lives.
    fn comparison_due(&self, peer: &NodeId) -> bool {
        let Some(link) = self.links.get(peer) else { return false };
        let quiet = self.now.since(link.said) >= bounds::CROSS_IDLE;
        let ours = self.cross.ours.contains_key(peer);
        link.compared != Some(self.digest(peer)) || (ours && (quiet || !link.alike))
    }

    /// Dials the next candidate, while links are missing and this node has a place.
    pub(crate) fn seek_cross(&mut self) {
        if !matches!(self.phase, Phase::Attached { .. } | Phase::Root) {
            return;
        }
        while self.cross.dialling.is_none() && self.cross.ours.len() < bounds::CROSS_LINKS {
            let next = self.cross.candidates.iter().find(|one| {
                !self.cross.tried.contains(&one.id)
                    && !self.cross.ours.contains_key(&one.id)
                    && !self.is_neighbour(one.id)
                    && !self.shunned.contains_key(&one.id)
            });
            let Some(contact) = next.cloned() else { return };
            self.cross.tried.insert(contact.id);
            if self.links.contains_key(&contact.id) {
                self.open_cross(contact.id);
            } else {
                self.cross.dialling = Some(contact.id);
                self.out.push(Output::Dial(contact));
            }
        }
    }

    pub(crate) fn dials_cross(&self, peer: NodeId) -> bool {
        self.cross.dialling == Some(peer)
    }

    /// The link to a candidate is up.
    pub(crate) fn open_cross(&mut self, peer: NodeId) {
        self.cross.dialling = self.cross.dialling.filter(|dialled| *dialled != peer);
        self.cross.ours.insert(peer, Vec::new());
        self.beat.stale = true;
        self.send_cross(peer);
        self.send_same(peer);
        self.seek_cross();
    }

    /// A candidate cannot be had: the next one.
    pub(crate) fn on_cross_failed(&mut self) {
        self.cross.dialling = None;
        self.seek_cross();
    }

    /// "Compare with me; this is where I stand."
    pub(crate) fn on_cross(&mut self, now: Time, from: NodeId, path: Vec<NodeId>) {
        if path.last() != Some(&from) {
            return self.penalise(now, from, 1);
        }
        if self.is_neighbour(from) {
            return;
        }
        if let Some(known) = self.cross.ours.get_mut(&from) {
            *known = path;
        } else if self.cross.theirs.contains_key(&from) || self.make_room_for(&from) {
            self.cross.theirs.insert(from, path);
            self.beat.stale = true;
        } else {
            self.out.push(Output::Send(from, Message::Leave));
            return;
        }
        let settled = matches!(self.phase, Phase::Attached { .. } | Phase::Root);
        if settled && self.cross_path(&from).first() != self.path().first() {
            self.compare_roots(from);
        }
    }

    /// Makes room for one more that says it chose this node; false if there is none. Where all places are
    /// taken, the one goes that the hash is least likely to have sent, unless that is the new one.
    fn make_room_for(&mut self, from: &NodeId) -> bool {
        if self.cross.theirs.len() < bounds::CROSS_ACCEPTED_MAX {
            return true;
        }
        let rank = |peer: &NodeId| {
            let at = self.cross.choosers.iter().position(|one| one == peer);
            at.unwrap_or(bounds::CROSS_CHOOSERS_MAX)
        };
        let last = self.cross.theirs.keys().copied().max_by_key(rank);
        let Some(last) = last.filter(|last| rank(from) < rank(last)) else { return false };
        self.cross.theirs.remove(&last);
        if !self.is_cross(&last) {
            self.out.push(Output::Send(last, Message::Leave));
            self.out.push(Output::Close(last));
            self.on_link_down(last);
        }
        true
    }

    /// Tells where this node stands.
    pub(crate) fn send_cross(&mut self, to: NodeId) {
        let path = self.path();
        self.out.push(Output::Send(to, Message::Cross { path }));
    }

    /// Where the other end of a cross link stands, as it said.
    pub(crate) fn cross_path(&self, peer: &NodeId) -> &[NodeId] {
        let Cross { ours, theirs, .. } = &self.cross;
        ours.get(peer).or_else(|| theirs.get(peer)).map_or(&[], Vec::as_slice)
    }

    /// The link is none of these any more, or means something else now.
    pub(crate) fn end_cross(&mut self, peer: NodeId) {
        let ours = self.cross.ours.remove(&peer).is_some();
        let dialled = self.cross.dialling == Some(peer);
        self.cross.theirs.remove(&peer);
        if dialled {
            self.cross.dialling = None;
        }
        if ours || dialled {
            self.seek_cross();
        }
    }

    /// Whether this link is a cross link, whoever chose it.
    pub(crate) fn is_cross(&self, peer: &NodeId) -> bool {
        self.cross.ours.contains_key(peer) || self.cross.theirs.contains_key(peer)
    }

    /// The other ends of the cross links, whoever chose them.
    #[must_use]
    pub fn cross(&self) -> Vec<NodeId> {
        let all: BTreeSet<NodeId> =
            self.cross.ours.keys().chain(self.cross.theirs.keys()).copied().collect();
        all.into_iter().collect()
    }

    pub(crate) fn check_cross(&self) -> Result<(), String> {
        let Cross { candidates, choosers, ours, theirs, .. } = &self.cross;
        let bounded = candidates.len() <= bounds::CROSS_CANDIDATES_MAX
            && ours.len() <= bounds::CROSS_LINKS
            && theirs.len() <= bounds::CROSS_ACCEPTED_MAX
            && choosers.len() <= bounds::CROSS_CHOOSERS_MAX;
        let linked = |id: &NodeId| self.links.contains_key(id) && !self.is_neighbour(*id);
        if !bounded {
            return Err("more cross links than their bound".to_owned());
        }
        if !ours.keys().chain(theirs.keys()).all(linked) {
            return Err("a cross link that is none".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Input, Timer};
    use crate::stage::{Stage, contact, dialled, key};

    fn says_cross(n: u8) -> Message {
        Message::Cross { path: vec![key(1), key(n)] }
    }

    fn with_two() -> Stage {
        let mut stage = Stage::attached(4, &[1, 2]);
        let out = stage.step(Input::Cross((30..38).map(contact).collect()));
        assert_eq!(dialled(&out), [key(30)]);
        let out = stage.step(Input::DialFailed(key(30)));
        assert_eq!(dialled(&out), [key(31)]);
        assert_eq!(dialled(&stage.link(31, true)), [key(32)]);
        assert_eq!(dialled(&stage.link(32, true)), []);
        assert_eq!(stage.node.cross(), sorted([31, 32]));
        stage
    }

    fn sorted(keys: impl IntoIterator<Item = u8>) -> Vec<NodeId> {
        let all: BTreeSet<NodeId> = keys.into_iter().map(key).collect();
        all.into_iter().collect()
    }

    #[test]
    fn two_links_are_kept_to_the_first_that_can_be_had() {
        let mut stage = with_two();
        assert_eq!(dialled(&stage.step(Input::LinkDown(key(31)))), [key(33)]);
        stage.step(Input::DialFailed(key(33)));
        // The others were asked for nothing yet; the first may live again in the next interval.
        (34..38).for_each(|n| drop(stage.step(Input::DialFailed(key(n)))));
        assert_eq!(dialled(&stage.step(Input::TimerFired(Timer::AntiEntropy))), [key(30)]);
    }

    #[test]
    fn a_link_that_is_no_longer_chosen_is_left() {
        let mut stage = with_two();
        let out = stage.step(Input::Cross([32, 40].map(contact).to_vec()));
        assert!(out.contains(&Output::Send(key(31), Message::Leave)), "{out:?}");
        assert!(out.contains(&Output::Close(key(31))));
        assert_eq!(dialled(&out), [key(40)]);
    }

    /// It has no address, so nobody comes to it, and it never makes itself a root.
    #[test]
    fn a_leaf_whose_parent_invents_all_it_remembers_finds_others_by_their_records() {
        let mut stage = Stage::new(4, false);
        stage.start(vec![], vec![contact(2)]);
        stage.step(Input::TimerFired(Timer::Retry));
        stage.link(2, true);
        let down = stage.parent_down(&[1, 2], Vec::new(), Vec::new());
        stage.says(2, Message::Accept(down));
        let out = stage.step(Input::Cross((30..38).map(contact).collect()));
        stage.fail_all_dials(out);
        let invented = |n: u32| {
            let mut seed = [7; 32];
            seed[..4].copy_from_slice(&n.to_le_bytes());
            let key = borgios_types::SecretKey::from_seed(seed).public();
            crate::Contact::new(key, format!("n{n}:1"))
        };
        for turn in 0..40 {
            let mut path: Vec<_> = (0..30).map(|n| invented(turn * 30 + n)).collect();
            path.push(contact(2));
            let mut down = stage.parent_down(&[2], Vec::new(), Vec::new());
            down.path = path.into();
            stage.says(2, Message::Heartbeat(down));
        }
        assert_eq!(stage.node.parent(), Some(key(2)));
        stage.step(Input::LinkDown(key(2)));
        let mut asked = Vec::new();
        for _ in 0..3 {
            let out = stage.step(Input::TimerFired(Timer::Retry));
            asked.extend(stage.fail_all_dials(out));
        }
        for n in 30..38 {
            assert!(asked.contains(&key(n)), "{n}");
        }
    }

    #[test]
    fn a_neighbour_is_no_cross_link() {
        let mut stage = Stage::attached(4, &[1, 2]);
        stage.joins(5, true);
        assert_eq!(dialled(&stage.step(Input::Cross([2, 5, 6].map(contact).to_vec()))), [key(6)]);
        stage.link(6, true);
        assert_eq!(stage.node.cross(), [key(6)]);
        let out = stage.says(6, crate::stage::join(1));
        assert!(crate::stage::accepted(&out));
        assert_eq!(stage.node.cross(), [], "it is a child now");
    }

    #[test]
    fn no_more_than_so_many_are_let_in() {
        let mut stage = Stage::attached(4, &[1, 2]);
        for n in 0..bounds::CROSS_ACCEPTED_MAX as u8 {
            stage.link(20 + n, true);
            assert_eq!(stage.says(20 + n, says_cross(20 + n)), []);
        }
        stage.link(60, true);
        assert_eq!(stage.says(60, says_cross(60)), [Output::Send(key(60), Message::Leave)]);
        assert_eq!(stage.node.cross().len(), bounds::CROSS_ACCEPTED_MAX);
    }

    /// Who says `cross`, and who is told to leave for it.
    fn asks_in(stage: &mut Stage, n: u8) -> Vec<NodeId> {
        stage.link(n, true);
        let out = stage.says(n, says_cross(n));
        let left = out.iter().filter_map(|output| match output {
            Output::Send(to, Message::Leave) => Some(*to),
            _ => None,
        });
        let left: Vec<NodeId> = left.collect();
        for peer in left.iter().filter(|peer| **peer != key(n)) {
            assert!(out.contains(&Output::Close(*peer)), "{out:?}");
            assert!(!stage.node.links.contains_key(peer));
        }
        left
    }

    /// Sixteen identities that came first, whatever the hash says of them, must not take every place.
    #[test]
    fn whom_the_hash_sends_here_is_let_in_though_liars_hold_every_place() {
        let mut stage = Stage::attached(4, &[1, 2]);
        stage.step(Input::Choosers([70, 71, 20].map(key).to_vec()));
        for n in 0..bounds::CROSS_ACCEPTED_MAX as u8 {
            assert_eq!(asks_in(&mut stage, 20 + n), []);
        }
        for n in [71, 70] {
            let left = asks_in(&mut stage, n);
            assert_eq!(left.len(), 1);
            assert!(![70, 71, 20].map(key).contains(&left[0]), "it comes before the others");
            assert!(stage.node.cross().contains(&key(n)));
        }
        assert_eq!(asks_in(&mut stage, 60), [key(60)], "no hash sends it, and it came last");
        assert_eq!(stage.node.cross().len(), bounds::CROSS_ACCEPTED_MAX);
        assert!(stage.node.cross().contains(&key(20)));
        // A link that is up says where it stands now as before.
        assert_eq!(stage.says(70, says_cross(70)), []);
    }

    #[test]
    fn of_many_that_the_hash_sends_the_first_are_let_in() {
        let mut stage = Stage::attached(4, &[1, 2]);
        stage.step(Input::Choosers((40..60).map(key).collect()));
        for n in 41..41 + bounds::CROSS_ACCEPTED_MAX as u8 {
            assert_eq!(asks_in(&mut stage, n), []);
        }
        assert_eq!(asks_in(&mut stage, 59), [key(59)]);
        assert_eq!(asks_in(&mut stage, 40), [key(56)]);
        assert_eq!(stage.node.cross(), sorted(40..56));
        // Another week: who is here stays while nobody else comes.
        stage.step(Input::Choosers((80..82).map(key).collect()));
        assert_eq!(stage.node.cross(), sorted(40..56));
        assert_eq!(asks_in(&mut stage, 80).len(), 1);
    }

    #[test]
    fn cross_links_outlive_loose_ones_and_die_of_silence() {
        let mut stage = with_two();
        let begun = stage.now;
        stage.link(50, true);
        while stage.node.cross().len() == 2 {
            stage.now = stage.now + std::time::Duration::from_secs(1);
            stage.step(Input::Heard(key(2)));
            stage.step(Input::Heard(key(32)));
            stage.step(Input::TimerFired(Timer::Heartbeat));
        }
        assert_eq!(stage.node.cross(), [key(32)]);
        assert!(!stage.node.links.contains_key(&key(50)));
        assert!(stage.now.since(begun) >= bounds::CROSS_SILENCE);
    }

    #[test]
    fn two_that_know_different_roots_compare_them() {
        let mut stage = with_two();
        let out = stage.says(31, Message::Cross { path: vec![key(9), key(31)] });
        assert!(
            matches!(&out[..], [Output::Send(to, Message::Compare { asks: true, .. })] if *to == key(31)),
            "{out:?}"
        );
        assert_eq!(stage.says(31, says_cross(31)), []);
    }

    /// Who is told a digest when the next comparison is due, ten seconds later.
    fn compared(stage: &mut Stage) -> Vec<NodeId> {
        stage.now = stage.now + bounds::COMPARE;
        let out = stage.step(Input::TimerFired(Timer::AntiEntropy));
        let told = out.iter().filter_map(|output| match output {
            Output::Send(to, Message::Same(_)) => Some(*to),
            _ => None,
        });
        told.collect()
    }

    fn publish(stage: &mut Stage, n: u8) {
        let id = borgios_types::Digest::of(&[n]);
        let body = crate::Body::from_text("{}").unwrap();
        stage.step(Input::Publish { id, kind: "note".into(), body });
    }

    /// The same with a link that 33 chose, which said where it stands and what it has.
    fn with_three() -> Stage {
        let mut stage = with_two();
        stage.link(33, true);
        stage.says(33, says_cross(33));
        let same = Message::Same(stage.node.digest(&key(33)));
        stage.says(33, same);
        stage
    }

    #[test]
    fn along_a_cross_link_nothing_is_said_while_nothing_changes_but_a_sign_of_life() {
        let mut stage = with_three();
        assert_eq!(compared(&mut stage), []);
        assert_eq!(compared(&mut stage), []);
        assert_eq!(
            compared(&mut stage),
            sorted([31, 32]),
            "CROSS_IDLE is over for whoever chose it"
        );
        // Whoever did not choose the link answers then.
        let same = Message::Same(stage.node.digest(&key(33)));
        let answer = Output::Send(key(33), Message::Alive);
        assert_eq!(stage.says(33, same.clone()), [answer]);
        assert_eq!(stage.says(33, same), [], "it was answered a moment ago");
    }

    #[test]
    fn whoever_has_something_new_says_so_whoever_chose_the_link() {
        let mut stage = with_three();
        publish(&mut stage, 1);
        assert_eq!(compared(&mut stage), sorted([31, 32, 33]));
        assert_eq!(compared(&mut stage), []);
        // The other end says first what both have.
        publish(&mut stage, 2);
        let same = Message::Same(stage.node.digest(&key(31)));
        stage.says(31, same);
        assert_eq!(compared(&mut stage), sorted([32, 33]));
    }

    #[test]
    fn two_that_differ_compare_again_until_they_do_not() {
        let mut stage = with_three();
        for turn in 0..5 {
            for n in [31, 33] {
                let other = Message::Same(7 + turn);
                let out = stage.says(n, other);
                let summary = |o: &Output| matches!(o, Output::Send(_, Message::Summary(_)));
                assert!(out.iter().any(summary), "{out:?}");
            }
            let again = compared(&mut stage);
            assert!(again.contains(&key(31)), "{turn}: this end chose the link");
            assert!(!again.contains(&key(33)), "{turn}: that is the other end's");
        }
        // A digest of this end's that the other one answered with a summary is no better.
        let mut stage = with_three();
        let mut summary = stage.node.store.summary();
        summary.count += 1;
        stage.says(32, Message::Summary(summary));
        assert_eq!(compared(&mut stage), [key(32)]);
        assert_eq!(compared(&mut stage), [], "no summary came: they are alike");
    }

    #[test]
    fn another_root_is_something_new() {
        let mut stage = with_three();
        stage.parent_says(&[3, 2], Vec::new(), Vec::new());
        assert_eq!(compared(&mut stage), sorted([31, 32, 33]));
    }
}
