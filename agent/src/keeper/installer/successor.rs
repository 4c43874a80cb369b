//! The keeper as its own successor: whether this process is still the one that must run.
//!
//! ```text
//! link the new keeper ─▶ daemon-reload ─▶ [loaded: whose units systemd has read] ─▶ end; systemd starts
//!         killed here: systemd starts the new program with the old unit            what the links name
//! ```
//!
//! A process runs with the unit that systemd had read when it started it. Which one that was, `loaded`
//! says as the process finds it: if it names another keeper than the links do, the process may stand in
//! the limits of another unit, and gives way once more.

use std::fs;
use std::io;

use borgios_releases::plan::KEEPER;
use borgios_types::Digest;

use super::Installer;
use crate::keeper::ledger;

impl Installer {
    /// The keeper whose units systemd had read when this process began.
    ///
    /// Asked before this process writes it for the first time; it is remembered from then on.
    pub(super) fn started_with(&self) -> io::Result<Option<Digest>> {
        if let Some(found) = self.started_with.get() {
            return Ok(*found);
        }
        let found = ledger::loaded(&self.paths)?;
        Ok(*self.started_with.get_or_init(|| found))
    }

    /// Writes down that systemd has read the units that the links lead to.
    pub(super) fn note_loaded(&self) -> io::Result<()> {
        match self.linked_keeper()? {
            Some(keeper) => ledger::note_loaded(&self.paths, &keeper),
            None => Ok(()),
        }
    }

    /// Whether this very process runs the keeper that the links name, with the unit that goes with it.
    /// A program outside the store (an installer, a test) was not started through the links and has no
    /// successor.
    pub(super) fn is_current(&self) -> io::Result<bool> {
        let own = self.host.program()?;
        // The kernel tells a program's true path: a folder above the store may be a link.
        let store =
            fs::canonicalize(&self.paths.store).unwrap_or_else(|_| self.paths.store.clone());
        if !own.starts_with(&store) {
            return Ok(true);
        }
        let linked = self.paths.current.join(KEEPER).join("files/bin/borgios-keeper");
        let same = fs::canonicalize(linked).is_ok_and(|linked| linked == own);
        Ok(same && self.started_with()? == self.linked_keeper()?)
    }

    fn linked_keeper(&self) -> io::Result<Option<Digest>> {
        Ok(Self::running(&self.paths)?.get(KEEPER).copied())
    }
}
