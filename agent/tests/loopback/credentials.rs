//! The shared root credential: its blobs everywhere, and what keepers say of it.

use borgios_policy::{Blob, Credential, Handover, Lane, Object as _, RotationReport};
use borgios_types::{Digest, Envelope, Epoch, UnixSeconds};
use serde_json::json;

use crate::board::now;
use crate::fleet::{Fleet, Server, until};

fn put_blob(server: &Server, bytes: &[u8]) -> Blob {
    let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
    let mut receiving = server.agent().depot.receive(digest, size).unwrap();
    receiving.write(bytes).unwrap();
    receiving.finish().unwrap();
    Blob { digest, size }
}

fn credential(fleet: &mut Fleet, schedule: Blob, escrow: Blob, min_epoch: u64) -> Envelope {
    let body = Credential { schedule, escrow, min_epoch: Epoch(min_epoch), reason: String::new() };
    fleet.board.statement(Lane::Credential, body.to_body())
}

async fn has_both(server: &Server, blobs: [Blob; 2]) {
    until("schedule and escrow are here", async || {
        let depot = &server.agent().depot;
        blobs.iter().all(|blob| depot.size(&blob.digest) == Some(blob.size))
    })
    .await;
    until("the keeper has the statement", async || server.keeper.head("credential") == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedule_and_escrow_reach_every_node_and_a_late_joiner() {
    let mut fleet = Fleet::of(3, 2).await;
    let schedule = put_blob(&fleet.servers[0], &[1; 100_000]);
    let escrow = put_blob(&fleet.servers[0], &[2; 300_000]);
    let statement = credential(&mut fleet, schedule, escrow, 1);
    assert_eq!(fleet.servers[2].put(&statement).await["ok"]["new"], true);
    for server in &fleet.servers {
        has_both(server, [schedule, escrow]).await;
    }
    fleet.join().await;
    has_both(&fleet.servers[3], [schedule, escrow]).await;
    // A blob that is lost is fetched again.
    let late = &fleet.servers[3];
    std::fs::remove_file(late.agent().depot.path(&schedule.digest)).unwrap();
    has_both(late, [schedule, escrow]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keeper_that_is_too_old_for_a_lane_still_gets_the_others() {
    let mut fleet = Fleet::of(1, 2).await;
    fleet.servers[0].keeper.seen.lock().unwrap().unknown_lane = Some(Lane::Credential);
    let blob = put_blob(&fleet.servers[0], b"blob");
    let first = credential(&mut fleet, blob, blob, 1);
    let second = credential(&mut fleet, blob, blob, 2);
    let part = json!({"digest": blob.digest, "size": blob.size});
    let body = json!({
        "version": "1", "installer": part, "urls": [], "floor": 1, "notes": "",
        "components": [{"name": "keeper", "digest": blob.digest, "size": blob.size}],
    });
    let release = fleet.board.statement(Lane::Release, body);
    let server = &fleet.servers[0];
    for statement in [&first, &second, &release] {
        assert_eq!(server.put(statement).await["ok"]["new"], true);
    }
    until("the newer keeper comes", async || server.keeper.installed() == 1).await;
    assert_eq!(server.keeper.head("credential"), 0);
    server.keeper.seen.lock().unwrap().unknown_lane = None;
    until("and then the lane", async || server.keeper.head("credential") == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keepers_say_reaches_the_fleet_once() {
    let fleet = Fleet::of(3, 2).await;
    fleet.servers[0].keeper.rotated(7, None);
    fleet.servers[1].keeper.rotated(7, None);
    fleet.servers[2].keeper.rotated(5, Some("/etc is read-only"));
    for server in &fleet.servers {
        until("all reports", async || {
            let nodes = server.ask(json!({"get": "nodes"})).await["ok"]["nodes"].clone();
            let nodes = nodes.as_array().unwrap();
            let said =
                |epoch: u64| nodes.iter().filter(|node| node["rotation"]["epoch"] == epoch).count();
            let receipts = nodes.iter().filter(|node| !node["handover"]["host_keys"].is_null());
            said(7) == 2 && said(5) == 1 && receipts.count() == 3
        })
        .await;
        let status = server.status().await;
        let fleet = &status["credential"]["fleet"];
        assert_eq!((&fleet["epoch"], &fleet["current"]), (&json!(7), &json!(2)));
        assert_eq!((&fleet["late_nodes"], &fleet["by"]), (&json!(1), &json!("reports")));
        assert_eq!(fleet["late"][0]["epochs_behind"], 2);
        assert_eq!(fleet["late"][0]["problem"], "/etc is read-only");
        assert_eq!(status["handed_over"], true);
    }
    let metrics = borgios_agent::metrics::text(&fleet.servers[0].agent().api).await;
    for line in ["credential_epoch 7", "credential_late_nodes 1", "handed_over 1", "access_open 0"]
    {
        assert!(metrics.contains(&format!("borgios_{line}\n")), "{line}: {metrics}");
    }
    // Said once, and again only when there is something else to say.
    let signed = |at: usize| fleet.servers[at].keeper.seen.lock().unwrap().rotations_signed;
    let before = signed(0);
    assert!(before <= 2, "{before} reports signed");
    fleet.servers[0].keeper.rotated(8, None);
    let reader = &fleet.servers[1];
    until("the next epoch", async || reader.status().await["credential"]["fleet"]["epoch"] == 8)
        .await;
    assert_eq!(reader.status().await["credential"]["fleet"]["late_nodes"], 2);
    assert!(signed(0) <= before + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lateness_is_measured_by_the_schedule_once_it_is_here() {
    let mut fleet = Fleet::of(3, 2).await;
    // Epoch 13 by the clock; the board wants 15 at least.
    let verifiers: Vec<_> = (0..10).map(|i| format!("\"$y$j9T${i:022}${i:043}\"")).collect();
    let schedule = format!(
        r#"{{"network":"{}","first":10,"t0":{},"interval_s":100,"jitter_s":0,"verifiers":[{}]}}"#,
        fleet.board.network(),
        now().0 - 350,
        verifiers.join(",")
    );
    let blob = put_blob(&fleet.servers[1], schedule.as_bytes());
    let statement = credential(&mut fleet, blob, blob, 15);
    assert_eq!(fleet.servers[0].put(&statement).await["ok"]["new"], true);
    fleet.servers[0].keeper.rotated(15, None);
    fleet.servers[1].keeper.rotated(13, None);
    // A keeper that boasts makes nobody else late.
    fleet.servers[2].keeper.rotated(9_999, None);
    for server in &fleet.servers {
        until("it is known who is late", async || {
            let told = server.status().await["credential"]["fleet"].clone();
            told["by"] == "schedule" && told["current"] == 2 && told["late_nodes"] == 1
        })
        .await;
        let told = server.status().await["credential"]["fleet"].clone();
        assert_eq!((&told["epoch"], &told["silent"]), (&json!(15), &json!(0)));
        let late = &told["late"][0];
        assert_eq!(late["node"], json!(fleet.servers[1].me()));
        assert_eq!((&late["epoch"], &late["epochs_behind"]), (&json!(13), &json!(2)));
        assert!(late["late_s"].as_u64().unwrap() < 60, "{late}");
        // Each server says the same of itself when it is asked.
        let question = json!({"get": "ask", "question": {"about": "epochs"}});
        until("the late one says so", async || {
            let answer = server.ask(question.clone()).await["ok"].clone();
            let exception = &answer["exceptions"][0];
            answer["complete"] == true
                && answer["exceptional_nodes"] == 1
                && exception["node"] == json!(fleet.servers[1].me())
                && exception["what"].as_str().unwrap().starts_with("2 epochs behind, due ")
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_reports_for_another_servers_keeper() {
    let fleet = Fleet::of(2, 2).await;
    let server = &fleet.servers[0];
    let (network, node, keeper) =
        (fleet.board.network(), server.me(), fleet.servers[1].keeper.key());
    let report = RotationReport {
        network,
        node,
        keeper: keeper.public(),
        epoch: Epoch(9_999),
        due: UnixSeconds(0),
        changed: UnixSeconds(0),
        exhausted: false,
        problem: None,
        at: now(),
    };
    let receipt = Handover {
        network,
        node,
        keeper: keeper.public(),
        name: "mine".parse().unwrap(),
        host_keys: Vec::new(),
        taken: Default::default(),
        owner: None,
        at: now(),
    };
    for claim in [report.to_envelope(), receipt.to_envelope()] {
        assert_eq!(
            server.put(&claim.clone().sign(&keeper)).await["error"]["code"],
            "unknown_member"
        );
        assert_eq!(
            server.put(&claim.sign(&server.keeper.key())).await["error"]["code"],
            "bad_signature"
        );
    }
    let own = RotationReport { keeper: server.keeper.key().public(), ..report };
    let ahead = RotationReport { at: now().plus(3600), ..own.clone() };
    let ahead = ahead.to_envelope().sign(&server.keeper.key());
    assert_eq!(server.put(&ahead).await["error"]["code"], "bad_date");
    // The newest counts, whatever comes later.
    let newer = RotationReport { epoch: Epoch(8), at: now(), ..own.clone() };
    let older = RotationReport { epoch: Epoch(7), at: UnixSeconds(now().0 - 10), ..own };
    let put = async |report: RotationReport| {
        server.put(&report.to_envelope().sign(&server.keeper.key())).await["ok"]["new"].clone()
    };
    assert_eq!(put(newer).await, true);
    assert_eq!(put(older).await, false);
    let me = server.me().to_string();
    let held = server.agent().ledger.run(move |l| l.store().owned("rotation", &me).count()).await;
    assert_eq!(held, 1);
}
