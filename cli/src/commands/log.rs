//! `borgios log`: who decided what, when, with what comments; and what was not decided. One story, told
//! in the order of time: what was left behind stands where it was proposed.

use std::collections::{BTreeMap, BTreeSet};

use borgios_policy::{
    Ballot, Burn, Choice, Lane, Object as _, Policy, Settled, Statement, VerifiedStatement,
};
use borgios_types::{Digest, Round, Seq, UnixSeconds};
use clap::Args;
use serde_json::{Value, json};

use crate::archive::{Archive, Held, is_veto};
use crate::changes;
use crate::changes::board::Shift;
use crate::context::Context;
use crate::desk::Desk;
use crate::failure::Failure;
use crate::objections;
use crate::printer::one_line;
use crate::servers::Servers;
use crate::wording;

/// Who decided what, when, with what comments
#[derive(Debug, Args)]
pub(crate) struct Log {
    /// Only this lane: policy, release, credential, member or access
    lane: Option<Lane>,
}

/// The log as far as it is written: when, for programs, for people.
#[derive(Default)]
struct Written {
    entries: Vec<(UnixSeconds, Value, String)>,
}

impl Written {
    fn add(&mut self, at: UnixSeconds, row: Value, text: String) {
        self.entries.push((at, row, text));
    }

    /// What comes after the last entry whatever its own clock says: statements that build upon each
    /// other stay in their order.
    fn follow(&mut self, at: UnixSeconds, row: Value, text: String) {
        let last = self.entries.last().map_or(at, |(last, ..)| at.max(*last));
        self.add(last, row, text);
    }

    fn in_time(mut self) -> (Vec<Value>, String) {
        self.entries.sort_by_key(|(at, ..)| *at);
        self.entries.into_iter().map(|(_, row, text)| (row, text)).unzip()
    }
}

impl Log {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        // The log is there offline; it is brought up to date only where that was asked for.
        let asked = context.exchange.is_some() || !context.nodes.is_empty();
        let archive =
            if asked { Desk::look(context)?.into_archive() } else { context.archive()? };
        let network = context.membership()?.network;
        let servers = Servers::load(&context.home, &archive, network, context.now())?;
        let mut log = Written::default();
        let wanted = |lane: Lane| self.lane.is_none_or(|only| only == lane);
        for verified in archive.chain().history().filter(|v| wanted(v.statement().lane)) {
            let text = describe(&archive, &servers, verified);
            log.follow(verified.statement().issued, row(&archive, &servers, verified), text);
        }
        for waiting in archive.recoveries().waiting().filter(|_| wanted(Lane::Policy)) {
            waits(&archive, waiting, &mut log);
        }
        for verified in archive.chain().overruled().filter(|v| wanted(v.statement().lane)) {
            overruled(&archive, verified, &mut log);
        }
        for (statement, id) in archive.dead_statements()? {
            if wanted(statement.lane) {
                vetoed(&archive, &servers, &statement, id, &mut log);
            }
        }
        for lane in Lane::ALL.into_iter().filter(|lane| wanted(*lane)) {
            for one in fallen(&archive, lane) {
                one.tell(&archive, &mut log);
            }
        }
        if self.lane.is_none() {
            said(&archive, &mut log);
        }
        let heard =
            archive.objections().values().filter(|held| objections::is_heard(&archive, held));
        for held in heard.filter(|held| wanted(held.value.lane)) {
            let (by, said) = (&held.by, &held.value);
            let kind = held.envelope.kind.as_str();
            let place = format!("{}/{}", said.lane, said.seq);
            let dead = archive.is_dead(&said.statement);
            let row = json!({
                kind: place, "statement": said.statement, "by": by, "at": said.at,
                "reason": said.reason, "dead": dead,
            });
            let dead = if dead { "  (enough: it is dead where it was not applied)" } else { "" };
            let text = format!(
                "{kind}  {}  {by} on {place} {}: {}{dead}\n",
                said.at,
                said.statement.short(),
                one_line(&said.reason)
            );
            log.add(said.at, row, text);
        }
        let (rows, text) = log.in_time();
        context.printer.answer(&rows, &text)
    }
}

/// Notes, and laptops that came back.
fn said(archive: &Archive, log: &mut Written) {
    for held in archive.notes().values().filter(|held| archive.is_seated(held)) {
        let (by, note) = (&held.by, &held.value);
        let text = format!("note  {}  {by}: {}\n", note.at, one_line(&note.text));
        log.add(note.at, json!({"note": note.text, "by": by, "at": note.at}), text);
    }
    let mut burns: Vec<Burn> =
        archive.burns().iter().filter_map(|envelope| Burn::parse(envelope).ok()).collect();
    burns.sort_by(|one, other| (one.at, &one.governor).cmp(&(other.at, &other.governor)));
    for Burn { governor, generation, at, .. } in burns {
        let text = format!(
            "burn  {at}  {governor} goes on from a backup or another copy of the folder: nonces \
             published before are void, ballots cast before stand\n"
        );
        log.add(at, json!({"burn": governor, "generation": generation, "at": at}), text);
    }
}

/// A ballot on a statement, for one line of the log.
pub(crate) struct Voice {
    name: String,
    approves: bool,
    /// Whether it was cast for the board that the statement makes.
    for_new: bool,
    /// Whether it was cast for the recovery board.
    recovers: bool,
    /// The key epoch of the board it was cast for.
    epoch: Option<u32>,
    words: Vec<String>,
}

/// The ballots on a statement: first those of the board that was to sign it.
pub(crate) fn voices(archive: &Archive, statement: &Statement, id: Digest) -> Vec<Voice> {
    // A change of the board is voted on by two boards: the one in force and the one it makes.
    let under = statement.policy.and_then(|seq| archive.chain().policy_at(seq));
    let group = under.map(|policy| policy.board.group());
    let papers = || archive.recoveries().papers().map(|paper| paper.board());
    let boards = || archive.boards().chain(archive.candidates()).chain(papers());
    let on_it = archive.ballots().values().filter(|held| held.value.statement == id);
    // A board that somebody else only proposed may give honest names to keys of its own.
    let makes = match statement.lane {
        Lane::Policy => Policy::parse(&statement.body).ok().map(|policy| policy.board.group()),
        Lane::Release | Lane::Credential | Lane::Member | Lane::Access => None,
    };
    let may = |held: &&Held<Ballot>| {
        let of = held.value.group;
        group.is_none_or(|group| group == of)
            || makes == Some(of)
            || papers().any(|board| board.group() == of)
    };
    let mut voices: Vec<Voice> = on_it
        .filter(may)
        .map(|held| {
            let reason = match &held.value.choice {
                Choice::Reject { reason } => Some(reason.clone()),
                Choice::Approve { .. } | Choice::Commit { .. } => None,
            };
            let recovers = papers().any(|board| board.group() == held.value.group);
            let board = boards().find(|board| board.group() == held.value.group);
            Voice {
                name: held.by.to_string(),
                approves: held.value.approves(),
                for_new: !recovers && group.is_some_and(|group| group != held.value.group),
                recovers,
                epoch: board.map(|board| board.epoch().0),
                words: reason.into_iter().chain(held.value.comment.clone()).collect(),
            }
        })
        .collect();
    voices.sort_by(|one, other| (one.for_new, &one.name).cmp(&(other.for_new, &other.name)));
    voices
}

/// The policy before this one; none for another lane and for policy/1.
fn before<'a>(archive: &'a Archive, statement: &Statement) -> Option<&'a Value> {
    let seq = statement.seq.0.checked_sub(1).map(Seq)?;
    let before = archive.chain().get(Lane::Policy, seq)?;
    (statement.lane == Lane::Policy).then_some(&before.statement().body)
}

/// What a statement orders, line by line; nothing of a release, whose version stands beside it.
fn words(archive: &Archive, servers: &Servers, statement: &Statement) -> Vec<String> {
    match wording::summary(servers, statement) {
        Some(line) => vec![line],
        None if statement.lane == Lane::Policy => {
            changes::policy::summary(archive.chain(), before(archive, statement), &statement.body)
        }
        None => Vec::new(),
    }
}

/// A proposal that did not become what it was for: dead, or left behind by another.
struct Fallen {
    statement: Statement,
    id: Digest,
    by: Vec<String>,
    why: String,
}

impl Fallen {
    fn tell(&self, archive: &Archive, log: &mut Written) {
        let Self { statement, id, by, why } = self;
        let voices = voices(archive, statement, *id);
        // Not `place`: programs look there for what is signed.
        let row = json!({
            "not_signed": place(statement), "round": statement.round, "id": id, "issued": statement.issued,
            "proposed_by": by, "ballots": ballots(&voices), "summary": why,
        });
        let text = format!(
            "{}  {}  {}{}  {why}\n{}{}",
            vote(statement),
            statement.issued,
            id.short(),
            version(statement),
            by_whom(archive, *id),
            spoken(&voices)
        );
        log.add(statement.issued, row, text);
    }
}

/// Every proposal for a place up to `lane`'s head, and every dead one, that was not signed.
fn fallen(archive: &Archive, lane: Lane) -> Vec<Fallen> {
    let chain = archive.chain();
    let signed = |id: &Digest| {
        chain.known(id).is_some()
            || archive.is_dead(id)
            || chain.overruled().any(|verified| verified.id() == *id)
    };
    let mut fallen: BTreeMap<(Seq, Round, Digest), Fallen> = BTreeMap::new();
    for held in archive.proposals().values() {
        let id = held.value.statement_id();
        let Ok(statement) = held.value.parse_statement() else { continue };
        if statement.lane != lane || signed(&id) {
            continue;
        }
        let decided = statement.seq <= chain.head_seq(lane);
        let voices = || archive.ballots().values().filter(|held| held.value.statement == id);
        let rejected = voices().any(|held| !held.value.approves());
        if !decided && !rejected {
            continue;
        }
        let closed = chain.settled(lane, statement.seq).filter(|settled| settled.winner.is_none());
        let why = match (closed, decided, rejected) {
            // Whoever had not heard of the policy may have completed it, and servers may have run it.
            (Some(Settled { policy, .. }), ..) if enough(archive, &statement, id) => {
                format!("counts nowhere: enough approved it, but policy/{policy} closed its place")
            }
            (Some(Settled { policy, .. }), ..) => {
                format!("not signed: policy/{policy} closed its place while it was voted on")
            }
            (None, true, true) => {
                "not signed: it was rejected; another document has its place".to_owned()
            }
            (None, true, false) => {
                "not signed: it was left behind: another document has its place".to_owned()
            }
            (None, false, _) => {
                "not signed: it has been rejected by some; the place is open".to_owned()
            }
        };
        let key = (statement.seq, statement.round, id);
        let entry =
            fallen.entry(key).or_insert_with(|| Fallen { statement, id, by: Vec::new(), why });
        entry.by.push(held.by.to_string());
    }
    fallen.into_values().collect()
}

/// Whether as many of the board that was to sign a document approved it as sign together.
fn enough(archive: &Archive, statement: &Statement, id: Digest) -> bool {
    let under = statement.policy.and_then(|seq| archive.chain().policy_at(seq));
    under.is_some_and(|policy| {
        let (board, ballots) = (&policy.board, archive.ballots().values());
        let of_it = ballots.filter(|held| {
            held.value.statement == id && held.value.group == board.group() && held.value.approves()
        });
        let by: BTreeSet<_> = of_it.map(|held| &held.by).collect();
        by.len() >= usize::from(board.threshold().0)
    })
}

/// What the recovery key signed, which servers do not take yet.
fn waits(archive: &Archive, verified: &VerifiedStatement, log: &mut Written) {
    let (statement, id) = (verified.statement(), verified.id());
    let voices = voices(archive, statement, id);
    let before = before(archive, statement);
    let summary = changes::policy::summary(archive.chain(), before, &statement.body);
    let row = json!({
        "recovery_waits": place(statement), "id": id, "summary": summary.join("; "),
        "ballots": ballots(&voices),
    });
    let text = format!(
        "{} waits  {id}  signed by the recovery key and by the board that it makes; servers \
         take it after silence and a lock, and any sign of life of the board in force ends it\n{}",
        place(statement),
        spoken(&voices)
    );
    log.add(statement.issued, row, text);
}

/// What was signed, and taken back by vetoes while servers held it back.
fn vetoed(
    archive: &Archive,
    servers: &Servers,
    statement: &Statement,
    id: Digest,
    log: &mut Written,
) {
    let voices = voices(archive, statement, id);
    let said = objections::to(archive, id).into_iter();
    let by: BTreeSet<&str> = said
        .filter(|held| is_veto(held) && held.value.seq == statement.seq)
        .map(|held| held.by.as_str())
        .collect();
    let words = words(archive, servers, statement);
    let row = json!({
        "vetoed": place(statement), "round": statement.round, "id": id, "issued": statement.issued,
        "by": by, "summary": (!words.is_empty()).then(|| words.join("; ")),
        "ballots": ballots(&voices), "proposed_by": proposers(archive, id),
    });
    let mut text = format!(
        "{}  {}  {}{}  signed, and taken back by the vetoes of {}: dead wherever it was not applied before\n",
        vote(statement),
        statement.issued,
        id.short(),
        version(statement),
        by.into_iter().collect::<Vec<_>>().join(", ")
    );
    text.push_str(&by_whom(archive, id));
    for line in words {
        text.push_str(&format!("  {line}\n"));
    }
    text.push_str(&spoken(&voices));
    log.add(statement.issued, row, text);
}

/// What was signed and applied here, and lost its effect by a ruling.
fn overruled(archive: &Archive, verified: &VerifiedStatement, log: &mut Written) {
    let (statement, id) = (verified.statement(), verified.id());
    let voices = voices(archive, statement, id);
    // The ruling may be on an earlier place that it was built upon.
    let chain = archive.chain();
    let places = (1..=statement.seq.0).rev().map(Seq);
    let by = places.into_iter().find_map(|seq| chain.settled(statement.lane, seq));
    let by = by.map(|settled| format!("policy/{}", settled.policy));
    let row = json!({
        "overruled": place(statement), "round": statement.round, "id": id,
        "issued": statement.issued, "by": by, "ballots": ballots(&voices),
        "proposed_by": proposers(archive, id),
    });
    let mut text = format!(
        "{}  {}  {}{}  signed, and taken back by {}: it counts nowhere\n",
        vote(statement),
        statement.issued,
        id.short(),
        version(statement),
        by.as_deref().unwrap_or("a policy")
    );
    text.push_str(&by_whom(archive, id));
    text.push_str(&spoken(&voices));
    log.add(statement.issued, row, text);
}

fn row(archive: &Archive, servers: &Servers, verified: &VerifiedStatement) -> Value {
    let statement = verified.statement();
    let ballots = ballots(&voices(archive, statement, verified.id()));
    let words = words(archive, servers, statement);
    let shift = before(archive, statement).and_then(|old| Shift::between(old, &statement.body));
    json!({
        "place": place(statement), "round": statement.round,
        "id": verified.id(), "issued": statement.issued, "expires": statement.expires,
        "policy": statement.policy, "body": statement.body, "ballots": ballots, "signed": true,
        "recovery": verified.is_recovered(),
        "summary": (!words.is_empty()).then(|| words.join("; ")),
        "board": shift.as_ref().map(Shift::to_json),
        "proposed_by": proposers(archive, verified.id()),
    })
}

fn describe(archive: &Archive, servers: &Servers, verified: &VerifiedStatement) -> String {
    let (statement, id) = (verified.statement(), verified.id());
    let mut text = format!(
        "{}  {}  {}{}\n",
        vote(statement),
        statement.issued,
        id.short(),
        version(statement)
    );
    text.push_str(&by_whom(archive, id));
    for line in words(archive, servers, statement) {
        text.push_str(&format!("  {line}\n"));
    }
    if verified.is_recovered() {
        text.push_str(
            "  signed by the RECOVERY key in the place of the board, which had long been silent, and by \
             the board that it makes\n",
        );
    }
    text.push_str(&spoken(&voices(archive, statement, id)));
    text
}

fn place(statement: &Statement) -> String {
    format!("{}/{}", statement.lane, statement.seq)
}

/// The place, and which vote on it: a first one is what everybody thinks of.
fn vote(statement: &Statement) -> String {
    match statement.round {
        Round(0) => place(statement),
        round => format!("{} round {round}", place(statement)),
    }
}

fn version(statement: &Statement) -> String {
    let version = statement.body.get("version").and_then(Value::as_str);
    version.map(|version| format!("  version {}", one_line(version))).unwrap_or_default()
}

/// Who proposed a statement, and with what note.
fn proposed(archive: &Archive, statement: Digest) -> Vec<(String, String)> {
    let mut by: BTreeMap<String, String> = BTreeMap::new();
    let of_it = archive.proposals().values().filter(|held| held.value.statement_id() == statement);
    for held in of_it {
        let note = held.value.note.as_deref().map(|note| format!(": {}", one_line(note)));
        by.entry(archive.made_by(held)).or_insert_with(|| note.unwrap_or_default());
    }
    by.into_iter().collect()
}

pub(crate) fn by_whom(archive: &Archive, statement: Digest) -> String {
    let each = proposed(archive, statement).into_iter();
    each.map(|(name, note)| format!("  proposed by {name}{note}\n")).collect()
}

pub(crate) fn proposers(archive: &Archive, statement: Digest) -> Vec<String> {
    proposed(archive, statement).into_iter().map(|(name, _)| name).collect()
}

pub(crate) fn ballots(voices: &[Voice]) -> Vec<Value> {
    let each = voices.iter().map(|voice| {
        let choice = if voice.approves { "approve" } else { "reject" };
        json!({
            "governor": voice.name, "choice": choice, "epoch": voice.epoch,
            "for_new_board": voice.for_new, "for_recovery_board": voice.recovers,
            "words": voice.words,
        })
    });
    each.collect()
}

pub(crate) fn spoken(voices: &[Voice]) -> String {
    let each = voices.iter().map(|voice| {
        let verb = if voice.approves { "approved" } else { "rejected" };
        let of = match (voice.recovers, voice.for_new) {
            (true, _) => " for the recovery board",
            (false, true) => " for the new board",
            (false, false) => "",
        };
        let words = voice.words.iter().map(|words| format!(": {}", one_line(words)));
        format!("  {verb} by {}{of}{}\n", voice.name, words.collect::<String>())
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_stands_in_the_order_of_time_and_statements_in_their_own() {
        let mut log = Written::default();
        // The clock of whoever proposed the third was slow.
        for (at, name) in [(10, "policy/1"), (40, "policy/2"), (35, "release/3")] {
            log.follow(UnixSeconds(at), json!(name), format!("{name}\n"));
        }
        for (at, name) in [(20, "release/2"), (30, "burn"), (50, "note")] {
            log.add(UnixSeconds(at), json!(name), format!("{name}\n"));
        }
        let (rows, text) = log.in_time();
        assert_eq!(text, "policy/1\nrelease/2\nburn\npolicy/2\nrelease/3\nnote\n");
        assert_eq!(rows[1], "release/2");
    }
}
