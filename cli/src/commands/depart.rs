//! `borgios depart`: a server's owner takes it out of the network.
//!
//! The owner is no governor, and nodes let only governors in over SSH. So the departure goes where
//! the owner may put it: to the agent's socket on the server itself, into an exchange folder, or
//! into a file that whoever is let in sends with `--send`. Its signature is what counts, not who
//! brings it.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};

use borgios_policy::{Departure, Handover, Name, Object as _};
use borgios_types::limits::ENVELOPE_MAX;
use borgios_types::{Digest, Envelope, NodeId, PublicKey, SecretKey};
use clap::Args;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::adopt::receipt;
use crate::commands::access_request::elsewhere;
use crate::context::Context;
use crate::desk::Desk;
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::identity::Identity;
use crate::passphrase::Source;
use crate::servers::evicted;
use crate::transport::api::Door;
use crate::transport::socket::Socket;

/// Largest key file, in bytes.
const KEY_MAX: usize = 64 * 1024;

/// Take your server out of the network
#[derive(Debug, Args)]
pub(crate) struct Depart {
    /// The server: its name, or the first digits of its key's fingerprint
    #[arg(id = "nodes", long = "node", value_name = "SERVER", num_args = 1,
          required_unless_present_any = ["receipt", "send"])]
    node: Vec<String>,
    /// The receipt of the hand-over, which names network and server: receipt.txt as it was printed, or
    /// the handover.json that `adopt` keeps
    #[arg(long, value_name = "FILE", conflicts_with = "send")]
    receipt: Option<PathBuf>,
    /// Your ssh-ed25519 private key, the one that the receipt names
    #[arg(long, value_name = "FILE", required_unless_present = "send")]
    owner_key: Option<PathBuf>,
    /// Read that key's passphrase from this file descriptor instead of asking
    #[arg(long, value_name = "N")]
    key_passphrase_fd: Option<u32>,
    /// Type the server's name here instead of at the terminal
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
    /// Also write the signed departure to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Send a departure that an owner signed elsewhere
    #[arg(long, value_name = "FILE", conflicts_with_all = ["owner_key", "out", "confirm"])]
    send: Option<PathBuf>,
    /// A node to talk to, as a governor
    #[arg(long, value_name = "HOST:PORT")]
    via: Vec<String>,
}

/// The server that goes.
struct Leaving {
    network: Digest,
    node: NodeId,
    name: Name,
    /// Who may take it out, as far as is known here.
    owners: Vec<PublicKey>,
}

impl Depart {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let context = &elsewhere(context, &self.via);
        if let Some(path) = &self.send {
            let envelope = read_departure(path)?;
            let places = deliver(context, governor(context)?.as_ref(), &envelope)?;
            return answer(context, &envelope, &places, None);
        }
        // Opened once: a passphrase is asked for, or read from its descriptor, only once.
        let governor = governor(context)?;
        let leaving = self.find(context, governor.as_ref())?;
        let path = self.owner_key.as_deref().ok_or_else(|| Failure::usage("no --owner-key"))?;
        let key = self.owner_key(path)?;
        if !leaving.owners.contains(&key.public()) {
            let named: Vec<String> = leaving.owners.iter().map(PublicKey::fingerprint).collect();
            let named = if named.is_empty() { "no owner".to_owned() } else { named.join(" or ") };
            return Err(Failure::new(format!("{} does not own {}", path.display(), leaving.name))
                .because(format!("it is {}", key.public().fingerprint()))
                .because(format!("record and receipt of {} name {named}", leaving.name))
                .hint(
                    "nobody can take it out without that key; the board can `borgios evict` it",
                ));
        }
        self.confirm(context, &leaving)?;
        let departure =
            Departure { network: leaving.network, node: leaving.node, at: context.now() };
        let envelope = departure.to_envelope().sign(&key);
        if let Some(out) = &self.out {
            durable::write_public(out, envelope.to_json().as_bytes())?;
        }
        let places = match deliver(context, governor.as_ref(), &envelope) {
            Ok(places) => places,
            Err(failure) if self.out.is_some() => {
                context.printer.warn(&failure.summary());
                Vec::new()
            }
            Err(failure) => return Err(failure),
        };
        answer(context, &envelope, &places, self.out.as_deref())
    }

    /// Which server is meant: by its receipt, else by what the agent of this server says, else by
    /// what a governor's folder knows.
    fn find(&self, context: &Context, governor: Option<&Identity>) -> Result<Leaving, Failure> {
        if let Some(path) = &self.receipt {
            let what = || format!("{} is no receipt of a hand-over", path.display());
            let bytes = durable::read(path, ENVELOPE_MAX)?
                .ok_or_else(|| Failure::new(format!("{} does not exist", path.display())))?;
            let envelope = match (Envelope::parse(&bytes), core::str::from_utf8(&bytes)) {
                (Ok(envelope), _) => envelope,
                (Err(_), Ok(text)) => receipt::printed(text).map_err(|why| why.within(what()))?,
                (Err(error), Err(_)) => return Err(Failure::new(what()).cause(error)),
            };
            let parsed = Handover::parse(&envelope).or_fail(what)?;
            let receipt = Handover::verify(parsed.network, &envelope).or_fail(what)?;
            let named = self.node.first();
            if named.is_some_and(|word| receipt.name != *word.as_str()) {
                return Err(Failure::new(what()).because(format!("it is that of {}", receipt.name)));
            }
            let Handover { network, node, name, owner, .. } = receipt;
            return Ok(Leaving { network, node, name, owners: owner.into_iter().collect() });
        }
        let word = self.node.first().map(String::as_str).unwrap_or_default();
        if context.membership().is_err() {
            return this_server(context, word);
        }
        let mut desk = Desk::with(context, governor)?;
        let servers = desk.servers()?;
        let server = servers.find(word, context.now(), evicted(desk.archive().chain()))?;
        let (network, owners) = (desk.membership().network, server.owners());
        if let Some(at) = server.departed() {
            return Err(Failure::new(format!("{} departed at {at}", server.describe())));
        }
        Ok(Leaving { network, node: server.join().node, name: server.join().name.clone(), owners })
    }

    fn owner_key(&self, path: &Path) -> Result<SecretKey, Failure> {
        let what = || format!("{} is no ssh-ed25519 private key", path.display());
        let bytes = durable::read(path, KEY_MAX)?
            .ok_or_else(|| Failure::new(format!("{} does not exist", path.display())))?;
        let bytes = Zeroizing::new(bytes);
        let text = core::str::from_utf8(&bytes).or_fail(what)?;
        if let Ok(key) = SecretKey::from_openssh(text) {
            return Ok(key);
        }
        let source = self.key_passphrase_fd.map_or(Source::Terminal, Source::Descriptor);
        let locked = russh::keys::PrivateKey::from_openssh(text).or_fail(what)?;
        if !locked.is_encrypted() {
            return Err(Failure::new(what()).hint("give the key whose .pub is in the receipt"));
        }
        let passphrase = source.of_file(path)?;
        let open = locked
            .decrypt(age::secrecy::ExposeSecret::expose_secret(&passphrase))
            .or_fail(|| format!("the passphrase does not open {}", path.display()))?;
        let pair = open.key_data().ed25519().ok_or_else(|| Failure::new(what()))?;
        Ok(SecretKey::from_seed(pair.private.to_bytes()))
    }

    /// The consequence first, then a word.
    fn confirm(&self, context: &Context, leaving: &Leaving) -> Result<(), Failure> {
        let Leaving { name, node, .. } = leaving;
        context.printer.say(&format!(
            "This takes {name} ({}) out of the network for good. Its keeper shreds what it knows \
             and stops;\nits root stays closed to everyone, you included. The only way back is to \
             reinstall the operating system.",
            node.fingerprint()
        ));
        let typed = match &self.confirm {
            Some(typed) => typed.clone(),
            None if std::io::stdin().is_terminal() => {
                context.printer.ask(&format!("Type `{name}` to continue: "));
                let mut typed = String::new();
                let read = std::io::stdin().lock().read_line(&mut typed);
                read.or_fail(|| "could not read the answer")?;
                typed.trim().to_owned()
            }
            None => {
                return Err(Failure::new(format!("the departure of {name} was not confirmed"))
                    .hint(format!("without a terminal, type its name with `--confirm {name}`")));
            }
        };
        if *name == *typed.as_str() {
            return Ok(());
        }
        Err(Failure::new(format!("{typed:?} is not {name}; nothing was signed")))
    }
}

/// The server whose agent answers on the socket.
fn this_server(context: &Context, word: &str) -> Result<Leaving, Failure> {
    #[derive(Deserialize)]
    struct Status {
        network: Option<Digest>,
        node: NodeId,
        name: Name,
    }
    #[derive(Deserialize)]
    struct Page {
        objects: Vec<serde_json::Value>,
    }
    let mut door = Socket::at(&context.socket);
    let hint = "on your laptop, give the receipt: `--receipt receipt.txt`, what the hand-over printed; any \
                governor has it too, and writes it out with `borgios node receipt NAME --out FILE`";
    let status = door.ask(&json!({"get": "status"})).map_err(|failure| failure.hint(hint))?;
    let what = || format!("the agent at {} did not say which server it is", door.name());
    let status: Status = serde_json::from_value(status).or_fail(what)?;
    let network =
        status.network.ok_or_else(|| Failure::new(what()).because("it has not joined"))?;
    if status.name != *word {
        return Err(Failure::new(format!("this server is {}, not {word}", status.name)).hint(hint));
    }
    let page = door.ask(&json!({"get": "objects", "kind": Handover::KIND}))?;
    let page: Page = serde_json::from_value(page).or_fail(|| "it sent no objects")?;
    let receipts = page.objects.iter().filter_map(|object| {
        let envelope = Envelope::parse(object.to_string().as_bytes()).ok()?;
        Handover::verify(network, &envelope).ok()
    });
    let own = receipts.filter(|receipt| receipt.node == status.node);
    let owners = own.filter_map(|receipt| receipt.owner).collect();
    Ok(Leaving { network, node: status.node, name: status.name, owners })
}

/// The identity that nodes let in, where this folder is a governor's and a node is to be talked to.
fn governor(context: &Context) -> Result<Option<Identity>, Failure> {
    let talks = context.membership().is_ok() && context.talks_to_nodes()?;
    talks.then(|| context.identity()).transpose()
}

/// Brings a departure everywhere this run reaches; the names of those places.
fn deliver(
    context: &Context,
    governor: Option<&Identity>,
    envelope: &Envelope,
) -> Result<Vec<String>, Failure> {
    let mut taken = Vec::new();
    let mut failed = None;
    if context.socket.exists() {
        let mut door = Socket::at(&context.socket);
        match door.ask(&json!({"put": "envelope", "envelope": envelope})) {
            Ok(_) => taken.push(door.name()),
            Err(failure) => failed = Some(failure),
        }
    }
    for mut place in context.transports(governor)? {
        match place.put(envelope) {
            Ok(()) => taken.push(place.name()),
            Err(failure) => {
                context.printer.warn(&failure.summary());
                failed = Some(failure);
            }
        }
    }
    if !taken.is_empty() {
        return Ok(taken);
    }
    Err(failed.unwrap_or_else(|| Failure::new("there is nobody to bring the departure to")).hint(
        "run this as root on any server of the network, name a folder with `--exchange DIR`, or \
         write it to a file with `--out FILE`, which a governor sends: `borgios depart --send FILE`",
    ))
}

fn read_departure(path: &Path) -> Result<Envelope, Failure> {
    let what = || format!("{} is no departure", path.display());
    let bytes = durable::read(path, ENVELOPE_MAX)?
        .ok_or_else(|| Failure::new(format!("{} does not exist", path.display())))?;
    let envelope = Envelope::parse(&bytes).or_fail(what)?;
    Departure::parse(&envelope).or_fail(what)?;
    Ok(envelope)
}

fn answer(
    context: &Context,
    envelope: &Envelope,
    places: &[String],
    out: Option<&Path>,
) -> Result<(), Failure> {
    let departure = Departure::parse(envelope).or_fail(|| "no departure")?;
    let answer = json!({
        "departure": envelope.id(), "network": departure.network, "node": departure.node,
        "at": departure.at, "sent_to": places, "file": out,
    });
    let node = departure.node.fingerprint();
    let mut text = match places {
        [] => format!("the departure of {node} is signed and was not sent"),
        places => format!("the departure of {node} is signed and at {}", places.join(", ")),
    };
    if let Some(out) = out {
        text.push_str(&format!(
            "\n{}: whoever is let in sends it with `borgios depart --send FILE`",
            out.display()
        ));
    }
    context.printer.answer(&answer, &text)
}
