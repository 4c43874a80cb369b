//! Programs through which a provider does things in the server: cloud-init sets keys and passwords
//! at boot, guest agents do it while it runs.
//!
//! Whoever runs the hypervisor is root in its guests anyway, and no software in a guest changes
//! that; what ends here is the comfortable way.

use std::path::{Path, PathBuf};

use super::catalogue::Kind;
use super::finding::Finding;
use super::machine::{Machine, MachineError};
use super::sshd_unit::property;

const KIND: &str = "agent";
/// With it cloud-init does nothing at boot.
const CLOUD_OFF: &str = "/etc/cloud/cloud-init.disabled";
/// Where any of these is, cloud-init is installed.
const CLOUD: [&str; 3] = ["/usr/bin/cloud-init", "/etc/cloud/cloud.cfg", "/usr/sbin/cloud-init"];
/// Where the owner's units and masks are.
const UNITS: &str = "/etc/systemd/system";
/// Agents of hypervisors and providers that take orders, by their units.
pub(super) const AGENTS: [&str; 18] = [
    "qemu-guest-agent.service",
    "google-guest-agent.service",
    "google-guest-agent-manager.service",
    "google-startup-scripts.service",
    "google-shutdown-scripts.service",
    "google-osconfig-agent.service",
    "amazon-ssm-agent.service",
    "snap.amazon-ssm-agent.amazon-ssm-agent.service",
    "walinuxagent.service",
    "waagent.service",
    "open-vm-tools.service",
    "vmtoolsd.service",
    "vgauth.service",
    "droplet-agent.service",
    "oracle-cloud-agent.service",
    "aliyun.service",
    "prltoolsd.service",
    "xe-daemon.service",
];

/// cloud-init and guest agents.
pub(super) struct GuestAgent;

impl Kind for GuestAgent {
    fn name(&self) -> &'static str {
        KIND
    }

    fn about(&self) -> &'static str {
        "programs that take orders from the provider"
    }

    fn look(&self, machine: &Machine) -> Result<Vec<Finding>, MachineError> {
        let mut found = Vec::new();
        if CLOUD.iter().any(|path| machine.exists(path)) && !machine.exists(CLOUD_OFF) {
            let what = "cloud-init sets keys, passwords and commands at boot";
            found.push(Finding::new(KIND, CLOUD_OFF, what, b"", "does nothing any more"));
        }
        for unit in AGENTS {
            if property(machine, unit, "LoadState")? == "loaded" {
                let file = machine.read(Path::new(UNITS).join(unit))?.unwrap_or_default();
                let what = "takes orders from whoever runs the hypervisor";
                found.push(Finding::new(KIND, unit, what, &file, "stopped and masked"));
            }
        }
        Ok(found)
    }

    fn apply(&self, machine: &Machine, found: &[Finding]) -> Result<(), MachineError> {
        for finding in found {
            if finding.path == CLOUD_OFF {
                machine.folder("/etc/cloud", 0o755)?;
                machine.write(CLOUD_OFF, b"# root belongs to a network; see borgios\n", 0o644)?;
            } else if AGENTS.contains(&finding.path.as_str()) {
                mask(machine, &finding.path)?;
            }
        }
        Ok(())
    }

    fn touched(&self, _machine: &Machine) -> Result<Vec<PathBuf>, MachineError> {
        Ok(vec![PathBuf::from(CLOUD_OFF)])
    }
}

/// Nothing starts the unit any more, and it runs no longer. Stopped first: a unit that is masked
/// while it runs would be stopped without what its file says about that.
pub(super) fn mask(machine: &Machine, unit: &str) -> Result<(), MachineError> {
    machine.systemctl(&["stop", unit])?;
    machine.folder(UNITS, 0o755)?;
    machine.link(Path::new(UNITS).join(unit), Path::new("/dev/null"))?;
    machine.systemctl(&["daemon-reload"]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::takeover::fake::server;

    #[test]
    fn agents_are_stopped_and_masked_and_cloud_init_is_off() {
        let (_folder, machine, fake) = server();
        fake.unit("qemu-guest-agent.service");
        machine.folder("/etc/cloud", 0o755).unwrap();
        machine.write("/etc/cloud/cloud.cfg", b"", 0o644).unwrap();
        let found = GuestAgent.look(&machine).unwrap();
        assert_eq!(found.len(), 2, "{found:#?}");
        GuestAgent.apply(&machine, &found).unwrap();
        assert_eq!(GuestAgent.look(&machine).unwrap(), []);
        assert!(fake.calls().iter().any(|call| call.ends_with("stop qemu-guest-agent.service")));
    }
}
