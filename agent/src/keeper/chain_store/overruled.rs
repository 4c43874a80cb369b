//! The files of what was applied and lost its effect by a policy's ruling.
//!
//! ```text
//! chain/<lane>/<seq>.json ── a ruling took it back ──▶ overruled/<lane>-<seq>-<id>.json
//!                         ◀── that ruling is void ───
//! ```
//!
//! Memory leads and the files follow, as far as the disk lets them; the next start does what was left.

use std::fs;
use std::io;
use std::path::PathBuf;

use borgios_policy::{Lane, Submission};
use borgios_types::{Digest, Envelope, Seq};
use tracing::{info, warn};

use super::{ChainStore, is_on, read_submission};
use crate::disk;

impl ChainStore {
    /// Moves what lost its effect by a ruling out of the lanes' folders. Best effort: what stays
    /// there loses its place again at the next start, and then moves.
    pub(super) fn put_away_the_overruled(&self) {
        for verified in self.chain.overruled() {
            let (lane, seq) = (verified.statement().lane, verified.statement().seq);
            let path = self.path_of(lane, seq);
            let there = read_submission(&path).ok().map(|one| one.statement.id());
            if there != Some(verified.id()) {
                continue;
            }
            let to = self.overruled_path(lane, seq, &verified.id());
            let moved =
                fs::create_dir_all(self.overruled_folder()).and_then(|()| fs::rename(&path, to));
            if let Err(error) = moved {
                warn!(BORGIOS_EVENT = "gate_stuck", "cannot put away {lane}/{seq}: {error}");
            }
        }
    }

    /// Moves back what has its place again, because the ruling that took it is void. Best effort: what stays
    /// is read from there at the next start.
    pub(super) fn bring_back(&self) {
        for (path, submission) in self.put_away() {
            let id = submission.statement.id();
            let Some((lane, seq)) = self.chain.known(&id) else { continue };
            let to = self.path_of(lane, seq);
            let moved = match read_submission(&to) {
                // Somebody brought it again, and it is stored.
                Ok(there) if there.statement.id() == id => fs::remove_file(&path),
                // Another one, which could not be put away.
                Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
                Err(_) => fs::create_dir_all(self.lane_folder(lane))
                    .and_then(|()| fs::rename(&path, &to))
                    .and_then(|()| disk::sync_folder(&self.lane_folder(lane))),
            };
            match moved {
                Ok(()) => info!(
                    BORGIOS_EVENT = "brought_back",
                    BORGIOS_LANE = lane.as_str(),
                    BORGIOS_SEQ = seq.0,
                    "{lane}/{seq} has its effect again: the ruling that took it back is void"
                ),
                Err(error) => {
                    warn!(BORGIOS_EVENT = "gate_stuck", "cannot bring back {lane}/{seq}: {error}");
                }
            }
        }
    }

    /// What was put away, with the ballots on it: a chain is made of these too, for what a ruling took has
    /// its place again once that is void.
    pub(super) fn read_put_away(&self) -> Vec<Envelope> {
        let all = self.put_away().into_iter().flat_map(|(_, one)| {
            let id = one.statement.id();
            let ballots = one.ballots.into_iter().filter(move |ballot| is_on(ballot, id));
            std::iter::once(one.statement).chain(ballots)
        });
        all.collect()
    }

    /// What lies in the folder, as far as it can be read.
    fn put_away(&self) -> Vec<(PathBuf, Submission)> {
        let entries = match fs::read_dir(self.overruled_folder()) {
            Ok(entries) => entries,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    warn!(BORGIOS_EVENT = "gate_stuck", "cannot list what was overruled: {error}");
                }
                return Vec::new();
            }
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut all: Vec<_> =
            paths.filter_map(|path| Some((path.clone(), read_submission(&path).ok()?))).collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        all
    }

    /// Whether a ruling took back this statement after it was applied here.
    pub(in crate::keeper) fn is_overruled(&self, lane: Lane, seq: Seq, id: &Digest) -> bool {
        self.chain.overruled().any(|verified| verified.id() == *id)
            || self.overruled_path(lane, seq, id).exists()
    }

    fn overruled_folder(&self) -> PathBuf {
        self.folder.join("overruled")
    }

    fn overruled_path(&self, lane: Lane, seq: Seq, id: &Digest) -> PathBuf {
        self.overruled_folder().join(format!("{lane}-{seq}-{}.json", id.hex()))
    }

    fn path_of(&self, lane: Lane, seq: Seq) -> PathBuf {
        self.lane_folder(lane).join(format!("{seq}.json"))
    }
}
