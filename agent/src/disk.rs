//! Writing a file so that it is there after a crash, whole or not at all.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use tokio::runtime::{Handle, RuntimeFlavor};

/// What tells one state of a file from another without reading it: which inode of which disk it is, how
/// long, and when it and its inode were last changed. Two changes in place within one tick of the kernel's
/// clock, some milliseconds, that leave its length may look alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(pub(crate) [i64; 7]);

impl Stamp {
    pub(crate) fn of(meta: &Metadata) -> Self {
        let [disk, inode, length] = [meta.dev(), meta.ino(), meta.size()]
            .map(|number| i64::from_ne_bytes(number.to_ne_bytes()));
        let [changed, changed_ns] = [meta.mtime(), meta.mtime_nsec()];
        Self([disk, inode, length, changed, changed_ns, meta.ctime(), meta.ctime_nsec()])
    }
}

/// Writes `bytes` to `path`: temporary file, fsync, rename, fsync of the folder.
///
/// After it returned the file survives a power cut; before, the old content (or none) is there.
///
/// # Errors
/// Whatever the disk says, a full one included; nothing half-written keeps the name.
pub fn write_durable(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("a path without a folder"))?;
    let name = path.file_name().ok_or_else(|| io::Error::other("a path without a name"))?;
    let temporary = folder.join(format!(".{}.tmp", name.to_string_lossy()));
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    })();
    if let Err(error) = written {
        // Best effort: the name is hidden and is overwritten by the next attempt anyway.
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    sync_folder(folder)
}

/// Runs `work`, which may wait for a disk, where it stands, and has another thread go on meanwhile with
/// all else that this runtime has to do: borgiosd has one worker. For work whose state cannot be handed
/// to a thread of its own, since whoever waits for it may give up at any time.
pub(crate) fn in_place<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // A test's runtime of one thread, which has nobody to hand it to.
        _ => work(),
    }
}

/// Makes renames and removals in `folder` survive a power cut.
///
/// The folder may be somebody else's, who puts a FIFO in its place: that is not waited for.
///
/// # Errors
/// `NotADirectory` for what is no folder, otherwise whatever the disk says.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    let flags = rustix::fs::OFlags::DIRECTORY.bits();
    let flags = i32::try_from(flags).map_err(io::Error::other)?;
    OpenOptions::new().read(true).custom_flags(flags).open(folder)?.sync_all()
}

/// Owner and group of what belongs to root: 0 and 0; in a test that is not root, its own.
#[must_use]
pub fn roots() -> (u32, u32) {
    let user = rustix::process::geteuid();
    if user.is_root() { (0, 0) } else { (user.as_raw(), rustix::process::getegid().as_raw()) }
}

/// Reads a file of at most `max` bytes.
///
/// # Errors
/// `InvalidData` for a longer one; otherwise whatever the disk says.
pub fn read_bounded(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    read_open(&File::open(path)?, path, max)
}

/// As [`read_bounded`], of a file that is open; `path` is for the error.
pub(crate) fn read_open(file: &File, path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        let text = format!("{} is longer than {max} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(bytes)
}

/// Most bytes that are overwritten of one file: far more than any key has.
const SHRED_MAX: u64 = 1024 * 1024;

/// Overwrites a file with zeros, syncs it and removes it; a missing file is fine.
///
/// The folder may be somebody else's: no link is followed, nothing but a plain file of one name is
/// overwritten, and nothing is waited for. Whatever else stands there only loses its name.
///
/// On copy-on-write disks and SSDs the old blocks may live on; what is shredded here is worth
/// nothing any more by then, this is tidiness.
///
/// # Errors
/// Whatever the disk says.
pub fn shred(path: &Path) -> io::Result<()> {
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
    let flags = i32::try_from(flags).map_err(io::Error::other)?;
    let opened = OpenOptions::new().write(true).custom_flags(flags).open(path);
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(mut file) => {
            let meta = file.metadata()?;
            if meta.is_file() && meta.nlink() == 1 {
                // A length that its owner invented, or a full disk, must not keep its name alive.
                let length = meta.len().min(SHRED_MAX);
                let over = io::copy(&mut io::repeat(0).take(length), &mut file);
                if let Err(error) = over.and_then(|_| file.sync_all()) {
                    tracing::warn!(%error, "cannot overwrite {}", path.display());
                }
            }
        }
        // A link, a folder, a pipe that nobody reads.
        Err(_) => {}
    }
    if std::fs::symlink_metadata(path)?.is_dir() {
        // Not ours to empty; it holds no name that we would look for.
        let aside = format!("aside-{:016x}", rand::random::<u64>());
        std::fs::rename(path, path.with_extension(aside))?;
    } else {
        std::fs::remove_file(path)?;
    }
    path.parent().map_or(Ok(()), sync_folder)
}

/// Whether a file is gone, or holds nothing but zeros: what [`shred`] leaves if it is cut off
/// before the name goes.
#[must_use]
pub fn is_shredded(path: &Path) -> bool {
    match read_bounded(path, SHRED_MAX as usize) {
        Ok(bytes) => bytes.iter().all(|byte| *byte == 0),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_shredded_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_durable(&path, b"one", 0o600).unwrap();
        write_durable(&path, b"two", 0o600).unwrap();
        assert_eq!(read_bounded(&path, 3).unwrap(), b"two");
        assert_eq!(read_bounded(&path, 2).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(!is_shredded(&path));
        shred(&path).unwrap();
        shred(&path).unwrap();
        assert!(is_shredded(&path));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        // Its last zero was written, and its name is still there.
        std::fs::write(&path, [0_u8; 400]).unwrap();
        assert!(is_shredded(&path));
    }

    #[test]
    fn syncing_a_folder_waits_for_no_pipe_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        sync_folder(folder.path()).unwrap();
        let fifo = folder.path().join("fifo");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, mode, 0).unwrap();
        let (say, heard) = std::sync::mpsc::channel();
        std::thread::spawn(move || say.send(sync_folder(&fifo).map_err(|error| error.kind())));
        let synced = heard.recv_timeout(std::time::Duration::from_secs(60));
        assert_eq!(synced.expect("it waits for the pipe"), Err(io::ErrorKind::NotADirectory));
    }

    #[test]
    fn shredding_follows_no_link_and_waits_for_no_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        std::fs::write(&victim, "untouched").unwrap();
        let name = folder.path().join("node.key");
        std::os::unix::fs::symlink(&victim, &name).unwrap();
        shred(&name).unwrap();
        std::fs::hard_link(&victim, &name).unwrap();
        shred(&name).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &name,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        shred(&name).unwrap();
        std::fs::create_dir(&name).unwrap();
        shred(&name).unwrap();
        assert!(std::fs::symlink_metadata(&name).is_err());
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
    }
}
