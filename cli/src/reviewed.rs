//! What this governor has looked at with `borgios review`: ids of statements.
//!
//! ```text
//! reviewed.json   {statement: {at, shown: [who proposed something else then]}}
//! ```

use std::collections::{BTreeMap, BTreeSet};

use borgios_policy::Name;
use borgios_types::{Digest, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::home::Home;

/// Largest `reviewed.json`, in bytes.
const FILE_MAX: usize = 1024 * 1024;

/// Ids of reviewed statements, and the last look at each.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Reviewed(BTreeMap<Digest, Look>);

/// One look.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Stored")]
struct Look {
    /// Before what it showed was read.
    at: UnixSeconds,
    /// Who proposed something else for the place, as it showed.
    shown: BTreeSet<Name>,
}

/// As it may stand in the file: earlier versions noted no more than the time.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Time(UnixSeconds),
    Look { at: UnixSeconds, shown: BTreeSet<Name> },
}

impl From<Stored> for Look {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Time(at) => Self { at, shown: BTreeSet::new() },
            Stored::Look { at, shown } => Self { at, shown },
        }
    }
}

impl Reviewed {
    /// Reads the list; empty if there is none.
    pub(crate) fn load(home: &Home) -> Result<Self, Failure> {
        let path = home.reviewed();
        let Some(bytes) = durable::read(&path, FILE_MAX)? else { return Ok(Self::default()) };
        serde_json::from_slice(&bytes)
            .or_fail(|| format!("{} is damaged; remove it", path.display()))
    }

    /// Whether `statement` was looked at here.
    pub(crate) fn contains(&self, statement: &Digest) -> bool {
        self.0.contains_key(statement)
    }

    /// Who proposed something else at the last look at `statement`; none if there was no look.
    pub(crate) fn shown_with(&self, statement: &Digest) -> Option<&BTreeSet<Name>> {
        self.0.get(statement).map(|look| &look.shown)
    }

    /// Notes a look that was begun at `at`, and who proposed something else, as it showed.
    pub(crate) fn note(
        &mut self,
        home: &Home,
        statement: Digest,
        at: UnixSeconds,
        shown: BTreeSet<Name>,
    ) -> Result<(), Failure> {
        self.0.insert(statement, Look { at, shown });
        let text = serde_json::to_vec(self).or_fail(|| "could not encode what was reviewed")?;
        durable::write(&home.reviewed(), &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_noted_by_an_earlier_version_showed_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(Some(folder.path().to_owned())).unwrap();
        let id = Digest::of(b"one");
        durable::write(&home.reviewed(), format!(r#"{{"{id}":1795000000}}"#).as_bytes()).unwrap();
        let mut reviewed = Reviewed::load(&home).unwrap();
        assert_eq!(reviewed.shown_with(&id), Some(&BTreeSet::new()));
        let shown = BTreeSet::from(["ben".parse().unwrap()]);
        reviewed.note(&home, id, UnixSeconds(1_795_000_001), shown.clone()).unwrap();
        assert_eq!(Reviewed::load(&home).unwrap().shown_with(&id), Some(&shown));
    }
}
