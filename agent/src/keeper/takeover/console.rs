//! Consoles that ask for nothing: automatic logins, systemd's debug shell, rescue without password.

use std::path::{Path, PathBuf};

use super::catalogue::Kind;
use super::finding::Finding;
use super::guest_agent::mask;
use super::machine::{Machine, MachineError};
use super::sshd_unit::property;

const KIND: &str = "console";
const DEBUG_SHELL: &str = "debug-shell.service";
/// Where an owner overrides units.
const FOLDERS: [&str; 2] = ["/etc/systemd/system", "/run/systemd/system"];
/// Beginnings of the names of units that have to do with consoles.
const UNITS: [&str; 7] =
    ["getty@", "serial-getty@", "container-getty@", "console-getty", "autovt@", "rescue", "emergency"];
/// Words that open a console without a password.
const WORDS: [&str; 5] = ["--autologin", " -a ", "--skip-login", "SYSTEMD_SULOGIN_FORCE", "/bin/login -f"];

/// Consoles.
pub(super) struct Console;

impl Kind for Console {
    fn name(&self) -> &'static str {
        KIND
    }

    fn about(&self) -> &'static str {
        "consoles that ask for no password"
    }

    fn look(&self, machine: &Machine) -> Result<Vec<Finding>, MachineError> {
        let mut found = Vec::new();
        for path in open(machine)? {
            let before = machine.read(&path)?.unwrap_or_default();
            let what = "opens a console without a password";
            found.push(Finding::new(KIND, &path, what, &before, "removed"));
        }
        let state = property(machine, DEBUG_SHELL, "UnitFileState")?;
        let runs = property(machine, DEBUG_SHELL, "ActiveState")? == "active";
        if runs || state.starts_with("enabled") {
            let what = "is a root shell on a console, without a password";
            found.push(Finding::new(KIND, DEBUG_SHELL, what, b"", "stopped and masked"));
        }
        Ok(found)
    }

    fn apply(&self, machine: &Machine, found: &[Finding]) -> Result<(), MachineError> {
        for path in open(machine)? {
            machine.remove(path)?;
        }
        if found.iter().any(|finding| finding.path == DEBUG_SHELL) {
            mask(machine, DEBUG_SHELL)?;
        }
        machine.systemctl(&["daemon-reload"]).map(drop)
    }
}

/// Overrides that open a console: drop-ins, and whole units.
fn open(machine: &Machine) -> Result<Vec<PathBuf>, MachineError> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        for name in machine.names(folder)? {
            let text = name.to_string_lossy();
            if !UNITS.iter().any(|unit| text.starts_with(unit)) {
                continue;
            }
            let path = Path::new(folder).join(&name);
            if text.ends_with(".d") {
                for drop_in in machine.names(&path)? {
                    found.push(path.join(drop_in));
                }
            } else if !machine.is_link(&path) {
                found.push(path);
            }
        }
    }
    let mut opening = Vec::new();
    for path in found {
        let text = machine.text(&path)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
        if lines.into_iter().any(|line| WORDS.iter().any(|word| line.contains(word))) {
            opening.push(path);
        }
    }
    Ok(opening)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::takeover::fake::server;

    #[test]
    fn only_overrides_that_open_a_console_go() {
        let (_folder, machine, _) = server();
        let folder = "/etc/systemd/system/getty@tty1.service.d";
        machine.folder(folder, 0o755).unwrap();
        let auto = b"[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root %I\n";
        machine.write(format!("{folder}/auto.conf"), auto, 0o644).unwrap();
        let other = b"[Service]\n# --autologin\nTTYVTDisallocate=no\n";
        machine.write(format!("{folder}/other.conf"), other, 0o644).unwrap();
        let found = Console.look(&machine).unwrap();
        assert_eq!(found.len(), 1, "{found:#?}");
        Console.apply(&machine, &found).unwrap();
        assert_eq!(Console.look(&machine).unwrap(), []);
        assert_eq!(machine.names(folder).unwrap(), ["other.conf"]);
    }
}
