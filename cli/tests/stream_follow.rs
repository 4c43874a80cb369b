//! `borgios stream tail --follow` against a stand-in for the agent's socket: it shows what comes while it
//! runs, and ends as it is told to.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const BORGIOS: &str = env!("CARGO_BIN_EXE_borgios");
const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBPKC95Su+07Ln2k1YXhoKS0OGVXC8smj3YprTo/6oFu";
/// Nothing here takes this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many messages the stream has; each change is news.
type Said = Arc<(Mutex<u64>, Condvar)>;

/// Answers as an agent would: news are waited for.
fn agent(listener: &UnixListener, said: &Said) {
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
        let ok = match body["get"].as_str().unwrap() {
            "streams" => {
                let mut count = said.0.lock().unwrap();
                while body["news"] == *count {
                    count = said.1.wait(count).unwrap();
                }
                let stream = json!({"origin": KEY, "name": "web-1", "epoch": 5, "last": *count});
                json!({"streams": [stream], "next": null, "news": *count})
            }
            "messages" => {
                let after = body["position"]["number"].as_u64().unwrap_or(0);
                let until = *said.0.lock().unwrap();
                let message = |number| {
                    json!({"origin": KEY, "epoch": 5, "number": number, "kind": "note",
                           "issued": 1, "bytes": "aGVsbG8="})
                };
                let messages: Vec<Value> = (after + 1..=until).map(message).collect();
                let next = (until > after).then(|| json!({"epoch": 5, "number": until}));
                json!({"messages": messages, "gone": null, "next": next})
            }
            other => panic!("asked for {other}"),
        };
        let answer = json!({"ok": ok}).to_string();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
        // Whoever asked may have been told to end.
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(answer.as_bytes());
    }
}

fn says(said: &Said) {
    *said.0.lock().unwrap() += 1;
    said.1.notify_all();
}

fn follow(socket: &Path, home: &Path, json: bool) -> Child {
    let mut command = Command::new(BORGIOS);
    command.args(["stream", "tail", "--follow", "--socket"]).arg(socket);
    command.arg("--home").arg(home).args(json.then_some("--json"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn ends(mut child: Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

#[test]
fn what_comes_is_shown_and_signals_end_it() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("api.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let said: Said = Arc::new((Mutex::new(2), Condvar::new()));
    let answering = said.clone();
    std::thread::spawn(move || agent(&listener, &answering));
    let home = folder.path().join("none");
    let mut shown = 2;
    for name in ["INT", "TERM"] {
        let mut child = follow(&socket, &home, true);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
        for number in 1..=shown {
            assert_eq!(next()["number"], number);
        }
        for _ in 0..3 {
            shown += 1;
            says(&said);
            let line = next();
            assert_eq!((&line["number"], &line["text"]), (&json!(shown), &json!("hello")));
        }
        signal(&child, name);
        assert_eq!(ends(child).code(), Some(0), "after SIG{name}");
    }
    // For people, and until nobody reads any more.
    let mut child = follow(&socket, &home, false);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "web-1 1 note: hello\n");
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "it goes on for nobody");
        says(&said);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(ends(child).code(), Some(0));
}

#[test]
fn an_agent_that_is_gone_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("api.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let said: Said = Arc::new((Mutex::new(1), Condvar::new()));
    let child = {
        let child = follow(&socket, folder.path(), true);
        // Two questions are answered, the third finds nobody.
        let answering = said.clone();
        std::thread::spawn(move || agent(&listener, &answering));
        child
    };
    let mut child = child;
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("\"number\":1"), "{line}");
    std::fs::remove_file(&socket).unwrap();
    says(&said);
    let mut why = String::new();
    let mut errors = child.stderr.take().unwrap();
    let status = ends(child);
    errors.read_to_string(&mut why).unwrap();
    assert!(!status.success() && why.contains("could not ask the agent"), "{why}");
}
