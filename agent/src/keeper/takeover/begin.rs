//! `begin`: the snapshot, the timer, and only then the word `open`.

use std::path::PathBuf;

use borgios_types::UnixSeconds;

use super::abort::AGENT;
use super::catalogue;
use super::failure::TakeoverError;
use super::journal::{FILE, FOLDER, Journal, Taking};
use super::machine::{Machine, MachineError};
use super::snapshot::{self, Snapshot};
use super::{passwd, sealed, timer};
use crate::keeper::account::USER;

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
        // Nothing of ours has run here yet: who has the agent's names is somebody else.
        None => {
            if let Some(whose) = taken_name(machine)? {
                let why = format!("{whose}, and the agent goes by that name; rename it first");
                return Err(TakeoverError::Refused(why));
            }
        }
        Some(Journal::Aborted { .. }) => {}
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

/// Who or what goes by one of the agent's names, in words. Such an account would be borgiosd's, its
/// key with it; such a folder would go on the way back, with all that is in it.
fn taken_name(machine: &Machine) -> Result<Option<String>, MachineError> {
    for path in ["/etc/passwd", "/etc/group"] {
        let bytes = machine.read(path)?.unwrap_or_default();
        if passwd::lines(&bytes).any(|line| passwd::name_of(&line) == USER) {
            return Ok(Some(format!("{USER} is in {path} already")));
        }
    }
    // What lies below /run is gone at the next boot anyway.
    for folder in AGENT.into_iter().filter(|folder| !folder.starts_with("/run")) {
        let is_folder = machine.at(folder).is_dir() && !machine.is_link(folder);
        let is_empty = is_folder && machine.names(folder)?.is_empty();
        if machine.exists(folder) && !is_empty {
            return Ok(Some(format!("{folder} is there already")));
        }
    }
    Ok(None)
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::keeper::takeover::abort;
    use crate::keeper::takeover::fake::server;

    /// The way back would remove the folder, and borgiosd be whoever has the account.
    #[test]
    fn who_has_the_agents_names_already_is_told_and_keeps_all() {
        let beginning = Beginning { deadline_s: 900, owner: None };
        for (path, line) in [
            ("/etc/passwd", "borgios:x:1001:1001::/home/borgios:/bin/bash\n"),
            ("/etc/group", "borgios:x:1001:ann\n"),
            ("/opt/borgios/theirs", ""),
            ("/var/lib/borgios/theirs", ""),
            ("/var/lib/borgios-keeper", ""),
        ] {
            let (_folder, machine, _) = server();
            for path in [path, timer::PROGRAM] {
                machine.folder(Path::new(path).parent().unwrap(), 0o755).unwrap();
            }
            machine.write(timer::PROGRAM, b"", 0o755).unwrap();
            let text = machine.text(path).unwrap();
            machine.write(path, (text.clone() + line).as_bytes(), 0o644).unwrap();
            let begun = begin(&machine, &beginning);
            let is_said =
                matches!(&begun, Err(TakeoverError::Refused(why)) if why.contains("already"));
            assert!(is_said, "{path}: {begun:?}");
            assert!(machine.exists(path) && !timer::is_armed(&machine));
            // Out of the way, it hinders nobody; nor does a folder that is empty.
            if line.is_empty() {
                machine.remove(path).unwrap();
            } else {
                machine.write(path, text.as_bytes(), 0o644).unwrap();
            }
            begin(&machine, &beginning).unwrap();
            abort::abort(&machine).unwrap();
        }
    }
}
