//! Asking the keeper: one JSON line to its socket, one JSON line back.
//!
//! The keeper trusts nothing it is told here, and little that it says needs to be trusted: its
//! reports carry its own signature.

use std::path::{Path, PathBuf};
use std::time::Duration;

use borgios_policy::{Submission, WitnessProof};
use borgios_types::{Digest, Envelope, NodeId, Seq};
use serde_json::Value;
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::frame::FRAME_MAX;
use crate::keeper::protocol::{Answer, ObjectsTaken, Request, RunRefused, RunTaken, Status};

/// Longest wait for an answer: a status needs no work, an install answers once it has begun.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the keeper gave no good answer.
#[derive(Debug, Error)]
pub enum KeeperError {
    /// Nobody answers at the socket.
    #[error("no keeper at {socket}: {source}")]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No answer in time.
    #[error("the keeper did not answer within {} seconds", ANSWER_TIMEOUT.as_secs())]
    Silent,
    /// An answer that is none.
    #[error("the keeper's answer cannot be read: {0}")]
    Malformed(String),
    /// It refused.
    #[error("{code}: {message}")]
    Refused {
        /// The stable name of the reason.
        code: String,
        /// The reason.
        message: String,
    },
}

/// The keeper's socket.
#[derive(Clone, Debug)]
pub struct Keeper {
    socket: PathBuf,
}

impl Keeper {
    /// The keeper behind `socket`.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// See [`KeeperError`].
    pub async fn status(&self) -> Result<Status, KeeperError> {
        let answer = self.ask(&Request::Status).await?;
        serde_json::from_value(answer).map_err(|error| KeeperError::Malformed(error.to_string()))
    }

    /// Offers statements in the order in which they follow each other, with the ballots that their
    /// classes may need; returns the first that was refused. What came before it was taken.
    ///
    /// # Errors
    /// See [`KeeperError`].
    pub async fn submit(&self, run: &[Submission]) -> Result<Option<RunRefused>, KeeperError> {
        if let [only] = run {
            return match self.ask(&Request::Submit(only.clone())).await {
                Ok(_) => Ok(None),
                Err(KeeperError::Refused { code, message }) => {
                    Ok(Some(RunRefused { at: 0, code, message }))
                }
                Err(error) => Err(error),
            };
        }
        let answer = self.ask(&Request::SubmitRun { submissions: run.to_vec() }).await?;
        let taken: RunTaken = serde_json::from_value(answer)
            .map_err(|error| KeeperError::Malformed(error.to_string()))?;
        Ok(taken.refused)
    }

    /// Asks to install a release whose blobs lie in the depot.
    ///
    /// # Errors
    /// See [`KeeperError`].
    pub async fn install(&self, seq: Seq) -> Result<(), KeeperError> {
        self.ask(&Request::Install { seq }).await.map(|_| ())
    }

    /// Its signed report on the last install.
    ///
    /// # Errors
    /// See [`KeeperError`].
    pub async fn report(&self, node: NodeId) -> Result<Envelope, KeeperError> {
        self.ask_envelope(&Request::SignReport { node }).await
    }

    /// Its signed report on the shared root credential.
    ///
    /// # Errors
    /// See [`KeeperError`].
    pub async fn rotation(&self, node: NodeId) -> Result<Envelope, KeeperError> {
        self.ask_envelope(&Request::SignRotation { node }).await
    }

    /// The signed receipt for this server's root.
    ///
    /// # Errors
    /// See [`KeeperError`]; `not_handed_over` before there is one.
    pub async fn handover(&self) -> Result<Envelope, KeeperError> {
        self.ask_envelope(&Request::Handover).await
    }

    /// Brings witnesses of a grant for this node.
    ///
    /// # Errors
    /// See [`KeeperError`].
    pub async fn witness(
        &self,
        statement: Digest,
        witnesses: Vec<WitnessProof>,
    ) -> Result<(), KeeperError> {
        self.ask(&Request::Witness { statement, witnesses }).await.map(|_| ())
    }

    /// Brings vetoes, pauses and beacons; returns those that were not taken.
    ///
    /// # Errors
    /// See [`KeeperError`].
    pub async fn objects(&self, objects: Vec<Envelope>) -> Result<Vec<RunRefused>, KeeperError> {
        let answer = self.ask(&Request::Objects { objects }).await?;
        let taken: ObjectsTaken = serde_json::from_value(answer)
            .map_err(|error| KeeperError::Malformed(error.to_string()))?;
        Ok(taken.refused)
    }

    /// Brings the owner's departure of this server; answered once its secrets are shredded.
    ///
    /// # Errors
    /// See [`KeeperError`].
    pub async fn depart(&self, departure: Envelope) -> Result<(), KeeperError> {
        self.ask(&Request::Depart { departure }).await.map(|_| ())
    }

    async fn ask_envelope(&self, request: &Request) -> Result<Envelope, KeeperError> {
        let answer = self.ask(request).await?;
        // Either the envelope itself or an object that holds it.
        let envelope = answer.get("report").unwrap_or(&answer).to_string();
        Envelope::parse(envelope.as_bytes())
            .map_err(|error| KeeperError::Malformed(error.to_string()))
    }

    async fn ask(&self, request: &Request) -> Result<Value, KeeperError> {
        let line = serde_json::to_string(request).expect("requests have string keys only");
        let asking = async {
            let mut stream = UnixStream::connect(&self.socket).await?;
            stream.write_all(format!("{line}\n").as_bytes()).await?;
            let mut answer = Vec::new();
            let mut chunk = [0; 4096];
            while answer.last() != Some(&b'\n') && answer.len() <= FRAME_MAX {
                match stream.read(&mut chunk).await? {
                    0 => break,
                    read => answer.extend_from_slice(&chunk[..read]),
                }
            }
            Ok(answer)
        };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, asking)
            .await
            .map_err(|_| KeeperError::Silent)?
            .map_err(|source| KeeperError::Unreachable { socket: self.socket.clone(), source })?;
        if answer.len() > FRAME_MAX {
            return Err(KeeperError::Malformed(format!("longer than {FRAME_MAX} bytes")));
        }
        match serde_json::from_slice(&answer) {
            Ok(Answer::Ok(value)) => Ok(value),
            Ok(Answer::Error { code, message }) => Err(KeeperError::Refused { code, message }),
            Err(error) => Err(KeeperError::Malformed(error.to_string())),
        }
    }
}
