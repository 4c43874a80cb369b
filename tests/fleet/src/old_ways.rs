//! The ways into root that a server's owner had: password and key over ssh, and `su`.

use anyhow::{Result, ensure};

use crate::command::{self, Output};
use crate::server::Server;
use crate::wait::SOON;

/// What root's password is on every fresh server of the lab.
const PASSWORD: &str = "original";

impl Server<'_> {
    /// Checks that password, key and `su` each make the owner root.
    ///
    /// # Errors
    /// Names the way that is shut.
    pub fn old_ways_open(self) -> Result<()> {
        for (way, output) in self.old_ways()? {
            let is_root = output.code == 0 && output.text() == "0";
            ensure!(is_root, "{}: {way} no longer opens root: {}", self.host(), output.all());
        }
        Ok(())
    }

    /// Checks that password, key and `su` are each refused: by sshd and by `su`, not by silence.
    ///
    /// # Errors
    /// Names the way that is open, or that gave another answer than a refusal.
    pub fn old_ways_shut(self) -> Result<()> {
        for (way, output) in self.old_ways()? {
            let said = output.all();
            ensure!(output.code != 0, "{}: {way} still opens root: {said}", self.host());
            let refused = said.contains("Permission denied") || said.contains("failure");
            ensure!(refused, "{}: {way} was not refused but {said}", self.host());
        }
        Ok(())
    }

    fn old_ways(self) -> Result<[(&'static str, Output); 3]> {
        let number = self.number().to_string();
        let mut password = self.lab().script(&["ssh", &number, "id -u"]);
        password.env("LAB_PASS", PASSWORD);
        // The host's key is another after the hand-over; whether the owner's key opens it is the question.
        let mut key = self.lab().laptop("ssh");
        for option in ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes"]
        {
            key.args(["-o", option]);
        }
        key.args(["-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR", "-i"]);
        key.arg(self.lab().owner_key()).arg(format!("root@{}", self.address())).arg("id -u");
        let su = "runuser -u nobody -- su root -c 'id -u'";
        Ok([
            ("the password over ssh", command::run(password, b"", SOON)?),
            ("the key over ssh", command::run(key, b"", SOON)?),
            ("su", self.feed(su, format!("{PASSWORD}\n").as_bytes(), SOON)?),
        ])
    }
}
