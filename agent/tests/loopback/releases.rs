//! From a signed release to the keeper, over the tree.

use borgios_agent::depot::Depot;
use borgios_policy::Lane;
use borgios_types::Digest;
use serde_json::json;

use crate::fleet::{Fleet, Server, body, until};

fn put_blob(depot: &Depot, bytes: &[u8]) -> (Digest, usize) {
    let digest = Digest::of(bytes);
    let mut receiving = depot.receive(digest, bytes.len() as u64).unwrap();
    receiving.write(bytes).unwrap();
    receiving.finish().unwrap();
    (digest, bytes.len())
}

async fn installed(server: &Server, release: u64) {
    until("the release is installed", async || server.keeper.installed() == release).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_is_fetched_from_other_nodes_installed_and_reported() {
    let mut fleet = Fleet::of(3, 2).await;
    let (component, size) = put_blob(&fleet.servers[0].agent().depot, &[7; 200_000]);
    let (installer, length) = put_blob(&fleet.servers[0].agent().depot, b"keeper");
    let body = |version: &str| {
        json!({
            "version": version,
            "components": [{"name": "app", "digest": component, "size": size}],
            "installer": {"digest": installer, "size": length},
            "urls": [],
            "floor": 1,
            "notes": "",
        })
    };
    let release = fleet.board.statement(Lane::Release, body("1"));
    assert_eq!(fleet.servers[2].put(&release).await["ok"]["new"], true);
    for server in &fleet.servers {
        installed(server, 1).await;
        assert_eq!(server.agent().depot.size(&component), Some(size as u64));
        assert_eq!(server.keeper.head("policy"), 1);
    }
    let reader = &fleet.servers[1];
    until("three reports", async || {
        let nodes = reader.ask(json!({"get": "nodes"})).await["ok"]["nodes"].clone();
        let nodes = nodes.as_array().unwrap().clone();
        nodes.iter().filter(|node| node["report"]["release"] == 1).count() == 3
    })
    .await;

    // A node that was away catches up; an old statement is named a replay.
    fleet.servers[2].kill().await;
    let second = fleet.board.statement(Lane::Release, body("2"));
    assert_eq!(fleet.servers[0].put(&second).await["ok"]["new"], true);
    installed(&fleet.servers[0], 2).await;
    fleet.servers[2].start().await;
    installed(&fleet.servers[2], 2).await;
    assert_eq!(fleet.servers[0].put(&release).await["error"]["code"], "replayed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_come_in_the_wrong_order_end_in_the_right_one() {
    let mut fleet = Fleet::of(2, 2).await;
    let first = fleet.board.statement(Lane::Release, body("1"));
    let second = fleet.board.statement(Lane::Release, body("2"));
    let server = &fleet.servers[0];
    assert_eq!(server.put(&second).await["error"]["code"], "gap");
    assert_eq!(server.put(&first).await["ok"]["new"], true);
    fleet.all_have(&second).await;
    for server in &fleet.servers {
        until("the keeper has both", async || server.keeper.head("release") == 2).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tampered_blob_is_never_given_to_the_keeper_and_the_right_one_heals_it() {
    let mut fleet = Fleet::of(2, 2).await;
    let (digest, size) = put_blob(&fleet.servers[0].agent().depot, &[7; 50_000]);
    // The first server's disk lies.
    let path = fleet.servers[0].agent().depot.path(&digest);
    std::fs::write(&path, [8; 50_000]).unwrap();
    let body = json!({
        "version": "1",
        "components": [{"name": "app", "digest": digest, "size": size}],
        "installer": {"digest": digest, "size": size},
        "floor": 1,
    });
    let release = fleet.board.statement(Lane::Release, body);
    let victim = &fleet.servers[1];
    assert_eq!(victim.put(&release).await["ok"]["new"], true);
    until("the keeper waits for it", async || victim.keeper.head("release") == 1).await;
    // It asked the liar and took nothing.
    until("the liar was asked", async || {
        std::fs::read_dir(victim.state().join("blobs")).unwrap().count() == 0
    })
    .await;
    assert_eq!(victim.keeper.installed(), 0);
    std::fs::write(&path, [7; 50_000]).unwrap();
    installed(victim, 1).await;
}

/// A governor's key that claims a blob before it is signed, and goes on with pieces that bring nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_brings_nothing_keeps_no_release_from_a_server() {
    let mut fleet = Fleet::of(2, 2).await;
    let (component, size) = put_blob(&fleet.servers[0].agent().depot, &[7; 200_000]);
    let target = &fleet.servers[1];
    let drip = json!({"put": "blob", "digest": component, "size": size, "offset": 0, "bytes": ""});
    assert_eq!(target.ask(drip.clone()).await["ok"]["have"], 0);
    let body = json!({
        "version": "1",
        "components": [{"name": "app", "digest": component, "size": size}],
        "installer": {"digest": component, "size": size},
        "floor": 1,
    });
    let release = fleet.board.statement(Lane::Release, body);
    assert_eq!(fleet.servers[0].put(&release).await["ok"]["new"], true);
    until("the release is installed", async || {
        target.ask(drip.clone()).await;
        target.keeper.installed() == 1
    })
    .await;
}
