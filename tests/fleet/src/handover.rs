//! bootstrap.sh's own account of a hand-over on a server: stage, take-over, log, receipt.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::command::Output;
use crate::member::JOIN_BOUND;
use crate::server::Server;
use crate::wait;

/// What bootstrap.sh remembers on a server.
pub const FOLDER: &str = "/var/lib/borgios-bootstrap";
/// The unit in which a join runs after the consent.
const UNIT: &str = "borgios-join.scope";

impl Server<'_> {
    /// The last stage of a join, or nothing before the first.
    ///
    /// # Errors
    /// The server is off.
    pub fn stage(self) -> Result<String> {
        self.sh(&format!("cut -d' ' -f1 {FOLDER}/stage 2>/dev/null || true"))
    }

    /// Waits until a join stands at a stage.
    ///
    /// # Errors
    /// Not within `bound`.
    pub fn wait_stage(self, stage: &str, bound: Duration) -> Result<()> {
        let what = format!("{}: the join's stage is {stage}", self.host());
        wait::until_true(&what, bound, || {
            let found = self.stage()?;
            ensure!(found == stage, "it is {found:?}");
            Ok(true)
        })
    }

    /// The take-over's state, as the copy of the keeper says that its timer runs.
    ///
    /// # Errors
    /// There is none, or it does not answer.
    pub fn takeover(self) -> Result<Value> {
        self.try_sh(&format!("{FOLDER}/keeper takeover status --json"))?.ok()?.json()
    }

    /// Waits until nothing of a join runs any more, whatever it has come to.
    ///
    /// # Errors
    /// Not within [`JOIN_BOUND`].
    pub fn wait_join_over(self) -> Result<()> {
        wait::until_true(&format!("{}: no join runs", self.host()), JOIN_BOUND, || {
            Ok(self.try_sh(&format!("flock -n {FOLDER}/lock true"))?.code == 0)
        })
    }

    /// Kills everything of a join at once, now.
    ///
    /// # Errors
    /// None runs.
    pub fn kill_join(self) -> Result<()> {
        self.sh(&format!("echo 1 >{}/cgroup.kill", scope())).map(drop)
    }

    /// bootstrap.sh with a command of its own, on the console.
    ///
    /// # Errors
    /// It did not end in time.
    pub fn bootstrap(self, arguments: &str) -> Result<Output> {
        self.feed(&format!("cd /root && sh ./bootstrap.sh {arguments}"), b"", JOIN_BOUND)
    }

    /// Checks that root is the network's, and the server a member in the tree.
    ///
    /// # Errors
    /// What is not so.
    pub fn handed_over(self) -> Result<()> {
        self.wait_join_over()?;
        let stage = self.stage()?;
        ensure!(stage == "joined", "{}: the join ended at {stage}", self.host());
        self.wait_status("in the tree and handed over", JOIN_BOUND, |status| {
            status["tree"]["state"] == "attached" && status["keeper"]["handed_over"] == true
        })?;
        self.old_ways_shut()?;
        let left = "/opt/borgios/current/borgios-keeper/files/bin/borgios-keeper takeover verify";
        self.try_sh(left)?.ok().map(drop)
    }
}

/// The control group of the unit.
pub(crate) fn scope() -> String {
    format!("/sys/fs/cgroup/system.slice/{UNIT}")
}
