//! A server that does not renew its record lapses, and its address may be another server's then.

use std::time::Duration;

use borgios_agent::channel::russh_key;
use borgios_agent::settings::Settings;
use borgios_agent::ssh_client::{self, DialError};
use borgios_types::SecretKey;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::fleet::{Fleet, until};

fn short_lived(settings: &mut Settings) {
    settings.pace.record_life = Duration::from_secs(12);
    settings.pace.renew = Duration::from_secs(1);
    settings.pace.lapsed_kept = Duration::from_secs(3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reinstalled_server_joins_anew_and_its_old_record_lapses() {
    let mut fleet = Fleet::shaped(2, |_, settings| short_lived(settings)).await;
    let old = fleet.servers[1].me();
    let (listen, name) = {
        let settings = &fleet.servers[1].settings;
        (settings.listen.clone(), settings.name.clone())
    };
    // Reinstalled: the same name and address, a key of its own.
    fleet.servers[1].kill().await;
    fleet.servers.pop();
    let (address, same) = (listen.clone(), name.clone());
    fleet
        .join_as(move |settings| {
            settings.listen = address.clone();
            settings.advertise = Some(address);
            settings.name = same;
            short_lived(settings);
        })
        .await;
    fleet.whole().await;
    let new = fleet.servers[1].me();
    assert_ne!(old, new);
    // Whoever dials the old key there is told so, and nothing else happens.
    let key = russh_key(&SecretKey::from_seed([70; 32]));
    let dialled = ssh_client::dial(&listen, old, key, CancellationToken::new()).await;
    assert!(matches!(dialled, Err(DialError::WrongKey { expected }) if expected == old));

    for server in &fleet.servers {
        until("two members, one of them new", async || {
            let status = server.status().await;
            status["members"] == 2 && status["tree"]["size"] == 2
        })
        .await;
        until("the old record is forgotten", async || {
            let nodes = server.ask(json!({"get": "nodes"})).await["ok"]["nodes"].clone();
            let nodes = nodes.as_array().unwrap();
            assert!(nodes.iter().any(|one| one["node"] == json!(new)) || nodes.len() < 2);
            nodes.iter().all(|one| one["node"] != json!(old))
        })
        .await;
        let left = server.agent().ledger.run(move |l| l.membership(&old).len()).await;
        assert_eq!(left, 0);
    }
    // The others live on: they renewed in time.
    for server in &fleet.servers {
        assert_eq!(server.status().await["members"], 2);
    }
    until("it is not dialled any more", async || {
        let peers = std::fs::read_to_string(fleet.servers[0].state().join("peers.json"));
        !peers.unwrap_or_default().contains(&old.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_after_a_lapse_is_a_member_again() {
    let mut fleet = Fleet::shaped(2, |_, settings| {
        short_lived(settings);
        settings.pace.lapsed_kept = Duration::from_secs(600);
    })
    .await;
    let away = fleet.servers[1].me();
    fleet.servers[1].kill().await;
    let server = &fleet.servers[0];
    until("it lapsed", async || server.status().await["members"] == 1).await;
    let nodes = server.ask(json!({"get": "nodes"})).await["ok"]["nodes"].clone();
    let lapsed = nodes.as_array().unwrap().iter().find(|one| one["node"] == json!(away));
    assert_eq!(lapsed.unwrap()["lapsed"], true);
    // A newcomer learns of it, blames nobody for it, and does not count it.
    fleet.join_as(short_lived).await;
    fleet.whole().await;
    let newcomer = &fleet.servers[2];
    until("it counts two", async || newcomer.status().await["members"] == 2).await;
    fleet.servers[1].start().await;
    fleet.whole().await;
    for server in &fleet.servers {
        until("all three again", async || server.status().await["members"] == 3).await;
    }
}
