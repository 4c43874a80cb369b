//! `receipt`: what the owner keeps, signed by this server's keeper.
//!
//! From the moment it lies in the keeper's folder the daemon knows that root was handed over, and
//! for which node: doors and rotation begin with it.

use std::path::{Path, PathBuf};

use borgios_policy::{Handover, Name, Object as _};
use borgios_types::{Digest, NodeId, PublicKey};

use super::apply::counts;
use super::failure::TakeoverError;
use super::host_key;
use super::journal::Journal;
use super::machine::Machine;
use super::sealed::Recipient;
use crate::disk;
use crate::identity;
use crate::keeper::chain_store::ChainStore;
use crate::keeper::handed_over;
use crate::settings::of_host;

const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// What the command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    /// The server's node key, which the receipt pins.
    pub(super) node: NodeId,
    /// The owner's public key file.
    pub(super) owner: Option<PathBuf>,
    /// The server's name; its host name unless it is given.
    pub(super) name: Option<String>,
}

fn network(machine: &Machine) -> Result<Digest, TakeoverError> {
    let chain = ChainStore::look(&machine.paths.keeper)?;
    Ok(chain.network().expect("a chain is only ever read with a pin"))
}

/// Whether there is one that this server's keeper signed.
pub(super) fn exists(machine: &Machine) -> Result<bool, TakeoverError> {
    if !machine.paths.key().is_file() {
        return Ok(false);
    }
    let key = identity::load_or_make(&machine.paths.key())?;
    let network = network(machine)?;
    Ok(handed_over::read(&machine.paths, network, &key.public()).is_some())
}

/// Signs it, once: asked again for the same node, it is the same.
pub(super) fn sign(machine: &Machine, asked: &Receipt) -> Result<String, TakeoverError> {
    let Some(Journal::Done { taking, .. }) = Journal::read(machine)? else {
        return Err(TakeoverError::Refused("root has not changed hands here".to_owned()));
    };
    let network = network(machine)?;
    if !machine.paths.key().is_file() {
        return Err(TakeoverError::Refused("this server has no keeper's key yet".to_owned()));
    }
    let key = identity::load_or_make(&machine.paths.key())?;
    if let Some((found, envelope)) = handed_over::read(&machine.paths, network, &key.public()) {
        if found.node == asked.node {
            return Ok(envelope.to_json());
        }
        let why = format!("the receipt of this server names another node, {}", found.node);
        return Err(TakeoverError::Refused(why));
    }
    let owner = match &asked.owner {
        Some(file) => Some(Recipient::read(file)?.key()),
        None => None,
    };
    let handover = Handover {
        network,
        node: asked.node,
        keeper: key.public(),
        name: name(machine, asked.name.as_deref()),
        host_keys: host_key::public(machine)?.into_iter().collect::<Vec<PublicKey>>(),
        taken: counts(&taking.found)
            .into_iter()
            .filter_map(|(kind, count)| Some((kind.parse::<Name>().ok()?, count as u64)))
            .collect(),
        owner,
        at: machine.tools.unix(),
    };
    let envelope = handover.to_envelope().sign(&key);
    let path = handed_over::path(&machine.paths);
    let shown = Path::new("/var/lib/borgios-keeper/handover.json");
    machine.change("write", shown, || {
        disk::write_durable(&path, envelope.to_json().as_bytes(), 0o644)
    })?;
    Ok(envelope.to_json())
}

/// The name that stands in the receipt. Without a receipt no door opens, and by now the old ones are shut:
/// whatever the host is called, there is one.
fn name(machine: &Machine, given: Option<&str>) -> Name {
    let found = std::fs::read_to_string(machine.at(HOSTNAME)).unwrap_or_default();
    let name = given.unwrap_or(found.trim());
    // The first label: `web-1` of `web-1.example.org`.
    name.parse().unwrap_or_else(|_| of_host(name.split('.').next().unwrap_or_default()))
}
