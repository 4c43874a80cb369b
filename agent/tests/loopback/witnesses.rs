//! Root access that others have seen.

use borgios_agent::keeper::protocol::AccessState;
use borgios_policy::{Lane, Object as _, Witness};
use borgios_types::{Digest, Envelope, NodeId, SecretKey};
use serde_json::json;

use crate::board::now;
use crate::fleet::{Fleet, Server, until};

fn grant(fleet: &mut Fleet, serial: u64, node: NodeId, seconds: u64) -> Envelope {
    let body = json!({
        "order": "grant", "node": node, "serial": serial,
        "key": SecretKey::from_seed([9; 32]).public(), "after": now(),
        "before": now().plus(seconds), "class": "normal", "sources": [], "reason": "disk full",
    });
    fleet.board.statement(Lane::Access, body)
}

fn witness(fleet: &Fleet, key: &SecretKey, statement: Digest) -> Envelope {
    let network = fleet.board.network();
    Witness { network, node: key.public(), statement, at: now() }.to_envelope().sign(key)
}

async fn count(server: &Server) -> usize {
    server.agent().ledger.run(|l| l.store().list(Witness::KIND, None).count()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_opens_once_others_have_seen_it_and_no_forgery_helps() {
    let mut fleet = Fleet::of(3, 2).await;
    let target = fleet.servers[2].me();
    for server in &fleet.servers {
        server.remembers_peers().await;
    }
    // The others are away: nobody sees it.
    for at in [0, 1] {
        fleet.servers[at].kill().await;
    }
    let statement = grant(&mut fleet, 1, target, 600);
    let id = statement.id();
    let server = &fleet.servers[2];
    assert_eq!(server.put(&statement).await["ok"]["new"], true);
    until("the keeper waits", async || server.keeper.access().len() == 1).await;
    let code = async |envelope: Envelope| server.put(&envelope).await["error"]["code"].clone();
    // Neither strangers nor the node itself are witnesses, and nobody signs for another.
    let (stranger, own) = (SecretKey::from_seed([77; 32]), node_key(server));
    assert_eq!(code(witness(&fleet, &stranger, id)).await, "unknown_member");
    assert_eq!(code(witness(&fleet, &own, id)).await, "bad_body");
    let mut forged = witness(&fleet, &node_key(&fleet.servers[0]), id);
    forged.sigs = witness(&fleet, &stranger, id).sigs;
    assert_eq!(code(forged).await, "bad_signature");
    let unknown = witness(&fleet, &node_key(&fleet.servers[0]), Digest::of(b"no grant"));
    assert_eq!(code(unknown).await, "unknown_statement");
    let no_grant = witness(&fleet, &node_key(&fleet.servers[0]), fleet.board.network());
    assert_eq!(code(no_grant).await, "bad_body");
    assert_eq!(count(server).await, 0);

    for at in [0, 1] {
        fleet.servers[at].start().await;
    }
    fleet.whole().await;
    let server = &fleet.servers[2];
    until("it is open", async || server.keeper.access()[0].state == AccessState::Open).await;
    until("and seen to be", async || server.status().await["access"][0]["state"] == "open").await;
    let others = [fleet.servers[0].me(), fleet.servers[1].me()];
    {
        let seen = server.keeper.seen.lock().unwrap();
        assert_eq!(seen.witnessed[&id], others.into());
        assert_eq!((seen.bad_proofs, seen.witnessed.len()), (0, 1));
        assert!(seen.bringings <= 2, "{} times brought", seen.bringings);
    }
    // Each signed once, whatever happens to it.
    fleet.servers[0].kill().await;
    fleet.servers[0].start().await;
    fleet.whole().await;
    for server in &fleet.servers {
        until("two witnesses everywhere", async || count(server).await == 2).await;
        let brought = server.keeper.seen.lock().unwrap().bringings;
        assert_eq!(brought > 0, server.me() == target, "only the target's keeper is asked");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_is_forgotten_with_its_grant() {
    let mut fleet = Fleet::of(2, 2).await;
    let target = fleet.servers[1].me();
    // Time enough to be seen by all on a busy machine.
    let statement = grant(&mut fleet, 1, target, 10);
    assert_eq!(fleet.servers[0].put(&statement).await["ok"]["new"], true);
    for server in &fleet.servers {
        until("it was seen", async || count(server).await == 1).await;
    }
    for server in &fleet.servers {
        until("it is forgotten", async || count(server).await == 0).await;
    }
    let late = witness(&fleet, &node_key(&fleet.servers[0]), statement.id());
    assert_eq!(fleet.servers[1].put(&late).await["error"]["code"], "over");
}

fn node_key(server: &Server) -> SecretKey {
    let text = std::fs::read_to_string(server.state().join("node.key")).unwrap();
    SecretKey::from_openssh(&text).unwrap()
}
