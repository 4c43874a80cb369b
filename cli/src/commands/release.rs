//! `borgios release …`: components, before anybody votes on them.

use clap::Subcommand;

use crate::commands::{release_build, release_show};
use crate::context::Context;
use crate::failure::Failure;

/// Components: build one, look at one
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build a component from a folder
    Build(release_build::Build),
    /// Say what a component file is
    Show(release_show::Show),
}

impl Command {
    /// Does it.
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Build(command) => command.run(context),
            Self::Show(command) => command.run(context),
        }
    }
}
