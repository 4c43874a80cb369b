//! The signed objects that are not statements: who may sign them, and what they must hold to.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use std::collections::{BTreeMap, BTreeSet};

use borgios_policy::fixture::{Council, EXPIRES, ISSUED, NOW, release_body, statement};
use borgios_policy::{
    Ballot, Board, Card, Choice, Invitation, InvitationFile, InviteError, Join, Lane, Member, Name,
    Note, Object, Outcome, PolicyPin, Proposal, Report, SecretText,
};
use borgios_types::{Digest, Envelope, Kind, SecretKey, Seq};

const TOKEN: [u8; 32] = [21; 32];
const NODE: [u8; 32] = [22; 32];
const KEEPER: [u8; 32] = [23; 32];

fn key(seed: [u8; 32]) -> SecretKey {
    SecretKey::from_seed(seed)
}

fn council() -> (Council, Name) {
    let council = Council::new(3, 2, 1, 1);
    let ann = council.name(0);
    (council, ann)
}

fn network() -> Digest {
    Digest::of(b"network")
}

fn invitation() -> Invitation {
    let token = key(TOKEN).public();
    Invitation { network: network(), token, uses: 2, issued: ISSUED, expires: EXPIRES }
}

fn join() -> Join {
    Join {
        owner: None,
        network: network(),
        node: key(NODE).public(),
        keeper: key(KEEPER).public(),
        name: "web-3".parse().unwrap(),
        address: Some("10.0.0.7:7117".into()),
        invitation: invitation().to_envelope().id(),
        issued: ISSUED,
        expires: EXPIRES,
    }
}

/// Sets one field of a payload and signs it with `keys`.
fn with(
    object: &impl Object,
    field: &str,
    value: serde_json::Value,
    keys: &[&SecretKey],
) -> Envelope {
    let envelope = object.to_envelope();
    let mut payload: serde_json::Value = serde_json::from_str(&envelope.payload).unwrap();
    payload[field] = value;
    let changed = Envelope::unsigned(envelope.kind, payload.to_string());
    keys.iter().fold(changed, |envelope, key| envelope.sign(key))
}

#[test]
fn a_card_is_signed_by_its_own_key() {
    let (council, ann) = council();
    let card = council.card(&ann);
    assert_eq!(Card::verify(&card.to_envelope().sign(&council.keys[&ann])).unwrap(), card);
    let code = |envelope: &Envelope| Card::verify(envelope).unwrap_err().code();
    assert_eq!(code(&card.to_envelope().sign(&key(NODE))), "bad_signature");
    let own = &council.keys[&ann];
    assert_eq!(code(&with(&card, "recipient", "age1x".into(), &[own])), "bad_body");
    assert_eq!(code(&with(&card, "name", "../ann".into(), &[own])), "malformed");
    assert_eq!(
        code(&with(&card, "critical", ["waves"].as_slice().into(), &[own])),
        "unknown_critical"
    );
    let mut other_kind = card.to_envelope().sign(own);
    other_kind.kind = Kind::new("note").unwrap();
    assert_eq!(code(&other_kind), "wrong_kind");
    // What is not understood and not critical is kept.
    assert_eq!(Card::verify(&with(&card, "pronoun", "she".into(), &[own])).unwrap(), card);
}

#[test]
fn proposals_and_notes_are_a_governors() {
    let (council, ann) = council();
    let release = statement(Lane::Release, 1, Some(network()), None, Some(1), release_body("0.1"));
    let (statement, governor) = (release.to_payload(), ann.clone());
    let proposal = Proposal { governor, statement, lane: Lane::Release, note: None };
    let signed = proposal.to_envelope().sign(&council.keys[&ann]);
    let (found, by) = Proposal::verify(&council.board, &signed).unwrap();
    assert_eq!((&found, &by), (&proposal, &ann));
    assert_eq!(found.parse_statement().unwrap(), release);
    assert_eq!(found.statement_id(), release.to_envelope().id());
    let code = |envelope: &Envelope| Proposal::verify(&council.board, envelope).unwrap_err().code();
    assert_eq!(code(&proposal.to_envelope().sign(&key(NODE))), "bad_signature");
    // Another governor's signature makes it nobody's, and beside the true one it changes nothing.
    let ben = &council.keys[&council.name(1)];
    assert_eq!(code(&proposal.to_envelope().sign(ben)), "bad_signature");
    let both = proposal.to_envelope().sign(ben).sign(&council.keys[&ann]);
    assert_eq!(Proposal::verify(&council.board, &both).unwrap().1, ann);
    assert_eq!(code(&with(&proposal, "lane", "policy".into(), &[&council.keys[&ann]])), "bad_body");
    assert_eq!(
        code(&with(&proposal, "note", "x".repeat(5_000).into(), &[&council.keys[&ann]])),
        "bad_body"
    );
    let note = Note { network: network(), text: "hello".into(), at: NOW };
    let signed = note.to_envelope().sign(&council.keys[&ann]);
    assert_eq!(Note::verify(&council.board, network(), &signed).unwrap(), (note, ann));
    let other = Note::verify(&council.board, Digest::of(b"other"), &signed).unwrap_err();
    assert_eq!(other.code(), "wrong_network");
}

#[test]
fn a_join_needs_the_node_and_the_token() {
    let (council, ann) = council();
    let (node, token) = (key(NODE), key(TOKEN));
    let invited = invitation().to_envelope().sign(&council.keys[&ann]);
    let (invitation, by) = Invitation::verify(&council.board, network(), &invited).unwrap();
    assert_eq!(by, ann);
    let id = invited.id();
    let join = join();
    let good = join.to_envelope().sign(&node).sign(&token);
    assert_eq!(Join::verify(network(), NOW, &good, (&invitation, id)).unwrap(), join);
    let code = |envelope: &Envelope| {
        Join::verify(network(), NOW, envelope, (&invitation, id)).unwrap_err().code()
    };
    assert_eq!(code(&join.to_envelope().sign(&node)), "bad_signature");
    assert_eq!(code(&join.to_envelope().sign(&token)), "bad_signature");
    let both = [&node, &token];
    assert_eq!(
        code(&with(&join, "network", Digest::of(b"x").to_string().into(), &both)),
        "wrong_network"
    );
    assert_eq!(code(&with(&join, "address", "10.0.0.7".into(), &both)), "bad_body");
    assert_eq!(code(&with(&join, "keeper", node.public().to_string().into(), &both)), "bad_body");
    assert_eq!(
        code(&with(&join, "invitation", Digest::of(b"x").to_string().into(), &both)),
        "bad_body"
    );
    assert_eq!(code(&with(&join, "expires", ISSUED.0.into(), &both)), "bad_body");
    let late = Join::verify(network(), EXPIRES, &good, (&invitation, id)).unwrap_err();
    assert_eq!(late.code(), "expired");
    assert!(invitation.open(NOW).is_ok());
    assert_eq!(invitation.open(EXPIRES).unwrap_err().code(), "expired");
}

#[test]
fn an_invitation_used_too_often_resolves_the_same_everywhere() {
    let nodes: BTreeSet<_> = (1..=5).map(|seed| key([seed; 32]).public()).collect();
    let stay = invitation().admits(&nodes);
    assert_eq!(stay.len(), 2);
    // Who stays does not depend on who else is known, as long as those who come first are.
    assert_eq!(invitation().admits(&stay), stay);
    let (council, ann) = council();
    let none = with(&invitation(), "uses", 0.into(), &[&council.keys[&ann]]);
    assert_eq!(Invitation::parse(&none).unwrap_err().code(), "bad_body");
    let stranger = invitation().to_envelope().sign(&key(NODE));
    let refused = Invitation::verify(&council.board, network(), &stranger).unwrap_err();
    assert_eq!(refused.code(), "bad_signature");
}

#[test]
fn a_report_is_the_keepers() {
    let report = Report {
        network: network(),
        node: key(NODE).public(),
        keeper: key(KEEPER).public(),
        release: Seq(2),
        outcome: Outcome::RolledBack,
        reason: Some("health: exit status 1".into()),
        running: BTreeMap::from([("borgiosd".parse().unwrap(), Digest::of(b"tar"))]),
        at: NOW,
    };
    let signed = report.to_envelope().sign(&key(KEEPER));
    assert!(signed.payload.contains("\"outcome\":\"rolled_back\""));
    assert_eq!(Report::verify(network(), &signed).unwrap(), report);
    let by_node = report.to_envelope().sign(&key(NODE));
    assert_eq!(Report::verify(network(), &by_node).unwrap_err().code(), "bad_signature");
}

#[test]
fn an_invitation_file_is_checked_as_a_whole() {
    let (council, ann) = council();
    let first = council.sign(&council.first_policy(2));
    let invitation = Invitation { network: first.id(), ..invitation() };
    let group = council.board.group();
    let file = InvitationFile {
        invitation: invitation.to_envelope().sign(&council.keys[&ann]),
        token: SecretText::new(key(TOKEN).to_openssh("token").to_string()),
        network: first.id(),
        name: "borg".parse().unwrap(),
        members: vec![Member { address: "10.0.0.7:7117".into(), key: key(NODE).public() }],
        allowed_signers: group.allowed_signer("borg", &["borgios-release@v1"]),
        chain: vec![first.clone()],
        policy: PolicyPin { seq: Seq(1), id: first.id() },
        urls: vec!["https://borg.example/bundle.tar".into()],
    };
    let file = InvitationFile::parse(&serde_json::to_string(&file).unwrap()).unwrap();
    let (chain, found) = file.verify(NOW).unwrap();
    assert_eq!((chain.network(), found), (Some(first.id()), invitation));
    assert!(!format!("{file:?}").contains("PRIVATE"));
    let broken = |change: &dyn Fn(&mut InvitationFile)| {
        let mut file = file.clone();
        change(&mut file);
        file.verify(NOW).unwrap_err()
    };
    assert!(matches!(broken(&|f| f.chain.clear()), InviteError::Chain { .. }));
    assert!(matches!(broken(&|f| f.network = network()), InviteError::Chain { .. }));
    assert!(matches!(broken(&|f| f.policy.seq = Seq(2)), InviteError::Pin(_)));
    assert!(matches!(broken(&|f| f.invitation.sigs.clear()), InviteError::Invitation(_)));
    assert!(matches!(broken(&|f| f.token = SecretText::new("?".into())), InviteError::Token(_)));
    let other = SecretText::new(key(NODE).to_openssh("token").to_string());
    assert!(matches!(broken(&|f| f.token = other.clone()), InviteError::OtherToken { .. }));
    let line = key(NODE).public().allowed_signer("borg", &["borgios-release@v1"]);
    assert!(matches!(
        broken(&|f| f.allowed_signers = line.clone()),
        InviteError::AllowedSigners(_)
    ));
    assert!(matches!(file.verify(EXPIRES), Err(InviteError::Chain { .. })));
    assert!(matches!(InvitationFile::parse("{}"), Err(InviteError::Json(_))));
}

#[test]
fn ballots_of_strangers_or_of_the_wrong_size_are_refused() {
    let (council, ann) = council();
    let release = statement(Lane::Release, 1, Some(network()), None, Some(1), release_body("0.1"));
    let pools = council.pools(council.slot(&release));
    let good = council.approve(&ann, &release, &pools);
    let ballot = Ballot::verify(&council.board, &good).unwrap();
    assert!(ballot.approves());
    let signed = |ballot: &Ballot| ballot.to_envelope().sign(&council.keys[&ann]);
    let code = |envelope: &Envelope| Ballot::verify(&council.board, envelope).unwrap_err().code();
    let changed = |change: fn(&mut BTreeMap<Name, Digest>, &mut Vec<u8>)| {
        let mut ballot = ballot.clone();
        if let Choice::Approve { pools, shares } = &mut ballot.choice {
            change(pools, &mut shares.0);
        }
        signed(&ballot)
    };
    assert_eq!(code(&changed(|_, shares| shares.truncate(32))), "bad_body");
    assert_eq!(code(&changed(|pools, _| pools.clear())), "bad_body");
    let zoe: Name = "zoe".parse().unwrap();
    let stranger = changed(|pools, _| {
        pools.insert("zoe".parse().unwrap(), network());
    });
    assert_eq!(code(&stranger), "bad_body");
    assert_eq!(code(&signed(&Ballot { governor: zoe.clone(), ..ballot.clone() })), "bad_body");
    let group = key(NODE).public();
    assert_eq!(code(&signed(&Ballot { group, ..ballot.clone() })), "wrong_policy");
    assert_eq!(code(&ballot.to_envelope().sign(&key(NODE))), "bad_signature");
    assert_eq!(
        code(&with(&ballot, "choice", "abstain".into(), &[&council.keys[&ann]])),
        "malformed"
    );
    // The wire form is flat, as the documents say.
    let wire: serde_json::Value = serde_json::from_str(&good.payload).unwrap();
    assert_eq!(wire["choice"], "approve");
    assert!(wire["shares"].is_string() && wire["pools"]["ben"].is_string());
    let reject = council.reject(&ann, &release);
    let wire: serde_json::Value = serde_json::from_str(&reject.payload).unwrap();
    assert_eq!((&wire["choice"], &wire["reason"]), (&"reject".into(), &"not today".into()));
    assert!(!Ballot::verify(&council.board, &reject).unwrap().approves());
}

#[test]
fn a_board_keeps_its_rules_when_it_is_read() {
    let (council, _) = council();
    let good = serde_json::to_value(&council.board).unwrap();
    assert_eq!(serde_json::from_value::<Board>(good.clone()).unwrap(), council.board);
    let refused = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut board = good.clone();
        change(&mut board);
        serde_json::from_value::<Board>(board).unwrap_err().to_string()
    };
    assert!(refused(&|b| b["threshold"] = 1.into()).contains("threshold of 1 of 3"));
    assert!(refused(&|b| b["threshold"] = 0.into()).contains("threshold of 0 of 3"));
    assert!(refused(&|b| b["threshold"] = 4.into()).contains("threshold of 4 of 3"));
    assert!(refused(&|b| b["threshold"] = (-1).into()).contains("invalid value"));
    assert!(refused(&|b| b["epoch"] = 0.into()).contains("epoch 0"));
    assert!(refused(&|b| b["governors"] = serde_json::json!([])).contains("0 governors"));
    assert!(
        refused(&|b| b["governors"].as_array_mut().unwrap().reverse()).contains("out of order")
    );
    for field in ["key", "recipient"] {
        let twice = refused(&|b| b["governors"][1][field] = b["governors"][0][field].clone());
        assert!(twice.contains(&format!("the {field} of another")), "{twice}");
    }
    let own = refused(&|b| b["governors"][0]["key"] = b["group"].clone());
    assert!(own.contains("the key of another"), "{own}");
    // Another group key, another degree, a share moved: each breaks the polynomial.
    let other = serde_json::to_value(&Council::new(3, 2, 1, 2).board).unwrap();
    assert!(refused(&|b| b["group"] = other["group"].clone()).contains("does not belong"));
    assert!(refused(&|b| b["threshold"] = 3.into()).contains("does not belong"));
    let moved = refused(&|b| b["governors"][2]["share"] = other["governors"][2]["share"].clone());
    assert!(moved.contains("share of cleo does not belong"), "{moved}");
}
