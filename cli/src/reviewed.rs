//! What this governor has looked at with `borgios review`: ids of statements.

use std::collections::BTreeMap;

use borgios_types::{Digest, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::home::Home;

/// Largest `reviewed.json`, in bytes.
const FILE_MAX: usize = 1024 * 1024;

/// Ids of reviewed statements, and when each was last looked at.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Reviewed(BTreeMap<Digest, UnixSeconds>);

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

    /// When `statement` was last looked at here.
    pub(crate) fn when(&self, statement: &Digest) -> Option<UnixSeconds> {
        self.0.get(statement).copied()
    }

    /// Notes that it was.
    pub(crate) fn note(
        &mut self,
        home: &Home,
        statement: Digest,
        now: UnixSeconds,
    ) -> Result<(), Failure> {
        self.0.insert(statement, now);
        let text = serde_json::to_vec(self).or_fail(|| "could not encode what was reviewed")?;
        durable::write(&home.reviewed(), &text)
    }
}
