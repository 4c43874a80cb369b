//! What a person sees before approving, what an outsider can check afterwards, and who could vote.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::board::{Board, stderr};
use crate::fleet::{Server, ssh_key};
use borgios_policy::fixture::{Council, release_body, statement};
use borgios_policy::{Ballot, Chain, Lane, Object as _, ProofFile, message};
use borgios_types::{Digest, SecretKey, Signature, SignedBy};

/// A component with one service.
fn component(board: &Board, name: &str, unit: &str) -> PathBuf {
    let folder = board.path(&format!("{name}-{}", unit.len()));
    std::fs::create_dir_all(folder.join("files")).unwrap();
    std::fs::create_dir_all(folder.join("units")).unwrap();
    std::fs::write(folder.join("files/text"), "hello").unwrap();
    std::fs::write(folder.join(format!("units/{name}.service")), unit).unwrap();
    let info =
        format!(r#"{{"name":"{name}","version":"1","arch":"any","restart":["{name}.service"]}}"#);
    std::fs::write(folder.join("component.json"), info).unwrap();
    let out = board.path(&format!("{name}-{}.tar.zst", unit.len()));
    let (from, to) = (folder.to_str().unwrap(), out.to_str().unwrap());
    board.ok("nobody", &["release", "build", from, "--out", to]);
    out
}

fn propose(board: &Board, version: &str, component: &Path) {
    let installer = board.path("installer");
    std::fs::write(&installer, "keeper").unwrap();
    let args = [
        "propose",
        "release",
        "--version",
        version,
        "--component",
        component.to_str().unwrap(),
        "--installer",
        installer.to_str().unwrap(),
    ];
    board.ok("ann", &args);
}

const MEEK: &str = "[Service]\nUser=hello\nPrivateNetwork=yes\nProtectSystem=strict\n\
                    NoNewPrivileges=yes\nCapabilityBoundingSet=\nExecStart=/bin/true\n";
const BOLD: &str = "[Unit]\nUser=hello\n[Service]\nNoNewPrivileges=yes\nProtectSystem=strict\n\
                    StandardOutput=append:/etc/profile\n\
                    ReadWritePaths=/etc\nExecStart=/bin/true\nExecStartPost=+/bin/sh -c true\n";

#[test]
fn a_review_shows_what_a_release_may_do_and_what_changes() {
    let board = Board::founded(&["ann", "ben"], 2);
    propose(&board, "1.0", &component(&board, "hello", MEEK));
    let first = board.ok("ben", &["review", "release/1"]);
    for part in [
        "file      + files/text",
        "units/hello.service runs as: hello",
        "units/hello.service network: none",
        "units/hello.service capabilities: none",
        "setuid programs: none",
        "nothing holds it back: its class has no lock",
        "with yours 1 of 2",
    ] {
        assert!(first.contains(part), "{part}: {first}");
    }
    for name in ["ann", "ben"] {
        board.ok(name, &["vote", "release/1", "approve"]);
    }
    // The same component with more power, told as a difference.
    propose(&board, "2.0", &component(&board, "hello", BOLD));
    let second = board.ok("ben", &["review", "release/2"]);
    for part in [
        "units/hello.service runs as: hello → ROOT",
        "units/hello.service network: none → any",
        "units/hello.service writes: nothing else; sees homes → /etc; nothing else; sees homes",
        "RUNS AS ROOT IN SPITE OF ALL THAT: ExecStartPost=+/bin/sh -c true",
        "file      ~ units/hello.service",
        "powers +  units/hello.service also:\n",
        "    [Unit] User=hello\n",
        "    [Service] StandardOutput=append:/etc/profile\n",
    ] {
        assert!(second.contains(part), "{part}: {second}");
    }
    assert!(!second.contains("files/text"), "unchanged files are not told: {second}");
    // Without the bytes that is said, and a given file helps.
    std::fs::remove_dir_all(board.exchange().join("blobs")).unwrap();
    let blind = board.ok("ben", &["review", "release/2"]);
    assert!(blind.contains("powers    not known") && blind.contains("--component FILE"), "{blind}");
    let file = component(&board, "hello", BOLD);
    let given = ["review", "release/2", "--component", file.to_str().unwrap()];
    let given = board.ok("ben", &given);
    assert!(given.contains("before    not known") && given.contains("runs as: ROOT"), "{given}");
    // A blob that is not the component is not looked into.
    let blobs = board.exchange().join("blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let proposed = board.json("ben", &["review", "release/2"]);
    let component = &proposed["body"]["components"][0];
    let digest = component["digest"].as_str().unwrap().trim_start_matches("sha256:");
    let size = usize::try_from(component["size"].as_u64().unwrap()).unwrap();
    std::fs::write(blobs.join(digest), vec![0; size]).unwrap();
    let other = board.ok("ben", &["review", "release/2"]);
    assert!(other.contains("powers    not known"), "{other}");
}

/// Runs the steps that `verify --out` laid out, without BorgIOS.
fn check(folder: &Path) -> Output {
    let script = folder.join("check.sh");
    Command::new("sh").arg(script).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn a_proof_is_checked_offline_and_by_stock_openssh() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    board.propose("ann", "1.0");
    board.ok("cleo", &["vote", "release/1", "reject", "--reason", "no time"]);
    board.ok("ann", &["vote", "release/1", "approve", "--comment", "built it"]);
    board.ok("ben", &["vote", "release/1", "approve"]);
    board.ok("ann", &["propose", "policy", "--fanout", "4"]);
    board.ok("ann", &["vote", "policy/2", "approve"]);
    board.ok("ben", &["vote", "policy/2", "approve"]);
    board.propose("ann", "2.0");
    board.ok("ann", &["vote", "release/2", "approve"]);
    board.ok("ben", &["vote", "release/2", "approve"]);
    board.ok("cleo", &["sync"]);
    for (place, policies) in [("release/1", 1), ("policy/2", 2), ("release/2", 2)] {
        let file = board.path("proof.json");
        let file = file.to_str().unwrap();
        let export = board.json("cleo", &["export", "--proof", place, file]);
        let network = export["network"].as_str().unwrap();
        // Of what is on the way no ballots go along: nothing asks for them.
        let proof = ProofFile::parse(&std::fs::read_to_string(file).unwrap()).unwrap();
        let ballots: Vec<Ballot> =
            proof.envelopes.iter().filter_map(|one| Ballot::parse(one).ok()).collect();
        assert!(ballots.len() >= 2, "{place}: {}", ballots.len());
        assert!(ballots.iter().all(|ballot| ballot.statement == proof.statement), "{place}");
        // A stranger without any folder of BorgIOS.
        let out = board.path(&format!("steps-{}", place.replace('/', "-")));
        let args = ["verify", file, "--network", network, "--out", out.to_str().unwrap()];
        let proven = board.json("stranger", &args);
        assert_eq!((&proven["verified"], &proven["place"]), (&true.into(), &place.into()));
        assert_eq!(proven["shares_make_signature"], true, "{proven}");
        assert_eq!(proven["policies"].as_array().unwrap().len(), policies);
        assert!(!board.home("stranger").exists(), "verify left a folder behind");
        let checked = check(&out);
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(checked.status.success(), "{said} {}", stderr(&checked));
        assert!(said.contains("every step holds"), "{said}");
        // One changed byte, and stock OpenSSH says no.
        let payload = out.join("0000-policy.json");
        let text = std::fs::read_to_string(&payload).unwrap();
        std::fs::write(&payload, text.replacen('8', "9", 1)).unwrap();
        assert!(!check(&out).status.success());
        // Another network, a changed file: E_PROOF, and what to do.
        let other = format!("sha256:{}", "0".repeat(64));
        let said = board.refused("stranger", &["verify", file, "--network", &other]);
        assert!(said.contains("[E_PROOF]") && said.contains("hint: "), "{said}");
        let bytes = std::fs::read_to_string(file).unwrap();
        std::fs::write(file, bytes.replacen("approve", "reject", 1)).unwrap();
        let said = board.refused("stranger", &["verify", file, "--network", network]);
        assert!(said.contains("[E_PROOF]"), "{said}");
    }
    let log = board.ok("cleo", &["log"]);
    for part in [
        "the first policy: ann, ben and cleo govern; 2 of 3 sign together",
        "changed fanout 8 → 4",
        "approved by ann: built it",
        "rejected by cleo: no time",
        "proposed by ann: as agreed",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
}

/// The file holds a grant of the board before and one of the board after a change of the key; each is
/// checked as a certificate of its own board, and as one for its own text.
#[test]
fn grants_on_both_sides_of_a_refresh_are_checked_by_stock_openssh() {
    let board = Board::founded(&["ann", "ben"], 2);
    Server::join(&board, "ann", 1, "web-1");
    let key = ssh_key(&board, "id", "ann@laptop");
    let grant = |place: &str, reason: &str| {
        let key = key.to_str().unwrap();
        let args = ["access", "request", "--node", "web-1", "--for", "15m", "--key", key];
        let args: Vec<&str> = args.into_iter().chain(["--reason", reason]).collect();
        assert_eq!(board.json("ann", &args)["place"], place);
        board.approve("ann", place);
        assert_eq!(board.approve("ben", place)["signed"], true, "{place}");
    };
    grant("access/1", "the disk is full");
    board.json("ann", &["governor", "refresh"]);
    board.change(&["ann", "ben"], None);
    board.approve("ann", "policy/2");
    assert_eq!(board.approve("ben", "policy/2")["signed"], true);
    for name in ["ann", "ben"] {
        board.ok(name, &["sync"]);
        assert_eq!(board.json(name, &["governor", "change"])["status"], "in_force", "{name}");
    }
    grant("access/2", "full again");
    let file = board.path("proof.json");
    let path = file.to_str().unwrap();
    let export = board.json("ben", &["export", "--proof", "access/2", path]);
    // On its way somebody adds signatures, before the board's own: to the grants such that make good
    // certificates of another authority, to the rest such that do not hold. It is as true as before.
    let mut proof = ProofFile::parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let stranger = SecretKey::from_seed([77; 32]);
    let by = stranger.public();
    for envelope in &mut proof.envelopes {
        let mut sig = Signature([7; 64]);
        if envelope.kind == Lane::Access.kind() {
            let bytes = message::signed_bytes(Lane::Access, &envelope.payload, &by);
            sig = stranger.sign_bytes(&bytes);
        }
        envelope.sigs.insert(0, SignedBy { by, sig });
    }
    std::fs::write(&file, proof.to_json()).unwrap();
    let out = board.path("steps");
    let network = export["network"].as_str().unwrap();
    let args = ["verify", path, "--network", network, "--out", out.to_str().unwrap()];
    let proven = board.json("stranger", &args);
    assert_eq!((&proven["place"], &proven["epoch"]), (&"access/2".into(), &2.into()), "{proven}");
    let holds = || {
        let checked = check(&out);
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(checked.status.success(), "{said} {}", stderr(&checked));
        assert!(said.contains("every step holds"), "{said}");
    };
    holds();

    let ending = |end: &str| {
        let all = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<PathBuf> =
            all.filter(|path| path.to_str().unwrap().ends_with(end)).collect();
        paths.sort();
        paths
    };
    let (payloads, certificates) = (ending("-access.json"), ending("-access-cert.pub"));
    assert_eq!((payloads.len(), certificates.len()), (2, 2));
    let fails = |what: &str| {
        let checked = check(&out);
        assert!(!checked.status.success(), "{what}");
        assert!(stderr(&checked).contains("a step does not hold"), "{what}: {}", stderr(&checked));
    };
    // The certificate of the other grant; its own with another signature.
    let whole = std::fs::read_to_string(&certificates[0]).unwrap();
    std::fs::copy(&certificates[1], &certificates[0]).unwrap();
    fails("another certificate");
    let mut forged = whole.trim_end().to_owned();
    let at = forged.len() - 20;
    let other = if &forged[at..=at] == "A" { "B" } else { "A" };
    forged.replace_range(at..=at, other);
    std::fs::write(&certificates[0], forged + "\n").unwrap();
    fails("another signature");
    std::fs::write(&certificates[0], whole).unwrap();
    holds();
    // Another text, whose sum the script is made to expect.
    let text = std::fs::read_to_string(&payloads[0]).unwrap();
    let reworded = text.replacen("the disk is full", "just because", 1);
    let script = out.join("check.sh");
    let steps = std::fs::read_to_string(&script).unwrap();
    let sum = |text: &str| Digest::of(text.as_bytes()).hex();
    assert!(text != reworded && steps.contains(&sum(&text)));
    std::fs::write(&payloads[0], &reworded).unwrap();
    std::fs::write(&script, steps.replace(&sum(&text), &sum(&reworded))).unwrap();
    fails("another text");
}

/// Cleo approves and rejects, and whoever hands the file over puts the approval first.
#[test]
fn a_proof_counts_nobody_who_contradicted_herself() {
    let (board, council) = (Board::of(&[]), Council::new(3, 2, 1, 5));
    let first = council.sign(&council.first_policy(2));
    let network = first.id();
    let release = statement(Lane::Release, 1, Some(network), None, Some(1), release_body("1.0"));
    let signed = council.sign(&release);
    let id = signed.id();
    let chain = Chain::restore(Some(network), [first, signed]).unwrap();
    let pools = council.pools(council.slot(&release));
    let approve = |at| council.approve(&council.name(at), &release, &pools);
    let rejection = council.reject(&council.name(2), &release);
    let ballots = [approve(0), approve(1), approve(2), rejection];
    let proof = ProofFile::of(&chain, &id, &ballots, &pools).unwrap();
    let file = board.path("proof.json");
    std::fs::write(&file, proof.to_json()).unwrap();
    let network = network.to_string();
    let args = ["verify", file.to_str().unwrap(), "--network", &network];
    let told = board.ok("stranger", &args);
    for part in [
        "approved by ann\n",
        "approved by ben\n",
        "cleo cast two ballots that contradict each other: neither counts",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("by cleo"), "{told}");
    let proven = board.json("stranger", &args);
    assert_eq!(proven["ballots"].as_array().map(Vec::len), Some(2), "{proven}");
    assert_eq!(proven["contradictions"][0]["governor"], "cleo", "{proven}");
}

#[test]
fn the_log_tells_of_what_was_not_signed() {
    let board = Board::founded(&["ann", "ben"], 2);
    let first = board.propose("ann", "1.0");
    let id = first["statement"].as_str().unwrap();
    board.ok("ann", &["vote", id, "reject", "--reason", "wrong file"]);
    board.ok("ben", &["vote", id, "reject", "--reason", "ann says so"]);
    board.propose("ann", "1.1");
    board.approve("ann", "release/1");
    assert_eq!(board.approve("ben", "release/1")["signed"], true);
    let log = board.ok("ben", &["log", "release"]);
    assert!(log.contains("rejected by ann: wrong file"), "{log}");
    assert!(log.contains("  version 1.0  not signed: it was rejected; another"), "{log}");
    assert!(log.starts_with("release/1 ") && log.contains("release/1 round 1  "), "{log}");
    let rows = board.json("ben", &["log", "release"]);
    assert_eq!(rows.as_array().map(Vec::len), Some(2), "{rows}");
}

#[test]
fn a_drill_shows_who_can_still_vote_and_uses_up_nothing() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    let seeds = |name: &str| {
        let slots = std::fs::read_dir(board.home(name).join("governor/slots")).unwrap();
        slots.filter(|e| e.as_ref().unwrap().path().to_string_lossy().ends_with("seed.age")).count()
    };
    // The pools of what was decided are replaced by any command; a drill then takes none.
    board.ok("ann", &["sync"]);
    let before = seeds("ann");
    let called = board.json("ann", &["drill", "--note", "monthly"]);
    assert_eq!((&called["called"], &called["able"]), (&true.into(), &1.into()));
    assert_eq!(called["enough"], false);
    let second = board.json("ben", &["drill"]);
    assert_eq!((&second["called"], &second["able"]), (&false.into(), &2.into()));
    assert_eq!((&second["enough"], &second["drill"]), (&true.into(), &called["drill"]));
    let text = board.ok("ann", &["drill", "--look"]);
    assert!(text.contains("ben can vote") && text.contains("2 of 3 can vote"), "{text}");
    assert!(text.contains("cleo has not answered"), "{text}");
    // Answered once, whoever asks again.
    board.ok("ben", &["drill"]);
    assert_eq!(board.published("drill-answer").len(), 2);
    assert_eq!((board.published("drill").len(), seeds("ann")), (1, before));
    // A lost seed shows as a pool too few.
    let lost = board.home("cleo").join("governor/slots/1-release-3-0.seed.age");
    std::fs::remove_file(lost).unwrap();
    let third = board.json("cleo", &["drill"]);
    let cleo = &third["governors"][2];
    assert_eq!((&cleo["can_vote"], &cleo["pools"]["release"]), (&true.into(), &7.into()));
    // Nothing was decided, and voting goes on as before.
    board.propose("ann", "1.0");
    board.ok("ann", &["vote", "release/1", "approve"]);
    assert_eq!(board.json("ben", &["vote", "release/1", "approve"])["signed"], true);
}
