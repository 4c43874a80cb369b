//! Grants, evictions and departures through an exchange folder, with the real program and stock
//! `ssh-keygen`.

use std::process::Command;

use crate::board::{Board, stderr};
use crate::fleet::{Server, ssh_key};
use serde_json::Value;

fn two() -> Board {
    Board::founded(&["ann", "ben"], 2)
}

fn both_approve(board: &Board, place: &str) {
    board.ok("ann", &["vote", place, "approve"]);
    let last = board.json("ben", &["vote", place, "approve"]);
    assert_eq!(last["signed"], true, "{place}");
}

fn list(path: &str) -> String {
    let output = Command::new("ssh-keygen").args(["-L", "-f", path]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// From the question to the line that stock ssh is given.
#[test]
fn a_grant_becomes_a_certificate_that_stock_openssh_reads() {
    let board = two();
    let web = Server::join(&board, "ann", 1, "web-1");
    let host_key = web.hand_over(&board, None);
    let key = ssh_key(&board, "id", "ann@laptop");
    let key = key.to_str().unwrap();
    let asked = board.json(
        "ann",
        &[
            "access",
            "request",
            "--node",
            "web-1",
            "--for",
            "15m",
            "--key",
            key,
            "--reason",
            "the disk is full",
            "--source",
            "127.0.0.0/8",
        ],
    );
    assert_eq!((&asked["place"], &asked["serial"]), (&"access/1".into(), &1.into()));
    let lasts = asked["before"].as_u64().unwrap() - asked["after"].as_u64().unwrap();
    assert_eq!(lasts, 15 * 60 + 60, "a minute for servers whose clocks lag");

    // Words, not digits.
    let review = board.ok("ben", &["review", "access/1"]);
    for wanted in [
        "root of   web-1 (10.0.0.1:7117, SHA256:",
        "for key   SHA256:",
        "(16 min)",
        "login     only from 127.0.0.0/8",
        "class     normal",
        "reason    the disk is full",
        "ann@laptop",
        "the server it names lets the key in as root",
    ] {
        assert!(review.contains(wanted), "{wanted}: {review}");
    }
    let inbox = board.ok("ben", &["inbox"]);
    assert!(inbox.contains("as root of web-1 until"), "{inbox}");
    // Nothing is there before it is signed.
    board.ok("ann", &["vote", "access/1", "approve"]);
    let early = board.refused("ann", &["access", "cert", "access/1"]);
    assert!(early.contains("no signed statement access/1"), "{early}");
    let signed = board.json("ben", &["vote", "access/1", "approve"]);
    assert_eq!(signed["signed"], true);

    let out = board.path("out");
    let cert = board.json("ann", &["access", "cert", "access/1", "--out", out.to_str().unwrap()]);
    let path = cert["certificate"].as_str().unwrap();
    let shown = list(path);
    for wanted in [
        "Serial: 1",
        "borgios access/1 sha256:",
        "source-address 127.0.0.0/8",
        "permit-pty",
        cert["principal"].as_str().unwrap(),
    ] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    let known = std::fs::read_to_string(out.join("known_hosts")).unwrap();
    assert_eq!(known, format!("10.0.0.1 {host_key}\n"));
    let line = cert["ssh"].as_str().unwrap();
    assert!(line.starts_with(&format!("ssh -i {key} -o CertificateFile={path} ")), "{line}");
    assert!(line.ends_with(" root@10.0.0.1"), "{line}");
    // Stock ssh takes the line as it is.
    let config = Command::new("sh").args(["-c", &line.replacen("ssh ", "ssh -G ", 1)]).output();
    let config = String::from_utf8(config.unwrap().stdout).unwrap();
    assert!(config.contains(&format!("certificatefile {path}")), "{config}");
    // Without --out it lies beside the key.
    let beside = board.json("ann", &["access", "cert", "access/1", "--port", "2222"]);
    assert_eq!(beside["certificate"], format!("{key}-access-1-cert.pub"));
    assert!(beside["ssh"].as_str().unwrap().contains(" -p 2222 "));

    // The export is the certificate: there is no SSH signature over the payload.
    let folder = board.path("export");
    let export = board.json("ben", &["export", "access/1", "--out", folder.to_str().unwrap()]);
    assert!(list(export["certificate"].as_str().unwrap()).contains("Serial: 1"));
    assert!(export["verify"].as_str().unwrap().starts_with("ssh-keygen -L -f "));
    assert!(export.get("signature").is_none());
    let log = board.ok("ben", &["log", "access"]);
    assert!(log.contains("as root of web-1 until") && log.contains("approved by ben"), "{log}");

    // Witnesses are counted where they are known, and the end comes early.
    let listed = |open: bool| {
        let args = ["access", "list", "--open"];
        board.json("ben", &args[..if open { 3 } else { 2 }])["orders"].clone()
    };
    assert_eq!(listed(true)[0]["state"], "open");
    let text = board.ok("ben", &["access", "list"]);
    assert!(text.contains("open: 0 of 2 witnesses known here"), "{text}");
    let none = board.refused("ann", &["access", "revoke", "7", "--reason", "lost"]);
    assert!(none.contains("no certificate 7"), "{none}");
    let id = cert["id"].as_str().unwrap();
    for (number, name) in [(2, "web-2"), (3, "web-3")] {
        Server::join(&board, "ann", number, name).witness(&board, id);
    }
    let text = board.ok("ben", &["access", "list"]);
    assert!(text.contains("access/1  open   root"), "{text}");
    let revoke = board.json("ann", &["access", "revoke", "1", "--reason", "laptop lost"]);
    assert_eq!(revoke["place"], "access/2");
    let review = board.ok("ben", &["review", "access/2"]);
    assert!(review.contains("revoked   certificate 1"), "{review}");
    both_approve(&board, "access/2");
    assert_eq!(
        (&listed(false)[0]["state"], listed(true)),
        (&"revoked".into(), Value::Array(vec![]))
    );
    let cert = board.run("ann", &["access", "cert", "access/1"]);
    assert!(cert.status.success() && stderr(&cert).contains("was revoked"), "{}", stderr(&cert));
    let again = board.refused("ann", &["access", "revoke", "access/1", "--reason", "lost"]);
    assert!(again.contains("revoked already"), "{again}");
}

#[test]
fn what_cannot_be_granted_is_refused_before_anybody_is_asked() {
    let board = two();
    for (number, name) in [(1, "web-1"), (2, "db"), (3, "db")] {
        Server::join(&board, "ann", number, name);
    }
    let good = ssh_key(&board, "id", "me");
    let good = good.to_str().unwrap().to_owned();
    let rsa = board.path("rsa");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "rsa", "-N", "", "-f"])
        .arg(&rsa)
        .status()
        .unwrap();
    assert!(made.success());
    let request = |node: &str, key: &str, time: &str, source: &str| {
        let args = [
            "access", "request", "--node", node, "--key", key, "--for", time, "--reason", "x",
            "--source", source,
        ];
        let output = board.run("ann", &args);
        (output.status.code(), stderr(&output))
    };
    let refused = |(code, said): (Option<i32>, String), wanted: &str| {
        assert!(code == Some(1) || code == Some(2), "{said}");
        assert!(said.contains(wanted) && said.contains("error: "), "{wanted}: {said}");
    };
    let here = "192.0.2.1";
    refused(request("web-9", &good, "15m", here), "no server \"web-9\" is known here");
    let several = request("db", &good, "15m", here);
    assert_eq!(several.1.matches("cause: db (10.0.0.").count(), 2, "{}", several.1);
    refused(several, "names 2 servers");
    refused(request("web-1", rsa.to_str().unwrap(), "15m", here), "only ssh-ed25519 keys");
    refused(request("web-1", "/no/key", "15m", here), "/no/key.pub does not exist");
    refused(request("web-1", &good, "25h", here), "at most 23 h 59 min");
    refused(request("web-1", &good, "15", here), "is no time");
    refused(request("web-1", &good, "15m", "example.org"), "is no address or range");
    assert!(board.published("proposal").is_empty());
    // A fingerprint's first digits name one of two with the same name.
    let key = Server::key(3).public().short();
    let (code, said) = request(&key, &good, "15m", here);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn an_offline_grant_says_so_and_needs_everyone() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    Server::join(&board, "ann", 1, "web-1");
    let key = ssh_key(&board, "id", "me");
    let args = [
        "access",
        "request",
        "--node",
        "web-1",
        "--for",
        "1h",
        "--offline",
        "--key",
        key.to_str().unwrap(),
        "--reason",
        "no link",
    ];
    board.ok("ann", &args);
    let review = board.ok("ben", &["review", "access/1"]);
    assert!(review.contains("OFFLINE") && review.contains("with yours 1 of 3"), "{review}");
    board.ok("ann", &["vote", "access/1", "approve"]);
    let second = board.json("ben", &["vote", "access/1", "approve"]);
    assert_eq!(second["signed"], false);
    // What its class needs is counted, and not what the signature does.
    assert_eq!((&second["needed"], &second["threshold"]), (&3.into(), &2.into()));
    let again = board.ok("ben", &["vote", "access/1", "approve"]);
    assert!(again.contains("2 of 3 approvals"), "{again}");
    let open = board.json("cleo", &["inbox"])["open"][0].clone();
    assert_eq!((&open["needed"], &open["missing"]), (&3.into(), &1.into()));
    let inbox = board.ok("cleo", &["inbox"]);
    assert!(inbox.contains("signed; one more approval is needed by its class"), "{inbox}");
    let third = board.json("cleo", &["vote", "access/1", "approve"]);
    assert_eq!(third["signed"], true);
    // The rules can be changed, and the change is shown.
    board.ok("ann", &["propose", "policy", "--offline-approvals", "2", "--witnesses", "3"]);
    let review = board.ok("ben", &["review", "policy/2"]);
    assert!(review.contains("changed   witnesses of a grant 2 → 3"), "{review}");
    assert!(
        review.contains("changed   approvals of a grant that nobody else saw 3 → 2"),
        "{review}"
    );
}

/// A grant waits for other members to have seen it, and two servers have one other only.
#[test]
fn who_asks_hears_that_too_few_servers_could_witness_it() {
    let board = two();
    for (number, name) in [(1, "web-1"), (2, "web-2")] {
        Server::join(&board, "ann", number, name);
    }
    let key = ssh_key(&board, "id", "me");
    let key = key.to_str().unwrap();
    let ask = |more: &[&str]| {
        let args = ["access", "request", "--node", "web-1", "--for", "24h", "--key", key];
        let args: Vec<&str> = args.iter().chain(&["--reason", "x"]).chain(more).copied().collect();
        let output = board.run("ann", &args);
        assert!(output.status.success(), "{}", stderr(&output));
        output
    };
    let said = stderr(&ask(&[]));
    assert!(said.contains("only 1 other member is known here"), "{said}");
    assert!(said.contains("`--offline`, which takes 2 approvals"), "{said}");
    // The next step names the folder that this run was given.
    let folder = board.exchange();
    let next = format!("`borgios vote access/1 approve --exchange {}`", folder.display());
    assert!(said.contains(&next), "{said}");
    let said = stderr(&ask(&["--offline"]));
    assert!(!said.contains("known here"), "{said}");
    Server::join(&board, "ann", 3, "web-3");
    assert!(!stderr(&ask(&[])).contains("known here"));
    let asked: Value = serde_json::from_slice(&ask(&["--json"]).stdout).unwrap();
    assert_eq!((&asked["witnesses_needed"], &asked["other_members"]), (&2.into(), &2.into()));
    // A day may be asked for, the minute for clocks that lag included.
    let lasts = asked["before"].as_u64().unwrap() - asked["after"].as_u64().unwrap();
    assert_eq!(lasts, 24 * 3600);
}

#[test]
fn an_eviction_names_whom_it_puts_out() {
    let board = two();
    for (number, name) in [(1, "web-1"), (2, "web-2")] {
        Server::join(&board, "ann", number, name);
    }
    let none = board.refused("ann", &["evict", "web-9", "--reason", "dark"]);
    assert!(none.contains("no server \"web-9\""), "{none}");
    let asked = board.json("ann", &["evict", "web-2", "--reason", "it lies"]);
    assert_eq!(
        (&asked["place"], &asked["evict"][0]["name"]),
        (&"member/1".into(), &"web-2".into())
    );
    let review = board.ok("ben", &["review", "member/1"]);
    for wanted in ["evicted   web-2 (10.0.0.2:7117, SHA256:", "a member since 20", "it lies"] {
        assert!(review.contains(wanted), "{wanted}: {review}");
    }
    assert!(!review.contains("web-1"), "{review}");
    both_approve(&board, "member/1");
    let log = board.ok("ann", &["log"]);
    assert!(log.contains("evicts web-2 (10.0.0.2:7117"), "{log}");
    let again = board.refused("ann", &["evict", "web-2", "--reason", "it lies"]);
    assert!(again.contains("is evicted already"), "{again}");
    let key = ssh_key(&board, "id", "me");
    let args = [
        "access",
        "request",
        "--node",
        "web-2",
        "--for",
        "1h",
        "--key",
        key.to_str().unwrap(),
        "--reason",
        "look",
    ];
    assert!(board.refused("ann", &args).contains("is out of the network"));
}

/// What others lay into the exchange about servers is believed only where it is proved.
#[test]
fn nobody_speaks_for_a_server() {
    let board = two();
    let web = Server::join(&board, "ann", 1, "web-1");
    // A receipt by a keeper that no record names; a member whose invitation no governor signed.
    let forged = web.receipt(&Server::key(99), None);
    board.publish(&forged);
    Server::stranger(&board, 7, "evil");
    let output = board.run("ann", &["sync"]);
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("names another keeper"), "{said}");
    let key = ssh_key(&board, "id", "me");
    let key = key.to_str().unwrap();
    let ask = |node: &str| {
        board.run(
            "ann",
            &["access", "request", "--node", node, "--for", "1h", "--key", key, "--reason", "x"],
        )
    };
    assert!(stderr(&ask("evil")).contains("no server \"evil\""));
    let web = ask("web-1");
    assert!(web.status.success() && stderr(&web).contains("no receipt"), "{}", stderr(&web));
}

/// The owner needs no governor's folder, and nobody else's key will do.
#[test]
fn an_owner_takes_the_server_out() {
    let board = two();
    let owner = ssh_key(&board, "owner", "owner@home");
    let public = std::fs::read_to_string(owner.with_extension("pub")).unwrap();
    let web = Server::join(&board, "ann", 1, "web-1");
    web.hand_over(&board, Some(public.parse().unwrap()));
    let receipt = board.path("handover.json");
    std::fs::write(
        &receipt,
        web.receipt(&Server::key(101), Some(public.parse().unwrap())).to_json(),
    )
    .unwrap();
    let stranger = ssh_key(&board, "stranger", "x");
    let depart = |name: &str, key: &std::path::Path, more: &[&str]| {
        let mut args = vec!["depart", "--owner-key", key.to_str().unwrap()];
        args.extend(more);
        board.run(name, &args)
    };
    let receipt = receipt.to_str().unwrap();
    // Any governor has it, and writes it out for an owner who has it no more.
    let (again, other) = (board.path("again.json"), board.path("other.json"));
    let again = again.to_str().unwrap();
    let written = board.json("ben", &["node", "receipt", "web-1", "--out", again]);
    assert_eq!((&written["name"], &written["file"]), (&"web-1".into(), &again.into()));
    let unsure = depart("nobody", &owner, &["--receipt", again]);
    assert!(stderr(&unsure).contains("departure of web-1 was not confirmed"));
    Server::join(&board, "ann", 2, "web-2");
    let none = ["node", "receipt", "web-2", "--out", other.to_str().unwrap()];
    assert!(board.refused("ben", &none).contains("no receipt of web-2"));
    // As a governor, by name; as anybody, by receipt.
    let wrong = depart("ann", &stranger, &["--node", "web-1", "--confirm", "web-1"]);
    assert!(stderr(&wrong).contains("does not own web-1"), "{}", stderr(&wrong));
    let unsure = depart("nobody", &owner, &["--receipt", receipt]);
    assert!(stderr(&unsure).contains("was not confirmed"), "{}", stderr(&unsure));
    let other = depart("nobody", &owner, &["--receipt", receipt, "--confirm", "web-2"]);
    assert!(stderr(&other).contains("nothing was signed"), "{}", stderr(&other));
    assert!(board.published("departure").is_empty());
    let file = board.path("departure.json");
    let done = depart(
        "nobody",
        &owner,
        &["--receipt", receipt, "--confirm", "web-1", "--out", file.to_str().unwrap()],
    );
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(stderr(&done).contains("its root stays closed to everyone"), "{}", stderr(&done));
    let published = board.published("departure");
    assert_eq!(published.len(), 1);
    // A governor sends what an owner signed elsewhere.
    std::fs::remove_file(&published[0].0).unwrap();
    board.ok("ben", &["depart", "--send", file.to_str().unwrap()]);
    assert_eq!(board.published("departure").len(), 1);
    let gone = depart("ann", &owner, &["--node", "web-1", "--confirm", "web-1"]);
    assert!(stderr(&gone).contains("departed at"), "{}", stderr(&gone));
    let args = [
        "access",
        "request",
        "--node",
        "web-1",
        "--for",
        "1h",
        "--key",
        owner.to_str().unwrap(),
        "--reason",
        "look",
    ];
    assert!(board.refused("ann", &args).contains("is out of the network"));
}

/// Owners' keys have passphrases.
#[test]
fn an_owners_key_may_be_locked() {
    let board = two();
    let owner = board.path("locked");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "correct horse battery staple", "-f"])
        .arg(&owner)
        .status()
        .unwrap();
    assert!(made.success());
    let public = std::fs::read_to_string(owner.with_extension("pub")).unwrap();
    let web = Server::join(&board, "ann", 1, "web-1");
    let receipt = board.path("handover.json");
    std::fs::write(
        &receipt,
        web.receipt(&Server::key(101), Some(public.parse().unwrap())).to_json(),
    )
    .unwrap();
    let args = [
        "depart",
        "--owner-key",
        owner.to_str().unwrap(),
        "--receipt",
        receipt.to_str().unwrap(),
        "--confirm",
        "web-1",
        "--key-passphrase-fd",
        "0",
    ];
    board.ok("nobody", &args);
    assert_eq!(board.published("departure").len(), 1);
}
