//! How systemd starts sshd: its unit, what overrides that, and the options it is started with.

use std::path::{Path, PathBuf};

use super::machine::{Machine, MachineError};

/// Debian's name, and everybody else's.
const UNITS: [&str; 2] = ["ssh.service", "sshd.service"];
/// Those and their socket-activated forms, for overrides.
const OVERRIDDEN: [&str; 4] = ["ssh.service", "sshd.service", "ssh@.service", "sshd@.service"];
/// Where an owner overrides the distribution's units.
const FOLDERS: [&str; 2] = ["/etc/systemd/system", "/run/systemd/system"];
/// Where the distribution's units are.
const VENDOR: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];
/// Files of options, and the variable in each.
pub(super) const OPTIONS: [(&str, &str); 2] =
    [("/etc/default/ssh", "SSHD_OPTS"), ("/etc/sysconfig/sshd", "OPTIONS")];

/// The options sshd is started with beside its unit's own.
pub(super) fn options(machine: &Machine) -> Result<Vec<String>, MachineError> {
    let mut words = Vec::new();
    for (path, variable) in OPTIONS {
        for line in machine.text(path)?.lines() {
            if let Some(value) = option_line(line, variable) {
                words = value.split_whitespace().map(str::to_owned).collect();
            }
        }
    }
    Ok(words)
}

/// What a line sets the variable to, without quotes.
pub(super) fn option_line<'a>(line: &'a str, variable: &str) -> Option<&'a str> {
    let value = line.trim().strip_prefix(variable)?.strip_prefix('=')?;
    Some(value.trim().trim_matches(['"', '\'']))
}

/// The same file with the variable set to nothing.
pub(super) fn without_options(text: &str, variable: &str) -> String {
    let mut changed = String::new();
    for line in text.split_inclusive('\n') {
        match option_line(line, variable) {
            Some(value) if !value.is_empty() => changed.push_str(&format!("{variable}=\n")),
            Some(_) | None => changed.push_str(line),
        }
    }
    changed
}

/// Files that override sshd's unit: drop-ins, and whole units in place of the distribution's.
pub(super) fn overrides(machine: &Machine) -> Result<Vec<PathBuf>, MachineError> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        for unit in OVERRIDDEN {
            let dropins = Path::new(folder).join(format!("{unit}.d"));
            for name in machine.names(&dropins)? {
                if Path::new(&name).extension().is_some_and(|end| end == "conf") {
                    found.push(dropins.join(name));
                }
            }
            let own = Path::new(folder).join(unit);
            let has_vendors = VENDOR.iter().any(|vendor| {
                UNITS.iter().any(|unit| machine.exists(Path::new(vendor).join(unit)))
            });
            // A link is an alias or a mask. Where there is no other unit, this one is sshd's.
            if machine.exists(&own) && !is_harmless_link(machine, &own) && has_vendors {
                found.push(own);
            }
        }
    }
    Ok(found)
}

/// A link to one of the distribution's units, or to nothing.
fn is_harmless_link(machine: &Machine, path: &Path) -> bool {
    std::fs::read_link(machine.at(path)).is_ok_and(|target| {
        target == Path::new("/dev/null") || VENDOR.iter().any(|vendor| target.starts_with(vendor))
    })
}

/// The name of sshd's unit on this server, if it has one.
pub(super) fn name(machine: &Machine) -> Result<Option<&'static str>, MachineError> {
    for unit in UNITS {
        if property(machine, unit, "LoadState")? == "loaded" {
            return Ok(Some(unit));
        }
    }
    Ok(None)
}

/// Makes a running sshd begin anew with what its files say now. Logins that are open stay open:
/// distributions end the listener alone.
pub(super) fn restart(machine: &Machine) -> Result<(), MachineError> {
    machine.systemctl(&["daemon-reload"])?;
    let Some(unit) = name(machine)? else { return Ok(()) };
    // Behind a socket, or during boot, it starts with the new files by itself.
    if property(machine, unit, "ActiveState")? != "active" {
        return Ok(());
    }
    machine.systemctl(&["restart", unit])?;
    let state = property(machine, unit, "ActiveState")?;
    if state == "active" {
        return Ok(());
    }
    let why = format!("is {state} after its restart; see journalctl -u {unit}");
    Err(MachineError::Odd { path: unit.into(), why })
}

/// One property of a unit.
pub(super) fn property(
    machine: &Machine,
    unit: &str,
    property: &str,
) -> Result<String, MachineError> {
    let asked = format!("--property={property}");
    Ok(machine.systemctl(&["show", &asked, "--value", unit])?.trim().to_owned())
}

/// What a running sshd was started with; empty if it does not run.
pub(super) fn command_line(machine: &Machine) -> Result<String, MachineError> {
    let Some(unit) = name(machine)? else { return Ok(String::new()) };
    let pid = property(machine, unit, "MainPID")?;
    // sshd shows its own words: `sshd: /usr/sbin/sshd -D [listener] …`.
    let shown = std::fs::read(machine.at(format!("/proc/{pid}/cmdline"))).unwrap_or_default();
    Ok(String::from_utf8_lossy(&shown).replace('\0', " ").trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::takeover::fake::server;

    #[test]
    fn options_are_read_and_emptied() {
        let text = "# x\nSSHD_OPTS=\"-p 2222 -o PermitRootLogin=yes\"\nOTHER=1\n";
        let (_folder, machine, _) = server();
        machine.folder("/etc/default", 0o755).unwrap();
        machine.write(OPTIONS[0].0, text.as_bytes(), 0o644).unwrap();
        assert_eq!(options(&machine).unwrap(), ["-p", "2222", "-o", "PermitRootLogin=yes"]);
        let without = without_options(text, "SSHD_OPTS");
        assert_eq!(without, "# x\nSSHD_OPTS=\nOTHER=1\n");
        assert_eq!(without_options(&without, "SSHD_OPTS"), without);
    }

    #[test]
    fn drop_ins_and_whole_units_are_found_and_aliases_are_not() {
        let (_folder, machine, _) = server();
        machine.folder("/etc/systemd/system/ssh.service.d", 0o755).unwrap();
        machine.write("/etc/systemd/system/ssh.service.d/x.conf", b"[Service]\n", 0o644).unwrap();
        machine.write("/etc/systemd/system/ssh.service.d/note.txt", b"", 0o644).unwrap();
        machine.write("/etc/systemd/system/ssh.service", b"[Service]\n", 0o644).unwrap();
        let vendor = Path::new("/lib/systemd/system/ssh.service");
        machine.link("/etc/systemd/system/sshd.service", vendor).unwrap();
        let found = overrides(&machine).unwrap();
        assert_eq!(
            found,
            [
                Path::new("/etc/systemd/system/ssh.service.d/x.conf"),
                Path::new("/etc/systemd/system/ssh.service"),
            ]
        );
    }
}
