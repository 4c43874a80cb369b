//! `borgios log`: who decided what, when, with what comments.

use std::collections::BTreeMap;

use borgios_policy::{Choice, Lane, VerifiedStatement};
use borgios_types::{Digest, Round, Seq};
use clap::Args;
use serde_json::{Value, json};

use crate::archive::Archive;
use crate::changes;
use crate::context::Context;
use crate::desk::Desk;
use crate::failure::Failure;
use crate::printer::one_line;
use crate::servers::Servers;
use crate::wording;

/// Who decided what, when, with what comments
#[derive(Debug, Args)]
pub(crate) struct Log {
    /// Only this lane: policy, release, credential, member or access
    lane: Option<Lane>,
}

impl Log {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        // The log is there offline; it is brought up to date only where that was asked for.
        let asked = context.exchange.is_some() || !context.nodes.is_empty();
        let archive =
            if asked { Desk::look(context)?.into_archive() } else { context.archive()? };
        let network = context.membership()?.network;
        let servers = Servers::load(&context.home, &archive, network)?;
        let mut answer: Vec<Value> = Vec::new();
        let mut text = String::new();
        for verified in archive.chain().history() {
            if self.lane.is_some_and(|lane| lane != verified.statement().lane) {
                continue;
            }
            answer.push(row(&archive, &servers, verified));
            text.push_str(&describe(&archive, &servers, verified));
        }
        let policies = self.lane.is_none_or(|lane| lane == Lane::Policy);
        for waiting in archive.recoveries().waiting().filter(|_| policies) {
            let seq = waiting.statement().seq;
            answer.push(json!({
                "recovery_waits": format!("policy/{seq}"), "id": waiting.id(),
                "summary": policy_words(&archive, waiting),
                "ballots": ballots(&voices(&archive, waiting.id())),
            }));
            text.push_str(&format!(
                "policy/{seq} waits  {}  signed by the recovery key and by the board that it makes; servers \
                 take it after silence and a lock, and any sign of life of the board in force ends it\n{}",
                waiting.id(),
                spoken(&voices(&archive, waiting.id()))
            ));
        }
        for lane in Lane::ALL.into_iter().filter(|lane| self.lane.is_none_or(|only| only == *lane))
        {
            for fallen in fallen(&archive, lane) {
                let voices = voices(&archive, fallen.statement);
                answer.push(json!({
                    // Not `place`: programs look there for what is signed.
                    "not_signed": fallen.place, "round": fallen.round, "id": fallen.statement,
                    "proposed_by": fallen.by, "ballots": ballots(&voices),
                    "summary": fallen.why,
                }));
                text.push_str(&format!(
                    "{} round {}  {}  {}\n  proposed by {}\n{}",
                    fallen.place,
                    fallen.round,
                    fallen.statement.short(),
                    fallen.why,
                    fallen.by.join(" and "),
                    spoken(&voices)
                ));
            }
        }
        if self.lane.is_none() {
            for held in archive.notes().values() {
                let (by, note) = (&held.by, &held.value);
                answer.push(json!({"note": note.text, "by": by, "at": note.at}));
                text.push_str(&format!("note  {}  {by}: {}\n", note.at, one_line(&note.text)));
            }
        }
        for held in archive.objections().values() {
            let (by, said) = (&held.by, &held.value);
            if self.lane.is_some_and(|lane| lane != said.lane) {
                continue;
            }
            let kind = held.envelope.kind.as_str();
            let place = format!("{}/{}", said.lane, said.seq);
            let dead = archive.is_dead(&said.statement);
            answer.push(json!({
                kind: place, "statement": said.statement, "by": by, "at": said.at,
                "reason": said.reason, "dead": dead,
            }));
            let dead = if dead { "  (enough: it is dead where it was not applied)" } else { "" };
            text.push_str(&format!(
                "{kind}  {}  {by} on {place} {}: {}{dead}\n",
                said.at,
                said.statement.short(),
                one_line(&said.reason)
            ));
        }
        context.printer.answer(&answer, &text)
    }
}

/// A ballot on a statement, for one line of the log.
struct Voice {
    name: String,
    approves: bool,
    words: Vec<String>,
}

fn voices(archive: &Archive, statement: Digest) -> Vec<Voice> {
    // A change of the board is voted on by two boards: the one in force and the one it makes.
    let chain = archive.chain();
    let place = chain.known(&statement).and_then(|(lane, seq)| chain.get(lane, seq));
    let mut waiting = archive.recoveries().waiting();
    let place = place.or_else(|| waiting.find(|one| one.id() == statement));
    let under = place.and_then(|verified| chain.policy_at(verified.statement().policy?));
    let group = under.map(|policy| policy.board.group());
    let on_it = archive.ballots().values().filter(|held| held.value.statement == statement);
    let mut voices: Vec<Voice> = on_it
        .map(|held| {
            let reason = match &held.value.choice {
                Choice::Reject { reason } => Some(reason.clone()),
                Choice::Approve { .. } | Choice::Commit { .. } => None,
            };
            let mut papers = archive.recoveries().papers();
            let recovers = papers.any(|paper| paper.board().group() == held.value.group);
            let for_new = group.is_some_and(|group| group != held.value.group);
            let for_new = match (recovers, for_new) {
                (true, _) => Some("for the recovery board".to_owned()),
                (false, true) => Some("for the new board".to_owned()),
                (false, false) => None,
            };
            let words = for_new.into_iter().chain(reason).chain(held.value.comment.clone());
            Voice {
                name: held.by.to_string(),
                approves: held.value.approves(),
                words: words.collect(),
            }
        })
        .collect();
    voices.sort_by(|one, other| one.name.cmp(&other.name));
    voices
}

/// What a policy changed against the one before it, in words.
fn policy_words(archive: &Archive, verified: &VerifiedStatement) -> Option<String> {
    let statement = verified.statement();
    if statement.lane != Lane::Policy {
        return None;
    }
    let before = statement.seq.0.checked_sub(1).map(Seq);
    let before = before.and_then(|seq| archive.chain().get(Lane::Policy, seq));
    let before = before.map(|verified| &verified.statement().body);
    Some(changes::policy::summary(before, &statement.body))
}

/// A proposal that did not become what it was for: dead, or left behind by another.
struct Fallen {
    place: String,
    statement: Digest,
    round: Round,
    by: Vec<String>,
    why: &'static str,
}

/// Every proposal for a place up to `lane`'s head, and every dead one, that was not signed.
fn fallen(archive: &Archive, lane: Lane) -> Vec<Fallen> {
    let mut fallen: BTreeMap<(Seq, Round, Digest), Fallen> = BTreeMap::new();
    for held in archive.proposals().values() {
        let id = held.value.statement_id();
        let Ok(statement) = held.value.parse_statement() else { continue };
        if statement.lane != lane || archive.chain().known(&id).is_some() {
            continue;
        }
        let decided = statement.seq <= archive.chain().head_seq(lane);
        let voices = || archive.ballots().values().filter(|held| held.value.statement == id);
        let rejected = voices().filter(|held| !held.value.approves()).count();
        if !decided && rejected == 0 {
            continue;
        }
        let why = match (decided, rejected > 0) {
            (true, true) => "was rejected; another document has its place",
            (true, false) => "was left behind: another document has its place",
            (false, _) => "has been rejected by some; the place is open",
        };
        let entry = fallen.entry((statement.seq, statement.round, id)).or_insert_with(|| Fallen {
            place: format!("{}/{}", statement.lane, statement.seq),
            statement: id,
            round: statement.round,
            by: Vec::new(),
            why,
        });
        entry.by.push(held.by.to_string());
    }
    fallen.into_values().collect()
}

fn row(archive: &Archive, servers: &Servers, verified: &VerifiedStatement) -> Value {
    let statement = verified.statement();
    let ballots = ballots(&voices(archive, verified.id()));
    json!({
        "place": format!("{}/{}", statement.lane, statement.seq), "round": statement.round,
        "id": verified.id(), "issued": statement.issued, "expires": statement.expires,
        "policy": statement.policy, "body": statement.body, "ballots": ballots, "signed": true,
        "recovery": verified.is_recovered(),
        "summary": wording::summary(servers, statement).or_else(|| policy_words(archive, verified)),
        "proposed_by": proposers(archive, verified.id()),
    })
}

fn describe(archive: &Archive, servers: &Servers, verified: &VerifiedStatement) -> String {
    let statement = verified.statement();
    let version = statement.body.get("version").and_then(Value::as_str);
    let version = version.map(|version| format!("  version {}", one_line(version)));
    let mut text = format!(
        "{}/{}  {}  {}{}\n",
        statement.lane,
        statement.seq,
        statement.issued,
        verified.id().short(),
        version.unwrap_or_default()
    );
    for (name, note) in proposed(archive, verified.id()) {
        text.push_str(&format!("  proposed by {name}{note}\n"));
    }
    let words = wording::summary(servers, statement).or_else(|| policy_words(archive, verified));
    if let Some(words) = words {
        text.push_str(&format!("  {words}\n"));
    }
    if verified.is_recovered() {
        text.push_str(
            "  signed by the RECOVERY key in the place of the board, which had long been silent, and by \
             the board that it makes\n",
        );
    }
    text.push_str(&spoken(&voices(archive, verified.id())));
    text
}

/// Who proposed a statement, and with what note.
fn proposed(archive: &Archive, statement: Digest) -> Vec<(String, String)> {
    let mut by: BTreeMap<String, String> = BTreeMap::new();
    let of_it = archive.proposals().values().filter(|held| held.value.statement_id() == statement);
    for held in of_it {
        let note = held.value.note.as_deref().map(|note| format!(": {}", one_line(note)));
        by.entry(held.by.to_string()).or_insert_with(|| note.unwrap_or_default());
    }
    by.into_iter().collect()
}

fn proposers(archive: &Archive, statement: Digest) -> Vec<String> {
    proposed(archive, statement).into_iter().map(|(name, _)| name).collect()
}

fn ballots(voices: &[Voice]) -> Vec<Value> {
    let each = voices.iter().map(|voice| {
        let choice = if voice.approves { "approve" } else { "reject" };
        json!({"governor": voice.name, "choice": choice, "words": voice.words})
    });
    each.collect()
}

fn spoken(voices: &[Voice]) -> String {
    let each = voices.iter().map(|voice| {
        let verb = if voice.approves { "approved" } else { "rejected" };
        let words = voice.words.iter().map(|words| format!(": {}", one_line(words)));
        format!("  {verb} by {}{}\n", voice.name, words.collect::<String>())
    });
    each.collect()
}
