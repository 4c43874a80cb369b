//! Serf as a peer of the tree's benchmark: user events over SWIM's gossip, no encryption, unsigned.
//!
//! ```text
//! us ── event ──▶ agent 0 ~~ UDP gossip ~~▶ every agent ── stream ──▶ us, one client at each
//! ```
//!
//! Needs the program `serf` (Debian: `serf`). Its limit for an event is raised to what is sent; the clients' links run
//! over `lo` as well, and their bytes are counted.

mod rpc;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use peers_measure::{Board, Course, run};
use rmpv::Value;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::rpc::Rpc;

const NAME: &str = "serf";
const NOTE: &str = "gossip over UDP: not encrypted, unsigned; at most 50 single messages; bytes include those of the clients' links";
/// Agent `n` gossips here and `n` above, and serves its RPC 1,000 above that.
const PORT: usize = 32_000;
const RPC_PORT: usize = PORT + 1_000;
/// Messages of the saturated part, and how many are on their way at once: it spreads some tens a second.
const SATURATED: usize = 200;
const WINDOW: usize = 16;
/// Single messages, at most: each takes about half a second.
const SINGLES_MAX: usize = 50;
/// Until the members know each other.
const FORMING: Duration = Duration::from_secs(20);

type Failed = Box<dyn std::error::Error + Send + Sync>;

fn serve(node: usize, size: usize, folder: &Path) -> Result<Child, Failed> {
    let path = folder.join(format!("{node}.json"));
    let limit = (size + 128).max(512);
    std::fs::write(&path, format!("{{\"user_event_size_limit\": {limit}}}"))?;
    let mut command = Command::new("serf");
    command.arg("agent").arg(format!("-node=n{node}"));
    command.arg(format!("-bind=127.0.0.1:{}", PORT + node));
    command.arg(format!("-rpc-addr=127.0.0.1:{}", RPC_PORT + node));
    command.arg("-config-file").arg(&path);
    if node > 0 {
        command.arg(format!("-retry-join=127.0.0.1:{PORT}")).arg("-retry-interval=1s");
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    // Two cores for all of them: a thread per core in each would only be in the way.
    Ok(command.env("GOMAXPROCS", "2").spawn()?)
}

/// Hears every event at one agent, in a thread of its own.
fn listen(port: u16, board: Board) -> Result<(), Failed> {
    let mut rpc = Rpc::connect(port)?;
    rpc.ask("stream", vec![("Type".into(), "user:bench".into())])?;
    rpc.accepted()?;
    std::thread::spawn(move || {
        while let Ok(message) = rpc.event() {
            board.seen(&message);
        }
    });
    Ok(())
}

/// One thread says what is to be said, each once the one before it was accepted.
fn speaker(port: u16) -> Result<mpsc::Sender<Vec<u8>>, Failed> {
    let mut rpc = Rpc::connect(port)?;
    let (orders, mut ordered) = mpsc::channel::<Vec<u8>>(WINDOW);
    std::thread::spawn(move || {
        while let Some(message) = ordered.blocking_recv() {
            let body = vec![
                ("Name".into(), "bench".into()),
                ("Payload".into(), Value::Binary(message)),
                ("Coalesce".into(), false.into()),
            ];
            if let Err(error) = rpc.ask("event", body).and_then(|()| rpc.accepted()) {
                eprintln!("serf: {error}");
                return;
            }
        }
    });
    Ok(orders)
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Failed> {
    let mut course = Course::from_args(SATURATED, WINDOW)?;
    course.singles = course.singles.min(SINGLES_MAX);
    let folder: PathBuf = std::env::temp_dir().join(format!("peer-serf.{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let measured = measure(&course, &folder).await;
    std::fs::remove_dir_all(&folder)?;
    println!("{}", measured?);
    Ok(())
}

async fn measure(course: &Course, folder: &Path) -> Result<String, Failed> {
    let mut agents = Vec::new();
    for node in 0..course.nodes {
        agents.push(serve(node, course.size, folder)?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let board = Board::default();
    for node in 1..course.nodes {
        listen(u16::try_from(RPC_PORT + node)?, board.clone())?;
    }
    let orders = speaker(u16::try_from(RPC_PORT)?)?;
    tokio::time::sleep(FORMING).await;
    let publish = async |message: Vec<u8>| orders.send(message).await.is_ok();
    let processes: Vec<u32> = agents.iter().filter_map(Child::id).collect();
    let row = run(NAME, NOTE, course, &board, &processes, publish).await?;
    Ok(serde_json::to_string(&row)?)
}
