//! `borgios access …`: root on one server for a while, by a certificate that the board signs.

use borgios_policy::{AccessOrder, Lane, VerifiedStatement};
use borgios_types::Seq;
use clap::Subcommand;

use crate::archive::Archive;
use crate::commands::{access_cert, access_list, access_request, access_revoke};
use crate::context::Context;
use crate::failure::Failure;

/// Root on one server for a while
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Ask the board to let a key in
    Request(access_request::Request),
    /// Ask the board to end certificates early
    Revoke(access_revoke::Revoke),
    /// What was granted, revoked and revealed
    List(access_list::List),
    /// Write the certificate of a signed grant, for stock ssh
    Cert(access_cert::Cert),
}

impl Command {
    /// Does it.
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Request(command) => command.run(context),
            Self::Revoke(command) => command.run(context),
            Self::List(command) => command.run(context),
            Self::Cert(command) => command.run(context),
        }
    }
}

/// The orders of the lane, oldest first; what orders nothing is left out.
pub(crate) fn orders(archive: &Archive) -> impl Iterator<Item = (AccessOrder, &VerifiedStatement)> {
    let all = archive.chain().after(Lane::Access, Seq(0));
    all.filter_map(|at| Some((AccessOrder::of(at.statement()).ok()?, at)))
}
