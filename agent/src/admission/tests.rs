//! Whose room is whose, and who is to blame.

use borgios_policy::fixture::{Council, NOW, release_body, statement as draft};
use borgios_policy::{Verdict, merge_signatures};

use super::*;

/// Two boards with the same names and other keys, and the chain in which the second one is in force.
fn succession() -> (Council, Council, Chain) {
    let (former, council) = (Council::new(3, 2, 1, 1), Council::new(3, 2, 2, 2));
    let first = former.sign(&former.first_policy(2));
    let network = first.id();
    let mut chain = Chain::new(Some(network));
    let body = council.policy(2).to_body();
    let second = draft(Lane::Policy, 2, Some(network), Some(network), Some(1), body);
    let second = merge_signatures(&former.sign(&second), &council.sign(&second)).unwrap();
    for envelope in [&first, &second] {
        let Ok(Verdict::New(verified)) = chain.verify(NOW, envelope, &[]) else {
            panic!("refused")
        };
        chain.apply(*verified);
    }
    (former, council, chain)
}

/// A neighbour whose policy is newer than ours relays what its new governor says; one that claims
/// a known governor's signature and has none forges.
#[test]
fn an_unknown_governors_note_is_nobodys_fault_a_forged_one_is() {
    let council = Council::new(3, 2, 1, 1);
    let first = council.sign(&council.first_policy(2));
    let network = first.id();
    let mut chain = Chain::new(Some(network));
    let Ok(Verdict::New(verified)) = chain.verify(NOW, &first, &[]) else { panic!("refused") };
    chain.apply(*verified);
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(folder.path()).unwrap();
    let note = Note { network, text: "hello".into(), at: NOW }.to_envelope();
    let stranger = borgios_types::SecretKey::from_seed([99; 32]);
    let mut envelope = note.sign(&stranger);
    assert!(may_hold_elsewhere(&chain, &store, &envelope));
    envelope.sigs[0].by = council.keys[&council.name(0)].public();
    assert!(!may_hold_elsewhere(&chain, &store, &envelope));
    let node = stranger.public();
    let departure = Departure { network, node, at: NOW }.to_envelope().sign(&stranger);
    assert!(may_hold_elsewhere(&chain, &store, &departure), "whose owner is not known here");
    for code in ["bad_signature", "malformed", "wrong_network"] {
        assert!(!BLAMELESS.contains(&code) && !UNDECIDED.contains(&code));
    }
}

/// A board decides for ever: what it published for places that have their statement makes room.
#[test]
fn a_governors_quota_is_no_end_of_decisions() {
    let council = Council::new(3, 2, 1, 1);
    let first = council.sign(&council.first_policy(2));
    let network = first.id();
    let mut chain = Chain::new(Some(network));
    let apply = |chain: &mut Chain, envelope: &Envelope| {
        let Ok(Verdict::New(verified)) = chain.verify(NOW, envelope, &[]) else {
            panic!("refused")
        };
        chain.apply(*verified);
    };
    apply(&mut chain, &first);
    let release = draft(Lane::Release, 1, Some(network), None, Some(1), release_body("1"));
    let ann = &council.keys[&council.name(0)];
    let proposal = |n: usize| {
        let statement = release.to_payload();
        let (governor, note) = (council.name(0), Some(n.to_string()));
        Proposal { governor, statement, lane: Lane::Release, note }.to_envelope().sign(ann)
    };
    let folder = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(folder.path()).unwrap();
    let (evicted, now, lapsed_kept) = (BTreeSet::new(), NOW, 0);
    let quota = QUOTAS[0].1;
    for n in 0..=quota {
        let judge = Judge {
            chain: &chain,
            store: &store,
            gate: &Gate::default(),
            me: None,
            evicted: &evicted,
            now,
            lapsed_kept,
            fresh: true,
        };
        match judge.judge(&proposal(n)) {
            Ok(Passed { owner, date, replaces }) => {
                assert!(n < quota && replaces.is_empty());
                store.put(proposal(n), owner, date).unwrap();
            }
            Err(Denied::Wrong { code, .. }) => assert_eq!((n, code), (quota, "too_many")),
            Err(_) => panic!("proposal {n}"),
        }
    }
    apply(&mut chain, &council.sign(&release));
    let judge = Judge {
        chain: &chain,
        store: &store,
        gate: &Gate::default(),
        me: None,
        evicted: &evicted,
        now,
        lapsed_kept,
        fresh: true,
    };
    let Ok(Passed { replaces, .. }) = judge.judge(&proposal(quota)) else {
        panic!("no room was made")
    };
    assert_eq!(replaces.len(), 1);
}

/// A key that a board replaced under the same name fills room of its own, and none of its successor's.
#[test]
fn a_key_that_was_replaced_takes_no_room_of_who_has_its_name_now() {
    let (former, council, chain) = succession();
    let network = chain.network().unwrap();
    let (this, prev) = (Some(network), Some(network));
    let release = draft(Lane::Release, 99, this, prev, Some(1), release_body("1"));
    let proposal = |council: &Council, n: usize| {
        let (statement, note) = (release.to_payload(), Some(n.to_string()));
        let governor = council.name(0);
        let ann = &council.keys[&governor];
        Proposal { governor, statement, lane: Lane::Release, note }.to_envelope().sign(ann)
    };
    let folder = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(folder.path()).unwrap();
    let judged = |store: &Store, envelope: &Envelope| {
        let (chain, gate, evicted) = (&chain, &Gate::default(), &BTreeSet::new());
        let (me, now, lapsed_kept, fresh) = (None, NOW, 0, true);
        Judge { chain, store, gate, me, evicted, now, lapsed_kept, fresh }.judge(envelope)
    };
    let quota = QUOTAS[0].1;
    for n in 0..quota {
        let Ok(Passed { owner, date, .. }) = judged(&store, &proposal(&former, n)) else {
            panic!("proposal {n} was refused: {:?}", judged(&store, &proposal(&former, n)).err())
        };
        assert_eq!(owner, "ann@former");
        store.put(proposal(&former, n), owner, date).unwrap();
    }
    let more = judged(&store, &proposal(&former, quota));
    assert!(matches!(more, Err(Denied::Wrong { code: "too_many", .. })));
    let Ok(Passed { owner, .. }) = judged(&store, &proposal(&council, quota + 1)) else {
        panic!("ann was refused")
    };
    assert_eq!(owner, "ann");
}

/// What lay here when the key was replaced moves with it, at once and not with the next start.
#[test]
fn what_was_said_with_a_key_makes_room_when_the_key_is_replaced() {
    let (former, council, chain) = succession();
    let said = |council: &Council, at: usize| {
        let statement = draft(Lane::Release, 9, chain.network(), None, Some(1), release_body("1"));
        let note = Some(format!("{at} {}", council.board.group().short()));
        let (governor, statement) = (council.name(at), statement.to_payload());
        let proposal = Proposal { governor, statement, lane: Lane::Release, note };
        proposal.to_envelope().sign(&council.keys[&council.name(at)])
    };
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = crate::ledger::Ledger::open(folder.path(), 0).unwrap();
    for (envelope, owner) in
        [(said(&former, 0), "ann"), (said(&former, 1), "ben"), (said(&council, 0), "ann@former")]
    {
        ledger.store.put(envelope, owner.to_owned(), 0).unwrap();
    }
    ledger.chain = chain.clone();
    ledger.look_at_speakers();
    let owned = |owner: &str| {
        let owned = ledger.store.owned(Proposal::KIND, owner);
        owned.map(|stored| stored.envelope.clone()).collect::<Vec<_>>()
    };
    assert_eq!(owned("ann"), [said(&council, 0)]);
    assert_eq!(owned("ann@former"), [said(&former, 0)]);
    assert_eq!(owned("ben@former"), [said(&former, 1)]);
    assert_eq!(ledger.store.counts().collect::<Vec<_>>(), [(Proposal::KIND, 3)]);
    assert!(ledger.store.get(&said(&former, 1).id()).is_some_and(|one| one.by() == "ben"));
}

/// Of several signatures the one that holds says whose room it is, whatever key the others name.
#[test]
fn a_forged_signature_beside_the_true_one_chooses_no_room() {
    let (former, council, chain) = succession();
    let ann = former.name(0);
    let keys = [&former, &council].map(|council| council.keys[&ann].public());
    // What `council`'s governor said, behind a signature that the key `claimed` did not make.
    let said = |council: &Council, claimed: PublicKey| {
        let statement = draft(Lane::Release, 9, chain.network(), None, Some(1), release_body("1"));
        let note = Some(council.board.group().short());
        let (governor, statement) = (ann.clone(), statement.to_payload());
        let proposal = Proposal { governor, statement, lane: Lane::Release, note };
        let forger = borgios_types::SecretKey::from_seed([99; 32]);
        let mut envelope = proposal.to_envelope().sign(&forger);
        envelope.sigs[0].by = claimed;
        envelope.sign(&council.keys[&ann])
    };
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = crate::ledger::Ledger::open(folder.path(), 0).unwrap();
    let (stolen, own) = (said(&former, keys[1]), said(&council, keys[0]));
    for envelope in [&stolen, &own] {
        ledger.store.put(envelope.clone(), "ann".to_owned(), 0).unwrap();
    }
    ledger.chain = chain.clone();
    ledger.look_at_speakers();
    let owned = |owner: &str| {
        let owned = ledger.store.owned(Proposal::KIND, owner);
        owned.map(|stored| stored.envelope.clone()).collect::<Vec<_>>()
    };
    assert_eq!(owned("ann"), [own]);
    assert_eq!(owned("ann@former"), [stolen]);
}

/// Whoever stole a former board's key cannot keep its governor from speaking on the new one.
#[test]
fn a_former_boards_key_takes_no_place_of_the_same_name_on_the_board_in_force() {
    let (former, council, chain) = succession();
    let network = chain.network().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(folder.path()).unwrap();
    let beacon = |council: &Council, time: UnixSeconds| {
        let (governor, group) = (council.name(0), council.board.group());
        let key = &council.keys[&governor];
        let heads = std::collections::BTreeMap::new();
        Beacon { network, group, governor, time, heads, counter: 1 }.to_envelope().sign(key)
    };
    let (evicted, now, lapsed_kept) = (BTreeSet::new(), NOW, 0);
    let ahead = NOW.plus(AHEAD_MAX);
    for (envelope, replaced) in [
        (beacon(&former, ahead), 0),
        (beacon(&council, NOW), 0),
        (beacon(&council, NOW.plus(1)), 1),
    ] {
        let judge = Judge {
            chain: &chain,
            store: &store,
            gate: &Gate::default(),
            me: None,
            evicted: &evicted,
            now,
            lapsed_kept,
            fresh: true,
        };
        let Ok(Passed { owner, date, replaces }) = judge.judge(&envelope) else {
            panic!("a beacon was refused")
        };
        assert_eq!(replaces.len(), replaced);
        store.remove(&replaces);
        assert_eq!(store.put(envelope, owner, date).unwrap().by(), "ann");
    }
    assert_eq!(store.list(Beacon::KIND, None).count(), 2);
}
