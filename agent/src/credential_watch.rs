//! Brings the schedule and the escrow of the credential in force into the depot, where the keeper
//! takes the schedule from, and governors' tools both.
//!
//! What the schedule says is needed here for one thing only: to tell people who is late. The keeper
//! reads it for itself. The blobs of a credential that is succeeded may go. Their sizes are bounded by the statement's
//! own rules, which are checked before anything is asked for.

use std::sync::Arc;
use std::time::Duration;

use borgios_credentials::Schedule;
use borgios_policy::credential::SCHEDULE_MAX;
use borgios_policy::{Blob, Credential};
use borgios_types::{Digest, NodeId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::blobs;
use crate::depot::Depot;
use crate::disk;
use crate::fetch::Fetcher;
use crate::ledger_handle::LedgerHandle;
use crate::neighbours::Neighbours;
use crate::settings::Pace;
use crate::tree_handle::TreeHandle;

/// How often the pause doubles while nobody has a blob: from one second to a minute.
const DOUBLINGS_MAX: u32 = 7;

/// The schedule in force, once it is here.
pub type ScheduleView = watch::Receiver<Option<Arc<Schedule>>>;

/// The task.
pub struct CredentialWatch {
    /// This node.
    pub me: NodeId,
    /// Says which credential is in force.
    pub ledger: LedgerHandle,
    /// Says who is near.
    pub tree: TreeHandle,
    /// Where the blobs go.
    pub depot: Depot,
    /// Gets them.
    pub fetcher: Fetcher,
    /// Who may have them, and says so.
    pub neighbours: Neighbours,
    /// How often it is tried.
    pub pace: Pace,
    /// Where the schedule is shown.
    pub view: watch::Sender<Option<Arc<Schedule>>>,
}

impl CredentialWatch {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut heads = self.ledger.heads();
        let mut found = self.neighbours.found();
        let mut failed = 0;
        let mut whole = None;
        loop {
            heads.mark_unchanged();
            found.mark_unchanged();
            let credential =
                self.ledger.run(|l| l.chain().credential().map(|(credential, _)| credential)).await;
            let pause = match credential {
                None => Duration::MAX,
                Some(credential) => {
                    let wanted = blobs::of_credential(&credential);
                    let here = self.fetch(&wanted).await;
                    if here && whole != Some(wanted) {
                        blobs::sweep(&self.ledger, &self.depot).await;
                        self.show(&credential).await;
                        whole = Some(wanted);
                    }
                    failed = if here { 0 } else { (failed + 1).min(DOUBLINGS_MAX) };
                    // What is here may rot or be lost: looking costs nothing.
                    if here { self.pace.upkeep } else { self.pace.fetch * (1 << (failed - 1)) }
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                _ = heads.changed() => failed = 0,
                // At once, but no more often than without the news.
                _ = found.changed(), if failed > 0 => tokio::time::sleep(self.pace.fetch).await,
            }
        }
    }

    async fn fetch(&self, wanted: &[(Digest, u64)]) -> bool {
        if wanted.iter().all(|(digest, size)| self.depot.size(digest) == Some(*size)) {
            return true;
        }
        let sources = blobs::sources(&self.ledger, &self.tree, &self.neighbours, self.me).await;
        let mut all = true;
        for (digest, size) in wanted {
            all &= self.fetcher.get(*digest, *size, &sources).await;
        }
        all
    }

    /// Reads the schedule and shows it. One that says nothing usable is named and not shown: so
    /// does the keeper stay with the one before.
    async fn show(&self, credential: &Credential) {
        let Blob { digest, .. } = credential.schedule;
        let path = self.depot.path(&digest);
        let bound = usize::try_from(SCHEDULE_MAX).unwrap_or(usize::MAX);
        let reading = move || {
            let bytes = disk::read_bounded(&path, bound).map_err(|error| error.to_string())?;
            Schedule::parse(&bytes).map_err(|error| error.to_string())
        };
        match tokio::task::spawn_blocking(reading).await {
            Ok(Ok(schedule)) => drop(self.view.send_replace(Some(Arc::new(schedule)))),
            Ok(Err(why)) => warn!(
                BORGIOS_EVENT = "refused",
                BORGIOS_REFUSAL = "bad_body",
                BORGIOS_KIND = "blob",
                BORGIOS_BLOB = %digest,
                BORGIOS_FROM = "the depot",
                "the schedule in force cannot be used: {why}"
            ),
            Err(_) => {}
        }
    }
}
