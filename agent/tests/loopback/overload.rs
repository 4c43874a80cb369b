//! Ten times more than fits is said, and one child does not read: the others get all of it.
//!
//! That it costs them a fifth of a second once is shown where the waiting is decided (`relay/src/links.rs`); what rate
//! they keep is measured, not tested (`tests/run.sh bench tree`, row `overload`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use borgios_agent::channel::russh_key;
use borgios_agent::ssh_client;
use borgios_agent::wire::{Frame, Hello, PROTOCOL};
use borgios_peertree::{Join as JoinMessage, Message, Up};
use borgios_policy::{Join, Object as _};
use borgios_relay::{HubHandle, Item, Pipe as _};
use borgios_stream::{Durability, Kind, Position};
use borgios_types::SecretKey;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::fleet::{Fleet, Server, until};

/// Publishers at once, ten times what fills the origin's batches.
const PUBLISHERS: usize = 2_560;
/// Bytes of a message.
const SIZE: usize = 1_024;
/// Messages of each in a round: 10 MB, twice what waits on a link before a child counts as stalled. Less
/// than a log keeps, so whoever falls behind on a busy machine catches up from logs, and misses nothing.
const EACH: usize = 4;

fn hub(server: &Server) -> HubHandle {
    server.agent().api.parts().streams.hub().unwrap()
}

/// Counts what a server's readers get of one origin, and complains about what they miss.
async fn count(server: &Server, top: &Server, count: Arc<AtomicU64>) -> AbortOnDropHandle<()> {
    let (hub, origin) = (hub(server), hub(top).origin());
    let mut reader = hub.subscribe(BTreeMap::new()).await.unwrap();
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut last: Option<Position> = None;
        while let Some(item) = reader.next().await {
            let Item::Messages(new) = item else { panic!("{item:?}") };
            for message in new.messages().filter(|_| new.origin == origin) {
                let next = last.map_or(1, |last| last.number + 1);
                assert_eq!(message.position.number, next);
                last = Some(message.position);
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }))
}

/// A member that takes a place below `parent`, opens the pipe for streams and never reads it.
struct Stalled {
    _tasks: [AbortOnDropHandle<()>; 2],
    _pipe: Box<dyn std::any::Any + Send>,
}

async fn stall(fleet: &Fleet, parent: &Server, seed: u8) -> Stalled {
    let key = SecretKey::from_seed([seed; 32]);
    let dial = (parent.address(), parent.me(), russh_key(&key));
    let cut = CancellationToken::new();
    let dialled = ssh_client::dial(&dial.0, dial.1, dial.2.clone(), cut).await.unwrap();
    let ssh_client::Dialled { mut reader, writer, session, .. } = dialled;
    let file = fleet.board.invite(Vec::new());
    let now = crate::board::now();
    let record = Join {
        network: fleet.board.network(),
        node: key.public(),
        keeper: SecretKey::from_seed([seed + 1; 32]).public(),
        name: "stalled".parse().unwrap(),
        address: None,
        owner: None,
        invitation: file.invitation.id(),
        issued: now,
        expires: now.plus(3_600),
    };
    let record = record.to_envelope().sign(&key).sign(&file.token_key().unwrap());
    let membership = vec![file.invitation.clone(), record];
    let network = fleet.board.network();
    let hello = Frame::Hello(Hello { protocol: PROTOCOL, network, membership }).to_line();
    let join = JoinMessage { hops: 0, size: 1, unreachable: Vec::new() };
    writer.send(hello).await.unwrap();
    writer.send(Frame::Tree(Message::Join(join)).to_line()).await.unwrap();
    // On the tree's link it is well: it reads, and says so.
    let living = tokio::spawn(async move {
        let mut life = tokio::time::interval(Duration::from_millis(100));
        let report = Frame::Tree(Message::Report(Up { size: 1, free: None })).to_line();
        while writer.send(report.clone()).await.is_ok() {
            life.tick().await;
        }
    });
    let reading = tokio::spawn(async move {
        while let Ok(Some(_)) = reader.next().await {}
        drop(session);
    });
    let child = key.public();
    until("the stalled one has a place", async || {
        parent.agent().tree.view().borrow().children.contains(&child)
    })
    .await;
    let cut = CancellationToken::new();
    let pipe = ssh_client::dial_stream(&dial.0, dial.1, dial.2, cut).await.unwrap();
    let (pipe, session) = (pipe.0.split(), pipe.1);
    let tasks = [AbortOnDropHandle::new(living), AbortOnDropHandle::new(reading)];
    Stalled { _tasks: tasks, _pipe: Box::new((pipe, session)) }
}

/// Publishes all at `top`, and waits until all of `counts` have all of them.
async fn round(
    top: &HubHandle,
    counts: &[(Arc<AtomicU64>, AbortOnDropHandle<()>)],
    said: &mut u64,
) {
    let mut publishers = Vec::new();
    for _ in 0..PUBLISHERS {
        let hub = top.clone();
        publishers.push(tokio::spawn(async move {
            let kind = Kind::new("load").unwrap();
            let body = Bytes::from_static(&[b'x'; SIZE]);
            for _ in 0..EACH {
                hub.publish(kind.clone(), Durability::Volatile, body.clone()).await.unwrap();
            }
        }));
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
    *said += (PUBLISHERS * EACH) as u64;
    until("all have all of it", async || {
        counts.iter().all(|(count, reader)| {
            assert!(!reader.is_finished(), "a reader missed something");
            count.load(Ordering::Relaxed) >= *said
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_overload_with_one_stalled_child_the_others_miss_nothing() {
    let fleet = Fleet::of(4, 8).await;
    for server in &fleet.servers {
        until("streams are open", async || server.agent().api.parts().streams.hub().is_some())
            .await;
    }
    let root = fleet.servers[0].root();
    let top = fleet.servers.iter().find(|server| server.me() == root).unwrap();
    let mut counts = Vec::new();
    for server in fleet.servers.iter().filter(|server| server.me() != root) {
        let counter = Arc::new(AtomicU64::new(0));
        counts.push((counter.clone(), count(server, top, counter).await));
    }
    let (publishing, mut said) = (hub(top), 0);
    round(&publishing, &counts, &mut said).await;
    let stalled = stall(&fleet, top, 100).await;
    round(&publishing, &counts, &mut said).await;
    drop(stalled);
    round(&publishing, &counts, &mut said).await;
    // None twice.
    for (count, _) in &counts {
        assert_eq!(count.load(Ordering::Relaxed), said);
    }
}
