//! One whole agent: opens what is on disk, wires the parts together, runs them, and ends them in
//! good order. A test starts several of these in one process.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use borgios_peertree::{Config, Contact, Head, Input, Node};
use borgios_policy::{Join, Lane, Object as _};
use borgios_types::{Digest, NodeId, SecretKey};
use rand::RngCore as _;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::api::{Api, Parts};
use crate::blobs;
use crate::channel::russh_key;
use crate::clock::unix_now;
use crate::credential_watch::CredentialWatch;
use crate::cross_watch;
use crate::departing::Departing;
use crate::depot::Depot;
use crate::disk;
use crate::fetch::Fetcher;
use crate::gate::Gate;
use crate::handback::Handbacks;
use crate::http;
use crate::identity::{self, IdentityError};
use crate::keeper_client::Keeper;
use crate::keeper_watch::KeeperWatch;
use crate::ledger::Ledger;
use crate::ledger_handle::LedgerHandle;
use crate::link::{LinkHub, LinkParts};
use crate::local;
use crate::membership::{self, InviteError, Membership};
use crate::neighbours::Neighbours;
use crate::port::{self, Speech};
use crate::questions::{Observer, QuestionHandle, QuestionShell};
use crate::release_watch::ReleaseWatch;
use crate::settings::Settings;
use crate::ssh_server::SshServer;
use crate::stream_pipes::StreamPipes;
use crate::streams::StreamWatch;
use crate::tree_handle::TreeHandle;
use crate::tree_shell::{PEERS_MAX, TreeShell};
use crate::uploads::Uploads;
use crate::witnessing;

/// Longest wait for the tasks when the agent ends.
const END_TIMEOUT: Duration = Duration::from_secs(3);
/// How often the gate looks at the clock while something waits for its time.
const GATE_PACE: Duration = Duration::from_secs(1);
/// How often while nothing does. What is counted in such looks has steps of minutes and more.
const GATE_REST: Duration = Duration::from_secs(5);
/// Contacts from join records that the tree's core is given at the start.
const CONTACTS_MAX: usize = 512;

/// Why an agent cannot run.
#[derive(Debug, Error)]
pub enum StartError {
    /// A folder, file or socket.
    #[error("cannot use {what}")]
    Disk {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The node key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The invitation.
    #[error(transparent)]
    Invite(#[from] InviteError),
    /// The invitation's token.
    #[error("the invitation's token is no key")]
    Token(#[source] borgios_types::key::KeyError),
    /// The port.
    #[error("cannot listen on {listen}")]
    Listen {
        /// Where.
        listen: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The HTTP client.
    #[error("cannot make an HTTP client")]
    Http(#[source] reqwest::Error),
}

/// A running agent.
pub struct Agent {
    /// Who it is.
    pub me: NodeId,
    /// Where it listens.
    pub port: SocketAddr,
    /// Its API.
    pub api: Api,
    /// Its objects.
    pub ledger: LedgerHandle,
    /// Its place in the tree.
    pub tree: TreeHandle,
    /// Questions to the fleet, and messages to one node.
    pub questions: QuestionHandle,
    /// Its blobs.
    pub depot: Depot,
    stop: CancellationToken,
    departed: CancellationToken,
    tasks: JoinSet<()>,
}

impl Agent {
    /// Opens everything and begins. Returns once the port and the socket answer; joining the tree
    /// goes on behind it, for it may have to wait for the keeper and for others.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let state = settings.state.clone();
        let disk = |what: &str| {
            let what = what.to_owned();
            move |source| StartError::Disk { what, source }
        };
        std::fs::create_dir_all(&state).map_err(disk("the state folder"))?;
        let key = identity::load_or_make(&state.join("node.key"))?;
        let me = key.public();
        let depot = Depot::open(&state.join("blobs")).map_err(disk("the depot"))?;
        let ledger = Ledger::open(&state, settings.pace.lapsed_kept.as_secs())
            .and_then(|ledger| LedgerHandle::spawn(ledger.of(me)))
            .map_err(disk("the object store"))?;
        let invite_file = state.join("invite.json");
        let invite = membership::accept(&invite_file, &ledger).await?;
        let listener = listen(&settings.listen).await?;
        let port = listener.local_addr().map_err(disk("the port"))?;
        let socket = local::bind(&settings.api_socket).map_err(disk("the API socket"))?;

        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let node = tree_node(me, &settings, &ledger).await;
        let (shell, tree) = TreeShell::new(node, ledger.clone(), state.join("peers.json"));
        let neighbours = Neighbours::new();
        let fetcher = Fetcher::new(depot.clone(), neighbours.clone()).map_err(StartError::Http)?;
        let socket_of_keeper = Keeper::new(&settings.keeper_socket);
        let (keeper_watch, keeper) = KeeperWatch::new(
            me,
            socket_of_keeper.clone(),
            ledger.clone(),
            tree.clone(),
            settings.pace.clone(),
        );
        let releases = ReleaseWatch {
            me,
            keeper: socket_of_keeper.clone(),
            view: keeper.clone(),
            ledger: ledger.clone(),
            tree: tree.clone(),
            depot: depot.clone(),
            fetcher: fetcher.clone(),
            neighbours: neighbours.clone(),
            pace: settings.pace.clone(),
        };
        let (view, schedule) = watch::channel(None);
        let credentials = CredentialWatch {
            me,
            ledger: ledger.clone(),
            tree: tree.clone(),
            depot: depot.clone(),
            fetcher,
            neighbours: neighbours.clone(),
            pace: settings.pace.clone(),
            view,
        };
        let folder = state.join("streams");
        let (stream_watch, streams) =
            StreamWatch::new(key.clone(), folder, settings.relay, ledger.clone(), tree.clone());
        let (questions, question_inbox) = QuestionHandle::new();
        let observer = Observer {
            me,
            ledger: ledger.clone(),
            tree: tree.clone(),
            keeper: keeper.clone(),
            schedule: schedule.clone(),
            state: state.clone(),
            started: Instant::now(),
            held: Arc::new(streams.clone()),
        };
        let asking = QuestionShell::new(observer.clone(), questions.clone(), question_inbox);
        let api = Api::new(Parts {
            me,
            name: settings.name.clone(),
            address: settings.advertise.clone(),
            ledger: ledger.clone(),
            tree: tree.clone(),
            questions: questions.clone(),
            observer,
            keeper: keeper.clone(),
            schedule,
            handbacks: Handbacks::new(key.clone()),
            uploads: Uploads::new(depot.clone()),
            streams: streams.clone(),
            started: Instant::now(),
        });
        let membership =
            Membership::new(key.clone(), &settings, invite.as_ref(), ledger.clone(), keeper)
                .map_err(StartError::Token)?;
        let node_key = russh_key(&key);
        let pipes = StreamPipes::new(node_key.clone(), streams.clone(), tree.clone(), stop.clone());
        let parts = LinkParts {
            me,
            key: node_key.clone(),
            ledger: ledger.clone(),
            tree: tree.clone(),
            questions: questions.clone(),
            depot: depot.clone(),
            neighbours: neighbours.clone(),
            pipes,
        };
        let hub = LinkHub::new(parts, stop.clone());

        let departed = CancellationToken::new();
        let departing = Departing {
            me,
            keeper: socket_of_keeper,
            ledger: ledger.clone(),
            tree: tree.clone(),
            farewell: hub.farewell(),
            pace: settings.pace.clone(),
            done: departed.clone(),
        };
        tasks.spawn(keeper_watch.run(stop.clone()));
        tasks.spawn(releases.run(stop.clone()));
        tasks.spawn(credentials.run(stop.clone()));
        tasks.spawn(departing.run(stop.clone()));
        tasks.spawn(asking.run(stop.clone()));
        tasks.spawn(stream_watch.run(stop.clone()));
        tasks.spawn(tick(ledger.clone(), tree.clone(), stop.clone()));
        let (pace, stopping) = (settings.pace.upkeep, stop.clone());
        tasks.spawn(witnessing::run(key, ledger.clone(), tree.clone(), pace, stopping));
        tasks.spawn(local::serve(socket, api.clone(), depot.clone(), stop.clone()));
        let ssh = SshServer::new(&node_key, hub.clone(), api.clone(), stop.clone());
        let router = http::router(depot.clone());
        tasks.spawn(blobs::tell_neighbours(depot.clone(), neighbours, stop.clone()));
        let (gate, stopping) = (gate_of(&ledger).await, stop.clone());
        tasks.spawn(port::run(listener, gate, stop.clone(), move |visitor| {
            let (ssh, router, stopping) = (ssh.clone(), router.clone(), stopping.clone());
            async move {
                match visitor.speech {
                    Speech::Ssh => ssh.serve(visitor).await,
                    Speech::Http => tokio::select! {
                        () = http::serve(visitor.stream, router) => {}
                        () = stopping.cancelled() => {}
                    },
                }
            }
        }));
        let joining = Joining {
            shell,
            hub,
            membership,
            seeds: membership::seeds(invite.as_ref()),
            peers_file: state.join("peers.json"),
            invite_file,
            ledger: ledger.clone(),
            tree: tree.clone(),
            upkeep: settings.pace.upkeep,
        };
        tasks.spawn(joining.run(me, stop.clone()));
        info!(
            BORGIOS_EVENT = "started",
            BORGIOS_NODE = %me,
            %port,
            name = settings.name.as_str(),
            "borgiosd {} listens on {port}",
            env!("CARGO_PKG_VERSION")
        );
        Ok(Self { me, port, api, ledger, tree, questions, depot, stop, departed, tasks })
    }

    /// Whether the parts that must never stop are still at work: for the watchdog.
    pub async fn alive(&mut self) -> bool {
        // A task that ended before the agent did has panicked or gave up.
        if self.tasks.try_join_next().is_some() {
            return false;
        }
        let ledger = self.ledger.run(|_| ());
        tokio::time::timeout(Duration::from_secs(10), ledger).await.is_ok()
    }

    /// Waits until this server's owner took it out and the keeper ended its hold: then there is
    /// nothing left to do here.
    pub async fn departed(&self) {
        self.departed.cancelled().await;
    }

    /// Says goodbye to the neighbours and ends every task.
    pub async fn end(mut self) {
        self.stop.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(END_TIMEOUT, all).await.is_err() {
            warn!(BORGIOS_EVENT = "slow_end", "some tasks did not end in time");
            self.tasks.abort_all();
        }
    }

    /// Ends at once and without a word, as if the power had failed: for tests. Returns when the
    /// port is free again.
    pub async fn kill(mut self) {
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        self.stop.cancel();
    }
}

/// Becoming a member, then a part of the tree.
struct Joining {
    shell: TreeShell,
    hub: LinkHub,
    membership: Membership,
    seeds: Vec<Contact>,
    peers_file: PathBuf,
    invite_file: PathBuf,
    ledger: LedgerHandle,
    tree: TreeHandle,
    upkeep: Duration,
}

impl Joining {
    async fn run(self, me: NodeId, stop: CancellationToken) {
        let Self { shell, hub, mut membership, seeds, .. } = self;
        let made = membership.ensure(&stop).await;
        if stop.is_cancelled() {
            return;
        }
        let remembered: Vec<Contact> = disk::read_bounded(&self.peers_file, PEERS_MAX)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let (live, heads, contacts, out) = self
            .ledger
            .run(move |ledger| {
                let out = ledger.all_out();
                let is_lane = |kind: &str| kind.parse::<Lane>().is_ok();
                let all = ledger.store().all();
                let waits = |id| ledger.gate().waiting(id).is_some();
                let listed = all.filter(|o| !is_lane(o.kind()) || waits(&o.id));
                let live: Vec<_> = listed.map(|o| o.id).collect();
                let heads: std::collections::BTreeMap<String, Head> = ledger
                    .heads()
                    .into_iter()
                    .map(|(lane, head)| (lane.to_string(), head))
                    .collect();
                let contacts: Vec<_> = ledger
                    .store()
                    .list(Join::KIND, None)
                    .filter_map(|stored| Join::parse(&stored.envelope).ok())
                    .filter(|join| join.node != me && !out.contains_key(&join.node))
                    .filter_map(|join| Some(Contact::new(join.node, join.address?)))
                    .take(CONTACTS_MAX)
                    .collect();
                (live, heads, contacts, out)
            })
            .await;
        let mut remembered = remembered;
        remembered.retain(|contact| !out.contains_key(&contact.id));
        let start = Input::Start { seeds, remembered, live, heads };
        let keeping = membership.keep(self.tree.clone(), self.upkeep, stop.clone());
        let (ledger, tree) = (self.ledger.clone(), self.tree.clone());
        let crossing = cross_watch::run(me, ledger, tree, self.upkeep, stop.clone());
        let shredding =
            membership::shred_when_placed(self.invite_file, self.tree.clone(), stop.clone());
        let telling = async {
            self.tree.contacts(contacts).await;
            self.tree.publish(made).await;
        };
        tokio::join!(shell.run(start, out, hub, stop), keeping, crossing, shredding, telling);
    }
}

/// Applies what waited, when its time has come, and has the tree list what still waits.
async fn tick(ledger: LedgerHandle, tree: TreeHandle, stop: CancellationToken) {
    let (mut listed, mut waits) = (None, ledger.waits());
    loop {
        let pace = if *waits.borrow_and_update() { GATE_PACE } else { GATE_REST };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pace) => {}
            Ok(()) = waits.changed() => {}
        }
        let (applied, waiting) = ledger
            .run(|ledger| {
                let applied = ledger.tick();
                let waiting: BTreeSet<Digest> = ledger.gate().docs().map(|(id, _)| *id).collect();
                (applied, waiting)
            })
            .await;
        if !applied.is_empty() {
            tree.publish(applied).await;
        }
        if listed.as_ref() != Some(&waiting) {
            tree.waiting(waiting.clone()).await;
            listed = Some(waiting);
        }
    }
}

async fn tree_node(me: NodeId, settings: &Settings, ledger: &LedgerHandle) -> Node {
    let fanout = ledger.run(|ledger| ledger.chain().policy().map(|policy| policy.fanout)).await;
    Node::new(me, tree_config(settings, fanout), rand::rngs::OsRng.next_u64())
}

fn tree_config(settings: &Settings, fanout: Option<u16>) -> Config {
    let defaults = Config::default();
    Config {
        fanout: fanout.unwrap_or(defaults.fanout),
        address: settings.advertise.clone().map(Into::into),
        // All of them: the head of one that the tree does not follow leads nobody to its statements.
        lanes: Arc::new(Lane::ALL.iter().map(|lane| lane.as_str().to_owned()).collect()),
        heartbeat: settings.pace.heartbeat,
        silence: settings.pace.silence,
        ..defaults
    }
}

/// A gate that knows the addresses of the fleet's members, as far as their records name them.
async fn gate_of(ledger: &LedgerHandle) -> Gate {
    let members = ledger.run(|ledger| ledger.members(unix_now())).await;
    let gate = Gate::new();
    let addresses = members.into_values().filter_map(|join| join.address);
    for address in addresses.filter_map(|address| address.parse::<SocketAddr>().ok()) {
        gate.knows(address.ip());
    }
    gate
}

/// Binds the port; where the machine has no IPv6 at all, its IPv4 half.
async fn listen(address: &str) -> Result<TcpListener, StartError> {
    let failed = |source| StartError::Listen { listen: address.to_owned(), source };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) => match address.strip_prefix("[::]:") {
            Some(port) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                TcpListener::bind(format!("0.0.0.0:{port}")).await.map_err(failed)
            }
            _ => Err(failed(error)),
        },
    }
}

/// A fresh key and all of its uses once, for `--selftest`: whether this program runs on this
/// machine at all.
///
/// # Errors
/// What does not work.
pub fn selftest() -> io::Result<()> {
    let mut seed = [0; 32];
    rand::rngs::OsRng.try_fill_bytes(&mut seed).map_err(io::Error::other)?;
    let key = SecretKey::from_seed(seed);
    let kind = borgios_types::Kind::new("selftest").map_err(io::Error::other)?;
    let envelope = borgios_types::Envelope::unsigned(kind, "{}".to_owned()).sign(&key);
    let again = borgios_types::Envelope::parse(envelope.to_json().as_bytes());
    if !again.map_err(io::Error::other)?.signed_by(&key.public()) {
        return Err(io::Error::other("a signature that was just made does not verify"));
    }
    let _ = russh_key(&key);
    let folder = std::env::temp_dir().join(format!("borgiosd-selftest-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let written = disk::write_durable(&folder.join("file"), b"x", 0o600);
    std::fs::remove_dir_all(&folder)?;
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the shell leaves out of the list, because a head leads there, the tree follows; and so do the
    /// simulations, which take what is usual.
    #[test]
    fn the_tree_follows_every_lane_there_is() {
        let settings = Settings::below(std::path::Path::new("/nowhere"), "web-1".parse().unwrap());
        let lanes = tree_config(&settings, None).lanes;
        assert_eq!(lanes.len(), Lane::ALL.len());
        assert!(Lane::ALL.iter().all(|lane| lanes.contains(lane.as_str())));
        assert_eq!(lanes, Config::default().lanes);
    }
}
