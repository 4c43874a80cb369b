//! A node that the board puts out is out, everywhere and for good.

use borgios_agent::wire::{Frame, Hello, PROTOCOL};
use borgios_policy::{Class, Eviction, Join, Lane, Object as _, Ruling};
use borgios_types::{Envelope, NodeId, SecretKey, Seq};
use serde_json::{Value, json};

use crate::fleet::{Fleet, Server, until};
use crate::hostile::refused_with;

pub(crate) fn eviction(fleet: &mut Fleet, node: NodeId) -> Envelope {
    let body = Eviction { evict: vec![node], reason: "its disk was copied".into() };
    fleet.board.statement(Lane::Member, body.to_body())
}

async fn members(server: &Server) -> Value {
    server.status().await["members"].clone()
}

fn node_key(server: &Server) -> SecretKey {
    let text = std::fs::read_to_string(server.state().join("node.key")).unwrap();
    SecretKey::from_openssh(&text).unwrap()
}

/// Dials as the evicted node with a hello that was good yesterday.
async fn is_refused(server: &Server, key: &SecretKey, membership: Vec<Envelope>, fleet: &Fleet) {
    let network = fleet.board.network();
    let hello = Frame::Hello(Hello { protocol: PROTOCOL, network, membership }).to_line();
    refused_with(server, key, vec![hello], "evicted").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eviction_cuts_every_link_and_holds_for_good() {
    let mut fleet = Fleet::of(3, 2).await;
    let out = fleet.servers[2].me();
    let key = node_key(&fleet.servers[2]);
    let records = fleet.servers[0].agent().ledger.run(move |l| l.membership(&out)).await;
    assert_eq!(records.len(), 2, "an invitation and a record");
    let statement = eviction(&mut fleet, out);
    assert_eq!(fleet.servers[0].put(&statement).await["ok"]["new"], true);

    // It hears of it from its neighbour before the link is cut, and does not go on looking.
    let evicted = &fleet.servers[2];
    until("it knows", async || evicted.status().await["evicted"] == true).await;
    until("its keeper knows", async || evicted.keeper.head("member") == 1).await;
    until("it stands alone", async || {
        let tree = evicted.status().await["tree"].clone();
        tree["state"] == "idle" && tree["links"] == 0
    })
    .await;
    for server in &fleet.servers[..2] {
        until("the others are two", async || {
            let status = server.status().await;
            status["members"] == 2 && status["tree"]["size"] == 2
        })
        .await;
        assert_eq!(server.status().await["evicted"], false);
        let left = server.agent().ledger.run(move |l| l.membership(&out).len()).await;
        assert_eq!(left, 0, "nothing of it is kept");
        let nodes = server.ask(json!({"get": "nodes"})).await["ok"]["nodes"].clone();
        assert_eq!(nodes.as_array().unwrap().len(), 2);
    }
    // What it shows is worth nothing any more.
    let record = records.iter().find(|record| record.kind.as_str() == Join::KIND).unwrap();
    assert_eq!(fleet.servers[1].put(record).await["error"]["code"], "evicted");
    is_refused(&fleet.servers[1], &key, records.clone(), &fleet).await;

    // Nor after a restart of either side.
    fleet.servers[1].kill().await;
    fleet.servers[1].start().await;
    until("a place again", async || fleet.servers[1].attached()).await;
    is_refused(&fleet.servers[1], &key, records, &fleet).await;
    fleet.servers[2].kill().await;
    fleet.servers[2].start().await;
    until("it still knows", async || fleet.servers[2].status().await["evicted"] == true).await;
    let tree = fleet.servers[2].status().await["tree"].clone();
    assert_eq!((&tree["state"], &tree["links"]), (&json!("idle"), &json!(0)));
    fleet.servers.pop();
    fleet.whole().await;
    let note = fleet.board.note("after the eviction");
    assert_eq!(fleet.servers[1].put(&note).await["ok"]["new"], true);
    fleet.all_have(&note).await;
    let peers = std::fs::read_to_string(fleet.servers[0].state().join("peers.json"));
    assert!(!peers.unwrap_or_default().contains(&out.to_string()), "it is remembered as a peer");
}

/// Its neighbours let it in without being started again. What it had shown is forgotten everywhere, on its
/// own disk too: it shows it anew, as after a reinstallation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_eviction_loses_its_place_is_let_in_again() {
    let mut fleet = Fleet::of(3, 2).await;
    let out = fleet.servers[2].me();
    let records = fleet.servers[0].agent().ledger.run(move |l| l.membership(&out)).await;
    let statement = eviction(&mut fleet, out);
    assert_eq!(fleet.servers[0].put(&statement).await["ok"]["new"], true);
    for server in &fleet.servers {
        until("all know", async || server.agent().ledger.run(move |l| l.out(&out)).await.is_some())
            .await;
    }
    until("the others are two", async || fleet.servers[1].status().await["tree"]["size"] == 2)
        .await;
    let rulings = vec![Ruling::new(Lane::Member, Seq(1), None)];
    let ruling = fleet.board.rules(|policy| policy.rulings = rulings);
    for server in [&fleet.servers[0], &fleet.servers[2]] {
        assert_eq!(server.put(&ruling).await["ok"]["new"], true);
    }
    for record in &records {
        fleet.servers[2].put(record).await;
    }
    fleet.servers[2].kill().await;
    fleet.servers[2].start().await;
    fleet.whole().await;
    until("all are members", async || members(&fleet.servers[1]).await == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_is_shown_its_eviction_by_whoever_it_dials() {
    let mut fleet = Fleet::of(3, 2).await;
    let out = fleet.servers[2].me();
    fleet.servers[2].kill().await;
    let policy = fleet.board.policy(3);
    let other = eviction(&mut fleet, SecretKey::from_seed([55; 32]).public());
    let statement = eviction(&mut fleet, out);
    for one in [&policy, &other, &statement] {
        assert_eq!(fleet.servers[1].put(one).await["ok"]["new"], true);
    }
    fleet.servers[2].start().await;
    let evicted = &fleet.servers[2];
    until("it knows", async || evicted.status().await["evicted"] == true).await;
    until("it does not look any more", async || evicted.status().await["tree"]["state"] == "idle")
        .await;
    until("its keeper knows", async || evicted.keeper.head("member") == 2).await;
    assert_eq!(members(&fleet.servers[0]).await, 2);
}

/// No policy and no release comes with it that would carry it along, and those that have it list it no
/// more since they were started again: its lane's head alone leads there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_away_catches_up_with_an_eviction_by_its_lane_alone() {
    let mut fleet = Fleet::of(3, 2).await;
    for server in &fleet.servers {
        server.remembers_peers().await;
    }
    fleet.servers[2].kill().await;
    let one = eviction(&mut fleet, SecretKey::from_seed([55; 32]).public());
    assert_eq!(fleet.servers[0].put(&one).await["ok"]["new"], true);
    fleet.all_have(&one).await;
    for server in &mut fleet.servers[..2] {
        server.kill().await;
    }
    for server in &mut fleet.servers {
        server.start().await;
    }
    fleet.whole().await;
    until("it hears", async || fleet.servers[2].has(&one).await).await;
}

/// The same without any restart: it is listed while its lock runs, and by its lane's head from then on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_away_during_a_lock_catches_up_with_what_was_applied() {
    let mut fleet = Fleet::of(3, 2).await;
    let class = Class { lock_s: Some(4), ..Class::of(2) };
    let rules = fleet.board.rules(|policy| policy.classes.member = Some(class));
    assert_eq!(fleet.servers[0].put(&rules).await["ok"]["new"], true);
    fleet.all_have(&rules).await;
    fleet.servers[2].remembers_peers().await;
    fleet.servers[2].kill().await;
    let one = eviction(&mut fleet, SecretKey::from_seed([55; 32]).public());
    assert_eq!(fleet.servers[0].put(&one).await["ok"]["new"], true);
    for server in &fleet.servers[..2] {
        until("it is applied", async || {
            server.agent().ledger.run(|l| l.chain().head_seq(Lane::Member)).await == Seq(1)
        })
        .await;
    }
    fleet.servers[2].start().await;
    fleet.whole().await;
    until("it hears", async || fleet.servers[2].has(&one).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lie_about_an_eviction_changes_nothing() {
    let mut fleet = Fleet::of(2, 2).await;
    let out = fleet.servers[1].me();
    let mut forged = eviction(&mut fleet, out);
    forged.sigs[0].sig.0[7] ^= 1;
    for server in &fleet.servers {
        assert_eq!(server.put(&forged).await["error"]["code"], "bad_signature");
        assert_eq!(server.status().await["evicted"], false);
    }
    fleet.whole().await;
    assert_eq!(members(&fleet.servers[0]).await, 2);
}
