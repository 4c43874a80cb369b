//! `borgios credential advance`: asks the board to move every server to the next password now.

use borgios_policy::{Credential, Lane};
use borgios_types::Epoch;
use clap::Args;
use serde_json::json;

use crate::commands::propose::{Terms, date, put_to_vote};
use crate::context::Context;
use crate::failure::Failure;
use crate::notices;
use crate::schedules;
use crate::session::Session;

/// Ask the board to move every server to the next password now
#[derive(Debug, Args)]
pub(crate) struct Advance {
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    terms: Terms,
}

impl Advance {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut session = Session::open(context)?;
        let none = || {
            Failure::new("there is no schedule to advance in")
                .hint("deal one with `borgios credential schedule --days 90`")
        };
        let scheduled = schedules::in_force(&mut session.desk)?.ok_or_else(none)?;
        let now = date(&session);
        let schedule = &scheduled.schedule;
        let current = schedules::epoch_at(schedule, session.desk.archive().chain(), now);
        let next = Epoch(current.0.saturating_add(1));
        if next > schedule.last() {
            return Err(Failure::new(format!("epoch {current} is the last of its schedule"))
                .hint("deal the next one: `borgios credential schedule --days 90`"));
        }
        let body = Credential { min_epoch: next, reason: self.reason, ..scheduled.credential };
        let mut proposed = put_to_vote(&mut session, Lane::Credential, body.to_body(), self.terms)?;
        proposed.answer.insert("from".into(), json!(current));
        proposed.answer.insert("to".into(), json!(next));
        let text = format!(
            "proposed {}: {}\n  from epoch {current} to epoch {next}, as soon as it is signed",
            proposed.place(),
            proposed.statement
        );
        context.printer.answer(&proposed.answer, &text)?;
        // An advance leaves the shares of what is left where they are.
        if let Some(notice) = notices::escrow(&session.desk) {
            context.printer.warn(&notice.line());
        }
        proposed.talk(context);
        Ok(())
    }
}
