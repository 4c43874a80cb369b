//! `borgios sync`: fetches all objects and passes on what others lack; the second touch of large boards.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::carrier;
use crate::context::Context;
use crate::durable;
use crate::failure::Failure;
use crate::session::Session;

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
        let settled = session.settle()?;
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
        let answer = json!({
            "places": places, "received": received, "refused": refused, "sent": sent,
            "signed": settled.signed, "slots": settled.slots, "shares": settled.shares,
            "servers": servers, "blobs": blobs, "written_bytes": written,
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
        for line in settled.lines() {
            text.push('\n');
            text.push_str(&line);
        }
        context.printer.answer(&answer, &text)
    }
}
