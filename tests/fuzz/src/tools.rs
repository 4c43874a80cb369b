//! What the governors' and operators' tool reads: words that people type, files that they are given,
//! what nodes, `ssh` and `bootstrap.sh` say.

use borgios_cli::fuzz;
use borgios_types::Digest;
use serde_json::json;

use crate::governance::{text, word, world};
use crate::seeds;
use crate::servers::first;
use crate::targets::folder;

fn with_text(bytes: &[u8], read: impl FnOnce(&str) -> fuzz::Said) -> String {
    text(bytes).map_or_else(|| "not text".to_owned(), |text| word(read(&text)))
}

/// A word of the command line; the first byte says of which option.
pub fn option(bytes: &[u8]) -> String {
    let Some((which, rest)) = bytes.split_first() else { return "empty".to_owned() };
    with_text(rest, |text| fuzz::option(*which, text))
}

/// Seeds of [`option`].
#[must_use]
pub fn option_seeds() -> Vec<Vec<u8>> {
    let key = borgios_types::SecretKey::from_seed([1; 32]).public();
    let member = format!("[fd00::3]:7117={key}");
    let words: [&str; 14] = [
        "root@[fd00::1]:22",
        "web-1=10.0.0.3:7117",
        "root@web-1=web-1",
        "release/3.1",
        "90d",
        "2026-11-27T00:00:00Z",
        "[fd00::3]",
        "1790000000:17",
        "1-release-42-0",
        "https://example.org/x",
        &member,
        "0.85",
        "256 |1|x= SHA256:abc (ED25519)",
        "root@web-1:22",
    ];
    (0..).zip(words).map(|(at, word)| [&[at], word.as_bytes()].concat()).collect()
}

/// The 24 words of a share.
pub fn words(bytes: &[u8]) -> String {
    with_text(bytes, fuzz::words)
}

/// Seeds of [`words`].
#[must_use]
pub fn words_seeds() -> Vec<Vec<u8>> {
    let words = [[0; 32], [7; 32], [255; 32]].map(|scalar| fuzz::words_for(&scalar));
    words.into_iter().flatten().map(String::into_bytes).collect()
}

/// A backup that was opened.
pub fn backup(bytes: &[u8]) -> String {
    word(fuzz::backup(bytes))
}

/// Seeds of [`backup`].
#[must_use]
pub fn backup_seeds() -> Vec<Vec<u8>> {
    let council = &world().council;
    fuzz::backup_of(&council.board, &council.shares[&council.name(0)]).into_iter().collect()
}

/// A file under a passphrase.
pub fn locked(bytes: &[u8]) -> String {
    word(fuzz::locked(bytes))
}

/// Seeds of [`locked`]: little work, and the wrong passphrase.
#[must_use]
pub fn locked_seeds() -> Vec<Vec<u8>> {
    let locked = |passphrase: &str| {
        let mut recipient = age::scrypt::Recipient::new(passphrase.to_owned().into());
        recipient.set_work_factor(2);
        age::encrypt(&recipient, b"a backup").ok()
    };
    ["x", "y"].into_iter().filter_map(locked).collect()
}

/// A file of the governor's folder, of an exchange folder, or given by hand; the first byte says
/// which.
pub fn file(bytes: &[u8]) -> String {
    let (Some((which, rest)), Some(folder)) = (bytes.split_first(), folder()) else {
        return "empty".to_owned();
    };
    let Some(first) = first() else { return "no policy".to_owned() };
    word(fuzz::file(*which, rest, folder.path(), &first))
        .replace(&folder.path().display().to_string(), "FOLDER")
}

/// Seeds of [`file()`].
#[must_use]
pub fn file_seeds() -> Vec<Vec<u8>> {
    let with = |which: u8, text: &str| [&[which], text.as_bytes()].concat();
    let (_, release, pools, ballots) = seeds::vote();
    let signed = world().council.sign(release);
    let key = borgios_types::SecretKey::from_seed([1; 32]).public();
    let id = Digest::of(b"x");
    vec![
        with(0, &json!(ballots).to_string()),
        with(1, &pools[0].to_json()),
        with(2, &pools[0].to_json()),
        with(3, &json!({"nodes": [{"address": "10.0.0.1:7117", "key": key}]}).to_string()),
        with(4, &json!({id.to_string(): 1}).to_string()),
        with(5, &json!({id.to_string(): "/root/key"}).to_string()),
        with(6, &json!({"network": id, "name": "demo"}).to_string()),
        with(7, &format!("{key} ann@laptop")),
        with(8, &signed.to_json()),
        with(9, &ballots[0].to_json()),
    ]
}

/// An answer on the agent's socket.
pub fn answer(bytes: &[u8]) -> String {
    with_text(bytes, fuzz::answer)
}

/// Seeds of [`answer`].
#[must_use]
pub fn answer_seeds() -> Vec<Vec<u8>> {
    [
        "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"ok\":1}",
        "HTTP/1.1 400 Bad Request\r\n\r\n{\"error\":{\"code\":\"x\",\"message\":\"y\"}}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// What a node says, as people see it; the first byte says to which question.
pub fn shown(bytes: &[u8]) -> String {
    let Some((which, rest)) = bytes.split_first() else { return "empty".to_owned() };
    match serde_json::from_slice(rest) {
        Ok(value) => word(fuzz::shown(*which, &value)),
        Err(error) => error.to_string(),
    }
}

/// Seeds of [`shown`].
#[must_use]
pub fn shown_seeds() -> Vec<Vec<u8>> {
    let key = |number| borgios_types::SecretKey::from_seed([number; 32]).public();
    let status = json!({
        "name": "web-1", "address": "10.0.0.1:7117", "version": "0.1.0", "uptime_s": 7200,
        "network": Digest::of(b"network"), "heads": {"policy": {"seq": 1}},
        "tree": {"state": "attached", "depth": 1, "children": ["a"], "size": 3},
        "keeper": {
            "installed": 1, "heads": {"release": {"seq": 2}}, "handed_over": true,
            "last": {"release": 2, "outcome": "rolled_back", "reason": "not well"},
            "activity": {"doing": "installing", "seq": 3, "step": "staged"},
            "held": [{"lane": "release", "seq": 3, "state": "paused", "by": ["ann"], "until": 9}],
            "heard": {"fresh": 1, "needed": 2}, "problem": {"message": "m"},
            "credential": {"epoch": 7, "due": 100, "changed": 190, "next": 1_795_000_000_u64},
            "access": [{"seq": 3, "state": "open", "witnesses": 2, "needed": 2, "before": 9}],
        },
        "credential": {"fleet": {"epoch": 7, "current": 4, "late_nodes": 1, "silent": 0,
            "late": [{"name": "web-2", "epoch": 6, "late_s": 70}]}},
    });
    let node = json!({
        "node": key(1), "name": "web-3", "standing": "member", "found": true, "claims": 2,
        "record": {"issued": 0, "expires": 86_400, "invitation": "sha256:00", "keeper": key(2)},
        "place": {"parent": {"node": key(3)}, "depth": 1, "hops": 3, "children": 0,
            "attached_s": 70, "path": [{"name": "a"}]},
        "runs": {"release": 2, "version": "0.1.0", "uptime_s": 9, "epoch": 3}, "took_ms": 12,
    });
    let answered = json!({
        "answered": 2, "members": 3, "took_ms": 4, "histogram": {"0.1.0": 2}, "other": 0,
        "question": {"about": "load"}, "exceptional_nodes": 1,
        "measures": {"load": {"count": 2, "sum": 5, "min": 2, "mean": 2, "max": 3}},
        "exceptions": [{"node": key(1), "name": "web-1", "what": "load", "weight": 1}],
        "silent_nodes": 1, "silent": [{"node": key(1), "name": "web-1"}],
        "unheard_nodes": 0, "unheard": [], "surplus": 0,
    });
    let tree = json!({"nodes": [
        {"node": key(1), "name": "web-1", "address": "10.0.0.1:7117"},
        {"node": key(2), "name": "web-2", "parent": key(1)},
        {"node": key(3), "name": "web-3", "parent": key(2)},
    ], "silent": [key(4)], "partial": true});
    let member = json!({
        "node": key(1), "name": "web-1", "address": "10.0.0.1:7117", "expires": 9_000,
        "report": {"release": 2, "outcome": "rolled_back", "reason": "not well"},
        "rotation": {"epoch": 3},
    });
    let page = json!({"messages": [
        {"origin": key(1), "epoch": 1, "number": 2, "kind": "chat", "issued": 3, "bytes": "aGVsbG8="},
    ], "next": null});
    (0..)
        .zip([&status, &node, &answered, &tree, &member, &page, &status])
        .map(|(at, value)| [&[at], value.to_string().as_bytes()].concat())
        .collect()
}

/// What `ssh -G` says.
pub fn ssh_settings(bytes: &[u8]) -> String {
    with_text(bytes, fuzz::ssh_settings)
}

/// Seeds of [`ssh_settings`].
#[must_use]
pub fn settings_seeds() -> Vec<Vec<u8>> {
    let text = "host web\nuser root\nhostname 10.0.0.1\nport 2222\nhostkeyalias none\n\
        userknownhostsfile ~/.ssh/known_hosts ~/.ssh/known_hosts2\n";
    vec![text.as_bytes().to_vec()]
}

/// What `bootstrap.sh` says.
pub fn bootstrap_log(bytes: &[u8]) -> String {
    with_text(bytes, fuzz::bootstrap_log)
}

/// Seeds of [`bootstrap_log`].
#[must_use]
pub fn log_seeds() -> Vec<Vec<u8>> {
    let key = borgios_types::SecretKey::from_seed([1; 32]).public();
    let network = Digest::of(b"network");
    let text = format!(
        "== check: x\r\n== receipt\nRECEIPT of web-1 was handed over\n  network demo {network}\n  \
         node {key}\n-----BEGIN SSH SIGNATURE-----\nbootstrap.sh: no\nend-of-x 3\n"
    );
    vec![text.into_bytes()]
}

/// Text from outside in one line.
pub fn one_line(bytes: &[u8]) -> String {
    with_text(bytes, fuzz::one_line)
}

/// Seeds of [`one_line`].
#[must_use]
pub fn line_seeds() -> Vec<Vec<u8>> {
    vec!["a\n\u{1b}[2J\u{202e}b".as_bytes().to_vec()]
}
