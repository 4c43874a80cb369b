//! Whom this node keeps cross links to, and who may keep one to it: members in an order that nobody can
//! steer.
//!
//! ```text
//!  join records ─▶ members that can be dialled ─▶ the smallest SHA-256("cross" ‖ me ‖ other ‖ week)
//!       │                                              │ CROSS_CANDIDATES_MAX of them, best first
//!       │                                              ▼ when they changed
//!       │                                            the tree's core, which keeps two up, and lets in
//!       │                                              ▲ the likeliest of those that say they chose it
//!       ▼                                              │ CROSS_CHOOSERS_MAX of them, likeliest first
//!    all members ────────────────────────────────▶ the smallest SHA-256("cross" ‖ other ‖ me ‖ week)
//! ```
//!
//! To know whose candidate this node is would take a hash for each pair of members. One for each member
//! tells nearly as much: the smaller it is, the fewer others come before this node at the one that chooses.
//!
//! A neighbour can keep records from this node only until a cross link brings them; it can add no
//! member of its own without an invitation; and which of them come first is decided by a hash that
//! changes every week (rendezvous hashing: Thaler and Ravishankar, 1998), so nobody can wait for long
//! for the right neighbours. Nor can a few identities hold the places of those whom it sends here: they
//! would need, for each node and each week, keys of which the hash makes more than of theirs.

use std::time::Duration;

use borgios_peertree::{Contact, bounds};
use borgios_types::{Digest, NodeId, UnixSeconds};
use tokio_util::sync::CancellationToken;

use crate::clock::unix_now;
use crate::ledger::Ledger;
use crate::ledger_handle::LedgerHandle;
use crate::tree_handle::TreeHandle;

/// Seconds after which the order changes.
const WEEK: u64 = 7 * 24 * 3_600;
/// First pause between two looks; a newcomer knows few members at first. It doubles up to the pace of
/// upkeep.
const FIRST: Duration = Duration::from_secs(2);

/// Tells the tree its candidates whenever they change, until `stop`.
pub async fn run(
    me: NodeId,
    ledger: LedgerHandle,
    tree: TreeHandle,
    upkeep: Duration,
    stop: CancellationToken,
) {
    let (mut told, mut named, mut pause) = (Vec::new(), Vec::new(), FIRST.min(upkeep));
    loop {
        let now = unix_now();
        let (candidates, choosers) = ledger
            .run(move |ledger| (candidates(ledger, me, now), choosers(ledger, me, now)))
            .await;
        if choosers != named {
            tree.choosers(choosers.clone()).await;
            named = choosers;
        }
        if candidates != told {
            tree.cross(candidates.clone()).await;
            told = candidates;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(upkeep),
        }
    }
}

/// The members to choose from, best first.
fn candidates(ledger: &Ledger, me: NodeId, now: UnixSeconds) -> Vec<Contact> {
    let members = ledger.members(now).into_iter();
    let dialable = members.filter_map(|(node, join)| Some(Contact::new(node, join.address?)));
    order(me, now, dialable.filter(|contact| contact.id != me && contact.plausible()).collect())
}

fn order(me: NodeId, now: UnixSeconds, mut members: Vec<Contact>) -> Vec<Contact> {
    members.sort_by_cached_key(|other| value(&me, &other.id, now));
    members.truncate(bounds::CROSS_CANDIDATES_MAX);
    members
}

/// The members that may have chosen this node, the likeliest first.
fn choosers(ledger: &Ledger, me: NodeId, now: UnixSeconds) -> Vec<NodeId> {
    let members = ledger.members(now).into_keys();
    choosing(me, now, members.filter(|node| *node != me).collect())
}

fn choosing(me: NodeId, now: UnixSeconds, mut members: Vec<NodeId>) -> Vec<NodeId> {
    members.sort_by_cached_key(|other| value(other, &me, now));
    members.truncate(bounds::CROSS_CHOOSERS_MAX);
    members
}

/// What a member counts at `chooser`, which keeps cross links to the smallest.
fn value(chooser: &NodeId, chosen: &NodeId, now: UnixSeconds) -> Digest {
    let week = (now.0 / WEEK).to_be_bytes();
    Digest::of_parts(&[b"cross", &chooser.to_bytes(), &chosen.to_bytes(), &week])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use borgios_types::SecretKey;

    use super::*;

    fn key(n: u8) -> NodeId {
        SecretKey::from_seed([n; 32]).public()
    }

    fn members() -> Vec<Contact> {
        (0..100).map(|n| Contact::new(key(n), format!("n{n}:7117"))).collect()
    }

    #[test]
    fn the_order_hangs_on_who_chooses_and_on_the_week_alone() {
        let now = UnixSeconds(1_800_000_000);
        let mut turned = members();
        turned.reverse();
        let mine = order(key(200), now, members());
        assert_eq!(mine.len(), bounds::CROSS_CANDIDATES_MAX);
        assert_eq!(mine, order(key(200), now.plus(60), turned));
        assert_ne!(mine, order(key(201), now, members()));
        assert_ne!(mine, order(key(200), now.plus(WEEK), members()));
        // Whoever is not a candidate changes nothing by going.
        let mut fewer = members();
        fewer.retain(|one| mine.contains(one) || one.id.to_bytes()[0] % 2 == 0);
        assert_eq!(mine, order(key(200), now, fewer));
    }

    #[test]
    fn whoever_has_this_node_among_its_candidates_is_among_its_choosers() {
        let now = UnixSeconds(1_800_000_000);
        let keys: Vec<NodeId> = members().iter().map(|one| one.id).collect();
        let expected = |me: NodeId| {
            choosing(me, now, keys.iter().filter(|one| **one != me).copied().collect())
        };
        let expected: BTreeMap<NodeId, Vec<NodeId>> =
            keys.iter().map(|me| (*me, expected(*me))).collect();
        for me in &keys {
            let others = members().into_iter().filter(|one| one.id != *me).collect();
            for peer in order(*me, now, others) {
                let of_peer = &expected[&peer.id];
                assert_eq!(of_peer.len(), bounds::CROSS_CHOOSERS_MAX);
                assert!(of_peer.contains(me), "{} is not expected", me.short());
            }
        }
        // Each node has an order of its own.
        assert_ne!(expected[&keys[0]], expected[&keys[1]]);
    }

    #[test]
    fn nobody_is_chosen_by_many() {
        let now = UnixSeconds(1_800_000_000);
        let mut chosen: BTreeMap<NodeId, usize> = BTreeMap::new();
        for me in 0..100 {
            let others = members().into_iter().filter(|one| one.id != key(me)).collect();
            for peer in order(key(me), now, others).into_iter().take(bounds::CROSS_LINKS) {
                *chosen.entry(peer.id).or_default() += 1;
            }
        }
        let most = chosen.values().max().copied().unwrap_or_default();
        assert!(most <= bounds::CROSS_ACCEPTED_MAX, "one is chosen by {most}");
    }
}
