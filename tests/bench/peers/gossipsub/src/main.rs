//! libp2p gossipsub 0.50 as a peer of the tree's benchmark: every message signed by its author and verified by every
//! node, over TCP, Noise and Yamux, with the library's own settings.
//!
//! Every node dials six random earlier ones, which gives the mesh its degree of six.

use std::time::Duration;

use libp2p::futures::StreamExt as _;
use libp2p::gossipsub::{Behaviour, ConfigBuilder, Event, IdentTopic, MessageAuthenticity};
use libp2p::identity::Keypair;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm, SwarmBuilder, noise, tcp, yamux};
use peers_measure::{Board, Course, run};
use tokio::sync::{mpsc, oneshot};

const NAME: &str = "gossipsub";
const NOTE: &str = "libp2p-gossipsub 0.50.1: every message signed, and verified by every node";
/// Node `n` listens here and `n` above.
const PORT: usize = 21_000;
/// Earlier nodes that each node dials: gossipsub's mesh degree `D`.
const DIALS: usize = 6;
/// Messages of the saturated part, and how many are on their way at once.
const SATURATED: usize = 500;
const WINDOW: usize = 16;
/// Until the mesh has formed: some of its heartbeats of one second.
const FORMING: Duration = Duration::from_secs(6);
/// No connection ends while it is measured.
const NEVER: Duration = Duration::from_secs(86_400);

type Failed = Box<dyn std::error::Error + Send + Sync>;
/// A message to be published, and where to say whether it was taken.
type Order = (Vec<u8>, oneshot::Sender<bool>);

fn key(node: usize) -> Result<Keypair, Failed> {
    let mut seed = [5; 32];
    seed[..8].copy_from_slice(&(node as u64).to_le_bytes());
    Ok(Keypair::ed25519_from_bytes(seed)?)
}

fn address(node: usize) -> Result<Multiaddr, Failed> {
    Ok(format!("/ip4/127.0.0.1/tcp/{}", PORT + node).parse()?)
}

/// Earlier nodes, the same in every run.
fn earlier(node: usize) -> Vec<usize> {
    let mut dice = (node as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut chosen = Vec::new();
    for _ in 0..if node == 0 { 0 } else { DIALS } {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        let other = (dice % node as u64) as usize;
        if !chosen.contains(&other) {
            chosen.push(other);
        }
    }
    chosen
}

fn build(node: usize) -> Result<Swarm<Behaviour>, Failed> {
    let behaviour = |key: &Keypair| -> Result<Behaviour, Failed> {
        Ok(Behaviour::new(
            MessageAuthenticity::Signed(key.clone()),
            ConfigBuilder::default().build()?,
        )?)
    };
    let swarm = SwarmBuilder::with_existing_identity(key(node)?)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
        .with_behaviour(behaviour)?
        .with_swarm_config(|config| config.with_idle_connection_timeout(NEVER))
        .build();
    Ok(swarm)
}

async fn start(node: usize, board: Board) -> Result<mpsc::Sender<Order>, Failed> {
    let mut swarm = build(node)?;
    let topic = IdentTopic::new("bench");
    swarm.behaviour_mut().subscribe(&topic)?;
    swarm.listen_on(address(node)?)?;
    for other in earlier(node) {
        swarm.dial(address(other)?)?;
    }
    let (orders, mut ordered) = mpsc::channel::<Order>(WINDOW);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                event = swarm.select_next_some() => {
                    if let SwarmEvent::Behaviour(Event::Message { message, .. }) = event {
                        board.seen(&message.data);
                    }
                }
                Some((message, answer)) = ordered.recv() => {
                    let taken = swarm.behaviour_mut().publish(topic.clone(), message).is_ok();
                    // Whoever asked may have given up.
                    let _ = answer.send(taken);
                }
            }
        }
    });
    Ok(orders)
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Failed> {
    let course = Course::from_args(SATURATED, WINDOW)?;
    let board = Board::default();
    let mut fleet = Vec::new();
    for node in 0..course.nodes {
        fleet.push(start(node, board.clone()).await?);
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    tokio::time::sleep(FORMING).await;
    let orders = fleet[0].clone();
    let publish = async |message: Vec<u8>| {
        let (answer, taken) = oneshot::channel();
        orders.send((message, answer)).await.is_ok() && taken.await.unwrap_or(false)
    };
    let row = run(NAME, NOTE, &course, &board, &[], publish).await?;
    println!("{}", serde_json::to_string(&row)?);
    std::process::exit(0)
}
