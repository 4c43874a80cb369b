//! Files that must survive a crash at any instant, and secrets that must not survive their use.
//!
//! [`write()`] leaves, after a crash or a full disk at any step, either the old file or the whole new
//! one, and at most a `.tmp` beside it, which [`sweep`] removes. It returns only after the bytes
//! were read back from the disk's folder entry.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::{Pid, test_kill_process};

use crate::failure::{Failure, OrFail as _};

/// What an unfinished write's name ends in.
const UNFINISHED: &str = ".tmp";

/// Creates a folder and its parents, for its owner alone.
pub(crate) fn folder(path: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .or_fail(|| format!("could not create the folder {}", path.display()))
}

/// Writes `bytes` to `path`, replacing what was there, as one step that is either done or not.
///
/// The file is its owner's alone (0600). Order: write beside it, fsync, rename, fsync the folder,
/// read back.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_mode(path, bytes, 0o600)
}

/// [`write()`] for what others may read: a card, an exported statement (0644).
pub(crate) fn write_public(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_mode(path, bytes, 0o644)
}

fn write_mode(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let unfinished = unfinished(path);
    let written = (|| {
        // A name that is taken was left by a dead process of this number, or planted as a link to
        // somewhere else by whoever shares the folder: neither is written through.
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        sync_folder(path)?;
        let mut again = Vec::new();
        open(path)?.take(bytes.len() as u64 + 1).read_to_end(&mut again)?;
        if again == bytes {
            Ok(())
        } else {
            Err(io::Error::other("what was read back is not what was written"))
        }
    })();
    written.map_err(|error| {
        // Best effort; a `.tmp` that stays is swept by the next run.
        let _ = fs::remove_file(&unfinished);
        Failure::new(format!("could not write {}", path.display())).cause(error)
    })
}

/// Destroys a secret file: overwritten, synced, unlinked, its folder synced. Gone already is done.
///
/// On journalling or copy-on-write file systems and on flash the overwriting may miss the old
/// blocks; what keeps the secret there is that the file was encrypted to begin with.
pub(crate) fn erase(path: &Path) -> Result<(), Failure> {
    let erased = (|| {
        let mut file = match OpenOptions::new().write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&vec![0; length.min(READ_MAX)])?;
        file.sync_all()?;
        fs::remove_file(path)?;
        sync_folder(path)
    })();
    erased.or_fail(|| format!("could not erase {}", path.display()))
}

/// Removes what crashed writes left behind in `folder`, in which nobody else may be writing.
pub(crate) fn sweep(folder: &Path) -> Result<(), Failure> {
    sweep_if(folder, |_| true)
}

/// The same where other runs may be writing now: what they are at stays.
pub(crate) fn sweep_dead(folder: &Path) -> Result<(), Failure> {
    // Not by /proc, which may hide processes of others, and of one's own that let nobody look into them.
    let is_gone = |pid: Pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
    sweep_if(folder, |process| process.parse().ok().and_then(Pid::from_raw).is_none_or(is_gone))
}

fn sweep_if(folder: &Path, may_go: impl Fn(&str) -> bool) -> Result<(), Failure> {
    for path in list(folder)? {
        let name = path.to_string_lossy();
        let process = name.strip_suffix(UNFINISHED).and_then(|name| name.rsplit('.').next());
        if process.is_some_and(&may_go) {
            fs::remove_file(&path)
                .or_fail(|| format!("could not remove the unfinished {}", path.display()))?;
        }
    }
    Ok(())
}

/// The largest file this program reads whole, in bytes; bundles and components are streamed.
pub(crate) const READ_MAX: usize = 64 * 1024 * 1024;

/// Opens what is a file, and nothing that could hold the reader up or never end: in a shared
/// folder anyone may lay a pipe, or a link to a device.
fn open(path: &Path) -> io::Result<File> {
    let without_waiting = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(without_waiting).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no file")) }
}

/// Reads a file of at most `max` bytes; `None` if there is none.
pub(crate) fn read(path: &Path, max: usize) -> Result<Option<Vec<u8>>, Failure> {
    let what = || format!("could not read {}", path.display());
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).or_fail(what),
    };
    let mut bytes = Vec::new();
    let max = max.min(READ_MAX);
    file.take(max as u64 + 1).read_to_end(&mut bytes).or_fail(what)?;
    if bytes.len() > max {
        return Err(Failure::new(what()).because(format!("it is longer than {max} bytes")));
    }
    Ok(Some(bytes))
}

/// The files of a folder, sorted by name; none if there is no such folder.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let what = || format!("could not list {}", folder.display());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).or_fail(what),
    };
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()
        .or_fail(what)?;
    paths.sort();
    Ok(paths)
}

/// The process number keeps two writers of a shared exchange folder apart.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}{UNFINISHED}", std::process::id()));
    PathBuf::from(name)
}

/// Makes a rename or unlink in `path`'s folder survive a power cut.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_replace_and_sweep_removes_only_the_unfinished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        // No process has number 0; process 1 always lives.
        for process in [0, 1] {
            fs::write(folder.path().join(format!("b.json.{process}.tmp")), b"half").unwrap();
        }
        sweep_dead(folder.path()).unwrap();
        assert_eq!(list(folder.path()).unwrap().len(), 2);
        sweep(folder.path()).unwrap();
        assert_eq!(list(folder.path()).unwrap(), std::slice::from_ref(&path));
        assert_eq!(read(&path, 3).unwrap().unwrap(), b"two");
        assert!(read(&path, 2).is_err());
    }

    /// In a folder that others write in too, a name may lead elsewhere or never end.
    #[test]
    fn planted_links_and_pipes_harm_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, path) = (folder.path().join("victim"), folder.path().join("a.json"));
        fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, unfinished(&path)).unwrap();
        write_public(&path, b"one").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"mine");
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert!(!path.is_symlink());

        let pipe = folder.path().join("b.json");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let (said, heard) = std::sync::mpsc::channel();
        std::thread::spawn(move || said.send(read(&pipe, 100).is_err()));
        let refused = heard.recv_timeout(std::time::Duration::from_secs(60));
        assert_eq!(refused, Ok(true), "a pipe holds nothing up");
    }

    #[test]
    fn erasing_twice_is_erasing_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed");
        write(&path, b"secret").unwrap();
        erase(&path).unwrap();
        erase(&path).unwrap();
        assert!(read(&path, 100).unwrap().is_none());
    }
}
