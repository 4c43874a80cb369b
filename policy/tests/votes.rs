//! One-touch votes: the tally is a pure function of the set of objects, a saboteur is named and
//! an honest governor never, and a further round opens only over dead documents.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use std::collections::BTreeSet;

use borgios_policy::fixture::{Council, release_body, statement};
use borgios_policy::{
    Ballot, Choice, Intent, Lane, Name, Object as _, OpenRound, Pool, Proof, RoundError, Seed,
    Slot, State, Statement, Tally, VoteError, tally,
};
use borgios_types::{Digest, Envelope, Round, Seq};
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;

fn release(version: &str, round: u32) -> Statement {
    let network = Some(Digest::of(b"network"));
    let prev = Some(Digest::of(b"prev"));
    let plain = statement(Lane::Release, 42, network, prev, Some(1), release_body(version));
    Statement { round: Round(round), ..plain }
}

fn names(council: &Council) -> Vec<Name> {
    council.keys.keys().cloned().collect()
}

/// Approves with shares that are all wrong, and signs that.
fn sabotage(council: &Council, name: &Name, statement: &Statement, pools: &[Envelope]) -> Envelope {
    let mut ballot = Ballot::parse(&council.approve(name, statement, pools)).unwrap();
    let Choice::Approve { shares, .. } = &mut ballot.choice else { panic!("it approves") };
    for share in shares.0.chunks_exact_mut(32) {
        // Another error for each name: two of the same size could cancel each other out.
        share[0] ^= name.as_str().as_bytes()[0];
    }
    ballot.to_envelope().sign(&council.keys[name])
}

fn count(
    council: &Council,
    documents: &[&Statement],
    pools: &[Envelope],
    ballots: &[Envelope],
) -> Tally {
    let slot = council.slot(documents[0]);
    let texts: Vec<String> = documents.iter().map(|document| document.to_payload()).collect();
    tally(&council.board, slot, &texts, pools, ballots)
}

fn id(statement: &Statement) -> Digest {
    statement.to_envelope().id()
}

#[test]
fn the_last_approval_that_is_needed_completes_the_signature() {
    for (n, t) in [(2, 2), (3, 2), (5, 3), (4, 4), (7, 4)] {
        let council = Council::new(n, t, 1, 1);
        let document = release("0.1", 0);
        let pools = council.pools(council.slot(&document));
        let mut ballots = Vec::new();
        for (cast, name) in (1..).zip(names(&council).iter().rev().take(usize::from(t))) {
            assert_eq!(count(&council, &[&document], &pools, &ballots).signed(), None);
            ballots.push(council.approve(name, &document, &pools));
            let standing =
                &count(&council, &[&document], &pools, &ballots).documents[&id(&document)];
            assert_eq!(standing.approvals.len(), cast);
            if cast < usize::from(t) {
                let missing = usize::from(t) - cast;
                assert_eq!(standing.state, State::Open { missing, passable: true });
            }
        }
        let tally = count(&council, &[&document], &pools, &ballots);
        let signed = tally.signed().unwrap();
        assert!(signed.signed_by(&council.board.group()), "{t} of {n}");
        assert_eq!(signed.payload, document.to_payload());
        assert_eq!(tally.culprits, []);
    }
}

/// 300 deliveries for each board in random order, with duplicates and forgeries, end in one and the same tally.
#[test]
fn order_duplicates_and_forgeries_do_not_matter() {
    for (n, t, seed) in [(3, 2, 11), (5, 3, 12)] {
        let council = Council::new(n, t, 1, 1);
        let (document, other) = (release("0.1", 0), release("6.6.6", 0));
        let all = names(&council);
        let mut pools = council.pools(council.slot(&document));
        let (saboteur, honest) = all.split_first().unwrap();
        let mut ballots = vec![sabotage(&council, saboteur, &document, &pools)];
        // On the larger board another one votes both ways.
        let two_faced = (n == 5).then(|| honest[3].clone());
        if let Some(name) = &two_faced {
            ballots.push(council.approve(name, &document, &pools));
            ballots.push(council.approve(name, &other, &pools));
        }
        let voters = &honest[..usize::from(t)];
        ballots.extend(voters.iter().map(|name| council.approve(name, &document, &pools)));
        let expected = count(&council, &[&document, &other], &pools, &ballots);
        assert!(expected.signed().is_some());
        let named: BTreeSet<&Name> = expected.culprits.iter().map(|c| &c.name).collect();
        let guilty: BTreeSet<&Name> =
            [Some(saboteur), two_faced.as_ref()].into_iter().flatten().collect();
        assert_eq!(named, guilty);
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let originals = (pools.clone(), ballots.clone());
        for delivery in 0..300 {
            (pools, ballots) = originals.clone();
            for list in [&mut pools, &mut ballots] {
                for _ in 0..4 {
                    list.push(list[rng.gen_range(0..list.len())].clone());
                    let mut forged = list[rng.gen_range(0..list.len())].clone();
                    forged.payload = match rng.gen_range(0..4) {
                        0 => forged.payload.replace("\"approve\"", "\"reject\""),
                        1 => forged.payload.replace("ann", "ben"),
                        2 => forged.payload.replacen('A', "B", 1),
                        _ => {
                            forged.sigs[0].sig.0[rng.gen_range(0..64)] ^= 1;
                            forged.payload
                        }
                    };
                    list.push(forged);
                }
                list.shuffle(&mut rng);
            }
            let found = count(&council, &[&other, &document], &pools, &ballots);
            assert_eq!(found, expected, "{t} of {n}, seed {seed}, delivery {delivery}");
        }
    }
}

#[test]
fn a_saboteur_is_named_and_fewer_than_t_good_approvals_sign_nothing() {
    let council = Council::new(5, 3, 1, 1);
    let document = release("0.1", 0);
    let pools = council.pools(council.slot(&document));
    let all = names(&council);
    let mut ballots: Vec<Envelope> =
        all[..2].iter().map(|name| sabotage(&council, name, &document, &pools)).collect();
    ballots.extend(all[2..4].iter().map(|name| council.approve(name, &document, &pools)));
    let tally = count(&council, &[&document], &pools, &ballots);
    assert_eq!(tally.signed(), None);
    assert_eq!(tally.documents[&id(&document)].state, State::Open { missing: 1, passable: true });
    let named: Vec<&Name> = tally.culprits.iter().map(|culprit| &culprit.name).collect();
    assert_eq!(named, [&all[0], &all[1]]);
    assert!(tally.culprits.iter().all(|culprit| matches!(culprit.proof, Proof::BadShare(_))));
    // The fifth governor completes it in spite of both.
    ballots.push(council.approve(&all[4], &document, &pools));
    assert!(count(&council, &[&document], &pools, &ballots).signed().is_some());
}

#[test]
fn a_ballot_with_numbers_that_are_no_shares_names_its_maker() {
    let council = Council::new(3, 2, 1, 1);
    let document = release("0.1", 0);
    let pools = council.pools(council.slot(&document));
    let all = names(&council);
    let mut ballot = Ballot::parse(&council.approve(&all[0], &document, &pools)).unwrap();
    if let Choice::Approve { shares, .. } = &mut ballot.choice {
        shares.0.fill(0xff);
    }
    let mut ballots = vec![ballot.to_envelope().sign(&council.keys[&all[0]])];
    ballots.extend(all[1..].iter().map(|name| council.approve(name, &document, &pools)));
    let tally = count(&council, &[&document], &pools, &ballots);
    assert!(tally.signed().is_some());
    assert_eq!(tally.culprits.len(), 1);
    assert_eq!(tally.culprits[0].name, all[0]);
}

#[test]
fn contradictory_ballots_are_evidence_and_do_not_count() {
    let council = Council::new(3, 2, 1, 1);
    let (document, other) = (release("0.1", 0), release("0.2", 0));
    let pools = council.pools(council.slot(&document));
    let all = names(&council);
    let ballots = [
        council.approve(&all[0], &document, &pools),
        council.approve(&all[1], &document, &pools),
        council.reject(&all[1], &other),
    ];
    let tally = count(&council, &[&document], &pools, &ballots);
    assert_eq!(tally.signed(), None);
    assert_eq!(tally.documents[&id(&document)].approvals, BTreeSet::from([all[0].clone()]));
    assert_eq!(tally.culprits.len(), 1);
    assert_eq!(tally.culprits[0].name, all[1]);
    assert!(matches!(tally.culprits[0].proof, Proof::TwoBallots(_, _)));
}

#[test]
fn a_further_round_opens_only_over_dead_documents() {
    let council = Council::new(3, 2, 1, 1);
    let (one, two) = (release("0.1", 0), release("0.2", 0));
    let next = release("0.3", 1);
    let pools = council.pools(council.slot(&one));
    let all = names(&council);
    let check =
        |ballots: &[Envelope]| OpenRound::check(&council.board, council.slot(&next), ballots);
    assert!(matches!(check(&[]), Err(RoundError::Undecided { voted: 0, .. })));
    let mut ballots = vec![council.approve(&all[0], &one, &pools)];
    assert!(matches!(check(&ballots), Err(RoundError::Undecided { voted: 1, .. })));
    // One approves another: too few are bound against either.
    ballots.push(council.approve(&all[1], &two, &pools));
    assert!(matches!(check(&ballots), Err(RoundError::Alive { bound: 1, .. })));
    let tally = count(&council, &[&one, &two], &pools, &ballots);
    let open = State::Open { missing: 1, passable: true };
    assert!(tally.documents.values().all(|standing| standing.state == open));
    // The third rejects one: both now have two against them.
    ballots.push(council.reject(&all[2], &one));
    let open = check(&ballots).unwrap();
    assert_eq!(open.slot(), council.slot(&next));
    let tally = count(&council, &[&one, &two], &pools, &ballots);
    assert!(tally.documents.values().all(|standing| standing.state == State::Dead));
    // Who contradicts himself binds nobody.
    ballots.push(council.approve(&all[2], &one, &pools));
    assert!(check(&ballots).is_err());
    // And the third round needs the second to be dead as well.
    let third = Slot { round: Round(2), ..council.slot(&next) };
    assert!(OpenRound::check(&council.board, third, &ballots[..3]).is_err());
    let far = Slot { round: Round(99), ..third };
    assert!(matches!(OpenRound::check(&council.board, far, &[]), Err(RoundError::TooMany(_))));
}

/// Begins an approval of `document` by the first governor.
fn begin(
    council: &Council,
    document: &Statement,
    pools: &[Envelope],
    without: &[&Name],
) -> Result<Intent, VoteError> {
    let me = &names(council)[0];
    let open = OpenRound::check(&council.board, council.slot(document), &[]).unwrap();
    let without = without.iter().map(|name| (*name).clone()).collect();
    let text = document.to_payload();
    Intent::approve(&council.board, me, &open, &text, pools, &without, None, 1)
}

#[test]
fn a_vote_that_was_cut_off_makes_the_same_bytes_again() {
    let council = Council::new(3, 2, 1, 1);
    let document = release("0.1", 0);
    let slot = council.slot(&document);
    let mut pools = council.pools(slot);
    let me = names(&council)[0].clone();
    let intent = begin(&council, &document, &pools, &[]).unwrap();
    let stored: Intent = serde_json::from_str(&serde_json::to_string(&intent).unwrap()).unwrap();
    assert_eq!(stored, intent);
    let seed = council.seed(&me, slot);
    let cast = |intent: &Intent, pools: &[Envelope]| {
        let ballot = intent.ballot(&council.board, &council.shares[&me], Some(&seed), pools);
        ballot.unwrap().to_payload()
    };
    let first = cast(&intent, &pools);
    pools.reverse();
    assert_eq!(cast(&stored, &pools), first);
}

#[test]
fn no_seed_signs_in_another_slot_or_over_another_pool() {
    let council = Council::new(3, 2, 1, 1);
    let document = release("0.1", 0);
    let slot = council.slot(&document);
    let pools = council.pools(slot);
    let me = names(&council)[0].clone();
    let intent = begin(&council, &document, &pools, &[]).unwrap();
    let key = &council.shares[&me];
    let elsewhere = council.seed(&me, Slot { seq: Seq(43), ..slot });
    let cast = |intent: &Intent, seed: Option<&Seed>, pools: &[Envelope]| {
        intent.ballot(&council.board, key, seed, pools).unwrap_err()
    };
    let own = council.seed(&me, slot);
    assert_eq!(cast(&intent, Some(&elsewhere), &pools), VoteError::OwnPool(slot));
    assert_eq!(cast(&intent, None, &pools), VoteError::NoSeed(slot));
    let without_ben = [pools[0].clone(), pools[2].clone()];
    assert!(matches!(cast(&intent, Some(&own), &without_ben), VoteError::PoolGone { .. }));
    // The text decides the slot; an intent that says otherwise is refused.
    let other_slot = Slot { seq: Seq(43), ..slot };
    let moved = Intent { slot: other_slot, ..intent.clone() };
    assert!(matches!(cast(&moved, Some(&own), &pools), VoteError::OtherSlot { .. }));
    // Another governor's key, and another board's.
    let other = &council.shares[&names(&council)[1]];
    let foreign = intent.ballot(&council.board, other, Some(&own), &pools);
    assert!(matches!(foreign, Err(VoteError::Foreign { .. })));
    assert!(
        borgios_policy::KeyShare::from_secret(
            &Council::new(3, 2, 1, 2).board,
            &me,
            &key.to_secret()
        )
        .is_err()
    );
}

#[test]
fn who_published_no_pool_or_two_must_be_left_out_by_name() {
    let council = Council::new(3, 2, 1, 1);
    let document = release("0.1", 0);
    let slot = council.slot(&document);
    let mut pools = council.pools(slot);
    let all = names(&council);
    let cleo = pools.pop().unwrap();
    let missing = begin(&council, &document, &pools, &[]).unwrap_err();
    assert_eq!(missing, VoteError::MissingPools { slot, names: vec![all[2].clone()] });
    // A pool of the same commitments under another id is no second pool.
    let more = council.pool(&all[2], &[slot, Slot { seq: Seq(50), ..slot }]);
    pools.extend([cleo, more]);
    begin(&council, &document, &pools, &[]).unwrap();
    // Other commitments for the slot are.
    let seed = Seed::from_bytes([7; 32]);
    let second = Pool::make(&council.board, &council.shares[&all[2]], &[(slot, seed)]).unwrap();
    pools.push(second.to_envelope().sign(&council.keys[&all[2]]));
    let twice = begin(&council, &document, &pools, &[]).unwrap_err();
    assert_eq!(twice, VoteError::TwoPools { slot, name: all[2].clone() });
    // Left out, the others sign without her.
    let ballots: Vec<Envelope> = all[..2]
        .iter()
        .map(|me| {
            let open = OpenRound::check(&council.board, slot, &[]).unwrap();
            let without = BTreeSet::from([all[2].clone()]);
            let text = document.to_payload();
            let intent =
                Intent::approve(&council.board, me, &open, &text, &pools, &without, None, 1);
            let (key, seed) = (&council.shares[me], council.seed(me, slot));
            let ballot = intent.unwrap().ballot(&council.board, key, Some(&seed), &pools).unwrap();
            ballot.to_envelope().sign(&council.keys[me])
        })
        .collect();
    let tally = count(&council, &[&document], &pools, &ballots);
    assert!(tally.signed().is_some());
    assert!(matches!(tally.culprits[..], [ref cleo] if cleo.name == all[2]
        && matches!(cleo.proof, Proof::TwoPools(_, _))));
    // Leaving out so many that the rest cannot sign is refused, and so is oneself without a pool.
    let few = begin(&council, &document, &pools, &[&all[1], &all[2]]).unwrap_err();
    assert_eq!(few, VoteError::TooFew { named: 1, needed: 2 });
    let none = begin(&council, &document, &[], &[&all[1], &all[2]]).unwrap_err();
    assert_eq!(none, VoteError::NoOwnPool(slot));
}

#[test]
fn damaged_and_foreign_pools_are_refused() {
    let council = Council::new(3, 2, 1, 1);
    let slot = council.slot(&release("0.1", 0));
    let me = names(&council)[0].clone();
    let good = council.pool(&me, &[slot]);
    let pool = Pool::verify(&council.board, &good).unwrap();
    let signed = |pool: &Pool| pool.to_envelope().sign(&council.keys[&me]);
    let code = |envelope: &Envelope| Pool::verify(&council.board, envelope).unwrap_err().code();
    let mut short = pool.clone();
    short.commitments.0.truncate(64);
    assert_eq!(code(&signed(&short)), "bad_body");
    let mut no_point = pool.clone();
    no_point.commitments.0[..32].fill(0xff);
    assert_eq!(code(&signed(&no_point)), "bad_body");
    // Of order 4: read back it passes, and whoever would vote with it is told whose it is.
    let mut small = pool.clone();
    small.commitments.0[..32].fill(0);
    let small = signed(&small);
    assert_eq!(code(&small), "bad_body");
    assert!(Pool::verify_stored(&council.board, &small).is_ok());
    let mut pools = council.pools(slot);
    pools[0] = small.clone();
    let gone = VoteError::PoolGone { name: me.clone(), id: small.id() };
    assert_eq!(begin(&council, &release("0.1", 0), &pools, &[]).unwrap_err(), gone);
    let mut twice = pool.clone();
    twice.slots.push(twice.slots[0]);
    assert_eq!(code(&signed(&twice)), "bad_body");
    let other = Council::new(3, 2, 1, 2);
    assert_eq!(code(&other.pool(&me, &[slot])), "wrong_policy");
    assert_eq!(code(&pool.to_envelope()), "bad_signature");
    let mut renamed = pool;
    renamed.governor = names(&council)[1].clone();
    assert_eq!(code(&signed(&renamed)), "bad_signature");
}

/// T06: what is not counted, each beside enough good ballots and beside one too few.
#[test]
fn t06_only_one_ballot_of_each_governor_of_the_board_on_this_document_in_this_round_counts() {
    let council = Council::new(5, 3, 1, 1);
    let document = release("0.1", 0);
    let (slot, pools, all) =
        (council.slot(&document), council.pools(council.slot(&document)), names(&council));
    let good: Vec<Envelope> =
        all[..3].iter().map(|me| council.approve(me, &document, &pools)).collect();
    let read = Ballot::parse(&good[0]).unwrap();
    let sign = |ballot: &Ballot, me: &Name| ballot.to_envelope().sign(&council.keys[me]);
    // A governor twice: the same words, and with another comment.
    let again = Ballot { comment: Some("again".into()), ..read.clone() };
    let twice = vec![good[0].clone(), sign(&again, &all[0])];
    // One key under two names.
    let dan = Ballot { governor: all[3].clone(), ..read.clone() };
    let other_name = vec![sign(&dan, &all[0])];
    // A governor who is not on this board, with this board's group key in the ballot.
    let zoe = Ballot { governor: "zoe".parse().unwrap(), ..read.clone() };
    let stranger = vec![sign(&zoe, &all[3])];
    let former = Council::new(5, 3, 2, 9);
    let of_another_board =
        vec![former.approve(&all[3], &document, &former.pools(former.slot(&document)))];
    // Another document, another round, another place.
    let other = release("0.2", 0);
    let elsewhere = vec![
        council.approve(&all[3], &other, &pools),
        sign(&Ballot { round: Round(1), ..read.clone() }, &all[0]),
        sign(&Ballot { seq: Seq(43), ..read.clone() }, &all[0]),
    ];
    for nothing in [twice, other_name, stranger, of_another_board, elsewhere] {
        let with = |count: usize| {
            let ballots = [&good[..count], &nothing[..]].concat();
            count_documents(&council, slot, &document, &pools, &ballots)
        };
        let short = with(2);
        assert_eq!(short.signed(), None, "{nothing:?}");
        assert_eq!(short.documents[&id(&document)].approvals.len(), 2, "{nothing:?}");
        assert!(with(3).signed().is_some(), "{nothing:?}");
        assert!(with(3).culprits.is_empty(), "{nothing:?}");
    }
}

fn count_documents(
    council: &Council,
    slot: Slot,
    document: &Statement,
    pools: &[Envelope],
    ballots: &[Envelope],
) -> borgios_policy::Tally {
    tally(&council.board, slot, &[document.to_payload()], pools, ballots)
}

/// T37: repetition costs no more than reading it, and changes nothing.
#[test]
fn t37_a_thousand_copies_of_everything_are_one() {
    let council = Council::new(3, 2, 1, 1);
    let document = release("0.1", 0);
    let slot = council.slot(&document);
    let (pools, all) = (council.pools(slot), names(&council));
    let ballots =
        [council.approve(&all[0], &document, &pools), council.approve(&all[1], &document, &pools)];
    let once = count_documents(&council, slot, &document, &pools, &ballots);
    let many = |envelopes: &[Envelope]| {
        std::iter::repeat_n(envelopes, 1_000).flatten().cloned().collect::<Vec<_>>()
    };
    let texts = vec![document.to_payload(); 1_000];
    let again = tally(&council.board, slot, &texts, &many(&pools), &many(&ballots));
    assert_eq!(again, once);
    assert!(once.signed().is_some());
}

/// T38: a relay that changes one entry of a pool breaks its signature; one that shows a whole other pool
/// of the same governor keeps the sets with that governor from signing, and no others.
#[test]
fn t38_a_swapped_pool_entry_is_refused_and_a_swapped_pool_costs_its_sets_alone() {
    let council = Council::new(3, 2, 1, 1);
    let document = release("0.1", 0);
    let slot = council.slot(&document);
    let (pools, all) = (council.pools(slot), names(&council));
    let mut swapped = pools[2].clone();
    let mut read = Pool::parse(&swapped).unwrap();
    let entry = read.commitments.0[..64].to_vec();
    read.commitments.0[64..128].copy_from_slice(&entry);
    swapped.payload = read.to_payload();
    assert_eq!(Pool::verify(&council.board, &swapped).unwrap_err().code(), "bad_signature");
    // A whole other pool, which cleo did sign once.
    let seed = Seed::from_bytes([7; 32]);
    let other = Pool::make(&council.board, &council.shares[&all[2]], &[(slot, seed)]).unwrap();
    let other = other.to_envelope().sign(&council.keys[&all[2]]);
    let shown = [pools[0].clone(), pools[1].clone(), other];
    // Ann was shown the other one, ben and cleo have the true one.
    let ballots =
        [council.approve(&all[0], &document, &shown), council.approve(&all[2], &document, &pools)];
    let everything = [&pools[..], &shown[..]].concat();
    let two = count_documents(&council, slot, &document, &everything, &ballots);
    assert_eq!(two.signed(), None, "ann and cleo signed with different nonces of cleo");
    let with_ben = [&ballots[..], &[council.approve(&all[1], &document, &pools)]].concat();
    let three = count_documents(&council, slot, &document, &everything, &with_ben);
    assert!(three.signed().is_some());
    // Cleo is named for two pools; ann, who was deceived, is not.
    let named: Vec<&Name> = three.culprits.iter().map(|culprit| &culprit.name).collect();
    assert_eq!(named, [&all[2]]);
}

/// T49: shares of a former key, even in a ballot that names the new group key, make nothing.
#[test]
fn t49_shares_of_a_former_epoch_cannot_make_a_vote_that_counts() {
    let (old, new) = (Council::new(3, 2, 1, 1), Council::new(3, 2, 2, 2));
    let document = release("0.1", 0);
    let (slot, all) = (new.slot(&document), names(&new));
    let pools = new.pools(slot);
    let old_pools = old.pools(old.slot(&document));
    let old_ballot = Ballot::parse(&old.approve(&all[0], &document, &old_pools)).unwrap();
    // As it is, and dressed up for the new board with the identity key of the new one.
    let as_it_is = old_ballot.to_envelope().sign(&new.keys[&all[0]]);
    let error = Ballot::verify(&new.board, &as_it_is).unwrap_err();
    assert_eq!(error.code(), "wrong_policy");
    let honest = Ballot::parse(&new.approve(&all[0], &document, &pools)).unwrap();
    let Choice::Approve { shares, .. } = old_ballot.choice else { panic!("it approves") };
    let Choice::Approve { pools: named, .. } = honest.choice.clone() else { panic!("it approves") };
    let dressed = Ballot { choice: Choice::Approve { pools: named, shares }, ..honest };
    let dressed = dressed.to_envelope().sign(&new.keys[&all[0]]);
    let ballots = [dressed.clone(), new.approve(&all[1], &document, &pools)];
    let tally = count_documents(&new, slot, &document, &pools, &ballots);
    assert_eq!(tally.signed(), None);
    let proof = Proof::BadShare(dressed.id());
    assert_eq!(tally.culprits, [borgios_policy::Culprit { name: all[0].clone(), proof }]);
    // Nor do old pools count for the new key, or the old share open a slot of it.
    assert!(old_pools.iter().all(|pool| Pool::verify(&new.board, pool).is_err()));
    let secret = old.shares[&all[0]].to_secret();
    assert!(borgios_policy::KeyShare::from_secret(&new.board, &all[0], &secret).is_err());
}

/// A burn makes a governor's earlier pools void for new votes, and takes back nothing that was cast.
#[test]
fn after_a_burn_only_pools_of_its_generation_are_taken() {
    let council = Council::new(3, 2, 1, 1);
    let document = release("0.1", 0);
    let slot = council.slot(&document);
    let (mut papers, all) = (council.pools(slot), names(&council));
    let before = council.approve(&all[2], &document, &papers);
    let burn = borgios_policy::Burn {
        group: council.board.group(),
        governor: all[2].clone(),
        generation: 1,
        at: borgios_policy::fixture::NOW,
    };
    papers.push(burn.to_envelope().sign(&council.keys[&all[2]]));
    let missing = begin(&council, &document, &papers, &[]).unwrap_err();
    assert_eq!(missing, VoteError::MissingPools { slot, names: vec![all[2].clone()] });
    let seed = Seed::from_bytes([9; 32]);
    let made = Pool::make(&council.board, &council.shares[&all[2]], &[(slot, seed)]).unwrap();
    let made = Pool { generation: 1, ..made }.to_envelope().sign(&council.keys[&all[2]]);
    papers.push(made.clone());
    let intent = begin(&council, &document, &papers, &[]).unwrap();
    let borgios_policy::Vote::Approve { pools: named } = &intent.vote else {
        panic!("it approves")
    };
    assert_eq!(named[&all[2]], made.id());
    // Pools of two generations are no contradiction, and cleo's ballot from before still signs.
    let first = council.pools(slot);
    let ballots = [before, council.approve(&all[0], &document, &first)];
    let tally = count_documents(&council, slot, &document, &papers, &ballots);
    assert!(tally.signed().is_some() && tally.culprits.is_empty(), "{tally:?}");
    // A burn by another key is none.
    papers[3] = burn.to_envelope().sign(&council.keys[&all[0]]);
    let pools = papers[..4].to_vec();
    begin(&council, &document, &pools, &[]).unwrap();
}

/// Vetoes that killed a signed document open the next round, as t rejections would.
#[test]
fn a_vetoed_document_opens_the_next_round() {
    let council = Council::new(3, 2, 1, 1);
    let (document, next) = (release("0.1", 0), release("0.2", 1));
    let pools = council.pools(council.slot(&document));
    let all = names(&council);
    let ballots =
        [council.approve(&all[0], &document, &pools), council.approve(&all[1], &document, &pools)];
    let slot = council.slot(&next);
    let open =
        |vetoed: &BTreeSet<Digest>| OpenRound::check_vetoed(&council.board, slot, &ballots, vetoed);
    assert!(matches!(open(&BTreeSet::new()), Err(RoundError::Alive { .. })));
    assert!(matches!(open(&BTreeSet::from([Digest::of(b"other")])), Err(RoundError::Alive { .. })));
    assert_eq!(open(&BTreeSet::from([id(&document)])).unwrap().slot(), slot);
}

#[test]
fn refill_asks_for_what_is_not_covered_yet() {
    let council = Council::new(3, 2, 1, 1);
    let me = names(&council)[0].clone();
    let heads = |lane: Lane| Seq(if lane == Lane::Release { 5 } else { 1 });
    let slot = |lane, seq, round| Slot {
        epoch: council.board.epoch(),
        lane,
        seq: Seq(seq),
        round: Round(round),
    };
    let existing: Vec<Slot> = (1..=8).map(|seq| slot(Lane::Release, seq, 0)).collect();
    let pool = Pool::parse(&council.pool(&me, &existing)).unwrap();
    let further = [slot(Lane::Release, 6, 1)];
    let wanted = borgios_policy::pool::refill(&council.board, &me, &heads, &further, &[pool]);
    let others = Lane::ALL.into_iter().filter(|lane| *lane != Lane::Release);
    let others = others.flat_map(|lane| (2..=9).map(move |seq| slot(lane, seq, 0)));
    let release = (9..=13).map(|seq| slot(Lane::Release, seq, 0));
    let expected: BTreeSet<Slot> = others.chain(release).chain(further).collect();
    assert_eq!(wanted, expected.into_iter().collect::<Vec<_>>());
}
