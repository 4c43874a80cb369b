//! What every target starts from: honest inputs, out of the fixed vectors and made here.

use std::sync::OnceLock;

use borgios_agent::keeper::protocol::Request;
use borgios_agent::wire::{Frame, Have, Hello};
use borgios_credentials::dealing::Term;
use borgios_credentials::{Escrow, Schedule, deal};
use borgios_policy::fixture::{ISSUED, release_body, statement};
use borgios_policy::{Lane, Slot, Statement};
use borgios_types::{Digest, Envelope, Epoch, Seq, sshsig};
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use serde_json::{Value, json};

use crate::governance::{good_invitation_file, world};
use crate::{agents, ceremony, papers, servers, sessions, streams, tools, trees, words};

const GOVERNANCE: &str = include_str!("../../vectors/governance.jsonl");
const PROOF: &str = include_str!("../../vectors/governance-proof.json");
const BATCHES: &str = include_str!("../../vectors/stream-batches.txt");
const FRAMES: &str = include_str!("../../vectors/stream-frames.txt");

/// A slot, what is voted on in it, everyone's pools, and the ballots of the second and third.
type Vote = (Slot, Statement, Vec<Envelope>, Vec<Envelope>);

/// A vote on release/1 of the world.
pub fn vote() -> &'static Vote {
    static VOTE: OnceLock<Vote> = OnceLock::new();
    VOTE.get_or_init(|| {
        let world = world();
        let body = release_body("1.0");
        let release = statement(Lane::Release, 1, Some(world.network), None, Some(1), body);
        let slot = world.council.slot(&release);
        let pools = world.council.pools(slot);
        let one = world.council.approve(&world.council.name(1), &release, &pools);
        let other = world.council.reject(&world.council.name(2), &release);
        (slot, release, pools, vec![one, other])
    })
}

fn dealt() -> Option<&'static (Schedule, Escrow)> {
    static DEALT: OnceLock<Option<(Schedule, Escrow)>> = OnceLock::new();
    let made = DEALT.get_or_init(|| {
        let term = Term {
            network: world().network,
            first: Epoch(1),
            t0: ISSUED,
            interval_s: 86_400,
            jitter_s: 600,
            count: 2,
        };
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        deal(&term, &world().council.board, &mut rng, &mut |_| {}).ok()
    });
    made.as_ref()
}

/// A schedule, to which an escrow must fit.
pub fn schedule() -> Option<&'static Schedule> {
    dealt().map(|(schedule, _)| schedule)
}

/// Its escrow.
pub fn escrow() -> Option<&'static Escrow> {
    dealt().map(|(_, escrow)| escrow)
}

/// What is sealed to the first governor in it.
fn opened() -> Option<Vec<u8>> {
    let council = &world().council;
    let name = council.name(0);
    let identity = council.identities[&name].parse::<age::x25519::Identity>().ok()?;
    let escrow: Value = serde_json::from_slice(&escrow()?.to_bytes()).ok()?;
    let sealed: borgios_policy::Bytes =
        serde_json::from_value(escrow["sealed"][name.as_str()].clone()).ok()?;
    age::decrypt(&identity, &sealed.0).ok()
}

/// The envelopes of the governance's vectors, as JSON and by type.
fn envelopes() -> Vec<(String, Value)> {
    let lines = GOVERNANCE.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let each = lines.map(|line| line["envelope"].clone());
    each.map(|envelope| (envelope["type"].as_str().unwrap_or_default().to_owned(), envelope))
        .collect()
}

/// The payloads of one type.
fn payloads(kind: &str) -> Vec<Vec<u8>> {
    let of = envelopes().into_iter().filter(|(found, _)| found == kind);
    of.filter_map(|(_, envelope)| Some(envelope["payload"].as_str()?.as_bytes().to_vec())).collect()
}

/// A payload of the vectors, made one of the world's: its ids and keys are put in.
fn of_world(kind: &str) -> Vec<Vec<u8>> {
    let world = world();
    let mut own = Vec::new();
    for payload in payloads(kind) {
        let Ok(mut value) = serde_json::from_slice::<Value>(&payload) else { continue };
        for (field, is) in
            [("network", json!(world.network)), ("group", json!(world.council.board.group()))]
        {
            if value.get(field).is_some() {
                value[field] = is;
            }
        }
        own.push(value.to_string().into_bytes());
    }
    own
}

fn payload_of(envelopes: &[Envelope]) -> Vec<Vec<u8>> {
    envelopes.iter().map(|envelope| envelope.payload.clone().into_bytes()).collect()
}

fn hex_lines(text: &str) -> Vec<Vec<u8>> {
    let hex = text.lines().filter_map(|line| line.split_once(' ')).map(|(_, hex)| hex);
    hex.map(|hex| {
        let pairs = hex.as_bytes().chunks_exact(2);
        pairs
            .filter_map(|pair| u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok())
            .collect()
    })
    .collect()
}

/// The seeds of a target.
#[must_use]
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "envelope" => {
            envelopes().into_iter().map(|(_, envelope)| envelope.to_string().into_bytes()).collect()
        }
        "policy-statement" => {
            let body = world().council.policy(3).to_body();
            let next = statement(
                Lane::Policy,
                2,
                Some(world().network),
                Some(world().network),
                Some(1),
                body,
            );
            vec![next.to_payload().into_bytes()]
        }
        "release" | "credential" | "member" | "access" => of_world(target),
        "policy" => vec![world().council.policy(2).to_body().to_string().into_bytes()],
        "pool" => payload_of(&vote().2[..1]),
        "ballot" => ballots(),
        "proposal" => {
            let text = vote().1.to_payload();
            let governor = world().council.name(0);
            let seed =
                json!({"governor": governor, "statement": text, "lane": "release", "note": "x"});
            vec![seed.to_string().into()]
        }
        "card" => payloads("card"),
        "plan" => payloads("founding"),
        "ceremony-paper" => ceremony::seeds(),
        "other-objects" => others(),
        "proof" => vec![PROOF.trim_end().as_bytes().to_vec()],
        "invitation-file" => vec![good_invitation_file()],
        "component-info" => vec![INFO.as_bytes().to_vec()],
        "component-tar" => vec![tar(&entries())],
        "component" => zstd::encode_all(tar(&entries()).as_slice(), 1).into_iter().collect(),
        "bundle" => bundles(),
        "tree-frame" => frames(),
        "lines" => vec![b"{}\r\n\n[1]\nrest".to_vec(), frames().join(&b'\n')],
        "stream-frame" => [hex_lines(BATCHES), hex_lines(FRAMES)].concat(),
        "api-request" => requests(),
        "keeper-verb" => verbs(),
        "agent-json" => vec![
            br#"{"listen":"[::]:7117","advertise":"192.0.2.1:7117","name":"vps-1"}"#.to_vec(),
            b"{}".to_vec(),
        ],
        "certificate" => certificates(),
        "ssh-signature" => signatures(),
        "schedule" => dealt().iter().map(|(schedule, _)| schedule.to_bytes()).collect(),
        "escrow" => dealt().iter().map(|(_, escrow)| escrow.to_bytes()).collect(),
        "shadow" => vec![b"root:*:19000:0:99999:7:::\nborgios:!:19000::::::\n".to_vec()],
        other => newer(other),
    }
}

/// The seeds that lie beside their targets.
fn newer(target: &str) -> Vec<Vec<u8>> {
    match target {
        "escrow-opened" => opened().into_iter().collect(),
        "change-paper" => papers::change_seeds(),
        "repair-paper" => papers::repair_seeds(),
        "ceremony-state" => papers::state_seeds(),
        "session-paper" => sessions::seeds(),
        "gate" => words::gate_seeds(),
        "submissions" => words::submission_seeds(),
        "sealed-share" => words::sealed_seeds(),
        "openssh-key" => words::openssh_seeds(),
        "small-words" => words::small_seeds(),
        "powers" => words::powers_seeds(),
        "stream-pipe" => streams::pipe_seeds(),
        "stream-core" => streams::core_seeds(),
        "stream-log" => streams::log_seeds(),
        "stream-proof" => streams::proof_seeds(),
        "stream-evidence" => streams::evidence_seeds(),
        "tree-node" => trees::node_seeds(),
        "sim-script" => trees::script_seeds(),
        "http-request" => servers::http_seeds(),
        "http-range" => servers::range_seeds(),
        "agent-api" => agents::api_seeds(),
        "ssh-request" => agents::ssh_seeds(),
        "agent-file" => servers::agent_seeds(),
        "keeper-file" => servers::keeper_seeds(),
        "owners-server" => servers::owners_seeds(),
        "cli-option" => tools::option_seeds(),
        "cli-words" => tools::words_seeds(),
        "cli-backup" => tools::backup_seeds(),
        "cli-locked" => tools::locked_seeds(),
        "cli-file" => tools::file_seeds(),
        "cli-answer" => tools::answer_seeds(),
        "cli-shown" => tools::shown_seeds(),
        "cli-ssh-settings" => tools::settings_seeds(),
        "cli-bootstrap-log" => tools::log_seeds(),
        "cli-one-line" => tools::line_seeds(),
        _ => Vec::new(),
    }
}

fn ballots() -> Vec<Vec<u8>> {
    let (_, release, pools, ballots) = vote();
    let world = world();
    let own = world.council.approve(&world.council.name(0), release, pools);
    let mut all = payload_of(&[own]);
    all.extend(payload_of(ballots));
    all
}

fn others() -> Vec<Vec<u8>> {
    const KINDS: [&str; 18] = [
        "note",
        "invitation",
        "join",
        "report",
        "departure",
        "handover",
        "witness",
        "rotation",
        "drill",
        "drill-answer",
        "session",
        "share",
        "burn",
        "handback",
        "change",
        "veto",
        "pause",
        "beacon",
    ];
    let mut all = Vec::new();
    for (at, kind) in (0..).zip(KINDS) {
        for payload in of_world(kind) {
            all.push(std::iter::once(at).chain(payload).collect());
        }
    }
    all
}

const INFO: &str = r#"{"name":"hello","version":"1","arch":"any","restart":["hello.service"],"health":{"command":["/bin/true"],"deadline_s":5,"stable_s":1}}"#;

fn entries() -> Vec<(&'static str, &'static str)> {
    vec![
        ("component.json", INFO),
        ("files/bin/hello", "#!/bin/sh\n"),
        ("sysusers.d/hello.conf", "u hello\n"),
        ("units/hello.service", "[Service]\nExecStart=/bin/true\n"),
    ]
}

fn tar(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, text) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        // Never fails: it is written into memory, under short paths.
        let _ = builder.append_data(&mut header, path, text.as_bytes());
    }
    builder.into_inner().unwrap_or_default()
}

fn bundles() -> Vec<Vec<u8>> {
    let world = world();
    let (_, release, ..) = vote();
    let text = release.to_payload();
    let sig = world.council.group_signature(Lane::Release, &text);
    let group = world.council.board.group();
    let armour = sshsig::armour(&group, &Lane::Release.namespace(), &sig);
    let chain: Vec<&Envelope> = world.chain.history().map(|held| held.envelope()).collect();
    let chain = json!(chain).to_string();
    let blob = format!("blobs/{}", Digest::of(b"blob").hex());
    let entries = [
        ("release.json", text.as_str()),
        ("release.json.sig", armour.as_str()),
        ("chain.json", chain.as_str()),
        (blob.as_str(), "blob"),
        ("installer", "keeper"),
    ];
    vec![tar(&entries)]
}

fn frames() -> Vec<Vec<u8>> {
    let id = Digest::of(b"x");
    let hello = Frame::Hello(Hello { protocol: 1, network: id, membership: Vec::new() });
    let made = [hello.to_line(), Frame::Have(Have { digest: id }).to_line()];
    let written = [
        r#""leave""#,
        r#"{"redirect":{"to":[]}}"#,
        r#"{"cross":{"path":[]}}"#,
        r#"{"want":{"ids":[]}}"#,
        r#"{"ask":{"id":7,"nonce":9,"tree":"fleet","question":{"about":"load","above":1},"within_ms":3}}"#,
        r#"{"answer":{"id":7,"tally":{"answered":1}}}"#,
        r#"{"blob":{"id":1,"digest":"sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881","offset":2,"length":9}}"#,
        r#"{"piece":{"id":1,"bytes":"AAAA"}}"#,
        r#"{"bye":{"code":"x","message":"y"}}"#,
        r#"{"sing":{"loud":true}}"#,
    ];
    let written = written.into_iter().map(str::to_owned);
    made.into_iter().chain(written).map(String::into_bytes).collect()
}

fn requests() -> Vec<Vec<u8>> {
    let envelope = envelopes().into_iter().next().map(|(_, envelope)| envelope);
    let put = json!({"put": "envelope", "envelope": envelope});
    let id = Digest::of(b"x");
    [
        json!({"get": "status"}),
        json!({"get": "objects", "kind": "ballot", "after": id}),
        json!({"get": "object", "id": id}),
        json!({"put": "blob", "digest": id, "size": 4, "offset": 0, "bytes": "AAAA"}),
        put,
    ]
    .iter()
    .map(|request| request.to_string().into_bytes())
    .collect()
}

fn verbs() -> Vec<Vec<u8>> {
    let envelope = envelopes().into_iter().next().map(|(_, envelope)| envelope);
    let written = [
        json!({"verb": "submit", "statement": envelope, "ballots": []}),
        json!({"verb": "submit-run", "submissions": [{"statement": envelope}]}),
        json!({"verb": "depart", "departure": envelope}),
        json!({"verb": "witness", "statement": Digest::of(b"x"), "witnesses": []}),
    ];
    let made = [Request::Status, Request::Install { seq: Seq(3) }, Request::Handover];
    let made = made.iter().map(|request| json!(request));
    made.chain(written).map(|request| request.to_string().into_bytes()).collect()
}

fn certificates() -> Vec<Vec<u8>> {
    let lines = GOVERNANCE.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let each = lines.filter_map(|line| Some(line["certificate"].as_str()?.as_bytes().to_vec()));
    each.collect()
}

fn signatures() -> Vec<Vec<u8>> {
    let council = &world().council;
    let sig = council.group_signature(Lane::Release, "{}");
    let namespace = Lane::Release.namespace();
    vec![sshsig::armour(&council.board.group(), &namespace, &sig).into_bytes()]
}
