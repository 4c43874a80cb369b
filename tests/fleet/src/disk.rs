//! A server's whole disk as a list, so that two moments of it can be compared.
//!
//! Every file with its digest, size, mode, owner and time of change; every folder with mode and
//! owner; every link with its target. What is left out is [`RUNNING`], and nothing else.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use crate::server::Server;

/// What any running system writes by itself, and bootstrap.sh's own folder.
pub const RUNNING: [&str; 5] =
    ["/var/log", "/run", "/tmp", "/var/tmp", "/var/lib/borgios-bootstrap"];

/// The disk at one moment: what is known of each path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk(BTreeMap<String, String>);

impl Disk {
    /// What differs between `self` and a later moment, one line for each path.
    #[must_use]
    pub fn differences(&self, later: &Self) -> Vec<String> {
        let paths = self.0.keys().chain(later.0.keys().filter(|path| !self.0.contains_key(*path)));
        let side = |disk: &Self, path: &String| disk.0.get(path).cloned().unwrap_or_default();
        let differs = |path: &&String| self.0.get(*path) != later.0.get(*path);
        paths
            .filter(differs)
            .map(|path| format!("{path}: [{}] is now [{}]", side(self, path), side(later, path)))
            .collect()
    }

    /// Checks that nothing differs from an earlier moment but the paths of `except`.
    ///
    /// # Errors
    /// Names the first twenty paths that differ.
    pub fn same_as(&self, earlier: &Self, except: &[&str]) -> Result<()> {
        let mut differences = earlier.differences(self);
        differences
            .retain(|line| !except.iter().any(|path| line.starts_with(&format!("{path}: "))));
        let (count, some) = (differences.len(), &differences[..differences.len().min(20)]);
        ensure!(count == 0, "{count} paths differ:\n    {}", some.join("\n    "));
        Ok(())
    }
}

impl Server<'_> {
    /// The server's disk as it is now.
    ///
    /// # Errors
    /// The server is off.
    pub fn disk(self) -> Result<Disk> {
        let skip = RUNNING.map(|path| format!("-path {path}")).join(" -o ");
        let list = self.sh(&format!(
            "find / -xdev \\( {skip} \\) -prune -o -type d -printf '%p\\t%y %m %U:%G\\n' \
             -o -printf '%p\\t%y %m %U:%G %s %T@ %l\\n'; \
             find / -xdev \\( {skip} \\) -prune -o -type f -print0 | xargs -0 sha256sum -z \
             | tr '\\000' '\\n' | sed -E 's/^([0-9a-f]+) .(.*)$/\\2\\t\\1/'"
        ))?;
        let mut disk = BTreeMap::<String, String>::new();
        for line in list.lines() {
            let (path, fact) = line.split_once('\t').with_context(|| format!("odd line {line}"))?;
            disk.entry(path.to_owned()).or_default().push_str(fact);
        }
        ensure!(disk.len() > 1000, "{}: a disk of {} paths", self.host(), disk.len());
        Ok(Disk(disk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(paths: &[(&str, &str)]) -> Disk {
        Disk(paths.iter().map(|(path, fact)| (path.to_string(), fact.to_string())).collect())
    }

    #[test]
    fn what_came_went_or_changed_is_told() {
        let before = disk(&[("/a", "1"), ("/b", "1"), ("/c", "1")]);
        let after = disk(&[("/a", "1"), ("/b", "2"), ("/d", "1")]);
        let told = before.differences(&after);
        assert_eq!(told, ["/b: [1] is now [2]", "/c: [1] is now []", "/d: [] is now [1]"]);
        assert!(after.same_as(&before, &["/b", "/c"]).is_err());
        assert!(after.same_as(&before, &["/b", "/c", "/d"]).is_ok());
        assert!(before.same_as(&before, &[]).is_ok());
    }
}
