//! Judging what neighbours offer, beside the task that owns the tree's core: verifying and syncing
//! take longer than heartbeats may wait.

use borgios_peertree::{Body, Verdict};
use borgios_types::{Digest, Envelope, NodeId};
use tokio::sync::mpsc;
use tracing::warn;

use crate::admission::{BLAMELESS, UNDECIDED, may_hold_elsewhere};
use crate::ledger::{Admission, Admitted};
use crate::ledger_handle::LedgerHandle;

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

/// Judges offered objects one after the other, in the order they came; `tell` is called with each
/// verdict and what entered.
pub async fn judge_offers(
    mut offers: mpsc::UnboundedReceiver<Offer>,
    ledger: LedgerHandle,
    tell: impl AsyncFn(Digest, NodeId, Verdict, Vec<Admitted>),
) {
    while let Some(Offer { from, id, kind, body }) = offers.recv().await {
        let (verdict, admitted) = judge(&ledger, from, id, &kind, &body).await;
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
        Admission::Refused { code: "bad_signature", .. } if elsewhere(ledger, body).await => {
            (Verdict::Deferred, Vec::new())
        }
        Admission::Deferred { .. } | Admission::Disk(_) => (Verdict::Deferred, Vec::new()),
        Admission::Refused { .. } => (Verdict::Refused, Vec::new()),
    }
}

/// Whether an honest neighbour may take what this node refused for its signature.
async fn elsewhere(ledger: &LedgerHandle, body: &Body) -> bool {
    let Ok(envelope) = Envelope::parse(body.as_str().as_bytes()) else { return false };
    ledger.run(move |ledger| may_hold_elsewhere(ledger.chain(), ledger.store(), &envelope)).await
}
