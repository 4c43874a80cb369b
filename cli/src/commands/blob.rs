//! `borgios blob put`: gives a node a component to hand on, in pieces over its own connection.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use borgios_types::Digest;
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blobs::{self, size_text};
use crate::context::Context;
use crate::failure::{Failure, OrFail as _};
use crate::transport::api::Door;

/// Bytes in one piece: base64 makes a third more of it, and a line holds at most 1 MiB.
const PIECE: usize = 256 * 1024;

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
            send(door.as_mut(), digest, &bytes)
                .map_err(|failure| failure.within(format!("could not send {}", path.display())))?;
            answer.push(json!({"file": path, "digest": digest, "size": bytes.len()}));
            let size = size_text(bytes.len() as u64);
            text.push_str(&format!("{} {size} at {}\n", digest.hex(), door.name()));
        }
        context.printer.answer(&answer, &text)
    }
}

/// Where an upload stands.
#[derive(Deserialize)]
struct Progress {
    /// Bytes the node has; all of them when it is whole.
    have: u64,
    #[serde(default)]
    whole: bool,
}

/// Sends a blob from where the node wants it; one that it has is not sent.
fn send(door: &mut dyn Door, digest: Digest, bytes: &[u8]) -> Result<(), Failure> {
    let mut offset = 0;
    // Each piece moves forward, but for one jump to where an earlier upload was cut off.
    let mut backwards = 1;
    loop {
        let piece = &bytes[offset..bytes.len().min(offset + PIECE)];
        let request: Value = json!({
            "put": "blob", "digest": digest, "size": bytes.len(), "offset": offset,
            "bytes": BASE64.encode(piece),
        });
        let progress = door.ask(&request)?;
        let progress: Progress = serde_json::from_value(progress)
            .or_fail(|| format!("{} did not say how far it is", door.name()))?;
        if progress.whole {
            return Ok(());
        }
        let next = usize::try_from(progress.have).unwrap_or(usize::MAX);
        if next > bytes.len() || (next <= offset && backwards == 0) {
            return Err(Failure::new(format!("{} asks for byte {next} again", door.name())));
        }
        if next <= offset {
            backwards -= 1;
        }
        offset = next;
    }
}
