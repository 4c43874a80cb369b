//! The course: warm up, idle, single messages, saturated.

use std::time::Duration;

use tokio::time::sleep;

use crate::machine::loopback_bytes;
use crate::row::Row;
use crate::{Board, pss_bytes};

/// Messages in a row that reach every node before anything is measured.
const WARM_UP: usize = 20;
/// Attempts at that before the peer is given up.
const WARM_UP_MAX: usize = 400;
/// How long one message of the warm-up or a single one may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nothing is sent.
const IDLE: Duration = Duration::from_secs(20);
/// Pause between two single messages, so that each finds an idle fleet.
const PAUSE: Duration = Duration::from_millis(10);
/// How often the board is looked at: adds nothing to a latency, for arrivals carry their own time.
const LOOK: Duration = Duration::from_micros(200);
/// How long the saturated part may make no progress before the message at its tail counts as lost.
const STALLED: Duration = Duration::from_secs(2);

/// What is asked of a peer.
#[derive(Clone, Debug)]
pub struct Course {
    /// Nodes, the sender among them.
    pub nodes: usize,
    /// Bytes of a message.
    pub size: usize,
    /// Single messages.
    pub singles: usize,
    /// Messages of the saturated part.
    pub saturated: usize,
    /// Messages on their way at once in that part.
    pub window: usize,
    /// PSS of the process before the first node started.
    base_pss: u64,
}

impl Course {
    /// Reads `[NODES [BYTES]] [--singles N] [--saturated N] [--window N]`. What is not given: 64 nodes, 1,024 bytes,
    /// 200 singles, and the peer's own two figures.
    ///
    /// # Errors
    /// What could not be understood.
    pub fn from_args(saturated: usize, window: usize) -> Result<Self, String> {
        let base_pss = pss_bytes("self");
        let mut course = Self { nodes: 64, size: 1024, singles: 200, saturated, window, base_pss };
        let mut plain = 0;
        let mut args = std::env::args().skip(1);
        while let Some(word) = args.next() {
            let (place, text) = match word.as_str() {
                "--singles" => (Some(&mut course.singles), args.next()),
                "--saturated" => (Some(&mut course.saturated), args.next()),
                "--window" => (Some(&mut course.window), args.next()),
                _ => {
                    plain += 1;
                    let place = match plain {
                        1 => Some(&mut course.nodes),
                        2 => Some(&mut course.size),
                        _ => None,
                    };
                    (place, Some(word.clone()))
                }
            };
            let value = text.and_then(|text| text.parse::<usize>().ok()).filter(|value| *value > 0);
            let (Some(place), Some(value)) = (place, value) else {
                return Err(format!(
                    "{word}: [NODES [BYTES]] [--singles N] [--saturated N] [--window N]"
                ));
            };
            *place = value;
        }
        course.nodes = course.nodes.max(2);
        // A message carries its number.
        course.size = course.size.max(8);
        Ok(course)
    }
}

/// Measures a peer whose nodes run. `publish` sends from node 0, false where it was refused for the moment;
/// `processes` are the daemons whose memory counts, none for nodes in this process.
///
/// # Errors
/// What kept it from being measured.
pub async fn run(
    name: &'static str,
    note: &'static str,
    course: &Course,
    board: &Board,
    processes: &[u32],
    mut publish: impl AsyncFnMut(Vec<u8>) -> bool,
) -> Result<Row, String> {
    let most = WARM_UP_MAX + course.singles + course.saturated;
    if most > board.capacity() {
        return Err(format!("at most {} messages in one run", board.capacity()));
    }
    let bytes = || loopback_bytes().ok_or("no lo in /proc/self/net/dev".to_owned());
    let all = course.nodes as u32 - 1;
    let mut next = 0;

    let mut whole = 0;
    while whole < WARM_UP {
        if next == WARM_UP_MAX {
            return Err("messages never reached all nodes".to_owned());
        }
        whole = if single(board, course.size, &mut next, all, &mut publish).await.is_some() {
            whole + 1
        } else {
            0
        };
    }

    sleep(PATIENCE).await;
    let before = bytes()?;
    sleep(IDLE).await;
    let idle = (bytes()? - before) as f64 / IDLE.as_secs_f64() / course.nodes as f64;

    let mut latencies = Vec::new();
    for _ in 0..course.singles {
        latencies.extend(single(board, course.size, &mut next, all, &mut publish).await);
        sleep(PAUSE).await;
    }
    latencies.sort();
    if latencies.len() * 10 < course.singles * 9 {
        return Err(format!(
            "{} of {} single messages reached all",
            latencies.len(),
            course.singles
        ));
    }
    let quantile = |share: f64| {
        let at = ((latencies.len() as f64 * share).ceil() as usize).clamp(1, latencies.len()) - 1;
        latencies[at].as_secs_f64() * 1e3
    };

    let (first, before, begun) = (next, bytes()?, board.now());
    let mut tail = next;
    let mut moved = board.now();
    while next < first + course.saturated || tail < next {
        while tail < next && board.nodes(tail) >= all {
            tail += 1;
            moved = board.now();
        }
        if next < first + course.saturated && next - tail < course.window {
            if publish(Board::message(next, course.size)).await {
                next += 1;
            } else {
                sleep(LOOK).await;
            }
        } else if tail < next && board.now().saturating_sub(moved) > STALLED {
            tail += 1;
            moved = board.now();
        } else {
            sleep(LOOK).await;
        }
    }
    let end = (first..next).map(|number| board.last(number)).max().unwrap_or_default();
    let delivered: u64 = (first..next).map(|number| u64::from(board.nodes(number).min(all))).sum();
    let sent = (bytes()? - before) as f64;
    let expected = course.saturated as u64 * u64::from(all);

    let memory = match processes {
        [] => pss_bytes("self").saturating_sub(course.base_pss),
        some => some.iter().map(|process| pss_bytes(&process.to_string())).sum(),
    };
    Ok(Row {
        name,
        class: "peer",
        nodes: course.nodes,
        size: course.size,
        p50_ms: quantile(0.5),
        p99_ms: quantile(0.99),
        deliveries_per_s: delivered as f64 / end.saturating_sub(begun).as_secs_f64(),
        bytes_vs_minimum: sent / (delivered as f64 * course.size as f64),
        memory_mb: memory as f64 / 1e6 / course.nodes as f64,
        idle_bytes_per_s: idle,
        lost: expected - delivered,
        note,
    })
}

/// Sends one message and waits until all have it: how long that took, or nothing after [`PATIENCE`].
async fn single(
    board: &Board,
    size: usize,
    next: &mut usize,
    all: u32,
    publish: &mut impl AsyncFnMut(Vec<u8>) -> bool,
) -> Option<Duration> {
    let number = *next;
    *next += 1;
    let begun = board.now();
    publish(Board::message(number, size)).await;
    while board.nodes(number) < all {
        if board.now().saturating_sub(begun) > PATIENCE {
            return None;
        }
        sleep(LOOK).await;
    }
    Some(board.last(number).saturating_sub(begun))
}
