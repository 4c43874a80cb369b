//! A network in the lab: governors on the laptop, founded, voting, and servers that join.
//!
//! What stands here is only what several scenarios need, in the words of the command line, so that
//! a scenario reads like the README: found, propose, vote, bundle, invite, join.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::governor::Governor;
use crate::lab::{Lab, root};
use crate::server::Server;
use crate::wait;

/// Longest a join over ssh may take: install, health check, finding the tree.
pub const JOIN_BOUND: Duration = Duration::from_secs(240);
/// Longest the tree may take to become whole after a change.
pub const TREE_BOUND: Duration = Duration::from_secs(120);
/// The agent's TCP port.
pub const PORT: u16 = 7117;
/// The command line on a server that joined.
const CLI: &str = "/opt/borgios/current/agent/files/bin/borgios";

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
        for (file, name) in [
            (&*root().join("bootstrap.sh"), "bootstrap.sh"),
            (bundle, "bundle.tar"),
            (invitation, "invite.json"),
        ] {
            self.upload(file, &format!("/root/{name}"))?;
        }
        let join = format!(
            "cd /root && sh ./bootstrap.sh join --invite invite.json --bundle bundle.tar --hand-over {} --yes --advertise {}",
            self.host(),
            self.agent()
        );
        self.ssh(&join, b"", JOIN_BOUND)?.ok()?;
        // As an owner is told to: neither is needed any more, and the invitation holds a secret.
        self.ssh("rm -f /root/invite.json /root/bundle.tar", b"", JOIN_BOUND)?.ok().map(drop)
    }

    /// Copies a file onto the server over ssh, as the owner would.
    fn upload(self, from: &Path, to: &str) -> Result<()> {
        let bytes =
            std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.ssh(&format!("cat >{to}"), &bytes, JOIN_BOUND)?.ok().map(drop)
    }
}

/// Governors who founded a network together, and the folder of their laptop.
#[derive(Debug)]
pub struct Network<'a> {
    lab: &'a Lab,
    folder: PathBuf,
    governors: Vec<Governor<'a>>,
}

impl<'a> Network<'a> {
    /// Makes an identity for every name in `folder`, which is emptied first.
    ///
    /// # Errors
    /// A governor's identity could not be made.
    pub fn of(lab: &'a Lab, folder: &Path, names: &[&str]) -> Result<Self> {
        if folder.exists() {
            std::fs::remove_dir_all(folder)
                .with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        let governors = names.iter().map(|name| Governor::new(lab, folder, name));
        let governors = governors.collect::<Result<Vec<_>>>()?;
        for governor in &governors {
            governor.borgios(&["governor", "init", "--name", governor.name()])?;
        }
        Ok(Self { lab, folder: folder.to_owned(), governors })
    }

    /// The lab it runs in.
    #[must_use]
    pub fn lab(&self) -> &'a Lab {
        self.lab
    }

    /// The governors, in the order of their names as given.
    #[must_use]
    pub fn governors(&self) -> &[Governor<'a>] {
        &self.governors
    }

    /// A path in the laptop's folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Waits until every server given sees one whole tree of `size`.
    ///
    /// # Errors
    /// Not within [`TREE_BOUND`].
    pub fn wait_attached<'s>(&self, servers: impl IntoIterator<Item = Server<'s>>) -> Result<()> {
        for server in servers {
            server.wait_status("in the tree", TREE_BOUND, |status| {
                matches!(status["tree"]["state"].as_str(), Some("attached" | "root"))
            })?;
        }
        Ok(())
    }
}
