//! The contacts a node remembers for the day when every relative is dead.

use borgios_types::NodeId;
use rand::Rng as _;
use rand::seq::SliceRandom as _;

use crate::contact::{Address, Contact};
use crate::dice::Dice;
use crate::sorted::SortedMap;

/// The contacts a node remembers, at most as many as it is told.
///
/// When it is full, a random one makes room: a stream of invented contacts can crowd out some of
/// the good ones, never choose which.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    contacts: SortedMap<NodeId, Address>,
    most: usize,
    dirty: bool,
}

impl Memory {
    pub(crate) fn new(most: usize) -> Self {
        Self { contacts: SortedMap::new(), most, dirty: false }
    }

    /// Remembers `contact`, or its new address; returns whether it was not remembered before.
    pub(crate) fn learn(&mut self, rng: &mut Dice, contact: &Contact) -> bool {
        let known = self.contacts.get(&contact.id);
        if known == Some(&contact.address) || !contact.plausible() || self.most == 0 {
            return false;
        }
        let new = known.is_none();
        if new && self.contacts.len() >= self.most {
            self.contacts.remove_at(rng.gen_range(0..self.contacts.len()));
        }
        self.contacts.insert(contact.id, contact.address.clone());
        self.dirty = true;
        new
    }

    /// Remembers this node no longer.
    pub(crate) fn forget(&mut self, id: &NodeId) {
        self.dirty |= self.contacts.remove(id).is_some();
    }

    /// All contacts, if they changed since this was last asked.
    pub(crate) fn take_changes(&mut self) -> Option<Vec<Contact>> {
        std::mem::take(&mut self.dirty).then(|| self.all().collect())
    }

    /// Up to `count` contacts that `fits` accepts, in random order.
    pub(crate) fn sample(
        &self,
        rng: &mut Dice,
        count: usize,
        fits: impl Fn(&NodeId) -> bool,
    ) -> Vec<Contact> {
        let fitting: Vec<_> = self.contacts.iter().filter(|(id, _)| fits(id)).collect();
        let chosen = fitting.choose_multiple(rng, count);
        chosen.map(|(id, address)| Contact::new(**id, (*address).clone())).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.contacts.is_empty()
    }

    fn all(&self) -> impl Iterator<Item = Contact> + '_ {
        self.contacts.iter().map(|(id, address)| Contact::new(*id, address.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::REMEMBERED_MAX;
    use borgios_types::SecretKey;

    #[test]
    fn never_holds_more_than_its_bound() {
        let mut rng = Dice::new(1);
        let mut memory = Memory::new(REMEMBERED_MAX);
        for n in 0..REMEMBERED_MAX as u32 + 20 {
            let mut seed = [0; 32];
            seed[..4].copy_from_slice(&n.to_le_bytes());
            let id = SecretKey::from_seed(seed).public();
            memory.learn(&mut rng, &Contact::new(id, format!("10.0.0.1:{n}")));
        }
        assert_eq!(memory.take_changes().unwrap().len(), REMEMBERED_MAX);
        assert!(memory.take_changes().is_none());
    }

    #[test]
    fn what_cannot_be_an_address_is_not_remembered() {
        let mut rng = Dice::new(1);
        let mut memory = Memory::new(REMEMBERED_MAX);
        let id = SecretKey::from_seed([1; 32]).public();
        for bad in [String::new(), "a b:1".to_owned(), "x".repeat(300)] {
            memory.learn(&mut rng, &Contact::new(id, bad));
        }
        assert!(memory.is_empty());
    }
}
