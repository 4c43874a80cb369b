//! The schedule at work: from borgiosd's depot, which is not trusted, into the keeper's folder.
//!
//! ```text
//! newest credential statement ─▶ depot/<hex> ── size, digest, rules ──▶ credential/<hex>.json
//!                        not there yet: the one before it that is at hand goes on
//! ```

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use borgios_credentials::schedule::SCHEDULE_MAX;
use borgios_credentials::{Schedule, Verifier};
use borgios_types::{Digest, Epoch};
use tracing::warn;

use super::inputs::Inputs;
use super::obstacle::{Obstacle, at};
use crate::disk;
use crate::keeper::paths::Paths;

/// The keeper's own copies.
#[derive(Debug)]
pub(super) struct Schedules {
    paths: Paths,
    at_work: Option<(Digest, Schedule)>,
}

impl Schedules {
    pub(super) fn new(paths: &Paths) -> Self {
        Self { paths: paths.clone(), at_work: None }
    }

    /// The schedule to go by, and why it is not the newest one, if it is not.
    pub(super) fn at_work(
        &mut self,
        inputs: &Inputs,
    ) -> (Option<(Digest, &Schedule)>, Option<Obstacle>) {
        let mut obstacle = None;
        if inputs.schedules.is_empty() {
            self.at_work = None;
        }
        for (place, digest) in inputs.schedules.iter().enumerate() {
            if self.at_work.as_ref().is_some_and(|(known, _)| known == digest) {
                break;
            }
            // Only the newest is asked of the depot: an older one will not come any more.
            match self.obtain(inputs.network, *digest, place == 0) {
                Ok(schedule) => {
                    self.at_work = Some((*digest, schedule));
                    break;
                }
                Err(why) if place == 0 => obstacle = Some(why),
                Err(_) => {}
            }
        }
        if obstacle.is_none() {
            self.forget_others();
        }
        (self.at_work.as_ref().map(|(digest, schedule)| (*digest, schedule)), obstacle)
    }

    /// Which epoch of the schedule at work a verifier is.
    pub(super) fn epoch_of(&self, verifier: &Verifier) -> Option<Epoch> {
        let (_, schedule) = self.at_work.as_ref()?;
        let mut epochs = (schedule.first().0..=schedule.last().0).map(Epoch);
        epochs.find(|epoch| schedule.verifier(*epoch) == Some(verifier))
    }

    fn obtain(&self, network: Digest, digest: Digest, fetch: bool) -> Result<Schedule, Obstacle> {
        let own = self.own(digest);
        let bytes = match disk::read_bounded(&own, SCHEDULE_MAX) {
            Ok(bytes) if Digest::of(&bytes) == digest => bytes,
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::InvalidData
                ) =>
            {
                return Err(at(&own)(error));
            }
            // Not here, or not what it was: the depot has it, or will.
            Ok(_) | Err(_) if fetch => {
                let bytes = self.bring(digest)?;
                self.keep(digest, &bytes)?;
                bytes
            }
            Ok(_) | Err(_) => return Err(Obstacle::NoSchedule(digest)),
        };
        let bad = |why: String| Obstacle::BadSchedule { digest, why };
        let schedule = Schedule::parse(&bytes).map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            bad(format!("{error}{}", cause.unwrap_or_default()))
        })?;
        if schedule.network() != network {
            return Err(bad("it is another network's".to_owned()));
        }
        Ok(schedule)
    }

    /// Its folder is another user's: no link is followed, nothing but a plain file is read, and
    /// no more of it than a schedule may have.
    fn bring(&self, digest: Digest) -> Result<Vec<u8>, Obstacle> {
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).expect("open flags fit into an int");
        let path = self.paths.depot.join(digest.hex());
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Obstacle::NoSchedule(digest));
            }
            other => other.map_err(|_| Obstacle::NotTheSchedule(digest))?,
        };
        let is_file = file.metadata().is_ok_and(|meta| meta.is_file());
        let mut bytes = Vec::new();
        let read = file.take(SCHEDULE_MAX as u64 + 1).read_to_end(&mut bytes);
        if !is_file || read.is_err() || Digest::of(&bytes) != digest {
            return Err(Obstacle::NotTheSchedule(digest));
        }
        Ok(bytes)
    }

    fn keep(&self, digest: Digest, bytes: &[u8]) -> Result<(), Obstacle> {
        let (folder, own) = (self.paths.credential(), self.own(digest));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(at(&folder))?;
        disk::sync_folder(&self.paths.keeper).map_err(at(&self.paths.keeper))?;
        disk::write_durable(&own, bytes, 0o600).map_err(at(&own))
    }

    /// Best effort: what stays is public, and goes the next time.
    fn forget_others(&self) {
        let Some((digest, _)) = &self.at_work else { return };
        let own = self.own(*digest);
        let Ok(entries) = fs::read_dir(self.paths.credential()) else { return };
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| *path != own) {
            if let Err(error) = fs::remove_file(&path) {
                warn!(%error, "cannot remove the old schedule {}", path.display());
            }
        }
    }

    fn own(&self, digest: Digest) -> PathBuf {
        self.paths.credential().join(format!("{}.json", digest.hex()))
    }
}
