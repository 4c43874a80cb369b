//! A server of the network: it joins as its owner would, and says how it is over its own socket.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::command::Output;
use crate::lab::root;
use crate::server::Server;
use crate::wait;

/// Longest a join over ssh may take: install, health check, finding the tree.
pub const JOIN_BOUND: Duration = Duration::from_secs(480);
/// Longest an install may take, from the vote to the end of its probation.
pub const INSTALL_BOUND: Duration = Duration::from_secs(240);
/// The agent's TCP port.
pub const PORT: u16 = 7117;
/// The command line on a server that joined.
pub(crate) const CLI: &str = "/opt/borgios/current/agent/files/bin/borgios";

/// The agent as its own server sees it.
impl Server<'_> {
    /// Where other members reach its agent.
    #[must_use]
    pub fn agent(self) -> String {
        format!("{}:{PORT}", self.address())
    }

    /// What `borgios status --json` says on the server, over the agent's own socket.
    ///
    /// # Errors
    /// No agent answers there.
    pub fn status(self) -> Result<Value> {
        self.try_sh(&format!("{CLI} status --json"))?.ok()?.json()
    }

    /// What `borgios ARGUMENTS --json` says on the server.
    ///
    /// # Errors
    /// No agent answers there.
    pub fn borgios(self, arguments: &str) -> Result<Value> {
        self.try_sh(&format!("{CLI} {arguments} --json"))?.ok()?.json()
    }

    /// The number of the release that its keeper has installed, as it says itself.
    ///
    /// # Errors
    /// No agent answers there, or no keeper to it.
    pub fn installed(self) -> Result<u64> {
        let status = self.status()?;
        status["keeper"]["installed"].as_u64().with_context(|| format!("status is {status}"))
    }

    /// Waits until a release is installed and nothing is under way.
    ///
    /// # Errors
    /// Not within [`INSTALL_BOUND`].
    pub fn wait_installed(self, release: u64) -> Result<Value> {
        self.wait_status(&format!("release/{release} installed"), INSTALL_BOUND, |status| {
            status["keeper"]["installed"] == release
                && status["keeper"]["activity"]["doing"] == "idle"
        })
    }

    /// Waits until the agent's status is as `wanted`.
    ///
    /// # Errors
    /// Not within `bound`; the message ends with the last status.
    pub fn wait_status(
        self,
        what: &str,
        bound: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let what = format!("{}: {what}", self.host());
        wait::until(&what, bound, || {
            let status = self.status()?;
            ensure!(wanted(&status), "status is {status}");
            Ok(Some(status))
        })
    }

    /// Joins a network as its owner would: bootstrap.sh, bundle and invitation over ssh, consent by
    /// the host's name.
    ///
    /// # Errors
    /// bootstrap.sh refused or failed; the message holds what it said.
    pub fn join(self, bundle: &Path, invitation: &Path) -> Result<()> {
        self.try_join(bundle, invitation)?.ok()?;
        // As an owner is told to: neither is needed any more, and the invitation holds a secret. By
        // the console, for the owner's login ends with the join.
        self.sh("rm -f /root/invite.json /root/bundle.tar").map(drop)
    }

    /// As [`Server::join`], with the public key of an owner who wants to be able to leave.
    ///
    /// # Errors
    /// As [`Server::join`].
    pub fn join_owned(self, bundle: &Path, invitation: &Path, owner: &Path) -> Result<()> {
        self.bring(bundle, invitation)?;
        self.put(owner, "/root/owner.pub")?;
        let join = format!("{} --owner-key owner.pub", self.join_line());
        self.ssh(&join, b"", JOIN_BOUND)?.ok()?;
        self.sh("rm -f /root/invite.json /root/bundle.tar").map(drop)
    }

    /// As [`Server::join`], for a join that may be refused.
    ///
    /// # Errors
    /// A file that cannot be copied, a join that does not end.
    pub fn try_join(self, bundle: &Path, invitation: &Path) -> Result<Output> {
        self.bring(bundle, invitation)?;
        self.ssh(&self.join_line(), b"", JOIN_BOUND)
    }

    /// As [`Server::try_join`], on the console: the one way into a server that is a member.
    ///
    /// # Errors
    /// As [`Server::try_join`].
    pub fn try_join_on_console(self, bundle: &Path, invitation: &Path) -> Result<Output> {
        self.bring(bundle, invitation)?;
        self.feed(&self.join_line(), b"", JOIN_BOUND)
    }

    /// Brings script, bundle and invitation into root's home folder.
    ///
    /// # Errors
    /// A file that cannot be copied.
    pub fn bring(self, bundle: &Path, invitation: &Path) -> Result<()> {
        self.put(&root().join("bootstrap.sh"), "/root/bootstrap.sh")?;
        self.put(bundle, "/root/bundle.tar")?;
        self.put(invitation, "/root/invite.json")
    }

    /// What an owner types to join, once the three files are there.
    #[must_use]
    pub fn join_line(self) -> String {
        format!(
            "cd /root && sh ./bootstrap.sh join --invite invite.json --bundle bundle.tar --hand-over {} --yes --advertise {}",
            self.host(),
            self.agent()
        )
    }
}
