//! A tree that only copies frames: the limit of what any tree over that carrier can do.
//!
//! Every relay reads whatever has arrived, counts the whole frames in it and writes them to its
//! children one after the other. Optionally it verifies one signature for each frame first.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use borgios_relay::pipe::{Pipe, PipeRead, PipeWrite, READ_SIZE};
use bytes::{Bytes, BytesMut};
use ed25519_dalek::{Signature, Signer as _, SigningKey};

use crate::board::Board;
use crate::carrier::Carrier;
use crate::machine::{self, now_ns};
use crate::row::Row;
use crate::singles;

/// What is measured, and how long.
#[derive(Clone, Debug)]
pub struct Load {
    /// Nodes, the origin included.
    pub nodes: usize,
    /// Children of a node.
    pub fanout: usize,
    /// Bytes of a message.
    pub size: usize,
    /// Single messages for the latency.
    pub singles: usize,
    /// How long the origin sends as fast as it can.
    pub saturated: Duration,
}

/// Longest wait for what was sent to arrive.
const PATIENCE: Duration = Duration::from_secs(60);
/// Frames that the origin writes at once when saturated.
const COALESCE: usize = 64;

/// Measures one carrier; with `verify`, every node verifies every message.
///
/// # Errors
/// No links, or messages that do not arrive.
pub async fn measure<C: Carrier>(name: &str, carrier: C, load: &Load, verify: bool) -> Result<Row> {
    let board = Arc::new(Board::new(load.nodes));
    let mut kids: Vec<Vec<<C::Pipe as Pipe>::Write>> = Vec::new();
    let mut reads: Vec<Option<<C::Pipe as Pipe>::Read>> = Vec::new();
    // Halves that nobody uses, kept so that their connections stay.
    let mut kept = Vec::new();
    for node in 0..load.nodes {
        kids.push(Vec::new());
        reads.push(None);
        if node > 0 {
            let (parent, child) = carrier.pair().await?;
            let (parent_read, parent_write) = parent.split();
            let (child_read, child_write) = child.split();
            kids[(node - 1) / load.fanout].push(parent_write);
            reads[node] = Some(child_read);
            kept.push((parent_read, child_write));
        }
    }
    let mut kids = kids.into_iter();
    let mut root = kids.next().unwrap_or_default();
    for (node, (read, kids)) in reads.into_iter().skip(1).zip(kids).enumerate() {
        if let Some(read) = read {
            tokio::spawn(relay::<C::Pipe>(node + 1, read, kids, board.clone(), verify));
        }
    }

    let key = SigningKey::from_bytes(&[7; 32]);
    let cpu_before = machine::cpu();
    let late_ms = singles::late_ms(&board, load.singles, async |number| {
        let frame = frame(&key, load.size, number);
        for kid in &mut root {
            kid.write(std::slice::from_ref(&frame)).await?;
        }
        Ok(())
    })
    .await?;

    let cpu_of_singles = singles::cpu_us(machine::cpu() - cpu_before, load);

    let frames: Vec<Bytes> =
        (0..COALESCE).map(|number| frame(&key, load.size, number as u64)).collect();
    let board_before = board.least();
    let wire = machine::loopback_bytes();
    let cpu = machine::cpu();
    let begun = now_ns();
    let mut messages = 0;
    while now_ns() - begun < load.saturated.as_nanos() as u64 {
        for kid in &mut root {
            kid.write(&frames).await?;
        }
        messages += COALESCE as u64;
    }
    let target = board_before + messages;
    anyhow::ensure!(board.reach(target, PATIENCE).await, "saturated messages did not arrive");
    let seconds = board.last_ns().saturating_sub(begun) as f64 / 1e9;
    let deliveries = (messages * board.receivers()) as f64;
    let row = Row {
        name: name.to_owned(),
        class: "limit".to_owned(),
        nodes: load.nodes,
        fanout: Some(load.fanout),
        size: load.size,
        p50_ms: singles::percentile(&late_ms, 50),
        p99_ms: singles::percentile(&late_ms, 99),
        deliveries_per_s: Some(deliveries / seconds),
        bytes_vs_minimum: Some(
            (machine::loopback_bytes() - wire) as f64 / (deliveries * load.size as f64),
        ),
        memory_mb: Some(machine::memory() as f64 / 1e6 / load.nodes as f64),
        cpu_us_per_delivery: Some((machine::cpu() - cpu).as_secs_f64() * 1e6 / deliveries),
        cpu_us_per_single: Some(cpu_of_singles),
        lost: Some(0),
        ..Row::default()
    };
    drop(kept);
    Ok(row)
}

/// Length, signature over the rest, and the rest.
fn frame(key: &SigningKey, size: usize, number: u64) -> Bytes {
    let mut message = vec![0x5a; size - 64];
    message[..8].copy_from_slice(&number.to_be_bytes());
    let mut frame = (size as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(&key.sign(&message).to_bytes());
    frame.extend_from_slice(&message);
    frame.into()
}

async fn relay<P: Pipe>(
    node: usize,
    mut read: P::Read,
    mut kids: Vec<P::Write>,
    board: Arc<Board>,
    verify: bool,
) {
    let key = SigningKey::from_bytes(&[7; 32]).verifying_key();
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_SIZE);
        if !read.read(&mut buffer).await.is_ok_and(|read| read > 0) {
            return;
        }
        let (mut end, mut whole) = (0, 0);
        while let Some(head) = buffer.get(end..end + 4) {
            let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
            let Some(frame) = buffer.get(end + 4..end + 4 + length) else { break };
            if verify {
                let Some((signature, message)) = frame.split_first_chunk::<64>() else { return };
                if key.verify_strict(message, &Signature::from_bytes(signature)).is_err() {
                    return;
                }
            }
            end += 4 + length;
            whole += 1;
        }
        if whole == 0 {
            continue;
        }
        let frames = buffer.split_to(end).freeze();
        for kid in &mut kids {
            if kid.write(std::slice::from_ref(&frames)).await.is_err() {
                return;
            }
        }
        board.delivered(node, whole);
    }
}
