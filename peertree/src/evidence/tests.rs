//! Who withholds is found, and nobody else is left.

use super::*;
use crate::io::{Input, Timer, Verdict};
use crate::message::Body;
use crate::stage::{Stage, contact, key};
use crate::state::State;

/// Below 2, whose parent is the root 1; children 5 and 6; cross links to 31 and 32, which hang
/// elsewhere below the root.
fn settled() -> Stage {
    let mut stage = Stage::attached(4, &[1, 2]);
    stage.joins(5, true);
    stage.joins(6, true);
    stage.step(Input::Cross([31, 32].map(contact).to_vec()));
    for n in [31, 32] {
        stage.link(n, true);
        stage.says(n, Message::Cross { path: vec![key(1), key(3), key(n)] });
    }
    wait(&mut stage, bounds::COMPARE);
    stage
}

/// Lets time pass in which everybody is heard of.
fn wait(stage: &mut Stage, time: Duration) -> Vec<Output> {
    let end = stage.now + time;
    let mut out = Vec::new();
    while stage.now < end {
        stage.now = end.min(stage.now + Duration::from_secs(1));
        for n in [2, 5, 6, 31, 32] {
            stage.step(Input::Heard(key(n)));
        }
        out.extend(stage.step(Input::TimerFired(Timer::Heartbeat)));
    }
    out
}

fn id(n: u8) -> Digest {
    Digest::of(&[n])
}

fn object(n: u8) -> Message {
    let body = Body::from_text("{}").unwrap();
    Message::Object { id: id(n), kind: "note".into(), body }
}

/// Cross peer `from` lists object `n`, and brings it when asked.
fn cross_brings(stage: &mut Stage, from: u8, n: u8) -> Vec<Output> {
    let summary = crate::Summary { heads: BTreeMap::new(), count: u64::from(n), xor: id(n) };
    stage.says(from, Message::Summary(summary));
    let mut out = stage.says(from, Message::Ids { ids: vec![id(n)], last: true });
    out.extend(stage.says(from, object(n)));
    out.extend(stage.judged(from, id(n), Verdict::Admitted));
    out
}

fn asks_after(n: u8, path: &[u8]) -> Output {
    let path = path.iter().map(|n| key(*n)).collect();
    Output::Send(key(2), Message::Missing { ids: vec![id(n)], path })
}

fn withheld(out: &[Output]) -> Vec<&Evidence> {
    out.iter()
        .filter_map(|output| match output {
            Output::Withheld(evidence) => Some(evidence),
            _ => None,
        })
        .collect()
}

#[test]
fn a_gap_is_fetched_relayed_and_asked_after() {
    let mut stage = settled();
    let out = cross_brings(&mut stage, 31, 1);
    assert!(out.contains(&Output::Send(key(31), Message::Want { ids: vec![id(1)] })));
    assert!(out.contains(&asks_after(1, &[1, 3, 31])), "{out:?}");
    let relayed = |to: u8| out.contains(&Output::Send(key(to), object(1)));
    assert!(relayed(2) && relayed(5) && relayed(6) && !relayed(32), "over the tree alone");
}

#[test]
fn whoever_brings_it_when_asked_owes_nothing() {
    let mut stage = settled();
    cross_brings(&mut stage, 31, 1);
    stage.says(2, object(1));
    assert_eq!(withheld(&wait(&mut stage, bounds::GAP_GRACE * 2)), Vec::<&Evidence>::new());
    assert_eq!(stage.node.gaps(), (0, 0));
}

#[test]
fn a_parent_without_an_excuse_is_left_after_two_intervals() {
    let mut stage = settled();
    cross_brings(&mut stage, 31, 1);
    let out = wait(&mut stage, bounds::GAP_GRACE * 2);
    let evidence = withheld(&out)[0].clone();
    assert_eq!((evidence.neighbour, evidence.from), (key(2), key(31)));
    assert!(!evidence.excused && evidence.kind == "note");
    assert_eq!(stage.node.evidence(), [evidence]);
    assert_eq!(stage.node.parent(), Some(key(2)), "once is no proof");
    wait(&mut stage, bounds::COMPARE);
    cross_brings(&mut stage, 31, 2);
    let out = wait(&mut stage, bounds::GAP_GRACE);
    assert!(out.contains(&Output::Send(key(2), Message::Leave)), "{out:?}");
    assert!(matches!(stage.node.state(), State::Seeking { .. }));
    assert!(stage.node.distrusted(&key(2)));
    assert_eq!(stage.node.gaps(), (2, 1));
}

#[test]
fn an_excuse_buys_time_and_what_is_brought_pays() {
    let mut stage = settled();
    for n in 1..40 {
        cross_brings(&mut stage, 31 + n % 2, n);
        stage.says(2, Message::Lacking { ids: vec![id(n)] });
        wait(&mut stage, bounds::COMPARE);
        assert_eq!(stage.node.parent(), Some(key(2)), "gap {n}");
        stage.says(2, object(n + 100));
        stage.judged(2, id(n + 100), Verdict::Admitted);
    }
    // From here on it brings nothing any more.
    let mut gaps = 0;
    while stage.node.parent() == Some(key(2)) {
        gaps += 1;
        cross_brings(&mut stage, 31 + gaps % 2, gaps + 200);
        stage.says(2, Message::Lacking { ids: vec![id(gaps + 200)] });
        wait(&mut stage, bounds::COMPARE);
    }
    assert_eq!(u32::from(gaps), bounds::GAPS_EXCUSED_MAX);
}

#[test]
fn one_voice_alone_never_outweighs_an_excuse() {
    let mut stage = settled();
    for n in 1..20 {
        cross_brings(&mut stage, 31, n);
        stage.says(2, Message::Lacking { ids: vec![id(n)] });
        wait(&mut stage, bounds::COMPARE);
    }
    assert_eq!(stage.node.parent(), Some(key(2)));
}

/// One member, 31, hands objects to nodes below both children before anybody else has them.
#[test]
fn one_member_heard_of_through_several_children_outweighs_no_excuse() {
    let mut stage = settled();
    for n in 1..20 {
        let child = 5 + n % 2;
        let path = [1, 3, 31].map(key).to_vec();
        stage.says(child, Message::Missing { ids: vec![id(n)], path });
        stage.says(2, Message::Lacking { ids: vec![id(n)] });
        stage.says(child, object(n));
        stage.judged(child, id(n), Verdict::Admitted);
        wait(&mut stage, bounds::COMPARE);
    }
    assert_eq!((stage.node.parent(), stage.node.gaps().1), (Some(key(2)), 0));
    assert!(stage.node.gaps().0 > 10, "noted all the same");
}

/// The asker's clock is a moment behind, or it was brought the object only now.
#[test]
fn whoever_lets_an_object_lapse_says_that_it_may_lack_it() {
    let mut stage = settled();
    stage.says(2, object(1));
    stage.judged(2, id(1), Verdict::Admitted);
    stage.step(Input::Forget(vec![id(1)]));
    let path = [1, 3, 31].map(key).to_vec();
    let out = stage.says(5, Message::Missing { ids: vec![id(1)], path });
    let lacking = Output::Send(key(5), Message::Lacking { ids: vec![id(1)] });
    assert_eq!(out, [lacking, Output::Provide { to: key(5), ids: vec![id(1)] }]);
}

#[test]
fn a_question_from_below_is_passed_on_and_answered() {
    let mut stage = settled();
    let path = || [1, 3, 31].map(key).to_vec();
    let out = stage.says(5, Message::Missing { ids: vec![id(1)], path: path() });
    let lacking = Output::Send(key(5), Message::Lacking { ids: vec![id(1)] });
    assert_eq!(out[..2], [lacking, asks_after(1, &[1, 3, 31])]);
    let out = stage.says(6, Message::Missing { ids: vec![id(1)], path: path() });
    assert!(!out.contains(&asks_after(1, &[1, 3, 31])), "once");
    let out = stage.says(2, object(1));
    for child in [5, 6] {
        let found = Output::Send(key(child), Message::Found { ids: vec![id(1)] });
        assert!(out.contains(&found), "{out:?}");
    }
    stage.judged(2, id(1), Verdict::Admitted);
    let out = stage.says(5, Message::Missing { ids: vec![id(1)], path: path() });
    assert_eq!(out, [Output::Provide { to: key(5), ids: vec![id(1)] }]);
}

#[test]
fn a_child_on_the_way_to_the_peer_is_suspected_and_cut_off() {
    let mut stage = settled();
    let me = stage.node.id();
    for n in 1..=2 {
        let path = vec![key(1), key(2), me, key(5), key(31)];
        stage.says(31, Message::Cross { path });
        cross_brings(&mut stage, 31, n);
        wait(&mut stage, bounds::COMPARE);
    }
    assert_eq!(stage.node.children(), [key(6)]);
    assert_eq!(stage.link(5, true), [Output::Close(key(5))], "and stays out for a while");
}

#[test]
fn another_trees_objects_are_no_gaps_and_what_never_comes_is_none() {
    let mut stage = settled();
    stage.says(31, Message::Cross { path: vec![key(9), key(31)] });
    let out = cross_brings(&mut stage, 31, 1);
    assert!(!out.iter().any(|it| matches!(it, Output::Send(_, Message::Missing { .. }))));
    let summary = crate::Summary { heads: BTreeMap::new(), count: 7, xor: id(7) };
    stage.says(32, Message::Summary(summary));
    stage.says(32, Message::Ids { ids: vec![id(2)], last: true });
    assert_eq!(withheld(&wait(&mut stage, bounds::COMPARE)), Vec::<&Evidence>::new());
}

/// A child tells of an object before it comes, so that nobody would look when it does.
#[test]
fn what_was_told_hides_no_gap_that_this_node_sees_itself() {
    let mut stage = settled();
    let path = [1, 3, 31].map(key).to_vec();
    let out = stage.says(5, Message::Missing { ids: vec![id(1)], path });
    assert!(out.contains(&asks_after(1, &[1, 3, 31])), "{out:?}");
    wait(&mut stage, bounds::GAP_GRACE * 2);
    assert_eq!(stage.node.gaps(), (0, 0), "it came from nobody");
    let out = cross_brings(&mut stage, 32, 1);
    assert!(out.contains(&asks_after(1, &[1, 3, 32])), "{out:?}");
    let out = wait(&mut stage, bounds::GAP_GRACE * 2);
    let from: Vec<NodeId> = withheld(&out).iter().map(|evidence| evidence.from).collect();
    assert_eq!(from, [key(32)]);
}

/// Whatever many tell, in a minute an honest neighbour is asked no more than it serves; and each is heard.
#[test]
fn all_who_tell_share_what_a_neighbour_may_be_asked() {
    let mut stage = settled();
    let mut asked = [0, 0];
    for round in 0..4_u8 {
        for (at, child) in [5, 6].into_iter().enumerate() {
            let ids = (0..16_u8).map(|n| Digest::of(&[child, round, n])).collect();
            let path = [1, 3, 31].map(key).to_vec();
            for output in stage.says(child, Message::Missing { ids, path }) {
                if let Output::Send(to, Message::Missing { ids, .. }) = output {
                    assert_eq!(to, key(2));
                    asked[at] += ids.len();
                }
            }
        }
        wait(&mut stage, bounds::GAP_GRACE);
    }
    // Of the parent, two children and two cross peers.
    assert_eq!(asked, [ASKED_MAX / 5; 2]);
}
