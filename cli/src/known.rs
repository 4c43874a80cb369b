//! The nodes this person has talked to, with the keys they showed: `nodes.json`.
//!
//! A node cannot forge an object, so the key protects no decision; it makes sure that the same
//! server answers as last time, and an invitation is built from keys that were really seen.

use borgios_types::PublicKey;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::home::Home;

/// Largest `nodes.json`, in bytes.
const FILE_MAX: usize = 1024 * 1024;

/// A server's address and the key it proved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownNode {
    /// `host:port`.
    pub(crate) address: String,
    /// Its SSH host key, which is its name in the tree.
    pub(crate) key: PublicKey,
}

/// The list, newest last.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct KnownNodes {
    nodes: Vec<KnownNode>,
}

impl KnownNodes {
    /// Reads the list; empty if there is none.
    pub(crate) fn load(home: &Home) -> Result<Self, Failure> {
        let path = home.nodes();
        let Some(bytes) = durable::read(&path, FILE_MAX)? else { return Ok(Self::default()) };
        serde_json::from_slice(&bytes).or_fail(|| {
            format!("{} is not a list of nodes; remove it to start anew", path.display())
        })
    }

    /// The list.
    pub(crate) fn nodes(&self) -> &[KnownNode] {
        &self.nodes
    }

    /// The key that `address` showed before.
    pub(crate) fn key(&self, address: &str) -> Option<PublicKey> {
        self.nodes.iter().find(|node| node.address == address).map(|node| node.key)
    }

    /// Remembers a node, replacing what was known of its address. What another command has remembered
    /// since this list was read stays.
    pub(crate) fn remember(&mut self, home: &Home, node: KnownNode) -> Result<(), Failure> {
        *self = Self::load(home)?;
        if self.nodes.contains(&node) {
            return Ok(());
        }
        self.nodes.retain(|known| known.address != node.address);
        self.nodes.push(node);
        let text = serde_json::to_vec_pretty(self).or_fail(|| "could not encode the nodes")?;
        durable::folder(home.root())?;
        durable::write(&home.nodes(), &text)
    }
}

/// `host:port`, with the agent's usual port where none is named.
pub(crate) fn address(text: &str) -> Result<String, Failure> {
    let bad = || {
        Failure::usage(format!("{text:?} is not an address"))
            .hint("an address is HOST or HOST:PORT, such as 10.0.0.3:7117 or [fd00::3]:7117")
    };
    let (host, port) = match text.rsplit_once(':') {
        // A bare IPv6 address has colons, but no brackets.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port),
        Some(_) => return Err(bad()),
        None => (text, "7117"),
    };
    let fits = |c: char| c.is_ascii_graphic();
    if host.is_empty()
        || text.len() > 260
        || !host.chars().all(fits)
        || port.parse::<u16>().is_err()
    {
        return Err(bad());
    }
    Ok(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_commands_forget_nothing_of_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(Some(folder.path().to_owned())).unwrap();
        let [mut one, mut other] = [(), ()].map(|()| KnownNodes::load(&home).unwrap());
        let node = |seed: u8| KnownNode {
            address: format!("10.0.0.{seed}:7117"),
            key: borgios_types::SecretKey::from_seed([seed; 32]).public(),
        };
        one.remember(&home, node(1)).unwrap();
        other.remember(&home, node(2)).unwrap();
        assert_eq!(KnownNodes::load(&home).unwrap().nodes(), [node(1), node(2)]);
    }

    #[test]
    fn addresses_get_the_usual_port() {
        assert_eq!(address("10.0.0.3").unwrap(), "10.0.0.3:7117");
        assert_eq!(address("[fd00::3]:22").unwrap(), "[fd00::3]:22");
        for bad in ["", ":1", "a:b", "fd00::3", "a b", "a:99999"] {
            assert!(address(bad).is_err(), "{bad:?}");
        }
    }
}
