//! A server below a folder that has joined, with a schedule in its depot and root's line in its
//! `/etc/shadow`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use borgios_agent::keeper::chain_store::ChainStore;
use borgios_agent::keeper::handed_over;
use borgios_agent::keeper::paths::Paths;
use borgios_credentials::{Schedule, Shadow, Verifier};
use borgios_policy::credential::{Blob, Credential};
use borgios_policy::{Handover, Lane, Object as _, Submission};
use borgios_types::{Digest, Envelope, Epoch, NodeId};
use serde_json::Value;

use crate::bench::{Bench, PROGRAM};
use crate::board::now;

/// Root's field before the network's first rotation.
pub(crate) const OWNERS: &str = "$6$owner$hash";

/// The verifier of an epoch; nobody logs in here, so no password stands behind it.
pub(crate) fn verifier(epoch: u64) -> Verifier {
    format!("$y$j9T${epoch:022}${epoch:043}").parse().unwrap()
}

/// A schedule of five epochs from 1 on; the first began a minute ago.
pub(crate) fn schedule(network: Digest, interval_s: u64) -> Schedule {
    let verifiers: Vec<String> = (1..=5).map(|e| format!("\"{}\"", verifier(e))).collect();
    let t0 = now().0 - 60;
    let text = format!(
        "{{\"network\":\"{network}\",\"first\":1,\"t0\":{t0},\"interval_s\":{interval_s},\
         \"jitter_s\":0,\"verifiers\":[{}]}}",
        verifiers.join(",")
    );
    Schedule::parse(text.as_bytes()).unwrap()
}

/// Puts the schedule into the depot and signs the next statement about it.
pub(crate) fn scheduled(bench: &mut Bench, schedule: &Schedule, min_epoch: u64) -> Envelope {
    let bytes = schedule.to_bytes();
    fs::write(bench.paths.depot.join(schedule.digest().hex()), &bytes).unwrap();
    let schedule = Blob { digest: schedule.digest(), size: bytes.len() as u64 };
    let escrow = Blob { digest: Digest::of(b"escrow"), size: 6 };
    let reason = String::new();
    let body = Credential { schedule, escrow, min_epoch: Epoch(min_epoch), reason };
    bench.board.statement(Lane::Credential, body.to_body())
}

/// A pinned server with accounts.
pub(crate) fn with_accounts() -> Bench {
    let bench = Bench::pinned();
    borgios_agent::identity::load_or_make(&bench.paths.key()).unwrap();
    let etc = bench.paths.root.join("etc");
    fs::create_dir_all(&etc).unwrap();
    fs::write(etc.join("passwd"), "root:x:0:0:root:/root:/bin/bash\n").unwrap();
    for name in ["shadow", "shadow-"] {
        fs::write(etc.join(name), shadow(OWNERS)).unwrap();
        fs::set_permissions(etc.join(name), fs::Permissions::from_mode(0o640)).unwrap();
    }
    bench
}

/// `/etc/shadow` with this field for root.
pub(crate) fn shadow(field: &str) -> String {
    format!("daemon:*:19000:0:99999:7:::\nroot:{field}:19000:0:99999:7:::\n")
}

/// Gives statements to the keeper's chain while no keeper runs.
pub(crate) fn store(paths: &Paths, statements: &[Envelope]) {
    let mut store = ChainStore::open(&paths.keeper).unwrap();
    for statement in statements {
        let submission = Submission { statement: statement.clone(), ballots: Vec::new() };
        store.submit(now(), &submission).unwrap();
    }
}

/// `program` as root: of the system, or of a namespace in which this user is.
pub(crate) fn as_root(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--", program]);
    command
}

/// Writes the receipt for the server's root, as the take-over does.
pub(crate) fn hand_over(bench: &Bench, node: NodeId) {
    let key = borgios_agent::identity::load_or_make(&bench.paths.key()).unwrap();
    let handover = Handover {
        network: bench.board.network(),
        node,
        keeper: key.public(),
        name: "web-1".parse().unwrap(),
        host_keys: Vec::new(),
        taken: [].into(),
        owner: None,
        at: now(),
    };
    let envelope = handover.to_envelope().sign(&key);
    fs::write(handed_over::path(&bench.paths), envelope.to_json()).unwrap();
}

/// The keeper as a program that is root when it runs.
pub(crate) fn keeper_as_root(bench: &Bench) -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from(PROGRAM);
    }
    let path = bench.path("keeper-as-root");
    let script = format!("#!/bin/sh\nexec unshare --map-root-user -- {PROGRAM} \"$@\"\n");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// `borgios-keeper rotate --once` below a root.
pub(crate) fn rotate(root: &Path) -> Output {
    let mut command = as_root(PROGRAM);
    command.args(["rotate", "--once", "--root"]).arg(root);
    command.output().unwrap()
}

/// Expects that it ended well.
pub(crate) fn rotates(root: &Path, place: &str) {
    let output = rotate(root);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{place}: {said}");
}

/// Root's verifier, in a file that is one whole thing.
pub(crate) fn carried(root: &Path, place: &str) -> Verifier {
    let bytes = fs::read(root.join("etc/shadow")).unwrap();
    let shadow = Shadow::parse(&bytes).unwrap_or_else(|why| panic!("{place}: {why}"));
    let verifier = shadow.root().verifier().cloned();
    verifier.unwrap_or_else(|| panic!("{place}: {:?}", shadow.root()))
}

/// What must hold whenever a rotation came to rest: the verifier, no copy of an older one, its
/// journal at rest, and nothing left over in `/etc`.
pub(crate) fn check_rest(root: &Path, epoch: u64, place: &str) {
    assert_eq!(carried(root, place), verifier(epoch), "{place}");
    let etc = root.join("etc");
    assert_eq!(fs::read(etc.join("shadow")).unwrap(), fs::read(etc.join("shadow-")).unwrap());
    for name in ["shadow", "shadow-"] {
        let mode = fs::metadata(etc.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o640, "{place}: {name}");
    }
    let names = fs::read_dir(&etc).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    // The doors of a server that is handed over are another thread's.
    names.retain(|name| name != "borgios");
    names.sort();
    assert_eq!(names, [".pwd.lock", "passwd", "shadow", "shadow-"], "{place}");
    let journal = fs::read(Paths::below(root).rotation()).unwrap();
    let journal: Value = serde_json::from_slice(&journal).unwrap();
    assert_eq!(journal["rotation"]["state"], "idle", "{place}");
    assert_eq!(journal["rotation"]["current"]["epoch"], epoch, "{place}");
}
