//! Who is reminded of which vote, until when, and what is said to happen then; with the real program.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;

use crate::board::{Board, next_second, stderr};
use serde_json::{Value, json};

/// Both approve what is at a place, and it is signed.
fn signed_by(board: &Board, names: [&str; 2], place: &str) {
    assert_eq!(board.approve(names[0], place)["signed"], false, "{place}");
    assert_eq!(board.approve(names[1], place)["signed"], true, "{place}");
}

/// The places that a governor is reminded of, in that order.
fn places(answer: &Value) -> Vec<&str> {
    let rows = answer["reminders"].as_array().unwrap();
    rows.iter().map(|row| row["place"].as_str().unwrap()).collect()
}

/// An agent that answers one question about itself.
fn agent(board: &Board) -> std::thread::JoinHandle<()> {
    let listener = UnixListener::bind(board.path("no.sock")).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // The whole question, for who closes before it is read breaks the pipe.
        let mut asked = Vec::new();
        while !asked.ends_with(b"}") {
            let mut more = [0; 4096];
            let read = stream.read(&mut more).unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&asked));
            asked.extend_from_slice(&more[..read]);
        }
        let body = r#"{"ok":{"name":"web-1","version":"0.1.0","uptime_s":7200}}"#;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + body).as_bytes()).unwrap();
    })
}

#[test]
fn who_has_not_voted_is_reminded_until_the_ballot_is_cast() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    board.json("ann", &["propose", "policy", "--deadline", "release=7d"]);
    signed_by(&board, ["ann", "ben"], "policy/2");
    board.propose("ann", "1.0");
    let id = board.json("ann", &["inbox"])["open"][0]["statement"].clone();
    board.json("ben", &["propose", "policy", "--fanout", "4"]);
    board.approve("ann", "release/1");

    // The one with a deadline comes first; who has voted is reminded of the other one alone.
    let cleo = board.json("cleo", &["sync"]);
    assert_eq!(places(&cleo), ["release/1", "policy/3"], "{cleo}");
    assert_eq!(places(&board.json("ann", &["sync"])), ["policy/3"]);
    let row = &cleo["reminders"][0];
    let issued = board.json("cleo", &["review", "release/1"])["dates"]["due"].as_u64().unwrap();
    assert_eq!((&row["due"], &row["late"]), (&json!(issued), &json!(false)), "{row}");
    assert!(row["ends"].as_u64().unwrap() > issued, "{row}");
    assert_eq!((&row["statements"], &row["round"]), (&json!([id]), &json!(0)));
    assert_eq!(
        (&row["next"], &row["recovery"]),
        (&json!("borgios review release/1"), &json!(false))
    );
    assert_eq!(cleo["reminders"][1]["due"], Value::Null, "its class has no deadline");
    next_second();
    let said = board.ok("cleo", &["sync"]);
    for part in [
        "\nrelease/1 waits for your ballot: due 2",
        ", in 6 d 23 h; it stays open after that, for time decides nothing; signed later than 2",
        "it is worthless; look at it with `borgios review release/1`",
        "\npolicy/3 waits for your ballot: no deadline, it stays open until it is decided; signed",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(board.ok("cleo", &["inbox"]).contains("\nrelease/1 waits for your ballot: due 2"));

    // A review says it of the document itself, and names what else waits.
    let review = board.ok("cleo", &["review", "release/1"]);
    for part in [
        "The board wanted this decided by 2",
        "\n  It waits for your ballot.\n",
        "\nbeside it\n  policy/3 waits for your ballot: no deadline",
    ] {
        assert!(review.contains(part), "{part}: {review}");
    }
    assert!(!board.ok("ann", &["review", "release/1"]).contains("It waits for your ballot"));
    let review = board.json("ann", &["review", "release/1"]);
    assert_eq!(review["waits_for_you"], false);
    assert_eq!(review["beside"][0]["place"], "policy/3");

    // No server answers: the reminders are said all the same.
    let alone = board.run("cleo", &["status"]);
    assert_eq!(alone.status.code(), Some(1));
    assert!(stderr(&alone).contains("release/1 waits for your ballot"), "{}", stderr(&alone));
    let served = agent(&board);
    let status = board.json("cleo", &["status"]);
    served.join().unwrap();
    assert_eq!(
        (status["name"].as_str(), places(&status)),
        (Some("web-1"), vec!["release/1", "policy/3"])
    );
    // Who is no governor is reminded of nothing.
    std::fs::remove_file(board.path("no.sock")).unwrap();
    let served = agent(&board);
    let status = board.json("nobody", &["status"]);
    served.join().unwrap();
    assert_eq!(status.get("reminders"), None);

    // A rejection is a ballot too.
    board.ok("cleo", &["vote", "policy/3", "reject", "--reason", "four is too few"]);
    assert_eq!(places(&board.json("cleo", &["sync"])), ["release/1"]);
    board.approve("cleo", "release/1");
    assert_eq!(places(&board.json("cleo", &["sync"])), Vec::<&str>::new());
}

#[test]
fn a_deadline_that_passed_is_said_and_decides_nothing() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    board.json("ann", &["propose", "policy", "--deadline", "release=1s"]);
    signed_by(&board, ["ann", "ben"], "policy/2");
    board.propose("ann", "1.0");
    // Opening the identity takes long enough; the clock is looked at until it has.
    let late = (0..60).any(|_| board.json("ben", &["sync"])["reminders"][0]["late"] == true);
    assert!(late, "it was never late");
    let said = board.ok("ben", &["sync"]);
    assert!(said.contains("release/1 waits for your ballot: DUE since 2"), "{said}");
    signed_by(&board, ["ann", "ben"], "release/1");
}

/// Who sits on both boards votes once, and who is new waits for the same vote.
#[test]
fn the_board_that_a_change_makes_is_reminded_too() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    board.ok("zoe", &["governor", "init", "--name", "zoe"]);
    board.json("zoe", &["governor", "change"]);
    let card = board.exchange().join("zoe.card.json");
    let plan = ["governor", "change", "--remove", "cleo", "--add", card.to_str().unwrap()];
    let asked = board.json("ann", &plan);
    board.change(&["ann", "ben", "zoe"], asked["roster"].as_str());
    for name in ["ann", "ben", "cleo", "zoe"] {
        assert_eq!(places(&board.json(name, &["sync"])), ["policy/2"], "{name}");
    }
    board.approve("ann", "policy/2");
    board.approve("zoe", "policy/2");
    for name in ["ann", "zoe"] {
        assert_eq!(places(&board.json(name, &["sync"])), Vec::<&str>::new(), "{name}");
    }
    assert_eq!(places(&board.json("ben", &["sync"])), ["policy/2"]);
}
