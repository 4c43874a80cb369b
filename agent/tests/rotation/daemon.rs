//! The daemon rotates by the clock, by orders and after whoever interferes, once it is handed over.

use std::fs;
use std::os::unix::net::UnixStream;

use borgios_policy::RotationReport;
use borgios_types::{Envelope, Epoch, SecretKey};
use serde_json::json;

use crate::bench::{code, until};
use crate::server::{
    OWNERS, check_rest, hand_over, keeper_as_root, schedule, scheduled, shadow, store, verifier,
    with_accounts,
};

#[test]
fn a_daemon_follows_clock_orders_and_tampering_once_it_is_handed_over() {
    let mut bench = with_accounts();
    let root = bench.paths.root.clone();
    let schedule = schedule(bench.board.network(), 86_400);
    let first = scheduled(&mut bench, &schedule, 1);
    let advance = scheduled(&mut bench, &schedule, 3);
    let later = scheduled(&mut bench, &schedule, 4);
    let program = keeper_as_root(&bench);
    let keeper = bench.start_program(&program);
    keeper.take(&bench.policy);
    keeper.take(&first);
    let node = SecretKey::from_seed([9; 32]).public();
    let ask = json!({"verb": "sign-rotation", "node": node});
    assert_eq!(code(&keeper.ask(&ask)), "no_rotation");
    let status = keeper.status();
    assert!(!status.handed_over && status.credential.is_none());
    assert_eq!(fs::read_to_string(root.join("etc/shadow")).unwrap(), shadow(OWNERS));

    hand_over(&bench, node);
    let carries = |epoch: u64| {
        until(&format!("epoch {epoch}"), || {
            let status = keeper.status().credential;
            status.is_some_and(|c| c.epoch == Epoch(epoch) && c.problem.is_none())
        });
        check_rest(&root, epoch, "the daemon");
    };
    carries(1);
    assert!(keeper.status().handed_over);
    keeper.take(&advance);
    carries(3);
    let signed: Envelope = serde_json::from_value(keeper.ask(&ask)["ok"].clone()).unwrap();
    let report = RotationReport::verify(bench.board.network(), &signed).unwrap();
    let credential = keeper.status().credential.unwrap();
    assert_eq!((report.epoch, report.node, report.problem), (Epoch(3), node, None));
    assert_eq!((report.due, report.changed), (credential.due, credential.changed));
    assert_eq!(credential.schedule, schedule.digest());

    for field in ["*", "", OWNERS, verifier(1).as_str()] {
        fs::write(root.join("etc/shadow"), shadow(field)).unwrap();
        until("root's field is set right", || {
            let text = fs::read_to_string(root.join("etc/shadow")).unwrap();
            text.contains(verifier(3).as_str())
        });
    }
    fs::write(root.join("etc/shadow"), "root:x").unwrap();
    until("the damage is told", || {
        keeper.status().credential.unwrap().problem.is_some_and(|text| text.contains("damaged"))
    });
    fs::write(root.join("etc/shadow"), shadow("*")).unwrap();
    carries(3);
    let log = bench.log();
    for event in ["rotated", "rotation_failed", "rotation_freed"] {
        assert!(log.contains(event), "{event} was not said");
    }
    keeper.kill();
    // What was at work is known to the next one, and nothing is done twice.
    let before = fs::metadata(root.join("etc/shadow")).unwrap().modified().unwrap();
    let keeper = bench.start_program(&program);
    until("a new daemon knows", || {
        keeper.status().credential.is_some_and(|c| c.epoch == Epoch(3) && c.changed.0 > 0)
    });
    assert_eq!(fs::metadata(root.join("etc/shadow")).unwrap().modified().unwrap(), before);
    // What the owner takes out is shut, and nothing rotates it open again.
    fs::write(bench.paths.keeper.join("departure.json"), "{}").unwrap();
    until("the daemon has seen it", || keeper.status().credential.is_none());
    fs::write(root.join("etc/shadow"), shadow("*")).unwrap();
    keeper.take(&later);
    until("the statement is known", || keeper.status().heads["credential"].seq.0 == 3);
    keeper.kill();
    assert_eq!(fs::read_to_string(root.join("etc/shadow")).unwrap(), shadow("*"));
}

/// A file in the place of the socket's folder stands for a full `/run`.
#[test]
fn a_daemon_without_its_socket_rotates_and_is_heard_once_there_is_room() {
    let mut bench = with_accounts();
    let root = bench.paths.root.clone();
    let schedule = schedule(bench.board.network(), 86_400);
    let first = scheduled(&mut bench, &schedule, 1);
    store(&bench.paths, &[bench.policy.clone(), first]);
    hand_over(&bench, SecretKey::from_seed([9; 32]).public());
    let folder = bench.paths.socket.parent().unwrap();
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    fs::write(folder, "").unwrap();
    let keeper = bench.spawn(&keeper_as_root(&bench));
    until("root carries epoch 1", || {
        let text = fs::read_to_string(root.join("etc/shadow")).unwrap();
        text.contains(verifier(1).as_str())
    });
    until("it is said", || bench.log().contains("socket_failed"));
    fs::remove_file(folder).unwrap();
    until("the keeper answers", || UnixStream::connect(&bench.paths.socket).is_ok());
    until("it is at rest", || {
        keeper.status().credential.is_some_and(|c| c.epoch == Epoch(1) && c.problem.is_none())
    });
    check_rest(&root, 1, "the daemon");
    let log = bench.log();
    assert_eq!(log.matches("socket_failed").count(), 1, "{log}");
    assert!(log.contains("socket_made"), "{log}");
}
