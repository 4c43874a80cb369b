//! `abort` and `resume`: the way back, by hand, by the deadline, and after a power cut.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::apply;
use super::failure::TakeoverError;
use super::finish;
use super::journal::{Journal, Taking};
use super::machine::{Machine, MachineError, disk_error};
use super::open::why_late;
use super::restore::restore;
use super::snapshot::{self, Snapshot};
use super::{sshd_unit, timer};
use crate::keeper::paths::CURRENT;

/// The unit in which bootstrap.sh does what follows consent.
const JOIN_SCOPE: &str = "borgios-join.scope";
/// Longest that ending it may take.
const JOIN_END_MAX: Duration = Duration::from_secs(10);

/// How often a unit is asked to stop.
const STOPS: usize = 3;

/// What an install makes and nobody else has a use for: `begin` sees to it that it is so.
pub(super) const AGENT: [&str; 5] = [
    "/opt/borgios",
    "/var/lib/borgios",
    "/var/lib/borgios-keeper",
    "/run/borgios",
    "/run/borgios-trial",
];
const UNITS: &str = "/etc/systemd/system";

/// What `resume` came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resumed {
    /// Root has changed hands, and nothing is left to do.
    Done,
    /// Everything is as it was.
    WentBack,
    /// There was nothing to do.
    Nothing,
}

/// Goes back, as a person asks.
pub(super) fn abort(machine: &Machine) -> Result<(), TakeoverError> {
    match Journal::read(machine)? {
        Some(Journal::Open { taking, .. }) => {
            Ok(go_back(machine, taking, "abort was asked for".to_owned(), false)?)
        }
        Some(Journal::Aborting { taking, why, purged }) => {
            Ok(go_back(machine, taking, why, purged)?)
        }
        was @ (None | Some(Journal::Aborted { .. })) => {
            if was.is_some() {
                tidy_up(machine)?;
            }
            Err(TakeoverError::Refused("no take-over is open, there is nothing to undo".to_owned()))
        }
        Some(Journal::Purging { .. } | Journal::Done { .. }) => Err(TakeoverError::Refused(
            "root was handed over; the way back is to reinstall the operating system".to_owned(),
        )),
    }
}

/// What the timer and every boot ask for.
pub(super) fn resume(machine: &mut Machine) -> Result<Resumed, TakeoverError> {
    match Journal::read(machine)? {
        Some(Journal::Open { taking, until_s, boot, .. }) => {
            let Some(why) = why_late(machine, until_s, &boot) else { return Ok(Resumed::Nothing) };
            end_join(machine);
            go_back(machine, taking, why.to_owned(), false)?;
            Ok(Resumed::WentBack)
        }
        Some(Journal::Aborting { taking, why, purged }) => {
            go_back(machine, taking, why, purged)?;
            Ok(Resumed::WentBack)
        }
        Some(Journal::Purging { taking, owners_root }) => {
            apply::purge(machine, taking, owners_root)?;
            finish::finish(machine)?;
            Ok(Resumed::Done)
        }
        Some(Journal::Aborted { .. }) => {
            tidy_up(machine)?;
            Ok(Resumed::Nothing)
        }
        Some(Journal::Done { .. }) if finish::finish(machine)? => Ok(Resumed::Done),
        Some(Journal::Done { .. }) => Ok(Resumed::Nothing),
        None => {
            timer::disarm(machine)?;
            Ok(Resumed::Nothing)
        }
    }
}

/// Ends a join that outlived its deadline or its boot; whether the take-over is late. Asked before
/// the lock is taken, which a verb of that join may hold: hanging there, it would keep the way back
/// shut for ever. What this cuts off in `purging` goes on as after any cut.
pub(super) fn end_late(machine: &Machine) -> Result<bool, TakeoverError> {
    let Some(Journal::Open { until_s, boot, .. }) = Journal::read(machine)? else {
        return Ok(false);
    };
    let is_late = why_late(machine, until_s, &boot).is_some();
    if is_late {
        end_join(machine);
    }
    Ok(is_late)
}

/// A join that is late must not go on installing what is taken back. None is the usual case, and
/// its own `abort` never comes by here.
fn end_join(machine: &Machine) {
    // All of its processes: so it is unless told otherwise, and the option has two names.
    let scope = ["systemctl", "kill", "--signal=KILL", JOIN_SCOPE];
    let _ = machine.tools.run(&scope, JOIN_END_MAX);
}

/// Brings the snapshot back. `purged` says whether something of root's may have changed, and with
/// it what runs.
pub(super) fn go_back(
    machine: &Machine,
    taking: Taking,
    why: String,
    purged: bool,
) -> Result<(), MachineError> {
    let journal = Journal::Aborting { taking: taking.clone(), why: why.clone(), purged };
    journal.write(machine)?;
    let snapshot = Snapshot::read(machine)?;
    // 1. The agent ends before its account and files go.
    for unit in agents_units(machine)? {
        stop(machine, &unit)?;
    }
    // 2. Everything but the units that would go on with this after a cut.
    restore(machine, &snapshot, &timer::files())?;
    for folder in AGENT {
        machine.remove(folder)?;
    }
    machine.systemctl(&["daemon-reload"])?;
    // 3. What runs, runs as before.
    if purged {
        sshd_unit::restart(machine)?;
        for unit in &snapshot.running {
            machine.systemctl(&["start", unit])?;
        }
    }
    // 4. The word, and then the unit that would have gone on with this.
    Journal::Aborted { taking, why, ended: machine.tools.unix() }.write(machine)?;
    tidy_up(machine)
}

/// Stops a unit. What was cut off may have asked for its start a moment before, and a job that another
/// one replaces counts as failed: so it is asked more than once.
fn stop(machine: &Machine, unit: &str) -> Result<(), MachineError> {
    for _ in 1..STOPS {
        if machine.systemctl(&["stop", unit]).is_ok() {
            return Ok(());
        }
    }
    machine.systemctl(&["stop", unit]).map(drop)
}

/// Removes the timer and its unit, brings the times of the folders they lay in back, and lets the
/// snapshot go. As good done twice; a boot does it if a cut came before.
fn tidy_up(machine: &Machine) -> Result<(), MachineError> {
    timer::disarm(machine)?;
    if machine.exists(snapshot::INDEX) {
        restore(machine, &Snapshot::read(machine)?, &BTreeSet::new())?;
    }
    snapshot::shred(machine)
}

/// Units whose files are links to what runs of a release.
fn agents_units(machine: &Machine) -> Result<Vec<String>, MachineError> {
    let mut units = Vec::new();
    for name in machine.names(UNITS)? {
        let path: PathBuf = Path::new(UNITS).join(&name);
        if !machine.is_link(&path) {
            continue;
        }
        let target = std::fs::read_link(machine.at(&path)).map_err(|e| disk_error(&path, e))?;
        let inside = machine.at(CURRENT);
        if target.starts_with(CURRENT) || target.starts_with(inside) {
            // A template runs under the names of its instances.
            units.push(name.to_string_lossy().replace("@.", "@*."));
        }
    }
    // The agent before the keeper: it would only complain.
    units.sort_by_key(|unit| unit.contains("keeper"));
    Ok(units)
}
