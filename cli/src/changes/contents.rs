//! What is in a component's bytes: files, units and what they may do, as a server would unpack it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use borgios_releases::{ComponentInfo, Expected, Powers, unpack};
use borgios_types::Digest;

use crate::blobs::{describe, size_text};
use crate::failure::{Failure, OrFail as _};
use crate::printer::one_line;

/// Most files told one by one; beyond it they are counted.
const FILES_TOLD: usize = 40;

/// Largest unit or configuration file, in bytes: what unpacking lets pass.
const TEXT_MAX: u64 = 64 * 1024;

/// A component, taken apart.
#[derive(Debug)]
pub(crate) struct Contents {
    info: ComponentInfo,
    files: BTreeMap<String, FileOf>,
    powers: Powers,
}

#[derive(Debug, PartialEq, Eq)]
struct FileOf {
    digest: Digest,
    size: u64,
    program: bool,
}

impl Contents {
    /// Unpacks the bytes into a temporary folder with all the checks of a server, and looks.
    pub(crate) fn of(bytes: &[u8]) -> Result<Self, Failure> {
        let info = describe(bytes)?;
        let folder = tempfile::tempdir().or_fail(|| "could not make a temporary folder")?;
        let root = folder.path().join("component");
        let expected = Expected { name: &info.name, arch: &info.arch };
        unpack(bytes, &root, &expected).or_fail(|| "a server would not unpack it")?;
        let (mut files, mut texts) = (BTreeMap::new(), BTreeMap::new());
        walk(&root, &root, &mut files, &mut texts)?;
        let powers = Powers::of(texts.iter().map(|(path, text)| (path.as_str(), text.as_str())));
        Ok(Self { info, files, powers })
    }
}

fn walk(
    root: &Path,
    folder: &Path,
    files: &mut BTreeMap<String, FileOf>,
    texts: &mut BTreeMap<String, String>,
) -> Result<(), Failure> {
    let what = || "could not look into the unpacked component";
    for entry in fs::read_dir(folder).or_fail(what)? {
        let path = entry.or_fail(what)?.path();
        let metadata = path.symlink_metadata().or_fail(what)?;
        if metadata.is_dir() {
            walk(root, &path, files, texts)?;
            continue;
        }
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        fs::File::open(&path).or_fail(what)?.read_to_end(&mut bytes).or_fail(what)?;
        let program = metadata.permissions().mode() & 0o111 != 0;
        let size = bytes.len() as u64;
        files.insert(name.clone(), FileOf { digest: Digest::of(&bytes), size, program });
        if !name.starts_with("files/") && size <= TEXT_MAX {
            texts.insert(name, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    Ok(())
}

/// What a component that is new would bring.
pub(crate) fn brought(new: &Contents) -> Vec<String> {
    between(None, new)
}

/// What differs between two components of one name.
pub(crate) fn between(old: Option<&Contents>, new: &Contents) -> Vec<String> {
    let mut lines = Vec::new();
    let empty = BTreeMap::new();
    let before = old.map_or(&empty, |old| &old.files);
    let mut told = Vec::new();
    for (path, file) in &new.files {
        let word = if file.program { " (program)" } else { "" };
        let size = size_text(file.size);
        match before.get(path) {
            Some(was) if was == file => {}
            None => told.push(format!("+ {}  {size}{word}", one_line(path))),
            Some(was) => {
                let was = size_text(was.size);
                told.push(format!("~ {}  {was} → {size}{word}", one_line(path)));
            }
        }
    }
    for path in before.keys().filter(|path| !new.files.contains_key(*path)) {
        told.push(format!("- {}", one_line(path)));
    }
    let more = told.len().saturating_sub(FILES_TOLD);
    lines.extend(told.into_iter().take(FILES_TOLD).map(|line| format!("file      {line}")));
    if more > 0 {
        lines.push(format!("file      and {more} more"));
    }
    let version = old.map(|old| old.info.version.as_str());
    if version != Some(new.info.version.as_str()) {
        let was = version.map(|was| format!("{} → ", one_line(was))).unwrap_or_default();
        lines.push(format!("says      version {was}{}", one_line(&new.info.version)));
    }
    if old.map(|old| &old.info.health) != Some(&new.info.health) {
        lines.push(match &new.info.health {
            None => "health    none: a server takes it as it is".to_owned(),
            Some(health) => format!(
                "health    {} within {} s",
                one_line(&health.command.join(" ")),
                health.deadline_s
            ),
        });
    }
    lines.extend(powers(old, new));
    lines
}

fn powers(old: Option<&Contents>, new: &Contents) -> Vec<String> {
    let none = Powers::default();
    let differences = Powers::diff(old.map_or(&none, |old| &old.powers), &new.powers);
    if differences.is_empty() {
        let word = if old.is_some() { "the same" } else { "none: it starts nothing by itself" };
        return vec![format!("powers    {word}")];
    }
    let told = differences.into_iter().map(|difference| {
        let place = one_line(&difference.place);
        let what = difference.what;
        match (difference.was, difference.is) {
            (Some(was), Some(is)) => {
                format!("powers    {place} {what}: {} → {}", one_line(&was), one_line(&is))
            }
            (None, Some(is)) => format!("powers +  {place} {what}: {}", one_line(&is)),
            (Some(was), None) => format!("powers -  {place} {what}: was {}", one_line(&was)),
            (None, None) => String::new(),
        }
    });
    let mut lines: Vec<String> = told.filter(|line| !line.is_empty()).collect();
    lines.push("powers    setuid programs: none, for no component can hold one".to_owned());
    lines
}
