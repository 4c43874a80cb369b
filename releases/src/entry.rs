//! The only paths a component may hold.
//!
//! ```text
//! component.json                      first
//! files/…                             programs and data
//! units/NAME.{service,socket,timer}   linked into systemd
//! sysusers.d/NAME.conf                accounts
//! tmpfiles.d/NAME.conf                folders at run time
//! ```
//!
//! There is no other top-level name: no scripts, no hooks. What a component does to a server is
//! what systemd does with these files.

use core::fmt;

use thiserror::Error;

/// Longest path, in bytes: what fits into one tar header without extensions.
pub const PATH_MAX: usize = 200;
/// Most names in a path.
pub const DEPTH_MAX: usize = 12;

/// Where the description of a component stands.
pub const INFO: &str = "component.json";

/// A path inside a component: relative, plain, below one of the allowed top-level names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryPath(String);

/// What lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `component.json`.
    Info,
    /// Below `files/`.
    File,
    /// A systemd unit.
    Unit,
    /// A sysusers.d fragment.
    Sysusers,
    /// A tmpfiles.d fragment.
    Tmpfiles,
}

/// Why a path has no place in a component.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PathError {
    /// Empty, too long or too deep.
    #[error("path {0:?} has more than {PATH_MAX} bytes or {DEPTH_MAX} names, or none")]
    Length(String),
    /// Absolute, with `..`, or with characters a path here has not.
    #[error("path {0:?} is not plain: expected names of letters, digits and ._+@=,:- joined by /")]
    NotPlain(String),
    /// Outside the allowed places.
    #[error(
        "path {0:?} has no place: expected {INFO}, files/…, units/*.service|socket|timer, sysusers.d/*.conf or tmpfiles.d/*.conf"
    )]
    NoPlace(String),
}

impl EntryPath {
    /// Takes a path, if it has a place.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let shown = || text.chars().take(80).collect::<String>();
        let names: Vec<&str> = text.split('/').collect();
        if text.is_empty() || text.len() > PATH_MAX || names.len() > DEPTH_MAX {
            return Err(PathError::Length(shown()));
        }
        let plain = |name: &&str| !matches!(*name, "" | "." | "..") && name.bytes().all(fits);
        if !names.iter().all(plain) {
            return Err(PathError::NotPlain(shown()));
        }
        let path = Self(text.to_owned());
        if place(&names).is_none() { Err(PathError::NoPlace(shown())) } else { Ok(path) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What lies there.
    #[must_use]
    pub fn place(&self) -> Place {
        let names: Vec<&str> = self.0.split('/').collect();
        place(&names).expect("parse refused every path without a place")
    }

    /// Whether systemd reads it: a unit, or configuration.
    #[must_use]
    pub fn is_text(&self) -> bool {
        match self.place() {
            Place::Info | Place::File => false,
            Place::Unit | Place::Sysusers | Place::Tmpfiles => true,
        }
    }

    /// The folders above it, outermost first, without the component's own.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn fits(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"._+@=,:-".contains(&b)
}

fn place(names: &[&str]) -> Option<Place> {
    let ends = |name: &str, endings: &[&str]| {
        endings.iter().any(|end| name.strip_suffix(end).is_some_and(|stem| !stem.is_empty()))
    };
    match names {
        [INFO] => Some(Place::Info),
        ["files", _, ..] => Some(Place::File),
        ["units", name] => is_unit(name).then_some(Place::Unit),
        ["sysusers.d", name] => ends(name, &[".conf"]).then_some(Place::Sysusers),
        ["tmpfiles.d", name] => ends(name, &[".conf"]).then_some(Place::Tmpfiles),
        _ => None,
    }
}

/// Whether `name` can be a unit of a component.
#[must_use]
pub fn is_unit(name: &str) -> bool {
    let stem = [".service", ".socket", ".timer"].iter().find_map(|end| name.strip_suffix(end));
    name.len() <= PATH_MAX
        && stem.is_some_and(|s| !s.is_empty() && !s.starts_with(['.', '-']) && s.bytes().all(fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t34_only_the_allowed_places_exist() {
        for (good, place) in [
            ("component.json", Place::Info),
            ("files/bin/borgiosd", Place::File),
            ("files/a", Place::File),
            ("units/borgiosd.service", Place::Unit),
            ("units/x@.socket", Place::Unit),
            ("units/x.timer", Place::Unit),
            ("sysusers.d/borgios.conf", Place::Sysusers),
            ("tmpfiles.d/borgios.conf", Place::Tmpfiles),
        ] {
            assert_eq!(EntryPath::parse(good).unwrap().place(), place, "{good}");
        }
        for bad in [
            "",
            "/",
            "/etc/shadow",
            "../x",
            "files",
            "files/",
            "files/..",
            "files/../../etc/x",
            "files/./x",
            "files//x",
            "./files/x",
            "postinst",
            "scripts/x",
            "units/x.mount",
            "units/.service",
            "units/a/b.service",
            "units/x.service.d/y.conf",
            "sysusers.d/x",
            "files/a b",
            "files/a\nb",
            "files/a\\b",
            "files/\u{fc}",
            "files/a\0",
            "Component.json",
        ] {
            assert!(EntryPath::parse(bad).is_err(), "{bad:?}");
        }
        assert!(EntryPath::parse(&format!("files/{}", "a".repeat(PATH_MAX))).is_err());
        assert!(EntryPath::parse(&["files"; DEPTH_MAX + 1].join("/")).is_err());
    }

    #[test]
    fn folders_are_named_from_the_outside_in() {
        let path = EntryPath::parse("files/a/b/c").unwrap();
        assert_eq!(path.folders().collect::<Vec<_>>(), ["files", "files/a", "files/a/b"]);
    }
}
