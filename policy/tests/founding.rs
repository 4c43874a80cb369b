//! Whole foundings through an exchange folder: in any order, cut off anywhere, with cheats.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use std::collections::BTreeMap;

use age::secrecy::ExposeSecret as _;
use borgios_policy::fixture::{Council, EXPIRES, ISSUED, NOW, release_body, statement};
use borgios_policy::founding::{
    Ceremony, CeremonyError, Files, Founded, Me, Plan, PlanError, Status, step,
};
use borgios_policy::{
    Card, Chain, Intent, Lane, Name, Object as _, OpenRound, Slot, Verdict, tally,
};
use borgios_types::{Digest, Envelope, SecretKey, Seq, Threshold};
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;

/// Governors before they have a board: only their cards and keys are used of the fixture.
struct Founders {
    cards: Vec<Card>,
    keys: BTreeMap<Name, SecretKey>,
    identities: BTreeMap<Name, String>,
    states: BTreeMap<Name, String>,
    folder: Files,
    roster: Option<Digest>,
    rng: ChaCha20Rng,
}

impl Founders {
    fn new(n: u16, seed: u64) -> Self {
        let council = Council::new(n, n / 2 + 1, 1, seed);
        let cards = council.keys.keys().map(|name| council.card(name)).collect();
        Self {
            cards,
            keys: council.keys,
            identities: council.identities,
            states: BTreeMap::new(),
            folder: Files::new(),
            roster: None,
            rng: ChaCha20Rng::seed_from_u64(seed),
        }
    }

    /// More founders than a fixture's board has names.
    fn of(n: u8, seed: u64) -> Self {
        let (mut cards, mut keys, mut identities) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for i in 0..n {
            let name: Name = format!("g{i:02}").parse().unwrap();
            let key = SecretKey::from_seed([i + 1; 32]);
            let identity = age::x25519::Identity::generate();
            let recipient = identity.to_public().to_string();
            cards.push(Card { name: name.clone(), key: key.public(), recipient });
            identities.insert(name.clone(), identity.to_string().expose_secret().to_owned());
            keys.insert(name, key);
        }
        let rng = ChaCha20Rng::seed_from_u64(seed);
        let (states, folder, roster) = (BTreeMap::new(), Files::new(), None);
        Self { cards, keys, identities, states, folder, roster, rng }
    }

    /// The first governor writes founding.json.
    fn plan(&mut self, threshold: u16) {
        let plan = Plan::new(self.cards.clone(), Threshold(threshold), 4, ISSUED, EXPIRES).unwrap();
        self.roster = Some(plan.roster());
        let signed = plan.to_envelope().sign(&self.keys[&self.cards[0].name]);
        self.folder.insert("founding.json".into(), signed.to_json().into_bytes());
    }

    /// One run of one governor's tool: state from disk, state to disk, then the files. With
    /// `lost`, the machine dies between the two.
    fn run(&mut self, at: usize, lost: bool) -> Result<Status, CeremonyError> {
        let card = self.cards[at].clone();
        let me =
            Me { card: &card, key: &self.keys[&card.name], identity: &self.identities[&card.name] };
        let stored = self.states.get(&card.name);
        let state: Option<Ceremony> = stored.map(|text| serde_json::from_str(text).unwrap());
        let done = step(&me, state, &self.folder, self.roster, &mut self.rng)?;
        if let Some(state) = &done.state {
            self.states.insert(card.name.clone(), serde_json::to_string(state).unwrap());
        }
        if !lost {
            self.folder.extend(done.write);
        }
        Ok(done.status)
    }

    /// Runs everyone's tool in random order until all are done.
    fn finish(&mut self) -> Vec<Founded> {
        for _ in 0..200 {
            let mut order: Vec<usize> = (0..self.cards.len()).collect();
            order.shuffle(&mut self.rng);
            for at in order {
                let lost = self.rng.gen_bool(0.3);
                self.run(at, lost).unwrap();
            }
            let mut founded = Vec::new();
            for at in 0..self.cards.len() {
                if let Status::Founded(done) = self.run(at, false).unwrap() {
                    founded.push(*done);
                }
            }
            if founded.len() == self.cards.len() {
                return founded;
            }
        }
        panic!("not founded after 200 rounds");
    }

    /// Everybody's card is there, and the plan; nobody went further.
    fn with_plan(n: u16, threshold: u16, seed: u64) -> Self {
        let mut founders = Self::new(n, seed);
        for at in 0..founders.cards.len() {
            assert!(matches!(founders.run(at, false), Ok(Status::NoPlan(_))));
        }
        founders.plan(threshold);
        founders
    }

    /// Changes one paper and signs it again as its author would.
    fn rewrite(&mut self, file: &str, author: usize, change: impl FnOnce(&mut serde_json::Value)) {
        let envelope = Envelope::parse(&self.folder[file]).unwrap();
        let mut payload: serde_json::Value = serde_json::from_str(&envelope.payload).unwrap();
        change(&mut payload);
        let key = &self.keys[&self.cards[author].name];
        let changed = Envelope::unsigned(envelope.kind, payload.to_string()).sign(key);
        self.folder.insert(file.into(), changed.to_json().into_bytes());
    }

    fn all(&mut self) -> Vec<Result<Status, CeremonyError>> {
        (0..self.cards.len()).map(|at| self.run(at, false)).collect()
    }
}

/// Two of three and three of five, in random order, with machines that die between storing and
/// writing; then the founded board votes its first release with the pools of the founding.
#[test]
fn t46_a_board_is_founded_in_any_order_over_machines_that_die_and_votes() {
    for (n, t, seed) in [(3, 2, 1), (3, 2, 2), (2, 2, 3), (5, 3, 4)] {
        let mut founders = Founders::with_plan(n, t, seed);
        let founded = founders.finish();
        let (board, network) = (&founded[0].board, founded[0].network);
        assert!(founded.iter().all(|one| one.board == *board && one.network == network));
        let mut chain = Chain::new(Some(network));
        let Ok(Verdict::New(first)) = chain.verify(NOW, &founded[0].policy, &[]) else {
            panic!("policy/1 is refused")
        };
        chain.apply(*first);
        assert_eq!(&chain.policy().unwrap().board, board);
        let release =
            statement(Lane::Release, 1, Some(network), None, Some(1), release_body("0.1"));
        let slot =
            Slot { epoch: board.epoch(), lane: Lane::Release, seq: Seq(1), round: release.round };
        let ballots: Vec<Envelope> = founded
            .iter()
            .take(usize::from(t))
            .map(|one| {
                let open = OpenRound::check(board, slot, &[]).unwrap();
                let (me, text) = (one.key.name(), release.to_payload());
                let intent =
                    Intent::approve(board, me, &open, &text, &one.pools, &[].into(), None, 2)
                        .unwrap();
                let seed = &one.seeds.iter().find(|(of, _)| *of == slot).unwrap().1;
                let ballot = intent.ballot(board, &one.key, Some(seed), &one.pools).unwrap();
                ballot.to_envelope().sign(&founders.keys[me])
            })
            .collect();
        let tally = tally(board, slot, &[release.to_payload()], &founded[0].pools, &ballots);
        let signed = tally.signed().unwrap();
        assert!(matches!(chain.verify(NOW, signed, &[]), Ok(Verdict::New(_))), "{t} of {n}");
        // The seed of policy/1 is used up.
        let used = Slot { lane: Lane::Policy, ..slot };
        assert!(founded.iter().all(|one| one.seeds.len() == 8 * Lane::ALL.len() - 1
            && one.seeds.iter().all(|(of, _)| *of != used)));
    }
}

#[test]
fn a_step_that_is_repeated_writes_the_same() {
    let mut founders = Founders::with_plan(3, 2, 5);
    founders.run(0, false).unwrap();
    for _ in 0..12 {
        for at in 0..3 {
            founders.run(at, false).unwrap();
        }
        let before = founders.folder.clone();
        // Somebody empties the folder of one governor's files: the next run brings them back.
        founders.folder.retain(|file, _| !file.starts_with("ben."));
        founders.run(1, false).unwrap();
        for (file, bytes) in &before {
            assert_eq!(founders.folder.get(file), Some(bytes), "{file}");
        }
    }
    assert!(matches!(founders.run(1, false).unwrap(), Status::Founded(_)));
}

#[test]
fn nothing_is_written_before_the_roster_is_confirmed() {
    let mut founders = Founders::with_plan(3, 2, 6);
    let roster = founders.roster.take();
    assert!(founders.all().into_iter().all(|status| matches!(status, Ok(Status::Confirm(_)))));
    assert!(!founders.folder.keys().any(|file| file.contains("dkg1")));
    founders.roster = Some(Digest::of(b"another roster"));
    assert!(matches!(founders.run(0, false), Err(CeremonyError::Roster { .. })));
    founders.roster = roster;
    let status = founders.run(0, false).unwrap();
    assert_eq!(status.to_string(), "waiting for ben, cleo: dkg1");
}

#[test]
fn a_plan_with_a_key_of_the_writers_own_is_refused() {
    let mut founders = Founders::with_plan(3, 2, 7);
    let mallory = SecretKey::from_seed([9; 32]);
    founders.rewrite("founding.json", 0, |plan| {
        plan["governors"][1]["key"] = mallory.public().to_string().into();
    });
    // Ben sees his own card missing, the others that it is not the one in the folder.
    assert!(
        founders
            .all()
            .into_iter()
            .all(|r| matches!(r, Err(CeremonyError::Card(ref name)) if *name == "ben"))
    );
}

#[test]
fn a_plan_that_says_more_than_is_shown_is_refused() {
    let mut founders = Founders::with_plan(3, 2, 14);
    founders.rewrite("founding.json", 0, |plan| plan["extra"] = 1.into());
    assert!(matches!(founders.run(1, false), Err(CeremonyError::File { file, .. })
        if file == "founding.json"));
}

#[test]
fn a_changed_plan_or_paper_is_noticed_by_who_answered_it() {
    let mut founders = Founders::with_plan(3, 2, 8);
    founders.all().into_iter().for_each(|status| drop(status.unwrap()));
    // All dkg1 are there; ann answers them, then ben replaces his.
    founders.run(0, false).unwrap();
    let spare = founders.folder.clone();
    founders.rewrite("ben.dkg1.json", 1, |paper| paper["extra"] = 1.into());
    assert!(matches!(founders.run(0, false), Err(CeremonyError::Changed { file, .. })
        if file == "ben.dkg1.json"));
    assert!(matches!(founders.run(1, false), Err(CeremonyError::OwnFile(_))));
    founders.folder = spare;
    founders.rewrite("founding.json", 0, |plan| plan["fanout"] = 5.into());
    assert!(matches!(founders.run(0, false), Err(CeremonyError::Roster { .. })));
}

/// The library alone accepts a sender who shows two receivers different first rounds.
#[test]
fn t45_dkg_equivocation_is_noticed_and_named() {
    let mut founders = Founders::with_plan(3, 2, 9);
    founders.run(0, false).unwrap();
    founders.run(1, false).unwrap();
    // Cleo's copy of the folder does not have ben's paper yet.
    let bens = founders.folder.remove("ben.dkg1.json").unwrap();
    founders.run(2, false).unwrap();
    let without_ben = founders.folder.clone();
    founders.folder.insert("ben.dkg1.json".into(), bens.clone());
    founders.run(0, false).unwrap();
    let anns = founders.folder["ann.dkg2.json"].clone();
    // Ben begins once more, for cleo alone.
    founders.folder = without_ben;
    founders.states.remove("ben");
    founders.run(1, false).unwrap();
    assert_ne!(founders.folder["ben.dkg1.json"], bens);
    founders.folder.insert("ann.dkg2.json".into(), anns);
    assert!(matches!(founders.run(2, false), Err(CeremonyError::Disagrees { name, .. })
        if name == "ann"));
}

#[test]
fn forged_papers_are_refused_and_cheats_are_named() {
    let mut founders = Founders::with_plan(3, 2, 11);
    founders.all().into_iter().for_each(|status| drop(status.unwrap()));
    let good = founders.folder.clone();
    // Signed by another; damaged; of another author; no JSON at all.
    founders.rewrite("ben.dkg1.json", 2, |_| {});
    assert!(
        matches!(founders.run(0, false), Err(CeremonyError::File { file, .. }) if file == "ben.dkg1.json")
    );
    founders.folder.insert("ben.dkg1.json".into(), good["cleo.dkg1.json"].clone());
    assert!(matches!(founders.run(0, false), Err(CeremonyError::File { .. })));
    founders.folder.insert("ben.dkg1.json".into(), b"{".to_vec());
    assert!(matches!(founders.run(0, false), Err(CeremonyError::File { .. })));
    // A contribution whose proof of knowledge is another's.
    founders.folder = good.clone();
    let cleo = Envelope::parse(&good["cleo.dkg1.json"]).unwrap();
    let cleo: serde_json::Value = serde_json::from_str(&cleo.payload).unwrap();
    founders.rewrite("ben.dkg1.json", 1, |paper| paper["package"] = cleo["package"].clone());
    assert!(
        matches!(founders.run(0, false), Err(CeremonyError::Cheat { name, kind: "dkg1", .. }) if name == "ben")
    );
    // A sealed value that does not open, or is not there.
    founders.folder = good;
    founders.all().into_iter().for_each(|status| drop(status.unwrap()));
    let second = founders.folder.clone();
    founders.rewrite("ben.dkg2.json", 1, |paper| paper["packages"] = serde_json::json!({}));
    assert!(
        matches!(founders.run(0, false), Err(CeremonyError::Cheat { name, kind: "dkg2", .. }) if name == "ben")
    );
    founders.folder = second;
    founders.rewrite("ben.dkg2.json", 1, |paper| {
        paper["packages"]["ann"] = paper["packages"]["cleo"].clone();
    });
    assert!(
        matches!(founders.run(0, false), Err(CeremonyError::Cheat { name, kind: "dkg2", .. }) if name == "ben")
    );
}

#[test]
fn nobody_votes_before_all_signed_the_same_key() {
    let mut founders = Founders::with_plan(3, 2, 12);
    founders.all().into_iter().for_each(|status| drop(status.unwrap()));
    for at in [1, 0, 1] {
        founders.run(at, false).unwrap();
    }
    assert!(founders.folder.contains_key("ben.done.json"));
    let status = founders.run(0, false).unwrap();
    assert_eq!(status.to_string(), "waiting for cleo: done");
    let spare = founders.folder.clone();
    founders.run(2, false).unwrap();
    let complete = founders.folder.clone();
    founders.rewrite("cleo.done.json", 2, |paper| {
        paper["transcript"] = Digest::of(b"another").to_string().into();
    });
    founders.folder.remove("cleo.ballot.json");
    assert!(
        matches!(founders.run(0, false), Err(CeremonyError::Disagrees { name, .. }) if name == "cleo")
    );
    // A pool other than the one that was signed for.
    let pooled = complete.clone();
    founders.folder = complete;
    let ben = founders.folder["ben.pool1.json"].clone();
    founders.folder.insert("cleo.pool1.json".into(), ben);
    assert!(
        matches!(founders.run(0, false), Err(CeremonyError::Changed { file, .. }) if file == "cleo.pool1.json")
    );
    // One that was signed for, and holds a point of order 4.
    founders.folder = pooled;
    founders.rewrite("cleo.pool1.json", 2, |pool| {
        let commitments = pool["commitments"].take();
        let mut commitments: borgios_policy::Bytes = serde_json::from_value(commitments).unwrap();
        commitments.0[32 * 7..32 * 8].fill(0);
        pool["commitments"] = serde_json::to_value(commitments).unwrap();
    });
    let pool = Envelope::parse(&founders.folder["cleo.pool1.json"]).unwrap().id();
    founders.rewrite("cleo.done.json", 2, |paper| paper["pools"] = serde_json::json!([pool]));
    assert!(
        matches!(founders.run(0, false), Err(CeremonyError::File { file, .. }) if file == "cleo.pool1.json")
    );
    assert!(
        !spare.contains_key("ann.ballot.json") && !founders.folder.contains_key("ann.ballot.json")
    );
}

#[test]
fn boards_that_cannot_work_are_refused_before_anyone_begins() {
    let cards = Founders::new(7, 13).cards;
    let plan = |n: usize, t: u16| Plan::new(cards[..n].to_vec(), Threshold(t), 4, ISSUED, EXPIRES);
    assert!(matches!(plan(1, 1), Err(PlanError::Board(_))));
    assert!(matches!(plan(4, 2), Err(PlanError::Board(_))));
    assert!(matches!(plan(4, 5), Err(PlanError::Board(_))));
    assert!(plan(3, 3).unwrap().warning().is_some());
    assert!(plan(3, 2).unwrap().warning().is_none());
    let twice = [cards[0].clone(), cards[0].clone()].to_vec();
    assert!(Plan::new(twice, Threshold(2), 4, ISSUED, EXPIRES).is_err());
    let many = Founders::of(15, 8).cards;
    // Too large for one touch is not too large.
    assert!(Plan::new(many, Threshold(8), 4, ISSUED, EXPIRES).is_ok());
}

/// 15 of 21, and a board just beyond one-touch votes: no pools, policy/1 signed in the ceremony.
#[test]
fn a_board_too_large_for_one_touch_is_founded() {
    let mut founders = Founders::of(21, 15);
    founders.plan(15);
    let founded = founders.finish();
    let (board, network) = (&founded[0].board, founded[0].network);
    assert_eq!((board.size(), board.threshold().0), (21, 15));
    assert!(founded.iter().all(|one| one.board == *board && one.network == network));
    assert!(founded.iter().all(|one| one.seeds.is_empty() && one.pools.is_empty()));
    for one in &founded {
        let chain = Chain::new(Some(network));
        assert!(matches!(chain.verify(NOW, &one.policy, &[]), Ok(Verdict::New(_))));
    }
    assert!(!founders.folder.contains_key("g20.part.json"), "only the first t sign");
    // Nobody keeps nonces that were used.
    assert!(founders.states.values().all(|state| !state.contains("nonces")));
}

/// A bad part of the signature names its maker.
#[test]
fn a_bad_part_of_a_large_boards_first_signature_is_named() {
    let mut founders = Founders::of(14, 8);
    founders.plan(8);
    founders.finish();
    founders.folder.remove("policy-1.json");
    founders.rewrite("g03.part.json", 3, |part| {
        let mut share = vec![0; 32];
        share[0] = 7;
        part["share"] = serde_json::to_value(borgios_policy::Bytes(share)).unwrap();
    });
    assert!(matches!(founders.run(0, false), Err(CeremonyError::Cheat { name, kind: "part", .. })
        if name == "g03"));
}

/// Whoever keeps a paper from one of the others keeps nobody out: what all signed for says so.
#[test]
fn who_never_sees_the_last_paper_takes_what_came_of_it() {
    let mut founders = Founders::with_plan(3, 2, 15);
    for _ in 0..2 {
        founders.all().into_iter().for_each(|status| drop(status.unwrap()));
    }
    for at in [0, 1] {
        founders.run(at, false).unwrap();
    }
    let Status::Founded(other) = founders.run(0, false).unwrap() else { panic!("not founded") };
    for file in ["ben.done.json", "ben.pool1.json"] {
        founders.folder.remove(file).unwrap();
    }
    let good = founders.folder.remove("policy-1.json").unwrap();
    assert_eq!(founders.run(2, false).unwrap().to_string(), "waiting for ben: done");
    // What another key signed says nothing.
    founders.folder.insert("policy-1.json".into(), good.clone());
    founders.rewrite("policy-1.json", 1, |_| {});
    assert_eq!(founders.run(2, false).unwrap().to_string(), "waiting for ben: done");
    founders.folder.insert("policy-1.json".into(), good);
    // Nor does a ballot that nobody can read keep anybody out: none is needed.
    founders.folder.insert("ben.ballot.json".into(), b"{".to_vec());
    let Status::Founded(cleo) = founders.run(2, false).unwrap() else { panic!("not founded") };
    assert_eq!((cleo.network, &cleo.board), (other.network, &other.board));
    assert_eq!(cleo.key.name(), &founders.cards[2].name);
    // It did not vote, and will not: the seed of that place is gone as everybody's is.
    assert!(!founders.folder.contains_key("cleo.ballot.json"));
    assert!(cleo.seeds.len() == 8 * Lane::ALL.len() - 1 && cleo.pools.len() == 1);
    let used = |slot: &Slot| (slot.lane, slot.seq) == (Lane::Policy, Seq(1));
    assert!(!cleo.seeds.iter().any(|(slot, _)| used(slot)));
}

/// Whoever shows two versions of the last paper must not make two others look like cheats.
#[test]
fn two_versions_of_a_last_paper_lay_no_bad_part_at_the_door_of_the_innocent() {
    let mut founders = Founders::of(14, 9);
    founders.plan(8);
    // Cards, dkg1, dkg2; the last who writes done is none of the first eight, who sign.
    for _ in 0..3 {
        founders.all().into_iter().for_each(|status| drop(status.unwrap()));
    }
    for at in 0..11 {
        founders.run(at, false).unwrap();
    }
    let count = |kind: &str| founders.folder.keys().filter(|file| file.ends_with(kind)).count();
    assert_eq!((count(".done.json"), count(".part.json")), (14, 0));
    let first = founders.folder["g00.done.json"].clone();
    founders.run(1, false).unwrap();
    let other = Envelope::parse(&founders.folder["g02.done.json"]).unwrap();
    let other: serde_json::Value = serde_json::from_str(&other.payload).unwrap();
    founders.rewrite("g00.done.json", 0, |done| done["commitment"] = other["commitment"].clone());
    // Another part is there, made with other papers, which keeps nobody from laying theirs.
    let waits = founders.run(2, false).unwrap();
    assert!(matches!(waits, Status::Waiting { kind: "part", .. }), "{waits}");
    assert!(founders.folder.contains_key("g02.part.json"));
    founders.folder.insert("g00.done.json".into(), first);
    for _ in 0..2 {
        for status in founders.all() {
            assert!(!matches!(status, Err(CeremonyError::Cheat { .. })), "{status:?}");
        }
    }
    let parts = founders.folder.keys().filter(|file| file.ends_with(".part.json")).count();
    assert_eq!(parts, 8);
    let answer = founders.run(1, false);
    assert!(matches!(answer, Err(CeremonyError::Disagrees { name, what: "done" })
        if name == "g02"));
}
