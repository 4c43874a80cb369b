//! The server's own SSH keys: the owner has copies, so it gets a new one and the old ones go.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use borgios_types::{PublicKey, SecretKey};
use rand::RngCore as _;

use super::catalogue::Kind;
use super::finding::Finding;
use super::machine::{Machine, MachineError, disk_error};
use super::sshd_config::Effective;
use super::sshd_unit;

const KIND: &str = "host-key";
const FOLDER: &str = "/etc/ssh";
/// The key that nobody has a copy of. Its name tells it from what was there, and from what a
/// distribution's own scripts may make again.
pub(super) const OURS: &str = "/etc/borgios/ssh/host_ed25519_key";

/// Host keys.
pub(super) struct HostKey;

impl Kind for HostKey {
    fn name(&self) -> &'static str {
        KIND
    }

    fn about(&self) -> &'static str {
        "keys by which others know this server"
    }

    fn look(&self, machine: &Machine) -> Result<Vec<Finding>, MachineError> {
        let mut found = Vec::new();
        for path in old(machine)? {
            let before = machine.read(&path)?.unwrap_or_default();
            let what = "the owner may have a copy of this key";
            found.push(Finding::new(KIND, &path, what, &before, "removed; a new key is made"));
        }
        Ok(found)
    }

    fn apply(&self, machine: &Machine, found: &[Finding]) -> Result<(), MachineError> {
        make(machine)?;
        let mut all = old(machine)?;
        all.extend(found.iter().map(|finding| PathBuf::from(&finding.path)));
        for path in all {
            machine.remove(&path)?;
            machine.remove(public_of(path))?;
        }
        Ok(())
    }

    fn touched(&self, machine: &Machine) -> Result<Vec<PathBuf>, MachineError> {
        let mut all = old(machine)?;
        all.extend(all.clone().into_iter().map(public_of));
        Ok(all.into_iter().collect())
    }
}

/// The file of the public half.
fn public_of(path: PathBuf) -> PathBuf {
    let mut public = path.into_os_string();
    public.push(".pub");
    public.into()
}

/// Private host keys that are not ours.
fn old(machine: &Machine) -> Result<BTreeSet<PathBuf>, MachineError> {
    let mut all = BTreeSet::new();
    for name in machine.names(FOLDER)? {
        let text = name.to_string_lossy();
        if text.starts_with("ssh_host_") && text.ends_with("_key") {
            all.insert(Path::new(FOLDER).join(name));
        }
    }
    if let Some(effective) = Effective::ask(machine, "root", &sshd_unit::options(machine)?)? {
        let named = effective.all("hostkey").map(PathBuf::from);
        all.extend(named.filter(|path| path != Path::new(OURS) && machine.exists(path)));
    }
    Ok(all)
}

/// Makes our key, once.
pub(super) fn make(machine: &Machine) -> Result<(), MachineError> {
    if machine.exists(OURS) {
        return Ok(());
    }
    let mut seed = [0; 32];
    rand::rngs::OsRng
        .try_fill_bytes(&mut seed)
        .map_err(|error| disk_error(Path::new("/dev/urandom"), io::Error::other(error)))?;
    let key = SecretKey::from_seed(seed);
    machine.folder(crate::keeper::doors::FOLDER, 0o755)?;
    // The private half last: it is what tells that both are there.
    machine.write(format!("{OURS}.pub"), format!("{}\n", key.public()).as_bytes(), 0o644)?;
    machine.write(OURS, key.to_openssh("host").as_bytes(), 0o600)
}

/// The public half.
pub(super) fn public(machine: &Machine) -> Result<Option<PublicKey>, MachineError> {
    Ok(machine.text(format!("{OURS}.pub"))?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::takeover::fake::server;

    #[test]
    fn the_old_keys_go_and_a_new_one_stays() {
        let (_folder, machine, _) = server();
        for name in ["ssh_host_rsa_key", "ssh_host_rsa_key.pub", "moduli"] {
            machine.write(format!("{FOLDER}/{name}"), b"x", 0o600).unwrap();
        }
        let found = HostKey.look(&machine).unwrap();
        assert!(found.iter().any(|finding| finding.path.ends_with("ssh_host_rsa_key")));
        HostKey.apply(&machine, &found).unwrap();
        let first = public(&machine).unwrap().unwrap();
        HostKey.apply(&machine, &found).unwrap();
        assert_eq!(public(&machine).unwrap(), Some(first));
        let left = machine.names(FOLDER).unwrap();
        assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("ssh_host_")));
        assert!(machine.exists("/etc/ssh/moduli"));
    }
}
