//! The way to the ledger: closures, run one after the other on the thread that owns it.

use std::io;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::ledger::{Heads, Ledger};

/// Closures that may wait; who sends more waits itself.
const QUEUE: usize = 256;
/// Objects that may be on their way in by other doors than the tree: they go on when whoever brought
/// them is gone, so that many who come and go must not leave more behind. The ledger takes one at a
/// time; more at once would make nothing faster.
const ENTERING: usize = 64;

type Job = Box<dyn FnOnce(&mut Ledger) + Send>;

/// The way to the ledger's thread. Clones lead to the same one.
#[derive(Clone)]
pub struct LedgerHandle {
    jobs: mpsc::Sender<Job>,
    heads: watch::Receiver<Heads>,
    news: watch::Receiver<u64>,
    waits: watch::Receiver<bool>,
    entering: Arc<Semaphore>,
}

impl LedgerHandle {
    /// Gives the ledger a thread, which ends when the last handle is gone.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn spawn(mut ledger: Ledger) -> io::Result<Self> {
        let (jobs, mut waiting) = mpsc::channel::<Job>(QUEUE);
        let (heads, news) = (ledger.watch_heads(), ledger.watch_news());
        let is_waited_for = |ledger: &Ledger| ledger.gate().docs().next().is_some();
        let (tell, waits) = watch::channel(is_waited_for(&ledger));
        std::thread::Builder::new().name("ledger".to_owned()).spawn(move || {
            while let Some(job) = waiting.blocking_recv() {
                job(&mut ledger);
                let now = is_waited_for(&ledger);
                tell.send_if_modified(|waits| std::mem::replace(waits, now) != now);
            }
        })?;
        let entering = Arc::new(Semaphore::new(ENTERING));
        Ok(Self { jobs, heads, news, waits, entering })
    }

    /// Runs `work` on the ledger's thread, after everything sent before.
    ///
    /// # Panics
    /// If the thread is gone, which only a panic in an earlier job can cause: the agent must not go
    /// on with a ledger in an unknown state.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Ledger) -> T + Send + 'static,
    ) -> T {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |ledger| {
            // Whoever asked may have gone meanwhile.
            let _ = answer.send(work(ledger));
        });
        let sent = self.jobs.send(job).await;
        assert!(sent.is_ok(), "the ledger's thread ended");
        answered.await.expect("the ledger's thread answers every job")
    }

    /// A place among the objects on their way in; waits until there is one.
    pub(crate) async fn place(&self) -> OwnedSemaphorePermit {
        self.entering.clone().acquire_owned().await.expect("places are never closed")
    }

    /// The newest statement of each lane, and a notice when one changes.
    #[must_use]
    pub fn heads(&self) -> watch::Receiver<Heads> {
        self.heads.clone()
    }

    /// Whether the gate holds anything whose time may come, and a notice when that changes.
    #[must_use]
    pub fn waits(&self) -> watch::Receiver<bool> {
        self.waits.clone()
    }

    /// A notice of each witness and departure that enters.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.clone()
    }
}
