//! `borgios adopt`: makes servers members from a laptop, over the user's own ssh, several at once.
//!
//! The operator sees every host's plan before one of them is touched, and consents by the machines'
//! own names. Afterwards each host has exactly one outcome, and only members count as done.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{BufRead as _, IsTerminal as _};
use std::path::PathBuf;
use std::sync::Arc;

use borgios_types::PublicKey;
use clap::Args;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::adopt::advertise::{Advertise, node_address};
use crate::adopt::asked_node::Expected;
use crate::adopt::consent::{self, HandOver};
use crate::adopt::invitation::Checked;
use crate::adopt::joining::{Ended, join};
use crate::adopt::pushed::Pushed;
use crate::adopt::reach::{
    BUNDLE, Host, OWNER_KEY, Order, PUBLIC_INVITE, Planned, SCRIPT, SECRET_INVITE, plan,
};
use crate::adopt::target::Target;
use crate::adopt::verdict::Outcome;
use crate::context::Context;
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::identity::Identity;
use crate::known::KnownNodes;
use crate::printer::table;
use crate::transport::node::Node;

/// The script of the very version that this program was built with.
const BOOTSTRAP: &str = include_str!("../../../bootstrap.sh");

/// Hosts that are worked on at the same time: a laptop's uplink carries one bundle to each.
const AT_ONCE: usize = 8;

/// Most hosts of one run: more names than a person types with care.
const HOSTS_MAX: usize = 64;

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
    /// Other ssh settings than yours
    #[arg(long, value_name = "FILE")]
    ssh_config: Option<PathBuf>,
    /// Another bootstrap.sh than the one in this program
    #[arg(long, value_name = "FILE", hide = true)]
    bootstrap: Option<PathBuf>,
}

/// What is known of one host in the end.
struct Row {
    host: Host,
    name: Option<String>,
    keys: Vec<String>,
    outcome: Outcome,
}

/// A host of which only its node can tell.
struct ToAsk {
    row: Row,
    hostname: String,
    node: Option<PublicKey>,
}

impl Adopt {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        self.check()?;
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
                worked = self.work(&order, &invitation) => worked,
                _ = tokio::signal::ctrl_c() => Err(interrupted()),
            }
        });
        // A prompt that nobody answered may still be reading the terminal.
        runtime.shutdown_background();
        let (rows, to_ask) = worked?;
        self.answer(context, rows, ask_nodes(context, &invitation, to_ask))
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
        Ok(Order {
            config: self.ssh_config.clone(),
            accept_new: self.accept_new,
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

    /// Plans everywhere, asks once, joins what was consented to.
    async fn work(
        &self,
        order: &Arc<Order>,
        invitation: &Checked,
    ) -> Result<(Vec<Row>, Vec<ToAsk>), Failure> {
        let hosts: Vec<Host> = self.hosts.iter().cloned().map(Host::new).collect();
        let plans = at_once(hosts.clone(), {
            let order = Arc::clone(order);
            move |host| {
                let order = Arc::clone(&order);
                async move { plan(&order, host).await }
            }
        })
        .await?;
        let (mut rows, mut planned) = (Vec::new(), Vec::new());
        for (host, plan) in hosts.into_iter().zip(plans) {
            match plan {
                Ok(one) => planned.push(one),
                Err(outcome) => {
                    order.tell(&host.target, &format!("{}: {}", outcome.word(), outcome.detail()));
                    rows.push(Row { host, name: None, keys: Vec::new(), outcome });
                }
            }
        }
        show(order, invitation, &planned);
        let uses = usize::try_from(invitation.invitation.uses).unwrap_or(usize::MAX);
        let refused = if planned.len() > uses {
            Some(
                Failure::new(format!(
                    "{} hosts would join, the invitation is for {uses}",
                    planned.len()
                ))
                .hint(
                    "name fewer hosts, or have a governor make another: `borgios invite --uses N`",
                ),
            )
        } else {
            None
        };
        let (consented, others) = match refused.map_or_else(|| Ok(()), Err) {
            Ok(()) => match self.consent(order, planned).await {
                Ok(split) => split,
                Err((failure, planned)) => {
                    close_all(planned).await;
                    return Err(failure);
                }
            },
            Err(failure) => {
                close_all(planned).await;
                return Err(failure);
            }
        };
        for (one, outcome) in others {
            rows.push(row(&one, outcome));
            one.remote.close().await;
        }
        let kept: Vec<(Row, String)> = consented
            .iter()
            .map(|one| (row(one, Outcome::LeftOut), one.hostname.clone()))
            .collect();
        let ended = at_once(consented, {
            let order = Arc::clone(order);
            move |one: Planned| {
                let order = Arc::clone(&order);
                async move {
                    let target = one.host.target.clone();
                    let ended = join(&order, one).await;
                    if let Ended::Decided(outcome) = &ended {
                        order.tell(&target, &format!("{}: {}", outcome.word(), outcome.detail()));
                    }
                    ended
                }
            }
        })
        .await?;
        let mut to_ask = Vec::new();
        for ((mut row, hostname), ended) in kept.into_iter().zip(ended) {
            match ended {
                Ended::Decided(outcome) => {
                    row.outcome = outcome;
                    rows.push(row);
                }
                Ended::AskNode { stage, reason, node } => {
                    row.outcome = Outcome::Unknown { stage, reason, look: String::new() };
                    to_ask.push(ToAsk { row, hostname, node });
                }
            }
        }
        Ok((rows, to_ask))
    }

    /// Splits the hosts into those consented to and the others, with what becomes of these.
    #[allow(
        clippy::type_complexity,
        reason = "hosts are handed back whatever happens: they must be closed"
    )]
    async fn consent(
        &self,
        order: &Order,
        planned: Vec<Planned>,
    ) -> Result<(Vec<Planned>, Vec<(Planned, Outcome)>), (Failure, Vec<Planned>)> {
        if planned.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        if !self.hand_over.is_empty() {
            let (mut yes, mut no) = (Vec::new(), Vec::new());
            for one in planned {
                match HandOver::of(&self.hand_over, &one.host.target) {
                    Some(name) if name == one.remote.name => yes.push(one),
                    Some(name) => {
                        let why = format!("it calls itself {}, not {name}", one.remote.name);
                        no.push((one, Outcome::failed("consent", why)));
                    }
                    None => no.push((one, Outcome::LeftOut)),
                }
            }
            return Ok((yes, no));
        }
        let names: Vec<String> = planned.iter().map(|one| one.remote.name.clone()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if let Some(name) = consent::ambiguous(&names).first() {
            let failure = Failure::new(format!("several of the hosts call themselves {name}"))
                .because("it would not be clear which of them is meant, or it is one host twice")
                .hint("give them names of their own with hostnamectl, or adopt them one by one");
            return Err((failure, planned));
        }
        if !std::io::stdin().is_terminal() {
            let failure = Failure::new("no terminal to ask on; nothing was changed").hint(
                "look at the plans above; `--hand-over HOST=NAME` for each host consents \
                 without a terminal",
            );
            return Err((failure, planned));
        }
        order.printer.ask(&format!(
            "\nThis hands root on these machines to the network. No owner login will work on them \
             afterwards;\nthe only way back is to reinstall the operating system.\nType the names \
             of the machines to hand over ({}), all on one line;\nwhat is not named is left alone: ",
            names.join(" ")
        ));
        let line = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).map(|_| line)
        })
        .await;
        let line = match line {
            Ok(Ok(line)) => line,
            _ => {
                return Err((
                    Failure::new("could not read the answer; nothing was changed"),
                    planned,
                ));
            }
        };
        match consent::typed(&line, &names) {
            Err(word) => {
                let what = format!("{word:?} is none of these machines; nothing was changed");
                Err((Failure::new(what), planned))
            }
            Ok(typed) => {
                let (yes, no): (Vec<_>, Vec<_>) =
                    planned.into_iter().partition(|one| typed.contains(one.remote.name.as_str()));
                Ok((yes, no.into_iter().map(|one| (one, Outcome::LeftOut)).collect()))
            }
        }
    }

    /// The table, or one JSON object for each host; fails unless every host is a member.
    fn answer(
        &self,
        context: &Context,
        mut rows: Vec<Row>,
        asked: Vec<Row>,
    ) -> Result<(), Failure> {
        rows.extend(asked);
        let place: BTreeMap<&Target, usize> =
            self.hosts.iter().enumerate().map(|(at, host)| (host, at)).collect();
        rows.sort_by_key(|row| place.get(&row.host.target).copied());
        let cells: Vec<[String; 4]> = rows
            .iter()
            .map(|row| {
                let name = row.name.clone().unwrap_or_else(|| "?".to_owned());
                let detail = crate::printer::one_line(&row.outcome.detail());
                [row.host.target.to_string(), name, row.outcome.word().to_owned(), detail]
            })
            .collect();
        let text = table(["host", "name", "outcome", ""], &cells);
        context.printer.answers(rows.iter().map(Row::to_json), &text)?;
        let members = rows.iter().filter(|row| row.outcome.is_member()).count();
        if members == rows.len() {
            return Ok(());
        }
        Err(Failure::new(format!("{members} of {} hosts are members", rows.len()))
            .hint("the same command again goes on where a host stopped"))
    }
}

impl Row {
    fn to_json(&self) -> serde_json::Value {
        let mut value = json!({
            "host": self.host.target.to_string(),
            "name": self.name,
            "host_keys": self.keys,
            "member": self.outcome.is_member(),
        });
        if let (Some(all), Ok(serde_json::Value::Object(more))) =
            (value.as_object_mut(), serde_json::to_value(&self.outcome))
        {
            all.extend(more);
        }
        value
    }
}

fn row(one: &Planned, outcome: Outcome) -> Row {
    let (host, name) = (one.host.clone(), Some(one.remote.name.clone()));
    Row { host, name, keys: one.keys.clone(), outcome }
}

async fn close_all(planned: Vec<Planned>) {
    for one in planned {
        one.remote.close().await;
    }
}

/// Runs `act` on every item, [`AT_ONCE`] at a time; the results stand in the items' order.
async fn at_once<T, R, F>(items: Vec<T>, act: impl Fn(T) -> F) -> Result<Vec<R>, Failure>
where
    R: Send + 'static,
    F: Future<Output = R> + Send + 'static,
{
    let (gate, mut tasks) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    for (at, item) in items.into_iter().enumerate() {
        let (gate, doing) = (Arc::clone(&gate), act(item));
        tasks.spawn(async move {
            let _place = gate.acquire_owned().await;
            (at, doing.await)
        });
    }
    let mut done = BTreeMap::new();
    while let Some(result) = tasks.join_next().await {
        let (at, result) = result.or_fail(|| "a task ended before its time")?;
        done.insert(at, result);
    }
    Ok(done.into_values().collect())
}

/// Every plan, under its host's name.
fn show(order: &Order, invitation: &Checked, planned: &[Planned]) {
    for one in planned {
        let head = format!("{} ({})", one.remote.name, one.host.target);
        order.printer.say(&format!("\n{head}\n{}\n{}", "-".repeat(head.len()), one.plan));
    }
    if !planned.is_empty() {
        order.printer.say(&format!(
            "\nnetwork {} {}\nboard   {}   (compare it with what a governor tells you in person)",
            invitation.file.name,
            invitation.network(),
            invitation.board
        ));
    }
}

/// Asks the nodes of hosts that ssh can tell nothing about any more.
fn ask_nodes(context: &Context, invitation: &Checked, to_ask: Vec<ToAsk>) -> Vec<Row> {
    if to_ask.is_empty() {
        return Vec::new();
    }
    context.printer.say("asking the nodes whose hosts let nobody in any more");
    let identity = if context.home.governor("identity.age").exists() {
        context.identity().map_err(|failure| failure.summary())
    } else {
        Err("only a governor's key opens a node's port, and there is none here".to_owned())
    };
    to_ask.into_iter().map(|one| ask_node(context, invitation, identity.as_ref(), one)).collect()
}

fn ask_node(
    context: &Context,
    invitation: &Checked,
    identity: Result<&Identity, &String>,
    one: ToAsk,
) -> Row {
    let ToAsk { mut row, hostname, node } = one;
    let address = row.host.advertise.clone().unwrap_or_else(|| node_address(&hostname));
    let expected = Expected {
        network: invitation.network(),
        invitation: (&invitation.invitation, invitation.file.invitation.id()),
        name: row.name.as_deref().unwrap_or_default(),
        node,
    };
    let asked = identity.map_err(|why| Failure::new(why.clone())).and_then(|identity| {
        let known = KnownNodes::load(&context.home)?;
        // A host that was just made a member shows a new key; its record proves whose it is.
        let before = node.or(known.key(&address).filter(|_| node.is_some()));
        let mut door = Node::connect(&address, before, identity)?;
        let key = door.key();
        expected.ask(&mut door, key, context.now()).map(|()| key)
    });
    row.outcome = match (asked, row.outcome) {
        (Ok(key), _) => Outcome::Member { node: Some(key), by: "its node's proof and word" },
        (Err(failure), Outcome::Unknown { stage, reason, .. }) => Outcome::Unknown {
            stage,
            reason: format!("{reason}; at {address}: {}", failure.summary()),
            look: format!(
                "look with `borgios connect {address}` and `borgios nodes`, or on its console: \
                 /var/lib/borgios-bootstrap"
            ),
        },
        (Err(_), other) => other,
    };
    context.printer.say(&format!("{}: {}", row.host.target, row.outcome.word()));
    row
}

fn small(path: &std::path::Path) -> Result<Vec<u8>, Failure> {
    durable::read(path, SMALL_MAX)?
        .ok_or_else(|| Failure::new(format!("{} does not exist", path.display())))
}

/// The owner's key without its comment, which is nobody's business there.
fn owner_key(path: &std::path::Path) -> Result<Vec<u8>, Failure> {
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

    #[tokio::test]
    async fn results_stand_in_the_order_of_their_hosts() {
        let done = at_once((0..20).collect(), |n: u64| async move {
            for _ in n..20 {
                tokio::task::yield_now().await;
            }
            n
        });
        assert_eq!(done.await.unwrap(), (0..20).collect::<Vec<_>>());
    }
}
