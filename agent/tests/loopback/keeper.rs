//! A stand-in for the keeper: the same verbs on the same socket, without root and without checks.

use std::path::Path;
use std::sync::{Arc, Mutex};

use borgios_agent::keeper::protocol::{
    Activity, Answer, Head, LastInstall, Request, RunTaken, Status, Submitted,
};
use borgios_policy::{Lane, Object as _, Outcome, Report, Statement, Submission};
use borgios_types::{Digest, SecretKey, Seq};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use crate::board::now;

pub(crate) struct FakeKeeper {
    pub(crate) seen: Arc<Mutex<Status>>,
    serving: JoinHandle<()>,
}

impl FakeKeeper {
    pub(crate) fn start(socket: &Path, key: SecretKey, network: Digest) -> Self {
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let status = Status {
            version: "test".into(),
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
        };
        let seen = Arc::new(Mutex::new(status));
        let shared = seen.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (read, mut write) = stream.into_split();
                let mut lines = BufReader::new(read).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let request = serde_json::from_str(&line).unwrap();
                    let answer = answer(&mut shared.lock().unwrap(), &key, request);
                    let line = serde_json::to_string(&answer).unwrap() + "\n";
                    if write.write_all(line.as_bytes()).await.is_err() {
                        break;
                    }
                }
            }
        });
        Self { seen, serving }
    }

    pub(crate) fn head(&self, lane: &str) -> u64 {
        self.seen.lock().unwrap().heads.get(lane).map_or(0, |head| head.seq.0)
    }

    pub(crate) fn installed(&self) -> u64 {
        self.seen.lock().unwrap().installed.0
    }
}

impl Drop for FakeKeeper {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn answer(status: &mut Status, key: &SecretKey, request: Request) -> Answer {
    match request {
        Request::Status => Answer::ok(&*status),
        Request::Submit(submission) => {
            take(status, &submission);
            Answer::ok(Submitted::Accepted)
        }
        Request::SubmitRun { submissions } => {
            submissions.iter().for_each(|submission| take(status, submission));
            Answer::ok(RunTaken { accepted: submissions.len(), refused: None })
        }
        Request::Install { seq } => {
            status.installed = seq;
            status.activity = Activity::Idle;
            let (outcome, at) = (Outcome::Committed, now());
            status.last = Some(LastInstall { release: seq, outcome, reason: None, at });
            Answer::ok("installed")
        }
        Request::Witness { .. }
        | Request::SignRotation { .. }
        | Request::Handover
        | Request::Depart { .. } => Answer::error("not_handed_over", "a stand-in holds no root"),
        Request::SignReport { node } => {
            let last = status.last.clone().unwrap();
            let report = Report {
                network: status.network,
                node,
                keeper: key.public(),
                release: last.release,
                outcome: last.outcome,
                reason: None,
                running: Default::default(),
                at: now(),
            };
            Answer::ok(report.to_envelope().sign(key))
        }
    }
}

fn take(status: &mut Status, submission: &Submission) {
    let statement = Statement::parse(&submission.statement).unwrap();
    let lane = statement.lane.as_str();
    let before = status.heads.get(lane).map_or(0, |head| head.seq.0);
    assert_eq!(statement.seq.0, before + 1, "statements come in order");
    status.heads.insert(lane.into(), Head { seq: statement.seq, id: submission.statement.id() });
    if statement.lane == Lane::Release {
        status.activity = Activity::Waiting { seq: statement.seq };
    }
}
