//! `borgios sync`: fetches all objects and passes on what others lack.

use clap::Args;
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;
use crate::session::Session;

/// Fetch all objects and pass on what others lack
#[derive(Debug, Args)]
pub(crate) struct Sync {}

impl Sync {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut session = Session::open(context)?;
        session.desk.need_a_place()?;
        let moved = session.desk.fetched();
        let (received, refused) = (moved.received, moved.refused);
        let settled = session.settle()?;
        let sent = session.desk.push()?;
        let servers = session.desk.servers()?.all().count();
        let blobs = session.desk.bring_blobs()?;
        let places = session.desk.places();
        let answer = json!({
            "places": places, "received": received, "refused": refused, "sent": sent,
            "signed": settled.signed, "slots": settled.slots, "servers": servers, "blobs": blobs,
        });
        let mut text = format!("{received} objects received from {places}, {sent} sent");
        if refused > 0 {
            text.push_str(&format!(", {refused} refused"));
        }
        if servers > 0 {
            text.push_str(&format!("\n{servers} servers are known here"));
        }
        for line in settled.lines() {
            text.push('\n');
            text.push_str(&line);
        }
        context.printer.answer(&answer, &text)
    }
}
