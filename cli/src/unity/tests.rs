//! What a laptop makes of two policies for one place, and of the one that unites them, whatever comes first.

use std::collections::BTreeSet;

use borgios_policy::fixture::{Council, NOW, release_body, statement as draft};
use borgios_policy::policy::UNITES_MAX;
use borgios_policy::rules::rulings_max;
use borgios_policy::{
    Board, Chain, Governor, Lane, Object as _, Objection, Policy, Ruling, Statement, Veto,
};
use borgios_types::{Digest, Envelope, Round, SecretKey, Seq};

use crate::archive::Archive;
use crate::home::Home;
use crate::objections::{Said, restore};
use crate::unity::unite_as_many;

/// A board of 2 of 3 with a lock on policies: policy/2, vetoed, its next round, and what is signed upon that.
struct Apart {
    council: Council,
    first: Envelope,
    vetoed: Envelope,
    vetoes: Vec<Envelope>,
    next: Envelope,
    united: Envelope,
}

impl Apart {
    /// The vetoed one has the lower id, or the higher; the last one unites both, and is as `change` makes it.
    fn of(lower: bool, change: impl Fn(&Council, &mut Policy)) -> Self {
        let council = Council::new(3, 2, 1, 1);
        let mut rules = council.policy(2);
        rules.classes.policy.lock_s = Some(600);
        let first = council.sign(&draft(Lane::Policy, 1, None, None, None, rules.to_body()));
        let network = Some(first.id());
        let second = |fanout: u16, round: u32| {
            let body = Policy { fanout, ..rules.clone() }.to_body();
            let one = draft(Lane::Policy, 2, network, network, Some(1), body);
            council.sign(&Statement { round: Round(round), ..one })
        };
        let next = second(9, 1);
        let fits = |one: &Envelope| (one.id() < next.id()) == lower;
        let vetoed = (10..100).map(|fanout| second(fanout, 0)).find(fits).unwrap();
        let mut third = Policy { fanout: 8, unites: [vetoed.id()].into(), ..rules.clone() };
        change(&council, &mut third);
        let third = draft(Lane::Policy, 3, network, Some(next.id()), Some(2), third.to_body());
        let united = council.sign(&third);
        let veto = |at: usize| {
            let (governor, group) = (council.name(at), council.board.group());
            let key = &council.keys[&governor];
            let (statement, network) = (vetoed.id(), first.id());
            let (lane, seq, reason) = (Lane::Policy, Seq(2), "no".to_owned());
            let said =
                Objection { network, group, governor, statement, lane, seq, reason, at: NOW };
            Veto(said).to_envelope().sign(key)
        };
        let vetoes = vec![veto(0), veto(1)];
        Self { council, first, vetoed, vetoes, next, united }
    }
}

fn held(chain: &Chain) -> Vec<Digest> {
    chain.after(Lane::Policy, Seq(1)).map(borgios_policy::VerifiedStatement::id).collect()
}

/// Brings each batch, then everything once more, as one run after the other does.
fn laptop(network: Digest, batches: &[&[Envelope]]) -> (tempfile::TempDir, Vec<Digest>) {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::at(Some(folder.path().to_owned())).unwrap();
    let mut archive = Archive::load(&home, network).unwrap();
    for batch in batches.iter().chain(batches) {
        archive.admit(NOW, batch.to_vec()).unwrap();
    }
    let here = held(archive.chain());
    let again = Archive::load(&home, network).unwrap();
    assert_eq!(held(again.chain()), here, "another start, another chain");
    (folder, here)
}

#[test]
fn whatever_comes_first_it_ends_at_the_next_round_and_what_is_upon_it() {
    for lower in [true, false] {
        let Apart { first, vetoed, vetoes, next, united, .. } = Apart::of(lower, |_, _| ());
        let (network, ids) = (first.id(), [next.id(), united.id()]);
        let other = [vetoed.id(), united.id()];
        let (first, vetoed, next, united) = ([first], [vetoed], [next], [united]);
        for (order, ids) in [
            ([&vetoed[..], &vetoes, &next, &united], ids),
            ([&vetoes, &vetoed, &next, &united], ids),
            ([&next, &united, &vetoed, &vetoes], ids),
            ([&next, &vetoed, &vetoes, &united], ids),
            // As without the next round, below; that comes too late then.
            ([&vetoed, &vetoes, &united, &next], other),
        ] {
            let batches: Vec<&[Envelope]> = [&first[..]].into_iter().chain(order).collect();
            assert_eq!(laptop(network, &batches).1, ids, "{lower}");
        }
    }
}

/// All servers that it reaches applied the vetoed one, and take no other for its place.
#[test]
fn without_the_next_round_it_follows_the_servers_that_have_the_vetoed_one() {
    for lower in [true, false] {
        let Apart { first, vetoed, vetoes, united, .. } = Apart::of(lower, |_, _| ());
        let (network, ids) = (first.id(), [vetoed.id(), united.id()]);
        let (first, vetoed, united) = ([first], [vetoed], [united]);
        for order in [
            [&vetoed[..], &united, &vetoes],
            [&vetoed, &vetoes, &united],
            [&vetoes, &vetoed, &united],
        ] {
            let batches: Vec<&[Envelope]> = [&first[..]].into_iter().chain(order).collect();
            assert_eq!(laptop(network, &batches).1, ids, "{lower}");
        }
    }
}

/// Who knew of no veto proposed it the other way round: upon the vetoed one, united with the next round.
#[test]
fn what_is_upon_the_vetoed_one_and_unites_the_next_round_keeps_that() {
    for lower in [true, false] {
        let of = Apart::of(lower, |_, _| ());
        let (network, council) = (Some(of.first.id()), &of.council);
        let read = Statement::parse(&of.united).unwrap();
        let rules = Policy::parse(&read.body).unwrap();
        let rules = Policy { unites: [of.next.id()].into(), ..rules };
        let third = draft(Lane::Policy, 3, network, Some(of.vetoed.id()), Some(2), rules.to_body());
        let united = [council.sign(&third)];
        let (first, vetoed, next) = ([of.first.clone()], [of.vetoed.clone()], [of.next.clone()]);
        let ids = [next[0].id(), united[0].id()];
        for order in [[&vetoed[..], &of.vetoes], [&of.vetoes[..], &vetoed]] {
            let batches: Vec<&[Envelope]> =
                [&first[..]].into_iter().chain(order).chain([&next[..], &united]).collect();
            assert_eq!(laptop(of.first.id(), &batches).1, ids, "{lower}");
        }
    }
}

/// The veto was one when it was said, by the key that its governor had then.
#[test]
fn a_new_identity_of_who_vetoed_brings_nothing_back() {
    let repair = |council: &Council, policy: &mut Policy| {
        let board = &council.board;
        let key = SecretKey::from_seed([77; 32]).public();
        let seat = |one: &Governor| match one.name == council.name(0) {
            true => one.with_identity(key, one.recipient.clone()),
            false => one.clone(),
        };
        let seats = board.governors().iter().map(seat).collect();
        policy.board = Board::new(board.epoch(), board.threshold(), board.group(), seats).unwrap();
    };
    for lower in [true, false] {
        let Apart { council, first, vetoed, vetoes, next, united } = Apart::of(lower, repair);
        let none = BTreeSet::new();
        let said = Said { vetoes: &vetoes, recovered: &none, upheld: &none };
        let all = vec![first.clone(), vetoed.clone(), next.clone(), united.clone()];
        let (chain, dead) = restore(first.id(), all, &said).unwrap();
        assert_eq!(dead, BTreeSet::from([vetoed.id()]), "{lower}");
        assert_eq!(held(&chain), [next.id(), united.id()], "{lower}");
        let seat = chain.policy().unwrap().board.by_name(&council.name(0)).unwrap();
        assert_ne!(seat.key, council.keys[&council.name(0)].public());
    }
}

/// Its proposer is told which: servers that have one of those in force do not take it.
#[test]
fn what_one_policy_has_no_room_for_is_named() {
    let council = Council::new(3, 2, 1, 1);
    let first = council.sign(&council.first_policy(2));
    let chain = Chain::restore(Some(first.id()), [first]).unwrap();
    let closes = |id: u8, from: u64, count: usize| {
        let places = (from..).take(count);
        let rulings = places.map(|seq| Ruling::new(Lane::Release, Seq(seq), None)).collect();
        (Digest::of(&[id]), Policy { rulings, ..council.policy(2) })
    };
    let united = |others: Vec<(Digest, Policy)>| {
        let mut policy = council.policy(2);
        let left_out = unite_as_many(&chain, others, &mut policy);
        (policy, left_out)
    };
    let (few, many) = (closes(1, 1, 1), closes(2, 2, rulings_max(2)));
    let (policy, left_out) = united(vec![few.clone(), many.clone()]);
    assert_eq!(policy.unites, BTreeSet::from([few.0]));
    assert_eq!(policy.rulings.len(), 1);
    assert_eq!(left_out, [many.0]);
    let (policy, left_out) = united(vec![many.clone()]);
    assert!(policy.unites.is_empty() && policy.rulings.is_empty());
    assert_eq!(left_out, [many.0]);
    let (policy, left_out) = united(vec![few]);
    assert!(policy.unites.len() == 1 && left_out.is_empty());
    let ids: Vec<u8> = (1..).take(UNITES_MAX + 1).collect();
    let (policy, left_out) = united(ids.iter().map(|id| closes(*id, 1, 0)).collect());
    assert_eq!(policy.unites.len(), UNITES_MAX);
    assert_eq!(left_out, [Digest::of(&[ids[UNITES_MAX]])]);
}

/// The vetoed one gave a place to another, its next round gives it back, and asks for more since.
#[test]
fn what_stands_is_there_before_what_a_dead_policy_let_in() {
    let council = Council::new(3, 2, 1, 1);
    let mut rules = council.policy(2);
    rules.classes.policy.lock_s = Some(600);
    let first = council.sign(&draft(Lane::Policy, 1, None, None, None, rules.to_body()));
    let network = Some(first.id());
    let release = |seq: u64, prev: Option<Digest>, version: &str| {
        let body = release_body(version);
        council.sign(&draft(Lane::Release, seq, network, prev, Some(1), body))
    };
    let (stands, let_in) = (release(1, None, "1.0"), release(1, None, "1.1"));
    let upon = release(2, Some(stands.id()), "2.0");
    rules.classes.release.approvals = 3;
    let second = |fanout: u16, round: u32, winner: &Envelope| {
        let rulings = vec![Ruling::new(Lane::Release, Seq(1), Some(winner.id()))];
        let body = Policy { fanout, rulings, ..rules.clone() }.to_body();
        let one = draft(Lane::Policy, 2, network, network, Some(1), body);
        council.sign(&Statement { round: Round(round), ..one })
    };
    let next = second(9, 1, &stands);
    for lower in [true, false] {
        let fits = |one: &Envelope| (one.id() < next.id()) == lower;
        let mut all = (10..=256).map(|fanout| second(fanout, 0, &let_in));
        let vetoed = all.find(fits).unwrap();
        let veto = |at: usize| {
            let (governor, group) = (council.name(at), council.board.group());
            let key = &council.keys[&governor];
            let (statement, network) = (vetoed.id(), first.id());
            let (lane, seq, reason) = (Lane::Policy, Seq(2), "no".to_owned());
            let said =
                Objection { network, group, governor, statement, lane, seq, reason, at: NOW };
            Veto(said).to_envelope().sign(key)
        };
        let (vetoes, none) = ([veto(0), veto(1)], BTreeSet::new());
        let said = Said { vetoes: &vetoes, recovered: &none, upheld: &none };
        let stored = [&first, &let_in, &upon, &stands, &next, &vetoed].map(Envelope::clone);
        let (chain, dead) = restore(first.id(), Vec::from(stored), &said).unwrap();
        assert_eq!(dead, BTreeSet::from([vetoed.id()]), "{lower}");
        assert_eq!(held(&chain), [next.id()], "{lower}");
        let releases = chain.after(Lane::Release, Seq(0));
        let releases: Vec<_> = releases.map(borgios_policy::VerifiedStatement::id).collect();
        assert_eq!(releases, [stands.id(), upon.id()], "{lower}");
    }
}
