//! Records: when one is made, and by which clock.

use borgios_policy::fixture::{Council, statement as draft};
use borgios_policy::{Invitation, Lane, Ruling, Statement};
use borgios_types::{Kind, Seq, UnixSeconds};
use serde_json::json;

use super::*;
use crate::ledger::Ledger;

/// An invitation file of the network that begins with `first`.
fn file(council: &Council, first: &Envelope, chain: &[&Envelope]) -> serde_json::Value {
    let token = SecretKey::from_seed([9; 32]);
    let invitation = Invitation {
        network: first.id(),
        token: token.public(),
        uses: 1,
        issued: unix_now(),
        expires: unix_now().plus(3_600),
    };
    json!({
        "invitation": invitation.to_envelope().sign(&council.keys[&council.name(0)]),
        "token": token.to_openssh("token").as_str(),
        "network": first.id(),
        "name": "test",
        "members": [],
        "allowed_signers": "",
        "chain": chain,
        "policy": {"seq": 1, "id": first.id()},
    })
}

/// The clock was a month ahead for a moment, as before a server hears of the time. Once it is right the
/// record of then keeps no other one out.
#[tokio::test]
async fn a_record_of_a_clock_that_was_ahead_is_replaced_once_it_is_right() {
    let council = Council::new(3, 2, 1, 1);
    let body = council.policy(2).to_body();
    let draft = draft(Lane::Policy, 1, None, None, None, body);
    let first =
        council.sign(&Statement { issued: unix_now(), expires: unix_now().plus(86_400), ..draft });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("invite.json");
    std::fs::write(&path, file(&council, &first, &[&first]).to_string()).unwrap();
    let me = SecretKey::from_seed([70; 32]).public();
    let ledger = Ledger::open(&folder.path().join("state"), 0).unwrap().of(me);
    let ledger = LedgerHandle::spawn(ledger).unwrap();
    let invited = accept(&path, &ledger).await.unwrap().unwrap();
    let settings = Settings::below(folder.path(), "web-1".parse().unwrap());
    let (key, keeper) = (SecretKey::from_seed([70; 32]), SecretKey::from_seed([71; 32]));
    let keeper = keeper.public();
    let view = tokio::sync::watch::channel(None).1;
    let membership =
        Membership::new(key.clone(), &settings, Some(&invited), ledger.clone(), view).unwrap();
    assert_eq!(membership.renew_if_due(keeper).await.unwrap().len(), 1);
    assert_eq!(membership.renew_if_due(keeper).await.unwrap().len(), 0, "not due");

    let held = ledger.run(move |l| l.join_of(&me)).await.unwrap();
    let then = unix_now().plus(30 * 86_400);
    let join = Join { issued: then, expires: then.plus(membership.life), ..held };
    let ahead = join.to_envelope().sign(&key);
    let copy = ahead.clone();
    let refused = ledger.run(move |l| l.admit(copy, "this node")).await;
    assert!(matches!(refused, Admission::Refused { code: "bad_date", .. }), "{refused:?}");
    // As it entered by the clock of then.
    let id = ahead.id();
    ledger.run(move |l| l.store.put(ahead, me.to_string(), then.0)).await.unwrap();
    let made = membership.renew_if_due(keeper).await.unwrap();
    assert_eq!(made.len(), 1, "due, though the record of then is none that lapses soon");
    assert_eq!(made[0].forgotten, [id]);
    let now = ledger.run(move |l| l.join_of(&me)).await.unwrap();
    assert!(now.issued <= unix_now().plus(AHEAD_MAX));
    assert_eq!(membership.renew_if_due(keeper).await.unwrap().len(), 0, "not due");
}

/// The file of a newcomer that starts again holds what a ruling since has taken its place from.
#[tokio::test]
async fn an_invitation_is_followed_again_after_a_ruling() {
    let council = Council::new(3, 2, 1, 1);
    let dated = |statement: Statement| {
        let dated = Statement { issued: unix_now(), expires: unix_now().plus(86_400), ..statement };
        council.sign(&dated)
    };
    let body = council.policy(2).to_body();
    let first = dated(draft(Lane::Policy, 1, None, None, None, body));
    let network = Some(first.id());
    let component = json!({"name": "app", "digest": Digest::of(b"app"), "size": 3});
    let installer = json!({"digest": Digest::of(b"app"), "size": 3});
    let release = json!({
        "version": "1", "components": [component], "installer": installer, "floor": 1,
    });
    let overruled = dated(draft(Lane::Release, 1, network, None, Some(1), release));
    let mut rules = council.policy(2);
    rules.rulings = vec![Ruling::new(Lane::Release, Seq(1), None)];
    let ruling = dated(draft(Lane::Policy, 2, network, network, Some(1), rules.to_body()));
    let file = file(&council, &first, &[&first, &overruled]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("invite.json");
    std::fs::write(&path, file.to_string()).unwrap();
    let ledger = Ledger::open(&folder.path().join("state"), 0).unwrap();
    let ledger = LedgerHandle::spawn(ledger).unwrap();
    assert!(accept(&path, &ledger).await.unwrap().is_some());
    let applied = ledger.run(move |ledger| ledger.admit(ruling, "a neighbour")).await;
    assert!(matches!(applied, Admission::Admitted(_)), "{applied:?}");
    assert!(accept(&path, &ledger).await.unwrap().is_some());
    assert_eq!(ledger.run(|l| l.chain().head_seq(Lane::Policy)).await, Seq(2));
}

const DAY: u64 = 86_400;

/// A server that joined two days ago, below `folder`; its board, its key, and its first record.
fn joined(folder: &Path) -> (Council, Ledger, SecretKey, Join) {
    let council = Council::new(3, 2, 1, 1);
    let body = council.policy(2).to_body();
    let first = draft(Lane::Policy, 1, None, None, None, body);
    let now = unix_now();
    let begun = UnixSeconds(now.0 - 2 * DAY);
    let first = council.sign(&Statement { issued: begun, expires: now.plus(DAY), ..first });
    let [key, keeper, token] = [7, 8, 9].map(|seed| SecretKey::from_seed([seed; 32]));
    let invitation = Invitation {
        network: first.id(),
        token: token.public(),
        uses: 1,
        issued: begun,
        expires: now.plus(DAY),
    };
    let invitation = invitation.to_envelope().sign(&council.keys[&council.name(0)]);
    let join = Join {
        network: first.id(),
        node: key.public(),
        keeper: keeper.public(),
        name: "web-1".parse().unwrap(),
        address: None,
        owner: None,
        invitation: invitation.id(),
        issued: begun,
        expires: begun.plus(7 * DAY),
    };
    let mut ledger = Ledger::open(folder, 7 * DAY).unwrap().of(key.public());
    ledger.pin(first.id()).unwrap();
    let record = join.to_envelope().sign(&key).sign(&token);
    for envelope in [first, invitation, record] {
        let admitted = ledger.admit(envelope, "a test");
        assert!(matches!(admitted, Admission::Admitted(_)), "{admitted:?}");
    }
    (council, ledger, key, join)
}

/// A renewal of `first` of another time.
fn renewal(first: &Join, issued: UnixSeconds) -> Join {
    Join { issued, expires: issued.plus(7 * DAY), ..first.clone() }
}

/// The membership of a server that [`joined`].
fn member(ledger: Ledger, key: SecretKey, renew_after: u64) -> Membership {
    Membership {
        key,
        name: "web-1".parse().unwrap(),
        address: None,
        owner: None,
        life: 7 * DAY,
        renew_after,
        invitation: None,
        ledger: LedgerHandle::spawn(ledger).unwrap(),
        keeper: tokio::sync::watch::channel(None).1,
    }
}

/// A clock that was ahead for a while, as at a boot, made a renewal that nobody else takes.
#[tokio::test]
async fn a_record_of_a_clock_that_was_ahead_gives_way_once_it_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut ledger, key, first) = joined(folder.path());
    let (me, now) = (key.public(), unix_now());
    // As if the clock had let it in.
    let ahead = now.plus(40 * DAY);
    let record = renewal(&first, ahead).to_envelope().sign(&key);
    ledger.store.put(record, me.to_string(), ahead.0).unwrap();
    assert_eq!(ledger.join_of(&me).unwrap().issued, ahead);
    // The keeper gives the same receipt for ever: nothing comes in its place.
    let receipt = Envelope::unsigned(Kind::new("handover").unwrap(), "{}".to_owned());
    ledger.store.put(receipt, me.to_string(), ahead.0).unwrap();
    let membership = member(ledger, key, DAY);
    let gone = membership.ledger.run(move |l| l.set_aside_ahead(&me, unix_now())).await;
    assert_eq!(gone.len(), 1);
    assert_eq!(membership.renew_if_due(first.keeper).await.unwrap().len(), 1);
    let held = membership.ledger.run(move |l| l.join_of(&me)).await.unwrap();
    assert!(held.issued < now.plus(DAY), "{}", held.issued);
    // The first record stays, whatever its date, and what is in date too.
    let floor = membership.ledger.run(|l| l.chain().now_floor()).await;
    let before = UnixSeconds(floor.0 - 1);
    let again = membership.ledger.run(move |l| l.set_aside_ahead(&me, before)).await;
    assert_eq!(again, [], "a clock that is known to be wrong");
    let again = membership.ledger.run(move |l| l.set_aside_ahead(&me, floor)).await;
    assert_eq!(again.len(), 1, "the renewal; the newest statement is older");
    assert!(membership.ledger.run(move |l| l.first_join(&me)).await.is_some());
}

/// A clock that is weeks behind the newest statement, as before it was set, makes no record of its own
/// time, which would have lapsed: the server would try for ever, and come into no tree.
#[tokio::test]
async fn a_clock_that_is_behind_the_newest_statement_makes_no_record_of_the_past() {
    let folder = tempfile::tempdir().unwrap();
    let (council, mut ledger, key, first) = joined(folder.path());
    let (me, newest) = (key.public(), unix_now().plus(20 * DAY));
    let network = Some(first.network);
    let body = council.policy(2).to_body();
    let next = draft(Lane::Policy, 2, network, network, Some(1), body);
    let next = Statement { issued: newest, expires: newest.plus(DAY), ..next };
    let record = renewal(&first, UnixSeconds(newest.0 - 3_600));
    let envelopes = [council.sign(&next), record.to_envelope().sign(&key)];
    for envelope in envelopes {
        let admitted = ledger.admit(envelope, "a test");
        assert!(matches!(admitted, Admission::Admitted(_)), "{admitted:?}");
    }
    let membership = member(ledger, key, DAY);
    assert_eq!(membership.renew_if_due(first.keeper).await.unwrap().len(), 0, "not due");
    // Where one is due, it is of the time of that statement.
    let membership = Membership { renew_after: 60, ..membership };
    assert_eq!(membership.renew_if_due(first.keeper).await.unwrap().len(), 1);
    let held = membership.ledger.run(move |l| l.join_of(&me)).await.unwrap();
    assert_eq!(held.issued, newest);
}

/// A record that another one was to replace only for its date does where that one is not taken.
#[tokio::test]
async fn a_good_record_does_where_none_can_be_made_in_the_place_of_one_ahead() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut ledger, key, first) = joined(folder.path());
    let ahead = unix_now().plus(40 * DAY);
    let record = renewal(&first, ahead).to_envelope().sign(&key);
    ledger.store.put(record, key.public().to_string(), ahead.0).unwrap();
    ledger.remove(&[first.invitation]);
    let (keeper, other) = (first.keeper, first.node);
    let membership = member(ledger, key, 3 * DAY);
    assert_eq!(membership.renew_if_due(keeper).await.unwrap().len(), 0);
    assert!(membership.renew_if_due(other).await.is_err(), "it names another keeper");
}

/// A server whose clock is behind takes every honest record of late for one that is ahead. A copy of what
/// another server said before that replaces none.
#[test]
fn a_clock_that_is_behind_lets_no_old_record_replace_another_servers_newest() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut ledger, key, first) = joined(folder.path());
    let (node, now) = (key.public(), unix_now());
    let newest = now.plus(20 * DAY);
    let record = renewal(&first, newest).to_envelope().sign(&key);
    ledger.store.put(record, node.to_string(), newest.0).unwrap();
    let old = renewal(&first, now).to_envelope().sign(&key);
    let mut ledger = ledger.of(first.keeper);
    let said = ledger.admit(old.clone(), "a neighbour");
    assert!(matches!(said, Admission::Known), "{said:?}");
    assert_eq!(ledger.join_of(&node).unwrap().issued, newest);
    // At the server itself it is the record that was made by a clock which was wrong.
    let mut ledger = ledger.of(node);
    let said = ledger.admit(old, "this node");
    assert!(matches!(said, Admission::Admitted(_)), "{said:?}");
    assert_eq!(ledger.join_of(&node).unwrap().issued, now);
}

/// The clock that was ahead made the very first record, which nobody takes before its day. While the token
/// is there another one is made.
#[tokio::test]
async fn a_first_record_of_a_clock_that_was_ahead_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut ledger, key, first) = joined(folder.path());
    let (me, now) = (key.public(), unix_now());
    ledger.remove(&[first.to_envelope().id()]);
    let (ahead, token) = (now.plus(40 * DAY), SecretKey::from_seed([9; 32]));
    let record = renewal(&first, ahead).to_envelope().sign(&key).sign(&token);
    ledger.store.put(record, me.to_string(), ahead.0).unwrap();
    let membership = member(ledger, key, DAY);
    assert_eq!(
        membership.renew_if_due(first.keeper).await.unwrap().len(),
        0,
        "nothing to sign with"
    );
    let invitation = Some((first.invitation, token));
    let membership = Membership { invitation, ..membership };
    assert_eq!(membership.renew_if_due(first.keeper).await.unwrap().len(), 1);
    let made = membership.ledger.run(move |l| (l.first_join(&me), l.join_of(&me))).await;
    assert!(made.0.as_ref().is_some_and(|join| join.issued < now.plus(DAY)), "{made:?}");
    assert_eq!(made.0, made.1, "in the place of the other one");
    assert_eq!(membership.renew_if_due(first.keeper).await.unwrap().len(), 0, "not due");
}

/// A boot without a clock: the record of yesterday is dated after all that this clock can say.
#[tokio::test]
async fn a_clock_that_is_known_to_be_behind_replaces_no_record() {
    let folder = tempfile::tempdir().unwrap();
    let (council, mut ledger, key, first) = joined(folder.path());
    let (me, newest) = (key.public(), unix_now().plus(20 * DAY));
    let network = Some(first.network);
    let next = draft(Lane::Policy, 2, network, network, Some(1), council.policy(2).to_body());
    let next = Statement { issued: newest, expires: newest.plus(DAY), ..next };
    let admitted = ledger.admit(council.sign(&next), "a test");
    assert!(matches!(admitted, Admission::Admitted(_)), "{admitted:?}");
    let yesterday = newest.plus(20 * DAY);
    let record = renewal(&first, yesterday).to_envelope().sign(&key);
    ledger.store.put(record, me.to_string(), yesterday.0).unwrap();
    let membership = member(ledger, key, DAY);
    assert_eq!(membership.renew_if_due(first.keeper).await.unwrap().len(), 0);
    let gone = membership.ledger.run(move |l| l.set_aside_ahead(&me, unix_now())).await;
    assert_eq!(gone, []);
    let held = membership.ledger.run(move |l| l.join_of(&me)).await.unwrap();
    assert_eq!(held.issued, yesterday);
}

/// A server that boots without a clock holds records of its own that only seem to be ahead: a neighbour's copy
/// of what it said before replaces none.
#[test]
fn a_clock_that_is_known_to_be_behind_lets_no_old_record_replace_the_own_newest() {
    let folder = tempfile::tempdir().unwrap();
    let (council, mut ledger, key, first) = joined(folder.path());
    let (me, floor) = (key.public(), unix_now().plus(20 * DAY));
    let network = Some(first.network);
    let body = council.policy(2).to_body();
    let next = draft(Lane::Policy, 2, network, network, Some(1), body);
    let next = Statement { issued: floor, expires: floor.plus(DAY), ..next };
    let admitted = ledger.admit(council.sign(&next), "a test");
    assert!(matches!(admitted, Admission::Admitted(_)), "{admitted:?}");
    let newest = floor.plus(10 * DAY);
    let record = renewal(&first, newest).to_envelope().sign(&key);
    ledger.store.put(record, me.to_string(), newest.0).unwrap();
    let old = renewal(&first, UnixSeconds(floor.0 - 3_600)).to_envelope().sign(&key);
    let said = ledger.admit(old, "a neighbour");
    assert!(matches!(said, Admission::Known), "{said:?}");
    assert_eq!(ledger.join_of(&me).unwrap().issued, newest);
}
