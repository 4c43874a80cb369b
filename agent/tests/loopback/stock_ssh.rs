//! The stock `ssh` client talks to both subsystems.

use std::process::Stdio;

use borgios_types::SecretKey;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::fleet::{Fleet, PATIENCE, Server};

/// A stock `ssh` that runs, and the folder with its key.
pub(crate) struct Ssh {
    child: Child,
    _folder: tempfile::TempDir,
}

/// Starts `ssh ARGUMENTS`, e.g. `-s host SUBSYSTEM`.
fn start(server: &Server, key: &SecretKey, arguments: &[&str]) -> Ssh {
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key");
    std::fs::write(&key_file, key.to_openssh("test").as_bytes()).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&key_file, mode).unwrap();
    let (host, port) = server.settings.listen.rsplit_once(':').unwrap();
    let known = folder.path().join("known_hosts");
    std::fs::write(&known, format!("[{host}]:{port} {}\n", server.me())).unwrap();
    let child = Command::new("ssh")
        .args(["-F", "none", "-T", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"])
        .args(["-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "LogLevel=ERROR"])
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", known.display()))
        .arg("-i")
        .arg(&key_file)
        .args(["-p", port, "-l", "anyone"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the package openssh-client is there");
    Ssh { child, _folder: folder }
}

/// Starts `ssh -s host peertree`.
pub(crate) fn follow(server: &Server, key: &SecretKey) -> Ssh {
    start(server, key, &["-s", "127.0.0.1", "peertree"])
}

impl Ssh {
    /// Its input, to write to and to close.
    pub(crate) fn input(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// Its output, line by line.
    pub(crate) fn lines(&mut self) -> Lines<BufReader<ChildStdout>> {
        BufReader::new(self.child.stdout.take().unwrap()).lines()
    }

    /// Waits until it ends by itself; its exit status and what it printed that nobody took.
    pub(crate) async fn end(self) -> (i32, String) {
        let output = self.child.wait_with_output();
        let output = tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap();
        (output.status.code().unwrap_or(-1), String::from_utf8(output.stdout).unwrap())
    }
}

/// Runs `ssh -s host SUBSYSTEM` with `input`, and returns its exit status and output.
pub(crate) async fn ssh(
    server: &Server,
    key: &SecretKey,
    arguments: &[&str],
    input: &str,
) -> (i32, String) {
    let mut ssh = start(server, key, arguments);
    let mut stdin = ssh.input();
    // The server may have had enough before all of it is sent.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    ssh.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_governor_can_ask_with_nothing_but_ssh() {
    let fleet = Fleet::of(1, 2).await;
    let server = &fleet.servers[0];
    let ann = fleet.board.governor(0);
    let host = ["-s", "127.0.0.1", "borgios"];
    let (status, out) = ssh(server, ann, &host, "{\"get\":\"heads\"}\n{\"get\":\"x\"}\n").await;
    let lines: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(status, 0);
    assert_eq!(lines[0]["ok"]["policy"]["seq"], 1);
    assert_eq!(lines[1]["error"]["code"], "bad_request");

    // Anyone else is told why not.
    let stranger = SecretKey::from_seed([77; 32]);
    let (status, out) = ssh(server, &stranger, &host, "{\"get\":\"heads\"}\n").await;
    assert_eq!(status, 1);
    assert!(out.contains("not_a_governor"), "{out}");

    // There is no shell, and no other subsystem.
    let (status, out) = ssh(server, ann, &["127.0.0.1", "id"], "").await;
    assert!(status != 0 && out.is_empty(), "{status} {out}");
    let (status, _) = ssh(server, ann, &["-s", "127.0.0.1", "sftp"], "").await;
    assert_ne!(status, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tree_greets_a_stock_client_and_says_goodbye() {
    let fleet = Fleet::of(1, 2).await;
    let server = &fleet.servers[0];
    let stranger = SecretKey::from_seed([77; 32]);
    let host = ["-s", "127.0.0.1", "peertree"];
    let (status, out) = ssh(server, &stranger, &host, "\"leave\"\n").await;
    let mut lines = out.lines();
    assert!(lines.next().unwrap().starts_with("{\"hello\":"), "{out}");
    assert!(lines.next().unwrap().contains("unexpected"), "{out}");
    assert_eq!(status, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_governor_sends_a_blob_in_pieces() {
    let fleet = Fleet::of(1, 2).await;
    let server = &fleet.servers[0];
    let digest = borgios_types::Digest::of(b"hello world");
    let piece = |offset: u64, base64: &str| {
        format!(
            "{{\"put\":\"blob\",\"digest\":\"{digest}\",\"size\":11,\"offset\":{offset},\"bytes\":\"{base64}\"}}\n"
        )
    };
    let input = piece(0, "aGVsbG8g") + &piece(6, "d29ybGQ=");
    let ann = fleet.board.governor(0);
    let (status, out) = ssh(server, ann, &["-s", "127.0.0.1", "borgios"], &input).await;
    assert_eq!(status, 0);
    assert!(out.ends_with("{\"ok\":{\"have\":11,\"whole\":true}}\n"), "{out}");
    assert_eq!(server.agent().depot.size(&digest), Some(11));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_without_end_is_refused_by_name() {
    let fleet = Fleet::of(1, 2).await;
    let server = &fleet.servers[0];
    let ann = fleet.board.governor(0);
    let endless = "x".repeat(3 * 1024 * 1024);
    let (status, out) = ssh(server, ann, &["-s", "127.0.0.1", "borgios"], &endless).await;
    assert_eq!(status, 1);
    assert!(out.contains("too_large"), "{out}");
}
