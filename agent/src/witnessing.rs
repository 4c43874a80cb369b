//! Root access that others have seen: this node signs that it saw a grant for another node, and
//! brings its own keeper what others signed about a grant for this one.
//!
//! ```text
//! grant for another node ─▶ asked? (by hash, among the members) ─▶ signed once, published
//! grant for this node ────▶ witnesses with their proofs ─▶ keeper, until it says open
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use borgios_policy::policy::WITNESSES_MAX;
use borgios_policy::{AccessClass, Object as _, Witness, WitnessProof};
use borgios_types::{Digest, SecretKey, UnixSeconds};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::clock::unix_now;
use crate::keeper::protocol::{AccessState, AccessStatus, Status};
use crate::keeper_client::KeeperError;
use crate::keeper_watch::KeeperWatch;
use crate::ledger::{Admission, Admitted, Ledger};
use crate::ledger_handle::LedgerHandle;
use crate::member_objects::WITNESSES_KEPT;
use crate::roll::Standing;
use crate::tree_handle::TreeHandle;

/// Witnesses looked at for one grant: as many members as are asked, and some more.
const LOOKED_AT: usize = 64;
/// Longest proof that is brought, in bytes of JSON: a usual one has two thousand, and one that is
/// blown up must not keep the others from fitting a line.
const PROOF_BYTES: usize = crate::frame::FRAME_MAX / 64;
/// Pause before the keeper is brought again what it did not count.
const AGAIN: Duration = Duration::from_secs(60);

/// What the keeper was brought for one grant.
#[derive(Debug)]
pub struct Brought {
    witnesses: BTreeSet<Digest>,
    at: Instant,
}

/// Signs, at each change of heads and now and then, that this node saw the grants it is asked about.
pub async fn run(
    key: SecretKey,
    ledger: LedgerHandle,
    tree: TreeHandle,
    pace: Duration,
    stop: CancellationToken,
) {
    let mut heads = ledger.heads();
    loop {
        heads.mark_unchanged();
        let own = key.clone();
        let made = ledger.run(move |ledger| sign_due(ledger, &own, unix_now())).await;
        tree.publish(made).await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pace) => {}
            _ = heads.changed() => {}
        }
    }
}

/// Signs what is due and not signed yet; the newest grants only, as no more is kept of one node.
fn sign_due(ledger: &mut Ledger, key: &SecretKey, now: UnixSeconds) -> Vec<Admitted> {
    let me = key.public();
    let (Some(network), Standing::Member) = (ledger.chain().network(), ledger.standing(now, &me))
    else {
        return Vec::new();
    };
    let members: BTreeSet<_> = ledger.members(now).into_keys().collect();
    let revoked = ledger.chain().revoked();
    let owner = me.to_string();
    let signed: BTreeSet<Digest> = ledger
        .store()
        .owned(Witness::KIND, &owner)
        .filter_map(|stored| Some(Witness::parse(&stored.envelope).ok()?.statement))
        .collect();
    let in_date = ledger.chain().grants().into_iter().rev().filter(|granted| {
        let grant = &granted.grant;
        now < grant.before && grant.class == AccessClass::Normal && !revoked.contains(&grant.serial)
    });
    let due: Vec<Digest> = in_date
        .take(WITNESSES_KEPT)
        .filter(|granted| {
            let (target, id) = (granted.grant.node, granted.statement.id());
            let mut others = members.clone();
            others.remove(&target);
            target != me && !signed.contains(&id) && Witness::is_asked(&me, &others, &id)
        })
        .map(|granted| granted.statement.id())
        .collect();
    let mut made = Vec::new();
    for statement in due {
        let witness = Witness { network, node: me, statement, at: now };
        match ledger.admit(witness.to_envelope().sign(key), "this node") {
            Admission::Admitted(all) => {
                info!(BORGIOS_EVENT = "witness", BORGIOS_OBJECT = %statement, "saw a grant");
                made.extend(all);
            }
            Admission::Known | Admission::Disk(_) => {}
            Admission::Deferred { why, .. } | Admission::Refused { why, .. } => {
                debug!("cannot be a witness now: {why}");
            }
        }
    }
    made
}

impl KeeperWatch {
    /// Brings the keeper the witnesses of each grant that waits for some: new ones at once, those
    /// it did not count now and then.
    pub(crate) async fn bring_witnesses(&mut self, status: &Status) -> Result<(), KeeperError> {
        self.brought.retain(|id, _| status.access.iter().any(|access| access.id == *id));
        let waits = |access: &&AccessStatus| {
            access.state == AccessState::Waiting && access.witnesses < access.needed
        };
        for AccessStatus { id, .. } in status.access.iter().filter(waits) {
            let id = *id;
            let found = self.ledger.run(move |ledger| ledger.witnesses(&id, LOOKED_AT)).await;
            let (proofs, now_brought) = match self.brought.get(&id) {
                Some(before) => {
                    let again = before.at.elapsed() >= AGAIN;
                    (choose(found, &before.witnesses, again), &before.witnesses)
                }
                None => (choose(found, &BTreeSet::new(), false), &BTreeSet::new()),
            };
            if proofs.is_empty() {
                continue;
            }
            let mut witnesses: BTreeSet<Digest> = now_brought.clone();
            witnesses.extend(proofs.iter().map(|proof| proof.witness.id()));
            self.brought.insert(id, Brought { witnesses, at: Instant::now() });
            match self.keeper.witness(id, proofs).await {
                Ok(()) => debug!(%id, "brought the keeper witnesses of a grant"),
                Err(KeeperError::Refused { code, message }) => {
                    debug!(code, %id, "the keeper takes no witnesses now: {message}");
                }
                Err(error) => {
                    // It heard nothing of them.
                    self.brought.remove(&id);
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// The proofs to bring, those that were not brought before first; none if there are none of these
/// and it is not time to try the others again.
fn choose(
    mut found: Vec<WitnessProof>,
    brought: &BTreeSet<Digest>,
    again: bool,
) -> Vec<WitnessProof> {
    found.retain(|proof| serde_json::to_string(proof).is_ok_and(|text| text.len() <= PROOF_BYTES));
    found.sort_by_key(|proof| brought.contains(&proof.witness.id()));
    let news = found.first().is_some_and(|proof| !brought.contains(&proof.witness.id()));
    found.truncate(if news || again { usize::from(WITNESSES_MAX) } else { 0 });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use borgios_types::{Envelope, Kind};

    fn proofs(count: usize) -> Vec<WitnessProof> {
        let envelope =
            |text: String| Envelope::unsigned(Kind::new("witness").unwrap(), format!("{text:?}"));
        let proof = |n: usize| WitnessProof {
            witness: envelope(n.to_string()),
            join: envelope("join".into()),
            invitation: envelope("invitation".into()),
        };
        (0..count).map(proof).collect()
    }

    #[test]
    fn new_witnesses_are_brought_first_and_old_ones_only_now_and_then() {
        let all = proofs(20);
        let ids = |proofs: &[WitnessProof]| -> BTreeSet<Digest> {
            proofs.iter().map(|proof| proof.witness.id()).collect()
        };
        let first = choose(all.clone(), &BTreeSet::new(), false);
        assert_eq!(first.len(), usize::from(WITNESSES_MAX));
        let second = choose(all.clone(), &ids(&first), false);
        assert!(ids(&all).difference(&ids(&first)).all(|id| ids(&second).contains(id)));
        assert!(choose(all.clone(), &ids(&all), false).is_empty());
        assert!(!choose(all.clone(), &ids(&all), true).is_empty());
        assert!(choose(Vec::new(), &ids(&all), true).is_empty());
    }

    #[test]
    fn a_proof_that_was_blown_up_does_not_crowd_out_the_others() {
        let mut all = proofs(3);
        all[0].join.payload = "x".repeat(PROOF_BYTES);
        let kept = choose(all.clone(), &BTreeSet::new(), false);
        assert_eq!(kept, all[1..]);
    }
}
