//! `verify`: a second look from outside, once root has changed hands, and a last one once every
//! login has ended.

use super::apply;
use super::catalogue;
use super::failure::TakeoverError;
use super::journal::Journal;
use super::machine::Machine;
use super::sshd_config::{Effective, FINAL};
use super::{finish, snapshot, sshd_unit, trial};
use crate::keeper::doors;

/// Looks; a line for each check that held. Then the snapshot, with the owner's old passwords and
/// keys in it, goes for good.
pub(super) fn verify(machine: &mut Machine) -> Result<Vec<String>, TakeoverError> {
    let Some(Journal::Done { taking, owners_root, ended, .. }) = Journal::read(machine)? else {
        return Err(TakeoverError::Refused("root has not changed hands here".to_owned()));
    };
    machine.owners_root = owners_root;
    let mut wrong = Vec::new();
    let mut held = Vec::new();
    // 1. The catalogue.
    let found = catalogue::look_for_apply(machine)?;
    wrong.extend(found.iter().map(apply::line));
    held.push(format!("no finding is left of {}", taking.found.len()));
    // 2. The doors.
    let board = apply::board(machine)?;
    let door = machine.text(format!("{}/{}", doors::FOLDER, doors::BOARD))?;
    if door.trim() != board.to_string() || !doors::are_there(&machine.paths) {
        wrong.push(format!("{} is not the board's", doors::FOLDER));
    }
    held.push(format!("certificates of {} open root", board.fingerprint()));
    // 3. sshd: what its file says, what it was started with, what it offers.
    match Effective::ask(machine, "root", &[])? {
        None => held.push("no sshd here".to_owned()),
        Some(effective) => {
            wrong.extend(effective.against_the_rules(&FINAL));
            held.push("sshd's one file is ours".to_owned());
            let started = sshd_unit::command_line(machine)?;
            if !sshd_unit::own_options(&started).is_empty() {
                wrong.push(format!("sshd runs with options of its own: {started}"));
            }
            if let Some(port) = port(&effective).filter(|_| !started.is_empty()) {
                match trial::offered(machine, port) {
                    Ok(offered) if offered == "publickey" => {
                        held.push(format!("port {port} asks for a key, and for nothing else"));
                    }
                    Ok(offered) => wrong.push(format!("sshd on port {port} offers {offered}")),
                    Err(error) => wrong.push(format!("sshd on port {port}: {error}")),
                }
            }
        }
    }
    if !wrong.is_empty() {
        return Err(TakeoverError::Left(wrong));
    }
    // 4. Nothing leads back from here. The timer goes last, for it does what is left.
    snapshot::shred(machine)?;
    Journal::Done { taking, owners_root, ended, verified: true }.write(machine)?;
    finish::disarm(machine)?;
    held.push("the copies of what was before are gone".to_owned());
    Ok(held)
}

/// A port on which this machine reaches its own sshd at 127.0.0.1. One that listens on IPv6 alone is not
/// reached there (OpenSSH sets `IPV6_V6ONLY`), and what it was told is all that can be said of it.
fn port(effective: &Effective) -> Option<u16> {
    let addresses = effective.all("listenaddress").map(|text| text.split(' ').next());
    addresses.flatten().find_map(|address| {
        let (host, port) = address.rsplit_once(':')?;
        ["0.0.0.0", "127.0.0.1"].contains(&host).then(|| port.parse().ok())?
    })
}
