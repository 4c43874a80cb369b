//! What the keeper's store keeps through restarts, crashes and a failing disk.

mod overruled;

use super::*;
use borgios_policy::fixture::{Council, NOW, statement};

struct Fleet {
    council: Council,
    network: Digest,
    all: Vec<Submission>,
}

/// policy/1 and three releases, signed.
fn fleet(seed: u64) -> Fleet {
    let council = Council::new(3, 2, 1, seed);
    let first = council.sign(&council.first_policy(2));
    let network = first.id();
    let mut all = vec![Submission { statement: first, ballots: Vec::new() }];
    let mut prev = None;
    for seq in 1..=3 {
        let digest = Digest::of(b"x");
        let body = serde_json::json!({
            "version": format!("0.{seq}.0"),
            "components": [{"name": "borgios-keeper", "digest": digest, "size": 9}],
            "installer": {"digest": digest, "size": 9}, "urls": [], "floor": 1, "notes": "",
        });
        let release =
            council.sign(&statement(Lane::Release, seq, Some(network), prev, Some(1), body));
        prev = Some(release.id());
        all.push(Submission { statement: release, ballots: Vec::new() });
    }
    Fleet { council, network, all }
}

fn opened(fleet: &Fleet) -> (tempfile::TempDir, ChainStore) {
    let folder = tempfile::tempdir().unwrap();
    ChainStore::pin(folder.path(), fleet.network).unwrap();
    let store = ChainStore::open(folder.path()).unwrap();
    (folder, store)
}

fn refused(store: &mut ChainStore, submission: &Submission) -> &'static str {
    store.submit(NOW, submission).unwrap_err().code()
}

#[test]
fn what_was_accepted_is_there_after_a_restart() {
    let fleet = fleet(1);
    let (folder, mut store) = opened(&fleet);
    for submission in &fleet.all {
        assert_eq!(store.submit(NOW, submission).unwrap(), Submitted::Accepted);
        assert_eq!(store.submit(NOW, submission).unwrap(), Submitted::AlreadyKnown);
    }
    drop(store);
    let store = ChainStore::open(folder.path()).unwrap();
    assert_eq!(store.chain().head_seq(Lane::Release), Seq(3));
}

#[test]
fn a_server_that_was_long_away_follows_a_run_whose_newest_is_in_date() {
    let fleet = fleet(1);
    let (_folder, mut store) = opened(&fleet);
    store.submit(NOW, &fleet.all[0]).unwrap();
    let late = UnixSeconds(borgios_policy::fixture::EXPIRES.0 + 1);
    assert_eq!(store.submit(late, &fleet.all[1]).unwrap_err().code(), "expired");
    let (accepted, refused) = store.submit_run(late, &fleet.all);
    assert_eq!((accepted, refused.unwrap().1.code()), (0, "expired"));
    let mut run = fleet.all.clone();
    let mut twin = run[1].clone();
    twin.statement.sigs[0].sig.0[7] ^= 1;
    run.insert(1, twin);
    let mut newest = borgios_policy::Statement::parse(&run.pop().unwrap().statement).unwrap();
    newest.expires = late.plus(1);
    let statement = fleet.council.sign(&newest);
    run.push(Submission { statement, ballots: Vec::new() });
    let (accepted, refused) = store.submit_run(late, &run);
    assert_eq!(accepted, 3);
    assert_eq!(refused.map(|(at, error)| (at, error.code())), Some((1, "bad_signature")));
}

#[test]
fn forged_foreign_and_reordered_statements_change_nothing() {
    let fleet = fleet(1);
    let (_folder, mut store) = opened(&fleet);
    let other = super::tests::fleet(2);
    assert_eq!(refused(&mut store, &other.all[0]), "wrong_network");
    assert_eq!(refused(&mut store, &fleet.all[2]), "gap");
    store.submit(NOW, &fleet.all[0]).unwrap();
    assert_eq!(refused(&mut store, &fleet.all[2]), "gap");
    let mut forged = fleet.all[1].clone();
    forged.statement.payload = forged.statement.payload.replace("0.1.0", "6.6.6");
    assert_eq!(refused(&mut store, &forged), "bad_signature");
    store.submit(NOW, &fleet.all[1]).unwrap();
    store.submit(NOW, &fleet.all[2]).unwrap();
    assert_eq!(refused(&mut store, &fleet.all[1]), "replayed");
    assert_eq!(store.chain().head_seq(Lane::Release), Seq(2));
}

#[test]
fn a_signed_release_with_an_unusable_body_does_not_end_the_lane() {
    let fleet = fleet(1);
    let (_folder, mut store) = opened(&fleet);
    store.submit(NOW, &fleet.all[0]).unwrap();
    let body = serde_json::json!({"version": "1", "components": "all"});
    let network = Some(fleet.network);
    let odd = fleet.council.sign(&statement(Lane::Release, 1, network, None, Some(1), body));
    let prev = Some(odd.id());
    let body = borgios_policy::fixture::release_body("2");
    let next = fleet.council.sign(&statement(Lane::Release, 2, network, prev, Some(1), body));
    for statement in [odd, next] {
        let submission = Submission { statement, ballots: Vec::new() };
        assert_eq!(store.submit(NOW, &submission).unwrap(), Submitted::Accepted);
    }
}

#[test]
fn t39_a_rival_is_refused_and_kept_as_evidence() {
    let fleet = fleet(1);
    let (folder, mut store) = opened(&fleet);
    store.submit(NOW, &fleet.all[0]).unwrap();
    store.submit(NOW, &fleet.all[1]).unwrap();
    let body = borgios_policy::fixture::release_body("rival");
    let network = Some(fleet.network);
    let rival = fleet.council.sign(&statement(Lane::Release, 1, network, None, Some(1), body));
    let rival = Submission { statement: rival, ballots: Vec::new() };
    assert_eq!(refused(&mut store, &rival), "rival");
    let kept = folder.path().join(format!("evidence/{}.json", rival.statement.id().hex()));
    assert_eq!(std::fs::read_to_string(kept).unwrap(), rival.statement.to_json());
}

#[test]
fn a_damaged_file_and_what_built_on_it_come_again() {
    let fleet = fleet(1);
    let (folder, mut store) = opened(&fleet);
    for submission in &fleet.all {
        store.submit(NOW, submission).unwrap();
    }
    let path = folder.path().join("chain/release/2.json");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let mut store = ChainStore::open(folder.path()).unwrap();
    assert_eq!(store.chain().head_seq(Lane::Release), Seq(1));
    for submission in &fleet.all[2..] {
        assert_eq!(store.submit(NOW, submission).unwrap(), Submitted::Accepted);
    }
    let store = ChainStore::open(folder.path()).unwrap();
    assert_eq!(store.chain().head_seq(Lane::Release), Seq(3));
}

#[test]
fn what_cannot_be_stored_is_not_acknowledged() {
    let fleet = fleet(1);
    let (folder, mut store) = opened(&fleet);
    // A file where the folder should be fails every write, for root too.
    std::fs::write(folder.path().join("chain"), "").unwrap();
    assert_eq!(refused(&mut store, &fleet.all[0]), "disk");
    assert_eq!(store.chain().head_seq(Lane::Policy), Seq(0));
    std::fs::remove_file(folder.path().join("chain")).unwrap();
    assert_eq!(store.submit(NOW, &fleet.all[0]).unwrap(), Submitted::Accepted);
}

#[test]
fn a_server_stays_with_its_network() {
    let fleet = fleet(1);
    let (folder, _store) = opened(&fleet);
    ChainStore::pin(folder.path(), fleet.network).unwrap();
    let error = ChainStore::pin(folder.path(), Digest::of(b"other")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(ChainStore::open(empty.path()), Err(OpenError::NoPin(_))));
}

/// policy/1 with a lock on releases, and a release.
fn locked(lock_s: u64) -> Fleet {
    let council = Council::new(3, 2, 1, 1);
    let mut policy = council.policy(2);
    policy.classes.release.lock_s = Some(lock_s);
    let first = council.sign(&statement(Lane::Policy, 1, None, None, None, policy.to_body()));
    let network = first.id();
    let body = borgios_policy::fixture::release_body("1");
    let release = council.sign(&statement(Lane::Release, 1, Some(network), None, Some(1), body));
    let all = [first, release].map(|statement| Submission { statement, ballots: Vec::new() });
    Fleet { council, network, all: all.into() }
}

fn veto(fleet: &Fleet, at: usize) -> Envelope {
    let governor = fleet.council.name(at);
    let key = &fleet.council.keys[&governor];
    let veto = borgios_policy::Objection {
        network: fleet.network,
        group: fleet.council.board.group(),
        governor,
        statement: fleet.all[1].statement.id(),
        lane: Lane::Release,
        seq: Seq(1),
        reason: "no".into(),
        at: NOW,
    };
    borgios_policy::Veto(veto).to_envelope().sign(key)
}

const LOCK_S: u64 = 1_000;

/// One thing that a keeper does.
type Deed<'a> = Box<dyn Fn(&mut ChainStore) + 'a>;

/// A keeper at work: what is done one after the other, each of which writes.
fn steps(fleet: &Fleet) -> Vec<Deed<'_>> {
    vec![
        Box::new(|store: &mut ChainStore| drop(store.submit(NOW, &fleet.all[0]))),
        Box::new(|store: &mut ChainStore| drop(store.submit(NOW, &fleet.all[1]))),
        Box::new(|store: &mut ChainStore| drop(store.object(NOW, &veto(fleet, 0)))),
        Box::new(|store: &mut ChainStore| drop(store.tick(NOW.plus(LOCK_S)))),
        Box::new(|store: &mut ChainStore| drop(store.tick(NOW.plus(2 * LOCK_S)))),
    ]
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &name);
        } else {
            fs::copy(entry.path(), name).unwrap();
        }
    }
}

/// The two kinds of files a step may write are written one after the other: a crash leaves the
/// folder before it, after it, or with the chain's new files and the gate's old one.
#[test]
fn after_a_crash_at_any_write_nothing_is_lost_and_no_lock_is_cut_short() {
    let fleet = locked(LOCK_S);
    let count = steps(&fleet).len();
    for crash_after in 0..count {
        for torn in [false, true] {
            let (folder, mut store) = opened(&fleet);
            let before = tempfile::tempdir().unwrap();
            for step in &steps(&fleet)[..crash_after] {
                step(&mut store);
            }
            copy(folder.path(), before.path());
            steps(&fleet)[crash_after](&mut store);
            drop(store);
            let left = tempfile::tempdir().unwrap();
            copy(folder.path(), left.path());
            if torn {
                let gate = before.path().join("gate.json");
                let _ = fs::remove_file(left.path().join("gate.json"));
                if gate.exists() {
                    fs::copy(gate, left.path().join("gate.json")).unwrap();
                }
            }
            let mut store = ChainStore::open(left.path()).unwrap();
            let acknowledged = crash_after.checked_sub(1);
            let held = store.gate().report(NOW, store.chain());
            if acknowledged >= Some(1) && store.chain().head_seq(Lane::Release) == Seq(0) {
                assert_eq!(held.len(), 1, "{crash_after} {torn}: what was acknowledged is there");
                assert_eq!(held[0].seen, NOW, "{crash_after} {torn}");
            }
            // The agent brings everything again; the first ticks are too early.
            for submission in &fleet.all {
                drop(store.submit(NOW.plus(9), submission));
            }
            store.tick(NOW.plus(LOCK_S - 1)).unwrap();
            if crash_after < 3 {
                assert_eq!(store.chain().head_seq(Lane::Release), Seq(0), "{crash_after} {torn}");
            }
            for later in [2, 3, 4] {
                store.tick(NOW.plus(later * LOCK_S)).unwrap();
            }
            assert_eq!(store.chain().head_seq(Lane::Release), Seq(1), "{crash_after} {torn}");
            assert!(store.gate().report(NOW, store.chain()).is_empty());
            drop(store);
            let store = ChainStore::open(left.path()).unwrap();
            assert_eq!(store.chain().head_seq(Lane::Release), Seq(1), "{crash_after} {torn}");
        }
    }
}

#[test]
fn a_vetoed_release_never_becomes_the_head_whatever_is_restarted() {
    let fleet = locked(LOCK_S);
    let (folder, mut store) = opened(&fleet);
    for submission in &fleet.all {
        store.submit(NOW, submission).unwrap();
    }
    assert_eq!(store.submit(NOW, &fleet.all[1]).unwrap(), Submitted::AlreadyKnown);
    for at in 0..2 {
        assert!(store.object(NOW, &veto(&fleet, at)).unwrap());
        store = ChainStore::open(folder.path()).unwrap();
    }
    for later in 1..50 {
        store.tick(NOW.plus(later * LOCK_S)).unwrap();
        assert_eq!(store.chain().head_seq(Lane::Release), Seq(0));
    }
    assert_eq!(store.gate().report(NOW, store.chain())[0].standing.as_str(), "vetoed");
}

#[test]
fn what_the_gate_cannot_store_is_not_acknowledged() {
    let fleet = locked(LOCK_S);
    let (folder, mut store) = opened(&fleet);
    store.submit(NOW, &fleet.all[0]).unwrap();
    fs::create_dir(folder.path().join("gate.json")).unwrap();
    assert_eq!(refused(&mut store, &fleet.all[1]), "disk");
    assert!(store.gate().report(NOW, store.chain()).is_empty());
    assert_eq!(store.object(NOW, &veto(&fleet, 0)).unwrap_err().code(), "disk");
    fs::remove_dir(folder.path().join("gate.json")).unwrap();
    assert_eq!(store.submit(NOW, &fleet.all[1]).unwrap(), Submitted::Waiting);
}

/// The keeper stores the next statement while a tool beside it reads.
#[test]
fn whoever_only_looks_moves_nothing() {
    let fleet = fleet(1);
    let (folder, mut store) = opened(&fleet);
    for submission in &fleet.all {
        store.submit(NOW, submission).unwrap();
    }
    let path = |seq: u64| folder.path().join(format!("chain/release/{seq}.json"));
    let last = store.chain().head_seq(Lane::Release);
    // As if the keeper had stored the last one after the tool read those before it.
    let between = fs::read(path(last.0 - 1)).unwrap();
    fs::remove_file(path(last.0 - 1)).unwrap();
    fs::write(folder.path().join("gate.json"), b"{").unwrap();
    let seen = ChainStore::look(folder.path()).unwrap();
    assert_eq!(seen.head_seq(Lane::Release).0, last.0 - 2);
    assert_eq!(seen.network(), Some(fleet.network));
    assert!(path(last.0).exists() && folder.path().join("gate.json").exists());
    fs::write(path(last.0 - 1), b"{ torn").unwrap();
    assert_eq!(ChainStore::look(folder.path()).unwrap().head_seq(Lane::Release).0, last.0 - 2);
    assert!(path(last.0 - 1).exists() && !folder.path().join("damaged").exists());
    fs::remove_file(folder.path().join("gate.json")).unwrap();
    fs::write(path(last.0 - 1), between).unwrap();
    assert_eq!(ChainStore::look(folder.path()).unwrap().head_seq(Lane::Release), last);
    assert_eq!(ChainStore::open(folder.path()).unwrap().chain().head_seq(Lane::Release), last);
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(ChainStore::look(empty.path()), Err(OpenError::NoPin(_))));
}

#[test]
fn a_policy_that_unites_two_for_one_place_is_taken_and_read_back() {
    let fleet = fleet(1);
    let (folder, mut store) = opened(&fleet);
    store.submit(NOW, &fleet.all[0]).unwrap();
    let policy = |seq, fanout, prev, unites: &[Digest]| {
        let mut rules = store.chain().policy().unwrap().clone();
        (rules.fanout, rules.unites) = (fanout, unites.iter().copied().collect());
        let (network, under) = (Some(fleet.network), Some(seq - 1));
        let draft = statement(Lane::Policy, seq, network, Some(prev), under, rules.to_body());
        Submission { statement: fleet.council.sign(&draft), ballots: Vec::new() }
    };
    let (here, there) = (policy(2, 9, fleet.network, &[]), policy(2, 10, fleet.network, &[]));
    let next = |unites: &[Digest]| policy(3, 11, there.statement.id(), unites);
    let (alone, united) = (next(&[]), next(&[here.statement.id()]));
    store.submit(NOW, &here).unwrap();
    assert_eq!(refused(&mut store, &there), "rival");
    assert_eq!(refused(&mut store, &alone), "rival");
    assert_eq!(store.submit(NOW, &united).unwrap(), Submitted::Accepted);
    for _ in 0..2 {
        let held = |seq| store.chain().get(Lane::Policy, Seq(seq)).unwrap().id();
        assert_eq!((held(2), held(3)), (here.statement.id(), united.statement.id()));
        assert!(!folder.path().join("damaged").exists());
        store = ChainStore::open(folder.path()).unwrap();
    }
}

#[test]
fn what_is_signed_after_a_ruling_is_due_over_what_it_took_back_and_nothing_before_it_is() {
    use crate::keeper::due::is_due;
    let fleet = fleet(1);
    let (folder, mut store) = opened(&fleet);
    for submission in &fleet.all {
        store.submit(NOW, submission).unwrap();
    }
    let installed = |submission: &Submission, seq| borgios_releases::Installed {
        seq: Seq(seq),
        id: submission.statement.id(),
        version: String::new(),
        floor: Seq(1),
        components: std::collections::BTreeMap::new(),
    };
    let (one, three) = (installed(&fleet.all[1], 1), installed(&fleet.all[3], 3));
    let due = |store: &ChainStore, runs: &borgios_releases::Installed| {
        let head = store.chain().head(Lane::Release).unwrap();
        is_due(store, Some(runs), head.statement().seq, &head.id())
    };
    assert!(due(&store, &one) && !due(&store, &three));
    let mut rules = store.chain().policy().unwrap().clone();
    rules.rulings = vec![borgios_policy::Ruling::new(Lane::Release, Seq(1), None)];
    let (network, prev) = (Some(fleet.network), Some(fleet.network));
    let draft = statement(Lane::Policy, 2, network, prev, Some(1), rules.to_body());
    let ruling = Submission { statement: fleet.council.sign(&draft), ballots: Vec::new() };
    store.submit(NOW, &ruling).unwrap();
    assert!(store.chain().head(Lane::Release).is_none());
    let (by, body) = (Some(ruling.statement.id()), fleet_body(&fleet));
    let next = fleet.council.sign(&statement(Lane::Release, 2, network, by, Some(2), body));
    store.submit(NOW, &Submission { statement: next, ballots: Vec::new() }).unwrap();
    for _ in 0..2 {
        assert_eq!(store.chain().head(Lane::Release).unwrap().statement().seq, Seq(2));
        assert!(due(&store, &three), "2 is newer than the ruling that took 3 back");
        // One that no ruling took back is never gone back from.
        let unknown = borgios_releases::Installed { id: Digest::of(b"x"), ..three.clone() };
        assert!(!due(&store, &unknown));
        store = ChainStore::open(folder.path()).unwrap();
    }
}

#[test]
fn nobody_goes_back_to_what_stood_before_a_ruling() {
    use crate::keeper::due::is_due;
    let fleet = fleet(1);
    let (_folder, mut store) = opened(&fleet);
    for submission in &fleet.all {
        store.submit(NOW, submission).unwrap();
    }
    let mut rules = store.chain().policy().unwrap().clone();
    rules.rulings = vec![borgios_policy::Ruling::new(Lane::Release, Seq(2), None)];
    let (network, prev) = (Some(fleet.network), Some(fleet.network));
    let draft = statement(Lane::Policy, 2, network, prev, Some(1), rules.to_body());
    let ruling = Submission { statement: fleet.council.sign(&draft), ballots: Vec::new() };
    store.submit(NOW, &ruling).unwrap();
    let runs = borgios_releases::Installed {
        seq: Seq(3),
        id: fleet.all[3].statement.id(),
        version: String::new(),
        floor: Seq(1),
        components: std::collections::BTreeMap::new(),
    };
    let head = store.chain().head(Lane::Release).unwrap();
    assert_eq!(head.statement().seq, Seq(1));
    assert!(!is_due(&store, Some(&runs), Seq(1), &head.id()));
}

/// The body of a release that differs from all of the fleet's.
fn fleet_body(fleet: &Fleet) -> serde_json::Value {
    let mut body = borgios_policy::Statement::parse(&fleet.all[3].statement).unwrap().body;
    body["version"] = "0.9.0".into();
    body
}

/// A new server is led through a recovery by its invitation; one that was there keeps its own count.
#[test]
fn a_recovery_that_an_invitation_led_to_counts_and_survives_a_restart() {
    let (old, rescue) = (Council::new(3, 2, 1, 1), Council::new(3, 2, 1, 77));
    let mut rules = old.policy(2);
    rules.freshness = Some(borgios_policy::Freshness { beacons: 2, max_age_s: 86_400 });
    let (group, day_s) = (rescue.board.group(), 86_400);
    let (silence_s, lock_s) = (30 * day_s, 14 * day_s);
    rules.recovery = Some(borgios_policy::Recovery { group, silence_s, lock_s });
    let first = old.sign(&statement(Lane::Policy, 1, None, None, None, rules.to_body()));
    let network = first.id();
    let new = Council::new(3, 2, 2, 5);
    let this = Some(network);
    let next = statement(Lane::Policy, 2, this, this, Some(1), new.policy(2).to_body());
    let next = borgios_policy::merge_signatures(&rescue.sign(&next), &new.sign(&next)).unwrap();
    let submission =
        |statement: &Envelope| Submission { statement: statement.clone(), ballots: Vec::new() };
    let folder = tempfile::tempdir().unwrap();
    ChainStore::pin(folder.path(), network).unwrap();
    let mut store = ChainStore::open(folder.path()).unwrap();
    store.submit(NOW, &submission(&first)).unwrap();
    let next = submission(&next);
    assert_eq!(refused(&mut store, &next), "recovery");
    store.vouch(next.statement.id()).unwrap();
    assert_eq!(store.submit_history(&next).unwrap(), Submitted::Accepted);
    drop(store);
    let store = ChainStore::open(folder.path()).unwrap();
    assert_eq!(store.chain().policy().unwrap().board, new.board);
}

/// What lies beside a statement as its ballots is no statement, at the next start neither: borgiosd could
/// else pass by a lock, a veto, a pause and a date.
#[test]
fn a_statement_among_the_ballots_of_another_is_never_applied() {
    let fleet = locked(LOCK_S);
    let (folder, mut store) = opened(&fleet);
    store.submit(NOW, &fleet.all[0]).unwrap();
    let held = fleet.all[1].statement.clone();
    // Of another lane, and without a lock.
    let evicted = borgios_types::SecretKey::from_seed([9; 32]).public();
    let body = serde_json::json!({"evict": [evicted], "reason": "stolen"});
    let free =
        fleet.council.sign(&statement(Lane::Member, 1, Some(fleet.network), None, Some(1), body));
    let ballots = vec![held.clone()];
    let submission = Submission { statement: free.clone(), ballots };
    assert_eq!(store.submit(NOW, &submission).unwrap(), Submitted::Accepted);
    let file = folder.path().join("chain/member/1.json");
    assert!(read_submission(&file).unwrap().ballots.is_empty(), "nothing else is stored");
    // Nor is it read where an earlier version has stored it.
    let stored = Submission { statement: free, ballots: vec![held] };
    fs::write(&file, serde_json::to_vec(&stored).unwrap()).unwrap();
    let store = ChainStore::open(folder.path()).unwrap();
    assert_eq!(store.chain().head_seq(Lane::Member), Seq(1));
    assert_eq!(store.chain().head_seq(Lane::Release), Seq(0), "it is still locked");
}

/// Forged twins of an old statement, laid beside a new one, do not take its place at the next start.
#[test]
fn twins_among_the_ballots_take_nothing_back() {
    let fleet = fleet(1);
    let (folder, mut store) = opened(&fleet);
    for submission in &fleet.all[..3] {
        store.submit(NOW, submission).unwrap();
    }
    let old = &fleet.all[1].statement;
    let twin = |n: u8| {
        let mut twin = old.clone();
        twin.sigs[0].sig = borgios_types::Signature([n; 64]);
        twin
    };
    let ballots: Vec<Envelope> = (0..4).map(twin).collect();
    let last = Submission { statement: fleet.all[3].statement.clone(), ballots };
    assert_eq!(store.submit(NOW, &last).unwrap(), Submitted::Accepted);
    let file = folder.path().join("chain/release/3.json");
    for stored in [None, Some(serde_json::to_vec(&last).unwrap())] {
        if let Some(stored) = stored {
            fs::write(&file, stored).unwrap();
        }
        let store = ChainStore::open(folder.path()).unwrap();
        assert_eq!(store.chain().head_seq(Lane::Release), Seq(3));
        assert!(!folder.path().join("damaged").exists());
    }
}

/// A file holds the statement of its own place.
#[test]
fn a_statement_in_another_places_file_is_set_aside() {
    let fleet = fleet(1);
    let (folder, mut store) = opened(&fleet);
    for submission in &fleet.all {
        store.submit(NOW, submission).unwrap();
    }
    let at = |seq: u64| folder.path().join(format!("chain/release/{seq}.json"));
    fs::copy(at(2), at(3)).unwrap();
    let store = ChainStore::open(folder.path()).unwrap();
    assert_eq!(store.chain().head_seq(Lane::Release), Seq(2));
    assert!(folder.path().join("damaged/release-3.json").exists());
}
