//! What can be typed: the options every command understands, and the commands.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::commands;
use crate::context::Context;
use crate::failure::Failure;
use crate::home::Home;
use crate::passphrase::Source;
use crate::printer::Printer;

/// BorgIOS: governors sign, servers obey.
#[derive(Debug, Parser)]
#[command(name = "borgios", version, disable_help_subcommand = true, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, ClapArgs)]
pub(crate) struct Global {
    /// The governor's folder [default: $BORGIOS_HOME or ~/.config/borgios]
    #[arg(long, global = true, value_name = "DIR")]
    home: Option<PathBuf>,
    /// A node to talk to; may be given again [default: the nodes talked to last]
    #[arg(long = "node", global = true, value_name = "HOST:PORT")]
    nodes: Vec<String>,
    /// A folder shared with the other governors, instead of a node
    #[arg(long, global = true, value_name = "DIR")]
    exchange: Option<PathBuf>,
    /// Read the passphrase from this file descriptor instead of asking
    #[arg(long, global = true, value_name = "N")]
    passphrase_fd: Option<u32>,
    /// The socket of the agent on this server
    #[arg(long, global = true, value_name = "PATH", default_value = "/run/borgios/api.sock")]
    socket: PathBuf,
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
}

impl Global {
    /// Whether answers are wanted in JSON.
    pub(crate) fn printer(&self) -> Printer {
        Printer::new(self.json)
    }

    /// The settings of this run.
    pub(crate) fn context(&self) -> Result<Context, Failure> {
        Ok(Context {
            home: Home::at(self.home.clone())?,
            printer: self.printer(),
            passphrase: self.passphrase_fd.map_or(Source::Terminal, Source::Descriptor),
            nodes: self.nodes.clone(),
            exchange: self.exchange.clone(),
            socket: self.socket.clone(),
        })
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Governors: identity, card, founding a network
    #[command(subcommand)]
    Governor(commands::governor::Command),
    /// Put a release or a policy to the vote
    #[command(subcommand)]
    Propose(commands::propose::Command),
    /// What is open: who voted, what is missing
    Inbox(commands::inbox::Inbox),
    /// What a proposal would change, and what happens if you approve
    Review(commands::review::Review),
    /// Approve or reject, once and for good
    Vote(commands::vote::Vote),
    /// Take a signed statement back before it is applied
    Veto(commands::objection::Veto),
    /// Ask every server to wait with a signed statement; ends by itself
    Pause(commands::objection::Pause),
    /// Send the servers a sign of life
    Beacon(commands::beacon::Beacon),
    /// Fetch all objects and pass on what others lack
    Sync(commands::sync::Sync),
    /// Who decided what, when, with what comments
    Log(commands::log::Log),
    /// Write a statement for stock ssh-keygen to check
    Export(commands::export::Export),
    /// Check a proof offline, with nothing but the network's id
    Verify(commands::verify::Verify),
    /// A harmless round through the board: who can still vote
    Drill(commands::drill::Drill),
    /// Components: build one, look at one
    #[command(subcommand)]
    Release(commands::release::Command),
    /// Pack everything a fresh server needs into one file
    Bundle(commands::bundle::Bundle),
    /// Let servers join
    Invite(commands::invite::Invite),
    /// Make servers members from here, over ssh
    Adopt(commands::adopt::Adopt),
    /// Say something to every node
    Broadcast(commands::broadcast::Broadcast),
    /// What servers said to all: how far each stream goes, its messages
    #[command(subcommand)]
    Stream(commands::stream::Command),
    /// Give a node a component to hand on
    #[command(subcommand)]
    Blob(commands::blob::Command),
    /// The fleet's shared root credential: schedule, advance, reveal, status
    #[command(subcommand)]
    Credential(commands::credential::Command),
    /// Root on one server for a while: ask, revoke, list, write the certificate
    #[command(subcommand)]
    Access(commands::access::Command),
    /// Ask the board to put servers out for good
    Evict(commands::evict::Evict),
    /// Take your server out of the network, with its owner's key
    Depart(commands::depart::Depart),
    /// Talk to a node and remember it
    Connect(commands::connect::Connect),
    /// How one node does
    Status(commands::status::Status),
    /// The tree of servers
    Tree(commands::tree::Tree),
    /// Ask every server: versions, epochs, load, disk, received
    #[command(subcommand)]
    Ask(commands::ask::Command),
    /// One server, looked for through the tree
    #[command(subcommand)]
    Node(commands::node::Command),
    /// The servers
    Nodes(commands::nodes::Nodes),
    /// Say what is wrong here, and what to do
    Doctor(commands::doctor::Doctor),
}

impl Command {
    /// Does it.
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Governor(command) => command.run(context),
            Self::Propose(command) => command.run(context),
            Self::Inbox(command) => command.run(context),
            Self::Review(command) => command.run(context),
            Self::Vote(command) => command.run(context),
            Self::Veto(command) => command.run(context),
            Self::Pause(command) => command.run(context),
            Self::Beacon(command) => command.run(context),
            Self::Sync(command) => command.run(context),
            Self::Log(command) => command.run(context),
            Self::Export(command) => command.run(context),
            Self::Verify(command) => command.run(context),
            Self::Drill(command) => command.run(context),
            Self::Release(command) => command.run(context),
            Self::Bundle(command) => command.run(context),
            Self::Invite(command) => command.run(context),
            Self::Adopt(command) => command.run(context),
            Self::Broadcast(command) => command.run(context),
            Self::Stream(command) => command.run(context),
            Self::Blob(command) => command.run(context),
            Self::Credential(command) => command.run(context),
            Self::Access(command) => command.run(context),
            Self::Evict(command) => command.run(context),
            Self::Depart(command) => command.run(context),
            Self::Connect(command) => command.run(context),
            Self::Status(command) => command.run(context),
            Self::Tree(command) => command.run(context),
            Self::Ask(command) => command.run(context),
            Self::Node(command) => command.run(context),
            Self::Nodes(command) => command.run(context),
            Self::Doctor(command) => command.run(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }
}
