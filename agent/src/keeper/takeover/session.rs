//! Who is logged in: ended last, by a verb of its own, since one of them may be looking on.
//!
//! ```text
//! session-N.scope, user@N.service        logins, and what they left running
//! below sshd's unit, but its main        logins without a session manager
//! below a getty's unit, but agetty       the same at a console
//! ```
//! Services of users that linger run below `user@N.service` too: they are started again (`linger`).
//!
//! Ended means that nobody who was in can do anything here any more. Two kinds of processes may be left
//! then, which nobody can keep from being there: what SIGKILL has reached and only a disk holds
//! (`process`), which is told, and strangers at sshd's door. The doors were shut before the first look, so
//! a connection that began after it lets nobody in; only what comes from the listener by no process of
//! that look is one. Where a socket starts sshd in a unit for each connection, it is what comes from the
//! main process of a unit that had none in that look.
//!
//! What bootstrap.sh runs lies in a transient unit of its own and is none of these.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tracing::warn;

use super::catalogue::Kind;
use super::finding::{Finding, plain};
use super::linger;
use super::machine::{Machine, MachineError};
use super::process::{Birth, Life};
use super::sshd_unit::{self, connections, property};

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
        for process in Look::at(machine)?.processes {
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
    birth: Birth,
    /// SIGKILL has reached it: it does nothing any more, and is there still.
    doomed: bool,
    name: String,
    group: String,
}

/// Every process of a login, but this one, at a moment.
struct Look {
    /// sshd's listener; 0 if there is none.
    main: u32,
    /// The main processes of connections that have a unit each.
    connections: BTreeSet<u32>,
    processes: Vec<Process>,
}

/// What the first look saw, made once: later looks ask it about each connection.
struct First {
    /// As [`Look::main`].
    main: u32,
    /// Each process, by its number and its beginning.
    processes: BTreeSet<(u32, u64)>,
    groups: BTreeSet<String>,
}

/// Ends every login, politely at first, and starts again what needs none; how many processes there were.
/// The doors are shut before.
pub(super) fn end(machine: &Machine) -> Result<usize, MachineError> {
    let ended = end_all(machine);
    // Also where something is left: users' services were ended all the same.
    linger::start_again(machine);
    ended
}

fn end_all(machine: &Machine) -> Result<usize, MachineError> {
    let first = Look::at(machine)?;
    let begun = first.processes.iter().filter(|process| !process.doomed).count();
    let first = First::of(&first);
    for look in 0..LAST {
        let now = Look::at(machine)?;
        if now.left(&first).is_empty() {
            now.tell_doomed();
            return Ok(begun);
        }
        for process in now.processes.iter().filter(|process| !process.doomed) {
            // Once politely, then with pauses in which it may go. A stranger has its turn too.
            if look == 0 || look >= POLITE {
                machine.tools.kill(process.pid, look >= POLITE);
            }
        }
        machine.tools.pause(PAUSE);
    }
    let last = Look::at(machine)?;
    last.tell_doomed();
    let left = last.left(&first);
    if left.is_empty() {
        return Ok(begun);
    }
    let names = left.iter().map(|process| format!("{} ({})", process.name, process.pid));
    let why = format!("still run: {}", names.collect::<Vec<_>>().join(", "));
    Err(MachineError::Odd { path: "/proc".into(), why })
}

impl First {
    fn of(look: &Look) -> Self {
        let all = look.processes.iter();
        let processes = all.clone().map(|process| (process.pid, process.birth.start)).collect();
        Self { main: look.main, processes, groups: all.map(|one| one.group.clone()).collect() }
    }
}

impl Look {
    fn at(machine: &Machine) -> Result<Self, MachineError> {
        let main = match sshd_unit::name(machine)? {
            Some(unit) => property(machine, unit, "MainPID")?.parse().unwrap_or(0),
            None => 0,
        };
        let mut processes = Vec::new();
        for name in machine.names("/proc")? {
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // A process may end while it is looked at.
            let read = |file: &str| std::fs::read(machine.at(format!("/proc/{pid}/{file}")));
            let (Ok(group), Ok(name)) = (read("cgroup"), read("comm")) else { continue };
            let group = String::from_utf8_lossy(&group).into_owned();
            let name = String::from_utf8_lossy(&name).trim().to_owned();
            if pid == main || pid == machine.tools.own_pid() {
                continue;
            }
            let Some(group) = login(&group, &name) else { continue };
            let life = Life::of(machine, pid);
            // A dead process that its parent has not looked after cannot be ended once more.
            if life != Life::Dead {
                let (birth, doomed) = (Birth::of(machine, pid), life == Life::Doomed);
                processes.push(Process { pid, birth, doomed, name: plain(&name), group });
            }
        }
        let has_units = processes.iter().any(|process| is_connections(&process.group));
        let connections = if has_units { connections(machine)? } else { BTreeSet::new() };
        Ok(Self { main, connections, processes })
    }

    /// What keeps the logins of the first look, and what came of them, from being ended.
    fn left(&self, first: &First) -> Vec<&Process> {
        let by_pid: BTreeMap<u32, &Process> =
            self.processes.iter().map(|process| (process.pid, process)).collect();
        let is_left =
            |process: &&Process| !process.doomed && !self.is_stranger(process, &by_pid, first);
        self.processes.iter().filter(is_left).collect()
    }

    /// Whether it is a connection to sshd that began after the first look: the listener's own child, or
    /// the main process of a unit of its own, or what comes from one, by processes of which none was there
    /// then, all in one group. What a login of then forks has that login for a parent, or pid 1 once that
    /// is gone, and is none; nor is what nobody can tell.
    fn is_stranger(
        &self,
        process: &Process,
        by_pid: &BTreeMap<u32, &Process>,
        first: &First,
    ) -> bool {
        let group = &process.group;
        // Before all else: this says no for nearly all, however many there are.
        let is_listeners = is_listeners(group) && self.main != 0 && first.main == self.main;
        let has_unit = is_connections(group) && !first.groups.contains(group);
        if !is_listeners && !has_unit {
            return false;
        }
        let mut at = process;
        // No chain is longer than what there is, whatever the numbers say.
        for _ in 0..self.processes.len() {
            if at.group != *group || first.processes.contains(&(at.pid, at.birth.start)) {
                return false;
            }
            // By systemd's word: an orphan in the unit has pid 1 for a parent as well.
            let begins = if is_listeners {
                at.birth.parent == self.main
            } else {
                self.connections.contains(&at.pid)
            };
            if begins {
                return true;
            }
            let Some(parent) = by_pid.get(&at.birth.parent).copied() else { return false };
            at = parent;
        }
        false
    }

    /// Says what nobody can end before its disk answers, or the next boot.
    fn tell_doomed(&self) {
        let doomed = self.processes.iter().filter(|process| process.doomed);
        let names: Vec<String> =
            doomed.map(|process| format!("{} ({})", process.name, process.pid)).collect();
        if !names.is_empty() {
            warn!(
                BORGIOS_EVENT = "logins_stuck",
                "killed, and held by a disk that does not answer: {}; they do nothing any more",
                names.join(", ")
            );
        }
    }
}

/// Whether a group is that in which sshd's listener and its connections are.
fn is_listeners(group: &str) -> bool {
    ["ssh.service", "sshd.service"].contains(&group)
}

/// Whether a group is one connection's own: a socket starts sshd in a unit for each.
fn is_connections(group: &str) -> bool {
    group.ends_with(".service") && (group.starts_with("ssh@") || group.starts_with("sshd@"))
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
            let is_ssh = is_listeners(part) || is_connections(part);
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

    const SESSION: &str = "0::/user.slice/user-0.slice/session-3.scope";
    const SSH: &str = "0::/system.slice/ssh.service";

    #[test]
    fn what_only_a_disk_holds_after_its_kill_keeps_nothing_up_and_anything_else_does() {
        let doomed = "State:\tD (disk sleep)\nSigPnd:\t0000000000000100\n";
        for (status, ends) in [
            (doomed, true),
            ("State:\tD (disk sleep)\nSigPnd:\t0000000000000000\n", false),
            ("State:\tS (sleeping)\nSigPnd:\t0000000000000100\n", false),
        ] {
            let (_folder, machine, fake) = server();
            machine.folder("/var/lib/systemd/linger", 0o755).unwrap();
            machine.write("/var/lib/systemd/linger/ann", b"", 0o644).unwrap();
            fake.process(&machine, 12, "dd", SESSION);
            fake.survives(12, status);
            assert_eq!(end(&machine).is_ok(), ends, "{status}");
            // Users' services were ended either way.
            let calls = fake.calls();
            let start = "systemctl --quiet start user@1000.service";
            assert_eq!(calls.iter().filter(|call| call.as_str() == start).count(), 1, "{status}");
            if ends {
                // Another login is ended, and the one that nobody can end is left alone.
                let before = fake.killed().len();
                fake.process(&machine, 13, "bash", SESSION);
                assert_eq!(end(&machine).unwrap(), 1);
                assert_eq!(fake.killed()[before..], [13]);
            }
        }
    }

    #[test]
    fn a_process_lives_on_without_its_main_thread() {
        let (_folder, machine, fake) = server();
        fake.process(&machine, 12, "bash", SESSION);
        let zombie = "State:\tZ (zombie)\nThreads:\t2\n";
        fake.threads(&machine, 12, &[zombie, "State:\tS (sleeping)\nThreads:\t2\n"]);
        fake.process(&machine, 20, "bash", SESSION);
        fake.threads(&machine, 20, &["State:\tZ (zombie)\nThreads:\t1\n"]);
        assert_eq!(end(&machine).unwrap(), 1);
        assert_eq!(fake.killed(), [12]);
    }

    /// Processes with these parents come at each pause, with new numbers.
    fn coming(parents: &'static [Option<u32>]) -> Result<usize, MachineError> {
        let (_folder, machine, fake) = server();
        fake.process(&machine, 10, "sshd", SSH);
        fake.main_pid(10);
        fake.process(&machine, 12, "bash", SSH);
        let (there, maker, mut next) = (machine.clone(), fake.clone(), 1_000);
        fake.meanwhile(move || {
            for parent in parents {
                next += 1;
                maker.process(&there, next, "sshd", SSH);
                maker.parent(&there, next, "sshd", parent.unwrap_or(next - 1));
            }
        });
        let ended = end(&machine);
        assert!(fake.killed().contains(&12));
        ended
    }

    #[test]
    fn strangers_at_the_door_keep_nothing_up_and_what_a_login_forks_does() {
        // A connection is the listener's child, and has one of its own.
        assert_eq!(coming(&[Some(10), None]).unwrap(), 1);
        // An orphan, a login's child, and somebody's of whom nobody knows.
        let bad: [&'static [Option<u32>]; 3] =
            [&[Some(10), Some(1)], &[Some(12)], &[Some(999), None]];
        for parents in bad {
            assert!(coming(parents).is_err(), "{parents:?}");
        }
    }

    /// At each pause somebody connects to an sshd that a socket starts in a unit for each connection, or in
    /// `unit`: a process, which systemd may know as the unit's main one, and its child.
    fn connecting(unit: Option<&'static str>, is_main: bool) -> Result<usize, MachineError> {
        let (_folder, machine, fake) = server();
        let group = |unit: &str| format!("0::/system.slice/system-ssh.slice/{unit}");
        fake.process(&machine, 12, "bash", &group("ssh@1-a.service"));
        let (there, maker, mut next) = (machine.clone(), fake.clone(), 1_000);
        fake.meanwhile(move || {
            next += 2;
            let own = format!("ssh@{next}-a.service");
            let group = group(unit.unwrap_or(&own));
            for pid in [next, next + 1] {
                maker.process(&there, pid, "sshd", &group);
            }
            maker.parent(&there, next + 1, "sshd", next);
            if is_main {
                maker.connection(next);
            }
        });
        let ended = end(&machine);
        assert!(fake.killed().contains(&12));
        ended
    }

    #[test]
    fn strangers_with_a_unit_each_keep_nothing_up_and_what_else_is_in_such_a_unit_does() {
        assert_eq!(connecting(None, true).unwrap(), 1);
        // Orphans, what is in the unit of a login, and a login's own session.
        for (unit, is_main) in
            [(None, false), (Some("ssh@1-a.service"), true), (Some("session-3.scope"), true)]
        {
            assert!(connecting(unit, is_main).is_err(), "{unit:?} {is_main}");
        }
    }

    #[test]
    fn a_connection_that_was_there_is_ended_with_all_that_comes_of_it() {
        let (_folder, machine, fake) = server();
        fake.process(&machine, 10, "sshd", SSH);
        fake.main_pid(10);
        fake.process(&machine, 11, "sshd", SSH);
        fake.parent(&machine, 11, "sshd", 10);
        fake.survives(11, "State:\tS (sleeping)\n");
        let (there, maker) = (machine.clone(), fake.clone());
        fake.meanwhile(move || {
            maker.process(&there, 12, "bash", SSH);
            maker.parent(&there, 12, "bash", 11);
        });
        let why = end(&machine).unwrap_err().to_string();
        assert!(why.contains("sshd (11)") && why.contains("bash (12)"), "{why}");
    }
}
