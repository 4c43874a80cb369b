//! `borgios governor …`: the commands about being a governor.

use clap::Subcommand;

use crate::commands::{governor_card, governor_found, governor_init};
use crate::context::Context;
use crate::failure::Failure;

/// Governors: identity, card, founding a network.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make this governor's identity
    Init(governor_init::Init),
    /// Print this governor's public card
    Card(governor_card::Card),
    /// Do the next steps of founding a network; run it until it says done
    Found(governor_found::Found),
}

impl Command {
    /// Does it.
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Init(command) => command.run(context),
            Self::Card(command) => command.run(context),
            Self::Found(command) => command.run(context),
        }
    }
}
