//! `receipt`: what the owner keeps, signed by this server's keeper.

use std::path::PathBuf;

use borgios_types::NodeId;

use super::failure::TakeoverError;
use super::journal::Journal;
use super::machine::Machine;

/// What the command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) node: NodeId,
    pub(super) owner: Option<PathBuf>,
    pub(super) name: Option<String>,
}

/// Signs it.
pub(super) fn sign(machine: &Machine, _receipt: &Receipt) -> Result<String, TakeoverError> {
    let Some(Journal::Done { .. }) = Journal::read(machine)? else {
        return Err(TakeoverError::Refused("root has not changed hands here".to_owned()));
    };
    Err(TakeoverError::Refused("not yet".to_owned()))
}
