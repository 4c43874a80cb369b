//! From a signed release to a running one: keeps the keeper informed, fetches what it needs, asks
//! it to install, and publishes what it reports.
//!
//! ```text
//!  every change of heads, and now and then
//!    status ─▶ submit what the keeper lacks, in order ─▶ blobs of its newest release in the depot?
//!      ▲                                                   │ no: fetch from parent, members, urls
//!      └── publish its report ◀── poll ◀── install ◀───────┘ yes
//! ```
//!
//! Nothing is remembered between rounds but what was published: each round compares what is with
//! what should be, so a crash of either process anywhere is just another round. The keeper decides;
//! this side can only bring things sooner or later.

use std::collections::BTreeSet;

use borgios_policy::{Join, Lane, Object as _, Report, Submission};
use borgios_releases::Manifest;
use borgios_types::{Digest, NodeId, Seq};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::admission::ballots_on;
use crate::depot::Depot;
use crate::fetch::Fetcher;
use crate::frame::FRAME_MAX;
use crate::keeper::protocol::{Activity, LastInstall, Status};
use crate::keeper_client::{Keeper, KeeperError};
use crate::ledger::{Admission, Ledger};
use crate::ledger_handle::LedgerHandle;
use crate::settings::Pace;
use crate::tree_shell::TreeHandle;

/// Other members asked for a blob after the parent; they hold it as soon as they run it.
const MEMBERS_ASKED: usize = 8;

/// How often the pause doubles while nothing helps: from one second to half a minute.
const STUCK_DOUBLINGS: u32 = 6;
/// Bytes of statements in one line to the keeper; JSON in JSON grows by its escapes.
const RUN_BYTES: usize = FRAME_MAX / 2;

/// What the rest of the agent sees of the keeper; `None` while it cannot be reached.
pub type KeeperView = watch::Receiver<Option<Status>>;

/// The task.
pub struct ReleaseWatch {
    me: NodeId,
    keeper: Keeper,
    ledger: LedgerHandle,
    tree: TreeHandle,
    depot: Depot,
    fetcher: Fetcher,
    pace: Pace,
    view: watch::Sender<Option<Status>>,
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
    /// A watch that has not begun.
    #[must_use]
    pub fn new(
        me: NodeId,
        keeper: Keeper,
        ledger: LedgerHandle,
        tree: TreeHandle,
        depot: Depot,
        fetcher: Fetcher,
        pace: Pace,
    ) -> (Self, KeeperView) {
        let (view, seen) = watch::channel(None);
        (Self { me, keeper, ledger, tree, depot, fetcher, pace, view }, seen)
    }

    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut heads = self.ledger.heads();
        let mut stuck = 0;
        loop {
            heads.mark_unchanged();
            let pause = match self.round().await {
                Ok(Round::Settled) => self.pace.keeper * 10,
                Ok(Round::Busy) => self.pace.keeper,
                Ok(Round::Stuck) => {
                    stuck = (stuck + 1).min(STUCK_DOUBLINGS);
                    self.pace.fetch * (1 << (stuck - 1))
                }
                Err(error) => {
                    if self.view.send_replace(None).is_some() {
                        warn!(BORGIOS_EVENT = "keeper_lost", "lost the keeper: {error}");
                    }
                    self.pace.keeper
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                _ = heads.changed() => stuck = 0,
            }
        }
    }

    async fn round(&self) -> Result<Round, KeeperError> {
        let status = self.keeper.status().await?;
        self.view.send_replace(Some(status.clone()));
        let all_known = self.submit_missing(&status).await?;
        let status = if all_known { status } else { self.keeper.status().await? };
        self.view.send_replace(Some(status.clone()));
        if let Some(last) = &status.last {
            self.publish_report(&status, last).await?;
        }
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
        self.sweep(seq, &manifest).await;
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

    /// Submits the statements that follow the keeper's heads; returns whether there were none.
    async fn submit_missing(&self, status: &Status) -> Result<bool, KeeperError> {
        let known = |lane: Lane| status.heads.get(lane.as_str()).map_or(Seq(0), |head| head.seq);
        let heads: Vec<_> = Lane::ALL.into_iter().map(|lane| (lane, known(lane))).collect();
        let missing = self.ledger.run(move |ledger| missing(ledger, &heads)).await;
        let none = missing.is_empty();
        for run in runs(missing) {
            let many = run.len();
            match self.keeper.submit(run).await {
                Ok(()) => debug!(many, "the keeper took statements"),
                Err(KeeperError::Refused { code, message }) => {
                    warn!(
                        BORGIOS_EVENT = "keeper_refused",
                        BORGIOS_REFUSAL = code,
                        "the keeper refused a statement: {message}"
                    );
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(none)
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
        for (digest, _) in blobs(manifest) {
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

    /// Where to look: the parent, some other members, then the places the release names.
    async fn sources(&self, manifest: &Manifest) -> Vec<String> {
        let (me, parent) = (self.me, self.tree.view().borrow().parent);
        let members = self
            .ledger
            .run(move |ledger| {
                let parent = parent.and_then(|node| ledger.join_of(&node)?.address);
                let others: BTreeSet<String> = ledger
                    .store()
                    .list(Join::KIND, None)
                    .filter_map(|stored| Join::parse(&stored.envelope).ok())
                    .filter(|join| join.node != me && join.address != parent)
                    .filter_map(|join| join.address)
                    .collect();
                // Spread by key, so that not everyone asks the same few.
                let mut others: Vec<String> = others.into_iter().collect();
                let first = usize::from(me.to_bytes()[0]) % others.len().max(1);
                others.rotate_left(first);
                others.truncate(MEMBERS_ASKED);
                parent.into_iter().chain(others).collect::<Vec<_>>()
            })
            .await;
        let members = members.into_iter().map(|address| format!("http://{address}/blobs"));
        members.chain(manifest.urls.iter().cloned()).collect()
    }

    /// Drops blobs that neither this release nor the one before it names.
    async fn sweep(&self, seq: Seq, newest: &Manifest) {
        let mut keep: BTreeSet<Digest> = blobs(newest).map(|(digest, _)| digest).collect();
        if let Some(before) = seq.0.checked_sub(1)
            && before > 0
            && let Some(manifest) = self.manifest(Seq(before)).await
        {
            keep.extend(blobs(&manifest).map(|(digest, _)| digest));
        }
        match self.depot.sweep(&keep) {
            Ok(0) => {}
            Ok(removed) => debug!(removed, "removed old blobs"),
            Err(error) => warn!(BORGIOS_EVENT = "disk_failed", "cannot sweep the depot: {error}"),
        }
    }

    /// Publishes the keeper's report on its last install, once.
    async fn publish_report(&self, status: &Status, last: &LastInstall) -> Result<(), KeeperError> {
        let me = self.me.to_string();
        let keeper = status.keeper;
        let (release, outcome, at) = (last.release, last.outcome, last.at);
        let published = self
            .ledger
            .run(move |ledger| {
                let newest = ledger.store().owned(Report::KIND, &me).next_back()?;
                Report::parse(&newest.envelope).ok()
            })
            .await;
        let said = |report: &Report| {
            report.release == release
                && report.outcome == outcome
                && report.keeper == keeper
                && report.at >= at
        };
        if published.as_ref().is_some_and(said) {
            return Ok(());
        }
        let report = self.keeper.report(self.me).await?;
        match self.ledger.run(move |ledger| ledger.admit(report, "the keeper")).await {
            Admission::Admitted(all) => {
                info!(
                    BORGIOS_EVENT = "report",
                    BORGIOS_SEQ = release.0,
                    BORGIOS_OUTCOME = ?outcome,
                    "the keeper reports on release/{release}"
                );
                self.tree.publish(all).await;
            }
            Admission::Known => {}
            Admission::Deferred { why, .. } | Admission::Refused { why, .. } => {
                debug!("the keeper's report is not accepted now: {why}");
            }
            Admission::Disk(_) => {}
        }
        Ok(())
    }
}

/// Every blob of a release with its size.
fn blobs(manifest: &Manifest) -> impl Iterator<Item = (Digest, u64)> {
    let installer = (manifest.installer.digest, manifest.installer.size);
    manifest.components.iter().map(|one| (one.digest, one.size)).chain([installer])
}

/// Cuts a series into lines that the keeper reads: half a frame of statements each, one at least.
fn runs(missing: Vec<Submission>) -> Vec<Vec<Submission>> {
    let mut runs: Vec<Vec<Submission>> = Vec::new();
    let mut bytes = usize::MAX;
    for submission in missing {
        let envelopes = submission.ballots.iter().chain([&submission.statement]);
        let length: usize = envelopes.map(|envelope| envelope.to_json().len()).sum();
        bytes = bytes.saturating_add(length);
        match runs.last_mut() {
            Some(run) if bytes <= RUN_BYTES => run.push(submission),
            _ => {
                bytes = length;
                runs.push(vec![submission]);
            }
        }
    }
    runs
}

/// The statements after `heads`, in the order in which they were applied, each with the ballots on
/// it where its class asks for more than the threshold.
fn missing(ledger: &Ledger, heads: &[(Lane, Seq)]) -> Vec<Submission> {
    let behind =
        |lane: Lane, seq: Seq| heads.iter().any(|(known, head)| *known == lane && seq > *head);
    let chain = ledger.chain();
    chain
        .history()
        .filter(|verified| behind(verified.statement().lane, verified.statement().seq))
        .map(|verified| {
            let statement = verified.statement();
            let policy = statement.policy.and_then(|seq| chain.policy_at(seq));
            let counted = policy.is_some_and(|policy| {
                policy.class(statement.lane).approvals > policy.board.threshold().0
            });
            let ballots =
                if counted { ballots_on(ledger.store(), verified.id()) } else { Vec::new() };
            Submission { statement: verified.envelope().clone(), ballots }
        })
        .collect()
}
