//! From a signed release to a running one: fetches what the keeper needs and asks it to install.
//!
//! ```text
//!  every change of the keeper's status, and now and then
//!    waits for a release? ─▶ its blobs in the depot? ── yes ─▶ install
//!                              │ no: fetch from neighbours, members, urls
//! ```
//!
//! Nothing is remembered between rounds: each compares what is with what should be, so a crash of
//! either process anywhere is just another round. The keeper decides; this side can only bring
//! things sooner or later.

use borgios_policy::Lane;
use borgios_releases::Manifest;
use borgios_types::{NodeId, Seq};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::blobs;
use crate::depot::Depot;
use crate::fetch::{Fetcher, Source};
use crate::keeper::protocol::{Activity, Status};
use crate::keeper_client::{Keeper, KeeperError};
use crate::keeper_watch::KeeperView;
use crate::ledger_handle::LedgerHandle;
use crate::neighbours::Neighbours;
use crate::settings::Pace;
use crate::tree_handle::TreeHandle;

/// How often the pause doubles while nothing helps: from one second to half a minute.
const STUCK_DOUBLINGS: u32 = 6;

/// How often blobs that nobody needs are looked for where nothing is fetched.
const SWEEP: std::time::Duration = std::time::Duration::from_secs(3600);

/// The task.
pub struct ReleaseWatch {
    /// This node.
    pub me: NodeId,
    /// Who installs.
    pub keeper: Keeper,
    /// What it said last.
    pub view: KeeperView,
    /// Holds the releases.
    pub ledger: LedgerHandle,
    /// Says who is near.
    pub tree: TreeHandle,
    /// Where the blobs go.
    pub depot: Depot,
    /// Gets them.
    pub fetcher: Fetcher,
    /// Who may have them, and says so.
    pub neighbours: Neighbours,
    /// How often things are tried.
    pub pace: Pace,
}

/// What one round found.
enum Round {
    /// Nothing to do until something changes.
    Settled,
    /// Something is under way: look again soon.
    Busy,
    /// A blob is missing everywhere, or the keeper cannot use what it was given: look again later,
    /// and then later still.
    Stuck,
}

impl ReleaseWatch {
    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut heads = self.ledger.heads();
        let mut found = self.neighbours.found();
        let mut stuck = 0;
        let mut swept = tokio::time::Instant::now();
        loop {
            if swept.elapsed() >= SWEEP {
                blobs::sweep(&self.ledger, &self.depot).await;
                swept = tokio::time::Instant::now();
            }
            heads.mark_unchanged();
            found.mark_unchanged();
            let status = self.view.borrow_and_update().clone();
            let round = match status {
                Some(status) => self.round(&status).await,
                None => Ok(Round::Settled),
            };
            // What is stuck waits its time: an attempt changes the status by itself.
            let patient = matches!(round, Ok(Round::Stuck));
            let pause = match round {
                Ok(Round::Settled) => self.pace.keeper * 10,
                // A keeper that is away says so in its view.
                Ok(Round::Busy) | Err(_) => self.pace.keeper,
                Ok(Round::Stuck) => {
                    stuck = (stuck + 1).min(STUCK_DOUBLINGS);
                    self.pace.fetch * (1 << (stuck - 1))
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                changed = self.view.changed(), if !patient => if changed.is_err() {
                    return stop.cancelled().await;
                },
                _ = heads.changed() => stuck = 0,
                // At once, but no more often than without the news.
                _ = found.changed(), if patient => tokio::time::sleep(self.pace.fetch).await,
            }
        }
    }

    async fn round(&self, status: &Status) -> Result<Round, KeeperError> {
        let seq = match status.activity {
            Activity::Idle => return Ok(Round::Settled),
            Activity::Installing { .. } => return Ok(Round::Busy),
            Activity::Waiting { seq } => seq,
        };
        let Some(manifest) = self.manifest(seq).await else { return Ok(Round::Stuck) };
        let problem = status.problem.as_ref().filter(|problem| problem.release == seq);
        if problem.is_some() {
            self.check_blobs(&manifest).await;
        }
        blobs::sweep(&self.ledger, &self.depot).await;
        if !self.fetch(&manifest).await {
            return Ok(Round::Stuck);
        }
        match self.keeper.install(seq).await {
            Ok(()) if problem.is_some() => Ok(Round::Stuck),
            Ok(()) => {
                info!(
                    BORGIOS_EVENT = "install_asked",
                    BORGIOS_SEQ = seq.0,
                    "asked the keeper to install release/{seq}"
                );
                Ok(Round::Busy)
            }
            Err(KeeperError::Refused { code, message }) => {
                debug!(code, "the keeper does not install release/{seq} now: {message}");
                Ok(Round::Busy)
            }
            Err(error) => Err(error),
        }
    }

    async fn manifest(&self, seq: Seq) -> Option<Manifest> {
        let parsed = self
            .ledger
            .run(move |ledger| {
                let verified = ledger.chain().get(Lane::Release, seq)?;
                Some(Manifest::parse(verified.statement()))
            })
            .await?;
        match parsed {
            Ok(manifest) => Some(manifest),
            Err(error) => {
                warn!(
                    BORGIOS_EVENT = "refused",
                    BORGIOS_REFUSAL = "bad_body",
                    BORGIOS_SEQ = seq.0,
                    "release/{seq} cannot be installed: {error}"
                );
                None
            }
        }
    }

    /// Gets every blob of a release; returns whether all that this server needs are here.
    async fn fetch(&self, manifest: &Manifest) -> bool {
        let sources = self.sources(manifest).await;
        let mut all = true;
        for component in &manifest.components {
            all &= self.fetcher.get(component.digest, component.size, &sources).await;
        }
        // The installer is for servers that are yet to come; nothing here waits for it.
        let installer = manifest.installer;
        self.fetcher.get(installer.digest, installer.size, &sources).await;
        all
    }

    /// Hashes a release's blobs again after the keeper could not use them: the disk may have
    /// changed one, and then it is fetched again.
    async fn check_blobs(&self, manifest: &Manifest) {
        for (digest, _) in blobs::of_release(manifest) {
            let depot = self.depot.clone();
            let checked = tokio::task::spawn_blocking(move || depot.check(&digest)).await;
            if let Ok(Err(error)) = checked {
                warn!(
                    BORGIOS_EVENT = "refused",
                    BORGIOS_REFUSAL = error.code(),
                    BORGIOS_KIND = "blob",
                    BORGIOS_BLOB = %digest,
                    BORGIOS_FROM = "the depot",
                    "a blob of the depot has changed: {error}"
                );
            }
        }
    }

    /// Where to look: near nodes, some other members, then the places the release names.
    async fn sources(&self, manifest: &Manifest) -> Vec<Source> {
        let mut sources = blobs::sources(&self.ledger, &self.tree, &self.neighbours, self.me).await;
        sources.extend(manifest.urls.iter().cloned().map(Source::Url));
        sources
    }
}
