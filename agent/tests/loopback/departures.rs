//! A server's owner takes it out, and nobody else does.

use std::time::Duration;

use borgios_agent::settings::Settings;
use borgios_agent::wire::{Frame, Hello, PROTOCOL};
use borgios_policy::{Departure, Join, Object as _};
use borgios_types::{Envelope, NodeId, SecretKey};
use serde_json::json;

use crate::board::now;
use crate::fleet::{Fleet, PATIENCE, until};
use crate::hostile::refused_with;

fn owner() -> SecretKey {
    SecretKey::from_seed([60; 32])
}

fn departure(fleet: &Fleet, node: NodeId, by: &SecretKey) -> Envelope {
    let network = fleet.board.network();
    Departure { network, node, at: now() }.to_envelope().sign(by)
}

/// The second server has an owner.
fn owned(at: usize, settings: &mut Settings) {
    if at == 1 {
        settings.owner = Some(owner().public());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_takes_a_server_out_and_nobody_else_does() {
    let mut fleet = Fleet::shaped(3, owned).await;
    let (node, ownerless) = (fleet.servers[1].me(), fleet.servers[2].me());
    let server = &fleet.servers[0];
    until("the record is known", async || {
        server.agent().ledger.run(move |l| l.first_join(&node).is_some()).await
    })
    .await;
    let code = async |envelope: Envelope| server.put(&envelope).await["error"]["code"].clone();
    assert_eq!(code(departure(&fleet, node, fleet.board.governor(0))).await, "bad_signature");
    let itself = std::fs::read_to_string(fleet.servers[1].state().join("node.key")).unwrap();
    let itself = SecretKey::from_openssh(&itself).unwrap();
    assert_eq!(code(departure(&fleet, node, &itself)).await, "bad_signature");
    assert_eq!(code(departure(&fleet, ownerless, &owner())).await, "no_owner");
    let stranger = SecretKey::from_seed([61; 32]).public();
    assert_eq!(code(departure(&fleet, stranger, &owner())).await, "unknown_member");
    // A later record cannot bring another owner in.
    let renewal = server.agent().ledger.run(move |l| l.join_of(&node)).await.unwrap();
    let (later, other) = (now().plus(5), SecretKey::from_seed([62; 32]).public());
    let taken = Join { owner: Some(other), issued: later, ..renewal.clone() };
    assert_eq!(code(taken.to_envelope().sign(&itself)).await, "owner_changed");
    assert_eq!(server.status().await["members"], 3);

    let records = server.agent().ledger.run(move |l| l.membership(&node)).await;
    let good = departure(&fleet, node, &owner());
    assert_eq!(server.put(&good).await["ok"]["new"], true);
    // The server brings it to its keeper and ends.
    let gone = fleet.servers[1].agent().departed();
    tokio::time::timeout(PATIENCE, gone).await.expect("it ends by itself");
    let told = fleet.servers[1].keeper.seen.lock().unwrap().departure.clone();
    assert_eq!(told, Some(good.clone()));
    fleet.servers[1].running.take().unwrap().end().await;
    for server in [&fleet.servers[0], &fleet.servers[2]] {
        until("the others count it out", async || {
            let status = server.status().await;
            status["members"] == 2 && status["tree"]["size"] == 2
        })
        .await;
        let nodes = server.ask(json!({"get": "nodes"})).await["ok"]["nodes"].clone();
        let nodes = nodes.as_array().unwrap();
        let of = |node: NodeId| nodes.iter().find(|one| one["node"] == json!(node)).unwrap();
        assert_eq!((&of(node)["departed"], &of(node)["lapsed"]), (&json!(true), &json!(true)));
        assert_eq!(of(node)["owner"], json!(owner().public()));
        assert_eq!(of(ownerless)["departed"], false);
        // Its key opens nothing any more, and what it says after its departure is not heard.
        let network = fleet.board.network();
        let hello = Hello { protocol: PROTOCOL, network, membership: records.clone() };
        refused_with(server, &itself, vec![Frame::Hello(hello).to_line()], "departed").await;
        let renewed = Join { issued: later, expires: later.plus(60), ..renewal.clone() };
        let answer = server.put(&renewed.to_envelope().sign(&itself)).await;
        assert_eq!(answer["error"]["code"], "departed");
    }
    // The others remember it over a restart.
    fleet.servers[2].kill().await;
    fleet.servers[2].start().await;
    assert!(fleet.servers[2].has(&good).await);
    assert_eq!(fleet.servers[2].status().await["members"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_learns_of_its_departure_when_it_comes_back() {
    let mut fleet = Fleet::shaped(2, owned).await;
    let node = fleet.servers[1].me();
    fleet.servers[1].kill().await;
    let good = departure(&fleet, node, &owner());
    assert_eq!(fleet.servers[0].put(&good).await["ok"]["new"], true);
    fleet.servers[1].start().await;
    let gone = fleet.servers[1].agent().departed();
    tokio::time::timeout(PATIENCE, gone).await.expect("it ends by itself");
    let told = fleet.servers[1].keeper.seen.lock().unwrap().departure.clone();
    assert_eq!(told, Some(good));
    assert_eq!(fleet.servers[0].status().await["members"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_departure_that_nobody_heard_is_told_after_a_power_cut() {
    let mut fleet = Fleet::shaped(2, |at, settings| {
        owned(at, settings);
        // Both come back at once and have to find each other first.
        settings.pace.farewell = Duration::from_secs(120);
    })
    .await;
    let node = fleet.servers[1].me();
    for server in &fleet.servers {
        server.remembers_peers().await;
    }
    // Handed to the server itself, which dies before anyone else hears of it.
    fleet.servers[0].kill().await;
    let good = departure(&fleet, node, &owner());
    assert_eq!(fleet.servers[1].put(&good).await["ok"]["new"], true);
    fleet.servers[1].kill().await;
    fleet.servers[0].start().await;
    assert!(!fleet.servers[0].has(&good).await);
    fleet.servers[1].start().await;
    until("the other one hears", async || fleet.servers[0].has(&good).await).await;
    let gone = fleet.servers[1].agent().departed();
    tokio::time::timeout(PATIENCE, gone).await.expect("it ends by itself");
}
