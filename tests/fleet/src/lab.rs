//! The lab from Rust: servers that boot, die, are cut off and are reinstalled.
//!
//! A thin, typed door to `tests/lab/lab.sh`, which says what a machine of the lab is. Environment:
//! `LAB_NAME` and `LAB_NET` choose which lab, so that several can stand side by side.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::command::{self, COMMAND_BOUND, Output};

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
    servers: u8,
    down: bool,
}

/// One server of a lab, by number from 1.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    lab: &'a Lab,
    number: u8,
}

impl Lab {
    /// Boots servers 1 to `servers`, fresh: what an earlier lab of this name left goes first.
    ///
    /// # Errors
    /// Not being root, a missing tool, a server that does not boot: lab.sh says which.
    pub fn up(servers: u8) -> Result<Self> {
        let setting = |key: &str, default: &str| std::env::var(key).unwrap_or(default.to_owned());
        let script = root().join("tests/lab/lab.sh");
        let (name, net) = (setting("LAB_NAME", "test"), setting("LAB_NET", "10.78"));
        let mut lab = Self { script, name, net, servers: 0, down: false };
        lab.call(&["down"], COMMAND_BOUND)?;
        lab.grow(servers)?;
        Ok(lab)
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
        Server { lab: self, number }
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

    fn script(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.script);
        command.env("LAB_NAME", &self.name).env("LAB_NET", &self.net).args(arguments);
        command
    }

    fn call(&self, arguments: &[&str], bound: Duration) -> Result<Output> {
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

impl Server<'_> {
    /// Its number, from 1.
    #[must_use]
    pub fn number(self) -> u8 {
        self.number
    }

    /// Its address in the lab's network.
    #[must_use]
    pub fn address(self) -> String {
        format!("{}.1.{}", self.lab.net, self.number)
    }

    /// Its host name.
    #[must_use]
    pub fn host(self) -> String {
        format!("vps-{:02}", self.number)
    }

    /// Runs a shell script on the server's console and returns what it printed.
    ///
    /// # Errors
    /// The server is off, or the script ended with another code than 0.
    pub fn sh(self, script: &str) -> Result<String> {
        Ok(self.try_sh(script)?.ok()?.text().to_owned())
    }

    /// As [`Server::sh`], for a script that may fail.
    ///
    /// # Errors
    /// The script did not end in time.
    pub fn try_sh(self, script: &str) -> Result<Output> {
        self.feed(script, b"", COMMAND_BOUND)
    }

    /// As [`Server::try_sh`], with standard input and a bound of its own.
    ///
    /// # Errors
    /// The script did not end in time.
    pub fn feed(self, script: &str, input: &[u8], bound: Duration) -> Result<Output> {
        let number = self.number.to_string();
        command::run(self.lab.script(&["exec", &number, "sh", "-c", script]), input, bound)
    }

    /// Runs a shell command over ssh, as the owner would: as root, with the lab's key.
    ///
    /// # Errors
    /// The command did not end in time; ssh's own failures are code 255.
    pub fn ssh(self, script: &str, input: &[u8], bound: Duration) -> Result<Output> {
        let number = self.number.to_string();
        command::run(self.lab.script(&["sshkey", &number, script]), input, bound)
    }

    /// Copies a file or folder of this computer onto the server.
    ///
    /// # Errors
    /// A missing source, a full disk.
    pub fn put(self, from: &Path, to: &str) -> Result<()> {
        let from = from.to_str().context("a path that is not UTF-8")?;
        self.lab.call(&["cp", from, &format!("{}:{to}", self.number)], COMMAND_BOUND).map(drop)
    }

    /// Copies a file or folder of the server onto this computer.
    ///
    /// # Errors
    /// A missing source, a full disk.
    pub fn get(self, from: &str, to: &Path) -> Result<()> {
        let to = to.to_str().context("a path that is not UTF-8")?;
        self.lab.call(&["cp", &format!("{}:{from}", self.number), to], COMMAND_BOUND).map(drop)
    }

    /// The boot's id: another one after every boot.
    ///
    /// # Errors
    /// The server is off.
    pub fn boot_id(self) -> Result<String> {
        self.sh("cat /proc/sys/kernel/random/boot_id")
    }

    /// Powers on and waits for its sshd.
    ///
    /// # Errors
    /// It does not boot.
    pub fn start(self) -> Result<()> {
        self.act("start", &[])
    }

    /// Cuts its power: every process dies at once, the disk stays.
    ///
    /// # Errors
    /// It would not go off.
    pub fn kill(self) -> Result<()> {
        self.act("kill", &[])
    }

    /// Shuts it down cleanly.
    ///
    /// # Errors
    /// It would not go off.
    pub fn stop(self) -> Result<()> {
        self.act("stop", &[])
    }

    /// Asks the operating system to reboot and waits for its sshd.
    ///
    /// # Errors
    /// It does not come back.
    pub fn reboot(self) -> Result<()> {
        self.act("reboot", &[])
    }

    /// Throws the disk away and boots a fresh one.
    ///
    /// # Errors
    /// It does not boot.
    pub fn reinstall(self) -> Result<()> {
        self.act("reinstall", &[])
    }

    /// Stops every process of the server where it stands; [`Server::thaw`] lets go.
    ///
    /// # Errors
    /// The server is off.
    pub fn freeze(self) -> Result<()> {
        self.act("freeze", &[])
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// lab.sh could not.
    pub fn thaw(self) -> Result<()> {
        self.act("thaw", &[])
    }

    /// Plugs or pulls the network cable; the console still works.
    ///
    /// # Errors
    /// lab.sh could not.
    pub fn link(self, up: bool) -> Result<()> {
        self.act("link", &[if up { "up" } else { "down" }])
    }

    /// Makes its link bad, e.g. `["delay=50ms", "loss=5%"]`; an empty list makes it good again.
    ///
    /// # Errors
    /// A setting lab.sh does not know.
    pub fn netem(self, settings: &[&str]) -> Result<()> {
        self.act("netem", settings)
    }

    /// Whether this server gets an answer to a ping of `other`.
    ///
    /// # Errors
    /// The server is off.
    pub fn reaches(self, other: Self) -> Result<bool> {
        let ping =
            format!("ping -n -c 1 -W 1 {} >/dev/null && echo yes || echo no", other.address());
        Ok(self.sh(&ping)? == "yes")
    }

    fn act(self, verb: &str, rest: &[&str]) -> Result<()> {
        let number = self.number.to_string();
        let mut arguments = vec![verb, number.as_str()];
        arguments.extend_from_slice(rest);
        self.lab.call(&arguments, COMMAND_BOUND).map(drop)
    }
}

/// The top folder of the source.
#[must_use]
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().and_then(Path::parent).map_or(here.clone(), Path::to_path_buf)
}
