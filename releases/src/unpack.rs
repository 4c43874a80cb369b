//! Unpacking a component: the one place where bytes from outside become files that root runs.
//!
//! Its digest was signed by the board, and still nothing in it is trusted: paths, types, modes,
//! sizes and counts are checked entry by entry before a byte is written, and so is the text of units
//! and configuration.
//!
//! Invariants:
//!  1. nothing is written outside `dest`, and `dest` is there whole and synced, or not at all;
//!  2. only plain files and folders come into being, with modes 0444 or 0555, owned by the caller;
//!  3. work and memory are bounded whatever the blob says of itself.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use borgios_policy::Name;
use thiserror::Error;

use crate::component::{FILES_MAX, UNPACKED_MAX};
use crate::entry::{EntryPath, INFO, PathError, Place};
use crate::info::{ComponentInfo, INFO_MAX, InfoError};
use crate::text::{self, TEXT_MAX, TextError};

/// Largest window of a compressed blob, as a power of two: 16 MiB of memory.
const WINDOW_LOG_MAX: u32 = 24;

/// What the release and the machine say about the component that must come out.
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    /// The name under which the release lists it.
    pub name: &'a Name,
    /// The machine's architecture, as `uname -m` prints it.
    pub arch: &'a str,
}

/// Why a blob was not unpacked.
#[derive(Debug, Error)]
pub enum UnpackError {
    /// Not a zstd stream of a tar, or one cut short.
    #[error("the blob is damaged: {0}")]
    Damaged(io::Error),
    /// A path where no component has one.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The first entry is another one.
    #[error("the first entry is {0:?}, expected {INFO}")]
    NotFirst(String),
    /// Not in strict order, which a path given twice breaks too.
    #[error("entry {0} is out of order: paths are sorted and unique")]
    Order(EntryPath),
    /// A link, device, pipe, folder entry or extension.
    #[error("entry {path} is of type {kind:?}, only plain files are unpacked")]
    NotAFile {
        /// The entry, shortened.
        path: String,
        /// The type byte.
        kind: char,
    },
    /// Neither 0644 nor 0755.
    #[error("entry {path} has mode {mode:o}, expected 644 or 755")]
    Mode {
        /// The entry.
        path: EntryPath,
        /// Its mode.
        mode: u32,
    },
    /// A file whose name is a folder for another one.
    #[error("entry {0} lies below a file")]
    BelowAFile(EntryPath),
    /// Too many entries.
    #[error("more than {FILES_MAX} entries")]
    Files,
    /// Too many bytes.
    #[error("entry {path} makes it more than {max} bytes")]
    Size {
        /// The entry.
        path: EntryPath,
        /// The bound.
        max: u64,
    },
    /// A unit or a configuration file that systemd and people would read in two ways.
    #[error("entry {path} is no text of a unit or of configuration")]
    Text {
        /// The entry.
        path: EntryPath,
        /// Why.
        #[source]
        source: TextError,
    },
    /// Its description is refused.
    #[error(transparent)]
    Info(#[from] InfoError),
    /// Empty.
    #[error("the component is empty")]
    Empty,
    /// Another component than the release names.
    #[error("the component calls itself {found}, the release {expected}")]
    Name {
        /// What `component.json` says.
        found: Name,
        /// What the release says.
        expected: Name,
    },
    /// For another kind of machine.
    #[error("the component is for {found}, this machine is {expected}")]
    Arch {
        /// What `component.json` says.
        found: String,
        /// What the machine is.
        expected: String,
    },
    /// A unit to restart that is not there.
    #[error("component.json restarts {0}, which is not in units/")]
    NoUnit(String),
    /// The disk said no: full, perhaps. The blob may be as good as ever.
    #[error("cannot write {path}")]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl UnpackError {
    /// Whether trying again with the same blob can help: only the disk was at fault.
    #[must_use]
    pub fn is_disk(&self) -> bool {
        matches!(self, Self::Disk { .. })
    }
}

/// Unpacks `blob`, whose digest the caller has checked, into the new folder `dest`.
///
/// A leftover of an earlier attempt beside `dest` is removed first. After a crash `dest` is
/// either complete or absent.
///
/// # Errors
/// See [`UnpackError`]; `dest` does not exist then.
pub fn unpack(
    blob: impl Read,
    dest: &Path,
    expected: &Expected<'_>,
) -> Result<ComponentInfo, UnpackError> {
    let parent = dest.parent().unwrap_or(Path::new("/"));
    let name = dest.file_name().unwrap_or_default().to_string_lossy();
    let temporary = parent.join(format!(".{name}.unpacking"));
    remove(&temporary)?;
    let unpacked = fill(blob, &temporary, expected).and_then(|info| {
        fs::rename(&temporary, dest).map_err(disk(dest))?;
        sync_folder(parent)?;
        Ok(info)
    });
    if unpacked.is_err() {
        // The first error is the one to tell; the leftover is removed at the next attempt too.
        let _ = remove(&temporary);
    }
    unpacked
}

fn fill(
    blob: impl Read,
    folder: &Path,
    expected: &Expected<'_>,
) -> Result<ComponentInfo, UnpackError> {
    make_folder(folder)?;
    let mut zstd = zstd::Decoder::new(blob).map_err(UnpackError::Damaged)?.single_frame();
    zstd.window_log_max(WINDOW_LOG_MAX).map_err(UnpackError::Damaged)?;
    let mut archive = tar::Archive::new(zstd);
    let mut info = None;
    let mut seen = Seen::default();
    // `raw`: extensions (long names, pax headers, sparse maps) stay entries of their own type,
    // and are refused as such.
    for entry in archive.entries().map_err(UnpackError::Damaged)?.raw(true) {
        let mut entry = entry.map_err(UnpackError::Damaged)?;
        let (path, mode, size) = seen.admit(&entry)?;
        if info.is_none() {
            let read = read_info(&mut entry, expected)?;
            write_file(folder, &path, mode, size, &mut read.1.as_slice())?;
            info = Some(read.0);
            continue;
        }
        for inner in path.folders() {
            if seen.folders.insert(inner.to_owned()) {
                make_folder(&folder.join(inner))?;
            }
        }
        if path.is_text() {
            let bytes = read_text(&mut entry, &path)?;
            write_file(folder, &path, mode, size, &mut bytes.as_slice())?;
            continue;
        }
        write_file(folder, &path, mode, size, &mut entry)?;
    }
    let info = info.ok_or(UnpackError::Empty)?;
    let unit = |unit: &&String| !seen.files.contains(&format!("units/{unit}"));
    if let Some(unit) = info.restart.iter().find(unit) {
        return Err(UnpackError::NoUnit(unit.clone()));
    }
    for inner in &seen.folders {
        sync_folder(&folder.join(inner))?;
    }
    sync_folder(folder)?;
    Ok(info)
}

/// What was admitted so far.
#[derive(Default)]
struct Seen {
    last: Option<EntryPath>,
    files: BTreeSet<String>,
    folders: BTreeSet<String>,
    total: u64,
}

impl Seen {
    /// Checks an entry's header; nothing of the entry was read yet.
    fn admit<R: Read>(
        &mut self,
        entry: &tar::Entry<'_, R>,
    ) -> Result<(EntryPath, u32, u64), UnpackError> {
        let header = entry.header();
        let bytes = header.path_bytes();
        let text = String::from_utf8_lossy(&bytes);
        let kind = header.entry_type();
        if kind != tar::EntryType::Regular {
            let path = text.chars().take(80).collect();
            return Err(UnpackError::NotAFile { path, kind: char::from(kind.as_byte()) });
        }
        let path = EntryPath::parse(&text)?;
        match (&self.last, path.place()) {
            (None, Place::Info) => {}
            (None, _) => return Err(UnpackError::NotFirst(path.to_string())),
            (Some(_), Place::Info) => return Err(UnpackError::Order(path)),
            // component.json stands outside the order of the others.
            (Some(last), _) if last.place() != Place::Info && *last >= path => {
                return Err(UnpackError::Order(path));
            }
            (Some(_), _) => {}
        }
        if path.folders().any(|folder| self.files.contains(folder)) {
            return Err(UnpackError::BelowAFile(path));
        }
        let mode = header.mode().map_err(UnpackError::Damaged)?;
        if !matches!(mode, 0o644 | 0o755) {
            return Err(UnpackError::Mode { path, mode });
        }
        let size = header.entry_size().map_err(UnpackError::Damaged)?;
        let max = match path.place() {
            Place::Info => INFO_MAX as u64,
            Place::File => UNPACKED_MAX,
            Place::Unit | Place::Sysusers | Place::Tmpfiles => TEXT_MAX,
        };
        self.total = self.total.saturating_add(size);
        if size > max || self.total > UNPACKED_MAX {
            return Err(UnpackError::Size { path, max: max.min(UNPACKED_MAX) });
        }
        self.files.insert(path.to_string());
        if self.files.len() > FILES_MAX {
            return Err(UnpackError::Files);
        }
        self.last = Some(path.clone());
        Ok((path, mode, size))
    }
}

/// Reads `component.json`, whose size was bounded already, and checks that it is the right one.
fn read_info(
    entry: &mut impl Read,
    expected: &Expected<'_>,
) -> Result<(ComponentInfo, Vec<u8>), UnpackError> {
    let mut text = Vec::new();
    entry.read_to_end(&mut text).map_err(UnpackError::Damaged)?;
    let info = ComponentInfo::parse(&text)?;
    if info.name != *expected.name {
        return Err(UnpackError::Name { found: info.name, expected: expected.name.clone() });
    }
    if !info.fits(expected.arch) {
        return Err(UnpackError::Arch { found: info.arch, expected: expected.arch.to_owned() });
    }
    Ok((info, text))
}

/// Reads a unit or a configuration file, whose size was bounded already, and checks its text.
fn read_text(entry: &mut impl Read, path: &EntryPath) -> Result<Vec<u8>, UnpackError> {
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(UnpackError::Damaged)?;
    let refused = |source| UnpackError::Text { path: path.clone(), source };
    text::check(&bytes).map_err(refused)?;
    Ok(bytes)
}

fn write_file(
    folder: &Path,
    path: &EntryPath,
    mode: u32,
    size: u64,
    data: &mut dyn Read,
) -> Result<(), UnpackError> {
    let target = folder.join(path.as_str());
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&target)
        .map_err(disk(&target))?;
    let mut chunk = vec![0; 128 * 1024];
    let mut left = size;
    while left > 0 {
        // Reading and writing are told apart: a damaged blob is not a full disk.
        let read = data.read(&mut chunk).map_err(UnpackError::Damaged)?;
        if read == 0 {
            return Err(UnpackError::Damaged(io::ErrorKind::UnexpectedEof.into()));
        }
        file.write_all(&chunk[..read]).map_err(disk(&target))?;
        left = left.saturating_sub(read as u64);
    }
    file.set_permissions(Permissions::from_mode(mode & 0o555)).map_err(disk(&target))?;
    file.sync_all().map_err(disk(&target))
}

fn make_folder(path: &Path) -> Result<(), UnpackError> {
    fs::create_dir(path).map_err(disk(path))?;
    fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(disk(path))
}

fn sync_folder(path: &Path) -> Result<(), UnpackError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(disk(path))
}

fn remove(path: &Path) -> Result<(), UnpackError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk(path)(error)),
        _ => Ok(()),
    }
}

fn disk(path: &Path) -> impl FnOnce(io::Error) -> UnpackError {
    let path = path.to_owned();
    move |source| UnpackError::Disk { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::tests::{JSON, hello};

    fn try_unpack(blob: &[u8]) -> Result<ComponentInfo, UnpackError> {
        let folder = tempfile::tempdir().unwrap();
        let dest = folder.path().join("out");
        let expected = Expected { name: &"hello".parse().unwrap(), arch: "x86_64" };
        let result = unpack(blob, &dest, &expected);
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, usize::from(result.is_ok()), "only a whole component stays");
        result
    }

    /// A blob of hand-made entries: path bytes, type, mode, content.
    fn blob(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
        for (path, kind, mode, text) in entries {
            let mut header = crate::component::header("x", *mode, text.len() as u64).unwrap();
            let name = &mut header.as_ustar_mut().unwrap().name;
            name.fill(0);
            name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(tar::EntryType::new(*kind));
            header.set_cksum();
            tar.append(&header, *text).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    type Entry<'a> = (&'a str, u8, u32, &'a [u8]);

    const INFO_ENTRY: Entry<'static> = (INFO, b'0', 0o644, JSON.as_bytes());
    const UNIT_ENTRY: Entry<'static> = ("units/hello.service", b'0', 0o644, b"[Service]");

    #[test]
    fn what_was_built_comes_out_read_only() {
        let folder = tempfile::tempdir().unwrap();
        let dest = folder.path().join("out");
        // A leftover of an attempt that was cut off is no hindrance.
        fs::create_dir_all(folder.path().join(".out.unpacking/files")).unwrap();
        let (bytes, built) = hello();
        let expected = Expected { name: &"hello".parse().unwrap(), arch: "x86_64" };
        assert_eq!(unpack(bytes.as_slice(), &dest, &expected).unwrap(), built.info);
        assert_eq!(fs::read(dest.join("files/share/text")).unwrap(), b"hello");
        let mode =
            |path: &str| fs::metadata(dest.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode("files/bin/hello"), 0o555);
        assert_eq!(mode("files/share/text"), 0o444);
        assert_eq!(mode("files"), 0o755);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn t31_hostile_entries_are_refused_by_name() {
        type Check = fn(&UnpackError) -> bool;
        let good = [INFO_ENTRY, UNIT_ENTRY];
        assert!(try_unpack(&blob(&good)).is_ok());
        let cases: Vec<(Entry<'_>, Check)> = vec![
            (("/etc/cron.d/x", b'0', 0o644, b""), |e| matches!(e, UnpackError::Path(_))),
            (("files/../../x", b'0', 0o644, b""), |e| matches!(e, UnpackError::Path(_))),
            (("postinst", b'0', 0o755, b""), |e| matches!(e, UnpackError::Path(_))),
            (("files/x", b'2', 0o644, b""), |e| {
                matches!(e, UnpackError::NotAFile { kind: '2', .. })
            }),
            (("files/x", b'1', 0o644, b""), |e| {
                matches!(e, UnpackError::NotAFile { kind: '1', .. })
            }),
            (("files/x", b'3', 0o644, b""), |e| {
                matches!(e, UnpackError::NotAFile { kind: '3', .. })
            }),
            (("files/x", b'4', 0o644, b""), |e| matches!(e, UnpackError::NotAFile { .. })),
            (("files/x", b'5', 0o755, b""), |e| matches!(e, UnpackError::NotAFile { .. })),
            (("files/x", b'6', 0o644, b""), |e| matches!(e, UnpackError::NotAFile { .. })),
            (("files/x", b'x', 0o644, b"30 path=../../../etc/shadow\n"), |e| {
                matches!(e, UnpackError::NotAFile { kind: 'x', .. })
            }),
            (("files/x", b'L', 0o644, b"../../../etc/shadow"), |e| {
                matches!(e, UnpackError::NotAFile { kind: 'L', .. })
            }),
            (("files/x", b'S', 0o644, b""), |e| matches!(e, UnpackError::NotAFile { .. })),
            (("files/x", b'0', 0o4755, b""), |e| {
                matches!(e, UnpackError::Mode { mode: 0o4755, .. })
            }),
            (("files/x", b'0', 0o666, b""), |e| matches!(e, UnpackError::Mode { .. })),
            ((INFO, b'0', 0o644, b"{}"), |e| matches!(e, UnpackError::Order(_))),
        ];
        for (entry, expected) in cases {
            let error = try_unpack(&blob(&[INFO_ENTRY, entry])).unwrap_err();
            assert!(expected(&error), "{entry:?}: {error}");
            assert!(!error.is_disk());
        }
    }

    #[test]
    fn t30_a_component_of_another_name_machine_or_order_is_refused() {
        let file = |path| (path, b'0', 0o644, &b"x"[..]);
        let refused = |entries: &[_]| try_unpack(&blob(entries)).unwrap_err();
        assert!(matches!(refused(&[]), UnpackError::Empty));
        assert!(matches!(refused(&[UNIT_ENTRY]), UnpackError::NotFirst(_)));
        assert!(matches!(refused(&[INFO_ENTRY]), UnpackError::NoUnit(_)));
        let twice = [INFO_ENTRY, file("files/a"), file("files/a")];
        assert!(matches!(refused(&twice), UnpackError::Order(_)));
        let unsorted = [INFO_ENTRY, file("files/b"), file("files/a")];
        assert!(matches!(refused(&unsorted), UnpackError::Order(_)));
        let below = [INFO_ENTRY, file("files/a"), file("files/a-b"), file("files/a/b")];
        assert!(matches!(refused(&below), UnpackError::BelowAFile(_)));
        let long = vec![b'x'; 70_000];
        let unit = [INFO_ENTRY, ("units/hello.service", b'0', 0o644, long.as_slice())];
        assert!(matches!(refused(&unit), UnpackError::Size { .. }));
        let other = JSON.replace("hello\",\"v", "other\",\"v");
        let other = [(INFO, b'0', 0o644, other.as_bytes()), UNIT_ENTRY];
        assert!(matches!(refused(&other), UnpackError::Name { .. }));
        let arm = JSON.replace("any", "aarch64");
        let arm = [(INFO, b'0', 0o644, arm.as_bytes()), UNIT_ENTRY];
        assert!(matches!(refused(&arm), UnpackError::Arch { .. }));
    }

    #[test]
    fn text_that_systemd_and_people_read_in_two_ways_is_not_written() {
        let refused = |path: &'static str, text: &'static [u8]| {
            let entry = (path, b'0', 0o644, text);
            let mut entries = vec![INFO_ENTRY, UNIT_ENTRY, entry];
            entries.sort_by_key(|entry| entry.0);
            match try_unpack(&blob(&entries)).unwrap_err() {
                UnpackError::Text { path, source } => (path.to_string(), source),
                error => panic!("{error}"),
            }
        };
        let cases: [(&'static str, &'static [u8], u32); 5] = [
            ("units/x.service", b"[Service]\n# harmless\rExecStart=+/bin/evil\n", 0x0d),
            ("units/x.socket", b"[Socket]\n#\0ExecStartPre=+/bin/evil\n", 0),
            ("units/x.timer", b"[Timer]\n\xc2\xa0Unit=x\n", 0xa0),
            ("sysusers.d/x.conf", b"u a\n#\x7f\n", 0x7f),
            ("tmpfiles.d/x.conf", b"#\n#\xe2\x80\xa8f /etc/x\n", 0x2028),
        ];
        for (path, text, code) in cases {
            let why = TextError::Character { line: 2, code };
            assert_eq!(refused(path, text), (path.to_owned(), why));
        }
        let (path, why) = refused("units/x.service", b"[Service]\n# \xff\n");
        assert_eq!(path, "units/x.service");
        assert!(matches!(why, TextError::Utf8(_)));
        // Programs and data are their own affair, and so are letters in a comment.
        let fine = [
            INFO_ENTRY,
            ("files/bin/x", b'0', 0o755, b"\x7fELF\0\r".as_slice()),
            ("units/hello.service", b'0', 0o644, "# gr\u{fc}n\n[Service]\n".as_bytes()),
        ];
        assert!(try_unpack(&blob(&fine)).is_ok());
    }

    #[test]
    fn t31_a_small_blob_that_promises_a_huge_file_writes_nothing() {
        let mut tar = Vec::new();
        let info = crate::component::header(INFO, 0o644, JSON.len() as u64).unwrap();
        tar.extend_from_slice(info.as_bytes());
        tar.extend_from_slice(JSON.as_bytes());
        tar.resize(tar.len().next_multiple_of(512), 0);
        let bomb = crate::component::header("files/bomb", 0o644, 7 * 1024 * 1024 * 1024).unwrap();
        tar.extend_from_slice(bomb.as_bytes());
        tar.resize(tar.len() + 64 * 1024, 0);
        let blob = zstd::encode_all(tar.as_slice(), 1).unwrap();
        assert!(matches!(try_unpack(&blob), Err(UnpackError::Size { .. })));
    }

    #[test]
    fn no_damaged_blob_panics_or_leaves_anything() {
        let (good, _) = hello();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            // A flipped bit in padding may pass here; the digest is what catches it.
            let _ = try_unpack(&bad);
            assert!(try_unpack(&good[..at]).is_err(), "cut at {at}");
        }
        assert!(try_unpack(&[b'x'; 4096]).is_err());
    }
}
