//! A governor follows the bus with the stock `ssh` client.

use borgios_agent::bus::KEPT;
use borgios_policy::Lane;
use borgios_types::{Envelope, SecretKey};
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt as _, BufReader, Lines};
use tokio::process::ChildStdout;

use crate::fleet::{Fleet, PATIENCE, until};
use crate::stock_ssh::follow;

/// More than a window and the ring hold, and no more than one governor may keep.
const NOTES: u64 = 500;

type Out = Lines<BufReader<ChildStdout>>;

/// The next line, and as JSON.
async fn next(out: &mut Out) -> (String, Value) {
    let line = tokio::time::timeout(PATIENCE, out.next_line()).await.expect("a line in time");
    let line = line.unwrap().expect("a line before the end");
    let value = serde_json::from_str(&line).unwrap();
    (line, value)
}

fn release(fleet: &mut Fleet) -> Envelope {
    let digest = borgios_types::Digest::of(b"x");
    let component = json!({"name": "app", "digest": digest, "size": 1});
    let installer = json!({"digest": digest, "size": 1});
    let body =
        json!({"version": "1", "components": [component], "installer": installer, "floor": 1});
    fleet.board.statement(Lane::Release, body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_governor_follows_what_enters_at_any_node_and_the_end_of_input_ends_it() {
    let mut fleet = Fleet::of(2, 2).await;
    let earlier = fleet.board.note("earlier");
    fleet.servers[0].put(&earlier).await;
    fleet.all_have(&earlier).await;
    let mut ssh = follow(&fleet.servers[1], fleet.board.governor(0));
    let (input, mut out) = (ssh.input(), ssh.lines());
    let (_, head) = next(&mut out).await;
    let (network, node) = (fleet.board.network(), fleet.servers[1].me());
    assert_eq!(head, json!({"follow": {"network": network, "node": node, "protocol": 1}}));

    // What is handed to another node comes here over the tree.
    let (note, statement) = (fleet.board.note("now"), release(&mut fleet));
    for envelope in [&note, &statement] {
        assert_eq!(fleet.servers[0].put(envelope).await["ok"]["new"], true);
    }
    let (mut seen, neighbour) = (Vec::new(), fleet.servers[0].me().short());
    while seen.len() < 2 {
        let (line, entry) = next(&mut out).await;
        // Join records are renewed and reports are made meanwhile; they are entries too.
        if ![&json!(note.id()), &json!(statement.id())].contains(&&entry["id"]) {
            continue;
        }
        assert_eq!(entry["from"], json!(neighbour), "{line}");
        let text = if entry["kind"] == "note" { note.to_json() } else { statement.to_json() };
        assert!(line.ends_with(&format!("\"envelope\":{text}}}")), "not byte for byte: {line}");
        seen.push(entry);
    }
    let of = |kind: &str| seen.iter().find(|entry| entry["kind"] == kind).unwrap();
    assert_eq!((&of("note")["by"], of("note").get("seq")), (&json!("bob"), None));
    assert_eq!((&of("release")["lane"], &of("release")["seq"]), (&json!("release"), &json!(1)));
    assert!(seen.iter().all(|entry| entry["id"] != json!(earlier.id())));
    drop(input);
    assert_eq!(ssh.end().await.0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_node_ends_it_as_well() {
    let mut fleet = Fleet::of(1, 2).await;
    let mut ssh = follow(&fleet.servers[0], fleet.board.governor(2));
    let (_input, mut out) = (ssh.input(), ssh.lines());
    next(&mut out).await;
    fleet.servers[0].running.take().unwrap().end().await;
    assert_eq!(ssh.end().await.0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_cannot_speak_and_anyone_else_is_greeted_as_a_node_would_be() {
    let fleet = Fleet::of(1, 2).await;
    let server = &fleet.servers[0];
    let objects = server.status().await["objects"].clone();
    let note = fleet.board.note("smuggled");
    let put = json!({"put": "envelope", "envelope": note}).to_string();
    let object = format!("{{\"object\":{{\"id\":\"{}\",\"kind\":\"note\"}}}}", note.id());
    let endless = "x".repeat(3 * 1024 * 1024);
    for (said, code) in
        [(put.as_str(), "read_only"), (&object, "read_only"), (&endless, "too_large")]
    {
        let mut ssh = follow(server, fleet.board.governor(0));
        let mut input = ssh.input();
        // The node may have had enough before all of it is sent.
        let _ = input.write_all(format!("\n{said}\n").as_bytes()).await;
        let (status, out) = ssh.end().await;
        assert_eq!(status, 1, "{out}");
        let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
        assert_eq!(last["error"]["code"], code);
    }
    assert_eq!(server.status().await["objects"], objects);
    // Anyone else is greeted as a node would be.
    let mut ssh = follow(server, &SecretKey::from_seed([77; 32]));
    let (_input, mut out) = (ssh.input(), ssh.lines());
    assert!(next(&mut out).await.1["hello"].is_object());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_told_of_the_gap_and_the_node_goes_on() {
    let fleet = Fleet::of(1, 2).await;
    let server = &fleet.servers[0];
    let mut ssh = follow(server, fleet.board.governor(0));
    let (input, mut out) = (ssh.input(), ssh.lines());
    next(&mut out).await;
    // Nobody reads from here on: the client's window of 2 MiB fills, then the ring. Quotes are
    // escaped twice, so that each of these has 16 KiB.
    let text = "\"".repeat(4000);
    for number in 0..NOTES {
        let note = fleet.board.note(&format!("{number} {text}"));
        assert_eq!(server.put(&note).await["ok"]["new"], true);
    }
    let (mut told, mut gap) = (0, 0);
    while told + gap < NOTES {
        let (_, entry) = next(&mut out).await;
        gap += entry["gap"].as_u64().unwrap_or_default();
        told += u64::from(entry["kind"] == "note");
    }
    assert!(gap > 0 && told >= KEPT as u64, "{told} told, {gap} dropped");
    drop(input);
    assert_eq!(ssh.end().await.0, 0);
    until("it still has its place", async || server.attached()).await;
}
