//! When a signed statement is applied: locks, vetoes, pauses, rivals; and that the order in which a
//! holder hears of things does not matter.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

mod holder;

use std::collections::BTreeMap;

use borgios_policy::fixture::{Council, EXPIRES, NOW, release_body};
use borgios_policy::gate::{DOCS_MAX, OPEN_MAX, RIVALS_MAX, SETTLE_S, Standing};
use borgios_policy::{
    Freshness, Lane, Object as _, ObjectError, Objection, Offered, Pause, Refusal, Ruling,
    Statement, Veto,
};
use borgios_types::{Digest, Envelope, Seq, UnixSeconds};
use holder::{DAY_S, Holder, LOCK_S, beacon, board, next, objection, pause, release, veto};
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;

#[test]
fn a_class_without_a_lock_applies_at_once_and_one_with_it_when_it_is_over() {
    let (council, first) = board(|policy| policy.classes.release.lock_s = None);
    let mut holder = Holder::new(&first);
    let one = release(&holder, &council, "1");
    assert!(matches!(holder.offer(NOW, &one), Ok(Offered::Apply(_))));
    assert!(matches!(holder.offer(NOW, &one), Ok(Offered::Known)));

    let (council, first) = board(|_| ());
    let mut holder = Holder::new(&first);
    let one = release(&holder, &council, "1");
    let until = NOW.plus(LOCK_S);
    assert!(matches!(
        holder.offer(NOW, &one),
        Ok(Offered::Held(Standing::Waiting { until: at })) if at == until
    ));
    // Seen again it does not wait anew, nor does a restart shorten the lock.
    assert!(matches!(holder.offer(NOW.plus(LOCK_S / 2), &one), Ok(Offered::Known)));
    holder.restart();
    holder.tick(UnixSeconds(until.0 - 1));
    assert_eq!(holder.head(Lane::Release), 0);
    // It was away: what was said meanwhile gets its time to arrive.
    holder.tick(until);
    assert_eq!(holder.head(Lane::Release), 0);
    holder.tick(UnixSeconds(until.0 - 1 + SETTLE_S));
    assert_eq!(holder.head(Lane::Release), 1);
    assert_eq!(holder.gate.report(until, &holder.chain), vec![]);
}

#[test]
fn a_statement_with_a_successor_still_waits_its_own_lock() {
    let (council, first) = board(|_| ());
    let mut holder = Holder::new(&first);
    let one = next(&holder.chain, Lane::Release, release_body("1"));
    let signed = council.sign(&one);
    let two = Statement { seq: Seq(2), prev: Some(signed.id()), ..one };
    let two = council.sign(&two);
    assert_eq!(holder.offer(NOW, &two).unwrap_err().code(), "gap");
    holder.offer(NOW, &signed).unwrap();
    holder.offer(NOW.plus(100), &two).unwrap();
    holder.tick(NOW.plus(LOCK_S - 1));
    assert_eq!(holder.head(Lane::Release), 0);
    holder.tick(NOW.plus(LOCK_S));
    assert_eq!(holder.head(Lane::Release), 1);
    assert!(matches!(
        holder.standing(NOW.plus(LOCK_S), &two),
        Some(Standing::Waiting { until }) if until == NOW.plus(LOCK_S + 100)
    ));
    holder.tick(NOW.plus(LOCK_S + 100));
    assert_eq!(holder.head(Lane::Release), 2);
}

/// T52, as far as one holder goes.
#[test]
fn t52_vetoes_by_enough_governors_kill_it_before_the_lock_is_over_and_later_change_nothing() {
    let (council, first) = board(|_| ());
    let mut holder = Holder::new(&first);
    let bad = release(&holder, &council, "bad");
    // One veto comes before the release, another one after it.
    let (one, two) = (veto(&holder, &council, 0, &bad), veto(&holder, &council, 2, &bad));
    assert!(holder.gate.object(NOW, &holder.chain, &one).unwrap());
    assert!(!holder.gate.object(NOW, &holder.chain, &one).unwrap(), "twice is once");
    holder.offer(NOW, &bad).unwrap();
    assert_eq!(holder.standing(NOW, &bad).unwrap().as_str(), "waiting");
    assert!(holder.gate.object(NOW, &holder.chain, &two).unwrap());
    holder.restart();
    for days in 1..100 {
        holder.tick(NOW.plus(days * DAY_S / 2));
        assert_eq!(holder.head(Lane::Release), 0);
    }
    let by = vec![council.name(0), council.name(2)];
    assert_eq!(holder.standing(NOW, &bad), Some(Standing::Vetoed { by, back: None }));
    assert_eq!(holder.gate.vetoes_on(&bad.id()).count(), 2, "the proof is kept");
    // The next round of the place is free, and no rival of the dead one.
    let round = Statement {
        round: borgios_types::Round(1),
        ..next(&holder.chain, Lane::Release, release_body("good"))
    };
    let good = council.sign(&round);
    let late = NOW.plus(60 * DAY_S);
    let mut holder_2 = Holder::new(&first);
    assert!(matches!(holder.offer(late, &good), Err(Refusal::Expired { .. })));
    holder_2.offer(NOW, &bad).unwrap();
    holder_2.gate.object(NOW, &holder_2.chain, &one).unwrap();
    holder_2.gate.object(NOW, &holder_2.chain, &two).unwrap();
    holder_2.offer(NOW, &good).unwrap();
    holder_2.tick(NOW.plus(LOCK_S));
    assert_eq!(holder_2.chain.head(Lane::Release).unwrap().id(), good.id());
    assert!(holder_2.evidence.contains("rival"), "the dead one lost its place");
    // A veto on what is applied is too late.
    let late = veto(&holder_2, &council, 1, &good);
    assert!(!holder_2.gate.object(NOW.plus(LOCK_S), &holder_2.chain, &late).unwrap());
    assert_eq!(holder_2.head(Lane::Release), 1);
}

/// Stores know an object by its payload: one governor's veto and pause in one second, with the same
/// words, are two objects, and neither can be turned into the other.
#[test]
fn a_veto_and_a_pause_with_the_same_words_are_two_objects() {
    let (council, first) = board(|_| ());
    let holder = Holder::new(&first);
    let one = release(&holder, &council, "1");
    let said = objection(&holder, &council, 0, &one);
    let key = &council.keys[&council.name(0)];
    let (veto, pause) = (Veto(said.clone()).to_envelope(), Pause(said).to_envelope());
    assert_ne!(veto.id(), pause.id());
    let twin = Envelope::unsigned(pause.kind, veto.payload).sign(key);
    let network = holder.chain.network().unwrap();
    let refused = Pause::verify(&council.board, network, &twin).unwrap_err();
    assert_eq!(refused.code(), "malformed", "{refused}");
}

#[test]
fn vetoes_count_for_the_right_place_statement_and_board_alone() {
    let (council, first) = board(|_| ());
    let mut holder = Holder::new(&first);
    let one = release(&holder, &council, "1");
    holder.offer(NOW, &one).unwrap();
    let sign = |objection: Objection, at: usize| {
        Veto(objection).to_envelope().sign(&council.keys[&council.name(at)])
    };
    let base = objection(&holder, &council, 0, &one);
    let elsewhere = Objection { seq: Seq(9), ..base.clone() };
    let other = Objection { statement: Digest::of(b"other"), ..base.clone() };
    for odd in [sign(elsewhere, 0), sign(other, 0)] {
        holder.gate.object(NOW, &holder.chain, &odd).unwrap();
    }
    let mut code = |envelope: Envelope| {
        let error = holder.gate.object(NOW, &holder.chain, &envelope).unwrap_err();
        error.code()
    };
    // Signed by another governor, for another fleet, on another board, by nobody; not a veto.
    assert_eq!(code(sign(base.clone(), 1)), "bad_signature");
    let foreign = Objection { network: Digest::of(b"x"), ..base.clone() };
    assert_eq!(code(sign(foreign, 0)), "wrong_network");
    let stranger = Council::new(3, 2, 1, 9);
    let group = Objection { group: stranger.board.group(), ..base.clone() };
    assert_eq!(code(sign(group, 0)), "wrong_policy");
    let nobody = Objection { governor: "zoe".parse().unwrap(), ..base.clone() };
    assert_eq!(code(sign(nobody, 0)), "bad_body");
    let long = Objection { reason: "x".repeat(5_000), ..base };
    assert_eq!(code(sign(long, 0)), "bad_body");
    assert_eq!(code(one.clone()), "wrong_kind");
    holder.gate.object(NOW, &holder.chain, &veto(&holder, &council, 1, &one)).unwrap();
    holder.tick(NOW.plus(LOCK_S));
    assert_eq!(holder.head(Lane::Release), 1, "one valid veto is not enough");
}

#[test]
fn t53_a_pause_ends_by_itself_and_a_governor_has_one_for_each_statement() {
    let (council, first) = board(|policy| policy.pause_s = Some(2 * LOCK_S));
    let mut holder = Holder::new(&first);
    let one = release(&holder, &council, "1");
    holder.offer(NOW, &one).unwrap();
    let late = NOW.plus(LOCK_S - 1);
    holder.tick(late);
    let paused = pause(&holder, &council, 0, &one);
    assert!(holder.gate.object(late, &holder.chain, &paused).unwrap());
    assert!(!holder.gate.object(late.plus(9), &holder.chain, &paused).unwrap());
    // The same governor again, in other words: no.
    let again = Objection { at: NOW.plus(1), ..objection(&holder, &council, 0, &one) };
    let again = Pause(again).to_envelope().sign(&council.keys[&council.name(0)]);
    let error = holder.gate.object(late, &holder.chain, &again).unwrap_err();
    assert!(matches!(error, ObjectError::Refused { .. }), "{error}");
    let end = late.plus(2 * LOCK_S);
    holder.tick(NOW.plus(LOCK_S));
    let by = vec![council.name(0)];
    assert_eq!(holder.standing(late.plus(2), &one), Some(Standing::Paused { until: end, by }));
    for now in [NOW.plus(2 * LOCK_S), UnixSeconds(end.0 - 1)] {
        holder.tick(now);
        assert_eq!(holder.head(Lane::Release), 0);
    }
    holder.tick(end);
    assert_eq!(holder.head(Lane::Release), 1);
}

#[test]
fn t12_two_signed_for_one_place_freeze_the_lane_until_a_ruling_names_the_winner() {
    for winner in 0..2 {
        let (council, first) = board(|_| ());
        let mut holder = Holder::new(&first);
        let both = [release(&holder, &council, "1"), release(&holder, &council, "2")];
        for one in &both {
            holder.offer(NOW, one).unwrap();
        }
        for hours in 1..30 {
            holder.tick(NOW.plus(hours * 3_600));
        }
        let now = NOW.plus(30 * 3_600);
        assert_eq!(holder.head(Lane::Release), 0, "neither is applied");
        for (one, other) in [(0, 1), (1, 0)] {
            let rivals = vec![both[other].id()];
            assert_eq!(holder.standing(now, &both[one]), Some(Standing::Frozen { rivals }));
        }
        let mut rules = holder.chain.policy().unwrap().clone();
        let winner = both[winner].id();
        rules.rulings = vec![Ruling::new(Lane::Release, Seq(1), Some(winner))];
        let ruling = council.sign(&next(&holder.chain, Lane::Policy, rules.to_body()));
        holder.offer(now, &ruling).unwrap();
        holder.tick(now);
        assert_eq!(holder.chain.head(Lane::Release).unwrap().id(), winner);
        assert!(holder.evidence.contains("rival"));
    }
}

#[test]
fn more_rivals_than_are_kept_are_refused_and_the_winner_comes_in_again() {
    let (council, first) = board(|_| ());
    let mut holder = Holder::new(&first);
    let all: Vec<Envelope> =
        (0..=RIVALS_MAX).map(|n| release(&holder, &council, &n.to_string())).collect();
    let (last, kept) = all.split_last().unwrap();
    for one in kept {
        holder.offer(NOW, one).unwrap();
    }
    assert_eq!(holder.offer(NOW, last).unwrap_err().code(), "rival");
    let mut rules = holder.chain.policy().unwrap().clone();
    let (lane, seq, winner) = (Lane::Release, Seq(1), Some(last.id()));
    rules.rulings = vec![Ruling::new(lane, seq, winner)];
    holder.offer(NOW, &council.sign(&next(&holder.chain, Lane::Policy, rules.to_body()))).unwrap();
    holder.tick(NOW);
    holder.offer(NOW, last).unwrap();
    holder.tick(NOW.plus(LOCK_S));
    assert_eq!(holder.chain.head(Lane::Release).unwrap().id(), last.id());
}

#[test]
fn what_waits_and_what_governors_have_open_is_bounded() {
    let (council, first) = board(|_| ());
    let mut holder = Holder::new(&first);
    let mut prev = None;
    let base = next(&holder.chain, Lane::Release, release_body("1"));
    for seq in 1..=DOCS_MAX as u64 + 1 {
        let one = council.sign(&Statement { seq: Seq(seq), prev, ..base.clone() });
        prev = Some(one.id());
        let offered = holder.offer(NOW, &one);
        let kept = seq <= DOCS_MAX as u64;
        assert_eq!(offered.is_ok(), kept, "release/{seq}: {offered:?}");
        if !kept {
            assert_eq!(offered.unwrap_err().code(), "held_back");
        }
    }
    let mut holder = Holder::new(&first);
    let one = release(&holder, &council, "1");
    for n in 0..3 * OPEN_MAX as u64 {
        let other = Objection {
            statement: Digest::of(&n.to_be_bytes()),
            ..objection(&holder, &council, 0, &one)
        };
        let other = Veto(other).to_envelope().sign(&council.keys[&council.name(0)]);
        holder.gate.object(NOW.plus(n), &holder.chain, &other).unwrap();
    }
    let text = serde_json::to_value(&holder.gate).unwrap();
    assert_eq!(text["vetoes"]["ann"].as_object().unwrap().len(), OPEN_MAX);
    // Whoever objects to everything keeps nobody else from doing so.
    holder.offer(NOW, &one).unwrap();
    for at in [1, 2] {
        holder.gate.object(NOW, &holder.chain, &veto(&holder, &council, at, &one)).unwrap();
    }
    assert_eq!(holder.standing(NOW, &one).unwrap().as_str(), "vetoed");
}

#[test]
fn t20_a_release_that_expires_while_it_waits_is_applied_only_under_one_in_date() {
    let (council, first) = board(|_| ());
    let mut holder = Holder::new(&first);
    let mut one = next(&holder.chain, Lane::Release, release_body("1"));
    one.expires = NOW.plus(LOCK_S / 2);
    let signed = council.sign(&one);
    assert_eq!(holder.offer(one.expires, &signed).unwrap_err().code(), "expired");
    holder.offer(NOW, &signed).unwrap();
    holder.tick(NOW.plus(LOCK_S));
    let since = one.expires;
    assert_eq!(holder.standing(NOW.plus(LOCK_S), &signed), Some(Standing::Expired { since }));
    let two = Statement { seq: Seq(2), prev: Some(signed.id()), expires: EXPIRES, ..one };
    holder.offer(NOW.plus(LOCK_S), &council.sign(&two)).unwrap();
    holder.tick(NOW.plus(LOCK_S));
    assert_eq!(holder.head(Lane::Release), 1);
    holder.tick(NOW.plus(2 * LOCK_S));
    assert_eq!(holder.head(Lane::Release), 2);
}

#[test]
fn a_locked_policy_holds_up_what_stands_under_it_and_nothing_else() {
    let (council, first) = board(|policy| policy.classes.policy.lock_s = Some(2 * LOCK_S));
    let mut holder = Holder::new(&first);
    let under_old = release(&holder, &council, "1");
    let mut rules = holder.chain.policy().unwrap().clone();
    rules.fanout = 9;
    let policy = council.sign(&next(&holder.chain, Lane::Policy, rules.to_body()));
    holder.offer(NOW, &policy).unwrap();
    holder.offer(NOW, &under_old).unwrap();
    let two = Statement::parse(&under_old).unwrap();
    let two = Statement { seq: Seq(2), prev: Some(under_old.id()), policy: Some(Seq(2)), ..two };
    let two = council.sign(&two);
    holder.offer(NOW, &two).unwrap();
    holder.tick(NOW.plus(LOCK_S));
    assert_eq!((holder.head(Lane::Policy), holder.head(Lane::Release)), (1, 1));
    assert_eq!(holder.standing(NOW.plus(LOCK_S), &two), Some(Standing::Behind));
    holder.tick(NOW.plus(2 * LOCK_S));
    assert_eq!((holder.head(Lane::Policy), holder.head(Lane::Release)), (2, 2));
}

/// What a holder can hear of: two rivals, a release on top of one, objections, beacons.
#[test]
fn t36_any_order_and_repetition_within_the_lock_ends_in_the_same_state() {
    let (council, first) = board(|policy| {
        policy.freshness = Some(Freshness { beacons: 2, max_age_s: DAY_S });
        policy.classes.policy.lock_s = Some(LOCK_S);
    });
    let plain = Holder::new(&first);
    let mut releases: Vec<Envelope> =
        ["1", "2"].map(|version| release(&plain, &council, version)).into();
    let on_top = Statement::parse(&releases[0]).unwrap();
    let on_top = Statement { seq: Seq(2), prev: Some(releases[0].id()), ..on_top };
    releases.push(council.sign(&on_top));
    let mut rules = plain.chain.policy().unwrap().clone();
    rules.fanout = 7;
    releases.push(council.sign(&next(&plain.chain, Lane::Policy, rules.to_body())));
    let mut all = releases.clone();
    for at in 0..3 {
        all.push(beacon(&plain, &council, at, NOW));
        if at < 2 {
            all.push(veto(&plain, &council, at, &releases[1]));
        }
    }
    all.push(pause(&plain, &council, 2, &releases[0]));
    let mut states = BTreeMap::new();
    for seed in 0..100_u64 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut order = all.clone();
        order.extend(all.choose_multiple(&mut rng, 4).cloned());
        order.shuffle(&mut rng);
        let mut holder = Holder::new(&first);
        // What comes too early is brought again, as a fleet does.
        while !order.is_empty() {
            let mut early = Vec::new();
            for envelope in order {
                let gap = match envelope.kind.as_str() {
                    "beacon" => {
                        holder.gate.beacon(NOW, &holder.chain, &envelope).map(drop).is_err()
                    }
                    "veto" | "pause" => {
                        holder.gate.object(NOW, &holder.chain, &envelope).map(drop).is_err()
                    }
                    _ => holder.offer(NOW, &envelope).is_err(),
                };
                if gap {
                    early.push(envelope);
                }
                if rng.gen_bool(0.2) {
                    holder.restart();
                }
                if rng.gen_bool(0.2) {
                    holder.tick(NOW);
                }
            }
            order = early;
        }
        holder.tick(NOW);
        let held = serde_json::to_string(&holder.gate).unwrap();
        for hours in 1..=30 {
            holder.tick(NOW.plus(hours * 3_600));
        }
        let end: Vec<_> = Lane::ALL.map(|lane| holder.chain.tip(lane)).into();
        states.entry((held, format!("{end:?}"))).or_insert_with(Vec::new).push(seed);
    }
    assert_eq!(states.len(), 1, "seeds by end state: {:?}", states.values());
    let (_, end) = states.keys().next().unwrap();
    assert!(end.contains("seq: Seq(2)"), "it ends with both releases: {end}");
}

/// A policy that would follow the one in force with another board, signed by both.
fn change_of_board(holder: &Holder, council: &Council, next_board: &Council) -> Envelope {
    let mut rules = holder.chain.policy().unwrap().clone();
    rules.board = next_board.board.clone();
    let draft = next(&holder.chain, Lane::Policy, rules.to_body());
    let mut policy = council.sign(&draft);
    policy.sigs.extend(next_board.sign(&draft).sigs);
    policy
}

#[test]
fn a_board_that_waits_silences_no_governor_of_the_board_in_force() {
    let (council, first) = board(|policy| policy.classes.policy.lock_s = Some(LOCK_S));
    let stolen = Council::new(3, 2, 2, 9);
    let mut holder = Holder::new(&first);
    let policy = change_of_board(&holder, &council, &stolen);
    holder.offer(NOW, &policy).unwrap();
    for at in [0, 1] {
        holder.gate.object(NOW, &holder.chain, &veto(&holder, &council, at, &policy)).unwrap();
    }
    // The same names, with the keys of the board that waits: on the policy, and on much else.
    for at in 0..3 {
        let base = objection(&holder, &stolen, at, &policy);
        for n in 0..3 * OPEN_MAX as u64 {
            let statement = if n == 0 { policy.id() } else { Digest::of(&n.to_be_bytes()) };
            let said = Veto(Objection { statement, ..base.clone() });
            let said = said.to_envelope().sign(&stolen.keys[&stolen.name(at)]);
            holder.gate.object(NOW, &holder.chain, &said).unwrap();
        }
    }
    let last = veto(&holder, &council, 2, &policy);
    assert!(holder.gate.object(NOW, &holder.chain, &last).unwrap());
    holder.restart();
    let by = (0..3).map(|at| council.name(at)).collect();
    assert_eq!(holder.standing(NOW, &policy), Some(Standing::Vetoed { by, back: None }));
    holder.tick(NOW.plus(DAY_S));
    assert_eq!(holder.head(Lane::Policy), 1);
    let text = serde_json::to_value(&holder.gate).unwrap();
    assert_eq!(text["vetoes"]["ann"].as_object().unwrap().len(), OPEN_MAX + 1);
}

#[test]
fn what_its_own_board_vetoed_stays_dead_under_the_next_one() {
    let (council, first) = board(|_| ());
    let new = Council::new(3, 2, 2, 9);
    for vetoes in [1, 2] {
        let mut holder = Holder::new(&first);
        let bad = release(&holder, &council, "bad");
        holder.offer(NOW, &bad).unwrap();
        holder.gate.object(NOW, &holder.chain, &veto(&holder, &council, 0, &bad)).unwrap();
        let policy = change_of_board(&holder, &council, &new);
        holder.offer(NOW, &policy).unwrap();
        holder.tick(NOW);
        assert_eq!(holder.head(Lane::Policy), 2);
        if vetoes == 2 {
            // It may come after the board is gone, and does not end with a restart.
            let late = veto(&holder, &council, 1, &bad);
            assert!(holder.gate.object(NOW, &holder.chain, &late).unwrap());
        }
        holder.restart();
        let good = new.sign(&next(&holder.chain, Lane::Release, release_body("good")));
        holder.offer(NOW, &good).unwrap();
        let stands = holder.standing(NOW, &good).unwrap();
        assert_eq!(stands.as_str(), if vetoes == 2 { "waiting" } else { "frozen" });
        holder.tick(NOW.plus(LOCK_S));
        assert_eq!(holder.head(Lane::Release), u64::from(vetoes == 2));
    }
}

#[test]
fn with_what_waits_only_ballots_that_count_are_kept() {
    let (council, first) = board(|_| ());
    let mut holder = Holder::new(&first);
    let draft = next(&holder.chain, Lane::Release, release_body("1"));
    let other = next(&holder.chain, Lane::Release, release_body("2"));
    let pools = council.pools(council.slot(&draft));
    let good = |at: usize| council.approve(&council.name(at), &draft, &pools);
    let forged = Envelope { sigs: Vec::new(), ..good(1) };
    let elsewhere = council.approve(&council.name(1), &other, &pools);
    let signed = council.sign(&draft);
    let rest = || vec![forged.clone(), elsewhere.clone(), council.reject(&council.name(2), &draft)];
    let mut first_time = rest();
    first_time.extend([good(0), good(0)]);
    holder.offer_with(NOW, &signed, first_time).unwrap();
    let kept = |holder: &Holder| holder.gate.waiting(&signed.id()).unwrap().ballots.clone();
    assert_eq!(kept(&holder), vec![good(0)]);
    assert!(matches!(holder.offer_with(NOW, &signed, rest()), Ok(Offered::Known)));
    assert_eq!(kept(&holder), vec![good(0)]);
    let mut again = rest();
    again.push(good(1));
    assert!(matches!(holder.offer_with(NOW, &signed, again), Ok(Offered::Held(_))));
    assert_eq!(kept(&holder), vec![good(0), good(1)]);
}

#[test]
fn a_clock_that_was_behind_for_a_while_eats_no_lock_and_no_pause() {
    let (council, first) = board(|policy| policy.pause_s = Some(2 * LOCK_S));
    for paused in [false, true] {
        let mut holder = Holder::new(&first);
        let one = release(&holder, &council, "1");
        let at = NOW.plus(10 * DAY_S);
        holder.offer(at, &one).unwrap();
        if paused {
            let pause = pause(&holder, &council, 0, &one);
            holder.gate.object(at, &holder.chain, &pause).unwrap();
        }
        // A boot without a battery: behind, until the clock is right again.
        holder.tick(NOW);
        holder.restart();
        holder.tick(at.plus(1));
        let end = at.plus(if paused { 2 * LOCK_S } else { LOCK_S });
        let mut now = at.plus(1);
        while now < end {
            holder.tick(now);
            assert_eq!(holder.head(Lane::Release), 0, "{now}");
            now = now.plus(SETTLE_S / 2);
        }
        holder.tick(end);
        assert_eq!(holder.head(Lane::Release), 1);
    }
}

/// What shuts a door, or renews a password, no single governor holds up, not even by a pause that came
/// before the signature; and a lock of its lane locks no revocation.
#[test]
fn no_governor_and_no_lock_holds_a_revocation_up() {
    let revoke = serde_json::json!({"order": "revoke", "serials": [9], "reason": "stolen"});
    for locked in [false, true] {
        let (council, first) = board(|policy| {
            if locked {
                policy.classes.access = Some(borgios_policy::Class {
                    lock_s: Some(LOCK_S),
                    ..policy.class(Lane::Access)
                });
            }
        });
        let mut holder = Holder::new(&first);
        let one = council.sign(&next(&holder.chain, Lane::Access, revoke.clone()));
        let early = pause(&holder, &council, 0, &one);
        assert!(holder.gate.object(NOW, &holder.chain, &early).is_ok());
        assert!(matches!(holder.offer(NOW, &one), Ok(Offered::Apply(_))), "locked: {locked}");
        assert_eq!(holder.head(Lane::Access), 1);
        // Where grants are locked, they still are, and pauses count there.
        let grant = serde_json::json!({
            "order": "grant", "node": council.keys[&council.name(0)].public(), "serial": 2,
            "key": council.keys[&council.name(1)].public(), "after": NOW, "before": NOW.plus(900),
            "class": "normal", "sources": [], "reason": "the disk is full",
        });
        let two = council.sign(&next(&holder.chain, Lane::Access, grant));
        let offered = holder.offer(NOW, &two).unwrap();
        assert_eq!(matches!(offered, Offered::Held(Standing::Waiting { .. })), locked);
    }
}

/// What builds upon a vetoed grant brings it back only after a lock as long as the grant's own, though a
/// revocation has none.
#[test]
fn a_revocation_brings_no_vetoed_grant_back_at_once() {
    let (council, first) = board(|policy| {
        let lock_s = Some(LOCK_S);
        policy.classes.access =
            Some(borgios_policy::Class { lock_s, ..policy.class(Lane::Access) });
    });
    let mut holder = Holder::new(&first);
    let grant = serde_json::json!({
        "order": "grant", "node": council.keys[&council.name(0)].public(), "serial": 1,
        "key": council.keys[&council.name(1)].public(), "after": NOW, "before": NOW.plus(80_000),
        "class": "normal", "sources": [], "reason": "the disk is full",
    });
    let draft = next(&holder.chain, Lane::Access, grant);
    let grant = council.sign(&draft);
    holder.offer(NOW, &grant).unwrap();
    for at in 0..2 {
        let veto = veto(&holder, &council, at, &grant);
        assert!(holder.gate.object(NOW, &holder.chain, &veto).unwrap());
    }
    let late = NOW.plus(3 * LOCK_S);
    holder.tick(late);
    assert!(matches!(holder.standing(late, &grant), Some(Standing::Vetoed { back: None, .. })));
    let body = serde_json::json!({"order": "revoke", "serials": [9], "reason": "stolen"});
    let revoke = Statement { seq: Seq(2), prev: Some(grant.id()), body, ..draft };
    holder.offer(late, &council.sign(&revoke)).unwrap();
    let back = late.plus(LOCK_S);
    for now in [late, UnixSeconds(back.0 - 1)] {
        holder.tick(now);
        assert_eq!(holder.head(Lane::Access), 0);
        let standing = holder.standing(now, &grant);
        assert!(matches!(standing, Some(Standing::Vetoed { back: Some(at), .. }) if at == back));
    }
}
