//! Beacons, clocks that are wrong, boards that are over, and a recovery key after a long silence.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

mod holder;

use borgios_policy::fixture::{Council, NOW, release_body};
use borgios_policy::gate::{SETTLE_S, Standing};
use borgios_policy::{
    Chain, Freshness, Lane, Offered, Policy, Recovery, Submission, merge_signatures,
};
use borgios_types::{Seq, UnixSeconds};
use holder::{DAY_S, Holder, LOCK_S, beacon, board, next, release, veto};

fn fresh(policy: &mut Policy) {
    policy.freshness = Some(Freshness { beacons: 2, max_age_s: DAY_S });
    policy.classes.release.lock_s = None;
}

#[test]
fn t21_without_enough_fresh_beacons_no_release_is_applied_and_everything_else_goes_on() {
    let (council, first) = board(fresh);
    let mut holder = Holder::new(&first);
    let one = release(&holder, &council, "1");
    assert!(matches!(
        holder.offer(NOW, &one),
        Ok(Offered::Held(Standing::Stale { fresh: 0, needed: 2 }))
    ));
    // Another lane.
    let node = council.keys[&council.name(0)].public();
    let evict = serde_json::json!({"evict": [node], "reason": "lost"});
    let evict = council.sign(&next(&holder.chain, Lane::Member, evict));
    assert!(matches!(holder.offer(NOW, &evict), Ok(Offered::Apply(_))));
    for at in 0..2 {
        holder.tick(NOW);
        assert_eq!(holder.head(Lane::Release), 0);
        let beacon = beacon(&holder, &council, at, NOW);
        assert!(holder.gate.beacon(NOW, &holder.chain, &beacon).unwrap());
    }
    assert_eq!(holder.gate.freshness(NOW, &holder.chain), Some((2, 2)));
    holder.restart();
    holder.tick(NOW);
    assert_eq!(holder.head(Lane::Release), 1);
    // A day and a second later it is stale again.
    let two = release(&holder, &council, "2");
    let later = NOW.plus(DAY_S + 1);
    assert!(matches!(holder.offer(later, &two), Ok(Offered::Held(Standing::Stale { .. }))));
}

/// Reinstalled, and offered an old chain that is valid: until the board is heard nothing is applied,
/// and what is heard says that the chain is old.
#[test]
fn t19_a_wiped_holder_that_is_offered_an_old_chain_waits_for_the_board_and_learns_of_the_new_one() {
    let (council, first) = board(fresh);
    let mut ahead = Holder::new(&first);
    for at in 0..2 {
        let beacon = beacon(&ahead, &council, at, NOW);
        ahead.gate.beacon(NOW, &ahead.chain, &beacon).unwrap();
    }
    let old = release(&ahead, &council, "1");
    ahead.offer(NOW, &old).unwrap();
    ahead.offer(NOW, &release(&ahead, &council, "2")).unwrap();
    assert_eq!(ahead.head(Lane::Release), 2);
    let mut wiped = Holder::new(&first);
    wiped.offer(NOW, &old).unwrap();
    wiped.tick(NOW.plus(60));
    assert_eq!(wiped.head(Lane::Release), 0);
    let heads = beacon(&ahead, &council, 0, NOW.plus(60));
    wiped.gate.beacon(NOW.plus(60), &wiped.chain, &heads).unwrap();
    wiped.tick(NOW.plus(61));
    assert_eq!(wiped.head(Lane::Release), 0, "one governor is not enough");
    let behind = wiped.gate.behind(&wiped.chain);
    assert_eq!(behind.get(&Lane::Release), Some(&Seq(2)));
}

#[test]
fn t22_beacons_of_one_governor_replayed_or_dated_ahead_are_not_counted() {
    let (council, first) = board(fresh);
    let mut holder = Holder::new(&first);
    let count = |holder: &Holder| holder.gate.freshness(NOW, &holder.chain).unwrap().0;
    for age in [300, 200, 100] {
        let one = beacon(&holder, &council, 0, UnixSeconds(NOW.0 - age));
        holder.gate.beacon(NOW, &holder.chain, &one).unwrap();
    }
    assert_eq!(count(&holder), 1, "one governor is one");
    let old = beacon(&holder, &council, 0, UnixSeconds(NOW.0 - 300));
    assert!(!holder.gate.beacon(NOW, &holder.chain, &old).unwrap(), "a replay is nothing new");
    let ahead = beacon(&holder, &council, 1, NOW.plus(601));
    assert_eq!(holder.gate.beacon(NOW, &holder.chain, &ahead).unwrap_err().code(), "bad_body");
    let stale = beacon(&holder, &council, 1, UnixSeconds(NOW.0 - DAY_S - 1));
    holder.gate.beacon(NOW, &holder.chain, &stale).unwrap();
    assert_eq!(count(&holder), 1);
    let forged = beacon(&holder, &council, 2, NOW);
    let mut forged_by = forged.clone();
    forged_by.payload = forged_by.payload.replace("\"cleo\"", "\"ben\"");
    assert!(holder.gate.beacon(NOW, &holder.chain, &forged_by).is_err());
    holder.gate.beacon(NOW, &holder.chain, &beacon(&holder, &council, 1, NOW.plus(599))).unwrap();
    assert_eq!(count(&holder), 2);
}

#[test]
fn t23_a_clock_that_is_years_off_ends_no_lock_at_once_and_shuts_nothing_out_for_ever() {
    let years = 5 * 365 * DAY_S;
    let (council, first) = board(|_| ());
    // Ahead when it was seen, right afterwards.
    let mut holder = Holder::new(&first);
    let mut one = next(&holder.chain, Lane::Release, release_body("1"));
    one.expires = NOW.plus(2 * years);
    let one = council.sign(&one);
    holder.offer(NOW.plus(years), &one).unwrap();
    holder.tick(NOW);
    holder.tick(NOW.plus(LOCK_S - 1));
    assert_eq!(holder.head(Lane::Release), 0);
    holder.tick(NOW.plus(LOCK_S));
    assert_eq!(holder.head(Lane::Release), 1, "no permanent lock-out");
    // Right when it was seen, far ahead then: a veto still has its time to arrive.
    let mut holder = Holder::new(&first);
    holder.offer(NOW, &one).unwrap();
    holder.tick(NOW.plus(1));
    holder.tick(NOW.plus(years));
    assert_eq!(holder.head(Lane::Release), 0);
    // Back: nothing is earlier than the newest statement applied.
    let mut holder = Holder::new(&first);
    holder.offer(UnixSeconds(0), &one).unwrap();
    assert!(holder.gate.report(NOW, &holder.chain)[0].seen >= holder.chain.now_floor());
    // With freshness a clock that is ahead installs nothing at all.
    let (council, first) = board(fresh);
    let mut holder = Holder::new(&first);
    for at in 0..3 {
        holder.gate.beacon(NOW, &holder.chain, &beacon(&holder, &council, at, NOW)).unwrap();
    }
    let mut one = next(&holder.chain, Lane::Release, release_body("1"));
    one.expires = NOW.plus(2 * years);
    let one = council.sign(&one);
    assert!(matches!(
        holder.offer(NOW.plus(years), &one),
        Ok(Offered::Held(Standing::Stale { fresh: 0, .. }))
    ));
}

#[test]
fn t26_objections_and_beacons_of_a_board_that_is_over_count_no_more() {
    let (old, first) = board(fresh);
    let mut holder = Holder::new(&first);
    let new = Council::new(3, 2, 2, 5);
    let mut rules = new.policy(2);
    fresh(&mut rules);
    rules.classes.release.lock_s = Some(LOCK_S);
    let draft = next(&holder.chain, Lane::Policy, rules.to_body());
    let both = merge_signatures(&old.sign(&draft), &new.sign(&draft)).unwrap();
    for at in 0..3 {
        holder.gate.beacon(NOW, &holder.chain, &beacon(&holder, &old, at, NOW)).unwrap();
    }
    assert_eq!(holder.gate.freshness(NOW, &holder.chain), Some((3, 2)));
    holder.offer(NOW, &both).unwrap();
    assert_eq!(holder.head(Lane::Policy), 2);
    assert_eq!(holder.gate.freshness(NOW, &holder.chain), Some((0, 2)));
    let one = release(&holder, &new, "1");
    holder.offer(NOW, &one).unwrap();
    for at in 0..3 {
        let late = veto(&holder, &old, at, &one);
        assert!(holder.gate.object(NOW, &holder.chain, &late).is_err());
        let late = beacon(&holder, &old, at, NOW.plus(5));
        assert!(holder.gate.beacon(NOW, &holder.chain, &late).is_err());
    }
    assert_eq!(holder.standing(NOW, &one).unwrap().as_str(), "waiting");
    holder.gate.object(NOW, &holder.chain, &veto(&holder, &new, 0, &one)).unwrap();
    holder.gate.object(NOW, &holder.chain, &veto(&holder, &new, 1, &one)).unwrap();
    assert_eq!(holder.standing(NOW, &one).unwrap().as_str(), "vetoed");
}

fn recoverable(policy: &mut Policy, group: borgios_types::PublicKey) {
    policy.freshness = Some(Freshness { beacons: 2, max_age_s: DAY_S });
    let (silence_s, lock_s) = (30 * DAY_S, 14 * DAY_S);
    policy.recovery = Some(Recovery { group, silence_s, lock_s });
}

/// A recovery board's word for a new board counts after long silence and a long lock, and the first
/// sign of life of the old board ends it.
#[test]
fn a_recovery_key_speaks_only_after_long_silence_and_a_long_lock() {
    let rescue = Council::new(3, 2, 1, 77);
    let (old, first) = board(|policy| recoverable(policy, rescue.board.group()));
    let mut holder = Holder::new(&first);
    let new = Council::new(3, 2, 2, 5);
    let mut draft = next(&holder.chain, Lane::Policy, new.policy(2).to_body());
    draft.expires = NOW.plus(1_000 * DAY_S);
    let policy = merge_signatures(&rescue.sign(&draft), &new.sign(&draft)).unwrap();
    // Neither key alone, and no other lane.
    assert_eq!(holder.offer(NOW, &rescue.sign(&draft)).unwrap_err().code(), "bad_signature");
    assert_eq!(holder.offer(NOW, &new.sign(&draft)).unwrap_err().code(), "bad_signature");
    let release = next(&holder.chain, Lane::Release, release_body("1"));
    assert_eq!(holder.offer(NOW, &rescue.sign(&release)).unwrap_err().code(), "bad_signature");
    // Not for whoever follows the chain without a gate.
    assert_eq!(holder.chain.verify(NOW, &policy, &[]).unwrap_err().code(), "recovery");
    let mut now = NOW;
    let mut pass = |holder: &mut Holder, seconds: u64| {
        let end = now.plus(seconds);
        while now < end {
            now = end.min(now.plus(3_600));
            holder.tick(now);
        }
        now
    };
    let at = pass(&mut holder, 29 * DAY_S);
    assert_eq!(holder.offer(at, &policy).unwrap_err().code(), "recovery");
    // Enough beacons break the silence, and it begins anew.
    for governor in 0..2 {
        holder.gate.beacon(at, &holder.chain, &beacon(&holder, &old, governor, at)).unwrap();
    }
    let at = pass(&mut holder, 30 * DAY_S);
    assert_eq!(holder.offer(at, &policy).unwrap_err().code(), "recovery");
    let at = pass(&mut holder, 2 * DAY_S);
    assert!(matches!(holder.offer(at, &policy), Ok(Offered::Held(Standing::Waiting { .. }))));
    // One beacon of one governor ends the attempt.
    let at = pass(&mut holder, DAY_S);
    holder.gate.beacon(at, &holder.chain, &beacon(&holder, &old, 0, at)).unwrap();
    assert_eq!(holder.standing(at, &policy), None);
    holder.offer(at, &policy).unwrap();
    let at = pass(&mut holder, 13 * DAY_S);
    holder.restart();
    assert_eq!(holder.head(Lane::Policy), 1);
    let veto = veto(&holder, &old, 2, &policy);
    assert!(holder.gate.object(at, &holder.chain, &veto).unwrap());
    assert_eq!(holder.standing(at, &policy), None, "so does one veto");
    holder.offer(at, &policy).unwrap();
    pass(&mut holder, 14 * DAY_S + SETTLE_S + 3_600);
    assert_eq!(holder.chain.policy().unwrap().board, new.board);
    // From disk it counts again, by the gate's mark.
    let mut again = Chain::new(holder.chain.network());
    holder.gate.ripe().for_each(|id| again.ripen(id));
    let stored = holder.chain.history().map(|at| at.envelope().clone());
    let again = again.restored(&Submission::sort(stored.collect::<Vec<_>>())).unwrap();
    assert_eq!(again.head_seq(Lane::Policy), Seq(2));
}
