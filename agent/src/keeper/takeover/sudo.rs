//! Who may run commands as root: sudo and doas.
//!
//! Afterwards sudo's configuration is one file of ours that grants nothing and includes nothing.

use std::path::{Path, PathBuf};

use super::catalogue::Kind;
use super::finding::Finding;
use super::machine::{Machine, MachineError};

const KIND: &str = "sudo";
const SUDOERS: &str = "/etc/sudoers";
const SUDOERS_D: &str = "/etc/sudoers.d";
/// doas on Debian, and where it was built from source.
const DOAS: [&str; 3] = ["/etc/doas.conf", "/etc/doas.d", "/usr/local/etc/doas.conf"];
const OURS: &str = "# Written by borgios-keeper: root of this server belongs to its network.\n\
                    # It grants nothing to anybody and includes nothing.\n\
                    Defaults env_reset\n";

/// sudo and doas.
pub(super) struct Sudo;

impl Kind for Sudo {
    fn name(&self) -> &'static str {
        KIND
    }

    fn about(&self) -> &'static str {
        "who may run commands as root"
    }

    fn look(&self, machine: &Machine) -> Result<Vec<Finding>, MachineError> {
        let mut found = Vec::new();
        let before = machine.read(SUDOERS)?.unwrap_or_default();
        if machine.exists(SUDOERS) && before != OURS.as_bytes() {
            let action = "a file that grants nothing";
            found.push(Finding::new(KIND, SUDOERS, grants(&before), &before, action));
        }
        for path in removed(machine)? {
            let before = machine.read(&path)?.unwrap_or_default();
            found.push(Finding::new(KIND, &path, grants(&before), &before, "removed"));
        }
        Ok(found)
    }

    fn apply(&self, machine: &Machine, _found: &[Finding]) -> Result<(), MachineError> {
        if machine.exists(SUDOERS) {
            machine.write(SUDOERS, OURS.as_bytes(), 0o440)?;
        }
        for path in removed(machine)? {
            machine.remove(path)?;
        }
        Ok(())
    }

    fn touched(&self, machine: &Machine) -> Result<Vec<PathBuf>, MachineError> {
        removed(machine)
    }
}

/// What is removed whole.
fn removed(machine: &Machine) -> Result<Vec<PathBuf>, MachineError> {
    let mut all = Vec::new();
    for name in machine.names(SUDOERS_D)? {
        let path = Path::new(SUDOERS_D).join(name);
        let text = machine.text(&path)?;
        // Debian's README there is all comments, and harmless.
        if text.trim().is_empty() || text.lines().any(says_something) {
            all.push(path);
        }
    }
    all.extend(DOAS.iter().map(PathBuf::from).filter(|path| machine.exists(path)));
    Ok(all)
}

/// Whether sudo reads a line. `#include` is no comment to it, nor is `#1000`, a uid.
fn says_something(line: &str) -> bool {
    let line = line.trim();
    match line.strip_prefix('#') {
        Some(rest) => rest.starts_with("include") || rest.starts_with(|c: char| c.is_ascii_digit()),
        None => !line.is_empty(),
    }
}

/// What a file grants, in words.
fn grants(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| says_something(line) && !line.starts_with("Defaults"))
        .collect();
    match lines.as_slice() {
        [] => "is not ours".to_owned(),
        [one] => (*one).to_owned(),
        many => format!("{} lines: {}", many.len(), many.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::takeover::fake::server;

    #[test]
    fn afterwards_nobody_is_granted_anything() {
        let (_folder, machine, _) = server();
        machine.write(SUDOERS, b"Defaults env_reset\nroot ALL=(ALL) ALL\n", 0o440).unwrap();
        machine.folder(SUDOERS_D, 0o750).unwrap();
        for (name, text) in [
            ("README", "# only comments\n"),
            ("90-cloud-init-users", "ann ALL=(ALL) NOPASSWD:ALL\n"),
            ("uid", "#1000 ALL=(ALL) ALL\n"),
            ("more", "#includedir /srv\n"),
        ] {
            machine.write(Path::new(SUDOERS_D).join(name), text.as_bytes(), 0o440).unwrap();
        }
        machine.write(DOAS[0], b"permit nopass ann\n", 0o400).unwrap();
        let found = Sudo.look(&machine).unwrap();
        assert_eq!(found.len(), 5, "{found:#?}");
        Sudo.apply(&machine, &found).unwrap();
        assert_eq!(Sudo.look(&machine).unwrap(), []);
        assert_eq!(machine.text(SUDOERS).unwrap(), OURS);
        assert_eq!(machine.names(SUDOERS_D).unwrap(), ["README"]);
    }

    #[test]
    fn a_server_without_sudo_gets_none() {
        let (_folder, machine, _) = server();
        machine.remove(SUDOERS).unwrap();
        Sudo.apply(&machine, &[]).unwrap();
        assert!(!machine.exists(SUDOERS));
    }
}
