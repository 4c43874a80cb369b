//! `borgios doctor`: looks at this folder and this server, and says what is wrong and what to do.
//!
//! It changes nothing and asks for no passphrase.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use borgios_policy::chain::AHEAD_MAX_S;
use borgios_policy::pool::SLOTS_AHEAD;
use borgios_policy::{Card, Lane};
use borgios_types::Round;
use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::archive::Archive;
use crate::context::Context;
use crate::failure::Failure;
use crate::identity::read_card;
use crate::known::KnownNodes;
use crate::slots::{SlotState, Slots};
use crate::transport::api::Door as _;
use crate::transport::socket::Socket;

/// How long a node may take to accept a connection.
const REACH_TIMEOUT: Duration = Duration::from_secs(3);

/// A policy or a release that ends sooner than this, in seconds, should be renewed now.
const RENEW_S: u64 = 30 * 86_400;

/// Say what is wrong here, and what to do
#[derive(Debug, Args)]
pub(crate) struct Doctor {}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    /// What to do; absent where all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

/// What was found so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn well(&mut self, what: impl Into<String>) {
        self.0.push(Finding { what: what.into(), advice: None });
    }

    fn ill(&mut self, what: impl Into<String>, advice: impl Into<String>) {
        self.0.push(Finding { what: what.into(), advice: Some(advice.into()) });
    }
}

impl Doctor {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut findings = Findings::default();
        if context.home.governor("").exists() {
            governor(context, &mut findings)?;
        }
        if context.socket.exists() {
            agent(context, &mut findings);
        }
        if findings.0.is_empty() {
            let home = context.home.root().display().to_string();
            findings.ill(
                format!("no governor in {home} and no agent at {}", context.socket.display()),
                "run this on a server of a fleet, or as a governor: `borgios governor init`",
            );
        }
        let problems = findings.0.iter().filter(|finding| finding.advice.is_some()).count();
        let lines = findings.0.iter().map(|finding| match &finding.advice {
            None => format!("ok    {}\n", finding.what),
            Some(advice) => format!("check {}\n      {advice}\n", finding.what),
        });
        let text: String = lines.collect();
        context.printer.answer(&json!({"findings": findings.0, "problems": problems}), &text)?;
        if problems == 0 {
            return Ok(());
        }
        Err(Failure::new(format!("{problems} of {} findings need a look", findings.0.len())))
    }
}

/// The governor's folder.
fn governor(context: &Context, findings: &mut Findings) -> Result<(), Failure> {
    let root = context.home.root();
    let mode = root.metadata().map_or(0, |metadata| metadata.permissions().mode() & 0o777);
    if mode & 0o077 == 0 {
        findings.well(format!("{} is yours alone", root.display()));
    } else {
        findings.ill(
            format!("{} has mode {mode:o}: others can look into it", root.display()),
            format!("chmod 700 {}", root.display()),
        );
    }
    match read_card(&context.home) {
        Ok(card) => findings.well(format!("an identity with the card {}", card.id().short())),
        Err(failure) => findings.ill(failure.summary(), "borgios governor init --name NAME"),
    }
    nodes(context, findings)?;
    let Ok(membership) = context.membership() else {
        findings.ill("it belongs to no network yet", "borgios governor found --exchange DIR");
        return Ok(());
    };
    match Archive::open(&context.home, membership.network) {
        Ok(archive) => network(context, &archive, findings)?,
        Err(failure) => findings.ill(failure.summary(), "the error names the way out"),
    }
    Ok(())
}

/// Chain, clock and slots.
fn network(context: &Context, archive: &Archive, findings: &mut Findings) -> Result<(), Failure> {
    let (now, chain) = (context.now(), archive.chain());
    let heads = Lane::ALL.map(|lane| format!("{lane}/{}", chain.head_seq(lane)));
    findings.well(format!("the chain verifies: {}", heads.join(", ")));
    // Clocks that are kept right differ by less.
    if now.plus(AHEAD_MAX_S) < chain.now_floor() {
        findings.ill(
            format!("the clock says {now}, the newest statement is of {}", chain.now_floor()),
            "one of the two is wrong: compare this clock, and set it; what you sign is dated by it",
        );
    }
    if let Some(policy) = chain.head(Lane::Policy)
        && policy.statement().expires < now.plus(RENEW_S)
    {
        findings.ill(
            format!("the policy in force ends at {}", policy.statement().expires),
            "borgios propose policy --renew: the same rules with a new date let servers go on joining",
        );
    }
    if let Some(release) = chain.head(Lane::Release)
        && release.statement().expires < now.plus(RENEW_S)
    {
        let (seq, expires) = (release.statement().seq, release.statement().expires);
        findings.ill(
            format!("release/{seq} ends at {expires}: no server can join with it after that"),
            "borgios propose release --version V --keep: the same components with a new date; then make a \
             new bundle",
        );
    }
    let slots = Slots::new(&context.home);
    let board = archive.board()?;
    let card = read_card(&context.home).ok().and_then(|card| Card::verify(&card).ok());
    if card.is_none_or(|card| board.by_key(&card.key).is_none()) {
        // Nor is there anything to vote with for a member of a recovery board.
        findings.well("this identity is not on the board in force");
        return Ok(());
    }
    if context.home.governor("share.age").exists() {
        findings.well(format!("a share, of key epoch {} if a vote finds it good", board.epoch()));
    } else {
        findings.ill(
            "the share of the key is not here",
            "borgios governor restore lays one back from a backup; borgios governor repair asks the others",
        );
    }
    for lane in Lane::ALL {
        let head = chain.head_seq(lane);
        let mut ready = 0;
        for step in 1..=SLOTS_AHEAD {
            let seq = borgios_types::Seq(head.0 + step);
            let slot = borgios_policy::Slot { epoch: board.epoch(), lane, seq, round: Round(0) };
            match slots.state(slot)? {
                SlotState::Begun(_) => findings.ill(
                    format!("a vote on {lane}/{seq} was cut off"),
                    format!("finish it: `borgios vote {lane}/{seq} …` with the same choice"),
                ),
                SlotState::Fresh | SlotState::Cast(_) => ready += 1,
                SlotState::Absent => {}
            }
        }
        if ready > SLOTS_AHEAD / 2 {
            findings.well(format!("nonces for {ready} further places of lane {lane}"));
        } else {
            findings.ill(
                format!("nonces for only {ready} further places of lane {lane}"),
                "borgios sync: it publishes the next ones",
            );
        }
    }
    for slot in slots.unerased()? {
        findings.ill(
            format!("the seed of {slot} outlived its ballot"),
            "borgios sync: it is erased before anything else",
        );
    }
    Ok(())
}

/// The nodes talked to before.
fn nodes(context: &Context, findings: &mut Findings) -> Result<(), Failure> {
    for node in KnownNodes::load(&context.home)?.nodes() {
        let address = &node.address;
        let reached = address.to_socket_addrs().ok().and_then(|mut all| all.next());
        let reached = reached.map(|to| TcpStream::connect_timeout(&to, REACH_TIMEOUT));
        match reached {
            Some(Ok(_)) => findings.well(format!("{address} answers")),
            Some(Err(error)) => findings
                .ill(format!("{address} does not answer: {error}"), "try another with --node"),
            None => findings
                .ill(format!("{address} has no address"), "is its name known to this computer?"),
        }
    }
    Ok(())
}

/// The agent of this server.
fn agent(context: &Context, findings: &mut Findings) {
    let status = match Socket::at(&context.socket).ask(&json!({"get": "status"})) {
        Ok(status) => status,
        Err(failure) => {
            findings.ill(failure.summary(), "systemctl status borgiosd; journalctl -u borgiosd");
            return;
        }
    };
    findings.well("borgiosd answers");
    if status["tree"]["state"] == "attached" {
        findings.well("it has its place in the tree");
    } else {
        let state = &status["tree"]["state"];
        findings.ill(
            format!("it is not in the tree: {state}"),
            "it keeps trying; can it reach port 7117 of another server? journalctl -u borgiosd",
        );
    }
    if status["keeper"].is_null() {
        findings.ill("the keeper does not answer it", "systemctl status borgios-keeper");
        return;
    }
    findings.well("the keeper answers it");
    if let Some(problem) = status["keeper"]["problem"]["message"].as_str() {
        findings.ill(problem, "journalctl -u borgios-keeper says more");
    }
}
