//! One server of the lab: its console and ssh, its power, its cable, its disk.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::command::{self, COMMAND_BOUND, Output};
use crate::lab::Lab;

/// One server of a lab, by number from 1.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    lab: &'a Lab,
    number: u8,
}

impl<'a> Server<'a> {
    pub(crate) fn new(lab: &'a Lab, number: u8) -> Self {
        Self { lab, number }
    }

    /// The lab it is in.
    #[must_use]
    pub fn lab(self) -> &'a Lab {
        self.lab
    }

    /// Its number, from 1.
    #[must_use]
    pub fn number(self) -> u8 {
        self.number
    }

    /// Its address in the lab's network.
    #[must_use]
    pub fn address(self) -> String {
        format!("{}.1.{}", self.lab.net(), self.number)
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

    /// As [`Server::ssh`], in a terminal that the story closes when it drops what it gets.
    ///
    /// # Errors
    /// ssh cannot be started.
    pub fn terminal(self, script: &str) -> Result<command::Running> {
        let number = self.number.to_string();
        command::start(self.lab.script(&["sshkey", &number, script]))
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
