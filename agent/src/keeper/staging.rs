//! Staging: from a blob in the depot, which is not trusted, to a folder in the store, which is.
//!
//! ```text
//! depot/<hex> ── size, copy while hashing ──▶ spool/<hex> ── unpack, checked ──▶ store/<hex>/
//!  borgiosd's                                  root's, 0700                       root's
//! ```
//!
//! The blob is hashed on its way into root's own folder and unpacked from there: what borgiosd
//! does to its file meanwhile changes nothing. Neither step begins unless there is room for all of it
//! and some to spare, root's reserve not counted: what is staged must not take from others the room to
//! run in.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use borgios_policy::Name;
use borgios_releases::entry::{INFO, is_unit};
use borgios_releases::info::INFO_MAX;
use borgios_releases::plan::KEEPER;
use borgios_releases::{
    Component, ComponentInfo, Expected, Footprint, Manifest, UnpackError, measure, unpack,
};
use borgios_types::Digest;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::host::{Host, HostError};
use super::paths::Paths;
use crate::disk;

/// The component that borgiosd is.
const AGENT: &str = "agent";
/// Names of units that are one component's own, whatever a release names: what the two processes may
/// do comes from nowhere else. A socket or a timer of such a name belongs to the service.
const RESERVED: [(&str, &str); 2] = [("borgios-keeper", KEEPER), ("borgiosd", AGENT)];

/// Why a release was not staged.
#[derive(Debug, Error)]
pub enum StageError {
    /// borgiosd has not brought it yet.
    #[error("component {0} is not in the depot; bring it and ask again")]
    Missing(Name),
    /// Something else lies under the blob's name. What it is, is not said: it may be any file that
    /// borgiosd could make this process read.
    #[error("the depot's blob of component {0} is not what the release names; bring it again")]
    NotTheBlob(Name),
    /// The component breaks a rule, and always will.
    #[error("component {name} is refused: {source}")]
    Component {
        /// Which.
        name: Name,
        /// Why.
        source: UnpackError,
    },
    /// The components do not go together, or not with this server.
    #[error("{0}")]
    Set(String),
    /// The disk: full, perhaps.
    #[error("cannot write {path}: {source}")]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StageError {
    /// The stable name, as in the journal and in answers.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "no_blob",
            Self::NotTheBlob(_) => "bad_digest",
            Self::Component { .. } | Self::Set(_) => "bad_component",
            Self::Disk { .. } => "disk",
        }
    }

    /// Whether the release itself is at fault, so that trying again is of no use.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Component { .. } | Self::Set(_) => true,
            Self::Missing(_) | Self::NotTheBlob(_) | Self::Disk { .. } => false,
        }
    }
}

/// Brings every component of a release into the store and checks that they go together.
///
/// # Errors
/// See [`StageError`]. What was staged until then stays; it is what it should be.
pub fn stage(
    paths: &Paths,
    host: &dyn Host,
    manifest: &Manifest,
) -> Result<BTreeMap<Name, ComponentInfo>, StageError> {
    for folder in [&paths.store, &paths.spool()] {
        let mode = if *folder == paths.store { 0o755 } else { 0o700 };
        fs::DirBuilder::new().recursive(true).mode(mode).create(folder).map_err(at(folder))?;
    }
    // Leftovers of a run that was cut off: nothing else writes here.
    empty(&paths.spool())?;
    let mut infos = BTreeMap::new();
    for component in &manifest.components {
        infos.insert(component.name.clone(), stage_one(paths, host, component)?);
    }
    check_units(paths, manifest)?;
    check_keeper(paths, host, manifest)?;
    Ok(infos)
}

fn stage_one(
    paths: &Paths,
    host: &dyn Host,
    component: &Component,
) -> Result<ComponentInfo, StageError> {
    let stored = paths.stored(&component.digest);
    let refused = |source| StageError::Component { name: component.name.clone(), source };
    let expected = Expected { name: &component.name, arch: std::env::consts::ARCH };
    let info = if stored.is_dir() { described(&stored).map_err(at(&stored))? } else { None };
    if let Some(info) = info {
        if info.name != component.name {
            let (found, expected) = (info.name, component.name.clone());
            return Err(refused(UnpackError::Name { found, expected }));
        }
        return Ok(info);
    }
    let spooled = paths.spool().join(component.digest.hex());
    let unpacked = || {
        copy_from_depot(paths, host, component, &spooled)?;
        let blob = || File::open(&spooled).map(io::BufReader::new).map_err(at(&spooled));
        let taken = measure(blob()?).map_err(at(&spooled))?;
        check_room(host, &paths.store, taken)?;
        if stored.is_dir() {
            // Its description is gone or damaged: what is unpacked anew is known to be whole. It may
            // run, so it goes only once there is something to put in its place.
            fs::remove_dir_all(&stored).map_err(at(&stored))?;
        }
        unpack(blob()?, &stored, &expected).map_err(|error| match error {
            UnpackError::Disk { path, source } => StageError::Disk { path, source },
            // Its digest was right a moment ago: the disk does not give back what it took.
            UnpackError::Damaged(source) if source.raw_os_error().is_some() => {
                StageError::Disk { path: spooled.clone(), source }
            }
            error => refused(error),
        })
    };
    let info = unpacked();
    // Also where the disk is full: what is of no use must not keep it so until the next attempt.
    match fs::remove_file(&spooled) {
        Err(error) if info.is_ok() => Err(at(&spooled)(error)),
        _ => info,
    }
}

/// Reads a stored component's own description.
///
/// # Errors
/// Whatever the disk says, or `InvalidData` for a store that was tampered with.
pub fn read_info(stored: &Path) -> io::Result<ComponentInfo> {
    let bytes = disk::read_bounded(&stored.join(INFO), INFO_MAX)?;
    ComponentInfo::parse(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// What a stored component says it is; none where that is gone or damaged.
fn described(stored: &Path) -> io::Result<Option<ComponentInfo>> {
    match read_info(stored) {
        Ok(info) => Ok(Some(info)),
        Err(error)
            if [io::ErrorKind::NotFound, io::ErrorKind::InvalidData].contains(&error.kind()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Copies a blob while hashing it. Its folder is another user's: no link is followed, nothing
/// but a plain file is read, and no more of it than the release says.
fn copy_from_depot(
    paths: &Paths,
    host: &dyn Host,
    component: &Component,
    to: &Path,
) -> Result<(), StageError> {
    let from = paths.depot.join(component.digest.hex());
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).expect("open flags fit into an int");
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(from);
    let not_the_blob = || StageError::NotTheBlob(component.name.clone());
    let blob = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(StageError::Missing(component.name.clone()));
        }
        other => other.map_err(|_| not_the_blob())?,
    };
    let meta = blob.metadata().map_err(|_| not_the_blob())?;
    if !meta.is_file() || meta.len() != component.size {
        return Err(not_the_blob());
    }
    check_room(host, &paths.spool(), Footprint { bytes: component.size, files: 1 })?;
    let mut out = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(to)
        .map_err(at(to))?;
    let mut blob = blob.take(component.size);
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 128 * 1024];
    loop {
        let read = blob.read(&mut chunk).map_err(|_| not_the_blob())?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
        out.write_all(&chunk[..read]).map_err(at(to))?;
    }
    if Digest(hash.finalize().into()) == component.digest {
        return Ok(());
    }
    fs::remove_file(to).map_err(at(to))?;
    Err(not_the_blob())
}

/// Whether so much fits onto the disk of a folder. Where it does not, that is the disk's fault: the
/// release may be as good as ever, and is tried again.
fn check_room(host: &dyn Host, folder: &Path, taken: Footprint) -> Result<(), StageError> {
    host.room(folder).and_then(|room| room.check(taken)).map_err(at(folder))
}

/// No two components may bring the same unit or tmpfiles fragment: one would hide the other. The
/// keeper that runs stays where a release does not name it, so it counts as one of them.
fn check_units(paths: &Paths, manifest: &Manifest) -> Result<(), StageError> {
    let keeper: Name = KEEPER.parse().expect("a constant name");
    let mut components: Vec<(&Name, PathBuf)> =
        manifest.components.iter().map(|c| (&c.name, paths.stored(&c.digest))).collect();
    if components.iter().all(|(name, _)| **name != KEEPER) {
        components.push((&keeper, paths.linked(&keeper)));
    }
    let mut owners: BTreeMap<String, &Name> = BTreeMap::new();
    for (name, folder) in components {
        for place in ["units", "tmpfiles.d"] {
            for file in files(&folder.join(place)).map_err(at(&folder))? {
                check_reserved(name, &file)?;
                let file = format!("{place}/{file}");
                if let Some(other) = owners.insert(file.clone(), name) {
                    return Err(StageError::Set(format!("{other} and {name} both bring {file}")));
                }
            }
        }
    }
    Ok(())
}

fn check_reserved(name: &Name, file: &str) -> Result<(), StageError> {
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    match RESERVED.iter().find(|(reserved, _)| *reserved == stem) {
        Some((_, owner)) if name != owner && is_unit(file) => {
            Err(StageError::Set(format!("{name} brings {file}, which is {owner}'s alone")))
        }
        Some(_) | None => Ok(()),
    }
}

/// The keeper is the one component whose failure nobody could take back, so its new program must
/// show that it runs on this server before anything depends on it.
fn check_keeper(paths: &Paths, host: &dyn Host, manifest: &Manifest) -> Result<(), StageError> {
    let Some(keeper) = manifest.components.iter().find(|component| component.name == KEEPER) else {
        return Ok(());
    };
    let program = paths.stored(&keeper.digest).join("files/bin/borgios-keeper");
    match host.selftest(&program) {
        Ok(()) => Ok(()),
        Err(HostError::Disk(source)) => Err(StageError::Disk { path: program, source }),
        // A machine that is out of breath says nothing about the release.
        Err(HostError::Command { what, source }) if source.is_passing() => {
            let source = io::Error::other(format!("{what}: {source}"));
            Err(StageError::Disk { path: program, source })
        }
        Err(error) => Err(StageError::Set(format!("the new keeper does not run: {error}"))),
    }
}

/// The names in a folder, sorted; none where there is no such folder.
pub(super) fn files(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn empty(folder: &Path) -> Result<(), StageError> {
    for name in files(folder).map_err(at(folder))? {
        let path = folder.join(name);
        fs::remove_file(&path).map_err(at(&path))?;
    }
    Ok(())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StageError {
    let path = path.to_owned();
    move |source| StageError::Disk { path, source }
}
