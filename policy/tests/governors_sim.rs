//! Boards that vote for a long time over a network that loses, repeats, reorders and forges, with liars
//! among them, and nodes that obey what comes of it; and the control, with as many liars as no board
//! survives.
//!
//! `BORGIOS_SIM_SEEDS=1000 cargo test --release -p borgios-policy --test governors_sim` runs a thousand;
//! without it as many as CI has time for. `BORGIOS_SIM_SEED=N` runs one alone. A failure names its seed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod governors;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use borgios_policy::fixture::{Council, NOW, release_body, statement};
use borgios_policy::gate::Standing;
use borgios_policy::{
    Ballot, Board, Governor, Lane, Name, Object as _, Policy, Proof, Statement, tally,
};
use borgios_types::{Digest, Envelope, KeyEpoch, Threshold};
use governors::node::Node;
use governors::rescue::{FATES, Fate, Rescue, newcomers};
use governors::said::{Said, Shelf};
use governors::world::{Counts, HOUR_S, World};
use governors::{Objects, PAPERS, Tool, of_kind};
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;

/// Seeds without a word.
const SEEDS: u64 = 24;
/// The same for worlds in which a recovery board may speak, which last for months.
const RECOVERY_SEEDS: u64 = 10;

/// How often every honest governor acts in the end, while nothing is lost.
const CALM: usize = 24;

/// (n, t): bare majorities and more, odd and even.
const BOARDS: [(u16, u16); 8] = [(2, 2), (3, 2), (3, 3), (4, 3), (5, 3), (5, 4), (6, 4), (7, 4)];

/// Boards that vote in two touches; one seed in so many has one.
const LARGE: [(u16, u16); 2] = [(14, 8), (14, 9)];
const LARGE_EVERY: u64 = 8;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seeds(without: u64) -> std::ops::Range<u64> {
    match number("BORGIOS_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("BORGIOS_SIM_SEEDS").unwrap_or(without),
    }
}

/// Fewer than 2t−n liars: one state everywhere, no number with two signatures, nothing replaced, no nonce
/// used twice, and no honest governor named.
#[test]
#[allow(clippy::print_stdout, reason = "what was simulated is what this test reports")]
fn t36_honest_nodes_end_in_one_state_whatever_the_network_and_the_liars_do() {
    let (mut all, mut large) = (Sum::default(), Sum::default());
    for seed in seeds(SEEDS) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let is_large = seed % LARGE_EVERY == LARGE_EVERY - 1;
        let boards = if is_large { &LARGE[..] } else { &BOARDS[..] };
        let (n, t) = *boards.choose(&mut rng).unwrap();
        let liars = rng.gen_range(0..usize::from(2 * t - n));
        let mut councils = vec![Council::new(n, t, 1, seed)];
        if !is_large && rng.gen_bool(0.5) {
            let (m, t) = *BOARDS.choose(&mut rng).unwrap();
            councils.push(successor(&councils[0], m, t, seed));
        }
        let context = format!("BORGIOS_SIM_SEED={seed}: {t} of {n}, {liars} liars");
        let (steps, turns) = if is_large { (60, 9) } else { (rng.gen_range(80..200), CALM) };
        let mut world = World::new(councils, liars, rng, context);
        for _ in 0..steps {
            world.step();
        }
        world.calm(turns);
        world.check();
        all.add(&world.counts);
        if is_large {
            large.add(&world.counts);
        }
    }
    println!("all: {all:?}");
    println!("two touches: {large:?}");
    if number("BORGIOS_SIM_SEED").is_none() {
        let count = seeds(SEEDS).count() as u64;
        // A third below what the 24 seeds of CI come to, half of what a hundred do: a world that decides
        // less than this simulates nothing.
        let enough = all.decided + all.policies >= 2 * count && 4 * all.decided >= 3 * count;
        assert!(enough, "the simulation decided next to nothing: {all:?}");
        let happened = [all.policies, all.named, all.closed, all.vetoed, all.paused, all.burnt];
        assert!(happened.iter().all(|count| *count > 0), "something never happened: {all:?}");
        assert!(all.boards > 0 && all.rounds.len() > 1, "something never happened: {all:?}");
        assert!(all.emergencies > 0, "no emergency was decided: {all:?}");
        assert!(large.decided > 0, "large boards decided nothing");
    }
}

/// What came of all seeds.
#[derive(Debug, Default)]
struct Sum {
    seeds: u64,
    decided: u64,
    policies: u64,
    boards: u64,
    rounds: BTreeMap<u32, u64>,
    closed: u64,
    vetoed: u64,
    paused: u64,
    burnt: u64,
    named: u64,
    splits: BTreeMap<&'static str, usize>,
    emergencies: usize,
}

impl Sum {
    fn add(&mut self, counts: &Counts) {
        self.seeds += 1;
        self.decided += counts.decided;
        self.policies += counts.policies;
        self.boards += counts.boards;
        self.closed += counts.closed as u64;
        self.vetoed += counts.vetoed as u64;
        self.paused += counts.paused as u64;
        self.burnt += counts.burnt as u64;
        self.named += counts.named as u64;
        self.emergencies += counts.emergencies;
        for (round, count) in &counts.rounds {
            *self.rounds.entry(*round).or_default() += count;
        }
        for (why, count) in &counts.splits {
            *self.splits.entry(why).or_default() += count;
        }
    }
}

/// A board that falls silent is followed by the one that its recovery board names, after silence and lock
/// at each node, and one that lives never is.
#[test]
#[allow(clippy::print_stdout, reason = "what was simulated is what this test reports")]
fn t36_a_recovery_board_speaks_for_a_board_that_is_silent_and_for_no_other() {
    let mut all: BTreeMap<&'static str, Recovered> = BTreeMap::new();
    for seed in seeds(RECOVERY_SEEDS) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed + 2_000_000);
        let fate = FATES[usize::try_from(seed).unwrap() % FATES.len()];
        let (n, t) = *BOARDS.choose(&mut rng).unwrap();
        let (m, u) = *BOARDS.choose(&mut rng).unwrap();
        let liars = rng.gen_range(0..usize::from(2 * t - n));
        let councils =
            vec![Council::new(n, t, 1, seed + 2_000_000), newcomers(m, u, seed + 3_000_000)];
        let context = format!("BORGIOS_SIM_SEED={seed}: {fate:?}, {t} of {n}, {liars} liars");
        let rescue = Some(Rescue::new(seed + 4_000_000));
        let mut world = World::with_rescue(councils, liars, rescue, rng, context);
        for _ in 0..60 {
            world.step();
        }
        let rescued = world.outlive(fate);
        let sum = all.entry(fate.name()).or_default();
        sum.worlds += 1;
        sum.nodes += rescued.nodes;
        sum.early += rescued.early;
        sum.ended += rescued.ended;
        sum.late += rescued.late;
        sum.closed += rescued.closed;
        if let Some(why) = rescued.split {
            *sum.splits.entry(why).or_default() += 1;
            continue;
        }
        world.calm(CALM);
        // Who signed a policy with the old board, too late, has gone another way for good.
        if rescued.nodes > 0 && !world.all_follow() {
            *sum.splits.entry("laptops").or_default() += 1;
            continue;
        }
        world.check();
        sum.decided += world.counts.decided;
        for (why, count) in &world.counts.splits {
            *sum.splits.entry(why).or_default() += count;
        }
    }
    for (fate, sum) in &all {
        println!("{fate}: {sum:?}");
    }
    if number("BORGIOS_SIM_SEED").is_none() {
        let of = |fate: Fate| &all[fate.name()];
        assert!(of(Fate::Gone).nodes > 0 && of(Fate::Late).nodes > 0, "nobody recovered");
        assert!(of(Fate::Word).ended > 0, "nothing was ended");
        assert!(of(Fate::Lives).early > 0, "nothing came too early");
        assert!(all.values().any(|sum| sum.closed > 0), "no vote was closed");
        assert!(of(Fate::Late).late > 0, "nobody came back too late");
        assert!(of(Fate::Gone).decided > 0, "nothing was decided");
    }
}

/// What came of all worlds of one fate.
#[derive(Debug, Default)]
struct Recovered {
    worlds: usize,
    nodes: usize,
    early: usize,
    ended: usize,
    late: usize,
    closed: usize,
    decided: u64,
    splits: BTreeMap<&'static str, usize>,
}

/// The board that follows `before`: who stays keeps name and identity.
fn successor(before: &Council, n: u16, t: u16, seed: u64) -> Council {
    let mut next = Council::new(n, t, 2, seed + 1_000_000);
    let same = |new: &Governor| match before.board.by_name(&new.name) {
        Some(old) => Governor { share: new.share, ..old.clone() },
        None => new.clone(),
    };
    let governors = next.board.governors().iter().map(same).collect();
    next.board = Board::new(KeyEpoch(2), Threshold(t), next.board.group(), governors).unwrap();
    for (name, key) in &before.keys {
        if next.keys.contains_key(name) {
            next.keys.insert(name.clone(), key.clone());
        }
    }
    next
}

/// The control: 2t−n liars sign two documents with one half of the honest governors each. Two signatures
/// for one number are possible then; every node that hears both keeps the proof, and applies neither where
/// there is a lock; and all liars are named.
#[test]
fn as_many_liars_as_no_board_survives_break_it_and_are_named_everywhere() {
    for seed in 0..20 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let (n, t) = *BOARDS.choose(&mut rng).unwrap();
        let context = format!("seed {seed}: {t} of {n}");
        let council = Council::new(n, t, 1, seed);
        let locked = seed % 2 == 0;
        let mut rules: Policy = council.policy(t);
        rules.classes.release.lock_s = locked.then_some(HOUR_S);
        let first = council.sign(&statement(Lane::Policy, 1, None, None, None, rules.to_body()));
        let count = usize::from(2 * t - n);
        let mut names: Vec<Name> = council.keys.keys().cloned().collect();
        names.shuffle(&mut rng);
        let (liars, honest) = names.split_at(count);
        let (left, right) = honest.split_at(honest.len() / 2);
        let network = Some(first.id());
        let draft =
            |version| statement(Lane::Release, 1, network, None, Some(1), release_body(version));
        let (one, two) = (draft("1.0"), draft("2.0"));
        let slot = council.slot(&one);
        let mut objects: Objects =
            council.pools(slot).into_iter().map(|pool| (pool.id(), pool)).collect();
        let mut signed = Vec::new();
        for (document, half) in [(&one, left), (&two, right)] {
            for me in liars.iter().chain(half) {
                let none = BTreeSet::new();
                let ballot = Tool::new(me).vote(&council, document, true, &objects, &none);
                let ballot = ballot.unwrap();
                objects.insert(ballot.id(), ballot);
            }
            signed.push(signature(&council, document, &objects));
        }
        assert_ne!(signed[0].id(), signed[1].id(), "{context}");
        let councils = [council];
        let read = |one: &Envelope| Rc::new(Said::new(&councils, first.id(), one.clone()));
        // Half of the world hears of one first, half of the other.
        for at in 0..4_usize {
            let mut node = Node::new(&first, NOW, rng.gen_range(0..300), &context);
            let mut shelf = Shelf::default();
            for of in [at / 2, 1 - at / 2] {
                let said = read(&signed[of]);
                shelf.take(&said);
                node.hear(NOW, &said, &shelf);
            }
            for said in objects.values().map(read) {
                shelf.take(&said);
                node.hear(NOW, &said, &shelf);
            }
            for hours in 1..5 {
                node.tick(NOW.plus(hours * HOUR_S / 2));
            }
            let now = NOW.plus(3 * HOUR_S);
            let frozen = signed.iter().all(|one| {
                let standing = node.gate.standing(now, &node.chain, &one.id());
                matches!(standing, Some(Standing::Frozen { .. }))
            });
            assert_eq!(frozen, locked, "{context}: node {at}");
            assert_eq!(node.rivals.len(), usize::from(!locked), "{context}: node {at}");
            let texts = [one.to_payload(), two.to_payload()];
            let board = &councils[0].board;
            let tally = tally(board, slot, &texts, &shelf.papers(slot), &shelf.ballots(slot));
            let named: BTreeSet<&Name> =
                tally.culprits.iter().map(|culprit| &culprit.name).collect();
            assert_eq!(named, liars.iter().collect(), "{context}: node {at}");
            let proven = |proof: &Proof| matches!(proof, Proof::TwoBallots(_, _));
            assert!(tally.culprits.iter().all(|culprit| proven(&culprit.proof)), "{context}");
        }
    }
}

/// The signature that the ballots on one document make.
fn signature(council: &Council, document: &Statement, objects: &Objects) -> Envelope {
    let (slot, text) = (council.slot(document), document.to_payload());
    let id = Digest::of(text.as_bytes());
    let ballots = of_kind(objects, &[Ballot::KIND]).into_iter();
    let ballots: Vec<Envelope> =
        ballots.filter(|ballot| Ballot::parse(ballot).unwrap().statement == id).collect();
    let papers = of_kind(objects, &PAPERS);
    tally(&council.board, slot, &[text], &papers, &ballots).signed().expect("t approvals").clone()
}
