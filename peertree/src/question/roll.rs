//! Who answered, one by one, as long as they are not too many.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use borgios_types::NodeId;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::bounds::ROLL_MAX;

/// A node in short: the first eight bytes of its key, big endian. Two members with the same one are
/// made on purpose only, with 2^32 keys, and then one of them is not missed when it is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(pub u64);

impl Tag {
    /// The tag of a node.
    #[must_use]
    pub fn of(node: &NodeId) -> Self {
        let mut first = [0; 8];
        first.copy_from_slice(&node.to_bytes()[..8]);
        Self(u64::from_be_bytes(first))
    }
}

/// The tags of those who answered, or that there were more than [`ROLL_MAX`].
///
/// On the wire one text of 16 hexadecimal digits each, in order; `null` for too many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roll(Option<BTreeSet<Tag>>);

impl Default for Roll {
    fn default() -> Self {
        Self(Some(BTreeSet::new()))
    }
}

impl Roll {
    /// More than can be listed.
    #[must_use]
    pub fn too_many() -> Self {
        Self(None)
    }

    /// The roll of one node.
    #[must_use]
    pub fn one(node: &NodeId) -> Self {
        Self(Some(BTreeSet::from([Tag::of(node)])))
    }

    /// Those listed; `None` for too many.
    #[must_use]
    pub fn tags(&self) -> Option<&BTreeSet<Tag>> {
        self.0.as_ref()
    }

    /// Keeps at most `most` of them, evenly of all there are. If they were too many to list and should not
    /// have been, none.
    pub(crate) fn thin(&mut self, most: u64) {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        match &mut self.0 {
            Some(tags) if tags.len() > most => {
                let (all, mut at) = (tags.len(), 0);
                tags.retain(|_| {
                    at += 1;
                    at * most / all > (at - 1) * most / all
                });
            }
            Some(_) => {}
            None if most > ROLL_MAX => {}
            None => *self = Self::default(),
        }
    }

    /// Takes those out that another one lists.
    pub(crate) fn remove(&mut self, other: &Self) {
        if let (Some(tags), Some(theirs)) = (&mut self.0, &other.0) {
            tags.retain(|tag| !theirs.contains(tag));
        }
    }

    /// Those of both. Too many is final, so the order of merging makes no difference.
    pub fn merge(&mut self, other: Self) {
        self.0 = match (self.0.take(), other.0) {
            (Some(mut mine), Some(theirs)) => {
                mine.extend(theirs);
                (mine.len() <= ROLL_MAX).then_some(mine)
            }
            _ => None,
        };
    }
}

impl Serialize for Roll {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.0.as_ref().map(|tags| {
            let mut text = String::with_capacity(16 * tags.len());
            for tag in tags {
                // Writing into a text cannot fail.
                let _ = write!(text, "{:016x}", tag.0);
            }
            text
        });
        text.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Roll {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else {
            return Ok(Self(None));
        };
        if text.len() % 16 != 0 || text.len() > 16 * ROLL_MAX || !text.is_ascii() {
            return Err(D::Error::custom("not a roll of at most 8192 nodes"));
        }
        let mut tags = BTreeSet::new();
        for at in (0..text.len()).step_by(16) {
            let tag = u64::from_str_radix(&text[at..at + 16], 16).map_err(D::Error::custom)?;
            tags.insert(Tag(tag));
        }
        Ok(Self(Some(tags)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roll(tags: impl IntoIterator<Item = u64>) -> Roll {
        Roll(Some(tags.into_iter().map(Tag).collect()))
    }

    #[test]
    fn a_roll_reads_back_and_nonsense_does_not() {
        for written in [Roll::default(), roll([7, u64::MAX, 0]), Roll::too_many()] {
            let text = serde_json::to_string(&written).unwrap();
            assert_eq!(serde_json::from_str::<Roll>(&text).unwrap(), written, "{text}");
        }
        let long = format!("\"{}\"", "0".repeat(16 * (ROLL_MAX + 1)));
        for bad in ["\"0\"", "\"000000000000000g\"", "7", "\"0000000üü000000\"", long.as_str()] {
            assert!(serde_json::from_str::<Roll>(bad).is_err(), "{bad:.40}");
        }
    }

    #[test]
    fn too_many_is_too_many_in_any_order() {
        let max = ROLL_MAX as u64;
        let parts = [roll(0..max - 1), roll(max - 3..max), roll(max..max + 1)];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]] {
            let mut all = Roll::default();
            order.into_iter().for_each(|at| all.merge(parts[at].clone()));
            assert_eq!(all, Roll::too_many());
        }
        let mut whole = parts[0].clone();
        whole.merge(parts[1].clone());
        assert_eq!(whole.tags().map(BTreeSet::len), Some(ROLL_MAX));
    }
}
