//! `borgios review` of what is signed: the same look as before a vote, for whoever may veto it.

use serde_json::json;

use crate::changes::release::Given;
use crate::commands::log::{ballots, by_whom, proposers, spoken, voices};
use crate::commands::review;
use crate::context::Context;
use crate::desk::Desk;
use crate::failure::Failure;
use crate::notices::{self, Notice};
use crate::signed::Signed;

/// Shows one signed statement.
pub(crate) fn run(
    context: &Context,
    desk: &mut Desk<'_>,
    signed: &Signed,
    given: &Given,
) -> Result<(), Failure> {
    let Signed { statement, id, .. } = signed;
    let changes = review::changes(desk, statement, given)?;
    let archive = desk.archive();
    let voices = voices(archive, statement, *id);
    let mut text = format!(
        "{}, round {}  {id}\n  issued {}, expires {}\n{}",
        signed.place(),
        statement.round,
        statement.issued,
        statement.expires,
        by_whom(archive, *id)
    );
    text.push_str("\nwhat it changes\n");
    for line in &changes {
        text.push_str(&format!("  {line}\n"));
    }
    text.push_str("\nwhat was said\n");
    text.push_str(&spoken(&voices));
    for line in signed.said_against(desk) {
        text.push_str(&format!("  {line}\n"));
    }
    text.push_str("\nwhere it stands\n");
    for line in signed.words(desk) {
        text.push_str(&format!("  {line}\n"));
    }
    let notices = notices::frozen_at(desk, statement.lane, statement.seq);
    for notice in &notices {
        text.push_str(&format!("  {}\n", notice.line()));
    }
    let mut answer = signed.to_json(desk);
    answer["notices"] = json!(notices.iter().map(Notice::to_json).collect::<Vec<_>>());
    answer["changes"] = json!(changes);
    answer["ballots"] = json!(ballots(&voices));
    answer["proposed_by"] = json!(proposers(archive, *id));
    answer["issued"] = json!(statement.issued);
    answer["expires"] = json!(statement.expires);
    answer["body"] = statement.body.clone();
    context.printer.answer(&answer, &text)
}
