//! `borgios inbox`: what is open, who voted, what is missing.

use borgios_policy::tally::{Proof, State};
use borgios_types::Digest;
use clap::Args;
use serde_json::{Value, json};

use crate::archive::Archive;
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
        let answer: Vec<Value> =
            votes.iter().flat_map(|vote| rows(desk.archive(), vote, &servers, &reviewed)).collect();
        let mut text = String::new();
        for vote in &votes {
            text.push_str(&describe(desk.archive(), vote, &servers, &reviewed));
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

/// How one document stands, in a word.
pub(crate) fn state_text(state: &State) -> String {
    match state {
        State::Open { missing: 1, passable: true } => "one approval is missing".into(),
        State::Open { missing, passable: true } => format!("{missing} approvals are missing"),
        State::Open { passable: false, .. } => {
            "cannot pass any more unless somebody breaks their word; not dead yet".into()
        }
        State::Unseen => "voted on, but the proposal itself is not here yet".into(),
        State::Signed(_) => "signed; more approvals are needed by its class".into(),
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

fn rows(archive: &Archive, vote: &OpenVote, servers: &Servers, reviewed: &Reviewed) -> Vec<Value> {
    let row = |(id, standing): (&Digest, &borgios_policy::tally::Standing)| {
        let missing = match standing.state {
            State::Open { missing, .. } => Some(missing),
            State::Unseen | State::Signed(_) | State::Dead => None,
        };
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
        json!({
            "summary": document.and_then(|d| wording::summary(servers, &d.statement)),
            "place": format!("{}/{}", vote.slot.lane, vote.slot.seq),
            "round": vote.slot.round, "statement": id, "proposed": proposers,
            "recovery": vote.recovery,
            "approvals": standing.approvals, "rejections": standing.rejections,
            "state": state_code(&standing.state), "missing": missing,
            "reviewed": reviewed.contains(id),
        })
    };
    vote.tally.documents.iter().map(row).collect()
}

fn describe(archive: &Archive, vote: &OpenVote, servers: &Servers, reviewed: &Reviewed) -> String {
    let mut text = String::new();
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
        text.push_str(&format!("  {}\n", state_text(&standing.state)));
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
    text
}
