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
        if name.to_str().is_some_and(is_left_over) {
            let path = etc.join(&name);
            warn!("{} was left behind by a program that died; it is removed", path.display());
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn is_left_over(name: &str) -> bool {
    let rest = ["passwd", "shadow"].iter().find_map(|file| name.strip_prefix(file));
    rest.is_some_and(|rest| match rest.strip_prefix('.') {
        Some("lock") => true,
        Some(pid) => !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()),
        None => rest == "+",
    })
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
        drop(AccountLock::take(folder.path()).unwrap());
        for name in kept {
            assert!(folder.path().join(name).exists(), "{name}");
        }
        for name in swept {
            assert!(!folder.path().join(name).exists(), "{name}");
        }
    }
}
