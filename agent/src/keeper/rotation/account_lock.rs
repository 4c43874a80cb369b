//! The lock of all account tools, and what a tool that died left behind.
//!
//! ```text
//! /etc/.pwd.lock             a POSIX lock, lckpwdf(3): dies with its holder
//! /etc/{passwd,shadow}.lock  shadow-utils' own, made and removed while holding the first
//! /etc/{passwd,shadow}.PID   how such a file is made
//! /etc/{passwd,shadow}+      the new content before it is renamed
//! ```
//! So whoever holds the first lock knows that each of the others is left over from a program that
//! was killed. Left there, a lock without a readable PID, or with the PID of another program since
//! a reboot, would keep every account tool out for ever.
//!
//! A file `passwd.20240101` is somebody's copy: only what can be a tool's, by its number and by what is in
//! it, is removed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use tracing::warn;

use super::obstacle::{Obstacle, at};

/// How long a tool at work is waited for: without it, accounts that change all the time would keep
/// root's own from ever changing. One that holds the lock for longer is an obstacle.
const PATIENCE: Duration = Duration::from_secs(1);
/// Pause between two attempts.
const TICK: Duration = Duration::from_millis(10);
/// The highest PID that Linux gives.
const PID_MAX: u32 = 4_194_304;
/// Longest file that is made on the way to a lock: a PID and a NUL, as shadow-utils writes it.
const LOCK_MAX: u64 = 12;

/// Held until dropped. No account tool can be run meanwhile: it would wait for this.
#[derive(Debug)]
pub(super) struct AccountLock {
    _file: File,
}

impl AccountLock {
    /// Takes the lock, waiting a moment for a tool at work, and removes what dead ones left.
    pub(super) fn take(etc: &Path) -> Result<Self, Obstacle> {
        let path = etc.join(".pwd.lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(at(&path))?;
        let end = Instant::now() + PATIENCE;
        loop {
            match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::AGAIN | Errno::ACCESS) if Instant::now() < end => {
                    std::thread::sleep(TICK);
                }
                Err(Errno::AGAIN | Errno::ACCESS) => return Err(Obstacle::Locked),
                Err(error) => return Err(at(&path)(error.into())),
            }
        }
        sweep(etc).map_err(at(etc))?;
        Ok(Self { _file: file })
    }
}

fn sweep(etc: &Path) -> io::Result<()> {
    for entry in fs::read_dir(etc)? {
        let name = entry?.file_name();
        let path = etc.join(&name);
        if name.to_str().is_some_and(|name| is_left_over(name, &path)) {
            warn!("{} was left behind by a program that died; it is removed", path.display());
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn is_left_over(name: &str, path: &Path) -> bool {
    let rest = ["passwd", "shadow"].iter().find_map(|file| name.strip_prefix(file));
    rest.is_some_and(|rest| match rest.strip_prefix('.') {
        Some("lock") => true,
        Some(pid) => {
            let is_number = pid.bytes().all(|byte| byte.is_ascii_digit());
            is_number && pid.parse().is_ok_and(|pid: u32| pid <= PID_MAX) && holds_no_account(path)
        }
        None => rest == "+",
    })
}

/// Whether a file is as short as a PID, whole or torn, and holds no account: then it is nobody's copy.
fn holds_no_account(path: &Path) -> bool {
    let is_short = |meta: fs::Metadata| meta.is_file() && meta.len() <= LOCK_MAX;
    fs::symlink_metadata(path).is_ok_and(is_short)
        && fs::read(path).is_ok_and(|bytes| !bytes.contains(&b':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_account_tools_leave_behind_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let kept = [
            "passwd",
            "shadow",
            "shadow-",
            "passwd-",
            "shadow.bak",
            "shadow.1a",
            "shadow.",
            "group.lock",
            "group+",
            "shadow+x",
            "shadow.lock2",
            "myshadow.lock",
        ];
        let swept =
            ["passwd.lock", "shadow.lock", "passwd.1", "shadow.99999", "shadow+", "passwd+"];
        for name in kept.iter().chain(&swept) {
            fs::write(folder.path().join(name), "").unwrap();
        }
        // What shadow-utils writes, and what is somebody's copy.
        let copies = ["passwd.20240101", "passwd.2", "shadow.3", "shadow.4"];
        let account = "root:x:0:0:root:/root:/bin/bash\n";
        for (name, text) in copies.iter().zip(["", account, account, "a:b\n"]) {
            fs::write(folder.path().join(name), text).unwrap();
        }
        fs::write(folder.path().join("passwd.4194304"), "4194304\0").unwrap();
        drop(AccountLock::take(folder.path()).unwrap());
        for name in kept.iter().chain(&copies) {
            assert!(folder.path().join(name).exists(), "{name}");
        }
        for name in swept.iter().chain(&["passwd.4194304"]) {
            assert!(!folder.path().join(name).exists(), "{name}");
        }
    }
}
