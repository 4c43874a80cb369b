//! `borgios adopt`: makes servers members from a laptop, over the user's own ssh, several at once.
//!
//! The operator sees every host's plan before one of them is touched, and consents by the machines'
//! own names. Afterwards each host has exactly one outcome, and only members count as done.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use borgios_types::PublicKey;
use clap::Args;
use serde_json::Value;

use crate::adopt::advertise::{Advertise, node_address};
use crate::adopt::asked_node::{ASKING_MAX, Expected, Proved};
use crate::adopt::consent::HandOver;
use crate::adopt::invitation::Checked;
use crate::adopt::keeping::Keeping;
use crate::adopt::proven::{self, Proven};
use crate::adopt::pushed::Pushed;
use crate::adopt::reach::{BUNDLE, OWNER_KEY, Order, PUBLIC_INVITE, SCRIPT, SECRET_INVITE};
use crate::adopt::row::{Row, ToAsk, to_table};
use crate::adopt::target::Target;
use crate::adopt::verdict::Outcome;
use crate::adopt::work::work;
use crate::context::Context;
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::identity::Identity;
use crate::known::KnownNodes;
use crate::printer::{Printer, between_lines};
use crate::transport::node::Node;

/// The script of the very version that this program was built with.
const BOOTSTRAP: &str = include_str!("../../../bootstrap.sh");

/// Most hosts of one run: more names than a person types with care.
const HOSTS_MAX: usize = 64;

/// Exit code of what an interrupt ended, as a shell has it.
const INTERRUPTED: i32 = 130;

/// How long a node may take to accept a connection.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest script and owner's key.
const SMALL_MAX: usize = 1024 * 1024;

/// Make servers members from here, over ssh
#[derive(Debug, Args)]
pub(crate) struct Adopt {
    /// root@HOST, root@HOST:PORT, or an alias of your ssh settings
    #[arg(value_name = "HOST", required = true)]
    hosts: Vec<Target>,
    /// The invitation for all of them
    #[arg(long, value_name = "FILE")]
    invite: PathBuf,
    /// The bundle to copy there; without it each host downloads what the invitation names
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// The owner's ssh-ed25519 public key: gets a sealed backup, and may take the server out again
    #[arg(long, value_name = "FILE")]
    owner_key: Option<PathBuf>,
    /// Consent without a terminal, NAME being the machine's own name; again for each host
    #[arg(long = "hand-over", value_name = "HOST=NAME")]
    hand_over: Vec<HandOver>,
    /// With --hand-over: go on in spite of warnings in a plan
    #[arg(long, requires = "hand_over")]
    yes: bool,
    /// How members reach it: `dialled` is where ssh does, port 7117; again for each host
    #[arg(long, value_name = "[HOST=]ADDR:PORT")]
    advertise: Vec<Advertise>,
    /// Take host keys that your known_hosts does not have yet, and show them
    #[arg(long)]
    accept_new: bool,
    /// Where to keep receipts and sealed backups [default: adopted/ in the governor's folder]
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Other ssh settings than yours
    #[arg(long, value_name = "FILE")]
    ssh_config: Option<PathBuf>,
    /// Another bootstrap.sh than the one in this program
    #[arg(long, value_name = "FILE", hide = true)]
    bootstrap: Option<PathBuf>,
}

impl Adopt {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        self.check()?;
        if context.printer.is_json() && self.hand_over.is_empty() {
            return Err(Failure::usage("--json shows no plans to consent to")
                .hint("look without --json, or consent with `--hand-over HOST=NAME`"));
        }
        let invitation = Checked::read(&self.invite, context.now(), self.hosts.len())?;
        let sockets = tempfile::Builder::new().prefix("borgios-ssh").tempdir();
        let sockets = sockets.or_fail(|| "could not make a folder for ssh's sockets")?;
        let order = Arc::new(self.order(context, &invitation, sockets.path().to_owned())?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .or_fail(|| "could not start the network runtime")?;
        let interrupted = || {
            Failure::new("interrupted").hint(
                "a join that had begun goes on by itself on its host; the same command again \
                 picks it up",
            )
        };
        let worked = runtime.block_on(async {
            tokio::select! {
                worked = work(&self.hosts, &self.hand_over, &order, &invitation) => worked,
                _ = tokio::signal::ctrl_c() => Err(interrupted()),
            }
        });
        if worked.is_ok() {
            // Every connection is closed, and an interrupt from now on cleans nothing up.
            drop(sockets);
        }
        let answered = worked.and_then(|(rows, to_ask)| {
            runtime.spawn(told_at_an_interrupt(context.printer, told(&rows, &to_ask)));
            let asked = proven::once(&rows, ask_nodes(context, &invitation, to_ask));
            for row in &asked {
                context.printer.say(&format!("{}: {}", row.host.target, row.outcome.word()));
            }
            self.answer(context, rows, asked)
        });
        // A prompt that nobody answered may still be reading the terminal.
        runtime.shutdown_background();
        answered
    }

    /// What can be refused before any host is dialled.
    fn check(&self) -> Result<(), Failure> {
        let hosts = &self.hosts;
        if hosts.len() > HOSTS_MAX {
            return Err(Failure::usage(format!(
                "{} hosts, at most {HOSTS_MAX} at once",
                hosts.len()
            )));
        }
        let twice = hosts.iter().enumerate().find(|(at, host)| hosts[..*at].contains(host));
        if let Some((_, host)) = twice {
            return Err(Failure::usage(format!("{host} is named twice")));
        }
        if let Some(host) = HandOver::astray(&self.hand_over, hosts) {
            return Err(Failure::usage(format!(
                "--hand-over {host}=… is for none of the hosts, or several"
            )));
        }
        if let Some(why) = Advertise::misfit(&self.advertise, hosts) {
            return Err(Failure::usage(format!("--advertise: {why}")));
        }
        Ok(())
    }

    fn order(
        &self,
        context: &Context,
        invitation: &Checked,
        sockets: PathBuf,
    ) -> Result<Order, Failure> {
        let script = match &self.bootstrap {
            None => BOOTSTRAP.as_bytes().to_vec(),
            Some(path) => small(path)?,
        };
        let mut public = vec![
            Pushed::memory(SCRIPT, script),
            Pushed::memory(PUBLIC_INVITE, invitation.public.clone()),
        ];
        match &self.bundle {
            Some(path) => public.push(Pushed::file(BUNDLE, path.clone())?),
            None if invitation.file.urls.is_empty() => {
                return Err(Failure::usage(
                    "no --bundle, and the invitation names no url to download one from",
                ));
            }
            None => {}
        }
        if let Some(path) = &self.owner_key {
            public.push(Pushed::memory(OWNER_KEY, owner_key(path)?));
        }
        // Last of what is asked before any host is dialled: it touches the disk.
        let kept = self.keep.clone().unwrap_or_else(|| context.home.root().join("adopted"));
        let keeping = Keeping::open(kept)?;
        Ok(Order {
            config: self.ssh_config.clone(),
            accept_new: self.accept_new,
            keeping,
            sockets,
            public,
            secret: Pushed::memory(SECRET_INVITE, invitation.whole.to_vec()),
            advertise: self.advertise.clone(),
            // At a terminal the warnings stand in the plan that was consented to.
            yes: self.yes || self.hand_over.is_empty(),
            network: invitation.network(),
            printer: context.printer,
        })
    }

    /// The table, or one JSON object for each host; fails unless every host is a member, and what it
    /// left is kept.
    fn answer(
        &self,
        context: &Context,
        mut rows: Vec<Row>,
        asked: Vec<Row>,
    ) -> Result<(), Failure> {
        rows.extend(asked);
        rows.sort_by_key(|row| self.hosts.iter().position(|host| *host == row.host.target));
        let text = to_table(&rows);
        context.printer.answers(rows.iter().map(Row::to_json), &text)?;
        let members = rows.iter().filter(|row| row.outcome.is_member()).count();
        let bare: Vec<&Row> = rows.iter().filter(|row| !row.not_kept().is_empty()).collect();
        if members == rows.len() && bare.is_empty() {
            return Ok(());
        }
        if members == rows.len() {
            let failure = Failure::new(format!(
                "all {members} hosts are members, but not everything that {} left is kept here",
                bare.len()
            ));
            let why = bare.iter().flat_map(|row| {
                row.not_kept().iter().map(|lacks| format!("{}: {lacks}", row.host.target))
            });
            return Err(why.fold(failure, |failure, lacks| failure.because(lacks)).hint(
                "the signed part of a receipt comes with `borgios sync`, to objects/handover/ of the \
                 governor's folder; a sealed backup that an earlier run kept still lies there, and no \
                 other copy can be fetched",
            ));
        }
        Err(Failure::new(format!("{members} of {} hosts are members", rows.len()))
            .hint("the same command again goes on where a host stopped"))
    }
}

/// Every host as it stands before any node is asked, for programs and for people: of those whose nodes are to
/// be asked nobody can tell yet, and their roots may be handed over.
fn told(rows: &[Row], to_ask: &[ToAsk]) -> (Vec<Value>, String) {
    let all = || rows.iter().chain(to_ask.iter().map(|one| &one.row));
    (all().map(Row::to_json).collect(), to_table(all()))
}

/// Tells that and leaves, should somebody interrupt: whoever caught one interrupt has caught them all, and a
/// node that answers slowly, or a passphrase, is waited for without looking at any.
async fn told_at_an_interrupt(printer: Printer, (told, text): (Vec<Value>, String)) {
    if tokio::signal::ctrl_c().await.is_ok() {
        // Whoever reads no more is told no more.
        let _ = printer.answers(told, &text);
        between_lines(|| std::process::exit(INTERRUPTED));
    }
}

/// Asks the nodes of hosts that ssh can tell nothing about any more.
fn ask_nodes(context: &Context, invitation: &Checked, to_ask: Vec<ToAsk>) -> Vec<Proven> {
    let address =
        |one: &ToAsk| one.row.host.advertise.clone().unwrap_or_else(|| node_address(&one.hostname));
    // A login that is refused says little: no passphrase is asked for where no node listens.
    let (listen, silent): (Vec<_>, Vec<_>) =
        to_ask.into_iter().partition(|one| listens(&address(one)));
    let identity = if listen.is_empty() {
        Err("no node answers there".to_owned())
    } else if context.home.governor("identity.age").exists() {
        context.printer.say("asking the nodes whose hosts let nobody in any more");
        context.identity().map_err(|failure| failure.summary())
    } else {
        Err("only a governor's key opens a node's port, and there is none here".to_owned())
    };
    let silence = Err("no node answers there".to_owned());
    let listen = listen.into_iter().map(|one| (identity.as_ref(), one));
    let all = listen.chain(silent.into_iter().map(|one| (silence.as_ref(), one)));
    all.map(|(identity, one)| {
        let address = address(&one);
        ask_node(context, invitation, identity, one, &address)
    })
    .collect()
}

/// Whether anything accepts connections there.
fn listens(address: &str) -> bool {
    let found = address.to_socket_addrs().ok().and_then(|mut all| all.next());
    found.is_some_and(|to| TcpStream::connect_timeout(&to, LISTEN_TIMEOUT).is_ok())
}

fn ask_node(
    context: &Context,
    invitation: &Checked,
    identity: Result<&Identity, &String>,
    one: ToAsk,
    address: &str,
) -> Proven {
    let ToAsk { mut row, name, node, .. } = one;
    let expected = Expected {
        network: invitation.network(),
        invitation: (&invitation.invitation, invitation.file.invitation.id()),
        name: name.as_deref(),
        node,
    };
    let asked = identity.map_err(|why| Failure::new(why.clone())).and_then(|identity| {
        let known = KnownNodes::load(&context.home)?;
        // A host that was just made a member shows a new key; its record proves whose it is.
        let before = node.or(known.key(address).filter(|_| node.is_some()));
        let mut door = Node::connect(address, before, identity)?;
        let key = door.key();
        expected
            .ask(&mut door, key, context.now(), Instant::now() + ASKING_MAX)
            .map(|proved| (proved, key))
    });
    row.outcome = match (asked, row.outcome) {
        (Ok((Proved::Host, key)), _) => {
            Outcome::Member { node: Some(key), by: "its node's proof and word" }
        }
        (Ok((Proved::Somebody, key)), before) => proven::nobodys(before, address, key),
        (Err(failure), Outcome::Unknown { stage, reason, .. }) => Outcome::Unknown {
            stage,
            reason: format!("{reason}; at {address}: {}", failure.summary()),
            look: format!(
                "look with `borgios connect {address}` and `borgios nodes`, or on its console: \
                 /var/lib/borgios-bootstrap"
            ),
        },
        (Err(failure), Outcome::Failed { stage, reason }) => {
            let reason = format!("{reason}; at {address}: {}", failure.summary());
            Outcome::Failed { stage, reason }
        }
        (Err(_), other) => other,
    };
    Proven { row, logged: node }
}

fn small(path: &Path) -> Result<Vec<u8>, Failure> {
    durable::read(path, SMALL_MAX)?
        .ok_or_else(|| Failure::new(format!("{} does not exist", path.display())))
}

/// The owner's key without its comment, which is nobody's business there.
fn owner_key(path: &Path) -> Result<Vec<u8>, Failure> {
    let what = || format!("{} is no ssh-ed25519 public key", path.display());
    let bytes = small(path)?;
    let text = std::str::from_utf8(&bytes).or_fail(what)?;
    let words: Vec<&str> = text.split_whitespace().take(2).collect();
    let key: PublicKey = words.join(" ").parse().or_fail(what)?;
    Ok(format!("{key}\n").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adopt::reach::Host;

    #[test]
    fn an_interrupt_leaves_no_host_out() {
        let row = |host: &str, outcome: Outcome| {
            Row::unreached(Host::new(host.parse().unwrap()), outcome)
        };
        let (stage, reason) = ("purge".to_owned(), "the line was cut".to_owned());
        let cut = Outcome::Unknown { stage, reason, look: String::new() };
        let kept = vec!["/kept/web-2.owner-backup.age".to_owned()];
        let to_ask = ToAsk {
            row: Row { kept: kept.clone(), ..row("root@b", cut) },
            hostname: "b".to_owned(),
            name: None,
            node: None,
        };
        let (told, text) = told(&[row("root@a", Outcome::Already)], &[to_ask]);
        assert_eq!(told.len(), 2);
        assert_eq!((&told[1]["outcome"], &told[1]["kept"]), (&"unknown".into(), &kept.into()));
        assert!(text.contains("root@a") && text.contains("the line was cut"), "{text}");
    }

    #[test]
    fn an_owners_private_key_never_leaves_the_laptop() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id");
        let secret = borgios_types::SecretKey::from_seed([5; 32]);
        std::fs::write(&path, secret.to_openssh("me").as_bytes()).unwrap();
        assert!(owner_key(&path).is_err());
        std::fs::write(&path, format!("{} me@laptop\n", secret.public())).unwrap();
        assert_eq!(owner_key(&path).unwrap(), format!("{}\n", secret.public()).into_bytes());
    }
}
