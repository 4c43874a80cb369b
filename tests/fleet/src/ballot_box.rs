//! Releases and policies put to the vote, each governor at a node of their own choice, until the
//! votes make a signature.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use borgios_types::Envelope;
use serde_json::Value;

use crate::command::Output;
use crate::component::Service;
use crate::governor::Governor;
use crate::network::{Network, text};
use crate::server::Server;
use crate::wait;

/// Longest a proposal or a ballot may take from one node to another.
pub const VOTE_BOUND: Duration = wait::SOON;

/// Where a governor speaks and listens.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// A node over the network.
    Node(Server<'a>),
    /// The shared folder: no node hears of it.
    Exchange,
}

impl Network<'_> {
    /// `borgios ARGUMENTS` of a governor at a place.
    ///
    /// # Errors
    /// It was refused.
    pub fn at(&self, governor: &str, place: Place<'_>, arguments: &[&str]) -> Result<Value> {
        self.try_at(governor, place, arguments)?.ok()?.json()
    }

    /// As [`Network::at`], for what may be refused.
    ///
    /// # Errors
    /// It did not end in time.
    pub fn try_at(&self, governor: &str, place: Place<'_>, arguments: &[&str]) -> Result<Output> {
        let (flag, value) = match place {
            // Where a server is what the command is about, `--node` names that one.
            Place::Node(server)
                if arguments.contains(&"--node") || arguments.first() == Some(&"depart") =>
            {
                ("--via", server.agent())
            }
            Place::Node(server) => ("--node", server.agent()),
            Place::Exchange => ("--exchange", text(&self.file("exchange"))?),
        };
        let arguments: Vec<&str> =
            arguments.iter().copied().chain([flag, &value, "--json"]).collect();
        self.governor(governor).try_borgios(&arguments)
    }

    /// Builds a service's component into the laptop's blobs.
    ///
    /// # Errors
    /// The disk, or a service that is no component.
    pub fn service(&self, service: &Service<'_>) -> Result<PathBuf> {
        let name = format!("{}-{}", service.name, service.version);
        let folder = self.file("parts").join(&name);
        service.lay(&folder)?;
        self.component(&folder, &name)
    }

    /// Ann proposes the next release: what is in force, and these components.
    ///
    /// # Errors
    /// It was refused.
    pub fn propose(&self, place: Place<'_>, version: &str, components: &[PathBuf]) -> Result<()> {
        let files = components.iter().map(|path| text(path)).collect::<Result<Vec<_>>>()?;
        let mut arguments = vec!["propose", "release", "--version", version, "--keep"];
        arguments.push("--component");
        arguments.extend(files.iter().map(String::as_str));
        self.at("ann", place, &arguments).map(drop)
    }

    /// Gives a node the blobs to hand on.
    ///
    /// # Errors
    /// It was refused.
    pub fn bring(&self, server: Server<'_>, component: &Path) -> Result<()> {
        self.at("ann", Place::Node(server), &["blob", "put", &text(component)?]).map(drop)
    }

    /// A governor approves or rejects, as soon as the proposal has come to that place.
    ///
    /// # Errors
    /// Not within [`VOTE_BOUND`], or the vote was refused.
    pub fn vote(
        &self,
        governor: &str,
        place: Place<'_>,
        what: &str,
        approve: bool,
    ) -> Result<Value> {
        let looking = format!("{what} is in {governor}'s inbox");
        wait::until(&looking, VOTE_BOUND, || {
            Ok(Some(self.at(governor, place, &["review", what])?))
        })?;
        let choice: &[&str] =
            if approve { &["approve"] } else { &["reject", "--reason", "not like this"] };
        let arguments: Vec<&str> = ["vote", what].iter().chain(choice).copied().collect();
        self.at(governor, place, &arguments)
    }

    /// Two governors approve, at two places, and the second waits until it is signed.
    ///
    /// # Errors
    /// Not within [`VOTE_BOUND`].
    pub fn approve(
        &self,
        what: &str,
        one: (&str, Place<'_>),
        two: (&str, Place<'_>),
    ) -> Result<()> {
        self.vote(one.0, one.1, what, true)?;
        self.vote(two.0, two.1, what, true)?;
        self.wait_signed(two.0, two.1, what)
    }

    /// Waits until a statement is signed and known at a place.
    ///
    /// # Errors
    /// Not within [`VOTE_BOUND`].
    pub fn wait_signed(&self, governor: &str, place: Place<'_>, what: &str) -> Result<()> {
        wait::until_true(&format!("{what} is signed"), VOTE_BOUND, || {
            self.at(governor, place, &["sync"])?;
            Ok(self.signed(governor, what)?.is_some())
        })
    }

    /// A signed statement as this governor holds it.
    ///
    /// # Errors
    /// The governor's log cannot be read.
    pub fn signed(&self, governor: &str, what: &str) -> Result<Option<Envelope>> {
        let governor = self.governor(governor);
        let log = governor.json(&["log"])?;
        let rows = log.as_array().context("the log is no list")?;
        let Some(row) = rows.iter().find(|row| row["place"] == what) else { return Ok(None) };
        let lane = what.split('/').next().unwrap_or_default();
        object(governor, lane, row["id"].as_str().context("a row without an id")?).map(Some)
    }

    /// A signed statement that must be there.
    ///
    /// # Errors
    /// It is not.
    pub fn statement(&self, governor: &str, what: &str) -> Result<Envelope> {
        self.signed(governor, what)?.with_context(|| format!("{governor} knows no signed {what}"))
    }

    /// A release of one service, all the way: built, brought to server 1, proposed and voted there.
    ///
    /// # Errors
    /// Any of that was refused.
    pub fn release(&self, seq: u64, service: &Service<'_>) -> Result<()> {
        let one = self.lab().server(1);
        let component = self.service(service)?;
        self.bring(one, &component)?;
        self.propose(Place::Node(one), &seq.to_string(), &[component])?;
        let node = Place::Node(one);
        self.approve(&format!("release/{seq}"), ("ann", node), ("cleo", node))
    }
}

/// An object from a governor's folder.
///
/// # Errors
/// It is not there, or no envelope.
pub fn object(governor: &Governor<'_>, kind: &str, id: &str) -> Result<Envelope> {
    let hex = id.strip_prefix("sha256:").context("an id that is no digest")?;
    let path = governor.home().join("objects").join(kind).join(format!("{hex}.json"));
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Envelope::parse(&bytes).with_context(|| format!("{} is no envelope", path.display()))
}
