//! What servers say to all: over real pipes, through deaths, each message once and in order.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use borgios_agent::api::Caller;
use borgios_agent::channel::russh_key;
use borgios_agent::ssh_client::{self, DialError};
use borgios_types::SecretKey;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::fleet::{Fleet, Server, until};

async fn say(server: &Server, text: &str) -> Value {
    server.ask(json!({"put": "message", "kind": "test", "bytes": BASE64.encode(text)})).await
}

/// Waits until the hub runs.
async fn ready(server: &Server) {
    until("streams are open", async || {
        server.ask(json!({"get": "streams"})).await.get("ok").is_some()
    })
    .await;
}

/// What a reader with a cursor has read: it begins after it each time, as one that stores it would.
struct Reader {
    origin: Value,
    cursor: Value,
    read: Vec<String>,
}

impl Reader {
    fn of(origin: &Server) -> Self {
        Self { origin: json!(origin.me()), cursor: Value::Null, read: Vec::new() }
    }

    async fn reads(&mut self, at: &Server) {
        let (origin, cursor) = (self.origin.clone(), self.cursor.clone());
        let request = json!({"get": "messages", "origin": origin, "position": cursor});
        let answer = at.ask(request).await;
        let Some(page) = answer.get("ok") else { return };
        assert!(page["gone"].is_null(), "{page}");
        for message in page["messages"].as_array().unwrap() {
            let bytes = BASE64.decode(message["bytes"].as_str().unwrap()).unwrap();
            self.read.push(String::from_utf8(bytes).unwrap());
            self.cursor = json!({"epoch": message["epoch"], "number": message["number"]});
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_says_all_read_once_in_order_through_deaths() {
    const MESSAGES: usize = 200;
    let mut fleet = Fleet::of(5, 2).await;
    for server in &fleet.servers {
        ready(server).await;
    }
    let root = fleet.servers[0].root();
    let top = fleet.servers.iter().position(|server| server.me() == root).unwrap();
    let (speaker, other) = if top == 4 { (3, 2) } else { (4, if top == 3 { 2 } else { 3 }) };
    let mut readers: Vec<Reader> =
        fleet.servers.iter().map(|_| Reader::of(&fleet.servers[speaker])).collect();
    for n in 0..MESSAGES {
        let receipt = say(&fleet.servers[speaker], &format!("message {n}")).await;
        assert_eq!(receipt["ok"]["number"], n as u64 + 1, "{receipt}");
        match n {
            // The root dies, later another one does; both come back.
            50 => fleet.servers[top].kill().await,
            90 => fleet.servers[other].kill().await,
            120 => fleet.servers[top].start().await,
            150 => fleet.servers[other].start().await,
            _ => {}
        }
        if n % 40 == 0 {
            for (server, reader) in fleet.servers.iter().zip(&mut readers) {
                if server.running.is_some() {
                    reader.reads(server).await;
                }
            }
        }
    }
    fleet.whole().await;
    let expected: Vec<String> = (0..MESSAGES).map(|n| format!("message {n}")).collect();
    for (server, reader) in fleet.servers.iter().zip(&mut readers) {
        until("everything is read", async || {
            reader.reads(server).await;
            reader.read.len() >= MESSAGES
        })
        .await;
        assert_eq!(reader.read, expected);
    }
    // The receipt: who has it.
    let origin = json!(fleet.servers[speaker].me());
    let epoch = readers[0].cursor["epoch"].clone();
    let item = json!({"message": {"origin": origin, "epoch": epoch, "number": MESSAGES}});
    let question = json!({"about": "received", "item": item});
    until("the fleet says who has it", async || {
        let answer =
            fleet.servers[top].ask(json!({"get": "ask", "question": question})).await["ok"].clone();
        answer["histogram"]["yes"] == 5 && answer["members"] == 5
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_speaker_goes_on_where_it_ended_after_its_own_death() {
    let mut fleet = Fleet::of(2, 2).await;
    ready(&fleet.servers[1]).await;
    let first = say(&fleet.servers[1], "before").await["ok"].clone();
    fleet.servers[1].kill().await;
    fleet.servers[1].start().await;
    fleet.whole().await;
    ready(&fleet.servers[1]).await;
    let second = say(&fleet.servers[1], "after").await["ok"].clone();
    assert_eq!(first["origin"], second["origin"]);
    let place = |receipt: &Value| (receipt["epoch"].as_u64(), receipt["number"].as_u64());
    assert!(place(&first) < place(&second), "{first} {second}");
    let mut reader = Reader::of(&fleet.servers[1]);
    until("both are read", async || {
        reader.reads(&fleet.servers[0]).await;
        reader.read.len() == 2
    })
    .await;
    assert_eq!(reader.read, ["before", "after"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_server_itself_speaks_and_only_neighbours_have_pipes() {
    let fleet = Fleet::of(2, 2).await;
    let server = &fleet.servers[0];
    ready(server).await;
    let request =
        json!({"put": "message", "kind": "test", "bytes": BASE64.encode("x")}).to_string();
    let governor = Caller::Key(fleet.board.governor(0).public());
    let answer = server.agent().api.request(&governor, &request).await;
    assert_eq!(answer["error"]["code"], "local_only", "{answer}");
    let stranger = Caller::Key(SecretKey::from_seed([77; 32]).public());
    let answer = server.agent().api.request(&stranger, &request).await;
    assert_eq!(answer["error"]["code"], "not_a_governor");
    for (bad, code) in [
        (json!({"put": "message", "kind": "no kind at all", "bytes": ""}), "bad_kind"),
        (json!({"put": "message", "kind": "test", "bytes": "?"}), "bad_request"),
        (json!({"put": "message", "kind": "test"}), "bad_request"),
        (json!({"get": "messages"}), "bad_request"),
    ] {
        assert_eq!(server.ask(bad).await["error"]["code"], code);
    }
    let long = BASE64.encode(vec![7; 256 * 1024 + 1]);
    let long = server.ask(json!({"put": "message", "kind": "test", "bytes": long})).await;
    assert_eq!(long["error"]["code"], "too_large");
    // A key that is no member's gets no pipe at all.
    let key = russh_key(&SecretKey::from_seed([77; 32]));
    let cut = CancellationToken::new();
    let dialled = ssh_client::dial_stream(&server.address(), server.me(), key, cut).await;
    assert!(matches!(dialled, Err(DialError::NoSubsystem)));
}

/// Whoever is put out is heard no more, wherever it speaks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_evicted_is_heard_no_more() {
    let mut fleet = Fleet::of(3, 2).await;
    for server in &fleet.servers {
        ready(server).await;
    }
    let mut reader = Reader::of(&fleet.servers[2]);
    assert!(say(&fleet.servers[2], "a member").await.get("ok").is_some());
    until("it is heard", async || {
        reader.reads(&fleet.servers[0]).await;
        reader.read.len() == 1
    })
    .await;
    let out = fleet.servers[2].me();
    let eviction = fleet
        .board
        .statement(borgios_policy::Lane::Member, json!({"evict": [out], "reason": "a test"}));
    assert_eq!(fleet.servers[0].put(&eviction).await["ok"]["new"], true);
    until("its links are gone", async || fleet.servers[2].agent().tree.view().borrow().links == 0)
        .await;
    let _ = say(&fleet.servers[2], "an outsider").await;
    // What the others say still spreads, so there was time for it.
    let mut other = Reader::of(&fleet.servers[1]);
    assert!(say(&fleet.servers[1], "still here").await.get("ok").is_some());
    until("the others go on", async || {
        other.reads(&fleet.servers[0]).await;
        other.read.len() == 1
    })
    .await;
    tokio::time::timeout(Duration::from_secs(1), reader.reads(&fleet.servers[0])).await.unwrap();
    assert_eq!(reader.read, ["a member"]);
}
