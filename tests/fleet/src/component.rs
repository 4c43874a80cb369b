//! Folders that become components: the agent and the keeper as they are shipped, and small services
//! that a test can make well, sick or slow.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::command::{self, COMMAND_BOUND};
use crate::lab::root;
use crate::programs::Programs;

/// A service of the tests: one unit that starts, and a health command that says how it is.
#[derive(Clone, Copy, Debug)]
pub struct Service<'a> {
    /// Name of the component and of its unit.
    pub name: &'a str,
    /// Its version; another one makes another digest.
    pub version: &'a str,
    /// Seconds its unit takes to start: so long the install stands at `switched`.
    pub starts_s: u32,
    /// Seconds it must be well: so long the install stands at `probation`.
    pub stable_s: u32,
    /// Whether its health command passes.
    pub well: bool,
}

impl<'a> Service<'a> {
    /// One that starts at once and is well.
    #[must_use]
    pub fn new(name: &'a str, version: &'a str) -> Self {
        Self { name, version, starts_s: 0, stable_s: 1, well: true }
    }

    /// Writes its folder to `folder`.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn lay(&self, folder: &Path) -> Result<()> {
        let Self { name, version, starts_s, stable_s, well } = self;
        fs::create_dir_all(folder.join("files"))?;
        fs::create_dir_all(folder.join("units"))?;
        let health = if *well { "/bin/true" } else { "/bin/false" };
        let info = json!({
            "name": name, "version": version, "arch": "any",
            "health": {"command": [health], "deadline_s": stable_s + 3, "stable_s": stable_s},
            "restart": [format!("{name}.service")],
        });
        fs::write(folder.join("component.json"), info.to_string())?;
        fs::write(folder.join("files/version"), format!("{version}\n"))?;
        let unit = format!(
            "[Unit]\nDescription={name}, a service of the tests\n\n[Service]\nType=oneshot\n\
             RemainAfterExit=yes\nExecStart=/bin/sleep {starts_s}\nDynamicUser=yes\n\n\
             [Install]\nWantedBy=multi-user.target\n"
        );
        fs::write(folder.join(format!("units/{name}.service")), unit)?;
        Ok(())
    }
}

/// The folders and programs of release/1.
#[derive(Clone, Debug)]
pub struct Shipped {
    /// Folder of the component `agent`.
    pub agent: PathBuf,
    /// Folder of the component `borgios-keeper`.
    pub keeper: PathBuf,
    /// The keeper executable, which installs a fresh server.
    pub installer: PathBuf,
}

impl Shipped {
    /// Lays both folders below `folder`, with the programs of this build, stripped: what debuggers
    /// need is most of their size.
    ///
    /// # Errors
    /// The programs do not build, or the disk fails.
    pub fn lay(folder: &Path) -> Result<Self> {
        let programs = Programs::build()?;
        let (agent, keeper) = (folder.join("agent"), folder.join("keeper"));
        for (name, part) in [("component-agent", &agent), ("component-keeper", &keeper)] {
            copy(&root().join("agent").join(name), part)?;
            fs::create_dir_all(part.join("files/bin"))?;
        }
        copy(&root().join("agent/units"), &agent.join("units"))?;
        let installer = keeper.join("files/bin/borgios-keeper");
        strip(&programs.path("borgiosd")?, &agent.join("files/bin/borgiosd"))?;
        strip(&programs.path("borgios")?, &agent.join("files/bin/borgios"))?;
        strip(&programs.path("borgios-keeper")?, &installer)?;
        Ok(Self { agent, keeper, installer })
    }
}

/// Copies a folder with all that is in it; the copy's folder may be there already.
///
/// # Errors
/// Whatever `cp` says.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let mut cp = Command::new("cp");
    cp.arg("-a").arg("--").arg(from.join(".")).arg(to);
    command::run(cp, b"", COMMAND_BOUND)?.ok().map(drop)
}

fn strip(from: &Path, to: &Path) -> Result<()> {
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(to).arg(from);
    command::run(strip, b"", COMMAND_BOUND)?.ok().map(drop)
}
