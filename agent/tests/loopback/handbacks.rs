//! What a node hands back of a governor's ballots.

use borgios_policy::handback::BALLOTS_MAX;
use borgios_policy::{Ballot, Choice, Handback, Lane, Object as _};
use borgios_types::{Digest, Envelope, Round, Seq};
use serde_json::{Value, json};

use crate::fleet::{Fleet, Server};
use crate::stock_ssh::ssh;

/// A rejection: it needs no nonces.
fn ballot(fleet: &Fleet, counter: u64) -> Envelope {
    let ballot = Ballot {
        group: fleet.board.group(),
        governor: "bob".parse().unwrap(),
        lane: Lane::Release,
        seq: Seq(counter),
        round: Round(0),
        statement: Digest::of(&counter.to_be_bytes()),
        choice: Choice::Reject { reason: "no".into() },
        comment: None,
        reveal: None,
        rebuild: None,
        counter,
    };
    ballot.to_envelope().sign(fleet.board.governor(1))
}

fn question(governor: &str, challenge: Digest) -> Value {
    json!({"get": "handback", "governor": governor, "challenge": challenge})
}

fn read(fleet: &Fleet, server: &Server, challenge: Digest, answer: &Value) -> Handback {
    let envelope = Envelope::parse(answer["ok"].to_string().as_bytes()).unwrap();
    let bob = "bob".parse().unwrap();
    Handback::verify(fleet.board.network(), &server.me(), &bob, challenge, &envelope).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_hands_back_a_governor_s_ballots_signed_and_bounded() {
    let fleet = Fleet::of(2, 2).await;
    let challenge = Digest::of(b"drawn for this test");
    let answer = fleet.servers[1].ask(question("bob", challenge)).await;
    let none = read(&fleet, &fleet.servers[1], challenge, &answer);
    assert_eq!((none.counter, none.ballots.len()), (0, 0));
    // What one node was given, the other one hands back.
    let count = BALLOTS_MAX as u64 + 2;
    let mut last = ballot(&fleet, 1);
    for counter in 1..=count {
        last = ballot(&fleet, counter);
        assert_eq!(fleet.servers[0].put(&last).await["ok"]["new"], true);
    }
    fleet.all_have(&last).await;
    let answer = fleet.servers[1].ask(question("bob", challenge)).await;
    let all = read(&fleet, &fleet.servers[1], challenge, &answer);
    assert_eq!((all.counter, all.ballots.len()), (count, BALLOTS_MAX));
    assert!(all.ballots.contains(&last.id()) && !all.ballots.contains(&ballot(&fleet, 1).id()));
    // Nothing of it is anyone else's, and a question has both parts.
    let answer = fleet.servers[1].ask(question("ann", challenge)).await;
    let envelope = Envelope::parse(answer["ok"].to_string().as_bytes()).unwrap();
    assert_eq!(Handback::parse(&envelope).unwrap().counter, 0);
    let refused = fleet.servers[1].ask(json!({"get": "handback", "governor": "bob"})).await;
    assert_eq!(refused["error"]["code"], "bad_request");
}

/// Over the door that governors' tools use: sixty answers a minute for each of them, and nobody is kept
/// from asking by one who asks too often.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_governor_gets_so_many_answers_a_minute_and_takes_none_from_another() {
    let fleet = Fleet::of(1, 2).await;
    let server = &fleet.servers[0];
    let host = ["-s", "127.0.0.1", "borgios"];
    let question = format!("{}\n", question("bob", Digest::of(b"challenge")));
    let (status, out) = ssh(server, fleet.board.governor(0), &host, &question.repeat(62)).await;
    assert_eq!(status, 0);
    let answers: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let busy = answers.iter().filter(|answer| answer["error"]["code"] == "busy").count();
    assert_eq!((answers.len(), busy), (62, 2));
    let (_, out) = ssh(server, fleet.board.governor(1), &host, &question).await;
    let answer: Value = serde_json::from_str(out.trim()).unwrap();
    assert_eq!(read(&fleet, server, Digest::of(b"challenge"), &answer).counter, 0);
}
