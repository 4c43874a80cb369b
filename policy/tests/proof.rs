//! Proofs for outsiders and drills: what they show, and every way in which they show nothing.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use borgios_policy::fixture::{Council, release_body, statement};
use borgios_policy::proof_file::{ProofFile, ProofFileError};
use borgios_policy::{Ballot, Chain, Drill, DrillAnswer, Lane, Object as _, Statement, Verdict};
use borgios_types::{Digest, Envelope, Round, UnixSeconds};
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;

/// A chain of policy/1, release/1 and release/2; ballots and pools of the last one.
fn history(fixture: &Council) -> (Chain, Digest, Vec<Envelope>, Vec<Envelope>) {
    let mut chain = Chain::new(None);
    let first = fixture.sign(&fixture.first_policy(fixture.board.threshold().0));
    let network = first.id();
    apply(&mut chain, &first);
    let mut prev = None;
    let (mut ballots, mut pools) = (Vec::new(), Vec::new());
    for seq in 1..=2 {
        let body = release_body(&format!("{seq}.0"));
        let release = statement(Lane::Release, seq, Some(network), prev, Some(1), body);
        let slot = fixture.slot(&release);
        pools = fixture.pools(slot);
        ballots = vec![
            fixture.approve(&fixture.name(0), &release, &pools),
            fixture.approve(&fixture.name(1), &release, &pools),
            fixture.reject(&fixture.name(2), &release),
        ];
        let signed = fixture.sign(&release);
        prev = Some(signed.id());
        apply(&mut chain, &signed);
    }
    (chain, network, ballots, pools)
}

fn apply(chain: &mut Chain, envelope: &Envelope) {
    match chain.verify_stored(envelope, &[]).unwrap() {
        Verdict::New(verified) => chain.apply(*verified),
        Verdict::AlreadyKnown(_) => panic!("known"),
    }
}

fn proof() -> (Council, ProofFile, Digest) {
    let fixture = Council::new(3, 2, 1, 5);
    let (chain, network, ballots, pools) = history(&fixture);
    let id = chain.head(Lane::Release).unwrap().id();
    let proof = ProofFile::of(&chain, &id, &ballots, &pools).unwrap();
    (fixture, proof, network)
}

#[test]
fn a_proof_shows_the_statement_and_who_approved_it() {
    let (fixture, proof, network) = proof();
    let read = ProofFile::parse(&proof.to_json()).unwrap();
    assert_eq!(read, proof);
    let proven = read.verify(network).unwrap();
    assert_eq!(proven.statement.statement().seq.0, 2);
    let voices: Vec<_> =
        proven.voices.iter().map(|v| (v.name.clone(), v.ballot.approves())).collect();
    let names = [fixture.name(0), fixture.name(1), fixture.name(2)];
    let [one, two, three] = names;
    assert_eq!(voices, [(one, true), (two, true), (three, false)]);
    assert!(proven.shares, "the ballots' shares make the signature again");
    assert_eq!((proven.needed, proven.policies.len()), (2, 1));
}

#[test]
fn without_pools_the_shares_are_not_said_to_be_proved() {
    let (_, mut proof, network) = proof();
    proof.envelopes.retain(|envelope| envelope.kind.as_str() != "pool");
    assert!(!proof.verify(network).unwrap().shares);
}

#[test]
fn a_proof_with_one_bad_part_is_no_proof() {
    let (fixture, proof, network) = proof();
    let other = Digest::of(b"another network");
    assert!(matches!(proof.verify(other), Err(ProofFileError::Network { .. })));
    // A file that names another network than its chain is of.
    let mut renamed = proof.clone();
    renamed.network = other;
    assert!(matches!(renamed.verify(other), Err(ProofFileError::Statement(_))));
    let mut absent = proof.clone();
    absent.statement = other;
    assert!(matches!(absent.verify(network), Err(ProofFileError::Absent(_))));
    for at in 0..proof.envelopes.len() {
        // One part left out: the chain breaks, or a vote is missing; never a panic.
        let mut without = proof.clone();
        let gone = without.envelopes.remove(at);
        let kind = gone.kind.as_str();
        let outcome = without.verify(network);
        let statement = matches!(kind, "policy" | "release");
        assert_eq!(outcome.is_err(), statement, "without {kind}");
        // One part with a signature by somebody else.
        let mut forged = proof.clone();
        let by = forged.envelopes[at].sigs[0].by;
        let key = &fixture.keys[&fixture.name(0)];
        let mut resigned = forged.envelopes[at].clone();
        resigned.payload = resigned.payload.replacen('1', "7", 1);
        resigned.sigs.clear();
        let mut resigned = resigned.sign(key);
        resigned.sigs[0].by = by;
        forged.envelopes[at] = resigned;
        assert!(forged.verify(network).is_err(), "forged {kind}");
    }
    // What is no part of a proof.
    let mut more = proof.clone();
    more.envelopes.push(fixture.card(&fixture.name(0)).to_envelope());
    assert!(matches!(more.verify(network), Err(ProofFileError::Object { .. })));
    for bad in ["", "{}", "[]", "{\"proof\":\"borgios-proof@v2\"}"] {
        assert!(ProofFile::parse(bad).is_err(), "{bad}");
    }
    let newer = proof.to_json().replace("proof@v1", "proof@v2");
    assert!(matches!(ProofFile::parse(&newer), Err(ProofFileError::Format(_))));
}

/// Cleo approves what she rejected. Whoever hands the file over chooses which ballot comes first.
#[test]
fn who_contradicts_herself_is_named_for_that_alone_whatever_comes_first() {
    let (fixture, proof, network) = proof();
    let cleo = fixture.name(2);
    let release = proof.envelopes.iter().find(|one| one.id() == proof.statement).unwrap();
    let release = Statement::parse(release).unwrap();
    let pools = fixture.pools(fixture.slot(&release));
    let approval = fixture.approve(&cleo, &release, &pools);
    let is_ballot = |one: &Envelope| one.kind.as_str() == Ballot::KIND;
    let first = proof.envelopes.iter().position(is_ballot).unwrap();
    let rejection = fixture.reject(&cleo, &release).id();
    let mut ids = [rejection, approval.id()];
    ids.sort();
    for at in [first, proof.envelopes.len()] {
        let mut both = proof.clone();
        both.envelopes.insert(at, approval.clone());
        let proven = ProofFile::parse(&both.to_json()).unwrap().verify(network).unwrap();
        let names: Vec<_> = proven.voices.iter().map(|voice| voice.name.clone()).collect();
        assert_eq!(names, [fixture.name(0), fixture.name(1)], "at {at}");
        let expected = BTreeMap::from([(cleo.clone(), (ids[0], ids[1]))]);
        assert_eq!(proven.contradictions, expected, "at {at}");
        assert!(proven.shares, "the two others make the signature");
    }
    assert!(proof.verify(network).unwrap().contradictions.is_empty());
    // Nor does a ballot count that names the statement in a slot which is not its own.
    let mut elsewhere = proof.clone();
    let hers = elsewhere.envelopes.iter_mut().find(|one| one.id() == rejection).unwrap();
    let ballot = Ballot { round: Round(1), ..Ballot::parse(hers).unwrap() };
    *hers = ballot.to_envelope().sign(&fixture.keys[&cleo]);
    let proven = elsewhere.verify(network).unwrap();
    assert!(proven.voices.iter().all(|voice| voice.name != cleo));
    assert!(proven.contradictions.is_empty());
}

#[test]
fn a_policy_proves_itself() {
    let fixture = Council::new(3, 2, 1, 5);
    let (chain, network, ballots, pools) = history(&fixture);
    let proof = ProofFile::of(&chain, &network, &ballots, &pools).unwrap();
    assert_eq!(proof.envelopes.len(), 1);
    assert_eq!(proof.verify(network).unwrap().statement.id(), network);
    assert!(ProofFile::of(&chain, &Digest::of(b"?"), &ballots, &pools).is_none());
}

fn drill(fixture: &Council, network: Digest) -> Envelope {
    let governor = fixture.name(0);
    let (at, until) = (UnixSeconds(1_000), UnixSeconds(90_000));
    let group = fixture.board.group();
    let drill = Drill { network, group, governor: governor.clone(), note: None, at, until };
    drill.to_envelope().sign(&fixture.keys[&governor])
}

fn answer(fixture: &Council, network: Digest, drill: &Envelope, who: usize) -> DrillAnswer {
    DrillAnswer {
        network,
        group: fixture.board.group(),
        governor: fixture.name(who),
        drill: drill.id(),
        pools: BTreeMap::from([(Lane::Release, 8)]),
        at: UnixSeconds(2_000),
    }
}

#[test]
fn an_answer_to_a_drill_needs_identity_and_share() {
    let fixture = Council::new(5, 3, 1, 5);
    let network = Digest::of(b"network");
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let call = drill(&fixture, network);
    Drill::verify(&fixture.board, network, &call).unwrap();
    assert!(Drill::verify(&fixture.board, Digest::of(b"other"), &call).is_err());
    for who in 0..5 {
        let name = fixture.name(who);
        let answer = answer(&fixture, network, &call, who);
        let proved = answer.prove(&fixture.shares[&name], &mut rng).unwrap();
        let whole = proved.clone().sign(&fixture.keys[&name]);
        assert_eq!(DrillAnswer::verify(&fixture.board, network, &whole).unwrap(), answer);
        // Without the identity, without the share, with another's share.
        assert!(DrillAnswer::verify(&fixture.board, network, &proved).is_err());
        let only = answer.to_envelope().sign(&fixture.keys[&name]);
        assert!(DrillAnswer::verify(&fixture.board, network, &only).is_err());
        let other = fixture.name((who + 1) % 5);
        let borrowed = answer.prove(&fixture.shares[&other], &mut rng).unwrap();
        let borrowed = borrowed.sign(&fixture.keys[&name]);
        assert!(DrillAnswer::verify(&fixture.board, network, &borrowed).is_err());
        // No signature of it is by the group key, or for a statement.
        for sig in &whole.sigs {
            assert_ne!(sig.by, fixture.board.group());
            for lane in Lane::ALL {
                let text = whole.payload.as_bytes();
                assert!(!sig.by.verifies(&lane.namespace(), text, &sig.sig), "{lane}");
                assert!(!fixture.board.group().verifies(&lane.namespace(), text, &sig.sig));
            }
        }
    }
}
