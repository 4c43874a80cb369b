//! What of the chain a neighbour gets.

use borgios_policy::fixture::{Council, NOW, release_body, statement as draft};
use borgios_policy::{Policy, Ruling, Verdict};
use borgios_types::Seq;

use super::*;

/// A rare lane behind a long history of another one: what is asked for is all that comes, or its one
/// statement would be out of reach, and the answer nothing but what the asker has.
#[test]
fn a_rare_lane_is_followed_past_whatever_lies_before_it() {
    let council = Council::new(3, 2, 1, 1);
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(folder.path(), 0).unwrap();
    let first = council.sign(&council.first_policy(2));
    let network = Some(first.id());
    ledger.chain = Chain::new(network);
    let enter = |ledger: &mut Ledger, envelope: Envelope| {
        let Ok(Verdict::New(verified)) = ledger.chain.verify(NOW, &envelope, &[]) else {
            panic!("refused")
        };
        ledger.chain.apply(*verified);
        let id = envelope.id();
        // As if its file were there.
        ledger.store.index(envelope, "board".to_owned(), NOW.0);
        id
    };
    let release = |seq: u64, prev, policy| {
        let body = release_body(&seq.to_string());
        council.sign(&draft(Lane::Release, seq, network, prev, Some(policy), body))
    };
    let evict = |seq, prev, policy, node| {
        let body = Eviction { evict: vec![node], reason: "dark".into() }.to_body();
        council.sign(&draft(Lane::Member, seq, network, prev, Some(policy), body))
    };
    let node = |n| borgios_types::SecretKey::from_seed([n; 32]).public();
    let mut history = vec![enter(&mut ledger, first)];
    let mut prev = None;
    for seq in 1..=5 {
        prev = Some(enter(&mut ledger, release(seq, prev, 1)));
        history.extend(prev);
    }
    let out = enter(&mut ledger, evict(1, None, 1, node(90)));
    let last = enter(&mut ledger, release(6, prev, 1));
    let body = Policy { fanout: 5, ..council.policy(2) }.to_body();
    let second = council.sign(&draft(Lane::Policy, 2, network, network, Some(1), body));
    let second = enter(&mut ledger, second);
    let behind = enter(&mut ledger, evict(2, Some(out), 2, node(91)));
    history.extend([out, last, second, behind]);

    let answer = |lane, after, most| -> Vec<Digest> {
        let all = ledger.follow(lane, Seq(after), most, &BTreeMap::new());
        all.iter().map(|stored| stored.id).collect()
    };
    let to_one_who_has = |has: &[(Lane, u64)], lane, after| -> Vec<Digest> {
        let head = |lane, seq| {
            let id = ledger.chain.get(lane, Seq(seq)).unwrap().id();
            (lane, Head { seq, id })
        };
        let has = has.iter().map(|(lane, seq)| head(*lane, *seq)).collect();
        ledger.follow(lane, Seq(after), 64, &has).iter().map(|stored| stored.id).collect()
    };
    // However much lies before the next policy, it comes to whoever has that.
    let has = [(Lane::Release, 6), (Lane::Member, 1)];
    assert_eq!(to_one_who_has(&has, Lane::Policy, 1), [second, behind]);
    assert_eq!(to_one_who_has(&has[..1], Lane::Policy, 1), [out, second, behind]);
    // A policy that is there already ends no answer.
    assert_eq!(to_one_who_has(&[(Lane::Policy, 2)], Lane::Member, 0), [out, behind]);
    // No place was ruled on: whoever has a greater number is farther along.
    let farther = Head { seq: 9, id: Digest::of(b"farther") };
    let has = BTreeMap::from([(Lane::Release, farther), (Lane::Member, farther)]);
    let all = ledger.follow(Lane::Policy, Seq(1), 64, &has);
    assert_eq!(all.iter().map(|stored| stored.id).collect::<Vec<_>>(), [second]);
    assert_eq!(answer(Lane::Member, 0, 64), [out], "and no more than its policy allows");
    assert_eq!(answer(Lane::Member, 1, 64), [behind]);
    assert_eq!(answer(Lane::Member, 2, 64), []);
    assert_eq!(answer(Lane::Release, 0, 64), [&history[1..6], &[last]].concat());
    assert_eq!(answer(Lane::Release, 3, 2), history[4..6]);
    assert_eq!(answer(Lane::Policy, 0, 64), history, "policies with what lies between");
    assert_eq!(answer(Lane::Policy, 1, 64), history[1..]);
}

/// A neighbour that was away while a place was closed has the numbers of the branch that lost, and not what
/// stands there: behind the next policy that would be refused, and its lane would end for good.
#[test]
fn who_has_the_numbers_of_another_branch_gets_what_stands_there() {
    let council = Council::new(3, 2, 1, 1);
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(folder.path(), 0).unwrap();
    let first = council.sign(&council.first_policy(2));
    let network = Some(first.id());
    ledger.chain = Chain::new(network);
    let enter = |ledger: &mut Ledger, envelope: Envelope| {
        let Ok(Verdict::New(verified)) = ledger.chain.verify(NOW, &envelope, &[]) else {
            panic!("refused")
        };
        ledger.chain.apply(*verified);
        let id = envelope.id();
        // As if its file were there.
        ledger.store.index(envelope, "board".to_owned(), NOW.0);
        id
    };
    let release = |version: &str, seq, prev, policy| {
        let body = release_body(version);
        council.sign(&draft(Lane::Release, seq, network, prev, Some(policy), body))
    };
    let policy = |seq, prev, rulings: Vec<Ruling>| {
        let body = Policy { rulings, ..council.policy(2) }.to_body();
        council.sign(&draft(Lane::Policy, seq, network, Some(prev), Some(seq - 1), body))
    };
    let one = enter(&mut ledger, first);
    let lost = enter(&mut ledger, release("lost", 1, None, 1));
    let closed = vec![Ruling::new(Lane::Release, Seq(1), None)];
    let second = enter(&mut ledger, policy(2, one, closed));
    let next = enter(&mut ledger, release("2", 2, Some(second), 2));
    let last = enter(&mut ledger, release("3", 3, Some(next), 2));
    let third = enter(&mut ledger, policy(3, second, Vec::new()));

    let to_one_at = |seq, id, after| -> Vec<Digest> {
        let has = BTreeMap::from([(Lane::Release, Head { seq, id })]);
        let all = ledger.follow(Lane::Policy, Seq(after), 64, &has);
        all.iter().map(|stored| stored.id).collect()
    };
    let all = [second, next, last, third];
    assert_eq!(to_one_at(1, lost, 1), all);
    assert_eq!(to_one_at(3, Digest::of(b"built on what was lost"), 1), all);
    assert_eq!(to_one_at(3, last, 1), [second, third], "it has them");
    assert_eq!(to_one_at(1, second, 2), [next, last, third], "where the place is closed");
}

/// However long the lane is that a policy rules on: what lies before the first place that it rules on is
/// nothing that another branch lacks, and what fills an answer without its policy is no answer.
#[test]
fn who_is_on_another_branch_of_a_long_lane_gets_the_policy_that_rules_on_it() {
    let council = Council::new(3, 2, 1, 1);
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(folder.path(), 0).unwrap();
    let first = council.sign(&council.first_policy(2));
    let network = Some(first.id());
    ledger.chain = Chain::new(network);
    let enter = |ledger: &mut Ledger, envelope: Envelope| {
        let Ok(Verdict::New(verified)) = ledger.chain.verify(NOW, &envelope, &[]) else {
            panic!("refused")
        };
        ledger.chain.apply(*verified);
        let id = envelope.id();
        // As if its file were there.
        ledger.store.index(envelope, "board".to_owned(), NOW.0);
        id
    };
    let release = |version: &str, seq, prev| {
        let body = release_body(version);
        council.sign(&draft(Lane::Release, seq, network, prev, Some(1), body))
    };
    let policy = |seq, prev, rulings: Vec<Ruling>| {
        let body = Policy { rulings, ..council.policy(2) }.to_body();
        council.sign(&draft(Lane::Policy, seq, network, Some(prev), Some(seq - 1), body))
    };
    let to_one_at = |ledger: &Ledger, seq, id| -> Vec<Digest> {
        let has = BTreeMap::from([(Lane::Release, Head { seq, id })]);
        let all = ledger.follow(Lane::Policy, Seq(1), 64, &has);
        all.iter().map(|stored| stored.id).collect()
    };
    let one = enter(&mut ledger, first);
    let start = enter(&mut ledger, release("1", 1, None));
    let mut last = start;
    for seq in 2_u64..=1_100 {
        last = enter(&mut ledger, release(&seq.to_string(), seq, Some(last)));
    }
    let lost = enter(&mut ledger, release("lost", 1_101, Some(last)));
    let closed = vec![Ruling::new(Lane::Release, Seq(1_101), None)];
    let second = enter(&mut ledger, policy(2, one, closed));
    let farther = Digest::of(b"built on what was lost");
    assert_eq!(to_one_at(&ledger, 1_101, lost), [second]);
    assert_eq!(to_one_at(&ledger, 1_103, farther), [second]);
    assert_eq!(to_one_at(&ledger, 1_099, farther).len(), 2, "which it may lack");
    // Where a policy rules on the first place all of it may be lacked, and is more than an answer holds.
    let stays = vec![Ruling::new(Lane::Release, Seq(1), Some(start))];
    let third = enter(&mut ledger, policy(3, second, stays));
    assert_eq!(to_one_at(&ledger, 1_101, farther), [second], "the next one comes next");
    assert_eq!(to_one_at(&ledger, 1_100, last), [second, third]);
}
