//! Locks and pauses run by the holder's own clock, whatever dates are written in what it applies.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

mod holder;

use borgios_policy::Lane;
use borgios_policy::fixture::{NOW, release_body};
use borgios_policy::gate::Standing;
use borgios_types::UnixSeconds;
use holder::{DAY_S, Holder, LOCK_S, board, next, pause, run};

/// A clock is what locks run by: whoever holds t shares dates what has no lock as they like.
#[test]
fn what_is_dated_ahead_ends_no_lock_and_no_pause() {
    let (council, first) = board(|_| ());
    let revoke = |holder: &Holder, ahead_s: u64| {
        let body =
            serde_json::json!({"order": "revoke", "serials": [1], "reason": "a key is lost"});
        let mut order = next(&holder.chain, Lane::Access, body);
        (order.issued, order.expires) = (NOW.plus(ahead_s), NOW.plus(ahead_s + DAY_S));
        council.sign(&order)
    };
    // Before it came, and while it waits.
    for before in [true, false] {
        let mut holder = Holder::new(&first);
        let mut one = next(&holder.chain, Lane::Release, release_body("1"));
        one.expires = NOW.plus(30 * DAY_S);
        let one = council.sign(&one);
        if before {
            let ahead = revoke(&holder, 7 * DAY_S);
            holder.offer(NOW, &ahead).unwrap();
        }
        holder.offer(NOW, &one).unwrap();
        let wait = pause(&holder, &council, 2, &one);
        holder.gate.object(NOW, &holder.chain, &wait).unwrap();
        for ahead_s in [8 * DAY_S, 8 * DAY_S + 700, 9 * DAY_S] {
            let ahead = revoke(&holder, ahead_s);
            holder.offer(NOW, &ahead).unwrap();
            holder.tick(NOW);
        }
        assert_eq!(holder.chain.now_floor(), NOW.plus(9 * DAY_S), "they are applied");
        let pause_s = holder.chain.policy().unwrap().pause();
        assert!(pause_s > LOCK_S);
        for restarted in [false, true] {
            run(&mut holder, NOW, UnixSeconds(NOW.0 + LOCK_S - 1));
            assert_eq!(holder.head(Lane::Release), 0, "{before} {restarted}");
            holder.restart();
        }
        run(&mut holder, NOW.plus(LOCK_S), UnixSeconds(NOW.0 + pause_s - 1));
        assert_eq!(holder.head(Lane::Release), 0, "the pause holds: {before}");
        run(&mut holder, NOW.plus(pause_s), NOW.plus(pause_s));
        assert_eq!(
            holder.head(Lane::Release),
            1,
            "{before}: {:?}",
            holder.standing(NOW.plus(pause_s), &one)
        );
    }
}

/// Nor does it hide when a lock began from a clock that was behind for a while, as at a start.
#[test]
fn what_is_dated_ahead_and_a_clock_that_is_behind_for_a_while_end_no_lock() {
    let (council, first) = board(|_| ());
    let mut holder = Holder::new(&first);
    let body = serde_json::json!({"order": "revoke", "serials": [1], "reason": "a key is lost"});
    let mut order = next(&holder.chain, Lane::Access, body);
    (order.issued, order.expires) = (NOW.plus(9 * DAY_S), NOW.plus(10 * DAY_S));
    holder.offer(NOW, &council.sign(&order)).unwrap();
    let mut one = next(&holder.chain, Lane::Release, release_body("1"));
    one.expires = NOW.plus(30 * DAY_S);
    let one = council.sign(&one);
    holder.offer(NOW, &one).unwrap();
    let wait = pause(&holder, &council, 2, &one);
    holder.gate.object(NOW, &holder.chain, &wait).unwrap();
    let pause_s = holder.chain.policy().unwrap().pause();
    for _ in 0..2 {
        holder.tick(UnixSeconds(NOW.0 - 30 * DAY_S));
        holder.restart();
    }
    run(&mut holder, NOW.plus(60), UnixSeconds(NOW.0 + LOCK_S - 1));
    let standing = holder.standing(UnixSeconds(NOW.0 + LOCK_S - 1), &one);
    assert_eq!(standing, Some(Standing::Waiting { until: NOW.plus(LOCK_S) }));
    run(&mut holder, NOW.plus(LOCK_S), UnixSeconds(NOW.0 + pause_s - 1));
    assert_eq!(holder.head(Lane::Release), 0);
    holder.tick(NOW.plus(pause_s));
    assert_eq!(holder.head(Lane::Release), 1);
}
