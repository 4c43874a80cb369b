//! What a ruling took back, and what came back when that was void.

use super::*;

#[test]
fn what_a_ruling_took_back_is_put_away_and_does_not_come_back() {
    let fleet = fleet(1);
    let (folder, mut store) = opened(&fleet);
    for submission in &fleet.all {
        store.submit(NOW, submission).unwrap();
    }
    let mut rules = store.chain().policy().unwrap().clone();
    rules.rulings = vec![borgios_policy::Ruling::new(Lane::Release, Seq(2), None)];
    let (network, prev) = (Some(fleet.network), Some(fleet.network));
    let draft = statement(Lane::Policy, 2, network, prev, Some(1), rules.to_body());
    let ruling = Submission { statement: fleet.council.sign(&draft), ballots: Vec::new() };
    assert_eq!(store.submit(NOW, &ruling).unwrap(), Submitted::Accepted);
    for _ in 0..2 {
        assert_eq!(store.chain().head_seq(Lane::Release), Seq(2));
        assert_eq!(store.chain().head(Lane::Release).unwrap().statement().seq, Seq(1));
        assert_eq!(fs::read_dir(folder.path().join("overruled")).unwrap().count(), 2);
        assert!(!folder.path().join("damaged").exists());
        store = ChainStore::open(folder.path()).unwrap();
    }
    assert_eq!(refused(&mut store, &fleet.all[2]), "closed");
    assert_eq!(refused(&mut store, &fleet.all[3]), "rival");
}

/// A policy closed a place at which something was installed; one that unites it with another says what
/// stands there, and the keeper has that again, its file included.
#[test]
fn what_a_void_ruling_took_back_is_brought_back_with_its_file() {
    let fleet = fleet(1);
    let (folder, mut store) = opened(&fleet);
    for submission in &fleet.all {
        store.submit(NOW, submission).unwrap();
    }
    let all: Vec<_> = store.chain().after(Lane::Release, Seq(0)).map(|one| one.id()).collect();
    let before = store.chain().policy().unwrap().clone();
    let policy = |seq, prev, unites: &[Digest], rulings: Vec<borgios_policy::Ruling>| {
        let mut rules = before.clone();
        // The policy that unites asks for more than was asked for what was there.
        if seq == 3 {
            rules.classes.release.approvals = rules.board.size();
        }
        (rules.rulings, rules.unites) = (rulings, unites.iter().copied().collect());
        let (network, under) = (Some(fleet.network), Some(seq - 1));
        let draft = statement(Lane::Policy, seq, network, Some(prev), under, rules.to_body());
        Submission { statement: fleet.council.sign(&draft), ballots: Vec::new() }
    };
    let ruling = |winner| borgios_policy::Ruling::new(Lane::Release, Seq(2), winner);
    let here = policy(2, fleet.network, &[], vec![ruling(None)]);
    let there = policy(2, fleet.network, &[], Vec::new());
    let unites = [here.statement.id()];
    let united = policy(3, there.statement.id(), &unites, vec![ruling(Some(all[1]))]);
    store.submit(NOW, &here).unwrap();
    let overruled = folder.path().join("overruled");
    let put_away = || fs::read_dir(&overruled).unwrap().map(|one| one.unwrap().path());
    let put_away: Vec<_> = put_away().collect();
    assert_eq!(put_away.len(), all.len() - 1);
    let copies: Vec<_> = put_away.iter().map(|path| fs::read(path).unwrap()).collect();
    // A start between the two, after which only files tell what was here.
    store = ChainStore::open(folder.path()).unwrap();
    assert_eq!(store.chain().overruled().count(), all.len() - 1);
    store.submit(NOW, &united).unwrap();
    for cut in [false, true, false] {
        let held: Vec<_> = store.chain().after(Lane::Release, Seq(0)).map(|one| one.id()).collect();
        assert_eq!(held, all);
        assert_eq!(fs::read_dir(&overruled).unwrap().count(), 0);
        assert!(!store.is_overruled(Lane::Release, Seq(2), &all[1]));
        assert!(!folder.path().join("damaged").exists());
        if cut {
            // As if it had been killed before it moved any file back.
            for (path, bytes) in put_away.iter().zip(&copies) {
                fs::write(path, bytes).unwrap();
            }
            (2..=all.len()).for_each(|seq| {
                fs::remove_file(folder.path().join(format!("chain/release/{seq}.json"))).unwrap();
            });
        }
        store = ChainStore::open(folder.path()).unwrap();
    }
}

/// Another one won the place, and a policy that unites gives it back: whichever id is lower, a start before
/// or after that makes the same of it.
#[test]
fn a_start_makes_the_same_of_what_was_taken_back_for_another() {
    for lower in [true, false] {
        let fleet = fleet(1);
        let (folder, mut store) = opened(&fleet);
        for submission in &fleet.all {
            store.submit(NOW, submission).unwrap();
        }
        let all: Vec<_> = store.chain().after(Lane::Release, Seq(0)).map(|one| one.id()).collect();
        let (network, before) = (Some(fleet.network), store.chain().policy().unwrap().clone());
        let other = |n: u32| {
            let body = borgios_policy::fixture::release_body(&format!("7.{n}"));
            fleet.council.sign(&statement(Lane::Release, 2, network, Some(all[0]), Some(1), body))
        };
        let other = (0..100).map(other).find(|one| (one.id() < all[1]) == lower).unwrap();
        let policy = |seq, prev, unites: &[Digest], winner| {
            let mut rules = before.clone();
            if seq == 3 {
                rules.classes.release.approvals = rules.board.size();
            }
            rules.rulings = vec![borgios_policy::Ruling::new(Lane::Release, Seq(2), Some(winner))];
            rules.unites = unites.iter().copied().collect();
            let (prev, under) = (Some(prev), Some(seq - 1));
            let draft = statement(Lane::Policy, seq, network, prev, under, rules.to_body());
            Submission { statement: fleet.council.sign(&draft), ballots: Vec::new() }
        };
        let here = policy(2, fleet.network, &[], other.id());
        let unites = [here.statement.id()];
        let united = policy(3, Digest::of(b"another policy/2"), &unites, all[1]);
        store.submit(NOW, &here).unwrap();
        store.submit(NOW, &Submission { statement: other.clone(), ballots: Vec::new() }).unwrap();
        store = ChainStore::open(folder.path()).unwrap();
        assert_eq!(store.chain().head(Lane::Release).unwrap().id(), other.id());
        assert_eq!(store.chain().overruled().count(), all.len() - 1, "lower: {lower}");
        store.submit(NOW, &united).unwrap();
        for _ in 0..3 {
            let held: Vec<_> =
                store.chain().after(Lane::Release, Seq(0)).map(|one| one.id()).collect();
            assert_eq!(held, all, "lower: {lower}");
            assert!(store.is_overruled(Lane::Release, Seq(2), &other.id()));
            assert!(!folder.path().join("damaged").exists());
            store = ChainStore::open(folder.path()).unwrap();
        }
    }
}

/// The keeper moves a file from one folder to the other while another program looks.
#[test]
fn what_is_moved_while_somebody_looks_is_seen() {
    let fleet = fleet(1);
    let (folder, mut store) = opened(&fleet);
    for submission in &fleet.all {
        store.submit(NOW, submission).unwrap();
    }
    let last = &fleet.all[3].statement;
    let stands = folder.path().join("chain/release/3.json");
    let overruled = folder.path().join("overruled");
    fs::create_dir_all(&overruled).unwrap();
    let away = overruled.join(format!("release-3-{}.json", last.id().hex()));
    for (from, to) in [(&stands, &away), (&away, &stands)] {
        let seen = store.read_beside(|| fs::rename(from, to).unwrap()).unwrap();
        assert!(to.exists() && seen.contains(last), "{from:?}");
    }
    let seen = ChainStore::look(folder.path()).unwrap();
    assert_eq!(seen.head(Lane::Release).unwrap().id(), last.id());
}
