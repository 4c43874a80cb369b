//! Judging what neighbours offer, beside the task that owns the tree's core: verifying and syncing
//! take longer than heartbeats may wait.
//!
//! ```text
//!  neighbour a  ▢▢▢▢▢▢▢▢ ─┐
//!  neighbour b  ▢         ├─ one of each in turn ─▶ judge ─▶ ledger
//!  neighbour c  ▢▢        ─┘
//! ```
//!
//! What one neighbour offers is judged in the order in which it came; whatever the others send, its next
//! object is behind one of each of them at most.

use std::collections::{BTreeMap, VecDeque};
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

/// The queues before the judge. Each neighbour has one, with a share of the room: whoever floods is put
/// off, not the others.
#[derive(Clone)]
pub struct Offers {
    /// One for each object in a queue.
    sender: mpsc::UnboundedSender<()>,
    held: Arc<Mutex<Held>>,
}

/// The judge's end of the queues.
pub struct Offered {
    receiver: mpsc::UnboundedReceiver<()>,
    held: Arc<Mutex<Held>>,
}

/// What waits or is being judged.
#[derive(Default)]
struct Held {
    bytes: usize,
    of: BTreeMap<NodeId, (usize, usize)>,
    queues: BTreeMap<NodeId, VecDeque<Offer>>,
    /// The neighbours of which something waits, each once; the first one's turn is next.
    turns: VecDeque<NodeId>,
}

impl Held {
    fn queue(&mut self, offer: Offer) {
        let from = offer.from;
        let queue = self.queues.entry(from).or_default();
        if queue.is_empty() {
            self.turns.push_back(from);
        }
        queue.push_back(offer);
    }

    /// The next object of the neighbour whose turn it is; it comes last then.
    fn take_turn(&mut self) -> Option<Offer> {
        let from = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&from)?;
        let offer = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&from);
        } else {
            self.turns.push_back(from);
        }
        offer
    }
}

/// An offer that is judged; dropped when it was.
pub struct Waiting {
    offer: Offer,
    bytes: usize,
    held: Arc<Mutex<Held>>,
}

impl Offers {
    /// No queue yet, and the end of all of them for the judge.
    #[must_use]
    pub fn new() -> (Self, Offered) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let held: Arc<Mutex<Held>> = Arc::default();
        (Self { sender, held: held.clone() }, Offered { receiver, held })
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
        held.queue(offer);
        drop(held);
        // The judge ends only with the agent.
        let _ = self.sender.send(());
        true
    }
}

impl Offered {
    /// The next object to be judged; none once nobody is left to offer any.
    pub async fn recv(&mut self) -> Option<Waiting> {
        self.receiver.recv().await?;
        self.turn()
    }

    fn turn(&self) -> Option<Waiting> {
        let offer = lock(&self.held).take_turn()?;
        let bytes = offer.body.as_str().len();
        Some(Waiting { offer, bytes, held: self.held.clone() })
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

/// Judges offered objects one after the other, one of each neighbour in turn; `tell` is called with each
/// verdict and what entered.
pub async fn judge_offers(
    mut offers: Offered,
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
        Admission::Deferred { .. } => (Verdict::Deferred, Vec::new()),
        // A full disk here is no fault of whoever relays.
        Admission::Disk(_) => (Verdict::Later, Vec::new()),
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
    use crate::ledger::Ledger;
    use borgios_policy::{Lane, Statement, fixture};
    use borgios_types::SecretKey;

    fn offer(from: u8, bytes: usize) -> Offer {
        let body = Body::from_text(format!("\"{}\"", "x".repeat(bytes - 2))).unwrap();
        let from = SecretKey::from_seed([from; 32]).public();
        Offer { from, id: Digest::of(b"x"), kind: "note".into(), body }
    }

    #[test]
    fn whoever_floods_is_put_off_and_the_others_are_not() {
        let (offers, judge) = Offers::new();
        let flood = (0..10 * EACH_MAX).filter(|_| offers.push(offer(1, 300))).count();
        assert_eq!(flood, EACH_MAX);
        let large = (0..100).filter(|_| offers.push(offer(2, 512 * 1024))).count();
        assert_eq!(large, EACH_BYTES / (512 * 1024));
        assert!(offers.push(offer(3, 300)));
        while let Some(waiting) = judge.turn() {
            drop(waiting);
        }
        assert!(offers.push(offer(1, 300)), "what was judged is room again");
        drop(judge.turn());
        let held = lock(&offers.held);
        assert!(held.bytes == 0 && held.of.is_empty());
        assert!(held.queues.is_empty() && held.turns.is_empty());
    }

    #[tokio::test]
    async fn each_neighbour_has_its_turn_and_what_it_offers_keeps_its_order() {
        let (offers, mut judge) = Offers::new();
        for (from, bytes) in [(1, 300), (1, 301), (2, 400), (1, 302), (3, 500), (2, 401)] {
            assert!(offers.push(offer(from, bytes)));
        }
        drop(offers);
        let mut order = Vec::new();
        while let Some(waiting) = judge.recv().await {
            order.push(waiting.bytes);
        }
        assert_eq!(order, [300, 400, 500, 301, 401, 302]);
    }

    /// Whoever keeps the judge busy with statements that can only wait must not hold a veto up, or what it
    /// vetoes would be applied before.
    #[tokio::test]
    async fn an_object_is_behind_one_of_each_other_neighbour_at_most() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = LedgerHandle::spawn(Ledger::open(folder.path(), 0).unwrap()).unwrap();
        let (offers, judge) = Offers::new();
        let statement = |from: u8, seq: u64| {
            let (network, prev) = (Some(Digest::of(b"network")), Some(Digest::of(b"before")));
            let body = serde_json::json!({});
            let one = fixture::statement(Lane::Release, seq, network, prev, Some(9), body);
            let envelope = one.to_envelope();
            let body = Body::from_text(envelope.to_json()).unwrap();
            let from = SecretKey::from_seed([from; 32]).public();
            Offer { from, id: envelope.id(), kind: "release".into(), body }
        };
        for seq in 0..200 {
            assert!(
                offers.push(statement(1, 1_000 + seq)) && offers.push(statement(2, 2_000 + seq))
            );
        }
        let veto = statement(3, 7);
        let id = veto.id;
        assert!(offers.push(veto));
        drop(offers);
        let judged = Mutex::new(Vec::new());
        judge_offers(judge, ledger, async |id, _, verdict, _| {
            judged.lock().unwrap().push((id, verdict));
        })
        .await;
        let judged = judged.into_inner().unwrap();
        assert_eq!(judged.len(), 401);
        assert!(judged.iter().all(|(_, verdict)| *verdict == Verdict::Deferred));
        let at = judged.iter().position(|(judged, _)| *judged == id).unwrap();
        assert_eq!(at, 2, "behind one of each");
    }

    #[tokio::test]
    async fn nobody_pays_for_a_disk_that_takes_nothing() {
        let council = fixture::Council::new(3, 2, 1, 1);
        let now = crate::clock::unix_now();
        let dated = |draft| Statement { issued: now, expires: now.plus(86_400), ..draft };
        let first = council.sign(&dated(council.first_policy(2)));
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), 0).unwrap();
        ledger.pin(first.id()).unwrap();
        // A file where the objects' folder should be: stands in for any failing disk.
        let objects = folder.path().join("objects");
        std::fs::remove_dir_all(&objects).unwrap();
        std::fs::write(&objects, b"").unwrap();
        let ledger = LedgerHandle::spawn(ledger).unwrap();
        let body = Body::from_text(first.to_json()).unwrap();
        let from = SecretKey::from_seed([1; 32]).public();
        let (verdict, admitted) = judge(&ledger, from, first.id(), "policy", &body).await;
        assert_eq!((verdict, admitted.len()), (Verdict::Later, 0));
    }

    #[test]
    fn many_that_flood_share_one_bound() {
        let (offers, _judge) = Offers::new();
        let taken =
            (0..20).flat_map(|n| [n; 16]).filter(|n| offers.push(offer(*n, 512 * 1024))).count();
        assert_eq!(taken, ALL_BYTES / (512 * 1024));
    }
}
