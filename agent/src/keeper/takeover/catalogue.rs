//! Every kind of way in that the take-over knows, in the order in which it shuts them.
//!
//! To add one: a file with a [`Kind`], and a line in [`KINDS`].

use std::path::PathBuf;

use super::finding::Finding;
use super::machine::{Machine, MachineError};
use super::{
    account, authorized_keys, console, file_owner, group, guest_agent, host_key, session, sshd,
    sudo,
};

/// A kind of way in.
///
/// `look` changes nothing. `apply` makes the next `look` find nothing, whatever a run that was
/// cut off has done of it before: it goes by what it sees, and by `found` for what can no longer
/// be seen once it is half done.
pub(super) trait Kind: Sync {
    /// Its name, as in a finding.
    fn name(&self) -> &'static str;
    /// What it is about, for a heading.
    fn about(&self) -> &'static str;
    /// Every way in of this kind.
    fn look(&self, machine: &Machine) -> Result<Vec<Finding>, MachineError>;
    /// Shuts them.
    fn apply(&self, machine: &Machine, found: &[Finding]) -> Result<(), MachineError>;
    /// Every path that `apply` may remove or make and whose place depends on the server: it may lie
    /// in another folder than the usual one, or behind a link. The snapshot keeps each of them by
    /// itself, beside the files and folders of which it keeps every server's; a kind that touches
    /// those alone has nothing to name.
    fn touched(&self, _machine: &Machine) -> Result<Vec<PathBuf>, MachineError> {
        Ok(Vec::new())
    }
}

/// The catalogue. sshd comes first: from its restart on nobody new comes in while the rest goes.
/// Sessions are ended by a verb of their own, after everything else.
pub(super) const KINDS: [&dyn Kind; 10] = [
    &sshd::Sshd,
    &file_owner::FileOwner,
    &host_key::HostKey,
    &authorized_keys::AuthorizedKeys,
    &sudo::Sudo,
    &group::Group,
    &account::Account,
    &guest_agent::GuestAgent,
    &console::Console,
    &session::Session,
];

/// Every finding there is.
pub(super) fn look(machine: &Machine) -> Result<Vec<Finding>, MachineError> {
    let mut all = Vec::new();
    for kind in KINDS {
        all.extend(kind.look(machine)?);
    }
    Ok(all)
}

/// Every path that `apply` may touch at a place that depends on the server.
pub(super) fn touched(machine: &Machine) -> Result<Vec<PathBuf>, MachineError> {
    let mut all = Vec::new();
    for kind in KINDS {
        all.extend(kind.touched(machine)?);
    }
    Ok(all)
}

/// Every finding that `apply` is to shut: all but live sessions.
pub(super) fn look_for_apply(machine: &Machine) -> Result<Vec<Finding>, MachineError> {
    let mut all = look(machine)?;
    all.retain(|finding| finding.kind != session::NAME);
    Ok(all)
}
