//! The way back, and after the purge the way on, that need nobody: a timer for the deadline and a
//! unit for the next boot.
//!
//! Both lie on disk and run the copy of this program that bootstrap.sh keeps, so they work when
//! `/opt/borgios` is not there, or not any more.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::machine::{Machine, MachineError};

/// The copy that they run.
pub(super) const PROGRAM: &str = "/var/lib/borgios-bootstrap/keeper";
const UNITS: &str = "/etc/systemd/system";
const SERVICE: &str = "borgios-takeover.service";
const TIMER: &str = "borgios-takeover.timer";

/// Before sshd and the agent, so that a boot meets the old state or the new one.
const SERVICE_TEXT: &str = "[Unit]
Description=BorgIOS take-over: what was cut off goes on, or goes back
After=local-fs.target
Before=ssh.service sshd.service borgios-keeper.service borgiosd.service

[Service]
Type=oneshot
ExecStart=/var/lib/borgios-bootstrap/keeper takeover resume --by-systemd
TimeoutStartSec=300

[Install]
WantedBy=multi-user.target
";

/// Where the four files lie.
pub(super) fn files() -> BTreeSet<PathBuf> {
    let units = Path::new(UNITS);
    BTreeSet::from([
        units.join(SERVICE),
        units.join(TIMER),
        units.join("multi-user.target.wants").join(SERVICE),
        units.join("timers.target.wants").join(TIMER),
    ])
}

/// Writes and enables both; [`start`] begins to count.
pub(super) fn arm(machine: &Machine, deadline_s: u64) -> Result<(), MachineError> {
    let units = Path::new(UNITS);
    // After the deadline once a minute, should the way back have failed.
    let timer = format!(
        "[Unit]\nDescription=BorgIOS take-over: the deadline\n\n[Timer]\nOnActiveSec={deadline_s}\n\
         OnUnitInactiveSec=60\nAccuracySec=1s\n\n[Install]\nWantedBy=timers.target\n"
    );
    machine.folder(units, 0o755)?;
    machine.write(units.join(SERVICE), SERVICE_TEXT.as_bytes(), 0o644)?;
    machine.write(units.join(TIMER), timer.as_bytes(), 0o644)?;
    for (target, unit) in [("multi-user.target.wants", SERVICE), ("timers.target.wants", TIMER)] {
        machine.folder(units.join(target), 0o755)?;
        machine.link(units.join(target).join(unit), &Path::new("..").join(unit))?;
    }
    machine.systemctl(&["daemon-reload"]).map(drop)
}

/// Begins to count.
pub(super) fn start(machine: &Machine) -> Result<(), MachineError> {
    machine.systemctl(&["restart", TIMER]).map(drop)
}

/// Whether any of it is there.
pub(super) fn is_armed(machine: &Machine) -> bool {
    files().iter().any(|path| machine.exists(path))
}

/// Removes both. Never stops the service: it may be what runs this.
pub(super) fn disarm(machine: &Machine) -> Result<(), MachineError> {
    if !is_armed(machine) {
        return Ok(());
    }
    machine.systemctl(&["stop", TIMER])?;
    for path in files() {
        machine.remove(path)?;
    }
    machine.systemctl(&["daemon-reload"]).map(drop)
}
