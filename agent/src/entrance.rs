//! How an object enters by another door than the tree: a tool, a greeting, a last word, the keeper.
//!
//! ```text
//!  who brings it ── enter ──▶ place ──▶ ledger (stored, obeyed) ──▶ tree (relayed, its consequences)
//!        ╎ may be gone from here on ────┴──── one task ──────────────┘
//! ```
//!
//! Invariant: what is stored is told to the tree, whatever becomes of the connection, the request or
//! the dial that brought it. Cut off in between it would be known here, acknowledged whenever it is
//! brought again, and told to nobody until the next start.

use crate::ledger::{Admission, Ledger};
use crate::ledger_handle::LedgerHandle;
use crate::tree_handle::TreeHandle;

/// What became of an object that was brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// It entered, and the tree was told.
    New,
    /// It was here already.
    Known,
    /// It waits for something that is not here yet.
    Deferred {
        /// The rule that it does not meet yet.
        code: &'static str,
        /// The values.
        why: String,
    },
    /// It does not enter.
    Refused {
        /// The rule that failed.
        code: &'static str,
        /// The values.
        why: String,
    },
    /// It could not be stored.
    Disk(String),
}

impl LedgerHandle {
    /// Has the ledger judge an object, and tells the tree of all that entered with it. Dropped before
    /// it has a place, nothing was judged; dropped later, both are done even so.
    ///
    /// # Panics
    /// As [`LedgerHandle::run`].
    pub async fn enter(
        &self,
        tree: &TreeHandle,
        judge: impl FnOnce(&mut Ledger) -> Admission + Send + 'static,
    ) -> Entrance {
        let place = self.place().await;
        let (ledger, tree) = (self.clone(), tree.clone());
        let entering = tokio::spawn(async move {
            let entrance = match ledger.run(judge).await {
                Admission::Admitted(all) => {
                    tree.publish(all).await;
                    Entrance::New
                }
                Admission::Known => Entrance::Known,
                Admission::Deferred { code, why } => Entrance::Deferred { code, why },
                Admission::Refused { code, why } => Entrance::Refused { code, why },
                Admission::Disk(why) => Entrance::Disk(why),
            };
            drop(place);
            entrance
        });
        entering.await.expect("it is not aborted, and panics only with the ledger's thread")
    }
}
