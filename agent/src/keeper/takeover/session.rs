//! Who is logged in: ended last, by a verb of its own, since one of them may be looking on.
//!
//! ```text
//! session-N.scope, user@N.service        logins, and what they left running
//! below sshd's unit, but its main        logins without a session manager
//! below a getty's unit, but agetty       the same at a console
//! ```
//! Services of users that linger run below `user@N.service` too: they are started again (`linger`).
//!
//! What bootstrap.sh runs lies in a transient unit of its own and is none of these.

use std::collections::BTreeMap;
use std::time::Duration;

use super::catalogue::Kind;
use super::finding::{Finding, plain};
use super::linger;
use super::machine::{Machine, MachineError};
use super::sshd_unit::{self, property};

pub(super) const NAME: &str = "session";
/// Looks between asking politely and not.
const POLITE: u32 = 20;
/// Looks before giving up.
const LAST: u32 = 60;
const PAUSE: Duration = Duration::from_millis(100);

/// Live sessions.
pub(super) struct Session;

impl Kind for Session {
    fn name(&self) -> &'static str {
        NAME
    }

    fn about(&self) -> &'static str {
        "who is logged in"
    }

    fn look(&self, machine: &Machine) -> Result<Vec<Finding>, MachineError> {
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for process in processes(machine)? {
            groups.entry(process.group).or_default().push(process.name);
        }
        let found = groups.into_iter().map(|(group, names)| {
            let what = format!("{} processes: {}", names.len(), names.join(", "));
            let mut finding = Finding::new(NAME, group, what, b"", "ended, last of all");
            finding.before.clear();
            finding.reversible = false;
            finding
        });
        Ok(found.collect())
    }

    /// Nothing: see [`end`].
    fn apply(&self, _machine: &Machine, _found: &[Finding]) -> Result<(), MachineError> {
        Ok(())
    }
}

/// A process of somebody who is logged in.
#[derive(Debug)]
struct Process {
    pid: u32,
    name: String,
    group: String,
}

/// Ends every login, politely at first, and starts again what needs none; how many processes there were.
pub(super) fn end(machine: &Machine) -> Result<usize, MachineError> {
    let ended = end_all(machine)?;
    linger::start_again(machine);
    Ok(ended)
}

fn end_all(machine: &Machine) -> Result<usize, MachineError> {
    let begun = processes(machine)?.len();
    for look in 0..LAST {
        let left = processes(machine)?;
        if left.is_empty() {
            return Ok(begun);
        }
        for process in left {
            // Once politely, then with pauses in which it may go.
            if look == 0 || look >= POLITE {
                machine.tools.kill(process.pid, look >= POLITE);
            }
        }
        machine.tools.pause(PAUSE);
    }
    let left = processes(machine)?;
    let names = left.iter().map(|process| format!("{} ({})", process.name, process.pid));
    let why = format!("still run: {}", names.collect::<Vec<_>>().join(", "));
    if left.is_empty() { Ok(begun) } else { Err(MachineError::Odd { path: "/proc".into(), why }) }
}

/// Every process of a login, but this one.
fn processes(machine: &Machine) -> Result<Vec<Process>, MachineError> {
    let main = match sshd_unit::name(machine)? {
        Some(unit) => property(machine, unit, "MainPID")?.parse().unwrap_or(0),
        None => 0,
    };
    let mut found = Vec::new();
    for name in machine.names("/proc")? {
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end while it is looked at.
        let read = |file: &str| std::fs::read(machine.at(format!("/proc/{pid}/{file}")));
        let (Ok(group), Ok(name)) = (read("cgroup"), read("comm")) else { continue };
        let group = String::from_utf8_lossy(&group).into_owned();
        let name = String::from_utf8_lossy(&name).trim().to_owned();
        // A dead process that its parent has not looked after cannot be ended once more.
        let is_dead = read("cmdline").is_ok_and(|line| line.is_empty())
            && read("status").is_ok_and(|text| {
                String::from_utf8_lossy(&text).lines().any(|line| line.starts_with("State:\tZ"))
            });
        let is_login = pid != main && pid != machine.tools.own_pid() && !is_dead;
        if let Some(group) = login(&group, &name).filter(|_| is_login) {
            found.push(Process { pid, name: plain(&name), group });
        }
    }
    Ok(found)
}

/// The part of a process's control group that makes it a login.
fn login(groups: &str, name: &str) -> Option<String> {
    // One line with cgroup v2; with v1, or both, each hierarchy may tell it.
    let groups = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let mut parts = groups.flat_map(|group| group.split('/'));
    parts
        .find(|part| {
            let ends = |end: &str| part.ends_with(end);
            let begins = |begin: &str| part.starts_with(begin);
            let is_session = begins("session-") && ends(".scope");
            let is_user = begins("user@") && ends(".service");
            let is_ssh = ["ssh", "sshd"].iter().any(|ssh| {
                **part == format!("{ssh}.service")
                    || (begins(&format!("{ssh}@")) && ends(".service"))
            });
            let is_getty = part.contains("getty") && ends(".service") && name != "agetty";
            is_session || is_user || is_ssh || is_getty
        })
        .map(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::takeover::fake::server;

    #[test]
    fn a_login_is_known_by_its_control_group() {
        for (group, name, expected) in [
            ("0::/user.slice/user-0.slice/session-3.scope", "bash", Some("session-3.scope")),
            (
                "0::/user.slice/user-0.slice/user@0.service/init.scope",
                "systemd",
                Some("user@0.service"),
            ),
            ("0::/system.slice/ssh.service", "sshd", Some("ssh.service")),
            (
                "0::/system.slice/system-ssh.slice/ssh@3-1:22.service",
                "sshd",
                Some("ssh@3-1:22.service"),
            ),
            (
                "0::/system.slice/system-getty.slice/getty@tty1.service",
                "bash",
                Some("getty@tty1.service"),
            ),
            ("0::/system.slice/system-getty.slice/getty@tty1.service", "agetty", None),
            ("0::/system.slice/borgios-bootstrap.service", "sh", None),
            ("0::/system.slice/cron.service", "cron", None),
            (
                "12:pids:/x\n1:name=systemd:/user.slice/user-0.slice/session-1.scope",
                "x",
                Some("session-1.scope"),
            ),
            ("1:name=systemd:/\n0::/system.slice/ssh.service", "sshd", Some("ssh.service")),
            ("0::/", "x", None),
        ] {
            assert_eq!(login(group, name).as_deref(), expected, "{group}");
        }
    }

    #[test]
    fn logins_are_ended_and_the_listener_is_not() {
        let (_folder, machine, fake) = server();
        fake.process(&machine, 10, "sshd", "0::/system.slice/ssh.service");
        fake.main_pid(10);
        fake.process(&machine, 11, "sshd", "0::/system.slice/ssh.service");
        fake.process(&machine, 12, "bash", "0::/user.slice/user-0.slice/session-3.scope");
        fake.process(&machine, 13, "cron", "0::/system.slice/cron.service");
        fake.process(&machine, fake.own(), "keeper", "0::/user.slice/user-0.slice/session-3.scope");
        assert_eq!(Session.look(&machine).unwrap().len(), 2);
        assert_eq!(end(&machine).unwrap(), 2);
        assert_eq!(fake.killed(), [11, 12]);
        assert_eq!(end(&machine).unwrap(), 0);
    }
}
