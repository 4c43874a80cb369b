//! `apply`: root changes hands.
//!
//! ```text
//! 0 folders that others may write to                 then it goes back at once
//! 1 a last look, into the journal as `purging`       the point of no return
//! 2 doors                                            the board can come in
//! 3 sshd, host keys                                  nobody else new can
//! 4 files of keys, sudo, groups, accounts, agents    what they had is gone
//! 5 a second look                                    what came meanwhile goes too
//! 6 the journal's `done`; the timer stays until there is a receipt (`finish`)
//! ```
//!
//! What fails with an error goes back to the snapshot. What was cut off goes on: `resume` calls
//! the same steps, and each is as good done twice.

use std::collections::BTreeMap;

use super::abort;
use super::account;
use super::catalogue::{self, KINDS};
use super::failure::TakeoverError;
use super::file_owner;
use super::finding::Finding;
use super::journal::{Journal, Taking};
use super::machine::Machine;
use crate::keeper::chain_store::ChainStore;
use crate::keeper::doors::{self, DoorsWanted};

/// Rounds of looking and shutting before something that comes back each time is an error.
const ROUNDS: u32 = 3;

/// What was taken, by kind.
pub(super) type Taken = BTreeMap<String, usize>;

/// Applies the catalogue, or makes sure of it once it is done.
pub(super) fn apply(machine: &mut Machine) -> Result<Taken, TakeoverError> {
    let refuse = |why: &str| Err(TakeoverError::Refused(why.to_owned()));
    match Journal::read(machine)? {
        None => refuse("no take-over is open; `takeover begin` first"),
        Some(Journal::Aborting { .. } | Journal::Aborted { .. }) => {
            refuse("the take-over went back; `takeover begin` opens another")
        }
        Some(Journal::Open { boot, .. }) if boot != machine.tools.boot() => {
            refuse("the server has booted since `begin`; `takeover resume` goes back")
        }
        Some(Journal::Open { mut taking, .. }) => {
            // Before the point of no return: what cannot be known now cannot be known later.
            board(machine)?;
            if let Err(error) = file_owner::check_folders(machine) {
                return Err(back(machine, taking, error.into(), false));
            }
            if let Err(error) = account::check_for_rotation(machine) {
                return Err(back(machine, taking, error.into(), false));
            }
            taking.found = catalogue::look(machine)?;
            // What the owner may have put where our files go: a host key, principals.
            machine.remove(doors::FOLDER)?;
            let owners_root = account::roots_field(machine)?;
            Journal::Purging { taking: taking.clone(), owners_root }.write(machine)?;
            purge(machine, taking, owners_root)
        }
        Some(Journal::Purging { taking, owners_root }) => purge(machine, taking, owners_root),
        Some(Journal::Done { taking, owners_root, .. }) => {
            machine.owners_root = owners_root;
            // Grants that the daemon keeps there stay.
            if !doors::are_there(&machine.paths) {
                doors::write(&machine.paths, &wanted(machine)?)?;
            }
            shut(machine, &[])?;
            Ok(counts(&taking.found))
        }
    }
}

/// From `purging` to `done`, or back.
pub(super) fn purge(
    machine: &mut Machine,
    taking: Taking,
    owners_root: Option<borgios_types::Digest>,
) -> Result<Taken, TakeoverError> {
    let ended = machine.tools.unix();
    let done = || {
        // Again: a purge that was cut off goes on from here.
        file_owner::check_folders(machine)?;
        doors::write(&machine.paths, &wanted(machine)?)?;
        shut(machine, &taking.found)?;
        let taking = taking.clone();
        Journal::Done { taking, owners_root, ended, verified: false }.write(machine)?;
        Ok(())
    };
    if let Err(error) = done() {
        return Err(back(machine, taking, error, true));
    }
    let taken = counts(&taking.found);
    machine.owners_root = owners_root;
    Ok(taken)
}

/// Goes back after an error; what to tell of both.
fn back(machine: &Machine, taking: Taking, error: TakeoverError, purged: bool) -> TakeoverError {
    match abort::go_back(machine, taking, error.to_string(), purged) {
        Ok(()) => TakeoverError::RolledBack(error.to_string()),
        Err(back) => TakeoverError::Stuck(format!("{back} (after: {error})")),
    }
}

/// Shuts what was found, and what is found after that.
fn shut(machine: &Machine, found: &[Finding]) -> Result<(), TakeoverError> {
    let mut found = found.to_vec();
    for _ in 0..ROUNDS {
        for kind in KINDS {
            let own: Vec<_> = found.iter().filter(|one| one.kind == kind.name()).cloned().collect();
            if !own.is_empty() {
                kind.apply(machine, &own)?;
            }
        }
        found = catalogue::look_for_apply(machine)?;
        if found.is_empty() {
            return Ok(());
        }
    }
    Err(TakeoverError::Left(found.iter().map(line).collect()))
}

/// A finding as one line.
pub(super) fn line(finding: &Finding) -> String {
    format!("{}: {}: {}", finding.kind, finding.path, finding.what)
}

/// Findings by kind.
pub(super) fn counts(found: &[Finding]) -> Taken {
    let mut counts: Taken = KINDS.iter().map(|kind| (kind.name().to_owned(), 0)).collect();
    for finding in found {
        *counts.entry(finding.kind.clone()).or_default() += 1;
    }
    counts
}

/// The board's key, from this server's own verified chain.
pub(super) fn board(machine: &Machine) -> Result<borgios_types::PublicKey, TakeoverError> {
    let chain = ChainStore::look(&machine.paths.keeper)?;
    let policy = chain.policy().ok_or_else(|| {
        TakeoverError::Refused("this server knows no policy of its network yet".to_owned())
    })?;
    Ok(policy.board.group())
}

/// The doors as they are at the hand-over: the board's, and no grant yet.
fn wanted(machine: &Machine) -> Result<DoorsWanted, TakeoverError> {
    let (principals, revoked_serials) = (Vec::new(), Vec::new());
    Ok(DoorsWanted { ca: board(machine)?, principals, revoked_serials })
}
