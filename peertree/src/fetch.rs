//! Fetching: what neighbours list and this node lacks, asked of one of them after the other.
//!
//! ```text
//!  A lists it ─▶ asked of A, while A owes less than FETCH_SHARE ── brought ─▶ offered to the shell
//!  B lists it ─▶ noted, or asked too if A is known for not bringing    │
//!                                                                      │ refused: the next one
//!        A silent for FETCH_PATIENCE, or FETCH_MAX over ─▶ late: B is asked
//!                                          └ nothing at all brought: a strike; four in a row cost points
//! ```
//!
//! Each neighbour has a share of its own, so one that lists what it never sends delays by
//! [`bounds::FETCH_PATIENCE`] what others list as well, and nothing else. What it owes stays on its
//! account until it comes or [`bounds::WANT_TIMEOUT`] is over: whoever is slow has done nothing wrong
//! when it comes in the end, and whoever owes its whole share is asked for no more.

use std::collections::BTreeMap;

use borgios_types::{Digest, NodeId, Time};

use crate::bounds;
use crate::io::Output;
use crate::message::Message;
use crate::node::Node;

/// An object that was asked for and is not here yet.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Who was asked last. It owes the object, or its copy is being judged.
    of: NodeId,
    /// Who else lists it, at most [`bounds::OTHERS_MAX`].
    others: Vec<NodeId>,
}

/// What a neighbour was asked for and has not brought.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owes {
    /// When it was asked for each, and whether somebody else was asked since.
    ids: BTreeMap<Digest, (Time, bool)>,
    /// When it last brought any of them.
    brought: Time,
}

impl Owes {
    /// When something is to be done about this one.
    fn due(&self, (asked, late): (Time, bool)) -> Time {
        if late {
            return asked + bounds::WANT_TIMEOUT;
        }
        (asked.max(self.brought) + bounds::FETCH_PATIENCE).min(asked + bounds::FETCH_MAX)
    }
}

impl Node {
    /// Asks a neighbour for those of `ids`, which it lists, that are lacking here and that nobody
    /// better was asked for. Returns how many of `ids` are dealt with; the others find no room in its
    /// share.
    pub(crate) fn fetch(&mut self, from: NodeId, ids: &[Digest]) -> usize {
        if !self.is_neighbour(from) && !self.is_cross(&from) {
            return ids.len();
        }
        let strikes = self.strikes(&from);
        let mut ask = Vec::new();
        let mut done = 0;
        for id in ids {
            let wanted = self.store.wanted.get(id);
            let trusted = wanted.is_some_and(|wanted| self.strikes(&wanted.of) <= strikes);
            if self.store.knows(id) || !self.may_bring(&from, id) {
                // Nothing to ask of this one.
            } else if trusted || self.store.judges(id) {
                self.note_other(from, id);
            } else if self.owed(&from) + ask.len() < bounds::FETCH_SHARE {
                ask.push(*id);
            } else {
                break;
            }
            done += 1;
        }
        self.ask_for(from, ask);
        done
    }

    /// Notes that this one lists what somebody else was asked for.
    fn note_other(&mut self, from: NodeId, id: &Digest) {
        if let Some(wanted) = self.store.wanted.get_mut(id)
            && wanted.others.len() < bounds::OTHERS_MAX
            && wanted.of != from
            && !wanted.others.contains(&from)
        {
            wanted.others.push(from);
        }
    }

    /// Asks a neighbour for these; what a cross peer has and the tree has not brought is a gap.
    fn ask_for(&mut self, of: NodeId, ids: Vec<Digest>) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&of) else { return };
        if ids.is_empty() {
            return;
        }
        let owes = link.owes.get_or_insert_default();
        for id in &ids {
            owes.ids.insert(*id, (now, false));
            let wanted = self.store.wanted.entry(*id);
            wanted
                .and_modify(|wanted| {
                    wanted.others.retain(|other| *other != of);
                    wanted.of = of;
                })
                .or_insert(Wanted { of, others: Vec::new() });
        }
        self.beat.stale = true;
        self.out.push(Output::Send(of, Message::Want { ids: ids.clone() }));
        self.on_lacking_here(of, ids);
    }

    /// How often in a row a neighbour brought nothing of what it was asked for.
    fn strikes(&self, peer: &NodeId) -> u32 {
        self.links.get(peer).map_or(u32::MAX, |link| link.strikes)
    }

    fn owed(&self, peer: &NodeId) -> usize {
        let owes = self.links.get(peer).and_then(|link| link.owes.as_ref());
        owes.map_or(0, |owes| owes.ids.len())
    }

    /// Whether a neighbour can be asked for this one: it does not owe it, and brought no forgery of it.
    fn may_bring(&self, peer: &NodeId, id: &Digest) -> bool {
        self.links.get(peer).is_some_and(|link| {
            let owes = link.owes.as_ref().is_some_and(|owes| owes.ids.contains_key(id));
            !owes && !link.refused.contains(id)
        })
    }

    /// An object came from this neighbour; whether it was asked for.
    pub(crate) fn on_fetched(&mut self, from: NodeId, id: &Digest) -> bool {
        let now = self.now;
        let Some(link) = self.links.get_mut(&from) else { return false };
        let Some(owes) = &mut link.owes else { return false };
        if owes.ids.remove(id).is_none() {
            return false;
        }
        (owes.brought, link.strikes) = (now, 0);
        if owes.ids.is_empty() {
            link.owes = None;
        }
        self.resume_paging(from);
        true
    }

    /// What this neighbour listed cannot be had of it: the next one that lists it, best record first.
    pub(crate) fn fetch_elsewhere(&mut self, ids: &[Digest], more: &[NodeId]) {
        let mut asks: BTreeMap<NodeId, Vec<Digest>> = BTreeMap::new();
        for id in ids {
            let listed = self.store.wanted.remove(id).map_or(Vec::new(), |wanted| wanted.others);
            let mut others: Vec<NodeId> = listed.into_iter().chain(more.iter().copied()).collect();
            others.retain(|other| {
                let room = self.owed(other) + asks.get(other).map_or(0, Vec::len);
                let linked = self.is_neighbour(*other) || self.is_cross(other);
                linked && room < bounds::FETCH_SHARE && self.may_bring(other, id)
            });
            let next = others.iter().copied().min_by_key(|other| self.strikes(other));
            let Some(next) = next.filter(|_| !self.store.knows(id)) else { continue };
            others.retain(|other| *other != next);
            others.truncate(bounds::OTHERS_MAX);
            self.store.wanted.insert(*id, Wanted { of: next, others });
            asks.entry(next).or_default().push(*id);
        }
        for (of, ids) in asks {
            self.ask_for(of, ids);
        }
    }

    /// The link to this neighbour is gone, and with it what it was asked for.
    pub(crate) fn fetch_without(&mut self, peer: NodeId) {
        let mut ids: Vec<Digest> = Vec::new();
        for (id, wanted) in &mut self.store.wanted {
            wanted.others.retain(|other| *other != peer);
            if wanted.of == peer {
                ids.push(*id);
            }
        }
        ids.retain(|id| !self.store.judges(id));
        self.fetch_elsewhere(&ids, &[]);
    }

    /// When somebody will be late with what it was asked for.
    pub(crate) fn fetch_due(&self) -> Option<Time> {
        let owes = self.links.values().filter_map(|link| link.owes.as_ref());
        owes.filter_map(|owes| owes.ids.values().map(|it| owes.due(*it)).min()).min()
    }

    /// Asks others for what is late.
    pub(crate) fn fetch_late(&mut self) {
        let now = self.now;
        let mut late: Vec<(NodeId, Digest)> = Vec::new();
        let mut strikes = Vec::new();
        let mut freed = Vec::new();
        for (peer, link) in self.links.iter_mut() {
            let Some(owes) = &mut link.owes else { continue };
            let due: Vec<(Digest, (Time, bool))> = owes
                .ids
                .iter()
                .map(|(id, it)| (*id, *it))
                .filter(|(_, it)| owes.due(*it) <= now)
                .collect();
            let mut nothing = false;
            for (id, (asked, was_late)) in due {
                if was_late {
                    owes.ids.remove(&id);
                    continue;
                }
                nothing |= owes.brought <= asked;
                owes.ids.insert(id, (asked, true));
                late.push((*peer, id));
            }
            if nothing {
                link.strikes = link.strikes.saturating_add(1);
                strikes.push((*peer, link.strikes));
            }
            freed.push(*peer);
        }
        late.retain(|(peer, id)| {
            self.store.wanted.get(id).is_some_and(|wanted| wanted.of == *peer)
                && !self.store.judges(id)
        });
        let late: Vec<Digest> = late.into_iter().map(|(_, id)| id).collect();
        self.fetch_elsewhere(&late, &[]);
        for (peer, strikes) in strikes {
            if strikes > bounds::FETCH_STRIKES {
                self.penalise(now, peer, bounds::PENALTY_MAX / 4);
            }
        }
        for peer in freed {
            self.resume_paging(peer);
        }
    }

    /// Whether a neighbour's share has room for more.
    pub(crate) fn has_room(&self, peer: &NodeId) -> bool {
        self.owed(peer) <= bounds::FETCH_SHARE / 2
    }

    pub(crate) fn check_fetch(&self) -> Result<(), String> {
        let owed: usize = self.links.keys().map(|peer| self.owed(peer)).sum();
        if self.links.keys().any(|peer| self.owed(peer) > bounds::FETCH_SHARE) {
            return Err("a neighbour owes more than its share".to_owned());
        }
        let wanted = &self.store.wanted;
        let open = wanted.keys().filter(|id| !self.store.judges(id)).count();
        if open > owed { Err("something is wanted of nobody".to_owned()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::io::{Input, Timer, Verdict};
    use crate::message::{Body, Summary};
    use crate::stage::{Stage, key};

    fn id(n: u32) -> Digest {
        Digest::of(&n.to_le_bytes())
    }

    fn ids(numbers: std::ops::Range<u32>) -> Vec<Digest> {
        let mut ids: Vec<Digest> = numbers.map(id).collect();
        ids.sort();
        ids
    }

    /// Below 2, with the children 5 and 6.
    fn family() -> Stage {
        let mut stage = Stage::attached(4, &[1, 2]);
        stage.joins(5, true);
        stage.joins(6, true);
        stage
    }

    /// `n` lists these, and nothing more.
    fn lists(stage: &mut Stage, n: u8, ids: &[Digest]) -> Vec<Output> {
        let xor = ids.last().copied().unwrap();
        let summary = Summary { heads: BTreeMap::new(), count: 1, xor };
        stage.says(n, Message::Summary(summary));
        stage.says(n, Message::Ids { ids: ids.to_vec(), last: true })
    }

    fn brings(stage: &mut Stage, n: u8, id: Digest) -> Vec<Output> {
        let body = Body::from_text("{}").unwrap();
        let mut out = stage.says(n, Message::Object { id, kind: "note".into(), body });
        out.extend(stage.judged(n, id, Verdict::Admitted));
        out
    }

    /// Who is asked, and for how many.
    fn asked(out: &[Output]) -> Vec<(NodeId, usize)> {
        out.iter()
            .filter_map(|output| match output {
                Output::Send(to, Message::Want { ids }) => Some((*to, ids.len())),
                _ => None,
            })
            .collect()
    }

    /// Lets so much time pass, with a sign of life of everybody each second.
    fn wait(stage: &mut Stage, time: Duration) -> Vec<Output> {
        let end = stage.now + time;
        let mut out = Vec::new();
        while stage.now < end {
            stage.now = end.min(stage.now + Duration::from_secs(1));
            for n in [2, 5, 6] {
                stage.step(Input::Heard(key(n)));
            }
            out.extend(stage.step(Input::TimerFired(Timer::Heartbeat)));
        }
        out
    }

    #[test]
    fn whoever_lists_it_too_is_asked_when_the_first_one_is_late() {
        let mut stage = family();
        assert_eq!(asked(&lists(&mut stage, 5, &[id(1)])), [(key(5), 1)]);
        assert_eq!(asked(&lists(&mut stage, 6, &[id(1)])), [], "on its way");
        assert_eq!(asked(&wait(&mut stage, bounds::FETCH_PATIENCE)), [(key(6), 1)]);
        brings(&mut stage, 6, id(1));
        // Late is not wrong: it was asked for it.
        brings(&mut stage, 5, id(1));
        assert_eq!(stage.node.links.get(&key(5)).unwrap().useless, 0);
        assert_eq!(asked(&wait(&mut stage, bounds::COMPARE)), []);
    }

    #[test]
    fn one_that_lists_what_it_never_sends_takes_its_own_share_only() {
        let mut stage = family();
        lists(&mut stage, 5, &ids(0..512));
        assert_eq!(stage.node.owed(&key(5)), bounds::FETCH_SHARE);
        let real = ids(20_000..20_010);
        assert_eq!(asked(&lists(&mut stage, 2, &real)), [(key(2), 10)]);
        for id in real {
            brings(&mut stage, 2, id);
        }
    }

    #[test]
    fn one_that_never_brings_anything_is_asked_last_and_cut_off_in_the_end() {
        let mut stage = family();
        let mut rounds = 0;
        while stage.node.is_neighbour(key(5)) {
            rounds += 1;
            assert!(rounds < 20, "still listened to");
            lists(&mut stage, 5, &[id(rounds)]);
            let out = lists(&mut stage, 6, &[id(rounds)]);
            // From the second time on its word keeps nobody from asking another one at once.
            assert_eq!(asked(&out), if rounds > 1 { vec![(key(6), 1)] } else { vec![] });
            wait(&mut stage, bounds::FETCH_PATIENCE);
            brings(&mut stage, 6, id(rounds));
            wait(&mut stage, bounds::COMPARE);
        }
        assert!(rounds > bounds::FETCH_STRIKES, "{rounds}");
        assert!(stage.node.is_neighbour(key(6)) && stage.node.parent() == Some(key(2)));
    }

    #[test]
    fn a_slow_line_is_no_offence() {
        let mut stage = family();
        let many = ids(0..200);
        assert_eq!(asked(&lists(&mut stage, 2, &many)), [(key(2), 200)]);
        for id in many {
            // More than three minutes in all, and much of it late.
            wait(&mut stage, Duration::from_secs(1));
            brings(&mut stage, 2, id);
            assert_eq!(stage.node.parent(), Some(key(2)));
        }
        let link = stage.node.links.get(&key(2)).unwrap();
        assert_eq!((link.strikes, link.penalty), (0, 0));
    }

    #[test]
    fn a_walk_waits_for_room_and_goes_on() {
        let mut stage = family();
        let page = ids(0..512);
        let summary = Summary { heads: BTreeMap::new(), count: 512, xor: id(7) };
        stage.says(2, Message::Summary(summary));
        let out = stage.says(2, Message::Ids { ids: page.clone(), last: true });
        assert_eq!(asked(&out), [(key(2), bounds::FETCH_SHARE)]);
        let mut pages = Vec::new();
        for id in &page[..bounds::FETCH_SHARE] {
            let out = brings(&mut stage, 2, *id);
            pages.extend(out.into_iter().filter_map(|output| match output {
                Output::Send(_, Message::Page { after }) => Some(after),
                _ => None,
            }));
        }
        assert_eq!(pages, [Some(page[bounds::FETCH_SHARE - 1])]);
        let rest = page[bounds::FETCH_SHARE..].to_vec();
        let out = stage.says(2, Message::Ids { ids: rest, last: true });
        assert_eq!(asked(&out), [(key(2), bounds::FETCH_SHARE)]);
    }

    #[test]
    fn what_was_asked_of_one_that_left_is_asked_of_the_next() {
        let mut stage = family();
        lists(&mut stage, 5, &[id(1)]);
        lists(&mut stage, 6, &[id(1)]);
        assert_eq!(asked(&stage.step(Input::LinkDown(key(5)))), [(key(6), 1)]);
    }

    #[test]
    fn after_a_stop_nothing_is_wanted() {
        let mut stage = family();
        lists(&mut stage, 5, &[id(1)]);
        stage.step(Input::Stop);
        assert!(stage.node.store.wanted.is_empty());
    }
}
