//! More than a tree of hubs can carry, and more than a log keeps: everything comes to its leaves.

#![allow(clippy::unwrap_used, reason = "what a test makes itself is as it was made")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use borgios_relay::hub::Verifiers;
use borgios_relay::pipe::StreamPipe;
use borgios_relay::{Event, HubConfig, HubHandle, Item};
use borgios_stream::{Admission, Durability, Kind, Limits, Relay, Role};
use borgios_types::{Digest, SecretKey};
use bytes::Bytes;

/// Nothing here takes this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);

fn key(number: u8) -> SecretKey {
    SecretKey::from_seed([number; 32])
}

/// Starts a hub that lets every origin speak.
async fn node(number: u8, relay: Relay, verifiers: Option<Verifiers>, limits: Limits) -> HubHandle {
    let config = HubConfig {
        network: Digest([7; 32]),
        key: key(number),
        relay,
        verifiers,
        log: None,
        limits,
        on_arrival: None,
    };
    let (hub, mut inbox) = HubHandle::start(config).await.unwrap();
    let answering = hub.clone();
    tokio::spawn(async move {
        while let Some(event) = inbox.recv().await {
            match event {
                Event::Admit(origin) => answering.admit(origin, Admission::Yes).await,
                Event::Misbehaved { peer, why } => panic!("{} {why}", peer.short()),
                _ => {}
            }
        }
    });
    hub
}

async fn link(parent: &HubHandle, above: u8, child: &HubHandle, below: u8) {
    let (upper, lower) = tokio::io::duplex(64 * 1024);
    parent.link_up(key(below).public(), Role::Tree, StreamPipe(upper)).await;
    child.link_up(key(above).public(), Role::Tree, StreamPipe(lower)).await;
}

/// Publishes `each` messages of `size` bytes from each of `publishers` tasks at the root of a tree, and
/// reads them at every other node: all of them, though that is several times what a log keeps.
async fn saturate(
    relay: Relay,
    nodes: u8,
    fanout: u8,
    (publishers, each, size): (usize, usize, usize),
) {
    // One thread for all of them, which has less claim to the processor than the relaying: it falls
    // behind whatever the machine.
    let verifiers = (relay == Relay::Link).then(|| Verifiers::start(1));
    // A node that siblings leave behind may miss what retention takes, and is told so; one without
    // siblings slows those before it, and misses nothing.
    let all = Limits { stream_bytes: 1 << 30, stream_messages: 1 << 30, node_bytes: 1 << 30 };
    let limits = if fanout == 1 { Limits::default() } else { all };
    let mut hubs = Vec::new();
    for number in 0..nodes {
        hubs.push(node(number, relay, verifiers.clone(), limits).await);
    }
    let mut readings = Vec::new();
    for number in 1..nodes {
        let hub = hubs[usize::from(number)].clone();
        let mut reader = hub.subscribe(BTreeMap::new()).await.unwrap();
        let parent = (number - 1) / fanout;
        link(&hubs[usize::from(parent)], parent, &hub, number).await;
        readings.push(tokio::spawn(async move {
            let (mut total, begun) = (0, Instant::now());
            while total < publishers * each {
                match tokio::time::timeout(PATIENCE, reader.next()).await {
                    Ok(Some(Item::Messages(new))) => total += new.count(),
                    other => return Err(format!("node {number}: {other:?} after {total}")),
                }
            }
            Ok(begun.elapsed())
        }));
    }
    let mut tasks = Vec::new();
    for _ in 0..publishers {
        let hub = hubs[0].clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..each {
                let kind = Kind::new("test").unwrap();
                let body = Bytes::from(vec![b'x'; size]);
                hub.publish(kind, Durability::Volatile, body).await.unwrap();
            }
        }));
    }
    for reading in readings {
        let took = reading.await.unwrap();
        assert!(took.is_ok(), "{relay:?}, {size} bytes: {took:?}");
    }
    for task in tasks {
        task.await.unwrap();
    }
    for hub in hubs {
        hub.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saturated_chain_brings_everything_to_its_end() {
    for relay in [Relay::Verified, Relay::Link] {
        saturate(relay, 4, 1, (256, 200, 1024)).await;
        saturate(relay, 4, 1, (64, 5, 200_000)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saturated_tree_brings_everything_to_its_leaves() {
    for relay in [Relay::Verified, Relay::Link] {
        saturate(relay, 13, 3, (256, 200, 1024)).await;
        saturate(relay, 13, 3, (64, 5, 200_000)).await;
    }
}
