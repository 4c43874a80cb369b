//! What every command is given: where the folder is, how to ask, whom to talk to.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use borgios_policy::Name;
use borgios_types::{Digest, Envelope, UnixSeconds};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::archive::Archive;
use crate::commands::export::quoted;
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::home::{Home, Lock};
use crate::identity::Identity;
use crate::known::{self, KnownNode, KnownNodes};
use crate::passphrase::Source;
use crate::printer::Printer;
use crate::transport::Transport;
use crate::transport::api::Door;
use crate::transport::folder::Folder;
use crate::transport::node::Node;
use crate::transport::socket::Socket;

/// Largest `board.json`, in bytes.
const BOARD_MAX: usize = 64 * 1024;

/// Most remembered nodes that one command talks to: two would do, one may be down.
const NODES_TRIED: usize = 3;

/// The settings of one run.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The governor's folder.
    pub(crate) home: Home,
    /// What prints.
    pub(crate) printer: Printer,
    /// How to get the passphrase.
    pub(crate) passphrase: Source,
    /// Nodes named on the command line, `host:port`.
    pub(crate) nodes: Vec<String>,
    /// The exchange folder named on the command line.
    pub(crate) exchange: Option<PathBuf>,
    /// The agent's socket on this server.
    pub(crate) socket: PathBuf,
}

/// `governor/board.json`: which network this governor belongs to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Membership {
    /// Id of policy/1.
    pub(crate) network: Digest,
    /// The network's name, for people.
    pub(crate) name: Name,
    /// In the folder of a member of a recovery board, the id of that board's paper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) recovery: Option<Digest>,
}

/// The address of a node, and what it said.
pub(crate) type Said = (String, Result<Value, Failure>);

impl Context {
    /// The system clock.
    pub(crate) fn now(&self) -> UnixSeconds {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        UnixSeconds(since.map(|since| since.as_secs()).unwrap_or_default())
    }

    /// Takes the folder's lock; says so if another command has to end first.
    pub(crate) fn lock(&self) -> Result<Lock, Failure> {
        if let Some(other) = self.home.busy()? {
            self.printer.say(&format!("another command works in this folder ({other}): waiting"));
        }
        self.home.lock()
    }

    /// Opens the identity, which asks for the passphrase.
    pub(crate) fn identity(&self) -> Result<Identity, Failure> {
        Identity::open(&self.home, self.passphrase)
    }

    /// The network this folder belongs to.
    pub(crate) fn membership(&self) -> Result<Membership, Failure> {
        let path = self.home.governor("board.json");
        let Some(bytes) = durable::read(&path, BOARD_MAX)? else {
            return Err(Failure::new(format!(
                "{} belongs to no network yet",
                self.home.root().display()
            ))
            .because(format!("{} does not exist", path.display()))
            .hint(
                "found one with `borgios governor found --exchange DIR`, or name another \
                       folder with `--home DIR`",
            ));
        };
        serde_json::from_slice(&bytes).or_fail(|| format!("{} is damaged", path.display()))
    }

    /// The archive of this folder's network.
    pub(crate) fn archive(&self) -> Result<Archive, Failure> {
        Archive::open(&self.home, self.membership()?.network)
    }

    /// The places to exchange objects with: those named on the command line, else the nodes
    /// talked to last. `identity` opens nodes; without one only the folder is used.
    ///
    /// A place that does not answer is said and skipped, if another one does.
    pub(crate) fn transports(
        &self,
        identity: Option<&Identity>,
    ) -> Result<Vec<Box<dyn Transport>>, Failure> {
        let mut open: Vec<Box<dyn Transport>> = Vec::new();
        if let Some(folder) = &self.exchange {
            open.push(Box::new(Folder::at(folder)?));
        }
        // Nodes talk to governors of the board in force; a recovery board has folders.
        let recoverer = self.membership().is_ok_and(|membership| membership.recovery.is_some());
        let Some(identity) = identity.filter(|_| !recoverer) else { return Ok(open) };
        let mut failed = None;
        for address in self.addresses()? {
            match self.connect(&address, identity) {
                Ok(node) => open.push(Box::new(node)),
                Err(failure) => {
                    if let Some(earlier) = failed.replace(failure) {
                        self.printer.warn(&earlier.summary());
                    }
                }
            }
        }
        match (failed, open.is_empty()) {
            (Some(failure), true) => Err(failure),
            (Some(failure), false) => {
                self.printer.warn(&failure.summary());
                Ok(open)
            }
            (None, _) => Ok(open),
        }
    }

    /// Whether anything would be exchanged over the network, for which an identity is needed.
    pub(crate) fn talks_to_nodes(&self) -> Result<bool, Failure> {
        Ok(!self.addresses()?.is_empty())
    }

    /// Connects to one node and remembers its key.
    pub(crate) fn connect(&self, address: &str, identity: &Identity) -> Result<Node, Failure> {
        let mut known = KnownNodes::load(&self.home)?;
        let expected = known.key(address);
        let node = Node::connect(address, expected, identity)?;
        if expected.is_none() {
            let key = node.key();
            self.printer.say(&format!("{address} shows the key {}", key.fingerprint()));
            known.remember_first(&self.home, KnownNode { address: address.to_owned(), key })?;
        }
        Ok(node)
    }

    /// Brings a policy of a recovery key to the nodes of this run, which take it from anyone; what each
    /// said.
    pub(crate) fn bring_recovery(
        &self,
        identity: &Identity,
        envelope: &Envelope,
    ) -> Result<Vec<Said>, Failure> {
        let mut said = Vec::new();
        for address in self.nodes.iter().map(|node| known::address(node)) {
            let address = address?;
            let answer = self
                .connect(&address, identity)
                .and_then(|mut node| node.ask(&json!({"put": "envelope", "envelope": envelope})));
            said.push((address, answer));
        }
        Ok(said)
    }

    /// A door to ask for what an agent knows: a node named with `--node`, else the socket of this
    /// server, else a node talked to before.
    pub(crate) fn door(&self) -> Result<Box<dyn Door>, Failure> {
        if self.nodes.is_empty() && (self.socket.exists() || !self.talks_to_nodes()?) {
            // One that may not be looked at is asked, and says so itself.
            return match self.socket.try_exists() {
                Ok(false) => Err(self.no_node()),
                Ok(true) | Err(_) => Ok(Box::new(Socket::at(&self.socket))),
            };
        }
        let identity = self.identity()?;
        let addresses = self.addresses()?;
        let mut failed = Vec::new();
        for address in &addresses {
            match self.connect(address, &identity) {
                Ok(node) => return Ok(Box::new(node)),
                Err(failure) => failed.push(failure),
            }
        }
        Err(none_answers(&addresses, failed))
    }

    /// Why there is nobody to ask: on a laptop that never talked to a node, as a rule.
    fn no_node(&self) -> Failure {
        let known = match self.exchange {
            None => "none was talked to before",
            Some(_) => "with `--exchange` none of those talked to before is asked",
        };
        let socket = self.socket.display();
        Failure::new("there is no node to ask")
            .because(format!("`--node` names none, {known}, and no agent runs here: {socket} is missing"))
            .hint(
                "`borgios connect HOST:PORT` remembers a node for this and later commands, `--node \
                 HOST:PORT` names one for this; on a server, `systemctl status borgiosd` shows its agent",
            )
    }

    /// ` --exchange DIR` for a command that goes on from this run, where it had one.
    pub(crate) fn with_exchange(&self) -> String {
        self.exchange
            .as_ref()
            .map_or_else(String::new, |folder| format!(" --exchange {}", quoted(folder)))
    }

    fn addresses(&self) -> Result<Vec<String>, Failure> {
        if !self.nodes.is_empty() {
            return self.nodes.iter().map(|node| known::address(node)).collect();
        }
        if self.exchange.is_some() {
            // Who names a folder means that folder; an air-gapped laptop dials nobody. Only a burn also goes
            // to servers known before: see `governor repair`.
            return Ok(Vec::new());
        }
        let known = KnownNodes::load(&self.home)?;
        let newest = known.nodes().iter().rev().take(NODES_TRIED);
        Ok(newest.map(|node| node.address.clone()).collect())
    }
}

/// Why no node could be asked, of those that were tried.
fn none_answers(addresses: &[String], mut failed: Vec<Failure>) -> Failure {
    let advice = addresses.iter().zip(&failed).find_map(|(address, failure)| {
        let advice = failure.advice()?;
        // Among several, it must be said whom it is about.
        Some(if addresses.len() > 1 { format!("{address}: {advice}") } else { advice.to_owned() })
    });
    let why = match (addresses, failed.pop()) {
        ([_], Some(alone)) => alone,
        (_, last) => {
            let what = format!("none of these nodes answers: {}", addresses.join(", "));
            let all = failed.into_iter().chain(last);
            all.fold(Failure::new(what), |why, failure| why.because(failure.summary()))
        }
    };
    why.hint(advice.unwrap_or_else(|| {
        "`--node HOST:PORT` names another node, and `borgios connect HOST:PORT` remembers one for later \
         commands"
            .to_owned()
    }))
}
