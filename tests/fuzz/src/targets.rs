//! The table of parsers: a name, and a function of bytes.

use std::path::Path;

use borgios_agent::frame::Lines;
use borgios_agent::keeper::protocol::Request;
use borgios_agent::settings::Settings;
use borgios_agent::{api, wire};
use borgios_credentials::{Escrow, Schedule, Shadow};
use borgios_policy::Lane;
use borgios_releases::{Bundle, ComponentInfo, Expected, unpack};
use borgios_stream::{Batch, Frame};
use borgios_types::{Envelope, certificate, sshsig};
use bytes::Bytes;

use crate::governance::{self, word, world};
use crate::{agents, ceremony, papers, servers, sessions, streams, tools, trees, words};

/// One parser.
#[derive(Debug)]
pub struct Target {
    /// Its name, which is also its corpus' folder.
    pub name: &'static str,
    /// Takes any bytes; answers `ok`, or why they were refused. It must not panic.
    pub run: fn(&[u8]) -> String,
}

/// Every one of them.
pub const TARGETS: &[Target] = &[
    Target { name: "envelope", run: envelope },
    Target { name: "policy-statement", run: |bytes| governance::draft(Lane::Policy, bytes) },
    Target { name: "release", run: |bytes| governance::draft(Lane::Release, bytes) },
    Target { name: "credential", run: |bytes| governance::draft(Lane::Credential, bytes) },
    Target { name: "member", run: |bytes| governance::draft(Lane::Member, bytes) },
    Target { name: "access", run: |bytes| governance::draft(Lane::Access, bytes) },
    Target { name: "policy", run: governance::policy },
    Target { name: "pool", run: governance::pool },
    Target { name: "ballot", run: governance::ballot },
    Target { name: "proposal", run: governance::proposal },
    Target { name: "card", run: governance::card },
    Target { name: "plan", run: governance::plan },
    Target { name: "ceremony-paper", run: ceremony::paper },
    Target { name: "other-objects", run: governance::other },
    Target { name: "proof", run: governance::proof },
    Target { name: "invitation-file", run: governance::invitation_file },
    Target { name: "component-info", run: component_info },
    Target { name: "component", run: component },
    Target { name: "component-tar", run: component_tar },
    Target { name: "bundle", run: bundle },
    Target { name: "tree-frame", run: tree_frame },
    Target { name: "lines", run: lines },
    Target { name: "stream-frame", run: stream_frame },
    Target { name: "api-request", run: api_request },
    Target { name: "keeper-verb", run: keeper_verb },
    Target { name: "agent-json", run: agent_json },
    Target { name: "certificate", run: certificate },
    Target { name: "ssh-signature", run: ssh_signature },
    Target { name: "schedule", run: schedule },
    Target { name: "escrow", run: escrow },
    Target { name: "escrow-opened", run: escrow_opened },
    Target { name: "shadow", run: shadow },
    Target { name: "change-paper", run: papers::change_paper },
    Target { name: "repair-paper", run: papers::repair_paper },
    Target { name: "ceremony-state", run: papers::ceremony_state },
    Target { name: "session-paper", run: sessions::paper },
    Target { name: "gate", run: words::gate },
    Target { name: "submissions", run: words::submissions },
    Target { name: "sealed-share", run: words::sealed_share },
    Target { name: "openssh-key", run: words::openssh_key },
    Target { name: "small-words", run: words::small },
    Target { name: "powers", run: words::powers },
    Target { name: "stream-pipe", run: streams::pipe },
    Target { name: "stream-core", run: streams::core },
    Target { name: "stream-log", run: streams::log },
    Target { name: "stream-proof", run: streams::proof },
    Target { name: "stream-evidence", run: streams::evidence },
    Target { name: "tree-node", run: trees::node },
    Target { name: "sim-script", run: trees::script },
    Target { name: "http-request", run: servers::http_request },
    Target { name: "http-range", run: servers::http_range },
    Target { name: "agent-api", run: agents::api },
    Target { name: "ssh-request", run: agents::ssh },
    Target { name: "agent-file", run: servers::agent_file },
    Target { name: "keeper-file", run: servers::keeper_file },
    Target { name: "owners-server", run: servers::owners_server },
    Target { name: "cli-option", run: tools::option },
    Target { name: "cli-words", run: tools::words },
    Target { name: "cli-backup", run: tools::backup },
    Target { name: "cli-locked", run: tools::locked },
    Target { name: "cli-file", run: tools::file },
    Target { name: "cli-answer", run: tools::answer },
    Target { name: "cli-shown", run: tools::shown },
    Target { name: "cli-ssh-settings", run: tools::ssh_settings },
    Target { name: "cli-bootstrap-log", run: tools::bootstrap_log },
    Target { name: "cli-one-line", run: tools::one_line },
];

fn text(bytes: &[u8]) -> Option<&str> {
    core::str::from_utf8(bytes).ok()
}

fn envelope(bytes: &[u8]) -> String {
    let read = Envelope::parse(bytes);
    if let Ok(envelope) = &read {
        let again = Envelope::parse(envelope.to_json().as_bytes());
        assert!(again.is_ok_and(|again| again == *envelope), "it does not read what it writes");
    }
    word(read)
}

fn component_info(bytes: &[u8]) -> String {
    word(ComponentInfo::parse(bytes))
}

/// A temporary folder, in memory unless TMPDIR says otherwise: thousands are made.
pub(crate) fn folder() -> Option<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let in_memory = memory.is_dir() && std::env::var_os("TMPDIR").is_none();
    if in_memory { tempfile::tempdir_in(memory).ok() } else { tempfile::tempdir().ok() }
}

fn component(bytes: &[u8]) -> String {
    let (Some(folder), Ok(name)) = (folder(), "hello".parse()) else { return "no folder".into() };
    let dest = folder.path().join("component");
    let result = unpack(bytes, &dest, &Expected { name: &name, arch: "x86_64" });
    // There whole, or not at all; and nothing beside it.
    assert_eq!(dest.exists(), result.is_ok(), "a part of a component was left");
    let left = std::fs::read_dir(folder.path()).map_or(0, Iterator::count);
    assert_eq!(left, usize::from(result.is_ok()), "something was left beside the component");
    word(result).replace(&folder.path().display().to_string(), "FOLDER")
}

/// The same with a tar that is packed here: changes reach the entries.
fn component_tar(bytes: &[u8]) -> String {
    match zstd::encode_all(bytes, 1) {
        Ok(packed) => component(&packed),
        Err(error) => error.to_string(),
    }
}

fn bundle(bytes: &[u8]) -> String {
    let Some(folder) = folder() else { return "no folder".into() };
    word(Bundle::read(bytes, folder.path())).replace(&folder.path().display().to_string(), "FOLDER")
}

fn tree_frame(bytes: &[u8]) -> String {
    let Some(line) = text(bytes) else { return "not text".to_owned() };
    let read = wire::Frame::parse(line);
    if let Ok(frame) = &read
        && !matches!(frame, wire::Frame::Unknown)
    {
        assert!(wire::Frame::parse(&frame.to_line()).is_ok(), "it does not read what it writes");
    }
    word(read)
}

fn lines(bytes: &[u8]) -> String {
    let mut lines = Lines::new();
    for chunk in bytes.chunks(1000) {
        lines.push(chunk);
        loop {
            match lines.next_line() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => return error.to_string(),
            }
        }
    }
    "ok".to_owned()
}

fn stream_frame(bytes: &[u8]) -> String {
    let read = Frame::parse(Bytes::copy_from_slice(bytes));
    if let Ok(frame) = &read {
        assert_eq!(&frame.encode()[..], bytes, "a frame has one encoding");
        if let Frame::Batch(batch) = frame {
            let _ = borgios_stream::jobs::verify(batch);
        }
    }
    if let Ok(batch) = Batch::parse(Bytes::copy_from_slice(bytes)) {
        assert_eq!(&batch.bytes()[..], bytes);
    }
    word(read)
}

fn api_request(bytes: &[u8]) -> String {
    let Some(line) = text(bytes) else { return "not text".to_owned() };
    if api::is_request(line) { "ok".to_owned() } else { "no request".to_owned() }
}

fn keeper_verb(bytes: &[u8]) -> String {
    let Some(line) = text(bytes) else { return "not text".to_owned() };
    word(serde_json::from_str::<Request>(line))
}

fn agent_json(bytes: &[u8]) -> String {
    let Some(folder) = folder() else { return "no folder".into() };
    let file = folder.path().join("agent.json");
    if std::fs::write(&file, bytes).is_err() {
        return "no file".to_owned();
    }
    // The path is drawn anew each time and no part of the outcome.
    word(Settings::of_server(&file)).replace(&file.display().to_string(), "FILE")
}

fn certificate(bytes: &[u8]) -> String {
    let Some(text) = text(bytes) else { return "not text".to_owned() };
    let group = world().council.board.group();
    if certificate::is_signed_by(text, &group) { "ok".to_owned() } else { "no".to_owned() }
}

fn ssh_signature(bytes: &[u8]) -> String {
    let Some(text) = text(bytes) else { return "not text".to_owned() };
    word(sshsig::read_armour(text, &Lane::Release.namespace()))
}

fn schedule(bytes: &[u8]) -> String {
    word(Schedule::parse(bytes))
}

fn escrow(bytes: &[u8]) -> String {
    match crate::seeds::schedule() {
        Some(schedule) => word(Escrow::parse(bytes, schedule, &world().council.board)),
        None => "no schedule".to_owned(),
    }
}

/// What a dealer sealed to the first governor: the plaintext, which is sealed here.
fn escrow_opened(bytes: &[u8]) -> String {
    let council = &world().council;
    let name = council.name(0);
    let (Some(schedule), Some(honest)) = (crate::seeds::schedule(), crate::seeds::escrow()) else {
        return "nothing was dealt".to_owned();
    };
    let Ok(identity) = council.identities[&name].parse::<age::x25519::Identity>() else {
        return "no identity".to_owned();
    };
    // One form is read: the text is changed where the old file stands in it.
    let text = String::from_utf8_lossy(&honest.to_bytes()).into_owned();
    let old = serde_json::from_str::<serde_json::Value>(&text).ok();
    let old = old.and_then(|escrow| Some(escrow["sealed"][name.as_str()].as_str()?.to_owned()));
    let sealed = age::encrypt(&identity.to_public(), bytes).map(borgios_policy::Bytes);
    let sealed = sealed.ok().and_then(|sealed| serde_json::to_value(sealed).ok());
    let (Some(old), Some(serde_json::Value::String(sealed))) = (old, sealed) else {
        return "not sealed".to_owned();
    };
    let text = text.replace(&old, &sealed);
    match Escrow::parse(text.as_bytes(), schedule, &council.board) {
        Ok(escrow) => word(escrow.open(&name, &identity)),
        Err(error) => error.to_string(),
    }
}

fn shadow(bytes: &[u8]) -> String {
    word(Shadow::parse(bytes))
}
