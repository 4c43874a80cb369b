//! The thread that keeps this server's doors as the chain says: which certificates sshd lets in.
//!
//! ```text
//! every second:  chain + clock + witnesses ─▶ grants that are open ─▶ doors::write (what differs)
//!                                              └─ the last one closed ───┐
//!                rotation thread: root moves on from a revealed password ┴▶ logins are ended
//! ```
//!
//! The mark `access-open` says that logins are to be ended once no grant is open. It is set before a
//! door opens, and by the rotation before root carries another password than a revealed one.
//!
//! It looks at everything anew each time, so there is nothing to miss and nothing to repeat; a door
//! that somebody else changed is as it should be a second later. A server whose root was not handed
//! over has no doors of ours.

use std::io;
use std::time::Duration;

use borgios_policy::Lane;
use borgios_types::{NodeId, Seq};
use tracing::{error, info, warn};

use super::doors::{self, DoorsError, DoorsWanted};
use super::grants;
use super::leaving;
use super::paths::Paths;
use super::protocol::AccessState;
use super::rotation;
use super::service::Shared;
use crate::clock::unix_now;
use crate::disk;

/// Pause between two looks: how long a grant's end, or a revocation, may take to count.
const PACE: Duration = Duration::from_secs(1);

/// Looks after the doors for ever.
pub(super) fn run(shared: &Shared) -> ! {
    let mut said = None;
    loop {
        let seen = look(shared);
        let problem = seen.err();
        if problem.is_some() && problem != said {
            let why = problem.as_deref().unwrap_or_default();
            error!(BORGIOS_EVENT = "doors_failed", "the doors are not as they should be: {why}");
        }
        said = problem;
        std::thread::sleep(PACE);
    }
}

/// One look; what stands in the way, in words.
fn look(shared: &Shared) -> Result<(), String> {
    // `borgios-keeper leave` shuts the doors for good; nobody opens them behind it.
    if leaving::path(&shared.paths).exists() {
        return Ok(());
    }
    let Some(me) = shared.handed_over().map(|(handover, _)| handover.node) else { return Ok(()) };
    let (wanted, open) = {
        let store = shared.store();
        let chain = store.chain();
        let now = unix_now().max(chain.now_floor());
        let standing = grants::standing(chain, &me, &shared.witnesses, now);
        let Some(policy) = chain.policy() else { return Ok(()) };
        let open: Vec<Seq> = standing
            .iter()
            .filter(|status| status.state == AccessState::Open)
            .map(|status| status.seq)
            .collect();
        let wanted = DoorsWanted {
            ca: policy.board.group(),
            principals: grants::principals(chain, &standing),
            revoked_serials: chain.revoked().into_iter().collect(),
        };
        shared.witnesses.forget(chain, now);
        (wanted, open)
    };
    let marker = shared.paths.access_open();
    // The mark stands before the door opens: a login through it is never forgotten.
    if !open.is_empty() && !marker.exists() {
        disk::write_durable(&marker, b"", 0o600).map_err(|error| error.to_string())?;
    }
    // What cannot be written is said after logins were ended: a full disk must not keep them.
    let written = match write(&shared.paths, &me, &wanted) {
        Ok(None) => return Ok(()),
        Ok(Some(changed)) => Ok(changed),
        Err(error) => Err(error.to_string()),
    };
    let changed = written.as_deref().unwrap_or_default();
    if !changed.is_empty() {
        info!(
            BORGIOS_EVENT = "doors_changed",
            BORGIOS_LANE = Lane::Access.as_str(),
            BORGIOS_OPEN = ?open,
            "the doors changed ({}); open: {}",
            changed.join(", "),
            if open.is_empty() { "none".to_owned() } else { list(&open) }
        );
    }
    if open.is_empty() && marker.exists() {
        end_logins(shared)?;
    }
    written.map(drop)
}

/// Writes the doors; the names of what changed, or none where this server leaves. A look may be held up, by
/// the store or the disk, for longer than `leave` takes to shut the doors: what it writes then must not stay,
/// for nobody looks again. The departure is on the disk before `leave` begins, so either it is seen here, or
/// `leave` writes after this.
fn write(
    paths: &Paths,
    me: &NodeId,
    wanted: &DoorsWanted,
) -> Result<Option<Vec<&'static str>>, DoorsError> {
    let written = doors::write(paths, wanted);
    if leaving::path(paths).exists() {
        leaving::shut_doors(paths, me)?;
        return Ok(None);
    }
    written.map(Some)
}

/// Ends what came in through the last grant that was open, or with a revealed password. A certificate's
/// own end only keeps new logins out, and so does another password; a session that began in time would go
/// on for ever.
fn end_logins(shared: &Shared) -> Result<(), String> {
    // Never between the mark of a revealed password and the next one: who came in then would stay. Where
    // the lock cannot be had, as on a full disk, logins are ended, and the mark stays for another time.
    let alone = rotation::alone(&shared.paths);
    // A change that failed may have taken its mark back.
    if alone.is_ok() && !shared.paths.access_open().exists() {
        return Ok(());
    }
    shared.outside.end_logins().map_err(|error| {
        warn!(BORGIOS_EVENT = "logins_left", %error, "logins could not be ended: {error}");
        error.to_string()
    })?;
    let _alone = alone.map_err(|error| error.to_string())?;
    info!(
        BORGIOS_EVENT = "logins_ended",
        "no grant is open any more, and no revealed password: every login was ended"
    );
    match std::fs::remove_file(shared.paths.access_open()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
        _ => Ok(()),
    }
}

fn list(open: &[Seq]) -> String {
    open.iter().map(|seq| format!("access/{seq}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use borgios_types::SecretKey;

    use super::*;

    /// The look began, and was held up; the departure came, and `leave` shut the doors.
    #[test]
    fn a_look_that_was_held_up_opens_no_door_behind_a_departure() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        let [board, me] = [1, 2].map(|seed| SecretKey::from_seed([seed; 32]).public());
        let principals = vec!["a".to_owned()];
        let wanted = DoorsWanted { ca: board, principals, revoked_serials: vec![7] };
        assert_eq!(write(&paths, &me, &wanted).unwrap().unwrap().len(), 3);
        let read = |name: &str| std::fs::read_to_string(doors::folder(&paths).join(name)).unwrap();
        assert_eq!(read("principals/root"), "a\n");
        std::fs::create_dir_all(&paths.keeper).unwrap();
        std::fs::write(leaving::path(&paths), "").unwrap();
        leaving::shut_doors(&paths, &me).unwrap();
        assert_eq!(write(&paths, &me, &wanted).unwrap(), None);
        assert_eq!(read("principals/root"), "");
        assert_eq!(read(doors::BOARD), format!("{me}\n"));
    }
}
