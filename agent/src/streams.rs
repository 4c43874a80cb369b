//! The data plane's hub in this agent: begins once the network is known, lets members speak, and
//! tells the tree of neighbours that broke the rules.
//!
//! ```text
//!  ledger ── who is a member ──▶ ┌─────────┐ ──▶ tree: cut off, shun
//!  stream_pipes ── pipes ──────▶ │   hub   │ ──▶ journal: equivocation, withheld, log failed
//!  stream_api ── says, reads ──▶ └─────────┘
//! ```
//!
//! Only a member's stream is taken up: a record in date, neither evicted nor departed. Who is put
//! out or departs stops being heard, at the latest with the next statement, departure or
//! `RECHECK`; whose record lapses is not heard until it is renewed. What it said stays until the record
//! is forgotten for good.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use borgios_relay::hub::{HubConfig, Verifiers};
use borgios_relay::{Event, HubHandle, Item};
use borgios_stream::{Admission, Limits, Origin, Position, Relay};
use borgios_types::{NodeId, SecretKey};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, info, warn};

use crate::clock::unix_now;
use crate::ledger::Ledger;
use crate::ledger_handle::LedgerHandle;
use crate::questions::Held;
use crate::roll::Standing;
use crate::tree_handle::TreeHandle;

/// How often is looked whether a member's record has lapsed meanwhile.
const RECHECK: Duration = Duration::from_secs(10);
/// Threads that verify what was forwarded on the link's authentication: they need not keep up with a
/// burst, only with the average.
const VERIFIERS: usize = 2;
/// Pause before the hub is started again after it could not open its log.
const RETRY: Duration = Duration::from_secs(5);
/// Pause before the log is read again that could not be; it doubles.
const AGAIN_MIN: Duration = Duration::from_millis(250);
/// Longest such pause.
const AGAIN_MAX: Duration = Duration::from_secs(60);
/// Longest for which an origin must have been away by this machine's own time, whatever its date says,
/// before what it said is let go: a date that is wrong for a while lets all records lapse at once.
const GONE_MAX: Duration = Duration::from_secs(86_400);

/// The way to the hub, which may not run yet. Clones lead to the same one.
#[derive(Clone)]
pub struct Streams {
    hub: watch::Receiver<Option<HubHandle>>,
    /// How far each stream is stored here.
    heads: Arc<Mutex<BTreeMap<Origin, Position>>>,
    /// Counts what is stored.
    news: watch::Receiver<u64>,
}

impl Streams {
    /// Grows with whatever is stored here. It begins anew with each start of the agent.
    #[must_use]
    pub fn news(&self) -> u64 {
        *self.news.borrow()
    }

    /// Waits until [`Streams::news`] is another number than `known`.
    pub async fn news_after(&self, known: u64) {
        // An agent that ends has no more news.
        let _ = self.news.clone().wait_for(|news| *news != known).await;
    }

    /// The hub, once it runs.
    #[must_use]
    pub fn hub(&self) -> Option<HubHandle> {
        self.hub.borrow().clone()
    }

    /// Waits for the hub; `None` when there will be none any more.
    pub async fn wait(&self) -> Option<HubHandle> {
        self.hub.clone().wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// What receipts are answered from.
impl Held for Streams {
    fn last(&self, origin: &NodeId, epoch: u64) -> Option<u64> {
        let position = lock(&self.heads).get(&Origin::from(*origin)).copied()?;
        (position.epoch == epoch).then_some(position.number)
    }
}

fn lock(heads: &Mutex<BTreeMap<Origin, Position>>) -> MutexGuard<'_, BTreeMap<Origin, Position>> {
    // Each change is whole whatever its thread did then.
    heads.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The task that keeps the hub.
pub struct StreamWatch {
    key: SecretKey,
    folder: PathBuf,
    relay: Relay,
    ledger: LedgerHandle,
    tree: TreeHandle,
    hub: watch::Sender<Option<HubHandle>>,
    heads: Arc<Mutex<BTreeMap<Origin, Position>>>,
    news: watch::Sender<u64>,
    /// Origins that were let in; no more than there are members.
    speaking: BTreeSet<Origin>,
    /// Those of them that are no members just now, what they were at the last look, and since when: heard
    /// again once they renew their records.
    lapsed: BTreeMap<Origin, (Standing, Instant)>,
}

impl StreamWatch {
    /// A hub that keeps its log in `folder`, speaks with the node's `key`, and forwards as `relay` says.
    #[must_use]
    pub fn new(
        key: SecretKey,
        folder: PathBuf,
        relay: Relay,
        ledger: LedgerHandle,
        tree: TreeHandle,
    ) -> (Self, Streams) {
        let (hub, streams) = watch::channel(None);
        let heads = Arc::<Mutex<_>>::default();
        let (news, seen) = watch::channel(0);
        let streams = Streams { hub: streams, heads: heads.clone(), news: seen };
        let (speaking, lapsed) = (BTreeSet::new(), BTreeMap::new());
        let watch = Self { key, folder, relay, ledger, tree, hub, heads, news, speaking, lapsed };
        (watch, streams)
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let started = tokio::select! {
            started = self.start() => started,
            () = stop.cancelled() => return,
        };
        let (hub, mut events) = started;
        self.hub.send_replace(Some(hub.clone()));
        // Ends with this task, in whatever way that ends.
        let following = tokio::spawn(follow(hub.clone(), self.heads.clone(), self.news.clone()));
        let following = AbortOnDropHandle::new(following);
        // Streams that were in the log at the start are followed unasked.
        let me = Origin::from(self.key.public());
        let held = hub.heads().await.unwrap_or_default();
        self.speaking.extend(held.into_iter().map(|head| head.origin).filter(|one| *one != me));
        let (mut heads, mut news) = (self.ledger.heads(), self.ledger.news());
        self.recheck(&hub).await;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                event = events.recv() => match event {
                    Some(event) => self.on_event(&hub, event).await,
                    None => {
                        // The hub ends by itself only when its log has panicked: this agent is not
                        // well, and its supervisor shall start it anew.
                        error!(BORGIOS_EVENT = "streams_ended", "the streams' hub has ended");
                        return;
                    }
                },
                _ = heads.changed() => self.recheck(&hub).await,
                _ = news.changed() => self.recheck(&hub).await,
                () = tokio::time::sleep(RECHECK) => self.recheck(&hub).await,
            }
        }
        drop(following);
        hub.stop().await;
    }

    /// Starts the hub once the network is known.
    async fn start(&self) -> (HubHandle, mpsc::Receiver<Event>) {
        let mut heads = self.ledger.heads();
        let network = loop {
            if let Some(network) = self.ledger.run(|ledger| ledger.chain().network()).await {
                break network;
            }
            if heads.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        loop {
            let config = HubConfig {
                network,
                key: self.key.clone(),
                relay: self.relay,
                // Who forwards what it has verified has nothing to do beside it.
                verifiers: (self.relay == Relay::Link).then(|| Verifiers::start(VERIFIERS)),
                log: Some(self.folder.clone()),
                limits: Limits::default(),
                on_arrival: None,
            };
            match HubHandle::start(config).await {
                Ok(started) => return started,
                // A full or broken disk: the rest of the agent goes on, and so do streams once it
                // is well again.
                Err(why) => {
                    let cause = std::error::Error::source(&why).map(ToString::to_string);
                    error!(BORGIOS_EVENT = "disk_failed", ?cause, "no streams: {why}");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn on_event(&mut self, hub: &HubHandle, event: Event) {
        match event {
            Event::Admit(origin) => {
                let admission = self.ledger.run(move |l| admission(l, &origin)).await;
                if admission == Admission::Yes {
                    self.speaking.insert(origin);
                    self.lapsed.remove(&origin);
                }
                hub.admit(origin, admission).await;
            }
            Event::Misbehaved { peer, why } => {
                let cause = std::error::Error::source(&why).map(ToString::to_string);
                warn!(
                    BORGIOS_EVENT = "stream_misdeed",
                    BORGIOS_PEER = %peer,
                    ?cause,
                    "{} {why}: it is cut off",
                    peer.short()
                );
                self.tree.misbehaved(peer).await;
            }
            Event::Stalled { peer, .. } => {
                debug!(peer = %peer.short(), "its streams wait until it has read");
            }
            Event::Stuck { peer, .. } => {
                warn!(BORGIOS_EVENT = "link_slow", BORGIOS_PEER = %peer, "{} does not read its streams", peer.short());
                self.tree.stalled(peer).await;
            }
            Event::Ahead { epoch } => error!(
                BORGIOS_EVENT = "stream_ahead",
                BORGIOS_EPOCH = epoch,
                "this server's stream was begun by a clock over a day ahead of this one: nobody takes \
                 it, and nothing is published; set the clock right, or, if it is, move {} away and \
                 start borgiosd again",
                self.folder.display()
            ),
            Event::Equivocated(evidence) => error!(
                BORGIOS_EVENT = "equivocation",
                BORGIOS_ORIGIN = %evidence.origin(),
                "an origin signed two histories of its stream: it is stopped, the proof is kept"
            ),
            Event::Withheld { origin, upto, told_by } => warn!(
                BORGIOS_EVENT = "withheld",
                BORGIOS_ORIGIN = %origin,
                BORGIOS_PEER = %told_by,
                "messages up to {upto} came over a cross link only"
            ),
            Event::LogFailed(why) => {
                error!(BORGIOS_EVENT = "disk_failed", "the log of streams has failed: {why}");
            }
            Event::LogReopened => {
                info!(BORGIOS_EVENT = "disk_recovered", "the log of streams is open again");
            }
            Event::Recovered { peer, .. } => {
                info!(BORGIOS_PEER = %peer, "it reads its streams again")
            }
            Event::LinkEnded { peer, .. } => debug!(BORGIOS_PEER = %peer, "a stream pipe ended"),
        }
    }

    /// Stops the streams of who is no member any more, for as long as its record has lapsed.
    async fn recheck(&mut self, hub: &HubHandle) {
        let (speaking, lapsed, now) = (self.speaking.clone(), self.lapsed.clone(), Instant::now());
        let changed = self.ledger.run(move |ledger| {
            let kept = Duration::from_secs(ledger.lapsed_kept()).min(GONE_MAX);
            let changed = |origin: Origin| {
                let is = standing(ledger, &origin)?;
                let (was, since) = lapsed.get(&origin).copied().unwrap_or((Standing::Member, now));
                let long = now.saturating_duration_since(since) >= kept;
                Some((origin, is, goes_on(was, is, long)?))
            };
            speaking.into_iter().filter_map(changed).collect::<Vec<_>>()
        });
        for (origin, standing, admission) in changed.await {
            let what = match admission {
                Admission::Yes => {
                    self.lapsed.remove(&origin);
                    "its record is in date again"
                }
                Admission::Later => {
                    self.lapsed.insert(origin, (standing, now));
                    "its record has lapsed"
                }
                Admission::No => {
                    self.lapsed.remove(&origin);
                    self.speaking.remove(&origin);
                    "it is no member now"
                }
            };
            info!(BORGIOS_EVENT = "stream_admission", BORGIOS_ORIGIN = %origin, "{what}");
            hub.admit(origin, admission).await;
        }
        keep_heads(&self.heads, Origin::from(self.key.public()), &self.speaking);
    }
}

impl Drop for StreamWatch {
    /// However the task ends, the hub ends with it: only one may have the log open.
    fn drop(&mut self) {
        self.hub.send_replace(None);
    }
}

/// Keeps the list of heads up to date, until the hub ends.
async fn follow(
    hub: HubHandle,
    heads: Arc<Mutex<BTreeMap<Origin, Position>>>,
    told: watch::Sender<u64>,
) {
    let Some(stored) = hub.heads().await else { return };
    let cursors: BTreeMap<_, _> = stored.iter().map(|head| (head.origin, head.last)).collect();
    *lock(&heads) = cursors.clone();
    follow_from(cursors, &hub, &heads, &told, tokio::time::sleep).await;
}

/// Follows what is stored after these cursors. Where the log could not be read, it goes on from there
/// after a pause, for as long as the hub lives.
async fn follow_from<F: Future<Output = ()>>(
    mut cursors: BTreeMap<Origin, Position>,
    hub: &HubHandle,
    heads: &Mutex<BTreeMap<Origin, Position>>,
    told: &watch::Sender<u64>,
    mut wait: impl FnMut(Duration) -> F,
) {
    let mut pause = AGAIN_MIN;
    while let Some(mut news) = hub.subscribe(cursors).await {
        while let Some(item) = news.next().await {
            pause = AGAIN_MIN;
            if let Item::Messages(new) = item {
                lock(heads).insert(new.origin, new.last());
                told.send_modify(|count| *count += 1);
            }
        }
        cursors = news.cursors().clone();
        drop(news);
        warn!(BORGIOS_EVENT = "disk_failed", "the log of streams could not be read; again soon");
        wait(pause).await;
        pause = (pause * 2).min(AGAIN_MAX);
    }
}

/// Keeps the heads of this server and of who speaks: receipts must not speak of what was deleted. Each time
/// anew, for of an origin that was put out something may be under way from the hub.
fn keep_heads(heads: &Mutex<BTreeMap<Origin, Position>>, me: Origin, speaking: &BTreeSet<Origin>) {
    lock(heads).retain(|origin, _| *origin == me || speaking.contains(origin));
}

/// Whether an origin may speak.
fn admission(ledger: &Ledger, origin: &Origin) -> Admission {
    standing(ledger, origin).map_or(Admission::No, admits)
}

/// What the roll says of an origin; none where it is nobody's key.
fn standing(ledger: &Ledger, origin: &Origin) -> Option<Standing> {
    Some(ledger.standing(unix_now(), &origin.key()?))
}

fn admits(standing: Standing) -> Admission {
    match standing {
        Standing::Member => Admission::Yes,
        // Its record, or a newer one, may be on its way.
        Standing::Stranger | Standing::Lapsed => Admission::Later,
        Standing::Out(_) => Admission::No,
    }
}

/// What becomes of a stream that was let in; none where nothing changes, or it is too early to say.
///
/// A record that lapsed is forgotten some time after: then what it said goes too, or streams of the dead would
/// fill the room. (A server that comes back later than that brings what it said itself.) The same where a start
/// finds a stream without a record: it was let in once. Not before it was away for `long`, for the date may be
/// wrong.
fn goes_on(was: Standing, is: Standing, long: bool) -> Option<Admission> {
    match (was, is) {
        (Standing::Lapsed | Standing::Stranger, Standing::Stranger) => {
            long.then_some(Admission::No)
        }
        _ if was == is => None,
        _ => Some(admits(is)),
    }
}

#[cfg(test)]
mod tests {
    use borgios_stream::{Durability, Kind};
    use borgios_types::Digest;

    use super::*;

    /// A record that lapsed may be renewed; one that was forgotten after that is not. One that is not here
    /// at a start may be on its way.
    #[test]
    fn the_streams_of_those_who_lapsed_for_good_go() {
        use Standing::{Lapsed, Member, Stranger};
        for long in [false, true] {
            assert_eq!(goes_on(Member, Member, long), None);
            assert_eq!(goes_on(Lapsed, Lapsed, long), None);
            assert_eq!(goes_on(Member, Lapsed, long), Some(Admission::Later));
            assert_eq!(goes_on(Lapsed, Member, long), Some(Admission::Yes));
            assert_eq!(goes_on(Member, Stranger, long), Some(Admission::Later));
            assert_eq!(goes_on(Stranger, Member, long), Some(Admission::Yes));
        }
        for was in [Lapsed, Stranger] {
            assert_eq!(goes_on(was, Stranger, true), Some(Admission::No));
            // A date that is weeks ahead for a moment makes strangers of all: nothing is let go for it.
            assert_eq!(goes_on(was, Stranger, false), None);
        }
    }

    /// What the hub stored before it heard that an origin is put out comes after that.
    #[test]
    fn of_one_that_was_put_out_no_head_stays() {
        let [me, member, gone] = [1, 2, 3].map(|byte| Origin([byte; 32]));
        let all = [me, member, gone].map(|origin| (origin, Position::new(1, 1)));
        let heads = Mutex::new(BTreeMap::from(all));
        for _ in 0..2 {
            keep_heads(&heads, me, &BTreeSet::from([member]));
            let kept: Vec<Origin> = lock(&heads).keys().copied().collect();
            assert_eq!(kept, [me, member]);
            lock(&heads).insert(gone, Position::new(1, 2));
        }
    }

    /// Nothing here takes this long unless it is broken.
    const PATIENCE: Duration = Duration::from_secs(60);

    async fn hub(log: PathBuf) -> HubHandle {
        let config = HubConfig {
            network: Digest([7; 32]),
            key: SecretKey::from_seed([1; 32]),
            relay: Relay::Verified,
            verifiers: None,
            log: Some(log),
            limits: Limits::default(),
            on_arrival: None,
        };
        HubHandle::start(config).await.unwrap().0
    }

    async fn say(hub: &HubHandle) {
        let body = bytes::Bytes::from_static(b"x");
        hub.publish(Kind::new("test").unwrap(), Durability::Durable, body).await.unwrap();
    }

    #[tokio::test]
    async fn a_read_that_failed_is_tried_again_and_nothing_is_missed() {
        let folder = tempfile::tempdir().unwrap();
        let (log, away) = (folder.path().join("log"), folder.path().join("away"));
        let first = hub(log.clone()).await;
        let me = first.origin();
        say(&first).await;
        // The hub itself is to have nothing to read after the next start.
        let taken = log.join(me.to_string()).join("taken");
        let noted = async {
            while !taken.exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, noted).await.expect("in time");
        first.stop().await;
        let again = hub(log.clone()).await;
        std::fs::rename(&log, &away).unwrap();
        let heads = Mutex::new(BTreeMap::new());
        let (told, mut news) = watch::channel(0);
        let mut pauses = Vec::new();
        // Fails twice; then the disk is well again.
        let wait = |pause| {
            pauses.push(pause);
            if pauses.len() == 2 {
                std::fs::rename(&away, &log).unwrap();
            }
            std::future::ready(())
        };
        let following = follow_from(BTreeMap::new(), &again, &heads, &told, wait);
        let heard = async {
            news.wait_for(|news| *news == 1).await.unwrap();
            say(&again).await;
            news.wait_for(|news| *news == 2).await.unwrap();
        };
        tokio::select! {
            () = following => panic!("it ended, though the hub lives"),
            heard = tokio::time::timeout(PATIENCE, heard) => heard.expect("in time"),
        }
        assert_eq!(pauses, [AGAIN_MIN, AGAIN_MIN * 2]);
        let stored = again.heads().await.unwrap();
        assert_eq!(lock(&heads).get(&me), stored.first().map(|head| &head.last));
        again.stop().await;
    }
}
