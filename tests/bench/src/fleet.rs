//! Ours: hubs in one process, linked as a tree over a carrier, each with a log and a reader.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use borgios_relay::hub::Verifiers;
use borgios_relay::{Event, HubConfig, HubHandle, Item};
use borgios_stream::{Admission, Durability, Kind, Limits, LinkId, Relay, Role};
use borgios_types::{Digest, SecretKey};
use bytes::Bytes;

use crate::board::Board;
use crate::carrier::Carrier;
use crate::machine::{self, now_ns};
use crate::raw_tree::Load;
use crate::row::Row;
use crate::singles;

/// Longest wait for what was published to arrive.
const PATIENCE: Duration = Duration::from_secs(60);
/// Messages that are being published at a time when saturated: four full batches.
pub(crate) const PUBLISHERS: usize = 256;
/// Publishers where each message is to have a batch of its own: messages of different kinds never share
/// one.
const KINDS: usize = 16;

/// How the nodes are set.
#[derive(Clone, Debug)]
pub struct Setting {
    /// When they forward.
    pub relay: Relay,
    /// Where their logs are; one folder for each. `None` keeps them in memory.
    pub logs: Option<PathBuf>,
    /// Whether a log is synced before a message counts as stored.
    pub durability: Durability,
}

/// A running tree of hubs. Node 0 is the root and the origin.
pub struct Fleet {
    /// The nodes.
    pub hubs: Vec<HubHandle>,
    /// Who has received what, verified and stored.
    pub board: Arc<Board>,
    /// Who has heard what, verified or not.
    pub heard: Arc<Board>,
    /// Links to children, by parent: child and link.
    pub links: Vec<Vec<(usize, LinkId)>>,
    /// Messages that a reader was told it has missed.
    pub missed: Arc<AtomicU64>,
    durability: Durability,
}

impl Fleet {
    /// Starts `load.nodes` hubs and links them.
    ///
    /// # Errors
    /// No hub, or no link.
    pub async fn start<C: Carrier>(carrier: &C, load: &Load, setting: &Setting) -> Result<Self> {
        let board = Arc::new(Board::new(load.nodes));
        let heard = Arc::new(Board::new(load.nodes));
        let missed = Arc::new(AtomicU64::new(0));
        let verifiers = match setting.relay {
            Relay::Verified => None,
            Relay::Link => Some(Verifiers::start(2)),
        };
        let mut hubs = Vec::new();
        let crew = Crew { setting, verifiers, board: &board, heard: &heard, missed: &missed };
        for node in 0..load.nodes {
            hubs.push(crew.start(node).await?);
        }
        let mut links = vec![Vec::new(); load.nodes];
        for child in 1..load.nodes {
            let parent = (child - 1) / load.fanout;
            let (upper, lower) = carrier.pair().await?;
            let (above, below) = (key(parent).public(), key(child).public());
            links[parent].push((child, hubs[parent].link_up(below, Role::Tree, upper).await));
            hubs[child].link_up(above, Role::Tree, lower).await;
        }
        Ok(Self { hubs, board, heard, links, missed, durability: setting.durability })
    }

    /// Publishes one message and waits until the origin has stored it.
    ///
    /// # Errors
    /// It was refused.
    pub async fn publish(&self, body: Bytes) -> Result<()> {
        publish(&self.hubs[0], self.durability, body).await
    }

    /// Publishes as fast as the tree takes it until `until_ns`; how many messages.
    ///
    /// # Errors
    /// A message was refused.
    pub async fn saturate(
        &self,
        publishers: usize,
        pace: Pace,
        size: usize,
        until_ns: u64,
    ) -> Result<u64> {
        saturate(&self.hubs[0], self.durability, publishers, pace, size, until_ns).await
    }

    /// Ends all hubs.
    pub async fn stop(self) {
        for hub in self.hubs {
            hub.stop().await;
        }
    }
}

/// What all hubs of one process share.
pub(crate) struct Crew<'a> {
    pub(crate) setting: &'a Setting,
    pub(crate) verifiers: Option<Verifiers>,
    pub(crate) board: &'a Arc<Board>,
    pub(crate) heard: &'a Arc<Board>,
    pub(crate) missed: &'a Arc<AtomicU64>,
}

impl Crew<'_> {
    /// Starts a node that lets every origin speak, and its reader, unless it is the origin.
    pub(crate) async fn start(&self, node: usize) -> Result<HubHandle> {
        let heard = self.heard.clone();
        let config = HubConfig {
            network: Digest([9; 32]),
            key: key(node),
            relay: self.setting.relay,
            verifiers: self.verifiers.clone(),
            log: self.setting.logs.as_ref().map(|folder| folder.join(node.to_string())),
            limits: Limits::default(),
            on_arrival: Some(Arc::new(move |batch| {
                heard.delivered(node, batch.count() as u64);
            })),
        };
        let (hub, mut events) = HubHandle::start(config).await?;
        let answering = hub.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let Event::Admit(origin) = event {
                    answering.admit(origin, Admission::Yes).await;
                }
            }
        });
        if node > 0 {
            let reader = hub.subscribe(BTreeMap::new()).await.context("a hub has ended")?;
            tokio::spawn(read(node, reader, self.board.clone(), self.missed.clone()));
        }
        Ok(hub)
    }
}

/// Publishes one message and waits until the origin has stored it.
pub(crate) async fn publish(hub: &HubHandle, durability: Durability, body: Bytes) -> Result<()> {
    let kind = Kind::new("bench").expect("a kind");
    hub.publish(kind, durability, body).await?;
    Ok(())
}

/// Publishes as fast as the tree takes it until `until_ns`; how many messages.
pub(crate) async fn saturate(
    hub: &HubHandle,
    durability: Durability,
    publishers: usize,
    pace: Pace,
    size: usize,
    until_ns: u64,
) -> Result<u64> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for publisher in 0..publishers {
        let (hub, stop) = (hub.clone(), stop.clone());
        let kind = match pace {
            Pace::Saturated => "bench".to_owned(),
            Pace::OneByOne => format!("bench-{publisher}"),
        };
        let kind = Kind::new(&kind)?;
        tasks.push(tokio::spawn(async move {
            let body = message(size, publisher as u64);
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                hub.publish(kind.clone(), durability, body.clone()).await?;
                sent += 1;
            }
            anyhow::Ok(sent)
        }));
    }
    tokio::time::sleep(Duration::from_nanos(until_ns.saturating_sub(now_ns()))).await;
    stop.store(true, Ordering::Relaxed);
    let mut sent = 0;
    for task in tasks {
        sent += task.await??;
    }
    Ok(sent)
}

/// The key of a node.
pub(crate) fn key(node: usize) -> SecretKey {
    let mut seed = [3; 32];
    seed[..8].copy_from_slice(&(node as u64).to_be_bytes());
    SecretKey::from_seed(seed)
}

/// A message of `size` bytes that begins with its number.
#[must_use]
pub fn message(size: usize, number: u64) -> Bytes {
    let mut body = vec![0x5a; size];
    body[..8].copy_from_slice(&number.to_be_bytes());
    body.into()
}

async fn read(
    node: usize,
    mut reader: borgios_relay::Subscription,
    board: Arc<Board>,
    missed: Arc<AtomicU64>,
) {
    while let Some(item) = reader.next().await {
        match item {
            Item::Messages(new) => board.delivered(node, new.count() as u64),
            Item::Missed { after, next, .. } => {
                missed.fetch_add(next.number - after.number - 1, Ordering::Relaxed);
            }
        }
    }
}

/// What a row of ours measures besides single messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As much as goes, so that batches fill.
    Saturated,
    /// Every publisher with a kind of its own: each message has a signature of its own.
    OneByOne,
}

/// Measures one row.
///
/// # Errors
/// The tree does not start, or does not carry.
pub async fn measure<C: Carrier>(
    name: &str,
    carrier: C,
    load: &Load,
    setting: &Setting,
    pace: Pace,
    idle: Duration,
) -> Result<Row> {
    let fleet = Fleet::start(&carrier, load, setting).await?;
    let seen = match setting.relay {
        Relay::Verified => fleet.board.clone(),
        Relay::Link => fleet.heard.clone(),
    };
    let cpu_before = machine::cpu();
    let late_ms = singles::late_ms(&seen, load.singles, async |number| {
        fleet.publish(message(load.size, number)).await
    })
    .await?;

    let cpu_of_singles = singles::cpu_us(machine::cpu() - cpu_before, load);

    let (least, before) = (fleet.board.least(), fleet.board.total());
    let (wire, cpu, begun) = (machine::loopback_bytes(), machine::cpu(), now_ns());
    let until = begun + u64::try_from(load.saturated.as_nanos())?;
    let publishers = if pace == Pace::Saturated { PUBLISHERS } else { KINDS };
    let messages = fleet.saturate(publishers, pace, load.size, until).await?;
    // Who has not got all by then has lost the rest: it shows in the row.
    let _ = fleet.board.reach(least + messages, PATIENCE).await;
    let seconds = fleet.board.last_ns().saturating_sub(begun) as f64 / 1e9;
    let arrived = fleet.board.total() - before;
    let deliveries = arrived as f64;
    let (wire, cpu) = (machine::loopback_bytes() - wire, machine::cpu() - cpu);
    let memory = machine::memory();
    let lost = (messages * fleet.board.receivers()).saturating_sub(arrived);
    let idle_bytes = if idle.is_zero() {
        None
    } else {
        // What the load left behind must have ended.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let wire = machine::loopback_bytes();
        tokio::time::sleep(idle).await;
        let sent = (machine::loopback_bytes() - wire) as f64;
        Some(sent / idle.as_secs_f64() / load.nodes as f64)
    };
    let row = Row {
        name: name.to_owned(),
        class: "ours".to_owned(),
        nodes: load.nodes,
        fanout: Some(load.fanout),
        size: load.size,
        p50_ms: singles::percentile(&late_ms, 50),
        p99_ms: singles::percentile(&late_ms, 99),
        deliveries_per_s: Some(deliveries / seconds),
        bytes_vs_minimum: Some(wire as f64 / (deliveries * load.size as f64)),
        memory_mb: Some(memory as f64 / 1e6 / load.nodes as f64),
        idle_bytes_per_s: idle_bytes,
        cpu_us_per_delivery: Some(cpu.as_secs_f64() * 1e6 / deliveries),
        cpu_us_per_single: Some(cpu_of_singles),
        lost: Some(lost),
        ..Row::default()
    };
    fleet.stop().await;
    Ok(row)
}
