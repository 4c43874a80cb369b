//! Changes of the board through an exchange folder: who comes and goes, in any order, cut off
//! anywhere, with cheats; and what every holder of the chain makes of the outcome.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use std::collections::{BTreeMap, BTreeSet};

use age::secrecy::ExposeSecret as _;
use borgios_policy::change::{
    Change, Changed, Standing, Status, carried, closed, next_policy, step,
};
use borgios_policy::fixture::{Council, EXPIRES, ISSUED, NOW, release_body, statement};
use borgios_policy::keygen::{Ceremony, CeremonyError, Files, Me};
use borgios_policy::{
    Ballot, Board, Card, Chain, Intent, Lane, Name, Object as _, OpenRound, Policy, Pool, Refusal,
    Slot, Statement, Verdict, merge_signatures, tally,
};
use borgios_types::{Digest, Envelope, KeyEpoch, Round, SecretKey, Seq, Threshold};
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;

/// A governor's machine.
struct Person {
    card: Card,
    key: SecretKey,
    identity: String,
    state: Option<String>,
}

/// A board in force, a folder, and everyone who is to take part in a change.
struct Town {
    council: Council,
    chain: Chain,
    network: Digest,
    people: BTreeMap<Name, Person>,
    folder: Files,
    confirmed: Option<Digest>,
    rng: ChaCha20Rng,
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

impl Town {
    /// `t` of `n` govern; these newcomers have cards.
    fn new(n: u16, t: u16, newcomers: &[&str], seed: u64) -> Self {
        let council = Council::new(n, t, 1, seed);
        let first = council.sign(&council.first_policy(t));
        let network = first.id();
        let mut chain = Chain::new(Some(network));
        let Ok(Verdict::New(first)) = chain.verify(NOW, &first, &[]) else { panic!() };
        chain.apply(*first);
        let mut people = BTreeMap::new();
        for name in council.keys.keys() {
            let (card, identity) = (council.card(name), council.identities[name].clone());
            let key = council.keys[name].clone();
            people.insert(name.clone(), Person { card, key, identity, state: None });
        }
        for (at, new) in (0_u8..).zip(newcomers) {
            let (key, age) =
                (SecretKey::from_seed([200 + at; 32]), age::x25519::Identity::generate());
            let recipient = age.to_public().to_string();
            let card = Card { name: name(new), key: key.public(), recipient };
            let identity = age.to_string().expose_secret().to_owned();
            people.insert(name(new), Person { card, key, identity, state: None });
        }
        let rng = ChaCha20Rng::seed_from_u64(seed);
        let (folder, confirmed) = (Files::new(), None);
        Self { council, chain, network, people, folder, confirmed, rng }
    }

    /// Ann writes the plan of an attempt; returns it.
    fn plan(&mut self, attempt: u32, remove: &[&str], add: &[&str], threshold: u16) -> Change {
        let remove: Vec<Name> = remove.iter().map(|text| name(text)).collect();
        let add: Vec<Card> = add.iter().map(|new| self.people[*new].card.clone()).collect();
        let board = self.board();
        let standing = Standing { network: self.network, board: &board, recovery: None };
        let heads = Lane::ALL.map(|lane| (lane, self.chain.head_seq(lane))).into();
        let plan =
            Change::new(standing, attempt, (&remove, &add), Threshold(threshold), heads).unwrap();
        let signed = plan.to_envelope().sign(&self.people["ann"].key);
        self.folder.insert(plan.file(false), signed.to_json().into_bytes());
        self.confirmed = Some(plan.roster());
        plan
    }

    fn board(&self) -> Board {
        self.chain.policy().unwrap().board.clone()
    }

    /// One run of one governor's tool; with `lost`, the machine dies before it writes the files.
    fn run(&mut self, who: &str, lost: bool, may_drop: bool) -> Result<Status, CeremonyError> {
        let board = self.board();
        let standing = Standing { network: self.network, board: &board, recovery: None };
        let Person { card, key, identity, state } = &self.people[who];
        let me = Me { card, key, identity };
        let state: Option<Ceremony> =
            state.as_ref().map(|text| serde_json::from_str(text).unwrap());
        let agreed = (self.confirmed, may_drop);
        let done = step(&me, standing, state, &self.folder, agreed, &mut self.rng)?;
        let stored = done.state.map(|state| serde_json::to_string(&state).unwrap());
        self.people.get_mut(who).unwrap().state = stored;
        if !lost {
            self.folder.extend(done.write);
        }
        Ok(done.status)
    }

    /// Runs everybody's tool in random order, with machines that die, until all have the key.
    fn finish(&mut self, plan: &Change) -> Vec<Changed> {
        for _ in 0..200 {
            let mut order: Vec<Name> =
                plan.governors.iter().map(|card| card.name.clone()).collect();
            order.shuffle(&mut self.rng);
            for who in &order {
                let lost = self.rng.gen_bool(0.3);
                self.run(who.as_str(), lost, false).unwrap();
            }
            order.sort();
            let mut made = Vec::new();
            for who in &order {
                if let Status::Made(changed) = self.run(who.as_str(), false, false).unwrap() {
                    made.push(*changed);
                }
            }
            if made.len() == order.len() {
                return made;
            }
        }
        panic!("no key after 200 rounds");
    }

    /// policy/2, unsigned.
    fn next(&self, board: &Board, carried: BTreeSet<Digest>) -> Statement {
        let policy = next_policy(self.chain.policy().unwrap(), board.clone(), carried);
        self.policy(policy)
    }

    fn policy(&self, policy: Policy) -> Statement {
        let head = self.chain.head(Lane::Policy).unwrap();
        let seq = head.statement().seq;
        let (network, prev) = (Some(self.network), Some(head.id()));
        statement(Lane::Policy, seq.0 + 1, network, prev, Some(seq.0), policy.to_body())
    }

    fn admit(&mut self, envelope: &Envelope) {
        match self.chain.verify(NOW, envelope, &[]) {
            Ok(Verdict::New(verified)) => self.chain.apply(*verified),
            other => panic!("{other:?}"),
        }
    }

    fn refusal(&self, envelope: &Envelope) -> Refusal {
        self.chain.verify(NOW, envelope, &[]).unwrap_err()
    }

    /// The new board's ballots on a statement, by everyone in `made`.
    fn ballots(&self, made: &[Changed], statement: &Statement) -> Vec<Envelope> {
        made.iter()
            .map(|one| {
                let (board, me) = (&one.board, one.key.name());
                let Statement { lane, seq, round, .. } = *statement;
                let slot = Slot { epoch: board.epoch(), lane, seq, round };
                let old = Slot { epoch: KeyEpoch(board.epoch().0 - 1), ..slot };
                let open = OpenRound::check(&self.board(), old, &[]).unwrap().for_successor(board);
                let (text, nobody) = (statement.to_payload(), [].into());
                let intent =
                    Intent::approve(board, me, &open, &text, &one.pools, &nobody, None, 1).unwrap();
                let seed = one.seeds.iter().find(|(of, _)| *of == slot).map(|(_, seed)| seed);
                let ballot = intent.ballot(board, &one.key, seed, &one.pools).unwrap();
                ballot.to_envelope().sign(&self.people[me].key)
            })
            .collect()
    }

    /// The statement with the new board's signature, out of its ballots.
    fn by_new(&self, made: &[Changed], statement: &Statement) -> Envelope {
        let board = &made[0].board;
        let Statement { lane, seq, round, .. } = *statement;
        let slot = Slot { epoch: board.epoch(), lane, seq, round };
        let (texts, ballots) = ([statement.to_payload()], self.ballots(made, statement));
        tally(board, slot, &texts, &made[0].pools, &ballots).signed().unwrap().clone()
    }
}

/// One out, one in, another threshold, a fresh key for the same people, in random order with
/// machines that die; and the outcome is a policy that an empty chain follows.
#[test]
fn t46_a_change_ends_in_any_order_over_machines_that_die() {
    for (seed, n, t, remove, add, threshold) in [
        (1, 3, 2, &["cleo"][..], &["zoe"][..], 2),
        (2, 3, 2, &[], &["yan", "zoe"], 3),
        (3, 5, 3, &["ben", "eve"], &[], 2),
        (4, 2, 2, &[], &[], 2),
    ] {
        let mut town = Town::new(n, t, add, seed);
        let plan = town.plan(0, remove, add, threshold);
        let made = town.finish(&plan);
        let board = made[0].board.clone();
        assert!(made.iter().all(|one| one.board == board && one.author == "ann"));
        assert_eq!((board.epoch(), board.threshold()), (KeyEpoch(2), Threshold(threshold)));
        assert_ne!(board.group(), town.council.board.group());
        let next = town.next(&board, BTreeSet::new());
        let (old, new) = (town.council.sign(&next), town.by_new(&made, &next));
        town.admit(&merge_signatures(&old, &new).unwrap());
        assert_eq!(town.board(), board);
        // The first release of the new board, with the pools of the ceremony.
        let network = Some(town.network);
        let release = statement(Lane::Release, 1, network, None, Some(2), release_body("2"));
        let signed = town.by_new(&made, &release);
        town.admit(&signed);
    }
}

/// Every case of old, new, both, neither; first, again, rival; threshold up and down.
#[test]
fn t25_a_new_board_counts_only_with_both_keys_and_in_its_place() {
    for threshold in [2, 3] {
        let mut town = Town::new(3, 2, &["zoe"], 5);
        let plan = town.plan(0, &["cleo"], &["zoe"], threshold);
        let made = town.finish(&plan);
        let next = town.next(&made[0].board, BTreeSet::new());
        let (old, new) = (town.council.sign(&next), town.by_new(&made, &next));
        for half in [&old, &new, &next.to_envelope()] {
            assert!(matches!(town.refusal(half), Refusal::BadSignature { .. }));
        }
        // policy/3 before policy/2.
        let third =
            Statement { seq: Seq(3), policy: Some(Seq(2)), prev: Some(old.id()), ..next.clone() };
        let third = merge_signatures(&town.council.sign(&third), &new);
        assert!(third.is_none(), "signatures over two texts do not merge");
        let both = merge_signatures(&old, &new).unwrap();
        town.admit(&both);
        assert!(matches!(town.chain.verify(NOW, &both, &[]), Ok(Verdict::AlreadyKnown(_))));
        // The old board, which still has its shares, names other rules for the place.
        let mut rival = next.clone();
        rival.body["fanout"] = 9.into();
        assert!(matches!(town.refusal(&town.council.sign(&rival)), Refusal::BadSignature { .. }));
        let same_key = statement(
            Lane::Policy,
            2,
            Some(town.network),
            next.prev,
            Some(1),
            town.council.policy(3).to_body(),
        );
        assert!(matches!(town.refusal(&town.council.sign(&same_key)), Refusal::Rival { .. }));
    }
}

/// An epoch that is not the next, or a key of the old epoch under a new number.
#[test]
fn t25_a_board_of_another_epoch_or_with_an_old_key_is_refused() {
    let town = Town::new(3, 2, &[], 6);
    for epoch in [1, 3] {
        let other = Council::new(3, 2, epoch, 99);
        let next = town.policy(next_policy(
            town.chain.policy().unwrap(),
            other.board.clone(),
            BTreeSet::new(),
        ));
        let both = merge_signatures(&town.council.sign(&next), &other.sign(&next)).unwrap();
        assert!(matches!(town.refusal(&both), Refusal::BadBody { .. }), "{epoch}");
    }
}

#[test]
fn t26_who_was_removed_counts_before_and_not_after() {
    let mut town = Town::new(3, 2, &["zoe"], 7);
    let plan = town.plan(0, &["cleo"], &["zoe"], 2);
    let made = town.finish(&plan);
    let (old, board) = (town.board(), made[0].board.clone());
    let cleo = name("cleo");
    let slot = Slot { epoch: old.epoch(), lane: Lane::Release, seq: Seq(1), round: Round(0) };
    let pools = town.council.pools(slot);
    let release = statement(Lane::Release, 1, Some(town.network), None, Some(1), release_body("1"));
    let ballot = town.council.approve(&cleo, &release, &pools);
    let next = town.next(&board, BTreeSet::new());
    let both = merge_signatures(&town.council.sign(&next), &town.by_new(&made, &next)).unwrap();
    town.admit(&both);
    // History: under the old board it still is cleo's ballot.
    assert!(Ballot::verify(&old, &ballot).is_ok());
    // Under the new one neither it nor a pool of hers counts, whatever group key she writes.
    assert!(Ballot::verify(&board, &ballot).is_err());
    for envelope in [&ballot, &town.council.pool(&cleo, &[slot])] {
        let mut payload: serde_json::Value = serde_json::from_str(&envelope.payload).unwrap();
        payload["group"] = serde_json::to_value(board.group()).unwrap();
        let forged = Envelope::unsigned(envelope.kind.clone(), payload.to_string());
        let forged = forged.sign(&town.people["cleo"].key);
        assert!(Ballot::verify(&board, &forged).is_err() && Pool::verify(&board, &forged).is_err());
    }
}

#[test]
fn t27_what_the_old_board_signed_counts_after_the_change_only_if_carried() {
    for carry in [false, true] {
        let mut town = Town::new(3, 2, &[], 8);
        let plan = town.plan(0, &["cleo"], &[], 2);
        let made = town.finish(&plan);
        let release =
            statement(Lane::Release, 1, Some(town.network), None, Some(1), release_body("1"));
        let late = town.council.sign(&release);
        // A holder that saw the release in time carries it; what is not signed is never carried.
        let carried = if carry {
            let mut seen = town.chain.clone();
            assert!(carried(&seen).is_empty());
            let Ok(Verdict::New(verified)) = seen.verify(NOW, &late, &[]) else { panic!() };
            seen.apply(*verified);
            carried(&seen)
        } else {
            BTreeSet::new()
        };
        let next = town.next(&made[0].board, carried);
        let both = merge_signatures(&town.council.sign(&next), &town.by_new(&made, &next)).unwrap();
        town.admit(&both);
        if carry {
            town.admit(&late);
        } else {
            assert!(matches!(town.refusal(&late), Refusal::WrongPolicy { .. }));
            // Voted on again by the new board.
            let again = Statement { policy: Some(Seq(2)), ..release };
            town.admit(&town.by_new(&made, &again));
        }
    }
}

/// A release is half voted on when the board changes, and who leaves completes it with a ballot that
/// stayed: whatever a holder hears of first, it ends where all others do.
#[test]
fn a_vote_that_crosses_a_change_of_the_board_leaves_every_holder_in_the_same_state() {
    let mut town = Town::new(3, 2, &["dan"], 12);
    let plan = town.plan(0, &["cleo"], &["dan"], 2);
    let made = town.finish(&plan);
    let release = statement(Lane::Release, 1, Some(town.network), None, Some(1), release_body("1"));
    let crossing = town.council.sign(&release);
    let open = [(Lane::Policy, Seq(2)), (Lane::Release, Seq(1)), (Lane::Access, Seq(7))];
    let rulings = closed(&town.chain, open);
    let place = (Lane::Release, Seq(1), None);
    assert_eq!(rulings.iter().map(|r| (r.lane, r.seq, r.winner)).collect::<Vec<_>>(), [place]);
    let mut policy =
        next_policy(town.chain.policy().unwrap(), made[0].board.clone(), BTreeSet::new());
    policy.rulings = rulings;
    let next = town.policy(policy);
    let change = merge_signatures(&town.council.sign(&next), &town.by_new(&made, &next)).unwrap();
    // One heard of the change in time, the other of the release that the old board completed.
    let mut before = town.chain.clone();
    town.admit(&change);
    // Who hands it on is not to blame for it; who forges it is.
    assert!(matches!(town.refusal(&crossing), Refusal::Closed { by: Seq(2), .. }));
    let mut forged = crossing.clone();
    forged.sigs[0].sig.0[7] ^= 1;
    assert!(matches!(town.refusal(&forged), Refusal::WrongPolicy { .. }));
    for envelope in [&crossing, &change] {
        let Ok(Verdict::New(verified)) = before.verify(NOW, envelope, &[]) else { panic!() };
        before.apply(*verified);
    }
    assert_eq!(before.overruled().map(|one| one.id()).collect::<Vec<_>>(), [crossing.id()]);
    assert_eq!(closed(&town.chain, [(Lane::Release, Seq(1))]), [], "it is settled");
    // The new board votes on it again, behind the closed place, and both take it.
    let again = Statement { seq: Seq(2), prev: Some(change.id()), policy: Some(Seq(2)), ..release };
    let again = town.by_new(&made, &again);
    town.admit(&again);
    let Ok(Verdict::New(verified)) = before.verify(NOW, &again, &[]) else { panic!() };
    before.apply(*verified);
    for lane in Lane::ALL {
        assert_eq!(before.tip(lane), town.chain.tip(lane), "{lane}");
    }
    // From the disk too, in whatever order.
    let stored =
        [again, crossing, change, town.chain.get(Lane::Policy, Seq(1)).unwrap().envelope().clone()];
    let restored = Chain::restore(Some(town.network), stored).unwrap();
    assert_eq!(restored.tip(Lane::Release), town.chain.tip(Lane::Release));
}

/// Until policy/2 is applied, the old key is obeyed: some have the new share, others died. No step of
/// the ceremony is given an old share; that it stays on the disk is shown by `t48` of the command line
/// (`cli/tests/interrupted_changes.rs`).
#[test]
fn t48_an_interrupted_change_leaves_the_old_key_at_work() {
    let mut town = Town::new(3, 2, &[], 9);
    town.plan(0, &[], &[], 2);
    for who in ["ann", "ben", "cleo", "ann", "ben", "ann"] {
        town.run(who, false, false).unwrap();
    }
    assert!(town.folder.contains_key("2.ann.done.json"), "ann has a new share");
    assert!(!town.folder.contains_key("2.cleo.done.json"));
    assert!(matches!(
        town.run("ann", false, false),
        Ok(Status::Waiting { kind: "done", .. } | Status::Waiting { kind: "dkg2", .. })
    ));
    let release = statement(Lane::Release, 1, Some(town.network), None, Some(1), release_body("1"));
    let signed = town.council.sign(&release);
    town.admit(&signed);
    assert_eq!(town.board(), town.council.board, "the board in force is the old one");
    // A second attempt takes another set; who has a key lets go of it only when told so.
    let plan = town.plan(1, &["cleo"], &[], 2);
    assert!(matches!(town.run("ann", false, false), Err(CeremonyError::Roster { .. })));
    for who in ["ann", "ben"] {
        town.run(who, false, true).unwrap();
    }
    let made = town.finish(&plan);
    assert_eq!(made[0].board.size(), 2);
    assert!(town.folder.contains_key("2.1.ben.done.json"));
}

/// The library alone accepts a sender who shows two receivers different first rounds.
#[test]
fn t45_equivocation_in_a_change_is_noticed_and_named() {
    let mut town = Town::new(3, 2, &[], 10);
    town.plan(0, &[], &[], 2);
    town.run("ann", false, false).unwrap();
    town.run("ben", false, false).unwrap();
    // Cleo's copy of the folder does not have ben's paper yet.
    let bens = town.folder.remove("2.ben.dkg1.json").unwrap();
    town.run("cleo", false, false).unwrap();
    let without_ben = town.folder.clone();
    town.folder.insert("2.ben.dkg1.json".into(), bens.clone());
    town.run("ann", false, false).unwrap();
    let anns = town.folder["2.ann.dkg2.json"].clone();
    // Ben begins once more, for cleo alone.
    town.folder = without_ben;
    town.people.get_mut("ben").unwrap().state = None;
    town.run("ben", false, false).unwrap();
    assert_ne!(town.folder["2.ben.dkg1.json"], bens);
    town.folder.insert("2.ann.dkg2.json".into(), anns);
    let Err(error) = town.run("cleo", false, false) else { panic!("not noticed") };
    assert!(matches!(&error, CeremonyError::Disagrees { name, .. } if *name == "ann"), "{error}");
    // And whoever answered ben's first paper sees that he signed another.
    let Err(error) = town.run("ann", false, false) else { panic!("not noticed") };
    assert!(matches!(&error, CeremonyError::Changed { file, .. } if file == "2.ben.dkg1.json"));
}

#[test]
fn only_new_cards_need_a_comparison_and_strangers_plan_nothing() {
    let mut town = Town::new(3, 2, &["zoe"], 11);
    town.confirmed = None;
    assert!(matches!(town.run("ann", false, false), Ok(Status::NoPlan)));
    let roster = town.plan(0, &[], &["zoe"], 3).roster();
    town.confirmed = None;
    for who in ["ann", "zoe"] {
        assert!(matches!(town.run(who, false, false), Ok(Status::Confirm(_))), "{who}");
    }
    assert!(!town.folder.keys().any(|file| file.contains("dkg1")));
    town.confirmed = Some(Digest::of(b"another"));
    assert!(matches!(town.run("zoe", false, false), Err(CeremonyError::Roster { .. })));
    // Anyone can lay a file; a plan of zoe's own stops nobody.
    let mut own = town.plan(1, &["ben"], &["zoe"], 2);
    let forged = own.to_envelope().sign(&town.people["zoe"].key);
    town.folder.insert(own.file(false), forged.to_json().into_bytes());
    town.folder.insert("change-2.2.json".into(), b"{".to_vec());
    town.confirmed = Some(roster);
    assert!(matches!(town.run("zoe", false, false), Ok(Status::Waiting { kind: "dkg1", .. })));
    // One under a wrong number or for another key is refused by name.
    town.folder.clear();
    own.epoch = KeyEpoch(3);
    let wrong = own.to_envelope().sign(&town.people["ann"].key);
    town.folder.insert("change-2.1.json".into(), wrong.to_json().into_bytes());
    assert!(matches!(town.run("ann", false, true), Err(CeremonyError::File { file, .. })
        if file == "change-2.1.json"));
    // A removal needs no voice: every card is the board's.
    town.folder.clear();
    town.people.values_mut().for_each(|person| person.state = None);
    town.plan(0, &["cleo"], &[], 2);
    town.confirmed = None;
    assert!(matches!(town.run("ben", false, false), Ok(Status::Waiting { kind: "dkg1", .. })));
    assert!(matches!(town.run("cleo", false, false), Ok(Status::NotIncluded(_))));
}

/// The rules go with the board: what asked for the threshold or for all goes on doing so.
#[test]
fn classes_fit_the_new_board() {
    let (old, new) = (Council::new(3, 2, 1, 12), Council::new(5, 4, 2, 13));
    let mut before = old.policy(2);
    before.classes.policy.approvals = 3;
    before.classes.policy.veto = Some(2);
    before.classes.release.rebuilds = Some(2);
    let next = next_policy(&before, new.board.clone(), BTreeSet::new());
    assert_eq!((next.classes.release.approvals, next.classes.policy.approvals), (4, 5));
    assert_eq!(next.classes.release.rebuilds, Some(2));
    assert!(next.validate().is_ok());
    let back = next_policy(&next, old.board.clone(), BTreeSet::new());
    assert_eq!((back.classes.release.approvals, back.classes.policy.approvals), (2, 3));
    assert!(back.validate().is_ok());
    assert!(ISSUED < EXPIRES);
}
