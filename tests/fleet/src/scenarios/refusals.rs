//! What every node refuses, by name and in its journal: forged, changed, replayed and foreign
//! statements, what is too long to be read, artifacts that are not what was signed, and decisions
//! with too few approvals. Afterwards nothing has changed, and the next good release installs.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use borgios_policy::tally::tally;
use borgios_policy::{Lane, Object as _, Policy, Proposal, Slot};
use borgios_types::{Digest, Envelope, Kind, Round, SecretKey, Seq};
use serde_json::json;

use crate::ballot_box::Place;
use crate::component::Service;
use crate::door::Door;
use crate::forgery;
use crate::lab::Lab;
use crate::network::{Network, text};
use crate::scenario::{Say, Scenario};
use crate::server::Server;
use crate::wait::{self, SOON};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "refusals",
    about: "what was tampered with is refused by name",
    alone: false,
    run,
};

/// How long is watched that something does not happen.
const CALM: Duration = Duration::from_secs(4);
/// A payload that no computer should ever have to hold.
const HUGE: usize = 100 * 1024 * 1024;
/// Where a liar serves wrong bytes.
const LIAR: u16 = 8099;

/// A forgery, and the code by which the node's agent and its keeper refuse it.
struct Forgery {
    what: &'static str,
    envelope: Envelope,
    code: &'static str,
}

fn run(say: &Say) -> Result<()> {
    let lab = Lab::up(3)?;
    let network = Network::founded(&lab, "refusals")?;
    network.join_all()?;
    network.wait_tree()?;
    one_ballot(&network)?;
    say("with one ballot release/2 was no statement on any node; the second made it one");
    network.wait_installed(2)?;
    let door = Door::with(&network.governor("ann").key()?, &network.file("door"))?;
    let forgeries = forgeries(&network)?;
    for server in lab.servers() {
        refuse(server, &door, &forgeries)?;
    }
    for Forgery { what, code, .. } in &forgeries {
        say(&format!("{what}: {code}, from every node and from every keeper"));
    }
    for server in lab.servers() {
        endless(server, &door)?;
    }
    say("a payload of 100 MB: too_large, before it was read");
    tampered(&network)?;
    say("wrong bytes from a url and in the depot: bad_digest everywhere; the right ones install");
    too_few(&network)?;
    say("two approvals where three are asked for: too_few_approvals; the third installs it");
    lab.take_down()
}

/// One approval is a ballot and nothing more, however long one waits.
fn one_ballot(network: &Network<'_>) -> Result<()> {
    let one = network.lab().server(1);
    let hello = network.service(&Service::new("hello", "2"))?;
    network.bring(one, &hello)?;
    network.propose(Place::Node(one), "2", &[hello])?;
    network.vote("ann", Place::Node(one), "release/2", true)?;
    let heard = |server: Server<'_>| -> Result<Option<u64>> {
        Ok(server.status()?["objects"]["ballot"].as_u64())
    };
    let ballots = heard(one)?;
    for server in network.lab().servers() {
        let what = format!("{} hears ann's ballot", server.host());
        wait::until_true(&what, SOON, || Ok(heard(server)? == ballots))?;
    }
    wait::holds("release/1 is the head on all", CALM, || {
        for server in network.lab().servers() {
            let status = server.status()?;
            if status["heads"]["release"]["seq"] != 1 || status["keeper"]["installed"] != 1 {
                return Ok(false);
            }
        }
        Ok(true)
    })?;
    let last = Place::Node(network.lab().server(3));
    network.vote("cleo", last, "release/2", true)?;
    network.wait_signed("cleo", last, "release/2")
}

fn forgeries(network: &Network<'_>) -> Result<Vec<Forgery>> {
    let (old, good) =
        (network.statement("cleo", "release/1")?, network.statement("cleo", "release/2")?);
    let group = good.sigs.first().context("release/2 has no signature")?.by;
    let cleo = network.governor("cleo").key()?;
    let next = |more: &[(&str, serde_json::Value)]| {
        let fields = [("seq", json!(3)), ("prev", json!(good.id()))];
        forgery::with_fields(&good, &[&fields[..], more].concat())
    };
    let elsewhere = SecretKey::from_seed([9; 32]);
    let foreign = next(&[("network", json!(Digest::of(b"another network")))])?;
    let foreign = forgery::signed_as(&foreign, &elsewhere, elsewhere.public());
    let other_kind = Envelope { kind: Kind::new("policy")?, ..good.clone() };
    let long = Envelope { payload: forgery::oversized(70 * 1024)?.payload, ..good.clone() };
    let list = [
        ("one flipped bit in the payload", forgery::flip_payload(&good)?, "bad_signature"),
        ("one flipped bit in the signature", forgery::flip_signature(&good), "bad_signature"),
        ("one flipped bit in the key", forgery::flip_key(&good)?, "bad_signature"),
        ("another release under the old signature", next(&[])?, "bad_signature"),
        (
            "a release that one governor signed in the board's name",
            forgery::signed_as(&next(&[])?, &cleo, group),
            "bad_signature",
        ),
        (
            "a release that one governor signed in their own",
            forgery::signed_as(&next(&[])?, &cleo, cleo.public()),
            "bad_signature",
        ),
        ("an older release, replayed", old, "replayed"),
        ("a release of another network", foreign, "wrong_network"),
        ("a payload with a key twice", forgery::duplicate_key(&good)?, "malformed"),
        ("a release that says it is a policy", other_kind, "wrong_kind"),
        (
            "a rule this version does not know",
            next(&[("critical", json!(["x"]))])?,
            "unknown_critical",
        ),
        ("a payload of 70 KB", long, "too_large"),
    ];
    Ok(list.map(|(what, envelope, code)| Forgery { what, envelope, code }).into())
}

/// Brings every forgery to both doors of a server and looks into both journals.
fn refuse(server: Server<'_>, door: &Door, forgeries: &[Forgery]) -> Result<()> {
    let before = snapshot(server)?;
    let mark = server.journal_end()?;
    for Forgery { what, envelope, code } in forgeries {
        let host = server.host();
        let agent = door.put(server, envelope)?;
        ensure!(agent.code() == *code, "{host}: {what}: the agent said {agent:?}, not {code}");
        let keeper = server.keeper_submit(&json!(envelope))?;
        ensure!(keeper.code() == *code, "{host}: {what}: the keeper said {keeper:?}, not {code}");
    }
    for unit in ["borgiosd", "borgios-keeper"] {
        for Forgery { code, .. } in forgeries {
            let wanted = forgeries.iter().filter(|forgery| forgery.code == *code).count();
            let filter = format!("-u {unit} BORGIOS_EVENT=refused BORGIOS_REFUSAL={code}");
            let what = format!("{}: {wanted} refusals with {code} of {unit}", server.host());
            wait::until_true(&what, SOON, || {
                Ok(server.journal_after(mark, &filter)?.len() >= wanted)
            })?;
        }
    }
    unchanged(server, &before)
}

fn endless(server: Server<'_>, door: &Door) -> Result<()> {
    let before = snapshot(server)?;
    let mark = server.journal_end()?;
    let agent = door.put_endless(server, HUGE)?;
    ensure!(agent.code() == "too_large", "{}: the agent said {agent:?}", server.host());
    let line = json!({"verb": "submit", "statement": forgery::oversized(HUGE)?, "ballots": []});
    let keeper = server.keeper_raw("borgios", format!("{line}\n").as_bytes())?;
    ensure!(keeper.is_empty(), "{}: the keeper read 100 MB: {keeper}", server.host());
    for unit in ["borgiosd", "borgios-keeper"] {
        server.wait_journal_after(mark, &format!("-u {unit} BORGIOS_REFUSAL=too_large"), SOON)?;
    }
    unchanged(server, &before)
}

/// release/3, whose blob a liar serves, and which somebody puts wrongly into every depot.
fn tampered(network: &Network<'_>) -> Result<()> {
    let lab = network.lab();
    let (one, three) = (lab.server(1), lab.server(3));
    let component = network.service(&Service::new("hello", "3"))?;
    let bytes = std::fs::read(&component)?;
    let (size, hex) = (bytes.len(), Digest::of(&bytes).hex());
    three.sh(&liar(size))?;
    wait::until_true("the liar listens", SOON, || {
        Ok(!three.sh(&format!("ss -Hltn sport = :{LIAR}"))?.is_empty())
    })?;
    let url = format!("http://{}:{LIAR}/blobs", three.address());
    let marks: Vec<_> = lab.servers().map(|server| server.journal_end()).collect::<Result<_>>()?;
    let file = text(&component)?;
    let node = Place::Node(one);
    let propose =
        ["propose", "release", "--version", "3", "--keep", "--component", &file, "--url", &url];
    network.at("ann", node, &propose)?;
    network.approve("release/3", ("ann", node), ("cleo", node))?;
    let refused = |unit: &str| -> Result<()> {
        let filter = format!("-u {unit} BORGIOS_REFUSAL=bad_digest");
        for (server, mark) in lab.servers().zip(&marks) {
            server.wait_journal_after(*mark, &filter, SOON)?;
            ensure!(server.installed()? == 2, "{} installed it", server.host());
        }
        Ok(())
    };
    refused("borgiosd")?;
    for server in lab.servers() {
        let path = format!("/var/lib/borgios/blobs/{hex}");
        // A file of the right name and size is all that borgiosd looks at before it asks.
        let plant = format!(
            "head -c {size} /dev/zero >/root/wrong && chown borgios: /root/wrong && mv /root/wrong {path}"
        );
        server.sh(&plant)?;
    }
    refused("borgios-keeper")?;
    network.bring(one, &component)?;
    network.wait_installed(3)
}

/// Answers every request with `size` wrong bytes.
fn liar(size: usize) -> String {
    let program = format!(
        "my $l = IO::Socket::INET->new(LocalPort => {LIAR}, Listen => 9, ReuseAddr => 1) or die; \
         while (my $c = $l->accept) {{ while (<$c>) {{ last if /^\\r?\\n/ }} \
         print $c qq(HTTP/1.1 200 OK\\r\\nContent-Length: {size}\\r\\nConnection: close\\r\\n\\r\\n), \
         q(x) x {size}; close $c }}"
    );
    format!(
        "systemd-run --quiet --unit=liar perl -MIO::Socket::INET -e '{}'",
        // systemd-run expands these itself.
        program.replace('$', "$$")
    )
}

/// A class that asks for three approvals: two make a valid signature and still no decision.
fn too_few(network: &Network<'_>) -> Result<()> {
    let lab = network.lab();
    let node = Place::Node(lab.server(1));
    network.at("ann", node, &["propose", "policy", "--release-approvals", "3"])?;
    network.approve("policy/2", ("ann", node), ("cleo", node))?;
    for server in lab.servers() {
        server.wait_status("policy/2", SOON, |status| {
            status["keeper"]["heads"]["policy"]["seq"] == 2
        })?;
    }
    let hello = network.service(&Service::new("hello", "4"))?;
    network.bring(lab.server(1), &hello)?;
    network.propose(node, "4", &[hello])?;
    network.vote("ann", node, "release/4", true)?;
    network.vote("cleo", node, "release/4", true)?;
    let signed = aggregate(network, 4)?;
    for server in lab.servers() {
        let before = snapshot(server)?;
        let mark = server.journal_end()?;
        let keeper = server.keeper_submit(&json!(signed))?;
        ensure!(keeper.code() == "too_few_approvals", "{}: {keeper:?}", server.host());
        let filter = "-u borgios-keeper BORGIOS_REFUSAL=too_few_approvals";
        server.wait_journal_after(mark, filter, SOON)?;
        unchanged(server, &before)?;
    }
    let third = Place::Node(lab.server(2));
    network.vote("ben", third, "release/4", true)?;
    network.wait_signed("ben", third, "release/4")?;
    network.wait_installed(4)
}

/// What anyone who holds the ballots can make of them: the board's signature on release/`seq`.
fn aggregate(network: &Network<'_>, seq: u64) -> Result<Envelope> {
    let objects = |kind: &str| -> Result<Vec<Envelope>> {
        let folder = network.governor("cleo").home().join("objects").join(kind);
        let paths = std::fs::read_dir(&folder)?;
        let read = |path: std::path::PathBuf| Ok(Envelope::parse(&std::fs::read(path)?)?);
        paths.map(|entry| read(entry?.path())).collect()
    };
    let policy = network.statement("cleo", "policy/2")?;
    let body = serde_json::from_str::<serde_json::Value>(&policy.payload)?["body"].clone();
    let board = Policy::parse(&body)?.board;
    let slot = Slot { epoch: board.epoch(), lane: Lane::Release, seq: Seq(seq), round: Round(0) };
    let texts = objects("proposal")?.into_iter().map(|e| Ok(Proposal::parse(&e)?.statement));
    let texts = texts.collect::<Result<Vec<String>>>()?;
    let tally = tally(&board, slot, &texts, &objects("pool")?, &objects("ballot")?);
    tally.signed().cloned().with_context(|| format!("two approvals made no signature: {tally:?}"))
}

/// Everything on a server that a statement could change.
fn snapshot(server: Server<'_>) -> Result<String> {
    let files = server.sh(
        "cd /var/lib/borgios-keeper && find chain attempted -type f 2>/dev/null | sort | xargs -r sha256sum; \
         ls -l --time-style=+ /opt/borgios/current /opt/borgios/store /etc/systemd/system",
    )?;
    let status = server.status()?;
    let (heads, keeper) = (&status["heads"], &status["keeper"]);
    Ok(format!("{files}\n{heads}\n{}\n{}", keeper["heads"], keeper["running"]))
}

fn unchanged(server: Server<'_>, before: &str) -> Result<()> {
    let after = snapshot(server)?;
    ensure!(after == before, "{} changed:\n{before}\nis now\n{after}", server.host());
    Ok(())
}
