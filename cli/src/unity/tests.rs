//! What a laptop makes of two policies for one place, and of the one that unites them, whatever comes first.

use std::collections::BTreeSet;

use borgios_policy::fixture::{Council, NOW, statement as draft};
use borgios_policy::{
    Board, Chain, Governor, Lane, Object as _, Objection, Policy, Statement, Veto,
};
use borgios_types::{Digest, Envelope, Round, SecretKey, Seq};

use crate::archive::Archive;
use crate::home::Home;
use crate::objections::{Said, restore};

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
