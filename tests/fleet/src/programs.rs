//! The programs under test, built once per run, or those of a folder that is named.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::command;
use crate::lab::root;

/// Longest a build from nothing may take on a small machine.
const BUILD_BOUND: Duration = Duration::from_secs(3000);

/// Environment variable that names a folder of programs to test as they are, instead of building:
/// on a machine without a toolchain, or while the source is being worked on.
const GIVEN: &str = "BORGIOS_PROGRAMS";

/// Where the workspace's programs lie, freshly built.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Builds all programs of the workspace, in the profile of the tests; the first call does the
    /// work, all later ones return what it found.
    ///
    /// # Errors
    /// The workspace does not build.
    pub fn build() -> Result<Self> {
        static BUILT: OnceLock<Result<Programs, String>> = OnceLock::new();
        BUILT
            .get_or_init(|| build().map_err(|error| format!("{error:#}")))
            .clone()
            .map_err(anyhow::Error::msg)
    }

    /// A program's file.
    ///
    /// # Errors
    /// The workspace has no program of that name.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        if path.is_file() {
            return Ok(path);
        }
        bail!("the workspace has no program {name}: there is no {}", path.display())
    }
}

fn build() -> Result<Programs> {
    if let Some(folder) = std::env::var_os(GIVEN) {
        return Ok(Programs { folder: folder.into() });
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(&cargo);
    build.args(["build", "--workspace", "--bins", "--locked", "--quiet"]).current_dir(root());
    command::run(build, b"", BUILD_BOUND)?.ok()?;
    // The runner itself is one of them, so they lie beside it.
    let me = std::env::current_exe().context("cannot find this program's own file")?;
    let folder = me.parent().context("a program without a folder")?.to_path_buf();
    Ok(Programs { folder })
}
