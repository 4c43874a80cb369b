//! What a recovery key signed may come from anybody, and nothing else may.

use borgios_policy::{Freshness, Lane, Policy, Recovery, merge_signatures};
use borgios_types::{Envelope, SecretKey};
use serde_json::{Value, json};

use crate::board::TestBoard;
use crate::fleet::{Fleet, Server};
use crate::stock_ssh::ssh;

const DAY_S: u64 = 86_400;

/// What a node answers to one line by a key that it has never seen.
async fn stranger(server: &Server, request: &Value) -> Value {
    let key = SecretKey::from_seed([77; 32]);
    let host = ["-s", "127.0.0.1", "borgios"];
    let (status, out) = ssh(server, &key, &host, &format!("{request}\n{request}\n")).await;
    assert_eq!((status, out.lines().count()), (1, 1), "{out}");
    serde_json::from_str(out.trim()).unwrap()
}

fn put(envelope: &Envelope) -> Value {
    json!({"put": "envelope", "envelope": envelope})
}

/// The next policy, with another board in office, signed by that board and by the recovery key.
fn next_policy(fleet: &mut Fleet, rescue: &TestBoard, next: &TestBoard) -> Envelope {
    let body = Policy::new(next.of_epoch(2), 2, next.classes());
    let before = fleet.board.heads(Lane::Policy);
    let draft = fleet.board.statement(Lane::Policy, body.to_body());
    // It is signed by others, and the board in force goes on.
    fleet.board.again(Lane::Policy, before);
    let draft = Envelope::unsigned(draft.kind, draft.payload);
    merge_signatures(&rescue.sign(draft.clone()), &next.sign(draft)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_brings_what_a_recovery_key_signed_and_nothing_else() {
    let mut fleet = Fleet::of(1, 2).await;
    let (rescue, next) = (TestBoard::new(2), TestBoard::new(2));
    let early = next_policy(&mut fleet, &rescue, &next);
    // No policy names a recovery key.
    let answer = stranger(&fleet.servers[0], &put(&early)).await;
    assert_eq!(answer["error"]["code"], "not_a_governor");
    let group = rescue.group();
    let rules = fleet.board.rules(|policy| {
        policy.freshness = Some(Freshness { beacons: 2, max_age_s: DAY_S });
        let (silence_s, lock_s) = (30 * DAY_S, 14 * DAY_S);
        policy.recovery = Some(Recovery { group, silence_s, lock_s });
    });
    assert_eq!(fleet.servers[0].put(&rules).await["ok"]["new"], true);
    let policy = next_policy(&mut fleet, &rescue, &next);
    let server = &fleet.servers[0];
    // It is taken to be judged, and it is too early.
    let answer = stranger(server, &put(&policy)).await;
    assert_eq!(answer["error"]["code"], "recovery", "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("must still be silent for 30 d 0 h"), "{message}");
    // Anything else is none of a stranger's business.
    let mut forged = policy.clone();
    for sig in &mut forged.sigs {
        sig.sig.0[7] ^= 1;
    }
    let unsigned = Envelope::unsigned(policy.kind.clone(), policy.payload.clone());
    let release = rescue.sign(Envelope::unsigned(Lane::Release.kind(), policy.payload.clone()));
    for request in [
        put(&forged),
        put(&unsigned),
        put(&release),
        put(&next.sign(unsigned.clone())),
        put(&fleet.board.note("hello")),
        json!({"get": "heads"}),
        json!({"get": "heads", "put": "envelope", "envelope": policy}),
        json!({"put": "envelope", "envelope": 7}),
        json!("nonsense"),
    ] {
        let answer = stranger(server, &request).await;
        assert_eq!(answer["error"]["code"], "not_a_governor", "{request}");
    }
}
