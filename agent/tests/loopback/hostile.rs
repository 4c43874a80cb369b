//! Peers that mean harm: nothing they do may end, stop or fool a node.

use std::time::Duration;

use borgios_agent::channel::russh_key;
use borgios_agent::ledger::Admission;
use borgios_agent::ssh_client::{self, DialError};
use borgios_agent::ssh_server::STRANGER_CHANNELS_MAX;
use borgios_agent::wire::{Bye, Frame, Hello, PROTOCOL};
use borgios_policy::{Join, Lane, Object as _};
use borgios_types::limits::SIGNATURES_MAX;
use borgios_types::{Digest, Envelope, SecretKey, Seq};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::fleet::{Fleet, Server, until};

/// Longest wait for a node to close on a peer that misbehaves: its own patience is ten seconds, and
/// the machine may have other work.
const CLOSES: Duration = Duration::from_secs(60);

async fn still_works(fleet: &Fleet) {
    let note = fleet.board.note(&format!("still here {:?}", std::time::Instant::now()));
    assert_eq!(fleet.servers[0].put(&note).await["ok"]["new"], true);
    fleet.all_have(&note).await;
}

/// Sends bytes and reads until the node closes.
async fn closes_on(server: &Server, bytes: &[u8]) {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    // The node may close while this is still being written.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(CLOSES, stream.read_to_end(&mut answer)).await;
    assert!(closed.is_ok(), "the node kept the connection");
}

/// Dials as `key` and says each line, then returns the node's last frame.
async fn talk(server: &Server, key: &SecretKey, lines: Vec<String>) -> Option<Frame> {
    let cut = CancellationToken::new();
    let dialled =
        ssh_client::dial(&server.address(), server.me(), russh_key(key), cut).await.unwrap();
    let ssh_client::Dialled { mut reader, writer, session, .. } = dialled;
    let saying = async {
        for line in lines {
            if writer.send(line).await.is_err() {
                break;
            }
        }
    };
    let hearing = async {
        let mut last = None;
        while let Ok(Some(line)) = reader.next().await {
            last = Some(Frame::parse(&line).unwrap());
        }
        last
    };
    // A node that refuses reads on for a moment only.
    let talking = async {
        tokio::pin!(hearing, saying);
        tokio::select! {
            last = &mut hearing => last,
            () = &mut saying => hearing.await,
        }
    };
    let last = tokio::time::timeout(CLOSES, talking).await.expect("the node closes");
    drop(session);
    last
}

pub(crate) async fn refused_with(server: &Server, key: &SecretKey, lines: Vec<String>, code: &str) {
    match talk(server, key, lines).await {
        Some(Frame::Bye(bye)) => assert_eq!(bye.code, code, "{}", bye.message),
        other => panic!("expected bye {code}, got {other:?}"),
    }
}

/// Who dials and says goodbye before it showed that it is a member has nothing to tell: no statement comes
/// in that way, and nothing that waits for others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_last_word_brings_nothing() {
    let mut fleet = Fleet::of(1, 2).await;
    let policy = fleet.board.policy(3);
    let bye =
        Bye { code: "departed".into(), message: String::new(), because: vec![policy.clone()] };
    let key = SecretKey::from_seed([78; 32]);
    talk(&fleet.servers[0], &key, vec![Frame::Bye(bye).to_line()]).await;
    let id = policy.id();
    let known = async |server: &Server| {
        server.agent().ledger.run(move |l| l.chain().known(&id).is_some()).await
    };
    assert!(!known(&fleet.servers[0]).await, "a stranger's word was judged");
    assert_eq!(fleet.servers[0].put(&policy).await["ok"]["new"], true);
    assert!(known(&fleet.servers[0]).await);
}

/// What others and the next start would refuse to read is not taken in, by whatever door it comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_with_more_signatures_than_are_read_is_refused_by_the_ledger_itself() {
    let fleet = Fleet::of(1, 2).await;
    let mut note = fleet.board.note("signed by many");
    for seed in 0..SIGNATURES_MAX as u8 {
        note = note.sign(&SecretKey::from_seed([seed; 32]));
    }
    let admission = fleet.servers[0].agent().ledger.run(move |l| l.admit(note, "a link")).await;
    assert!(matches!(admission, Admission::Refused { .. }), "{admission:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_port_is_closed() {
    let fleet = Fleet::of(2, 2).await;
    let server = &fleet.servers[0];
    let noise: Vec<u8> =
        (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    closes_on(server, &noise).await;
    closes_on(server, b"SSH-2.0-x\r\n\xff\xff\xff\xff\xff\xff\xff\xff").await;
    closes_on(server, b"GET /etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    closes_on(server, b"GET /blobs/../../node.key HTTP/1.0\r\n\r\n").await;
    closes_on(server, &[b"GET /".as_slice(), &[b'a'; 100_000]].concat()).await;
    still_works(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_drips_bytes_or_says_nothing_is_cut_off() {
    let fleet = Fleet::of(1, 2).await;
    let server = &fleet.servers[0];
    // Says nothing at all.
    let silent = closes_on(server, b"");
    // One byte now and then, never a greeting.
    let drip = async {
        let stream = TcpStream::connect(server.address()).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        let dripping = async {
            while write.write_all(b"S").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let mut answer = Vec::new();
        tokio::select! {
            () = dripping => {}
            _ = read.read_to_end(&mut answer) => {}
            () = tokio::time::sleep(CLOSES) => panic!("the node kept the connection"),
        }
    };
    // A key that opens a channel and then says nothing.
    let key = SecretKey::from_seed([77; 32]);
    let mute = async { talk(server, &key, Vec::new()).await };
    let (_, _, last) = tokio::join!(silent, drip, mute);
    assert!(matches!(last, Some(Frame::Bye(bye)) if bye.code == "silent"));
    still_works(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_cannot_open_channels_without_end() {
    let fleet = Fleet::of(1, 2).await;
    let server = &fleet.servers[0];
    let key = SecretKey::from_seed([77; 32]);
    let dial = async || {
        let cut = CancellationToken::new();
        ssh_client::dial(&server.address(), server.me(), russh_key(&key), cut).await.unwrap()
    };
    // Each channel could hold a frame's worth of memory until its hello is overdue.
    let dialled = dial().await;
    let mut channels = Vec::new();
    while let Ok(channel) = dialled.session.channel_open_session().await {
        channel.request_subsystem(false, "peertree").await.unwrap();
        channels.push(channel);
        assert!(channels.len() < STRANGER_CHANNELS_MAX, "{} and the first", channels.len());
    }
    assert_eq!(channels.len(), STRANGER_CHANNELS_MAX - 1);
    drop(dialled);
    // What was closed again does not count.
    let dialled = dial().await;
    for _ in 0..8 * STRANGER_CHANNELS_MAX {
        let channel = dialled.session.channel_open_session().await.expect("a place is free");
        channel.close().await.unwrap();
    }
    still_works(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_with_a_reason() {
    let fleet = Fleet::of(2, 2).await;
    let server = &fleet.servers[0];
    let stranger = SecretKey::from_seed([77; 32]);
    let network = fleet.board.network();
    let hello = |membership: Vec<Envelope>| {
        Frame::Hello(Hello { protocol: PROTOCOL, network, membership }).to_line()
    };
    refused_with(server, &stranger, vec![hello(Vec::new())], "unknown_member").await;
    // Somebody else's record does not help.
    let member = fleet.servers[1].me();
    let records = fleet.servers[1].agent().ledger.run(move |l| l.membership(&member)).await;
    refused_with(server, &stranger, vec![hello(records)], "unknown_member").await;
    // Nor does it bring anything that is no proof.
    let note = fleet.board.note("brought by a stranger");
    refused_with(server, &stranger, vec![hello(vec![note.clone()])], "wrong_kind").await;
    let note = note.id();
    assert!(server.agent().ledger.run(move |l| l.store().get(&note).is_none()).await);
    let other = Hello { protocol: PROTOCOL, network: stranger_network(), membership: Vec::new() };
    refused_with(server, &stranger, vec![Frame::Hello(other).to_line()], "wrong_network").await;
    let old = Hello { protocol: 9, network, membership: Vec::new() };
    refused_with(server, &stranger, vec![Frame::Hello(old).to_line()], "protocol").await;
    refused_with(server, &stranger, vec!["\"leave\"".into()], "unexpected").await;
    refused_with(server, &stranger, vec!["[".repeat(100_000)], "malformed").await;
    refused_with(server, &stranger, vec!["x".repeat(3 * 1024 * 1024)], "too_large").await;
    // Whoever expects another server at this address does not talk to this one.
    let cut = CancellationToken::new();
    let address = server.address();
    let wrong = ssh_client::dial(&address, stranger.public(), russh_key(&stranger), cut).await;
    assert!(matches!(wrong, Err(DialError::WrongKey { .. })));
    still_works(&fleet).await;
}

fn stranger_network() -> borgios_types::Digest {
    borgios_types::Digest::of(b"another network")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_objects_are_refused_by_name() {
    let mut fleet = Fleet::of(2, 2).await;
    let server = &fleet.servers[0];
    let code = async |envelope: &Envelope| server.put(envelope).await["error"]["code"].clone();
    let mut note = fleet.board.note("one");
    note.payload = note.payload.replace("one", "two");
    assert_eq!(code(&note).await, "bad_signature");
    let long = fleet.board.note(&"x".repeat(10_000));
    assert_eq!(code(&long).await, "bad_body");
    let twice = Envelope { payload: r#"{"text":"a","text":"b"}"#.into(), ..fleet.board.note("x") };
    assert_eq!(code(&twice).await, "malformed");
    let release = serde_json::json!({"version": "1", "components": [], "floor": 1});
    let fine = fleet.board.statement(borgios_policy::Lane::Release, release);
    assert_eq!(fleet.servers[0].put(&fine).await["error"]["code"], "bad_body");
    let server = &fleet.servers[0];
    let mut forged = fine.clone();
    forged.sigs[0].sig.0[5] ^= 1;
    assert_eq!(server.put(&forged).await["error"]["code"], "bad_signature");
    let raw = format!(
        r#"{{"put":"envelope","envelope":{{"type":"note","payload":"{}"}}}}"#,
        "x".repeat(700_000)
    );
    let answer = server.agent().api.request(&borgios_agent::api::Caller::Local, &raw).await;
    assert_eq!(answer["error"]["code"], "too_large");
    for nonsense in ["", "[]", "{}", r#"{"get":"everything"}"#, &"{\"get\":".repeat(10_000)] {
        let caller = borgios_agent::api::Caller::Local;
        let answer = server.agent().api.request(&caller, nonsense).await;
        assert_eq!(answer["error"]["code"], "bad_request");
    }
    still_works(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_nobody_do_not_crowd_out_statements_that_wait() {
    let mut fleet = Fleet::of(1, 2).await;
    let blob = serde_json::json!({"digest": stranger_network(), "size": 1});
    let body = serde_json::json!({
        "version": "1", "installer": blob, "urls": [], "floor": 1, "notes": "",
        "components": [{"name": "hello", "digest": stranger_network(), "size": 1}],
    });
    let first = fleet.board.statement(Lane::Release, body.clone());
    let second = fleet.board.statement(Lane::Release, body);
    let server = &fleet.servers[0];
    assert_eq!(server.put(&second).await["error"]["code"], "gap");
    let key = SecretKey::from_seed([77; 32]);
    let now = borgios_agent::clock::unix_now();
    for n in 0..300_u32 {
        let record = Join {
            owner: None,
            network: fleet.board.network(),
            node: key.public(),
            keeper: SecretKey::from_seed([78; 32]).public(),
            name: "nobody".parse().unwrap(),
            address: None,
            invitation: Digest::of(&n.to_be_bytes()),
            issued: now,
            expires: now.plus(60),
        };
        let answer = server.put(&record.to_envelope().sign(&key)).await;
        assert_eq!(answer["error"]["code"], "unknown_invitation");
    }
    assert_eq!(server.put(&first).await["ok"]["new"], true);
    let head = server.agent().ledger.run(|l| l.chain().head_seq(Lane::Release)).await;
    assert_eq!(head, Seq(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_ten_thousand_bytes_change_nothing() {
    let fleet = Fleet::of(1, 2).await;
    let server = &fleet.servers[0];
    let long = "n".repeat(10_000);
    for request in [
        serde_json::json!({"get": "objects", "kind": long}),
        serde_json::json!({"get": long}),
        serde_json::json!({"put": "blob", "digest": long, "size": 1, "offset": 0, "bytes": ""}),
    ] {
        let answer = server.ask(request).await;
        assert!(answer.to_string().len() < 1_000 + 10_000);
    }
    let key = SecretKey::from_seed([77; 32]);
    let frame = format!("{{\"follow\":{{\"lane\":\"{long}\",\"after\":0}}}}");
    refused_with(server, &key, vec![frame], "malformed").await;
    until("it still has its place", async || server.attached()).await;
    still_works(&fleet).await;
}
