//! What a node refuses, and by which name: every step of a statement's verification.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};

use borgios_policy::chain::AHEAD_MAX_S;
use borgios_policy::fixture::{Council, EXPIRES, ISSUED, NOW, release_body, statement};
use borgios_policy::{
    Ballot, Chain, Lane, Object as _, Policy, Refusal, Statement, Submission, Verdict,
    merge_signatures, message,
};
use borgios_types::{
    Digest, Envelope, EnvelopeError, Kind, Seq, Signature, SignedBy, UnixSeconds, sshsig,
};
use curve25519_dalek::{EdwardsPoint, Scalar};
use frost_ed25519 as frost;
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;

/// A fleet of 2 of 3 with policy/1 applied.
fn fleet() -> (Council, Chain, Digest) {
    let council = Council::new(3, 2, 1, 1);
    let first = council.sign(&council.first_policy(2));
    let network = first.id();
    let mut chain = Chain::new(Some(network));
    admit(&mut chain, &first);
    (council, chain, network)
}

/// Verifies and applies.
fn admit(chain: &mut Chain, envelope: &Envelope) {
    match chain.verify(NOW, envelope, &[]).unwrap() {
        Verdict::New(verified) => chain.apply(*verified),
        Verdict::AlreadyKnown(id) => panic!("{id} is known"),
    }
}

/// The next release of a chain, unsigned.
fn next_release(chain: &Chain, version: &str) -> Statement {
    let head = chain.head(Lane::Release);
    statement(
        Lane::Release,
        chain.head_seq(Lane::Release).next().0,
        chain.network(),
        head.map(borgios_policy::VerifiedStatement::id),
        Some(chain.head_seq(Lane::Policy).0),
        release_body(version),
    )
}

fn refusal(chain: &Chain, envelope: &Envelope) -> Refusal {
    chain.verify(NOW, envelope, &[]).unwrap_err()
}

/// What a node does with bytes from outside.
fn receive(chain: &Chain, bytes: &[u8]) -> Result<Verdict, Refusal> {
    chain.verify(NOW, &Envelope::parse(bytes)?, &[])
}

#[test]
fn a_signed_chain_is_followed() {
    let (council, mut chain, network) = fleet();
    for version in ["0.1", "0.2", "0.3"] {
        let release = council.sign(&next_release(&chain, version));
        admit(&mut chain, &release);
        assert!(matches!(chain.verify(NOW, &release, &[]), Ok(Verdict::AlreadyKnown(id))
            if id == release.id()));
        assert_eq!(
            chain.known(&release.id()),
            Some((Lane::Release, chain.head_seq(Lane::Release)))
        );
    }
    assert_eq!(chain.network(), Some(network));
    assert_eq!(chain.after(Lane::Release, Seq(1)).count(), 2);
    assert_eq!(chain.now_floor(), ISSUED);
    // From disk, in any order.
    let mut stored: Vec<Envelope> = chain.history().map(|s| s.envelope().clone()).collect();
    stored.reverse();
    let again = Chain::restore(Some(network), stored).unwrap();
    assert_eq!(again.head(Lane::Release), chain.head(Lane::Release));
}

#[test]
fn every_refusal_has_its_name() {
    let (council, mut chain, _) = fleet();
    let old = council.sign(&next_release(&chain, "0.1"));
    admit(&mut chain, &old);
    let good = next_release(&chain, "0.2");
    let mut seen = BTreeSet::new();
    let mut expect = |code: &'static str, found: Refusal| {
        assert_eq!(found.code(), code, "{found}");
        seen.insert(code);
    };
    // 1. Bounds and strict JSON.
    let mut huge = council.sign(&good);
    huge.payload = format!("{{\"lane\":\"release\",\"x\":\"{}\"}}", "x".repeat(70_000));
    expect("too_large", refusal(&chain, &huge));
    expect("too_large", receive(&chain, &vec![b'x'; 100 << 20]).unwrap_err());
    let mut twice = council.sign(&good);
    twice.payload = twice.payload.replacen("{", "{\"lane\":\"release\",", 1);
    twice.sigs[0].sig = council.group_signature(Lane::Release, &twice.payload);
    expect("malformed", refusal(&chain, &twice));
    expect("malformed", receive(&chain, twice.to_json().as_bytes()).unwrap_err());
    for broken in [
        Statement { seq: Seq(0), ..good.clone() },
        Statement { prev: None, ..good.clone() },
        Statement { policy: None, ..good.clone() },
        Statement { network: None, ..good.clone() },
        Statement { expires: ISSUED, ..good.clone() },
        Statement { body: 7.into(), ..good.clone() },
    ] {
        expect("malformed", refusal(&chain, &council.sign(&broken)));
    }
    // 2. Kind = lane, critical fields known.
    let mut other_kind = council.sign(&good);
    other_kind.kind = Kind::new("policy").unwrap();
    expect("wrong_kind", refusal(&chain, &other_kind));
    other_kind.kind = Kind::new("note").unwrap();
    expect("wrong_kind", refusal(&chain, &other_kind));
    let critical = Statement { critical: vec!["waves".into()], ..good.clone() };
    expect("unknown_critical", refusal(&chain, &council.sign(&critical)));
    // 3. Network.
    let foreign = Statement { network: Some(Digest::of(b"other")), ..good.clone() };
    expect("wrong_network", refusal(&chain, &council.sign(&foreign)));
    let other_first = Council::new(3, 2, 1, 2);
    let rival_first = other_first.sign(&other_first.first_policy(2));
    expect("wrong_network", refusal(&chain, &rival_first));
    expect("wrong_network", refusal(&Chain::new(chain.network()), &rival_first));
    // 4. The policy in force.
    let future = Statement { policy: Some(Seq(2)), ..good.clone() };
    expect("gap", refusal(&chain, &council.sign(&future)));
    let stale = Statement { policy: Some(Seq(0)), ..good.clone() };
    expect("wrong_policy", refusal(&chain, &council.sign(&stale)));
    // 5. Signature.
    let mut forged = council.sign(&good);
    forged.sigs[0].sig.0[40] ^= 1;
    expect("bad_signature", refusal(&chain, &forged));
    forged.sigs.clear();
    expect("bad_signature", refusal(&chain, &forged));
    expect("bad_signature", refusal(&chain, &other_first.sign(&good)));
    let mut other_namespace = council.sign(&good);
    other_namespace.sigs[0].sig = council.group_signature(Lane::Policy, &other_namespace.payload);
    expect("bad_signature", refusal(&chain, &other_namespace));
    // 6. Its place.
    let skipped = Statement { seq: Seq(3), ..good.clone() };
    expect("gap", refusal(&chain, &council.sign(&skipped)));
    let branch = Statement { prev: Some(Digest::of(b"branch")), ..good.clone() };
    expect("rival", refusal(&chain, &council.sign(&branch)));
    let other_old = Statement { seq: Seq(1), prev: None, ..good.clone() };
    let rival = refusal(&chain, &council.sign(&other_old));
    assert!(rival.is_evidence());
    expect("rival", rival);
    // 7. Expiry, by the clock and by the newest statement.
    let late = chain.verify(EXPIRES, &council.sign(&good), &[]).unwrap_err();
    expect("expired", late);
    // 8. The body.
    let mut policy = council.policy(2);
    policy.fanout = 1;
    let head = chain.head(Lane::Policy).unwrap().id();
    let next = |body| statement(Lane::Policy, 2, chain.network(), Some(head), Some(1), body);
    expect("bad_body", refusal(&chain, &council.sign(&next(policy.to_body()))));
    // After that, the replay of what was succeeded.
    let mut further = chain.clone();
    admit(&mut further, &council.sign(&good));
    expect("replayed", refusal(&further, &old));
    // And a class above the threshold.
    let strict = Council::new(3, 2, 1, 3);
    let mut chain = Chain::new(None);
    admit(&mut chain, &strict.sign(&strict.first_policy(3)));
    let release = next_release(&chain, "0.1");
    let few = chain.verify(NOW, &strict.sign(&release), &[]).unwrap_err();
    expect("too_few_approvals", few);
    // `tests/rulings.rs`, `tests/rows.rs`, `tests/freshness.rs` and `tests/gate.rs` have the others.
    seen.extend(["closed", "too_few_rebuilds", "recovery", "held_back"]);
    assert_eq!(seen, BTreeSet::from(Refusal::CODES));
}

#[test]
fn approvals_count_distinct_governors_for_exactly_this_statement() {
    let council = Council::new(3, 2, 1, 3);
    let mut chain = Chain::new(None);
    admit(&mut chain, &council.sign(&council.first_policy(3)));
    let release = next_release(&chain, "0.1");
    let pools = council.pools(council.slot(&release));
    let signed = council.sign(&release);
    let names: Vec<_> = council.keys.keys().cloned().collect();
    let mut ballots: Vec<Envelope> =
        names[..2].iter().map(|name| council.approve(name, &release, &pools)).collect();
    let counted = |ballots: &[Envelope]| match chain.verify(NOW, &signed, ballots) {
        Err(Refusal::TooFewApprovals { counted, needed: 3, .. }) => counted,
        other => panic!("{other:?}"),
    };
    assert_eq!(counted(&ballots), 2);
    // The same governor twice, a ballot for another text, a rejection, a stranger, a forgery.
    let other = next_release(&chain, "6.6.6");
    let mut forged = ballots[0].clone();
    forged.payload = forged.payload.replace("\"ann\"", "\"cleo\"");
    let stranger = Council::new(3, 2, 1, 9);
    let stranger_pools = stranger.pools(stranger.slot(&release));
    ballots.extend([
        ballots[0].clone(),
        council.approve(&names[2], &other, &pools),
        council.reject(&names[2], &release),
        stranger.approve(&names[2], &release, &stranger_pools),
        forged,
    ]);
    assert_eq!(counted(&ballots), 2);
    ballots.push(council.approve(&names[2], &release, &pools));
    assert!(matches!(chain.verify(NOW, &signed, &ballots), Ok(Verdict::New(_))));
    // The ballots travel in one list with the statements.
    let mixed: Vec<Envelope> = ballots
        .into_iter()
        .chain(chain.history().map(|s| s.envelope().clone()))
        .chain([signed])
        .collect();
    let run = Chain::new(None).verify_run(NOW, &Submission::sort(mixed));
    assert_eq!((run.accepted.len(), run.refused), (2, vec![]));
}

#[test]
fn t02_no_flipped_bit_of_a_signed_statement_its_signature_or_its_key_passes() {
    let (council, chain, _) = fleet();
    let good = council.sign(&next_release(&chain, "0.1")).to_json().into_bytes();
    assert!(receive(&chain, &good).is_ok());
    let mut codes = BTreeSet::new();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let refusal = receive(&chain, &bad).map(|_| bit).unwrap_err();
        codes.insert(refusal.code());
    }
    for code in ["malformed", "wrong_kind", "wrong_network", "bad_signature"] {
        assert!(codes.contains(code), "{code} of {codes:?}");
    }
}

/// What t−1 governors can make of their shares: a signature of all t with one share left out of it, and a
/// whole one of their own, which is good for the key that t−1 of these shares would belong to.
#[test]
fn t05_what_fewer_than_t_shares_make_is_no_signature_of_the_board() {
    let council = Council::new(5, 3, 1, 1);
    let first = council.sign(&council.first_policy(3));
    let mut chain = Chain::new(Some(first.id()));
    admit(&mut chain, &first);
    let draft = next_release(&chain, "1");
    let mut envelope = draft.to_envelope();
    let group = council.board.group();
    let message = message::signed_bytes(Lane::Release, &envelope.payload, &group);
    let public = frost::VerifyingKey::deserialize(&group.to_bytes()).unwrap();
    let sign = |signers: u16, key: frost::VerifyingKey| {
        let mut rng = ChaCha20Rng::seed_from_u64(5);
        let (mut packages, mut nonces) = (Vec::new(), Vec::new());
        let mut commitments = BTreeMap::new();
        for (at, share) in (1..=signers).zip(council.shares.values()) {
            let id = frost::Identifier::try_from(at).unwrap();
            let secret = frost::keys::SigningShare::deserialize(share.to_scalar().expose());
            let secret = secret.unwrap();
            let (nonce, commitment) = frost::round1::commit(&secret, &mut rng);
            let verifying = frost::keys::VerifyingShare::from(secret);
            packages.push(frost::keys::KeyPackage::new(id, secret, verifying, key, signers));
            nonces.push(nonce);
            commitments.insert(id, commitment);
        }
        let package = frost::SigningPackage::new(commitments, &message);
        let shares = packages.iter().zip(&nonces).map(|(signer, nonce)| {
            (*signer.identifier(), frost::round2::sign(&package, nonce, signer).unwrap())
        });
        let shares: BTreeMap<_, _> = shares.collect();
        let verifying = packages.iter().map(|one| (*one.identifier(), *one.verifying_share()));
        let public = frost::keys::PublicKeyPackage::new(verifying.collect(), key, Some(signers));
        (frost::aggregate(&package, &shares, &public), shares)
    };
    let mut refused = |sig: [u8; 64]| {
        let sig = Signature(sig);
        envelope.sigs = vec![SignedBy { by: group, sig }];
        refusal(&chain, &envelope).code()
    };
    let (whole, shares) = sign(3, public);
    let whole: [u8; 64] = whole.unwrap().serialize().unwrap().try_into().unwrap();
    let scalar = |bytes: &[u8]| Scalar::from_bytes_mod_order(bytes.try_into().unwrap());
    for left_out in shares.values() {
        let mut forged = whole;
        let rest = scalar(&whole[32..]) - scalar(&left_out.serialize());
        forged[32..].copy_from_slice(rest.as_bytes());
        assert_eq!(refused(forged), "bad_signature");
    }
    // Two shares interpolate to 2·s1 − s2; that is another key than the board's, and theirs.
    let secrets: Vec<Scalar> =
        council.shares.values().map(|share| scalar(share.to_scalar().expose())).collect();
    let theirs = EdwardsPoint::mul_base(&(secrets[0] + secrets[0] - secrets[1])).compress();
    let (own, _) = sign(2, frost::VerifyingKey::deserialize(theirs.as_bytes()).unwrap());
    let own = own.expect("good for their own key").serialize().unwrap();
    assert_eq!(refused(own.try_into().unwrap()), "bad_signature");
    assert!(sign(2, public).0.is_err(), "nor does it add up under the board's");
    // The same steps with all t pass: what is refused above is refused for its shares.
    let sig = Signature(whole);
    envelope.sigs = vec![SignedBy { by: group, sig }];
    assert!(matches!(chain.verify(NOW, &envelope, &[]), Ok(Verdict::New(_))));
}

/// A vote and a change of rules under one board may arrive in either order, unless the rules were
/// tightened; then the release needs what both ask for, or has to be carried.
#[test]
fn a_release_may_cross_a_change_of_rules() {
    let (council, chain, network) = fleet();
    let release = next_release(&chain, "0.1");
    let head = chain.head(Lane::Policy).unwrap().id();
    let second = |policy: Policy| {
        let body = policy.to_body();
        council.sign(&statement(Lane::Policy, 2, Some(network), Some(head), Some(1), body))
    };
    let mut wider = council.policy(2);
    wider.fanout = 8;
    let mut release_last = chain.clone();
    admit(&mut release_last, &second(wider.clone()));
    admit(&mut release_last, &council.sign(&release));
    let mut release_first = chain.clone();
    admit(&mut release_first, &council.sign(&release));
    admit(&mut release_first, &second(wider));
    assert_eq!(release_last.head_seq(Lane::Release), release_first.head_seq(Lane::Release));
    let stored = release_last.history().map(|verified| verified.envelope().clone());
    let restored = Chain::restore(chain.network(), stored.collect::<Vec<_>>()).unwrap();
    assert_eq!(restored.head_seq(Lane::Release), Seq(1));
    // The next release may not go back to the older rules.
    let after = next_release(&release_first, "0.2");
    let backwards = Statement { policy: Some(Seq(1)), ..after.clone() };
    admit(&mut release_first, &council.sign(&after));
    let onward = next_release(&release_first, "0.3");
    let backwards = Statement { seq: onward.seq, prev: onward.prev, ..backwards };
    assert_eq!(refusal(&release_first, &council.sign(&backwards)).code(), "wrong_policy");
    // Tightened rules hold for what was signed before them too.
    let mut tightened = chain.clone();
    admit(&mut tightened, &second(council.policy(3)));
    assert_eq!(refusal(&tightened, &council.sign(&release)).code(), "too_few_approvals");
    let mut carrying = council.policy(3);
    carrying.carried.insert(council.sign(&release).id());
    let mut carried = chain;
    admit(&mut carried, &second(carrying));
    admit(&mut carried, &council.sign(&release));
}

#[test]
fn a_change_of_board_needs_the_old_and_the_new_key() {
    let (old, mut chain, network) = fleet();
    let first_release = next_release(&chain, "0.1");
    let late_release = old.sign(&first_release);
    let new = Council::new(5, 3, 2, 4);
    let head = chain.head(Lane::Policy).unwrap().id();
    let next =
        statement(Lane::Policy, 2, Some(network), Some(head), Some(1), new.policy(3).to_body());
    let (by_old, by_new) = (old.sign(&next), new.sign(&next));
    assert_eq!(refusal(&chain, &by_old).code(), "bad_signature");
    assert_eq!(refusal(&chain, &by_new).code(), "bad_signature");
    let both = merge_signatures(&by_old, &by_new).unwrap();
    // The key must open the next epoch.
    let skipping = Council::new(3, 2, 3, 5);
    let skips = Statement { body: skipping.policy(2).to_body(), ..next.clone() };
    let skips = merge_signatures(&old.sign(&skips), &skipping.sign(&skips)).unwrap();
    assert_eq!(refusal(&chain, &skips).code(), "bad_body");
    let before = chain.clone();
    admit(&mut chain, &both);
    assert_eq!(chain.policy().unwrap().board, new.board);
    // The old board is over: its releases, and its rival for the change itself.
    assert_eq!(refusal(&chain, &late_release).code(), "wrong_policy");
    let mut rules = old.policy(2);
    rules.fanout = 8;
    let rival = Statement { body: rules.to_body(), ..next.clone() };
    assert_eq!(refusal(&chain, &old.sign(&rival)).code(), "rival");
    // What the new policy carries over still counts.
    let mut carrying = new.policy(3);
    carrying.carried.insert(late_release.id());
    let next = Statement { body: carrying.to_body(), ..next };
    let mut chain = before;
    admit(&mut chain, &merge_signatures(&old.sign(&next), &new.sign(&next)).unwrap());
    admit(&mut chain, &late_release);
    // Such a chain reads back from disk, whatever the order.
    let mut stored: Vec<Envelope> = chain.history().map(|s| s.envelope().clone()).collect();
    stored.reverse();
    let again = Chain::restore(Some(network), stored).unwrap();
    assert_eq!(again.head_seq(Lane::Release), Seq(1));
}

#[test]
fn rules_change_under_the_same_board_and_members_do_not() {
    let (council, mut chain, network) = fleet();
    let head = chain.head(Lane::Policy).unwrap().id();
    let next = |policy: &borgios_policy::Policy| {
        statement(Lane::Policy, 2, Some(network), Some(head), Some(1), policy.to_body())
    };
    // The same group key around other members.
    let mut body = council.policy(2).to_body();
    body["board"]["governors"][0]["name"] = "abe".into();
    let renamed = Statement { body, ..next(&council.policy(2)) };
    assert_eq!(refusal(&chain, &council.sign(&renamed)).code(), "bad_body");
    // A verifying share that does not belong to the key would frame its governor.
    let mut body = council.policy(2).to_body();
    body["board"]["governors"][0]["share"] = body["board"]["governors"][1]["share"].clone();
    let framed = Statement { body, ..next(&council.policy(2)) };
    assert_eq!(refusal(&chain, &council.sign(&framed)).code(), "bad_body");
    let mut rules = council.policy(3);
    rules.fanout = 16;
    admit(&mut chain, &council.sign(&next(&rules)));
    assert_eq!(chain.policy().unwrap().fanout, 16);
}

#[test]
fn who_was_away_follows_expired_statements_to_one_in_date() {
    let (council, mut chain, network) = fleet();
    for version in ["0.1", "0.2"] {
        let release = council.sign(&next_release(&chain, version));
        admit(&mut chain, &release);
    }
    let later = EXPIRES.plus(10);
    let fresh =
        Statement { issued: later, expires: later.plus(1_000), ..next_release(&chain, "0.3") };
    let old: Vec<Envelope> = chain.history().map(|s| s.envelope().clone()).collect();
    let newcomer = Chain::new(Some(network));
    // Nothing in date: nothing is followed.
    let run = newcomer.verify_run(later, &Submission::sort(old.clone()));
    assert_eq!(run.accepted.len(), 0);
    assert!(run.refused.iter().all(|(_, refusal)| refusal.code() == "expired"));
    assert_eq!(run.refused.len(), 3);
    // One statement in date upholds all it builds upon.
    let all = old.into_iter().chain([council.sign(&fresh)]);
    let run = newcomer.verify_run(later, &Submission::sort(all));
    assert_eq!((run.accepted.len(), run.refused), (4, vec![]));
}

#[test]
fn a_clock_set_back_does_not_revive_what_expired() {
    let (council, mut chain, _) = fleet();
    let newer =
        Statement { issued: EXPIRES, expires: EXPIRES.plus(9), ..next_release(&chain, "0.1") };
    admit(&mut chain, &council.sign(&newer));
    let short = next_release(&chain, "0.2");
    let refused = chain.verify(UnixSeconds(0), &council.sign(&short), &[]).unwrap_err();
    assert_eq!(refused.code(), "expired");
}

#[test]
fn one_governor_cannot_crowd_out_the_approvals_of_the_others() {
    let council = Council::new(3, 2, 1, 3);
    let mut chain = Chain::new(None);
    admit(&mut chain, &council.sign(&council.first_policy(3)));
    let release = next_release(&chain, "0.1");
    let pools = council.pools(council.slot(&release));
    let names: Vec<_> = council.keys.keys().cloned().collect();
    let ballots = names.iter().map(|name| council.approve(name, &release, &pools));
    let ballots: Vec<Envelope> = ballots.collect();
    // A hundred times the same vote in other words, and a hundred on other things.
    let mut crowd = Vec::new();
    for number in 0..100 {
        let mut again = Ballot::parse(&ballots[0]).unwrap();
        again.comment = Some(format!("again {number}"));
        crowd.push(again.to_envelope().sign(&council.keys[&names[0]]));
        let other = next_release(&chain, &format!("9.{number}"));
        crowd.push(council.reject(&names[0], &other));
    }
    crowd.extend(ballots);
    let verdict = chain.verify(NOW, &council.sign(&release), &crowd);
    assert!(matches!(verdict, Ok(Verdict::New(_))), "{verdict:?}");
}

#[test]
fn a_forged_twin_does_not_hide_a_true_statement() {
    let (council, chain, network) = fleet();
    let release = council.sign(&next_release(&chain, "0.1"));
    let mut twin = release.clone();
    twin.sigs[0].sig.0[40] ^= 1;
    let first = chain.head(Lane::Policy).unwrap().envelope().clone();
    for list in [[&first, &release, &twin], [&first, &twin, &release]] {
        let offered = Submission::sort(list.into_iter().cloned());
        let run = Chain::new(Some(network)).verify_run(NOW, &offered);
        assert_eq!(run.accepted.len(), 2, "{:?}", run.refused);
    }
}

/// Signed, such a date would move every clock of the fleet: what ends before it is over there, and no
/// later statement could expire after it.
#[test]
fn a_draft_of_a_time_to_come_is_not_reviewed() {
    let (council, mut chain, _) = fleet();
    let draft = |chain: &Chain, issued: UnixSeconds| {
        let expires = issued.plus(3_600);
        Statement { issued, expires, ..next_release(chain, "0.3") }.to_envelope()
    };
    for ahead in [AHEAD_MAX_S + 1, 86_400, (1 << 53) - 3_601 - NOW.0] {
        let refused = chain.review(NOW, &draft(&chain, NOW.plus(ahead))).unwrap_err();
        assert_eq!(refused.code(), "bad_body", "{ahead}");
        assert!(refused.to_string().contains("issued"), "{refused}");
    }
    // Clocks that are kept right differ by so much.
    chain.review(NOW, &draft(&chain, NOW.plus(AHEAD_MAX_S))).unwrap();
    // What t governors dated ahead is no step from which the next one goes further; nor does it shut
    // the board.
    let newest = NOW.plus(9_000);
    let signed = Statement { issued: newest, ..next_release(&chain, "0.2") };
    admit(&mut chain, &council.sign(&signed));
    chain.review(NOW, &draft(&chain, newest)).unwrap();
    let refused = chain.review(NOW, &draft(&chain, newest.plus(1))).unwrap_err();
    assert_eq!(refused.code(), "bad_body");
}

#[test]
fn a_draft_is_reviewed_by_the_same_steps() {
    let (council, chain, _) = fleet();
    let draft = next_release(&chain, "0.1");
    assert_eq!(chain.review(NOW, &draft.to_envelope()).unwrap(), draft);
    let broken = Statement { prev: Some(Digest::of(b"?")), seq: Seq(2), ..draft };
    assert_eq!(chain.review(NOW, &broken.to_envelope()).unwrap_err().code(), "gap");
    let mut rules = council.policy(2);
    rules.fanout = 900;
    let head = chain.head(Lane::Policy).unwrap().id();
    let policy = statement(Lane::Policy, 2, chain.network(), Some(head), Some(1), rules.to_body());
    assert_eq!(chain.review(NOW, &policy.to_envelope()).unwrap_err().code(), "bad_body");
}

#[test]
fn hostile_bytes_are_refused_by_name() {
    let (_, chain, _) = fleet();
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for bad in ["", "{}", "null", "\u{feff}{}", "NaN", &deep] {
        assert_eq!(receive(&chain, bad.as_bytes()).unwrap_err().code(), "malformed", "{bad}");
    }
    assert!(matches!(Envelope::parse(b"\xff"), Err(EnvelopeError::Text(_))));
}

/// The real `ssh-keygen` says the same as this crate about an exported statement.
#[test]
fn stock_ssh_keygen_verifies_an_exported_statement() {
    let (council, chain, _) = fleet();
    let release = council.sign(&next_release(&chain, "0.1"));
    let folder = tempfile::tempdir().unwrap();
    let path = |file: &str| folder.path().join(file).to_str().unwrap().to_owned();
    let group = council.board.group();
    let signers = group.allowed_signer("board", &["borgios-release@v1"]);
    let armour = sshsig::armour(&group, &Lane::Release.namespace(), &release.sigs[0].sig);
    std::fs::write(path("signers"), signers).unwrap();
    std::fs::write(path("release.sig"), armour).unwrap();
    let verify = |payload: &str, namespace: &str| {
        let mut keygen = Command::new("ssh-keygen")
            .args(["-Y", "verify", "-f", &path("signers"), "-I", "board", "-n", namespace])
            .args(["-s", &path("release.sig")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("ssh-keygen is installed");
        keygen.stdin.take().unwrap().write_all(payload.as_bytes()).unwrap();
        keygen.wait_with_output().unwrap()
    };
    let good = verify(&release.payload, "borgios-release@v1");
    assert!(good.status.success());
    assert!(String::from_utf8_lossy(&good.stdout).starts_with("Good \"borgios-release@v1\""));
    assert!(!verify(&release.payload.replace("0.1", "0.2"), "borgios-release@v1").status.success());
    assert!(!verify(&release.payload, "borgios-policy@v1").status.success());
}
