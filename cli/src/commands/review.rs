//! `borgios review`: what a proposal would change, who said what, and what an approval would do.

use std::collections::BTreeMap;

use borgios_policy::tally::State;
use borgios_policy::{AccessOrder, Lane, Policy, Statement};
use borgios_releases::Manifest;
use borgios_types::{Digest, Round};
use clap::Args;
use serde_json::{Value, json};

use crate::blobs::size_text;
use crate::commands::inbox::state_text;
use crate::context::Context;
use crate::desk::{Desk, OpenVote};
use crate::escrowed;
use crate::failure::{Failure, OrFail as _};
use crate::printer::one_line;
use crate::reviewed::Reviewed;
use crate::subject::Subject;
use crate::wording;

/// What a proposal would change, and what happens if you approve
#[derive(Debug, Args)]
pub(crate) struct Review {
    /// Which: release/2, or the first digits of its id
    #[arg(value_name = "ID")]
    subject: Subject,
    /// The round [default: the newest that is open]
    #[arg(long, value_name = "N")]
    round: Option<u32>,
}

impl Review {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut desk = Desk::look(context)?;
        let (vote, id) = desk.named(&self.subject, self.round.map(Round))?;
        let Some(document) = vote.documents.get(&id) else {
            return Err(Failure::new(format!("the text of {} is not here", self.subject)));
        };
        let statement = &document.statement;
        let place = format!("{}/{}", statement.lane, statement.seq);
        let changes = match statement.lane {
            Lane::Release => release_changes(&desk, statement)?,
            Lane::Policy => policy_changes(&desk, statement)?,
            Lane::Credential => escrowed::review(&mut desk, statement)?,
            Lane::Member => wording::eviction(&desk.servers()?, statement),
            Lane::Access => access_changes(&mut desk, statement)?,
        };
        let obeyed = desk.archive().chain().review(context.now(), &document.to_envelope());
        let mut text = format!(
            "{place}, round {}  {id}\n  issued {}, expires {}\n",
            statement.round, statement.issued, statement.expires
        );
        for held in &document.proposals {
            let note = held.value.note.as_deref().map(|note| format!(": {}", one_line(note)));
            text.push_str(&format!("  proposed by {}{}\n", held.by, note.unwrap_or_default()));
        }
        text.push_str("\nwhat would change\n");
        for line in &changes {
            text.push_str(&format!("  {line}\n"));
        }
        text.push_str("\nwhat was said\n");
        text.push_str(&said(&desk, &vote, &id));
        let consequence = match &obeyed {
            Ok(_) => consequence(&desk, &vote, statement, &id)?,
            Err(refusal) => format!("no node would obey it: {refusal}"),
        };
        text.push_str(&format!("\nif you approve\n  {consequence}\n"));

        let _lock = context.home.lock()?;
        Reviewed::load(&context.home)?.note(&context.home, id, context.now())?;
        let standing = vote.tally.documents.get(&id);
        let answer = json!({
            "place": place, "round": statement.round, "statement": id, "changes": changes,
            "approvals": standing.map(|standing| &standing.approvals),
            "rejections": standing.map(|standing| &standing.rejections),
            "consequence": consequence, "body": statement.body,
            "obeyed": obeyed.as_ref().err().map_or(Value::Bool(true), |refusal| {
                json!({"code": refusal.code(), "message": refusal.to_string()})
            }),
        });
        context.printer.answer(&answer, &text)
    }
}

/// The order in words; for a reveal also where servers would go, which the schedule says.
fn access_changes(desk: &mut Desk<'_>, statement: &Statement) -> Result<Vec<String>, Failure> {
    let mut lines = wording::access(&desk.servers()?, statement);
    if let Ok(AccessOrder::Reveal(order)) = AccessOrder::of(statement) {
        lines.extend(escrowed::review_reveal(desk, &order));
    }
    Ok(lines)
}

/// Component by component, against the release in force. What is new has its whole digest: of two
/// files with the same first digits, the proposer could show one and release the other.
fn release_changes(desk: &Desk<'_>, statement: &Statement) -> Result<Vec<String>, Failure> {
    let new = Manifest::parse(statement).or_fail(|| "the proposal has no good manifest")?;
    let old = desk.archive().chain().head(Lane::Release).map(Manifest::of).transpose();
    let old = old.or_fail(|| "the release in force has no manifest")?;
    let by_name = |manifest: &Manifest| {
        let components = manifest.components.iter();
        components.map(|c| (c.name.clone(), (c.digest, c.size))).collect::<BTreeMap<_, _>>()
    };
    let before = old.as_ref().map(by_name).unwrap_or_default();
    let after = by_name(&new);
    let mut lines = Vec::new();
    match &old {
        None => lines.push(format!("version   {} (the first release)", new.version)),
        Some(old) => lines.push(format!("version   {} → {}", old.version, new.version)),
    }
    for (name, (digest, size)) in &after {
        lines.push(match before.get(name) {
            None => format!("added     {name}  {}\n            {digest}", size_text(*size)),
            Some((was, _)) if was == digest => format!("same      {name}"),
            Some((was, bytes)) => format!(
                "changed   {name}  {} → {}, was {}\n            {digest}",
                size_text(*bytes),
                size_text(*size),
                was.short()
            ),
        });
    }
    for (name, _) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
        lines.push(format!("removed   {name}: it is stopped and unlinked everywhere"));
    }
    let was = old.as_ref().map(|old| old.installer);
    if was != Some(new.installer) {
        let Manifest { installer, .. } = &new;
        lines.push(format!(
            "installer {}: the executable that fresh servers run first\n            {}",
            size_text(installer.size),
            installer.digest
        ));
    }
    if old.as_ref().map(|old| old.floor) != Some(new.floor) {
        lines.push(format!("floor     no node may ever go back below release/{}", new.floor));
    }
    let urls = |manifest: &Manifest| manifest.urls.clone();
    if old.as_ref().map(urls).unwrap_or_default() != new.urls {
        let list =
            if new.urls.is_empty() { "none".to_owned() } else { one_line(&new.urls.join(", ")) };
        lines.push(format!("urls      {list}"));
    }
    if !new.notes.is_empty() {
        lines.push(format!("notes     {}", one_line(&new.notes)));
    }
    Ok(lines)
}

/// Rule by rule, against the policy in force.
fn policy_changes(desk: &Desk<'_>, statement: &Statement) -> Result<Vec<String>, Failure> {
    let new = Policy::parse(&statement.body).or_fail(|| "the proposal has no good policy")?;
    let old = desk.archive().chain().policy().cloned();
    let mut lines = Vec::new();
    let Some(old) = old else { return Ok(vec!["the first policy".to_owned()]) };
    let mut rule = |name: &str, was: String, is: String| {
        lines.push(if was == is {
            format!("same      {name} {is}")
        } else {
            format!("changed   {name} {was} → {is}")
        });
    };
    rule("fanout", old.fanout.to_string(), new.fanout.to_string());
    for lane in Lane::ALL {
        rule(
            &format!("approvals of a {lane}"),
            old.class(lane).approvals.to_string(),
            new.class(lane).approvals.to_string(),
        );
    }
    rule(
        "approvals of a grant that nobody else saw",
        old.offline().approvals.to_string(),
        new.offline().approvals.to_string(),
    );
    rule("witnesses of a grant", old.witnesses().to_string(), new.witnesses().to_string());
    rule("threshold", old.board.threshold().to_string(), new.board.threshold().to_string());
    let names = |policy: &Policy| {
        let names = policy.board.governors().iter().map(|governor| governor.name.to_string());
        names.collect::<Vec<_>>().join(", ")
    };
    rule("governors", names(&old), names(&new));
    rule("group key", old.board.group().fingerprint(), new.board.group().fingerprint());
    for id in new.carried.difference(&old.carried) {
        lines.push(format!("carried   {id} still counts"));
    }
    Ok(lines)
}

fn said(desk: &Desk<'_>, vote: &OpenVote, id: &Digest) -> String {
    let Some(standing) = vote.tally.documents.get(id) else { return "  nothing yet\n".into() };
    let comment = |name: &str| {
        let ballots = desk.archive().ballots().values();
        let mut mine = ballots.filter(|b| b.by == *name && b.value.statement == *id);
        mine.find_map(|ballot| ballot.value.comment.clone())
            .map(|comment| format!(": {}", one_line(&comment)))
            .unwrap_or_default()
    };
    let mut text = String::new();
    for name in &standing.approvals {
        text.push_str(&format!("  {name} approves{}\n", comment(name.as_str())));
    }
    for (name, reason) in &standing.rejections {
        text.push_str(&format!(
            "  {name} rejects: {}{}\n",
            one_line(reason),
            comment(name.as_str())
        ));
    }
    text.push_str(&format!("  {}\n", state_text(&standing.state)));
    text
}

fn consequence(
    desk: &Desk<'_>,
    vote: &OpenVote,
    statement: &Statement,
    id: &Digest,
) -> Result<String, Failure> {
    let (lane, board) = (vote.slot.lane, desk.archive().board()?);
    let policy = desk.archive().chain().policy();
    let needed = policy.map_or(board.threshold().0, |policy| policy.class_of(statement).approvals);
    let state = vote.tally.documents.get(id).map(|standing| (&standing.state, &standing.approvals));
    let effect = match lane {
        Lane::Release => "every node of the network fetches and installs it without asking anybody",
        Lane::Policy => "it becomes the rule for every node and every later statement",
        Lane::Credential => "every node carries the verifiers of this schedule from then on",
        Lane::Member => "every member cuts its links to these nodes and refuses them for good",
        Lane::Access => match AccessOrder::of(statement) {
            Ok(AccessOrder::Revoke(_)) => "these certificates open nothing any more",
            Ok(AccessOrder::Reveal(_)) => "the asker can read the password of every server's root",
            Ok(AccessOrder::Grant(_)) | Err(_) => {
                "the server it names lets the key in as root, in its time"
            }
        },
    };
    let when = match state {
        Some((State::Open { .. } | State::Signed(_), approvals))
            if approvals.len() + 1 >= usize::from(needed) =>
        {
            "your approval is the last one needed:".to_owned()
        }
        Some((State::Dead, _)) => return Ok("nothing: this document is dead".to_owned()),
        Some((_, approvals)) => {
            format!("with yours {} of {needed} approve; when all are there,", approvals.len() + 1)
        }
        None => format!("with yours 1 of {needed} approve; when all are there,"),
    };
    let mut text = format!(
        "{when} {effect}.\n  An approval cannot be taken back: whoever has it can complete \
                the signature at any time."
    );
    if matches!(AccessOrder::of(statement), Ok(AccessOrder::Reveal(_))) {
        text.push_str(&format!("\n  {}", unsigned_reveal(board.threshold().0)));
    }
    Ok(text)
}

/// The shares travel with the ballots, so they are out before the reveal is signed, if it ever is.
fn unsigned_reveal(threshold: u16) -> String {
    let others = match threshold.saturating_sub(1) {
        1 => "1 other who approved".to_owned(),
        others => format!("{others} others who approved"),
    };
    format!(
        "Whoever asked and {others} can read the password as soon as the ballots are out, even \
         if\n  the asker keeps their own ballot back, so that the reveal is never signed and no \
         server moves on\n  by itself. If it stays unsigned after you approved it, vote an \
         advance: `borgios credential advance`."
    )
}
