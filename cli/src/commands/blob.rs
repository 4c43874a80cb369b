//! `borgios blob put`: gives a node a component to hand on, in pieces over its own connection.

use std::path::PathBuf;

use borgios_types::Digest;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::blobs::{self, size_text};
use crate::context::Context;
use crate::failure::Failure;
use crate::transport::upload;

/// Give a node a component to hand on
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send files to a node, by content
    Put(Put),
}

/// Send files to a node, by content
#[derive(Debug, Args)]
pub(crate) struct Put {
    /// The components, or the installer
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl Command {
    /// Does it.
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Put(put) => put.run(context),
        }
    }
}

impl Put {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let mut door = context.door()?;
        let mut answer = Vec::new();
        let mut text = String::new();
        for path in &self.files {
            let bytes = blobs::read(path)?;
            let digest = Digest::of(&bytes);
            upload::send(door.as_mut(), digest, &bytes)
                .map_err(|failure| failure.within(format!("could not send {}", path.display())))?;
            answer.push(json!({"file": path, "digest": digest, "size": bytes.len()}));
            let size = size_text(bytes.len() as u64);
            text.push_str(&format!("{} {size} at {}\n", digest.hex(), door.name()));
        }
        context.printer.answer(&answer, &text)
    }
}
