//! What a node signs of a governor's ballots, with the real program and a stand-in for a node that speaks
//! SSH: one that lies, and one that has what it names.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use crate::board::{Board, copy};
use borgios_policy::{Handback, Object as _};
use borgios_types::{Digest, Envelope, SecretKey, UnixSeconds};
use russh::Channel;
use russh::keys::PrivateKey;
use russh::server::{self, Auth, ChannelOpenHandle, Msg, Session, VerifiedPublicKey};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

/// A node that says what a test wants.
#[derive(Clone)]
struct Node {
    key: SecretKey,
    network: Digest,
    /// What its handbacks say.
    counter: u64,
    ballots: Vec<Digest>,
    /// What it lists nowhere, and hands over to whoever asks for it by its id.
    hidden: Vec<Envelope>,
    /// The types of the objects that it was brought.
    brought: Arc<Mutex<Vec<String>>>,
}

impl Node {
    /// One that knows nothing.
    fn of(board: &Board, number: u8) -> Self {
        let text = std::fs::read(board.home("ann").join("governor/board.json")).unwrap();
        let membership: Value = serde_json::from_slice(&text).unwrap();
        Self {
            key: SecretKey::from_seed([number; 32]),
            network: serde_json::from_value(membership["network"].clone()).unwrap(),
            counter: 0,
            ballots: Vec::new(),
            hidden: Vec::new(),
            brought: Arc::default(),
        }
    }

    /// Listens until the test program ends; its address.
    fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, node) = (listener.local_addr().unwrap(), self.clone());
        // Not joined: a failing assertion must not wait for a next connection.
        std::thread::spawn(move || serve(listener, &node));
        address.to_string()
    }

    fn answer(&self, request: &Value) -> Value {
        if let Some(kind) = request["envelope"]["type"].as_str() {
            self.brought.lock().unwrap().push(kind.to_owned());
            return json!({"ok": {}});
        }
        match request["get"].as_str().unwrap_or_default() {
            "ids" => json!({"ok": {"ids": []}}),
            "objects" => {
                let ids: Option<Vec<Digest>> =
                    serde_json::from_value(request["ids"].clone()).unwrap();
                let asked =
                    |one: &&Envelope| ids.as_ref().is_some_and(|ids| ids.contains(&one.id()));
                let objects: Vec<&Envelope> = self.hidden.iter().filter(asked).collect();
                json!({"ok": {"objects": objects}})
            }
            "handback" => {
                let handback = Handback {
                    network: self.network,
                    node: self.key.public(),
                    governor: serde_json::from_value(request["governor"].clone()).unwrap(),
                    challenge: serde_json::from_value(request["challenge"].clone()).unwrap(),
                    counter: self.counter,
                    ballots: self.ballots.clone(),
                    at: UnixSeconds(1),
                };
                json!({"ok": handback.to_envelope().sign(&self.key)})
            }
            _ => json!({"error": {"code": "bad_request", "message": "not here"}}),
        }
    }
}

/// Lets everybody in, and answers.
fn serve(listener: TcpListener, node: &Node) {
    let key = PrivateKey::from_openssh(node.key.to_openssh("").as_str()).unwrap();
    let config = server::Config { keys: vec![key], nodelay: true, ..server::Config::default() };
    let config = Arc::new(config);
    listener.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((stream, _)) = listener.accept().await {
            let (config, guest) = (Arc::clone(&config), Guest(node.clone()));
            tokio::spawn(async move {
                if let Ok(running) = server::run_stream(config, stream, guest).await {
                    // How it ends is the program's to say.
                    let _ = running.await;
                }
            });
        }
    });
}

/// One connection.
struct Guest(Node);

impl server::Handler for Guest {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        _user: &str,
        _key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        tokio::spawn(converse(channel, self.0.clone()));
        Ok(())
    }
}

/// One request a line, one answer a line, until the program has heard enough.
async fn converse(channel: Channel<Msg>, node: Node) {
    let mut stream = BufReader::new(channel.into_stream());
    let mut line = String::new();
    while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
        let request: Value = serde_json::from_str(&line).unwrap();
        let answer = format!("{}\n", node.answer(&request));
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        line.clear();
    }
}

/// Ann and ben, who found a network; release/1 is proposed.
fn founded() -> Board {
    let names = ["ann", "ben"];
    let board = Board::of(&names);
    board.found(&names, 2);
    board.propose("ben", "1.0");
    board
}

/// Made-up ids, or a made-up count, stop a vote until its governor asks others; no nonces are burnt for it.
#[test]
fn a_node_that_lies_is_named_and_can_be_left_out() {
    let board = founded();
    board.ok("ann", &["review", "release/1"]);
    let honest = [21, 22].map(|number| Node::of(&board, number).start());
    let [one, two] = honest.each_ref().map(String::as_str);
    let made_up = Digest::of(b"made up");
    for (number, counter, ballots) in [(11, 0, vec![made_up]), (12, 99, Vec::new())] {
        let liar = Node { counter, ballots, ..Node::of(&board, number) };
        let (at, key) = (liar.start(), liar.key.public().to_string());
        let vote = ["vote", "release/1", "approve", "--node", at.as_str()];
        let all = [&vote[..], &["--node", one, "--node", two]].concat();
        let said = board.refused("ann", &all);
        let others = format!("`--node {one} --node {two}`");
        for part in [
            "[E_CLONE]",
            "may not be the newest copy",
            at.as_str(),
            key.as_str(),
            "that server's word alone",
            "2 other servers were asked and do not say so",
            others.as_str(),
            "`borgios governor repair --anew --exchange /",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let said = board.refused("ann", &vote);
        assert!(said.contains("no other server answered"), "{said}");
        assert!(said.contains("`--node HOST:PORT`"), "{said}");
    }
    // What the refusal advises.
    let vote = ["vote", "release/1", "approve", "--node", one, "--node", two];
    assert_eq!(board.json("ann", &vote)["choice"], "approve");
}

/// The ballot itself is proof, though the node lists it nowhere; it is kept, so that the repair that the
/// refusal names takes it over, and nodes hear of the burn at once.
#[test]
fn a_ballot_that_a_node_hands_over_is_proof_and_a_repair_takes_it_over() {
    let board = founded();
    copy(&[board.home("ann")], &board.path("kept"));
    std::fs::rename(board.path("kept/home-ann"), board.home("copy")).unwrap();
    board.approve("ann", "release/1");
    let is_ours = |ballot: &Value| ballot["payload"].as_str().unwrap().contains("release");
    let ballots = board.published("ballot");
    let (path, _) = ballots.iter().find(|(_, ballot)| is_ours(ballot)).unwrap();
    let ballot = Envelope::parse(&std::fs::read(path).unwrap()).unwrap();
    // One node alone has heard it.
    std::fs::remove_file(path).unwrap();
    let ballots = vec![ballot.id()];
    let node = Node { counter: 2, ballots, hidden: vec![ballot], ..Node::of(&board, 11) };
    let at = node.start();

    let reject = ["vote", "release/1", "reject", "--reason", "another thought"];
    let with_node = [&reject[..], &["--node", at.as_str()]].concat();
    // Then it is at hand, whoever is asked.
    for args in [&with_node[..], &reject[..]] {
        let said = board.refused("copy", args);
        for part in [
            "[E_CLONE]",
            "is not the newest copy",
            "of ann for release/1 was not made here",
            "`borgios governor repair --anew --exchange /",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    let done = board.json("copy", &["governor", "repair", "--anew"]);
    assert_eq!((&done["status"], &done["generation"]), (&"whole".into(), &1.into()));
    assert!(done["slots"].as_u64() > Some(30), "{done}");
    for list in ["signed", "recoveries"] {
        assert_eq!(done[list], json!([]), "{list}: {done}");
    }
    assert_eq!(done["shares"], 0);
    assert!(done["sent_to"].as_str().unwrap().contains(&at), "{done}");
    assert!(node.brought.lock().unwrap().iter().any(|kind| kind == "burn"));
    // The ballot counts as cast here, and the node says nothing that is new.
    let vote = ["vote", "release/1", "approve", "--node", at.as_str()];
    assert_eq!(board.json("copy", &vote)["again"], true);
}
