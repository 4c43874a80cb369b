//! A fleet of agents on loopback, and waiting for what they do.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use borgios_agent::agent::Agent;
use borgios_agent::api::Caller;
use borgios_agent::settings::{Pace, Settings};
use borgios_policy::Member;
use borgios_types::{Digest, Envelope, NodeId, SecretKey};
use serde_json::{Value, json};

use crate::board::TestBoard;
use crate::keeper::FakeKeeper;

/// Longest wait for anything; things take well below a second when nothing is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The body of a release of one small component.
pub(crate) fn body(version: &str) -> serde_json::Value {
    let digest = Digest::of(b"keeper");
    json!({
        "version": version,
        "components": [{"name": "app", "digest": digest, "size": 6}],
        "installer": {"digest": digest, "size": 6},
        "floor": 1,
    })
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One server.
pub(crate) struct Server {
    pub(crate) settings: Settings,
    pub(crate) keeper: FakeKeeper,
    pub(crate) running: Option<Agent>,
    _folder: tempfile::TempDir,
}

impl Server {
    pub(crate) fn agent(&self) -> &Agent {
        self.running.as_ref().unwrap()
    }

    pub(crate) fn me(&self) -> NodeId {
        self.agent().me
    }

    pub(crate) fn address(&self) -> String {
        self.settings.advertise.clone().unwrap()
    }

    pub(crate) fn member(&self) -> Member {
        Member { address: self.address(), key: self.me() }
    }

    /// Starts it, again if it ran before.
    pub(crate) async fn start(&mut self) {
        self.running = Some(Agent::start(self.settings.clone()).await.unwrap());
        self.keeper.serves(self.me());
    }

    /// As if the power had failed.
    pub(crate) async fn kill(&mut self) {
        self.running.take().unwrap().kill().await;
    }

    pub(crate) fn state(&self) -> &Path {
        &self.settings.state
    }

    pub(crate) fn invite_file(&self) -> PathBuf {
        self.state().join("invite.json")
    }

    pub(crate) async fn ask(&self, request: Value) -> Value {
        self.agent().api.request(&Caller::Local, &request.to_string()).await
    }

    pub(crate) async fn status(&self) -> Value {
        self.ask(json!({"get": "status"})).await["ok"].clone()
    }

    pub(crate) async fn put(&self, envelope: &Envelope) -> Value {
        self.ask(json!({"put": "envelope", "envelope": envelope})).await
    }

    pub(crate) async fn has(&self, envelope: &Envelope) -> bool {
        self.ask(json!({"get": "object", "id": envelope.id()})).await.get("ok").is_some()
    }

    /// Waits until it has written down whom to look for after a restart.
    pub(crate) async fn remembers_peers(&self) {
        let file = self.state().join("peers.json");
        until("peers are remembered", async || file.exists()).await;
    }

    pub(crate) fn attached(&self) -> bool {
        self.agent().api.ready()
    }

    pub(crate) fn root(&self) -> NodeId {
        self.agent().tree.view().borrow().path[0]
    }
}

/// Servers under one board.
pub(crate) struct Fleet {
    pub(crate) board: TestBoard,
    pub(crate) servers: Vec<Server>,
}

impl Fleet {
    /// `size` servers that have formed one tree.
    pub(crate) async fn of(size: usize, fanout: u16) -> Self {
        let mut fleet = Self { board: TestBoard::new(fanout), servers: Vec::new() };
        for _ in 0..size {
            fleet.join().await;
        }
        fleet.whole().await;
        fleet
    }

    /// The same, each changed by `shape` before it starts.
    pub(crate) async fn shaped(size: usize, shape: impl Fn(usize, &mut Settings)) -> Self {
        let mut fleet = Self { board: TestBoard::new(2), servers: Vec::new() };
        for at in 0..size {
            fleet.join_as(|settings| shape(at, settings)).await;
        }
        fleet.whole().await;
        fleet
    }

    /// Adds one server, invited by the first.
    pub(crate) async fn join(&mut self) -> &mut Server {
        self.join_as(|_| ()).await
    }

    /// Adds one server with settings of its own, invited by the first.
    pub(crate) async fn join_as(&mut self, shape: impl FnOnce(&mut Settings)) -> &mut Server {
        let members = self.servers.first().map(|server| vec![server.member()]);
        let mut server = self.prepare(members.unwrap_or_default());
        shape(&mut server.settings);
        server.start().await;
        until("a joiner has a place", async || server.attached()).await;
        self.servers.push(server);
        self.servers.last_mut().unwrap()
    }

    /// A server that has an invitation and has not started.
    pub(crate) fn prepare(&self, members: Vec<Member>) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("server-{}", self.servers.len()).parse().unwrap();
        let mut settings = Settings::below(folder.path(), name);
        // A port that was free a moment ago: others must know it before the agent listens.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        settings.listen = free.to_string();
        settings.advertise = Some(free.to_string());
        settings.pace = Pace {
            keeper: Duration::from_millis(50),
            fetch: Duration::from_millis(200),
            upkeep: Duration::from_millis(500),
            report: Duration::from_secs(1),
            farewell: Duration::from_secs(5),
            ..Pace::default()
        };
        let mut seed = [0; 32];
        rand::RngCore::fill_bytes(&mut rand::rngs::OsRng, &mut seed);
        let key = SecretKey::from_seed(seed);
        let keeper = FakeKeeper::start(&settings.keeper_socket, key, self.board.network());
        std::fs::create_dir_all(&settings.state).unwrap();
        let invite = serde_json::to_vec(&self.board.invite(members)).unwrap();
        std::fs::write(settings.state.join("invite.json"), invite).unwrap();
        Server { settings, keeper, running: None, _folder: folder }
    }

    /// Waits until all running servers stand in one tree.
    pub(crate) async fn whole(&self) {
        until("one tree", async || {
            let running: Vec<_> = self.servers.iter().filter(|s| s.running.is_some()).collect();
            let root = running[0].root();
            running.iter().all(|server| server.attached() && server.root() == root)
                && running.iter().any(|server| server.me() == root)
        })
        .await;
    }

    /// Waits until all running servers hold an object.
    pub(crate) async fn all_have(&self, envelope: &Envelope) {
        for server in self.servers.iter().filter(|server| server.running.is_some()) {
            until("an object everywhere", async || server.has(envelope).await).await;
        }
    }
}
