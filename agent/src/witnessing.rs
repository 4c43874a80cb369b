//! Root access that others have seen: this node signs that it saw a grant for another node, and
//! brings its own keeper what others signed about a grant for this one.
//!
//! ```text
//! grant for another node ─▶ asked? (by hash, among the members) ─▶ signed once, published
//! grant for this node ────▶ witnesses with their proofs ─▶ keeper, until it says open
//! ```
//!
//! Who is asked first can be known from the proposal on, and whoever may invite can make keys that come
//! before everybody's. So a grant that has too few witnesses is asked of twice as many every so often.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use borgios_policy::policy::WITNESSES_MAX;
use borgios_policy::witness::WITNESSES_ASKED;
use borgios_policy::{AccessClass, Object as _, Witness, WitnessProof};
use borgios_types::{Digest, NodeId, SecretKey, UnixSeconds};
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

/// How long a grant that lacks witnesses waits until twice as many members are asked.
const WIDENED: Duration = Duration::from_secs(30);
/// Most times of that: 32 million members.
const WIDENINGS_MAX: u32 = 20;

/// The grants that are in date here.
#[derive(Debug, Default)]
struct InDate {
    /// Since when this node knows each.
    since: BTreeMap<Digest, Instant>,
    /// Whether one of them lacks witnesses, and this node is not asked yet.
    lacking: bool,
}

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
    let mut in_date = InDate::default();
    loop {
        heads.mark_unchanged();
        let (own, mut grants, at) = (key.clone(), in_date, Instant::now());
        let sign = move |ledger: &mut Ledger| {
            let made = sign_due(ledger, &own, unix_now(), &mut grants, at);
            (made, grants)
        };
        let (made, grants) = ledger.run(sign).await;
        tree.publish(made).await;
        in_date = grants;
        let pace = if in_date.lacking { pace.min(WIDENED) } else { pace };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pace) => {}
            _ = heads.changed() => {}
        }
    }
}

/// Signs what is due and not signed yet; the newest grants only, as no more is kept of one node.
fn sign_due(
    ledger: &mut Ledger,
    key: &SecretKey,
    now: UnixSeconds,
    in_date: &mut InDate,
    at: Instant,
) -> Vec<Admitted> {
    let me = key.public();
    in_date.lacking = false;
    let (Some(network), Standing::Member) = (ledger.chain().network(), ledger.standing(now, &me))
    else {
        return Vec::new();
    };
    let due = due(ledger, &me, now, in_date, at);
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

/// The grants that this node is asked about and has not signed.
fn due(
    ledger: &Ledger,
    me: &NodeId,
    now: UnixSeconds,
    in_date: &mut InDate,
    at: Instant,
) -> Vec<Digest> {
    let revoked = ledger.chain().revoked();
    let grants: Vec<(NodeId, Digest)> = ledger
        .chain()
        .grants()
        .into_iter()
        .rev()
        .filter(|granted| {
            let grant = &granted.grant;
            let is_normal = grant.class == AccessClass::Normal;
            now < grant.before && is_normal && !revoked.contains(&grant.serial)
        })
        .take(WITNESSES_KEPT)
        .map(|granted| (granted.grant.node, granted.statement.id()))
        .collect();
    in_date.since.retain(|id, _| grants.iter().any(|(_, known)| known == id));
    if grants.is_empty() {
        return Vec::new();
    }
    let needed = usize::from(ledger.chain().policy().map_or(0, borgios_policy::Policy::witnesses));
    let members: BTreeSet<NodeId> = ledger.members(now).into_keys().collect();
    let signed = signed_by(ledger, me);
    // Those alone that a server would bring and its keeper count: no others may pass for enough.
    let ids: BTreeSet<Digest> = grants.iter().map(|(_, id)| *id).collect();
    let counts = ledger.count_witnesses(&ids, needed, PROOF_BYTES);
    let mut due = Vec::new();
    for (target, id) in grants {
        let since = *in_date.since.entry(id).or_insert(at);
        if target == *me || signed.contains(&id) {
            continue;
        }
        let is_lacking = counts.get(&id).copied().unwrap_or(0) < needed;
        let most = if is_lacking { asked_after(at.duration_since(since)) } else { WITNESSES_ASKED };
        let mut others = members.clone();
        others.remove(&target);
        if Witness::is_asked_of(me, &others, &id, most) {
            due.push(id);
        } else {
            in_date.lacking |= is_lacking;
        }
    }
    due
}

/// How many members are asked about a grant that is known for so long and lacks witnesses.
fn asked_after(known: Duration) -> usize {
    let times = known.as_secs() / WIDENED.as_secs();
    WITNESSES_ASKED << u32::try_from(times).unwrap_or(WIDENINGS_MAX).min(WIDENINGS_MAX)
}

/// The statements that a node signed that it saw.
fn signed_by(ledger: &Ledger, node: &NodeId) -> BTreeSet<Digest> {
    let owner = node.to_string();
    let owned = ledger.store().owned(Witness::KIND, &owner);
    owned.filter_map(|stored| Some(Witness::parse(&stored.envelope).ok()?.statement)).collect()
}

/// Whether a proof is brought at all.
fn fits(proof: &WitnessProof) -> bool {
    serde_json::to_string(proof).is_ok_and(|text| text.len() <= PROOF_BYTES)
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
            let witnesses =
                move |ledger: &mut Ledger| ledger.witnesses(&id, LOOKED_AT, PROOF_BYTES);
            let found = self.ledger.run(witnesses).await;
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
    found.retain(fits);
    found.sort_by_key(|proof| brought.contains(&proof.witness.id()));
    let news = found.first().is_some_and(|proof| !brought.contains(&proof.witness.id()));
    found.truncate(if news || again { usize::from(WITNESSES_MAX) } else { 0 });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use borgios_policy::fixture::{Council, statement as draft};
    use borgios_policy::{Invitation, Join, Lane, Statement};
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

    /// Keys that come before everybody's for a grant, and sign nothing, hold it up for a while only.
    #[test]
    fn a_grant_that_those_asked_first_do_not_witness_is_asked_of_others() {
        let keys: Vec<SecretKey> = (10..51).map(|seed| SecretKey::from_seed([seed; 32])).collect();
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), 0).unwrap();
        let (network, grant) = fleet(&mut ledger, &keys);
        // The first is the grant's own server.
        let mut others: Vec<&SecretKey> = keys[1..].iter().collect();
        others.sort_by_key(|key| Digest::of_parts(&[&grant.0, &key.public().to_bytes()]));
        let (now, begun) = (unix_now(), Instant::now());
        let mut in_date = InDate::default();
        let mut sign = |ledger: &mut Ledger, rank: usize, after_s: u64| {
            let at = begun + Duration::from_secs(after_s);
            sign_due(ledger, others[rank], now, &mut in_date, at).len()
        };
        // Two of those asked first say it at such length that nobody is brought it.
        for key in &others[1..3] {
            let witness = Witness { network, node: key.public(), statement: grant, at: now };
            let payload = witness.to_envelope().payload;
            let mut long: serde_json::Value = serde_json::from_str(&payload).unwrap();
            long["x"] = "y".repeat(PROOF_BYTES).into();
            let long = Envelope::unsigned(Kind::new("witness").unwrap(), long.to_string());
            let admitted = ledger.admit(long.sign(key), "a test");
            assert!(matches!(admitted, Admission::Admitted(_)), "{admitted:?}");
        }
        assert_eq!(sign(&mut ledger, 32, 0), 0);
        assert_eq!(sign(&mut ledger, 32, 29), 0);
        assert_eq!(sign(&mut ledger, 32, 30), 1);
        assert_eq!(sign(&mut ledger, 32, 31), 0, "once");
        // One is too few still; with two nobody else is asked.
        let witness = Witness { network, node: others[33].public(), statement: grant, at: now };
        let witness = witness.to_envelope().sign(others[33]);
        assert!(matches!(ledger.admit(witness, "a test"), Admission::Admitted(_)));
        let brought = ledger.witnesses(&grant, 2, PROOF_BYTES);
        assert_eq!(brought.len(), 2, "the long ones take no room");
        assert_eq!(sign(&mut ledger, 34, 600), 0);
        assert_eq!(sign(&mut ledger, 0, 600), 1, "who is asked first");
        assert!(!in_date.lacking);
    }

    /// Whoever kept an invitation that is over makes members of its own with it, whose first records lapsed
    /// before they came. No keeper counts what they sign.
    #[test]
    fn witnesses_that_no_keeper_counts_are_not_counted_and_not_brought() {
        let keys: Vec<SecretKey> = (10..16).map(|seed| SecretKey::from_seed([seed; 32])).collect();
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), 0).unwrap();
        let (network, grant) = fleet(&mut ledger, &keys);
        let (council, token) = (Council::new(3, 2, 1, 1), SecretKey::from_seed([9; 32]));
        let ago = |seconds| UnixSeconds(unix_now().0 - seconds);
        let (issued, expires) = (ago(7_200), ago(3_600));
        let over = Invitation { network, token: token.public(), uses: 100, issued, expires };
        let over = over.to_envelope().sign(&council.keys[&council.name(0)]);
        let invitation = over.id();
        assert!(matches!(ledger.admit(over, "a test"), Admission::Admitted(_)));
        let saw = |ledger: &mut Ledger, key: &SecretKey| {
            let (node, at) = (key.public(), unix_now());
            let witness = Witness { network, node, statement: grant, at };
            let admitted = ledger.admit(witness.to_envelope().sign(key), "a test");
            assert!(matches!(admitted, Admission::Admitted(_)), "{admitted:?}");
        };
        for seed in 60..62 {
            let key = SecretKey::from_seed([seed; 32]);
            let (issued, expires) = (ago(1_800), ago(900));
            let node = key.public();
            let join = Join {
                network,
                node,
                keeper: token.public(),
                name: "web".parse().unwrap(),
                address: None,
                owner: None,
                invitation,
                issued,
                expires,
            };
            let join = join.to_envelope().sign(&key).sign(&token);
            let refused = ledger.admit(join.clone(), "a test");
            assert!(matches!(refused, Admission::Refused { code: "expired", .. }), "{refused:?}");
            // As an older build let it in.
            ledger.store.put(join, node.to_string(), issued.0).unwrap();
            saw(&mut ledger, &key);
        }
        let ids = BTreeSet::from([grant]);
        assert_eq!(ledger.count_witnesses(&ids, 2, PROOF_BYTES), BTreeMap::new());
        assert_eq!(ledger.witnesses(&grant, LOOKED_AT, PROOF_BYTES), []);
        // Of those who are members enough are counted, and no more.
        for (count, key) in (1..).zip(&keys[1..5]) {
            saw(&mut ledger, key);
            let counted = ledger.count_witnesses(&ids, 2, PROOF_BYTES);
            assert_eq!(counted, BTreeMap::from([(grant, count.min(2))]));
        }
        let chain = ledger.chain();
        for proof in ledger.witnesses(&grant, LOOKED_AT, PROOF_BYTES) {
            let board = chain.policy().map(|policy| &policy.board);
            proof.verify(board.into_iter(), network, &grant).unwrap();
        }
    }

    /// A board, members, and a grant for the first of them; the network's id and the grant's.
    fn fleet(ledger: &mut Ledger, keys: &[SecretKey]) -> (Digest, Digest) {
        let (council, now) = (Council::new(3, 2, 1, 1), unix_now());
        let dated = |statement: Statement| {
            let expires = now.plus(86_400);
            council.sign(&Statement { issued: now, expires, ..statement })
        };
        let first = dated(council.first_policy(2));
        let network = first.id();
        ledger.pin(network).unwrap();
        let token = SecretKey::from_seed([9; 32]);
        let (issued, expires) = (now, now.plus(86_400));
        let invitation = Invitation { network, token: token.public(), uses: 100, issued, expires };
        let invitation = invitation.to_envelope().sign(&council.keys[&council.name(0)]);
        let by = invitation.id();
        let joined = keys.iter().map(|key| {
            let join = Join {
                network,
                node: key.public(),
                keeper: token.public(),
                name: "web".parse().unwrap(),
                address: None,
                owner: None,
                invitation: by,
                issued,
                expires,
            };
            join.to_envelope().sign(key).sign(&token)
        });
        let body = serde_json::json!({
            "order": "grant", "node": keys[0].public(), "serial": 1, "key": token.public(),
            "after": now, "before": now.plus(900), "class": "normal", "sources": [],
            "reason": "the disk is full",
        });
        let grant = dated(draft(Lane::Access, 1, Some(network), None, Some(1), body));
        let id = grant.id();
        for envelope in [first.clone(), invitation.clone()].into_iter().chain(joined).chain([grant])
        {
            let admitted = ledger.admit(envelope, "a test");
            assert!(matches!(admitted, Admission::Admitted(_)), "{admitted:?}");
        }
        (network, id)
    }
}
