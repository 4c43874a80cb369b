//! Questions to the fleet, node lookup, messages to one node; and a child that lies.

use std::time::{Duration, Instant};

use borgios_agent::channel::russh_key;
use borgios_agent::ssh_client;
use borgios_agent::wire::{Frame, Hello, PROTOCOL};
use borgios_peertree::direct::Undelivered;
use borgios_peertree::question::{Answer, Ask, Question, Roll, Scope, Tally};
use borgios_peertree::{Join as JoinMessage, Message, Up};
use borgios_policy::{Join, Object as _};
use borgios_types::{NodeId, SecretKey};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::fleet::{Fleet, PATIENCE, Server, until};

async fn ask(server: &Server, question: Value) -> Value {
    let answer = server.ask(json!({"get": "ask", "question": question, "within_ms": 3_000})).await;
    assert!(answer["ok"].is_object(), "{answer}");
    answer["ok"].clone()
}

/// Waits until every server holds every other's join record: before that a fleet cannot be counted.
async fn acquainted(fleet: &Fleet) {
    for server in fleet.servers.iter().filter(|server| server.running.is_some()) {
        until("all join records", async || server.status().await["members"] == fleet.servers.len())
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fleet_answers_and_who_is_missing_is_named() {
    let mut fleet = Fleet::of(6, 2).await;
    acquainted(&fleet).await;
    for (question, measure) in [
        (json!({"about": "versions"}), None),
        (json!({"about": "epochs"}), None),
        (json!({"about": "load", "above": 1_000_000}), Some("load")),
        (json!({"about": "disk", "below": 1_001}), Some("free")),
    ] {
        for server in &fleet.servers {
            until("everybody answers", async || {
                let answer = ask(server, question.clone()).await;
                let labelled: u64 = answer["histogram"]
                    .as_object()
                    .unwrap()
                    .values()
                    .filter_map(Value::as_u64)
                    .sum();
                assert!(labelled <= 6 && answer["surplus"] == 0, "{answer}");
                if let Some(measure) = measure {
                    assert_eq!(
                        answer["measures"][measure]["count"], answer["answered"],
                        "{answer}"
                    );
                }
                // Every disk has less than more than everything free.
                if measure == Some("free") {
                    assert_eq!(answer["exceptional_nodes"], answer["answered"]);
                }
                answer["complete"] == true && answer["answered"] == 6 && labelled == 6
            })
            .await;
        }
    }

    // Who holds a note: everyone, in a moment; and nobody one that was never sent.
    let note = fleet.board.note("who has it");
    let item = json!({"object": note.id()});
    let lost = ask(&fleet.servers[3], json!({"about": "received", "item": item})).await;
    assert_eq!((&lost["histogram"]["no"], &lost["exceptional_nodes"]), (&json!(6), &json!(6)));
    fleet.servers[2].put(&note).await;
    until("all have it", async || {
        let answer = ask(&fleet.servers[3], json!({"about": "received", "item": item})).await;
        answer["histogram"]["yes"] == 6
    })
    .await;
    let message = json!({"message": {"origin": fleet.servers[0].me(), "epoch": 1, "number": 1}});
    let none = ask(&fleet.servers[3], json!({"about": "received", "item": message})).await;
    assert_eq!(none["exceptions"][0]["what"], "has none of it");

    // One dies: it is missing by the records, whatever the tree thinks.
    let root = fleet.servers[0].root();
    let at = fleet.servers.iter().position(|server| server.me() != root).unwrap();
    let dead = fleet.servers[at].me();
    fleet.servers[at].kill().await;
    fleet.whole().await;
    let asker = fleet.servers.iter().find(|server| server.running.is_some()).unwrap();
    until("five of six", async || {
        let begun = Instant::now();
        let answer = ask(asker, json!({"about": "load", "above": 1_000_000})).await;
        assert!(begun.elapsed() < Duration::from_secs(20), "{answer}");
        assert_eq!((&answer["members"], &answer["complete"]), (&json!(6), &json!(false)));
        let named = answer["silent"].as_array().unwrap().iter();
        let mut named = named.chain(answer["unheard"].as_array().unwrap());
        answer["answered"] == 5 && named.any(|one| one["node"] == json!(dead))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_runs_something_else_is_named_whoever_asks() {
    let fleet = Fleet::of(4, 2).await;
    acquainted(&fleet).await;
    let odd = &fleet.servers[2];
    odd.keeper.seen.lock().unwrap().status.installed = borgios_types::Seq(7);
    for server in &fleet.servers {
        until("the odd one is named, and nobody else", async || {
            let answer = ask(server, json!({"about": "versions"})).await;
            let odd_label = answer["exceptions"][0]["what"].as_str().unwrap_or_default();
            answer["exceptional_nodes"] == 1
                && answer["exceptions"][0]["node"] == json!(odd.me())
                && odd_label.starts_with("release/7, agent ")
                && answer["histogram"][odd_label] == 1
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_found_by_name_and_key_and_can_be_sent_a_message() {
    let fleet = Fleet::of(6, 2).await;
    acquainted(&fleet).await;
    let paths: Vec<Vec<NodeId>> =
        fleet.servers.iter().map(|s| s.agent().tree.view().borrow().path.clone()).collect();
    for (from, server) in fleet.servers.iter().enumerate() {
        for (to, wanted) in fleet.servers.iter().enumerate() {
            let shared = paths[from].iter().filter(|node| paths[to].contains(node)).count();
            let hops = paths[from].len() + paths[to].len() - 2 * shared;
            let words = [wanted.settings.name.to_string(), wanted.me().to_string()];
            for word in words {
                let request = json!({"get": "node", "word": word, "within_ms": 3_000});
                let mut found = Value::Null;
                // So many questions in a row come up against the pace of a link.
                until("a node is found", async || {
                    found = server.ask(request.clone()).await["ok"].clone();
                    found["found"] == true
                })
                .await;
                assert_eq!(found["node"], json!(wanted.me()));
                assert_eq!(found["place"]["hops"], hops, "{found}");
                assert_eq!(found["place"]["depth"], paths[to].len() - 1);
                let told = found["place"]["path"].as_array().unwrap().len();
                assert_eq!(told, paths[to].len());
                assert_eq!(found["standing"], "member");
                assert_eq!(found["runs"]["version"], env!("CARGO_PKG_VERSION"));
            }
        }
    }
    let ask = async |word: &str| {
        let request = json!({"get": "node", "word": word, "within_ms": 2_000});
        fleet.servers[1].ask(request).await
    };
    assert_eq!(ask("nobody").await["error"]["code"], "not_found");
    let stranger = SecretKey::from_seed([91; 32]).public().to_string();
    let none = ask(&stranger).await["ok"].clone();
    assert_eq!((&none["found"], &none["standing"]), (&json!(false), &json!("stranger")));
    assert_eq!(none["turnout"]["answered"], 6, "{none}");

    // The way that the lookups above taught carries a message; without a service it ends there.
    let far =
        (0..6).find(|at| paths[*at].len() == paths.iter().map(Vec::len).max().unwrap()).unwrap();
    let from = (0..6).find(|at| !paths[*at].contains(&paths[far][1]) && *at != far).unwrap();
    let (sender, receiver) = (fleet.servers[from].agent(), fleet.servers[far].agent());
    let send = async |body: &str| sender.questions.send(receiver.me, body.to_owned()).await;
    assert_eq!(send("is anybody there").await, Err(Undelivered::Unreachable));
    let mut messages = receiver.questions.serve().await;
    // A way that led nowhere was forgotten.
    assert_eq!(send("and now").await, Err(Undelivered::Unknown));
    let question = Question::Find { node: receiver.me };
    let found = sender.questions.ask(question, Duration::from_secs(3)).await.unwrap();
    let hops = found.places.nodes[0].hops.unwrap();
    assert_eq!(send("hello").await.map(u64::from), Ok(hops));
    assert_eq!(messages.recv().await.as_deref(), Some("hello"));
    // From where nobody looked for it yet.
    let third = (0..6).rev().find(|at| *at != far && *at != from).unwrap();
    let third = &fleet.servers[third].agent().questions;
    let within = Duration::from_secs(3);
    assert!(third.deliver(receiver.me, "from a third".to_owned(), within).await.is_ok());
    assert_eq!(messages.recv().await.as_deref(), Some("from a third"));
    let nobody = SecretKey::from_seed([92; 32]).public();
    let lost = third.deliver(nobody, "x".to_owned(), within).await;
    assert_eq!(lost, Err(Undelivered::Unknown));
    let long = "x".repeat(70_000);
    assert_eq!(send(&long).await, Err(Undelivered::TooLarge));
    assert_eq!(send(&"\u{1}".repeat(65_536)).await.map(u64::from), Ok(hops));
    assert_eq!(messages.recv().await.map(|body| body.len()), Some(65_536));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_lies_and_floods_costs_itself() {
    let mut fleet = Fleet::of(2, 4).await;
    acquainted(&fleet).await;
    let victim = &fleet.servers[0];
    let key = SecretKey::from_seed([66; 32]);
    let cut = CancellationToken::new();
    let dialled =
        ssh_client::dial(&victim.address(), victim.me(), russh_key(&key), cut).await.unwrap();
    let ssh_client::Dialled { mut reader, writer, session, .. } = dialled;
    let file = fleet.board.invite(Vec::new());
    let now = crate::board::now();
    let record = Join {
        network: fleet.board.network(),
        node: key.public(),
        keeper: SecretKey::from_seed([67; 32]).public(),
        name: "liar".parse().unwrap(),
        address: None,
        owner: None,
        invitation: file.invitation.id(),
        issued: now,
        expires: now.plus(3_600),
    };
    let record = record.to_envelope().sign(&key).sign(&file.token_key().unwrap());
    let membership = vec![file.invitation.clone(), record];
    let network = fleet.board.network();
    writer
        .send(Frame::Hello(Hello { protocol: PROTOCOL, network, membership }).to_line())
        .await
        .unwrap();
    let join = JoinMessage { hops: 0, size: 1, unreachable: Vec::new() };
    writer.send(Frame::Tree(Message::Join(join)).to_line()).await.unwrap();

    // It answers every question with a lie of ten million nodes, and asks a thousand of its own. It
    // writes beside its reading: who does not read is cut off for that, and lies to nobody.
    let (say, mut said) = tokio::sync::mpsc::unbounded_channel::<String>();
    let writing = tokio::spawn(async move {
        // Who says nothing for long loses its place; a report is a sign of life like any other.
        let mut life = tokio::time::interval(Duration::from_millis(50));
        let report = Frame::Tree(Message::Report(Up { size: 1, free: None })).to_line();
        loop {
            let line = tokio::select! {
                line = said.recv() => match line {
                    Some(line) => line,
                    None => break,
                },
                _ = life.tick() => report.clone(),
            };
            if writer.send(line).await.is_err() {
                break;
            }
        }
    });
    let lying = tokio::spawn(async move {
        let (mut asked, mut answers) = (0, 0);
        while let Ok(Some(line)) = reader.next().await {
            let out = match Frame::parse(&line).unwrap() {
                Frame::Ask(Ask { id, .. }) => {
                    asked += 1;
                    let tally = Tally {
                        answered: 10_000_000,
                        labels: [("0.00 to 0.25".to_owned(), 10_000_000)].into(),
                        roll: Roll::too_many(),
                        ..Tally::default()
                    };
                    vec![Frame::Answer(Answer { id, tally: Some(tally), tree: None })]
                }
                Frame::Tree(Message::Accept(_)) => {
                    let (question, scope) = (Question::Epochs, Scope::Fleet);
                    let ask = |id| Ask {
                        id,
                        nonce: id + 1,
                        scope,
                        question: question.clone(),
                        within_ms: 60_000,
                    };
                    (0..1_000).map(|id| Frame::Ask(ask(id))).collect()
                }
                Frame::Answer(_) => {
                    answers += 1;
                    Vec::new()
                }
                _ => Vec::new(),
            };
            // The writer ends with the connection.
            let _ = out.iter().try_for_each(|frame| say.send(frame.to_line()));
        }
        (asked, answers)
    });
    until("the liar has a place", async || {
        victim.agent().tree.view().borrow().children.contains(&key.public())
    })
    .await;
    until("the liar has its record everywhere", async || {
        fleet.servers[1].status().await["members"] == 3
    })
    .await;
    for _ in 0..5 {
        let answer = ask(&fleet.servers[1], json!({"about": "load", "above": 1_000_000})).await;
        assert_eq!((&answer["answered"], &answer["members"]), (&json!(2), &json!(3)), "{answer}");
        assert_eq!(answer["silent"][0]["name"], "liar", "{answer}");
        assert!(answer["took_ms"].as_u64().unwrap() < 3_000, "{answer}");
    }
    let note = fleet.board.note("still here");
    fleet.servers[1].put(&note).await;
    fleet.all_have(&note).await;
    for server in &mut fleet.servers {
        server.kill().await;
    }
    drop(session);
    let (asked, answers) = tokio::time::timeout(PATIENCE, lying).await.unwrap().unwrap();
    tokio::time::timeout(PATIENCE, writing).await.unwrap().unwrap();
    assert!(asked >= 5, "{asked}");
    assert!(answers >= 64, "whoever is refused is told so at once: {answers} of 1000 answered");
}
