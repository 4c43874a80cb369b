//! Whether a take-over is open and in date: only then is what is done to the server taken back
//! unless root changes hands.

use std::path::Path;
use std::sync::Arc;

use thiserror::Error;

use super::journal::Journal;
use super::machine::Machine;
use super::systemd::Real;

/// Why nothing that is done now would be taken back.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum NotOpen {
    /// Nobody began one.
    #[error("no take-over was begun here")]
    Never,
    /// Root has changed hands, or is about to; or all went back, or is about to.
    #[error("the take-over of this server is {0}")]
    Over(&'static str),
    /// The way back is due.
    #[error("{0}")]
    Late(&'static str),
    /// Nobody can say.
    #[error("{0}")]
    Unreadable(String),
}

/// Checks that timer and boot unit will take back what is done to the server below `root` now.
///
/// # Errors
/// Why they will not.
pub fn check_open(root: &Path) -> Result<(), NotOpen> {
    check(&Machine::new(root, Arc::new(Real)))
}

fn check(machine: &Machine) -> Result<(), NotOpen> {
    match Journal::read(machine) {
        Err(error) => Err(NotOpen::Unreadable(error.to_string())),
        Ok(None) => Err(NotOpen::Never),
        Ok(Some(Journal::Open { until_s, boot, .. })) => {
            why_late(machine, until_s, &boot).map_or(Ok(()), |why| Err(NotOpen::Late(why)))
        }
        Ok(Some(
            over @ (Journal::Purging { .. }
            | Journal::Done { .. }
            | Journal::Aborting { .. }
            | Journal::Aborted { .. }),
        )) => Err(NotOpen::Over(over.name())),
    }
}

/// Why a take-over that is open is to go back; none as long as it is in date.
pub(super) fn why_late(machine: &Machine, until_s: u64, boot: &str) -> Option<&'static str> {
    if boot != machine.tools.boot() {
        Some("the server booted before root had changed hands")
    } else if machine.tools.uptime_s() >= until_s {
        Some("the deadline passed before root had changed hands")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::takeover::abort;
    use crate::keeper::takeover::begin::{self, Beginning};
    use crate::keeper::takeover::fake::server;
    use crate::keeper::takeover::{journal, timer};

    #[test]
    fn only_a_take_over_that_is_open_and_in_date_takes_back_what_is_done() {
        for boots in [false, true] {
            let (_folder, mut machine, fake) = server();
            assert_eq!(check(&machine), Err(NotOpen::Never));
            machine.folder(Path::new(timer::PROGRAM).parent().unwrap(), 0o700).unwrap();
            machine.write(timer::PROGRAM, b"", 0o755).unwrap();
            begin::begin(&machine, &Beginning { deadline_s: 900, owner: None }).unwrap();
            fake.pass(899);
            assert_eq!(check(&machine), Ok(()));
            if boots {
                fake.reboot()
            } else {
                fake.pass(1)
            }
            assert!(matches!(check(&machine), Err(NotOpen::Late(_))));
            abort::resume(&mut machine).unwrap();
            assert_eq!(check(&machine), Err(NotOpen::Over("aborted")));
            machine.write(journal::FILE, b"{", 0o600).unwrap();
            assert!(matches!(check(&machine), Err(NotOpen::Unreadable(_))));
        }
    }
}
