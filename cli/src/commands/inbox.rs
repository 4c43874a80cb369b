//! `borgios inbox`: what is open, who voted, what is missing.

use borgios_policy::tally::{Proof, Standing as TallyStanding, State};
use borgios_types::Digest;
use clap::Args;
use serde_json::{Value, json};

use crate::context::Context;
use crate::deadlines;
use crate::desk::{Desk, OpenVote};
use crate::failure::Failure;
use crate::notices::{self, Notice};
use crate::printer::one_line;
use crate::reviewed::Reviewed;
use crate::servers::Servers;
use crate::signed::{self, Signed, Standing};
use crate::wording;

/// What is open: who voted, what is missing
#[derive(Debug, Args)]
pub(crate) struct Inbox {}

impl Inbox {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut desk = Desk::look(context)?;
        let signed = desk.publish_signed()?;
        for place in desk.publish_recoveries()? {
            context
                .printer
                .say(&format!("{place} is signed by the recovery board and the new one"));
        }
        for place in &signed {
            context.printer.say(&format!("{place} is signed"));
        }
        let reviewed = Reviewed::load(&context.home)?;
        let mut votes = desk.votes()?;
        for vote in &mut votes {
            vote.tally.documents.retain(|id, _| !desk.archive().is_dead(id));
        }
        votes.retain(|vote| !vote.tally.documents.is_empty() || !vote.tally.culprits.is_empty());
        let servers = desk.known_servers()?;
        let (mut answer, mut text) = (Vec::<Value>::new(), String::new());
        for vote in &votes {
            answer.extend(rows(&desk, vote, &servers, &reviewed)?);
            text.push_str(&describe(&desk, vote, &servers, &reviewed)?);
        }
        if votes.is_empty() {
            text.push_str("nothing is open\n");
        }
        let kept = signed::kept_back(&desk)?;
        for one in &kept {
            text.push_str(&kept_back(one, &desk, &servers));
        }
        let mut told = notices::upon_vetoed(&desk)?;
        told.extend(notices::apart(&desk)?);
        told.extend(notices::escrow(&desk));
        for notice in &told {
            text.push_str(&format!("{}\n", notice.line()));
        }
        let (now, reminders) = (context.now(), deadlines::reminders(&desk)?);
        for reminder in &reminders {
            text.push_str(&format!("{}\n", reminder.line(now)));
        }
        let reminders: Vec<Value> = reminders.iter().map(|one| one.to_json(now)).collect();
        let threshold = desk.archive().board()?.threshold();
        let answer = json!({
            "open": answer, "signed": signed, "threshold": threshold, "reminders": reminders,
            "notices": told.iter().map(Notice::to_json).collect::<Vec<_>>(),
            "kept_back": kept.iter().map(|one| one.to_json(&desk)).collect::<Vec<_>>(),
        });
        context.printer.answer(&answer, &text)
    }
}

/// A signed statement that servers hold back, or that vetoes took back.
fn kept_back(one: &Signed, desk: &Desk<'_>, servers: &Servers) -> String {
    let mut text = format!("{}  {}  signed\n", one.place(), one.id.short());
    if let Some(words) = wording::summary(servers, &one.statement) {
        text.push_str(&format!("  {words}\n"));
    }
    for line in one.said_against(desk).into_iter().chain(one.words(desk)) {
        text.push_str(&format!("  {line}\n"));
    }
    let named = match one.standing {
        Standing::Locked(_) => one.place(),
        _ => one.id.short(),
    };
    text.push_str(&format!("  look at it with `borgios review {named}`\n"));
    text
}

/// How many approvals the document `id` of a vote needs: what its class asks for, and never fewer than the
/// threshold of whoever votes on it.
pub(crate) fn needed(desk: &Desk<'_>, vote: &OpenVote, id: &Digest) -> Result<usize, Failure> {
    let archive = desk.archive();
    if let Some(paper) = archive.recovery_board().filter(|_| vote.recovery) {
        return Ok(usize::from(paper.board().threshold().0));
    }
    let threshold = archive.board()?.threshold().0;
    let class = vote.documents.get(id).zip(archive.chain().policy());
    let class = class.map(|(document, policy)| policy.class_of(&document.statement).approvals);
    Ok(usize::from(class.map_or(threshold, |approvals| approvals.max(threshold))))
}

/// How many good approvals a document still lacks: those of the signature, and those of its class.
fn missing(standing: &TallyStanding, needed: usize) -> Option<usize> {
    let of_class = needed.saturating_sub(standing.approvals.len());
    match standing.state {
        State::Open { missing, .. } => Some(missing.max(of_class)),
        State::Signed(_) => Some(of_class),
        State::Unseen | State::Dead => None,
    }
}

/// How one document stands that needs so many approvals, in a word.
pub(crate) fn state_text(standing: &TallyStanding, needed: usize) -> String {
    match (&standing.state, missing(standing, needed)) {
        (State::Open { passable: true, .. }, Some(1)) => "one approval is missing".into(),
        (State::Open { passable: true, .. }, Some(more)) => format!("{more} approvals are missing"),
        (State::Signed(_), Some(1)) => "signed; one more approval is needed by its class".into(),
        (State::Signed(_), Some(more)) if more > 1 => {
            format!("signed; {more} more approvals are needed by its class")
        }
        (state, _) => plain_state(state),
    }
}

fn plain_state(state: &State) -> String {
    match state {
        State::Open { passable: true, .. } => "approvals are missing".into(),
        State::Open { passable: false, .. } => {
            "cannot pass any more unless somebody breaks their word; not dead yet".into()
        }
        State::Unseen => "voted on, but the proposal itself is not here yet".into(),
        // Enough approve; too few of them name a build of their own.
        State::Signed(_) => "signed; its class asks for more than these approvals".into(),
        State::Dead => "dead: a further round may be proposed".into(),
    }
}

fn state_code(state: &State) -> &'static str {
    match state {
        State::Open { .. } => "open",
        State::Unseen => "unseen",
        State::Signed(_) => "signed",
        State::Dead => "dead",
    }
}

fn rows(
    desk: &Desk<'_>,
    vote: &OpenVote,
    servers: &Servers,
    reviewed: &Reviewed,
) -> Result<Vec<Value>, Failure> {
    let archive = desk.archive();
    let row = |(id, standing): (&Digest, &TallyStanding)| -> Result<Value, Failure> {
        let needed = needed(desk, vote, id)?;
        let proposers: Vec<Value> = vote.documents.get(id).map_or_else(Vec::new, |document| {
            let by = document.proposals.iter();
            // Whoever is not seated speaks for a board that is only proposed, under any name.
            by.map(|held| {
                let seated = archive.is_seated(held);
                json!({"by": held.by, "seated": seated, "note": held.value.note})
            })
            .collect()
        });
        let document = vote.documents.get(id);
        Ok(json!({
            "summary": document.and_then(|d| wording::summary(servers, &d.statement)),
            "place": format!("{}/{}", vote.slot.lane, vote.slot.seq),
            "round": vote.slot.round, "statement": id, "proposed": proposers,
            "recovery": vote.recovery,
            "approvals": standing.approvals, "rejections": standing.rejections,
            "state": state_code(&standing.state),
            "missing": missing(standing, needed), "needed": needed,
            "reviewed": reviewed.contains(id),
        }))
    };
    vote.tally.documents.iter().map(row).collect()
}

fn describe(
    desk: &Desk<'_>,
    vote: &OpenVote,
    servers: &Servers,
    reviewed: &Reviewed,
) -> Result<String, Failure> {
    let (archive, mut text) = (desk.archive(), String::new());
    for (id, standing) in &vote.tally.documents {
        let round = if vote.slot.round.0 == 0 {
            String::new()
        } else {
            format!(", round {}", vote.slot.round)
        };
        let place = format!("{}/{}", vote.slot.lane, vote.slot.seq);
        let whose = if vote.recovery { "  by the RECOVERY board" } else { "" };
        text.push_str(&format!("{place}{round}  {}{whose}\n", id.short()));
        let document = vote.documents.get(id);
        if let Some(words) = document.and_then(|d| wording::summary(servers, &d.statement)) {
            text.push_str(&format!("  {words}\n"));
        }
        for held in vote.documents.get(id).iter().flat_map(|document| &document.proposals) {
            let note = held.value.note.as_deref().unwrap_or_default();
            let note =
                if note.is_empty() { String::new() } else { format!(": {}", one_line(note)) };
            text.push_str(&format!("  proposed by {}{note}\n", archive.made_by(held)));
        }
        let approvals: Vec<&str> = standing.approvals.iter().map(|name| name.as_str()).collect();
        if !approvals.is_empty() {
            text.push_str(&format!("  approved by {}\n", approvals.join(", ")));
        }
        for (name, reason) in &standing.rejections {
            text.push_str(&format!("  rejected by {name}: {}\n", one_line(reason)));
        }
        text.push_str(&format!("  {}\n", state_text(standing, needed(desk, vote, id)?)));
        if !reviewed.contains(id) {
            let named = match vote.tally.documents.len() {
                1 => place,
                _ => id.short(),
            };
            text.push_str(&format!("  look at it with `borgios review {named}`\n"));
        }
    }
    for culprit in &vote.tally.culprits {
        let proof = match culprit.proof {
            Proof::BadShare(ballot) => format!("ballot {} holds a bad share", ballot.short()),
            Proof::TwoBallots(one, other) => {
                format!("ballots {} and {} contradict each other", one.short(), other.short())
            }
            Proof::TwoShares(one, other) => {
                format!("shares {} and {} use the same nonces", one.short(), other.short())
            }
            Proof::TwoPools(one, other) => {
                format!("pools {} and {} differ for one slot", one.short(), other.short())
            }
        };
        text.push_str(&format!("  {} broke the rules: {proof}\n", culprit.name));
    }
    Ok(text)
}
