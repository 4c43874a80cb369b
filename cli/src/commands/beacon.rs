//! `borgios beacon`: a sign of life, by which servers know that they are not cut off from the board.
//!
//! Every command that talks to others sends one where the policy asks for them and the last one is
//! an hour old; this one sends it now, for a timer.

use clap::Args;
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;
use crate::session::Session;

/// Send the servers a sign of life
#[derive(Debug, Args)]
pub(crate) struct Beacon {}

impl Beacon {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut session = Session::open(context)?;
        session.desk.need_a_place()?;
        let envelope = session.beacon()?;
        let answer = json!({"id": envelope.id(), "sent_to": session.desk.places()});
        let text = format!("beacon {} sent to {}", envelope.id().short(), session.desk.places());
        context.printer.answer(&answer, &text)
    }
}
