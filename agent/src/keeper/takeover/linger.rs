//! Services of users that run without a login (`loginctl enable-linger`): started again after all logins
//! were ended.
//!
//! What runs below `user@N.service` may as well have come in by a login, so all of it is ended. Without
//! this, a user's services would be gone until the next boot. What a login left there is gone for good.

use tracing::warn;

use super::machine::{Machine, MachineError};
use super::passwd;

/// A file for each user, by name (systemd-logind).
const FOLDER: &str = "/var/lib/systemd/linger";
/// Most users whose services are started again: more are no server's, and would not fit a command line.
const USERS_MAX: usize = 1_000;

/// Starts them again. Again is fine, and so is one that runs. Best effort: logins are ended either way,
/// and the next boot starts them too.
pub(super) fn start_again(machine: &Machine) {
    let started = units(machine).and_then(|units| {
        let mut words = vec!["--no-block", "start"];
        words.extend(units.iter().map(String::as_str));
        if units.is_empty() { Ok(String::new()) } else { machine.systemctl(&words) }
    });
    if let Err(error) = started {
        warn!(
            BORGIOS_EVENT = "lingering_stopped",
            %error,
            "services of users could not be started again: {error}"
        );
    }
}

/// The units of who lingers, but root's own: it is the network's, and nothing of it goes on.
fn units(machine: &Machine) -> Result<Vec<String>, MachineError> {
    let names = machine.names(FOLDER)?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let users = passwd::users(&machine.read("/etc/passwd")?.unwrap_or_default());
    let uid = |name: &str| Some(users.iter().find(|user| user.name == name)?.uid);
    // Of who is in no file of ours, systemd knows the number, and we do not.
    let uids = names.iter().filter_map(|name| uid(name.to_str()?)).filter(|uid| *uid != 0);
    Ok(uids.take(USERS_MAX).map(|uid| format!("user@{uid}.service")).collect())
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, server};
    use super::super::session;
    use super::*;

    fn starts(fake: &Fake) -> Vec<String> {
        let calls = fake.calls().into_iter();
        calls.filter(|call| call.starts_with("systemctl --quiet start")).collect()
    }

    #[test]
    fn who_lingers_has_its_services_again_once_logins_are_ended() {
        let (_folder, machine, fake) = server();
        let manager = "0::/user.slice/user-1000.slice/user@1000.service/init.scope";
        fake.process(&machine, 12, "systemd", manager);
        assert_eq!(session::end(&machine).unwrap(), 1);
        assert!(starts(&fake).is_empty(), "nobody lingers");
        machine.folder(FOLDER, 0o755).unwrap();
        // Nobody has the last name.
        for name in ["ann", "root", "ghost"] {
            machine.write(format!("{FOLDER}/{name}"), b"", 0o644).unwrap();
        }
        fake.process(&machine, 13, "systemd", manager);
        assert_eq!(session::end(&machine).unwrap(), 1);
        assert_eq!(fake.killed(), [12, 13]);
        assert_eq!(starts(&fake), ["systemctl --quiet start user@1000.service"]);
        // Where that was cut off, the next time does it.
        assert_eq!(session::end(&machine).unwrap(), 0);
        assert_eq!(starts(&fake).len(), 2);
    }

    #[test]
    fn services_that_do_not_start_do_not_keep_logins() {
        let (_folder, machine, fake) = server();
        machine.folder(FOLDER, 0o755).unwrap();
        machine.write(format!("{FOLDER}/ann"), b"", 0o644).unwrap();
        fake.fail("systemctl --quiet start");
        fake.process(&machine, 12, "bash", "0::/user.slice/user-0.slice/session-3.scope");
        assert_eq!(session::end(&machine).unwrap(), 1);
        assert_eq!((fake.killed(), starts(&fake).len()), (vec![12], 1));
    }
}
