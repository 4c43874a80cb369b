//! The way in that the board can open: a certificate for one server, one key and one while, and the
//! fleet's password on a console; and everything that must stay shut.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::ballot_box::Place;
use crate::lab::Lab;
use crate::login::Key;
use crate::network::Network;
use crate::scenario::{Say, Scenario};
use crate::schedule::{self, Schedule};
use crate::server::Server;
use crate::wait::{self, SOON};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "access",
    about: "the board opens one server for one key and a while, and nothing else",
    alone: false,
    run,
};

/// How long is watched that a door stays shut: several rounds of gossip.
const CALM: Duration = Duration::from_secs(5);
/// A reveal that ends while the story waits for it: time for a vote and a login, on a busy computer.
const BRIEF: &str = "40s";
/// A grant that ends while the story waits for it, and its length.
const SHORT: (&str, u64) = ("40s", 40);

fn run(say: &Say) -> Result<()> {
    let lab = Lab::up(4)?;
    let network = Network::founded(&lab, "access")?;
    network.join_all()?;
    network.wait_tree()?;
    let laptop = Key::generate(&network.file("laptop/id"))?;
    old_ways(&lab, &laptop)?;
    say("four servers joined: the owner's key, root's old password and a fresh key open none");
    let granted = opens(&network, &laptop)?;
    say(
        "two governors approved: stock ssh logs in on server 2, and on no other, with no other key",
    );
    own_certificates(&network, &laptop, &granted)?;
    say("certificates that a governor, or the owner of the key, signed alone: refused");
    revoked(&network, &laptop, &granted)?;
    say("revoked: shut, and the login that was in is ended");
    ends(&network, &laptop)?;
    say("after its time: the same");
    unseen(&network, &laptop)?;
    say("a server cut from all others knows the grant but no witness: shut; healed: open");
    revealed(&network, say)?;
    lab.take_down()
}

/// Nothing that opened root before the hand-over does so now.
fn old_ways(lab: &Lab, laptop: &Key) -> Result<()> {
    for server in lab.servers() {
        server.old_ways_shut()?;
        server.login(laptop, None)?.must_not(&format!("{}: a key of nobody", server.host()))?;
    }
    Ok(())
}

/// A grant for server 2, and its certificate.
struct Granted {
    what: String,
    certificate: std::path::PathBuf,
}

/// Asks for a grant and has it approved by two governors at a place.
fn grant(
    network: &Network<'_>,
    place: Place<'_>,
    server: Server<'_>,
    valid: &str,
    key: &Key,
) -> Result<Granted> {
    let what = network.request(place, server, valid, &key.public_file())?;
    network.approve(&what, ("ann", place), ("cleo", place))?;
    network.at("ann", place, &["sync"])?;
    let certificate = network.certificate(&what, key.file())?.context("no certificate")?;
    Ok(Granted { what, certificate })
}

/// What a server's keeper says of a grant.
fn state(server: Server<'_>, what: &str) -> Result<Value> {
    let seq: u64 = what.rsplit('/').next().unwrap_or_default().parse()?;
    let status = server.status()?;
    let all = status["keeper"]["access"].as_array().cloned().unwrap_or_default();
    Ok(all.into_iter().find(|grant| grant["seq"] == seq).unwrap_or_default())
}

fn wait_state(server: Server<'_>, what: &str, wanted: &str) -> Result<()> {
    wait::until_true(&format!("{}: {what} is {wanted}", server.host()), SOON, || {
        let state = state(server, what)?;
        ensure!(state["state"] == wanted, "{what} is {state}");
        Ok(true)
    })
}

fn opens(network: &Network<'_>, laptop: &Key) -> Result<Granted> {
    let lab = network.lab();
    let [one, two, three] = [1, 2, 3].map(|number| lab.server(number));
    let place = Place::Node(one);
    let what = network.request(place, two, "15m", &laptop.public_file())?;
    // Before the votes there is no certificate to be had.
    network.vote("ann", place, &what, true)?;
    let early = network.certificate(&what, laptop.file())?;
    ensure!(early.is_none(), "one vote made a certificate: {early:?}");
    network.vote("cleo", place, &what, true)?;
    network.wait_signed("cleo", place, &what)?;
    network.at("ann", place, &["sync"])?;
    let certificate = network.certificate(&what, laptop.file())?.context("no certificate")?;
    wait_state(two, &what, "open")?;
    two.wait_login(laptop, &certificate, "the voted certificate on its own server")?;
    for other in [one, three, lab.server(4)] {
        // They know the statement too: it is not ignorance that keeps them shut.
        other.wait_status("the grant is known", SOON, |status| {
            status["keeper"]["heads"]["access"]["seq"] == 1
        })?;
        let told = format!("server 2's certificate on {}", other.host());
        other.login(laptop, Some(&certificate))?.must_not(&told)?;
    }
    let stranger = Key::generate(&network.file("laptop/other"))?;
    two.login(&stranger, Some(&certificate))?.must_not("the certificate with another key")?;
    two.login(laptop, None)?.must_not("the key without its certificate")?;
    stock_tools_agree(&certificate, network)?;
    Ok(Granted { what, certificate })
}

/// `ssh-keygen -L` reads it, and it names what was voted.
fn stock_tools_agree(certificate: &std::path::Path, network: &Network<'_>) -> Result<()> {
    let mut keygen = std::process::Command::new("ssh-keygen");
    keygen.args(["-L", "-f"]).arg(certificate);
    let shown = crate::command::run(keygen, b"", SOON)?.ok()?.stdout;
    let id = network.statement("ann", "access/1")?.id().to_string();
    for wanted in ["user certificate", "Serial: 1\n", "permit-pty", &id] {
        ensure!(shown.contains(wanted), "no {wanted:?} in {shown}");
    }
    let more = ["permit-port-forwarding", "permit-agent-forwarding", "permit-X11-forwarding"];
    ensure!(more.iter().all(|extension| !shown.contains(extension)), "{shown}");
    Ok(())
}

/// Certificates for the right principal and serial, signed by someone who is not the board.
fn own_certificates(network: &Network<'_>, laptop: &Key, granted: &Granted) -> Result<()> {
    let two = network.lab().server(2);
    let principals = two.sh("cat /etc/borgios/ssh/principals/root")?;
    let principal = principals.lines().next().context("no principal in the file")?;
    let governor = network.governor("ann").key()?;
    let alone = Key::of(&governor, &network.file("laptop/ann"))?;
    for (who, signer) in [("ann alone", &alone), ("the key's owner", laptop)] {
        for name in [principal, "root"] {
            let forged = signer.certify(laptop, name, 1)?;
            let what = format!("a certificate for {name} that {who} signed");
            two.login(laptop, Some(&forged))?.must_not(&what)?;
        }
    }
    two.login(&alone, None)?.must_not("a governor's own key")?;
    // The good one still opens: the server was not shut altogether meanwhile.
    two.login(laptop, Some(&granted.certificate))?.must("the voted certificate")
}

fn revoked(network: &Network<'_>, laptop: &Key, granted: &Granted) -> Result<()> {
    let two = network.lab().server(2);
    let session = two.stay(laptop, &granted.certificate)?;
    network.revoke(Place::Node(network.lab().server(3)), &granted.what)?;
    wait_state(two, &granted.what, "revoked")?;
    two.wait_no_login(laptop, &granted.certificate, "a revoked certificate")?;
    session.wait_end()?;
    let left = two.sh("cat /etc/borgios/ssh/principals/root")?;
    ensure!(left.is_empty(), "principals are left: {left}");
    // Its serial stands in the list too, so that not one line alone keeps it shut.
    two.put(&granted.certificate, "/root/cert.pub")?;
    let listed =
        two.try_sh("ssh-keygen -Q -f /etc/borgios/ssh/revoked /root/cert.pub; rm /root/cert.pub")?;
    ensure!(listed.stdout.contains("REVOKED"), "the list says {}", listed.all());
    Ok(())
}

fn ends(network: &Network<'_>, laptop: &Key) -> Result<()> {
    let lab = network.lab();
    let two = lab.server(2);
    let granted = grant(network, Place::Node(lab.server(1)), two, SHORT.0, laptop)?;
    wait_state(two, &granted.what, "open")?;
    let before = state(two, &granted.what)?["before"].as_u64().context("no end")? as f64;
    two.wait_login(laptop, &granted.certificate, "a short certificate in its time")?;
    let session = two.stay(laptop, &granted.certificate)?;
    let bound = Duration::from_secs(SHORT.1 * 2) + SOON;
    wait::until_true("the certificate's time is over", bound, || Ok(schedule::now() > before))?;
    two.login(laptop, Some(&granted.certificate))?.must_not("a certificate after its time")?;
    session.wait_end()?;
    wait::until_true("its principal is gone", SOON, || {
        Ok(two.sh("cat /etc/borgios/ssh/principals/root")?.is_empty())
    })
}

/// A threshold signs in secret and brings the statement to one server that is cut from all others.
fn unseen(network: &Network<'_>, laptop: &Key) -> Result<()> {
    let lab = network.lab();
    let three = lab.server(3);
    lab.isolate(three.number())?;
    network.at("ann", Place::Exchange, &["sync"])?;
    let granted = grant(network, Place::Exchange, three, "15m", laptop)?;
    let key = |what: &str| -> Result<()> {
        three.login(laptop, Some(&granted.certificate))?.must_not(what)
    };
    key("a certificate whose statement the server has not heard")?;
    network.at("ann", Place::Node(three), &["sync"])?;
    wait_state(three, &granted.what, "waiting")?;
    wait::holds("no witness, no entry", CALM, || {
        key("a certificate that no other member has seen")?;
        let state = state(three, &granted.what)?;
        Ok(state["state"] == "waiting" && state["witnesses"] == 0)
    })?;
    lab.heal()?;
    wait_state(three, &granted.what, "open")?;
    three.wait_login(laptop, &granted.certificate, "a certificate that members have seen")?;
    for other in [1, 2, 4] {
        let other = lab.server(other);
        wait::until_true(&format!("{} knows of it", other.host()), SOON, || {
            let heads = other.status()?["keeper"]["heads"].clone();
            let number: u64 = granted.what.rsplit('/').next().unwrap_or_default().parse()?;
            Ok(heads["access"]["seq"] == number)
        })?;
    }
    Ok(())
}

/// The fleet's password, for a console.
fn revealed(network: &Network<'_>, say: &Say) -> Result<()> {
    let lab = network.lab();
    let place = Place::Node(lab.server(1));
    let what = network.schedule(place, "1h", 6)?;
    let schedule = wait::until("the schedule is in the depot", SOON, || {
        Schedule::of(network, &what, lab.server(1)).map(Some)
    })?;
    let now = schedule.at(schedule::now());
    for server in lab.servers() {
        carries(server, &schedule, now)?;
    }
    let asked = network.reveal(place, now, "15m")?;
    network.vote("ann", place, &asked, true)?;
    let alone = network.password(place, now)?;
    ensure!(alone.is_none(), "one ballot revealed the password");
    let password = opened(network, place, &asked, now)?;
    for server in lab.servers() {
        let host = server.host();
        server.su(&password)?.must(&format!("{host}: the revealed password with su"))?;
        let ssh = server.login_with_password(&password)?;
        ssh.must_not(&format!("{host}: the revealed password over ssh"))?;
    }
    say("a password that two ballots revealed to ann opens su on every console, and ssh nowhere");
    network.advance(place)?;
    for server in lab.servers() {
        carries(server, &schedule, now + 1)?;
        server.su(&password)?.must_not(&format!("{}: the old password", server.host()))?;
    }
    say("after the advance it opens nothing");
    // And a reveal ends by itself, with nobody voting an advance.
    let asked = network.reveal(place, now + 1, BRIEF)?;
    network.vote("ann", place, &asked, true)?;
    let password = opened(network, place, &asked, now + 1)?;
    let one = lab.server(1);
    one.su(&password)?.must("the second password in its time")?;
    for server in lab.servers() {
        carries(server, &schedule, now + 2)?;
    }
    one.su(&password)?.must_not("the second password after its time")?;
    say("another reveal ended by itself: every server moved on at its time");
    Ok(())
}

/// The second vote, and what ann reads then; a second look gives nothing.
fn opened(network: &Network<'_>, place: Place<'_>, asked: &str, epoch: u64) -> Result<String> {
    network.vote("ben", place, asked, true)?;
    network.wait_signed("ben", place, asked)?;
    network.at("ann", place, &["sync"])?;
    let password = network.password(place, epoch)?.context("signed, and no password")?;
    let again = network.password(place, epoch);
    ensure!(again.is_err(), "the password was shown twice");
    Ok(password)
}

fn carries(server: Server<'_>, schedule: &Schedule, epoch: u64) -> Result<()> {
    wait::until_true(&format!("{}: the password of epoch {epoch}", server.host()), SOON, || {
        Ok(schedule.epoch_of(&server.root_verifier()?) == Some(epoch))
    })
}
