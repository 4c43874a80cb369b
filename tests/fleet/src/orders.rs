//! What the board orders about root, in the words of the command line: schedules, advances, reveals,
//! certificates, evictions; and an owner's departure.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::ballot_box::Place;
use crate::command::Output;
use crate::governor::Governor;
use crate::network::{Network, text};
use crate::server::Server;

/// What every order of a test says as its reason.
const REASON: &str = "a test of the fleet";

impl Network<'_> {
    /// Ann proposes something and two governors approve it, all at one place; returns its lane and
    /// number.
    ///
    /// # Errors
    /// It was refused, or not signed in time.
    pub fn order(&self, place: Place<'_>, arguments: &[&str]) -> Result<String> {
        let what = self.put(place, arguments)?;
        self.approve(&what, ("ann", place), ("cleo", place))?;
        self.at("ann", place, &["sync"])?;
        Ok(what)
    }

    /// Ann proposes something, and nobody has voted yet; returns its lane and number.
    ///
    /// # Errors
    /// It was refused.
    pub fn put(&self, place: Place<'_>, arguments: &[&str]) -> Result<String> {
        let reason = ["--reason", REASON];
        let arguments: Vec<&str> = arguments.iter().copied().chain(reason).collect();
        let answer = self.at("ann", place, &arguments)?;
        let what = answer["place"].as_str().with_context(|| format!("no place in {answer}"))?;
        Ok(what.to_owned())
    }

    /// A new schedule: `epochs` epochs of `every`, e.g. `20s`.
    ///
    /// # Errors
    /// As [`Network::order`].
    pub fn schedule(&self, place: Place<'_>, every: &str, epochs: u32) -> Result<String> {
        let epochs = epochs.to_string();
        self.order(place, &["credential", "schedule", "--every", every, "--epochs", &epochs])
    }

    /// All go on to the next epoch at once.
    ///
    /// # Errors
    /// As [`Network::order`].
    pub fn advance(&self, place: Place<'_>) -> Result<String> {
        self.order(place, &["credential", "advance"])
    }

    /// Asks for root's door of a server, for a while; nobody has voted yet.
    ///
    /// # Errors
    /// As [`Network::put`].
    pub fn request(
        &self,
        place: Place<'_>,
        server: Server<'_>,
        valid: &str,
        public_key: &Path,
    ) -> Result<String> {
        let (host, key) = (server.host(), text(public_key)?);
        let request = ["access", "request", "--node", &host, "--for", valid, "--key", &key];
        self.put(place, &request)
    }

    /// The certificate of a signed grant, in a file beside its key; nothing where it is refused.
    ///
    /// # Errors
    /// The command did not end in time, or wrote no certificate though it said so.
    pub fn certificate(&self, what: &str, key: &Path) -> Result<Option<PathBuf>> {
        let key = text(key)?;
        let made =
            self.governor("ann").try_borgios(&["access", "cert", what, "--key", &key, "--json"])?;
        if made.code == 1 {
            return Ok(None);
        }
        let told = made.ok()?.json()?;
        let path = told["certificate"].as_str().with_context(|| format!("no file in {told}"))?;
        ensure!(Path::new(path).is_file(), "there is no {path}");
        Ok(Some(PathBuf::from(path)))
    }

    /// Ends a grant early.
    ///
    /// # Errors
    /// As [`Network::order`].
    pub fn revoke(&self, place: Place<'_>, what: &str) -> Result<String> {
        let serial = what.trim_start_matches("access/");
        self.order(place, &["access", "revoke", serial])
    }

    /// Ann asks for the password of an epoch, for a while; nobody has voted yet.
    ///
    /// # Errors
    /// As [`Network::put`].
    pub fn reveal(&self, place: Place<'_>, epoch: u64, valid: &str) -> Result<String> {
        let epoch = epoch.to_string();
        self.put(place, &["credential", "reveal", "--epoch", &epoch, "--for", valid])
    }

    /// The password that ann asked for; none before it is signed.
    ///
    /// # Errors
    /// She did not ask for it, or it cannot be opened.
    pub fn password(&self, place: Place<'_>, epoch: u64) -> Result<Option<String>> {
        let epoch = epoch.to_string();
        let told = self.at("ann", place, &["credential", "reveal", "--epoch", &epoch])?;
        match (told["status"].as_str(), told["password"].as_str()) {
            (Some("waiting"), None) => Ok(None),
            (Some("revealed"), Some(password)) => Ok(Some(password.to_owned())),
            _ => anyhow::bail!("neither waiting nor revealed: {told}"),
        }
    }

    /// Puts a node out for good.
    ///
    /// # Errors
    /// As [`Network::order`].
    pub fn evict(&self, place: Place<'_>, server: Server<'_>) -> Result<String> {
        self.order(place, &["evict", &server.host()])
    }

    /// A governor who holds a server's owner's key takes it out, through a member; what the command
    /// said.
    ///
    /// # Errors
    /// It did not end in time.
    pub fn depart(&self, through: Server<'_>, server: Server<'_>, key: &Path) -> Result<Output> {
        let (host, key) = (server.host(), text(key)?);
        let depart = ["depart", "--node", &host, "--owner-key", &key, "--confirm", &host];
        self.try_at("ann", Place::Node(through), &depart)
    }

    /// An owner who is no governor signs the departure of a server by its receipt, alone; returns the
    /// file for a governor to send.
    ///
    /// # Errors
    /// The command refused.
    pub fn sign_departure(&self, server: Server<'_>, key: &Path) -> Result<PathBuf> {
        let owner = Governor::new(self.lab(), &self.file("owner"), "home")?;
        let (receipt, out) = (self.file("owner/handover.json"), self.file("owner/departure.json"));
        server.get("/var/lib/borgios-keeper/handover.json", &receipt)?;
        let host = server.host();
        owner.borgios(&[
            "depart",
            "--receipt",
            &text(&receipt)?,
            "--owner-key",
            &text(key)?,
            "--confirm",
            &host,
            "--out",
            &text(&out)?,
        ])?;
        Ok(out)
    }

    /// A governor sends a departure that an owner signed, through a member.
    ///
    /// # Errors
    /// It was refused.
    pub fn send_departure(&self, through: Server<'_>, departure: &Path) -> Result<()> {
        let sent = ["depart", "--send", &text(departure)?];
        self.at("ann", Place::Node(through), &sent).map(drop)
    }
}
