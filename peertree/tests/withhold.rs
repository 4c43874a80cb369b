//! Neighbours that relay everything but one kind: noticed, made good over cross links, and left. And
//! honest ones, who never are.
#![allow(clippy::print_stdout, reason = "the figures are for whoever measures")]

use std::time::Duration;

use borgios_peertree::sim::{Fleet, Violation, Withhold};
use borgios_peertree::{State, bounds};
use borgios_types::{Digest, NodeId};
use rand::Rng as _;

const NODES: usize = 40;
/// A comparison is due, a round of its messages, and some.
const INTERVAL: Duration = Duration::from_secs(11);

fn tree(seed: u64, nodes: usize) -> Result<Fleet, Violation> {
    let mut fleet = Fleet::new(seed, 4, None);
    for at in 0..nodes {
        let seeds: Vec<usize> = (0..at.min(3)).collect();
        fleet.add(true, &seeds);
    }
    for at in 0..nodes {
        fleet.boot(at)?;
        fleet.run(Duration::from_millis(if at == 0 { 1_000 } else { 200 }))?;
    }
    fleet.settle(Duration::from_secs(120))?;
    fleet.choose_cross()?;
    fleet.run(Duration::from_secs(30))?;
    Ok(fleet)
}

fn children(fleet: &Fleet, at: usize) -> Vec<NodeId> {
    fleet.machines[at].node.as_ref().expect("it runs").children()
}

fn holds(fleet: &Fleet, id: &Digest) -> usize {
    fleet.machines.iter().filter(|machine| machine.disk.objects.contains_key(id)).count()
}

fn depth(fleet: &Fleet, at: usize) -> usize {
    fleet.machines[at].node.as_ref().expect("it runs").depth()
}

/// Publishes notes until the liar has no victim any more; every one must be everywhere within an
/// interval. Returns how long the liar kept its victims, in seconds.
fn until_left(
    fleet: &mut Fleet,
    from: usize,
    victims: &dyn Fn(&Fleet) -> bool,
) -> Result<u64, Violation> {
    let begun = fleet.now;
    while victims(fleet) {
        assert!(fleet.now.since(begun) < Duration::from_secs(300), "the liar is still trusted");
        let id = fleet.publish(from)?;
        let waits = INTERVAL.as_millis() / 200;
        for _ in 0..waits {
            if holds(fleet, &id) == fleet.running().len() {
                break;
            }
            fleet.run(Duration::from_millis(200))?;
        }
        assert_eq!(holds(fleet, &id), fleet.running().len(), "within one interval");
        fleet.run(Duration::from_secs(5))?;
    }
    Ok(fleet.now.since(begun).as_secs())
}

/// The root relays no notes into the subtree of its first child.
#[test]
fn t35_a_root_that_withholds_one_kind_from_one_subtree_is_left() {
    for (seed, excuses) in (1..=6).map(|seed| (seed, seed > 3)) {
        let mut fleet = tree(seed, NODES).expect("no violation");
        let root = fleet.root().expect("one root");
        let victim = children(&fleet, root)[0];
        let at = fleet.position(&victim).expect("a machine");
        fleet.machines[root].withhold =
            Some(Withhold { kind: "note".into(), from: vec![victim], excuses });
        let liar = fleet.machines[root].id;
        let took = until_left(&mut fleet, root, &|fleet| {
            fleet.machines[at].node.as_ref().expect("it runs").parent() == Some(liar)
        });
        let took = took.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        println!("root, seed {seed}, excuses {excuses}: left after {took} s");
        assert!(took < if excuses { 240 } else { 120 }, "seed {seed}: {took} s");
        let blamed: Vec<NodeId> = fleet
            .nodes()
            .flat_map(|(_, node)| node.evidence())
            .filter(|evidence| !evidence.excused)
            .map(|evidence| evidence.neighbour)
            .collect();
        if !excuses {
            assert!(!blamed.is_empty() && blamed.iter().all(|who| *who == liar), "seed {seed}");
        }
        fleet.machines[root].withhold = None;
        fleet.settle(Duration::from_secs(300)).unwrap_or_else(|v| panic!("seed {seed}: {v}"));
    }
}

/// An inner node relays no notes to anyone, neither down nor up.
#[test]
fn t35_an_inner_node_that_withholds_one_kind_loses_its_children_and_its_parent() {
    for seed in 1..=6 {
        let mut fleet = tree(seed, NODES).expect("no violation");
        let inner = fleet
            .nodes()
            .find(|(_, node)| node.state() != State::Root && node.children().len() >= 2);
        let (liar, _) = inner.expect("an inner node");
        let below = children(&fleet, liar);
        let me = fleet.machines[liar].id;
        fleet.machines[liar].withhold =
            Some(Withhold { kind: "note".into(), from: Vec::new(), excuses: false });
        let root = fleet.root().expect("one root");
        let took = until_left(&mut fleet, root, &|fleet| {
            below.iter().any(|child| {
                let at = fleet.position(child).expect("a machine");
                fleet.machines[at].node.as_ref().expect("it runs").parent() == Some(me)
            })
        });
        let took = took.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        println!("inner, seed {seed}: left after {took} s");
        assert!(took < 120, "seed {seed}: {took} s");
    }
}

/// What starts below a child that withholds upwards still reaches everybody, and the child is cut
/// off.
#[test]
fn a_child_that_withholds_upwards_is_cut_off() {
    for seed in 1..=6 {
        let mut fleet = tree(seed, NODES).expect("no violation");
        let inner = fleet.nodes().find(|(_, node)| node.depth() == 1 && node.children().len() >= 2);
        let (liar, node) = inner.expect("an inner node");
        let (me, parent) = (node.id(), node.parent().expect("it is attached"));
        let below = fleet.position(&children(&fleet, liar)[0]).expect("a machine");
        assert!(depth(&fleet, below) > depth(&fleet, liar));
        fleet.machines[liar].withhold =
            Some(Withhold { kind: "note".into(), from: vec![parent], excuses: false });
        let above = fleet.position(&parent).expect("a machine");
        let took = until_left(&mut fleet, below, &|fleet| children(fleet, above).contains(&me));
        let took = took.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        println!("upwards, seed {seed}: cut off after {took} s");
        assert!(took < 120, "seed {seed}: {took} s");
    }
}

/// Losses, deaths, broken links and restarts make gaps, and nobody to blame for them.
#[test]
fn no_honest_neighbour_is_left_whatever_is_lost() {
    let (mut gaps, mut objects) = (0, 0);
    for seed in 1..=200 {
        let mut fleet = tree(seed, 24).expect("no violation");
        let told = (|| {
            let mut dead = Vec::new();
            for turn in 0..40 {
                fleet.object_loss = 0.03;
                let at = fleet.any_running().expect("some run");
                fleet.publish(at)?;
                objects += 1;
                if turn % 3 == 0 {
                    fleet.publish_statement()?;
                }
                match fleet.rng.gen_range(0..8) {
                    0 => fleet.break_link(),
                    1 if dead.len() < 5 => {
                        let at = fleet.any_running().expect("some run");
                        let silent = fleet.rng.gen_bool(0.5);
                        fleet.kill(at, silent);
                        dead.push(at);
                    }
                    2 if !dead.is_empty() => {
                        let at = dead.remove(0);
                        fleet.boot(at)?;
                        fleet.choose_cross()?;
                    }
                    _ => {}
                }
                let ms = fleet.rng.gen_range(500..4_000);
                fleet.run(Duration::from_millis(ms))?;
            }
            fleet.object_loss = 0.0;
            fleet.deliver(bounds::COMPARE * 3)
        })();
        if let Err(violation) = told {
            panic!("seed {seed}: {violation}");
        }
        for (at, node) in fleet.nodes() {
            let (seen, left) = node.gaps();
            gaps += seen;
            assert_eq!(left, 0, "seed {seed}: n{at} left somebody: {:?}", node.evidence());
        }
    }
    println!("{objects} objects, {gaps} gaps noted, nobody left");
}
