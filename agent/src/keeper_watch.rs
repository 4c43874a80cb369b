//! Keeps the keeper informed and tells the fleet what it says.
//!
//! ```text
//!  every change of heads, every witness, and now and then
//!    status ─▶ submit what the keeper lacks, in order ─▶ witnesses of waiting grants
//!      ▲                                                   │
//!      └──────── publish its reports: install, rotation, hand-over
//! ```
//!
//! Nothing is needed of one round in the next: each compares what is with what should be, so a
//! crash of either process anywhere is just another round. The keeper decides; this side can only
//! bring things sooner or later. Nothing here waits for a blob: see [`crate::release_watch`] and
//! [`crate::credential_watch`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use borgios_policy::{Lane, Statement, Submission};
use borgios_types::{Digest, Envelope, NodeId, Seq, UnixSeconds};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::admission::ballots_on;
use crate::frame::FRAME_MAX;
use crate::gating::lacks_ballots;
use crate::keeper::protocol::{Activity, OBJECTS_MAX, RUN_MAX, Status};
use crate::keeper_client::{Keeper, KeeperError};
use crate::ledger::Ledger;
use crate::ledger_handle::LedgerHandle;
use crate::settings::Pace;
use crate::tree_handle::TreeHandle;
use crate::witnessing::Brought;

/// Bytes of statements in one line to the keeper; JSON in JSON grows by its escapes.
const RUN_BYTES: usize = FRAME_MAX / 2;
/// Refused statements that are remembered, so that each is logged once.
const REFUSED_MAX: usize = 64;
/// Refusals of a veto, a pause or a beacon after which it is brought again: the keeper has not heard
/// of its board yet, or could not store it.
const LATER: [&str; 2] = ["wrong_policy", "disk"];

/// What the rest of the agent sees of the keeper; `None` while it cannot be reached.
pub type KeeperView = watch::Receiver<Option<Status>>;

/// The task.
pub struct KeeperWatch {
    pub(crate) me: NodeId,
    pub(crate) keeper: Keeper,
    pub(crate) ledger: LedgerHandle,
    pub(crate) tree: TreeHandle,
    pub(crate) pace: Pace,
    view: watch::Sender<Option<Status>>,
    /// Statements whose refusal was logged.
    refused: BTreeSet<Digest>,
    /// Witnesses the keeper was brought, by grant.
    pub(crate) brought: BTreeMap<Digest, Brought>,
    /// Vetoes, pauses and beacons the keeper was brought since it was last away.
    signs: BTreeSet<Digest>,
    /// When the keeper that was brought them began.
    started: Option<UnixSeconds>,
    /// Whether the keeper was asked for its receipt in this life.
    pub(crate) handover_asked: bool,
}

impl KeeperWatch {
    /// A watch that has not begun.
    #[must_use]
    pub fn new(
        me: NodeId,
        keeper: Keeper,
        ledger: LedgerHandle,
        tree: TreeHandle,
        pace: Pace,
    ) -> (Self, KeeperView) {
        let (view, seen) = watch::channel(None);
        let (refused, brought, handover_asked) = (BTreeSet::new(), BTreeMap::new(), false);
        let (signs, started) = (BTreeSet::new(), None);
        let watch = Self {
            me,
            keeper,
            ledger,
            tree,
            pace,
            view,
            refused,
            brought,
            signs,
            started,
            handover_asked,
        };
        (watch, seen)
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut heads, mut news) = (self.ledger.heads(), self.ledger.news());
        loop {
            heads.mark_unchanged();
            news.mark_unchanged();
            let pause = match self.round().await {
                Ok(Activity::Idle) => self.pace.keeper * 10,
                Ok(Activity::Waiting { .. } | Activity::Installing { .. }) => self.pace.keeper,
                Err(error) => {
                    // It may be another process by now, with an older disk.
                    self.signs.clear();
                    if self.view.send_replace(None).is_some() {
                        warn!(BORGIOS_EVENT = "keeper_lost", "lost the keeper: {error}");
                    }
                    self.pace.keeper
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                _ = heads.changed() => {}
                _ = news.changed() => {}
            }
        }
    }

    async fn round(&mut self) -> Result<Activity, KeeperError> {
        let mut status = self.look().await?;
        if self.started.replace(status.started) != Some(status.started) {
            // Another process than the one that took them, perhaps with an older disk.
            self.signs.clear();
        }
        // First what may hold a statement back, then statements.
        self.bring_signs().await?;
        if !self.submit_missing(&status).await? {
            status = self.look().await?;
        }
        self.publish_reports(&status).await?;
        self.bring_witnesses(&status).await?;
        Ok(status.activity)
    }

    async fn look(&self) -> Result<Status, KeeperError> {
        let status = self.keeper.status().await?;
        self.view.send_if_modified(|seen| {
            let changed = seen.as_ref() != Some(&status);
            *seen = Some(status.clone());
            changed
        });
        Ok(status)
    }

    /// Brings the vetoes, pauses and beacons that it did not take yet. A keeper that is too old to
    /// know of them has no gate either; it is asked again, for it is replaced one day.
    async fn bring_signs(&mut self) -> Result<(), KeeperError> {
        let all = self.ledger.run(|ledger| ledger.signs()).await;
        let there: BTreeSet<Digest> = all.iter().map(Envelope::id).collect();
        self.signs.retain(|id| there.contains(id));
        let mut news: Vec<Envelope> =
            all.into_iter().filter(|one| !self.signs.contains(&one.id())).collect();
        while !news.is_empty() {
            let mut batch = Vec::new();
            let mut bytes = 0;
            while let Some(next) = news.last() {
                bytes += next.to_json().len();
                if batch.len() == OBJECTS_MAX || (bytes > RUN_BYTES && !batch.is_empty()) {
                    break;
                }
                batch.extend(news.pop());
            }
            let ids: Vec<Digest> = batch.iter().map(Envelope::id).collect();
            let refused = match self.keeper.objects(batch).await {
                Ok(refused) => refused,
                Err(KeeperError::Refused { code, message }) => {
                    debug!(code, "the keeper takes no vetoes, pauses and beacons: {message}");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let later = |at: usize| {
                refused.iter().any(|one| one.at == at && LATER.contains(&one.code.as_str()))
            };
            let done = ids.into_iter().enumerate().filter(|(at, _)| !later(*at));
            self.signs.extend(done.map(|(_, id)| id));
        }
        Ok(())
    }

    /// Submits the statements that follow the keeper's heads; returns whether there were none.
    ///
    /// A lane that the keeper refuses, such as one it is too old to know, does not keep it from
    /// the others: one of them may bring the newer keeper.
    async fn submit_missing(&mut self, status: &Status) -> Result<bool, KeeperError> {
        let known = |lane: Lane| status.heads.get(lane.as_str()).map_or(Seq(0), |head| head.seq);
        let heads: Vec<_> = Lane::ALL.into_iter().map(|lane| (lane, known(lane))).collect();
        // What lacks ballots there is brought once more, with those that are here.
        let held = status.held.iter().filter(|held| !lacks_ballots(&held.standing));
        let held: Vec<Digest> = held.map(|held| held.id).collect();
        let mut left = self.ledger.run(move |ledger| missing(ledger, &heads, &held)).await;
        let none = left.is_empty();
        while !left.is_empty() {
            let run = next_run(&mut left);
            let many = run.len();
            let Some(refused) = self.keeper.submit(&run).await? else {
                debug!(many, "the keeper took statements");
                continue;
            };
            let Some(statement) = run.get(refused.at).map(|submission| &submission.statement)
            else {
                return Err(KeeperError::Malformed(format!("it refused {} of {many}", refused.at)));
            };
            let (id, kind) = (statement.id(), statement.kind.clone());
            if self.refused.len() < REFUSED_MAX && self.refused.insert(id) {
                warn!(
                    BORGIOS_EVENT = "keeper_refused",
                    BORGIOS_REFUSAL = refused.code,
                    BORGIOS_OBJECT = %id,
                    "the keeper refused a statement of lane {kind}: {}",
                    refused.message
                );
            }
            if kind.as_str() == Lane::Policy.as_str() {
                break;
            }
            let untried = run.into_iter().skip(refused.at);
            left = untried.chain(left).filter(|next| next.statement.kind != kind).collect();
        }
        Ok(none)
    }
}

/// Takes as many statements as fit one line to the keeper, one at least.
fn next_run(left: &mut VecDeque<Submission>) -> Vec<Submission> {
    let mut run = Vec::new();
    let mut bytes = 0;
    while let Some(next) = left.front() {
        let envelopes = next.ballots.iter().chain([&next.statement]);
        bytes += envelopes.map(|envelope| envelope.to_json().len()).sum::<usize>();
        if run.len() == RUN_MAX || (bytes > RUN_BYTES && !run.is_empty()) {
            break;
        }
        run.extend(left.pop_front());
    }
    run
}

/// The statements after `heads`, in the order in which they were applied, each with the ballots on
/// it where a policy since the one it names asks for more than the threshold.
fn missing(ledger: &Ledger, heads: &[(Lane, Seq)], held: &[Digest]) -> VecDeque<Submission> {
    let behind =
        |lane: Lane, seq: Seq| heads.iter().any(|(known, head)| *known == lane && seq > *head);
    let chain = ledger.chain();
    chain
        .history()
        .filter(|verified| behind(verified.statement().lane, verified.statement().seq))
        .filter(|verified| !held.contains(&verified.id()))
        .map(|verified| {
            let statement = verified.statement();
            let since = statement.policy.map_or(u64::MAX, |seq| seq.0);
            let mut policies = (since..=chain.head_seq(Lane::Policy).0).map(Seq);
            let counted = policies.any(|seq| {
                chain.policy_at(seq).is_some_and(|policy| {
                    let class = policy.class_of(statement);
                    class.approvals > policy.board.threshold().0 || class.rebuilds() > 0
                })
            });
            let ballots =
                if counted { ballots_on(ledger.store(), verified.envelope()) } else { Vec::new() };
            Submission { statement: verified.envelope().clone(), ballots }
        })
        // And what waits here: the keeper's own lock begins when it sees it.
        .chain(ledger.waiting(held).into_iter().filter(|submission| {
            Statement::parse(&submission.statement).is_ok_and(|at| behind(at.lane, at.seq))
        }))
        .collect()
}
