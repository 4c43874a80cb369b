//! Floods, slow readers and slow lines: what they cost is bounded, and the others do not notice.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use borgios_agent::channel::russh_key;
use borgios_agent::ssh_client;
use borgios_policy::Lane;
use borgios_types::{Digest, SecretKey};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::fleet::{Fleet, Server, until};

/// Connections that the flood makes.
const FLOOD: usize = 10_000;
/// What the whole process may grow by meanwhile, in bytes: it holds both sides of every connection.
/// The gate lets 640 unproved connections be open at a time.
const GROWTH_MAX: usize = 192 * 1024 * 1024;
/// Longest that an honest dial may take during the flood: the tree gives up after 3 s.
const DIAL_MAX: Duration = Duration::from_secs(3);

/// Bytes of memory this process has in use.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

async fn connect(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(to).await
}

/// One hostile connection: silence, a greeting that never ends, garbage, half a key exchange, a
/// request that never ends.
async fn attack(n: usize, to: SocketAddr) {
    let from = Ipv4Addr::new(127, 66, 0, u8::try_from(n % 40).unwrap() + 1);
    let Ok(mut stream) = connect(from, to).await else { return };
    let said: &[u8] = match n % 5 {
        0 => b"",
        1 => b"SSH-2.0-",
        2 => &[0xff; 4096],
        3 => b"SSH-2.0-x\r\n\0\0\x10\0",
        _ => b"GET /blobs/",
    };
    // The node may have cut it off already.
    let _ = stream.write_all(said).await;
    let dripping = async {
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(4), dripping).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_hostile_connections_cost_little_and_keep_nobody_out() {
    let mut fleet = Fleet::of(2, 2).await;
    let to: SocketAddr = fleet.servers[0].address().parse().unwrap();
    let (before, begun) = (resident(), Instant::now());
    let made = Arc::new(AtomicUsize::new(0));
    // As many open at a time as the gate would have to refuse several times over.
    let open = Arc::new(tokio::sync::Semaphore::new(2_500));
    let flood = tokio::spawn({
        let made = made.clone();
        async move {
            for n in 0..FLOOD {
                let permit = open.clone().acquire_owned().await.unwrap();
                made.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    attack(n, to).await;
                    drop(permit);
                });
            }
        }
    });
    until("the flood is on", async || made.load(Ordering::Relaxed) > 2_000).await;
    // Whoever has a key may dial meanwhile, from an address of its own or one that is attacked from.
    let (mut worst, mut peak, mut dials) = (Duration::ZERO, 0, 0);
    let stranger = russh_key(&SecretKey::from_seed([77; 32]));
    while !flood.is_finished() {
        let dialling = Instant::now();
        let (to, me, cut) = (to.to_string(), fleet.servers[0].me(), CancellationToken::new());
        let dialled = ssh_client::dial(&to, me, stranger.clone(), cut).await;
        assert!(dialled.is_ok(), "dial {dials}: {:?}", dialled.err());
        worst = worst.max(dialling.elapsed());
        peak = peak.max(resident());
        dials += 1;
    }
    let lasted = begun.elapsed();
    // A newcomer joins through the attacked node, and the members never lost each other.
    fleet.join().await;
    peak = peak.max(resident());
    let note = fleet.board.note("through the flood");
    assert_eq!(fleet.servers[2].put(&note).await["ok"]["new"], true);
    fleet.all_have(&note).await;
    let growth = peak.saturating_sub(before);
    println!(
        "{FLOOD} hostile connections in {lasted:?}: memory grew by {} KiB, {dials} honest dials, \
         the slowest took {worst:?}",
        growth / 1024
    );
    assert!(growth < GROWTH_MAX, "grew by {growth} bytes");
    assert!(dials > 0 && worst < DIAL_MAX, "{dials} dials, the slowest took {worst:?}");
}

/// A line between two servers that carries `rate` bytes a second each way.
async fn slow_line(to: String, rate: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(&to).await else { continue };
            let (near, far) = (near.into_split(), far.into_split());
            tokio::spawn(drip(near.0, far.1, rate));
            tokio::spawn(drip(far.0, near.1, rate));
        }
    });
    address
}

async fn drip(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    rate: usize,
) {
    let mut chunk = vec![0; rate / 50];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        if to.write_all(&chunk[..read]).await.is_err() {
            return;
        }
        tokio::time::sleep(
            Duration::from_secs(1) * u32::try_from(read).unwrap() / u32::try_from(rate).unwrap(),
        )
        .await;
    }
}

fn put_blob(server: &Server, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    let mut receiving = server.agent().depot.receive(digest, bytes.len() as u64).unwrap();
    receiving.write(bytes).unwrap();
    receiving.finish().unwrap();
    digest
}

fn release(component: Digest, size: usize) -> serde_json::Value {
    json!({
        "version": "1",
        "components": [{"name": "app", "digest": component, "size": size}],
        "installer": {"digest": component, "size": size},
        "floor": 1,
    })
}

/// The node that nobody can dial holds the only copy; it travels from link to link.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_on_a_node_that_nobody_can_dial_reaches_everybody() {
    let mut fleet = Fleet::shaped(4, |at, settings| {
        if at == 3 {
            settings.advertise = None;
        }
    })
    .await;
    let bytes: Vec<u8> = (0..400_000_u32).map(|n| (n % 251) as u8).collect();
    let digest = put_blob(&fleet.servers[3], &bytes);
    let statement = fleet.board.statement(Lane::Release, release(digest, bytes.len()));
    assert_eq!(fleet.servers[0].put(&statement).await["ok"]["new"], true);
    for server in &fleet.servers {
        until("the release is installed", async || server.keeper.installed() == 1).await;
        assert_eq!(std::fs::read(server.agent().depot.path(&digest)).unwrap(), bytes);
    }
}

/// A blob crosses a slow line that two neighbours share with their heartbeats and questions; the
/// line is busy for seconds, and no question waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_on_a_slow_line_delays_no_heartbeat() {
    const RATE: usize = 500_000;
    let mut fleet = Fleet::of(1, 2).await;
    let line = slow_line(fleet.servers[0].address(), RATE).await;
    let member = borgios_policy::Member { address: line, key: fleet.servers[0].me() };
    let mut leaf = fleet.prepare(vec![member]);
    // Nobody can dial it, so the blob must come over its link.
    leaf.settings.advertise = None;
    leaf.start().await;
    until("it has a place", async || leaf.attached()).await;
    let bytes = vec![7; 1_500_000];
    let digest = put_blob(&leaf, &bytes);
    let links = leaf.agent().tree.view().borrow().clone();
    let statement = fleet.board.statement(Lane::Release, release(digest, bytes.len()));
    let root = &fleet.servers[0];
    let begun = Instant::now();
    assert_eq!(root.put(&statement).await["ok"]["new"], true);
    let (mut worst, mut asked) = (Duration::ZERO, 0);
    while root.agent().depot.size(&digest).is_none() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the blob never came");
        let asking = Instant::now();
        let tree = leaf.ask(json!({"get": "tree"})).await["ok"].clone();
        assert_eq!(tree["nodes"].as_array().unwrap().len(), 2, "{tree}");
        worst = worst.max(asking.elapsed());
        asked += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = begun.elapsed();
    println!("{} bytes in {took:?}; {asked} questions, the slowest took {worst:?}", bytes.len());
    assert!(took > Duration::from_secs(2), "the line was not busy: {took:?}");
    // What is under way is 0.25 s of this line and a piece more; a death takes 2.4 s of silence.
    assert!(asked > 5 && worst < Duration::from_millis(1_500), "{asked}: {worst:?}");
    assert_eq!(leaf.agent().tree.view().borrow().path, links.path, "it never lost its place");
}

/// A reader that asks for a blob and then does not read it has a connection of its own: the tree
/// does not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_download_is_nobody_elses_business() {
    let fleet = Fleet::of(2, 2).await;
    let digest = put_blob(&fleet.servers[0], &vec![7; 8_000_000]);
    let mut readers = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(fleet.servers[0].address()).await.unwrap();
        let request = format!("GET /blobs/{} HTTP/1.1\r\nHost: x\r\n\r\n", digest.hex());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut some = [0; 1024];
        assert!(stream.read(&mut some).await.unwrap() > 0);
        readers.push(stream);
    }
    let mut worst = Duration::ZERO;
    for n in 0..10 {
        let note = fleet.board.note(&format!("beside a download {n}"));
        let begun = Instant::now();
        assert_eq!(fleet.servers[0].put(&note).await["ok"]["new"], true);
        fleet.all_have(&note).await;
        worst = worst.max(begun.elapsed());
    }
    println!("20 downloads stand still; the slowest of 10 broadcasts took {worst:?}");
    assert!(worst < Duration::from_secs(1), "{worst:?}");
    drop(readers);
}
