//! What is let go of where there is more than is kept: invitations that nobody used, and servers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use borgios_policy::Invitation;
use borgios_types::{Digest, Envelope, NodeId, PublicKey, UnixSeconds};

use super::Servers;

/// Most invitations kept with which no server joined.
pub(super) const INVITATIONS_MAX: usize = 4_096;
/// Most of these of one governor's key: as many as a node holds of one governor.
pub(super) const INVITATIONS_EACH: usize = 256;

/// A server, and by whom it came here.
#[derive(Clone, Copy)]
struct Guest {
    /// The governor's key.
    by: Option<PublicKey>,
    invitation: Digest,
    /// When its newest record lapses.
    lapses: UnixSeconds,
    node: NodeId,
}

impl Servers {
    /// Lets go of invitations with which no server joined, where there are too many: of the governor who
    /// made them those that had lapsed when the newest was made, then the oldest go, and their files. Which
    /// they were, and of how many that is to be said, once: there was a file, and they had not lapsed. A
    /// folder hands the others over again with every look.
    pub(super) fn drop_crowd(&mut self) -> (BTreeSet<Digest>, usize) {
        let mut newest = BTreeMap::<PublicKey, UnixSeconds>::new();
        for (by, held) in self.invitations.values() {
            let date = newest.entry(*by).or_default();
            *date = held.value.issued.max(*date);
        }
        let had_lapsed = |by: &PublicKey, invitation: &Invitation| {
            newest.get(by).is_some_and(|newest| invitation.expires < *newest)
        };
        let mut unused: Vec<_> = self
            .invitations
            .iter()
            .filter(|(id, _)| !self.joined.contains_key(*id))
            .map(|(id, (by, held))| {
                let lapsed = had_lapsed(by, &held.value);
                (lapsed, Reverse(held.value.issued), Reverse(*id), *by, held.envelope.kind.clone())
            })
            .collect();
        // The newest first.
        unused.sort_by_key(|(lapsed, issued, id, ..)| (*lapsed, *issued, *id));
        let (mut of_each, mut kept) = (BTreeMap::<PublicKey, usize>::new(), 0);
        let (mut dropped, mut lost) = (BTreeSet::new(), 0);
        for (lapsed, _, Reverse(id), by, kind) in unused {
            let own = of_each.entry(by).or_default();
            if *own < INVITATIONS_EACH && kept < INVITATIONS_MAX {
                (*own, kept) = (*own + 1, kept + 1);
                continue;
            }
            self.invitations.remove(&id);
            // What stays by accident is dropped again.
            let was_stored = std::fs::remove_file(self.home.object(&kind, &id)).is_ok();
            lost += usize::from(was_stored && !lapsed);
            dropped.insert(id);
        }
        (dropped, lost)
    }

    /// Lets go of servers where there are too many, with all that is held of them and their files: what
    /// that was, and how many servers. The room is shared out among the governors by whose invitations they
    /// joined, and the part of each among its invitations.
    pub(super) fn drop_surplus(&mut self) -> (BTreeSet<Digest>, usize) {
        let mut dropped = BTreeSet::new();
        if self.servers.len() <= self.most {
            return (dropped, 0);
        }
        let guests = self.servers.iter().map(|(node, server)| {
            let invitation = server.first.value.invitation;
            let by = self.invitations.get(&invitation).map(|(by, _)| *by);
            Guest { by, invitation, lapses: server.lapses(), node: *node }
        });
        let gone = surplus(guests.collect(), self.most);
        let mut objects: Vec<Envelope> = Vec::new();
        for seen in self.witnesses.values_mut() {
            let of_them: Vec<NodeId> =
                seen.keys().filter(|node| gone.contains(*node)).copied().collect();
            objects.extend(of_them.iter().filter_map(|node| seen.remove(node)));
        }
        self.witnesses.retain(|_, seen| !seen.is_empty());
        for server in gone.iter().filter_map(|node| self.servers.remove(node)) {
            objects.extend(server.into_envelopes());
        }
        self.joined.values_mut().for_each(|joined| joined.remove(&gone));
        self.joined.retain(|_, joined| !joined.is_empty());
        for envelope in objects {
            let id = envelope.id();
            // What stays by accident is dropped again, or left out at the next start.
            let _ = std::fs::remove_file(self.home.object(&envelope.kind, &id));
            dropped.insert(id);
        }
        (dropped, gone.len())
    }
}

/// Who has no room. One governor after the other keeps a server, then each a second one, until all is taken:
/// who has few keeps them all, and who has most gives way. So do the invitations of each governor; of one
/// invitation's servers those go that lapse first.
fn surplus(mut all: Vec<Guest>, room: usize) -> BTreeSet<NodeId> {
    all.sort_unstable_by_key(|one| (Reverse(one.lapses), one.node));
    let all = in_turns(in_turns(all, |one| one.invitation), |one| one.by);
    all.into_iter().skip(room).map(|one| one.node).collect()
}

/// The first of each kind, then the second of each, and so on; else in the order in which they are.
fn in_turns<K: Ord>(all: Vec<Guest>, kind: impl Fn(&Guest) -> K) -> Vec<Guest> {
    let mut came = BTreeMap::<K, usize>::new();
    let mut turns: Vec<(usize, Guest)> = Vec::new();
    for one in all {
        let turn = came.entry(kind(&one)).or_default();
        *turn += 1;
        turns.push((*turn, one));
    }
    turns.sort_by_key(|(turn, _)| *turn);
    turns.into_iter().map(|(_, one)| one).collect()
}

#[cfg(test)]
mod tests {
    use borgios_types::SecretKey;

    use super::*;

    fn key(number: u8) -> PublicKey {
        SecretKey::from_seed([number; 32]).public()
    }

    fn guest(by: u8, invitation: &str, lapses: u64, node: u8) -> Guest {
        let (by, lapses) = (Some(key(by)), UnixSeconds(lapses));
        Guest { by, invitation: Digest::of(invitation.as_bytes()), lapses, node: key(node) }
    }

    #[test]
    fn who_has_most_gives_way() {
        // One governor has nine by one invitation and one by another; the second one has three, the third
        // one each by three.
        let mut all: Vec<Guest> = (10..19).map(|node| guest(1, "many", 1_000, node)).collect();
        all.push(guest(1, "one", 5, 20));
        all.extend([(3, 30), (2, 31), (1, 32)].map(|(lapses, node)| guest(2, "few", lapses, node)));
        all.extend([40, 41, 42].map(|node| guest(3, &format!("of {node}"), 0, node)));
        let gone = |room: usize| surplus(all.clone(), room);
        assert!(gone(16).is_empty());
        // Of ten places each has three, and one goes to whoever has more.
        let ten = gone(10);
        assert_eq!(ten.len(), 6);
        assert!(ten.iter().all(|node| (10..19).any(|many| key(many) == *node)), "{ten:?}");
        // Of six each has two: who lapses last, and of the first governor one by each invitation.
        let six = gone(6);
        assert!(six.contains(&key(32)) && !six.contains(&key(30)) && !six.contains(&key(20)));
        assert_eq!(six.iter().filter(|node| (10..19).any(|many| key(many) == **node)).count(), 8);
        assert_eq!(six.len(), 10);
    }
}
