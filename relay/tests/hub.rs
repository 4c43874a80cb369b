//! Hubs in one process, linked by pipes in memory.

#![allow(clippy::unwrap_used, reason = "what a test makes itself is as it was made")]

use std::collections::BTreeMap;
use std::time::Duration;

use borgios_relay::hub::{Misdeed, Verifiers};
use borgios_relay::pipe::{PipeRead as _, StreamPipe};
use borgios_relay::{Event, HubConfig, HubHandle, Item, Pipe, Subscription};
use borgios_stream::builder::Draft;
use borgios_stream::proof::Proof;
use borgios_stream::{Admission, BatchId, Durability, Kind, Limits, Origin, Position, Relay, Role};
use borgios_types::{Digest, PublicKey, SecretKey};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;

/// Nothing here takes this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(30);

fn key(number: u8) -> SecretKey {
    SecretKey::from_seed([number; 32])
}

struct Node {
    hub: HubHandle,
    /// Events that are no question.
    events: mpsc::UnboundedReceiver<Event>,
}

/// Starts a hub that lets every origin speak.
async fn node(number: u8, relay: Relay) -> Node {
    node_with(number, relay, None).await
}

async fn node_with(number: u8, relay: Relay, verifiers: Option<Verifiers>) -> Node {
    let config = HubConfig {
        network: Digest([7; 32]),
        key: key(number),
        relay,
        verifiers,
        log: None,
        limits: Limits::default(),
        on_arrival: None,
    };
    let (hub, mut inbox) = HubHandle::start(config).await.unwrap();
    let (tell, events) = mpsc::unbounded_channel();
    let answering = hub.clone();
    tokio::spawn(async move {
        while let Some(event) = inbox.recv().await {
            if let Event::Admit(origin) = event {
                answering.admit(origin, Admission::Yes).await;
            } else if tell.send(event).is_err() {
                return;
            }
        }
    });
    Node { hub, events }
}

fn peer(number: u8) -> PublicKey {
    key(number).public()
}

async fn link(parent: &Node, above: u8, child: &Node, below: u8) {
    let (upper, lower) = tokio::io::duplex(64 * 1024);
    parent.hub.link_up(peer(below), Role::Tree, StreamPipe(upper)).await;
    child.hub.link_up(peer(above), Role::Tree, StreamPipe(lower)).await;
}

async fn publish(node: &Node, text: String) {
    let kind = Kind::new("test").unwrap();
    node.hub.publish(kind, Durability::Durable, text.into()).await.unwrap();
}

/// Reads until `count` messages have come: position and text of each, by origin.
async fn read(
    reader: &mut Subscription,
    count: usize,
) -> BTreeMap<Origin, Vec<(Position, String, Proof)>> {
    let mut heard: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut total = 0;
    while total < count {
        let item = tokio::time::timeout(PATIENCE, reader.next()).await.expect("in time");
        let Some(Item::Messages(new)) = item else { panic!("expected messages, got {item:?}") };
        assert_eq!(new.kind().as_str(), "test");
        assert_eq!(new.count(), new.messages().count());
        for message in new.messages() {
            let proof = new.proof(message.position).unwrap();
            let text = String::from_utf8(message.body.to_vec()).unwrap();
            heard.entry(new.origin).or_default().push((message.position, text, proof));
            total += 1;
        }
    }
    assert_eq!(total, count, "none twice");
    heard
}

async fn event(node: &mut Node) -> Event {
    tokio::time::timeout(PATIENCE, node.events.recv()).await.expect("in time").unwrap()
}

#[tokio::test]
async fn everyone_hears_everything_in_order_once_and_can_prove_it() {
    for relay in [Relay::Verified, Relay::Link] {
        let mut nodes = Vec::new();
        for number in 0..7 {
            nodes.push(node(number, relay).await);
        }
        let mut readers = Vec::new();
        for node in &nodes {
            readers.push(node.hub.subscribe(BTreeMap::new()).await.unwrap());
        }
        for child in 1..7_u8 {
            let parent = (child - 1) / 2;
            link(&nodes[usize::from(parent)], parent, &nodes[usize::from(child)], child).await;
        }
        for number in 0..100 {
            publish(&nodes[0], format!("root {number}")).await;
            publish(&nodes[6], format!("leaf {number}")).await;
        }
        for (index, reader) in readers.iter_mut().enumerate() {
            let heard = read(reader, 200).await;
            for (origin, name) in [(peer(0), "root"), (peer(6), "leaf")] {
                let messages = &heard[&Origin::from(origin)];
                let texts: Vec<_> = messages.iter().map(|(_, text, _)| text.clone()).collect();
                let expected: Vec<_> = (0..100).map(|number| format!("{name} {number}")).collect();
                assert_eq!(texts, expected, "node {index}, {relay:?}");
                let (position, text, proof) = &messages[42];
                let proved = proof.check().unwrap();
                assert_eq!((proved.origin, proved.position), (origin, *position));
                assert_eq!(proved.message, text.as_bytes());
            }
        }
        for node in nodes {
            node.hub.stop().await;
        }
    }
}

#[tokio::test]
async fn a_reader_begins_where_it_left_off_and_a_slow_one_reads_the_log() {
    let node = node(1, Relay::Verified).await;
    for number in 0..50 {
        publish(&node, format!("{number}")).await;
    }
    let mut slow = node.hub.subscribe(BTreeMap::new()).await.unwrap();
    // More batches than the hub queues for one reader.
    for number in 50..200 {
        publish(&node, format!("{number}")).await;
    }
    let me = Origin::from(peer(1));
    let heard = read(&mut slow, 200).await;
    let texts: Vec<_> = heard[&me].iter().map(|(_, text, _)| text.clone()).collect();
    assert_eq!(texts, (0..200).map(|number| number.to_string()).collect::<Vec<_>>());
    let mut cursors = slow.cursors().clone();
    cursors.get_mut(&me).unwrap().number -= 3;
    let mut again = node.hub.subscribe(cursors).await.unwrap();
    let heard = read(&mut again, 3).await;
    assert_eq!(heard[&me].iter().map(|(_, text, _)| text.as_str()).next(), Some("197"));
    publish(&node, "200".to_owned()).await;
    assert_eq!(read(&mut again, 1).await[&me][0].1, "200");
    node.hub.stop().await;
    assert!(again.next().await.is_none());
}

/// What was forgotten is not listed: neither by the hub, nor to who subscribes.
#[tokio::test]
async fn an_origin_that_was_put_out_has_no_head() {
    let (one, two) = (node(1, Relay::Verified).await, node(2, Relay::Verified).await);
    let mut reader = two.hub.subscribe(BTreeMap::new()).await.unwrap();
    link(&one, 1, &two, 2).await;
    publish(&one, "hello".to_owned()).await;
    read(&mut reader, 1).await;
    let origin = Origin::from(peer(1));
    let listed: Vec<_> = two.hub.heads().await.unwrap().iter().map(|head| head.origin).collect();
    assert_eq!(listed, [origin]);
    two.hub.admit(origin, Admission::No).await;
    assert_eq!(two.hub.heads().await.unwrap(), []);
}

#[tokio::test]
async fn whoever_sends_garbage_is_cut_off_before_it_is_kept() {
    // No frame; a batch that is too long; a page of heads that is too long.
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"BGS1\xff\xff\xff\xff", b"BGSh\x7f\xff\xff\xff"] {
        let mut node = node(1, Relay::Verified).await;
        let (near, mut far) = tokio::io::duplex(1024);
        node.hub.link_up(peer(9), Role::Tree, StreamPipe(near)).await;
        far.write_all(bytes).await.unwrap();
        let first = event(&mut node).await;
        let Event::Misbehaved { peer: who, .. } = first else { panic!("{first:?} for {bytes:?}") };
        assert_eq!(who, peer(9));
        assert!(matches!(event(&mut node).await, Event::LinkEnded { .. }));
        node.hub.stop().await;
    }
}

#[tokio::test]
async fn a_neighbour_that_does_not_read_is_told_of_and_slows_nobody() {
    let mut root = node(1, Relay::Verified).await;
    let good = node(2, Relay::Verified).await;
    let mut reader = good.hub.subscribe(BTreeMap::new()).await.unwrap();
    link(&root, 1, &good, 2).await;
    let (near, far) = tokio::io::duplex(1024);
    root.hub.link_up(peer(9), Role::Tree, StreamPipe(near)).await;
    let kind = Kind::new("test").unwrap();
    let body = Bytes::from(vec![b'x'; 100_000]);
    for _ in 0..100 {
        root.hub.publish(kind.clone(), Durability::Volatile, body.clone()).await.unwrap();
    }
    read(&mut reader, 100).await;
    let told = event(&mut root).await;
    let Event::Stalled { peer: who, .. } = told else { panic!("{told:?}") };
    assert_eq!(who, peer(9));
    // It begins to read, and is given what it asks for from then on.
    let (mut read, _write) = Pipe::split(StreamPipe::<DuplexStream>(far));
    let drained = async {
        let mut bytes = BytesMut::with_capacity(1024);
        while read.read(&mut bytes).await.is_ok_and(|count| count > 0) {
            bytes.clear();
        }
    };
    let recovered = async {
        let told = event(&mut root).await;
        assert!(matches!(told, Event::Recovered { .. }), "{told:?}");
    };
    tokio::select! {
        () = drained => panic!("the link ended"),
        () = recovered => {}
    }
}

#[tokio::test]
async fn two_neighbours_agree_on_tls_and_nobody_else_gets_in() {
    use borgios_relay::offers::{Offers, TlsDial, TlsError};
    use std::sync::Arc;

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let offers = Offers::new(provider.clone());
    let dial = |public: [u8; 32], expected: Option<[u8; 32]>, wrong_ticket: bool| {
        let (offers, provider) = (offers.clone(), provider.clone());
        async move {
            let dialling = TlsDial::new(provider);
            let theirs = expected.unwrap_or_else(|| dialling.public());
            let (mut ticket, ours, pipe) = offers.await_one(peer(2), theirs).unwrap();
            if wrong_ticket {
                ticket.0[0] ^= 1;
            }
            let shown = if public == [0; 32] { ours } else { public };
            let (near, far) = tokio::io::duplex(64 * 1024);
            let (accepted, dialled) = tokio::join!(
                offers.accept(Box::new(near)),
                dialling.dial(Box::new(far), ticket, shown)
            );
            (accepted, dialled, pipe)
        }
    };
    let (accepted, dialled, pipe) = dial([0; 32], None, false).await;
    assert_eq!(accepted.unwrap(), peer(2));
    let (one, two) = (node(1, Relay::Verified).await, node(2, Relay::Verified).await);
    let mut reader = two.hub.subscribe(BTreeMap::new()).await.unwrap();
    one.hub.link_up(peer(2), Role::Tree, pipe.await.unwrap()).await;
    two.hub.link_up(peer(1), Role::Tree, dialled.unwrap()).await;
    publish(&one, "over TLS".to_owned()).await;
    assert_eq!(read(&mut reader, 1).await[&Origin::from(peer(1))][0].1, "over TLS");

    // The dialler expects another key; the acceptor does; the ticket is another one.
    let (_, dialled, _) = dial(key(8).public().to_bytes(), None, false).await;
    assert!(matches!(dialled, Err(TlsError::Handshake(_))));
    let (accepted, ..) = dial([0; 32], Some(key(8).public().to_bytes()), false).await;
    assert!(matches!(accepted, Err(TlsError::Handshake(_))));
    let (accepted, ..) = dial([0; 32], None, true).await;
    assert!(matches!(accepted, Err(TlsError::Unknown)));
}

/// Where a node forwards before it verifies, whoever handed it a forgery loses its link, and the node to
/// which it went on does not: it is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hands_on_what_does_not_verify_is_cut_off_under_relay_link() {
    let mut above = linked_node(1).await;
    let mut below = linked_node(2).await;
    let mut reader = below.hub.subscribe(BTreeMap::new()).await.unwrap();
    link(&above, 1, &below, 2).await;
    let (near, far) = tokio::io::duplex(64 * 1024);
    above.hub.link_up(peer(9), Role::Tree, StreamPipe(near)).await;
    let (mut heard, mut says) = tokio::io::split(far);
    // It reads what it is sent, as an honest one would.
    let reading = tokio::spawn(async move {
        let mut bytes = [0; 4096];
        while tokio::io::AsyncReadExt::read(&mut heard, &mut bytes).await.is_ok_and(|n| n > 0) {}
    });
    let draft = |number, previous, text: &'static str| Draft {
        network: Digest([7; 32]),
        first: Position::new(1_790_000_000, number),
        previous,
        kind: Kind::new("test").unwrap(),
        durability: Durability::Volatile,
        issued: borgios_types::UnixSeconds(1_790_000_000),
        messages: vec![Bytes::from_static(text.as_bytes())],
    };
    let first = draft(1, BatchId::NONE, "genuine").sign(&key(8));
    let second = draft(2, first.id(), "genuine too").sign(&key(8));
    let mut forged = second.bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    says.write_all(first.bytes()).await.unwrap();
    // Both let the origin speak before the forgery comes: else it would be asked for, not flooded.
    read(&mut reader, 1).await;
    says.write_all(&forged).await.unwrap();
    let told = event(&mut above).await;
    let Event::Misbehaved { peer: who, why: Misdeed::Forgery(_) } = told else {
        panic!("{told:?}")
    };
    assert_eq!(who, peer(9));
    assert!(matches!(event(&mut above).await, Event::LinkEnded { .. }));
    reading.await.unwrap();
    // The true one comes over another link, and goes on to who was sent the forgery.
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    above.hub.link_up(peer(10), Role::Tree, StreamPipe(near)).await;
    far.write_all(second.bytes()).await.unwrap();
    let heard = read(&mut reader, 1).await;
    assert_eq!(heard[&Origin::from(peer(8))][0].1, "genuine too");
    let cut = below.events.try_recv();
    assert!(cut.is_err(), "the honest one was blamed: {cut:?}");
}

/// A hub that forwards on the link's authentication, with threads that verify.
async fn linked_node(number: u8) -> Node {
    node_with(number, Relay::Link, Some(Verifiers::start(1))).await
}
