//! The keeper's own copy of the chain: verified again here, stored before it counts.
//!
//! ```text
//! submission ─▶ Gate::offer ─▶ write, fsync, rename, fsync folder ─▶ Chain::apply ─▶ "accepted"
//!                   │ held: gate.json is written ─▶ "waiting" ─ tick, when its time has come ─▲
//!                   │ refused: a line in the journal; a rival is kept in evidence/
//! ```
//!
//! ```text
//! pin                       the network's id, written once when the server joined
//! chain/<lane>/<seq>.json   {"statement":…,"ballots":[…]}
//! gate.json                 what waits for its time, and what was said against it
//! evidence/<id>.json        rivals: signed for a number that was taken (at most 64)
//! overruled/<lane>-<seq>-<id>.json   what was applied and lost its effect: see `chain_store/overruled.rs`
//! damaged/<lane>-<seq>.json what the disk gave back changed; borgiosd brings it again
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use borgios_policy::{
    Ballot, Beacon, Chain, Dated, Gate, Lane, Object as _, ObjectError, Offered, Refusal,
    Statement, Submission, Verdict, VerifiedStatement,
};
use borgios_releases::Manifest;
use borgios_types::limits::ENVELOPE_MAX;
use borgios_types::{Digest, Envelope, Seq, UnixSeconds};
use thiserror::Error;
use tracing::{error, info, warn};

use super::protocol::Submitted;
use crate::disk;
use crate::gate_store::GateStore;

/// Longest stored submission, in bytes: what a line of the socket can carry.
const FILE_MAX: usize = 2 * ENVELOPE_MAX;
/// Most rivals kept: each needs a group signature, so even two are an alarm.
const EVIDENCE_MAX: usize = 64;

/// The chain on disk and in memory.
#[derive(Debug)]
pub struct ChainStore {
    folder: PathBuf,
    chain: Chain,
    gate: GateStore,
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
    /// It is no statement, and did not verify.
    #[error(transparent)]
    Object(#[from] ObjectError),
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
            Self::Object(error) => error.code(),
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
    /// For whoever is alone with the folder: see [`ChainStore::look`].
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let pin = pin_of(folder)?;
        let gate = GateStore::open(folder)
            .map_err(|source| OpenError::Disk { path: folder.join("gate.json"), source })?;
        let mut chain = Chain::new(Some(pin));
        gate.gate().ripe().for_each(|id| chain.ripen(id));
        let mut store = Self { folder: folder.to_owned(), chain, gate };
        let mut stored = store.read_all(|lane, seq, path| store.set_aside(lane, seq, path))?;
        let put_away = store.read_put_away();
        let away: BTreeSet<Digest> = put_away.iter().map(Envelope::id).collect();
        stored.extend(put_away);
        let stored = Submission::sort(stored);
        for (at, refusal) in store.chain.follow(&stored) {
            // It has no place, as it had none before.
            if away.contains(&stored[at].statement.id()) {
                continue;
            }
            error!(
                BORGIOS_EVENT = "stored_statement_refused",
                BORGIOS_REFUSAL = refusal.code(),
                BORGIOS_MESSAGE = %refusal,
                "a stored statement no longer verifies: {refusal}"
            );
        }
        store.put_away_the_overruled();
        store.bring_back();
        store.set_aside_the_unverified()?;
        Ok(store)
    }

    /// The chain as it is stored, read by a program beside the one that keeps it: nothing is moved. What
    /// does not verify may be what is being written, or builds upon it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn look(folder: &Path) -> Result<Chain, OpenError> {
        let pin = pin_of(folder)?;
        let gate = GateStore::look(folder)
            .map_err(|source| OpenError::Disk { path: folder.join("gate.json"), source })?;
        let mut chain = Chain::new(Some(pin));
        gate.gate().ripe().for_each(|id| chain.ripen(id));
        let store = Self { folder: folder.to_owned(), chain, gate };
        let stored = store.read_beside(|| ())?;
        let Self { mut chain, .. } = store;
        drop(chain.follow(&Submission::sort(stored)));
        Ok(chain)
    }

    /// What waits for its time.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        self.gate.gate()
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

    /// Verifies a submission and, if it is new, stores it; when this returns, it survives a crash,
    /// be it in force or waiting for its time.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn submit(
        &mut self,
        now: UnixSeconds,
        submission: &Submission,
    ) -> Result<Submitted, SubmitError> {
        self.take(now, submission, Dated::Asked)
    }

    /// Verifies a run of submissions together and stores what holds, oldest first: of those without
    /// a lock only the newest must still be in date ([`Chain::verify_run`]).
    ///
    /// Known ones are passed over. Returns how many are new, in force or waiting, and the first that
    /// was not taken, by its place in the run; what came before it stays.
    pub fn submit_run(
        &mut self,
        now: UnixSeconds,
        run: &[Submission],
    ) -> (usize, Option<(usize, SubmitError)>) {
        // What waits here may be what the run builds upon.
        let waiting = self.gate().docs().map(|(_, doc)| doc.submission().clone());
        let envelopes = |one: Submission| one.ballots.into_iter().chain([one.statement]);
        let all = Submission::sort(waiting.chain(run.iter().cloned()).flat_map(envelopes));
        let in_date = self.chain.verify_run(now, &all).accepted;
        let (mut new, mut refused) = (0, None);
        for (at, submission) in run.iter().enumerate() {
            // By the whole envelope: a twin with a forged signature has the same id.
            let upheld = in_date.iter().any(|one| *one.envelope() == submission.statement);
            let dated = if upheld { Dated::Judged } else { Dated::Asked };
            match self.take(now, submission, dated) {
                Ok(Submitted::Accepted | Submitted::Waiting) => new += 1,
                Ok(Submitted::AlreadyKnown)
                | Err(SubmitError::Refused(Refusal::Replayed { .. })) => {}
                Err(error @ SubmitError::Disk(_)) => {
                    refused.get_or_insert((at, error));
                    break;
                }
                Err(error) => {
                    refused.get_or_insert((at, error));
                }
            }
        }
        (new, refused)
    }

    /// Stores a statement that root brings on this server's own console with a whole bundle, whose
    /// dates were judged as one run: a server without any software yet has nothing to lock.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn submit_history(&mut self, submission: &Submission) -> Result<Submitted, SubmitError> {
        readable(&submission.statement)?;
        match self.chain.verify_stored(&submission.statement, &submission.ballots)? {
            Verdict::New(verified) => {
                self.store(submission, *verified)?;
                Ok(Submitted::Accepted)
            }
            Verdict::AlreadyKnown(_) => Ok(Submitted::AlreadyKnown),
        }
    }

    /// Lets a policy of a recovery key count: the invitation of this very server led to it.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn vouch(&mut self, id: Digest) -> io::Result<()> {
        let mut gate = self.gate().clone();
        if gate.vouch(id) {
            self.gate.save(gate)?;
        }
        self.chain.ripen(id);
        Ok(())
    }

    /// Takes a veto, a pause or a beacon; when this returns, it survives a crash.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn object(&mut self, now: UnixSeconds, envelope: &Envelope) -> Result<bool, SubmitError> {
        readable(envelope)?;
        let mut gate = self.gate().clone();
        let changed = if envelope.kind.as_str() == Beacon::KIND {
            gate.beacon(now, &self.chain, envelope)?
        } else {
            gate.object(now, &self.chain, envelope)?
        };
        if changed {
            self.gate.save(gate)?;
        } else {
            self.gate.looked(gate);
        }
        Ok(changed)
    }

    /// Applies what has its time now; returns whether anything was. Each statement is in the chain's
    /// folder before the gate forgets it, so a crash in between costs nothing.
    ///
    /// # Errors
    /// Whatever the disk says; what was done before stays.
    pub fn tick(&mut self, now: UnixSeconds) -> io::Result<bool> {
        let mut applied = false;
        loop {
            let mut gate = self.gate().clone();
            let tick = gate.tick(now, &self.chain);
            for (submission, refusal) in &tick.dropped {
                if let Refusal::Rival { offered, .. } = refusal {
                    self.keep_evidence(*offered, &submission.statement);
                }
            }
            match (tick.apply, tick.submission) {
                (Some(verified), Some(submission)) => {
                    self.store(&submission, *verified)?;
                    self.gate.save(gate)?;
                    applied = true;
                }
                _ if tick.changed => {
                    self.gate.save(gate)?;
                    let Self { gate, chain, .. } = self;
                    gate.gate().ripe().for_each(|id| chain.ripen(id));
                }
                _ => {
                    self.gate.looked(gate);
                    return Ok(applied);
                }
            }
        }
    }

    fn take(
        &mut self,
        now: UnixSeconds,
        submission: &Submission,
        dated: Dated,
    ) -> Result<Submitted, SubmitError> {
        readable(&submission.statement)?;
        // What is no statement at all is not worth a copy of what waits.
        Statement::parse(&submission.statement)?;
        let mut gate = self.gate().clone();
        match gate.offer(now, &self.chain, submission, dated) {
            Ok(Offered::Known) => Ok(Submitted::AlreadyKnown),
            Ok(Offered::Apply(verified)) => {
                self.store(submission, *verified)?;
                // What waited for it may follow; what the disk refuses now, the next tick does.
                if let Err(error) = self.tick(now) {
                    warn!(BORGIOS_EVENT = "gate_stuck", "cannot store the gate: {error}");
                }
                Ok(Submitted::Accepted)
            }
            Ok(Offered::Held(standing)) => {
                self.gate.save(gate)?;
                info!(
                    BORGIOS_EVENT = "statement_held",
                    BORGIOS_OBJECT = %submission.statement.id(),
                    BORGIOS_STATE = standing.as_str(),
                    "a statement of lane {} is kept back: {}",
                    submission.statement.kind,
                    standing.as_str()
                );
                Ok(Submitted::Waiting)
            }
            Err(refusal) => {
                if let Refusal::Rival { offered, .. } = refusal {
                    self.keep_evidence(offered, &submission.statement);
                }
                Err(refusal.into())
            }
        }
    }

    /// Writes a statement to its place, and only then obeys it.
    fn store(&mut self, submission: &Submission, verified: VerifiedStatement) -> io::Result<()> {
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
        // Whoever brings a statement brings what they like with it: what cannot count is never stored, for
        // what is stored was judged.
        let submission = self.chain.counting(submission);
        let bytes = serde_json::to_vec(&submission).expect("a submission has string keys only");
        disk::write_durable(&folder.join(format!("{seq}.json")), &bytes, 0o600)?;
        let settled = self.chain.rulings_count();
        self.chain.apply(verified);
        if self.chain.rulings_count() > settled {
            self.put_away_the_overruled();
            self.bring_back();
        }
        Ok(())
    }

    fn lane_folder(&self, lane: Lane) -> PathBuf {
        self.folder.join("chain").join(lane.as_str())
    }

    /// Every stored envelope that can be read; the others go to `damaged`. Of each file that statement
    /// alone which stands at its place, and ballots on it: nothing else in it was ever judged.
    fn read_all(
        &self,
        damaged: impl Fn(Lane, Seq, &Path) -> Result<(), OpenError>,
    ) -> Result<Vec<Envelope>, OpenError> {
        let mut all = Vec::new();
        for lane in Lane::ALL {
            for (seq, path) in self.files(lane)? {
                match read_submission(&path) {
                    Ok(submission) if is_at(&submission.statement, lane, seq) => {
                        let id = submission.statement.id();
                        let ballots =
                            submission.ballots.into_iter().filter(|ballot| is_on(ballot, id));
                        all.push(submission.statement);
                        all.extend(ballots);
                    }
                    Ok(_) => damaged(lane, seq, &path)?,
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        damaged(lane, seq, &path)?;
                    }
                    // Moved by whoever keeps it, once a policy took it back.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(source) => return Err(OpenError::Disk { path, source }),
                }
            }
        }
        Ok(all)
    }

    /// What lies in either folder, while whoever keeps them may move files from one to the other, both ways:
    /// so what was put away is read before and after the lanes. Both may then give the same statement.
    /// `meanwhile` is for tests, which move some.
    fn read_beside(&self, meanwhile: impl FnOnce()) -> Result<Vec<Envelope>, OpenError> {
        let mut all = self.read_put_away();
        meanwhile();
        all.extend(self.read_all(|_, _, _| Ok(()))?);
        all.extend(self.read_put_away());
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

/// Whether a statement has this place.
fn is_at(statement: &Envelope, lane: Lane, seq: Seq) -> bool {
    Statement::parse(statement).is_ok_and(|one| (one.lane, one.seq) == (lane, seq))
}

/// Whether it is a ballot on this statement.
fn is_on(envelope: &Envelope, statement: Digest) -> bool {
    envelope.kind.as_str() == Ballot::KIND
        && Ballot::parse(envelope).is_ok_and(|ballot| ballot.statement == statement)
}

/// The network that a folder is pinned to.
///
/// # Errors
/// `NoPin`, or whatever the disk says.
pub(super) fn pin_of(folder: &Path) -> Result<Digest, OpenError> {
    let path = folder.join("pin");
    read_pin(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => OpenError::NoPin(path.clone()),
        _ => OpenError::Disk { path: path.clone(), source },
    })
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

/// Refuses what could not be read again at the next start: in a request it was bounded with the request
/// as a whole.
fn readable(envelope: &Envelope) -> Result<(), Refusal> {
    Envelope::parse(envelope.to_json().as_bytes()).map(drop).map_err(Refusal::from)
}

mod overruled;
#[cfg(test)]
mod tests;
