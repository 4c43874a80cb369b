//! Building a component: a folder becomes a `tar.zst`, the same bytes wherever it is built.
//!
//! ```text
//! component.json, then every other file in order of its path
//! each: ustar header, mode 0644 or 0755, uid 0, gid 0, time 0, no names, no folders, no links
//! ```
//!
//! Two governors who build the same folder get the same digest, so that one can check the other.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use borgios_types::Digest;
use borgios_types::limits::COMPONENT_MAX;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::entry::{EntryPath, INFO, PathError};
use crate::info::{ComponentInfo, INFO_MAX, InfoError};
use crate::text::{self, TEXT_MAX, TextError};

/// Most files of a component.
pub const FILES_MAX: usize = 10_000;
/// Largest component once unpacked, in bytes.
pub const UNPACKED_MAX: u64 = 1024 * 1024 * 1024;

/// Compression level: part of the format, since another one makes other bytes.
const LEVEL: i32 = 9;

/// What was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// Its own description.
    pub info: ComponentInfo,
    /// Of the `tar.zst`, as a release names it.
    pub digest: Digest,
    /// Of the `tar.zst`, in bytes.
    pub size: u64,
}

/// Why a folder is no component.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The folder or a file of it cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The result cannot be written.
    #[error("cannot write the component")]
    Write(#[source] io::Error),
    /// A file where no component has one.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A name that is not even text.
    #[error("{0:?} has a name that is not UTF-8")]
    Name(PathBuf),
    /// A link, device, socket or pipe.
    #[error("{0} is neither a file nor a folder; a component holds nothing else")]
    NotAFile(PathBuf),
    /// A setuid, setgid or sticky bit.
    #[error("{path} has mode {mode:o}; a component holds no setuid, setgid or sticky files")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// No description.
    #[error("{0} has no component.json")]
    NoInfo(PathBuf),
    /// A description that is refused.
    #[error(transparent)]
    Info(#[from] InfoError),
    /// A unit or a configuration file that systemd and people would read in two ways.
    #[error("{path} is no text of a unit or of configuration")]
    Text {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: TextError,
    },
    /// A unit to restart that the component does not have.
    #[error("component.json restarts {0}, which is not in units/")]
    NoUnit(String),
    /// Too many files.
    #[error("more than {FILES_MAX} files")]
    Files,
    /// Too many bytes.
    #[error("more than {0} bytes")]
    Size(u64),
    /// A file that grew or shrank while it was read.
    #[error("{0} changed while it was read; build again")]
    Changed(PathBuf),
}

/// Builds the component in `folder` and writes it to `out`.
///
/// # Errors
/// See [`BuildError`]; what was written until then is worth nothing.
pub fn build(folder: &Path, out: impl Write) -> Result<Built, BuildError> {
    let mut files = BTreeMap::new();
    collect(folder, folder, 0, &mut files)?;
    let info_path = EntryPath::parse(INFO)?;
    if files.remove(&info_path).is_none() {
        return Err(BuildError::NoInfo(folder.to_owned()));
    }
    let info_file = folder.join(INFO);
    let read = |path: &Path, source| BuildError::Read { path: path.to_owned(), source };
    let file = File::open(&info_file).map_err(|e| read(&info_file, e))?;
    let mut text = Vec::new();
    file.take(INFO_MAX as u64 + 1).read_to_end(&mut text).map_err(|e| read(&info_file, e))?;
    let info = ComponentInfo::parse(&text)?;
    let missing = info.restart.iter().find(|unit| {
        let path = format!("units/{unit}");
        !files.keys().any(|have| have.as_str() == path)
    });
    if let Some(unit) = missing {
        return Err(BuildError::NoUnit(unit.clone()));
    }

    let counted = Counted { out, hash: Sha256::new(), size: 0 };
    let zstd = zstd::Encoder::new(counted, LEVEL).map_err(BuildError::Write)?;
    let mut tar = tar::Builder::new(zstd);
    append(&mut tar, &info_path, 0o644, text.len() as u64, &mut text.as_slice(), &info_file)?;
    let mut total = text.len() as u64;
    for (path, meta) in &files {
        total += meta.len();
        if total > UNPACKED_MAX {
            return Err(BuildError::Size(UNPACKED_MAX));
        }
        let on_disk = folder.join(path.as_str());
        let mode = if meta.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
        let mut file = File::open(&on_disk).map_err(|e| read(&on_disk, e))?;
        if path.is_text() {
            let bytes = read_text(file, &on_disk)?;
            append(&mut tar, path, mode, meta.len(), &mut bytes.as_slice(), &on_disk)?;
            continue;
        }
        append(&mut tar, path, mode, meta.len(), &mut file, &on_disk)?;
    }
    let counted = tar.into_inner().and_then(zstd::Encoder::finish).map_err(BuildError::Write)?;
    if counted.size > COMPONENT_MAX {
        return Err(BuildError::Size(COMPONENT_MAX));
    }
    Ok(Built { info, digest: Digest(counted.hash.finalize().into()), size: counted.size })
}

fn collect(
    root: &Path,
    folder: &Path,
    depth: usize,
    files: &mut BTreeMap<EntryPath, Metadata>,
) -> Result<(), BuildError> {
    let read = |source| BuildError::Read { path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let meta = fs::symlink_metadata(&path)
            .map_err(|source| BuildError::Read { path: path.clone(), source })?;
        let inner = path.strip_prefix(root).expect("read_dir returns paths below its folder");
        let name = inner.to_str().ok_or_else(|| BuildError::Name(path.clone()))?;
        if meta.is_dir() {
            if depth == crate::entry::DEPTH_MAX {
                return Err(PathError::Length(name.to_owned()).into());
            }
            collect(root, &path, depth + 1, files)?;
            continue;
        }
        if !meta.is_file() {
            return Err(BuildError::NotAFile(path));
        }
        let mode = meta.permissions().mode();
        if mode & 0o7000 != 0 {
            return Err(BuildError::Mode { path, mode: mode & 0o7777 });
        }
        files.insert(EntryPath::parse(name)?, meta);
        if files.len() > FILES_MAX {
            return Err(BuildError::Files);
        }
    }
    Ok(())
}

/// Reads a unit or a configuration file, if it is one that a server would take.
fn read_text(file: File, path: &Path) -> Result<Vec<u8>, BuildError> {
    let mut bytes = Vec::new();
    file.take(TEXT_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| BuildError::Read { path: path.to_owned(), source })?;
    text::check(&bytes).map_err(|source| BuildError::Text { path: path.to_owned(), source })?;
    Ok(bytes)
}

fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    path: &EntryPath,
    mode: u32,
    size: u64,
    data: &mut dyn io::Read,
    on_disk: &Path,
) -> Result<(), BuildError> {
    let header = header(path.as_str(), mode, size).map_err(BuildError::Write)?;
    let mut exact = Exact::new(data, size);
    tar.append(&header, &mut exact).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => BuildError::Changed(on_disk.to_owned()),
        _ => BuildError::Write(error),
    })
}

/// A header that says nothing about where and when the file came from.
pub(crate) fn header(path: &str, mode: u32, size: u64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(path)?;
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

/// Reads exactly so many bytes, or fails: a tar header has already promised them.
pub(crate) struct Exact<R> {
    data: R,
    left: u64,
}

impl<R: io::Read> Exact<R> {
    pub(crate) fn new(data: R, size: u64) -> Self {
        Self { data, left: size }
    }
}

impl<R: io::Read> io::Read for Exact<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.data.read(buf)? as u64;
        let whole = read > 0 || self.left == 0 || buf.is_empty();
        if read > self.left || !whole {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read;
        Ok(usize::try_from(read).expect("no more than the buffer's length was read"))
    }
}

/// Hashes and counts what goes through.
struct Counted<W> {
    out: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.out.write(buf)?;
        self.hash.update(&buf[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs::{FileTimes, OpenOptions};
    use std::os::unix::fs::symlink;
    use std::time::{Duration, SystemTime};

    use super::*;

    pub(crate) const JSON: &str =
        r#"{"name":"hello","version":"1","arch":"any","restart":["hello.service"]}"#;

    /// Writes the component `hello`, in the order given.
    pub(crate) fn write(folder: &Path, files: &[(&str, &str, u32)]) {
        for (name, text, mode) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        }
    }

    pub(crate) const HELLO: &[(&str, &str, u32)] = &[
        ("component.json", JSON, 0o600),
        ("files/bin/hello", "#!/bin/sh\necho hello\n", 0o700),
        ("files/share/text", "hello", 0o640),
        ("units/hello.service", "[Service]\nExecStart=/bin/true\n", 0o644),
    ];

    pub(crate) fn hello() -> (Vec<u8>, Built) {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), HELLO);
        let mut bytes = Vec::new();
        let built = build(folder.path(), &mut bytes).unwrap();
        (bytes, built)
    }

    #[test]
    fn one_folder_makes_the_same_bytes_whatever_its_times_modes_and_order() {
        let (bytes, built) = hello();
        assert_eq!(built.digest, Digest::of(&bytes));
        assert_eq!(built.size, bytes.len() as u64);
        let other = tempfile::tempdir().unwrap();
        let mut files = HELLO.to_vec();
        files.reverse();
        for (_, _, mode) in &mut files {
            *mode |= 0o044;
        }
        write(other.path(), &files);
        fs::create_dir(other.path().join("files/empty")).unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let file = OpenOptions::new().write(true).open(other.path().join("files/share/text"));
        file.unwrap().set_times(FileTimes::new().set_modified(old)).unwrap();
        let mut again = Vec::new();
        assert_eq!(build(other.path(), &mut again).unwrap(), built);
        assert_eq!(again, bytes);
    }

    #[test]
    fn what_no_component_holds_is_refused_by_name() {
        let with = |change: &dyn Fn(&Path)| {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), HELLO);
            change(folder.path());
            build(folder.path(), io::sink()).unwrap_err()
        };
        let error = with(&|f| write(f, &[("postinst", "rm -rf /", 0o755)]));
        assert!(matches!(error, BuildError::Path(PathError::NoPlace(_))), "{error}");
        let error = with(&|f| symlink("/etc/shadow", f.join("files/x")).unwrap());
        assert!(matches!(error, BuildError::NotAFile(_)), "{error}");
        let error = with(&|f| write(f, &[("files/su", "", 0o4755)]));
        assert!(matches!(error, BuildError::Mode { mode: 0o4755, .. }), "{error}");
        let error = with(&|f| fs::remove_file(f.join("component.json")).unwrap());
        assert!(matches!(error, BuildError::NoInfo(_)), "{error}");
        let error = with(&|f| fs::remove_file(f.join("units/hello.service")).unwrap());
        assert!(matches!(error, BuildError::NoUnit(_)), "{error}");
        let error = with(&|f| fs::write(f.join("component.json"), "{}").unwrap());
        assert!(matches!(error, BuildError::Info(_)), "{error}");
        let error = with(&|f| write(f, &[("sysusers.d/a.conf", "# a\ru b\n", 0o644)]));
        let source = match &error {
            BuildError::Text { path, source } if path.ends_with("sysusers.d/a.conf") => source,
            _ => panic!("{error}"),
        };
        assert_eq!(*source, TextError::Character { line: 1, code: 13 });
        let long = "#".repeat(70_000);
        let error = with(&|f| write(f, &[("units/hello.service", long.as_str(), 0o644)]));
        assert!(matches!(error, BuildError::Text { source: TextError::Size, .. }), "{error}");
        let error = build(Path::new("/nonexistent"), io::sink()).unwrap_err();
        assert!(matches!(error, BuildError::Read { .. }), "{error}");
    }

    #[test]
    fn a_file_that_changes_under_the_builder_is_noticed() {
        for (promised, text) in [(3, "four"), (5, "four")] {
            let mut exact = Exact::new(text.as_bytes(), promised);
            assert!(io::copy(&mut exact, &mut io::sink()).is_err(), "{promised}");
        }
        let mut exact = Exact::new(&b"four"[..], 4);
        assert_eq!(io::copy(&mut exact, &mut io::sink()).unwrap(), 4);
    }
}
