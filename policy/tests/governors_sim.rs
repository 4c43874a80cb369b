//! Boards that vote for a long time over a network that loses, repeats, reorders and forges, with liars
//! among them; and the control, with as many liars as no board survives.
//!
//! `BORGIOS_SIM_SEEDS=1000 cargo test -p borgios-policy --test governors_sim` runs a thousand; without
//! it as many as CI has time for. `BORGIOS_SIM_SEED=N` runs one alone. A failure names its seed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod governors;

use std::collections::BTreeSet;

use borgios_policy::fixture::{Council, release_body, statement};
use borgios_policy::{Ballot, Lane, Name, Object as _, Policy, Proof, Statement, tally};
use borgios_types::{Digest, Envelope, Seq};
use governors::world::World;
use governors::{Objects, PAPERS, Tool, of_kind};
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;

/// Seeds without a word.
const SEEDS: u64 = 24;

/// (n, t): bare majorities and more, odd and even.
const BOARDS: [(u16, u16); 8] = [(2, 2), (3, 2), (3, 3), (4, 3), (5, 3), (5, 4), (6, 4), (7, 4)];

/// One in so many seeds has a board that votes in two touches.
const LARGE_EVERY: u64 = 20;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seeds() -> std::ops::Range<u64> {
    match number("BORGIOS_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("BORGIOS_SIM_SEEDS").unwrap_or(SEEDS),
    }
}

/// Fewer than 2t−n liars: one state everywhere, no number with two signatures, nothing replaced, and no
/// honest governor named.
#[test]
#[allow(clippy::print_stdout, reason = "what was simulated is what this test reports")]
fn t36_honest_nodes_end_in_one_state_whatever_the_network_and_the_liars_do() {
    let (mut decided, mut named, mut rounds) = (0, 0, BTreeSet::new());
    for seed in seeds() {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let (n, t) = if seed % LARGE_EVERY == LARGE_EVERY - 1 {
            (14, 8)
        } else {
            *BOARDS.choose(&mut rng).unwrap()
        };
        let liars = rng.gen_range(0..usize::from(2 * t - n));
        let council = Council::new(n, t, 1, seed);
        let context = format!("BORGIOS_SIM_SEED={seed}: {t} of {n}, {liars} liars");
        let steps = if n == 14 { 300 } else { rng.gen_range(60..200) };
        let mut world = World::new(&council, 3, liars, rng, context.clone());
        for _ in 0..steps {
            world.step();
        }
        world.settle();
        check(&world, &context);
        let head = world.views[0].chain.head_seq(Lane::Release).0;
        decided += head;
        named += world.culprits(&world.views[0]).len();
        rounds.extend(world.views[0].chain.head(Lane::Release).map(|h| h.statement().round.0));
        if seed % 3 == 0 && n < 14 && n > 2 {
            former_board_stays_former(&mut world, &council, n, seed, &context);
        }
    }
    println!("{decided} statements decided, {named} liars named, last rounds {rounds:?}");
    if number("BORGIOS_SIM_SEED").is_none() {
        assert!(decided >= seeds().count() as u64 / 2, "the simulation decided next to nothing");
        assert!(named > 0 && rounds.len() > 1, "no liar was named, or no further round was signed");
    }
}

/// What must hold once everybody has heard everything.
fn check(world: &World<'_>, context: &str) {
    for (seq, documents) in world.signable() {
        assert!(documents.len() <= 1, "{context}: two signatures for release/{seq}");
    }
    let head = |lane| world.views[0].chain.head(lane).map(borgios_policy::VerifiedStatement::id);
    for (at, view) in world.views.iter().enumerate() {
        for lane in [Lane::Policy, Lane::Release] {
            let here = view.chain.head(lane).map(borgios_policy::VerifiedStatement::id);
            assert_eq!(here, head(lane), "{context}: participant {at} ends elsewhere in {lane}");
        }
        assert!(view.rivals.is_empty(), "{context}: participant {at} saw two signatures");
    }
    let named = world.culprits(&world.views[0]);
    assert!(named.is_subset(&world.liars), "{context}: {named:?} named, liars {:?}", world.liars);
    for view in &world.views[1..] {
        assert_eq!(world.culprits(view), named, "{context}: others are named elsewhere");
    }
}

/// A new board takes over; all of the old one go on voting and signing together, and nobody cares.
fn former_board_stays_former(
    world: &mut World<'_>,
    old: &Council,
    n: u16,
    seed: u64,
    context: &str,
) {
    let (m, t) = (n - 1, (n - 1) / 2 + 1);
    let new: &'static Council = Box::leak(Box::new(Council::new(m, t, 2, seed + 1_000_000)));
    let chain = &world.views[0].chain;
    let (network, prev) = (chain.network(), chain.head(Lane::Policy).map(|head| head.id()));
    let body = Policy::parse(&new.first_policy(t).body).unwrap().to_body();
    let policy = statement(Lane::Policy, 2, network, prev, Some(1), body);
    let mut signed = old.sign(&policy);
    signed.sigs.extend(new.sign(&policy).sigs);
    let head = chain.head_seq(Lane::Release);
    let prev = chain.head(Lane::Release).map(|head| head.id());
    let late = statement(Lane::Release, head.0 + 1, network, prev, Some(1), release_body("9.9"));
    let late = old.sign(&late);
    world.succeed(new, &signed);
    world.say(0, late.clone());
    for _ in 0..80 {
        world.step();
    }
    world.settle();
    check(world, &format!("{context}, the board after"));
    for view in &world.views {
        assert_eq!(view.chain.head_seq(Lane::Policy), Seq(2), "{context}");
        assert!(view.chain.known(&late.id()).is_none(), "{context}: a former board is obeyed");
    }
}

/// The control: 2t−n liars sign two documents with one half of the honest governors each. Two signatures
/// for one number are possible then, everybody who hears both keeps the proof, and all liars are named.
#[test]
fn as_many_liars_as_no_board_survives_break_it_and_are_named_everywhere() {
    for seed in 0..20 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let (n, t) = *BOARDS.choose(&mut rng).unwrap();
        let context = format!("seed {seed}: {t} of {n}");
        let council = Council::new(n, t, 1, seed);
        let count = usize::from(2 * t - n);
        let mut names: Vec<Name> = council.keys.keys().cloned().collect();
        names.shuffle(&mut rng);
        let (liars, honest) = names.split_at(count);
        let (left, right) = honest.split_at(honest.len() / 2);
        let mut world = World::new(&council, 4, 0, rng, context.clone());
        let network = world.views[0].chain.network();
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
        // Half of the world hears of one first, half of the other.
        let councils = [&council];
        let count = world.views.len();
        for (at, view) in world.views.iter_mut().enumerate() {
            let first = usize::from(at >= count / 2);
            view.take(&councils, &signed[first]);
            view.take(&councils, &signed[1 - first]);
            for envelope in objects.values() {
                view.take(&councils, envelope);
            }
            view.check_nothing_replaced(&context);
            assert_eq!(view.rivals.len(), 1, "{context}: participant {at} has no evidence");
            let texts = [one.to_payload(), two.to_payload()];
            let (papers, ballots) =
                (of_kind(&view.seen, &PAPERS), of_kind(&view.seen, &[Ballot::KIND]));
            let tally = tally(&council.board, slot, &texts, &papers, &ballots);
            let named: BTreeSet<&Name> =
                tally.culprits.iter().map(|culprit| &culprit.name).collect();
            assert_eq!(named, liars.iter().collect(), "{context}: participant {at}");
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
