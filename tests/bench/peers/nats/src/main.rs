//! nats-server as a peer of the tree's benchmark: a tree of leaf nodes with fan-out 8, no TLS, unsigned.
//!
//! ```text
//! us ── PUB ──▶ server 0 ──▶ 8 leaf nodes ──▶ … ── MSG ──▶ us, one subscriber at each server
//! ```
//!
//! Needs the program `nats-server` (Debian: `nats-server`). The subscribers' links run over `lo` as well: half of the
//! bytes counted are theirs.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use peers_measure::{Board, Course, run};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

const NAME: &str = "nats";
const NOTE: &str =
    "a tree of leaf nodes: no TLS, unsigned; bytes include those of the subscribers' links";
/// Server `n` serves clients here and `n` above, leaf nodes 1,000 above that.
const PORT: usize = 30_000;
const LEAF_PORT: usize = PORT + 1_000;
/// Children of a server.
const FANOUT: usize = 8;
/// Messages of the saturated part, and how many are on their way at once.
const SATURATED: usize = 20_000;
const WINDOW: usize = 512;
/// Until every server has told the others what it is subscribed to.
const FORMING: Duration = Duration::from_secs(6);

type Failed = Box<dyn std::error::Error + Send + Sync>;

fn config(node: usize) -> String {
    let remote = match node {
        0 => String::new(),
        _ => format!(
            "remotes [ {{ url: \"nats-leaf://127.0.0.1:{}\" }} ]",
            LEAF_PORT + (node - 1) / FANOUT
        ),
    };
    format!(
        "host: 127.0.0.1\nport: {}\nserver_name: n{node}\nleafnodes {{\nhost: 127.0.0.1\nport: {}\n{remote}\n}}\n",
        PORT + node,
        LEAF_PORT + node
    )
}

fn serve(node: usize, folder: &Path) -> Result<Child, Failed> {
    let path = folder.join(format!("{node}.conf"));
    std::fs::write(&path, config(node))?;
    let mut command = Command::new("nats-server");
    command.arg("-c").arg(&path).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    // Two cores for all of them: a thread per core in each would only be in the way.
    Ok(command.env("GOMAXPROCS", "2").spawn()?)
}

/// A client of this server; the first line it sends is `INFO`.
async fn client(node: usize) -> Result<(BufReader<OwnedReadHalf>, OwnedWriteHalf), Failed> {
    let port = u16::try_from(PORT + node)?;
    let mut tries = 0;
    let stream = loop {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
            Ok(stream) => break stream,
            Err(_) if tries < 100 => tries += 1,
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    stream.set_nodelay(true)?;
    let (reading, mut writing) = stream.into_split();
    writing.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false}\r\n").await?;
    Ok((BufReader::with_capacity(65_536, reading), writing))
}

/// Reads what a server says: messages go to the board, pings are answered through `replies`.
async fn listen(
    mut reading: BufReader<OwnedReadHalf>,
    replies: mpsc::Sender<Vec<u8>>,
    board: Board,
    size: usize,
) {
    let mut line = String::new();
    let mut message = vec![0; size + 2];
    loop {
        line.clear();
        match reading.read_line(&mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) if line.starts_with("MSG ") => {
                if reading.read_exact(&mut message).await.is_err() {
                    return;
                }
                board.seen(&message);
            }
            Ok(_) if line.starts_with("PING") => {
                if replies.send(b"PONG\r\n".to_vec()).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
        }
    }
}

/// One task writes, so that an answer to a ping never falls into a message.
fn writer(mut writing: OwnedWriteHalf) -> mpsc::Sender<Vec<u8>> {
    let (orders, mut ordered) = mpsc::channel::<Vec<u8>>(WINDOW);
    tokio::spawn(async move {
        while let Some(bytes) = ordered.recv().await {
            if writing.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    orders
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Failed> {
    let course = Course::from_args(SATURATED, WINDOW)?;
    let folder: PathBuf = std::env::temp_dir().join(format!("peer-nats.{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let measured = measure(&course, &folder).await;
    std::fs::remove_dir_all(&folder)?;
    println!("{}", measured?);
    Ok(())
}

async fn measure(course: &Course, folder: &Path) -> Result<String, Failed> {
    let mut servers = Vec::new();
    for node in 0..course.nodes {
        servers.push(serve(node, folder)?);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let board = Board::default();
    let mut kept = Vec::new();
    for node in 1..course.nodes {
        let (reading, mut writing) = client(node).await?;
        writing.write_all(b"SUB bench 1\r\n").await?;
        let orders = writer(writing);
        tokio::spawn(listen(reading, orders.clone(), board.clone(), course.size));
        kept.push(orders);
    }
    let (reading, writing) = client(0).await?;
    let orders = writer(writing);
    tokio::spawn(listen(reading, orders.clone(), board.clone(), course.size));
    tokio::time::sleep(FORMING).await;
    let publish = async |message: Vec<u8>| {
        let mut bytes = format!("PUB bench {}\r\n", message.len()).into_bytes();
        bytes.extend(message);
        bytes.extend(b"\r\n");
        orders.send(bytes).await.is_ok()
    };
    let processes: Vec<u32> = servers.iter().filter_map(Child::id).collect();
    let row = run(NAME, NOTE, course, &board, &processes, publish).await?;
    Ok(serde_json::to_string(&row)?)
}
