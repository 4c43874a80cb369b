//! A governor's laptop: the `borgios` command line with a folder of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use borgios_types::SecretKey;
use serde_json::Value;

use crate::command::{self, COMMAND_BOUND, Output};
use crate::lab::Lab;
use crate::programs::Programs;

/// What every governor of a test unlocks their keys with, and their backups.
pub const PASSPHRASE: &str = "correct horse battery staple\n";

/// A person with a name, a folder and the `borgios` command line, on the owner's laptop.
#[derive(Debug)]
pub struct Governor<'a> {
    lab: &'a Lab,
    program: PathBuf,
    name: String,
    home: PathBuf,
}

impl<'a> Governor<'a> {
    /// A governor whose folder is `NAME` in `folder`, made if need be.
    ///
    /// # Errors
    /// The programs do not build, or the folder cannot be made.
    pub fn new(lab: &'a Lab, folder: &Path, name: &str) -> Result<Self> {
        let home = folder.join(name);
        std::fs::create_dir_all(&home)
            .with_context(|| format!("cannot make {}", home.display()))?;
        let program = Programs::build()?.path("borgios")?;
        Ok(Self { lab, program, name: name.to_owned(), home })
    }

    /// The governor's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The governor's folder, `BORGIOS_HOME`.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Runs `borgios ARGUMENTS`, which must succeed.
    ///
    /// # Errors
    /// It ended with another code than 0, or not at all.
    pub fn borgios(&self, arguments: &[&str]) -> Result<Output> {
        self.try_borgios(arguments)?.ok()
    }

    /// Runs `borgios ARGUMENTS`, which may be refused.
    ///
    /// # Errors
    /// It did not end in time.
    pub fn try_borgios(&self, arguments: &[&str]) -> Result<Output> {
        self.try_borgios_with(arguments, PASSPHRASE)
    }

    /// As [`Governor::try_borgios`], with other lines on standard input: a backup asks for two
    /// passphrases.
    ///
    /// # Errors
    /// It did not end in time.
    pub fn try_borgios_with(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let mut command = self.command();
        command.args(arguments);
        command::run(command, input.as_bytes(), COMMAND_BOUND)
    }

    /// Runs `borgios ARGUMENTS --json` and reads what it prints.
    ///
    /// # Errors
    /// It failed, or printed no JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        self.borgios(&arguments)?.json()
    }

    /// Waits until `borgios ARGUMENTS --json` prints something that `wanted` accepts.
    ///
    /// # Errors
    /// Not within `bound`.
    pub fn wait_json(
        &self,
        what: &str,
        bound: Duration,
        arguments: &[&str],
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        crate::wait::until(what, bound, || Ok(Some(self.json(arguments)?).filter(&wanted)))
    }

    /// The governor's SSH key, opened with the passphrase, as a person could who wants to talk to a
    /// node with nothing but stock `ssh`.
    ///
    /// # Errors
    /// The identity cannot be read or opened.
    pub fn key(&self) -> Result<SecretKey> {
        #[derive(serde::Deserialize)]
        struct Stored {
            seed: [u8; 32],
        }
        let path = self.home.join("governor/identity.age");
        let cipher =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let passphrase = age::secrecy::SecretString::from(PASSPHRASE.trim_end());
        let plain = age::decrypt(&age::scrypt::Identity::new(passphrase), &cipher)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let stored: Stored = serde_json::from_slice(&plain)?;
        Ok(SecretKey::from_seed(stored.seed))
    }

    /// The bare command, passphrase on standard input, for tests that end it in the middle.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = self.lab.laptop(&self.program);
        command.env("BORGIOS_HOME", &self.home).env("NO_COLOR", "1");
        command.arg("--home").arg(&self.home).args(["--passphrase-fd", "0"]);
        command
    }
}
