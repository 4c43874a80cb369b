//! A network in the lab: governors on the laptop, founded, voting, and servers that join.
//!
//! What stands here is only what several scenarios need, in the words of the command line, so that
//! a scenario reads like the README: found, propose, vote, bundle, invite, join.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::component::{self, Shipped};
use crate::governor::Governor;
use crate::lab::{Lab, root};
use crate::server::Server;
use crate::wait;

/// Longest the tree may take to become whole after a change.
pub const TREE_BOUND: Duration = Duration::from_secs(240);
/// The governors of every test, 2 of whom must agree.
pub const GOVERNORS: [&str; 3] = ["ann", "ben", "cleo"];
/// Most children of a node: two, so that five servers make a tree of some depth.
pub const FANOUT: usize = 2;
/// Longest founding, in turns: each governor looks at the folder once in each.
const TURNS: usize = 12;

/// Governors who founded a network together, and the folder of their laptop.
#[derive(Debug)]
pub struct Network<'a> {
    lab: &'a Lab,
    folder: PathBuf,
    governors: Vec<Governor<'a>>,
}

impl<'a> Network<'a> {
    /// A network of [`GOVERNORS`] with release/1, the agent itself, signed, and its bundle; no
    /// server has joined yet. `folder` is emptied first.
    ///
    /// The ceremony is held once per run of the tests; later calls copy its folder, so that each
    /// story begins at the same point without paying for it again.
    ///
    /// # Errors
    /// A governor was refused something.
    pub fn founded(lab: &'a Lab, story: &str) -> Result<Self> {
        static TEMPLATE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let template = TEMPLATE.get_or_init(|| {
            let folder = home("founding");
            let found = || -> Result<()> {
                let network = Self::of(lab, &folder, &GOVERNORS)?;
                network.found()?;
                network.first_release()
            };
            found().map(|()| folder.clone()).map_err(|error| format!("{error:#}"))
        });
        let template = template.as_ref().map_err(|why| anyhow::anyhow!("{why}"))?;
        let folder = home(story);
        empty(&folder)?;
        component::copy(template, &folder)?;
        let governors = GOVERNORS.iter().map(|name| Governor::new(lab, &folder, name));
        Ok(Self { lab, governors: governors.collect::<Result<_>>()?, folder })
    }

    /// Makes an identity for every name in `folder`, which is emptied first.
    ///
    /// # Errors
    /// A governor's identity could not be made.
    pub fn of(lab: &'a Lab, folder: &Path, names: &[&str]) -> Result<Self> {
        empty(folder)?;
        let governors = names.iter().map(|name| Governor::new(lab, folder, name));
        let governors = governors.collect::<Result<Vec<_>>>()?;
        for governor in &governors {
            governor.borgios(&["governor", "init", "--name", governor.name()])?;
        }
        Ok(Self { lab, folder: folder.to_owned(), governors })
    }

    /// The key ceremony: everyone runs the same command until it says founded.
    ///
    /// # Errors
    /// A governor was refused, sees another roster, or it does not end.
    fn found(&self) -> Result<()> {
        let exchange = self.file("exchange");
        std::fs::create_dir_all(&exchange)?;
        let exchange = text(&exchange)?;
        let (fanout, all) = (FANOUT.to_string(), self.governors.len().to_string());
        let mut roster: Option<String> = None;
        for turn in 0..TURNS {
            let mut founded = 0;
            for (place, governor) in self.governors.iter().enumerate() {
                let mut found =
                    vec!["governor", "found", "--exchange", &exchange, "--name", "test"];
                // From the second turn on all cards are there: the first governor writes the plan.
                if (turn, place) == (1, 0) {
                    found.extend(["--threshold", "2", "--governors", &all, "--fanout", &fanout]);
                }
                if let Some(roster) = &roster {
                    found.extend(["--accept-roster", roster]);
                }
                let answer = governor.json(&found)?;
                match answer["status"].as_str() {
                    Some("founded") => founded += 1,
                    Some("confirm") => {
                        let seen = answer["roster"].as_str().context("no roster")?.to_owned();
                        ensure!(roster.as_ref().is_none_or(|known| *known == seen), "{answer}");
                        roster = Some(seen);
                    }
                    _ => {}
                }
            }
            if founded == self.governors.len() {
                return Ok(());
            }
        }
        anyhow::bail!("the founding did not end after {TURNS} turns")
    }

    /// release/1, the agent itself, voted through the exchange folder, and its bundle.
    fn first_release(&self) -> Result<()> {
        let shipped = Shipped::lay(&self.file("parts"))?;
        std::fs::create_dir_all(self.file("blobs"))?;
        let agent = self.component(&shipped.agent, "agent")?;
        let keeper = self.component(&shipped.keeper, "keeper")?;
        let exchange = text(&self.file("exchange"))?;
        let installer = text(&shipped.installer)?;
        let ann = self.governor("ann");
        ann.borgios(&[
            "propose",
            "release",
            "--version",
            "1",
            "--component",
            &text(&agent)?,
            &text(&keeper)?,
            "--installer",
            &installer,
            "--note",
            "the agent itself",
            "--exchange",
            &exchange,
        ])?;
        for name in ["ann", "cleo"] {
            let governor = self.governor(name);
            governor.borgios(&["review", "release/1", "--exchange", &exchange])?;
            governor.borgios(&["vote", "release/1", "approve", "--exchange", &exchange])?;
        }
        for governor in &self.governors {
            governor.borgios(&["sync", "--exchange", &exchange])?;
        }
        let (blobs, bundle) = (text(&self.file("blobs"))?, text(&self.bundle())?);
        ann.borgios(&["bundle", "--blobs", &blobs, "--installer", &installer, "--out", &bundle])
            .map(drop)
    }

    /// Builds a component of a folder into the laptop's `blobs` and returns its file.
    ///
    /// # Errors
    /// The folder is no component.
    pub fn component(&self, folder: &Path, name: &str) -> Result<PathBuf> {
        let out = self.file("blobs").join(format!("{name}.tar.zst"));
        let ann = self.governor("ann");
        ann.borgios(&["release", "build", &text(folder)?, "--out", &text(&out)?])?;
        Ok(out)
    }

    /// Joins server 1 as the first of the network, then all others of the lab through it, all at
    /// once; every governor then knows server 1.
    ///
    /// # Errors
    /// A join failed.
    pub fn join_all(&self) -> Result<()> {
        self.join_all_owned(None)
    }

    /// As [`Network::join_all`], every server with the public key of its owner.
    ///
    /// # Errors
    /// A join failed.
    pub fn join_all_owned(&self, owner: Option<&Path>) -> Result<()> {
        let bundle = self.bundle();
        let join = |server: Server<'a>, invitation: &Path| match owner {
            Some(owner) => server.join_owned(&bundle, invitation, owner),
            None => server.join(&bundle, invitation),
        };
        join(self.lab.server(1), &self.first_invitation()?)?;
        self.meet_first()?;
        let invitation = self.invite(20)?;
        let others: Vec<Server<'_>> = self.lab.servers().skip(1).collect();
        let joined: Vec<Result<()>> = std::thread::scope(|scope| {
            let (join, invitation) = (&join, &invitation);
            let threads: Vec<_> = others
                .iter()
                .map(|server| scope.spawn(move || join(*server, invitation)))
                .collect();
            let end = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
                thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a join panicked")))
            };
            threads.into_iter().map(end).collect()
        });
        joined.into_iter().collect()
    }

    /// The invitation of the very first server, which nobody is there to join through.
    ///
    /// # Errors
    /// It could not be made.
    pub fn first_invitation(&self) -> Result<PathBuf> {
        let (exchange, first) = (text(&self.file("exchange"))?, self.file("first.json"));
        let mut arguments = vec!["invite", "--first", "--uses", "1", "--for", "12h"];
        let out = text(&first)?;
        arguments.extend(["--out", &out, "--exchange", &exchange]);
        self.governor("ann").borgios(&arguments)?;
        Ok(first)
    }

    /// Every governor talks to server 1 from now on, which has just joined as the first.
    ///
    /// # Errors
    /// It does not answer.
    pub fn meet_first(&self) -> Result<()> {
        for governor in &self.governors {
            governor.borgios(&["connect", &self.lab.server(1).agent()])?;
        }
        self.governor("ann").borgios(&["sync"]).map(drop)
    }

    /// An invitation file for so many servers.
    ///
    /// # Errors
    /// It could not be made.
    pub fn invite(&self, uses: u32) -> Result<PathBuf> {
        let out = self.file("invite.json");
        let uses = uses.to_string();
        let arguments = ["invite", "--uses", &uses, "--for", "12h", "--out", &text(&out)?];
        self.governor("ann").borgios(&arguments)?;
        Ok(out)
    }

    /// The bundle of release/1.
    #[must_use]
    pub fn bundle(&self) -> PathBuf {
        self.file("bundle.tar")
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

    /// Lets somebody take part under their name from now on: who is new, or a governor on another
    /// laptop.
    pub fn seat(&mut self, governor: Governor<'a>) {
        self.governors.retain(|other| other.name() != governor.name());
        self.governors.push(governor);
    }

    /// The governor of that name, which must be one of them.
    #[must_use]
    pub fn governor(&self, name: &str) -> &Governor<'a> {
        let found = self.governors.iter().find(|governor| governor.name() == name);
        found.unwrap_or_else(|| panic!("{name} is no governor"))
    }

    /// A path in the laptop's folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Waits until all servers of the lab stand in one tree: each has a place, all name the same
    /// root, and the root counts all of them.
    ///
    /// # Errors
    /// Not within [`TREE_BOUND`].
    pub fn wait_tree(&self) -> Result<()> {
        let servers: Vec<Server<'_>> = self.lab.servers().collect();
        wait::until("one tree of all servers", TREE_BOUND, || {
            let mut roots = std::collections::BTreeSet::new();
            for server in &servers {
                let tree = server.status()?["tree"].clone();
                let children = tree["children"].as_array().map_or(0, Vec::len);
                let placed = tree["state"] == "attached" && tree["size"] == servers.len();
                ensure!(placed && children <= FANOUT, "{}: {tree}", server.host());
                roots.insert(tree["root"].to_string());
            }
            ensure!(roots.len() == 1, "{} roots", roots.len());
            Ok(Some(()))
        })
    }

    /// Waits until every server has installed a release.
    ///
    /// # Errors
    /// One has not within its bound.
    pub fn wait_installed(&self, release: u64) -> Result<()> {
        self.lab.servers().try_for_each(|server| server.wait_installed(release).map(drop))
    }
}

/// Where a story's laptop keeps its things: beside the programs of this build.
fn home(story: &str) -> PathBuf {
    let me = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("."));
    let target = me.parent().and_then(Path::parent).map_or_else(root, Path::to_path_buf);
    target.join("fleet").join(story)
}

fn empty(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot empty {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().context("a path that is not UTF-8")?.to_owned())
}
