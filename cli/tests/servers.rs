//! What the program hands to servers (bundles, invitations) and asks of them (status, tree, nodes),
//! the latter of a stand-in for the agent's socket.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::Command;

use crate::board::{BORGIOS, Board};
use serde_json::{Value, json};

#[test]
fn a_fresh_server_gets_all_it_needs_and_nothing_else() {
    let board = Board::founded(&["ann", "ben"], 2);
    board.propose("ann", "1.0");
    board.ok("ann", &["vote", "release/1", "approve"]);
    board.ok("ben", &["vote", "release/1", "approve"]);
    let folder = board.path("blobs");
    std::fs::create_dir(&folder).unwrap();
    let (folder, keeper) = (folder.to_str().unwrap(), board.path("keeper"));
    let out = board.path("bundle.tar");
    let bundle = |installer: &str| {
        let out = out.to_str().unwrap();
        ["bundle", "--blobs", folder, "--installer", installer, "--out", out].map(str::to_owned)
    };
    let run = |installer: &str| {
        let args = bundle(installer);
        board.run("ben", &args.each_ref().map(String::as_str))
    };
    let keeper = keeper.to_str().unwrap();
    let missing = run(keeper);
    let said = String::from_utf8_lossy(&missing.stderr);
    assert!(said.contains("does not hold the component hello"), "{said}");
    std::fs::copy(board.path("hello-1.0.tar.zst"), format!("{folder}/any-name")).unwrap();
    let other = run("/bin/true");
    let said = String::from_utf8_lossy(&other.stderr);
    assert!(said.contains("is not the installer of release/1"), "{said}");
    assert!(!out.exists());
    assert!(run(keeper).status.success());
    let names = Command::new("tar").arg("-tf").arg(&out).output().unwrap();
    let names = String::from_utf8(names.stdout).unwrap();
    for name in ["release.json", "release.json.sig", "chain.json", "installer", "blobs/"] {
        assert!(names.lines().any(|line| line.starts_with(name)), "{name}: {names}");
    }

    let invite = board.path("invite.json");
    let path = invite.to_str().unwrap();
    // Nobody is known to join through, and nothing but `--first` says that there need be nobody.
    let alone = board.run("ann", &["invite", "--uses", "3", "--out", path, "--json"]);
    let said = String::from_utf8_lossy(&alone.stderr);
    assert!(said.contains("nobody is known to join through") && said.contains("--first"), "{said}");
    assert!(alone.status.code() == Some(2) && !invite.exists());
    board.ok("ann", &["invite", "--first", "--uses", "3", "--for", "12h", "--out", path]);
    assert_eq!(std::fs::metadata(&invite).unwrap().permissions().mode() & 0o777, 0o600);
    let file: Value = serde_json::from_slice(&std::fs::read(&invite).unwrap()).unwrap();
    assert_eq!((&file["members"], &file["name"]), (&json!([]), &json!("lab")));
    let line = file["allowed_signers"].as_str().unwrap();
    assert!(line.starts_with("governors namespaces=\"") && !line.contains('\n'), "{line}");
    assert!(file["token"].as_str().unwrap().starts_with("-----BEGIN OPENSSH PRIVATE KEY"));
    let signed: Value =
        serde_json::from_str(file["invitation"]["payload"].as_str().unwrap()).unwrap();
    assert_eq!((&signed["uses"], &signed["network"]), (&json!(3), &file["network"]));
    // The secret half of the token stands in the file only.
    for (path, _) in board.published("ballot").into_iter().chain(board.published("pool")) {
        assert!(!std::fs::read_to_string(path).unwrap().contains("PRIVATE KEY"));
    }
    let key = file["chain"][0]["sigs"][0]["by"].as_str().unwrap();
    let member = format!("web-1:7117={key}");
    board.ok("ann", &["invite", "--member", &member, "--out", path]);
    let file: Value = serde_json::from_slice(&std::fs::read(&invite).unwrap()).unwrap();
    assert_eq!(file["members"][0]["address"], "web-1:7117");
    // Without a folder a bundle asks the nodes talked to before, as an invitation does, and does not take
    // for the newest release what happens to lie here.
    let nodes = json!({"nodes": [{"address": "127.0.0.1:1", "key": key}]});
    std::fs::write(board.home("ben").join("nodes.json"), nodes.to_string()).unwrap();
    let mut alone = Command::new(BORGIOS);
    alone.args(bundle(keeper)).arg("--home").arg(board.home("ben"));
    alone.args(["--passphrase-fd", "0", "--socket", "/no.sock"]);
    let alone = alone.stdin(File::open(board.path("passphrase")).unwrap()).output().unwrap();
    let said = String::from_utf8_lossy(&alone.stderr);
    assert!(!alone.status.success() && said.contains("127.0.0.1:1"), "{said}");
    for bad in ["0d", "7", "2000d"] {
        let args = ["invite", "--first", "--for", bad, "--out", path];
        let code = board.run("ann", &args).status.code();
        assert_eq!(code, Some(2), "{bad}");
    }
}

/// Answers requests as an agent would, until the test program ends.
fn agent(listener: &UnixListener, answers: &BTreeMap<&str, Value>) {
    while let Ok((mut stream, _)) = listener.accept() {
        let mut request = Vec::new();
        let body = loop {
            let mut bytes = [0; 4096];
            let read = stream.read(&mut bytes).unwrap();
            request.extend_from_slice(&bytes[..read]);
            let text = String::from_utf8_lossy(&request);
            let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
            if let Some(Ok(body)) = body.map(|body| serde_json::from_str::<Value>(&body)) {
                break body;
            }
        };
        let answer = answers
            .get(body["get"].as_str().unwrap())
            .map_or(
                json!({"error": {"code": "bad_request", "message": "not here"}}),
                |answer| json!({"ok": answer}),
            )
            .to_string();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
    }
}

#[test]
fn operators_ask_the_agent_of_their_server() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("api.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBPKC95Su+07Ln2k1YXhoKS0OGVXC8smj3YprTo/6oFu";
    let answers = BTreeMap::from([
        ("status", json!({"name": "web-1", "tree": {"state": "attached"}, "keeper": null})),
        ("tree", json!({"nodes": [{"node": key, "name": "web-1\u{1b}[2J", "depth": 0}]})),
        (
            "nodes",
            json!({"nodes": [{
                "node": key, "name": "web-1", "expires": 2_000_000_000, "lapsed": false,
                "report": {"release": 2, "outcome": "rolled_back", "reason": "not well\nok"},
            }], "release": 2, "next": null}),
        ),
    ]);
    let key_of = |name: &str| json!({"name": name, "node": key});
    let answers = answers.into_iter().chain([
        (
            "ask",
            json!({
                "question": {"about": "received", "item": {"object": "x"}}, "took_ms": 7,
                "answered": 1, "members": 2, "complete": false,
                "histogram": {"yes": 1}, "unheard": [key_of("web-2")], "unheard_nodes": 1,
            }),
        ),
        (
            "node",
            json!({
                "node": key, "name": "web-2", "standing": "member", "found": false,
                "turnout": {"answered": 1, "members": 2},
            }),
        ),
    ]);
    let answers: BTreeMap<&str, Value> = answers.collect();
    let run = |args: &[&str]| {
        let mut command = Command::new(BORGIOS);
        command
            .args(args)
            .arg("--socket")
            .arg(&socket)
            .arg("--home")
            .arg(folder.path().join("none"));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    // Not joined: a failing assertion must not wait for a next request.
    std::thread::spawn(move || agent(&listener, &answers));
    let (code, text) = run(&["status"]);
    assert!(code == Some(0) && text.contains("keeper     does not answer"), "{text}");
    let (_, text) = run(&["tree"]);
    assert_eq!(text, "web-1\\u{1b}[2J  cannot be dialled  0ipPD5iD\n1 server\n");
    let (_, text) = run(&["nodes"]);
    assert!(text.contains("2 rolled_back: not well\\nok"), "{text}");
    let (_, text) = run(&["nodes", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["release"], 2);
    let note = format!("sha256:{}", "0".repeat(64));
    let (code, text) = run(&["ask", "received", &note]);
    assert!(code == Some(0) && text.contains("1 of 2 servers answered in 7 ms"), "{text}");
    assert!(text.contains("nothing heard of web-2"), "{text}");
    let (code, text) = run(&["ask", "received", &note, "--wait", "--within", "1s", "--json"]);
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &told["have"], &told["complete"]), (Some(1), &json!(1), &json!(false)));
    let (code, text) = run(&["node", "show", "web-2"]);
    assert!(code == Some(1) && text.starts_with("web-2  cannot be dialled  member\n"), "{text}");
    for bad in [
        ["ask", "received", "sha256:0", "--within", "1s"],
        ["ask", "load", "--above", "x", "--json"],
        ["ask", "disk", "--within", "26s", "--json"],
    ] {
        assert_eq!(run(&bad).0, Some(2), "{bad:?}");
    }
    let (code, text) = run(&["doctor"]);
    assert!(code == Some(1) && text.contains("check the keeper does not answer it"), "{text}");
}
