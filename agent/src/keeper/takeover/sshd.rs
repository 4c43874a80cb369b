//! sshd: afterwards it has one configuration file, ours, whole, and is started with nothing else.

use std::path::{Path, PathBuf};

use super::catalogue::Kind;
use super::finding::Finding;
use super::host_key;
use super::machine::{Machine, MachineError};
use super::sshd_config::{self, Effective, FILE, FINAL};
use super::sshd_unit::{self, OPTIONS};

const KIND: &str = "sshd";
const FILES: &str = "/etc/ssh/sshd_config.d";
/// Run by sshd as whoever logs in.
const RC: &str = "/etc/ssh/sshrc";
/// Where the new file is checked before it takes its place.
const CHECKED: &str = "/etc/borgios/ssh/sshd_config.new";

/// sshd.
pub(super) struct Sshd;

impl Kind for Sshd {
    fn name(&self) -> &'static str {
        KIND
    }

    fn about(&self) -> &'static str {
        "what sshd asks for, and whom it believes"
    }

    fn look(&self, machine: &Machine) -> Result<Vec<Finding>, MachineError> {
        let options = sshd_unit::options(machine)?;
        let Some(effective) = Effective::ask(machine, "root", &options)? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        let before = machine.read(FILE)?.unwrap_or_default();
        if before != effective.ours(&FINAL).as_bytes() {
            let action = "one file: certificates of the board for root, nothing for anybody else";
            found.push(Finding::new(KIND, FILE, summary(&effective), &before, action));
            found.extend(trusted(&effective, &before));
        }
        for path in removed(machine)? {
            let before = machine.read(&path)?.unwrap_or_default();
            found.push(Finding::new(KIND, &path, what(&path), &before, "removed"));
        }
        for (path, variable) in OPTIONS {
            let text = machine.text(path)?;
            if !sshd_unit::says_nothing(&text, variable) {
                let own = options.join(" ");
                let own = if own.is_empty() { "variables of its own" } else { &own };
                let (what, action) =
                    (format!("starts sshd with {own}"), "sets nothing; sshd's port stays");
                found.push(Finding::new(KIND, path, what, text.as_bytes(), action));
            }
        }
        Ok(found)
    }

    fn apply(&self, machine: &Machine, _found: &[Finding]) -> Result<(), MachineError> {
        let options = sshd_unit::options(machine)?;
        let Some(effective) = Effective::ask(machine, "root", &options)? else { return Ok(()) };
        // 1. What the file names must be there before the file is.
        host_key::make(machine)?;
        // 2. The file, once sshd has said that it would do. Nothing else that says where sshd
        //    listens has changed yet, so a second run makes the same file.
        let ours = effective.ours(&FINAL);
        machine.write(CHECKED, ours.as_bytes(), 0o600)?;
        sshd_config::check(machine, Path::new(CHECKED))?;
        machine.remove(CHECKED)?;
        machine.write(FILE, ours.as_bytes(), 0o644)?;
        // 3. What could say otherwise.
        for path in removed(machine)? {
            sshd_unit::remove_override(machine, &path)?;
        }
        for (path, variable) in OPTIONS {
            if !sshd_unit::says_nothing(&machine.text(path)?, variable) {
                machine.write(path, sshd_unit::no_options(variable).as_bytes(), 0o644)?;
            }
        }
        // 4. From here on nobody new comes in but by the board.
        sshd_unit::restart(machine)
    }

    fn touched(&self, machine: &Machine) -> Result<Vec<PathBuf>, MachineError> {
        removed(machine)
    }
}

/// Files that go.
fn removed(machine: &Machine) -> Result<Vec<PathBuf>, MachineError> {
    let names = machine.names(FILES)?.into_iter();
    let mut all: Vec<_> = names.map(|name| Path::new(FILES).join(name)).collect();
    all.extend(sshd_unit::overrides(machine)?);
    all.extend(Some(PathBuf::from(RC)).filter(|path| machine.exists(path)));
    Ok(all)
}

fn what(path: &Path) -> &'static str {
    if path.starts_with(FILES) {
        "is read by sshd too"
    } else if path == Path::new(RC) {
        "is run at every login"
    } else {
        "changes what sshd runs, or how"
    }
}

/// What sshd lets in today.
fn summary(effective: &Effective) -> String {
    let or_no = |key| effective.names(key).unwrap_or("no").to_owned();
    format!(
        "root: {}; passwords: {}; keyboard-interactive: {}; keys in files: {}",
        or_no("permitrootlogin"),
        or_no("passwordauthentication"),
        or_no("kbdinteractiveauthentication"),
        or_no("authorizedkeysfile"),
    )
}

/// Whom sshd believes besides files of keys.
fn trusted(effective: &Effective, before: &[u8]) -> Vec<Finding> {
    let keys = [
        ("authorizedkeyscommand", "asks a program for keys"),
        ("authorizedprincipalscommand", "asks a program for principals"),
        ("trustedusercakeys", "believes certificates of a key in"),
        ("authorizedprincipalsfile", "reads principals from"),
    ];
    let mut found = Vec::new();
    for (key, what) in keys {
        if let Some(value) = effective.names(key) {
            let action = "no longer asked, no longer believed";
            found.push(Finding::new(KIND, FILE, format!("{what} {value}"), before, action));
        }
    }
    let text = String::from_utf8_lossy(before);
    let matches = text.lines().filter(|line| {
        line.trim_start().get(..6).is_some_and(|word| word.eq_ignore_ascii_case("match "))
    });
    let matches = matches.count();
    if matches > 0 {
        let what = format!("{matches} Match blocks say otherwise for some");
        found.push(Finding::new(KIND, FILE, what, before, "no Match"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::takeover::fake::server;

    #[test]
    fn afterwards_one_file_says_all() {
        let (_folder, machine, fake) = server();
        machine.folder(FILES, 0o755).unwrap();
        let text = b"PermitRootLogin yes\nTrustedUserCAKeys /etc/ssh/ca.pub\n";
        machine.write(format!("{FILES}/50-provider.conf"), text, 0o644).unwrap();
        machine.write(RC, b"nc -l 1\n", 0o755).unwrap();
        let found = Sshd.look(&machine).unwrap();
        assert_eq!(found.len(), 4, "{found:#?}");
        machine.folder("/etc/borgios/ssh", 0o755).unwrap();
        Sshd.apply(&machine, &found).unwrap();
        assert_eq!(Sshd.look(&machine).unwrap(), []);
        assert!(machine.names(FILES).unwrap().is_empty() && !machine.exists(RC));
        let effective = Effective::ask(&machine, "root", &[]).unwrap().unwrap();
        assert_eq!(effective.against_the_rules(&FINAL), Vec::<String>::new());
        assert_eq!(effective.get("port"), "22");
        assert!(fake.calls().iter().any(|call| call.ends_with("restart ssh.service")));
    }

    #[test]
    fn the_file_of_options_is_written_whole() {
        let (_folder, machine, _) = server();
        machine.folder("/etc/default", 0o755).unwrap();
        machine.folder("/etc/borgios/ssh", 0o755).unwrap();
        let path = OPTIONS[0].0;
        for text in ["SSHD_OPTS =-oPermitRootLogin=yes\n", "LD_PRELOAD=/x\nSSHD_OPTS=\n"] {
            machine.write(path, text.as_bytes(), 0o644).unwrap();
            let found = Sshd.look(&machine).unwrap();
            assert!(found.iter().any(|finding| finding.path == path), "{text:?}: {found:#?}");
            Sshd.apply(&machine, &found).unwrap();
            assert_eq!(machine.text(path).unwrap(), sshd_unit::no_options("SSHD_OPTS"));
            assert_eq!(Sshd.look(&machine).unwrap(), []);
        }
    }

    #[test]
    fn a_file_that_sshd_refuses_does_not_take_its_place() {
        let (_folder, machine, fake) = server();
        machine.folder("/etc/borgios/ssh", 0o755).unwrap();
        let before = machine.read(FILE).unwrap();
        fake.fail("/usr/sbin/sshd -t");
        assert!(Sshd.apply(&machine, &[]).is_err());
        assert_eq!(machine.read(FILE).unwrap(), before);
    }
}
