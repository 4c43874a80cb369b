//! Judging what neighbours offer, beside the task that owns the tree's core: verifying and syncing
//! take longer than heartbeats may wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use borgios_peertree::{Body, Verdict};
use borgios_types::{Digest, Envelope, NodeId};
use tokio::sync::mpsc;
use tracing::warn;

use crate::admission::{BLAMELESS, UNDECIDED, may_hold_elsewhere};
use crate::ledger::{Admission, Admitted};
use crate::ledger_handle::LedgerHandle;

/// Objects of one neighbour that may wait to be judged: as many as it may list in one page.
const EACH_MAX: usize = borgios_peertree::bounds::PAGE_IDS_MAX;
/// Bytes of them: sixteen of the longest envelopes, or a page of those that are usual.
const EACH_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of all that wait.
const ALL_BYTES: usize = 64 * 1024 * 1024;

/// An object to be judged.
pub struct Offer {
    /// The link it came from.
    pub from: NodeId,
    /// The id its sender gave it.
    pub id: Digest,
    /// The kind its sender gave it.
    pub kind: String,
    /// The envelope.
    pub body: Body,
}

/// The queue before the judge. Each neighbour has a share of it: whoever floods is put off, not the
/// others.
#[derive(Clone)]
pub struct Offers {
    sender: mpsc::UnboundedSender<Waiting>,
    held: Arc<Mutex<Held>>,
}

/// What waits or is being judged.
#[derive(Default)]
struct Held {
    bytes: usize,
    of: BTreeMap<NodeId, (usize, usize)>,
}

/// An offer in the queue; dropped when it is judged.
pub struct Waiting {
    offer: Offer,
    bytes: usize,
    held: Arc<Mutex<Held>>,
}

impl Offers {
    /// An empty queue and its end for the judge.
    #[must_use]
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Waiting>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender, held: Arc::default() }, receiver)
    }

    /// Queues an object, or says that there is no room for more of this neighbour.
    #[must_use]
    pub fn push(&self, offer: Offer) -> bool {
        let bytes = offer.body.as_str().len();
        let mut held = lock(&self.held);
        let (count, of_it) = held.of.get(&offer.from).copied().unwrap_or_default();
        if count >= EACH_MAX || of_it + bytes > EACH_BYTES || held.bytes + bytes > ALL_BYTES {
            return false;
        }
        held.bytes += bytes;
        held.of.insert(offer.from, (count + 1, of_it + bytes));
        drop(held);
        // The judge ends only with the agent.
        let _ = self.sender.send(Waiting { offer, bytes, held: self.held.clone() });
        true
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        held.bytes -= self.bytes;
        if let Some((count, bytes)) = held.of.get_mut(&self.offer.from) {
            *count -= 1;
            *bytes -= self.bytes;
            if *count == 0 {
                held.of.remove(&self.offer.from);
            }
        }
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    // Counters stay right whatever the thread that held them did.
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Judges offered objects one after the other, in the order they came; `tell` is called with each
/// verdict and what entered.
pub async fn judge_offers(
    mut offers: mpsc::UnboundedReceiver<Waiting>,
    ledger: LedgerHandle,
    tell: impl AsyncFn(Digest, NodeId, Verdict, Vec<Admitted>),
) {
    while let Some(waiting) = offers.recv().await {
        let Offer { from, id, kind, body } = &waiting.offer;
        let (from, id) = (*from, *id);
        let (verdict, admitted) = judge(&ledger, from, id, kind, body).await;
        drop(waiting);
        tell(id, from, verdict, admitted).await;
    }
}

async fn judge(
    ledger: &LedgerHandle,
    from: NodeId,
    id: Digest,
    kind: &str,
    body: &Body,
) -> (Verdict, Vec<Admitted>) {
    let refused = |why: String| {
        warn!(
            BORGIOS_EVENT = "refused",
            BORGIOS_REFUSAL = "malformed",
            BORGIOS_FROM = from.short(),
            BORGIOS_OBJECT = %id,
            "refused an object from {}: {why}",
            from.short()
        );
        (Verdict::Refused, Vec::new())
    };
    let envelope = match Envelope::parse(body.as_str().as_bytes()) {
        Ok(envelope) => envelope,
        Err(error) => return refused(format!("{:#}", borgios_policy::Refusal::from(error))),
    };
    if envelope.id() != id || envelope.kind.as_str() != kind {
        return refused(format!("it is {} {}, not {kind} {id}", envelope.kind, envelope.id()));
    }
    match ledger.run(move |ledger| ledger.admit(envelope, &from.short())).await {
        Admission::Admitted(all) => (Verdict::Admitted, all),
        Admission::Known => (Verdict::Known, Vec::new()),
        // What is succeeded here may be news to an honest neighbour that answers a question.
        Admission::Refused { code, .. } if BLAMELESS.contains(&code) => {
            (Verdict::Known, Vec::new())
        }
        Admission::Refused { code, .. } if UNDECIDED.contains(&code) => {
            (Verdict::Deferred, Vec::new())
        }
        Admission::Refused { code: "wrong_policy", .. } if former(ledger, body).await => {
            (Verdict::Known, Vec::new())
        }
        Admission::Refused { code: "bad_signature", .. } if elsewhere(ledger, body).await => {
            (Verdict::Deferred, Vec::new())
        }
        Admission::Deferred { .. } | Admission::Disk(_) => (Verdict::Deferred, Vec::new()),
        Admission::Refused { .. } => (Verdict::Refused, Vec::new()),
    }
}

/// Whether a former board signed it: an honest neighbour may have applied it in time.
async fn former(ledger: &LedgerHandle, body: &Body) -> bool {
    let Ok(envelope) = Envelope::parse(body.as_str().as_bytes()) else { return false };
    ledger.run(move |ledger| ledger.is_of_a_former_board(&envelope)).await
}

/// Whether an honest neighbour may take what this node refused for its signature.
async fn elsewhere(ledger: &LedgerHandle, body: &Body) -> bool {
    let Ok(envelope) = Envelope::parse(body.as_str().as_bytes()) else { return false };
    ledger.run(move |ledger| may_hold_elsewhere(ledger.chain(), ledger.store(), &envelope)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use borgios_types::SecretKey;

    fn offer(from: u8, bytes: usize) -> Offer {
        let body = Body::from_text(format!("\"{}\"", "x".repeat(bytes - 2))).unwrap();
        let from = SecretKey::from_seed([from; 32]).public();
        Offer { from, id: Digest::of(b"x"), kind: "note".into(), body }
    }

    #[test]
    fn whoever_floods_is_put_off_and_the_others_are_not() {
        let (offers, mut judge) = Offers::new();
        let flood = (0..10 * EACH_MAX).filter(|_| offers.push(offer(1, 300))).count();
        assert_eq!(flood, EACH_MAX);
        let large = (0..100).filter(|_| offers.push(offer(2, 512 * 1024))).count();
        assert_eq!(large, EACH_BYTES / (512 * 1024));
        assert!(offers.push(offer(3, 300)));
        while let Ok(waiting) = judge.try_recv() {
            drop(waiting);
        }
        assert!(offers.push(offer(1, 300)), "what was judged is room again");
        drop(judge);
        let held = lock(&offers.held);
        assert!(held.bytes == 0 && held.of.is_empty());
    }

    #[test]
    fn many_that_flood_share_one_bound() {
        let (offers, _judge) = Offers::new();
        let taken =
            (0..20).flat_map(|n| [n; 16]).filter(|n| offers.push(offer(*n, 512 * 1024))).count();
        assert_eq!(taken, ALL_BYTES / (512 * 1024));
    }
}
