//! Questions in whole fleets under a virtual clock: honest ones, silent ones, liars, loops. Every
//! failure names its seed.

#![allow(clippy::unwrap_used, reason = "all of it is test code; the lint sees only #[test] itself")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use borgios_peertree::question::bounds::{ASK_BURST, MEMBERS_SLACK, SILENT_MAX};
use borgios_peertree::question::desk::next_level;
use borgios_peertree::question::{
    Answer, Ask, Desk, Exception, Findings, Input, Measure, Output, Own, Place, Places, Question,
    Roll, Scope, Tag, Tally,
};
use borgios_types::{NodeId, SecretKey, Time};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

fn key(number: usize) -> NodeId {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
    SecretKey::from_seed(seed).public()
}

/// What one node of the simulation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    Honest,
    /// Takes every frame and says nothing.
    Silent,
    /// Answers at once with numbers and lists of its own invention, several times.
    Liar,
    /// Answers with this number of nodes, and lists as many that are not there, or none.
    Inflated(u64, bool),
    /// Answers for itself alone, with this many places, and with a roll of too many.
    Crowd(usize),
}

#[derive(Clone, Debug)]
enum Frame {
    Ask(Ask),
    Answer(Answer),
    /// What a node has to say has been found out.
    Observed {
        inquiry: u64,
        own: Option<Own>,
    },
}

struct Fleet {
    rng: ChaCha8Rng,
    now: Time,
    keys: Vec<NodeId>,
    desks: Vec<Desk>,
    nature: Vec<Nature>,
    parent: Vec<Option<usize>>,
    /// By time and a running number.
    under_way: BTreeMap<(Time, u64), (usize, usize, Frame)>,
    sent: u64,
    asks: u64,
    done: Vec<(Time, usize, u64, Option<Findings>)>,
    learned: BTreeMap<usize, NodeId>,
    delay_ms: std::ops::RangeInclusive<u64>,
}

impl Fleet {
    fn new(seed: u64, size: usize, fanout: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut room = vec![fanout; size];
        let mut parent = vec![None];
        for node in 1..size {
            let free: Vec<usize> = (0..node).filter(|at| room[*at] > 0).collect();
            // Mostly the shallowest, now and then anywhere: some trees are lopsided.
            let at = if rng.gen_bool(0.8) { free[0] } else { free[rng.gen_range(0..free.len())] };
            room[at] -= 1;
            parent.push(Some(at));
        }
        let keys: Vec<NodeId> = (0..size).map(key).collect();
        let mut fleet = Self {
            rng,
            now: Time(1_000),
            desks: keys.iter().map(|key| Desk::new(*key)).collect(),
            nature: vec![Nature::Honest; size],
            keys,
            parent,
            under_way: BTreeMap::new(),
            sent: 0,
            asks: 0,
            done: Vec::new(),
            learned: BTreeMap::new(),
            delay_ms: 1..=20,
        };
        for node in 0..size {
            fleet.feed(node, Input::Members(size as u64));
            fleet.place(node);
        }
        fleet
    }

    fn children(&self, node: usize) -> Vec<usize> {
        (0..self.keys.len()).filter(|child| self.parent[*child] == Some(node)).collect()
    }

    fn place(&mut self, node: usize) {
        let up = self.parent[node].map(|parent| self.keys[parent]);
        let down = self.children(node).into_iter().map(|child| self.keys[child]).collect();
        self.feed(node, Input::Place { up, down });
    }

    fn number(&self, node: &NodeId) -> usize {
        self.keys.iter().position(|key| key == node).unwrap()
    }

    fn send(&mut self, from: usize, to: usize, frame: Frame) {
        let delay = Duration::from_millis(self.rng.gen_range(self.delay_ms.clone()));
        self.sent += 1;
        self.under_way.insert((self.now + delay, self.sent), (from, to, frame));
    }

    fn feed(&mut self, node: usize, input: Input) {
        let outputs = self.desks[node].handle(self.now, input);
        self.desks[node].check().unwrap();
        for output in outputs {
            match output {
                Output::Ask(to, ask) => {
                    self.asks += 1;
                    let to = self.number(&to);
                    self.send(node, to, Frame::Ask(ask));
                }
                Output::Answer(to, answer) => {
                    let to = self.number(&to);
                    self.send(node, to, Frame::Answer(answer));
                }
                Output::Observe { inquiry, question } => {
                    let own = self.own(node, &question);
                    self.send(node, node, Frame::Observed { inquiry, own });
                }
                Output::Done { key, findings } => {
                    self.done.push((self.now, node, key, findings));
                }
                Output::Learned { node: _, via } => {
                    self.learned.insert(node, via);
                }
            }
        }
    }

    /// What node `n` says: its number as a measure, `n % 40` as its label.
    fn own(&self, node: usize, question: &Question) -> Option<Own> {
        let place = Place {
            node: self.keys[node],
            name: format!("n{node}"),
            address: None,
            parent: self.parent[node].map(|parent| self.keys[parent]),
            depth: self.depth(node),
            hops: None,
            detail: None,
        };
        let looked_for =
            matches!(question, Question::Find { node: wanted } if *wanted == self.keys[node]);
        Some(Own {
            label: Some(format!("label {:02}", node % 40)),
            measures: vec![("number", node as u64)],
            exception: (node % 10 == 3).then(|| (node as u64, "ends in three".to_owned())),
            place: (looked_for || *question == Question::Tree).then_some(place),
        })
    }

    fn depth(&self, node: usize) -> u64 {
        let path = std::iter::successors(self.parent[node], |at| self.parent[*at]);
        path.take(self.keys.len()).count() as u64
    }

    fn open(&mut self, asker: usize, key: u64, question: Question, within: Duration) {
        let nonce = self.rng.gen_range(1..=u64::MAX);
        self.feed(asker, Input::Open { key, nonce, question, within });
    }

    /// Runs until nothing is under way and nothing is open.
    fn run(&mut self) {
        loop {
            let due = (0..self.desks.len()).filter_map(|n| Some((self.desks[n].due()?, n))).min();
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
        match (self.nature[to], frame) {
            (_, Frame::Observed { inquiry, own }) => {
                self.feed(to, Input::Observed { inquiry, own });
            }
            (Nature::Honest, Frame::Ask(ask)) => self.feed(to, Input::Asked(peer, ask)),
            (Nature::Honest, Frame::Answer(answer)) => self.feed(to, Input::Answered(peer, answer)),
            (Nature::Silent, _) | (_, Frame::Answer(_)) => {}
            (Nature::Liar, Frame::Ask(ask)) => self.lie(to, from, &ask),
            (Nature::Inflated(answered, listed), Frame::Ask(ask)) => {
                let mut roll = Roll::default();
                let invented = 10_000..10_000 + usize::try_from(answered).unwrap();
                invented.filter(|_| listed).for_each(|n| roll.merge(Roll::one(&key(n))));
                let tally = Some(Tally { answered, roll, ..Tally::default() });
                self.send(to, from, Frame::Answer(Answer { id: ask.id, tally, tree: None }));
            }
            (Nature::Crowd(places), Frame::Ask(ask)) => {
                let place = self.own(to, &Question::Tree).unwrap().place.unwrap();
                let nodes = vec![Place { node: key(10_000), ..place }; places];
                let tree = Some(Places { nodes, ..Places::default() });
                let roll = if places == 1 { Roll::too_many() } else { Roll::one(&self.keys[to]) };
                let tally = Some(Tally { answered: 1, roll, ..Tally::default() });
                self.send(to, from, Frame::Answer(Answer { id: ask.id, tally, tree }));
            }
        }
    }

    fn lie(&mut self, me: usize, to: usize, ask: &Ask) {
        for _ in 0..self.rng.gen_range(1..4) {
            let id = if self.rng.gen_bool(0.8) { ask.id } else { self.rng.r#gen() };
            let tally = self.rng.gen_bool(0.9).then(|| self.invented());
            let nodes = vec![Place {
                node: self.keys[self.rng.gen_range(0..self.keys.len())],
                name: "x".repeat(self.rng.gen_range(0..200)),
                address: None,
                parent: None,
                depth: self.rng.r#gen(),
                hops: Some(self.rng.r#gen()),
                detail: None,
            }];
            let tree =
                self.rng.gen_bool(0.5).then(|| Places { nodes, silent: vec![], partial: false });
            self.send(me, to, Frame::Answer(Answer { id, tally, tree }));
            // A question back, to be answered at the victim's cost.
            let nonce = self.rng.r#gen();
            let scope = if self.rng.gen_bool(0.5) { Scope::Fleet } else { Scope::Below };
            let ask = Ask { id, nonce, scope, question: Question::Epochs, within_ms: u64::MAX };
            self.send(me, to, Frame::Ask(ask));
        }
    }

    fn invented(&mut self) -> Tally {
        let wild = |rng: &mut ChaCha8Rng| -> u64 {
            match rng.gen_range(0..4) {
                0 => rng.gen_range(0..5),
                1 => rng.gen_range(0..500),
                2 => u64::from(u32::MAX),
                _ => rng.r#gen(),
            }
        };
        let rng = &mut self.rng;
        let node = key(rng.gen_range(0..10_000));
        let labels = rng.gen_range(0..40);
        Tally {
            answered: wild(rng),
            measures: [(
                "number".to_owned(),
                Measure { count: wild(rng), min: wild(rng), max: wild(rng), sum: wild(rng) },
            )]
            .into(),
            labels: (0..labels).map(|n| (format!("lie {n}"), wild(rng))).collect(),
            other: wild(rng),
            exceptions: [Exception { node, weight: u64::MAX, what: "lies".to_owned() }].into(),
            exceptional: wild(rng),
            silent: [node].into(),
            silent_nodes: wild(rng),
            roll: if rng.gen_bool(0.5) { Roll::too_many() } else { Roll::one(&node) },
        }
    }

    /// The nodes that can be heard from `asker` if nobody passes anything on but the honest, and
    /// the silent ones at that border.
    fn heard_from(&self, asker: usize) -> (BTreeSet<usize>, BTreeSet<NodeId>) {
        let (mut heard, mut border) = (BTreeSet::from([asker]), BTreeSet::new());
        let mut next = vec![asker];
        while let Some(node) = next.pop() {
            for near in self.children(node).into_iter().chain(self.parent[node]) {
                if self.nature[near] != Nature::Honest {
                    border.insert(self.keys[near]);
                } else if heard.insert(near) {
                    next.push(near);
                }
            }
        }
        (heard, border)
    }

    fn only_answer(&self, seed: u64) -> (Time, Findings) {
        let [(at, _, _, Some(findings))] = self.done.as_slice() else {
            panic!("seed {seed}: {} answers", self.done.len());
        };
        (*at, findings.clone())
    }
}

const WITHIN: Duration = Duration::from_secs(10);

#[test]
fn every_node_is_counted_once_in_two_messages_a_link() {
    for seed in 0..60 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (size, fanout) = (rng.gen_range(1..150), rng.gen_range(2..6));
        let mut fleet = Fleet::new(seed, size, fanout);
        let asker = rng.gen_range(0..size);
        fleet.open(asker, 1, Question::Load { above: 1 }, WITHIN);
        fleet.run();
        let (_, findings) = fleet.only_answer(seed);
        let tally = findings.tally;
        assert_eq!(tally.answered, size as u64, "seed {seed}");
        assert_eq!(tally.roll.tags().map(BTreeSet::len), Some(size), "seed {seed}");
        let number = tally.measures["number"];
        assert_eq!((number.min, number.max), (0, size as u64 - 1), "seed {seed}");
        assert_eq!(number.sum, (0..size as u64).sum::<u64>(), "seed {seed}");
        let labelled: u64 = tally.labels.values().sum();
        assert_eq!(labelled + tally.other, size as u64, "seed {seed}");
        assert_eq!(
            tally.exceptional,
            (0..size).filter(|n| n % 10 == 3).count() as u64,
            "seed {seed}"
        );
        assert_eq!(tally.silent_nodes, 0, "seed {seed}");
        assert_eq!(fleet.asks, size as u64 - 1, "seed {seed}: one ask for every link");
        assert_eq!(fleet.sent, 2 * (size as u64 - 1) + size as u64, "seed {seed}");
    }
}

#[test]
fn a_silent_node_costs_what_is_behind_it_and_is_named_in_time() {
    for seed in 0..100 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let size = rng.gen_range(2..120);
        let mut fleet = Fleet::new(seed, size, 3);
        let asker = rng.gen_range(0..size);
        for node in (0..size).filter(|node| *node != asker) {
            if rng.gen_bool(0.1) {
                fleet.nature[node] = Nature::Silent;
            }
        }
        let begun = fleet.now;
        fleet.open(asker, 1, Question::Epochs, WITHIN);
        fleet.run();
        let (at, Findings { tally, .. }) = fleet.only_answer(seed);
        let (heard, border) = fleet.heard_from(asker);
        assert!(at.since(begun) <= WITHIN, "seed {seed}: after {:?}", at.since(begun));
        assert_eq!(tally.answered, heard.len() as u64, "seed {seed}");
        assert_eq!(tally.silent_nodes, border.len() as u64, "seed {seed}");
        let named: BTreeSet<NodeId> = border.into_iter().take(SILENT_MAX).collect();
        assert_eq!(tally.silent, named, "seed {seed}");
        let heard_members = Findings { tally, ..Findings::default() }.heard(fleet.keys.iter());
        assert_eq!(heard_members, Some(heard.len() as u64), "seed {seed}");
    }
}

#[test]
fn each_level_answers_before_the_one_above_gives_up() {
    // A chain as deep as the deadline reaches, with nobody at its end.
    for seed in 0..20 {
        let mut fleet = Fleet::new(seed, 40, 1);
        fleet.delay_ms = 1..=25;
        fleet.nature[39] = Nature::Silent;
        let within = Duration::from_secs(5);
        let begun = fleet.now;
        fleet.open(0, 1, Question::Epochs, within);
        fleet.run();
        let (at, Findings { tally, .. }) = fleet.only_answer(seed);
        let mut levels = 0;
        let mut left = within;
        while !left.is_zero() {
            levels += 1;
            left = next_level(left);
        }
        assert!(at.since(begun) <= within, "seed {seed}");
        assert_eq!(tally.answered, levels, "seed {seed}: every level that had time left");
        assert_eq!(tally.silent_nodes, 1, "seed {seed}: the first that had none");
    }
}

#[test]
fn liars_make_nothing_panic_hang_grow_or_answer_twice() {
    for seed in 0..150 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let size = rng.gen_range(2..60);
        let mut fleet = Fleet::new(seed, size, 4);
        let asker = rng.gen_range(0..size);
        for node in (0..size).filter(|node| *node != asker) {
            if rng.gen_bool(0.2) {
                fleet.nature[node] = Nature::Liar;
            }
        }
        let wanted = key(rng.gen_range(0..2 * size));
        let all = [Question::Tree, Question::Epochs, Question::Find { node: wanted }];
        let begun = fleet.now;
        for (at, question) in all.into_iter().enumerate() {
            fleet.open(asker, at as u64, question, WITHIN);
        }
        fleet.run();
        let keys: BTreeSet<u64> = fleet.done.iter().map(|(_, _, key, _)| *key).collect();
        assert_eq!((fleet.done.len(), keys.len()), (3, 3), "seed {seed}: one answer to each");
        let (heard, _) = fleet.heard_from(asker);
        for (at, node, key, findings) in &fleet.done {
            let findings = findings.as_ref().unwrap();
            let line = serde_json::to_string(&findings.tally).unwrap();
            assert_eq!(*node, asker, "seed {seed}");
            assert!(at.since(begun) <= WITHIN, "seed {seed}");
            assert!(line.len() < 400_000, "seed {seed}: {} bytes", line.len());
            assert!(findings.tally.answered <= 2 * size as u64 + MEMBERS_SLACK, "seed {seed}");
            if *key == 1 {
                // A liar may add what is not; it hides no more than what is behind it, and what
                // its own numbers leave no room for.
                assert!(findings.tally.answered >= 1, "seed {seed}");
                let tags = findings.tally.roll.tags();
                let inflated = findings.tally.answered > heard.len() as u64;
                assert!(
                    tags.is_none() || inflated || tags.map(BTreeSet::len) <= Some(heard.len()),
                    "seed {seed}"
                );
            }
        }
    }
}

/// Whatever one node claims to have counted, nobody on the way is named silent for passing it on or for
/// answering behind it, and what the honest said stays.
#[test]
fn one_nodes_number_silences_nobody_else() {
    for seed in 0..60 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let size = rng.gen_range(4..100);
        let mut fleet = Fleet::new(seed, size, 3);
        let limit = 2 * size as u64 + MEMBERS_SLACK;
        let leaves: Vec<usize> = (1..size).filter(|n| fleet.children(*n).is_empty()).collect();
        let liar = leaves[rng.gen_range(0..leaves.len())];
        let listed = rng.gen_bool(0.5);
        fleet.nature[liar] = Nature::Inflated(limit - rng.gen_range(0..60), listed);
        let asker = (0..size).find(|node| *node != liar).unwrap();
        fleet.open(asker, 1, Question::Load { above: 1 }, WITHIN);
        fleet.run();
        let (_, Findings { tally, .. }) = fleet.only_answer(seed);
        assert_eq!((tally.silent_nodes, tally.silent.len()), (0, 0), "seed {seed}");
        assert!(tally.bounded() && tally.plausible(), "seed {seed}: {tally:?}");
        assert!(tally.answered >= size as u64 - 1 && tally.answered <= limit, "seed {seed}");
        let tags = tally.roll.tags().unwrap();
        let honest = (0..size).filter(|node| *node != liar);
        let heard = honest.filter(|n| tags.contains(&Tag::of(&fleet.keys[*n]))).count();
        if listed {
            // The roll was thinned, by no more than what was too much in it at each of the levels.
            assert!(heard * 2 >= size - 1, "seed {seed}: {heard} of {size}");
        } else {
            assert_eq!(heard, size - 1, "seed {seed}");
        }
    }
}

#[test]
fn one_node_hides_neither_who_answered_nor_where_they_stand() {
    for places in [1, 2_000] {
        let size = 20;
        let mut fleet = Fleet::new(5, size, 3);
        fleet.nature[size - 1] = Nature::Crowd(places);
        fleet.open(0, 1, Question::Tree, WITHIN);
        fleet.run();
        let (_, Findings { tally, places }) = fleet.only_answer(5);
        assert_eq!(tally.roll.tags().map(BTreeSet::len), Some(size - 1));
        assert_eq!(tally.silent, BTreeSet::from([fleet.keys[size - 1]]), "it alone");
        let stand: BTreeSet<NodeId> = places.nodes.iter().map(|place| place.node).collect();
        assert_eq!(stand, fleet.keys[..size - 1].iter().copied().collect::<BTreeSet<_>>());
    }
}

#[test]
fn in_a_loop_that_lasts_everyone_takes_part_once() {
    for seed in 0..30 {
        let size = 12;
        let mut fleet = Fleet::new(seed, size, 2);
        // The root believes itself below a leaf: a circle of parents.
        fleet.parent[0] = Some(size - 1);
        fleet.place(0);
        fleet.place(size - 1);
        fleet.open(usize::try_from(seed).unwrap() % size, 1, Question::Epochs, WITHIN);
        fleet.run();
        let (_, Findings { tally, .. }) = fleet.only_answer(seed);
        assert_eq!(tally.roll.tags().map(BTreeSet::len), Some(size), "seed {seed}");
        assert_eq!(tally.answered, size as u64, "seed {seed}: somebody was counted twice");
    }
}

#[test]
fn a_node_is_found_with_its_hops_and_the_way_is_learned() {
    for seed in 0..60 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let size = rng.gen_range(1..100);
        let mut fleet = Fleet::new(seed, size, 3);
        let (asker, wanted) = (rng.gen_range(0..size), rng.gen_range(0..size));
        let begun = fleet.now;
        fleet.open(asker, 1, Question::Find { node: fleet.keys[wanted] }, WITHIN);
        fleet.run();
        let (at, findings) = fleet.only_answer(seed);
        let [place] = findings.places.nodes.as_slice() else { panic!("seed {seed}: {findings:?}") };
        assert_eq!(place.name, format!("n{wanted}"), "seed {seed}");
        let path = |node: usize| {
            std::iter::successors(Some(node), |at| fleet.parent[*at]).collect::<Vec<_>>()
        };
        let (down, up) = (path(wanted), path(asker));
        let shared = down.iter().filter(|node| up.contains(node)).count();
        let hops = down.len() + up.len() - 2 * shared;
        assert_eq!(place.hops.unwrap_or(0), hops as u64, "seed {seed}");
        assert!(
            at.since(begun) <= Duration::from_millis(25 * 2 * (hops as u64 + 1)),
            "seed {seed}"
        );
        for below in down.windows(2).take_while(|pair| !up.contains(&pair[0])) {
            assert_eq!(fleet.learned.get(&below[1]), Some(&fleet.keys[below[0]]), "seed {seed}");
        }
    }
}

#[test]
fn who_is_not_there_is_not_found() {
    let mut fleet = Fleet::new(7, 30, 3);
    fleet.open(4, 1, Question::Find { node: key(1_000) }, WITHIN);
    fleet.run();
    let (at, findings) = fleet.only_answer(7);
    assert!(findings.places.nodes.is_empty());
    assert_eq!(findings.tally.answered, 30);
    assert!(at.since(Time(1_000)) < Duration::from_secs(1), "nobody waits for the deadline");
}

#[test]
fn a_neighbour_that_floods_is_answered_with_nothing_and_soon_slowed_down() {
    let mut fleet = Fleet::new(1, 10, 3);
    let (flooder, victim) = (fleet.parent.iter().position(|p| *p == Some(0)).unwrap(), 0);
    for id in 0..1_000 {
        let nonce = id + 1;
        let ask =
            Ask { id, nonce, scope: Scope::Fleet, question: Question::Epochs, within_ms: 100 };
        fleet.feed(victim, Input::Asked(fleet.keys[flooder], ask));
    }
    let children = fleet.children(victim).len() as u64;
    assert!(fleet.asks <= u64::from(ASK_BURST) * children, "{} asks", fleet.asks);
    // A stranger is not even answered.
    let sent = fleet.sent;
    let ask = Ask { id: 1, nonce: 5, scope: Scope::Fleet, question: Question::Tree, within_ms: 9 };
    fleet.feed(victim, Input::Asked(key(5_000), ask));
    assert_eq!(fleet.sent, sent);
}

#[test]
fn who_leaves_while_it_is_asked_is_silent_at_once() {
    let mut fleet = Fleet::new(3, 8, 7);
    fleet.nature[1..8].fill(Nature::Silent);
    fleet.open(0, 1, Question::Epochs, WITHIN);
    while let Some((key, (from, to, frame))) = fleet.under_way.pop_first() {
        fleet.now = key.0;
        fleet.arrive(from, to, frame);
    }
    assert!(fleet.done.is_empty());
    fleet.feed(0, Input::Place { up: None, down: vec![] });
    let (at, Findings { tally, .. }) = fleet.only_answer(3);
    assert_eq!((tally.answered, tally.silent_nodes), (1, fleet.children(0).len() as u64));
    assert!(at < Time(1_000) + WITHIN);
}
