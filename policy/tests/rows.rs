//! Rows of the negative tests, against the real verifier: signatures, versions, the policy chain.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use borgios_policy::fixture::{Council, EXPIRES, ISSUED, NOW, release_body, statement};
use borgios_policy::rebuild::components_digest;
use borgios_policy::{
    Admission, Chain, Class, Freshness, Invitation, Lane, Object as _, Policy, Recovery, Refusal,
    Ruling, Statement, Submission, Verdict, merge_signatures, message,
};
use borgios_types::{Digest, Envelope, EnvelopeError, PublicKey, SecretKey, Seq, Signature};
use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::{EdwardsPoint, Scalar};
use frost_ed25519 as frost;
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

fn fleet() -> (Council, Chain) {
    let council = Council::new(3, 2, 1, 1);
    let chain = founded(&council, &council.policy(2));
    (council, chain)
}

fn founded(council: &Council, policy: &Policy) -> Chain {
    let first = council.sign(&statement(Lane::Policy, 1, None, None, None, policy.to_body()));
    let mut chain = Chain::new(Some(first.id()));
    admit(&mut chain, &first).unwrap();
    chain
}

fn admit(chain: &mut Chain, envelope: &Envelope) -> Result<(), Refusal> {
    match chain.verify(NOW, envelope, &[])? {
        Verdict::New(verified) => chain.apply(*verified),
        Verdict::AlreadyKnown(_) => {}
    }
    Ok(())
}

fn code(chain: &Chain, envelope: &Envelope) -> &'static str {
    match chain.verify(NOW, envelope, &[]) {
        Ok(verdict) => panic!("accepted: {verdict:?}"),
        Err(refusal) => refusal.code(),
    }
}

fn next(chain: &Chain, lane: Lane, body: Value) -> Statement {
    let prev = chain.tip(lane).map(|tip| tip.id);
    let policy = Some(chain.head_seq(Lane::Policy).0);
    statement(lane, chain.head_seq(lane).next().0, chain.network(), prev, policy, body)
}

fn next_policy(chain: &Chain, policy: &Policy) -> Statement {
    next(chain, Lane::Policy, policy.to_body())
}

#[test]
fn t01_a_statement_without_a_signature_is_refused() {
    let (council, chain) = fleet();
    for lane in Lane::ALL {
        let body = if lane == Lane::Policy { council.policy(2).to_body() } else { json!({}) };
        assert_eq!(code(&chain, &next(&chain, lane, body).to_envelope()), "bad_signature");
    }
    let first = council.first_policy(2).to_envelope();
    assert_eq!(code(&Chain::new(Some(first.id())), &first), "bad_signature");
}

#[test]
fn t03_a_signature_for_another_lane_is_none() {
    let (council, chain) = fleet();
    for lane in Lane::ALL.into_iter().filter(|lane| *lane != Lane::Release) {
        let mut envelope = council.sign(&next(&chain, Lane::Release, release_body("1")));
        envelope.sigs[0].sig = council.group_signature(lane, &envelope.payload);
        assert_eq!(code(&chain, &envelope), "bad_signature", "{lane}");
    }
}

/// The group's whole secret, which nobody has: dealt once more as the fixture deals it.
fn group_secret(council: &Council) -> Scalar {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let dealt =
        frost::keys::generate_with_dealer(3, 2, frost::keys::IdentifierList::Default, &mut rng);
    let packages = dealt.unwrap().0.into_values();
    let packages: Vec<_> =
        packages.map(|share| frost::keys::KeyPackage::try_from(share).unwrap()).collect();
    let secret = frost::keys::reconstruct(&packages).unwrap().to_scalar();
    let public = EdwardsPoint::mul_base(&secret).compress().to_bytes();
    assert_eq!(public, council.board.group().to_bytes());
    secret
}

/// R is the neutral element and s = k·a, so that sB − kA is R: all that the ordinary verification
/// asks for.
fn neutral_signature(secret: &Scalar, group: &PublicKey, bytes: &[u8]) -> Signature {
    let mut sig = [0; 64];
    sig[0] = 1;
    let hash = Sha512::new().chain_update(&sig[..32]).chain_update(group.to_bytes());
    let hash: [u8; 64] = hash.chain_update(bytes).finalize().into();
    let k = Scalar::from_bytes_mod_order_wide(&hash);
    let s = k * secret;
    sig[32..].copy_from_slice(&s.to_bytes());
    let key = CompressedEdwardsY(group.to_bytes()).decompress().unwrap();
    let r = EdwardsPoint::vartime_double_scalar_mul_basepoint(&k, &-key, &s);
    assert_eq!(r.compress().to_bytes()[..], sig[..32], "the ordinary verification takes it");
    Signature(sig)
}

#[test]
fn t04_a_scalar_that_is_not_reduced_and_points_of_small_order_are_refused() {
    let (council, chain) = fleet();
    let good = council.sign(&next(&chain, Lane::Release, release_body("1")));
    // s + L: the same equation, another encoding.
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut bytes = good.sigs[0].sig.0;
    let mut carry = 0_u16;
    for (byte, add) in bytes[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert_eq!(carry, 0, "s + L fits 32 bytes");
    let mut bad = good.clone();
    bad.sigs[0].sig = Signature(bytes);
    assert_eq!(code(&chain, &bad), "bad_signature");
    // R of small order, with s = 0: the identity and the point of order two.
    let mut two = [0xff; 32];
    (two[0], two[31]) = (0xec, 0x7f);
    let mut one = [0; 32];
    one[0] = 1;
    for point in [one, two, [0; 32]] {
        let mut sig = [0; 64];
        sig[..32].copy_from_slice(&point);
        bad.sigs[0].sig = Signature(sig);
        assert_eq!(code(&chain, &bad), "bad_signature");
    }
    // R of small order with the s that goes with it, which only the group's own key can make, and
    // which the ordinary verification takes: in each lane, a grant's certificate included.
    let secret = group_secret(&council);
    for lane in Lane::ALL {
        let body = match lane {
            Lane::Policy => council.policy(2).to_body(),
            Lane::Access => json!({
                "order": "grant", "node": council.keys[&council.name(0)].public(), "serial": 1,
                "key": council.keys[&council.name(1)].public(), "after": ISSUED,
                "before": ISSUED.plus(900), "class": "normal", "reason": "the disk is full",
            }),
            _ => release_body("1"),
        };
        let mut weak = council.sign(&next(&chain, lane, body));
        let group = council.board.group();
        let bytes = message::signed_bytes(lane, &weak.payload, &group);
        assert_eq!(bytes.starts_with(b"SSHSIG"), lane != Lane::Access, "{lane}");
        weak.sigs[0].sig = neutral_signature(&secret, &group, &bytes);
        assert_eq!(code(&chain, &weak), "bad_signature", "{lane}");
    }
    // Such a point as a key is no group's: its board is refused.
    let mut body = council.policy(2).to_body();
    let key = borgios_types::PublicKey::from_bytes(one);
    assert!(
        key.is_err() || {
            body["board"]["group"] = json!(key.unwrap());
            Policy::parse(&body).is_err()
        }
    );
}

#[test]
fn t07_a_policy_that_breaks_the_board_s_arithmetic_is_refused() {
    let (council, chain) = fleet();
    let broken = |change: &dyn Fn(&mut Value)| {
        let mut body = council.policy(2).to_body();
        change(&mut body);
        let signed = council.sign(&next(&chain, Lane::Policy, body.clone()));
        let code = code(&chain, &signed);
        // What is no whole number is not even JSON here.
        let expected = if body.to_string().contains("2.5") { "malformed" } else { "bad_body" };
        assert_eq!(code, expected, "{body}");
    };
    for threshold in [json!(0), json!(-1), json!(1), json!(4), json!(65_536), json!(2.5)] {
        broken(&|body| body["board"]["threshold"] = threshold.clone());
    }
    broken(&|body| body["board"]["governors"] = json!([]));
    broken(&|body| body["board"]["governors"][1] = body["board"]["governors"][0].clone());
    broken(&|body| {
        body["board"]["governors"][1]["key"] = body["board"]["governors"][0]["key"].clone();
    });
    broken(&|body| body["board"]["governors"].as_array_mut().unwrap().truncate(1));
}

/// Every bound of the rules that are not the board's, by the rule that names it.
#[test]
fn t07_a_policy_beyond_the_bounds_of_its_rules_is_refused() {
    let (council, _) = fleet();
    let rescue = Council::new(3, 2, 1, 77).board.group();
    let day = 86_400;
    let good = |change: &dyn Fn(&mut Policy)| {
        let mut policy = council.policy(2);
        change(&mut policy);
        let body = policy.to_body();
        assert_eq!(Policy::parse(&body).map(|read| read.to_body()), Ok(body));
    };
    let bad = |says: &str, change: &dyn Fn(&mut Policy)| {
        let mut policy = council.policy(2);
        change(&mut policy);
        let error = Policy::parse(&policy.to_body()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}, expected {says}");
    };
    good(&|policy| {
        let class = Class {
            lock_s: Some(90 * day),
            veto: Some(3),
            rebuilds: Some(2),
            deadline_s: Some(day),
            ..Class::of(2)
        };
        policy.classes.release = class;
        policy.classes.emergency = Some(Class { veto: Some(2), ..Class::of(3) });
        policy.freshness = Some(Freshness { beacons: 3, max_age_s: 3_600 });
        policy.pause_s = Some(0);
        policy.recovery = Some(Recovery { group: rescue, silence_s: 30 * day, lock_s: 14 * day });
        let inviters = Some(vec![council.name(2)]);
        policy.admission = Some(Admission { inviters, uses_max: Some(1), lifetime_s: Some(60) });
        policy.rulings = vec![Ruling::new(Lane::Access, Seq(7), None)];
    });
    bad("release.lock_s", &|policy| policy.classes.release.lock_s = Some(90 * day + 1));
    bad("policy.veto", &|policy| policy.classes.policy.veto = Some(1));
    bad("policy.veto", &|policy| policy.classes.policy.veto = Some(4));
    bad("release.rebuilds", &|policy| policy.classes.release.rebuilds = Some(3));
    bad("policy.rebuilds", &|policy| policy.classes.policy.rebuilds = Some(1));
    bad("emergency", &|policy| policy.classes.emergency = Some(Class::of(1)));
    bad("emergency", &|policy| policy.classes.emergency = Some(Class::of(4)));
    bad("deadline_s", &|policy| policy.classes.release.deadline_s = Some(0));
    bad("pause_s", &|policy| policy.pause_s = Some(day + 1));
    for (beacons, max_age_s) in [(0, day), (4, day), (2, 3_599), (2, 90 * day + 1)] {
        bad("freshness", &|policy| policy.freshness = Some(Freshness { beacons, max_age_s }));
    }
    let recovery = |group, silence_s, lock_s| {
        move |policy: &mut Policy| {
            policy.freshness = Some(Freshness { beacons: 2, max_age_s: day });
            policy.recovery = Some(Recovery { group, silence_s, lock_s });
        }
    };
    bad("silence_s", &recovery(rescue, 30 * day - 1, 14 * day));
    // Nodes that hold a change of the board back may hear too few all the while.
    bad("silence_s", &|policy| {
        recovery(rescue, 31 * day, 14 * day)(policy);
        policy.classes.policy.lock_s = Some(30 * day);
    });
    good(&|policy| {
        recovery(rescue, 31 * day + 1, 14 * day)(policy);
        policy.classes.policy.lock_s = Some(30 * day);
    });
    bad("lock_s", &recovery(rescue, 30 * day, 14 * day - 1));
    bad("recovery key", &recovery(council.board.group(), 30 * day, 14 * day));
    bad("needs `freshness`", &|policy| {
        policy.recovery = Some(Recovery { group: rescue, silence_s: 30 * day, lock_s: 14 * day });
    });
    let admit = |inviters: &[&str], uses_max, lifetime_s| {
        let inviters = Some(inviters.iter().map(|name| name.parse().unwrap()).collect());
        move |policy: &mut Policy| {
            let inviters = Option::clone(&inviters);
            policy.admission = Some(Admission { inviters, uses_max, lifetime_s });
        }
    };
    bad("zoe", &admit(&["zoe"], None, None));
    bad("ann", &admit(&["ann", "ben", "ann"], None, None));
    bad("uses_max", &admit(&["ann"], Some(0), None));
    bad("lifetime_s", &admit(&["ann"], None, Some(59)));
    let rule = |lane, seq| Ruling::new(lane, Seq(seq), None);
    bad("ruling", &|policy| policy.rulings = vec![rule(Lane::Policy, 2)]);
    bad("ruling", &|policy| policy.rulings = vec![rule(Lane::Release, 0)]);
    bad("ruling", &|policy| policy.rulings = vec![rule(Lane::Release, 1); 2]);
    bad("rulings", &|policy| {
        policy.rulings = (1..=17).map(|seq| rule(Lane::Release, seq)).collect();
    });
}

#[test]
fn t08_an_emergency_needs_the_approvals_of_its_own_class() {
    let council = Council::new(3, 2, 1, 1);
    let mut policy = council.policy(2);
    let plain = founded(&council, &policy);
    policy.classes.emergency = Some(Class::of(3));
    let chain = founded(&council, &policy);
    let mut body = release_body("1");
    body["class"] = "emergency".into();
    assert_eq!(code(&plain, &council.sign(&next(&plain, Lane::Release, body.clone()))), "bad_body");
    let urgent = next(&chain, Lane::Release, body.clone());
    let signed = council.sign(&urgent);
    let pools = council.pools(council.slot(&urgent));
    let mut ballots: Vec<Envelope> =
        (0..2).map(|at| council.approve(&council.name(at), &urgent, &pools)).collect();
    let refused = chain.verify(NOW, &signed, &ballots).unwrap_err();
    assert_eq!(refused.code(), "too_few_approvals");
    ballots.push(council.approve(&council.name(2), &urgent, &pools));
    assert!(matches!(chain.verify(NOW, &signed, &ballots), Ok(Verdict::New(_))));
    // The word `normal` changes nothing; any other is refused.
    body["class"] = "normal".into();
    chain.verify(NOW, &council.sign(&next(&chain, Lane::Release, body.clone())), &[]).unwrap();
    for odd in [json!("urgent"), json!(1), json!(null), json!(["emergency"])] {
        body["class"] = odd;
        let odd = council.sign(&next(&chain, Lane::Release, body.clone()));
        assert_eq!(code(&chain, &odd), "bad_body");
    }
}

/// A ballot's payload with a rebuild in it, signed again.
fn rebuilt(council: &Council, ballot: &Envelope, by: usize, digest: Digest) -> Envelope {
    let mut payload: Value = serde_json::from_str(&ballot.payload).unwrap();
    payload["rebuild"] = json!({"digest": digest, "env": "debian-12"});
    let envelope = Envelope::unsigned(ballot.kind.clone(), payload.to_string());
    envelope.sign(&council.keys[&council.name(by)])
}

#[test]
fn rebuilds_count_only_where_they_came_to_the_release_s_own_bytes() {
    let council = Council::new(3, 2, 1, 1);
    let mut policy = council.policy(2);
    policy.classes.release.rebuilds = Some(2);
    let chain = founded(&council, &policy);
    let mut body = release_body("1");
    let part = |text: &[u8]| json!({"name": "x", "digest": Digest::of(text), "size": 1});
    body["components"] = json!([part(b"one"), part(b"two")]);
    let release = next(&chain, Lane::Release, body.clone());
    let signed = council.sign(&release);
    let pools = council.pools(council.slot(&release));
    let plain: Vec<Envelope> =
        (0..3).map(|at| council.approve(&council.name(at), &release, &pools)).collect();
    let right = components_digest(&body).unwrap();
    let counted = |ballots: &[Envelope]| match chain.verify(NOW, &signed, ballots) {
        Err(Refusal::TooFewRebuilds { counted, needed: 2, .. }) => counted,
        other => panic!("{other:?}"),
    };
    assert_eq!(counted(&plain), 0);
    let mut ballots = plain.clone();
    ballots.push(rebuilt(&council, &plain[0], 0, right));
    ballots.push(rebuilt(&council, &plain[0], 0, right));
    ballots.push(rebuilt(&council, &plain[1], 1, Digest::of(b"other")));
    ballots.push(rebuilt(&council, &plain[1], 2, right));
    assert_eq!(counted(&ballots), 1, "one governor once, another's digest and signature never");
    ballots.push(rebuilt(&council, &plain[2], 2, right));
    assert!(matches!(chain.verify(NOW, &signed, &ballots), Ok(Verdict::New(_))));
    body["components"] = json!([part(b"two"), part(b"one")]);
    assert_ne!(components_digest(&body), Some(right), "their order matters");
}

#[test]
fn t09_one_invalid_ballot_among_enough_valid_ones_spoils_nothing() {
    let council = Council::new(3, 2, 1, 1);
    let chain = founded(&council, &council.policy(3));
    let release = next(&chain, Lane::Release, release_body("1"));
    let pools = council.pools(council.slot(&release));
    let mut ballots: Vec<Envelope> =
        (0..3).map(|at| council.approve(&council.name(at), &release, &pools)).collect();
    let mut broken = ballots[0].clone();
    broken.sigs[0].sig.0[3] ^= 1;
    ballots.insert(0, broken);
    assert!(matches!(chain.verify(NOW, &council.sign(&release), &ballots), Ok(Verdict::New(_))));
}

#[test]
fn t10_json_that_is_not_strict_is_refused_and_unknown_fields_stay_as_they_are() {
    let (council, chain) = fleet();
    let good = next(&chain, Lane::Release, release_body("1"));
    let text = good.to_payload();
    let signed = |payload: String| {
        let mut envelope = good.to_envelope();
        let sig = council.group_signature(Lane::Release, &payload);
        envelope.payload = payload;
        envelope.sigs.push(borgios_types::SignedBy { by: council.board.group(), sig });
        envelope
    };
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for broken in [
        text.replacen('{', "{\"seq\":1,", 1),
        format!("{text} x"),
        format!("\u{feff}{text}"),
        text.replacen("\"seq\":1", "\"seq\":1.0", 1),
        text.replacen("\"seq\":1", "\"seq\":NaN", 1),
        text.replacen('{', &format!("{{\"deep\":{deep},"), 1),
    ] {
        assert_eq!(code(&chain, &signed(broken)), "malformed");
    }
    let large = text.replacen('{', &format!("{{\"x\":\"{}\",", "x".repeat(65_536)), 1);
    assert_eq!(code(&chain, &signed(large)), "too_large");
    let critical = text.replacen("\"critical\":[]", "\"critical\":[\"waves\"]", 1);
    assert_eq!(code(&chain, &signed(critical)), "unknown_critical");
    let more = signed(text.replacen('{', "{ \"waves\" : [ 1 ],", 1));
    let Verdict::New(verified) = chain.verify(NOW, &more, &[]).unwrap() else { panic!("known") };
    assert_eq!(verified.envelope().payload, more.payload, "byte for byte");
}

#[test]
fn t11_a_lower_number_is_a_replay() {
    let (council, chain) = fleet();
    let (ahead, all) = releases(&council, &chain, 2);
    assert_eq!(code(&ahead, &all[0]), "replayed");
}

#[test]
fn t13_the_head_again_is_nothing_and_no_error() {
    let (council, chain) = fleet();
    let (ahead, all) = releases(&council, &chain, 2);
    for _ in 0..3 {
        assert!(matches!(ahead.verify(NOW, &all[1], &[]), Ok(Verdict::AlreadyKnown(_))));
    }
}

/// That many releases in a row, and the chain that has them.
fn releases(council: &Council, chain: &Chain, count: u32) -> (Chain, Vec<Envelope>) {
    let mut ahead = chain.clone();
    let all = (1..=count).map(|n| {
        let signed = council.sign(&next(&ahead, Lane::Release, release_body(&n.to_string())));
        admit(&mut ahead, &signed).unwrap();
        signed
    });
    let all = all.collect();
    (ahead, all)
}

#[test]
fn t14_a_jump_waits_for_what_lies_between() {
    let (council, chain) = fleet();
    let (_, all) = releases(&council, &chain, 5);
    assert_eq!(code(&chain, &all[4]), "gap");
    let submissions =
        all.iter().rev().map(|one| Submission { statement: one.clone(), ballots: Vec::new() });
    let mixed: Vec<Envelope> = submissions.map(|one| one.statement).collect();
    let run = chain.verify_run(NOW, &Submission::sort(mixed));
    assert_eq!((run.accepted.len(), run.refused), (5, vec![]));
}

#[test]
fn t15_a_wrong_prev_is_refused() {
    let (council, chain) = fleet();
    let (ahead, _) = releases(&council, &chain, 5);
    let branch = Statement {
        prev: Some(Digest::of(b"branch")),
        ..next(&ahead, Lane::Release, release_body("6"))
    };
    assert_eq!(code(&ahead, &council.sign(&branch)), "rival");
}

#[test]
fn t16_no_number_however_high_ends_a_lane() {
    let (council, mut chain) = fleet();
    let good = next(&chain, Lane::Release, release_body("1"));
    let high = Statement { seq: Seq(1 << 53), prev: Some(Digest::of(b"x")), ..good.clone() };
    assert_eq!(code(&chain, &council.sign(&high)), "gap");
    let text = good.to_payload();
    for number in [(1_u64 << 53) + 1, 1 << 63, u64::MAX] {
        let mut envelope = good.to_envelope();
        envelope.payload = text.replacen("\"seq\":1", &format!("\"seq\":{number}"), 1);
        let sig = council.group_signature(Lane::Release, &envelope.payload);
        envelope.sigs.push(borgios_types::SignedBy { by: council.board.group(), sig });
        assert_eq!(code(&chain, &envelope), "malformed");
    }
    admit(&mut chain, &council.sign(&good)).unwrap();
}

#[test]
fn t17_no_governor_is_asked_to_sign_a_lower_version_that_does_not_say_so() {
    let (council, mut chain) = fleet();
    let signed = council.sign(&next(&chain, Lane::Release, release_body("0.10.0")));
    admit(&mut chain, &signed).unwrap();
    let mut body = release_body("0.9.3");
    let lower = next(&chain, Lane::Release, body.clone()).to_envelope();
    let refused = chain.review(NOW, &lower).unwrap_err();
    assert!(refused.to_string().contains("downgrade"), "{refused}");
    body["downgrade"] = true.into();
    chain.review(NOW, &next(&chain, Lane::Release, body).to_envelope()).unwrap();
    chain.review(NOW, &next(&chain, Lane::Release, release_body("0.10.1")).to_envelope()).unwrap();
}

#[test]
fn t24_of_a_chain_of_policies_only_the_last_must_be_in_date() {
    let (council, chain) = fleet();
    let late = EXPIRES.plus(1);
    let second = next_policy(&chain, &council.policy(2));
    let signed = council.sign(&second);
    let run = |all: &[&Envelope]| {
        let all: Vec<Envelope> = all.iter().map(|one| (*one).clone()).collect();
        let run = chain.verify_run(late, &Submission::sort(all));
        (run.accepted.len(), run.refused.first().map(|(_, refusal)| refusal.code()))
    };
    assert_eq!(run(&[&signed]), (0, Some("expired")));
    let mut ahead = chain.clone();
    admit(&mut ahead, &signed).unwrap();
    let third = Statement { expires: late.plus(9), ..next_policy(&ahead, &council.policy(2)) };
    assert_eq!(run(&[&signed, &council.sign(&third)]), (2, None));
    // The policy in force expires, and what it allows goes on.
    let release =
        Statement { expires: late.plus(9), ..next(&ahead, Lane::Release, release_body("1")) };
    assert!(matches!(ahead.verify(late, &council.sign(&release), &[]), Ok(Verdict::New(_))));
}

#[test]
fn t25_a_change_of_board_needs_both_keys_in_order_and_once() {
    let (old, chain) = fleet();
    let new = Council::new(5, 3, 2, 4);
    let draft = next_policy(&chain, &new.policy(3));
    assert_eq!(code(&chain, &old.sign(&draft)), "bad_signature");
    assert_eq!(code(&chain, &new.sign(&draft)), "bad_signature");
    let both = merge_signatures(&old.sign(&draft), &new.sign(&draft)).unwrap();
    let mut ahead = chain.clone();
    admit(&mut ahead, &both).unwrap();
    // N+2 first.
    let third = new.sign(&next_policy(&ahead, &new.policy(3)));
    assert_eq!(code(&chain, &third), "gap");
    // N+1 twice, with two of three swapped, and with the threshold raised and lowered.
    for other in [Council::new(3, 2, 2, 8), Council::new(3, 3, 2, 9), Council::new(4, 3, 2, 10)] {
        let threshold = other.board.threshold().0;
        let draft = next_policy(&chain, &other.policy(threshold));
        let other = merge_signatures(&old.sign(&draft), &other.sign(&draft)).unwrap();
        assert!(matches!(chain.verify(NOW, &other, &[]), Ok(Verdict::New(_))));
        assert_eq!(code(&ahead, &other), "rival");
    }
    // The same key with another threshold is no board at all.
    let mut body = old.policy(3).to_body();
    body["board"]["threshold"] = 3.into();
    body["board"]["epoch"] = 2.into();
    assert_eq!(code(&chain, &old.sign(&next(&chain, Lane::Policy, body))), "bad_body");
}

#[test]
fn t27_what_an_earlier_board_signed_counts_only_if_it_is_carried() {
    let (old, chain) = fleet();
    let late = old.sign(&next(&chain, Lane::Release, release_body("1")));
    let new = Council::new(3, 2, 2, 4);
    let change = |policy: &Policy| {
        let draft = next_policy(&chain, policy);
        merge_signatures(&old.sign(&draft), &new.sign(&draft)).unwrap()
    };
    let mut without = chain.clone();
    admit(&mut without, &change(&new.policy(2))).unwrap();
    assert_eq!(code(&without, &late), "wrong_policy");
    let mut policy = new.policy(2);
    policy.carried.insert(late.id());
    let mut with = chain.clone();
    admit(&mut with, &change(&policy)).unwrap();
    admit(&mut with, &late).unwrap();
}

#[test]
fn t28_another_first_policy_than_the_pinned_one_founds_nothing() {
    let (council, chain) = fleet();
    let other = council.sign(&Statement { issued: ISSUED.plus(1), ..council.first_policy(2) });
    assert_eq!(code(&Chain::new(chain.network()), &other), "wrong_network");
}

#[test]
fn t29_what_was_not_applied_is_judged_again_when_the_rules_change() {
    let (council, mut chain) = fleet();
    let release = council.sign(&next(&chain, Lane::Release, release_body("1")));
    assert!(matches!(chain.verify(NOW, &release, &[]), Ok(Verdict::New(_))));
    let signed = council.sign(&next_policy(&chain, &council.policy(3)));
    admit(&mut chain, &signed).unwrap();
    assert_eq!(code(&chain, &release), "too_few_approvals");
}

#[test]
fn an_invitation_that_breaks_the_policy_s_admission_admits_nobody() {
    let (council, chain) = fleet();
    let network = chain.network().unwrap();
    let mut policy = council.policy(2);
    policy.admission = Some(Admission {
        inviters: Some(vec![council.name(1)]),
        uses_max: Some(5),
        lifetime_s: Some(3_600),
    });
    let check = |by: usize, uses: u32, life: u64| {
        let token = SecretKey::from_seed([1; 32]).public();
        let (issued, expires) = (NOW, NOW.plus(life));
        let invitation = Invitation { network, token, uses, issued, expires };
        let envelope = invitation.to_envelope().sign(&council.keys[&council.name(by)]);
        Invitation::verify_under(&council.policy(2), network, &envelope).unwrap();
        Invitation::verify_under(&policy, network, &envelope).map(drop).map_err(|e| e.code())
    };
    assert_eq!(check(1, 5, 3_600), Ok(()));
    for (by, uses, life) in [(0, 5, 3_600), (1, 6, 3_600), (1, 5, 3_601)] {
        assert_eq!(check(by, uses, life), Err("bad_body"));
    }
}

/// Bytes from outside: more than may be parsed are not.
#[test]
fn t10_an_envelope_that_is_too_long_is_not_parsed() {
    assert!(matches!(Envelope::parse(&vec![b'{'; 100 << 20]), Err(EnvelopeError::TooLarge(_))));
}
