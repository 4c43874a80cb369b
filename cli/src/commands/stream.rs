//! `borgios stream`: what servers said to all, as one node has stored it.

use clap::Subcommand;

use crate::commands::stream_heads::Heads;
use crate::commands::stream_tail::Tail;
use crate::context::Context;
use crate::failure::Failure;

/// What servers said to all
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// How far each server's stream goes
    Heads(Heads),
    /// Messages of a stream, in order
    Tail(Tail),
}

impl Command {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Heads(heads) => heads.run(context),
            Self::Tail(tail) => tail.run(context),
        }
    }
}
