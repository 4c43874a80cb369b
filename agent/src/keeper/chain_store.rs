//! The keeper's own copy of the chain: verified again here, stored before it counts.
//!
//! ```text
//! submission ─▶ Chain::verify ─▶ write, fsync, rename, fsync folder ─▶ Chain::apply ─▶ "accepted"
//!                   │ refused: a line in the journal; a rival is kept in evidence/
//! ```
//!
//! ```text
//! pin                       the network's id, written once when the server joined
//! chain/<lane>/<seq>.json   {"statement":…,"ballots":[…]}
//! evidence/<id>.json        rivals: signed for a number that was taken (at most 64)
//! damaged/<lane>-<seq>.json what the disk gave back changed; borgiosd brings it again
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use borgios_policy::{Chain, Lane, Refusal, Submission, Verdict};
use borgios_releases::Manifest;
use borgios_types::limits::ENVELOPE_MAX;
use borgios_types::{Digest, Envelope, Seq, UnixSeconds};
use thiserror::Error;
use tracing::{error, warn};

use super::protocol::Submitted;
use crate::disk;

/// Longest stored submission, in bytes: what a line of the socket can carry.
const FILE_MAX: usize = 2 * ENVELOPE_MAX;
/// Most rivals kept: each needs a group signature, so even two are an alarm.
const EVIDENCE_MAX: usize = 64;

/// The chain on disk and in memory.
#[derive(Debug)]
pub struct ChainStore {
    folder: PathBuf,
    chain: Chain,
}

/// Why the store cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The server has not joined a network.
    #[error("{0} does not say which network this server belongs to; run bootstrap.sh join")]
    NoPin(PathBuf),
    /// The disk failed.
    #[error("cannot read the chain in {path}")]
    Disk {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why a submission was not taken. Nothing changed.
#[derive(Debug, Error)]
pub enum SubmitError {
    /// It did not verify.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It verified and could not be stored, so it does not count; offer it again.
    #[error("cannot store the statement: {0}; offer it again when the disk has room")]
    Disk(#[from] io::Error),
}

impl SubmitError {
    /// The stable name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Disk(_) => "disk",
        }
    }
}

impl ChainStore {
    /// Pins `folder` to a network, once; the same network again is fine.
    ///
    /// # Errors
    /// `AlreadyExists` if it is pinned to another, or whatever the disk says.
    pub fn pin(folder: &Path, network: Digest) -> io::Result<()> {
        let path = folder.join("pin");
        match read_pin(&path) {
            Ok(found) if found == network => Ok(()),
            Ok(found) => {
                let text = format!("this server is pinned to network {found}, not {network}");
                Err(io::Error::new(io::ErrorKind::AlreadyExists, text))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                disk::write_durable(&path, format!("{network}\n").as_bytes(), 0o600)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads and verifies everything again. What does not verify is set aside, and what follows
    /// it in its lane with it: the chain goes on from the last statement that holds.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join("pin");
        let pin = read_pin(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => OpenError::NoPin(path.clone()),
            _ => OpenError::Disk { path: path.clone(), source },
        })?;
        let mut store = Self { folder: folder.to_owned(), chain: Chain::new(Some(pin)) };
        let stored = store.read_all()?;
        for submission in Submission::sort(stored) {
            match store.chain.verify_stored(&submission.statement, &submission.ballots) {
                Ok(Verdict::New(verified)) => store.chain.apply(*verified),
                Ok(Verdict::AlreadyKnown(_)) => {}
                Err(refusal) => error!(
                    BORGIOS_EVENT = "stored_statement_refused",
                    BORGIOS_REFUSAL = refusal.code(),
                    BORGIOS_MESSAGE = %refusal,
                    "a stored statement no longer verifies: {refusal}"
                ),
            }
        }
        store.set_aside_the_unverified()?;
        Ok(store)
    }

    /// What was verified.
    #[must_use]
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The network this server is pinned to.
    #[must_use]
    pub fn network(&self) -> Digest {
        self.chain.network().expect("a store is only ever opened with a pin")
    }

    /// Verifies a submission and, if it is new, stores it; when this returns, it survives a crash.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn submit(
        &mut self,
        now: UnixSeconds,
        submission: &Submission,
    ) -> Result<Submitted, SubmitError> {
        let Submission { statement, ballots } = submission;
        let verdict = self.chain.verify(now, statement, ballots);
        self.take(verdict, submission)
    }

    /// As [`ChainStore::submit`] for a statement whose date was judged as part of a whole run,
    /// where only the newest must still be in date ([`Chain::verify_run`]).
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn submit_history(&mut self, submission: &Submission) -> Result<Submitted, SubmitError> {
        let verdict = self.chain.verify_stored(&submission.statement, &submission.ballots);
        self.take(verdict, submission)
    }

    /// Verifies a run of submissions together and stores what holds, oldest first.
    ///
    /// Known ones are passed over. Returns how many are new, and the first that was not taken,
    /// by its place in the run; what came before it stays.
    pub fn submit_run(
        &mut self,
        now: UnixSeconds,
        run: &[Submission],
    ) -> (usize, Option<(usize, SubmitError)>) {
        let mut judged = self.chain.verify_run(now, run);
        judged.refused.sort_by_key(|(at, _)| *at);
        let mut accepted = 0;
        for verified in judged.accepted {
            // By the whole envelope: a twin with a forged signature has the same id.
            let taken = |one: &Submission| one.statement == *verified.envelope();
            let Some(at) = run.iter().position(taken) else { continue };
            match self.submit_history(&run[at]) {
                Ok(Submitted::Accepted) => accepted += 1,
                Ok(Submitted::AlreadyKnown) => {}
                Err(error) => return (accepted, Some((at, error))),
            }
        }
        let refused = judged.refused.into_iter().next().map(|(at, refusal)| {
            if let Refusal::Rival { offered, .. } = refusal {
                self.keep_evidence(offered, &run[at].statement);
            }
            (at, refusal.into())
        });
        (accepted, refused)
    }

    fn take(
        &mut self,
        verdict: Result<Verdict, Refusal>,
        submission: &Submission,
    ) -> Result<Submitted, SubmitError> {
        let verified = match verdict {
            Ok(Verdict::New(verified)) => verified,
            Ok(Verdict::AlreadyKnown(_)) => return Ok(Submitted::AlreadyKnown),
            Err(refusal) => {
                if let Refusal::Rival { offered, .. } = refusal {
                    self.keep_evidence(offered, &submission.statement);
                }
                return Err(refusal.into());
            }
        };
        let (lane, seq) = (verified.statement().lane, verified.statement().seq);
        // A release whose body this version cannot use takes its place all the same: it is never
        // installed, but the next one builds upon it, and no signed mistake may end the lane.
        if lane == Lane::Release
            && let Err(refusal) = Manifest::of(&verified)
        {
            warn!(
                BORGIOS_EVENT = "refused",
                BORGIOS_REFUSAL = refusal.code(),
                BORGIOS_LANE = lane.as_str(),
                BORGIOS_SEQ = seq.0,
                BORGIOS_MESSAGE = %refusal,
                "release/{seq} will not be installed: {refusal}"
            );
        }
        let folder = self.lane_folder(lane);
        fs::create_dir_all(&folder)?;
        disk::sync_folder(&self.folder.join("chain"))?;
        let bytes = serde_json::to_vec(submission).expect("a submission has string keys only");
        disk::write_durable(&folder.join(format!("{seq}.json")), &bytes, 0o600)?;
        self.chain.apply(*verified);
        Ok(Submitted::Accepted)
    }

    fn lane_folder(&self, lane: Lane) -> PathBuf {
        self.folder.join("chain").join(lane.as_str())
    }

    /// Every stored envelope that can be read; the others are set aside.
    fn read_all(&self) -> Result<Vec<Envelope>, OpenError> {
        let mut all = Vec::new();
        for lane in Lane::ALL {
            for (seq, path) in self.files(lane)? {
                match read_submission(&path) {
                    Ok(submission) => {
                        all.push(submission.statement);
                        all.extend(submission.ballots);
                    }
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        self.set_aside(lane, seq, &path)?;
                    }
                    Err(source) => return Err(OpenError::Disk { path, source }),
                }
            }
        }
        Ok(all)
    }

    /// The files of a lane, by the number in their names.
    fn files(&self, lane: Lane) -> Result<Vec<(Seq, PathBuf)>, OpenError> {
        let folder = self.lane_folder(lane);
        let disk = |source| OpenError::Disk { path: folder.clone(), source };
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(disk)?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(disk)?.path();
            let seq = path.file_name().and_then(|name| name.to_str());
            let seq = seq.and_then(|name| name.strip_suffix(".json"));
            // A hidden temporary file of a write that was cut off has no number.
            if let Some(seq) = seq.and_then(|seq| seq.parse().ok()) {
                files.push((Seq(seq), path));
            }
        }
        files.sort();
        Ok(files)
    }

    fn set_aside_the_unverified(&self) -> Result<(), OpenError> {
        for lane in Lane::ALL {
            let head = self.chain.head_seq(lane);
            for (seq, path) in self.files(lane)?.into_iter().filter(|(seq, _)| *seq > head) {
                self.set_aside(lane, seq, &path)?;
            }
        }
        Ok(())
    }

    fn set_aside(&self, lane: Lane, seq: Seq, path: &Path) -> Result<(), OpenError> {
        error!(
            BORGIOS_EVENT = "chain_damaged",
            BORGIOS_LANE = lane.as_str(),
            BORGIOS_SEQ = seq.0,
            "the stored {lane}/{seq} does not verify and is set aside"
        );
        let folder = self.folder.join("damaged");
        fs::create_dir_all(&folder)
            .and_then(|()| fs::rename(path, folder.join(format!("{lane}-{seq}.json"))))
            .map_err(|source| OpenError::Disk { path: path.to_owned(), source })
    }

    /// Best effort: evidence is for people, and a full disk must not turn it into a failure.
    fn keep_evidence(&self, id: Digest, rival: &Envelope) {
        let folder = self.folder.join("evidence");
        let kept = fs::create_dir_all(&folder).and_then(|()| {
            let path = folder.join(format!("{}.json", id.hex()));
            if path.exists() || fs::read_dir(&folder)?.count() >= EVIDENCE_MAX {
                return Ok(());
            }
            disk::write_durable(&path, rival.to_json().as_bytes(), 0o600)
        });
        if let Err(error) = kept {
            warn!(BORGIOS_EVENT = "evidence_lost", %error, "a rival statement could not be kept");
        }
    }
}

fn read_pin(path: &Path) -> io::Result<Digest> {
    let bytes = disk::read_bounded(path, 200)?;
    let text = String::from_utf8_lossy(&bytes);
    text.trim().parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn read_submission(path: &Path) -> io::Result<Submission> {
    let bytes = disk::read_bounded(path, FILE_MAX)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use borgios_policy::fixture::{Council, NOW, statement};

    struct Fleet {
        council: Council,
        network: Digest,
        all: Vec<Submission>,
    }

    /// policy/1 and three releases, signed.
    fn fleet(seed: u64) -> Fleet {
        let council = Council::new(3, 2, 1, seed);
        let first = council.sign(&council.first_policy(2));
        let network = first.id();
        let mut all = vec![Submission { statement: first, ballots: Vec::new() }];
        let mut prev = None;
        for seq in 1..=3 {
            let digest = Digest::of(b"x");
            let body = serde_json::json!({
                "version": format!("0.{seq}.0"),
                "components": [{"name": "borgios-keeper", "digest": digest, "size": 9}],
                "installer": {"digest": digest, "size": 9}, "urls": [], "floor": 1, "notes": "",
            });
            let release =
                council.sign(&statement(Lane::Release, seq, Some(network), prev, Some(1), body));
            prev = Some(release.id());
            all.push(Submission { statement: release, ballots: Vec::new() });
        }
        Fleet { council, network, all }
    }

    fn opened(fleet: &Fleet) -> (tempfile::TempDir, ChainStore) {
        let folder = tempfile::tempdir().unwrap();
        ChainStore::pin(folder.path(), fleet.network).unwrap();
        let store = ChainStore::open(folder.path()).unwrap();
        (folder, store)
    }

    fn refused(store: &mut ChainStore, submission: &Submission) -> &'static str {
        store.submit(NOW, submission).unwrap_err().code()
    }

    #[test]
    fn what_was_accepted_is_there_after_a_restart() {
        let fleet = fleet(1);
        let (folder, mut store) = opened(&fleet);
        for submission in &fleet.all {
            assert_eq!(store.submit(NOW, submission).unwrap(), Submitted::Accepted);
            assert_eq!(store.submit(NOW, submission).unwrap(), Submitted::AlreadyKnown);
        }
        drop(store);
        let store = ChainStore::open(folder.path()).unwrap();
        assert_eq!(store.chain().head_seq(Lane::Release), Seq(3));
    }

    #[test]
    fn a_server_that_was_long_away_follows_a_run_whose_newest_is_in_date() {
        let fleet = fleet(1);
        let (_folder, mut store) = opened(&fleet);
        store.submit(NOW, &fleet.all[0]).unwrap();
        let late = UnixSeconds(borgios_policy::fixture::EXPIRES.0 + 1);
        assert_eq!(store.submit(late, &fleet.all[1]).unwrap_err().code(), "expired");
        let (accepted, refused) = store.submit_run(late, &fleet.all);
        assert_eq!((accepted, refused.unwrap().1.code()), (0, "expired"));
        let mut run = fleet.all.clone();
        let mut twin = run[1].clone();
        twin.statement.sigs[0].sig.0[7] ^= 1;
        run.insert(1, twin);
        let mut newest = borgios_policy::Statement::parse(&run.pop().unwrap().statement).unwrap();
        newest.expires = late.plus(1);
        let statement = fleet.council.sign(&newest);
        run.push(Submission { statement, ballots: Vec::new() });
        let (accepted, refused) = store.submit_run(late, &run);
        assert_eq!(accepted, 3);
        assert_eq!(refused.map(|(at, error)| (at, error.code())), Some((1, "bad_signature")));
    }

    #[test]
    fn forged_foreign_and_reordered_statements_change_nothing() {
        let fleet = fleet(1);
        let (_folder, mut store) = opened(&fleet);
        let other = super::tests::fleet(2);
        assert_eq!(refused(&mut store, &other.all[0]), "wrong_network");
        assert_eq!(refused(&mut store, &fleet.all[2]), "gap");
        store.submit(NOW, &fleet.all[0]).unwrap();
        assert_eq!(refused(&mut store, &fleet.all[2]), "gap");
        let mut forged = fleet.all[1].clone();
        forged.statement.payload = forged.statement.payload.replace("0.1.0", "6.6.6");
        assert_eq!(refused(&mut store, &forged), "bad_signature");
        store.submit(NOW, &fleet.all[1]).unwrap();
        store.submit(NOW, &fleet.all[2]).unwrap();
        assert_eq!(refused(&mut store, &fleet.all[1]), "replayed");
        assert_eq!(store.chain().head_seq(Lane::Release), Seq(2));
    }

    #[test]
    fn a_signed_release_with_an_unusable_body_does_not_end_the_lane() {
        let fleet = fleet(1);
        let (_folder, mut store) = opened(&fleet);
        store.submit(NOW, &fleet.all[0]).unwrap();
        let body = serde_json::json!({"version": "1", "components": "all"});
        let network = Some(fleet.network);
        let odd = fleet.council.sign(&statement(Lane::Release, 1, network, None, Some(1), body));
        let prev = Some(odd.id());
        let body = borgios_policy::fixture::release_body("2");
        let next = fleet.council.sign(&statement(Lane::Release, 2, network, prev, Some(1), body));
        for statement in [odd, next] {
            let submission = Submission { statement, ballots: Vec::new() };
            assert_eq!(store.submit(NOW, &submission).unwrap(), Submitted::Accepted);
        }
    }

    #[test]
    fn t39_a_rival_is_refused_and_kept_as_evidence() {
        let fleet = fleet(1);
        let (folder, mut store) = opened(&fleet);
        store.submit(NOW, &fleet.all[0]).unwrap();
        store.submit(NOW, &fleet.all[1]).unwrap();
        let body = borgios_policy::fixture::release_body("rival");
        let network = Some(fleet.network);
        let rival = fleet.council.sign(&statement(Lane::Release, 1, network, None, Some(1), body));
        let rival = Submission { statement: rival, ballots: Vec::new() };
        assert_eq!(refused(&mut store, &rival), "rival");
        let kept = folder.path().join(format!("evidence/{}.json", rival.statement.id().hex()));
        assert_eq!(std::fs::read_to_string(kept).unwrap(), rival.statement.to_json());
    }

    #[test]
    fn a_damaged_file_and_what_built_on_it_come_again() {
        let fleet = fleet(1);
        let (folder, mut store) = opened(&fleet);
        for submission in &fleet.all {
            store.submit(NOW, submission).unwrap();
        }
        let path = folder.path().join("chain/release/2.json");
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let mut store = ChainStore::open(folder.path()).unwrap();
        assert_eq!(store.chain().head_seq(Lane::Release), Seq(1));
        for submission in &fleet.all[2..] {
            assert_eq!(store.submit(NOW, submission).unwrap(), Submitted::Accepted);
        }
        let store = ChainStore::open(folder.path()).unwrap();
        assert_eq!(store.chain().head_seq(Lane::Release), Seq(3));
    }

    #[test]
    fn what_cannot_be_stored_is_not_acknowledged() {
        let fleet = fleet(1);
        let (folder, mut store) = opened(&fleet);
        // A file where the folder should be fails every write, for root too.
        std::fs::write(folder.path().join("chain"), "").unwrap();
        assert_eq!(refused(&mut store, &fleet.all[0]), "disk");
        assert_eq!(store.chain().head_seq(Lane::Policy), Seq(0));
        std::fs::remove_file(folder.path().join("chain")).unwrap();
        assert_eq!(store.submit(NOW, &fleet.all[0]).unwrap(), Submitted::Accepted);
    }

    #[test]
    fn a_server_stays_with_its_network() {
        let fleet = fleet(1);
        let (folder, _store) = opened(&fleet);
        ChainStore::pin(folder.path(), fleet.network).unwrap();
        let error = ChainStore::pin(folder.path(), Digest::of(b"other")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(ChainStore::open(empty.path()), Err(OpenError::NoPin(_))));
    }
}
