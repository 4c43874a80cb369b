//! The account files, `/etc/{passwd,shadow,group,gshadow}`: read, edited field by field, written
//! under the lock that `passwd`, `chpasswd` and `useradd` take too.
//!
//! They are edited here and not by calling usermod: that puts hashes into its arguments, refuses
//! to touch users who are logged in, and knows nothing of a step that was cut off. What no rule
//! touches stays as it was, byte for byte.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, fcntl_lock};

use super::machine::{Machine, MachineError, disk_error};

/// How long another program may hold the lock, as in glibc's lckpwdf.
const LOCK_TRIES: u32 = 150;
const LOCK_PAUSE: Duration = Duration::from_millis(100);
const LOCK: &str = "/etc/.pwd.lock";

/// Fields of a line of `/etc/passwd`.
pub(super) mod column {
    pub(in super::super) const NAME: usize = 0;
    pub(in super::super) const PASSWORD: usize = 1;
    pub(in super::super) const UID: usize = 2;
    pub(in super::super) const GID: usize = 3;
    pub(in super::super) const HOME: usize = 5;
    pub(in super::super) const SHELL: usize = 6;
    pub(in super::super) const FIELDS: usize = 7;
}

/// One line, by its fields.
pub(super) type Fields = Vec<Vec<u8>>;

/// The lock of the account files; free again when dropped.
pub(super) struct Lock(#[allow(dead_code, reason = "held open: closing it lets go")] File);

impl Lock {
    /// Waits up to 15 s for whoever has it.
    pub(super) fn take(machine: &Machine) -> Result<Self, MachineError> {
        let file = machine.change("lock", Path::new(LOCK), || {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(machine.at(LOCK))
        })?;
        for _ in 0..LOCK_TRIES {
            match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(file)),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
                    machine.tools.pause(LOCK_PAUSE);
                }
                Err(error) => return Err(disk_error(Path::new(LOCK), error.into())),
            }
        }
        let why = "another program has held this lock for 15 s; end it and try again".to_owned();
        Err(MachineError::Odd { path: LOCK.into(), why })
    }
}

/// Every line, by its fields. Lines and fields joined again are the same bytes.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = Fields> + '_ {
    bytes.split(|byte| *byte == b'\n').map(fields)
}

/// Every line once more, after `change` had a look at it.
pub(super) fn edit(bytes: &[u8], mut change: impl FnMut(&mut Fields)) -> Vec<u8> {
    let changed = lines(bytes).map(|mut line| {
        change(&mut line);
        line.join(&b':')
    });
    changed.collect::<Vec<_>>().join(&b'\n')
}

fn fields(line: &[u8]) -> Fields {
    line.split(|byte| *byte == b':').map(<[u8]>::to_vec).collect()
}

/// A field as text, for people and for comparing with names.
pub(super) fn text(fields: &Fields, at: usize) -> String {
    fields.get(at).map(|field| String::from_utf8_lossy(field).into_owned()).unwrap_or_default()
}

/// An account, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: String,
    pub(super) shell: String,
}

impl User {
    /// Whether its shell lets nobody in.
    pub(super) fn is_shut(&self) -> bool {
        ["nologin", "false", "sync"].iter().any(|end| self.shell.ends_with(end))
    }
}

/// Every whole line of `/etc/passwd`.
pub(super) fn users(bytes: &[u8]) -> Vec<User> {
    let user = |line: Fields| {
        (line.len() >= column::FIELDS).then_some(())?;
        Some(User {
            name: text(&line, column::NAME),
            uid: text(&line, column::UID).parse().ok()?,
            gid: text(&line, column::GID).parse().ok()?,
            home: text(&line, column::HOME),
            shell: text(&line, column::SHELL),
        })
    };
    lines(bytes).filter_map(user).collect()
}

/// A file that must be there.
pub(super) fn must_read(machine: &Machine, path: &str) -> Result<Vec<u8>, MachineError> {
    machine.read(path)?.ok_or_else(|| MachineError::Odd {
        path: path.into(),
        why: "is missing; pwconv and grpconv make it".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_rule_touches_stays_byte_for_byte() {
        let odd = b"root:x:0:0:r\xff:/root:/bin/bash\n\n# note\n+::::::\nhalf:x\nlast:x:1:1:::";
        assert_eq!(edit(odd, |_| ()), odd);
        let edited = edit(odd, |line| {
            if line[0] == b"half" {
                line[1] = b"y".to_vec();
            }
        });
        assert_eq!(edited.len(), odd.len());
        assert!(edited.windows(6).any(|w| w == b"half:y"));
        assert_eq!(
            users(odd).iter().map(|u| u.name.as_str()).collect::<Vec<_>>(),
            ["root", "last"]
        );
    }
}
