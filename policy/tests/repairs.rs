//! Repairs of a lost share, and identities that were replaced under the same key.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use borgios_policy::fixture::{Council, NOW, release_body, statement};
use borgios_policy::keygen::{Files, Me};
use borgios_policy::repair::{ATTEMPTS_MAX, RepairError, Status, ask, finish, free, help};
use borgios_policy::{
    Ballot, Board, BoardError, Burn, Card, Chain, KeyShare, Lane, Name, Object as _, Pool, Refusal,
    Verdict, tally,
};
use borgios_types::{Digest, Envelope, Round, SecretKey, Seq, UnixSeconds};
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;

struct Ward {
    council: Council,
    cards: Vec<Card>,
    folder: Files,
    rng: ChaCha20Rng,
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

impl Ward {
    fn new(n: u16, t: u16) -> Self {
        let council = Council::new(n, t, 1, 21);
        let cards = council.keys.keys().map(|name| council.card(name)).collect();
        Self { council, cards, folder: Files::new(), rng: ChaCha20Rng::seed_from_u64(21) }
    }

    fn me(&self, who: &str) -> Me<'_> {
        let card = self.cards.iter().find(|card| card.name == who).unwrap();
        Me { card, key: &self.council.keys[who], identity: &self.council.identities[who] }
    }

    fn ask(&mut self, who: &str, attempt: u32, helpers: &[&str]) {
        let helpers: Vec<Name> = helpers.iter().map(|helper| name(helper)).collect();
        let (file, envelope) = ask(&self.council.board, &self.me(who), attempt, &helpers).unwrap();
        self.folder.insert(file, envelope.to_json().into_bytes());
    }

    fn help(&mut self, who: &str, whom: &str) -> Result<Status, RepairError> {
        let mut rng = ChaCha20Rng::from_rng(&mut self.rng).unwrap();
        let key = &self.council.shares[who];
        let (board, me) = (&self.council.board, self.me(who));
        let (write, status) = help(board, &me, key, &name(whom), &self.folder, &mut rng)?;
        self.folder.extend(write);
        Ok(status)
    }

    fn finish(&self, who: &str) -> Result<Status, RepairError> {
        finish(&self.council.board, &self.me(who), &self.folder)
    }

    /// Changes one paper and signs it again as its author would.
    fn rewrite(&mut self, file: &str, author: &str, change: impl FnOnce(&mut serde_json::Value)) {
        let envelope = Envelope::parse(&self.folder[file]).unwrap();
        let mut payload: serde_json::Value = serde_json::from_str(&envelope.payload).unwrap();
        change(&mut payload);
        let changed = Envelope::unsigned(envelope.kind, payload.to_string());
        let changed = changed.sign(&self.council.keys[author]);
        self.folder.insert(file.into(), changed.to_json().into_bytes());
    }
}

#[test]
fn a_lost_share_comes_back_by_t_helpers_in_any_order() {
    for (n, t, helpers) in
        [(3, 2, &["ann", "cleo"][..]), (5, 3, &["cleo", "dan", "eve"]), (2, 2, &[])]
    {
        let mut ward = Ward::new(n, t);
        if helpers.is_empty() {
            // t of t: nobody else is left to help.
            let only = [name("ann")];
            let asked = ask(&ward.council.board, &ward.me("ben"), 0, &only);
            assert!(matches!(asked, Err(RepairError::Helpers(_))));
            continue;
        }
        assert!(matches!(ward.finish("ben"), Ok(Status::NotAsked)));
        ward.ask("ben", 0, helpers);
        for helper in helpers {
            assert!(ward.help(helper, "ben").is_ok());
        }
        assert!(matches!(ward.finish("ben"), Ok(Status::Waiting { kind: "sigma", .. })));
        for helper in helpers.iter().rev() {
            assert!(matches!(ward.help(helper, "ben"), Ok(Status::Helped(_))));
        }
        let Ok(Status::Repaired(share)) = ward.finish("ben") else { panic!("{t} of {n}") };
        let before = &ward.council.shares["ben"];
        assert_eq!(share.to_secret().expose(), before.to_secret().expose());
        // No paper holds anything in the clear.
        let clear = before.to_scalar();
        assert!(
            ward.folder
                .values()
                .all(|file| { !file.windows(32).any(|window| window == clear.expose()) })
        );
    }
}

#[test]
fn t47_a_corrupt_helper_s_value_is_refused_by_the_public_share() {
    let mut ward = Ward::new(5, 3);
    ward.ask("ben", 0, &["ann", "cleo", "dan"]);
    for _ in 0..2 {
        for helper in ["ann", "cleo", "dan"] {
            ward.help(helper, "ben").unwrap();
        }
    }
    // Cleo signs a sum of her own choice, properly sealed.
    let wrong = {
        let recipient: age::x25519::Recipient =
            ward.council.board.by_name(&name("ben")).unwrap().recipient.parse().unwrap();
        let request = Envelope::parse(&ward.folder["repair.ben.0.json"]).unwrap().id();
        let group = ward.council.board.group().to_bytes();
        let way = [&b"borgios repair v1"[..], b"sigma", &group, &request.0, b"cleo", b"ben"];
        let mut value = [0_u8; 64];
        value[..32].copy_from_slice(&Digest::of_parts(&way).0);
        value[32] = 5;
        borgios_policy::Bytes(age::encrypt(&recipient, &value).unwrap())
    };
    ward.rewrite("repair.ben.0.cleo.sigma.json", "cleo", |paper| {
        paper["value"] = serde_json::to_value(&wrong).unwrap();
    });
    let Err(error) = ward.finish("ben") else { panic!("a wrong share was taken") };
    assert!(matches!(&error, RepairError::Wrong { helpers, .. } if helpers.len() == 3), "{error}");
    // With another set it works.
    ward.ask("ben", 1, &["ann", "dan", "eve"]);
    for _ in 0..2 {
        for helper in ["ann", "dan", "eve"] {
            ward.help(helper, "ben").unwrap();
        }
    }
    assert!(matches!(ward.finish("ben"), Ok(Status::Repaired(_))));
    // Cleo was not asked this time.
    assert!(matches!(ward.help("cleo", "ben"), Ok(Status::NotAsked)));
}

/// Who lays an honest helper's sealed values once more as their own would make two honest sums hold one
/// part twice, from which asker and helper together could solve an honest share.
#[test]
fn what_one_helper_sealed_is_no_other_helper_s_value() {
    let mut ward = Ward::new(5, 3);
    ward.ask("ben", 0, &["ann", "cleo", "dan"]);
    for helper in ["ann", "dan", "cleo"] {
        ward.help(helper, "ben").unwrap();
    }
    ward.folder.retain(|file, _| !file.ends_with(".sigma.json"));
    let anns = Envelope::parse(&ward.folder["repair.ben.0.ann.delta.json"]).unwrap();
    let anns: serde_json::Value = serde_json::from_str(&anns.payload).unwrap();
    ward.rewrite("repair.ben.0.cleo.delta.json", "cleo", |paper| {
        paper["values"]["ann"] = anns["values"]["ann"].clone();
        paper["values"]["dan"] = anns["values"]["dan"].clone();
    });
    for honest in ["ann", "dan"] {
        let refused = ward.help(honest, "ben").unwrap_err();
        assert!(matches!(&refused, RepairError::Bad { name, .. } if name == "cleo"), "{refused}");
        assert!(!ward.folder.contains_key(&format!("repair.ben.0.{honest}.sigma.json")));
    }
    // Nor is a value of one request good in another.
    ward.ask("ben", 1, &["ann", "cleo", "dan"]);
    for helper in ["ann", "dan", "cleo"] {
        ward.help(helper, "ben").unwrap();
    }
    ward.folder.retain(|file, _| !file.ends_with(".sigma.json"));
    ward.rewrite("repair.ben.1.ann.delta.json", "ann", |paper| {
        paper["values"] = anns["values"].clone();
    });
    assert!(matches!(ward.help("dan", "ben"), Err(RepairError::Bad { name, .. }) if name == "ann"));
}

/// A folder is used again under the next key, and others may write into it.
#[test]
fn what_lies_in_a_folder_from_before_stops_no_later_repair() {
    let mut before = Ward::new(3, 2);
    before.ask("ben", 0, &["ann", "cleo"]);
    for helper in ["ann", "cleo", "ann"] {
        before.help(helper, "ben").unwrap();
    }
    let mut ward = Ward { council: Council::new(3, 2, 2, 22), ..Ward::new(3, 2) };
    ward.cards = ward.council.keys.keys().map(|name| ward.council.card(name)).collect();
    ward.folder = before.folder;
    ward.folder.insert("repair.ben.15.json".into(), b"no envelope".to_vec());
    // Of the second attempt only a helper's paper is left.
    ward.folder.insert("repair.ben.1.ann.delta.json".into(), b"{}".to_vec());
    assert!(matches!(ward.finish("ben"), Ok(Status::NotAsked)));
    assert!(matches!(ward.help("ann", "ben"), Ok(Status::NotAsked)));
    assert_eq!(free(&ward.council.board, &name("ben"), &ward.folder), Some(2));
    ward.ask("ben", 2, &["ann", "cleo"]);
    for helper in ["ann", "cleo", "ann"] {
        ward.help(helper, "ben").unwrap();
    }
    assert!(matches!(ward.finish("ben"), Ok(Status::Repaired(_))));
    // The next attempt goes above; and a full folder says so.
    assert_eq!(free(&ward.council.board, &name("ben"), &ward.folder), Some(3));
    for attempt in 3..=ATTEMPTS_MAX {
        ward.ask("ben", attempt, &["ann", "cleo"]);
    }
    assert_eq!(free(&ward.council.board, &name("ben"), &ward.folder), None);
}

#[test]
fn papers_of_a_repair_that_are_forged_or_do_not_open_are_refused() {
    let mut ward = Ward::new(3, 2);
    ward.ask("ben", 0, &["ann", "cleo"]);
    // Not ben's request; a stranger's helpers.
    let good = ward.folder.clone();
    ward.rewrite("repair.ben.0.json", "cleo", |_| {});
    assert!(matches!(ward.help("ann", "ben"), Ok(Status::NotAsked)));
    ward.folder = good;
    for helper in ["ann", "cleo", "ann"] {
        ward.help(helper, "ben").unwrap();
    }
    let good = ward.folder.clone();
    ward.rewrite("repair.ben.0.ann.delta.json", "cleo", |_| {});
    assert!(matches!(ward.help("cleo", "ben"), Err(RepairError::File(_))));
    ward.folder.clone_from(&good);
    ward.rewrite("repair.ben.0.ann.delta.json", "ann", |paper| {
        paper["values"]["cleo"] = paper["values"]["ann"].clone();
    });
    // What cleo added up from the true one would be kept.
    ward.folder.remove("repair.ben.0.cleo.sigma.json");
    assert!(
        matches!(ward.help("cleo", "ben"), Err(RepairError::Bad { name, .. }) if name == "ann")
    );
    // Cleo saw other papers than ann did.
    ward.folder = good;
    ward.folder.remove("repair.ben.0.ann.delta.json");
    ward.folder.remove("repair.ben.0.ann.sigma.json");
    let saved = ward.folder.clone();
    ward.help("ann", "ben").unwrap();
    ward.help("cleo", "ben").unwrap();
    ward.help("ann", "ben").unwrap();
    let cleos = ward.folder["repair.ben.0.cleo.sigma.json"].clone();
    ward.folder = saved;
    ward.help("ann", "ben").unwrap();
    ward.folder.insert("repair.ben.0.cleo.sigma.json".into(), cleos);
    ward.help("ann", "ben").unwrap();
    let error = ward.finish("ben").unwrap_err();
    assert!(matches!(error, RepairError::Disagrees(helper) if helper == "cleo"));
}

fn with_new_identity(council: &Council, who: &str, key: &SecretKey) -> Board {
    let board = &council.board;
    let recipient = age::x25519::Identity::generate().to_public().to_string();
    let governors = board.governors().iter().map(|governor| {
        if governor.name == who {
            governor.with_identity(key.public(), recipient.clone())
        } else {
            governor.clone()
        }
    });
    Board::new(board.epoch(), board.threshold(), board.group(), governors.collect()).unwrap()
}

/// A new identity under the same share: ballots of the old one count, nothing else of it does.
#[test]
fn a_former_identity_counts_for_ballots_alone() {
    let council = Council::new(3, 2, 1, 22);
    let first = council.sign(&council.first_policy(2));
    let network = first.id();
    let mut chain = Chain::new(Some(network));
    let Ok(Verdict::New(verified)) = chain.verify(NOW, &first, &[]) else { panic!() };
    chain.apply(*verified);
    let release = statement(Lane::Release, 1, Some(network), None, Some(1), release_body("1"));
    let pools = council.pools(council.slot(&release));
    let ballots = ["ann", "ben"].map(|who| council.approve(&name(who), &release, &pools));
    let key = SecretKey::from_seed([77; 32]);
    let board = with_new_identity(&council, "ben", &key);
    let policy = borgios_policy::Policy { board: board.clone(), ..council.policy(2) };
    let next = statement(Lane::Policy, 2, Some(network), Some(network), Some(1), policy.to_body());
    let Ok(Verdict::New(verified)) = chain.verify(NOW, &council.sign(&next), &[]) else {
        panic!("a new identity is refused")
    };
    chain.apply(*verified);
    // A release whose vote crossed the policy is obeyed: the key is the same.
    let slot = council.slot(&release);
    let counted = tally(&board, slot, &[release.to_payload()], &pools, &ballots);
    assert!(counted.culprits.is_empty());
    let standing = counted.documents.values().next().unwrap();
    assert_eq!(standing.approvals.len(), 2, "ben's earlier ballot binds him");
    let before = tally(&council.board, slot, &[release.to_payload()], &pools, &ballots);
    assert!(matches!(chain.verify(NOW, before.signed().unwrap(), &[]), Ok(Verdict::New(_))));
    // Pools and burns by the former key do not count, ballots by the new one do.
    assert!(Pool::verify(&board, &council.pool(&name("ben"), &[slot])).is_err());
    let burn =
        Burn { group: board.group(), governor: name("ben"), generation: 1, at: UnixSeconds(1) };
    assert!(Burn::verify(&board, &burn.to_envelope().sign(&council.keys["ben"])).is_err());
    assert!(Burn::verify(&board, &burn.to_envelope().sign(&key)).is_ok());
    let again = Envelope::unsigned(ballots[1].kind.clone(), ballots[1].payload.clone()).sign(&key);
    assert!(Ballot::verify(&board, &again).is_ok());
    assert_eq!(Round(0), release.round);
}

#[test]
fn an_identity_is_replaced_only_with_the_old_key_as_former_and_nothing_else_changed() {
    let council = Council::new(3, 2, 1, 23);
    let key = SecretKey::from_seed([78; 32]);
    let good = with_new_identity(&council, "ben", &key);
    assert!(good.keeps_shares_of(&council.board));
    assert!(!council.board.keeps_shares_of(&good), "no way back");
    let rebuilt = |change: &dyn Fn(&mut Vec<borgios_policy::Governor>)| {
        let mut governors = good.governors().to_vec();
        change(&mut governors);
        Board::new(good.epoch(), good.threshold(), good.group(), governors)
    };
    // The old key left out, or another one in its place.
    for former in [Vec::new(), vec![SecretKey::from_seed([79; 32]).public()]] {
        let board = rebuilt(&|all| all[1].former.clone_from(&former)).unwrap();
        assert!(!board.keeps_shares_of(&council.board));
    }
    // A former key that is somebody's key.
    let ann = council.keys["ann"].public();
    let shared = rebuilt(&|all| all[1].former = vec![ann]);
    assert!(matches!(shared, Err(BoardError::Shared { what: "former key", .. })));
    let many = (100..109).map(|at| SecretKey::from_seed([at; 32]).public()).collect::<Vec<_>>();
    let many = rebuilt(&|all| all[1].former.clone_from(&many));
    assert!(matches!(many, Err(BoardError::Former { found: 9, .. })));
    // Nobody gets a new recipient under the old key.
    let recipient = age::x25519::Identity::generate().to_public().to_string();
    let sealed = rebuilt(&|all| all[0].recipient.clone_from(&recipient)).unwrap();
    assert!(!sealed.keeps_shares_of(&council.board));
    let policy = borgios_policy::Policy { board: sealed, ..council.policy(2) };
    let first = council.sign(&council.first_policy(2));
    let mut chain = Chain::new(Some(first.id()));
    let Ok(Verdict::New(verified)) = chain.verify(NOW, &first, &[]) else { panic!() };
    chain.apply(*verified);
    let next =
        statement(Lane::Policy, 2, Some(first.id()), Some(first.id()), Some(1), policy.to_body());
    let refused = chain.verify(NOW, &council.sign(&next), &[]).unwrap_err();
    assert!(matches!(refused, Refusal::BadBody { seq: Seq(2), .. }));
}

#[test]
fn a_share_comes_back_from_its_scalar_and_no_other_does() {
    let council = Council::new(3, 2, 1, 24);
    let (ann, ben) = (name("ann"), name("ben"));
    let scalar = council.shares["ben"].to_scalar();
    let back = KeyShare::from_scalar(&council.board, &ben, &scalar).unwrap();
    assert_eq!(back.to_secret().expose(), council.shares["ben"].to_secret().expose());
    assert!(KeyShare::from_scalar(&council.board, &ann, &scalar).is_err());
    let other = Council::new(3, 2, 2, 25);
    assert!(KeyShare::from_scalar(&other.board, &ben, &scalar).is_err());
}

/// Whoever proposes another's new identity could lay their own recipient beside the right key, and be
/// sealed the share.
#[test]
fn nobody_asks_for_a_share_that_would_be_sealed_to_another() {
    let mut ward = Ward::new(3, 2);
    let stranger = age::x25519::Identity::generate().to_public().to_string();
    let mut governors = ward.council.board.governors().to_vec();
    governors[1].recipient.clone_from(&stranger);
    let right = ward.council.board.clone();
    let board = Board::new(right.epoch(), right.threshold(), right.group(), governors).unwrap();
    let refused = |result: Result<(), RepairError>| {
        let Err(RepairError::Recipient { name, found, own }) = result else { panic!("taken") };
        assert_eq!((name.as_str(), &found), ("ben", &stranger));
        assert_ne!(found, own);
    };
    let helpers = [name("ann"), name("cleo")];
    refused(ask(&board, &ward.me("ben"), 0, &helpers).map(drop));
    refused(finish(&board, &ward.me("ben"), &ward.folder).map(drop));
    ward.ask("ben", 0, &["ann", "cleo"]);
    refused(finish(&board, &ward.me("ben"), &ward.folder).map(drop));
}

/// A board of a new key is one of cards: a former key beside a governor's own would vote in their name.
#[test]
fn a_new_key_comes_without_former_ones() {
    let council = Council::new(3, 2, 1, 24);
    let next = Council::new(3, 2, 2, 25);
    let before = council.policy(2);
    let with = |former: Vec<borgios_types::PublicKey>| {
        let mut governors = next.board.governors().to_vec();
        governors[1].former = former;
        let made = &next.board;
        let board = Board::new(made.epoch(), made.threshold(), made.group(), governors).unwrap();
        borgios_policy::Policy { board, ..before.clone() }
    };
    assert_eq!(with(Vec::new()).follows(&before), Ok(()));
    let refused = with(vec![SecretKey::from_seed([80; 32]).public()]).follows(&before);
    assert_eq!(refused, Err(borgios_policy::PolicyError::FormerWithNewKey(name("ben"))));
}
