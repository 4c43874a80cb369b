//! `begin`: the snapshot, the timer, and only then the word `open`.

use std::path::PathBuf;

use borgios_types::UnixSeconds;

use super::catalogue;
use super::failure::TakeoverError;
use super::journal::{FILE, FOLDER, Journal, Taking};
use super::machine::Machine;
use super::snapshot::{self, Snapshot};
use super::{sealed, timer};

/// What the command line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Beginning {
    pub(super) deadline_s: u64,
    /// The owner's public key, and where the file sealed to it goes.
    pub(super) owner: Option<(PathBuf, PathBuf)>,
}

/// Opens a take-over. Nothing of root's has changed when it returns.
///
/// A cut before the journal leaves no take-over, only files that the next one replaces and a unit
/// that removes itself at the next boot.
pub(super) fn begin(machine: &Machine, beginning: &Beginning) -> Result<Journal, TakeoverError> {
    match Journal::read(machine)? {
        None | Some(Journal::Aborted { .. }) => {}
        Some(Journal::Open { .. } | Journal::Aborting { .. }) => {
            let why = "a take-over is under way; see `takeover status`, or `takeover abort` first";
            return Err(TakeoverError::Refused(why.to_owned()));
        }
        Some(Journal::Purging { .. } | Journal::Done { .. }) => {
            let why = "root of this server belongs to a network already".to_owned();
            return Err(TakeoverError::Refused(why));
        }
    }
    if !machine.at(timer::PROGRAM).is_file() {
        let why = format!("{} is missing: the timer must have a program to run", timer::PROGRAM);
        return Err(TakeoverError::Refused(why));
    }
    // Read before anything is written: a wrong key must not leave a take-over half begun.
    let recipient = match &beginning.owner {
        Some((key, _)) => Some(sealed::Recipient::read(key)?),
        None => None,
    };
    let opened = open(machine, beginning, recipient.as_ref());
    if opened.is_err() {
        // Nothing may be half open. The first error is the one to tell.
        let _ = machine.remove(FILE);
        let _ = timer::disarm(machine);
        let _ = snapshot::shred(machine);
    }
    opened
}

fn open(
    machine: &Machine,
    beginning: &Beginning,
    recipient: Option<&sealed::Recipient>,
) -> Result<Journal, TakeoverError> {
    // A unit of a beginning that was cut off is not part of what was there.
    timer::disarm(machine)?;
    machine.folder(FOLDER, 0o700)?;
    let found = catalogue::look(machine)?;
    let snapshot = Snapshot::make(machine)?;
    let mut sealed = None;
    if let (Some(recipient), Some((_, file))) = (recipient, &beginning.owner) {
        sealed::write(machine, &snapshot, recipient, file)?;
        sealed = Some(file.to_string_lossy().into_owned());
    }
    timer::arm(machine, beginning.deadline_s)?;
    let begun = machine.tools.unix();
    let journal = Journal::Open {
        taking: Taking { begun, sealed, found },
        deadline: UnixSeconds(begun.0 + beginning.deadline_s),
        until_s: machine.tools.uptime_s() + beginning.deadline_s,
        boot: machine.tools.boot(),
    };
    journal.write(machine)?;
    // Counted from here: when the timer asks, the deadline has passed by the journal's word too.
    // Without its timer a take-over may not be open.
    timer::start(machine)?;
    Ok(journal)
}
