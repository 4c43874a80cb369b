//! What the core leaves to workers, because it costs more than a look: verifying and signing.

use borgios_types::SecretKey;
use borgios_types::key::ReadyKey;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::batch::Batch;
use crate::builder::Draft;
use crate::position::{BatchId, Origin};
use crate::signature;

/// Names a job in the answer to it. Never reused in one life of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// Why a well-formed batch is a forgery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Forgery {
    /// The origin is no usable key.
    #[error("the origin is no usable key")]
    Key,
    /// The signature is not the origin's over this header and manifest.
    #[error("the signature does not verify")]
    Signature,
    /// A message is not the one that the manifest names.
    #[error("message {0} of the batch is not the one that was signed")]
    Message(usize),
}

/// What a worker found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Signed by its origin, every message the one that was signed; and the batch's name.
    Good(BatchId),
    /// Not what its origin signed.
    Bad(Forgery),
}

/// Judges one batch; about 50 us and 0.7 us per KiB.
///
/// Run it on any thread and answer with [`Input::Verified`](crate::Input::Verified). Jobs may be
/// answered in any order; each exactly once.
#[derive(Clone, Debug)]
pub struct VerifyJob {
    /// Named in the answer.
    pub job: JobId,
    /// The batch.
    pub batch: Batch,
}

impl VerifyJob {
    /// Does it.
    #[must_use]
    pub fn run(&self) -> Verdict {
        verify(&self.batch)
    }

    /// Does it with the origin's key made ready before, which saves a fifth.
    ///
    /// # Panics
    /// If it is another origin's key: a verdict by it would be none.
    #[must_use]
    pub fn run_with(&self, origin: Origin, key: &ReadyKey) -> Verdict {
        assert_eq!(origin, self.batch.origin(), "the key is the origin's");
        verify_with(&self.batch, key)
    }
}

/// Checks signature and messages of `batch`.
#[must_use]
pub fn verify(batch: &Batch) -> Verdict {
    match batch.origin().key() {
        Some(origin) => verify_with(batch, &origin.ready()),
        None => Verdict::Bad(Forgery::Key),
    }
}

fn verify_with(batch: &Batch, origin: &ReadyKey) -> Verdict {
    let given = signature::signature_of(batch.blob());
    if !origin.verifies(signature::namespace(), batch.signed_part(), &given) {
        return Verdict::Bad(Forgery::Signature);
    }
    for (index, (message, digest)) in batch.entries().enumerate() {
        if Sha256::digest(message)[..] != digest[..] {
            return Verdict::Bad(Forgery::Message(index));
        }
    }
    Verdict::Good(batch.id())
}

/// Signs this node's own next batch; about 25 us and 0.7 us per KiB.
#[derive(Clone, Debug)]
pub struct SignJob {
    /// Named in the answer.
    pub job: JobId,
    /// What to sign.
    pub draft: Draft,
}

/// The answer to a [`SignJob`].
#[derive(Clone, Debug)]
pub struct Signed {
    /// The job.
    pub job: JobId,
    /// The signed batch.
    pub batch: Batch,
    /// Its name.
    pub id: BatchId,
}

impl SignJob {
    /// Does it, with the node's key. Answer with [`Input::Signed`](crate::Input::Signed).
    #[must_use]
    pub fn run(&self, key: &SecretKey) -> Signed {
        let batch = self.draft.sign(key);
        let id = batch.id();
        Signed { job: self.job, batch, id }
    }
}
