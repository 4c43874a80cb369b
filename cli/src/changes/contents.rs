//! What is in a component's bytes: files, units and what they may do, as a server would unpack it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use borgios_releases::{ComponentInfo, Difference, Expected, Powers, unpack};
use borgios_types::Digest;

use crate::blobs::{describe, size_text};
use crate::failure::{Failure, OrFail as _};
use crate::printer::one_line;

/// Most programs and data files told one by one; beyond it they are counted. Units and configuration
/// are told whatever their number.
const FILES_TOLD: usize = 40;
/// Longest words told of one power, in characters; beyond it they are counted and have a digest. Lines
/// of a file are told whole.
const WORDS_TOLD: usize = 300;
/// Before what belongs to the line above.
const INDENT: &str = "            ";

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

    /// What stands at a path.
    pub(crate) fn digest_of(&self, path: &str) -> Option<Digest> {
        self.files.get(path).map(|file| file.digest)
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
    lines.extend(files(before, &new.files));
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

/// Which files differ, those that systemd reads before the others.
fn files(before: &BTreeMap<String, FileOf>, after: &BTreeMap<String, FileOf>) -> Vec<String> {
    let (mut read, mut others) = (Vec::new(), Vec::new());
    let mut tell = |path: &str, line: String| {
        if path.starts_with("files/") { others.push(line) } else { read.push(line) }
    };
    for (path, file) in after {
        let word = if file.program { " (program)" } else { "" };
        let size = size_text(file.size);
        match before.get(path) {
            Some(was) if was == file => {}
            None => tell(path, format!("+ {}  {size}{word}", one_line(path))),
            Some(was) => {
                let was = size_text(was.size);
                tell(path, format!("~ {}  {was} → {size}{word}", one_line(path)));
            }
        }
    }
    for path in before.keys().filter(|path| !after.contains_key(*path)) {
        tell(path, format!("- {}", one_line(path)));
    }
    let more = others.len().saturating_sub(FILES_TOLD);
    let told = read.into_iter().chain(others.into_iter().take(FILES_TOLD));
    let mut lines: Vec<String> = told.map(|line| format!("file      {line}")).collect();
    if more > 0 {
        lines.push(format!("file      and {more} more"));
    }
    lines
}

fn powers(old: Option<&Contents>, new: &Contents) -> Vec<String> {
    let none = Powers::default();
    let differences = Powers::diff(old.map_or(&none, |old| &old.powers), &new.powers);
    if differences.is_empty() {
        let word = if old.is_some() { "the same" } else { "none: it starts nothing by itself" };
        return vec![format!("powers    {word}")];
    }
    let mut lines: Vec<String> = differences.iter().flat_map(told).collect();
    lines.push("powers    setuid programs: none, for no component can hold one".to_owned());
    lines
}

/// One difference: words against words in one line, lines of a file below each other.
fn told(difference: &Difference) -> Vec<String> {
    let (was, is) = (difference.was.as_deref(), difference.is.as_deref());
    let several = [was, is].into_iter().flatten().any(|text| text.contains('\n'));
    let head =
        |sign: char| format!("powers {sign}  {} {}:", one_line(&difference.place), difference.what);
    let words = |text: &str| match difference.is_quoted() {
        true => one_line(text),
        false => shortened(text),
    };
    match (was, is) {
        (Some(was), Some(is)) if several => {
            std::iter::once(head(' ')).chain(exchanged(was, is)).collect()
        }
        (Some(was), Some(is)) => vec![format!("{} {} → {}", head(' '), words(was), words(is))],
        (None, Some(is)) if several => {
            let below = is.split('\n').map(|line| format!("{INDENT}{}", one_line(line)));
            std::iter::once(head('+')).chain(below).collect()
        }
        (None, Some(is)) => vec![format!("{} {}", head('+'), words(is))],
        (Some(was), None) if several => {
            let below = was.split('\n').map(|line| format!("{INDENT}{}", one_line(line)));
            std::iter::once(format!("{} was", head('-'))).chain(below).collect()
        }
        (Some(was), None) => vec![format!("{} was {}", head('-'), words(was))],
        (None, None) => Vec::new(),
    }
}

/// The lines that went and those that came; all of both where those that stay are in another order.
fn exchanged(was: &str, is: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (was.split('\n').collect(), is.split('\n').collect());
    let before: BTreeSet<&str> = old.iter().copied().collect();
    let after: BTreeSet<&str> = new.iter().copied().collect();
    let stay = |lines: &[&str], others: &BTreeSet<&str>| -> Vec<String> {
        let both = lines.iter().filter(|line| others.contains(**line));
        both.map(|line| (*line).to_owned()).collect()
    };
    let ordered = stay(&old, &after) == stay(&new, &before);
    let gone = old.iter().filter(|line| !ordered || !after.contains(**line));
    let gone = gone.map(|line| format!("{INDENT}- {}", one_line(line)));
    let came = new.iter().filter(|line| !ordered || !before.contains(**line));
    let came = came.map(|line| format!("{INDENT}+ {}", one_line(line)));
    gone.chain(came).collect()
}

/// Words of a bounded length. What is left out is counted, and its digest tells whether it is the same.
fn shortened(words: &str) -> String {
    let more = words.chars().count().saturating_sub(WORDS_TOLD);
    if more == 0 {
        return one_line(words);
    }
    let first: String = words.chars().take(WORDS_TOLD).collect();
    format!("{}… and {more} more characters, {}", one_line(&first), Digest::of(words.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Contents {
        let info = r#"{"name":"hello","version":"1","arch":"any"}"#;
        let each = files.iter().map(|(path, text)| {
            let digest = Digest::of(text.as_bytes());
            ((*path).to_owned(), FileOf { digest, size: text.len() as u64, program: false })
        });
        Contents {
            info: ComponentInfo::parse(info.as_bytes()).unwrap(),
            files: each.collect(),
            powers: Powers::of(files.iter().copied()),
        }
    }

    #[test]
    fn a_unit_is_told_however_many_files_come_with_it() {
        let paths: Vec<String> = (0..100).map(|at| format!("files/{at:03}")).collect();
        let mut files: Vec<(&str, &str)> = paths.iter().map(|path| (path.as_str(), "x")).collect();
        files.push(("sysusers.d/a.conf", "u a\n"));
        files.push(("tmpfiles.d/a.conf", "d /run/a\n"));
        files.push(("units/a.service", "[Service]\n"));
        let lines = brought(&of(&files));
        for line in [
            "file      + sysusers.d/a.conf  4 B",
            "file      + tmpfiles.d/a.conf  9 B",
            "file      + units/a.service  10 B",
            "file      + files/039  1 B",
            "file      and 60 more",
        ] {
            assert!(lines.iter().any(|said| said == line), "{line}: {lines:?}");
        }
        let gone = between(Some(&of(&files)), &of(&[]));
        assert!(gone.contains(&"file      - units/a.service".to_owned()), "{gone:?}");
    }

    #[test]
    fn lines_are_told_whole_and_words_are_counted() {
        let many: Vec<String> =
            (0..200).map(|at| format!("d /run/a/{at:03} 0755 root root")).collect();
        let (first, last) = (many.join("\n"), format!("{}\nw /etc/x - - - - y", many.join("\n")));
        let long =
            |path: &str| format!("[Service]\nReadWritePaths={}{path}\n", "/var/a ".repeat(60));
        let (meek, bold) = (long("/run/a"), long("/etc"));
        let old = of(&[("tmpfiles.d/a.conf", first.as_str()), ("units/a.service", meek.as_str())]);
        let new = of(&[("tmpfiles.d/a.conf", last.as_str()), ("units/a.service", bold.as_str())]);
        let lines = between(Some(&old), &new);
        let at = lines.iter().position(|l| l == "powers    tmpfiles.d/a.conf files made:").unwrap();
        assert_eq!(lines[at + 1], "            + w /etc/x - - - - y");
        assert!(
            lines[at + 2].starts_with("powers    units/a.service writes: /var/a "),
            "{lines:?}"
        );
        let (was, is) = lines[at + 2].split_once(" → ").unwrap();
        for words in [was, is] {
            assert!(
                words.contains("… and ") && words.contains(" more characters, sha256:"),
                "{words}"
            );
        }
        assert_ne!(was.rsplit_once("sha256:").unwrap().1, is.rsplit_once("sha256:").unwrap().1);
        // All of a new file, down to its end.
        let brought = brought(&new);
        let at =
            brought.iter().position(|l| l == "powers +  tmpfiles.d/a.conf files made:").unwrap();
        assert_eq!(brought[at + 1], "            d /run/a/000 0755 root root");
        assert_eq!(brought[at + 201], "            w /etc/x - - - - y");
    }

    #[test]
    fn another_order_is_told_with_all_its_lines() {
        assert_eq!(
            exchanged("a\nb\nc", "a\nd\nc"),
            ["            - b", "            + d"],
            "what stays is not told"
        );
        let turned = exchanged("a\nb", "b\na");
        assert_eq!(
            turned,
            ["            - a", "            - b", "            + b", "            + a"]
        );
        assert_eq!(exchanged("a\na", "a").len(), 3);
    }
}
