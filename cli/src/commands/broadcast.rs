//! `borgios broadcast`: sends a text to every node. It decides nothing.

use borgios_policy::{Note, Object as _};
use clap::Args;
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;
use crate::session::Session;

/// Send a text to every node
#[derive(Debug, Args)]
pub(crate) struct Broadcast {
    /// What to say
    text: String,
}

impl Broadcast {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut session = Session::open(context)?;
        session.desk.need_a_place()?;
        let network = session.network();
        let note = Note { network, text: self.text, at: context.now() };
        let envelope = note.to_envelope().sign(session.identity().ssh());
        session.desk.publish(&envelope)?;
        let answer = json!({"id": envelope.id(), "sent_to": session.desk.places()});
        let text = format!("note {} sent to {}", envelope.id().short(), session.desk.places());
        context.printer.answer(&answer, &text)
    }
}
