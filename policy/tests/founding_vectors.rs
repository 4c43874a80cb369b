//! The papers of a founding do not change: one whole ceremony, kept.
//!
//! `tests/vectors/founding.jsonl` holds the files of a folder in which 2 of 3 founded a network, one
//! a line. The sealed papers hold fresh randomness, so they are read here and not made again; what
//! follows from them is. `FOUNDING_RECORD=1 cargo test -p borgios-policy --test founding_vectors`
//! records another ceremony; `tests/vectors/check.py` works its key out without this code.

#![allow(clippy::unwrap_used, reason = "what a test makes itself is as it was made")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use borgios_policy::fixture::{Council, EXPIRES, ISSUED};
use borgios_policy::founding::{Ceremony, Files, Me, Plan, Status, step};
use borgios_policy::{Ballot, Card, Chain, Lane, Name, Object as _, Pool, Slot, Verdict, tally};
use borgios_types::{Digest, Envelope, KeyEpoch, Round, Seq, Threshold};
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use serde_json::{Value, json};

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/founding.jsonl")
}

/// A folder after a founding by 2 of 3.
fn record() -> Files {
    let council = Council::new(3, 2, 1, 11);
    let cards: BTreeMap<Name, Card> =
        council.keys.keys().map(|name| (name.clone(), council.card(name))).collect();
    let plan =
        Plan::new(cards.values().cloned().collect(), Threshold(2), 4, ISSUED, EXPIRES).unwrap();
    let mut files = Files::new();
    let signed = plan.to_envelope().sign(&council.keys[&council.name(0)]);
    files.insert("founding.json".to_owned(), signed.to_json().into_bytes());
    let mut rng = ChaCha20Rng::seed_from_u64(11);
    let mut states: BTreeMap<Name, Ceremony> = BTreeMap::new();
    for _ in 0..8 {
        let mut founded = 0;
        for (name, card) in &cards {
            let me = Me { card, key: &council.keys[name], identity: &council.identities[name] };
            let done = step(&me, states.remove(name), &files, Some(plan.roster()), &mut rng);
            let done = done.unwrap();
            states.extend(done.state.map(|state| (name.clone(), state)));
            files.extend(done.write);
            founded += usize::from(matches!(done.status, Status::Founded(_)));
        }
        if founded == cards.len() {
            return files;
        }
    }
    panic!("not founded");
}

#[test]
fn a_kept_ceremony_is_still_read_and_makes_the_same_policy() {
    if std::env::var_os("FOUNDING_RECORD").is_some() {
        let mut text = String::new();
        for (file, bytes) in record() {
            let envelope: Value = serde_json::from_slice(&bytes).unwrap();
            text += &format!("{}\n", json!({"file": file, "envelope": envelope}));
        }
        std::fs::write(path(), text).unwrap();
    }
    let text = std::fs::read_to_string(path()).unwrap();
    let mut files: BTreeMap<String, Envelope> = BTreeMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let envelope = Envelope::parse(line["envelope"].to_string().as_bytes()).unwrap();
        files.insert(line["file"].as_str().unwrap().to_owned(), envelope);
    }
    let plan = Plan::verify(&files["founding.json"]).unwrap();
    assert_eq!(plan.roster(), files["founding.json"].id());
    let policy = &files["policy-1.json"];
    let mut chain = Chain::new(Some(policy.id()));
    match chain.verify_stored(policy, &[]).unwrap() {
        Verdict::New(verified) => chain.apply(*verified),
        Verdict::AlreadyKnown(_) => panic!("known"),
    }
    let board = &chain.policy().unwrap().board;
    for card in &plan.governors {
        let name = &card.name;
        assert_eq!(Card::verify(&files[&format!("{name}.card.json")]).unwrap(), *card);
        for kind in ["dkg1", "dkg2", "done"] {
            let paper = &files[&format!("{name}.{kind}.json")];
            assert!(paper.signed_by(&card.key), "{name}.{kind}");
        }
        let done: Value =
            serde_json::from_str(&files[&format!("{name}.done.json")].payload).unwrap();
        assert_eq!(done["policy"], json!(policy.id()));
        assert_eq!(done["group"], json!(board.group()));
        let pool = &files[&format!("{name}.pool1.json")];
        Pool::verify(board, pool).unwrap();
        assert_eq!(done["pools"], json!([pool.id()]));
        Ballot::verify(board, &files[&format!("{name}.ballot.json")]).unwrap();
    }
    // The signature follows, byte for byte, from the pools and the ballots of those two who were
    // there first.
    let of = |kind: &str| -> Vec<Envelope> {
        files.values().filter(|envelope| envelope.kind.as_str() == kind).cloned().collect()
    };
    let slot = Slot { epoch: KeyEpoch(1), lane: Lane::Policy, seq: Seq(1), round: Round(0) };
    let (ballots, pools, text) = (of("ballot"), of("pool"), [policy.payload.clone()]);
    let made = |left_out: usize| {
        let mut two = ballots.clone();
        two.remove(left_out);
        let tally = tally(board, slot, &text, &pools, &two);
        tally.signed().cloned().unwrap()
    };
    let signed: Vec<Envelope> = (0..ballots.len()).map(made).collect();
    assert!(signed.contains(policy));
    assert!(signed.iter().all(|one| one.id() == policy.id()));
    assert_eq!(Digest::of(policy.payload.as_bytes()), policy.id());
}
