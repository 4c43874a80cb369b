//! A stand-in for the keeper: the same verbs on the same socket, without root and with few checks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use borgios_agent::keeper::protocol::{
    AccessState, AccessStatus, Activity, Answer, CredentialStatus, Head, LastInstall, ObjectsTaken,
    Request, RunRefused, RunTaken, Status, Submitted,
};
use borgios_policy::{
    AccessOrder, Board, Handover, Lane, Object as _, Outcome, Policy, Report, RotationReport,
    Statement, Submission, WitnessProof,
};
use borgios_types::{Digest, Envelope, Epoch, NodeId, SecretKey, Seq};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use crate::board::now;

pub(crate) struct FakeKeeper {
    pub(crate) seen: Arc<Mutex<Seen>>,
    serving: JoinHandle<()>,
}

/// What the stand-in knows and was told.
pub(crate) struct Seen {
    key: SecretKey,
    pub(crate) status: Status,
    node: Option<NodeId>,
    boards: Vec<Board>,
    witnesses: usize,
    /// Members whose witness verified, by grant.
    pub(crate) witnessed: BTreeMap<Digest, BTreeSet<NodeId>>,
    /// Proofs that did not verify; borgiosd must bring none.
    pub(crate) bad_proofs: usize,
    /// How often witnesses were brought.
    pub(crate) bringings: usize,
    pub(crate) departure: Option<Envelope>,
    pub(crate) rotations_signed: usize,
    /// A lane that this keeper is too old to know.
    pub(crate) unknown_lane: Option<Lane>,
    /// Vetoes, pauses and beacons it was brought.
    pub(crate) objects: BTreeSet<Digest>,
    /// Why this keeper takes none of them now, each by itself or the whole line.
    pub(crate) refuses: Option<(&'static str, bool)>,
    /// How often it refused them.
    pub(crate) refusals: usize,
}

impl FakeKeeper {
    pub(crate) fn start(socket: &Path, key: SecretKey, network: Digest) -> Self {
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let status = Status {
            version: "test".into(),
            started: now(),
            network,
            keeper: key.public(),
            heads: Default::default(),
            installed: Seq(0),
            running: Default::default(),
            activity: Activity::Idle,
            last: None,
            attempted: Vec::new(),
            problem: None,
            handed_over: false,
            credential: None,
            access: Vec::new(),
            held: Vec::new(),
            heard: None,
            silence: None,
        };
        let seen = Seen {
            key,
            status,
            node: None,
            boards: Vec::new(),
            witnesses: 0,
            witnessed: BTreeMap::new(),
            bad_proofs: 0,
            bringings: 0,
            departure: None,
            rotations_signed: 0,
            unknown_lane: None,
            objects: BTreeSet::new(),
            refuses: None,
            refusals: 0,
        };
        let seen = Arc::new(Mutex::new(seen));
        let shared = seen.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (read, mut write) = stream.into_split();
                let mut lines = BufReader::new(read).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let request = serde_json::from_str(&line).unwrap();
                    let answer = shared.lock().unwrap().answer(request);
                    let line = serde_json::to_string(&answer).unwrap() + "\n";
                    if write.write_all(line.as_bytes()).await.is_err() {
                        break;
                    }
                }
            }
        });
        Self { seen, serving }
    }

    /// Whose keeper it is.
    pub(crate) fn serves(&self, node: NodeId) {
        self.seen.lock().unwrap().node = Some(node);
    }

    pub(crate) fn head(&self, lane: &str) -> u64 {
        self.seen.lock().unwrap().status.heads.get(lane).map_or(0, |head| head.seq.0)
    }

    pub(crate) fn installed(&self) -> u64 {
        self.seen.lock().unwrap().status.installed.0
    }

    /// Claims to have rotated.
    pub(crate) fn rotated(&self, epoch: u64, problem: Option<&str>) {
        let mut seen = self.seen.lock().unwrap();
        seen.status.handed_over = true;
        seen.status.credential = Some(CredentialStatus {
            epoch: Epoch(epoch),
            due: now(),
            next: None,
            changed: now(),
            exhausted: false,
            schedule: Digest::of(b"schedule"),
            problem: problem.map(str::to_owned),
        });
    }

    pub(crate) fn access(&self) -> Vec<AccessStatus> {
        self.seen.lock().unwrap().status.access.clone()
    }

    pub(crate) fn key(&self) -> SecretKey {
        self.seen.lock().unwrap().key.clone()
    }
}

impl Drop for FakeKeeper {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Seen {
    fn answer(&mut self, request: Request) -> Answer {
        match request {
            Request::Status => Answer::ok(&self.status),
            Request::Objects { objects } if self.refuses.is_some() => self.refuse(objects.len()),
            Request::Objects { objects } => {
                let new = objects.len();
                self.objects.extend(objects.iter().map(Envelope::id));
                Answer::ok(ObjectsTaken { new, refused: Vec::new() })
            }
            Request::Submit(submission) => match self.take(&submission) {
                Ok(()) => Answer::ok(Submitted::Accepted),
                Err(code) => Answer::error(code, "a lane of a later day"),
            },
            Request::SubmitRun { submissions } => self.take_run(&submissions),
            Request::Install { seq } => {
                self.status.installed = seq;
                self.status.activity = Activity::Idle;
                let (outcome, at) = (Outcome::Committed, now());
                self.status.last = Some(LastInstall { release: seq, outcome, reason: None, at });
                Answer::ok("installed")
            }
            Request::SignReport { node } => self.report(node),
            Request::Witness { statement, witnesses } => self.witness(statement, &witnesses),
            Request::SignRotation { node } => self.rotation(node),
            Request::Handover if !self.status.handed_over => {
                Answer::error("not_handed_over", "root is still the owner's")
            }
            Request::Handover => self.handover(),
            Request::Depart { departure } => {
                self.departure = Some(departure);
                Answer::ok("departed")
            }
        }
    }

    fn refuse(&mut self, many: usize) -> Answer {
        self.refusals += 1;
        let (code, line) = self.refuses.unwrap();
        let (code, message) = (code.to_owned(), "not now".to_owned());
        if line {
            return Answer::Error { code, message };
        }
        let one = |at| RunRefused { at, code: code.clone(), message: message.clone() };
        Answer::ok(ObjectsTaken { new: 0, refused: (0..many).map(one).collect() })
    }

    fn take_run(&mut self, run: &[Submission]) -> Answer {
        let mut refused = None;
        let taken = run.iter().position(|submission| match self.take(submission) {
            Ok(()) => false,
            Err(code) => {
                refused = Some(code);
                true
            }
        });
        let accepted = taken.unwrap_or(run.len());
        let refused = refused.map(|code| RunRefused {
            at: accepted,
            code: code.into(),
            message: "a lane of a later day".into(),
        });
        Answer::ok(RunTaken { accepted, refused })
    }

    fn take(&mut self, submission: &Submission) -> Result<(), &'static str> {
        let statement = Statement::parse(&submission.statement).unwrap();
        if Some(statement.lane) == self.unknown_lane {
            return Err("wrong_kind");
        }
        let (lane, id) = (statement.lane.as_str(), submission.statement.id());
        let before = self.status.heads.get(lane).map_or(0, |head| head.seq.0);
        // A second one for the same place, while neither is applied: the real keeper holds both back.
        if self.status.heads.get(lane).is_some_and(|h| h.seq == statement.seq && h.id != id) {
            return Ok(());
        }
        assert_eq!(statement.seq.0, before + 1, "statements come in order");
        self.status.heads.insert(lane.into(), Head { seq: statement.seq, id });
        match statement.lane {
            Lane::Release => self.status.activity = Activity::Waiting { seq: statement.seq },
            Lane::Policy => {
                let policy = Policy::parse(&statement.body).unwrap();
                self.witnesses = policy.witnesses().into();
                self.boards.push(policy.board);
            }
            Lane::Access => {
                if let Ok(AccessOrder::Grant(grant)) = AccessOrder::of(&statement)
                    && Some(grant.node) == self.node
                {
                    self.status.access.push(AccessStatus {
                        seq: statement.seq,
                        id,
                        before: grant.before,
                        state: AccessState::Waiting,
                        witnesses: 0,
                        needed: self.witnesses,
                    });
                }
            }
            Lane::Credential | Lane::Member => {}
        }
        Ok(())
    }

    fn witness(&mut self, statement: Digest, proofs: &[WitnessProof]) -> Answer {
        self.bringings += 1;
        let witnessed = self.witnessed.entry(statement).or_default();
        for proof in proofs {
            match proof.verify(self.boards.iter(), self.status.network, &statement) {
                Ok(node) => drop(witnessed.insert(node)),
                Err(_) => self.bad_proofs += 1,
            }
        }
        let access = self.status.access.iter_mut().find(|access| access.id == statement);
        let Some(access) = access else { return Answer::error("unknown", "no such grant") };
        access.witnesses = witnessed.len();
        if access.witnesses >= access.needed {
            access.state = AccessState::Open;
        }
        Answer::ok(&*access)
    }

    fn report(&self, node: NodeId) -> Answer {
        let last = self.status.last.clone().unwrap();
        let report = Report {
            network: self.status.network,
            node,
            keeper: self.key.public(),
            release: last.release,
            outcome: last.outcome,
            reason: None,
            running: Default::default(),
            at: now(),
        };
        Answer::ok(report.to_envelope().sign(&self.key))
    }

    fn rotation(&mut self, node: NodeId) -> Answer {
        self.rotations_signed += 1;
        let says = self.status.credential.clone().unwrap();
        let report = RotationReport {
            network: self.status.network,
            node,
            keeper: self.key.public(),
            epoch: says.epoch,
            due: says.due,
            changed: says.changed,
            exhausted: says.exhausted,
            problem: says.problem,
            at: now(),
        };
        Answer::ok(report.to_envelope().sign(&self.key))
    }

    fn handover(&self) -> Answer {
        let handover = Handover {
            network: self.status.network,
            node: self.node.unwrap(),
            keeper: self.key.public(),
            name: "server".parse().unwrap(),
            host_keys: vec![SecretKey::from_seed([99; 32]).public()],
            taken: [("account".parse().unwrap(), 3)].into(),
            owner: None,
            at: now(),
        };
        Answer::ok(handover.to_envelope().sign(&self.key))
    }
}
