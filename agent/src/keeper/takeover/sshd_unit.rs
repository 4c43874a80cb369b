//! How systemd starts sshd: its unit, what overrides that, and the options it is started with.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::generated;
use super::machine::{Machine, MachineError};

/// Debian's name, and everybody else's.
const UNITS: [&str; 2] = ["ssh.service", "sshd.service"];
/// Those and their socket-activated forms, for overrides.
const OVERRIDDEN: [&str; 4] = ["ssh.service", "sshd.service", "ssh@.service", "sshd@.service"];
/// Units that systemd can be asked about: a template only under the name of an instance.
const ASKED: [&str; 4] =
    ["ssh.service", "sshd.service", "ssh@borgios.service", "sshd@borgios.service"];
/// What systemd calls the units of single connections, where a socket starts sshd for each.
const CONNECTIONS: [&str; 2] = ["ssh@*.service", "sshd@*.service"];
/// What overrides every service.
const EVERY_SERVICE: &str = "service.d";
/// Where systemd looks for units besides the distribution's folders (systemd.unit(5)).
const FOLDERS: [&str; 11] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/run/systemd/generator.late",
];
/// Where the distribution's units are.
const VENDOR: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];
/// Files of options, and the variable in each. Every other variable in them reaches sshd too,
/// `LD_PRELOAD` for one.
pub(super) const OPTIONS: [(&str, &str); 2] =
    [("/etc/default/ssh", "SSHD_OPTS"), ("/etc/sysconfig/sshd", "OPTIONS")];

/// The options sshd is started with beside its unit's own.
pub(super) fn options(machine: &Machine) -> Result<Vec<String>, MachineError> {
    let mut words = Vec::new();
    for (path, variable) in OPTIONS {
        for line in lines(&machine.text(path)?) {
            if let Some(value) = option_line(line, variable) {
                words = value.split_whitespace().map(str::to_owned).collect();
            }
        }
    }
    Ok(words)
}

/// Lines as systemd has them: it ends one at a carriage return too.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split(['\n', '\r'])
}

/// What a line sets the variable to, without quotes. systemd allows blanks around the `=`; a line
/// with `export` means nothing to it.
fn option_line<'a>(line: &'a str, variable: &str) -> Option<&'a str> {
    let (name, value) = line.split_once('=')?;
    (name.trim() == variable).then(|| value.trim().trim_matches(['"', '\'']))
}

/// Whether a file of options says nothing at all: comments, and the variable set to nothing.
pub(super) fn says_nothing(text: &str, variable: &str) -> bool {
    let nothing = format!("{variable}=");
    let is_quiet = |line: &str| {
        let line = line.trim_matches([' ', '\t']);
        // A comment that ends so may go on in the next line, or not: nobody has to know.
        let is_comment = line.starts_with('#') && !line.ends_with('\\');
        line.is_empty() || is_comment || line == nothing
    };
    lines(text).all(is_quiet)
}

/// A file of options that says nothing: the whole of it.
pub(super) fn no_options(variable: &str) -> String {
    format!(
        "# Written by borgios-keeper: root of this server belongs to its network.\n\
         # sshd is started without options; its one configuration file says all.\n{variable}=\n"
    )
}

/// Files that override sshd's unit: drop-ins, and whole units in place of the distribution's. Both
/// what systemd says it has read, and what it would read the next time; not what a container's
/// generator says of every service.
pub(super) fn overrides(machine: &Machine) -> Result<Vec<PathBuf>, MachineError> {
    let mut found = BTreeSet::new();
    let has_vendors = has_vendors(machine);
    for folder in FOLDERS.map(Path::new) {
        let dropins = OVERRIDDEN.map(|unit| format!("{unit}.d"));
        for dropins in dropins.iter().map(String::as_str).chain([EVERY_SERVICE]) {
            let dropins = folder.join(dropins);
            for name in machine.names(&dropins)? {
                if Path::new(&name).extension().is_some_and(|end| end == "conf") {
                    found.insert(dropins.join(name));
                }
            }
        }
        for own in OVERRIDDEN.map(|unit| folder.join(unit)) {
            // A link is an alias or a mask. Where there is no other unit, this one is sshd's.
            if machine.exists(&own) && !is_harmless_link(machine, &own) && has_vendors {
                found.insert(own);
            }
        }
    }
    for unit in ASKED {
        if property(machine, unit, "LoadState")? != "loaded" {
            continue;
        }
        for asked in ["FragmentPath", "DropInPaths"] {
            let said = property(machine, unit, asked)?;
            let paths = said.split_whitespace().map(PathBuf::from);
            // Until it reads its files anew systemd names what has gone. What it cannot show as one
            // word (`[unprintable]`) is nobody's honest name.
            found.extend(paths.filter(|path| {
                let is_there = !path.is_absolute() || machine.exists(path);
                is_there && !is_vendors(path) && !is_harmless_link(machine, path)
            }));
        }
    }
    found.retain(|path| !generated::is_harmless(machine, path));
    Ok(found.into_iter().collect())
}

/// Removes what [`overrides`] found.
pub(super) fn remove_override(machine: &Machine, path: &Path) -> Result<(), MachineError> {
    let odd = |why: &str| {
        let why = format!("changes what sshd runs, and {why}");
        Err(MachineError::Odd { path: path.to_owned(), why })
    };
    if !path.is_absolute() {
        return odd("has a name that systemd cannot show; see `systemctl cat ssh.service`");
    }
    let is_unit = OVERRIDDEN.iter().any(|unit| path.ends_with(unit));
    if is_unit && !has_vendors(machine) {
        return odd("there is no other unit of sshd's: install the distribution's openssh-server");
    }
    match std::fs::symlink_metadata(machine.at(path)) {
        Ok(meta) if meta.is_dir() => odd("is a folder: remove it by hand"),
        Ok(meta) if !meta.is_file() && !meta.is_symlink() => odd("is no file: remove it by hand"),
        // Gone is as good.
        Ok(_) | Err(_) => machine.remove(path),
    }
}

/// Whether the distribution has a unit for sshd.
fn has_vendors(machine: &Machine) -> bool {
    let mut all = VENDOR.iter().flat_map(|folder| UNITS.map(|unit| Path::new(folder).join(unit)));
    all.any(|path| machine.exists(path))
}

/// Whether a path lies in the distribution's folders and nowhere else.
fn is_vendors(path: &Path) -> bool {
    VENDOR.iter().any(|vendor| path.starts_with(vendor))
        && path.components().all(|part| part != Component::ParentDir)
}

/// A link to one of the distribution's units of sshd, or to nothing.
fn is_harmless_link(machine: &Machine, path: &Path) -> bool {
    std::fs::read_link(machine.at(path)).is_ok_and(|target| {
        target == Path::new("/dev/null")
            || (is_vendors(&target) && OVERRIDDEN.iter().any(|unit| target.ends_with(unit)))
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

/// The main processes of connections that have a unit each. What such a process forked and left behind
/// is none.
pub(super) fn connections(machine: &Machine) -> Result<BTreeSet<u32>, MachineError> {
    let [ssh, sshd] = CONNECTIONS;
    let said = machine.systemctl(&["show", "--property=MainPID", "--value", ssh, sshd])?;
    // A line for each unit, and 0 for one that has none.
    let pids = said.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok());
    Ok(pids.filter(|pid| *pid != 0).collect())
}

/// What a running sshd was started with; empty if it does not run.
pub(super) fn command_line(machine: &Machine) -> Result<String, MachineError> {
    let Some(unit) = name(machine)? else { return Ok(String::new()) };
    let pid = property(machine, unit, "MainPID")?;
    // sshd shows its own words: `sshd: /usr/sbin/sshd -D [listener] …`.
    let shown = std::fs::read(machine.at(format!("/proc/{pid}/cmdline"))).unwrap_or_default();
    Ok(String::from_utf8_lossy(&shown).replace('\0', " ").trim().to_owned())
}

/// Options in a command line besides the one of every distribution's unit: stay in the foreground.
pub(super) fn own_options(started: &str) -> Vec<&str> {
    started.split_whitespace().filter(|word| word.starts_with('-') && *word != "-D").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::takeover::fake::server;

    #[test]
    fn options_are_read_as_systemd_reads_them() {
        let (_folder, machine, _) = server();
        machine.folder("/etc/default", 0o755).unwrap();
        for (text, words) in [
            ("# x\nSSHD_OPTS=\"-p 2222 -o PermitRootLogin=yes\"\nA=1\n", &["-p", "2222"][..]),
            ("SSHD_OPTS =-p 2222\n", &["-p", "2222"]),
            (" SSHD_OPTS\t= '-p 2222'\n", &["-p", "2222"]),
            ("export SSHD_OPTS=-p2222\n", &[]),
        ] {
            machine.write(OPTIONS[0].0, text.as_bytes(), 0o644).unwrap();
            let read = options(&machine).unwrap();
            assert!(read.starts_with(&words.iter().map(|w| w.to_string()).collect::<Vec<_>>()));
            assert_eq!(read.is_empty(), words.is_empty(), "{text:?}: {read:?}");
        }
    }

    #[test]
    fn a_file_of_options_that_says_anything_at_all_is_seen() {
        for quiet in ["", "\n", "# Debian's\n\n  # x\nSSHD_OPTS=\n", &no_options("SSHD_OPTS")] {
            assert!(says_nothing(quiet, "SSHD_OPTS"), "{quiet:?}");
        }
        for loud in [
            "SSHD_OPTS=-oPermitRootLogin=yes\n",
            "SSHD_OPTS =-oPermitRootLogin=yes\n",
            "export SSHD_OPTS=-oPermitRootLogin=yes\n",
            "export SSHD_OPTS=\n",
            "LD_PRELOAD=/home/ann/x.so\n",
            "# a comment\rLD_PRELOAD=/home/ann/x.so\n",
            "# a comment that goes on \\\nLD_PRELOAD=/home/ann/x.so\n",
            "SSHD_OPTS=\\\n# -oPermitRootLogin=yes\n",
            "\u{a0}# x\n",
        ] {
            assert!(!says_nothing(loud, "SSHD_OPTS"), "{loud:?}");
        }
    }

    #[test]
    fn every_option_but_one_is_seen_in_a_command_line() {
        let debians = "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups";
        assert_eq!(own_options(debians), Vec::<&str>::new());
        for own in ["-oPermitRootLogin=yes", "-f/srv/x", "-p22", "-De", "-C", "--"] {
            assert_eq!(own_options(&format!("sshd: /usr/sbin/sshd -D {own} [listener]")), [own]);
        }
    }

    #[test]
    fn overrides_are_found_in_every_folder_and_by_what_systemd_says() {
        let (_folder, machine, fake) = server();
        let mut planted = BTreeSet::new();
        let mut plant = |path: &str| {
            machine.folder(Path::new(path).parent().unwrap(), 0o755).unwrap();
            machine.write(path, b"[Service]\n", 0o644).unwrap();
            planted.insert(PathBuf::from(path));
        };
        for folder in FOLDERS {
            plant(&format!("{folder}/ssh.service.d/x.conf"));
            plant(&format!("{folder}/service.d/x.conf"));
        }
        // Where nobody would look, but for systemd's word.
        for path in ["/srv/a.conf", "/srv/ssh.service", "/usr/lib/systemd/system/../../x.conf"] {
            plant(path);
        }
        machine.folder("/usr/lib/systemd/system/ssh.service.d", 0o755).unwrap();
        for vendors in ["ssh.service", "ssh.service.d/10.conf"] {
            let path = Path::new(VENDOR[0]).join(vendors);
            machine.write(path, b"[Service]\n", 0o644).unwrap();
        }
        fake.property("ssh.service", "FragmentPath", "/srv/ssh.service");
        let said = "/srv/a.conf /srv/gone.conf /usr/lib/systemd/system/../../x.conf \
                    /usr/lib/systemd/system/ssh.service.d/10.conf";
        fake.property("ssh.service", "DropInPaths", said);
        let found = overrides(&machine).unwrap();
        assert_eq!(found.iter().cloned().collect::<BTreeSet<_>>(), planted);
        for path in found {
            remove_override(&machine, &path).unwrap();
        }
        assert_eq!(overrides(&machine).unwrap(), Vec::<PathBuf>::new());
        assert!(machine.exists("/usr/lib/systemd/system/ssh.service.d/10.conf"));
    }

    #[test]
    fn what_cannot_be_removed_is_said() {
        let (_folder, machine, fake) = server();
        fake.property("ssh.service", "DropInPaths", "[unprintable] /srv");
        machine.folder("/srv", 0o755).unwrap();
        fake.property("ssh.service", "FragmentPath", "/etc/systemd/system/ssh.service");
        machine.write("/etc/systemd/system/ssh.service", b"[Service]\n", 0o644).unwrap();
        let found = overrides(&machine).unwrap();
        assert_eq!(found.len(), 3, "{found:?}");
        let said = |path: &PathBuf| remove_override(&machine, path).unwrap_err().to_string();
        let said: Vec<_> = found.iter().map(said).collect();
        for (said, why) in said.iter().zip(["no other unit", "is a folder", "cannot show"]) {
            assert!(said.contains(why), "{said}");
        }
        assert!(machine.exists("/etc/systemd/system/ssh.service") && machine.exists("/srv"));
    }

    #[test]
    fn only_a_link_to_sshds_own_unit_is_harmless() {
        let (_folder, machine, _) = server();
        let vendor = Path::new("/lib/systemd/system");
        machine.folder(vendor, 0o755).unwrap();
        machine.write(vendor.join("ssh.service"), b"[Service]\n", 0o644).unwrap();
        let own = "/etc/systemd/system/sshd.service";
        for (target, harmless) in [
            ("/lib/systemd/system/ssh.service", true),
            ("/dev/null", true),
            ("/lib/systemd/system/debug-shell.service", false),
            ("/lib/systemd/system/../../../srv/ssh.service", false),
            ("/srv/ssh.service", false),
        ] {
            machine.link(own, Path::new(target)).unwrap();
            assert_eq!(overrides(&machine).unwrap().is_empty(), harmless, "{target}");
        }
    }

    #[test]
    fn drop_ins_and_whole_units_are_found_and_aliases_are_not() {
        let (_folder, machine, _) = server();
        machine.folder("/etc/systemd/system/ssh.service.d", 0o755).unwrap();
        machine.write("/etc/systemd/system/ssh.service.d/x.conf", b"[Service]\n", 0o644).unwrap();
        machine.write("/etc/systemd/system/ssh.service.d/note.txt", b"", 0o644).unwrap();
        machine.write("/etc/systemd/system/ssh.service", b"[Service]\n", 0o644).unwrap();
        let vendor = Path::new("/lib/systemd/system/ssh.service");
        let own = || overrides(&machine).unwrap();
        // Without another one, this unit is sshd's own.
        assert_eq!(own(), [Path::new("/etc/systemd/system/ssh.service.d/x.conf")]);
        machine.folder(vendor.parent().unwrap(), 0o755).unwrap();
        machine.write(vendor, b"[Service]\n", 0o644).unwrap();
        machine.link("/etc/systemd/system/sshd.service", vendor).unwrap();
        assert_eq!(
            own(),
            [
                Path::new("/etc/systemd/system/ssh.service"),
                Path::new("/etc/systemd/system/ssh.service.d/x.conf"),
            ]
        );
    }
}
