//! Broadcast: every object goes to every tree link but the one it came from, once.
//!
//! ```text
//!  a link ─▶ known? no more ─▶ being judged? noted who else has it ─▶ offered to the shell
//!                                                                        │
//!     admitted: stored, relayed to all tree links but its own ◀──────────┤
//!     known, deferred: nobody is to blame, within a bound    ◀───────────┤
//!     later: it comes again when the two compare             ◀───────────┤
//!     refused: the link pays, whoever else has it is asked   ◀───────────┘
//! ```
//!
//! An object is offered to the shell once; only what the shell has verified and stored is relayed,
//! so a forgery ends at the first hop and its sender pays.

use std::collections::BTreeSet;

use borgios_types::{Digest, NodeId, Time};

use crate::bounds;
use crate::io::{Output, Verdict};
use crate::link::Echoed;
use crate::message::{Body, Message};
use crate::node::Node;
use crate::store::Pending;

/// Copies that crossed between two looks at which of those before are fresh no more: a look costs as much
/// as [`bounds::FRESH_MAX`] copies.
const ECHOED_PAUSE: usize = 1_024;

impl Node {
    /// An object handed in here.
    pub(crate) fn on_publish(&mut self, now: Time, id: Digest, kind: &str, body: Body) {
        let live = !self.config.lanes.contains(kind);
        if self.store.publish(id, live) {
            self.store.entered(now, id);
            self.relay(id, kind, &body, None);
        }
    }

    /// An object from a neighbour.
    pub(crate) fn on_object(
        &mut self,
        now: Time,
        from: NodeId,
        id: Digest,
        kind: String,
        body: Body,
    ) {
        if !self.is_neighbour(from) && !self.is_cross(&from) {
            return;
        }
        // Whoever answers what this node asks after others' word is not to blame for it.
        let asked_after = self.on_brought(from, &id);
        let asked = self.on_fetched(from, &id) || asked_after;
        if self.links.get(&from).is_some_and(|link| link.refused.contains(&id)) {
            return self.penalise(now, from, 1);
        }
        if self.store.knows(&id) {
            if !asked && !self.crossed(now, from, id) {
                self.count_useless(now, from, &kind);
            }
            return;
        }
        let (kept, others) = (body.clone(), BTreeSet::new());
        let pending = Pending { from, kind: kind.clone(), body: kept, others, asked };
        if self.store.begin(id, pending) {
            self.out.push(Output::Offer { from, id, kind, body });
        }
    }

    /// The shell's verdict on an object.
    pub(crate) fn on_judged(&mut self, now: Time, id: Digest, from: NodeId, verdict: Verdict) {
        let Some(pending) = self.store.end(&id, from) else { return };
        let live = !self.config.lanes.contains(&pending.kind);
        match verdict {
            Verdict::Admitted => {
                self.on_arrived(from, &id, &pending.kind);
                if self.store.insert(id, live) {
                    self.store.entered(now, id);
                    self.relay(id, &pending.kind, &pending.body, Some(from));
                }
            }
            Verdict::Known => {
                self.store.hold(id);
                if !pending.asked {
                    self.count_useless(now, from, &pending.kind);
                }
            }
            Verdict::Deferred => {
                self.store.wanted.remove(&id);
                // A newcomer that catches up gets many before what they build on, and has asked for each.
                if !pending.asked {
                    self.count_useless(now, from, &pending.kind);
                }
                if !live {
                    // It is ahead, whatever its last summary said.
                    if let Some(link) = self.links.get_mut(&from) {
                        link.heads.remove(&pending.kind);
                    }
                    self.follow(now, from, &pending.kind);
                }
            }
            // Whoever relays what this node is too slow for is the same as whoever relays what it is not.
            Verdict::Later => {
                self.store.wanted.remove(&id);
            }
            Verdict::Refused => {
                if let Some(link) = self.links.get_mut(&from) {
                    if link.refused.len() >= bounds::REFUSED_MAX {
                        link.refused.pop_first();
                    }
                    link.refused.insert(id);
                }
                self.penalise(now, from, 1);
                let others: Vec<NodeId> = pending.others.into_iter().collect();
                self.fetch_elsewhere(&[id], &others);
            }
        }
    }

    /// Whether this copy was on its way when the object entered here, for all this node can tell: honest
    /// neighbours relay to each other what a third one sends to both. Each may do so once.
    fn crossed(&mut self, now: Time, from: NodeId, id: Digest) -> bool {
        if !self.store.is_fresh(now, &id) {
            return false;
        }
        let Some(link) = self.links.get_mut(&from) else { return false };
        let Echoed { ids, pause } = &mut **link.echoed.get_or_insert_default();
        if ids.len() >= bounds::FRESH_MAX && *pause == 0 {
            // Only what is fresh is asked about.
            ids.retain(|id| self.store.is_fresh(now, id));
            *pause = ECHOED_PAUSE;
        }
        *pause = pause.saturating_sub(1);
        ids.len() < bounds::FRESH_MAX && ids.insert(id)
    }

    /// Whether this may be part of the answer to a `follow`, which brings what it has to, known or not.
    fn followed(&mut self, now: Time, from: NodeId, kind: &str) -> bool {
        if !self.config.lanes.contains(kind) {
            return false;
        }
        let Some(link) = self.links.get_mut(&from) else { return false };
        let open = link
            .following
            .values_mut()
            .find(|asked| asked.useless > 0 && now.since(asked.at) < bounds::FETCH_MAX);
        open.map(|asked| asked.useless -= 1).is_some()
    }

    /// Nobody is to blame for one; a flood of them costs as much as one of forgeries.
    fn count_useless(&mut self, now: Time, from: NodeId, kind: &str) {
        if self.followed(now, from, kind) {
            return;
        }
        let Some(link) = self.links.get_mut(&from) else { return };
        link.useless += 1;
        if link.useless > bounds::USELESS_MAX {
            self.penalise(now, from, 1);
        }
    }

    fn relay(&mut self, id: Digest, kind: &str, body: &Body, except: Option<NodeId>) {
        let parent = self.parent();
        for to in parent.iter().chain(self.children.keys()).filter(|to| Some(**to) != except) {
            let (kind, body) = (kind.to_owned(), body.clone());
            self.out.push(Output::Send(*to, Message::Object { id, kind, body }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Input;
    use crate::stage::{Stage, contact, key};

    const BODY: &str = r#"{"type":"note"}"#;

    fn id() -> Digest {
        Digest::of(b"an object")
    }

    fn object(id: Digest) -> Message {
        Message::Object { id, kind: "note".into(), body: Body::from_text(BODY).unwrap() }
    }

    fn offers(out: &[Output]) -> usize {
        out.iter().filter(|output| matches!(output, Output::Offer { .. })).count()
    }

    fn sent_objects(out: &[Output]) -> Vec<NodeId> {
        out.iter()
            .filter_map(|output| match output {
                Output::Send(to, Message::Object { .. }) => Some(*to),
                _ => None,
            })
            .collect()
    }

    fn family() -> Stage {
        let mut stage = Stage::attached(4, &[1, 2]);
        (5..8).for_each(|n| drop(stage.joins(n, true)));
        stage
    }

    #[test]
    fn an_admitted_object_goes_to_every_neighbour_but_its_source_and_once() {
        let mut stage = family();
        assert_eq!(offers(&stage.says(5, object(id()))), 1);
        assert_eq!(offers(&stage.says(2, object(id()))), 0, "while it is judged");
        let out = stage.judged(5, id(), Verdict::Admitted);
        let mut expected = vec![key(2), key(6), key(7)];
        expected.sort();
        let mut sent = sent_objects(&out);
        sent.sort();
        assert_eq!(sent, expected);
        assert_eq!(offers(&stage.says(6, object(id()))), 0, "known");
    }

    #[test]
    fn a_refused_copy_is_not_relayed_and_another_link_is_asked() {
        let mut stage = family();
        stage.says(5, object(id()));
        stage.says(6, object(id()));
        let out = stage.judged(5, id(), Verdict::Refused);
        assert_eq!(out, [Output::Send(key(6), Message::Want { ids: vec![id()] })]);
        assert_eq!(offers(&stage.says(5, object(id()))), 0, "refused from that link");
        assert_eq!(offers(&stage.says(6, object(id()))), 1);
        assert_eq!(sent_objects(&stage.judged(6, id(), Verdict::Admitted)).len(), 3);
    }

    #[test]
    fn a_link_that_keeps_forging_is_closed_and_refused_for_a_while() {
        let mut stage = family();
        for n in 0..bounds::PENALTY_MAX {
            assert!(stage.node.is_neighbour(key(5)), "after {n}");
            let forged = Digest::of(&n.to_le_bytes());
            stage.says(5, object(forged));
            stage.judged(5, forged, Verdict::Refused);
        }
        assert!(!stage.node.is_neighbour(key(5)));
        assert_eq!(stage.link(5, false), [Output::Close(key(5))]);
    }

    #[test]
    fn a_flood_of_what_cannot_be_decided_ends_as_one_of_forgeries() {
        let mut stage = family();
        let mut sent = 0;
        while stage.node.is_neighbour(key(5)) {
            let id = Digest::of(&u32::to_le_bytes(sent));
            stage.says(5, object(id));
            stage.judged(5, id, Verdict::Deferred);
            sent += 1;
        }
        assert_eq!(sent, bounds::USELESS_MAX + bounds::PENALTY_MAX);
    }

    fn numbered(n: u32) -> Digest {
        Digest::of(&n.to_le_bytes())
    }

    /// With a cross link to 31, which hangs elsewhere below the root.
    fn family_with_a_cross_peer() -> Stage {
        let mut stage = family();
        stage.step(Input::Cross(vec![contact(31)]));
        stage.link(31, true);
        stage.says(31, Message::Cross { path: vec![key(1), key(3), key(31)] });
        stage
    }

    fn asks_the_parent(output: &Output) -> bool {
        matches!(output, Output::Send(to, Message::Missing { .. }) if *to == key(2))
    }

    /// A liar names as heads what the parent has, again and again: it brings what it is asked after, which
    /// is known here, or cannot be decided on.
    #[test]
    fn whoever_brings_what_it_is_asked_after_is_not_held_useless_for_it() {
        for held in [true, false] {
            let mut stage = family_with_a_cross_peer();
            let one = numbered(7);
            if held {
                stage.says(2, object(one));
                stage.judged(2, one, Verdict::Admitted);
            }
            let mut missing = 0;
            for n in 0..2 * bounds::USELESS_MAX {
                let head = crate::Head { seq: u64::from(n) + 1_000, id: one };
                let heads = [("release".to_owned(), head)].into();
                let summary = crate::Summary { heads, count: 0, xor: Digest([0; 32]) };
                let out = stage.says(31, Message::Summary(summary));
                if out.iter().any(asks_the_parent) {
                    missing += 1;
                    stage.says(2, object(one));
                    stage.judged(2, one, Verdict::Deferred);
                }
                assert_eq!(stage.node.parent(), Some(key(2)), "after {n}");
            }
            // Nothing that is here is asked after, and nothing else again and again: whoever is asked too
            // often leaves.
            assert_eq!(missing, u32::from(!held));
        }
    }

    /// A third one gives each object to this node and to its parent at the same time.
    #[test]
    fn copies_that_cross_cost_no_honest_neighbour_its_link() {
        let mut stage = family_with_a_cross_peer();
        for n in 0..2 * bounds::USELESS_MAX {
            stage.now = stage.now + std::time::Duration::from_millis(1);
            stage.says(31, object(numbered(n)));
            stage.judged(31, numbered(n), Verdict::Admitted);
            stage.says(2, object(numbered(n)));
            assert_eq!(stage.node.parent(), Some(key(2)), "after {n}");
        }
        // The same again is none that crossed.
        for n in 0..bounds::USELESS_MAX + bounds::PENALTY_MAX {
            assert_eq!(stage.node.parent(), Some(key(2)), "after {n} more");
            stage.says(2, object(numbered(n)));
        }
        assert_ne!(stage.node.parent(), Some(key(2)));
    }

    /// More of them in a minute than there is room for, and no more in 20 s.
    #[test]
    fn copies_that_crossed_long_ago_take_no_room_from_those_that_cross_now() {
        let mut stage = family();
        let all = bounds::FRESH_MAX + 2 * bounds::USELESS_MAX as usize;
        for n in 0..u32::try_from(all).unwrap() {
            stage.now = stage.now + std::time::Duration::from_millis(5);
            stage.says(5, object(numbered(n)));
            stage.judged(5, numbered(n), Verdict::Admitted);
            stage.says(2, object(numbered(n)));
            assert_eq!(stage.node.parent(), Some(key(2)), "after {n}");
        }
        assert_eq!(stage.node.links.get(&key(2)).unwrap().useless, 0);
    }

    #[test]
    fn a_copy_that_comes_much_later_is_none_that_crossed() {
        let mut stage = family();
        for n in 0..100 {
            stage.says(5, object(numbered(n)));
            stage.judged(5, numbered(n), Verdict::Admitted);
        }
        let useless = |stage: &Stage| stage.node.links.get(&key(6)).unwrap().useless;
        stage.says(6, object(numbered(1)));
        assert_eq!(useless(&stage), 0);
        stage.now = stage.now + bounds::WANT_TIMEOUT;
        stage.says(6, object(numbered(2)));
        assert_eq!(useless(&stage), 1);
    }

    /// Whoever answers a `follow` of one lane sends along what lies between, again and again if the lane
    /// does not go on here. More than that, and what nobody asked for, counts as before.
    #[test]
    fn what_answers_a_follow_costs_no_honest_neighbour_its_link() {
        let mut stage = Stage::attached(4, &[1, 2]);
        let brings = |stage: &mut Stage, n| {
            let body = Body::from_text("1").unwrap();
            stage.says(2, Message::Object { id: numbered(n), kind: "access".into(), body });
            stage.judged(2, numbered(n), Verdict::Known);
        };
        for _ in 0..2 {
            let head = crate::Head { seq: 1, id: numbered(1_000_000) };
            let heads = [("member".to_owned(), head)].into();
            let summary = crate::Summary { heads, count: 0, xor: Digest([0; 32]) };
            let out = stage.says(2, Message::Summary(summary));
            let follow = Message::Follow { lane: "member".into(), after: 0 };
            assert!(out.contains(&Output::Send(key(2), follow)), "{out:?}");
            for n in 0..bounds::FOLLOW_BRINGS + 76 {
                brings(&mut stage, n);
                assert_eq!(stage.node.parent(), Some(key(2)), "after {n}");
            }
            stage.now = stage.now + bounds::FETCH_MAX;
        }
        for n in 0..bounds::USELESS_MAX + bounds::PENALTY_MAX - 2 * 76 {
            assert_eq!(stage.node.parent(), Some(key(2)), "after {n} more");
            brings(&mut stage, n);
        }
        assert_ne!(stage.node.parent(), Some(key(2)));
    }

    #[test]
    fn nobody_pays_for_what_this_node_is_too_slow_for() {
        let mut stage = family();
        for n in 0..3 * bounds::USELESS_MAX {
            assert_eq!(offers(&stage.says(2, object(numbered(n)))), 1);
            assert_eq!(stage.judged(2, numbered(n), Verdict::Later), []);
            assert_eq!(stage.node.parent(), Some(key(2)), "after {n}");
        }
        assert_eq!(offers(&stage.says(2, object(numbered(0)))), 1, "it may come again");
        assert_eq!(sent_objects(&stage.judged(2, numbered(0), Verdict::Admitted)).len(), 3);
    }

    #[test]
    fn a_verdict_nobody_waits_for_changes_nothing() {
        let mut stage = family();
        assert_eq!(stage.judged(5, id(), Verdict::Admitted), []);
        stage.says(5, object(id()));
        assert_eq!(stage.judged(6, id(), Verdict::Admitted), []);
        assert!(!stage.node.store.knows(&id()));
    }

    #[test]
    fn a_stranger_brings_no_objects() {
        let mut stage = family();
        stage.link(9, false);
        assert_eq!(stage.says(9, object(id())), []);
    }

    #[test]
    fn a_statement_that_came_too_early_makes_the_node_follow_the_lane() {
        let mut stage = family();
        let body = Body::from_text("5").unwrap();
        stage.says(2, Message::Object { id: id(), kind: "release".into(), body });
        let out = stage.judged(2, id(), Verdict::Deferred);
        let follow = Message::Follow { lane: "release".into(), after: 0 };
        assert_eq!(out, [Output::Send(key(2), follow)]);
    }

    /// A tool gives one object to two nodes at once: this node's shell has it from the tool, the
    /// neighbour's copy is judged `Known`, and only then the shell's own word arrives here.
    #[test]
    fn what_is_published_behind_a_neighbours_copy_is_relayed_all_the_same() {
        let mut stage = family();
        assert_eq!(offers(&stage.says(5, object(id()))), 1);
        assert_eq!(stage.judged(5, id(), Verdict::Known), []);
        let before = stage.node.store.summary();
        let publish = || Input::Publish {
            id: id(),
            kind: "note".into(),
            body: Body::from_text(BODY).unwrap(),
        };
        assert_eq!(sent_objects(&stage.step(publish())).len(), 4);
        assert_ne!(stage.node.store.summary(), before, "it is listed for who catches up");
        assert_eq!(stage.step(publish()), [], "once");
        assert_eq!(offers(&stage.says(6, object(id()))), 0, "known");
    }

    #[test]
    fn a_published_object_goes_everywhere_once() {
        let mut stage = family();
        let publish = || Input::Publish {
            id: id(),
            kind: "note".into(),
            body: Body::from_text(BODY).unwrap(),
        };
        assert_eq!(sent_objects(&stage.step(publish())).len(), 4);
        assert_eq!(stage.step(publish()), []);
    }
}
