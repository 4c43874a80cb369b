//! `borgios governor card`: prints the public card.

use borgios_policy::Card as Payload;
use clap::Args;

use crate::context::Context;
use crate::failure::{Failure, OrFail as _};
use crate::identity;

/// Print this governor's public card
#[derive(Debug, Args)]
pub(crate) struct Card {}

impl Card {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let envelope = identity::read_card(&context.home)?;
        let card = Payload::verify(&envelope).or_fail(|| "the stored card is damaged")?;
        let text = format!(
            "governor {}\n  key         {}\n  fingerprint {}\n  recipient   {}",
            card.name,
            card.key,
            card.key.fingerprint(),
            card.recipient
        );
        context.printer.answer(&envelope, &text)
    }
}
