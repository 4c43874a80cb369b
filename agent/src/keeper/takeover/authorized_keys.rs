//! Files of keys that let somebody in, wherever sshd looks for them, for every account.
//!
//! sshd's configuration will name no such file any more; they go all the same, so that nobody who
//! ever writes another configuration brings them back to life.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::catalogue::Kind;
use super::finding::Finding;
use super::machine::{Machine, MachineError};
use super::passwd::{self, User};
use super::sshd_config::{Effective, FILE};
use super::sshd_unit;

const KIND: &str = "authorized-keys";
/// Where sshd looks unless it is told otherwise: looked at even once it is told `none`.
const USUAL: [&str; 2] = [".ssh/authorized_keys", ".ssh/authorized_keys2"];
/// Most accounts that sshd is asked about one by one; each question takes it about 10 ms.
const ASKED_MAX: usize = 2_000;

/// Files of keys.
pub(super) struct AuthorizedKeys;

impl Kind for AuthorizedKeys {
    fn name(&self) -> &'static str {
        KIND
    }

    fn about(&self) -> &'static str {
        "files of keys that let somebody in"
    }

    fn look(&self, machine: &Machine) -> Result<Vec<Finding>, MachineError> {
        let mut found = Vec::new();
        for (path, user) in files(machine)? {
            // What its owner made too long to be read, or took the right to read, goes as well: it must
            // not hold up the hand-over.
            let read = machine.read(&path);
            let is_read = read.is_ok();
            let before = read.ok().flatten().unwrap_or_default();
            let keys = keys(&before);
            if keys > 0 || !is_read {
                let s = if keys == 1 { "" } else { "s" };
                let what = match is_read {
                    true => format!("{keys} key{s} for {user}"),
                    false => format!("cannot be read, for {user}"),
                };
                found.push(Finding::new(KIND, &path, what, &before, "removed"));
            }
        }
        Ok(found)
    }

    fn apply(&self, machine: &Machine, found: &[Finding]) -> Result<(), MachineError> {
        // Once sshd has its new configuration it does not say any more where it looked before:
        // then the findings do.
        for finding in found.iter().cloned().chain(self.look(machine)?) {
            machine.remove(&finding.path)?;
        }
        Ok(())
    }

    fn touched(&self, machine: &Machine) -> Result<Vec<PathBuf>, MachineError> {
        Ok(files(machine)?.into_keys().collect())
    }
}

/// Every file that sshd may read keys from, and for whom.
pub(super) fn files(machine: &Machine) -> Result<BTreeMap<PathBuf, String>, MachineError> {
    let users = passwd::users(&machine.read("/etc/passwd")?.unwrap_or_default());
    let options = sshd_unit::options(machine)?;
    let for_all = Effective::ask(machine, "root", &options)?;
    let varies = varies(machine)?;
    if varies && users.len() > ASKED_MAX {
        let why = format!("has Match blocks and {} accounts are too many to ask for", users.len());
        return Err(MachineError::Odd { path: FILE.into(), why });
    }
    let mut all = BTreeMap::new();
    for user in users {
        let own = if varies { Effective::ask(machine, &user.name, &options)? } else { None };
        let effective = own.as_ref().or(for_all.as_ref());
        let told = effective.map(|said| said.get("authorizedkeysfile")).unwrap_or_default();
        let told = told.split_whitespace().filter(|pattern| *pattern != "none");
        for pattern in told.chain(USUAL) {
            let path = expand(pattern, &user);
            // sshd takes a regular file only; a link to one is as good.
            if machine.at(&path).is_file() {
                all.entry(path).or_insert_with(|| user.name.clone());
            }
        }
    }
    Ok(all)
}

/// Whether sshd may treat accounts differently: a Match block, or a file that we have not read.
fn varies(machine: &Machine) -> Result<bool, MachineError> {
    let mut text = machine.text(FILE)?;
    for name in machine.names("/etc/ssh/sshd_config.d")? {
        text.push('\n');
        text.push_str(&machine.text(Path::new("/etc/ssh/sshd_config.d").join(name))?);
    }
    Ok(text.lines().any(|line| {
        let line = line.trim().to_ascii_lowercase();
        line.starts_with("match")
            || (line.starts_with("include") && !line.contains(" /etc/ssh/sshd_config.d/"))
    }))
}

/// sshd_config(5): `%h`, `%u`, `%U`, `%%`; what is not absolute lies in the home folder.
fn expand(pattern: &str, user: &User) -> PathBuf {
    let mut path = String::new();
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match (c, c == '%') {
            (_, true) => match rest.next() {
                Some('h') => path.push_str(&user.home),
                Some('u') => path.push_str(&user.name),
                Some('U') => path.push_str(&user.uid.to_string()),
                Some(other) => path.push(other),
                None => path.push('%'),
            },
            (c, false) => path.push(c),
        }
    }
    Path::new(&user.home).join(path)
}

/// Lines that are keys.
fn keys(bytes: &[u8]) -> usize {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).count()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc;
    use std::time::Duration;

    use rustix::fs::{CWD, FileType, Mode};

    use super::*;
    use crate::keeper::takeover::fake::server;

    /// How long a look may take that waits for nothing; far more than it does.
    const PATIENCE: Duration = Duration::from_secs(120);

    fn fifo(place: &Path) {
        rustix::fs::mknodat(CWD, place, FileType::Fifo, Mode::RWXU, 0).unwrap();
    }

    fn plant(machine: &Machine, path: &str) {
        machine.folder(Path::new(path).parent().unwrap(), 0o700).unwrap();
        machine.write(path, b"# me\nssh-ed25519 AAAA me\n", 0o600).unwrap();
    }

    #[test]
    fn keys_go_wherever_sshd_looks_for_them() {
        let (_folder, machine, _) = server();
        let patterns = b"AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/keys/%u\n";
        machine.write(FILE, patterns, 0o644).unwrap();
        for path in
            ["/root/.ssh/authorized_keys", "/home/ann/.ssh/authorized_keys2", "/etc/ssh/keys/ann"]
        {
            plant(&machine, path);
        }
        let found = AuthorizedKeys.look(&machine).unwrap();
        assert_eq!(found.len(), 3, "{found:#?}");
        // sshd was told `none` before the run was cut off: only the findings know the odd place.
        machine.write(FILE, b"AuthorizedKeysFile none\n", 0o644).unwrap();
        AuthorizedKeys.apply(&machine, &found).unwrap();
        assert!(!machine.exists("/etc/ssh/keys/ann"));
        assert_eq!(AuthorizedKeys.look(&machine).unwrap(), []);
    }

    #[test]
    fn a_file_that_its_owner_made_unreadable_goes_as_well() {
        let (_folder, machine, _) = server();
        let path = "/home/ann/.ssh/authorized_keys";
        plant(&machine, path);
        let file = fs::File::options().write(true).open(machine.at(path)).unwrap();
        file.set_len(1 << 30).unwrap();
        let found = AuthorizedKeys.look(&machine).unwrap();
        assert_eq!(found.len(), 1, "{found:#?}");
        AuthorizedKeys.apply(&machine, &found).unwrap();
        assert!(!machine.exists(path));
    }

    #[test]
    fn a_fifo_in_the_place_of_keys_is_not_waited_for() {
        let (_folder, machine, _) = server();
        let path = "/home/ann/.ssh/authorized_keys";
        plant(&machine, path);
        fs::remove_file(machine.at(path)).unwrap();
        fifo(&machine.at(path));
        let (say, heard) = mpsc::channel();
        std::thread::spawn(move || {
            let found = AuthorizedKeys.look(&machine).unwrap();
            say.send((found, machine.read(path).unwrap()))
        });
        assert_eq!(heard.recv_timeout(PATIENCE).expect("it waits"), (Vec::new(), None));
    }

    /// Whoever owns the folder can do so between any two looks: here it happens all the time.
    #[test]
    fn a_fifo_that_is_put_at_a_name_meanwhile_is_not_waited_for() {
        let (_folder, machine, _) = server();
        let path = "/home/ann/.ssh/authorized_keys";
        plant(&machine, path);
        let keys = machine.at(path);
        let (own, aside) = (machine.at("/home/ann/own"), machine.at("/home/ann/aside"));
        fs::hard_link(&keys, &own).unwrap();
        let (say, heard) = mpsc::channel();
        std::thread::spawn(move || {
            let swapping = std::thread::spawn(move || {
                for _ in 0..5_000 {
                    fifo(&aside);
                    fs::rename(&aside, &keys).unwrap();
                    fs::hard_link(&own, &aside).unwrap();
                    fs::rename(&aside, &keys).unwrap();
                }
            });
            while !swapping.is_finished() {
                AuthorizedKeys.look(&machine).unwrap();
            }
            swapping.join().unwrap();
            say.send(AuthorizedKeys.look(&machine).unwrap().len())
        });
        assert_eq!(heard.recv_timeout(PATIENCE).expect("it waits for a FIFO, or failed"), 1);
    }

    #[test]
    fn patterns_expand_as_sshd_does_it() {
        let user = User {
            name: "ann".into(),
            uid: 7,
            gid: 7,
            home: "/home/ann".into(),
            shell: String::new(),
        };
        for (pattern, path) in [
            (".ssh/k", "/home/ann/.ssh/k"),
            ("%h/.ssh/k", "/home/ann/.ssh/k"),
            ("/etc/k/%u-%U-%%", "/etc/k/ann-7-%"),
        ] {
            assert_eq!(expand(pattern, &user), Path::new(path));
        }
    }
}
