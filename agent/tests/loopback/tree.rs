//! Joining, broadcasting, healing, catching up.

use borgios_policy::Lane;
use serde_json::json;

use crate::fleet::{Fleet, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_forms_one_tree_broadcasts_and_heals() {
    let mut fleet = Fleet::of(5, 2).await;

    // A governor's note handed to any node reaches all.
    let note = fleet.board.note("hello");
    assert_eq!(fleet.servers[4].put(&note).await["ok"]["new"], true);
    fleet.all_have(&note).await;
    assert_eq!(fleet.servers[4].put(&note).await["ok"]["new"], false);

    // Everybody knows everybody, and the tree can be asked from anywhere.
    for server in &fleet.servers {
        until("all join records", async || {
            let nodes = server.ask(json!({"get": "nodes"})).await;
            nodes["ok"]["nodes"].as_array().unwrap().len() == 5
        })
        .await;
        until("the whole tree in one answer", async || {
            let tree = server.ask(json!({"get": "tree"})).await["ok"].clone();
            tree["nodes"].as_array().unwrap().len() == 5 && tree["partial"] == false
        })
        .await;
        // The secret half of the invitation is gone.
        until("the invitation is shredded", async || !server.invite_file().exists()).await;
    }

    // The root dies; the rest finds together and still carries broadcasts.
    let root = fleet.servers[0].root();
    let at = fleet.servers.iter().position(|server| server.me() == root).unwrap();
    fleet.servers[at].kill().await;
    fleet.whole().await;
    let late = fleet.board.note("after the fall");
    let other = fleet.servers.iter().find(|server| server.running.is_some()).unwrap();
    assert_eq!(other.put(&late).await["ok"]["new"], true);
    fleet.all_have(&late).await;

    // It comes back with what is on its disk and catches up.
    fleet.servers[at].start().await;
    fleet.whole().await;
    fleet.all_have(&late).await;
    fleet.all_have(&note).await;
}

/// Every node finds members beside its neighbours to compare with; nobody withholds anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cross_links_come_up_and_show_in_the_status() {
    let fleet = Fleet::of(6, 2).await;
    for server in &fleet.servers {
        let cross = async || {
            let tree = server.status().await["tree"].clone();
            let peers = tree["cross"].as_array().unwrap().clone();
            let near = tree["children"].as_array().unwrap().clone();
            assert!(peers.iter().all(|peer| *peer != tree["parent"] && !near.contains(peer)));
            !peers.is_empty()
        };
        until("a cross link", cross).await;
        let metrics = borgios_agent::metrics::text(&server.agent().api).await;
        assert!(!metrics.contains("borgios_tree_cross_links 0\n"), "{metrics}");
    }
    let note = fleet.board.note("hello");
    assert_eq!(fleet.servers[5].put(&note).await["ok"]["new"], true);
    fleet.all_have(&note).await;
    for server in &fleet.servers {
        let tree = server.status().await["tree"].clone();
        assert_eq!((&tree["gaps"], &tree["evidence"]), (&json!(0), &json!([])));
        assert_eq!(tree["neighbours_left"], 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_says_where_the_node_stands() {
    let fleet = Fleet::of(2, 2).await;
    let child = &fleet.servers[1];
    until("the keeper's status", async || !child.status().await["keeper"].is_null()).await;
    let status = child.status().await;
    assert_eq!(status["tree"]["state"], "attached");
    assert_eq!(status["tree"]["depth"], 1);
    assert_eq!(status["node"], json!(child.me()));
    assert_eq!(status["network"], json!(fleet.board.network()));
    assert_eq!(status["heads"]["policy"]["seq"], 1);
    let socket = child.settings.api_socket.clone();
    let health = move || borgios_agent::local::ask_health(&socket);
    tokio::task::spawn_blocking(health).await.unwrap().unwrap();
    let root = fleet.servers[0].status().await;
    assert_eq!(root["tree"]["is_root"], true);
    assert!(root["tree"]["parent"].is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_restarts_with_its_objects_and_survives_a_damaged_one() {
    let mut fleet = Fleet::of(1, 2).await;
    let (kept, damaged) = (fleet.board.note("kept"), fleet.board.note("damaged"));
    let server = &mut fleet.servers[0];
    server.put(&kept).await;
    server.put(&damaged).await;
    let me = server.me();
    server.kill().await;
    let file = server.state().join(format!("objects/note/{}.json", damaged.id().hex()));
    std::fs::write(file, "{}").unwrap();
    server.start().await;
    assert_eq!(server.me(), me);
    until("a place again", async || server.attached()).await;
    assert!(server.has(&kept).await);
    assert!(!server.has(&damaged).await);
    // What was set aside can come again.
    assert_eq!(server.put(&damaged).await["ok"]["new"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_renews_its_record_without_the_invitation() {
    let mut fleet = Fleet::of(2, 2).await;
    let server = &mut fleet.servers[1];
    until("the invitation is shredded", async || !server.invite_file().exists()).await;
    server.kill().await;
    server.settings.name = "renamed".parse().unwrap();
    server.start().await;
    fleet.whole().await;
    until("the new name is known", async || {
        let nodes = fleet.servers[0].ask(json!({"get": "nodes"})).await["ok"]["nodes"].clone();
        let nodes = nodes.as_array().unwrap().clone();
        nodes.len() == 2 && nodes.iter().any(|node| node["name"] == "renamed")
    })
    .await;
    // A third server, which never saw the first record broadcast, learns both.
    fleet.join().await;
    fleet.whole().await;
    until("a newcomer knows the renewed record", async || {
        let nodes = fleet.servers[2].ask(json!({"get": "nodes"})).await["ok"]["nodes"].clone();
        nodes.as_array().unwrap().iter().any(|node| node["name"] == "renamed")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_follows_through_a_change_of_policy() {
    let mut fleet = Fleet::of(2, 2).await;
    fleet.servers[1].kill().await;
    let digest = borgios_types::Digest::of(b"x");
    let body = json!({
        "version": "1",
        "components": [{"name": "app", "digest": digest, "size": 1}],
        "installer": {"digest": digest, "size": 1},
        "floor": 1,
    });
    let first = fleet.board.statement(Lane::Release, body.clone());
    let policy = fleet.board.policy(3);
    let second = fleet.board.statement(Lane::Release, body);
    for statement in [&first, &policy, &second] {
        assert_eq!(fleet.servers[0].put(statement).await["ok"]["new"], true);
    }
    fleet.servers[1].start().await;
    fleet.whole().await;
    fleet.all_have(&second).await;
    for server in &fleet.servers {
        until("the keeper has all of it", async || {
            server.keeper.head("policy") == 2 && server.keeper.head("release") == 2
        })
        .await;
    }
}
