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
        let _lock = home.remembering()?;
        *self = Self::load(home)?;
        self.put(home, node)
    }

    /// Remembers a node of whose address nothing was known when it was dialled.
    ///
    /// # Errors
    /// Another command has remembered another key of that address since; that one stays.
    pub(crate) fn remember_first(&mut self, home: &Home, node: KnownNode) -> Result<(), Failure> {
        let _lock = home.remembering()?;
        *self = Self::load(home)?;
        let (address, key) = (&node.address, node.key);
        if let Some(before) = self.key(address).filter(|before| *before != key) {
            return Err(Failure::new(format!("could not talk to the node at {address}"))
                .because(format!("it showed the key {}", key.fingerprint()))
                .because(format!("another command has remembered {} since", before.fingerprint()))
                .hint(format!(
                    "if the server was reinstalled, `borgios connect {address} --forget` accepts its new \
                     key; if not, something stands between you and it"
                )));
        }
        self.put(home, node)
    }

    fn put(&mut self, home: &Home, node: KnownNode) -> Result<(), Failure> {
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

    /// A key that was named with `connect --key` while another command shook hands at first sight.
    #[test]
    fn a_key_remembered_meanwhile_is_not_replaced_at_first_sight() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(Some(folder.path().to_owned())).unwrap();
        let [mut one, mut other] = [(), ()].map(|()| KnownNodes::load(&home).unwrap());
        let node = |seed: u8| KnownNode {
            address: "10.0.0.3:7117".to_owned(),
            key: borgios_types::SecretKey::from_seed([seed; 32]).public(),
        };
        other.remember(&home, node(1)).unwrap();
        let said = one.remember_first(&home, node(2)).unwrap_err().to_text();
        assert!(said.contains("--forget"), "{said}");
        assert_eq!(KnownNodes::load(&home).unwrap().nodes(), [node(1)]);
        one.remember_first(&home, node(1)).unwrap();
        // Whoever names the key, or forgets the one before, does replace it.
        other.remember(&home, node(2)).unwrap();
        assert_eq!(KnownNodes::load(&home).unwrap().nodes(), [node(2)]);
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
