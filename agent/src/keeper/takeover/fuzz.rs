//! A door for the fuzzer (feature `fuzz`): what the take-over makes of a server whose files and
//! programs say anything at all. No program uses it.
//!
//! It looks at everything, and shuts the kinds whose files lie at fixed places; the others follow
//! paths that the files name, and a made-up server has no wall around it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use borgios_types::UnixSeconds;

use super::catalogue::{self, Kind};
use super::journal::Journal;
use super::machine::{Machine, Tools};
use super::snapshot::Snapshot;
use super::{account, group, show, sudo};
use crate::keeper::command::CommandError;
use crate::keeper::paths::Paths;
use crate::keeper::rotation::once::OnceError;

/// Programs that say what they were told to say, and do nothing.
struct Saying {
    sshd: String,
    systemctl: String,
}

impl Tools for Saying {
    fn about_to(&self, _what: &str) -> io::Result<()> {
        Ok(())
    }

    fn run(&self, words: &[&str], _max: Duration) -> Result<String, CommandError> {
        let sshd = words.first().is_some_and(|program| program.ends_with("sshd"));
        Ok(if sshd { self.sshd.clone() } else { self.systemctl.clone() })
    }

    fn rotate(&self, _paths: &Paths) -> Result<(), OnceError> {
        Ok(())
    }

    fn kill(&self, _pid: u32, _hard: bool) {}

    fn unix(&self) -> UnixSeconds {
        UnixSeconds(1_790_000_000)
    }

    fn uptime_s(&self) -> u64 {
        1_000
    }

    fn boot(&self) -> String {
        "boot".to_owned()
    }

    fn pause(&self, _time: Duration) {}

    fn own_pid(&self) -> u32 {
        1
    }
}

/// Looks at the server below `root`, where `sshd -T` says `sshd` and systemd says `systemctl` to
/// every question.
///
/// # Errors
/// Why nobody can say what would be taken.
///
/// # Panics
/// If accounts, groups or sudo are a way in still after they were shut.
pub fn plan(root: &Path, sshd: &str, systemctl: &str) -> Result<String, String> {
    let tools = Saying { sshd: sshd.to_owned(), systemctl: systemctl.to_owned() };
    let machine = Machine::new(root, Arc::new(tools));
    let said = |error: super::machine::MachineError| error.to_string();
    let journal = Journal::read(&machine).map(|_| ()).map_err(said);
    let snapshot = Snapshot::read(&machine).map(|_| ()).map_err(said);
    let _ = show::status(&machine, true);
    let found = catalogue::look(&machine).map_err(said)?;
    let text = show::plan(&found) + &show::plan_json(&machine, &found);
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "a plan moves the cursor");
    let kinds: [&dyn Kind; 3] = [&account::Account, &group::Group, &sudo::Sudo];
    for kind in kinds {
        kind.apply(&machine, &found).map_err(said)?;
    }
    for kind in kinds {
        let left = kind.look(&machine).map_err(said)?;
        assert_eq!(left, [], "{} was shut and is open", kind.name());
    }
    journal?;
    snapshot.map(|()| "ok".to_owned())
}
