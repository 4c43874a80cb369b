//! What is let go of where there is more than is kept: invitations that nobody used, and servers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use borgios_policy::Invitation;
use borgios_types::{Digest, Envelope, NodeId, PublicKey, UnixSeconds};

use super::uses::is_bygone;
use super::{Server, Servers};

/// Most invitations kept with which no server joined.
pub(super) const INVITATIONS_MAX: usize = 4_096;
/// Most of these of one governor's key: as many as a node holds of one governor.
pub(super) const INVITATIONS_EACH: usize = 256;

/// How much a server has to say for its place. The order is that in which they stay.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// Known, and not out.
    Known,
    /// Not known until now, and not out.
    New,
    /// Departed, or its records lapsed for good, and known.
    Past,
    /// The same, and not known until now.
    NewPast,
    /// Put out by a statement.
    Evicted,
}

/// A server, and by whom it came here.
#[derive(Clone, Copy)]
struct Guest {
    /// The governor's key.
    by: Option<PublicKey>,
    invitation: Digest,
    /// When its newest record lapses.
    lapses: UnixSeconds,
    standing: Standing,
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
    /// joined, and the part of each among its invitations; but most of it is for those who are known.
    pub(super) fn drop_surplus(&mut self) -> (BTreeSet<Digest>, usize) {
        let mut dropped = BTreeSet::new();
        if self.servers.len() <= self.most {
            return (dropped, 0);
        }
        let guests = self.servers.iter().map(|(node, server)| {
            let invitation = server.first.value.invitation;
            let by = self.invitations.get(&invitation).map(|(by, _)| *by);
            let (lapses, standing) = (server.lapses().newest, self.standing(node, server));
            Guest { by, invitation, lapses, standing, node: *node }
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

    fn standing(&self, node: &NodeId, server: &Server) -> Standing {
        let is_past = server.departed().is_some() || is_bygone(server.lapses().newest, self.now);
        match (is_past, self.newcomers.contains(node)) {
            _ if self.evicted.contains(node) => Standing::Evicted,
            (false, false) => Standing::Known,
            (false, true) => Standing::New,
            (true, false) => Standing::Past,
            (true, true) => Standing::NewPast,
        }
    }
}

/// Who has no room. One governor after the other keeps a server, then each a second one, until all is taken:
/// who has few keeps them all, and who has most gives way. So do the invitations of each governor; of one
/// invitation's servers those go that lapse first.
///
/// That holds among those of one standing. Whoever comes takes no place of one who is known and not out: dates
/// and invitations are cheap to whoever makes them, and the true servers were there first. Only half of the
/// room is shared out to all alike, so that nobody who came early has filled it for good.
fn surplus(mut all: Vec<Guest>, room: usize) -> BTreeSet<NodeId> {
    all.sort_unstable_by_key(|one| (one.standing, Reverse(one.lapses), one.node));
    let out = all.partition_point(|one| one.standing <= Standing::New);
    let past = all.split_off(out);
    let turns = shared_out(all);
    let governors = turns.iter().map(|(_, one)| one.by).collect::<BTreeSet<_>>().len();
    let own = room / governors.saturating_mul(2).max(1);
    let (mut stay, mut others): (Vec<_>, Vec<_>) =
        turns.into_iter().partition(|(turn, _)| *turn <= own);
    // Both sorts keep the order of the turns.
    others.sort_by_key(|(_, one)| one.standing);
    let mut past = shared_out(past);
    past.sort_by_key(|(_, one)| one.standing);
    stay.extend(others);
    stay.extend(past);
    stay.into_iter().skip(room).map(|(_, one)| one.node).collect()
}

/// The governors in turns, and the invitations of each in turns; with the turn of its governor.
fn shared_out(all: Vec<Guest>) -> Vec<(usize, Guest)> {
    let of_each = in_turns(all, |one| one.invitation).into_iter().map(|(_, one)| one);
    in_turns(of_each, |one| one.by)
}

/// The first of each kind, then the second of each, and so on; else in the order in which they are.
fn in_turns<K: Ord>(
    all: impl IntoIterator<Item = Guest>,
    kind: impl Fn(&Guest) -> K,
) -> Vec<(usize, Guest)> {
    let mut came = BTreeMap::<K, usize>::new();
    let mut turns: Vec<(usize, Guest)> = Vec::new();
    for one in all {
        let turn = came.entry(kind(&one)).or_default();
        *turn += 1;
        turns.push((*turn, one));
    }
    turns.sort_by_key(|(turn, _)| *turn);
    turns
}

#[cfg(test)]
mod tests {
    use borgios_types::SecretKey;

    use super::*;

    fn key(number: u8) -> PublicKey {
        SecretKey::from_seed([number; 32]).public()
    }

    fn guest(by: u8, invitation: &str, lapses: u64, node: u8) -> Guest {
        let (by, lapses, standing) = (Some(key(by)), UnixSeconds(lapses), Standing::Known);
        let invitation = Digest::of(invitation.as_bytes());
        Guest { by, invitation, lapses, standing, node: key(node) }
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

    /// Whoever is known and not out has the first word, and whoever is out the last.
    #[test]
    fn newcomers_take_the_places_of_those_who_are_out() {
        let as_one = |standing, one: Guest| Guest { standing, ..one };
        // The first governor has most of the table; the second one brings more than it holds.
        let known = (10..16).map(|node| guest(1, "first", 5, node));
        let new = (30..50).map(|node| as_one(Standing::New, guest(2, "flood", u64::MAX, node)));
        let all: Vec<Guest> = known.chain(new).collect();
        let gone = surplus(all.clone(), 8);
        assert_eq!(gone.len(), 18);
        assert!((10..16).all(|node| !gone.contains(&key(node))), "{gone:?}");
        let out = [(Standing::Past, 60), (Standing::Evicted, 61), (Standing::NewPast, 62)];
        let out = out.map(|(standing, node)| as_one(standing, guest(3, "out", u64::MAX, node)));
        let all: Vec<Guest> = all.into_iter().chain(out).collect();
        let left = |room: usize| {
            let gone = surplus(all.clone(), room);
            [60, 61, 62].map(|node| !gone.contains(&key(node)))
        };
        assert_eq!(left(26), [false; 3]);
        assert_eq!(left(27), [true, false, false]);
        assert_eq!(left(28), [true, false, true]);
    }
}
