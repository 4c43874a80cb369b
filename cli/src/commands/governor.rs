//! `borgios governor …`: the commands about being a governor, and about the board.

use clap::Subcommand;

use crate::commands::{
    governor_backup, governor_card, governor_change, governor_found, governor_init,
    governor_passphrase, governor_repair, governor_restore,
};
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
    /// Do the next steps of changing the board; run it until it says done
    Change(governor_change::Change),
    /// Give the same governors a new key: who kept an old share can sign nothing any more
    Refresh(governor_change::Refresh),
    /// Get a lost share back with the others' help, or help
    Repair(governor_repair::Repair),
    /// Write identity and share into a file, or the share alone as words
    Backup(governor_backup::Backup),
    /// Lay identity and share back from a backup
    Restore(governor_restore::Restore),
    /// Change the passphrase of this folder
    Passphrase(governor_passphrase::Passphrase),
}

impl Command {
    /// Does it.
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Init(command) => command.run(context),
            Self::Card(command) => command.run(context),
            Self::Found(command) => command.run(context),
            Self::Change(command) => command.run(context),
            Self::Refresh(command) => command.run(context),
            Self::Repair(command) => command.run(context),
            Self::Backup(command) => command.run(context),
            Self::Restore(command) => command.run(context),
            Self::Passphrase(command) => command.run(context),
        }
    }
}
