//! iroh-gossip 0.101 as a peer of the tree's benchmark: HyParView and Plumtree over QUIC; links are encrypted and
//! authenticated, messages are not signed.
//!
//! Every node joins through two random earlier ones, as its users would. Relays and discovery services are off: all
//! addresses are known.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_lite::StreamExt as _;
use iroh::address_lookup::memory::MemoryLookup;
use iroh::endpoint::presets;
use iroh::protocol::Router;
use iroh::{Endpoint, EndpointAddr, RelayMode, SecretKey};
use iroh_gossip::api::{Event, GossipSender};
use iroh_gossip::net::{GOSSIP_ALPN, Gossip};
use iroh_gossip::proto::TopicId;
use peers_measure::{Board, Course, run};

const NAME: &str = "iroh-gossip";
const NOTE: &str = "iroh-gossip 0.101 on iroh 1.4.1: links encrypted, messages unsigned";
/// Node `n` listens here and `n` above.
const PORT: u16 = 20_000;
const TOPIC: [u8; 32] = [9; 32];
/// Messages of the saturated part, and how many are on their way at once: more are lost (`Lagged`), fewer are slower.
const SATURATED: usize = 5_000;
const WINDOW: usize = 64;
/// Until the overlay has formed.
const FORMING: Duration = Duration::from_secs(5);

type Failed = Box<dyn std::error::Error + Send + Sync>;

fn key(node: usize) -> SecretKey {
    let mut seed = [3; 32];
    seed[..8].copy_from_slice(&(node as u64).to_le_bytes());
    SecretKey::from_bytes(&seed)
}

fn address(node: usize) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, PORT + node as u16).into()
}

/// Two earlier nodes, the same in every run.
fn introducers(node: usize) -> Vec<usize> {
    let mut dice = (node as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut earlier = Vec::new();
    for _ in 0..if node == 0 { 0 } else { 2 } {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        earlier.push((dice % node as u64) as usize);
    }
    earlier.dedup();
    earlier
}

async fn start(node: usize, nodes: usize, board: Board) -> Result<(Router, GossipSender), Failed> {
    let lookup = MemoryLookup::new();
    for other in (0..nodes).filter(|other| *other != node) {
        lookup
            .add_endpoint_info(EndpointAddr::new(key(other).public()).with_ip_addr(address(other)));
    }
    let endpoint = Endpoint::builder(presets::Minimal)
        .secret_key(key(node))
        .relay_mode(RelayMode::Disabled)
        .address_lookup(lookup)
        .clear_ip_transports()
        .bind_addr(address(node))?
        .bind()
        .await?;
    let gossip = Gossip::builder().spawn(endpoint.clone());
    let router = Router::builder(endpoint).accept(GOSSIP_ALPN, gossip.clone()).spawn();
    let bootstrap = introducers(node).into_iter().map(|other| key(other).public()).collect();
    let (sender, mut receiver) =
        gossip.subscribe(TopicId::from_bytes(TOPIC), bootstrap).await?.split();
    tokio::spawn(async move {
        let _kept = gossip;
        while let Some(event) = receiver.next().await {
            match event {
                Ok(Event::Received(message)) => board.seen(&message.content),
                Ok(Event::Lagged) => eprintln!("node {node} lagged: messages are lost"),
                Ok(Event::NeighborUp(_) | Event::NeighborDown(_)) => {}
                Err(error) => return eprintln!("node {node}: {error}"),
            }
        }
    });
    Ok((router, sender))
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Failed> {
    let course = Course::from_args(SATURATED, WINDOW)?;
    let board = Board::default();
    let mut fleet = Vec::new();
    for node in 0..course.nodes {
        fleet.push(start(node, course.nodes, board.clone()).await?);
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    tokio::time::sleep(FORMING).await;
    let sender = fleet[0].1.clone();
    let publish = async |message: Vec<u8>| sender.broadcast(message.into()).await.is_ok();
    let row = run(NAME, NOTE, &course, &board, &[], publish).await?;
    println!("{}", serde_json::to_string(&row)?);
    std::process::exit(0)
}
