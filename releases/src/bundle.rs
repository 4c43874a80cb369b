//! The bundle: everything a fresh server needs besides its invitation, in one uncompressed tar.
//!
//! ```text
//! release.json       the exact payload of the release
//! release.json.sig   for stock ssh-keygen -Y verify -n borgios-release@v1
//! chain.json         [envelopes from policy/1 on, the release's own among them, and ballots]
//! installer          the raw keeper executable
//! blobs/<hex>        the components
//! ```
//!
//! Reading one proves nothing: whoever reads it verifies the chain and compares digests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use borgios_types::limits::{COMPONENT_MAX, PAYLOAD_MAX};
use borgios_types::{Digest, Envelope, EnvelopeError, sshsig};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::component::{Exact, header};
use crate::manifest::{COMPONENTS_MAX, Installer};

/// Longest `chain.json`, in bytes: about a thousand statements.
pub const CHAIN_MAX: u64 = 64 * 1024 * 1024;
/// Longest `release.json.sig`, in bytes.
const SIG_MAX: u64 = 4096;

/// What goes into a bundle.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// The release, with the board's signature.
    pub release: &'a Envelope,
    /// Every envelope a newcomer verifies, in an order in which it can.
    pub chain: &'a [Envelope],
    /// The raw keeper executable.
    pub installer: &'a Path,
    /// Where each component's blob lies.
    pub blobs: &'a BTreeMap<Digest, PathBuf>,
}

/// What came out of one.
#[derive(Debug)]
pub struct Bundle {
    /// The release's payload, as it stands there.
    pub release: String,
    /// Its armoured signature.
    pub signature: String,
    /// The envelopes.
    pub chain: Vec<Envelope>,
    /// What the installer is.
    pub installer: Installer,
    /// Each component's blob: where it was put, and its size. Each was hashed on its way.
    pub blobs: BTreeMap<Digest, (PathBuf, u64)>,
}

/// Why a bundle was not written or read.
#[derive(Debug, Error)]
pub enum BundleError {
    /// A release without a signature.
    #[error("the release is not signed")]
    Unsigned,
    /// A part cannot be read, or its place not written.
    #[error("cannot read or write {path}")]
    Disk {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The bundle itself cannot be read or written.
    #[error("the bundle cannot be read or written, or was cut short: {0}")]
    Stream(io::Error),
    /// A part no bundle has, or one that is there twice.
    #[error("the bundle holds {0:?}, which no bundle has, or has once")]
    Odd(String),
    /// A part that is missing.
    #[error("the bundle has no {0}")]
    Missing(&'static str),
    /// A part that is too large, or too many of them.
    #[error("{name} has {size} bytes, at most {max} are read")]
    Size {
        /// Which.
        name: String,
        /// Its size.
        size: u64,
        /// The bound.
        max: u64,
    },
    /// Too many blobs.
    #[error("more than {COMPONENTS_MAX} blobs")]
    Blobs,
    /// A blob that is not what its name says.
    #[error("blob {expected} is {found}: it was tampered with or damaged")]
    Digest {
        /// Its name.
        expected: Digest,
        /// Its content.
        found: Digest,
    },
    /// A part that is not text, or not JSON of the right shape.
    #[error("{name} is malformed: {why}")]
    Malformed {
        /// Which.
        name: &'static str,
        /// What is wrong.
        why: String,
    },
    /// One of the envelopes is none.
    #[error("chain.json, envelope {at}")]
    Envelope {
        /// From 0.
        at: usize,
        /// Why.
        #[source]
        source: EnvelopeError,
    },
}

/// Writes a bundle.
///
/// # Errors
/// See [`BundleError`].
pub fn write(out: impl Write, parts: &Parts<'_>) -> Result<(), BundleError> {
    let by = parts.release.sigs.first().ok_or(BundleError::Unsigned)?;
    let sig = sshsig::armour(&by.by, &parts.release.kind.namespace(), &by.sig);
    let chain = serde_json::to_string(parts.chain).expect("envelopes always serialise");
    let mut tar = tar::Builder::new(out);
    for (name, text) in [
        ("release.json", parts.release.payload.as_bytes()),
        ("release.json.sig", sig.as_bytes()),
        ("chain.json", chain.as_bytes()),
    ] {
        append(&mut tar, name, 0o644, text.len() as u64, text).map_err(BundleError::Stream)?;
    }
    append_file(&mut tar, "installer", 0o755, parts.installer)?;
    for (digest, path) in parts.blobs {
        append_file(&mut tar, &format!("blobs/{}", digest.hex()), 0o644, path)?;
    }
    tar.into_inner().and_then(|mut out| out.flush()).map_err(BundleError::Stream)
}

fn append_file<W: Write>(
    tar: &mut tar::Builder<W>,
    name: &str,
    mode: u32,
    path: &Path,
) -> Result<(), BundleError> {
    let disk = |source| BundleError::Disk { path: path.to_owned(), source };
    let file = File::open(path).map_err(disk)?;
    let size = file.metadata().map_err(disk)?.len();
    append(tar, name, mode, size, file).map_err(disk)
}

fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    name: &str,
    mode: u32,
    size: u64,
    data: impl Read,
) -> io::Result<()> {
    tar.append(&header(name, mode, size)?, Exact::new(data, size))
}

impl Bundle {
    /// Reads a bundle; blobs go to `spool/<hex>`, hashed on their way. Files of that name that
    /// are there already are replaced.
    ///
    /// # Errors
    /// See [`BundleError`]. What was spooled until then stays there.
    pub fn read(bundle: impl Read, spool: &Path) -> Result<Self, BundleError> {
        let mut archive = tar::Archive::new(bundle);
        let mut seen = BTreeSet::new();
        let (mut release, mut signature, mut chain, mut installer) = (None, None, None, None);
        let mut blobs = BTreeMap::new();
        for entry in archive.entries().map_err(BundleError::Stream)?.raw(true) {
            let mut entry = entry.map_err(BundleError::Stream)?;
            let name = String::from_utf8_lossy(&entry.header().path_bytes()).into_owned();
            let odd = || BundleError::Odd(name.chars().take(80).collect());
            let size = entry.header().entry_size().map_err(BundleError::Stream)?;
            let plain = entry.header().entry_type() == tar::EntryType::Regular;
            if !plain || !seen.insert(name.clone()) {
                return Err(odd());
            }
            match name.as_str() {
                "release.json" => {
                    release = Some(text(&mut entry, "release.json", size, PAYLOAD_MAX as u64)?);
                }
                "release.json.sig" => {
                    signature = Some(text(&mut entry, "release.json.sig", size, SIG_MAX)?);
                }
                "chain.json" => {
                    chain = Some(envelopes(&text(&mut entry, "chain.json", size, CHAIN_MAX)?)?);
                }
                "installer" => {
                    let digest = copy(&mut entry, &name, size, &mut io::sink())?;
                    installer = Some(Installer { digest, size });
                }
                _ => {
                    let hex = name.strip_prefix("blobs/").ok_or_else(odd)?;
                    let digest = Digest::from_hex(hex).map_err(|_| odd())?;
                    if blobs.len() == COMPONENTS_MAX {
                        return Err(BundleError::Blobs);
                    }
                    blobs.insert(digest, (blob(&mut entry, digest, size, spool)?, size));
                }
            }
        }
        Ok(Self {
            release: release.ok_or(BundleError::Missing("release.json"))?,
            signature: signature.ok_or(BundleError::Missing("release.json.sig"))?,
            chain: chain.ok_or(BundleError::Missing("chain.json"))?,
            installer: installer.ok_or(BundleError::Missing("installer"))?,
            blobs,
        })
    }
}

fn text(
    entry: &mut impl Read,
    name: &'static str,
    size: u64,
    max: u64,
) -> Result<String, BundleError> {
    if size > max {
        return Err(BundleError::Size { name: name.to_owned(), size, max });
    }
    let mut bytes = Vec::new();
    entry.take(size).read_to_end(&mut bytes).map_err(BundleError::Stream)?;
    if bytes.len() as u64 != size {
        return Err(BundleError::Stream(io::ErrorKind::UnexpectedEof.into()));
    }
    let malformed = |_| BundleError::Malformed { name, why: "not UTF-8".to_owned() };
    String::from_utf8(bytes).map_err(malformed)
}

fn envelopes(text: &str) -> Result<Vec<Envelope>, BundleError> {
    let raw: Vec<&RawValue> = serde_json::from_str(text)
        .map_err(|error| BundleError::Malformed { name: "chain.json", why: error.to_string() })?;
    let parse = |(at, raw): (usize, &&RawValue)| {
        Envelope::parse(raw.get().as_bytes()).map_err(|source| BundleError::Envelope { at, source })
    };
    raw.iter().enumerate().map(parse).collect()
}

fn blob(
    entry: &mut impl Read,
    expected: Digest,
    size: u64,
    spool: &Path,
) -> Result<PathBuf, BundleError> {
    let path = spool.join(expected.hex());
    let disk = |source| BundleError::Disk { path: path.clone(), source };
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(disk)?;
    let found = copy(entry, &format!("blobs/{}", expected.short()), size, &mut file)?;
    if found != expected {
        return Err(BundleError::Digest { expected, found });
    }
    file.sync_all().map_err(disk)?;
    Ok(path)
}

fn copy(
    entry: &mut impl Read,
    name: &str,
    size: u64,
    out: &mut dyn Write,
) -> Result<Digest, BundleError> {
    if size > COMPONENT_MAX {
        return Err(BundleError::Size { name: name.to_owned(), size, max: COMPONENT_MAX });
    }
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 128 * 1024];
    let mut left = size;
    while left > 0 {
        let read = entry.read(&mut chunk).map_err(BundleError::Stream)?;
        if read == 0 {
            return Err(BundleError::Stream(io::ErrorKind::UnexpectedEof.into()));
        }
        hash.update(&chunk[..read]);
        out.write_all(&chunk[..read]).map_err(BundleError::Stream)?;
        left = left.saturating_sub(read as u64);
    }
    Ok(Digest(hash.finalize().into()))
}

#[cfg(test)]
mod tests {
    use borgios_types::{Kind, SecretKey};

    use super::*;

    fn bundle() -> (Vec<u8>, Envelope, Digest) {
        let folder = tempfile::tempdir().unwrap();
        let key = SecretKey::from_seed([1; 32]);
        let release = Envelope::unsigned(Kind::new("release").unwrap(), "{}".into()).sign(&key);
        let digest = Digest::of(b"blob");
        let (blob, installer) = (folder.path().join("blob"), folder.path().join("installer"));
        std::fs::write(&blob, "blob").unwrap();
        std::fs::write(&installer, "program").unwrap();
        let parts = Parts {
            release: &release,
            chain: std::slice::from_ref(&release),
            installer: &installer,
            blobs: &BTreeMap::from([(digest, blob)]),
        };
        let mut bytes = Vec::new();
        write(&mut bytes, &parts).unwrap();
        let mut again = Vec::new();
        write(&mut again, &parts).unwrap();
        assert_eq!(again, bytes, "one bundle, one digest");
        (bytes, release, digest)
    }

    #[test]
    fn what_was_written_comes_out() {
        let (bytes, release, digest) = bundle();
        let spool = tempfile::tempdir().unwrap();
        let read = Bundle::read(bytes.as_slice(), spool.path()).unwrap();
        assert_eq!(read.release, release.payload);
        assert_eq!(read.chain, std::slice::from_ref(&release));
        assert_eq!(read.installer, Installer { digest: Digest::of(b"program"), size: 7 });
        assert_eq!(read.blobs[&digest], (spool.path().join(digest.hex()), 4));
        let (key, sig) = sshsig::read_armour(&read.signature, &release.kind.namespace()).unwrap();
        assert!(key.verifies(&release.kind.namespace(), read.release.as_bytes(), &sig));
    }

    #[test]
    fn odd_missing_damaged_and_cut_bundles_are_refused() {
        let spool = tempfile::tempdir().unwrap();
        let (good, ..) = bundle();
        let read = |bytes: &[u8]| Bundle::read(bytes, spool.path());
        let at = good.windows(4).rposition(|w| w == b"blob").unwrap();
        let mut tampered = good.clone();
        tampered[at] ^= 1;
        assert!(matches!(read(&tampered), Err(BundleError::Digest { .. })));
        for cut in (0..good.len()).step_by(97) {
            let whole = read(&good[..cut]).is_ok();
            // Only the zeros that end the archive may be missing.
            assert!(!whole || good[cut..].iter().all(|b| *b == 0), "cut at {cut}");
        }
        let one = |name: &str, kind: u8, text: &[u8]| {
            let mut tar = tar::Builder::new(Vec::new());
            let mut header = header(name, 0o644, text.len() as u64).unwrap();
            header.set_entry_type(tar::EntryType::new(kind));
            header.set_cksum();
            tar.append(&header, text).unwrap();
            tar.append(&header, text).unwrap();
            read(&tar.into_inner().unwrap()).unwrap_err()
        };
        assert!(matches!(one("release.json", b'0', b"{}"), BundleError::Odd(_)), "twice");
        assert!(matches!(one("etc/passwd", b'0', b""), BundleError::Odd(_)));
        assert!(matches!(one("blobs/xyz", b'0', b""), BundleError::Odd(_)));
        assert!(matches!(one("installer", b'2', b""), BundleError::Odd(_)));
        assert!(matches!(one("release.json", b'0', &[b'x'; 70_000]), BundleError::Size { .. }));
        assert!(matches!(one("chain.json", b'0', b"[{}]"), BundleError::Envelope { .. }));
        assert!(matches!(one("chain.json", b'0', b"["), BundleError::Malformed { .. }));
        assert!(matches!(read(&[0; 1024]), Err(BundleError::Missing(_))));
    }
}
