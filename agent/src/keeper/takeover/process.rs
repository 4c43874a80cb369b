//! What one process still is: whom it comes from, and whether it can do anything any more.
//!
//! ```text
//! Dead     its one thread is a zombie: only its parent has not looked after it
//! Doomed   SIGKILL has reached each thread, and waits in the kernel with it, as for a disk that does not
//!          answer (state D): none of them comes back to its program, whenever that wait ends
//! Alive    everything else, and whatever cannot be read
//! ```
//! A process whose main thread has ended is a zombie too, and lives on in its other threads.

use super::machine::Machine;

/// SIGKILL (9) in the masks of signals in `/proc/PID/status`.
const KILL_BIT: u64 = 1 << 8;

/// Whether it can do anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Nothing, and nothing is left of it but a number.
    Dead,
    /// Nothing any more, for good; it is still there.
    Doomed,
    /// It runs, or may.
    Alive,
}

/// Whom a process comes from, and since when: its number alone may be another's by the next look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Birth {
    /// Its parent; 0 where nobody knows.
    pub(super) parent: u32,
    /// When it began, in ticks since the boot; 0 where nobody knows.
    pub(super) start: u64,
}

impl Birth {
    /// That of a process.
    pub(super) fn of(machine: &Machine, pid: u32) -> Self {
        let stat = std::fs::read(machine.at(format!("/proc/{pid}/stat"))).unwrap_or_default();
        let stat = String::from_utf8_lossy(&stat);
        // `PID (NAME) STATE PARENT …`: the name may hold whatever it likes, a bracket too.
        let Some((_, rest)) = stat.rsplit_once(')') else { return Self::default() };
        let words: Vec<&str> = rest.split_whitespace().collect();
        let word = |at: usize| words.get(at).copied().unwrap_or_default();
        // Fields 4 and 22 of proc(5), of which the first two are before the bracket.
        Self { parent: word(1).parse().unwrap_or(0), start: word(19).parse().unwrap_or(0) }
    }
}

impl Life {
    /// That of a process.
    pub(super) fn of(machine: &Machine, pid: u32) -> Self {
        let folder = format!("/proc/{pid}/task");
        let threads = machine.names(&folder).unwrap_or_default();
        let read = |path: &str| {
            let bytes = std::fs::read(machine.at(path)).ok()?;
            Some(Thread::parse(&String::from_utf8_lossy(&bytes)))
        };
        let all: Option<Vec<Thread>> = if threads.is_empty() {
            read(&format!("/proc/{pid}/status")).map(|only| vec![only])
        } else {
            let status = |name: &std::ffi::OsString| {
                read(&format!("{folder}/{}/status", name.to_string_lossy()))
            };
            threads.iter().map(status).collect()
        };
        match all.as_deref() {
            Some([Thread::Zombie]) => Self::Dead,
            // One that SIGKILL has reached starts no other.
            Some(all) if !all.contains(&Thread::Other) && all.contains(&Thread::Doomed) => {
                Self::Doomed
            }
            _ => Self::Alive,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Thread {
    Zombie,
    Doomed,
    Other,
}

impl Thread {
    /// Reads what `status` says of it.
    fn parse(text: &str) -> Self {
        let after = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
        let has_kill = |key: &str| {
            let mask = after(key).and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
            mask.is_some_and(|mask| mask & KILL_BIT != 0)
        };
        match after("State:").and_then(|state| state.trim_start().chars().next()) {
            Some('Z') => Self::Zombie,
            Some('D') if has_kill("SigPnd:") || has_kill("ShdPnd:") => Self::Doomed,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::server;
    use super::*;

    const WAITS: &str = "Name:\tx\nState:\tD (disk sleep)\nSigPnd:\t0000000000000000\n";
    const DOOMED: &str = "Name:\tx\nState:\tD (disk sleep)\nSigPnd:\t0000000000000100\n";
    const SHARED: &str = "Name:\tx\nState:\tD (disk sleep)\nShdPnd:\t0000000000004100\n";
    const ZOMBIE: &str = "Name:\tx\nState:\tZ (zombie)\nSigPnd:\t0000000000000100\n";
    const SLEEPS: &str = "Name:\tx\nState:\tS (sleeping)\nSigPnd:\t0000000000000100\n";

    #[test]
    fn a_process_is_dead_or_doomed_only_with_all_of_its_threads() {
        for (threads, expected) in [
            (&[ZOMBIE][..], Life::Dead),
            (&[ZOMBIE, SLEEPS], Life::Alive),
            (&[ZOMBIE, WAITS], Life::Alive),
            (&[ZOMBIE, DOOMED], Life::Doomed),
            (&[ZOMBIE, ZOMBIE], Life::Alive),
            (&[DOOMED, SHARED], Life::Doomed),
            (&[DOOMED, SLEEPS], Life::Alive),
            (&[WAITS], Life::Alive),
            (&["nothing of the kind"], Life::Alive),
            (&[], Life::Alive),
        ] {
            let (_folder, machine, fake) = server();
            fake.process(&machine, 12, "x", "0::/user.slice/user-0.slice/session-3.scope");
            fake.threads(&machine, 12, threads);
            assert_eq!(Life::of(&machine, 12), expected, "{threads:?}");
        }
        // Where threads are not told one by one.
        let (_folder, machine, _) = server();
        assert_eq!(Life::of(&machine, 12), Life::Alive);
        machine.folder("/proc/12", 0o755).unwrap();
        machine.write("/proc/12/status", ZOMBIE.as_bytes(), 0o644).unwrap();
        assert_eq!(Life::of(&machine, 12), Life::Dead);
    }

    #[test]
    fn whom_a_process_comes_from_is_read_behind_its_name() {
        let (_folder, machine, fake) = server();
        fake.process(&machine, 12, "a) S 9 (b", "0::/");
        assert_eq!(Birth::of(&machine, 12), Birth { parent: 1, start: 12 });
        fake.parent(&machine, 12, "x", 10);
        assert_eq!(Birth::of(&machine, 12), Birth { parent: 10, start: 12 });
        assert_eq!(Birth::of(&machine, 13), Birth::default());
    }
}
