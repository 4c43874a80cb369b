//! A server's owner hands root over: what plan shows and leaves alone, when the old ways in close,
//! how long it takes, and what the owner holds in the end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::command::{self, COMMAND_BOUND};
use crate::lab::Lab;
use crate::member::JOIN_BOUND;
use crate::network::{Network, text};
use crate::scenario::{Say, Scenario};
use crate::server::Server;
use crate::wait::{self, SOON};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "join",
    about: "root is handed over, and every old way in is shut",
    alone: false,
    run,
};

/// Longest a join may take with the bundle at hand. The promise is 20 s on a quiet computer, and what
/// it took is said; a busy one gets three times that.
const JOIN_MAX: Duration = Duration::from_secs(60);
/// What the second terminal shows, for us to read while it runs.
const SECOND: &str = "/run/second-terminal";

fn run(say: &Say) -> Result<()> {
    let lab = Lab::up(3)?;
    let network = Network::founded(&lab, "join")?;
    let [one, two, three] = [1, 2, 3].map(|number| lab.server(number));
    let first = network.first_invitation()?;
    planned(&network, one, &first)?;
    say("plan verified the bundle and listed what would be taken; on the disk nothing changed");
    one.old_ways_open()?;
    let began = Instant::now();
    let joined = one.ssh(&one.join_line(), b"", JOIN_BOUND)?.ok()?;
    let took = began.elapsed();
    ensure!(took <= JOIN_MAX, "a join took {:.1} s", took.as_secs_f64());
    let tail = joined.stdout.rfind("RECEIPT").context("no receipt")?;
    ensure!(joined.stdout[tail..].contains("this one too, end in a moment"), "{}", joined.stdout);
    one.handed_over()?;
    say(&format!(
        "a join over ssh took {:.1} s; its last words are receipt and farewell",
        took.as_secs_f64()
    ));
    wait::until_true("the invitation is gone", SOON, || {
        Ok(one.try_sh("test -e /root/invite.json")?.code == 1)
    })?;
    receipt(&network, one)?;
    say("stock ssh-keygen takes the receipt, and not one changed byte");
    one.try_join_on_console(&network.bundle(), &first)?.expect_code(10)?;
    let late = one.bootstrap("abort")?.expect_code(3)?.all();
    ensure!(late.contains("only reinstalling"), "abort says {late}");
    one.handed_over()?;
    say("a second join ends with code 10, abort says no and why");
    network.meet_first()?;
    let invitation = network.invite(2)?;
    std::thread::scope(|scope| {
        let other = scope.spawn(|| unattended(&network, three, &invitation));
        dropped(&network, two, &invitation)?;
        other.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a join panicked")))
    })?;
    say(
        "a terminal that closed ended nothing: joined again, the owner saw the whole log to its end",
    );
    say("without terminal, input, HOME and PATH it joins too");
    network.wait_tree()?;
    lab.take_down()
}

/// `plan` with both files: says everything, changes nothing.
fn planned(network: &Network<'_>, server: Server<'_>, invitation: &std::path::Path) -> Result<()> {
    server.bring(&network.bundle(), invitation)?;
    let before = server.disk()?;
    let line =
        format!("plan --invite invite.json --bundle bundle.tar --advertise {}", server.agent());
    let plan = server.bootstrap(&line)?.ok()?.stdout;
    for word in
        ["is signed by the board", "root has a password", "authorized", "nothing was changed"]
    {
        ensure!(plan.contains(word), "plan does not say {word:?}: {plan}");
    }
    server.disk()?.same_as(&before, &[])?;
    ensure!(server.try_sh("test -e /var/lib/borgios-bootstrap")?.code == 1, "plan made a folder");
    Ok(())
}

/// The receipt, checked on the laptop with the program that every laptop has.
fn receipt(network: &Network<'_>, server: Server<'_>) -> Result<()> {
    let folder = network.file("receipt");
    std::fs::create_dir_all(&folder)?;
    for name in ["handover.json", "handover.json.sig", "handover.signers"] {
        server.get(&format!("{}/{name}", crate::handover::FOLDER), &folder.join(name))?;
    }
    let (signers, signature) =
        (text(&folder.join("handover.signers"))?, text(&folder.join("handover.json.sig"))?);
    let verify = |bytes: &[u8]| {
        let mut keygen = std::process::Command::new("ssh-keygen");
        keygen.args(["-Y", "verify", "-f", &signers, "-I", "keeper"]);
        keygen.args(["-n", "borgios-handover@v1", "-s", &signature]);
        command::run(keygen, bytes, COMMAND_BOUND)
    };
    let mut payload = std::fs::read(folder.join("handover.json"))?;
    verify(&payload)?.ok()?;
    let handed: serde_json::Value = serde_json::from_slice(&payload)?;
    ensure!(handed["name"] == server.host().as_str(), "the receipt is {handed}");
    let taken = handed["taken"]["account"].as_u64();
    ensure!(taken >= Some(1), "the receipt names no account that was taken: {handed}");
    payload[30] ^= 1;
    let changed = verify(&payload)?;
    ensure!(changed.code != 0, "ssh-keygen takes a changed receipt: {}", changed.all());
    let shown = server.sh(&format!("cat {}/receipt.txt", crate::handover::FOLDER))?;
    let mut scan = network.lab().laptop("sh");
    let scanned = "ssh-keyscan -t ed25519 \"$0\" 2>/dev/null | ssh-keygen -lf - | cut -d' ' -f2";
    scan.args(["-c", scanned, &server.address()]);
    let key = command::run(scan, b"", COMMAND_BOUND)?.ok()?;
    let is_shown = key.text().starts_with("SHA256:") && shown.contains(key.text());
    ensure!(is_shown, "the receipt does not show the host key {}: {shown}", key.text());
    Ok(())
}

/// The owner's ssh dies after the consent, before the purge; the old ways in are open until then.
fn dropped(network: &Network<'_>, server: Server<'_>, invitation: &std::path::Path) -> Result<()> {
    server.bring(&network.bundle(), invitation)?;
    // Without the others the agent is not well: the install waits for it, with everything open.
    network.lab().isolate(server.number())?;
    let mut terminal = server.terminal(&on_a_terminal(server))?;
    server.wait_stage("install", JOIN_BOUND)?;
    server.old_ways_open()?;
    ensure!(terminal.runs()?, "the join ended before its terminal did");
    drop(terminal);
    server.old_ways_open()?;
    ensure!(server.stage()? == "install", "the join did not outlive its terminal");
    let line =
        format!("({}) >{SECOND} 2>&1; code=$?; cat {SECOND}; exit $code", server.join_line());
    let again = std::thread::scope(|scope| -> Result<String> {
        let second = scope.spawn(|| server.feed(&line, b"", JOIN_BOUND));
        // Only now may the join go on: a terminal that opens after its end shows nothing of it.
        let shown = wait::until_true("the second terminal is open", SOON, || {
            Ok(server.try_sh(&format!("grep -q '== install' {SECOND}"))?.code == 0)
        });
        let healed = network.lab().heal();
        let said = second.join().unwrap_or_else(|_| anyhow::bail!("a terminal panicked"));
        shown.and(healed)?;
        Ok(said?.ok()?.stdout)
    })?;
    for word in ["a join runs on this machine already", "== install", "== purge", "RECEIPT"] {
        ensure!(again.contains(word), "the second terminal did not show {word:?}: {again}");
    }
    let sealed = format!("head -n 2 {}/owner-backup.age", crate::handover::FOLDER);
    let sealed = server.sh(&sealed)?;
    let is_sealed = sealed.starts_with("age-encryption.org/v1\n-> ssh-ed25519 ");
    ensure!(is_sealed, "the owner's backup begins with {sealed}");
    server.handed_over()
}

/// The join as a person does it: the machine's name typed on a terminal, then Enter once the backup,
/// sealed to the key of their login, is copied away.
fn on_a_terminal(server: Server<'_>) -> String {
    let join = format!(
        "sh ./bootstrap.sh join --invite invite.json --bundle bundle.tar \
         --owner-key .ssh/authorized_keys --advertise {}",
        server.agent()
    );
    format!("cd /root && printf '%s\\n\\n' {} | script -qec '{join}' /dev/null", server.host())
}

/// As cloud-init runs it.
fn unattended(
    network: &Network<'_>,
    server: Server<'_>,
    invitation: &std::path::Path,
) -> Result<()> {
    server.bring(&network.bundle(), invitation)?;
    let line =
        format!("unset HOME PATH; exec <&-; {}", server.join_line().replace("sh ./", "/bin/sh ./"));
    server.sh(&format!(
        "cat >/root/first-boot <<'LINE'\n#!/bin/sh\n{line}\nLINE\nchmod 700 /root/first-boot"
    ))?;
    let unit =
        "systemd-run --quiet --wait --unit=first-boot -p StandardInput=null /root/first-boot";
    server.feed(unit, b"", JOIN_BOUND)?.ok()?;
    server.handed_over()
}
