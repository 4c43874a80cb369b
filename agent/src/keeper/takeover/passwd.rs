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

/// Where the gid is in a line of `/etc/group`.
pub(super) const GROUPS_GID: usize = 2;

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

/// The uid of a line of `/etc/passwd`; `None` if there is none that can be relied upon.
pub(super) fn uid_of(line: &Fields) -> Option<u32> {
    id_at(line, column::UID)
}

/// Its gid, likewise.
pub(super) fn gid_of(line: &Fields) -> Option<u32> {
    id_at(line, column::GID)
}

/// The uid or gid in a field of any of the account files.
pub(super) fn id_at(line: &Fields, at: usize) -> Option<u32> {
    number(line.get(at)?)
}

/// A number as glibc reads it (`strtoul`, base 10): white space and a sign may come first, so `-0`
/// and `\t00` are root's. What glibc would wrap or cut short is `None`: another program may do
/// otherwise, and an account must not be two.
fn number(field: &[u8]) -> Option<u32> {
    let spaces = field.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | 0x0b..=0x0d)).count();
    let rest = &field[spaces..];
    let (is_negative, digits) = match rest.split_first() {
        Some((b'-', digits)) => (true, digits),
        Some((b'+', digits)) => (false, digits),
        _ => (false, rest),
    };
    // A second sign would be fine with `parse`.
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value: u32 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (!is_negative || value == 0).then_some(value)
}

/// Whether glibc takes a line for an account: it has fields up to its gid, and is no comment. What
/// is missing after that is empty, an empty shell being `/bin/sh`.
pub(super) fn is_account(line: &Fields) -> bool {
    line.len() > column::GID && !name_of(line).starts_with('#')
}

/// The name in a line of an account file: glibc skips white space before it.
pub(super) fn name_of(line: &Fields) -> String {
    text(line, column::NAME).trim_ascii_start().to_owned()
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

/// Every line of `/etc/passwd` that is an account.
pub(super) fn users(bytes: &[u8]) -> Vec<User> {
    let user = |line: Fields| {
        is_account(&line).then_some(())?;
        Some(User {
            name: name_of(&line),
            uid: uid_of(&line)?,
            gid: gid_of(&line)?,
            home: text(&line, column::HOME),
            shell: text(&line, column::SHELL),
        })
    };
    lines(bytes).filter_map(user).collect()
}

/// The gid of the group `shadow`, if there is one.
pub(super) fn gid_of_shadow(machine: &Machine) -> Result<Option<u32>, MachineError> {
    let group = machine.read("/etc/group")?.unwrap_or_default();
    let found = lines(&group).find(|line| name_of(line) == "shadow");
    Ok(found.and_then(|line| id_at(&line, GROUPS_GID)))
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
    fn a_number_is_what_glibc_takes_it_for_or_none() {
        for zero in ["0", "00", "-0", "-00", "+0", " 0", "\t0", "\x0b -0", " \t+000"] {
            assert_eq!(number(zero.as_bytes()), Some(0), "{zero:?}");
        }
        assert_eq!(number(b" +1000"), Some(1_000));
        assert_eq!(number(b"4294967295"), Some(u32::MAX));
        let odd = ["", " ", "-", "+-0", "--0", "0 ", "0x0", "x", "-1", "4294967296"];
        for odd in odd.into_iter().chain(["-18446744073709551616", "\u{a0}0", "0\r"]) {
            assert_eq!(number(odd.as_bytes()), None, "{odd:?}");
        }
    }

    #[test]
    fn an_account_is_what_glibc_takes_for_one() {
        let text = b"  toor::-0:0\n#no::0:0:::/bin/sh\nshort:x:0\nodd:x:0x:0:::\n";
        let users = users(text);
        assert_eq!(users.len(), 1, "{users:?}");
        assert_eq!((users[0].name.as_str(), users[0].uid), ("toor", 0));
    }

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
