//! A borgiosd that was taken over: everything its user can say to the keeper, in every order, and
//! nothing of it is obeyed. And the keeper has no network that it could be reached through.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use borgios_types::{Digest, Envelope};
use serde_json::{Value, json};

use crate::ballot_box::Place;
use crate::component::Service;
use crate::forgery;
use crate::keeper::Answer;
use crate::lab::Lab;
use crate::network::Network;
use crate::scenario::{Say, Scenario};
use crate::server::Server;
use crate::wait::{self, SOON};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "keeper",
    about: "the keeper obeys nothing but signed statements",
    alone: false,
    run,
};

/// How long is watched that nothing is installed.
const CALM: Duration = Duration::from_secs(4);

/// What the keeper must not have left behind.
const OWNED: &str = "/run/borgios-owned";

fn run(say: &Say) -> Result<()> {
    let lab = Lab::up(1)?;
    let network = Network::founded(&lab, "keeper")?;
    network.join_all()?;
    network.wait_tree()?;
    let server = lab.server(1);
    server.wait_installed(1)?;
    no_network(server)?;
    say("the keeper has no network: only `lo`, and no socket but of the Unix kind");
    strangers(server)?;
    say("only the user borgios and root are let in");
    // From here on the real borgiosd is silent, and whoever has its user speaks.
    server.sh("systemctl stop borgiosd")?;
    let blob = offline_releases(&network)?;
    nonsense(server)?;
    say("verbs that are none, in any form: bad_request");
    orders(&network, server, &blob)?;
    say("forged, reordered and replayed statements and orders: each refused, nothing installed");
    planted(server, &blob)?;
    say("a wrong blob, a link to root's files, a pipe: not one was taken for the component");
    server.sh("systemctl start borgiosd")?;
    network.at("ann", Place::Node(server), &["sync"])?;
    network.bring(server, &network.file("blobs/hello-3.tar.zst"))?;
    server.wait_installed(3)?;
    say("the real borgiosd is back, the real blob comes, release/3 installs");
    lab.take_down()
}

fn no_network(server: Server<'_>) -> Result<()> {
    let shown = server.sh(
        "systemctl show borgios-keeper -p PrivateNetwork -p RestrictAddressFamilies -p NoNewPrivileges -p ProtectSystem",
    )?;
    let is = |line: &str| shown.lines().any(|shown| shown == line);
    let wanted = [
        "PrivateNetwork=yes",
        "RestrictAddressFamilies=AF_UNIX",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
    ];
    ensure!(wanted.iter().all(|line| is(line)), "the unit's properties are {shown}");
    let pid = pid(server)?;
    let devices = server.sh(&format!("awk -F: 'NR > 2 {{ print $1 }}' /proc/{pid}/net/dev"))?;
    ensure!(devices.trim() == "lo", "the keeper's network has {devices}");
    let own = server.sh("readlink /proc/1/ns/net")?;
    let its = server.sh(&format!("readlink /proc/{pid}/ns/net"))?;
    ensure!(own != its, "the keeper is in the server's network namespace");
    // What its unit forbids, tried under the same properties.
    let try_socket = |family: &str| {
        server.try_sh(&format!(
            "systemd-run --quiet --wait --pipe --collect -p PrivateNetwork=yes -p RestrictAddressFamilies=AF_UNIX \
             perl -MSocket -e 'socket(my $$s, {family}, SOCK_STREAM, 0) or exit 7'"
        ))
    };
    ensure!(try_socket("AF_UNIX")?.code == 0, "no Unix socket either");
    ensure!(try_socket("AF_INET")?.code == 7, "an internet socket could be made");
    // And the filter is really on the process.
    let seccomp = server.sh(&format!("awk '/^Seccomp:/ {{ print $2 }}' /proc/{pid}/status"))?;
    ensure!(seccomp == "2", "the keeper runs without a filter of system calls: {seccomp}");
    Ok(())
}

fn strangers(server: Server<'_>) -> Result<()> {
    let status = b"{\"verb\":\"status\"}\n";
    let stat = server.sh("stat -c '%U %G %a' /run/borgios/keeper.sock")?;
    ensure!(stat == "root borgios 660", "the socket is {stat}");
    for user in ["borgios", "root"] {
        let said = server.keeper_raw(user, status)?;
        ensure!(matches!(Answer::parse(said.trim())?, Answer::Ok(_)), "{user} was told {said}");
    }
    ensure!(server.keeper_raw("nobody", status).is_err(), "nobody may open the socket");
    // One who has the group, and so the file, is still not the user.
    let mark = server.journal_end()?;
    let said = server.keeper_raw("nobody -g borgios", status)?;
    ensure!(said.is_empty(), "a stranger with the group was told {said}");
    let filter = "-u borgios-keeper BORGIOS_EVENT=connection_dropped";
    server.wait_journal_after(mark, filter, SOON).map(drop)
}

/// release/2 and release/3, signed in the exchange folder, so that no node hears of them. Returns
/// the blob of release/3's hello.
fn offline_releases(network: &Network<'_>) -> Result<Vec<u8>> {
    for version in ["2", "3"] {
        let hello = network.service(&Service::new("hello", version))?;
        let what = format!("release/{version}");
        network.propose(Place::Exchange, version, &[hello])?;
        let exchange = Place::Exchange;
        network.approve(&what, ("ann", exchange), ("cleo", exchange))?;
        network.at("ann", exchange, &["sync"])?;
    }
    Ok(std::fs::read(network.file("blobs/hello-3.tar.zst"))?)
}

fn nonsense(server: Server<'_>) -> Result<()> {
    let mark = server.journal_end()?;
    let lines = [
        json!({"verb": "run", "command": format!("touch {OWNED}")}),
        json!({"verb": "install", "path": "/tmp/evil"}),
        json!({"verb": "install", "seq": "2; touch /run/borgios-owned"}),
        json!({"verb": "install", "seq": -1}),
        json!({"verb": "submit"}),
        json!({"verb": ["status"]}),
        json!("status"),
        json!(null),
    ];
    let mut bytes: Vec<u8> =
        lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect();
    bytes.extend_from_slice(&[b'['; 5000]);
    bytes.push(b'\n');
    let said = server.keeper_raw("borgios", &bytes)?;
    let answers = said.lines().map(Answer::parse).collect::<Result<Vec<_>>>()?;
    ensure!(
        answers.len() == lines.len() + 1,
        "{} lines were answered with {said}",
        lines.len() + 1
    );
    ensure!(answers.iter().all(|answer| answer.code() == "bad_request"), "{said}");
    let filter = "-u borgios-keeper BORGIOS_REFUSAL=bad_request";
    wait::until_true("every line is in the journal", SOON, || {
        Ok(server.journal_after(mark, filter)?.len() == answers.len())
    })?;
    ensure!(server.try_sh(&format!("test -e {OWNED}"))?.code == 1, "the keeper ran a command");
    // Bytes that are no text end the connection, and only that.
    let said = server.keeper_raw("borgios", b"\xff\xfe\xfd\n")?;
    ensure!(said.is_empty(), "bytes that are no text were answered with {said}");
    status(server).map(drop)
}

/// Statements and orders in every wrong order, then in the right one.
fn orders(network: &Network<'_>, server: Server<'_>, blob: &[u8]) -> Result<()> {
    let [first, second, third] = ["release/1", "release/2", "release/3"]
        .map(|what| network.statement("ann", what))
        .map(|found| found.map_err(|error| format!("{error:#}")));
    let say = |found: std::result::Result<Envelope, String>| found.map_err(anyhow::Error::msg);
    let (first, second, third) = (say(first)?, say(second)?, say(third)?);
    let links = || server.sh("readlink /opt/borgios/current/*");
    let before = links()?;
    let mark = server.journal_end()?;
    let submit =
        |envelope: &Envelope| json!({"verb": "submit", "statement": envelope, "ballots": []});
    let run = |all: &[&Envelope]| {
        let all: Vec<Value> =
            all.iter().map(|one| json!({"statement": one, "ballots": []})).collect();
        json!({"verb": "submit-run", "submissions": all})
    };
    let install = |seq: u64| json!({"verb": "install", "seq": seq});
    let story = [
        ("an order for a release nobody signed", install(2), "not_the_head"),
        ("an order for a release far ahead", install(u64::MAX >> 12), "not_the_head"),
        ("an order for release/0", install(0), "not_the_head"),
        ("release/3 before release/2", submit(&third), "gap"),
        ("an order for a release that was refused", install(3), "not_the_head"),
        ("release/2, changed", submit(&forgery::flip_payload(&second)?), "bad_signature"),
        (
            "release/2, its signature changed",
            submit(&forgery::flip_signature(&second)),
            "bad_signature",
        ),
        ("release/2 as it was signed", submit(&second), "ok"),
        ("release/2 again", submit(&second), "ok"),
        ("release/1, replayed", submit(&first), "replayed"),
        ("an order to go back", install(1), "not_the_head"),
        ("release/3 as it was signed", submit(&third), "ok"),
        ("release/2, replayed", submit(&second), "replayed"),
        ("an order to go back to it", install(2), "not_the_head"),
        ("an order for a release nobody signed", install(4), "not_the_head"),
        ("all again in a wrong order", run(&[&third, &first, &second]), "ok"),
    ];
    let mut wanted = std::collections::BTreeMap::<&str, usize>::new();
    for (what, request, code) in &story {
        let answer = server.keeper(request)?;
        ensure!(answer.code() == *code, "{what}: the keeper said {answer:?}, not {code}");
        *wanted.entry(code).or_default() += usize::from(*code != "ok");
    }
    for (code, count) in wanted.into_iter().filter(|(_, count)| *count > 0) {
        let filter = format!("-u borgios-keeper BORGIOS_REFUSAL={code}");
        wait::until_true(&format!("{count} times {code} in the journal"), SOON, || {
            Ok(server.journal_after(mark, &filter)?.len() >= count)
        })?;
    }
    ensure!(links()? == before, "something was installed: {}", links()?);
    // The newest, in order, but its blob was never brought.
    let hex = Digest::of(blob).hex();
    ensure!(server.try_sh(&format!("test -e /var/lib/borgios/blobs/{hex}"))?.code == 1, "a blob");
    install_fails(server, "no_blob")?;
    let known = status(server)?;
    ensure!(known["installed"] == 1 && known["heads"]["release"]["seq"] == 3, "{known}");
    ensure!(links()? == before, "something was installed: {}", links()?);
    Ok(())
}

/// What borgiosd's user can lay down where the blob should be.
fn planted(server: Server<'_>, blob: &[u8]) -> Result<()> {
    let before = server.sh("readlink /opt/borgios/current/*")?;
    let path = format!("/var/lib/borgios/blobs/{}", Digest::of(blob).hex());
    let size = blob.len();
    let plants = [
        format!("head -c {size} /dev/zero >{path}"),
        format!("head -c {} /dev/zero >{path}", size + 1),
        format!("ln -s /etc/shadow {path}"),
        format!("ln -s /var/lib/borgios-keeper/keeper.key {path}"),
        format!("mkfifo {path}"),
        format!("mkdir {path}"),
    ];
    for plant in &plants {
        let mark = server.journal_end()?;
        server.sh(&format!("rm -rf {path}; runuser -u borgios -- sh -c '{plant}'"))?;
        install_fails(server, "bad_digest").with_context(|| plant.clone())?;
        server.wait_journal_after(mark, "-u borgios-keeper BORGIOS_REFUSAL=bad_digest", SOON)?;
    }
    server.sh(&format!("rm -rf {path}"))?;
    wait::holds("release/1 goes on running", CALM, || {
        Ok(status(server)?["installed"] == 1
            && server.sh("readlink /opt/borgios/current/*")? == before)
    })
}

/// Asks for release/3 and waits until the keeper says what stood in the way.
fn install_fails(server: Server<'_>, code: &str) -> Result<()> {
    let asked = server.keeper(&json!({"verb": "install", "seq": 3}))?;
    ensure!(asked.code() == "ok", "install of the head: {asked:?}");
    wait::until_true(&format!("the keeper says {code}"), SOON, || {
        let status = status(server)?;
        ensure!(status["problem"]["code"] == code, "{status}");
        Ok(status["activity"]["doing"] == "waiting")
    })
}

fn status(server: Server<'_>) -> Result<Value> {
    match server.keeper(&json!({"verb": "status"}))? {
        Answer::Ok(status) => Ok(status),
        Answer::Refused(code) => anyhow::bail!("the keeper refuses to say how it is: {code}"),
    }
}

fn pid(server: Server<'_>) -> Result<String> {
    server.sh("systemctl show -p MainPID --value borgios-keeper")
}
