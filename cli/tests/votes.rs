//! A board's life through an exchange folder, with the real program: founding, proposing, voting,
//! rejecting, further rounds, and what stock OpenSSH says of the outcome.

use std::process::{Command, Stdio};

use crate::board::{Board, files, stderr};

/// 2 of 3 found a network, release, and stock ssh-keygen agrees.
#[test]
fn a_board_founds_votes_and_is_checked_by_stock_openssh() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    let doctor = board.json("ann", &["doctor"]);
    assert_eq!(doctor["problems"], 0, "{doctor}");
    // Founding again changes nothing.
    let again = board.json("ann", &["governor", "found"]);
    assert_eq!((&again["status"], &again["threshold"]), (&"founded".into(), &2.into()));
    assert!(!board.home("ann").join("governor/founding.age").exists());

    let proposed = board.propose("ann", "1.0");
    assert_eq!(proposed["place"], "release/1");
    let review = board.ok("ben", &["review", "release/1"]);
    assert!(review.contains("added     hello") && review.contains("with yours 1 of 2"), "{review}");
    let inbox = board.json("ben", &["inbox"]);
    assert_eq!(inbox["open"][0]["missing"], 2);
    assert_eq!(inbox["open"][0]["reviewed"], true);

    // One rejects with a reason, two approve.
    let rejected =
        board.json("cleo", &["vote", "release/1", "reject", "--reason", "no time to read it"]);
    assert_eq!(rejected["signed"], false);
    let first = board.json("ben", &["vote", "release/1", "approve", "--comment", "read it all"]);
    assert_eq!((&first["signed"], &first["again"]), (&false.into(), &false.into()));
    let second = board.json("ann", &["vote", "release/1", "approve"]);
    assert_eq!(second["signed"], true);

    // Whoever asks again gets the same ballot; another choice is refused.
    let again = board.json("ben", &["vote", "release/1", "approve"]);
    assert_eq!((&again["ballot"], &again["again"]), (&first["ballot"], &true.into()));
    let used =
        board.refused("ben", &["vote", "release/1", "reject", "--reason", "changed my mind"]);
    assert!(used.contains("E_SLOT_USED") && used.contains("hint: "), "{used}");
    for name in ["ann", "ben", "cleo"] {
        let seeds = std::fs::read_dir(board.home(name).join("governor/slots")).unwrap();
        let names = seeds.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let used = |name: &str| name.starts_with("1-release-1-0.seed") || name.contains(".tmp");
        assert_eq!(names.filter(|name| used(name)).count(), 0, "{name}");
    }

    // The log keeps who said what; the export passes stock OpenSSH and a changed byte does not.
    let log = board.ok("cleo", &["log", "release"]);
    assert!(log.contains("approved by ben: read it all"), "{log}");
    assert!(log.contains("rejected by cleo: no time to read it"), "{log}");
    let out = board.path("export");
    let export = board.json("cleo", &["export", "release/1", "--out", out.to_str().unwrap()]);
    let line = export["verify"].as_str().unwrap();
    let verify = |line: &str| {
        let output = Command::new("sh").args(["-c", line]).stdin(Stdio::null()).output().unwrap();
        (output.status.success(), stderr(&output))
    };
    assert!(verify(line).0, "{line}: {}", verify(line).1);
    let payload = out.join("release-1.json");
    let text = std::fs::read_to_string(&payload).unwrap();
    std::fs::write(&payload, text.replace("1.0", "1.1")).unwrap();
    assert!(!verify(line).0);

    // The pools move on with the head: eight ahead in the lane of releases.
    board.ok("ann", &["sync"]);
    assert!(board.home("ann").join("governor/slots/1-release-9-0.seed.age").exists());

    // A second release names its predecessor, and a policy changes the rules.
    board.propose("ben", "2.0");
    board.ok("ann", &["vote", "release/2", "approve"]);
    board.ok("ben", &["vote", "release/2", "approve"]);
    board.ok("ann", &["propose", "policy", "--fanout", "4", "--approvals", "3"]);
    let review = board.ok("ben", &["review", "policy/2"]);
    assert!(review.contains("changed   fanout 8 → 4"), "{review}");
    board.ok("ann", &["vote", "policy/2", "approve"]);
    let policy = board.json("ben", &["vote", "policy/2", "approve"]);
    assert_eq!(policy["signed"], true);
    // Now three approvals are needed, though two make the signature.
    board.propose("ann", "3.0");
    board.ok("ann", &["vote", "release/3", "approve"]);
    let second = board.json("ben", &["vote", "release/3", "approve"]);
    assert_eq!(second["signed"], false);
    let third = board.json("cleo", &["vote", "release/3", "approve"]);
    assert_eq!(third["signed"], true);
}

/// A rejected document is dead; the next round has nonces of its own and can pass.
#[test]
fn a_further_round_opens_when_the_first_is_dead() {
    let board = Board::founded(&["ann", "ben"], 2);
    let first = board.propose("ann", "1.0");
    board.ok("ann", &["vote", "release/1", "reject", "--reason", "wrong file"]);
    let rival = board.propose("ben", "1.1");
    assert_eq!((&first["round"], &rival["round"]), (&0.into(), &0.into()));
    let both = board.refused("ben", &["vote", "release/1", "approve"]);
    assert!(both.contains("release/1 has 2 proposals"), "{both}");
    let id = first["statement"].as_str().unwrap();
    board.ok("ben", &["vote", id, "reject", "--reason", "ann says so"]);
    // Both are bound: every document of the round is dead, the rival too.
    let inbox = board.json("ann", &["inbox"]);
    let states: Vec<_> = inbox["open"].as_array().unwrap().iter().map(|o| &o["state"]).collect();
    assert_eq!(states, ["dead"; 2]);
    let next = board.propose("ben", "1.2");
    assert_eq!(next["round"], 1);
    // Ben's tool saw the round open when he voted; ann's has not looked since.
    let unseen = board.refused("ben", &["vote", "release/1", "approve"]);
    assert!(
        unseen.contains("[E_UNREVIEWED]") && unseen.contains("hint: `borgios review"),
        "{unseen}"
    );
    board.ok("ben", &["review", "release/1"]);
    let missing = board.refused("ben", &["vote", "release/1", "approve"]);
    assert!(missing.contains("[E_POOL_MISSING]"), "{missing}");
    assert!(missing.contains("ann has published no nonces"), "{missing}");
    assert!(missing.contains("--without ann"), "{missing}");
    assert!(missing.contains("hint: ann runs `borgios sync` on their own laptop"), "{missing}");
    // The hint is the way: ann's tool lays the nonces, and the same command goes on.
    board.ok("ann", &["sync"]);
    let first = board.json("ben", &["vote", "release/1", "approve"]);
    assert_eq!((&first["signed"], &first["round"]), (&false.into(), &1.into()));
    let signed = board.json("ann", &["vote", "release/1", "approve"]);
    assert_eq!((&signed["signed"], &signed["round"]), (&true.into(), &1.into()));
}

/// A place is not a document: what lies there may have changed since it was looked at.
#[test]
fn what_was_reviewed_is_what_is_approved() {
    let board = Board::founded(&["ann", "ben"], 2);
    let first = board.propose("ann", "1.0");
    let review = board.ok("ben", &["review", "release/1"]);
    // Whole digests: a proposer finds another file with the same first digits.
    let digest = first["statement"].as_str().unwrap();
    let proposal = &board.published("proposal")[0].1["payload"];
    let proposal: serde_json::Value = serde_json::from_str(proposal.as_str().unwrap()).unwrap();
    let body = proposal["statement"].as_str().unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let component = body["body"]["components"][0]["digest"].as_str().unwrap();
    let installer = body["body"]["installer"]["digest"].as_str().unwrap();
    for shown in [digest, component, installer] {
        assert!(review.contains(shown), "{shown}: {review}");
    }
    // The same place gets another document.
    board.ok("ann", &["vote", "release/1", "reject", "--reason", "wrong file"]);
    let rival = board.propose("ann", "1.1");
    board.ok("ben", &["vote", digest, "reject", "--reason", "ann says so"]);
    let next = board.propose("ann", "1.2");
    assert_eq!((&rival["round"], &next["round"]), (&0.into(), &1.into()));
    board.ok("ann", &["sync"]);
    let other = board.refused("ben", &["vote", "release/1", "approve"]);
    assert!(other.contains("is not the one you reviewed"), "{other}");
    board.ok("ben", &["review", "release/1"]);
    board.ok("ben", &["vote", "release/1", "approve"]);
}

/// What others put into the exchange folder is refused by name and stops nobody.
#[test]
fn forgeries_in_the_exchange_are_refused_and_replaced() {
    let board = Board::founded(&["ann", "ben"], 2);
    board.propose("ann", "1.0");
    board.ok("ann", &["vote", "release/1", "approve"]);
    let objects = board.exchange().join("objects");
    let (ballot, envelope) = board.published("ballot").remove(0);
    // The true name, a forged signature.
    let mut forged = envelope.clone();
    let sig = envelope["sigs"][0]["sig"].as_str().unwrap();
    let other = if sig.starts_with('A') { "B" } else { "A" };
    forged["sigs"][0]["sig"] = format!("{other}{}", &sig[1..]).into();
    std::fs::write(&ballot, forged.to_string()).unwrap();
    std::fs::write(objects.join("big.json"), vec![b'['; 2 << 20]).unwrap();
    std::fs::write(objects.join("twice.json"), r#"{"type":"x","payload":"{}","type":"y"}"#)
        .unwrap();
    let before = files(&objects).len();
    let output = board.run("ben", &["sync"]);
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    for part in ["refused from", "big.json", "twice.json"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // Ann's tool puts the true one back.
    board.ok("ann", &["sync"]);
    let again: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&ballot).unwrap()).unwrap();
    assert_eq!(again, envelope);
    let signed = board.json("ben", &["vote", "release/1", "approve"]);
    assert_eq!(signed["signed"], true);
    assert!(files(&objects).len() > before);
}

/// T43: a copy of the folder that missed a ballot must not vote.
#[test]
fn t43_a_folder_restored_from_yesterday_does_not_vote() {
    let board = Board::founded(&["ann", "ben"], 2);
    let copied = Command::new("cp")
        .arg("-a")
        .args([board.home("ann"), board.home("copy")])
        .status()
        .unwrap();
    assert!(copied.success());
    board.propose("ann", "1.0");
    board.ok("ann", &["vote", "release/1", "approve"]);
    let said = board.refused("copy", &["vote", "release/1", "reject", "--reason", "other"]);
    assert!(said.contains("not the newest copy") && said.contains("[E_CLONE]"), "{said}");
}

/// A slot takes one ballot for ever, whatever it was and whatever comes after it, also from two terminals
/// at once.
#[test]
fn t41_a_slot_takes_one_choice_for_ever_also_from_two_terminals_at_once() {
    let board = Board::founded(&["ann", "ben", "cleo"], 3);
    let first = board.propose("ann", "1.0");
    let other = board.propose("ben", "1.1");
    let [first, other] = [&first, &other].map(|proposal| proposal["statement"].as_str().unwrap());
    for id in [first, other] {
        for name in ["ann", "ben", "cleo"] {
            board.ok(name, &["review", id]);
        }
    }
    // Approved one, then the other; then rejected; then approved what was rejected.
    board.ok("ann", &["vote", first, "approve"]);
    for second in [
        &["vote", other, "approve"][..],
        &["vote", first, "reject", "--reason", "x"],
        &["vote", other, "reject", "--reason", "x"],
    ] {
        let said = board.refused("ann", second);
        assert!(said.contains("E_SLOT_USED"), "{second:?}: {said}");
    }
    // Two terminals: whoever comes first has voted, the other one is told.
    let votes = [["vote", first, "approve"], ["vote", other, "approve"]];
    let started = votes.map(|vote| {
        board.command("cleo", &vote).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    });
    let ended = started.map(|child| child.wait_with_output().unwrap());
    assert_eq!(ended.iter().filter(|output| output.status.success()).count(), 1);
    let told = ended.iter().find(|output| !output.status.success()).unwrap();
    assert!(stderr(told).contains("E_SLOT_USED"), "{}", stderr(told));
    for name in ["ann", "cleo"] {
        assert_eq!(ballots_of(&board, name), 1, "{name}");
    }
}

/// How many ballots on releases a governor has published.
fn ballots_of(board: &Board, name: &str) -> usize {
    let by = format!(r#""governor":"{name}""#);
    let of = |payload: &str| payload.contains(&by) && payload.contains("release");
    let ballots = board.published("ballot");
    ballots.iter().filter(|(_, ballot)| ballot["payload"].as_str().is_some_and(of)).count()
}

#[test]
fn t50_who_rejected_does_not_approve_in_the_same_slot() {
    let board = Board::founded(&["ann", "ben", "cleo"], 3);
    let first = board.propose("ann", "1.0");
    let other = board.propose("ben", "1.1");
    let [first, other] = [&first, &other].map(|proposal| proposal["statement"].as_str().unwrap());
    for id in [first, other] {
        board.ok("ben", &["review", id]);
    }
    let rejected = board.run("ben", &["vote", first, "reject", "--reason", "x"]);
    let told = stderr(&rejected);
    assert!(rejected.status.success(), "{told}");
    let rival = &other.trim_start_matches("sha256:")[..12];
    assert!(told.contains("this rejection is your only ballot in this round"), "{told}");
    assert!(told.contains(&format!("counts against {rival} too")), "{told}");
    for id in [first, other] {
        let said = board.refused("ben", &["vote", id, "approve"]);
        assert!(said.contains("E_SLOT_USED"), "{id}: {said}");
    }
    assert_eq!(ballots_of(&board, "ben"), 1);
}

/// A split that nobody can end is refused before it is there, in the one lane where no ruling helps.
#[test]
fn a_ballot_that_would_leave_a_policy_place_undecidable_is_refused() {
    let names = ["ann", "ben", "cleo", "dan"];
    let board = Board::founded(&names, 3);
    let one = board.json("ann", &["propose", "policy", "--fanout", "4"]);
    let two = board.json("ben", &["propose", "policy", "--fanout", "5"]);
    let [one, two] = [&one, &two].map(|proposal| proposal["statement"].as_str().unwrap());
    board.ok("ann", &["vote", one, "approve"]);
    board.ok("ben", &["vote", one, "approve"]);
    board.ok("cleo", &["vote", two, "approve"]);
    board.ok("dan", &["review", two]);
    let said = board.refused("dan", &["vote", two, "approve"]);
    assert!(said.contains("E_UNDECIDABLE"), "{said}");
    let signed = board.json("dan", &["vote", one, "approve"]);
    assert_eq!(signed["signed"], true);
}

/// Usage errors end with 2, refusals with 1, and both say what to do.
#[test]
fn exit_codes_and_hints() {
    let board = Board::of(&["ann"]);
    for args in [&["vote", "release/1"][..], &["vote", "box/1", "approve"], &["bogus"], &[]] {
        assert_eq!(board.run("ann", args).status.code(), Some(2), "{args:?}");
    }
    let said = board.refused("ann", &["inbox"]);
    assert!(said.starts_with("error: ") && said.contains("\nhint: "), "{said}");
    let said = board.refused("ann", &["governor", "init", "--name", "ann"]);
    assert!(said.contains("exists and is kept"), "{said}");
    for args in [&["status"][..], &["tree"], &["nodes"], &["blob", "put", "x"]] {
        let said = board.refused("ann", args);
        for part in ["there is no node to ask", "no.sock is missing", "`borgios connect HOST"] {
            assert!(said.contains(part), "{args:?}: {part}: {said}");
        }
    }
    let said = board.refused("ann", &["status", "--node", "127.0.0.1:1", "--node", "127.0.0.1:2"]);
    for part in ["nodes answers: 127.0.0.1:1, 127.0.0.1:2\n", "`borgios connect HOST"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let doctor = board.run("ann", &["doctor"]);
    assert_eq!(doctor.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("check it belongs to no network yet"));
    let json = board.run("ann", &["inbox", "--json"]);
    let error: serde_json::Value = serde_json::from_slice(&json.stderr).unwrap();
    assert!(error["error"]["hint"].is_string());
    std::fs::write(board.path("passphrase"), "wrong\n").unwrap();
    let said = board.refused("ann", &["governor", "found", "--threshold", "2"]);
    assert!(said.contains("identity.age: wrong passphrase"), "{said}");
}

/// A release without the agent takes it from every server: whoever proposes or reviews one is told.
#[test]
fn a_release_that_drops_the_agent_is_told_as_what_it_is() {
    let board = Board::founded(&["ann", "ben"], 2);
    let installer = board.path("keeper");
    std::fs::write(&installer, "the keeper").unwrap();
    let propose = |part: &str, version: &str| {
        let component = board.component(part, version);
        let output = board.run(
            "ann",
            &[
                "propose",
                "release",
                "--component",
                component.to_str().unwrap(),
                "--installer",
                installer.to_str().unwrap(),
                "--version",
                version,
            ],
        );
        assert!(output.status.success());
        crate::board::stderr(&output)
    };
    assert!(!propose("agent", "1.0").contains("no component agent"));
    assert!(!board.ok("ben", &["review", "release/1"]).contains("DROPS"));
    board.approve("ann", "release/1");
    board.approve("ben", "release/1");
    let warned = propose("hello", "2.0");
    assert!(
        warned.contains("2.0 has no component agent") && warned.contains("hears of nothing"),
        "{warned}"
    );
    let review = board.ok("ben", &["review", "release/2"]);
    assert!(review.contains("DROPS     agent: a server that installs this"), "{review}");
}
