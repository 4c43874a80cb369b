//! The lab from Rust: servers that boot, die, are cut off and are reinstalled.
//!
//! A thin, typed door to `tests/lab/lab.sh`, which says what a machine of the lab is. Environment:
//! `LAB_NAME` and `LAB_NET` choose which lab, so that several can stand side by side; those of further
//! lanes ([`lane`]) are named after it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::command::{self, COMMAND_BOUND, Output};
use crate::lane;
use crate::server::Server;

/// Longest a boot of all servers may take, a first build of the base image included.
const UP_BOUND: Duration = Duration::from_secs(900);
/// Most servers a lab may have here; lab.sh itself goes to 250.
const SERVERS_MAX: u8 = 64;

/// A running lab of servers 1 to n. Dropping it takes it down.
#[derive(Debug)]
pub struct Lab {
    script: PathBuf,
    name: String,
    net: String,
    settings: Vec<(String, String)>,
    servers: u8,
    down: bool,
}

impl Lab {
    /// Boots servers 1 to `servers`, fresh: what an earlier lab of this name left goes first.
    ///
    /// # Errors
    /// Not being root, a missing tool, a server that does not boot: lab.sh says which.
    pub fn up(servers: u8) -> Result<Self> {
        Self::up_with(servers, &[])
    }

    /// As [`Lab::up`], with settings of `lab.sh` for all of its servers, e.g. `LAB_DISK`.
    ///
    /// # Errors
    /// As [`Lab::up`].
    pub fn up_with(servers: u8, settings: &[(&str, &str)]) -> Result<Self> {
        let setting = |key: &str, default: &str| std::env::var(key).unwrap_or(default.to_owned());
        let script = root().join("tests/lab/lab.sh");
        let (name, net) = lane::lab_of(&setting("LAB_NAME", "test"), &setting("LAB_NET", "10.78"));
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let settings = settings.iter().map(owned).collect();
        let mut lab = Self { script, name, net, settings, servers: 0, down: false };
        lab.call(&["down"], COMMAND_BOUND)?;
        lab.grow(servers)?;
        Ok(lab)
    }

    /// Whether servers of another Debian release can be had here: builds their image if need be.
    ///
    /// # Errors
    /// Why not: debootstrap's own words.
    pub fn has_image(suite: &str) -> Result<()> {
        let mut base = Command::new(root().join("tests/lab/lab.sh"));
        base.env("LAB_SUITE", suite).arg("base");
        command::run(base, b"", UP_BOUND)?.ok().map(drop)
    }

    /// The first two octets of its net.
    pub(crate) fn net(&self) -> &str {
        &self.net
    }

    /// Boots more servers, up to number `servers`; those that run go on.
    ///
    /// # Errors
    /// As [`Lab::up`].
    pub fn grow(&mut self, servers: u8) -> Result<()> {
        if servers == 0 || servers > SERVERS_MAX {
            bail!("a lab has 1 to {SERVERS_MAX} servers, not {servers}");
        }
        self.call(&["up", &servers.to_string()], UP_BOUND)?;
        self.servers = self.servers.max(servers);
        Ok(())
    }

    /// Server `number`, which must be one that is up.
    #[must_use]
    pub fn server(&self, number: u8) -> Server<'_> {
        assert!((1..=self.servers).contains(&number), "the lab has no server {number}");
        Server::new(self, number)
    }

    /// All servers, by number.
    pub fn servers(&self) -> impl Iterator<Item = Server<'_>> {
        (1..=self.servers).map(|number| self.server(number))
    }

    /// A command on the owner's laptop: the network namespace that reaches every server.
    #[must_use]
    pub fn laptop(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.script(&["run"]);
        command.arg(program);
        command
    }

    /// The private key with which the owner of every server logs in.
    #[must_use]
    pub fn owner_key(&self) -> PathBuf {
        let folder =
            std::env::var_os("LAB_DIR").map_or("/var/tmp/borgios-lab".into(), PathBuf::from);
        folder.join(&self.name).join("id_ed25519")
    }

    /// The laptop's address, where servers can reach what a scenario serves.
    #[must_use]
    pub fn laptop_address(&self) -> String {
        format!("{}.0.1", self.net)
    }

    /// Cuts two groups of servers off from each other, both ways.
    ///
    /// # Errors
    /// A rule the switch does not take.
    pub fn partition(&self, one: &[u8], other: &[u8]) -> Result<()> {
        let group =
            |servers: &[u8]| servers.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
        self.call(&["partition", &group(one), &group(other)], COMMAND_BOUND).map(drop)
    }

    /// Cuts one server off from all other servers; the laptop still reaches it.
    ///
    /// # Errors
    /// As [`Lab::partition`].
    pub fn isolate(&self, server: u8) -> Result<()> {
        let rest: Vec<u8> = (1..=self.servers).filter(|other| *other != server).collect();
        self.partition(&[server], &rest)
    }

    /// Undoes every partition, pulled cable, delay and loss.
    ///
    /// # Errors
    /// lab.sh could not.
    pub fn heal(&self) -> Result<()> {
        self.call(&["heal"], COMMAND_BOUND).map(drop)
    }

    /// Takes the lab down and checks that nothing of it is left on this computer.
    ///
    /// # Errors
    /// Something would not end, or is left: the message names it.
    pub fn take_down(mut self) -> Result<()> {
        self.down = true;
        self.call(&["down"], COMMAND_BOUND)?;
        self.call(&["check"], COMMAND_BOUND).map(drop)
    }

    pub(crate) fn script(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.script);
        command.envs(self.settings.iter().map(|(key, value)| (key, value)));
        command.env("LAB_NAME", &self.name).env("LAB_NET", &self.net).args(arguments);
        command
    }

    pub(crate) fn call(&self, arguments: &[&str], bound: Duration) -> Result<Output> {
        command::run(self.script(arguments), b"", bound)?.ok()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.down || std::env::var_os("LAB_KEEP").is_some() {
            return;
        }
        // Nothing to do about an error here: the next `up`, and run.sh's last check, see to it.
        drop(self.call(&["down"], COMMAND_BOUND));
    }
}

/// The top folder of the source.
#[must_use]
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().and_then(Path::parent).map_or(here.clone(), Path::to_path_buf)
}
