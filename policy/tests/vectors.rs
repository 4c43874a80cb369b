//! The bytes governors sign do not change: every object of the governance, fixed.
//!
//! `tests/vectors/governance.jsonl` holds one object a line: its name, its id, its envelope, and what
//! may be known of its making. Everything in it is made anew here and must come out the same, byte
//! for byte; `tests/vectors/check.py` checks the same file without a line of this project's code. A
//! change to one is a change of protocol; `GOVERNANCE_RECORD=1 cargo test -p borgios-policy --test
//! vectors` records it anew.

#![allow(clippy::unwrap_used, reason = "what a test makes itself is as it was made")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use borgios_policy::fixture::{Council, EXPIRES, ISSUED, statement};
use borgios_policy::founding::Part;
use borgios_policy::repair::{Delta, Sigma};
use borgios_policy::{
    Ballot, Beacon, BeaconHead, Board, Burn, Bytes, Card, Chain, Change, Choice, Departure, Drill,
    DrillAnswer, Governor, Handback, Handover, Invitation, Join, Lane, Name, Note, Object,
    Objection, Outcome, Pause, Plan, Pool, ProofFile, Proposal, RecoveryBoard, Report,
    RotationReport, Ruling, Session, SessionShare, SettledBy, Statement, Verdict, Veto, Witness,
    merge_signatures, session, tally,
};
use borgios_types::{
    Digest, Envelope, Epoch, KeyEpoch, Round, SecretKey, Seq, Threshold, UnixSeconds,
};
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use serde_json::{Value, json};

/// X25519 public keys of the secrets 0x61…, 0x62…, 0x63….
const RECIPIENTS: [&str; 3] = [
    "age1gpy4qtde9j3rgtpljtdvt4k70jzakh04gpa9kjvkecul9mahaqnspp4r62",
    "age1ff8cen0pnrtxaxd5cq2yrz3jy08z2mycjq9wff5prlgs7l4cfskq59vhv0",
    "age1s90mvv2yqhsq05zw6g2uyg74e49hn8g8hdccntgsm0ejf6jngfcsqrtvwr",
];

fn council() -> Council {
    council_of(1, 42)
}

/// A board whose recipients are fixed too.
fn council_of(epoch: u32, seed: u64) -> Council {
    let mut council = Council::new(3, 2, epoch, seed);
    let old = council.board.clone();
    let fixed = old.governors().iter().zip(RECIPIENTS);
    let fixed: Vec<Governor> = fixed
        .map(|(governor, recipient)| Governor { recipient: recipient.into(), ..governor.clone() })
        .collect();
    council.board = Board::new(old.epoch(), old.threshold(), old.group(), fixed).unwrap();
    council
}

/// Whose key is 32 times this byte.
fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

struct Vectors {
    council: Council,
    chain: Chain,
    lines: Vec<Value>,
}

impl Vectors {
    fn add(&mut self, name: &str, envelope: &Envelope) {
        self.lines.push(json!({"name": name, "id": envelope.id(), "envelope": envelope}));
        let read = Envelope::parse(envelope.to_json().as_bytes()).unwrap();
        assert_eq!(read, *envelope, "{name}");
    }

    /// An object that is read back as it was written.
    fn object<T: Object + PartialEq + std::fmt::Debug>(
        &mut self,
        name: &str,
        object: &T,
        keys: &[&SecretKey],
    ) -> Envelope {
        let signed = keys.iter().fold(object.to_envelope(), |envelope, key| envelope.sign(key));
        assert_eq!(T::parse(&signed).unwrap(), *object, "{name}");
        self.add(name, &signed);
        signed
    }

    /// A statement of the board, signed as the fixture signs: with fixed nonces.
    fn order(&mut self, name: &str, statement: &Statement) -> Envelope {
        let signed = self.council.sign(statement);
        match self.chain.verify_stored(&signed, &[]).unwrap() {
            Verdict::New(verified) => self.chain.apply(*verified),
            Verdict::AlreadyKnown(_) => panic!("{name} twice"),
        }
        self.add(name, &signed);
        signed
    }

    fn next(&self, lane: Lane, body: Value) -> Statement {
        let seq = self.chain.head_seq(lane).next();
        let prev = self.chain.head(lane).map(|head| head.id());
        statement(lane, seq.0, self.chain.network(), prev, Some(1), body)
    }
}

fn build() -> Vectors {
    let council = council();
    let board = council.board.clone();
    let names: Vec<Name> = (0..3).map(|at| council.name(at)).collect();
    let keys: BTreeMap<Name, SecretKey> = council.keys.clone();
    let mut v = Vectors { council, chain: Chain::new(None), lines: Vec::new() };

    // Before there is a board.
    let cards: Vec<Card> = names.iter().map(|name| v.council.card(name)).collect();
    for card in &cards {
        v.object(&format!("card {}", card.name), card, &[&keys[&card.name]]);
    }
    let plan = Plan::new(cards, Threshold(2), 4, ISSUED, EXPIRES).unwrap();
    v.object("founding", &plan, &[&keys[&names[0]]]);

    // policy/1 and a vote on release/1: proposal, pools, ballots, and the signature they make.
    let first = v.council.first_policy(2);
    let network = v.order("policy/1", &first).id();
    let digest = Digest::of(b"blob");
    let component = json!({"name": "hello", "digest": digest, "size": 4});
    let body = json!({
        "version": "1.0", "components": [component], "installer": {"digest": digest, "size": 4},
        "urls": [], "floor": 1, "notes": "",
    });
    let release = v.next(Lane::Release, body);
    let note = Some("as agreed".to_owned());
    let (governor, statement) = (names[0].clone(), release.to_payload());
    let proposal = Proposal { governor, statement, lane: Lane::Release, note };
    v.object("proposal", &proposal, &[&keys[&names[0]]]);
    let slot = v.council.slot(&release);
    let pools = v.council.pools(slot);
    for (name, pool) in names.iter().zip(&pools) {
        let seed = v.council.seed(name, slot);
        let hex: String = seed.expose().iter().map(|byte| format!("{byte:02x}")).collect();
        Pool::verify(&board, pool).unwrap();
        v.add(&format!("pool {name}"), pool);
        v.lines.last_mut().unwrap()["slot_seed"] = hex.into();
    }
    let ballots = [
        v.council.approve(&names[0], &release, &pools),
        v.council.approve(&names[1], &release, &pools),
        v.council.reject(&names[2], &release),
    ];
    for (name, ballot) in names.iter().zip(&ballots) {
        Ballot::verify(&board, ballot).unwrap();
        v.add(&format!("ballot {name}"), ballot);
    }
    let tally = tally(&board, slot, &[release.to_payload()], &pools, &ballots);
    let signed = tally.signed().unwrap().clone();
    v.add("release/1", &signed);
    match v.chain.verify_stored(&signed, &[]).unwrap() {
        Verdict::New(verified) => v.chain.apply(*verified),
        Verdict::AlreadyKnown(_) => panic!("twice"),
    }

    // The other lanes.
    let blob = json!({"digest": digest, "size": 4});
    let body = json!({"schedule": blob, "escrow": blob, "min_epoch": 1, "reason": "the first"});
    let order = v.next(Lane::Credential, body);
    v.order("credential/1", &order);
    let node = key(1).public();
    let order = v.next(Lane::Member, json!({"evict": [node], "reason": "stolen"}));
    v.order("member/1", &order);
    let grant = json!({
        "order": "grant", "node": node, "serial": 1, "key": key(2).public(), "after": ISSUED,
        "before": ISSUED.plus(900), "class": "normal", "sources": ["127.0.0.0/8"],
        "reason": "the disk is full",
    });
    let order = v.next(Lane::Access, grant);
    let grant = v.order("access/1 grant", &order);
    let ca = v.council.board.group();
    let certificate = borgios_policy::Grant::openssh(&order, &grant, &ca).unwrap();
    v.lines.last_mut().unwrap()["certificate"] = certificate.into();
    let body = json!({"order": "revoke", "serials": [1], "reason": "done"});
    let order = v.next(Lane::Access, body);
    v.order("access/2 revoke", &order);
    let until = ISSUED.plus(3600);
    let reveal = json!({
        "order": "reveal", "epoch": 1, "to": RECIPIENTS[0], "until": until, "reason": "console",
    });
    let order = v.next(Lane::Access, reveal);
    v.order("access/3 reveal", &order);

    // What governors, nodes and keepers say besides.
    let ann = &keys[&names[0]];
    let at = ISSUED.plus(60);
    v.object("note", &Note { network, text: "hello".into(), at }, &[ann]);
    let (issued, expires) = (ISSUED, EXPIRES);
    let token = key(3);
    let invitation = Invitation { network, token: token.public(), uses: 5, issued, expires };
    let invitation = v.object("invitation", &invitation, &[ann]);
    let (node, keeper) = (key(4), key(5));
    let join = Join {
        network,
        node: node.public(),
        keeper: keeper.public(),
        name: "vps-1".parse().unwrap(),
        address: Some("192.0.2.1:7117".into()),
        owner: Some(key(6).public()),
        invitation: invitation.id(),
        issued,
        expires,
    };
    v.object("join", &join, &[&node, &token]);
    members(&mut v, network, &node, &keeper, at);
    drill(&mut v, network, &names[0], at);
    later(&mut v, network, &node, at);
    large_and_lost(&mut v);
    recovery(&mut v, network);
    united(&mut v);
    v
}

/// Two policies for one place, as after late vetoes, and one that follows both: the first of them closed a
/// place, and the next round, which this chain has, another one.
fn united(v: &mut Vectors) {
    let closes = |seq| Ruling::new(Lane::Access, Seq(seq), None);
    let mut rules = v.council.policy(2);
    rules.rulings = vec![closes(8)];
    let vetoed = v.next(Lane::Policy, rules.to_body());
    let vetoed = v.council.sign(&vetoed);
    v.add("a policy that is united", &vetoed);
    rules.rulings = vec![closes(7)];
    let again = Statement { round: Round(1), ..v.next(Lane::Policy, rules.to_body()) };
    let again = v.order("the next round of its place", &again).id();
    rules.unites = [vetoed.id()].into();
    let by = Some(SettledBy { policy: Seq(2), id: again });
    rules.rulings = vec![Ruling { by, ..closes(7) }, closes(8)];
    let policy = v.next(Lane::Policy, rules.to_body());
    v.order("a policy that unites", &Statement { policy: Some(Seq(2)), ..policy });
}

/// What only boards without pools, and repairs, have. The ciphertexts and the share stand for such:
/// what is in them no reader of a vector can tell.
fn large_and_lost(v: &mut Vectors) {
    let (ann, ben) = (v.council.name(0), v.council.name(1));
    let keys = v.council.keys.clone();
    let group = v.council.board.group();
    let ballot = Ballot {
        group,
        governor: ann.clone(),
        lane: Lane::Release,
        seq: Seq(2),
        round: Round(0),
        statement: Digest::of(b"a statement"),
        choice: Choice::Commit {
            nonces: Bytes([[0x58].as_slice(), &[0x66; 31]].concat().repeat(2)),
        },
        comment: None,
        reveal: None,
        rebuild: None,
        counter: 4,
    };
    v.object("ballot of two touches", &ballot, &[&keys[&ann]]);
    let (statement, share) = (Digest::of(b"policy/1"), Bytes(vec![9; 32]));
    let (roster, governor) = (Digest::of(b"roster"), ann.clone());
    let part = Part { roster, governor, statement, share, done: None };
    v.object("part", &part, &[&keys[&ann]]);
    let request = Digest::of(b"repair");
    let sealed = Bytes(b"age-encryption.org/v1".to_vec());
    let values = BTreeMap::from([(ann.clone(), sealed.clone()), (ben, sealed.clone())]);
    let delta = Delta { group, request, helper: ann.clone(), values };
    let delta = v.object("delta", &delta, &[&keys[&ann]]);
    let seen = Digest::of_parts(&[&delta.id().0]);
    let sigma = Sigma { group, request, helper: ann.clone(), seen, value: sealed };
    v.object("sigma", &sigma, &[&keys[&ann]]);
}

/// The plan and the paper of a recovery board, and a policy that its key signed in the place of the
/// board.
fn recovery(v: &mut Vectors, network: Digest) {
    let rescue = council_of(1, 43);
    let cards = rescue.keys.keys().map(|name| rescue.card(name)).collect();
    let plan = Plan::new(cards, Threshold(2), 4, ISSUED, EXPIRES).unwrap();
    let plan = plan.recovering(network).unwrap();
    v.object("founding of a recovery board", &plan, &[&rescue.keys[&rescue.name(0)]]);
    let mut rules = rescue.policy(2);
    rules.recovers = Some(network);
    let mut paper = statement(Lane::Policy, 1, None, None, None, rules.to_body());
    paper.critical = vec!["recovers".to_owned()];
    let paper = rescue.sign(&paper);
    RecoveryBoard::verify(network, &paper).unwrap();
    v.add("recovery board", &paper);
    let next = council_of(2, 44);
    let body = next.policy(2).to_body();
    let policy = statement(Lane::Policy, 2, Some(network), Some(network), Some(1), body);
    let policy = merge_signatures(&rescue.sign(&policy), &next.sign(&policy)).unwrap();
    v.add("policy/2 of a recovery key", &policy);
}

/// What came with boards that change, grow and restore.
fn later(v: &mut Vectors, network: Digest, node: &SecretKey, at: UnixSeconds) {
    let board = v.council.board.clone();
    let (ann, ben) = (v.council.name(0), v.council.name(1));
    let keys = v.council.keys.clone();
    let (lane, seq, round) = (Lane::Release, Seq(2), Round(0));
    let group = board.group();
    let burn = Burn { group, governor: ann.clone(), generation: 1, at };
    let burn = v.object("burn", &burn, &[&keys[&ann]]);
    Burn::verify(&board, &burn).unwrap();
    let handback = Handback {
        network,
        node: node.public(),
        governor: ann.clone(),
        challenge: Digest::of(b"drawn now"),
        counter: 3,
        ballots: vec![Digest::of(b"a ballot")],
        at,
    };
    v.object("handback", &handback, &[node]);
    // Of the form a large board uses; this one is too small for them.
    let member = |text: &[u8]| session::Member {
        from: Digest::of(text),
        commitment: Bytes([[0x58].as_slice(), &[0x66; 31]].concat().repeat(2)),
    };
    let statement = Digest::of(b"a statement");
    let members = BTreeMap::from([(ann.clone(), member(b"one")), (ben, member(b"two"))]);
    let opened = Session { group, lane, seq, round, statement, number: 1, members };
    let opened = v.object("session", &opened, &[&keys[&ann]]);
    let share = SessionShare {
        group,
        governor: ann.clone(),
        lane,
        seq,
        round,
        session: opened.id(),
        share: Bytes(vec![7; 32]),
        next: member(b"").commitment,
    };
    v.object("share", &share, &[&keys[&ann]]);
    let cards = board.governors().iter().map(|governor| v.council.card(&governor.name)).collect();
    let change = Change {
        network,
        group,
        epoch: KeyEpoch(2),
        attempt: 0,
        threshold: Threshold(2),
        governors: cards,
        heads: BTreeMap::from([(Lane::Policy, Seq(1))]),
    };
    v.object("change", &change, &[&keys[&ann]]);
    let objection = Objection {
        network,
        group,
        governor: ann.clone(),
        statement,
        lane,
        seq,
        reason: "it opens port 22".to_owned(),
        at,
    };
    v.object("veto", &Veto(objection.clone()), &[&keys[&ann]]);
    v.object("pause", &Pause(objection), &[&keys[&ann]]);
    let heads = BTreeMap::from([(lane, BeaconHead { seq, id: statement })]);
    let beacon = Beacon { network, group, governor: ann.clone(), time: at, heads, counter: 7 };
    v.object("beacon", &beacon, &[&keys[&ann]]);
}

fn members(
    v: &mut Vectors,
    network: Digest,
    node: &SecretKey,
    keeper: &SecretKey,
    at: UnixSeconds,
) {
    let hello: Name = "hello".parse().unwrap();
    let report = Report {
        network,
        node: node.public(),
        keeper: keeper.public(),
        release: Seq(1),
        outcome: Outcome::Committed,
        reason: None,
        running: BTreeMap::from([(hello.clone(), Digest::of(b"blob"))]),
        at,
    };
    v.object("report", &report, &[keeper]);
    let witness = Witness { network, node: node.public(), statement: Digest::of(b"grant"), at };
    v.object("witness", &witness, &[node]);
    let handover = Handover {
        network,
        node: node.public(),
        keeper: keeper.public(),
        name: "vps-1".parse().unwrap(),
        host_keys: vec![key(7).public()],
        taken: BTreeMap::from([(hello, 1)]),
        owner: Some(key(6).public()),
        at,
    };
    v.object("handover", &handover, &[keeper]);
    let rotation = RotationReport {
        network,
        node: node.public(),
        keeper: keeper.public(),
        epoch: Epoch(2),
        due: at,
        changed: at,
        exhausted: false,
        problem: None,
        at,
    };
    v.object("rotation", &rotation, &[keeper]);
    let departure = Departure { network, node: node.public(), at };
    v.object("departure", &departure, &[&key(6)]);
}

fn drill(v: &mut Vectors, network: Digest, governor: &Name, at: UnixSeconds) {
    let board = v.council.board.clone();
    let identity = v.council.keys[governor].clone();
    let drill = Drill {
        network,
        group: board.group(),
        governor: governor.clone(),
        note: Some("monthly".into()),
        at,
        until: at.plus(86_400),
    };
    let call = v.object("drill", &drill, &[&identity]);
    Drill::verify(&board, network, &call).unwrap();
    let answer = DrillAnswer {
        network,
        group: board.group(),
        governor: governor.clone(),
        drill: call.id(),
        pools: Lane::ALL.into_iter().map(|lane| (lane, 8)).collect(),
        at,
    };
    let mut rng = ChaCha20Rng::seed_from_u64(42);
    let proved = answer.prove(&v.council.shares[governor], &mut rng).unwrap().sign(&identity);
    DrillAnswer::verify(&board, network, &proved).unwrap();
    v.add("drill-answer", &proved);
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors").join(name)
}

/// Compares with the file, or writes it.
fn check(name: &str, text: &str) {
    let path = path(name);
    if std::env::var_os("GOVERNANCE_RECORD").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{}", path.display());
}

#[test]
fn every_object_is_made_of_the_same_bytes() {
    let vectors = build();
    let mut text = String::new();
    for line in &vectors.lines {
        writeln!(text, "{line}").unwrap();
    }
    check("governance.jsonl", &text);
}

#[test]
fn the_fixed_proof_still_proves() {
    let vectors = build();
    let of = |kind: &str| -> Vec<Envelope> {
        let all = vectors.lines.iter().map(|line| line["envelope"].clone());
        let all = all.map(|value| serde_json::from_value::<Envelope>(value).unwrap());
        all.filter(|envelope| envelope.kind.as_str() == kind).collect()
    };
    let release = vectors.chain.head(Lane::Release).unwrap().id();
    let proof = ProofFile::of(&vectors.chain, &release, &of("ballot"), &of("pool")).unwrap();
    check("governance-proof.json", &(proof.to_json() + "\n"));
    let text = std::fs::read_to_string(path("governance-proof.json")).unwrap();
    let network = vectors.chain.network().unwrap();
    let proven = ProofFile::parse(text.trim_end()).unwrap().verify(network).unwrap();
    assert!(proven.shares);
    assert_eq!(proven.voices.len(), 3);
}

/// Another implementation's view: Python and ssh-keygen, where they are installed.
#[test]
fn a_second_implementation_agrees_with_the_vectors() {
    let run = std::process::Command::new("python3").arg(path("check.py")).output();
    let output = run.expect("this test needs python3: apt-get install python3");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}{why}");
    for part in [
        "shares make the signature of release/1",
        "make the group key and every share",
        "speaks for its own key and one network",
    ] {
        assert!(said.contains(part), "{said}");
    }
}
