//! Directed messages in whole fleets under a virtual clock. Every failure names its seed.

#![allow(clippy::unwrap_used, reason = "all of it is test code; the lint sees only #[test] itself")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use borgios_peertree::direct::bounds::{BODY_MAX, HOPS_MAX, WAITING_MAX};
use borgios_peertree::direct::{Direct, Input, Output, Returned, Switch, Undelivered};
use borgios_types::{NodeId, SecretKey, Time};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

fn key(number: usize) -> NodeId {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
    SecretKey::from_seed(seed).public()
}

#[derive(Clone, Debug)]
enum Frame {
    Direct(Direct),
    Returned(Returned),
}

struct Fleet {
    rng: ChaCha8Rng,
    now: Time,
    keys: Vec<NodeId>,
    nodes: Vec<Switch>,
    parent: Vec<Option<usize>>,
    /// Takes every frame and says nothing.
    dead: BTreeSet<usize>,
    /// Answers every message with receipts of its own invention and sends some itself.
    liars: BTreeSet<usize>,
    under_way: BTreeMap<(Time, u64), (usize, usize, Frame)>,
    sent: u64,
    delivered: Vec<(usize, String)>,
    done: BTreeMap<u64, Vec<Result<u8, Undelivered>>>,
    /// What a node answers that is meant.
    refuses: Option<Undelivered>,
}

impl Fleet {
    fn new(seed: u64, size: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let parent: Vec<Option<usize>> = (0..size)
            .map(|node| (node > 0).then(|| rng.gen_range(node.saturating_sub(6)..node)))
            .collect();
        let keys: Vec<NodeId> = (0..size).map(key).collect();
        let mut fleet = Self {
            rng,
            now: Time(1_000),
            nodes: keys.iter().map(|key| Switch::new(*key)).collect(),
            keys,
            parent,
            dead: BTreeSet::new(),
            liars: BTreeSet::new(),
            under_way: BTreeMap::new(),
            sent: 0,
            delivered: Vec::new(),
            done: BTreeMap::new(),
            refuses: None,
        };
        (0..size).for_each(|node| fleet.place(node));
        fleet
    }

    fn place(&mut self, node: usize) {
        let up = self.parent[node].map(|parent| self.keys[parent]);
        let below = (0..self.keys.len()).filter(|child| self.parent[*child] == Some(node));
        let down = below.map(|child| self.keys[child]).collect();
        self.feed(node, Input::Place { up, down });
    }

    /// Everyone above `node` learns the way, as if somebody had looked for it from the root.
    fn learn(&mut self, node: usize) {
        let mut at = node;
        while let Some(parent) = self.parent[at] {
            let (node, via) = (self.keys[node], self.keys[at]);
            self.feed(parent, Input::Learned { node, via });
            at = parent;
        }
    }

    fn path(&self, node: usize) -> Vec<usize> {
        std::iter::successors(Some(node), |at| self.parent[*at]).collect()
    }

    fn hops(&self, one: usize, other: usize) -> usize {
        let (one, other) = (self.path(one), self.path(other));
        let shared = one.iter().filter(|node| other.contains(node)).count();
        one.len() + other.len() - 2 * shared
    }

    fn feed(&mut self, node: usize, input: Input) {
        let outputs = self.nodes[node].handle(self.now, input);
        self.nodes[node].check().unwrap();
        for output in outputs {
            match output {
                Output::Forward(to, direct) => self.send(node, to, Frame::Direct(direct)),
                Output::Return(to, returned) => self.send(node, to, Frame::Returned(returned)),
                Output::Deliver { ticket, body } => {
                    if self.refuses.is_none() {
                        self.delivered.push((node, body));
                    }
                    self.feed(node, Input::Taken { ticket, refused: self.refuses });
                }
                Output::Done { key, result } => self.done.entry(key).or_default().push(result),
            }
        }
    }

    fn send(&mut self, from: usize, to: NodeId, frame: Frame) {
        let to = self.keys.iter().position(|key| *key == to).unwrap();
        self.sent += 1;
        let delay = Duration::from_millis(self.rng.gen_range(1..30));
        self.under_way.insert((self.now + delay, self.sent), (from, to, frame));
    }

    fn run(&mut self) {
        loop {
            let due = (0..self.nodes.len()).filter_map(|n| Some((self.nodes[n].due()?, n))).min();
            let next = self.under_way.keys().next().copied();
            match (next, due) {
                (Some((at, number)), due) if due.is_none_or(|(due, _)| at <= due) => {
                    let (from, to, frame) = self.under_way.remove(&(at, number)).unwrap();
                    self.now = at;
                    self.arrive(from, to, frame);
                }
                (_, Some((at, node))) => {
                    self.now = at.max(self.now);
                    self.feed(node, Input::Tick);
                }
                (_, None) => return,
            }
        }
    }

    fn arrive(&mut self, from: usize, to: usize, frame: Frame) {
        let peer = self.keys[from];
        if self.dead.contains(&to) {
            return;
        }
        match frame {
            Frame::Direct(direct) if self.liars.contains(&to) => {
                for _ in 0..3 {
                    let id =
                        if self.rng.gen_bool(0.5) { direct.id } else { self.rng.gen_range(0..50) };
                    let error = self.rng.gen_bool(0.5).then_some(Undelivered::Busy);
                    let returned = Returned { id, hops: self.rng.r#gen(), error };
                    self.send(to, peer, Frame::Returned(returned));
                }
            }
            Frame::Direct(direct) => self.feed(to, Input::Arrived(peer, direct)),
            Frame::Returned(returned) => self.feed(to, Input::Returned(peer, returned)),
        }
    }

    fn tell(&mut self, from: usize, to: usize, key: u64) {
        let (to, body) =
            (self.keys.get(to).copied().unwrap_or_else(|| crate::key(to)), key.to_string());
        self.feed(from, Input::Send { key, to, body });
    }

    fn result(&self, seed: u64, key: u64) -> Result<u8, Undelivered> {
        let [result] = self.done[&key].as_slice() else { panic!("seed {seed}: {:?}", self.done) };
        *result
    }
}

#[test]
fn a_message_reaches_the_one_node_by_the_shortest_way() {
    for seed in 0..100 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let size = rng.gen_range(1..80);
        let mut fleet = Fleet::new(seed, size);
        let (from, to) = (rng.gen_range(0..size), rng.gen_range(0..size));
        fleet.learn(to);
        let hops = fleet.hops(from, to);
        fleet.tell(from, to, 1);
        fleet.run();
        assert_eq!(fleet.result(seed, 1), Ok(u8::try_from(hops).unwrap()), "seed {seed}");
        assert_eq!(fleet.delivered, [(to, "1".to_owned())], "seed {seed}");
        assert_eq!(fleet.sent, 2 * hops as u64, "seed {seed}");
    }
}

#[test]
fn whatever_goes_wrong_there_is_one_answer_and_at_most_one_delivery() {
    for seed in 0..200 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let size = rng.gen_range(2..60);
        let mut fleet = Fleet::new(seed, size);
        for node in 0..size {
            if rng.gen_bool(0.1) {
                fleet.dead.insert(node);
            } else if rng.gen_bool(0.1) {
                fleet.liars.insert(node);
            }
            if rng.gen_bool(0.5) {
                fleet.learn(node);
            }
        }
        let honest: Vec<usize> =
            (0..size).filter(|n| !fleet.dead.contains(n) && !fleet.liars.contains(n)).collect();
        let mut sent = 0;
        for key in 0..40 {
            let Some(from) = honest.get(rng.gen_range(0..size)) else { continue };
            fleet.tell(*from, rng.gen_range(0..size + 3), key);
            sent += 1;
            // Now and then somebody moves while messages are under way.
            if rng.gen_bool(0.2) {
                let node = rng.gen_range(1..size);
                let old = fleet.parent[node].replace(rng.gen_range(0..node));
                old.into_iter()
                    .chain(fleet.parent[node])
                    .chain([node])
                    .for_each(|n| fleet.place(n));
            }
        }
        fleet.run();
        assert_eq!(fleet.done.len(), sent, "seed {seed}");
        assert!(
            fleet.done.values().all(|results| results.len() == 1),
            "seed {seed}: {:?}",
            fleet.done
        );
        let once: BTreeSet<&String> = fleet.delivered.iter().map(|(_, body)| body).collect();
        assert_eq!(once.len(), fleet.delivered.len(), "seed {seed}: delivered twice");
    }
}

#[test]
fn the_reasons_have_names() {
    let mut fleet = Fleet::new(1, 30);
    let leaf = 29;
    // Nobody knows the way, then everybody does.
    let far = (0..29)
        .find(|node| fleet.hops(*node, leaf) > 3 && !fleet.path(leaf).contains(node))
        .unwrap();
    fleet.tell(far, leaf, 1);
    fleet.run();
    assert_eq!(fleet.result(1, 1), Err(Undelivered::Unknown));
    fleet.learn(leaf);
    fleet.refuses = Some(Undelivered::Busy);
    fleet.tell(far, leaf, 2);
    fleet.run();
    assert_eq!(fleet.result(1, 2), Err(Undelivered::Busy));
    // It dies without a word: the last one before it notices, and the way is forgotten.
    fleet.dead.insert(leaf);
    let begun = fleet.now;
    fleet.tell(far, leaf, 3);
    fleet.run();
    assert_eq!(fleet.result(1, 3), Err(Undelivered::Unreachable));
    assert!(fleet.now.since(begun) < Duration::from_secs(16));
    let body = "x".repeat(BODY_MAX + 1);
    fleet.feed(far, Input::Send { key: 4, to: key(leaf), body });
    assert_eq!(fleet.result(1, 4), Err(Undelivered::TooLarge));
}

#[test]
fn a_circle_of_parents_does_not_carry_a_message_for_ever() {
    for seed in 0..20 {
        let mut fleet = Fleet::new(seed, 12);
        fleet.parent[0] = Some(11);
        (0..12).for_each(|node| fleet.place(node));
        fleet.tell(3, 500, 1);
        fleet.run();
        let result = fleet.result(seed, 1);
        assert!(
            matches!(
                result,
                Err(Undelivered::Unreachable | Undelivered::Unknown | Undelivered::Busy)
            ),
            "seed {seed}: {result:?}"
        );
        assert!(fleet.sent <= 2 * u64::from(HOPS_MAX), "seed {seed}: {} messages", fleet.sent);
    }
}

#[test]
fn a_neighbour_that_floods_is_told_so_and_holds_no_memory() {
    let mut fleet = Fleet::new(1, 3);
    fleet.dead.insert(0);
    let (victim, flooder) = (1, (0..3).find(|node| fleet.parent[*node] == Some(1)).unwrap_or(0));
    for id in 0..10_000 {
        let direct = Direct { id, to: key(77), hops_left: u8::MAX, body: "x".repeat(100) };
        fleet.feed(victim, Input::Arrived(fleet.keys[flooder], direct));
    }
    let passed =
        fleet.under_way.values().filter(|(_, _, frame)| matches!(frame, Frame::Direct(_))).count();
    assert!(passed <= WAITING_MAX, "{passed} were passed on");
    let stranger = Direct { id: 1, to: key(1), hops_left: 1, body: String::new() };
    let sent = fleet.sent;
    fleet.feed(victim, Input::Arrived(key(88), stranger));
    assert!(fleet.sent == sent && fleet.delivered.is_empty());
}
