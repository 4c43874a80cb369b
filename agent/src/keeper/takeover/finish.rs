//! What is left once root has changed hands, done by the timer or the next boot if nobody else did.
//!
//! ```text
//! done ─▶ first rotation ─▶ look, before/ goes ─▶ receipt ─▶ logins end ─▶ last look, disarms
//! ```
//!
//! Without its receipt the daemon opens no door and rotates nothing, and the owner's ways in are
//! shut: a server left there would be nobody's. So the timer and the boot unit stay until the look
//! that follows the receipt held, and each step is as good done twice.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use borgios_types::{NodeId, SecretKey};
use rustix::fs::OFlags;

use super::failure::TakeoverError;
use super::journal::Journal;
use super::machine::{Machine, MachineError};
use super::receipt::{self, Receipt};
use super::{apply, session, timer, verify};

/// The node's public key, as bootstrap.sh noted it before the purge.
pub(super) const NODE: &str = "/var/lib/borgios-bootstrap/node";
/// The owner's public key, if one was given.
pub(super) const OWNER: &str = "/var/lib/borgios-bootstrap/owner.pub";
/// borgiosd's folder, and the key in it.
const AGENT: &str = "/var/lib/borgios";
const KEY: &str = "/var/lib/borgios/node.key";
/// Longest key file, in bytes; an Ed25519 one has about 400.
const KEY_MAX: u64 = 16 * 1024;

/// Does what is left; whether anything was.
pub(super) fn finish(machine: &mut Machine) -> Result<bool, TakeoverError> {
    let Some(Journal::Done { verified, .. }) = Journal::read(machine)? else {
        return Err(TakeoverError::Refused("root has not changed hands here".to_owned()));
    };
    let has_receipt = receipt::exists(machine)?;
    if verified && has_receipt && !timer::is_armed(machine) {
        return Ok(false);
    }
    // What drifted since is shut first: a look that only found it would find it for ever.
    apply::apply(machine)?;
    machine.tools.rotate(&machine.paths)?;
    verify::verify(machine)?;
    if !has_receipt {
        let owner = Some(machine.at(OWNER)).filter(|_| machine.exists(OWNER));
        receipt::sign(machine, &Receipt { node: node(machine)?, owner, name: None })?;
    }
    // Until it ends, a login may undo what was just looked at.
    session::end(machine)?;
    machine.tools.rotate(&machine.paths)?;
    apply::apply(machine)?;
    verify::verify(machine)?;
    Ok(true)
}

/// Lets the timer and the boot unit go once there is a receipt.
pub(super) fn disarm(machine: &Machine) -> Result<(), TakeoverError> {
    if receipt::exists(machine)? {
        timer::disarm(machine)?;
    }
    Ok(())
}

/// The key to pin.
fn node(machine: &Machine) -> Result<NodeId, TakeoverError> {
    if let Ok(noted) = machine.text(NODE)?.trim().parse() {
        return Ok(noted);
    }
    own_key(machine).ok_or_else(|| {
        let why = format!(
            "does not name this server's node, and {KEY} is no plain file with a key; write the \
             node's line `ssh-ed25519 AAAA…` into it, or run bootstrap.sh join again"
        );
        TakeoverError::Machine(MachineError::Odd { path: PathBuf::from(NODE), why })
    })
}

/// The public half of borgiosd's key. Its folder is another user's: no link is followed, and
/// nothing but a plain file is read.
fn own_key(machine: &Machine) -> Option<NodeId> {
    // Root's to change alone, so it stays what it is while the file in it is opened.
    if machine.is_link(AGENT) {
        return None;
    }
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).ok()?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(machine.at(KEY)).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(KEY_MAX).read_to_string(&mut text).ok()?;
    Some(SecretKey::from_openssh(&text).ok()?.public())
}
