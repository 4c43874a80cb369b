//! Installs by the real keeper: killed in the middle, sick, tampered with, and of itself.

use std::fs;
use std::path::PathBuf;

use borgios_policy::{Outcome, Report};
use borgios_types::{Envelope, SecretKey, Seq};
use serde_json::json;

use crate::bench::{Bench, code, until};

#[test]
fn killed_in_the_middle_it_goes_on_and_reports() {
    let mut bench = Bench::pinned();
    let first = bench.hello_release("one", 0);
    let second = bench.hello_release("two", 0);
    let keeper = bench.start();
    keeper.take(&bench.policy);
    keeper.take(&first);
    assert!(keeper.install(1)["ok"].is_object());
    assert_eq!(keeper.ended(1).installed, Seq(1));
    assert_eq!(bench.words().as_deref(), Some("one"));
    keeper.kill();
    let hold = bench.path("hold");
    for kill in 0..3 {
        fs::write(&hold, "").unwrap();
        if kill == 0 {
            keeper_installs_until_held(&bench, &second);
        }
        // Whatever was cut off, the next keeper goes on by itself and hangs in the same restart.
        let keeper = bench.start();
        until("the next keeper goes on", || {
            bench.log().matches("going on with release/2").count() > kill
        });
        keeper.kill();
    }
    fs::remove_file(&hold).unwrap();
    let keeper = bench.start();
    let status = keeper.ended(2);
    assert_eq!(status.installed, Seq(2));
    assert_eq!(bench.words().as_deref(), Some("two"));
    let node = SecretKey::from_seed([5; 32]).public();
    let report = keeper.ask(&json!({"verb": "sign-report", "node": node}));
    let envelope = Envelope::parse(report["ok"].to_string().as_bytes()).unwrap();
    let report = Report::verify(bench.board.network(), &envelope).unwrap();
    assert_eq!((report.release, report.outcome), (Seq(2), Outcome::Committed));
    assert_eq!((report.node, report.keeper), (node, status.keeper));
    assert_eq!(report.running.len(), 1);
}

/// Begins release/2 and kills the keeper while it waits for a unit.
fn keeper_installs_until_held(bench: &Bench, release: &Envelope) {
    let keeper = bench.start();
    keeper.take(release);
    keeper.install(2);
    until("the journal says switched", || {
        fs::read_to_string(bench.paths.journal()).is_ok_and(|text| text.contains("\"switched\""))
    });
    until("a unit is being restarted", || {
        fs::read_to_string(bench.path("calls")).is_ok_and(|c| c.matches("restart").count() >= 2)
    });
    keeper.kill();
}

#[test]
fn a_sick_release_is_taken_back_and_never_tried_again() {
    let mut bench = Bench::pinned();
    let first = bench.hello_release("one", 0);
    let sick = bench.hello_release("sick", 1);
    let third = bench.hello_release("three", 0);
    let keeper = bench.start();
    for statement in [&bench.policy, &first] {
        keeper.take(statement);
    }
    keeper.install(1);
    keeper.ended(1);
    keeper.take(&sick);
    keeper.install(2);
    let status = keeper.ended(2);
    assert_eq!(status.installed, Seq(1));
    assert_eq!(status.last.unwrap().outcome, Outcome::RolledBack);
    assert_eq!(bench.words().as_deref(), Some("one"));
    assert_eq!(code(&keeper.install(2)), "attempted");
    keeper.kill();
    let keeper = bench.start();
    assert_eq!(code(&keeper.install(2)), "attempted");
    assert_eq!(keeper.status().attempted, [sick.id()]);
    keeper.take(&third);
    keeper.install(3);
    assert_eq!(keeper.ended(3).installed, Seq(3));
}

#[test]
fn a_tampered_blob_is_refused_until_the_right_one_is_brought() {
    let mut bench = Bench::pinned();
    let hello = bench.hello(&bench.paths.depot, "one", 0);
    let blob = bench.paths.depot.join(hello.digest.hex());
    let first = bench.release(vec![hello]);
    let good = fs::read(&blob).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(&blob, &bad).unwrap();
    let keeper = bench.start();
    keeper.take(&bench.policy);
    keeper.take(&first);
    keeper.install(1);
    until("the blob is refused", || {
        keeper.status().problem.is_some_and(|problem| problem.code == "bad_digest")
    });
    assert!(bench.log().contains("BORGIOS_REFUSAL=\"bad_digest\""));
    assert_eq!(bench.words(), None);
    assert!(keeper.status().attempted.is_empty(), "the release is not at fault");
    fs::write(&blob, &good).unwrap();
    keeper.install(1);
    assert_eq!(keeper.ended(1).installed, Seq(1));
}

#[test]
fn the_keeper_replaces_itself() {
    let mut bench = Bench::pinned();
    let old = bench.keeper_component("old");
    let hello = bench.hello(&bench.paths.depot, "one", 0);
    let first = bench.release(vec![old, hello.clone()]);
    let new = bench.keeper_component("new");
    let second = bench.release(vec![new, hello]);
    let keeper = bench.start();
    keeper.take(&bench.policy);
    keeper.take(&first);
    keeper.install(1);
    keeper.ended(1);
    keeper.kill();
    let linked: PathBuf = bench.paths.current.join("borgios-keeper/files/bin/borgios-keeper");
    let keeper = bench.start_program(&linked);
    keeper.take(&second);
    keeper.install(2);
    // systemd would start it again, through the link that now leads to the new one.
    assert!(keeper.gone().success());
    let keeper = bench.start_program(&linked);
    assert_eq!(keeper.ended(2).installed, Seq(2));
    let words = bench.paths.current.join("borgios-keeper/files/words");
    assert_eq!(fs::read_to_string(words).unwrap(), "new");
}
