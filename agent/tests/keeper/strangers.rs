//! What whoever holds the agent's account could send, and that none of it moves the keeper.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use borgios_agent::keeper::socket::LINE_DEADLINE;
use borgios_types::{Envelope, SecretKey};
use serde_json::json;

use crate::bench::{Bench, code};
use crate::board::TestBoard;

/// Every file below the keeper's chain.
fn stored(bench: &Bench) -> Vec<String> {
    let mut names = Vec::new();
    for lane in ["policy", "release"] {
        let folder = bench.paths.keeper.join("chain").join(lane);
        for entry in fs::read_dir(folder).into_iter().flatten() {
            names.push(format!("{lane}/{}", entry.unwrap().file_name().display()));
        }
    }
    names.sort();
    names
}

#[test]
fn forged_and_reordered_statements_are_refused_by_name() {
    let mut bench = Bench::pinned();
    let first = bench.hello_release("one", 0);
    let second = bench.hello_release("two", 0);
    let third = bench.hello_release("three", 0);
    let keeper = bench.start();
    // A release before its policy, then out of order.
    assert_eq!(keeper.refusal(&first), "gap");
    keeper.take(&bench.policy);
    assert_eq!(keeper.refusal(&second), "gap");
    keeper.take(&first);
    // One changed byte in payload, signature and key.
    let payload = second.payload.replacen("\"version\":\"1\"", "\"version\":\"2\"", 1);
    assert_ne!(payload, second.payload);
    assert_eq!(keeper.refusal(&Envelope { payload, ..second.clone() }), "bad_signature");
    let mut flipped = second.clone();
    flipped.sigs[0].sig.0[7] ^= 1;
    assert_eq!(keeper.refusal(&flipped), "bad_signature");
    let mut other_key = second.clone();
    other_key.sigs[0].by = SecretKey::from_seed([9; 32]).public();
    assert_eq!(keeper.refusal(&other_key), "bad_signature");
    let unsigned = Envelope { sigs: Vec::new(), ..second.clone() };
    assert_eq!(keeper.refusal(&unsigned), "bad_signature");
    // A governor alone, with a key of the board's own.
    let alone = Envelope { sigs: Vec::new(), ..second.clone() }.sign(bench.board.governor(0));
    assert_eq!(keeper.refusal(&alone), "bad_signature");
    // Another network, a replay, duplicate keys, another kind.
    let mut foreign = TestBoard::new(4);
    let foreign = foreign.statement(borgios_policy::Lane::Release, json!({}));
    assert_eq!(keeper.refusal(&foreign), "wrong_network");
    keeper.take(&second);
    assert_eq!(keeper.refusal(&first), "replayed");
    let doubled = third.payload.replacen('{', "{\"lane\":\"release\",", 1);
    let doubled =
        bench.board.sign(Envelope { payload: doubled, sigs: Vec::new(), ..third.clone() });
    assert_eq!(keeper.refusal(&doubled), "malformed");
    let policy = borgios_types::Kind::new("policy").unwrap();
    let dressed = Envelope { kind: policy, ..third.clone() };
    assert_eq!(keeper.refusal(&dressed), "wrong_kind");
    assert_eq!(stored(&bench), ["policy/1.json", "release/1.json", "release/2.json"]);
    // Install of anything but the head, and verbs that are none.
    assert_eq!(code(&keeper.install(1)), "not_the_head");
    assert_eq!(code(&keeper.install(3)), "not_the_head");
    let run = json!({"verb": "run", "command": ["sh", "-c", "touch /tmp/owned"]});
    assert_eq!(code(&keeper.ask(&run)), "bad_request");
    let log = bench.log();
    for refusal in ["gap", "bad_signature", "wrong_network", "replayed", "malformed", "wrong_kind"]
    {
        let line = format!("BORGIOS_REFUSAL=\"{refusal}\"");
        assert!(log.contains(&line), "no {line} in\n{log}");
    }
    // And still it takes what is signed.
    keeper.take(&third);
    assert_eq!(stored(&bench).len(), 4);
}

#[test]
fn a_flood_and_a_drip_stop_nobody_else() {
    let bench = Bench::pinned();
    let keeper = bench.start();
    let mut drip = UnixStream::connect(&bench.paths.socket).unwrap();
    drip.set_nonblocking(true).unwrap();
    let mut flood = UnixStream::connect(&bench.paths.socket).unwrap();
    let filler = vec![b'['; 1024 * 1024];
    let sent = (0..100).take_while(|_| flood.write_all(&filler).is_ok()).count();
    assert!(sent < 100, "100 MB without a newline were taken");
    // One byte now and then never makes a line; the keeper must lose patience, not its time.
    let begun = Instant::now();
    let mut dropped = false;
    while !dropped {
        assert!(begun.elapsed() < Duration::from_secs(120), "the drip is still connected");
        let _ = drip.write(b"x");
        dropped = matches!(drip.read(&mut [0; 16]), Ok(0))
            || drip.read(&mut [0; 16]).is_err_and(|e| e.kind() != std::io::ErrorKind::WouldBlock);
        let asked = Instant::now();
        assert_eq!(keeper.status().installed.0, 0);
        assert!(asked.elapsed() < LINE_DEADLINE, "a drip made the keeper slow");
        std::thread::park_timeout(Duration::from_millis(200));
    }
    assert!(bench.log().contains("BORGIOS_REFUSAL=\"too_large\""), "{}", bench.log());
}
