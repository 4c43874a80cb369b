//! Where a node can be reached, and where a free place in the tree is.

use core::fmt;
use std::ops::Deref;
use std::sync::Arc;

use borgios_types::NodeId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bounds::ADDRESS_MAX;

/// `host:port`; copies share their text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(Arc<str>);

impl Deref for Address {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Arc<str>>> From<T> for Address {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// A node that can be dialled: who must answer, and where.
///
/// A node without an address has no contact: it dials out, stays a leaf, and is never named in a
/// redirect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Contact {
    /// The key that must answer there.
    pub id: NodeId,
    /// `host:port`.
    pub address: Address,
}

impl Contact {
    /// Names a node and its address.
    #[must_use]
    pub fn new(id: NodeId, address: impl Into<Address>) -> Self {
        Self { id, address: address.into() }
    }

    /// Whether the address has a length that can be one; the shell finds out the rest by dialling.
    #[must_use]
    pub fn plausible(&self) -> bool {
        // Every message's contacts come through here: all bytes looked at without a branch, which
        // the compiler turns into a few wide comparisons.
        let graphic =
            |text: &str| text.bytes().fold(true, |all, byte| all & (byte > b' ' && byte < 0x7f));
        !self.address.is_empty()
            && self.address.len() <= ADDRESS_MAX
            && (graphic(&self.address)
                || !self.address.chars().any(|c| c.is_control() || c.is_whitespace()))
    }
}

/// A list of contacts; copies share it, for all children of a node are told the same.
#[derive(Clone, Debug, Default)]
pub struct Contacts(Arc<[Contact]>);

impl Contacts {
    /// Whether both are one list in memory; false says nothing about what they hold.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Deref for Contacts {
    type Target = [Contact];

    fn deref(&self) -> &[Contact] {
        &self.0
    }
}

impl PartialEq for Contacts {
    fn eq(&self, other: &Self) -> bool {
        self.is(other) || self.0 == other.0
    }
}

impl Eq for Contacts {}

impl<'a> IntoIterator for &'a Contacts {
    type Item = &'a Contact;
    type IntoIter = std::slice::Iter<'a, Contact>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl std::hash::Hash for Contacts {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl FromIterator<Contact> for Contacts {
    fn from_iter<I: IntoIterator<Item = Contact>>(contacts: I) -> Self {
        Self(contacts.into_iter().collect())
    }
}

impl From<Vec<Contact>> for Contacts {
    fn from(contacts: Vec<Contact>) -> Self {
        Self(contacts.into())
    }
}

impl Serialize for Contacts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Contacts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

/// A node with room for one more child.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Spot {
    /// Steps from whoever reports it (going up), or from the root (going down).
    pub depth: u32,
    /// The node that has room.
    pub at: Contact,
}
