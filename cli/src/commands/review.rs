//! `borgios review`: what a proposal would change, who said what, and what an approval would do.

use std::path::PathBuf;

use borgios_policy::tally::State;
use borgios_policy::{AccessOrder, Ballot, Lane, Policy, RecoveryBoard, Statement};
use borgios_types::{Digest, Round};
use clap::Args;
use serde_json::{Value, json};

use crate::archive::Held;
use crate::blobs;
use crate::changes;
use crate::changes::release::Given;
use crate::commands::inbox::{self, state_text};
use crate::commands::review_signed;
use crate::context::Context;
use crate::deadlines::{self, Dates};
use crate::desk::{Desk, OpenVote};
use crate::escrowed;
use crate::failure::Failure;
use crate::notices::{self, Notice};
use crate::printer::one_line;
use crate::recovery;
use crate::reviewed::Reviewed;
use crate::rivalry;
use crate::rulings;
use crate::signed;
use crate::span;
use crate::subject::Subject;
use crate::succession::UnderWay;
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
    /// A component's file, to look into it where no folder or node has it; again for each
    #[arg(long = "component", value_name = "FILE")]
    components: Vec<PathBuf>,
}

impl Review {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let begun = context.now();
        let mut desk = Desk::look(context)?;
        let round = self.round.map(Round);
        // What is signed takes no ballot, but a veto, and nobody shall object unseen.
        let (vote, id) = match desk.find(&self.subject, round)? {
            Some((vote, id)) if !desk.archive().is_dead(&id) => (vote, id),
            found => {
                let subject = match found {
                    Some((_, id)) => Subject::Id(id.hex()),
                    None => self.subject.clone(),
                };
                let Some(signed) = signed::named(&desk, &subject, round)? else {
                    return Err(desk.nothing_named(&subject));
                };
                return review_signed::run(context, &mut desk, &signed, &self.given()?);
            }
        };
        let Some(document) = vote.documents.get(&id) else {
            return Err(Failure::new(format!("the text of {} is not here", self.subject)));
        };
        let statement = &document.statement;
        let place = format!("{}/{}", statement.lane, statement.seq);
        let mut changes = changes(&mut desk, statement, &self.given()?)?;
        if let (Lane::Policy, Ok(policy)) = (statement.lane, Policy::parse(&statement.body)) {
            changes.extend(changes::policy::taken_back(desk.archive().chain(), &policy));
            changes.extend(rulings::burns(&desk, &policy)?);
        }
        if statement.lane == Lane::Policy {
            changes.extend(recovery::words(&desk, &vote, statement));
        }
        let obeyed = desk.archive().chain().review(context.now(), &document.to_envelope());
        let mut text = format!(
            "{place}, round {}  {id}\n  issued {}, expires {}\n",
            statement.round, statement.issued, statement.expires
        );
        for held in &document.proposals {
            let note = held.value.note.as_deref().map(|note| format!(": {}", one_line(note)));
            let by = desk.archive().made_by(held);
            text.push_str(&format!("  proposed by {by}{}\n", note.unwrap_or_default()));
        }
        text.push_str("\nwhat would change\n");
        for line in &changes {
            text.push_str(&format!("  {line}\n"));
        }
        text.push_str("\nwhat was said\n");
        text.push_str(&said(&desk, &vote, &id)?);
        let consequence = match &obeyed {
            Ok(_) if vote.recovery => recovery::consequence(&desk, &vote, &id)?,
            Ok(_) => consequence(&desk, &vote, statement, &id)?,
            Err(refusal) => format!("no node would obey it: {refusal}"),
        };
        let mut terms = match vote.recovery {
            true => recovery::terms(&desk, statement),
            false => terms(&desk, statement),
        };
        let dates = Dates::of(desk.archive().chain(), statement, id, vote.recovery);
        if !vote.recovery {
            terms.extend(dates.terms(context.now()));
        }
        let (of_this, others): (Vec<_>, Vec<_>) =
            deadlines::reminders(&desk)?.into_iter().partition(|reminder| reminder.names(&id));
        if !of_this.is_empty() {
            terms.push("It waits for your ballot.".to_owned());
        }
        if statement.lane != Lane::Policy
            && let Some(change) = UnderWay::of(&desk)?
        {
            terms.push(change.warning(statement.lane, statement.seq));
        }
        let notices = notices::before(&desk, &vote, &id)?;
        if !notices.is_empty() {
            text.push_str("\nbefore you vote\n");
        }
        for notice in &notices {
            text.push_str(&format!("  {}\n", notice.line()));
        }
        text.push_str(&format!("\nif you approve\n  {consequence}\n"));
        for line in &terms {
            text.push_str(&format!("  {line}\n"));
        }
        if !others.is_empty() {
            text.push_str("\nbeside it\n");
        }
        for reminder in &others {
            text.push_str(&format!("  {}\n", reminder.line(context.now())));
        }

        // What is here by now and was not read above was not shown.
        let shown = rivalry::proposers(&rivalry::rivals(&desk, &vote), id);
        let _lock = context.lock()?;
        Reviewed::load(&context.home)?.note(&context.home, id, begun, shown)?;
        let standing = vote.tally.documents.get(&id);
        let beside: Vec<Value> = others.iter().map(|one| one.to_json(context.now())).collect();
        let answer = json!({
            "dates": dates.to_json(context.now()), "waits_for_you": !of_this.is_empty(),
            "beside": beside,
            "notices": notices.iter().map(Notice::to_json).collect::<Vec<_>>(),
            "place": place, "round": statement.round, "statement": id, "signed": false,
            "changes": changes,
            "approvals": standing.map(|standing| &standing.approvals),
            "rejections": standing.map(|standing| &standing.rejections),
            "consequence": consequence, "terms": terms, "body": statement.body,
            "expires": statement.expires,
            "obeyed": obeyed.as_ref().err().map_or(Value::Bool(true), |refusal| {
                json!({"code": refusal.code(), "message": refusal.to_string()})
            }),
        });
        context.printer.answer(&answer, &text)
    }
}

impl Review {
    /// The files given, by what is in them.
    fn given(&self) -> Result<Given, Failure> {
        let each = self.components.iter().map(|path| {
            let bytes = blobs::read(path)?;
            Ok((Digest::of(&bytes), bytes))
        });
        each.collect()
    }
}

/// What a statement changes against the one before it in its lane.
pub(crate) fn changes(
    desk: &mut Desk<'_>,
    statement: &Statement,
    given: &Given,
) -> Result<Vec<String>, Failure> {
    match statement.lane {
        Lane::Release => changes::release::changes(desk, statement, given),
        Lane::Policy => {
            let before = signed::before(desk, statement).map(|before| &before.statement().body);
            Ok(changes::policy::changes(before, &statement.body))
        }
        Lane::Credential => escrowed::review(desk, statement),
        Lane::Member => Ok(wording::eviction(&desk.servers()?, statement)),
        Lane::Access => access_changes(desk, statement),
    }
}

/// The order in words; for a reveal also where servers would go, which the schedule says.
fn access_changes(desk: &mut Desk<'_>, statement: &Statement) -> Result<Vec<String>, Failure> {
    let mut lines = wording::access(&desk.servers()?, statement);
    match AccessOrder::of(statement) {
        Ok(AccessOrder::Reveal(order)) => lines.extend(escrowed::review_reveal(desk, &order)),
        Ok(AccessOrder::Revoke(order)) => {
            lines.extend(wording::no_grants(desk.archive().chain(), statement, &order));
        }
        Ok(AccessOrder::Grant(_)) | Err(_) => {}
    }
    Ok(lines)
}

fn said(desk: &Desk<'_>, vote: &OpenVote, id: &Digest) -> Result<String, Failure> {
    let Some(standing) = vote.tally.documents.get(id) else {
        return Ok("  nothing yet\n".to_owned());
    };
    let archive = desk.archive();
    let recoverers = archive.recovery_board().map(RecoveryBoard::board);
    let board = if vote.recovery { recoverers } else { archive.board().ok() };
    let comment = |name: &str| {
        // A board that is only proposed may have others under honest names.
        let votes = |b: &&Held<Ballot>| {
            let seat = board.filter(|board| board.group() == b.value.group);
            let seat = seat.and_then(|board| board.by_name(&b.by));
            seat.is_some_and(|seat| seat.signed_ballot(&b.envelope))
        };
        let ballots = archive.ballots().values().filter(votes);
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
    text.push_str(&format!("  {}\n", state_text(standing, inbox::needed(desk, vote, id)?)));
    Ok(text)
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

/// What the class of a statement adds: lock, vetoes and rebuilds.
fn terms(desk: &Desk<'_>, statement: &Statement) -> Vec<String> {
    let policy = desk.archive().chain().head(Lane::Policy).map(|policy| policy.statement());
    let class = match statement.body.get("class").and_then(Value::as_str) {
        Some("emergency") if statement.lane == Lane::Release => "emergency",
        _ => statement.lane.as_str(),
    };
    let class = policy.and_then(|policy| policy.body.get("classes")?.get(class));
    let number = |field: &str| class.and_then(|class| class.get(field)?.as_u64());
    let mut lines = Vec::new();
    match number("lock_s") {
        Some(lock) if lock > 0 => lines.push(format!(
            "Once it is signed each server holds it back for {}, and while it does {} can kill it.",
            span::words(lock),
            number("veto").map_or("enough vetoes".to_owned(), |veto| format!("{veto} vetoes")),
        )),
        _ => {
            lines.push("Once it is signed nothing holds it back: its class has no lock.".to_owned())
        }
    }
    if let Some(rebuilds) = number("rebuilds").filter(|rebuilds| *rebuilds > 0) {
        lines.push(format!(
            "{rebuilds} of the approvals must name the digest of a build of their own."
        ));
    }
    lines
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
