//! `borgios credential …`: the fleet's shared root credential.

use clap::Subcommand;

use crate::commands::{
    credential_advance, credential_reveal, credential_schedule, credential_status,
};
use crate::context::Context;
use crate::failure::Failure;

/// The fleet's shared root credential
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Deal passwords for the time to come, and put their schedule to the vote
    Schedule(credential_schedule::Schedule),
    /// Ask the board to move every server to the next password now
    Advance(credential_advance::Advance),
    /// Ask the board for the password of one epoch; run it again to read it
    Reveal(credential_reveal::Reveal),
    /// Which epoch it is, what comes next, and who is late
    Status(credential_status::Status),
}

impl Command {
    /// Does it.
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Schedule(command) => command.run(context),
            Self::Advance(command) => command.run(context),
            Self::Reveal(command) => command.run(context),
            Self::Status(command) => command.run(context),
        }
    }
}
