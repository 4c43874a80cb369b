//! The lanes `credential`, `member` and `access`: what their statements amount to, how a grant is
//! signed as a certificate, and what no signature can do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use std::collections::BTreeSet;
use std::process::Command;

use borgios_policy::fixture::{Council, ISSUED, NOW, release_body, statement};
use borgios_policy::{
    AccessOrder, Blob, Bytes, Chain, Class, Credential, Eviction, Grant, Intent, Invitation, Join,
    Lane, Object as _, OpenRound, Refusal, State, Statement, Submission, Verdict,
    VerifiedStatement, Witness, WitnessProof, message, tally,
};
use borgios_types::certificate::is_signed_by;
use borgios_types::{Digest, Envelope, Epoch, PublicKey, SecretKey, Seq, sshsig};
use serde_json::{Value, json};

fn fleet() -> (Council, Chain) {
    let council = Council::new(3, 2, 1, 1);
    let first = council.sign(&council.first_policy(2));
    let mut chain = Chain::new(Some(first.id()));
    admit(&mut chain, &first, &[]).unwrap();
    (council, chain)
}

fn admit(chain: &mut Chain, envelope: &Envelope, ballots: &[Envelope]) -> Result<(), Refusal> {
    match chain.verify(NOW, envelope, ballots)? {
        Verdict::New(verified) => chain.apply(*verified),
        Verdict::AlreadyKnown(id) => panic!("{id} is known"),
    }
    Ok(())
}

fn next(chain: &Chain, lane: Lane, body: Value) -> Statement {
    let prev = chain.head(lane).map(VerifiedStatement::id);
    let policy = Some(chain.head_seq(Lane::Policy).0);
    statement(lane, chain.head_seq(lane).next().0, chain.network(), prev, policy, body)
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn grant(chain: &Chain, class: &str) -> Statement {
    let serial = chain.head_seq(Lane::Access).next();
    let body = json!({
        "order": "grant", "node": key(1).public(), "serial": serial, "key": key(2).public(),
        "after": ISSUED, "before": ISSUED.plus(900), "class": class, "sources": ["127.0.0.0/8"],
        "reason": "the disk is full",
    });
    next(chain, Lane::Access, body)
}

fn credential(min_epoch: u64) -> Value {
    let blob = Blob { digest: Digest::of(b"blob"), size: 9 };
    let (schedule, escrow, reason) = (blob, blob, String::new());
    Credential { schedule, escrow, min_epoch: Epoch(min_epoch), reason }.to_body()
}

#[test]
fn a_vote_on_a_grant_makes_a_certificate_that_stock_ssh_reads() {
    let (council, mut chain) = fleet();
    let document = grant(&chain, "normal");
    chain.review(NOW, &document.to_envelope()).unwrap();
    let slot = council.slot(&document);
    let pools = council.pools(slot);
    let ballots: Vec<_> =
        (0..2).map(|at| council.approve(&council.name(at), &document, &pools)).collect();
    let counted = tally(&council.board, slot, &[document.to_payload()], &pools, &ballots);
    let State::Signed(signed) = &counted.documents[&document.to_envelope().id()].state else {
        panic!("two of three approve: {counted:?}")
    };
    admit(&mut chain, signed, &[]).unwrap();
    let text = Grant::openssh(&document, signed, &council.board.group()).unwrap();
    assert!(is_signed_by(&text, &council.board.group()));
    // A signature that somebody added is no certificate, wherever in the list it stands.
    let stranger = SecretKey::from_seed([77; 32]);
    let mut added = document.to_envelope().sign(&stranger);
    assert_eq!(Grant::openssh(&document, &added, &council.board.group()), None);
    added.sigs.extend(signed.sigs.iter().cloned());
    let found = Grant::openssh(&document, &added, &council.board.group()).unwrap();
    assert!(is_signed_by(&found, &council.board.group()));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("id-cert.pub");
    std::fs::write(&path, format!("{text}\n")).unwrap();
    let shown = Command::new("ssh-keygen").arg("-L").arg("-f").arg(&path).output();
    let shown = shown.expect("ssh-keygen is installed");
    assert!(shown.status.success());
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let granted = chain.grant(&signed.id()).unwrap();
    let wanted = [
        council.board.group().fingerprint(),
        granted.grant.principal(signed.id()),
        "source-address 127.0.0.0/8".to_owned(),
        "Serial: 1".to_owned(),
        format!("borgios access/1 {}", signed.id()),
        "permit-pty".to_owned(),
    ];
    for wanted in wanted {
        assert!(shown.contains(&wanted), "{wanted}: {shown}");
    }
    assert!(!shown.contains("port-forwarding") && !shown.contains("agent-forwarding"));
}

#[test]
fn no_signature_of_one_kind_is_one_of_the_other() {
    let (council, chain) = fleet();
    let group = council.board.group();
    let document = grant(&chain, "normal");
    let signed = council.sign(&document);
    let bytes = message::signed_bytes(Lane::Access, &signed.payload, &group);
    assert!(!bytes.starts_with(b"SSHSIG"));
    // The envelope's signature is no SSH signature over the payload, under any lane's name.
    for lane in Lane::ALL {
        let preimage = sshsig::preimage(&lane.namespace(), signed.payload.as_bytes());
        assert!(!group.verifies_bytes(&preimage, &signed.sigs[0].sig), "{lane}");
    }
    assert!(!signed.signed_by(&group));
    assert!(message::signed_by(&signed, &group));
    // Nor does a signature over one payload open the door for another with the same certificate
    // fields: the nonce names the whole payload.
    let reworded = signed.payload.replace("the disk is full", "just because");
    let forged = Envelope { payload: reworded, ..signed.clone() };
    assert_eq!(chain.verify(NOW, &forged, &[]).unwrap_err().code(), "bad_signature");
    let longer = signed.payload.replace(&ISSUED.plus(900).0.to_string(), "1795000901");
    assert_ne!(longer, signed.payload);
    let forged = Envelope { payload: longer, ..signed };
    assert_eq!(chain.verify(NOW, &forged, &[]).unwrap_err().code(), "bad_signature");
    // A release's signature is none for a revocation with the same text, and the other way round.
    let release = council.sign(&next(&chain, Lane::Release, release_body("1")));
    assert!(release.signed_by(&group) && message::signed_by(&release, &group));
}

#[test]
fn an_offline_grant_needs_the_approvals_of_its_class() {
    let (council, mut chain) = fleet();
    let document = grant(&chain, "offline");
    let pools = council.pools(council.slot(&document));
    let signed = council.sign(&document);
    let approve = |at| council.approve(&council.name(at), &document, &pools);
    let two = [approve(0), approve(1)];
    assert_eq!(chain.verify(NOW, &signed, &two).unwrap_err().code(), "too_few_approvals");
    let three = [approve(0), approve(1), approve(2)];
    admit(&mut chain, &signed, &three).unwrap();

    // A policy may say that two are enough.
    let (council, mut chain) = fleet();
    let mut policy = council.policy(2);
    policy.classes.offline = Some(Class::of(2));
    let second = council.sign(&next(&chain, Lane::Policy, policy.to_body()));
    admit(&mut chain, &second, &[]).unwrap();
    let signed = council.sign(&grant(&chain, "offline"));
    admit(&mut chain, &signed, &[]).unwrap();
}

#[test]
fn the_lanes_add_up() {
    let (council, mut chain) = fleet();
    let take = |chain: &mut Chain, lane, body| {
        let signed = council.sign(&next(chain, lane, body));
        admit(chain, &signed, &[]).unwrap();
    };
    assert!(chain.credential().is_none() && chain.evicted().is_empty());
    take(&mut chain, Lane::Credential, credential(3));
    take(&mut chain, Lane::Credential, credential(7));
    assert_eq!(chain.min_epoch(), Epoch(7));
    for seed in [5, 6] {
        let evict = vec![key(seed).public()];
        take(&mut chain, Lane::Member, Eviction { evict, reason: "dark".into() }.to_body());
    }
    assert_eq!(chain.evicted(), BTreeSet::from([key(5).public(), key(6).public()]));
    let signed = council.sign(&grant(&chain, "normal"));
    admit(&mut chain, &signed, &[]).unwrap();
    assert_eq!(chain.grants().len(), 1);
    take(&mut chain, Lane::Access, json!({"order": "revoke", "serials": [1], "reason": "done"}));
    assert_eq!(chain.revoked(), BTreeSet::from([1]));
    let to = age_recipient();
    let until = ISSUED.plus(600);
    let body = json!({"order": "reveal", "epoch": 7, "to": to, "until": until, "reason": "tty"});
    take(&mut chain, Lane::Access, body);
    assert_eq!(chain.reveals(), [(Epoch(7), until)]);
    // The same from a store, in any order.
    let mut stored: Vec<Envelope> = chain.history().map(|at| at.envelope().clone()).collect();
    stored.reverse();
    let again = Chain::restore(chain.network(), stored).unwrap();
    assert_eq!(again.min_epoch(), Epoch(7));
    assert_eq!(again.head(Lane::Access).unwrap().id(), chain.head(Lane::Access).unwrap().id());
}

fn age_recipient() -> String {
    Council::new(2, 2, 1, 9).board.governors()[0].recipient.clone()
}

#[test]
fn a_server_that_comes_after_a_year_follows_an_eviction_that_ended_its_lane() {
    let (council, mut chain) = fleet();
    let policy = chain.head(Lane::Policy).unwrap().envelope().clone();
    let gone = key(5).public();
    let body = Eviction { evict: vec![gone], reason: "dark".into() }.to_body();
    let draft = next(&chain, Lane::Member, body);
    let signed = council.sign(&draft);
    let late = draft.expires.plus(365 * 24 * 3600);
    // Nobody votes on it any more, but what was signed holds.
    assert_eq!(chain.review(late, &draft.to_envelope()).unwrap_err().code(), "expired");
    let mut newcomer = chain.clone();
    let Verdict::New(verified) = newcomer.verify(late, &signed, &[]).unwrap() else {
        panic!("it is new")
    };
    newcomer.apply(*verified);
    assert_eq!(newcomer.evicted(), BTreeSet::from([gone]));
    // In a run too, the policy that it stands under with it; a release is not followed so.
    let release = council.sign(&next(&chain, Lane::Release, release_body("1")));
    let run = Submission::sort([release.clone(), signed.clone(), policy]);
    let accepted = Chain::new(chain.network()).verify_run(late, &run).accepted;
    let lanes: Vec<Lane> = accepted.iter().map(|one| one.statement().lane).collect();
    assert_eq!(lanes, [Lane::Policy, Lane::Member]);
    assert_eq!(chain.verify(late, &release, &[]).unwrap_err().code(), "expired");
    admit(&mut chain, &signed, &[]).unwrap();
}

#[test]
fn a_signed_mistake_holds_its_place_and_orders_nothing() {
    let (council, mut chain) = fleet();
    let take = |chain: &mut Chain, lane, body: Value| {
        let draft = next(chain, lane, body);
        assert_eq!(chain.review(NOW, &draft.to_envelope()).unwrap_err().code(), "bad_body");
        admit(chain, &council.sign(&draft), &[]).unwrap();
    };
    let signed = council.sign(&next(&chain, Lane::Credential, credential(4)));
    admit(&mut chain, &signed, &[]).unwrap();
    // Neither a lower epoch nor an unreadable schedule turns the ratchet back.
    take(&mut chain, Lane::Credential, credential(2));
    assert_eq!(chain.min_epoch(), Epoch(4));
    take(&mut chain, Lane::Credential, json!({"schedule": "none"}));
    assert_eq!(chain.head_seq(Lane::Credential), Seq(3));
    assert_eq!(chain.min_epoch(), Epoch(4));
    assert_eq!(chain.credential().unwrap().1.statement().seq, Seq(2));
    take(&mut chain, Lane::Member, json!({"evict": [], "reason": "x"}));
    take(&mut chain, Lane::Access, json!({"order": "open", "reason": "x"}));
    let mut long = grant(&chain, "normal").body;
    long["before"] = json!(ISSUED.plus(10 * 24 * 3600));
    take(&mut chain, Lane::Access, long);
    assert!(chain.evicted().is_empty() && chain.grants().is_empty());
}

#[test]
fn a_revocation_reaches_only_what_was_granted_before_it() {
    let (council, mut chain) = fleet();
    for _ in 0..2 {
        let signed = council.sign(&grant(&chain, "normal"));
        admit(&mut chain, &signed, &[]).unwrap();
    }
    let revoke = |chain: &Chain, serials: &[u64]| {
        next(chain, Lane::Access, json!({"order": "revoke", "serials": serials, "reason": "done"}))
    };
    chain.review(NOW, &revoke(&chain, &[1, 2]).to_envelope()).unwrap();
    for serials in [&[0][..], &[3], &[1, 4], &[999]] {
        let draft = revoke(&chain, serials).to_envelope();
        assert_eq!(chain.review(NOW, &draft).unwrap_err().code(), "bad_body", "{serials:?}");
    }
    // Signed all the same, it revokes what it can, and no grant that comes after it.
    let signed = council.sign(&revoke(&chain, &[0, 2, 3, 4, 999]));
    admit(&mut chain, &signed, &[]).unwrap();
    let signed = council.sign(&grant(&chain, "normal"));
    admit(&mut chain, &signed, &[]).unwrap();
    assert_eq!(chain.grants().last().unwrap().grant.serial, 4);
    assert_eq!(chain.revoked(), BTreeSet::from([2]));
}

#[test]
fn a_share_for_a_reveal_is_bound_to_the_intent() {
    let (council, chain) = fleet();
    let to = age_recipient();
    let until = ISSUED.plus(600);
    let body = json!({"order": "reveal", "epoch": 1, "to": to, "until": until, "reason": "tty"});
    let document = next(&chain, Lane::Access, body);
    assert!(matches!(AccessOrder::of(&document), Ok(AccessOrder::Reveal(_))));
    let (slot, name) = (council.slot(&document), council.name(0));
    let pools = council.pools(slot);
    let open = OpenRound::check(&council.board, slot, &[]).unwrap();
    let (text, none) = (document.to_payload(), BTreeSet::new());
    let intent =
        Intent::approve(&council.board, &name, &open, &text, &pools, &none, None, 1).unwrap();
    let ballot = |size: usize| {
        let intent = intent.clone().with_reveal(Bytes(vec![7; size]));
        let stored = serde_json::to_string(&intent).unwrap();
        let read: Intent = serde_json::from_str(&stored).unwrap();
        assert_eq!(read, intent);
        let seed = council.seed(&name, slot);
        read.ballot(&council.board, &council.shares[&name], Some(&seed), &pools)
    };
    assert_eq!(ballot(200).unwrap().reveal, Some(Bytes(vec![7; 200])));
    assert!(ballot(4096).is_err());
}

#[test]
fn only_a_member_who_saw_it_is_a_witness() {
    let (council, chain) = fleet();
    let network = chain.network().unwrap();
    let statement = Digest::of(b"statement");
    let (node, token, keeper) = (key(10), key(11), key(12));
    let invitation = Invitation {
        network,
        token: token.public(),
        uses: 1,
        issued: ISSUED,
        expires: ISSUED.plus(3600),
    };
    let by = &council.keys[&council.name(0)];
    let invitation = invitation.to_envelope().sign(by);
    let join = Join {
        network,
        node: node.public(),
        keeper: keeper.public(),
        name: "web-1".parse().unwrap(),
        address: None,
        owner: None,
        invitation: invitation.id(),
        issued: ISSUED,
        expires: ISSUED.plus(60),
    };
    let join = join.to_envelope().sign(&node).sign(&token);
    let witness = Witness { network, node: node.public(), statement, at: NOW };
    let proof = WitnessProof {
        witness: witness.to_envelope().sign(&node),
        join: join.clone(),
        invitation: invitation.clone(),
    };
    let boards = || [&council.board].into_iter();
    assert_eq!(proof.verify(boards(), network, &statement), Ok(node.public()));
    let other = Digest::of(b"other");
    assert!(proof.verify(boards(), network, &other).is_err());
    assert!(proof.verify(boards(), other, &statement).is_err());
    assert!(proof.verify([].into_iter(), network, &statement).is_err());
    let foreign = Council::new(3, 2, 1, 2);
    assert!(proof.verify([&foreign.board].into_iter(), network, &statement).is_err());
    // Signed by somebody else, or somebody else's record.
    let forged = WitnessProof { witness: witness.to_envelope().sign(&keeper), ..proof.clone() };
    assert!(forged.verify(boards(), network, &statement).is_err());
    let stranger = Witness { node: keeper.public(), ..witness };
    let stranger = stranger.to_envelope().sign(&keeper);
    let borrowed = WitnessProof { witness: stranger, ..proof.clone() };
    assert!(borrowed.verify(boards(), network, &statement).is_err());
    // A record that the token never signed, as a renewal is.
    let renewal = Join::parse(&join).unwrap().to_envelope().sign(&node);
    let renewed = WitnessProof { join: renewal, ..proof };
    assert!(renewed.verify(boards(), network, &statement).is_err());
}

#[test]
fn the_members_asked_to_witness_follow_from_the_statement() {
    let members: BTreeSet<PublicKey> = (0..100).map(|seed| key(seed).public()).collect();
    let asked = |statement: &Digest| -> Vec<PublicKey> {
        let all = members.iter().copied();
        all.filter(|node| Witness::is_asked(node, &members, statement)).collect()
    };
    let (one, other) = (asked(&Digest::of(b"one")), asked(&Digest::of(b"other")));
    assert_eq!((one.len(), other.len()), (32, 32));
    assert_ne!(one, other);
    let few: BTreeSet<_> = members.iter().copied().take(3).collect();
    assert!(few.iter().all(|node| Witness::is_asked(node, &few, &Digest::of(b"one"))));
}
