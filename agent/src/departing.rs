//! This node's own departure: tell the others, tell the keeper, leave the tree, end.
//!
//! ```text
//! departure admitted ─▶ a neighbour says goodbye: it has heard ─▶ tree left ─▶ keeper ─▶ end
//!   (here or by a        (or nobody hears: a while is waited)          │ refused, or away:
//!    neighbour's word)                                                 └── again, later
//! ```
//!
//! A crash anywhere begins anew: the departure is on the disk, and all of it can be done twice.

use borgios_policy::{Departure, Object as _};
use borgios_types::{Envelope, NodeId};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::keeper_client::Keeper;
use crate::ledger_handle::LedgerHandle;
use crate::settings::Pace;
use crate::tree_handle::TreeHandle;

/// How often the pause doubles while the keeper does not do it: from one second to four minutes.
const DOUBLINGS_MAX: u32 = 8;

/// The task.
pub struct Departing {
    /// This node.
    pub me: NodeId,
    /// Who ends the hold on this server's root.
    pub keeper: Keeper,
    /// Knows of the departure.
    pub ledger: LedgerHandle,
    /// Has the neighbours.
    pub tree: TreeHandle,
    /// Cancelled once another node has said goodbye.
    pub farewell: CancellationToken,
    /// How long that is waited for.
    pub pace: Pace,
    /// Cancelled when all is done: the process may end.
    pub done: CancellationToken,
}

impl Departing {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.depart() => stop.cancelled().await,
        }
    }

    async fn depart(&self) {
        let departure = self.departure().await;
        let _ = tokio::time::timeout(self.pace.farewell, self.farewell.cancelled()).await;
        self.tree.leave().await;
        let mut failed = 0;
        while let Err(why) = self.keeper.depart(departure.clone()).await {
            failed = (failed + 1).min(DOUBLINGS_MAX);
            error!(
                BORGIOS_EVENT = "departure_failed",
                "the keeper does not end its hold on this server: {why}"
            );
            tokio::time::sleep(self.pace.keeper * (1 << failed)).await;
        }
        info!(BORGIOS_EVENT = "departed", "this server left the network; borgiosd ends");
        self.done.cancel();
    }

    /// Waits for this node's departure.
    async fn departure(&self) -> Envelope {
        let mut news = self.ledger.news();
        loop {
            news.mark_unchanged();
            let me = self.me.to_string();
            let departure = self.ledger.run(move |ledger| {
                let departure = ledger.store().owned(Departure::KIND, &me).next()?;
                Some(departure.envelope.clone())
            });
            if let Some(departure) = departure.await {
                return departure;
            }
            if news.changed().await.is_err() {
                // The ledger ends only with the agent.
                std::future::pending::<()>().await;
            }
        }
    }
}
