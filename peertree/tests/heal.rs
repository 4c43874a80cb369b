//! How long survivors need to be one tree again, and that no broadcast is lost meanwhile.
//!
//! Measured over seeds in two networks: one data centre (1 to 3 ms one way) and half a continent
//! (1 to 40 ms). "Healed" is: one root, and every other node attached to a neighbour that lives and
//! knows it. A broadcast is published every fifth of a second all the while; the simulation itself
//! fails when an object is offered twice ([`borgios_peertree::sim`]), and at the end everybody holds
//! everything.
#![allow(clippy::print_stdout, reason = "the figures are for whoever measures")]

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use borgios_peertree::sim::{Fleet, Violation};
use borgios_peertree::{Node, State, bounds};
use borgios_types::NodeId;
use rand::seq::SliceRandom as _;

const DATA_CENTRE: RangeInclusive<u64> = 1..=3;
const CONTINENT: RangeInclusive<u64> = 1..=40;
const NODES: usize = 100;
const TICK: Duration = Duration::from_millis(20);

/// Times in milliseconds, as a line for people.
struct Times(Vec<u64>);

impl Times {
    fn at(&self, share: f64) -> u64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted[rank.clamp(1, sorted.len()) - 1]
    }

    fn say(&self, what: &str) {
        println!(
            "{what}: n {} p50 {} p99 {} max {} ms",
            self.0.len(),
            self.at(0.5),
            self.at(0.99),
            self.at(1.0)
        );
    }
}

/// A tree of [`NODES`] at rest, with cross links.
fn tree(seed: u64, delay_ms: &RangeInclusive<u64>, fanout: u16) -> Result<Fleet, Violation> {
    let mut fleet = Fleet::new(seed, fanout, None);
    fleet.delay_ms = delay_ms.clone();
    for at in 0..NODES {
        let seeds: Vec<usize> = (0..at.min(3)).collect();
        fleet.add(true, &seeds);
    }
    for at in 0..NODES {
        fleet.boot(at)?;
        fleet.run(Duration::from_millis(if at == 0 { 1_000 } else { 60 }))?;
    }
    fleet.settle(Duration::from_secs(120))?;
    fleet.choose_cross()?;
    fleet.run(Duration::from_secs(15))?;
    Ok(fleet)
}

/// Whether the survivors are one tree; `of` restricts who must be attached.
fn healed(fleet: &Fleet, of: Option<&[NodeId]>) -> bool {
    let nodes: BTreeMap<NodeId, &Node> = fleet.nodes().map(|(_, node)| (node.id(), node)).collect();
    let placed = |node: &Node| match node.parent() {
        Some(parent) => nodes.get(&parent).is_some_and(|it| it.children().contains(&node.id())),
        None => node.state() == State::Root,
    };
    match of {
        Some(of) => of.iter().filter_map(|id| nodes.get(id)).all(|node| placed(node)),
        None => fleet.root().is_some() && nodes.values().all(|node| placed(node)),
    }
}

/// Lets time pass, with broadcasts, until it is healed; milliseconds.
fn heal(fleet: &mut Fleet) -> Result<u64, Violation> {
    let begun = fleet.now;
    let mut ticks = 0;
    while !healed(fleet, None) {
        assert!(fleet.now.since(begun) < Duration::from_secs(120), "not healed");
        fleet.run(TICK)?;
        ticks += 1;
        if ticks % 10 == 0 {
            talk(fleet)?;
        }
    }
    Ok(fleet.now.0 - begun.0)
}

fn talk(fleet: &mut Fleet) -> Result<(), Violation> {
    let at = fleet.any_running().expect("some run");
    fleet.publish(at).map(|_| ())
}

fn seeds(
    count: u64,
    delay_ms: &RangeInclusive<u64>,
    what: &str,
    story: impl Fn(&mut Fleet) -> Result<Vec<u64>, Violation>,
) -> Times {
    let mut all = Vec::new();
    for seed in 1..=count {
        let told = tree(seed, delay_ms, 8).and_then(|mut fleet| {
            let times = story(&mut fleet)?;
            if times.iter().any(|ms| *ms > 3_000) {
                println!("{what}, seed {seed}: {times:?}");
            }
            fleet.deliver(Duration::from_secs(30))?;
            Ok(times)
        });
        match told {
            Ok(times) => all.extend(times),
            Err(violation) => panic!("{what}, seed {seed}: {violation}"),
        }
    }
    let times = Times(all);
    times.say(what);
    times
}

fn kill_tenth(fleet: &mut Fleet, silent: bool) -> Result<Vec<u64>, Violation> {
    let mut running = fleet.running();
    running.shuffle(&mut fleet.rng);
    talk(fleet)?;
    for at in running.into_iter().take(NODES / 10) {
        fleet.kill(at, silent);
    }
    Ok(vec![heal(fleet)?])
}

fn kill_root(fleet: &mut Fleet, silent: bool) -> Result<Vec<u64>, Violation> {
    let mut times = Vec::new();
    for _ in 0..3 {
        let root = fleet.root().expect("a tree has a root");
        talk(fleet)?;
        fleet.kill(root, silent);
        times.push(heal(fleet)?);
        fleet.run(Duration::from_secs(10))?;
    }
    Ok(times)
}

/// A random inner node every second for a minute; the time until its orphans have a place.
fn kill_inner(fleet: &mut Fleet, silent: bool) -> Result<Vec<u64>, Violation> {
    let mut open: Vec<(u64, Vec<NodeId>)> = Vec::new();
    let mut times = Vec::new();
    let mut dead: Vec<usize> = Vec::new();
    for second in 0..60 {
        let inner: Vec<usize> = fleet
            .nodes()
            .filter(|(_, node)| !node.children().is_empty() && node.parent().is_some())
            .map(|(at, _)| at)
            .collect();
        if let Some(victim) = inner.choose(&mut fleet.rng).copied() {
            let orphans = fleet.machines[victim].node.as_ref().map(Node::children);
            open.push((fleet.now.0, orphans.unwrap_or_default()));
            fleet.kill(victim, silent);
            dead.push(victim);
        }
        // The fleet stays about as large as it was.
        if second % 2 == 1 && dead.len() > 8 {
            let back = dead.remove(0);
            fleet.boot(back)?;
        }
        for tick in 0..50 {
            fleet.run(TICK)?;
            if tick % 10 == 0 {
                talk(fleet)?;
            }
            let now = fleet.now.0;
            open.retain(|(since, orphans)| {
                let done = healed(fleet, Some(orphans));
                if done {
                    times.push(now - since);
                }
                !done
            });
        }
    }
    let last = heal(fleet)?;
    assert!(last < 10_000, "the tree took {last} ms after the last death");
    Ok(times)
}

/// Within a second of a reset, and three of a death that nobody hears.
fn check(times: &Times, p99_ms: u64) {
    let p99 = times.at(0.99);
    assert!(p99 <= p99_ms, "p99 {p99} ms, expected {p99_ms} ms at most");
}

#[test]
fn a_tenth_dies_at_once() {
    check(&seeds(30, &DATA_CENTRE, "tenth reset, data centre", |f| kill_tenth(f, false)), 1_000);
    check(&seeds(30, &DATA_CENTRE, "tenth silent, data centre", |f| kill_tenth(f, true)), 3_000);
    check(&seeds(30, &CONTINENT, "tenth reset, continent", |f| kill_tenth(f, false)), 1_000);
    check(&seeds(30, &CONTINENT, "tenth silent, continent", |f| kill_tenth(f, true)), 3_000);
}

#[test]
fn the_root_dies() {
    check(&seeds(20, &DATA_CENTRE, "root reset, data centre", |f| kill_root(f, false)), 1_000);
    check(&seeds(20, &DATA_CENTRE, "root silent, data centre", |f| kill_root(f, true)), 3_000);
    check(&seeds(20, &CONTINENT, "root reset, continent", |f| kill_root(f, false)), 1_000);
    check(&seeds(20, &CONTINENT, "root silent, continent", |f| kill_root(f, true)), 3_000);
}

#[test]
fn a_random_inner_node_dies_every_second_for_a_minute() {
    check(&seeds(4, &DATA_CENTRE, "inner reset, data centre", |f| kill_inner(f, false)), 1_000);
    check(&seeds(4, &DATA_CENTRE, "inner silent, data centre", |f| kill_inner(f, true)), 3_000);
    check(&seeds(4, &CONTINENT, "inner reset, continent", |f| kill_inner(f, false)), 1_000);
    check(&seeds(4, &CONTINENT, "inner silent, continent", |f| kill_inner(f, true)), 3_000);
}

/// 36 bytes of SSH for an empty line and 68 for a digest, 66 of Ethernet, IP and TCP for each packet;
/// whoever does not answer at once acknowledges with a packet of 66.
#[test]
fn an_idle_node_sends_less_than_200_bytes_a_second() {
    let mut fleet = tree(1, &DATA_CENTRE, 8).expect("no violation");
    fleet.run(Duration::from_secs(120)).expect("no violation");
    fleet.messages.clear();
    let seconds = 600;
    fleet.run(Duration::from_secs(seconds)).expect("no violation");
    let count = |name: &str| fleet.messages.get(name).copied().unwrap_or_default();
    let (alive, same) = (count("alive"), count("same"));
    let other: u64 = fleet.messages.values().sum::<u64>() - alive - same;
    // Each exchange of beats costs one acknowledgement without data, and so does each digest.
    let bytes = alive * (36 + 66) + same * (68 + 66) + (alive / 2 + same) * 66;
    let rate = bytes as f64 / seconds as f64 / NODES as f64;
    println!("idle: {rate:.0} bytes a second, {alive} beats, {same} digests, {other} other");
    assert!(rate < 200.0, "{rate} bytes a second");
    assert!(other < NODES as u64, "{:?}", fleet.messages);
    let cross: usize = fleet.nodes().map(|(_, node)| node.cross().len()).sum();
    assert!(cross >= NODES * bounds::CROSS_LINKS, "{cross} ends of cross links");
}

#[test]
fn depth_comes_back_to_the_minimum_or_one_more_after_churn() {
    for seed in 1..=5 {
        let mut fleet = tree(seed, &DATA_CENTRE, 8).expect("no violation");
        kill_inner(&mut fleet, false).expect("no violation");
        // Whoever hangs too deep looks for a place once a minute.
        fleet.run(bounds::FORGIVE * 10).expect("no violation");
        let (mut room, mut width, mut depth) = (1, 1, 0);
        while room < fleet.running().len() {
            (width, depth) = (width * 8, depth + 1);
            room += width;
        }
        let height = fleet.height();
        assert!(height <= depth + 1, "seed {seed}: height {height}, minimum {depth}");
    }
}
