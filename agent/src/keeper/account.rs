//! The agent's unprivileged account, as the system knows it.

use std::io;
use std::path::Path;

use crate::disk;

/// The user and group that borgiosd runs as.
pub const USER: &str = "borgios";
/// Longest `/etc/passwd` that is read, in bytes.
const PASSWD_MAX: usize = 4 * 1024 * 1024;

/// Numeric user and group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
}

/// Looks the agent's account up in `<root>/etc/passwd`, where systemd-sysusers puts it.
///
/// # Errors
/// `NotFound` if it is not there, or whatever the disk says.
pub fn lookup(root: &Path) -> io::Result<Account> {
    let bytes = disk::read_bounded(&root.join("etc/passwd"), PASSWD_MAX)?;
    String::from_utf8_lossy(&bytes).lines().find_map(parse).ok_or_else(|| {
        let text = format!("there is no user {USER}; systemd-sysusers makes it");
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}

fn parse(line: &str) -> Option<Account> {
    let mut fields = line.split(':');
    (fields.next()? == USER).then_some(())?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    // A user that is root would undo the separation of the two processes.
    (uid != 0 && gid != 0).then_some(Account { uid, gid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_agents_own_unprivileged_line_counts() {
        let good = parse("borgios:x:998:997:BorgIOS agent:/var/lib/borgios:/usr/sbin/nologin");
        assert_eq!(good, Some(Account { uid: 998, gid: 997 }));
        for bad in ["borgios:x:0:0::/:/bin/sh", "borgios2:x:5:5::/:/", "borgios:x", "", ":::"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
