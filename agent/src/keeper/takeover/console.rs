//! Consoles that ask for nothing: automatic logins, systemd's debug shell, rescue without password.

use std::path::{Path, PathBuf};

use super::catalogue::Kind;
use super::finding::Finding;
use super::guest_agent::mask;
use super::machine::{Machine, MachineError};
use super::sshd_unit::property;

const KIND: &str = "console";
/// systemd's root shell on a console.
pub(super) const DEBUG_SHELL: &str = "debug-shell.service";
/// Where an owner overrides units (systemd.unit(5)). What generators make comes back with each
/// `daemon-reload`, and a look that finds it for ever would end no hand-over.
const FOLDERS: [&str; 6] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
];
/// Beginnings of the names of units that have to do with consoles.
const UNITS: [&str; 7] = [
    "getty@",
    "serial-getty@",
    "container-getty@",
    "console-getty",
    "autovt@",
    "rescue",
    "emergency",
];
/// The word by which systemd's rescue asks for nothing.
const FORCE: &str = "SYSTEMD_SULOGIN_FORCE";
/// Options of agetty that let somebody in, or run another program than login, each as its shortest
/// abbreviation.
const OPENING: [&str; 4] = ["--a", "--sk", "--login-p", "--host"];
/// The same in one letter, and `-f` for login.
const LETTERS: [char; 4] = ['a', 'n', 'l', 'f'];

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

    fn touched(&self, machine: &Machine) -> Result<Vec<PathBuf>, MachineError> {
        open(machine)
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
            } else if !is_vendors_link(machine, &path) {
                found.push(path);
            }
        }
    }
    let mut opening = Vec::new();
    for path in found {
        let text = machine.text(&path)?;
        let mut lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
        if lines.any(opens) {
            opening.push(path);
        }
    }
    Ok(opening)
}

/// Whether a line of such a unit lets somebody in without a password. What is taken for one and is none
/// costs its owner an override of a console, which then asks as it does on a fresh system.
fn opens(line: &str) -> bool {
    if line.contains(FORCE) {
        return true;
    }
    let Some((key, command)) = line.split_once('=') else { return false };
    if !key.trim_end().starts_with("ExecStart") || command.trim().is_empty() {
        return false;
    }
    let mut words = command.split_whitespace().map(|word| word.trim_matches(['\'', '"']));
    let program = words.next().unwrap_or_default().trim_start_matches(['-', '@', ':', '+', '!']);
    let program = program.rsplit('/').next().unwrap_or_default();
    let letters = match program {
        "agetty" | "getty" => &LETTERS[..],
        // With -e it lets root in whose password is locked.
        "sulogin" => &['e'][..],
        "systemd-sulogin-shell" | "plymouth" => return false,
        _ => return true,
    };
    words.any(|word| match word.strip_prefix("--") {
        Some(_) => OPENING.iter().any(|long| word.starts_with(long)) || word.starts_with("--fo"),
        None => word.strip_prefix('-').is_some_and(|short| short.contains(letters)),
    })
}

/// A mask, or a link to one of the distribution's units.
fn is_vendors_link(machine: &Machine, path: &Path) -> bool {
    const VENDORS: [&str; 2] = ["/usr/lib/systemd", "/lib/systemd"];
    std::fs::read_link(machine.at(path)).is_ok_and(|target| {
        target == Path::new("/dev/null") || VENDORS.iter().any(|folder| target.starts_with(folder))
    })
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
        // As the distribution has it, and as an administrator may who wants no clear screen.
        let asks =
            b"[Service]\nExecStart=\nExecStart=-/sbin/agetty -o '-p -- \\u' --noclear %I $TERM\n";
        machine.write(format!("{folder}/asks.conf"), asks, 0o644).unwrap();
        let found = Console.look(&machine).unwrap();
        assert_eq!(found.len(), 1, "{found:#?}");
        Console.apply(&machine, &found).unwrap();
        assert_eq!(Console.look(&machine).unwrap(), []);
        let mut left = machine.names(folder).unwrap();
        left.sort();
        assert_eq!(left, ["asks.conf", "other.conf"]);
    }

    #[test]
    fn every_spelling_of_a_console_that_asks_for_nothing_is_found() {
        for line in [
            "ExecStart=-/sbin/agetty --autologin root %I",
            "ExecStart=-/sbin/agetty --autol root %I",
            "ExecStart=-/sbin/agetty -aroot %I",
            "ExecStart=-/sbin/agetty -n -l /bin/bash %I",
            "ExecStart=@-/sbin/agetty agetty -Lna root ttyS0",
            "ExecStart=-/sbin/agetty -o '-f root' %I",
            "ExecStart=-/sbin/agetty --login-program=/bin/sh %I",
            "ExecStart=/bin/bash",
            "ExecStart = /usr/sbin/sulogin --force",
            "ExecStart=-/sbin/sulogin -e",
            "Environment=SYSTEMD_SULOGIN_FORCE=1",
        ] {
            assert!(opens(line), "{line}");
        }
        for line in [
            "ExecStart=",
            "ExecStartPre=",
            "TTYVTDisallocate=no",
            "ExecStart=-/sbin/agetty -o '-p -- \\u' --keep-baud 115200,57600,38400,9600 - $TERM",
            "ExecStart=-/lib/systemd/systemd-sulogin-shell rescue",
            "ExecStart=-/sbin/sulogin",
        ] {
            assert!(!opens(line), "{line}");
        }
    }

    #[test]
    fn an_override_is_found_wherever_systemd_reads_it() {
        let (_folder, machine, _) = server();
        let auto = b"[Service]\nExecStart=\nExecStart=-/sbin/agetty -a root %I\n";
        for folder in FOLDERS {
            let folder = format!("{folder}/serial-getty@ttyS0.service.d");
            machine.folder(&folder, 0o755).unwrap();
            machine.write(format!("{folder}/auto.conf"), auto, 0o644).unwrap();
        }
        machine.folder("/srv", 0o755).unwrap();
        machine.write("/srv/x.service", auto, 0o644).unwrap();
        let link = machine.at("/etc/systemd/system/getty@tty2.service");
        std::os::unix::fs::symlink(machine.at("/srv/x.service"), link).unwrap();
        let found = Console.look(&machine).unwrap();
        assert_eq!(found.len(), FOLDERS.len() + 1, "{found:#?}");
        Console.apply(&machine, &found).unwrap();
        assert_eq!(Console.look(&machine).unwrap(), []);
    }
}
