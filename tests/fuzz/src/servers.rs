//! What a server reads: the two processes' files, the HTTP port, and at the take-over everything
//! that its owner left behind.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use borgios_agent::depot::Depot;
use borgios_agent::keeper::chain_store::ChainStore;
use borgios_agent::keeper::grants::Witnesses;
use borgios_agent::keeper::paths::Paths;
use borgios_agent::keeper::{account, handed_over, ledger, protocol, takeover};
use borgios_agent::ledger::Ledger;
use borgios_agent::{http, identity};
use borgios_credentials::Rotation;
use borgios_peertree::Contact;
use borgios_policy::fixture::{ISSUED, NOW, statement};
use borgios_policy::{
    Chain, Handover, Invitation, Join, Lane, Object as _, Submission, Verdict, Witness,
    WitnessProof,
};
use borgios_releases::Journal;
use borgios_types::{Digest, Envelope, Kind, SecretKey};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::governance::{word, world};
use crate::seeds;
use crate::targets::folder;

/// Writes a file and the folders above it; what cannot be written is not there.
pub(crate) fn lay(path: PathBuf, bytes: &[u8]) {
    if let Some(folder) = path.parent() {
        let _ = fs::create_dir_all(folder).and_then(|()| fs::write(&path, bytes));
    }
}

/// The first statement of the world, as everybody has it.
pub(crate) fn first() -> Option<Envelope> {
    world().chain.history().next().map(|verified| verified.envelope().clone())
}

/// Paths of a temporary folder are drawn anew each time and no part of an outcome.
fn plain(text: &str, folder: &Path) -> String {
    text.replace(&folder.display().to_string(), "FOLDER")
}

/// A file of borgiosd's folder; the first byte says which.
pub fn agent_file(bytes: &[u8]) -> String {
    let (Some((which, rest)), Some(folder)) = (bytes.split_first(), folder()) else {
        return "empty".to_owned();
    };
    let root = folder.path();
    if let Some(first) = first().filter(|_| which & 8 == 0) {
        lay(
            root.join(format!("objects/policy/{}.json", first.id().hex())),
            first.to_json().as_bytes(),
        );
        lay(root.join("network"), world().network.to_string().as_bytes());
    }
    match which & 7 {
        0 => lay(root.join("gate.json"), rest),
        1 => lay(root.join("network"), rest),
        2 => return word(serde_json::from_slice::<Vec<Contact>>(rest)),
        3 => {
            lay(root.join("node.key"), rest);
            return plain(&word(identity::load_or_make(&root.join("node.key"))), root);
        }
        4 => lay(root.join("objects/note/x.json"), rest),
        _ => {
            let place = Envelope::parse(rest).map_or_else(
                |_| "note/x".to_owned(),
                |envelope| format!("{}/{}", envelope.kind, envelope.id().hex()),
            );
            lay(root.join(format!("objects/{place}.json")), rest);
        }
    }
    let opened = Ledger::open(root, 3_600);
    // Only a disk that fails keeps the agent from starting.
    assert!(opened.is_ok(), "a damaged file keeps the agent from starting: {opened:?}");
    let set_aside = root.join("objects/aside").exists() || root.join("gate.damaged").exists();
    if set_aside { "set aside".to_owned() } else { "ok".to_owned() }
}

/// Seeds of [`agent_file`].
#[must_use]
pub fn agent_seeds() -> Vec<Vec<u8>> {
    let with = |which: u8, text: &str| [&[which], text.as_bytes()].concat();
    let (_, release, _, ballots) = seeds::vote();
    let signed = world().council.sign(release);
    let mut seeds = vec![
        with(0, &gate().to_string()),
        with(1, &world().network.to_string()),
        with(
            2,
            &json!([Contact::new(SecretKey::from_seed([1; 32]).public(), "10.0.0.1:7117")])
                .to_string(),
        ),
        with(3, &SecretKey::from_seed([1; 32]).to_openssh("node")),
        with(5, &signed.to_json()),
    ];
    seeds.extend(first().map(|first| with(13, &first.to_json())));
    seeds.extend(ballots.iter().map(|ballot| with(5, &ballot.to_json())));
    seeds
}

/// A gate in which a release waits.
pub fn gate() -> serde_json::Value {
    let (_, release, _, ballots) = seeds::vote();
    let statement = world().council.sign(release);
    let id = statement.id();
    let submission = Submission { statement, ballots: ballots.clone() };
    json!({"docs": {id.to_string(): {"submission": submission, "seen": 1_790_000_000_u64}}, "ripe": [id]})
}

/// Seeds of the keys of the keeper whose folder it is, of its node, and of a member beside it.
const KEEPER: u8 = 5;
const NODE: u8 = 6;
const MEMBER: u8 = 10;
/// In the first byte of a receipt: the rest is its payload, which the keeper signs.
const SIGNED_ANEW: u8 = 16;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

/// A receipt that says this, by the keeper's own key.
fn receipt(payload: &[u8]) -> Option<Envelope> {
    let payload = String::from_utf8(payload.to_vec()).ok()?;
    let kind = Kind::new(Handover::KIND).ok()?;
    Some(Envelope::unsigned(kind, payload).sign(&key(KEEPER)))
}

/// What the keeper says of a take-over.
fn handover() -> Option<Envelope> {
    let handover = Handover {
        network: world().network,
        node: key(NODE).public(),
        keeper: key(KEEPER).public(),
        name: "web-1".parse().ok()?,
        host_keys: vec![key(7).public()],
        taken: BTreeMap::from([("sudo".parse().ok()?, 1)]),
        owner: None,
        at: NOW,
    };
    Some(handover.to_envelope())
}

/// The world's chain with a grant for the node behind it, and the grant's id.
fn granted() -> Option<&'static (Chain, Digest)> {
    static GRANTED: OnceLock<Option<(Chain, Digest)>> = OnceLock::new();
    let granted = GRANTED.get_or_init(|| {
        let (council, mut chain) = (&world().council, world().chain.clone());
        let body = json!({
            "order": "grant", "node": key(NODE).public(), "serial": 1, "key": key(2).public(),
            "after": ISSUED, "before": ISSUED.plus(600), "class": "normal", "reason": "the disk",
        });
        let draft = statement(Lane::Access, 1, Some(world().network), None, Some(1), body);
        let pools = council.pools(council.slot(&draft));
        let ballots: Vec<Envelope> =
            (0..3).map(|at| council.approve(&council.name(at), &draft, &pools)).collect();
        let signed = council.sign(&draft);
        let Ok(Verdict::New(verified)) = chain.verify_stored(&signed, &ballots) else {
            return None;
        };
        chain.apply(*verified);
        Some((chain, signed.id()))
    });
    granted.as_ref()
}

/// What a member says who saw that grant.
fn proof() -> Option<WitnessProof> {
    let ((_, grant), network) = (granted()?, world().network);
    let (member, token, council) = (key(MEMBER), key(200), &world().council);
    let invitation = Invitation {
        network,
        token: token.public(),
        uses: 9,
        issued: ISSUED,
        expires: ISSUED.plus(3600),
    };
    let invitation = invitation.to_envelope().sign(&council.keys[&council.name(0)]);
    let join = Join {
        network,
        node: member.public(),
        keeper: key(201).public(),
        name: "web-2".parse().ok()?,
        address: None,
        owner: None,
        invitation: invitation.id(),
        issued: ISSUED,
        expires: ISSUED.plus(60),
    };
    let witness = Witness { network, node: member.public(), statement: *grant, at: NOW };
    Some(WitnessProof {
        witness: witness.to_envelope().sign(&member),
        join: join.to_envelope().sign(&member).sign(&token),
        invitation,
    })
}

/// A file of the keeper's folder; the first byte says which.
pub fn keeper_file(bytes: &[u8]) -> String {
    let (Some((which, rest)), Some(folder)) = (bytes.split_first(), folder()) else {
        return "empty".to_owned();
    };
    let root = folder.path();
    let paths = Paths::below(root);
    lay(paths.keeper.join("pin"), world().network.to_string().as_bytes());
    let first = first().map(|statement| Submission { statement, ballots: Vec::new() });
    lay(paths.keeper.join("chain/policy/1.json"), json!(first).to_string().as_bytes());
    let opened = |expected: bool| {
        let opened = ChainStore::open(&paths.keeper);
        assert!(
            opened.is_ok() || !expected,
            "a damaged file keeps the keeper from starting: {opened:?}"
        );
        plain(&word(opened), root)
    };
    match which & 15 {
        0 => {
            lay(paths.keeper.join("gate.json"), rest);
            opened(true)
        }
        1 => {
            lay(paths.keeper.join("pin"), rest);
            opened(false)
        }
        at @ 2..=6 => {
            let lane = Lane::ALL[usize::from(at) - 2];
            lay(paths.keeper.join("chain").join(lane.as_str()).join("2.json"), rest);
            opened(true)
        }
        7 => {
            lay(paths.keeper.join("chain/release/1.json"), rest);
            opened(true)
        }
        8 => {
            lay(paths.journal(), rest);
            let read = ledger::read(&paths);
            assert!(read.is_ok(), "a damaged journal keeps the keeper from starting: {read:?}");
            word(serde_json::from_slice::<Journal>(rest))
        }
        9 => word(serde_json::from_slice::<Rotation>(rest)),
        10 => {
            let keeper = key(KEEPER);
            let receipt = if which & SIGNED_ANEW == 0 { None } else { receipt(rest) };
            let receipt = receipt.map(|receipt| receipt.to_json().into_bytes());
            lay(handed_over::path(&paths), receipt.as_deref().unwrap_or(rest));
            let found = handed_over::read(&paths, world().network, &keeper.public());
            found.map_or("none", |_| "ok").to_owned()
        }
        11 => {
            let Some((chain, id)) = granted() else { return "no grant".to_owned() };
            lay(paths.keeper.join("witnesses").join(format!("{}.json", id.hex())), rest);
            let seen = Witnesses::at(&paths).take(chain, &key(NODE).public(), id, &[]);
            match seen {
                Ok(0) => "nobody saw it".to_owned(),
                seen => word(seen),
            }
        }
        12 => {
            lay(root.join("etc/passwd"), rest);
            plain(&word(account::lookup(root)), root)
        }
        13 => word(serde_json::from_slice::<protocol::Answer>(rest)),
        14 => word(serde_json::from_slice::<protocol::Status>(rest)),
        _ => word(serde_json::from_slice::<Vec<Submission>>(rest)),
    }
}

/// Seeds of [`keeper_file`].
#[must_use]
pub fn keeper_seeds() -> Vec<Vec<u8>> {
    let with = |which: u8, text: &str| [&[which], text.as_bytes()].concat();
    let (_, release, _, ballots) = seeds::vote();
    let statement = world().council.sign(release);
    let submission = json!(Submission { statement, ballots: ballots.clone() }).to_string();
    let status = json!({
        "version": "1", "network": world().network, "keeper": key(KEEPER).public(), "heads": {},
        "installed": 1, "running": {}, "activity": {"doing": "idle"}, "attempted": [],
    });
    let mut seeds = vec![
        with(0, &gate().to_string()),
        with(1, &world().network.to_string()),
        with(7, &submission),
        with(8, &json!(Journal::default()).to_string()),
        with(9, &json!(Rotation::default()).to_string()),
        with(10, "{}"),
        with(
            12,
            "root:x:0:0::/root:/bin/sh\nborgios:x:998:997::/var/lib/borgios:/usr/sbin/nologin\n",
        ),
        with(13, r#"{"ok":{"a":1}}"#),
        with(14, &status.to_string()),
        with(15, &format!("[{submission}]")),
    ];
    seeds.extend((2..=6).map(|lane| with(lane, &submission)));
    if let Some(handover) = handover() {
        seeds.push(with(10, &handover.clone().sign(&key(KEEPER)).to_json()));
        seeds.push(with(10 + SIGNED_ANEW, &handover.payload));
    }
    seeds.extend(proof().map(|proof| with(11, &json!([proof]).to_string())));
    seeds
}

/// The files that [`owners_server`] fills, in order; behind them what `sshd -T` and systemd say.
const OWNERS: [&str; 16] = [
    "etc/passwd",
    "etc/shadow",
    "etc/group",
    "etc/gshadow",
    "etc/shadow-",
    "etc/sudoers",
    "etc/sudoers.d/90-cloud",
    "etc/ssh/sshd_config",
    "etc/ssh/sshd_config.d/50-provider.conf",
    "etc/default/ssh",
    "etc/systemd/system/getty@tty1.service.d/auto.conf",
    "etc/systemd/system/ssh.service.d/x.conf",
    "root/.ssh/authorized_keys",
    "proc/77/cgroup",
    "var/lib/borgios-bootstrap/takeover/journal.json",
    "var/lib/borgios-bootstrap/takeover/before/index.json",
];
/// Ends a part of an input.
const NEXT: &[u8] = b"\n===\n";

/// A server as its owner left it: parts that `NEXT` separates, one for each file.
pub fn owners_server(bytes: &[u8]) -> String {
    let Some(folder) = folder() else { return "no folder".to_owned() };
    let root = folder.path();
    let parts = parts(bytes);
    let part = |at: usize| parts.get(at).copied().unwrap_or_default();
    for (at, file) in OWNERS.iter().enumerate() {
        // What is absent may matter, too.
        if !part(at).is_empty() {
            lay(root.join(file), part(at));
        }
    }
    lay(root.join("usr/sbin/sshd"), b"");
    lay(root.join("proc/77/comm"), b"bash\n");
    let text = |at: usize| String::from_utf8_lossy(part(at)).into_owned();
    match takeover::fuzz::plan(root, &text(OWNERS.len()), &text(OWNERS.len() + 1)) {
        Ok(said) => said,
        Err(why) => plain(&why, root),
    }
}

fn parts(bytes: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(NEXT.len()).position(|window| window == NEXT) {
        parts.push(&rest[..at]);
        rest = &rest[at + NEXT.len()..];
    }
    parts.push(rest);
    parts
}

/// A small Debian server with an owner, and one on which a take-over has begun.
#[must_use]
pub fn owners_seeds() -> Vec<Vec<u8>> {
    let files = [
        "root:$6$x:0:0:root:/root:/bin/bash\nann:x:1000:27:Ann,,,:/home/ann:/bin/bash\ntoor::-0:0:::\n",
        "root:$y$owners:19000:0:99999:7:::\nann::19000:0:90:7:::\ntoor:$6$t:1::::::\n",
        "root:x:0:\nsudo:x:27:ann\nkvm:x:100:ann\nann:x:1000:\n",
        "root:*::\nsudo:$6$p:ann:ann\nann:!::\n",
        "root:$y$older:1::::::\n",
        "Defaults env_reset\n%sudo ALL=(ALL:ALL) ALL\n#1000 ALL=(ALL) ALL\n@includedir /etc/sudoers.d\n",
        "ann ALL=(ALL) NOPASSWD:ALL\n",
        "Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\nMatch User ann\n",
        "PermitRootLogin yes\n",
        "# options\nSSHD_OPTS = \"-p 2222\"\n",
        "[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root %I\n",
        "[Service]\nEnvironment=A=1\n",
        "# a\nssh-ed25519 AAAA me\n",
        "0::/user.slice/user-0.slice/session-3.scope\n",
    ];
    let sshd = "port 2222\nlistenaddress [::]:2222\nusepam yes\npermitrootlogin yes\n\
        authorizedkeysfile .ssh/authorized_keys %h/%u/%%\ntrustedusercakeys /etc/ssh/ca.pub\n";
    let journal = r#"{"state":"open","taking":{"begun":1,"sealed":null,"found":[]},"deadline":9,"until_s":9,"boot":"boot"}"#;
    let index = r#"{"boot":"boot","entries":{},"trees":[],"above":{},"running":[]}"#;
    let next = core::str::from_utf8(NEXT).unwrap_or_default();
    let of = |journal: &str, index: &str, systemctl: &str| {
        let all = files.iter().copied().chain([journal, index, sshd, systemctl]);
        all.collect::<Vec<_>>().join(next).into_bytes()
    };
    vec![of("", "", "active"), of(journal, index, "loaded"), of(journal, index, "77")]
}

thread_local! {
    static RUNTIME: RefCell<Option<tokio::runtime::Runtime>> = const { RefCell::new(None) };
}

/// Bytes on the HTTP port, whole and then the end.
pub fn http_request(bytes: &[u8]) -> String {
    let Some(folder) = folder() else { return "no folder".to_owned() };
    let Ok(depot) = Depot::open(&folder.path().join("blobs")) else { return "no depot".to_owned() };
    lay(depot.path(&Digest::of(b"blob")), b"blob");
    RUNTIME.with_borrow_mut(|runtime| {
        let runtime = runtime.get_or_insert_with(|| {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().build().expect("a runtime without threads")
        });
        runtime.block_on(async {
            let (mut client, server) = tokio::io::duplex(1 << 20);
            let serving = tokio::spawn(http::serve(server, http::router(depot)));
            let sent = &bytes[..bytes.len().min(1 << 19)];
            let _ = client.write_all(sent).await;
            let _ = client.shutdown().await;
            let mut answer = Vec::new();
            let _ = client.read_to_end(&mut answer).await;
            let served = serving.await;
            assert!(served.is_ok(), "the server's task ended badly: {served:?}");
            let status = answer.get(9..12).map(|code| String::from_utf8_lossy(code).into_owned());
            match status.as_deref() {
                Some("200" | "206") => "ok".to_owned(),
                // Digits are no part of an outcome.
                Some("404") => "not found".to_owned(),
                Some("416") => "no such range".to_owned(),
                Some("400") => "bad request".to_owned(),
                Some(_) => "another answer".to_owned(),
                None => "no answer".to_owned(),
            }
        })
    })
}

/// Seeds of [`http_request`].
#[must_use]
pub fn http_seeds() -> Vec<Vec<u8>> {
    let hex = Digest::of(b"blob").hex();
    [
        format!("GET /blobs/{hex} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!(
            "GET /blobs/{hex} HTTP/1.1\r\nHost: x\r\nRange: bytes=1-2\r\nConnection: close\r\n\r\n"
        ),
        format!("HEAD /blobs/{hex} HTTP/1.0\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
        "POST /blobs/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            .to_owned(),
    ]
    .map(String::into_bytes)
    .into()
}

/// A range header for a file whose size stands in the first byte.
pub fn http_range(bytes: &[u8]) -> String {
    let Some((size, value)) = bytes.split_first() else { return "empty".to_owned() };
    let size = u64::from(*size);
    match http::range(value, size) {
        Some((start, end)) => {
            assert!(start < end && end <= size, "{start}..{end} of {size}");
            "ok".to_owned()
        }
        None => "the whole".to_owned(),
    }
}

/// Seeds of [`http_range`].
#[must_use]
pub fn range_seeds() -> Vec<Vec<u8>> {
    ["\nbytes=1-2", "\nbytes=3-", "\nbytes=-4"].map(|text| text.as_bytes().to_vec()).into()
}
