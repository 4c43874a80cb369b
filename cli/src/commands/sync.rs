//! `borgios sync`: fetches all objects and passes on what others lack; the second touch of large boards;
//! and which votes wait for this governor's ballot.

use std::path::PathBuf;

use borgios_types::Digest;
use clap::Args;
use serde_json::{Value, json};

use crate::carrier;
use crate::commands::status::held_back;
use crate::context::Context;
use crate::deadlines;
use crate::durable;
use crate::failure::Failure;
use crate::notices::{self, Notice};
use crate::session::Session;
use crate::upholding;

/// Fetch all objects and pass on what others lack
#[derive(Debug, Args)]
pub(crate) struct Sync {
    /// Take the objects of a file that a carrier brought
    #[arg(long = "in", value_name = "FILE")]
    brought: Option<PathBuf>,
    /// Write what is open into a file for a carrier
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// This machine has no network, from now on: its nonces say so
    #[arg(long, requires = "out")]
    air_gap: bool,
    /// A policy of the recovery key, by its whole id, that came into force, as servers' `status` shows
    #[arg(long, value_name = "ID")]
    accept_recovery: Option<Digest>,
    /// Go on from a vetoed statement, by its whole id, for servers applied it before the vetoes came
    #[arg(long, value_name = "ID")]
    uphold: Option<Digest>,
    /// Hold it dead again
    #[arg(long, value_name = "ID", conflicts_with = "uphold")]
    let_fall: Option<Digest>,
}

impl Sync {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut session = Session::open(context)?;
        if self.brought.is_none() && self.out.is_none() {
            session.desk.need_a_place()?;
        }
        if self.air_gap {
            durable::write(&context.home.air_gap(), b"this machine has no network\n")?;
        }
        let mut received = session.desk.fetched().received;
        let refused = session.desk.fetched().refused;
        if let Some(path) = &self.brought {
            received += session.desk.take_in(path)?;
        }
        let vetoed =
            self.accept_recovery.and_then(|id| notices::vetoed_recovery(&session.desk, id));
        if let Some(id) = self.accept_recovery {
            session.desk.accept_recovery(id)?;
        }
        if let Some(id) = self.uphold {
            upholding::uphold(&mut session, id)?;
        }
        if let Some(id) = self.let_fall {
            upholding::let_fall(&mut session, id)?;
        }
        let settled = session.settle()?;
        let waiting = recovery_lines(context, &session)?;
        let sent = session.desk.push()?;
        let servers = session.desk.servers()?.all().count();
        let blobs = session.desk.bring_blobs()?;
        let written = match &self.out {
            Some(path) => {
                let me = session.identity().name();
                let apart = session.is_air_gapped().then_some(me);
                Some(carrier::write(path, &session.desk.for_carrier(apart)?)?)
            }
            None => None,
        };
        let places = session.desk.places();
        let (now, reminders) = (context.now(), deadlines::reminders(&session.desk)?);
        let mut lane_notices = notices::frozen(&session.desk);
        lane_notices.extend(notices::upon_vetoed(&session.desk)?);
        lane_notices.extend(notices::apart(&session.desk)?);
        lane_notices.extend(notices::escrow(&session.desk));
        lane_notices.extend(vetoed);
        let answer = json!({
            "notices": lane_notices.iter().map(Notice::to_json).collect::<Vec<_>>(),
            "places": places, "received": received, "refused": refused, "sent": sent,
            "signed": settled.signed, "slots": settled.slots, "shares": settled.shares,
            "servers": servers, "blobs": blobs, "written_bytes": written,
            "recoveries": settled.recoveries, "upheld": session.desk.archive().upheld(),
            "reminders": reminders.iter().map(|one| one.to_json(now)).collect::<Vec<_>>(),
            "recoveries_waiting": waiting.iter().map(|(row, _)| row).collect::<Vec<_>>(),
        });
        let from = if places.is_empty() { "the carrier" } else { &places };
        let mut text = format!("{received} objects received from {from}, {sent} sent");
        if refused > 0 {
            text.push_str(&format!(", {refused} refused"));
        }
        if let (Some(bytes), Some(path)) = (written, &self.out) {
            text.push_str(&format!("\n{} holds {bytes} bytes for the carrier", path.display()));
        }
        if servers > 0 {
            text.push_str(&format!("\n{servers} servers are known here"));
        }
        for line in settled.lines().into_iter().chain(waiting.into_iter().map(|(_, line)| line)) {
            text.push('\n');
            text.push_str(&line);
        }
        for notice in &lane_notices {
            text.push('\n');
            text.push_str(&notice.line());
        }
        for reminder in &reminders {
            text.push('\n');
            text.push_str(&reminder.line(now));
        }
        context.printer.answer(&answer, &text)
    }
}

/// What waits of a recovery key, in JSON and in words; brought to the nodes that were named, by whoever is
/// not of the board that it is to replace.
fn recovery_lines(
    context: &Context,
    session: &Session<'_>,
) -> Result<Vec<(Value, String)>, Failure> {
    let mut lines = Vec::new();
    for verified in session.desk.archive().recoveries().waiting() {
        let (id, seq) = (verified.id(), verified.statement().seq);
        let mut told = Vec::new();
        let mut text = format!(
            "policy/{seq} of the recovery key waits: {id}\n  once `borgios status` of servers shows it in \
             force, `borgios sync --accept-recovery {id}` takes it here"
        );
        if session.on_board().is_err() {
            for (node, answer) in context.bring_recovery(session.identity(), verified.envelope())? {
                let said = match answer {
                    Ok(answer) => match answer.get("held").filter(|held| !held.is_null()) {
                        Some(held) => format!("{node}: {}", held_back(held)),
                        None => format!("{node} has it in force"),
                    },
                    Err(failure) => format!("{node}: {}", failure.summary()),
                };
                text.push_str(&format!("\n  {said}"));
                told.push(said);
            }
        }
        lines.push((json!({"policy": seq, "statement": id, "nodes": told}), text));
    }
    Ok(lines)
}
