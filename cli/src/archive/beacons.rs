//! Of the beacons of one identity key on one board only the newest says anything.
//!
//! By name alone it would be another one's: whoever took a key that was replaced since could send a beacon
//! that nothing comes after.

use borgios_policy::{Beacon, Board, Name, Object as _};
use borgios_types::{Envelope, PublicKey};

use super::{Archive, Held};

/// The board's group key, and the identity key that signs.
pub(super) type Sender = (PublicKey, PublicKey);

impl Archive {
    /// The newest beacon of a governor on a board.
    pub(crate) fn beacon_of(&self, board: &Board, name: &Name) -> Option<&Held<Beacon>> {
        self.beacons.get(&(board.group(), board.by_name(name)?.key))
    }

    /// Takes one that `key` signed, if it is newer; the file of the other one goes.
    pub(super) fn insert_beacon(&mut self, held: Held<Beacon>, key: PublicKey) {
        let sender = (held.value.group, key);
        let older = match self.beacons.get(&sender) {
            Some(known) if !held.value.is_after(&known.value) => held.envelope,
            _ => match self.beacons.insert(sender, held) {
                Some(known) => known.envelope,
                None => return,
            },
        };
        // Best effort: a file that stays is found to be old again.
        let _ = std::fs::remove_file(self.home.object(&older.kind, &older.id()));
    }

    /// Whether a beacon is here that makes this one say nothing.
    pub(super) fn is_outdated(&self, envelope: &Envelope) -> bool {
        let Ok(beacon) = Beacon::parse(envelope) else { return false };
        let known =
            envelope.sigs.iter().filter_map(|sig| self.beacons.get(&(beacon.group, sig.by)));
        let mut known = known.filter(|known| known.by == beacon.governor);
        known.any(|known| !beacon.is_after(&known.value))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use borgios_policy::fixture::{Council, NOW, statement as draft};
    use borgios_policy::{Beacon, Board, Lane, Object as _};
    use borgios_types::{Digest, SecretKey};

    use crate::archive::Archive;
    use crate::home::Home;

    /// Whoever took an old identity key sends beacons that nothing comes after: they are another one's.
    #[test]
    fn a_former_key_does_not_outrun_the_one_that_replaced_it() {
        let council = Council::new(3, 2, 1, 1);
        let first = council.sign(&council.first_policy(2));
        let network = first.id();
        let (name, key) = (council.name(0), SecretKey::from_seed([9; 32]));
        let old = &council.keys[&name];
        let mut governors = council.board.governors().to_vec();
        let before = governors[0].key;
        governors[0].former.push(before);
        governors[0].key = key.public();
        let (epoch, threshold) = (council.board.epoch(), council.board.threshold());
        let board = Board::new(epoch, threshold, council.board.group(), governors).unwrap();
        let mut policy = council.policy(2);
        policy.board = board.clone();
        let second =
            draft(Lane::Policy, 2, Some(network), Some(network), Some(1), policy.to_body());
        let second = council.sign(&second);
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(Some(folder.path().to_owned())).unwrap();
        let mut archive = Archive::load(&home, network).unwrap();
        let beacon = |counter: u64, key: &SecretKey| {
            let (group, governor, heads) = (board.group(), name.clone(), BTreeMap::new());
            Beacon { network, group, governor, time: NOW, heads, counter }.to_envelope().sign(key)
        };
        let hostile = beacon((1 << 53) - 1, old);
        let admitted = archive.admit(NOW, vec![first, second, hostile.clone()]).unwrap();
        assert_eq!(admitted.refused, Vec::<String>::new());
        let own = beacon(1, &key);
        assert_eq!(archive.admit(NOW, vec![own.clone()]).unwrap().new, vec![own.id()]);
        let held = |archive: &Archive| archive.find(&own.id()).map(|_| own.id());
        assert_eq!(held(&archive), Some(own.id()));
        assert_eq!(held(&Archive::load(&home, network).unwrap()), Some(own.id()));
        // Of each the newest alone stays.
        let next = beacon(2, &key);
        archive.admit(NOW, vec![next.clone(), own.clone()]).unwrap();
        assert_eq!(held(&archive), None::<Digest>);
        assert!(archive.find(&next.id()).is_some() && archive.find(&hostile.id()).is_some());
    }
}
